"""Jobs for tests/test_engines.py, in a module that any process can import in no time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from emorl_lite.base.errors import UserError


def write(folder: str, name: str, killed: int = 0, seconds: float = 0.0) -> None:
    """Leave a file. The process kills itself on its first `killed` tries."""
    tries = Path(folder) / f"{name}.tries"
    with tries.open("a", encoding="utf-8") as file:
        file.write("x")
    print(f"{name} prints this, in process {os.getpid()}", flush=True)
    if tries.stat().st_size <= killed:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    (Path(folder) / f"{name}.done").write_text(name, encoding="utf-8")


def slow_at_first(folder: str, name: str) -> None:
    """Takes minutes on its first try, nothing on its second."""
    tries = Path(folder) / f"{name}.tries"
    with tries.open("a", encoding="utf-8") as file:
        file.write("x")
    if tries.stat().st_size == 1:
        time.sleep(300)


def fail(error: str) -> None:
    """Raise it: a user's mistake, or anything else."""
    if error == "mistake":
        raise UserError("file x.csv: row 3 is empty")
    raise RuntimeError("one line\nand another")
