"""How good the real reward classifiers are on held-out text, and what still fools them.

    python benchmarks/real_rewards.py [--out data/smollm2/reward_classifiers.csv] [--quick]

Reflection: area under the ROC curve of PAIR's high- against low-quality replies to test statements, as they are, without question marks,
among pairs of nearly equal length, and with all replies cut to twelve words; the means by level; and what replies score that should not
pass (handed to another client, copied, stock phrases). Empathy: EPITOME's test pairs with a reaction against those without. The last line
is one JSON object. `scripts/check_rewards.py` holds the same figures, and those of warm replies, to limits.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import tyro

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.datasets import load_dataset
from emorl_lite.data.downloads import find_file
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.rewards.text_gate import empathy_figures, reflection_figures
from emorl_lite.rewards.text_rewards import EPITOME


@dataclass
class Options:
    """Options."""

    preset: str = "smollm2"
    out: str = ""
    """CSV file for the table."""
    quick: bool = False
    """Ten statements and a hundred pairs."""


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
        results = {"reflection": reflection_figures(judges["reflection"], data)}
        results["empathy"] = empathy_figures(judges["empathy"], find_file(EPITOME), client, 100 if options.quick else None)
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
    run_script(main)
