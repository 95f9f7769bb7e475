"""The committed notebooks as an instructor sees them: lessons with questions, each with its points, its cells and its answer.

The tags of the cells say what is what: `exercise` (the stub; the task stands before it), `solution`, `check`, and `open-question`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import repository_root
from emorl_lite.base.project import in_repository

HEAD = re.compile(r"### (?:Exercise|Open question) (\d+)\.(\d+) · (\S.*)\n\n?\*difficulty ([●○]+) · (\d+) min\*\n")
"""The first lines of a task: number, title, dots of difficulty, minutes."""
GOOD = re.compile(r"<details>\s*<summary>What a good answer says</summary>\n\n(.+?)\n*</details>", re.S)
SOLVED = re.compile(r"```python\n(.*?)```", re.S)


@dataclass(frozen=True)
class Question:
    """An exercise that a check grades, or an open question that a person grades.

    `name`: "02.3". `points`: one for each dot of difficulty, or what an instructor gives. `task`: its markdown cell. `stub`, `check`: its
    code cells, and `solution`: its solution's cell; None for an open question. `answer`: the solution's code, or what a good answer says.
    `called`: what the check cell calls the answer, "" for an open question.
    """

    name: str
    title: str
    points: float
    minutes: int
    task: Any
    answer: str
    stub: Any = None
    solution: Any = None
    check: Any = None
    called: str = ""

    @property
    def is_open(self) -> bool:
        """Whether a person grades it."""
        return self.stub is None


@dataclass(frozen=True)
class Lesson:
    """A notebook: its number "02", its file's name without the ending, its title, all its cells, and its questions in order."""

    number: str
    name: str
    title: str
    book: Any
    questions: tuple[Question, ...]


def lessons(numbers: Sequence[str] = ()) -> list[Lesson]:
    """The committed notebooks of these numbers, in order; all of them by default. Raises UserError for a number that there is not."""
    paths = {path.name[:2]: path for path in sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        raise UserError(f"{notebooks_folder()}: no notebooks there: `git restore notebooks` brings them back")
    for number in numbers:
        if number not in paths:
            raise UserError(f"--notebooks {number}: no notebook of the course ({', '.join(paths)})")
    return [read_lesson(path) for number, path in paths.items() if not numbers or number in numbers]


def notebooks_folder() -> Path:
    """Where the committed notebooks lie. Raises UserError where the package is installed without them."""
    root = repository_root()
    if root is None:
        raise UserError(in_repository("the notebooks"))
    return root / "notebooks"


def read_lesson(path: Path) -> Lesson:
    """A notebook of the course from its file. Raises UserError for a file that is none, or a question that is not whole."""
    from emorl_lite.tutorial.execution import read_notebook

    book = read_notebook(path)
    title = re.search(r"^# (.+)$", book.cells[0].source if book.cells else "", re.M)
    return Lesson(path.name[:2], path.stem, title[1] if title else path.stem, book, tuple(_questions(path, book.cells)))


def tags(cell: Any) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def _questions(path: Path, cells: Sequence[Any]) -> list[Question]:
    found = []
    for i, cell in enumerate(cells):
        if "exercise" in tags(cell):
            found.append(_exercise(path, *cells[max(i - 1, 0) : i + 3]))
        elif "open-question" in tags(cell):
            good = GOOD.search(cell.source)
            found.append(Question(*_head(path, cell), task=cell, answer=good[1] if good else ""))
    return found


def _exercise(path: Path, task: Any, stub: Any, solution: Any = None, check: Any = None) -> Question:
    head = _head(path, task)
    code = SOLVED.search(solution.source) if solution is not None and "solution" in tags(solution) else None
    called = re.search(r'check\("([\d.]+)", (\w+)\)', check.source) if check is not None and "check" in tags(check) else None
    if code is None or called is None or called[1] != head[0]:
        raise UserError(f"{path.name}, exercise {head[0]}: its stub is not followed by its solution and its check")
    return Question(*head, task=task, answer=code[1], stub=stub, solution=solution, check=check, called=called[2])


def _head(path: Path, task: Any) -> tuple[str, str, int, int]:
    """Name, title, points and minutes."""
    head = HEAD.match(task.source)
    if head is None:
        raise UserError(f"{path.name}, cell {task.get('id')}: expected a question's title and its line of difficulty")
    return f"{int(head[1]):02}.{head[2]}", head[3].strip(), max(head[4].count("●"), 1), int(head[5])
