"""Submissions as they come: a file or a folder for each student, notebooks under any name, whole or not, of any kernel.

Which notebook a file is, and which cell an answer, is told by its cells: marks of nbgrader, ids, the checks that stand behind them, and at
last the names that cells define. Names of files, outputs, and whatever else a student changed count for nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.course.assignments import answer_id
from emorl_lite.course.lessons import Lesson, Question

LARGEST = 64 * 2**20
"""Bytes of a notebook that is read; larger ones hold outputs that nobody meant to hand in."""
LONGEST = 100_000
"""Characters of an answer."""
MOST_FILES = 200
"""Notebooks of one student that are looked at."""


@dataclass(frozen=True)
class Cell:
    """`ids`: nbgrader's mark first, then the cell's own."""

    code: bool
    source: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A student's notebook of one lesson. `answers`: what was found, by the question's name. `path`: of the file."""

    path: Path
    lesson: Lesson
    answers: dict[str, str]


@dataclass(frozen=True)
class Student:
    """`submissions`: by the lesson's number. `unread`: what is wrong with files of which nothing can be graded."""

    name: str
    submissions: dict[str, Submission]
    unread: tuple[str, ...] = ()


def read_students(folder: Path, lessons: Sequence[Lesson]) -> list[Student]:
    """All students of a folder, by name. Raises UserError for a folder that is none, or holds no submissions."""
    if not folder.is_dir():
        raise UserError(f"--submissions {folder}: no folder")
    files: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            files.setdefault(entry.name, []).extend(_notebooks(entry))
        elif entry.suffix == ".ipynb":
            files.setdefault(entry.stem, []).append(entry)
    if not files:
        raise UserError(f"--submissions {folder}: no submissions in it, neither notebooks nor a folder a student")
    return [_student(name, paths, folder, lessons) for name, paths in sorted(files.items())]


def _notebooks(folder: Path) -> Iterator[Path]:
    """Notebooks in a student's folder and below, oldest first. Links are not followed: they could lead to others' files."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if name.endswith(".ipynb") and not Path(place, name).is_symlink()]
    yield from sorted(found, key=lambda path: (path.lstat().st_mtime, str(path)))[-MOST_FILES:]


def _student(name: str, paths: Sequence[Path], folder: Path, lessons: Sequence[Lesson]) -> Student:
    submissions, unread = dict[str, Submission](), []
    for path in paths:
        where = path.relative_to(folder)
        try:
            found = _submission(path, read_cells(path), lessons)
        except UserError as problem:
            unread.append(f"{where}: {problem}")
            continue
        if found is None:
            unread.append(f"{where}: no exercise of the course in it")
        else:
            before = submissions.get(found.lesson.number)
            if before is None or len(found.answers) >= len(before.answers):  # of two, the fuller, then the newer
                submissions[found.lesson.number] = found
    return Student(name, submissions, tuple(unread))


def read_cells(path: Path) -> list[Cell]:
    """The cells of a notebook, of old formats too, whatever else is in the file. Raises UserError for a file that is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"larger than {LARGEST // 2**20} MB")
        book = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError("no notebook: not UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"no notebook: cut off, or no JSON ({one_line(str(error), 80)})") from error
    sheets = book.get("worksheets") if isinstance(book, dict) else None
    cells = book.get("cells") if isinstance(book, dict) else None
    if cells is None and isinstance(sheets, list):  # nbformat 3
        cells = [cell for sheet in sheets if isinstance(sheet, dict) for cell in _listed(sheet.get("cells"))]
    if not isinstance(cells, list):
        raise UserError("no notebook: it has no cells")
    return [_cell(cell) for cell in cells if isinstance(cell, dict)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _cell(cell: dict[str, Any]) -> Cell:
    source = cell.get("source", cell.get("input", ""))
    text = "".join(part for part in source if isinstance(part, str)) if isinstance(source, list) else source
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    marks = metadata.get("nbgrader")
    ids = [marks.get("grade_id") if isinstance(marks, dict) else None, cell.get("id"), metadata.get("id")]
    kept = tuple(str(value) for value in ids if isinstance(value, (str, int)))
    return Cell(cell.get("cell_type") == "code", text if isinstance(text, str) else "", kept)


# -- which lesson, and which cell is which answer


def _submission(path: Path, cells: Sequence[Cell], lessons: Sequence[Lesson]) -> Submission | None:
    """The lesson of which a notebook has most, first by its ids and checks, then by names that it defines."""
    best = max(lessons, key=lambda lesson: _marks(cells, lesson))
    if _marks(cells, best) == (0, 0):
        return None
    return Submission(path, best, {q.name: answer for q in best.questions if (answer := answer_in(cells, q, best)) is not None})


def _marks(cells: Sequence[Cell], lesson: Lesson) -> tuple[int, int]:
    ids = {q.stub.id for q in lesson.questions if not q.is_open} | {q.task.id for q in lesson.questions}
    sure = sum(bool(ids & set(cell.ids)) or bool(re.search(rf'check\(\s*["\']{lesson.number}\.\d', cell.source)) for cell in cells)
    named = [q for q in lesson.questions if not q.is_open and any(cell.code and defines(cell.source, q.called) for cell in cells)]
    return sure, 0 if sure else len(named)


def defines(source: str, name: str) -> bool:
    """Whether a cell seems to make a name: told by its text, which nothing can go wrong with."""
    return re.search(rf"^(?:(?:async )?def|class) {name}\b|^{name}\b[^=\n(]*=(?!=)", source, re.M) is not None


def answer_in(cells: Sequence[Cell], question: Question, lesson: Lesson) -> str | None:
    """A student's answer to a question: the source of its cell. None where the cell is not there any more."""
    return _open_answer(cells, question, lesson) if question.is_open else _code_answer(cells, question, lesson)


def _code_answer(cells: Sequence[Cell], question: Question, lesson: Lesson) -> str | None:
    """The cell that has the stub's mark, unless it is still the stub and another before the check defines the answer."""
    of_lesson = {_bare(cell.source) for cell in lesson.book.cells}
    own = [i for i, cell in enumerate(cells) if cell.code and question.stub.id in cell.ids]
    checks = [i for i, cell in enumerate(cells) if re.search(rf'check\(\s*["\']{re.escape(question.name)}["\']', cell.source)]
    defining = [i for i, cell in enumerate(cells) if cell.code and defines(cell.source, question.called)]
    written = [i for i in defining if _bare(cells[i].source) not in of_lesson]
    if checks:  # names that later cells use otherwise are no answers; a check's own cell may hold the answer
        written = [i for i in written if i <= checks[-1]] or written
    marked = [i for i in own if i in defining and _bare(cells[i].source) != _bare(question.stub.source)]
    chosen = marked[-1:] or written[-1:] or own[-1:]
    return cells[chosen[0]].source if chosen else None


def _open_answer(cells: Sequence[Cell], question: Question, lesson: Lesson) -> str | None:
    """What stands in the answer's own cell; else what the student wrote below the task, in its cell or in new ones."""
    own = [cell.source for cell in cells if answer_id(question) in cell.ids]
    if own:
        return own[-1]
    task = next((i for i, cell in enumerate(cells) if question.task.id in cell.ids), None)
    if task is None:
        return None
    handed_out = {cell.get("id") for cell in lesson.book.cells}
    written = [re.split(r"</details>|\*The solution comes later\.\*", cells[task].source)[-1] if "details>" in question.task.source else ""]
    for cell in cells[task + 1 :]:
        if handed_out & set(cell.ids) or (cell.source.startswith("#") and not cell.code):
            break
        written.append(f"```python\n{cell.source}\n```" if cell.code else cell.source)
    return "\n\n".join(text.strip() for text in written if text.strip())


def _bare(source: str) -> str:
    """A source without its spaces and comments of magic: what tells a changed cell from the one that was handed out."""
    return re.sub(r"\s+", "", source)
