"""Google Colab: install what the tutorial lacks there, and never touch its torch, numpy or pandas.

Replacing one of those three under a running kernel breaks it until it is restarted. Their installed versions are given to pip as
constraints: it installs the rest around them, or says that it cannot.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.project import address, project

PROTECTED = ("torch", "numpy", "pandas")
"""Installed versions of these stay."""
BOOTSTRAP = """# @title On Colab: fetch the package and add what is missing (elsewhere this does nothing)
import os
import sys

if "google.colab" in sys.modules and not os.path.exists("../emorl_lite"):
    !git clone -q --depth 1 {repository} emorl_lite
    %cd -q emorl_lite/notebooks
    sys.path.insert(0, os.path.abspath(".."))
    from emorl_lite.tutorial.colab import set_up

    set_up()
"""
"""Every notebook's first code cell; `{repository}` is the address in pyproject.toml."""
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"
"""First line of every notebook."""


def repository() -> str:
    """The repository's address: `emorl_lite.base.project` knows it."""
    return address()


def badge(notebook: str, at: str | None = None) -> str:
    """The badge of a notebook file, linked to it on Colab. `at`: the repository's address, if not the known one."""
    path = (at or address()).removeprefix("https://github.com/")
    return BADGE.format(link=f"https://colab.research.google.com/github/{path}/blob/main/notebooks/{notebook}")


def missing(extras: Sequence[str] = ("methods",)) -> list[str]:
    """Requirements of the package (and of these extras) that are not installed, or not in a version that will do."""
    from packaging.requirements import Requirement

    project_metadata = project()
    requirements = [
        *project_metadata["dependencies"],
        *(line for extra in extras for line in project_metadata["optional-dependencies"][extra]),
    ]
    lacking = []
    for line in dict.fromkeys(requirements):
        requirement = Requirement(line)
        try:
            if requirement.specifier.contains(version(requirement.name), prereleases=True):
                continue
        except PackageNotFoundError:
            pass
        if requirement.name in PROTECTED:
            raise UserError(f"{line} is needed, and this runtime's {requirement.name} is another: choose a newer runtime version")
        lacking.append(line)
    return lacking


def set_up(extras: Sequence[str] = ("methods",)) -> list[str]:
    """Install what is missing, with the protected packages held where they are. Returns what was installed.

    Raises UserError, with pip's last line, if that cannot be.
    """
    lacking = missing(extras)
    if lacking:
        with tempfile.TemporaryDirectory() as scratch:
            constraints = Path(scratch) / "held.txt"
            constraints.write_text("".join(f"{name}=={version(name)}\n" for name in PROTECTED), encoding="utf-8")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints), *lacking]
            completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise UserError(
                f"could not install {', '.join(lacking)}: {(completed.stderr.strip().splitlines() or ['pip gave no reason'])[-1]}"
            )
    return lacking
