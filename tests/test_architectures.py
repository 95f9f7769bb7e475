"""Other architectures than the presets': mixed exactly, or refused in one line that says why. The outcome is docs/architectures.md.

Random models of a few thousand parameters, in double precision where their masks can say "nothing" in it. The reference is the plainest
there is: the `transformers` model reads every text on its own, whole, without padding, cache or positions; final logits are mixed by
hand, and the likeliest word is taken. `python tests/test_architectures.py` prints the page, a test with `-s` a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import ModelConfig, PPOConfig
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.layers import LayerEnsemble
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.experiment.report import policy_replies
from emorl_lite.lm import devices
from emorl_lite.lm import model as language_models
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.examination import attention_window, examine, head_facts
from emorl_lite.lm.model import LanguageModel
from emorl_lite.lm.swapping import swapped_forward
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import collect

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architectures.md"
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
MORE = {
    "gpt neox": ("gpt_neox", USUAL),
    "gpt neo, narrow": ("gpt_neo", IDS | {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]],
                                          "window_size": 4, "max_position_embeddings": 64}),
    "falcon, alibi": ("falcon", USUAL | {"alibi": True}),
    "mpt": ("mpt", IDS | {"d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": 64}),
    "stablelm": ("stablelm", USUAL),
    "starcoder2": ("starcoder2", USUAL),
    "nemotron": ("nemotron", USUAL),
    "olmo2": ("olmo2", USUAL),
    "glm4": ("glm4", USUAL | {"head_dim": 16}),
    "cohere2": ("cohere2", USUAL | {"head_dim": 16, "sliding_window": 64}),
    "granite moe": ("granitemoe", USUAL | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mixtral": ("mixtral", USUAL | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3 moe": ("qwen3_moe", USUAL | {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "gpt-oss": ("gpt_oss", USUAL | {"head_dim": 16, "sliding_window": 64, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "phi3, longrope": ("phi3", USUAL | {"original_max_position_embeddings": 8, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [1.0, 2.0] * 4,
        "original_max_position_embeddings": 8}}),
    "bamba": ("bamba", USUAL | {"attn_layer_indices": [1], "mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1,
                                "mamba_chunk_size": 8}),
    "recurrent gemma": ("recurrent_gemma", USUAL | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 64}),
    "rwkv": ("rwkv", IDS | {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}),
    "roberta": ("roberta", USUAL | {"is_decoder": True}),
    "bert, no decoder": ("bert", USUAL),
    "bart, decoder alone": ("bart", MODELS["bart"][1] | {"is_encoder_decoder": False}),
    "marian": ("marian", MODELS["bart"][1]),
    "mt5": ("mt5", MODELS["t5"][1]),
    "fsmt": ("fsmt", MODELS["bart"][1] | {"src_vocab_size": len(tiny.WORDS), "tgt_vocab_size": len(tiny.WORDS)}),
    "phi3, narrow": ("phi3", USUAL | {"sliding_window": 6}),
    "starcoder2, narrow": ("starcoder2", USUAL | {"sliding_window": 6}),
    "t5 1.1": ("t5", MODELS["t5"][1] | {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}),
}  # fmt: skip
HEADS = {"phi": "bias", "gptj": "bias", "granite": "scale", "cohere": "scale", "gemma2": "cap", "bart": "other"}
AT_ONCE = ["llama", "mistral, narrow", "phi", "gemma2", "gpt2", "opt", "bloom", "granite", "t5", "bart", "phi3, longrope", "roberta"]
"""Those that `make check` tries; `make test` tries all."""
WEIGHTS = [(0.5, 0.3, 0.2), (1.0, 0.6, 0.4), (2.0, 0.0, 1.0), (0.0, 1.0, 0.0)]
FIRST = tiny.ADAPTERS[0]


def model(name: str) -> LanguageModel:
    """With three random adapters, and with a head's bias or a bias of the logits where the architecture has one."""
    kind, options = (MODELS | MORE)[name]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **options)
    seq2seq = bool(config.is_encoder_decoder)
    network = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(config).eval()
    if name in MORE:  # not all say how large their random weights are
        for parameter in network.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
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
    lm.model.to(torch.float32 if name in IN_FLOAT else torch.float64)
    return lm


IN_FLOAT = {"gemma2", "bloom", "mpt", "gpt-oss", "fsmt", "granite moe", "mixtral", "qwen3 moe"}
"""Their masks have no number for "nothing" in double precision, or their experts' products have no double precision."""


# -- by hand


@torch.no_grad()
def alone(lm: LanguageModel, prompt: str, tokens: list[int]) -> torch.Tensor:
    """Logits [V] after a prompt and some tokens of a reply; of a model with a cap, those that it caps."""
    prompt_ids, reply = torch.tensor(lm.prompt_ids([prompt])), torch.tensor([tokens], dtype=torch.long)
    kept, plain = [], lm.head.forward

    def keeping(hidden, *args, **options):
        kept.append(plain(hidden, *args, **options))
        return kept[-1]

    if lm.seq2seq:
        start = torch.full((1, 1), lm.base.config.decoder_start_token_id)
        texts = {"input_ids": prompt_ids, "decoder_input_ids": torch.cat([start, reply], 1)}
    else:
        texts = {"input_ids": torch.cat([prompt_ids, reply], 1)}
    with swapped_forward(lm.head, keeping):
        logits = lm.model(**texts, use_cache=False).logits
    return (kept[-1] if HEADS.get(lm.config.path) == "cap" else logits)[0, -1]


def greedy(lm: LanguageModel, logits: Callable[[str, list[int]], torch.Tensor]) -> list[str]:
    """The replies to all prompts."""
    replies = []
    for prompt in tiny.PROMPTS:
        tokens: list[int] = []
        while len(tokens) < lm.config.max_new_tokens and not {*tokens} & {*lm.end_ids}:
            tokens.append(int(logits(prompt, tokens).argmax()))
        replies += lm.decode(torch.tensor([tokens]))
    return replies


def replies_by_hand(lm: LanguageModel, weights: tuple[float, ...], mix: str = "hidden") -> list[str]:
    """Greedy replies of the mixture: of final logits with weights that sum to one, or of probabilities."""

    def mixed(prompt: str, tokens: list[int]) -> torch.Tensor:
        total = torch.zeros(())
        for name, w in zip(tiny.ADAPTERS, weights, strict=True):
            lm.use(name)
            logits = alone(lm, prompt, tokens)
            total = total + w / sum(weights) * (logits if mix == "hidden" else logits.softmax(-1))
        return total

    return greedy(lm, mixed)


def replies_of(lm: LanguageModel, adapter: str) -> list[str]:
    """Greedy replies of one adapter."""
    lm.use(adapter)
    return greedy(lm, lambda prompt, tokens: alone(lm, prompt, tokens))


# -- the columns of the table: each compares with what is done by hand, and says whether it is the same


def mixes(lm: LanguageModel, mix: str) -> bool:
    ensemble = EnsembleLM(lm, tiny.ADAPTERS, mix=mix)  # type: ignore[arg-type]
    return all(ensemble.reply(tiny.PROMPTS, w) == replies_by_hand(lm, w, mix) for w in WEIGHTS)


def layers(lm: LanguageModel) -> bool:
    """At layer 0 the average; with all weight on one adapter that adapter."""
    bottom, middle = LayerEnsemble(lm, tiny.ADAPTERS, 0), LayerEnsemble(lm, tiny.ADAPTERS, 1)
    average_parameters(lm, tiny.ADAPTERS, WEIGHTS[0], name="average")
    same = bottom.reply(tiny.PROMPTS, WEIGHTS[0]) == replies_of(lm, "average")
    lm.use(FIRST)
    lm.remove_adapter("average")
    return same and middle.reply(tiny.PROMPTS, (1.0, 0.0, 0.0)) == replies_of(lm, FIRST)


def tree_and_map(lm: LanguageModel) -> bool:
    tree = PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS)
    shares = [[x / sum(w) for x in w] for w in WEIGHTS]
    by_hand = [replies_by_hand(lm, w) for w in WEIGHTS]
    same = [list(row) for row in zip(*tree.replies(WEIGHTS), strict=True)] == by_hand
    return same and [list(row) for row in zip(*exact_map(tree).replies(shares), strict=True)] == by_hand


def averages(lm: LanguageModel) -> bool:
    """The change of each matrix is the weighted sum of the adapters' own, as peft computes them."""
    average_parameters(lm, tiny.ADAPTERS, WEIGHTS[0], name="average")
    same = True
    for layer in lm.base.modules():
        if hasattr(layer, "lora_A") and "average" in layer.lora_A:
            change = sum(w * layer.get_delta_weight(name) for name, w in zip(tiny.ADAPTERS, WEIGHTS[0], strict=True))
            same = same and torch.allclose(layer.get_delta_weight("average"), torch.as_tensor(change), atol=1e-5)
    lm.use("average")
    same = same and lm.reply(tiny.PROMPTS) == greedy(lm, lambda prompt, tokens: alone(lm, prompt, tokens))
    lm.use(FIRST)
    lm.remove_adapter("average")
    return same


def first_ratio(lm: LanguageModel) -> bool:
    """Of a rollout, by hand; and of PPO's first step, from an adapter that changes the base."""
    config = PPOConfig(episodes=4, batch_size=4, minibatch_size=2, epochs=1, checkpoint_every=0, validate_every=0)
    lm.use(FIRST)
    trainer = PPOTrainer(lm, FIRST, lambda prompts, replies: torch.zeros(len(prompts)), tiny.PROMPTS, config, progress=False,
                         start_from_loaded=True)  # fmt: skip
    torch.manual_seed(0)
    lm.use(FIRST)
    rollout, worst = collect(lm, lm.encode(tiny.PROMPTS), 1, 1.0, 8), 0.0
    for prompt, tokens, mask, logp in zip(tiny.PROMPTS, rollout.tokens.tolist(), rollout.mask, rollout.logp, strict=True):
        for t in range(int(mask.sum())):
            z = alone(lm, prompt, tokens[:t]) if HEADS.get(lm.config.path) != "cap" else lm_logits(lm, prompt, tokens[:t])
            worst = max(worst, abs(float(z.log_softmax(-1)[tokens[t]] - logp[t])))
    return worst < 1e-3 and float(trainer.train().first_ratio.max()) < 1e-3


def lm_logits(lm: LanguageModel, prompt: str, tokens: list[int]) -> torch.Tensor:
    """The final logits [V], after the cap."""
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([lm.prompt_ids([prompt])[0] + tokens]), use_cache=False).logits[0, -1]


COLUMNS: dict[str, Callable[[LanguageModel], bool]] = {
    "hidden states": lambda lm: mixes(lm, "hidden"),
    "probabilities": lambda lm: mixes(lm, "probabilities"),
    "layer ensemble": layers,
    "tree and map": tree_and_map,
    "averages": averages,
    "PPO's first ratio": first_ratio,
}


@cache
def row(name: str) -> tuple[str, dict[str, str]]:
    """A row of the table, and the lines of what is refused by column, without their numbers and without what libraries say."""
    lm, cells, lines = model(name), [], {}
    for column, right in COLUMNS.items():
        try:
            cells.append("exact" if right(lm) else "WRONG")
        except UserError as error:
            assert str(error).startswith(f"{name}: ") or "layer ensemble" in str(error), str(error)
            text = re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)$", "", str(error).removeprefix(f"{name}: "))
            lines[column] = re.sub(r"\d[\d.e+-]*|\bnan\b", "…", text)
            cells.append("refused")
    return f"| {name} | {' | '.join(cells)} |", lines


def because(name: str) -> list[str]:
    """The lines below the table about one architecture: columns that are refused for one reason together."""
    columns: dict[str, list[str]] = {}
    for column, line in row(name)[1].items():
        columns.setdefault(line, []).append(column)
    return [f"- {name} ({', '.join(names)}): {line}" for line, names in columns.items()]


def page() -> str:
    """docs/architectures.md."""
    names = [*MODELS, *MORE]
    table = [f"| architecture | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|", *(row(name)[0] for name in names)]
    return "\n".join([ABOUT, *table, "", "## What is refused, and why", "", *(line for name in names for line in because(name)), ""])


ABOUT = """# Which architectures are mixed exactly

Tried on small random models of each architecture, with three random adapters: what the package replies, against every text read by the
`transformers` model on its own, whole, without padding or cache, and mixed by hand. **exact**: the same words, whatever the size of the
weights; for averages the same change of every matrix; for PPO the same probability of every sampled token. **refused**: one line that names
the model, the property and a number. The page is printed by `python tests/test_architectures.py`, and a test holds it to what a run finds.

A head's bias (phi, gptj) is added once: weights are divided by their sum. A scale after the head (granite, cohere) is applied before
probabilities and samples are taken. A cap (gemma2) is done to the mixture by the model itself, which leaves greedy replies what they are.

`narrow`: layers look back on fewer tokens than a text has. `longrope`: made for short texts here, so that its second set of positions would
be needed. No architecture is known by its name: a model is examined when it is loaded for mixing (`emorl_lite/lm/examination.py`).
"""


@pytest.mark.parametrize("name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in [*MODELS, *MORE]])
def test_the_table_is_what_a_run_finds(name):
    """Exact or refused, never wrong; and as the page has it."""
    found, lines = row(name)[0], PAGE.read_text(encoding="utf-8").splitlines()
    print(found, *because(name), sep="\n")
    assert "WRONG" not in found
    assert found in lines
    assert [line for line in lines if line.startswith(f"- {name} (")] == because(name)


def test_the_page_has_all_of_the_table():
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(ABOUT) and [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")][1:] == [
        *MODELS,
        *MORE,
    ]


@pytest.mark.parametrize("name", MODELS)
def test_what_follows_a_head_is_found(name):
    facts = head_facts(model(name))
    kind = HEADS.get(name, "nothing")
    assert facts.bias == (kind == "bias")
    assert facts.after == ("nothing" if kind == "bias" else kind)
    assert (facts.difference > 0.1) == (facts.after != "nothing")
    expected = {"granite": 1 / 3, "cohere": 0.25}.get(name, 1.0)
    assert facts.scale == pytest.approx(expected)


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


def test_a_model_that_was_changed_is_examined_again():
    lm = model("granite")
    assert head_facts(lm).scale == pytest.approx(1 / 3)
    lm.base.config.logits_scaling = 2.0
    assert head_facts(lm).scale == pytest.approx(1 / 2)
    lm = model("phi")
    assert head_facts(lm).bias
    lm.head.bias.data.zero_()
    assert not head_facts(lm).bias


def test_a_scale_that_is_set_after_an_ensemble_was_made_is_applied():
    lm = model("granite")
    ensemble = EnsembleLM(lm, tiny.ADAPTERS, mix="probabilities")
    lm.base.config.logits_scaling = 1.0
    assert ensemble.reply(tiny.PROMPTS, WEIGHTS[0]) == replies_by_hand(lm, WEIGHTS[0], "probabilities")


def test_a_model_that_misreads_a_batch_is_not_evaluated_either():
    lm = model("roberta")
    for policy in ("base", FIRST):
        with pytest.raises(UserError, match="roberta: a prompt padded in a batch is not read as it is alone"):
            policy_replies(lm, policy, tiny.PROMPTS)


def test_an_examination_is_not_repeated_and_leaves_no_trace(monkeypatch):
    lm = model("llama")
    lm.model.train()
    lm.use(tiny.ADAPTERS[1])
    before, noise = {name: p.clone() for name, p in lm.model.state_dict().items()}, torch.get_rng_state()
    EnsembleLM(lm, tiny.ADAPTERS)
    PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS)
    assert lm.model.active_adapter == tiny.ADAPTERS[1] and lm.model.training
    assert torch.equal(noise, torch.get_rng_state())
    assert all(torch.equal(p, before[name]) for name, p in lm.model.state_dict().items())
    monkeypatch.setattr(lm.base, "forward", None)  # a pass would fail
    EnsembleLM(lm, tiny.ADAPTERS)
    PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS)
    examine(lm)


if __name__ == "__main__":
    print(page(), end="")
