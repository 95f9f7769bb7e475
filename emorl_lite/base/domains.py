"""Where the weights of a mixture may lie: the simplex, an interval of one knob, a box of several cut by half-spaces.

A mixture of d corners has the score w_1 s_1 + .. + w_d s_d. On the simplex only the direction of w counts for greedy replies. A knob t that
moves scores from s_1 towards s_2, s_1 + t (s_2 - s_1), is the weights (1 - t, t), and t may go beyond 1: weights are negative then, and
still sum to one. So do those of k knobs, (1 - sum t, t_1, .., t_k). Shapes: n points, d corners, k = d - 1 knobs, m vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.polytopes import TOLERANCE, Piece, box, domain, scaled, simplex
from emorl_lite.base.ranges import shown
from emorl_lite.base.weights import as_numbers, weight_rows

OUTSIDE = 1e-6
"""How far outside a domain weights may lie before they are refused."""
ROUNDS = 100
"""Of random weights that are drawn from around a domain; after so many the rest are mixed from its vertices."""
FARTHEST = 10**3
"""Of a knob: beyond, rounding, which grows with its square, is more than what two borders may be apart."""


@dataclass(frozen=True, eq=False)
class Domain:
    """The weights [d], summing to one, that a mixture of d corners may have."""

    corners: tuple[str, ...]
    """Names of the d corners."""
    piece: Piece
    """Their convex set."""
    knobs: tuple[str, ...] = ()
    """Names of the k = d - 1 numbers that a user turns; none on the simplex, where they turn the weights themselves."""

    @property
    def directions(self) -> bool:
        """Whether non-negative weights of any size are understood, of which only the direction counts: on the whole simplex."""
        return not self.knobs and np.array_equal(self.piece.vertices, np.eye(len(self.corners)))

    @property
    def columns(self) -> list[str]:
        """What a table calls the numbers of a point: the knobs, or one weight a corner."""
        return list(self.knobs) or [f"w_{name}" for name in self.corners]

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Those numbers [n, k or d] of weights [n, d] in the domain."""
        return weights[:, 1:] if self.knobs else weights

    def rows(self, values: Any) -> np.ndarray:
        """Checked weights [n, d] from weights or knobs, [n, d], [n, k], or one of them; on the simplex their size is kept.

        Raises UserError for numbers that are not finite, or outside the domain (on the simplex: negative, or all zero).
        """
        if self.directions:
            return weight_rows(values, len(self.corners))
        w, names = np.atleast_2d(as_numbers(values, "weights", torch.float64).numpy()), ", ".join(self.knobs) or "weights"
        if self.knobs and w.ndim == 2 and w.shape[1] == len(self.knobs):
            w = np.hstack([1 - w.sum(1, keepdims=True), w])
        if w.ndim != 2 or w.shape[1] != len(self.corners):
            k = len(self.knobs)
            knobs = f"{k} number{'s' * (k != 1)} a point, or " if k else ""
            raise UserError(f"{names}: expected {knobs}{len(self.corners)} weights, got {shown(values)}")
        if not np.isfinite(w).all():
            raise UserError(f"{names}: {shown(values)} holds a NaN or an infinity")
        wrong = np.flatnonzero((np.abs(w.sum(1) - 1) > OUTSIDE) | ~self.piece.contains(w, OUTSIDE))
        if len(wrong):
            point = ", ".join(f"{name} {t:g}" for name, t in zip(self.columns, self.values(w)[wrong[0]], strict=True))
            raise UserError(f"{point}: outside of the domain, {self}")
        return w

    def on_plane(self, values: Any) -> np.ndarray:
        """The same, brought to a sum of one on the simplex."""
        w = self.rows(values)
        return np.asarray(w / w.sum(1, keepdims=True)) if self.directions else w

    def random(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Weights [n, d] spread over the domain, uniformly on the simplex and in a box, by rejection where that is cut.

        Where hardly any of it is left they are mixed from its vertices: inside, but denser in the middle.
        """
        d = len(self.corners)
        knobs, found = self.piece.vertices[:, 1:], np.empty((0, d))
        low, high = knobs.min(0), knobs.max(0)
        for _ in range(ROUNDS):
            if len(found) >= n:
                return found[:n]
            t = rng.uniform(low, high, (2 * n, d - 1))
            w = np.hstack([1 - t.sum(1, keepdims=True), t]) if self.knobs else rng.dirichlet(np.ones(d), 2 * n)
            found = np.vstack([found, w[self.piece.contains(w)]])
        shares = rng.dirichlet(np.ones(len(knobs)), n)
        return np.vstack([found, shares @ self.piece.vertices])[:n]

    def grid(self, steps: int) -> np.ndarray:
        """Weights [n, d] with a spacing of 1 / steps of each knob's range (of the simplex: of each weight), those in the domain."""
        d = len(self.corners)
        shares = np.stack(np.meshgrid(*[np.arange(steps + 1)] * (d - 1), indexing="ij"), -1).reshape(-1, d - 1)
        if not self.knobs:
            shares = shares[shares.sum(1) <= steps]
            w = np.hstack([steps - shares.sum(1, keepdims=True), shares]) / steps
            return w[self.piece.contains(w)]
        knobs = self.piece.vertices[:, 1:]
        t = knobs.min(0) + shares / steps * np.ptp(knobs, 0)
        w = np.hstack([1 - t.sum(1, keepdims=True), t])
        return w[self.piece.contains(w)]

    def __str__(self) -> str:
        if not self.knobs:
            return f"{'' if self.directions else 'a part of '}the simplex of {', '.join(self.corners)}"
        knobs = self.piece.vertices[:, 1:]
        cut = "" if len(self.piece.facets) <= 2 * len(self.knobs) else " (and its further limits)"
        return ", ".join(f"{name} {a:g} to {b:g}" for name, a, b in zip(self.knobs, knobs.min(0), knobs.max(0), strict=True)) + cut


def simplex_domain(corners: Sequence[str]) -> Domain:
    """All non-negative weights of these corners, whatever their size."""
    return Domain(tuple(corners), simplex(len(corners)))


def box_domain(corners: Sequence[str], knobs: Sequence[str], low: Sequence[float], high: Sequence[float], limits: Any = ()) -> Domain:
    """Knobs t [k] with low <= t <= high, and a.t <= b for every row (a_1, .., a_k, b) of `limits`.

    Raises UserError for limits that are not finite numbers in order, or leave nothing.
    """
    k = len(knobs)
    ends = as_numbers([list(low), list(high)], f"the range of {', '.join(knobs)}", torch.float64).numpy()
    if len(set(knobs)) < k:
        raise UserError(f"knobs: expected different names, got {', '.join(knobs)}")
    if ends.shape != (2, k) or k != len(corners) - 1:
        raise UserError(f"knobs: {len(corners)} corners have {len(corners) - 1} knobs, got {k} names and ranges of {ends.shape[-1]}")
    for name, (a, b) in zip(knobs, ends.T.tolist(), strict=True):
        if not (np.isfinite([a, b]).all() and b - a > TOLERANCE):
            raise UserError(f"{name}: the range {a:g} to {b:g}: expected two finite numbers, the lower one first")
        if max(abs(a), abs(b)) > FARTHEST:
            raise UserError(f"{name}: the range {a:g} to {b:g}: expected -{FARTHEST:,} to {FARTHEST:,} at most")
    whole: Piece | None = box(*ends)
    if len(limits):
        rows = as_numbers(limits, "limits", torch.float64).numpy()
        if rows.ndim != 2 or rows.shape[1] != k + 1 or not np.isfinite(rows).all():
            raise UserError(f"limits: expected rows of {k + 1} finite numbers (a_1, .., a_{k}, b for a.t <= b), got {shown(limits)}")
        # b - a.t >= 0 with t_j = w_j and 1 = sum w
        normals = rows[:, -1:] - np.hstack([np.zeros((len(rows), 1)), rows[:, :-1]])
        whole = box(*ends).cut(np.array([scaled(normal) for normal in normals]))
    if whole is None:
        raise UserError(f"limits: nothing of the box of {', '.join(knobs)} is left")
    return Domain(tuple(corners), domain(whole), tuple(knobs))
