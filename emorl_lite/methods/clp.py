"""Conditional language policies: parameters that are a mixture of experts' parameters, all trained together (CLP, arXiv 2407.15762)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emorl_lite.ensemble.corners import MOST, Corners, Source, expert_corners
from emorl_lite.lm.model import LanguageModel
from emorl_lite.lm.swapping import swapped_forward
from emorl_lite.methods.conditioning import Conditioning, Gate, GatedLoRA
from emorl_lite.methods.steerable import Steerable


class MixedExperts(GatedLoRA):
    """W(w) = W0 + s B_0 A_0 + s sum_i w_i B_i A_i: gates 1 on the shared block's r ranks, w_i on those of expert i."""

    def __init__(self, lm: LanguageModel, adapter: str, d: int, chosen: Callable[[str], bool] = lambda name: True):
        self.r = lm.config.lora_r
        super().__init__(lm, adapter, d, self.r * (1 + d), chosen)

    def gate(self, layer: int) -> Gate:
        """1 for the shared block, then each weight r times."""
        return lambda w: torch.cat([w.new_ones(len(w), self.r), w.repeat_interleave(self.r, 1)], 1)


class MixedHead(Conditioning):
    """A plain shared adapter on all layers, and experts on the LM head alone: logits = head(h) + s sum_i w_i B_i A_i h."""

    same_for_all_rows = False
    kept = 1.0
    """Share of the experts' change that is kept."""

    def extra(self) -> nn.Module:
        """A of all experts one below the other [d r, width], B side by side [V, d r], 0 at first."""
        r, weight = self.lm.config.lora_r, cast(Tensor, self.lm.head.weight)
        words, width = weight.shape
        A = torch.empty(self.d * r, width)
        for start in range(0, len(A), r):
            nn.init.kaiming_uniform_(A[start : start + r], a=5**0.5)  # as peft does for each adapter
        experts = nn.Module()
        experts.A, experts.B = nn.Parameter(A), nn.Parameter(torch.zeros(words, self.d * r))
        return experts

    def attach(self, extra: nn.Module) -> None:
        """Use these experts."""
        self.experts = extra

    def each(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """The logits [n, d, V] of each expert alone, from what enters the head [n, width] and the plain head's logits [n, V].

        Those at weights that sum to one are the same mixture of these.
        """
        A, B, config = self.experts.A, self.experts.B, self.lm.config
        low = linear(hidden.to(A.dtype), A).unflatten(-1, (self.d, -1))  # type: ignore[arg-type]
        by_expert = B.unflatten(-1, (self.d, -1))  # type: ignore[operator]  # [V, d, r]
        changes = torch.einsum("ndr,vdr->ndv", low, by_expert) * (config.lora_alpha / config.lora_r)
        return logits[:, None] + changes.to(logits.dtype)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the head adds the mixed experts."""
        head, config = self.lm.head.forward, self.lm.config

        def forward(hidden: Tensor) -> Tensor:
            logits: Tensor = head(hidden)
            if self.resting():
                return logits
            A, B = self.experts.A, self.experts.B
            gates = self.current(len(hidden)).repeat_interleave(config.lora_r, 1)[:, None]
            low = linear(hidden.to(A.dtype), A) * gates  # type: ignore[arg-type]
            scale = self.kept * config.lora_alpha / config.lora_r
            return logits + (linear(low, B) * scale).to(logits.dtype)  # type: ignore[arg-type]

        with swapped_forward(self.lm.head, forward):
            yield


class FullCLP(Steerable):
    """max E_{w ~ Dirichlet(1)} E[sum_i w_i r_i - beta(w) KL(pi_w || base)], theta(w) = theta_0 + sum_i w_i theta_i on every layer.

    Differs from the paper: LoRA experts (rank r each, and a shared one) instead of copies of the layers; PPO; and instead of
    (1 - alpha) R - alpha KL the KL weight is the w-mean of the single objectives' own (`clp-kl` varies it).
    """

    name = "clp-full"
    reference = "arXiv 2407.15762"
    trains = "a shared adapter and one expert per objective, on every layer"
    decodes = "one adapter, mixed anew for every weight vector"

    def make_conditioning(self) -> Conditioning:
        """Experts on every layer."""
        return MixedExperts(self.bench.lm, self.name, len(self.bench.names))


class AttentionCLP(FullCLP):
    """Experts on the attention layers alone; the others have the shared adapter."""

    name = "clp-attention"
    trains = "a shared adapter everywhere, one expert per objective on attention"

    def make_conditioning(self) -> Conditioning:
        """Experts on attention."""
        return MixedExperts(self.bench.lm, self.name, len(self.bench.names), is_attention)


class LogitCLP(FullCLP):
    """Experts on the output layer alone; every other layer has the shared adapter.

    What enters the head does not depend on the weights, so one model call a prefix tells every word's score at every weight vector.
    """

    name = "clp-logit"
    trains = "a shared adapter everywhere, one expert per objective on the LM head"
    conditioning: MixedHead
    most = MOST

    def make_conditioning(self) -> MixedHead:
        """Experts on the head."""
        return MixedHead(self.bench.lm, self.name, len(self.bench.names))

    @contextmanager
    def shrunk(self, scale: float) -> Iterator[None]:
        """The shared adapter and the experts."""
        self.conditioning.kept = scale
        try:
            with super().shrunk(scale):
                yield
        finally:
            self.conditioning.kept = 1.0

    def corners(self) -> Corners:
        """The experts on the simplex."""
        names = self.bench.names
        return expert_corners(Source(self.bench.lm, self.name, experts=self.conditioning.each, outputs=len(names)), names)


def is_attention(name: str) -> bool:
    """Whether a layer belongs to an attention block, by its name in Llama, GPT-2, T5 and their like."""
    return re.search(r"\.\w*attn\.|\.\w*attention\.", "." + name.lower()) is not None
