"""LoRA adapters of a PEFT model: examined, made, kept in folders, read back, and merged into the base for good (a warm start)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.paths import resolve
from emorl_lite.base.presets import ModelConfig
from emorl_lite.base.quiet import quietly

WEIGHTS = "adapter_model.safetensors"
"""PEFT's file of an adapter's matrices."""
CONFIG = "adapter_config.json"
"""PEFT's file of an adapter's configuration."""
PROBE = "base.json"
"""File beside them that tells the base model it was trained on."""

PLAIN = {
    # where and how large: W + s B A, with a rank and a scale s for each layer
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    # what matters in training alone, or only beside a field that is not here
    *("lora_dropout", "eva_config", "qalora_group_size", "megatron_core", "ensure_weight_tying", "runtime_config", "inference_mode"),
    # notes
    *("auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
}
"""Fields of a LoRA configuration that may have any value; all others must be empty, or as in `PLAIN_VALUES`."""
PLAIN_VALUES: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": (None, "CAUSAL_LM", "SEQ_2_SEQ_LM"),
    "bias": ("none",),
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal", "eva"),  # those that leave the base as it is
}
OF_ITS_OWN_ROWS = ("use_dora", "lora_bias")
"""Properties that leave other adapters of the same model alone."""


# -- which adapters can be mixed, averaged and folded


def oddities(config: PeftConfig | Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration is not plain LoRA: fields and their values. Fields that PEFT does not know count as well."""
    values = config if isinstance(config, Mapping) else {field.name: getattr(config, field.name) for field in fields(config)}
    kind = {"peft_type": str(getattr(values.get("peft_type"), "value", values.get("peft_type")))}
    odd = {
        key: value
        for key, value in {**values, **kind}.items()
        if (value not in PLAIN_VALUES[key] if key in PLAIN_VALUES else value and key not in PLAIN)
    }
    return {key: odd[key] for key in sorted(odd, key=lambda key: key != "peft_type")}  # another type says more than its fields


def examine(config: PeftConfig | Mapping[str, Any], who: str) -> None:
    """Raise UserError unless an adapter is plain LoRA, W + s B A: what mixing, averaging and folding are exact for. `who`: in messages."""
    for key, value in oddities(config).items():
        raise UserError(f"{who}: only plain LoRA adapters are supported, and its {key} is {_short(value)}")


def examine_loaded(model: PeftModel, names: Sequence[str], who: str = "") -> None:
    """`examine` adapters in a model. Raises UserError too for one that changes more than linear layers, or the LM head, which all share."""
    for name in names:
        examine(model.peft_config[name], who or f"adapter {name!r}")
    head = model.get_base_model().get_output_embeddings()
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and (layer is head or not _is_linear(layer)):
            for name in names:
                if carries(layer, name):
                    where = next(_base_name(key) for key, module in model.named_modules() if module is layer)
                    what = "the LM head" if layer is head else f"no linear layer but {type(layer.get_base_layer()).__name__}"
                    raise UserError(
                        f"{who or f'adapter {name!r}'}: it changes {where}, {what}; only plain LoRA on linear layers is supported"
                    )


def _is_linear(layer: Any) -> bool:
    return type(layer) is Linear and isinstance(layer.get_base_layer(), nn.Linear | Conv1D)


def examine_neighbours(model: PeftModel, names: Iterable[str]) -> None:
    """Raise UserError if an adapter of the model that is not among `names` changes what these compute (the base, or an embedding)."""
    for other in sorted(set(model.peft_config) - set(names)):
        for key, value in oddities(model.peft_config[other]).items():
            if key not in OF_ITS_OWN_ROWS:
                raise UserError(
                    f"adapter {other!r} is in the same model, and its {key} ({_short(value)}) changes what other adapters compute: "
                    "take a model without it"
                )


def carries(layer: Any, name: str) -> bool:
    """Whether a PEFT layer has matrices of this adapter."""
    return any(name in getattr(layer, part, ()) for part in layer.adapter_layer_names)


def check_name(model: PreTrainedModel | PeftModel, name: Any) -> None:
    """Raise UserError unless a new adapter can have this name: PEFT makes it a part of its tensors' names."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"adapter {name!r}: a name of at least one letter is needed")
    if marks := [mark for mark in "./\\" if mark in name]:
        raise UserError(f"adapter {name!r}: a name cannot hold {marks[0]!r}")
    if isinstance(model, PeftModel) and name in model.peft_config:
        raise UserError(f"adapter {name!r} is in the model already: take another name")
    parts = {part for key, _ in model.named_parameters() if "lora_" not in key for part in key.split(".")}
    if name in parts or name == "lora" or name.startswith("lora_") or hasattr(nn.ModuleDict(), name):
        raise UserError(f"adapter {name!r}: the name is that of a part of the model or of PEFT; take another one")


def _short(value: Any) -> str:
    text = repr(getattr(value, "value", value))
    return text if len(text) <= 60 else text[:57] + "..."


def _base_name(key: str) -> str:
    return key.removeprefix("base_model.model.")


def lora_config(config: ModelConfig, task: str, rank: int | None = None, ranks: dict[str, int] | None = None) -> LoraConfig:
    """LoRA on every linear layer but the head. `rank`, `ranks`: others than the configured one, with its scale (see `add_adapter`)."""
    rank, ranks = rank or config.lora_r, ranks or {}

    def same_scale(r: int) -> Any:
        alpha = config.lora_alpha * r / config.lora_r
        return int(alpha) if alpha.is_integer() else alpha

    return LoraConfig(
        r=rank,
        lora_alpha=same_scale(rank),
        rank_pattern=ranks,
        alpha_pattern={layer: same_scale(r) for layer, r in ranks.items()},
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type=task,
    )


def with_adapter(model: PreTrainedModel | PeftModel, name: str, lora: LoraConfig) -> PeftModel:
    """The model with one more adapter; the first wraps it."""
    if not isinstance(model, PeftModel):
        return quietly(get_peft_model)(model, lora, adapter_name=name)
    quietly(model.add_adapter)(name, lora)
    return model


# -- which base an adapter belongs to


def base_probe(base: PreTrainedModel) -> dict[str, Any]:
    """A few numbers that tell one base model from another, whatever type it was loaded in."""
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


# -- folders


@torch.no_grad()
def round_to_half(model: PeftModel, name: str) -> None:
    """Round an adapter's matrices to float16, in the type that they have."""
    for key, parameter in model.named_parameters():
        if "lora_" in key and f".{name}." in key:
            parameter.copy_(parameter.half())


def save_adapter(model: PeftModel, name: str, folder: Path, store: str, facts: dict[str, Any]) -> None:
    """Write one adapter as safetensors, in the type `store`, with the facts about its base."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, selected_adapters=[name], safe_serialization=True)
    inner = folder / name
    if inner.is_dir():  # peft puts named adapters in a folder of their own
        for file in inner.iterdir():
            file.replace(folder / file.name)
        inner.rmdir()
    (folder / "README.md").unlink(missing_ok=True)
    if store == "float16":
        save_file({key: x.half() for key, x in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    (folder / PROBE).write_text(json.dumps(facts), encoding="utf-8")


def load_adapter(
    model: PreTrainedModel | PeftModel, name: str, folder: Path, path: str, facts: dict[str, Any], origin: str | None = None
) -> PeftModel:
    """The model with an adapter read from a folder. `path` names the base in messages, `facts` are about it (see `save_adapter`).

    `origin`: the folder that an adapter of this name was loaded from; if it is this one, it is read again.
    Raises UserError, and leaves the model as it was, if the folder holds no whole plain LoRA adapter, it was trained on another base model,
    or another adapter has the name.
    """
    who = f"adapter {name!r} in {folder}"
    existing = model.peft_config.get(name) if isinstance(model, PeftModel) else None
    if existing is None:
        check_name(model, name)
    elif origin != str(folder.resolve()):
        taken = origin or "made in this process"
        raise UserError(f"adapter {name!r} is in the model already ({taken}): load {folder} under another name")
    lora, state = read_adapter(folder, who)
    _check_base(folder, who, path, facts)
    if not isinstance(model, PeftModel) or existing is None:
        return _with_filled(model, name, lora, state, who, path)
    if _shape(existing) == _shape(lora):
        _fill(model, name, state, who, path)  # the same tensors, so that whoever holds them holds what was read
        return model
    kept = {key: x.detach().clone() for key, x in adapter_tensors(model, name).items()}
    with _as_before(model):
        quietly(model.delete_adapter)(name)
        try:
            return _with_filled(model, name, lora, state, who, path)
        except UserError:
            _fill(with_adapter(model, name, existing), name, kept, who, path)
            raise


def read_adapter(folder: Path, who: str) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Configuration and tensors of a kept adapter. Raises UserError for files that are missing, broken, or not of plain LoRA."""
    if not (folder / WEIGHTS).is_file():
        other = " (adapter_model.bin is a pickle, which is not read)" if (folder / "adapter_model.bin").is_file() else ""
        raise UserError(f"{who}: holds no {WEIGHTS}{other}")
    if not (folder / CONFIG).is_file():
        raise UserError(f"{who}: holds no {CONFIG}")
    for file in (folder / CONFIG, folder / WEIGHTS):
        with file.open("rb") as stream:
            if stream.read(20).startswith(b"version https://git-"):
                raise UserError(f"{who}: {file.name} is a Git LFS pointer, not the file itself; `git lfs pull` fetches it")
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
        examine(values, who)
        lora = LoraConfig(**{key: value for key, value in values.items() if key in _FIELDS})
        _check_numbers(lora)
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise UserError(f"{who}: {CONFIG} is broken ({_first_line(error)})") from error
    try:
        state = load_file(folder / WEIGHTS)
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{who}: {WEIGHTS} is broken or cut off ({_first_line(error)})") from error
    lora.inference_mode = False
    lora.base_model_name_or_path = None  # the probe tells bases apart; peft would warn of another path
    return lora, state


_FIELDS = {field.name for field in fields(LoraConfig)} - {"runtime_config"}


def _check_numbers(lora: LoraConfig) -> None:
    """Raise ValueError unless ranks are whole numbers above 0, and scales finite."""
    for ranks in ([lora.r], (lora.rank_pattern or {}).values()):
        if any(type(r) is not int or r < 1 for r in ranks):
            raise ValueError("a rank is no whole number above 0")
    for scales in ([lora.lora_alpha], (lora.alpha_pattern or {}).values()):
        if any(isinstance(a, bool) or not isinstance(a, int | float) or not math.isfinite(a) for a in scales):
            raise ValueError("a lora_alpha is no finite number")


def _check_base(folder: Path, who: str, path: str, facts: dict[str, Any]) -> None:
    """Raise UserError if the adapter was trained on another base; one made elsewhere has no probe of it."""
    if not (folder / PROBE).is_file():
        return
    try:
        probe = json.loads((folder / PROBE).read_text(encoding="utf-8"))
        same = not probe or same_base(probe, facts)
        warm_start = probe.get("warm_start", facts["warm_start"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{who}: {PROBE} is broken ({_first_line(error)})") from error
    if not same:
        raise UserError(f"{who} was trained on another base model than {path}")
    if warm_start != facts["warm_start"]:
        raise UserError(f"{who} was trained on {path} with another warm start, or without this one")


def _shape(lora: LoraConfig) -> dict[str, Any]:
    """What decides which matrices an adapter has, and their scales."""
    keys = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", *_WHERE)
    return {key: value or None for key in keys for value in [getattr(lora, key)]}


_WHERE = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")


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
            raise UserError(f"{who} does not fit {path} and its own {CONFIG}: {key} is unknown")
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


def _with_filled(
    model: PreTrainedModel | PeftModel, name: str, lora: LoraConfig, state: Mapping[str, Tensor], who: str, path: str
) -> PeftModel:
    """The model with one more adapter that holds these tensors. Raises UserError, and leaves the model as it was, if they do not fit."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    lora.task_type = "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM"  # other wrappers would pass on other inputs
    with _as_before(model, only_after_errors=True):
        try:
            adapted = with_adapter(model, name, lora)
            examine_loaded(adapted, [name], who)
            _fill(adapted, name, state, who, path)
            return adapted
        except BaseException as error:
            _take_out(model, name)
            if isinstance(error, UserError) or not isinstance(error, Exception):
                raise
            raise UserError(f"{who} does not fit {path} ({_first_line(error)})") from error


@contextmanager
def _as_before(model: PreTrainedModel | PeftModel, only_after_errors: bool = False) -> Iterator[None]:
    """Afterwards the same adapter is active, and the same parameters are trainable."""
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    active = list(model.active_adapters) if isinstance(model, PeftModel) else []
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed or not only_after_errors:
            if isinstance(model, PeftModel) and active and set(active) <= set(model.peft_config):
                model.base_model.set_adapter(active if len(active) > 1 else active[0])
                model.active_adapter = active[0]
            for p, flag in trainable:
                p.requires_grad_(flag)


def _take_out(model: PreTrainedModel | PeftModel, name: str) -> None:
    """Remove an adapter, also one that PEFT added only half, and PEFT's wrappers from layers that have none left."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if isinstance(model, PeftModel) and name in model.peft_config:
        quietly(model.delete_adapter)(name)
    for parent in list(base.modules()):
        for key, layer in list(parent.named_children()):
            if isinstance(layer, LoraLayer) and isinstance(layer, BaseTunerLayer):
                if carries(layer, name):
                    quietly(layer.delete_adapter)(name)
                if not layer._all_available_adapter_names():
                    setattr(parent, key, layer.get_base_layer())
    if not isinstance(model, PeftModel) and hasattr(base, "peft_config"):
        del base.peft_config


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


# -- warm starts


def adapter_digest(folder: str) -> str:
    """A short hash of a kept adapter."""
    return digest((Path(folder) / WEIGHTS).read_bytes())


def merge_warm_start(model: PreTrainedModel, folder: str, base: str) -> PreTrainedModel:
    """The model with an adapter merged into its weights. Raises UserError if there is no adapter in the folder, or if it does not fit."""
    who = f"warm start {folder!r}"
    lora, state = read_adapter(Path(resolve(folder)), who)
    return _with_filled(model, "warmstart", lora, state, who, base).merge_and_unload().eval()  # type: ignore[no-any-return]
