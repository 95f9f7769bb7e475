"""How likely the frozen model finds replies without their clients: fluency, and half of what the small world's classifiers read."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from emorl_lite.base.texts import check_texts
from emorl_lite.lm.model import LanguageModel

_LAST: list[tuple[Any, tuple[Tensor, Tensor]]] = []
"""The last question and its answer, if there was one."""


@torch.no_grad()
def alone(lm: LanguageModel, replies: Sequence[str]) -> tuple[Tensor, Tensor]:
    """log-probabilities [N, T] of replies on their own, end included, under the model without adapters, and the mask [N, T].

    The last answer is kept, and a copy given: fluency and the classifiers score the same replies in turn.
    """
    replies = check_texts(replies, "reply")
    asked = _question(lm, replies)
    if not (_LAST and _LAST[0][0] == asked):
        with lm.without_adapters():
            _LAST[:] = [(asked, lm.score_texts([""] * len(replies), replies))]
    logp, mask = _LAST[0][1]
    return logp.clone(), mask.clone()


def _question(lm: LanguageModel, replies: Sequence[str]) -> tuple[Any, ...]:
    """All that the answer follows from: the model as it stands, how it is told to read, and the tokens it is given."""
    tokens = (lm.prompt_ids([""]), lm.encode_replies(replies)[0].tolist()) if replies else ()
    return weakref.ref(lm), asdict(lm.config), lm.base.config._attn_implementation, tokens, _weights(lm)


def _weights(lm: LanguageModel) -> list[Any]:
    """Which weights a model has: they may be trained, moved, rounded, or others put in their place, also behind autograd's back.

    Writing through `.data` leaves no other trace than the numbers, so their sums are taken: a small part of reading a few replies.
    """
    weights = [p.detach() for name, p in lm.base.named_parameters() if "lora_" not in name]
    sums = (p.sum(dtype=torch.promote_types(p.dtype, torch.float32)) for p in weights)
    return [(p.data_ptr(), p._version, p.dtype, p.device, float(total)) for p, total in zip(weights, sums, strict=True)]
