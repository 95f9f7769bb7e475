"""Objective weights: checks shared by the ensemble, the averages and the search, and their direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError


def check_weights(weights: Sequence[float] | Tensor, n: int, signed: bool = False) -> Tensor:
    """Weights as a float32 tensor [n] (or [B, n], one row an example).

    They must be finite, not all zero and, unless `signed`, not negative. They need not sum to one: under greedy decoding w and c·w give
    the same text.
    """
    w = torch.as_tensor(weights, dtype=torch.float32)
    if w.dim() not in (1, 2) or w.shape[-1] != n:
        raise UserError(f"weights: expected {n} numbers, one per adapter, got shape {tuple(w.shape)}")
    rows = w if w.dim() == 2 else w[None]
    for i, row in enumerate(rows.tolist()):
        where = f"weights, row {i + 1}" if w.dim() == 2 else "weights"
        if any(not math.isfinite(x) for x in row):
            raise UserError(f"{where}: {row} holds a NaN or an infinity")
        if not signed and any(x < 0 for x in row):
            raise UserError(f"{where}: {row} holds a negative number")
        if not any(row):
            raise UserError(f"{where}: all zero, which gives every word the same score")
    return w


def weight_rows(weights: Any, n: int) -> np.ndarray:
    """Checked weights as rows [W, n] in double precision, from one vector [n] or rows [W, n] of any kind."""
    given = weights.detach().cpu() if isinstance(weights, Tensor) else weights  # an Apple GPU has no double precision
    w = np.atleast_2d(torch.as_tensor(given, dtype=torch.float64).numpy())
    check_weights(torch.from_numpy(w), n)
    return w


def direction(weights: Sequence[float]) -> tuple[int, ...]:
    """The shortest integer vector along `weights`: w and c*w (c > 0) share it, and give the same greedy text. Zeros for the zero vector.

    Exact: coordinates are read as fractions with a denominator up to 10^6, which holds every grid of the searches.
    """
    fractions = [Fraction(w).limit_denominator(10**6) for w in weights]
    scale = math.lcm(*(f.denominator for f in fractions))
    integers = [int(f * scale) for f in fractions]
    divisor = math.gcd(*integers) or 1
    return tuple(n // divisor for n in integers)
