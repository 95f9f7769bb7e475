"""The best weights there are: the exact maximiser of a mean score over the whole domain, by branch and bound over an exact map.

Every prompt's score is constant on each of its regions, so their mean is constant on every intersection of regions, one a prompt. A
branch fixes the regions of some prompts; its bound takes for every other prompt the best region that still touches the branch.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE, Piece
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.base.sizes import blocks
from emorl_lite.exact.exact_map import ExactMap
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.search.score_table import SearchResult

STARTS = 2000
"""Regions whose middles are looked up to begin with, evenly taken from a map of more."""
RANDOM_STARTS = 500
"""Random weights that are looked up as well."""


@dataclass(frozen=True)
class Optimum:
    """The best cell of the domain: all its weights give the same replies, hence the same scores."""

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


@dataclass(frozen=True)
class Maximum:
    """Where a sum over rows (prompts and samples) is largest."""

    value: float
    """The mean over rows there."""
    bound: float
    """No weights have more; equal to `value` if the search ended."""
    piece: Piece
    """The cell: all its weights give the same replies."""
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
    found = maximise(scored.map, region_worth(scored, utility), branches=branches, start=start, memory=memory)
    weights, radius = found.piece.deepest
    scores = dict(zip(scored.names, scored.means(weights)[0].tolist(), strict=True))
    return Optimum(tuple(weights.tolist()), scores, found.value, found.bound, found.piece, radius, found.branches)


def maximise(
    found: ExactMap,
    worth: np.ndarray,
    counts: np.ndarray | None = None,
    branches: int = 200_000,
    start: Any = None,
    memory: int = 2**31,
) -> Maximum:
    """The weights that maximise the mean over rows of what their replies are worth, exactly.

    `worth` [G]: any number for each region's reply, negative ones too. `counts` [B * S]: how often each row counts (once by default; a
    bootstrap's draws). For many worths of one map keep a `Maximiser`. Other arguments: see `best_weights`.
    """
    return Maximiser(found, start).maximise(worth, counts, branches, memory)


def exact_search(scored: ScoredMap, utility: Mapping[str, float] | None = None) -> SearchResult:
    """The exact optimum in the shape of a search's result: a table of one row. Its note tells if branch and bound was cut short."""
    started = time.perf_counter()
    optimum = best_weights(scored, utility)
    proven = optimum.bound <= optimum.value + 1e-9
    row: dict[str, Any] = {"level": 1, "point": 1}
    found = scored.map.domain
    row |= dict(zip(found.columns, found.values(np.array([optimum.weights]))[0].tolist(), strict=True)) | optimum.scores
    row |= {"mean": float(np.mean(list(optimum.scores.values()))), "seconds": time.perf_counter() - started}
    row["note"] = "" if proven else f"not proven: at most {optimum.bound:.6f}"
    return SearchResult(pd.DataFrame([row]), optimum.weights, optimum.scores, [np.eye(len(optimum.weights))])


def region_worth(scored: ScoredMap, utility: Mapping[str, float] | None) -> np.ndarray:
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
    """A piece of the domain, with what its weights could be worth."""

    piece: Piece
    settled: float
    """What the rows whose worth is the same everywhere in the piece add up to."""
    regions: np.ndarray
    """Of the open rows, row after row, the regions that could meet the piece and be part of something better."""
    bound: float
    """No weights in the piece are worth more."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.piece.nbytes + self.regions.nbytes + 200


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
        """One more."""
        self.nbytes += branch.nbytes
        heapq.heappush(self._heap, (-branch.bound, next(self._order), branch))

    def pop(self) -> _Branch:
        """The most promising one."""
        branch = heapq.heappop(self._heap)[2]
        self.nbytes -= branch.nbytes
        return branch


class Maximiser:
    """What every search over one map needs: the regions' boxes, and where some weights fall. So further searches begin at once."""

    def __init__(self, found: ExactMap, start: Any = None):
        """`start`: weights [n, d] to begin with, or knobs' values."""
        self.found = found
        self.row = np.array([region.row for region in found.regions], dtype=np.int64)
        pieces = [region.piece for region in found.regions]
        self._low = np.array([piece.vertices.min(0) for piece in pieces]) - TOLERANCE  # [G, d]
        self._high = np.array([piece.vertices.max(0) for piece in pieces]) + TOLERANCE
        middles = np.array([piece.vertices.mean(0) for piece in pieces[:: -(-len(pieces) // STARTS)]])
        given = found.domain.on_plane(start) if start is not None else middles[:0]
        self._starts = np.vstack([given, middles, found.domain.random(RANDOM_STARTS, np.random.default_rng(0))])
        located = found.locate(self._starts)
        whole = (located >= 0).all(1)
        self._starts, self._located = self._starts[whole], located[whole].astype(np.int32)

    def maximise(self, worth: np.ndarray, counts: np.ndarray | None = None, branches: int = 200_000, memory: int = 2**31) -> Maximum:
        """See `maximise`."""
        checked(branches, int, [Within(0, 10**9)], f"branches {shown(branches)}")
        search, queue = _Search(self, self._shares(worth, counts)), _Queue()
        queue.add(search.whole())
        branched = 0
        while queue.bound > search.enough and branched < branches and queue.nbytes <= memory:
            branched += 1
            for child in search.children(queue.pop()):
                if len(child.regions):
                    queue.add(child)
                else:
                    search.take(child.bound, child.piece)
        return Maximum(search.best, max(search.best, queue.bound), self._one_reply_each(search.cell), branched)

    def _shares(self, worth: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
        """[G]: what each region adds to the mean."""
        worth = np.asarray(worth, dtype=np.float64)
        counts = np.ones(len(self.found.indices)) if counts is None else np.asarray(counts, dtype=np.float64)
        if worth.shape != self.row.shape or not np.isfinite(worth).all():
            raise UserError(f"worth: expected {len(self.row)} finite numbers, one a region, got shape {worth.shape}")
        if counts.shape != (len(self.found.indices),) or not (np.isfinite(counts).all() and counts.min() >= 0 and counts.any()):
            raise UserError(f"counts: expected {len(self.found.indices)} numbers, one a row, not negative and not all zero")
        return worth * (counts / counts.sum())[self.row]

    def starts(self, share: np.ndarray) -> Iterator[tuple[float, Piece]]:
        """The cells of the weights to begin with, the best first, and what they are worth."""
        blocked = blocks(len(self._located), 8 * self._located.shape[1])
        values = np.concatenate([share[self._located[part]].sum(1) for part in blocked] or [np.empty(0)])
        for i in values.argsort()[::-1].tolist():
            piece: Piece | None = self.found.domain.piece
            for region in self._located[i].tolist():
                piece = piece.cut(self.found.regions[region].piece.facets) if piece else None
            if piece is not None:
                yield float(values[i]), piece

    def touching(self, piece: Piece, regions: np.ndarray) -> np.ndarray:
        """Which of these regions could meet a piece: a superset of those that do.

        Their boxes meet, and no facet of either has all vertices of the other on its outside.
        """
        boxed = (self._low[regions] < piece.vertices.max(0)).all(1) & (self._high[regions] > piece.vertices.min(0)).all(1)
        near = regions[boxed]
        if not len(near):
            return near
        others = [self.found.regions[i].piece for i in near.tolist()]
        facets, counts = np.concatenate([other.facets for other in others]), [len(other.facets) for other in others]
        highest = np.concatenate([(facets[part] @ piece.vertices.T).max(1) for part in blocks(len(facets), 8 * len(piece.vertices))])
        meet = np.minimum.reduceat(highest, np.cumsum([0, *counts])[:-1]) > TOLERANCE
        return near[meet]

    def _one_reply_each(self, piece: Piece) -> Piece:
        """The part of a piece, all of it equally good, on which no row's reply changes."""
        for indices in self.found.indices:
            regions = self.touching(piece, indices)
            middle = piece.vertices.mean(0)
            depths = [float((self.found.regions[i].piece.facets @ middle).min()) for i in regions.tolist()]
            parts = (piece.cut(self.found.regions[regions[k]].piece.facets) for k in np.argsort(depths)[::-1])
            piece = next((part for part in parts if part), piece)
        return piece


class _Search:
    """One maximisation: the best so far, and the branches of a branch."""

    def __init__(self, maximiser: Maximiser, share: np.ndarray):
        self.of, self.share, self.row = maximiser, share, maximiser.row
        self.slack = 1e-12 * max(1.0, float(np.abs(share).max(initial=0.0)))  # rounding is no improvement
        first = next(maximiser.starts(share), None)
        if first is None:
            raise UserError("best weights: the map holds no cell with an inside")
        self.best, self.cell = first

    @property
    def enough(self) -> float:
        """A branch that could be worth no more than this is left out."""
        return self.best + self.slack

    def take(self, value: float, cell: Piece) -> None:
        """A cell, if it is better."""
        if value > self.enough:
            self.best, self.cell = value, cell

    def whole(self) -> _Branch:
        """The domain."""
        return self._branch(self.of.found.domain.piece, 0.0, np.concatenate(self.of.found.indices))

    def children(self, branch: _Branch) -> Iterator[_Branch]:
        """The parts of a branch by the regions of one of its rows, the best first, as long as they could be worth more than the best."""
        starts, lengths, highest, lowest = self._rows(branch.regions)
        chosen = int(((highest - lowest) / lengths).argmax())
        own = branch.regions[starts[chosen] : starts[chosen] + lengths[chosen]]
        others = np.delete(branch.regions, slice(starts[chosen], starts[chosen] + lengths[chosen]))
        rest = branch.bound - highest[chosen]
        for region in own[self.share[own].argsort()[::-1]].tolist():
            if rest + self.share[region] <= self.enough:
                return
            part = branch.piece.cut(self.of.found.regions[region].piece.facets)
            if part is not None:
                child = self._branch(part, branch.settled + self.share[region], others)
                if child.bound > self.enough:
                    yield child

    def _branch(self, piece: Piece, settled: float, regions: np.ndarray) -> _Branch:
        """A piece of a branch whose open rows have these regions."""
        regions = self.of.touching(piece, regions)
        _, lengths, highest, lowest = self._rows(regions)
        still_open = highest > lowest
        bound = settled + float(highest.sum())
        return _Branch(piece, settled + float(highest[~still_open].sum()), regions[np.repeat(still_open, lengths)], bound)

    def _rows(self, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where each row begins among regions that stand row after row, how many it has, and the most and least that they add."""
        rows, share = self.row[regions], self.share[regions]
        starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])) if len(rows) else np.empty(0, dtype=np.int64)
        lengths = np.diff(np.append(starts, len(rows)))
        if not len(starts):
            return starts, lengths, share, share
        return starts, lengths, np.maximum.reduceat(share, starts), np.minimum.reduceat(share, starts)
