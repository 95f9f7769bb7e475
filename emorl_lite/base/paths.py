"""Where things lie: what travels with the package, what the repository holds beside it, what a reader makes, and pretrained models.

Nothing here imports torch: the command line asks these before it loads anything.
"""

from __future__ import annotations

import os
from pathlib import Path

from emorl_lite.base.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
ASSETS = _PACKAGE / "assets"
"""What travels with the package: the small world's grammar, the tiny model, and the reference run of the preset tiny."""
PACKAGED_MODELS = ("SmolLM2-135M-Instruct", "all-MiniLM-L6-v2")
"""Local names of the models that `make real-models` makes."""


def repository_root() -> Path | None:
    """The repository that this package is part of; None if it is installed elsewhere, without notebooks and data beside it."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def data_root() -> Path:
    """The repository's `data/`: committed tables and the real run. Without the repository: `./data`, where a reader may keep the same."""
    return (repository_root() or Path.cwd()) / "data"


def shipped(preset: str) -> Path:
    """Where the run of a preset lies that comes with the package or with the repository. It need not be there."""
    return ASSETS / preset if (ASSETS / preset).is_dir() else data_root() / preset


def runs_root() -> Path:
    """Where runs are kept: $EMORL_RUNS, else `runs/` in the repository, or in the working directory where there is no repository."""
    return Path(os.environ.get("EMORL_RUNS") or (repository_root() or Path.cwd()) / "runs")


def figures_root() -> Path:
    """Where figures are kept: $EMORL_FIGURES, or `figures/` among the runs."""
    return Path(os.environ.get("EMORL_FIGURES") or runs_root() / "figures")


def cache_root() -> Path:
    """Where pretrained models and third-party data are kept: $EMORL_CACHE, or `.cache/emorl_lite` in the home folder.

    Raises UserError for a user without a home folder (some containers) who has not set it.
    """
    if folder := os.environ.get("EMORL_CACHE"):
        return Path(folder)
    try:
        return Path.home() / ".cache" / "emorl_lite"
    except RuntimeError as error:
        raise UserError("this user has no home folder: set EMORL_CACHE to a folder for pretrained models and data") from error


def from_here(path: Path | str) -> str:
    """A path as one types it in the working directory; as it is, where Windows cannot say that: on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def resolve(path: str) -> str:
    """A local folder (as it is, of the package, relative to the repository, or made by `make real-models`), else the name as a hub id."""
    repository = repository_root()
    for candidate in (Path(path), ASSETS / path, *([repository / path] if repository else [])):
        if path and candidate.is_dir():
            return str(candidate)
    model_folder = cache_root() / "models" / path
    return str(model_folder) if path and model_folder.is_dir() else path


def how_to_get(path: str) -> str:
    """One clause on why a model is not there, and what to do."""
    if path in PACKAGED_MODELS:
        command = "make real-models" if repository_root() else "python -m emorl_lite models"
        return f"not on this machine yet: `{command}` makes it without a model hub, or name a hub id or a folder instead"
    return "not a folder with a model here, and the hub did not give it: check name and network; a gated model needs `hf auth login`"
