"""Where a job on another machine imports from, and what it finds there."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path


def import_path() -> str:
    """The folders that this process imports from beside its Python's own, as PYTHONPATH has them: a repository, say."""
    own = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    folders = [Path(entry).resolve() for entry in sys.path]
    mine = [str(folder) for folder in folders if folder.is_dir() and not any(folder.is_relative_to(prefix) for prefix in own)]
    return os.pathsep.join(dict.fromkeys(mine))


def version() -> str:
    """Of the package that this process imports."""
    return str(import_module("emorl_lite").__version__)
