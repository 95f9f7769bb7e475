"""LoRA adapters in a model: which can be mixed, averaged, folded and trained on exactly; what they may be called; how they are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftMixedModel, PeftModel, get_peft_model
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import first_line
from emorl_lite.base.presets import ALL_LAYERS, SHARES_OF_LAYERS, ModelConfig
from emorl_lite.base.quiet import quietly
from emorl_lite.lm.devices import type_name

PLAIN = {
    # where and how large: W + s B A, with a rank and a scale s for each layer
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    # what matters in training alone, or only beside a field that is not here
    *("lora_dropout", "eva_config", "qalora_group_size", "megatron_core", "ensure_weight_tying", "runtime_config", "inference_mode"),
    # notes
    *("auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
}
"""Fields of a LoRA configuration that may have any value; all others must be None or False, or as in `PLAIN_VALUES`."""
PLAIN_VALUES: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": (None, "CAUSAL_LM", "SEQ_2_SEQ_LM"),
    "bias": ("none",),
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal", "eva"),  # those that leave the base as it is
    **dict.fromkeys(("loftq_config", "megatron_config"), (None, {})),
    **dict.fromkeys(("modules_to_save", "target_parameters", "layer_replication"), (None, [], set())),
}
OF_ITS_OWN_ROWS = ("use_dora", "lora_bias")
"""Properties that leave other adapters of the same model alone."""
LASTING = ("peft_type", "init_lora_weights", "bias", "layer_replication", "kasa_config")
"""Properties that leave the base changed when the adapter is gone."""
NOT_ALONE = {
    **dict.fromkeys(("MULTITASK_PROMPT_TUNING", "POLY", "SHADOW", "XLORA"), "which takes more than texts"),
    **dict.fromkeys(("PROMPT_TUNING", "P_TUNING", "CPT"), "which reads a padded prompt otherwise than it is read alone"),
}
"""Types of adapter that cannot even reply on their own here, and why. All others reply and read by PEFT's own forward pass."""


# -- which adapters can be mixed, averaged and folded


def oddities(config: PeftConfig | Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration is not plain LoRA: fields and their values. Fields that PEFT does not know count as well."""
    values = config if isinstance(config, Mapping) else {field.name: getattr(config, field.name) for field in fields(config)}
    values = {**values, "peft_type": _type(values.get("peft_type"))}
    odd = {key: value for key, value in values.items() if key not in PLAIN and not _is_plain(key, value)}
    return {key: odd[key] for key in sorted(odd, key=lambda key: key != "peft_type")}  # another type says more than its fields


def _is_plain(key: str, value: Any) -> bool:
    if key in PLAIN_VALUES:
        return value in PLAIN_VALUES[key]
    if key in LoraConfig.__dataclass_fields__:
        return value is None or value is False  # an empty list of tokens, or an empty configuration of a variant, switches it on
    return not value


def _type(peft_type: Any) -> str:
    return str(getattr(peft_type, "value", peft_type))


def examine(config: PeftConfig | Mapping[str, Any], who: str) -> None:
    """Raise UserError unless an adapter is plain LoRA, W + s B A: what mixing, averaging and folding are exact for. `who`: in messages."""
    for key, value in oddities(config).items():
        raise UserError(f"{who}: only plain LoRA adapters are supported, and its {key} is {_short(value)}")


def examine_loaded(model: PeftModel, names: Sequence[str], who: str = "") -> None:
    """`examine` adapters in a model, and their layers: what PEFT does in a forward pass must be W + s B A.

    Raises UserError too for an adapter that changes more than linear layers, or the LM head, which all share; for one that is switched off,
    or was taken out of the layers; and for matrices that are not finite, or of a coarser type than the weights that they are added to.
    """
    for name in names:
        examine(model.peft_config[name], who or f"adapter {name!r}")
    head, found = model.get_base_model().get_output_embeddings(), set[str]()
    places = Counter(id(part) for module in model.modules() for part in module.children())
    for key, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and (carried := [name for name in names if carries(layer, name)]):
            fault = _fault(layer, layer is head, places[id(layer.get_base_layer())] > 1)  # once, whoever changes it
            for name in carried:
                if fault := fault or _fault_of_matrices(layer, name):
                    raise UserError(f"{who or f'adapter {name!r}'}: {fault.format(where=_base_name(key))}")
            found.update(carried)
    for name in names:
        if name not in found:
            raise UserError(
                f"{who or f'adapter {name!r}'}: its matrices are no longer in the model (merged into it, or unloaded): load both again"
            )


def _fault(layer: Any, is_head: bool, is_shared: bool) -> str:
    """Why a layer does not compute W + s B A, whichever the adapter, or empty. {where} stands for its name."""
    if is_head or not is_linear(layer):
        what = "the LM head" if is_head else f"no linear layer but {type(layer.get_base_layer()).__name__}"
        return f"it changes {{where}}, {what}; only plain LoRA on linear layers is supported"
    if layer.disable_adapters:
        return "adapters are switched off in the model: call its enable_adapter_layers() first"
    if is_shared:
        return "it changes {where}, a layer that the model uses at another place as well, without it"
    return ""


def _fault_of_matrices(layer: Any, name: str) -> str:
    """The same for one adapter's matrices there."""
    own, base = layer.lora_A[name].weight.dtype, layer.get_base_layer().weight.dtype
    if not all(part[name].weight.isfinite().all() for part in (layer.lora_A, layer.lora_B)):
        return "its {where} holds NaN or infinity"
    if torch.finfo(own).eps > torch.finfo(base).eps:
        own_type, base_type = type_name(own), type_name(base)
        return f"its {{where}} is {own_type} on weights of {base_type}, and PEFT rounds the sum: turn it into {base_type} first"
    return ""


def is_linear(layer: Any) -> bool:
    """Whether a LoRA layer is x W^T + s x A^T B^T: nothing is done to the weights when they are used (as quantised layers do)."""
    base = layer.get_base_layer()
    return (
        type(layer) is Linear and _multiplies(base) and base.weight.is_floating_point() and not nn.utils.parametrize.is_parametrized(base)
    )


@torch.no_grad()
def _multiplies(layer: Any) -> bool:
    """Whether a layer is a product with its weights, and nothing more: by its class, or else (Falcon's) by what it makes of an input."""
    if type(layer).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    weight = layer.weight
    if not isinstance(layer, nn.Linear) or not weight.is_floating_point():
        return False
    x = torch.linspace(-1, 1, weight.shape[1], device=weight.device).to(weight.dtype)[None, None]
    try:
        out, expected = layer(x), nn.functional.linear(x, weight, layer.bias)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False
    rounding = min(100 * torch.finfo(weight.dtype).eps, 0.02) * float(expected.abs().max())
    return isinstance(out, Tensor) and out.shape == expected.shape and float((out - expected).abs().max()) <= rounding


def examine_neighbours(model: PreTrainedModel | PeftModel, names: Iterable[str]) -> None:
    """Raise UserError if an adapter of the model that is not among `names` changes what these compute (the base, or an embedding)."""
    configs = model.peft_config if isinstance(model, PeftModel) else {}
    for other in sorted(set(configs) - set(names)):
        for key, value in oddities(configs[other]).items():
            if key not in OF_ITS_OWN_ROWS:
                raise UserError(
                    f"adapter {other!r} is in the same model, and its {key} ({_short(value)}) changes what other adapters compute: "
                    "take a model without it"
                )


def check_unmerged(model: nn.Module) -> None:
    """Raise UserError if adapters are merged into the base's weights."""
    if any(layer.merged for layer in model.modules() if isinstance(layer, BaseTunerLayer)):
        raise UserError("adapters are merged into the base model: call unmerge_adapter() first")


def check_switched_on(model: nn.Module) -> None:
    """Raise UserError if the model replies without its adapters, whichever is active."""
    if any(layer.disable_adapters for layer in model.modules() if isinstance(layer, BaseTunerLayer)):
        raise UserError("adapters are switched off in the model: call its enable_adapter_layers() first")


def check_removable(model: PreTrainedModel | PeftModel, name: str) -> None:
    """Raise UserError if the base would not be the base after this adapter is taken out."""
    check_unmerged(model)
    for key, value in oddities(model.peft_config[name]).items():
        if key in LASTING:
            raise UserError(
                f"adapter {name!r}: its {key} ({_short(value)}) has changed the base for good: load the model again to be without it"
            )


def check_wrapped(model: nn.Module) -> None:
    """Raise UserError for a model whose adapters are not all in PEFT's wrapper, or that cannot reply by one of them alone."""
    if hasattr(model, "_orig_mod"):
        raise UserError("the model is compiled (torch.compile), and its layers cannot be borrowed then: give the model itself")
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if isinstance(base, PeftModel | PeftMixedModel):
        what = "a PeftMixedModel" if isinstance(base, PeftMixedModel) else "a PeftModel in a PeftModel"
        raise UserError(f"the model is {what}: only a transformers model, or one PeftModel around it, is supported")
    if not isinstance(model, PeftModel) and any(isinstance(module, BaseTunerLayer) for module in base.modules()):
        raise UserError(
            "adapters are in the model's layers without PEFT's wrapper (as transformers puts them in when a folder holds an adapter): "
            "load the base alone, then its adapters"
        )
    for name, config in (model.peft_config if isinstance(model, PeftModel) else {}).items():
        if (kind := _type(config.peft_type)) in NOT_ALONE:
            raise UserError(f"adapter {name!r}: its peft_type is {kind!r}, {NOT_ALONE[kind]}: it cannot be used")


def carries(layer: Any, name: str) -> bool:
    """Whether a PEFT layer has matrices of this adapter."""
    return any(name in getattr(layer, part, ()) for part in layer.adapter_layer_names)


def _short(value: Any) -> str:
    text = repr(getattr(value, "value", value))
    return text if len(text) <= 60 else text[:57] + "..."


def _base_name(key: str) -> str:
    return key.removeprefix("base_model.model.")


# -- names

OF_PEFT = ("lora", "base_layer", "base_model", "model", "modules_to_save", "original_module", "__base__")
"""Names that PEFT has in its tensors' names, or uses for the base itself."""
LONGEST_NAME = 100
"""Characters of a name: it is also that of a folder, and of columns in tables."""


def check_name(model: PreTrainedModel | PeftModel, name: Any) -> None:
    """Raise UserError unless a new adapter can have this name: PEFT makes it a part of its tensors' names, and folders bear it."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"adapter {name!r}: a name of at least one letter is needed")
    if marks := [mark for mark in './\\:*?"<>|' if mark in name]:
        raise UserError(f"adapter {name!r}: a name cannot hold {marks[0]!r}")
    if name != name.strip() or not name.isprintable():
        raise UserError(f"adapter {name!r}: a name cannot begin or end with a space, or hold what is not printed")
    if len(name) > LONGEST_NAME:
        raise UserError(f"adapter {name[:20] + '…'!r}: a name cannot have more than {LONGEST_NAME} characters, this one has {len(name)}")
    for taken in model.peft_config if isinstance(model, PeftModel) else ():
        if name == taken:
            raise UserError(f"adapter {name!r} is in the model already: take another name")
        if name.casefold() == taken.casefold():
            raise UserError(f"adapter {name!r}: {taken!r} is in the model already, and folders of both names are one on many machines")
    parts = {part for key, _ in model.named_parameters() if "lora_" not in key for part in key.split(".")}
    if name in parts or name in OF_PEFT or name.startswith("lora_") or hasattr(nn.ModuleDict(), name):
        raise UserError(f"adapter {name!r}: the name is that of a part of the model or of PEFT; take another one")


# -- adapters put into a model, and taken out


def lora_config(
    config: ModelConfig, model: PreTrainedModel | PeftModel, rank: int | None = None, ranks: dict[str, int] | None = None
) -> LoraConfig:
    """LoRA on every linear layer but the head, of all layers or of the upper ones. `rank`, `ranks`: others than the configured one, with
    its scale (see `add_adapter`).

    Raises UserError for a rank that is no whole number above 0, and for upper layers that the model does not have.
    """
    rank, ranks = config.lora_r if rank is None else rank, ranks or {}
    for r in (rank, *ranks.values()):
        if isinstance(r, bool) or not isinstance(r, int) or r < 1:
            raise UserError(f"an adapter's rank is a whole number above 0, got {r!r}")

    def same_scale(r: int) -> Any:
        alpha = config.lora_alpha * r / config.lora_r
        return int(alpha) if alpha.is_integer() else alpha

    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return LoraConfig(
        r=rank,
        lora_alpha=same_scale(rank),
        rank_pattern=ranks,
        alpha_pattern={layer: same_scale(r) for layer, r in ranks.items()},
        lora_dropout=config.lora_dropout,
        **({"target_modules": _linear_layers(base)} if config.layers == ALL_LAYERS else _upper_layers(base, config)),
        exclude_modules=_own_layers(base),
        task_type="SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM",
    )


def _upper_layers(base: PreTrainedModel, config: ModelConfig) -> dict[str, Any]:
    """What PEFT is told to change the upper layers alone. Raises UserError for a model that is no stack of that many layers."""
    where, total = config.where("layers", config.layers), getattr(base.config, "num_hidden_layers", 0)
    if base.config.is_encoder_decoder:
        raise UserError(f"{where}: {config.path} is an encoder-decoder, whose layers are no one stack; use {ALL_LAYERS}")
    stacks = {name: part for name, part in base.named_modules() if isinstance(part, nn.ModuleList) and len(part) == total}
    if len(stacks) != 1:
        raise UserError(f"{where}: which layers of {config.path} are the upper ones is not known; use {ALL_LAYERS}")
    share = SHARES_OF_LAYERS.get(config.layers)
    count = int(config.layers) if share is None else max(1, round(total * share))
    if count > total:
        raise UserError(f"{where}: {config.path} has {total} layers")
    ((name, stack),) = stacks.items()
    products = (key for key, part in stack.named_modules() if isinstance(part, nn.Linear | Conv1D) and "lora_" not in key)
    linear = {key.removesuffix(".base_layer").rpartition(".")[2] for key in products}
    return {
        "target_modules": sorted(linear),
        "layers_to_transform": list(range(total - count, total)),
        "layers_pattern": name.rpartition(".")[2],
    }


def _own_layers(base: PreTrainedModel) -> list[str] | None:
    """Names of layers that PEFT takes for linear ones, and that do more (Llama 4's routers); None without any."""
    layers = ((name, getattr(layer, "base_layer", layer)) for name, layer in base.named_modules())
    own = {name.rpartition(".")[2] for name, layer in layers if isinstance(layer, nn.Linear | Conv1D) and not _multiplies(layer)}
    return sorted(own - {"base_layer"}) or None


def _linear_layers(base: PreTrainedModel) -> str | list[str]:
    """What PEFT is to put LoRA on: "all-linear", or the names that are left where it would take experts for linear layers.

    They once were (Mixtral's, Qwen's); since transformers 5 a layer's experts are parameters of three dimensions.
    """
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # a PEFT that does not
        return "all-linear"
    meant = LoraConfig(target_modules="all-linear")
    convert_peft_config_for_transformers(meant, base, None)
    return sorted(meant.target_modules or ()) if meant.target_parameters else "all-linear"


def with_adapter(model: PreTrainedModel | PeftModel, name: str, lora: LoraConfig) -> PeftModel:
    """The model with one more adapter; the first wraps it. Raises UserError, and leaves the model as it was, if PEFT cannot add it."""
    with as_before(model, only_after_errors=True):
        try:
            if not isinstance(model, PeftModel):
                return quietly(get_peft_model)(model, lora, adapter_name=name)
            quietly(model.add_adapter)(name, lora)
            return model
        except BaseException as error:
            take_out(model, name)
            if not isinstance(error, Exception):
                raise
            raise UserError(f"adapter {name!r}: this model takes none ({first_line(error)})") from error  # Mamba's kernels, for one


@contextmanager
def as_before(model: PreTrainedModel | PeftModel, only_after_errors: bool = False) -> Iterator[None]:
    """Afterwards the same adapters are active, and the same parameters are trainable."""
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    active = list(model.active_adapters) if isinstance(model, PeftModel) else []
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed or not only_after_errors:
            if (
                isinstance(model, PeftModel)
                and isinstance(model.base_model, BaseTuner)
                and active
                and set(active) <= set(model.peft_config)
            ):
                model.base_model.set_adapter(active if len(active) > 1 else active[0])
                model.active_adapter = active[0]
            for p, flag in trainable:
                p.requires_grad_(flag)


def take_out(model: PreTrainedModel | PeftModel, name: str) -> None:
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
