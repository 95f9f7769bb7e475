"""The best weights there are: the exact maximiser of a mean score over the whole simplex, by branch and bound over an exact map.

Every prompt's score is constant on each of its regions, so their mean is constant on every intersection of regions, one a prompt. A
branch fixes the regions of some prompts; its bound takes for every other prompt the best region that still touches the branch.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.exact.polytopes import Piece, simplex
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.search.score_table import SearchResult


@dataclass(frozen=True)
class Optimum:
    """The best cell of the simplex: all its weights give the same replies, hence the same scores."""

    weights: tuple[float, ...]
    """Deep inside the cell: the centre of the largest ball in it."""
    scores: dict[str, float]
    """Mean score per objective there."""
    value: float
    """The maximised quantity there."""
    bound: float
    """No weights have more than this; equal to `value` if the search ended (`branches` below its limit)."""
    piece: Piece
    """The whole cell."""
    radius: float
    """How far the weights can move in any direction without changing any reply."""
    branches: int
    """Cells looked at."""


def best_weights(scored: ScoredMap, utility: Mapping[str, float] | None = None, branches: int = 200_000, start: Any = None) -> Optimum:
    """The weights that maximise sum_k u_k * mean score_k, exactly. By default the mean over objectives: u_k = 1 / K.

    `branches`: after so many the search stops with the best found and a bound. `start`: weights [n, d] to begin with, for instance those
    of another search; good ones prune more. For a utility that is not linear overlay the regions (`overlay`).
    Raises UserError for a utility of other objectives.
    """
    worth = _worth(scored, utility)
    finder = _Finder(scored, worth)
    best, cell = finder.climb(start)
    order = count()
    full_simplex = simplex(len(scored.map.objectives))
    queue: list[tuple[float, int, Piece, dict[int, int], dict[int, Sequence[int]]]] = []
    bound, undecided = finder.bound(full_simplex, {})
    if undecided:
        queue.append((-bound, next(order), full_simplex, {}, undecided))
    branched = 0
    slack = 1e-12 * max(1.0, float(np.abs(worth).max()))  # rounding is no improvement
    while queue and -queue[0][0] > best + slack and branched < branches:
        _, _, piece, fixed, open_rows = heapq.heappop(queue)
        branched += 1
        row, regions = max(open_rows.items(), key=lambda item: np.ptp(worth[item[1]]) / len(item[1]))
        for region in regions:
            part = piece.cut(scored.map.regions[region].piece.facets)
            if part is None:
                continue
            chosen = fixed | {row: region}
            bound, undecided = finder.bound(part, chosen)
            if bound > best + slack:
                if not undecided:
                    best, cell = bound, part
                else:
                    heapq.heappush(queue, (-bound, next(order), part, chosen, undecided))
    bound = max(best, -queue[0][0]) if queue else best
    weights, radius = cell.deepest
    scores = dict(zip(scored.names, scored.means(weights)[0].tolist(), strict=True))
    return Optimum(tuple(weights.tolist()), scores, best, bound, cell, radius, branched)


def exact_search(scored: ScoredMap, utility: Mapping[str, float] | None = None) -> SearchResult:
    """The exact optimum in the shape of a search's result: a table of one row. Its note tells if branch and bound was cut short."""
    started = time.perf_counter()
    optimum = best_weights(scored, utility)
    proven = optimum.bound <= optimum.value + 1e-9
    row: dict[str, Any] = {"level": 1, "point": 1}
    row |= {f"w_{name}": w for name, w in zip(scored.map.objectives, optimum.weights, strict=True)} | optimum.scores
    row |= {"mean": float(np.mean(list(optimum.scores.values()))), "seconds": time.perf_counter() - started}
    row["note"] = "" if proven else f"not proven: at most {optimum.bound:.6f}"
    return SearchResult(pd.DataFrame([row]), optimum.weights, optimum.scores, [np.eye(len(optimum.weights))])


def _worth(scored: ScoredMap, utility: Mapping[str, float] | None) -> np.ndarray:
    """[G]: what each region's reply is worth."""
    if utility is None:
        return scored.mean
    unknown = [name for name in utility if name not in scored.names]
    if unknown:
        raise UserError(f"utility: objective {unknown[0]!r} is unknown; expected {', '.join(scored.names)}")
    return scored.scores @ np.array([utility.get(name, 0.0) for name in scored.names])


class _Finder:
    """Bounds and values of branches. A branch is a piece and the regions fixed so far, by row."""

    def __init__(self, scored: ScoredMap, worth: np.ndarray):
        self.scored, self.worth = scored, worth
        self.regions = scored.map.regions
        self.row_of = np.array([region.row for region in self.regions])

    def bound(self, piece: Piece, fixed: Mapping[int, int]) -> tuple[float, dict[int, Sequence[int]]]:
        """No weights in the piece are worth more; and the rows that are still open, with the regions that they could take."""
        candidates = np.flatnonzero(self.scored.map.touching(piece.vertices))
        rows = self.row_of[candidates]
        best = np.full(len(self.scored.map.indices), -np.inf)
        np.maximum.at(best, rows, self.worth[candidates])
        open_rows: dict[int, Sequence[int]] = {}
        for row in range(len(best)):
            if row in fixed:
                best[row] = self.worth[fixed[row]]
            else:
                row_regions = candidates[rows == row]
                if len(row_regions) > 1:
                    open_rows[row] = row_regions.tolist()
        return float(best.sum()) / len(best), open_rows

    def climb(self, start: Any) -> tuple[float, Piece]:
        """A good cell to begin with: the best of some weights looked up, and the cell of the overlay that holds it."""
        d = len(self.scored.map.objectives)
        candidates = np.vstack([region.piece.vertices.mean(0) for region in self.regions])
        if start is not None:
            starts = np.atleast_2d(np.asarray(start, dtype=np.float64))
            candidates = np.vstack([starts / starts.sum(1, keepdims=True), candidates])
        candidates = np.vstack([candidates, np.random.default_rng(0).dirichlet(np.ones(d), 4096)])
        located = self.scored.map.locate(candidates)
        values = np.where((located >= 0).all(1), self.worth[located].mean(1), -np.inf)
        for i in values.argsort()[::-1]:
            piece: Piece | None = simplex(d)
            for region in located[i]:
                piece = piece.cut(self.regions[region].piece.facets) if piece else None
            if piece is not None:
                return float(values[i]), piece
        raise UserError("best weights: the map holds no cell with an inside")
