"""Every reward by its name. Another one is a function or class in `objectives` and its line here; guards are put around it by `build`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Protocol

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import Preset, TextRewards
from emorl_lite.base.types import Reward
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.committee import Committee
from emorl_lite.rewards.metrics import Specificity, diversity_2
from emorl_lite.rewards.objectives import Brevity, Fluency
from emorl_lite.rewards.small_world_judge import CrossEncoder
from emorl_lite.rewards.text_judge import TextClassifier
from emorl_lite.rewards.text_rewards import real_fluency


class Given(Protocol):
    """What a reward is made from (`RewardBuilder` is one). Each part is loaded or trained when it is asked for."""

    @property
    def preset(self) -> Preset:
        """All options; those of scoring are `preset.rewards`."""

    @property
    def frozen(self) -> LanguageModel:
        """The base model, which nobody trains."""

    def classifier(self, objective: str) -> CrossEncoder | TextClassifier | Committee:
        """The classifier of reflection or of empathy."""


MakeReward = Callable[[Given], Reward]
"""Makes a reward from what is given."""


def _fluency(given: Given) -> Fluency:
    config = given.preset.rewards
    if isinstance(config, TextRewards):
        return real_fluency(config, lambda: given.frozen, given.preset.model.device)
    return Fluency(given.frozen, config.fluency_cap, both=config.fluency_both)


REWARDS: dict[str, MakeReward] = {
    "reflection": lambda given: given.classifier("reflection").scores,
    "empathy": lambda given: given.classifier("empathy").scores,
    "fluency": _fluency,
    "brevity": lambda given: Brevity(given.preset.rewards.brevity_cap),
    "specificity": lambda given: Specificity(given.frozen),
    "diversity": lambda given: diversity_2,
}
"""Name of each reward, and how it is made. A session may add its own: `REWARDS["asks"] = lambda given: asks`."""

PACKAGED = MappingProxyType(dict(REWARDS))
"""Those that come with the package: all that a fresh process knows."""


def require_objectives(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise UserError for an objective that is not known."""
    for name in names:
        if name not in known:
            raise UserError(f"objective {name!r} is unknown: expected one of {', '.join(known)}")


def make_reward(name: str, make: MakeReward, given: Given) -> Reward:
    """The reward of an entry. Raises UserError for an entry that is a reward itself, or that makes none."""
    try:
        inspect.signature(make).bind(given)
    except (TypeError, ValueError):
        raise UserError(f'REWARDS[{name!r}]: expected a function that makes the reward, such as "lambda given: reward"') from None
    reward = make(given)
    if not callable(reward):
        raise UserError(f"REWARDS[{name!r}]: makes {type(reward).__name__}, expected a function of prompts and replies")
    return reward
