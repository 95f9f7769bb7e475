"""C-DynaOpt: DynaOpt with one contextual bandit, by Vowpal Wabbit (Min et al. 2024, arXiv 2403.13578)."""

from __future__ import annotations

import math
from importlib.util import find_spec

from emorl_lite.base.errors import UserError
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.bandits import draw
from emorl_lite.methods.dynamic_weights import DynamicWeights
from emorl_lite.methods.dynaopt import DynaOpt
from emorl_lite.methods.scores import Objectives

STEP = 0.1
"""What raising adds to an objective's weight before the weights are divided by their sum."""


class ContextualBandit:
    """Vowpal Wabbit's `--cb_explore_adf --cover 3`: learns the cost of arms in a context; rebuilt exactly from what it has seen."""

    def __init__(self, arms: int):
        from vowpalwabbit import Workspace

        self.arms = arms
        self.seen: list[tuple[list[float], int, float, float]] = []
        self._workspace = Workspace("--cb_explore_adf --cover 3 --quiet --random_seed 1")

    def probabilities(self, context: list[float]) -> list[float]:
        """With which probability to draw each arm."""
        probabilities = [max(0.0, p) for p in self._workspace.predict(self._example(context))]
        return [p / sum(probabilities) for p in probabilities]

    def learn(self, context: list[float], arm: int, cost: float, probability: float) -> None:
        """In this context `arm`, drawn with this probability, cost so much."""
        self.seen.append((list(context), arm, cost, probability))
        self._workspace.learn(self._example(context, arm, cost, probability))

    def _example(self, context: list[float], arm: int = -1, cost: float = 0.0, probability: float = 1.0) -> list[str]:
        shared = "shared |c " + " ".join(f"x{i}:{x:.6f}" for i, x in enumerate(context))
        label = f"0:{cost:.6f}:{probability:.6f} "
        return [shared, *(f"{label if a == arm else ''}|a arm={a}" for a in range(self.arms))]


class CDynaOptWeights(DynamicWeights):
    """Arms: raise objective a, or leave the weights. Context: the weights and the improvements. Cost: the mean improvement, negated."""

    kept = (*DynamicWeights.kept, "seen", "choice")

    def __init__(self, objectives: Objectives, kl_coef: float):
        super().__init__(objectives, kl_coef)
        self.bandit = ContextualBandit(len(self.weights) + 1)
        self.choice: tuple[list[float], int, float] = ([], 0, math.nan)

    @property
    def seen(self) -> list[tuple[list[float], int, float, float]]:
        """What the bandit has learnt from, in order."""
        return self.bandit.seen

    @seen.setter
    def seen(self, seen: list[tuple[list[float], int, float, float]]) -> None:
        self.bandit = ContextualBandit(self.bandit.arms)
        for context, arm, cost, probability in seen:
            self.bandit.learn(context, arm, cost, probability)

    def learn(self, improvements: list[float]) -> None:
        """Tell the bandit what its last arm brought."""
        context, arm, probability = self.choice
        self.bandit.learn(context, arm, -sum(improvements) / len(improvements), probability)

    def choose(self, improvements: list[float]) -> None:
        """Draw an arm and raise its objective's weight."""
        context = [*self.weights, *improvements]
        probabilities = self.bandit.probabilities(context)
        arm = draw(probabilities)
        self.choice = (context, arm, probabilities[arm])
        if arm < len(self.weights):
            raised = [w + STEP * (i == arm) for i, w in enumerate(self.weights)]
            self.weights = [w / sum(raised) for w in raised]


class CDynaOpt(DynaOpt):
    """One policy on sum_i w_i r_i; a contextual bandit sees the weights and each objective's improvement and chooses which to raise.

    Differs from its code: PPO with LoRA, weights start at 1/d, and a raised weight grows by .1 before the weights are normalised.
    """

    name = "c-dynaopt"
    trains = "one adapter on a weighted reward, weights by a contextual bandit"
    weights = CDynaOptWeights

    @classmethod
    def check_possible(cls, lm: LanguageModel) -> None:
        """Raise UserError without Vowpal Wabbit."""
        if find_spec("vowpalwabbit") is None:
            raise UserError(f"method {cls.name} needs Vowpal Wabbit: pip install vowpalwabbit")
