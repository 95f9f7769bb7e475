"""The best weights there are: the exact maximiser of a mean score over the whole simplex, by branch and bound over an exact map.

Every prompt's score is constant on each of its regions, so their mean is constant on every intersection of regions, one a prompt. A
branch fixes the regions of some prompts; its bound takes for every other prompt the best region that still touches the branch.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.base.sizes import blocks
from emorl_lite.base.weights import weight_rows
from emorl_lite.exact.polytopes import Piece, simplex
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.search.score_table import SearchResult

STARTS = 20_000
"""Regions whose middles are looked up to begin with, evenly taken from a map of more."""


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


def best_weights(
    scored: ScoredMap, utility: Mapping[str, float] | None = None, branches: int = 200_000, start: Any = None, memory: int = 2**31
) -> Optimum:
    """The weights that maximise sum_k u_k * mean score_k, exactly. By default the mean over objectives: u_k = 1 / K.

    `branches`: after so many the search stops with the best found and a bound, and so it does where the branches that wait take more than
    `memory` bytes. `start`: weights [n, d] to begin with, for instance those of another search; good ones prune more. For a utility that is
    not linear overlay the regions (`overlay`).
    Raises UserError for a utility of other objectives.
    """
    checked(branches, int, [Within(0, 10**9)], f"branches {shown(branches)}")
    if start is not None:
        start = weight_rows(start, len(scored.map.objectives))
    worth = _worth(scored, utility)
    finder = _Finder(scored, worth)
    best, cell = finder.climb(start)
    queue = _Queue()
    queue.add(finder.branch(simplex(len(scored.map.objectives)), finder.highest, range(len(finder.highest))))
    branched = 0
    slack = 1e-12 * max(1.0, float(np.abs(worth).max()))  # rounding is no improvement
    while queue.bound > best + slack and branched < branches and queue.nbytes <= memory:
        branch = queue.pop()
        branched += 1
        row, regions = max(branch.open_rows.items(), key=lambda item: np.ptp(worth[item[1]]) / len(item[1]))
        others = [other for other in branch.open_rows if other != row]
        for region in regions.tolist():
            part = branch.piece.cut(scored.map.regions[region].piece.facets)
            if part is None:
                continue
            settled = branch.worth.copy()
            settled[row] = worth[region]
            child = finder.branch(part, settled, others)
            if child.bound > best + slack:
                if child.open_rows:
                    queue.add(child)
                else:
                    best, cell = child.bound, part
    weights, radius = cell.deepest
    scores = dict(zip(scored.names, scored.means(weights)[0].tolist(), strict=True))
    return Optimum(tuple(weights.tolist()), scores, best, max(best, queue.bound), cell, radius, branched)


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
    for name, value in utility.items():
        checked(value, float, [Within(-1e9, 1e9)], f"utility of {name} {shown(value)}")
    return scored.scores @ np.array([utility.get(name, 0.0) for name in scored.names])


@dataclass(frozen=True)
class _Branch:
    """A piece of the simplex, with what its weights could be worth."""

    piece: Piece
    worth: np.ndarray
    """[B * S]: no weights in the piece make a row's reply worth more."""
    open_rows: dict[int, np.ndarray]
    """The rows that could take several regions in the piece, and which."""

    @property
    def bound(self) -> float:
        """No weights in the piece are worth more."""
        return float(self.worth.sum()) / len(self.worth)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.piece.nbytes + self.worth.nbytes + sum(regions.nbytes + 200 for regions in self.open_rows.values())


class _Queue:
    """The branches that wait, the most promising first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Branch]] = []
        self._order = count()
        self.nbytes = 0

    @property
    def bound(self) -> float:
        """No weights in any of them are worth more; -inf without branches."""
        return -self._heap[0][0] if self._heap else -np.inf

    def add(self, branch: _Branch) -> None:
        """One more, unless nothing is open in it."""
        if branch.open_rows:
            self.nbytes += branch.nbytes
            heapq.heappush(self._heap, (-branch.bound, next(self._order), branch))

    def pop(self) -> _Branch:
        """The most promising one."""
        branch = heapq.heappop(self._heap)[2]
        self.nbytes -= branch.nbytes
        return branch


class _Finder:
    """Where to begin, and what branches are worth."""

    def __init__(self, scored: ScoredMap, worth: np.ndarray):
        self.scored, self.worth = scored, worth
        self.regions = scored.map.regions
        self.highest = np.array([worth[indices].max(initial=-np.inf) for indices in scored.map.indices])

    def branch(self, piece: Piece, settled: np.ndarray, rows: Iterable[int]) -> _Branch:
        """What a piece could be worth. `settled` [B * S]: the same of a larger one; `rows`: which were open in that."""
        worth, open_rows = settled.copy(), {}
        for row, regions in self.scored.map.touching(piece.vertices, rows).items():
            worth[row] = self.worth[regions].max(initial=-np.inf)
            if len(regions) > 1:
                open_rows[row] = regions
        return _Branch(piece, worth, open_rows)

    def climb(self, start: np.ndarray | None) -> tuple[float, Piece]:
        """A good cell to begin with: the best of some weights looked up (`start` [n, d] among them), and the cell that holds it."""
        d, step = len(self.scored.map.objectives), -(-len(self.regions) // STARTS)
        candidates = np.vstack([region.piece.vertices.mean(0) for region in self.regions[::step]])
        if start is not None:
            candidates = np.vstack([start / start.sum(1, keepdims=True), candidates])
        candidates = np.vstack([candidates, np.random.default_rng(0).dirichlet(np.ones(d), 4096)])
        values = np.concatenate([self._value(candidates[part]) for part in blocks(len(candidates), 16 * len(self.highest))])
        for i in values.argsort()[::-1]:
            piece: Piece | None = simplex(d)
            for region in self.scored.map.locate(candidates[i])[0]:
                piece = piece.cut(self.regions[region].piece.facets) if piece and region >= 0 else None
            if piece is not None:
                return float(values[i]), piece
        raise UserError("best weights: the map holds no cell with an inside")

    def _value(self, weights: np.ndarray) -> np.ndarray:
        """What weights [n, d] are worth; -inf in a hole."""
        located = self.scored.map.locate(weights)
        return np.where((located >= 0).all(1), self.worth[located].mean(1), -np.inf)
