"""What the study's tables say: means with intervals, paired differences over seeds, Pareto metrics (`claims.py` tests claims with them).

Seeds are the unit of all intervals: a method is trained once a seed, and everything else (prompts, weights) is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.search.pareto import (
    cardinality,
    controllability,
    expected_utility,
    hypervolume,
    igd_plus,
    non_dominated,
    steerability,
)
from emorl_lite.search.statistics import interval

BY_GRID = ("grid", "default")
"""Settings chosen with equal effort: the best of the same grid of weights on validation prompts."""
BY_OWN_SEARCH = ("published search", "grid", "default")
"""Settings chosen as each method's own paper does: EMORL by its search of 135 points."""


METRICS = ["method", "seed", "points", "hypervolume", "utility", "igd_plus", "steered", "gap", "controllability"]


def representative(rows: pd.DataFrame, prefer: Sequence[str] = BY_GRID) -> pd.DataFrame:
    """One row per method and seed: of its chosen settings the first in `prefer`.

    A method whose knob is a strength (DeRa, CLP over KL weights) is taken at its default: choosing one would change how much the policy is
    regularised, which is held equal for all.
    """
    rank = rows["choice"].map({choice: i for i, choice in enumerate(prefer)})
    rank = rank.where((rows["knob"] != "strength") | (rows["choice"] == "default"))
    order = {name: i for i, name in enumerate(dict.fromkeys(rows["method"]))}
    sorted_rows = rows.assign(rank=rank, order=rows["method"].map(order))[rank.notna()].sort_values(
        ["order", "seed", "rank"], kind="stable"
    )
    return sorted_rows.drop_duplicates(["method", "seed"]).drop(columns=["rank", "order"]).reset_index(drop=True)


def with_intervals(table: pd.DataFrame, column: str, by: Sequence[str] = ("method",)) -> pd.DataFrame:
    """Mean of a column over the seeds, with its 95 % interval (Student's t) and standard deviation: by, mean, low, high, std, n.

    One seed has no interval: low, high and std are nan.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        values = np.asarray(group[column], dtype=np.float64)
        mean, low, high = interval(values) if len(values) > 1 else (float(values[0]), math.nan, math.nan)
        spread = {"mean": mean, "low": low, "high": high, "std": float(group[column].std()), "n": len(group)}
        rows.append(dict(zip(by, key, strict=True)) | spread)
    return pd.DataFrame(rows)


def difference(table: pd.DataFrame, first: str, second: str, column: str = "mean", by: str = "method") -> dict[str, float]:
    """first - second, paired by seed: mean, ends of the 95 % interval, and n. Raises UserError for fewer than two seeds in common."""
    pivot = table[table[by].isin([first, second])].pivot(index="seed", columns=by, values=column)
    for name in (first, second):
        if name not in pivot:
            raise UserError(f"difference: no rows for {by} {name!r}")
    pairs = (pivot[first] - pivot[second]).dropna().to_numpy()
    mean, low, high = interval(pairs)
    return {"mean": mean, "low": low, "high": high, "n": len(pairs)}


def paired(table: pd.DataFrame, first: str, second: str, column: str = "mean", by: str = "method", looks: int = 1) -> dict[str, float]:
    """`difference` for a sentence: nan (mean, or low and high) for what the table cannot tell, instead of an error.

    `looks`: how many such differences the sentence chooses from; the interval's level is 1 - .05 / looks (Bonferroni).
    """
    values = {name: table[table[by] == name].set_index("seed")[column] for name in (first, second)}
    return over(np.asarray((values[first] - values[second]).dropna(), dtype=np.float64), looks)


def over(values: np.ndarray, looks: int = 1) -> dict[str, float]:
    """Mean, low, high and n of values [n]; no interval for one value, nothing at all for none. `looks` as in `paired`."""
    estimate = {"mean": math.nan, "low": math.nan, "high": math.nan, "n": float(len(values))}
    if len(values) > 1:
        return estimate | dict(zip(("mean", "low", "high"), interval(values, 1 - 0.05 / max(looks, 1)), strict=True))
    return estimate | {"mean": float(values[0])} if len(values) else estimate


def spread_ratio(table: pd.DataFrame, first: str, second: str, column: str = "mean", by: str = "method") -> dict[str, float]:
    """Standard deviation of first over that of second, with the 95 % interval that the F distribution gives for normal values."""
    a, b = (table.loc[table[by] == name, column].to_numpy() for name in (first, second))
    if min(len(a), len(b)) < 2 or np.std(b) == 0:
        raise UserError(f"spread of {first!r} and {second!r}: at least two seeds that differ are needed")
    ratio = float(np.var(a, ddof=1) / np.var(b, ddof=1))
    low, high = (ratio / stats.f.ppf(q, len(a) - 1, len(b) - 1) for q in (0.975, 0.025))
    return {"mean": math.sqrt(ratio), "low": math.sqrt(low), "high": math.sqrt(high), "n": min(len(a), len(b))}


def objectives_of(table: pd.DataFrame) -> list[str]:
    """The objectives of a table with columns w_<objective> and <objective>."""
    return [c.removeprefix("w_") for c in table.columns if c.startswith("w_") and c.removeprefix("w_") in table.columns]


def front_metrics(sweep: pd.DataFrame, fronts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Pareto metrics of every method and seed, from its sweep over settings (and exact maps' fronts, as "<method>, exact map").

    Columns: method, seed, points (cardinality), hypervolume above the origin, utility E_w[max_p w.p] over evenly spread weights, igd_plus
    against the union of all fronts of the seed; for methods that were asked with weights also steered E_w[w.p(w)], gap (what the best
    of the answers would give more) and controllability, all three over the weights asked.
    """
    names = objectives_of(sweep)
    weights = [f"w_{name}" for name in names]
    groups = {(str(method), seed): group for (method, seed), group in sweep.groupby(["method", "seed"], sort=False)}
    if fronts is not None and len(fronts):
        groups |= {(f"{m}, exact map", s): group for (m, s), group in fronts.groupby(["method", "seed"], sort=False)}
    union: dict[Any, list[np.ndarray]] = {}
    for (_, seed), group in groups.items():
        union.setdefault(seed, []).append(group[names].to_numpy())
    best = {seed: np.unique(points[non_dominated(points)], axis=0) for seed, points in ((s, np.concatenate(p)) for s, p in union.items())}
    rows = []
    for (method, seed), group in groups.items():
        points = group[names].to_numpy()
        row = {"method": method, "seed": seed, "points": cardinality(points), "hypervolume": hypervolume(points, [0.0] * len(names))}
        row |= {"utility": expected_utility(points), "igd_plus": igd_plus(points, best[seed])}
        if "knob" in group and (group["knob"] == "weights").all():
            asked_weights = group[weights].to_numpy()
            steered, gap = steerability(points, asked_weights)
            row |= {"steered": steered, "gap": gap, "controllability": controllability(points, asked_weights)}
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=METRICS)


def dominated_share(sweep: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Per seed, the share of the second method's front that some point of the first dominates: columns seed, share."""
    names = objectives_of(sweep)
    rows = []
    for seed, group in sweep.groupby("seed"):
        a, b = (group.loc[group["method"] == name, names].to_numpy() for name in (first, second))
        b = np.unique(b[non_dominated(b)], axis=0)
        better = np.all(a[None] >= b[:, None], axis=2) & np.any(a[None] > b[:, None], axis=2)
        rows.append({"seed": seed, "share": float(np.any(better, axis=1).mean())})
    return pd.DataFrame(rows)


def consumption(convergence: pd.DataFrame, rows: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """Data points until the paper's rule holds, beside the score at the full budget: method, seed, data_points, censored, mean.

    EMORL appears twice, with the sum of its long runs and with the longest of them (they can go on side by side). `censored`: the rule did
    not hold before a run's end, so that its whole budget is counted. Validation and search are not counted, as in the paper's code.
    Raises UserError without the long single-objective runs.
    """
    stops = convergence.pivot(index="seed", columns="run", values="data_points")
    converged = convergence.pivot(index="seed", columns="run", values="converged")
    long_runs = [f"{name}-long" for name in objectives]
    if missing := [name for name in long_runs if name not in stops]:
        raise UserError(f"consumption: no finished run {missing[0]!r} in the table; study emorl-long too")
    scores: dict[Any, Any] = {(row.method, row.seed): row.mean for row in representative(rows, BY_OWN_SEARCH).itertuples()}
    records = []
    for (seed, line), (_, ended) in zip(stops.iterrows(), converged.iterrows(), strict=True):
        runs, censored = line[long_runs], not ended[long_runs].all()
        counted = [("emorl-long", "emorl (sum of runs)", runs.sum(), censored), ("emorl-long", "emorl (longest run)", runs.max(), censored)]
        counted += [(name, name, line[name], not ended[name]) for name in line.index if name.removesuffix("-long") not in objectives]
        for method, label, points, cut in counted:
            if (method, seed) in scores and pd.notna(points):
                values = {"method": label, "seed": seed, "data_points": int(points), "censored": bool(cut)}
                records.append(values | {"mean": scores[method, seed]})
    return pd.DataFrame(records)


def best_by_level(levels: pd.DataFrame) -> pd.DataFrame:
    """Every place of aggregation's mean score with the weights that are best on validation prompts, and over all weights, for every seed.

    Columns: level, seed, best, average; both scores are on test prompts. Raises UserError for an empty table.
    """
    if levels.empty:
        raise UserError("aggregation levels: the table is empty; study emorl-long makes it")
    chosen = levels.loc[levels.groupby(["level", "seed"], sort=False)["validation_mean"].idxmax()]
    best = chosen.set_index(["level", "seed"])["mean"].rename("best")
    average = levels.groupby(["level", "seed"], sort=False)["mean"].mean().rename("average")
    return pd.concat([average, best], axis=1).reset_index()[["level", "seed", "best", "average"]]
