"""Tables that say what made them."""

from __future__ import annotations

import json
import platform
import subprocess
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.files import write_atomically, write_via
from emorl_lite.base.outputs import MAKER, check_out, provenance_path, sha256
from emorl_lite.base.paths import repository_root
from emorl_lite.base.shown_text import csv_text


def provenance(**facts: Any) -> dict[str, Any]:
    """What made a table: versions, commit, machine, and the facts given."""
    versions = {name: __import__(name).__version__ for name in ("torch", "transformers", "peft")}
    return {
        **facts,
        **made_at(),
        "python": platform.python_version(),
        **versions,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
    }


def made_at() -> dict[str, str | None]:
    """The package's version and commit, for the record of whatever is trained. No part of what makes a run this run.

    The commit is the one of this process's first question: code that is loaded stays what it was.
    """
    return {"emorl_lite": __import__("emorl_lite").__version__, "commit": _commit() or None}


@cache
def _commit() -> str:
    """The repository's commit; an installed package has a version and none, a machine without git cannot tell."""
    repository = repository_root()
    if not repository:
        return ""
    git = ["git", "-C", str(repository), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def save_table(table: pd.DataFrame, path: Path | str, **facts: Any) -> Path:
    """Write a CSV where a user wants it and, beside it in <name>.csv.provenance.json, what made it. Each is whole or as it was.

    Raises UserError for a file that emorl_lite did not write, or that was changed since, and where nothing can be written.
    """
    return replace_table(table, check_out(path, "table"), **facts)


def replace_table(table: pd.DataFrame, path: Path | str, **facts: Any) -> Path:
    """The same in a folder of the package's own, such as a run's: what is there is replaced, whatever it is.

    A name that ends in .parquet gives a Parquet file, with its texts as they are.
    """
    path = Path(path)
    data = _parquet(table) if path.suffix == ".parquet" else csv_text(table).encode("utf-8")
    record = {"made_by": MAKER} | provenance(**facts) | {"table": path.name, "sha256": sha256(data)}
    if path.is_file():  # whoever is stopped between the two files leaves the old table with the new record, which knows both
        record["sha256_before"] = sha256(path.read_bytes())
    write_atomically(provenance_path(path), json.dumps(record, indent=1, default=str) + "\n")
    write_via(path, lambda file: file.write_bytes(data))
    return path


def _parquet(table: pd.DataFrame) -> bytes:
    file = BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()
