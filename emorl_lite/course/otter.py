"""Assignments for Otter-Grader: a master notebook a lesson, and, where Otter is installed, what `otter assign` makes of it.

The same questions, points and hidden cases as nbgrader gets. `dist/student/` is to hand out; the rest holds answers and hidden cases,
`dist/autograder.zip` for `otter run` and Gradescope. Otter's requirements do not go with the pinned versions here (it wants an older
wrapt), and it grades in the environment that it is installed in: give it one of its own, with this package.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.project import address
from emorl_lite.course.assignments import answer_id, asked, title_cell
from emorl_lite.course.lessons import Lesson, Question, tags
from emorl_lite.exercises.course import find

SETTINGS = """# ASSIGNMENT CONFIG
name: {name}
requirements: requirements.txt
generate: true
export_cell:
  pdf: false
  run_tests: false
tests:
  files: true
  ok_format: false"""
STUB = '''""" # BEGIN PROMPT
{stub}
""" # END PROMPT
# BEGIN SOLUTION NO PROMPT
{solution}
# END SOLUTION'''
TEST = """{head}def {case}({called}):
    from emorl_lite.tutorial import check

    check("{name}", {called}, strict=True{seed})"""


def write_otter(lessons: Sequence[Lesson], folder: Path, seed: int) -> list[Path]:
    """Write `<folder>/<assignment>/<assignment>.ipynb`, the masters, and what Otter makes of them. Returns the files.

    `seed`: of the hidden cases, 1 or more. Raises UserError with what Otter says if it is installed and cannot make an assignment.
    """
    import nbformat

    written = []
    for lesson in lessons:
        home = folder / lesson.name
        home.mkdir(parents=True, exist_ok=True)
        (home / "requirements.txt").write_text(f"emorl_lite @ git+{address()}\n", encoding="utf-8")
        nbformat.write(master(lesson, seed), home / f"{lesson.name}.ipynb")
        written += [home / "requirements.txt", home / f"{lesson.name}.ipynb"]
        if has_otter():
            written += _assigned(home, lesson.name)
    return written


def has_otter() -> bool:
    """Whether Otter-Grader is installed beside this Python."""
    return find_spec("otter") is not None and find_spec("otter.assign") is not None


def _assigned(home: Path, name: str) -> list[Path]:
    """What `otter assign` makes of a master."""
    command = [sys.executable, "-m", "otter", "assign", f"{name}.ipynb", "dist", "--no-run-tests", "--no-pdfs"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()[-1]
        raise UserError(f"Otter could not make the assignment {name}: {one_line(said, 300)}")
    for made in (home / "dist" / "autograder").glob("*-autograder_*.zip"):  # a name with the time in it
        made.replace(home / "dist" / "autograder.zip")
    files = (path for path in (home / "dist").rglob("*") if path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(home).parts))


def master(lesson: Lesson, seed: int) -> Any:
    """A lesson's exercises as a notebook for `otter assign`: with answers and hidden cases, which its release is without."""
    import nbformat

    cells = [_raw(SETTINGS.format(name=lesson.name), f"{lesson.number}-otter"), title_cell(lesson)]
    cells += [nbformat.v4.new_code_cell(cell.source, id=cell.id) for cell in lesson.book.cells if "colab" in tags(cell)]
    for question in lesson.questions:
        cells += _question(question, seed)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    book = nbformat.v4.new_notebook(cells=cells, metadata=kernel | {"language_info": {"name": "python"}})
    book.nbformat_minor = 5
    return book


def called_in_otter(question: Question) -> str:
    """A question's name as Otter's tables have it: q02_3."""
    return "q" + question.name.replace(".", "_")


def _raw(source: str, name: str) -> Any:
    import nbformat

    return nbformat.v4.new_raw_cell(source, id=name)


def _question(question: Question, seed: int) -> list[Any]:
    import nbformat

    name, task = called_in_otter(question), question.task.id
    grading = "manual: true" if question.is_open else "all_or_nothing: true"
    begin = _raw(f"# BEGIN QUESTION\nname: {name}\n{grading}\npoints: {question.points}", f"{task}-begin")
    if question.is_open:
        answer = nbformat.v4.new_markdown_cell(f"**What a good answer says.** {question.answer.strip()}", id=answer_id(question))
    else:
        source = STUB.format(stub=question.stub.source.rstrip(), solution=question.answer.rstrip())
        answer = nbformat.v4.new_code_cell(source, id=question.stub.id)
    solved = [_raw("# BEGIN SOLUTION", f"{task}-solution"), answer, _raw("# END SOLUTION", f"{task}-solved")]
    told = nbformat.v4.new_markdown_cell(asked(question), id=task)
    tests = (
        [] if question.is_open else [_raw("# BEGIN TESTS", f"{task}-tests"), *_tests(question, seed), _raw("# END TESTS", f"{task}-tested")]
    )
    return [begin, told, *solved, *tests, _raw("# END QUESTION", f"{task}-end")]


def _tests(question: Question, seed: int) -> list[Any]:
    """The cells of tests: on the cases that every reader has, and, for a function, on hidden ones."""
    import nbformat

    parts = {"name": question.name, "called": question.called}
    sources = [TEST.format(head="", case="test_cases", seed="", **parts)]
    if find(question.name).cases is not None:
        sources.append(TEST.format(head="# HIDDEN\n", case="test_other_cases", seed=f", seed={seed}", **parts))
    return [nbformat.v4.new_code_cell(source, id=f"{question.check.id}-{i}") for i, source in enumerate(sources)]
