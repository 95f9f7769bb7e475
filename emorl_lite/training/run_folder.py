"""What a run leaves in its folder: a log and samples that grow, a checkpoint that resumes exactly, and the finished adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import Table, check_identity, check_writable, digest, load_state, save_state, write_atomically
from emorl_lite.base.presets import PPOConfig
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.penalised_reward import PenalisedReward
from emorl_lite.training.randomness import OwnRandomness

COUNTERS = ("steps", "episodes", "samples", "seconds", "order", "validation_means", "last_kls")
"""What a checkpoint holds of a trainer besides tensors."""
ADDED_OFF = ("kl_stop",)
"""Options that came later and are off by default: a run made before them is still the same run."""
OF_STUDY = "study-"
"""Begins the names that the study's single-objective adapters have in a model, which may hold an experiment's adapters too. Their runs go
without it: in the folder's name, and in what makes a run this run."""


class TrainingRun(Protocol):
    """What of a trainer goes into its folder."""

    lm: LanguageModel
    adapter: str
    reward: PenalisedReward
    value_head: nn.Linear
    extra: nn.Module
    """Trained parameters beside the adapter."""
    optimizer: torch.optim.Optimizer
    random: OwnRandomness
    steps: int
    episodes: int
    samples: int
    seconds: float
    seed: int
    parameters: list[nn.Parameter]
    """All trained parameters but the value head's."""

    def identity(self) -> dict[str, Any]:
        """What makes a run this run."""


class RunFolder:
    """The files of one run. Without a path the tables live in memory, and the trainer asks for nothing else."""

    def __init__(self, path: Path | str | None, columns: Sequence[str]):
        self.path = Path(path) if path is not None else None
        self.log = Table(self.path and self.path / "log.csv", columns)
        self.samples = Table(self.path and self.path / "samples.csv", ["step", "prompt", "reply", "score"])

    @property
    def _folder(self) -> Path:
        assert self.path is not None
        return self.path

    @property
    def checkpoint(self) -> Path:
        """Where the state of an unfinished run lies."""
        return self._folder / "checkpoint" / "state.safetensors"

    @property
    def done(self) -> Path:
        """Where a finished run says what it was; written last."""
        return self._folder / "done.json"

    @property
    def _extra(self) -> Path:
        return self._folder / "extra.safetensors"

    def append(self, row: Mapping[str, float], samples: Sequence[Mapping[str, Any]]) -> None:
        """Add a step to the log, and some of its replies to the samples."""
        self.log.append([row])
        self.samples.append(samples)

    def recorded(self) -> dict[str, Any]:
        """What made the run that the folder holds, finished or not, this run; empty if it holds none."""
        if self.path is None:
            return {}
        if self.done.is_file():
            return dict(json.loads(self.done.read_text(encoding="utf-8"))["identity"])
        return dict(load_state(self.checkpoint)[1]["identity"]) if self.checkpoint.is_file() else {}

    def make(self) -> None:
        """Make the folder. Raises UserError if nothing can be written there."""
        if self.path is not None:
            check_writable(self.path)

    def starts_anew(self, resume: bool) -> bool:
        """Whether there is nothing to go on from."""
        return self.path is None or not resume or not (self.done.is_file() or self.checkpoint.is_file())

    def save(self, run: TrainingRun) -> None:
        """Write a checkpoint: adapter, value head, optimizer moments and random states as tensors, the rest as JSON in the header."""
        if self.path is None:
            return
        parts = {
            "adapter": get_peft_model_state_dict(run.lm.model, adapter_name=run.adapter),
            "value_head": run.value_head.state_dict(),
            "extra": run.extra.state_dict(),
            "optimizer": optimizer_tensors(run.optimizer),
            "random": run.random.states,
        }
        state = counters(run) | run.reward.state() | {"identity": run.identity(), "base": run.lm.base_probe()}
        save_state(self.checkpoint, {f"{part}/{key}": x for part, tensors in parts.items() for key, x in tensors.items()}, state)

    def restore(self, run: TrainingRun, resume: bool = True) -> bool:
        """Bring a trainer to where the folder's run stands; True if that run is done. Without `resume` the folder forgets its run.

        Raises UserError if the run had other options or another base model.
        """
        if not resume and run.steps:
            raise UserError("train(resume=False): this trainer has trained already; make a new one, on a fresh adapter")
        if self.path is not None and not resume:
            self.done.unlink(missing_ok=True)
            self.checkpoint.unlink(missing_ok=True)
        if self.path is not None and self.done.is_file():
            self._load_finished(run)
            return True
        if self.path is not None and self.checkpoint.is_file():
            self._load_checkpoint(run)
        self.log.rewind(run.steps)
        self.samples.rewind(run.steps)
        return False

    def _load_finished(self, run: TrainingRun) -> None:
        record = json.loads(self.done.read_text(encoding="utf-8"))
        watched = {"watch": record["identity"].get("watch")}  # only logged: another list gives the same adapter
        check_identity(self.done, record["identity"], run.identity() | watched)
        if run.episodes != record["episodes"]:  # else it was trained by this very object
            run.lm.load_adapter(self._folder, run.adapter)
            run.extra.load_state_dict(load_file(self._extra) if self._extra.is_file() else {})
            set_counters(run, {name: record[name] for name in ("steps", "episodes", "samples", "seconds")})

    def _load_checkpoint(self, run: TrainingRun) -> None:
        tensors, state = load_state(self.checkpoint)
        check_identity(self.checkpoint, state["identity"], run.identity())
        if state["base"] != run.lm.base_probe():
            base = run.lm.config.path
            raise UserError(f"{self.checkpoint}: made with another base model than {base}; use another folder, or resume=False")
        set_peft_model_state_dict(run.lm.model, _tensors_under("adapter", tensors), adapter_name=run.adapter)
        run.value_head.load_state_dict(_tensors_under("value_head", tensors))
        run.extra.load_state_dict(_tensors_under("extra", tensors))
        load_optimizer_tensors(run.optimizer, _tensors_under("optimizer", tensors))
        run.random.states = _tensors_under("random", tensors)
        set_counters(run, state)
        run.reward.load_state(state)

    def finish(self, run: TrainingRun, reason: str) -> None:
        """Write the final adapter and done.json; a done run needs no moments, so its checkpoint goes."""
        if self.path is None:
            return
        run.lm.round_adapter(run.adapter)
        run.lm.save_adapter(run.adapter, self.path)
        if extra := run.extra.state_dict():
            save_file({name: x.detach().cpu().contiguous() for name, x in extra.items()}, self._extra)
        record = {"seconds": round(run.seconds, 3), "steps": run.steps, "episodes": run.episodes, "samples": run.samples}
        write_atomically(self.done, json.dumps(record | {"stopped": reason, "identity": run.identity()}, indent=1))
        for file in (self.checkpoint, self.checkpoint.with_name(self.checkpoint.name + ".tmp")):  # the second: killed while writing
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or it holds something that is not ours
            self.checkpoint.parent.rmdir()


def counters(run: TrainingRun) -> dict[str, Any]:
    """What a checkpoint holds of a trainer besides tensors."""
    return {name: getattr(run, name) for name in COUNTERS}


def set_counters(run: TrainingRun, state: Mapping[str, Any]) -> None:
    """Put back what `counters` gave; what is missing stays."""
    for name in COUNTERS:
        setattr(run, name, state.get(name, getattr(run, name)))


def _tensors_under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with prefix/, without it."""
    return {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}


def options_identity(lm: LanguageModel, config: PPOConfig) -> dict[str, Any]:
    """What of a model's shape and of PPO's options makes a run this run."""
    shape = {f"model.{key}": getattr(lm.config, key) for key in ("template", "max_new_tokens", "lora_r", "lora_alpha")}
    return {f"ppo.{key}": value for key, value in asdict(config).items() if value or key not in ADDED_OFF} | shape


def texts_digest(texts: Sequence[str]) -> str:
    """What tells one list of texts from another."""
    return digest(json.dumps(list(texts)).encode())


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
