"""Rewards-in-Context: fine-tune on prompts that carry the reply's rewards, then ask for high ones (RiC, arXiv 2402.10207)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

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
from emorl_lite.search.simplex_grid import compositions
from emorl_lite.training.warm_start import supervise, tokenise_examples

ROUNDS = 2
"""Online rounds; half of the budget is offline, the rest is theirs."""
PASSES = 3
"""Passes of fine-tuning over the data, at each stage."""


class RewardsAsText(WeightsAsText):
    """Each reward as a word for its quantile among the base model's replies: "most reflection, no empathy, some fluency." """

    def __init__(self, *args: object):
        super().__init__(*args)  # type: ignore[arg-type]
        self.offline = torch.zeros(0, self.d)

    def quantiles(self, scores: Tensor) -> Tensor:
        """Scores [N, d] -> the share of offline replies that score less, and half of those that score the same, [N, d]."""
        below = (self.offline[None] < scores[:, None]).float().mean(1)
        ties = (self.offline[None] == scores[:, None]).float().mean(1)
        return below + ties / 2


class RewardsInContext(Method):
    """Minimise -log p(y | rewards r(x, y) as text, x) over replies y of the base, then of the model itself; ask for r(w) at inference.

    A preference w asks objective i for quantile min(1, d w_i): the highest as soon as its weight is average (the paper's mapping for two
    objectives, carried over to d). Online rounds keep the better half of replies by sum_i w_i r_i at the weights they were asked with
    (the paper: those near the front). Differs from the paper: quantiles as words instead of normalised numbers; no data set of human
    replies, only the base model's; small rounds. No PPO and no KL term.
    """

    name = "rewards-in-context"
    family = "steerable"
    knob: Knob = "weights"
    reference = "arXiv 2402.10207"
    trains = "one adapter, supervised on its own scored replies"
    decodes = "one adapter, a longer prompt"

    def __init__(self, bench: Bench):
        super().__init__(bench)
        self.conditioning = RewardsAsText(bench.lm, self.name, bench.names)

    def prepare(self) -> Cost:
        """Train or load the adapter."""
        self.check_possible(self.bench.lm)
        return self.bench.kept(self.name, {"rounds": ROUNDS, "passes": PASSES}, self._train)

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
        quantiles = self.wanted(torch.tensor([list(setting or self.bench.uniform)]))
        return self.bench.lm.encode(self.conditioning.inputs(prompts, quantiles))

    def wanted(self, weights: Tensor) -> Tensor:
        """The reward quantiles [n, d] to ask for, given weights [n, d]."""
        return (weights / weights.sum(1, keepdim=True) * weights.shape[1]).clamp(max=1)

    def _train(self) -> tuple[int, int]:
        bench, lm = self.bench, self.bench.lm
        budget, d = bench.ppo.episodes, len(bench.names)
        examine(lm)
        torch.manual_seed(bench.seed)
        prompts = _random_prompts(bench.train_prompts, budget // 2)
        with lm.without_adapters():
            replies = lm.reply(prompts, do_sample=True)
        scores = bench.objectives(prompts, replies)
        self.conditioning.offline = scores
        data = self._examples(prompts, replies, self.conditioning.quantiles(scores))
        self._fine_tune(data, bench.seed)
        grid = torch.tensor(compositions(d, 5)) / 5
        for number in range(1, ROUNDS + 1):
            torch.manual_seed(bench.seed * 1000 + number)
            weights = grid[torch.randint(len(grid), (budget // 2 // ROUNDS,))]
            prompts = _random_prompts(bench.train_prompts, len(weights))
            with active(lm, self.name), folded(lm):
                replies = lm.reply(self.conditioning.inputs(prompts, self.wanted(weights)), do_sample=True)
            scores = bench.objectives(prompts, replies)
            utility = (scores * weights).sum(1)
            best_rows = _better_half(utility, weights).tolist()
            data += self._examples(
                [prompts[i] for i in best_rows], [replies[i] for i in best_rows], self.conditioning.quantiles(scores[best_rows])
            )
            self._fine_tune(data, bench.seed + number)
        samples = budget // 2 + budget // 2 // ROUNDS * ROUNDS
        return samples, samples

    def _examples(self, prompts: Sequence[str], replies: Sequence[str], quantiles: Tensor) -> list[tuple[str, str]]:
        """(prompt with quantiles, reply) of the replies that ended."""
        input_texts = self.conditioning.inputs(prompts, quantiles)
        return [(text, reply) for text, reply in zip(input_texts, replies, strict=True) if not reply.endswith(UNFINISHED) and reply]

    def _fine_tune(self, data: list[tuple[str, str]], seed: int) -> None:
        lm, ppo = self.bench.lm, self.bench.ppo
        if not data:
            limit = lm.config.max_new_tokens
            raise UserError(f"method {self.name}: no reply ended within {limit} tokens, so there is nothing to learn from")
        lm.use(self.name)
        rows = tokenise_examples(lm, data)
        supervise(lm, rows, max(1, PASSES * len(rows) // ppo.batch_size), ppo.batch_size, ppo.lr, seed)
        lm.model.eval()


def _random_prompts(prompts: Sequence[str], n: int) -> list[str]:
    """n prompts in random order, again from the start when they run out."""
    order: list[int] = []
    while len(order) < n:
        order += torch.randperm(len(prompts)).tolist()
    return [prompts[i] for i in order[:n]]


def _better_half(utility: Tensor, weights: Tensor) -> Tensor:
    """Of the replies asked with the same weights, the better half: row numbers."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for i, w in enumerate(weights.tolist()):
        groups.setdefault(tuple(w), []).append(i)
    best_rows = [sorted(rows, key=lambda i: -float(utility[i]))[: (len(rows) + 1) // 2] for rows in groups.values()]
    return torch.tensor([i for rows in best_rows for i in rows])
