"""Pages of feedback: for each student what each exercise earned and in which kind of case it fails, never a case or an answer.

And one page for who grades by hand: every open question with what all students wrote.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from emorl_lite.course.marking import RIGHT, Mark
from emorl_lite.course.submissions import sayable

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff; }}
table {{ border-collapse: collapse; width: 100%; }}
caption {{ text-align: left; font-style: italic; padding: .3rem 0; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #bbb; overflow-wrap: anywhere; }}
td.number, th.number {{ text-align: right; white-space: nowrap; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; border-left: .25rem solid #767676; padding-left: .8rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def feedback_page(student: str, assignments: Sequence[tuple[str, Sequence[Mark], Sequence[str]]], notes: Sequence[str]) -> str:
    """A student's page. `assignments`: title, marks, and titles of the open questions. `notes`: what is wrong with files."""
    parts = ["<p>A wrong answer is told by the kind of case that fails: run the check in your notebook on a small case of that kind.</p>"]
    if notes:
        parts += ["<h2>Files that could not be graded</h2>", "<ul>", *(f"<li>{_text(note)}</li>" for note in notes), "</ul>"]
    for title, marks, opened in assignments:
        earned, possible = sum(mark.points for mark in marks), sum(mark.question.points for mark in marks)
        parts += [f"<h2>{_text(title)}</h2>", f"<p>{earned:g} of {possible:g} points in {len(marks)} checked exercises.</p>", _table(marks)]
        if opened:
            parts += ["<p>Read by a person, and not in these points:</p>", "<ul>", *(f"<li>{_text(name)}</li>" for name in opened), "</ul>"]
    return PAGE.format(title=_text(f"Feedback for {student}"), body="\n".join(parts))


def _table(marks: Sequence[Mark]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{_text(mark.question.name)} · {_text(mark.question.title)}</th>'
        f'<td class="number">{mark.points:g} of {mark.question.points:g}</td><td>{_text(said(mark))}</td></tr>'
        for mark in marks
    )
    head = '<tr><th scope="col">Exercise</th><th scope="col" class="number">Points</th><th scope="col">Your answer</th></tr>'
    return f"<table>\n<caption>Checked exercises</caption>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def said(mark: Mark) -> str:
    """A mark in one phrase, with what the answer tried and may not."""
    return sayable("; ".join([mark.what, *mark.tried]))


def open_page(questions: Sequence[tuple[str, float, Sequence[tuple[str, str]]]]) -> str:
    """All open questions: title, points, and what each student wrote ("" for nothing)."""
    parts = ["<p>To be graded by a person: points go into open_questions.csv.</p>"]
    for title, points, answers in questions:
        parts.append(f"<h2>{_text(title)} ({points:g} points)</h2>")
        for student, answer in answers:
            shown = f"<pre>{_text(answer)}</pre>" if answer.strip() else "<p>Nothing.</p>"
            parts.append(f"<h3>{_text(student)}</h3>\n{shown}")
    return PAGE.format(title="Open questions", body="\n".join(parts))


def is_right(mark: Mark) -> bool:
    """Whether an exercise is solved."""
    return mark.what == RIGHT


def _text(text: str) -> str:
    return html.escape(sayable(str(text)))
