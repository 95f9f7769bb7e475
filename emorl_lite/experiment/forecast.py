"""How long decoding and scoring will take on this machine, from a short measured pass of the same kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emorl_lite.base.presets import Preset
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import folded
from emorl_lite.lm.model import LanguageModel
from emorl_lite.search.evaluation import Score
from emorl_lite.search.simplex_grid import compositions

PROMPTS, TOKENS, STEPS = 4, 8, 4
"""The measured pass: so many prompts, reply tokens, and steps of a grid on the simplex."""
BY_TOKENS, BY_POINTS = 1.17, 0.95
"""Powers by which a tree's rows grow with tokens and points (docs/cluster.md: measured on random adapters)."""
CUBE = 0.83
"""Share of a hierarchical search's points on the cube that have a direction of their own, 86 of 103 in the paper's."""

Tree = Callable[..., PrefixTree]


@dataclass(frozen=True)
class Forecast:
    """What is to come, in seconds."""

    decoding: float
    scoring: float | None
    """None where the rewards are not there yet."""

    def sentence(self) -> str:
        """In words."""
        measured = f"from a pass of {PROMPTS} prompts and {TOKENS} tokens; it may be off by a factor of two"
        scoring = "" if self.scoring is None else f" and {spell(self.scoring)} of scoring"
        later = "; scoring comes on top, its models are not here yet" if self.scoring is None else ""
        return f"estimated time on this machine: {spell(self.decoding)} of decoding{scoring} ({measured}){later}"


def spell(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def forecast_search(preset: Preset, lm: LanguageModel, tree: Tree, prompts: Sequence[str], score: Score | None) -> Forecast:
    """Of a search by the preset's method, over these prompts. `score`: how replies are scored, if that is known by now."""
    few, tokens = list(prompts[:PROMPTS]), min(TOKENS, lm.config.max_new_tokens)
    more_prompts, more_tokens = len(prompts) / len(few), lm.config.max_new_tokens / tokens
    points = _points(preset)
    if preset.search.mix == "parameters":
        folding, decoding, replies = _averages(lm, preset.objectives, few, tokens)
        return Forecast((folding + decoding * more_prompts * more_tokens) * points, _scoring(score, few, replies, more_prompts * points))
    tree(few[:1], max_new_tokens=1).leaves([[1.0] * len(preset.objectives)])  # whatever is done but once
    began = time.perf_counter()
    measured = tree(few, max_new_tokens=tokens, mix=preset.search.mix)
    if preset.search.method == "exact":
        pairs = [(region.row, region.reply) for region in exact_map(measured).regions]
        more_points = 1.0
    else:
        grid = [[n / STEPS for n in step] for step in compositions(len(preset.objectives), STEPS)]
        pairs = [(i, reply) for i, row in enumerate(measured.replies(grid)) for reply in row]
        more_points = max(1.0, points / len(grid)) ** BY_POINTS
    seconds = time.perf_counter() - began
    distinct = list(dict.fromkeys(pairs))
    scoring = _scoring(
        score, [few[i] for i, _ in distinct], [reply for _, reply in distinct], more_prompts * more_points * more_tokens**0.17
    )
    return Forecast(seconds * more_prompts * more_points * more_tokens**BY_TOKENS, scoring)


def forecast_evaluation(lm: LanguageModel, adapters: Sequence[str], prompts: Sequence[str], score: Score | None) -> Forecast:
    """Of the base's, every adapter's and the ensemble's greedy replies to some prompts, scored."""
    few, tokens = list(prompts[:PROMPTS]), min(TOKENS, lm.config.max_new_tokens)
    lm.reply(few[:1], max_new_tokens=1)
    began = time.perf_counter()
    replies = lm.reply(few, max_new_tokens=tokens)
    seconds = (time.perf_counter() - began) * len(prompts) / len(few) * lm.config.max_new_tokens / tokens
    passes = 2 * len(adapters) + 1  # an ensemble reads with every adapter
    return Forecast(seconds * passes, _scoring(score, few, replies, len(prompts) / len(few) * (len(adapters) + 2)))


def _points(preset: Preset) -> float:
    """Distinct points that a search decodes, about."""
    config, d = preset.search, len(preset.objectives)
    if config.method != "hierarchical":
        return config.evaluations
    points = config.points_per_axis**d + (config.levels - 1) * (config.points_per_axis**d - 2**d)  # a level has 2^d of the one before
    return points * (1.0 if config.mix == "parameters" else CUBE)


def _averages(lm: LanguageModel, names: Sequence[str], few: list[str], tokens: int) -> tuple[float, float, list[str]]:
    """Of one point where parameters are averaged: seconds of averaging, seconds of decoding, and the short replies."""
    began = time.perf_counter()
    average_parameters(lm, names, [1 / len(names)] * len(names), name="average", how="exact")
    lm.use("average")
    with folded(lm):
        lm.reply(few[:1], max_new_tokens=1)
        averaged = time.perf_counter()
        replies = lm.reply(few, max_new_tokens=tokens)
    return averaged - began, time.perf_counter() - averaged, replies


def _scoring(score: Score | None, prompts: Sequence[str], replies: Sequence[str], more: float) -> float | None:
    """Seconds of scoring so many times more replies."""
    if score is None:
        return None
    arguments: tuple[Any, Any] = (list(prompts), list(replies))
    began = time.perf_counter()
    score(*arguments)
    return (time.perf_counter() - began) * more
