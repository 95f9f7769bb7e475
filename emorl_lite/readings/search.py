"""What notebook 04 says of one run's search and exact map: its numbers in sentences that are right whichever way they come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.shown_text import as_markdown
from emorl_lite.base.wording import counted, listing, number, span
from emorl_lite.exact.optimum import Optimum
from emorl_lite.exact.overlay import Overlay, overlay
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.search.score_table import DEGENERATE, SearchResult


def portion(share: float) -> str:
    """A share of all weights: "12.34 %", "under 0.01 %", "over 99.99 %"; "100 %" and "0 %" only for all and none."""
    if share >= 1 - 1e-9 or share <= 0:
        return "100 %" if share > 0 else "0 %"
    return "under 0.01 %" if share < 1e-4 else "over 99.99 %" if share >= 0.9999 else f"{share:.2%}".replace("%", " %")


def shown_gap(a: float, b: float, digits: int = 3) -> float:
    """The difference of two numbers as `digits` digits show them, so that it agrees with what stands beside it."""
    return round(round(a, digits) - round(b, digits), digits)


def ranks_first(values: Mapping[str, float], digits: int = 3) -> str:
    """The name of the highest value; all names that are as high in `digits` digits."""
    return listing([name for name, value in values.items() if shown_gap(max(values.values()), value, digits) <= 0])


def levels_reading(table: pd.DataFrame) -> str:
    """What the levels of a search found. Columns: level, mean, note (a row a listed point)."""
    levels = table.groupby("level")["mean"].agg(["min", "max"])
    first, last, best = levels.iloc[0], levels.iloc[-1], levels["max"].max()
    zero = " (the zero vector says nothing)" if (table.loc[table["level"] == levels.index[0], "note"] == DEGENERATE).any() else ""
    text = f"At the first level the mean reward ranges from {number(first['min'], 3)}{zero} to {number(first['max'], 3)}"
    if len(levels) == 1:
        return f"{text}."
    scores = span(last["min"], last["max"], 3)
    text += f"; at the last {'from' if ' to ' in scores else 'all have'} {scores}. "
    gain = best - first["max"]
    if gain <= 0:
        return text + "No later level found anything better than the first."
    best_text = f"The best was found at level {levels['max'].idxmax()}"
    return text + (
        f"{best_text}, {number(shown_gap(best, first['max']), 3)} above the best of level 1."
        if shown_gap(best, first["max"]) > 0
        else f"{best_text}, but level 1 had one as good to three digits."
    )


def spaces_reading(simplex: SearchResult, cube: SearchResult) -> str:
    """The search on the simplex beside the one on the cube: work and result."""
    simplex_best, cube_best = float(simplex.table["mean"].max()), float(cube.table["mean"].max())
    gap = shown_gap(simplex_best, cube_best)
    fewer = cube.evaluated - simplex.evaluated
    cost = f"{counted(abs(fewer), 'weight vector')} {'fewer' if fewer > 0 else 'more'}" if fewer else "as many weight vectors"
    result = "the same to three digits" if not gap else f"{number(abs(gap), 3)} {'higher' if gap > 0 else 'lower'}"
    return (
        f"On the simplex: {simplex.listed} points listed, {simplex.evaluated} decoded, best mean {number(simplex_best, 3)} at "
        f"({', '.join(number(w, 3) for w in simplex.best)}). On the cube: {cube.evaluated} decoded, {number(cube_best, 3)}. So the simplex "
        f"search decodes {cost}, and its result on these clients is {result}."
    )


def candidates_reading(words: Sequence[str], vocabulary: int, kept: Sequence[int], shown: int = 8) -> str:
    """How many tokens can still win. `words`: those left to the first client; `kept`: how many are left to each client."""
    named = ", ".join(f"“{as_markdown(word)}”" for word in words[:shown]) + (", …" if len(words) > shown else "")
    remaining = f"{len(words)} of {vocabulary:,} tokens {'is' if len(words) == 1 else 'are'} left ({named})"
    return (
        f"At the start of the first client's reply {remaining}; no other can ever win. Over all {counted(len(kept), 'client')} the number "
        f"left is {span(min(kept), max(kept), 0)}. A prefix that has been read once is decided for any further weights without the "
        "model."
    )


def speed_reading(speed: Mapping[str, Any]) -> str:
    """The benchmark of the prefix tree, data/results/search_speed.json."""

    def times(ratio: float) -> str:
        return f"{number(ratio, 0 if ratio >= 10 else 1)} times as fast as"

    identical = speed["identical_replies"]
    return (
        f"Measured (`benchmarks/search.py`, {speed['points']} points × {speed['prompts']} prompts × 32 tokens, one CPU thread): the "
        f"tree is **{times(speed['speedup_over_reference'])}** the published algorithm (merged copies of the model, no cache, point "
        f"after point) and {times(speed['speedup_over_cached'])} the cached ensemble of notebook 03; "
        f"{'all' if identical == 1 else portion(identical) + ' of the'} replies are identical. At 64 tokens it is "
        f"{times(speed['speedup_over_reference_64'])} the published algorithm."
    )


def agreement_reading(same: int, n: int, speed: Mapping[str, Any]) -> str:
    """Random weights decoded the ordinary way beside the map: here, and in the benchmark (data/results/search_speed.json)."""
    agreeing = f"All {n}" if same == n else f"{same} of {n}"
    compared, near_border, share = speed["agreement_weights"], speed["agreement_near_border"], speed["exact_map_agreement"]
    return (
        f"{agreeing} random weight vectors give the reply of the map. (The benchmark asks {compared:,}: "
        f"{'all' if share == 1 else portion(share)} of those farther than 10⁻⁵ from a border agree; {near_border or 'none'} "
        f"{'was' if near_border < 2 else 'were'} nearer, where single-precision rounding can decide.)"
    )


def optimum_reading(optimum: Optimum, cells: Overlay, promised: Mapping[str, float]) -> str:
    """The exact optimum, its cell, and how far below it each search ended. `promised`: best mean by search."""
    if len(cells.weights) == 1:
        return f"The overlay has 1 cell: no client's reply depends on the weights, and all of them score **{number(optimum.value, 4)}**."
    size = f"{optimum.piece.measure:.1e}" if optimum.piece.measure < 1e-4 else portion(optimum.piece.measure)
    ends = [
        f"{name} promised {number(value, 4)}, "
        + (f"{number(below, 4)} below it" if (below := shown_gap(optimum.value, value, 4)) > 0 else "the optimum to four digits")
        for name, value in promised.items()
    ]
    return (
        f"The overlay has {counted(len(cells.weights), 'cell')}. The optimum is **{number(optimum.value, 4)}** at "
        f"({', '.join(number(w, 3) for w in optimum.weights)}); its cell is {size} of the simplex, and the weights may move by "
        f"{number(optimum.radius, 4) if optimum.radius >= 1e-4 else f'{optimum.radius:.0e}'} in any direction without changing any "
        f"client's reply. {'; '.join(ends)}."
    )


def triangle_reading(took: str, holds: str, cells: int) -> str:
    """Which triangle the search of the simplex took at its first level, and which holds the optimum (the middle of its cell)."""
    if cells == 1:
        return f"At its first level the search of the simplex took {took}; here every triangle is as good."
    if took == holds:
        return f"At its first level the search of the simplex took {took}, which holds this optimum."
    return f"At its first level the search of the simplex took {took}; this optimum lies in {holds}."


def pair_reading(scored: ScoredMap) -> str:
    """A map of two objectives: how often replies change, where the mean is best, and how many steps it has."""
    first, second = scored.map.objectives
    changes = [len(indices) - 1 for indices in scored.map.indices]
    cells = overlay(scored)
    means, best = cells.scores.mean(1), cells.best()
    borders, jumps = len(means) - 1, int((np.abs(np.diff(means)) > 1e-9).sum())
    if not borders:
        return f"No reply changes on the way from {first} to {second}: the mean is {number(means[0], 3)} everywhere."
    fewest, most = min(changes), max(changes)
    often = counted(fewest, "time") if fewest == most else f"{fewest} to {most} times"
    if jumps:
        weight = number(cells.weights[best, 1])
        steps = f"the mean is best, {number(means[best], 3)}, at a weight of {weight} for {second}. It is a step function and jumps at"
    else:
        steps = f"the mean is {number(means[0], 3)} everywhere. It could jump where a reply changes, and does so at"
    return (
        f"On the way from {first} to {second} a client's reply changes {often}, and {steps} "
        f"{jumps} of {counted(borders, 'border')}. A reply that does not end scores 0, wherever it stands."
    )


def verdict_reading(summary: pd.DataFrame, confirmed: pd.DataFrame, singles: Sequence[str]) -> str:
    """The ensemble on fresh clients beside base and single-objective models, against its interval.

    `summary`: columns policy, mean. `confirmed`: of the ensemble, columns objective (with a row "mean"), promised, fresh, low, high.
    """
    means = summary.set_index("policy")["mean"]
    mean_row: Any = confirmed.set_index("objective").loc["mean"]
    half = (mean_row["high"] - mean_row["low"]) / 2
    best = {name: float(means[name]) for name in singles}

    def beside(value: float) -> str:
        lead = means["ensemble"] - value
        return "clearly above" if lead > 2**0.5 * half else "clearly below" if lead < -(2**0.5) * half else "not clearly apart from"

    top = max(best.values())
    return (
        f"On test clients the ensemble reaches {number(means['ensemble'], 3)} ± {number(half, 3)}; validation had promised "
        f"{number(mean_row['promised'], 3)}, {_gap_text(shown_gap(mean_row['promised'], means['ensemble']))}. "
        f"It is {beside(means['base'])} "
        f"the base ({number(means['base'], 3)}) and {beside(top)} the best single-objective model ({ranks_first(best)}, {number(top, 3)}). "
        "(Clearly: by more than √2 times the half-width of its interval, a rule of thumb.)"
    )


def _gap_text(gap: float) -> str:
    return "as much" if not gap else f"{number(abs(gap), 3)} {'more' if gap > 0 else 'less'}"
