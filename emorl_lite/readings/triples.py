"""What the paper's own adapters say, in sentences that are built from their tables and hold whichever way the numbers come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.wording import counted, judged, listing, number, signed
from emorl_lite.lm.author_adapters import LayerChange
from emorl_lite.search.score_table import SearchResult
from emorl_lite.study import paper
from emorl_lite.study.comparison import paired
from emorl_lite.study.triples import ENSEMBLE

FETCH = "python -m emorl_lite data fetch pair emorl-adapters"


def state_reading(missing: Sequence[str], opened: bool) -> str:
    """Whether the paper's own adapters can be used here. `missing`: what of the data is not here; `opened`: whether the model has them."""
    if missing:
        return f"Not here yet: {listing([f'`{name}`' for name in missing])}. Get them with `{FETCH}`, and run this section again."
    if not opened:
        return "The files are here, their model is not (the line above says why): what follows is built on a random small T5 alone."
    return "The files and their model are here: what follows runs on the paper's own adapters."


def layer_reading(layers: Mapping[str, LayerChange], name: str, file: str, own: bool) -> str:
    """What one layer of a file says, and how much the file holds."""
    change = layers[name]
    rows, columns = change.shape
    few, all_ = change.rank * (rows + columns), rows * columns
    whose = f"`{file}`, one of the fifteen" if own else f"`{file}`, random numbers in the authors' format for a random small T5"
    ratio = f"one for every {number(all_ / few, 0)}" if all_ >= few else "more than it has: so small a layer saves nothing"
    return (
        f"{whose}, changes {counted(len(layers), 'layer')}. This one is {rows} by {columns}, {all_:,} numbers, and changes by a matrix of "
        f"rank {change.rank}, {few:,} numbers ({ratio}), times s = {change.scaling:g}."
    )


def mixtures_reading(points: pd.DataFrame) -> str:
    """Which mixture leads when all are decoded greedily. Columns: what, seed, test (of the search's best weights)."""
    tests = points.groupby(["what", "seed"], sort=False)["test"].first().reset_index()
    means = tests.groupby("what", sort=False)["test"].mean()
    parts = [f"{what} {number(float(mean), 3)}" for what, mean in means.items()]
    text = f"With the weights that the search found, on test prompts, all greedily: {', '.join(parts)}."
    if not {"hidden", "parameters"} <= set(means.index):
        return text
    theirs = paper.AGGREGATION
    text += f" Hidden states less parameters: {judged(paired(tests, 'hidden', 'parameters', 'test', 'what'), 'a lead', 'a lag')}."
    return (
        f"{text} In the paper {signed(theirs['hidden'] - theirs['parameters'], 2)} ({paper.SOURCES['cubes']}), greedy against sampled. "
        "A difference of one triple is no evidence: take other seeds before you conclude."
    )


def optima_reading(points: pd.DataFrame, optima: Mapping[str, SearchResult]) -> str:
    """How much the search left. `points`: what, mean; `optima`: by what is mixed, on the same prompts."""
    found = points.groupby("what")["mean"].max()
    best = {what: float(optimum.table["mean"].max()) for what, optimum in optima.items()}
    parts = [f"{what} {number(value - float(found[what]), 4)}" for what, value in best.items() if what in found.index]
    return f"The search's best lies below the optimum over all weights by: {', '.join(parts)} (on the prompts that both were made with)."


def triples_reading(scores: pd.DataFrame) -> str:
    """The ensembles' mean beside the published one, and what single adapters and the base score. Columns: policy, seed, mean."""
    means = {str(policy): float(rows.mean()) for policy, rows in scores.groupby("policy", sort=False)["mean"]}
    ours, theirs = means[ENSEMBLE], float(paper.CONSUMPTION.set_index("method")["mean"]["emorl"])
    n = scores["seed"].nunique()
    gain = judged(paired(scores, ENSEMBLE, "base", "mean", "policy"), "more", "less")
    alone = max((mean, policy) for policy, mean in means.items() if policy not in (ENSEMBLE, "base"))
    return (
        f"The ensemble's mean over {counted(n, 'triple')}, at the weights of the paper's evaluation: {number(ours, 3)}. Published: "
        f"{number(theirs, 4)} ({paper.SOURCES['scatter']}), so {signed(ours - theirs)} here. Classifiers, splits and where a reply ends "
        f"differ, and heights with them; within this table they do not: the ensemble less the base {gain}, and less the best single "
        f"adapter ({alone[1]}) {signed(ours - alone[0])}."
    )
