"""An answer as plain Python: numbers, True and False, texts, lists, sets and dictionaries, whatever library's values it came in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch

from emorl_lite.lm.devices import cpu_double

Plain = Any
"""float, int, bool, str, None, a list, set or dict of such, or `...`."""


DEEPEST = 32
"""So many lists may lie in one another: as many as an array has axes at most."""


class UnreadableError(TypeError):
    """An answer of a type that holds no answer: a generator, a complex number, a number too large to compare."""


@dataclass(frozen=True)
class Unread:
    """An answer that could not be read where it was given, in another process. `why`: what it is, in words."""

    why: str


def plain(value: Any, depth: int = 0) -> Plain:
    """`value` as plain Python; tuples, arrays, tensors and series become lists, and arrays without axes numbers.

    `depth`: in how many lists it lies. Raises UnreadableError for what is none of these, and for nothing else whatever the value is.
    """
    try:
        return _plain(value, depth)
    except UnreadableError:
        raise
    except OverflowError as problem:
        raise UnreadableError("a number too large to compare") from problem
    except Exception as problem:  # a tensor without data, one that cannot be copied, an object that fails when it is read
        raise UnreadableError(type_in_words(value)) from problem


def _plain(value: Any, depth: int) -> Plain:
    if depth > DEEPEST:
        raise UnreadableError("lists in lists, too deep to read")
    if value is None or value is Ellipsis or type(value) in (bool, str, float):
        return value
    if isinstance(value, Unread):
        raise UnreadableError(value.why)
    if type(value) is int:
        float(value)  # too large a one cannot be compared with others
        return value
    if isinstance(value, torch.Tensor):
        return _from_tensor(value)
    if isinstance(value, (pd.Series, pd.Index)):
        return plain(value.to_numpy(), depth)
    if isinstance(value, (np.ndarray, np.generic)):
        if np.iscomplexobj(value):
            raise UnreadableError("a complex number")
        listed = value.tolist()
        return plain(listed, depth) if value.dtype == object else listed
    if isinstance(value, (list, tuple, range)):
        return [plain(part, depth + 1) for part in value]
    if isinstance(value, (set, frozenset)):
        return {_hashable(plain(part, depth + 1)) for part in value}
    if isinstance(value, Mapping):
        return {key: plain(part, depth + 1) for key, part in value.items()}
    return _single(value)


def _single(value: Any) -> Plain:
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, type) and (isinstance(value, Real) or type(value).__name__ == "Decimal"):
        return float(value)
    raise UnreadableError(type_in_words(value))


def _from_tensor(value: torch.Tensor) -> Plain:
    if value.is_complex():
        raise UnreadableError("a complex number")
    value = value.detach().to_dense()
    if value.is_floating_point():
        return cpu_double(value).tolist()
    return value.cpu().tolist()


def _hashable(value: Plain) -> Any:
    return tuple(_hashable(part) for part in value) if isinstance(value, list) else value


def leaves(value: Plain) -> Iterator[Plain]:
    """The single values in a plain value."""
    if isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, (list, set, tuple)):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def shape(value: Plain) -> tuple[int, ...] | None:
    """The shape of a plain value, () of a single one; None where its rows differ in length."""
    if not isinstance(value, list):
        return ()
    rows = {shape(part) for part in value}
    if len(rows) > 1 or None in rows:
        return None
    return (len(value), *(rows.pop() or ())) if rows else (0,)


def is_number(value: Plain) -> bool:
    """Whether a plain value is one number, True and False left out."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: Plain) -> bool:
    """Whether a single plain value is no NaN and not infinite."""
    return not isinstance(value, float) or math.isfinite(value)


def roughness(value: Any) -> float:
    """The relative error that an answer's own type allows: more than nothing for 16-bit numbers."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    types = [part.dtype for part in parts if isinstance(part, torch.Tensor) and part.is_floating_point()]
    rough = [torch.finfo(dtype).eps for dtype in types]
    rough += [
        float(np.finfo(part.dtype).eps)
        for part in parts
        if isinstance(part, (np.ndarray, np.generic)) and np.issubdtype(part.dtype, np.floating)
    ]
    return 4 * max(rough, default=0.0)


def type_in_words(value: Any) -> str:
    """What a value is, as a sentence calls it."""
    names = {
        "bool": "True or False",
        "int": "a number",
        "float": "a number",
        "complex": "a complex number",
        "str": "a text",
        "list": "a list",
        "set": "a set",
        "dict": "a dictionary",
        "NoneType": "nothing",
        "generator": "a generator",
        "map": "a map object",
        "zip": "a zip object",
        "filter": "a filter object",
        "function": "a function",
        "type": "a class",
    }
    name = type(value).__name__
    return names.get(name, f"an object of type {name}")
