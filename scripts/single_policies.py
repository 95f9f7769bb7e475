"""What each single-objective adapter is worth on held-out prompts, decoded greedily and sampled: the base beside every adapter.

python scripts/single_policies.py --preset smollm2 --seeds 2
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.outputs import check_out
from emorl_lite.base.paths import shipped
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.experiment.experiment import Experiment


@dataclass
class Options:
    """Options."""

    preset: str = "smollm2"
    seeds: int = 2
    prompts: int = 0
    """Test prompts (0: all)."""
    out: str = ""
    """CSV file (default: data/<preset>/single_policies.csv)."""


def rows(options: Options) -> pd.DataFrame:
    """One row a policy, seed and decoding: every objective's mean score, their mean, and the most frequent reply with its share."""
    records: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        experiment = Experiment(get_preset(options.preset), seed, progress=False)
        experiment.load_adapters()
        prompts = experiment.dataset.prompts("test")[: options.prompts or None]
        for policy in ("base", *experiment.preset.objectives):
            for decoding in ("greedy", "sampled"):
                torch.manual_seed(seed)
                replies = experiment.policy_replies(policy, prompts, do_sample=decoding == "sampled")
                share = pd.Series(replies).value_counts(normalize=True)
                row = experiment.score(policy, prompts, replies) | {"decoding": decoding, "n": len(prompts)}
                often = float(share.iloc[0])  # a reply that is given once may say a client's words again
                records.append(row | {"favourite": share.index[0] if often > 0.05 else "", "its_share": often})
                print(
                    f"seed {seed}, {policy}, {decoding}: " + ", ".join(f"{o} {row[o]:.3f}" for o in experiment.preset.objectives),
                    flush=True,
                )
    return pd.DataFrame(records)


def main() -> None:
    """Score, and write the table."""
    chosen = typed(Options)
    target = check_out(chosen.out or str(shipped(chosen.preset) / "single_policies.csv"))
    command = "python scripts/single_policies.py " + " ".join(sys.argv[1:])
    save_table(rows(chosen).round(4), target, command=command, preset=chosen.preset, seeds=chosen.seeds)


if __name__ == "__main__":
    run_script(main)
