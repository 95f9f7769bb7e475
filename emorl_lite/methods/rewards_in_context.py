"""Rewards-in-Context: fine-tune on prompts that carry the reply's rewards, then ask for high ones (RiC, arXiv 2402.10207)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.lm.examination import examine
from emorl_lite.lm.forward import folded
from emorl_lite.lm.model import UNFINISHED, Encoded, LanguageModel
from emorl_lite.methods.base import Knob, Method, Policy, Setting, active
from emorl_lite.methods.bench import Bench, Cost
from emorl_lite.methods.conditioning import WeightsAsText
from emorl_lite.methods.steerable import Steered
from emorl_lite.training.run_folder import texts_digest
from emorl_lite.training.warm_start import supervise, tokenise_examples

ROUNDS = 2
"""Online rounds; half of the budget is offline, the rest is theirs."""
PASSES = 3
"""Passes of fine-tuning over the data, at each stage."""
FRONT = 0.7
"""A reply is near the front if one of its rewards reaches this quantile among those it is chosen from (RiC's code)."""
SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
"""How replies are sampled online (RiC's code)."""


class RewardsAsText(WeightsAsText):
    """Each reward as a word for its level from the lowest to the highest there is: "most reflection, no empathy, some fluency." """

    def __init__(self, *args: object):
        super().__init__(*args)  # type: ignore[arg-type]
        self.low, self.high = torch.zeros(self.d), torch.ones(self.d)

    def span(self, scores: Tensor) -> None:
        """Levels go from the lowest to the highest of these scores [N, d]."""
        self.low, self.high = scores.amin(0), scores.amax(0)

    def levels(self, scores: Tensor) -> Tensor:
        """Scores [N, d] as shares of the way from the lowest to the highest, [N, d] in [0, 1]."""
        return ((scores - self.low) / (self.high - self.low).clamp(min=1e-9)).clamp(0, 1)


class RewardsInContext(Method):
    """Minimise -log p(y | rewards r(x, y) in the prompt, x) over replies y of a data set, then of the model itself; ask for r(w).

    Offline: replies of the data set, each behind its own rewards. Online, `ROUNDS` times: ask for rewards near the front (all at their
    highest but one, which is anywhere), keep what is near the front of what was answered (one reward at least in its upper 30 %), and
    train on it and on the data set's replies that are near theirs. A preference w asks objective i for min(1, d w_i) of the way from its
    lowest reward to its highest: the highest as soon as its weight is average.

    All this as in its code, whose evaluation has another of its mappings, w_i / |w|. Differs from it: a reward is one of six words at the
    beginning of the prompt instead of a number with one decimal at its end (the tiny tokenizer has no digits; numbers that are normalised
    by mean and deviation say the same as levels do, in finer steps); half of the budget is offline and rounds are small; one learning rate
    for all stages (there a fourteenth online). The data set's replies count as data points: their rewards are what the training is paid
    with. No other method reads them. Without such replies the base model's stand for them. No PPO and no KL term.
    """

    name = "rewards-in-context"
    version = 3  # 1: learnt from the base's replies alone; 2: at the rate of objectives without one of their own
    family = "steerable"
    knob: Knob = "weights"
    reference = "arXiv 2402.10207"
    trains = "one adapter, supervised on scored replies"
    decodes = "one adapter, a longer prompt"

    def __init__(self, bench: Bench):
        super().__init__(bench)
        self.conditioning = RewardsAsText(bench.lm, self.name, bench.names)

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        self.check_possible(self.bench.lm)
        read = texts_digest([text for pair in self.bench.train_replies for text in pair])
        marks = {"rounds": ROUNDS, "passes": PASSES, "front": FRONT, "replies": read} | self.bench.own_rates()
        return self.bench.kept(self.name, marks, self._train)

    @classmethod
    def check_possible(cls, lm: LanguageModel) -> None:
        """Raise UserError for an encoder-decoder model, or without TRL."""
        if lm.seq2seq:
            raise UserError(f"method {cls.name}: TRL's fine-tuning is for decoder-only models, {lm.config.path} is an encoder-decoder")
        if find_spec("trl") is None:
            raise UserError(f"method {cls.name} needs TRL: pip install trl")

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[Policy]:
        """The policy asked for the rewards of these weights, uniform by default."""
        with active(self.bench.lm, self.name):
            yield Steered(self.bench.lm, self.conditioning, self.wanted(torch.tensor([list(setting or self.bench.uniform)])))

    def encode(self, prompts: Sequence[str], setting: Setting = None) -> Encoded:
        """The policy's inputs: prompts that ask for rewards."""
        levels = self.wanted(torch.tensor([list(setting or self.bench.uniform)]))
        return self.bench.lm.encode(self.conditioning.inputs(prompts, levels))

    def wanted(self, weights: Tensor) -> Tensor:
        """The levels of reward [n, d] to ask for, given weights [n, d]."""
        return (weights / weights.sum(1, keepdim=True) * weights.shape[1]).clamp(max=1)

    def _train(self) -> tuple[int, int]:
        bench, lm = self.bench, self.bench.lm
        examine(lm)
        torch.manual_seed(bench.seed)
        prompts, replies, sampled = self._offline(bench.ppo.episodes // 2)
        scores = bench.objectives(prompts, replies)
        self.conditioning.span(scores)
        offline = self._examples(prompts, replies, scores)
        self._fine_tune(offline, bench.seed)
        near = near_front(scores)
        data = self._examples([prompts[i] for i in near], [replies[i] for i in near], scores[near])
        each = (bench.ppo.episodes - len(prompts)) // ROUNDS
        for number in range(1, ROUNDS + 1):
            torch.manual_seed(bench.seed * 1000 + number)
            asked = _random_prompts(bench.train_prompts, each)
            with active(lm, self.name), folded(lm):
                replies = lm.reply(self.conditioning.inputs(asked, goals(each, len(bench.names))), **SAMPLING)
            scores = bench.objectives(asked, replies)
            near = near_front(scores)
            data += self._examples([asked[i] for i in near], [replies[i] for i in near], scores[near])
            self._fine_tune(data, bench.seed + number)
        return len(prompts) + each * ROUNDS, sampled + each * ROUNDS

    def _offline(self, most: int) -> tuple[list[str], list[str], int]:
        """Prompts, their replies, and how many of these were sampled: the data set's in random order, of those that the model could have
        given; if it has none, the base's own."""
        bench, lm = self.bench, self.bench.lm
        lengths = [len(ids) for ids in lm.words.ids([reply for _, reply in bench.train_replies])]
        short = [pair for pair, n in zip(bench.train_replies, lengths, strict=True) if n < lm.config.max_new_tokens]
        if short:
            chosen = [short[i] for i in torch.randperm(len(short)).tolist()[:most]]
            return [prompt for prompt, _ in chosen], [reply for _, reply in chosen], 0
        prompts = _random_prompts(bench.train_prompts, most)
        with lm.without_adapters():
            return prompts, lm.reply(prompts, do_sample=True), most

    def _examples(self, prompts: Sequence[str], replies: Sequence[str], scores: Tensor) -> list[tuple[str, str]]:
        """(prompt with the rewards of its reply, reply) of the replies that ended; scores [N, d]."""
        input_texts = self.conditioning.inputs(prompts, self.conditioning.levels(scores))
        return [(text, reply) for text, reply in zip(input_texts, replies, strict=True) if not reply.endswith(UNFINISHED) and reply]

    def _fine_tune(self, data: list[tuple[str, str]], seed: int) -> None:
        lm, ppo = self.bench.lm, self.bench.scalarised(self.bench.uniform)
        if not data:
            limit = lm.config.max_new_tokens
            raise UserError(f"method {self.name}: no reply ended within {limit} tokens, so there is nothing to learn from")
        lm.use(self.name)
        rows = tokenise_examples(lm, data)
        supervise(lm, rows, max(1, PASSES * len(rows) // ppo.batch_size), ppo.batch_size, ppo.lr, seed)
        lm.model.eval()


def goals(n: int, d: int) -> Tensor:
    """Levels of reward [n, d] to ask for near the front: the highest of all but one, which is the least of d uniform draws (RiC's code)."""
    drawn = torch.rand(n, d)
    return torch.where(drawn == drawn.amin(1, keepdim=True), drawn, torch.ones(n, d))


def near_front(scores: Tensor) -> list[int]:
    """The rows of scores [N, d] that reach the quantile `FRONT` of all rows in one objective at least: RiC's rejection of the others."""
    enough = torch.quantile(scores, FRONT, 0) if len(scores) else scores
    return (scores >= enough).any(1).nonzero()[:, 0].tolist()


def _random_prompts(prompts: Sequence[str], n: int) -> list[str]:
    """n prompts in random order, again from the start when they run out."""
    order: list[int] = []
    while len(order) < n:
        order += torch.randperm(len(prompts)).tolist()
    return [prompts[i] for i in order[:n]]
