"""The exercises of notebook 07, steerable policies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.methods.bone_soups import backbone_rewards, merging_weights
from emorl_lite.search.pareto import hypervolume, non_dominated, steerability


def _gates(w: Sequence[float], rank: int) -> list[float]:
    return [1.0] * rank + [float(x) for x in w for _ in range(rank)]


def _gates_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("rank 1", ([0.2, 0.8], 1))
    yield Case("one objective alone", ([1.0], 4))
    yield Case("all weight on one objective", ([0.0, 1.0, 0.0], 2))
    yield Case("as many objectives as ranks", ([0.2, 0.3, 0.5], 3))
    for _ in range(16):
        d, rank = int(random.integers(2, 6)), int(random.integers(2, 6))
        yield Case("several objectives and ranks", (random.dirichlet(np.ones(d)).tolist(), rank))


def _gated(x: np.ndarray, A: np.ndarray, B: np.ndarray, g: np.ndarray, s: float) -> np.ndarray:
    return s * ((x @ A.T) * g) @ B.T


def _gated_cases(random: np.random.Generator) -> Iterator[Case]:
    for n, rank, kind in [(1, 1, "one row, rank 1"), (1, 4, "one row"), (4, 4, "as many rows as ranks"), (3, 1, "rank 1")]:
        x, A, B = random.normal(size=(n, 5)), random.normal(size=(rank, 5)), random.normal(size=(6, rank))
        yield Case(kind, (x, A, B, random.uniform(0, 1, (n, rank)), 2.0))
    for _ in range(16):
        n, rank, out, width = (int(m) for m in random.integers(2, 6, 4))
        factors = random.normal(size=(rank, width)), random.normal(size=(out, rank))
        yield Case(
            "every row has gates of its own",
            (random.normal(size=(n, width)), *factors, random.uniform(0, 1, (n, rank)), float(random.uniform(0.5, 3))),
        )


def _next_words(
    h: np.ndarray, logits: np.ndarray, A: Sequence[np.ndarray], B: Sequence[np.ndarray], s: float, points: np.ndarray
) -> list[int]:
    e = np.array([logits + s * b @ (a @ h) for a, b in zip(A, B, strict=True)])
    return [int(word) for word in (points @ e).argmax(1)]


def _next_words_cases(random: np.random.Generator) -> Iterator[Case]:
    def made(m: int, d: int, rank: int, scale: float) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray], float]:
        A = [random.normal(size=(rank, 5)) for _ in range(d)]
        B = [random.normal(size=(9, rank)) for _ in range(d)]
        return random.normal(size=5), random.normal(0, 3, 9), A, B, scale

    yield Case("one user, one expert alone", (*made(1, 2, 1, 1.0), np.array([[0.0, 1.0]])))
    yield Case("users who want one expert each", (*made(3, 3, 2, 2.0), np.eye(3)))
    h, logits, A, B, s = made(8, 2, 2, 1.0)
    yield Case("experts that change nothing yet", (h, logits, A, [np.zeros_like(b) for b in B], s, random.dirichlet(np.ones(2), 8)))
    # a word that no expert prefers alone wins in the middle
    A, B = [np.array([[1.0]])] * 2, [np.array([[4.0], [0.0], [3.0]]), np.array([[0.0], [4.0], [3.0]])]
    asked = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    yield Case("a compromise that no expert would say", (np.ones(1), np.zeros(3), A, B, 1.0, asked))
    for _ in range(16):
        m, d, rank = (int(x) for x in random.integers((10, 2, 1), (30, 5, 4)))
        yield Case("many users", (*made(m, d, rank, float(random.uniform(0.5, 3))), random.dirichlet(np.ones(d), m)))


def flip(z_base: Sequence[float], z_policy: Sequence[float]) -> tuple[float, int]:
    """The smallest strength above 0 at which z_base + strength (z_policy - z_base) has another largest entry than z_base, and which.

    Infinity and the base's own word where there is none.
    """
    base, slope = np.asarray(z_base, dtype=float), np.asarray(z_policy, dtype=float) - np.asarray(z_base, dtype=float)
    first = int(base.argmax())
    gains = slope - slope[first]
    at = np.where(gains > 0, (base[first] - base) / np.where(gains > 0, gains, 1.0), math.inf)
    return (float(at.min()), int(at.argmin())) if np.isfinite(at.min()) else (math.inf, first)


def _flip_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("the policy makes the base's word surer still: no flip", ([1.0, 0.0, -1.0], [3.0, 0.0, -1.0]))
    yield Case("policy and base are the same", ([0.5, 0.2], [0.5, 0.2]))
    yield Case("a flip beyond strength 1", ([2.0, 1.0, 0.0], [2.0, 1.4, 0.0]))
    yield Case("a word that is first for a while, before the policy's own", ([2.0, 1.5, -3.0], [0.0, 1.5, 4.0]))
    yield Case("a constant added to the policy's logits", ([1.0, 0.0], [10.0, 10.5]))
    yield Case("lines that crossed at a negative strength", ([3.0, 0.0, 2.0], [5.0, -4.0, 3.5]))
    for _ in range(14):
        V = int(random.integers(2, 9))
        yield Case("random logits", (random.normal(0, 2, V).round(3).tolist(), random.normal(0, 2, V).round(3).tolist()))


Points = Sequence[Sequence[float]]


def _front(points: np.ndarray) -> np.ndarray:
    return np.unique(points[non_dominated(points)], axis=0)


def _share(first: Points, second: Points) -> float:
    a, b = np.asarray(first, dtype=float), _front(np.asarray(second, dtype=float))
    better = np.all(a[None] >= b[:, None], axis=2) & np.any(a[None] > b[:, None], axis=2)
    return float(np.any(better, axis=1).mean())


def _share_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("equal points dominate nothing", ([[0.5, 0.5]], [[0.5, 0.5]]))
    yield Case("higher in one objective, equal in the other", ([[0.5, 0.6]], [[0.5, 0.5]]))
    yield Case("the second holds a point twice", ([[0.6, 0.6]], [[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]))
    yield Case("the second holds points that it dominates itself", ([[0.6, 0.6]], [[0.1, 0.1], [0.2, 0.2], [0.9, 0.5], [0.5, 0.55]]))
    yield Case("none is dominated", ([[0.1, 0.1]], [[0.2, 0.3], [0.3, 0.2]]))
    yield Case("all are dominated", ([[0.9, 0.9]], [[0.2, 0.3], [0.3, 0.2]]))
    for d in (2, 3):
        for _ in range(7):
            a, b = (random.integers(0, 5, (int(random.integers(2, 6)), d)) / 4 for _ in range(2))
            yield Case(f"{d} objectives, with ties", (a.tolist(), b.tolist()))


def _area(points: Points) -> float:
    return hypervolume(np.asarray(points, dtype=float), [0.0, 0.0])


def _area_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one point", ([[0.5, 0.8]],))
    yield Case("the same point twice", ([[0.5, 0.8], [0.5, 0.8]],))
    yield Case("one point dominates the other", ([[0.5, 0.8], [0.4, 0.3]],))
    yield Case("two points, neither dominates", ([[0.5, 0.8], [0.9, 0.3]],))
    yield Case("points that share a coordinate", ([[0.5, 0.8], [0.5, 0.3], [0.7, 0.3]],))
    yield Case("a point on the axis", ([[0.0, 1.0], [0.4, 0.4]],))
    for n in (3, 4, 5, 8, 12):
        for _ in range(3):
            yield Case("many points in no order", (random.uniform(0, 1, (n, 2)).round(3).tolist(),))


def _steering_cases(random: np.random.Generator) -> Iterator[Case]:
    corners = np.eye(2)
    yield Case("a policy that ignores its weights", (np.full((3, 2), 0.3), np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])))
    yield Case("a policy that does the opposite", (corners[::-1].copy(), corners))
    yield Case("a policy that obeys", (corners, corners))
    yield Case("one request", (np.array([[0.2, 0.7, 0.1]]), np.array([[0.2, 0.3, 0.5]])))
    for _ in range(16):
        n, d = int(random.integers(2, 7)), int(random.integers(2, 5))
        yield Case("random answers", (random.uniform(0, 1, (n, d)), random.dirichlet(np.ones(d), n)))


def _undo_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("backbones of single rewards", (np.eye(3), [0.2, 0.3, 0.5]))
    yield Case("what one backbone was trained for", (backbone_rewards(3), [0.15, 0.7, 0.15]))
    yield Case("one objective alone", (backbone_rewards(2), [1.0, 0.0]))
    yield Case("one objective alone", (backbone_rewards(3, 0.6), [0.0, 0.0, 1.0]))
    yield Case("weights that do not sum to one", (backbone_rewards(3), [2.0, 1.0, 1.0]))
    yield Case("weights that do not sum to one", (backbone_rewards(4, 0.8), [0.1, 0.2, 0.1, 0.0]))
    yield Case("rows that do not sum to one", (np.array([[2.0, 0.5], [0.0, 1.0]]), [0.4, 0.6]))
    yield Case("rows that do not sum to one", (backbone_rewards(3) * np.array([[1.0], [2.0], [0.5]]), [0.2, 0.3, 0.5]))
    for _ in range(12):
        d = int(random.integers(2, 5))
        rows = random.dirichlet(np.ones(d), d) * 0.5 + 0.5 * np.eye(d)
        yield Case("rows of any kind", (rows, random.dirichlet(np.ones(d)).tolist()))


def _guided(base: Sequence[float], rewards: Sequence[Sequence[float]], w: Sequence[float], beta: float) -> np.ndarray:
    """Probabilities [V] of the next word, proportional to pi_0 prod_i pi_i^{w_i / beta}, w divided by its sum."""
    shares = np.asarray(w, dtype=float) / sum(w)
    z = np.asarray(base, dtype=float) + shares @ np.asarray(rewards, dtype=float) / beta
    raised = np.exp(z - z.max())
    return np.asarray(raised / raised.sum())


def _guided_cases(random: np.random.Generator) -> Iterator[Case]:
    def logits(*shape: int) -> list[list[float]]:
        return random.normal(0, 2, shape).round(3).tolist()

    yield Case("one objective alone", (logits(1, 5)[0], logits(3, 5), [0.0, 1.0, 0.0], 0.5))
    yield Case("weights that do not sum to one", (logits(1, 4)[0], logits(2, 4), [3.0, 1.0], 1.0))
    yield Case("weights that do not sum to one", (logits(1, 6)[0], logits(3, 6), [0.2, 0.1, 0.1], 2.0))
    yield Case("reward models that say nothing", ([1.0, 0.5, -2.0], [[3.0, 3.0, 3.0], [0.0, 0.0, 0.0]], [0.5, 0.5], 1.0))
    yield Case("reward models that are still the base", ([1.0, 0.5, -2.0], [[1.0, 0.5, -2.0]] * 2, [0.3, 0.7], 0.5))
    yield Case("a beta so small that the base hardly counts", (logits(1, 4)[0], logits(2, 4), [0.5, 0.5], 0.01))
    yield Case("a beta so large that the base alone counts", (logits(1, 4)[0], logits(2, 4), [0.5, 0.5], 1e6))
    for _ in range(13):
        d, V = (int(x) for x in random.integers((2, 3), (5, 9)))
        w = random.dirichlet(np.ones(d)).tolist()
        yield Case("random logits", (logits(1, V)[0], logits(d, V), w, float(random.uniform(0.3, 3))))


EXERCISES: tuple[Exercise, ...] = (
    Exercise("07.1", reference=_gates, cases=_gates_cases, returns="R (1 + d) numbers"),
    Exercise("07.2", reference=_gated, cases=_gated_cases, returns="one row for each row of x"),
    Exercise("07.3", reference=_next_words, cases=_next_words_cases, returns="m whole numbers"),
    Exercise("07.4", reference=flip, cases=_flip_cases, returns="a strength and a word's number"),
    Exercise("07.5", reference=_area, cases=_area_cases, returns="a number"),
    Exercise("07.6", reference=_share, cases=_share_cases, returns="a number"),
    Exercise("07.7", reference=steerability, cases=_steering_cases, returns="two numbers"),
    Exercise("07.8", reference=merging_weights, cases=_undo_cases, returns="d numbers"),
    Exercise("07.9", reference=_guided, cases=_guided_cases, returns="V probabilities"),
)
