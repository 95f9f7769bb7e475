"""Copy what a real study made into the repository: warm start, classifiers, training runs, its tables, and each method's own results.

    python scripts/publish_study.py --preset smollm2 --seeds 3             # a study that is complete
    python scripts/publish_study.py --preset smollm2 --seeds 3 --partly    # what is finished of one that goes on
    python scripts/publish_study.py --preset smollm2 --seeds 3 --resume    # the other way: back among the runs, so that it goes on there

After `--resume` the study's own command (`python -m emorl_lite study --preset smollm2`) trains and measures what is missing, and nothing
else: of every finished run there is its record, its log if its trainer keeps one, and where another method reads its adapter, that, too.
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
from emorl_lite.base.presets import Preset, get_preset
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.adapter_files import adapter_digest
from emorl_lite.methods.registry import METHODS, needs
from emorl_lite.study.run import Study
from emorl_lite.training.run_folder import read_record, seal

DONE = "done.json"
ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "base.json", DONE)
LOG = "log.csv"
CLASSIFIER = ("classifier.safetensors", "classifier.json")
IF_THERE = ("losses.csv",)
RECORD = "result.json"
RESULTS = "results"
"""Folder of the methods' own results: results/seed<k>/<method>."""


@dataclass
class Options:
    """Options."""

    preset: str = "smollm2"
    seeds: int = 3
    command: str = ""
    """The command that made the tables, as typed; it stands in their provenance."""
    runs: str = ""
    """Folder of the runs (default: $EMORL_RUNS or runs/ in the repository)."""
    partly: bool = False
    """Publish what is finished of a study that goes on."""
    resume: bool = False
    """Copy what was published back to where it is missing among the runs."""


def copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy these files of a folder; the base model's place on this machine is not told."""
    for name in names:
        if not (source / name).is_file():
            raise UserError(f"{source / name}: missing")
    target.mkdir(parents=True, exist_ok=True)
    for name in (*names, *(name for name in IF_THERE if (source / name).is_file())):
        shutil.copyfile(source / name, target / name)
    if "adapter_config.json" in names:
        file = target / "adapter_config.json"
        adapter_config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
        file.write_text(json.dumps(adapter_config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if LOG in names and "adapter_config.json" in names:
        seal(target)


def copy_results(source: Path, target: Path, replacing: bool) -> int:
    """Copy every finished job's tables and record, the record last; `replacing`: also in the place of those that are there. How many."""
    copied = 0
    for record in sorted(source.glob(f"*/{RECORD}")):
        place = target / record.parent.name
        if (place / RECORD).is_file():
            if not replacing:
                continue
            (place / RECORD).unlink()
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("*.csv"):
            old.unlink()
        for file in (*sorted(record.parent.glob("*.csv")), record):
            shutil.copyfile(file, place / file.name)
        copied += 1
    return copied


def _read_by_others(preset: Preset) -> set[str]:
    """Runs whose adapters other methods of the preset's study read."""
    return {*preset.objectives, *(need for method in preset.methods or METHODS for need in needs(method))}


def _runs(folder: Path) -> list[Path]:
    """The finished training runs of a folder."""
    return [record.parent for record in sorted(folder.glob(f"*/{DONE}"))]


def _files(preset: Preset, run: Path) -> tuple[str, ...]:
    """What of a run is published: its record, its log where its trainer keeps one, its adapter where another method reads that."""
    log = (LOG,) if LOG in (read_record(run).get("files") or (LOG,)) else ()
    return (*ADAPTER, *log) if run.name in _read_by_others(preset) else (DONE, *log)


def _parts(preset: Preset) -> list[tuple[str, tuple[str, ...]]]:
    """What all seeds have in common, and its files."""
    parts = [("warmstart", ADAPTER)] if preset.warm_start.steps else []
    return parts + [(f"classifiers/{objective}", CLASSIFIER) for objective in ("reflection", "empathy")]


def publish(options: Options) -> Path:
    """Copy everything to data/<preset>. Returns that folder. Raises UserError for a preset whose run is read from elsewhere, and for a
    study that is not complete, unless that is asked for."""
    preset, root, target = _asked(options)
    study = Study(preset, options.seeds, root=root, progress=False)
    if not options.partly and (missing := study.unfinished()):
        raise UserError(f"{study.folder}: not finished: {missing[0]}; finish the study first, or publish what is finished with --partly")
    home = Experiment(preset, 0, root).home
    for part, files in _parts(preset):
        if (home / part).is_dir() or not (target / part).is_dir():  # what the study took from here is here already
            copy(home / part, target / part, files)
    for seed in range(options.seeds):
        experiment = Experiment(preset, seed, root)
        for run in _runs(experiment.study_folder):
            place, files = target / experiment.folder.name / run.name, _files(preset, run)
            copy(run, place, files)
            if preset.warm_start.steps and "base.json" in files:
                file = place / "base.json"
                probe = json.loads(file.read_text(encoding="utf-8")) | {"warm_start": adapter_digest(str(target / "warmstart"))}
                file.write_text(json.dumps(probe), encoding="utf-8")
        copy_results(experiment.study_folder / RESULTS, target / RESULTS / experiment.folder.name, replacing=True)
    study.save(target, options.command or f"python -m emorl_lite study --preset {preset.name} --seeds {options.seeds}")
    return target


def resume(options: Options) -> Path:
    """Copy what data/<preset> has to where the runs lack it. Returns the folder of the runs; what is there stays as it is.

    Raises UserError if nothing is published.
    """
    preset, root, source = _asked(options)
    if options.command:
        raise UserError("--command: stands in the tables that are published; with --resume none are")
    if not _runs(source / Experiment(preset, 0, root).folder.name):
        raise UserError(f"{source}: no run of --preset {preset.name} is published here")
    home = Experiment(preset, 0, root).home
    for part, files in _parts(preset):
        if (source / part).is_dir() and not (home / part).is_dir():
            copy(source / part, home / part, files)
    for seed in range(options.seeds):
        experiment = Experiment(preset, seed, root)
        for run in _runs(source / experiment.folder.name):
            if not (experiment.study_folder / run.name).is_dir():
                copy(run, experiment.study_folder / run.name, _files(preset, run))
        copy_results(source / RESULTS / experiment.folder.name, experiment.study_folder / RESULTS, replacing=False)
    return home


def _asked(options: Options) -> tuple[Preset, Path | None, Path]:
    """Preset, folder of the runs, and where its study is published."""
    preset = get_preset(options.preset)
    target = data_root() / preset.name
    if shipped(preset.name) != target:
        raise UserError(f"--preset {preset.name}: its run comes with the package; scripts/make_reference.py makes it")
    if options.partly and options.resume:
        raise UserError("--partly and --resume: one publishes, the other brings back; choose one")
    return preset, Path(options.runs) if options.runs else None, target


def main(options: Options) -> Path:
    """Publish, or bring back."""
    return resume(options) if options.resume else publish(options)


if __name__ == "__main__":
    run_script(lambda: print(main(typed(Options))))
