"""How far rounding moves the lead of one word over another: what another way to compute the same logits may change.

Each of L layers adds to the hidden state what it computed, and rounds: errors that add up like a random walk, with the root of their number
(Higham and Mary 2019, probabilistic rounding error analysis), in proportion to how much the logits of different words differ. At last the
logits themselves are rounded, in proportion to their size. So a lead is uncertain by about

    eps * (c * sqrt(L) * standard deviation of the logits over the words + size of the largest logit).

The constants c were measured against double precision (`benchmarks/precision.py`, which says how many leads are within): kernels for half
precision add products in single precision and round at the end; those for single precision round every sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_lite.lm.model import LanguageModel

HALF, WHOLE = 3.0, 10.0
"""c for number types of two bytes, and for the longer ones."""


@dataclass(frozen=True)
class Rounding:
    """What rounding does to the leads of one model."""

    eps: float
    """Of its number type: the distance from 1 to the next number."""
    walk: float
    """c * sqrt(L)."""

    def of(self, logits: Tensor) -> Tensor:
        """How far it moves leads [R], from logits [R, N, V]: of the adapter where it is most."""
        logits = logits.float() if logits.dtype.itemsize == 2 else logits
        spread = torch.linalg.vector_norm(logits - logits.mean(-1, keepdim=True), dim=-1) / math.sqrt(max(1, logits.shape[-1] - 1))
        return (self.eps * (self.walk * spread + logits.amax(-1).abs())).amax(1).float()


def rounding(lm: LanguageModel, single: bool = False) -> Rounding:
    """That of a model in its number type. `single`: what follows the logits is in single precision at best."""
    dtype, config = lm.base.dtype, lm.base.config.get_text_config(decoder=True)
    decoder = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    layers = decoder + (getattr(config, "num_hidden_layers", 0) if lm.seq2seq else 0)
    eps = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps if single else 0.0)
    return Rounding(eps, (HALF if dtype.itemsize == 2 else WHOLE) * math.sqrt(layers))


@dataclass(frozen=True)
class NearTies:
    """How many decisions for a next word hang on rounding: their two best words are nearer to each other than rounding moves them.

    They may come out otherwise by other kernels, in another batch, or in another number type; all others will not, but for the few whose
    rounding is worse than usual.
    """

    dtype: str = ""
    """The number type whose rounding it is."""
    decisions: int = 0
    """Each a prefix and the weights, or the region of weights, that choose its next word."""
    near: int = 0
    """Those with a lead below rounding."""

    @property
    def share(self) -> float:
        """Share of the decisions; 0 without any."""
        return self.near / max(self.decisions, 1)

    def __str__(self) -> str:
        return f"{shown_share(self.share)} of {self.decisions:,} choices of a word have their two best nearer than {self.dtype}'s rounding"


def shown_share(share: float) -> str:
    """A share in per cent with two digits; none at all is told from hardly any."""
    if 0 < share < 1e-5:
        return "below .001 %"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
