"""What a sweep over a few settings misses: the front of all settings, by the exact map, beside the sweep's own.

Whether a method's knob is weights or a strength, and whatever its domain, all that its settings can give is known where the next word's
scores are linear in the knob. Shapes: B prompts, n settings, K objectives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.exact.overlay import overlay, overlay_estimate
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.exact.support import convex_front
from emorl_lite.methods.base import Method
from emorl_lite.search.pareto import cardinality, hypervolume, non_dominated

EXACT, CONVEX = "exact", "best for some linear utility"
"""How a front was found: from all cells on which no reply changes, or by optimistic linear support, which leaves its dents out."""
FRONT_STEPS = 40
"""In tables of fronts without the column `found`, made before: the exact map was asked at weights of spacing 1/40."""
MOST_BYTES = 2**31
"""Of the cells of a front."""


def exact_front(scored: ScoredMap) -> tuple[pd.DataFrame, str]:
    """The mean scores that no setting beats in all objectives, a row each, with a setting that gives them; and how they were found.

    Columns: those of the domain (weights, or the knob's numbers), then the objectives. EXACT for two or three corners; for more, or where
    the cells do not fit into memory, CONVEX.
    """
    rows = list(range(len(scored.map.indices)))
    if len(scored.map.corners) <= 3 and overlay_estimate(scored, rows).bytes <= MOST_BYTES:
        cells = overlay(scored, memory=MOST_BYTES)
        points, scores, found = cells.weights, cells.scores, EXACT
    else:
        support = convex_front(scored)
        points, scores, found = support.weights, support.scores, CONVEX
    _, first = np.unique(scores.round(12), axis=0, return_index=True)  # many cells have the same scores: one of them will do
    best = first[non_dominated(scores[first].round(12))]
    domain = scored.map.domain
    table = pd.DataFrame(domain.values(points[best]), columns=domain.columns)
    table[scored.names] = scores[best]
    return table, found


def front_tables(scored: Mapping[str, ScoredMap], asked: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(mean scores at the settings asked [n, d or k], fronts of all settings) of some methods' maps, as the figure `fronts` takes them.

    Columns: method, seed (0), those of the domain, the objectives.
    """
    swept, fronts = [], []
    for name, found in scored.items():
        at_asked = pd.DataFrame(asked, columns=found.map.domain.columns)
        at_asked[found.names] = found.means(asked)
        swept.append(at_asked.assign(method=name, seed=0))
        fronts.append(exact_front(found)[0].assign(method=name, seed=0))
    return pd.concat(swept, ignore_index=True), pd.concat(fronts, ignore_index=True)


def beside_sweep(method: Method, validation: Sequence[str], prompts: Sequence[str], test: Sequence[str], steps: int) -> dict[str, Any]:
    """A sweep over a method's settings beside all its settings: what both can reach, and what their choices are worth.

    The sweep (`settings`, `sweep_points`, `sweep_hypervolume` above the origin, `sweep_seconds`) and the exact map (`regions`,
    `front_points`, `front_hypervolume`, `front_found`, `front_seconds`) are of the same prompts. The best setting of the sweep and the
    exact optimum of the mean score are chosen on validation prompts (`sweep_validation`, `optimum_validation`) and judged on test
    prompts (`sweep_test`, `optimum_test`). Seconds with the scoring of replies; those that the sweep had are not scored again.
    Raises UserError for a method whose settings cannot all be known.
    """
    bench, settings = method.bench, method.settings(steps)
    if method.corners() is None:
        raise UserError(f"method {method.name}: has no exact map to lay beside its sweep")
    started = time.perf_counter()
    asked = _means(method, prompts, settings)
    swept = time.perf_counter()
    scored = method.exact_map(prompts)
    assert scored is not None
    front, found = exact_front(scored)
    ended = time.perf_counter()
    reached = front[scored.names].to_numpy()
    origin = [0.0] * len(bench.names)
    on_validation = _means(method, validation, settings).mean(1)
    chosen = [settings[int(on_validation.argmax())], method.optimum(validation)]
    on_test = _means(method, test, chosen).mean(1)
    return {
        "method": method.name,
        "settings": len(settings),
        "sweep_points": cardinality(asked),
        "sweep_hypervolume": hypervolume(asked, origin),
        "sweep_seconds": swept - started,
        "regions": len(scored.map.regions),
        "front_points": cardinality(reached),
        "front_hypervolume": hypervolume(reached, origin),
        "front_found": found,
        "front_seconds": ended - swept,
        "sweep_validation": float(on_validation.max()),
        "sweep_test": float(on_test[0]),
        "optimum_validation": float(_means(method, validation, chosen[1:]).mean()),
        "optimum_test": float(on_test[1]),
    }


def _means(method: Method, prompts: Sequence[str], settings: Sequence[Sequence[float]]) -> np.ndarray:
    """Mean scores [n, K] at these settings."""
    objectives = method.bench.objectives
    replies = method.replies_at(prompts, settings)
    return np.array([[objectives.means(prompts, said)[name] for name in objectives.names] for said in replies])
