"""Which job starts when: after those it needs, again after a failure, and never while another process is at it. Knows no engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line, termination_told
from emorl_lite.base.paths import from_here
from emorl_lite.jobs.engine import Engine
from emorl_lite.jobs.job import Job, Outcome

State = Literal["waiting", "running", "done", "failed", "not run"]
TICK = 1.0
"""Seconds between two looks at what others do."""
PATIENCE = 5.0
"""Seconds until a job that another process is at is tried again."""
TOLD = 2
"""Failed jobs whose reasons the closing line has room for."""


@dataclass
class Status:
    """How far a job is."""

    job: Job
    state: State = "waiting"
    attempts: int = 0
    """Begun by this scheduler."""
    since: float = 0.0
    """When its last attempt began (`time.monotonic`)."""
    seconds: float = 0.0
    """What its last attempt took."""
    reason: str = ""
    """Why it failed, or is not run; or what it waits for."""
    not_before: float = 0.0

    @property
    def open(self) -> bool:
        """Whether anything of it is still to come."""
        return self.state in ("waiting", "running")


Show = Callable[[Mapping[str, Status]], None]


def run_jobs(jobs: Sequence[Job], engine: Engine, retries: int = 2, show: Show = lambda board: None) -> dict[str, Status]:
    """Do the jobs, as many at once as the engine takes, and return how each ended; the engine is closed.

    A job whose process is killed or raises is begun again, up to `retries` times; a `UserError` is not. The others go on; those that need
    a failed one are not run. What another process is at is left to it and looked at again. `show` is called with every change. Raises
    KeyboardInterrupt after Ctrl-C or SIGTERM, when everything that ran has ended.
    """
    board = {job.name: Status(job) for job in jobs}
    if len(board) < len(jobs):
        raise ValueError("two jobs have one name")
    try:
        with termination_told():
            while any(status.open for status in board.values()):
                _start_ready(board, engine)
                show(board)
                if any(status.state == "running" for status in board.values()):
                    for job, outcome in engine.wait(TICK):
                        _settle(board[job.name], outcome, retries)
                    show(board)
                elif any(status.open for status in board.values()):
                    time.sleep(TICK)  # others are at what is left
            show(board)
    finally:
        engine.close()
    return board


def _start_ready(board: Mapping[str, Status], engine: Engine) -> None:
    """Start what can be started, in order; what cannot be run any more is marked, and so is what others have done."""
    free = engine.capacity - sum(status.state == "running" for status in board.values())
    for status in board.values():
        if status.state != "waiting":
            continue
        needed = [board[name] for name in status.job.needs if name in board]
        if lost := next((need for need in needed if need.state in ("failed", "not run")), None):
            status.state, status.reason = "not run", f"needs {lost.job.name}"
        elif free > 0 and time.monotonic() >= status.not_before and all(need.state == "done" for need in needed):
            if status.job.finished():
                status.state = "done"
            elif status.job.busy():
                _leave_to_others(status)
            else:
                status.state, status.since, status.attempts, status.reason = "running", time.monotonic(), status.attempts + 1, ""
                engine.submit(status.job)
                free -= 1


def _settle(status: Status, outcome: Outcome, retries: int) -> None:
    """Note how an attempt ended."""
    status.seconds, status.reason = time.monotonic() - status.since, outcome.reason
    if outcome.kind == "done":
        status.state, status.reason = "done", ""
    elif outcome.kind == "elsewhere":
        status.attempts -= 1
        _leave_to_others(status)
    else:
        again = outcome.worth_another_try and status.attempts <= retries
        status.state = "waiting" if again else "failed"


def _leave_to_others(status: Status) -> None:
    status.state, status.reason, status.not_before = "waiting", "another process is at it", time.monotonic() + PATIENCE


def require_done(board: Mapping[str, Status]) -> None:
    """Raise UserError with one line: which jobs failed, why, where the log of the first ones lies, and how many were not run for it."""
    failed = [status for status in board.values() if status.state == "failed"]
    if not failed:
        return
    told = "; ".join(_failure(status) for status in failed[:TOLD])
    if more := failed[TOLD:]:
        told += f"; and {', '.join(status.job.name for status in more)}"
    if lost := sum(status.state == "not run" for status in board.values()):
        told += f"; {lost} more not run, which need{'s' * (lost == 1)} {'it' if len(failed) == 1 else 'them'}"
    raise UserError(f"{len(failed)} of {len(board)} jobs failed: {told}; the same command does only what is missing")


def _failure(status: Status) -> str:
    tries = f", {status.attempts} attempts" if status.attempts > 1 else ""
    log = f" (log: {from_here(status.job.work.log)})" if status.job.work.log else ""
    return f"{status.job.name}: {one_line(status.reason, 150)}{tries}{log}"
