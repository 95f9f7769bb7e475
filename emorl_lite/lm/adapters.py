"""A warm start: an adapter that is folded into the base model for good, when the model is loaded."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.paths import resolve
from emorl_lite.base.quiet import quietly


def adapter_digest(folder: str) -> str:
    """A short hash of a kept adapter."""
    return digest((Path(folder) / "adapter_model.safetensors").read_bytes())


def fold_in(model: PreTrainedModel, folder: str, base: str) -> PreTrainedModel:
    """The model with an adapter folded into its weights. Raises UserError if there is no adapter in the folder, or if it does not fit."""
    place = Path(resolve(folder))
    if not (place / "adapter_model.safetensors").is_file():
        raise UserError(f"warm start {folder!r}: holds no adapter_model.safetensors")
    try:
        return quietly(PeftModel.from_pretrained)(model, str(place), adapter_name="warmstart").merge_and_unload().eval()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"warm start {folder!r} does not fit {base}") from error
