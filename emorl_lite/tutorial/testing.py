"""The `test` command: lint, tests, notebooks, on every system the same."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, checked
from emorl_lite.tutorial.setting_up import repository, run

Part = Literal["lint", "tests", "notebooks"]
LINT = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("lint-imports", "--no-logo"))
"""What the code is read by: programs of the same environment."""


@dataclass
class Test:
    """Lint, type check, every test, then every notebook."""

    __test__ = False  # not one of pytest's

    quick: bool = False
    """No slow tests and no notebooks: a minute or two."""
    parts: tuple[Part, ...] = ()
    """Some of it alone, of lint, tests, notebooks."""
    workers: int = 2
    """Test processes at once."""
    marker: str = ""
    """Only tests with such marks, in pytest's words: "not plain"."""


def commands(wanted: Test) -> list[list[str]]:
    """What to run, one after another; of notebooks, with a folder of runs of their own. Raises UserError for options that do not fit."""
    checked(wanted.workers, int, [Within(1, 1000)], f"--workers {wanted.workers}")
    if wanted.quick and "notebooks" in wanted.parts:
        raise UserError("--quick: leaves notebooks out, and --parts asks for them")
    if any(find_spec(name) is None for name in ("pytest", "xdist", "nbmake")):
        raise UserError("the tests' packages are not installed here: `python -m emorl_lite setup --extras dev` adds them")
    parts = wanted.parts or (("lint", "tests") if wanted.quick else get_args(Part))
    python = sys.executable
    pytest = [python, "-m", "pytest", "-n", str(wanted.workers)]
    marks = " and ".join(f"({mark})" for mark in (wanted.marker, "not slow" if wanted.quick else "") if mark)
    made: list[list[str]] = []
    if "lint" in parts:
        made += [[_beside(python, name), *options] for name, *options in LINT]
    if "tests" in parts:  # a file stays with one worker, so that what its tests share is trained once
        made += [[*pytest, "--dist", "loadfile", *(["-m", marks] if marks else [])]]
    if "notebooks" in parts:
        books = [str(path) for path in sorted((repository() / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
        made += [[*pytest, "--dist", "worksteal", "--timeout=0", "--nbmake", "--nbmake-timeout=900", *books]]
    return made


def run_tests(wanted: Test) -> int:
    """Run them in order, until one fails. Returns its exit status."""
    todo = commands(wanted)
    os.chdir(repository())
    for command in todo:
        if "--nbmake" not in command:
            status = run(command)
        else:  # from nothing: in a folder of runs that goes when they are through. They need nothing from the hub.
            with tempfile.TemporaryDirectory() as runs:
                status = run(command, HF_HUB_OFFLINE="1", EMORL_RUNS=runs)
        if status:
            print(f"failed: {_told(command)}", file=sys.stderr, flush=True)
            return 1
    return 0


def _beside(python: str, name: str) -> str:
    """A program that pip put beside an interpreter."""
    folder = Path(python).parent
    found = [path for path in (folder / name, folder / f"{name}.exe") if path.is_file()]
    if not found:
        raise UserError(f"{name} is not installed here: `python -m emorl_lite setup --extras dev` adds it")
    return str(found[0])


def _told(command: Sequence[str]) -> str:
    """A command as one would type it, without its folder."""
    return " ".join([Path(command[0]).name, *command[1:6]])
