"""The exercises of notebook 00: the labels of the small world, utilities, and which replies are best for some weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from emorl_lite.data.small_world import REFLECTION, WRONG_COSTS
from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.exercises.plain import is_number

Scores = Sequence[float]


def _label(right: int, wrong: int) -> float:
    return max(0.0, REFLECTION[right] - WRONG_COSTS * wrong)


def _label_cases(random: np.random.Generator) -> Iterator[Case]:
    for right in range(4):
        for wrong in range(5):
            below = wrong > 0 and REFLECTION[right] < WRONG_COSTS * wrong
            kind = ("no wrong element", "one wrong element")[wrong] if wrong < 2 else "several wrong elements"
            yield Case("wrong elements that cost more than the right ones earn" if below else kind, (right, wrong))


def _utility(scores: Scores, weights: Scores) -> float:
    return sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)


def _utility_cases(random: np.random.Generator) -> Iterator[Case]:
    for n in (2, 3, 3, 4, 5):
        scores = random.random(n).round(2).tolist()
        yield Case("equal weights of 1", (scores, [1] * n))
        yield Case("equal weights of another size", (scores, [round(float(random.uniform(2, 5)), 2)] * n))
        yield Case("weights that differ and sum to one", (scores, (weights := random.dirichlet(np.ones(n))).tolist()))
        yield Case("weights that differ", (scores, (3 * weights).tolist()))
    yield Case("a weight of zero", ([0.9, 0.1, 0.4], [2, 0, 1]))
    yield Case("one objective", ([0.4], [0.5]))


def _dominates(a: Scores, b: Scores) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def _front(scores: Sequence[Scores]) -> list[int]:
    return [i for i, b in enumerate(scores) if not any(_dominates(a, b) for a in scores)]


def _front_cases(random: np.random.Generator) -> Iterator[Case]:
    for n in (3, 5, 8, 12):
        yield Case("two objectives", (_tuples(random.random((n, 2))),))
        yield Case("three objectives", (_tuples(random.random((n, 3))),))
        yield Case("scores in steps, so that some are equal", (_tuples(random.integers(0, 4, (n, 3)) / 4),))
    yield Case("two replies with the same scores", ([(0.5, 0.5), (0.5, 0.5)],))
    yield Case("two replies with the same scores", ([(0.2, 0.1), (0.5, 0.5), (0.1, 0.9), (0.5, 0.5)],))
    yield Case("a reply that is best at nothing, and dominated by none", ([(1.0, 0.0), (0.6, 0.6), (0.0, 1.0)],))
    yield Case("a reply dominated by a later one", ([(0.4, 0.2), (0.3, 0.9), (0.4, 0.3)],))
    yield Case("a reply better in the third objective alone", ([(0.5, 0.5, 0.1), (0.5, 0.5, 0.2), (0.4, 0.5, 0.3)],))
    yield Case("one reply", ([(0.3, 0.7)],))
    yield Case("one objective", ([(0.3,), (0.7,), (0.7,)],))


def _tuples(scores: np.ndarray) -> list[tuple[float, ...]]:
    return [tuple(row) for row in scores.round(3).tolist()]


def _switch(a: Scores, b: Scores) -> float | None:
    first, second = a[0] - b[0], a[1] - b[1]
    return None if first * second >= 0 else first / (first - second)


def _switch_cases(random: np.random.Generator) -> Iterator[Case]:
    for _ in range(6):
        (high, low), (over, under) = np.sort(random.random((2, 2)).round(3), axis=1)[:, ::-1].tolist()
        yield Case("the first reply is ahead at weight 0", ((high, under), (low, over)))
        yield Case("the second reply is ahead at weight 0", ((low, over), (high, under)))
    for _ in range(3):
        (high, low), (over, under) = np.sort(random.random((2, 2)).round(3), axis=1)[:, ::-1].tolist()
        yield Case("one reply dominates the other", ((high, over), (low, under)))
        yield Case("one reply dominates the other", ((low, under), (high, over)))
    yield Case("equal in the first objective", ((0.5, 0.2), (0.5, 0.9)))
    yield Case("equal in the second objective", ((0.7, 0.4), (0.1, 0.4)))
    yield Case("two replies with the same scores", ((0.5, 0.2), (0.5, 0.2)))
    yield Case("a change close to weight 1", ((1.0, 0.5), (0.0, 0.51)))


def _never_best(answer: Any, _: Any) -> bool:
    """Three pairs in [0, 1], the middle one dominated by neither of the others, and behind the better of them at every weight."""
    if not all(is_number(x) for pair in answer for x in pair):
        return False
    first, middle, last = answer
    if any(len(pair) != 2 or not 0 <= min(pair) <= max(pair) <= 1 for pair in (first, middle, last)):
        return False
    if _dominates(first, middle) or _dominates(last, middle):
        return False

    def lead(weight: float) -> float:
        utilities = [(1 - weight) * pair[0] + weight * pair[1] for pair in (first, middle, last)]
        return utilities[1] - max(utilities[0], utilities[2])

    turn = _switch(first, last)  # a line less the upper of two lines: highest at an end, or where these two cross
    return max(lead(weight) for weight in (0.0, 1.0, *([] if turn is None else [turn]))) < -1e-6


EXERCISES: tuple[Exercise, ...] = (
    Exercise("00.1", lambda: _label(1, 2), None, "a number from 0 to 1", tolerance=1e-3),
    Exercise("00.2", _label, _label_cases, "a number from 0 to 1"),
    Exercise("00.3", _utility, _utility_cases, "a number"),
    Exercise("00.4", _front, _front_cases, "a list of indices, in order", equal=lambda answer, expected: bool(answer == expected)),
    Exercise("00.5", _switch, _switch_cases, "a weight from 0 to 1, or None"),
    Exercise(
        "00.6",
        lambda: [(1.0, 0.0), (0.4, 0.4), (0.0, 1.0)],
        None,
        "a list of three pairs of numbers from 0 to 1, the second on the front and never the best",
        equal=_never_best,
    ),
)
