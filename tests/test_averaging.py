"""Parameter averages as identities on the change of every weight matrix."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from tiny import ADAPTERS, PROMPTS

from emorl_lite.base.errors import UserError
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import lora_layers
from emorl_lite.lm.model import LanguageModel

KINDS = ["llama", "gpt2", "t5"]
WEIGHTS = (0.8, 0.5, 0.05)
MODELS = {kind: tiny.language_model(kind, adapters=3) for kind in KINDS}
kinds = tiny.kinds()
weight_vectors = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda w: max(w) > 0.05)


def changes(lm: LanguageModel, name: str) -> list[torch.Tensor]:
    """What merging an adapter would add to each weight matrix (peft's own account, scale and Conv1D's transpose included)."""
    return [layer.get_delta_weight(name).detach() for layer in lora_layers(lm)]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) > 0 and all(torch.allclose(x, y, atol=1e-5, rtol=1e-4) for x, y in zip(a, b, strict=True))


def mean_of_changes(lm: LanguageModel, w) -> list[torch.Tensor]:
    parts = [changes(lm, name) for name in ADAPTERS]
    return [sum(w_i * d for w_i, d in zip(w, layer, strict=True)) for layer in zip(*parts, strict=True)]


def products_of_means(lm: LanguageModel, w) -> list[torch.Tensor]:
    out = []
    for layer in lora_layers(lm):
        A = sum(w_i * layer.lora_A[name].weight for w_i, name in zip(w, ADAPTERS, strict=True))
        B = sum(w_i * layer.lora_B[name].weight for w_i, name in zip(w, ADAPTERS, strict=True))
        out.append((layer.scaling[ADAPTERS[0]] * (B @ A).T if layer.fan_in_fan_out else layer.scaling[ADAPTERS[0]] * B @ A).detach())
    return out


@kinds
@settings(max_examples=8, deadline=None)
@given(w=weight_vectors)
def test_exact_is_the_weighted_sum_of_changes(kind, w):
    lm = MODELS[kind]
    average_parameters(lm, ADAPTERS, w)
    assert same(changes(lm, "average"), mean_of_changes(lm, w))


@kinds
@settings(max_examples=8, deadline=None)
@given(w=weight_vectors)
def test_soup_is_the_product_of_averages(kind, w):
    lm = MODELS[kind]
    average_parameters(lm, ADAPTERS, w, "soup", how="soup")
    assert same(changes(lm, "soup"), products_of_means(lm, [x / sum(w) for x in w]))


@kinds
def test_soup_is_neither_exact_nor_pefts_linear(kind):
    lm, w = MODELS[kind], [0.5, 0.3, 0.2]
    average_parameters(lm, ADAPTERS, w, "exact")
    average_parameters(lm, ADAPTERS, w, "soup", how="soup")
    lm.model.add_weighted_adapter(ADAPTERS, w, "linear", combination_type="linear")
    soup, exact, linear = (changes(lm, name) for name in ("soup", "exact", "linear"))
    assert not same(soup, exact) and not same(soup, linear)
    lm.model.delete_adapter("linear")


@kinds
def test_exact_average_replies_as_the_merged_weights(kind):
    """W + sum_i w_i s_i B_i A_i written into the base model by hand."""
    lm = tiny.language_model(kind, adapters=3)
    average_parameters(lm, ADAPTERS, WEIGHTS)
    lm.use("average")
    replies = lm.reply(PROMPTS)
    by_hand = tiny.language_model(kind, adapters=3)
    with torch.no_grad():
        for layer, change in zip(lora_layers(by_hand), mean_of_changes(by_hand, WEIGHTS), strict=True):
            layer.base_layer.weight += change
    with by_hand.without_adapters():
        assert replies == by_hand.reply(PROMPTS)


@kinds
@pytest.mark.parametrize("how", ["exact", "soup"])
def test_one_hot_is_that_adapter(kind, how):
    lm = tiny.language_model(kind, adapters=3)
    for i, name in enumerate(ADAPTERS):
        average_parameters(lm, ADAPTERS, torch.eye(3)[i], how=how)
        assert same(changes(lm, "average"), changes(lm, name))
        lm.use(name)
        own = lm.reply(PROMPTS)
        lm.use("average")
        assert lm.reply(PROMPTS) == own


def test_the_same_name_again_replaces_it():
    lm = tiny.language_model("llama", adapters=3)
    average_parameters(lm, ADAPTERS, WEIGHTS)
    first, size = changes(lm, "average"), sum(p.numel() for p in lm.model.parameters())
    for how, w in [("soup", (1, 1, 1)), ("exact", (0, 1, 1)), ("exact", WEIGHTS)]:
        average_parameters(lm, ADAPTERS, w, how=how)
    assert same(changes(lm, "average"), first)
    assert sum(p.numel() for p in lm.model.parameters()) == size
    assert lm.adapters == [*ADAPTERS, "average"]


def test_nothing_else_changes():
    lm = tiny.language_model("llama", adapters=3)
    lm.use("empathy")
    before, weights = lm.reply(PROMPTS), {k: v.clone() for k, v in lm.model.state_dict().items()}
    trainable = {name for name, p in lm.model.named_parameters() if p.requires_grad}
    for mode in (True, False):
        lm.model.train(mode)
        for _ in range(2):
            average_parameters(lm, ADAPTERS, WEIGHTS)
        assert all(module.training == mode for module in lm.model.modules())
    assert lm.model.active_adapter == "empathy" and lm.reply(PROMPTS) == before
    assert {name for name, p in lm.model.named_parameters() if p.requires_grad} == trainable
    lm.model.requires_grad_(False)
    average_parameters(lm, ADAPTERS, WEIGHTS)
    assert not any(p.requires_grad for p in lm.model.parameters())
    after = lm.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in weights.items())


def test_an_active_average_stays_active_when_replaced():
    lm = tiny.language_model("t5", adapters=3)
    average_parameters(lm, ADAPTERS, WEIGHTS)
    lm.use("average")
    average_parameters(lm, ADAPTERS, (0, 0, 1))
    assert lm.model.active_adapter == "average"
    replies = lm.reply(PROMPTS)
    lm.use("fluency")
    assert replies == lm.reply(PROMPTS)


def test_exact_takes_adapters_of_different_ranks_and_layers():
    lm = tiny.language_model("llama", adapters=1)
    lm.model.add_adapter("b", LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    average_parameters(lm, ["reflection", "b"], (0.5, 2.0))
    for layer in lora_layers(lm):
        expected = 0.5 * layer.get_delta_weight("reflection")
        if "b" in layer.lora_A:
            expected = expected + 2.0 * layer.get_delta_weight("b")
        assert torch.allclose(layer.get_delta_weight("average"), expected, atol=1e-5)
    with pytest.raises(UserError, match="differ in rank"):
        average_parameters(lm, ["reflection", "b"], (0.5, 0.5), "soup", how="soup")
    assert "soup" not in lm.adapters


def test_errors_name_the_mistake():
    lm = MODELS["llama"]
    for args, options, message in [
        ((["reflection", "humour"], (1, 1)), {}, "'humour' is not loaded"),
        (([], ()), {}, "no adapters"),
        ((ADAPTERS, (1, 1)), {}, "expected 3 numbers"),
        ((ADAPTERS, torch.ones(2, 3)), {}, "one weight an adapter"),
        ((ADAPTERS, WEIGHTS), {"name": "empathy"}, "'empathy': an average cannot replace"),
        ((ADAPTERS, WEIGHTS), {"how": "linear"}, "how 'linear'"),
    ]:
        with pytest.raises(UserError, match=message):
            average_parameters(lm, *args, **options)
