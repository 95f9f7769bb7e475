"""How good the reward classifiers are on held-out clients, for several training seeds: `python benchmarks/rewards.py --out TABLE.csv`.

`--quick` trains one seed on few examples. The last line is one JSON object with the worst seed's figures.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import SmallWorldRewards, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.small_world import grammar
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.plots.rewards import roc
from emorl_lite.rewards.probes import equal_form, handed_on
from emorl_lite.rewards.small_world_judge import labelled, read_pairs, train_classifier


def area(scores: torch.Tensor, positive: np.ndarray) -> float:
    return roc(scores.numpy(), positive)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = get_preset("tiny")
    assert isinstance(preset.rewards, SmallWorldRewards)
    options = replace(preset.rewards, classifier_examples=800, classifier_epochs=2) if args.quick else preset.rewards
    preset = replace(preset, rewards=options)
    experiment, world = Experiment(preset, progress=False), grammar()
    start = time.perf_counter()
    train = experiment.read
    reading = time.perf_counter() - start
    held_out = labelled(world, 400 if args.quick else 1600, "test")
    form, handed = equal_form(world, 60 if args.quick else 300), handed_on(world, 60 if args.quick else 300)
    lm = experiment.frozen
    test_read = read_pairs(lm, [e.prompt for e in held_out], [e.reply for e in held_out])
    form_read, handed_read = read_pairs(lm, list(form.prompt), list(form.reply)), read_pairs(lm, list(handed.prompt), list(handed.reply))
    this_client = (form.kind == "this client").to_numpy()
    rows = []
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for objective in ("reflection", "empathy"):
            labels = [getattr(e, objective) for e in experiment.labelled]
            model, seconds = train_classifier(lm, train, labels, options, seed=seed)
            truth = np.array([getattr(e, objective) for e in held_out])
            scores = model.scores_of(test_read)
            row = {"objective": objective, "seed": seed, "auc": area(scores, truth >= 0.7)}
            row |= {"mean_absolute_error": float(np.abs(scores.numpy() - truth).mean()), "seconds": round(seconds, 1)}
            if objective == "reflection":
                row |= {
                    "auc_equal_form": area(model.scores_of(form_read), this_client),
                    "score_handed_on": float(model.scores_of(handed_read).mean()),
                }
            rows.append(row)
    table = pd.DataFrame(rows)
    if args.out:
        save_table(table.round(8), args.out, command="benchmarks/rewards.py", preset=preset.name, reading_seconds=round(reading, 1))
    print(table.to_string(index=False, float_format="%.3f"))
    by_objective = table.groupby("objective")
    worst = {
        "reflection_auc": float(by_objective.auc.min()["reflection"]),
        "reflection_auc_equal_form": float(table.auc_equal_form.min()),
        "reflection_handed_on": float(table.score_handed_on.max()),
        "empathy_auc": float(by_objective.auc.min()["empathy"]),
        "reading_seconds": reading,
        "training_seconds": float(table.seconds.sum()),
    }
    print(json.dumps({k: round(v, 4) for k, v in worst.items()}))


if __name__ == "__main__":
    run_script(main)
