"""How a model makes logits of what enters its head, found out by a probe: what can be mixed before the head, and what cannot.

A linear head may be followed by a scale (Granite, Cohere), a cap (Gemma 2: c tanh(z / c)) or something else (BART's own bias), and have a
bias itself (Phi, GPT-J). Shapes: B rows, T tokens, V words, d width.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import Mix
from emorl_lite.lm.forward import swapped_forward
from emorl_lite.lm.model import LanguageModel

PROBE_TOKENS = 6
"""Tokens of a probe's text."""


@dataclass(frozen=True)
class HeadFacts:
    """What comes between the last hidden state and the logits."""

    after: Literal["nothing", "scale", "cap", "other"]
    """What the model does to the head's output: nothing, a positive factor, a growing function, or something else."""
    scale: float
    """That factor; 1 without one."""
    difference: float
    """Largest difference between the logits and the head's output on the probe."""
    bias: bool
    """Whether the head adds a bias: then weights are divided by their sum, so that it is added once."""


def head_facts(lm: LanguageModel) -> HeadFacts:
    """The facts of a model's head; probed once for each model."""
    if lm.base not in _FACTS:
        _FACTS[lm.base] = _probe(lm)
    return _FACTS[lm.base]


_FACTS: WeakKeyDictionary[Any, HeadFacts] = WeakKeyDictionary()


def check_mixable(lm: LanguageModel, mix: Mix, sampled: bool = False) -> HeadFacts:
    """Raise UserError, naming model, property and number, where this mixture would not be what the model computes.

    hidden: exact whatever grows after the head, since the model does it to the mixture. logits, probabilities, and sampling from a tree
    need the final logits: exact up to a scale.
    """
    path = lm.config.path
    if not lm.seq2seq and "position_ids" not in inspect.signature(type(lm.base).forward).parameters:
        raise UserError(f"{path}: its forward pass takes no position_ids, so that a padded prompt is read at other places than alone")
    facts = head_facts(lm)
    if facts.after == "other":
        raise UserError(f"{path}: its logits differ from its head's output by {facts.difference:.2g}: nothing can be mixed before the head")
    if facts.after == "cap" and (mix != "hidden" or sampled):
        what = "sampling" if sampled and mix == "hidden" else f"mix {mix!r}"
        raise UserError(f"{path}: caps its logits after the head, by up to {facts.difference:.2g}: hidden states can be mixed, not {what}")
    return facts


def attention_window(config: Any) -> int | None:
    """Tokens that the narrowest layer looks back on; None if all see the whole text, 0 for layers that keep no tokens at all."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if kinds is None:
        return window
    widths = {"full_attention": None, "sliding_attention": window, "chunked_attention": getattr(config, "attention_chunk_size", None)}
    seen = [widths.get(kind, 0) for kind in kinds if kind != "full_attention"]
    return min((width or 0 for width in seen), default=None)


def probe_ids(lm: LanguageModel, rows: int) -> Tensor:
    """Token ids [rows, PROBE_TOKENS] to read, spread over the vocabulary."""
    words = int(lm.base.get_input_embeddings().num_embeddings)  # type: ignore[union-attr, arg-type]
    return (torch.arange(rows * PROBE_TOKENS, device=lm.device).view(rows, -1) * 7 + 3) % words


@contextmanager
def probing(lm: LanguageModel, ability: str) -> Iterator[None]:
    """Inside, a model is asked for something that not every architecture can do, without gradients or dropout.

    Afterwards adapter and mode are what they were. Raises UserError if it fails: the model cannot `ability`.
    """
    active, training = (lm.model.active_adapter if lm.adapters else None), lm.model.training
    lm.model.eval()
    try:
        with torch.no_grad():
            yield
    except (RuntimeError, IndexError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{lm.config.path}: this model cannot {ability} ({reason})") from error
    finally:
        if active is not None:
            lm.use(active)
        lm.model.train(training)


def beyond_rounding(lm: LanguageModel, ours: Tensor, theirs: Tensor) -> float | None:
    """The largest difference of two computations of the same logits, if it is more than rounding; NaN is."""
    difference, size = float((ours - theirs).abs().max()), float(theirs.abs().max())
    rounding = 5e-2 if lm.mixed and lm.base.dtype != torch.float64 else 1e-3
    return None if difference <= rounding * max(1.0, size) else difference


@torch.no_grad()
def _probe(lm: LanguageModel) -> HeadFacts:
    base, head, kept = lm.base, lm.head, []
    plain = head.forward

    def keeping(hidden: Tensor, *args: Any, **options: Any) -> Tensor:
        z: Tensor = plain(hidden, *args, **options)
        kept.append(z)
        return z

    ids = probe_ids(lm, 2)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if lm.seq2seq:
        inputs["decoder_input_ids"] = ids
    training = lm.model.training
    lm.model.eval()
    with lm.without_adapters(), swapped_forward(head, keeping):
        logits = base(**inputs, use_cache=False).logits.double().cpu()
    lm.model.train(training)
    z, bias = kept[-1].double().cpu(), getattr(head, "bias", None)
    after, scale = _relation(z, logits, 1e-4 if base.dtype in (torch.float32, torch.float64) else 2e-2)
    return HeadFacts(after, scale, float((logits - z).abs().max()), bias is not None and bool(bias.abs().max() > 0))


def _relation(z: Tensor, logits: Tensor, tolerance: float) -> tuple[Literal["nothing", "scale", "cap", "other"], float]:
    """How the logits [B, T, V] follow from the head's output z: equal, in proportion, growing with it, or neither."""
    room = tolerance * float(z.abs().max().clamp(min=1e-6))
    if float((logits - z).abs().max()) <= room:
        return "nothing", 1.0
    factor = float((logits * z).sum() / (z * z).sum())
    if factor > 0 and float((logits - factor * z).abs().max()) <= room * factor:
        return "scale", factor
    steps = logits.flatten()[z.flatten().argsort()].diff()
    return ("cap", 1.0) if float(steps.min()) >= -room else ("other", 1.0)
