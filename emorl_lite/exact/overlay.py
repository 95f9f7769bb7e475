"""The regions of many prompts laid over one another: every mean score vector that some weights achieve, and which weights achieve it.

On a cell of the overlay no reply changes for any prompt, so the mean scores are constant. For two corners the cells lie between all
border points; for three they are the faces of all border lines together (by shapely). Beyond three the faces are too many to list: ask
`optimum.best_weights` instead. Shapes: C cells, K scored objectives, d corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import shapely

from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE
from emorl_lite.base.ranges import check_index
from emorl_lite.base.sizes import Estimate, blocks, shown_bytes
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.search.pareto import non_dominated

CELL_BYTES = 8000
"""Of a cell while it is cut and looked up: its share of the lines, its outline as geometry and as array, scores."""

Utility = Callable[[np.ndarray], np.ndarray]
"""Mean score vectors [n, K] -> how good they are [n]."""


@dataclass(frozen=True)
class Overlay:
    """The cells on which no reply changes."""

    corners: list[str]
    names: list[str]
    outlines: list[np.ndarray]
    """Of each cell its corners [m, d] in order."""
    weights: np.ndarray
    """[C, d]: a point inside each cell."""
    measure: np.ndarray
    """[C]: each cell's share of the domain."""
    scores: np.ndarray
    """[C, K]: the mean scores over the prompts."""

    @cached_property
    def achievable(self) -> np.ndarray:
        """The distinct mean score vectors [n, K], all that the prompts can have together."""
        return np.unique(self.scores.round(12), axis=0)

    @cached_property
    def pareto(self) -> np.ndarray:
        """Which cells are on the Pareto front, [C]."""
        return non_dominated(self.scores.round(12))

    def best(self, utility: Utility | None = None) -> int:
        """The cell with the highest utility of its mean scores; the mean over objectives by default. Any function of [n, K] will do."""
        values = self.scores.mean(1) if utility is None else np.asarray(utility(self.scores))
        if values.shape != (len(self.scores),) or not np.isfinite(values).all():
            raise UserError(f"utility: expected {len(self.scores)} finite numbers, one a cell, got shape {values.shape}")
        return int(values.argmax())


def overlay(scored: ScoredMap, rows: Sequence[int] | None = None, memory: int = 2**31) -> Overlay:
    """Lay the regions of these prompts (and samples; all by default) over one another.

    Cells thinner than the tolerance are left out. Raises UserError for no rows, more than three corners, or more cells than fit into
    `memory` bytes, with how many there may be (`overlay_estimate`).
    """
    exact = scored.map
    rows = list(range(len(exact.prompts) * exact.samples)) if rows is None else list(rows)
    d = len(exact.corners)
    if not rows:
        raise UserError("overlay: no rows")
    for row in rows:
        check_index(row, len(exact.prompts) * exact.samples, "overlay, row")
    if d > 3:
        raise UserError(f"overlay: for two or three corners, this map has {d}; use best_weights for the optimum")
    needed = overlay_estimate(scored, rows)
    if needed.bytes > memory:
        raise UserError(f"overlay of {len(rows)} rows: up to {needed}, above the {shown_bytes(memory)} there are: take fewer rows")
    outlines = _segments(scored, rows) if d == 2 else _faces(scored, rows)
    centres = np.array([outline.mean(0) if d == 2 else _inside(outline) for outline in outlines])
    valid, scores = np.empty(len(centres), dtype=bool), np.empty((len(centres), len(scored.names)))
    for part in blocks(len(centres), 16 * len(exact.indices)):
        regions = exact.locate(centres[part])[:, rows]
        valid[part], scores[part] = (regions >= 0).all(1), scored.mean_scores(regions)
    measure = np.array([_volume(outline) for outline in outlines]) / exact.domain.piece.whole
    return Overlay(exact.corners, scored.names, [outlines[i] for i in np.flatnonzero(valid)], centres[valid], measure[valid], scores[valid])


def overlay_estimate(scored: ScoredMap, rows: Sequence[int]) -> Estimate:
    """Cells that the overlay of these rows has at most, and the bytes they take, before they are cut.

    Two corners: one more than border points. Three: laying a second set of faces over the first adds as many as it has itself, and one
    for each crossing of their borders; where borders meet or run together, crossings are counted more than once.
    """
    regions = sum(len(scored.map.indices[row]) for row in rows)
    cells = regions - len(rows) + 1
    if len(scored.map.corners) == 3 and len(rows) > 1:
        cells += _crossings([_borders(scored, row) for row in rows])
    return Estimate(cells, "cells", cells * CELL_BYTES)


def _borders(scored: ScoredMap, row: int) -> list[shapely.LineString]:
    """The borders between one row's regions, as straight pieces; those of the whole domain left out."""
    rings = [shapely.LinearRing(region.piece.outline[:, 1:]) for region in scored.map.of(row)]
    inside = shapely.unary_union(rings).difference(shapely.Polygon(scored.map.domain.piece.outline[:, 1:]).exterior.buffer(10 * TOLERANCE))
    ends = [np.asarray(part.coords) for part in shapely.get_parts(inside) if not part.is_empty]
    return [shapely.LineString(two) for line in ends for two in pairwise(line)]


def _crossings(borders: Sequence[Sequence[shapely.LineString]]) -> int:
    """How many pairs of pieces of different rows meet."""
    pieces = np.array([piece for row in borders for piece in row], dtype=object)
    owner = np.repeat(np.arange(len(borders)), [len(row) for row in borders])
    tree, total = shapely.STRtree(pieces), 0
    for part in blocks(len(pieces), 16 * 1000):
        one, other = tree.query(pieces[part], predicate="intersects")
        total += int((owner[part][one] < owner[other]).sum())
    return total


def _segments(scored: ScoredMap, rows: Sequence[int]) -> list[np.ndarray]:
    ends = np.unique(np.concatenate([region.piece.vertices[:, 1] for row in rows for region in scored.map.of(row)]))
    ends = ends[np.append(True, np.diff(ends) > TOLERANCE)]
    return [np.array([[1 - a, a], [1 - b, b]]) for a, b in pairwise(ends)]


def _faces(scored: ScoredMap, rows: Sequence[int]) -> list[np.ndarray]:
    borders = [shapely.LinearRing(region.piece.outline[:, 1:]) for row in rows for region in scored.map.of(row)]
    lines = shapely.unary_union(borders, grid_size=TOLERANCE)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    corners = [np.asarray(face.exterior.coords)[:-1] for face in faces if face.area > TOLERANCE**2]
    return [np.hstack([1 - xy.sum(1, keepdims=True), xy]) for xy in corners]


def _inside(outline: np.ndarray) -> np.ndarray:
    x, y = shapely.Polygon(outline[:, 1:]).representative_point().coords[0]
    return np.array([1 - x - y, x, y])


def _volume(outline: np.ndarray) -> float:
    """In those of the simplex."""
    return float(outline[1, 1] - outline[0, 1]) if outline.shape[1] == 2 else 2 * shapely.Polygon(outline[:, 1:]).area
