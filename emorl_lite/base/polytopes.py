"""Convex pieces of the plane of weights {sum w = 1}: intervals for two corners, polygons for three, polytopes beyond.

A whole domain is such a piece: the weight simplex {w >= 0}, a line of weights that may be negative, a box of knobs. A piece keeps its
vertices, its facets (half-spaces) and which vertex lies on which facet. That is the double description (Motzkin et al. 1953): cutting by a
half-space keeps the vertices inside and adds one wherever an edge crosses the border, the same way in any dimension. Because weights sum to
one, every affine condition n.w >= c is a homogeneous one, (n - c).w >= 0.
Everything is in double precision. Shapes: d corners, m vertices, f facets, k half-spaces.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

TOLERANCE = 1e-9
"""Lengths in weight space: a piece that is no thicker is dropped, a cut that would take no more is not made."""
PIECE_BYTES = 800
"""Of a piece's objects, whatever is in its arrays."""
ON = 1e-12
"""A vertex this close to a border lies on it: rounding, and far below any thickness, so that near borders stay apart."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A convex piece of a domain of weights, with an inside."""

    vertices: np.ndarray
    """[m, d], weights that sum to 1, in no particular order (see `outline`)."""
    facets: np.ndarray
    """[f, d]: n.w >= 0 inside, and n.w is the distance from the facet (Euclidean, within the plane)."""
    incidence: np.ndarray
    """[m, f]: whether the vertex lies on the facet."""
    own: np.ndarray
    """[f]: whether the facet is the whole domain's own border, and not between two pieces of it."""
    whole: float = 1.0
    """Volume of the whole domain, in those of the simplex."""

    def cut(self, normals: np.ndarray) -> Piece | None:
        """The part with n.w >= 0 for every row n of `normals` [k, d]; None if no more than the tolerance is left."""
        normals = scaled(normals)
        distance = self.vertices @ normals.T  # [m, k]: a part's are between those of the whole
        cutting = distance.min(0) < -TOLERANCE
        if (distance[:, cutting].max(0) <= TOLERANCE).any():
            return None
        piece: Piece | None = self
        for normal in normals[cutting]:
            piece = piece._cut_one(normal) if piece else None
        return piece

    def _cut_one(self, normal: np.ndarray) -> Piece | None:
        distance = self.vertices @ normal
        if distance.min() >= -TOLERANCE:
            return self
        if distance.max() <= TOLERANCE:
            return None
        inside, outside = np.flatnonzero(distance > ON), np.flatnonzero(distance < -ON)
        a, b, shared = self._edges(inside, outside)
        share = (distance[a] / (distance[a] - distance[b]))[:, None]
        on_side = distance >= -ON
        vertices = np.concatenate([self.vertices[on_side], self.vertices[a] + share * (self.vertices[b] - self.vertices[a])])
        on_border = np.concatenate([distance[on_side] <= ON, np.ones(len(a), dtype=bool)])
        incidence = np.concatenate([np.concatenate([self.incidence[on_side], shared]), on_border[:, None]], 1)
        facets = np.concatenate([self.facets, normal[None]])
        used = incidence.sum(0) >= facets.shape[1] - 1  # a facet of a (d-1)-dimensional piece has at least d-1 vertices
        return Piece(vertices, facets[used], incidence[:, used], np.append(self.own, False)[used], self.whole)

    def _edges(self, inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The edges between two sets of vertices: their ends, and the facets [edges, f] that each lies on.

        Two vertices are the ends of an edge if no third one lies on all the facets that both lie on.
        """
        incidence = self.incidence.astype(np.float32)  # counts by matrix products
        i, j = np.nonzero(incidence[inside] @ incidence[outside].T >= self.facets.shape[1] - 2)
        a, b = inside[i], outside[j]
        shared = self.incidence[a] & self.incidence[b]
        edge = (shared.astype(np.float32) @ incidence.T == shared.sum(1)[:, None]).sum(1) == 2
        return a[edge], b[edge], shared[edge]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, objects included."""
        return self.vertices.nbytes + self.facets.nbytes + self.incidence.nbytes + self.own.nbytes + PIECE_BYTES

    @cached_property
    def measure(self) -> float:
        """Its share of the whole domain: 1 for the domain itself."""
        return self.volume / self.whole

    @property
    def volume(self) -> float:
        """Its volume in those of the simplex."""
        d = self.facets.shape[1]
        if d == 2:
            return float(np.ptp(self.vertices[:, 0]))
        if d == 3:
            corners = _in_cyclic_order(self.vertices)
            x, y = (corners[:, :2] - corners[0, :2]).T
            return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))  # twice the area; that of the simplex is 1/2
        for options in (None, "QJ"):  # Qhull's default gives up where facets are nearly parallel; joggling the points does not
            try:
                return float(ConvexHull(self.vertices[:, :-1], qhull_options=options).volume) * math.factorial(d - 1)
            except QhullError:
                continue
        return 0.0  # flat

    @cached_property
    def outline(self) -> np.ndarray:
        """The vertices in cyclic order (d = 3), or from one end to the other (d = 2)."""
        d = self.facets.shape[1]
        if d == 2:
            return self.vertices[self.vertices[:, 1].argsort()]
        if d > 3:
            raise ValueError(f"a piece of {d} objectives has no outline")
        return _in_cyclic_order(self.vertices)

    @cached_property
    def deepest(self) -> tuple[np.ndarray, float]:
        """The weights [d] farthest from the nearest facet, and that distance: the largest ball inside, by a linear programme (HiGHS)."""
        d = self.facets.shape[1]
        cost = np.append(np.zeros(d), -1.0)
        inside = np.hstack([-self.facets, np.ones((len(self.facets), 1))])
        total = np.append(np.ones(d), 0.0)[None]
        solution = linprog(cost, inside, np.zeros(len(self.facets)), total, [1.0], [(None, None)] * d + [(0, None)], method="highs")
        if solution.status != 0:  # thinner than the solver's tolerance
            return self.vertices.mean(0), 0.0
        return solution.x[:-1], float(solution.x[-1])

    def margin(self, w: np.ndarray) -> float:
        """Weights w [d] can move at least this far within the domain, in any direction, without leaving this piece; negative outside.

        The distance from the nearest facet's hyperplane, which is exact unless the domain ends first.
        """
        distance = self.facets @ w
        inner = distance[~self.own]
        if distance.min() < -TOLERANCE:
            return float(distance.min())
        return float(inner.min()) if len(inner) else math.inf

    def contains(self, weights: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """Which of the weights [n, d] lie inside, or at most `tolerance` outside, [n]."""
        return (weights @ self.facets.T).min(1) >= -tolerance


def simplex(d: int) -> Piece:
    """The whole weight simplex of d corners: {w >= 0, sum w = 1}."""
    corners = np.eye(d)
    return Piece(corners, np.array([scaled(corner) for corner in corners]), ~np.eye(d, dtype=bool), np.ones(d, dtype=bool))


def box(low: Sequence[float], high: Sequence[float]) -> Piece:
    """Knobs t [k] within low <= t <= high, as weights (1 - sum t, t_1, .., t_k) of d = k + 1 corners: an interval for one knob."""
    ends = np.array([low, high], dtype=np.float64)  # [2, k]
    sides = np.array(list(itertools.product((0, 1), repeat=ends.shape[1])))  # [2^k, k]: at which end of each knob a vertex lies
    knobs = np.take_along_axis(ends, sides, 0)
    unit = np.eye(ends.shape[1] + 1)[1:]  # t_j = unit[j].w
    facets = np.vstack([unit - ends[0][:, None], ends[1][:, None] - unit])  # t_j - low_j, high_j - t_j
    incidence = np.hstack([sides == 0, sides == 1])
    own = np.ones(len(facets), dtype=bool)
    return domain(Piece(np.hstack([1 - knobs.sum(1, keepdims=True), knobs]), np.array([scaled(n) for n in facets]), incidence, own))


def domain(piece: Piece) -> Piece:
    """The same piece as a domain of its own: all its facets are the domain's border, and its measure is 1."""
    return replace(piece, own=np.ones(len(piece.facets), dtype=bool), whole=piece.volume)


def scaled(normal: np.ndarray) -> np.ndarray:
    """Normals [.., d] scaled so that n.w is a distance within the plane of weights.

    One that is the same everywhere has no border: it becomes huge, all inside or all outside, or zero (all inside).
    """
    mean = normal.mean(-1, keepdims=True)
    length = np.sqrt(((normal - mean) ** 2).sum(-1, keepdims=True))
    flat = length <= 1e-13 * np.abs(normal).max(-1, keepdims=True, initial=0.0)
    return np.asarray(np.where(flat, 1e9 * np.sign(mean), normal / np.where(flat, 1.0, length)))


def _in_cyclic_order(vertices: np.ndarray) -> np.ndarray:
    """The vertices [m, 3] of a polygon, one after another around it."""
    x, y = (vertices - vertices.mean(0))[:, :2].T
    return vertices[np.arctan2(y, x).argsort()]
