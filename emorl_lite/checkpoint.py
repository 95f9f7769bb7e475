"""What a run leaves in its folder: checkpoints that resume exactly, and tables that grow by a row a step."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from emorl_lite.errors import UserError


def check_writable(folder: Path) -> None:
    """Make the folder. Raises UserError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"folder {folder}: cannot write there ({error.strerror})") from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader finds either the old one or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def save_state(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """One safetensors file with the tensors, and the JSON state in its header: one file, so one atomic replacement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, {"state": json.dumps(state)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, state) of `save_state`. Raises UserError for a file that is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["state"])  # noqa: SIM118
    except Exception as error:
        raise UserError(f"checkpoint {path}: damaged or not a checkpoint ({error}); delete it to start again") from error


def check_identity(where: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise UserError naming the first option in which a saved run differs from this one."""
    ours = json.loads(json.dumps(ours))
    for key in [*ours, *(k for k in theirs if k not in ours)]:
        if theirs.get(key) != ours.get(key):
            raise UserError(f"{where}: made with {key} = {theirs.get(key)!r}, now {ours.get(key)!r}; use another folder, or resume=False")


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators, uint8: of the CPU and of the device in use."""
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


class Table:
    """A CSV file that grows by rows, flushed at once, and can be cut back to a step. Without a path it lives in memory alone."""

    def __init__(self, path: Path | None, columns: Sequence[str]):
        self.path, self.columns = path, list(columns)
        self.rows: list[dict[str, Any]] = []

    def rewind(self, step: int) -> None:
        """Keep the rows up to and including a step: those after it belong to work that will be done again."""
        if self.path is None:
            self.rows = [row for row in self.rows if int(row["step"]) <= step]
            return
        self.rows = []
        if self.path.is_file() and step:
            with self.path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    if not (row.get("step") or "").isdigit() or int(row["step"]) > step or None in row.values():
                        break  # the last line of a killed run may be cut short
                    self.rows.append(dict(row))
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += [dict(row) for row in rows]
        if self.path is not None:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns).writerows(rows)
