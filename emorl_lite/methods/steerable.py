"""One policy for all weights: PPO with weights drawn anew for every prompt, and the methods' common part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.ranges import check_batch
from emorl_lite.base.texts import check_texts
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.methods.base import Knob, Method, Policy, Setting, active
from emorl_lite.methods.bench import Bench, Cost, cost_of
from emorl_lite.methods.conditioning import Conditioning
from emorl_lite.methods.scores import WeightedSum
from emorl_lite.training.penalised_reward import PenalisedReward, logarithm
from emorl_lite.training.policy import AdapterPolicy, decode_in_parts
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import Rollout, collect, sampling


class SteerablePolicy(AdapterPolicy):
    """A policy that is told weights, drawn for every prompt; its critic knows them too.

    The critic predicts one value per weight and takes their w-mean. That is the form of the return where the utility is linear in w; for
    Tchebycheff's and for a KL weight that is not linear in w it is only the best of that form, which handicaps those two a little.
    """

    def __init__(self, method: Steerable):
        super().__init__(method.bench.lm, method.name)
        self.method, self.conditioning = method, method.conditioning
        self.values_per_state, self.same_for_all_rows = self.conditioning.d, self.conditioning.same_for_all_rows
        self.weights = torch.empty(0)
        """Weights [N, d] that the replies of the last rollout were asked with."""

    def identity(self) -> dict[str, Any]:
        """Which method it is."""
        return {"method": self.method.name}

    def make(self, seed: int) -> None:
        """Add the adapter in the conditioning's own form."""
        self.conditioning.add(seed)

    def extra(self, seed: int) -> torch.nn.Module:
        """The conditioning's parameters."""
        torch.manual_seed(seed)
        module = self.conditioning.extra().to(self.lm.device)
        self.conditioning.attach(module)
        return module

    def rollout(self, prompts: Sequence[str], inputs: Encoded, k: int, config: PPOConfig) -> Rollout:
        """Draw weights and sample with them. The reference is the base model, which reads no weights."""
        weights = self.method.draw(len(prompts))
        self.weights = weights.repeat_interleave(k, 0)
        self.conditioning.set(self.weights)
        input_texts = self.conditioning.inputs(prompts, weights)
        policy = None if self.conditioning.same_for_all_rows else self.conditioning
        policy_inputs, reference = (inputs, None) if input_texts == list(prompts) else (self.lm.encode(input_texts), inputs)
        return collect(self.lm, policy_inputs, k, config.temperature, config.minibatch_size, policy, reference)

    def logits(self, rollout: Rollout, rows: Tensor, T: int) -> Tensor:
        """Each row with its own weights."""
        self.conditioning.use(rows)
        return super().logits(rollout, rows, T)

    def values(self, head: torch.nn.Module, features: Tensor, rows: Tensor) -> Tensor:
        """sum_i w_i V_i."""
        weights = self.weights.to(features.device)[rows]
        return (head(features) * weights[:, None]).sum(-1)

    def greedy(self, prompts: Sequence[str], inputs: Encoded) -> list[str]:
        """Greedy replies at uniform weights."""
        return self._at_uniform(prompts)

    def sampled(self, prompts: Sequence[str], inputs: Encoded, k: int, temperature: float) -> list[str]:
        """k sampled replies to each prompt at uniform weights."""
        return self._at_uniform(prompts, **sampling(k, temperature))

    def _at_uniform(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """Replies at uniform weights, greedy unless the options to generate() say otherwise."""
        uniform = self.method.condition(None)
        self.conditioning.set(uniform)
        with self.conditioning.decoding():
            return decode_in_parts(self.lm, self.lm.encode(self.conditioning.inputs(prompts, uniform)), **options)


class SteerableReward(PenalisedReward):
    """E_w E_x,y [u(r(x, y), w) - beta(w) KL], w as drawn by the policy for each prompt. Validation is at uniform weights."""

    def __init__(self, method: Steerable, policy: SteerablePolicy):
        self.method, self.policy, self.objectives = method, policy, method.bench.objectives
        super().__init__(WeightedSum(self.objectives, method.bench.uniform), kl_coef=0.0)

    def scores(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Each reply's scores, scalarised by its own weights."""
        return self.method.utility(self.objectives(prompts, replies), self.policy.weights)

    def logarithms(self, prompts: list[str], replies: list[str], scores: Tensor) -> Tensor:
        """The same of each score's logarithm, whose best is 0."""
        return self.method.utility(logarithm(self.objectives(prompts, replies)), self.policy.weights, best=0.0)

    def kl_coef(self) -> Tensor:
        """Each reply's KL weight [N, 1]."""
        return self.method.kl_weights(self.policy.weights)[:, None].to(self.policy.lm.device)


class Steered:
    """A steerable model at one setting, as a policy."""

    def __init__(self, lm: LanguageModel, conditioning: Conditioning, weights: Tensor):
        self.lm, self.conditioning, self.weights = lm, conditioning, weights
        conditioning.set(weights)

    def reply(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """Reply texts."""
        input_texts = self.conditioning.inputs(prompts, self.weights)
        with self.conditioning.decoding():
            return self.lm.reply(input_texts, **options)

    def generate(self, inputs: Encoded, **options: Any) -> Tensor:
        """Reply tokens to encoded inputs."""
        return self.lm.generate(inputs, **options)

    def forward_reply(self, inputs: Encoded, reply: Tensor, reply_mask: Tensor) -> tuple[Tensor, Any]:
        """Logits of given replies to encoded inputs."""
        return self.lm.forward_reply(inputs, reply, reply_mask)


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

    def utility(self, scores: Tensor, weights: Tensor, best: float = 1.0) -> Tensor:
        """The scalarised reward [N] of scores [N, d], of which `best` is the highest there can be: sum_i w_i r_i."""
        return (scores * weights).sum(1)

    def kl_weights(self, weights: Tensor) -> Tensor:
        """KL weight [N] for weights [N, d]: the w-mean of the single objectives' own."""
        return weights @ torch.tensor([self.bench.kl_coefs[name] for name in self.bench.names])

    def condition(self, setting: Setting) -> Tensor:
        """A setting as the weights [1, d] that the policy is told; uniform by default."""
        weights = torch.tensor([list(setting or self.bench.uniform)])
        return weights / weights.sum()

    def encode(self, prompts: Sequence[str], setting: Setting = None) -> Encoded:
        """The policy's inputs: prompts that may tell the weights."""
        return self.bench.lm.encode(self.conditioning.inputs(prompts, self.condition(setting)))

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        cost = self.bench.once(self.name, self._train)
        self.conditioning = self.bench.parts[self.name]
        return cost

    def _train(self) -> Cost:
        bench = self.bench
        trainer = self.trainer(watch=bench.objectives.watch(), **bench.options(self.name))
        with self.conditioning.installed():
            trainer.train()
        bench.parts[self.name] = self.conditioning
        return cost_of(trainer)

    def trainer(self, **options: Any) -> PPOTrainer:
        """PPO for this policy on this objective."""
        bench, policy = self.bench, SteerablePolicy(self)
        objective = SteerableReward(self, policy)
        config = bench.scalarised(bench.uniform)
        return PPOTrainer(bench.lm, self.name, objective, bench.train_prompts, config, policy=policy, **options)

    def replies_at(self, prompts: Sequence[str], settings: Sequence[Sequence[float]], batch_size: int = 128) -> list[list[str]]:
        """Greedy replies at many settings: in one prefix tree where there is one, else every row of a batch has weights of its own."""
        if self.corners() is not None:
            return super().replies_at(prompts, settings)
        batch_size = check_batch(batch_size)
        lm, conditioning, prompts = self.bench.lm, self.conditioning, check_texts(prompts, "prompt")
        weights = torch.cat([self.condition(self.checked(s) if len(s) else None) for s in settings]).repeat_interleave(len(prompts), 0)
        input_texts = conditioning.inputs(prompts * len(settings), weights)
        texts: list[str] = []
        with active(lm, self.name), conditioning.installed(), conditioning.decoding():
            for start in range(0, len(input_texts), batch_size):
                conditioning.set(weights[start : start + batch_size])
                texts += lm.decode(lm.generate(lm.encode(input_texts[start : start + batch_size])))
        return [texts[i * len(prompts) : (i + 1) * len(prompts)] for i in range(len(settings))]

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[Policy]:
        """The policy at these weights, uniform by default."""
        with active(self.bench.lm, self.name), self.conditioning.installed():
            yield Steered(self.bench.lm, self.conditioning, self.condition(setting))
