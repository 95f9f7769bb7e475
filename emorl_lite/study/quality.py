"""What a method's replies are like at its own setting: all objectives, the paper's evaluation metrics, and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from emorl_lite.methods.base import Method
from emorl_lite.rewards.metrics import Metric, words
from emorl_lite.rewards.objectives import finished
from emorl_lite.study.clients import CLIENTS
from emorl_lite.study.divergence import sampled_replies


def reply_quality(
    method: Method, setting: Sequence[float], sets: Mapping[str, Sequence[str]], metrics: Mapping[str, Metric], each: int = 1
) -> pd.DataFrame:
    """Two rows a test set, of greedy replies and of `each` sampled ones a prompt: mean scores by every objective and metric, the share that
    ended, mean words, and `most_frequent`, the share of the reply that is given most often (what a policy that found one says to all)."""
    rows = []
    for name, prompts in sets.items():
        (greedy,) = method.replies_at(prompts, [setting])
        many = [prompt for prompt in prompts for _ in range(each)]
        drawn = sampled_replies(method, prompts, tuple(setting) or None, seed=method.bench.seed, each=each)[0]
        for decoding, asked, replies in (("greedy", list(prompts), list(greedy)), ("sampled", many, drawn)):
            row: dict[str, Any] = {"method": method.name, "set": name, "decoding": decoding, "n": len(prompts)}
            row |= method.bench.objectives.means(asked, replies)
            row |= {metric: float(score(asked, replies).mean()) for metric, score in metrics.items()}
            row |= {"finished": float(finished(replies).mean()), "words": sum(len(words(reply)) for reply in replies) / len(replies)}
            rows.append(row | {"most_frequent": Counter(replies).most_common(1)[0][1] / len(replies)})
    return pd.DataFrame(rows)


def samples(method: Method, setting: Sequence[float], prompts: Sequence[str] = CLIENTS) -> pd.DataFrame:
    """Greedy replies to these prompts (by default the project's own client statements), with their scores."""
    (replies,) = method.replies_at(prompts, [setting])
    scores = method.bench.objectives(prompts, replies)
    columns = dict(zip(method.bench.names, scores.T.tolist(), strict=True))
    return pd.DataFrame({"method": method.name, "prompt": list(prompts), "reply": replies, **columns, "mean": scores.mean(1).tolist()})
