"""Experiments on disk: train or load, tables with their provenance.

    runs/<preset>/classifiers/<objective>/    reward classifiers
    runs/<preset>/seed<k>/<objective>/        PPO: adapter, log.csv, samples.csv, checkpoint
    runs/<preset>/seed<k>/search.csv          every point of the search
    runs/<preset>/authors/                    the same of the paper's own adapters, and their conversions (`adapters="authors"`)

The same comes with the package for tiny, in emorl_lite/assets/tiny/, and with the repository for others, in data/<preset>/: `source` says
whose are used.

Runs on a data file have the file's name before the seed: runs/<preset>/<file>-seed<k>/ (with a digest if another file has that name).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_made_of, digest, file_digest, read_json
from emorl_lite.base.locks import alone
from emorl_lite.base.logs import read_log
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.presets import OBJECTIVES, PRESETS, Mix, Preset
from emorl_lite.base.ranges import Within, check_known, check_seed, checked
from emorl_lite.base.texts import check_texts
from emorl_lite.base.weights import check_weights
from emorl_lite.base.workers import cores
from emorl_lite.base.workspace import Workspace, claim
from emorl_lite.data.datasets import Dataset, load_dataset
from emorl_lite.data.downloads import find_file
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.experiment import report, searching
from emorl_lite.experiment.author_runs import AuthorRuns
from emorl_lite.experiment.forecast import Forecast, forecast_evaluation, forecast_search
from emorl_lite.experiment.options import kl_coefs, own_run, study_run
from emorl_lite.experiment.side_by_side import train_side_by_side
from emorl_lite.lm.lengths import check_lengths
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Method
from emorl_lite.methods.bench import Bench, Cost, cost_of_finished, trained_parameters
from emorl_lite.methods.registry import make_method
from emorl_lite.rewards.build import RewardBuilder
from emorl_lite.rewards.committee import Committee
from emorl_lite.rewards.objectives import Guarded, RewardSet
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.registry import require_objectives
from emorl_lite.rewards.small_world_judge import CrossEncoder
from emorl_lite.rewards.text_judge import TextClassifier
from emorl_lite.rewards.text_rewards import EPITOME
from emorl_lite.search.evaluation import Score
from emorl_lite.search.grid import SearchResult
from emorl_lite.search.statistics import confirm
from emorl_lite.training.parallel import team
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.run_folder import check_files, read_record, texts_digest


@dataclass
class Experiment:
    """One preset and seed: its model, data, rewards, adapters and search. Everything is loaded if it is there and trained if not."""

    preset: Preset
    seed: int = 0
    root: Path | None = None
    """Of all runs; by default $EMORL_RUNS, or `runs/`."""
    progress: bool = True
    source: str = ""
    """Whose classifiers and adapters, as `Workspace` says: "mine", "reference", "any", or a folder."""
    adapters: str = ""
    """"authors": the adapters that the paper's authors published, in the place of trained ones; the seed says which (see `AuthorRuns`)."""

    def __post_init__(self) -> None:
        if not isinstance(self.preset, Preset):
            raise UserError(f"experiment: expected a preset, as get_preset({self.preset!r}) gives, got {type(self.preset).__name__}")
        self.seed = check_seed(self.seed)
        self.root = check_folder(self.root, "runs", write=False) if self.root else None
        self.workspace = Workspace(self.preset, self.root, self.source)
        self.source, self.home = self.workspace.source, self.workspace.home
        named_preset = PRESETS.get(self.preset.name)
        own_data = self.preset.data.name == "small_world" or (named_preset is not None and named_preset.data.path == self.preset.data.path)
        self._data = "" if own_data else str(find_file(self.preset.data.path))
        self.authors = AuthorRuns(str(self.adapters), self.seed, self.preset, self.home) if self.adapters else None
        if self.authors:
            self.home = self.authors.folder
        self.folder = self.workspace.of_data(self._data, self.seed, self.home) if self._data else self.home / f"seed{self.seed}"
        self.study_folder = self.home / "study" / self.folder.name
        self.builder = RewardBuilder(self.workspace, self.progress)
        self._assigned: RewardSet | None = None
        self._benches: dict[tuple[Path | None, bool], Bench] = {}

    @property
    def published(self) -> Path | None:
        """Where trained parts lie that nobody trains here, if there are any."""
        return self.workspace.published

    def is_published(self, folder: Path) -> bool:
        """Whether a folder holds what others trained: nothing is written there."""
        return self.workspace.is_published(folder)

    # -- model, rewards, data

    @cached_property
    def lm(self) -> LanguageModel:
        """The base model (the warm-started one, if there is one) with whatever adapters were added to it."""
        config = self.preset.model
        if (self.folder / "base" / "config.json").is_file():
            config = replace(config, path=str(self.folder / "base"), warm_start="")
        elif self.preset.warm_start.steps and not config.warm_start:
            config = replace(config, warm_start=str(self.warm_started()))
        return LanguageModel.load(config, quiet=not self.progress)

    def warm_started(self) -> Path:
        """Folder of the preset's warm start, an adapter that all runs and seeds fold into their base: loaded, or trained (and kept)."""
        from emorl_lite.training.warm_start import BEFORE, warm_start_adapter, warm_start_examples

        folder, options = self.workspace.place("warmstart"), self.preset.warm_start
        if (folder / "done.json").is_file():
            saved = read_json(folder / "done.json", "the record of a warm start", "choose another --runs, or delete its folder")
            check_made_of(folder, BEFORE | saved, asdict(options), "choose another --runs, or delete it")
            return folder
        self.workspace.refuse_to_train(folder)
        with alone(folder, "warm-starting"):
            if not (folder / "done.json").is_file():  # by another process, that this one waited for
                data = load_dataset(replace(self.preset.data, max_words=options.max_words))
                examples = warm_start_examples(data, find_file(EPITOME), without_high=options.without_high)
                if self.progress:
                    print(f"warm start: {options.steps} supervised steps on {len(examples)} replies")
                warm_start_adapter(LanguageModel.load(self.preset.model), examples, options, folder)
        return folder

    @property
    def frozen(self) -> LanguageModel:
        """A second copy that nobody trains: the yardstick of fluency and of the small world's classifiers."""
        return self.builder.frozen

    @property
    def rewards(self) -> RewardSet:
        """The rewards of the preset's objectives, guarded; or those that were assigned, as they are.

        Raises UserError for an objective that has none in `REWARDS`.
        """
        return self.builder.rewards if self._assigned is None else self._assigned

    @rewards.setter
    def rewards(self, rewards: RewardSet) -> None:
        self._assigned = rewards
        self._benches.clear()

    def classifier(self, objective: str) -> CrossEncoder | TextClassifier | Committee:
        """The classifier of an objective: loaded, or trained (and saved)."""
        return self.builder.classifier(objective)

    def classifier_losses(self) -> pd.DataFrame:
        """Training losses of the classifiers: objective, step, loss."""
        return self.builder.classifier_losses()

    @property
    def labelled(self) -> list[Pair]:
        """The small-world classifiers' training pairs."""
        return self.builder.labelled

    @property
    def read(self) -> list[Tensor]:
        """What the frozen model makes of them: computed once for all classifiers."""
        return self.builder.read

    def like(self, seed: int | None = None, **search: Any) -> Experiment:
        """Another seed, or another search (fields of `SearchConfig`), with this one's model, data and rewards in memory.

        One at a time: the model has the adapters of whichever loaded last, and each loads its own again. A seed with a warm start of its
        own has a model of its own. Raises UserError as `Experiment` does.
        """
        check_known(search, (option.name for option in fields(self.preset.search)), "like")
        preset = replace(self.preset, search=replace(self.preset.search, **search))
        other = Experiment(preset, self.seed if seed is None else seed, self.root, self.progress, self.source, self.adapters)
        if other.folder == self.folder or not any((one.folder / "base").is_dir() for one in (self, other)):
            other.__dict__["lm"], other.__dict__["dataset"] = self.lm, self.dataset
        other.builder, other._assigned = self.builder, self._assigned
        return other

    def ready(self) -> bool:
        """Whether everything is there that several processes could not make together: the warm start and the classifiers."""
        trained_objectives = [o for o in ("reflection", "empathy") if o in self.preset.objectives and not self.preset.rewards.ready_made(o)]
        classifiers = all((self.workspace.place("classifiers", o) / "classifier.safetensors").is_file() for o in trained_objectives)
        return classifiers and (not self.preset.warm_start.steps or (self.workspace.place("warmstart") / "done.json").is_file())

    def run_folder(self, objective: str) -> Path:
        """Where the run of an objective lies."""
        if self.authors:
            return self.authors.run_folder(objective)
        return self.workspace.place(self.folder.name, objective)

    @cached_property
    def dataset(self) -> Dataset:
        """The preset's data. Raises UserError for a prompt that leaves the model no room for a reply."""
        dataset = load_dataset(self.preset.data)
        check_lengths(dataset, self.lm)
        return dataset

    def transfer_prompts(self) -> list[str]:
        """Test prompts of the preset's second source; none if it has no second source."""
        if self.preset.transfer is None:
            return []
        dataset = load_dataset(self.preset.transfer)
        check_lengths(dataset, self.lm)
        return dataset.prompts("test")

    # -- training

    def warm_start(self, steps: int) -> None:
        """Fine-tune the base on the data's own training replies, and keep it in this run's folder as the base of all its adapters."""
        from emorl_lite.training.warm_start import RECORD, warm_start

        checked(steps, int, [Within(1, 10**6)], f"--warm-start-steps {steps}")
        self._refuse_to_train()
        if self.preset.warm_start.steps:
            raise UserError(f"--warm-start-steps: the preset {self.preset.name} has a warm start of its own")
        self._claim()
        folder, pairs = self.folder / "base", [(e.prompt, e.reply) for e in self.dataset.examples("train")]
        if self.trained() and not folder.is_dir():
            raise UserError(f"{self.folder}: holds adapters of another base; choose another --seed or --runs for a warm start")
        record = {"steps": steps, "seed": self.seed, "examples": texts_digest([text for pair in pairs for text in pair])}
        if not folder.is_dir():
            with alone(self.folder, "warm-starting the base"):
                if not folder.is_dir():  # by another process, that this one waited for
                    warm_start(LanguageModel.load(self.preset.model), pairs, steps, seed=self.seed, folder=folder, record=record)
        if (folder / RECORD).is_file():  # the same command again goes on with the base that it made
            made = read_json(folder / RECORD, "the record of a warm start", "choose another --runs, or delete its folder")
            check_made_of(folder, made, record, "choose another --seed or --runs, or delete it")
        self.__dict__.pop("lm", None)
        self._benches.clear()

    def _claim(self) -> None:
        """Before the first file is written: another data file of the same stem gets another folder."""
        if self._data:
            claim(self.folder, self._data)

    def train(self, objective: str, resume: bool = True) -> pd.DataFrame:
        """Train (or finish, or load) the adapter of one objective. Returns its log with columns `objective` and `seed` added."""
        self._refuse_to_train()
        require_objectives([objective], self.preset.objectives)
        folder = self.run_folder(objective)
        if not resume and self.is_published(folder):
            folder = self.folder / objective
        if self.is_published(folder):
            if not (folder / "done.json").is_file():
                self.workspace.refuse_to_train(folder)
            self._load(objective)
            return read_log(folder / "log.csv").assign(objective=objective, seed=self.seed)
        if not (folder / "done.json").is_file():
            check_folder(folder, "runs", write=True)  # before a classifier is trained that nobody can keep
        prompts, validation_prompts = self.dataset.prompts("train"), self.dataset.prompts("validation")
        if self.published is not None and self.lm.origin.get(objective) == str((self.published / self.folder.name / objective).resolve()):
            self.lm.remove_adapter(objective)  # the published one was loaded, and one's own is asked for
        trainer = PPOTrainer(
            self.lm,
            objective,
            self.rewards[objective],
            prompts,
            own_run(self.preset, objective),
            folder=folder,
            validation_prompts=validation_prompts,
            watch={name: reward for name, reward in self.rewards.items() if name != objective},
            seed=self.seed,
            progress=self.progress,
            team=team(),
        )
        if not (folder / "done.json").is_file():
            self._claim()
        log = trainer.train(resume=resume)
        return log.assign(objective=objective, seed=self.seed)

    def train_all(self, workers: int | None = None) -> pd.DataFrame:
        """The adapters of all objectives; the logs one below the other.

        The runs know nothing of each other, so up to `workers` of them go on at the same time, in processes of their own, with the same
        results (default: two on a CPU that has two cores, else one). Rewards that only this session has (assigned, or added to `REWARDS`)
        are trained on one after the other in this process.
        """
        if workers is not None:
            workers = checked(workers, int, [Within(1, 1000)], f"workers {workers}")
        missing = [name for name in self.preset.objectives if name not in self.trained()]
        if missing:
            _ = self.dataset  # a file that is wrong is told before a classifier is trained
        for name in missing:
            self.workspace.refuse_to_train(self.run_folder(name))
            check_folder(self.run_folder(name), "runs")
            _ = self.rewards[name]  # the classifiers, once, before workers load them; and an objective without a reward is told now
        if workers is None:
            workers = min(2, cores()) if self.lm.device.type == "cpu" else 1
        if workers > 1 and len(missing) > 1 and self._assigned is None and self.builder.packaged():
            job = partial(_train_one, self.preset, self.seed, self.root, self.source)
            runs = {self.folder / name: partial(job, name) for name in missing}
            train_side_by_side(runs, min(workers, len(missing)), self.preset.ppo, self.progress)
        return pd.concat([self.train(name) for name in self.preset.objectives], ignore_index=True)

    def _refuse_to_train(self) -> None:
        if self.authors:
            raise UserError(f"adapters={self.adapters!r}: these were trained by the paper's authors, and are only read")

    def load_adapters(self) -> None:
        """Load the adapters; whatever is missing is trained (those of the paper's authors: converted)."""
        if len(self.trained()) < len(self.preset.objectives):
            self.train_all()
        for name in self.preset.objectives:
            self._load(name)

    def _load(self, name: str) -> None:
        """The finished adapter of an objective in the model, in the place of another one of its name."""
        folder = self.run_folder(name)
        if name in self.lm.adapters and self.lm.origin.get(name) == str(folder.resolve()) and name not in self.lm.unfinished:
            return
        record, template = read_record(folder), {"model.template": self.lm.config.template}
        check_made_of(folder, record["identity"], template, "take the template that it was trained with")
        check_files(folder, record, ("adapter_model.safetensors",))
        self.lm.remove_adapter(name)
        self.lm.load_adapter(folder, name)

    def ensemble(self, weights: Sequence[float] | None = None, mix: Mix = "hidden") -> EnsembleLM:
        """The ensemble of this experiment's adapters, uniform weights by default."""
        self.load_adapters()
        names = list(self.preset.objectives)
        return EnsembleLM(self.lm, names, weights=tuple([1 / len(names)] * len(names) if weights is None else weights), mix=mix)

    # -- methods

    def bench(self, folder: Path | Literal["study"] | None = "study", own_runs: bool = True) -> Bench:
        """What the methods are given: this experiment's model, rewards and prompts, and the study's budget.

        A method that trains a policy of its own keeps it in `folder`, by default where the study has it, so that both share their runs;
        None: it is kept in this process alone. `own_runs`: methods that combine single-objective adapters take this experiment's; else
        the bench is the study's, whose adapters (`study-<objective>`) share the budget among them. The same arguments give the same bench.
        """
        if folder is not None and not isinstance(folder, str | Path):
            raise UserError(f"bench: expected a folder, 'study' or None, got {folder!r}")
        bench_folder = self.study_folder if folder == "study" else Path(folder) if folder else None
        known = self._benches.get((bench_folder, own_runs))
        if known is None or known.lm is not self.lm:
            preset = self.preset
            self._benches[bench_folder, own_runs] = Bench(
                lm=self.lm,
                rewards=self.rewards,
                train_prompts=self.dataset.prompts("train"),
                validation_prompts=self.validation(),
                ppo=study_run(preset),
                kl_coefs=kl_coefs(preset),
                folder=bench_folder,
                seed=self.seed,
                progress=self.progress,
                lrs=preset.lr,
                watch=None if set(preset.study.watch) >= set(OBJECTIVES) else preset.study.watch,
                search=preset.search,
                train_replies=[(example.prompt, example.reply) for example in self.dataset.examples("train")],
                single_runs=self._single_runs if own_runs else None,
            )
        return self._benches[bench_folder, own_runs]

    def method(self, name: str, folder: Path | Literal["study"] | None = "study") -> Method:
        """A method by its name, on this experiment's bench: nothing is trained or loaded before `prepare`."""
        return make_method(name, self.bench(folder))

    def _single_runs(self) -> Cost:
        """Load or train the adapters. Returns what they took."""
        self.load_adapters()
        if self.authors:  # what they took is not in their files
            return Cost.unknown(sum(trained_parameters(self.lm, name) for name in self.preset.objectives))
        costs = [cost_of_finished(self.lm, name, self.run_folder(name)) for name in self.preset.objectives]
        return sum(costs[1:], costs[0])

    # -- search

    def tree(self, prompts: Sequence[str], **options: Any) -> PrefixTree:
        """A prefix tree of this experiment's adapters over some prompts. `options`: those of `PrefixTree`."""
        check_known(options, list(signature(PrefixTree).parameters)[3:], "tree")
        self.load_adapters()
        return PrefixTree(self.lm, list(self.preset.objectives), prompts, **options)

    def validation(self) -> list[str]:
        """The fixed prompts that every point of a search is scored on."""
        return self.dataset.prompts("validation")[: self.preset.search.validation_prompts]

    def exact_map(self, prompts: Sequence[str] | None = None, **options: Any) -> ScoredMap:
        """The exact map of some prompts (the search's validation prompts by default), every distinct reply scored once.

        `options`: those of `PrefixTree`.
        """
        return scored_map(exact_map(self.tree(_given(prompts, self.validation), **options)), self.rewards.scores)

    def search(self, prompts: Sequence[str] | None = None) -> SearchResult:
        """Search the ensemble's weights on the fixed validation set by the preset's method; a table that is there is resumed."""
        prompts = _given(prompts, self.validation)
        self.preset.search.check_objectives(len(self.preset.objectives))
        if self.authors:  # before classifiers are trained for what does not fit
            self.load_adapters()
            self._claim()
            if not searching.is_finished(self.preset, self.folder):
                self._tell_time(partial(forecast_search, self.preset, self.lm, self.tree, prompts))
        score = self.rewards.scores  # an unknown objective is told before anything is trained
        self.load_adapters()
        made_of = self._made_of() | {"prompts": digest("\n".join(prompts).encode())}
        return searching.search(self.preset, self.folder, self.lm, self.tree, prompts, score, made_of, self.seed, self.progress)

    def _tell_time(self, forecast: Callable[[Score | None], Forecast]) -> None:
        """Print about how long it will take, and what was found in the authors' files."""
        if self.authors is None or not self.progress:
            return
        for note in dict.fromkeys(self.authors.notes):
            print(note)
        there = self._assigned is not None or self.ready()
        print(forecast(self.rewards.scores if there else None).sentence(), flush=True)

    def _made_of(self) -> dict[str, Any]:
        """What weights are found for."""
        return {"adapters": self.adapter_hashes(), "scoring": searching.scoring(self.preset, self.lm, self.rewards)}

    def confirm(self, result: SearchResult, prompts: Sequence[str] | None = None) -> pd.DataFrame:
        """What a search promised beside what its weights score on fresh prompts (the test prompts by default), with intervals."""
        prompts = _given(prompts, partial(self.dataset.prompts, "test"))
        evaluate = searching.evaluation(self.preset, self.lm, self.tree, prompts, self.rewards.scores)
        replies = searching.replies(evaluate, result.best)
        return confirm(result.best_scores, self.rewards.scores(prompts, replies))

    def adapter_hashes(self) -> dict[str, str]:
        """What tells these adapters from others."""
        return {name: file_digest(self.run_folder(name) / "adapter_model.safetensors") for name in self.preset.objectives}

    def trained(self) -> list[str]:
        """The objectives whose adapters are finished."""
        if self.authors:
            self.authors.prepare(self.lm)
            return list(self.preset.objectives)
        return [name for name in self.preset.objectives if (self.run_folder(name) / "done.json").is_file()]

    def found_weights(self) -> tuple[float, ...] | None:
        """The weights that the search found, if it was run. Raises UserError if it was run on other adapters or rewards than those here."""
        complete = len(self.trained()) == len(self.preset.objectives)
        return searching.found_weights(self.preset, self.folder, self._made_of if complete else None)

    # -- what the policies are worth

    def policy_replies(self, policy: str, prompts: Sequence[str], **options: Any) -> list[str]:
        """Replies of `base` or of one adapter, greedy unless the options to generate() say otherwise."""
        return report.policy_replies(self.lm, policy, prompts, **options)

    def score(self, policy: str, prompts: Sequence[str], replies: Sequence[str]) -> dict[str, Any]:
        """One row: mean score per objective, their mean, and the share of replies that ended."""
        return report.score(self.rewards, self.seed, policy, prompts, replies)

    @property
    def second_judges(self) -> dict[str, Guarded]:
        """Judges that nothing is trained on, guarded, by `<objective>_second`: fitted when they are first asked for, in seconds."""
        return self.builder.second_judges

    def evaluate(self, weights: Sequence[float] = (), second_judges: bool = False) -> pd.DataFrame:
        """Mean rewards of the data's own replies (by quality), and of greedy replies of base, adapters and ensemble on test prompts.

        The ensemble is at these weights, else at those that the search found, else uniform; it is left out while an adapter is missing.
        `second_judges`: the same replies by these, too, in columns `<objective>_second`.
        """
        others: Mapping[str, Guarded] = self.second_judges if second_judges else {}
        weights = () if weights is None else weights
        if len(weights):
            check_weights(weights, len(self.preset.objectives), where="--weights")
        trained, chosen, prompts = self.trained(), tuple(weights) or self.found_weights(), self.dataset.prompts("test")
        missing = [name for name in self.preset.objectives if name not in trained]
        if chosen and missing:
            raise UserError(f"--weights: no adapter for {missing[0]!r} in {self.folder}; train it first")
        for name in trained:
            self._load(name)
        self._tell_time(partial(forecast_evaluation, self.lm, trained, prompts))
        ensemble = None if missing else self.ensemble(chosen)
        policies = report.summary(self.lm, self.rewards, self.seed, trained, ensemble, prompts, others).assign(n=len(prompts))
        return pd.concat([report.replies_by_quality(self.rewards, self.seed, self.dataset, others), policies], ignore_index=True)

    def summary(self, weights: Sequence[float], prompts: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores of base, single-objective models and ensemble on held-out test prompts, all decoded greedily."""
        prompts = _given(prompts, partial(self.dataset.prompts, "test"))
        return report.summary(self.lm, self.rewards, self.seed, self.preset.objectives, self.ensemble(weights), prompts)

    def save_summary(self, summary: pd.DataFrame, weights: Mapping[str, float]) -> None:
        """Keep the closing tables of this seed where `python -m emorl_lite tutorial` reads them."""
        report.save_summary(self.home, summary, weights, **self.fingerprint())

    def fingerprint(self) -> dict[str, Any]:
        """The preset as plain data, for provenance."""
        adapters = {"adapters": {name: file.name for name, file in self.authors.files.items()}} if self.authors else {}
        return adapters | {
            "preset": self.preset.name,
            "seed": self.seed,
            "ppo": asdict(self.preset.ppo),
            "search": asdict(self.preset.search),
        }


def _train_one(preset: Preset, seed: int, root: Path | None, source: str, objective: str) -> None:
    """One run in a process of its own."""
    Experiment(preset, seed, root, progress=False, source=source).train(objective)


def _given(prompts: Sequence[str] | None, default: Callable[[], list[str]]) -> list[str]:
    """The prompts that were given, or the default. Raises UserError for an empty list: the default was not meant."""
    if prompts is None:
        return default()
    if not (listed := check_texts(prompts, "prompt")):
        raise UserError("no prompts: the list is empty")
    return listed
