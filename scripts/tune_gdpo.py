"""GDPO's KL weight: the factor at which its runs end as far from the base as GRPO's do, measured on validation prompts.

python scripts/tune_gdpo.py
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_out
from emorl_lite.base.paths import repository_root, runs_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.base.ranges import Distinct, Within, check_seed, checked
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.methods.gdpo import GDPO
from emorl_lite.methods.grpo import GRPO
from emorl_lite.study.divergence import sampled_replies


@dataclass
class Options:
    """Options."""

    preset: str = "tiny"
    seeds: tuple[int, ...] = (100, 101)
    """None of them a study's."""
    times: tuple[float, ...] = (3.0, 5.0, 10.0)
    """Factors of the KL weight."""
    runs: Path = runs_root() / "tune_gdpo"
    """Folder of the training runs; what is there is loaded."""
    out: Path = (repository_root() or Path()) / "data" / "results" / "gdpo_beta.csv"
    """CSV file."""

    def check(self) -> None:
        """Raise UserError for options that are wrong, before anything is trained."""
        get_preset(self.preset)
        if not self.seeds or not self.times:
            raise UserError("--seeds, --times: expected at least one value each")
        Distinct().check([str(seed) for seed in self.seeds], f"--seeds {self.seeds}")
        for seed in self.seeds:
            check_seed(seed, "--seeds")
        for times in self.times:
            checked(times, float, [Within(0, 10**6, above=True)], f"--times {times}")
        check_out(str(self.out))


def row(options: Options, seed: int, times: float | None) -> dict[str, Any]:
    """One trained policy (`times` None: GRPO's): its KL to the base and its scores, sampled and greedy, on all validation prompts."""
    experiment = Experiment(get_preset(options.preset), seed, options.runs, progress=False, source="reference")
    bench = experiment.bench(options.runs / f"seed{seed}" / ("grpo" if times is None else f"gdpo-{times:g}"))
    method = GRPO(bench) if times is None else GDPO(bench, times)
    cost = method.prepare()
    prompts = experiment.dataset.prompts("validation")
    replies, divergence = sampled_replies(method, prompts, seed=seed)
    found = {"method": method.name, "kl_times": times, "beta": method.aggregation()["beta"], "seed": seed, "prompts": len(prompts)}
    found |= {"kl": float(divergence.mean()), "sampled_mean": bench.objectives.means(prompts, replies)["mean"]}
    found |= bench.objectives.means(prompts, method.reply(prompts)) | {"seconds": cost.seconds}
    print(found, flush=True)
    return found


def chosen(table: pd.DataFrame) -> float:
    """The factor whose KL, averaged over the seeds, is nearest GRPO's by ratio."""
    kl = table[table.method == "gdpo"].groupby("kl_times")["kl"].mean()
    return float((np.log(kl) - np.log(table[table.method == "grpo"]["kl"].mean())).abs().idxmin())


if __name__ == "__main__":
    torch.set_num_threads(1)  # tiny models: see docs/results.md
    try:
        asked = tyro.cli(Options)
        asked.check()
        found = pd.DataFrame([row(asked, seed, times) for seed in asked.seeds for times in (None, *asked.times)])
        command = " ".join(["python scripts/tune_gdpo.py", *sys.argv[1:]])
        print(f"chosen: {chosen(found):g}")
        save_table(found.round(6), asked.out, command=command, preset=asked.preset, seeds=list(asked.seeds), chosen=chosen(found))
    except UserError as error:
        sys.exit(f"error: {error}")
