"""The study: every method on one footing, over several seeds. `python -m emorl_lite study`.

    runs/<preset>/study/seed<k>/<run>/             what was trained: adapter, log.csv, done.json
    runs/<preset>/study/seed<k>/results/<method>/  rows.csv, sweep.csv, front.csv, and result.json, written last

One job is one method of one seed. Jobs run side by side, each in a process of its own, here or on a cluster (`emorl_lite.jobs`); one that
is killed is begun again. Whatever is finished is kept, a training run that was stopped goes on from its checkpoint, so the same command
continues after any interruption. A job is locked while somebody is at it: several of the same command share the work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import (
    check_identity,
    check_made_of,
    file_digest,
    read_json,
    read_table,
    write_atomically,
    write_json,
    write_table,
)
from emorl_lite.base.locks import alone
from emorl_lite.base.logs import ADVICE
from emorl_lite.base.paths import runs_root
from emorl_lite.base.presets import ALL_LAYERS, Preset, TextRewards
from emorl_lite.base.provenance import made_at, save_table
from emorl_lite.base.ranges import Distinct, Within, checked, shown
from emorl_lite.base.workers import cores
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.experiment.options import kl_coefs, study_run
from emorl_lite.jobs.engine import Engine, make_engine
from emorl_lite.jobs.job import Job, Work
from emorl_lite.jobs.local import Here
from emorl_lite.jobs.options import EngineConfig
from emorl_lite.jobs.progress import Progress
from emorl_lite.jobs.scheduler import require_done, run_jobs
from emorl_lite.lm.devices import choose_device
from emorl_lite.methods.bench import OBJECTIVE_RUNS, Budget
from emorl_lite.methods.registry import METHODS, PACKAGED, make_method, needs, registered, version
from emorl_lite.rewards.metrics import Coherence, evaluation_metrics
from emorl_lite.study.clients import CLIENTS
from emorl_lite.study.measuring import measure
from emorl_lite.study.places import scores_by_place
from emorl_lite.study.quality import reply_quality, samples
from emorl_lite.study.tables import table_path
from emorl_lite.study.training_curves import curves

RUNS: dict[str, Budget] = {job: budget for budget, job in OBJECTIVE_RUNS.items()}
"""Jobs that train single-objective adapters for several methods, and the adapters' budget."""
LEVELS = {"levels": "objectives-long"}
"""The job that compares aggregation levels, and the job that trains its adapters."""
ANEW = "delete it and the job is done again"
UNRECORDED = "not recorded"
TABLES = ("rows", "sweep", "matched", "prompts", "front", "quality", "samples")
SHOWN = 6
"""Clients of the small world whose replies are kept."""


@dataclass
class Study:
    """All methods of a preset over seeds 0 .. seeds - 1. Raises UserError for an unknown method or options that make no sense."""

    preset: Preset
    seeds: int = 5
    methods: Sequence[str] = ()
    """Names of the registry; if empty, the preset's own list, or else all of them."""
    root: Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        self.seeds = checked(self.seeds, int, [Within(1, 1000)], f"--seeds {shown(self.seeds)}")
        checked(self.methods, tuple[str, ...], [Distinct()], f"--methods {shown(self.methods)}")
        self.preset.study.check()
        self.methods = list(self.methods or self.preset.methods or METHODS)
        for name in self.methods:
            registered(name)

    @property
    def folder(self) -> Path:
        """Where the study's runs lie, a folder a seed."""
        return Experiment(self.preset, 0, self.root).home / "study"

    def run(self, workers: int | None = None, engine: EngineConfig | None = None) -> dict[str, pd.DataFrame]:
        """Do what is missing and return the tables (see `tables`).

        `workers`: jobs at once (default: two on a CPU with two cores, else one; on a cluster, as many as there is room for); `engine`:
        where they run, and how often they are begun again. Raises UserError if a method cannot be had here, before anything is trained; or
        if jobs failed, when all others have ended.
        """
        engine = engine or EngineConfig()
        if workers is not None:
            workers = checked(workers, int, [Within(1, 1000)], f"--workers {shown(workers)}")
        self._check_bases()
        jobs = self.jobs()
        if not all(job.finished() for job in jobs):
            with closing(self._engine(workers, engine)) as made:  # what it lacks is told before anything is trained
                with alone(self.folder, "preparing this study"):
                    self._prepare()
                board = run_jobs(jobs, made, engine.retries, Progress(self.progress))
            require_done(board)
        return self.tables()

    def _check_bases(self) -> None:
        """Raise UserError for a base model that belongs to one seed."""
        for seed in range(self.seeds):
            if (base_folder := Experiment(self.preset, seed, self.root).folder / "base").is_dir():
                raise UserError(
                    f"{base_folder}: a warm-started base of one seed alone; a study needs one base for all: choose another --runs"
                )

    def _engine(self, workers: int | None, config: EngineConfig) -> Engine:
        """Where the jobs run: here, if they need a reward or a method that was added in this session, which no other process has."""
        packaged_methods = all(PACKAGED.get(name) == METHODS[name] for name in self._order() if name in METHODS)
        if not packaged_methods or not Experiment(self.preset, 0, self.root).builder.packaged():
            return Here()
        if workers is None and config.engine == "local":
            workers = min(2, cores()) if choose_device(self.preset.model.device)[0].type == "cpu" else 1
        return make_engine(config, workers or 0, self.folder)

    def _prepare(self) -> None:
        """See what can be told before anything is trained, and make what all jobs load."""
        experiment = Experiment(self.preset, 0, self.root, progress=self.progress)
        for name in self._order():
            if name in METHODS:
                method = registered(name)[0]
                method.check_possible(experiment.lm)
                method.check_options(study_run(self.preset))
                method.check_objectives(len(self.preset.objectives))
        experiment.transfer_prompts()  # a second test set that is missing
        _ = experiment.rewards  # the classifiers, once

    def jobs(self) -> list[Job]:
        """Every method of every seed, and the runs that several of them need."""
        names = {(seed, name): f"seed {seed}: {name}" for name in self._order() for seed in range(self.seeds)}
        root = Path(self.root or runs_root()).resolve()  # another machine's working directory is another one
        made = []
        for (seed, name), told in names.items():
            folder = results_folder(Experiment(self.preset, seed, self.root), name)
            work = Work(partial(run_job, self.preset, seed, name, root), folder / "job.log", folder / ".lock")
            needed = tuple(names[seed, need] for need in self._needs(name) if (seed, need) in names)
            made.append(Job(told, work, needed, partial(self._finished, seed, name)))
        return made

    def _order(self) -> list[str]:
        """Jobs of one seed, each after what it needs."""
        needed = [need for name in self.methods for need in needs(name) if need in METHODS]
        names = sorted(dict.fromkeys([*needed, *self.methods]), key=lambda name: name not in needed)
        runs = [run for run in RUNS if any(run in needs(name) for name in names)]
        return [*runs, *names, *(job for job, run in LEVELS.items() if run in runs)]

    def _needs(self, name: str) -> tuple[str, ...]:
        if name in RUNS:
            return ()
        return (LEVELS[name],) if name in LEVELS else needs(name)

    def _finished(self, seed: int, name: str) -> bool:
        """Whether this job's result is there. Raises UserError if it was made with other options."""
        return finished(Experiment(self.preset, seed, self.root), name)

    def tables(self) -> dict[str, pd.DataFrame]:
        """rows: a line per method, chosen setting and seed, with costs and scores; sweep: a line per setting; front: the exact maps'
        fronts, chosen on validation prompts; matched: scores at equal KL; samples: a few replies; levels: mean scores by aggregation level;
        convergence: when the paper's rule would have stopped each training run; curves: the runs' logs."""
        frames: dict[str, list[pd.DataFrame]] = {name: [] for name in (*TABLES, "levels", "convergence")}
        for seed in range(self.seeds):
            experiment = Experiment(self.preset, seed, self.root)
            for name in sorted(self._order(), key=[*METHODS, *RUNS, *LEVELS].index):
                if not self._finished(seed, name):
                    continue
                for table, frame in result_tables(results_folder(experiment, name)).items():
                    frames[table].append(frame)
            frames["convergence"].append(convergence(experiment.study_folder, seed, self.preset))
        tables = {name: pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for name, parts in frames.items()}
        logs = curves(self.folder)
        return tables | {"curves": logs[logs["seed"] < self.seeds].reset_index(drop=True)}

    def _commits(self) -> list[str]:
        """The commits that the results were made at."""
        files = [file for seed in range(self.seeds) for file in self.folder.glob(f"seed{seed}/results/*/result.json")]
        commits = {read_json(file, "a job's record", ANEW).get("commit") for file in files}
        return sorted(str(commit) for commit in commits if commit)

    def _training_commits(self) -> list[str]:
        """The commits that the finished training runs were made at; "not recorded" for runs made before they said so."""
        found = set()
        for file in (file for seed in range(self.seeds) for file in self.folder.glob(f"seed{seed}/*/done.json")):
            made = read_json(file, "the record of a finished run", ADVICE).get("made_at")
            found.add(str((made.get("commit") if isinstance(made, dict) else None) or UNRECORDED))
        return sorted(found)

    def unfinished(self) -> list[str]:
        """Names of the jobs whose results are not there, in the order in which they would be done."""
        return [job.name for job in self.jobs() if not job.finished()]

    def save(self, folder: Path, command: str) -> list[Path]:
        """Write every table as methods_<name>.csv (the rows: methods.csv) with its provenance, which names jobs that are not finished."""
        written, missing = [], self.unfinished()
        for name, table in self.tables().items():
            if len(table):
                path = table_path(folder, name)
                facts = {"command": command, "preset": self.preset.name, "seeds": self.seeds, "study": asdict(self.preset.study)}
                facts |= {"ppo": asdict(study_run(self.preset)), "kl_coef": kl_coefs(self.preset), "made_at_commits": self._commits()}
                facts |= {"trained_at_commits": self._training_commits(), "versions": {name: version(name) for name in self._order()}}
                facts |= {"not_finished": missing} if missing else {}
                if isinstance(self.preset.rewards, TextRewards):
                    parts = {part: asdict(getattr(self.preset, part)) for part in ("model", "rewards", "data", "transfer", "warm_start")}
                    facts |= parts | {"lr": dict(self.preset.lr)}
                written.append(save_table(table.round(6), path, **facts))
        return written


def results_folder(lab: Experiment, name: str) -> Path:
    """Where one job's tables lie."""
    return lab.study_folder / "results" / name


def finished(experiment: Experiment, name: str) -> bool:
    """Whether a job's result is there. Raises UserError if it was made with other options, or of other adapters or classifiers than lie
    here now."""
    file = results_folder(experiment, name) / "result.json"
    if not file.is_file():
        return False
    record = read_json(file, "a job's record", ANEW, keys=("identity",))
    check_identity(file, *comparable(record["identity"], identity(experiment.preset)), advice="choose another --runs, or delete it")
    known, now = record.get("version", 1), version(name)
    if known != now:
        raise UserError(f"{file}: of another method that was called {name} (version {known}, now {now}); {ANEW}")
    files = record.get("made_of")  # records made before have none
    if isinstance(files, Mapping):
        check_made_of(file, files, made_of(experiment, files), ANEW)
    return True


def made_of(experiment: Experiment, of: Iterable[str]) -> dict[str, str]:
    """What a result is made of: the checksum of each of these files that is there, named as from the folder of the preset's runs."""
    return {name: file_digest(experiment.home / name) for name in of if (experiment.home / name).is_file()}


def _files(experiment: Experiment) -> list[str]:
    """The weights of the classifiers, and of every adapter that this process has trained or read, as far as they lie among these runs."""
    places = [experiment.workspace.place("classifiers", objective) / "classifier.safetensors" for objective in experiment.preset.objectives]
    places += [Path(folder) / "adapter_model.safetensors" for folder in experiment.lm.origin.values() if folder]
    home = experiment.home.resolve()
    return sorted({place.resolve().relative_to(home).as_posix() for place in places if place.resolve().is_relative_to(home)})


def result_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a finished job. Raises UserError for one that is not as the job left it, by the checksums in its record."""
    record = folder / "result.json"
    checksums = read_json(record, "a job's record", ANEW).get("tables")
    tables = {}
    for name in (*TABLES, "levels"):
        file = folder / f"{name}.csv"
        known = checksums.get(name) if isinstance(checksums, dict) else None  # records made before have none
        if known is not None and (not file.is_file() or file_digest(file) != known):
            raise UserError(f"{file}: {'edited or damaged' if file.is_file() else 'missing'}; delete {record} and the job is done again")
        if file.is_file():
            tables[name] = read_table(file, "a job's table", f"delete {record} and the job is done again")
    return tables


def count_attempt(folder: Path) -> int:
    """Note in a job's folder that an attempt begins; the how manyth it is, whoever made the others."""
    file = folder / "attempts"
    told = file.read_text(encoding="utf-8") if file.is_file() else ""
    attempt = int(told) + 1 if told.isdecimal() else 1
    write_atomically(file, str(attempt))
    return attempt


def identity(preset: Preset) -> dict[str, Any]:
    """What makes results comparable."""
    parts = {part: asdict(getattr(preset, part)) for part in PARTS}
    del parts["search"]["memory"]  # makes no difference to results
    shape = {key: getattr(preset.model, key) for key in ("path", "template", "max_new_tokens", "lora_r", "lora_alpha")}
    shape |= {"layers": preset.model.layers} if preset.model.layers != ALL_LAYERS else {}  # it came later
    return {"objectives": list(preset.objectives), "model": shape, "kl_coef": dict(preset.kl_coef), "lr": dict(preset.lr), **parts}


PARTS = ("study", "ppo", "rewards", "data", "search")
"""Parts of a preset whose options all make a difference to results."""
RENAMED = {"search.level": "search.mix"}
"""Options that had other names when results were made that are still good."""
MOVED = {"data/tiny_lm": "tiny_lm"}
"""Base models that have another name since."""


def comparable(theirs: dict[str, Any], ours: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two identities option by option, `part.option`, under today's names.

    An option that is new since a result was made says the same as its default; one that is gone (of the other kind of rewards, say) made
    no difference, or its class would still have it.
    """
    their_options = {
        RENAMED.get(key, key): MOVED.get(value, value) if key == "model.path" else value for key, value in _options(theirs).items()
    }
    our_options = _options(ours)
    new_options = {key: value for key, value in _options(identity(Preset())).items() if key not in their_options}
    return {key: value for key, value in (new_options | their_options).items() if key in our_options}, our_options


def _options(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity with `part.option` for the options of its parts; by objective or in a list, a value stays whole."""
    flat: dict[str, Any] = {}
    for part, value in json.loads(json.dumps(identity)).items():
        flat |= {f"{part}.{key}": x for key, x in value.items()} if part in (*PARTS, "model") else {part: value}
    return flat


def run_job(preset: Preset, seed: int, name: str, root: Path | None = None) -> None:
    """One job, in whatever process this is. Nothing if somebody has done it since it was asked for."""
    started = time.perf_counter()
    experiment = Experiment(preset, seed, root, progress=False)
    if finished(experiment, name):
        return
    folder = results_folder(experiment, name)
    folder.mkdir(parents=True, exist_ok=True)
    attempt = count_attempt(folder)
    bench = experiment.bench(own_runs=False)
    test = experiment.dataset.prompts("test")
    if name in RUNS:
        tables, cost = {}, bench.train_objectives(RUNS[name])
    elif name in LEVELS:
        budget = RUNS[LEVELS[name]]
        cost = bench.train_objectives(budget)
        tables = {"levels": scores_by_place(bench, test[: preset.study.sweep_prompts], preset.study.level_steps, budget)}
    else:
        method = make_method(name, bench)
        tables, cost, setting = measure(method, test, preset)
        if preset.transfer is not None:
            sets: dict[str, Sequence[str]] = {
                preset.data.name: test[: preset.study.test_prompts],
                preset.transfer.name: experiment.transfer_prompts(),
            }
            metrics = evaluation_metrics(experiment.frozen) | {"coherence": Coherence(experiment.frozen, k=1)}
            if preset.study.second_judges:
                metrics |= experiment.second_judges
            tables["quality"] = reply_quality(method, setting, sets, metrics, preset.study.samples)
        # the project's own client statements; the small world has its own words
        tables["samples"] = samples(method, setting, test[:SHOWN] if preset.data.name == "small_world" else CLIENTS)
    for table, frame in tables.items():
        frame.insert(0, "seed", seed)
        write_table(folder / f"{table}.csv", frame)
    result = {
        "cost": asdict(cost),
        "commit": made_at()["commit"],
        "seconds": round(time.perf_counter() - started, 1),
        "attempts": attempt,
        "identity": identity(preset),
        "version": version(name),
        "made_of": made_of(experiment, _files(experiment)),
        "tables": {table: file_digest(folder / f"{table}.csv") for table in tables},
    }
    write_json(folder / "result.json", result)
    (folder / "attempts").unlink(missing_ok=True)


def convergence(folder: Path, seed: int, preset: Preset) -> pd.DataFrame:
    """For every training run with a log: the data points at which the paper's rule (std / mean of the last validations below a
    tolerance) first holds; the whole run's if it never does. A run that stopped by the rule itself says so in its record."""
    rows = []
    for file in sorted(folder.glob("*/log.csv")):
        if not (file.parent / "done.json").is_file():
            continue  # still in training
        log = read_table(file, "the log of a run", ADVICE, columns=("episodes", "validation"))
        validated = log.dropna(subset=["validation"])
        means = validated["validation"].tolist()
        at = _converged_at(means, preset, file.parent)
        data_points = int(log["episodes"].iloc[-1]) if at is None else int(validated["episodes"].iloc[at])
        validation = (means[-1] if means else torch.nan) if at is None else means[at]
        rows.append(
            {"seed": seed, "run": file.parent.name, "data_points": data_points, "converged": at is not None, "validation": validation}
        )
    return pd.DataFrame(rows)


def _converged_at(means: Sequence[float], preset: Preset, folder: Path) -> int | None:
    """At which validation of a finished run the rule held first, counted from 0; None if it never did."""
    from emorl_lite.training.run_folder import read_record
    from emorl_lite.training.stopping import converged

    if preset.ppo.early_stop:  # it stopped there
        return len(means) - 1 if read_record(folder).get("stopped") == "converged" else None
    held = (i for i in range(len(means)) if converged(means[: i + 1], preset.study.patience, preset.ppo.tolerance))
    return next(held, None)
