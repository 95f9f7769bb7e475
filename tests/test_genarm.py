"""GenARM: the loss, the pairs, one step, the mixture word by word, its map, and what it refuses. On random tiny models."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig
from emorl_lite.exact.checking import check_replies
from emorl_lite.methods import Bench, make_method
from emorl_lite.methods.genarm import (
    BETA_R,
    LR_TIMES,
    STRENGTH,
    GenARM,
    Pairs,
    draw_pairs,
    log_probability,
    preference_loss,
    train_reward_model,
)
from emorl_lite.readings import guidance
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.study.divergence import sampled_replies

ROOT = Path(__file__).parents[1]
CONFIG = PPOConfig(episodes=16, batch_size=8, minibatch_size=8, lr=5e-3)


def share(low, high):
    words = {f"w{i}" for i in range(low, high)}
    return lambda prompts, replies: torch.tensor([sum(word in words for word in reply.split()) / 8 for reply in replies])


def bench(lm=None, folder=None, config=CONFIG, seed=0) -> Bench:
    rewards = RewardSet({"reflection": share(0, 25), "empathy": share(15, 40), "fluency": share(30, 59)})
    prompts = [f"w{i} w{i + 1}" for i in range(12)]
    return Bench(lm or tiny.language_model(), rewards, prompts, prompts[:3], config, dict.fromkeys(tiny.ADAPTERS, 0.03), folder, seed)


def trained(kind="llama", strength=STRENGTH, random=True) -> GenARM:
    """The method with reward models that say something of their own, in double precision."""
    lm = tiny.language_model(kind)
    method = GenARM(bench(lm), strength)
    for i, adapter in enumerate(method.adapters):
        lm.add_adapter(adapter, seed=i)
    if random:
        tiny.with_random_adapters(lm)
    lm.model.double()
    return method


def logits(lm, adapter=None, reply="w1 w2 w3 w4"):
    ids, mask = lm.encode_replies([reply] * len(tiny.PROMPTS))
    if adapter is not None:
        lm.use(adapter)
        return lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)[0].detach()
    with lm.without_adapters(), torch.no_grad():
        return lm.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)[0]


# -- the loss


def test_the_loss_is_minus_log_sigmoid_of_the_scaled_margin():
    better, worse = torch.tensor([-3.0, -8.0]), torch.tensor([-5.0, -6.0])
    by_hand = [-math.log(1 / (1 + math.exp(-0.5 * margin))) for margin in (2.0, -2.0)]
    assert float(preference_loss(better, worse, 0.5)) == pytest.approx(sum(by_hand) / 2)
    assert float(preference_loss(worse, worse)) == pytest.approx(math.log(2))


@tiny.kinds()
def test_a_replys_log_probability_is_the_sum_over_its_own_tokens(kind):
    """Whatever it is padded with, and however long its neighbours are."""
    lm = tiny.language_model(kind, 1)
    replies = [torch.tensor([7, 8, 2]), torch.tensor([9, 10, 11, 12, 13, 2]), torch.tensor([2]), torch.tensor([20, 21])]
    together = log_probability(lm, tiny.PROMPTS, replies)
    for prompt, reply, found in zip(tiny.PROMPTS, replies, together, strict=True):
        with torch.no_grad():
            z, _ = lm.forward_reply(lm.encode([prompt]), reply[None], torch.ones_like(reply)[None])
        by_hand = sum(float(z[0, t].log_softmax(-1)[token]) for t, token in enumerate(reply))
        assert float(found.detach()) == pytest.approx(by_hand, abs=1e-4)


def test_pairs_by_hand():
    scores = torch.tensor([[0.2, 0.5], [0.7, 0.5], [0.9, 0.1], [0.1, 0.3], [0.4, 0.4], [0.4, 0.6]])
    pairs = Pairs(["a", "b", "c"], [torch.tensor([i]) for i in range(6)], scores)
    assert pairs.preferred(0).tolist() == [[1, 0], [2, 3]] and pairs.ties(0) == 1
    assert pairs.preferred(1).tolist() == [[3, 2], [5, 4]] and pairs.ties(1) == 1


def test_drawn_pairs_are_the_bases_and_do_not_hang_on_what_is_active():
    plain, adapted = bench(), bench(tiny.language_model("llama", 2))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    pairs, again = draw_pairs(plain, 20), draw_pairs(adapted, 20)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(pairs.prompts) == 20 and len(pairs.replies) == 40 == len(pairs.scores) and set(pairs.prompts) == set(plain.train_prompts)
    assert pairs.prompts == again.prompts and all(map(torch.equal, pairs.replies, again.replies))
    assert any(not torch.equal(a, b) for a, b in zip(pairs.replies[0::2], pairs.replies[1::2], strict=True))
    texts = plain.lm.decode(torch.nn.utils.rnn.pad_sequence(pairs.replies, batch_first=True))
    assert_close(pairs.scores, plain.objectives([p for p in pairs.prompts for _ in range(2)], texts))
    assert draw_pairs(replace(plain, seed=1), 20).prompts != pairs.prompts


def test_a_step_raises_the_margin_and_only_of_its_own_adapter():
    lm = tiny.language_model("llama", 2)
    pairs = Pairs(["w1 w2"], [torch.tensor([7, 8, 2]), torch.tensor([9, 10, 2])], torch.tensor([[0.1], [0.9]]))

    def margin():
        lm.use("reflection")
        worse, better = log_probability(lm, pairs.prompts * 2, pairs.replies).tolist()
        return better - worse

    before, other = margin(), {key: p.clone() for key, p in lm.model.named_parameters() if ".reflection." not in key}
    losses = train_reward_model(bench(lm), "reflection", pairs, 0, passes=3)
    assert margin() > before and len(losses) == 3 and losses[-1] < losses[0]
    assert losses[0] == pytest.approx(math.log(1 + math.exp(-BETA_R * before)), rel=1e-4)
    assert all(torch.equal(p, other[key]) for key, p in lm.model.named_parameters() if key in other)


def test_steps_take_as_many_replies_as_ppos_and_the_rate_falls_to_nothing(monkeypatch):
    made, rates, sizes = bench(tiny.language_model("llama", 1)), [], []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]))
    monkeypatch.setattr("emorl_lite.methods.genarm.preference_loss", lambda a, b, _: sizes.append(len(a) + len(b)) or (b - a).mean())
    pairs = Pairs(["w1"] * 8, [torch.tensor([7, 2]), torch.tensor([8, 2])] * 8, torch.tensor([[0.1], [0.9]] * 8))
    train_reward_model(made, "reflection", pairs, 0, lr_times=3.0, passes=2)
    assert sizes == [CONFIG.minibatch_size] * 4 and rates == pytest.approx([3 * CONFIG.lr * share for share in (1, 0.75, 0.5, 0.25)])


def test_an_objective_that_prefers_nothing_is_told():
    pairs = Pairs(["w1"], [torch.tensor([7, 2]), torch.tensor([8, 2])], torch.tensor([[0.5, 0.1, 0.2], [0.5, 0.2, 0.1]]))
    with pytest.raises(UserError, match="reflection scores both replies of all pairs the same"):
        train_reward_model(bench(tiny.language_model("llama", 1)), "reflection", pairs, 0)


# -- the mixture


@tiny.kinds()
def test_a_word_is_drawn_from_the_product_of_base_and_reward_models(kind):
    for strength in (1.0, 2.5):
        method, w = trained(kind, strength), (0.2, 0.5, 0.3)
        lm = method.bench.lm
        ids, mask = lm.encode_replies(["w1 w2 w3 w4"] * len(tiny.PROMPTS))
        with torch.no_grad(), method.policy(w) as policy:
            mixed = policy.forward_reply(lm.encode(tiny.PROMPTS), ids, mask)[0]
        product = logits(lm).softmax(-1)
        for x, adapter in zip(w, method.adapters, strict=True):
            product = product * logits(lm, adapter).softmax(-1) ** (strength * x)
        assert_close(mixed.softmax(-1), product / product.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)
        assert method.reply(tiny.PROMPTS, w) == method.reply(tiny.PROMPTS, [2, 5, 3])  # weights are divided by their sum
        assert method.calls == 4


def test_all_weight_on_one_objective_asks_its_reward_model_alone():
    method = trained()
    for i, adapter in enumerate(method.adapters):
        one_hot = tuple(float(i == j) for j in range(3))
        ids, mask = method.bench.lm.encode_replies(["w1 w2 w3 w4"] * len(tiny.PROMPTS))
        with torch.no_grad(), method.policy(one_hot) as policy:
            mixed = policy.forward_reply(method.bench.lm.encode(tiny.PROMPTS), ids, mask)[0]
        assert_close(mixed, logits(method.bench.lm) + STRENGTH * logits(method.bench.lm, adapter), atol=1e-5, rtol=1e-4)


def test_untrained_reward_models_sharpen_the_base():
    """B = 0: pi_0 to the power 1 + 1 / beta. Greedy replies are the base's, sampled ones those of another temperature."""
    method = trained(random=False, strength=3.0)
    with torch.no_grad(), method.policy() as policy:
        ids, mask = method.bench.lm.encode_replies(["w1 w2 w3 w4"] * len(tiny.PROMPTS))
        mixed = policy.forward_reply(method.bench.lm.encode(tiny.PROMPTS), ids, mask)[0]
    assert_close(mixed, 4 * logits(method.bench.lm), atol=1e-5, rtol=1e-4)
    base = make_method("base", method.bench)
    assert method.reply(tiny.PROMPTS, (0.7, 0.2, 0.1)) == base.reply(tiny.PROMPTS)
    assert method.replies_at(tiny.PROMPTS, [(0.7, 0.2, 0.1)]) == [base.reply(tiny.PROMPTS)]
    assert (sampled_replies(method, tiny.PROMPTS)[1] > 0).all()


def test_shrunk_to_nothing_it_is_the_base():
    method = trained()
    replies, kl = sampled_replies(method, tiny.PROMPTS, scale=0.0)
    assert_close(kl, torch.zeros(len(tiny.PROMPTS)), atol=1e-5, rtol=0)
    assert replies == sampled_replies(make_method("base", method.bench), tiny.PROMPTS)[0]
    half = GenARM(method.bench, STRENGTH / 2)
    assert sampled_replies(method, tiny.PROMPTS, scale=0.5)[0] == sampled_replies(half, tiny.PROMPTS)[0]
    assert sampled_replies(method, tiny.PROMPTS, scale=1.0)[0] == sampled_replies(method, tiny.PROMPTS)[0]


@tiny.kinds()
def test_the_map_says_what_the_mixture_says(kind):
    """At random weights and at the deepest point of every region."""
    method, prompts = trained(kind), tiny.PROMPTS[:2]
    scored = method.exact_map(prompts)
    assert len(scored.map.regions) > 6 and scored.map.domain.columns == [f"w_{name}" for name in tiny.ADAPTERS]
    domain = scored.map.domain
    points = domain.values(domain.random(200, np.random.default_rng(1)))

    def decode(texts, weights):
        shares = torch.as_tensor(weights / weights.sum(1, keepdims=True))
        with method.policy() as policy:  # every row of a batch with weights of its own; no prefix tree
            return policy.reply(texts, torch.hstack([torch.ones(len(shares), 1), STRENGTH * shares]), batch_size=128)

    check_replies(scored.map, decode)  # raises for a region that says something else
    said = decode(prompts * len(points), np.repeat(points, len(prompts), 0))
    assert [reply for row in zip(*scored.map.replies(points), strict=True) for reply in row] == said
    best = method.own_choices(prompts)["exact optimum"]
    assert scored.means(best).mean() >= scored.means(points).mean(1).max() - 1e-9


# -- runs


def test_reward_models_are_kept_and_a_lost_one_is_made_again(tmp_path):
    method = make_method("genarm", bench(folder=tmp_path))
    cost, replies = method.prepare(), method.reply(tiny.PROMPTS)
    assert (cost.data_points, cost.parallel, cost.samples) == (8, 8, 16)  # two replies a prompt, judged by all objectives
    again = make_method("genarm", bench(folder=tmp_path))
    assert again.prepare() == cost and again.reply(tiny.PROMPTS) == replies and "genarm pairs" not in again.bench.parts
    folder = tmp_path / "genarm-empathy"
    before = (folder / "adapter_model.safetensors").read_bytes()
    for file in folder.iterdir():
        file.unlink()
    torch.manual_seed(99)
    third = make_method("genarm", bench(folder=tmp_path))
    found = third.prepare()
    assert (found.data_points, found.samples) == (8, 16) and (folder / "adapter_model.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="seed"):
        make_method("genarm", bench(folder=tmp_path, seed=1)).prepare()


def test_what_cannot_be_is_told_in_one_line():
    for setting, message in [((1.0, 0.0), "expected 3 weights"), ((0, 0, 0), "not all zero"), ((1, -1, 1), "not negative")]:
        with pytest.raises(UserError, match=message):
            trained().reply(tiny.PROMPTS, setting)
    with pytest.raises(UserError, match="nothing to shrink"), trained().shrunk(0.5):
        pass
    biased = tiny.language_model()
    biased.base.lm_head.bias = torch.nn.Parameter(torch.randn(len(tiny.WORDS)))
    with pytest.raises(UserError, match="head with a bias"):
        make_method("genarm", bench(biased)).prepare()


def test_the_options_are_those_that_the_tuning_chose():
    """On seeds that no study has, and none of them at an end of what was tried."""
    table = pd.read_csv(ROOT / "data" / "results" / "genarm_tuning.csv")
    chosen = {"beta_r": BETA_R, "lr_times": LR_TIMES, "strength": STRENGTH}
    assert runpy.run_path(str(ROOT / "scripts" / "tune_genarm.py"))["best"](table) == chosen
    assert table["seed"].min() >= 100 and (table["pairs"] > 0).all()
    assert all(table[name].min() < value < table[name].max() for name, value in chosen.items())


# -- what notebook 07 says of it


def test_sentences_follow_the_numbers():
    names, scores = ["a", "b", "c"], np.array([[0.9, 0.1, 0.4], [0.2, 0.3, 0.4]])
    text = guidance.pair_reading(names, scores, [-3.0, -9.0], 0.2)
    assert "-3.0 against" in text.replace("−", "-") and "prefers the better" in text
    assert "the first for a and the second for b" in text and "1 objective cannot" in text and "the first" in text.split("likelier")[1]
    assert "the second" in (worse := guidance.pair_reading(names, scores[::-1], [-9.0, -3.0], 2.0)).split("likelier")[1]
    assert "prefers the worse" in worse
    assert guidance.pair_reading(names, scores[[0, 0]], [-3.0, -9.0], 0.2).startswith("No objective prefers either")
    base, colder, guided = np.array([0.5, 0.5 - 1e-9]), np.array([0.6, 0.4]), np.array([0.1, 0.9])
    assert "stays the same" in guidance.words_reading(base, colder, guided) and ".50 of" in guidance.words_reading(base, colder, guided)
    assert "is another" in guidance.words_reading(base, guided, guided)


def test_the_study_is_read_only_where_it_holds_the_method():
    means = {"uniform": [0.0, 0.1, 0.2], "genarm": [0.3, 0.41, 0.52]}
    rows = pd.DataFrame([{"method": m, "choice": "default", "seed": s, "mean": x} for m, of in means.items() for s, x in enumerate(of)])
    metrics = pd.DataFrame(columns=["method", "seed", "hypervolume"])
    assert "uniform +0.310" in guidance.study_reading(rows, metrics, ["uniform", "emorl"])
    assert "no run of GenARM yet" in guidance.study_reading(rows[rows.method == "uniform"], metrics)
