"""The instructor kit (course/) says what the notebooks say: minutes, exercises, links and figures; its code runs, its slides build."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest
from course_cells import HEAD, ROOT, asked, reading_minutes
from test_docs import missing_links

from emorl_lite.__main__ import parse
from emorl_lite.base.errors import UserError
from emorl_lite.course.lessons import lessons
from emorl_lite.course.slides import Slides, build_deck, build_slides, committed_alt_texts, read_deck, run_slides

pytestmark = pytest.mark.plain

KIT = ROOT / "course"
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
PAGES = sorted(KIT.rglob("*.md"))
NOTES = {path.stem: path for path in sorted((KIT / "notes").glob("*.md"))}
QUESTION = re.compile(r"^### (H\d+) · ([^\n]+)\n\*(\d+) points · (\d+) min\*\n(.*?)(?=^##|\Z)", re.S | re.M)


def text_of(name: str) -> str:
    return (KIT / name).read_text(encoding="utf-8")


@cache
def book(notebook: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS[notebook], 4)


@cache
def minutes(notebook: str) -> dict[str, int]:
    """Minutes of each exercise ("2.3") and open question of a notebook, as its cells state them."""
    heads = [HEAD.match(cell.source) for cell in book(notebook).cells]
    return {f"{head[2]}.{head[3]}": int(head[5]) for head in heads if head}


def all_minutes() -> dict[str, int]:
    return {number: took for notebook in NOTEBOOKS for number, took in minutes(notebook).items()}


@cache
def sections(notebook: str) -> dict[str, float]:
    """Minutes to read each section of a notebook, by its heading."""
    parts: dict[str, list[nbformat.NotebookNode]] = {"": []}
    for cell in book(notebook).cells:
        heading = re.search(r"^## (.+)$", cell.source, re.M) if cell.cell_type == "markdown" else None
        parts.setdefault(heading[1], []) if heading else None
        parts[list(parts)[-1]].append(cell)
    return {name: reading_minutes(nbformat.from_dict({"cells": cells})) for name, cells in parts.items()}


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a page: rows of cells, the heading first."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    return [
        [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in body.splitlines() if "---" not in row] for body in found
    ]


def near(told: float, counted: float) -> bool:
    """The notebooks' own rule for minutes of reading, and not more than a third too many."""
    return 0.85 * counted - 1 <= told <= 1.34 * counted + 2


# -- minutes


def test_the_table_of_minutes_is_the_notebooks():
    rows = next(rows for rows in tables(text_of("syllabi.md")) if rows[0] == ["notebook", "read", "practise", "open question"])[1:]
    assert [row[0] for row in rows] == list(NOTEBOOKS)
    for notebook, read, practise, open_question in rows:
        exercises = [f"{int(exercise.name[:2])}.{exercise.name[3:]}" for exercise in asked(book(notebook), notebook)]
        stated = re.search(r"read (\d+) min", book(notebook).cells[0].source)
        assert stated and read == stated[1], notebook
        assert int(practise) == sum(minutes(notebook)[number] for number in exercises), notebook
        assert int(open_question) == sum(took for number, took in minutes(notebook).items() if number not in exercises), notebook


def session_faults(rows: list[list[str]]) -> list[str]:
    """What is wrong with a session's plan: minutes that are not the notebooks', or do not sum to what is said."""
    faults, total = [], 0
    for took, what in rows:
        if what == "together":
            return faults + ([] if took == f"**{total}**" else [f"{took} together, the rows sum to {total}"])
        total += int(took)
        if match := re.match(r"read (\d\d), (.+)", what):
            asked_for = list(sections(match[1])) if match[2] == "all" else re.findall(r'"([^"]+)"', match[2])
            lost = [name for name in asked_for if name not in sections(match[1])]
            counted = sum(sections(match[1]).get(name, 0) for name in asked_for)
            faults += [f"{match[1]} has no section {name!r}" for name in lost]
            faults += [] if lost or near(int(took), counted) else [f"{what}: {took} minutes, counted {counted:.1f}"]
        elif match := re.match(r"exercises? (.+)", what):
            stated = sum(all_minutes()[number] for number in re.findall(r"\d\.\d+", match[1]))
            faults += [] if int(took) == stated else [f"{what}: {took} minutes, stated {stated}"]
        elif not re.match(r"talk: |break$", what):
            faults.append(f"{what!r} is no reading, exercise, talk or break")
    return [*faults, "no sum"]


def test_sessions_take_the_minutes_that_they_say():
    plans = [rows[1:] for rows in tables(text_of("syllabi.md")) if rows[0] == ["minutes", "what"]]
    assert len(plans) == 5
    assert [fault for rows in plans for fault in session_faults(rows)] == []


def test_the_four_weeks_minutes_are_sums():
    by_heading = {tuple(rows[0]): rows[1:] for rows in tables(text_of("syllabi.md"))}
    plan, told = by_heading["week", "lecture", "lab", "homework"], by_heading["week", "lab, minutes", "homework, minutes"]
    stated = all_minutes()
    for (week, _, lab, homework), (again, in_lab, at_home) in zip(plan, told, strict=True):
        read = re.match(r"read ([\d, and]+);", homework)
        assert week == again and read
        books = re.findall(r"\d\d", read[1])
        reading = sum(int(re.search(r"read (\d+) min", book(notebook).cells[0].source)[1]) for notebook in books)  # type: ignore[index]
        assert int(in_lab) == sum(stated[number] for number in re.findall(r"\d\.\d+", lab)), week
        practice = sum(stated[number] for number in re.findall(r"\d\.\d+", homework.split(";", 1)[1]))
        assert int(at_home) == reading + practice, week
        assert int(in_lab) < 90


# -- objectives


def test_every_objective_and_every_exercise_is_mapped():
    pages = dict(re.findall(r"^## (\d\d) [^\n]*\n(.*?)(?=^## |\Z)", text_of("objectives.md"), re.S | re.M))
    assert list(pages) == list(NOTEBOOKS)
    held = {match[1] for match in QUESTION.finditer(text_of("held_back_questions.md"))}
    seen = set()
    for notebook, page in pages.items():
        stated = re.search(r"\*\*Objectives\*\* \| (.+) \|", book(notebook).cells[0].source)
        rows = tables(page)[0][1:]
        assert stated and [row[0] for row in rows] == stated[1].split("; "), notebook
        mapped = [number for row in rows for number in re.findall(r"\d\.\d+", row[1])]
        assert sorted(mapped) == sorted(minutes(notebook)), notebook
        assert all(re.search(r"\d\.\d+|Talk \d", row[1]) for row in rows), f"{notebook}: an objective that nothing practises"
        for number in re.findall(r"Talk (\d)", page):
            assert re.search(rf"^{number}\. \*\*", NOTES[notebook].read_text(encoding="utf-8"), re.M), f"{notebook}: no question {number}"
        seen |= {name for row in rows for name in re.findall(r"H\d+", row[2])}
    assert seen == held


# -- the held-back set


@pytest.mark.parametrize("question", list(QUESTION.finditer(text_of("held_back_questions.md"))), ids=lambda match: match[1])
def test_held_back_answers_are_what_their_code_computes(question):
    told, code = re.search(r"\*\*Answer: (.+?)\*\*", question[5]), re.search(r"^```python\n(.*?)^```", question[5], re.S | re.M)
    if code is None:
        assert "**Answer.**" in question[5]
        return
    assert told, "the answer stands nowhere: **Answer: ...**"
    scope: dict[str, object] = {}
    exec(compile(code[1], question[1], "exec"), scope)
    digits = [len(number.partition(".")[2]) for number in re.findall(r"-?\d+(?:\.\d+)?", told[1])]
    expected, computed = ast.literal_eval(told[1]), scope["answer"]
    expected, computed = (list(x) if isinstance(x, list | tuple) else [x] for x in (expected, computed))
    assert len(expected) == len(computed) == len(digits)
    for number, mine, places in zip(expected, computed, digits, strict=True):
        assert math.isclose(number, mine, abs_tol=0.5 * 10**-places + 1e-9), f"the code computes {computed}"


def test_held_back_points_and_minutes():
    questions = {match[1]: match for match in QUESTION.finditer(text_of("held_back_questions.md"))}
    assert len(questions) == len(re.findall(r"^### ", text_of("held_back_questions.md"), re.M)) >= 20
    for name, match in questions.items():
        assert re.search(r"\b(point|points)\b", match[5].split("```")[-1]), f"{name}: no word on how it is marked"
    for _, take, total in tables(text_of("held_back_questions.md"))[0][1:]:
        assert sum(int(questions[name][4]) for name in re.findall(r"H\d+", take)) == int(total)
    assert "96 minutes" in text_of("syllabi.md")


def test_held_back_questions_are_published_nowhere_else():
    name = "held_back_questions"
    makers = [
        *(ROOT / "emorl_lite").rglob("*.py"),
        *(ROOT / "notebooks").glob("*.ipynb"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
    ]
    assert [str(path) for path in makers if name in path.read_text(encoding="utf-8")] == []


# -- pages


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(KIT)))
def test_links_and_paths_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    assert missing_links(path, text) == []
    for name in re.findall(r"`((?:course|docs|data|emorl_lite|figures|notebooks|scripts|tests)/[\w./*-]+)`", text):
        assert list(ROOT.glob(name)), f"{name} is not there"
    for number in re.findall(r"[Ee]xercises? (\d\.\d+)", text):
        assert number in all_minutes(), f"no exercise {number}"


def commands(text: str) -> list[list[str]]:
    """The commands of a page, as `python -m emorl_lite` takes them; `make NAME ARGS="..."` among them."""
    said = re.findall(r"python -m emorl_lite ([^`#\n]+)", text)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for target, arguments in re.findall(r"(?:^|`)make ([a-z-]+)(?: ARGS=\"([^\"]*)\")?", text, re.M):
        assert target in targets, f"make {target}"
        said += [f"{target} {arguments}"] if arguments else []
    return [line.split() for line in said]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(KIT)))
def test_commands_can_be_typed(path):
    for line in commands(path.read_text(encoding="utf-8")):
        if "NAME" not in line:
            parse(line)


def test_the_readme_has_commands():
    found = commands(text_of("README.md"))
    assert ["grade", "--submissions", "build/practice", "--out", "build/graded"] in found and ["course"] in found


def test_made_up_students_solve_what_they_should(monkeypatch, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("rehearse", KIT / "rehearse.py")
    assert spec and spec.loader
    rehearse = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rehearse)
    monkeypatch.setattr(sys, "argv", ["rehearse.py", str(tmp_path), "--students", "3", "--notebooks", "00", "04"])
    rehearse.main()
    said = [int(points) for points in re.findall(r"student\d\d: (\d+) points", capsys.readouterr().out)]
    everything = sum(question.points for lesson in lessons(["00", "04"]) for question in lesson.questions if not question.is_open)
    assert said[0] == everything and said[1] == 0 and len(list(tmp_path.glob("student0[123]/*.ipynb"))) == 6
    rehearse.main()  # over its own, and over nobody else's
    (tmp_path / rehearse.MARK).unlink()
    with pytest.raises(UserError, match="not made up"):
        rehearse.main()
    solved = nbformat.read(tmp_path / "student01" / "00_task_and_tour.ipynb", 4)
    assert not [
        cell for cell in solved.cells if "exercise" in cell.metadata.get("tags", []) and cell.source.endswith(("= ...", "return ..."))
    ]


@pytest.mark.parametrize("notebook", NOTES)
def test_notes_have_their_parts_and_name_what_is_there(notebook):
    text = NOTES[notebook].read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.S | re.M))
    assert list(parts) == ["What they believe", "To discuss", "Short of time", "What goes wrong"]
    assert len(tables(parts["What they believe"])[0]) > 5 and len(re.findall(r"^\d\. \*\*", parts["To discuss"], re.M)) >= 3
    assert len(re.findall(r"^- \*\*", parts["What goes wrong"], re.M)) >= 4
    named = re.findall(r'"([^"]+)"', re.sub(r"`[^`]*`", "", parts["Short of time"]))
    assert [name for name in named if name not in sections(notebook) and name != "Think first"] == []


def test_measured_numbers_are_left_to_notebooks_and_tables():
    """A decimal in these pages is a definition: what is measured changes with the tables, and is pointed to."""
    for path in [*NOTES.values(), KIT / "README.md", KIT / "syllabi.md", KIT / "objectives.md", *(KIT / "slides").glob("*.md")]:
        prose = re.sub(r"^```.*?^```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
        prose = re.sub(r"\b\d\.\d+\b", lambda match: "" if match[0] in all_minutes() else match[0], prose)
        found = set(re.findall(r"(?<![\w.])-?\d*\.\d+", prose)) - {".40", ".75", ".15", "4.0", "3.11"}
        assert not found, f"{path.name}: {found}"


# -- slides

DECKS = {path.stem: path for path in sorted((KIT / "slides").glob("*.md"))}


@cache
def alts() -> dict[str, str]:
    return committed_alt_texts(list(NOTEBOOKS.values()))


def test_every_notebook_has_notes_and_a_deck():
    assert list(NOTES) == list(DECKS) == list(NOTEBOOKS)
    assert len(alts()) > 50, "figures' alternative texts are read from the notebooks' outputs"


@pytest.mark.parametrize("name", DECKS)
def test_a_deck_is_one_page_with_every_figure_in_words(name):
    slides, page = read_deck(DECKS[name]), build_deck(DECKS[name], alts())
    images = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([^"]*)">', page)
    assert len(images) == page.count("<img") == sum(len(slide.figures) for slide in slides)
    assert all(len(alt) > 20 for alt in images)
    assert re.findall(r"<h(\d)", page) == ["1"] + ["2"] * (len(slides) - 1), "headings in order"
    assert not re.search(r'(?:src|href)="(?!data:|#)|url\(|@import', page), "something is loaded from elsewhere"
    assert all(slide.notes for slide in slides)
    own = NOTEBOOKS[name].read_text(encoding="utf-8")
    assert all(f'\\"{Path(path).stem}\\"' in own for slide in slides for path in slide.figures), "a figure of another notebook"
    for number in re.findall(r"\b(\d\.\d+)\b", " ".join(slide.body + slide.notes for slide in slides)):
        assert number in all_minutes()


def test_slides_are_built_where_asked(tmp_path, capsys):
    assert run_slides(Slides(only=("00",), out=str(tmp_path / "decks"))) == 0
    assert [path.name for path in (tmp_path / "decks").iterdir()] == ["00.html"]
    assert "00.html" in capsys.readouterr().out
    with pytest.raises(UserError, match="--only 42: no slides of that notebook, expected one of 00, "):
        build_slides(["42"], tmp_path)
    assert parse(["slides", "--only", "00", "05"]) == Slides(only=("00", "05"))


def test_what_is_wrong_with_a_deck_is_told(tmp_path):
    deck = tmp_path / "00.md"
    for text, message in {
        "# A\n---\nno title\n": "00.md, slide 2: no title",
        "# A\n---\n## B\n![](lost.png)\n": "00.md, slide 2: there is no figure lost.png",
        "# A\n---\n## B\n![](here.png)\n": "slide 2: here.png has no alternative text in any notebook",
    }.items():
        deck.write_text(text, encoding="utf-8")
        (tmp_path / "here.png").write_bytes(b"no picture, but a file")
        with pytest.raises(UserError, match=message):
            build_deck(deck, {})
    deck.write_text('# <A> & "B"\n---\n## C\n![a "curve"](here.png)\n\nNotes:\nsaid\n', encoding="utf-8")
    page = build_deck(deck, {})
    assert "<title>&lt;A&gt; &amp; &quot;B&quot;</title>" in page and 'alt="a &quot;curve&quot;"' in page
    assert page.index("said") > page.index("<aside") and read_deck(deck)[1].body == '![a "curve"](here.png)'
