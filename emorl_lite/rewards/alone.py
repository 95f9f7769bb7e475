"""How likely the frozen model finds replies without their clients: fluency, and half of what the small world's classifiers read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from emorl_lite.base.texts import check_texts
from emorl_lite.lm.model import LanguageModel

_LAST: dict[str, Any] = {"key": None, "read": None}


@torch.no_grad()
def alone(lm: LanguageModel, replies: Sequence[str]) -> tuple[Tensor, Tensor]:
    """log-probabilities [N, T] of replies on their own, end included, under the model without adapters, and the mask [N, T].

    The last answer is kept: fluency and the classifiers score the same replies in turn.
    """
    replies = check_texts(replies, "reply")
    key = (lm, _weights(lm), tuple(replies))
    if _LAST["key"] != key:
        with lm.without_adapters():
            _LAST.update(key=key, read=lm.score_texts([""] * len(replies), replies))
    logp, mask = _LAST["read"]
    return logp, mask


def _weights(lm: LanguageModel) -> Hashable:
    """Which weights a model has as it stands: they may be trained, or others put in their place."""
    return tuple((id(p), p._version) for name, p in lm.base.named_parameters() if "lora_" not in name)
