"""Submissions as they come: a file or a folder for each student, notebooks under any name, whole or not, of any kernel.

Which notebook a file is, and which cell an answer, is told by its cells: marks of nbgrader, ids, the checks that stand behind them, and at
last the names that cells define. Names of files, outputs, and whatever else a student changed count for nothing.
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.outputs import sha256
from emorl_lite.course.assignments import answer_id, asked
from emorl_lite.course.lessons import HEAD, Lesson, Question
from emorl_lite.tutorial.copies import OLD

LARGEST = 64 * 2**20
"""Bytes of a notebook that is read; larger ones hold outputs that nobody meant to hand in."""
LONGEST = 100_000
"""Characters of an answer."""
MOST_OWN = 1_000_000
"""Characters of the cells that a student added or changed, as far as answers find them."""
MOST_CELLS = 10_000
"""Cells of a notebook that is read."""
MOST_FILES = 200
"""Notebooks of one student that are looked at."""
MOST_TOLD = 10
"""Files of one student of which it is told why they are not graded."""
LONGEST_NAME = 150
"""Bytes of a student's name; of a longer one the beginning is kept, and a mark that tells it from others."""
ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".tgz", ".tar")
"""Endings of files that hold files, the longer first."""


@dataclass(frozen=True)
class Cell:
    """`ids`: nbgrader's mark first, then the cell's own."""

    code: bool
    source: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A student's notebook of one lesson. `answers`: what was found, by the question's name. `path`: of the file. `note`: of which
    several it is. `places`: where in the notebook the answers to exercises stand. `own`: code that the student added or changed beside
    them, with its places."""

    path: Path
    lesson: Lesson
    answers: dict[str, str]
    note: str = ""
    places: dict[str, int] = field(default_factory=dict)
    own: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Student:
    """`submissions`: by the lesson's number. `unread`: what is wrong with files of which nothing can be graded."""

    name: str
    submissions: dict[str, Submission]
    unread: tuple[str, ...] = ()


def read_students(folder: Path, lessons: Sequence[Lesson]) -> list[Student]:
    """All students of a folder, by name. Raises UserError for a folder that is none, or holds no submissions."""
    if not folder.is_dir():
        raise UserError(f"--submissions {shown(folder)}: {'a file, expected a folder' if folder.exists() else 'no folder'}")
    found: dict[str, _Found] = {}
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            _search(entry, folder, found.setdefault(entry.name, _Found()))
        elif _is_handed_in(entry):
            _sort(entry, folder, found.setdefault(_student_of(entry.name), _Found()))
    if not found:
        raise UserError(f"--submissions {shown(folder)}: no submissions in it, neither notebooks nor a folder a student")
    students, names = list[Student](), set[str]()
    for raw, files in sorted(found.items()):
        name = plain = _short(shown(raw))
        number = 2
        while _alike(name) in names:  # two names that differ in what cannot be shown, or is one to some systems
            name, number = f"{plain} ({number})", number + 1
        names.add(_alike(name))
        students.append(_student(name, files, folder, lessons))
    return students


def passed_over(folder: Path) -> list[str]:
    """Names of the files in a folder that seem to be nobody's submission, such as a list that came with a download."""
    return [shown(entry.name) for entry in _entries(folder) if (entry.is_symlink() or not entry.is_dir()) and not _is_handed_in(entry)]


def shown(path: Path | str) -> str:
    """A path as text that can be written and printed, whatever its bytes are. Control characters are none: a terminal obeys them."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def _short(name: str) -> str:
    """A name that files can have, with an ending."""
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[:30]}...{sha256(name.encode())[:8]}"


def _alike(name: str) -> str:
    """What two names share that are one file's to Windows or macOS."""
    return unicodedata.normalize("NFC", name).casefold()


def sayable(text: str) -> str:
    """A text that can be written as UTF-8: JSON may hold halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass
class _Found:
    """A student's files: `notebooks` to read, what is wrong with those that will not be read, and what else lies there."""

    notebooks: list[Path] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not _is_systems(entry.name))


def _is_systems(name: str) -> bool:
    """Whether a name is of the system's own files, or of the folder in which an update keeps what was there before."""
    return name.startswith(".") or name in ("__MACOSX", OLD)


def _is_handed_in(path: Path) -> bool:
    """Whether a file seems to be meant as somebody's notebook."""
    name = path.name.lower()
    return path.is_symlink() or ".ipynb" in name or name.endswith(ARCHIVES)


def _student_of(name: str) -> str:
    at = name.lower().rfind(".ipynb")
    if at > 0:
        return name[:at]
    ending = next((ending for ending in ARCHIVES if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or name


def _sort(path: Path, folder: Path, into: _Found) -> None:
    """Note a file as a notebook, or why it is not read. Links are not followed: they could lead to others' files."""
    name, where = path.name.lower(), shown(path.relative_to(folder))
    if path.is_symlink():
        into.unread.append(f"{where}: a link, which is not followed")
    elif name.endswith(".ipynb"):
        into.notebooks.append(path)
    elif name.endswith(ARCHIVES):
        into.unread.append(f"{where}: not a notebook; unpack it")
    elif ".ipynb" in name:
        into.unread.append(f"{where}: not a notebook, by its name; it must end in .ipynb")
    else:
        into.others.append(f"{where}: not a notebook")


def _search(place: Path, folder: Path, into: _Found) -> None:
    """Look through a student's folder and all below it."""

    def refused(error: OSError) -> None:
        where = shown(os.path.relpath(os.fsdecode(error.filename or place), folder))
        into.unread.append(f"{where}: cannot be read ({error.strerror})")

    for where, folders, names in os.walk(place, onerror=refused):
        folders[:] = sorted(name for name in folders if not _is_systems(name))
        links = [name for name in folders if Path(where, name).is_symlink()]
        for name in [*links, *sorted(name for name in names if not _is_systems(name))]:
            _sort(Path(where, name), folder, into)


def _student(name: str, files: _Found, folder: Path, lessons: Sequence[Lesson]) -> Student:
    submissions, unread, counts = dict[str, Submission](), list(files.unread), Counter[str]()
    paths = sorted(files.notebooks, key=lambda path: (path.lstat().st_mtime, str(path)))
    if len(paths) > MOST_FILES:
        unread.append(f"{len(paths)} notebooks: the newest {MOST_FILES} are read")
    for path in paths[-MOST_FILES:]:
        where = shown(path.relative_to(folder))
        try:
            found = _submission(path, read_cells(path), lessons)
        except UserError as problem:
            unread.append(f"{where}: {problem}")
            continue
        if found is None:
            unread.append(f"{where}: no exercise of the course in it")
        else:
            counts[found.lesson.number] += 1
            before = submissions.get(found.lesson.number)
            if before is None or _fullness(found) >= _fullness(before):  # of two, the fuller, then the newer
                submissions[found.lesson.number] = found
    for number, count in counts.items():
        if count > 1:
            one = submissions[number]
            submissions[number] = replace(one, note=f"the fullest of {count}: {shown(one.path.relative_to(folder))}")
    if not submissions:
        unread += files.others
    if len(unread) > MOST_TOLD:
        unread[MOST_TOLD:] = [f"and {len(unread) - MOST_TOLD} more"]
    return Student(name, submissions, tuple(unread))


def _fullness(submission: Submission) -> int:
    """How many questions a student answered: what was handed out is no answer."""
    answers = submission.answers
    return sum(
        bool(own_words(answers[q.name])) if q.is_open else _bare(answers[q.name]) != _bare(q.stub.source)
        for q in submission.lesson.questions
        if q.name in answers
    )


HANDED_OUT = ("", "Youranswerinsteadofthisline", "Typeyouranswerherereplacingthistext")
"""What stands in the place of an answer that nobody wrote, of nbgrader's and of Otter's assignments; without all but letters."""


def own_words(text: str) -> str:
    """What a student wrote to an open question; nothing where the line that was handed out still stands there."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n\n(cut here: more than {LONGEST} characters)"
    return "" if re.sub(r"[\W_]", "", text[:LONGEST]) in HANDED_OUT else cut.strip()


def read_cells(path: Path) -> list[Cell]:
    """The cells of a notebook, of old formats too, whatever else is in the file. Raises UserError for a file that is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe has no end
            raise UserError("no regular file")
        if status.st_size > LARGEST:
            raise UserError(f"larger than {LARGEST // 2**20} MB")
        book = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UserError:  # a ValueError, too
        raise
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
    if len(cells) > MOST_CELLS:
        raise UserError(f"more than {MOST_CELLS:,} cells")
    return [_cell(cell) for cell in cells if isinstance(cell, dict)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _cell(cell: dict[str, Any]) -> Cell:
    source = cell.get("source", cell.get("input", ""))
    text = "".join(part for part in source if isinstance(part, str)) if isinstance(source, list) else source
    text = text.replace("\r\n", "\n")[: LONGEST + 1] if isinstance(text, str) else ""  # one more: that it is cut is told
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    marks = metadata.get("nbgrader")
    ids = [marks.get("grade_id") if isinstance(marks, dict) else None, cell.get("id"), metadata.get("id")]
    kept = tuple(str(value) for value in ids if isinstance(value, (str, int)))
    return Cell(cell.get("cell_type") == "code", sayable(text), kept)


# -- which lesson, and which cell is which answer


def _submission(path: Path, cells: Sequence[Cell], lessons: Sequence[Lesson]) -> Submission | None:
    """The lesson of which a notebook has most, first by its ids and checks, then by names that it defines."""
    best = max(lessons, key=lambda lesson: _marks(cells, lesson))
    if _marks(cells, best) == (0, 0):
        return None
    places = {q.name: at for q in best.questions if not q.is_open and (at := _place(cells, q, best)) is not None}
    written = {q.name: text for q in best.questions if q.is_open and (text := _open_answer(cells, q, best)) is not None}
    answers = {name: cells[at].source for name, at in places.items()} | written
    return Submission(path, best, answers, places=places, own=_own(cells, best, set(places.values())))


def _marks(cells: Sequence[Cell], lesson: Lesson) -> tuple[int, int]:
    ids = {q.stub.id for q in lesson.questions if not q.is_open} | {q.task.id for q in lesson.questions}
    sure = sum(bool(ids & set(cell.ids)) or bool(re.search(rf'check\(\s*["\']{lesson.number}\.\d', cell.source)) for cell in cells)
    if sure:
        return sure, 0
    named = [q for q in lesson.questions if not q.is_open and any(cell.code and defines(cell.source, q.called) for cell in cells)]
    return 0, len(named)


def defines(source: str, name: str) -> bool:
    """Whether a cell seems to make a name: told by its text, which nothing can go wrong with."""
    return re.search(rf"^(?:(?:async )?def|class) {name}\b|^{name}\b[^=\n(]*=(?!=)", source, re.M) is not None


def _own(cells: Sequence[Cell], lesson: Lesson, taken: set[int]) -> tuple[tuple[int, str], ...]:
    """Code that is neither an answer nor the lesson's, with its places."""
    of_lesson, found, size = _sources(lesson), [], 0
    for at, cell in enumerate(cells):
        if cell.code and at not in taken and _bare(cell.source) not in of_lesson:
            size += len(cell.source)
            if size > MOST_OWN:
                break
            found.append((at, cell.source))
    return tuple(found)


def _sources(lesson: Lesson) -> set[str]:
    return {_bare(cell.source) for cell in lesson.book.cells}


def _place(cells: Sequence[Cell], question: Question, lesson: Lesson) -> int | None:
    """Where an exercise's answer is: the last cell before the check that defines it, as the check sees it; else the cell with the stub's
    mark. None where that is not there."""
    of_lesson = _sources(lesson)
    own = [i for i, cell in enumerate(cells) if cell.code and question.stub.id in cell.ids]
    checks = [i for i, cell in enumerate(cells) if re.search(rf'check\(\s*["\']{re.escape(question.name)}["\']', cell.source)]
    defining = [i for i, cell in enumerate(cells) if cell.code and defines(cell.source, question.called)]
    written = [i for i in defining if _bare(cells[i].source) not in of_lesson]
    marked = [i for i in own if i in defining and _bare(cells[i].source) != _bare(question.stub.source)]
    seen = []
    if checks and not any(i > checks[-1] for i in marked):  # names that later cells use otherwise are no answers
        seen = sorted(i for i in {*marked, *written} if i <= checks[-1])  # a check's own cell may hold the answer
    chosen = seen[-1:] or marked[-1:] or written[-1:] or own[-1:]
    return chosen[0] if chosen else None


def _open_answer(cells: Sequence[Cell], question: Question, lesson: Lesson) -> str | None:
    """What stands in the answer's own cell; else what the student wrote below the task, in its cell or in new ones. None without a task."""
    own = [cell.source for cell in cells if answer_id(question) in cell.ids]
    if own:
        return own[-1]
    task = next((i for i, cell in enumerate(cells) if question.task.id in cell.ids), None)
    if task is None:
        return None
    handed_out, of_lesson = {cell.get("id") for cell in lesson.book.cells}, _sources(lesson)
    written = [_below_task(cells[task].source, question)]
    for cell in cells[task + 1 :]:
        if "<!-- END QUESTION -->" in cell.source:  # Otter's: what comes then is its own
            break
        heads = cell.source.startswith("#") and not cell.code  # a student's own heading is a part of the answer
        if handed_out & set(cell.ids) or (heads and (_bare(cell.source) in of_lesson or HEAD.match(cell.source))):
            break
        written.append(f"```python\n{cell.source}\n```" if cell.code else cell.source)
    return "\n\n".join(text.strip() for text in written if text.strip())


def _below_task(source: str, question: Question) -> str:
    """What a student wrote into the cell of an open question's task, below it."""
    if "details>" not in question.task.source:
        return ""
    parts = re.split(r"</details>|\*The solution comes later\.\*", source)
    return parts[-1] if len(parts) > 1 else source.replace("<!-- BEGIN QUESTION -->", "").replace(asked(question), "")


def _bare(source: str) -> str:
    """A source without its spaces and comments of magic: what tells a changed cell from the one that was handed out."""
    return re.sub(r"\s+", "", source)
