"""Rivals do what their papers' code does: bandits over reward weights, and rewards in the prompt."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from test_methods import QUICK, bench
from torch.testing import assert_close

from emorl_lite.base.errors import UserError
from emorl_lite.methods.bandits import Exp3, draw
from emorl_lite.methods.c_dynaopt import CDynaOptWeights, ContextualBandit
from emorl_lite.methods.dynamic_weights import DynamicWeights
from emorl_lite.methods.dynaopt import DynaOptWeights
from emorl_lite.methods.rewards_in_context import RewardsInContext, goals, near_front

# -- bandits over reward weights


def dynamic(cls: type[DynamicWeights], validations: list[list[float]], monkeypatch: pytest.MonkeyPatch) -> DynamicWeights:
    """Reward weights after validations with these mean scores, each of two replies (one a little above, one below)."""
    made = bench()
    weights = cls(made.objectives, 0.1)
    rows = iter(validations)
    monkeypatch.setattr(type(made.objectives), "__call__", lambda *_: torch.tensor(next(rows)) + torch.tensor([[0.01], [-0.01]]))
    weights.start()
    for _ in validations:
        weights.validate(["a", "a"], ["x", "y"])
        weights.adapt()
        assert weights.improvements is None
    return weights


def test_c_dynaopt_learns_from_every_improvement_there_is(monkeypatch):
    """The first arm is drawn at the first validation; whatever follows is learnt, as 1 - the mean improvement over all objectives."""
    scores = [[0.1, 0.2, 0.3], [0.4, 0.2, 0.0], [0.4, 0.8, 0.3], [0.1, 0.1, 0.1]]
    weights = dynamic(CDynaOptWeights, scores, monkeypatch)
    assert isinstance(weights, CDynaOptWeights)
    seen, past = weights.seen, torch.tensor(scores)
    assert len(seen) == len(scores) - 1
    for t, (context, arm, cost, probability) in enumerate(seen, start=1):
        improvement = past[t] - past[:t].mean(0)
        assert cost == pytest.approx(1 - float(improvement.mean()), abs=1e-6)
        before = past[t - 1] - past[: t - 1].mean(0) if t > 1 else torch.zeros(3)  # what the arm was drawn at
        assert context[3:] == pytest.approx(before.tolist(), abs=1e-6)
        assert sum(context[:3]) == pytest.approx(1) and arm in range(4) and 0 < probability <= 1
    assert seen[0][0][:3] == pytest.approx([1 / 3] * 3), "nothing is raised before the first validation"


def test_c_dynaopt_raises_weights_as_dynaopt_does(monkeypatch):
    monkeypatch.setattr("emorl_lite.methods.c_dynaopt.draw", lambda _: 1)
    by_hand = Exp3(3, 0.07)
    weights = dynamic(CDynaOptWeights, [[0.1, 0.2, 0.3]] * 3, monkeypatch)
    for _ in range(3):
        by_hand.update(1, 1.0)
    assert_close(weights.weights, [w / sum(by_hand.weights) for w in by_hand.weights])
    monkeypatch.setattr("emorl_lite.methods.c_dynaopt.draw", lambda _: 3)
    assert dynamic(CDynaOptWeights, [[0.1, 0.2, 0.3]] * 3, monkeypatch).weights == pytest.approx([1 / 3] * 3), "the last arm leaves them"


def test_c_dynaopts_state_is_json_and_comes_back(monkeypatch):
    whole = dynamic(CDynaOptWeights, [[0.1, 0.2, 0.3], [0.4, 0.2, 0.0], [0.4, 0.8, 0.3]], monkeypatch)
    again = CDynaOptWeights(bench().objectives, 0.1)
    again.load_state(json.loads(json.dumps(again.state())))  # before the first validation: no arm yet
    assert again.choice is None
    again.load_state(json.loads(json.dumps(whole.state())))
    for weights in (whole, again):
        weights.learn([0.1, 0.2, 0.0])
    probabilities = [weights.bandit.probabilities([0.3, 0.3, 0.4, 0.0, 0.1, 0.0]) for weights in (whole, again)]
    assert_close(*probabilities)
    assert again.weights == whole.weights and again.raised_weights == whole.raised_weights


def asked(pays, turns: int = 200) -> list[bool]:
    """Whether a contextual bandit drew the arm that pays, turn by turn; two contexts by turns, arm `pays[k]` pays in context k."""
    torch.manual_seed(0)
    bandit, contexts, hits = ContextualBandit(4), [[0.6, 0.2, 0.2, 0, 0, 0], [0.2, 0.6, 0.2, 0, 0, 0]], []
    for turn in range(turns):
        context, arm_that_pays = contexts[turn % 2], pays[turn % 2]
        p = bandit.probabilities(context)
        arm = draw(p)
        bandit.learn(context, arm, 0.5 if arm == arm_that_pays else 1.5, p[arm])
        hits.append(arm == arm_that_pays)
    return hits


def test_a_contextual_bandit_finds_the_arm_that_pays_also_where_it_depends_on_the_context():
    for pays in ((1, 1), (0, 1), (3, 2)):
        hits = asked(pays)
        assert sum(hits[-50:]) > 35, f"arms {pays}: by chance it would be about 12"


def test_dynaopt_follows_its_code(monkeypatch):
    """An arm before the first step, weights that change once a validation, no news at the first one, 200 scores remembered."""
    arms = iter([0, 3, 1, 2])
    monkeypatch.setattr(Exp3, "draw", lambda self: next(arms))
    scores = [[0.1, 0.2, 0.3], [0.4, 0.2, 0.0], [0.4, 0.8, 0.3]]
    weights = dynamic(DynaOptWeights, scores, monkeypatch)
    assert isinstance(weights, DynaOptWeights)
    controller, raised = Exp3(4, 0.07), Exp3(3, 0.07)
    for arm, improvement in ((0, 0.0), (3, 0.0), (1, (0.15 + 0.6 + 0.15) / 3)):  # .6 - .6 at the second validation
        controller.update(arm, improvement)
    for arm in (0, 1, 2):
        raised.update(arm, 1.0)
    assert_close(weights.controller_weights, controller.weights)
    assert_close(weights.weights, [w / sum(raised.weights) for w in raised.weights])
    assert weights.raised_weights[0] == pytest.approx(math.exp(0.07), rel=0.01), "a raise is a factor of about 7 %"
    monkeypatch.undo()
    many = DynaOptWeights(bench().objectives, 0.1)
    for _ in range(30):
        many.validate(["w1"] * 8, ["w2"] * 8)
    assert len(many.history) == 200


# -- rewards in the prompt


WORDS = ("no", "little", "some", "much", "most", "all")
SAID = [" ".join(["w1"] * a + ["w20"] * b + ["w45"] * c) for a, b, c in itertools.product(range(3), repeat=3) if a + b + c]
"""Replies with more or less of each objective, so that some are near no front."""
REPLIES = [(f"w{i % 12} w{i % 12 + 1}", reply) for i, reply in enumerate(SAID)]
"""Of a data set."""


def trained_on(method: RewardsInContext, monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[tuple[str, str]]], tuple[int, int]]:
    """The examples of each stage of its training, and what the training says that it took; nothing is trained."""
    stages: list[list[tuple[str, str]]] = []
    monkeypatch.setattr(RewardsInContext, "_fine_tune", lambda self, data, seed: stages.append(list(data)))
    method.conditioning.add(0)
    return stages, method._train()


def in_words(method: RewardsInContext, prompt: str, reply: str) -> str:
    """What is read before this very reply, by hand."""
    conditioning = method.conditioning
    scores = method.bench.objectives([prompt], [reply])[0]
    levels = (scores - conditioning.low) / (conditioning.high - conditioning.low)
    told = [f"{WORDS[round(5 * min(1.0, max(0.0, float(x))))]} {name}" for x, name in zip(levels, method.bench.names, strict=True)]
    return ", ".join(told) + ". " + prompt


def test_rics_preferences_ask_for_the_highest_reward_from_average_weight_on():
    """Its code's "linf" mapping: the largest weight asks for the highest; every other one for min(1, d w_i) of the way."""
    method = RewardsInContext(bench())
    for weights in torch.distributions.Dirichlet(torch.ones(3)).sample((50,)).tolist():
        asked = method.wanted(torch.tensor([weights]))[0].tolist()
        by_hand = [1.0 if w == max(weights) else min(3 * w, 1.0) for w in weights]
        assert asked == pytest.approx(by_hand, abs=1e-5)
    assert_close(method.wanted(torch.tensor([[2.0, 0, 0]])), torch.tensor([[1.0, 0, 0]]))  # the direction alone counts


def test_rics_offline_examples_carry_the_scores_of_those_very_replies_of_the_data_set(monkeypatch):
    made = replace(bench(config=replace(QUICK, episodes=24)), train_replies=REPLIES)
    method = RewardsInContext(made)
    monkeypatch.setattr(type(made.lm), "reply", lambda self, texts, **_: ["w1 w2"] * len(texts))
    stages, (data_points, samples) = trained_on(method, monkeypatch)
    offline = stages[0]
    assert len(offline) == 12 and {reply for _, reply in offline} <= {reply for _, reply in REPLIES}
    drawn = [next((prompt, reply) for prompt, reply in REPLIES if text.endswith(f". {prompt}") and reply == said) for text, said in offline]
    assert len(set(drawn)) == 12, "each reply of the data set once"
    assert [text for text, _ in offline] == [in_words(method, prompt, reply) for prompt, reply in drawn]
    scores = made.objectives([prompt for prompt, _ in drawn], [reply for _, reply in drawn])
    assert_close(method.conditioning.levels(scores).amax(0), torch.ones(3))
    assert_close(method.conditioning.levels(scores).amin(0), torch.zeros(3))
    assert data_points == 24 and samples == 12, "replies of the data set are paid for, and not generated"


def test_rics_rounds_ask_near_the_front_and_keep_what_is_near_it(monkeypatch):
    made = replace(bench(config=replace(QUICK, episodes=48)), train_replies=REPLIES)
    method, asked = RewardsInContext(made), []

    def reply(self, texts, **options):
        assert options == {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
        asked.append(texts)
        return SAID[::2][: len(texts)]

    monkeypatch.setattr(type(made.lm), "reply", reply)
    stages, _ = trained_on(method, monkeypatch)
    assert [len(texts) for texts in asked] == [12, 12]
    for text in asked[0] + asked[1]:
        assert sum(word == "all" for word in text.split()) >= 2, "all objectives but one at their highest"
    offline = [example for example in stages[1] if example in stages[0]]
    assert 0 < len(offline) < len(stages[0]), "of the data set, too, only what is near the front"
    first = stages[1][len(offline) :]
    assert stages[2][: len(stages[1])] == stages[1], "all rounds so far, and the data set"
    prompts = [text.split(". ", 1)[1] for text in asked[0]]
    said = reply(None, prompts, do_sample=True, temperature=0.7, top_p=0.9)
    scores = made.objectives(prompts, said)
    kept = (scores >= scores.quantile(0.7, dim=0)).any(1)
    assert 0 < kept.sum() < len(kept)
    assert first == [(in_words(method, p, r), r) for p, r, keep in zip(prompts, said, kept, strict=True) if keep]


def test_near_the_front_is_whoever_is_good_at_something():
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.4, 0.4], [0.3, 0.3]])
    assert near_front(scores) == [0, 1, 2]
    assert near_front(torch.zeros(0, 2)) == []
    torch.manual_seed(0)
    drawn = goals(200, 3)
    assert ((drawn == 1).sum(1) == 2).all() and drawn.amin(1).mean() < 0.35  # the least of three: a quarter on average


def test_ric_without_a_data_set_reads_the_bases_replies_and_says_what_is_missing(monkeypatch):
    method = RewardsInContext(bench())
    with pytest.raises(UserError, match="no reply ended within 8 tokens"):
        method._fine_tune([], 0)
    base = RewardsInContext(bench(config=replace(QUICK, episodes=24)))
    monkeypatch.setattr(type(base.bench.lm), "reply", lambda self, texts, **_: ["w1 w2"] * len(texts))
    stages, took = trained_on(base, monkeypatch)
    assert took == (24, 24) and {reply for _, reply in stages[0]} == {"w1 w2"}


def test_replies_that_the_model_cannot_give_are_left_out():
    made = replace(bench(), train_replies=[("w1", "w2 " * 8), ("w1", "w3")])
    assert RewardsInContext(made)._offline(4) == (["w1"], ["w3"], 0)  # 8 words and an end are too many for 8 tokens
