"""Handouts, assignments and updates of started work: nothing is missing, nothing is given away, nothing that was written is lost."""

from __future__ import annotations

import copy
import inspect
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
from course_cells import ROOT, asked, tags, verdict

from emorl_lite.__main__ import main
from emorl_lite.base.errors import UserError
from emorl_lite.course import assignments, making
from emorl_lite.course.assignments import assignment, commands_found, grade_id, nbgrader_of, write_nbgrader
from emorl_lite.course.handouts import LATER, handout, update
from emorl_lite.course.lessons import Lesson, lessons, read_lesson
from emorl_lite.course.making import Course, make_course, run_course
from emorl_lite.course.otter import called_in_otter, has_otter, master, write_otter
from emorl_lite.exercises.course import TOPICS, find
from emorl_lite.exercises.judging import judge
from emorl_lite.tutorial import execution
from emorl_lite.tutorial.checks import check
from emorl_lite.tutorial.copies import facts_of, given, merge, read_copies, refresh
from emorl_lite.tutorial.lab import copy_notebooks

SEED = 20_011
each_lesson = pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)


def released(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What nbgrader takes out of a source notebook for its release, without its gradebook."""
    from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions
    from traitlets.config import Config

    config = Config()
    config.ClearSolutions.code_stub = {"python": ""}
    for preprocessor in (ClearSolutions(config=config), ClearHiddenTests()):
        book, _ = preprocessor.preprocess(copy.deepcopy(book), {})
    return book


def lines_of(source: str) -> set[str]:
    """The lines of a piece of code that say something."""
    return {line.strip() for line in source.splitlines() if len(line.strip()) > 12}


def graded(book: nbformat.NotebookNode) -> dict[str, float]:
    """Points by the cell that bears them."""
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in book.cells if c.metadata.get("nbgrader", {}).get("grade")}


# -- lessons


def test_lessons_are_the_notebooks():
    assert [lesson.number for lesson in lessons()] == list(TOPICS)
    assert [lesson.number for lesson in lessons(("02", "00"))] == ["00", "02"]
    with pytest.raises(UserError, match=r"--notebooks 77: no notebook of the course \(00, 01"):
        lessons(("00", "77"))


@each_lesson
def test_a_lesson_has_every_question_of_its_notebook(lesson):
    there = asked(lesson.book, lesson.number)
    checked = [q for q in lesson.questions if not q.is_open]
    assert [(q.name, q.called, q.minutes, q.answer) for q in checked] == [(e.name, e.answer, e.minutes, e.solution) for e in there]
    assert sum(q.is_open for q in lesson.questions) == sum("open-question" in tags(cell) for cell in lesson.book.cells) > 0
    for q in lesson.questions:
        assert q.points == q.task.source.split("difficulty ")[1].split(" ")[0].count("●") in (1, 2, 3)
        assert q.title and q.answer.strip()


def test_a_question_that_is_not_whole_is_told(tmp_path):
    book = lessons(("00",))[0].book
    cells = [cell for cell in book.cells if "solution" not in tags(cell)]
    path = tmp_path / "00_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(UserError, match=r"00_x.ipynb, exercise 00.1: its stub is not followed"):
        read_lesson(path)


# -- assignments


@each_lesson
def test_every_question_is_released_once_with_its_points(lesson):
    for book in (assignment(lesson, SEED), released(assignment(lesson, SEED))):
        nbformat.validate(book)
        assert graded(book) == {grade_id(q): q.points for q in lesson.questions}
        text = "\n".join(cell.source for cell in book.cells)
        for q in lesson.questions:
            assert text.count(q.task.source.splitlines()[0] + "\n") == 1
        ids = [cell.id for cell in book.cells]
        assert len(ids) == len(set(ids))


@each_lesson
def test_the_release_gives_nothing_away(lesson):
    """Neither an answer, nor a line of a solution or a reference that the task does not show, nor the hidden cases."""
    book = released(assignment(lesson, SEED))
    cells = {cell.id: cell.source for cell in book.cells}
    text = "\n".join(cells.values())
    assert "HIDDEN" not in text and "SOLUTION" not in text and str(SEED) not in text and "good answer" not in text
    shown = "\n".join([cell.source for cell in lesson.book.cells if "colab" in tags(cell)])
    told = lines_of("\n".join([shown, *(f"{q.task.source}\n{q.stub.source}" for q in lesson.questions if not q.is_open)]))
    for q in lesson.questions:
        secret = lines_of(q.answer)
        if not q.is_open:
            secret |= lines_of(inspect.getsource(find(q.name).reference))
            assert cells[q.stub.id].strip() == q.stub.source.strip()
        given_away = (secret - told) & lines_of(text)
        assert not given_away, f"{q.name}: {given_away}"


@each_lesson
def test_the_source_has_what_graders_need(lesson):
    cells = {cell.id: cell.source for cell in assignment(lesson, SEED).cells}
    for q in lesson.questions:
        if q.is_open:
            assert q.answer.strip() in cells[grade_id(q)]
        else:
            assert q.answer.strip() in cells[q.stub.id]
            assert (f"seed={SEED}" in cells[q.check.id]) == (find(q.name).cases is not None)


@each_lesson
def test_a_stub_earns_nothing(lesson, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    checks = {cell.id: cell.source for cell in released(assignment(lesson, SEED)).cells}
    for q, exercise in zip([q for q in lesson.questions if not q.is_open], asked(lesson.book, lesson.number), strict=True):
        exercise.check = checks[q.check.id]
        with pytest.raises(AssertionError, match="Not solved yet"):
            verdict(exercise, q.stub.source)


@pytest.mark.slow
@each_lesson
def test_a_solution_earns_its_points_on_any_cases(lesson, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    checks = {cell.id: cell.source for cell in assignment(lesson, SEED).cells}
    for q, exercise in zip([q for q in lesson.questions if not q.is_open], asked(lesson.book, lesson.number), strict=True):
        exercise.check = checks[q.check.id]
        assert verdict(exercise, q.answer).count("Correct") == 1 + (find(q.name).cases is not None), q.name


def test_a_seed_draws_other_cases():
    exercise = find("02.3")
    seen = [[repr(case.arguments) for case in exercise.drawn(seed)] for seed in (0, 0, SEED, SEED, 1)]
    assert seen[0] == seen[1] and seen[2] == seen[3]
    assert not np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[2], seen[4])


def test_who_knows_the_cases_of_every_reader_does_not_know_the_hidden_ones():
    exercise = find("02.3")
    table = {repr(case.arguments): exercise.reference(*case.arguments) for case in exercise.drawn()}

    def remembered(score, logp, ref_logp, beta):
        return table.get(repr((score, logp, ref_logp, beta)), [])

    assert judge(exercise, remembered).wrong is None
    assert judge(exercise, remembered, SEED).wrong is not None
    with pytest.raises(AssertionError):
        check("02.3", remembered, strict=True, seed=SEED)


# -- nbgrader itself


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of notebook 00, made by nbgrader."""
    out = tmp_path_factory.mktemp("course") / "made"
    made = make_course(out, lessons(("00",)), "withheld", SEED)
    return out, made


@pytest.mark.slow
def test_a_course_is_made(course):
    out, (made,) = course
    lesson = lessons(("00",))[0]
    assert (made.name, made.notebook) == (lesson.name, "00")
    assert [(q.name, q.points, q.kind) for q in made.questions] == [
        (q.name, q.points, "open" if q.is_open else "checked") for q in lesson.questions
    ]
    record = json.loads((out / "course.json").read_text(encoding="utf-8"))
    assert record["seed"] == SEED and all((out / name).is_file() for name in record["files"])
    release = nbformat.read(out / "release" / lesson.name / f"{lesson.name}.ipynb", as_version=4)
    ours = released(assignment(lesson, SEED))
    assert [(c.id, c.source.strip()) for c in release.cells if not c.id.endswith("answer")] == [
        (c.id, c.source.strip()) for c in ours.cells if not c.id.endswith("answer")
    ]
    assert graded(release) == graded(ours)
    # made again, in the same folder: the same seed
    make_course(out, lessons(("00",)), "released")
    assert json.loads((out / "course.json").read_text(encoding="utf-8"))["seed"] == SEED


@pytest.mark.slow
def test_nbgrader_gives_full_points_to_the_solutions_and_none_to_stubs(course, monkeypatch):
    out, (made,) = course
    lesson = lessons(("00",))[0]
    release = out / "release" / lesson.name / f"{lesson.name}.ipynb"
    for student in ("solved", "untouched"):
        book = nbformat.read(release, as_version=4)
        answers = {q.stub.id: q.answer for q in lesson.questions if not q.is_open} if student == "solved" else {}
        for cell in book.cells:
            cell.source = answers.get(cell.id, cell.source)
        path = out / "submitted" / student / lesson.name / release.name
        path.parent.mkdir(parents=True)
        nbformat.write(book, path)
    from nbgrader.api import Gradebook

    with commands_found():
        api = nbgrader_of(out)
        for student in ("solved", "untouched"):
            done = api.autograde(made.name, student)
            assert done["success"], done
        with Gradebook(api.coursedir.db_url, api.coursedir.course_id) as book:
            scores = {s: {g.name: g.auto_score for g in book.find_submission_notebook(made.name, made.name, s).grades} for s in
                      ("solved", "untouched")}  # fmt: skip
    checked = {q.cell: q.points for q in made.questions if q.kind == "checked"}
    assert {name: score for name, score in scores["solved"].items() if name in checked} == checked
    assert not any(score for name, score in scores["untouched"].items() if name in checked)


# -- Otter


@each_lesson
def test_an_otter_master_has_every_question(lesson):
    book = master(lesson, SEED)
    nbformat.validate(book)
    raw = [cell.source for cell in book.cells if cell.cell_type == "raw"]
    for q in lesson.questions:
        (begin,) = [source for source in raw if f"name: {called_in_otter(q)}\n" in source]
        assert f"points: {q.points}" in begin and ("manual: true" in begin) == q.is_open
    assert [source for source in raw if source.startswith("# BEGIN QUESTION")].__len__() == raw.count("# END QUESTION")
    hidden = [cell.source for cell in book.cells if cell.source.startswith("# HIDDEN")]
    assert len(hidden) == sum(not q.is_open and find(q.name).cases is not None for q in lesson.questions)


@pytest.mark.slow
@pytest.mark.skipif(not has_otter(), reason="Otter-Grader is not installed here: it needs an environment of its own")
def test_otter_releases_without_answers(tmp_path):
    lesson = lessons(("00",))[0]
    write_otter([lesson], tmp_path, SEED)
    dist = tmp_path / lesson.name / "dist"
    text = "".join(path.read_text(encoding="utf-8") for path in (dist / "student").rglob("*.*"))
    assert str(SEED) not in text and "good answer" not in text
    stubs = {q.stub.id: q.stub.source.strip() for q in lesson.questions if not q.is_open}
    book = nbformat.read(dist / "student" / f"{lesson.name}.ipynb", as_version=4)
    assert {cell.id: cell.source.strip() for cell in book.cells if cell.get("id") in stubs} == stubs
    assert (dist / "autograder.zip").is_file()


# -- handouts


@each_lesson
def test_solutions_are_withheld_or_released_by_one_switch(lesson):
    withheld, handed = handout(lesson, "withheld"), handout(lesson, "released")
    for book in (withheld, handed):
        nbformat.validate(book)
        assert [cell.id for cell in book.cells] == [cell.id for cell in lesson.book.cells]
        assert "](../" not in "".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    solved = [cell for cell in withheld.cells if "solution" in tags(cell)]
    assert solved and all(cell.source == LATER for cell in solved)
    assert not any("What a good answer says" in cell.source for cell in withheld.cells)
    answers = [q.answer.strip() for q in lesson.questions]
    texts = "\n".join(cell.source for cell in handed.cells)
    assert sum(answer in texts for answer in answers) >= sum(not q.is_open for q in lesson.questions)


def test_links_lead_to_what_lies_beside_or_into_the_repository():
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(
        "[a](01_b.ipynb#x) [c](02_d.ipynb) [e](../docs/using.md#colab) [f](https://x.org/y) [g](#here)"
    )])  # fmt: skip
    lesson = Lesson("00", "00_a", "A", book, ())
    (cell,) = handout(lesson, "released", {"01_b.ipynb"}).cells
    home = "https://github.com/emorl-lite/emorl_lite/blob/main"
    assert cell.source.split() == [
        "[a](01_b.ipynb#x)",
        f"[c]({home}/notebooks/02_d.ipynb)",
        f"[e]({home}/docs/using.md#colab)",
        "[f](https://x.org/y)",
        "[g](#here)",
    ]


# -- updates of started work


def book_of(*cells: tuple[str, str]) -> nbformat.NotebookNode:
    """A notebook of code cells, (id, source) each."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id=name) for name, source in cells])


OLD = (("a", "text"), ("x", "f = ..."), ("b", "old"), ("gone", "bye"), ("z", "end"))
NEW = (("a", "text"), ("n", "new"), ("x", "f = ..."), ("b", "newer"), ("z", "end"))


def sources(book: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in book.cells]


def test_what_is_new_comes_in_and_work_stays():
    mine = given(book_of(*OLD))
    mine.cells[1].source = "f = 1"
    mine.cells.insert(2, nbformat.v4.new_code_cell("my own"))
    mine.cells[0].outputs = [nbformat.v4.new_output("stream", text="kept\n")]
    before = copy.deepcopy(mine)
    merged = merge(mine, given(book_of(*NEW)))
    assert sources(merged.book) == ["text", "new", "f = 1", "my own", "newer", "end"]
    assert (merged.new, merged.gone, merged.both, merged.back) == (("n", "b"), ("gone",), (), ())
    assert merged.book.cells[0].outputs and mine == before
    again = merge(merged.book, given(book_of(*NEW)))
    assert not again.changed and sources(again.book) == sources(merged.book)


def test_what_both_changed_stays_the_readers_and_is_named_once():
    mine = given(book_of(*OLD))
    mine.cells[2].source, mine.cells[3].source = "mine", "not yet"
    merged = merge(mine, given(book_of(*NEW)))
    assert merged.both == ("b",) and sources(merged.book) == ["text", "new", "f = ...", "mine", "not yet", "end"]
    assert merge(merged.book, given(book_of(*NEW))).both == ()


def test_deleted_cells_come_back_and_split_ones_stay():
    mine = given(book_of(*OLD))
    half = copy.deepcopy(mine.cells[1])
    mine.cells[1].source, half.source, half["id"] = "f = 1", "g = 2", "other"
    mine.cells[2:4] = [half]  # b and gone deleted; x split in two, its marks with both halves
    merged = merge(mine, given(book_of(*OLD)))
    assert sources(merged.book) == ["text", "f = 1", "g = 2", "old", "bye", "end"] and merged.back == ("b", "gone")
    nbformat.validate(merged.book)


def test_cells_are_known_again_where_a_service_gave_them_other_ids():
    mine = given(book_of(*OLD))
    mine.cells[1].source = "f = 1"
    for i, cell in enumerate(mine.cells):
        cell["id"] = f"colab{i}"
    assert sources(merge(mine, given(book_of(*NEW))).book) == ["text", "new", "f = 1", "newer", "end"]
    for cell in mine.cells:
        cell.metadata.clear()  # and other metadata, too: what is unchanged is known by its text
    merged = merge(mine, given(book_of(*NEW)))
    assert {"newer", "new", "f = 1"} < set(sources(merged.book)) and "old" not in sources(merged.book)


def test_a_copy_that_remembers_nothing_loses_nothing():
    mine = book_of(*OLD)
    merged = merge(mine, given(book_of(*NEW)))
    assert set(sources(merged.book)) == {"text", "new", "f = ...", "old", "bye", "end"} and merged.both == ("b",)


@each_lesson
def test_solutions_that_are_released_come_into_started_work(lesson):
    mine = handout(lesson, "withheld")
    stubs = {q.stub.id: q.answer for q in lesson.questions if not q.is_open}
    for cell in mine.cells:
        cell.source = stubs.get(cell.id, cell.source)
    merged = merge(mine, handout(lesson, "released"))
    assert not merged.both and not merged.gone and not merged.back
    wanted = {cell.id: cell.source for cell in handout(lesson, "released").cells} | stubs
    assert {cell.id: cell.source for cell in merged.book.cells} == wanted


def refreshed(folder: Path, books: dict, missing: bool = False) -> list[str]:
    """What becomes of copies that can be read."""
    there, unread = read_copies(folder, books)
    assert not unread
    return refresh(folder, books, there, missing)


def test_files_are_updated_and_kept_as_they_were(tmp_path):
    assert refreshed(tmp_path, {"00.ipynb": given(book_of(*OLD))}, missing=True) == ["00.ipynb: copied, yours to change"]
    path = tmp_path / "00.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[1].source = "f = 1"
    nbformat.write(book, path)
    was = path.read_bytes()
    assert refreshed(tmp_path, {"00.ipynb": given(book_of(*OLD))}, missing=True) == [] and path.read_bytes() == was
    (line,) = refreshed(tmp_path, {"00.ipynb": given(book_of(*NEW)), "01.ipynb": given(book_of(*NEW))})
    assert line == "00.ipynb: cells: 2 new or changed, 1 gone; all that you wrote stays; as it was: before_updates/00.1.ipynb"
    assert (tmp_path / "before_updates" / "00.1.ipynb").read_bytes() == was and not (tmp_path / "01.ipynb").exists()
    assert sources(nbformat.read(path, as_version=4)) == ["text", "new", "f = 1", "newer", "end"]


def test_a_folder_with_a_file_that_is_no_notebook_is_not_updated(tmp_path):
    first, second = lessons(("00", "01"))
    nbformat.write(given(book_of(*OLD)), tmp_path / f"{first.name}.ipynb")
    (tmp_path / f"{second.name}.ipynb").write_text("{", encoding="utf-8")
    before = (tmp_path / f"{first.name}.ipynb").read_bytes()
    with pytest.raises(UserError, match=rf"{second.name}\.ipynb: not a notebook"):
        update(tmp_path, [first, second])
    assert (tmp_path / f"{first.name}.ipynb").read_bytes() == before


HEAD = '{"nbformat": 4, "nbformat_minor": '
CUT = ("", "{", "null", "\ufeff", HEAD + "5}", HEAD + '5, "metadata": [], "cells": []}', HEAD + '"5", "metadata": {}, "cells": []}')
CUT += (HEAD + '5, "metadata": {}, "cells": [{"id": "a", "cell_type": "code", "metadata": {}}]}',)


@pytest.mark.parametrize("text", CUT)
def test_a_copy_that_cannot_be_read_stops_no_other(text, tmp_path):
    for folder in ("notebooks", "my_notebooks"):
        (tmp_path / folder).mkdir()
    for name in ("00_a.ipynb", "01_b.ipynb"):
        nbformat.write(book_of(*NEW), tmp_path / "notebooks" / name)
    broken = tmp_path / "my_notebooks" / "00_a.ipynb"
    broken.write_text(text, encoding="utf-8")
    said = copy_notebooks(tmp_path)
    assert said == [
        "00_a.ipynb: cannot be read: move it away, and it is copied anew",
        "1 notebook copied to my_notebooks/, yours to change",
    ]
    assert broken.read_text(encoding="utf-8") == text and (tmp_path / "my_notebooks" / "01_b.ipynb").exists()


def test_a_byte_order_mark_is_none_of_a_copy(tmp_path):
    path = tmp_path / "00.ipynb"
    path.write_text("\ufeff" + nbformat.writes(given(book_of(*OLD))), encoding="utf-8")
    (line,) = refreshed(tmp_path, {"00.ipynb": given(book_of(*NEW))}, missing=True)
    assert "2 new or changed" in line and sources(nbformat.read(path, as_version=4)) == ["text", "new", "f = ...", "newer", "end"]


WRONG = (None, [], [1], "x", 3, {"x": []}, {"x": {}}, {"x": None})


@pytest.mark.parametrize("facts", [*WRONG, *({"given": wrong, "solutions": wrong, "made_for": wrong} for wrong in WRONG)], ids=repr)
def test_a_copy_that_remembers_nonsense_loses_nothing(facts, tmp_path):
    mine = given(book_of(*OLD))
    mine.cells[1].source = "f = 1"
    mine.metadata["emorl_lite"] = facts
    for cell in mine.cells:
        cell.metadata["emorl_id"] = facts
    mine.cells.append(nbformat.v4.new_code_cell("own"))
    for folder in ("notebooks", "my_notebooks"):
        (tmp_path / folder).mkdir()
    nbformat.write(book_of(*NEW), tmp_path / "notebooks" / "00_a.ipynb")
    path = tmp_path / "my_notebooks" / "00_a.ipynb"
    path.write_text(json.dumps(mine), encoding="utf-8")
    assert any("before_updates/" in line for line in copy_notebooks(tmp_path))
    assert {"f = 1", "own", "new"} < set(sources(nbformat.read(path, as_version=4)))


def test_the_command_updates_a_folder(tmp_path, capsys):
    (lesson,) = lessons(("00",))
    name = f"{lesson.name}.ipynb"
    nbformat.write(handout(lesson, "withheld", {name}), tmp_path / name)
    assert run_course(Course(update=str(tmp_path))) == 0
    assert "up to date" in capsys.readouterr().out
    assert run_course(Course(update=str(tmp_path), solutions="released")) == 0
    assert "before_updates/" in capsys.readouterr().out
    book = nbformat.read(tmp_path / name, as_version=4)
    assert facts_of(book)["solutions"] == "released" and LATER not in sources(book)


@pytest.mark.parametrize("mark", ["nbgrader", "otter"])
def test_an_assignment_is_not_brought_up_to_date(mark, tmp_path, capsys):
    (lesson,) = lessons(("00",))
    path = tmp_path / f"{lesson.name}.ipynb"
    book = handout(lesson, "withheld", set())
    book.cells[3].metadata[mark] = {}
    nbformat.write(book, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="an assignment for grading"):
        run_course(Course(update=str(tmp_path)))
    assert path.read_bytes() == before and not (tmp_path / "before_updates").exists()


def test_a_handout_stays_without_solutions_among_the_copies(tmp_path):
    (lesson,) = lessons(("00",))
    name = f"{lesson.name}.ipynb"
    for folder in ("notebooks", "my_notebooks"):
        (tmp_path / folder).mkdir()
    nbformat.write(lesson.book, tmp_path / "notebooks" / name)
    nbformat.write(handout(lesson, "withheld", {name}), tmp_path / "my_notebooks" / name)
    before = (tmp_path / "my_notebooks" / name).read_bytes()
    (said,) = copy_notebooks(tmp_path)
    assert "handed out by a course" in said and (tmp_path / "my_notebooks" / name).read_bytes() == before


@pytest.fixture
def room(tmp_path):
    """A repository with notebook 00 and a copy of an older one."""
    (lesson,) = lessons(("00",))
    for folder in ("notebooks", "my_notebooks"):
        (tmp_path / folder).mkdir()
    nbformat.write(lesson.book, tmp_path / "notebooks" / f"{lesson.name}.ipynb")
    nbformat.write(given(book_of(*OLD)), tmp_path / "my_notebooks" / f"{lesson.name}.ipynb")
    return tmp_path, lesson


def test_each_notebook_is_read_once(room, monkeypatch):
    root, lesson = room
    read, reads = execution.read_notebook, Counter[str]()
    monkeypatch.setattr(execution, "read_notebook", lambda path: reads.update([path.parent.name]) or read(path))
    copy_notebooks(root)
    update(root / "my_notebooks", [lesson])
    assert reads == {"notebooks": 1, "my_notebooks": 2}, "once by each command"


def test_half_a_character_in_a_copy_is_told_and_a_whole_one_is_none(room, capsys):
    root, lesson = room
    path = root / "my_notebooks" / f"{lesson.name}.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("f = ...", r"half \ud83d"), encoding="utf-8")
    before = path.read_bytes()
    assert main(["course", "--update", str(path.parent), "--notebooks", "00"]) == 2
    error = capsys.readouterr().err
    assert f"{path}: not a notebook" in error and error.count("\n") == 1 and path.read_bytes() == before
    path.write_text(text.replace("f = ...", r"whole \ud83d\ude00"), encoding="utf-8")
    assert main(["course", "--update", str(path.parent), "--notebooks", "00"]) == 0
    assert "whole \U0001f600" in path.read_text(encoding="utf-8")


def test_ids_that_are_there_twice_are_no_news(room, capfd, recwarn):
    root, lesson = room
    path = root / "my_notebooks" / f"{lesson.name}.ipynb"
    book = json.loads(path.read_text(encoding="utf-8"))
    book["cells"] += book["cells"][:2]
    path.write_text(json.dumps(book), encoding="utf-8")
    assert update(path.parent, [lesson])
    assert not recwarn and not capfd.readouterr().err
    assert sources(nbformat.read(path, as_version=4)).count("text") == 1


@pytest.mark.skipif(os.name == "nt", reason="there not everybody may make links")
def test_a_link_among_the_copies_changes_nothing_that_it_leads_to(room):
    root, lesson = room
    own, copied = root / "notebooks" / f"{lesson.name}.ipynb", root / "my_notebooks" / f"{lesson.name}.ipynb"
    before = own.read_bytes()
    for target, said in ((own, "a link to the repository's own"), (root / "nothing.ipynb", "cannot be read")):
        copied.unlink()
        copied.symlink_to(target)
        (line,) = copy_notebooks(root)
        assert said in line and copied.is_symlink()
    assert own.read_bytes() == before and not (root / "nothing.ipynb").exists()
    copied.unlink()
    copied.symlink_to(ROOT / "notebooks" / copied.name)
    with pytest.raises(UserError, match="a link to the repository's own"):
        update(copied.parent, [lesson])


def test_a_repository_without_notebooks_is_told(tmp_path):
    with pytest.raises(UserError, match="no notebooks there"):
        copy_notebooks(tmp_path)


# -- mistakes


@pytest.fixture
def without_nbgrader(monkeypatch):
    """Courses are written, and nbgrader, which takes seconds, is left out."""
    monkeypatch.setattr("emorl_lite.course.assignments.release_assignments", lambda folder, names: [])


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, without_nbgrader):
    def told(*words: str) -> str:
        assert main(["course", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "--notebooks 10: no notebook of the course" in told("--notebooks", "10")
    assert "--notebooks: expected at least one value" in told("--notebooks")
    assert "--seed" in told("--seed", "-1")
    assert "none of these notebooks" in told("--update", str(tmp_path))
    assert "the repository's own notebooks" in told("--update", str(ROOT / "course" / ".." / "notebooks"))
    for words in (("--out", str(tmp_path / "x")), ("--seed", "3")):
        assert f"makes no course, so {words[0]} would do nothing" in told("--update", str(tmp_path), *words)
    (tmp_path / "mine.txt").write_text("mine")
    assert "files that this command did not make" in told("--out", str(tmp_path), "--notebooks", "00")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    monkeypatch.setattr(making, "find_spec", lambda name: None)
    assert "nbgrader is not installed here: pip install" in told("--out", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_what_an_instructor_changed_is_not_written_over(tmp_path, without_nbgrader):
    out = tmp_path / "made"
    make_course(out, lessons(("00",)), "withheld", SEED)
    source = out / "source" / "00_task_and_tour" / "00_task_and_tour.ipynb"
    changed = source.read_text(encoding="utf-8").replace("twenty cases", "20 cases")
    source.write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=r"00_task_and_tour\.ipynb was changed since it was made"):
        make_course(out, lessons(("00",)), "released")
    assert source.read_text(encoding="utf-8") == changed
    make_course(out, lessons(("02",)), "withheld")  # another assignment of the same course, with the same seed
    record = json.loads((out / "course.json").read_text(encoding="utf-8"))
    assert [one["notebook"] for one in record["assignments"]] == ["00", "02"] and record["seed"] == SEED
    with pytest.raises(UserError, match=f"--seed {SEED + 1}: the other assignments"):
        make_course(out, lessons(("02",)), "withheld", SEED + 1)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": "x"}, {"seed": -1}, {"files": []}, {"assignments": [{}]}, {"assignments": 3}, {"begun": "all"}, {"files": {"a": 1}}],
    ids=str,
)
def test_a_record_that_was_changed_is_told(wrong, tmp_path):
    text = json.dumps({"made_by": making.MAKER, "seed": 1} | wrong)
    (tmp_path / "course.json").write_text(text)
    with pytest.raises(UserError, match=r"course\.json was changed"):
        make_course(tmp_path, lessons(("00",)), "withheld")
    assert [path.name for path in tmp_path.iterdir()] == ["course.json"] and (tmp_path / "course.json").read_text() == text


@pytest.mark.parametrize(
    ("log", "error", "said"),
    [
        ("[ERROR] x\nsqlite3.DatabaseError: file is not a database\n", "Traceback\nNbGraderException: Please see the the above traceback",
         "sqlite3.DatabaseError: file is not a database"),
        ("[INFO] y", "Traceback\nNbGraderException: There was an error accessing the nbgrader database.\n",
         "NbGraderException: There was an error accessing the nbgrader database."),
        ("[WARNING] z\n", None, "[WARNING] z"),
        (None, "", "it gave no reason"),
    ],
)  # fmt: skip
def test_what_nbgrader_could_not_is_told_with_its_cause(log, error, said, tmp_path, monkeypatch):
    class Failing:
        def generate_assignment(self, name, force):
            return {"success": False, "log": log, "error": error}

    monkeypatch.setattr(assignments, "nbgrader_of", lambda folder: Failing())
    with pytest.raises(UserError) as told:
        assignments.release_assignments(tmp_path, ["00"])
    assert str(told.value) == f"nbgrader could not make the assignment 00: {said}"


def test_a_command_that_failed_can_be_given_again(tmp_path, monkeypatch):
    def failing(folder, names):
        raise UserError("nbgrader could not")

    out = tmp_path / "made"
    monkeypatch.setattr("emorl_lite.course.assignments.release_assignments", failing)
    with pytest.raises(UserError, match="could not"):
        make_course(out, lessons(("00",)), "withheld", SEED)
    (out / "notebooks" / "02_single_objective_ppo.ipynb").write_text("mine")
    monkeypatch.setattr("emorl_lite.course.assignments.release_assignments", lambda folder, names: [])
    make_course(out, lessons(("00",)), "withheld")
    assert json.loads((out / "course.json").read_text(encoding="utf-8"))["seed"] == SEED
    with pytest.raises(UserError, match=r"notebooks/02_single_objective_ppo\.ipynb is not this command's"):
        make_course(out, lessons(("02",)), "withheld")


@pytest.mark.parametrize("where", ["handouts", "otter"])
def test_a_command_that_was_stopped_can_be_given_again(where, tmp_path, monkeypatch, without_nbgrader):
    def stopped(chosen, folder, *rest):
        (folder / chosen[0].name).mkdir(parents=True, exist_ok=True)
        name = f"{chosen[0].name}.ipynb"
        (folder / (name if where != "otter" else f"{chosen[0].name}/{name}")).write_text("cut o")
        raise KeyboardInterrupt

    out = tmp_path / "made"
    (out / ".ipynb_checkpoints").mkdir(parents=True)
    (out / ".DS_Store").touch()  # what Finder leaves is nobody's work
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if where == "otter":
            patched.setattr("emorl_lite.course.otter.write_otter", stopped)
        else:
            patched.setattr(making, "_write_handouts", stopped)
        make_course(out, lessons(("00",)), "withheld", SEED)
    assert json.loads((out / "course.json").read_text(encoding="utf-8"))["begun"] == ["00_task_and_tour"]
    make_course(out, lessons(("00",)), "withheld")
    record = json.loads((out / "course.json").read_text(encoding="utf-8"))
    assert record["seed"] == SEED and record["begun"] == [] and "otter/00_task_and_tour/00_task_and_tour.ipynb" in record["files"]
    assert nbformat.read(out / "notebooks" / "00_task_and_tour.ipynb", as_version=4).cells


def test_a_course_does_not_say_where_it_was_made(tmp_path):
    write_nbgrader(lessons(("00",)), tmp_path, SEED)
    moved = shutil.move(tmp_path / "source", tmp_path / "moved")
    assert str(tmp_path) not in (tmp_path / "nbgrader_config.py").read_text(encoding="utf-8") and moved
