"""Types shared by the floors above."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import ArrayLike
from torch import Tensor

Reward = Callable[[list[str], list[str]], Tensor | ArrayLike]
"""(prompts, replies) of N texts each -> scores [N] in [0, 1]: a tensor, an array, a pandas Series or a list of numbers, which
`base.scores` makes one kind of tensor. A `Guarded` reward scores a reply that carries the UNFINISHED mark 0."""


def reward_name(reward: Reward) -> str:
    """How messages call a reward: its `name`, else its function or class name."""
    return str(getattr(reward, "name", None) or getattr(reward, "__name__", None) or type(reward).__name__)
