"""Which share of the layers may go without adapters: the same training with LoRA on all layers, and on the upper ones alone.

    python benchmarks/layers.py [--quick] [--seeds 0 1 2] [--layers all upper-half 1] [--runs FOLDER] [--out TABLE.csv]

For every objective of the tiny preset, seed and share: the adapter is trained as the preset says, and scored on the test clients, greedily
and with four samples each, with its KL to the base; then the three of a seed are mixed at equal weights. What is trained is kept under
`--runs`, and a run that was stopped goes on. The last line is one JSON object: by how much each share differs from all layers in the mean
over seeds and objectives, with the largest difference to the worse, and what it costs in CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import Preset, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.experiment.options import own_run
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.policy import AdapterPolicy
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import collect, score

SAMPLES = 4


def rows_of(preset: Preset, experiment: Experiment, seed: int, runs: Path) -> list[dict[str, Any]]:
    """One row an objective, and one of the three together, for adapters on the layers that the preset says."""
    lm, test = LanguageModel.load(preset.model), experiment.dataset.prompts("test")
    about, rows = {"layers": preset.model.layers, "seed": seed}, []
    for objective in preset.objectives:
        started, reward = time.process_time(), experiment.rewards[objective]
        config = replace(own_run(preset, objective), validate_every=0)
        folder = runs / preset.model.layers / f"seed{seed}" / objective
        PPOTrainer(lm, objective, reward, experiment.dataset.prompts("train"), config, folder=folder, seed=seed, progress=False).train()
        seconds = time.process_time() - started
        lm.use(objective)
        torch.manual_seed(seed)
        rollout = collect(lm, lm.encode(test), SAMPLES, 1.0, 64)
        prompts = [prompt for prompt in test for _ in range(SAMPLES)]
        greedy = AdapterPolicy(lm, objective).greedy(test, lm.encode(test))
        kl = float((rollout.logp - rollout.ref_logp).sum(1).mean())
        scores = {"greedy": float(score(reward, test, greedy).mean()), "sampled": float(score(reward, prompts, rollout.texts).mean())}
        rows.append(about | {"objective": objective, **scores, "kl": kl, "cpu_seconds": seconds})
    mixed = EnsembleLM(lm, list(preset.objectives)).reply(test)
    together = sum(experiment.rewards.means(test, mixed).values()) / len(preset.objectives)
    return [*rows, about | {"objective": "ensemble at equal weights", "greedy": together}]


def differences(table: pd.DataFrame) -> dict[str, Any]:
    """Of each share from the first one: means over seeds and objectives, the largest loss, and the ratio of CPU seconds."""
    by = table.set_index(["layers", "seed", "objective"])
    first, *others = table.layers.unique()
    found: dict[str, Any] = {}
    for layers in others:
        change = by.loc[layers] - by.loc[first]
        found[f"{layers}_minus_{first}"] = {key: round(float(change[key].mean()), 4) for key in ("greedy", "sampled", "kl")}
        found[f"{layers}_largest_loss"] = round(float(-change[["greedy", "sampled"]].min().min()), 4)
        found[f"{layers}_cpu"] = round(float(by.loc[layers].cpu_seconds.sum() / by.loc[first].cpu_seconds.sum()), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--layers", nargs="+", default=["all", "upper-half", "1"])
    parser.add_argument("--runs", type=Path, default=Path("runs/layers"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, two steps a run, few clients")
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = get_preset("tiny")
    if args.quick:
        preset = replace(preset, ppo=replace(preset.ppo, episodes=128), data=replace(preset.data, train_prompts=128, test_prompts=16))
        args.seeds, args.runs = args.seeds[:1], args.runs / "quick"
    experiment = Experiment(preset, progress=False)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for layers in args.layers:
            rows += rows_of(replace(preset, model=replace(preset.model, layers=layers)), experiment, seed, args.runs)
            print(pd.DataFrame(rows[-len(preset.objectives) - 1 :]).to_string(index=False, float_format="%.3f"), flush=True)
    table = pd.DataFrame(rows)
    if args.out:
        save_table(table.round(6), args.out, command="python benchmarks/layers.py " + " ".join(sys.argv[1:]), preset=preset.name)
    print(json.dumps(differences(table)))


if __name__ == "__main__":
    run_script(main)
