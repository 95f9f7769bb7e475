"""Processes for independent runs on the same machine."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def processes(count: int) -> ProcessPoolExecutor:
    """A pool of fresh processes (nothing is inherited but the environment) that end with this one."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),))


def end_with(parent: int) -> None:
    """End this process when its parent does, however that was killed: an orphan would write beside a run that was started again."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
