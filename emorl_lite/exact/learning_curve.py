"""How many prompts are enough: what weights chosen on n prompts promise, and what they score on others, as n grows.

On average over draws of n prompts the promise is never below the best that weights can have on all prompts there are, S*, and the score on
other prompts is never above it: E max_w S_n(w) >= S* >= E S(w chosen on n). So two curves close in on S* from both sides, and what the
lower one lacks is the regret of a choice on n prompts. Both are measured by subsets of a map's prompts, each optimum exact.

Beyond the prompts there are a law has to be assumed: regret b n^-a with a between 1/2 (many weights as good as the best) and 1 (a smooth
optimum), and the promise's excess with the same power. Shapes: B prompts, N sizes, R subsets a size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Within, check_seed, checked, shown
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.exact.weightings import Suprema, suprema

FEWEST = 12
"""Prompts that a curve needs at least."""
POWERS = np.linspace(0.5, 1, 11)
"""Tried as the power of n."""
FARTHEST = 16
"""A number of prompts is extrapolated to so many times those there are, no farther."""
REFITS = 1000
"""Resamples of the prompts for the uncertainty of a fit."""


@dataclass(frozen=True)
class Enough:
    """How many prompts a wanted regret needs."""

    regret: float
    prompts: int
    """The estimate."""
    low: float
    high: float
    """Its interval, by fits to resampled prompts."""
    power: float
    """Of the fitted law, between 1/2 and 1."""
    extrapolated: bool
    """Whether they are more than the map has."""


@dataclass(frozen=True)
class LearningCurve:
    """What weights chosen on n prompts promise there, and score on the other prompts."""

    sizes: np.ndarray
    """[N]: numbers of prompts n, ascending."""
    promised: np.ndarray
    """[N, B]: of each prompt, its mean score at weights chosen on n prompts with it."""
    real: np.ndarray
    """[N, B]: of each prompt, its mean score at weights chosen on n prompts without it."""
    on_all: np.ndarray
    """[N]: mean score on all prompts of the map; nears `optimum` by construction."""
    optimum: float
    """The optimum on all prompts of the map: the promise at n = B."""
    subsets: int
    """How many were drawn of each size."""
    _resamples: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        B = self.promised.shape[1]
        counts = np.random.default_rng(0).multinomial(B, np.full(B, 1 / B), REFITS)
        object.__setattr__(self, "_resamples", counts / B)

    @property
    def prompts(self) -> int:
        """How many the map has."""
        return self.promised.shape[1]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a size: prompts, promised, real, their standard errors over prompts, and the score on all prompts of the map."""
        return pd.DataFrame(
            {
                "prompts": self.sizes,
                "promised": self.promised.mean(1),
                "promised_error": stats.sem(self.promised, axis=1),
                "real": self.real.mean(1),
                "real_error": stats.sem(self.real, axis=1),
                "on_all": self.on_all,
            }
        )

    @cached_property
    def _fit(self) -> tuple[float, float, float]:
        """Best there is S*, regret's factor b and power a."""
        [best], [factor], [power] = _fitted(self.sizes, self.promised.mean(1)[None], self.real.mean(1)[None])
        return float(best), float(factor), float(power)

    @cached_property
    def _refits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for resampled prompts, [REFITS] each."""
        return _fitted(self.sizes, self._resamples @ self.promised.T, self._resamples @ self.real.T)

    @property
    def best(self) -> float:
        """S*, the best that weights can have on all prompts there are, by the fit."""
        return self._fit[0]

    def regret(self, prompts: float, level: float = 0.9) -> tuple[float, float, float]:
        """What weights chosen on so many prompts lack, by the fit, with the ends of an interval over resampled prompts.

        In simulations the interval at .9 held the true regret in about 9 of 10 cases where `enough` has an answer; where all weights are
        nearly as good, so that it has none, the fit is too low, and only `promised` less `real` is a safe bound.
        """
        prompts = checked(prompts, float, [Within(1, 1e9)], f"prompts {shown(prompts)}")
        _, factor, power = self._fit
        _, factors, powers = self._refits
        low, high = np.quantile(factors * prompts**-powers, _ends(level))
        return factor * prompts**-power, float(low), float(high)

    def enough(self, regret: float, level: float = 0.9) -> Enough:
        """How many prompts make the expected regret of a choice at most this, with an interval.

        Raises UserError where the prompts there are cannot tell: the scores on other prompts do not rise clearly with n, or the interval
        reaches beyond 16 times as many prompts as there are.
        """
        regret = checked(regret, float, [Within(0, 1, above=True)], f"regret {shown(regret)}")
        _, factor, power = self._fit
        _, factors, powers = self._refits
        ends = _ends(level)
        if factor <= 0 or np.quantile(factors, ends[0]) <= 0:
            raise UserError(
                f"prompts enough for a regret of {regret:g}: {self.prompts} prompts cannot tell; "
                "their scores on other prompts do not rise clearly with the number of prompts chosen on"
            )
        needed = np.maximum(factors, 0) ** (1 / powers) * regret ** (-1 / powers)
        low, high = np.quantile(needed, ends)
        if high > FARTHEST * self.prompts:
            raise UserError(
                f"prompts enough for a regret of {regret:g}: {self.prompts} prompts cannot tell; it may take {high:,.0f}, "
                f"more than {FARTHEST} times as many. Ask for a larger regret, or map more prompts"
            )
        prompts = max(1, math.ceil((factor / regret) ** (1 / power)))
        return Enough(regret, prompts, max(1.0, float(low)), max(1.0, float(high)), power, prompts > self.prompts)


def learning_curve(
    scored: ScoredMap,
    sizes: Sequence[int] | None = None,
    subsets: int = 200,
    utility: Mapping[str, float] | None = None,
    seed: int = 0,
    best: Suprema | None = None,
) -> LearningCurve:
    """Choose the best weights, exactly, on random subsets of a map's prompts, and score them on the others.

    `sizes`: numbers of prompts, six from 4 to three quarters of all by default. `utility`, `best`: as in `rademacher`.
    Raises UserError for less than twelve prompts, or sizes that leave no quarter of them to score on.
    """
    n = len(scored.map.prompts)
    if n < FEWEST:
        raise UserError(f"learning curve: at least {FEWEST} prompts are needed, the map has {n}")
    return curve_of(best or suprema(scored, utility), n, sizes, subsets, seed)


def curve_of(best: Suprema, prompts: int, sizes: Sequence[int] | None = None, subsets: int = 200, seed: int = 0) -> LearningCurve:
    """`learning_curve` for whatever gives the best weights of a weighting of so many prompts."""
    subsets = checked(subsets, int, [Within(2, 10**5)], f"subsets {shown(subsets)}")
    most = prompts * 3 // 4
    wanted = np.geomspace(4, most, 6).round().astype(int) if sizes is None else sizes
    checked_sizes = np.unique([checked(size, int, [Within(1, most)], f"learning curve, size {shown(size)}") for size in wanted])
    if len(checked_sizes) < 3:
        raise UserError(f"learning curve: at least 3 different sizes are needed, got {len(checked_sizes)}")
    rng, promised, real, on_all = np.random.default_rng(check_seed(seed)), [], [], []
    for size in checked_sizes:
        inside = rng.random((subsets, prompts)).argsort(1) < size  # [R, B]
        scores = best(inside.astype(np.float64)).scores
        promised.append(_mean_where(scores, inside))
        real.append(_mean_where(scores, ~inside))
        on_all.append(scores.mean())
    optimum = float(best(np.ones((1, prompts))).values[0])
    return LearningCurve(checked_sizes, np.array(promised), np.array(real), np.array(on_all), optimum, subsets)


def _mean_where(scores: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[B]: mean over the subsets that hold (or do not hold) the prompt; over all where none does."""
    times = where.sum(0)
    return np.where(times, (scores * where).sum(0) / np.maximum(times, 1), scores.mean(0))


def _fitted(sizes: np.ndarray, promised: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """promised = S* + c n^-a and real = S* - b n^-a by least squares: S*, b and a of each of [r, N] curves."""
    errors, found = [], []
    values = np.hstack([promised, real]).T  # [2 N, r]
    for power in POWERS:
        fall, one, none = sizes.astype(float) ** -power, np.ones(len(sizes)), np.zeros(len(sizes))
        design = np.vstack([np.stack([one, fall, none], 1), np.stack([one, none, -fall], 1)])  # [2 N, 3]
        solution = np.linalg.lstsq(design, values, rcond=None)[0]  # [3, r]
        errors.append(((values - design @ solution) ** 2).sum(0))
        found.append(solution)
    chosen = np.argmin(errors, axis=0)
    solutions = np.array(found)[chosen, :, np.arange(len(chosen))]  # [r, 3]
    return solutions[:, 0], solutions[:, 2], POWERS[chosen]


def _ends(level: float) -> list[float]:
    level = checked(level, float, [Within(0, 1, above=True, below=True)], f"level {shown(level)}")
    return [(1 - level) / 2, (1 + level) / 2]
