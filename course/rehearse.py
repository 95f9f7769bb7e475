"""Write practice submissions, to rehearse grading before there are students.

Run it from the repository: python course/rehearse.py [FOLDER] [--students 30] [--notebooks 00]. Each made-up student solves a random share
of the exercises, as the solutions do; the first solves all, the second none. Printed is what each should earn.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path

import nbformat

from emorl_lite.course.lessons import Lesson, lessons


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
    folder, draw = Path(given.folder), random.Random(0)
    for n in range(given.students):
        share, total = {0: 1.0, 1: 0.0}.get(n, draw.random()), 0
        for lesson in lessons(given.notebooks):
            book, earned = submission(lesson, share, draw)
            place = folder / f"student{n + 1:02}"
            place.mkdir(parents=True, exist_ok=True)
            nbformat.write(book, place / f"{lesson.name}.ipynb")
            total += earned
        print(f"student{n + 1:02}: {total} points")


if __name__ == "__main__":
    main()
