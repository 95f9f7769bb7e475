"""What scores of a few prompts or seeds are worth: confidence intervals, and a search's promise beside fresh prompts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.weights import as_numbers
from emorl_lite.lm.devices import cpu_double


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of n independent values, and the ends of its confidence interval (Student's t). Raises UserError for fewer than two values."""
    values = as_numbers(values, "confidence interval", torch.float64).numpy()
    if len(values) < 2:
        raise UserError(f"confidence interval: at least 2 values are needed, got {len(values)}")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def median_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float, float]:
    """Median of n independent values, the ends of its exact interval, and that interval's coverage.

    The ends are the k-th value from below and from above: the true median lies outside with probability 2 P(B < k), B binomial(n, 1/2),
    whatever the values' distribution, in heaps too. k is the largest with a coverage of at least `level`. Fewer than six values reach no
    95 %: then the ends are the smallest and the largest value, and the coverage is what it is, 1 - 2^(1-n), 93.75 % for five. Raises
    UserError for fewer than two values.
    """
    ordered = np.sort(as_numbers(values, "median", torch.float64).numpy())
    n = len(ordered)
    if n < 2:
        raise UserError(f"median's interval: at least 2 values are needed, got {n}")
    coverages = 1 - 2 * stats.binom.cdf(np.arange((n + 1) // 2), n, 0.5)  # by k - 1
    k = max(int((coverages >= level).sum()), 1) - 1
    return float(np.median(ordered)), float(ordered[k]), float(ordered[n - 1 - k]), float(coverages[k])


def sign_p(values: np.ndarray, nothing: float = 0.0) -> float:
    """Two-sided p of "the median is `nothing`" by signs alone: exact for any distribution, 2^(1-n) at best. It agrees with
    `median_interval`. A value on the threshold counts against whatever the others say."""
    values = np.asarray(values, dtype=np.float64)
    most = max(int((values > nothing).sum()), int((values < nothing).sum()))
    return min(1.0, 2 * float(stats.binom.sf(most - 1, len(values), 0.5)))


ONE_HEAP, TWO_HEAPS, EQUAL, FEW = "one heap", "two heaps", "all equal", "too few"
HEAPS_APART = 3.0
"""Two heaps: the widest gap between neighbours is more than so many times as wide as the wider heap. Of five normal values 7 in 100
samples look so, of eight or more hardly any."""
FOR_SPREADS = 2.0
"""The same where standard deviations are compared, which lean on normal values far more than means do (16 in 100 samples of five)."""


def shape_of(values: np.ndarray, apart: float = HEAPS_APART) -> str:
    """Whether values lie in one heap, in two (`apart`; a single value far from all others is a heap), or are all equal.

    Three values or fewer are too few to tell. Student's interval is made for one heap.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if len(ordered) > 1 and np.isclose(ordered[0], ordered[-1], rtol=1e-9, atol=1e-12):
        return EQUAL
    if len(ordered) < 4:
        return FEW
    gaps = np.diff(ordered)
    at = int(gaps.argmax())
    wider = max(ordered[at] - ordered[0], ordered[-1] - ordered[at + 1])
    return TWO_HEAPS if gaps[at] > apart * wider else ONE_HEAP


def confirm(promised: Mapping[str, float], scores: Mapping[str, Tensor], level: float = 0.95) -> pd.DataFrame:
    """What a search promised beside what its choice scores on fresh prompts.

    The best of many noisy points is flattered: it was chosen because it scored high on those prompts. `promised`: mean score per objective
    on the search's prompts; `scores`: per objective the scores [n] on fresh ones. One row per objective and one for their mean, with
    columns objective, promised, fresh, low, high (confidence interval over prompts), n.
    """
    names = [name for name in promised if name in scores]
    if not names:
        raise UserError(f"confirm: no objective in common; promised {', '.join(promised)}, scored {', '.join(scores)}")
    fresh = {name: cpu_double(scores[name].detach()).numpy() for name in names}
    fresh["mean"] = np.mean(list(fresh.values()), 0)
    before = {name: float(promised[name]) for name in names}
    before["mean"] = sum(before.values()) / len(names)
    rows = []
    for name, values in fresh.items():
        mean, low, high = interval(values, level)
        rows.append({"objective": name, "promised": before[name], "fresh": mean, "low": low, "high": high, "n": len(values)})
    return pd.DataFrame(rows)
