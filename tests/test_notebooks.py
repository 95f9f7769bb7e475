"""Every exercise of every notebook: its stub is told from its solution, and its solution passes its own check.

An exercise is three cells: code tagged "exercise" (a stub with `...`), markdown tagged "solution" (a ```python block inside <details>),
and code tagged "check", which prints "Not solved yet" for the stub, "Correct" for the solution, and raises AssertionError for anything
else. A check cell may carry such a wrong answer in its metadata under "wrong".
"""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@dataclass
class Exercise:
    where: str
    stub: str
    solution: str
    check: str
    wrong: str | None


def exercises(book: nbformat.NotebookNode, name: str) -> list[Exercise]:
    """The exercises of a notebook. Raises AssertionError where the three cells do not follow each other as they should."""
    tagged = [(tag, cell) for cell in book.cells for tag in cell.metadata.get("tags", []) if tag in ("exercise", "solution", "check")]
    found = []
    for i in range(0, len(tagged), 3):
        where = f"{name}, exercise {i // 3 + 1}"
        tags = [tag for tag, _ in tagged[i : i + 3]]
        assert tags == ["exercise", "solution", "check"], f"{where}: cells are tagged {tags}"
        stub, solution, check = (cell for _, cell in tagged[i : i + 3])
        types = [stub.cell_type, solution.cell_type, check.cell_type]
        assert types == ["code", "markdown", "code"], f"{where}: cells are {types}"
        assert "..." in stub.source, f"{where}: the stub has no ..."
        assert re.search(r"<details>\s*<summary>Solution</summary>.*</details>", solution.source, re.S), (
            f"{where}: no <details> with a solution"
        )
        blocks = re.findall(r"```python\n(.*?)```", solution.source, re.S)
        assert len(blocks) == 1, f"{where}: expected one ```python block, found {len(blocks)}"
        found.append(Exercise(where, stub.source, blocks[0], check.source, check.metadata.get("wrong")))
    return found


def verdict(answer: str, check: str) -> str:
    """What the check prints about an answer, both run in one fresh namespace."""
    space: dict[str, object] = {"__name__": "__exercise__"}
    printed = io.StringIO()
    exec(compile(answer, "<answer>", "exec"), space)
    with contextlib.redirect_stdout(printed):
        exec(compile(check, "<check>", "exec"), space)
    return printed.getvalue()


def assert_works(exercise: Exercise) -> None:
    stub, solution = verdict(exercise.stub, exercise.check), verdict(exercise.solution, exercise.check)
    assert "Not solved yet" in stub and "Correct" not in stub, f"{exercise.where}: the check says {stub!r} of the stub"
    assert "Correct" in solution and "Not solved yet" not in solution, f"{exercise.where}: the check says {solution!r} of the solution"
    if exercise.wrong is not None:
        with pytest.raises(AssertionError):
            verdict(exercise.wrong, exercise.check)


@pytest.mark.parametrize(
    "path", NOTEBOOKS or [pytest.param(None, marks=pytest.mark.skip(reason="no notebooks yet"))], ids=lambda p: p.stem if p else "none"
)
def test_exercises(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    found = exercises(nbformat.read(path, as_version=4), path.name)
    assert found, f"{path.name}: no exercise"
    for exercise in found:
        assert_works(exercise)


# -- the test itself can fail

STUB = "def double(x):\n    return ..."
SOLUTION = "<details><summary>Solution</summary>\n\n```python\ndef double(x):\n    return 2 * x\n```\n\n</details>"
CHECK = "if double(3) is ...:\n    print('Not solved yet')\nelse:\n    assert double(3) == 6\n    print('Correct')"
WRONG = "def double(x):\n    return x + 3 if x == 4 else 7"


def book(stub: str = STUB, solution: str = SOLUTION, check: str = CHECK, **metadata: str) -> nbformat.NotebookNode:
    v4 = nbformat.v4
    cells = [
        v4.new_code_cell(stub, metadata={"tags": ["exercise"]}),
        v4.new_markdown_cell(solution, metadata={"tags": ["solution"]}),
        v4.new_code_cell(check, metadata={"tags": ["check"], **metadata}),
    ]
    return v4.new_notebook(cells=cells)


def test_a_sound_exercise_passes():
    (exercise,) = exercises(book(wrong=WRONG), "a")
    assert_works(exercise)


@pytest.mark.parametrize(
    "broken",
    [
        {"solution": SOLUTION.replace("2 * x", "3 * x")},
        {"solution": SOLUTION.replace("<details>", "")},
        {"solution": SOLUTION.replace("```python", "```")},
        {"stub": "def double(x):\n    return 2 * x"},
        {"check": "print('Correct')"},
        {"check": "print('Not solved yet')"},
    ],
)
def test_a_broken_exercise_fails(broken):
    with pytest.raises(AssertionError):
        assert_works(exercises(book(**broken), "a")[0])


def test_a_wrong_answer_that_passes_fails():
    (exercise,) = exercises(book(wrong="def double(x):\n    return x + x"), "a")
    with pytest.raises(pytest.fail.Exception):
        assert_works(exercise)


def test_cells_out_of_order_fail():
    shuffled = book()
    shuffled.cells.reverse()
    with pytest.raises(AssertionError, match="exercise 1: cells are tagged"):
        exercises(shuffled, "a")
