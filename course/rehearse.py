"""Write practice submissions, to rehearse grading before there are students.

Run it from the repository: python course/rehearse.py [FOLDER] [--students 30] [--notebooks 00]. Each made-up student solves a random share
of the exercises, as the solutions do; the first solves all, the second none. Printed is what each should earn.
"""

from __future__ import annotations

import argparse
import copy
import random

import nbformat

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_folder
from emorl_lite.course.lessons import Lesson, lessons

MARK = ".made-up"
"""A file in the folder: what lies there is nobody's."""


def submission(lesson: Lesson, share: float, draw: random.Random) -> tuple[nbformat.NotebookNode, int]:
    """A notebook with about this share of its exercises solved, and the points that it should earn."""
    book, earned = copy.deepcopy(lesson.book), 0
    cells = {cell.id: cell for cell in book.cells}
    for question in lesson.questions:
        if not question.is_open and draw.random() < share:
            cells[question.stub.id].source = question.answer
            earned += question.points
    return book, earned


def main() -> None:
    """Write a folder a student, and print what each should earn."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", nargs="?", default="build/practice")
    asked.add_argument("--students", type=int, default=30)
    asked.add_argument("--notebooks", nargs="+", default=["00"])
    given = asked.parse_args()
    folder, draw = check_folder(given.folder, "folder"), random.Random(0)
    chosen = lessons(given.notebooks)
    if given.students < 1:
        raise UserError(f"--students {given.students}: must be positive")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UserError(f"folder {folder}: there are files that were not made up; name another")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for n in range(given.students):
        share, total = {0: 1.0, 1: 0.0}.get(n, draw.random()), 0
        for lesson in chosen:
            book, earned = submission(lesson, share, draw)
            place = folder / f"student{n + 1:02}"
            place.mkdir(parents=True, exist_ok=True)
            nbformat.write(book, place / f"{lesson.name}.ipynb")
            total += earned
        print(f"student{n + 1:02}: {total} points")


if __name__ == "__main__":
    run_script(main)
