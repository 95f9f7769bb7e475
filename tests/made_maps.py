"""Maps made without a model: a domain cut at random, a reply a piece. Any domain, number of regions, and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from emorl_lite.base.domains import Domain
from emorl_lite.base.polytopes import Piece
from emorl_lite.exact.exact_map import ExactMap, Region
from emorl_lite.exact.scored_map import ScoredMap


def pieces(domain: Domain, count: int, rng: np.random.Generator) -> list[Piece]:
    """A domain cut into convex pieces, always the largest next."""
    found = [domain.piece]
    while len(found) < count:
        piece = found.pop(max(range(len(found)), key=lambda i: found[i].measure))
        through = rng.dirichlet(np.ones(len(piece.vertices))) @ piece.vertices
        normal = rng.normal(size=len(through))
        normal -= normal @ through  # weights sum to one: the border goes through that point
        parts = [piece.cut(sign * normal[None]) for sign in (1, -1)]
        found += [part for part in parts if part is not None] if None not in parts else [piece]
    return found


def made_map(
    domain: Domain,
    prompts: Sequence[str] = ("How are you?", "I am sad.", "Good news!"),
    samples: int = 1,
    regions: int = 20,
    names: Sequence[str] = ("empathy", "fluency"),
    reply: Callable[[int, int], str] = lambda row, k: f"Reply {k} of row {row}.",
    seed: int = 0,
) -> ScoredMap:
    """A scored map with `regions` regions a row; scores are random."""
    rng = np.random.default_rng(seed)
    rows = range(len(prompts) * samples)
    cut = [Region(row, reply(row, k), piece, 5) for row in rows for k, piece in enumerate(pieces(domain, regions, rng))]
    exact = ExactMap(list(domain.corners), list(prompts), cut, samples, samples > 1, domain=domain)
    return ScoredMap(exact, list(names), rng.uniform(size=(len(cut), len(names))))
