"""How good the real reward classifiers are on held-out text, and what still fools them.

    python benchmarks/real_rewards.py [--out data/smollm2/reward_classifiers.csv] [--quick]

Reflection: area under the ROC curve of PAIR's high- against low-quality replies to test statements, as they are, without question marks,
among pairs of nearly equal length, and with all replies cut to twelve words; the means by level; and what replies score that should not
pass (handed to another client, copied, stock phrases). Empathy: EPITOME's test pairs with a reaction against those without. The last line
is one JSON object.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from sklearn.metrics import roc_auc_score

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.datasets import Dataset, load_dataset
from emorl_lite.data.downloads import find_file
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.rewards.text_judge import TextClassifier
from emorl_lite.rewards.text_pairs import EMPTY_WARMTH, KIND, PLAIN, STOCK, asked, cut, empathy_pairs, plain_question
from emorl_lite.rewards.text_rewards import EPITOME, reply_qualities


@dataclass
class Options:
    """Options."""

    preset: str = "smollm2"
    out: str = ""
    """CSV file for the table."""
    quick: bool = False
    """Ten statements and a hundred pairs."""


def auc(high: list[float], low: list[float]) -> float:
    """Chance that a good reply scores above a bad one."""
    return float(roc_auc_score([1] * len(high) + [0] * len(low), [*high, *low]))


def near_in_length(scores: dict[str, list[float]], words: dict[str, list[int]], within: int = 3) -> float:
    """The same among pairs whose lengths differ by at most so many words."""
    high, low = np.array(scores["high"]), np.array(scores["low"])
    close = np.abs(np.array(words["high"])[:, None] - np.array(words["low"])[None]) <= within
    wins = (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])
    return float((wins * close).sum() / close.sum())


def without_shortcuts(reply: str) -> str:
    """Twelve words and no question mark."""
    return cut(plain_question(reply))


def reflection_rows(classifier: TextClassifier, data: Dataset) -> dict[str, float]:
    """The figures of the reflection classifier on the test split."""
    plain, no_marks = reply_qualities(classifier, data, "test"), reply_qualities(classifier, data, "test", plain_question)
    short = reply_qualities(classifier, data, "test", without_shortcuts)
    examples = data.examples("test")
    words = {quality: [len(e.reply.split()) for e in examples if e.quality == quality] for quality in plain}
    good = [e for e in examples if e.quality == "high"]
    clients = [e.prompt for e in good]
    other_clients = clients[len(clients) // 2 :] + clients[: len(clients) // 2]

    def mean(prompts: list[str], replies: list[str]) -> float:
        return float(classifier.scores(prompts, replies).mean())

    return {
        "auc high/low": auc(plain["high"], plain["low"]),
        "auc, no question marks": auc(no_marks["high"], no_marks["low"]),
        "auc, no question marks, equal length": near_in_length(no_marks, words),
        "auc, no question marks, twelve words": auc(short["high"], short["low"]),
        "auc by length alone": auc(list(map(float, words["high"])), list(map(float, words["low"]))),
        "auc high/medium": auc(plain["high"], plain["medium"]),
        "mean high": float(np.mean(plain["high"])),
        "mean medium": float(np.mean(plain["medium"])),
        "mean low": float(np.mean(plain["low"])),
        "mean high, to another client": mean(other_clients, [e.reply for e in good]),
        "mean high, as a question": mean(clients, [asked(e.reply) for e in good]),
        "mean of the client's words": mean(clients, clients),
        "mean of stock phrases": mean([clients[0]] * len(STOCK), list(STOCK)),
    }


def empathy_rows(classifier: TextClassifier, limit: int | None, client: str) -> dict[str, float]:
    """The figures of the empathy classifier on EPITOME's test split."""
    pairs = empathy_pairs(find_file(EPITOME), "test", made=False)[:limit]
    scores = classifier.scores([p.prompt for p in pairs], [p.reply for p in pairs]).numpy()
    has_reaction = np.array([bool(p.empathy) for p in pairs])

    def mean(replies: tuple[str, ...]) -> float:
        return float(classifier.scores([client] * len(replies), list(replies)).mean())

    return {
        "auc reaction/none": auc(scores[has_reaction].tolist(), scores[~has_reaction].tolist()),
        "auc by length alone": auc(
            *[[float(len(p.reply.split())) for p, t in zip(pairs, has_reaction, strict=True) if t == k] for k in (True, False)]
        ),
        "mean reaction": float(scores[has_reaction].mean()),
        "mean none": float(scores[~has_reaction].mean()),
        "mean of empty warmth": mean(EMPTY_WARMTH),
        "mean of plain replies": mean(PLAIN),
        "mean of kind replies": mean(KIND),
        "mean of “I'm sorry to hear that.”": mean(("I'm sorry to hear that.",)),
    }


def main() -> int:
    """Measure, print, write."""
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(1)
    try:
        preset = get_preset(options.preset)
        experiment = Experiment(preset, progress=False)
        data = load_dataset(replace(preset.data, max_words=0, test_prompts=10 if options.quick else 10_000))
        judges: dict[str, Any] = {name: experiment.classifier(name) for name in ("reflection", "empathy")}
        client = data.prompts("test")[0]
        results = {"reflection": reflection_rows(judges["reflection"], data)}
        results["empathy"] = empathy_rows(judges["empathy"], 100 if options.quick else None, client)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = pd.DataFrame([{"objective": o, "measure": m, "value": v} for o, rows in results.items() for m, v in rows.items()])
    print(table.to_string(index=False, float_format="%.3f"))
    if options.out:
        save_table(
            table.round(4), Path(options.out), command="python benchmarks/real_rewards.py " + " ".join(sys.argv[1:]), preset=preset.name
        )
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
