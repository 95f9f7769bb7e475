"""The exercises of notebook 08, the paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from emorl_lite.exercises.exercise import Case, Exercise

# -- 08.1: the data points of the search


def _search_points() -> int:
    return 5 * 3**3 * 32


# -- 08.2: the advantage of k samples


def _advantages(scores: Sequence[float]) -> list[float]:
    entered = [math.log(min(max(score, 1e-4), 0.9999)) for score in scores]
    mean = sum(entered) / len(entered)
    return [value - mean for value in entered]


def _scores(random: np.random.Generator) -> Iterator[Case]:
    yield Case("three scores between the two limits", ([0.2, 0.5, 0.8],))
    yield Case("a score of 0, below the lower limit", ([0.0, 0.5, 0.9],))
    yield Case("a score of 1, above the upper limit", ([1.0, 0.01, 0.9],))
    yield Case("scores below .0001 and above .9999", ([0.00005, 0.99999, 0.3],))
    yield Case("equal scores", ([0.4, 0.4, 0.4],))
    yield Case("two samples", ([0.1, 0.7],))
    yield Case("five samples", ([0.1, 0.7, 0.2, 0.9, 0.4],))
    for _ in range(13):
        yield Case("random scores", ([float(x) for x in random.uniform(0, 1, int(random.integers(2, 6)))],))


# -- 08.3: a KL penalty that counts


def _penalised(scores: Sequence[float], logp: Sequence[float], base_logp: Sequence[float], beta: float) -> list[float]:
    rewards = [score - beta * (own - base) for score, own, base in zip(scores, logp, base_logp, strict=True)]
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def _replies(random: np.random.Generator) -> Iterator[Case]:
    yield Case("replies that are equally far from the base", ([0.1, 0.5, 0.9], [-10.0, -12.0, -14.0], [-11.0, -13.0, -15.0], 0.05))
    yield Case("equal scores, and one reply far from the base", ([0.5, 0.5, 0.5], [-10.0, -10.0, -10.0], [-10.0, -10.0, -16.0], 0.05))
    yield Case("a reply that is likelier under the base", ([0.2, 0.4, 0.6], [-12.0, -9.0, -8.0], [-10.0, -9.0, -11.0], 0.1))
    yield Case("beta 0", ([0.2, 0.4, 0.6], [-12.0, -9.0, -8.0], [-10.0, -9.0, -11.0], 0.0))
    yield Case("two replies", ([0.2, 0.4], [-12.0, -9.0], [-14.0, -9.5], 0.2))
    for _ in range(15):
        k = int(random.integers(2, 6))
        logp = random.uniform(-30, -5, k)
        numbers = [[float(x) for x in values] for values in (random.uniform(0, 1, k), logp, logp + random.normal(0, 3, k))]
        yield Case("random replies", (*numbers, float(random.uniform(0.01, 0.3))))


# -- 08.4: the rule that stops a run


def _stops(means: Sequence[float], patience: int, tolerance: float) -> bool:
    last = np.asarray(means[-patience:], dtype=float)
    return len(last) >= patience and bool(last.mean() > 0) and bool(last.std() / last.mean() < tolerance)


def _histories(random: np.random.Generator) -> Iterator[Case]:
    yield Case("fewer validations than the rule wants", ([0.5, 0.5, 0.5], 4, 0.015))
    yield Case("as many validations as the rule wants, all equal", ([0.5] * 4, 4, 0.015))
    yield Case("a rise long ago, and a level end", ([0.1, 0.3, 0.5, 0.7, 0.7, 0.7, 0.7], 4, 0.015))
    yield Case("a level start, and a rise at the end", ([0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8], 4, 0.015))
    yield Case("small numbers: the spread is divided by the mean", ([0.010, 0.012, 0.011, 0.012], 4, 0.015))
    yield Case("large numbers: the spread is divided by the mean", ([100.0, 101.0, 100.0, 101.0], 4, 0.015))
    yield Case("a spread near the limit, where dividing by n or by n - 1 decides", ([0.49, 0.51, 0.49, 0.51], 4, 0.0215))
    yield Case("means of 0: nothing is learned, and nothing divided", ([0.0, 0.0, 0.0, 0.0], 4, 0.015))
    yield Case("means below 0, all equal", ([-0.5, -0.5, -0.5, -0.5], 4, 0.015))
    yield Case("low values long ago, and a level end", ([0.1, 0.1, 0.1, 0.6, 0.618, 0.6, 0.618], 4, 0.0165))
    yield Case("no validation at all", ([], 4, 0.015))
    for _ in range(12):
        centre, n = random.uniform(0.2, 0.8), int(random.integers(20, 30))
        values = centre * (1 + random.choice([0.008, 0.012, 0.018, 0.03]) * random.normal(0, 1, n))
        yield Case("a random history of 20 or more", ([float(x) for x in values], 20, 0.015))


# -- 08.5: how sure a published difference is


def _t_value(first: tuple[float, float], second: tuple[float, float], n: int) -> float:
    return (first[0] - second[0]) / math.sqrt((first[1] ** 2 + second[1] ** 2) / n)


def _pairs_of_means(random: np.random.Generator) -> Iterator[Case]:
    yield Case("the paper's numbers, five seeds", ((0.8350, 0.0199), (0.7684, 0.0206), 5))
    yield Case("the second is larger", ((0.2, 0.05), (0.6, 0.1), 5))
    yield Case("two seeds", ((1.0, 1.0), (0.0, 1.0), 2))
    yield Case("spreads that differ much", ((0.7, 0.01), (0.6, 0.2), 8))
    yield Case("equal means", ((0.5, 0.1), (0.5, 0.2), 4))
    for _ in range(15):
        numbers = [(float(mean), float(std)) for mean, std in zip(random.uniform(0, 1, 2), random.uniform(0.01, 0.3, 2), strict=True)]
        yield Case("random means and spreads", (*numbers, int(random.integers(2, 30))))


# -- 08.6: the price of a precision


def _price(d: int, spacing: float) -> tuple[int, int]:
    levels = 1
    while 2.0**-levels > spacing:
        levels += 1
    return levels, levels * 3**d


def _spacings(random: np.random.Generator) -> Iterator[Case]:
    yield Case("the paper's search", (3, 1 / 32))
    yield Case("a spacing between two levels", (3, 0.03))
    yield Case("a little wider than a level's own spacing", (3, 0.032))
    yield Case("one level is enough", (4, 0.5))
    yield Case("as wide as the whole cube: one level all the same", (3, 1.0))
    yield Case("two objectives", (2, 0.25))
    yield Case("six objectives", (6, 0.01))
    for _ in range(13):
        yield Case("random numbers of objectives and spacings", (int(random.integers(2, 8)), float(random.uniform(0.002, 0.6))))


# -- 08.7: diversity-2


def _diversity(words: Sequence[str]) -> float:
    return len(set(pairwise(words))) / len(words) if words else 0.0


def _word_lists(random: np.random.Generator) -> Iterator[Case]:
    yield Case("no two pairs alike", (["you", "feel", "sad", "and", "tired"],))
    yield Case("a pair that comes twice", (["i", "see", "i", "see", "i", "see"],))
    yield Case("the same words in another order are another pair", (["a", "b", "a"],))
    yield Case("one word many times", (["yes"] * 5,))
    yield Case("one word", (["yes"],))
    yield Case("no word", ([],))
    yield Case("two words", (["i", "see"],))
    yield Case("other pairs whose letters in a row are the same", (["in", "today", "into", "day"],))
    for _ in range(13):
        yield Case("random words", ([str(word) for word in random.choice(list("abcd"), int(random.integers(2, 12)))],))


EXERCISES: tuple[Exercise, ...] = (
    Exercise("08.1", reference=_search_points, cases=None, returns="a number"),
    Exercise("08.2", reference=_advantages, cases=_scores, returns="a list of k numbers", tolerance=1e-5),
    Exercise("08.3", reference=_penalised, cases=_replies, returns="a list of k numbers"),
    Exercise("08.4", reference=_stops, cases=_histories, returns="True or False"),
    Exercise("08.5", reference=_t_value, cases=_pairs_of_means, returns="a number"),
    Exercise("08.6", reference=_price, cases=_spacings, returns="a tuple of two whole numbers, levels and points"),
    Exercise("08.7", reference=_diversity, cases=_word_lists, returns="a number"),
)
