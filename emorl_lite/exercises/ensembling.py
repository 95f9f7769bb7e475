"""The exercises of notebook 03, hidden-state ensembling. Shapes: d adapters, V words, r rank of an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from emorl_lite.exercises.exercise import Case, Exercise


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(array, dtype=torch.float32)


# -- 1: mix by hand


def _next_word(h: Tensor, w: Tensor, W: Tensor) -> int:
    return int((W @ (w @ h)).argmax())


_CORNERS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])
"""A head of three words in a plane: the third lies between the other two."""


def _next_word_cases(random: np.random.Generator) -> Iterator[Case]:
    h = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    yield Case("all weight on the first adapter", (h, torch.tensor([1.0, 0.0]), _CORNERS))
    yield Case("all weight on the second adapter", (h, torch.tensor([0.0, 1.0]), _CORNERS))
    yield Case("a word that no adapter would have said", (h, torch.tensor([0.5, 0.5]), _CORNERS))
    yield Case("hidden states of very different lengths", (h * torch.tensor([[10.0], [1.0]]), torch.tensor([0.4, 0.6]), _CORNERS))
    yield Case("a small weight beside a large one", (h, torch.tensor([0.9, 0.1]), _CORNERS))
    yield Case("weights that sum to more than 1", (h, torch.tensor([1.0, 0.2]), _CORNERS))
    for _ in range(16):
        d, width, V = int(random.integers(2, 5)), int(random.integers(3, 9)), int(random.integers(6, 30))
        states, head = random.normal(size=(d, width)), random.normal(size=(V, width))
        w = random.dirichlet([0.5] * d) * random.choice([0.5, 1.0, 2.0])
        yield Case("random adapters", (_tensor(states), _tensor(w), _tensor(head)))


# -- 2: the product of experts


def _product_of_experts(p: Tensor, w: Tensor) -> Tensor:
    product = (p ** w[:, None]).prod(0)
    return product / product.sum()


def _product_cases(random: np.random.Generator) -> Iterator[Case]:
    p = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])
    yield Case("equal weights that sum to 1", (p, torch.tensor([0.5, 0.5])))
    yield Case("weights that sum to 2", (p, torch.tensor([1.0, 1.0])))
    yield Case("weights that sum to less than 1", (p, torch.tensor([0.2, 0.3])))
    yield Case("all weight on one adapter", (p, torch.tensor([0.0, 1.0])))
    yield Case("all weights zero", (p, torch.tensor([0.0, 0.0])))
    yield Case("a word that one adapter forbids", (torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]]), torch.tensor([0.5, 0.5])))
    yield Case(
        "a word forbidden by an adapter without weight", (torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]]), torch.tensor([0.0, 1.0]))
    )
    yield Case(
        "a word that an adapter of small weight forbids", (torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]]), torch.tensor([0.02, 0.9]))
    )
    for _ in range(14):
        d, V = int(random.integers(2, 5)), int(random.integers(3, 9))
        w = random.uniform(0, 1, d)
        yield Case("random distributions", (_tensor(random.dirichlet([0.7] * V, d).clip(1e-3)), _tensor(w)))


# -- 3: the margin


def _margin(z: Tensor, w: Tensor) -> float:
    best = (w @ z).topk(2).values
    return float(best[0] - best[1])


def _margin_cases(random: np.random.Generator) -> Iterator[Case]:
    z = torch.tensor([[4.0, 0.0, 3.0], [0.0, 4.0, 3.0]])
    yield Case("a winner that no adapter puts first", (z, torch.tensor([0.5, 0.5])))
    yield Case("all weight on one adapter", (z, torch.tensor([1.0, 0.0])))
    yield Case("weights that sum to more than 1", (z, torch.tensor([1.0, 0.5])))
    yield Case("a tie between two words", (torch.tensor([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0.5, 0.5])))
    yield Case("negative scores", (-1 - z, torch.tensor([0.7, 0.3])))
    yield Case("two words", (z[:, :2], torch.tensor([0.3, 0.6])))
    for _ in range(16):
        d, V = int(random.integers(2, 5)), int(random.integers(4, 20))
        yield Case("random adapters", (_tensor(3 * random.normal(size=(d, V))), _tensor(random.uniform(0, 1, d))))


# -- 4: the same text at another size


def _rescaled(w: Sequence[float], total: float) -> list[float]:
    return [total * x / sum(w) for x in w]


def _rescaled_cases(random: np.random.Generator) -> Iterator[Case]:
    yield Case("weights that sum to 1", ([0.2, 0.6, 0.2], 2.0))
    yield Case("weights that do not sum to 1", ([0.5, 0.25], 1.0))
    yield Case("weights with a zero among them", ([0.0, 0.3, 0.9], 1.0))
    yield Case("one adapter that has all the weight", ([0.0, 1.0, 0.0], 0.5))
    yield Case("equal weights", ([0.5, 0.5, 0.5, 0.5], 2.0))
    for _ in range(15):
        d = int(random.integers(2, 6))
        yield Case("random weights", (random.uniform(0.05, 1, d).round(2).tolist(), float(random.choice([0.5, 1.0, 2.0, 4.0]))))


# -- 6: the exact merge


def _merged_change(A: Sequence[Tensor], B: Sequence[Tensor], scale: float, w: Sequence[float]) -> Tensor:
    changes = [x * scale * b @ a for x, a, b in zip(w, A, B, strict=True)]
    return torch.stack(changes).sum(0)


def _merge_cases(random: np.random.Generator) -> Iterator[Case]:
    def layer(ranks: Sequence[int], scale: float, w: Sequence[float]) -> tuple[list[Tensor], list[Tensor], float, list[float]]:
        A, B = [random.normal(size=(r, 5)) for r in ranks], [random.normal(size=(4, r)) for r in ranks]
        return [_tensor(a) for a in A], [_tensor(b) for b in B], scale, list(w)

    yield Case("all weight on one adapter", layer([2, 2, 2], 1.0, [0.0, 1.0, 0.0]))
    yield Case("a scale that is not 1", layer([2, 2], 4.0, [0.5, 0.5]))
    yield Case("weights that do not sum to 1", layer([2, 2], 1.0, [0.75, 0.5]))
    yield Case("adapters of different ranks", layer([1, 3], 2.0, [0.5, 0.5]))
    yield Case("all weights zero", layer([2, 2], 2.0, [0.0, 0.0]))
    for _ in range(15):
        d = int(random.integers(2, 5))
        w = random.uniform(0, 1, d).round(2).tolist()
        yield Case("random adapters", layer([2] * d, float(random.choice([1.0, 2.0])), w))


def _same_letters(answer: object, expected: object) -> bool:
    """Letters in any order, of either case, each once or more often."""
    several = isinstance(answer, (list, tuple, set, frozenset)) and isinstance(expected, (list, tuple, set, frozenset))
    return several and {str(x).strip().lower() for x in answer} == set(expected)  # type: ignore[attr-defined, call-overload]


def _near(answer: object, expected: object) -> bool:
    return isinstance(answer, (int, float)) and abs(answer - float(str(expected))) < 1e-3


EXERCISES: tuple[Exercise, ...] = (
    Exercise("03.1", _next_word, _next_word_cases, "the number of a word, an int"),
    Exercise("03.2", _product_of_experts, _product_cases, "a list or tensor of V probabilities"),
    Exercise("03.3", _margin, _margin_cases, "a number", tolerance=1e-3),
    Exercise("03.4", _rescaled, _rescaled_cases, "a list of d weights"),
    Exercise("03.5", lambda: 9, None, "a number", equal=_near),
    Exercise("03.6", _merged_change, _merge_cases, "a matrix, [out, in]"),
    Exercise("03.7", lambda: {"a", "c", "e", "f"}, None, "a set of letters", equal=_same_letters),
)
