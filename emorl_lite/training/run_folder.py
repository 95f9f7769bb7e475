"""What a run leaves in its folder: a log and samples that grow, a checkpoint that resumes exactly, and the finished adapter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import (
    check_identity,
    check_made_of,
    check_writable,
    digest,
    file_digest,
    load_state,
    read_json,
    read_tensors,
    save_state,
    set_aside,
    write_json,
    write_whole,
)
from emorl_lite.base.locks import alone, if_free
from emorl_lite.base.logs import Table
from emorl_lite.base.presets import ALL_LAYERS, PPOConfig
from emorl_lite.base.provenance import made_at
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.penalised_reward import PenalisedReward
from emorl_lite.training.randomness import OwnRandomness

COUNTERS = ("steps", "episodes", "samples", "seconds", "order", "validation_means", "last_kls")
"""What a checkpoint holds of a trainer besides tensors."""
ADDED_OFF = ("kl_stop", "lora_dropout", "weight_decay", "log_rewards", "validation_samples")
"""Options that came later and are off by default: a run made before them is still the same run."""
OF_STUDY = "study-"
"""Begins the names that the study's single-objective adapters have in a model, which may hold an experiment's adapters too. Their runs go
without it: in the folder's name, and in what makes a run this run."""

CHECKED = ("adapter_model.safetensors", "log.csv", "samples.csv", "extra.safetensors")
"""Files of a finished run whose checksums its record holds."""
ADVICE = "put back what was there, train it again with --restart (resume=False), or delete the folder"


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
        """What makes a run this run: its options."""

    def made_of(self) -> dict[str, Any]:
        """What else makes it this run: what its reward is made of, and the model's type."""


class RunFolder:
    """The files of one run. Without a path the tables live in memory, and the trainer asks for nothing else."""

    def __init__(self, path: Path | str | None, columns: Sequence[str]):
        self.path = Path(path) if path is not None else None
        self.log = Table(self.path and self.path / "log.csv", columns, ("step", "episodes", "reward"))
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
            return dict(read_record(self._folder)["identity"])
        found = self._last_good_checkpoint()
        return dict(found[1]["identity"]) if found else {}

    def make(self) -> None:
        """Make the folder of a run that is to be trained. Raises UserError if nothing can be written there."""
        if self.path is not None and not self.done.is_file():
            check_writable(self.path)

    @contextmanager
    def held(self, resume: bool) -> Iterator[None]:
        """Inside, no other process trains in this folder: a second one waits, and then finds what the first one made.

        A finished run is only read, so that nobody needs to write, nor waits.
        """
        if self.path is None or (resume and self.done.is_file()):
            yield
            return
        with alone(self.path, "training"):
            yield

    def starts_anew(self, resume: bool) -> bool:
        """Whether there is nothing to go on from."""
        return self.path is None or not resume or not any(file.is_file() for file in (self.done, *self._checkpoints))

    @property
    def _checkpoints(self) -> tuple[Path, Path]:
        """The last checkpoint and the one before: if the disk spoils the last, the other is still good."""
        return self.checkpoint, self.checkpoint.with_name("previous.safetensors")

    def save(self, run: TrainingRun) -> None:
        """Write a checkpoint: adapter, value head, optimizer moments, random states and the tables so far as tensors, the rest as JSON."""
        if self.path is None:
            return
        tables = {table: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) for table, text in self._tables().items() if text}
        parts = {
            "adapter": get_peft_model_state_dict(run.lm.model, adapter_name=run.adapter),
            "value_head": run.value_head.state_dict(),
            "extra": run.extra.state_dict(),
            "optimizer": optimizer_tensors(run.optimizer),
            "random": run.random.states,
            "tables": tables if run.steps else {},
        }
        state = counters(run) | run.reward.state() | {"identity": run.identity(), "made_of": run.made_of(), "base": run.lm.base_probe()}
        last, previous = self._checkpoints
        if last.is_file():
            os.replace(last, previous)
        save_state(last, {f"{part}/{key}": x for part, tensors in parts.items() for key, x in tensors.items()}, state)

    def _tables(self) -> dict[str, str]:
        return {"log": self.log.content(), "samples": self.samples.content()}

    def _last_good_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """(tensors, state) of the last checkpoint that is whole, None if there is none. Raises UserError if all are damaged."""
        damage: UserError | None = None
        for file in self._checkpoints:
            if file.is_file():
                try:
                    return load_state(file)
                except UserError as error:
                    damage = damage or error
        if damage:
            raise damage
        return None

    def _forget_damaged(self) -> None:
        """Move a damaged last checkpoint out of the way of the good one before it, and say so."""
        last, previous = self._checkpoints
        if last.is_file() and previous.is_file():
            try:
                load_state(last)
            except UserError as error:
                load_state(previous)  # if it is damaged too, that is told, and nothing is moved
                reason = str(error).partition(";")[0]
                print(f"{reason}; kept as {set_aside(last).name}; the run goes on from the checkpoint before it", file=sys.stderr)

    def restore(self, run: TrainingRun, resume: bool = True) -> bool:
        """Bring a trainer to where the folder's run stands; True if that run is done. Without `resume` the folder forgets its run.

        Raises UserError if the run had other options or another base model.
        """
        if not resume and run.steps:
            raise UserError("train(resume=False): this trainer has trained already; make a new one, on a fresh adapter")
        if self.path is not None and not resume:
            for file in (self.done, *self._checkpoints):
                file.unlink(missing_ok=True)
        if self.path is not None and self.done.is_file():
            self._load_finished(run)
            return True
        tables = {}
        if self.path is not None:
            self._forget_damaged()
            tables = self._load_checkpoint(run)
        self.log.rewind(run.steps, tables.get("log"))
        self.samples.rewind(run.steps, tables.get("samples"))
        return False

    def _load_finished(self, run: TrainingRun) -> None:
        record = read_finished(self._folder)
        watched = {"watch": record["identity"].get("watch")}  # only logged: another list gives the same adapter
        check_identity(self.done, record["identity"], run.identity() | watched)
        made_of = run.made_of()
        if run.lm.config.dtype == "auto":  # nobody asked for a type: what another machine trained is used as it is
            made_of = {key: value for key, value in made_of.items() if not key.startswith("model.")}
        check_made_of(self.done, record.get("made_of"), made_of, "use another folder, or resume=False")
        check_files(self._folder, record)
        if run.episodes != record["episodes"]:  # else it was trained by this very object
            run.lm.load_adapter(self._folder, run.adapter)
            run.extra.load_state_dict(read_tensors(self._extra, "trained parameters", ADVICE)[0] if self._extra.is_file() else {})
            set_counters(run, {name: record[name] for name in ("steps", "episodes", "samples", "seconds")})
        if self.checkpoint.parent.is_dir():  # killed between the record and this
            with if_free(self._folder) as free:
                if free and self.done.is_file():
                    clear_checkpoints(self.checkpoint.parent)

    def _load_checkpoint(self, run: TrainingRun) -> dict[str, str]:
        """Put the last good checkpoint, if there is one, into a trainer. Returns the texts of the tables up to there.

        Raises UserError, before anything is changed, for a checkpoint of other options or of another base.
        """
        if (found := self._last_good_checkpoint()) is None:
            return {}
        tensors, state = found
        if lacking := [name for name in (*COUNTERS, "identity", "base") if name not in state]:
            raise UserError(f"{self.checkpoint}: damaged, it lacks {lacking[0]}; delete it to start again")
        check_identity(self.checkpoint, state["identity"], run.identity())
        check_made_of(self.checkpoint, state.get("made_of"), run.made_of(), "use another folder, or resume=False")
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
        return {name: bytes(x.numpy()).decode() for name, x in _tensors_under("tables", tensors).items()}

    def finish(self, run: TrainingRun, reason: str) -> None:
        """Write the final adapter and done.json; a done run needs no moments, so its checkpoint goes."""
        if self.path is None:
            return
        run.lm.round_adapter(run.adapter)
        run.lm.save_adapter(run.adapter, self.path)
        if extra := run.extra.state_dict():
            write_whole(self._extra, extra)
        record: dict[str, Any] = {"seconds": run.seconds, "steps": run.steps, "episodes": run.episodes, "samples": run.samples}
        record |= {"stopped": reason, "identity": run.identity(), "made_of": run.made_of(), "files": checksums(self._folder)}
        record["made_at"] = made_at()
        write_json(self.done, record)
        clear_checkpoints(self.checkpoint.parent)


def clear_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished run, whole or half-written, and their folder if nothing else is in it."""
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.tmp"), *folder.glob(".*.tmp")]:
        with suppress(OSError):
            file.unlink()
    with suppress(OSError):  # there is none, or it holds something that is not ours
        folder.rmdir()


def read_record(folder: Path) -> dict[str, Any]:
    """The done.json of a finished run. Raises UserError for one that is damaged."""
    record = read_json(folder / "done.json", "the record of a finished run", ADVICE, ("identity",))
    if not isinstance(record["identity"], dict):
        raise UserError(f"{folder / 'done.json'}: damaged, its identity is no object; {ADVICE}")
    return record


def read_finished(folder: Path) -> dict[str, Any]:
    """`read_record` of a run that `PPOTrainer` trained, with its counters."""
    record = read_record(folder)
    for name in ("seconds", "steps", "episodes", "samples"):
        if not isinstance(record.get(name), int | float):
            raise UserError(f"{folder / 'done.json'}: damaged, it has no number {name!r}; {ADVICE}")
    return record


def checksums(folder: Path) -> dict[str, str]:
    """Of the files of a finished run, by name."""
    return {name: file_digest(folder / name) for name in CHECKED if (folder / name).is_file()}


def seal(folder: Path) -> None:
    """Bring a record's checksums up to date with the files of a run that was copied elsewhere, or rounded, on purpose."""
    record = read_record(folder)
    write_json(folder / "done.json", record | {"files": checksums(folder)})


def check_files(folder: Path, record: Mapping[str, Any], names: Sequence[str] = CHECKED) -> None:
    """Raise UserError if a file of a finished run is not what was written: edited, cut, or exchanged. Older records have no checksums."""
    kept = record.get("files")
    for name, checksum in kept.items() if isinstance(kept, dict) else ():
        if name in names and not ((folder / name).is_file() and file_digest(folder / name) == checksum):
            state = "changed since its run was finished" if (folder / name).is_file() else "missing, though its run is done"
            raise UserError(f"{folder / name}: {state}; {ADVICE}")


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
    shape = {key: getattr(lm.config, key) for key in ("template", "max_new_tokens", "lora_r", "lora_alpha", "lora_dropout")}
    shape |= {"layers": lm.config.layers} if lm.config.layers != ALL_LAYERS else {}  # it came later: a run made before is still the same
    options = {f"ppo.{key}": value for key, value in asdict(config).items()} | {f"model.{key}": value for key, value in shape.items()}
    return {key: value for key, value in options.items() if value or key.partition(".")[2] not in ADDED_OFF}


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
