"""The table of a search: every point it asked for, what it scored and why, in memory and on disk, so that a search can be resumed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from emorl_lite.base.checked_rows import CHECK, CheckedRows
from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_json, write_json
from emorl_lite.base.ranges import check_name
from emorl_lite.base.weights import as_numbers, direction

Weights = tuple[float, ...]
Evaluate = Callable[[Weights], Mapping[str, float]]
"""Weights -> mean score of each objective on the fixed validation set. Called once per distinct point; other keys are ignored.

If it has a method `prepare(points: list[Weights])`, a search calls that first with all points that it is about to ask for."""

DEGENERATE = "degenerate: all weights zero"


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
    """For each level what was searched: the cube [d, 2], lower and upper bound of each weight, or the simplex's corners [d, d]."""

    @property
    def listed(self) -> int:
        """Points in the table: levels * points_per_axis**d, the paper's 135."""
        return len(self.table)

    @property
    def evaluated(self) -> int:
        """Points that needed an evaluation: neither zero nor known from another point."""
        return int((self.table["note"] == "").sum())


class EvaluationError(RuntimeError):
    """`evaluate` failed. `weights` is where, `table` holds the points scored before; its cause is the original error."""

    def __init__(self, weights: Weights, table: pd.DataFrame, where: str):
        super().__init__(f"evaluation failed at weights {weights}, {where}")
        self.weights = weights
        self.table = table


def weight_columns(table: pd.DataFrame) -> list[str]:
    """The table's w_<objective> columns. Raises UserError if there are none."""
    columns = [str(c) for c in table.columns if str(c).startswith("w_")]
    if not columns:
        raise UserError("table: no weight columns (w_<objective>)")
    return columns


def _columns(objectives: Sequence[str]) -> list[str]:
    return ["level", "point", *(f"w_{name}" for name in objectives), *objectives, "mean", "seconds", "note"]


def check_objectives(objectives: Sequence[str]) -> None:
    """Raise UserError for fewer than two objectives, or names that no table can have, repeat, or collide with the table's own columns."""
    if isinstance(objectives, str):
        raise UserError(f"search: expected a list of objectives, got the text {objectives!r}")
    if len(objectives) < 2:
        raise UserError(f"search: expected at least 2 objectives, got {len(objectives)}; with one there is nothing to weigh")
    for name in objectives:
        check_name(name, "search: objective")
    if len({*_columns(objectives), CHECK}) != len(_columns(objectives)) + 1:
        raise UserError(f"search: objective names {', '.join(objectives)} repeat, or collide with the table's own columns")


def _number(scores: Any, name: str, weights: Weights) -> float:
    """The score of an objective. Raises UserError if it is missing, or not one finite number."""
    where = f"weights {weights}: the evaluation returned"
    if name not in scores:
        raise UserError(f"{where} no score for {name}")
    score = as_numbers(scores[name], f"{where} for {name}", torch.float64)
    if score.numel() != 1 or not math.isfinite(score.item()):
        raise UserError(f"{where} {score.item() if score.numel() == 1 else f'{score.numel()} numbers'} for {name}")
    return float(score.item())


class ScoreTable:
    """The rows of a search. Rows found on disk are replayed instead of evaluated.

    `by_direction`: points along one direction share their scores, which is right under greedy decoding.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        objectives: Sequence[str],
        path: Path | None,
        settings: Mapping[str, Any],
        bar: tqdm,
        by_direction: bool = False,
    ):
        check_objectives(objectives)
        self.evaluate, self.bar, self.by_direction = evaluate, bar, by_direction
        self.objectives = list(objectives)
        self.path = Path(path) if path else None
        self.file: CheckedRows | None = None
        self.rows: list[dict[str, Any]] = []
        self.on_disk: list[dict[str, Any]] = []
        self.first_seen: dict[tuple[float, ...], dict[str, Any]] = {}
        if self.path:
            self._open(self.path, dict(settings) | {"objectives": self.objectives})

    def means(self, level: int, points: Sequence[Weights]) -> np.ndarray:
        """The mean scores [n] of a level's points, each replayed from disk, known from another point, or evaluated now. Adds their rows."""
        seconds = self._prepare(level, points)
        return np.array([self._mean(level, number, weights, seconds) for number, weights in enumerate(points, 1)])

    def _prepare(self, level: int, points: Sequence[Weights]) -> float:
        """Announce the points that are to be evaluated. Returns the seconds that took, per point."""
        prepare = getattr(self.evaluate, "prepare", None)
        new_points = {self._key(point): point for point in reversed(points) if any(point) and self._key(point) not in self.first_seen}
        replayed = len(self.on_disk) - len(self.rows)  # of a level that was broken off all points are prepared, as they were at first
        if prepare is None or not new_points or replayed >= len(points):
            return 0.0
        started = time.perf_counter()
        self._guarded(lambda: prepare(list(reversed(new_points.values()))), next(reversed(new_points.values())), f"level {level}")
        return (time.perf_counter() - started) / len(new_points)

    def _mean(self, level: int, point: int, weights: Weights, seconds: float) -> float:
        if len(self.rows) < len(self.on_disk):
            row = self.on_disk[len(self.rows)]
            if (row["level"], row["point"], self._weights(row)) != (level, point, weights):
                raise UserError(
                    f"{self.path}, row {len(self.rows) + 1}: not the point that this search asks for, {weights} at level {level}"
                )
        else:
            row = self._score(level, point, weights, seconds)
            self._append(row)
        self.rows.append(row)
        self.first_seen.setdefault(self._key(weights), row)
        self.bar.update()
        return float(row["mean"])

    def _score(self, level: int, point: int, weights: Weights, seconds: float) -> dict[str, Any]:
        row: dict[str, Any] = {"level": level, "point": point} | {f"w_{o}": w for o, w in zip(self.objectives, weights, strict=True)}
        if not any(weights):
            return row | dict.fromkeys(self.objectives, 0.0) | {"mean": 0.0, "seconds": 0.0, "note": DEGENERATE}
        earlier_row = self.first_seen.get(self._key(weights))
        if earlier_row:
            where = f"level {earlier_row['level']}"
            note = (
                f"seen at {where}" if self._weights(earlier_row) == weights else f"same direction as {where}, point {earlier_row['point']}"
            )
            return row | {o: earlier_row[o] for o in self.objectives} | {"mean": earlier_row["mean"], "seconds": 0.0, "note": note}
        started = time.perf_counter()
        scores = self._guarded(lambda: self.evaluate(weights), weights, f"level {level}, point {point}")
        seconds = round(seconds + time.perf_counter() - started, 4)
        if not isinstance(scores, Mapping | pd.Series):
            raise UserError(f"weights {weights}: the evaluation returned {type(scores).__name__}, expected a score by objective")
        values = {name: _number(scores, name, weights) for name in self.objectives}
        return row | values | {"mean": sum(values.values()) / len(values), "seconds": seconds, "note": ""}

    def _guarded(self, call: Callable[[], Any], weights: Weights, where: str) -> Any:
        try:
            return call()
        except UserError as error:
            raise UserError(f"weights {weights}: {error}") from error
        except Exception as error:
            raise EvaluationError(weights, self.frame(), where) from error

    def _key(self, weights: Weights) -> tuple[float, ...]:
        return direction(weights) if self.by_direction else weights

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

    def _open(self, path: Path, settings: dict[str, Any]) -> None:
        """Start a table, or check that the one there was made with the same settings and read it."""
        settings_path = settings_file(path)
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they will be when read back
        if path.exists():
            if not settings_path.exists():
                raise UserError(f"{path}: {settings_path.name}, which says how the table was made, is missing; {SEARCH_ANEW}")
            saved = read_json(settings_path, "the settings of a search", SEARCH_ANEW)
            check_settings(path, saved, settings)
            settings = saved
        else:
            write_json(settings_path, settings)
        self.file = CheckedRows(path, _columns(self.objectives), json.dumps(settings, sort_keys=True))
        self.on_disk = [self._row(path, number, cells) for number, cells in enumerate(self.file.rows, 1)]

    def _row(self, path: Path, number: int, cells: Mapping[str, str]) -> dict[str, Any]:
        """A row as it was in memory."""
        try:
            row: dict[str, Any] = {key: float(value) for key, value in cells.items() if key != "note"}
            row |= {"level": int(row["level"]), "point": int(row["point"]), "note": cells["note"]}
        except (ValueError, OverflowError) as error:
            raise UserError(f"{path}, row {number}: {error}") from error
        if not math.isfinite(row["mean"]):
            raise UserError(f"{path}, row {number}: mean is {row['mean']}")
        return row

    def _append(self, row: Mapping[str, Any]) -> None:
        if self.file is not None:
            self.file.append([row])


SEARCH_ANEW = "delete the table to search anew, or choose another --runs"
SCORING = "scoring"
"""What of a search's provenance later versions added: a table that does not say it is taken to agree."""


def settings_file(path: Path) -> Path:
    """Where a table's settings lie."""
    return path.with_suffix(".search.json")


def check_settings(path: Path, saved: Mapping[str, Any], settings: Mapping[str, Any], advice: str = SEARCH_ANEW) -> None:
    """Raise UserError naming the first thing in which a search that is there differs from this one."""
    ours, theirs = _flat(settings), _flat(saved)
    for key in ours | theirs:
        added = f"provenance.{SCORING}." in f"{key}." and not any(f"provenance.{SCORING}." in name for name in theirs)
        if theirs.get(key) != ours.get(key) and not added:
            raise UserError(f"{path}: made with {key} = {theirs.get(key)}, this search has {ours.get(key)}; {advice}")


def _flat(value: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Values by their places, a.b.c."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{name}{key}.") if isinstance(item, Mapping) else {f"{name}{key}": item}
    return flat
