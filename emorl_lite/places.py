"""Where things that are not in the repository lie: pretrained models and third-party data, in one folder outside it."""

from __future__ import annotations

import os
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """Where models and data are kept: $EMORL_CACHE, or `.cache/emorl_lite` in the home folder."""
    return Path(os.environ.get("EMORL_CACHE") or Path.home() / ".cache" / "emorl_lite")


def resolve(path: str) -> str:
    """A local folder (as it is, relative to the repository, or made by `make real-models`) if there is one, else the name as a hub id."""
    for candidate in (Path(path), _REPOSITORY / path, cache_root() / "models" / path):
        if path and candidate.is_dir():
            return str(candidate)
    return path


PACKAGED_MODELS = ("SmolLM2-135M-Instruct", "all-MiniLM-L6-v2")
"""Local names of the models that `make real-models` makes."""


def how_to_get(path: str) -> str:
    """One clause on why a model is not there, and what to do."""
    if path in PACKAGED_MODELS:
        return "not on this machine yet: `make real-models` makes it without a model hub, or name a hub id or a folder instead"
    return "not a folder with a model here, and the hub did not give it: check name and network; a gated model needs `hf auth login`"
