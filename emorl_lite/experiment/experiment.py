"""Experiments on disk: train or load, tables with their provenance.

    runs/<preset>/classifiers/<objective>/    reward classifiers
    runs/<preset>/seed<k>/<objective>/        PPO: adapter, log.csv, samples.csv, checkpoint
    runs/<preset>/seed<k>/search.csv          every point of the search

data/<preset>/ holds the same for runs that come with the repository: `source` says whose are used.

Runs on a data file have the file's name before the seed: runs/<preset>/<file>-seed<k>/.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.presets import OBJECTIVES, PRESETS, Preset
from emorl_lite.base.provenance import save_table
from emorl_lite.base.workers import processes
from emorl_lite.data.datasets import Dataset, load_dataset
from emorl_lite.data.downloads import find_file
from emorl_lite.ensemble.ensemble import EnsembleLM, Level
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import exact_search
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.lm.lengths import check_lengths
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.build import RewardRuns
from emorl_lite.rewards.objectives import finished
from emorl_lite.rewards.text_rewards import EPITOME, warm_start_examples
from emorl_lite.search.evaluation import AverageEvaluation, Score, TreeEvaluation, confirm
from emorl_lite.search.grid import SearchResult, hierarchical_grid_search
from emorl_lite.search.samplers import find_weights
from emorl_lite.search.score_table import Evaluate
from emorl_lite.training.parallel import ParallelPPO, world_size
from emorl_lite.training.ppo import PPOTrainer


@dataclass
class Experiment(RewardRuns):
    """One preset and seed: its model, data, rewards, adapters and search. Everything is loaded if it is there and trained if not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = PRESETS.get(self.preset.name)
        own_data = self.preset.data.name == "small_world" or (known is not None and known.data.path == self.preset.data.path)
        self.folder = self.home / f"{'' if own_data else Path(self.preset.data.path).stem + '-'}seed{self.seed}"

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
        from emorl_lite.training.warm_start import warm_start_adapter

        folder, options = self.place("warmstart"), self.preset.warm_start
        if (folder / "done.json").is_file():
            made = json.loads((folder / "done.json").read_text(encoding="utf-8"))
            for name, value in asdict(options).items():
                if made.get(name, value) != value:
                    raise UserError(f"{folder}: made with {name} = {made[name]!r}, now {value!r}; choose another --runs, or delete it")
            return folder
        self.refuse_to_train(folder)
        examples = warm_start_examples(load_dataset(replace(self.preset.data, max_words=options.max_words)), find_file(EPITOME))
        if self.progress:
            print(f"warm start: {options.steps} supervised steps on {len(examples)} replies")
        warm_start_adapter(LanguageModel.load(self.preset.model), examples, options, folder)
        return folder

    def ready(self) -> bool:
        """Whether everything is there that several processes could not make together: the warm start and the classifiers."""
        config = self.preset.rewards
        made = [o for o in ("reflection", "empathy") if o in self.preset.objectives and not (o == "empathy" and config.empathy_ready)]
        classifiers = all((self.place("classifiers", o) / "classifier.safetensors").is_file() for o in made)
        return classifiers and (not self.preset.warm_start.steps or (self.place("warmstart") / "done.json").is_file())

    def run_folder(self, objective: str) -> Path:
        """Where the run of an objective lies."""
        return self.place(self.folder.name, objective)

    @cached_property
    def dataset(self) -> Dataset:
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
        from emorl_lite.training.warm_start import warm_start

        if self.preset.warm_start.steps:
            raise UserError(f"--warm-start-steps: the preset {self.preset.name} has a warm start of its own")
        if self.trained():
            raise UserError(f"{self.folder}: holds adapters of another base; choose another --seed or --runs for a warm start")
        pairs = [(e.prompt, e.reply) for e in self.dataset.examples("train")]
        self.lm = warm_start(self.lm, pairs, steps, seed=self.seed, folder=self.folder / "base")

    def train(self, objective: str, resume: bool = True) -> pd.DataFrame:
        """Train (or finish, or load) the adapter of one objective. Returns its log with columns `objective` and `seed` added."""
        preset, ppo = self.preset, self.preset.ppo
        config = replace(ppo, kl_coef=preset.kl_coef.get(objective, ppo.kl_coef), lr=preset.lr.get(objective, ppo.lr))
        folder = self.run_folder(objective)
        if not resume and self.is_published(folder):
            folder = self.folder / objective
        if self.is_published(folder):
            if not (folder / "done.json").is_file():
                self.refuse_to_train(folder)
            if objective not in self.lm.adapters:
                self.lm.load_adapter(folder, objective)
            return pd.read_csv(folder / "log.csv").assign(objective=objective, seed=self.seed)
        trainer = (ParallelPPO if world_size() > 1 else PPOTrainer)(
            self.lm,
            objective,
            self.rewards[objective],
            self.dataset.prompts("train"),
            config,
            folder=folder,
            validation_prompts=self.dataset.prompts("validation"),
            watch={name: reward for name, reward in self.rewards.items() if name != objective},
            seed=self.seed,
            progress=self.progress,
        )
        log = trainer.train(resume=resume)
        return log.assign(objective=objective, seed=self.seed)

    def train_all(self, workers: int | None = None) -> pd.DataFrame:
        """The adapters of all objectives; the logs one below the other.

        The runs know nothing of each other, so up to `workers` of them go on at the same time, in processes of their own, with the same
        results (default: two on a CPU that has two cores, else one).
        """
        missing = [name for name in self.preset.objectives if name not in self.trained()]
        for name in missing:
            self.refuse_to_train(self.run_folder(name))
        if workers is None:
            workers = min(2, os.cpu_count() or 1) if self.lm.device.type == "cpu" else 1
        if workers > 1 and len(missing) > 1:
            for name in self.preset.objectives:
                _ = self.rewards[name]  # the classifiers, once, before the workers load them
            job = partial(_train_one, self.preset, self.seed, self.root, self.source)
            with processes(min(workers, len(missing))) as pool:
                self._follow([pool.submit(job, name) for name in missing], missing)
        return pd.concat([self.train(name) for name in self.preset.objectives], ignore_index=True)

    def _follow(self, runs: list[Future[None]], names: list[str]) -> None:
        """Show how far runs in other processes are, by their logs, until all have ended. Raises what a run raises."""
        files = [self.folder / name / "log.csv" for name in names]
        total = self.preset.ppo.episodes * len(names)
        look: dict[str, Any] = {"unit": "ep", "file": sys.stdout, "mininterval": 1, "disable": not self.progress}
        with tqdm(total=total, desc=" + ".join(names), **look) as bar:
            while True:
                ended = all(run.done() for run in runs)
                steps = sum(max(0, file.read_text(encoding="utf-8").count("\n") - 1) for file in files if file.is_file())
                bar.update(min(total, steps * self.preset.ppo.batch_size) - bar.n)
                if ended:
                    break
                time.sleep(0.5)
        for run in runs:
            run.result()

    def load_adapters(self) -> None:
        """Load the adapters; whatever is missing is trained."""
        if len(self.trained()) < len(self.preset.objectives):
            self.train_all()
        for name in self.preset.objectives:
            if name not in self.lm.adapters:
                self.lm.load_adapter(self.run_folder(name), name)

    def ensemble(self, weights: Sequence[float] | None = None, level: Level = "hidden") -> EnsembleLM:
        """The ensemble of this experiment's adapters, uniform weights by default."""
        self.load_adapters()
        names = list(self.preset.objectives)
        return EnsembleLM(self.lm, names, weights=tuple(weights or [1 / len(names)] * len(names)), level=level)

    # -- evaluation and search

    def policy_replies(self, policy: str, prompts: Sequence[str], **options: Any) -> list[str]:
        """Replies of `base` or of one adapter, greedy unless the options to generate() say otherwise."""
        if policy == "base":
            with self.lm.without_adapters():
                return self.lm.reply(prompts, **options)
        self.lm.use(policy)
        return self.lm.reply(prompts, **options)

    def score(self, policy: str, prompts: Sequence[str], replies: Sequence[str]) -> dict[str, Any]:
        """One row: mean score per objective, their mean, and the share of replies that ended."""
        means = self.rewards.means(prompts, replies)
        ended = float(finished(replies).mean())
        return {"policy": policy, "seed": self.seed, **means, "mean": sum(means.values()) / len(means), "finished": ended}

    def tree(self, prompts: Sequence[str], **options: Any) -> PrefixTree:
        """A prefix tree of this experiment's adapters over some prompts."""
        self.load_adapters()
        return PrefixTree(self.lm, list(self.preset.objectives), prompts, **options)

    def validation(self) -> list[str]:
        """The fixed prompts that every point of a search is scored on."""
        return self.dataset.prompts("validation")[: self.preset.search.validation_prompts]

    def exact_map(self, prompts: Sequence[str] | None = None, row_cap: int | None = None, **options: Any) -> ScoredMap:
        """The exact map of some prompts (the search's validation prompts by default), every distinct reply scored once."""
        return scored_map(exact_map(self.tree(prompts or self.validation(), **options), row_cap), self.rewards.scores)

    def search(self, prompts: Sequence[str] | None = None) -> SearchResult:
        """Search the ensemble's weights on the fixed validation set by the preset's method; a table that is there is resumed."""
        prompts, config = list(prompts or self.validation()), self.preset.search
        objectives, table_path = self.preset.objectives, self.folder / f"{self._search_stem()}.csv"
        if config.method == "exact" and config.level != "hidden":
            raise UserError(f"--search.level {config.level}: the exact search mixes hidden states")
        score = self.rewards.scores  # an unknown objective is told before anything is trained
        self.load_adapters()
        self.folder.mkdir(parents=True, exist_ok=True)
        made_of = {"adapters": self.adapter_hashes(), "prompts": digest("\n".join(prompts).encode())}
        if config.method == "exact":
            result = exact_search(self.exact_map(prompts))
            result.table.to_csv(table_path, index=False)
            made_by = json.dumps({"search": "exact", "objectives": list(objectives), "provenance": made_of}, indent=1)
            table_path.with_suffix(".search.json").write_text(made_by + "\n", encoding="utf-8")
        else:
            evaluate: Evaluate = self._evaluation(prompts, score)
            more: dict[str, Any] = {"table_path": table_path, "progress": self.progress, "provenance": made_of}
            if config.method == "hierarchical":
                result = hierarchical_grid_search(evaluate, objectives, config, by_direction=config.level != "parameters", **more)
            else:
                result = find_weights(config.method, evaluate, objectives, config.evaluations, self.seed, **more)
        found = {"weights": dict(zip(objectives, result.best, strict=True)), "scores": result.best_scores}
        table_path.with_suffix(".json").write_text(json.dumps(found), encoding="utf-8")
        return result

    def _evaluation(self, prompts: Sequence[str], score: Score) -> AverageEvaluation | TreeEvaluation:
        """What a search asks: the mean scores of a weight vector, mixed at the preset's level."""
        level = self.preset.search.level
        if level == "parameters":
            return AverageEvaluation(self.lm, self.preset.objectives, prompts, score)
        return TreeEvaluation(self.tree(prompts, level=level), score)

    def _search_stem(self) -> str:
        """Name of a search's files: plain for the published method and the paper's objectives."""
        own = "" if self.preset.objectives == OBJECTIVES else "-" + "-".join(self.preset.objectives)
        method, level = self.preset.search.method, self.preset.search.level
        return "search" + own + ("" if method == "hierarchical" else f"-{method}") + ("" if level == "hidden" else f"-{level}")

    def confirm(self, result: SearchResult, prompts: Sequence[str] | None = None) -> pd.DataFrame:
        """What a search promised beside what its weights score on fresh prompts (the test prompts by default), with intervals."""
        prompts = list(prompts or self.dataset.prompts("test"))
        evaluate = self._evaluation(prompts, self.rewards.scores)
        if isinstance(evaluate, AverageEvaluation):
            replies = evaluate.replies(result.best)
        else:
            replies = [row[0] for row in evaluate.tree.replies(result.best)]
        return confirm(result.best_scores, self.rewards.scores(prompts, replies))

    def adapter_hashes(self) -> dict[str, str]:
        """What tells these adapters from others."""
        return {name: digest((self.run_folder(name) / "adapter_model.safetensors").read_bytes()) for name in self.preset.objectives}

    def trained(self) -> list[str]:
        """The objectives whose adapters are finished."""
        return [name for name in self.preset.objectives if (self.run_folder(name) / "done.json").is_file()]

    def found_weights(self) -> tuple[float, ...] | None:
        """The weights that the search found, if it was run."""
        file = self.folder / f"{self._search_stem()}.json"
        if not file.is_file():
            return None
        found = json.loads(file.read_text(encoding="utf-8"))["weights"]
        return tuple(found[name] for name in self.preset.objectives)

    def evaluate(self, weights: Sequence[float] = ()) -> pd.DataFrame:
        """Mean rewards of the data's own replies (by level), and of greedy replies of base, adapters and ensemble on test prompts."""
        rows = []
        examples = self.dataset.examples("test")
        for level in dict.fromkeys(e.level for e in examples):
            own = [e for e in examples if e.level == level]
            name = f"replies, {level}" if level else "replies"
            rows.append(self.score(name, [e.prompt for e in own], [e.reply for e in own]) | {"n": len(own)})
        prompts = self.dataset.prompts("test")
        trained = self.trained()
        for name in ("base", *trained):
            if name != "base" and name not in self.lm.adapters:
                self.lm.load_adapter(self.run_folder(name), name)
            rows.append(self.score(name, prompts, self.policy_replies(name, prompts)) | {"n": len(prompts)})
        chosen = tuple(weights) or self.found_weights()
        missing = [name for name in self.preset.objectives if name not in trained]
        if chosen and missing:
            raise UserError(f"--weights: no adapter for {missing[0]!r} in {self.folder}; train it first")
        if not missing:
            replies = self.ensemble(chosen).reply(prompts)
            rows.append(self.score("ensemble", prompts, replies) | {"n": len(prompts)})
        return pd.DataFrame(rows)

    def summary(self, weights: Sequence[float], prompts: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores of base, single-objective models and ensemble on held-out test prompts, all decoded greedily."""
        prompts = list(prompts or self.dataset.prompts("test"))
        self.load_adapters()
        rows = [self.score(name, prompts, self.policy_replies(name, prompts)) for name in ("base", *self.preset.objectives)]
        rows.append(self.score("ensemble", prompts, self.ensemble(weights).reply(prompts)))
        return pd.DataFrame(rows)

    def save_summary(self, summary: pd.DataFrame, weights: Mapping[str, float]) -> None:
        """Keep the closing tables of this seed where `python -m emorl_lite tutorial` reads them."""
        save_table(summary, self.home / "summary.csv", **self.fingerprint())
        (self.home / "search.json").write_text(json.dumps({"weights": dict(weights)}) + "\n", encoding="utf-8")

    def fingerprint(self) -> dict[str, Any]:
        """The preset as plain data, for provenance."""
        return {"preset": self.preset.name, "seed": self.seed, "ppo": asdict(self.preset.ppo), "search": asdict(self.preset.search)}


def _train_one(preset: Preset, seed: int, root: Path | None, source: str, objective: str) -> None:
    """One run in a process of its own."""
    Experiment(preset, seed, root, progress=False, source=source).train(objective)
