"""What all methods have in common: what they must tell, and how their replies are asked for.

A method is trained (or loaded) once by `prepare`, and then replies: `reply(prompts, setting)`. Its setting is its own knob: objective
weights for a method that can be steered, a strength for DeRa, nothing for a policy that is trained for one trade-off.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.ranges import checked, shown
from emorl_lite.base.texts import check_texts
from emorl_lite.base.weights import as_numbers
from emorl_lite.ensemble.corners import Corners
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import exact_search
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.lm.examination import examine
from emorl_lite.lm.forward import shrunk
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.methods.bench import OBJECTIVE_RUNS, Bench, Budget, Cost
from emorl_lite.search.pareto import utility_weights

Family = Literal["single policy", "merging", "decoding", "steerable"]
Knob = Literal["none", "weights", "subset", "strength"]
Setting = Sequence[float] | None
NOT_LINEAR = "the next word's scores are not linear in its {}"
"""Why the replies at every setting of a knob cannot be known."""


class Policy(Protocol):
    """A language model as decoding sees it: `LanguageModel` and `EnsembleLM` are both."""

    def reply(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """Reply texts, greedy by default; options go to generate()."""

    def generate(self, inputs: Encoded, **options: Any) -> Tensor:
        """Reply tokens."""

    def forward_reply(self, inputs: Encoded, reply: Tensor, reply_mask: Tensor) -> tuple[Tensor, Any]:
        """Logits [B, T, V] that predict each token of given replies."""


class Method(ABC):
    """One way to serve several objectives."""

    name: str
    """As in the registry; a parameter may add to the name that the class gives."""
    family: ClassVar[Family]
    knob: Knob
    reference: ClassVar[str]
    """Where it comes from."""
    trains: str
    """What is trained, in a few words."""
    decodes: ClassVar[str]
    """What a reply needs, in a few words."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Other methods that must be trained first."""

    most: ClassVar[int] = 10**3
    """Objectives that it can have."""
    version: ClassVar[int] = 1
    """Raised when a method of this name becomes another: results of the one before are not taken for its own."""

    def __init__(self, bench: Bench):
        """Raises UserError for options, here and in every method, that make no sense, before anything is trained."""
        self.check_objectives(len(bench.names))
        self.bench = bench

    def option(self, name: str, value: Any, hint: Any, *rules: Any) -> Any:
        """An option of this method as its type says, inside its ranges. Raises UserError, which names both, for any other."""
        return checked(value, hint, rules, f"method {self.name}: {name} {shown(value)}")

    @classmethod
    def check_objectives(cls, d: int) -> None:
        """Raise UserError for so many objectives that this method can weigh nothing against nothing, or not all of them."""
        if cls.knob in ("weights", "subset") and d < 2:
            raise UserError(f"method {cls.name}: weighs objectives against each other, and there is only {d}")
        if d > cls.most:
            raise UserError(f"method {cls.name}: mixes {cls.most} objectives at most, and there are {d}")

    @classmethod
    def needed(cls, **parameters: Any) -> tuple[str, ...]:
        """What else must be trained for a method with these parameters: methods, or single-objective runs (a value of OBJECTIVE_RUNS)."""
        return cls.needs

    @abstractmethod
    def prepare(self) -> Cost:
        """Train what is missing, load what is there. Returns what training took, also if it was loaded."""

    @abstractmethod
    def policy(self, setting: Setting = None) -> AbstractContextManager[Policy]:
        """The policy at a setting of the knob, while the block lasts. None: the knob's default."""

    def shrunk(self, scale: float) -> AbstractContextManager[None]:
        """Inside `policy`, only this share of what was trained is kept: 0 is the base model, 1 changes nothing."""
        return shrunk(self.bench.lm, scale)

    def encode(self, prompts: Sequence[str], setting: Setting = None) -> Encoded:
        """The policy's inputs for these prompts."""
        return self.bench.lm.encode(prompts)

    def corners(self) -> Corners | None:
        """What the knob mixes, if the next word's scores are linear in it: then the replies at every setting can be known. Else None.

        Its domain's columns are the knob's numbers, those of a setting.
        """
        return None

    def tree(self, prompts: Sequence[str]) -> PrefixTree:
        """Decodes many settings at once. Raises UserError for a method that has no corners."""
        if (corners := self.corners()) is None:
            raise UserError(f"method {self.name}: {NOT_LINEAR.format(self.knob)}, so it has no prefix tree")
        return PrefixTree.of(corners, prompts)

    def exact_map(self, prompts: Sequence[str]) -> ScoredMap | None:
        """The replies at every setting and their scores; None for a method that has no corners."""
        return None if self.corners() is None else scored_map(exact_map(self.tree(prompts)), self.bench.objectives.scores)

    def own_choices(self, prompts: Sequence[str], scored: ScoredMap | None = None) -> dict[str, tuple[float, ...]]:
        """Settings that the method's own searches choose on validation prompts, by the search's name: of an exact map its optimum.

        `scored`: these prompts' map, where it is there already.
        """
        return {} if self.corners() is None else {"exact optimum": self.optimum(prompts, scored)}

    def optimum(self, prompts: Sequence[str], scored: ScoredMap | None = None) -> tuple[float, ...]:
        """The setting with the best mean score over the objectives, of all there are. Raises UserError for a method that has no corners."""
        if scored is None:
            scored = self.exact_map(prompts)
        if scored is None:
            raise UserError(f"method {self.name}: {NOT_LINEAR.format(self.knob)}, so its best setting cannot be known")
        best = scored.map.domain.values(np.array([exact_search(scored).best]))[0]
        return tuple(float(x) for x in best)

    @property
    def default(self) -> tuple[float, ...]:
        """The setting that stands for none."""
        return self.bench.uniform if self.knob in ("weights", "subset") else ()

    @property
    def calls(self) -> int:
        """Forward passes of the language model for each generated token."""
        return 1

    def reply(self, prompts: Sequence[str], setting: Setting = None, **options: Any) -> list[str]:
        """Reply texts, one a prompt; greedy unless the options to generate() say otherwise. `setting`: objective weights, or the knob."""
        examine(self.bench.lm)
        with self.policy(self.checked(setting)) as policy:
            return policy.reply(prompts, **options)

    def replies_at(self, prompts: Sequence[str], settings: Sequence[Sequence[float]]) -> list[list[str]]:
        """Greedy replies at many settings, a list a setting; an empty setting is the default. All in one prefix tree where there is one."""
        prompts = check_texts(prompts, "prompt")
        if self.corners() is None:
            return [self.reply(prompts, setting if len(setting) else None) for setting in settings]
        asked = [self.checked(setting) if len(setting) else self.default for setting in settings]
        return [list(replies) for replies in zip(*self.tree(prompts).replies(asked), strict=True)]

    def settings(self, steps: int) -> list[tuple[float, ...]]:
        """The knob's settings that a comparison goes through; one empty setting for a method without a knob."""
        if self.knob == "weights":
            return [tuple(weights) for weights in utility_weights(len(self.bench.names), steps).tolist()]
        return [()]

    def checked(self, setting: Setting) -> tuple[float, ...] | None:
        """A setting of any kind as numbers; None stays None. Raises UserError for one that this method cannot have."""
        if setting is None:
            return None
        where = f"method {self.name}: the setting {shown(setting)}"
        try:
            numbers = as_numbers(setting, where, torch.float64)
        except UserError as error:
            raise UserError(f"{where} is no sequence of numbers") from error
        if numbers.dim() != 1:
            raise UserError(f"{where} is no sequence of numbers")
        values = tuple(numbers.tolist())
        if not all(map(math.isfinite, values)):
            raise UserError(f"method {self.name}: the setting {list(values)} holds a NaN or an infinity")
        self.check(values)
        return values

    @classmethod  # noqa: B027 (most methods have nothing to check)
    def check_possible(cls, lm: LanguageModel) -> None:
        """Raise UserError if this method cannot be had with this model, or lacks a package."""

    @classmethod  # noqa: B027 (most methods take any)
    def check_options(cls, ppo: PPOConfig) -> None:
        """Raise UserError for options that this method cannot be trained with."""

    def check(self, setting: Sequence[float]) -> None:
        """Raise UserError for a setting that this method cannot have."""
        d = len(self.bench.names)
        if self.knob == "none" and len(setting):
            raise UserError(f"method {self.name}: is trained for one trade-off and takes no weights")
        if self.knob in ("weights", "subset") and (len(setting) != d or min(setting) < 0 or sum(setting) <= 0):
            raise UserError(f"method {self.name}: expected {d} weights, not negative and not all zero, got {list(setting)}")


class OfObjectives(Method):
    """A method that starts from single-objective adapters: base of EMORL and of all mergers.

    With a budget of their own for each, the runs take, side by side, as long as another method's one run, and d times its data.
    """

    def __init__(self, bench: Bench, budget: Budget = "shared"):
        super().__init__(bench)
        self.budget = self.option("budget", budget, Budget)
        if budget == "own":
            self.name, self.trains = f"{self.name}-long", "one adapter per objective, each with the whole budget"

    @classmethod
    def needed(cls, **parameters: Any) -> tuple[str, ...]:
        """The runs with this budget."""
        return (OBJECTIVE_RUNS[parameters.get("budget", "shared")],)

    def prepare(self) -> Cost:
        """Train or load the adapters of the objectives."""
        return self.bench.train_objectives(self.budget)

    @property
    def adapters(self) -> list[str]:
        """The objectives' adapters."""
        return self.bench.adapters(self.budget)


@contextmanager
def active(lm: LanguageModel, adapter: str) -> Iterator[LanguageModel]:
    """The model with this adapter active; afterwards the one that was."""
    before = lm.model.active_adapter
    lm.use(adapter)
    try:
        yield lm
    finally:
        lm.use(before)
