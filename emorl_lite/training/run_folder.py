"""What a run leaves in its folder: checkpoints that resume exactly, and tables that grow by a row a step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import Table, check_identity, load_state, save_state, write_atomically
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.types import Reward, reward_name
from emorl_lite.lm.model import LanguageModel

COUNTERS = ("steps", "episodes", "samples", "seconds", "order", "validation_means", "last_kls")
"""What a checkpoint holds besides tensors."""
ADDED_OFF = ("kl_stop",)
"""Options that came later and are off by default: a run made before them is still the same run."""
OF_STUDY = "study-"
"""Begins the names that the study's single-objective adapters have in a model, which may hold an experiment's adapters too. Their runs go
without it: in the folder's name, and in what makes a run this run."""
EXTRA = "extra.safetensors"
"""File of a finished run's trained parameters beside the adapter."""


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


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments and step counts, as index/name."""
    return {f"{i}/{name}": x for i, moments in optimizer.state_dict()["state"].items() for name, x in moments.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with prefix/, without it."""
    return {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}


class ResumableRun:
    """Base of a trainer that leaves its run in a folder, and continues from there exactly."""

    lm: LanguageModel
    adapter: str
    reward: Reward
    watch: dict[str, Reward]
    config: PPOConfig
    seed: int
    prompts: list[str]
    validation_prompts: list[str]
    folder: Path | None
    value_head: nn.Linear
    optimizer: torch.optim.Optimizer
    random: dict[str, Tensor]
    log: Table
    samples_table: Table
    extra: nn.Module
    """Trained parameters that are no part of the adapter."""
    counters: tuple[str, ...] = COUNTERS
    """Attributes that a checkpoint keeps as JSON."""

    def __init__(self) -> None:
        self.steps = self.episodes = self.samples = 0
        self.seconds = 0.0
        self.order: list[int] = []
        self.validation_means: list[float] = []
        self.last_kls: list[float] = []

    def identity(self) -> dict[str, Any]:
        """What makes a run this run: a checkpoint continues only under the same."""

        def digest(texts: Sequence[str]) -> str:
            return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]

        shape = {f"model.{key}": getattr(self.lm.config, key) for key in ("template", "max_new_tokens", "lora_r", "lora_alpha")}
        run = {"adapter": self.adapter.removeprefix(OF_STUDY), "reward": reward_name(self.reward)}
        run |= {"watch": list(self.watch), "seed": self.seed}
        texts = {"prompts": digest(self.prompts), "validation_prompts": digest(self.validation_prompts)}
        ppo = {f"ppo.{key}": value for key, value in asdict(self.config).items() if value or key not in ADDED_OFF}
        return {**run, **ppo, **shape, **texts}

    def save_checkpoint(self) -> None:
        """Write the run's state: adapter, value head, optimizer moments and random states as tensors, the rest as JSON in the header."""
        if self.folder is None:
            return
        parts = {
            "adapter": get_peft_model_state_dict(self.lm.model, adapter_name=self.adapter),
            "value_head": self.value_head.state_dict(),
            "extra": self.extra.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "random": self.random,
        }
        state = {name: getattr(self, name) for name in self.counters} | {"identity": self.identity(), "base": self.lm.base_probe()}
        save_state(self.checkpoint_file(), {f"{part}/{k}": v for part, tensors in parts.items() for k, v in tensors.items()}, state)

    def checkpoint_file(self) -> Path:
        """Where the run's state lies."""
        assert self.folder is not None
        return self.folder / "checkpoint" / "state.safetensors"

    def restore(self, resume: bool) -> bool:
        """Bring the trainer to where its folder's run stands; True if that run is done."""
        if not resume and self.steps:
            raise UserError("train(resume=False): this trainer has trained already; make a new one, on a fresh adapter")
        finished = False
        if self.folder is not None:
            done, file = self.folder / "done.json", self.checkpoint_file()
            if not resume:
                done.unlink(missing_ok=True)
                file.unlink(missing_ok=True)
            finished = done.is_file()
            if finished:
                record = json.loads(done.read_text(encoding="utf-8"))
                watched = {"watch": record["identity"].get("watch")}  # only logged: another list gives the same adapter
                check_identity(done, record["identity"], self.identity() | watched)
                if self.episodes != record["episodes"]:  # else it was trained by this very object
                    self.lm.load_adapter(self.folder, self.adapter)
                    if self.extra.state_dict():
                        self.extra.load_state_dict(load_file(self.folder / EXTRA))
                    for name in ("steps", "episodes", "samples", "seconds"):
                        setattr(self, name, record[name])
            elif file.is_file():
                tensors, state = load_state(file)
                check_identity(file, state["identity"], self.identity())
                if state["base"] != self.lm.base_probe():
                    raise UserError(f"{file}: made with another base model than {self.lm.config.path}; use another folder, or resume=False")
                set_peft_model_state_dict(self.lm.model, under("adapter", tensors), adapter_name=self.adapter)
                self.value_head.load_state_dict(under("value_head", tensors))
                self.extra.load_state_dict(under("extra", tensors))
                load_optimizer_tensors(self.optimizer, under("optimizer", tensors))
                self.random = under("random", tensors)
                for name in self.counters:
                    setattr(self, name, state.get(name, getattr(self, name)))
        if not finished:
            self.log.rewind(self.steps)
            self.samples_table.rewind(self.steps)
        return finished

    def finish(self, reason: str) -> None:
        """Write the final adapter and done.json; a done run needs no moments, so its checkpoint goes."""
        if self.folder is None:
            return
        self.lm.round_adapter(self.adapter)
        self.lm.save_adapter(self.adapter, self.folder)
        if self.extra.state_dict():
            save_file({name: x.detach().cpu().contiguous() for name, x in self.extra.state_dict().items()}, self.folder / EXTRA)
        done = {"seconds": round(self.seconds, 3), "steps": self.steps, "episodes": self.episodes, "samples": self.samples}
        write_atomically(self.folder / "done.json", json.dumps(done | {"stopped": reason, "identity": self.identity()}, indent=1))
        state = self.checkpoint_file()
        for file in (state, state.with_name(state.name + ".tmp")):  # the second is left by a process that was killed while it wrote
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or it holds something that is not ours
            state.parent.rmdir()

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Draw from the trainer's own random state, so that nothing else in the process changes the run, nor the run anything else."""
        outside = random_states(self.lm.device)
        set_random_states(self.random, self.lm.device)
        try:
            yield
        finally:
            self.random = random_states(self.lm.device)
            set_random_states(outside, self.lm.device)
