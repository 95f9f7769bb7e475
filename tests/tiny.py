"""Random tiny models made on the spot: no download, no trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from emorl_lite.base.presets import ModelConfig
from emorl_lite.lm import forward
from emorl_lite.lm.model import LanguageModel

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "<sep>", *(f"w{i}" for i in range(59))]
PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9", "w10 w2"]
ADAPTERS = ["reflection", "empathy", "fluency"]


def kinds(*names: str) -> pytest.MarkDecorator:
    """A test's argument `kind`: `make check` tries the first, `make test` all (llama, gpt2 and t5 if none are named)."""
    first, *more = names or ("llama", "gpt2", "t5")
    return pytest.mark.parametrize("kind", [first, *(pytest.param(kind, marks=pytest.mark.slow) for kind in more)])


def tokenizer(seq2seq: bool = False) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        sep_token="<sep>",
        padding_side="right" if seq2seq else "left",
        model_input_names=["input_ids", "attention_mask"],
    )


def network(kind: str, seed: int = 0):
    torch.manual_seed(seed)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    V = len(WORDS)
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=V, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.3, **ids,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=V, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **ids,
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()
    if kind in ("qwen2", "gemma"):
        make, model = (Qwen2Config, Qwen2ForCausalLM) if kind == "qwen2" else (GemmaConfig, GemmaForCausalLM)
        config = make(
            vocab_size=V, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            head_dim=16, max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.3, **ids,
        )  # fmt: skip
        return model(config).eval()
    config = T5Config(
        vocab_size=V, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0, initializer_factor=3.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


def language_model(kind: str = "llama", adapters: int = 0, seed: int = 0, **config) -> LanguageModel:
    """A random model of kind llama, gpt2, t5, qwen2 or gemma with that many random adapters (not the identity)."""
    seq2seq = kind == "t5"
    template = "{prompt} <sep>" if seq2seq else "<bos> {prompt} <sep>"
    options = {"template": template, "max_prompt_tokens": 24, "max_new_tokens": 8, "lora_r": 4, "lora_alpha": 8} | config
    lm = LanguageModel(network(kind, seed), tokenizer(seq2seq), ModelConfig(path=f"tiny-{kind}", **options))
    for i, name in enumerate(ADAPTERS[:adapters]):
        lm.add_adapter(name, seed=seed + i)
    return with_random_adapters(lm, seed)


def with_random_adapters(lm: LanguageModel, seed: int = 0) -> LanguageModel:
    """The same model; its adapters are the identity no more."""
    for i, name in enumerate(lm.adapters):
        torch.manual_seed(100 + seed + i)
        for key, p in lm.model.named_parameters():
            if f"lora_B.{name}" in key:
                torch.nn.init.normal_(p, std=0.3)
    lm.model.eval()
    return lm


@contextmanager
def peft_batches() -> Iterator[None]:
    """Inside, every layer runs peft's own mixed batches, one adapter name a row: the reference for the stacked adapters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, "_is_plain", lambda layer, adapters: False)
        yield
