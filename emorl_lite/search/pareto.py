"""How good a set of score vectors is: dominance and the indicators of multi-objective optimisation, most of them by moocore.

Everything is maximised. Points are [n, K], n score vectors of K objectives; weights are [W, K], rows on the simplex.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import torch
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.base.weights import as_numbers
from emorl_lite.search.simplex_grid import compositions

Array = np.ndarray | Sequence[Sequence[float]]


def non_dominated(points: Array) -> np.ndarray:
    """Which of the points [n, K] no other point dominates, [n]. A point dominates another if it is nowhere lower and somewhere higher.

    Of equal points all stay.
    """
    return np.asarray(moocore.is_nondominated(_checked(points), maximise=True, keep_weakly=True))


def cardinality(points: Array) -> int:
    """Number of distinct points on the front."""
    points = _checked(points)
    return len(np.unique(points[non_dominated(points)], axis=0))


def hypervolume(points: Array, reference: Sequence[float]) -> float:
    """Volume that the points dominate above the reference point [K], exactly (Zitzler and Thiele 1998).

    Points that are not above the reference in every objective add nothing.
    """
    points, corner = _checked(points), _numbers(reference, "hypervolume, reference point")
    if corner.shape != points.shape[1:] or not np.isfinite(corner).all():
        raise UserError(f"hypervolume: expected a reference point of {points.shape[1]} finite numbers, got {reference}")
    return float(moocore.hypervolume(points, corner, maximise=True))


def utility_weights(objectives: int, k: int = 20) -> np.ndarray:
    """Evenly spread weights [W, K] to take expectations over: the grid of spacing 1 / k on the simplex."""
    k = checked(k, int, [Within(1, 1000)], f"steps {shown(k)}")
    return np.array(compositions(objectives, k), dtype=np.float64) / k


def expected_utility(points: Array, weights: Array | None = None) -> float:
    """E_w[max_p w.p]: what a user with weights w gets who may choose among the points (Zintgraf et al. 2015)."""
    points = _checked(points)
    w = _weights(weights, points.shape[1])
    return float((w @ points.T).max(1).mean())


def steerability(chosen: Array, weights: Array, points: Array | None = None) -> tuple[float, float]:
    """(E_w[w.p(w)], gap): what a steerable model gives a user who asks with w, and how much more the best of the points would.

    `chosen` [W, K]: the model's scores p(w) when asked with weights [W, K]; `points`: what it could have given, its own answers by
    default. The gap is E_w[max_p w.p] - E_w[w.p(w)], at least 0 if the points hold the answers.
    """
    chosen = _checked(chosen)
    w = _weights(weights, chosen.shape[1])
    if len(w) != len(chosen):
        raise UserError(f"steerability: {len(w)} weights but {len(chosen)} answers")
    achieved = float((w * chosen).sum(1).mean())
    return achieved, expected_utility(chosen if points is None else points, w) - achieved


def controllability(chosen: Array, weights: Array) -> float:
    """Mean over objectives of Spearman's correlation between an objective's weight and its score: 1 if more weight always gives more.

    An objective whose score never changes counts as 0.
    """
    chosen = _checked(chosen)
    w = _weights(weights, chosen.shape[1])
    if len(w) != len(chosen) or len(w) < 2:
        raise UserError(f"controllability: expected at least 2 answers and as many weights, got {len(chosen)} and {len(w)}")
    correlations = []
    for i in range(chosen.shape[1]):
        constant = np.ptp(chosen[:, i]) == 0 or np.ptp(w[:, i]) == 0
        correlations.append(0.0 if constant else float(stats.spearmanr(w[:, i], chosen[:, i]).statistic))
    return float(np.mean(correlations))


def igd_plus(points: Array, front: Array) -> float:
    """Mean distance from each point of a reference front to the nearest point, counting only what the point lacks (Ishibuchi et al. 2015).

    0 if every point of the front is dominated or equalled; lower is better. As the front take the union of all methods' fronts.
    """
    points, front = _checked(points), _checked(front)
    if points.shape[1] != front.shape[1]:
        raise UserError(f"igd_plus: points of {points.shape[1]} objectives, a front of {front.shape[1]}")
    return float(moocore.igd_plus(points, front, maximise=True))


def _numbers(values: Any, where: str) -> np.ndarray:
    return as_numbers(values, where, torch.float64).numpy()


def _checked(points: Array) -> np.ndarray:
    array = _numbers(points, "points")
    if array.ndim != 2 or not array.size:
        raise UserError(f"points: expected rows of scores, one a point, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise UserError(f"points, row {int(np.flatnonzero(~np.isfinite(array).all(1))[0]) + 1}: holds a NaN or an infinity")
    return array


def _weights(weights: Array | None, objectives: int) -> np.ndarray:
    w = utility_weights(objectives) if weights is None else _numbers(weights, "weights")
    if w.ndim != 2 or w.shape[1] != objectives:
        raise UserError(f"weights: expected rows of {objectives} numbers, got shape {w.shape}")
    if (w < 0).any() or not np.allclose(w.sum(1), 1):
        raise UserError("weights: expected rows on the simplex, not negative and with sum 1")
    return w
