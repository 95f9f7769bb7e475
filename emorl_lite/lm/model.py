"""The one seam between this package and `transformers`: a language model with its tokenizer, template and LoRA adapters.

All that differs between decoder-only and encoder-decoder models is in this file. Shapes: B prompts, T reply tokens, V words, d width.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.paths import resolve
from emorl_lite.base.presets import ModelConfig
from emorl_lite.base.quiet import quietly
from emorl_lite.base.ranges import Within, check_batch, checked, shown
from emorl_lite.base.texts import check_texts
from emorl_lite.lm import adapter_files, adapters
from emorl_lite.lm.base_files import load_base
from emorl_lite.lm.decoding import Decoding, is_end
from emorl_lite.lm.devices import cpu_has_bfloat16, half_precision, use_one_thread_for_tiny
from emorl_lite.lm.packing import Packing, can_pack, reading
from emorl_lite.lm.text import Template, Words
from emorl_lite.lm.trunk import Trunk, upper_layers

UNFINISHED = " […]"
"""Marks a reply that reached the token limit before it ended. A `Guarded` reward scores such a reply 0."""
MANY = 16
"""Replies of which one at least should have ended."""


@dataclass
class Encoded:
    """Tokenised prompts: `ids` and `mask` [B, P]; padded on the left for decoder-only models, on the right for encoders."""

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Encoded:
        return Encoded(self.ids[rows], self.mask[rows])


@dataclass
class Beginning:
    """What a model read of B prompts, to begin replies with."""

    logits: Tensor
    """At the prompts' ends, [B, V]."""
    hidden: Tensor
    """The last hidden states there, [B, d]."""
    cache: DynamicCache
    lower: list[Tensor] = field(default_factory=list)
    """What the trunk made of each prompt's tokens, [tokens, d]; empty unless asked for, and for a model that was not read packed."""


class LanguageModel:
    """A causal or encoder-decoder model, its tokenizer and its adapters.

    Decoding is greedy, or plain sampling, unless a call says otherwise: what the model's own generation config asks for is set aside.
    Raises UserError for a tokenizer without padding or end, a model that forbids tokens, or a template without {prompt}.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: Any, config: ModelConfig | None = None):
        adapters.check_wrapped(model)
        self.model: Any = model
        self.tokenizer = tokenizer
        self.config = config or ModelConfig()
        self.origin: dict[str, str | None] = {}
        """Folder that each adapter was loaded from or is trained in; None for one that was made here."""
        self.unfinished: set[str] = set()
        """Adapters whose training was begun and has not come to its end."""
        self._told_endless = False
        self.seq2seq = bool(model.config.is_encoder_decoder)
        if tokenizer.pad_token_id is None:
            raise UserError(f"{self.config.path}: the tokenizer has no padding token")
        self.decoding = Decoding(self.base, tokenizer, self.config.path, self.config.template)
        self.end_ids, self.set_aside = self.decoding.end_ids, self.decoding.set_aside
        """Tokens that end a reply (the tokenizer's own first), and what the model's generation config asked for beyond special tokens."""
        self.words = Words(tokenizer, self.end_ids)
        self.template = Template(self.config.template, self.words, add_special_tokens=self.seq2seq)
        use_one_thread_for_tiny(model)

    @classmethod
    def load(cls, config: ModelConfig, quiet: bool = True) -> LanguageModel:
        """Load the base model from a folder or the hub. No remote code, safetensors only."""
        model, tokenizer = load_base(config)
        if config.warm_start:
            model = adapter_files.merge_warm_start(model, config.warm_start, config.path)
        lm = cls(model, tokenizer, config)
        if not quiet:
            print(f"{config.path}: {model.num_parameters():,} parameters on {lm.device}, {lm.base.dtype}")
            lm._print_what_differs()
        return lm

    def _print_what_differs(self) -> None:
        """A line each on ends of replies that no file names, on what was set aside, and on marks that are no tokens, if there are any."""
        if self.decoding.turn_ends:
            names = ", ".join(map(str, self.tokenizer.convert_ids_to_tokens(self.decoding.turn_ends)))
            print(f"{self.config.path}: replies end at {names} too, which closes a turn though the model's files do not say so")
        if self.set_aside:
            options = ", ".join(f"{key}={value}" for key, value in self.set_aside.items())
            print(f"{self.config.path}: set aside from its generation config, so that replies are greedy unless you ask: {options}")
        if self.template.split_marks:
            marks = ", ".join(f"{mark} ({n} token{'s' * (n != 1)})" for mark, n in self.template.split_marks.items())
            print(f"{self.config.path}: the template's marks are no control tokens of its tokenizer, which reads them as text: {marks}")

    @cached_property
    def warm_start_digest(self) -> str:
        """What tells a warm-started base from others of its kind: a digest of the adapter merged into it; empty without one."""
        return adapter_files.adapter_digest(resolve(self.config.warm_start)) if self.config.warm_start else ""

    # -- parts

    @property
    def mixed(self) -> bool:
        """Whether given replies are read in another precision than replies are decoded in."""
        half = next(self.base.parameters()).dtype != torch.float32
        return half or (self.config.autocast and self.device.type == "cpu" and cpu_has_bfloat16())

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def base(self) -> PreTrainedModel:
        """The `transformers` model itself, adapters injected but not wrapped."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def width(self) -> int:
        """Of the last hidden state, which enters the head."""
        return int(self.head.weight.shape[-1])  # type: ignore[index, union-attr, arg-type]

    @property
    def head(self) -> nn.Module:
        """The language-model head, shared by all adapters: LoRA leaves it alone."""
        return self.base.get_output_embeddings()

    @property
    def context(self) -> int:
        """Longest sequence in tokens (prompt + reply for decoder-only models)."""
        return int(getattr(self.base.config, "max_position_embeddings", None) or getattr(self.base.config, "n_positions", None) or 10**6)

    # -- text in, tokens out

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of the filled templates, unpadded, of any length. Raises UserError unless all prompts are texts."""
        return self.template.ids(check_texts(prompts, "prompt"))

    def prompt_limit(self) -> int:
        """Longest prompt that leaves room for a reply, in tokens."""
        room = self.context if self.seq2seq else self.context - self.config.max_new_tokens
        return min(self.config.max_prompt_tokens, room)

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Tokenise and pad. Raises UserError for an empty list, what is no text, or a prompt longer than the limit."""
        prompts = check_texts(prompts, "prompt")
        if not prompts:
            raise UserError("no prompts: the data set is empty")
        ids = self.template.ids(prompts)
        for row, line in enumerate(ids):
            if len(line) > self.prompt_limit():
                raise UserError(f"prompt {row + 1}: {len(line)} tokens, longer than the model's limit of {self.prompt_limit()}")
        return self._pad(ids, left=not self.seq2seq)

    def pad(self, ids: Sequence[Sequence[int]]) -> Encoded:
        """Rows of token ids as one batch [B, T], padded on the right."""
        return self._pad(ids, left=False)

    def _pad(self, ids: Sequence[Sequence[int]], left: bool) -> Encoded:
        width = max(1, max(len(x) for x in ids))
        pad = self.tokenizer.pad_token_id
        rows = [[pad] * (width - len(x)) + list(x) if left else list(x) + [pad] * (width - len(x)) for x in ids]
        lengths = torch.tensor([len(x) for x in ids])[:, None]
        columns = torch.arange(width)[None]
        mask = columns >= width - lengths if left else columns < lengths
        return Encoded(torch.tensor(rows, device=self.device), mask.long().to(self.device))

    def encode_replies(self, replies: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(ids, mask) [B, T] of given replies, right-padded; finished ones end with EOS (`end_ids[0]`)."""
        replies = check_texts(replies, "reply")
        lines = self.words.ids([text.removesuffix(UNFINISHED) for text in replies])
        finished = [not text.endswith(UNFINISHED) for text in replies]
        padded = self._pad([[*line, self.end_ids[0]] if done else line for line, done in zip(lines, finished, strict=True)], left=False)
        return padded.ids, padded.mask

    def is_end(self, tokens: Tensor) -> Tensor:
        """Which tokens end a reply: bool, of the same shape."""
        return is_end(tokens, self.end_ids)

    def reply_mask(self, tokens: Tensor) -> Tensor:
        """1 up to and including the first end token of each row, [B, T]."""
        ended = self.is_end(tokens)
        return (ended.cumsum(1) - ended.long() == 0).long()

    def decode(self, tokens: Tensor) -> list[str]:
        """Reply texts; a reply without an end token gets the UNFINISHED mark."""
        ended = self.is_end(tokens)
        finished = ended.any(1).tolist()
        tokens = tokens.masked_fill(ended | ~self.reply_mask(tokens).bool(), self.tokenizer.pad_token_id)
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [t.strip() if done else t.strip() + UNFINISHED for t, done in zip(texts, finished, strict=True)]

    def tell_endless(self, replies: Sequence[str]) -> None:
        """Say once, on stderr, if of many replies that the model made none ended: rewards that ask for an end are 0 then."""
        if len(replies) >= MANY and not self._told_endless and all(reply.endswith(UNFINISHED) for reply in replies):
            self._told_endless = True
            why = "max_new_tokens is too small, or the model closes its turns with a token that is not among its end tokens"
            print(f"{self.config.path}: none of {len(replies)} replies ended; if that goes on, {why}", file=sys.stderr)

    @torch.no_grad()
    def generate(self, inputs: Encoded, **options: Any) -> Tensor:
        """Reply tokens [B * num_return_sequences, T] by `transformers`' generate(); greedy unless `do_sample=True`.

        `options` are generate()'s; none is taken from the model.
        """
        options = {"do_sample": False, "max_new_tokens": self.config.max_new_tokens, "eos_token_id": self.end_ids} | options
        if options["do_sample"]:
            options = {"top_k": 0, "top_p": 1.0} | options
        tokens = options["max_new_tokens"]
        checked(tokens, int, [Within(1, 10**5)], f"max_new_tokens {shown(tokens)}")
        training = self.model.training
        self.model.eval()
        try:
            config, rest = self.decoding.config(options)
            with self.decoding.alone(self.model, self.base):
                output = self.model.generate(input_ids=inputs.ids, attention_mask=inputs.mask, generation_config=config, **rest)
        except ValueError as error:  # an option of generate() that it does not know, or of a value that it cannot have
            raise UserError(f"reply: {one_line(error, 300)}") from error
        finally:
            self.model.train(training)
        sequences = output if isinstance(output, Tensor) else output.sequences
        return sequences[:, 1:] if self.seq2seq else sequences[:, inputs.ids.shape[1] :]

    def reply(self, prompts: Sequence[str], batch_size: int = 64, **options: Any) -> list[str]:
        """Reply texts, one per prompt (greedy by default)."""
        prompts, texts = check_texts(prompts, "prompt"), list[str]()
        for i in range(0, len(prompts), check_batch(batch_size)):
            texts += self.decode(self.generate(self.encode(prompts[i : i + batch_size]), **options))
        return texts

    # -- probabilities and hidden states of given replies

    def forward_reply(self, inputs: Encoded, reply: Tensor, reply_mask: Tensor, hidden: bool = False) -> tuple[Tensor, Tensor | None]:
        """Logits [B, T, V] that predict each reply token, and the last hidden states [B, T, d] they come from.

        The hidden state is the one that enters the head (after the final norm), so head(hidden) = logits (up to T5's scale).
        """
        with half_precision(self.device, self.config.autocast):
            return self._forward_reply(inputs, reply, reply_mask, hidden)

    def _forward_reply(self, inputs: Encoded, reply: Tensor, reply_mask: Tensor, hidden: bool) -> tuple[Tensor, Tensor | None]:
        T = reply.shape[1]
        if self.seq2seq:
            start = torch.full_like(reply[:, :1], self.base.config.decoder_start_token_id)
            outputs = self.model(
                input_ids=inputs.ids,
                attention_mask=inputs.mask,
                decoder_input_ids=torch.cat([start, reply[:, :-1]], 1),
                output_hidden_states=hidden,
                use_cache=False,
            )
            return outputs.logits, outputs.decoder_hidden_states[-1] if hidden else None
        # the last reply token predicts nothing: it is not read
        mask = torch.cat([inputs.mask, reply_mask[:, :-1].long()], 1)
        outputs = self.model(
            input_ids=torch.cat([inputs.ids, reply[:, :-1]], 1),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=T,
            output_hidden_states=hidden,
            use_cache=False,
        )
        return outputs.logits[:, -T:], outputs.hidden_states[-1][:, -T:] if hidden else None

    def forward_tokens(
        self, inputs: Encoded, reply: Tensor, reply_mask: Tensor, hidden: bool = False, packed: bool = True, trunk: Trunk | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What `forward_reply` gives at the n tokens of the replies, those of the first reply first: logits [n, V], hidden states [n, d].

        Read without padding where the model can be (`packing`): the same numbers up to rounding, for less work. `packed=False` where rows
        differ in more than their tokens, as those do that each have an adapter of their own. With a `trunk`, what the lower layers made of
        prompts and replies (but each reply's last token), only the layers above are read.
        """
        if not (packed and can_pack(self.base) and bool(inputs.mask[:, -1].all()) and bool(reply_mask.any())):
            logits, states = self.forward_reply(inputs, reply, reply_mask, hidden)
            return logits[reply_mask.bool()], None if states is None else states[reply_mask.bool()]
        with half_precision(self.device, self.config.autocast):
            return self._forward_packed(inputs, reply, reply_mask.long(), hidden, trunk)

    def _forward_packed(
        self, inputs: Encoded, reply: Tensor, reply_mask: Tensor, hidden: bool, trunk: Trunk | None
    ) -> tuple[Tensor, Tensor | None]:
        packing = Packing(torch.cat([inputs.mask, reply_mask[:, 1:]], 1))  # a reply's last token predicts nothing: it is not read
        predicts = torch.cat([torch.zeros_like(inputs.mask[:, 1:]), reply_mask], 1)  # a token stands one before the one it predicts
        places = packing.pack(predicts)[0].nonzero().squeeze(-1)
        ids = packing.pack(torch.cat([inputs.ids, reply[:, :-1]], 1))
        given = {"input_ids": ids} if trunk is None else {"inputs_embeds": torch.cat(trunk.states)[None]}
        with reading(self.base, packing), nullcontext() if trunk is None else upper_layers(self.base, trunk.depth):
            outputs = self.model(
                **given,
                position_ids=packing.positions[None],
                logits_to_keep=places,
                output_hidden_states=hidden,
                use_cache=False,
            )
        return outputs.logits[0], outputs.hidden_states[-1][0, places] if hidden else None

    @torch.no_grad()
    def read_prompts(self, inputs: Encoded, packed: bool = True, depth: int = 0) -> Beginning:
        """What a decoder-only model begins its replies with. `packed` as in `forward_tokens`; `depth`: layers of the trunk to keep.

        Read without autocast, as replies are decoded: the probabilities of what is sampled are then those of the policy itself.
        """
        cache = DynamicCache(config=self.base.config)
        if not (packed and can_pack(self.base) and bool(inputs.mask.any(1).all())):
            positions = (inputs.mask.cumsum(1) - 1).clamp(min=0)
            given = {"input_ids": inputs.ids, "attention_mask": inputs.mask, "position_ids": positions, "logits_to_keep": 1}
            outputs = self.base(**given, past_key_values=cache, output_hidden_states=True)
            return Beginning(outputs.logits[:, -1], outputs.hidden_states[-1][:, -1], cache)
        packing = Packing(inputs.mask)
        with reading(self.base, packing):
            given = {"input_ids": packing.pack(inputs.ids), "position_ids": packing.positions[None], "logits_to_keep": packing.ends()}
            outputs = self.base(**given, past_key_values=cache, output_hidden_states=True)
        packing.unpack(cache)
        lower = list(outputs.hidden_states[depth][0].split(inputs.mask.sum(1).tolist())) if depth else []
        return Beginning(outputs.logits[0], outputs.hidden_states[-1][0, packing.ends()], cache, lower)

    def logprobs(self, inputs: Encoded, reply: Tensor, reply_mask: Tensor, temperature: float = 1.0) -> Tensor:
        """log pi(token) of each reply token, [B, T]; 0 where masked."""
        logits, _ = self.forward_tokens(inputs, reply, reply_mask)
        said = reply_mask.bool()
        logp = torch.log_softmax(logits.float() / temperature, -1).gather(-1, reply[said][:, None]).squeeze(-1)
        return torch.zeros(reply.shape, device=logp.device).masked_scatter(said, logp)

    @torch.no_grad()
    def score_texts(self, prompts: Sequence[str], replies: Sequence[str], batch_size: int = 128) -> tuple[Tensor, Tensor]:
        """log-probabilities [N, T] of reply tokens (EOS included) given their prompts, and the mask [N, T]. An empty prompt means none."""
        prompts, replies = check_texts(prompts, "prompt"), check_texts(replies, "reply")
        if len(prompts) != len(replies):
            raise UserError(f"{len(prompts)} prompts, {len(replies)} replies: expected one reply a prompt")
        ids, mask = self.encode_replies(replies)
        logp = torch.zeros(ids.shape, dtype=torch.float32, device=self.device)
        lengths = mask.sum(1)
        for rows in lengths.argsort().split(check_batch(batch_size)):  # batches of similar length
            T = max(1, int(lengths[rows].max()))
            batch = self.encode([prompts[int(r)] for r in rows])
            logp[rows, :T] = self.logprobs(batch, ids[rows, :T], mask[rows, :T])
        return logp, mask

    # -- adapters

    def add_adapter(
        self, name: str, seed: int = 0, rank: int | None = None, ranks: dict[str, int] | None = None, layers: str | None = None
    ) -> None:
        """Add a fresh LoRA adapter on every linear layer but the head, and make it the active one. It starts as the identity (B = 0).

        `rank`: another one than the configured, with the same scale; `ranks`: of single layers, by a regular expression for their names;
        `layers`: others than the configured ones.
        Raises UserError for a name that is taken, or that an adapter cannot have.
        """
        adapters.check_name(self.model, name)
        config = self.config if layers is None else replace(self.config, layers=layers)
        lora = adapters.lora_config(config, self.model, rank, ranks)
        torch.manual_seed(seed)
        self.model = adapters.with_adapter(self.model, name, lora)
        self.model.set_adapter(name)
        self.origin[name] = None

    def remove_adapter(self, name: str) -> None:
        """Take an adapter out of the model, so that its name is free; nothing happens if there is none."""
        if name in self.adapters:
            adapters.check_removable(self.model, name)
        if self.adapters == [name]:  # peft's wrapper cannot be without an active adapter
            self.model = self.model.unload()
        elif name in self.adapters:
            quietly(self.model.delete_adapter)(name)
        self.origin.pop(name, None)
        self.unfinished.discard(name)

    def use(self, name: str) -> None:
        """Make an adapter the active (and only trainable) one."""
        if name not in self.adapters:
            raise UserError(f"adapter {name!r} is not loaded: there are {', '.join(self.adapters) or 'none'}")
        adapters.check_switched_on(self.model)
        self.model.set_adapter(name)

    @property
    def adapters(self) -> list[str]:
        return list(self.model.peft_config) if isinstance(self.model, PeftModel) else []

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """The base model: the reference policy of the KL term."""
        if isinstance(self.model, PeftModel):
            with adapters.as_before(self.model), self.model.disable_adapter():  # peft makes the active one trainable afterwards
                yield
        else:
            yield

    def base_probe(self) -> dict[str, Any]:
        """A few numbers that tell one base model from another, whatever type it was loaded in."""
        return adapter_files.base_probe(self.base)

    def same_base(self, probe: dict[str, Any]) -> bool:
        """Whether a probe was taken from this base model (within the rounding of another weight type)."""
        return adapter_files.same_base(probe, self.base_probe())

    def round_adapter(self, name: str) -> None:
        """Round an adapter to the type that adapters are kept in, so that it replies the same before and after it is stored."""
        if self.config.store == "float16":
            adapter_files.round_to_half(self.model, name)

    def save_adapter(self, name: str, folder: str | os.PathLike[str]) -> None:
        """Write one adapter as safetensors, with a probe of the base it belongs to."""
        adapter_files.save_adapter(self.model, name, folder, self.config.store, self.warm_start_digest)

    def load_adapter(self, folder: str | os.PathLike[str], name: str) -> None:
        """Load an adapter and make it active.

        Raises UserError, and changes nothing, unless the folder holds a whole plain LoRA adapter of this base and the name is free; one
        that was loaded from this very folder is read again.
        """
        origin, start = self.origin.get(name), self.warm_start_digest
        self.model = adapter_files.load_adapter(self.model, name, folder, self.config.path, start, origin)
        self.model.set_adapter(name)
        self.model.eval()
        self.origin[name] = str(Path(folder).resolve())
