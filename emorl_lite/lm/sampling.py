"""Replies sampled from whatever a decoder-only model computes now, and what it said of every word at each of their tokens.

Shapes: B prompts, N = B k replies, T reply tokens, V words, n tokens of all replies together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.room import make_room


@dataclass(frozen=True)
class Drawn:
    """N sampled replies."""

    tokens: Tensor
    """[N, T], padded after the first end token."""
    mask: Tensor
    """1 up to and including the first end token, [N, T]."""
    logp: Tensor
    """Log-probabilities of all words at the tokens of the replies, those of the first reply first, [n, V]."""


def pick(p: Tensor, u: Tensor) -> Tensor:
    """One token a row from the probabilities of all words [N, V], by inverting the cumulative distribution at uniform numbers [N]: [N]."""
    cumulative = p.cumsum(-1)
    # the first word whose cumulative exceeds u: right=True, so that one of probability 0 never comes
    return torch.searchsorted(cumulative, u[:, None] * cumulative[:, -1:], right=True).squeeze(-1).clamp(max=p.shape[-1] - 1)


@torch.no_grad()
def draw_replies(lm: LanguageModel, inputs: Encoded, k: int = 1, reorder: Callable[[Any, Tensor], Any] | None = None) -> Drawn:
    """k replies, sampled at temperature 1, for each of B prompts: those of one prompt stand together.

    Each prompt is read once for its k replies, and what has ended is not read on. The noise is drawn before the first word, a number for
    each reply and place: with one seed another policy has the same. `reorder`: keeps the rows of a cache that are named, if not the cache's
    own way.
    """
    N, limit, rows = len(inputs) * k, lm.config.max_new_tokens, torch.arange(len(inputs) * k, device=lm.device)
    noise = torch.rand(N, limit, device=lm.device)
    tokens = torch.full((N, limit), lm.tokenizer.pad_token_id, device=lm.device)
    keep = reorder or (lambda cache, kept: cache.reorder_cache(kept))
    prompts = lm.read_prompts(inputs)
    cache, logits, mask = prompts.cache, prompts.logits, inputs.mask
    if k > 1:
        keep(cache, rows // k)
        logits, mask = (x.repeat_interleave(k, 0) for x in (logits, mask))
    if lm.mixed:
        make_room(cache, limit)
    said, places = [], []
    for t in range(limit):
        logp = torch.log_softmax(logits.float(), -1)
        tokens[rows, t] = next_tokens = pick(logp.exp(), noise[rows, t])
        said.append(logp)
        places.append(rows * limit + t)
        active = (~lm.is_end(next_tokens)).nonzero().squeeze(-1)
        if not len(active) or t + 1 == limit:
            break
        if len(active) < len(rows):
            keep(cache, active)
            rows, next_tokens, mask = rows[active], next_tokens[active], mask[active]
        mask = F.pad(mask, (0, 1), value=1)
        positions = mask.sum(1, keepdim=True) - 1
        given = {"input_ids": next_tokens[:, None], "attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}
        logits = lm.base(**given, past_key_values=cache).logits[:, -1]
    tokens = tokens[:, : t + 1]
    return Drawn(tokens, lm.reply_mask(tokens), torch.cat(said)[torch.cat(places).argsort()])
