"""Multi-objective decoding: combine the policies' next-token distributions (MOD, arXiv 2406.18853)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.methods.base import Setting
from emorl_lite.methods.emorl import EMORL


class MODReverse(EMORL):
    """pi_w(y) proportional to prod_i pi_i(y)^{w_i}, sum_i w_i = 1: the closed form for a reverse-KL regulariser.

    As logits: sum_i w_i z_i, because a log-softmax subtracts from each z_i only what is the same for every token. So this is EMORL with
    weights that sum to one. Differs from its code: greedy per token here as for every method, and no per-token support filter.
    """

    name = "mod-reverse"
    reference = "arXiv 2406.18853"
    mix = "logits"

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[EnsembleLM]:
        """The mixture at these weights, divided by their sum; uniform by default."""
        weights = setting or self.bench.uniform
        shares = [w / sum(weights) for w in weights]
        yield EnsembleLM(self.bench.lm, self.adapters, weights=shares, mix=self.mix)


class MODForward(EMORL):
    """pi_w(y) = sum_i w_i pi_i(y): a mixture of the distributions, word by word.

    MOD's own closed form for a forward-KL regulariser is another, the weighted harmonic mean of the probabilities. The mixture is what the
    EMORL paper's third aggregation ("logits") is when it is done right: its code averages probabilities of trajectories that the models
    sampled each on its own, so that their contexts do not match.
    """

    name = "mod-forward"
    reference = "arXiv 2406.18853"
    mix = "probabilities"
