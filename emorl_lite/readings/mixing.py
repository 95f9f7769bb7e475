"""What notebook 03 says of mixing adapters: its numbers in sentences that are right whichever way they come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.wording import counted, listing, number, part, percent
from emorl_lite.lm.devices import type_name
from emorl_lite.search.score_table import weight_columns

PAYS = 0.8
"""One batch that takes less than this share of the separate runs' time is clearly cheaper."""
SAME = 5e-4
"""Means that are this near are equal in three digits."""
APART = 3.6
"""The largest and the smallest of four means are clearly apart if they differ by more than this many of their standard errors."""
STRAIGHT = 0.01
"""What is off a straight line by less than this part of the distance between its ends lies on it, up to rounding."""


def rounding_reading(mixed: float, product: float, largest: float, dtype: torch.dtype = torch.float32) -> str:
    """Whether two ways to mix give the same numbers.

    `mixed`, `product`: the largest differences of the logits and of the log-probabilities; `largest`: the largest logit; `dtype`: the
    model's.
    """
    kind, rounding = type_name(dtype), 64 * torch.finfo(dtype).eps * max(largest, 1.0)
    explained = max(mixed, product) <= rounding
    return (
        f"the logits of the mixed hidden state and the mixed logits differ by at most **{mixed:.0e}**, and the log-probabilities of the "
        f"product of experts by at most **{product:.0e}**, where logits reach {largest:.0f}: "
        + (f"the rounding of {kind}." if explained else f"**more** than the rounding of {kind} explains.")
    )


def by_hand_reading(mine: Sequence[str], theirs: Sequence[str], dtype: torch.dtype = torch.float32) -> str:
    """Whether the loop of the notebook and the package write the same replies. `dtype`: the model's."""
    k = sum(a == b for a, b in zip(mine, theirs, strict=True))
    text = f"The loop and `EnsembleLM` write the same to {part(k, len(mine), 'client')}"
    if k == len(mine):
        return f"{text}, word for word."
    return f"{text}; they add up in another order, and in {type_name(dtype)} rounding decides where two words are nearly level."


def favourites_reading(nobody: int, positions: int, replies: int) -> str:
    """How often the mixture says a word that is no adapter's favourite: at `nobody` of the positions of its own replies."""
    where = f"{counted(positions, 'position')} of {counted(replies, 'reply', 'replies')}"
    if not nobody:
        return f"At none of {where} does the mixture say a word that is no adapter's favourite: here it always follows one of them."
    return (
        f"At **{nobody:,}** of {where} ({percent(nobody / positions)}) the mixture says a word that is **no** adapter's favourite. The "
        "weights do not choose whom to follow: a word that all find good can beat every favourite."
    )


def bends_reading(bends: pd.DataFrame) -> str:
    """Which scores are straight lines in the weights. Columns: place, "off the line", "between the ends" (both largest over all words)."""
    ratio = bends["off the line"] / bends["between the ends"]
    straight = [str(place) for place in bends.loc[ratio < STRAIGHT, "place"]]
    bent = [f"{place} by {percent(share)}" for place, share in zip(bends["place"], ratio, strict=True) if share >= STRAIGHT]
    verb = "is a straight line" if len(straight) == 1 else "are straight lines"
    text = (
        f"Half-way between two adapters, {listing(straight)} {verb} in the weights, up to rounding" if straight else "None is straight here"
    )
    return (
        f"{text}; off the line, in parts of the distance between the ends, lie {listing(bent)}."
        if bent
        else f"{text}; nothing else is bent."
    )


def specialists_reading(same: Mapping[str, int], n: int, parted: int) -> str:
    """Whether all weight on one adapter gives that adapter's text.

    `same`: by adapter, to how many of the `n` clients ensemble and adapter write the same; `parted`: the fewest clients that get different
    texts from two of the adapters, without which the comparison would show nothing.
    """
    if min(same.values()) == n:
        text = f"With all weight on one adapter the ensemble writes that adapter's own text, word for word, to all {counted(n, 'client')}"
    else:
        text = "With all weight on one adapter the ensemble writes that adapter's own text to " + listing(
            [f"{k} of {n} clients ({name})" for name, k in same.items()]
        )
        text += "; the others differ where rounding decides between two words, or the mixing is at fault"
    if not parted:
        return f"{text}. Two of the {len(same)} adapters write the same to all of them: exchanged, they would go unnoticed here."
    part_at = f"all {counted(n, 'client')}" if parted == n else f"at least {parted} of {counted(n, 'client')}"
    return f"{text}. Any two of the {len(same)} adapters write different texts to {part_at}, so the comparison can tell them apart."


def temperature_reading(sizes: pd.DataFrame, clients: int) -> str:
    """What the size of the weights does, by ascending c.

    Columns: c, same (greedy replies as at c = 1), mean and error of sampled replies, and finished (the share of them), where it is known.
    """
    small, large = sizes.iloc[0], sizes.iloc[-1]
    gain, margin = large["mean"] - small["mean"], 2 * (large["error"] ** 2 + small["error"] ** 2) ** 0.5
    moved = int((sizes["same"] < clients).sum())
    verdict = "no clear change" if not abs(gain) > margin else "a clear rise" if gain > 0 else "a clear fall"
    ended = ""
    if "finished" in sizes and small["finished"] < 1:
        ended = f"At c = {small['c']:g} only {percent(small['finished'])} of the samples end at all, and one that does not earns nothing. "
    greedy = "while no greedy text moves" if not moved else f"while greedy texts move at {counted(moved, 'size')}, by rounding"
    return (
        f"The larger c, the nearer sampling comes to the greedy choice. From c = {small['c']:g} to c = {large['c']:g} the sampled mean "
        f"reward goes from {number(small['mean'])} ± {number(small['error'])} to {number(large['mean'])} ± {number(large['error'])} "
        f"(standard errors), {verdict}, {greedy}. {ended}Weights in a cube $[0, 1]^d$ therefore hold one dimension "
        "more than greedy decoding can see: notebook 04 comes back to this."
    )


def levels_reading(compared: pd.DataFrame, clients: int) -> str:
    """The levels at their best mixtures, and at the same weights. Columns: level, w_<objective>, mean, error (its standard error)."""
    weights = weight_columns(compared)
    inner = compared[compared[weights].max(axis=1) < 1]
    best = inner.loc[inner.groupby("level")["mean"].idxmax()].sort_values("mean", ascending=False, kind="stable")
    spread = round(best["mean"].max(), 3) - round(best["mean"].min(), 3)
    explained = (
        "more than these standard errors explain" if spread > APART * best["error"].mean() else "no more than these standard errors explain"
    )
    pivot = compared.pivot_table(index=weights, columns="level", values="mean")
    largest_gap = float((pivot.max(axis=1) - pivot.min(axis=1)).max())
    lead, n = "", len(best)
    if n > 1 and spread >= SAME:
        first, second = best.iloc[0], best.iloc[1]
        ahead = round(first["mean"], 3) - round(second["mean"], 3)
        clear = ahead > 2 * (first["error"] ** 2 + second["error"] ** 2) ** 0.5
        lead = (
            f"The first leads the second by {number(ahead, 3)}, {'more' if clear else 'no more'} than two standard errors of a difference. "
        )
    listed = ", ".join(f"{row['level']} **{number(row['mean'], 3)}** ± {number(row['error'], 3)}" for row in best.to_dict("records"))
    return (
        f"Best mean reward among the {len(inner) // n} weight vectors of this coarse grid that mix (no adapter has all): "
        f"{listed} (standard errors over {clients} clients, chosen and scored on the same ones). Read off the paper's plot: "
        "about 0.80 for hidden states, 0.71 for parameters and 0.60 for its unfairly compared probabilities. "
        + lead
        + (
            f"Here they all lie within {number(spread, 3)}, {explained}, for one training seed. "
            if spread >= SAME
            else "Here all are equal. "
        )
        + (
            f"At the same weights they differ by up to {number(largest_gap, 3)} (left panel)"
            if largest_gap >= SAME
            else "At the same weights they are equal, too"
        )
        + ". A weight vector means another thing in each of them, so weights that were searched for one are no fair test of the rest. "
        "Notebook 06 compares over several seeds."
    )


def weightings_reading(weightings: Sequence[str], replies: Sequence[str]) -> str:
    """Which weightings write the same to one client. `weightings`: in words, "0.5, 0.5, 0"; `replies`: theirs, in the same order."""
    by_text: dict[str, list[str]] = {}
    for weights, reply in zip(weightings, replies, strict=True):
        by_text.setdefault(reply, []).append(f"({weights})")
    text = f"{counted(len(replies), 'weighting')}, {counted(len(by_text), 'text')}"
    shared = [listing(group) for group in by_text.values() if len(group) > 1]
    if not shared:
        return f"{text}: each writes its own."
    return f"{text}: the same is written by {', and by '.join(shared)}. A reply belongs to a whole region of weights."


def cost_reading(cost: pd.DataFrame, adapters: int = 3) -> str:
    """What an ensemble costs beside its adapters one by one. Columns: batch, ratio (seconds of the ensemble to the sum of theirs)."""
    ratios = listing([f"{number(row['ratio'], 2)} times as long at batch {row['batch']:.0f}" for row in cost.to_dict("records")])
    cheap = [f"{batch:.0f}" for batch in cost.loc[cost["ratio"] < PAYS, "batch"]]
    if len(cheap) == len(cost):
        verdict = "Riding together pays."
    else:
        verdict = f"Riding together pays at batch {listing(cheap)} only." if cheap else "Riding together does not clearly pay here."
    return (
        f"The ensemble of {adapters} takes {ratios} as its adapters one after another; one of them alone would be about "
        f"{number(1 / adapters)}. {verdict} (Measured once: seconds vary with what else the machine does, and the "
        "replies need not have the same length.)"
    )


def level_comparison_alt(table: pd.DataFrame) -> str:
    """What `plots.level_comparison` draws. Columns: level, w_<objective>, mean."""
    levels: Sequence[str] = list(dict.fromkeys(table["level"]))
    ranges: Any = table.groupby("level")["mean"].agg(["min", "median", "max"])
    numbers = "; ".join(
        f"{level} {number(ranges.loc[level, 'min'])} to {number(ranges.loc[level, 'max'])}, median {number(ranges.loc[level, 'median'])}"
        for level in levels
    )
    points = len(table[weight_columns(table)].drop_duplicates())
    return (
        f"Two panels, mean score of {counted(points, 'weight vector')} for each of {counted(len(levels), 'way')} to combine the "
        f"adapters. Left: a marker each, the weight vectors ordered by the score of {levels[0]}. Right: a box a way, a marker at its "
        f"best. Ranges: {numbers}."
    )
