"""A run beside the reference's spread over seeds and instruction sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.wording import counted, number, part

NAMED = 4
"""So many measures outside the spread are named."""
FAR = 0.1
"""Farther outside the spread than this, and than the spread is wide: hardly by chance."""
CLASSIFIER_MEASURES = {
    "reflection auc": "reflection: AUC",
    "reflection auc_equal_form": "reflection: AUC among replies of equal form",
    "reflection score_handed_on": "reflection: score of replies handed on",
    "reflection mean_absolute_error": "reflection: mean absolute error",
    "empathy auc": "empathy: AUC",
    "empathy mean_absolute_error": "empathy: mean absolute error",
}
"""Measures of the classifiers, `<objective> <column of emorl_lite/assets/tiny/classifiers.csv>`, and what to call them."""


def _pivot(table: pd.DataFrame, by: str, columns: Sequence[str]) -> pd.DataFrame:
    """A row a run (machine, seed), in the order of the table; columns `<value of by> <column>`."""
    runs = []
    for _, run in table.groupby(["machine", "seed"], sort=False):
        runs.append({f"{row[by]} {column}": row[column] for row in run.to_dict("records") for column in columns if column in row})
    return pd.DataFrame(runs)


def classifier_runs(judged: pd.DataFrame) -> pd.DataFrame:
    """emorl_lite/assets/tiny/classifiers.csv (machine, seed, objective, ..) as a row a run; columns: the keys of CLASSIFIER_MEASURES."""
    return _pivot(judged, "objective", ["auc", "auc_equal_form", "score_handed_on", "mean_absolute_error"])[list(CLASSIFIER_MEASURES)]


def policy_measures(objectives: Sequence[str]) -> dict[str, str]:
    """Measures of the single-objective models, `<model> <column of emorl_lite/assets/tiny/policies.csv>`, and what to call them."""
    names: dict[str, str] = {}
    for o in objectives:
        others = [p for p in objectives if p != o]
        names |= {f"{o} {o}": f"{o} model: own reward"} | {f"{o} {p}": f"{o} model: {p}" for p in others}
        measures = {"mean": "mean of the rewards", "sampled_first": "first sampled", "sampled_last": "last sampled"}
        measures["favourite_share"] = "share of the favourite reply"
        names |= {f"{o} {key}": f"{o} model: {name}" for key, name in measures.items()}
    return names


def policy_runs(policies: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """emorl_lite/assets/tiny/policies.csv (machine, seed, policy, ..) as a row a run; columns: the keys of `policy_measures`."""
    columns = [*objectives, "mean", "sampled_first", "sampled_last", "favourite_share"]
    return _pivot(policies[policies["policy"].isin(objectives)], "policy", columns)[list(policy_measures(objectives))]


def policies_here(scores: pd.DataFrame, log: pd.DataFrame, favourite: Mapping[str, float], objectives: Sequence[str]) -> dict[str, float]:
    """This run's values of `policy_measures`.

    `scores`: a row a policy (index), columns: the objectives, mean. `log`: objective, reward; a row a step. `favourite`: shares by policy.
    """
    values: dict[str, float] = {}
    for o in objectives:
        score, rewards = scores.to_dict("index")[o], log.loc[log["objective"] == o, "reward"].to_numpy()
        values |= {f"{o} {p}": float(score[p]) for p in (*objectives, "mean")}
        values |= {f"{o} sampled_first": float(rewards[0]), f"{o} sampled_last": float(rewards[-1])}
        values[f"{o} favourite_share"] = float(favourite[o])
    return values


def spread_reading(table: pd.DataFrame, runs: int, reference: bool = False, digits: int = 2) -> str:
    """Whether a run lies inside the spread, and what it means if not.

    `table`: what `notebook.beside` gave; `runs`: how many runs it compares with; `reference`: whether this run is one of them.
    """
    n, outside = len(table), table[table["inside"] == "no"].to_dict("records")
    inside = part(n - len(outside), n, "measure")
    text = f"{inside[0].upper()}{inside[1:]} lie between the lowest and the highest of the reference's {counted(runs, 'run')}"
    named = []
    for row in outside[:NAMED]:
        low = bool(row["this run"] < row["lowest"])
        edge = f"below {number(row['lowest'], digits)}" if low else f"above {number(row['highest'], digits)}"
        named.append(f"{row['measure']} ({number(row['this run'], digits)}, {edge})")
    text += f"; outside: {'; '.join(named)}" if named else ""
    text += f"; and {len(outside) - NAMED} more. " if len(outside) > NAMED else ". "
    if reference:
        return text + "This run is one of them, kept in half precision, so that says nothing about another machine."
    text += (
        f"That is a range, no interval: a further run falls outside in some measures by chance (were the runs independent, in up to 2 of "
        f"{runs + 1}; some share a seed, so in more), and in several at a time, since they hang together. "
    )
    gaps = [max(row["lowest"] - row["this run"], row["this run"] - row["highest"]) for row in outside]
    outliers = sum(gap > max(FAR, row["highest"] - row["lowest"]) for gap, row in zip(gaps, outside, strict=True))
    if outliers:
        return (
            text
            + f"Outside by more than {FAR:g} and by more than the range's width: {outliers}. Look for what differs: length, options, data."
        )
    if len(outside) > n / 2:
        return text + "But this run does in most of them. Look for what differs: length, options, data."
    return text + "Every machine is another draw."
