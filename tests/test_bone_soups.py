"""Bone Soups: the backbones' rewards, the system that undoes their mixing, and the merged parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_methods import QUICK, bench, double, logits
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import lora_layers
from emorl_lite.methods import Bench, Cost, make_method
from emorl_lite.methods.bone_soups import BoneSoups, backbone_rewards, merging_weights
from emorl_lite.methods.rewarded_soups import ExactAverage


def with_backbones(dominant=0.7):
    """A method whose backbones are random adapters, as if they had been trained."""
    made = bench(double(tiny.language_model("llama")))
    method = BoneSoups(made, dominant=dominant)
    for seed, name in enumerate(method.adapters):
        made.lm.add_adapter(name, seed=seed)
    tiny.with_random_adapters(made.lm)
    return method


def alone(method, name):
    """Logits with one adapter active."""
    lm = method.bench.lm
    ids, mask = lm.encode_replies(["w1 w2 w3 w4"] * len(tiny.PROMPTS))
    lm.use(name)
    with torch.no_grad():
        return lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)[0]


@given(st.integers(1, 6), st.floats(0.05, 1.0), st.data())
def test_lambda_solves_the_system_and_sums_to_one(d, over, data):
    B = backbone_rewards(d, 1 / d + over * (1 - 1 / d))
    assert_close(B.sum(1), np.ones(d))
    assert np.array_equal(B, B.T)
    assert all(np.allclose(np.roll(B[0], j), B[j]) for j in range(d))  # circulant
    w = np.array(data.draw(st.lists(st.floats(0, 1), min_size=d, max_size=d).filter(lambda x: sum(x) > 0.01)))
    found = merging_weights(B, w)
    assert_close(found @ B, w / w.sum(), atol=1e-9, rtol=1e-9)
    assert found.sum() == pytest.approx(1)
    assert_close(merging_weights(B, 7 * w), found)
    for j in range(d):
        assert_close(merging_weights(B, B[j]), np.eye(d)[j], atol=1e-9, rtol=0)
    assert_close(merging_weights(B, np.ones(d)), np.full(d, 1 / d), atol=1e-9, rtol=0)


def test_the_system_is_of_the_transpose():
    B = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])  # not symmetric
    found = merging_weights(B, B[1])
    assert_close(found, np.array([0.0, 1.0, 0.0]), atol=1e-12, rtol=0)
    rewards = np.array([0.3, 0.9, 0.1])
    w = np.array([0.5, 0.2, 0.3])
    assert merging_weights(B, w) @ (B @ rewards) == pytest.approx(w @ rewards)  # the backbones' rewards, mixed, are the user's


def test_shares_that_cannot_be_told_apart_are_refused():
    for d, dominant in ((3, 1 / 3), (3, 0.2), (2, 1.1), (2, float("nan"))):
        with pytest.raises(UserError, match="an even share"):
            backbone_rewards(d, dominant)


def test_a_user_who_wants_what_a_backbone_was_trained_for_gets_it():
    method = with_backbones()
    for name, row in zip(method.adapters, method.B, strict=True):
        assert_close(logits(method, tuple(row)), alone(method, name), atol=1e-9, rtol=1e-9)
    for w in ((1.0, 0.0, 0.0), (0.2, 0.5, 0.3)):
        assert_close(logits(method, w), logits(method, tuple(3 * x for x in w)))
    assert_close(logits(method, None), logits(method, (1 / 3,) * 3))


def test_without_mixing_it_is_the_exact_average():
    method = with_backbones(dominant=1.0)
    average = ExactAverage(method.bench)
    average.__class__ = type("Same", (ExactAverage,), {"adapters": property(lambda self: method.adapters)})
    for w in ((0.2, 0.5, 0.3), (0.0, 1.0, 0.0)):
        assert_close(logits(method, w), logits(average, w), atol=1e-9, rtol=1e-9)


def test_backbones_are_subtracted_for_one_objective_alone():
    method = with_backbones()
    lm, shares = method.bench.lm, merging_weights(method.B, (1.0, 0.0, 0.0))
    assert shares[0] > 1 and (shares[1:] < 0).all()
    wanted = []
    for layer in lora_layers(lm):
        terms = [
            x * layer.scaling[a] * layer.lora_B[a].weight @ layer.lora_A[a].weight for x, a in zip(shares, method.adapters, strict=True)
        ]
        wanted.append(sum(terms))
    with method.policy((1.0, 0.0, 0.0)):
        for layer, change in zip(lora_layers(lm), wanted, strict=True):
            name = method.name
            assert_close(layer.scaling[name] * layer.lora_B[name].weight @ layer.lora_A[name].weight, change)


def test_negative_weights_are_allowed_where_they_are_asked_for():
    lm = tiny.language_model("llama", 3)
    for options, message in (({}, "negative"), ({"how": "soup", "signed": True}, "takes no negative weights")):
        with pytest.raises(UserError, match=message):
            average_parameters(lm, tiny.ADAPTERS, [1.5, -0.25, -0.25], **options)
    average_parameters(lm, tiny.ADAPTERS, [1.5, -0.25, -0.25], signed=True)


def test_what_each_backbone_is_trained_on(monkeypatch):
    asked = {}

    def train(self, name, reward, config):
        asked[name] = reward, config
        return Cost(config.episodes, config.episodes, config.episodes)

    monkeypatch.setattr(Bench, "train", train)
    for name, episodes in (("bone-soups", QUICK.episodes // 3), ("bone-soups-long", QUICK.episodes)):
        made = bench()
        method = make_method(name, made)
        cost = method.prepare()
        assert cost.data_points == cost.samples == 3 * episodes and cost.parallel == episodes
        scores = made.objectives(["w1"], ["w1 w2 w20 w35"])
        for adapter, row in zip(method.adapters, method.B.tolist(), strict=True):
            reward, config = asked[adapter]
            assert config.episodes == episodes and config.kl_coef == pytest.approx(made.kl_coef(row))
            assert_close(reward(["w1"], ["w1 w2 w20 w35"]), scores @ torch.tensor(row))
    assert method.trains.endswith("whole budget")


def test_weights_that_no_mixing_gives_are_told():
    for weights in ((1.0, 1.0), (1.0,) * 4, (0.0,) * 3, (float("nan"), 1.0, 1.0), (1.0, -1.0, -1.0)):
        with pytest.raises(UserError, match=r"weights .*: expected 3 finite numbers"):
            merging_weights(backbone_rewards(3), weights)


def test_a_setting_that_is_no_sequence_of_numbers_is_told():
    method = with_backbones()
    for setting in (("a",) * 3, (None,) * 3, 1.0):
        with pytest.raises(UserError, match=r"method bone-soups: the setting .* is no sequence of numbers"):
            method.reply(tiny.PROMPTS, setting)


def test_a_budget_too_small_to_be_shared_is_told():
    made = bench(double(tiny.language_model("llama")))
    made = replace(made, ppo=replace(made.ppo, episodes=2))
    for name in ("bone-soups", "emorl", "uniform-short"):
        with pytest.raises(UserError, match="a budget of 2: too small to be shared by 3 runs"):
            make_method(name, made).prepare()
