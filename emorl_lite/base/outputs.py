"""Where a user may have results written. Told before any work begins: what is there belongs to somebody, and stays."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import checked, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKER = "emorl_lite"
"""What a provenance says under `made_by`."""
OLD_KEYS = frozenset({"commit", "python", "torch", "transformers", "peft", "threads"})
"""What every provenance held before it said who made it."""
LONGEST_NAME = 200
"""Of a file, in bytes: systems take 255, and what is written meanwhile has longer names."""


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What the file system says of a path, in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error


def check_folder(folder: Any, where: str, write: bool = True) -> Path:
    """A folder that is there, or can be made. Raises UserError, in words that begin with `where`, before anything is made.

    `write`: something will be written in it.
    """
    path = Path(checked(folder, str, [], f"{where} {shown(folder)}"))
    name = f"{where} {path}"
    with _told(name):
        for part in path.parts:
            if len(os.fsencode(part)) > LONGEST_NAME:
                raise UserError(f"{where} {part[:40]}...: too long a name, at most {LONGEST_NAME} bytes")
        if (path.exists() and not path.is_dir()) or (path.is_symlink() and not path.exists()):
            raise UserError(f"{name}: expected a folder")
        existing = path.absolute()
        while not existing.exists():
            if existing.is_symlink():
                raise UserError(f"{name}: {existing} is a link to nothing")
            existing = existing.parent
        if not existing.is_dir():
            raise UserError(f"{name}: {existing} is a file, expected a folder")
        if write:
            _check_writing(existing, name)
    return path


def _check_writing(folder: Path, name: str) -> None:
    """Rights are asked, and then tried by a file that is gone at once: what is shared by a network or a system may refuse all the same."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{name}: cannot write in {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{name}: cannot write in {folder} ({error.strerror or error})") from error


def check_out(path: Any, where: str = "--out", inputs: Iterable[Path | str] = ()) -> Path:
    """A place for a table that a user named. Raises UserError unless it is free, or holds a table that emorl_lite wrote and nobody changed.

    `inputs`: files that the command reads.
    """
    table = Path(checked(path, str, [], f"{where} {shown(path)}"))
    name = f"{where} {table}"
    if table.suffix != ".csv":
        raise UserError(f"{name}: expected a file whose name ends in .csv")
    if len(os.fsencode(table.name)) > LONGEST_NAME:
        raise UserError(f"{where} {table.name[:40]}...: too long a name, at most {LONGEST_NAME} bytes")
    check_folder(table.parent, f"{where} {table}, in")
    with _told(name):
        if table.is_dir():
            raise UserError(f"{name}: a folder, expected a file")
        if table.is_symlink() and not table.exists():
            raise UserError(f"{name}: a link to nothing")
        if not table.exists():
            if (beside := new_provenance(table)).exists() and not _is_ours(_facts(beside)):
                raise UserError(f"{name}: {beside.name} beside it is not emorl_lite's; choose another name")
            return table
        if not table.is_file():
            raise UserError(f"{name}: a device, expected a file")
        if any(os.path.exists(source) and os.path.samefile(source, table) for source in inputs):
            raise UserError(f"{name}: is what this command reads")
        if not is_ours(table):
            raise UserError(f"{name}: there is a file that emorl_lite did not write, or that was changed since; choose another name")
        if not os.access(table, os.W_OK):
            raise UserError(f"{name}: cannot write there")
    return table


# -- who wrote a table


def new_provenance(table: Path) -> Path:
    """Beside a table, under a name that no other file has: <name>.csv.provenance.json."""
    return table.with_name(f"{table.name}.provenance.json")


def provenance_path(table: Path) -> Path:
    """Where a table's provenance lies: where tables were written before, in <stem>.json, if that is one."""
    old = table.with_suffix(".json")
    return old if not new_provenance(table).exists() and _is_ours(_facts(old)) else new_provenance(table)


def read_provenance(table: Path) -> dict[str, Any]:
    """What made a table; empty if nothing says so."""
    facts = _facts(provenance_path(table))
    return facts if _is_ours(facts) else {}


def is_ours(table: Path) -> bool:
    """Whether emorl_lite wrote a table, and it is as it was then (of older tables, the first alone is known)."""
    facts = read_provenance(table)
    known = {facts.get("sha256"), facts.get("sha256_before")} - {None}
    return bool(facts) and (not known or sha256(table.read_bytes()) in known)


def sha256(data: bytes) -> str:
    """What tells one file from another, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def _facts(file: Path) -> dict[str, Any]:
    """A JSON object in a file; empty if there is none: a stranger's file is no mistake. (And `base.files` would load torch.)"""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_ours(facts: dict[str, Any]) -> bool:
    return facts.get("made_by") == MAKER or set(facts) >= OLD_KEYS
