"""Differences of two methods over seeds and prompts at once: both are draws, and an interval that knows one of them alone is too narrow.

All seeds of a real study answer the same few test prompts. An interval over seeds' means says what other seeds would give on these very
prompts; one over prompts, what other prompts would give these very policies. Here S seeds and P prompts are crossed, and both vary: a
two-way layout with random effects and one value a cell (Hillis 2007; Satterthwaite 1946 for the degrees of freedom).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.study.measuring import geometric_mean

GEOMETRIC, MEAN = "geometric mean", "mean"
"""Utilities of a policy's mean scores."""


@dataclass(frozen=True)
class Crossed:
    """A mean difference over seeds and prompts, its interval, and the two-sided p of "no difference"."""

    mean: float
    low: float
    high: float
    p: float
    error: float
    """Standard error of the mean."""
    degrees: float
    """Degrees of freedom of its Student's t."""


def crossed(values: np.ndarray, confidence: float = 0.95) -> Crossed:
    """The mean of differences [S, P] of S seeds on P prompts, with an interval over both.

    The variance of the mean is (MS_seeds + MS_prompts - MS_rest) / (S P), and no less than with one of the first two alone: where the
    rest is larger than one of them, that one is taken for nothing. Raises UserError for less than two seeds or prompts.
    """
    values = np.asarray(values, dtype=np.float64)
    confidence = checked(confidence, float, [Within(0, 1, above=True, below=True)], f"confidence {shown(confidence)}")
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise UserError(f"crossed: expected finite differences of two seeds and two prompts or more, got the shape {list(values.shape)}")
    seeds, prompts = values.shape
    mean, rows, columns = values.mean(), values.mean(1), values.mean(0)
    between_seeds = prompts * rows.var(ddof=1)
    between_prompts = seeds * columns.var(ddof=1)
    rest = ((values - rows[:, None] - columns[None] + mean) ** 2).sum() / ((seeds - 1) * (prompts - 1))
    parts = {"both": between_seeds + between_prompts - rest, "seeds": between_seeds, "prompts": between_prompts}
    largest = max(parts, key=parts.__getitem__)
    free = {"seeds": between_seeds**2 / (seeds - 1), "prompts": between_prompts**2 / (prompts - 1)}
    scatter = sum(free.values()) + rest**2 / ((seeds - 1) * (prompts - 1)) if largest == "both" else free[largest]
    if scatter == 0:  # all differences are the same
        return Crossed(float(mean), float(mean), float(mean), float(mean == 0), 0.0, math.inf)
    error, degrees = math.sqrt(parts[largest] / values.size), parts[largest] ** 2 / scatter
    reach = error * float(stats.t.ppf((1 + confidence) / 2, degrees))
    p = float(2 * stats.t.sf(abs(mean) / error, degrees))
    return Crossed(float(mean), float(mean - reach), float(mean + reach), p, error, float(degrees))


def terms(scores: np.ndarray, utility: str = GEOMETRIC) -> np.ndarray:
    """Values [S, P] whose mean over prompts is each seed's utility of its mean scores, from scores [S, P, d].

    A geometric mean is not a mean over prompts; its terms are those of its linearisation at the seed's own mean scores m (the delta
    method): G(m) / d sum_i scores_i / m_i, which average to G(m) itself. A seed with a mean score of 0 has only zeros.
    """
    if utility == MEAN:
        return np.asarray(scores.mean(-1))
    if utility != GEOMETRIC:
        raise UserError(f"utility {shown(utility)}: expected {GEOMETRIC!r} or {MEAN!r}")
    means = scores.mean(1, keepdims=True)
    best = geometric_mean(means)
    shares = np.divide(scores, means, out=np.zeros_like(scores, dtype=np.float64), where=means > 0)
    return np.asarray(best * shares.mean(-1))


def scores_by_cell(table: pd.DataFrame, method: str, decoding: str, choice: str | None, objectives: Sequence[str]) -> np.ndarray:
    """Scores [S, P, d] of a method from the study's table of prompts, seeds and prompts in order.

    `choice`: how its setting was chosen; None: its own, which is the default's for a method without one. Raises UserError if the table
    lacks any of it.
    """
    rows = table[(table["method"] == method) & (table["decoding"] == decoding)]
    if choice is None:
        chosen = [name for name in rows["choice"].unique() if name != "default"]
        choice = chosen[0] if chosen else "default"
    rows = rows[rows["choice"] == choice].sort_values(["seed", "prompt"])
    seeds, prompts = rows["seed"].nunique(), rows["prompt"].nunique()
    if not len(rows) or len(rows) != seeds * prompts or rows.duplicated(["seed", "prompt"]).any():
        raise UserError(f"comparison: the study's table of prompts has no complete scores of {method} ({choice}, {decoding})")
    return rows[list(objectives)].to_numpy(dtype=np.float64).reshape(seeds, prompts, len(objectives))


def paired(
    table: pd.DataFrame, first: str, second: str, objectives: Sequence[str], decoding: str, utility: str
) -> tuple[np.ndarray, np.ndarray]:
    """The terms [S, P] of two methods, each at its own setting, on the same seeds and prompts: not only on as many.

    Raises UserError if the table lacks any of it, or has others of one than of the other.
    """
    a, b = (terms(scores_by_cell(table, name, decoding, None, objectives), utility) for name in (first, second))
    rows = table[table["decoding"] == decoding]
    ours, theirs = (rows.loc[rows["method"] == name, ["seed", "prompt"]].drop_duplicates() for name in (first, second))
    if a.shape != b.shape or not len(ours) == len(theirs) == len(ours.merge(theirs)):
        raise UserError(
            f"comparison: {first} and {second} were not scored on the same seeds and prompts; a difference is of the same prompts"
        )
    return a, b
