"""C-DynaOpt: DynaOpt with one contextual bandit, by Vowpal Wabbit (Min et al. 2024, arXiv 2403.13578)."""

from __future__ import annotations

from importlib.util import find_spec

from emorl_lite.base.errors import UserError
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.bandits import draw
from emorl_lite.methods.dynamic_weights import DynamicWeights
from emorl_lite.methods.dynaopt import DynaOpt
from emorl_lite.methods.scores import Objectives

OPTIONS = "--cb_explore_adf --cover 3 -q ca --quiet --random_seed 1"
"""Of Vowpal Wabbit: online cover with three policies, and a weight for each feature of the context with each arm. (C-DynaOpt's code has no
such products, so that its context moves the predicted costs of all arms alike and never changes their order.)"""

Choice = tuple[list[float], int, float]
"""A context, the arm that was drawn in it, and with which probability."""


class ContextualBandit:
    """Vowpal Wabbit's online cover: learns the cost of arms in a context; rebuilt exactly from what it has seen."""

    def __init__(self, arms: int):
        from vowpalwabbit import Workspace

        self.arms = arms
        self.seen: list[tuple[list[float], int, float, float]] = []
        self._workspace = Workspace(OPTIONS)

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
    """Context: the weights and each objective's improvement. Cost of the last choice: 1 - the mean improvement.

    The first choice is made at the first validation; the first improvement there is, at the second, is the first thing to learn.
    """

    kept = (*DynamicWeights.kept, "seen", "choice")

    def __init__(self, objectives: Objectives, kl_coef: float):
        super().__init__(objectives, kl_coef)
        self.bandit = ContextualBandit(len(self.weights) + 1)
        self.sum.name = "weighted sum, its weights by a contextual bandit"  # a run of version 1 is another run
        self.choice: Choice | None = None

    @property
    def seen(self) -> list[tuple[list[float], int, float, float]]:
        """What the bandit has learnt from, in order."""
        return self.bandit.seen

    @seen.setter
    def seen(self, seen: list[tuple[list[float], int, float, float]]) -> None:
        self.bandit = ContextualBandit(self.bandit.arms)
        for context, arm, cost, probability in seen:
            self.bandit.learn(context, arm, cost, probability)

    def start(self) -> None:
        """Equal weights until the first validation."""

    def learn(self, improvements: list[float]) -> None:
        """Tell the bandit what its last arm brought."""
        if self.choice is not None:
            context, arm, probability = self.choice
            self.bandit.learn(context, arm, 1 - sum(improvements) / len(improvements), probability)

    def choose(self, improvements: list[float]) -> None:
        """Draw an arm and raise its objective's weight, once."""
        context = [*self.weights, *improvements]
        probabilities = self.bandit.probabilities(context)
        arm = draw(probabilities)
        self.choice = (context, arm, probabilities[arm])
        self.pull(arm)


class CDynaOpt(DynaOpt):
    """One policy on sum_i w_i r_i; a contextual bandit sees the weights and each objective's improvement and chooses which to raise.

    What an arm does, when it is drawn and what an improvement is are DynaOpt's; the bandit that draws is another. Differs from its code in
    what differs there, and in two things more, where the code makes no use of what it has: it learns from the improvement of the *first*
    objective alone (`scaled[0]`; here from the mean, as DynaOpt does), and its context changes no choice (see OPTIONS). The paper's own
    text could not be read for either. Expect little of it: of a dozen choices whose improvements are a few hundredths, online cover learns
    next to nothing, and draws stay near even.
    """

    name = "c-dynaopt"
    version = 2  # 1: weights raised by .1
    trains = "one adapter on a weighted reward, weights by a contextual bandit"
    weights = CDynaOptWeights

    @classmethod
    def check_possible(cls, lm: LanguageModel) -> None:
        """Raise UserError without Vowpal Wabbit."""
        if find_spec("vowpalwabbit") is None:
            raise UserError(f"method {cls.name} needs Vowpal Wabbit: pip install vowpalwabbit")
