"""What a method is given: one base model, the rewards, the prompts and a budget; and what its training took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_identity, check_made_of, write_json
from emorl_lite.base.fingerprint import describe
from emorl_lite.base.locks import alone
from emorl_lite.base.presets import PPOConfig, SearchConfig
from emorl_lite.base.provenance import made_at
from emorl_lite.base.ranges import Within, check_seed, checked, shown
from emorl_lite.base.types import Reward
from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.scores import Column, Objectives
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.training.penalised_reward import PenalisedReward
from emorl_lite.training.policy import AdapterPolicy, make_anew, own_adapter
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.run_folder import (
    OF_STUDY,
    check_files,
    checksums,
    options_identity,
    read_finished,
    read_record,
    texts_digest,
)

Budget = Literal["shared", "own"]
"""Of a method's single-objective runs: they share the method's budget evenly, or each has a whole one of its own."""
OBJECTIVE_RUNS: dict[Budget, str] = {"shared": "objectives", "own": "objectives-long"}
"""What the study calls these runs, in its jobs and tables."""


@dataclass(frozen=True)
class Cost:
    """What training took. Runs that know nothing of each other may go on side by side: sums count all of them, `parallel` the longest.

    NaN where it is not known: of adapters that come without a record.
    """

    data_points: float = 0
    """Training prompts answered, over all runs: the paper's count. A whole number."""
    parallel: float = 0
    """Training prompts answered by the longest run. A whole number."""
    samples: float = 0
    """Replies generated and scored in training, over all runs."""
    trainable: int = 0
    """Trained parameters of the policy, over all runs (critics left out)."""
    seconds: float = 0.0
    """Training time, over all runs."""

    def __add__(self, other: Cost) -> Cost:
        """Of two runs that may go on side by side."""
        summed = {name: getattr(self, name) + getattr(other, name) for name in ("data_points", "samples", "seconds")}
        summed["seconds"] = round(summed["seconds"], 1)
        longest = max(self.parallel, other.parallel) if self.known and other.known else math.nan
        return Cost(parallel=longest, trainable=self.trainable + other.trainable, **summed)

    @property
    def known(self) -> bool:
        """Whether what training took is known."""
        return not math.isnan(self.data_points)

    @classmethod
    def unknown(cls, trainable: int) -> Cost:
        """Of adapters that come without a record of their training."""
        return cls(math.nan, math.nan, math.nan, trainable, math.nan)


@dataclass
class Bench:
    """What a method is given: one base model, the rewards, the prompts, a budget and a folder of its own seed."""

    lm: LanguageModel
    rewards: RewardSet
    train_prompts: Sequence[str]
    validation_prompts: Sequence[str]
    ppo: PPOConfig
    """`episodes` is the whole budget of a method in training prompts, over all its runs."""
    kl_coefs: Mapping[str, float]
    """KL weight of each objective's own run; a policy for weights w gets their w-mean, so that all maximise the same trade-off."""
    folder: Path | None = None
    seed: int = 0
    progress: bool = False
    lrs: Mapping[str, float] = field(default_factory=dict)
    """Learning rates of objectives' own runs, where they differ from `ppo.lr`."""
    watch: Sequence[str] | None = None
    """Objectives that the single-objective runs log beside their own (default: all)."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """The published search's levels."""
    train_replies: Sequence[tuple[str, str]] = ()
    """(prompt, reply) pairs of the data set, for methods that learn from given replies."""
    single_runs: Callable[[], Cost] | None = None
    """Loads or trains single-objective adapters that have another owner, an experiment: named like their objectives, they take the place of
    those that would share this bench's budget."""
    done: dict[str, Cost] = field(default_factory=dict, init=False)
    """What each finished run took. A bench that `replace` makes with other options has done nothing yet."""
    parts: dict[str, Any] = field(default_factory=dict, init=False)
    """What a finished run holds beside its adapter."""

    def __post_init__(self) -> None:
        if not self.names:
            raise UserError("bench: no objectives")
        check_seed(self.seed, "bench: seed")
        if missing := [name for name in self.names if name not in self.kl_coefs]:
            raise UserError(f"bench: kl_coefs has no KL weight of {missing[0]}")
        for name, value in self.kl_coefs.items():
            checked(value, float, [Within(0, 10**6)], f"bench: kl_coefs, {name} {shown(value)}")
        for name, value in self.lrs.items():
            checked(value, float, [Within(0, 10, above=True)], f"bench: lrs, {name} {shown(value)}")

    @property
    def names(self) -> list[str]:
        """The objectives' names, in order."""
        return list(self.rewards)

    @cached_property
    def objectives(self) -> Objectives:
        """All objectives as one function, whose scores are remembered."""
        return Objectives(self.rewards)

    @property
    def uniform(self) -> tuple[float, ...]:
        """Equal weights that sum to one."""
        return (1 / len(self.rewards),) * len(self.rewards)

    def kl_coef(self, weights: Sequence[float]) -> float:
        """KL weight of a policy for these weights."""
        return sum(w * self.kl_coefs[name] for w, name in zip(weights, self.names, strict=True))

    def scalarised(self, weights: Sequence[float]) -> PPOConfig:
        """Options of a policy for weights w: the w-means of the objectives' own KL weights and learning rates."""
        lr = sum(w * self.lrs.get(name, self.ppo.lr) for w, name in zip(weights, self.names, strict=True))
        return replace(self.ppo, kl_coef=self.kl_coef(weights), lr=lr if self.lrs else self.ppo.lr)

    def place(self, name: str) -> Path | None:
        """Folder of one run."""
        return None if self.folder is None else self.folder / name

    def options(self, name: str) -> dict[str, Any]:
        """What every trainer of this bench is called with."""
        options = {"folder": self.place(name), "seed": self.seed, "progress": self.progress}
        return options | {"validation_prompts": self.validation_prompts}

    def identity(self) -> dict[str, Any]:
        """What makes a run of this bench this run, for methods that do not train with `PPOTrainer`."""
        texts, options = texts_digest(self.train_prompts), options_identity(self.lm, self.ppo)
        return {"seed": self.seed, "objectives": self.names, "prompts": texts, "kl_coefs": dict(self.kl_coefs), **options}

    def own_rates(self) -> dict[str, Any]:
        """Objectives' own learning rates, for the identity of a run at their mean; nothing where all have the same."""
        own = {name: rate for name, rate in self.lrs.items() if name in self.names and rate != self.ppo.lr}
        return {"lrs": own} if own else {}

    def once(self, name: str, train: Callable[[], Cost]) -> Cost:
        """Train a run unless this bench has done so already; without a folder nothing else would know."""
        if name not in self.done:
            self.done[name] = train()
        return self.done[name]

    def kept(self, name: str, options: Mapping[str, Any], train: Callable[[], tuple[int, int]]) -> Cost:
        """An adapter that `PPOTrainer` does not train: loaded if its folder has it, else trained by `train`, which is given a new one.

        `train` returns (prompts answered, replies generated); `options` are what else makes the run this run. Nothing is resumed half-way.
        Raises UserError for an adapter of another run, as `PPOTrainer` does.
        """

        def run() -> Cost:
            folder = self.place(name)
            finished = folder is None or (folder / "done.json").is_file()
            with nullcontext() if finished or folder is None else alone(folder, "training"):
                return load_or_train(folder)

        def load_or_train(folder: Path | None) -> Cost:
            identity, made_of = self.identity() | dict(options), describe(self.rewards, "rewards")
            record = None
            if folder and (folder / "done.json").is_file():
                record = read_record(folder)
                check_identity(folder / "done.json", record["identity"], identity)
                check_made_of(folder / "done.json", record.get("made_of"), made_of, "use another folder, or delete it")
                check_files(folder, record)
            policy = AdapterPolicy(self.lm, name)
            if own_adapter(policy, folder, self.seed, start_from_loaded=False, recorded={}).left_behind:
                make_anew(policy, self.seed)
            if folder and record:
                self.lm.load_adapter(folder, name)
                return Cost(**record["cost"])
            started = time.perf_counter()
            prompts, samples = train()
            cost = Cost(prompts, prompts, samples, trained_parameters(self.lm, name), round(time.perf_counter() - started, 1))
            self.lm.round_adapter(name)
            if folder:
                self.lm.save_adapter(name, folder)
                facts = {"cost": asdict(cost), "identity": identity, "made_of": made_of, "files": checksums(folder)}
                write_json(folder / "done.json", facts | {"made_at": made_at()})
            return cost

        return self.once(name, run)

    def train(self, name: str, reward: Reward | PenalisedReward, config: PPOConfig, adapter: str = "", **options: Any) -> Cost:
        """Train (finish, load) the run `name` with PPO on a reward; its adapter has the same name unless another is given."""

        def run() -> Cost:
            trainer_options = self.options(name) | {"watch": self.objectives.watch()} | options
            trainer = PPOTrainer(self.lm, adapter or name, reward, self.train_prompts, config, **trainer_options)
            trainer.train()
            return cost_of(trainer)

        return self.once(name, run)

    def adapters(self, budget: Budget = "shared") -> list[str]:
        """Names of the single-objective adapters with this budget, in the order of the objectives."""
        if _known(budget) == "shared" and self.single_runs:
            return self.names
        return [OF_STUDY + name + ("-long" if budget == "own" else "") for name in self.names]

    def episodes_each(self, budget: Budget) -> int:
        """Prompts of each of d runs. Raises UserError for a budget too small to be shared."""
        each = self.ppo.episodes // (len(self.names) if _known(budget) == "shared" else 1)
        if not each:
            raise UserError(f"a budget of {self.ppo.episodes}: too small to be shared by {len(self.names)} runs")
        return each

    def train_objectives(self, budget: Budget = "shared") -> Cost:
        """One adapter per objective, each on its own reward alone: what EMORL and all mergers start from.

        "shared" divides the budget evenly, so that the sum of the runs is another method's one run; "own" gives each the whole budget, so
        that its runs, side by side, take as long as another method's one.
        """
        if _known(budget) == "shared" and self.single_runs:
            return self.once(OBJECTIVE_RUNS[budget], self.single_runs)
        episodes = self.episodes_each(budget)
        costs = []
        for name, adapter in zip(self.names, self.adapters(budget), strict=True):
            config = replace(self.ppo, episodes=episodes, kl_coef=self.kl_coefs[name], lr=self.lrs.get(name, self.ppo.lr))
            run = adapter.removeprefix(OF_STUDY)
            if self.watch is None:
                costs.append(self.train(run, Column(self.objectives, name), config, adapter=adapter))
            else:  # only these are scored at all
                watched = {other: self.rewards[other] for other in self.names if other in self.watch and other != name}
                costs.append(self.train(run, self.rewards[name], config, adapter=adapter, watch=watched))
        return sum(costs[1:], costs[0])


def _known(budget: Budget) -> Budget:
    """This budget. Raises UserError for what is none."""
    known: Budget = checked(budget, Budget, [], f"budget {shown(budget)}")
    return known


def cost_of(trainer: PPOTrainer) -> Cost:
    """What a finished run took."""
    trainable = sum(p.numel() for p in trainer.parameters)
    return Cost(trainer.episodes, trainer.episodes, trainer.samples, trainable, round(trainer.seconds, 1))


def cost_of_finished(lm: LanguageModel, adapter: str, folder: Path) -> Cost:
    """What the finished PPO run in a folder took, by its record; its adapter is in the model."""
    record = read_finished(folder)
    trainable = trained_parameters(lm, adapter)
    return Cost(record["episodes"], record["episodes"], record["samples"], trainable, round(record["seconds"], 1))


def trained_parameters(lm: LanguageModel, adapter: str) -> int:
    """How many numbers an adapter has."""
    return sum(p.numel() for key, p in lm.model.named_parameters() if f".{adapter}." in key)
