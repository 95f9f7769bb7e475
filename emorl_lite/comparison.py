"""What the study's tables say: means with intervals, paired differences over seeds, Pareto metrics (`claims.py` tests claims with them).

Seeds are the unit of all intervals: a method is trained once a seed, and everything else (prompts, weights) is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.errors import UserError
from emorl_lite.evaluation import interval
from emorl_lite.pareto import (
    cardinality,
    controllability,
    expected_utility,
    hypervolume,
    igd_plus,
    non_dominated,
    steerability,
)
from emorl_lite.small_world import data_root

PREFERRED = ("published search", "grid", "default")
"""Which of a method's chosen settings stands for it: its own published way to choose, else the best of the sweep on validation."""


def study_tables(folder: Path | None = None) -> dict[str, pd.DataFrame]:
    """The study's tables by name (rows, sweep, front, levels, convergence), from `data/results` by default."""
    folder, found = Path(folder or data_root() / "results"), {}
    for name in ("rows", "sweep", "front", "levels", "convergence"):
        path = folder / ("methods.csv" if name == "rows" else f"methods_{name}.csv")
        if not path.is_file():
            raise UserError(f"{path}: no such table; python -m emorl_lite study makes it")
        found[name] = pd.read_csv(path)
    return found


def representative(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per method and seed: that of the setting the method would be used with (see PREFERRED)."""
    rank = rows["choice"].map({choice: i for i, choice in enumerate(PREFERRED)})
    kept = rows[rank.notna()].assign(rank=rank).sort_values(["rank"], kind="stable").drop_duplicates(["method", "seed"])
    order = {name: i for i, name in enumerate(dict.fromkeys(rows["method"]))}
    return (
        kept.assign(order=kept["method"].map(order)).sort_values(["order", "seed"]).drop(columns=["rank", "order"]).reset_index(drop=True)
    )


def with_intervals(table: pd.DataFrame, column: str, by: Sequence[str] = ("method",)) -> pd.DataFrame:
    """Mean of a column over the seeds, with its 95 % interval (Student's t) and standard deviation: by, mean, low, high, std, n."""
    found = []
    for key, group in table.groupby(list(by), sort=False):
        mean, low, high = interval(np.asarray(group[column], dtype=np.float64))
        spread = {"mean": mean, "low": low, "high": high, "std": float(group[column].std()), "n": len(group)}
        found.append(dict(zip(by, key, strict=True)) | spread)
    return pd.DataFrame(found)


def difference(table: pd.DataFrame, first: str, second: str, column: str = "mean", by: str = "method") -> dict[str, float]:
    """first - second, paired by seed: mean, ends of the 95 % interval, and n. Raises UserError for fewer than two seeds in common."""
    wide = table[table[by].isin([first, second])].pivot(index="seed", columns=by, values=column)
    for name in (first, second):
        if name not in wide:
            raise UserError(f"difference: no rows for {by} {name!r}")
    pairs = (wide[first] - wide[second]).dropna().to_numpy()
    mean, low, high = interval(pairs)
    return {"mean": mean, "low": low, "high": high, "n": len(pairs)}


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
    """Pareto metrics of every method and seed, from its sweep over the weight grid (and exact maps' fronts, as "<method>, exact map").

    Columns: method, seed, points (cardinality), hypervolume above the origin, utility E_w[max_p w.p], igd_plus against the union of all
    fronts of the seed; for methods asked at every grid weight also steered E_w[w.p(w)], gap (utility - steered) and controllability.
    """
    names = objectives_of(sweep)
    sets = {(str(m), s): g for (m, s), g in sweep.groupby(["method", "seed"], sort=False)}
    if fronts is not None and len(fronts):
        sets |= {(f"{m}, exact map", s): g for (m, s), g in fronts.groupby(["method", "seed"], sort=False)}
    full = max(len(group) for (method, _), group in sets.items() if not method.endswith("exact map"))
    found = []
    for (method, seed), group in sets.items():
        points = group[names].to_numpy()
        union = np.concatenate([g[names].to_numpy() for (_, s), g in sets.items() if s == seed])
        row = {"method": method, "seed": seed, "points": cardinality(points), "hypervolume": hypervolume(points, [0.0] * len(names))}
        row |= {"utility": expected_utility(points), "igd_plus": igd_plus(points, np.unique(union[non_dominated(union)], axis=0))}
        asked = group[[f"w_{n}" for n in names]]
        if not method.endswith("exact map") and len(group) == full and asked.notna().all(axis=None):
            steered, gap = steerability(points, asked.to_numpy())
            row |= {"steered": steered, "gap": gap, "controllability": controllability(points, asked.to_numpy())}
        found.append(row)
    return pd.DataFrame(found)


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
    """Data points until the paper's rule holds, in both accountings, beside the score at the full budget: method, seed, data_points, mean.

    EMORL appears twice, with the sum of its long runs and with the longest of them (they can go on side by side): like every other
    method's one run, each of them had a whole budget to converge in.
    """
    stops = convergence.pivot(index="seed", columns="run", values="data_points")
    scores: dict[Any, Any] = {(row.method, row.seed): row.mean for row in representative(rows).itertuples()}
    found = []
    for seed, line in stops.iterrows():
        runs = line[[f"{name}-long" for name in objectives]]
        counted = {"emorl-long": {"emorl (sum of runs)": runs.sum(), "emorl (longest run)": runs.max()}}
        counted |= {name: {name: line[name]} for name in line.index if name.removesuffix("-long") not in objectives}
        for method, counts in counted.items():
            if (method, seed) in scores:
                values = {"seed": seed, "mean": scores[method, seed]}
                found += [{"method": label, **values, "data_points": int(n)} for label, n in counts.items()]
    return pd.DataFrame(found)


def best_by_level(levels: pd.DataFrame) -> pd.DataFrame:
    """The best weight vector's mean score at every level and seed, and the mean over all weight vectors: level, seed, best, average."""
    grouped = levels.groupby(["level", "seed"], sort=False)["mean"]
    return grouped.agg(best="max", average="mean").reset_index()
