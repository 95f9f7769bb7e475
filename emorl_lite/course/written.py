"""What a command wrote in its folder, by the digests of its files: what is somebody's, or was changed since, is never written over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_json, write_atomically, write_json
from emorl_lite.base.outputs import MAKER, check_folder, sha256

RECORD = "written.json"
"""In the folder: `files`, their digests by their paths; of a file that was being written when the command was stopped, both digests."""


def check_ours(out: Path, names: Iterable[str], apart: Path) -> None:
    """Raise UserError unless each of these places in a folder is free, or holds what was written there. `names`: paths in the folder.
    `apart`: a folder into which none of them may lead."""
    known = _record(out)
    for name in names:
        path = out / name
        if path.resolve().is_relative_to(apart.resolve()):
            raise UserError(f"--out {out}: {name} leads into {apart} by a link; name another folder")
        check_folder(path.parent, "--out")
        if os.path.lexists(path) and not (path.is_file() and sha256(path.read_bytes()) in known.get(name, [])):
            raise UserError(f"--out {out}: {name} is not this command's, or was changed since; move it away, or name another folder")


def write_ours(out: Path, texts: Mapping[str, str]) -> None:
    """Write texts by their paths in a folder, and a record of them. Wherever that is stopped, it can be done again."""
    known = _record(out)
    new = {name: sha256(text.encode("utf-8")) for name, text in texts.items()}
    _note(out, known | {name: [*known.get(name, []), mark] for name, mark in new.items()})
    for name, text in texts.items():
        write_atomically(out / name, text)
    _note(out, known | {name: [mark] for name, mark in new.items()})


def _note(out: Path, files: Mapping[str, list[str]]) -> None:
    write_json(out / RECORD, {"made_by": MAKER, "files": {name: list(dict.fromkeys(files[name])) for name in sorted(files)}})


def _record(out: Path) -> dict[str, list[str]]:
    """The record; empty where there is none. Raises UserError for a file of that name that is none."""
    if not os.path.lexists(out / RECORD):
        return {}
    facts: dict[str, Any] = read_json(out / RECORD, "a record of what was written", "name another folder by --out")
    files = facts.get("files")
    if facts.get("made_by") != MAKER or not isinstance(files, dict) or not all(isinstance(marks, list) for marks in files.values()):
        raise UserError(f"--out {out}: {RECORD} is not this command's; name another folder")
    return files
