"""What a process may not do that runs somebody's answers: write outside its folder, read what is closed, start processes, use a network.

Three fences, one behind the other: hooks that Python calls before it acts, on every system, which also tell what was tried; limits of
memory, time and size of files, where the system has them; and on Linux the kernel's own (`landlock`). The first alone stops accidents and
the curious, and not who sets out to break Python itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.course.landlock import restrict

LARGEST_FILE = 64 * 2**20
"""Bytes of a file that an answer writes."""
WRITES, READS, PROCESSES, NETWORK, SIGNALS, INPUT = (
    "tried to write outside its folder",
    "tried to read what is the instructor's",
    "tried to start a process",
    "tried to use the network",
    "tried to end another process",
    "asks for input(), and nobody is there",
)
"""What was tried, in words."""
ALL_TRIED = (WRITES, READS, PROCESSES, NETWORK, SIGNALS, INPUT)
_CHANGES = {
    **{f"os.{name}": 1 for name in ("remove", "mkdir", "rmdir", "truncate", "chmod", "chown", "utime", "lchown", "setxattr", "chflags")},
    **{f"os.{name}": 2 for name in ("rename", "link", "symlink")},
}
"""Events that change files, and how many of their arguments are paths."""
_OTHERS = {
    **dict.fromkeys(("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile"), PROCESSES),
    **dict.fromkeys(("subprocess.Popen", "_winapi.CreateProcess", "pty.spawn"), PROCESSES),
    **dict.fromkeys(("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"), NETWORK),
    **dict.fromkeys(("os.kill", "os.killpg"), SIGNALS),
    "builtins.input": INPUT,
}
_FONTS = ("fc-list", "system_profiler")
"""Commands that matplotlib asks for fonts as it is imported, and does without: refused, and nothing that an answer tried."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Fence:
    """`folder`: where a process may write. `closed`: files and folders that it may not read. `readable`: for the kernel, all that it may
    (`landlock.open_paths`). `memory`: bytes more than it has at the start. `cpu`: seconds."""

    folder: str
    closed: tuple[str, ...]
    readable: tuple[str, ...]
    memory: int
    cpu: int


def put_up(fence: Fence, tried: Callable[[str], None]) -> None:
    """Fence this process in, for good. `tried` is told what it tries all the same, one of `ALL_TRIED`."""
    _limit(fence)
    restrict([*fence.readable, "/dev/urandom", "/dev/zero"], [fence.folder, "/dev/null"])
    sys.addaudithook(_hook(fence, tried))


def _limit(fence: Fence) -> None:
    if os.name != "posix":
        return
    import resource

    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: LARGEST_FILE, resource.RLIMIT_CPU: fence.cpu}
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits[resource.RLIMIT_AS] = pages * os.sysconf("SC_PAGE_SIZE") + fence.memory
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def _hook(fence: Fence, tried: Callable[[str], None]) -> Callable[[str, tuple[Any, ...]], None]:
    own = _roots([fence.folder, os.devnull])
    closed = _roots(fence.closed)

    def refuse(what: str) -> None:
        tried(what)
        raise EOFError if what == INPUT else PermissionError(what)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and arguments[0] in _FONTS:
            raise PermissionError(PROCESSES)
        if event in _OTHERS:
            refuse(_OTHERS[event])
        for value, writes in _files(event, arguments):
            path = _path(value)
            if path is not None and not _within(path, own):
                if writes:
                    refuse(WRITES)
                if _within(path, closed):
                    refuse(READS)

    return hook


def _files(event: str, arguments: tuple[Any, ...]) -> Iterator[tuple[Any, bool]]:
    """The files of an event, and whether it changes them."""
    if event == "open":
        yield arguments[0], bool((arguments[2] or 0) & _WRITING)
    elif event in _CHANGES:
        yield from ((value, True) for value in arguments[: _CHANGES[event]])
    elif event in ("os.listdir", "os.scandir"):
        yield arguments[0], False


def _path(value: Any) -> str | None:
    """Where a file lies; None for one that is open already."""
    if isinstance(value, (str, bytes, os.PathLike)):
        with contextlib.suppress(ValueError, OSError):
            return os.path.normcase(os.path.realpath(os.fsdecode(value)))
    return None


def without_closed(paths: Sequence[str], closed: Sequence[str]) -> list[str]:
    """Those of some paths that are not closed: where modules are looked for, without being told of a try to read."""
    roots = _roots(closed)
    return [path for path in paths if not _within(os.path.normcase(os.path.realpath(path)), roots)]


def _roots(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(os.path.normcase(os.path.realpath(path)) for path in paths)


def _within(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + os.sep) for root in roots)
