"""Forward passes over a tree of prefixes: all adapters read each new prefix once, with what came before it taken from a tree cache.

Shapes: B prompts, R prefixes in one pass, N adapters, P prompt tokens, L tokens on a path, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.tree_cache import TreeCache
from emorl_lite.lm.examination import (
    PROBE_TOKENS,
    adapted_layers,
    attention_window,
    check_equal,
    given,
    head_facts,
    once,
    probe_prompts,
    probing,
)
from emorl_lite.lm.forward import adapters_in_rows
from emorl_lite.lm.model import Encoded, LanguageModel
from emorl_lite.lm.swapping import swapped_forward
from emorl_lite.lm.trunk import repeated_above, trunk_depth

MEMORY = 2**31
"""Bytes that the cache rows may take if no number of rows is given."""


class TreeModel:
    """One language model and N of its adapters (or itself), reading prefixes of given prompts. `lm` is borrowed only inside `reading()`."""

    def __init__(
        self,
        lm: LanguageModel,
        adapters: Sequence[str | None],
        prompts: Sequence[str],
        max_rows: int | None = None,
        encoded: Encoded | None = None,
    ):
        """`adapters`: None among them is the base model.

        `max_rows`: most cache rows at a time; as many as fit into MEMORY bytes if None. `encoded`: instead of `prompts`.
        """
        self.lm, self.adapters = lm, list(adapters)
        self.prompts = lm.encode(prompts) if encoded is None else encoded
        self.prompt_tokens = self.prompts.mask.sum(1).cpu().numpy()  # [B]
        self.scale = head_facts(lm).scale
        config = lm.base.config.get_text_config(decoder=True)
        self.window = attention_window(config)
        layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
        self.depth = trunk_depth(lm.base, [name for name in self.adapters if name is not None])
        """Lower layers that are the same for all adapters: they read a prefix once."""
        self.row_bytes = self._row_bytes(config, layers)
        self.cache = TreeCache(layers, len(self.adapters), max_rows or max(1024, MEMORY // self.row_bytes), self.depth)
        self.passes = 0
        self._hidden_states: list[Tensor] = []
        self._encoded: dict[int, list[tuple[Tensor, Tensor]]] = {}  # of a prompt: keys and values [N, H, P, head size] of every layer

    def check_window(self, longest: int) -> None:
        """Raise UserError if some layer looks back on less than a text of this many tokens."""
        if self.window is not None and self.window < longest:
            how = f"look back on {self.window} tokens alone" if self.window else "keep no tokens"
            raise UserError(
                f"{self.lm.config.path}: some of its layers {how}, and texts have up to {longest}; a tree of prefixes needs them whole"
            )

    def _row_bytes(self, config: Any, layers: int) -> int:
        """Bytes of one cache row: keys and values of one token for all adapters and layers."""
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "d_kv", None) or getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kept = self.depth + (layers - self.depth) * len(self.adapters)
        return 2 * kept * heads * size * self.lm.base.dtype.itemsize

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Borrow the model; afterwards it is what it was."""
        model, head = self.lm.model, self.lm.head
        with ExitStack() as swaps, torch.no_grad():
            if model.training:
                swaps.callback(model.train)
            model.eval()
            self._project = head.forward
            swaps.enter_context(adapters_in_rows(self.lm, self.adapters))
            swaps.enter_context(swapped_forward(head, self._capture_hidden))
            if self.depth:
                swaps.enter_context(repeated_above(self.lm.base, self.depth, len(self.adapters)))
            yield

    def _capture_hidden(self, hidden: Tensor) -> Tensor:
        """Stands in for the head: keeps what enters it, and answers with as little as passes for logits."""
        self._hidden_states.append(hidden[:, -1])
        return hidden[:, -1:, :1]

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, N, V] of hidden states [R, N, d]."""
        logits: Tensor = self._project(hidden)
        return logits if self.scale == 1.0 else logits * self.scale

    def examine(self, longest: int) -> None:
        """Raise UserError, with a number, unless the model reads a tree as it reads texts of up to `longest` tokens, by one short probe.

        One prompt as long as any, and two tokens more read through the cache, by two adapters, against each one's own pass without a
        cache. (A short text would not tell of a layer that looks back on less.) Paths are padded, as those of shorter texts are.
        """
        longest = 2 ** (longest - 1).bit_length()  # so that a tree of other prompts seldom asks anew
        longest = max(PROBE_TOKENS, min(longest, self.lm.context) - 2)
        bases = tuple(name is None for name in self.adapters[:2])
        once(self.lm, ("tree", longest, bases, adapted_layers(self.lm)), lambda: self._probe(longest))

    def _probe(self, longest: int) -> None:
        prompt, which = probe_prompts(self.lm, 1, longest), np.zeros(1, dtype=np.int64)
        probe = TreeModel(self.lm, self.adapters[:2], [], longest + 2, prompt)
        length = 1 if self.lm.seq2seq else longest  # a decoder starts with one token
        tokens = prompt.ids[:, :2]
        with probing(self.lm, "read a tree of prefixes"):
            with probe.reading():
                path = [*probe.cache.reserve(length)]
                hidden = [probe.read_prompts(which, torch.tensor(path, device=self.lm.device))]
                for step, token in enumerate(tokens[0].tolist()):
                    path += probe.cache.reserve(1)
                    padded = np.array([[0, 0, *path]])
                    hidden.append(probe.read_tokens(which, np.array([token]), np.array([length + step]), padded, padded[:, -1]))
                ours = torch.stack([probe.logits(h) for h in hidden], 2)  # [1, N, 3, V]
            theirs = probe._uncached(prompt, tokens)
        check_equal(self.lm, ours, theirs, f"a tree of prefixes is not read as whole texts of up to {longest + 2} tokens are")

    def _uncached(self, prompts: Encoded, tokens: Tensor) -> Tensor:
        """The head's output (scaled) [B, N, T + 1, V] after the prompts, and after each of these tokens [B, T], without a cache."""
        kept: list[Tensor] = []
        plain = self.lm.head.forward

        def keeping(hidden: Tensor) -> Tensor:
            logits = plain(hidden)
            kept.append(logits[:, -tokens.shape[1] - 1 :] * self.scale)
            return logits

        with swapped_forward(self.lm.head, keeping):
            for name in self.adapters:
                if name is not None:
                    self.lm.use(name)
                with self.lm.without_adapters() if name is None else nullcontext():
                    given(self.lm, prompts, torch.cat([tokens, tokens[:, :1]], 1))  # the last token is not read
        return torch.stack(kept, 1)

    # -- passes

    def read_prompts(self, which: np.ndarray, rows: Tensor) -> Tensor:
        """Read prompts `which` [B'] into the cache rows `rows` (in order, without padding); hidden states [B', N, d] at their ends."""
        if self.lm.seq2seq:
            return self._read_starts(which, rows)
        batch = self.prompts[torch.as_tensor(which, device=self.lm.device)]
        batch = batch[:, int((batch.mask.sum(0) == 0).sum()) :]  # columns that are padding in all of them
        self.passes += 1
        self.cache.read_prompts(rows, batch.mask.bool())
        positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
        return self._run(
            input_ids=self._copies(batch.ids),
            attention_mask=self._copies(batch.mask),
            position_ids=self._copies(positions),
            logits_to_keep=1,
        )

    def read_tokens(self, which: np.ndarray, tokens: np.ndarray, positions: np.ndarray, paths: np.ndarray, rows: np.ndarray) -> Tensor:
        """Read one more token of R prefixes into cache rows `rows`; hidden states [R, N, d].

        `which` [R]: their prompts; `positions` [R]; `paths` [R, L]: the cache rows of the whole prefix, the new one last, 0 where none.
        """
        device = self.lm.device
        self.passes += 1
        self.cache.read_tokens(torch.as_tensor(rows, device=device), torch.as_tensor(paths, device=device))
        ids = self._copies(torch.as_tensor(tokens, device=device)[:, None])
        mask = torch.zeros(paths.shape, dtype=self.lm.base.dtype, device=device)
        mask.masked_fill_(torch.as_tensor(paths == 0, device=device), torch.finfo(mask.dtype).min)
        mask = self._copies(mask)[:, None, None, :]
        if self.lm.seq2seq:
            cross, encoder_mask = self._cross_attention(which)
            return self._run(decoder_input_ids=ids, decoder_attention_mask=mask, cross=cross, attention_mask=encoder_mask)
        return self._run(input_ids=ids, attention_mask=mask, position_ids=self._copies(torch.as_tensor(positions, device=device)[:, None]))

    def _run(self, cross: DynamicCache | None = None, **inputs: Any) -> Tensor:
        if cross is not None:
            inputs["past_key_values"] = EncoderDecoderCache(self.cache, cross)
            length = cross.layers[0].keys.shape[2]  # type: ignore[union-attr]
            rows = len(inputs["decoder_input_ids"])
            nothing = torch.zeros(1, dtype=self.lm.base.dtype, device=self.lm.device).expand(rows, length, self.lm.width)
            inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=nothing)  # its keys and values are in `cross` already
        else:
            inputs.setdefault("past_key_values", self.cache)
        self.lm.base(use_cache=True, **inputs)
        return self._hidden_states.pop().unflatten(0, (-1, len(self.adapters)))

    def _copies(self, x: Tensor) -> Tensor:
        """[R, ..] -> [R * N, ..], the N copies of a prefix together; one copy where the model itself makes the others, above its trunk."""
        return x if self.depth else x.repeat_interleave(len(self.adapters), 0)

    # -- encoder-decoder models: the encoder reads a prompt once per adapter, the decoder's keys and values of it are kept

    def _read_starts(self, which: np.ndarray, rows: Tensor) -> Tensor:
        """Encode prompts that have not been encoded, and read the decoder's start token after each prompt."""
        unencoded = np.array([prompt for prompt in which.tolist() if prompt not in self._encoded], dtype=np.int64)
        if len(unencoded):
            self._encode(unencoded)
        starts = np.full(len(which), self.lm.base.config.decoder_start_token_id)
        numbers = rows.cpu().numpy()
        return self.read_tokens(which, starts, np.zeros(len(which), dtype=np.int64), numbers[:, None], numbers)

    def _encode(self, prompts: np.ndarray) -> None:
        """Keep each prompt's keys and values for the decoder. They are not counted in `max_rows`."""
        batch = self.prompts[torch.as_tensor(prompts, device=self.lm.device)]
        mask, cross = self._copies(batch.mask), DynamicCache()
        encoded = self.lm.base.get_encoder()(input_ids=self._copies(batch.ids), attention_mask=mask)
        start = torch.full((len(mask), 1), self.lm.base.config.decoder_start_token_id, device=self.lm.device)
        inputs = {"encoder_outputs": encoded, "attention_mask": mask, "decoder_input_ids": start}
        self._run(past_key_values=EncoderDecoderCache(DynamicCache(), cross), **inputs)  # a decoder pass fills `cross`
        for i, prompt in enumerate(prompts.tolist()):
            rows = slice(i * len(self.adapters), (i + 1) * len(self.adapters))
            self._encoded[prompt] = [(layer.keys[rows].clone(), layer.values[rows].clone()) for layer in cross.layers]  # type: ignore[index]

    def _cross_attention(self, which: np.ndarray) -> tuple[DynamicCache, Tensor]:
        """What the decoder needs of the prompts of R prefixes: keys and values for cross-attention, and the mask [R * N, P]."""
        prompts, inverse = np.unique(which, return_inverse=True)
        rows = torch.as_tensor(inverse, device=self.lm.device)
        cross = DynamicCache()
        for layer in range(len(self.cache.layers)):
            keys, values = (torch.stack([self._encoded[int(p)][layer][k] for p in prompts])[rows].flatten(0, 1) for k in (0, 1))
            cross.update(keys, values, layer)
        return cross, self._copies(self.prompts.mask[torch.as_tensor(which, device=self.lm.device)])
