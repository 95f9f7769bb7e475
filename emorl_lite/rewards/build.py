"""The rewards of an experiment: classifiers are loaded if they are there and trained if not, and every objective is guarded."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import repository_root, runs_root, shipped
from emorl_lite.base.presets import PRESETS, Preset
from emorl_lite.base.project import in_repository
from emorl_lite.base.provenance import save_table
from emorl_lite.data.datasets import load_dataset
from emorl_lite.data.small_world import grammar
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.metrics import Specificity, diversity_2
from emorl_lite.rewards.objectives import Brevity, Fluency, Guarded, RewardSet
from emorl_lite.rewards.small_world_judge import CrossEncoder, Labelled, classifier_steps, labelled, read_pairs, train_classifier
from emorl_lite.rewards.text_judge import TextClassifier
from emorl_lite.rewards.text_rewards import real_classifier, real_fluency


@dataclass
class RewardRuns:
    """One preset's rewards, and where what is trained for it lies."""

    preset: Preset
    seed: int = 0
    root: Path | None = None
    progress: bool = True
    source: str = ""
    """Whose classifiers and adapters: "mine" (trained here, under runs/), "reference" (those in the repository), "any" (mine where they
    are, else the repository's), or a folder laid out like assets/tiny. By default "mine" for the small world, which trains in minutes, and
    "any" for the others."""

    def __post_init__(self) -> None:
        known = PRESETS.get(self.preset.name)
        own_model = known is None or known.model.path == self.preset.model.path
        name = self.preset.name if own_model else f"{self.preset.name}-{Path(self.preset.model.path).name}"
        self.source = str(self.source) or ("mine" if self.preset.rewards.kind == "small_world" else "any")
        self.home = Path(self.root or runs_root()) / name
        if self.source == "reference" and self.published is None:
            if repository_root() is None and not shipped(self.preset.name).is_dir():
                raise UserError(f"{shipped(self.preset.name)}: not here; {in_repository('reference runs of other presets than tiny')}")
            raise UserError(f"the repository holds no reference run of the preset {self.preset.name} with these options; train one: 'mine'")
        if self.source not in ("mine", "any"):  # what is found with other adapters lies in another folder
            whose = "reference" if self.source == "reference" else Path(self.source).resolve().name
            self.home = self.home.with_name(f"{name}-{whose}") / digest_of(self.published)

    @cached_property
    def published(self) -> Path | None:
        """Where trained parts of this preset lie that nobody trains here; None if there are none, or if training's options were changed."""
        if self.source == "mine":
            return None
        if self.source not in ("any", "reference"):
            if not Path(self.source).is_dir():
                raise UserError(
                    f"{self.source}: no such folder of runs; expected 'reference', 'mine', or a folder laid out like assets/tiny"
                )
            return Path(self.source)
        folder, known = shipped(self.preset.name), PRESETS.get(self.preset.name)
        if known is None or not folder.is_dir():
            return None
        keep = {part: getattr(self.preset, part) for part in ("objectives", "search", "study", "transfer")}
        device = replace(known.model, device=self.preset.model.device, dtype=self.preset.model.dtype, autocast=self.preset.model.autocast)
        return folder if replace(known, model=device, **keep) == self.preset else None

    def place(self, *parts: str) -> Path:
        """Where a part of this experiment lies, by `source`: among the runs, or in the repository."""
        own = self.home.joinpath(*parts)
        if self.published is None:
            return own
        theirs = self.published.joinpath(*parts)
        return own if self.source == "any" and (own.exists() or not theirs.exists()) else theirs

    def is_published(self, folder: Path) -> bool:
        """Whether a folder holds what others trained: nothing is written there."""
        return self.published is not None and self.published in folder.parents

    def refuse_to_train(self, folder: Path) -> None:
        """Raise UserError if a part that is missing belongs to a run that is not trained here."""
        if self.is_published(folder):
            raise UserError(f"{'/'.join(folder.parts[-3:])}: this run lacks it; choose another seed, or train your own: 'mine'")

    @cached_property
    def frozen(self) -> LanguageModel:
        """A second copy that nobody trains: the yardstick of fluency and of the small world's classifiers."""
        return LanguageModel.load(self.preset.model)

    def classifier(self, objective: str) -> CrossEncoder | TextClassifier:
        """The classifier of an objective: loaded, or trained (and saved)."""
        folder = self.place("classifiers", objective)
        if not (folder / "classifier.safetensors").is_file() and not (objective == "empathy" and self.preset.rewards.empathy_ready):
            self.refuse_to_train(folder)
        if self.preset.rewards.kind == "real":
            return real_classifier(
                objective, self.preset, lambda: load_dataset(replace(self.preset.data, max_words=0)), folder, self.progress
            )
        if (folder / "classifier.safetensors").is_file():
            return CrossEncoder.load(folder, self.frozen)
        config, losses = self.preset.rewards, []
        labels = [getattr(e, objective) for e in self.labelled]
        steps = classifier_steps(len(labels), config)
        with tqdm(total=steps, desc=f"{objective} classifier", file=sys.stdout, mininterval=2, disable=not self.progress) as bar:

            def on_step(step: int, loss: float) -> None:
                losses.append({"objective": objective, "step": step, "loss": loss})
                bar.update()

            model, seconds = train_classifier(self.frozen, self.read, labels, config, on_step=on_step)
        model.save(folder)
        save_table(pd.DataFrame(losses), folder / "losses.csv", seconds=round(seconds, 1), examples=len(labels))
        return model

    @cached_property
    def labelled(self) -> list[Labelled]:
        """The small-world classifiers' training pairs."""
        return labelled(grammar(), self.preset.rewards.classifier_examples, "train")

    @cached_property
    def read(self) -> list[torch.Tensor]:
        """What the frozen model makes of them: computed once for all classifiers."""
        return read_pairs(self.frozen, [e.prompt for e in self.labelled], [e.reply for e in self.labelled])

    def classifier_losses(self) -> pd.DataFrame:
        """Training losses of the classifiers: objective, step, loss."""
        files = [self.place("classifiers", objective) / "losses.csv" for objective in ("empathy", "reflection")]
        tables = [pd.read_csv(file) for file in files if file.is_file()]
        if not tables:
            raise UserError(f"{self.home}: no classifier was trained here, so there are no losses")
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def rewards(self) -> RewardSet:
        """The rewards of the preset's objectives, guarded. Raises UserError for an objective that has none."""
        c = self.preset.rewards

        def fluency() -> Fluency:
            return real_fluency(self.preset, lambda: self.frozen) if c.kind == "real" else Fluency(self.frozen, c.fluency_cap)

        known: dict[str, Callable[[], Any]] = {
            "reflection": lambda: self.classifier("reflection").scores,
            "empathy": lambda: self.classifier("empathy").scores,
            "fluency": fluency,
            "brevity": lambda: Brevity(c.brevity_cap),
            "specificity": lambda: Specificity(self.frozen),
            "diversity": lambda: diversity_2,
        }
        require_objectives(self.preset.objectives, list(known))
        return RewardSet({name: Guarded(known[name](), name, c.repeat_ngram) for name in self.preset.objectives})


def digest_of(folder: Path | None) -> str:
    """What tells the trained parts in a folder from others."""
    made = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors") if folder else ()):
        made.update(file.read_bytes())
    return made.hexdigest()[:8]


def require_objectives(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise UserError for an objective that is not known."""
    for name in names:
        if name not in known:
            raise UserError(f"objective {name!r} is unknown: expected one of {', '.join(known)}")
