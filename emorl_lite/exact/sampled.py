"""The optimum of sampled replies, and how much of it is noise.

With common random numbers a sampled reply is a function of the weights (`samples` of the prefix tree): token = argmax_v w.z_v / T + g_v. So
the mean score of S samples a prompt is constant on cells, like that of greedy replies, and `best_weights` finds its optimum exactly. But it
is the optimum of these draws. Two things are asked of it here:

- At *fixed* weights the samples of a prompt are independent, and so are prompts: their spread gives the standard error of the value, for
  these prompts (within) or for new ones (between).
- Weights that were *chosen* by the same samples are flattered, as the best of many always is. What they are worth is measured on samples
  that did not choose them: fresh ones, or those left out (cross-fitting).

Between two weight vectors common random numbers also help: the difference has less variance than with noise of its own for each.
Sources: sample average approximation (Kleywegt, Shapiro and Homem-de-Mello 2002); Gumbel-max sampling (Maddison, Tarlow and Minka 2014);
common random numbers (Glasserman and Yao 1992); cross-fitting (Chernozhukov et al. 2018). Shapes: n weight vectors, d weights, B prompts,
S samples, K scored objectives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OF_PROBABILITIES
from emorl_lite.base.ranges import Within, checked, shown
from emorl_lite.base.weights import weight_rows
from emorl_lite.ensemble.corners import Corners, affine
from emorl_lite.exact.optimum import Optimum, best_weights, region_worth
from emorl_lite.exact.scored_map import ScoredMap

Utility = Mapping[str, float] | None
"""What each objective counts; None is their mean."""


def sample_scores(scored: ScoredMap, weights: Any, utility: Utility = None) -> np.ndarray:
    """What every sampled reply is worth at weights [n, d] or [d]: [n, B, S].

    Raises UserError in a hole of the map, or for a utility of other objectives.
    """
    located = scored.regions_at(weights)
    return np.asarray(region_worth(scored, utility)[located]).reshape(len(located), len(scored.map.prompts), scored.map.samples)


def of_samples(scored: ScoredMap, samples: Sequence[int]) -> ScoredMap:
    """The map of some of the samples (from 0, in this order) of every prompt. Nothing is decoded or scored anew.

    Raises UserError for no samples, or one that there is not, or that is named twice.
    """
    chosen, there = [checked(s, int, [Within(0, 10**9)], f"sample {shown(s)}") for s in samples], scored.map.samples
    if not chosen or len(set(chosen)) < len(chosen) or max(chosen) >= there:
        raise UserError(f"samples: expected different numbers from 0 to {there - 1}, got {', '.join(map(str, chosen)) or 'none'}")
    regions, kept = [], []
    for prompt in range(len(scored.map.prompts)):
        for k, sample in enumerate(chosen):
            for i in scored.map.indices[prompt * there + sample].tolist():
                regions.append(replace(scored.map.regions[i], row=prompt * len(chosen) + k))
                kept.append(i)
    return ScoredMap(replace(scored.map, regions=regions, samples=len(chosen)), scored.names, scored.scores[kept])


# -- the value of fixed weights


@dataclass(frozen=True)
class SampledValue:
    """The mean score of sampled replies at weights that these samples did not choose, with its standard errors."""

    value: float
    within: float
    """Standard error for these very prompts, from the spread of a prompt's samples; nan with one sample a prompt."""
    between: float
    """Standard error for new prompts (their samples included), from the spread of the prompts' means; nan with one prompt."""
    prompts: int
    samples: int

    def interval(self, new_prompts: bool = False, level: float = 0.95) -> tuple[float, float]:
        """The ends of the confidence interval (Student's t), for these prompts or for new ones."""
        error, freedom = (self.between, self.prompts - 1) if new_prompts else (self.within, self.prompts * (self.samples - 1))
        if not math.isfinite(error):
            return math.nan, math.nan
        reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
        return self.value - reach, self.value + reach


def value_of(scores: np.ndarray) -> SampledValue:
    """The mean of scores [B, S] and its standard errors: samples of a prompt are independent draws, and prompts are. Prompts count equally.

    Raises UserError for other shapes.
    """
    if scores.ndim != 2 or not scores.size:
        raise UserError(f"scores: expected [B prompts, S samples], got {list(scores.shape)}")
    prompts, samples = scores.shape
    within = math.sqrt(scores.var(1, ddof=1).sum() / samples) / prompts if samples > 1 else math.nan
    between = float(scores.mean(1).std(ddof=1)) / math.sqrt(prompts) if prompts > 1 else math.nan
    return SampledValue(float(scores.mean()), within, between, prompts, samples)


def sampled_value(scored: ScoredMap, weights: Any, utility: Utility = None) -> SampledValue:
    """The same at one weight vector [d] of a scored map, which must have been chosen without its samples."""
    return value_of(sample_scores(scored, weights, utility)[0])


def samples_needed(scores: np.ndarray, share: float = 0.1) -> float:
    """How many samples a prompt are enough: with them noise makes the standard error for new prompts longer by this share at most.

    That error is sqrt((b + v / S) / B), with the variance v of a prompt's samples and the variance b of the prompts' true means, both
    estimated from scores [B, S], S > 1. More samples than these hardly help; more prompts do.
    inf where no difference between prompts is seen. Raises UserError for fewer than two prompts or samples.
    """
    share = checked(share, float, [Within(0, 10, above=True)], f"share {shown(share)}")
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise UserError(f"scores: expected at least 2 prompts and 2 samples, got {list(scores.shape)}")
    noise = float(scores.var(1, ddof=1).mean())
    prompts = float(scores.mean(1).var(ddof=1)) - noise / scores.shape[1]
    if noise == 0:
        return 1
    if prompts <= 0:
        return math.inf
    return max(1, math.ceil(noise / (prompts * ((1 + share) ** 2 - 1)) - 1e-9))


def common_noise_gain(scored: ScoredMap, one: Any, other: Any, utility: Utility = None) -> float:
    """How many times as many samples noise of its own for each of two weight vectors would need for their difference.

    The variance of the difference of their scores with independent noise, over that with common noise: 1 is no gain, below 1 a loss, inf
    says that no sample's score differs. Raises UserError with fewer than two samples a prompt, or in a hole.
    """
    if scored.map.samples < 2:
        raise UserError("common random numbers: at least 2 samples a prompt are needed")
    a, b = sample_scores(scored, one, utility)[0], sample_scores(scored, other, utility)[0]
    common = float((a - b).var(1, ddof=1).mean())
    independent = float((a.var(1, ddof=1) + b.var(1, ddof=1)).mean())
    return independent / common if common > 0 else math.inf


# -- the value of chosen weights


@dataclass(frozen=True)
class CrossFit:
    """What the optimum is worth on samples that did not choose it."""

    promised: float
    """Mean score of the optimum on the samples that chose it."""
    value: float
    """Mean score of the weights that the other folds choose on the samples of each fold."""
    error: float
    """Its standard error for these prompts, with the chosen weights taken as given."""
    weights: np.ndarray
    """[folds, d]: what the other folds chose each time."""

    @property
    def optimism(self) -> float:
        """By how much the promise is flattered."""
        return self.promised - self.value


def cross_fitted(scored: ScoredMap, folds: int = 0, utility: Utility = None, **options: Any) -> CrossFit:
    """Choose the best weights on all samples but one fold, score them on that fold, and so on for every fold; the mean.

    `folds`: 2 for halves; as many as there are samples by default (one is left out each time, so that the choice is nearly that of all).
    `options` are those of `best_weights`. On a fold the score is that of fresh noise, so it is no flattery, but the weights were chosen on
    S - S / folds samples. Raises UserError with fewer than two samples or folds, or more folds than samples.
    """
    samples = scored.map.samples
    if samples < 2:
        raise UserError("cross-fitting: at least 2 samples a prompt are needed")
    folds = checked(folds or samples, int, [Within(2, samples)], f"folds {shown(folds)}")
    parts = np.array_split(np.arange(samples), folds)
    chosen, scores = [], np.empty((len(scored.map.prompts), samples))
    promise = best_weights(scored, utility, **options)
    for part in parts:
        others = of_samples(scored, np.setdiff1d(np.arange(samples), part).tolist())
        chosen.append(best_weights(others, utility, start=[promise.weights], **options).weights)
        scores[:, part] = sample_scores(scored, chosen[-1], utility)[0][:, part]
    held_out = value_of(scores)
    return CrossFit(promise.value, held_out.value, held_out.within, np.array(chosen))


def sample_sizes(
    scored: ScoredMap, sizes: Sequence[int], repeats: int = 4, utility: Utility = None, seconds: float = 0.0, **options: Any
) -> pd.DataFrame:
    """What the optimum of S samples a prompt promises and is worth, for several S, all from one map of more samples.

    For each S the samples are cut into blocks of S, and `repeats` of them at most choose weights, each scored on all samples outside of its
    block: fresh noise. One row an S, means over its blocks: samples, blocks, promised, fresh, optimism (promised - fresh), error (standard
    error of S samples at fixed weights, for these prompts), distance (of the chosen weights from those that all samples choose),
    regions, seconds (of the optimum, and the map's share of `seconds`, what the whole map took). Best of all samples: `attrs["optimum"]`.
    Raises UserError for sizes that leave no fresh samples.
    """
    whole = best_weights(scored, utility, **options)
    rows = []
    for size in [checked(s, int, [Within(1, scored.map.samples - 1)], f"samples {shown(s)}") for s in sizes]:
        blocks = [range(k * size, (k + 1) * size) for k in range(min(repeats, scored.map.samples // size))]
        found = [_one_block(scored, block, whole, utility, options) for block in blocks]
        row = {"samples": size, "blocks": len(blocks)} | pd.DataFrame(found).mean().to_dict()
        row["seconds"] += seconds * size / scored.map.samples
        rows.append(row)
    columns = ["samples", "blocks", "promised", "fresh", "optimism", "error", "distance", "regions", "seconds"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["optimum"] = whole.weights
    return table


def _one_block(scored: ScoredMap, block: range, whole: Optimum, utility: Utility, options: Mapping[str, Any]) -> dict[str, float]:
    """What one block of samples chooses, promises and is worth."""
    started, part = time.perf_counter(), of_samples(scored, block)
    best = best_weights(part, utility, **options)
    took = time.perf_counter() - started
    scores = sample_scores(scored, best.weights, utility)[0]  # [B, all samples]
    others = np.delete(scores, list(block), axis=1)
    spread = others if others.shape[1] > 1 else scores
    noise = float(spread.var(1, ddof=1).sum()) if spread.shape[1] > 1 else math.nan
    return {
        "promised": best.value,
        "fresh": float(others.mean()),
        "optimism": best.value - float(others.mean()),
        "error": math.sqrt(noise / len(block)) / len(scores),
        "distance": float(np.linalg.norm(np.subtract(best.weights, whole.weights))),
        "regions": len(part.map.regions),
        "seconds": took,
    }


# -- the temperature as a further corner


def at_temperature(weights: Any, temperature: Any, lowest: float) -> np.ndarray:
    """Weights [n, d] and temperatures (one, or [n]) as points [n, d + 1] of a map with the temperature as its last corner
    (`ensemble.corners.with_temperature`).

    A sampled token is argmax_v u.z_v + g_v with u = w / T: linear in u, whatever T is. With T_low, the `lowest` temperature, u = w' / T_low
    for w' = (T_low / T) w; what w' lacks to a sum of one, 1 - T_low / T, is the weight of a corner whose scores are all zero, an infinite
    temperature. `temperature` may be inf. Raises UserError for a temperature below the lowest.
    """
    w = weight_rows(weights, np.shape(weights)[-1])
    lowest = checked(lowest, float, [Within(0, 10**6, above=True)], f"lowest temperature {shown(lowest)}")
    t = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(w))
    if not (t >= lowest * (1 - 1e-12)).all():
        raise UserError(f"temperature {float(t.min()):g}: below the lowest of this map, {lowest:g}")
    kept = np.minimum(lowest / t, 1.0)[:, None]
    return np.hstack([kept * w / w.sum(1, keepdims=True), 1 - kept])


def temperature_of(points: Any, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """Of points [n, d + 1] of such a map the weights [n, d], which sum to one, and the temperatures [n].

    At an infinite temperature the weights do not matter: uniform ones are given.
    """
    p = np.atleast_2d(np.asarray(points, dtype=np.float64))
    size = p[:, :-1].sum(1)
    cold = size > 0
    safe = np.where(cold, size, 1.0)
    weights = np.where(cold[:, None], p[:, :-1] / safe[:, None], 1 / (p.shape[1] - 1))
    return weights, np.where(cold, lowest / safe, np.inf)


def temperature_line(corners: Corners, weights: Any, lowest: float, highest: float) -> Corners:
    """All temperatures at one weight vector [d]: two corners, the mixture at the `lowest` and words that are all alike.

    Its knob, "heat", is 1 - T_low / T. For sampled replies (`samples` of the tree, whose own temperature stays 1).
    Raises UserError for more than one weight vector, temperatures that are not in order, and where no logits are mixed.
    """
    w = corners.domain.on_plane(weights)
    if len(w) != 1:
        raise UserError(f"temperature: expected one weight vector, got {len(w)}")
    if corners.mix in OF_PROBABILITIES:
        raise UserError("temperature: where logits are mixed, not probabilities")
    checked(lowest, float, [Within(0, 10**6, above=True)], f"lowest temperature {shown(lowest)}")
    checked(highest, float, [Within(lowest, 10**6, above=True)], f"highest temperature {shown(highest)}")
    mixture = corners.coefficients(w)[0] / lowest
    combination = np.stack([mixture, np.zeros_like(mixture)])
    names = ["this mixture", "uniform words"]
    return affine(corners.sources, names, ["heat"], [0.0], [1 - lowest / highest], combination=combination)


def along(scored: ScoredMap, start: Any, end: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores on the straight way between two points [d] of a map, exactly: borders [m + 1] from 0 to 1, and means [m, K] between them.

    At start + x (end - start) the means are those of the step that x lies in. Raises UserError where the way leads through a hole.
    """
    a, b = scored.map.domain.on_plane([start, end])
    cuts = [np.array([0.0, 1.0])]
    for region in scored.map.regions:
        at_a, at_b = region.piece.facets @ a, region.piece.facets @ b
        falls = at_a > at_b
        with np.errstate(divide="ignore", invalid="ignore"):
            x = at_a / (at_a - at_b)
        flat = at_a == at_b
        low, high = x[~flat & ~falls].max(initial=0.0), x[falls].min(initial=1.0)
        if low < high and (at_a[flat] >= 0).all():
            cuts.append(np.array([low, high]))
    borders = np.unique(np.concatenate(cuts).round(12))
    middles = (borders[1:] + borders[:-1]) / 2
    return borders, scored.means(a + middles[:, None] * (b - a))
