"""The exercises of notebook 05, every weight at once. Shapes: d adapters, V words, m corners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from emorl_lite.base.polytopes import simplex
from emorl_lite.exercises.exercise import Case, Exercise

Words = Sequence[Sequence[float]]
"""Of each word its logits, one an adapter."""

# -- 1: the border between two words


def _border(a: Sequence[float], b: Sequence[float]) -> float:
    ahead, behind = a[0] - b[0], b[1] - a[1]
    return ahead / (ahead + behind)


def _border_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("words that mirror each other", ([2.0, 0.0], [0.0, 2.0]))
    yield Case("a border away from the middle", ([3.0, 1.0], [0.0, 2.0]))
    yield Case("logits with a large common part", ([101.0, 100.0], [100.5, 104.0]))
    yield Case("negative logits", ([-1.0, -6.0], [-2.0, -3.0]))
    yield Case("a border near one end", ([5.0, 0.9], [1.0, 1.0]))
    for _ in range(15):
        b, leads = random.normal(size=2) * 3, random.uniform(0.1, 3, 2)
        yield Case("random logits", ((b + leads * [1, -1]).tolist(), b.tolist()))


# -- 2: the map of one choice on a line


def _decision_map(z: Words) -> list[tuple[float, float, int]]:
    pieces = []
    for v, mine in enumerate(z):
        others = [np.subtract(mine, z[u]) for u in range(len(z)) if u != v]
        piece = simplex(2).cut(np.array(others).reshape(-1, 2))
        if piece is not None:
            pieces.append((float(piece.outline[0, 1]), float(piece.outline[1, 1]), v))
    return sorted(pieces)


def _decision_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("two words", ([(2.0, 0.0), (0.0, 2.0)],))
    yield Case("a word that wins in the middle alone", ([(2.0, 0.0), (0.0, 2.0), (1.5, 1.4)],))
    yield Case("a word that never wins", ([(2.0, 0.0), (0.0, 2.0), (0.5, 0.4)],))
    yield Case("a word that wins everywhere", ([(0.0, 1.0), (2.0, 3.0), (1.0, 0.0)],))
    yield Case("one word alone", ([(0.3, 0.2)],))
    yield Case("a steep word that comes late", ([(3.0, 0.0), (2.5, 1.5), (0.0, 2.0)],))
    for _ in range(15):
        yield Case("random logits", ([(float(a), float(b)) for a, b in random.normal(size=(int(random.integers(2, 30)), 2)).round(4)],))


# -- 3: the share of a region


def _share(corners: Words) -> float:
    x, y = np.asarray(corners, dtype=float)[:, :2].T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _share_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("the whole triangle", (np.eye(3).tolist(),))
    yield Case("the whole triangle, the other way round", (np.eye(3)[::-1].tolist(),))
    yield Case("one of the four half-size triangles", ([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]],))
    yield Case("a region of four corners", ([[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]],))
    yield Case("a region that begins at another corner", ([[0.5, 0, 0.5], [1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]],))
    for _ in range(16):
        piece = simplex(3)
        for normal in random.normal(size=(int(random.integers(1, 4)), 3)):
            piece = piece.cut(normal[None]) or piece
        corners = piece.outline[:: int(random.choice([-1, 1]))]
        yield Case("random cuts of the triangle", (np.roll(corners, int(random.integers(5)), axis=0).tolist(),))


# -- 4: words that can win


def _open_words(z: Words) -> list[int]:
    columns = np.asarray(z).T  # [V, d]
    return [v for v, mine in enumerate(columns) if not any((other > mine).all() for other in columns)]


def _same_words(answer: object, expected: object) -> bool:
    """In any order, each once."""
    if not isinstance(answer, list) or not isinstance(expected, list):
        return False
    return len(answer) == len(expected) and {float(v) for v in answer} == {float(v) for v in expected}


def _open_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a word that is no adapter's favourite, but is not beaten", ([[3.0, 0.0, 2.0], [0.0, 3.0, 2.0]],))
    yield Case("a word beaten by another with every adapter", ([[3.0, 1.0, 2.0], [3.0, 1.0, 2.5]],))
    yield Case("a word as good as another with one adapter", ([[2.0, 2.0, 0.0], [3.0, 1.0, 4.0]],))
    yield Case("a word with the smallest sum that is not beaten", ([[9.0, 0.0, 8.0], [0.0, 1.0, 0.5]],))
    yield Case("one word alone", ([[1.0], [2.0]],))
    yield Case("a word that two others beat only together", ([[5.0, 0.0, 1.0], [0.0, 5.0, 1.0]],))
    for _ in range(16):
        yield Case("random logits", (random.normal(size=(int(random.integers(2, 4)), int(random.integers(2, 12)))).round(3).tolist(),))


# -- 5: the word of a whole piece


def _agreed(corners: Words, z: Words) -> int:
    words = (np.asarray(corners) @ np.asarray(z)).argmax(1)
    return int(words[0]) if (words == words[0]).all() else -1


def _agreed_cases(random: np.random.Generator) -> Iterator[Case]:
    triangle = np.eye(3)
    yield Case("corners that agree", (triangle.tolist(), [[3.0, 1.0], [3.0, 1.0], [3.0, 1.0]]))
    yield Case("one corner that disagrees", (triangle.tolist(), [[3.0, 1.0], [3.0, 1.0], [1.0, 1.5]]))
    yield Case("corners that agree on a word that is not the first", (triangle.tolist(), [[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]]))
    yield Case("a middle with another word than the corners", ([[1, 0, 0], [0, 1, 0]], [[3.0, 0.0, 2.0], [0.0, 3.0, 2.0], [0, 0, 0]]))
    yield Case("two corners of many that disagree", (triangle.tolist(), [[2.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]))
    for k in range(18):
        corners = random.dirichlet(np.ones(3) * (0.3 if k % 2 else 3), int(random.integers(3, 7)))
        z = random.normal(size=(3, int(random.integers(2, 6))))
        yield Case("random corners and logits", (corners.round(4).tolist(), z.round(3).tolist()))


# -- 6: the bound of branch and bound


def _bound(worth: Words, reachable: Sequence[Sequence[int]]) -> float:
    return float(np.mean([max(scores[i] for i in regions) for scores, regions in zip(worth, reachable, strict=True)]))


def _bound_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one client", ([[0.2, 0.9, 0.5]], [[0, 2]]))
    yield Case("all regions in reach", ([[0.2, 0.9], [0.4, 0.1]], [[0, 1], [0, 1]]))
    yield Case("clients with one region left", ([[0.2, 0.9], [0.4, 0.1]], [[0], [1]]))
    yield Case("a best region that is out of reach", ([[0.2, 0.9, 0.3], [0.4, 0.1, 0.3]], [[0, 2], [1, 2]]))
    yield Case("negative scores", ([[-0.2, -0.9], [-0.4, -0.1]], [[0, 1], [0]]))
    for _ in range(16):
        worth = [random.uniform(size=int(random.integers(1, 6))).round(3).tolist() for _ in range(int(random.integers(1, 6)))]
        reachable = [sorted(random.choice(len(w), int(random.integers(1, len(w) + 1)), replace=False).tolist()) for w in worth]
        yield Case("random clients", (worth, reachable))


# -- 7: how flattered a choice is


def _flattery(scores: Words, counts: Sequence[int]) -> float:
    table, weights = np.asarray(scores, dtype=float), np.asarray(counts, dtype=float)
    there = table @ weights / weights.sum()
    return float(there.max() - table[there.argmax()].mean())


def _flattery_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a resample that holds each client once", ([[0.2, 0.4], [0.5, 0.3]], [1, 1]))
    yield Case("one cell alone", ([[0.2, 0.9, 0.4]], [2, 1, 0]))
    yield Case("a resample of one client", ([[0.9, 0.1, 0.1], [0.3, 0.8, 0.7]], [3, 0, 0]))
    yield Case("a client that counts twice and decides", ([[0.9, 0.0, 0.6], [0.5, 0.7, 0.6]], [2, 0, 1]))
    yield Case("a resample of clients who score low", ([[0.9, 0.2, 0.1], [0.8, 0.1, 0.2]], [0, 1, 2]))
    for _ in range(16):
        cells, clients = int(random.integers(2, 9)), int(random.integers(3, 8))
        counts = random.multinomial(clients, np.full(clients, 1 / clients))
        yield Case("random scores and resamples", (random.uniform(size=(cells, clients)).round(3).tolist(), counts.tolist()))


# -- 8: how many clients are enough


def _enough(n_1: float, r_1: float, n_2: float, r_2: float, wanted: float) -> float:
    if r_2 >= r_1:
        return -1.0
    return float(n_1 * (r_1 / wanted) ** (np.log(n_2 / n_1) / np.log(r_1 / r_2)))


def _enough_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a lack that halves with twice the clients", (4, 0.2, 8, 0.1, 0.025))
    yield Case("a lack that halves with four times the clients", (4, 0.2, 16, 0.1, 0.05))
    yield Case("what is wanted is there already", (4, 0.2, 16, 0.1, 0.1))
    yield Case("what is wanted lies between the two", (4, 0.2, 16, 0.1, 0.15))
    yield Case("a lack that stays as it is", (4, 0.1, 8, 0.1, 0.05))
    yield Case("a lack that grows", (4, 0.1, 8, 0.12, 0.05))
    for _ in range(16):
        n_1, power = int(random.integers(3, 20)), random.uniform(0.4, 1.2)
        n_2, factor = n_1 + int(random.integers(1, 20)), random.uniform(0.1, 0.9)
        wanted = float(random.uniform(0.005, 0.1))
        yield Case("random lacks", (n_1, float(factor * n_1**-power), n_2, float(factor * n_2**-power), wanted))


# -- 9: the error of a few samples


def _standard_error(scores: Words) -> float:
    table = np.asarray(scores, dtype=float)
    return float(np.sqrt(table.var(1, ddof=1).sum() / table.shape[1]) / len(table))


def _error_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one client", ([[0.2, 0.4, 0.9]],))
    yield Case("clients without noise", ([[0.2, 0.2], [0.9, 0.9]],))
    yield Case("clients that are far apart", ([[0.1, 0.2], [0.8, 0.9]],))
    yield Case("one client with noise among others without", ([[0.5, 0.5, 0.5], [0.0, 0.5, 1.0], [0.2, 0.2, 0.2]],))
    yield Case("two samples a client", (random.uniform(size=(5, 2)).round(3).tolist(),))
    for _ in range(16):
        clients, samples = int(random.integers(1, 7)), int(random.integers(2, 9))
        yield Case("random clients", ((random.uniform(size=(clients, 1)) + random.uniform(size=(clients, samples))).round(3).tolist(),))


EXERCISES: tuple[Exercise, ...] = (
    Exercise("05.1", _border, _border_cases, "a number"),
    Exercise("05.2", _decision_map, _decision_cases, "a list of (start, end, word), in order"),
    Exercise("05.3", _share, _share_cases, "a number from 0 to 1"),
    Exercise("05.4", _open_words, _open_cases, "a list of words (their numbers), in any order", equal=_same_words),
    Exercise("05.5", _agreed, _agreed_cases, "a whole number"),
    Exercise("05.6", _bound, _bound_cases, "a number"),
    Exercise("05.7", _flattery, _flattery_cases, "a number"),
    Exercise("05.8", _enough, _enough_cases, "a number"),
    Exercise("05.9", _standard_error, _error_cases, "a number"),
)
