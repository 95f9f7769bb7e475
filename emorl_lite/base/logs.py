"""Tables that grow by rows while something runs, and can be cut back to a step: logs and samples of training."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_table, read_text, set_aside, told, write_atomically
from emorl_lite.base.shown_text import guarded, unguarded

RENAMED_COLUMNS = {"objective": "penalised_reward"}
"""Columns of tables that were written before they had these names."""
ADVICE = "delete the run's folder to train again"


def old_names(columns: Sequence[str]) -> dict[str, str]:
    """Those of these columns that are another's old name, and today's. A table that has both names is of today."""
    return {old: new for old, new in RENAMED_COLUMNS.items() if old in columns and new not in columns}


def read_log(path: Path) -> pd.DataFrame:
    """A finished run's log, under today's names of columns. Raises UserError for a file that is none."""
    log = read_table(path, "the log of a run", ADVICE)
    log = log.rename(columns=old_names(list(log.columns)))
    for name in ("step", "episodes", "reward"):
        if name not in log.columns or not pd.api.types.is_numeric_dtype(log[name]) or not len(log):
            raise UserError(f"{path}: cannot be read as the log of a run: it has no numbers in a column {name!r}; {ADVICE}")
    return log


class Table:
    """A CSV file that grows by rows, flushed at once, and can be cut back to a step. Without a path it lives in memory alone.

    `needed`: columns without which a file is none of this kind; of others a run may have logged more or fewer.
    """

    def __init__(self, path: Path | None, columns: Sequence[str], needed: Sequence[str] = ("step",)):
        self.path, self.columns, self.needed = path, list(columns), list(needed)
        self.rows: list[dict[str, Any]] = []

    def content(self) -> str:
        """The text of the file: what a checkpoint keeps of it."""
        return read_text(self.path, "a table of this run", ADVICE) if self.path is not None and self.path.is_file() else ""

    def rewind(self, step: int, kept: str | None = None) -> None:
        """Keep the rows up to and including a step: those after it belong to work that will be done again.

        `kept`: the text up to there, from a checkpoint. A file that does not begin with it was edited or damaged: it is put aside.
        """
        if self.path is None:
            self.rows = [dict(row) for row in self.rows if row["step"] <= step]
        elif step and kept:
            self._restore(self.path, kept)
        else:
            rows = [*self._until(self.path, step)] if step and self.path.is_file() else []
            write_atomically(self.path, self._as_text(rows, header=True))

    def _restore(self, path: Path, kept: str) -> None:
        with told(path, "cannot be read"):
            found = path.read_bytes() if path.is_file() else b""
        if path.is_file() and not found.startswith(kept.encode("utf-8")):
            aside = set_aside(path)
            print(f"{path}: edited or damaged; restored from the checkpoint, what was there is {aside.name}", file=sys.stderr)
        if found != kept.encode("utf-8"):
            write_atomically(path, kept)

    def _until(self, path: Path, step: int) -> list[dict[str, str]]:
        rows = []
        for row in self._read(path):
            if not (row.get("step") or "").isdigit() or int(row["step"]) > step:
                break
            rows.append(row)
        return rows

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; a NaN becomes an empty cell. Raises UserError if the disk is full."""
        cells: list[dict[str, Any]] = [{k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
        if self.path is None:
            self.rows += cells
            return
        with told(self.path, "cannot be written"), self.path.open("ab") as file:
            file.write(self._as_text(cells).encode("utf-8"))

    def _as_text(self, rows: Sequence[Mapping[str, Any]], header: bool = False) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore" if header else "raise")
        if header:
            writer.writeheader()
        writer.writerows({k: guarded(v) for k, v in row.items()} for row in rows)
        return text.getvalue()

    def frame(self) -> pd.DataFrame:
        """The table, with the very floats that were written; an empty cell is NaN. Raises UserError for a file that is none."""
        rows = self.rows
        if self.path is not None:
            if not self.path.is_file():
                raise UserError(f"{self.path}: missing, though its run is done; {ADVICE}")
            rows = [{k: number(v) for k, v in row.items()} for row in self._read(self.path)]
            self._check_numbers(self.path, rows)
        return pd.DataFrame(rows, columns=self.columns).replace("", math.nan).infer_objects()

    def _check_numbers(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        for line, row in enumerate(rows, 2):
            if odd := [name for name in self.needed if not isinstance(row.get(name), int | float)]:
                raise UserError(f"{path}, line {line}: {odd[0]} is {row.get(odd[0])!r}, expected a number; {ADVICE}")
        if not rows:
            raise UserError(f"{path}: holds no rows, though its run is done; {ADVICE}")

    def _read(self, path: Path) -> list[dict[str, str]]:
        """The rows on disk, under today's names of columns."""
        reader = csv.DictReader(io.StringIO(read_text(path, "a table of this run", ADVICE), newline=""))
        names = old_names(reader.fieldnames or [])
        found = {names.get(name, name) for name in reader.fieldnames or []}
        if missing := [name for name in self.needed if name not in found]:
            raise UserError(f"{path}: cannot be read as a table of this run: it has no column {missing[0]!r}; {ADVICE}")
        try:
            return [{names.get(k, k): unguarded(v) for k, v in row.items()} for row in reader]
        except csv.Error as error:
            raise UserError(f"{path}: cannot be read as a table of this run: {error}; {ADVICE}") from error


def number(cell: str) -> int | float | str:
    """A CSV cell as the number it holds, exactly, else as text."""
    for kind in (int, float):
        try:
            return kind(cell)
        except (ValueError, TypeError):
            continue
    return cell
