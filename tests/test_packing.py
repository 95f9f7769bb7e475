"""Replies read without padding, and an adapter as one product with its weights: the same numbers and gradients as the plain way."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest
import tiny
import torch
from peft.tuners.lora import LoraLayer
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.testing import assert_close

from emorl_lite.lm import model as language_models
from emorl_lite.lm import packing
from emorl_lite.lm.devices import cpu_has_bfloat16
from emorl_lite.lm.forward import Halves, in_half, lora_layers, one_product, sampled_from
from emorl_lite.lm.model import LanguageModel
from emorl_lite.lm.packing import Packing, can_pack, reading
from emorl_lite.lm.room import make_room
from emorl_lite.lm.swapping import swapped_forward
from emorl_lite.training.rollout import by_length, collect, ratio_limit, trim

ONE = tiny.ADAPTERS[0]
REPLIES = ["w3 w4 w5", "w6", "", "w7 w8 w9 w10 […]"]  # one that is only its end, one without


def read(lm: LanguageModel, way: str, replies=REPLIES):
    """Logits and hidden states at the replies' tokens, and the gradient of a function of them: plain, packed, or in one product."""
    inputs, (ids, mask) = lm.encode(tiny.PROMPTS[: len(replies)]), lm.encode_replies(replies)
    with one_product(lm) if "product" in way else nullcontext():
        if "packed" in way:
            logits, hidden = lm.forward_tokens(inputs, ids, mask, hidden=True)
        else:
            logits, hidden = (x[mask.bool()] for x in lm.forward_reply(inputs, ids, mask, hidden=True))
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        trained = [p for p in lm.model.parameters() if p.requires_grad]
        gradient = torch.autograd.grad((logits.float().log_softmax(-1) * weights).sum(), trained)
    return logits.detach(), hidden.detach(), torch.cat([g.flatten() for g in gradient])


def difference(ours, theirs) -> list[float]:
    """Of logits, hidden states and gradients: the length of what differs, as a share of the whole."""
    return [float((a.float() - b.float()).norm() / b.float().norm()) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("way", ["packed", "product", "packed product"])
@tiny.kinds("llama", "gpt2", "t5", "qwen2")
def test_packed_rows_and_one_product_are_what_the_plain_way_gives(kind, way):
    lm = tiny.language_model(kind, 2)
    lm.use(ONE)
    assert can_pack(lm.base) == (kind in ("llama", "gpt2"))
    assert max(difference(read(lm, way), read(lm, "plain"))) < 1e-4


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no bfloat16 products")
@tiny.kinds("llama", "gpt2")
def test_in_half_precision_they_are_as_near_to_the_truth_as_the_plain_way(kind):
    true, half = tiny.language_model(kind, 1), tiny.language_model(kind, 1, autocast=True)
    exact = read(true, "plain")
    for ours, theirs in zip(difference(read(half, "packed product"), exact), difference(read(half, "plain"), exact), strict=True):
        assert ours < 2 * theirs + 1e-3


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no bfloat16 products")
@pytest.mark.parametrize("inside", [one_product, sampled_from])
def test_a_head_that_reads_in_16_bits_keeps_nobody_from_packing(inside):
    lm = tiny.language_model("llama", 1, autocast=True)
    with inside(lm):
        assert "forward" in vars(lm.head) and can_pack(lm.base)


@pytest.mark.parametrize("long", [1, 10**6])
@tiny.kinds("llama", "gpt2")
def test_long_texts_attend_alone_and_short_ones_together_with_the_same_numbers(kind, long, monkeypatch):
    lm = tiny.language_model(kind, 1)
    expected = read(lm, "plain")
    monkeypatch.setattr(packing, "LONG", long)
    assert Packing(lm.encode(tiny.PROMPTS).mask).long == (long == 1)
    assert max(difference(read(lm, "packed"), expected)) < 1e-4


def test_attention_by_hand_is_as_exact_as_its_numbers():
    """Two heads a key, gradients among them, in double precision: what PyTorch's own gives."""
    query, key, value = (torch.randn(3, heads, 7, 4, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    weights = torch.randn(3, 4, 7, 4, dtype=torch.float64)
    found = []
    for out in (
        packing._LookBack.apply(query, key, value, 0.3),
        scaled_dot_product_attention(query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), is_causal=True, scale=0.3),
    ):
        found.append([out, *torch.autograd.grad((out * weights).sum(), (query, key, value))])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs)


def test_products_of_weights_in_16_bits_are_plain_ones_with_their_gradients():
    W, x, bias = torch.randn(30, 20).bfloat16(), torch.randn(2, 3, 20).bfloat16().requires_grad_(), torch.randn(30).bfloat16()
    expected = linear(x, W, bias)
    with torch.no_grad():
        assert_close(Halves(W).product(x, bias), expected)
    ours, theirs = (torch.autograd.grad(out.float().sum(), x) for out in (Halves(W).product(x, bias), expected))
    assert_close(ours, theirs)


def test_weights_in_16_bits_are_turned_once_and_again_when_they_have_changed():
    layer = torch.nn.Linear(20, 30)
    first = in_half(layer, torch.bfloat16)
    assert in_half(layer, torch.bfloat16) is first and torch.equal(first.W, layer.weight.to(torch.bfloat16))
    for change in (lambda: layer.weight.data.mul_(2), lambda: setattr(layer.weight, "data", layer.weight.data + 1)):
        change()  # as PEFT merges an adapter: nothing counts it
        assert torch.equal(in_half(layer, torch.bfloat16).W, layer.weight.to(torch.bfloat16))
    layer.weight = torch.nn.Parameter(torch.randn(30, 20))
    assert torch.equal(in_half(layer, torch.bfloat16).W, layer.weight.to(torch.bfloat16))


@tiny.kinds("llama", "gpt2", "qwen2")
def test_a_cache_with_room_gives_what_one_that_grows_gives(kind):
    lm = tiny.language_model(kind)
    inputs = lm.encode(tiny.PROMPTS)
    caches = [lm.read_prompts(inputs).cache for _ in range(2)]
    make_room(caches[0], 3)
    mask = inputs.mask
    for step, rows in enumerate((torch.arange(4), torch.tensor([3, 1, 2]), torch.tensor([0, 2]))):  # replies end, and others move up
        mask = torch.cat([mask[rows], torch.ones(len(rows), 1).long()], 1)
        read = []
        for cache in caches:
            cache.reorder_cache(rows)
            given = {"attention_mask": mask, "position_ids": mask.sum(1, keepdim=True) - 1}
            read.append(lm.base(input_ids=torch.full((len(rows), 1), 5 + step), past_key_values=cache, **given).logits)
        assert_close(*read, atol=1e-4, rtol=1e-4)


def test_a_packed_text_sees_no_other():
    lm = tiny.language_model("llama", 1)
    alone, *_ = read(lm, "packed", REPLIES[:1])
    among, *_ = read(lm, "packed")
    assert_close(among[: len(alone)], alone, atol=1e-4, rtol=1e-4)


def test_packing_puts_every_token_where_it_came_from():
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    packed = Packing(mask)
    assert packed.pack(torch.arange(12).view(3, 4)).tolist() == [[1, 2, 3, 4, 5, 11]]
    assert packed.positions.tolist() == [0, 1, 2, 0, 1, 0]
    heads = torch.randn(1, 2, 6, 5)
    apart = packed.apart(heads)
    assert apart.shape == (3, 2, 3, 5) and not apart[1, :, 2:].any() and not apart[2, :, 1:].any()
    assert torch.equal(packed.together(apart.transpose(1, 2)), heads.transpose(1, 2))


def test_what_cannot_be_read_as_one_row_is_read_in_rows(monkeypatch):
    lm = tiny.language_model("llama", 1)
    expected = read(lm, "plain")[0]
    monkeypatch.setattr(language_models, "Packing", None)  # nobody packs from here on
    with swapped_forward(lm.head, lm.head.forward):  # as a mixture of adapters in rows does
        assert not can_pack(lm.base)
        assert_close(read(lm, "packed")[0], expected)
    inputs, (ids, mask) = lm.encode(tiny.PROMPTS), lm.encode_replies(REPLIES)
    assert_close(lm.forward_tokens(inputs, ids, mask, packed=False)[0], expected)
    lm.base.config._attn_implementation = "eager"
    assert_close(read(lm, "packed")[0], expected, atol=1e-4, rtol=1e-4)


def test_after_an_error_the_model_is_what_it_was(monkeypatch):
    lm = tiny.language_model("llama", 1)
    before, how = read(lm, "plain")[0], lm.base.config._attn_implementation
    with monkeypatch.context() as patch:
        patch.setattr(Packing, "apart", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError), one_product(lm):
            lm.forward_tokens(lm.encode(tiny.PROMPTS), *lm.encode_replies(REPLIES))
    assert lm.base.config._attn_implementation == how
    assert not any("forward" in vars(layer) for layer in lora_layers(lm))
    assert torch.equal(read(lm, "plain")[0], before)


def test_one_product_follows_the_adapter_and_leaves_the_base_alone():
    lm = tiny.language_model("llama", 2)
    lm.use(ONE)
    with lm.without_adapters(), torch.no_grad():
        base = lm.forward_reply(trim(lm.encode(tiny.PROMPTS)), *lm.encode_replies(REPLIES))[0]
    with one_product(lm):
        first = read(lm, "packed")[0]
        with torch.no_grad():
            for layer in lora_layers(lm):
                layer.lora_B[ONE].weight *= 0.5  # as an optimizer would
        then = read(lm, "packed")[0]
        with lm.without_adapters(), torch.no_grad():
            assert_close(lm.forward_reply(lm.encode(tiny.PROMPTS), *lm.encode_replies(REPLIES))[0], base)
    assert not torch.allclose(first, then, atol=1e-2)
    assert_close(then, read(lm, "plain")[0], atol=1e-4, rtol=1e-4)


def test_dropout_and_several_adapters_stay_with_peft():
    lm = tiny.language_model("llama", 2, lora_dropout=0.5)
    lm.use(ONE)
    lm.model.train()
    with one_product(lm):
        assert not any("forward" in vars(layer) for layer in lora_layers(lm))
    lm.model.eval()
    with one_product(lm):
        assert all("forward" in vars(layer) for layer in lora_layers(lm))
    lm.model.base_model.set_adapter(tiny.ADAPTERS[:2])
    with one_product(lm):
        assert not any("forward" in vars(layer) for layer in lora_layers(lm))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_stay_with_peft_and_the_update_reads_the_policy_that_replied(dtype):
    lm = tiny.language_model("llama", 1)
    lm.base.to(dtype)
    for key, p in lm.model.named_parameters():
        if "lora_" in key:
            p.data = p.data.float()  # as PEFT keeps them
    rollout = collect(lm, lm.encode(tiny.PROMPTS), 1, 1.0, 8)
    rows = by_length(rollout.inputs, rollout.mask)
    with one_product(lm), torch.no_grad():
        assert not any("forward" in vars(layer) for layer in lora_layers(lm))
        assert torch.equal(lm.logprobs(rollout.inputs[rows], rollout.tokens[rows], rollout.mask[rows]), rollout.logp[rows])


def test_with_gradient_checkpointing_texts_are_read_in_rows():
    lm = tiny.language_model("llama", 1)
    lm.use(ONE)
    expected = read(lm, "plain")
    word = "activation" if hasattr(lm.base, "activation_checkpointing_enable") else "gradient"  # of later and of earlier transformers
    getattr(lm.base, f"{word}_checkpointing_enable")()
    lm.model.train()
    assert not can_pack(lm.base)
    for way in ("packed", "packed product"):
        assert max(difference(read(lm, way), expected)) < 1e-4
    getattr(lm.base, f"{word}_checkpointing_disable")()
    assert can_pack(lm.base)


def test_threads_that_read_two_models_do_not_mix_their_texts():
    lm, other = tiny.language_model("llama", 1), tiny.language_model("llama", 0, seed=1)
    expected, entered, done = read(lm, "plain")[0], threading.Event(), threading.Event()

    def read_another() -> None:
        with reading(other.base, Packing(torch.ones(2, 3))):
            entered.set()
            done.wait(60)

    thread = threading.Thread(target=read_another)

    def begin(*_):
        if not entered.is_set():
            thread.start()
            assert entered.wait(60)

    hook = lm.base.get_input_embeddings().register_forward_pre_hook(begin)  # while this thread reads already
    try:
        assert_close(read(lm, "packed")[0], expected, atol=1e-4, rtol=1e-4)
        other.base.config._attn_implementation = lm.base.config._attn_implementation = "emorl_lite_packed"
        with pytest.raises(RuntimeError, match="one thread at a time"):
            lm.base(input_ids=torch.ones(1, 3).long())
    finally:
        hook.remove()
        done.set()
        thread.join()


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no bfloat16 products")
@tiny.kinds("llama", "gpt2")
def test_with_autocast_replies_are_sampled_by_the_products_that_they_are_read_by(kind):
    """What is recorded is what was sampled from: the policy in bfloat16, whose adapter no coarse weight swallows."""
    exact, lm = tiny.language_model(kind, 1), tiny.language_model(kind, 1, autocast=True)
    rollout = collect(lm, lm.encode(tiny.PROMPTS), 2, 1.0, 8)
    with torch.no_grad():
        read = lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
        with lm.without_adapters():
            base = lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
        true = exact.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
    assert float((rollout.logp - read).abs().max().exp()) - 1 <= ratio_limit(lm)
    far = (base - true).abs().mean()
    assert (rollout.logp - read).abs().mean() < 0.2 * far and (rollout.logp - true).abs().mean() < 0.2 * far
    weights = [p.detach().clone() for p in lm.model.parameters()]
    with sampled_from(lm):
        assert not [module for module in lm.model.modules() if isinstance(module, LoraLayer) and module.merged]
    assert all(torch.equal(a, b) for a, b in zip(weights, lm.model.parameters(), strict=True))
    assert not [module for module in lm.model.modules() if "forward" in vars(module)] and not torch.is_autocast_enabled("cpu")


@tiny.kinds("llama", "gpt2", "qwen2")
def test_prompts_read_packed_begin_replies_as_padded_ones_do(kind):
    lm = tiny.language_model(kind)
    inputs = lm.encode(tiny.PROMPTS)
    ours, theirs = lm.read_prompts(inputs), lm.read_prompts(inputs, packed=False)
    for a, b in ((ours.logits, theirs.logits), (ours.hidden, theirs.hidden)):
        assert_close(a, b, atol=1e-4, rtol=1e-4)
    mask = torch.cat([inputs.mask, torch.ones(len(inputs), 1).long()], 1)
    options = {"attention_mask": mask, "position_ids": mask.sum(1, keepdim=True) - 1}
    word = torch.full((len(inputs), 1), 7)
    following = [lm.base(input_ids=word, past_key_values=begun.cache, **options).logits for begun in (ours, theirs)]
    assert_close(*following, atol=1e-4, rtol=1e-4)
