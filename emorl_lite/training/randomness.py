"""A trainer's own random numbers: nothing else in the process changes them, nor they anything else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random_states(device: torch.device, seed: int | None = None) -> dict[str, Tensor]:
    """The states of torch's random generators, uint8, of the CPU and of the device in use: as they are, or as a seed makes them."""
    if seed is not None:
        kinds = {"cpu", device.type} & {"cpu", "cuda", "mps"}
        return {kind: torch.Generator(kind).manual_seed(seed).get_state() for kind in sorted(kinds)}
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `random_states` took; a generator that is not there is left alone."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


class OwnRandomness:
    """Inside `with`, torch draws from these states, which go on from where they were left; outside, everything is as before."""

    def __init__(self, device: torch.device, seed: int):
        self.device, self.states = device, random_states(device, seed)
        self._outer_states: dict[str, Tensor] = {}

    def __enter__(self) -> None:
        self._outer_states = random_states(self.device)
        set_random_states(self.states, self.device)

    def __exit__(self, *exception: object) -> None:
        self.states = random_states(self.device)
        set_random_states(self._outer_states, self.device)
