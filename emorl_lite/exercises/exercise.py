"""An exercise: a reference and the cases it is asked about. Owners of a notebook fill one module of these each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One call of an answer. `kind` says in words what is special about it: it is what a wrong answer is told."""

    kind: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Exercise:
    """What an answer is compared with.

    `name`: "02.3", the third exercise of notebook 02. `reference`: a right answer, a function of a case's arguments; of none where a value
    is asked. `cases`: yields about 20 cases from the random numbers it is given; None where a value is asked. `returns`: what is expected,
    in words ("a list of T numbers"). `tolerance`: relative and absolute; whole numbers are compared exactly where all expected numbers are
    whole. `equal(answer, expected)`: in place of the usual comparison, both as plain Python (numbers, True and False, texts, lists, sets,
    dictionaries).
    """

    name: str
    reference: Callable[..., Any]
    cases: Callable[[np.random.Generator], Iterator[Case]] | None
    returns: str
    tolerance: float = 1e-4
    equal: Callable[[Any, Any], bool] | None = None

    def drawn(self, seed: int = 0) -> list[Case]:
        """The cases, the same ones every time for a seed (0: those that readers are asked); for a value, one case without arguments."""
        if self.cases is None:
            return [Case("the value", ())]
        numbers = [int(part) for part in self.name.split(".")]
        return list(self.cases(np.random.default_rng([*numbers, seed] if seed else numbers)))
