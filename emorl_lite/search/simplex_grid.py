"""Grids on the weight simplex and the small simplices between their points."""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

Step = tuple[int, ...]


@cache
def compositions(d: int, k: int) -> tuple[Step, ...]:
    """All vectors of d non-negative integers that sum to k, in lexicographic order: the grid points w = step / k. C(k+d-1, d-1) of them."""
    if d == 1:
        return ((k,),)
    return tuple((first, *rest) for first in range(k + 1) for rest in compositions(d - 1, k - first))


@cache
def small_simplices(d: int, k: int) -> tuple[tuple[Step, ...], ...]:
    """The k^(d-1) small simplices of equal volume between the grid points, each by its d corners.

    Edgewise subdivision (Edelsbrunner and Grayson 2000): in the cumulative coordinates s_i = w_1 + .. + w_i, times k, the simplex is
    0 <= s_1 <= .. <= s_(d-1) <= k, and the unit cubes' own simplices, a walk from b to b + (1, .., 1) one axis at a time, either lie
    inside it or do not meet its inside.
    """
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
