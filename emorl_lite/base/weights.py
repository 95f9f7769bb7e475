"""Objective weights: checks shared by the ensemble, the averages and the search, and their direction."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import shown

LARGEST = 1e30
"""Of weights, in float32: products with hidden states and matrices have to be finite, and other than zero."""


def check_weights(weights: Sequence[float] | Tensor, n: int, signed: bool = False, where: str = "weights") -> Tensor:
    """Weights as a float32 tensor [n] (or [B, n], one row an example).

    They must be numbers, finite, not all zero (nor of a size that is lost in float32) and, unless `signed`, not negative. They need not
    sum to one: under greedy decoding w and c·w give the same text. Raises UserError, in words that begin with `where`.
    """
    w = as_numbers(weights, where, torch.float32)
    if w.dim() not in (1, 2) or w.shape[-1] != n:
        raise UserError(f"{where}: expected {n} numbers, one per adapter, got shape {tuple(w.shape)}")
    rows = w if w.dim() == 2 else w[None]
    for i, row in enumerate(rows.tolist()):
        here = f"{where}, row {i + 1}" if w.dim() == 2 else where
        if any(not math.isfinite(x) for x in row):
            raise UserError(f"{here}: {row} holds a NaN or an infinity")
        if not signed and any(x < 0 for x in row):
            raise UserError(f"{here}: {row} holds a negative number")
        if not any(row):
            raise UserError(f"{here}: all zero, which gives every word the same score")
        if not 1 / LARGEST <= (size := max(map(abs, row))) <= LARGEST:
            raise UserError(
                f"{here}: {row}: the largest is {size:.3g}, and a mixture of scores needs one within {1 / LARGEST:g} to {LARGEST:g}"
            )
    return w


def as_numbers(values: Any, where: str, dtype: torch.dtype) -> Tensor:
    """Real numbers of any kind (tensors, arrays, Series, nested lists) as a tensor on the CPU. Raises UserError for anything else."""
    try:
        if isinstance(values, list | tuple) and any(isinstance(x, Tensor) for x in values):
            values = torch.stack([torch.as_tensor(x).cpu() for x in values])
        if not isinstance(values, Tensor):
            array = np.asarray(values)
            if array.dtype.kind == "O" and all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in array.flat):
                array = array.astype(np.float64)  # fractions, say
            values = torch.as_tensor(array.astype(np.float64) if array.dtype.kind in "iuf" else array)
        if values.is_complex() or values.dtype == torch.bool or values.layout != torch.strided:
            raise TypeError
        return values.detach().cpu().to(dtype)  # moved first: an Apple GPU has no double precision
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{where}: expected numbers, got {shown(values)}") from error


def weight_rows(weights: Any, n: int) -> np.ndarray:
    """Checked weights as rows [W, n] in double precision, from one vector [n] or rows [W, n] of any kind."""
    w = np.atleast_2d(as_numbers(weights, "weights", torch.float64).numpy())
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
