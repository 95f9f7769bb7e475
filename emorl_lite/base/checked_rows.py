"""A CSV that grows by rows, each with a checksum of itself and of all rows before it: what was changed later is found, the rest is good."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest, set_aside, told, write_atomically

CHECK = "check"
"""The last column."""


class CheckedRows:
    """The rows of a file, as text by column; those that are there are read at once.

    `seed` tells what the rows belong to: rows of something else do not check. A table that was made before there were checksums is read
    and continued without them. Rows from the first bad one on are left out, which is said, and the damaged file is kept under another
    name; of a last row without its end, a writer was killed, and nothing is said.
    Raises UserError for a folder, a file that cannot be read, and one whose columns are others: it may be somebody else's.
    """

    def __init__(self, path: Path, columns: Sequence[str], seed: str):
        self.path, self.columns, self.seed = path, list(columns), seed
        self.rows: list[dict[str, str]] = []
        self.checked, self._whole, self._last = True, True, digest(seed.encode())
        if path.exists():
            self._read()
        else:
            write_atomically(path, self._header())

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, in one piece."""
        if not self._whole:
            self.keep(len(self.rows))
        text = "".join(self._line(self._cells(row)) for row in rows)
        self._whole = False  # until it is written: after a full disk, the next call cuts off what came of it
        with told(self.path, "cannot be written"), self.path.open("ab") as file:  # closed, so out of this process, after every call
            file.write(text.encode("utf-8"))
        self._whole = True
        self.rows += [dict(zip(self.columns, self._cells(row), strict=True)) for row in rows]

    def keep(self, count: int) -> None:
        """Cut the file back to its first rows."""
        self.rows, self._last, self._whole = self.rows[:count], digest(self.seed.encode()), True
        write_atomically(self.path, self._header() + "".join(self._line(list(row.values())) for row in self.rows))

    def _cells(self, row: Mapping[str, Any]) -> list[str]:
        return [str(row[name]) for name in self.columns]

    def _header(self) -> str:
        return _csv([*self.columns, *([CHECK] if self.checked else [])])

    def _line(self, cells: Sequence[str]) -> str:
        """A row as it is written. It becomes the last one."""
        if not self.checked:
            return _csv(cells)
        self._last = _check(self._last, cells)
        return _csv([*cells, self._last])

    def _read(self) -> None:
        with told(self.path, "cannot be read"):
            text = self.path.read_bytes().decode("utf-8", errors="replace").removeprefix("\ufeff")
        complete = text[: text.rfind("\n") + 1]
        self._whole = complete == text
        try:
            header, *lines = list(csv.reader(io.StringIO(complete, newline=""))) or [[]]
        except csv.Error as error:
            raise UserError(f"{self.path}: no CSV table ({error})") from error
        self.checked = header != self.columns
        if self.checked and header != [*self.columns, CHECK]:
            raise UserError(f"{self.path}: columns {', '.join(header)}; expected {', '.join([*self.columns, CHECK])}")
        for number, cells in enumerate(lines, 1):
            if self.checked and not self._is_good(cells):
                return self._damaged(number)
            if not self.checked and len(cells) != len(self.columns):
                raise UserError(f"{self.path}, row {number}: {len(cells)} cells, expected {len(self.columns)}")
            self.rows.append(dict(zip(self.columns, cells, strict=False)))
        return None

    def _is_good(self, cells: Sequence[str]) -> bool:
        """Whether the next row is as it was written. If so, it becomes the last one."""
        good = len(cells) == len(self.columns) + 1 and cells[-1] == _check(self._last, cells[:-1])
        self._last = cells[-1] if good else self._last
        return good

    def _damaged(self, number: int) -> None:
        aside = set_aside(self.path)
        print(
            f"{self.path}: row {number} is not as it was written; the {number - 1} before it are used, the file is kept as {aside.name}",
            file=sys.stderr,
        )
        self.keep(number - 1)


def _csv(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _check(before: str, cells: Sequence[str]) -> str:
    return digest("\x1f".join([before, *cells]).encode("utf-8"))
