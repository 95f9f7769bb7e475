"""What reads the prefixes of a tree: one reader for all sources that share a model and the text before the reply.

Adapters of one model that read the same prompts go through one forward pass together. Another model, or another instruction before the
prompt, has a reader of its own, with its own cache; all of them read the same reply.
Shapes: B prompts, R prefixes, N sources of a reader, V words, L tokens on a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.corners import PROMPT, Corners, Source
from emorl_lite.ensemble.rounding import Rounding, rounding
from emorl_lite.ensemble.tree_model import TreeModel
from emorl_lite.lm.devices import type_name
from emorl_lite.lm.model import LanguageModel


class RowsFullError(Exception):
    """The cache has no room for the rows that a step needs."""


class Reader:
    """One model reading B prompts and what follows them, for some of the sources."""

    def __init__(self, sources: Sequence[Source], prompts: Sequence[str], places: Sequence[int], single: bool):
        """`places`: where the sources' scores stand among all. `single`: the scores are in single precision at best."""
        self.sources, self.places = list(sources), list(places)
        self.lm: LanguageModel = sources[0].lm
        self.template = sources[0].template
        texts = [self.template.replace(PROMPT, prompt) for prompt in prompts]
        self.model = TreeModel(self.lm, [source.adapter for source in sources], texts)
        self.rounding: Rounding = rounding(self.lm, single)
        self.prompt_rows: dict[int, np.ndarray] = {}
        """Cache rows of each prompt's tokens."""

    def check(self, limit: int) -> None:
        """Raise UserError if texts with replies of `limit` tokens are too long for the model, or not read through a tree as they are."""
        lm, longest = self.lm, 1 if self.lm.seq2seq else int(self.model.prompt_tokens.max())
        self.model.check_window(longest + limit)
        if not 1 <= limit <= lm.context - longest + lm.seq2seq:
            raise UserError(f"max_new_tokens {limit}: the model reads {lm.context} tokens, {longest} of them a prompt's")
        self.model.examine(longest + limit)

    def logits(self, hidden: Tensor) -> Tensor:
        """The sources' scores [R, E, V] of hidden states [R, N, width], E >= N: experts make several of one."""
        logits = self.model.logits(hidden)
        if all(source.experts is None for source in self.sources):
            return logits
        columns = [
            logits[:, i : i + 1] if source.experts is None else _of_experts(source, hidden[:, i], logits[:, i])
            for i, source in enumerate(self.sources)
        ]
        return torch.cat(columns, 1)

    # -- cache rows

    def reserve(self, rows: int) -> np.ndarray:
        """New cache rows. Raises RowsFullError if there is no room."""
        if self.model.cache.used + rows > self.model.cache.max_rows + 1:
            raise RowsFullError
        return np.asarray(self.model.cache.reserve(rows))

    def drop_rows(self) -> None:
        """Forget what was read."""
        self.model.cache.clear()
        self.prompt_rows.clear()

    def prompt_tokens(self) -> int:
        """Rows that all prompts take."""
        return len(self.model.prompt_tokens) if self.lm.seq2seq else int(self.model.prompt_tokens.sum())

    # -- passes

    def pass_bytes(self, depth: int, words: int) -> int:
        """Of a prefix of `depth` tokens after its prompt while it is read: the keys of one layer, or the logits if they are more."""
        model = self.model
        tokens = depth + (1 if self.lm.seq2seq else int(model.prompt_tokens.max()))
        return max(tokens * model.row_bytes // (2 * len(model.cache.layers)), len(self.sources) * words * self.lm.base.dtype.itemsize)

    def read_prompts(self, prompts: np.ndarray) -> Tensor:
        """Put prompts into the cache; hidden states [R, N, width] at their ends."""
        lengths = np.ones(len(prompts), dtype=np.int64) if self.lm.seq2seq else self.model.prompt_tokens[prompts]
        rows = self.reserve(int(lengths.sum()))
        hidden = self.model.read_prompts(prompts, torch.as_tensor(rows, device=self.lm.device))
        self.prompt_rows.update(zip(prompts.tolist(), np.split(rows, np.cumsum(lengths)[:-1]), strict=True))
        return hidden

    def read_tokens(self, prompts: np.ndarray, tokens: np.ndarray, steps: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """One token more of R replies: hidden states [R, N, width], and the cache rows [R] of these tokens.

        `prompts`, `tokens` [R]; `steps` [R, t]: the cache rows of the reply's tokens before.
        """
        rows = self.reserve(len(tokens))
        which = [self.prompt_rows[prompt] for prompt in prompts.tolist()]
        width = max(map(len, which))
        before = np.zeros((len(which), width), dtype=np.int64)  # 0 before shorter prompts
        for i, prompt_rows in enumerate(which):
            before[i, width - len(prompt_rows) :] = prompt_rows
        paths = np.hstack([before, steps, rows[:, None]])
        positions = self.model.prompt_tokens[prompts] + steps.shape[1]
        return self.model.read_tokens(prompts, tokens, positions, paths, rows), rows


def _of_experts(source: Source, hidden: Tensor, logits: Tensor) -> Tensor:
    """The experts' scores [R, E, V] of states [R, width] that enter the head. Raises UserError unless they are that many finite numbers."""
    assert source.experts is not None
    scores = source.experts(hidden, logits)
    shape = (len(logits), source.outputs, logits.shape[-1])
    if scores.shape != shape or not scores.isfinite().all():
        got = "a NaN or an infinity" if scores.shape == shape else list(scores.shape)
        raise UserError(f"experts of {source.name}: expected finite scores {list(shape)} (states, experts, words), got {got}")
    return scores


class Readers:
    """The readers of all sources, borrowing each model while it reads."""

    def __init__(self, corners: Corners, prompts: Sequence[str], single: bool):
        self.corners = corners
        groups: dict[tuple[int, str], list[int]] = {}
        for i, source in enumerate(corners.sources):
            groups.setdefault((id(source.lm), source.template), []).append(i)
        ends = np.cumsum([0, *(source.outputs for source in corners.sources)])
        self.all = [
            Reader([corners.sources[i] for i in group], prompts, [p for i in group for p in range(ends[i], ends[i + 1])], single)
            for group in groups.values()
        ]
        self._order = np.argsort([place for reader in self.all for place in reader.places])
        self._borrowed: dict[int, tuple[ExitStack, Reader]] | None = None

    @property
    def dtype(self) -> str:
        """The number type of the model that rounds most."""
        return type_name(max((reader.lm for reader in self.all), key=lambda lm: torch.finfo(lm.base.dtype).eps).base.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of a cache row, of all readers together."""
        return sum(reader.model.row_bytes for reader in self.all)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the cache rows, room to grow included."""
        return sum(reader.model.cache.capacity * reader.model.row_bytes for reader in self.all)

    @property
    def used(self) -> int:
        """Cache rows in use, of the reader that has most."""
        return max(reader.model.cache.used for reader in self.all)

    @property
    def passes(self) -> int:
        """Forward passes so far."""
        return sum(reader.model.passes for reader in self.all)

    @property
    def max_rows(self) -> int:
        """Most cache rows of each reader."""
        return self.all[0].model.cache.max_rows

    @max_rows.setter
    def max_rows(self, rows: int) -> None:
        for reader in self.all:
            reader.model.cache.max_rows = rows

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, models may be borrowed; afterwards they are what they were."""
        self._borrowed = {}
        try:
            yield
        finally:
            borrowed, self._borrowed = self._borrowed, None
            with ExitStack() as all_of_them:
                for stack, _ in borrowed.values():
                    all_of_them.push(stack)

    def borrow(self, reader: Reader) -> None:
        """Let this reader have its model, which one reader has at a time."""
        assert self._borrowed is not None
        stack, holder = self._borrowed.get(id(reader.lm), (None, None))
        if holder is reader:
            return
        if stack is not None:
            del self._borrowed[id(reader.lm)]
            stack.close()
        entered = ExitStack()
        entered.enter_context(reader.model.reading())
        self._borrowed[id(reader.lm)] = (entered, reader)

    def scores(self, hidden: Sequence[Tensor], rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(the sources' logits [R, N, V] in their own order, how far rounding moves a lead [R]), from each reader's hidden states.

        `rows`: which of the states, with repetitions.
        """
        words, logits, room = self.corners.words, [], []
        for reader, states in zip(self.all, hidden, strict=True):
            self.borrow(reader)
            logits.append(reader.logits(states if rows is None else states[rows.to(states.device)])[..., :words])
            room.append(reader.rounding.of(logits[-1]))
        finest = reduce(torch.promote_types, [part.dtype for part in logits])  # whichever model comes first, none loses digits
        together = logits[0] if len(logits) == 1 else torch.cat([part.to(logits[0].device, finest) for part in logits], 1)
        if len(logits) > 1:
            together = together[:, torch.as_tensor(self._order, device=together.device)]
        return together, torch.stack([part.to(together.device) for part in room]).amax(0)

    def drop_rows(self) -> None:
        """Forget what was read."""
        for reader in self.all:
            reader.drop_rows()
