"""What notebook 05 says of one run's exact map: its numbers in sentences that are right whichever way they come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.polytopes import TOLERANCE
from emorl_lite.base.shown_text import as_markdown
from emorl_lite.base.wording import counted, number, percent, span
from emorl_lite.exact.exact_map import ExactMap, Region
from emorl_lite.exact.optimum import Optimum
from emorl_lite.exact.overlay import Overlay, overlay
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.readings.search import portion, shown_gap, triangle_of

SEEN = 0.001
"""A step of the mean that three digits show."""


def pieces_reading(pieces: Sequence[tuple[float, float, int]], words: Sequence[str], first: str, second: str) -> str:
    """The words that win on the line between two adapters. `pieces`: (start, end, number of the word), as weights of the second."""
    if len(pieces) == 1:
        return f"One word wins all along the line from {first} to {second}: “{as_markdown(words[0])}”."
    spans = [f"from {number(start, 3)} to {number(end, 3)}" for start, end, _ in pieces]
    parts = [f"“{as_markdown(word)}” {where}" for word, where in zip(words, spans, strict=True)]
    return f"Along the weight of {second}: {', '.join(parts)}."


def shares_reading(shares: Mapping[str, float]) -> str:
    """How the triangle is cut by one decision. `shares`: of each word the part of the area where it wins."""
    parts = [f"“{as_markdown(word)}” {portion(share)}" for word, share in sorted(shares.items(), key=lambda item: -item[1])]
    if len(parts) == 1:
        return f"One word wins everywhere: {parts[0]} of the triangle."
    return f"{counted(len(parts), 'word')} can be the next one: {', '.join(parts)} of the triangle. No other word can win at any weights."


def one_map_reading(scored: ScoredMap, row: int) -> str:
    """What the map of one prompt holds: how many replies, the largest region, the best reply."""
    regions = scored.regions(row)
    if len(regions) == 1:
        return "Every weight vector gives this client the same reply."
    best, largest = regions.iloc[int(regions["mean"].argmax())], regions.iloc[0]
    small = int((regions["share"] < 1e-2).sum())
    different = counted(regions["reply"].nunique(), "different reply", "different replies")
    return (
        f"{counted(len(regions), 'region')} with {different}: all that any weights can say to this client. The largest holds "
        f"{portion(largest['share'])} of all weights and scores {number(largest['mean'])}; the best reply scores {number(best['mean'])} "
        f"and is given on {portion(best['share'])} of them. {counted(small, 'region')} {'is' if small == 1 else 'are'} smaller than 1 %."
    )


def size_reading(scored: ScoredMap, seconds: float) -> str:
    """How large the map of all prompts is, and what rounding leaves open of it."""
    regions = [len(indices) for indices in scored.map.indices]
    at_risk = f"such choices stand on the way to the replies of {percent(scored.map.at_risk)} of the weights."
    ties = f" {scored.map.ties}; {at_risk}" if scored.map.ties.decisions else ""
    return (
        f"All weights, {counted(len(regions), 'client')}: **{counted(len(scored.map.regions), 'region')}** "
        f"({span(min(regions), max(regions), 0)} a client) from {counted(scored.map.rows_read, 'prefix', 'prefixes')}, decoded and scored "
        f"in {number(seconds, 0)} s.{ties}"
    )


def cover_check(found: ExactMap, weights: np.ndarray) -> pd.Series:
    """How many (prompt, weight vector) pairs lie inside no region, one, or several: index 0, 1, .. `weights` [n, d] on the simplex.

    A pair that is on a border, within the tolerance, is left out. Unlike summed areas a hole and an overlap cannot cancel.
    """
    counts = []
    for row in range(len(found.indices)):
        distances = np.array([(weights @ region.piece.facets.T).min(1) for region in found.of(row)])  # [G, n]
        clear = (np.abs(distances) > 10 * TOLERANCE).all(0)
        counts.append((distances[:, clear] > 0).sum(0))
    return pd.Series(np.concatenate(counts)).value_counts().sort_index()


def cover_reading(found: ExactMap, weights: np.ndarray) -> str:
    """Whether the regions cover the simplex once: by points (`cover_check`) and by summed areas."""
    counts = cover_check(found, weights)
    area = max(abs(found.measure(row) - 1) for row in range(len(found.indices)))
    wrong = int(counts.drop(1, errors="ignore").sum())
    what = "all lie in exactly one region" if not wrong else f"{wrong:,} do not lie in exactly one region"
    return (
        f"Of {counted(int(counts.sum()), 'pair')} of a client and a random weight vector {what}. The summed areas differ from that of the "
        f"whole triangle by {max(area, 1e-16):.0e} at most."
    )


def deepest_reading(regions: Sequence[Region], decoded: Sequence[str]) -> str:
    """Each region's deepest point, decoded the ordinary way, beside the region's reply. `decoded`: a reply a region, in their order."""
    wrong = [region for region, text in zip(regions, decoded, strict=True) if region.reply != text]
    tiny = [region for region in regions if region.piece.measure < 1e-4]
    what = f"all {len(decoded)} regions" if not wrong else f"{len(decoded) - len(wrong)} of {len(decoded)} regions"
    text = (
        f"Decoded at its deepest point, the reply is that of the map in {what}, {len(tiny)} of which are smaller than 10⁻⁴ of the triangle "
        "(random weights would hardly ever meet those)."
    )
    if not wrong:
        return text
    radius = max(region.piece.deepest[1] for region in wrong)
    return f"{text} Where it is not, the deepest point is {radius:.0e} from a border at most: rounding decides there."


def candidates_reading(words: Sequence[str], vocabulary: int, kept: Sequence[int], shown: int = 8) -> str:
    """How many tokens can still win. `words`: those left to the client that is followed; `kept`: how many are left to each client."""
    named = ", ".join(f"“{as_markdown(word)}”" for word in words[:shown]) + (", …" if len(words) > shown else "")
    remaining = f"{len(words)} of {vocabulary:,} tokens {'is' if len(words) == 1 else 'are'} left ({named})"
    return (
        f"At the start of this client's reply {remaining}; no other can ever win. Over all {counted(len(kept), 'client')} the number "
        f"left is {span(min(kept), max(kept), 0)}. So a prefix that has been read once is decided for any further weights without the "
        "model."
    )


def benchmark_reading(speed: Mapping[str, Any]) -> str:
    """Random weights decoded the ordinary way beside the map, in the benchmark (data/results/search_speed.json)."""
    compared, near_border, share = speed["agreement_weights"], speed["agreement_near_border"], speed["exact_map_agreement"]
    return (
        f"The benchmark (`benchmarks/search.py`) decodes {compared:,} random weight vectors: {'all' if share == 1 else portion(share)} of "
        f"those farther than 10⁻⁵ from a border agree; {near_border or 'none'} {'was' if near_border < 2 else 'were'} nearer, where "
        "single-precision rounding can decide."
    )


def optimum_reading(optimum: Optimum, cells: Overlay, promised: Mapping[str, float]) -> str:
    """The exact optimum, its cell, where it lies, and how far below it each search ended. `promised`: best mean by search."""
    if len(cells.weights) == 1:
        return f"The overlay has 1 cell: no client's reply depends on the weights, and all of them score **{number(optimum.value, 4)}**."
    size = f"{optimum.piece.measure:.1e}" if optimum.piece.measure < 1e-4 else portion(optimum.piece.measure)
    ends = [
        f"{name} promised {number(value, 4)}, "
        + (f"{number(below, 4)} below it" if (below := shown_gap(optimum.value, value, 4)) > 0 else "the optimum to four digits")
        for name, value in promised.items()
    ]
    holds = f" Of notebook 04's four it lies in {triangle_of(optimum.weights, cells.names)}." if len(cells.names) == 3 else ""
    return (
        f"The overlay has {counted(len(cells.weights), 'cell')}. The optimum is **{number(optimum.value, 4)}** at "
        f"({', '.join(number(w, 3) for w in optimum.weights)}); its cell is {size} of the simplex, and the weights may move by "
        f"{number(optimum.radius, 4) if optimum.radius >= 1e-4 else f'{optimum.radius:.0e}'} in any direction without changing any "
        f"client's reply. {'; '.join(ends)}.{holds}"
    )


def landscape_reading(scored: ScoredMap, cells: Overlay, optimum: Optimum) -> str:
    """What blind, uniform and near-best weights are worth."""
    near = float(cells.measure[cells.scores.mean(1) >= 0.99 * optimum.value].sum())
    uniform = scored.means([1.0] * len(scored.map.corners)).mean()
    return (
        f"Weights drawn blindly score {number(float(scored.expected().mean()), 3)} on average, uniform weights "
        f"{number(float(uniform), 3)}, and {portion(near)} of the simplex comes within 1 % of the optimum."
    )


def margin_reading(scored: ScoredMap, optimum: Optimum) -> str:
    """How far the weights of the optimum may move before a reply changes: the nearest of all prompts, and the others."""
    margins = scored.map.margins(optimum.weights)[0]
    if not np.isfinite(margins).any():
        return "No reply depends on the weights: they may move anywhere."
    nearest, middle, client = float(np.nanmin(margins)), float(np.nanmedian(margins)), int(np.nanargmin(margins)) + 1
    text = (
        f"The nearest border is that of client {client}: the weights may move by {number(nearest, 4)} in any direction before that reply "
        f"changes. For the median client it is {number(middle, 4)}"
    )
    if middle > 3 * nearest:
        return f"{text}: the cell is as small as it is because {counted(len(margins), 'client')} cut it, each along borders of its own."
    return f"{text}."


def front_reading(cells: Overlay) -> str:
    """How many mean score vectors can be had, and the fairest of them."""
    fairest = cells.scores[cells.best(lambda s: s.min(1))]
    front = len(np.unique(cells.scores[cells.pareto].round(12), axis=0))
    parts = ", ".join(f"{name} {number(x, 3)}" for name, x in zip(cells.names, fairest, strict=True))
    return (
        f"{counted(len(cells.achievable), 'mean score vector')} can be had, {front:,} of them on the front. Any wish can be asked of them; "
        f"for instance the best *worst* objective is {number(fairest.min(), 3)}, with {parts}."
    )


def pair_reading(scored: ScoredMap) -> str:
    """A map of two objectives: how often replies change, where the mean is best, and at how many borders the mean moves."""
    first, second = scored.map.corners
    changes = [len(indices) - 1 for indices in scored.map.indices]
    cells = overlay(scored)
    means, best = cells.scores.mean(1), cells.best()
    borders, steps = len(means) - 1, np.abs(np.diff(means))
    if not borders:
        return f"No reply changes on the way from {first} to {second}: the mean is {number(means[0], 3)} everywhere."
    fewest, most = min(changes), max(changes)
    often = counted(fewest, "time") if fewest == most else f"{fewest} to {most} times"
    text = (
        f"On the way from {first} to {second} a client's reply changes {often}; {counted(len(changes), 'client')} together have "
        f"{counted(borders, 'border')}. "
    )
    if not (moved := int((steps > SEEN).sum())):
        return text + f"The mean is a step function and moves at none of them by more than {SEEN}: it is {number(means[best], 3)} at best."
    best_weight = number(cells.weights[best, 1])
    unended = " (A reply that does not end scores 0, wherever it stands.)" if (scored.mean <= 0).any() else ""
    return text + (
        f"The mean is a step function: a border is where some client's reply changes, and at {moved} of {borders} the mean moves by more "
        f"than {SEEN}, most by {number(steps.max(), 3)}. It is best, {number(means[best], 3)}, at a weight of {best_weight} for {second}."
        f"{unended}"
    )


def strength_reading(scored: ScoredMap, usual: float = 1.0) -> str:
    """The map along one knob: how often replies change, the mean at both ends, at the usual value, and at the best one."""
    usually, knob = scored.map.corners[1], scored.map.domain.knobs[0]
    changes = [len(indices) - 1 for indices in scored.map.indices]
    cells = overlay(scored)
    means, best = cells.scores.mean(1), cells.best()
    low, high = float(cells.outlines[0][0, 1]), float(cells.outlines[-1][1, 1])
    if len(means) == 1:
        return f"No reply changes for a {knob} of {low:g} to {high:g}: the mean is {number(means[0], 3)} everywhere."
    at, usual_mean = float(cells.weights[best, 1]), float(scored.means([[usual]]).mean())
    gain = means[best] - usual_mean
    side = "no better than" if gain < SEEN else f"{number(gain, 3)} above"
    where = f", {'below' if at < usual else 'above'} {usual:g}" if gain >= SEEN else ""
    return (
        f"For a {knob} of {low:g} to {high:g} a client's reply changes {span(min(changes), max(changes), 0)} times. The mean is "
        f"{number(means[0], 3)} at {low:g}, {number(usual_mean, 3)} at {usual:g} ({usually} as it is), and {number(means[-1], 3)} at "
        f"{high:g}. The best is **{number(means[best], 3)}** at {number(at)}{where}: {side} {usually} as it is."
    )
