"""The `lab` command: copies of the notebooks, one's own to change, brought up to date and opened in JupyterLab.

The copies lie in `my_notebooks/`, which git ignores: the committed notebooks stay as they are, and an update conflicts with nothing. That
folder is beside `notebooks/` and the server's root is the repository, so every link of a notebook leads to the same place from its copy.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.ranges import Options, Within
from emorl_lite.tutorial.setting_up import repository, run

COPIES = "my_notebooks"
"""Beside `notebooks/`, and ignored by git."""


@dataclass
class Lab(Options):
    """Open copies of the notebooks, in my_notebooks/, in JupyterLab."""

    copy: bool = False
    """Make the copies that are missing, bring the others up to date, and open nothing."""
    port: Annotated[int, Within(0, 65_535)] = 8888
    """JupyterLab's port; the next free one if it is taken."""
    browser: bool = True
    """Open a browser. Without one, JupyterLab prints the address."""
    everywhere: bool = False
    """Answer other machines too: in a container, whose own address is not the reader's."""


def copy_notebooks(root: Path) -> list[str]:
    """Copy the notebooks that have no copy yet, and bring the others up to date, all that a reader wrote kept. Returns what happened, in
    lines; a copy that cannot be read is left as it is, and stops none of the others. Raises UserError where there are no notebooks, or
    no folder can be."""
    from emorl_lite.tutorial.copies import given, read_copies, refresh
    from emorl_lite.tutorial.execution import read_notebook

    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise UserError(f"{root / 'notebooks'}: no notebooks there: `git restore notebooks` brings them back")
    copies = check_folder(str(root / COPIES), "copies in")
    books = {path.name: given(read_notebook(path), solutions="released", made_for="a reader") for path in paths}
    there, unread = read_copies(copies, books)
    fresh = [name for name in books if name not in {*there, *unread}]
    handed = [name for name in there if _withheld(there[name])]  # a course's own: its solutions come when the course gives them
    linked = [path.name for path in paths if path.name in there and path.samefile(copies / path.name)]
    how = f"`python -m emorl_lite course --update {COPIES}` brings it up to date"
    lines = [f"{name}: handed out by a course, left as it is ({how})" for name in handed]
    lines += [f"{name}: cannot be read: move it away, and it is copied anew" for name in unread]
    lines += [f"{name}: a link to the repository's own, left as it is: move it away, and it is copied" for name in linked]
    todo = {name: book for name, book in books.items() if name not in {*handed, *unread, *linked}}
    lines += [line for line in refresh(copies, todo, there, missing=True) if line.partition(":")[0] not in fresh]
    return lines + ([f"{len(fresh)} notebook{'s' if len(fresh) > 1 else ''} copied to {COPIES}/, yours to change"] if fresh else [])


def _withheld(book: Any) -> bool:
    """Whether a copy is a course's handout, or has its solutions withheld."""
    from emorl_lite.tutorial.copies import facts_of

    facts = facts_of(book)
    return facts.get("made_for") == "students" or facts.get("solutions") == "withheld"


def server_command(root: Path, wanted: Lab) -> list[str]:
    """JupyterLab of this interpreter, rooted at the repository, open at the first copy."""
    first = min((root / "notebooks").glob("[0-9][0-9]_*.ipynb")).name  # a reader's own may have names that no address can
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{COPIES}/{first}"]
    command += [f"--ServerApp.port={wanted.port}"]
    command += [] if wanted.browser else ["--no-browser"]
    return command + (["--ServerApp.ip=0.0.0.0"] if wanted.everywhere else [])


def run_lab(wanted: Lab) -> int:
    """Make the copies, or bring them up to date, and open JupyterLab. Returns its exit status. Raises UserError without it."""
    root = repository()
    if not wanted.copy and find_spec("jupyterlab") is None:
        raise UserError("JupyterLab is not installed here: `python -m emorl_lite setup` makes .venv with it")
    for line in copy_notebooks(root):
        print(line, flush=True)
    return 0 if wanted.copy else run(server_command(root, wanted))
