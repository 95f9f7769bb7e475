"""How far jobs are: a table on a terminal, drawn over the last one; elsewhere a line for each change."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import TextIO

from emorl_lite.jobs.scheduler import Status


class Progress:
    """Shows a scheduler's board. Given to `run_jobs` as `show`."""

    def __init__(self, shown: bool = True, stream: TextIO | None = None):
        self.shown = shown
        self.stream = stream or sys.stdout
        self._told: dict[str, tuple[str, int, str]] = {}
        self._drawn = 0

    def __call__(self, board: Mapping[str, Status]) -> None:
        """Show what has changed."""
        if not self.shown:
            return
        if self.stream.isatty():
            self._draw(board)
        else:
            self._tell(board)

    def _draw(self, board: Mapping[str, Status]) -> None:
        """The table in place of the last one, as many rows as the window has room for: what runs and what failed first."""
        width, height = shutil.get_terminal_size()
        lines = [line[: width - 1] for line in table(board, max(1, height - 4))]
        up = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        print(up + "\n".join(lines), file=self.stream, flush=True)
        self._drawn = len(lines)

    def _tell(self, board: Mapping[str, Status]) -> None:
        """A line for each job that has begun or ended since."""
        for name, status in board.items():
            now = (status.state, status.attempts, status.reason)
            if now != self._told.get(name, ("waiting", 0, "")):
                self._told[name] = now
                print(f"{name}: {words(status)} ({counts(board)})", file=self.stream, flush=True)


def table(board: Mapping[str, Status], rows: int) -> list[str]:
    """Header, at most `rows` jobs, and a line of counts."""
    order = ("running", "failed", "waiting", "done", "not run")
    shown = [status for status in board.values() if status.attempts or status.reason]
    shown = sorted(shown, key=lambda status: (order.index(status.state), -status.since))[:rows]
    wide = max([len(status.job.name) for status in shown] + [3])
    lines = [f"{'job':<{wide}}  {'state':<8} {'attempts':>8} {'seconds':>8}"]
    for status in shown:
        seconds = time.monotonic() - status.since if status.state == "running" else status.seconds
        lines.append(f"{status.job.name:<{wide}}  {status.state:<8} {status.attempts:>8} {seconds:>8.0f}  {status.reason}".rstrip())
    return [*lines, counts(board)]


def words(status: Status) -> str:
    """One job's state."""
    attempt = f", attempt {status.attempts}"
    again = attempt if status.attempts > 1 else ""
    if status.state == "running":
        return f"begun{again}"
    if status.state == "done":
        return f"done in {status.seconds:.0f} s{again}" if status.attempts else "done elsewhere"
    return f"{status.state}, {status.reason}{attempt if status.attempts else ''}"


def counts(board: Mapping[str, Status]) -> str:
    """How many jobs are in which state."""
    found = Counter(status.state for status in board.values())
    return ", ".join(f"{found[state]} {state}" for state in ("done", "running", "waiting", "failed", "not run") if found[state])
