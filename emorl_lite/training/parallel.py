"""PPO on one objective by several processes, usually a GPU each: `accelerate launch -m emorl_lite train --objective empathy`.

Every process answers its share of each step's prompts with a copy of the model; before an optimizer step the gradients are averaged, so all
copies stay the same. The first process writes the files; the others get its state when a run is resumed.
"""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from accelerate import PartialState

from emorl_lite.base.errors import UserError
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.run_folder import load_optimizer_tensors, optimizer_tensors, random_states

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


class ParallelPPO(PPOTrainer):
    """`PPOTrainer` as one of several processes. Raises UserError unless batch and episodes can be shared evenly.

    Another number of processes is another run: replies are drawn from each process's own random numbers, and advantages are whitened within
    its share. A resumed run repeats the first process's random numbers exactly, and draws new ones for the others.
    """

    def __init__(self, *args: Any, **options: Any):
        self.rank, self.world = join()
        if self.rank:
            options |= {"folder": None, "progress": False}
        super().__init__(*args, **options)
        for name in ("batch_size", "episodes"):
            if getattr(self.config, name) % self.world:
                number = getattr(self.config, name)
                raise UserError(f"--ppo.{name.replace('_', '-')} {number}: cannot be shared evenly by {self.world} processes")
        self.random = random_states(self.lm.device, self.seed + 1_000_003 * self.rank)
        self._told = False

    def identity(self) -> dict[str, Any]:
        """A run of several processes is not a run of one."""
        return super().identity() | {"processes": self.world}

    def _next_prompts(self, n: int) -> list[int]:
        drawn = [super()._next_prompts(n)]
        dist.broadcast_object_list(drawn, src=0)
        return drawn[0]

    def share(self, rows: list[int]) -> list[int]:
        """Every `world`-th prompt, from this process's rank on."""
        return rows[self.rank :: self.world]

    def average_gradients(self) -> None:
        """Replace every gradient by its mean over the processes."""
        if not self._told:  # the critic's first bias is the mean score of each one's own share
            self._tell()
        for parameter in [*self.parameters, *self.value_head.parameters()]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.world

    def step(self) -> dict[str, float]:
        """One step; the log's row holds means over the processes."""
        row = super().step()
        names = [name for name in row if name not in COUNTED]
        values = torch.tensor([row[name] for name in names], dtype=torch.float64)
        values = values.to(self.lm.device if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(values)
        row |= dict(zip(names, (values / self.world).tolist(), strict=True))
        told: list[Any] = [row["validation"], self.validation_means]  # rounding may differ between processes: all must stop together
        dist.broadcast_object_list(told, src=0)
        row["validation"], self.validation_means = told
        self.last_kls[-1] = row["kl"]  # all must stop together
        return row

    def train(self, resume: bool = True) -> pd.DataFrame:
        """Train to the end; every process returns the first one's log."""
        log = [super().train(resume)]
        dist.broadcast_object_list(log, src=0)
        return log[0]

    def restore(self, resume: bool) -> bool:
        """Bring every process to where the first one's folder stands."""
        finished = super().restore(resume)
        state = [
            {"finished": finished, "moments": optimizer_tensors(self.optimizer), **{name: getattr(self, name) for name in self.counters}}
        ]
        dist.broadcast_object_list(state, src=0)
        if self.rank:
            self.random = random_states(self.lm.device, self.seed + 1_000_003 * self.rank + 7919 * int(state[0]["steps"]))
            if state[0]["moments"]:
                load_optimizer_tensors(self.optimizer, state[0]["moments"])
            for name in self.counters:
                setattr(self, name, state[0][name])
        self._tell()
        self._told = bool(self.steps)
        return bool(state[0]["finished"])

    def _tell(self) -> None:
        """Give all processes the first one's weights."""
        self._told = True
        for parameter in [*self.parameters, *self.value_head.parameters()]:
            dist.broadcast(parameter.data, src=0)
