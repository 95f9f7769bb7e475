"""Bone Soups: specialists of mixed rewards, merged so that the mixing is undone (arXiv 2502.10762)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Knob, Method, Setting, active
from emorl_lite.methods.bench import Bench, Budget, Cost
from emorl_lite.methods.scores import WeightedSum

DOMINANT = 0.7
"""Share of a backbone's own objective in its reward: the middle of the three values that the authors' code names."""


def backbone_rewards(d: int, dominant: float = DOMINANT) -> np.ndarray:
    """Matrix B [d, d]: row j holds the reward weights of backbone j, `dominant` for its own objective, the rest shared evenly.

    Rows sum to one; B is symmetric and circulant. Raises UserError unless the own objective weighs more than each other, and at most 1.
    """
    dominant = checked(dominant, float, [], f"dominant {shown(dominant)}")
    if d == 1:
        return np.ones((1, 1))
    if not 1 / d < dominant <= 1:
        raise UserError(f"dominant {dominant}: expected more than 1/{d}, an even share, and at most 1")
    B = np.full((d, d), (1 - dominant) / (d - 1))
    np.fill_diagonal(B, dominant)
    return B


def merging_weights(B: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The lambda [d] with sum_j lambda_j B_j = w, the user's weights [d] divided by their sum: mixed like the backbones, rewards are hers.

    They sum to one if each row of B does, and are negative where w is more one-sided than every backbone. Raises UserError for weights of
    another length, that are not finite, or without a positive sum.
    """
    w = np.asarray(weights, dtype=float)
    if w.shape != (len(B),) or not np.isfinite(w).all() or w.sum() <= 0:
        raise UserError(f"weights {shown(list(weights))}: expected {len(B)} finite numbers with a positive sum")
    return np.linalg.solve(np.asarray(B, dtype=float).T, w / w.sum())


class BoneSoups(Method):
    """d policies, each trained on a mixture h_j = sum_i B_ji r_i of all rewards; theta(w) = sum_j lambda_j theta_j with B^T lambda = w.

    A user who wants what backbone j was trained for gets backbone j. Signs of lambda are as they come: for one objective alone the others'
    backbones are subtracted. Whole models are merged, so here the changes s_j B_j A_j are (`average_parameters`, "exact").

    From the authors' code (github.com/andyclsr/BoneSoups, for two objectives): PPO on the mixtures, the linear system, lambda as it comes;
    its README names .6, .7 and .8 for the dominant share. Only summaries of the paper were at hand: they say that the share is chosen by
    hypervolume after a fifth of the training, and that B is symmetric and circulant for three objectives, too; equal entries beside the
    dominant one are our reading. Differs: the share is `DOMINANT`, chosen by nobody here, so that no training is spent on the choice; and
    the code's optional last step, away from the base by a factor searched for each objective, is left out. KL weight and learning rate are
    the B_j-means of the objectives' own, as for every policy of several rewards.
    """

    name = "bone-soups"
    family = "merging"
    knob: Knob = "weights"
    reference = "arXiv 2502.10762"
    trains = "one adapter per objective, each on a mixture of all rewards"
    decodes = "one adapter, merged anew for every weight vector"

    def __init__(self, bench: Bench, budget: Budget = "shared", dominant: float = DOMINANT):
        """`budget`: the runs share the method's, or each has a whole one ("own"); `dominant`: see `backbone_rewards`."""
        super().__init__(bench)
        self.budget = self.option("budget", budget, Budget)
        d = len(bench.names)
        self.B = backbone_rewards(d, self.option("dominant", dominant, float, Within(1 / d, 1, above=True)))
        if budget == "own":
            self.name, self.trains = f"{self.name}-long", f"{self.trains}, and each with the whole budget"

    @property
    def adapters(self) -> list[str]:
        """The backbones."""
        return [f"{self.name}-{objective}" for objective in self.bench.names]

    def prepare(self) -> Cost:
        """Train or load the backbones."""
        bench = self.bench
        episodes = bench.episodes_each(self.budget)
        costs = []
        for name, row in zip(self.adapters, self.B.tolist(), strict=True):
            config = replace(bench.scalarised(row), episodes=episodes)
            costs.append(bench.train(name, WeightedSum(bench.objectives, row), config))
        return sum(costs[1:], costs[0])

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[LanguageModel]:
        """The merged adapter, for equal weights by default."""
        shares = merging_weights(self.B, setting or self.bench.uniform)
        average_parameters(self.bench.lm, self.adapters, shares.tolist(), name=self.name, signed=True)
        with active(self.bench.lm, self.name) as lm:
            yield lm
