"""The `lab` command: copies of the notebooks, one's own to change, opened in JupyterLab.

The copies lie in `my_notebooks/`, which git ignores: the committed notebooks stay as they are, and an update conflicts with nothing. That
folder is beside `notebooks/` and the server's root is the repository, so every link of a notebook leads to the same place from its copy.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.tutorial.setting_up import repository, run

COPIES = "my_notebooks"
"""Beside `notebooks/`, and ignored by git."""


@dataclass
class Lab:
    """Open copies of the notebooks, in my_notebooks/, in JupyterLab."""

    copy: bool = False
    """Make the copies that are missing, and open nothing."""
    port: int = 8888
    """JupyterLab's port; the next free one if it is taken."""
    browser: bool = True
    """Open a browser. Without one, JupyterLab prints the address."""
    everywhere: bool = False
    """Answer other machines too: in a container, whose own address is not the reader's."""


def copy_notebooks(root: Path) -> tuple[Path, list[str]]:
    """Copy every notebook that has no copy yet. Returns the folder, and the names of those that were copied."""
    folder = root / COPIES
    folder.mkdir(exist_ok=True)
    made = []
    for book in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if not (folder / book.name).exists():
            shutil.copyfile(book, folder / book.name)
            made.append(book.name)
    return folder, made


def server_command(root: Path, wanted: Lab) -> list[str]:
    """JupyterLab of this interpreter, rooted at the repository, open at the first copy."""
    first = min((root / COPIES).glob("*.ipynb")).name
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{COPIES}/{first}"]
    command += [f"--ServerApp.port={wanted.port}"]
    command += [] if wanted.browser else ["--no-browser"]
    return command + (["--ServerApp.ip=0.0.0.0"] if wanted.everywhere else [])


def run_lab(wanted: Lab) -> int:
    """Make missing copies and open JupyterLab. Returns its exit status. Raises UserError where it is not installed."""
    root = repository()
    if not wanted.copy and find_spec("jupyterlab") is None:
        raise UserError("JupyterLab is not installed here: `python -m emorl_lite setup` makes .venv with it")
    folder, made = copy_notebooks(root)
    if made:
        print(f"{len(made)} notebook{'s' if len(made) > 1 else ''} copied to {folder.name}/, yours to change", flush=True)
    return 0 if wanted.copy else run(server_command(root, wanted))
