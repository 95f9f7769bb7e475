"""One process at a time in a folder. The system lets go of a lock however the process that has it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_writable, sweep, told
from emorl_lite.base.lock_file import lock_on

NAME = ".lock"
"""The file that is locked. It stays: to remove it would let two processes lock two files of one name."""


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process is in here with the same folder: a second one says so, and waits. The folder is made.

    Whatever a killed process left half-written there is removed. `what` is being done, for the message. Raises UserError for a folder that
    cannot be written or locked.
    """
    check_writable(folder)
    lock = lock_on(folder / NAME)
    try:
        with told(folder / NAME, "cannot be locked"):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"{folder}: another process is {what} there; waiting for it (Ctrl-C stops this one)", file=sys.stderr, flush=True)
                lock.acquire()
    except NotImplementedError as error:
        raise UserError(f"{folder}: the file system has no locks, and two processes there would spoil each other's work") from error
    try:
        sweep(folder)
        yield
    finally:
        lock.release()


@contextmanager
def if_free(folder: Path) -> Iterator[bool]:
    """Inside, whether no other process is in `alone` with a folder; if so, none can enter meanwhile. Where nothing can be locked: no."""
    lock = lock_on(folder / NAME)
    free = False
    with suppress(Timeout, OSError, NotImplementedError):
        lock.acquire(timeout=0)
        free = True
    try:
        yield free
    finally:
        if free:
            lock.release()
