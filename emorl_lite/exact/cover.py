"""Whether convex pieces cut a domain into parts: none beyond it, no two that overlap, no hole between them.

A hole and an overlap of one size leave the sum of all measures as it is, so they are looked for apart. Two convex pieces do not overlap if
all vertices of one lie outside of a facet of the other; where no facet shows it (it may take another plane from three dimensions on), one
is cut by the other, and what is left must have no thickness. Without overlaps a hole is what the measures lack. A smaller one has a corner
at a vertex of some piece: just across a facet, and next to its vertices, some other piece must begin.
Shapes: G pieces, d corners, m vertices, f facets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE, Piece

THICK = 10 * TOLERANCE
"""What two pieces have in common counts as an overlap if it is thicker. (A cut that would take less than the tolerance is not made.)"""
ACROSS = 30 * TOLERANCE
"""How far across a facet its neighbour is looked for."""
ALONG = 0.01
"""From a vertex of a facet so far towards the facet's middle."""
LACKING = 1e-6
"""Share of a domain that may be lacking: what rounding leaves out between thousands of pieces, and a thousand times more."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Pieces that should cut a domain into parts."""

    pieces: Sequence[Piece]
    domain: Piece

    @property
    def measure(self) -> float:
        """Their measures' sum, as a share of the domain: 1 if there is no hole and no overlap, or if the two cancel."""
        return float(sum(piece.measure for piece in self.pieces))

    def beyond(self) -> Iterator[tuple[int, np.ndarray]]:
        """The pieces that go beyond the domain, each with a vertex [d] that does."""
        for i, piece in enumerate(self.pieces):
            distance = (piece.vertices @ self.domain.facets.T).min(1)
            if distance.min() < -THICK:
                yield i, piece.vertices[distance.argmin()]

    def overlaps(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pairs of pieces that overlap, each with a point [d] in the middle of what they have in common."""
        low, high = self._boxes
        for i, piece in enumerate(self.pieces):
            near = i + 1 + np.flatnonzero(((low[i + 1 :] < high[i] - THICK) & (high[i + 1 :] > low[i] + THICK)).all(1))
            for j in near[~self._apart(piece, near)].tolist():
                common = piece.cut(self.pieces[j].facets)
                if common is not None and _thickness(common) > THICK:
                    yield i, j, common.vertices.mean(0)

    def holes(self) -> Iterator[np.ndarray]:
        """Points [d] of the domain just across a facet of some piece that lie in no other one."""
        low, high = self._boxes
        for i, piece in enumerate(self.pieces):
            points = _across(piece)
            points = points[(points @ self.domain.facets.T).min(1, initial=np.inf) >= 0]
            near = np.flatnonzero(((low <= high[i] + 2 * ACROSS) & (high >= low[i] - 2 * ACROSS)).all(1))
            near = near[near != i]
            if not len(near):
                yield from points
                continue
            facets, starts = self._stacked(self._facets, near)
            inside = np.minimum.reduceat(points @ facets.T, starts, axis=1).max(1)  # [points]: in the piece where it is deepest
            yield from points[inside < -TOLERANCE]

    def _apart(self, piece: Piece, others: np.ndarray) -> np.ndarray:
        """Which of the others [n] a facet of theirs, or of this piece, shows to be apart from it."""
        if not len(others):
            return np.zeros(0, dtype=bool)
        vertices, starts = self._stacked(self._vertices, others)
        ours = np.maximum.reduceat(piece.facets @ vertices.T, starts, axis=1).min(0)  # [n]: how far inside of its nearest facet they come
        facets, starts = self._stacked(self._facets, others)
        theirs = np.minimum.reduceat((facets @ piece.vertices.T).max(1), starts)
        return np.asarray(np.minimum(ours, theirs) <= THICK)

    @cached_property
    def _boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest weights of each piece, [G, d] each."""
        low, high = ([getattr(piece.vertices, end)(0) for piece in self.pieces] for end in ("min", "max"))
        shape = (len(self.pieces), self.domain.facets.shape[1])
        return np.array(low).reshape(shape), np.array(high).reshape(shape)

    @cached_property
    def _vertices(self) -> tuple[np.ndarray, np.ndarray]:
        return _ragged([piece.vertices for piece in self.pieces])

    @cached_property
    def _facets(self) -> tuple[np.ndarray, np.ndarray]:
        return _ragged([piece.facets for piece in self.pieces])

    @staticmethod
    def _stacked(rows: tuple[np.ndarray, np.ndarray], chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows [n, d] of some pieces one after another, and where each piece's begin."""
        flat, ends = rows
        counts = ends[chosen + 1] - ends[chosen]
        starts = np.cumsum(counts) - counts
        return flat[np.arange(counts.sum()) + np.repeat(ends[chosen] - starts, counts)], starts


def check_cover(
    pieces: Sequence[Piece], domain: Piece, where: str = "map", numbers: Sequence[int] | None = None, thorough: bool = False
) -> None:
    """Raise UserError unless the pieces cut the domain into parts, naming what is wrong first: beyond it, an overlap, a hole.

    Overlaps are found if they are thicker than THICK, holes from LACKING of the domain on; `thorough` finds those too that are smaller.
    `where`: what has these pieces, for the message, and their `numbers` there.
    """
    cover = Cover(pieces, domain)
    names = range(len(pieces)) if numbers is None else numbers
    for i, point in cover.beyond():
        raise UserError(f"{where}: region {names[i]} goes beyond the domain, at {_shown(point)}")
    for i, j, point in cover.overlaps():
        raise UserError(f"{where}: regions {names[i]} and {names[j]} overlap, at {_shown(point)}")
    for point in cover.holes() if thorough and len(pieces) else ():
        raise UserError(f"{where}: a hole at {_shown(point)}; the regions cover {cover.measure:.9f} of the domain")
    if not cover.measure > 1 - LACKING:
        raise UserError(f"{where}: a hole; the regions cover {cover.measure:.9f} of the domain")


def _shown(point: np.ndarray) -> str:
    return f"({', '.join(f'{x:.6g}' for x in point)})"


def _ragged(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays [n, d] one after another, and where each begins and the last ends."""
    return np.concatenate(arrays), np.cumsum([0, *map(len, arrays)])


def _thickness(piece: Piece) -> float:
    """The least width of a piece across its facets."""
    return float((piece.vertices @ piece.facets.T).max(0).min())


def _across(piece: Piece) -> np.ndarray:
    """Points [n, d] just outside of a piece: across each facet that is not the domain's own, next to each vertex of it."""
    found = [np.empty((0, piece.facets.shape[1]))]
    for normal, on in zip(piece.facets[~piece.own], piece.incidence.T[~piece.own], strict=True):
        ends = piece.vertices[on]
        found.append(ends + ALONG * (ends.mean(0) - ends) - ACROSS * (normal - normal.mean()))
    return np.concatenate(found)
