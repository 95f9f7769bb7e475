"""Bandits that choose reward weights while a policy trains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from emorl_lite.base.ranges import Within, checked, shown


class Exp3:
    """The adversarial bandit Exp3 (Auer et al. 2002).

    Arm a has a weight w_a, 1 at first, and is drawn with probability p_a = (1 - gamma) w_a / sum(w) + gamma / K. A reward r of arm a
    multiplies w_a by exp(gamma r / (K p_a)).
    """

    def __init__(self, arms: int, gamma: float):
        checked(arms, int, [Within(1, 10**6)], f"Exp3: arms {shown(arms)}")
        self.gamma = checked(gamma, float, [Within(0, 1, above=True)], f"Exp3: gamma {shown(gamma)}")
        self.weights = [1.0] * arms

    def probabilities(self) -> list[float]:
        """p_a of each arm."""
        total, K = sum(self.weights), len(self.weights)
        return [(1 - self.gamma) * w / total + self.gamma / K for w in self.weights]

    def draw(self) -> int:
        """An arm, by torch's random generator."""
        return draw(self.probabilities())

    def update(self, arm: int, reward: float) -> None:
        """Learn that `arm` gave `reward`."""
        self.weights[arm] *= math.exp(self.gamma * reward / (len(self.weights) * self.probabilities()[arm]))


def draw(probabilities: Sequence[float]) -> int:
    """One index, by torch's random generator."""
    return int(torch.multinomial(torch.tensor(probabilities, dtype=torch.float64), 1))
