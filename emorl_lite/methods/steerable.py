"""One policy for all weights: PPO with weights drawn anew for every prompt, and the methods' common part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from emorl_lite.lm.model import LanguageModel, Prompts
from emorl_lite.methods.base import Bench, Cost, Knob, Method, Objectives, Policy, Setting, WeightedSum, active, cost_of
from emorl_lite.methods.conditioning import Conditioning
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import Rollout, collect


class SteerablePPO(PPOTrainer):
    """PPO on E_w E_x,y [u(r(x, y), w) - beta(w) KL]: weights w are drawn for every prompt, and policy and critic know them.

    The critic predicts one value per weight and takes their w-mean. That is the form of the return where the utility is linear in w; for
    Tchebycheff's and for a KL weight that is not linear in w it is only the best of that form, which handicaps those two a little.
    Validation is at uniform weights.
    """

    def __init__(self, lm: LanguageModel, adapter: str, method: Steerable, *args: Any, **options: Any):
        self.method, self.conditioning = method, method.conditioning
        self.objectives: Objectives = method.bench.objectives
        self.values_per_state = self.conditioning.d
        self.weights = torch.empty(0)
        super().__init__(lm, adapter, WeightedSum(self.objectives, method.bench.uniform), *args, **options)

    def identity(self) -> dict[str, Any]:
        """What makes a run this run."""
        return super().identity() | {"method": self.method.name}

    def make_adapter(self) -> None:
        """Add the adapter in the conditioning's own form."""
        self.conditioning.add(self.seed)

    def make_extra(self) -> torch.nn.Module:
        """The conditioning's parameters."""
        torch.manual_seed(self.seed)
        extra = self.conditioning.extra().to(self.lm.device)
        self.conditioning.attach(extra)
        return extra

    def rollout(self, rows: Tensor, k: int) -> Rollout:
        """Draw weights and sample with them. The reference is the base model, which reads no weights."""
        drawn = self.method.draw(len(rows))
        self.weights = drawn.repeat_interleave(k, 0)
        self.conditioning.set(self.weights)
        prompts = [self.prompts[int(row)] for row in rows]
        read = self.conditioning.inputs(prompts, drawn)
        plain = self.encoded[rows]
        policy = None if self.conditioning.folds else self.conditioning
        encoded, reference = (plain, None) if read == prompts else (self.lm.encode(read), plain)
        return collect(self.lm, encoded, k, self.config.temperature, self.config.minibatch_size, policy, reference)

    def scores(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Each reply's scores, scalarised by its own weights."""
        return self.method.utility(self.objectives(prompts, replies), self.weights)

    def kl_coef(self) -> Tensor:
        """Each reply's KL weight [N, 1]."""
        return self.method.kl_weights(self.weights)[:, None].to(self.lm.device)

    def values(self, features: Tensor, rows: Tensor) -> Tensor:
        """sum_i w_i V_i."""
        weights = self.weights.to(features.device)[rows]
        return (self.value_head(features) * weights[:, None]).sum(-1)

    def policy_logits(self, rollout: Rollout, rows: Tensor, T: int) -> Tensor:
        """Each row with its own weights."""
        self.conditioning.use(rows)
        return super().policy_logits(rollout, rows, T)

    def validation_replies(self) -> list[str]:
        """Greedy replies at uniform weights."""
        uniform = self.method.condition(None)
        self.conditioning.set(uniform)
        self.encoded_validation = self.lm.encode(self.conditioning.inputs(self.validation_prompts, uniform))
        return super().validation_replies()

    def decoding(self) -> AbstractContextManager[None]:
        """As the conditioning allows."""
        return self.conditioning.decoding()


class Steered:
    """A steerable model at one setting, as a policy."""

    def __init__(self, lm: LanguageModel, conditioning: Conditioning, weights: Tensor):
        self.lm, self.conditioning, self.weights = lm, conditioning, weights
        conditioning.set(weights)

    def reply(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """Reply texts."""
        read = self.conditioning.inputs(prompts, self.weights)
        with self.conditioning.decoding():
            return self.lm.reply(read, **options)

    def generate(self, prompts: Prompts, **options: Any) -> Tensor:
        """Reply tokens to encoded inputs."""
        return self.lm.generate(prompts, **options)

    def forward_reply(self, prompts: Prompts, reply: Tensor, reply_mask: Tensor) -> tuple[Tensor, Any]:
        """Logits of given replies to encoded inputs."""
        return self.lm.forward_reply(prompts, reply, reply_mask)


class Steerable(Method):
    """Trained once with random weights, then asked with any."""

    family = "steerable"
    knob: Knob = "weights"

    def __init__(self, bench: Bench):
        super().__init__(bench)
        self.conditioning = self.make_conditioning()

    @abstractmethod
    def make_conditioning(self) -> Conditioning:
        """How the policy is told its weights."""

    def draw(self, n: int) -> Tensor:
        """Weights [n, d] to train on: uniform on the simplex (Dirichlet with all ones)."""
        return torch.distributions.Dirichlet(torch.ones(self.conditioning.d)).sample((n,))

    def utility(self, scores: Tensor, weights: Tensor) -> Tensor:
        """The scalarised reward [N] of scores [N, d]: sum_i w_i r_i."""
        return (scores * weights).sum(1)

    def kl_weights(self, weights: Tensor) -> Tensor:
        """KL weight [N] for weights [N, d]: the w-mean of the single objectives' own."""
        return weights @ torch.tensor([self.bench.kl_coefs[name] for name in self.bench.names])

    def condition(self, setting: Setting) -> Tensor:
        """A setting as the weights [1, d] that the policy is told; uniform by default."""
        weights = torch.tensor([list(setting or self.bench.uniform)])
        return weights / weights.sum()

    def encode(self, prompts: Sequence[str], setting: Setting = None) -> Prompts:
        """The policy's inputs: prompts that may tell the weights."""
        return self.bench.lm.encode(self.conditioning.inputs(prompts, self.condition(setting)))

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        cost = self.bench.once(self.name, self._train)
        self.conditioning = self.bench.parts[self.name]
        return cost

    def _train(self) -> Cost:
        bench = self.bench
        config = bench.scalarised(bench.uniform)
        trainer = SteerablePPO(
            bench.lm, self.name, self, bench.train_prompts, config, watch=bench.objectives.watch(), **bench.options(self.name)
        )
        with self.conditioning.installed():
            trainer.train()
        bench.parts[self.name] = self.conditioning
        return cost_of(trainer)

    def replies_at(self, prompts: Sequence[str], settings: Sequence[Sequence[float]], batch_size: int = 128) -> list[list[str]]:
        """Greedy replies at many settings: every row of a batch has weights of its own."""
        lm, conditioning = self.bench.lm, self.conditioning
        weights = torch.cat([self.condition(self.checked(s) if len(s) else None) for s in settings]).repeat_interleave(len(prompts), 0)
        read = conditioning.inputs(list(prompts) * len(settings), weights)
        texts: list[str] = []
        with active(lm, self.name), conditioning.installed(), conditioning.decoding():
            for start in range(0, len(read), batch_size):
                conditioning.set(weights[start : start + batch_size])
                texts += lm.decode(lm.generate(lm.encode(read[start : start + batch_size])))
        return [texts[i * len(prompts) : (i + 1) * len(prompts)] for i in range(len(settings))]

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[Policy]:
        """The policy at these weights, uniform by default."""
        with active(self.bench.lm, self.name), self.conditioning.installed():
            yield Steered(self.bench.lm, self.conditioning, self.condition(setting))
