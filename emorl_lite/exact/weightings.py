"""The best weights for many weightings of the prompts at once: each prompt counted so and so often, left out, or held against the weights.

That is what resamples, subsets and random signs of prompts ask (`worth.py`, `learning_curve.py`). Every supremum is exact. Where the cells
of the overlay can be listed, one matrix product answers all weightings; elsewhere branch and bound is asked once a weighting.
Shapes: B prompts, S samples, G regions, C cells, R weightings, d weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from emorl_lite.base.errors import UserError
from emorl_lite.base.sizes import blocks
from emorl_lite.exact.optimum import Maximiser, region_worth
from emorl_lite.exact.overlay import overlay, overlay_estimate
from emorl_lite.exact.scored_map import ScoredMap

CELLS = 300_000
"""Cells that are still listed; beyond, branch and bound is asked."""


@dataclass(frozen=True)
class Best:
    """The best weights for each of R weightings of the prompts."""

    values: np.ndarray
    """[R]: sup over weights w of (1 / B) sum_j c_j s_j(w), c the weighting, s_j the score of prompt j."""
    weights: np.ndarray
    """[R, d]: where it is reached."""
    scores: np.ndarray
    """[R, B]: the score of each prompt at these weights."""


class Suprema(Protocol):
    """Gives the best weights for each weighting of the prompts."""

    def __call__(self, counts: np.ndarray) -> Best:
        """`counts` [R, B]: how often each prompt counts; negative to hold it against the weights."""


@dataclass(frozen=True)
class Listed:
    """All cells listed: what each prompt scores in each. Any list of candidates will do, not only cells of a map."""

    scores: np.ndarray
    """[C, B]"""
    weights: np.ndarray
    """[C, d]: a point inside each cell."""

    def __call__(self, counts: np.ndarray) -> Best:
        best, values = np.empty(len(counts), dtype=np.int64), np.empty(len(counts))
        for part in blocks(len(counts), 8 * len(self.scores)):
            found = self.scores @ counts[part].T  # [C, R]
            best[part], values[part] = found.argmax(0), found.max(0)
        return Best(values / self.scores.shape[1], self.weights[best], self.scores[best])


@dataclass(frozen=True)
class Branched:
    """Branch and bound, once a weighting: for any d."""

    scored: ScoredMap
    worth: np.ndarray
    """[G]: what each region's reply is worth."""
    maximiser: Maximiser

    def __call__(self, counts: np.ndarray) -> Best:
        samples = self.scored.map.samples
        values, weights = [], []
        for line in counts:
            found = self.maximiser.maximise(self.worth * line[self.maximiser.row // samples])
            if found.bound > found.value + 1e-9:
                raise UserError(f"best weights of a weighting of the prompts: not proven after {found.branches:,} branches")
            values.append(found.value)
            weights.append(found.piece.vertices.mean(0))
        return Best(np.array(values), np.array(weights), prompt_scores(self.scored, self.worth, np.array(weights)))


def suprema(scored: ScoredMap, utility: Mapping[str, float] | None = None, listed: bool | None = None) -> Suprema:
    """Whatever answers weightings of a map's prompts. `utility`: as in `best_weights`, the mean over objectives by default.

    `listed`: list the cells (two or three corners), or branch and bound; by default the former wherever they are at most 300,000.
    Raises UserError for a utility of other objectives, or cells that cannot be listed.
    """
    worth, rows = region_worth(scored, utility), range(len(scored.map.indices))
    if listed is None:
        listed = len(scored.map.corners) <= 3 and overlay_estimate(scored, rows).rows <= CELLS
    if not listed:
        return Branched(scored, worth, Maximiser(scored.map))
    weights = overlay(scored).weights
    return Listed(prompt_scores(scored, worth, weights), weights)


def best_for(scored: ScoredMap, counts: Any, utility: Mapping[str, float] | None = None, listed: bool | None = None) -> Best:
    """The best weights where prompt j counts `counts[j]` times: [B] for one weighting, [R, B] for several. Options as in `suprema`.

    All ones: `best_weights`. Signs: the suprema of a Rademacher complexity. Zeros leave prompts out.
    Raises UserError for counts that are not finite or of another shape.
    """
    table = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] != len(scored.map.prompts) or not np.isfinite(table).all():
        raise UserError(f"counts: expected {len(scored.map.prompts)} finite numbers, one a prompt, got shape {np.shape(counts)}")
    return suprema(scored, utility, listed)(table)


def prompt_scores(scored: ScoredMap, worth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each prompt scores [n, B] at weights [n, d], the mean over its samples. `worth` [G]: of each region.

    Raises UserError in a hole of the map.
    """
    found = np.empty((len(weights), len(scored.map.prompts)))
    for part in blocks(len(weights), 16 * len(scored.map.indices)):
        located = scored.regions_at(weights[part])
        found[part] = worth[located].reshape(len(located), -1, scored.map.samples).mean(2)
    return found
