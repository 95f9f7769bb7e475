"""EMORL: one adapter per objective, their last hidden states mixed at every token (arXiv 2505.02579)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from emorl_lite.base.presets import Mix
from emorl_lite.ensemble.corners import MOST, Corners, Source, simplex_corners
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.methods.base import Knob, OfObjectives, Setting
from emorl_lite.search.evaluation import TreeEvaluation
from emorl_lite.search.grid import hierarchical_grid_search


class EMORL(OfObjectives):
    """logits = head(sum_i w_i h_i), h_i the last hidden state of adapter i, all adapters reading the same prefix.

    The weights are found by hierarchical grid search on validation prompts, or all at once by the exact map. Differs from the paper: PPO
    instead of k-SCST, a fixed budget instead of a stopping rule, rewards instead of their logarithms (the preset `t5-paper` takes all
    three from it); weights on the simplex (under greedy decoding only their direction matters).
    """

    name = "emorl"
    family = "decoding"
    knob: Knob = "weights"
    reference = "arXiv 2505.02579"
    trains = "one adapter per objective, each on its own reward"
    decodes = "all d adapters at every token"
    mix: Mix = "hidden"
    most = MOST

    @property
    def calls(self) -> int:
        """One a objective."""
        return len(self.bench.names)

    def corners(self) -> Corners:
        """The objectives' adapters on the simplex."""
        return simplex_corners([Source(self.bench.lm, adapter) for adapter in self.adapters], self.bench.names, self.mix)

    def own_choices(self, prompts: Sequence[str], scored: ScoredMap | None = None) -> dict[str, tuple[float, ...]]:
        """The published search's weights, and the exact optimum."""
        evaluate = TreeEvaluation(self.tree(prompts), self.bench.objectives.scores)
        published = hierarchical_grid_search(evaluate, self.bench.names, self.bench.search, by_direction=True, progress=False).best
        # the cube's weights as shares: the size of the weights changes no greedy reply, but it is a temperature when replies are sampled
        return {"published search": tuple(float(w) / sum(published) for w in published)} | super().own_choices(prompts, scored)

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[EnsembleLM]:
        """The ensemble at these weights, uniform by default."""
        yield EnsembleLM(self.bench.lm, self.adapters, weights=setting or self.bench.uniform, mix=self.mix)
