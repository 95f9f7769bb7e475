"""What the paper's methods take, in data points and in seconds, and what they reach: its scatter figure and its consumption table.

EMORL and the soups are made of several runs, which can go on side by side. So they are counted twice, by their longest run and by the sum
of their runs; and EMORL's search decodes, too, so that it is counted with the search and without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.base.wording import with_spread
from emorl_lite.study.comparison import BY_OWN_SEARCH, one_uniform, representative, search_replies
from emorl_lite.study.facts import METHODS
from emorl_lite.study.paper import CONSUMPTION, TRAINING_SECONDS
from emorl_lite.study.tables import optional_table, real_tables, study_tables

LONGEST, SUM = "longest run", "sum of runs"
SEARCHED = " + search"
SINGLE = {"base": "base", "uniform": "uniform", "uniform-short": "uniform", "dynaopt": "dynaopt"}
"""Methods of one policy, and what they are called here; "uniform-short" stands for uniform weighting where no run had a whole budget."""
SPENT = ["method", "accounting", "seed", "data_points", "censored", "seconds", "mean"]


def spending(
    rows: pd.DataFrame, convergence: pd.DataFrame, objectives: Sequence[str], search: int = 0, curves: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What the paper's methods took by the paper's rule, and their score at the full budget, as rows SPENT.

    `rows`, `convergence`, `curves`: tables of a study (`curves` may lack, or be empty: then the longest run's seconds are NaN). `search`:
    prompts that EMORL's search answers. `accounting`: "" for one policy, else LONGEST or SUM, for EMORL also with SEARCHED. `censored`: the
    rule did not hold before a run's end, so that its whole budget is counted. `seconds`: of training, to the end of the budget. The base
    takes nothing; the soups (exact average) take EMORL's runs, without its search. A method that was not studied has no row.
    Raises UserError without finished single-objective runs.
    """
    stops = convergence.set_index(["seed", "run"])
    runs = set(convergence["run"])
    long = "-long" if f"{objectives[0]}-long" in runs else ""
    own = [f"{name}{long}" for name in objectives]
    if missing := [name for name in own if name not in runs]:
        raise UserError(f"spending: no finished run {missing[0]!r} in the table; study emorl-long too")
    longest_seconds = _run_seconds(curves)
    chosen, lines = representative(one_uniform(rows), BY_OWN_SEARCH), []
    for row in chosen.to_dict("records"):
        method, seed = row["method"], row["seed"]
        about = {"seed": seed, "mean": row["mean"]}
        if method in SINGLE and (method == "base" or (seed, method) in stops.index):
            counted = {"data_points": 0, "censored": False, "seconds": row["seconds"]}
            if method != "base":
                taken = stops.loc[[(seed, method)]]
                counted |= {"data_points": int(taken["data_points"].iloc[0]), "censored": not taken["converged"].all()}
            lines.append(about | {"method": SINGLE[method], "accounting": ""} | counted)
        elif method in (f"emorl{long}", f"exact-average{long}") and all((seed, run) in stops.index for run in own):
            taken = stops.loc[[(seed, run) for run in own]]
            each = [longest_seconds.get((seed, run), math.nan) for run in own]
            counts = {LONGEST: (taken["data_points"].max(), max(each)), SUM: (taken["data_points"].sum(), row["seconds"])}
            if method == f"emorl{long}" and search:
                counts |= {f"{name}{SEARCHED}": (points + search, math.nan) for name, (points, _) in list(counts.items())}
            for accounting, (points, seconds) in counts.items():
                counted = {"data_points": int(points), "censored": not taken["converged"].all(), "seconds": seconds}
                lines.append(about | {"method": method.removesuffix("-long"), "accounting": accounting} | counted)
    return pd.DataFrame(lines, columns=SPENT)


def every_spending(objectives: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Rows of `spending` by preset, for every study whose tables are here: tiny always, the others where somebody has made them.

    Raises UserError if the repository's tables are not here at all.
    """
    tables = {"tiny": study_tables(names=("rows", "convergence"))} | {
        preset: real_tables(preset, ("rows", "convergence")) for preset in ("tiny-paper", "smollm2", "t5", "t5-paper")
    }
    found = {}
    for preset, made in tables.items():
        if made:
            search = search_replies(made["rows"], len(objectives), get_preset(preset))
            found[preset] = spending(made["rows"], made["convergence"], objectives, search, optional_table("curves", preset))
    return found


def _run_seconds(curves: pd.DataFrame | None) -> dict[tuple[Any, str], float]:
    """Seconds of every run of a study, by seed and run."""
    if curves is None or not len(curves):
        return {}
    last = curves.groupby(["seed", "run"])["seconds"].max().reset_index()
    return {(row["seed"], row["run"]): row["seconds"] for row in last.to_dict("records")}


def labelled(spent: pd.DataFrame) -> pd.DataFrame:
    """The same rows with one name for method and accounting, "emorl (longest run)", as sentences and figures have it."""
    accounting = spent["accounting"].map(lambda words: f" ({words})" if words else "")
    return spent.assign(method=spent["method"] + accounting)


def paper_spending() -> pd.DataFrame:
    """The paper's own row of each method: method, data_points, data_points_std, mean, mean_std (its scatter figure's file)."""
    return CONSUMPTION[["method", "data_points", "data_points_std", "mean", "mean_std"]].copy()


def consumption_table(sources: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The consumption table, as text: method, where, counted by, data points, seconds (of training), mean score; the paper's rows first.

    `sources`: rows of `spending`, by what they are called. "±": one standard deviation over seeds. "≥": of some seed's run the rule never
    held. Of the paper's seconds EMORL's alone are known here.
    """
    lines = []
    for row in paper_spending().to_dict("records"):
        method = row["method"]
        seconds = _plus_minus(*TRAINING_SECONDS, 0) if method == "emorl" else ""
        line = {"method": METHODS[method], "where": "paper", "counted by": "as published"}
        line["data points"] = _plus_minus(row["data_points"], row["data_points_std"], 0) if row["data_points"] else "0"
        lines.append(line | {"seconds": seconds, "mean score": _plus_minus(row["mean"], row["mean_std"], 3)})
        for source, spent in sources.items():
            for accounting, rows in spent[spent["method"] == method].groupby("accounting", sort=False):
                line = {"method": METHODS[method], "where": source, "counted by": accounting}
                line["data points"] = ("≥ " if rows["censored"].any() else "") + _over_seeds(rows["data_points"], 0)
                line["seconds"] = _over_seeds(rows["seconds"], 0) if rows["seconds"].notna().all() else ""
                lines.append(line | {"mean score": _over_seeds(rows["mean"], 3)})
    return pd.DataFrame(lines)


def _plus_minus(mean: float, spread: float, digits: int) -> str:
    """ "17,529 ± 1,650"; the mean alone without a spread, or where all are the same."""
    return with_spread(mean, spread if spread > 0 else math.nan, digits)


def _over_seeds(values: pd.Series[Any], digits: int) -> str:
    return _plus_minus(float(values.mean()), float(values.std()), digits)
