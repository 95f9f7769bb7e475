"""Pareto dominance. Everything is maximised."""

from __future__ import annotations

import numpy as np


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which of the points [n, K] no other point dominates, [n]. A point dominates another if it is nowhere lower and somewhere higher.

    Of equal points all stay.
    """
    points = np.asarray(points, dtype=np.float64)
    distinct, back = np.unique(points, axis=0, return_inverse=True)
    front: list[int] = []
    for i in reversed(range(len(distinct))):  # np.unique sorts: whoever dominates a point comes after it
        if not (distinct[front] >= distinct[i]).all(1).any():
            front.append(i)
    keep = np.zeros(len(distinct), dtype=bool)
    keep[front] = True
    return keep[back.ravel()]
