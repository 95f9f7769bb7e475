"""Convex fronts for any number of objectives, by optimistic linear support, with a certificate of what is missing.

A user who weighs the objectives with utilities u (not negative, sum 1) wants the mean score vector S that maximises u.S. The vectors that
are best for some u are the convex coverage set: all that linear utilities can ask for. Optimistic linear support (Roijers, Whiteson and
Oliehoek 2015, after Cheng 1988) finds them by asking few utilities. Each vector found so far is the best of them on a convex piece of the
utilities. What is missing is convex there, hence largest at a corner: ask the corner where most could be missing, take the answer in
as a new vector, and stop when no corner has anything to add. Each answer is exact (`optimum.py`), so nothing is missing then.
Shapes: K objectives, d weights, m vectors, q utilities asked.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import Piece, simplex
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.exact.optimum import Maximiser
from emorl_lite.exact.scored_map import ScoredMap

SAME = 1e-9
"""Utilities, or values, that differ by no more are the same."""


@dataclass(frozen=True)
class ConvexFront:
    """Mean score vectors that are the best for some linear utility, and how much is missing at most."""

    names: list[str]
    scores: np.ndarray
    """[m, K]: mean scores over the prompts."""
    weights: np.ndarray
    """[m, d]: weights that give them."""
    shares: np.ndarray
    """[m]: for what part of all utilities each is the best."""
    missing: float
    """No utility (not negative, sum 1) has weights with a higher value than the best of these vectors plus this. 0: nothing is missing."""
    asked: int
    """Utilities for which the exact optimum was asked."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.missing == 0

    def table(self) -> pd.DataFrame:
        """A row a vector, the most asked for first: its share of the utilities, its mean scores."""
        table = pd.DataFrame({"share": self.shares} | {name: self.scores[:, k] for k, name in enumerate(self.names)})
        return table.sort_values("share", ascending=False, ignore_index=True)


def convex_front(scored: ScoredMap, tolerance: float = SAME, asks: int = 10_000, branches: int = 200_000) -> ConvexFront:
    """The convex coverage set of a map's scored objectives, for any number of corners and of objectives (two at least).

    `tolerance`: improvements up to this are no improvement; a larger one gives fewer vectors, and `missing` says how much they lack.
    `asks`: after so many optima it stops, with what could be missing; `branches`: of each optimum (a search cut short gives a bound, which
    counts as missing). Raises UserError for one objective, or fewer asks than objectives.
    """
    K = len(scored.names)
    if K < 2:
        raise UserError(f"convex front: at least 2 objectives are needed, the map has {K}")
    checked(tolerance, float, [Within(0, 1e9)], f"tolerance {shown(tolerance)}")
    checked(asks, int, [Within(K, 10**7)], f"asks {shown(asks)}")
    support = _Support(scored, max(tolerance, SAME), branches)
    for utility in np.eye(K):
        support.ask(utility)
    while support.asked < asks and (corner := support.next()) is not None:
        support.ask(corner)
    return support.front()


class _Support:
    """The vectors found so far, the piece of utilities where each is the best, and the corners that wait."""

    def __init__(self, scored: ScoredMap, tolerance: float, branches: int):
        self.scored, self.tolerance, self.branches = scored, tolerance, branches
        self.maximiser = Maximiser(scored.map)
        self.vectors: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self.pieces: list[Piece | None] = []
        self.utilities: list[np.ndarray] = []
        self.bounds: list[float] = []
        self.known: set[bytes] = set()
        self.waiting: list[tuple[float, int, np.ndarray]] = []
        self.left: list[np.ndarray] = []  # corners not asked, as no more than the tolerance could be missing
        self.order = count()

    @property
    def asked(self) -> int:
        """How many utilities."""
        return len(self.utilities)

    def ask(self, utility: np.ndarray) -> None:
        """The exact optimum for a utility, taken in if it is new."""
        found = self.maximiser.maximise(self.scored.scores @ utility, branches=self.branches)
        inside = found.piece.vertices.mean(0)
        vector = self.scored.means(inside)[0]
        self.known.add(_key(utility))
        self.utilities.append(utility)
        self.bounds.append(found.bound)
        if not self.vectors or float(vector @ utility) > self._best(utility) + self.tolerance:
            self._take(vector, inside)

    def _take(self, vector: np.ndarray, weights: np.ndarray) -> None:
        """A new vector: its piece of the utilities, and what is left of the others' pieces."""
        piece: Piece | None = simplex(len(vector))
        if self.vectors:
            piece = piece.cut(vector - np.array(self.vectors)) if piece else None
        self.pieces = [other.cut((mine - vector)[None]) if other else None for other, mine in zip(self.pieces, self.vectors, strict=True)]
        self.vectors.append(vector)
        self.weights.append(weights)
        self.pieces.append(piece)
        for corner in piece.vertices if piece else []:
            utility = corner.clip(0) / corner.clip(0).sum()
            if _key(utility) not in self.known:
                self.known.add(_key(utility))
                heapq.heappush(self.waiting, (-np.inf, next(self.order), utility))

    def next(self) -> np.ndarray | None:
        """The corner at which most could be missing; None if nothing can.

        What could be missing only falls as more is known, so an old number is a bound, and is computed anew when its turn comes.
        """
        while self.waiting:
            _, _, utility = heapq.heappop(self.waiting)
            missing = self._missing(utility)
            if missing <= self.tolerance:
                self.left += [utility] if missing > SAME else []
                continue
            if not self.waiting or missing >= -self.waiting[0][0]:
                return utility
            heapq.heappush(self.waiting, (-missing, next(self.order), utility))
        return None

    def _best(self, utility: np.ndarray) -> float:
        """The best value of the vectors found."""
        return float((np.array(self.vectors) @ utility).max())

    def _missing(self, utility: np.ndarray) -> float:
        """How much could be missing for a utility: the highest u.x of any x that no utility asked so far rules out, less the best found."""
        found = linprog(-utility, np.array(self.utilities), np.array(self.bounds), bounds=(None, None), method="highs")
        return float(-found.fun - self._best(utility)) if found.status == 0 else np.inf

    def front(self) -> ConvexFront:
        """What was found, and what could be missing: at corners asked (where a search was cut short), left out, and those that wait."""
        gaps = [bound - self._best(utility) for utility, bound in zip(self.utilities, self.bounds, strict=True)]
        gaps += [self._missing(utility) for utility in [*self.left, *(utility for _, _, utility in self.waiting)]]
        missing = max(gaps)
        kept = [i for i, piece in enumerate(self.pieces) if piece is not None]
        shares = np.array([piece.measure for piece in self.pieces if piece is not None])
        scores, weights = np.array(self.vectors)[kept], np.array(self.weights)[kept]
        return ConvexFront(self.scored.names, scores, weights, shares, 0.0 if missing <= SAME else missing, self.asked)


def _key(utility: np.ndarray) -> bytes:
    """The same for utilities that are the same but for rounding."""
    return (utility / SAME).round().astype(np.int64).tobytes()
