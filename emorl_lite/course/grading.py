"""The command `grade`: a folder of submissions in, points, a table of students and pages of feedback out.

What is graded is the instructor's: the exercises, their cases and what is right come from this package, and from a submission just the
cells that answer them. Each answer runs in a process that knows the questions and not the answers (`answering`), and what it returns is
judged here. Outputs of a submission are not read. nbgrader runs checks and answers in one kernel, where an answer can change the check; it
takes over where a person grades: `submitted/` has every submission as a whole notebook of the course again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_json
from emorl_lite.base.outputs import check_folder, check_out
from emorl_lite.base.paths import from_here, repository_root
from emorl_lite.base.ranges import Within, checked
from emorl_lite.course.grading_options import Grade
from emorl_lite.course.lessons import Lesson, Question, lessons, notebooks_folder
from emorl_lite.course.making import RECORD
from emorl_lite.course.submissions import LONGEST, Student, Submission, own_words, passed_over, read_students, shown
from emorl_lite.course.written import check_ours, write_ours

TABLES, OPEN_PAGE = ("grades.csv", "students.csv", "open_questions.csv"), "open_questions.html"
SHOWN = 300
"""Characters of an open answer in the table; the page has all of it."""


@dataclass(frozen=True)
class Graded:
    """What a student earned in an assignment. `submission`: None where none was handed in."""

    student: Student
    lesson: Lesson
    submission: Submission | None
    marks: Sequence[Any]


def run_grade(command: Grade) -> int:
    """Grade, write everything, and print the table of students.

    Raises UserError, in one line, for whatever is wrong with what was given; then nothing is written. So it is after Ctrl-C.
    """
    folder, out, course = Path(command.submissions), check_folder(command.out, "--out"), Path(command.course)
    try:
        students, asked, seed = _asked(command, folder, out, course)
        check_ours(out, _places(students, asked), folder)
        graded = grade(students, asked, command, (str(folder), str(course), str(out)), seed or 1)
    except KeyboardInterrupt as stop:
        raise type(stop)("stopped: nothing was written") from None
    try:
        table = write_all(graded, out, folder)
    except KeyboardInterrupt as stop:
        raise type(stop)(f"stopped: each file in {shown(out)} is whole, but not all are new; give the command again") from None
    _print(table.to_string(index=False))
    _print(f"{from_here(out / 'grades.csv')}; pages of feedback in {from_here(out / 'feedback')}")
    return 0


def _asked(command: Grade, folder: Path, out: Path, course: Path) -> tuple[list[Student], list[Lesson], int]:
    """All students, the lessons to grade, and the seed of the course's hidden cases (0: no course says one).

    Raises UserError for folders that will not do, and where there is nothing to grade.
    """
    _check_places(command, folder, out, course)
    known = [_as_set(lesson, course) for lesson in lessons()]
    numbers = [lesson.number for lesson in known]
    for number in command.assignment:
        if number not in numbers:
            raise UserError(f"--assignment {number}: no notebook of the course ({', '.join(numbers)})")
    students = read_students(folder, known)
    if over := passed_over(folder):
        print(f"note: no notebooks, so nobody's submissions: {_first(over)}", file=sys.stderr)
    handed_in = {number for student in students for number in student.submissions}
    asked = [lesson for lesson in known if lesson.number in (command.assignment or handed_in)]
    if not asked:
        reasons = [reason for student in students for reason in student.unread]
        raise UserError(f"--submissions {shown(folder)}: nothing to grade: {(reasons or ['no notebook of the course in it'])[0]}")
    several = [f"{student.name} ({one.note})" for student in students for one in student.submissions.values() if one.note]
    if several:
        print(f"note: several notebooks of one assignment: {_first(several)}", file=sys.stderr)
    seed = seed_of(course, asked)
    if note := _note(course, asked, seed):
        print(f"note: {note}", file=sys.stderr)
    return students, asked, seed


def _first(names: Sequence[str]) -> str:
    """The first five of some names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_places(command: Grade, folder: Path, out: Path, course: Path) -> None:
    """Raise UserError unless what is written will lie apart from what is read, and answers can do without all of these folders."""
    for name in TABLES:
        check_out(out / name)
    originals = folder.resolve()
    if (folder / RECORD).is_file() and (folder / "source").is_dir():
        raise UserError(f"--submissions {shown(folder)}: a course's own folder; name the one that students' notebooks are in")
    if originals == notebooks_folder().resolve():
        raise UserError(f"--submissions {shown(folder)}: the repository's own notebooks; name the folder that students' notebooks are in")
    for written in (out, out / "submitted", out / "feedback"):
        if written.resolve().is_relative_to(originals) or (written != out and originals.is_relative_to(written.resolve())):
            raise UserError(f"--out {command.out}: what is written there would lie among the submissions in {folder}; name another folder")
    if not course.is_dir() and command.course != Grade.course:
        raise UserError(f"--course {course}: no folder; `python -m emorl_lite course --out {course}` makes it")
    needed = {"the repository": repository_root(), "this package": Path(__file__).parents[1], "Python": Path(sys.prefix)}
    for option, place in (("--submissions", folder), ("--course", course), ("--out", out)):
        for what, path in needed.items():
            if path is not None and path.resolve().is_relative_to(place.resolve()):
                raise UserError(f"{option} {shown(place)}: {what} lies in it, and no answer may read it; name a folder of its own")


def _note(course: Path, asked: Sequence[Lesson], seed: int) -> str:
    """What the course's folder does not say of the lessons that are graded; "" if it says all. `seed`: as `seed_of` finds it."""
    lacking = [lesson.name for lesson in asked if not _source(lesson, course).is_file()]
    if not lacking:
        return ""
    cases = "" if seed else ", and hidden cases that anyone could draw"
    what = (
        f"no course in {shown(course)}" if not (course / "source").is_dir() else f"{shown(course)} has no assignment {', '.join(lacking)}"
    )
    return f"{what}: a point for each dot{cases}"


def _print(text: str) -> None:
    """Print what a terminal can show of a text: names are anybody's, and all is written by now."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def grade(students: Sequence[Student], asked: Sequence[Lesson], limits: Grade, closed: Sequence[str], seed: int) -> list[Graded]:
    """Mark every student's answers to every assignment. `closed`: folders that no answer may read."""
    from emorl_lite.course.marking import DELETED, MISSING, Mark, key_of, mark
    from emorl_lite.course.processes import Batch, Limits, run_batches

    keys = {q.name: key_of(q, seed) for lesson in asked for q in _checked(lesson)}
    parts = {lesson.number: _before(lesson) for lesson in asked}
    batches, whose = [], {}
    for student in students:
        for lesson in asked:
            if (submission := student.submissions.get(lesson.number)) is not None:
                answers = tuple(_asked_of(submission, q, keys[q.name], parts[lesson.number]) for q in _found(submission))
                name = f"{lesson.number} {student.name}"
                whose[name] = [q.name for q in _found(submission)]
                batches.append(Batch(name, answers))
    done = None if limits.quiet else lambda batch: print(f"graded: {batch.student}", file=sys.stderr, flush=True)
    bounds = Limits(limits.seconds, int(limits.memory * 2**30), (*closed, *_secret()))
    outcomes = run_batches(batches, bounds, limits.workers, done=done)
    graded = []
    for student in students:
        for lesson in asked:
            submission = student.submissions.get(lesson.number)
            name = f"{lesson.number} {student.name}"
            came = dict(zip(whose.get(name, []), outcomes.get(name, []), strict=True))
            marks = []
            for q in _checked(lesson):
                if submission is None or q.name not in came:
                    marks.append(Mark(q, 0, MISSING if submission is None else DELETED))
                else:
                    marks.append(mark(keys[q.name], came[q.name], submission.answers[q.name], limits.seconds, limits.memory))
            graded.append(Graded(student, lesson, submission, tuple(marks)))
    return graded


def _checked(lesson: Lesson) -> list[Question]:
    return [q for q in lesson.questions if not q.is_open]


def _found(submission: Submission) -> list[Question]:
    return [q for q in _checked(submission.lesson) if q.name in submission.answers]


def _before(lesson: Lesson) -> dict[str, tuple[Any, ...]]:
    """For each exercise the statements of the notebook's own cells before it."""
    from emorl_lite.course.lessons import tags
    from emorl_lite.course.needs import Part, parts_of

    so_far: list[Part] = []
    before = {}
    stubs = {q.stub.id: q.name for q in _checked(lesson)}
    for cell in lesson.book.cells:
        if cell.get("id") in stubs:
            before[stubs[cell.id]] = tuple(so_far)
        elif cell.cell_type == "code" and not tags(cell) & {"check", "colab"}:
            so_far += parts_of(cell.source)
    return before


def _asked_of(submission: Submission, question: Question, key: Any, before: dict[str, tuple[Any, ...]]) -> Any:
    from emorl_lite.course.answering import Asked

    cases = None if key.exercise.cases is None else tuple(case.arguments for case in key.cases)
    answer = submission.answers[question.name][:LONGEST]
    earlier, behind = beside(submission, question)
    return Asked(question.name, question.called, answer, before[question.name], earlier, behind, cases)


def beside(submission: Submission, question: Question) -> tuple[tuple[tuple[str, bool], ...], ...]:
    """A student's answers to earlier exercises and own cells (True), in the notebook's order: before this answer, and behind it."""
    found, places = [q.name for q in _found(submission)], submission.places
    cells = [(places.get(name, -1), submission.answers[name][:LONGEST], False) for name in found[: found.index(question.name)]]
    cells += [(at, source, True) for at, source in submission.own]
    here = places.get(question.name, 0)
    ordered = sorted(cells, key=lambda cell: cell[0])
    return tuple(tuple((source, own) for at, source, own in ordered if (at > here) is behind) for behind in (False, True))


def _secret() -> list[str]:
    """Where answers stand in the repository and in the package."""
    from emorl_lite.exercises import course

    folder = Path(course.__file__).parent  # how answers are judged is no secret, and tracebacks read it
    places = [folder / "__pycache__", *(folder / f"{topic}.py" for topic in course.TOPICS.values())]
    root = repository_root()
    if root is not None:
        places += [root / name for name in ("notebooks", "my_notebooks", "tests", ".git", "course")]
    return [str(place) for place in places]


# -- what the course's folder says


def _source(lesson: Lesson, course: Path) -> Path:
    return course / "source" / lesson.name / f"{lesson.name}.ipynb"


def _as_set(lesson: Lesson, course: Path) -> Lesson:
    """The lesson with the points that its assignment in the course's folder gives."""
    from emorl_lite.course.assignments import grade_id
    from emorl_lite.tutorial.execution import read_notebook

    path = _source(lesson, course)
    if not path.is_file():
        return lesson
    marks = [mark for cell in read_notebook(path).cells if isinstance(mark := cell.metadata.get("nbgrader"), dict) and mark.get("grade")]
    points = {mark.get("grade_id"): _points(mark, path) for mark in marks}
    return replace(lesson, questions=tuple(replace(q, points=points.get(grade_id(q), q.points)) for q in lesson.questions))


def _points(mark: Mapping[str, Any], path: Path) -> float:
    """What nbgrader's mark of a cell says that it is worth: an instructor may give half points."""
    name = f"{path}, {mark.get('grade_id')}: points {mark.get('points')!r}"
    points = float(checked(mark.get("points"), float, [Within(0, 10**6)], name))
    return int(points) if points.is_integer() else points


def seed_of(course: Path, asked: Sequence[Lesson]) -> int:
    """The seed that a course's record and its assignments name; 0 where there is none. Raises UserError if they name several, or the record
    cannot be read: other cases than the course's would be asked."""
    texts = [_source(lesson, course).read_text(encoding="utf-8") for lesson in asked if _source(lesson, course).is_file()]
    seeds = {int(seed) for text in texts for seed in re.findall(r"strict=True, seed=(\d+)\)", text)}
    if os.path.lexists(course / RECORD):
        seed = read_json(course / RECORD, "the course's record", "make the course anew").get("seed")
        seeds |= {seed} if isinstance(seed, int) and 0 < seed < 2**31 else set()
    if len(seeds) > 1:
        raise UserError(f"--course {course}: its assignments name several seeds ({', '.join(map(str, sorted(seeds)))}); make it anew")
    return seeds.pop() if seeds else 0


# -- what is written


def write_all(graded: Sequence[Graded], out: Path, folder: Path) -> pd.DataFrame:
    """Write the tables, the pages and the whole notebooks. Returns the table of students."""
    import nbformat

    from emorl_lite.base.provenance import save_table
    from emorl_lite.course.feedback import feedback_page, open_page, said

    rows = [
        {
            "student": one.student.name,
            "assignment": one.lesson.name,
            "exercise": f"{mark.question.name} · {mark.question.title}",
            "points": mark.points,
            "possible": mark.question.points,
            "what happened": said(mark),
        }
        for one in graded
        for mark in one.marks
    ]
    summary = pd.DataFrame([_summary(one) for one in graded], columns=list(_SUMMARY))
    facts = {"submissions": shown(folder.name)}
    columns = ["student", "assignment", "exercise", "points", "possible", "what happened"]
    save_table(pd.DataFrame(rows, columns=columns), out / TABLES[0], **facts)
    save_table(summary, out / TABLES[1], **facts)
    opened = [(one, q, _written(one, q)) for one in graded for q in one.lesson.questions if q.is_open and one.submission is not None]
    save_table(pd.DataFrame([_open_row(*each) for each in opened], columns=list(_OPEN)), out / TABLES[2], **facts)
    questions = {q.name: (f"{q.name} · {q.title}", q.points, list[tuple[str, str]]()) for _, q, _ in opened}
    for one, q, text in opened:
        questions[q.name][2].append((one.student.name, text))
    texts = {OPEN_PAGE: open_page(list(questions.values()))}
    for name in dict.fromkeys(one.student.name for one in graded):
        own = [one for one in graded if one.student.name == name]
        parts = [(one.lesson.title, one.marks, [f"{q.name} · {q.title}" for q in one.lesson.questions if q.is_open]) for one in own]
        texts[_feedback(name)] = feedback_page(name, parts, own[0].student.unread)
    for one in graded:
        if one.submission is not None:
            texts[_submitted(one.student, one.lesson)] = nbformat.writes(whole_book(one.lesson, one.submission.answers)) + "\n"
    write_ours(out, texts)
    return summary


def _feedback(student: str) -> str:
    return f"feedback/{student}.html"


def _submitted(student: Student, lesson: Lesson) -> str:
    return f"submitted/{student.name}/{lesson.name}/{lesson.name}.ipynb"


def _places(students: Sequence[Student], asked: Sequence[Lesson]) -> list[str]:
    """What will be written beside the tables, as paths in the folder."""
    handed_in = [_submitted(student, lesson) for student in students for lesson in asked if lesson.number in student.submissions]
    return [OPEN_PAGE, *(_feedback(student.name) for student in students), *handed_in]


_SUMMARY = ("student", "assignment", "points", "possible", "right", "of", "to read", "note")
_OPEN = ("student", "assignment", "question", "points", "possible", "answer")


def _summary(one: Graded) -> dict[str, Any]:
    from emorl_lite.course.feedback import is_right

    written = [q for q in one.lesson.questions if q.is_open and _written(one, q)]
    note = one.submission.note if one.submission is not None else "; ".join(["not handed in", *one.student.unread])
    earned, possible = round(sum(m.points for m in one.marks), 6), round(sum(m.question.points for m in one.marks), 6)
    values = (
        *(one.student.name, one.lesson.name, earned, possible),
        *(sum(map(is_right, one.marks)), len(one.marks), len(written), note),
    )
    return dict(zip(_SUMMARY, values, strict=True))


def _written(one: Graded, question: Question) -> str:
    return own_words(one.submission.answers.get(question.name, "")) if one.submission else ""


def _open_row(one: Graded, question: Question, text: str) -> dict[str, Any]:
    line = " ".join(text.split())
    line = line if len(line) <= SHOWN else f"{line[:SHOWN]}..."
    values = (one.student.name, one.lesson.name, f"{question.name} · {question.title}", "" if text else "0", question.points, line)
    return dict(zip(_OPEN, values, strict=True))


def whole_book(lesson: Lesson, answers: Mapping[str, str]) -> Any:
    """An assignment as it is handed out, with these answers in it, by the questions' names: what nbgrader takes, whatever was handed in."""
    from emorl_lite.course.assignments import answer_id, assignment

    book = assignment(lesson, 1)
    texts = {q.stub.id: answers.get(q.name, q.stub.source) for q in _checked(lesson)}
    texts |= {answer_id(q): answers.get(q.name, "") for q in lesson.questions if q.is_open}
    for cell in book.cells:
        cell.source = texts.get(cell.id, cell.source).partition("### BEGIN HIDDEN TESTS")[0].rstrip()
    return book
