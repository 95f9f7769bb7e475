"""One call of an answer: on copies of the arguments, what it prints kept aside, what it raises told with the line of its code."""

from __future__ import annotations

import contextlib
import copy
import dis
import inspect
import io
import linecache
import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

PRINTED = 2000
"""So many characters of what an answer prints are kept, the last ones."""


@dataclass(frozen=True)
class Called:
    """What came of a call.

    `printed`: by it, cut at `PRINTED` characters. `raised`: type, message and line in words. `changed`: the argument (from 0) that it
    changed. `unsolved`: it met a `...`.
    """

    result: Any = None
    printed: str = ""
    raised: str | None = None
    changed: int | None = None
    unsolved: bool = False


def call(
    answer: Callable[..., Any], arguments: tuple[Any, ...], told: Callable[[BaseException, Callable[..., Any]], str] | None = None
) -> Called:
    """Call `answer` on copies of `arguments`. All that it raises is told, its own exit too; only a reader's interrupt goes on.

    `told`: what it raised, in words; by default type, message and line.
    """
    given, printed = copied(arguments), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            result = answer(*given)
    except (Exception, SystemExit, GeneratorExit) as problem:
        if "ellipsis" in _message(problem).lower():  # a stub's ... went on into an expression
            return Called(unsolved=True)
        return Called(printed=_cut(printed.getvalue()), raised=(told or _in_words)(problem, answer))
    changed = next((i for i, (a, b) in enumerate(zip(given, arguments, strict=True)) if not unchanged(a, b)), None)
    return Called(result, _cut(printed.getvalue()), changed=changed)


def _cut(text: str) -> str:
    return text if len(text) <= PRINTED else f"[...]{text[-PRINTED:]}"


def copied(value: Any) -> Any:
    """A deep copy, of tensors with their `requires_grad` too. What cannot be copied is given as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if type(value) in (list, tuple):
        return type(value)(copied(part) for part in value)
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def unchanged(here: Any, before: Any) -> bool:
    """Whether an argument is still as it was. Objects that are not data (a model, a generator of random numbers) may change."""
    if type(here) is not type(before):
        return False
    if isinstance(here, torch.Tensor):
        return here.shape == before.shape and bool(torch.allclose(here, before, rtol=0, atol=0, equal_nan=True))
    if isinstance(here, np.ndarray):
        return here.shape == before.shape and bool(np.array_equal(here, before, equal_nan=here.dtype.kind in "fc"))
    if isinstance(here, (list, tuple)):
        return len(here) == len(before) and all(map(unchanged, here, before))
    if isinstance(here, Mapping):
        return list(here) == list(before) and all(unchanged(here[key], before[key]) for key in here)
    if isinstance(here, (set, frozenset)):
        return here == before
    if isinstance(here, (int, float, str)):
        return here == before or here != here
    return True


def _message(problem: BaseException) -> str:
    try:
        return " ".join(str(problem).split())
    except Exception:  # an exception of one's own, whose text fails
        return ""


def _in_words(problem: BaseException, answer: Callable[..., Any]) -> str:
    message = _message(problem)
    told = type(problem).__name__ + (f" ({message[:200]})" if message else "")
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == file]
    if not frames:
        return told
    line = frames[-1].lineno or 0
    source = linecache.getline(file or "", line).strip()
    return f"{told} in its line {line}" + (f", `{source}`" if source else "")


def is_stub(answer: Any) -> bool:
    """Whether an answer is `...`, or a function that does nothing but return it, or nothing at all."""
    if answer is Ellipsis or not inspect.isfunction(answer):
        return answer is Ellipsis
    steps = list(dis.get_instructions(answer))
    returned = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return {step.opname for step in steps} <= {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"} and returned[-1:] in (
        [None],
        [...],
    )


def takes(answer: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    """Whether a function can be called with that many arguments."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # some functions written in C tell nothing
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Whatever an answer draws, it draws the same each time, and the notebook's own random numbers go on as if it had not.

    Whether gradients are recorded stays as it was, too.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
