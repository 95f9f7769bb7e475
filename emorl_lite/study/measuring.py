"""How the study measures a method: a sweep over its settings, the settings that it would choose, greedy and sampled, at its own KL and at
equal ones.

Whatever is chosen (a setting, a front, a share of the adapter's change) is chosen on validation prompts; test prompts only score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import gmean
from torch import Tensor

from emorl_lite.base.presets import Preset, StudyConfig
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.methods.base import Method
from emorl_lite.methods.bench import Cost
from emorl_lite.study.comparison import BY_GRID, BY_OWN_SEARCH
from emorl_lite.study.divergence import sampled_replies, shrunk_replies
from emorl_lite.study.exact_fronts import exact_front

KL_TARGETS = StudyConfig().kl_targets
"""KL to the base, in nats a reply, at which all methods are compared. Set before anything was measured."""
GEOMETRIC_OPTIMUM = "exact optimum, geometric mean"
"""The setting of the exact front with the best geometric mean, of studies whose utility that is."""
KL_SAMPLES = 2
"""Replies sampled for each validation prompt, to find the share."""
KL_ERROR = 0.03
"""A share is found when KL is as near to its target as this part of it."""
KL_MISSED = 0.1
"""The same of the nearest share, where a few replies that become others all at once make KL jump over its target."""

Setting = tuple[float, ...]


def measure(method: Method, test: Sequence[str], preset: Preset) -> tuple[dict[str, pd.DataFrame], Cost, Setting]:
    """Train a method and measure it: (tables, its training cost, its own setting).

    Its own setting is what its paper would choose (BY_OWN_SEARCH) or, by another utility than the mean, what equal effort chooses
    (BY_GRID). Tables: `rows`, a line a chosen setting; `sweep`, a line a setting; `matched`, its own setting at each of the study's KL
    targets; `prompts`, a line a test prompt at its own setting and at its default; for a method whose settings can all be known `front`.
    """
    bench, study = method.bench, preset.study
    cost = method.prepare()
    sweep_prompts, test_prompts = test[: study.sweep_prompts], test[: study.test_prompts]
    settings = method.settings(study.weight_steps)
    sweep = swept(method, settings, sweep_prompts)
    scored = method.exact_map(bench.validation_prompts)
    chosen, asked = choices(method, sweep, settings, scored, preset)
    own = next(choice for choice in (BY_OWN_SEARCH if study.utility == "mean" else BY_GRID) if choice in chosen)
    rows, by_prompt = [], []
    drawn_at: dict[Setting, tuple[list[str], Tensor]] = {}
    many = [prompt for prompt in test_prompts for _ in range(study.samples)]
    for (choice, setting), answers in zip(chosen.items(), method.replies_at(test_prompts, list(chosen.values())), strict=True):
        row = {"method": method.name, "family": method.family, "knob": method.knob, "choice": choice, **columns(method, setting)}
        row |= asdict(cost) | {"searched": asked[choice], "calls_per_token": method.calls, "n": len(test_prompts)}
        if setting not in drawn_at:  # several choices are often the same setting
            drawn_at[setting] = sampled_replies(method, test_prompts, setting or None, seed=bench.seed, each=study.samples)
        texts = drawn_at[setting][0]
        rows.append(row | bench.objectives.means(test_prompts, answers) | sampled_columns(method, many, *drawn_at[setting]))
        if choice in (own, "default"):
            said = {"greedy": scores_of(method, test_prompts, answers, 1), "sampled": scores_of(method, many, texts, study.samples)}
            by_prompt += [frame.assign(method=method.name, choice=choice, decoding=decoding) for decoding, frame in said.items()]
    tables = {"rows": pd.DataFrame(rows), "sweep": sweep}
    tables["matched"] = matched(method, own, chosen[own], sweep_prompts, study.kl_targets)
    tables["prompts"] = pd.concat(by_prompt, ignore_index=True)[["method", "choice", "decoding", "prompt", *bench.names]]
    if scored is not None:
        tables["front"] = validated_front(method, scored, sweep_prompts)
    return tables, cost, chosen[own]


def scores_of(method: Method, prompts: Sequence[str], replies: Sequence[str], each: int) -> pd.DataFrame:
    """A line a prompt, of which `each` replies stand one after the other: its number, from 0, and its mean score of every objective."""
    scores = method.bench.objectives.scores(prompts, replies).reshape(-1, each, len(method.bench.names)).mean(1)
    return pd.DataFrame(scores, columns=method.bench.names).rename_axis("prompt").reset_index()


def swept(method: Method, settings: Sequence[Setting], prompts: Sequence[str]) -> pd.DataFrame:
    """Greedy scores at every setting, a line each: of validation prompts as validation_<objective>, and of these prompts."""
    bench, lines = method.bench, []
    replies = zip(method.replies_at(bench.validation_prompts, settings), method.replies_at(prompts, settings), strict=True)
    for setting, (on_validation, on_test) in zip(settings, replies, strict=True):
        line: dict[str, Any] = {"method": method.name, "knob": method.knob, **columns(method, setting)}
        line |= {f"validation_{k}": v for k, v in bench.objectives.means(bench.validation_prompts, on_validation).items()}
        line |= bench.objectives.means(prompts, on_test)
        if method.knob == "strength":
            line |= sampled(method, setting, prompts)
        lines.append(line)
    return pd.DataFrame(lines)


def choices(
    method: Method, sweep: pd.DataFrame, settings: Sequence[Setting], scored: ScoredMap | None, preset: Preset
) -> tuple[dict[str, Setting], dict[str, int]]:
    """(the settings that a user could take, by how they are chosen; how many replies to validation prompts each choice scored).

    The published search counts every point that it lists, as the paper does; an exact optimum every region's reply, once.
    """
    count = len(method.bench.validation_prompts)
    chosen: dict[str, Setting] = {"default": method.default if method.knob in ("weights", "subset") else ()}
    asked = {"default": 0}
    if method.knob != "none":
        scores = sweep[[f"validation_{name}" for name in method.bench.names]].to_numpy()
        if preset.study.utility == "mean":
            chosen["grid"] = settings[int(np.argmax(sweep["validation_mean"]))]
        else:
            chosen["grid"] = settings[int(np.argmax(geometric_mean(scores)))]
            chosen["grid, mean"] = settings[int(np.argmax(sweep["validation_mean"]))]
        asked |= dict.fromkeys([choice for choice in chosen if choice != "default"], len(settings) * count)
    chosen |= method.own_choices(method.bench.validation_prompts, scored)
    if preset.study.utility != "mean" and scored is not None:
        front, _ = exact_front(scored)  # the best by a utility that rises with every objective lies on the front
        best = front.iloc[int(np.argmax(geometric_mean(front[scored.names].to_numpy())))]
        chosen[GEOMETRIC_OPTIMUM] = tuple(float(x) for x in best[scored.map.domain.columns])
    search = preset.search
    listed = search.levels * search.points_per_axis ** len(method.bench.names)
    regions = len(scored.map.regions) if scored else 0
    asked |= {"published search": listed * count, "exact optimum": regions, GEOMETRIC_OPTIMUM: regions}
    return chosen, asked


def geometric_mean(scores: np.ndarray) -> np.ndarray:
    """The d-th root of the product of mean scores [.., d], each at least 0: [..]."""
    return np.asarray(gmean(np.clip(scores, 0.0, None), axis=-1))


def validated_front(method: Method, scored: ScoredMap, prompts: Sequence[str]) -> pd.DataFrame:
    """What no setting beats in all objectives, by the exact map of validation prompts (`scored`), scored on other prompts.

    Columns: method, the setting's, validation_<objective>, the objectives and their mean on `prompts`, found.
    """
    front, found = exact_front(scored)
    settings = [tuple(map(float, line)) for line in front[scored.map.domain.columns].to_numpy()]
    objectives = method.bench.objectives
    on_test = pd.DataFrame([objectives.means(prompts, said) for said in method.replies_at(prompts, settings)])
    front = front.rename(columns={name: f"validation_{name}" for name in scored.names})
    front.insert(0, "method", method.name)
    return pd.concat([front, on_test], axis=1).assign(found=found)


def columns(method: Method, setting: Sequence[float]) -> dict[str, float]:
    """A setting as columns."""
    if method.knob == "strength":
        return {"strength": setting[0]} if setting else {}
    return {f"w_{name}": w for name, w in zip(method.bench.names, setting, strict=False)}


def sampled(method: Method, setting: Sequence[float], prompts: Sequence[str]) -> dict[str, float]:
    """Scores of replies sampled at temperature 1 (sampled_<objective>, sampled_mean), and their KL to the base in nats a reply."""
    return sampled_columns(method, prompts, *sampled_replies(method, prompts, setting or None, seed=method.bench.seed))


def sampled_columns(method: Method, prompts: Sequence[str], replies: Sequence[str], divergence: Tensor) -> dict[str, float]:
    """The same of replies that were sampled already, and of their KL [B]."""
    means = method.bench.objectives.means(prompts, replies)
    return {f"sampled_{name}": value for name, value in means.items()} | {"kl": float(divergence.mean())}


def matched(method: Method, choice: str, setting: Setting, prompts: Sequence[str], targets: Sequence[float] = KL_TARGETS) -> pd.DataFrame:
    """A setting at each of these KLs to the base: how much of the adapters' change is kept for it, and what is left of the scores.

    Columns: method, choice, target, reached, scale (`kept_share`), kl (of these prompts), mean (greedy), sampled_mean; nan where the
    method's own KL lies below the target, or the method has nothing to shrink.
    """
    bench, lines = method.bench, []

    @cache
    def divergence(scale: float) -> float:
        replies = sampled_replies(method, bench.validation_prompts, setting or None, seed=bench.seed, scale=scale, each=KL_SAMPLES)
        return float(replies[1].mean())

    for target in targets:
        line: dict[str, Any] = {"method": method.name, "choice": choice, "target": target, "reached": False}
        if (scale := kept_share(divergence, target)) is not None:
            texts, kl = sampled_replies(method, prompts, setting or None, seed=bench.seed, scale=scale)
            greedy = shrunk_replies(method, prompts, setting or None, scale)
            line |= {"reached": True, "scale": scale, "kl": float(kl.mean()), "mean": bench.objectives.means(prompts, greedy)["mean"]}
            line |= {"sampled_mean": bench.objectives.means(prompts, texts)["mean"]}
        lines.append(line)
    return pd.DataFrame(lines).reindex(columns=["method", "choice", "target", "reached", "scale", "kl", "mean", "sampled_mean"])


def kept_share(divergence: Callable[[float], float], target: float) -> float | None:
    """The share of a change, in (0, 1], at which its divergence is the target, but for KL_ERROR; where it jumps, but for KL_MISSED.

    None if all of the change diverges less, or none of it as much, or it jumps further.
    """
    if divergence(1.0) < target * (1 - KL_ERROR) or divergence(0.0) >= target * (1 - KL_ERROR):
        return None
    missed: dict[float, float] = {}

    def beyond(share: float) -> float:
        found = divergence(share)
        missed[share] = abs(found - target)
        near_enough = abs(found - target) <= KL_ERROR * target
        # near the base a divergence grows with the square of the share: its root is nearly straight
        return 0.0 if near_enough else math.sqrt(max(0.0, found)) - math.sqrt(target)

    if beyond(1.0) != 0:
        brentq(beyond, 0.0, 1.0, xtol=1e-3)
    nearest = min(missed, key=missed.__getitem__)
    return float(nearest) if missed[nearest] <= KL_MISSED * target else None
