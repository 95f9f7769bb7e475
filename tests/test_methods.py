"""Every method by an identity of its own, on random tiny models; and that all train, reply and are loaded again."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import math
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig, SearchConfig
from emorl_lite.ensemble.ensemble import EnsembleLM, mix_harmonic
from emorl_lite.ensemble.layers import LayerEnsemble, blocks
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import lora_layers
from emorl_lite.methods import METHODS, Bench, Cost, add_reference, make_method
from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.base import Method
from emorl_lite.methods.c_dynaopt import ContextualBandit
from emorl_lite.methods.clp import is_attention
from emorl_lite.methods.conditioning import WeightsAsText
from emorl_lite.methods.dynamic_weights import improvements
from emorl_lite.methods.dynaopt import DynaOptWeights
from emorl_lite.methods.registry import needs, registered
from emorl_lite.methods.scores import Objectives
from emorl_lite.methods.steerable import Steerable
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.search.pareto import non_dominated
from emorl_lite.study.divergence import drawn_from, sampled_replies
from emorl_lite.study.exact_fronts import CONVEX, EXACT, beside_sweep, exact_front
from emorl_lite.study.places import places, scores_by_place
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.team import Team

QUICK = PPOConfig(episodes=24, batch_size=8, minibatch_size=4, epochs=2, lr=5e-3, validate_every=2, checkpoint_every=1)
STEERABLE = ["prompted", "clp-full", "clp-attention", "clp-logit", "clp-kl", "panacea", "panacea-tchebycheff"]
GATED = ["clp-full", "clp-attention", "clp-logit", "panacea"]
ADAPTERS = tiny.ADAPTERS


def share(low: int, high: int):
    """Share of a reply's eight words that are among these of the vocabulary."""
    words = {f"w{i}" for i in range(low, high)}
    return lambda prompts, replies: torch.tensor([sum(word in words for word in reply.split()) / 8 for reply in replies])


REWARDS = {"reflection": share(0, 25), "empathy": share(15, 40), "fluency": share(30, 59)}


def double(lm):
    """For texts that two ways of computing must agree on: in double precision rounding decides no word."""
    lm.model.double()
    return lm


def bench(lm=None, folder=None, config=QUICK, seed=0, trained=0) -> Bench:
    prompts = [f"w{i} w{i + 1}" for i in range(12)]
    lm = lm or (double(tiny.language_model("llama", trained)) if trained else tiny.language_model("llama"))
    return Bench(
        lm,
        RewardSet(dict(REWARDS)),
        prompts,
        prompts[:3],
        config,
        {"reflection": 0.03, "empathy": 0.03, "fluency": 0.06},
        folder,
        seed,
        search=SearchConfig(levels=1),
        single_runs=Cost if set(ADAPTERS) <= set(lm.adapters) else None,  # those of an owner that trained them before
    )


def with_weights(method):
    """The method with its adapter made and random, as if it had been trained."""
    lm, conditioning = method.bench.lm, method.conditioning
    conditioning.add(0)
    conditioning.attach(conditioning.extra())
    tiny.with_random_adapters(lm)
    extra = getattr(conditioning, "experts", None) or getattr(conditioning, "diagonal", None)
    torch.manual_seed(5)
    for p in extra.parameters() if extra is not None else ():
        torch.nn.init.normal_(p, mean=0.5, std=0.5)
    return method


def logits(method, setting, reply="w1 w2 w3 w4", prompts=tiny.PROMPTS):
    lm = method.bench.lm
    ids, mask = lm.encode_replies([reply] * len(prompts))
    with torch.no_grad(), method.policy(setting) as policy:
        return policy.forward_reply(method.encode(prompts, setting), ids, mask)[0]


# -- all of them


def test_the_registry_tells_what_each_method_is():
    made = bench()
    for name in METHODS:
        method = make_method(name, made)
        assert method.name == name and method.reference and method.trains and method.decodes and type(method).__doc__
        assert all(need in ("objectives", "objectives-long", *METHODS) for need in needs(name))
    assert not made.lm.adapters
    for ask in (needs, lambda name: make_method(name, made)):
        with pytest.raises(UserError, match="method 'ppo' is unknown: expected one of base, uniform"):
            ask("ppo")


def test_methods_that_differ_by_a_parameter_are_one_class():
    made = bench()
    own, wide, short = (make_method(name, made) for name in ("emorl-long", "uniform-wide", "uniform-short"))
    shared = make_method("emorl", made)
    assert type(own) is type(shared) and type(wide) is type(short) is type(make_method("uniform", made))
    assert shared.adapters == ["study-reflection", "study-empathy", "study-fluency"]
    assert own.adapters == ["study-reflection-long", "study-empathy-long", "study-fluency-long"]
    assert needs("emorl") == needs("personalized-soups") == ("objectives",) and needs("rewarded-soups-long") == ("objectives-long",)
    assert needs("dera") == ("uniform",) and needs("uniform-wide") == ()
    assert wide.trains == "one adapter of d times the rank on the mean reward" and "a d-th of the budget" in short.trains
    assert own.trains == "one adapter per objective, each with the whole budget" != shared.trains
    with pytest.raises(TypeError):
        type(shared)(made, ranks="d")


def test_another_owners_adapters_stand_for_those_that_share_the_budget():
    made = bench(trained=3)
    asked = []
    made.single_runs = lambda: asked.append(1) or Cost(9, 3)
    assert make_method("emorl", made).adapters == ADAPTERS == make_method("rewarded-soups", made).adapters
    assert make_method("emorl", made).prepare() == make_method("linear-pool", made).prepare() == Cost(9, 3) and asked == [1]
    assert make_method("emorl-long", made).adapters == [f"study-{name}-long" for name in ADAPTERS]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_every_method_trains_replies_and_is_loaded_again(name, tmp_path, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))  # a second a look, however fast the machine is

    def made():
        lm = tiny.language_model("llama", max_new_tokens=40 if name == "rewards-in-context" else 8)
        if name == "rewards-in-context":  # it needs replies that end: a flatter distribution says EOS now and then
            lm.base.get_input_embeddings().weight.data *= 0.1
        return make_method(name, bench(lm, folder=tmp_path))

    method = made()
    cost = method.prepare()
    setting = method.settings(2)[0] or None
    replies = method.reply(tiny.PROMPTS, setting)
    assert len(replies) == len(tiny.PROMPTS) and all(isinstance(reply, str) for reply in replies)
    if name != "base":
        budget = QUICK.episodes * (3 if name.endswith("-long") else 1) // (3 if name.endswith("-short") else 1)
        assert 0 < cost.parallel <= cost.data_points <= cost.samples == budget and cost.trainable > 0
        assert cost.seconds >= 1  # two looks at the clock at least
        assert cost.parallel <= QUICK.episodes
    again = made()
    assert again.prepare() == cost
    assert again.reply(tiny.PROMPTS, setting) == replies
    tokens = sampled_replies(again, tiny.PROMPTS, setting)
    assert len(tokens[0]) == len(tiny.PROMPTS) and (tokens[1] >= -1e-5).all()


@pytest.mark.parametrize("name", ["uniform", "dynaopt", "c-dynaopt", "clp-full", "clp-logit", "panacea", "prompted"])
@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(name, tmp_path, monkeypatch):
    """Also bandits, experts and the diagonal come back from the checkpoint."""
    whole = make_method(name, bench(folder=tmp_path / "whole"))
    whole.prepare()
    from emorl_lite.training.ppo import PPOTrainer

    step = PPOTrainer.step

    def killed(self):
        if self.steps == 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(PPOTrainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        make_method(name, bench(folder=tmp_path / "killed")).prepare()
    monkeypatch.setattr(PPOTrainer, "step", step)
    resumed = make_method(name, bench(folder=tmp_path / "killed"))
    resumed.prepare()
    for file in ("adapter_model.safetensors", "extra.safetensors"):
        if (tmp_path / "whole" / name / file).exists():
            assert (tmp_path / "whole" / name / file).read_bytes() == (tmp_path / "killed" / name / file).read_bytes()
    assert resumed.reply(tiny.PROMPTS) == whole.reply(tiny.PROMPTS)


def test_bad_settings_are_told_in_one_line():
    for name, setting, message in [
        ("uniform", (1.0, 0.0, 0.0), "takes no weights"),
        ("emorl", (1.0, 0.0), "expected 3 weights"),
        ("clp-full", (1.0, -0.5, 0.5), "not negative"),
        ("rewarded-soups", (0.0, 0.0, 0.0), "not all zero"),
        ("dera", (-1.0,), "expected one strength"),
        ("clp-kl", (2.0,), "expected one KL weight from 0.01 to 1.0"),
    ]:
        with pytest.raises(UserError, match=message):
            make_method(name, bench(trained=3)).reply(tiny.PROMPTS, setting)


def test_a_bench_of_other_options_has_done_nothing_yet():
    made = bench()
    made.done["uniform"] = Cost(1)
    assert replace(made, ppo=replace(QUICK, episodes=8)).done == {} != made.done


@pytest.mark.slow
def test_the_studys_runs_keep_their_folders_and_names(tmp_path):
    """The model's adapter is the study's; the run, in its folder and its record, is that of the objective, as finished runs are."""
    made = bench(folder=tmp_path)
    cost = made.train_objectives() + made.train_objectives("own")
    assert made.lm.adapters == [f"study-{name}{long}" for long in ("", "-long") for name in ADAPTERS]
    runs = [name + long for name in ADAPTERS for long in ("", "-long")]
    assert sorted(made.done) == sorted(runs) == sorted(folder.name for folder in tmp_path.iterdir())
    for run in runs:
        assert json.loads((tmp_path / run / "done.json").read_text())["identity"]["adapter"] == run
    again = bench(folder=tmp_path)
    assert again.train_objectives() + again.train_objectives("own") == cost
    weights = [made.lm.model.state_dict(), again.lm.model.state_dict()]
    keys = [key for key in weights[0] if "lora_B.study-" in key]
    assert len(keys) >= 6 and all(weights[0][key].any() and torch.equal(weights[0][key], weights[1][key]) for key in keys)


@pytest.mark.slow
def test_a_bench_trains_each_run_once():
    """Also without a folder: what two methods share is trained for the first and there for the second."""
    made = bench()
    uniform = make_method("uniform", made)
    cost = uniform.prepare()
    before = [p.detach().clone() for key, p in made.lm.model.named_parameters() if ".uniform." in key]
    assert make_method("dera", made).prepare() == cost == make_method("uniform", made).prepare()
    after = [p for key, p in made.lm.model.named_parameters() if ".uniform." in key]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for name in ("clp-logit", "panacea", "grpo"):
        first = make_method(name, made)
        cost, replies = first.prepare(), first.reply(tiny.PROMPTS)
        second = make_method(name, made)
        assert second.prepare() == cost and second.reply(tiny.PROMPTS) == replies


@pytest.mark.parametrize("name", ["uniform", "grpo", "clp-full"])
def test_another_runs_adapter_is_refused_not_overwritten(name, tmp_path):
    made = bench(folder=tmp_path / "one")
    made.lm.add_adapter(name, seed=3)
    before = {key: p.detach().clone() for key, p in made.lm.model.named_parameters() if f".{name}." in key}
    for place in (made, replace(made, folder=None)):
        with pytest.raises(UserError, match=f"adapter '{name}' is in the model already"):
            make_method(name, place).prepare()
    assert all(torch.equal(before[key], p) for key, p in made.lm.model.named_parameters() if key in before)
    assert not (tmp_path / "one" / name / "done.json").exists()


def test_a_setting_may_be_an_array_but_not_nonsense():
    method = make_method("emorl", bench(trained=3))
    assert method.reply(tiny.PROMPTS, np.array([0.2, 0.5, 0.3])) == method.reply(tiny.PROMPTS, (0.2, 0.5, 0.3))
    for call in (
        lambda w: method.reply(tiny.PROMPTS, w),
        lambda w: sampled_replies(method, tiny.PROMPTS, w),
        lambda w: method.replies_at(tiny.PROMPTS, [w]),
    ):
        with pytest.raises(UserError, match="holds a NaN"):
            call((float("nan"), 1.0, 0.0))
        with pytest.raises(UserError, match="expected 3 weights"):
            call((1.0, 0.0))
    with pytest.raises(UserError, match="takes no weights"):
        sampled_replies(make_method("base", bench()), tiny.PROMPTS, (1.0, 0.0, 0.0))


def test_costs_add_as_side_by_side_runs():
    assert Cost(10, 10, 30, 5, 2.0) + Cost(20, 20, 20, 5, 1.0) == Cost(30, 20, 50, 10, 3.0)


# -- single policies


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.floats(0.01, 0.5))
def test_exp3_by_its_formulas(arms, gamma):
    bandit, weights = Exp3(4, gamma), [1.0] * 4
    for turn, arm in enumerate(arms):
        p = [(1 - gamma) * w / sum(weights) + gamma / 4 for w in weights]
        assert_close(bandit.probabilities(), p)
        assert math.isclose(sum(p), 1)
        reward = (-1) ** turn * 0.3
        weights[arm] *= math.exp(gamma / 4 * reward / p[arm])
        bandit.update(arm, reward)
    assert_close(bandit.weights, weights)


def test_dynaopts_weights_after_a_given_arm_sequence_by_hand(monkeypatch):
    """Arm 0, arm 0, "leave", arm 2: each raise is one Exp3 update with reward 1; the reward weights are the normalised arm weights."""
    arms = iter([0, 0, 3, 2])
    made = bench()
    monkeypatch.setattr(Exp3, "draw", lambda self: next(arms))
    dynaopt = DynaOptWeights(made.objectives, 0.1)
    dynaopt.start()
    w = [1.0, 1.0, 1.0]

    def raised(w, a):
        p = 0.93 * w[a] / sum(w) + 0.07 / 3
        return [x * math.exp(0.07 / 3 / p) if i == a else x for i, x in enumerate(w)]

    for arm in (0, 0, None, 2):
        w = w if arm is None else raised(w, arm)
        assert_close(dynaopt.weights, [x / sum(w) for x in w])
        if arm != 2:
            dynaopt.choose([0.0] * 3)
    before = dynaopt.controller.probabilities()
    dynaopt.learn([0.3, -0.1, 0.1])  # the mean improvement is .1; the last arm was 2
    assert_close(dynaopt.controller.weights, [1.0, 1.0, math.exp(0.07 / 4 * 0.1 / before[2]), 1.0])


def test_improvements_are_against_the_history():
    assert improvements(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), []) == [0.0, 0.0]
    assert_close(improvements(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), [[0.0, 1.0], [0.5, 0.0]]), [0.25, -0.5])


def test_dynaopt_logs_its_weights_and_they_move(tmp_path, monkeypatch):
    monkeypatch.setattr(Exp3, "draw", lambda self: 0)  # "raise the first": left to the draw, all arms may say "leave"
    config = replace(QUICK, validate_every=1, episodes=64)
    method = make_method("dynaopt", bench(folder=tmp_path, config=config))
    method.prepare()
    import pandas as pd

    log = pd.read_csv(tmp_path / "dynaopt" / "log.csv")
    table = log[[f"w_{name}" for name in ADAPTERS]]
    assert table.sum(axis=1).to_numpy() == pytest.approx(np.ones(len(table)))
    assert table["w_reflection"].is_monotonic_increasing and table["w_reflection"].iloc[-1] > table["w_reflection"].iloc[0]
    assert log.reward.to_numpy() == pytest.approx((log[ADAPTERS].to_numpy() * table.to_numpy()).sum(1), abs=1e-4)


def test_a_contextual_bandit_is_rebuilt_from_what_it_has_seen():
    bandit = ContextualBandit(4)
    for turn in range(20):
        bandit.learn([0.3, 0.3, 0.4], turn % 4, 1.0 if turn % 4 else -1.0, 0.25)
    again = ContextualBandit(4)
    for seen in bandit.seen:
        again.learn(*seen)
    p = bandit.probabilities([0.3, 0.3, 0.4])
    assert_close(again.probabilities([0.3, 0.3, 0.4]), p)
    assert sum(p) == pytest.approx(1) and max(p) == p[0]  # arm 0 was the one that paid


def test_grpo_reads_the_prompts_that_we_read(tmp_path, monkeypatch):
    from trl import GRPOTrainer

    seen = []
    tokenise = GRPOTrainer._tokenize_prompts

    def spy(self, prompts):
        found = tokenise(self, prompts)
        seen.extend(found[0])
        return found

    monkeypatch.setattr(GRPOTrainer, "_tokenize_prompts", spy)
    made = bench()
    make_method("grpo", made).prepare()
    ours = {tuple(line) for line in made.lm.prompt_ids(made.train_prompts)}
    assert seen and {tuple(line) for line in seen} <= ours


def test_rewards_in_context_learn_at_the_rate_of_a_policy_for_equal_weights(monkeypatch):
    rates = []
    monkeypatch.setattr("emorl_lite.methods.rewards_in_context.supervise", lambda lm, rows, steps, batch, lr, seed: rates.append(lr))
    replies = [(f"w{i} w{i + 1}", "w1 w2") for i in range(12)]
    for lrs, rate in (({}, QUICK.lr), ({"empathy": 4 * QUICK.lr}, 2 * QUICK.lr)):
        made = replace(bench(tiny.language_model("llama", max_new_tokens=40)), lrs=lrs, train_replies=replies)
        make_method("rewards-in-context", made).prepare()
        assert rates and rates == pytest.approx([rate] * len(rates))
        rates.clear()


def test_grpo_and_t5_is_one_clear_line():
    with pytest.raises(UserError, match="decoder-only"):
        make_method("grpo", bench(tiny.language_model("t5"))).prepare()
    with pytest.raises(UserError, match="decoder-only"):
        registered("rewards-in-context")[0].check_possible(tiny.language_model("t5"))


# -- merging and decoding


@tiny.kinds()
def test_mod_is_emorl_for_weights_that_sum_to_one(kind):
    made = bench(double(tiny.language_model(kind, 3)))
    emorl, mod = make_method("emorl", made), make_method("mod-reverse", made)
    for w in ([0.2, 0.5, 0.3], [1, 0, 0], [0.5, 0.5, 0]):
        assert_close(logits(mod, w), logits(emorl, w), atol=1e-4, rtol=1e-4)
        assert mod.reply(tiny.PROMPTS, w) == emorl.reply(tiny.PROMPTS, w)
    assert mod.reply(tiny.PROMPTS, [2, 5, 3]) == emorl.reply(tiny.PROMPTS, [2, 5, 3])  # greedy: only the direction matters
    with pytest.raises(AssertionError):
        assert_close(logits(mod, [2, 5, 3]), logits(emorl, [2, 5, 3]))  # but EMORL's logits are not normalised


def test_words_are_mixed_by_their_product_their_mean_and_their_harmonic_mean():
    made, w = bench(trained=3), [0.2, 0.5, 0.3]
    each = [logits(make_method("emorl", made), [float(i == j) for j in range(3)]).log_softmax(-1) for i in range(3)]
    product = sum(x * logp for x, logp in zip(w, each, strict=True)).log_softmax(-1)
    assert_close(logits(make_method("mod-reverse", made), w).log_softmax(-1), product, atol=1e-4, rtol=1e-4)
    mixture = sum(x * logp.exp() for x, logp in zip(w, each, strict=True))
    harmonic = 1 / sum(x / logp.double().exp() for x, logp in zip(w, each, strict=True))
    harmonic /= harmonic.sum(-1, keepdim=True)
    assert_close(logits(make_method("mod-forward", made), w).exp(), harmonic, check_dtype=False, atol=1e-5, rtol=1e-4)
    assert_close(logits(make_method("mod-forward", made), [2, 5, 3]), logits(make_method("mod-forward", made), w))  # direction alone counts
    assert_close(logits(make_method("linear-pool", made), w).exp(), mixture, atol=1e-5, rtol=1e-4)


def test_an_adapter_of_no_weight_rules_out_no_word():
    """0 / 0 of a harmonic mean: what an adapter finds impossible counts for as much as its weight."""
    z = torch.randn(1, 2, 1, 4, dtype=torch.float64)
    z[0, 1, 0, 2] = -torch.inf
    for w, impossible in (([1.0, 0.0], False), ([0.999, 0.001], True)):
        mixed = mix_harmonic(lambda hidden: hidden, z, torch.tensor([w], dtype=torch.float64))[0, 0]
        assert bool(mixed[2].isneginf()) == impossible and float(mixed.exp().sum()) == pytest.approx(1)
    assert_close(mix_harmonic(lambda hidden: hidden, z, torch.tensor([[1.0, 0.0]]))[0], z[:, 0].log_softmax(-1)[0])


@pytest.mark.parametrize(
    "name", ["rewarded-soups", "exact-average", "personalized-soups", "emorl", "mod-reverse", "mod-forward", "linear-pool"]
)
def test_one_hot_weights_give_that_objectives_adapter(name):
    made = bench(trained=3)
    for i, adapter in enumerate(ADAPTERS):
        made.lm.use(adapter)
        assert make_method(name, made).reply(tiny.PROMPTS, [float(i == j) for j in range(3)]) == made.lm.reply(tiny.PROMPTS)


def test_personalized_soups_only_know_who_is_chosen():
    made = bench(trained=3)
    personal, soup = make_method("personalized-soups", made), make_method("rewarded-soups", made)
    assert_close(logits(personal, [0.9, 0.1, 0]), logits(soup, [0.5, 0.5, 0]))
    assert_close(logits(personal, None), logits(soup, None))
    assert sorted(personal.settings(5)) == sorted({tuple(x / sum(s) for x in s) for s in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0),
                                                                                         (1, 0, 1), (0, 1, 1), (1, 1, 1)]})  # fmt: skip


def test_a_merging_method_leaves_the_active_adapter():
    made = bench(trained=3)
    made.lm.use("empathy")
    for name in ("rewarded-soups", "exact-average", "emorl"):
        make_method(name, made).reply(tiny.PROMPTS, [0.5, 0.3, 0.2])
        assert made.lm.model.active_adapter == "empathy"


@tiny.kinds("llama", "t5")
def test_dera_at_0_is_the_base_and_at_1_the_aligned_policy(kind):
    made = bench(tiny.language_model(kind))
    dera = make_method("dera", made)
    dera.prepare()
    double(tiny.with_random_adapters(made.lm))
    for key, p in made.lm.model.named_parameters():
        if "lora_B.reference" in key:
            torch.nn.init.zeros_(p)
    base, uniform = make_method("base", made), make_method("uniform", made)
    assert dera.reply(tiny.PROMPTS, [0.0]) == base.reply(tiny.PROMPTS)
    assert dera.reply(tiny.PROMPTS, [1.0]) == dera.reply(tiny.PROMPTS) == uniform.reply(tiny.PROMPTS)
    ref, aligned = logits(base, None), logits(uniform, None)
    for strength in (0.5, 2.0):
        assert_close(logits(dera, [strength]), ref + strength * (aligned - ref), atol=1e-4, rtol=1e-4)
    assert dera.calls == 2


def test_negative_weights_are_for_those_who_ask():
    lm = tiny.language_model("llama", 3)
    with pytest.raises(UserError, match="negative"):
        EnsembleLM(lm, ADAPTERS, [1.5, -0.5, 0])
    assert EnsembleLM(lm, ADAPTERS, [1.5, -0.5, 0], signed=True).reply(tiny.PROMPTS)
    with pytest.raises(UserError, match="no negative weights"):
        EnsembleLM(lm, ADAPTERS, mix="probabilities", signed=True)


# -- where to aggregate


@tiny.kinds("llama", "gpt2")
def test_layer_0_is_averaged_parameters_and_one_hot_weights_are_the_adapter(kind):
    lm, w = double(tiny.language_model(kind, 3)), [0.5, 0.3, 0.2]
    average_parameters(lm, ADAPTERS, w, name="average")
    ids, mask = lm.encode_replies(["w1 w2 w3"] * 4)
    lm.use("average")
    with torch.no_grad():
        averaged, _ = lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)
    assert_close(LayerEnsemble(lm, ADAPTERS, 0, w).forward_reply(lm.encode(tiny.PROMPTS), ids, mask)[0], averaged, atol=1e-4, rtol=1e-4)
    count = len(blocks(lm)[0])
    for layer in range(count + 1):
        for scale in (1.0, 3.0):
            one_hot = LayerEnsemble(lm, ADAPTERS, layer, [0, scale, 0]).reply(tiny.PROMPTS)
            lm.use("empathy")
            assert one_hot == lm.reply(tiny.PROMPTS)


def test_before_the_final_norm_is_the_norm_of_the_mixed_streams():
    lm, w = tiny.language_model("llama", 3), [0.5, 0.3, 0.2]
    layers, norm = blocks(lm)
    streams = []
    hook = norm.register_forward_pre_hook(lambda module, inputs: streams.append(inputs[0].detach()))
    ids, mask = lm.encode_replies(["w1 w2 w3"] * 4)
    encoded = lm.encode(tiny.PROMPTS)
    for name in ADAPTERS:
        lm.use(name)
        with torch.no_grad():
            lm.forward_reply(encoded, ids, mask)
    hook.remove()
    with torch.no_grad():
        expected = lm.head(norm(sum(x * s for x, s in zip(w, streams, strict=True))))[:, -ids.shape[1] :]
    assert_close(LayerEnsemble(lm, ADAPTERS, len(layers), w).forward_reply(encoded, ids, mask)[0], expected, atol=1e-4, rtol=1e-4)


def test_layer_ensembles_refuse_what_they_cannot_do():
    lm = tiny.language_model("llama", 3)
    with pytest.raises(UserError, match="layer 3: the model has 2"):
        LayerEnsemble(lm, ADAPTERS, 3)
    with pytest.raises(UserError, match="one weight vector"):
        LayerEnsemble(lm, ADAPTERS, 1).reply(tiny.PROMPTS[:2], [[1, 0, 0], [0, 1, 0]])
    with pytest.raises(UserError, match="decoder-only"):
        LayerEnsemble(tiny.language_model("t5", 3), ADAPTERS, 1)


@pytest.mark.slow
def test_level_scores_have_a_row_for_every_level_and_weight():
    made = bench(trained=3)
    table = scores_by_place(made, tiny.PROMPTS, 2)
    names = list(places(made))
    assert names[0] == "soup of A and B" and names[-2:] == ["last hidden state", "probabilities"] and "after layer 1" in names
    assert len(table) == len(names) * 6
    corners = table[table[[f"w_{n}" for n in ADAPTERS]].max(axis=1) == 1]
    assert corners.groupby("w_empathy")["mean"].agg(lambda x: x.round(6).nunique()).max() <= 2  # at a corner every level is that adapter


# -- steerable


@pytest.mark.parametrize("name", GATED)
@tiny.kinds()
def test_rows_with_weights_of_their_own_are_as_one_by_one(name, kind):
    method = with_weights(make_method(name, bench(tiny.language_model(kind))))
    lm, rows = method.bench.lm, [(1.0, 0.0, 0.0), (0.2, 0.3, 0.5), (0.0, 0.0, 1.0), (0.5, 0.5, 0.0)]
    ids, mask = lm.encode_replies(["w1 w2 w3"] * 4)
    with torch.no_grad(), method.policy() as policy:
        method.conditioning.set(torch.tensor(rows))
        together = policy.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)[0]
        method.conditioning.use(torch.tensor([2, 0]))
        some = policy.forward_reply(lm.encode(tiny.PROMPTS)[torch.tensor([2, 0])], ids[:2], mask[:2])[0]
    assert_close(some, together[[2, 0]], atol=1e-4, rtol=1e-4)
    for i, w in enumerate(rows):
        assert_close(together[i], logits(method, w, "w1 w2 w3")[i], atol=1e-4, rtol=1e-4)
    spread = (logits(method, rows[0]) - logits(method, rows[2])).abs().max()
    assert spread > 0.01  # the weights do make a difference


def changed(method, w):
    """Change of each adapted matrix at weights w, from the adapter's parts: s B diag(gates) A."""
    conditioning, lm = method.conditioning, method.bench.lm
    gated = conditioning.layers() if hasattr(conditioning, "layers") else []
    found = {}
    for layer in lora_layers(lm):
        A, B = layer.lora_A[method.name].weight, layer.lora_B[method.name].weight
        gates = torch.ones(len(A))
        if layer in gated:
            gates = conditioning.gate(gated.index(layer))(torch.tensor([list(w)]).float())[0]
        found[layer] = layer.scaling[method.name] * B @ torch.diag(gates) @ A
    return found


@pytest.mark.parametrize("name", ["clp-full", "clp-attention", "panacea"])
def test_a_gated_policy_is_the_model_with_its_changes_folded_in(name):
    method = with_weights(make_method(name, bench()))
    lm, w = method.bench.lm, (0.2, 0.3, 0.5)
    expected = logits(method, w)
    with torch.no_grad():
        for layer, delta in changed(method, w).items():
            layer.base_layer.weight += delta
    ids, mask = lm.encode_replies(["w1 w2 w3 w4"] * 4)
    with torch.no_grad(), lm.without_adapters():
        folded, _ = lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)
    assert_close(folded, expected, atol=1e-4, rtol=1e-4)


def test_clp_at_w_is_the_mixture_of_its_adapters():
    """change(w) = shared + sum_i w_i expert_i on every layer."""
    method = with_weights(make_method("clp-full", bench()))
    zero = changed(method, (0, 0, 0))
    experts = [changed(method, [float(i == j) for j in range(3)]) for i in range(3)]
    mixed = changed(method, (0.2, 0.3, 0.5))
    for layer, delta in mixed.items():
        parts = sum(x * (expert[layer] - zero[layer]) for x, expert in zip((0.2, 0.3, 0.5), experts, strict=True))
        assert_close(delta, zero[layer] + parts, atol=1e-5, rtol=1e-4)
        assert torch.linalg.matrix_rank(zero[layer], rtol=1e-4) == method.bench.lm.config.lora_r


def test_attention_clp_changes_attention_alone():
    method = with_weights(make_method("clp-attention", bench()))
    one, other = changed(method, (1, 0, 0)), changed(method, (0, 0, 1))
    names = {module: name for name, module in method.bench.lm.base.named_modules()}
    for layer in one:
        assert torch.equal(one[layer], other[layer]) == (".self_attn." not in names[layer])
        assert layer.r[method.name] == (16 if ".self_attn." in names[layer] else 4)
    for name in ("model.layers.0.self_attn.q_proj", "transformer.h.1.attn.c_proj", "decoder.block.0.layer.0.SelfAttention.q"):
        assert is_attention(name)
    assert not is_attention("model.layers.0.mlp.up_proj") and not is_attention("transformer.h.1.mlp.c_proj")
    assert is_attention("decoder.block.0.layer.1.EncDecAttention.k")


def test_logit_clp_mixes_experts_on_the_head_alone():
    method = with_weights(make_method("clp-logit", bench()))
    lm, experts = method.bench.lm, method.conditioning.experts
    ids, mask = lm.encode_replies(["w1 w2 w3 w4"] * 4)
    lm.use(method.name)
    with torch.no_grad():
        plain, hidden = lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask, hidden=True)
    for w in [(1, 0, 0), (0.2, 0.3, 0.5)]:
        low = hidden @ experts.A.T * torch.tensor(w).repeat_interleave(4)
        assert_close(logits(method, w), plain + 2 * low @ experts.B.T, atol=1e-4, rtol=1e-4)
    with method.policy((1, 0, 0)), lm.without_adapters(), torch.no_grad():
        base, _ = lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)
    assert_close(base, logits(make_method("base", method.bench), None))


def test_panaceas_weights_change_only_its_diagonal():
    method = with_weights(make_method("panacea", bench()))
    conditioning, r = method.conditioning, method.bench.lm.config.lora_r
    for i, layer in enumerate(conditioning.layers()):
        one, other = (conditioning.gate(i)(torch.tensor([w]))[0] for w in ([1.0, 0, 0], [0.2, 0.3, 0.5]))
        assert len(one) == r + 3 == layer.r[method.name]
        assert torch.equal(one[:r], other[:r]) and torch.equal(one[:r], conditioning.diagonal.sigma[i])
        assert_close(other[r:], conditioning.diagonal.s[i] * torch.tensor([0.2, 0.3, 0.5]))
    one, other = changed(method, (1, 0, 0)), changed(method, (0, 1, 0))
    assert all(torch.linalg.matrix_rank(one[layer] - other[layer], atol=1e-4) <= 2 for layer in one)


@pytest.mark.parametrize("name", STEERABLE)
def test_the_first_update_starts_at_ratio_one_and_all_parts_learn(name, tmp_path):
    """The policy that is trained is the policy that sampled, row by row."""
    method = make_method(name, bench(folder=tmp_path, config=replace(QUICK, lr=0.02)))
    before = copy.deepcopy(list(method.conditioning.extra().state_dict().values())) if name == "clp-logit" else []
    method.prepare()
    import pandas as pd

    log = pd.read_csv(tmp_path / name / "log.csv")
    assert log.first_ratio.max() < 1e-4
    lm = method.bench.lm
    B = [p for key, p in lm.model.named_parameters() if f"lora_B.{name}" in key]
    assert all((p.abs().sum(0) > 0).all() for p in B)  # every rank, so every expert
    if name.startswith("panacea"):
        assert (method.conditioning.diagonal.sigma != 1).any() and (method.conditioning.diagonal.s != 1).any()
    if before:
        assert (method.conditioning.experts.B.abs().sum(0) > 0).all()


def test_scalarisations():
    made = bench()
    scores, w = torch.tensor([[0.5, 1.0, 0.0], [0.5, 1.0, 0.0]]), torch.tensor([[1.0, 0, 0], [0.25, 0.25, 0.5]])
    assert_close(make_method("clp-full", made).utility(scores, w), torch.tensor([0.5, 0.375]))
    assert_close(make_method("panacea-tchebycheff", made).utility(scores, w), torch.tensor([-0.5, -1.0]))
    assert_close(make_method("clp-kl", made).utility(scores, torch.tensor([[1.0, 0], [0, 1]])), torch.tensor([0.5, 0.5]))
    assert_close(make_method("clp-full", made).kl_weights(w), torch.tensor([0.03, 0.045]))
    kl = make_method("clp-kl", made)
    assert_close(kl.kl_weights(torch.tensor([[1.0, 0], [0.5, 0.5], [0, 1]])), torch.tensor([0.01, 0.1, 1.0]))
    assert_close(kl.condition((0.1,)), torch.tensor([[0.5, 0.5]]))


def test_drawn_weights_lie_on_the_simplex():
    torch.manual_seed(0)
    for name in STEERABLE:
        w = make_method(name, bench()).draw(200)
        assert (w >= 0).all() and torch.allclose(w.sum(1), torch.ones(200)) and w.std(0).min() > 0.15


def test_weights_in_words():
    text = WeightsAsText(tiny.language_model("llama"), "x", ["reflection", "empathy", "fluency"])
    assert text.text([0.6, 0.4, 0.0]) == "much reflection, some empathy, no fluency."
    assert text.inputs(["w1", "w2"], torch.tensor([[1.0, 0, 0]])) == ["all reflection, no empathy, no fluency. " + p for p in ("w1", "w2")]
    assert len({text.text([a / 5, b / 5, (5 - a - b) / 5]) for a in range(6) for b in range(6 - a)}) == 21


def test_the_prompted_policys_reference_does_not_read_the_weights():
    made = bench()
    method = make_method("prompted", made)
    trainer = method.trainer(progress=False)
    rollout = trainer.policy.rollout(made.train_prompts[:4], made.lm.encode(made.train_prompts[:4]), 1, QUICK)
    with made.lm.without_adapters(), torch.no_grad():
        plain = made.lm.logprobs(made.lm.encode(made.train_prompts[:4]), rollout.tokens, rollout.mask)
        read = made.lm.logprobs(rollout.inputs, rollout.tokens, rollout.mask)
    assert_close(rollout.ref_logp, plain, atol=1e-4, rtol=1e-4)
    assert (plain - read).abs().max() > 0.01


# -- what all are measured by


def test_divergence_from_the_base_is_zero_for_the_base_and_exact_for_one_token():
    made = bench(tiny.language_model("llama", 3, max_new_tokens=1))
    assert_close(sampled_replies(make_method("base", made), tiny.PROMPTS)[1], torch.zeros(4), atol=1e-5, rtol=0)
    emorl = make_method("emorl", made)
    ids, mask = made.lm.encode_replies(["w1"] * 4)
    logp = logits(emorl, [0.5, 0.3, 0.2], "w1")[:, 0].log_softmax(-1)
    with made.lm.without_adapters(), torch.no_grad():
        base = made.lm.forward_reply(made.lm.encode(tiny.PROMPTS), ids, mask)[0][:, 0].log_softmax(-1)
    assert_close(sampled_replies(emorl, tiny.PROMPTS, [0.5, 0.3, 0.2])[1], (logp.exp() * (logp - base)).sum(-1), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["emorl", "exact-average"])
def test_divergence_is_summed_up_to_the_end_of_each_reply(name):
    """Whatever stands behind the end, and however long the others are."""
    made = bench(trained=3)
    made.lm.end_ids[:] = range(8, 16)  # so that replies end early and late
    emorl = make_method(name, made)
    found = sampled_replies(emorl, tiny.PROMPTS, seed=1, each=3)[1].tolist()
    with emorl.policy() as policy:
        torch.manual_seed(1)
        drawn = drawn_from(policy, made.lm, emorl.encode(tiny.PROMPTS), 3)
    lengths = drawn.mask.sum(1).tolist()
    assert len(set(lengths)) > 2 and len(drawn.logp) == sum(lengths)
    many = [prompt for prompt in tiny.PROMPTS for _ in range(3)]
    for prompt, line, length, kl in zip(many, drawn.tokens, lengths, found, strict=True):
        ids = line[None, :length]
        with torch.no_grad(), emorl.policy() as policy:
            logp = policy.forward_reply(made.lm.encode([prompt]), ids, torch.ones_like(ids))[0].log_softmax(-1)
        with torch.no_grad(), made.lm.without_adapters():
            base = made.lm.forward_reply(made.lm.encode([prompt]), ids, torch.ones_like(ids))[0].log_softmax(-1)
        assert kl == pytest.approx(float((logp.exp() * (logp - base)).sum()), abs=1e-4)


def test_each_prompts_replies_are_those_to_the_prompt_repeated():
    made = bench(trained=3)
    emorl, many = make_method("emorl", made), [prompt for prompt in tiny.PROMPTS for _ in range(3)]
    once, repeated = sampled_replies(emorl, tiny.PROMPTS, each=3), sampled_replies(emorl, many)
    assert once[0] == repeated[0] and len(set(once[0][:3])) > 1, "one noise, another for each reply"
    assert_close(once[1], repeated[1], atol=1e-4, rtol=1e-4)
    batches = sampled_replies(emorl, tiny.PROMPTS, each=3, batch_size=7)[0]
    assert len(batches) == 12 and batches[:6] == once[0][:6], "two prompts at once"


def test_an_adapter_alone_draws_what_it_draws_in_an_ensemble():
    made = bench(trained=3)
    with make_method("emorl", made).policy([0.0, 1.0, 0.0]) as ensemble:
        torch.manual_seed(2)
        mixed = drawn_from(ensemble, made.lm, made.lm.encode(tiny.PROMPTS), 2)
    made.lm.use(made.adapters("shared")[1])
    torch.manual_seed(2)
    alone = drawn_from(made.lm, made.lm, made.lm.encode(tiny.PROMPTS), 2)
    assert torch.equal(mixed.tokens, alone.tokens) and torch.equal(mixed.mask, alone.mask)
    assert_close(mixed.logp, alone.logp, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="one vector of weights"):
        EnsembleLM(made.lm, made.adapters("shared"), torch.eye(3)).draw(made.lm.encode(tiny.PROMPTS[:3]))


def test_sampling_leaves_the_random_state():
    made = bench(trained=3)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = sampled_replies(make_method("emorl", made), tiny.PROMPTS, seed=4)
    assert torch.equal(torch.rand(3), expected)
    assert sampled_replies(make_method("emorl", made), tiny.PROMPTS, seed=4)[0] == first[0]


def test_objectives_are_scored_once():
    calls = []

    def counted(prompts, replies):
        calls.append(len(replies))
        return torch.ones(len(replies))

    objectives = Objectives(RewardSet({"a": counted, "b": share(0, 9)}))
    watch = objectives.watch()
    assert_close(watch["a"](["p"], ["w1 w2"]), torch.ones(1))
    assert_close(watch["b"](["p"], ["w1 w2"]), torch.tensor([0.25]))
    assert calls == [1]
    objectives.means(["p"], ["w1 w2"])
    objectives.means(["p", "q"], ["w1 w2", "w1 w2"])
    assert calls == [1, 1, 1], "a measurement scores each pair once"
    watch["a"](["p", "q"], ["w1 w2", "w1 w2"])
    assert calls == [1, 1, 1, 2], "a batch of a training is scored whole, whatever was scored before an interruption"


@pytest.mark.parametrize("name", ["emorl", "linear-pool", "mod-forward", "rewarded-soups", "clp-full", "clp-logit", "panacea", "prompted"])
def test_replies_at_many_settings_are_those_one_by_one(name):
    method = make_method(name, bench(trained=3))
    if isinstance(method, Steerable):
        with_weights(method)
    some = [(0.2, 0.5, 0.3), (1.0, 0.0, 0.0), (0.0, 0.6, 0.4)]
    assert method.replies_at(tiny.PROMPTS, some) == [method.reply(tiny.PROMPTS, w) for w in some]


# -- all settings at once


LINEAR = ["emorl", "mod-reverse", "mod-forward", "linear-pool", "dera", "genarm", "clp-logit"]
"""Methods whose next-word scores are linear in the knob."""


def known_everywhere(name, kind="llama"):
    """One of these, its adapters random, in double precision."""
    if name == "clp-logit":
        method = with_weights(make_method(name, bench(tiny.language_model(kind))))
        method.conditioning.experts.double()
    else:
        method = make_method(name, bench(tiny.language_model(kind, 3)))
    new = {"dera": ["uniform"], "genarm": getattr(method, "adapters", [])}.get(name, [])
    for adapter in new:
        method.bench.lm.add_adapter(adapter)
        tiny.with_random_adapters(method.bench.lm)
    double(method.bench.lm)
    return method


def point_by_point(method, prompts, settings):
    """Replies [settings][prompts] of the method's own policy, every row of its batches at a setting of its own; no prefix tree."""
    texts, found, lm = list(prompts) * len(settings), [], method.bench.lm
    rows = torch.as_tensor(np.repeat(settings, len(prompts), 0))
    for start in range(0, len(texts), 128):
        batch, weights = texts[start : start + 128], rows[start : start + 128]
        with method.policy() as policy:
            if isinstance(method, Steerable):
                method.conditioning.set(weights / weights.sum(1, keepdim=True))
                found += lm.decode(lm.generate(lm.encode(batch)))
            else:
                first = {"dera": 1 - weights, "genarm": torch.ones(len(weights), 1)}.get(method.name, weights[:, :0])  # the base's own
                found += policy.reply(batch, torch.hstack([first, weights]), batch_size=128)
    return [found[i * len(prompts) : (i + 1) * len(prompts)] for i in range(len(settings))]


@pytest.mark.parametrize("name", LINEAR)
@tiny.kinds()
def test_the_exact_map_says_what_the_methods_own_decoder_says_everywhere(name, kind):
    method, prompts = known_everywhere(name, kind), tiny.PROMPTS[:2]
    if name in ("dera", "genarm"):
        add_reference(method.bench)  # its own decoder needs it; the tree does not
    scored = method.exact_map(prompts)
    domain = scored.map.domain
    points = domain.values(domain.random(1000, np.random.default_rng(1)))
    expected = point_by_point(method, prompts, points)
    assert [list(replies) for replies in zip(*scored.map.replies(points), strict=True)] == expected
    assert len(scored.map.regions) > 6, "a map of few regions proves little"
    some = [tuple(point) for point in points[:20]]
    assert method.replies_at(prompts, some) == expected[:20]
    assert method.reply(prompts, some[0]) == expected[0]
    assert domain.columns == (["strength"] if name == "dera" else [f"w_{objective}" for objective in ADAPTERS])


@pytest.mark.parametrize("name", LINEAR)
def test_the_optimum_is_the_best_of_all_settings(name):
    method = known_everywhere(name)
    scored, best = method.exact_map(tiny.PROMPTS), method.own_choices(tiny.PROMPTS)["exact optimum"]
    points = np.array(method.settings(5))
    assert scored.means(best).mean() >= scored.means(points).mean(1).max() - 1e-9
    assert method.checked(best) == best  # in the method's own numbers


def test_dera_needs_no_adapter_for_the_base_in_a_tree_and_goes_beyond_its_line():
    method = known_everywhere("dera")
    assert method.replies_at(tiny.PROMPTS, [(0.0,), (1.0,)]) == [
        make_method(name, method.bench).reply(tiny.PROMPTS) for name in ("base", "uniform")
    ]
    assert "reference" not in method.bench.lm.adapters
    assert method.default == (1.0,) and method.replies_at(tiny.PROMPTS, [()]) == method.replies_at(tiny.PROMPTS, [(1.0,)])
    add_reference(method.bench)
    mixed = method.replies_at(tiny.PROMPTS, [(6.0,), (0.5,), (9.0,)])
    assert mixed == [method.reply(tiny.PROMPTS, (strength,)) for strength in (6.0, 0.5, 9.0)]


def test_one_call_of_the_model_a_prefix_serves_all_experts_on_the_head():
    method = known_everywhere("clp-logit")
    tree = method.tree(tiny.PROMPTS)
    tree.replies(method.settings(5))
    assert [len(reader.sources) for reader in tree.readers.all] == [1] and len(tree.corners.names) == 3


def test_methods_that_are_not_linear_have_no_map():
    for name in sorted({"uniform", "exact-average", "rewarded-soups", "clp-full", "clp-kl", "panacea", "prompted"}):
        method = make_method(name, bench(trained=3))
        assert method.corners() is None and method.exact_map(tiny.PROMPTS) is None and method.own_choices(tiny.PROMPTS) == {}
        with pytest.raises(UserError, match=f"method {name}: the next word's scores are not linear"):
            method.tree(tiny.PROMPTS)
        with pytest.raises(UserError, match=f"method {name}: .* so its best setting cannot be known"):
            method.optimum(tiny.PROMPTS)
        with pytest.raises(UserError, match="no exact map to lay beside"):
            beside_sweep(method, tiny.PROMPTS, tiny.PROMPTS, tiny.PROMPTS, 2)


@pytest.mark.parametrize("name", ["linear-pool", "mod-forward", "dera", "clp-logit"])
def test_an_exact_front_holds_whatever_a_sweep_finds(name):
    method = known_everywhere(name)
    scored = method.exact_map(tiny.PROMPTS)
    front, found = exact_front(scored)
    domain = scored.map.domain
    assert found == EXACT and list(front.columns) == [*domain.columns, *ADAPTERS]
    scores = front[ADAPTERS].to_numpy()
    assert non_dominated(scores).all() and len(np.unique(scores, axis=0)) == len(scores)
    assert_close(scored.means(front[domain.columns].to_numpy()), scores)
    for point in scored.means(domain.grid(40)):
        assert (scores >= point - 1e-9).all(1).any(), "every point of a grid is on the front or below it"
    row = beside_sweep(method, tiny.PROMPTS[:2], tiny.PROMPTS[1:3], tiny.PROMPTS[2:], 5)
    assert row["front_hypervolume"] >= row["sweep_hypervolume"] - 1e-12 and row["sweep_points"] > 0 < row["front_points"]
    assert row["optimum_validation"] >= row["sweep_validation"] - 1e-9


def test_a_front_of_many_corners_says_that_it_is_convex(monkeypatch):
    method = known_everywhere("emorl")
    scored = method.exact_map(tiny.PROMPTS)
    whole, _ = exact_front(scored)
    monkeypatch.setattr("emorl_lite.study.exact_fronts.MOST_BYTES", 1)  # as with four corners
    front, found = exact_front(scored)
    assert found == CONVEX and list(front.columns) == list(whole.columns)
    rows = {tuple(row) for row in whole[ADAPTERS].round(9).to_numpy()}
    assert {tuple(row) for row in front[ADAPTERS].round(9).to_numpy()} <= rows


def test_own_choices_and_exact_map_agree_with_decoding():
    made = bench(trained=3)
    emorl = make_method("emorl", made)
    scored = emorl.exact_map(tiny.PROMPTS)
    for w in ([0.2, 0.5, 0.3], [0.61, 0.2, 0.19]):
        expected = made.objectives(tiny.PROMPTS, emorl.reply(tiny.PROMPTS, w)).double().mean(0)
        assert_close(torch.from_numpy(scored.means(w)[0]), expected, atol=1e-6, rtol=0)
    chosen = emorl.own_choices(tiny.PROMPTS)
    assert all(sum(w) == pytest.approx(1) for w in chosen.values())  # their size would be a temperature when replies are sampled
    assert set(chosen) == {"published search", "exact optimum"}
    values = {k: float(scored.means(w).mean()) for k, w in chosen.items()}
    assert values["exact optimum"] >= values["published search"] - 1e-9


def test_every_method_names_its_source():
    """A paper's number, or "own" for a reader's idea; the base model has none."""
    for name in METHODS:
        reference = registered(name)[0].reference
        assert name == "base" or reference == "own" or re.search(r"arXiv \d{4}\.\d{5}", reference), name


# -- options that make no sense


NO_NUMBERS = [math.nan, math.inf, -1.0, "nope", "2", True, None, [0.7], 10**9, 10**5000]
NO_WORDS = ["nope", "", None, True, 1, math.nan, ["own"]]
OPTIONS = {
    ("emorl", "budget"): NO_WORDS,
    ("rewarded-soups", "budget"): NO_WORDS,
    ("bone-soups", "budget"): NO_WORDS,
    ("bone-soups", "dominant"): [*NO_NUMBERS, 0.0, 1 / 3, 1.1],
    ("uniform", "ranks"): [*NO_WORDS, "1/d"],
    ("uniform", "share"): [*NO_WORDS, "d"],
    ("gdpo", "kl_times"): [*NO_NUMBERS, 0.0],
    ("genarm", "strength"): [*NO_NUMBERS, 0.0],
}
"""Values that an option of a method cannot have."""


def test_every_option_of_every_method_is_asked_here():
    for cls in {registered(name)[0] for name in METHODS}:
        for parameter in list(inspect.signature(cls).parameters)[1:]:
            assert any(option == parameter and issubclass(cls, registered(name)[0]) for name, option in OPTIONS), (cls, parameter)


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_options_that_make_no_sense_are_told_before_anything_is_trained(name, option):
    made = bench()
    cls = registered(name)[0]
    for value in OPTIONS[name, option]:
        with pytest.raises(UserError, match=f"^method {name}: {option} [^\n]{{1,300}}$"):
            cls(made, **{option: value})
    assert not made.lm.adapters


@pytest.mark.parametrize("name", METHODS)
def test_methods_tell_how_many_objectives_they_can_weigh_before_anything_is_trained(name):
    made = bench()
    for d in (1, 7):
        names = [f"r{i}" for i in range(d)]
        rewards = RewardSet(dict.fromkeys(names, REWARDS["reflection"]))
        other = replace(made, rewards=rewards, kl_coefs=dict.fromkeys(names, 0.03))
        cls, parameters = registered(name)
        knob = cls.knob in ("weights", "subset")
        refused = (d == 1 and knob) or (d == 7 and knob and cls.corners is not Method.corners)
        try:
            cls(other, **parameters)
        except UserError as error:
            assert refused and re.search(f"^method {cls.name}: .*{d}$", str(error))
        else:
            assert not refused


def test_a_bench_that_makes_no_sense_is_told():
    made = bench()
    for change, told in {
        "rewards": (RewardSet({}), "no objectives"),
        "seed": (-1, "bench: seed -1"),
        "kl_coefs": ({"reflection": 0.1}, "bench: kl_coefs has no KL weight of empathy"),
        "lrs": ({"reflection": math.nan}, "bench: lrs, reflection nan: must be a finite number"),
    }.items():
        with pytest.raises(UserError, match=told[1]):
            replace(made, **{change: told[0]})
    for value in (math.nan, -1, "x", True):
        with pytest.raises(UserError, match="bench: kl_coefs, fluency"):
            replace(made, kl_coefs=dict(made.kl_coefs) | {"fluency": value})
    for ask in (made.adapters, made.episodes_each, made.train_objectives):
        with pytest.raises(UserError, match="budget 'nope': expected shared or own"):
            ask("nope")


def test_settings_and_steps_that_make_no_sense_are_told():
    emorl, dera = make_method("emorl", bench()), make_method("dera", bench())
    asked = [(emorl, x) for x in ("111", ["1", "1", "1"], [True, True, True], 3.0, [[1, 1, 1]], [1] * 4, [1, 1, None])]
    for method, setting in [*asked, (dera, "1"), (dera, [True]), (dera, [[1]])]:
        with pytest.raises(UserError, match=f"^method {method.name}: [^\n]*$"):
            method.reply(tiny.PROMPTS, setting)
    assert emorl.checked(torch.tensor([1.0, 2, 3])) == (1, 2, 3) == emorl.checked(np.array([1, 2, 3]))
    for steps in (0, -1, 2.5, "x", True, math.nan, 10**9):
        with pytest.raises(UserError, match=r"^steps "):
            emorl.settings(steps)
    with pytest.raises(UserError, match="batch_size 0"):
        make_method("panacea", bench()).replies_at(tiny.PROMPTS, [()], batch_size=0)
    for gamma in (0, math.nan, 2, "x"):
        with pytest.raises(UserError, match="Exp3: gamma"):
            Exp3(3, gamma)


class Two(Team):
    """As if another process trained along."""

    size = 2


@pytest.mark.parametrize("name", ["dynaopt", "c-dynaopt"])
def test_a_reward_that_changes_while_it_trains_is_not_for_several_processes(name, tmp_path):
    made = bench(folder=tmp_path)
    weights = registered(name)[0].weights(made.objectives, 0.05)
    with pytest.raises(UserError, match=f"^adapter '{name}': its reward changes while it trains"):
        PPOTrainer(made.lm, name, weights, made.train_prompts, QUICK, folder=tmp_path / name, team=Two())
    assert not made.lm.adapters and not list(tmp_path.iterdir())
