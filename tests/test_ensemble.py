"""EnsembleLM as identities: what the mixture must equal, on random llama, gpt2 and t5 models with three random adapters."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from tiny import ADAPTERS, PROMPTS

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.lm.forward import adapters_in_rows
from emorl_lite.lm.model import LanguageModel

KINDS = ["llama", "gpt2", "t5"]
WEIGHTS = (0.8, 0.5, 0.05)
ONE_HOT = torch.eye(3).tolist()
FLAT = 1e4  # at this temperature the words are all but equally likely, and no two samples are the same


def double(kind: str) -> LanguageModel:
    """In double precision an identity is told from a near miss."""
    lm = tiny.language_model(kind, adapters=3)
    lm.model.double()
    return lm


MODELS = {kind: double(kind) for kind in KINDS}  # an ensemble leaves them as they were: tested below

weight_vectors = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda w: max(w) > 0.05)
kinds = tiny.kinds()


@pytest.fixture(params=["stacked", "peft"])
def engine(request):
    """How a test runs its adapters: as the package does, or by the reference."""
    with tiny.peft_batches() if request.param == "peft" else nullcontext():
        yield


engines = pytest.mark.usefixtures("engine")


def given_replies(lm: LanguageModel):
    return lm.encode(PROMPTS), *lm.encode_replies(["w1 w2 w3 w4", "w5", "w6 w7", "w8 w9 w10"])


def adapter_logits(lm: LanguageModel) -> torch.Tensor:
    """[B, N, T, V], each adapter on its own, by the model's ordinary forward."""
    rows = []
    for name in ADAPTERS:
        lm.use(name)
        with torch.no_grad():
            rows.append(lm.forward_reply(*given_replies(lm))[0])
    return torch.stack(rows, 1)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-9) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def total_logprob(ensemble: EnsembleLM, tokens: torch.Tensor) -> torch.Tensor:
    """[B]: log-probability of reply tokens under the mixture."""
    mask = ensemble.lm.reply_mask(tokens)
    logits, _ = ensemble.forward_reply(ensemble.lm.encode(PROMPTS), tokens, mask)
    return (logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1) * mask).sum(1)


def test_the_adapters_reply_differently():
    """Otherwise the identities below would say nothing."""
    for lm in MODELS.values():
        replies = []
        for name in ADAPTERS:
            lm.use(name)
            replies.append(lm.reply(PROMPTS))
        mixed = EnsembleLM(lm, ADAPTERS, WEIGHTS).reply(PROMPTS)
        assert len({tuple(r) for r in [*replies, mixed]}) == 4


# -- the mixture


@kinds
@engines
@pytest.mark.parametrize("mix", ["hidden", "logits", "probabilities"])
def test_one_hot_weights_are_that_adapter(kind, mix):
    lm = MODELS[kind]
    ensemble = EnsembleLM(lm, ADAPTERS, mix=mix)
    alone = adapter_logits(lm)
    for i, name in enumerate(ADAPTERS):
        lm.use(name)
        assert ensemble.reply(PROMPTS, ONE_HOT[i]) == lm.reply(PROMPTS)
        logits, _ = ensemble.forward_reply(*given_replies(lm), weights=ONE_HOT[i])
        assert close(logits, alone[:, i].log_softmax(-1) if mix == "probabilities" else alone[:, i])


@kinds
@settings(max_examples=10, deadline=None)
@given(w=weight_vectors)
def test_head_of_mixed_states_is_mixed_logits(kind, w):
    """lm_head(sum w h) = sum w lm_head(h) = sum w logits_i, and softmax of it is proportional to prod p_i^w_i."""
    lm = MODELS[kind]
    logits, hidden = EnsembleLM(lm, ADAPTERS, w).forward_reply(*given_replies(lm))
    alone, w = adapter_logits(lm), torch.tensor(w).double()  # the weights are float32
    assert hidden.shape == (len(PROMPTS), 3, logits.shape[1], lm.width)
    assert close(lm.head(torch.einsum("n,bntd->btd", w, hidden)), logits)
    assert close(torch.einsum("n,bntv->btv", w, alone), logits)
    product = torch.einsum("n,bntv->btv", w, alone.log_softmax(-1)).softmax(-1)
    assert close(product, logits.softmax(-1))


@kinds
def test_hidden_level_is_logits_level(kind):
    lm = MODELS[kind]
    a, b = (EnsembleLM(lm, ADAPTERS, WEIGHTS, mix=mix) for mix in ("hidden", "logits"))
    assert a.reply(PROMPTS) == b.reply(PROMPTS)
    for x, y in zip(a.forward_reply(*given_replies(lm)), b.forward_reply(*given_replies(lm)), strict=True):
        assert close(x, y)


@kinds
def test_probabilities_level_is_the_mixture_of_distributions(kind):
    lm = MODELS[kind]
    logits, _ = EnsembleLM(lm, ADAPTERS, WEIGHTS, mix="probabilities").forward_reply(*given_replies(lm))
    share = torch.tensor(WEIGHTS)
    share = (share / share.sum()).double()
    by_hand = torch.einsum("n,bntv->btv", share, adapter_logits(lm).softmax(-1))
    assert close(logits.exp(), by_hand, 1e-6)  # the weights are float32
    hidden, _ = EnsembleLM(lm, ADAPTERS, WEIGHTS).forward_reply(*given_replies(lm))
    assert not close(hidden.softmax(-1), by_hand, 1e-2)


@settings(max_examples=10, deadline=None)
@given(w=weight_vectors, c=st.floats(0.5, 20.0), kind=st.sampled_from(KINDS), mix=st.sampled_from(["hidden", "probabilities"]))
def test_scaled_weights_give_the_same_greedy_text(w, c, kind, mix):
    ensemble = EnsembleLM(MODELS[kind], ADAPTERS, mix=mix)
    assert ensemble.reply(PROMPTS, w) == ensemble.reply(PROMPTS, [c * x for x in w])


@kinds
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}])
def test_weights_per_example_equal_one_by_one(kind, options):
    ensemble = EnsembleLM(MODELS[kind], ADAPTERS)
    rows = [*ONE_HOT, WEIGHTS]
    singly = [text for prompt, w in zip(PROMPTS, rows, strict=True) for text in ensemble.reply([prompt], w, **options)]
    assert ensemble.reply(PROMPTS, rows, **options) == singly
    assert ensemble.reply(PROMPTS, rows, batch_size=3, **options) == singly


def reference_reply(lm: LanguageModel, prompt: str, w: tuple[float, ...]) -> list[int]:
    """The published definition: N merged models, no cache, greedy argmax of head(sum_i w_i h_i)."""
    models = []
    for name in ADAPTERS:
        lm.use(name)
        models.append(copy.deepcopy(lm.model).merge_and_unload().eval())
    ids, config = lm.encode([prompt]).ids, models[0].config
    reply: list[int] = []
    while len(reply) < lm.config.max_new_tokens and lm.tokenizer.eos_token_id not in reply:
        if lm.seq2seq:
            inputs = {"input_ids": ids, "decoder_input_ids": torch.tensor([[config.decoder_start_token_id, *reply]])}
        else:
            inputs = {"input_ids": torch.cat([ids, torch.tensor([reply], dtype=torch.long)], 1)}
        key = "decoder_hidden_states" if lm.seq2seq else "hidden_states"
        mixed = sum(
            w_i * model(**inputs, output_hidden_states=True, use_cache=False)[key][-1][0, -1] for w_i, model in zip(w, models, strict=True)
        )
        if lm.seq2seq and config.tie_word_embeddings:
            mixed = mixed * config.d_model**-0.5
        reply.append(int(models[0].get_output_embeddings()(mixed).argmax()))
    return reply


@kinds
@torch.no_grad()
def test_same_tokens_as_the_published_definition(kind):
    lm = MODELS[kind]
    ensemble = EnsembleLM(lm, ADAPTERS, WEIGHTS)
    tokens = ensemble.generate(lm.encode(PROMPTS))
    for prompt, row, mask in zip(PROMPTS, tokens, lm.reply_mask(tokens).bool(), strict=True):
        assert row[mask].tolist() == reference_reply(lm, prompt, WEIGHTS)


# -- generate()


@kinds
@engines
def test_batched_equals_one_by_one_and_cached_equals_not_cached(kind):
    ensemble = EnsembleLM(MODELS[kind], ADAPTERS, WEIGHTS)
    batched = ensemble.reply(PROMPTS)
    assert batched == [ensemble.reply([p])[0] for p in PROMPTS]
    assert batched == ensemble.reply(PROMPTS, use_cache=False)
    assert ensemble.reply(PROMPTS, num_beams=3) == ensemble.reply(PROMPTS, num_beams=3, use_cache=False)


@kinds
@pytest.mark.parametrize("mix", ["hidden", "probabilities"])
def test_beam_search_finds_the_best_pair_of_tokens(kind, mix):
    """With as many beams as words, two tokens long, beam search is exhaustive: it must return the best of all V^2 pairs."""
    lm = MODELS[kind]
    ensemble, V, eos = EnsembleLM(lm, ADAPTERS, WEIGHTS, mix=mix), len(tiny.WORDS), lm.tokenizer.eos_token_id
    found = ensemble.generate(lm.encode(PROMPTS), num_beams=V, max_new_tokens=2, min_new_tokens=2)
    prompts = lm.encode(PROMPTS)[torch.arange(len(PROMPTS)).repeat_interleave(V)]
    first = torch.arange(V).repeat(len(PROMPTS))
    logits, _ = ensemble.forward_reply(prompts, torch.stack([first, first], 1), torch.ones(len(first), 2))
    logp = logits.log_softmax(-1)  # [B * V, 2, V]
    pairs = (logp[:, 0].gather(1, first[:, None]) + logp[:, 1]).view(len(PROMPTS), V, V)
    pairs[:, eos, :] = pairs[:, :, eos] = -torch.inf  # excluded by min_new_tokens
    best = pairs.flatten(1).argmax(1)
    assert torch.equal(found, torch.stack([best // V, best % V], 1))


@kinds
def test_beam_search_scores_no_worse_than_greedy(kind):
    lm = MODELS[kind]
    ensemble = EnsembleLM(lm, ADAPTERS, WEIGHTS)
    prompts = lm.encode(PROMPTS)
    greedy, beams = (ensemble.generate(prompts, num_beams=n, length_penalty=0.0) for n in (1, 8))
    gain = total_logprob(ensemble, beams) - total_logprob(ensemble, greedy)
    assert (gain > -1e-3).all() and (gain > 1e-3).any()


@kinds
def test_several_replies_a_prompt(kind):
    ensemble = EnsembleLM(MODELS[kind], ADAPTERS, WEIGHTS)
    beams = ensemble.reply(PROMPTS, num_beams=4, num_return_sequences=3)
    assert len(beams) == 3 * len(PROMPTS)
    assert beams[::3] == ensemble.reply(PROMPTS, num_beams=4)
    torch.manual_seed(0)
    samples = ensemble.reply(PROMPTS, do_sample=True, num_return_sequences=4, temperature=FLAT)
    assert len(samples) == 4 * len(PROMPTS) and len(set(samples)) > len(PROMPTS)


@kinds
@engines
def test_sampling_follows_the_seed_and_one_hot_samples_as_the_adapter(kind):
    lm = MODELS[kind]
    ensemble = EnsembleLM(lm, ADAPTERS, WEIGHTS)

    def sample(model, seed, *args, **options):
        torch.manual_seed(seed)
        return model.reply(PROMPTS, *args, do_sample=True, num_return_sequences=2, **options)

    assert sample(ensemble, 1) == sample(ensemble, 1)
    assert sample(ensemble, 1, temperature=FLAT) == sample(ensemble, 1, temperature=FLAT) != sample(ensemble, 2, temperature=FLAT)
    for i, name in enumerate(ADAPTERS):
        lm.use(name)
        assert sample(ensemble, 3, ONE_HOT[i]) == sample(lm, 3)


def test_large_weights_sample_as_greedy():
    """The size of w is an inverse temperature: at a millionth of it the lead of the best word, 1e-3 at least here, is a certainty."""
    ensemble = EnsembleLM(MODELS["llama"], ADAPTERS)
    cold = [1e6 * w for w in WEIGHTS]
    assert ensemble.reply(PROMPTS, cold, do_sample=True) == ensemble.reply(PROMPTS, WEIGHTS)


@kinds
@settings(max_examples=8, deadline=None)
@given(w=weight_vectors)
def test_engines_agree(kind, w):
    lm = MODELS[kind]
    ensemble = EnsembleLM(lm, ADAPTERS, w)
    tokens, (_, hidden) = ensemble.generate(lm.encode(PROMPTS)), ensemble.forward_reply(*given_replies(lm))
    with tiny.peft_batches():
        assert torch.equal(tokens, ensemble.generate(lm.encode(PROMPTS)))
        assert close(hidden, ensemble.forward_reply(*given_replies(lm))[1])


@engines
def test_half_precision_models_stay_in_their_type():
    """Adapters are float32 in a bfloat16 model, as peft keeps them for training."""
    lm = tiny.language_model("llama", adapters=3)
    for name, p in lm.model.named_parameters():
        if "lora_" not in name:
            p.data = p.data.bfloat16()
    for mix, dtype in [("hidden", torch.bfloat16), ("logits", torch.bfloat16), ("probabilities", torch.float32)]:
        ensemble = EnsembleLM(lm, ADAPTERS, WEIGHTS, mix=mix)
        logits, hidden = ensemble.forward_reply(*given_replies(lm))
        assert hidden.dtype == torch.bfloat16 and logits.dtype == dtype
        assert len(ensemble.reply(PROMPTS, num_beams=2)) == len(PROMPTS)


def test_engines_agree_on_adapters_of_different_ranks_and_layers():
    lm = tiny.language_model("llama", adapters=1)
    for name, rank, layers in [("b", 2, ["q_proj", "up_proj"]), ("c", 7, ["v_proj", "q_proj"])]:
        lm.model.add_adapter(name, LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=layers, init_lora_weights=False))
    names = ["c", "reflection", "b"]
    stacked = EnsembleLM(lm, names, WEIGHTS)
    logits, _ = stacked.forward_reply(*given_replies(lm))
    with tiny.peft_batches():
        assert close(logits, stacked.forward_reply(*given_replies(lm))[0], 1e-3)
    for i, name in enumerate(names):
        lm.use(name)
        assert stacked.reply(PROMPTS, ONE_HOT[i]) == lm.reply(PROMPTS)


@tiny.kinds("llama", "gpt2")
def test_prefill_computes_only_the_last_logits(kind):
    """generate() asks for one position; mixing must not widen that to the whole prompt."""
    ensemble, lengths = EnsembleLM(MODELS[kind], ADAPTERS, WEIGHTS), []
    hook = MODELS[kind].base.register_forward_hook(lambda module, args, output: lengths.append(output.logits.shape[1]))
    try:
        ensemble.reply(PROMPTS)
    finally:
        hook.remove()
    assert set(lengths) == {1}


# -- the borrowed model


@kinds
@engines
@pytest.mark.parametrize("fails", [False, True])
def test_model_is_as_it_was(kind, fails):
    lm = tiny.language_model(kind, adapters=3)
    lm.use("empathy")
    before = lm.reply(PROMPTS)
    lm.model.train()
    trainable = [p.requires_grad for p in lm.model.parameters()]
    attributes = {name: set(vars(module)) for name, module in lm.model.named_modules()}
    ensemble = EnsembleLM(lm, ADAPTERS, WEIGHTS)
    if fails:

        def broken(*_, **__):
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            ensemble.reply(PROMPTS, logits_processor=[broken])
        with pytest.raises(TypeError), ensemble._mixing(torch.ones(4, 3)):
            lm.forward_reply(*given_replies(lm), no_such_option=1)  # type: ignore[call-arg]
    else:
        ensemble.reply(PROMPTS, num_beams=2)
        ensemble.forward_reply(*given_replies(lm))
    assert {name: set(vars(module)) for name, module in lm.model.named_modules()} == attributes
    assert not any("forward" in vars(module) for module in lm.model.modules())
    assert lm.model.training and lm.model.active_adapter == "empathy"
    assert [p.requires_grad for p in lm.model.parameters()] == trainable
    assert lm.reply(PROMPTS) == before


@kinds
def test_model_can_train_between_two_calls(kind):
    """Adapters are read anew at every call: a training step in between shows."""
    lm = double(kind)
    ensemble = EnsembleLM(lm, ADAPTERS, ONE_HOT[1])
    before, _ = ensemble.forward_reply(*given_replies(lm))
    lm.use("empathy")
    lm.logprobs(*given_replies(lm)).sum().backward()
    with torch.no_grad():
        for p in lm.model.parameters():
            if p.requires_grad:
                assert p.grad is not None
                p += 0.01 * p.grad.sign()
    after, _ = ensemble.forward_reply(*given_replies(lm))
    assert not close(before, after)
    assert close(after, lm.forward_reply(*given_replies(lm))[0])


@engines
def test_dropout_is_off_even_in_training_mode():
    lm = tiny.language_model("llama", adapters=3, lora_dropout=0.5)
    lm.base.model.norm.register_forward_hook(lambda module, args, out: torch.dropout(out, 0.5, lm.base.training))
    ensemble = EnsembleLM(lm, ADAPTERS, WEIGHTS)
    expected, _ = ensemble.forward_reply(*given_replies(lm))
    lm.model.train()
    assert torch.equal(ensemble.forward_reply(*given_replies(lm))[0], expected)


def test_an_earlier_swap_is_put_back():
    lm = tiny.language_model("llama", adapters=2)
    layer = next(module for module in lm.model.modules() if isinstance(module, LoraLayer))
    layer.forward = mine = layer.forward
    with adapters_in_rows(lm, ADAPTERS[:2]):
        assert layer.forward is not mine
    assert layer.forward is mine


# -- mistakes


def test_errors_name_the_mistake():
    lm = MODELS["llama"]
    cases = [
        ((["reflection"],), {}, "at least 2 adapters"),
        ((["reflection", "reflection"],), {}, "different adapters"),
        ((["reflection", "humour"],), {}, "'humour' is not loaded: there are reflection, empathy, fluency"),
        ((ADAPTERS, (1, 1)), {}, "expected 3 numbers"),
        ((ADAPTERS, (1, -1, 0)), {}, "negative"),
        ((ADAPTERS, (0, 0, 0)), {}, "all zero"),
        ((ADAPTERS, (1e31, 1, 1)), {}, r"the largest is 1e\+31"),
        ((ADAPTERS, (1e-40, 0, 0)), {}, "the largest is 1e-40, and a mixture of scores needs one within 1e-30"),
        ((ADAPTERS,), {"mix": "states"}, "mix 'states'"),
    ]
    for args, options, message in cases:
        with pytest.raises(UserError, match=message):
            EnsembleLM(lm, *args, **options)
    ensemble = EnsembleLM(lm, ADAPTERS)
    with pytest.raises(UserError, match="3 rows for 4 prompts"):
        ensemble.reply(PROMPTS, ONE_HOT)
    with pytest.raises(UserError, match="NaN"):
        ensemble.reply(PROMPTS, (1, 1, float("nan")))
    with pytest.raises(UserError, match="there are none"):
        EnsembleLM(tiny.language_model("llama"), ADAPTERS)


def test_guided_replies_of_one_adapter_are_its_own():
    """Classifier-free guidance gives generate()'s second pass its tokens by their place."""
    lm = MODELS["llama"]
    lm.use(ADAPTERS[0])
    assert EnsembleLM(lm, ADAPTERS, ONE_HOT[0]).reply(PROMPTS, guidance_scale=1.5) == lm.reply(PROMPTS, guidance_scale=1.5)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_unsuitable_adapters_are_refused():
    lm = tiny.language_model("llama", adapters=2)
    lm.model.add_adapter("dora", LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(UserError, match="'dora': only plain LoRA"):
        EnsembleLM(lm, ["reflection", "dora"])
    ensemble = EnsembleLM(lm, ADAPTERS[:2])
    lm.model.merge_adapter(["reflection"])
    with pytest.raises(UserError, match="merged"):
        ensemble.reply(PROMPTS)
    lm.model.unmerge_adapter()
    lm.model.add_adapter("head", LoraConfig(r=2, target_modules=["lm_head"]))
    with pytest.raises(UserError, match="LM head"):
        EnsembleLM(lm, ADAPTERS[:2])
