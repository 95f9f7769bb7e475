"""How a policy is told the weights it shall serve: as text in its prompt, or by gates on the rank dimension of its LoRA adapter.

A gated adapter changes a weight matrix by s B diag(g(w)) A: every row of a batch has gates of its own, so one pass serves many weights.
Shapes: n rows of a batch, d weights, r rank of the configured adapter, R rank of the gated one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from emorl_lite.base.errors import UserError
from emorl_lite.base.texts import check_texts
from emorl_lite.lm.forward import folded, lora_layers
from emorl_lite.lm.model import LanguageModel
from emorl_lite.lm.swapping import swapped_forward

Gate = Callable[[Tensor], Tensor]
"""Weights [n, d] -> gates [n, R]."""


class Conditioning:
    """The plain adapter: weights make no difference. Base of the others."""

    same_for_all_rows = True
    """Whether the adapter is the same for every row, so that it can be folded into the model's weights."""

    def __init__(self, lm: LanguageModel, adapter: str, d: int):
        self.lm, self.adapter, self.d = lm, adapter, d
        self.weights = torch.full((1, d), 1 / d)
        self.rows: Tensor | None = None

    def add(self, seed: int) -> None:
        """Add the adapter to the model."""
        self.lm.add_adapter(self.adapter, seed)

    def extra(self) -> nn.Module:
        """Trained parameters beside the adapter, made anew."""
        return nn.Module()

    def attach(self, extra: nn.Module) -> None:
        """Use these parameters."""

    def inputs(self, prompts: Sequence[str], weights: Tensor) -> list[str]:
        """What the policy reads for these prompts at weights [n, d] (or [1, d])."""
        return check_texts(prompts, "prompt")

    def set(self, weights: Tensor) -> None:
        """From now on rows are served with these weights [N, d], or all with the same [1, d]."""
        if weights.dim() != 2 or weights.shape[1] != self.d:
            raise UserError(f"weights: expected rows of {self.d} numbers, got shape {tuple(weights.shape)}")
        self.weights, self.rows = weights.float().to(self.lm.device), None

    def use(self, rows: Tensor | None) -> None:
        """The next forward passes hold these rows of the weights; None: all in order."""
        self.rows = rows

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the adapter serves the weights that are set."""
        yield

    def decoding(self) -> AbstractContextManager[None]:
        """Around greedy decoding: an adapter that is the same for every row is folded into the weights."""
        return folded(self.lm) if self.same_for_all_rows else nullcontext()

    def current(self, n: int) -> Tensor:
        """Weights of the n rows of a batch, [n, d] (or [1, d])."""
        if len(self.weights) == 1:
            return self.weights
        w = self.weights if self.rows is None else self.weights[self.rows]
        if len(w) > n and len(w) % n == 0:  # an encoder reads each prompt once for all its samples
            return w[:: len(w) // n]
        if n % len(w):
            raise UserError(f"weights: {len(w)} rows for a batch of {n}")
        return w.repeat_interleave(n // len(w), 0)  # generate() repeats rows for several samples or beams

    def resting(self) -> bool:
        """Whether the adapters are switched off, or another one is active: the base must not be changed then."""
        layer = lora_layers(self.lm)[0]
        return bool(layer.disable_adapters or self.adapter not in layer.active_adapters)


class GatedLoRA(Conditioning):
    """Gates on the LoRA layers: those whose name `chosen` accepts have rank R and gates, the others stay plain."""

    same_for_all_rows = False

    def __init__(self, lm: LanguageModel, adapter: str, d: int, rank: int, chosen: Callable[[str], bool] = lambda name: True):
        super().__init__(lm, adapter, d)
        self.rank, self.chosen = rank, chosen

    def gate(self, layer: int) -> Gate:
        """The gates of one layer, by its number among the gated ones."""
        raise NotImplementedError

    def add(self, seed: int) -> None:
        """Add the adapter; gated layers have their own rank."""
        names = [name for name in self._linear() if self.chosen(name)]
        if len(names) == len(self._linear()):
            self.lm.add_adapter(self.adapter, seed, rank=self.rank)
        else:
            self.lm.add_adapter(self.adapter, seed, ranks={re.escape(name): self.rank for name in names})

    def _linear(self) -> list[str]:
        """Names of the layers that carry LoRA or will."""
        head = self.lm.head
        return [
            name.removesuffix(".base_layer")
            for name, module in self.lm.base.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head and "lora_" not in name
        ]

    def layers(self) -> list[Any]:
        """The gated layers, in the model's order."""
        named = [(name, module) for name, module in self.lm.base.named_modules() if module in set(lora_layers(self.lm))]
        return [module for name, module in named if self.chosen(name) and self.adapter in module.lora_A]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the gated layers read the weights that are set."""
        with ExitStack() as swaps:
            for i, layer in enumerate(self.layers()):
                swaps.enter_context(swapped_forward(layer, self._gated(layer, self.gate(i))))
            yield

    def _gated(self, layer: Any, gate: Gate) -> Callable[..., Tensor]:
        plain, name = layer.forward, self.adapter

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if layer.disable_adapters or name not in layer.active_adapters:
                return plain(x, *args, **kwargs)
            A, B = layer.lora_A[name].weight, layer.lora_B[name].weight
            low = linear(x.to(A.dtype), A) * gate(self.current(len(x)))[:, None]
            out = layer.base_layer(x, *args, **kwargs)
            return out + (linear(low, B) * layer.scaling[name]).to(out.dtype)

        return forward


class WeightsAsText(Conditioning):
    """The weights written before the prompt, in words: "most reflection, little empathy, no fluency. ..." """

    WORDS = ("no", "little", "some", "much", "most", "all")
    """Weights 0, .2, .., 1: words that any tokenizer has, the tiny one included (it has no digits)."""

    def __init__(self, lm: LanguageModel, adapter: str, names: Sequence[str]):
        super().__init__(lm, adapter, len(names))
        self.names = list(names)

    @classmethod
    def word(cls, weight: float) -> str:
        """The word nearest to a weight in [0, 1]."""
        return cls.WORDS[round(min(1.0, max(0.0, weight)) * (len(cls.WORDS) - 1))]

    def inputs(self, prompts: Sequence[str], weights: Tensor) -> list[str]:
        """Each prompt behind its weights."""
        prompts = check_texts(prompts, "prompt")
        return [self.text(w) + " " + prompt for w, prompt in zip(weights.expand(len(prompts), -1).tolist(), prompts, strict=True)]

    def text(self, weights: Sequence[float]) -> str:
        """One weight vector in words."""
        return ", ".join(f"{self.word(w)} {name}" for w, name in zip(weights, self.names, strict=True)) + "."
