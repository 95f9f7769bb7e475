"""How a command, a script or a benchmark begins and ends: what was typed is read, a mistake is one line and status 2.

Any other failure is one line, too, with the place of a full report (`base.failures`).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import PROGRAM, USER, one_line, tell, termination_told

T = TypeVar("T")


def ended(work: Callable[[], int | None], command: Sequence[str], program: str = PROGRAM) -> int:
    """Do the work of a command, told in one line on stderr if it fails. Returns its exit status.

    `command`: as typed after `program`, for the report of what nobody foresaw.
    """
    try:
        with termination_told():
            status = work() or 0
            sys.stdout.flush()  # here, where a reader that is gone can be told from a fault
            return status
    except (Exception, KeyboardInterrupt) as error:
        return tell(error, command, program)


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """End this process with the status of a script's `main`, which reads its own options; argparse's mistakes are one line, too."""
    argparse.ArgumentParser.error = _refuse  # type: ignore[assignment, method-assign]
    sys.exit(ended(main, sys.argv[1:], f"python {Path(sys.argv[0]).name}"))


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise UserError(f"{message} (--help lists the options)")


def typed(kind: type[T], description: str | None = None) -> T:
    """A script's options, a dataclass, as typed. Raises UserError for what cannot be read; --help ends the script."""
    return in_one_line(lambda: tyro.cli(kind, description=description), sys.argv[1:])


def in_one_line(parsed: Callable[[], T], argv: Sequence[str]) -> T:
    """What tyro parses. Its box around a mistake becomes a UserError of one line; help stays as it is."""
    box, columns = StringIO(), os.environ.get("COLUMNS")
    try:
        if not {"-h", "--help"} & set(argv):
            os.environ["COLUMNS"] = "100000"  # no message is broken into lines
        with redirect_stderr(box):
            return parsed()
    except SystemExit as stop:
        if stop.code != USER:
            raise
        raise UserError(_in_box(box.getvalue())) from None
    finally:
        os.environ.pop("COLUMNS", None) if columns is None else os.environ.update(COLUMNS=columns)


def _in_box(box: str) -> str:
    """The first thing that tyro's box says: it has a title, a border, and rules between what it says."""
    said: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        if text.strip("─-╰╯"):
            said.append(text)
        elif said:
            break
    return re.sub(r"^Error parsing \S+: (?=--)", "", one_line("\n".join(said)))  # ours names its option
