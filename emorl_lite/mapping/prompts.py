"""Prompts for a map: from a file of any usual kind, from the command line, or of the preset. They are taken as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.presets import Preset
from emorl_lite.base.sizes import shown_bytes
from emorl_lite.base.texts import is_unicode
from emorl_lite.data.datasets import load_dataset
from emorl_lite.data.tables import MOST_BYTES, records, text_lines
from emorl_lite.lm.model import LanguageModel
from emorl_lite.mapping.options import MOST_PROMPTS, Map

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
OF_PRESET = 10
"""Prompts of the preset where no others are given."""


@dataclass(frozen=True)
class Prompts:
    """Distinct prompts, and where each stands."""

    texts: list[str]
    places: list[str]
    """Of each, for messages: a file and row, or the option and its number."""


def find_prompts(command: Map, preset: Preset) -> Prompts:
    """The prompts that a command asks for; without any, the first of the preset's own test prompts.

    One that is there twice is mapped once, which is told. Raises UserError, naming file and row, for whatever is wrong with one.
    """
    if command.prompts:
        found = list(_of_file(Path(command.prompts), command.prompt_column))
        if not found:
            raise UserError(f"--prompts {command.prompts}: holds no prompts")
    elif command.prompt:
        found = [(f"--prompt, text {i}", text) for i, text in enumerate(command.prompt, 1)]
    elif preset.data.name == "small_world" and not command.named:
        own = load_dataset(preset.data).prompts("test")[:OF_PRESET]
        found = [(f"test prompt {i}", text) for i, text in enumerate(own, 1)]
    else:
        raise UserError("--prompts: name a file of prompts, or type some with --prompt")
    first: dict[str, str] = {}
    for place, text in found:
        _check_text(text, place)
        first.setdefault(text, place)
    if len(first) > MOST_PROMPTS:
        raise UserError(f"{command.prompts or '--prompt'}: {len(first):,} prompts; a map is of at most {MOST_PROMPTS:,}")
    if twice := len(found) - len(first):
        tell = f"{twice} of {len(found)} prompts {'is' if twice == 1 else 'are'} there before; each is mapped once"
        print(f"note: {command.prompts or '--prompt'}: {tell}")
    return Prompts(list(first), list(first.values()))


def check_fit(prompts: Prompts, lms: Sequence[LanguageModel], max_new_tokens: int) -> None:
    """Raise UserError naming the first prompt that leaves a model no room for a reply; tell of words that it does not know."""
    for lm in lms:
        room, most, unknown = (
            lm.context if lm.seq2seq else lm.context - max_new_tokens,
            lm.config.max_prompt_tokens,
            lm.tokenizer.unk_token_id,
        )
        odd = []
        for place, ids in zip(prompts.places, lm.prompt_ids(prompts.texts), strict=True):
            if len(ids) > most:
                raise UserError(f"{place}: the prompt has {len(ids)} tokens, more than --model.max-prompt-tokens {most}")
            if len(ids) > room:
                raise UserError(
                    f"{place}: the prompt has {len(ids)} tokens, a reply up to {max_new_tokens}, and the model reads {lm.context}"
                )
            odd += [place] if unknown is not None and unknown in ids else []
        if odd:
            also = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            print(f"note: {odd[0]}{also}: holds words that {lm.config.path} does not know; it reads a blank instead")


def _check_text(text: Any, place: str) -> None:
    if not isinstance(text, str):
        kind = "nothing" if text is None or text != text else type(text).__name__
        raise UserError(f"{place}: expected a text, got {kind}")
    if not text.strip():
        raise UserError(f"{place}: the prompt is empty")
    if not is_unicode(text):
        raise UserError(f"{place}: half a surrogate pair is not text")
    if "\0" in text:
        raise UserError(f"{place}: holds a NUL character")


def _of_file(path: Path, column: str) -> Iterator[tuple[str, Any]]:
    """(place, text) of every prompt in a file. Blank lines of a .txt are none."""
    if "\0" in str(path):
        raise UserError(f"--prompts {str(path)!a}: no name of a file")
    suffix = path.suffix.lower()
    if suffix == ".txt":
        for row, line in text_lines(path):
            if line.strip():
                yield f"{path}, line {row}", line.strip()
    elif suffix == ".parquet":
        yield from _of_parquet(path, column)
    elif suffix in TABLES or not path.is_file():  # a missing file is worth saying before its extension
        for row, record in records(path, [column]):
            yield f"{path}, row {row}, column {column!r}", record[column]
    else:
        raise UserError(f"{path}: unknown extension {suffix!r}; expected one of .txt, {', '.join(TABLES)}")


def _of_parquet(path: Path, column: str) -> Iterator[tuple[str, Any]]:
    """The same of a Parquet file, of which one column is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path}: {'is no regular file' if path.exists() else 'no such file'}")
    if (size := path.stat().st_size) > MOST_BYTES[".csv"]:
        raise UserError(f"{path}: {shown_bytes(size)}; a file of prompts may have {shown_bytes(MOST_BYTES['.csv'])}: cut it")
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise UserError(f"{path}: column {column!r} is missing; there are {', '.join(map(repr, names)) or 'none'}")
            row = 0
            for batch in file.iter_batches(columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    yield f"{path}, row {row}, column {column!r}", value
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as Parquet ({one_line(error, 120)})") from error
