"""Pareto dominance. Everything is maximised."""

from __future__ import annotations

import numpy as np


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which of the points [n, K] no other point dominates, [n]. A point dominates another if it is nowhere lower and somewhere higher.

    Of equal points all stay.
    """
    points = np.asarray(points, dtype=np.float64)
    distinct, back = np.unique(points, axis=0, return_inverse=True)
    order = distinct.sum(1).argsort()[::-1]  # whoever dominates a point has a larger sum, so comes before it
    front: list[int] = []
    for i in order:
        rivals = distinct[front]
        if not ((rivals >= distinct[i]).all(1)).any():
            front.append(int(i))
    keep = np.zeros(len(distinct), dtype=bool)
    keep[front] = True
    return keep[back.ravel()]
