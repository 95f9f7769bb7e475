"""What a computation will take, known before it is done, and how it is split to fit or refused: numbers of rows, bytes, seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from emorl_lite.base.errors import UserError

MOST_POINTS = 10**6
"""Points of a search, or settings of a sweep: at a tenth of a second each more than a day."""
BLOCK = 2**26
"""Bytes of one temporary array where a long computation is done block by block: larger ones are no faster."""


@dataclass(frozen=True)
class Estimate:
    """What a computation is expected to take."""

    rows: int
    """Of what: forward passes' rows, regions, cells, points; `of` says it."""
    of: str
    bytes: int
    seconds: float | None = None
    """None where nothing has been measured yet."""

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", {shown_seconds(self.seconds)}"
        return f"{self.rows:,} {self.of}, {shown_bytes(self.bytes)}{time}"


def blocks(n: int, bytes_each: float, room: float | None = None) -> Iterator[slice]:
    """Consecutive slices of n items, each of as many as fit into `room` bytes (BLOCK by default), one at least."""
    size = max(1, int((BLOCK if room is None else room) // max(bytes_each, 1)))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def check_points(points: int, where: str, d: int, what: str = "points") -> None:
    """Raise UserError for a grid over d objectives that would never end, with the number of its points. `where`: which grid it is."""
    if points > MOST_POINTS:
        raise UserError(f"{where}: {shown_count(points)} {what} with {d} objectives; at most {MOST_POINTS:,}")


def shown_count(n: int) -> str:
    """A number of things: in full, or by its power of ten."""
    return f"{n:,}" if n < 10**15 else f"about 10^{int(n.bit_length() * math.log10(2))}"


def shown_bytes(size: float) -> str:
    """A size in bytes with two or three digits: 57 MB, 1.4 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 9.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB" if size < 9.95 else f"{size:,.0f} TB"


def shown_seconds(seconds: float) -> str:
    """A time in the unit that suits it: 12 s, 3 min, 2.5 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
