"""GDPO's KL weight: the factor at which its runs end as far from the base as GRPO's do, measured on validation prompts.

python scripts/tune_gdpo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import runs_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.ranges import Within, checked
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.methods.gdpo import GDPO
from emorl_lite.methods.grpo import GRPO
from emorl_lite.study.tuning import Tuning, judged


@dataclass
class Options(Tuning):
    """Options."""

    table = "gdpo_beta.csv"
    seeds: tuple[int, ...] = (100, 101)
    """None of them a study's."""
    times: tuple[float, ...] = (3.0, 5.0, 10.0)
    """Factors of the KL weight."""
    runs: Path = runs_root() / "tune_gdpo"
    """Folder of the training runs; what is there is loaded."""

    def check(self) -> Path:
        """Where the table goes. Raises UserError for options that are wrong, before anything is trained."""
        if not self.times:
            raise UserError("--times: expected at least one value")
        for times in self.times:
            checked(times, float, [Within(0, 10**6, above=True)], f"--times {times}")
        return super().check()


def row(options: Options, seed: int, times: float | None) -> dict[str, Any]:
    """One trained policy (`times` None: GRPO's): its KL to the base and its scores, sampled and greedy, on all validation prompts."""
    experiment = Experiment(get_preset(options.preset), seed, options.runs, progress=False, source="reference")
    bench = experiment.bench(options.runs / f"seed{seed}" / ("grpo" if times is None else f"gdpo-{times:g}"))
    method = GRPO(bench) if times is None else GDPO(bench, times)
    cost = method.prepare()
    prompts = experiment.dataset.prompts("validation")
    kl, sampled, greedy = judged(method, prompts)
    found = {"method": method.name, "kl_times": times, "beta": method.aggregation()["beta"], "seed": seed, "prompts": len(prompts)}
    found |= {"kl": kl, "sampled_mean": sampled["mean"], **greedy, "seconds": cost.seconds}
    print(found, flush=True)
    return found


def chosen(table: pd.DataFrame) -> float:
    """The factor whose KL, averaged over the seeds, is nearest GRPO's by ratio."""
    kl = table[table.method == "gdpo"].groupby("kl_times")["kl"].mean()
    return float((np.log(kl) - np.log(table[table.method == "grpo"]["kl"].mean())).abs().idxmin())


def main() -> None:
    """Train what is missing, and write the table."""
    asked = typed(Options, __doc__)
    target = asked.check()
    torch.set_num_threads(1)  # tiny models: see docs/results.md
    found = pd.DataFrame([row(asked, seed, times) for seed in asked.seeds for times in (None, *asked.times)])
    print(f"chosen: {chosen(found):g}")
    asked.save(found.round(6), target, chosen(found))


if __name__ == "__main__":
    run_script(main)
