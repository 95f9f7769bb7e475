"""What a second worker gains: the tiny study's training by one worker, by two, and by two workers of a Ray started here, in one run.

    python benchmarks/engines.py [--quick] [--methods uniform prompted] [--seeds 2] [--budget 1536]

Every side does the same jobs from nothing, in a folder of its own, each job in a process of one thread; the classifiers are made once,
before. `seconds` is from the first job's beginning to the last one's end, and `with_start` counts what the engine takes to start (Ray:
some seconds) as well. The tables must be the same, but for times. It needs two idle cores. `--quick` ends within a minute or so, and its
ratios say little: starting processes is most of it. A readable table comes first; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import Preset, SmallWorldRewards, get_preset
from emorl_lite.base.workers import cores, fresh_processes
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.jobs import EngineConfig, make_engine, run_jobs
from emorl_lite.jobs.scheduler import require_done
from emorl_lite.study.run import Study

SIDES = {"one worker": ("local", 1), "two workers": ("local", 2), "two workers, Ray": ("ray", 2)}


def preset_of(quick: bool, budget: int) -> Preset:
    """The tiny preset, with this budget; a quick one scores fewer prompts too."""
    preset = get_preset("tiny")
    study = replace(preset.study, budget=64 if quick else budget)
    if not quick:
        return replace(preset, study=study)
    rewards = SmallWorldRewards(classifier_examples=256, classifier_epochs=1)
    return replace(preset, study=replace(study, batch_size=16, weight_steps=1, test_prompts=8, sweep_prompts=8), rewards=rewards)


def run(study: Study, engine: str, workers: int) -> dict[str, float]:
    """Do a study's jobs. Returns seconds with and without the engine's start."""
    begun = time.perf_counter()
    made = make_engine(EngineConfig(engine), workers, study.folder)  # type: ignore[arg-type]
    started = time.perf_counter()
    board = run_jobs(study.jobs(), made)
    ended = time.perf_counter()
    require_done(board)
    return {"seconds": round(ended - started, 2), "with_start": round(ended - begun, 2)}


def scores(study: Study) -> dict[str, pd.DataFrame]:
    """The study's tables without times."""
    return {name: table.drop(columns="seconds", errors="ignore") for name, table in study.tables().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small budget and few prompts")
    parser.add_argument("--methods", nargs="+", default=["uniform", "prompted"], help="methods that need no others' runs")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=int, default=1536, help="training prompts of a method")
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # child processes inherit it
    preset = preset_of(options.quick, options.budget)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Experiment(preset, 0, Path(folder) / "prepared", progress=False)
        _ = prepared.rewards
        warm = fresh_processes("emorl_lite.study.run").Process(target=time.sleep, args=(0,))
        warm.start()  # whoever comes first would pay for starting the server of processes
        warm.join()
        times, tables = {}, []
        for side, (engine, workers) in SIDES.items():
            root = Path(folder) / side.replace(",", "").replace(" ", "-")
            shutil.copytree(prepared.home, root / preset.name)
            study = Study(preset, options.seeds, options.methods, root, progress=False)
            times[side] = run(study, engine, workers)
            tables.append(scores(study))
    table = pd.DataFrame(times).T
    for name in ("seconds", "with_start"):
        table[f"{name}, ratio"] = table[name] / table[name].iloc[0]
    print(table.round(3).to_string())
    equal = all(other[name].equals(tables[0][name]) for other in tables[1:] for name in tables[0])
    facts = {"methods": options.methods, "seeds": options.seeds, "budget": preset.study.budget, "quick": options.quick}
    facts |= {"cores": cores(), "python": platform.python_version(), "equal_tables": equal}
    print(json.dumps(facts | {side: row.round(3).to_dict() for side, row in table.iterrows()}))


if __name__ == "__main__":
    run_script(main)
