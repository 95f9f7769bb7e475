"""How a command ends that cannot go on: one line, an exit status, and for what nobody foresaw a file with the whole report."""

from __future__ import annotations

import errno
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

from emorl_lite.base.errors import UserError

USER, UNFORESEEN, INTERRUPTED, TERMINATED, NO_READER = 2, 1, 130, 143, 141
"""Exit statuses: a mistake in what was given, a fault of the program, Ctrl-C, SIGTERM, and output that nobody reads any more."""
PROGRAM = "python -m emorl_lite"
REPORTED = ("emorl_lite", "torch", "transformers", "peft", "numpy", "pandas", "tokenizers", "safetensors", "tyro")
"""Packages whose versions stand in a report."""
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE)
"""What the system says of a write without naming the file. Whatever else has no name, a connection say, is no file's fault."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "bad_alloc", "std::bad_alloc")
"""What libraries say that raise no MemoryError."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever ends well on Ctrl-C ends well on it."""


@contextmanager
def termination_told() -> Iterator[None]:
    """Inside, SIGTERM is an exception, so that children are ended, locks released and files closed. In the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tell(error: BaseException, command: Sequence[str], program: str = PROGRAM) -> int:
    """Say in one line on stderr why a command ended. Returns its exit status."""
    if isinstance(error, BrokenPipeError):  # `| head`: nobody reads, so nothing is said, not even when Python closes its output
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return NO_READER
    line, status = why(error)
    if status == UNFORESEEN:
        line += f"; full report: {write_report(error, command, program)}"
    print(line, file=sys.stderr, flush=True)
    return status


def why(error: BaseException) -> tuple[str, int]:
    """The line and the exit status for an error."""
    if isinstance(error, KeyboardInterrupt):
        status = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        return str(error) or "stopped: the same command goes on from the last checkpoint", status
    if isinstance(error, UserError):
        return f"error: {one_line(error)}", USER
    if any(is_of_memory(cause) for cause in causes(error)):
        return "error: out of memory: ask for smaller batches or fewer prompts, or give this process more", USER
    if isinstance(error, OSError) and error.strerror and (error.filename or error.errno in OF_DISKS):
        place = error.filename2 or error.filename
        place = os.fsdecode(place) if isinstance(place, str | bytes) else "a file"
        return f"error: {one_line(place)}: {error.strerror}", USER
    return f"error: {type(error).__name__}: {one_line(error)}", UNFORESEEN


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def is_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory."""
    return isinstance(error, MemoryError) or (not isinstance(error, UserError) and any(x in str(error).lower() for x in OUT_OF_MEMORY))


def one_line(error: BaseException | str, longest: int = 600) -> str:
    """A message without line breaks and control characters, cut at `longest` characters."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or "no reason given"
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def first_line(error: BaseException, longest: int = 160) -> str:
    """The first line of an error's message, or its type if it has none."""
    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__, longest)


def write_report(error: BaseException, command: Sequence[str], program: str = PROGRAM) -> str:
    """Write everything that helps to find a fault into a new file of the temporary folder. Returns its place."""
    lines = [f"command: {' '.join([program, *command])}", f"folder: {os.getcwd()}"]
    lines += [f"Python {platform.python_version()} on {platform.platform()}", *(f"{name} {_version(name)}" for name in REPORTED), ""]
    try:
        number, place = tempfile.mkstemp(prefix="emorl_lite-report-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(lines) + "\n" + "".join(traceback.format_exception(error)))
    except OSError as failed:
        return f"could not be written ({failed.strerror})"
    return place


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
