"""A wall around a process on Linux (Landlock, from 5.13): the kernel itself refuses what the process, or any child, may not do.

For good, without rights of an administrator. Rules add up, and none takes away: a folder that is kept closed is left out, and all that lies
beside it is opened. The numbers are those of the kernel's `linux/landlock.h`; the call for them is the same on every processor.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446
VERSION, BENEATH, NO_NEW_PRIVILEGES = 1, 1, 38
EXECUTE, WRITE, READ, LIST, TRUNCATE, IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE | READ | TRUNCATE | IOCTL
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version knows; later ones as many as the last."""
BIND_AND_CONNECT, SIGNALS_AND_SOCKETS = 3, 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """The kernel's version of Landlock, 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(int(_libc().syscall(CREATE, None, 0, VERSION)), 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def open_paths(closed: Sequence[Path]) -> list[str]:
    """All paths below / that hold none of the `closed` ones, each as high up as can be."""

    def beside(folder: Path) -> Iterator[str]:
        for entry in _entries(folder):
            path = Path(entry.path)
            if path in places or entry.is_symlink():
                continue
            if any(place.is_relative_to(path) for place in places):
                yield from beside(path)
            else:
                yield entry.path

    places = {Path(os.path.realpath(path)) for path in closed}
    return list(beside(Path("/")))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:  # what cannot be listed stays closed
        return []


def restrict(readable: Sequence[str], writable: Sequence[str]) -> bool:
    """From now on this process and its children read and run what lies in `readable`, write in `writable`, list every folder, open no
    connection and signal nobody else. Returns whether the kernel can do it."""
    known = version()
    if not known:
        return False
    libc, files = _libc(), (1 << RIGHTS.get(known, 16)) - 1
    rules = _Ruleset(files, BIND_AND_CONNECT if known >= 4 else 0, SIGNALS_AND_SOCKETS if known >= 6 else 0)
    size = 8 if known < 4 else 16 if known < 6 else 24
    ruleset = libc.syscall(CREATE, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    _allow(libc, ruleset, "/", LIST & files)
    for path in readable:
        _allow(libc, ruleset, path, (EXECUTE | READ | LIST) & files)
    for path in writable:
        _allow(libc, ruleset, path, files)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done: int = libc.syscall(RESTRICT, ruleset, 0)
    os.close(ruleset)
    return done == 0


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """A path that is gone, or may not be opened, stays closed."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rights &= -1 if stat.S_ISDIR(os.fstat(handle).st_mode) else OF_FILES
    libc.syscall(ADD, ruleset, BENEATH, ctypes.byref(_Beneath(rights, handle)), 0)
    os.close(handle)
