"""The process that runs answers, one after the other: it knows what an answer is asked, and not what is right.

It writes `begun`, and for each answer a file of JSON with what came of it (`<number>.json`), in its folder. Whatever an answer does to this
process, it can change its own results and nothing else; what is right is known to the process that reads them (`grading`).
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pickle
import random
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from emorl_lite.base.failures import is_of_memory
from emorl_lite.base.workers import end_with_parent, keep_locks_here
from emorl_lite.course.carried import packed
from emorl_lite.course.fence import Fence, put_up, without_closed
from emorl_lite.course.needs import Part, needed, parts_of, plain_python, whole
from emorl_lite.exercises.calling import call, is_stub, steady, takes

BEGUN = "begun"
CELL = "<answer>"
"""What an answer's cell is called in a traceback."""
HIDDEN = "emorl_lite.exercises"
LARGEST = 4 * 2**20
"""Bytes of what an answer may come to."""
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TZ")
"""Variables of the environment that an answer sees."""


@dataclass(frozen=True)
class Asked:
    """An answer and what it is asked.

    `called`: the answer's name. `source`: its cell. `before`: the notebook's statements before it. `earlier`: the same student's answers to
    earlier exercises, and own cells, each with whether it is one; `behind`: those that stand behind the answer, and were run before it all
    the same. `cases`: arguments of each call; None where a value is asked.
    """

    name: str
    called: str
    source: str
    before: tuple[Part, ...] = ()
    earlier: tuple[tuple[str, bool], ...] = ()
    behind: tuple[tuple[str, bool], ...] = ()
    cases: tuple[tuple[Any, ...], ...] | None = None


def answer_all(pickled: bytes, fence: Fence) -> None:
    """What the process does. `pickled`: (answers, their numbers): tensors that are sent unpickled would be shared with the sender."""
    asked, numbers = pickle.loads(pickled)
    folder = Path(fence.folder)
    tried = _settle(folder, fence)
    (folder / BEGUN).touch()
    for number, one in zip(numbers, asked, strict=True):
        tried.clear()
        outcome = _outcome(one)
        text = json.dumps(outcome | {"tried": sorted(tried)})
        if len(text) > LARGEST:
            text = json.dumps({"state": "large", "tried": sorted(tried)})
        unfinished = folder / f"{number}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / f"{number}.json")
    os._exit(0)  # threads that an answer started end with it


def _settle(folder: Path, fence: Fence) -> set[str]:
    """Make this process one that no answer gets out of. Returns the set that will hold what they try."""
    if hasattr(os, "setsid"):
        os.setsid()
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, mode), number)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    keep_locks_here()
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(kept | {"MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    places = ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR", "IPYTHONDIR", "EMORL_RUNS", "EMORL_CACHE")
    os.environ.update(dict.fromkeys(places, str(folder)))
    os.chdir(folder)
    sys.dont_write_bytecode = True
    sys.path[:] = without_closed(sys.path, fence.closed)
    torch.set_num_threads(1)
    _hide_exercises()
    tried = set[str]()
    put_up(fence, tried.add)
    end_with_parent()
    return tried


def _hide_exercises() -> None:
    """The references are nowhere in this process, and `check` says nothing: a cell may hold a check of its own."""
    for name in [name for name in sys.modules if name.startswith(f"{HIDDEN}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.modules[HIDDEN] = None  # type: ignore[assignment]
    checks = ModuleType("emorl_lite.tutorial.checks")
    vars(checks)["check"] = lambda name, answer, **options: None
    sys.modules[checks.__name__] = checks


def _outcome(asked: Asked) -> dict[str, Any]:
    """What comes of an answer: its `state`, and what belongs to it. `display`, which notebooks have without an import, shows nothing."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    space: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "display": lambda *shown, **how: None}
    try:
        for part in needed(asked.source, [*_parts(asked.behind), *asked.before, *_parts(asked.earlier)]):
            _run_before(part.source, space)
        _run_answer(asked, space)
        if asked.called not in space:
            return {"state": "nameless"}
        return _asked_of(space[asked.called], asked)
    except BaseException as problem:
        return {"state": "raised", "raised": in_short(problem, asked.source)}


def _parts(cells: Sequence[tuple[str, bool]]) -> list[Part]:
    return [part for source, own in cells for part in (parts_of(source) if own else [whole(source)])]


def _run_before(source: str, space: dict[str, Any]) -> None:
    """What fails here is missed by the answer itself, which then says so."""
    try:
        _run(source, space)
    except Exception:
        return


def _run_answer(asked: Asked, space: dict[str, Any]) -> None:
    """Run an answer's cell. What fails below the answer, such as a trial of it on what other cells had made, takes nothing from it: in a
    notebook the check asks the answer all the same."""
    before = space.get(asked.called)
    try:
        _run(asked.source, space)
    except Exception as problem:
        if is_of_memory(problem) or space.get(asked.called) is before:
            raise


def _run(source: str, space: dict[str, Any]) -> None:
    code = plain_python(source)
    if "get_ipython" in code:
        from IPython.core.interactiveshell import InteractiveShell

        space["get_ipython"] = InteractiveShell.instance
        InteractiveShell.instance().user_ns = space
    exec(compile(code, CELL, "exec", dont_inherit=True), space)


def _asked_of(answer: Any, asked: Asked) -> dict[str, Any]:
    if is_stub(answer):
        return {"state": "stub"}
    if asked.cases is None or not callable(answer):
        return {"state": "value", "value": packed(answer), "callable": callable(answer)}
    if not takes(answer, asked.cases[0]):
        return {"state": "arguments"}
    with steady():
        calls, size = [], 0
        for arguments in asked.cases:
            calls.append(_called(answer, arguments, asked.source))
            size += len(json.dumps(calls[-1]))
            if size > LARGEST:
                return {"state": "large"}
    return {"state": "called", "calls": calls}


def _called(answer: Callable[..., Any], arguments: tuple[Any, ...], source: str) -> dict[str, Any]:
    called = call(answer, arguments, told=lambda problem, _: json.dumps(in_short(problem, source)))
    return {
        "result": None if called.raised else packed(called.result),
        "raised": json.loads(called.raised) if called.raised else None,
        "changed": called.changed,
        "unsolved": called.unsolved,
        "printed": bool(called.printed),
    }


def in_short(problem: BaseException, source: str) -> list[Any]:
    """What was raised: its type, its line in the answer's cell (0: elsewhere), and the name that was not found.

    Nothing else: a message could tell what the answer was asked.
    """
    lines = [line for frame, line in traceback.walk_tb(problem.__traceback__) if frame.f_code.co_filename == CELL]
    line = lines[-1] if lines else problem.lineno if isinstance(problem, SyntaxError) else 0
    name = problem.name if isinstance(problem, (NameError, ImportError)) else ""
    kind = "MemoryError" if is_of_memory(problem) else type(problem).__name__
    return [kind, line or 0, name if isinstance(name, str) and re.search(rf"\b{re.escape(name)}\b", source) else ""]
