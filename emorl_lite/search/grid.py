"""Grid searches over objective weights: the paper's hierarchical search (EMORL, arXiv 2505.02579, section 3.3), the same on the simplex,
and full grids, for any number of objectives d.

A level of the published search is a grid of points_per_axis points along each axis of the current bounds. Every point is scored by the
mean over objectives. Among the cells between neighbouring grid points, the one whose 2^d corners have the largest sum becomes the next
level's bounds. With the paper's 3 points per axis a cell is a half-size sub-cube, so the spacing halves at each level.

Under greedy decoding only the direction of the weights counts, so the same search fits on the simplex {w >= 0, sum w = 1}, one dimension
lower: its cells are the small simplices of `simplex_grid`, each judged by its d corners.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import SearchConfig
from emorl_lite.base.sizes import check_points
from emorl_lite.base.weights import direction
from emorl_lite.search.score_table import Evaluate, ScoreTable, SearchResult, Weights, weight_columns
from emorl_lite.search.simplex_grid import check_cells, compositions, small_simplices

Space = Literal["cube", "simplex"]
Axes = list[list[Fraction]]
"""Grid coordinates along each axis, ascending. Exact, so that equal points of different levels are equal floats."""
Corners = list[tuple[Fraction, ...]]
"""The d corners of a simplex of weights."""


def hierarchical_grid_search(
    evaluate: Evaluate,
    objectives: Sequence[str],
    config: SearchConfig | None = None,
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
    space: Space = "cube",
    by_direction: bool = False,
) -> SearchResult:
    """Search [0, 1]^d as the paper does: levels * points_per_axis**d listed points, 135 at d = 3 with the defaults, last spacing 1/32.

    `space="simplex"` searches weights that sum to one instead: at d = 3 with the defaults 30 listed points, 18 distinct.
    A point that an earlier level has scored takes those scores (note "seen at level k"): greedy decoding of a fixed validation set is
    deterministic. The paper's code evaluates it again, on the same 32 prompts in another order.
    `by_direction`: so does a point on the ray of an earlier one (note "same direction as .."). Right under greedy decoding.
    The zero vector gives every word the same logit, hence no text: it scores 0 without an evaluation, and its cells are judged with that 0.
    If several cells have the same sum, the one nearest the origin in lexicographic order is taken; on the simplex the first of
    `small_simplices`.

    `table_path`: a CSV that gets each row as soon as it is scored, with the settings beside it in <stem>.search.json. If it exists, the
    search continues from it. `provenance`: what the scores depend on (adapters, data, seed; plain JSON); a table with another is refused.

    Raises UserError for d < 2, an unknown space, more points than would ever end, a missing or non-finite
    score, and a table of another search; EvaluationError, with the weights, if `evaluate` raises.
    """
    config = config or SearchConfig()
    p, d = config.points_per_axis, len(objectives)
    listed = _check_grid(p, space, d, config.levels)
    if space == "simplex":
        check_cells(d, p - 1)
    name = "hierarchical" if space == "cube" else "hierarchical-simplex"
    settings: dict[str, Any] = {"search": name, "levels": config.levels, "points_per_axis": p}
    settings |= {"validation_prompts": config.validation_prompts, "provenance": dict(provenance or {})}
    with tqdm(total=listed, desc="search", disable=not progress) as bar:
        scores = ScoreTable(evaluate, objectives, table_path, settings, bar, by_direction)
        return scores.result(_on_cube(scores, config, d) if space == "cube" else _on_simplex(scores, config, d))


def _on_cube(scores: ScoreTable, config: SearchConfig, d: int) -> list[np.ndarray]:
    p = config.points_per_axis
    axes = [_spaced(Fraction(0), Fraction(1), p) for _ in range(d)]
    bounds = []
    for level in range(1, config.levels + 1):
        bounds.append(np.array([[float(axis[0]), float(axis[-1])] for axis in axes]))
        means = scores.means(level, _points(axes))
        cell = best_cell(means.reshape((p,) * d))
        axes = [_spaced(axis[i], axis[i + 1], p) for axis, i in zip(axes, cell, strict=True)]
    return bounds


def _on_simplex(scores: ScoreTable, config: SearchConfig, d: int) -> list[np.ndarray]:
    k = config.points_per_axis - 1
    steps = compositions(d, k)
    corners: Corners = [tuple(Fraction(int(i == j)) for j in range(d)) for i in range(d)]
    bounds = []
    for level in range(1, config.levels + 1):
        bounds.append(np.array([[float(x) for x in corner] for corner in corners]))
        points = [_mixed(corners, step, k) for step in steps]
        means = dict(zip(steps, scores.means(level, [tuple(map(float, point)) for point in points]), strict=True))
        best = max(small_simplices(d, k), key=lambda cell: sum(means[step] for step in cell))
        corners = [_mixed(corners, step, k) for step in best]
    return bounds


def full_grid(
    evaluate: Evaluate,
    objectives: Sequence[str],
    points_per_axis: int,
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
    space: Space = "cube",
    by_direction: bool = False,
) -> SearchResult:
    """Score all points_per_axis**d points of [0, 1]^d, or all weights with spacing 1 / (points_per_axis - 1) that sum to one. One level.

    The reference answer, and the cost that the hierarchy saves.
    The last level of a hierarchical search has the spacing of points_per_axis = (p - 1)**levels + 1. Both find the same best mean if it
    is a separable concave quadratic, sum_i a_i - b_i (w_i - m_i)^2 with every m_i in [0, 1], that is 0 at the zero vector: a cell's sum is
    then largest for the cell that holds m, so the search never discards it. For other functions it may.
    Raises UserError as the hierarchical search does.
    """
    d, k = len(objectives), points_per_axis - 1
    listed = _check_grid(points_per_axis, space, d)
    settings: dict[str, Any] = {"search": "full" if space == "cube" else "full, simplex", "points_per_axis": points_per_axis}
    settings |= {"provenance": dict(provenance or {})}
    with tqdm(total=listed, desc="full grid", disable=not progress) as bar:
        scores = ScoreTable(evaluate, objectives, table_path, settings, bar, by_direction)
        if space == "cube":
            scores.means(1, _points([_spaced(Fraction(0), Fraction(1), points_per_axis) for _ in objectives]))
            return scores.result([np.array([[0.0, 1.0]] * d)])
        scores.means(1, [tuple(float(Fraction(i, k)) for i in step) for step in compositions(d, k)])
        return scores.result([np.eye(d)])


def best_cell(means: np.ndarray) -> tuple[int, ...]:
    """Index of the cell with the largest sum over its 2^d corners; cell (i, j, ..) lies between grid points i and i+1, j and j+1, ..

    `means` [p, .., p]: the mean score of every grid point. Returns d indices in 0 .. p-2, of equal cells the first in lexicographic order.
    """
    cells = product(*(range(p - 1) for p in means.shape))
    return max(cells, key=lambda cell: means[tuple(slice(i, i + 2) for i in cell)].sum())


def count_redundancy(table: pd.DataFrame) -> dict[str, int]:
    """How many of the listed points are really different.

    points: rows; distinct_points: different coordinates; directions: the most different texts there can be, without the zero vector;
    degenerate: rows that are the zero vector. Level 1 at d = 3: 27 points, 19 directions and the zero vector.
    """
    weights = [tuple(row) for row in table[weight_columns(table)].to_numpy()]
    directions = {direction(row) for row in weights if any(row)}
    return {
        "points": len(weights),
        "distinct_points": len(set(weights)),
        "directions": len(directions),
        "degenerate": sum(not any(row) for row in weights),
    }


def _check_grid(points_per_axis: int, space: str, d: int, levels: int = 1) -> int:
    """How many points a search lists. Raises UserError for a grid that makes no sense, or would never end."""
    if points_per_axis < 3:
        raise UserError(
            f"search points_per_axis: expected at least 3, got {points_per_axis}; two points per axis have one cell, the whole cube"
        )
    if space not in get_args(Space):
        raise UserError(f"search space {space!r}: choose {', '.join(get_args(Space))}")
    a_level = points_per_axis**d if space == "cube" else math.comb(points_per_axis + d - 2, d - 1) if d else 1
    check_points(levels * a_level, f"search, {points_per_axis} points per axis{f', {levels} levels' if levels > 1 else ''}", d)
    return levels * a_level


def _spaced(low: Fraction, high: Fraction, p: int) -> list[Fraction]:
    return [low + (high - low) * k / (p - 1) for k in range(p)]


def _points(axes: Axes) -> list[Weights]:
    """Every grid point, the last axis fastest."""
    return [tuple(float(x) for x in point) for point in product(*axes)]


def _mixed(corners: Corners, step: tuple[int, ...], k: int) -> tuple[Fraction, ...]:
    """The point with barycentric coordinates step / k."""
    return tuple(sum((Fraction(s, k) * x for s, x in zip(step, column, strict=True)), Fraction(0)) for column in zip(*corners, strict=True))
