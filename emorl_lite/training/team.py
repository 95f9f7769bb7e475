"""Who trains one adapter together: a process alone, or several (see `parallel`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from emorl_lite.base.presets import PPOConfig
from emorl_lite.training.run_folder import TrainingRun

T = TypeVar("T")


class Team:
    """One process alone: it answers every prompt, writes the files, and has nobody to agree with."""

    size = 1
    """Processes."""
    leads = True
    """Whether this process writes the files and shows progress."""

    def check(self, config: PPOConfig) -> None:
        """Raise UserError for options that cannot be shared."""

    def identity(self) -> dict[str, Any]:
        """What of the team makes a run this run."""
        return {}

    def seed(self, seed: int) -> int:
        """This process's own seed, given the run's."""
        return seed

    def same(self, value: T) -> T:
        """The first process's value, in all of them."""
        return value

    def share(self, rows: list[int]) -> list[int]:
        """The prompts of a step that this process answers."""
        return rows

    def copy(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all processes the first one's parameters."""

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""

    def catch_up(self, run: TrainingRun, finished: bool) -> bool:
        """Bring every process to where the first one's run stands; returns whether that is finished."""
        return finished

    def mean(self, row: dict[str, float]) -> dict[str, float]:
        """The log's row with means over the processes."""
        return row
