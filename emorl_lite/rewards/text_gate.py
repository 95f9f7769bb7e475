"""How good the judges of real text are on held-out clients, what still fools them, and whether two of them can be pleased at once.

`gate` holds them to limits that were set before any judge was trained for them: before reinforcement learning, since a policy finds
whatever a judge gets wrong, and since rewards that exclude each other leave an ensemble nothing to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from emorl_lite.data.datasets import Dataset, Example
from emorl_lite.rewards.text_pairs import EMPTY_WARMTH, KIND, PLAIN, STOCK, asked, cut, empathy_pairs, plain_question
from emorl_lite.rewards.warmth import WARM_HELD_OUT, warmed


class Judge(Protocol):
    """What scores pairs, such as `TextClassifier` or `SecondJudge`."""

    def scores(self, prompts: Sequence[str], replies: Sequence[str]) -> Tensor:
        """Scores [N] in [0, 1]."""


AT_LEAST = {
    "auc high/low": 0.95,
    "auc, no question marks": 0.95,
    "auc, no question marks, equal length": 0.95,
    "auc, no question marks, twelve words": 0.93,
    "auc, all behind a warm sentence": 0.95,
    "both above .5, warm sentence and reflection": 0.60,
}
"""Lowest value that passes. Of twelve words .93: they hold half a reflection."""
BELOW = {
    "mean low": 0.15,
    "mean of the client's words": 0.15,
    "mean of stock phrases": 0.15,
    "mean of warm sentences": 0.15,
    "mean high, to another client": 0.15,
    "mean high, to another client, warm": 0.15,
    "mean high, to a neighbour": 0.20,
    "mean high, to a neighbour, warm": 0.20,
    "mean low, warm": 0.15,
}
"""What must stay below. A neighbour is the client of the next row, in PAIR nearly always one of the same topic."""


def area(high: Sequence[float], low: Sequence[float]) -> float:
    """Chance that a good reply scores above a bad one: the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([1] * len(high) + [0] * len(low), [*high, *low]))


def near_in_length(scores: Mapping[str, Sequence[float]], words: Mapping[str, Sequence[int]], within: int = 3) -> float:
    """The same among pairs of a high and a low reply whose lengths differ by at most so many words; NaN without such a pair."""
    high, low = np.array(scores["high"]), np.array(scores["low"])
    close = np.abs(np.array(words["high"])[:, None] - np.array(words["low"])[None]) <= within
    wins = (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])
    return float((wins * close).sum() / close.sum()) if close.any() else float("nan")


def to_others(clients: Sequence[str], step: int) -> list[str]:
    """For every reply the client `step` distinct clients further, cyclic: somebody else, as long as there are two."""
    distinct = list(dict.fromkeys(clients))
    place = {client: i for i, client in enumerate(distinct)}
    return [distinct[(place[client] + max(1, step)) % len(distinct)] for client in clients]


def _by_quality(examples: Sequence[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.quality, []).append(example)
    return groups


def _scored(judge: Judge, examples: Sequence[Example], replies: Sequence[str]) -> list[float]:
    return judge.scores([e.prompt for e in examples], list(replies)).tolist()


def _mean(judge: Judge, prompts: Sequence[str], replies: Sequence[str]) -> float:
    return float(judge.scores(list(prompts), list(replies)).mean())


def reflection_figures(judge: Judge, data: Dataset, split: str = "test") -> dict[str, float]:
    """Figures of a reflection judge on PAIR's replies of a split: ROC areas as they are and without each shortcut, means by level, and
    what replies score that should not pass."""
    groups = _by_quality(data.examples(split))
    words = {quality: [len(e.reply.split()) for e in group] for quality, group in groups.items()}
    plain, no_marks, short = (
        {quality: _scored(judge, group, [change(e.reply) for e in group]) for quality, group in groups.items()}
        for change in (str, plain_question, lambda reply: cut(plain_question(reply)))
    )
    good = [e.reply for e in groups["high"]]
    clients = [e.prompt for e in groups["high"]]
    return {
        "auc high/low": area(plain["high"], plain["low"]),
        "auc, no question marks": area(no_marks["high"], no_marks["low"]),
        "auc, no question marks, equal length": near_in_length(no_marks, words),
        "auc, no question marks, twelve words": area(short["high"], short["low"]),
        "auc by length alone": area(words["high"], words["low"]),
        **({"auc high/medium": area(plain["high"], plain["medium"])} if "medium" in plain else {}),
        **{f"mean {quality}": float(np.mean(scores)) for quality, scores in plain.items()},
        "mean high, to another client": _mean(judge, to_others(clients, len(set(clients)) // 2), good),
        "mean high, to a neighbour": _mean(judge, to_others(clients, 1), good),
        "mean high, as a question": _mean(judge, clients, [asked(reply) for reply in good]),
        "mean of the client's words": _mean(judge, clients, clients),
        "mean of stock phrases": _mean(judge, [clients[0]] * len(STOCK), STOCK),
    }


def warm_figures(
    reflection: Judge, empathy: Judge, data: Dataset, split: str = "test", sentences: Sequence[str] = WARM_HELD_OUT
) -> dict[str, float]:
    """What warm sentences that no judge has seen change.

    Every high reply of the split stands behind and before every sentence: the share of these that both judges score above .5, and what
    each makes of them. Of all other replies the i-th stands behind or before the i-th sentence (cyclic).
    """
    groups = _by_quality(data.examples(split))
    high = [(e.prompt, e.reply) for e in groups["high"]]
    both, figures = [], {}
    for side, before in (("before", True), ("after", False)):
        composites = [warmed(reply, sentence, before) for _, reply in high for sentence in sentences]
        clients = [client for client, _ in high for _ in sentences]
        scores = np.stack([judge.scores(clients, composites).numpy() for judge in (reflection, empathy)])
        both.append((scores > 0.5).all(0))
        figures[f"both above .5, warm sentence {side}"] = float(both[-1].mean())
        figures[f"reflection above .5, warm sentence {side}"] = float((scores[0] > 0.5).mean())
        figures[f"empathy above .5, warm sentence {side}"] = float((scores[1] > 0.5).mean())
        figures[f"mean high, warm sentence {side}"] = float(scores[0].mean())

    def mixed(replies: Sequence[str]) -> list[str]:
        return [warmed(reply, sentences[i % len(sentences)], i // len(sentences) % 2 == 0) for i, reply in enumerate(replies)]

    warm = {quality: _scored(reflection, groups[quality], mixed([e.reply for e in groups[quality]])) for quality in ("high", "low")}
    clients, good = [client for client, _ in high], mixed([reply for _, reply in high])
    plain_high = _scored(empathy, groups["high"], [reply for _, reply in high])
    return {
        "both above .5, warm sentence and reflection": float(np.concatenate(both).mean()),
        **figures,
        "empathy above .5, reflection alone": float((np.array(plain_high) > 0.5).mean()),
        "auc, all behind a warm sentence": area(warm["high"], warm["low"]),
        "mean low, warm": float(np.mean(warm["low"])),
        "mean high, to another client, warm": _mean(reflection, to_others(clients, len(set(clients)) // 2), good),
        "mean high, to a neighbour, warm": _mean(reflection, to_others(clients, 1), good),
        "mean of warm sentences": _mean(reflection, [clients[0]] * len(sentences), sentences),
    }


def empathy_figures(judge: Judge, file: Path, client: str, limit: int | None = None, split: str = "test") -> dict[str, float]:
    """Figures of an empathy judge on EPITOME's pairs of a split (the first `limit`), and on made replies to a `client`."""
    pairs = empathy_pairs(file, split, made=False)[:limit]
    scores = judge.scores([p.prompt for p in pairs], [p.reply for p in pairs]).numpy()
    reacts = np.array([bool(p.empathy) for p in pairs])
    words = np.array([float(len(p.reply.split())) for p in pairs])

    def mean(replies: Sequence[str]) -> float:
        return _mean(judge, [client] * len(replies), replies)

    return {
        "auc reaction/none": area(scores[reacts].tolist(), scores[~reacts].tolist()),
        "auc by length alone": area(words[reacts].tolist(), words[~reacts].tolist()),
        "mean reaction": float(scores[reacts].mean()),
        "mean none": float(scores[~reacts].mean()),
        "mean of empty warmth": mean(EMPTY_WARMTH),
        "mean of plain replies": mean(PLAIN),
        "mean of kind replies": mean(KIND),
        "mean of “I'm sorry to hear that.”": mean(["I'm sorry to hear that."]),
    }


def gate(figures: Mapping[str, float]) -> pd.DataFrame:
    """A judge's figures beside their limits. Columns: measure, value, limit (in words, empty where there is none), passes (bool or None).

    A figure that has a limit and was not measured does not pass.
    """
    rows = []
    for measure in dict.fromkeys([*figures, *AT_LEAST, *BELOW]):
        value, limit, passes = figures.get(measure, float("nan")), "", None
        if measure in AT_LEAST:
            limit, passes = f"at least {AT_LEAST[measure]:.2f}", bool(value >= AT_LEAST[measure])
        elif measure in BELOW:
            limit, passes = f"below {BELOW[measure]:.2f}", bool(value < BELOW[measure])
        rows.append({"measure": measure, "value": value, "limit": limit, "passes": passes})
    return pd.DataFrame(rows)
