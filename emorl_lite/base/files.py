"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_whole(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file so that a reader finds the old one or the new one, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may be at the same file
    save_file(dict(tensors), temporary)
    os.replace(temporary, path)
