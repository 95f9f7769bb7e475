"""Where to aggregate: the same adapters, prompts and greedy decoding, mixed at the parameters, after a layer, at the end, or later."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from emorl_lite.layer_ensemble import LayerEnsemble, blocks
from emorl_lite.methods.base import Bench
from emorl_lite.methods.emorl import EMORL
from emorl_lite.methods.mod import MODForward
from emorl_lite.methods.rewarded_soups import ExactAverage, RewardedSoups
from emorl_lite.simplex_grid import compositions

Reply = Callable[[Sequence[str], Sequence[float]], list[str]]


def levels(bench: Bench) -> dict[str, Reply]:
    """Every level by its name, from the earliest to the latest, as a function of prompts and weights. The adapters must be loaded."""
    count = len(blocks(bench.lm)[0]) if not bench.lm.seq2seq else 0

    def after(layer: int) -> Reply:
        return lambda prompts, weights: LayerEnsemble(bench.lm, bench.names, layer, weights).reply(prompts)

    found: dict[str, Reply] = {"soup of A and B": RewardedSoups(bench).reply, "parameters": ExactAverage(bench).reply}
    found |= {f"after layer {k}": after(k) for k in range(1, count)}
    if count:
        found["before the final norm"] = after(count)
    return found | {"last hidden state": EMORL(bench).reply, "probabilities": MODForward(bench).reply}


def level_scores(bench: Bench, prompts: Sequence[str], steps: int) -> pd.DataFrame:
    """Mean scores on the prompts at every level and weight vector of the grid: columns level, w_<objective>, objectives, mean."""
    rows = []
    for level, reply in levels(bench).items():
        for point in compositions(len(bench.names), steps):
            weights = [step / steps for step in point]
            scores = bench.objectives(prompts, reply(prompts, weights)).double().mean(0)
            row = {"level": level, **{f"w_{name}": w for name, w in zip(bench.names, weights, strict=True)}}
            rows.append(row | dict(zip(bench.names, scores.tolist(), strict=True)) | {"mean": float(scores.mean())})
    return pd.DataFrame(rows)
