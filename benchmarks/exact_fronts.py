"""The front of all settings beside that of a sweep, for every method of the small study that has an exact map.

    python benchmarks/exact_fronts.py --seeds 5 --out data/results

Trains what is missing under --runs (about 4 minutes a seed on one core), with the study's budget, prompts and settings, and writes
methods_exact_fronts.csv: a row a method and seed, as `emorl_lite.study.beside_sweep` says.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.experiment.options import study_run
from emorl_lite.methods import make_method
from emorl_lite.study import beside_sweep

METHODS = ("emorl", "mod-forward", "linear-pool", "dera", "clp-logit")
"""mod-reverse has emorl's replies, word for word."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    preset, rows = get_preset(asked.preset), []
    for seed in range(asked.seeds):
        experiment = Experiment(preset, seed, asked.runs, progress=False)
        bench, test = experiment.bench(own_runs=False), experiment.dataset.prompts("test")
        sweep_prompts, test_prompts = test[: preset.study.sweep_prompts], test[: preset.study.test_prompts]
        for name in asked.methods:
            method = make_method(name, bench)
            method.prepare()
            row = beside_sweep(method, bench.validation_prompts, sweep_prompts, test_prompts, preset.study.weight_steps)
            rows.append({"seed": seed} | row)
            print(" ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rows[-1].items()))
        if asked.out:
            command = f"python benchmarks/exact_fronts.py --preset {preset.name} --seeds {asked.seeds} --out {asked.out.name}"
            facts = {"command": command, "preset": preset.name, "seeds": seed + 1, "study": asdict(preset.study)}
            facts |= {"ppo": asdict(study_run(preset)), "of": "adapters trained anew by this command, not those of methods.csv"}
            save_table(pd.DataFrame(rows).round(6), asked.out / "methods_exact_fronts.csv", **facts)


if __name__ == "__main__":
    run_script(main)
