"""Rewards: functions of (prompts, replies) with scores in [0, 1], one per objective.

A `Guarded` reward scores an unfinished reply 0 and is multiplied by a repetition guard, so that it cannot be won by running on or by
saying the same thing again. (`RewardBuilder` guards all in `REWARDS`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.scores import scores_of
from emorl_lite.base.texts import check_pairs, check_texts
from emorl_lite.base.types import Reward
from emorl_lite.lm.model import UNFINISHED, Encoded, LanguageModel
from emorl_lite.rewards.alone import alone
from emorl_lite.rewards.metrics import words

PAIRS_AT_ONCE = 64
"""Prompts and replies read at a time as one text each."""


def finished(replies: Sequence[str]) -> Tensor:
    """1 for replies that ended by themselves, 0 for those cut at the token limit, [N]."""
    return torch.tensor([0.0 if r.endswith(UNFINISHED.strip()) else 1.0 for r in check_texts(replies, "reply")])


def repetition_guard(replies: Sequence[str], n: int = 4) -> Tensor:
    """Share of distinct n-grams of each reply, [N]: 1 without repetition, near 0 for a loop."""
    shares = []
    for reply in check_texts(replies, "reply"):
        words = reply.lower().split()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        shares.append(len(set(grams)) / len(grams) if grams else 1.0)
    return torch.tensor(shares)


def perplexity(lm: LanguageModel, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
    """Perplexity [N] of each reply (its end included) under the adapter-free model; an empty prompt scores the reply on its own."""
    prompts, replies = check_pairs(prompts, replies, "perplexity")
    if not any(prompts):
        logp, mask = alone(lm, replies)
    else:
        with lm.without_adapters():
            logp, mask = lm.score_texts(prompts, replies)
    return torch.exp(-logp.sum(1) / mask.sum(1).clamp(min=1)).cpu()


def perplexity_of_both(lm: LanguageModel, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
    """Perplexity [N] of each prompt, in the model's template, and its reply as one text, every token but the first, without an end token.

    What the EMORL paper's code calls perplexity: prompt and reply are given to the adapter-free model one after the other. Raises UserError
    for an encoder-decoder, which does not predict its prompt.
    """
    if lm.seq2seq:
        raise UserError(f"--rewards.fluency-both: {lm.config.path} is an encoder-decoder; name a decoder-only --rewards.fluency-model")
    own = lm.words.ids([reply.removesuffix(UNFINISHED) for reply in replies])
    lines = [[*prompt, *reply][: lm.context] for prompt, reply in zip(lm.template.ids(prompts), own, strict=True)]
    values = torch.ones(len(lines))
    if not lines:
        return values
    by_length = torch.tensor([len(line) for line in lines], dtype=torch.long).argsort()
    with torch.no_grad(), lm.without_adapters():
        for rows in by_length.split(PAIRS_AT_ONCE):
            read = lm.pad([lines[int(row)] for row in rows])
            logp = lm.logprobs(Encoded(read.ids[:, :1], read.mask[:, :1]), read.ids[:, 1:], read.mask[:, 1:])
            values[rows] = torch.exp(-logp.sum(1) / read.mask[:, 1:].sum(1).clamp(min=1)).cpu()
    return values


@dataclass
class Fluency:
    """(cap - perplexity) / cap, clipped to [0, 1], of the reply alone under a frozen language model (the paper: GPT-2, cap 50).

    The reply is scored without its client: given the client, a faithful reflection is the easiest text of all, and fluency would
    agree with reflection.
    """

    lm: LanguageModel
    cap: float
    context: bool = False
    """Score the reply given its client after all: real replies on their own nearly all lie beyond any useful cap."""
    both: bool = False
    """Score client and reply as one text, as the paper's code does: the client's part is the same for all replies to it."""

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N]."""
        prompts, replies = check_pairs(prompts, replies, "fluency")
        contexts = prompts if self.context else [""] * len(replies)
        found = perplexity_of_both(self.lm, prompts, replies) if self.both else perplexity(self.lm, contexts, replies)
        return ((self.cap - found) / self.cap).clamp(0, 1)


@dataclass
class Brevity:
    """(cap - words) / cap, clipped to [0, 1]: a counsellor says little. Pulls against diversity and reflection, which need words."""

    cap: int

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N]."""
        prompts, replies = check_pairs(prompts, replies, "brevity")
        return torch.tensor([max(0.0, 1 - len(words(reply)) / self.cap) for reply in replies])


@dataclass
class Guarded:
    """A reward that an unfinished, repetitive or empty reply cannot win."""

    score: Reward
    name: str
    repeat_ngram: int = 4

    def __call__(self, prompts: list[str], replies: list[str]) -> Tensor:
        """Scores [N] in [0, 1]. Raises UserError unless there is a prompt and one finite number a reply."""
        prompts, replies = check_pairs(prompts, replies, f"reward {self.name!r}")
        if not replies:
            return torch.zeros(0)
        nonempty = torch.tensor([1.0 if r.removesuffix(UNFINISHED).strip() else 0.0 for r in replies])
        scores, ended = scores_of(self.score, prompts, replies, self.name), finished(replies)
        return scores * ended * repetition_guard(replies, self.repeat_ngram) * nonempty


@dataclass
class RewardSet(Mapping[str, Reward]):
    """The rewards of a run's objectives, by name."""

    rewards: dict[str, Reward]

    def __getitem__(self, name: str) -> Reward:
        if name not in self.rewards:
            raise UserError(f"objective {name!r} is unknown: expected one of {', '.join(self.rewards)}")
        return self.rewards[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rewards)

    def __len__(self) -> int:
        return len(self.rewards)

    def scores(self, prompts: Sequence[str], replies: Sequence[str]) -> dict[str, Tensor]:
        """Scores [N] of every objective. Raises UserError unless each gives one finite number a reply."""
        prompts, replies = check_pairs(prompts, replies, "rewards")
        return {name: scores_of(reward, prompts, replies, name) for name, reward in self.rewards.items()}

    def means(self, prompts: Sequence[str], replies: Sequence[str]) -> dict[str, float]:
        """Mean score of every objective: what the search maximises the mean of."""
        return {name: float(score.mean()) for name, score in self.scores(prompts, replies).items()}
