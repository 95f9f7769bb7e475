"""Answers in processes of their own, with limits of time and memory: whatever one does, the others go on, and nothing of it stays.

A process that takes too long or too much, or ends by itself, costs the answer that it was at. What it started ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.workers import NO_MAIN_GUARD, fresh_processes, interrupts_ignored
from emorl_lite.course.answering import BEGUN, LARGEST, Asked, answer_all
from emorl_lite.course.fence import Fence
from emorl_lite.course.landlock import open_paths, version

if TYPE_CHECKING:
    import psutil

LOOK = 0.05
"""Seconds between two looks at a process."""
ASK = 1.0
"""Seconds between two looks for children, which goes through all processes of the machine."""
START = 600.0
"""Seconds of the clock that a process may take to begin: where processes are not forked it loads torch first."""
WAITS = 60.0
"""Seconds of the clock that an answer may take beside twice its own seconds, which are the processor's: a busy machine costs no points."""
APART = sys.platform.startswith("linux")
"""Whether each answer has a process of its own; elsewhere, where each takes seconds to begin, those of one student share it."""


@dataclass(frozen=True)
class Limits:
    """`seconds`: of the processor, for one answer. `memory`: bytes. `closed`: paths that no answer may read."""

    seconds: float
    memory: int
    closed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """One student's answers. `student`: whose."""

    student: str
    asked: tuple[Asked, ...]


Outcome = dict[str, Any]
"""What `answering` writes, or {"state": "late" | "memory" | "ended" | "garbled"}."""


@dataclass
class _Running:
    batch: Batch
    numbers: list[int]
    process: BaseProcess
    folder: Path
    steps: int = 0
    since: float = field(default_factory=time.monotonic)
    itself: psutil.Process | None = None
    asked: float = field(default_factory=time.monotonic)
    children: list[psutil.Process] = field(default_factory=list)
    others: dict[tuple[int, float], psutil.Process] = field(default_factory=dict)
    used: float = 0.0
    used_before: float = 0.0
    memory: int = 0
    cause: str = ""


def run_batches(
    batches: Sequence[Batch], limits: Limits, workers: int, apart: bool = APART, done: Callable[[Batch], None] | None = None
) -> dict[str, list[Outcome]]:
    """What came of each student's answers, in their order. `workers`: processes at once. `done`: told when a student is through.

    Raises UserError if processes cannot begin here.
    """
    outcomes: dict[str, list[Outcome | None]] = {batch.student: [None] * len(batch.asked) for batch in batches}
    waiting = [(batch, list(numbers)) for batch in batches for numbers in _shares(len(batch.asked), apart)][::-1]
    running: list[_Running] = []
    base = Path(tempfile.mkdtemp(prefix="emorl_lite-grading-"))
    limits = replace(limits, closed=tuple(os.path.realpath(path) for path in limits.closed))
    readable = tuple(open_paths([*map(Path, limits.closed), base])) if version() else ()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                batch, numbers = waiting.pop()
                running.append(_start(batch, numbers, Path(tempfile.mkdtemp(dir=base)), base, limits, readable))
            wait([one.process.sentinel for one in running], LOOK)
            for one in [one for one in running if _has_ended(one, limits)]:
                running.remove(one)
                rest = _collect(one, outcomes[one.batch.student])
                if rest:
                    waiting.append((one.batch, rest))
                elif done and all(outcome is not None for outcome in outcomes[one.batch.student]):
                    done(one.batch)
    finally:
        for one in running:
            _end(one)
        _remove(base)
    return {student: [outcome or {"state": "garbled"} for outcome in all_of] for student, all_of in outcomes.items()}


def _shares(count: int, apart: bool) -> Iterator[range]:
    step = 1 if apart else max(count, 1)
    yield from (range(start, min(start + step, count)) for start in range(0, count, step))


def _start(batch: Batch, numbers: list[int], folder: Path, base: Path, limits: Limits, readable: tuple[str, ...]) -> _Running:
    asked = [batch.asked[number] for number in numbers]
    cpu = int(limits.seconds * len(numbers) + WAITS) + 1
    fence = Fence(str(folder), (*limits.closed, str(base)), readable, limits.memory, cpu)
    work = pickle.dumps((asked, numbers))
    process = fresh_processes("emorl_lite.course.answering").Process(target=answer_all, args=(work, fence), daemon=True)
    with interrupts_ignored():
        process.start()
    return _Running(batch, numbers, process, folder)


def _has_ended(one: _Running, limits: Limits) -> bool:
    """Whether a process is through, or was ended for its time or its memory. Raises UserError for one that does not begin."""
    steps = sum(os.path.lexists(one.folder / name) for name in (BEGUN, *(f"{number}.json" for number in one.numbers)))
    _watch(one)
    if steps > one.steps:
        one.steps, one.since, one.used_before = steps, time.monotonic(), one.used
    if not one.process.is_alive():
        _end(one)
        return True
    clock = time.monotonic() - one.since
    if not one.steps:
        if clock > START:
            raise UserError(f"grade: a process did not begin within {START:g} seconds; ask for fewer --workers")
        return False
    if one.used - one.used_before > limits.seconds or clock > 2 * limits.seconds + WAITS:
        one.cause = "late"
    elif one.memory > limits.memory:
        one.cause = "memory"
    if one.cause:
        _end(one)
    return bool(one.cause)


def _watch(one: _Running) -> None:
    """Note what a process and its children use: seconds of the processor, bytes of memory. Who they are is asked once a second."""
    import psutil

    with contextlib.suppress(psutil.Error):
        if one.itself is None:
            one.itself = psutil.Process(one.process.pid)
        if time.monotonic() - one.asked > ASK:
            one.asked = time.monotonic()
            one.children = one.itself.children(recursive=True)
            one.others |= {(child.pid, child.create_time()): child for child in one.children}
        used = memory = 0
        for each in (one.itself, *one.children):
            with contextlib.suppress(psutil.Error):
                used += sum(each.cpu_times()[:2])
                memory += each.memory_info().rss
        one.used, one.memory = max(used, one.used), memory


def _end(one: _Running) -> None:
    """End a process, and all that it started: its children, and theirs, and what is left of its group."""
    import psutil

    if one.process.is_alive():
        one.asked = 0.0
        _watch(one)
    one.process.kill()
    one.process.join()
    if os.name == "posix" and one.process.pid and one.steps:  # begun: it leads a group of its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(one.process.pid, signal.SIGKILL)
    for other in one.others.values():
        with contextlib.suppress(psutil.Error):
            other.kill()


def _collect(one: _Running, outcomes: list[Outcome | None]) -> list[int]:
    """Take what a process came to. Returns the numbers of the answers that it did not come to."""
    for number in one.numbers:
        outcomes[number] = _read(one.folder / f"{number}.json")
    _remove(one.folder)
    missing = [number for number in one.numbers if outcomes[number] is None]
    if not missing:
        return []
    code = one.process.exitcode or 0
    if not one.steps and not one.cause and code > 0:
        raise UserError(f"grade: {NO_MAIN_GUARD}")
    outcomes[missing[0]] = {"state": one.cause or "ended", "code": code}
    return missing[1:]


def _read(path: Path) -> Outcome | None:
    """A file that nobody trusts; None if it is not there. The process that wrote it has ended."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if stat.S_ISREG(facts.st_mode) and facts.st_size <= LARGEST:
            value = json.loads(path.read_bytes())
            return value if isinstance(value, dict) else {"state": "garbled"}
    return {"state": "garbled"}


def _remove(folder: Path) -> None:
    """Remove a folder, links in it as links, even where its owner was locked out."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, folders, _ in os.walk(folder):
            for name in (place, *(os.path.join(place, each) for each in folders)):
                with contextlib.suppress(OSError):
                    os.chmod(name, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
