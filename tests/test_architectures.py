"""Other architectures than the presets': mixed exactly, or refused in one line that says why.

Random models of a few thousand parameters, in double precision (but one). The reference is the plainest there is: every adapter reads the
whole text without a cache, the final logits are mixed by hand, and the likeliest word is taken.
"""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import ModelConfig
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.lm import devices
from emorl_lite.lm import model as language_models
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.examination import attention_window, head_facts
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.rollout import collect

IDS = {"vocab_size": len(tiny.WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
USUAL = IDS | {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
OLD = IDS | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
GEMMA = USUAL | {"head_dim": 16, "sliding_window": 64}
MODELS = {  # name: (kind, options)
    "llama": ("llama", USUAL),
    "qwen2": ("qwen2", USUAL),
    "qwen3": ("qwen3", USUAL | {"head_dim": 16}),
    "mistral": ("mistral", USUAL | {"sliding_window": 64}),
    "mistral, narrow": ("mistral", USUAL | {"sliding_window": 6}),
    "phi": ("phi", USUAL),
    "phi3": ("phi3", USUAL),
    "gemma2": ("gemma2", GEMMA | {"final_logit_softcapping": 2.0}),
    "gemma3": ("gemma3_text", GEMMA),
    "gemma3, narrow": ("gemma3_text", GEMMA | {"sliding_window": 4}),
    "gpt2": ("gpt2", OLD),
    "gptj": ("gptj", OLD | {"rotary_dim": 8}),
    "opt": ("opt", IDS | {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
                          "word_embed_proj_dim": 32, "init_std": 0.3}),
    "bloom": ("bloom", IDS | {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}),
    "granite": ("granite", USUAL | {"logits_scaling": 3.0}),
    "cohere": ("cohere", USUAL | {"logit_scale": 0.25}),
    "olmo": ("olmo", USUAL),
    "smollm3": ("smollm3", USUAL),
    "t5": ("t5", IDS | {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0,
                        "initializer_factor": 3.0, "decoder_start_token_id": 0}),
    "bart": ("bart", IDS | {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "init_std": 0.3,
                            "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
                            "decoder_start_token_id": 2, "forced_eos_token_id": None}),
}  # fmt: skip
HEADS = {"phi": "bias", "gptj": "bias", "granite": "scale", "cohere": "scale", "gemma2": "cap", "bart": "other"}
REFUSED = {  # where, and a word of the line that says why
    "bart": {"ensemble": "differ from its head's output", "tree": "differ from its head's output"},
    "bloom": {"tree": "tree of prefixes"},
    "mistral, narrow": {"tree": "look back on 6 tokens"},
    "gemma3, narrow": {"tree": "look back on 4 tokens"},
    "gemma2": {"probabilities": "caps its logits"},
}
WEIGHTS = [(0.5, 0.3, 0.2), (1.0, 0.6, 0.4), (0.1, 0.1, 0.8), (2.0, 0.0, 1.0), (0.0, 1.0, 0.0)]


def model(name: str) -> LanguageModel:
    """With three random adapters, and with a head's bias or a bias of the logits where the architecture has one."""
    kind, options = MODELS[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **options)
    seq2seq = bool(config.is_encoder_decoder)
    network = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(config).eval()
    if HEADS.get(name) == "bias":
        network.get_output_embeddings().bias.data.normal_(std=2.0)
    if name == "bart":
        network.final_logits_bias.normal_(std=2.0)
    template = "{prompt} <sep>" if seq2seq else "<bos> {prompt} <sep>"
    shape = {"max_prompt_tokens": 24, "max_new_tokens": 6, "lora_r": 4, "lora_alpha": 8}
    lm = LanguageModel(network, tiny.tokenizer(seq2seq), ModelConfig(path=name, template=template, **shape))
    for i, adapter in enumerate(tiny.ADAPTERS):
        lm.add_adapter(adapter, seed=i)
    tiny.with_random_adapters(lm)
    if name not in ("gemma2", "bloom"):  # their masks have no number for "nothing" in double precision
        lm.model.double()
    return lm


@torch.no_grad()
def by_hand(lm: LanguageModel, weights: tuple[float, ...], mix: str) -> list[str]:
    """Greedy replies of the mixture: of final logits with weights that sum to one, or of probabilities."""
    shares, replies = [w / sum(weights) for w in weights], []
    for prompt in tiny.PROMPTS:
        inputs, tokens = lm.encode([prompt]), torch.zeros(1, 0, dtype=torch.long)
        for _ in range(lm.config.max_new_tokens):
            extended = torch.cat([tokens, torch.zeros(1, 1, dtype=torch.long)], 1)  # its last token is not read
            mixed: torch.Tensor | float = 0.0
            for name, share in zip(tiny.ADAPTERS, shares, strict=True):
                lm.use(name)
                logits = lm.forward_reply(inputs, extended, torch.ones_like(extended))[0][0, -1]
                mixed = mixed + share * (logits if mix == "hidden" else logits.softmax(-1))
            tokens = torch.cat([tokens, mixed.argmax().view(1, 1)], 1)
            if int(tokens[0, -1]) == lm.tokenizer.eos_token_id:
                break
        replies += lm.decode(tokens)
    return replies


def told(name: str, where: str):
    """The line that is expected, or nothing."""
    word = REFUSED.get(name, {}).get(where)
    return pytest.raises(UserError, match=rf"^{name}: .*({word})") if word else None


@pytest.mark.parametrize("name", MODELS)
def test_what_follows_a_head_is_found(name):
    facts = head_facts(model(name))
    kind = HEADS.get(name, "nothing")
    assert facts.bias == (kind == "bias")
    assert facts.after == ("nothing" if kind == "bias" else kind)
    assert (facts.difference > 0.1) == (facts.after != "nothing")
    expected = {"granite": 1 / 3, "cohere": 0.25}.get(name, 1.0)
    assert facts.scale == pytest.approx(expected)


@pytest.mark.parametrize("mix", ["hidden", "probabilities"])
@pytest.mark.parametrize("name", MODELS)
def test_a_mixture_is_exact_or_refused(name, mix):
    """By ensemble and tree, whatever the size of the weights. A cap is the model's own, done to the mixture: no sum of final logits."""
    lm = model(name)
    expected = None
    if mix == "probabilities" or HEADS.get(name) != "cap":
        expected = [by_hand(lm, w, mix) for w in WEIGHTS]
    if refusal := told(name, "ensemble") or (told(name, mix)):
        with refusal:
            EnsembleLM(lm, tiny.ADAPTERS, mix=mix)
    else:
        ensemble = EnsembleLM(lm, tiny.ADAPTERS, mix=mix)
        replies = [ensemble.reply(tiny.PROMPTS, w) for w in WEIGHTS]
        assert expected is None or replies == expected
    if refusal := told(name, mix) or told(name, "tree"):
        with refusal:
            PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS, mix=mix)
    else:
        tree = PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS, mix=mix)
        assert [list(row) for row in zip(*tree.replies(WEIGHTS), strict=True)] == replies
        assert len({reply for row in replies for reply in row}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if "tree" not in REFUSED.get(name, {}) and HEADS.get(name) != "cap"])
def test_an_exact_map_holds_the_replies_by_hand(name):
    lm = model(name)
    found = exact_map(PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS))
    shares = [[w / sum(weights) for w in weights] for weights in WEIGHTS]
    assert [list(row) for row in zip(*found.replies(shares), strict=True)] == [by_hand(lm, tuple(w), "hidden") for w in shares]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_exact_averages_and_rollouts_are_right_on_all(name):
    """The averaged adapter at one-hot weights is that adapter; what a rollout says of its tokens is what a plain pass says."""
    lm = model(name)
    average_parameters(lm, tiny.ADAPTERS, (0.0, 1.0, 0.0), name="average", how="exact")
    ids = torch.tensor([[5, 9, 11]])
    inputs, mask = lm.encode(tiny.PROMPTS[:1]), torch.ones_like(ids)
    logits = []
    for adapter in ("average", tiny.ADAPTERS[1]):
        lm.use(adapter)
        with torch.no_grad():
            logits.append(lm.forward_reply(inputs, ids, mask)[0])
    exact = 1e-8 if logits[0].dtype == torch.float64 else 1e-4
    torch.testing.assert_close(logits[0], logits[1], atol=exact, rtol=exact)
    torch.manual_seed(0)
    rollout = collect(lm, lm.encode(tiny.PROMPTS), 1, 1.0, 8)
    with torch.no_grad():
        logp = lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
    torch.testing.assert_close(rollout.logp, logp.float(), atol=1e-4, rtol=1e-4)


def test_windows_are_read_from_the_configuration():
    class Config:
        layer_types = None
        sliding_window = 7
        use_sliding_window = True

    config = Config()
    assert attention_window(config) == 7
    config.use_sliding_window = False
    assert attention_window(config) is None
    config.use_sliding_window, config.layer_types = True, ["full_attention", "sliding_attention"]
    assert attention_window(config) == 7
    config.layer_types = ["full_attention"]
    assert attention_window(config) is None
    config.layer_types = ["full_attention", "linear_attention"]
    assert attention_window(config) == 0


@pytest.mark.parametrize("samples", [0, 2])
def test_a_tree_samples_from_scaled_logits_and_refuses_a_cap(samples):
    """With the same noise, a model whose logits are a third of the head's samples as one whose head is a third as large."""
    scaled, plain = model("granite"), model("granite")
    plain.base.config.logits_scaling = 1.0
    for module in plain.base.modules():
        if hasattr(module, "logits_scaling"):
            module.logits_scaling = 1.0
    head = plain.head
    head.weight = torch.nn.Parameter(head.weight / 3.0)  # not the embedding's own any more
    options = {"samples": samples, "max_new_tokens": 6}
    one, two = (PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS, **options).replies(WEIGHTS) for lm in (scaled, plain))
    assert one == two
    if samples:
        with pytest.raises(UserError, match="caps its logits"):
            PrefixTree(model("gemma2"), tiny.ADAPTERS, tiny.PROMPTS, samples=samples)


def test_half_precision_is_no_reason_to_refuse(monkeypatch):
    """Given replies read in bfloat16 (autocast on a CPU that has it) differ from what is decoded in float32, and that is no fault."""
    for module in (devices, language_models):
        monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)
    lm = tiny.language_model("llama", adapters=3, autocast=True)
    inputs, ids = lm.encode(tiny.PROMPTS[:1]), torch.tensor([[5, 9, 11]])
    with torch.no_grad():
        half = lm.forward_reply(inputs, ids, torch.ones_like(ids))[0]
    assert lm.mixed and half.dtype == torch.bfloat16
    EnsembleLM(lm, tiny.ADAPTERS)
    PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS)


@pytest.mark.parametrize("double", [False, True])
def test_a_factor_near_one_is_found(double):
    """In full precision nothing but rounding lies between a head's output and logits that follow from it."""
    lm = model("cohere")
    lm.base.logit_scale = 0.99
    if not double:
        lm.model.float()
    facts = head_facts(lm)
    assert facts.after == "scale" and facts.scale == pytest.approx(0.99, rel=1e-4)
