"""A job, and how it ended: a call that leaves its result on disk, under a lock of its own and with a log of its own."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import Timeout

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.lock_file import lock_on

Kind = Literal["done", "elsewhere", "mistake", "error", "killed"]


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended."""

    kind: Kind
    """elsewhere: another process is at this job; mistake: what a user gave is wrong; error: any other exception; killed: no answer."""
    reason: str = ""
    """One line."""

    @property
    def worth_another_try(self) -> bool:
        """A user's mistake fails again; a killed process or a broken machine may not."""
        return self.kind in ("error", "killed")


@dataclass(frozen=True)
class Work:
    """What of a job travels to the process that does it."""

    call: Callable[[], object]
    """A function of a module, or a `partial` of one: the other process imports it. What it returns is dropped."""
    log: Path | None = None
    """Where its output and its errors go (default: to this process's)."""
    lock: Path | None = None
    """Whoever does the job holds this file; the system lets go of it however that process ends."""

    def anywhere(self) -> Work:
        """The same for a process whose working directory is another."""
        return Work(self.call, self.log and self.log.resolve(), self.lock and self.lock.resolve())


@dataclass(frozen=True)
class Job:
    """One piece of work that is done or not."""

    name: str
    work: Work
    needs: tuple[str, ...] = ()
    """Names of the jobs that must be done before."""
    finished: Callable[[], bool] = lambda: False
    """Whether its result is there, whoever made it. Asked in the process that schedules."""

    def busy(self) -> bool:
        """Whether another process is at it now."""
        if self.work.lock is None or not self.work.lock.exists():
            return False
        try:
            with lock_on(self.work.lock).acquire(timeout=0):
                return False
        except Timeout:
            return True


def perform(work: Work) -> Outcome:
    """Do a job in this process and say how it ended. What ends the process itself (an exit, a signal) passes."""
    if work.lock is None:
        return _attempt(work)
    work.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_on(work.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return Outcome("elsewhere", "another process is at it")
    try:
        return _attempt(work)
    finally:
        lock.release()


def _attempt(work: Work) -> Outcome:
    with output_to(work.log):
        try:
            work.call()
        except UserError as error:
            return Outcome("mistake", one_line(error))
        except Exception as error:
            if work.log is None:
                raise
            traceback.print_exc()
            return Outcome("error", f"{type(error).__name__}: {one_line(error)}")
    return Outcome("done")


@contextmanager
def output_to(log: Path | None) -> Iterator[None]:
    """Inside, what this process prints, libraries in C included, is appended to a file, under a line with the time."""
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        kept = [os.dup(1), os.dup(2)]
        print(time.strftime("== %Y-%m-%d %H:%M:%S"), "process", os.getpid())
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            for descriptor, old in zip((1, 2), kept, strict=True):
                os.dup2(old, descriptor)
                os.close(old)
