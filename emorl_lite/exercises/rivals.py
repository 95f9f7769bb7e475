"""The exercises of notebook 06, the rivals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.methods.bandits import Exp3
from emorl_lite.search.statistics import interval
from emorl_lite.study.claims import holm


def _consumed(runs: Sequence[int], listed: int, clients: int) -> tuple[int, int]:
    search = listed * clients
    return sum(runs) + search, max(runs) + search


def _consumed_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one run alone", ([4_000], 10, 8))
    yield Case("runs of equal length", ([1_536, 1_536, 1_536], 135, 32))
    yield Case("no search", ([300, 200], 0, 32))
    yield Case("the longest run is not the last", ([9_000, 13_000, 4_000], 135, 32))
    for _ in range(16):
        d = int(random.integers(2, 6))
        runs = [int(n) for n in random.integers(1, 20_000, d)]
        yield Case("several runs and a search", (runs, int(random.integers(1, 200)), int(random.integers(1, 64))))


def _alone(rewards: Sequence[float], k: int) -> list[float]:
    groups = np.asarray(rewards, dtype=float).reshape(-1, k)
    return list(map(float, (groups - (groups.sum(1, keepdims=True) - groups) / (k - 1)).ravel()))


def _alone_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one prompt", ([1.0, 0.0], 2))
    yield Case("equal rewards", ([0.3] * 6, 3))
    yield Case("several prompts", ([0.9, 0.8, 0.1, 0.0], 2))
    for k in (2, 3, 4, 5):
        for n in (1, 2, 3, 4):
            yield Case("one prompt" if n == 1 else "several prompts", (random.uniform(0, 1, n * k).tolist(), k))


State = tuple[list[float], list[float], list[float]]


def _dynaopt(controller: Sequence[float], raised: Sequence[float], arm: int, gains: Sequence[float], drawn: int, mu: float) -> State:
    judge, holder = Exp3(len(controller), 1.0), Exp3(len(raised), 1.0)
    judge.gamma = holder.gamma = mu  # 0, too: the formula's edge, which no bandit is made with
    judge.weights, holder.weights = list(controller), list(raised)
    judge.update(arm, sum(gains) / len(gains))
    if drawn < len(raised):
        holder.update(drawn, 1.0)
    return judge.weights, holder.weights, [q / sum(holder.weights) for q in holder.weights]


def _dynaopt_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("the first step, from equal weights", ([1.0] * 4, [1.0] * 3, 3, [0.1, 0.0, 0.2], 0, 0.07))
    yield Case("the last arm is drawn: leave everything", ([1.0, 1.1, 0.9], [1.2, 1.0], 0, [0.1, -0.1], 2, 0.07))
    yield Case("the objectives fell", ([1.0, 1.0, 1.0], [1.0, 1.3], 1, [-0.4, -0.2], 1, 0.2))
    yield Case("no exploration", ([2.0, 1.0, 1.0], [1.0, 3.0], 0, [0.5, 0.1], 0, 0.0))
    yield Case("exploration alone", ([2.0, 1.0, 1.0], [1.0, 3.0], 0, [0.5, 0.1], 0, 1.0))
    for _ in range(15):
        d = int(random.integers(2, 5))
        arm, drawn = (int(a) for a in random.integers(0, d + 1, 2))
        state = (random.uniform(0.5, 2, d + 1).tolist(), random.uniform(0.5, 2, d).tolist())
        what = "an arm is drawn that is not the one that is judged" if arm != drawn else "the same arm again"
        yield Case(what, (*state, arm, random.uniform(-0.5, 0.5, d).tolist(), drawn, float(random.uniform(0.05, 0.5))))


def _soup_less_average(A: Sequence[np.ndarray], B: Sequence[np.ndarray], w: Sequence[float]) -> np.ndarray:
    mean_a, mean_b = (np.sum([x * m for x, m in zip(w, ms, strict=True)], 0) for ms in (A, B))
    exact = np.sum([x * (b @ a) for x, a, b in zip(w, A, B, strict=True)], 0)
    return np.asarray(mean_b @ mean_a - exact)


def _soup_cases(random: np.random.Generator) -> Iterator[Case]:
    def factors(d: int, out: int, rank: int, width: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [random.normal(size=(rank, width)) for _ in range(d)], [random.normal(size=(out, rank)) for _ in range(d)]

    A, B = factors(2, 2, 1, 3)
    yield Case("all weight on one adapter", (A, B, [1.0, 0.0]))
    yield Case("two adapters that are the same", ([A[0], A[0]], [B[0], B[0]], [0.3, 0.7]))
    yield Case("adapters that share A", ([A[0], A[0]], B, [0.5, 0.5]))
    yield Case("one adapter", (A[:1], B[:1], [1.0]))
    for _ in range(14):
        d, rank = int(random.integers(2, 4)), int(random.integers(1, 4))
        A, B = factors(d, int(random.integers(2, 5)), rank, int(random.integers(2, 5)))
        yield Case(f"{d} adapters, weights that sum to one", (A, B, random.dirichlet(np.ones(d)).tolist()))


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    return interval(np.asarray(first) - np.asarray(second))


def _paired_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("two seeds alone", ([0.6, 0.7], [0.5, 0.4]))
    yield Case("a difference that is the same for every seed", ([0.5, 0.7, 0.9], [0.4, 0.6, 0.8]))
    yield Case("seeds that move them anyhow", ([0.1, 0.2, 0.1], [0.5, 0.7, 0.4]))
    for n in (3, 4, 5, 8, 20):
        common = random.uniform(0, 1, n)
        yield Case("seeds that move both alike", ((common + random.normal(0, 0.02, n)).tolist(), common.tolist()))
        yield Case("seeds that move them against each other", (common.tolist(), (1 - common).tolist()))
        yield Case("seeds that move them anyhow", (random.uniform(0, 1, n).tolist(), random.uniform(0, 1, n).tolist()))


def _holm_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one test", ([0.04], 0.05))
    yield Case("a p that is as large as its bound: not larger", ([0.5, 0.0625, 0.9, 0.07], 0.25))
    yield Case("all of them small", ([0.001, 0.002, 0.003], 0.05))
    yield Case("none of them small", ([0.2, 0.9, 0.4], 0.05))
    yield Case("a later test is small enough for its own step, but an earlier one failed", ([0.02, 0.03, 0.04], 0.05))
    yield Case("a later test passes only because the first left the list", ([0.024, 0.01], 0.05))
    yield Case("the smallest does not stand first", ([0.9, 0.012, 0.001, 0.02], 0.05))
    for _ in range(14):
        p = np.exp(random.uniform(math.log(1e-3), 0, int(random.integers(3, 9))))
        yield Case("several tests in no order", (p.tolist(), float(random.choice([0.01, 0.05, 0.1, 0.3]))))


EXERCISES: tuple[Exercise, ...] = (
    Exercise("06.1", reference=_alone, cases=_alone_cases, returns="one number a reply"),
    Exercise("06.2", reference=_dynaopt, cases=_dynaopt_cases, returns="three lists: d + 1, d and d numbers"),
    Exercise("06.3", reference=_soup_less_average, cases=_soup_cases, returns="a matrix, as large as B_i A_i"),
    Exercise("06.4", reference=_consumed, cases=_consumed_cases, returns="two whole numbers"),
    Exercise("06.5", reference=_paired, cases=_paired_cases, returns="three numbers"),
    Exercise("06.6", reference=holm, cases=_holm_cases, returns="True or False for every test"),
)
