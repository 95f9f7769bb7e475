"""The papers' claims put to the test: each a number, its 95 % interval over seeds, and what the interval says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import listing
from emorl_lite.search.statistics import interval
from emorl_lite.study.comparison import (
    BY_OWN_SEARCH,
    best_by_level,
    consumption,
    difference,
    dominated_share,
    front_metrics,
    objectives_of,
    representative,
    spread_ratio,
)

Numbers = dict[str, float]


@dataclass
class Evidence:
    """The study's tables (rows, sweep, front, levels, convergence) and what the claims need of them."""

    tables: Mapping[str, pd.DataFrame]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per method and seed, settings chosen with equal effort."""
        return representative(self.tables["rows"])

    @cached_property
    def searched(self) -> pd.DataFrame:
        """The same with each method's own way to choose: EMORL by its published search."""
        return representative(self.tables["rows"], BY_OWN_SEARCH)

    @cached_property
    def spent(self) -> pd.DataFrame:
        """Data points until convergence."""
        return consumption(self.tables["convergence"], self.tables["rows"], objectives_of(self.tables["sweep"]))

    @cached_property
    def fronts(self) -> pd.DataFrame:
        """Pareto metrics."""
        return front_metrics(self.tables["sweep"], self.tables["front"])

    @cached_property
    def levels(self) -> pd.DataFrame:
        """Best and average score by aggregation level."""
        return best_by_level(self.tables["levels"])

    def saved(self, method: str, accounting: str) -> Numbers:
        """Data points that EMORL needs less than a method until the rule holds."""
        return difference(self.spent, method, f"emorl ({accounting})", "data_points")

    def steadier(self, method: str, accounting: str) -> Numbers:
        """Standard deviation of a method's data points over EMORL's."""
        return spread_ratio(self.spent, method, f"emorl ({accounting})", "data_points")

    def score(self, first: str, second: str) -> Numbers:
        """Difference of mean scores on test prompts, settings chosen with equal effort."""
        return difference(self.rows, first, second)

    def own_score(self, first: str, second: str) -> Numbers:
        """Difference of mean scores, each method's setting chosen as its paper does."""
        return difference(self.searched, first, second)

    def front(self, first: str, second: str, column: str) -> Numbers:
        """Difference of a Pareto metric."""
        return difference(self.fronts, first, second, column)

    def level(self, first: str, second: str, column: str) -> Numbers:
        """Difference between aggregation levels."""
        return difference(self.levels, first, second, column, "level")

    def spread(self, first: str, second: str) -> Numbers:
        """Ratio of the scores' standard deviations over seeds."""
        return spread_ratio(self.searched, first, second)

    def confounded(self, sampled: str, greedy: str) -> Numbers:
        """first - second, the first sampled at temperature 1 and the second decoded greedily."""
        is_sampled = self.searched["method"] == sampled
        return difference(self.searched.assign(mean=self.searched["mean"].mask(is_sampled, self.searched["sampled_mean"])), sampled, greedy)

    def flattery(self, method: str) -> Numbers:
        """Greedy score less sampled score."""
        rows = self.searched[self.searched["method"] == method]
        return _interval(rows["mean"] - rows["sampled_mean"])

    def dominated(self, first: str, second: str) -> Numbers:
        """Share of the second's front that the first dominates."""
        return _interval(dominated_share(self.tables["sweep"], first, second)["share"])

    def calls(self, first: str, second: str) -> Numbers:
        """Ratio of model calls a token: no interval, it is exact."""
        calls = self.rows.groupby("method")["calls_per_token"].first()
        if missing := [name for name in (first, second) if name not in calls]:
            raise UserError(f"model calls: no rows for method {missing[0]!r}")
        return dict.fromkeys(("mean", "low", "high"), float(calls[first] / calls[second]))


@dataclass(frozen=True)
class Claim:
    """Something that a paper says, as a number that should be above `nothing`."""

    source: str
    text: str
    measure: str
    value: Callable[[Evidence], Numbers]
    nothing: float = 0.0


EMORL, DYNAOPT, CLP, OURS = "EMORL", "DynaOpt", "CLP", "(ours)"
SCORE = "mean score"
STD = "ratio of standard deviations"
CLOSE = "hypervolume, not more than .02 lost"

SAVED = "data points saved, the search not counted"
SOUPS = "averaged parameters"
"""What the EMORL paper calls model soups: its code adds the products B_i A_i, which is our exact average."""
SHORT, LONGEST = "equal sums of data", "equal longest runs"

CLAIMS = [
    Claim(EMORL, "EMORL consumes less than uniform", f"{SAVED}, {LONGEST} allowed", lambda e: e.saved("uniform", "longest run")),
    Claim(EMORL, "EMORL consumes less than DynaOpt", f"{SAVED}, {LONGEST} allowed", lambda e: e.saved("dynaopt", "longest run")),
    Claim(
        EMORL, "EMORL's consumption varies less than uniform's", f"{STD}, {LONGEST}", lambda e: e.steadier("uniform", "longest run"), 1.0
    ),
    Claim(EMORL, "EMORL's score varies less than uniform's", f"{STD}, {LONGEST}", lambda e: e.spread("uniform", "emorl-long"), 1.0),
    Claim(EMORL, "EMORL's score varies less than DynaOpt's", f"{STD}, {LONGEST}", lambda e: e.spread("dynaopt", "emorl-long"), 1.0),
    Claim(EMORL, "uniform scores higher than EMORL", f"{SCORE}, {SHORT}", lambda e: e.own_score("uniform", "emorl")),
    Claim(EMORL, "uniform scores higher than EMORL", f"{SCORE}, {LONGEST}", lambda e: e.own_score("uniform", "emorl-long")),
    Claim(OURS, "uniform-wide scores higher than EMORL", f"{SCORE}, {LONGEST}", lambda e: e.own_score("uniform-wide", "emorl-long")),
    Claim(OURS, "uniform sampled scores higher than EMORL greedy", f"{SCORE}, {LONGEST}", lambda e: e.confounded("uniform", "emorl-long")),
    Claim(OURS, "greedy decoding flatters a policy", f"{SCORE} of uniform, greedy less sampled", lambda e: e.flattery("uniform")),
    Claim(EMORL, "hidden states beat parameters", f"{SCORE}, chosen weights", lambda e: e.level("last hidden state", "parameters", "best")),
    Claim(EMORL, "hidden states beat parameters", f"{SCORE}, all weights", lambda e: e.level("last hidden state", "parameters", "average")),
    Claim(EMORL, "parameters beat probabilities", f"{SCORE}, chosen weights", lambda e: e.level("parameters", "probabilities", "best")),
    Claim(EMORL, "parameters beat probabilities", f"{SCORE}, all weights", lambda e: e.level("parameters", "probabilities", "average")),
    Claim(EMORL, f"{SOUPS} are worse than EMORL", f"{SCORE}, long runs", lambda e: e.score("emorl-long", "exact-average-long")),
    Claim(EMORL, f"{SOUPS} are worse than EMORL", f"{SCORE}, {SHORT}", lambda e: e.score("emorl", "exact-average")),
    Claim(OURS, "Rewarded Soups are worse than EMORL", f"{SCORE}, long runs", lambda e: e.score("emorl-long", "rewarded-soups-long")),
    Claim(OURS, "Rewarded Soups are worse than EMORL", f"{SCORE}, {SHORT}", lambda e: e.score("emorl", "rewarded-soups")),
    Claim(DYNAOPT, "DynaOpt beats uniform", SCORE, lambda e: e.score("dynaopt", "uniform")),
    Claim(CLP, "CLP dominates Rewarded Soups", f"hypervolume, {SHORT}", lambda e: e.front("clp-full", "rewarded-soups", "hypervolume")),
    Claim(CLP, "CLP dominates Rewarded Soups", "share of their front dominated", lambda e: e.dominated("clp-full", "rewarded-soups"), 0.5),
    Claim(
        OURS, "CLP beats soups with d times the data", "hypervolume", lambda e: e.front("clp-full", "rewarded-soups-long", "hypervolume")
    ),
    Claim(
        OURS, "CLP beats averages with d times the data", "hypervolume", lambda e: e.front("clp-full", "exact-average-long", "hypervolume")
    ),
    Claim(
        OURS,
        "CLP beats EMORL with d times the data",
        "hypervolume, one grid of weights",
        lambda e: e.front("clp-full", "emorl-long", "hypervolume"),
    ),
    Claim(CLP, "CLP steers better than prompting", "E[w·p(w)]", lambda e: e.front("clp-full", "prompted", "steered")),
    Claim(CLP, "CLP steers better than prompting", "controllability", lambda e: e.front("clp-full", "prompted", "controllability")),
    Claim(CLP, "experts on attention are enough", CLOSE, lambda e: e.front("clp-attention", "clp-full", "hypervolume"), -0.02),
    Claim(CLP, "attention experts beat head experts", "hypervolume", lambda e: e.front("clp-attention", "clp-logit", "hypervolume")),
    Claim(CLP, "DeRa costs more model calls than CLP: twice", "ratio of calls a token", lambda e: e.calls("dera", "clp-kl"), 1.0),
]


def verdict(found: Mapping[str, float], nothing: float = 0.0) -> str:
    """What an interval says of "more than nothing": holds, refuted, or open."""
    if found["low"] > nothing:
        return "holds"
    return "refuted" if found["high"] < nothing else "open"


def examined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every claim with its number: source, claim, measure, nothing, mean, low, high, verdict.

    "refuted" and "open" are said of this small world at this budget: other models and data may differ. There are many claims and one
    interval in twenty misses by chance: read them together. "not measured": the tables lack a method.
    """
    evidence, rows = Evidence(tables), []
    for claim in CLAIMS:
        row: dict[str, Any] = {"source": claim.source, "claim": claim.text, "measure": claim.measure, "nothing": claim.nothing}
        try:
            value = claim.value(evidence)
        except UserError:  # the tables do not hold these methods
            rows.append(row | dict.fromkeys(("mean", "low", "high"), float("nan")) | {"verdict": "not measured"})
            continue
        rows.append(row | {key: value[key] for key in ("mean", "low", "high")} | {"verdict": verdict(value, claim.nothing)})
    return pd.DataFrame(rows)


def holm(p: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which of m hypotheses Holm's step-down procedure rejects (Holm 1979), in the order given.

    The smallest p is compared with alpha / m, the next with alpha / (m - 1), and so on; the first that is larger ends it.
    """
    rejected = [False] * len(p)
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > alpha / (len(p) - step):
            break
        rejected[i] = True
    return rejected


def claim_p(claim: Mapping[str, Any], seeds: int) -> float:
    """Two-sided p of "exactly at the threshold", from a claim's number and 95 % interval over so many seeds.

    Ratios of standard deviations have an F distribution, all others Student's.
    """
    if str(claim["measure"]).startswith("ratio of standard deviations"):
        F = (claim["mean"] / claim["nothing"]) ** 2
        return float(2 * min(stats.f.cdf(F, seeds - 1, seeds - 1), stats.f.sf(F, seeds - 1, seeds - 1)))
    error = (claim["high"] - claim["low"]) / 2 / stats.t.ppf(0.975, seeds - 1)
    return float(2 * stats.t.sf(abs(claim["mean"] - claim["nothing"]) / error, seeds - 1))


def tally(claims: pd.DataFrame) -> str:
    """How many claims have each verdict: "14 hold, 11 are open and 3 are refuted"."""
    words = {"holds": ("holds", "hold"), "open": ("is open", "are open"), "refuted": ("is refuted", "are refuted")}
    words["not measured"] = ("was not measured", "were not measured")
    counts = claims["verdict"].value_counts()
    return listing([f"{counts[v]} {words[v][int(counts[v] > 1)]}" for v in words if v in counts])


def _interval(values: pd.Series[Any]) -> Numbers:
    return dict(zip(("mean", "low", "high"), interval(np.asarray(values, dtype=np.float64)), strict=True))
