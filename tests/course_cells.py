"""A notebook of the course read cell by cell: its exercises, its frame, what is wrong with them, and the minutes it takes to read."""

from __future__ import annotations

import ast
import contextlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
CHECK = re.compile(r'from emorl_lite\.tutorial import check\n\ncheck\("(\d\d\.\d+)", (\w+)\)')
HEAD = re.compile(r"### (Exercise|Open question) (\d)\.(\d+) · \S.*\n\n?\*difficulty (●○○|●●○|●●●) · (\d+) min\*\n")
HINT = re.compile(r"<details>\s*<summary>Hint</summary>\n\n.+?\n\n</details>", re.S)
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>\n\n.*</details>\s*$", re.S)
GOOD = re.compile(r"<details>\s*<summary>What a good answer says</summary>\n\n.+</details>\s*$", re.S)
LONGEST = 45
"""Minutes of reading."""


@dataclass
class Asked:
    """An exercise as its notebook has it. `answer`: what the check cell calls the answer; `faults`: what is wrong with the cells."""

    name: str
    minutes: int = 0
    stub: str = ""
    solution: str = ""
    check: str = ""
    answer: str = ""
    faults: list[str] = field(default_factory=list)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def asked(book: nbformat.NotebookNode, notebook: str) -> list[Asked]:
    """The checked exercises of a notebook ("02"), in order."""
    cells, found = book.cells, []
    for i, cell in enumerate(cells):
        if "exercise" in tags(cell):
            before = cells[i - 1].source if i else ""
            after = cells[i + 1 : i + 3]
            found.append(_read(notebook, len(found) + 1, before, cell, after))
    return found


def _read(notebook: str, number: int, task: str, stub: nbformat.NotebookNode, after: list[nbformat.NotebookNode]) -> Asked:
    exercise = Asked(f"{notebook}.{number}", stub=stub.source)
    head = HEAD.match(task)
    if head is None or (head[1], head[2], head[3]) != ("Exercise", str(int(notebook)), str(number)):
        exercise.faults.append(f"the task does not begin with '### Exercise {int(notebook)}.{number} · Title' and a line of difficulty")
    exercise.minutes = int(head[5]) if head else 0
    if not HINT.search(task):
        exercise.faults.append("no hint in <details>, with empty lines around its text")
    if [(cell.cell_type, tags(cell)) for cell in after] != [("markdown", ["solution"]), ("code", ["check"])]:
        exercise.faults.append("the stub is not followed by a solution (markdown) and a check (code), tagged so")
        return exercise
    solution, check = after
    blocks = re.findall(r"```python\n(.*?)```", solution.source, re.S)
    if not SOLUTION.match(solution.source) or len(blocks) != 1:
        exercise.faults.append(f"the solution is not one <details> with one ```python block (it has {len(blocks)})")
    exercise.solution, exercise.check = "".join(blocks[:1]), check.source
    called = CHECK.fullmatch(check.source.strip())
    if called is None or called[1] != exercise.name:
        exercise.faults.append(f'the check cell is not the import and check("{exercise.name}", answer) alone')
    exercise.answer = called[2] if called else ""
    return exercise


def cell_faults(book: nbformat.NotebookNode, notebook: str) -> list[str]:
    """What is wrong with the exercises' cells of a notebook: each fault with the exercise's name."""
    found = asked(book, notebook)
    faults = [f"{exercise.name}: {fault}" for exercise in found for fault in exercise.faults]
    opened = [cell for cell in book.cells if "open-question" in tags(cell)]
    if len(found) + len(opened) < 5:
        faults.append(f"{len(found)} exercises and {len(opened)} open questions: fewer than five")
    if not opened:
        faults.append("no open question")
    for i, cell in enumerate(opened):
        head, number = HEAD.match(cell.source), len(found) + 1 + i
        if head is None or (head[1], head[2], head[3]) != ("Open question", str(int(notebook)), str(number)):
            faults.append(f"open question {i + 1} does not begin with '### Open question {int(notebook)}.{number} · Title' and difficulty")
        if not GOOD.search(cell.source):
            faults.append(f"open question {i + 1} does not end with what a good answer says")
    titles = [cell for cell in book.cells if re.match(r"#+ (Exercise|Open question) \d", cell.source)]
    if len(titles) != len(found) + len(opened):
        faults.append(f"{len(titles)} titles of exercises and questions, and {len(found) + len(opened)} of them")
    return faults


def verdict(exercise: Asked, answer: str) -> str:
    """What the check cell prints about an answer, both run in one fresh namespace. Raises AssertionError for a wrong one."""
    space: dict[str, Any] = {"__name__": "__exercise__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(answer, "<answer>", "exec"), space)
    with contextlib.redirect_stdout(printed):
        exec(compile(exercise.check, "<check>", "exec"), space)
    return printed.getvalue()


def run_faults(exercise: Asked) -> list[str]:
    """What is wrong with how a stub and a solution are told."""
    faults = []
    for what, source, right, wrong in (
        ("stub", exercise.stub, "Not solved yet", "Correct"),
        ("solution", exercise.solution, "Correct", "Not solved yet"),
    ):
        try:
            told = verdict(exercise, source)
        except Exception as problem:
            faults.append(f"{exercise.name}: the {what} ends in {type(problem).__name__}: {problem}")
            continue
        if right not in told or wrong in told:
            faults.append(f"{exercise.name}: the check says {told!r} of the {what}")
    return faults


def answer_of(source: str, name: str) -> Any:
    """What a source answers: an expression's value, or what it defines under `name`, else what it defines last."""
    space: dict[str, Any] = {"np": np, "torch": torch, "math": math, "Fraction": Fraction}
    with contextlib.suppress(SyntaxError):
        return eval(compile(ast.parse(source.strip(), mode="eval"), "<answer>", "eval"), space)
    exec(compile(source, "<answer>", "exec"), space)
    return space[name] if name in space else list(space.values())[-1]


# -- the frame of a notebook


def frame_faults(book: nbformat.NotebookNode, notebook: str) -> list[str]:
    """What is wrong with a notebook beside its exercises: questions to think about first, a summary of five lines, its minutes."""
    thoughts = [cell for cell in book.cells if "think" in tags(cell)]
    faults = []
    if len(thoughts) < 3:
        faults.append(f"{len(thoughts)} cells tagged think: fewer than three")
    faults += [f"a cell tagged think begins {cell.source[:30]!r}" for cell in thoughts if not cell.source.startswith("**Think first.** ")]
    faults += [f"a think cell without a question: {cell.source[:60]!r}" for cell in thoughts if "?" not in cell.source]
    headings = [cell.source for cell in book.cells if cell.cell_type == "markdown" and re.match(r"##? ", cell.source)]
    bullets = re.findall(r"^[-*] ", headings[-1], re.M) if headings else []
    if not headings or not headings[-1].startswith("## Summary\n") or len(bullets) != 5:
        faults.append("the last section is not '## Summary' with five bullets")
    return faults + _taken_names(book) + _lost_tables(book) + _minutes_faults(book, notebook)


def _taken_names(book: nbformat.NotebookNode) -> list[str]:
    """Names of answers that a later cell of the notebook's own means something else by: whoever solves the exercise breaks that cell."""
    answers, faults = set[str](), []
    for cell in (cell for cell in book.cells if cell.cell_type == "code" and not {"check", "colab"} & set(tags(cell))):
        tree = ast.parse(cell.source)
        if "exercise" in tags(cell):
            answers |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            continue
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        made |= {
            alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
        }
        for name in sorted(answers & {node.id for node in names} - made):
            faults.append(f"an exercise's answer is called {name}, which the cell {cell.id} means otherwise")
        answers -= made
    return faults


def _lost_tables(book: nbformat.NotebookNode) -> list[str]:
    """Tables that no page shows: a cell shows the value of its last line alone, and of no line within an `if`."""
    faults = []
    for cell in (cell for cell in book.cells if cell.cell_type == "code" and "colab" not in tags(cell)):
        tree = ast.parse(cell.source)
        lines = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and node is not tree.body[-1]]
        calls = [line.value.func for line in lines if isinstance(line.value, ast.Call)]
        if any(isinstance(call, ast.Name) and call.id == "table" for call in calls):
            faults.append(f"the cell {cell.id} makes a table that it does not show: display(table(...)), or the last line")
    return faults


def _minutes_faults(book: nbformat.NotebookNode, notebook: str) -> list[str]:
    taken, told = reading_minutes(book), re.search(r"read (\d+) min", book.cells[0].source)
    practice = sum(exercise.minutes for exercise in asked(book, notebook))
    practise = re.search(r"practise (\d+) min", book.cells[0].source)
    faults = []
    if taken > LONGEST:
        faults.append(f"about {taken:.0f} minutes of reading, more than {LONGEST}")
    if told is None or int(told[1]) < 0.85 * taken - 1:
        faults.append(f"about {taken:.0f} minutes of reading; the first cell says {told[0] if told else 'nothing'}")
    if practise is None or not practice <= int(practise[1]) <= practice + 5:  # rounded up, no more
        faults.append(f"{practice} minutes of checked exercises; the first cell says {practise[0] if practise else 'nothing'}")
    return faults


def reading_minutes(book: nbformat.NotebookNode) -> float:
    """Minutes to read a notebook: 200 words, 20 visible lines of code, 2 figures or 3 tables a minute. Exercises are left out."""
    words = lines = figures = tables = 0
    for cell in _read_cells(book):
        if cell.cell_type == "markdown":
            words += _words(cell.source)
            continue
        if not set(tags(cell)) & {"hide-input", "colab"}:
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            figures += "image/png" in data or "image/svg+xml" in data
            tables += "<table" in data.get("text/html", "")
            words += _words(data.get("text/markdown", "")) if "image/png" not in data else 0
    return words / 200 + lines / 20 + figures * 0.5 + tables * 0.3


def _read_cells(book: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    for cell in book.cells:
        practice = set(tags(cell)) & {"exercise", "solution", "check", "open-question"}
        if not practice and not re.match(r"#+ (Exercise|Open question) \d", cell.source):
            yield cell


def _words(markdown: str) -> int:
    return len(re.sub(r"<[^>]*>|\]\([^)]*\)|[|#*`$-]", " ", markdown).split())
