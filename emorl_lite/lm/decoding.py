"""How replies are decoded is not the model's to say: of its generation config only the special tokens are kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from emorl_lite.base.errors import UserError

SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
SUPPRESSING = ("suppress_tokens", "begin_suppress_tokens")
NEUTRAL: dict[str, Any] = {
    "do_sample": False, "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0,
    "min_p": 0.0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0, "diversity_penalty": 0.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0,
    "early_stopping": False, "use_cache": True,
}  # fmt: skip
"""Values of a generation config that change nothing."""
WITHOUT_EFFECT = {"max_length", "max_new_tokens", "transformers_version", "_from_model_config"}
"""The reply's length is always given; the others are notes."""


def token_ids(value: Any) -> list[int]:
    """Token ids of a field that holds one, several or none."""
    return [] if value is None else [int(i) for i in (value if isinstance(value, list | tuple) else [value])]


def end_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end a reply: the tokenizer's end of text first, then those of the model's generation config."""
    found = token_ids(tokenizer.eos_token_id) + token_ids(getattr(model.generation_config, "eos_token_id", None))
    return list(dict.fromkeys(found))


def is_end(tokens: Tensor, end_ids: list[int]) -> Tensor:
    """Which tokens end a reply: bool, of the same shape."""
    ended = tokens == end_ids[0]
    for end in end_ids[1:]:
        ended = ended | (tokens == end)
    return ended


def take_over_decoding(model: Any, tokenizer: Any, name: str) -> tuple[list[int], dict[str, Any]]:
    """Give a `transformers` model a generation config of special tokens only. Returns (its end tokens, what was set aside).

    Raises UserError if nothing ends a reply, or if the model forbids tokens: log-probabilities of given replies would count them.
    """
    legacy: dict[str, Any] = getattr(
        model.config, "_get_generation_parameters", dict
    )()  # entries in the model's own config, as models once had
    shipped = model.generation_config.to_dict() | legacy
    for field in SUPPRESSING:
        if forbidden := token_ids(shipped.get(field)):
            words = ", ".join(f"{i} ({tokenizer.convert_ids_to_tokens(i)})" for i in forbidden[:5]) + (", …" if forbidden[5:] else "")
            raise UserError(f"{name}: its generation config forbids tokens ({field}: {words}), which is not supported: remove that entry")
    ends = end_token_ids(model, tokenizer)
    if not ends:
        raise UserError(f"{name}: neither the tokenizer nor the generation config has an end-of-text token")
    aside = {
        key: value
        for key, value in shipped.items()
        if key not in WITHOUT_EFFECT and key not in SPECIAL_TOKENS and not _changes_nothing(key, value)
    }
    for key in legacy:  # generate() refuses a model that has them there
        setattr(model.config, key, None)
    start = shipped.get("decoder_start_token_id")
    if model.config.is_encoder_decoder:
        if start is None:
            start = getattr(model.config, "decoder_start_token_id", None)
        if start is None:
            start = shipped.get("bos_token_id")
        model.config.decoder_start_token_id = start  # what given replies are read with
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=shipped.get("bos_token_id"),
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        decoder_start_token_id=start,
    )
    return ends, aside


def _changes_nothing(key: str, value: Any) -> bool:
    return value is None or value is False or value == [] or value == {} or (key in NEUTRAL and value == NEUTRAL[key])
