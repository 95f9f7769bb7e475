"""Parameter averaging: one adapter made of several, as cheap to run as a single one. The rival of mixing hidden states.

A LoRA adapter changes a weight matrix by D_i = s_i B_i A_i. There are two ways to average adapters, and they differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.quiet import quietly
from emorl_lite.base.texts import check_texts
from emorl_lite.base.weights import check_weights
from emorl_lite.lm.adapters import as_before, check_name, with_adapter
from emorl_lite.lm.examination import examine
from emorl_lite.lm.forward import check_adapters, lora_layers
from emorl_lite.lm.model import LanguageModel


@torch.no_grad()
def average_parameters(
    lm: LanguageModel,
    adapters: Sequence[str],
    weights: Sequence[float] | Tensor,
    name: str = "average",
    how: Literal["exact", "soup"] = "exact",
    signed: bool = False,
) -> None:
    """Add an adapter `name` to `lm` that averages `adapters`; an adapter of that name is replaced. The active adapter stays active.

    "exact": the change of a matrix is sum_i w_i s_i B_i A_i, EMORL's parameter mode (arXiv 2505.02579), with weights as given. The new
    adapter has rank r_1 + ... + r_N: the A_i stacked, and the w_i s_i B_i side by side. `signed` allows negative weights here.

    "soup": A and B are averaged each on its own, as Rewarded Soups does with all trained parameters (arXiv 2306.04488, equation 1): the
    change is s (sum_i w_i B_i)(sum_i w_i A_i), with w divided by its sum as that paper defines it. It holds the cross terms
    w_i w_j B_i A_j, products of matrices that never met in training. (peft's add_weighted_adapter("linear") is neither: it multiplies
    A and B by the square root of w_i s_i.) The adapters must have equal ranks and scales.

    Raises UserError for missing or unsuitable adapters, a model that replies by other rules than it reads (`examine`), wrong weights, or a
    `name` that is one of the `adapters`.
    """
    adapters = check_texts(adapters, "adapter")
    if how not in ("exact", "soup"):
        raise UserError(f"how {how!r}: choose exact or soup")
    if signed and how != "exact":
        raise UserError(f"how {how!r}: takes no negative weights; use how='exact'")
    if not adapters:
        raise UserError("no adapters to average")
    check_adapters(lm, adapters)
    examine(lm)
    if name in adapters:
        raise UserError(f"adapter {name!r}: an average cannot replace one of the adapters it is made of")
    if name not in lm.adapters:
        check_name(lm.model, name)
    w = check_weights(weights, len(adapters), signed=signed)
    if w.dim() != 1:
        raise UserError("weights: parameters take one weight an adapter, not one row an example")
    shares = (w / w.sum() if how == "soup" else w).tolist()

    merge = exact_factors if how == "exact" else _averaged
    layers = {layer: merge(layer, adapters, shares) for layer in lora_layers(lm)}  # first, so that an error leaves lm as it was
    if not all(x.isfinite().all() for factors in layers.values() for x in factors if x is not None):
        raise UserError(f"weights: {shares} make numbers that are too large for the adapters' own type")
    rank = max(len(A) for A, _ in layers.values() if A is not None)
    _add_empty_adapter(lm, adapters, name, rank)
    lm.origin[name] = None
    for layer, (A, B) in layers.items():
        if A is not None and B is not None:
            new_A, new_B = layer.lora_A[name].weight.zero_(), layer.lora_B[name].weight.zero_()
            new_A[: len(A)], new_B[:, : B.shape[1]] = A, B  # a layer that some adapters skip needs a smaller rank: the rest stays 0


Factors = tuple[Tensor | None, Tensor | None]


def exact_factors(layer: Any, adapters: Sequence[str], w: Sequence[float]) -> Factors:
    """A [sum of r, in] and B [out, sum of r] with B A = sum_i w_i s_i B_i A_i."""
    present = [(name, w_i) for name, w_i in zip(adapters, w, strict=True) if name in layer.lora_A]
    if not present:
        return None, None
    A = torch.cat([layer.lora_A[name].weight for name, _ in present])
    B = torch.cat([layer.lora_B[name].weight * (w_i * layer.scaling[name]) for name, w_i in present], 1)
    return A, B


def _averaged(layer: Any, adapters: Sequence[str], w: Sequence[float]) -> Factors:
    """A = sum_i w_i A_i [r, in] and B = s sum_i w_i B_i [out, r]."""
    if not any(name in layer.lora_A for name in adapters):
        return None, None
    kinds = {(layer.r.get(name), layer.scaling.get(name)) for name in adapters}
    if len(kinds) > 1:
        raise UserError(f"a soup of {', '.join(adapters)}: the adapters differ in rank, scale or layers; use how='exact'")
    A = sum(layer.lora_A[name].weight * w_i for name, w_i in zip(adapters, w, strict=True))
    B = sum(layer.lora_B[name].weight * (w_i * layer.scaling[name]) for name, w_i in zip(adapters, w, strict=True))
    return torch.as_tensor(A), torch.as_tensor(B)


def _add_empty_adapter(lm: LanguageModel, adapters: Sequence[str], name: str, rank: int) -> None:
    """A LoRA adapter with scale 1 on every layer that one of `adapters` changes. Nothing else about the model changes."""
    model, known = lm.model, set(lm.model.parameters())
    configs = [model.peft_config[a] for a in adapters]
    scale_one = {"r": rank, "lora_alpha": rank, "alpha_pattern": {}, "rank_pattern": {}, "use_rslora": False}
    plain = {"lora_dropout": 0.0, "init_lora_weights": True, "eva_config": None}
    average = replace(configs[0], **_places(lm, adapters), **scale_one, **plain)
    with as_before(model):
        if name in lm.adapters:
            quietly(model.delete_adapter)(name)
        with_adapter(model, name, average)
    for p in set(model.parameters()) - known:
        p.requires_grad_(False)
    model.train(model.training)  # the new modules are born in training mode


def _places(lm: LanguageModel, adapters: Sequence[str]) -> dict[str, Any]:
    """The fields of a configuration that name the layers which one of `adapters` changes."""
    fields = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    first, *others = ({field: getattr(lm.model.peft_config[a], field) for field in fields} for a in adapters)
    if all(other == first for other in others):
        return first
    present = [name for name, layer in lm.base.named_modules() if isinstance(layer, LoraLayer) and any(a in layer.lora_A for a in adapters)]
    return dict.fromkeys(fields) | {"target_modules": "|".join(map(re.escape, present))}
