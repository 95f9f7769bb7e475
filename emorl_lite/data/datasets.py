"""Counselling sets as prompts and replies with quality levels: the embedded small world, PAIR, and any CSV or JSON table.

Every source becomes the same `Dataset` with three splits that share no prompt. Text is normalised on the way in (`clean`).
"""

from __future__ import annotations

import hashlib
import html
import os
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import DataConfig
from emorl_lite.base.ranges import check_seed
from emorl_lite.base.texts import is_unicode
from emorl_lite.data.downloads import find_file
from emorl_lite.data.small_world import grammar
from emorl_lite.data.tables import csv_rows, records

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Shares of the distinct prompts of a file (the small world has its own, `small_world.SPLITS`)."""
PAIR_COLUMNS = ("prompt", "hq1", "hq2", "mq1", "lq1", "lq2", "lq3", "lq4", "lq5", "topic")
"""The public PAIR file has these columns and no header."""
REPLIES_PER_CLIENT = 4
"""Replies drawn for each statement of the small world."""

_QUALITIES = {"hq": "high", "mq": "medium", "lq": "low"}
_LOW_CONTENTS = ("generic", "advice", "question", "wrong", "flawed")
_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "´": "'", "“": '"', "”": '"'})


@dataclass(frozen=True, slots=True)
class Example:
    """One reply to one client statement. An empty `reply` means that the source gives only the prompt."""

    prompt: str
    reply: str
    quality: str  # "high", "medium" or "low" reflection quality; "" if the source does not say
    empathy: float | None  # in [0, 1]; None if the source does not say
    topic: str
    row: int  # 1-based row of the file (a header counts, a multi-line cell does not break its row), for messages


@dataclass(frozen=True)
class Dataset:
    """Examples by split. No prompt is in two splits."""

    name: str
    source: str  # file, for messages
    rows: dict[str, tuple[Example, ...]]

    def prompts(self, split: str) -> list[str]:
        """Distinct prompts of a split, in the order of the source."""
        return list(dict.fromkeys(e.prompt for e in self._split(split)))

    def examples(self, split: str) -> list[Example]:
        """The examples of a split that have a reply."""
        return [e for e in self._split(split) if e.reply]

    def _split(self, split: str) -> tuple[Example, ...]:
        if split not in self.rows:
            raise UserError(f"split {split!r}: expected one of {', '.join(self.rows)}")
        return self.rows[split]


def load_dataset(config: DataConfig, seed: int = 0) -> Dataset:
    """The data set that a configuration names.

    small_world: the seed draws the statements and their replies. Files: the split of a prompt is fixed by its text; the seed only
    chooses which prompts stay where the configuration asks for fewer than there are. Raises UserError for anything wrong in the file.
    """
    if not isinstance(config, DataConfig):
        raise UserError(f"data set: expected DataConfig(path=...), got {type(config).__name__}")
    check_seed(seed, "data set: seed")
    limits = {"train": config.train_prompts, "validation": config.validation_prompts, "test": config.test_prompts}
    if config.name == "small_world":
        if config.validation_from_train:
            raise UserError("--data.validation-from-train: is for files; the small world has as many validation clients as are asked for")
        return _load_small_world(limits, seed)
    if not config.path:
        raise UserError(f"--data-path is empty: --data {config.name} needs a file")
    examples = READERS[config.name](find_file(config.path), config)
    split_of = split_by_hash((e.prompt for e in examples), config.path)
    split_of |= dict.fromkeys(_nearest_to_validation(split_of, config), "validation")
    if config.max_words:
        examples = [e for e in examples if len(e.prompt.split()) <= config.max_words]
    rows: dict[str, tuple[Example, ...]] = {}
    for split, limit in limits.items():
        own = [e for e in examples if split_of[e.prompt] == split]
        if not own:
            raise UserError(f"--data.max-words {config.max_words}: leaves no {split} prompts of {config.path}")
        prompts = list(dict.fromkeys(e.prompt for e in own))
        if len(prompts) > limit:
            prompt_set = set(random.Random(f"{split}-{seed}").sample(prompts, limit))
            own = [e for e in own if e.prompt in prompt_set]
        rows[split] = tuple(own)
    return Dataset(config.name, config.path, rows)


def _nearest_to_validation(split_of: Mapping[str, str], config: DataConfig) -> list[str]:
    """The training prompts that --data.validation-from-train takes: the last of them in the order of their hashes, whatever else is asked.

    Raises UserError if none would be left.
    """
    prompts = sorted((prompt for prompt, split in split_of.items() if split == "train"), key=lambda prompt: (place(prompt), prompt))
    n = config.validation_from_train
    if n >= len(prompts):
        raise UserError(f"--data.validation-from-train {n}: {config.path} has {len(prompts)} training prompts, and one must be left")
    return prompts[len(prompts) - n :]


def _load_small_world(limits: dict[str, int], seed: int) -> Dataset:
    rows = {}
    for split, limit in limits.items():
        pairs = grammar().pairs(limit * REPLIES_PER_CLIENT, split, seed, REPLIES_PER_CLIENT)
        rows[split] = tuple(Example(c.text, r.text, r.quality, r.empathy, c.topic, i) for i, (c, r) in enumerate(pairs, 1))
    return Dataset("small_world", "small_world", rows)


# -- splits


def place(prompt: str) -> float:
    """A prompt's place in [0, 1), from the SHA-256 of its text."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64


def split_by_hash(prompts: Iterable[str], source: str) -> dict[str, str]:
    """The split of each distinct prompt: train, validation or test by SHARES.

    A prompt's place in [0, 1) is the SHA-256 of its text, so its split does not depend on the rest of the file. Only where a small file
    would leave a split empty are the prompts ranked by hash instead. Raises UserError for fewer than three distinct prompts.
    """
    places = {p: place(p) for p in prompts}  # each prompt once
    if len(places) < 3:
        raise UserError(f"{source}: {len(places)} distinct prompt(s); three splits need at least 3")
    first, second = SHARES["train"], SHARES["train"] + SHARES["validation"]
    splits = {p: "train" if x < first else "validation" if x < second else "test" for p, x in places.items()}
    if len(set(splits.values())) == 3:
        return splits
    ranked, n = sorted(places, key=lambda p: (places[p], p)), len(places)
    test = max(1, round(SHARES["test"] * n))
    validation = max(1, round(SHARES["validation"] * n))
    train = n - validation - test
    return {p: "train" if i < train else "validation" if i < train + validation else "test" for i, p in enumerate(ranked)}


# -- files


def clean(text: str) -> str:
    """Every run of white space (newlines and no-break spaces too) becomes one space, ends are stripped, curly quotes become straight."""
    return " ".join(text.translate(_STRAIGHT).split())


def read_pair(path: str | os.PathLike[str]) -> list[Example]:
    """PAIR (Min et al., EMNLP 2022): one Example a reply, in the order of the file; empty reply cells are skipped.

    The file has ten columns and no header (PAIR_COLUMNS). A file in the same shape whose header starts with `prompt` is read by
    its column names, `empathy_<reply>` (in [0, 1]) included.
    """
    path = Path(path)
    lines = list(csv_rows(path))
    names: tuple[str, ...] = PAIR_COLUMNS
    if lines and lines[0][1][0].strip() == "prompt":
        names = tuple(name.strip() for name in lines.pop(0)[1])
    replies = [name for name in names if re.fullmatch(r"(hq|mq|lq)\d+", name)]
    examples: list[Example] = []
    for row, cells in lines:
        if len(cells) != len(names):
            raise UserError(f"{path}, row {row}: {len(cells)} columns, expected {len(names)}")
        cell = dict(zip(names, map(clean, cells), strict=True))
        prompt, topic = _prompt(cell["prompt"], path, row, "prompt"), cell.get("topic", "")
        for name in replies:
            if cell[name]:
                empathy = _number(cell.get(f"empathy_{name}", ""), path, row, f"empathy_{name}")
                examples.append(Example(prompt, cell[name], _QUALITIES[name[:2]], empathy, topic, row))
        if not any(cell[name] for name in replies):
            examples.append(Example(prompt, "", "", None, topic, row))
    return _not_empty(examples, path)


def read_table(path: str | os.PathLike[str], prompt_column: str, reply_column: str) -> list[Example]:
    """Any .csv, .tsv, .json (a list of objects) or .jsonl file, one Example a row; quality and empathy are unknown.

    `reply_column` may be empty: prompts only. A column named `topic` is kept. Psych8k: prompt_column="input", reply_column="output".
    """
    path = Path(path)
    examples = []
    for row, record in records(path, [c for c in (prompt_column, reply_column) if c]):
        prompt = _prompt(_cell(record[prompt_column], path, row, prompt_column), path, row, prompt_column)
        reply = _cell(record[reply_column], path, row, reply_column) if reply_column else ""
        topic = record.get("topic")
        examples.append(Example(prompt, reply, "", None, clean(topic) if isinstance(topic, str) else "", row))
    return _not_empty(examples, path)


def read_psych8k(path: str | os.PathLike[str]) -> list[Example]:
    """Psych8k: a JSON list of objects with `instruction`, `input` (the client) and `output` (the counsellor)."""
    return read_table(path, "input", "output")


def read_counsel_chat(path: str | os.PathLike[str]) -> list[Example]:
    """counsel-chat: one Example a therapist's answer, without HTML; a question without text is asked by its title."""
    path = Path(path)
    columns = ["questionTitle", "questionText", "answerText", "topics"]
    examples = []
    for row, record in records(path, columns):
        cell = {name: clean(without_html(_cell(record[name], path, row, name))) for name in columns}
        prompt = cell["questionText"] or cell["questionTitle"]
        if prompt:
            examples.append(Example(prompt, cell["answerText"], "", None, cell["topics"], row))
    return _not_empty(examples, path)


def without_html(text: str) -> str:
    """The text between tags, entities as the characters they stand for."""
    return html.unescape(re.sub(r"<[^<>]*>", " ", text))


READERS: dict[str, Callable[[Path, DataConfig], list[Example]]] = {
    "pair": lambda path, config: read_pair(path),
    "psych8k": lambda path, config: read_psych8k(path),
    "counsel-chat": lambda path, config: read_counsel_chat(path),
    "table": lambda path, config: read_table(path, config.prompt_column, config.reply_column),
}
"""How each kind of file is read."""


def _cell(value: Any, path: Path, row: int, column: str) -> str:
    if value is not None and not isinstance(value, str):
        raise UserError(f"{path}, row {row}, column {column!r}: expected text, got {type(value).__name__}")
    text = clean(value or "")
    if not is_unicode(text):
        raise UserError(f"{path}, row {row}, column {column!r}: half a surrogate pair is not text")
    return text


def _prompt(text: str, path: Path, row: int, column: str) -> str:
    if not text:
        raise UserError(f"{path}, row {row}, column {column!r}: the prompt is empty")
    return text


def _number(text: str, path: Path, row: int, column: str) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        number = -1.0
    if number is not None and not 0 <= number <= 1:
        raise UserError(f"{path}, row {row}, column {column!r}: {text!r} is not a number in [0, 1]")
    return number


def _not_empty(examples: list[Example], path: Path) -> list[Example]:
    if not examples:
        raise UserError(f"{path}: the data set is empty")
    return examples
