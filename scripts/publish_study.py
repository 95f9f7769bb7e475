"""Copy what a real study trained into the repository: adapters, logs, classifiers, warm start, and its tables.

python scripts/publish_study.py --preset smollm2 --seeds 2

Texts of third parties stay behind: logs hold numbers alone, sample tables hold the project's own client statements.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import data_root, shipped
from emorl_lite.base.presets import get_preset
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.adapter_files import adapter_digest
from emorl_lite.study.run import Study
from emorl_lite.training.run_folder import seal

ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "base.json", "done.json", "log.csv")
CLASSIFIER = ("classifier.safetensors", "classifier.json")
IF_THERE = ("losses.csv",)


@dataclass
class Options:
    """Options."""

    preset: str = "smollm2"
    seeds: int = 2
    command: str = ""
    """The command that made the tables, as typed; it stands in their provenance."""
    runs: str = ""
    """Folder of the runs (default: $EMORL_RUNS or runs/ in the repository)."""


def copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy these files of a folder; the base model's place on this machine is not told."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (*names, *(name for name in IF_THERE if (source / name).is_file())):
        if not (source / name).is_file():
            raise UserError(f"{source / name}: missing; finish the study first")
        shutil.copyfile(source / name, target / name)
    if "adapter_config.json" in names:
        file = target / "adapter_config.json"
        adapter_config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
        file.write_text(json.dumps(adapter_config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if "log.csv" in names:
        seal(target)


def publish(options: Options) -> Path:
    """Copy everything to data/<preset>. Returns that folder. Raises UserError for a preset whose run is read from elsewhere."""
    preset = get_preset(options.preset)
    root = Path(options.runs) if options.runs else None
    target = data_root() / preset.name
    if shipped(preset.name) != target:
        raise UserError(f"--preset {preset.name}: its run comes with the package; scripts/make_reference.py makes it")
    home = Experiment(preset, 0, root).home
    parts = [("warmstart", tuple(name for name in ADAPTER if name != "log.csv"))] if preset.warm_start.steps else []
    parts += [(f"classifiers/{objective}", CLASSIFIER) for objective in ("reflection", "empathy")]
    for part, files in parts:
        if (home / part).is_dir() or not (target / part).is_dir():  # what the study took from here is here already
            copy(home / part, target / part, files)
    for seed in range(options.seeds):
        experiment = Experiment(preset, seed, root)
        for run in preset.objectives:
            copy(experiment.study_folder / run, target / experiment.folder.name / run, ADAPTER)
            if preset.warm_start.steps:
                file = target / experiment.folder.name / run / "base.json"
                probe = json.loads(file.read_text(encoding="utf-8")) | {"warm_start": adapter_digest(str(target / "warmstart"))}
                file.write_text(json.dumps(probe), encoding="utf-8")
    command = options.command or f"python -m emorl_lite study --preset {preset.name} --seeds {options.seeds}"
    Study(preset, options.seeds, root=root, progress=False).save(target, command)
    return target


if __name__ == "__main__":
    run_script(lambda: print(publish(typed(Options))))
