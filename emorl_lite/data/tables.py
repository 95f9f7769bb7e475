"""Tables in text files, row by row: .csv, .tsv, .json, .jsonl. Whatever is wrong with a file is one UserError that names its row or line.

Rows count from 1 as a spreadsheet shows them: a header is row 1, a multi-line cell does not break its row. JSON objects count from 1.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LONGEST_CELL = 10_000_000


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells) of every row of a .csv or .tsv that is not blank."""
    text, suffix = _read_text(path), path.suffix.lower()
    if suffix not in _DELIMITERS:
        raise UserError(f"{path}: unknown extension {suffix!r}; expected one of {', '.join(_DELIMITERS)}")
    csv.field_size_limit(_LONGEST_CELL)  # the default of 131,072 is too short for an answer with an inline image (counsel-chat)
    row = 0
    try:
        # strict: a quote that is never closed is an error here, instead of swallowing the rest of the file
        for row, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=_DELIMITERS[suffix], strict=True), 1):
            if cells:
                yield row, cells
    except csv.Error as error:
        raise UserError(f"{path}, row {row + 1}: {error}") from None


def records(path: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, record) of a table; every record holds `columns`."""
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl"):
        for row, record in _json_rows(path, suffix):
            if not isinstance(record, dict):
                raise UserError(f"{path}, row {row}: expected an object with named columns")
            _check_columns(record, columns, f"{path}, row {row}")
            yield row, record
        return
    if suffix not in _DELIMITERS:
        _read_text(path)  # a missing file is worth saying before its extension
        raise UserError(f"{path}: unknown extension {suffix!r}; expected one of {', '.join(_DELIMITERS)}, .json, .jsonl")
    names: list[str] | None = None
    for row, cells in csv_rows(path):
        if names is None:
            names = [cell.strip() for cell in cells]
            _check_columns(names, columns, str(path))
        elif len(cells) != len(names):
            raise UserError(f"{path}, row {row}: {len(cells)} columns, the header has {len(names)}")
        else:
            yield row, dict(zip(names, cells, strict=True))


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: byte {error.start} of the file is not UTF-8; save the file as UTF-8") from None


def _json_rows(path: Path, suffix: str) -> Iterator[tuple[int, Any]]:
    text = _read_text(path)
    # split("\n"), not splitlines(): a JSON string may hold other line separators
    pieces = [(1, text)] if suffix == ".json" else [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    for line, piece in pieces:
        try:
            value = json.loads(piece)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {line + error.lineno - 1}: not JSON ({error.msg})") from None
        if suffix == ".jsonl":
            yield line, value
        elif isinstance(value, list):
            yield from enumerate(value, 1)
        else:
            raise UserError(f"{path}: expected a JSON list of objects")


def _check_columns(present: Iterable[str], wanted: list[str], where: str) -> None:
    names = list(present)
    for column in wanted:
        if column not in names:
            raise UserError(f"{where}: column {column!r} is missing; there are {', '.join(map(repr, names)) or 'none'}")
        if names.count(column) > 1:
            raise UserError(f"{where}: column {column!r} appears twice")
