"""Sentences of notebook 07 on a base that reward models guide: built from the numbers beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emorl_lite.base.wording import counted, listing, number, told
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.study.comparison import paired, representative


def pair_reading(names: Sequence[str], scores: np.ndarray, logp: Sequence[float], loss: float) -> str:
    """Who prefers which of two replies. `scores` [2, d]: the objectives'; `logp` [2]: the base's log-probabilities; `loss`: of the first
    objective's reward model before its first step.
    """
    first = [name for name, gap in zip(names, scores[0] - scores[1], strict=True) if gap > 0]
    second = [name for name, gap in zip(names, scores[0] - scores[1], strict=True) if gap < 0]
    sides = [f"{side} for {listing(who)}" for side, who in (("the first", first), ("the second", second)) if who]
    ties = len(names) - len(first) - len(second)
    text = f"The better reply is {' and '.join(sides)}" if sides else "No objective prefers either reply"
    text += f"; {counted(ties, 'objective')} cannot tell them apart. " if ties else ". "
    likelier = "the first" if logp[0] > logp[1] else "the second"
    undecided = float(np.log(2))
    so_far = "prefers the worse one" if loss > undecided else "prefers the better one"
    return (
        f"{text}A reward model that has learnt nothing is the base, and prefers what is likelier, {likelier} (log-probability "
        f"{number(max(logp), 1)} against {number(min(logp), 1)}). Its loss for {names[0]} is {number(loss)}, log 2 = {number(undecided)} "
        f"if it preferred neither: so far it {so_far}."
    )


def words_reading(base: np.ndarray, untrained: np.ndarray, guided: np.ndarray) -> str:
    """Probabilities [V] of the next word: of the base, of a base that untrained reward models guide, and of the guided one."""
    same = "stays the same" if base.argmax() == untrained.argmax() else "is another"
    moved = float(np.abs(guided - untrained).sum()) / 2
    return (
        f"Reward models that are still the base leave the order of words: the likeliest {same}, but its probability goes from "
        f"{number(float(base.max()))} to {number(float(untrained.max()))}: the base, colder. What they have learnt moves "
        f"{number(moved)} of the probability to other words."
    )


def map_reading(scored: ScoredMap) -> str:
    """How many replies a guided base has over all weights."""
    sizes = [len(indices) for indices in scored.map.indices]
    heard = sum(size > 1 for size in sizes)
    return (
        f"All weight vectors of {counted(len(sizes), 'client')}: {counted(sum(sizes), 'region')}, at most {max(sizes)} for one client. "
        f"For {'all' if heard == len(sizes) else heard or 'none'} of them the weights change the reply."
    )


def study_reading(rows: pd.DataFrame, metrics: pd.DataFrame, against: Sequence[str] = ("base", "uniform", "emorl")) -> str:
    """GenARM in the study: `rows`, and `metrics` (method, seed, hypervolume) of the sweeps. Differences paired by seed, 95 % intervals."""
    if "genarm" not in set(rows["method"]):
        return "The committed study has no run of GenARM yet."
    chosen = representative(rows)
    others = [name for name in against if name in set(chosen["method"])]
    parts = [f"{name} {told(paired(chosen, 'genarm', name))}" for name in others]
    text = "GenARM in the study, with the same number of replies: its greedy replies' mean score less that of another method: "
    text += ", ".join(parts)
    if "sampled_mean" in chosen:
        text += "; of sampled replies " + ", ".join(f"{name} {told(paired(chosen, 'genarm', name, 'sampled_mean'))}" for name in others)
    swept = [name for name in others if {name, "genarm"} <= set(metrics["method"])]
    if swept:
        text += "; hypervolume " + ", ".join(f"{name} {told(paired(metrics, 'genarm', name, 'hypervolume'))}" for name in swept)
    return f"{text}. These are scores at whatever distance from the base each method went; notebook 06 compares at equal distance."
