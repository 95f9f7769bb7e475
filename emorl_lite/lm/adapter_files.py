"""LoRA adapters in folders: kept, read back by whoever made them, refused unless whole and of this base, and merged for a warm start."""

from __future__ import annotations

import copy
import math
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from transformers import PreTrainedModel

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import first_line
from emorl_lite.base.files import digest, move_whole, read_bytes, read_json, read_tensors, told, write_json, write_whole
from emorl_lite.base.paths import resolve
from emorl_lite.lm.adapters import (
    as_before,
    carries,
    check_name,
    check_unmerged,
    examine,
    examine_loaded,
    take_out,
    with_adapter,
)

WEIGHTS = "adapter_model.safetensors"
"""PEFT's file of an adapter's matrices."""
CONFIG = "adapter_config.json"
"""PEFT's file of an adapter's configuration."""
PROBE = "base.json"
"""File beside them that tells the base model it was trained on."""

_FIELDS = {name for name in LoraConfig.__dataclass_fields__} - {"runtime_config"}
_WHERE = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
_SIZES = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
_ALWAYS = ("peft_type", "r", "lora_alpha", "target_modules")
"""Fields that every version of PEFT has written. Of a file that lacks one PEFT would take its own default."""


# -- which base an adapter belongs to


def base_probe(base: PreTrainedModel) -> dict[str, Any]:
    """A few numbers that tell one base model from another, whatever type it was loaded in. Raises UserError if adapters are merged."""
    check_unmerged(base)
    matrices = [p for n, p in base.named_parameters() if p.dim() == 2 and "lora_" not in n]
    samples = [m.detach()[:: max(1, len(m) // 8), 0][:8].float() for m in (matrices[0], matrices[-1])]
    embedding: nn.Module = base.get_input_embeddings()
    shape = [int(n) for n in embedding.weight.shape]  # type: ignore[union-attr, arg-type]
    return {"embedding": shape, "matrices": len(matrices), "values": [round(float(v), 4) for v in torch.cat(samples)]}


def same_base(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Whether two probes were taken from the same base model (within the rounding of another weight type)."""
    if any(one.get(key) != two[key] for key in ("embedding", "matrices")):
        return False
    return all(abs(a - b) <= 0.01 + 0.02 * abs(a) for a, b in zip(one["values"], two["values"], strict=True))


def _check_base(folder: Path, who: str, path: str, facts: Mapping[str, Any]) -> bool:
    """Raise UserError if the adapter was trained on another base. False if nothing tells: one made elsewhere has no probe of it."""
    if not (folder / PROBE).is_file():
        return False
    probe = read_json(folder / PROBE, f"the base's probe of {who}", f"{PROBE} is broken")
    try:
        same = not probe or same_base(probe, dict(facts))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{who}: {PROBE} is broken ({first_line(error)})") from error
    if not same:
        raise UserError(f"{who} was trained on another base model than {path}")
    if probe.get("warm_start", facts["warm_start"]) != facts["warm_start"]:
        raise UserError(f"{who} was trained on {path} with another warm start, or without this one")
    return bool(probe)


def _tell_another_name(who: str, theirs: Any, base: PreTrainedModel, path: str) -> None:
    """Tell, in one line, that an adapter without a probe names another base: names and shapes that fit are all that is known of it then."""
    ours = {Path(name).name.casefold() for name in (path, base.name_or_path) if name}
    if isinstance(theirs, str) and theirs and Path(theirs).name.casefold() not in ours:
        line = f"{who}: made for the base {_shortened(theirs)}, put on {path}; its tensors fit, which does not tell whether it is that base"
        print(line, file=sys.stderr, flush=True)


# -- kept


@torch.no_grad()
def round_to_half(model: PeftModel, name: str) -> None:
    """Round an adapter's matrices to float16, in the type that they have."""
    for x in adapter_tensors(model, name).values():
        x.copy_(x.half())


def save_adapter(model: PeftModel, name: str, folder: str | os.PathLike[str], store: str, warm_start: str) -> None:
    """Write one adapter as PEFT does, in the type `store`, with a probe of its base and the digest of the base's warm start.

    What else is in the folder stays.

    Raises UserError for an adapter that `load_adapter` could not read back as it is: one that is not plain LoRA, was changed by hand, or
    holds numbers that are not finite, or not in the type `store`; and for a folder that cannot be written.
    """
    who = f"adapter {name!r}"
    if not isinstance(model, PeftModel) or name not in model.peft_config:
        raise UserError(f"{who} is not loaded, so there is nothing to keep")
    examine_loaded(model, [name])
    if altered := _altered(model, name):
        raise UserError(f"{who}: {altered}, and no file would tell")
    facts = base_probe(model.get_base_model()) | {"warm_start": warm_start}
    kept = {key: x.detach().half() if store == "float16" else x.detach() for key, x in adapter_tensors(model, name).items()}
    for key, x in kept.items():
        if not x.isfinite().all():
            raise UserError(f"{who}: {key} holds NaN, infinity, or what is too large for {store}")
    folder = _folder(folder, who)
    write_whole(folder / WEIGHTS, kept)
    config = copy.copy(model.peft_config[name])
    config.inference_mode = True
    if isinstance(config.target_modules, set):  # its order is drawn anew in every process
        config.target_modules = sorted(config.target_modules)
    with told(folder), tempfile.TemporaryDirectory() as scratch:
        config.save_pretrained(scratch)
        move_whole(Path(scratch) / CONFIG, folder / CONFIG)
    write_json(folder / PROBE, facts)


def _altered(model: PeftModel, name: str) -> str:
    """What of an adapter in the model is not as its configuration says (scales set by hand, ranks padded for hot swaps); else empty."""
    config = model.peft_config[name]
    for key, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer) and carries(layer, name):
            r = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), key), config.r)
            alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), key), config.lora_alpha)
            scale = alpha / (math.sqrt(r) if config.use_rslora else r)
            ours = len(layer.lora_A[name].weight), float(layer.scaling[name])
            if ours[0] != r or not math.isclose(ours[1], scale, rel_tol=1e-6):
                return f"its {key} has rank {ours[0]} and scale {ours[1]:.6g} in the model, {r} and {scale:.6g} by its configuration"
    return ""


# -- read back


def load_adapter(
    model: PreTrainedModel | PeftModel, name: str, folder: Any, path: str, warm_start: str, origin: str | None = None
) -> PeftModel:
    """The model with an adapter read from a folder. `path` names the base in messages; `warm_start`: see `save_adapter`.

    `origin`: the folder that an adapter of this name was loaded from; if it is this one, it is read again.
    Raises UserError, and leaves the model as it was, if the folder holds no whole plain LoRA adapter, it was trained on another base model,
    or another adapter has the name. An adapter from elsewhere tells its base by name alone: another name is told, not refused.
    """
    existing = model.peft_config.get(name) if isinstance(model, PeftModel) else None
    if existing is None:
        check_name(model, name)
    folder = _folder(folder, f"adapter {name!r}")
    who = f"adapter {name!r} in {_shortened(str(folder))}"
    if existing is not None and origin != str(folder.resolve()):
        taken = origin or "made in this process"
        raise UserError(f"adapter {name!r} is in the model already ({taken}): load {folder} under another name")
    lora, state = read_adapter(folder, who)
    theirs, lora.base_model_name_or_path = lora.base_model_name_or_path, None  # peft would warn of another path
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    known = _check_base(folder, who, path, base_probe(base) | {"warm_start": warm_start})
    adapted = _put(model, name, lora, state, who, path) if existing is None else _put_anew(model, name, lora, state, who, path)
    if not known:
        _tell_another_name(who, theirs, base, path)
    return adapted


def read_adapter(folder: Path, who: str) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Configuration and tensors of a kept adapter. Raises UserError for files that are missing, broken, or not of plain LoRA."""
    _check_there(folder, who)
    lora = _read_config(folder / CONFIG, who)
    state, _ = read_tensors(folder / WEIGHTS, f"the tensors of {who}", f"{WEIGHTS} is broken or cut off")
    longest = max((n for x in state.values() for n in x.shape), default=0)
    if not state:
        raise UserError(f"{who}: {WEIGHTS} lacks all tensors")
    if (rank := max([lora.r, *lora.rank_pattern.values()])) > longest:  # peft would ask for that much memory first
        raise UserError(f"{who}: {CONFIG} promises rank {rank}, and no tensor of {WEIGHTS} is that long")
    lora.inference_mode = False
    return lora, state


def _folder(folder: Any, who: str) -> Path:
    """A folder as a path. Raises UserError for what cannot be one: other types, NUL bytes, links in a circle."""
    try:
        Path(folder).resolve()
        return Path(folder)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{who}: {_shortened(folder)} is no folder ({first_line(error)})") from error


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _check_there(folder: Path, who: str) -> None:
    """Raise UserError unless both files are in the folder."""
    with told(folder, f"cannot be read as {who}"):
        if not folder.is_dir():
            raise UserError(f"{who}: {'it is a file, not a folder' if folder.exists() else 'there is no such folder'}")
        if not (folder / WEIGHTS).is_file():
            other = " (adapter_model.bin is a pickle, which is not read)" if (folder / "adapter_model.bin").is_file() else ""
            raise UserError(f"{who}: holds no {WEIGHTS}{other}")
        if not (folder / CONFIG).is_file():
            raise UserError(f"{who}: holds no {CONFIG}")


def _read_config(file: Path, who: str) -> LoraConfig:
    """The configuration in a file. Raises UserError unless it is plain LoRA's, and says all that PEFT of its version says."""
    values = read_json(file, f"the configuration of {who}", f"{CONFIG} is broken")
    examine(values, who)
    # what peft says its version of, it writes whole; before, a configuration had fewer fields
    needed = (*_ALWAYS, *_SIZES, *_WHERE) if values.get("peft_version") else _ALWAYS
    if missing := [key for key in needed if key not in values]:
        raise UserError(f"{who}: {CONFIG} is broken (it lacks {missing[0]!r})")
    try:
        _check_sizes(values)
        _check_places(values)
        lora = LoraConfig(**{key: value for key, value in values.items() if key in _FIELDS and value is not None})
    except Exception as error:
        raise UserError(f"{who}: {CONFIG} is broken ({first_line(error)})") from error
    examine(lora, who)  # peft makes something of empty objects
    return lora


def _check_sizes(values: Mapping[str, Any]) -> None:
    """Raise ValueError unless ranks are whole numbers above 0, scales finite, a dropout is a share, and switches are true or false."""
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(values.get(key), dict | None):
            raise ValueError(f"{key} is no object")
    if any(type(r) is not int or r < 1 for r in (values["r"], *(values.get("rank_pattern") or {}).values())):
        raise ValueError("a rank is no whole number above 0")
    if not all(_is_number(a) for a in (values["lora_alpha"], *(values.get("alpha_pattern") or {}).values())):
        raise ValueError("a lora_alpha is no finite number")
    if not _is_number(dropout := values.get("lora_dropout", 0)) or not 0 <= dropout < 1:
        raise ValueError(f"lora_dropout is {dropout!r}, no share of 1")
    for key in ("use_rslora", "fan_in_fan_out"):
        if not isinstance(values.get(key, False), bool):
            raise ValueError(f"{key} is {values[key]!r}, neither true nor false")


def _check_places(values: Mapping[str, Any]) -> None:
    """Raise ValueError unless layers are named by a name or a list of names, and numbered by whole numbers."""
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        named = values.get(key)
        if not (isinstance(named, str | None) or (isinstance(named, list) and all(isinstance(x, str) for x in named))):
            raise ValueError(f"{key} is no name and no list of names")
    layers = values.get("layers_to_transform")
    if any(type(n) is not int for n in (layers if isinstance(layers, list) else [] if layers is None else [layers])):
        raise ValueError("layers_to_transform is no list of whole numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= torch.finfo(torch.float32).max


# -- put into a model


def adapter_tensors(model: PeftModel, name: str) -> dict[str, Tensor]:
    """The matrices of a plain LoRA adapter in a model, by their names in PEFT's files."""
    ours = re.compile(rf"(\.lora_[AB])\.{re.escape(name)}(?=\.weight$)")
    return {ours.sub(r"\1", key): x for key, x in model.named_parameters(remove_duplicate=False) if ours.search(key)}


@torch.no_grad()
def _fill(model: PeftModel, name: str, state: Mapping[str, Tensor], who: str, path: str) -> None:
    """Copy tensors into an adapter. Raises UserError, before anything is copied, unless they are its tensors, and finite."""
    tensors = adapter_tensors(model, name)
    values: dict[str, Tensor] = {}
    for key, x in state.items():
        if key not in tensors:
            raise UserError(f"{who} does not fit {path} and its own {CONFIG}: {_shortened(key)} is unknown")
        if x.shape != tensors[key].shape:
            raise UserError(f"{who} does not fit {path}: {key} has the shape {list(x.shape)}, expected {list(tensors[key].shape)}")
        if x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise UserError(f"{who}: {key} is of type {str(x.dtype).removeprefix('torch.')}, expected floating-point numbers")
        values[key] = x.to(tensors[key].dtype)
        if not values[key].isfinite().all():
            raise UserError(f"{who}: {key} holds NaN or infinity")
    if missing := [key for key in tensors if key not in state]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{who}: {WEIGHTS} lacks {missing[0]}{more}, which its {CONFIG} promises")
    for key, x in values.items():
        tensors[key].copy_(x)


def _put(model: PreTrainedModel | PeftModel, name: str, lora: LoraConfig, state: Mapping[str, Tensor], who: str, path: str) -> PeftModel:
    """The model with one more adapter that holds these tensors. Raises UserError, and leaves the model as it was, if they do not fit."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    lora.task_type = "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM"  # other wrappers would pass on other inputs
    with as_before(model, only_after_errors=True):
        try:
            adapted = with_adapter(model, name, lora)
        except UserError as error:
            raise UserError(f"{who} does not fit {path} ({first_line(error.__cause__ or error)})") from error
        try:
            examine_loaded(adapted, [name], who)
            _fill(adapted, name, state, who, path)
            return adapted
        except BaseException:
            take_out(model, name)
            raise


def _put_anew(model: PeftModel, name: str, lora: LoraConfig, state: Mapping[str, Tensor], who: str, path: str) -> PeftModel:
    """The model with other tensors, and where need be of another shape, in an adapter that it has."""
    existing = model.peft_config[name]
    if _shape(existing) == _shape(lora) and not _altered(model, name):
        _fill(model, name, state, who, path)  # the same tensors, so that whoever holds them holds what was read
        return model
    kept = {key: x.detach().clone() for key, x in adapter_tensors(model, name).items()}
    scales = {key: layer.scaling[name] for key, layer in model.named_modules() if isinstance(layer, LoraLayer) and carries(layer, name)}
    with as_before(model):
        take_out(model, name)
        try:
            return _put(model, name, lora, state, who, path)
        except UserError:
            _fill(with_adapter(model, name, existing), name, kept, who, path)
            for key, scale in scales.items():
                model.get_submodule(key).scaling[name] = scale  # type: ignore[union-attr, index]
            raise


def _shape(lora: LoraConfig) -> dict[str, Any]:
    """What decides which matrices an adapter has, and their scales."""
    return {key: value or None for key in (*_SIZES, *_WHERE) for value in [getattr(lora, key)]}


# -- warm starts


def adapter_digest(folder: str) -> str:
    """A short hash of a kept adapter. Raises UserError if there is none."""
    return digest(read_bytes(Path(folder) / WEIGHTS, "the tensors of an adapter"))


def merge_warm_start(model: PreTrainedModel, folder: str, base: str) -> PreTrainedModel:
    """The model with an adapter merged into its weights. Raises UserError if there is no adapter in the folder, or if it does not fit."""
    who = f"warm start {folder!r}"
    place = _folder(resolve(folder), who)
    lora, state = read_adapter(place, who)
    _check_base(place, who, base, base_probe(model) | {"warm_start": ""})
    return _put(model, "warmstart", lora, state, who, base).merge_and_unload().eval()  # type: ignore[no-any-return]
