"""A weighted sum of rewards whose weights change at every validation: what DynaOpt and C-DynaOpt share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.scores import Objectives, WeightedSum
from emorl_lite.training.penalised_reward import PenalisedReward

HISTORY = 200
"""Validation scores of an objective that an improvement is measured against (DynaOpt's code)."""
EXPLORATION = 0.07
"""Exploration of both bandits of DynaOpt (its code)."""


class DynamicWeights(PenalisedReward):
    """sum_i w_i r_i: at each validation, `learn` from the improvement that the last choice brought, then `choose` the next w.

    A choice is an arm: raise the weight of objective a, or (the last arm, d) leave the weights. The weights are those of an Exp3 bandit
    with an arm an objective, divided by their sum, and to raise one is to tell that bandit of a reward of 1: a factor of
    exp(gamma / (d p_a)), some 7 % (both in DynaOpt's code).
    """

    kept: Sequence[str] = ("weights", "history", "raised_weights")
    """Attributes that a checkpoint keeps."""

    def __init__(self, objectives: Objectives, kl_coef: float):
        d = len(objectives.names)
        self.sum, self.objectives = WeightedSum(objectives, [1 / d] * d), objectives
        super().__init__(self.sum, kl_coef)
        self.raised = Exp3(d, EXPLORATION)
        self.history: list[list[float]] = []
        self.improvements: list[float] | None = None
        self.columns = [f"w_{name}" for name in objectives.names]

    @property
    def weights(self) -> list[float]:
        """Current weights of the objectives."""
        return self.sum.weights

    @weights.setter
    def weights(self, weights: Sequence[float]) -> None:
        self.sum.weights = list(weights)

    @property
    def raised_weights(self) -> list[float]:
        """State of the bandit that holds the objectives' weights."""
        return self.raised.weights

    @raised_weights.setter
    def raised_weights(self, weights: list[float]) -> None:
        self.raised.weights = weights

    def pull(self, arm: int) -> None:
        """Raise the weight of objective `arm`, once; leave all if it is the last arm."""
        if arm < len(self.weights):
            self.raised.update(arm, 1.0)
            self.weights = [w / sum(self.raised.weights) for w in self.raised.weights]

    def start(self) -> None:
        """The first choice."""
        self.choose([0.0] * len(self.weights))

    def row(self) -> dict[str, float]:
        """The weights of the step that was just done."""
        return dict(zip(self.columns, self.weights, strict=True))

    def validate(self, prompts: list[str], replies: list[str]) -> float:
        """Mean over the objectives; the improvement of each is kept for `adapt`."""
        scores = self.objectives(prompts, replies)
        self.improvements = improvements(scores, self.history)
        self.history = (self.history + scores.tolist())[-HISTORY:]
        return float(scores.mean())

    def adapt(self) -> None:
        """Learn and choose, if this was a validation step."""
        if self.improvements is not None:
            self.learn(self.improvements)
            self.choose(self.improvements)
            self.improvements = None

    def state(self) -> dict[str, Any]:
        """The attributes in `kept`."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        for name in self.kept:
            setattr(self, name, state.get(name, getattr(self, name)))

    def learn(self, improvements: list[float]) -> None:
        """The last choice brought these improvements, one an objective."""
        raise NotImplementedError

    def choose(self, improvements: list[float]) -> None:
        """Set `weights` for the steps to come."""
        raise NotImplementedError


def improvements(scores: Tensor, history: Sequence[Sequence[float]]) -> list[float]:
    """Mean of each objective's scores [n, d] less the mean of the earlier ones, [d]; zeros without a history."""
    if not history:
        return [0.0] * scores.shape[1]
    return [float(x) for x in scores.mean(0) - torch.tensor(history).mean(0)]
