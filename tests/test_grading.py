"""Grading: what a class hands in, each with the points that it has earned, whatever one of them does."""

from __future__ import annotations

import json
import math
import os
import pickle
import runpy
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from made_submissions import Class, hand_in

from emorl_lite.base.errors import UserError
from emorl_lite.course import grading, written
from emorl_lite.course.answering import Asked
from emorl_lite.course.carried import OTHER, packed, unpacked
from emorl_lite.course.feedback import open_page
from emorl_lite.course.grading import beside, grade, run_grade, seed_of, whole_book
from emorl_lite.course.grading_options import Grade
from emorl_lite.course.landlock import open_paths, version
from emorl_lite.course.lessons import lessons
from emorl_lite.course.marking import Key, key_of, mark
from emorl_lite.course.needs import needed, parts_of, whole
from emorl_lite.course.processes import Batch, Limits, run_batches
from emorl_lite.course.submissions import LONGEST, Student, Submission, own_words, passed_over, read_cells, read_students
from emorl_lite.exercises.course import TOPICS, exercises
from emorl_lite.exercises.judging import judge
from emorl_lite.exercises.plain import Unread

TESTS = Path(__file__).parent
ROOT = TESTS.parent
TIGHT = Limits(seconds=0.7, memory=2**31)


def misses(number: str) -> dict[str, dict[str, str]]:
    return runpy.run_path(str(TESTS / "exercises" / f"{TOPICS[number]}.py"))["NEAR_MISSES"]


# -- a class of thirty and more, in one command


@pytest.mark.slow
def test_a_class_is_graded_in_one_command(tmp_path, capfd):
    (lesson,) = lessons(["00"])
    secret = tmp_path / "course" / "source" / "answers.txt"
    secret.parent.mkdir(parents=True)
    secret.write_text("what is right")
    target = ROOT / "written_by_a_submission"
    made = Class(lesson, "00.3", secret, target).all_of(misses("00"))
    assert len(made) >= 30
    hand_in(made, tmp_path / "in")
    out = tmp_path / "grades"
    command = Grade(str(tmp_path / "in"), ("00",), str(tmp_path / "course"), str(out), seconds=1, memory=2)
    assert run_grade(command) == 0
    rows = read_rows(out / "grades.csv")
    faults = [fault for student, one in made.items() for fault in faults_of(rows, student, one, lesson)]
    assert not faults, "\n".join(faults)
    assert not target.exists()
    assert secret.read_text() == "what is right"
    assert gone("cmdline", "time.sleep(600)")
    for student in made:
        page = (out / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert "<b>$x$" not in page and "asked:" not in page and "what is right" not in page
    assert len(list((out / "submitted").rglob("*.ipynb"))) == len(set(made) - {"broken", "no notebook", "empty"})


def read_rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    from emorl_lite.base.files import read_table

    return {(str(row["student"]), row["exercise"].partition(" ")[0]): row for row in read_table(path, "grades").to_dict("records")}


def faults_of(rows, student, one, lesson) -> list[str]:
    faults = []
    for q in lesson.questions:
        if q.is_open:
            continue
        row = rows[student, q.name]
        earned = q.points if q.name in one.right else 0
        if row["points"] != earned or row["possible"] != q.points:
            faults.append(f"{student}, {q.name}: {row['points']} points, not {earned}: {row['what happened']}")
        if (one.said or {}).get(q.name, "") not in row["what happened"]:
            faults.append(f"{student}, {q.name}: told {row['what happened']!r}, not {one.said[q.name]!r}")
    return faults


@pytest.mark.slow
def test_every_solution_earns_its_points():
    """In a process that reads neither the exercises nor the notebooks."""
    asked = lessons()
    answers = {lesson.number: {q.name: q.answer for q in lesson.questions if not q.is_open} for lesson in asked}
    handed_in = {lesson.number: Submission(Path("x"), lesson, answers[lesson.number]) for lesson in asked}
    graded = grade([Student("ada", handed_in)], asked, Grade("x", memory=2, quiet=True), (), 1)
    assert [(mark.question.name, mark.what) for one in graded for mark in one.marks if mark.points != mark.question.points] == []


# -- processes


def asked(source: str, *cases: tuple, **more) -> Asked:
    return Asked("00.1", "f", source, cases=cases or ((1,), (2,)), **more)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_what_one_answer_does_costs_the_others_nothing(apart):
    right, loop, ends = "def f(x):\n    return 2 * x", "def f(x):\n    while True:\n        pass", "import os\nos._exit(3)"
    batch = Batch("a", tuple(map(asked, (right, loop, right, ends, right))))
    outcomes = run_batches([batch, Batch("b", ())], TIGHT, 2, apart)["a"]
    assert [outcome["state"] for outcome in outcomes] == ["called", "late", "called", "ended", "called"]
    assert [call["result"] for call in outcomes[4]["calls"]] == [2, 4]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the test calls Linux's own functions")
def test_a_process_is_ended_with_all_that_it_started():
    """The processes that answers start are refused by the fence; where that fails, they are ended."""
    source = (
        "import ctypes, time\nlibc = ctypes.CDLL(None)\ndef f(x):\n    if libc.fork() == 0:\n        libc.prctl(15, b'left behind')\n"
        "        time.sleep(600)\n    while True:\n        pass"
    )
    outcome = run_batches([Batch("a", (asked(source),))], Limits(0.5, 2**31), 1)["a"][0]
    assert outcome["state"] == "late"
    assert gone("name", "left behind")


def test_what_fails_below_an_answer_takes_nothing_from_it():
    sources = (
        "def f(x):\n    display(x)\n    return 2 * x\nf(client)",
        "f(client)\ndef f(x):\n    return 2 * x",
        "f = ...\nf + 1",
        "f = f + 1",
    )
    earlier = (("def f(x):\n    return 3 * x", True),)
    outcomes = run_batches([Batch("a", tuple(asked(source, earlier=earlier) for source in sources))], Limits(30, 2**31), 1)["a"]
    assert [outcome["state"] for outcome in outcomes] == ["called", "raised", "stub", "raised"]
    assert [call["result"] for call in outcomes[0]["calls"]] == [2, 4]


def test_what_matplotlib_asks_for_by_itself_is_nothing_that_an_answer_tried():
    """It looks for fonts when it is imported. Refused it is all the same."""
    sources = [f"import subprocess\ndef f(x):\n    subprocess.check_output(['{name}'])" for name in ("fc-list", "ls")]
    outcomes = run_batches([Batch("a", tuple(map(asked, sources)))], Limits(30, 2**31), 1)["a"]
    assert [call["raised"][0] for outcome in outcomes for call in outcome["calls"]] == ["PermissionError"] * 4
    assert [outcome["tried"] for outcome in outcomes] == [[], ["tried to start a process"]]


def gone(what: str, words: str, seconds: float = 60) -> bool:
    """Whether no process is there, after a while, whose name or command line says so: one that was killed needs a moment to end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        there = [process.info for process in psutil.process_iter([what, "status"]) if process.info["status"] != psutil.STATUS_ZOMBIE]
        if not any(words in (" ".join(process[what]) if isinstance(process[what], list) else process[what] or "") for process in there):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not version(), reason="this kernel has no Landlock")
def test_the_kernel_refuses_what_python_does_not_see(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    source = "import ctypes, os\ndef f(path, flags):\n    return ctypes.CDLL(None).open(path.encode(), flags) >= 0"
    cases = ((str(secret), 0), (str(ROOT / "README.md"), 0), (str(ROOT / "README.md"), 2), ("here", 64 | 1))
    outcome = run_batches([Batch("a", (asked(source, *cases),))], Limits(9.0, 2**31, (str(secret),)), 1)["a"][0]
    assert [call["result"] for call in outcome["calls"]] == [False, True, False, True]


@pytest.mark.plain
def test_paths_beside_closed_ones_stay_open(tmp_path):
    for name in ("a", "b/c", "b/d/e"):
        (tmp_path / name).mkdir(parents=True)
    opened = open_paths([tmp_path / "b" / "c", tmp_path / "b" / "d" / "e"])
    here = [path for path in opened if path.startswith(str(tmp_path))]
    assert here == [str(tmp_path / "a")]
    assert not any(tmp_path.is_relative_to(path) for path in opened)


# -- what is carried between processes


@pytest.mark.plain
@pytest.mark.parametrize(
    "answer, carried",
    [
        (3, 3), (0.1, 0.1), (True, True), (None, None), ("a", "a"), (..., ...), ((1, ...), [1, ...]), ([[1], [2, 3]], [[1], [2, 3]]),
        ({1, 2}, {1, 2}), ({(1, 2)}, {(1, 2)}), ({"a": [1]}, {"a": [1]}), ({(0, 1): 2.0}, {(0, 1): 2.0}), ({np.int64(3): 1}, {3: 1}),
        (np.arange(3), [0, 1, 2]), (torch.eye(2), [[1, 0], [0, 1]]), (Fraction(1, 2), 0.5), (1j, Unread("a complex number")),
        (iter(()), Unread(OTHER)), (lambda: 1, Unread("a function")), (math.inf, math.inf), ([], []), ({}, {}),
    ],
)  # fmt: skip
def test_answers_arrive_as_plain_values(answer, carried):
    assert unpacked(json.loads(json.dumps(packed(answer)))) == carried


@pytest.mark.plain
def test_rough_numbers_stay_rough():
    arrived = unpacked(json.loads(json.dumps(packed([torch.tensor([0.1], dtype=torch.bfloat16)]))))
    assert arrived[0].dtype == torch.bfloat16 and arrived[0].item() == torch.tensor(0.1, dtype=torch.bfloat16).item()


@pytest.mark.plain
@pytest.mark.parametrize(
    "data", [[], {}, ["what"], ["half", "float64", 1], ["dict", 1], ["dict", [["dict"], 1]], ["half", "float16", ["list", "a"]]]
)
def test_what_no_answer_is_packed_as_is_refused(data):
    with pytest.raises(ValueError):
        unpacked(data)


@pytest.mark.plain
def test_deep_data_is_refused():
    data = [1]
    for _ in range(200):
        data = ["list", data]
    with pytest.raises(ValueError):
        unpacked(data)


@pytest.mark.slow
@pytest.mark.parametrize("number", TOPICS)
def test_cases_can_be_sent_and_solutions_pass_on_cases_of_any_seed(number):
    (lesson,) = lessons([number])
    for q in lesson.questions:
        if q.is_open:
            continue
        space: dict = {}
        exec(compile(q.answer, "<answer>", "exec"), space)
        exercise = exercises(number)[q.name]
        for seed in (1, 2):
            pickle.dumps([case.arguments for case in exercise.drawn(seed)])
            verdict = judge(exercise, space[q.called], seed)
            assert verdict.wrong is None and not verdict.unsolved, verdict


# -- marks


def key() -> Key:
    (lesson,) = lessons(["00"])
    return key_of(next(q for q in lesson.questions if q.name == "00.3"), 1)


@pytest.mark.plain
@pytest.mark.parametrize(
    "outcome",
    [
        {}, {"state": "right"}, {"state": "called"}, {"state": "called", "calls": []}, {"state": "called", "calls": [{}] * 22},
        {"state": "value", "value": ["half", "float16", ["set"]], "callable": 0}, {"state": "raised", "raised": []},
        {"state": "raised", "raised": [3, "x", {}]}, {"state": [], "code": {}}, {"state": "ended", "code": "x"},
        {"state": "called", "calls": 3}, {"state": "stub"}, {"state": "garbled"}, {"state": "large", "tried": 3},
    ],
)  # fmt: skip
def test_whatever_a_process_wrote_is_marked_and_earns_nothing(outcome):
    marked = mark(key(), outcome, "source", 1, 1)
    assert marked.points == 0 and marked.what


@pytest.mark.plain
def test_what_was_raised_is_told_in_words_of_python_or_of_the_answer():
    said = mark(key(), {"state": "raised", "raised": ["Asked_3_4", 1, "x"]}, "def f(y): pass", 1, 1).what
    assert said == "raises an exception in its line 1"
    said = mark(key(), {"state": "raised", "raised": ["NameError", 1, "y"]}, "def f(y): pass", 1, 1).what
    assert said == "raises NameError (y) in its line 1"


# -- what an answer needs


@pytest.mark.plain
def test_an_answer_gets_what_it_names_of_the_cells_before_it():
    before = [*parts_of("import math\nimport torch\nscores = train()\nlimit = 3"), whole("def own(x):\n    return math.sqrt(x)\nlimit = 4")]
    found = [part.source for part in needed("%time y = 1\ndef f(scores):\n    return own(scores) + limit", before)]
    assert found == ["import math", "def own(x):\n    return math.sqrt(x)\nlimit = 4"]
    late = [*parts_of("def one():\n    return two()"), *parts_of("def two():\n    return limit"), *before]
    assert [part.source for part in needed("x = one()", late)][:2] == ["def one():\n    return two()", "def two():\n    return limit"]
    assert needed("def f(x:", before) == [] and parts_of("def f(x:") == []
    assert [part.source for part in needed("%%time\nlimit = math.pi", before)] == ["import math"]
    assert [part.source for part in parts_of("%%capture out\nx = 1\n!ls\ny = 2") if part.makes] == ["x = 1", "y = 2"]
    assert parts_of("-" * 100_000 + "x") == [] == parts_of("(" * 10_000)


@pytest.mark.plain
def test_cells_of_a_students_own_stand_beside_the_answers(tmp_path):
    """In the notebook's order, and those behind an answer apart: a student may have run them before it."""
    (lesson,) = lessons(["00"])
    book = whole_book(lesson, {"00.1": "label = 0.1", "00.2": "def reflection_label(right, wrong):\n    return twice(label)"})
    at = {cell.id: i for i, cell in enumerate(book.cells)}
    for place, source in ((at["00-e3x"], "label = 5"), (at["00-e2x"], "def twice(x):\n    return 2 * x"), (at["00-e1x"], "import math")):
        book.cells.insert(place, code(source))
    put(tmp_path / "a.ipynb", book)
    (student,) = read_students(tmp_path, [lesson])
    submission, question = student.submissions["00"], lesson.questions[1]
    earlier, behind = ([each for each in cells if "check(" not in each[0]] for cells in beside(submission, question))
    assert behind == [("label = 5", True)]
    assert earlier == [("import math", True), ("label = 0.1", False), ("def twice(x):\n    return 2 * x", True)]


def test_what_an_answer_names_of_cells_beside_it_is_there():
    (lesson,) = lessons(["00"])
    (question,) = [q for q in lesson.questions if q.name == "00.3"]
    own = "import numpy as own\n!nothing\nraise ValueError\ndef share(weights):\n    return own.array(weights) / own.sum(weights)"
    answer = "%%time\ndef utility(scores, weights):\n    return own.dot(scores, share(weights))"
    one = Submission(Path("x"), lesson, {question.name: answer}, places={question.name: 1}, own=((0, own),))
    (graded,) = grade([Student("ada", {"00": one})], [lesson], Grade("x", memory=2, quiet=True), (), 1)
    (found,) = [mark for mark in graded.marks if mark.question.name == question.name]
    assert (found.what, found.tried) == ("right", ())


def test_windows_ends_of_lines_are_none_of_an_answer(tmp_path):
    (lesson,) = lessons(["00"])
    book = json.dumps(whole_book(lesson, {"00.1": "label = (\n    0.1\n)"}))
    (tmp_path / "a.ipynb").write_text(book.replace("\\n", "\\r\\n"))
    (student,) = read_students(tmp_path, [lesson])
    answers = student.submissions["00"].answers
    assert answers["00.1"] == "label = (\n    0.1\n)" and not own_words(answers["00.7"])


def test_what_is_nobodys_submission_is_not_graded(tmp_path):
    (tmp_path / "course" / "source").mkdir(parents=True)
    (tmp_path / "course" / "course.json").write_text("{}")
    for folder, told in ((tmp_path / "course", "a course's own folder"), (ROOT / "notebooks", "the repository's own notebooks")):
        with pytest.raises(UserError, match=told):
            run_grade(Grade(str(folder), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["{}", "{}/grades", "{}/.."])
def test_nothing_is_written_among_the_submissions(out, tmp_path):
    folder = tmp_path / "submitted"
    (folder / "ann").mkdir(parents=True)
    (folder / "ann" / "00.ipynb").write_text("{}")
    with pytest.raises(UserError, match="would lie among the submissions"):
        run_grade(Grade(str(folder), (), out=out.format(folder)))
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["00.ipynb"]


# -- submissions


@pytest.mark.plain
def test_students_are_files_and_folders(tmp_path):
    (lesson,) = lessons(["00"])
    book = json.dumps(whole_book(lesson, {"00.1": "label = 0.1"}))
    for name in ("ada.ipynb", "bob/x/00.ipynb", "bob/.ipynb_checkpoints/00.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(book)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "eve").mkdir()
    (tmp_path / "eve" / "00.ipynb").symlink_to(tmp_path / "ada.ipynb")
    students = read_students(tmp_path, lessons(["00", "02"]))
    assert [student.name for student in students] == ["ada", "bob", "eve"]
    assert [list(student.submissions) for student in students] == [["00"], ["00"], []]
    assert students[0].submissions["00"].answers["00.1"] == "label = 0.1"
    with pytest.raises(UserError, match="no submissions"):
        read_students(tmp_path / "bob" / ".ipynb_checkpoints", [lesson]) if os.remove(
            tmp_path / "bob/.ipynb_checkpoints/00.ipynb"
        ) is None else 0
    with pytest.raises(UserError, match="no folder"):
        read_students(tmp_path / "nowhere", [lesson])


@pytest.mark.plain
@pytest.mark.parametrize(
    "data, told",
    [
        (b"", "no JSON"), (b"[" * 100_000, "no JSON"), (b"\xff\xfe", "UTF-8"), (b"[]", "no cells"), (b'{"cells": {}}', "no cells"),
        (b"null", "no cells"), (b'{"cells": [', "no JSON"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_told(tmp_path, data, told):
    (tmp_path / "a.ipynb").write_bytes(data)
    with pytest.raises(UserError, match=told):
        read_cells(tmp_path / "a.ipynb")


@pytest.mark.plain
def test_old_and_odd_notebooks_are_read(tmp_path):
    cells = [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}, 3, {"source": 4, "metadata": []}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"worksheets": [{"cells": cells}, 3]}))
    assert [(cell.code, cell.source) for cell in read_cells(tmp_path / "a.ipynb")] == [(True, "x = 1\ny = 2"), (False, "")]


@pytest.mark.plain
def test_an_answer_in_another_cell_counts_while_its_own_is_a_stub(tmp_path):
    (lesson,) = lessons(["00"])
    book = whole_book(lesson, {})
    at = next(i for i, cell in enumerate(book.cells) if cell.id == "00-e1x")
    book.cells.insert(at + 1, {"cell_type": "code", "source": "label = 0.1", "metadata": {}, "outputs": []})
    (tmp_path / "a.ipynb").write_text(json.dumps(book))
    (student,) = read_students(tmp_path, [lesson])
    assert student.submissions["00"].answers["00.1"] == "label = 0.1"


@pytest.mark.plain
def test_hidden_cases_are_those_of_the_course(tmp_path):
    (lesson,) = lessons(["00"])
    assert seed_of(tmp_path, [lesson]) == 0
    path = tmp_path / "source" / lesson.name / f"{lesson.name}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text('check("00.3", utility, strict=True, seed=77)')
    assert seed_of(tmp_path, [lesson]) == 77
    path.write_text("strict=True, seed=77) strict=True, seed=78)")
    with pytest.raises(UserError, match="several seeds"):
        seed_of(tmp_path, [lesson])


def code(source: str) -> dict:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": []}


def put(path: Path, book) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book))


@pytest.mark.plain
def test_of_two_notebooks_the_one_with_more_answers_counts(tmp_path):
    (lesson,) = lessons(["00"])
    half = whole_book(lesson, {"00.1": "label = 0.1"})
    half.cells = [cell for cell in half.cells if not cell.id.startswith("00-e6")]
    put(tmp_path / "ada" / "worked.ipynb", half)
    put(tmp_path / "ada" / "fresh.ipynb", whole_book(lesson, {}))
    put(tmp_path / "ada" / "before_updates" / "00.1.ipynb", whole_book(lesson, {"00.1": "label = 1", "00.2": "x = 3"}))
    put(tmp_path / "before_updates" / "00.1.ipynb", half)
    (student,) = read_students(tmp_path, [lesson])
    assert student.submissions["00"].path.name == "worked.ipynb"


@pytest.mark.plain
@pytest.mark.parametrize("offset, expected", [(0, "label = 0.9"), (1, "label = 0.1"), (2, "label = 0.9")])
def test_the_last_answer_before_the_check_counts(tmp_path, offset, expected):
    """As the student's own check saw it: a cell behind the check, or before a later answer, was not asked."""
    (lesson,) = lessons(["00"])
    book = whole_book(lesson, {"00.1": "label = 0.9"})
    at = next(i for i, cell in enumerate(book.cells) if cell.id == "00-e1x")
    book.cells.insert(at + offset, code("label = 0.1"))
    put(tmp_path / "a.ipynb", book)
    (student,) = read_students(tmp_path, [lesson])
    assert student.submissions["00"].answers["00.1"] == expected


@pytest.mark.plain
def test_an_open_answer_may_begin_with_a_heading(tmp_path):
    (lesson,) = lessons(["00"])
    book = json.loads(json.dumps(lesson.book))
    at = next(i for i, cell in enumerate(book["cells"]) if cell["id"] == "00-e7t")
    book["cells"].insert(at + 1, {"cell_type": "markdown", "source": "## My answer\n\nAsk ten.", "metadata": {}})
    book["cells"][at + 2].pop("id")  # "## Summary": known by its text
    put(tmp_path / "a.ipynb", book)
    (student,) = read_students(tmp_path, [lesson])
    assert student.submissions["00"].answers["00.7"] == "## My answer\n\nAsk ten."


@pytest.mark.plain
@pytest.mark.parametrize("answer", ["", "Thirty with high rewards."])
def test_an_open_answer_in_otters_notebook_is_what_was_written(answer, tmp_path):
    """Otter puts the task and the answer into cells of its own, and its export below them."""
    (lesson,) = lessons(["00"])
    book = json.loads(json.dumps(lesson.book))
    at = next(i for i, cell in enumerate(book["cells"]) if cell["id"] == "00-e7t")
    task = next(q.task for q in lesson.questions if q.name == "00.7")
    stub = "_Type your answer here, replacing this text._"
    sources = (
        f"<!-- BEGIN QUESTION -->\n\n{task.source.split('<details>')[0].rstrip()}",
        answer or stub,
        "<!-- END QUESTION -->\n\n",
        "## Submission",
    )
    book["cells"][at:] = [{"cell_type": "markdown", "source": source, "metadata": {}} for source in sources]
    book["cells"][at]["id"] = "00-e7t"
    put(tmp_path / "a.ipynb", book)
    (student,) = read_students(tmp_path, [lesson])
    assert own_words(student.submissions["00"].answers["00.7"]) == answer


@pytest.mark.plain
def test_whatever_was_handed_in_has_a_row_or_a_reason(tmp_path):
    (lesson,) = lessons(["00"])
    put(tmp_path / "ann.IPYNB", whole_book(lesson, {"00.1": "label = 0.1"}))
    for name in (
        "bob.zip",
        "cy.ipynb.json",
        "dan/work.tar.gz",
        "dan/essay.pdf",
        "fay/x.ipynb.txt",
        "list.csv",
        ".hidden.zip",
        "__MACOSX/a.ipynb",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "eve").symlink_to(tmp_path / "dan")
    students = {student.name: student for student in read_students(tmp_path, [lesson])}
    assert list(students) == ["ann", "bob", "cy", "dan", "eve", "fay"]
    assert list(students["ann"].submissions) == ["00"]
    assert students["bob"].unread == ("bob.zip: not a notebook; unpack it",)
    assert students["dan"].unread == ("dan/work.tar.gz: not a notebook; unpack it", "dan/essay.pdf: not a notebook")
    assert "must end in .ipynb" in students["cy"].unread[0] and "must end in .ipynb" in students["fay"].unread[0]
    assert "a link" in students["eve"].unread[0]
    assert passed_over(tmp_path) == ["list.csv"]


@pytest.mark.plain
def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "ann").mkdir()

    def refused(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    monkeypatch.setattr(os, "walk", refused)
    (student,) = read_students(tmp_path, lessons(["00"]))
    assert student.unread == ("ann: cannot be read (Permission denied)",)


@pytest.mark.plain
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.ipynb")
    with pytest.raises(UserError, match=r"^no regular file$"):
        read_cells(tmp_path / "a.ipynb")


@pytest.mark.plain
def test_nothing_to_grade_is_told_with_its_reason(tmp_path):
    (tmp_path / "in" / "ann").mkdir(parents=True)
    command = Grade(str(tmp_path / "in"), out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="nothing to grade: no notebook of the course in it"):
        run_grade(command)
    (tmp_path / "in" / "ann" / "a.ipynb").write_text("{}")
    with pytest.raises(UserError, match=r"nothing to grade: ann.a\.ipynb: no notebook"):
        run_grade(command)
    assert not (tmp_path / "out").exists()


@pytest.mark.plain
@pytest.mark.parametrize("out", [str(ROOT), str(ROOT.parent), sys.prefix])
def test_folders_that_answers_need_are_not_closed_to_them(tmp_path, out):
    put(tmp_path / "ann.ipynb", {})
    with pytest.raises(UserError, match="no answer may read it"):
        run_grade(Grade(str(tmp_path), out=out))


@pytest.mark.plain
def test_names_and_texts_that_are_no_characters_cost_nothing(tmp_path, capsys, monkeypatch):
    (lesson,) = lessons(["00"])
    names = ["\udcff.ipynb", "\udcfe.ipynb"] if sys.platform == "linux" else ["x.ipynb", "y.ipynb"]
    for name in names:
        put(tmp_path / "in" / name, whole_book(lesson, {"00.1": "label = '\ud800'", "00.7": "half \ud800"}))
    monkeypatch.setattr(
        grading, "grade", lambda students, asked, *rest: [grading.Graded(s, asked[0], s.submissions["00"], ()) for s in students]
    )
    assert run_grade(Grade(str(tmp_path / "in"), out=str(tmp_path / "out"), quiet=True)) == 0
    assert len(list((tmp_path / "out" / "feedback").iterdir())) == 2
    assert "half ?" in (tmp_path / "out" / "open_questions.csv").read_text(encoding="utf-8")
    assert open_page([("q", 1, [("\ud800", "\ud800")])]).encode("utf-8")
    assert "no course in" in capsys.readouterr().err


@pytest.mark.plain
def test_long_rules_and_long_answers_are_read_at_once():
    start = time.process_time()
    assert own_words("-" * 10**6 + "x") == ""
    assert own_words("- " * 40_000 + "x").endswith("x")
    assert time.process_time() - start < 5
    assert own_words("*Your answer, instead of this line.*") == "" == own_words(" --- ")
    assert "cut here" in own_words("x" * (LONGEST + 1))


@pytest.mark.plain
def test_the_course_says_its_seed_and_what_it_lacks_is_told(tmp_path):
    asked = lessons(["00", "01"])
    assert seed_of(tmp_path, asked) == 0
    assert "no course in" in grading._note(tmp_path, asked, 0) and "anyone could draw" in grading._note(tmp_path, asked, 0)
    for text in ("", "[" * 5000, "[]"):
        (tmp_path / "course.json").write_text(text)
        with pytest.raises(UserError, match=r"course\.json: cannot be read as the course's record.*make the course anew"):
            seed_of(tmp_path, asked)
    (tmp_path / "course.json").write_text('{"seed": 5}')
    put(tmp_path / "source" / asked[0].name / f"{asked[0].name}.ipynb", {})
    assert seed_of(tmp_path, asked) == 5
    assert grading._note(tmp_path, asked[:1], 5) == ""
    assert grading._note(tmp_path, asked, 5).endswith(f"has no assignment {asked[1].name}: a point for each dot")


@pytest.mark.plain
@pytest.mark.parametrize("stage, told", [("grade", "nothing was written"), ("write_all", "not all are new")])
def test_who_stops_it_is_told_what_was_written(tmp_path, monkeypatch, stage, told):
    (lesson,) = lessons(["00"])
    put(tmp_path / "in" / "a.ipynb", whole_book(lesson, {}))

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(grading, "grade", lambda *arguments: [])
    monkeypatch.setattr(grading, stage, stopped)
    with pytest.raises(KeyboardInterrupt, match=told):
        run_grade(Grade(str(tmp_path / "in"), out=str(tmp_path / "out")))


# -- what nobody foresaw: names, sizes, folders


@pytest.fixture
def ungraded(monkeypatch):
    """Everything of the command but the answers' processes: nobody earns anything."""
    monkeypatch.setattr(
        grading,
        "grade",
        lambda students, asked, *rest: [grading.Graded(s, one, s.submissions.get(one.number), ()) for s in students for one in asked],
    )


def command_of(folder: Path, out: str = "out", **more) -> Grade:
    return Grade(str(folder / "in"), out=str(folder / out), course=str(folder), quiet=True, **more)


@pytest.mark.plain
def test_what_a_person_wrote_among_the_results_is_not_written_over(tmp_path, ungraded):
    (lesson,) = lessons(["00"])
    put(tmp_path / "in" / "ann.ipynb", whole_book(lesson, {}))
    names = ("feedback/ann.html", f"submitted/ann/{lesson.name}/{lesson.name}.ipynb", "open_questions.html")
    for name in names:  # there before: a course's own submissions, say
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(UserError, match=f"{name} is not this command's, or was changed"):
            run_grade(command_of(tmp_path))
        assert (tmp_path / "out" / name).read_text() == "mine" and not (tmp_path / "out" / "grades.csv").exists()
        (tmp_path / "out" / name).unlink()
    assert run_grade(command_of(tmp_path)) == run_grade(command_of(tmp_path)) == 0
    for name in names:  # changed since
        before = (tmp_path / "out" / name).read_text(encoding="utf-8")
        (tmp_path / "out" / name).write_text(before + " well done", encoding="utf-8")
        with pytest.raises(UserError, match="or was changed since"):
            run_grade(command_of(tmp_path))
        assert (tmp_path / "out" / name).read_text(encoding="utf-8").endswith("well done")
        (tmp_path / "out" / name).write_text(before, encoding="utf-8")
    assert run_grade(command_of(tmp_path)) == 0


@pytest.mark.plain
def test_a_command_that_was_stopped_while_it_wrote_can_be_given_again(tmp_path, ungraded, monkeypatch):
    (lesson,) = lessons(["00"])
    put(tmp_path / "in" / "ann.ipynb", whole_book(lesson, {}))
    run_grade(command_of(tmp_path))
    put(tmp_path / "in" / "ann.ipynb", whole_book(lesson, {"00.1": "label = 0.1"}))
    put(tmp_path / "in" / "bob.ipynb", whole_book(lesson, {}))
    write, left = written.write_atomically, [2]

    def stopped(path, text):
        write(path, text)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(written, "write_atomically", stopped)
        run_grade(command_of(tmp_path))
    assert run_grade(command_of(tmp_path)) == 0
    assert "label = 0.1" in (tmp_path / "out" / "submitted" / "ann" / lesson.name / f"{lesson.name}.ipynb").read_text(encoding="utf-8")


@pytest.mark.plain
@pytest.mark.parametrize("text", ["{", "[]", '{"made_by": "me", "files": {}}', '{"made_by": "emorl_lite", "files": {"a": "b"}}'])
def test_a_record_of_what_was_written_is_not_written_over_if_it_is_none(text, tmp_path, ungraded):
    put(tmp_path / "in" / "ann.ipynb", whole_book(lessons(["00"])[0], {}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / written.RECORD).write_text(text)
    with pytest.raises(UserError, match=r"written\.json"):
        run_grade(command_of(tmp_path))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [written.RECORD]


@pytest.mark.plain
@pytest.mark.parametrize("name", ["feedback", "submitted"])
def test_a_file_where_a_folder_goes_is_told_before_anything_is_graded(name, tmp_path, monkeypatch):
    put(tmp_path / "in" / "ann.ipynb", whole_book(lessons(["00"])[0], {}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    monkeypatch.setattr(grading, "grade", lambda *rest: pytest.fail("graded"))
    with pytest.raises(UserError, match=rf"--out .*{name}"):
        run_grade(command_of(tmp_path))


@pytest.mark.plain
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files cannot have such names")
def test_odd_names_of_students_are_kept_apart_and_printed_as_text(tmp_path, ungraded, capsys):
    book = whole_book(lessons(["00"])[0], {})
    names = ["ann", "Ann", "e\u0301va", "\u00e9va", "\x1b[2Jbob\nbob", '\'; rm -rf "$HOME" #', "x" * 240, "x" * 241, " "]
    for name in names:
        put(tmp_path / "in" / f"{name}.ipynb", book)
    assert run_grade(command_of(tmp_path)) == 0
    pages = sorted(path.stem for path in (tmp_path / "out" / "feedback").iterdir())
    assert len(pages) == len({page.casefold() for page in pages}) == len(names)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and all(page.isprintable() for page in pages if "\ufffd" not in page)
    assert len([line for line in said.out.splitlines() if "bob" in line]) == 1


@pytest.mark.plain
def test_of_several_notebooks_it_is_told_which_counts(tmp_path, ungraded, capsys):
    (lesson,) = lessons(["00"])
    put(tmp_path / "in" / "group 1" / "ann.ipynb", whole_book(lesson, {}))
    put(tmp_path / "in" / "group 1" / "bob.ipynb", whole_book(lesson, {"00.1": "label = 0.1"}))
    run_grade(command_of(tmp_path))
    assert "note: several notebooks of one assignment: group 1 (the fullest of 2: group 1/bob.ipynb)" in capsys.readouterr().err
    assert "the fullest of 2: group 1/bob.ipynb" in (tmp_path / "out" / "students.csv").read_text(encoding="utf-8")


@pytest.mark.plain
def test_a_huge_notebook_is_read_as_far_as_anybody_would(tmp_path):
    cells = [{"cell_type": "code", "source": "x = 1\n" * 10**6, "metadata": {}, "outputs": [{"text": "y" * 10**6}]}]
    put(tmp_path / "a.ipynb", {"cells": cells})
    (cell,) = read_cells(tmp_path / "a.ipynb")
    assert len(cell.source) == LONGEST + 1
    put(tmp_path / "a.ipynb", {"cells": [{}] * 10_001})
    with pytest.raises(UserError, match="more than 10,000 cells"):
        read_cells(tmp_path / "a.ipynb")


@pytest.mark.plain
def test_a_file_that_is_too_large_is_told_as_that(tmp_path, monkeypatch):
    monkeypatch.setattr("emorl_lite.course.submissions.LARGEST", 2**20)
    (tmp_path / "a.ipynb").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(UserError, match=r"^larger than 1 MB$"):
        read_cells(tmp_path / "a.ipynb")


@pytest.mark.plain
@pytest.mark.skipif(sys.platform == "win32", reason="there not everybody may make links")
def test_a_link_among_the_results_leads_into_no_submission(tmp_path, ungraded):
    put(tmp_path / "in" / "ann" / "a.ipynb", whole_book(lessons(["00"])[0], {}))
    (tmp_path / "out" / "submitted").mkdir(parents=True)
    (tmp_path / "out" / "submitted" / "ann").symlink_to(tmp_path / "in" / "ann")
    with pytest.raises(UserError, match=r"leads into .* by a link"):
        run_grade(command_of(tmp_path))
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["ann", "a.ipynb"]


def test_a_folder_that_refuses_files_is_told_before_anything_is_graded(tmp_path, monkeypatch):
    """A network's folder may be refused although its rights allow it."""

    def refused(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    monkeypatch.setattr(grading, "grade", lambda *given: pytest.fail("graded"))
    put(tmp_path / "in" / "ann.ipynb", whole_book(lessons(["00"])[0], {}))
    with pytest.raises(UserError, match=r"--out .*cannot write in .*\(Read-only file system\)"):
        run_grade(command_of(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.plain
def test_a_file_is_no_folder_of_submissions(tmp_path):
    (tmp_path / "in").write_text("x")
    with pytest.raises(UserError, match="in: a file, expected a folder"):
        run_grade(command_of(tmp_path))


@pytest.mark.plain
def test_an_instructors_points_count_whole_or_half(tmp_path):
    (lesson,) = lessons(["00"])
    source = tmp_path / "source" / lesson.name / f"{lesson.name}.ipynb"
    for given, taken in ((2.5, 2.5), (7.0, 7), (0, 0)):
        book = whole_book(lesson, {})
        marks = [cell.metadata["nbgrader"] for cell in book.cells if cell.metadata.get("nbgrader", {}).get("grade")]
        marks[0]["points"] = given
        put(source, book)
        points = grading._as_set(lesson, tmp_path).questions[0].points
        assert points == taken and type(points) is type(taken)
    for wrong in (None, "3", -1, True):
        marks[0]["points"] = wrong
        put(source, book)
        with pytest.raises(UserError, match=rf"{lesson.name}\.ipynb, .*: points"):
            grading._as_set(lesson, tmp_path)
