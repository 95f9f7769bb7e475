"""What the study's tables say of a claim: values a seed, the interval over them, and the p value of the claim's own test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import Preset, get_preset
from emorl_lite.search.statistics import EQUAL, FEW, FOR_SPREADS, ONE_HEAP, TWO_HEAPS, interval, median_interval, shape_of, sign_p
from emorl_lite.study.comparison import (
    BY_OWN_SEARCH,
    best_by_level,
    by_seed,
    consumption,
    dominated_share,
    front_metrics,
    objectives_of,
    ratio_of_spreads,
    representative,
    search_replies,
    searched_too,
)

FEWEST = 3
"""Seeds that a comparison at equal KL needs: fewer, and the interval says little of methods that seldom get so far."""


@dataclass(frozen=True)
class Found:
    """A claim's values, one a seed: differences or shares [n]; for a ratio of standard deviations two samples, the second in `below`; or
    one exact number, which has no interval."""

    values: np.ndarray
    below: np.ndarray | None = None
    exact: bool = False

    @property
    def shape(self) -> str:
        """`shape_of` the values; of a ratio, the worse of both samples'."""
        if self.below is None:
            return shape_of(self.values)
        shapes = [shape_of(values, FOR_SPREADS) for values in (self.values, self.below)]
        return next(shape for shape in (TWO_HEAPS, EQUAL, FEW, ONE_HEAP) if shape in shapes)

    def estimate(self) -> dict[str, float]:
        """mean, low, high: Student's interval at 95 %, or for a ratio that of the F distribution; for an exact number, the number."""
        if self.exact:
            return dict.fromkeys(("mean", "low", "high"), float(self.values[0]))
        if self.below is not None:
            return dict(zip(("mean", "low", "high"), ratio_of_spreads(self.values, self.below), strict=True))
        return dict(zip(("mean", "low", "high"), interval(self.values), strict=True))

    def exact_interval(self) -> dict[str, float]:
        """exact_low, exact_high, coverage: the median's interval, right for any distribution; nan for a ratio, which has none."""
        ends = (math.nan,) * 3 if self.exact or self.below is not None else median_interval(self.values)[1:]
        return dict(zip(("exact_low", "exact_high", "coverage"), ends, strict=True))


def claim_p(found: Found, nothing: float = 0.0) -> float:
    """Two-sided p of "exactly `nothing`", by the claim's own test: the one that its interval inverts.

    Student's for values in one heap, F for ratios of standard deviations, signs alone (`sign_p`) where values lie in two heaps or are all
    equal. nan for an exact number, and for a ratio whose samples do not lie in one heap: F knows nothing of them.
    """
    if found.exact or (found.below is not None and found.shape in (TWO_HEAPS, EQUAL)):
        return math.nan
    if found.below is not None:
        F = (found.estimate()["mean"] / nothing) ** 2
        degrees = len(found.values) - 1, len(found.below) - 1
        return float(2 * min(stats.f.cdf(F, *degrees), stats.f.sf(F, *degrees)))
    if found.shape in (TWO_HEAPS, EQUAL):
        return sign_p(found.values, nothing)
    return float(stats.ttest_1samp(found.values, nothing).pvalue)


@dataclass
class Evidence:
    """The study's tables (rows, sweep, levels, convergence; matched, in newer ones) and what the claims need of them.

    All methods raise UserError where the tables do not hold what they ask for.
    """

    tables: Mapping[str, pd.DataFrame]
    preset: Preset = field(default_factory=partial(get_preset, "tiny"))
    """Whose study it is: its search counts where the tables do not say how many replies were scored."""

    def _table(self, name: str) -> pd.DataFrame:
        found = self.tables.get(name)
        if found is None or found.empty:
            raise UserError(f"claims: the study has no table {name!r}")
        return found

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per method and seed, settings chosen with equal effort."""
        return representative(self._table("rows"))

    @cached_property
    def searched(self) -> pd.DataFrame:
        """The same with each method's own way to choose: EMORL by its published search."""
        return representative(self._table("rows"), BY_OWN_SEARCH)

    @cached_property
    def spent(self) -> pd.DataFrame:
        """Data points until convergence, EMORL's without its search and with it."""
        names = objectives_of(self._table("sweep"))
        spent = consumption(self._table("convergence"), self._table("rows"), names)
        return searched_too(spent, search_replies(self._table("rows"), len(names), self.preset))

    @cached_property
    def fronts(self) -> pd.DataFrame:
        """Pareto metrics, fronts chosen on validation prompts."""
        return front_metrics(self._table("sweep"))

    @cached_property
    def levels(self) -> pd.DataFrame:
        """Best (chosen on validation prompts) and average score by aggregation level."""
        return best_by_level(self._table("levels"))

    def saved(self, method: str, accounting: str) -> Found:
        """Data points that EMORL needs less than a method until the rule holds."""
        return _differences(self.spent, method, f"emorl ({accounting})", "data_points")

    def steadier(self, method: str, accounting: str) -> Found:
        """Standard deviation of a method's data points over EMORL's. The search takes the same for every seed."""
        return _ratio(self.spent, method, f"emorl ({accounting})", "data_points")

    def score(self, first: str, second: str, column: str = "mean") -> Found:
        """Difference of mean scores on test prompts, settings chosen with equal effort. `column`: "mean", greedy, or "sampled_mean"."""
        return _differences(self.rows, first, second, column)

    def own_score(self, first: str, second: str, column: str = "mean") -> Found:
        """Difference of mean scores, each method's setting chosen as its paper does."""
        return _differences(self.searched, first, second, column)

    def matched(self, first: str, second: str, target: float) -> Found:
        """Difference of sampled mean scores at this KL to the base, on seeds where both methods get so far, at least `FEWEST`."""
        table = self.tables.get("matched")
        if table is None or not {"target", "reached", "sampled_mean"} <= set(table.columns):
            raise UserError("claims: the study has no table of scores at equal KL")
        reached = table[np.isclose(table["target"], target) & table["reached"].eq(True)]
        found = _differences(representative(reached, BY_OWN_SEARCH), first, second, "sampled_mean")
        if len(found.values) < FEWEST:
            raise UserError(f"claims: {first} and {second} both reach KL {target:g} in fewer than {FEWEST} seeds")
        return found

    def front(self, first: str, second: str, column: str) -> Found:
        """Difference of a Pareto metric."""
        return _differences(self.fronts, first, second, column)

    def level(self, first: str, second: str, column: str) -> Found:
        """Difference between aggregation levels."""
        return _differences(self.levels, first, second, column, "level")

    def spread(self, first: str, second: str, column: str = "mean") -> Found:
        """Ratio of the scores' standard deviations over seeds."""
        return _ratio(self.searched, first, second, column)

    def confounded(self, sampled: str, greedy: str) -> Found:
        """first - second, the first sampled at temperature 1 and the second decoded greedily."""
        is_sampled = self.searched["method"] == sampled
        scores = self.searched["mean"].mask(is_sampled, _column(self.searched, "sampled_mean"))
        return _differences(self.searched.assign(mean=scores), sampled, greedy)

    def flattery(self, method: str) -> Found:
        """Greedy score less sampled score."""
        rows = self.searched[self.searched["method"] == method]
        return _of((rows["mean"] - _column(rows, "sampled_mean")).to_numpy(dtype=np.float64), f"no rows for method {method!r}")

    def dominated(self, first: str, second: str) -> Found:
        """Share of the second's front that the first dominates."""
        shares = dominated_share(self._table("sweep"), first, second)["share"].to_numpy(dtype=np.float64)
        return _of(shares, f"no fronts of both {first!r} and {second!r}")

    def calls(self, first: str, second: str) -> Found:
        """Ratio of model calls a token: no interval, it is exact."""
        calls = _column(self.rows, "calls_per_token").groupby(self.rows["method"]).first()
        if missing := [name for name in (first, second) if name not in calls]:
            raise UserError(f"model calls: no rows for method {missing[0]!r}")
        return Found(np.array([calls[first] / calls[second]], dtype=np.float64), exact=True)


def _column(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in table:
        raise UserError(f"claims: the study's rows have no column {name!r}")
    return table[name]


def _differences(table: pd.DataFrame, first: str, second: str, column: str = "mean", by: str = "method") -> Found:
    a, b = by_seed(table, first, second, column, by)
    return _of(a - b, f"{first!r} and {second!r} have fewer than two seeds in common")


def _ratio(table: pd.DataFrame, first: str, second: str, column: str) -> Found:
    a, b = by_seed(table, first, second, column)
    ratio_of_spreads(a, b)  # raises if there is none
    return Found(a, b)


def _of(values: np.ndarray, lacking: str) -> Found:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        raise UserError(f"claims: {lacking}")
    return Found(values)
