"""A scored map as tables: its regions, its Pareto front, its optimum beside simple weights.

Shapes: B prompts, S samples, G regions, K scores, d corners, n points of a front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.exact.optimum import Optimum, best_weights
from emorl_lite.exact.overlay import overlay, overlay_estimate
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.exact.support import convex_front
from emorl_lite.exact.worth import optimism
from emorl_lite.search.pareto import non_dominated

MOST_CELLS = 200_000
"""Of an overlay: some seconds. Beyond, the front is that of a grid."""
FEW_PROMPTS, MOST_LISTED = 8, 50_000
"""Prompts that an interval for new ones takes, and the cells of an overlay that is listed for it."""
MOST_REGIONS = 20_000
"""Of a map whose convex front is asked for: each point of it is an optimum."""
MOST_ASKS, CLOSE = 500, 1e-4
"""Optima that are asked for, and what is no improvement of a mean score."""
GRID_POINTS = 2000
"""Of the grid, at least, that stands in for a front."""
DIGITS = 9
"""Behind the point, of what comes from a linear programme."""


def regions_table(scored: ScoredMap) -> pd.DataFrame:
    """One row a region, prompt after prompt, the largest first.

    prompt (from 1), prompt_text, sample (from 1), share of the domain, reply, tokens, its scores and their mean, pareto (whether they are
    on the prompt's front), margin (radius of the largest ball inside), the weights at its middle (or the knobs' values there), and lead:
    the smallest lead of a word over the second best on the way, in units of rounding (empty: none comes near).
    """
    found = scored.map
    deepest = [region.piece.deepest for region in found.regions]
    middles = found.domain.values(np.array([weights for weights, _ in deepest]).reshape(len(deepest), len(found.corners)))
    pareto = np.zeros(len(found.regions), dtype=bool)
    for indices in found.indices:
        pareto[indices] = non_dominated(scored.scores[indices])
    columns: dict[str, Any] = {
        "prompt": [region.row // found.samples + 1 for region in found.regions],
        "prompt_text": [found.prompts[region.row // found.samples] for region in found.regions],
        "sample": [region.row % found.samples + 1 for region in found.regions],
        "share": [region.piece.measure for region in found.regions],
        "reply": [region.reply for region in found.regions],
        "tokens": [region.tokens for region in found.regions],
    }
    scores = _as_given(scored.scores)
    columns |= {name: scores[:, k] for k, name in enumerate(scored.names)}
    columns |= {"mean": scores.mean(1), "pareto": pareto, "margin": [round(radius, DIGITS) for _, radius in deepest]}
    columns |= {name: middles[:, k].round(DIGITS) for k, name in enumerate(found.domain.columns)}
    columns["lead"] = [region.lead if math.isfinite(region.lead) else math.nan for region in found.regions]
    table = pd.DataFrame(columns)
    return table.sort_values(["prompt", "sample", "share"], ascending=[True, True, False], ignore_index=True, kind="stable")


def _as_given(scores: np.ndarray) -> np.ndarray:
    """Scores [G, K] of single precision by their shortest digits: .9 as a reader's function gave it, not .8999999761581421."""
    single = scores.astype(np.float32)
    return np.array([float(str(x)) for x in single.flat]).reshape(scores.shape) if np.array_equal(single, scores) else scores


def front_table(scored: ScoredMap, memory: int) -> tuple[pd.DataFrame, str]:
    """The mean scores that no weights beat in all, one row each, and in words how they were found.

    Columns: weights (or knobs) that give them, the scores, their mean, and their share of the domain (empty but for an overlay).
    Exact for two or three corners, by the overlay of all regions; where that would be too large, and beyond, the convex front: what is best
    for some linear utility (of one score: the optimum). For maps beyond MOST_REGIONS the best of a grid.
    """
    rows = list(range(len(scored.map.indices)))
    if len(scored.map.corners) <= 3 and (size := overlay_estimate(scored, rows)).rows <= MOST_CELLS and size.bytes <= memory:
        cells = overlay(scored, memory=memory)
        return _front(scored, cells.weights, cells.scores, cells.measure), f"exact, of {len(cells.weights):,} cells"
    if len(scored.names) == 1:  # nothing is traded: the optimum
        best = best_weights(scored, memory=memory)
        how = "the optimum" if best.bound <= best.value + 1e-9 else f"the best found, and none has more than {best.bound:.4f}"
        return _front(scored, np.array([best.weights]), np.array([list(best.scores.values())])), how
    if len(scored.map.regions) <= MOST_REGIONS:
        found = convex_front(scored, tolerance=CLOSE, asks=MOST_ASKS)
        lacking = f"no linear utility has {found.missing:.2g} more" if found.missing else "nothing is missing"
        return _front(scored, found.weights, found.scores), f"best for some linear utility, {lacking}"
    steps = 1
    while len(points := scored.map.domain.grid(steps)) < GRID_POINTS:
        steps += 1
    located = scored.map.locate(points)
    whole = (located >= 0).all(1)
    return _front(scored, points[whole], scored.mean_scores(located[whole])), f"the best of a grid of {len(points):,} weights"


def _front(scored: ScoredMap, points: np.ndarray, scores: np.ndarray, shares: np.ndarray | None = None) -> pd.DataFrame:
    """The front's table from points [n, d], their mean scores [n, K], and their shares of the domain."""
    distinct, first, place = np.unique(scores.round(12), axis=0, return_index=True, return_inverse=True)
    best = np.flatnonzero(non_dominated(distinct))
    chosen = np.array([first[i] if shares is None else _largest(shares, place == i) for i in best])
    table = pd.DataFrame(scored.map.domain.values(points[chosen]).round(DIGITS), columns=scored.map.domain.columns)
    table[scored.names] = scores[chosen]
    table["mean"] = scores[chosen].mean(1)
    table["share"] = [math.nan if shares is None else shares[place == i].sum() for i in best]
    return table.sort_values("mean", ascending=False, ignore_index=True)


def _largest(shares: np.ndarray, members: np.ndarray) -> int:
    """The largest of these cells."""
    places = np.flatnonzero(members)
    return int(places[shares[places].argmax()])


def simple_weights(scored: ScoredMap) -> dict[str, np.ndarray]:
    """What an optimum is compared with: uniform weights on a simplex, and each corner alone; as weights [d], those in the domain."""
    domain, d = scored.map.domain, len(scored.map.corners)
    points = {} if domain.knobs else {"uniform": np.full(d, 1 / d)}
    points |= {name if domain.knobs else f"{name} alone": corner for name, corner in zip(scored.map.corners, np.eye(d), strict=True)}
    return {name: w for name, w in points.items() if domain.piece.contains(w[None])[0]}


def compared(scored: ScoredMap, optimum: Optimum) -> pd.DataFrame:
    """One row a choice of weights: which, the weights (or knobs), mean scores, their mean. The optimum first."""
    points = {"optimum": np.array(optimum.weights)} | simple_weights(scored)
    values = scored.map.domain.values(np.array(list(points.values())))
    table = pd.DataFrame(values, columns=scored.map.domain.columns)
    table.insert(0, "weights", list(points))
    means = scored.means(np.array(list(points.values())))
    means[0] = list(optimum.scores.values())
    table[scored.names] = means
    table["mean"] = means.mean(1)
    return table


def optimum_record(scored: ScoredMap, optimum: Optimum, utility: Mapping[str, float] | None) -> dict[str, Any]:
    """The optimum as plain data: weights (or knobs), scores, the value, its bound, the radius, and the same of simple weights."""
    domain = scored.map.domain
    worth = dict(utility) if utility else dict.fromkeys(scored.names, 1 / len(scored.names))

    def point(w: np.ndarray, scores: Mapping[str, float]) -> dict[str, Any]:
        values = dict(zip(domain.columns, domain.values(w[None])[0].round(DIGITS).tolist(), strict=True))
        return {"weights": values, "scores": dict(scores), "value": float(sum(u * scores[name] for name, u in worth.items()))}

    best = point(np.array(optimum.weights), optimum.scores)
    value, bound = float(optimum.value), float(optimum.bound)
    best |= {"value": value, "bound": bound, "proven": bound <= value + 1e-9}
    best |= {"radius": float(optimum.radius), "branches": int(optimum.branches)}
    beside = {name: point(w, scored.evaluate(tuple(w.tolist()))) for name, w in simple_weights(scored).items()}
    return {"utility": worth, "optimum": best, "beside": beside, "corners": list(domain.corners), "domain": str(domain)}


def on_new_prompts(scored: ScoredMap, utility: Mapping[str, float] | None) -> dict[str, float] | None:
    """What weights chosen so are worth on prompts that they were not chosen on: expected, low and high (95 %), by 400 resamples (`worth`).

    None for fewer than FEW_PROMPTS, and where the overlay is too large to be listed.
    """
    rows = list(range(len(scored.map.indices)))
    if len(scored.map.prompts) < FEW_PROMPTS or len(scored.map.corners) > 3 or overlay_estimate(scored, rows).rows > MOST_LISTED:
        return None
    expected, low, high = optimism(scored, utility=utility).interval()
    return {"expected": float(expected), "low": float(low), "high": float(high)}
