"""DynaOpt: two Exp3 bandits change the reward weights while one policy trains (Min et al. 2024, arXiv 2403.13578)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.base import Knob, Method, Setting, active
from emorl_lite.methods.bench import Cost
from emorl_lite.methods.dynamic_weights import EXPLORATION, DynamicWeights
from emorl_lite.methods.scores import Objectives


class DynaOptWeights(DynamicWeights):
    """A weighted sum of rewards whose weights two Exp3 bandits choose.

    The controller draws an arm, at first before any training, then after each validation: raise the weight of objective a, or leave the
    weights. At the next validation its reward is the mean improvement over the objectives.
    """

    kept = (*DynamicWeights.kept, "controller_weights", "arm")

    def __init__(self, objectives: Objectives, kl_coef: float):
        super().__init__(objectives, kl_coef)
        d = len(self.weights)
        self.controller = Exp3(d + 1, EXPLORATION)
        self.arm = d

    @property
    def controller_weights(self) -> list[float]:
        """State of the controller."""
        return self.controller.weights

    @controller_weights.setter
    def controller_weights(self, weights: list[float]) -> None:
        self.controller.weights = weights

    def learn(self, improvements: list[float]) -> None:
        """Tell the controller what its last arm brought."""
        self.controller.update(self.arm, sum(improvements) / len(improvements))

    def choose(self, improvements: list[float]) -> None:
        """Draw an arm and raise its objective's weight, once."""
        self.arm = self.controller.draw()
        self.pull(self.arm)


class DynaOpt(Method):
    """One policy on sum_i w_i r_i, with w chosen anew at every validation by Exp3.

    p_a = (1 - gamma) v_a / sum(v) + gamma / K; after a reward r of arm a, v_a <- v_a exp(gamma r / (K p_a)); gamma = .07.
    Differs from its code: PPO with LoRA, and rewards instead of their logarithms; the weights start at 1/d each instead of 1 (the same
    direction, and the KL weight then means the same at every step); validation comes every `validate_every` steps of this package's larger
    batches instead of every 10, of greedy replies instead of sampled ones. The last 200 scores, against which an improvement is measured,
    are those of several validations where one has fewer prompts; its code's has 200, so there they are the last one's.
    A raise multiplies a weight by about exp(gamma / (K p)), some 7 %, so that in a short run the weights stay near uniform.
    The port in the EMORL code forgets to reset the chosen arm and so raises a weight eight times; here it is raised once.
    """

    name = "dynaopt"
    family = "single policy"
    knob: Knob = "none"
    reference = "arXiv 2403.13578"
    trains = "one adapter on a weighted reward, weights by bandits"
    decodes = "one adapter"
    weights: ClassVar[type[DynamicWeights]] = DynaOptWeights

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        bench = self.bench
        config = bench.scalarised(bench.uniform)
        return bench.train(self.name, self.weights(bench.objectives, config.kl_coef), config)

    def policy(self, setting: Setting = None) -> AbstractContextManager[LanguageModel]:
        """The adapter."""
        return active(self.bench.lm, self.name)
