"""Adapters on the upper layers: what is below is read once for the base and all adapters, with the same numbers as if it were not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import ModelConfig, PPOConfig
from emorl_lite.ensemble import tree_model
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.lm.forward import lora_layers
from emorl_lite.lm.trunk import trunk_depth
from emorl_lite.training import ppo
from emorl_lite.training.rollout import collect, trim
from emorl_lite.training.run_folder import options_identity

REPLIES = ["w3 w4 w5", "w6", "", "w7 w8 w9 w10 […]"]
WEIGHTS = [(0.5, 0.3, 0.2), (1.0, 0.0, 0.5), (0.1, 0.1, 0.8)]
ONE = tiny.ADAPTERS[0]


def upper(kind: str = "llama", adapters: int = 1, **options):
    """A model of two layers whose adapters change the upper one."""
    lm = tiny.language_model(kind, adapters, layers="1", **options)
    lm.use(ONE)
    return lm


@tiny.kinds("llama", "gpt2", "qwen2")
def test_adapters_change_the_upper_layers_alone(kind):
    lm = upper(kind)
    names = [name for name, module in lm.base.named_modules() if module in set(lora_layers(lm))]
    assert names and all(".1." in name for name in names)
    assert trunk_depth(lm.base, [ONE]) == (1 if kind != "qwen2" else 0)
    lm.add_adapter("everywhere", layers="all")
    assert trunk_depth(lm.base, [ONE, "everywhere"]) == 0 and trunk_depth(lm.base, []) == 0


@pytest.mark.parametrize(("layers", "count"), [("all", 2), ("upper-half", 1), ("upper-third", 1), ("1", 1), ("2", 2)])
def test_a_share_of_the_layers_is_rounded_to_whole_ones(layers, count):
    lm = tiny.language_model("llama", 1, layers=layers)
    assert len(lora_layers(lm)) == 7 * count


@pytest.mark.parametrize(
    ("kind", "layers", "told"),
    [("t5", "1", "encoder-decoder"), ("llama", "9", "has 2 layers"), ("llama", "top", "expected all, upper-half")],
)
def test_layers_that_cannot_be_are_told_in_one_line(kind, layers, told):
    with pytest.raises(UserError, match=told) as error:
        tiny.language_model(kind, 1, layers=layers)
    assert str(error.value).startswith("--model.layers") and "\n" not in str(error.value)


def test_runs_made_before_the_option_are_the_same_runs():
    lm = tiny.language_model("llama")
    assert not any("layers" in key for key in options_identity(lm, PPOConfig()))
    lm.config = replace(lm.config, layers="upper-half")
    assert options_identity(lm, PPOConfig())["model.layers"] == "upper-half"
    assert ModelConfig().layers == "all"


@pytest.mark.parametrize("k", [1, 2])
@tiny.kinds("llama", "gpt2")
def test_a_rollout_keeps_what_the_trunk_made_and_the_rest_follows_from_it(kind, k):
    lm = upper(kind)
    rollout = collect(lm, lm.encode(tiny.PROMPTS), k, 1.0, batch_size=3)
    assert rollout.trunk is not None and rollout.trunk.depth == 1
    own = lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
    with lm.without_adapters():
        base = lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
    assert_close(rollout.logp, own.detach(), atol=1e-4, rtol=0)
    assert_close(rollout.ref_logp, base.detach(), atol=1e-4, rtol=0)
    rows = torch.tensor([2, 0, 3])
    inputs, tokens, mask = trim(rollout.inputs[rows]), rollout.tokens[rows], rollout.mask[rows]
    trained = [p for p in lm.model.parameters() if p.requires_grad]
    found = []
    for trunk in (rollout.trunk[rows], None):
        logits, hidden = lm.forward_tokens(inputs, tokens, mask, hidden=True, trunk=trunk)
        found.append([logits, hidden, *torch.autograd.grad(logits.log_softmax(-1)[..., 5].sum(), trained)])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, atol=1e-4 * float(theirs.detach().abs().max()) + 1e-6, rtol=1e-4)


def test_a_rollout_with_adapters_everywhere_keeps_none():
    lm = tiny.language_model("llama", 1)
    assert collect(lm, lm.encode(tiny.PROMPTS), 1, 1.0, 8).trunk is None


def length(_, replies):
    return torch.tensor([float(len(reply)) for reply in replies])


def test_training_above_a_trunk_is_the_training_that_reads_everything(monkeypatch):
    def train() -> torch.Tensor:
        lm = tiny.language_model("llama", layers="1", max_new_tokens=6)
        config = PPOConfig(episodes=16, batch_size=8, minibatch_size=4, epochs=2, lr=1e-2, validate_every=0)
        run = ppo.PPOTrainer(
            lm, "a", lambda _, replies: torch.tensor([float(len(r)) for r in replies]), tiny.PROMPTS, config, progress=False
        )
        log = run.train()
        assert log["first_ratio"].max() < 1e-3
        return torch.cat([p.detach().flatten() for p in run.parameters])

    once = train()
    monkeypatch.setattr("emorl_lite.training.rollout.trunk_depth", lambda *args: 0)
    assert_close(once, train(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("mix", ["hidden", "probabilities"])
@tiny.kinds("llama", "gpt2")
def test_an_ensemble_reads_its_trunk_once(kind, mix, monkeypatch):
    lm = upper(kind, 3)
    prompts, given = lm.encode(tiny.PROMPTS), lm.encode_replies(REPLIES)
    rows: dict[int, set[int]] = {}
    layers = lm.base.get_submodule({"llama": "model.layers", "gpt2": "transformer.h"}[kind])
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, i=i: rows.setdefault(i, set()).add(len(inputs[0])))
        for i, layer in enumerate(layers)
    ]
    ensemble = EnsembleLM(lm, tiny.ADAPTERS, WEIGHTS[0], mix=mix)
    rows.clear()
    once = [*ensemble.forward_reply(prompts, *given), ensemble.generate(prompts)]
    assert rows == {0: {4}, 1: {4}}  # the layer above makes its copies itself
    many = {"beams": {"num_beams": 3}, "samples": {"num_return_sequences": 2, "num_beams": 2}}
    once += [ensemble.generate(prompts, **options) for options in many.values()]
    for hook in hooks:
        hook.remove()
    monkeypatch.setattr(EnsembleLM, "one_trunk", False)
    apart = EnsembleLM(lm, tiny.ADAPTERS, WEIGHTS[0], mix=mix)
    expected = [*apart.forward_reply(prompts, *given), apart.generate(prompts)]
    expected += [apart.generate(prompts, **options) for options in many.values()]
    mask = given[1].bool()
    assert_close(once[0][mask], expected[0][mask], atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(once[2:], expected[2:], strict=True):
        assert torch.equal(ours, theirs)


@tiny.kinds("llama", "gpt2")
def test_a_tree_of_prefixes_reads_its_trunk_once(kind, monkeypatch):
    lm = upper(kind, 3)

    def replies() -> tuple[list[list[str]], int]:
        tree = PrefixTree(lm, tiny.ADAPTERS, tiny.PROMPTS)
        return tree.replies(WEIGHTS), tree.row_bytes

    (once, small), (expected, large) = replies(), (monkeypatch.setattr(tree_model, "trunk_depth", lambda *args: 0), replies())[1]
    assert once == expected and small < large
