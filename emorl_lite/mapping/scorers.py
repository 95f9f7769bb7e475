"""What a map's replies are scored by: rewards of the package by name, and a reader's own functions by module or file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import first_line, is_of_memory
from emorl_lite.base.files import file_digest
from emorl_lite.base.presets import Preset, TextRewards
from emorl_lite.base.ranges import check_name, shown
from emorl_lite.base.types import Reward
from emorl_lite.base.workspace import Workspace
from emorl_lite.lm.model import UNFINISHED, LanguageModel
from emorl_lite.mapping.options import split_name
from emorl_lite.rewards.build import RewardBuilder
from emorl_lite.rewards.classifier_store import is_trained
from emorl_lite.rewards.committee import Committee
from emorl_lite.rewards.objectives import Guarded, RewardSet
from emorl_lite.rewards.registry import REWARDS, make_reward
from emorl_lite.rewards.small_world_judge import CrossEncoder
from emorl_lite.rewards.text_judge import TextClassifier

FOR_ANY_MODEL = ("fluency", "brevity", "diversity")
"""Rewards that need no classifier."""
KNOBS = ("strength", "guidance", "beta")
"""Columns of a line, of guidance and of contrast."""
OF_REGIONS = ("prompt", "prompt_text", "sample", "share", "reply", "tokens", "mean", "pareto", "margin", "lead")
"""Of the table of regions, scores and weights aside."""
TAKEN = frozenset({*OF_REGIONS, *KNOBS, "how", "weights"})
"""Names of a map's other columns, of whatever kind of mixture."""


@dataclass
class Judges:
    """What the package's rewards are made from: classifiers of the preset that are there, and a model that judges fluency.

    Nothing is trained for a map.
    """

    workspace: Workspace
    base: LanguageModel | None = None
    """The model whose replies are scored, where that is not the preset's own: it judges their fluency, by options for any text."""

    @cached_property
    def preset(self) -> Preset:
        """Whose options of scoring."""
        own = self.workspace.preset
        return own if self.base is None else replace(own, rewards=TextRewards(fluency_cap=50.0, fluency_context=True))

    @cached_property
    def builder(self) -> RewardBuilder:
        """Loads the preset's classifiers."""
        return RewardBuilder(self.workspace, progress=False)

    @property
    def frozen(self) -> LanguageModel:
        """The preset's base model as nobody trained it, or the one whose replies are scored."""
        return self.builder.frozen if self.base is None else self.base

    def classifier(self, objective: str) -> CrossEncoder | TextClassifier | Committee:
        """The preset's classifier of an objective. Raises UserError if there is none: a map trains nothing."""
        preset = self.workspace.preset
        if not preset.rewards.ready_made(objective) and not is_trained(self.workspace.place("classifiers", objective)):
            raise UserError(
                f"--rewards {objective}: the preset {preset.name} has no trained classifier of it here; "
                f"`python -m emorl_lite train --preset {preset.name}` trains it, or name another reward"
            )
        return self.builder.classifier(objective)


@dataclass(frozen=True)
class Wanted:
    """One column of scores that a command asks for."""

    name: str
    place: str
    """A reward of the package, or module:function."""
    function: Callable[..., Any] | None = None
    """The reader's own."""

    def facts(self) -> dict[str, str]:
        """What tells it from another: where it is, and the digest of its file."""
        file = inspect.getsourcefile(inspect.unwrap(self.function)) if inspect.isroutine(self.function) else None
        return {"reward": self.place} | ({"file": file_digest(Path(file))} if file and Path(file).is_file() else {})


def read_rewards(specs: Sequence[str]) -> list[Wanted]:
    """The columns that --rewards names; a reader's functions are imported.

    Raises UserError for a name or function that is not there, and for a column that there is already.
    """
    wanted: dict[str, Wanted] = {}
    for spec in specs:
        given, place = split_name(spec, "--rewards")
        own = ":" in place
        if not own and place not in REWARDS:
            known = ", ".join(REWARDS)
            raise UserError(f"--rewards {shown(spec)}: expected one of {known}, or your own as module:function or file.py:function")
        function = load_function(place) if own else None
        name = given or (place.rpartition(":")[2] if own else place)
        check_name(name, f"--rewards {shown(spec)}")
        if name in wanted:
            raise UserError(f"--rewards {shown(spec)}: a second one named {name}; give it another name, {name}2={place}")
        if name in TAKEN or name.startswith("w_"):
            raise UserError(f"--rewards {shown(spec)}: {name} is another column's name; give it another, my_{name}={place}")
        wanted[name] = Wanted(name, place, function)
    return list(wanted.values())


def make_rewards(wanted: Sequence[Wanted], judges: Judges) -> RewardSet:
    """The rewards. The package's own are guarded, as in training: an unfinished or empty reply scores 0, a repetitive one less; but where
    the model is not the preset's, which may say more than any limit, a reply that was cut is scored as far as it goes. A reader's function
    counts as it is. Raises UserError for a classifier that is not there."""
    rewards: dict[str, Reward] = {}
    for column in wanted:
        if column.function is not None:
            rewards[column.name] = Own(column.function, column.place)
        else:
            made = make_reward(column.place, REWARDS[column.place], judges)
            guarded = Guarded(made, column.name, judges.preset.rewards.repeat_ngram)
            rewards[column.name] = guarded if judges.base is None else AsFarAsItGoes(guarded)
    return RewardSet(rewards)


@dataclass
class AsFarAsItGoes:
    """A guarded reward that takes a reply cut at the limit for one that ended there."""

    guarded: Guarded

    def __call__(self, prompts: list[str], replies: list[str]) -> Any:
        """Scores [N] in [0, 1]."""
        return self.guarded(prompts, [reply.removesuffix(UNFINISHED) for reply in replies])


@dataclass
class Own:
    """A reader's function of (prompts, replies). What it raises is told in one line, with the line of its file."""

    function: Callable[..., Any]
    place: str

    def __call__(self, prompts: list[str], replies: list[str]) -> Any:
        """What the function gives; `base.scores` checks it."""
        try:
            return self.function(prompts, replies)
        except (Exception, SystemExit) as error:
            if is_of_memory(error):
                raise
            raise UserError(f"--rewards {self.place}: raised {_told(error)}") from error


def load_function(place: str) -> Callable[..., Any]:
    """The function at module:function or file.py:function. Raises UserError if there is none that takes prompts and replies."""
    where, _, name = place.rpartition(":")
    option = f"--rewards {shown(place)}"
    if not where or not name.isidentifier():
        raise UserError(f"{option}: expected module:function or file.py:function")
    try:
        module = _file(Path(where), option) if where.endswith(".py") else importlib.import_module(where)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            raise UserError(f"{option}: there is no module {where} here; a file is named with its ending, file.py:function") from error
        raise UserError(f"{option}: cannot be imported: {_told(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{option}: cannot be imported: {_told(error)}") from error
    function = getattr(module, name, None)
    if function is None:
        raise UserError(f"{option}: {where} has no {name}")
    if not callable(function):
        raise UserError(f"{option}: {name} is {type(function).__name__}, expected a function of prompts and replies")
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        raise UserError(f"{option}: expected a function of two lists, prompts and replies ({error})") from error
    except ValueError:  # a function that tells no signature
        pass
    return function  # type: ignore[no-any-return]


def _file(path: Path, option: str) -> Any:
    """The module in a file."""
    if not path.is_file():
        raise UserError(f"{option}: {path}: {'is no regular file' if path.exists() else 'no such file'}")
    name = f"emorl_map_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{option}: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _told(error: BaseException) -> str:
    """An error in one line, with the last line of a reader's own file that it came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename and Path(f.filename).parent != _HERE]
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"


_HERE = Path(__file__).parent
