"""Adapters as the paper's authors publish them: read without pickle, compared with a model layer by layer, converted to PEFT's folders.

Their file (utils_lora.py of github engineerkong/EMORL at 6b85da3) is NumPy's .npz. Of every adapted layer, by the name that it has inside
a PeftModel (`base_model.model.encoder.block.0.layer.0.SelfAttention.q`), it holds three arrays: `<layer>_loraA` A [r, in], `<layer>_loraB`
B [out, r], and `<layer>_scaling` s, a number. The layer's weights [out, in] become W + s B A.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedModel

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import move_whole, told, write_whole
from emorl_lite.base.npz import read_npz
from emorl_lite.lm.adapter_files import CONFIG, WEIGHTS

AUTHORS_BASE = "google-t5/t5-base"
"""What the authors' code trains by default. Their files name no base model."""
WHAT = "an adapter of the paper's authors"
PREFIX = "base_model.model."
PARTS = ("loraA", "loraB", "scaling")


@dataclass(frozen=True)
class LayerChange:
    """What an adapter adds to one layer's weights: s B A."""

    A: Tensor
    """[r, in]"""
    B: Tensor
    """[out, r]"""
    scaling: float

    @property
    def rank(self) -> int:
        """r."""
        return len(self.A)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in): that of the layer's weights."""
        return len(self.B), self.A.shape[1]

    def change(self) -> Tensor:
        """s B A [out, in]."""
        return self.scaling * self.B @ self.A


@dataclass(frozen=True)
class Fit:
    """How an adapter goes with a model."""

    missing: tuple[str, ...]
    """Linear layers of the model, the head aside, that the adapter leaves as they are."""
    layers: int
    """Those that it changes."""

    def sentence(self, name: str) -> str:
        """In words; empty if it changes all."""
        if not self.missing:
            return ""
        total = self.layers + len(self.missing)
        return f"{name}: changes {self.layers} of the base's {total} linear layers, and leaves {_some(self.missing)} as they are"


# -- read


def read_author_adapter(path: Path) -> dict[str, LayerChange]:
    """What a file changes, by the names of the base model's layers. Raises UserError, naming file and array, for anything that is not so:

    a file that is cut off or holds Python objects, an array of another name or shape, one of the three missing, NaN or infinity.
    """
    arrays = read_npz(path, WHAT, "fetch it again")
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, _, part = name.rpartition("_")
        if part not in PARTS or not layer.removeprefix(PREFIX):
            raise UserError(f"{path}: array {ascii(name)[:200]} is none of <layer>_loraA, <layer>_loraB and <layer>_scaling")
        if not layer.startswith(PREFIX):
            raise UserError(f"{path}: array {ascii(name)[:200]}: expected the name of a layer that begins with {PREFIX}")
        layers.setdefault(layer, {})[part] = array
    return {layer.removeprefix(PREFIX): _layer_change(f"{path}: array {layer}", parts) for layer, parts in layers.items()}


def _layer_change(who: str, parts: Mapping[str, np.ndarray]) -> LayerChange:
    """The three arrays of a layer, checked. `who` is their name but for the last part."""
    for part in PARTS:
        if part not in parts:
            raise UserError(f"{who}_{part} is missing, and {who.rpartition('.')[2]}_{next(iter(parts))} is there")
    A, B = (_matrix(f"{who}_{part}", parts[part]) for part in PARTS[:2])
    if A.shape[0] != B.shape[1]:
        raise UserError(f"{who}_loraB has the shape {list(B.shape)}, which does not go with loraA's {list(A.shape)}: their ranks differ")
    if parts["scaling"].size != 1:
        raise UserError(f"{who}_scaling has the shape {list(parts['scaling'].shape)}, expected one number")
    scaling = float(parts["scaling"].reshape(()))
    if not np.isfinite(scaling):
        raise UserError(f"{who}_scaling is {scaling}")
    return LayerChange(A, B, scaling)


def _matrix(who: str, array: np.ndarray) -> Tensor:
    """A matrix in float16 or float32. Raises UserError for other shapes, and numbers that are not finite."""
    if array.ndim != 2 or not array.size:
        raise UserError(f"{who} has the shape {list(array.shape)}, expected a matrix")
    if array.dtype.kind != "f":
        raise UserError(f"{who} is of type {array.dtype}, expected floating-point numbers")
    with np.errstate(over="ignore"):
        matrix = torch.from_numpy(array.astype(np.float16 if array.dtype.itemsize == 2 else np.float32))
    if not matrix.isfinite().all():
        raise UserError(f"{who} holds NaN or infinity")
    return matrix


# -- compared with a model


def linear_layers(base: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of a model but its head, with or without adapters in it."""
    head, found = base.get_output_embeddings(), dict[str, tuple[int, int]]()
    for name, module in base.named_modules():
        layer = getattr(module, "base_layer", module)
        own = "base_layer" not in name and "lora_" not in name
        if own and isinstance(layer, nn.Linear) and module is not head and layer is not head:
            found[name] = (layer.out_features, layer.in_features)
    return found


def check_fit(layers: Mapping[str, LayerChange], base: PreTrainedModel, who: str, path: str) -> Fit:
    """How an adapter goes with a model. `who` and `path` name both in messages.

    Raises UserError if it changes layers that the model has not (or its head), or that have another shape there.
    """
    ours = linear_layers(base)
    if unknown := [name for name in layers if name not in ours]:
        count = f"{len(unknown)} of its {len(layers)} layers are"
        raise UserError(f"{who} does not fit {path}: {count} none of the {len(ours)} linear layers there, {_some(unknown)}")
    for name, change in layers.items():
        if change.shape != ours[name]:
            raise UserError(f"{who} does not fit {path}: {name} has the shape {list(change.shape)}, expected {list(ours[name])}")
    return Fit(tuple(name for name in ours if name not in layers), len(layers))


def _some(names: Sequence[str]) -> str:
    """A few of some names."""
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


# -- converted


def lora_of(layers: Mapping[str, LayerChange], base: PreTrainedModel) -> LoraConfig:
    """PEFT's configuration of the same adapter. A layer's scale is alpha / r; layers that differ from most are named one by one."""
    alphas = {name: _plain(change.scaling * change.rank) for name, change in layers.items()}
    rank = Counter(change.rank for change in layers.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        rank_pattern={re.escape(name): change.rank for name, change in layers.items() if change.rank != rank},
        alpha_pattern={re.escape(name): value for name, value in alphas.items() if value != alpha},  # type: ignore[misc]
        target_modules=_targets(list(layers), base),
        task_type="SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM",
        base_model_name_or_path=AUTHORS_BASE,
        inference_mode=True,
    )


def _plain(alpha: float) -> float:
    return int(alpha) if alpha.is_integer() else alpha


def _targets(names: Sequence[str], base: PreTrainedModel) -> list[str]:
    """The layers' last names (q, wi, ..) where these mean the layers and no others, else the whole names."""
    last = {name.rpartition(".")[2] for name in names}
    meant = {name for name, _ in base.named_modules() if name.rpartition(".")[2] in last and "lora_" not in name}
    return sorted(last) if meant == set(names) else sorted(names)


def convert(path: Path, folder: Path, base: PreTrainedModel, base_path: str, made_for: str = AUTHORS_BASE) -> Fit:
    """Write an authors' file as PEFT's folder (safetensors and its configuration). The numbers stay the same ones.

    `base_path` names `base` in messages; `made_for`: the model that the adapter was trained on, as the folder will say.
    Raises UserError, and writes nothing, if the file cannot be read or does not fit `base`.
    """
    layers = read_author_adapter(path)
    fit = check_fit(layers, base, str(path), base_path)
    tensors: dict[str, Any] = {}
    for name, change in layers.items():
        tensors |= {f"{PREFIX}{name}.lora_A.weight": change.A, f"{PREFIX}{name}.lora_B.weight": change.B}
    write_whole(folder / WEIGHTS, tensors)
    lora = lora_of(layers, base)
    lora.base_model_name_or_path = made_for
    lora.target_modules = sorted(lora.target_modules or ())  # type: ignore[assignment]  # a set's order is drawn anew in every process
    with told(folder), tempfile.TemporaryDirectory() as scratch:
        lora.save_pretrained(scratch)
        move_whole(Path(scratch) / CONFIG, folder / CONFIG)
    return fit
