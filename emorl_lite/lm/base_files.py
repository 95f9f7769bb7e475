"""A base model and its tokenizer, from a folder or the hub: whole, finite, and made for each other, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import is_of_memory, one_line
from emorl_lite.base.files import read_json
from emorl_lite.base.paths import how_to_get, resolve
from emorl_lite.base.presets import ModelConfig
from emorl_lite.lm.devices import choose_device


def load_base(config: ModelConfig) -> tuple[PreTrainedModel, Any]:
    """(model, tokenizer). No remote code, safetensors only.

    Raises UserError for a folder or name that gives none, damaged files, a configuration that asks for other tensors than there are,
    numbers that are not finite, and a tokenizer of more words than the model has.
    """
    path, name = resolve(config.path), f"model {config.path!r}"
    if Path(path).is_dir():
        logging.disable_progress_bar()  # reading a local file needs none
        if not (Path(path) / "config.json").is_file():
            raise UserError(f"{name}: {how_to_get(config.path)} (the folder {path} has no config.json)")
        if (Path(path) / "generation_config.json").exists():  # transformers goes on without one that is cut off
            read_json(Path(path) / "generation_config.json", "how a model generates")
    with _told(name, config.path), _silent():
        hf = AutoConfig.from_pretrained(path, trust_remote_code=False)
        device, dtype = choose_device(config.device, config.dtype, hf.is_encoder_decoder)
        auto = AutoModelForSeq2SeqLM if hf.is_encoder_decoder else AutoModelForCausalLM
        options = {"dtype": dtype, "trust_remote_code": False, "use_safetensors": True, "output_loading_info": True}
        model, info = auto.from_pretrained(path, **options)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{name}: its weights lack {len(missing)} tensors of those that its config.json asks for, {missing[0]} among them")
    for key, x in model.state_dict().items():
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise UserError(f"{name}: its tensor {key} holds a NaN or an infinity")
    _check_words(name, model, tokenizer)
    if tokenizer.pad_token_id is None and hf.pad_token_id is not None:
        tokenizer.pad_token_id = hf.pad_token_id
    if tokenizer.pad_token_id is None:  # GPT-2 has none; masks say what is padding
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), tokenizer


def _check_words(name: str, model: PreTrainedModel, tokenizer: Any) -> None:
    """Raise UserError for a tokenizer whose words the model has no rows for. Tokens that were added may have none: no text holds them."""
    rows = model.get_input_embeddings().num_embeddings
    own = set(tokenizer.get_vocab().values()) - set(getattr(tokenizer, "added_tokens_decoder", {}))
    if own and max(own) >= rows:
        raise UserError(f"{name}: its tokenizer has {max(own) + 1} words, the model {rows}: one of them is another model's")


@contextmanager
def _told(name: str, path: str) -> Iterator[None]:
    """Inside, whatever transformers cannot read becomes one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_of_memory(error):
            raise
        if isinstance(error, OSError) and not Path(resolve(path)).is_dir():
            raise UserError(f"{name}: {how_to_get(path)} ({one_line(error, 200)})") from error
        raise UserError(f"{name}: cannot be read ({type(error).__name__}: {one_line(error, 200)})") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Inside, transformers prints no table of the tensors that it misses: what is wrong is one line."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
