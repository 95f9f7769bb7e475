"""Checks for the exercises: "Not solved yet" for a stub, "Correct" for a right answer, else an AssertionError that says what is wrong.

The exercises themselves, and how an answer is judged, are in `emorl_lite.exercises`.
"""

from __future__ import annotations

import os
from typing import Any

from emorl_lite.exercises.course import find
from emorl_lite.exercises.judging import judge


class WrongAnswerError(AssertionError):
    """What a check says of an answer. In a notebook the sentence stands alone: where it was raised is of no use to a student."""

    def _render_traceback_(self) -> list[str]:
        return [f"AssertionError: {self}"]


def check(name: str, answer: Any, strict: bool = False, seed: int = 0) -> None:
    """Check an answer, a function or a value, to the exercise `name` ("02.3"), on about 20 cases.

    Prints "Correct", or "Not solved yet" for a stub. `strict` (or EMORL_CHECKS=strict): a stub is an error too, as a grader needs it.
    `seed`: of the cases, a whole number from 0; graders ask about cases of their own. Raises AssertionError with a sentence that says what
    is wrong, and in which kind of case; UserError if there is no such exercise.
    """
    verdict = judge(find(name), answer, seed)
    if verdict.printed:
        print(verdict.printed, end="")
    if verdict.unsolved:
        sentence = "Not solved yet: replace the ... and run both cells again."
        if strict or os.environ.get("EMORL_CHECKS") == "strict":
            raise WrongAnswerError(sentence)
        print(sentence)
    elif verdict.wrong is not None:
        raise WrongAnswerError(verdict.wrong)
    else:
        print(f"Correct: {verdict.cases} cases." if verdict.cases > 1 else "Correct.")
