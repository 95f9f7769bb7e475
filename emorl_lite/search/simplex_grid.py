"""Grids on the weight simplex and the small simplices between their points."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, pairwise, permutations, product

from emorl_lite.base.errors import UserError
from emorl_lite.base.sizes import check_points, shown_count

Step = tuple[int, ...]
MOST_WALKS = 10**7
"""Walks through unit cubes that `small_simplices` looks at: some minutes."""


@cache
def compositions(d: int, k: int) -> tuple[Step, ...]:
    """All vectors of d non-negative integers that sum to k, in lexicographic order: the grid points w = step / k. C(k+d-1, d-1) of them.

    By stars and bars: k stars and d - 1 bars in a row, and the stars between two bars are a number.
    Raises UserError for d < 1, k < 0, or more points than a search may list.
    """
    if d < 1 or k < 0:
        raise UserError(f"grid on the simplex: expected at least 1 objective and 0 steps, got {d} and {k}")
    check_points(math.comb(k + d - 1, d - 1), f"grid on the simplex, {k} steps", d)
    return tuple(tuple(b - a - 1 for a, b in pairwise((-1, *bars, k + d - 1))) for bars in combinations(range(k + d - 1), d - 1))


def check_cells(d: int, k: int) -> None:
    """Raise UserError where the walks that `small_simplices` looks at are too many."""
    if (walks := k ** max(d - 1, 0) * math.factorial(max(d - 1, 0))) > MOST_WALKS:
        raise UserError(f"cells of the simplex, {k} steps: {shown_count(walks)} walks with {d} objectives; at most {MOST_WALKS:,}")


@cache
def small_simplices(d: int, k: int) -> tuple[tuple[Step, ...], ...]:
    """The k^(d-1) small simplices of equal volume between the grid points, each by its d corners.

    Edgewise subdivision (Edelsbrunner and Grayson 2000): in the cumulative coordinates s_i = w_1 + .. + w_i, times k, the simplex is
    0 <= s_1 <= .. <= s_(d-1) <= k, and the unit cubes' own simplices, a walk from b to b + (1, .., 1) one axis at a time, either lie
    inside it or do not meet its inside.
    Raises UserError as `check_cells` does.
    """
    check_cells(d, k)
    simplices = []
    for base in product(range(k), repeat=d - 1):
        for axes in permutations(range(d - 1)):
            walk = [list(base)]
            for axis in axes:
                walk.append([*walk[-1]])
                walk[-1][axis] += 1
            if all(list(s) == sorted(s) and s[-1] <= k for s in walk):
                simplices.append(tuple(tuple(b - a for a, b in zip((0, *s), (*s, k), strict=True)) for s in walk))
    return tuple(simplices)
