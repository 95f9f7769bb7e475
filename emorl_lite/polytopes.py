"""Convex pieces of the weight simplex {w >= 0, sum w = 1}: intervals for two objectives, polygons for three, polytopes beyond.

A piece knows its vertices and its facets. A facet is a normal n with n.w >= 0 inside, scaled so that n.w is the distance from the facet
in weight space (Euclidean, within the simplex). Everything is in double precision.
Shapes: d objectives, m vertices, f facets.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError

TOLERANCE = 1e-9
"""Lengths in weight space: a piece that is thinner is dropped, a cut that would take less is not made."""


class Piece:
    """A convex piece: `vertices` [m, d] (weights, not normalised further) and `facets` [f, d]."""

    def __init__(self, vertices: np.ndarray, facets: np.ndarray):
        self.vertices, self.facets = vertices, facets

    def cut(self, normals: np.ndarray) -> Piece | None:
        """The part with n.w >= 0 for every row n of `normals` [k, d]; None if nothing thicker than the tolerance is left."""
        piece: Piece | None = self
        for normal in normals:
            if piece is None:
                return None
            piece = piece._cut_one(normal)
        return piece

    def _cut_one(self, normal: np.ndarray) -> Piece | None:
        unit = scaled(normal)
        distance = self.vertices @ unit
        if distance.min() >= -TOLERANCE:
            return self
        if distance.max() <= TOLERANCE:
            return None
        return self._clip(unit, distance)

    def _clip(self, unit: np.ndarray, distance: np.ndarray) -> Piece | None:
        raise NotImplementedError

    @cached_property
    def measure(self) -> float:
        """Its share of the whole simplex: 1 for the simplex itself."""
        raise NotImplementedError

    @property
    def centre(self) -> np.ndarray:
        """A point well inside: the mean of the vertices [d]."""
        return self.vertices.mean(0)

    def margin(self, w: np.ndarray) -> float:
        """How far weights w can move, in any direction within the simplex, before they leave; negative outside."""
        inner = self.facets[~_is_bound(self.facets)]
        if self.contains(w[None])[0]:
            return float((inner @ w).min()) if len(inner) else math.inf
        return float((self.facets @ w).min())

    def contains(self, w: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        """Which of the weights [n, d] lie inside, or at most `tolerance` outside, [n]."""
        return (w @ self.facets.T).min(1) >= -tolerance


class Interval(Piece):
    """d = 2: between two weights."""

    def _clip(self, unit: np.ndarray, distance: np.ndarray) -> Piece:
        (a, b), (x, y) = self.vertices, distance
        border = a + x / (x - y) * (b - a)
        if x < 0:
            return Interval(np.stack([border, b]), np.stack([unit, self.facets[1]]))
        return Interval(np.stack([a, border]), np.stack([self.facets[0], unit]))

    @cached_property
    def measure(self) -> float:
        return float(abs(self.vertices[1, 0] - self.vertices[0, 0]))


class Polygon(Piece):
    """d = 3: vertices in cyclic order; facet i runs from vertex i to vertex i + 1."""

    def _clip(self, unit: np.ndarray, distance: np.ndarray) -> Piece | None:
        vertices, facets = [], []
        for i, (here, x) in enumerate(zip(self.vertices, distance, strict=True)):
            j = (i + 1) % len(distance)
            y = distance[j]
            if x >= 0:
                vertices.append(here)
                facets.append(self.facets[i])
            if (x >= 0) != (y >= 0):
                vertices.append(here + x / (x - y) * (self.vertices[j] - here))
                facets.append(unit if x >= 0 else self.facets[i])
        if len(vertices) < 3:
            return None
        return Polygon(np.array(vertices), np.array(facets))

    @cached_property
    def measure(self) -> float:
        x, y = (self.vertices[:, :2] - self.vertices[0, :2]).T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))  # twice the area; the simplex has the area 1/2

    @property
    def centre(self) -> np.ndarray:
        """The centre of mass."""
        if self.measure < 1e-15:
            return self.vertices.mean(0)
        corner = self.vertices[0]
        a, b = self.vertices[1:-1] - corner, self.vertices[2:] - corner
        area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
        return corner + (area[:, None] * (a + b)).sum(0) / (3 * area.sum())


class Polytope(Piece):
    """d >= 4: half-spaces; vertices from Qhull around a point that a linear programme (HiGHS) finds deep inside."""

    def cut(self, normals: np.ndarray) -> Piece | None:
        units = np.array([scaled(normal) for normal in normals]).reshape(-1, self.facets.shape[1])
        distance = self.vertices @ units.T
        if (distance.max(0) <= TOLERANCE).any():
            return None
        cutting = units[distance.min(0) < -TOLERANCE]
        return polytope(np.concatenate([self.facets, cutting])) if len(cutting) else self

    @cached_property
    def measure(self) -> float:
        d = self.vertices.shape[1]
        try:
            return float(ConvexHull(self.vertices[:, :-1]).volume) * math.factorial(d - 1)
        except QhullError:  # flat
            return 0.0

    @property
    def centre(self) -> np.ndarray:
        """The centre of the largest ball inside."""
        return _deepest(self.facets)[0]


def polytope(facets: np.ndarray) -> Polytope | None:
    """The piece with n.w >= 0 for all rows n; facets that do not touch it are left out. None if it is thinner than the tolerance."""
    centre, radius = _deepest(facets)
    if radius <= TOLERANCE:
        return None
    slopes = facets[:, :-1] - facets[:, -1:]  # w_d = 1 - sum of the others
    try:
        found = HalfspaceIntersection(np.hstack([-slopes, -facets[:, -1:]]), centre[:-1])
        points = found.intersections[np.isfinite(found.intersections).all(1)]
    except QhullError:
        return None
    kept = np.unique(found.dual_vertices)
    return Polytope(np.hstack([points, 1 - points.sum(1, keepdims=True)]), facets[kept])


def _deepest(facets: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [d] and radius of the largest ball in {n.w >= 0}, in weight space."""
    d = facets.shape[1]
    cost = np.zeros(d + 1)
    cost[-1] = -1.0  # the radius; a facet's n.w is the distance from it
    inside = np.hstack([-facets, np.ones((len(facets), 1))])
    total = np.append(np.ones(d), 0.0)[None]
    found = linprog(cost, inside, np.zeros(len(facets)), total, [1.0], [(0, 1)] * d + [(0, 1)], method="highs")
    return (found.x[:-1], float(found.x[-1])) if found.status == 0 else (np.full(d, 1 / d), 0.0)


def simplex(d: int) -> Piece:
    """The whole weight simplex of d objectives."""
    corners = np.eye(d)
    bounds = np.array([scaled(corner) for corner in corners])
    if d == 2:
        return Interval(corners, bounds[::-1])  # at corner 0 the second weight is 0, and the other way round
    if d == 3:
        return Polygon(corners, bounds[[2, 0, 1]])  # from corner i to i + 1 the third weight is 0
    whole = polytope(bounds)
    assert whole is not None
    return whole


def scaled(normal: np.ndarray) -> np.ndarray:
    """A normal whose n.w is a distance within the simplex. One that is the same everywhere is made huge: all inside, or all outside."""
    length = float(np.linalg.norm(normal - normal.mean()))
    if length <= 1e-13 * float(np.abs(normal).max(initial=0.0)):
        return np.full(len(normal), 1e9 * np.sign(normal.mean()))
    return normal / length


def _is_bound(facets: np.ndarray) -> np.ndarray:
    """Which facets are the simplex's own, w_i >= 0, [f]."""
    d = facets.shape[1]
    bounds = np.eye(d) / math.sqrt(1 - 1 / d)
    return (np.abs(facets[:, None] - bounds).max(2) < 1e-12).any(1)
