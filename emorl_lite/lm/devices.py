"""Where a model runs: device, weight type, threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from emorl_lite.base.errors import UserError


def choose_device(device: str = "auto", dtype: str = "auto", seq2seq: bool = False) -> tuple[torch.device, torch.dtype]:
    """The device and weight type for `auto`: a GPU if there is one; bfloat16 only where the chip has it; never float16 for T5."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--model.device cuda: this machine has no CUDA device")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("--model.device mps: this machine has no Apple GPU")
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" and torch.cuda.get_device_capability()[0] >= 8 else "float32"
    if dtype == "bfloat16" and device == "cuda" and torch.cuda.get_device_capability()[0] < 8:
        raise UserError("--model.dtype bfloat16: this GPU has none; use float32")
    if dtype == "float16" and seq2seq:
        raise UserError("--model.dtype float16: T5 gives NaN in float16; use float32 or bfloat16")
    return torch.device(device), getattr(torch, dtype)


def cpu_double(x: Tensor) -> Tensor:
    """A tensor from any device on the CPU, in double precision. It is moved first: an Apple GPU has no float64."""
    return x.cpu().double()


def use_one_thread_for_tiny(model: nn.Module) -> None:
    """Tiny models on a CPU lose up to 20 times their speed to thread hand-over; one thread is steady."""
    if next(model.parameters()).device.type == "cpu" and sum(p.numel() for p in model.parameters()) < 20_000_000:
        torch.set_num_threads(1)


@contextmanager
def half_precision(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """float32 weights, products in bfloat16, on a processor that multiplies bfloat16 itself: three times as fast; elsewhere nothing."""
    if wanted and device.type == "cpu" and cpu_has_bfloat16():
        with torch.autocast("cpu", torch.bfloat16):
            yield
    else:
        yield


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 products."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def type_name(dtype: torch.dtype) -> str:
    """A number type's name, as in `--model.dtype`."""
    return str(dtype).removeprefix("torch.")
