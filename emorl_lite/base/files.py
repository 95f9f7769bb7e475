"""Files that are whole or not there: text, tensors with their state, tables that grow; and what tells one made thing from another."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from emorl_lite.base.errors import UserError


def write_whole(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file so that a reader finds the old one or the new one, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may be at the same file
    save_file(dict(tensors), temporary)
    os.replace(temporary, path)


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


def check_identity(
    where: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any], advice: str = "use another folder, or resume=False"
) -> None:
    """Raise UserError naming the first option in which a saved run differs from this one, and what to do about it."""
    ours = json.loads(json.dumps(ours))
    for key in [*ours, *(k for k in theirs if k not in ours)]:
        if theirs.get(key) != ours.get(key):
            raise UserError(f"{where}: made with {key} = {theirs.get(key)!r}, now {ours.get(key)!r}; {advice}")


def digest(data: bytes) -> str:
    """A short SHA-256, 16 hex digits."""
    return hashlib.sha256(data).hexdigest()[:16]


RENAMED_COLUMNS = {"objective": "penalised_reward"}
"""Columns of tables that were written before they had these names."""


def old_names(columns: Sequence[str]) -> dict[str, str]:
    """Those of these columns that are another's old name, and today's. A table that has both names is of today."""
    return {old: new for old, new in RENAMED_COLUMNS.items() if old in columns and new not in columns}


def read_log(path: Path) -> pd.DataFrame:
    """A finished run's log, under today's names of columns."""
    log = pd.read_csv(path)
    return log.rename(columns=old_names(list(log.columns)))


class Table:
    """A CSV file that grows by rows, flushed at once, and can be cut back to a step. Without a path it lives in memory alone."""

    def __init__(self, path: Path | None, columns: Sequence[str]):
        self.path, self.columns = path, list(columns)
        self.rows: list[dict[str, Any]] = []

    def rewind(self, step: int) -> None:
        """Keep the rows up to and including a step: those after it belong to work that will be done again."""
        rows: list[Mapping[str, Any]] = [row for row in self.rows if row["step"] <= step]
        if self.path is None:
            self.rows = [dict(row) for row in rows]
            return
        rows = []
        if step and self.path.is_file():
            for row in self._read(self.path):
                if not (row["step"] or "").isdigit() or int(row["step"]) > step:
                    break
                rows.append(row)
        temporary = self.path.with_name(self.path.name + ".tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; a NaN becomes an empty cell."""
        cells: list[dict[str, Any]] = [{k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
        if self.path is None:
            self.rows += cells
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerows(cells)

    def frame(self) -> pd.DataFrame:
        """The table, with the very floats that were written; an empty cell is NaN."""
        rows = self.rows
        if self.path is not None:
            if not self.path.is_file():
                raise UserError(f"{self.path}: missing, though its run is done; delete the folder to train again")
            rows = [{k: number(v) for k, v in row.items()} for row in self._read(self.path)]
        return pd.DataFrame(rows, columns=self.columns).replace("", math.nan).infer_objects()

    @staticmethod
    def _read(path: Path) -> list[dict[str, str]]:
        """The rows on disk, under today's names of columns."""
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = old_names(reader.fieldnames or [])
            return [{names.get(k, k): v for k, v in row.items()} for row in reader]


def number(cell: str) -> int | float | str:
    """A CSV cell as the number it holds, exactly, else as text."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
