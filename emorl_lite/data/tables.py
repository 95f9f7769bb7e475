"""Tables in text files, row by row: .csv, .tsv, .json, .jsonl. Whatever is wrong with a file is one UserError that names its row or line.

Rows count from 1 as a spreadsheet shows them: a header is row 1, a multi-line cell does not break its row. JSON objects count from 1.
A file is read row by row (.json alone as a whole), and refused beyond MOST_BYTES or MOST_ROWS: what is kept of 100,000 rows takes some
60 MB beside their text.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.sizes import shown_bytes

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LONGEST_CELL = 10_000_000
MOST_BYTES = {".csv": 10**9, ".tsv": 10**9, ".jsonl": 10**9, ".json": 2 * 10**8}
"""Largest file of each kind; .json is smaller, because it is in memory as a whole, as text and as objects."""
MOST_ROWS = 10**6
"""Most rows of a file: all of them are kept, to be split."""


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells) of every row of a .csv or .tsv that is not blank."""
    suffix = path.suffix.lower()
    _check_file(path)  # a missing file is worth saying before its extension
    if suffix not in _DELIMITERS:
        raise UserError(f"{path}: unknown extension {suffix!r}; expected one of {', '.join(_DELIMITERS)}")
    csv.field_size_limit(_LONGEST_CELL)  # the default of 131,072 is too short for an answer with an inline image (counsel-chat)
    row = 0
    try:
        with _opened(path) as file:
            # strict: a quote that is never closed is an error here, instead of swallowing the rest of the file
            for row, cells in enumerate(csv.reader(file, delimiter=_DELIMITERS[suffix], strict=True), 1):
                if cells:
                    yield _counted(path, row), cells
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
        _check_file(path)
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


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text without its line end) of a text file, blank lines too."""
    with _opened(path, newline=None) as file:
        for row, line in enumerate(file, 1):
            yield _counted(path, row), line.rstrip("\n")


def _check_file(path: Path) -> None:
    """Raise UserError for what is no file, or one too large to be a data set."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: is no regular file")
    if (size := path.stat().st_size) > (most := MOST_BYTES.get(path.suffix.lower(), max(MOST_BYTES.values()))):
        raise UserError(f"{path}: {shown_bytes(size)}; a {path.suffix.lower()} file of data may have {shown_bytes(most)}: cut it")


@contextmanager
def _opened(path: Path, newline: str | None = "") -> Iterator[TextIO]:
    """The file as text, without the mark that some editors put first; whatever goes wrong while it is read is a UserError."""
    _check_file(path)
    try:
        with open(path, newline=newline, encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError:
        line, byte = _first_not_utf8(path)
        raise UserError(f"{path}, line {line}: byte {byte} of the file is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _first_not_utf8(path: Path) -> tuple[int, int]:
    """Line (from 1) and byte (from 0) of what is not UTF-8."""
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, start + error.start
            start += len(line)
    return 1, 0


def _counted(path: Path, row: int) -> int:
    if row > MOST_ROWS + 1:  # a header is a row as well
        raise UserError(f"{path}: more than {MOST_ROWS:,} rows, the most that a file of data may have: cut it")
    return row


def _json_rows(path: Path, suffix: str) -> Iterator[tuple[int, Any]]:
    with _opened(path, newline="\n") as file:  # a JSON string may hold other line separators
        if suffix == ".jsonl":
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield _counted(path, line), _json(text.rstrip(), path, line)
            return
        value = _json(file.read(), path, 1)
    if not isinstance(value, list):
        raise UserError(f"{path}: expected a JSON list of objects")
    for row, record in enumerate(value, 1):
        yield _counted(path, row), record


def _json(text: str, path: Path, line: int) -> Any:
    """What a text says that begins in this line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {line + error.lineno - 1}: not JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:  # lists in lists without end; a number of thousands of digits
        raise UserError(f"{path}, line {line}: JSON that cannot be read ({one_line(error, 80)})") from None


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError for anything else."""
    with _opened(path, newline="\n") as file:
        value = _json(file.read(), path, 1)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object")
    return value


def _check_columns(present: Iterable[str], wanted: list[str], where: str) -> None:
    names = list(present)
    for column in wanted:
        if column not in names:
            raise UserError(f"{where}: column {column!r} is missing; there are {', '.join(map(repr, names)) or 'none'}")
        if names.count(column) > 1:
            raise UserError(f"{where}: column {column!r} appears twice")
