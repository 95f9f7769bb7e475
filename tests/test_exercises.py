"""Every exercise of every notebook: its cells, its stub and solution, near misses that are refused, and styles that pass."""

from __future__ import annotations

import copy
import re
import runpy

import nbformat
import numpy as np
import pytest
from course_cells import ROOT, Asked, answer_of, asked, cell_faults, frame_faults, reading_minutes, run_faults

from emorl_lite.exercises.course import TOPICS, exercises
from emorl_lite.exercises.exercise import Exercise
from emorl_lite.exercises.judging import Verdict, judge
from emorl_lite.exercises.plain import leaves, plain

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("notebook", TOPICS)


def book_of(notebook: str) -> nbformat.NotebookNode:
    (path,) = [path for path in NOTEBOOKS if path.name.startswith(notebook)]
    return nbformat.read(path, as_version=4)


def answers(notebook: str, of: str) -> dict[str, dict[str, str]]:
    """NEAR_MISSES or ACCEPTED of a notebook."""
    return runpy.run_path(str(ROOT / "tests" / "exercises" / f"{TOPICS[notebook]}.py"))[of]


def test_every_notebook_has_its_module():
    assert [path.name[:2] for path in NOTEBOOKS] == list(TOPICS)


@each_notebook
def test_cells(notebook):
    faults = cell_faults(book_of(notebook), notebook)
    assert not faults, "\n".join(faults)


@each_notebook
def test_stubs_and_solutions(notebook, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    faults = [fault for exercise in asked(book_of(notebook), notebook) for fault in run_faults(exercise)]
    assert not faults, "\n".join(faults)


@each_notebook
def test_frame(notebook):
    faults = frame_faults(book_of(notebook), notebook)
    assert not faults, "\n".join(faults)


@each_notebook
def test_names_match(notebook):
    there = [exercise.name for exercise in asked(book_of(notebook), notebook)]
    assert there == list(exercises(notebook)), "the notebook's exercises, and those of its module"
    for of in ("NEAR_MISSES", "ACCEPTED"):
        assert sorted(answers(notebook, of)) == sorted(there), of


@each_notebook
def test_cases(notebook):
    faults = []
    for exercise in exercises(notebook).values():
        cases = exercise.drawn()
        if exercise.cases is not None and not 15 <= len(cases) <= 60:
            faults.append(f"{exercise.name}: {len(cases)} cases; about 20 wanted")
        if exercise.cases is not None and len({case.kind for case in cases}) < 2:
            faults.append(f"{exercise.name}: all cases of one kind")
        if not same(cases, exercise.drawn()):
            faults.append(f"{exercise.name}: other cases at the second time")
        if exercise.cases is None and exercise.tolerance > 0.05:
            faults.append(f"{exercise.name}: a tolerance of {exercise.tolerance}")
    assert not faults, "\n".join(faults)


def same(here, there) -> bool:
    """Whether two lists of cases give the same numbers, as far as they can be read as such."""

    def told(case) -> str:
        return re.sub(r" at 0x\w+", "", repr(case))

    return list(map(told, here)) == list(map(told, there))


def near_miss_faults(exercise: Exercise, misses: dict[str, str], name: str) -> list[str]:
    """What is wrong with the verdicts on near misses."""
    faults = [] if len(misses) >= 3 else [f"{exercise.name}: {len(misses)} near misses; at least three wanted"]
    for what, source in misses.items():
        verdict = judge(exercise, answer_of(source, name))
        if verdict.wrong is None:
            faults.append(f"{exercise.name}: passes, though it is wrong: {what}")
        elif tells_the_answer(exercise, verdict.wrong):
            faults.append(f"{exercise.name}: {what}: the sentence tells the answer: {verdict.wrong}")
        elif "\n" in verdict.wrong or len(verdict.wrong) > 400:
            faults.append(f"{exercise.name}: {what}: no short sentence: {verdict.wrong}")
    return faults


def tells_the_answer(exercise: Exercise, sentence: str) -> bool:
    """Whether a sentence holds an expected number; small whole ones count cases and places, so that only a value's own counts."""
    said = sentence.replace(f"Exercise {exercise.name}", "").replace(exercise.returns, "")
    expected = (
        plain(exercise.reference()) if exercise.cases is None else [plain(exercise.reference(*c.arguments)) for c in exercise.drawn()]
    )
    numbers = {str(leaf) for leaf in leaves(expected) if isinstance(leaf, (int, float)) and not isinstance(leaf, bool)}
    told = set(re.findall(r"-?\d+(?:\.\d+)?", said))
    return bool(told & {number for number in numbers if exercise.cases is None or len(number) > 4})


@each_notebook
def test_near_misses_are_refused(notebook):
    names = {exercise.name: exercise.answer for exercise in asked(book_of(notebook), notebook)}
    misses = answers(notebook, "NEAR_MISSES")
    faults = [
        fault
        for name, exercise in exercises(notebook).items()
        for fault in near_miss_faults(exercise, misses.get(name, {}), names.get(name, ""))
    ]
    assert not faults, "\n".join(faults)


@each_notebook
def test_styles_pass(notebook):
    names = {exercise.name: exercise.answer for exercise in asked(book_of(notebook), notebook)}
    faults = []
    for name, exercise in exercises(notebook).items():
        styles = answers(notebook, "ACCEPTED").get(name, {})
        faults += [] if len(styles) >= 2 else [f"{name}: {len(styles)} accepted styles; at least two wanted"]
        for style, source in styles.items():
            verdict = judge(exercise, answer_of(source, names.get(name, "")))
            if verdict.wrong is not None or verdict.unsolved:
                faults.append(f"{name}: {style} is refused: {verdict.wrong or 'unsolved'}")
    assert not faults, "\n".join(faults)


def of_any_arguments(exercise: Exercise, result: object) -> Verdict:
    def answer(*arguments: object) -> object:
        if isinstance(result, Exception):
            raise result
        return result

    return judge(exercise, answer)


@each_notebook
def test_what_every_function_is_told(notebook):
    faults = []
    for name, exercise in exercises(notebook).items():
        if exercise.cases is None:
            continue
        listed = isinstance(plain(exercise.reference(*exercise.drawn()[0].arguments)), list)
        for result, wanted in (
            (None, "returns nothing"),
            (ValueError("on purpose"), "raises ValueError (on purpose) in its line"),
            (np.zeros((7, 3, 2)), "shape (7, 3, 2)|wrong in|parts, and" if listed else "is expected"),
            (iter(()), "is expected"),
        ):
            told = of_any_arguments(exercise, result).wrong or "nothing"
            if not any(part in told for part in wanted.split("|")):
                faults.append(f"{name}: told {told!r}, not {wanted!r}")
        if not of_any_arguments(exercise, ...).unsolved or not judge(exercise, ...).unsolved:
            faults.append(f"{name}: a stub is not told from an answer")
    assert not faults, "\n".join(faults)


# -- the tests themselves can fail

TASK = "### Exercise 2.1 · Double\n*difficulty ●○○ · 2 min*\n\nDouble `x`.\n\n<details><summary>Hint</summary>\n\nTwice.\n\n</details>"
STUB = "def double(x):\n    return ..."
SOLUTION = "<details><summary>Solution</summary>\n\n```python\ndef double(x):\n    return 2 * x\n```\n\n</details>"
CHECK = 'from emorl_lite.tutorial import check\n\ncheck("02.1", double)'
OPEN = (
    "### Open question 2.{number} · Why\n*difficulty ●●● · 9 min*\n\nWhy?\n\n"
    "<details><summary>What a good answer says</summary>\n\nThat.\n\n</details>"
)
FIRST = "| **Time** | read 3 min · run under 1 min · practise 5 min |"
THINK = "**Think first.** What will happen?"
SUMMARY = "## Summary\n\n" + "\n".join(f"- Line {i}." for i in range(5))


def made_up(
    task: str = TASK,
    stub: str = STUB,
    solution: str = SOLUTION,
    check: str = CHECK,
    first: str = FIRST,
    thoughts: int = 3,
    think: str = THINK,
    questions: int = 4,
    question: str = OPEN,
    summary: str = SUMMARY,
    words: int = 100,
) -> nbformat.NotebookNode:
    """A small notebook 02 of one exercise and four open questions."""
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell(first), v4.new_markdown_cell("word " * words)]
    cells += [v4.new_markdown_cell(think, metadata={"tags": ["think"]}) for _ in range(thoughts)]
    cells += [
        v4.new_markdown_cell(task),
        v4.new_code_cell(stub, metadata={"tags": ["exercise"]}),
        v4.new_markdown_cell(solution, metadata={"tags": ["solution"]}),
        v4.new_code_cell(check, metadata={"tags": ["check"]}),
    ]
    opened = [question.replace("{number}", str(i + 2)) for i in range(questions)]
    cells += [v4.new_markdown_cell(text, metadata={"tags": ["open-question"]}) for text in opened]
    return v4.new_notebook(cells=[*cells, v4.new_markdown_cell(summary), v4.new_markdown_cell("Next: there.")])


@pytest.mark.plain
def test_a_sound_notebook_has_no_faults():
    assert cell_faults(made_up(), "02") == frame_faults(made_up(), "02") == []


@pytest.mark.plain
@pytest.mark.parametrize(
    "broken, told",
    [
        ({"task": TASK.replace("2.1", "2.2")}, "does not begin with"),
        ({"task": TASK.replace("●○○", "easy")}, "does not begin with"),
        ({"task": TASK.replace(" · 2 min", "")}, "does not begin with"),
        ({"task": TASK.replace("Hint", "Help")}, "no hint"),
        ({"task": TASK.replace("\n\nTwice.\n\n", "Twice.")}, "no hint"),
        ({"solution": SOLUTION.replace("<details>", "")}, "not one <details>"),
        ({"solution": SOLUTION.replace("```python", "```")}, "(it has 0)"),
        ({"solution": SOLUTION.replace("</details>", "```python\n1\n```\n</details>")}, "(it has 2)"),
        ({"check": CHECK.replace("02.1", "02.2")}, "the check cell"),
        ({"check": CHECK + "\nassert double(1) == 2"}, "the check cell"),
        ({"questions": 3}, "fewer than five"),
        ({"questions": 0}, "no open question"),
        ({"question": OPEN.replace("Open question", "Question")}, "does not begin with"),
        ({"question": OPEN.replace("What a good answer says", "Solution")}, "does not end with"),
        ({"summary": SUMMARY + "\n\n### Exercise 2.9 · More"}, None),
        ({"first": "### Exercise 2.9 · More"}, "titles of exercises"),
    ],
)
def test_broken_exercise_cells_are_found(broken, told):
    faults = cell_faults(made_up(**broken), "02")
    assert (not faults) if told is None else any(told in fault for fault in faults), faults


@pytest.mark.plain
def test_cells_out_of_order_are_found():
    book = made_up()
    at = next(i for i, cell in enumerate(book.cells) if "exercise" in cell.metadata.get("tags", []))
    book.cells[at + 1], book.cells[at + 2] = book.cells[at + 2], book.cells[at + 1]
    assert any("not followed by" in fault for fault in cell_faults(book, "02"))


@pytest.mark.plain
@pytest.mark.parametrize(
    "source, faulty",
    [
        ("table(rows)\nsay(1)", True),
        ("if rows:\n    table(rows)", True),
        ("say(1)\ntable(rows)", False),
        ("display(table(rows))\nsay(1)", False),
    ],
)
def test_a_table_that_no_page_shows_is_found(source, faulty):
    book = made_up()
    book.cells.insert(-2, nbformat.v4.new_code_cell(source))
    assert any("does not show" in fault for fault in frame_faults(book, "02")) == faulty


@pytest.mark.plain
@pytest.mark.parametrize("source, faulty", [("double(tables)", True), ("double = 3\nprint(double)", False), ("print(doubles)", False)])
def test_an_answer_must_not_take_the_name_of_what_a_later_cell_calls(source, faulty):
    book = made_up()
    book.cells.insert(-2, nbformat.v4.new_code_cell(source))
    assert any("called double" in fault for fault in frame_faults(book, "02")) == faulty


@pytest.mark.plain
@pytest.mark.parametrize(
    "broken, told",
    [
        ({"thoughts": 2}, "fewer than three"),
        ({"think": "What will happen?"}, "begins"),
        ({"think": "**Think first.** It will happen."}, "without a question"),
        ({"summary": SUMMARY + "\n- Six."}, "five bullets"),
        ({"summary": "## The end\n\nNo more."}, "five bullets"),
        ({"words": 10_000}, "more than 45"),
        ({"words": 2_000}, "the first cell says read 3 min"),
        ({"first": "no table"}, "the first cell says nothing"),
        ({"first": FIRST.replace("practise 5", "practise 1")}, "practise 1 min"),
        ({"first": FIRST.replace("practise 5", "practise 40")}, "practise 40 min"),
    ],
)
def test_a_broken_frame_is_found(broken, told):
    faults = frame_faults(made_up(**broken), "02")
    assert any(told in fault for fault in faults), faults


@pytest.mark.plain
def test_exercises_and_folded_cells_take_no_reading():
    v4, book = nbformat.v4, made_up()
    taken = reading_minutes(book)
    book.cells.append(v4.new_code_cell("x = 1\n" * 40, metadata={"tags": ["hide-input"]}))
    assert reading_minutes(book) == taken
    book.cells.append(v4.new_code_cell("x = 1\n" * 40))
    book.cells[-1].outputs = [v4.new_output("display_data", {"image/png": "", "text/markdown": "word " * 500})]
    assert reading_minutes(book) == taken + 2 + 0.5


def exercise_of(**parts: str) -> Asked:
    good = Asked("02.1", stub=STUB, solution=SOLUTION.split("```")[1].removeprefix("python\n"), check=CHECK, answer="double")
    return Asked(**{**copy.copy(good).__dict__, **parts})


@pytest.mark.plain
@pytest.mark.parametrize(
    "broken",
    [
        {"stub": "def double(x):\n    return 2 * x"},
        {"stub": "double = undefined"},
        {"solution": "def double(x):\n    return 3 * x"},
        {"solution": "def double(x):\n    return ..."},
        {"check": "print('Correct')"},
        {"check": "print('Not solved yet')"},
    ],
)
def test_a_broken_stub_or_solution_is_found(broken):
    check = "if double(3) is ...:\n    print('Not solved yet')\nelse:\n    assert double(3) == 6\n    print('Correct')"
    assert not run_faults(exercise_of(check=check))
    assert run_faults(exercise_of(**{"check": check, **broken}))


@pytest.mark.plain
def test_near_misses_that_pass_or_are_told_the_answer_are_found():
    value = Exercise("02.1", reference=lambda: 6, cases=None, returns="a number")
    misses = {"five": "5", "seven": "7", "a text": "'6'"}
    assert not near_miss_faults(value, misses, "x")
    assert any("passes" in fault for fault in near_miss_faults(value, {**misses, "six": "6.0"}, "x"))
    assert any("at least three" in fault for fault in near_miss_faults(value, {"five": "5"}, "x"))
    assert tells_the_answer(value, "Exercise 02.1: 6 is expected.") and not tells_the_answer(value, "Exercise 02.1: not 60 of 0.6.")


@pytest.mark.plain
def test_what_a_source_answers():
    assert answer_of("3", "x") == 3 and answer_of("x = 4\ny = 5", "x") == 4 and answer_of("y = 5", "x") == 5
    assert answer_of("def f(a):\n    return a + 1", "f")(1) == 2


@each_notebook
def test_names_are_in_order(notebook):
    names = list(exercises(notebook))
    assert names == [f"{notebook}.{i}" for i in range(1, len(names) + 1)]
