"""Make the reference run of the tiny preset, emorl_lite/assets/tiny: `python scripts/make_reference.py` (`make reference`).

Classifiers, and adapters of three seeds, in float16, with their logs: what the notebooks read, so that a reader sees what the page says.
The same is trained on other instruction sets of this processor, which is how another machine is had on one: their rounding differs, a
sampled word follows, and the learning amplifies it. Only their scores are kept, as the spread that a reader's own run is compared with;
a set that gives what another gave (on a processor without AVX-512, "native" is "avx2") is no further run and is left out.

    emorl_lite/assets/tiny/classifiers/<objective>/   classifier.safetensors, classifier.json, losses.csv
    emorl_lite/assets/tiny/seed<k>/<objective>/       adapter, done.json, log.csv
    emorl_lite/assets/tiny/policies.csv               scores of every policy by machine and seed; in data/results/tiny_seeds.csv, native
    emorl_lite/assets/tiny/classifiers.csv            what the classifiers are worth on held-out replies, by machine and training seed
    README.md                                         its table of the seeds

Finished parts under runs/reference/<machine>/ are reused, so the command goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from publish_study import ADAPTER, CLASSIFIER, copy

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import ASSETS, data_root, runs_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.training.run_folder import seal

MACHINES: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
"""Instruction sets by the environment that chooses them."""
ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
POLICIES = {
    "base": "base model",
    "reflection": "trained on reflection",
    "empathy": "trained on empathy",
    "fluency": "trained on fluency",
    "ensemble": "hidden-state ensemble, weights found",
    "ensemble, uniform weights": "hidden-state ensemble, uniform weights",
    "parameters (exact)": "parameters averaged exactly, same weights",
    "parameters (soup)": "parameters averaged as a soup, same weights",
    "probabilities": "probabilities mixed, same weights",
}
"""The README's table, from top to bottom."""


@dataclass
class Options:
    """Options."""

    seeds: int = 3
    """Seeds 0 .. seeds - 1."""
    machines: tuple[str, ...] = tuple(MACHINES)
    """Instruction sets; the first one's adapters become the reference."""
    runs: str = ""
    """Folder of the runs (default: reference/ among the runs)."""


def measure(machine: str, folder: Path, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and score everything on one instruction set: the tables of policies and of classifiers."""
    for program, options in (("tutorial", ["--runs", str(folder)]), ("rewards", [])):
        table = folder / f"{program}.csv"
        if not table.is_file():
            command = [sys.executable, str(BENCHMARKS / f"{program}.py"), "--seeds", *map(str, range(seeds)), "--out", str(table), *options]
            print(f"{machine}: {program}", flush=True)
            completed = subprocess.run(command, env={**os.environ, **MACHINES[machine]}, stdout=subprocess.DEVNULL, check=False)
            if completed.returncode:
                raise UserError(f"{machine}: benchmarks/{program}.py failed")
    tables = [pd.read_csv(folder / f"{name}.csv") for name in ("tutorial", "rewards")]
    return tables[0].assign(machine=machine), tables[1].assign(machine=machine)


def distinct(measured: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Without the machines whose policies score exactly as those of an earlier one: the same draw is no spread."""
    distinct_results: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for policies, judged in measured:
        scores = [table[0].filter(regex="^(?!machine|.*seconds)") for table in (*distinct_results, (policies, judged))]
        if not any(scores[-1].equals(earlier) for earlier in scores[:-1]):
            distinct_results.append((policies, judged))
    return distinct_results


def publish(runs: Path, target: Path, seeds: int) -> None:
    """Copy one machine's classifiers and adapters into the repository."""
    preset = get_preset("tiny")
    home = runs / preset.name
    for objective in ("reflection", "empathy"):
        copy(home / "classifiers" / objective, target / "classifiers" / objective, CLASSIFIER)
    for seed in range(seeds):
        for objective in preset.objectives:
            copy(home / f"seed{seed}" / objective, target / f"seed{seed}" / objective, ADAPTER)
    for file in target.rglob("log.csv"):  # seconds and rates stay as they are; six digits are enough for curves
        pd.read_csv(file).round(6).to_csv(file, index=False)
        seal(file.parent)


def readme_table(seeds: pd.DataFrame) -> str:
    """The README's table: mean ± standard deviation over seeds of every policy's scores, without leading zeros."""
    columns = ["reflection", "empathy", "fluency", "mean"]
    lines = ["| policy | " + " | ".join(columns) + " |", "|---" * 5 + "|"]
    for policy, name in POLICIES.items():
        of = seeds[seeds.policy == policy]
        cells = [f"{of[c].mean():.3f} ± {of[c].std():.3f}".replace("0.", ".") for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def update_readme(seeds: pd.DataFrame) -> None:
    """Put the table into the README, where the old one stands."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    start = text.index("| policy | reflection |")
    path.write_text(text[:start] + readme_table(seeds) + text[text.index("\n\n", start) :], encoding="utf-8")


def main(options: Options) -> None:
    unknown = [name for name in options.machines if name not in MACHINES]
    if unknown or not options.machines:
        raise UserError(f"--machines {' '.join(unknown) or '(none)'}: expected some of {', '.join(MACHINES)}")
    root = Path(options.runs) if options.runs else runs_root() / "reference"
    measured = distinct([measure(machine, root / machine, options.seeds) for machine in options.machines])
    target, provenance = ASSETS / "tiny", {"command": "python scripts/make_reference.py", "preset": "tiny", "seeds": options.seeds}
    publish(root / options.machines[0], target, options.seeds)
    kept_machines = [str(policies.machine.iloc[0]) for policies, _ in measured]
    duplicates = [name for name in options.machines if name not in kept_machines]
    about = {**provenance, "machines": {name: MACHINES[name] for name in kept_machines}, "gave the same as another": duplicates}
    policies = pd.concat([policies for policies, _ in measured], ignore_index=True)
    save_table(policies.round(8), target / "policies.csv", **about)
    save_table(pd.concat([judged for _, judged in measured], ignore_index=True).round(8), target / "classifiers.csv", **about)
    native = policies[policies.machine == options.machines[0]].drop(columns="machine")
    save_table(native.round(8), data_root() / "results" / "tiny_seeds.csv", **provenance)
    update_readme(native.round(8))
    sizes = {path: path.stat().st_size for path in target.rglob("*") if path.is_file()}
    print(json.dumps({"files": len(sizes), "bytes": sum(sizes.values()), "rows": len(policies)}))


if __name__ == "__main__":
    run_script(lambda: main(typed(Options)))
