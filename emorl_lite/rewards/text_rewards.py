"""The rewards of real counselling replies: a reflection and an empathy classifier, and perplexity under a frozen language model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.locks import alone
from emorl_lite.base.presets import Device, ModelConfig, TextRewards
from emorl_lite.data.datasets import Dataset
from emorl_lite.data.downloads import find_file
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.classifier_store import is_trained
from emorl_lite.rewards.committee import Committee
from emorl_lite.rewards.objectives import Fluency
from emorl_lite.rewards.pairs import Pair, steps
from emorl_lite.rewards.text_judge import TextClassifier, train_text_classifier
from emorl_lite.rewards.text_pairs import empathy_pairs, reflection_pairs
from emorl_lite.rewards.warmth import kind_copies

TEXT_OPTIONS = ("text_epochs", "text_batch", "text_lr", "text_lora_r", "text_tokens")
"""Options of every text classifier's training."""
EPITOME = "emotional-reactions-reddit.csv"
"""File of EPITOME's emotional reactions."""


def training_pairs(objective: str, dataset: Callable[[], Dataset], config: TextRewards, seed: int = 0) -> list[Pair]:
    """Labelled pairs for the classifier of an objective; `seed`: of made ones.

    `dataset` is asked for only where its replies are learned from: by reflection, and by empathy with `empathy_warmth`. Raises UserError if
    the data is missing or does not label it.
    """
    if objective == "empathy":
        pairs = empathy_pairs(find_file(EPITOME), "train", seed)
        if not config.empathy_warmth:
            return pairs
        return pairs + kind_copies(_pair(dataset(), "--rewards.empathy-warmth").examples("train"), config.empathy_warmth, seed)
    return reflection_pairs(_pair(dataset(), "reflection classifier").examples("train"), seed, config.reflection_warmth)


def _pair(dataset: Dataset, what: str) -> Dataset:
    """The dataset, if its replies have PAIR's quality levels. Raises UserError if not."""
    if dataset.name != "pair":
        raise UserError(f"{what}: needs PAIR's quality levels; {dataset.source} has none")
    return dataset


def real_classifier(
    objective: str,
    config: TextRewards,
    dataset: Callable[[], Dataset],
    folder: Path,
    device: Device,
    progress: bool,
    held_back: int = 0,
) -> TextClassifier | Committee:
    """The classifier of an objective: a finished one from a hub, one that is there, or one trained now (and kept in `folder`).

    With --rewards.reflection-members or -offset that of reflection is a committee. `held_back`: training statements that validation has
    (--data.validation-from-train); a judge that has learned from others is refused, for weights are chosen on them.
    """
    if config.ready_made(objective):
        return TextClassifier.load(config.empathy_model, max_tokens=config.text_tokens, device=device)
    encoder = config.reflection_model
    if objective == "empathy":
        encoder, config = config.empathy_model, replace(config, text_epochs=config.empathy_epochs)
    options = {"encoder": encoder, **{name: getattr(config, name) for name in TEXT_OPTIONS}}
    known: dict[str, Any] = {"objective": objective, **options}
    known[f"{objective}_warmth"] = getattr(config, f"{objective}_warmth")
    if objective == "reflection" or config.empathy_warmth:
        known["validation_from_train"] = held_back
    offset = 0.0
    if objective == "reflection":
        known["reflection_members"], offset = config.reflection_members, config.reflection_offset
    if is_trained(folder):
        return _restored(folder, device, known, offset)
    with alone(folder, "training a classifier"):
        if not is_trained(folder):  # by another process, that this one waited for
            _train_real(objective, config, dataset, folder, device, progress, known)
    return _restored(folder, device, known, offset)


def _restored(folder: Path, device: Device, known: Mapping[str, Any], offset: float) -> TextClassifier | Committee:
    """What was trained, to judge with an offset, which is no part of the training."""
    if known.get("reflection_members", 1) > 1:
        return Committee.restore(folder, device, offset, **known)
    single = TextClassifier.restore(folder, device, **known)
    return Committee([single], offset) if offset else single


def _train_real(
    objective: str,
    config: TextRewards,
    dataset: Callable[[], Dataset],
    folder: Path,
    device: Device,
    progress: bool,
    known: Mapping[str, Any],
) -> None:
    """Train the classifier of an objective (a committee: its members, of seeds 0, 1, ...) and keep it in `folder`, with what it is known
    by."""
    pairs, losses = training_pairs(objective, dataset, config), []
    labels = [getattr(p, objective) for p in pairs]
    tqdm_options: dict[str, Any] = {"desc": f"{objective} classifier", "file": sys.stdout, "mininterval": 5, "disable": not progress}
    members = known.get("reflection_members", 1)
    trained, seconds, each = [], 0.0, steps(len(pairs), config.text_epochs, config.text_batch)
    with tqdm(total=members * each, **tqdm_options) as bar:
        for seed in range(members):

            def on_step(step: int, loss: float, before: int = seed * each) -> None:
                losses.append({"objective": objective, "step": before + step, "loss": loss})
                bar.update()

            options: dict[str, Any] = {"device": device, "on_step": on_step}
            classifier, took = train_text_classifier(known["encoder"], pairs, labels, config, seed, **options)
            trained.append(classifier)
            seconds += took
    judge = Committee(trained) if members > 1 else trained[0]
    judge.save(folder, pd.DataFrame(losses), pairs=len(pairs), seconds=round(seconds, 1), **known)


def real_fluency(config: TextRewards, frozen: Callable[[], LanguageModel], device: Device) -> Fluency:
    """(cap - perplexity) / cap under the fluency model, or under the preset's own before any training."""
    if config.fluency_model:
        template = "{prompt}" if config.fluency_both else "{prompt} "  # the paper's code puts nothing between the two
        judge = replace(ModelConfig(), path=config.fluency_model, template=template, device=device, max_prompt_tokens=512)
        return Fluency(LanguageModel.load(judge), config.fluency_cap, config.fluency_context, config.fluency_both)
    return Fluency(frozen(), config.fluency_cap, config.fluency_context, config.fluency_both)
