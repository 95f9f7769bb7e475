"""What is said of GDPO (notebook 06) and of Bone Soups (notebook 07), from the numbers beside it, and of a study without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emorl_lite.base.wording import counted, listing, number, signed, told
from emorl_lite.methods.gdpo import KL_TIMES
from emorl_lite.study.comparison import paired, representative


def _measured(rows: pd.DataFrame, name: str) -> bool:
    return "method" in rows and name in set(rows["method"])


def gdpo_reading(rows: pd.DataFrame) -> str:
    """How the study trains GDPO, and what it is worth beside GRPO. `rows`: the study's."""
    text = (
        'The study trains both with the library TRL (*gdpo*: `multi_objective_aggregation="normalize_then_sum"`). GDPO\'s advantages have '
        f"standard deviation 1, so its KL weight is {KL_TIMES:g} times the others': of three factors the one whose runs ended nearest to "
        "GRPO's distance from the base (validation clients, other seeds)."
    )
    if not (_measured(rows, "gdpo") and _measured(rows, "grpo")):
        return f"{text} The committed tables have no run of *gdpo* yet."
    chosen = representative(rows)
    text = f"{text} GDPO less GRPO, greedy mean score: {told(paired(chosen, 'gdpo', 'grpo'))}"
    if "sampled_mean" in chosen:
        text += f"; sampled {told(paired(chosen, 'gdpo', 'grpo', 'sampled_mean'))}"
    if "kl" in chosen:
        kl = chosen.groupby("method")["kl"].mean()
        text += f"; KL {number(kl['gdpo'])} and {number(kl['grpo'])} nats"
    return f"{text}."


def undone_reading(names: Sequence[str], wanted: int, shares: np.ndarray) -> str:
    """The coefficients for one objective alone. `shares` [d]: of the backbones, in the objectives' order."""
    told_shares = listing([f"{signed(float(x))} of {name}'s" for name, x in zip(names, shares, strict=True)])
    others = [float(x) for i, x in enumerate(shares) if i != wanted]
    turn = "subtracted" if max(others) < 0 else "added" if min(others) > 0 else "left out" if not any(others) else "not treated alike"
    return f"For {names[wanted]} alone: {told_shares}. The other backbones are {turn}, and the coefficients sum to {number(sum(shares))}."


def merged_reading(names: Sequence[str], backbone: np.ndarray, merged: np.ndarray) -> str:
    """What undoing the mixture brought. `backbone`, `merged` [d]: each objective's mean score under its own backbone, and merged for it."""
    gains = np.asarray(merged) - np.asarray(backbone)
    told_gains = listing([f"{name} {signed(float(g))}" for name, g in zip(names, gains, strict=True)])
    up = int((gains.round(3) > 0).sum())  # as they are told
    return (
        f"Merged for one objective alone less that objective's backbone: {told_gains}. It is higher for {up} of {len(gains)}. "
        "These backbones were trained for a moment only; the study's have a budget."
    )


def bone_soups_reading(metrics: pd.DataFrame) -> str:
    """Bone Soups beside the exact average of specialists of single rewards. `metrics`: method, seed, hypervolume, steered."""
    pairs = [("bone-soups", "exact-average"), ("bone-soups-long", "exact-average-long")]
    there = [(a, b) for a, b in pairs if _measured(metrics, a) and _measured(metrics, b)]
    if not there:
        return "The committed tables have no run of Bone Soups yet."
    found = {(a, column): paired(metrics, a, b, column) for a, b in there for column in ("hypervolume", "steered")}
    text = "; ".join(
        f"*{a}* less *{b}*: hypervolume {told(found[a, 'hypervolume'])}, steered {told(found[a, 'steered'])}" for a, b in there
    )
    above = sum(estimate["low"] > 0 for estimate in found.values())
    below = sum(estimate["high"] < 0 for estimate in found.values())
    seeds = counted(int(metrics["seed"].nunique()), "seed")
    verdict = f"by their intervals, of these {counted(len(found), 'difference')} {above or 'none'} above 0, {below or 'none'} below"
    return f"Over {seeds}, mean [95 % interval], {text}: {verdict}."
