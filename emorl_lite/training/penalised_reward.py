"""What a policy is trained for: a reward, less a penalty on its distance from the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from emorl_lite.base.types import Reward
from emorl_lite.training.rollout import score

LOG_CLIP = (1e-4, 0.9999)
"""Scores are cut to this range before their logarithm is taken (the paper's code), so that none is minus infinity."""


def logarithm(scores: Tensor) -> Tensor:
    """log(clip(score, .0001, .9999)) of scores in [0, 1], any shape: how rewards enter the EMORL paper's training, by its code."""
    return scores.clamp(*LOG_CLIP).log()


class PenalisedReward:
    """E[r(x, y) - beta KL(pi || base)], with a reward r and a KL weight beta that stay the same.

    Other kinds change r or beta from reply to reply, or while the policy trains (methods/). A trainer calls `start` once, `scores` for
    every rollout and then `kl_coef`, `validate` when it is time, and `adapt` at the end of every step, the first and the last with the
    trainer's own randomness.
    """

    columns: Sequence[str] = ()
    """Further columns of the log."""

    def __init__(self, reward: Reward, kl_coef: float):
        self.plain, self._kl_coef = reward, kl_coef

    def start(self) -> None:
        """Called before the first step."""

    def scores(self, prompts: list[str], replies: list[str]) -> Tensor:
        """The reward [N] of a rollout's replies. Raises UserError unless there is one finite number a reply."""
        return score(self.plain, prompts, replies)

    def logarithms(self, prompts: list[str], replies: list[str], scores: Tensor) -> Tensor:
        """What is trained on instead of the `scores` [N] of these replies when rewards enter as logarithms: theirs; of a reward that is a
        sum of several, and has a method `logarithms`, the sum of those."""
        own = getattr(self.plain, "logarithms", None)
        return logarithm(scores) if own is None else own(prompts, replies)

    def kl_coef(self) -> float | Tensor:
        """Weight of the KL penalty: one for all replies of the last rollout, or one a reply [N, 1]."""
        return self._kl_coef

    def validate(self, prompts: list[str], replies: list[str]) -> float:
        """Mean reward of greedy replies to the validation prompts."""
        return float(score(self.plain, prompts, replies).mean())

    def adapt(self) -> None:
        """Called at the end of every step."""

    def row(self) -> dict[str, float]:
        """The values of `columns` in the step that was just done."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
