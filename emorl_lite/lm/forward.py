"""How adapters run: one folded into the weights for all rows of a batch, or several side by side, row b * N + n with adapter n of N.

Rows of one example stand together, so that whatever repeats or reorders examples (beams, several samples) moves blocks of N rows.
Shapes: B examples, N adapters, T tokens, r rank, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from emorl_lite.base.errors import UserError
from emorl_lite.lm.adapters import check_unmerged, examine_loaded, examine_neighbours, is_linear
from emorl_lite.lm.devices import half_precision
from emorl_lite.lm.model import LanguageModel
from emorl_lite.lm.swapping import TokenWise, swapped_forward


def check_adapters(lm: LanguageModel, adapters: Sequence[str]) -> None:
    """Raise UserError unless all `adapters` are loaded, plain LoRA, and leave the LM head alone."""
    for name in adapters:
        if name not in lm.adapters:
            raise UserError(f"adapter {name!r} is not loaded: there are {', '.join(lm.adapters) or 'none'}")
    if adapters:
        examine_loaded(lm.model, adapters)
        examine_neighbours(lm.model, adapters)
    if isinstance(lm.head, BaseTunerLayer):
        raise UserError("an adapter changes the LM head: adapters can be combined only if they share it")
    check_unmerged(lm.model)


def lora_layers(lm: LanguageModel) -> list[Any]:
    """Every layer of the model that carries LoRA weights (`peft` LoraLayer)."""
    return [module for module in lm.model.modules() if isinstance(module, LoraLayer)]


@contextmanager
def shrunk(lm: LanguageModel, scale: float) -> Iterator[None]:
    """Inside, every adapter changes a weight matrix by `scale` s B A instead of s B A: 0 is the base, 1 the adapter as it is."""
    before = [(layer, dict(layer.scaling)) for layer in lora_layers(lm)]
    try:
        for layer, scalings in before:
            layer.scaling.update({name: s * scale for name, s in scalings.items()})
        yield
    finally:
        for layer, scalings in before:
            layer.scaling.update({name: s for name, s in scalings.items() if name in layer.scaling})


@contextmanager
def adapters_in_rows(lm: LanguageModel, adapters: Sequence[str | None]) -> Iterator[None]:
    """Inside, the model in `lm` takes batches of B * N rows and runs row b * N + n with `adapters[n]`, whichever adapter is active.

    None is the base model.
    All adapters of a layer are computed in two matrix products. Layers that this does not cover (embeddings, LoRA variants) take peft's
    own mixed batches, which are slower. The model must be in eval mode.
    Raises UserError for adapters that cannot be combined (`check_adapters`).
    """
    check_adapters(lm, [name for name in adapters if name is not None])
    with ExitStack() as swaps:
        lengths = swaps.enter_context(_lengths_by_size(lm))
        for layer in lora_layers(lm):
            make = _stacked(layer, adapters, lengths) if _is_plain(layer, adapters) else _mixed_batch(layer, adapters)
            swaps.enter_context(swapped_forward(layer, make))
        yield


@contextmanager
def _lengths_by_size(lm: LanguageModel) -> Iterator[dict[int, int]]:
    """Inside, {tokens of a batch: tokens of a row} of what the model reads: some layers (OPT's, shared experts) are given [B * T, d]."""
    lengths: dict[int, int] = {}

    def note(embedding: Any, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() == 2:
            lengths[inputs[0].numel()] = inputs[0].shape[1]

    hooks = [module.register_forward_pre_hook(note) for module in lm.base.modules() if isinstance(module, nn.Embedding)]
    try:
        yield lengths
    finally:
        for hook in hooks:
            hook.remove()


def _is_plain(layer: Any, adapters: Sequence[str | None]) -> bool:
    return type(layer) is Linear and not any(name in layer.lora_variant or layer.lora_bias.get(name) for name in adapters)


def _stacked(layer: Any, adapters: Sequence[str | None], lengths: Mapping[int, int]) -> Callable[..., Tensor]:
    """A forward of one layer for all adapters: x A_all^T, keep each row's own block of r columns, times s B_all^T.

    Multiplying every row with every A wastes a factor N of a small cost (r is far below d) and saves the loop over adapters.
    Raises RuntimeError where x is neither [B * N, T, d] nor [B * N * T, d] (`lengths` has T): whose row is whose is not known then.
    """
    # An adapter that leaves this layer alone has no block in A_all, and the base none anywhere.
    present = [(row, name) for row, name in enumerate(adapters) if name is not None and name in layer.lora_A]
    if not present:
        return layer.base_layer.forward
    with torch.no_grad():
        A_all = torch.cat([layer.lora_A[name].weight for _, name in present])  # [sum of r, d]
        B_all = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for _, name in present], 1)  # [out, sum of r]
        block_mask = A_all.new_zeros(len(adapters), 1, len(A_all))  # [N, 1, sum of r]: 1 where the column belongs to the row's adapter
        start = 0
        for row, name in present:
            end = start + len(layer.lora_A[name].weight)
            block_mask[row, :, start:end] = 1
            start = end

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = layer.base_layer(x, *args, **kwargs)
        low = linear(x.to(A_all.dtype), A_all)
        if x.dim() == 2 and len(x) not in lengths:
            raise RuntimeError(f"a layer reads {len(x)} tokens of a batch apart from the others")
        rows = low if x.dim() > 2 else low.unflatten(0, (-1, lengths[len(x)]))
        own = rows.unflatten(0, (-1, len(adapters))) * block_mask  # [B, N, T, sum of r]
        if out.dtype != B_all.dtype or torch.is_grad_enabled():
            return out + linear(own.view_as(low), B_all).to(out.dtype)
        out.view(-1, out.shape[-1]).addmm_(own.view(-1, own.shape[-1]), B_all.T)  # added where it stands
        return out

    return forward


def _mixed_batch(layer: Any, adapters: Sequence[str | None]) -> Callable[..., Tensor]:
    """peft's own mixed batch: one adapter name a row."""
    original, names = layer.forward, ["__base__" if name is None else name for name in adapters]  # peft's word for the base

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return original(x, *args, adapter_names=names * (len(x) // len(names)), **kwargs)

    return forward


@contextmanager
def one_product(lm: LanguageModel) -> Iterator[None]:
    """Inside, a layer with one plain adapter is one product with W + s B A, in training too: gradients go to A and B alone.

    PEFT computes x W^T + s (x A^T) B^T, two narrow products and a sum more, and as many again for the gradient of x. Under autocast the
    adapter stays beside the weight, whose coarse numbers would swallow its change; what is saved there is turning the weights (the head's,
    too) into bfloat16 at every pass. Other layers (weights of 16 bits, dropout, several adapters, variants) stay as they are. The weights
    must not change meanwhile.
    """
    half = _half_beside(lm)
    with ExitStack() as swaps:
        if half is not None:
            swaps.enter_context(_head_in_half(lm, half))
        for layer in lora_layers(lm):
            if _has_one_adapter(layer):
                swaps.enter_context(swapped_forward(layer, _as_one(layer, layer.active_adapters[0], half)))
        yield


def _half_beside(lm: LanguageModel) -> torch.dtype | None:
    """The type in which products are made beside float32 weights, if they are."""
    return torch.bfloat16 if lm.mixed and lm.base.dtype == torch.float32 else None


@contextmanager
def sampled_from(lm: LanguageModel) -> Iterator[None]:
    """Inside, tokens are sampled from the active adapter's policy as fast as may be: folded into the weights; or, where given replies are
    read under autocast on a CPU, by the same products in bfloat16 that they are read by."""
    half = _half_beside(lm)
    if half is None:
        with folded(lm):
            yield
        return
    with ExitStack() as swaps:
        swaps.enter_context(_head_in_half(lm, half))
        for layer in lora_layers(lm):
            if _has_one_adapter(layer):
                swaps.enter_context(swapped_forward(layer, _at_rest(layer, layer.active_adapters[0], half)))
        swaps.enter_context(half_precision(lm.device, lm.config.autocast))
        yield


@contextmanager
def half_products(lm: LanguageModel) -> Iterator[None]:
    """Inside, whatever is read is read as given replies are: under autocast, by frozen weights that are turned into bfloat16 once, not at
    every pass. A model that reads otherwise stays as it is. Nothing is trained inside."""
    half = _half_beside(lm)
    if half is None:
        yield
        return
    with ExitStack() as swaps:
        swaps.enter_context(_head_in_half(lm, half))
        for layer in lora_layers(lm):
            base = layer.get_base_layer()
            if type(base) is nn.Linear and not base.weight.requires_grad and "forward" not in vars(base):
                swaps.enter_context(swapped_forward(base, _reading_in_half(base, half)))
        swaps.enter_context(half_precision(lm.device, lm.config.autocast))
        yield


class Halves:
    """Weights W [out, in] in numbers of 16 bits that only products with many different x are made of.

    oneDNN, which multiplies on CPUs, lays W out anew in every product, a fifth of the work where x is a few rows. Where PyTorch offers its
    operation for doing so once (private, but what `torch.compile` uses), a second copy is kept; the products are the same to the bit.
    """

    def __init__(self, W: Tensor):
        self.W, self._laid_out = W, _laid_out(W)

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + b."""
        if self._laid_out is None or (x.requires_grad and torch.is_grad_enabled()):  # which has no gradients
            return linear(x, self.W, bias)
        return _product(x, self._laid_out, bias)


def _laid_out(W: Tensor) -> Tensor | None:
    """W as oneDNN reads it; None unless this PyTorch offers that, and a product by it is what it is by W."""
    if W.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    try:
        laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(W)
        probe = W[:2].contiguous()
        return laid_out if torch.equal(_product(probe, laid_out, None), linear(probe, W)) else None
    except (AttributeError, RuntimeError, TypeError):  # another PyTorch's own affair
        return None


def _product(x: Tensor, laid_out: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b by laid-out weights."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
    return out


_HALVES: WeakKeyDictionary[nn.Module, tuple[Hashable, Halves]] = WeakKeyDictionary()
"""Of a frozen layer: what tells its weights from others, and the weights in 16 bits."""


def in_half(layer: Any, half: torch.dtype) -> Halves:
    """A frozen layer's weights [out, in] in numbers of 16 bits: turned into them once, and again if they have changed since."""
    weight = _weight(layer)
    some = weight[:: max(1, len(weight) // 8), :: max(1, weight.shape[1] // 8)]  # what is merged into weights changes all of them
    state = (half, weight.data_ptr(), layer.weight._version, float(some.sum()))
    known = _HALVES.get(layer)
    if known is None or known[0] != state:
        known = _HALVES[layer] = (state, Halves(weight.to(half).contiguous()))
    return known[1]


def _weight(layer: Any) -> Tensor:
    """A linear layer's weights, [out, in]."""
    weight: Tensor = layer.weight.detach()
    return weight.T if isinstance(layer, Conv1D) else weight


def _head_in_half(lm: LanguageModel, half: torch.dtype) -> AbstractContextManager[None]:
    """Inside, a frozen head reads by weights in 16 bits."""
    head = lm.head
    if type(head) is not nn.Linear or head.weight.requires_grad:
        return nullcontext()
    return swapped_forward(head, TokenWise(_reading_in_half(head, half)))


def _reading_in_half(layer: nn.Linear, half: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A forward of a frozen layer by its weights in 16 bits."""
    weights = in_half(layer, half)
    bias = None if layer.bias is None else layer.bias.detach().to(half)
    return lambda x: weights.product(x.to(half), bias)


@torch.no_grad()
def _at_rest(layer: Any, name: str, half: torch.dtype) -> Callable[..., Tensor]:
    """A forward of one layer in 16 bits whose adapter does not change meanwhile, without gradients: what `_OneProduct` computes."""
    base = layer.get_base_layer()
    W, bias = in_half(base, half), None if base.bias is None else base.bias.to(half)
    A, B = layer.lora_A[name].weight.to(half), (layer.lora_B[name].weight * layer.scaling[name]).to(half)
    return lambda x: _beside(x.to(half), A, B, W, bias)[0]


def _beside(x: Tensor, A: Tensor, B: Tensor, W: Halves, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """x W^T + b + (x A^T) B^T [.., out], and A x^T of all rows [r, rows]: on a CPU few rows times many columns is the faster product."""
    out, low = W.product(x, bias), A @ x.flatten(0, -2).T
    out.view(-1, out.shape[-1]).addmm_(low.T, B.T)
    return out, low


def _has_one_adapter(layer: Any) -> bool:
    """Whether a layer computes W + s B A of one adapter, in numbers fine enough for the sum, and nothing else is trained in it."""
    if len(layer.active_adapters) != 1 or layer.merged or layer.disable_adapters or not is_linear(layer):
        return False
    if layer.get_base_layer().weight.dtype in (torch.bfloat16, torch.float16):
        return False  # W + s B A, rounded like W, would be another policy than the one that the replies' probabilities are of
    name, trained = layer.active_adapters[0], any(p.requires_grad for p in layer.get_base_layer().parameters())
    dropped = layer.training and name in layer.lora_dropout and not isinstance(layer.lora_dropout[name], nn.Identity)
    return name in layer.lora_A and _is_plain(layer, [name]) and not trained and not dropped


def _as_one(layer: Any, name: str, half: torch.dtype | None) -> Callable[..., Tensor]:
    """A forward of one layer by `_OneProduct`."""
    plain, base, scale = layer.forward, layer.get_base_layer(), layer.scaling[name]
    W = _weight(base) if half is None else in_half(base, half)
    bias = None if base.bias is None else base.bias.detach().to(half or base.bias.dtype)

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if layer.disable_adapters:
            return W.product(x.to(half), bias) if isinstance(W, Halves) else plain(x, *args, **kwargs)
        A, B = layer.lora_A[name].weight, layer.lora_B[name].weight
        out: Tensor = _OneProduct.apply(x, A, B, W, bias, scale)
        return out

    return forward


class _OneProduct(torch.autograd.Function):
    """x (W + s B A)^T + b, x [.., in], differentiable in x, A [r, in] and B [out, r]. The sum is made first, but not in 16 bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, B: Tensor, W: Tensor | Halves, bias: Tensor | None, scale: float) -> Tensor:
        ctx.scale, ctx.fold, ctx.types = scale, isinstance(W, Tensor), (A.dtype, B.dtype)
        dtype = W.dtype if isinstance(W, Tensor) else W.W.dtype
        x, A, B = (tensor.to(dtype) for tensor in (x, A, B * scale))
        if isinstance(W, Halves):
            out, low = _beside(x, A, B, W, bias)
            ctx.save_for_backward(x, A, B, W.W, low)
        else:
            W = torch.addmm(W, B, A)
            out = linear(x, W, bias)
            ctx.save_for_backward(x, A, B, W, None)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, A, B, W, low = ctx.saved_tensors
        grad, flat = grads[0].flatten(0, -2), x.flatten(0, -2)
        of_low = grad @ B  # s B is saved: what comes to x A^T
        of_A, of_B = of_low.T @ flat, ((A @ flat.T if low is None else low) @ grad).T
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = grad @ W
            of_x = (of_x if ctx.fold else of_x.addmm_(of_low, A)).view_as(x)
        return of_x, of_A.to(ctx.types[0]), of_B.to(ctx.types[1]) * ctx.scale, None, None, None


@contextmanager
def folded(lm: LanguageModel) -> Iterator[None]:
    """Fold the active adapter into the base weights for the length of the block: W + scale B A replaces W, and LoRA's own branch rests.

    The base tensors themselves are put back afterwards, so nothing drifts. Gradients make no sense inside.
    Raises UserError for an adapter that is not plain LoRA (`examine`), or merged already.
    """
    if lm.adapters:
        examine_loaded(lm.model, lm.model.active_adapters)
    check_unmerged(lm.model)
    originals: list[tuple[Any, nn.Parameter]] = []
    with torch.no_grad(), lm.without_adapters():
        try:
            for module in lm.model.modules():
                if isinstance(module, LoraLayer):
                    layer: Any = module
                    present = [name for name in layer.active_adapters if name in layer.lora_A]  # an adapter may have fewer layers
                    if present:
                        base, change = layer.get_base_layer(), sum(layer.get_delta_weight(name) for name in present)
                        originals.append((base, base.weight))
                        # a tensor of its own: another layer may share the weights, and not the adapter
                        base.weight = nn.Parameter(base.weight + change.to(base.weight.dtype), requires_grad=False)
            yield
        finally:
            for base, weight in reversed(originals):
                base.weight = weight
