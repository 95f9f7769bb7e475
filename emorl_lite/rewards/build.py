"""The rewards of a preset: classifiers are loaded if they are there and trained if not, and every objective is guarded."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_table
from emorl_lite.base.locks import alone
from emorl_lite.base.presets import Preset, SmallWorldRewards, TextRewards
from emorl_lite.base.provenance import replace_table
from emorl_lite.base.workspace import Workspace
from emorl_lite.data.datasets import load_dataset
from emorl_lite.data.small_world import grammar
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.classifier_store import LOSSES, is_trained
from emorl_lite.rewards.committee import Committee
from emorl_lite.rewards.objectives import Guarded, RewardSet
from emorl_lite.rewards.pairs import Pair, steps
from emorl_lite.rewards.registry import PACKAGED, REWARDS, MakeReward, make_reward, require_objectives
from emorl_lite.rewards.second_judge import JUDGED_TWICE, SecondJudge, WordFluency
from emorl_lite.rewards.small_world_judge import CrossEncoder, labelled, read_pairs, train_classifier
from emorl_lite.rewards.text_judge import TextClassifier
from emorl_lite.rewards.text_rewards import real_classifier, training_pairs

SMALL_WORLD_OPTIONS = ("classifier_examples", "classifier_epochs", "classifier_batch", "classifier_lr")
"""Options of a small-world classifier's training."""


@dataclass
class RewardBuilder:
    """Makes the rewards of a preset's objectives. What is trained for them lies in the workspace, one set for all seeds."""

    workspace: Workspace
    progress: bool = True

    @property
    def preset(self) -> Preset:
        """Whose rewards."""
        return self.workspace.preset

    @cached_property
    def frozen(self) -> LanguageModel:
        """A second copy that nobody trains: the yardstick of fluency and of the small world's classifiers."""
        return LanguageModel.load(self.preset.model)

    def classifier(self, objective: str) -> CrossEncoder | TextClassifier | Committee:
        """The classifier of an objective: loaded, or trained (and saved)."""
        folder = self.workspace.place("classifiers", objective)
        config = self.preset.rewards
        if not is_trained(folder) and not config.ready_made(objective):
            self.workspace.refuse_to_train(folder)
        if isinstance(config, TextRewards):
            load_data = partial(load_dataset, replace(self.preset.data, max_words=0))
            held_back = self.preset.data.validation_from_train
            return real_classifier(objective, config, load_data, folder, self.preset.model.device, self.progress, held_back)
        options = {name: getattr(config, name) for name in SMALL_WORLD_OPTIONS} | {"objective": objective}
        if not is_trained(folder):
            with alone(folder, "training a classifier"):
                if not is_trained(folder):  # by another process, that this one waited for
                    self._train(objective, config, folder, options)
        return CrossEncoder.load(folder, self.frozen, **options)

    def _train(self, objective: str, config: SmallWorldRewards, folder: Path, options: dict[str, Any]) -> None:
        """Train a classifier of the small world and keep it. What is used is what is kept: in half precision, now as later."""
        losses: list[dict[str, Any]] = []
        labels = [getattr(e, objective) for e in self.labelled]
        total = steps(len(labels), config.classifier_epochs, config.classifier_batch)
        with tqdm(total=total, desc=f"{objective} classifier", file=sys.stdout, mininterval=2, disable=not self.progress) as bar:

            def on_step(step: int, loss: float) -> None:
                losses.append({"objective": objective, "step": step, "loss": loss})
                bar.update()

            model, seconds = train_classifier(self.frozen, self.read, labels, config, on_step=on_step)
        replace_table(pd.DataFrame(losses), folder / LOSSES, seconds=round(seconds, 1), examples=len(labels))
        model.save(folder, **options)

    @cached_property
    def labelled(self) -> list[Pair]:
        """The small-world classifiers' training pairs."""
        assert isinstance(self.preset.rewards, SmallWorldRewards)
        return labelled(grammar(), self.preset.rewards.classifier_examples, "train")

    @cached_property
    def read(self) -> list[torch.Tensor]:
        """What the frozen model makes of them: computed once for all classifiers."""
        return read_pairs(self.frozen, [e.prompt for e in self.labelled], [e.reply for e in self.labelled])

    def classifier_losses(self) -> pd.DataFrame:
        """Training losses of the classifiers: objective, step, loss."""
        files = [self.workspace.place("classifiers", objective) / LOSSES for objective in ("empathy", "reflection")]
        tables = [read_table(file, "the losses of a classifier", columns=("objective", "step", "loss")) for file in files if file.is_file()]
        if not tables:
            raise UserError(f"{self.workspace.home}: no classifier was trained here, so there are no losses")
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def makers(self) -> dict[str, MakeReward]:
        """How the rewards are made: what `REWARDS` says when it is first asked. Raises UserError for an objective that has none."""
        require_objectives(self.preset.objectives, list(REWARDS))
        return {name: REWARDS[name] for name in self.preset.objectives}

    @cached_property
    def rewards(self) -> RewardSet:
        """The rewards of the preset's objectives, guarded. Raises UserError for an objective that has none."""
        ngram = self.preset.rewards.repeat_ngram
        return RewardSet({name: Guarded(make_reward(name, make, self), name, ngram) for name, make in self.makers.items()})

    @cached_property
    def second_judges(self) -> dict[str, Guarded]:
        """Judges of reflection, empathy and fluency (those among the objectives) that nothing is trained on, by `<objective>_second`.

        They are guarded as the rewards are. Fitted when they are first asked for, in seconds; the same each time.
        """
        known = [objective for objective in self.preset.objectives if objective in JUDGED_TWICE]
        return {f"{name}_second": Guarded(self._second(name).scores, f"{name}_second", self.preset.rewards.repeat_ngram) for name in known}

    def _second(self, objective: str) -> SecondJudge | WordFluency:
        """The second judge of an objective: fitted on the training split, made pairs drawn anew."""
        config, data = self.preset.rewards, load_dataset(replace(self.preset.data, max_words=0))
        if objective == "fluency":
            return WordFluency(example.reply for example in data.examples("train"))
        if isinstance(config, TextRewards):
            return SecondJudge(training_pairs(objective, lambda: data, config, seed=1), objective)
        return SecondJudge(labelled(grammar(), config.classifier_examples, "train", seed=1), objective)

    def packaged(self) -> bool:
        """Whether a fresh process makes the same rewards: all are the package's, none was added or replaced in this session."""
        return all(PACKAGED.get(name) is make for name, make in self.makers.items())
