"""Prompts and replies as people give them, made lists of texts: a string where a list belongs would be read letter by letter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from emorl_lite.base.errors import UserError


def check_texts(texts: Any, kind: str) -> list[str]:
    """The texts as a list: of any list, tuple, array, Series or iterator, which is read once. `kind`: what one is called, "prompt".

    Raises UserError, naming the position, unless all are strings of valid Unicode; and for what has no order, or is a table.
    """
    listed = _listed(texts)
    if listed is None:
        plural = {"reply": "replies"}.get(kind, kind + "s")
        raise UserError(f"{plural}: expected a list of texts, got {type(texts).__name__}")
    for number, text in enumerate(listed, start=1):
        if not isinstance(text, str):
            raise UserError(f"{kind} {number}: expected a text, got {type(text).__name__}")
        if not is_unicode(text):
            raise UserError(f"{kind} {number}: not valid Unicode: {text[:40]!a}")
    return listed


def is_unicode(text: str) -> bool:
    """Whether a string is valid Unicode, without half a surrogate pair: no tokenizer or file takes that."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def check_pairs(prompts: Any, replies: Any, what: str) -> tuple[list[str], list[str]]:
    """Prompts and replies as lists of one length. Raises UserError, naming `what` was asked for, if there is not one reply a prompt."""
    prompts, replies = check_texts(prompts, "prompt"), check_texts(replies, "reply")
    if len(prompts) != len(replies):
        raise UserError(f"{what}: {len(prompts)} prompts but {len(replies)} replies")
    return prompts, replies


def check_examples(examples: Any) -> list[tuple[str, str]]:
    """(prompt, reply) pairs as a list, of any list or iterator of pairs. Raises UserError, naming the position, for anything else."""
    listed = _listed(examples)
    if listed is None:
        raise UserError(f"examples: expected a list of pairs of prompt and reply, got {type(examples).__name__}")
    pairs = []
    for number, example in enumerate(listed, start=1):
        if not isinstance(example, list | tuple) or len(example) != 2:
            raise UserError(f"example {number}: expected a pair of prompt and reply, got {type(example).__name__}")
        prompt, reply = check_texts(example, f"example {number}, text")
        pairs.append((prompt, reply))
    return pairs


def _listed(texts: Any) -> list[Any] | None:
    unordered = isinstance(texts, Mapping | Set) and not isinstance(texts, type({}.keys()))
    if isinstance(texts, str | bytes | bytearray) or unordered or not isinstance(texts, Iterable) or hasattr(texts, "columns"):
        return None
    try:
        return list(texts)
    except TypeError:  # an array without dimensions
        return None
