"""EMORL: one adapter per objective, their last hidden states mixed at every token (arXiv 2505.02579)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from emorl_lite.base.presets import Mix
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import exact_search
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.methods.base import Knob, OfObjectives, Setting
from emorl_lite.search.evaluation import TreeEvaluation
from emorl_lite.search.grid import hierarchical_grid_search


class EMORL(OfObjectives):
    """logits = head(sum_i w_i h_i), h_i the last hidden state of adapter i, all adapters reading the same prefix.

    The weights are found by hierarchical grid search on validation prompts, or all at once by the exact map. Differs from the paper: PPO
    instead of k-SCST; a fixed budget instead of a stopping rule; rewards instead of their logarithms; weights on the simplex (under
    greedy decoding only their direction matters).
    """

    name = "emorl"
    family = "decoding"
    knob: Knob = "weights"
    reference = "arXiv 2505.02579"
    trains = "one adapter per objective, each on its own reward"
    decodes = "all d adapters at every token"
    mix: Mix = "hidden"

    @property
    def calls(self) -> int:
        """One a objective."""
        return len(self.bench.names)

    def tree(self, prompts: Sequence[str]) -> PrefixTree:
        """Decodes many weights at once."""
        return PrefixTree(self.bench.lm, self.adapters, prompts, mix="probabilities" if self.mix == "probabilities" else "hidden")

    def replies_at(self, prompts: Sequence[str], settings: Sequence[Sequence[float]]) -> list[list[str]]:
        """Greedy replies at many weights, all in one prefix tree: the same texts as one by one."""
        weights = [self.checked(setting) if len(setting) else self.bench.uniform for setting in settings]
        return [list(replies) for replies in zip(*self.tree(prompts).replies(weights), strict=True)]

    def exact_map(self, prompts: Sequence[str]) -> ScoredMap:
        """The replies at every weight vector."""
        return scored_map(exact_map(self.tree(prompts)), self.bench.objectives.scores)

    def own_choices(self, prompts: Sequence[str]) -> dict[str, tuple[float, ...]]:
        """The published search's weights, and the exact optimum."""
        evaluate = TreeEvaluation(self.tree(prompts), self.bench.objectives.scores)
        published = hierarchical_grid_search(evaluate, self.bench.names, self.bench.search, by_direction=True, progress=False)
        optimum = exact_search(self.exact_map(prompts))
        choices = {"published search": published.best, "exact optimum": optimum.best}
        # the cube's weights as shares: the size of the weights changes no greedy reply, but it is a temperature when replies are sampled
        return {search: tuple(float(w) / sum(best) for w in best) for search, best in choices.items()}

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[EnsembleLM]:
        """The ensemble at these weights, uniform by default."""
        yield EnsembleLM(self.bench.lm, self.adapters, weights=setting or self.bench.uniform, mix=self.mix)
