"""CLP over KL weights: one policy whose knob is how far it may go from the base model (arXiv 2407.15762, its first setting)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.methods.base import Knob, Setting
from emorl_lite.methods.clp import MixedExperts
from emorl_lite.methods.conditioning import Conditioning
from emorl_lite.methods.steerable import Steerable

WEAKEST, STRONGEST = 0.01, 1.0
"""Range of KL weights."""


class CLPOverKL(Steerable):
    """max E_beta E[sum_i r_i / d - beta KL], theta(t) = theta_0 + (1 - t) theta_1 + t theta_2, t in [0, 1] with log beta linear in t.

    The setting is the KL weight beta, from .01 to 1. Differs from the paper: it writes (1 - alpha) R - alpha KL, the same trade-off up to
    scale with beta = alpha / (1 - alpha), and mixes with alpha itself; small ones matter here, hence the logarithm.
    """

    name = "clp-kl"
    knob: Knob = "strength"
    reference = "arXiv 2407.15762"
    trains = "a shared adapter and two experts, on every layer"
    decodes = "one adapter, mixed anew for every KL weight"

    def make_conditioning(self) -> Conditioning:
        """Two experts: far from the base, near to it."""
        return MixedExperts(self.bench.lm, self.name, 2)

    def draw(self, n: int) -> Tensor:
        """(1 - t, t), t uniform."""
        t = torch.rand(n)
        return torch.stack([1 - t, t], 1)

    def utility(self, scores: Tensor, weights: Tensor, best: float = 1.0) -> Tensor:
        """The mean over the objectives, whatever the KL weight."""
        return scores.mean(1)

    def kl_weights(self, weights: Tensor) -> Tensor:
        """beta(t)."""
        return torch.exp(math.log(WEAKEST) + weights[:, 1] * math.log(STRONGEST / WEAKEST))

    def condition(self, setting: Setting) -> Tensor:
        """A KL weight as (1 - t, t); by default the one in the range that is nearest to the uniform policy's."""
        beta = setting[0] if setting else min(max(self.bench.kl_coef(self.bench.uniform), WEAKEST), STRONGEST)
        t = math.log(beta / WEAKEST) / math.log(STRONGEST / WEAKEST)
        return torch.tensor([[1 - t, t]])

    def settings(self, steps: int) -> list[tuple[float, ...]]:
        """Nine KL weights, evenly spread in the logarithm."""
        return [(WEAKEST * (STRONGEST / WEAKEST) ** (i / 8),) for i in range(9)]

    def check(self, setting: Setting) -> None:
        """Raise UserError unless the setting is one KL weight in the range."""
        values = list(setting or ())
        if len(values) != 1 or not WEAKEST <= values[0] <= STRONGEST:
            raise UserError(f"method {self.name}: expected one KL weight from {WEAKEST} to {STRONGEST}, got {values}")
