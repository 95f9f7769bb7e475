"""GenARM: reward models that score every next word guide the base while it decodes (arXiv 2410.08193).

Shapes: N pairs of replies, d objectives, T reply tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from emorl_lite.base.domains import FARTHEST, simplex_domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.ensemble.corners import MOST, Corners, Source
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.lm.examination import check_mixable, examine
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Knob, Method, Setting
from emorl_lite.methods.bench import Bench, Cost
from emorl_lite.methods.dera import add_reference
from emorl_lite.training.randomness import OwnRandomness
from emorl_lite.training.rollout import token_logprobs

BETA_R = 0.3
"""How steeply a difference of log-probabilities becomes a preference. (The authors' scripts: .05; .5 and .01 for two objectives.)"""
LR_TIMES = 3.0
"""The first learning rate, as a multiple of PPO's."""
PASSES = 2
"""Passes over the pairs: PPO's over a rollout."""
STRENGTH = 1.0
"""1 / beta of the decoder: the sum of the reward models' weights beside the base, whose own is 1. (The authors: 1 at first.)"""


@dataclass(frozen=True)
class Pairs:
    """N prompts, two replies of the base to each, and what every objective says of them."""

    prompts: list[str]
    """One a pair."""
    replies: list[Tensor]
    """2 N replies as token numbers, each up to its end token; the two replies to a prompt adjacent."""
    scores: Tensor
    """[2 N, d]."""

    def preferred(self, objective: int) -> Tensor:
        """Rows (better, worse) of the replies, by one objective: [n, 2]. Pairs of equal scores are left out: they say nothing."""
        first, second = self.scores[0::2, objective], self.scores[1::2, objective]
        rows = torch.arange(len(self.replies)).view(-1, 2)
        rows = torch.where((first >= second)[:, None], rows, rows.flip(1))
        return rows[first != second]

    def ties(self, objective: int) -> int:
        """How many pairs an objective leaves out."""
        return len(self.prompts) - len(self.preferred(objective))


def draw_pairs(bench: Bench, n: int) -> Pairs:
    """Two replies, sampled from the base model, to each of n random training prompts, scored by all objectives. The seed is the bench's."""
    n = checked(n, int, [Within(1, 10**6)], f"pairs {shown(n)}")
    lm, prompts, replies, scores = bench.lm, [], [], []
    with OwnRandomness(lm.device, bench.seed):
        order = torch.cat([torch.randperm(len(bench.train_prompts)) for _ in range(-(-n // len(bench.train_prompts)))])[:n]
        for rows in order.split(max(1, bench.ppo.batch_size)):
            batch = [bench.train_prompts[int(row)] for row in rows]
            with lm.without_adapters():
                tokens = lm.generate(lm.encode(batch), do_sample=True, num_return_sequences=2)
            lengths = lm.reply_mask(tokens).sum(1)
            prompts += batch
            replies += [reply[: int(length)].cpu() for reply, length in zip(tokens, lengths, strict=True)]
            scores.append(bench.objectives([prompt for prompt in batch for _ in range(2)], lm.decode(tokens)))
    return Pairs(prompts, replies, torch.cat(scores))


def log_probability(lm: LanguageModel, prompts: Sequence[str], replies: Sequence[Tensor]) -> Tensor:
    """log pi(y | x) of replies (token numbers) to their prompts under the active adapter, summed over tokens: [N], with gradients."""
    tokens = pad_sequence(list(replies), batch_first=True, padding_value=lm.tokenizer.pad_token_id).to(lm.device)
    mask = pad_sequence([torch.ones_like(reply) for reply in replies], batch_first=True).to(lm.device)
    logits, _ = lm.forward_reply(lm.encode(prompts), tokens, mask)
    return (token_logprobs(logits, tokens, 1.0) * mask).sum(1)


def preference_loss(better: Tensor, worse: Tensor, beta_r: float = BETA_R) -> Tensor:
    """-log sigmoid(beta_r (log pi(y_w | x) - log pi(y_l | x))), averaged over pairs: log-probabilities [n] of better and worse replies.

    No reference model (that would be DPO) and no division by length, as in the authors' code.
    """
    return -F.logsigmoid(beta_r * (better - worse)).mean()


class GenARM(Method):
    """pi_w(y_t) proportional to pi_0(y_t) prod_i pi_i(y_t)^{w_i / beta}: the base, and a reward model of each objective, word by word.

    An autoregressive reward model is a language model whose log-probability is the reward: r_i(x, y) = sum_t log pi_i(y_t | x, y_<t) up to
    the factor beta_r, so that it scores every next word. It learns from pairs (`preference_loss`), here from two replies of the base to a
    training prompt, of which the objective's reward says the better one. All objectives judge the same pairs; the budget is counted in
    replies, half as many prompts. Offline: no reply of what is trained is ever sampled.

    The knob is the weights, divided by their sum; 1 / beta stays what it was chosen to be, like the loss's beta_r and the learning rate
    (`scripts/tune_genarm.py`: by the regularised score that the other methods train for, on validation prompts). As logits it is
    z_0 + (1 / beta) sum_i w_i z_i, so there is an exact map, its corners z_0 + z_i / beta. At B = 0 a reward model is the base, and the
    mixture the base with sharper probabilities, not the base itself: that is in the parametrisation.
    Differs from the paper: the reward models are adapters of the base, from its own replies; a linear instead of a cosine schedule.
    (Loss, mixture and temperature were read in the authors' code, not in the paper's text.)
    """

    name = "genarm"
    family = "decoding"
    knob: Knob = "weights"
    reference = "arXiv 2410.08193"
    trains = "one reward model per objective, on the same pairs of the base's replies"
    decodes = "base and d reward models at every token"
    most = MOST

    def __init__(self, bench: Bench, strength: float = STRENGTH):
        super().__init__(bench)
        self.strength = self.option("strength", strength, float, Within(0, FARTHEST, above=True))
        self._guided: EnsembleLM | None = None

    def prepare(self) -> Cost:
        """Train or load the reward models. The pairs are counted once."""
        self.check_possible(self.bench.lm)
        options = {"pairs": self.bench.ppo.episodes // 2, "beta_r": BETA_R, "lr_times": LR_TIMES, "passes": PASSES}
        costs = [self.bench.kept(run, options, partial(self._train, run)) for run in self.adapters]
        add_reference(self.bench)
        return sum(costs[1:], costs[0])

    @classmethod
    def check_possible(cls, lm: LanguageModel) -> None:
        """Raise UserError for a model whose logits cannot be added up, or whose head adds a bias: a sum would hold it several times."""
        if check_mixable(lm, "logits").bias:
            raise UserError(f"method {cls.name}: {lm.config.path} has a head with a bias: a sum of logits would hold it several times")

    @property
    def adapters(self) -> list[str]:
        """The reward models, in the order of the objectives."""
        return [f"{self.name}-{objective}" for objective in self.bench.names]

    @property
    def calls(self) -> int:
        """The base, and one a objective."""
        return len(self.adapters) + 1

    def corners(self) -> Corners:
        """The base with all strength on one reward model."""
        lm, d = self.bench.lm, len(self.adapters)
        sources = (Source(lm), *(Source(lm, adapter) for adapter in self.adapters))
        return Corners(sources, simplex_domain(self.bench.names), np.hstack([np.ones((d, 1)), self.strength * np.eye(d)]))

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[EnsembleLM]:
        """The guided base at these weights, uniform by default."""
        weights = setting or self.bench.uniform
        guidance = [self.strength * w / sum(weights) for w in weights]
        self._guided = EnsembleLM(self.bench.lm, [add_reference(self.bench), *self.adapters], (1.0, *guidance), "logits")
        try:
            yield self._guided
        finally:
            self._guided = None

    @contextmanager
    def shrunk(self, scale: float) -> Iterator[None]:
        """Inside `policy`, this share of the strength: 0 is the base. (Smaller adapters would still sharpen it.)"""
        guided = self._guided
        if guided is None:
            raise UserError(f"method {self.name}: nothing to shrink outside its policy")
        whole = guided.weights
        guided.weights = torch.cat([whole[:1], scale * whole[1:]])
        try:
            yield
        finally:
            guided.weights = whole

    # -- training

    def pairs(self) -> Pairs:
        """What all reward models learn from; drawn once, or anew by a process that goes on with the second of them."""
        key = f"{self.name} pairs"
        if key not in self.bench.parts:
            self.bench.parts[key] = draw_pairs(self.bench, max(1, self.bench.ppo.episodes // 2))
        pairs: Pairs = self.bench.parts[key]
        return pairs

    def _train(self, run: str) -> tuple[int, int]:
        """One reward model; returns (prompts answered, replies generated), which the first one counts for all."""
        bench, objective = self.bench, self.adapters.index(run)
        examine(bench.lm)
        pairs = self.pairs()
        train_reward_model(bench, run, pairs, objective)
        return (len(pairs.prompts), len(pairs.replies)) if objective == 0 else (0, 0)


def train_reward_model(
    bench: Bench, adapter: str, pairs: Pairs, objective: int, beta_r: float = BETA_R, lr_times: float = LR_TIMES, passes: int = PASSES
) -> list[float]:
    """Fit an adapter to what one objective (its number) prefers; a step takes as many replies as a gradient step of PPO.

    The learning rate falls to 0 linearly. Returns the loss of every step. Raises UserError where all pairs are ties, and for options that
    make no sense.
    """
    for name, value in {"beta_r": beta_r, "lr_times": lr_times}.items():
        checked(value, float, [Within(0, FARTHEST, above=True)], f"adapter {adapter!r}: {name} {shown(value)}")
    checked(passes, int, [Within(1, FARTHEST)], f"adapter {adapter!r}: passes {shown(passes)}")
    lm, ppo, preferred, lr = bench.lm, bench.ppo, pairs.preferred(objective), lr_times * bench.ppo.lr
    if not len(preferred):
        raise UserError(f"adapter {adapter!r}: {bench.names[objective]} scores both replies of all pairs the same, so none is preferred")
    lm.use(adapter)
    lm.model.eval()
    parameters = [p for p in lm.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    losses: list[float] = []
    with OwnRandomness(lm.device, bench.seed):
        steps = [rows for _ in range(passes) for rows in torch.randperm(len(preferred)).split(max(1, ppo.minibatch_size // 2))]
        bar: dict[str, Any] = {"unit": "step", "file": sys.stdout, "mininterval": 1, "disable": not bench.progress}
        for step, rows in enumerate(tqdm(steps, adapter, **bar)):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / len(steps))
            chosen = preferred[rows].T.flatten().tolist()  # all better ones, then all worse ones
            better, worse = log_probability(lm, [pairs.prompts[i // 2] for i in chosen], [pairs.replies[i] for i in chosen]).chunk(2)
            loss = preference_loss(better, worse, beta_r)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, ppo.max_grad_norm)
            optimizer.step()
            losses.append(float(loss.detach()))
    optimizer.zero_grad()
    return losses
