"""How the study measures a method: nothing is chosen on test prompts, and KL is brought to its target by keeping a share of the change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from test_methods import bench, double

from emorl_lite.base.presets import get_preset
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.forward import shrunk
from emorl_lite.methods.registry import METHODS, make_method
from emorl_lite.rewards.metrics import diversity_2
from emorl_lite.study.divergence import sampled_replies, shrunk_replies
from emorl_lite.study.measuring import (
    GEOMETRIC_OPTIMUM,
    KL_ERROR,
    KL_MISSED,
    KL_SAMPLES,
    KL_TARGETS,
    geometric_mean,
    kept_share,
    matched,
    measure,
)
from emorl_lite.study.quality import reply_quality

TINY = get_preset("tiny")
SMALL = replace(TINY, study=replace(TINY.study, weight_steps=2, test_prompts=4, sweep_prompts=3), search=replace(TINY.search, levels=1))
TEST = [f"w{i} w{i + 7}" for i in range(20, 25)]


def logits(lm, prompts=tuple(tiny.PROMPTS)):
    inputs = lm.encode(list(prompts))
    tokens = torch.full((len(prompts), 4), 9)
    return lm.forward_reply(inputs, tokens, torch.ones(len(prompts), 4))[0].detach().double()


@tiny.kinds()
def test_a_share_of_an_adapter_is_that_share_of_its_change(kind):
    lm = tiny.language_model(kind, 2)
    name = lm.adapters[0]
    average_parameters(lm, [name], [0.4], name="by_hand")
    lm.use("by_hand")
    by_hand = logits(lm)
    lm.use(name)
    whole = logits(lm)
    with shrunk(lm, 0.4):
        torch.testing.assert_close(logits(lm), by_hand, rtol=1e-4, atol=1e-4)
        with shrunk(lm, 0.5):  # a share of a share
            fifth = logits(lm)
    with shrunk(lm, 0.2):
        torch.testing.assert_close(logits(lm), fifth)
    with shrunk(lm, 0.0):
        nothing = logits(lm)
    with lm.without_adapters():
        torch.testing.assert_close(nothing, logits(lm))
    with pytest.raises(RuntimeError, match="on the way"), shrunk(lm, 0.0):
        raise RuntimeError("on the way")
    torch.testing.assert_close(logits(lm), whole, rtol=0, atol=0)


def test_an_ensemble_shrinks_with_its_adapters():
    lm = tiny.language_model("llama", 3)
    ensemble = EnsembleLM(lm, tiny.ADAPTERS, weights=(0.5, 0.25, 0.25))
    with shrunk(lm, 0.0):
        shrunken = ensemble.reply(tiny.PROMPTS)
    with lm.without_adapters():
        base = lm.reply(tiny.PROMPTS)
    assert shrunken == base != ensemble.reply(tiny.PROMPTS)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("target", KL_TARGETS)
def test_the_share_is_found_whatever_the_shape(power, target):
    calls = set()

    def divergence(share: float) -> float:
        calls.add(share)
        return 3.0 * share**power

    share = kept_share(divergence, target)
    assert share is not None and abs(3.0 * share**power - target) <= KL_ERROR * target
    assert len(calls) <= 12


def test_what_cannot_be_matched_is_told():
    assert kept_share(lambda share: 0.3 * share, 0.5) is None  # the whole change diverges less
    assert kept_share(lambda share: 0.6 + share, 0.5) is None  # the base itself, told otherwise, diverges more
    assert kept_share(lambda share: 0.5 * share, 0.5) == 1.0
    assert kept_share(lambda share: 0.49 + share, 0.5) is None  # the base itself, told otherwise, diverges as much


def test_a_jump_over_the_target_is_not_at_it():
    assert kept_share(lambda share: 0.1 if share < 0.37 else 2.0, 0.5) is None
    share = kept_share(lambda share: share + (0.02 if share > 0.48 else -0.02), 0.5)  # a small one, on either side
    assert share == pytest.approx(0.48, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if not name.endswith(("-long", "-short")) and name != "rewards-in-context"])
def test_every_method_shrinks_to_its_base(name):
    """Nothing kept: the base's words. A policy that reads more than the prompt is the base that reads more: its KL need not be 0.

    (Rewards in context find nothing to learn from in so small a world; of that kind is `prompted`.)
    """
    made = bench(double(tiny.language_model("llama")))
    method = make_method(name, made)
    method.prepare()
    kl = sampled_replies(method, TEST, scale=0.0)[1]
    assert name == "prompted" or float(kl.abs().max()) < 1e-4
    assert name == "prompted" or shrunk_replies(method, TEST, None, 0.0) == make_method("base", made).reply(TEST)
    whole, same = sampled_replies(method, TEST), sampled_replies(method, TEST, scale=1.0)
    assert whole[0] == same[0] and torch.equal(whole[1], same[1])


@pytest.mark.slow
def test_fronts_and_choices_know_validation_prompts_alone():
    """With other test prompts the same settings are chosen; what is told of each prompt set is what the replies to it score."""
    made = bench()
    method = make_method("emorl", made)
    tables, cost, own = measure(method, TEST, SMALL)
    others, _, own_again = measure(method, tiny.PROMPTS * 2, SMALL)
    assert own == own_again and cost == method.prepare()
    settings = [f"w_{name}" for name in made.names]
    for table in ("rows", "front", "sweep"):
        assert np.allclose(tables[table][settings], others[table][settings])
    front = tables["front"]
    for line in front.to_dict("records"):
        (replies,) = method.replies_at(TEST[:3], [tuple(line[c] for c in settings)])
        assert made.objectives.means(TEST[:3], replies)["mean"] == pytest.approx(line["mean"])
        (replies,) = method.replies_at(made.validation_prompts, [tuple(line[c] for c in settings)])
        means = made.objectives.means(made.validation_prompts, replies)
        assert all(means[name] == pytest.approx(line[f"validation_{name}"]) for name in made.names)
    rows = tables["rows"].set_index("choice")
    assert rows.loc["published search", "searched"] == 27 * len(made.validation_prompts)
    assert rows.loc["grid", "searched"] == 6 * len(made.validation_prompts) and rows.loc["default", "searched"] == 0
    sampled = [f"sampled_{name}" for name in made.names]
    assert np.allclose(rows[sampled].mean(axis=1), rows["sampled_mean"]) and (rows["kl"] >= 0).all()


@pytest.mark.slow
def test_a_stated_utility_chooses_and_every_prompt_has_its_line():
    """By the geometric mean the grid's and the exact map's best are those of no smaller geometric mean than any other setting's."""
    study = replace(SMALL.study, utility="geometric mean", samples=3, kl_targets=(0.2,))
    made = bench(trained=3)
    tiny.with_random_adapters(made.lm)
    method = make_method("emorl", made)
    tables, _, own = measure(method, TEST, replace(SMALL, study=study))
    sweep, rows = tables["sweep"], tables["rows"].set_index("choice")
    settings = [f"w_{name}" for name in made.names]
    assert own == tuple(rows.loc["grid", settings])
    assert set(rows.index) == {"default", "grid", "grid, mean", "published search", "exact optimum", GEOMETRIC_OPTIMUM}

    def utility(setting):
        (replies,) = method.replies_at(made.validation_prompts, [tuple(setting)])
        means = made.objectives.means(made.validation_prompts, replies)
        return float(geometric_mean(np.array([[means[name] for name in made.names]]))[0])

    best = {choice: utility(rows.loc[choice, settings]) for choice in rows.index}
    assert best["grid"] == pytest.approx(max(map(utility, sweep[settings].to_numpy())))
    assert best[GEOMETRIC_OPTIMUM] >= max(best.values()) - 1e-6
    assert rows.loc["grid, mean", "searched"] == rows.loc["grid", "searched"]
    prompts = tables["prompts"]
    assert set(prompts["choice"]) == {"default", "grid"} and len(prompts) == 2 * 2 * 4
    for (choice, decoding), cell in prompts.groupby(["choice", "decoding"]):
        prefix = "sampled_" if decoding == "sampled" else ""
        assert np.allclose(cell[made.names].mean(), rows.loc[choice, [prefix + name for name in made.names]].astype(float))
    many = [prompt for prompt in TEST[:4] for _ in range(3)]
    texts, _ = sampled_replies(method, many, own, seed=made.seed)
    line = prompts.query("choice == 'grid' and decoding == 'sampled' and prompt == 1")[made.names].to_numpy()[0]
    assert np.allclose(line, made.objectives.scores(many[3:6], texts[3:6]).mean(0))
    assert tables["matched"]["target"].tolist() == [0.2]


def test_geometric_means():
    assert geometric_mean(np.array([[0.5, 0.5, 0.5], [0.0, 1.0, 1.0], [0.25, 0.5, 1.0]])) == pytest.approx([0.5, 0.0, 0.5])


@pytest.mark.slow
def test_reply_quality_greedy_and_sampled():
    made = bench()
    method = make_method("uniform", made)
    method.prepare()
    table = reply_quality(method, (), {"own": TEST, "other": tiny.PROMPTS}, {"diversity": diversity_2}, each=2)
    assert table[["set", "decoding"]].to_numpy().tolist() == [[s, d] for s in ("own", "other") for d in ("greedy", "sampled")]
    many = [prompt for prompt in TEST for _ in range(2)]
    for decoding, prompts, said in (
        ("greedy", TEST, method.reply(TEST)),
        ("sampled", many, sampled_replies(method, many, seed=made.seed)[0]),
    ):
        line = table.set_index(["set", "decoding"]).loc["own", decoding]
        assert line["mean"] == pytest.approx(made.objectives.means(prompts, said)["mean"]) and line["n"] == len(TEST)
        assert line["diversity"] == pytest.approx(float(diversity_2(prompts, said).mean()))
        assert line["most_frequent"] == pytest.approx(max(said.count(reply) for reply in said) / len(said))


@pytest.mark.slow
def test_matched_rows_are_at_their_target_or_say_why_not():
    made = bench(trained=3)
    method = make_method("uniform", made)
    method.prepare()
    tiny.with_random_adapters(made.lm)  # far from the base
    found = matched(method, "default", (), TEST)
    assert found["target"].tolist() == list(KL_TARGETS)
    reached, validation = found[found["reached"]], [p for p in made.validation_prompts for _ in range(KL_SAMPLES)]
    for line in reached.to_dict("records"):
        kl = [float(sampled_replies(method, prompts, scale=line["scale"])[1].mean()) for prompts in (validation, TEST)]
        assert abs(kl[0] - line["target"]) <= KL_MISSED * line["target"] and kl[1] == pytest.approx(line["kl"])
        scored = (shrunk_replies(method, TEST, None, line["scale"]), sampled_replies(method, TEST, scale=line["scale"])[0])
        means = [made.objectives.means(TEST, replies)["mean"] for replies in scored]
        assert means == pytest.approx([line["mean"], line["sampled_mean"]])
    assert len(reached) and (reached["scale"].between(0, 1)).all() and reached[["kl", "mean", "sampled_mean"]].notna().all().all()
    assert matched(make_method("base", made), "default", (), TEST)["reached"].tolist() == [False, False]


def test_equal_policies_sample_equal_replies_however_they_are_made():
    """A soup of one adapter, its exact average and the ensemble with all weight on it are one policy."""
    made = bench(trained=3)
    made.train_objectives()
    names = ["emorl", "exact-average", "rewarded-soups", "mod-reverse", "linear-pool"]
    texts = [sampled_replies(make_method(name, made), TEST, (0.0, 1.0, 0.0), seed=3)[0] for name in names]
    assert all(said == texts[0] for said in texts)
