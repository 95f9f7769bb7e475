"""Adapters that somebody else trained, as a study of their own: what is mixed, the exact optimum, and several triples' scores.

A triple is one adapter of each objective; a seed says which. Made for the paper's own adapters (`Experiment(adapters="authors")`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.wording import number, with_spread
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.search.score_table import SearchResult
from emorl_lite.study import paper

MIXES = ("hidden", "parameters", "probabilities")
"""What the paper's three cube figures mix."""
ENSEMBLE = "ensemble"


def cube_points(experiment: Experiment, mixes: Sequence[str] = MIXES) -> pd.DataFrame:
    """The published search once for each thing to mix: the points behind the paper's cube figures.

    A row a point: seed, what, level, w_<objective>, <objective>, mean, note; `test`: what the search's best weights score on test prompts.
    """
    parts = []
    for mix in mixes:
        one = experiment.like(mix=mix, method="hierarchical")
        result = one.search()
        confirmed = one.confirm(result)
        test = float(confirmed.loc[confirmed["objective"] == "mean", "fresh"].iloc[0])
        parts.append(result.table.drop(columns="seconds", errors="ignore").assign(seed=one.seed, what=mix, test=test))
    return pd.concat(parts, ignore_index=True)


def exact_optima(experiment: Experiment, mixes: Sequence[str] = ("hidden", "probabilities")) -> dict[str, SearchResult]:
    """The best of all weights, for what is mixed linearly. Raises UserError for parameters, which have no exact map."""
    return {mix: experiment.like(mix=mix, method="exact").search() for mix in mixes}


def best_points(points: pd.DataFrame, optima: Mapping[str, SearchResult], objectives: Sequence[str]) -> pd.DataFrame:
    """The search's best weights for each thing to mix, the exact optimum beside them. `points`: of `cube_points`, of one seed.

    Columns: mixed, weights, validation (what the search found), exact optimum (on the same prompts; empty where there is no map), test,
    and the paper's best.
    """
    lines = []
    for what, rows in points.groupby("what", sort=False):
        best = rows.sort_values("mean", ascending=False, kind="stable").to_dict("records")[0]
        exact = float(optima[str(what)].table["mean"].max()) if what in optima else None
        line = {"mixed": what, "weights": ", ".join(number(float(best[f"w_{name}"])) for name in objectives)}
        line |= {"validation": number(float(best["mean"]), 3), "exact optimum": "no map" if exact is None else number(exact, 3)}
        lines.append(line | {"test": number(float(best["test"]), 3), "the paper's best": number(paper.AGGREGATION[str(what)], 3)})
    return pd.DataFrame(lines)


def evaluate_triples(experiment: Experiment, weights: Sequence[float], seeds: Sequence[int] = range(5)) -> pd.DataFrame:
    """Scores of base, single adapters and the ensemble at these weights on test prompts, for several triples, all decoded greedily.

    A row a policy and seed: seed, policy, <objective>, mean. Raises UserError for a seed that there is no triple for.
    """
    parts = []
    for seed in seeds:
        table = experiment.like(seed=seed).evaluate(weights)
        parts.append(table[table["policy"] != "replies"].assign(seed=seed))
    return pd.concat(parts, ignore_index=True)


def beside_published(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean score of every policy over triples, ± standard deviation, as text, beside the paper's base and EMORL.

    `scores`: policy, seed, mean. Columns: policy, triples, here, paper.
    """
    theirs = {row["method"]: row for row in paper.CONSUMPTION.to_dict("records")}
    same = {"base": "base", ENSEMBLE: "emorl"}
    lines = []
    for policy, means in scores.groupby("policy", sort=False)["mean"]:
        row = theirs[same[str(policy)]] if policy in same else None
        published = "" if row is None else with_spread(row["mean"], row["mean_std"], 4)
        lines.append({"policy": policy, "triples": len(means), "here": with_spread(means.mean(), means.std()), "paper": published})
    return pd.DataFrame(lines)
