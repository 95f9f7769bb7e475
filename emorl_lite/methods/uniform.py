"""Uniform weighting: one policy, one reward, the plain mean of all objectives."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Bench, Cost, Knob, Method, Setting, WeightedSum, active
from emorl_lite.training.ppo import PPOTrainer


class UniformPPO(PPOTrainer):
    """PPO on an adapter whose rank is a multiple of the configured one."""

    def __init__(self, *args: object, times: int = 1, **options: object):
        self.times = times
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def make_adapter(self) -> None:
        """Add the adapter to be trained."""
        self.lm.add_adapter(self.adapter, self.seed, rank=self.lm.config.lora_r * self.times)


class Uniform(Method):
    """PPO on r = sum_i r_i / d (EMORL, arXiv 2505.02579, its "uniform weighted" baseline).

    Differs from the paper's code: LoRA (no dropout) instead of all parameters, PPO instead of k-SCST, the rewards themselves instead of
    their logarithms, a fixed budget with annealed learning rates instead of a stopping rule, greedy decoding in all comparisons; the KL
    weight is the mean of the objectives' own. All of these are the same for every method here.
    """

    name = "uniform"
    family = "single policy"
    knob: Knob = "none"
    reference = "arXiv 2505.02579"
    trains = "one adapter on the mean reward"
    decodes = "one adapter"
    divided_by = 1
    """Part of the budget that it is given."""
    times = 1
    """Rank of the adapter, in ranks of a single objective's."""

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        bench = self.bench
        config = replace(bench.scalarised(bench.uniform), episodes=bench.ppo.episodes // self.divided_by)
        return bench.train(self.name, WeightedSum(bench.objectives, bench.uniform), config, UniformPPO, times=self.times)

    def policy(self, setting: Setting = None) -> AbstractContextManager[LanguageModel]:
        """The adapter."""
        return active(self.bench.lm, self.name)


class UniformWide(Uniform):
    """The same with as many trained parameters as EMORL has: one adapter of d times the rank.

    The paper compares methods with different numbers of trained parameters; this row tells how much of a difference that makes.
    """

    name = "uniform-wide"
    trains = "one adapter of d times the rank on the mean reward"

    def __init__(self, bench: Bench):
        super().__init__(bench)
        self.times = len(bench.names)


class UniformShort(Uniform):
    """The same with the data of one single-objective run: it takes as long as EMORL's runs side by side, and a d-th of their sum."""

    name = "uniform-short"
    trains = "one adapter on the mean reward, with a d-th of the budget"

    def __init__(self, bench: Bench):
        super().__init__(bench)
        self.divided_by = len(bench.names)
