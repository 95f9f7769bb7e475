"""What a run leaves in its folder: a log and samples that grow, a checkpoint that resumes exactly, and the finished adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from emorl_lite.base.files import Table, check_writable, digest, load_state, save_state, write_atomically

COUNTERS = ("steps", "episodes", "samples", "seconds", "order", "validation_means", "last_kls")
"""What a checkpoint holds of a trainer besides tensors."""
ADDED_OFF = ("kl_stop",)
"""Options that came later and are off by default: a run made before them is still the same run."""
OF_STUDY = "study-"
"""Begins the names that the study's single-objective adapters have in a model, which may hold an experiment's adapters too. Their runs go
without it: in the folder's name, and in what makes a run this run."""


class RunFolder:
    """The files of one run. Without a path the tables live in memory, and the trainer asks for nothing else."""

    def __init__(self, path: Path | str | None, columns: Sequence[str]):
        self.path = Path(path) if path is not None else None
        if self.path is not None:
            check_writable(self.path)
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

    def rewind(self, step: int) -> None:
        """Keep what belongs to steps up to this one."""
        self.log.rewind(step)
        self.samples.rewind(step)

    def clear(self) -> None:
        """Forget the run, so that it starts again."""
        self.done.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Write a checkpoint: tensors by part, and the rest as JSON."""
        save_state(self.checkpoint, {f"{part}/{key}": x for part, tensors in parts.items() for key, x in tensors.items()}, state)

    def load(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """(tensors by part, state) of the checkpoint, if there is one."""
        if not self.checkpoint.is_file():
            return None
        tensors, state = load_state(self.checkpoint)
        return {part: _tensors_under(part, tensors) for part in ("adapter", "value_head", "extra", "optimizer", "random")}, state

    def finished(self) -> dict[str, Any] | None:
        """What a finished run says of itself."""
        record: dict[str, Any] | None = json.loads(self.done.read_text(encoding="utf-8")) if self.done.is_file() else None
        return record

    def extra(self) -> dict[str, Tensor]:
        """A finished run's trained parameters beside the adapter."""
        return load_file(self._extra) if self._extra.is_file() else {}

    def finish(self, extra: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """The adapter is written: write what was trained beside it, and done.json; a done run needs no moments, so its checkpoint goes."""
        if extra:
            save_file({name: x.detach().cpu().contiguous() for name, x in extra.items()}, self._extra)
        write_atomically(self.done, json.dumps(record, indent=1))
        for file in (self.checkpoint, self.checkpoint.with_name(self.checkpoint.name + ".tmp")):  # the second: killed while writing
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or it holds something that is not ours
            self.checkpoint.parent.rmdir()


def _tensors_under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with prefix/, without it."""
    return {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}


def digest_of(texts: Sequence[str]) -> str:
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
