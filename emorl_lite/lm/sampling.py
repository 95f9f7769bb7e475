"""Replies from whatever a decoder-only model computes now, token by token, and what it said of every word at each of their tokens.

Shapes: B prompts, N = B k replies, n of them that go on, T reply tokens, V words, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emorl_lite.lm.model import Beginning, Encoded, LanguageModel
from emorl_lite.lm.room import make_room


@dataclass(frozen=True)
class Drawn:
    """N sampled replies."""

    tokens: Tensor
    """[N, T], padded after the first end token."""
    mask: Tensor
    """1 up to and including the first end token, [N, T]."""
    logp: Tensor
    """Log-probabilities of all words at the tokens of the replies, those of the first reply first, [tokens, V]."""


def pick(p: Tensor, u: Tensor) -> Tensor:
    """One token a row from the probabilities of all words [N, V], by inverting the cumulative distribution at uniform numbers [N]: [N]."""
    cumulative = p.cumsum(-1)
    # the first word whose cumulative exceeds u: right=True, so that one of probability 0 never comes
    return torch.searchsorted(cumulative, u[:, None] * cumulative[:, -1:], right=True).squeeze(-1).clamp(max=p.shape[-1] - 1)


def in_reply_order(parts: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """What was kept of each token while replies were written, [tokens, ..]: all of the first reply, then all of the second.

    `parts`: of one place after the other, [n, ..] each; `rows`: whose they are, [n] each.
    """
    return torch.cat(list(parts))[torch.cat(list(rows)).argsort(stable=True)]


@dataclass(frozen=True)
class Open:
    """The n replies that have not ended, before their token at place t."""

    t: int
    rows: Tensor
    """Which of the N replies, [n]."""
    logits: Tensor
    """What the model says of that token, [n, V]."""
    hidden: Tensor
    """The last hidden states that it says so by, [n, d]."""
    lower: Tensor | None
    """What the trunk made of the token before, [n, d]; None at the first token, and without a trunk."""


@torch.no_grad()
def token_by_token(
    lm: LanguageModel,
    inputs: Encoded,
    k: int,
    choose: Callable[[Open], Tensor],
    limit: int | None = None,
    depth: int = 0,
    reorder: Callable[[Any, Tensor], Any] | None = None,
    tell: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Beginning]:
    """k replies for each of B prompts from a decoder-only model, those of one prompt together: tokens [N, T], and how it began them.

    The plain loop that generate() is at heart. It reads each prompt once for its k replies, and what has ended is not read on: the replies'
    last tokens are not read at all. `choose` gives the next tokens [n]; `limit`: the most tokens of a reply; `depth`: layers of the trunk
    whose states are wanted; `reorder`: keeps the rows of a cache that are named, if not the cache's own way; `tell`: is told which replies
    the next pass reads (of the prompts, their first), by a policy that differs from row to row.
    """
    N, limit = len(inputs) * k, limit or lm.config.max_new_tokens
    tokens = torch.full((N, limit), lm.tokenizer.pad_token_id, device=lm.device)
    mask, rows = inputs.mask, torch.arange(N, device=lm.device)
    keep = reorder or (lambda cache, kept: cache.reorder_cache(kept))  # which every kind of layer has, also those that keep a state
    if tell is not None:
        tell(rows[::k])
    prompts = lm.read_prompts(inputs, packed=tell is None, depth=depth)
    logits, hidden, cache, lower = prompts.logits, prompts.hidden, prompts.cache, None
    if k > 1:
        keep(cache, rows // k)
        logits, hidden, mask = (x.repeat_interleave(k, 0) for x in (logits, hidden, mask))
    if lm.mixed:  # where attention reads other numbers than float32, which the whole past would be turned into at every token
        make_room(cache, limit)
    for t in range(limit):
        tokens[rows, t] = next_tokens = choose(Open(t, rows, logits, hidden, lower))
        active = (~lm.is_end(next_tokens)).nonzero().squeeze(-1)
        if not len(active) or t + 1 == limit:
            break
        if len(active) < len(rows):
            keep(cache, active)
            rows, next_tokens, mask = rows[active], next_tokens[active], mask[active]
        if tell is not None:
            tell(rows)
        mask = F.pad(mask, (0, 1), value=1)
        outputs = lm.base(
            input_ids=next_tokens[:, None],
            attention_mask=mask,
            position_ids=mask.sum(1, keepdim=True) - 1,
            past_key_values=cache,
            logits_to_keep=1,
            output_hidden_states=True,
        )
        logits, hidden = outputs.logits[:, -1], outputs.hidden_states[-1][:, -1]
        lower = outputs.hidden_states[depth][:, -1] if prompts.lower else None
    return tokens[:, : t + 1], prompts


def draw_replies(lm: LanguageModel, inputs: Encoded, k: int = 1, reorder: Callable[[Any, Tensor], Any] | None = None) -> Drawn:
    """k replies, sampled at temperature 1, for each of B prompts: those of one prompt stand together.

    The noise is drawn before the first word, a number for each reply and place: with one seed another policy has the same. `reorder` as in
    `token_by_token`.
    """
    noise = torch.rand(len(inputs) * k, lm.config.max_new_tokens, device=lm.device)
    said, rows = list[Tensor](), list[Tensor]()

    def choose(now: Open) -> Tensor:
        logp = torch.log_softmax(now.logits.float(), -1)
        said.append(logp)
        rows.append(now.rows)
        return pick(logp.exp(), noise[now.rows, now.t])

    tokens, _ = token_by_token(lm, inputs, k, choose, reorder=reorder)
    return Drawn(tokens, lm.reply_mask(tokens), in_reply_order(said, rows))
