"""The one kind of lock that is taken here: on a file, and never longer than its process lives. Jobs begin without loading more."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from filelock import FileLock


def lock_on(file: Path) -> FileLock:
    """A lock that the system lets go of however the process that has it ends. A soft one, which is a file, would stay."""
    options: dict[str, Any] = {}
    if "fallback_to_soft" in inspect.signature(FileLock.__init__).parameters:
        options["fallback_to_soft"] = False
    return FileLock(file, **options)
