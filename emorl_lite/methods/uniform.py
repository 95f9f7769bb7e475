"""Uniform weighting: one policy, one reward, the plain mean of all objectives."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal

from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Knob, Method, Setting, active
from emorl_lite.methods.bench import Bench, Cost
from emorl_lite.methods.scores import WeightedSum
from emorl_lite.training.policy import AdapterPolicy


class Uniform(Method):
    """PPO on r = sum_i r_i / d (EMORL, arXiv 2505.02579, its "uniform weighted" baseline).

    Differs from the paper's code: LoRA (no dropout) instead of all parameters, PPO instead of k-SCST, the rewards themselves instead of
    their logarithms, a fixed budget with annealed learning rates instead of a stopping rule, greedy decoding in all comparisons; the KL
    weight is the mean of the objectives' own. All of these are the same for every method here. (The preset `t5-paper` takes its estimator,
    logarithms and rule.)
    """

    name = "uniform"
    family = "single policy"
    knob: Knob = "none"
    reference = "arXiv 2505.02579"
    trains = "one adapter on the mean reward"
    decodes = "one adapter"

    def __init__(self, bench: Bench, ranks: Literal["1", "d"] = "1", share: Literal["1", "1/d"] = "1"):
        """`ranks`: the adapter's, in ranks of a single objective's; with "d" as many parameters are trained as EMORL trains, and the paper
        compares methods with different numbers. `share`: of the budget; "1/d" takes as long as EMORL's runs side by side, and a d-th of
        their sum."""
        super().__init__(bench)
        self.times = len(bench.names) if self.option("ranks", ranks, Literal["1", "d"]) == "d" else 1
        self.divided_by = len(bench.names) if self.option("share", share, Literal["1", "1/d"]) == "1/d" else 1
        self.name += ("-wide" if ranks == "d" else "") + ("-short" if share == "1/d" else "")
        size, time = ("of d times the rank " if ranks == "d" else ""), (", with a d-th of the budget" if share == "1/d" else "")
        self.trains = f"one adapter {size}on the mean reward{time}"

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        bench = self.bench
        config = replace(bench.scalarised(bench.uniform), episodes=bench.episodes_each("own" if self.divided_by == 1 else "shared"))
        policy = AdapterPolicy(bench.lm, self.name, rank=bench.lm.config.lora_r * self.times)
        return bench.train(self.name, WeightedSum(bench.objectives, bench.uniform), config, policy=policy)

    def policy(self, setting: Setting = None) -> AbstractContextManager[LanguageModel]:
        """The adapter."""
        return active(self.bench.lm, self.name)
