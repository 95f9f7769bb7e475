"""An exact map with scores: each distinct reply is scored once, then every question about every weight vector is a look-up.

Shapes: B prompts, S samples, G regions, K scored objectives, n weight vectors, d corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import check_index
from emorl_lite.base.sizes import blocks
from emorl_lite.exact.exact_map import ExactMap
from emorl_lite.search.evaluation import ReplyScores, Score
from emorl_lite.search.pareto import non_dominated
from emorl_lite.search.score_table import Weights


@dataclass
class ScoredMap:
    """The replies at every weight vector and what they score."""

    map: ExactMap
    names: list[str]
    """The scored objectives, K of them; usually those of the map."""
    scores: np.ndarray
    """[G, K]: the scores of each region's reply."""

    def __repr__(self) -> str:
        return f"ScoredMap of {', '.join(self.names)}: {self.map.summary()}"

    @cached_property
    def mean(self) -> np.ndarray:
        """[G]: the mean over objectives of each region's reply."""
        return self.scores.mean(1)

    def means(self, weights: Any) -> np.ndarray:
        """Mean scores [n, K] over the prompts (and samples) at weights [n, d] or [d], or at the knobs' values: as a search's evaluation.

        Raises UserError in a hole of the map.
        """
        return self.mean_scores(self.regions_at(weights))

    def regions_at(self, weights: Any) -> np.ndarray:
        """The region [n, rows] that each weight vector falls into, as `ExactMap.locate`; but raises UserError in a hole of the map."""
        located = self.map.locate(weights)
        if (located < 0).any():
            raise UserError("the map has no reply at some of these weights: it has a hole")
        return located

    def mean_scores(self, located: np.ndarray) -> np.ndarray:
        """Mean scores over rows [n, K] of the regions [n, rows] that weights fall into."""
        means = np.empty((len(located), len(self.names)))
        for part in blocks(len(located), 8 * located.shape[1] * len(self.names)):
            means[part] = self.scores[located[part]].mean(1)
        return means

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """The evaluation of a search, by look-up."""
        return dict(zip(self.names, self.means(weights)[0].tolist(), strict=True))

    def regions(self, row: int) -> pd.DataFrame:
        """The regions of one prompt (and sample), the largest first: share of the domain, reply, scores, mean, and whether its scores
        are on the prompt's Pareto front."""
        indices = self.map.indices[check_index(row, len(self.map.indices), "row")]
        table = pd.DataFrame(
            {"share": [self.map.regions[i].piece.measure for i in indices], "reply": [self.map.regions[i].reply for i in indices]}
        )
        table[self.names] = self.scores[indices]
        table["mean"] = self.mean[indices]
        table["pareto"] = non_dominated(self.scores[indices])
        return table.sort_values("share", ascending=False, ignore_index=True)

    def expected(self) -> np.ndarray:
        """Mean scores [K] of weights drawn uniformly from the domain: regions count by their share."""
        shares = np.array([region.piece.measure for region in self.map.regions])
        rows = len(self.map.prompts) * self.map.samples
        return np.asarray((shares[:, None] * self.scores).sum(0) / rows)


def scored_map(found: ExactMap, score: Score | ReplyScores, objectives: Sequence[str] | None = None) -> ScoredMap:
    """Score every distinct reply of a map once. `objectives`: which of the scores to keep, all by default.

    Raises UserError for an objective that `score` does not give, or that is called as a column of the weights is.
    """
    scores = score if isinstance(score, ReplyScores) else ReplyScores(score)
    prompts = [found.prompts[region.row // found.samples] for region in found.regions]
    table = scores(prompts, [region.reply for region in found.regions])
    names = list(objectives or scores.names)
    missing = [name for name in names if name not in scores.names]
    if missing:
        raise UserError(f"objective {missing[0]!r}: not scored; there are {', '.join(scores.names)}")
    if twice := [name for name in names if name in found.domain.columns]:
        raise UserError(f"objective {twice[0]!r}: the weights, or knobs, have a column of that name; call it otherwise")
    return ScoredMap(found, names, table[:, [scores.names.index(name) for name in names]])
