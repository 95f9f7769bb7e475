"""Personalized Soups: the plain mean of the adapters that a user chooses (arXiv 2310.11564)."""

from __future__ import annotations

from emorl_lite.methods.base import Knob, Setting
from emorl_lite.methods.rewarded_soups import RewardedSoups


class PersonalizedSoups(RewardedSoups):
    """theta(S) = sum_{i in S} theta_i / |S|, S the preferences that the user wants.

    Differs from the paper: it trains one run per preference, two opposite ones on each of three dimensions, and takes one of each; here a
    preference is "I want objective i", so S is any non-empty set of objectives: 2^d - 1 settings instead of a continuum.
    """

    name = "personalized-soups"
    knob: Knob = "subset"
    reference = "arXiv 2310.11564"
    decodes = "one adapter, the mean of those chosen"

    def policy(self, setting: Setting = None):  # type: ignore[no-untyped-def]
        """The mean of the adapters whose entry of `setting` is above 0, of all by default. How far above makes no difference."""
        return super().policy([float(x > 0) for x in setting or self.bench.uniform])

    def settings(self, steps: int) -> list[tuple[float, ...]]:
        """Every non-empty set of objectives, as 0/1 vectors divided by their sums."""
        d = len(self.bench.names)
        chosen = [[i for i in range(d) if bits >> i & 1] for bits in range(1, 2**d)]
        return [tuple(1 / len(s) if i in s else 0.0 for i in range(d)) for s in chosen]
