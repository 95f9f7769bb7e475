"""The default engine: each attempt is a process of its own on this machine. And the simplest: this very process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from emorl_lite.base.errors import UserError
from emorl_lite.base.workers import NO_MAIN_GUARD, end_with_parent, fresh_processes, interrupts_ignored, keep_locks_here
from emorl_lite.jobs.job import Job, Outcome, Work, perform

BEGUN = "begun"
RUN_AGAIN = 86
"""Exit code of a child that finds itself running the whole script."""


@dataclass
class _Attempt:
    job: Job
    process: BaseProcess
    answers: Connection
    begun: bool = False
    outcome: Outcome | None = None


class LocalEngine:
    """Processes of this machine. One that is killed takes nothing with it but its attempt; all end with this process, however it ends."""

    def __init__(self, workers: int):
        self.capacity = workers
        self._attempts: list[_Attempt] = []
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            os._exit(RUN_AGAIN)  # a script without a main guard, run by its own child: the parent tells what is missing

    def submit(self, job: Job) -> None:
        """Start a process for it."""
        processes = fresh_processes(_module(job.work.call))
        answers, answer = processes.Pipe(duplex=False)
        process = processes.Process(target=_do, args=(job.work, answer), name=job.name)
        with interrupts_ignored():
            process.start()
        answer.close()
        self._attempts.append(_Attempt(job, process, answers))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Attempts that ended. Raises UserError if processes cannot begin at all."""
        wait([x for attempt in self._attempts for x in (attempt.process.sentinel, attempt.answers)], timeout)
        ended = [(attempt, outcome) for attempt in self._attempts if (outcome := _outcome(attempt)) is not None]
        for attempt, _ in ended:
            self._attempts.remove(attempt)
            attempt.answers.close()
        return [(attempt.job, outcome) for attempt, outcome in ended]

    def close(self) -> None:
        """End the processes: asked first, then killed."""
        for attempt in self._attempts:
            attempt.process.terminate()
        for attempt in self._attempts:
            attempt.process.join(5)
            if attempt.process.is_alive():
                attempt.process.kill()
                attempt.process.join()
            attempt.answers.close()
        self._attempts.clear()


def _do(work: Work, answer: Connection) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal: the parent ends its children
    keep_locks_here()
    end_with_parent()
    answer.send(BEGUN)
    answer.send(perform(work))


def _outcome(attempt: _Attempt) -> Outcome | None:
    """How an attempt ended; None while it goes on."""
    alive = attempt.process.is_alive()  # asked first: what it said last is in the pipe by then
    with suppress(EOFError, OSError):  # nothing more comes
        while attempt.answers.poll():
            message = attempt.answers.recv()
            attempt.begun = True
            attempt.outcome = message if isinstance(message, Outcome) else None
    if attempt.outcome is not None:
        attempt.process.join(10)  # it holds its memory until it has ended
    if attempt.outcome is not None or alive:
        return attempt.outcome
    attempt.process.join()
    code = attempt.process.exitcode or 0
    if code > 0 and not attempt.begun:
        raise UserError(
            f"{attempt.job.name}: {NO_MAIN_GUARD if code == RUN_AGAIN else 'its process could not begin, for the reason above'}"
        )
    return Outcome("killed", how_it_ended(code))


def how_it_ended(code: int) -> str:
    """A process's exit code in words."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"its process was killed ({name}{': out of memory?' if name == 'SIGKILL' else ''})"
    return f"its process was killed (signal {-code})"


def _module(call: Callable[[], object]) -> str:
    """The module of a function, or of what a `partial` calls."""
    return str(getattr(getattr(call, "func", call), "__module__", ""))


class Here:
    """This process: one job at a time, with what only this session has. Output goes where this process's goes; errors but a
    `UserError` are not caught."""

    capacity = 1

    def __init__(self) -> None:
        self._ended: list[tuple[Job, Outcome]] = []

    def submit(self, job: Job) -> None:
        """Do it."""
        self._ended.append((job, perform(replace(job.work, log=None))))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """What was done."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Nothing runs."""
