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
