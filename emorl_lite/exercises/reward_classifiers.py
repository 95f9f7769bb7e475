"""The exercises of notebook 01, the rewards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.presets import get_preset
from emorl_lite.base.workspace import Workspace
from emorl_lite.data.small_world import REFLECTION, WRONG_COSTS, grammar
from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.plots.rewards import calibration_error, roc
from emorl_lite.rewards.build import RewardBuilder
from emorl_lite.rewards.objectives import RewardSet, repetition_guard

PAID, TRUE = 0.8, 0.2
"""Of a reply that fools the empathy reward: it earns at least this on average, where the truth is at most that."""


# -- 1, the rule of the labels


def reflection_label(right: int, wrong: int) -> float:
    """The label of a reply that says back `right` of the client's elements and `wrong` others."""
    return max(0.0, REFLECTION[right] - WRONG_COSTS * wrong)


def _label_cases(random: np.random.Generator) -> Iterator[Case]:
    for right in range(4):
        for wrong in range(5):
            kind = "no wrong element" if not wrong else "one wrong element" if wrong == 1 else "several wrong elements"
            yield Case(kind if right or not wrong else "wrong elements only", (right, wrong))


# -- 2, the area under the ROC curve


def auc_by_pairs(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """The share of pairs (positive, negative) in which the positive scores higher; ties count half."""
    return roc(np.array(scores), np.array(positive))[2]


def _auc_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one positive, one negative", ([0.2, 0.7], [False, True]))
    yield Case("one positive, one negative", ([0.7, 0.2], [False, True]))
    yield Case("all scores equal", ([0.5] * 5, [True, False, True, False, False]))
    yield Case("ties between a positive and a negative", ([0.1, 0.4, 0.4, 0.8], [False, True, False, True]))
    yield Case("perfectly told apart", ([0.9, 0.8, 0.6, 0.55], [True, True, False, False]))
    for n in (5, 8, 12, 20, 30):
        for share in (0.2, 0.5, 0.8):
            count = min(n - 1, max(1, round(n * share)))
            positive = random.permutation([True] * count + [False] * (n - count)).tolist()
            digits = 1 if n > 10 else 3
            scores = np.round(0.3 * np.array(positive) + 0.7 * random.random(n), digits).tolist()
            yield Case("many replies, with ties" if digits == 1 else "few replies", (scores, positive))


# -- 3, log-probabilities of tokens


def token_logprobs(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """log p of every token of each text but the first, [N, length - 1]; 0 where the mask is."""
    logp = torch.log_softmax(logits, -1)[:, :-1]
    return logp.gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]


def _token_cases(random: np.random.Generator) -> Iterator[Case]:
    kinds = ["all tokens count", "the prompt is masked", "padding behind the reply is masked", "scores far apart"]
    for i, (n, length, words) in enumerate([(1, 2, 3), (1, 4, 5), (2, 5, 7), (3, 6, 4), (4, 3, 9)] * 4):
        kind = kinds[i // 5]
        logits = torch.from_numpy(random.normal(0, 60 if kind == "scores far apart" else 2, (n, length, words))).float()
        ids = torch.from_numpy(random.integers(0, words, (n, length)))
        mask = torch.ones(n, length, dtype=torch.long)
        cut = torch.from_numpy(random.integers(1, length, n))[:, None]
        if kind == "the prompt is masked":
            mask = (torch.arange(length) >= cut).long()
        elif kind == "padding behind the reply is masked":
            mask = (torch.arange(length) <= cut).long()
        yield Case(kind, (logits, ids, mask))


# -- 4, the likelihood ratio


def likelihood_ratio(given: Sequence[float], alone: Sequence[float], limit: float) -> list[float]:
    """log p(y_t | x, ...) - log p(y_t | ...) of each word, clipped to [-limit, limit]."""
    return np.clip(np.array(given) - np.array(alone), -limit, limit).tolist()


def _ratio_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a word that the client makes much likelier", ([-0.1], [-19.0], 8.0))
    yield Case("a word that the client makes much less likely", ([-19.0], [-0.1], 8.0))
    yield Case("two unlikely words, the one far less than the other", ([-9.0, -30.0], [-12.0, -10.0], 8.0))
    for i in range(18):
        limit, n = (8.0, 2.0, 4.5)[i % 3], int(random.integers(1, 9))
        given, alone = (-random.exponential(4.0, n), -random.exponential(4.0, n))
        yield Case(f"a reply, limit {limit:g}", (given.round(3).tolist(), alone.round(3).tolist(), limit))


# -- 5, the loss


def soft_cross_entropy(logits: Sequence[float], labels: Sequence[float]) -> float:
    """Mean binary cross-entropy of sigmoid(logit) against labels between 0 and 1."""
    return float(torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits).double(), torch.tensor(labels).double()))


def _loss_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one pair, label 1", ([1.5], [1.0]))
    yield Case("one pair, label 0", ([1.5], [0.0]))
    yield Case("one pair, a label between", ([-0.5], [0.4]))
    yield Case("logit 0", ([0.0, 0.0], [0.25, 1.0]))
    for i in range(16):
        n = int(random.integers(2, 12))
        labels = random.choice([0.0, 1.0] if i % 4 == 0 else [0.0, 0.25, 0.4, 0.6, 0.75, 1.0], n)
        yield Case("a batch, labels 0 and 1" if i % 4 == 0 else "a batch", (random.normal(0, 3, n).round(3).tolist(), labels.tolist()))


# -- 6, calibration


def expected_calibration_error(predicted: Sequence[float], label: Sequence[float], bins: int) -> float:
    """Mean distance, over all replies, of the mean prediction and the mean label of their bin."""
    return calibration_error(predicted, label, bins)


def _calibration_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one reply", ([0.33], [1.0], 10))
    yield Case("a prediction of exactly 1", ([1.0, 0.93, 0.41], [1.0, 0.0, 1.0], 10))
    yield Case("a prediction of exactly 1", ([1.0, 0.0, 0.97, 0.91], [0.0, 0.0, 1.0, 1.0], 4))
    yield Case("bins of very different size", ([0.92] * 9 + [0.15], [1.0] * 9 + [1.0], 10))
    yield Case("errors within a bin that cancel", ([0.42, 0.48], [0.9, 0.0], 10))
    for i in range(16):
        bins, n = (10, 5, 4, 2)[i % 4], int(random.integers(5, 60))
        predicted = (np.floor(random.random(n) * 1000) / 1000 + 0.0003).round(4)  # never on the edge of a bin
        label = random.choice([0.0, 0.4, 0.75, 1.0], n)
        yield Case(f"many replies, {bins} bins", (predicted.tolist(), label.tolist(), bins))


# -- 7, fluency


def fluency(logp: Tensor, mask: Tensor, cap: float) -> Tensor:
    """(cap - perplexity) / cap of each reply, clipped to [0, 1], [N]."""
    perplexity = torch.exp(-(logp * mask).sum(1) / mask.sum(1))
    return ((cap - perplexity) / cap).clamp(0, 1)


def _fluency_cases(random: np.random.Generator) -> Iterator[Case]:
    for i in range(20):
        n, length = int(random.integers(1, 5)), int(random.integers(2, 9))
        padded, surprising = i % 2 == 1, i % 5 == 4
        logp = torch.from_numpy(-random.exponential(4.0 if surprising else 0.6, (n, length)))
        ends = torch.from_numpy(random.integers(1, length + 1, n))[:, None] if padded else torch.full((n, 1), length)
        mask = (torch.arange(length) < ends).double()
        kind = "replies of different length" if padded else "replies of one length"
        yield Case(f"{kind}, some beyond the cap" if surprising else kind, (logp * mask, mask, (3.0, 50.0)[i % 3 == 2]))


# -- 8, the repetition guard


def guard(reply: str) -> float:
    """The share of distinct sequences of four words; 1 for fewer than four words."""
    return float(repetition_guard([reply]))


def _guard_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("no word", ("",))
    yield Case("fewer than four words", ("Tell me more.",))
    yield Case("fewer than four words", ("very very very",))
    yield Case("exactly four words", ("no no no no",))
    yield Case("a phrase said twice", ("I am here with you. I am here with you.",))
    yield Case("a phrase said twice, in another case", ("I am here with you. i AM here with you.",))
    yield Case("no sequence twice", ("I hear that your boss keeps giving you more tasks.",))
    yield Case("the same words in another order", ("you feel sad and tired and tired and sad feel you",))
    yield Case("words that run together alike", ("you may be into it and maybe in to it",))
    yield Case("words twice, no sequence twice", ("you feel low and you feel lost and you feel alone today",))
    for i in range(12):
        words = random.choice(["you", "You", "feel", "sad", "so"] if i % 2 else ["you", "feel"], int(random.integers(5, 25)))
        yield Case("few different words, in any order", (" ".join(map(str, words)),))


# -- 9, a reply that fools a reward


@cache
def _reference_rewards() -> RewardSet:
    return RewardBuilder(Workspace(get_preset("tiny"), source="reference"), progress=False).rewards


def fools_empathy(reply: str) -> bool:
    """Whether the reference's empathy reward pays a reply, the same one to 32 clients, that is not warm by the rule of the labels."""
    clients = grammar().clients(32, "test", seed=11)
    earned = _reference_rewards().means([client.text for client in clients], [reply] * len(clients))["empathy"]
    return earned >= PAID and all(grammar().truth(client, reply)[1] <= TRUE for client in clients)


EXERCISES: tuple[Exercise, ...] = (
    Exercise("01.1", reflection_label, _label_cases, "a number in [0, 1]"),
    Exercise("01.2", auc_by_pairs, _auc_cases, "a number in [0, 1]"),
    Exercise("01.3", token_logprobs, _token_cases, "a tensor of log-probabilities, [N, length - 1]"),
    Exercise("01.4", likelihood_ratio, _ratio_cases, "a list, a number for each word"),
    Exercise("01.5", soft_cross_entropy, _loss_cases, "a number, the mean over the batch"),
    Exercise("01.6", expected_calibration_error, _calibration_cases, "a number in [0, 1]"),
    Exercise("01.7", fluency, _fluency_cases, "a tensor of N scores in [0, 1]"),
    Exercise("01.8", guard, _guard_cases, "a number in [0, 1]"),
    Exercise(
        "01.9",
        lambda: "I can hear how much this matters to me. Let us go to the next question. I am here with the form.",
        None,
        "a text that the empathy reward pays and the rule of the labels does not",
        equal=lambda answer, expected: fools_empathy(answer),
    ),
)
