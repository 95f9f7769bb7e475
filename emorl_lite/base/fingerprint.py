"""What a reward is made of, as plain data: names, options, weights, and the code of what a user wrote.

A run is the same run if its reward is. Of this package's rewards, names and options tell (its code may change: a finished run is read as
it is); of a user's functions and classes, the compiled code does, with the constants that it uses. What the code itself changes while it
scores (a counter, a list of what it has seen) is state, and left out.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emorl_lite.base.files import digest

DEPTH = 10
"""How far options of options are followed."""
PYTHON = f"python {sys.version_info.major}.{sys.version_info.minor}"
"""Compiled code can be compared within one version of Python."""
INSTALLED = [Path(__file__).parents[1], *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib"))]
"""Where code lies that no user edits from run to run."""
CHANGES = {"append", "extend", "add", "update", "insert", "pop", "clear", "setdefault", "remove", "discard", "popitem"}
"""Methods by which code changes a collection: whatever it holds is then state."""


def describe_reward(reward: object) -> dict[str, Any]:
    """Facts `reward.<part>` about a reward. Two that score alike have the same; an option, weight or line of code that differs shows."""
    return describe(reward, "reward")


def describe(value: object, name: str) -> dict[str, Any]:
    """The same about any object, under another name."""
    return dict(_facts(value, name, DEPTH))


def _facts(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(name, plain value) of everything that `value` is made of."""
    if (own := getattr(value, "made_of", None)) is not None and callable(own):
        yield from ((f"{name}.{key}", fact) for key, fact in own().items())
    elif (plain := _plain(value)) is not None:
        yield name, plain
    elif isinstance(value, nn.Module):
        yield name, tensors_digest(value.state_dict())
    elif hasattr(value, "base_probe"):  # a language model
        probe = value.base_probe()
        yield name, [Path(value.config.path).name, *probe["embedding"], probe["matrices"]]
    elif depth and isinstance(value, Mapping) and not is_dataclass(value):
        for key, item in value.items():
            yield from _facts(item, f"{name}.{key}", depth - 1)
    elif depth and callable(value):
        yield from _of_callable(value, name, depth)
    elif depth and hasattr(value, "__dict__"):
        yield from _of_object(value, name, depth)


def _of_callable(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, MethodType):
        yield from _facts(value.__self__, name, depth - 1)
        yield f"{name}.method", value.__name__
    elif isinstance(value, functools.partial):
        yield from _facts(value.func, name, depth - 1)
        given: dict[str, Any] = {**{str(i): item for i, item in enumerate(value.args)}, **value.keywords}
        for key, item in given.items():
            yield from _facts(item, f"{name}.{key}", depth - 1)
    elif isinstance(value, FunctionType):
        if _is_users(value):
            yield f"{name}.code ({PYTHON})", _code_digest(value)
        elif hasattr(value, "__wrapped__"):  # a library's decorator around a user's function
            yield from _facts(value.__wrapped__, name, depth - 1)
        else:
            yield f"{name}.kind", value.__qualname__
    elif isinstance(value, type) or not hasattr(value, "__dict__"):
        yield f"{name}.kind", getattr(value, "__qualname__", type(value).__qualname__)
    else:
        yield from _of_object(value, name, depth)


def _of_object(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """An object by its class and its attributes, but for those that its methods assign."""
    kind = type(value)
    methods = [function for function in vars(kind).values() if isinstance(function, FunctionType)]
    yield f"{name}.kind", kind.__qualname__
    if _is_users(kind):
        yield f"{name}.code ({PYTHON})", digest("".join(_code_digest(method) for method in methods).encode())
    names = [field.name for field in fields(value)] if is_dataclass(value) else list(vars(value))
    state = {attribute for method in methods if method.__name__ not in ("__init__", "__post_init__") for attribute in _assigned(method)}
    changing = any(_changes_collections(method.__code__) for method in methods)
    for attribute in names:
        item = getattr(value, attribute, None)
        if not attribute.startswith("_") and attribute not in state and not (changing and isinstance(item, list | dict | set)):
            yield from _facts(item, f"{name}.{attribute}", depth - 1)


def _plain(value: Any) -> Any:
    """A value as JSON, or the digest of an array; None if it is neither."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        return tensors_digest({"": torch.as_tensor(value)})
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple | dict):
        try:
            return json.loads(json.dumps(value))
        except (TypeError, ValueError):
            return None
    return None


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of tensors by their names, in half precision: the same before and after they are kept so."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name].detach().cpu()
        data = x.half() if x.is_floating_point() else x
        hasher.update(f"{name} {list(x.shape)}".encode() + data.contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


# -- code


def _is_users(thing: Any) -> bool:
    """Whether a function or class is neither this package's nor an installed library's."""
    code = getattr(thing, "__code__", None)
    file = code.co_filename if code else getattr(sys.modules.get(getattr(thing, "__module__", "")), "__file__", None)
    return file is None or not any(Path(file).is_relative_to(folder) for folder in INSTALLED)


def _code_digest(function: Callable[..., Any], seen: frozenset[str] = frozenset()) -> str:
    """Of a function's code, defaults, constants of its surroundings, and of the user's functions that it calls."""
    code: CodeType = function.__code__  # type: ignore[attr-defined]
    parts = [*_instructions(code), repr(_plain(function.__defaults__)), repr(_plain(function.__kwdefaults__))]  # type: ignore[attr-defined]
    used = _surroundings(function)
    state, changing = set(_assigned(function)), _changes_collections(code)
    for name in sorted(set(used) - state):
        value = used[name]
        if isinstance(value, FunctionType):
            if _is_users(value) and value.__qualname__ not in seen:
                parts.append(name + _code_digest(value, seen | {value.__qualname__}))
        elif not (changing and isinstance(value, list | dict | set)) and (plain := _plain(value)) is not None:
            parts.append(f"{name}={plain!r}")
    return digest("\n".join(parts).encode())


def _surroundings(function: Any) -> dict[str, Any]:
    """What a function's code, and functions inside it, find by name around it."""
    names = {name for code in _all_code(function.__code__) for name in code.co_names}
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a name that has no value yet
            used[name] = cell.cell_contents
    return used


def _instructions(code: CodeType) -> Iterator[str]:
    """The compiled code and its constants; neither lines nor names of files."""
    yield hashlib.sha256(code.co_code).hexdigest()
    yield " ".join(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_code(constant)


def _assigned(function: Any) -> Iterator[str]:
    """Names around a function, and attributes, that it assigns."""
    for code in _all_code(function.__code__):
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("STORE_ATTR", "STORE_GLOBAL", "STORE_DEREF"):
                yield str(instruction.argval)


def _changes_collections(code: CodeType) -> bool:
    stores = ("STORE_SUBSCR", "STORE_SLICE", "DELETE_SUBSCR")
    return any(
        CHANGES & set(part.co_names) or any(instruction.opname in stores for instruction in dis.get_instructions(part))
        for part in _all_code(code)
    )
