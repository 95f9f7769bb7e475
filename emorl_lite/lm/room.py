"""Room for what a reply's tokens add to a cache: made once, so that the past is not copied at every token.

Shapes: B replies, H heads that keys are of, L tokens so far, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """A layer of transformers' usual cache that writes in place: `keys` and `values` [B, H, L, D] are the used part of `rooms`."""

    def __init__(self, layer: Any, tokens: int):
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self.rooms = [pad(_as_read(x), (0, 0, 0, tokens)) for x in (layer.keys, layer.values)]
        self._use(layer.keys.shape[2])

    def _use(self, L: int) -> None:
        self.keys, self.values = (room.narrow(2, 0, L) for room in self.rooms)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep what new tokens add, and give all there is."""
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for room, states in zip(self.rooms, (key_states, value_states), strict=True):
            room.narrow(2, start, end - start).copy_(states)
        self._use(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Any) -> None:
        """Go on with these replies, in this order."""
        L = self.get_seq_length()
        self.rooms = [room[beam_idx] for room in self.rooms]
        self._use(L)


def _as_read(x: Tensor) -> Tensor:
    """Keys or values in the type that attention reads them in: under autocast they would be turned into it at every token."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def make_room(cache: DynamicCache, tokens: int) -> None:
    """Let a cache that has read prompts take so many tokens more. Layers of other kinds (a window, a state) stay as they are."""
    cache.layers = [RoomyLayer(layer, tokens) if type(layer) is DynamicLayer and layer.is_initialized else layer for layer in cache.layers]
