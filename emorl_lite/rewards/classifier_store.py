"""How trained classifiers lie in their folders: what they are and how they were trained, their losses, and, last of all, their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import (
    check_made_of,
    file_digest,
    read_json,
    read_tensors,
    safetensors_bytes,
    write_json,
    write_table,
    write_via,
)
from emorl_lite.base.provenance import made_at

FACTS = "classifier.json"
WEIGHTS = "classifier.safetensors"
LOSSES = "losses.csv"
BEFORE = {"reflection_warmth": 0.0, "empathy_warmth": 0.0, "reflection_members": 1, "validation_from_train": 0}
"""How classifiers were trained before there was such an option."""
ADVICE = "delete the folder to train the classifier again"


def is_trained(folder: Path) -> bool:
    """Whether a classifier is there: its weights are written last."""
    return (folder / WEIGHTS).is_file()


def save_classifier(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], losses: pd.DataFrame | None = None) -> None:
    """Write a classifier, its weights in float16, and what it is. Who is stopped meanwhile leaves a folder without weights."""
    half = {name: x.detach().cpu().half() for name, x in tensors.items()}
    if losses is not None:
        write_table(folder / LOSSES, losses)
    if is_trained(folder):  # trained again by whoever asks for it: never these weights beside those facts
        (folder / WEIGHTS).unlink()

    def write(file: Path) -> None:
        file.write_bytes(safetensors_bytes(half))
        write_json(
            folder / FACTS, {**facts, "made_at": made_at(), "weights": file_digest(file)}
        )  # there before the weights are in their place

    write_via(folder / WEIGHTS, write)


def read_classifier(folder: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(facts, tensors) of a kept classifier.

    `options` are what it must have been trained for and with; what an older record does not say was as `BEFORE` says, or is taken to agree.
    Raises UserError if there is none, for damaged files, for weights that were exchanged, and for other options.
    """
    if not is_trained(folder):
        raise UserError(f"{folder}: no trained classifier here")
    facts = read_json(folder / FACTS, "what a classifier is", ADVICE)
    check_made_of(folder, BEFORE | facts, options, "choose another --runs, or delete it")
    if "weights" in facts and facts["weights"] != file_digest(folder / WEIGHTS):
        raise UserError(f"{folder / WEIGHTS}: not the weights that {FACTS} beside it is about; {ADVICE}")
    tensors, _ = read_tensors(folder / WEIGHTS, "the weights of a classifier", ADVICE)
    for name, x in tensors.items():
        if x.is_floating_point() and not x.isfinite().all():
            raise UserError(f"{folder / WEIGHTS}: {name} holds NaN or infinity; {ADVICE}")
    return facts, tensors


def check_fits(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Raise UserError unless kept weights have the names and shapes of a classifier's own."""
    ours = {name: list(x.shape) for name, x in own.items()}
    theirs = {name: list(x.shape) for name, x in tensors.items()}
    if ours != theirs:
        odd = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))[0]
        raise UserError(f"{folder / WEIGHTS}: {odd} has the shape {theirs.get(odd)}, expected {ours.get(odd)}; {ADVICE}")


def need(facts: Mapping[str, Any], names: Mapping[str, type], folder: Path) -> None:
    """Raise UserError unless a record has these entries, of these types."""
    for name, kind in names.items():
        if not isinstance(facts.get(name), kind):
            raise UserError(f"{folder / FACTS}: damaged, {name} is {facts.get(name)!r}, expected {kind.__name__}; {ADVICE}")
