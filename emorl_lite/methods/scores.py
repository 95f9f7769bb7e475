"""All objectives' scores of replies, and views of them as one reward: a column, or a weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emorl_lite.base.fingerprint import describe
from emorl_lite.base.texts import check_pairs
from emorl_lite.base.types import Reward
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.search.evaluation import ReplyScores
from emorl_lite.training.penalised_reward import logarithm


class Objectives:
    """All objectives of replies at once, each distinct reply to a prompt scored once: of a measurement, or of one batch of a training.

    A trainer asks for the same batch several times, and nothing of earlier batches is kept for it: scores depend a little on what else is
    scored at the same time (padding changes the order of sums), and a run that goes on after an interruption knows no earlier batches.
    """

    def __init__(self, rewards: RewardSet):
        self.rewards, self.names = rewards, list(rewards)
        self.scores = ReplyScores(rewards.scores)
        """Of what is measured, all of it kept."""
        self._batch: tuple[list[str], list[str]] = ([], [])
        self._of_batch = torch.empty(0, len(self.names))

    def __call__(self, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
        """Scores [N, d] of a trainer's batch, as float32."""
        batch = check_pairs(prompts, replies, "scores")
        if batch != self._batch:
            self._batch, self._of_batch = batch, torch.from_numpy(ReplyScores(self.rewards.scores)(*batch)).float()
        return self._of_batch.clone()

    def watch(self) -> dict[str, Reward]:
        """Each objective as a reward of its own, for a trainer's log."""

        return {name: Column(self, name) for name in self.names}

    def means(self, prompts: Sequence[str], replies: Sequence[str]) -> dict[str, float]:
        """Mean score of every objective, and their mean as "mean": a measurement."""
        scores = torch.from_numpy(self.scores(prompts, replies)).float().double().mean(0)
        return {**dict(zip(self.names, scores.tolist(), strict=True)), "mean": float(scores.mean())}


class WeightedSum:
    """The scalarised reward sum_i w_i r_i; `weights` may be set anew while a policy trains."""

    def __init__(self, objectives: Objectives, weights: Sequence[float]):
        self.objectives, self.weights = objectives, list(weights)
        self.name = "weighted sum"

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N]."""
        return self.objectives(prompts, replies) @ torch.tensor(self.weights)

    def logarithms(self, prompts: list[str], replies: list[str]) -> Tensor:
        """sum_i w_i log r_i, [N]: the paper's code takes the logarithm of each objective, not of their sum."""
        return logarithm(self.objectives(prompts, replies)) @ torch.tensor(self.weights)


class Column:
    """One objective as a reward."""

    def __init__(self, objectives: Objectives, name: str):
        self.objectives, self.name = objectives, name

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N]."""
        return self.objectives(prompts, replies)[:, self.objectives.names.index(self.name)]

    def made_of(self) -> dict[str, Any]:
        """What the one reward is made of: the others only share its reading of replies."""
        return describe(self.objectives.rewards[self.name], self.name)
