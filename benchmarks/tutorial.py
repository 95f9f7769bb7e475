"""What the tutorial finds, for several seeds: `python benchmarks/tutorial.py --seeds 0 1 2 --out data/results/tiny_seeds.csv`.

Per seed: three PPO adapters, the hierarchical search on validation prompts, and every policy's scores on test prompts that neither training
nor search saw, all decoded greedily with the same token limit. The reward classifiers are trained once; seeds vary the reinforcement
learning. Finished parts under runs/ (or `--runs`) are reused. `--quick` runs one seed with few episodes and a coarse search, in a
temporary folder. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import Preset, SmallWorldRewards, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.small_world import grammar
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.rewards.metrics import evaluation_metrics


def rows_of_seed(experiment: Experiment) -> list[dict[str, Any]]:
    """All policies of one seed on the test prompts."""
    preset, names = experiment.preset, list(experiment.preset.objectives)
    start = time.perf_counter()
    logs = experiment.train_all()
    training = logs.groupby("objective").agg(
        points=("episodes", "last"), seconds=("seconds", "last"), first=("reward", "first"), last=("reward", "last"), kl=("kl", "last")
    )
    result = experiment.search()
    search_replies = result.evaluated * preset.search.validation_prompts
    clients = {c.text: c for c in grammar().clients(preset.data.test_prompts, "test")}
    prompts = experiment.dataset.prompts("test")
    metrics = evaluation_metrics(experiment.frozen)
    total, longest = int(training.points.sum()), int(training.points.max())

    def row(policy: str, replies: list[str], points: int, parallel: int, weights: Sequence[float] | None = None) -> dict[str, Any]:
        truth = [grammar().truth(clients[p], r) for p, r in zip(prompts, replies, strict=True)]
        measured = {name: float(metric(prompts, replies).mean()) for name, metric in metrics.items()}
        return experiment.score(policy, prompts, replies) | {
            "true_reflection": sum(t[0] for t in truth) / len(truth),
            "true_empathy": sum(t[1] for t in truth) / len(truth),
            **measured,
            "favourite_share": pd.Series(replies).value_counts(normalize=True).iloc[0],
            **{f"w_{n}": w for n, w in zip(names, weights or [float("nan")] * len(names), strict=True)},
            "data_points": points,
            "data_points_parallel": parallel,
            "test_prompts": len(prompts),
        }

    rows = [row("base", experiment.policy_replies("base", prompts), 0, 0)]
    for name in names:
        points = int(training.points[name])
        sampled = {"sampled_first": training["first"][name], "sampled_last": training["last"][name], "kl_last": training.kl[name]}
        rows.append(row(name, experiment.policy_replies(name, prompts), points, points) | sampled)
    ensemble_row = row("ensemble", experiment.ensemble(result.best).reply(prompts), total, longest, result.best)
    validation = sum(result.best_scores.values()) / len(names)
    rows.append(
        ensemble_row | {"validation_mean": validation, "search_replies": search_replies, "search_seconds": result.table.seconds.sum()}
    )
    uniform = (1 / len(names),) * len(names)
    rows.append(row("ensemble, uniform weights", experiment.ensemble(uniform).reply(prompts), total, longest, uniform))
    mixture = experiment.ensemble(result.best, mix="probabilities")
    rows.append(row("probabilities", mixture.reply(prompts), total, longest, result.best))
    for how in ("exact", "soup"):
        average_parameters(experiment.lm, names, result.best, name="merged", how=how)  # type: ignore[arg-type]
        rows.append(row(f"parameters ({how})", experiment.policy_replies("merged", prompts), total, longest, result.best))
    seconds = round(time.perf_counter() - start, 1)
    return [r | {"training_seconds": float(training.seconds.sum()), "seed_seconds": seconds} for r in rows]


def verdicts(table: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """The issue's floors, as numbers."""
    out: dict[str, Any] = {"seeds": sorted(int(s) for s in table.seed.unique())}
    gains: list[tuple[float, float]] = []
    conflicts, leads = [], []
    for _, part in table.groupby("seed"):
        by_policy = {str(row["policy"]): row for row in part.to_dict("records")}
        gains += [(by_policy[n][n] - by_policy["base"][n], by_policy[n][n]) for n in names]
        conflicts += [any(by_policy[o][p] > by_policy[n][p] for o in names for p in names if n not in (o, p)) for n in names]
        leads.append(float(by_policy["ensemble"]["mean"] - max(by_policy[n]["mean"] for n in ("base", *names))))
    out["own_gain_min"] = round(min(gain for gain, _ in gains), 3)
    out["own_gain_reached"] = all(gain >= 0.2 or score >= 0.9 for gain, score in gains)
    out["every_single_is_beaten_elsewhere"] = all(conflicts)
    out["ensemble_lead"] = [round(x, 3) for x in leads]
    out["mean_by_policy"] = {k: round(float(v), 3) for k, v in table.groupby("policy", sort=False)["mean"].mean().items()}
    return out


def quick(preset: Preset) -> Preset:
    """A few steps of everything."""
    assert isinstance(preset.rewards, SmallWorldRewards)
    return replace(
        preset,
        ppo=replace(preset.ppo, episodes=128, validate_every=0),
        rewards=replace(preset.rewards, classifier_examples=600, classifier_epochs=1),
        search=replace(preset.search, levels=1, validation_prompts=8),
        data=replace(preset.data, train_prompts=256, validation_prompts=8, test_prompts=32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--runs", type=Path, help="folder of the runs, if not the usual one")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = get_preset(args.preset)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) if args.quick else args.runs
        seeds = args.seeds[:1] if args.quick else args.seeds
        chosen = quick(preset) if args.quick else preset
        rows = [row for seed in seeds for row in rows_of_seed(Experiment(chosen, seed, root))]
    table = pd.DataFrame(rows)
    if args.out:
        save_table(table.round(8), args.out, command=f"benchmarks/tutorial.py --seeds {' '.join(map(str, seeds))}", preset=preset.name)
    columns = ["policy", "seed", *preset.objectives, "mean", "finished", "true_reflection", "true_empathy"]
    print(table[columns].to_string(index=False, float_format="%.3f"))
    print(json.dumps(verdicts(table, preset.objectives)))


if __name__ == "__main__":
    run_script(main)
