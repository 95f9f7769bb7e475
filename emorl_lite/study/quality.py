"""What a method's replies are like at its own setting: all objectives, the paper's evaluation metrics, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from emorl_lite.methods.base import Method
from emorl_lite.rewards.metrics import Metric, words
from emorl_lite.rewards.objectives import finished
from emorl_lite.study.clients import CLIENTS


def reply_quality(
    method: Method, setting: Sequence[float], sets: Mapping[str, Sequence[str]], metrics: Mapping[str, Metric]
) -> pd.DataFrame:
    """One row a test set: mean scores of greedy replies by every objective and metric, the share that ended, and mean words."""
    rows = []
    for name, prompts in sets.items():
        (replies,) = method.replies_at(prompts, [setting])
        row: dict[str, Any] = {"method": method.name, "set": name, "n": len(prompts)}
        row |= method.bench.objectives.means(prompts, replies)
        row |= {metric: float(score(list(prompts), replies).mean()) for metric, score in metrics.items()}
        row |= {"finished": float(finished(replies).mean()), "words": sum(len(words(reply)) for reply in replies) / len(replies)}
        rows.append(row)
    return pd.DataFrame(rows)


def samples(method: Method, setting: Sequence[float], prompts: Sequence[str] = CLIENTS) -> pd.DataFrame:
    """Greedy replies to these prompts (by default the project's own client statements), with their scores."""
    (replies,) = method.replies_at(prompts, [setting])
    scores = method.bench.objectives(prompts, replies)
    columns = dict(zip(method.bench.names, scores.T.tolist(), strict=True))
    return pd.DataFrame({"method": method.name, "prompt": list(prompts), "reply": replies, **columns, "mean": scores.mean(1).tolist()})
