"""A random small T5, and an adapter for it as the paper's authors would publish one: what their files mean, shown without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from emorl_lite.base.files import told
from emorl_lite.base.presets import ModelConfig
from emorl_lite.lm.author_adapters import PREFIX, linear_layers
from emorl_lite.lm.model import LanguageModel

NAME = "a random small T5"


def random_t5(tokenizer: Any, seed: int = 0) -> LanguageModel:
    """T5 with random weights: two layers, 32 wide, the words of this tokenizer. Layers have the names that they have in t5-base."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ids = {
            "decoder_start_token_id": tokenizer.pad_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
        shape = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0, **ids)
        model = T5ForConditionalGeneration(shape).eval()
    return LanguageModel(model, tokenizer, ModelConfig(path=NAME, template="{prompt}"))


def random_author_adapter(path: Path, base: PreTrainedModel, rank: int = 8, scaling: float = 4.0, seed: int = 0) -> Path:
    """Write a file of the authors' format with random numbers for every linear layer of `base` but its head.

    A [r, in], B [out, r] and s of each, by default with their r = 8 and s = alpha / r = 32 / 8. Raises UserError if it cannot be written.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for name, (rows, columns) in linear_layers(base).items():
        arrays[f"{PREFIX}{name}_loraA"] = random.normal(0, columns**-0.5, (rank, columns)).astype(np.float32)
        arrays[f"{PREFIX}{name}_loraB"] = random.normal(0, 0.1, (rows, rank)).astype(np.float32)
        arrays[f"{PREFIX}{name}_scaling"] = np.float64(scaling)
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    return path
