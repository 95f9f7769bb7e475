"""Whether a map says what decoding says: an independent decoder at the deepest point of every region, and next to its borders.

Random weights hardly ever meet a small region; its deepest point always does. That finds a wrong reply, and two that were exchanged. A
border that stands a little wrong moves hardly any deepest point: to find it, decode next to the vertices too (`borders`). Whether regions
overlap or leave holes is a matter of geometry (`check_map`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, check_index, checked, shown
from emorl_lite.exact.exact_map import ExactMap, row_name

AT_ONCE = 256
"""Texts decoded together."""
MOVED = {"float64": 1e-6, "float32": 2e-4}
"""How far another computation's rounding may move a border, in weights, by a model's number type; shorter types: MOVED_MOST. (In double
precision it is that of EnsembleLM's weights, which are single. Where two words' scores part slowly, a border moves far.)"""
MOVED_MOST = 1e-2

Decode = Callable[..., Sequence[str]]
"""(prompts [n], weights [n, d]) -> replies [n]; of a sampled map (prompts, weights, samples [n])."""


@dataclass(frozen=True)
class Agreement:
    """At how many points a map was compared with decoding, and at how many it says otherwise where rounding decides."""

    regions: int
    points: int
    near: int

    def __str__(self) -> str:
        text = f"{self.regions:,} regions, {self.points:,} points: the map says what decoding says"
        return text + (f", but for {self.near:,} where rounding decides." if self.near else " at all of them.")


def check_replies(
    found: ExactMap, decode: Decode, regions: Sequence[int] | None = None, borders: float | None = None, rounding: float | None = None
) -> Agreement:
    """Compare the reply of every region with what `decode` says at its deepest point.

    `decode`: a decoder that shares nothing with the map, such as `lambda prompts, w: ensemble.reply(prompts, weights=w)`; it gets prompts
    [n] and weights [n, d] (for a sampled map their sample numbers [n] too). `regions`: numbers of some regions, all by default. `borders`:
    compare next to each vertex too, at least so far from every border (where the region is that wide): this finds a border that stands
    wrong by more (10^-3 for a model in single precision). What differs nearer to a border than `rounding` (by default what suits the
    model's number type, MOVED), or in a region where rounding may change a word (`Region.lead` below 1), is no proof of a fault: it is
    counted.
    Raises UserError for the first region whose reply is another one, and with how many there are.
    """
    borders = None if borders is None else checked(borders, float, [Within(0, 10**6, above=True)], f"borders {shown(borders)}")
    rounding = MOVED.get(found.ties.dtype, MOVED_MOST) if rounding is None else rounding
    chosen = range(len(found.regions)) if regions is None else [check_index(i, len(found.regions), "region") for i in regions]
    numbers = np.array(chosen, dtype=np.int64)
    owners, points = _points(found, numbers, borders)
    wrong, near = [], 0
    for start in range(0, len(points), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        said = _decoded(found, decode, owners[part], points[part])
        for i, w, reply in zip(owners[part].tolist(), points[part], said, strict=True):
            region = found.regions[i]
            if reply != region.reply:
                if region.lead < 1 or (region.piece.facets @ w).min() < rounding:
                    near += 1
                else:
                    wrong.append((i, w, reply))
    if wrong:
        i, w, reply = wrong[0]
        at = ", ".join(f"{x:.6g}" for x in w)
        raise UserError(
            f"map of {row_name(found, found.regions[i].row)}: region {i} says {shown(found.regions[i].reply)}, decoding at ({at}) says"
            f" {shown(reply)}; {len(wrong):,} of {len(points):,} points differ"
        )
    return Agreement(len(numbers), len(points), near)


def _points(found: ExactMap, numbers: np.ndarray, borders: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The points [P, d] at which these regions are compared, and whose each is [P]."""
    owners, points = [], [np.empty((0, len(found.corners)))]
    for i in numbers.tolist():
        piece = found.regions[i].piece
        middle, radius = piece.deepest
        own = middle[None]
        if borders is not None:  # a share s of the way to the middle is at least s * radius from every border
            own = np.vstack([own, piece.vertices + min(1.0, borders / max(radius, 1e-300)) * (middle - piece.vertices)])
        owners += [i] * len(own)
        points.append(own)
    return np.array(owners, dtype=np.int64), np.concatenate(points)


def _decoded(found: ExactMap, decode: Decode, owners: np.ndarray, points: np.ndarray) -> Sequence[str]:
    prompt, sample = np.divmod([found.regions[i].row for i in owners.tolist()], found.samples)
    given: list[Any] = [[found.prompts[p] for p in prompt.tolist()], points] + ([sample] if found.sampled else [])
    said = list(decode(*given))
    if len(said) != len(points):
        raise UserError(f"decode: {len(said):,} replies to {len(points):,} prompts")
    return said
