"""The trunk: lower layers that no adapter changes. What they make of a text is the same for the base and all adapters: it is read once.

Shapes: B texts, n adapters, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from emorl_lite.lm.adapters import carries
from emorl_lite.lm.packing import KINDS, can_pack
from emorl_lite.lm.swapping import swapped_forward


@dataclass
class Trunk:
    """What the trunk made of some texts."""

    depth: int
    """Its layers."""
    states: list[Tensor]
    """Of each text's tokens, [tokens, d]: what enters the first layer above."""

    def __getitem__(self, rows: Tensor) -> Trunk:
        return Trunk(self.depth, [self.states[row] for row in rows.tolist()])


def trunk_depth(base: Any, adapters: Sequence[str]) -> int:
    """How many lower layers none of these adapters changes; 0 too for a model whose layers are not known to be one plain stack."""
    if not (adapters and can_pack(base)):
        return 0
    stack = base.get_submodule(KINDS[base.config.model_type])
    inside = {part for layer in stack for part in layer.modules()}
    if any(_is_changed(part, adapters) for part in base.modules() if part not in inside):
        return 0
    changed = [any(_is_changed(part, adapters) for part in layer.modules()) for layer in stack]
    return changed.index(True) if True in changed else 0


def _is_changed(part: nn.Module, adapters: Sequence[str]) -> bool:
    return isinstance(part, BaseTunerLayer) and any(carries(part, name) for name in adapters)


@contextmanager
def upper_layers(base: Any, depth: int) -> Iterator[None]:
    """Inside, the model is its upper layers: given as embeddings, it takes what its first `depth` layers made of the tokens."""
    place, _, name = KINDS[base.config.model_type].rpartition(".")
    parent = base.get_submodule(place)
    stack = getattr(parent, name)
    with ExitStack() as swaps:
        if hasattr(parent, "wpe"):  # GPT-2 adds positions to what it is given
            swaps.enter_context(swapped_forward(parent.wpe, lambda positions: torch.zeros((), device=positions.device)))
        setattr(parent, name, stack[depth:])
        swaps.callback(setattr, parent, name, stack)
        yield


@contextmanager
def repeated_above(base: Any, depth: int, n: int) -> Iterator[None]:
    """Inside, B texts go through the trunk as B rows, and through the layers above as B * n, the n copies of a text together."""
    stack = base.get_submodule(KINDS[base.config.model_type])
    with ExitStack() as swaps:
        for i in range(depth, len(stack)):
            swaps.enter_context(swapped_forward(stack[i], _on_copies(stack[i].forward, n, first=i == depth)))
        yield


def _on_copies(plain: Callable[..., Any], n: int, first: bool) -> Callable[..., Any]:
    """A layer on B * n rows whose masks and positions are still those of B; the first one makes the copies."""

    def forward(hidden: Tensor, *args: Any, **options: Any) -> Any:
        B = len(hidden) if first else len(hidden) // n

        def copied(x: Any) -> Any:
            if isinstance(x, tuple):
                return tuple(copied(part) for part in x)
            return x.repeat_interleave(n, 0) if isinstance(x, Tensor) and x.dim() > 1 and len(x) == B else x

        rows = copied(hidden) if first else hidden
        return plain(rows, *(copied(x) for x in args), **{key: copied(x) for key, x in options.items()})

    return forward
