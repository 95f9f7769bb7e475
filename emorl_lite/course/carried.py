"""Answers on their way from a process that nobody trusts: as JSON, which holds values and nothing that could act.

An object that equals everything, a number that changes, a class that runs code when it is read: what arrives is plain values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from emorl_lite.exercises.plain import Plain, Unread, UnreadableError, plain

DEEPEST = 64
"""So many lists in lists are read, keys of dictionaries and marks included."""
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types so rough that a comparison must know of them."""
TOLD = frozenset(
    (
        *("a complex number", "a number too large to compare", "lists in lists, too deep to read", "a function", "a class"),
        *("a generator", "a map object", "a zip object", "a filter object"),
        *(f"an object of type {name}" for name in ("dict_keys", "dict_values", "dict_items", "bytes", "module", "method", "object")),
    )
)
"""What an answer that is no value may be called. Other words were an answer's own: they could tell what it was asked."""
OTHER = "an object that holds no values"


def packed(value: Any) -> Any:
    """An answer as JSON data, whatever it is."""
    half = _half(value)
    if half is not None:
        return ["half", half, _tagged(plain(value))]
    if type(value) in (list, tuple) and any(_half(part) for part in value):
        return ["list", *map(packed, value)]
    try:
        return _tagged(plain(value))
    except UnreadableError as problem:
        return ["unread", str(problem)]


def _half(value: Any) -> str | None:
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        name = str(value.dtype).removeprefix("torch.")
        return name if name in HALVES else None
    return None


def _tagged(value: Plain) -> Any:
    if isinstance(value, list):
        return ["list", *map(_tagged, value)]
    if isinstance(value, (set, frozenset)):
        return ["set", *map(_tagged_key, value)]
    if isinstance(value, dict):
        return ["dict", *([_tagged_key(key), _tagged(part)] for key, part in value.items())]
    return ["..."] if value is Ellipsis else value


def _tagged_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return ["list", *map(_tagged_key, key)]
    if isinstance(key, np.generic):
        key = key.item()
    if key is None or isinstance(key, (bool, int, float, str)):
        return key
    raise UnreadableError(OTHER)


def unpacked(data: Any, depth: int = 0) -> Any:
    """The answer: plain values, an `Unread`, or a tensor of 16-bit numbers. Raises ValueError for what `packed` does not make."""
    if depth > DEEPEST:
        raise ValueError("too deep")
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if not isinstance(data, list) or not data:
        raise ValueError("no answer")
    kind, parts = data[0], data[1:]
    if kind == "list":
        return [unpacked(part, depth + 1) for part in parts]
    if kind == "set":
        return {_key(unpacked(part, depth + 1)) for part in parts}
    if kind == "dict" and all(isinstance(pair, list) and len(pair) == 2 for pair in parts):
        return {_key(unpacked(key, depth + 1)): unpacked(part, depth + 1) for key, part in parts}
    if kind == "..." and not parts:
        return ...
    if kind == "unread":
        return Unread(parts[0] if len(parts) == 1 and parts[0] in TOLD else OTHER)
    if kind == "half" and len(parts) == 2 and parts[0] in HALVES:
        return _tensor(unpacked(parts[1], depth + 1), HALVES[parts[0]])
    raise ValueError("no answer")


def _key(value: Any) -> Any:
    """A member of a set, or the key of a dictionary."""
    if isinstance(value, list):
        return tuple(map(_key, value))
    if isinstance(value, (set, dict, torch.Tensor)):
        raise ValueError("no key")
    return value


def _tensor(value: Any, dtype: torch.dtype) -> torch.Tensor:
    try:
        return torch.tensor(value, dtype=dtype)
    except (TypeError, RuntimeError, OverflowError) as error:
        raise ValueError("no tensor") from error
