"""The exercises of notebook 04, the search for the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from emorl_lite.exercises.exercise import Case, Exercise

# -- 1: the half-size square that is taken


def _best_square(means: Sequence[Sequence[float]]) -> tuple[int, int]:
    sums = {(i, j): sum(means[a][b] for a in (i, i + 1) for b in (j, j + 1)) for i in (0, 1) for j in (0, 1)}
    return max(sums, key=lambda square: sums[square])


def _square_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("a level whose best point lies in another square", ([[0.0, 0.1, 0.9], [0.5, 0.6, 0.1], [0.5, 0.6, 0.1]],))
    yield Case("a level whose chosen square has a bad corner", ([[0.0, 0.9, 0.4], [0.8, 0.7, 0.4], [0.4, 0.4, 0.4]],))
    yield Case("a level where one corner of the whole is all that counts", ([[0.0, 0.1, 0.2], [0.1, 0.2, 0.3], [0.2, 0.3, 0.9]],))
    yield Case("a level that is not symmetric", ([[0.1, 0.2, 0.9], [0.1, 0.3, 0.8], [0.2, 0.1, 0.1]],))
    for _ in range(20):
        yield Case("random scores", (random.uniform(size=(3, 3)).round(3).tolist(),))


# -- 2: points of a full grid


def _full_grid_points(d: int, levels: int) -> int:
    return int((2**levels + 1) ** d)


def _grid_cases(_: np.random.Generator) -> Iterator[Case]:
    for d, levels in product((1, 2, 3, 6), (1, 2, 5, 7)):
        kind = "one objective" if d == 1 else "one level" if levels == 1 else "several objectives and levels"
        yield Case(kind, (d, levels))


# -- 3: the search on a line


def _search_line(values: Sequence[float]) -> int:
    low, high, seen = 0, len(values) - 1, []
    while high - low > 1:
        middle = (low + high) // 2
        seen += [low, middle, high]
        if values[low] + values[middle] >= values[middle] + values[high]:
            high = middle
        else:
            low = middle
    return max(seen, key=lambda k: values[k])


def _line_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one level", ([0.2, 0.9, 0.5],))
    yield Case("scores with a peak that no level looks at", ([0.1, 1.0, 0.2, 0.2, 0.3, 0.4, 0.5, 0.4, 0.6],))
    yield Case("scores with two high ends", ([0.9, 0.0, 0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.95],))
    yield Case("scores that rise to a point in the middle", ([0.0, 0.3, 0.6, 0.8, 0.7, 0.5, 0.4, 0.2, 0.1],))
    yield Case("scores with a low end beside a high one", ([0.5, 0.2, 0.55, 0.2, 0.9, 0.3, 0.1, 0.2, 0.4],))
    for _ in range(20):
        yield Case("random scores", (random.uniform(size=2 ** int(random.integers(1, 6)) + 1).round(4).tolist(),))


# -- 4: directions of given points


def _count_directions(points: Sequence[Sequence[int]]) -> int:
    return len({tuple(x / sum(w) for x in w) for w in points if any(w)})


def _direction_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("points with the zero vector among them", ([[0, 0, 0], [1, 2, 0], [2, 4, 0]],))
    yield Case("points whose first weight is 0", ([[0, 1, 2], [0, 2, 4], [0, 2, 1], [1, 2, 1]],))
    yield Case("two weights only", ([[1, 0], [0, 1], [3, 0], [1, 1], [2, 2]],))
    yield Case("multiples by a number that is not whole", ([[2, 4, 6], [3, 6, 9], [3, 6, 8]],))
    yield Case("points in another order of weights", ([[1, 2, 3], [3, 2, 1], [2, 1, 3]],))
    yield Case("nearly the same direction", ([[100, 100, 99], [100, 100, 100], [50, 50, 50]],))
    yield Case("the zero vector alone", ([[0, 0]],))
    for _ in range(16):
        shape = (int(random.integers(1, 12)), int(random.integers(2, 4)))
        yield Case("random points", (random.integers(0, 4, shape).tolist(),))


# -- 5: directions of a level


def _directions(d: int) -> int:
    return int(3**d - 2**d)


def _level_cases(_: np.random.Generator) -> Iterator[Case]:
    for d in [*range(1, 9), *range(1, 9)]:
        yield Case("one objective" if d == 1 else "two objectives" if d == 2 else "more objectives", (d,))


# -- 6: prefixes that have to be read


def _prefixes_to_read(replies: Sequence[Sequence[int]]) -> int:
    return len({tuple(reply[:t]) for reply in replies for t in range(len(reply))})


def _prefix_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("one reply", ([[7, 8, 2]],))
    yield Case("replies that are the same", ([[7, 8, 2], [7, 8, 2]],))
    yield Case("replies that part at the first word", ([[7, 8, 2], [9, 8, 2]],))
    yield Case("replies that part at the last word", ([[7, 8, 5, 2], [7, 8, 6, 2]],))
    yield Case("replies that part and have the same words again", ([[7, 3, 8, 8, 2], [7, 4, 8, 8, 2]],))
    yield Case("replies of different lengths", ([[7, 2], [7, 8, 9, 9, 2], [5, 2]],))
    yield Case("the same words in another order", ([[3, 4, 2], [4, 3, 2]],))
    yield Case("words whose numbers have several digits", ([[1, 23, 2], [12, 3, 2]],))
    yield Case("replies that are not sorted", ([[5, 6, 2], [7, 2], [5, 8, 2]],))
    for _ in range(16):
        replies = [[*random.integers(3, 5, random.integers(1, 6)).tolist(), 2] for _ in range(int(random.integers(1, 7)))]
        yield Case("random replies", (replies,))


EXERCISES: tuple[Exercise, ...] = (
    Exercise("04.1", _best_square, _square_cases, "two numbers, 0 or 1 each"),
    Exercise("04.2", _full_grid_points, _grid_cases, "a whole number"),
    Exercise("04.3", _search_line, _line_cases, "the index of a point, a whole number"),
    Exercise("04.4", _count_directions, _direction_cases, "a whole number"),
    Exercise("04.5", _directions, _level_cases, "a whole number"),
    Exercise("04.6", _prefixes_to_read, _prefix_cases, "a whole number"),
)
