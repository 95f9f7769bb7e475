"""Combine the policies' next-word distributions: multi-objective decoding (MOD, arXiv 2406.18853), and the linear pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.methods.base import Setting
from emorl_lite.methods.emorl import EMORL


class MODReverse(EMORL):
    """pi_w(y) proportional to prod_i pi_i(y)^{w_i}, sum_i w_i = 1: the closed form for a reverse-KL regulariser.

    As logits: sum_i w_i z_i, because a log-softmax subtracts from each z_i only what is the same for every token. So this is EMORL with
    weights that sum to one: greedily the same replies, sampled another temperature. Differs from its code: greedy per token here as for
    every method (there also beam search).
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
    """pi_w(v | prefix) proportional to 1 / sum_i w_i / pi_i(v | prefix): the weighted harmonic mean, for a forward-KL regulariser.

    In general pi_w = pi_0 (f')^{-1}(sum_i w_i f'(pi_i / pi_0)); with f = -log, f'(x) = -1/x and pi_0 cancels. Words are compared by
    -sum_i w_i / pi_i(v), which is linear in w: there is an exact map. What one adapter finds impossible is impossible.

    Differs from its code, whose `f_value` is -logsumexp_i(log w_i - log pi_i): there pi_i is the probability of the whole reply so far, so
    that a prefix which adapter i finds unlikely multiplies w_i by 1 / pi_i(prefix), and the least willing adapter soon decides alone. (Its
    greedy search also adds up logits where its beam search adds up log-probabilities.) Here the weights stay what they are at every word,
    and each word's distribution is normalised, so that replies can be sampled. All adapters are trained with the reverse KL, as everywhere
    in this package: the formula is right for others.
    """

    name = "mod-forward"
    version = 2  # 1: the plain mean of probabilities, now linear-pool
    reference = "arXiv 2406.18853"
    mix = "harmonic"


class LinearPool(EMORL):
    """pi_w(v | prefix) = sum_i w_i pi_i(v | prefix): the plain mean of the distributions, word by word.

    A linear opinion pool (Stone 1961; Genest and Zidek 1986), and no closed form of MOD. It is what the EMORL paper's third aggregation
    ("logits") is when it is done right: the paper's code averages the probabilities of trajectories that the models sampled each on its
    own, so that their contexts do not match.
    """

    name = "linear-pool"
    reference = "arXiv 2505.02579 (its logits mode, done right)"
    mix = "probabilities"
