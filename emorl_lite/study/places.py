"""Where to aggregate: the same adapters, prompts and greedy decoding, mixed at the parameters, after a layer, at the end, or later."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from emorl_lite.ensemble.layers import LayerEnsemble, blocks
from emorl_lite.methods.bench import OBJECTIVE_RUNS, Bench, Budget
from emorl_lite.methods.emorl import EMORL
from emorl_lite.methods.mod import LinearPool
from emorl_lite.methods.rewarded_soups import ExactAverage, RewardedSoups
from emorl_lite.search.pareto import utility_weights

Replies = Callable[[Sequence[str], Sequence[Sequence[float]]], list[list[str]]]
"""(prompts, weight vectors) -> replies, a list a weight vector."""


def places(bench: Bench, budget: Budget = "shared") -> dict[str, Replies]:
    """Every place by its name, from the earliest to the latest, as a function of prompts and weights. The adapters must be loaded."""

    def of(cls: type[EMORL] | type[RewardedSoups]) -> Replies:
        return cls(bench, budget).replies_at

    count = len(blocks(bench.lm)[0]) if not bench.lm.seq2seq else 0

    def after(layer: int) -> Replies:
        return lambda prompts, weight_rows: [LayerEnsemble(bench.lm, bench.adapters(budget), layer, w).reply(prompts) for w in weight_rows]

    by_place: dict[str, Replies] = {"soup of A and B": of(RewardedSoups), "parameters": of(ExactAverage)}
    by_place |= {f"after layer {k}": after(k) for k in range(1, count)}
    if count:
        by_place["before the final norm"] = after(count)
    return by_place | {"last hidden state": of(EMORL), "probabilities": of(LinearPool)}


def scores_by_place(bench: Bench, prompts: Sequence[str], steps: int, budget: Budget = "shared") -> pd.DataFrame:
    """Mean scores on the prompts at every place and weight vector of the grid.

    Columns: runs (the study's name for those with this budget), level, w_<objective>, validation_mean (on the bench's validation prompts,
    to choose weights by), objectives, mean.
    """
    weight_grid = utility_weights(len(bench.names), steps).tolist()
    rows = []
    for place, replies_at in places(bench, budget).items():
        on_validation, on_test = replies_at(bench.validation_prompts, weight_grid), replies_at(prompts, weight_grid)
        for weights, validation_replies, replies in zip(weight_grid, on_validation, on_test, strict=True):
            row = {"runs": OBJECTIVE_RUNS[budget], "level": place, **{f"w_{name}": w for name, w in zip(bench.names, weights, strict=True)}}
            row |= {"validation_mean": bench.objectives.means(bench.validation_prompts, validation_replies)["mean"]}
            rows.append(row | bench.objectives.means(prompts, replies))
    return pd.DataFrame(rows)
