"""What a search has scored, on disk: a search that goes on scores nothing again, so that it finds what one without a break finds.

A reward's scores depend a little on what else is scored at the same time (padding changes the order of sums: some 1e-8). Scored again in
other company, two weight vectors that were equal could differ, and the search would take another cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from emorl_lite.base.checked_rows import CheckedRows
from emorl_lite.base.files import digest

COLUMNS = ["call", "of", "prompt", "reply", "scores"]
Pair = tuple[str, str]


class KeptScores:
    """Scores by (prompt, reply), each call of a reward a block of rows; a block that a killed process left half-written is dropped."""

    def __init__(self, path: Path, seed: str):
        self.table = CheckedRows(path, COLUMNS, seed)
        self.calls = 0
        self.scores: dict[Pair, dict[str, float]] = {}
        kept = 0
        while kept < len(self.table.rows):
            size = int(self.table.rows[kept]["of"])
            block = self.table.rows[kept : kept + size]
            if len(block) < size:
                self.table.keep(kept)
                break
            for row in block:
                self.scores[row["prompt"], json.loads(row["reply"])] = json.loads(row["scores"])
            kept, self.calls = kept + size, self.calls + 1

    def get(self, prompt: str, reply: str) -> dict[str, float] | None:
        """The scores of a reply by objective, if it was scored."""
        return self.scores.get((_short(prompt), reply))

    def add(self, pairs: Sequence[Pair], scores: Sequence[Mapping[str, float]]) -> None:
        """Keep what one call scored."""
        block = {"call": self.calls + 1, "of": len(pairs)}
        rows = [
            block | {"prompt": _short(prompt), "reply": json.dumps(reply), "scores": json.dumps(dict(score))}
            for (prompt, reply), score in zip(pairs, scores, strict=True)
        ]
        self.table.append(rows)
        self.calls += 1
        self.scores.update({(_short(prompt), reply): dict(score) for (prompt, reply), score in zip(pairs, scores, strict=True)})


def _short(prompt: str) -> str:
    return digest(prompt.encode("utf-8", errors="surrogatepass"))
