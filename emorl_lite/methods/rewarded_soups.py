"""Rewarded Soups: average the parameters of policies trained on one reward each (arXiv 2306.04488)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Knob, OfObjectives, Setting, active


class RewardedSoups(OfObjectives):
    """theta(w) = sum_i w_i theta_i, sum_i w_i = 1, over all trained parameters (equation 1).

    With LoRA the trained parameters are A and B, so the change of a matrix is s (sum_i w_i B_i)(sum_j w_j A_j), with cross terms B_i A_j.
    Differs from the paper: it starts all runs from one supervised model and varies nothing but the reward, as here; it merges whole
    models in some experiments, which `exact-average` is.
    """

    name = "rewarded-soups"
    family = "merging"
    knob: Knob = "weights"
    reference = "arXiv 2306.04488"
    trains = "one adapter per objective, each on its own reward"
    decodes = "one adapter, merged anew for every weight vector"
    how: Literal["exact", "soup"] = "soup"

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[LanguageModel]:
        """The averaged adapter, uniform by default."""
        weights = setting or self.bench.uniform
        shares = [w / sum(weights) for w in weights]
        average_parameters(self.bench.lm, self.adapters, shares, name=self.name, how=self.how)
        with active(self.bench.lm, self.name) as lm:
            yield lm


class ExactAverage(RewardedSoups):
    """W(w) = W0 + sum_i w_i s_i B_i A_i: the merged models averaged, EMORL's "parameters" mode (arXiv 2505.02579). Rank r_1 + .. + r_d."""

    name = "exact-average"
    reference = "arXiv 2505.02579 (its second aggregation)"
    how = "exact"
