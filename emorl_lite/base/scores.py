"""What a reward returns, as people write it, made one kind of tensor; whatever reads a reward reads it through here."""

from __future__ import annotations

import inspect
import math
import numbers
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import shown
from emorl_lite.base.texts import check_pairs
from emorl_lite.base.types import Reward, reward_name

ROUNDING = 1e-4
"""A score this little outside [0, 1] is rounding: a weighted sum of ones may be 1.0000001."""

_told: set[str] = set()
"""Rewards of this process whose scores outside [0, 1] were told."""


def as_scores(given: Any, replies: Sequence[str], name: str) -> Tensor:
    """The scores [N] of N replies on the CPU, without gradients, sharing no memory with what the reward `name` gave.

    float32; only what comes as a float64 tensor stays float64. Accepted are tensors and arrays of any float, integer or boolean type,
    pandas Series (in their order, whatever their index), and lists and tuples of numbers, decimals and fractions among them. Raises
    UserError, naming the reward and where there is one the row and the reply, unless there is one finite number a reply. Numbers outside
    [0, 1] are told once a reward.
    """
    if inspect.iscoroutine(given):  # of an "async" function: nobody waits for it
        given.close()
    values = _values(given)
    if values is None:
        what = "None" if given is None else type(given).__name__
    else:
        what = f"shape {tuple(values.shape) if isinstance(values, Tensor | np.ndarray) else (len(values),)}"
    if what != f"shape {(len(replies),)}":
        raise UserError(f"reward {name!r}: expected {len(replies)} scores, one a reply, got {what}")
    if isinstance(values, Tensor):
        scores = values.to(torch.float64 if values.dtype == torch.float64 else torch.float32, copy=True)
    elif isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        scores = torch.tensor(values.astype(np.float64)).float()
    else:
        rows = [_number(value, f"reward {name!r}, row {i + 1}", replies[i]) for i, value in enumerate(values)]
        scores = torch.tensor(rows, dtype=torch.float32)
    single = scores.float()  # a number that float32 cannot hold is none that a policy can be trained on
    if (invalid := _first(~single.isfinite())) is not None:
        raise UserError(f"reward {name!r}, row {invalid + 1}: score {single[invalid].item()} of reply {replies[invalid]!r} is not finite")
    outside = _first((scores < -ROUNDING) | (scores > 1 + ROUNDING))
    if outside is not None and name not in _told:
        _told.add(name)
        row = f"row {outside + 1}: score {scores[outside].item():.6g} of reply {replies[outside]!r}"
        print(f"reward {name!r}, {row} is outside [0, 1]; used as it is, and not told again", file=sys.stderr, flush=True)
    return scores


def scores_of(reward: Reward, prompts: Sequence[str], replies: Sequence[str], name: str | None = None) -> Tensor:
    """What a reward gives these replies, by `as_scores`. The reward gets lists of its own, which it may change.

    What the reward itself raises is not touched, but for a note of whose it is. Raises UserError unless there is one text a prompt.
    """
    name = name or reward_name(reward)
    prompts, replies = check_pairs(prompts, replies, f"reward {name!r}")
    try:
        given = reward(list(prompts), list(replies))
    except Exception as error:
        note = f"raised by reward {name!r}, asked for the scores of {len(replies)} replies"
        if not isinstance(error, UserError) and not any(line.startswith("raised by reward") for line in getattr(error, "__notes__", ())):
            error.add_note(note)
        raise
    return as_scores(given, replies, name)


def _values(given: Any) -> Any:
    """Dense real numbers as a tensor on the CPU; else an array or a list of whatever stands in the rows. None if there are no rows."""
    if isinstance(given, Tensor):
        if given.layout != torch.strided or given.is_nested or given.is_meta or given.is_quantized:
            return None
        values = given.detach().cpu()
        return values.resolve_conj().numpy() if values.is_complex() else values
    if isinstance(given, np.ma.MaskedArray):
        given = given.tolist()  # None where it is masked
    if isinstance(given, list | tuple):
        return given
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        return None
    return array if array.ndim else None  # None, a single number, a string, a set, a generator have no rows


def _number(value: Any, row: str, reply: str) -> float:
    """One row as a float: a number of Python or NumPy, or a tensor without dimensions. Raises UserError for anything else."""
    number = value
    if isinstance(value, Tensor | np.ndarray | np.generic) and not value.ndim:
        number = value.item()
    if not isinstance(number, numbers.Real | Decimal) or isinstance(value, np.timedelta64):
        raise UserError(f"{row}: score {shown(value)} of reply {reply!r} is not a number")
    try:
        return float(number)
    except OverflowError:  # an integer beyond all floats
        return math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def _first(flags: Tensor) -> int | None:
    """The first row that is flagged."""
    rows = flags.nonzero().flatten().tolist()
    return rows[0] if rows else None
