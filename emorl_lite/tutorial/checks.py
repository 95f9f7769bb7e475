"""Checks for the exercises: "Not solved yet" for a stub, "Correct" for a right answer, else an AssertionError that says what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

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


def check(answer: Any, *cases: tuple[tuple[Any, ...], Any], tolerance: float = 1e-4) -> None:
    """Check a function on `(arguments, expected)` cases, or a value on one case `((), expected)`."""
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
    check(answer, *((args, reference(*args)) for args in arguments), tolerance=tolerance)
