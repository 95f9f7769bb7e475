"""A key-value cache in the shape of a tree: one row per distinct prefix, read by every longer prefix that begins with it.

A row holds the keys and values of one token for all N adapters, or once where they are the same for all (the trunk's layers). What a
prefix attends to is the list of rows on its path from the root, so prefixes share the rows of their common beginning, and a new branch can
start at any row at any time. (The usual cache keeps a whole copy of the past for every sequence.)
Shapes: R prefixes in a forward pass, N adapters, L tokens on a path, H heads, T new tokens per prefix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

GROWTH = 1.25
"""The store grows by this factor, layer by layer: little is reserved that is not used."""


class _Layer(CacheLayerMixin):
    """The rows of one attention layer: keys and values [rows, N, H * head size] each; N is 1 in the trunk."""

    is_sliding = False

    def __init__(self, tree: TreeCache, copies: int):
        super().__init__()
        self.tree, self.copies = tree, copies

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        width = (self.copies, key_states.shape[1], key_states.shape[3])
        self.keys = key_states.new_empty(0, *width)
        self.values = value_states.new_empty(0, *width)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep the new tokens' states [R * N, H, T, head size]; give those of the whole paths [R * N, H, L, head size]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._write(self.keys, key_states)
        self.values = self._write(self.values, value_states)
        if self.tree.at_prompts:  # nothing came before them
            return key_states, value_states
        return self._read("keys"), self._read("values")

    def _write(self, store: Any, states: Tensor) -> Tensor:
        if len(store) < self.tree.capacity:
            grown = store.new_empty(self.tree.capacity, *store.shape[1:])
            grown[: len(store)] = store
            grown[:1] = 0  # padding is masked, but nothing masks a NaN
            store = grown
        rows = states.unflatten(0, (-1, self.copies)).permute(0, 3, 1, 2, 4)  # [R, T, N, H, head size]
        store[self.tree.new_rows] = rows[self.tree.new_places] if self.tree.at_prompts else rows[:, 0]
        return store

    def _read(self, kind: str) -> Tensor:
        store = getattr(self, kind).flatten(0, 1)
        paths = self.tree.flat_paths[self.copies]
        gathered = self.tree.buffer(kind, store, len(paths))
        torch.index_select(store, 0, paths, out=gathered)
        return gathered.unflatten(0, (-1, self.tree.path_length)).transpose(1, 2)

    def get_seq_length(self) -> int:
        return self.tree.path_length - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.tree.path_length - 1 + query_length, 0

    def get_max_length(self) -> int:
        return -1


class TreeCache(Cache):
    """The cache of one model's attention layers: rows, `max_rows` at most, are handed out by `reserve` and all dropped by `clear`.

    The first `trunk` layers keep a token once for all adapters.
    """

    def __init__(self, layers: int, adapters: int, max_rows: int, trunk: int = 0):
        super().__init__(layers=[_Layer(self, 1 if i < trunk else adapters) for i in range(layers)])
        self.adapters, self.max_rows = adapters, max_rows
        self.at_prompts = False  # whether the next pass reads prompts or single tokens
        self.used = 1  # row 0 stands for padding: masked wherever a path has it
        self.capacity = 0
        self.path_length = 1
        self._buffers: dict[str, Tensor] = {}
        self.new_rows = self.new_places = torch.empty(0, dtype=torch.long)
        self.flat_paths: dict[int, Tensor] = {}
        """By the copies of a row that a layer keeps."""

    def reserve(self, rows: int) -> range:
        """The numbers of that many new rows."""
        reserved = range(self.used, self.used + rows)
        self.used = reserved.stop
        if self.used > self.capacity:
            self.capacity = max(self.used, min(int(self.capacity * GROWTH), self.max_rows + 1))
        return reserved

    def clear(self) -> None:
        """Forget every row, and give its memory back."""
        self.used, self.capacity = 1, 0
        self._buffers.clear()
        for layer in self.layers:
            layer.is_initialized, layer.keys, layer.values = False, None, None

    def read_prompts(self, rows: Tensor, places: Tensor) -> None:
        """The next forward pass reads prompts [R, T]: keep the tokens at `places` [R, T] (a mask, row by row) as the cache's `rows`."""
        self.at_prompts, self.new_rows, self.new_places, self.path_length = True, rows, places, 1

    def read_tokens(self, rows: Tensor, paths: Tensor) -> None:
        """The next pass reads one token per prefix: keep it in `rows` [R]; its path [R, L] ends with that row."""
        self.at_prompts, self.new_rows, self.path_length = False, rows, paths.shape[1]
        for copies in {layer.copies for layer in self.layers if isinstance(layer, _Layer)}:
            n = torch.arange(copies, device=paths.device)
            self.flat_paths[copies] = (paths[:, None, :] * copies + n[:, None]).flatten()

    def buffer(self, kind: str, like: Tensor, rows: int) -> Tensor:
        """Room for that many rows of a layer's store. All layers use the same room: each is done with it before the next one begins."""
        room = self._buffers.get(kind)
        if room is None or len(room) < rows or (room.dtype, room.shape[1:]) != (like.dtype, like.shape[1:]):
            room = self._buffers[kind] = like.new_empty(rows, *like.shape[1:])
        return room[:rows]
