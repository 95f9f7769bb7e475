"""What the study's tables say: means with intervals, paired differences over seeds, Pareto metrics (`claims.py` tests claims with them).

Seeds are the unit of all intervals: a method is trained once a seed, and everything else (prompts, weights) is the same for all. What is
chosen, a setting or a front of settings, is chosen on validation prompts; test prompts score it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import Preset, get_preset
from emorl_lite.search.pareto import (
    cardinality,
    controllability,
    hypervolume,
    igd_plus,
    non_dominated,
    steerability,
    utility_weights,
)
from emorl_lite.search.statistics import interval, median_interval, shape_of

BY_GRID = ("grid", "default")
"""Settings chosen with equal effort: the best of the same grid of weights on validation prompts."""
BY_OWN_SEARCH = ("published search", "grid, mean", "grid", "default")
"""Settings chosen as each method's own paper does, all for the highest mean: the published search where there is one, else a grid."""


METRICS = ["method", "seed", "points", "hypervolume", "utility", "igd_plus", "steered", "gap", "controllability"]


def representative(rows: pd.DataFrame, prefer: Sequence[str] = BY_GRID) -> pd.DataFrame:
    """One row per method and seed: of its chosen settings the first in `prefer`, whatever its knob is.

    A strength (DeRa, CLP over KL weights) is chosen as weights are. That changes how far a policy goes from the base, as choosing weights
    does: its `kl` tells, and the study's table `matched` compares at equal KL.
    """
    rank = rows["choice"].map({choice: i for i, choice in enumerate(prefer)})
    order = {name: i for i, name in enumerate(dict.fromkeys(rows["method"]))}
    sorted_rows = rows.assign(rank=rank, order=rows["method"].map(order))[rank.notna()].sort_values(
        ["order", "seed", "rank"], kind="stable"
    )
    return sorted_rows.drop_duplicates(["method", "seed"]).drop(columns=["rank", "order"]).reset_index(drop=True)


def one_uniform(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a study with one of its two uniform policies: without "uniform-short", the one with a d-th of the budget, if it has
    "uniform" of as many seeds; else without "uniform"."""
    whole, short = (set(rows.loc[rows["method"] == name, "seed"]) for name in ("uniform", "uniform-short"))
    if not whole or not short:
        return rows
    return rows[rows["method"] != ("uniform-short" if whole >= short else "uniform")]


def with_intervals(table: pd.DataFrame, column: str, by: Sequence[str] = ("method",)) -> pd.DataFrame:
    """Mean of a column over the seeds, with its 95 % interval (Student's t) and standard deviation: by, mean, low, high, std, n.

    Beside it `shape` (`shape_of`: in two heaps Student's interval misleads), `median`, and its exact interval with the coverage
    (`median_interval`): exact_low, exact_high, coverage. One seed has no interval: all of these but mean and median are nan.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        values = np.asarray(group[column], dtype=np.float64)
        one = float(values[0])
        mean, low, high = interval(values) if len(values) > 1 else (one, math.nan, math.nan)
        spread = {"mean": mean, "low": low, "high": high, "std": float(group[column].std()), "n": len(group), "shape": shape_of(values)}
        exact = median_interval(values) if len(values) > 1 else (one, math.nan, math.nan, math.nan)
        spread |= dict(zip(("median", "exact_low", "exact_high", "coverage"), exact, strict=True))
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


def by_seed(table: pd.DataFrame, first: str, second: str, column: str = "mean", by: str = "method") -> tuple[np.ndarray, np.ndarray]:
    """A column's values of two methods on the seeds that both have, in the same order. Raises UserError if a method is not there."""
    values = []
    for name in (first, second):
        rows = table[table[by] == name] if column in table else table.iloc[:0]
        if rows.empty:
            raise UserError(f"{column}: no rows for {by} {name!r}")
        values.append(rows.set_index("seed")[column].rename(name).dropna())
    both = pd.concat(values, axis=1, join="inner").sort_index().to_numpy(dtype=np.float64)
    return both[:, 0], both[:, 1]


def ratio_of_spreads(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation of one sample over another's, and the ends of the 95 % interval that F gives if both are normal.

    Raises UserError for fewer than two values, or if the second's are all equal.
    """
    if min(len(above), len(below)) < 2 or np.std(below) == 0:
        raise UserError("ratio of standard deviations: at least two seeds that differ are needed")
    ratio = float(np.var(above, ddof=1) / np.var(below, ddof=1))
    low, high = (ratio / float(stats.f.ppf(q, len(above) - 1, len(below) - 1)) for q in (0.975, 0.025))
    return math.sqrt(ratio), math.sqrt(low), math.sqrt(high)


def objectives_of(table: pd.DataFrame) -> list[str]:
    """The objectives of a table with columns w_<objective> and <objective>."""
    return [c.removeprefix("w_") for c in table.columns if c.startswith("w_") and c.removeprefix("w_") in table.columns]


def on_front(settings: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The settings of one method and seed that no other of them beats in all objectives on validation prompts.

    Columns: validation_<objective>. Without these nothing else was measured by which to choose than the objectives themselves: such a front
    is picked on the prompts that score it, and flattered.
    """
    columns = _to_choose_by(settings, names)
    return settings[non_dominated(settings[columns].to_numpy())] if len(settings) else settings


def _to_choose_by(settings: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The columns of validation scores, or if they are not there those of the objectives."""
    columns = [f"validation_{name}" for name in names]
    measured = set(columns) <= set(settings.columns) and not settings[columns].isna().any(axis=None)
    return columns if measured else list(names)


def front_metrics(sweep: pd.DataFrame) -> pd.DataFrame:
    """Pareto metrics of every method and seed, from its sweep over settings: the front is chosen on validation prompts (`on_front`), and
    what it scores on test prompts is measured.

    Columns: method, seed, points (distinct ones that no other of these dominates), hypervolume above the origin, utility (what users of
    evenly spread weights get from the setting that is best for them on validation prompts), igd_plus against the union of all fronts of
    the seed; for methods that were asked with weights also steered E_w[w.p(w)], gap (what the best of the answers would give more) and
    controllability, all three over the weights asked, which are not chosen. Fronts of all settings have another resolution:
    `beside_every_setting`.
    """
    names = objectives_of(sweep)
    weights = [f"w_{name}" for name in names]
    groups = {(str(method), seed): group for (method, seed), group in sweep.groupby(["method", "seed"], sort=False)}
    fronts = {key: on_front(group, names) for key, group in groups.items()}
    union: dict[Any, list[np.ndarray]] = {}
    for (_, seed), front in fronts.items():
        union.setdefault(seed, []).append(front[names].to_numpy())
    best = {seed: np.unique(points[non_dominated(points)], axis=0) for seed, points in ((s, np.concatenate(p)) for s, p in union.items())}
    rows = []
    for (method, seed), group in groups.items():
        points = fronts[method, seed][names].to_numpy()
        row = {"method": method, "seed": seed, "points": cardinality(points), "hypervolume": hypervolume(points, [0.0] * len(names))}
        row |= {"utility": _utility(group, names), "igd_plus": igd_plus(points, best[seed])}
        if "knob" in group and (group["knob"] == "weights").all():
            asked_weights, answers = group[weights].to_numpy(), group[names].to_numpy()
            steered, gap = steerability(answers, asked_weights)
            row |= {"steered": steered, "gap": gap, "controllability": controllability(answers, asked_weights)}
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=METRICS)


def _utility(settings: pd.DataFrame, names: Sequence[str]) -> float:
    """E_w[w.p(w)], p(w) the test scores of the setting that is best for w on validation prompts (or on test, if that is all there is)."""
    w = utility_weights(len(names))
    best = (w @ settings[_to_choose_by(settings, names)].to_numpy().T).argmax(1)
    return float((w * settings[list(names)].to_numpy()[best]).sum(1).mean())


def beside_every_setting(sweep: pd.DataFrame, front: pd.DataFrame) -> pd.DataFrame:
    """What a method's grid misses of all its settings: the sweep's front beside the exact map's, for every method and seed that has both.

    Columns: method, seed, points, hypervolume (of the exact map's front), grid_points, grid_hypervolume, chosen_on ("validation", or
    "test": in tables made before, the map's front was picked on the prompts that score it, and is flattered). Not to be compared between
    methods: a grid of one is no match for all settings of another.
    """
    names = objectives_of(sweep)
    rows = []
    for (method, seed), group in front.groupby(["method", "seed"], sort=False) if len(front) else ():
        asked = sweep[(sweep["method"] == method) & (sweep["seed"] == seed)]
        if asked.empty:
            continue
        row: dict[str, Any] = {"method": method, "seed": seed}
        for label, settings in (("", group), ("grid_", on_front(asked, names))):
            points = settings[names].to_numpy()
            row |= {f"{label}points": cardinality(points), f"{label}hypervolume": hypervolume(points, [0.0] * len(names))}
        rows.append(row | {"chosen_on": "validation" if f"validation_{names[0]}" in group else "test"})
    return pd.DataFrame(rows, columns=["method", "seed", "points", "hypervolume", "grid_points", "grid_hypervolume", "chosen_on"])


def dominated_share(sweep: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Per seed, the share of the second method's front that some point of the first's dominates on test prompts: columns seed, share.

    Both fronts are chosen on validation prompts (`on_front`).
    """
    names = objectives_of(sweep)
    rows = []
    for seed, group in sweep.groupby("seed"):
        fronts = (on_front(group[group["method"] == name], names)[names].to_numpy() for name in (first, second))
        a, b = (np.unique(points, axis=0) for points in fronts)
        if not len(a) or not len(b):
            continue
        better = np.all(a[None] >= b[:, None], axis=2) & np.any(a[None] > b[:, None], axis=2)
        rows.append({"seed": seed, "share": float(np.any(better, axis=1).mean())})
    return pd.DataFrame(rows, columns=["seed", "share"])


def search_replies(rows: pd.DataFrame, objectives: int, preset: Preset | None = None) -> int:
    """Replies that EMORL's published search scores, every point that it lists on every validation prompt.

    From the column `searched` of its rows; in tables without, by the preset's search (default: tiny's).
    """
    if "searched" in rows:
        counted = rows.loc[rows["method"].str.startswith("emorl") & (rows["choice"] == "published search"), "searched"].dropna()
        if len(counted):
            return int(counted.iloc[0])
    search = (preset or get_preset("tiny")).search
    return search.levels * search.points_per_axis**objectives * search.validation_prompts


def searched_too(spent: pd.DataFrame, search: int) -> pd.DataFrame:
    """Data points with the search's own replies counted: EMORL's rows once more, as "(.. + search)". Columns as `consumption`."""
    emorl = spent[spent["method"].str.startswith("emorl (")]
    counted_too = emorl.assign(
        data_points=emorl["data_points"] + search, method=emorl["method"].str.replace(")", " + search)", regex=False)
    )
    return pd.concat([spent, counted_too], ignore_index=True)


def consumption(convergence: pd.DataFrame, rows: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """Data points until the paper's rule holds, beside the score at the full budget: method, seed, data_points, censored, mean.

    EMORL appears twice, with the sum of its long runs and with the longest of them (they can go on side by side). `censored`: the rule did
    not hold before a run's end, so that its whole budget is counted. Validation is not counted, nor is the search: `searched_too` adds it.
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
