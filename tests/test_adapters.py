"""Adapters of any make: those that can be mixed are mixed exactly, the others end in one line, and a broken file leaves no trace."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import (
    AdaLoraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoraConfig,
    LoraGAConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
)
from peft.tuners.lora.config import BdLoraConfig, CordaConfig, KasaConfig, MontecloraConfig, VeloraConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.utils.hotswap import prepare_model_for_compiled_hotswap
from safetensors.torch import load_file, save_file
from tiny import PROMPTS
from transformers import MixtralConfig, MixtralForCausalLM

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig
from emorl_lite.base.quiet import quietly
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.layers import LayerEnsemble
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.lm.adapter_files import WEIGHTS, adapter_tensors, merge_warm_start
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import folded, lora_layers
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import collect

# -- plain LoRA of every make: all ways agree with peft's own forward

TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "t5": ["q", "k", "v", "o", "wi", "wo"],
}
LAYERS = {"llama": "layers", "gpt2": "h", "t5": "block"}


@dataclass
class Make:
    """One drawn configuration."""

    targets: list[str]
    r: int
    alpha: int
    rslora: bool
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, int] = field(default_factory=dict)
    layers: list[int] | None = None
    regex: bool = False
    exclude: bool = False
    init: Any = True

    def __post_init__(self) -> None:
        self.ranks, self.alphas = (
            {key: x for key, x in pattern.items() if key.rsplit(".", 1)[-1] in self.targets} for pattern in (self.ranks, self.alphas)
        )

    def config(self, kind: str) -> LoraConfig:
        targets = rf".*\.({'|'.join(self.targets)})" if self.regex else self.targets
        without = rf".*\.0\..*\.{self.targets[0]}" if self.exclude and self.layers is None else None
        places = {} if self.layers is None or self.regex else {"layers_to_transform": self.layers, "layers_pattern": LAYERS[kind]}
        return LoraConfig(
            r=self.r, lora_alpha=self.alpha, use_rslora=self.rslora, rank_pattern=self.ranks, alpha_pattern=self.alphas,
            target_modules=targets, exclude_modules=without, init_lora_weights=self.init, lora_dropout=0.25, **places,
        )  # fmt: skip

    def scale(self, layer: str) -> float:
        """s of a layer, from LoRA's definition."""
        r, alpha = (
            next((x for key, x in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", layer)), default)
            for pattern, default in ((self.ranks, self.r), (self.alphas, self.alpha))
        )
        return alpha / (math.sqrt(r) if self.rslora else r)


def makes(kind: str) -> st.SearchStrategy[Make]:
    names = st.sampled_from(TARGETS[kind])
    places = names | names.map(lambda name: rf"^.*\.0\..*\.{name}")  # of all layers, or of the first
    return st.builds(
        Make,
        targets=st.lists(names, min_size=1, max_size=4, unique=True),
        r=st.sampled_from([2, 4, 6, 40]),
        alpha=st.integers(-3, 12),
        rslora=st.booleans(),
        ranks=st.dictionaries(places, st.sampled_from([2, 8]), max_size=2),
        alphas=st.dictionaries(places, st.integers(-9, 9), max_size=2),
        layers=st.sampled_from([None, [0], [1]]),
        regex=st.booleans(),
        exclude=st.booleans(),
        init=st.sampled_from([True, False, "gaussian", "orthogonal", "eva"]),
    )


def put_in(lm: LanguageModel, name: str, config: PeftConfig) -> None:
    """Add an adapter by peft alone, as a reader's own code does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(lm.model, PeftModel):
            lm.model.add_adapter(name, config)
        else:
            lm.model = get_peft_model(lm.model, config, adapter_name=name)
    lm.model.eval()


def double_model(kind: str, configs: list[LoraConfig]) -> tuple[LanguageModel, list[str]]:
    """A tiny model in float64 with random adapters of these configurations."""
    lm = tiny.language_model(kind)
    lm.model.double()
    names = [f"x{i}" for i in range(len(configs))]
    for name, config in zip(names, configs, strict=True):
        put_in(lm, name, config)
    generator = torch.Generator().manual_seed(5)
    for name in names:
        for x in adapter_tensors(lm.model, name).values():
            x.data.copy_(torch.randn(x.shape, generator=generator, dtype=x.dtype) * 0.2)
    return lm, names


@torch.no_grad()
def logits(lm: LanguageModel) -> torch.Tensor:
    return lm.forward_reply(lm.encode(PROMPTS), *lm.encode_replies(["w3 w4 w5", "w6", "w7 w8", "w9 w10 w11"]))[0]


def equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(one, two, atol=1e-8, rtol=1e-8)


def recorded(tree: PrefixTree) -> list[torch.Tensor]:
    """The logits [R, N, V] of each pass of a tree, from now on; those of the empty replies come first."""
    kept, plain = [], tree.readers.all[0].model.logits

    def logits_of(hidden: torch.Tensor) -> torch.Tensor:
        kept.append(plain(hidden))
        return kept[-1]

    tree.readers.all[0].model.logits = logits_of  # type: ignore[method-assign]
    return kept


@pytest.mark.filterwarnings("ignore:`init_lora_weights` is 'eva'")
@tiny.kinds()
@settings(max_examples=5)
@given(data=st.data())
def test_all_ways_agree_with_pefts_own_forward(kind, data):
    drawn = data.draw(st.lists(makes(kind), min_size=2, max_size=3))
    lm, names = double_model(kind, [make.config(kind) for make in drawn])
    ensemble, one_hot = EnsembleLM(lm, names), torch.eye(len(names)).tolist()
    given_replies = lm.encode(PROMPTS), *lm.encode_replies(["w3 w4 w5", "w6", "w7 w8", "w9 w10 w11"])
    tree = PrefixTree(lm, names, PROMPTS)
    passes = recorded(tree)
    replies = tree.replies(one_hot)
    for i, name in enumerate(names):
        lm.use(name)
        alone, alone_replies = logits(lm), lm.reply(PROMPTS)
        with torch.no_grad():
            assert equal(ensemble.forward_reply(*given_replies, weights=one_hot[i])[0], alone)
        assert equal(passes[0][:, i], alone[:, 0])
        assert [row[i] for row in replies] == alone_replies
        lm.model.train()
        with folded(lm):  # without the adapters' dropout
            assert equal(logits(lm), alone)
        lm.model.eval()
        average_parameters(lm, names, one_hot[i])
        lm.use("average")
        assert equal(logits(lm), alone)

    weights = [0.75, 0.5, 0.25][: len(names)]  # no rounding in float32
    average_parameters(lm, names, weights)
    lm.use("average")
    average = logits(lm)
    with folded(lm):
        assert equal(logits(lm), average)
    with torch.no_grad(), lm.without_adapters():  # W0 + sum_i w_i s_i B_i A_i, written into the base
        for key, layer in lm.base.named_modules():
            if layer in set(lora_layers(lm)):
                for name, make, w in zip(names, drawn, weights, strict=True):
                    if name in layer.lora_A:
                        change = w * make.scale(key) * layer.lora_B[name].weight @ layer.lora_A[name].weight
                        layer.base_layer.weight += change.T if kind == "gpt2" else change
        assert equal(logits(lm), average)


def test_an_adapter_of_fewer_layers_than_anothers():
    """The first one is the shorter one: what the average copies of its configuration must not hide the other's layers."""
    short, whole = Make(["q_proj"], 2, 4, False, layers=[1]), Make(["q_proj", "up_proj"], 3, 5, True)
    lm, names = double_model("llama", [short.config("llama"), whole.config("llama")])
    average_parameters(lm, names, (0.0, 1.0))
    lm.use(names[1])
    expected = logits(lm)
    lm.use("average")
    assert equal(logits(lm), expected)
    lm.use(names[0])
    expected = logits(lm)
    with folded(lm):
        assert equal(logits(lm), expected)


# -- all other kinds end in one line


OTHER_KINDS = {
    "lora_bias": LoraConfig(target_modules=["c_attn"], lora_bias=True),
    "bias": LoraConfig(target_modules=["c_attn"], bias="all"),
    "bias ": LoraConfig(target_modules=["c_attn"], bias="lora_only"),
    "trainable_token_indices": LoraConfig(target_modules=["c_attn"], trainable_token_indices=[3, 4]),
    "init_lora_weights": LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights="pissa"),
    "init_lora_weights ": LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights="olora"),
    "use_dora": LoraConfig(target_modules=["c_attn"], use_dora=True),
    "modules_to_save": LoraConfig(target_modules=["c_attn"], modules_to_save=["ln_f"]),
    "wte, no linear layer but Embedding": LoraConfig(target_modules=["wte", "c_attn"]),
    "lm_head, the LM head": LoraConfig(target_modules=["lm_head", "c_attn"]),
    "target_parameters": LoraConfig(target_modules=["q_proj"], target_parameters=["k_proj.weight"]),
    "alora_invocation_tokens": LoraConfig(target_modules=["c_attn"], alora_invocation_tokens=[4], task_type="CAUSAL_LM"),
    "layer_replication": LoraConfig(target_modules=["q_proj"], layer_replication=[(0, 2), (0, 2)]),
    "peft_type is 'LOHA'": LoHaConfig(r=2, target_modules=["q_proj"]),
    "peft_type is 'PROMPT_TUNING'": PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    "peft_type is 'PREFIX_TUNING'": PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    "peft_type is 'IA3'": IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    "peft_type is 'ADALORA'": AdaLoraConfig(target_modules=["q_proj"], total_step=9),
    "peft_type is 'OFT'": OFTConfig(oft_block_size=4, target_modules=["q_proj"]),
    "peft_type is 'VERA'": VeraConfig(r=4, target_modules=["q_proj"]),
    "peft_type is 'LN_TUNING'": LNTuningConfig(target_modules=["ln_f"]),
    "peft_type is 'TRAINABLE_TOKENS'": TrainableTokensConfig(token_indices=[3], target_modules=["wte"]),
    "init_lora_weights is 'pissa_niter_4'": LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa_niter_4"),
    "init_lora_weights is 'corda'": LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="corda", corda_config=CordaConfig()),
    "init_lora_weights is 'lora_ga'": LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()
    ),
    "init_lora_weights is 'mica'": LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="mica"),
    "velora_config": LoraConfig(target_modules=["q_proj"], velora_config=VeloraConfig(num_groups=4)),
    "kasa_config": LoraConfig(r=2, target_modules=["q_proj"], kasa_config=KasaConfig()),
    "use_bdlora": LoraConfig(target_modules=["q_proj"], use_bdlora=BdLoraConfig(target_modules_bd_a=["q_proj"], nblocks=2)),
    "monteclora_config": LoraConfig(target_modules=["q_proj"], monteclora_config=MontecloraConfig()),
    "trainable_token_indices ": LoraConfig(target_modules=["c_attn"], trainable_token_indices=[]),
}
CHANGE_ALL = {
    "bias",
    "trainable_token_indices",
    "init_lora_weights",
    "modules_to_save",
    "target_parameters",
    "alora_invocation_tokens",
    "layer_replication",
}


def with_one(config) -> LanguageModel:
    """A GPT-2 (its layers have biases) or Llama with an adapter "odd" of this kind and, where peft can have both, two plain ones."""
    llama = "q_proj" in (getattr(config, "target_modules", None) or ())
    lm = tiny.language_model("llama" if llama else "gpt2")
    config = copy.deepcopy(config)
    if getattr(config, "init_lora_weights", None) == "corda":
        preprocess_corda(lm.model, config, run_model=lambda: lm.model(lm.encode(PROMPTS[:1]).ids))
    put_in(lm, "odd", config)
    if type(config) is LoraConfig and not config.kasa_config:  # peft refuses others beside it itself
        for name in ("plain", "other"):
            put_in(lm, name, LoraConfig(r=2, target_modules=["up_proj" if llama else "c_fc"], init_lora_weights=False))
    return lm


QUICK = PPOConfig(episodes=8, batch_size=4, minibatch_size=4)


def ways(lm: LanguageModel, names: list[str]) -> dict[str, Any]:
    several = {
        "ensemble": lambda: EnsembleLM(lm, names),
        "layers": lambda: LayerEnsemble(lm, names, 1),
        "tree": lambda: PrefixTree(lm, names, PROMPTS),
    }
    return {
        **(several if len(names) > 1 else {}),
        "exact": lambda: average_parameters(lm, names, [1 / len(names)] * len(names)),
        "soup": lambda: average_parameters(lm, names, [1 / len(names)] * len(names), how="soup"),
        "fold": lambda: folded(lm).__enter__(),
        "keep": lambda: lm.save_adapter("odd", "nowhere"),
        "ppo": lambda: PPOTrainer(lm, "odd", lambda *_: torch.ones(4), PROMPTS, QUICK, progress=False, start_from_loaded=True),
    }


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_are_refused_everywhere(kind):
    lm = with_one(OTHER_KINDS[kind])
    lm.model.set_adapter("odd")
    names = lm.adapters
    for way, call in ways(lm, names).items():
        with pytest.raises(UserError, match=rf"adapter 'odd'.*{kind.strip()}") as told:
            call()
        assert "\n" not in str(told.value), way


@pytest.mark.parametrize("kind", [kind for kind in OTHER_KINDS if kind.strip() in CHANGE_ALL])
def test_what_changes_the_base_for_all_is_refused_beside_others(kind):
    lm = with_one(OTHER_KINDS[kind])
    names = ["plain", "other"]
    for call in (lambda: EnsembleLM(lm, names), lambda: average_parameters(lm, names, [1.0, 1.0])):
        with pytest.raises(UserError, match=rf"adapter 'odd' is in the same model, and its {kind.strip()}"):
            call()


# -- adapters that somebody has changed in the model


def with_adapters() -> tuple[LanguageModel, list[str]]:
    lm = tiny.language_model("llama", adapters=2)
    return lm, lm.adapters


def check_one_hot(lm: LanguageModel, names: list[str]) -> None:
    """Ensemble, average and folding agree with peft's own forward."""
    given_replies = lm.encode(PROMPTS), *lm.encode_replies(["w3 w4 w5", "w6", "w7 w8", "w9 w10 w11"])
    for name, hot in zip(names, torch.eye(len(names)).tolist(), strict=True):
        lm.use(name)
        alone = logits(lm)
        with torch.no_grad():
            assert torch.allclose(EnsembleLM(lm, names).forward_reply(*given_replies, weights=hot)[0], alone, atol=1e-3)
        with folded(lm):
            assert torch.allclose(logits(lm), alone, atol=1e-3)
        average_parameters(lm, names, hot)
        lm.use("average")
        assert torch.allclose(logits(lm), alone, atol=1e-3)
        lm.remove_adapter("average")


def test_a_scale_set_by_hand_is_mixed_and_not_kept(kept, tmp_path):
    lm, names = with_adapters()
    lm.load_adapter(kept / "empathy", "loaded")
    fresh = logits(lm)
    for layer in lora_layers(lm):
        layer.set_scale("loaded", 3.0)
    check_one_hot(lm, [*names, "loaded"])
    with pytest.raises(UserError, match=r"adapter 'loaded': its .* has rank 4 and scale 6 in the model, 4 and 2 by its configuration"):
        lm.save_adapter("loaded", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    lm.load_adapter(kept / "empathy", "loaded")
    assert torch.equal(logits(lm), fresh)


def test_ranks_padded_for_hot_swaps_and_weighted_adapters_are_mixed():
    lm, names = with_adapters()
    lm.model.add_weighted_adapter(names, [0.7, -0.3], "sum", combination_type="cat")
    prepare_model_for_compiled_hotswap(lm.model, target_rank=16)
    check_one_hot(lm, [*names, "sum"])


def test_several_active_adapters_and_frozen_ones_stay_so():
    lm, names = with_adapters()
    lm.model.base_model.set_adapter(names)
    lm.model.requires_grad_(False)
    both = logits(lm)
    with folded(lm):
        assert torch.allclose(logits(lm), both, atol=1e-4)
    EnsembleLM(lm, names)
    PrefixTree(lm, names, PROMPTS)
    average_parameters(lm, names, [1.0, 1.0], "sum")
    assert torch.equal(logits(lm), both) and lm.model.active_adapters == names
    assert not any(p.requires_grad for p in lm.model.parameters())
    lm.use("sum")
    assert torch.allclose(logits(lm), both, atol=1e-4)


def test_weights_that_layers_share_are_folded_for_each():
    lm = tiny.language_model("llama")
    first, second = lm.base.model.layers
    second.self_attn.q_proj.weight = first.self_attn.q_proj.weight
    for name in ("one", "two"):
        lm.add_adapter(name)
    check_one_hot(tiny.with_random_adapters(lm), ["one", "two"])


def coarse(lm: LanguageModel) -> None:
    for x in adapter_tensors(lm.model, "empathy").values():
        x.data = x.data.bfloat16()


def own_forward(lm: LanguageModel) -> None:
    for layer in lora_layers(lm):
        layer.base_layer.__class__ = type("Own", (torch.nn.Linear,), {"forward": lambda self, x: torch.nn.Linear.forward(self, x) * 2})


def used_twice(lm: LanguageModel) -> None:
    layers = lm.base.model.layers
    layers[1].self_attn.k_proj = layers[0].self_attn.k_proj.base_layer


CHANGED = {
    "switched off": (lambda lm: lm.model.base_model.disable_adapter_layers(), "switched off"),
    "merged": (lambda lm: lm.model.merge_adapter(), "merged into the base"),
    "merged and unloaded": (lambda lm: lm.model.merge_and_unload(), "no longer in the model"),
    "in half precision": (coarse, "is bfloat16 on weights of float32"),
    "layers of their own kind": (own_forward, "no linear layer but Own"),
    "a layer used twice": (used_twice, "uses at another place"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_a_user_has_done_to_adapters_is_told(case):
    lm, names = with_adapters()
    lm.use("empathy")
    change, message = CHANGED[case]
    change(lm)
    more: dict[str, Any] = {"kept": lambda: lm.save_adapter("empathy", "nowhere")}
    if case == "merged":  # PEFT takes it out of the weights when the base is read
        more["rollout"] = lambda: collect(lm, lm.encode(PROMPTS), 1, 1.0, 4)
    for way, call in (ways(lm, names) | more).items():
        if way not in ("ppo", "keep"):
            with pytest.raises(UserError, match=message) as told:
                call()
            assert "\n" not in str(told.value), way
    if case == "merged":
        with pytest.raises(UserError, match=message):
            lm.remove_adapter("empathy")


def test_only_one_wrapper_is_accepted():
    def config() -> LoraConfig:
        return LoraConfig(target_modules=["q_proj"])

    plain = tiny.language_model("llama")
    native = tiny.network("llama")
    native.add_adapter(config(), "x")
    for model in (
        native,
        quietly(get_peft_model)(tiny.network("llama"), config(), mixed=True),
        quietly(get_peft_model)(tiny.language_model("llama", adapters=1).model, config(), "outer"),
        torch.compile(tiny.network("llama")),
        quietly(get_peft_model)(tiny.network("llama"), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")),
    ):
        with pytest.raises(UserError) as told:
            LanguageModel(model, plain.tokenizer, plain.config)
        assert "\n" not in str(told.value)


def test_pissa_turned_into_plain_lora_by_peft_is_loaded_exactly(tmp_path):
    lm = tiny.language_model("llama")
    put_in(lm, "default", LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM"))
    lm.model.save_pretrained(tmp_path / "start")
    for x in adapter_tensors(lm.model, "default").values():
        x.data += 0.1
    lm.model.save_pretrained(tmp_path / "trained", path_initial_model_for_weight_conversion=tmp_path / "start")
    with pytest.raises(UserError, match=r"init_lora_weights .* has changed the base for good"):
        lm.remove_adapter("default")
    plain = tiny.language_model("llama")
    plain.load_adapter(tmp_path / "trained", "new")
    assert torch.allclose(logits(plain), logits(lm), atol=1e-3)


def test_keeping_one_adapter_leaves_what_else_is_in_the_folder(tmp_path):
    lm = tiny.language_model("llama", adapters=1, store="float16")
    lm.add_adapter("default")
    (tmp_path / "README.md").write_text("mine")
    lm.save_adapter("reflection", tmp_path / "default")
    lm.save_adapter("default", tmp_path)
    assert {file.name for file in (tmp_path / "default").iterdir()} == {WEIGHTS, "adapter_config.json", "base.json"}
    assert (tmp_path / "README.md").read_text() == "mine"
    adapter_tensors(lm.model, "default").popitem()[1].data.fill_(1e30)
    with pytest.raises(UserError, match="too large for float16"):
        lm.save_adapter("default", tmp_path)


# -- files


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A folder with two adapters of the tiny Llama."""
    root = tmp_path_factory.mktemp("kept")
    lm = tiny.language_model("llama", adapters=2)
    for name in lm.adapters:
        lm.save_adapter(name, root / name)
    return root


def state(lm: LanguageModel) -> dict[str, Any]:
    """All that a failed load must leave as it was."""
    wrapped = isinstance(lm.model, PeftModel)
    return {
        "class": type(lm.model).__name__,
        "adapters": lm.adapters,
        "active": lm.model.active_adapters if wrapped else None,
        "trainable": [name for name, p in lm.model.named_parameters() if p.requires_grad],
        "weights": {key: x.clone() for key, x in lm.model.state_dict().items()},
        "modules": [f"{key} {type(module).__name__}" for key, module in lm.model.named_modules()],
        "training": lm.model.training,
        "origin": dict(lm.origin),
        "peft_config": hasattr(lm.base, "peft_config"),
        "replies": lm.reply(PROMPTS),
    }


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> bool:
    weights, now = before.pop("weights"), after.pop("weights")
    return before == after and weights.keys() == now.keys() and all(torch.equal(x, now[key]) for key, x in weights.items())


def edit(**changes: Any):
    """Change fields of the configuration."""

    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def tensors(change):
    """Change the tensors: a function of (state, the name of one of them)."""

    def rewrite(folder: Path) -> None:
        held = {key: x.clone() for key, x in load_file(folder / WEIGHTS).items()}
        change(held, next(key for key in sorted(held) if "layers.1.mlp.up_proj.lora_B" in key))
        save_file(held, folder / WEIGHTS)

    return rewrite


ONE = "layers.1.mlp.up_proj.lora_B.weight"


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n")


def without(folder: Path, key: str) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name != key}))


def put(value: float):
    return tensors(lambda held, key: held[key].view(-1)[3:4].fill_(value))


BROKEN = {
    "a missing tensor": (tensors(lambda held, key: held.pop(key)), rf"lacks .*{ONE}, which"),
    "half of them missing": (tensors(lambda held, key: [held.pop(k) for k in sorted(held)[::2]]), r"lacks .*lora_A.weight and \d+ more"),
    "no tensors": (tensors(lambda held, key: held.clear()), "lacks"),
    "one too many": (tensors(lambda held, key: held.update({key.replace("up_proj", "up"): held[key].clone()})), "mlp.up.lora_B.weight is"),
    "integers": (tensors(lambda held, key: held.update({key: held[key].to(torch.int8)})), rf"{ONE} is of type int8"),
    "another shape": (tensors(lambda held, key: held.update({key: held[key][:5].clone()})), rf"{ONE} has the shape \[5, 4\], expected"),
    "NaN": (put(float("nan")), rf"{ONE} holds NaN or infinity"),
    "infinity": (put(float("-inf")), rf"{ONE} holds NaN or infinity"),
    "too large a number": (tensors(lambda held, key: held.update({key: held[key].double().fill_(1e300)})), rf"{ONE} holds NaN or infinity"),
    "cut off": (cut, "adapter_model.safetensors is broken or cut off"),
    "empty": (lambda folder: (folder / WEIGHTS).write_bytes(b""), "adapter_model.safetensors is broken or cut off"),
    "an LFS pointer": (pointer, "adapter_model.safetensors: .* is a Git LFS pointer"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "holds no adapter_model.safetensors"),
    "a pickle": (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), "adapter_model.bin is a pickle"),
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), "holds no adapter_config.json"),
    "half a configuration": (lambda folder: (folder / "adapter_config.json").write_text('{"r": 4,'), "adapter_config.json is broken"),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[4]"), "adapter_config.json is broken"),
    "no rank": (edit(r=0), "adapter_config.json is broken .a rank"),
    "no scale": (edit(lora_alpha=float("nan")), "adapter_config.json is broken .a lora_alpha"),
    "another rank": (edit(r=3), "has the shape"),
    "more layers than its tensors": (edit(target_modules=["q_proj"]), "is unknown"),
    "targets that the model lacks": (edit(target_modules=["c_attn"]), "does not fit tiny-llama"),
    "DoRA": (edit(use_dora=True), "only plain LoRA .*use_dora is True"),
    "an initialisation that changes the base": (edit(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "another one": (edit(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}), "is 'loftq'|loftq_config is"),
    "an empty configuration of a variant": (edit(kasa_config={}), "kasa_config is {}"),
    "an empty list of tokens": (edit(trainable_token_indices=[]), r"trainable_token_indices is \[\]"),
    "no lora_alpha": (lambda folder: without(folder, "lora_alpha"), "adapter_config.json is broken .it lacks 'lora_alpha'"),
    "no alpha_pattern": (lambda folder: without(folder, "alpha_pattern"), "adapter_config.json is broken .it lacks 'alpha_pattern'"),
    "a switch as text": (edit(use_rslora="false"), "adapter_config.json is broken .use_rslora"),
    "a rank as text": (edit(r="4"), "adapter_config.json is broken .a rank"),
    "ranks as a list": (edit(rank_pattern=[]), "adapter_config.json is broken .rank_pattern"),
    "a rank beyond any memory": (edit(r=10**9), "promises rank 1000000000"),
    "a wrong expression": (edit(target_modules="(("), "does not fit tiny-llama"),
    "a configuration without end": (lambda folder: (folder / "adapter_config.json").write_text('{"r":' * 10**5), "config.json is broken"),
    "a configuration in other bytes": (lambda folder: (folder / "adapter_config.json").write_bytes(b"\xff{}"), "config.json is broken"),
    "a folder for a file": (lambda folder: [(folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir()], "holds no adapter_model.safetensors"),
    "a key of two lines": (tensors(lambda held, key: held.update({"two\nlines": held[key].clone()})), "is unknown"),
    "another kind": (edit(peft_type="LOHA"), "peft_type is 'LOHA'"),
    "another task": (edit(task_type="SEQ_CLS"), "task_type is 'SEQ_CLS'"),
    "a property of tomorrow": (edit(use_nova=True), "use_nova is True"),
    "embeddings": (edit(target_modules=["embed_tokens"]), "embed_tokens, no linear layer but Embedding"),
    "a broken probe": (lambda folder: (folder / "base.json").write_text('{"values": 3}'), "another base|base.json is broken"),
    "half a probe": (lambda folder: (folder / "base.json").write_text('{"values'), "base.json is broken"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("loaded", [0, 2], ids=["first", "third"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_told_and_leaves_no_trace(case, loaded, kept, tmp_path):
    change, message = BROKEN[case]
    folder = shutil.copytree(kept / "empathy", tmp_path / "broken")
    change(folder)
    lm = tiny.language_model("llama", adapters=loaded)
    before = state(lm)
    with pytest.raises(UserError, match=message) as told:
        lm.load_adapter(folder, "new")
    assert "'new'" in str(told.value) and str(folder) in str(told.value) and "\n" not in str(told.value)
    assert unchanged(before, state(lm))
    lm.load_adapter(kept / "empathy", "new")
    assert lm.model.active_adapter == "new" and lm.adapters[-1] == "new"


@settings(max_examples=15)
@given(data=st.data())
def test_damage_anywhere_is_told_or_harms_nothing(kept, tmp_path_factory, data):
    """One byte of the header or of the configuration is another, or the file ends somewhere."""
    folder = shutil.copytree(kept / "empathy", tmp_path_factory.mktemp("damaged") / "folder")
    name = data.draw(st.sampled_from([WEIGHTS, "adapter_config.json"]))
    held = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, min(len(held), 3000) - 1))
    if data.draw(st.booleans()):
        held = held[:place]
    else:
        held[place] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(held)
    lm = tiny.language_model("llama")
    before = state(lm)
    try:
        lm.load_adapter(folder, "new")
    except UserError as error:
        assert "\n" not in str(error) and unchanged(before, state(lm))
    else:
        assert all(x.isfinite().all() for x in adapter_tensors(lm.model, "new").values())


@pytest.mark.parametrize("folder", [None, 3, b"x", "\0", "x" * 5000, "nobody/nothing"])
def test_what_is_no_folder(folder):
    lm = tiny.language_model("llama")
    with pytest.raises(UserError, match="adapter 'new'") as told:
        lm.load_adapter(folder, "new")
    assert "\n" not in str(told.value) and lm.adapters == []


def test_a_layer_that_only_the_failed_adapter_changes_is_unwrapped(kept, tmp_path):
    lm = tiny.language_model("llama")
    put_in(lm, "narrow", LoraConfig(target_modules=["o_proj"]))
    before = state(lm)
    folder = shutil.copytree(kept / "empathy", tmp_path / "broken")
    put(float("nan"))(folder)
    with pytest.raises(UserError, match="NaN"):
        lm.load_adapter(folder, "new")
    assert unchanged(before, state(lm))


def test_another_base_is_told(kept):
    lm = tiny.language_model("llama", seed=7)
    before = state(lm)
    with pytest.raises(UserError, match=r"'new' in .*empathy was trained on another base model than tiny-llama"):
        lm.load_adapter(kept / "empathy", "new")
    assert unchanged(before, state(lm))
    with pytest.raises(UserError, match="another base model"):
        tiny.language_model("gpt2").load_adapter(kept / "empathy", "new")


def test_an_adapter_made_elsewhere_is_loaded_and_fits_or_is_told(kept, tmp_path, capsys):
    """It has no probe of its base, a base's name, and a task of its own."""
    folder = shutil.copytree(kept / "empathy", tmp_path / "elsewhere")
    (folder / "base.json").unlink()
    edit(base_model_name_or_path="someone/llama", task_type=None)(folder)
    lm = tiny.language_model("llama")
    lm.load_adapter(folder, "new")
    expected = load_file(kept / "empathy" / WEIGHTS)
    assert all(torch.equal(x, expected[key].float()) for key, x in adapter_tensors(lm.model, "new").items()) and lm.reply(PROMPTS)
    assert re.fullmatch(r"adapter 'new' in .*elsewhere: made for the base someone/llama, put on tiny-llama; .*\n", capsys.readouterr().err)
    with pytest.raises(UserError, match=r"'new' in .* does not fit tiny-gpt2"):
        tiny.language_model("gpt2").load_adapter(folder, "new")


def test_a_warm_start_is_examined_too(kept, tmp_path):
    folder = shutil.copytree(kept / "empathy", tmp_path / "broken")
    put(float("nan"))(folder)
    with pytest.raises(UserError, match=rf"warm start '{re.escape(str(folder))}': .*{ONE} holds NaN"):
        merge_warm_start(tiny.network("llama"), str(folder), "tiny")
    merged = merge_warm_start(tiny.network("llama"), str(kept / "empathy"), "tiny")
    lm = tiny.language_model("llama")
    lm.load_adapter(kept / "empathy", "new")
    with torch.no_grad():
        ids = lm.encode(PROMPTS).ids
        assert torch.allclose(merged(ids).logits, lm.model(ids).logits, atol=1e-4) and not isinstance(merged, PeftModel)


# -- names


def test_a_name_that_is_taken_keeps_its_adapter(kept):
    lm = tiny.language_model("llama")
    lm.load_adapter(kept / "empathy", "one")
    lm.add_adapter("made", seed=5)
    before = state(lm)
    with pytest.raises(UserError, match=r"'one' is in the model already \(.*empathy\): load .*reflection under another name"):
        lm.load_adapter(kept / "reflection", "one")
    with pytest.raises(UserError, match=r"'made' is in the model already \(made in this process\)"):
        lm.load_adapter(kept / "reflection", "made")
    with pytest.raises(UserError, match="'one' is in the model already"):
        lm.add_adapter("one")
    assert unchanged(before, state(lm))


def test_the_same_folder_is_read_again_into_a_fresh_state(kept, tmp_path):
    folder = shutil.copytree(kept / "empathy", tmp_path / "run")
    lm = tiny.language_model("llama", adapters=1)
    lm.load_adapter(folder, "one")
    fresh = state(lm)
    for x in adapter_tensors(lm.model, "one").values():
        x.data.add_(1)
    changed = state(lm)
    put(float("nan"))(folder)
    with pytest.raises(UserError, match="NaN"):
        lm.load_adapter(folder, "one")
    assert unchanged(changed, state(lm))
    shutil.copytree(kept / "empathy", folder, dirs_exist_ok=True)
    lm.load_adapter(folder, "one")
    assert unchanged(fresh, state(lm))


def test_the_same_folder_with_an_adapter_of_another_rank(kept, tmp_path):
    other = tiny.language_model("llama")
    other.add_adapter("one", rank=2)
    tiny.with_random_adapters(other)
    folder = shutil.copytree(kept / "empathy", tmp_path / "run")
    lm = tiny.language_model("llama", adapters=1)
    lm.load_adapter(folder, "one")
    before = state(lm)
    other.save_adapter("one", folder)
    put(float("nan"))(folder)
    with pytest.raises(UserError, match="NaN"):
        lm.load_adapter(folder, "one")
    assert unchanged(before, state(lm))
    other.save_adapter("one", folder)
    lm.load_adapter(folder, "one")
    assert lm.reply(PROMPTS) == other.reply(PROMPTS) and lm.adapters == ["reflection", "one"]


@pytest.mark.parametrize(
    "name",
    [
        "v1.2",
        "",
        "  ",
        "lora",
        "lora_",
        "lora_A",
        "a/b",
        "keys",
        "mlp",
        "0",
        None,
        "base_layer",
        "__base__",
        " x",
        "x\n",
        "x" * 101,
        "Reflection",
    ],
)
def test_a_name_that_peft_cannot_have(name, kept):
    lm = tiny.language_model("llama", adapters=1)
    before = state(lm)
    with pytest.raises(UserError, match=r"^adapter ") as told:
        lm.load_adapter(kept / "empathy", name)
    assert repr(name)[:20] in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(UserError, match=r"^adapter "):
        lm.add_adapter(name)
    with pytest.raises(UserError, match=r"^adapter "):
        average_parameters(lm, ["reflection"], [1.0], name)
    assert unchanged(before, state(lm))


def test_names_that_hold_one_another_are_kept_apart(tmp_path):
    lm = tiny.language_model("llama")
    for i, name in enumerate(["emp", "empathy", "the empathy"]):
        lm.add_adapter(name, seed=i)
    tiny.with_random_adapters(lm)
    for name in lm.adapters:
        lm.save_adapter(name, tmp_path / name)
        held = load_file(tmp_path / name / WEIGHTS)
        assert {key: x.shape for key, x in held.items()} == {key: x.shape for key, x in adapter_tensors(lm.model, name).items()}
        assert all(torch.allclose(x, adapter_tensors(lm.model, name)[key], atol=1e-3) for key, x in held.items())


@tiny.kinds()
def test_an_adapter_is_taken_out_and_its_name_is_free(kind):
    """Also the active one, and the last: the model is then as if there had never been any."""
    lm = tiny.language_model(kind, adapters=2)
    plain = tiny.language_model(kind)
    lm.use("empathy")
    lm.remove_adapter("empathy")
    lm.remove_adapter("nobody's")
    assert lm.adapters == ["reflection"]
    lm.use("reflection")
    lm.remove_adapter("reflection")
    assert lm.adapters == [] and not lm.origin
    assert lm.reply(tiny.PROMPTS) == plain.reply(tiny.PROMPTS)
    lm.add_adapter("reflection", seed=0)
    assert lm.adapters == ["reflection"] and lm.reply(tiny.PROMPTS) == plain.reply(tiny.PROMPTS)


# -- experts that are parameters, numbers that went wrong, names that are none


def experts() -> LanguageModel:
    """A Mixtral, whose experts are parameters of three dimensions."""
    ids = {"vocab_size": len(tiny.WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    network = MixtralForCausalLM(MixtralConfig(**ids, **shape, num_local_experts=4, max_position_embeddings=64)).eval()
    return LanguageModel(network, tiny.tokenizer(), tiny.language_model("llama").config)


def test_experts_are_left_alone_and_the_layers_beside_them_changed(tmp_path):
    lm = experts()
    for name in ("one", "two"):
        lm.add_adapter(name, ranks={r".*\.0\..*": 2})
    assert len(lora_layers(lm)) == 8  # the projections of attention
    check_one_hot(tiny.with_random_adapters(lm), ["one", "two"])
    lm.use("one")
    lm.save_adapter("one", tmp_path)
    other = experts()
    other.load_adapter(tmp_path, "again")
    assert torch.allclose(logits(other), logits(lm), atol=1e-3)
    put_in(other, "theirs", LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    check_one_hot(other, ["again", "theirs"])
    put_in(other, "odd", LoraConfig(r=2, target_modules=["q_proj", "w2"]))
    with pytest.raises(UserError, match=r"adapter 'odd'.* target_parameters is"):
        EnsembleLM(other, ["again", "odd"])


def test_numbers_that_went_wrong_after_an_examination_are_told():
    lm = tiny.language_model("llama", adapters=3)
    ensemble, tree = EnsembleLM(lm, lm.adapters), PrefixTree(lm, lm.adapters, PROMPTS)
    lm.use("empathy")
    next(iter(adapter_tensors(lm.model, "empathy").values())).data[0, 0] = math.nan
    calls = [*ways(lm, lm.adapters).items(), ("reply", lambda: ensemble.reply(PROMPTS)), ("tree", lambda: tree.replies([[1.0, 1.0, 1.0]]))]
    for way, call in calls:
        if way not in ("keep", "ppo"):
            with pytest.raises(UserError, match=r"adapter 'empathy': its .*q_proj holds NaN or infinity"):
                call()


@pytest.mark.parametrize("how", ["exact", "soup"])
def test_an_average_beyond_all_numbers_is_not_made(how):
    lm = tiny.language_model("llama", adapters=2)
    for x in adapter_tensors(lm.model, "empathy").values():
        x.data.fill_(3e38)
    with pytest.raises(UserError, match="too large for the adapters' own type"):
        average_parameters(lm, lm.adapters, [0.5, 2.0], how=how)
    assert lm.adapters == ["reflection", "empathy"]


@pytest.mark.parametrize(
    "names", ["reflection", None, 3, ["reflection", None], ["reflection", ["empathy"]], {"reflection": 1, "empathy": 2}]
)
def test_adapters_come_in_a_list_of_names(names):
    lm = tiny.language_model("llama", adapters=2)
    for call in (lambda: EnsembleLM(lm, names), lambda: PrefixTree(lm, names, PROMPTS), lambda: average_parameters(lm, names, [1.0, 1.0])):
        with pytest.raises(UserError, match=r"^adapters?\b.*: expected a "):
            call()
    for container in (tuple, iter):
        assert EnsembleLM(lm, container(["reflection", "empathy"])).adapters == ["reflection", "empathy"]
