"""Notebooks for students: the committed ones, whole, with the solutions withheld or released, and links that work from anywhere."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from emorl_lite.base.errors import UserError
from emorl_lite.base.project import address
from emorl_lite.course.lessons import GOOD, Lesson, notebooks_folder, tags
from emorl_lite.tutorial.copies import facts_of, given, read_copies, refresh

Solutions = Literal["withheld", "released"]
LATER = "*The solution comes later.*"
"""In place of a solution, or of what a good answer says."""
LINK = re.compile(r"(\]\()(?!https?:|mailto:|attachment:|#)([^)\s]+)(\))")


def handout(lesson: Lesson, solutions: Solutions, beside: Collection[str] = ()) -> Any:
    """A lesson's notebook for students. Its cells keep their ids. `beside`: files of notebooks that lie beside it, linked to as such."""
    book = copy.deepcopy(lesson.book)
    for cell in book.cells:
        if solutions == "withheld":
            _withhold(cell)
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda link: link[1] + _absolute(link[2], beside) + link[3], cell.source)
    return given(book, solutions=solutions, made_for="students")


def _withhold(cell: Any) -> None:
    """Take out what an instructor may want to hand out later, the link to the page that has it too."""
    if "solution" in tags(cell):
        cell.source = LATER
    elif "open-question" in tags(cell):
        cell.source = GOOD.sub(LATER, cell.source)
    elif cell.cell_type == "markdown":
        cell.source = re.sub(r"^\[!\[Open in Colab\].*\n+", "", cell.source)


def _absolute(link: str, beside: Collection[str]) -> str:
    """A link from the folder of the notebooks, as one into the repository."""
    path = Path("notebooks") / link.partition("#")[0]
    if path.name in beside:
        return link
    parts: list[str] = []
    for part in path.parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join([address(), "blob/main", *parts]) + link[len(link.partition("#")[0]) :]


def update(folder: Path, lessons: Sequence[Lesson], solutions: Solutions | Literal[""] = "") -> list[str]:
    """Bring started notebooks up to date. Returns a line for each that changed. `solutions`: by default as each copy has them.

    Raises UserError, before anything is written, for a file that is no notebook, and for a notebook of a course's assignments, whose
    solutions the whole notebook would give away.
    """
    there, unread = read_copies(folder, [f"{lesson.name}.ipynb" for lesson in lessons])
    for reason in unread.values():
        raise UserError(f"{reason}; move it away, or choose others by --notebooks")
    books = {}
    beside = {path.name for path in folder.glob("*.ipynb")}
    for lesson in lessons:
        name = f"{lesson.name}.ipynb"
        if (started := there.get(name)) is None:
            continue
        if any({"nbgrader", "otter"} & set(cell.metadata) for cell in started.cells):
            raise UserError(f"{folder / name}: an assignment for grading, not a copy of the notebook; hand it out anew")
        if (folder / name).samefile(notebooks_folder() / name):
            raise UserError(f"{folder / name}: a link to the repository's own, which `git pull` brings up to date")
        facts = facts_of(started)
        had: Solutions = "withheld" if facts.get("solutions") == "withheld" else "released"
        if facts.get("made_for") == "students":
            books[name] = handout(lesson, solutions or had, beside)
        else:
            books[name] = given(_plain(lesson, solutions or had), solutions=solutions or had, made_for="a reader")
    return refresh(folder, books, there)


def _plain(lesson: Lesson, solutions: Solutions) -> Any:
    book = copy.deepcopy(lesson.book)
    for cell in book.cells if solutions == "withheld" else ():
        _withhold(cell)
    return book
