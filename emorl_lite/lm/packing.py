"""Texts of different length read without their padding: all tokens one after the other in a single row.

The model's products then run over real tokens alone. Only attention, whose share is small in short texts, takes the texts apart again, so
that none sees another. A model that does not look back in the plain way (a window, a bias for distance) is not read like this.
Shapes: B texts, L tokens of the longest, N tokens of all of them, H heads, D width of a head, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from emorl_lite.lm.swapping import TokenWise

KINDS = {"llama": "model.layers", "gpt2": "transformer.h"}
"""Models that are read so, and where their layers are: these look back on all of a text, by transformers' own attention functions."""
NAME = "emorl_lite_packed"
"""What the attention function below is called by while a packed row is read."""


LONG = 32
"""Tokens of a text, on average, from which each attends on its own: of shorter ones many at a time are faster, padded."""


class Packing:
    """Where the tokens of B texts stand, by their mask [B, L'] with 1 at a token: one after the other, or each text in a row of its own."""

    def __init__(self, mask: Tensor):
        self.mask = mask.bool()
        places = mask.long().cumsum(1) - 1
        self.B, self.L = len(mask), int(places.max()) + 1
        self.positions = places[self.mask]
        """Of each token in its own text, [N]."""
        starts = torch.arange(self.B, device=mask.device)[:, None] * self.L
        self.slots = (starts + places)[self.mask]
        """Of each token in rows of L, [N]."""
        self.lengths = self.mask.sum(1).tolist()
        self.long = sum(self.lengths) >= LONG * self.B

    def pack(self, x: Tensor) -> Tensor:
        """What stands at the tokens of x [B, L'], as one row [1, N]."""
        return x[self.mask][None]

    def apart(self, heads: Tensor) -> Tensor:
        """[1, H, N, D] -> [B, H, L, D], each text from the left, zeros behind it."""
        _, H, N, D = heads.shape
        rows: Tensor = _Spread.apply(heads[0].transpose(0, 1).reshape(N, H * D), self.slots, self.B * self.L)
        return rows.view(self.B, self.L, H, D).transpose(1, 2)

    def together(self, rows: Tensor) -> Tensor:
        """[B, L, H, D] -> [1, N, H, D]."""
        *_, H, D = rows.shape
        packed: Tensor = _Gather.apply(rows.reshape(self.B * self.L, H * D), self.slots)
        return packed.view(1, -1, H, D)

    def ends(self) -> Tensor:
        """Places of the texts' last tokens in the packed row, [B]."""
        return self.mask.sum(1).cumsum(0) - 1

    def unpack(self, cache: DynamicCache) -> None:
        """A cache that read one packed row, as if it had read the texts in rows as they stand in the mask."""
        places, size = self.mask.flatten().nonzero().squeeze(-1), self.mask.numel()
        for layer in cache.layers:
            layer.keys, layer.values = (self._in_rows(x, places, size) for x in (layer.keys, layer.values))

    def _in_rows(self, heads: Any, places: Tensor, size: int) -> Tensor:
        """[1, H, N, D] -> [B, H, L', D]; zeros where a text is padded."""
        _, H, N, D = heads.shape
        rows: Tensor = _Spread.apply(heads[0].transpose(0, 1).reshape(N, H * D), places, size)
        return rows.view(len(self.mask), -1, H, D).transpose(1, 2).contiguous()


class _Spread(torch.autograd.Function):
    """Rows [N, d] put into their slots of [size, d]. By hand: autograd would add up gradients row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(size, rows.shape[1]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


class _Gather(torch.autograd.Function):
    """The other way: rows [N, d] taken from their slots of [size, d]."""

    @staticmethod
    def forward(ctx: Any, spread: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.size = len(spread)
        return spread.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slots,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.size, grads[0].shape[1]).index_copy_(0, slots, grads[0]), None


_READING: ContextVar[Packing | None] = ContextVar("reading", default=None)
"""How the row that is being read is packed; each thread has its own."""


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> tuple[Tensor, None]:
    """Each text looks back on itself: no mask is needed, since what pads it stands behind it."""
    packing = _READING.get()
    if packing is None:
        raise RuntimeError("a model is read while another thread reads packed texts with it: one thread at a time")
    # elsewhere PyTorch's own is as fast, and rounds as it does wherever else a model is read
    by_hand = query.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not options.get("dropout")
    if by_hand and packing.long:
        texts = zip(*(x.split(packing.lengths, 2) for x in (query, key, value)), strict=True)
        return torch.cat([_LookBack.apply(*text, options["scaling"]) for text in texts], 2).transpose(1, 2), None
    query, key, value = (packing.apart(x) for x in (query, key, value))
    if by_hand:
        out = _LookBack.apply(query, key, value, options["scaling"]).transpose(1, 2)
    else:
        out = sdpa_attention_forward(module, query, key, value, None, **options | {"is_causal": True})[0]
    return packing.together(out), None


@lru_cache(64)
def _behind(L: int, n: int) -> Tensor:
    """What is added to scores [n L, L] of n heads: nothing at what stands before a token or is it, minus infinity at what is behind it."""
    return torch.full((L, L), -torch.inf).triu(1).repeat(n, 1)


def finely(x: Tensor) -> Tensor:
    """In float32, or finer."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _LookBack(torch.autograd.Function):
    """softmax(scale Q K^T) V, no token seeing what is behind it: queries [B, H, L, D], keys and values [B, G, L, D] -> [B, H, L, D].

    By hand: on a CPU, under autocast, PyTorch's own takes several times as long for the gradients. The H / G heads that share keys stand
    one below the other, as queries of one head. Scores are float32; the other products are made in the values' type.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        (B, H, L, D), G = query.shape, key.shape[1]
        q, k, v = query.reshape(B * G, -1, D), key.reshape(B * G, L, D), value.reshape(B * G, L, D)
        fine, behind = finely(q), _behind(L, H // G)
        with torch.autocast("cpu", enabled=False):
            scores = torch.baddbmm(behind.to(fine.dtype), fine, finely(k).mT, alpha=scale)
        p = scores.softmax(-1).to(v.dtype)
        ctx.save_for_backward(q.to(v.dtype), k.to(v.dtype), v, p)
        ctx.scale, ctx.types = scale, (query.dtype, key.dtype)
        return (p @ v).view(B, H, L, D)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, p = ctx.saved_tensors
        B, _, L, D = grads[0].shape
        grad = grads[0].reshape(q.shape)
        of_p = grad @ v.mT
        of_scores = p * (of_p - (of_p * p).sum(-1, keepdim=True)) * ctx.scale
        of_q, of_k, of_v = of_scores @ k, of_scores.mT @ q, p.mT @ grad
        return of_q.view(B, -1, L, D).to(ctx.types[0]), of_k.view(B, -1, L, D).to(ctx.types[1]), of_v.view(B, -1, L, D), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)


def can_pack(base: Any) -> bool:
    """Whether a model of transformers can be read packed as it stands: it is of a known kind, and nobody has taken its place.

    With gradient checkpointing it cannot: layers are read again for the gradients, when nobody says any more how the row is packed.
    """
    of_kind = base.config.model_type in KINDS and base.config._attn_implementation == "sdpa"
    swapped = [vars(part)["forward"] for part in (base, base.get_output_embeddings()) if "forward" in vars(part)]
    if not of_kind or not all(isinstance(forward, TokenWise) for forward in swapped):
        return False
    return not any(getattr(layer, "gradient_checkpointing", False) for layer in base.get_submodule(KINDS[base.config.model_type]))


@contextmanager
def reading(base: Any, packing: Packing) -> Iterator[None]:
    """Inside, the model reads one row of packed texts, given with their positions."""
    before = base.config._attn_implementation
    outer = _READING.set(packing)
    base.config._attn_implementation = NAME
    try:
        yield
    finally:
        base.config._attn_implementation = before
        _READING.reset(outer)
