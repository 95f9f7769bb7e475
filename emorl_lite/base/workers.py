"""Processes on the same machine: how many there is room for, fresh ones that end with this one, and what ends them in good order."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from tqdm import tqdm

NO_MAIN_GUARD = "its process ended before it began; a script must start processes under `if __name__ == '__main__':`"

GROUPS = "/sys/fs/cgroup"
"""Where Linux tells the limits of groups of processes (cgroup v2)."""


def cores() -> int:
    """Processor cores that this process may use, 1 or more: those that its affinity and its container's quota leave of the machine's."""
    return max(1, math.ceil(min(_allowed() or 1, _quota())))


def _allowed() -> int | None:
    """Cores of the machine, those alone that this process may run on where the system can say that."""
    counted = getattr(os, "process_cpu_count", None)  # Python 3.13
    if counted is not None:
        return counted()  # type: ignore[no-any-return]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _quota() -> float:
    """Processors' worth of time that this process's group, and those it lies in, may take (their cpu.max); infinite without a limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    group = next((Path(line.removeprefix("0::")) for line in lines if line.startswith("0::/")), Path("/"))
    return min(_quota_in(Path(GROUPS, *part.parts[1:], "cpu.max")) for part in (group, *group.parents))


def _quota_in(file: Path) -> float:
    """What a file cpu.max says: microseconds, or "max", of a period's microseconds."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def fresh_processes(preload: str = "") -> Any:
    """Start methods of processes that inherit nothing but the environment.

    On Linux they come from a server that has imported `preload` (the module of what they are to do) and nothing else, which saves each of
    them the seconds that importing torch takes; elsewhere each starts from nothing.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context: BaseContext = multiprocessing.get_context("forkserver")
    if preload and preload != "__main__":
        context.set_forkserver_preload([preload])  # the server's first start counts
    return context


def keep_locks_here() -> None:
    """A progress bar's lock is this process's alone. As it comes it is one of the system's, which outlives a process that is killed, and
    Python warns of it when the parent ends."""
    tqdm.set_lock(threading.RLock())


def end_with_parent() -> None:
    """End this process when its parent does, however that was killed: an orphan would write beside a run that was started again."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Inside, processes are born deaf to Ctrl-C, which a terminal sends to all of them: the parent ends its children."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
