"""PPO on one objective by several processes, usually a GPU each: `accelerate launch -m emorl_lite train --objective empathy`.

Every process answers its share of each step's prompts with a copy of the model; before an optimizer step the gradients are averaged, so all
copies stay the same. The first process writes the files; the others get its state when a run is resumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import nn

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig
from emorl_lite.training.randomness import OwnRandomness
from emorl_lite.training.run_folder import TrainingRun, counters, load_optimizer_tensors, optimizer_tensors, set_counters
from emorl_lite.training.team import Team

T = TypeVar("T")

COUNTED = ("step", "episodes", "samples", "validation", "seconds")
"""Columns of the log that are the same in every process."""


def world_size() -> int:
    """Processes that the launcher started."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def join(device: str = "auto") -> tuple[int, int]:
    """(rank, processes) of this process; the first call joins the others and chooses this process's GPU."""
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return state.process_index, state.num_processes


def leave() -> None:
    """Part from the other processes in good order; without it one that ends early can take the rest with it."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def team() -> Team:
    """The processes that the launcher started, or this one alone."""
    return Processes() if world_size() > 1 else Team()


class Processes(Team):
    """Several processes with a copy of the model each.

    Another number of processes is another run: replies are drawn from each process's own random numbers, and advantages are whitened within
    its share. A resumed run repeats the first process's random numbers exactly, and draws new ones for the others.
    """

    def __init__(self) -> None:
        self.rank, self.size = join()
        self.leads = self.rank == 0

    def check(self, config: PPOConfig) -> None:
        """Raise UserError unless batch and episodes can be shared evenly."""
        for name in ("batch_size", "episodes"):
            if (number := getattr(config, name)) % self.size:
                raise UserError(f"--ppo.{name.replace('_', '-')} {number}: cannot be shared evenly by {self.size} processes")

    def identity(self) -> dict[str, Any]:
        """A run of several processes is not a run of one."""
        return {"processes": self.size}

    def seed(self, seed: int) -> int:
        """Another one for every process; the first has the run's."""
        return seed + 1_000_003 * self.rank

    def same(self, value: T) -> T:
        """The first process's value, in all of them."""
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        first: T = values[0]
        return first

    def share(self, rows: list[int]) -> list[int]:
        """Every `size`-th prompt, from this process's rank on."""
        return rows[self.rank :: self.size]

    def copy(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all processes the first one's parameters."""
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.size

    def catch_up(self, run: TrainingRun, finished: bool) -> bool:
        """Give all processes the first one's weights, moments and counters, and each of the others random numbers of its own."""
        state = self.same({"finished": finished, "moments": optimizer_tensors(run.optimizer), **counters(run)})
        if not self.leads:
            run.random = OwnRandomness(run.lm.device, self.seed(run.seed) + 7919 * int(state["steps"]))
            load_optimizer_tensors(run.optimizer, state["moments"])
            set_counters(run, state)
        self.copy([*run.parameters, *run.value_head.parameters()])
        return bool(state["finished"])

    def mean(self, row: dict[str, float]) -> dict[str, float]:
        """The log's row with means over the processes; what all count alike stays."""
        names = [name for name in row if name not in COUNTED]
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
        values = torch.tensor([row[name] for name in names], dtype=torch.float64, device=device)
        dist.all_reduce(values)
        return row | dict(zip(names, (values / self.size).tolist(), strict=True))
