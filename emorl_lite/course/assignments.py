"""Assignments for nbgrader: a course folder with one assignment a notebook, the exercises alone, and by nbgrader itself its release.

An exercise is a stub that its student fills, and a locked cell that checks it: on the cases that every reader has, and on cases that the
instructor's seed draws, which nbgrader keeps from the release. An open question is a text that a person grades. Nothing is trained.
"""

from __future__ import annotations

import contextlib
import os
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.course.lessons import GOOD, Lesson, Question, tags
from emorl_lite.exercises.course import find

CONFIG = '''"""nbgrader's settings. Written by `python -m emorl_lite course`."""

from pathlib import Path

c = get_config()
c.CourseDirectory.root = str(Path(__file__).resolve().parent)
c.CourseDirectory.course_id = "emorl_lite"
c.ClearSolutions.code_stub = {"python": ""}  # the stub stands before the solution, and stays
c.ClearSolutions.text_stub = "*Your answer, instead of this line.*"
c.ExecutePreprocessor.timeout = 60  # seconds a cell
c.ExecutePreprocessor.kernel_name = "python3"
'''
BEFORE = """# {title}

Replace each `...` by your answer and run the cell and the check below it. A check asks about twenty cases and says which kind fails;
what is graded is asked about other cases, too. Write your answers in these cells, add others if you like, and rename nothing.
{points} points in {count} questions, about {minutes} minutes.
"""
HIDDEN = """### BEGIN HIDDEN TESTS
{check}
### END HIDDEN TESTS"""
SOLVED = """{stub}
### BEGIN SOLUTION
{solution}
### END SOLUTION"""


def write_nbgrader(lessons: Sequence[Lesson], folder: Path, seed: int) -> list[Path]:
    """Write nbgrader's settings and `source/<assignment>/<assignment>.ipynb`, an assignment a lesson. Returns the files.

    `seed`: of the hidden cases, 1 or more.
    """
    import nbformat

    config = folder / "nbgrader_config.py"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG, encoding="utf-8")
    written = [config]
    for lesson in lessons:
        path = folder / "source" / lesson.name / f"{lesson.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(assignment(lesson, seed), path)
        written.append(path)
    return written


def assignment(lesson: Lesson, seed: int) -> Any:
    """A lesson's exercises as an nbgrader source notebook: with answers and hidden cases, which its release is without."""
    import nbformat

    cells = [_locked(title_cell(lesson), f"{lesson.number}-title")]
    cells += [_plain(cell) for cell in lesson.book.cells if "colab" in tags(cell)]
    for question in lesson.questions:
        cells += _open_cells(question) if question.is_open else _checked_cells(question, seed)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    book = nbformat.v4.new_notebook(cells=cells, metadata=kernel | {"language_info": {"name": "python"}})
    book.nbformat_minor = 5
    return book


def title_cell(lesson: Lesson) -> Any:
    """The first cell of an assignment: its title, how to work in it, its points and minutes."""
    import nbformat

    questions = lesson.questions
    points, minutes = sum(question.points for question in questions), sum(question.minutes for question in questions)
    text = BEFORE.format(title=lesson.title, points=points, count=len(questions), minutes=minutes)
    return nbformat.v4.new_markdown_cell(text, id=f"{lesson.number}-title")


def _plain(cell: Any, source: str | None = None) -> Any:
    """A copy of a cell with its id, without outputs and marks."""
    import nbformat

    new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
    return new(cell.source if source is None else source, id=cell.id)


def _marked(cell: Any, grade_id: str, points: float = 0, **marks: bool) -> Any:
    """The cell with nbgrader's marks: whether it is graded, an answer, locked."""
    chosen = {"grade": False, "solution": False, "locked": False, "task": False} | marks
    cell.metadata["nbgrader"] = chosen | {"grade_id": grade_id, "schema_version": 3} | ({"points": points} if chosen["grade"] else {})
    return cell


def _locked(cell: Any, grade_id: str) -> Any:
    return _marked(cell, grade_id, locked=True)


def _checked_cells(question: Question, seed: int) -> list[Any]:
    stub = _plain(question.stub, SOLVED.format(stub=question.stub.source.rstrip(), solution=question.answer.rstrip()))
    check = _plain(question.check, checking(question, seed))
    return [
        _locked(_plain(question.task), question.task.id),
        _marked(stub, question.stub.id, solution=True),
        _marked(check, question.check.id, question.points, grade=True, locked=True),
    ]


def checking(question: Question, seed: int) -> str:
    """The source of the cell that grades an exercise: strict, and for a function on hidden cases too."""
    call = f'check("{question.name}", {question.called}, strict=True'
    lines = ["from emorl_lite.tutorial import check", "", f"{call})"]
    if find(question.name).cases is not None:
        lines.append(HIDDEN.format(check=f"{call}, seed={seed})"))
    return "\n".join(lines)


def _open_cells(question: Question) -> list[Any]:
    import nbformat

    good = f"### BEGIN SOLUTION\n**What a good answer says.** {question.answer.strip()}\n### END SOLUTION"
    answer = nbformat.v4.new_markdown_cell(good, id=answer_id(question))
    task = _plain(question.task, asked(question))
    return [_locked(task, question.task.id), _marked(answer, answer.id, question.points, grade=True, solution=True)]


def answer_id(question: Question) -> str:
    """The id of the cell that holds an open question's answer."""
    return f"{question.task.id}-answer"


def asked(question: Question) -> str:
    """A question's task, without what a good answer says."""
    return GOOD.sub("", question.task.source).rstrip()


def grade_id(question: Question) -> str:
    """The id of the cell that bears a question's points, in the notebook and in nbgrader's gradebook."""
    return answer_id(question) if question.is_open else str(question.check.id)


# -- nbgrader itself


@contextlib.contextmanager
def commands_found() -> Iterator[None]:
    """Commands that are installed beside this Python are on the PATH: nbgrader calls alembic by its name."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def nbgrader_of(folder: Path) -> Any:
    """nbgrader's own interface (`nbgrader.apps.NbGraderAPI`) to a course folder. Raises UserError where nbgrader is not installed.

    Call it within `commands_found`.
    """
    try:
        from nbgrader.apps import NbGraderAPI
        from traitlets.config import PyFileConfigLoader
    except ImportError as error:
        raise UserError("nbgrader is not installed here: pip install 'emorl_lite[course]', in the repository -e '.[course]'") from error
    return NbGraderAPI(config=PyFileConfigLoader("nbgrader_config.py", path=str(folder.resolve())).load_config())


def release_assignments(folder: Path, names: Sequence[str]) -> list[Path]:
    """Have nbgrader make `release/` of these assignments and enter them in gradebook.db. Returns the notebooks.

    Raises UserError with what nbgrader says if it cannot.
    """
    with commands_found():
        api = nbgrader_of(folder)
        for name in names:
            done = api.generate_assignment(name, force=True)
            if not done["success"]:
                raise UserError(f"nbgrader could not make the assignment {name}: {_reason(done)}")
    return [folder / "release" / name / f"{name}.ipynb" for name in names]


def _reason(done: Mapping[str, Any]) -> str:
    """What nbgrader says in the end that names a cause: its last line may only say that one stands above."""
    lines = [line.strip() for part in ("log", "error") for line in (done.get(part) or "").splitlines() if line.strip()]
    causes = [line for line in lines if re.search(r"\b\w*(Error|Exception): ", line) and "above traceback" not in line]
    return one_line((causes or lines or ["it gave no reason"])[-1], 300)
