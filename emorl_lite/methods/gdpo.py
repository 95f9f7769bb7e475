"""GDPO: GRPO with each reward normalised on its own before they are added (arXiv 2601.05242)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.bench import Bench
from emorl_lite.methods.grpo import GRPO

EPSILON = 1e-4
"""TRL adds it to every standard deviation."""
KL_TIMES = 5.0
"""The KL weight, in KL weights of the other methods."""


def gdpo_advantages(scores: Tensor, k: int) -> Tensor:
    """Advantages [N] of N replies, k to each prompt in turn, from their scores [N, d] in d objectives.

    Each objective's score less its group's mean, divided by the group's standard deviation; their mean over the objectives; less its mean
    over the batch, divided by the batch's standard deviation. Deviations are by n - 1, plus 1e-4, as TRL 1.16 has it with reward weights
    1/d. Raises UserError unless the N replies are groups of k, k at least 2.
    """
    if scores.dim() != 2 or k < 2 or not len(scores) or len(scores) % k:
        raise UserError(f"scores of shape {tuple(scores.shape)}: expected one row a reply and groups of {k} rows, at least 2")
    groups = scores.view(-1, k, scores.shape[1])
    each = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + EPSILON)
    total = each.mean(-1).flatten()
    return (total - total.mean()) / (total.std() + EPSILON)


class GDPO(GRPO):
    """GRPO whose advantages are `gdpo_advantages`: an objective that varies little within a group is heard as loudly as any other.

    Trained by TRL's `multi_objective_aggregation="normalize_then_sum"`. Its advantages have standard deviation 1 in every batch, those of
    `grpo` that of the scores themselves, so that the same KL weight would bind much less. It is multiplied by KL_TIMES: of 3, 5 and 10 the
    factor whose runs end nearest to the distance from the base at which GRPO's end (KL of sampled replies on validation prompts, mean over
    the seeds, by ratio; two seeds of *tiny* that no study has: `scripts/tune_gdpo.py`, table `data/results/gdpo_beta.csv`). No score plays
    a part. On another model it may end elsewhere: look at its KL.
    """

    name = "gdpo"
    reference = "arXiv 2601.05242, TRL"
    trains = "one adapter on rewards normalised one by one, groups of 4 replies"

    def __init__(self, bench: Bench, kl_times: float = KL_TIMES):
        super().__init__(bench)
        self.kl_times = self.option("kl_times", kl_times, float, Within(0, 10**6, above=True))

    def marks(self) -> dict[str, Any]:
        """Those of GRPO, and the factor."""
        return super().marks() | {"kl_times": self.kl_times}

    def aggregation(self) -> dict[str, Any]:
        """Each reward on its own first."""
        beta = self.kl_times * self.bench.kl_coef(self.bench.uniform)
        return {"multi_objective_aggregation": "normalize_then_sum", "beta": beta}

    @classmethod
    def check_possible(cls, lm: LanguageModel) -> None:
        """As GRPO; and raise UserError for a TRL that does not have it yet."""
        super().check_possible(lm)
        from trl import GRPOConfig

        if "multi_objective_aggregation" not in {field.name for field in fields(GRPOConfig)}:
            raise UserError(f"method {cls.name}: this TRL has no multi_objective_aggregation: pip install -U trl")
