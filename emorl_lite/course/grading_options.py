"""Options of the command `grade`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from emorl_lite.base.ranges import Options, Within


@dataclass
class Grade(Options):
    """Grade a folder of submissions: each answer in a process of its own, with limits of time and memory."""

    submissions: str
    """Folder of submissions: a notebook or a folder a student."""
    assignment: tuple[str, ...] = ()
    """Grade these notebooks alone, by number: --assignment 02 (default: all that anyone handed in)."""
    course: str = "course-build"
    """Folder that `course` made: its points and its hidden cases count, and no answer may read it."""
    out: str = "grades"
    """Folder for grades.csv, students.csv, open_questions.csv and the pages of feedback."""
    seconds: Annotated[float, Within(0.1, 86_400)] = 120.0
    """Seconds for one answer."""
    memory: Annotated[float, Within(0.5, 1024)] = 4.0
    """Gigabytes for one answer."""
    workers: Annotated[int, Within(1, 256)] = 2
    """Answers at once."""
    quiet: bool = False
    """No line for each student."""
