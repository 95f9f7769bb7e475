"""Panacea: the weights become singular values of a low-rank change (arXiv 2402.02030)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.conditioning import Conditioning, Gate, GatedLoRA
from emorl_lite.methods.steerable import Steerable


class PreferenceInDiagonal(GatedLoRA):
    """W(w) = W0 + scale B diag(sigma_1, .., sigma_r, s w_1, .., s w_d) A: gates (sigma, s w), sigma and s learnt for every layer."""

    def __init__(self, lm: LanguageModel, adapter: str, d: int):
        self.r = lm.config.lora_r
        super().__init__(lm, adapter, d, self.r + d)

    def extra(self) -> nn.Module:
        """sigma [layers, r] and s [layers], all 1 at first."""
        diagonal, count = nn.Module(), len(self.layers())
        diagonal.sigma = nn.Parameter(torch.ones(count, self.r))
        diagonal.s = nn.Parameter(torch.ones(count))
        return diagonal

    def attach(self, extra: nn.Module) -> None:
        """Use this diagonal."""
        self.diagonal = extra

    def gate(self, layer: int) -> Gate:
        """(sigma, s w) of one layer; w itself is given, not learnt."""

        def diagonal(w: Tensor) -> Tensor:
            sigma, s = self.diagonal.sigma[layer], self.diagonal.s[layer]  # type: ignore[index]
            return torch.cat([sigma.expand(len(w), -1), s * w], 1)

        return diagonal


class Panacea(Steerable):
    """One policy whose low-rank change has the weights on its diagonal; max E_w E[sum_i w_i r_i - beta(w) KL] (linear scalarisation).

    Differs from the paper: A and B start as LoRA's (B = 0) and are not kept orthogonal; RLHF with PPO throughout; weights drawn for every
    prompt instead of every batch.
    """

    name = "panacea"
    reference = "arXiv 2402.02030"
    trains = "one adapter with d further ranks and its diagonal"
    decodes = "one adapter, weights on its diagonal"

    def make_conditioning(self) -> Conditioning:
        """Weights on the diagonal."""
        return PreferenceInDiagonal(self.bench.lm, self.name, len(self.bench.names))


class PanaceaTchebycheff(Panacea):
    """The same with Tchebycheff's scalarisation: max over policies of min_i w_i (r_i - z_i), z_i = 1 the best a reward can be.

    Reaches also the concave parts of a front, which no linear scalarisation does. Taken reply by reply (the paper: of mean losses), and
    divided by the largest w_i, so that the KL weight means about the same at every w.
    """

    name = "panacea-tchebycheff"

    def utility(self, scores: Tensor, weights: Tensor, best: float = 1.0) -> Tensor:
        """-max_i w_i (best - r_i) / max_i w_i."""
        return -(weights * (best - scores)).amax(1) / weights.amax(1)
