"""Where a model runs and where it lies: device, weight type, threads, folder or hub id."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from emorl_lite.errors import UserError

_REPOSITORY = Path(__file__).resolve().parent.parent


def choose_device(device: str = "auto", dtype: str = "auto", seq2seq: bool = False) -> tuple[torch.device, torch.dtype]:
    """The device and weight type for `auto`: a GPU if there is one; bfloat16 only where the chip has it; never float16 for T5."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--model.device cuda: this machine has no CUDA device")
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" and torch.cuda.get_device_capability()[0] >= 8 else "float32"
    if dtype == "bfloat16" and device == "cuda" and torch.cuda.get_device_capability()[0] < 8:
        raise UserError("--model.dtype bfloat16: this GPU has none; use float32")
    if dtype == "float16" and seq2seq:
        raise UserError("--model.dtype float16: T5 gives NaN in float16; use float32 or bfloat16")
    return torch.device(device), getattr(torch, dtype)


def resolve(path: str) -> str:
    """A local folder (also relative to the repository) if there is one, else the name as a hub id."""
    for candidate in (Path(path), _REPOSITORY / path):
        if candidate.is_dir():
            return str(candidate)
    return path


def use_one_thread_for_tiny(model: nn.Module) -> None:
    """Tiny models on a CPU lose up to 20 times their speed to thread hand-over; one thread is steady."""
    if next(model.parameters()).device.type == "cpu" and sum(p.numel() for p in model.parameters()) < 20_000_000:
        torch.set_num_threads(1)
