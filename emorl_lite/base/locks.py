"""One process at a time in a folder. The system lets go of a lock however the process that has it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_writable, sweep, told
from emorl_lite.base.lock_file import lock_on

NAME = ".lock"
"""The file that is locked. It stays where anything else is: to remove it would let two processes lock two files of one name."""


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process is in here with the same folder: a second one says so, and waits. The folder is made.

    Whatever a killed process left half-written there is removed, and a folder that was made for this and in which an error left nothing.
    `what` is being done, for the message. Raises UserError for a folder that cannot be written or locked.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = _acquired(folder, what)
    try:
        sweep(folder)
        yield
    except BaseException:
        if sys.platform == "win32":  # there nobody can remove a file that is locked
            lock.release()
        with suppress(OSError):  # another process may have made use of them
            if made and all(path.name == NAME for path in folder.iterdir()):
                (folder / NAME).unlink()
                for place in made:
                    place.rmdir()
        raise
    finally:
        lock.release()


def _acquired(folder: Path, what: str) -> FileLock:
    """The lock of a folder, which is made."""
    while True:
        check_writable(folder)
        lock = lock_on(folder / NAME)
        try:
            with told(folder / NAME, "cannot be locked"), suppress(FileNotFoundError):
                _wait(lock, folder, what)
        except NotImplementedError as error:
            raise UserError(f"{folder}: the file system has no locks, and two processes there would spoil each other's work") from error
        if lock.is_locked and (folder / NAME).is_file():
            return lock
        lock.release()  # who had it before failed, and removed the folder that it had made


def _wait(lock: FileLock, folder: Path, what: str) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is {what} there; waiting for it (Ctrl-C stops this one)", file=sys.stderr, flush=True)
        lock.acquire()


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
