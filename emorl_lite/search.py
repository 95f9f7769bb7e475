"""Hierarchical grid search over objective weights (EMORL, arXiv 2505.02579, section 3.3), for any number of objectives d.

A level is a grid of points_per_axis points along each axis of the current bounds. Every point is scored by the mean over objectives.
Among the cells between neighbouring grid points, the one whose 2^d corners have the largest sum becomes the next level's bounds.
With the paper's 3 points per axis a cell is a half-size sub-cube, so the spacing halves at each level.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from emorl_lite.errors import UserError
from emorl_lite.presets import SearchConfig

Weights = tuple[float, ...]
Evaluate = Callable[[Weights], Mapping[str, float]]
"""Weights -> mean score of each objective on the fixed validation set. Called once per distinct point; other keys are ignored."""

DEGENERATE = "degenerate: all weights zero"
Axes = list[list[Fraction]]
"""Grid coordinates along each axis, ascending. Exact, so that equal points of different levels are equal floats."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and every point it saw."""

    table: pd.DataFrame
    """One row per listed point: level, point (both from 1), w_<objective>, <objective>, mean, seconds, note."""
    best: Weights
    """Weights of the best point ever seen (the first one, if several are equal). Never the zero vector."""
    best_scores: dict[str, float]
    """Its score per objective."""
    bounds: list[np.ndarray]
    """For each level the searched cube, [d, 2]: lower and upper bound of each weight."""

    @property
    def listed(self) -> int:
        """Points in the table: levels * points_per_axis**d, the paper's 135."""
        return len(self.table)

    @property
    def evaluated(self) -> int:
        """Points that needed an evaluation: distinct and not zero."""
        return int((self.table["note"] == "").sum())


class EvaluationError(RuntimeError):
    """`evaluate` failed. `weights` is where, `table` holds the points scored before; its cause is the original error."""

    def __init__(self, weights: Weights, table: pd.DataFrame, where: str):
        super().__init__(f"evaluation failed at weights {weights}, {where}")
        self.weights = weights
        self.table = table


def hierarchical_grid_search(
    evaluate: Evaluate,
    objectives: Sequence[str],
    config: SearchConfig | None = None,
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Search [0, 1]^d as the paper does: levels * points_per_axis**d listed points, 135 at d = 3 with the defaults, last spacing 1/32.

    A point that an earlier level has scored takes those scores (note "seen at level k"): greedy decoding of a fixed validation set is
    deterministic. The paper evaluates it again, because its code draws a new validation batch for every point.
    The zero vector gives every word the same logit, hence no text: it scores 0 without an evaluation, and its cells are judged with that 0.
    If several cells have the same sum, the one nearest the origin in lexicographic order is taken.

    `table_path`: a CSV that gets each row as soon as it is scored, with the settings beside it in <stem>.search.json. If it exists, the
    search continues from it. `provenance`: what the scores depend on (adapters, data, seed; plain JSON); a table with another is refused.

    Raises UserError for d < 2, levels < 1, points_per_axis < 3, a missing or non-finite score, and a table of another search;
    EvaluationError, with the weights, if `evaluate` raises.
    """
    config = config or SearchConfig()
    p, d = config.points_per_axis, len(objectives)
    if config.levels < 1:
        raise UserError(f"search levels: expected at least 1, got {config.levels}")
    _check_grid(objectives, p)
    settings = {"search": "hierarchical", "objectives": list(objectives), "levels": config.levels, "points_per_axis": p}
    settings |= {"validation_prompts": config.validation_prompts, "provenance": dict(provenance or {})}
    scores = _ScoreTable(objectives, table_path, settings)

    axes = [_spaced(Fraction(0), Fraction(1), p) for _ in range(d)]
    bounds = []
    with tqdm(total=config.levels * p**d, desc="search", disable=not progress) as bar:
        for level in range(1, config.levels + 1):
            bounds.append(np.array([[float(axis[0]), float(axis[-1])] for axis in axes]))
            means = np.array([scores.mean(level, point, weights, evaluate, bar) for point, weights in _points(axes)])
            cell = best_cell(means.reshape((p,) * d))
            axes = [_spaced(axis[i], axis[i + 1], p) for axis, i in zip(axes, cell, strict=True)]
    return scores.result(bounds)


def full_grid(
    evaluate: Evaluate,
    objectives: Sequence[str],
    points_per_axis: int,
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Score all points_per_axis**d points of [0, 1]^d: the reference answer, and the cost that the hierarchy saves. One level.

    The last level of a hierarchical search has the spacing of points_per_axis = (p - 1)**levels + 1. Both find the same best mean if it
    is a separable concave quadratic, sum_i a_i - b_i (w_i - m_i)^2 with every m_i in [0, 1], that is 0 at the zero vector: a cell's sum is
    then largest for the cell that holds m, so the search never discards it. For other functions it may.
    """
    _check_grid(objectives, points_per_axis)
    settings = {"search": "full", "objectives": list(objectives), "points_per_axis": points_per_axis, "provenance": dict(provenance or {})}
    scores = _ScoreTable(objectives, table_path, settings)
    axes = [_spaced(Fraction(0), Fraction(1), points_per_axis) for _ in objectives]
    with tqdm(total=points_per_axis ** len(objectives), desc="full grid", disable=not progress) as bar:
        for point, weights in _points(axes):
            scores.mean(1, point, weights, evaluate, bar)
    return scores.result([np.array([[0.0, 1.0]] * len(objectives))])


def best_cell(means: np.ndarray) -> tuple[int, ...]:
    """Index of the cell with the largest sum over its 2^d corners; cell (i, j, ..) lies between grid points i and i+1, j and j+1, ..

    `means` [p, .., p]: the mean score of every grid point. Returns d indices in 0 .. p-2, of equal cells the first in lexicographic order.
    """
    cells = product(*(range(p - 1) for p in means.shape))
    return max(cells, key=lambda cell: means[tuple(slice(i, i + 2) for i in cell)].sum())


def direction(weights: Sequence[float]) -> tuple[int, ...]:
    """The shortest integer vector along `weights`: w and c*w (c > 0) share it, and give the same greedy text. Zeros for the zero vector.

    Exact: coordinates are read as fractions with a denominator up to 10^6, which holds every grid of this module.
    """
    fractions = [Fraction(w).limit_denominator(10**6) for w in weights]
    scale = math.lcm(*(f.denominator for f in fractions))
    whole = [int(f * scale) for f in fractions]
    divisor = math.gcd(*whole) or 1
    return tuple(n // divisor for n in whole)


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


def weight_columns(table: pd.DataFrame) -> list[str]:
    """The table's w_<objective> columns. Raises UserError if there are none."""
    columns = [str(c) for c in table.columns if str(c).startswith("w_")]
    if not columns:
        raise UserError("table: no weight columns (w_<objective>)")
    return columns


def _check_grid(objectives: Sequence[str], points_per_axis: int) -> None:
    if len(objectives) < 2:
        raise UserError(f"search: expected at least 2 objectives, got {len(objectives)}; with one there is nothing to weigh")
    if len(set(_columns(objectives))) != len(_columns(objectives)):
        raise UserError(f"search: objective names {', '.join(objectives)} repeat, or collide with the table's own columns")
    if points_per_axis < 3:
        raise UserError(
            f"search points_per_axis: expected at least 3, got {points_per_axis}; two points per axis have one cell, the whole cube"
        )


def _columns(objectives: Sequence[str]) -> list[str]:
    return ["level", "point", *(f"w_{name}" for name in objectives), *objectives, "mean", "seconds", "note"]


def _spaced(low: Fraction, high: Fraction, p: int) -> list[Fraction]:
    return [low + (high - low) * k / (p - 1) for k in range(p)]


def _points(axes: Axes) -> Iterator[tuple[int, Weights]]:
    """(number from 1, weights) of every grid point, the last axis fastest."""
    for number, point in enumerate(product(*axes), 1):
        yield number, tuple(float(x) for x in point)


class _ScoreTable:
    """The rows of a search, in memory and, if there is a path, on disk. Rows found on disk are replayed instead of evaluated."""

    def __init__(self, objectives: Sequence[str], path: Path | None, settings: Mapping[str, Any]):
        self.objectives = list(objectives)
        self.path = Path(path) if path else None
        self.rows: list[dict[str, Any]] = []
        self.on_disk: list[dict[str, Any]] = []
        self.first_seen: dict[Weights, dict[str, Any]] = {}
        if self.path:
            self._open(self.path, settings)

    def mean(self, level: int, point: int, weights: Weights, evaluate: Evaluate, bar: tqdm) -> float:
        """The point's mean score: replayed from disk, seen before, or evaluated now. Adds its row."""
        if len(self.rows) < len(self.on_disk):
            row = self.on_disk[len(self.rows)]
            if (row["level"], row["point"], self._weights(row)) != (level, point, weights):
                raise UserError(
                    f"{self.path}, row {len(self.rows) + 1}: not the point that this search asks for, {weights} at level {level}"
                )
        else:
            row = self._score(level, point, weights, evaluate)
            self._append(row)
        self.rows.append(row)
        self.first_seen.setdefault(weights, row)
        bar.update()
        return row["mean"]

    def _score(self, level: int, point: int, weights: Weights, evaluate: Evaluate) -> dict[str, Any]:
        row: dict[str, Any] = {"level": level, "point": point} | {f"w_{o}": w for o, w in zip(self.objectives, weights, strict=True)}
        if not any(weights):
            return row | dict.fromkeys(self.objectives, 0.0) | {"mean": 0.0, "seconds": 0.0, "note": DEGENERATE}
        if weights in self.first_seen:
            seen = self.first_seen[weights]
            return (
                row
                | {o: seen[o] for o in self.objectives}
                | {"mean": seen["mean"], "seconds": 0.0, "note": f"seen at level {seen['level']}"}
            )
        start = time.perf_counter()
        try:
            scores = evaluate(weights)
        except UserError as error:
            raise UserError(f"weights {weights}: {error}") from error
        except Exception as error:
            raise EvaluationError(weights, self.frame(), f"level {level}, point {point}") from error
        seconds = round(time.perf_counter() - start, 3)
        for name in self.objectives:
            if name not in scores:
                raise UserError(f"weights {weights}: the evaluation returned no score for {name}")
            if not math.isfinite(scores[name]):
                raise UserError(f"weights {weights}: the evaluation returned {float(scores[name])} for {name}")
        own = {name: float(scores[name]) for name in self.objectives}
        return row | own | {"mean": sum(own.values()) / len(own), "seconds": seconds, "note": ""}

    def _weights(self, row: Mapping[str, Any]) -> Weights:
        return tuple(row[f"w_{name}"] for name in self.objectives)

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=_columns(self.objectives))

    def result(self, bounds: list[np.ndarray]) -> SearchResult:
        if len(self.on_disk) > len(self.rows):
            raise UserError(f"{self.path}: holds {len(self.on_disk)} rows, this search has {len(self.rows)}")
        best = max((row for row in self.rows if row["note"] != DEGENERATE), key=lambda row: row["mean"])
        return SearchResult(self.frame(), self._weights(best), {name: best[name] for name in self.objectives}, bounds)

    # -- on disk

    def _open(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Start a table, or check that the one there was made with the same settings and read it."""
        columns = _columns(self.objectives)
        beside = path.with_suffix(".search.json")
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they will be when read back
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            path.write_text(",".join(columns) + "\n", encoding="utf-8")
            return
        if not beside.exists():
            raise UserError(f"{path}: {beside.name}, which says how the table was made, is missing; delete the table to search anew")
        made = json.loads(beside.read_text(encoding="utf-8"))
        for key in settings:
            if made.get(key) != settings[key]:
                raise UserError(f"{path}: made with {key} = {made.get(key)}, this search has {settings[key]}")
        self.on_disk = self._read(path, columns)

    def _read(self, path: Path, columns: list[str]) -> list[dict[str, Any]]:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # an interrupted write leaves a last line without its end: score that point again
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        header, *lines = list(csv.reader(whole.splitlines())) or [[]]
        if header != columns:
            raise UserError(f"{path}: columns {', '.join(header)}; expected {', '.join(columns)}")
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                cells = dict(zip(columns, line, strict=True))
                row: dict[str, Any] = {key: float(value) for key, value in cells.items() if key != "note"}
            except ValueError as error:
                raise UserError(f"{path}, row {number}: {error}") from error
            if not math.isfinite(row["mean"]):
                raise UserError(f"{path}, row {number}: mean is {row['mean']}")
            rows.append(row | {"level": int(row["level"]), "point": int(row["point"]), "note": cells["note"]})
        return rows

    def _append(self, row: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:  # closed, so on disk, after every row
            csv.DictWriter(file, _columns(self.objectives), lineterminator="\n").writerow(row)
