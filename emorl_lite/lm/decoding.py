"""How replies are decoded is not the model's to say: of its generation config only the special tokens are kept."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
TURN_ENDS = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<end_of_turn>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<turn|>"}
"""How chat models close a turn (Qwen and SmolLM, Llama 3 and 4, Gemma, OpenChat, Command R), whatever their end of text is."""
SOUNDS_LIKE_AN_END = ("end", "eot", "eom", "eos", "stop", "</", "[/")


def token_ids(value: Any, field: str) -> list[int]:
    """Token ids of a field that holds one, several or none. Raises UserError for what is no id."""
    ids = [] if value is None else list(value) if isinstance(value, list | tuple | set) else [value]
    for i in ids:
        if isinstance(i, bool) or not isinstance(i, int) or i < 0:
            raise UserError(f"{field}: expected one token id or several, got {value!r}")
    return ids


def end_token_ids(tokenizer: Any, shipped: Any) -> list[int]:
    """Tokens that end a reply: the tokenizer's end of text first, then those that the generation config holds as its own."""
    return list(dict.fromkeys(token_ids(tokenizer.eos_token_id, "eos_token_id") + token_ids(shipped, "eos_token_id")))


def turn_end_ids(tokenizer: Any, template: str) -> list[int]:
    """Control tokens that close a turn of a conversation, and so a reply, though nothing else may say that they do.

    They are known by name, or by their place: in a template, a mark that closes the client's turn has another one behind it, which opens
    the reply, and the reply is closed as the client's turn is.
    """
    names = {token.content: i for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    found = [i for name, i in names.items() if name in TURN_ENDS]
    behind = template.rpartition("{prompt}")[2]
    marks = sorted((behind.find(name), -len(name), name) for name in names if name and name in behind)
    if len({place for place, _, _ in marks}) > 1 and any(part in marks[0][2].lower() for part in SOUNDS_LIKE_AN_END):
        found.append(names[marks[0][2]])
    return found


def is_end(tokens: Tensor, end_ids: list[int]) -> Tensor:
    """Which tokens end a reply: bool, of the same shape."""
    ended = tokens == end_ids[0]
    for end in end_ids[1:]:
        ended = ended | (tokens == end)
    return ended


class Decoding:
    """How a model decodes: greedily, ended by its end tokens, unless a call says otherwise.

    The model's own generation config is replaced by one of special tokens only, for good where it is loaded, and again while it generates:
    what is set on it later plays no part either, and is told.
    Raises UserError if nothing ends a reply, if a field makes no sense, or if the model forbids tokens: log-probabilities of given replies
    would count them.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, template: str):
        self.name = name
        legacy = _legacy(model.config)  # entries in the model's own config, as models once had
        shipped = model.generation_config.to_dict() | legacy
        _refuse_forbidding(shipped, tokenizer, name)
        try:
            end_ids = end_token_ids(tokenizer, shipped.get("eos_token_id"))
            start = _start_token(model.config, shipped)
        except UserError as error:
            raise UserError(f"{name}: its generation config, {error}") from None
        self.turn_ends = [i for i in dict.fromkeys(turn_end_ids(tokenizer, template)) if i not in end_ids]
        """End tokens that neither the tokenizer nor the generation config names."""
        self.end_ids = end_ids + self.turn_ends
        if not self.end_ids:
            raise UserError(f"{name}: neither the tokenizer nor the generation config has an end-of-text token")
        self.set_aside = differing(shipped)
        """What the model's generation config asked for beyond special tokens."""
        for key in legacy:  # generate() refuses a model that has them there
            setattr(model.config, key, None)
        for module in model.modules():  # outputs by name, whatever a configuration says; an encoder has one of its own
            if getattr(getattr(module, "config", None), "return_dict", True) is False:
                module.config.return_dict = True
        if model.config.is_encoder_decoder:
            model.config.decoder_start_token_id = start  # what given replies are read with
        self.own = GenerationConfig(
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=shipped.get("bos_token_id"),
            eos_token_id=self.end_ids[0] if len(self.end_ids) == 1 else self.end_ids,
            decoder_start_token_id=start,
        )
        self._told: set[str] = set()
        model.generation_config = copy.deepcopy(self.own)

    def config(self, options: dict[str, Any]) -> tuple[GenerationConfig, dict[str, Any]]:
        """(generation config, what else generate() is given) for a call with these options, in which nothing is the model's."""
        asked = options.pop("generation_config", None)
        if asked is not None:
            options = {key: value for key, value in asked.to_dict().items() if value is not None and key not in WITHOUT_EFFECT} | options
        config = copy.deepcopy(self.own)
        return config, config.update(**options)

    @contextmanager
    def alone(self, *models: Any) -> Iterator[None]:
        """Inside, none of these models (the wrapper, the base) has entries in its generation config; afterwards it has its own again."""
        kept = [(model, vars(model).get("generation_config")) for model in dict.fromkeys(models)]
        for _, config in kept:
            self._tell(config)
        try:
            for model, _ in kept:
                model.generation_config = copy.deepcopy(self.own)
            yield
        finally:
            for model, config in kept:
                if config is None:
                    vars(model).pop("generation_config", None)
                else:
                    model.generation_config = config

    def _tell(self, config: GenerationConfig | None) -> None:
        """One line, once an entry, on what somebody set on the model since it was loaded."""
        later = {} if config is None else differing(config.to_dict())
        if config is not None and set(token_ids(config.eos_token_id, "eos_token_id")) - set(self.end_ids):
            later["eos_token_id"] = config.eos_token_id
        later = {key: value for key, value in later.items() if key not in self._told}
        if later:
            self._told |= set(later)
            options = ", ".join(f"{key}={value}" for key, value in later.items())
            print(f"{self.name}: set on its generation config and set aside: {options}; give options to the call", file=sys.stderr)


def differing(entries: dict[str, Any]) -> dict[str, Any]:
    """The entries of a generation config that would change what is decoded, or how."""
    return {
        key: value
        for key, value in entries.items()
        if key not in WITHOUT_EFFECT and key not in SPECIAL_TOKENS and not _changes_nothing(key, value)
    }


def _changes_nothing(key: str, value: Any) -> bool:
    if value is None or value == [] or value == {}:
        return True
    return bool(value == NEUTRAL[key]) if key in NEUTRAL else value is False


def _legacy(config: Any) -> dict[str, Any]:
    read = getattr(config, "_get_generation_parameters", dict)
    return dict(read())


def _refuse_forbidding(shipped: dict[str, Any], tokenizer: Any, name: str) -> None:
    for field in SUPPRESSING:
        if forbidden := token_ids(shipped.get(field), f"{name}: its generation config, {field}"):
            words = ", ".join(f"{i} ({tokenizer.convert_ids_to_tokens(i)})" for i in forbidden[:5]) + (", …" if forbidden[5:] else "")
            raise UserError(f"{name}: its generation config forbids tokens ({field}: {words}), which is not supported: remove that entry")


def _start_token(config: Any, shipped: dict[str, Any]) -> int | None:
    """What a decoder begins with; None for a model without an encoder."""
    if not config.is_encoder_decoder:
        return None
    given = (shipped.get("decoder_start_token_id"), getattr(config, "decoder_start_token_id", None), shipped.get("bos_token_id"))
    start = next((value for value in given if value is not None), None)
    ids = token_ids(start, "decoder_start_token_id")
    if len(ids) != 1:
        raise UserError(f"decoder_start_token_id: expected one token id, got {start!r}")
    return ids[0]
