"""The published search, mixing hidden states, parameters and probabilities: the points behind the paper's three cube figures.

python scripts/paper_cubes.py --preset tiny --seeds 3 --out data/results/paper_cubes.csv

The adapters are the reference's; every search is resumable by itself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

import pandas as pd

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.outputs import check_out
from emorl_lite.base.paths import data_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.experiment.experiment import Experiment


@dataclass
class Options:
    """Options."""

    preset: str = "tiny"
    seeds: int = 3
    mixes: tuple[str, ...] = field(default=("hidden", "parameters", "probabilities"))
    """What is mixed."""
    levels: int = 5
    """Levels of the search."""
    out: str = ""
    """CSV file (default: data/results/paper_cubes.csv for tiny, data/<preset>/paper_cubes.csv for others)."""


def points(options: Options) -> pd.DataFrame:
    """One row a point: seed, what, level, weights, scores, mean, note; `test` is the mean score of the chosen weights on test prompts."""
    parts = []
    for seed in range(options.seeds):
        for mix in options.mixes:
            preset = get_preset(options.preset)
            search = replace(preset.search, mix=mix, levels=options.levels)  # type: ignore[arg-type]
            experiment = Experiment(replace(preset, search=search), seed, progress=False, source="reference")
            result = experiment.search()
            confirmed = experiment.confirm(result)
            test = float(confirmed.loc[confirmed["objective"] == "mean", "fresh"].iloc[0])
            parts.append(result.table.drop(columns="seconds").assign(seed=seed, what=mix, test=test))
            print(f"seed {seed}, {mix}: promised {result.table['mean'].max():.3f}, test {test:.3f}", flush=True)
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Search, and write the table."""
    chosen = typed(Options)
    folder = data_root() / ("results" if chosen.preset == "tiny" else chosen.preset)
    target = check_out(chosen.out or str(folder / "paper_cubes.csv"))
    command = "python scripts/paper_cubes.py " + " ".join(sys.argv[1:])
    save_table(points(chosen).round(6), target, command=command, preset=chosen.preset, seeds=chosen.seeds)


if __name__ == "__main__":
    run_script(main)
