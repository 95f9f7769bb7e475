"""How many seeds and prompts an interval of a given width would take, from how much both vary in the comparison at hand.

The variances of seeds, of prompts and of the rest are estimated from mean squares (the two-way layout of `crossed`), an estimate below zero
counts as zero, and the interval of a larger study is the one that its expected mean squares would give. It is a forecast from few seeds: a
factor of two either way is nothing strange.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from emorl_lite.base.ranges import Within, checked, shown

MOST = 100_000
"""Seeds or prompts beyond which nobody looks."""


@dataclass(frozen=True)
class Scatter:
    """Variances of one seed's effect, of one prompt's, and of what is left in a cell."""

    seeds: float
    prompts: float
    rest: float


@dataclass(frozen=True)
class Enough:
    """How many would be enough: of seeds alone, of prompts alone, or of both, so many times as now; None where no number is."""

    seeds: int | None
    prompts: int | None
    times: int | None


def scatter(values: np.ndarray) -> Scatter:
    """The three variances in differences [S, P] of at least two seeds and two prompts."""
    seeds, prompts = values.shape
    rows, columns = values.mean(1), values.mean(0)
    rest = float(((values - rows[:, None] - columns[None] + values.mean()) ** 2).sum() / ((seeds - 1) * (prompts - 1)))
    of_seeds, of_prompts = (float(means.var(ddof=1)) - rest / n for means, n in ((rows, prompts), (columns, seeds)))
    return Scatter(max(of_seeds, 0.0), max(of_prompts, 0.0), rest)


def half_width(found: Scatter, seeds: int, prompts: int, confidence: float = 0.95) -> float:
    """Half of the interval that `crossed` would give for so many seeds and prompts, were their mean squares what is expected."""
    by_seeds, by_prompts = prompts * found.seeds + found.rest, seeds * found.prompts + found.rest
    square, scattered = by_seeds + by_prompts - found.rest, by_seeds**2 / (seeds - 1) + by_prompts**2 / (prompts - 1)
    scattered += found.rest**2 / ((seeds - 1) * (prompts - 1))
    if found.prompts == 0 or found.seeds == 0:  # one of them is taken for nothing
        square, scattered = (by_seeds, by_seeds**2 / (seeds - 1)) if found.prompts == 0 else (by_prompts, by_prompts**2 / (prompts - 1))
    if square == 0:
        return 0.0
    return math.sqrt(square / (seeds * prompts)) * float(stats.t.ppf((1 + confidence) / 2, square**2 / scattered))


def enough(values: np.ndarray, target: float, confidence: float = 0.95) -> Enough:
    """What it would take for an interval of at most +- target, from differences [S, P] of at least two seeds and two prompts.

    Far beyond that many prompts alone an interval can widen again: what is left is the scatter of few seeds, with few degrees of freedom.
    Of a target as large as the difference itself, a study so large decides it one time in two. Raises UserError for a target that is not
    positive.
    """
    target = checked(target, float, [Within(0, math.inf, above=True)], f"half-width {shown(target)}")
    found, (seeds, prompts) = scatter(values), values.shape

    def fits(s: int, p: int) -> bool:
        return half_width(found, s, p, confidence) <= target

    return Enough(
        _fewest(lambda n: fits(n, prompts), seeds),
        _fewest(lambda n: fits(seeds, n), prompts),
        _fewest(lambda n: fits(n * seeds, n * prompts), 1),
    )


def _fewest(fits: Callable[[int], bool], first: int) -> int | None:
    """A number from `first` on that fits where the one before it does not, by doubling and halving: the smallest, unless some number fits
    between ones that do not. None if none is found up to `MOST`."""
    if fits(first):
        return first
    low, high = first, 2 * first
    while not fits(high):
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high if high <= MOST else None
