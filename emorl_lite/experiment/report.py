"""What policies are worth: their replies, and tables of mean scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from emorl_lite.base.files import write_json
from emorl_lite.base.provenance import replace_table
from emorl_lite.base.texts import check_pairs, check_texts
from emorl_lite.data.datasets import Dataset
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.lm.examination import examine
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.objectives import Guarded, RewardSet, finished


def policy_replies(lm: LanguageModel, policy: str, prompts: Sequence[str], **options: Any) -> list[str]:
    """Replies of `base` or of one adapter, greedy unless the options to generate() say otherwise.

    Raises UserError for a model whose replies in a batch are not what it says to one prompt (`examine`).
    """
    examine(lm)
    if policy == "base":
        with lm.without_adapters():
            return lm.reply(prompts, **options)
    lm.use(policy)
    return lm.reply(prompts, **options)


def score(
    rewards: RewardSet,
    seed: int,
    policy: str,
    prompts: Sequence[str],
    replies: Sequence[str],
    others: Mapping[str, Guarded] = MappingProxyType({}),
) -> dict[str, Any]:
    """One row: mean score per objective, their mean, the share of replies that ended, and the mean score of `others` by name."""
    prompts, replies = check_pairs(prompts, replies, "scores")
    means = rewards.means(prompts, replies)
    ended = float(finished(replies).mean())
    row = {"policy": policy, "seed": seed, **means, "mean": sum(means.values()) / len(means), "finished": ended}
    return row | {name: float(other(prompts, replies).mean()) for name, other in others.items()}


def summary(
    lm: LanguageModel,
    rewards: RewardSet,
    seed: int,
    adapters: Sequence[str],
    ensemble: EnsembleLM | None,
    prompts: Sequence[str],
    others: Mapping[str, Guarded] = MappingProxyType({}),
) -> pd.DataFrame:
    """Scores of base, adapters and, if there is one, the ensemble on some prompts, all decoded greedily. Columns as `score` gives them."""
    prompts = check_texts(prompts, "prompt")
    rows = [score(rewards, seed, name, prompts, policy_replies(lm, name, prompts), others) for name in ("base", *adapters)]
    if ensemble is not None:
        rows.append(score(rewards, seed, "ensemble", prompts, ensemble.reply(prompts), others))
    return pd.DataFrame(rows)


def replies_by_quality(
    rewards: RewardSet, seed: int, dataset: Dataset, others: Mapping[str, Guarded] = MappingProxyType({}), split: str = "test"
) -> pd.DataFrame:
    """Scores of the data's own replies of a split, a row a quality. Columns as `score` gives them, and n."""
    rows = []
    examples = dataset.examples(split)
    for quality in dict.fromkeys(e.quality for e in examples):
        group = [e for e in examples if e.quality == quality]
        name = f"replies, {quality}" if quality else "replies"
        row = score(rewards, seed, name, [e.prompt for e in group], [e.reply for e in group], others)
        rows.append(row | {"n": len(group)})
    return pd.DataFrame(rows)


def save_summary(home: Path, table: pd.DataFrame, weights: Mapping[str, float], **facts: Any) -> None:
    """Keep the closing tables of a seed where `python -m emorl_lite tutorial` reads them."""
    replace_table(table, home / "summary.csv", **facts)
    write_json(home / "search.json", {"weights": dict(weights)})
