"""A model is examined before its adapters are mixed, averaged or trained: by short probes, once for each model as it stands.

What is found out: how logits follow from what enters the head; and that a text is read alike alone, padded in a batch, and word by word
through a cache. A linear head may be followed by a scale (Granite, Cohere), a cap (Gemma 2: c tanh(z / c)) or something else (BART's own
bias), and have a bias itself (Phi, GPT-J). Who mixes or trains adds a question of its own by `once`: the ensembles, the prefix tree, PPO.
Shapes: B rows, P prompt tokens, T reply tokens, V words, d width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import first_line
from emorl_lite.base.presets import Mix
from emorl_lite.lm.adapters import as_before, check_unmerged
from emorl_lite.lm.devices import cpu_double
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.swapping import swapped_forward

PROBE_TOKENS = 6
"""Tokens of a probe's longest prompt."""
PROBE_REPLY = 3
"""Tokens of a probe's reply: the first follows from the prompt, the others are read through the cache."""


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


@dataclass
class _Record:
    """What is known of a model."""

    state: Hashable
    """The model as it was examined (`_state`); of another state nothing is known."""
    head: HeadFacts | None = None
    passed: set[Hashable] = field(default_factory=set)
    """Questions of `once` that it passed."""


_RECORDS: WeakKeyDictionary[Any, _Record] = WeakKeyDictionary()


def head_facts(lm: LanguageModel) -> HeadFacts:
    """The facts of a model's head. Raises UserError as `examine` does."""
    examine(lm)
    head = _record(lm).head
    assert head is not None
    return head


def examine(lm: LanguageModel) -> None:
    """Raise UserError, naming model, property and number, unless the model reads a text alike alone, padded, and through a cache.

    Run before anything is mixed, averaged, trained or evaluated; of a model that passed, and has not changed, it costs nothing. Merged
    adapters are refused first: PEFT takes them out of the weights, without a word, as soon as the base is read without them.
    """
    check_unmerged(lm.model)
    _check_lengths(lm)
    once(lm, "reads", lambda: _examine_reading(lm))


def once(lm: LanguageModel, question: Hashable, probe: Callable[[], None]) -> None:
    """Run a probe, which raises UserError if the model fails it, unless the model as it stands has passed it.

    What counts as the model is its settings, type and device, and which layers have adapters: none of the probed properties depends on
    the values of weights.
    """
    record = _record(lm)
    if question not in record.passed:
        probe()
        record.passed.add(question)


def adapted_layers(lm: LanguageModel) -> Hashable:
    """Which layers have adapters: part of a question that depends on them."""
    return tuple(name for name, module in lm.base.named_modules() if isinstance(module, LoraLayer))


def check_mixable(lm: LanguageModel, mix: Mix, sampled: bool = False) -> HeadFacts:
    """Raise UserError, naming model, property and number, where this mixture would not be what the model computes.

    hidden: exact whatever grows after the head, since the model does it to the mixture. logits, probabilities, and sampling from a tree
    need the final logits: exact up to a scale.
    """
    path, facts = lm.config.path, head_facts(lm)
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


# -- what probes are made of


def probe_prompts(lm: LanguageModel, rows: int = 2, longest: int = PROBE_TOKENS) -> Encoded:
    """Prompts to read [rows, longest], spread over the vocabulary, every second one two tokens shorter and therefore padded."""
    words = int(lm.base.config.get_text_config(decoder=True).vocab_size)
    special = {lm.tokenizer.pad_token_id, *lm.end_ids}
    usual = [word for word in range(min(words, 2000)) if word not in special]
    ids = torch.tensor([[usual[(7 * (row * longest + i) + 3) % len(usual)] for i in range(longest)] for row in range(rows)])
    mask = torch.ones_like(ids)
    mask[1::2, slice(-2, None) if lm.seq2seq else slice(2)] = 0
    return Encoded(ids.masked_fill(mask == 0, lm.tokenizer.pad_token_id).to(lm.device), mask.to(lm.device))


def decoded(lm: LanguageModel, inputs: Encoded) -> tuple[Tensor, Tensor]:
    """Greedy reply tokens [B, PROBE_REPLY] to a batch, and the logits [B, PROBE_REPLY, V] they come from, by `lm.generate`."""
    forward, logits = lm.base.forward, list[Tensor]()

    @functools.wraps(forward)  # generate() reads the signature to learn what the model takes
    def keeping(**inputs: Any) -> Any:
        output = forward(**inputs)
        logits.append(output.logits[:, -1])
        return output

    with swapped_forward(lm.base, keeping):
        tokens = lm.generate(inputs, max_new_tokens=PROBE_REPLY, min_new_tokens=PROBE_REPLY)  # no end before
    return tokens, torch.stack(logits, 1)


def given(lm: LanguageModel, inputs: Encoded, tokens: Tensor) -> Tensor:
    """The logits [B, T, V] that predict these reply tokens [B, T], by the active adapter."""
    return lm.forward_reply(inputs, tokens, torch.ones_like(tokens))[0]


@contextmanager
def probing(lm: LanguageModel, ability: str) -> Iterator[None]:
    """Inside, a model is asked for something that not every architecture can do, without gradients or dropout.

    Afterwards active adapters, what is trainable, and mode are what they were. Raises UserError if it fails: the model cannot `ability`.
    """
    training = lm.model.training
    lm.model.eval()
    try:
        with torch.no_grad(), as_before(lm.model):
            yield
    except UserError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        reason = first_line(error, 120)
        raise UserError(f"{lm.config.path}: this model cannot {ability} ({reason})") from error
    finally:
        lm.model.train(training)


def check_equal(lm: LanguageModel, ours: Tensor, theirs: Tensor, what: str) -> None:
    """Raise UserError, with the number, if two computations of the same logits differ by more than rounding: `what` the model does."""
    if (difference := beyond_rounding(lm, ours, theirs)) is not None:
        raise UserError(f"{lm.config.path}: {what}: its logits differ by {difference:.2g}")


def beyond_rounding(lm: LanguageModel, ours: Tensor, theirs: Tensor) -> float | None:
    """The largest difference of two computations of the same logits, if it is more than rounding; NaN is."""
    ours, theirs = cpu_double(ours), cpu_double(theirs)
    difference, size = float((ours - theirs).abs().max()), float(theirs.abs().max())
    rounding = 0.1 if lm.mixed and lm.base.dtype != torch.float64 else 1e-3
    return None if difference <= rounding * max(1.0, size) else difference


# -- the examination


def _record(lm: LanguageModel) -> _Record:
    """The record of the model as it stands."""
    state = _state(lm)
    if lm.base not in _RECORDS or _RECORDS[lm.base].state != state:
        _RECORDS[lm.base] = _Record(state)
    return _RECORDS[lm.base]


def _state(lm: LanguageModel) -> Hashable:
    """What the probed properties depend on: settings (some models keep a copy), what is added to logits, type, device, attention."""
    base: Any = lm.base
    own = {key: value for key, value in vars(base).items() if isinstance(value, int | float | str) and key != "training"}
    buffers = tuple(float(buffer.float().sum()) for buffer in base._buffers.values() if buffer is not None)
    head = getattr(lm.head, "bias", None)
    how = (base.config._attn_implementation, base.dtype, lm.device, lm.config.autocast)
    return (repr(base.config.to_dict()), repr(own), buffers, how, head is not None and bool(head.any()))


def _check_lengths(lm: LanguageModel) -> None:
    """Raise UserError if texts may get longer than a length at which the model reads all of a text in another way.

    Its cache holds what was read before: rotary frequencies that depend on a text's length (dynamic, longrope), chunks counted in tokens
    of a padded batch.
    """
    config: Any = lm.base.config.get_text_config(decoder=True)
    longest = lm.config.max_new_tokens + (0 if lm.seq2seq else lm.prompt_limit())
    ropes = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for rope in [ropes, *ropes.values()]:
        kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
        if kind in ("dynamic", "longrope"):
            bound = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
            bound = bound or config.max_position_embeddings
            if longest > bound:
                raise UserError(
                    f"{lm.config.path}: its positions ({kind}) change for texts of more than {bound} tokens, and yours have up to {longest}"
                )
    chunk = getattr(config, "attention_chunk_size", None)
    if chunk and "chunked_attention" in (getattr(config, "layer_types", None) or ()) and longest > chunk:
        raise UserError(f"{lm.config.path}: some of its layers read chunks of {chunk} tokens alone, and texts have up to {longest}")


def _examine_reading(lm: LanguageModel) -> None:
    """Two prompts, one padded, are answered through the cache, then read whole in a batch, then alone: by the base, without adapters."""
    inputs = probe_prompts(lm)
    with probing(lm, "answer a padded batch of prompts"), lm.without_adapters():
        tokens, by_cache = decoded(lm, inputs)
        whole = given(lm, inputs, tokens)
        logits, hidden, z = _alone(lm, inputs, tokens)
        head = _facts(lm, logits, hidden, z)
    check_equal(lm, whole, logits, "a prompt padded in a batch is not read as it is alone")
    check_equal(lm, by_cache, logits, "a reply read word by word through its cache is not read as a whole text is")
    _record(lm).head = head


def _alone(lm: LanguageModel, inputs: Encoded, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each text on its own, without padding, cache or positions: logits [B, T, V], what entered the head [.., d], and its output [.., V].

    The plainest way to read, which everything else is compared with.
    """
    T, logits, entered, left = tokens.shape[1], [], [], []
    plain = lm.head.forward

    def keeping(hidden: Tensor, *args: Any, **options: Any) -> Tensor:
        z: Tensor = plain(hidden, *args, **options)
        entered.append(hidden[:, -T:])
        left.append(z[:, -T:])
        return z

    with swapped_forward(lm.head, keeping):
        for ids, mask, reply in zip(inputs.ids, inputs.mask, tokens, strict=True):
            prompt, reply = ids[mask.bool()][None], reply[None, :-1]
            if lm.seq2seq:
                start = torch.full_like(prompt[:, :1], lm.base.config.decoder_start_token_id)
                texts = {"input_ids": prompt, "decoder_input_ids": torch.cat([start, reply], 1)}
            else:
                texts = {"input_ids": torch.cat([prompt, reply], 1)}
            logits.append(lm.model(**texts, attention_mask=torch.ones_like(texts["input_ids"]), use_cache=False).logits[:, -T:])
    return torch.cat(logits), torch.cat(entered), torch.cat(left)


def _facts(lm: LanguageModel, logits: Tensor, hidden: Tensor, z: Tensor) -> HeadFacts:
    """The head's facts from logits [B, T, V], what entered the head [B, T, d] and its output z [B, T, V]."""
    bias = getattr(lm.head, "bias", None)
    has_bias = bias is not None and bool(bias.any())
    middle = lm.head((hidden[:, :1] + hidden[:, 1:2]) / 2)
    linear = beyond_rounding(lm, middle, (z[:, :1] + z[:, 1:2]) / 2) is None
    z, logits = cpu_double(z), cpu_double(logits)
    if z.shape != logits.shape or not linear:
        return HeadFacts("other", 1.0, float("nan") if z.shape != logits.shape else float((logits - z).abs().max()), has_bias)
    after, scale = _relation(z, logits, 1e-4 if lm.base.dtype in (torch.float32, torch.float64) else 2e-2)
    return HeadFacts(after, scale, float((logits - z).abs().max()), has_bias)


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
