"""Write the repository's address everywhere it stands: `python scripts/set_repository.py [https://github.com/OWNER/NAME]`.

It is said once, in pyproject.toml ([project.urls]). This writes it there, if one is given, and then from there into the badge and the
bootstrap cell of every notebook, CITATION.cff and the README. Outputs of executed notebooks stay as they are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.tutorial.colab import badge, bootstrap, repository

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
BADGE_LINE = re.compile(r"^\[!\[Open in Colab\].*\n+", re.MULTILINE)


def write_notebook(path: Path, address: str) -> None:
    """The badge above the title, and the bootstrap cell below it."""
    notebook = nbformat.read(path, as_version=4)
    title = notebook.cells[0]
    title.source = badge(path.name, address) + "\n\n" + BADGE_LINE.sub("", title.source)
    source = bootstrap(address)
    if notebook.cells[1].cell_type == "code" and "google.colab" in notebook.cells[1].source:
        notebook.cells[1].source = source
    else:
        cell = nbformat.v4.new_code_cell(source, id=f"{path.name[:2]}-colab", metadata={"tags": ["colab", "hide-input"]})
        notebook.cells.insert(1, cell)
    nbformat.write(notebook, path)


def replace_line(path: Path, pattern: str, line: str) -> None:
    """Put a line in the place of the one that matches; it must be there."""
    text = path.read_text(encoding="utf-8")
    new_text, n = re.subn(pattern, lambda _: line, text, flags=re.MULTILINE)
    if n != 1:
        raise UserError(f"{path.name}: expected one line like {pattern!r}, found {n}")
    path.write_text(new_text, encoding="utf-8")


def main() -> None:
    """Write it everywhere."""
    if sys.argv[1:]:
        if not ADDRESS.fullmatch(sys.argv[1]):
            raise UserError(f"{sys.argv[1]!r}: expected https://github.com/OWNER/NAME")
        replace_line(ROOT / "pyproject.toml", r"^Repository = .*$", f'Repository = "{sys.argv[1]}"')
    address = repository()
    replace_line(ROOT / "CITATION.cff", r"^repository-code: .*$", f'repository-code: "{address}"')
    replace_line(ROOT / "README.md", r"^\[!\[Open in Colab\].*$", badge("00_task_and_tour.ipynb", address))
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        write_notebook(path, address)
    print(address)


if __name__ == "__main__":
    run_script(main)
