"""Checks for the exercises: "Not solved yet" for a stub, "Correct" for a right answer, else an AssertionError that says what differs.

The exercises themselves, and how an answer is judged, are in `emorl_lite.exercises`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from emorl_lite.exercises.course import find
from emorl_lite.exercises.judging import judge
from emorl_lite.lm.devices import cpu_double


def _unsolved(x: Any) -> bool:
    return x is None or x is Ellipsis


def _equal(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(b, torch.Tensor):
        b = cpu_double(b.detach()).numpy()
    if isinstance(a, torch.Tensor):
        a = cpu_double(a.detach()).numpy()
    if isinstance(b, (str, bool, set, frozenset)):
        return bool(a == b)
    try:
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    except (TypeError, ValueError):
        return bool(a == b)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))


def check(name: Any, *answers: Any, tolerance: float = 1e-4) -> None:
    """Check an answer, a function or a value, to the exercise `name` ("02.3"), on about 20 cases.

    Prints "Correct", or "Not solved yet" for a stub, which EMORL_CHECKS=strict makes an error too. Raises AssertionError with a sentence
    that says what is wrong, and in which kind of case; UserError if there is no such exercise.
    """
    __tracebackhide__ = True  # IPython then shows the reader's own line and the sentence
    if not (isinstance(name, str) and re.fullmatch(r"\d\d\.\d+", name)):
        _check_cases(name, *answers, tolerance=tolerance)
        return
    (answer,) = answers
    verdict = judge(find(name), answer)
    if verdict.printed:
        print(verdict.printed, end="")
    if verdict.unsolved:
        sentence = "Not solved yet: replace the ... and run both cells again."
        if os.environ.get("EMORL_CHECKS") == "strict":
            raise AssertionError(sentence)
        print(sentence)
    elif verdict.wrong is not None:
        raise AssertionError(verdict.wrong)
    else:
        print(f"Correct: {verdict.cases} cases." if verdict.cases > 1 else "Correct.")


def _check_cases(answer: Any, *cases: tuple[tuple[Any, ...], Any], tolerance: float = 1e-4) -> None:
    for arguments, expected in cases:
        result = answer(*arguments) if callable(answer) else answer
        if _unsolved(result):
            print("Not solved yet: replace the ... and run both cells again.")
            return
        call = f"{answer.__name__}{arguments}" if callable(answer) else "your answer"
        assert _equal(result, expected, tolerance), f"{call} is {result}; expected {expected}"
    print("Correct.")


def check_against(answer: Callable[..., Any], reference: Callable[..., Any], *arguments: tuple[Any, ...], tolerance: float = 1e-4) -> None:
    """Check a function against a reference implementation on several argument tuples."""
    _check_cases(answer, *((args, reference(*args)) for args in arguments), tolerance=tolerance)
