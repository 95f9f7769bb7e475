"""PPO on a weighted sum of rewards whose weights change at every validation: what DynaOpt and C-DynaOpt share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emorl_lite.methods.base import WeightedSum
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.run_folder import COUNTERS

HISTORY = 200
"""Validation scores of an objective that an improvement is measured against (DynaOpt's code)."""


class DynamicWeightsPPO(PPOTrainer):
    """At each validation: `learn` from the improvement that the last choice brought, then `choose` weights for the steps to come."""

    counters: tuple[str, ...] = (*COUNTERS, "weights", "history")
    reward: WeightedSum

    def __init__(self, lm: Any, adapter: str, reward: WeightedSum, *args: Any, **options: Any):
        self.objectives = reward.objectives
        self.history: list[list[float]] = []
        self.improvements: list[float] | None = None
        self.more_columns = [f"w_{name}" for name in reward.objectives.names]
        super().__init__(lm, adapter, reward, *args, **options)
        with self.own_randomness():
            self.choose([0.0] * len(self.weights))

    @property
    def weights(self) -> list[float]:
        """Current weights of the objectives."""
        return self.reward.weights

    @weights.setter
    def weights(self, weights: Sequence[float]) -> None:
        self.reward.weights = list(weights)

    def more(self) -> dict[str, float]:
        """The weights of the step that was just done."""
        return dict(zip(self.more_columns, self.weights, strict=True))

    @torch.no_grad()
    def validate(self) -> float:
        """Mean over the objectives of greedy replies to the validation prompts; the improvement of each is kept for `after_step`."""
        scores = self.objectives(self.validation_prompts, self.validation_replies())
        self.improvements = improvements(scores, self.history)
        self.history = (self.history + scores.tolist())[-HISTORY:]
        return float(scores.mean())

    def after_step(self) -> None:
        """Learn and choose, if this was a validation step."""
        if self.improvements is not None:
            self.learn(self.improvements)
            self.choose(self.improvements)
            self.improvements = None

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
