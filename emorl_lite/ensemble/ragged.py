"""Lists of different lengths in flat arrays, so that thousands of small choices are a few array operations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PART = 1 << 20
"""Entries looked at together, to bound the memory of one operation."""


class Ragged:
    """Growing lists of (token, scores [N]); list number p is `tokens[of(p)]`, `scores[of(p)]`."""

    def __init__(self, width: int):
        self.tokens = np.empty(0, dtype=np.int32)
        self.scores = np.empty((0, width))
        self.start = np.zeros(1, dtype=np.int64)  # list p is start[p] .. start[p + 1]
        self.lists = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, room to grow included."""
        return self.tokens.nbytes + self.scores.nbytes + self.start.nbytes

    def append(self, counts: np.ndarray, tokens: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Add lists of these lengths; returns their numbers."""
        used, total = int(self.start[self.lists]), int(self.start[self.lists]) + len(tokens)
        if total > len(self.tokens):
            if not used:
                self.scores = self.scores.astype(scores.dtype)  # in which they were computed: what is more says nothing more
            room = max(total, len(self.tokens) * 5 // 4)
            self.tokens = _resized(self.tokens, room)
            self.scores = _resized(self.scores, room)
        self.tokens[used:total], self.scores[used:total] = tokens, scores
        numbers = np.arange(self.lists, self.lists + len(counts))
        if self.lists + len(counts) >= len(self.start):
            self.start = _resized(self.start, max(self.lists + len(counts) + 1, len(self.start) * 5 // 4))
        self.lists += len(counts)
        self.start[numbers + 1] = used + np.cumsum(counts)
        return numbers

    def of(self, number: int) -> slice:
        return slice(int(self.start[number]), int(self.start[number + 1]))

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        return self.start[numbers + 1] - self.start[numbers]

    def entries(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(owner, entry): every entry of the given lists, and which of them (0 .. n - 1) it belongs to, in order."""
        counts = self.counts(numbers)
        owner = np.repeat(np.arange(len(numbers)), counts)
        before = np.cumsum(counts) - counts
        return owner, np.arange(len(owner)) - before[owner] + self.start[numbers][owner]

    def mixed(self, entry: np.ndarray, owner: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The sum of each of these entries' scores, weighted by its owner's weights [n, N]. (Columns are gathered faster than rows.)"""
        columns = range(self.scores.shape[1])
        return np.sum([self.scores[:, k].take(entry) * weights[:, k].take(owner) for k in columns], axis=0)

    def parts(self, numbers: np.ndarray) -> Iterator[slice]:
        """Consecutive parts of `numbers` whose lists have no more than PART entries together (one list may have more)."""
        total = np.cumsum(self.counts(numbers))
        start = 0
        while start < len(numbers):
            before = total[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(total, before + PART, side="right")))
            yield slice(start, stop)
            start = stop


def first_best(scores: np.ndarray, owner: np.ndarray, owners: int) -> np.ndarray:
    """For each owner 0 .. owners - 1 (ascending, none without entries) the position of its first largest score."""
    starts = np.searchsorted(owner, np.arange(owners))
    highest = np.maximum.reduceat(scores, starts)
    hits = np.flatnonzero(scores == highest[owner])
    return hits[np.searchsorted(owner[hits], np.arange(owners))]


def _resized(array: np.ndarray, room: int) -> np.ndarray:
    """The array with room for more; where memory allows it grows in place, and leaves no hole behind it."""
    array.resize((room, *array.shape[1:]), refcheck=False)
    return array
