"""LoRA adapters of a PEFT model: made, kept in folders, read back, and merged into the base for good (a warm start)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.paths import resolve
from emorl_lite.base.presets import ModelConfig
from emorl_lite.base.quiet import quietly

WEIGHTS = "adapter_model.safetensors"
"""PEFT's file of an adapter's matrices."""
PROBE = "base.json"
"""File beside it that tells the base model it was trained on."""


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


def load_adapter(model: PreTrainedModel | PeftModel, name: str, folder: Path, path: str, facts: dict[str, Any]) -> PeftModel:
    """The model with an adapter read from a folder. `path` names the base in messages, `facts` are about it (see `save_adapter`).

    Raises UserError if there is none, it was trained on another base model, or one of another shape has the name already.
    """
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"adapter {name!r}: {folder} holds no {WEIGHTS}")
    probe = json.loads((folder / PROBE).read_text(encoding="utf-8")) if (folder / PROBE).is_file() else {}
    if probe and not same_base(probe, facts):
        raise UserError(f"adapter {name!r} in {folder} was trained on another base model than {path}")
    if probe.get("warm_start", facts["warm_start"]) != facts["warm_start"]:
        raise UserError(f"adapter {name!r} in {folder} was trained on {path} with another warm start, or without this one")
    lora = LoraConfig.from_pretrained(str(folder))
    lora.inference_mode = False
    lora.base_model_name_or_path = None  # the probe above tells bases apart; peft would warn of another path
    existing = model.peft_config.get(name) if isinstance(model, PeftModel) else None
    if existing and (existing.r, existing.lora_alpha) != (lora.r, lora.lora_alpha):
        raise UserError(f"adapter {name!r}: one of another shape is loaded already; load this one under another name")
    try:
        adapted = model if existing else with_adapter(model, name, lora)
        state = {key: x.float() if x.dtype == torch.float16 else x for key, x in load_file(folder / WEIGHTS).items()}
        result = set_peft_model_state_dict(adapted, state, adapter_name=name)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"adapter {name!r} in {folder} does not fit {path}") from error
    if result.unexpected_keys:
        raise UserError(f"adapter {name!r} in {folder} does not fit {path}: {result.unexpected_keys[0]} is unknown")
    return adapted


# -- warm starts


def adapter_digest(folder: str) -> str:
    """A short hash of a kept adapter."""
    return digest((Path(folder) / WEIGHTS).read_bytes())


def merge_warm_start(model: PreTrainedModel, folder: str, base: str) -> PreTrainedModel:
    """The model with an adapter merged into its weights. Raises UserError if there is no adapter in the folder, or if it does not fit."""
    adapter_folder = Path(resolve(folder))
    if not (adapter_folder / WEIGHTS).is_file():
        raise UserError(f"warm start {folder!r}: holds no {WEIGHTS}")
    try:
        return quietly(PeftModel.from_pretrained)(model, str(adapter_folder), adapter_name="warmstart").merge_and_unload().eval()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"warm start {folder!r} does not fit {base}") from error
