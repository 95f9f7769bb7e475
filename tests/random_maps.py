"""Scored maps made on the spot, without a model: one choice of a word a prompt, with random logits and random scores."""

from __future__ import annotations

import numpy as np

from emorl_lite.base.polytopes import simplex
from emorl_lite.exact.exact_map import ExactMap, Region
from emorl_lite.exact.scored_map import ScoredMap


def random_map(d: int, prompts: int, K: int = 3, words: int = 5, samples: int = 1, seed: int = 0) -> ScoredMap:
    """A map whose every row (prompt and sample) has up to so many regions, and K random scores in [0, 1] a region."""
    rng, regions = np.random.default_rng(seed), []
    for row in range(prompts * samples):
        z = rng.normal(size=(words, d))
        for v in range(words):
            piece = simplex(d).cut(z[v] - np.delete(z, v, axis=0))
            if piece is not None:
                regions.append(Region(row, f"row {row}, word {v}", piece))
    exact = ExactMap([f"c{i}" for i in range(d)], [f"p{j}" for j in range(prompts)], regions, samples)
    return ScoredMap(exact, [f"r{k}" for k in range(K)], rng.uniform(size=(len(regions), K)))
