"""How long decoding and scoring will take on this machine, from a short measured pass of the same kind."""

from __future__ import annotations

import math
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

PROMPTS, TOKENS, STEPS = 8, 6, 4
"""The measured pass: so many prompts, reply tokens, and steps of a grid on the simplex."""
BY_TOKENS, BY_POINTS = 1.17, 0.95
"""Powers by which a tree's rows grow with tokens and points where random adapters disagree (docs/cluster.md): the most that is assumed."""
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
    points, names = _points(preset), list(preset.objectives)
    if preset.search.mix == "parameters":
        averaging = _seconds(lambda: average_parameters(lm, names, [1 / len(names)] * len(names), name="average", how="exact"))
        lm.use("average")
        with folded(lm):
            seconds, replies = _reply_seconds(lm, few)
        return Forecast((averaging + seconds * more_prompts) * points, _scoring(score, few, replies, more_prompts * points))
    exact = preset.search.method == "exact"
    steps = [[n / STEPS for n in step] for step in compositions(len(names), STEPS)]
    pairs: list[tuple[int, str]] = []
    rows: list[int] = []

    def decode() -> None:
        measured = tree(few, max_new_tokens=tokens, mix=preset.search.mix)
        measured.leaves(steps[:1])
        rows.append(measured.rows_read)
        if exact:
            pairs.extend((region.row, region.reply) for region in exact_map(measured).regions)
        else:
            pairs.extend((i, reply) for i, row in enumerate(measured.replies(steps)) for reply in row)
        rows.append(measured.rows_read)

    tree(few[:1], max_new_tokens=1).leaves(steps[:1])  # whatever is done but once
    reading = _seconds(lambda: tree(few, max_new_tokens=1).leaves(steps[:1]))  # prompts, and one token of each
    decoding = max(0.0, _seconds(decode) - reading)
    power = _power(rows[0], rows[1], len(steps))
    more_points = 1.0 if exact else max(1.0, points / len(steps)) ** power
    by_tokens = 1 + (BY_TOKENS - 1) * power / BY_POINTS
    distinct = list(dict.fromkeys(pairs))
    more_replies = more_prompts * more_points * more_tokens ** (by_tokens - 1)
    scoring = _scoring(score, [few[i] for i, _ in distinct], [reply for _, reply in distinct], more_replies)
    return Forecast(more_prompts * (reading + decoding * more_points * more_tokens**by_tokens), scoring)


def forecast_evaluation(lm: LanguageModel, adapters: Sequence[str], prompts: Sequence[str], score: Score | None) -> Forecast:
    """Of the base's, every adapter's and the ensemble's greedy replies to some prompts, scored."""
    few = list(prompts[:PROMPTS])
    seconds, replies = _reply_seconds(lm, few)
    more = len(prompts) / len(few)
    passes = 2 * len(adapters) + 1  # an ensemble reads with every adapter
    return Forecast(seconds * more * passes, _scoring(score, few, replies, more * (len(adapters) + 2)))


def _power(one: int, all_rows: int, points: int) -> float:
    """The power of the number of points by which rows grow, from those of one point and of `points`: 0 where all choose the same words."""
    return min(BY_POINTS, max(0.0, math.log(max(1, all_rows) / max(1, one)) / math.log(points))) if points > 1 else 0.0


def _seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _reply_seconds(lm: LanguageModel, few: list[str]) -> tuple[float, list[str]]:
    """Seconds of whole replies to a few prompts, from short ones: reading the prompts takes as long as it does, tokens are as many more."""
    tokens = min(TOKENS, lm.config.max_new_tokens)
    replies = lm.reply(few[:1], max_new_tokens=1)  # whatever is done but once
    first = _seconds(lambda: lm.reply(few, max_new_tokens=1))
    both = _seconds(lambda: replies.extend(lm.reply(few, max_new_tokens=tokens)))
    later = max(0.0, both - first) / max(1, tokens - 1)
    return first + later * (lm.config.max_new_tokens - 1), replies[1:]


def _points(preset: Preset) -> float:
    """Distinct points that a search decodes, about."""
    config, d = preset.search, len(preset.objectives)
    if config.method != "hierarchical":
        return config.evaluations
    points = config.points_per_axis**d + (config.levels - 1) * (config.points_per_axis**d - 2**d)  # a level has 2^d of the one before
    return points * (1.0 if config.mix == "parameters" else CUBE)


def _scoring(score: Score | None, prompts: Sequence[str], replies: Sequence[str], more: float) -> float | None:
    """Seconds of scoring so many times more replies."""
    if score is None:
        return None
    arguments: tuple[Any, Any] = (list(prompts), list(replies))
    began = time.perf_counter()
    score(*arguments)
    return (time.perf_counter() - began) * more
