"""Tables that say what made them."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.paths import repository_root


def provenance(**facts: Any) -> dict[str, Any]:
    """What made a table: versions, commit, machine, and the facts given."""
    versions = {name: __import__(name).__version__ for name in ("torch", "transformers", "peft")}
    commit, repository = "", repository_root()
    if repository:  # an installed package has a version and no commit
        git = ["git", "-C", str(repository), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        **facts,
        "commit": commit or None,
        "python": platform.python_version(),
        **versions,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
    }


def save_table(table: pd.DataFrame, path: Path, **facts: Any) -> Path:
    """Write a CSV and, beside it, a JSON with its provenance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    path.with_suffix(".json").write_text(json.dumps(provenance(**facts), indent=1, default=str) + "\n", encoding="utf-8")
    return path
