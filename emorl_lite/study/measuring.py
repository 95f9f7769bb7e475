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

from emorl_lite.base.presets import Preset
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.methods.base import Method
from emorl_lite.methods.bench import Cost
from emorl_lite.study.comparison import BY_OWN_SEARCH
from emorl_lite.study.divergence import sampled_replies, shrunk_replies
from emorl_lite.study.exact_fronts import exact_front

KL_TARGETS = (0.5, 1.0)
"""KL to the base, in nats a reply, at which all methods are compared. Set before anything was measured."""
KL_SAMPLES = 2
"""Replies sampled for each validation prompt, to find the share."""
KL_ERROR = 0.03
"""A share is found when KL is as near to its target as this part of it."""
KL_MISSED = 0.1
"""The same of the nearest share, where a few replies that become others all at once make KL jump over its target."""

Setting = tuple[float, ...]


def measure(method: Method, test: Sequence[str], preset: Preset) -> tuple[dict[str, pd.DataFrame], Cost, Setting]:
    """Train a method and measure it: (tables, its training cost, its own setting: BY_OWN_SEARCH says which).

    Tables: `rows`, a line a chosen setting; `sweep`, a line a setting; `matched`, its own setting at each of KL_TARGETS; and for a method
    whose settings can all be known `front`.
    """
    bench, study = method.bench, preset.study
    cost = method.prepare()
    sweep_prompts, test_prompts = test[: study.sweep_prompts], test[: study.test_prompts]
    settings = method.settings(study.weight_steps)
    sweep = swept(method, settings, sweep_prompts)
    scored = method.exact_map(bench.validation_prompts)
    chosen, asked = choices(method, sweep, settings, scored, preset)
    rows = []
    for (choice, setting), answers in zip(chosen.items(), method.replies_at(test_prompts, list(chosen.values())), strict=True):
        row = {"method": method.name, "family": method.family, "knob": method.knob, "choice": choice, **columns(method, setting)}
        row |= asdict(cost) | {"searched": asked[choice], "calls_per_token": method.calls, "n": len(test_prompts)}
        rows.append(row | bench.objectives.means(test_prompts, answers) | sampled(method, setting, test_prompts))
    own = next(choice for choice in BY_OWN_SEARCH if choice in chosen)
    tables = {"rows": pd.DataFrame(rows), "sweep": sweep, "matched": matched(method, own, chosen[own], sweep_prompts)}
    if scored is not None:
        tables["front"] = validated_front(method, scored, sweep_prompts)
    return tables, cost, chosen[own]


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
        chosen["grid"] = settings[int(np.argmax(sweep["validation_mean"]))]
        asked["grid"] = len(settings) * count
    chosen |= method.own_choices(method.bench.validation_prompts, scored)
    search = preset.search
    listed = search.levels * search.points_per_axis ** len(method.bench.names)
    asked |= {"published search": listed * count, "exact optimum": len(scored.map.regions) if scored else 0}
    return chosen, asked


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
    replies, divergence = sampled_replies(method, prompts, setting or None, seed=method.bench.seed)
    means = method.bench.objectives.means(prompts, replies)
    return {f"sampled_{name}": value for name, value in means.items()} | {"kl": float(divergence.mean())}


def matched(method: Method, choice: str, setting: Setting, prompts: Sequence[str]) -> pd.DataFrame:
    """A setting at each of KL_TARGETS: how much of the adapters' change is kept for it, and what is left of the scores.

    Columns: method, choice, target, reached, scale (`kept_share`), kl (of these prompts), mean (greedy), sampled_mean; nan where the
    method's own KL lies below the target, or the method has nothing to shrink.
    """
    bench, lines = method.bench, []
    validation = [prompt for prompt in bench.validation_prompts for _ in range(KL_SAMPLES)]

    @cache
    def divergence(scale: float) -> float:
        return float(sampled_replies(method, validation, setting or None, seed=bench.seed, scale=scale)[1].mean())

    for target in KL_TARGETS:
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
