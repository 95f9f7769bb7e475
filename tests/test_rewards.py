"""Rewards: what an unfinished, empty or repetitive reply earns, and fluency against its definition."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import MORE_OBJECTIVES, OBJECTIVES, get_preset
from emorl_lite.base.workspace import Workspace
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.lm.text import Template
from emorl_lite.rewards.alone import alone
from emorl_lite.rewards.build import RewardBuilder
from emorl_lite.rewards.objectives import Brevity, Fluency, Guarded, RewardSet, finished, perplexity, repetition_guard
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.rewards.small_world_judge import read_pairs

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=20)


def ones(prompts, replies):
    return torch.ones(len(replies))


@given(WORDS)
def test_guard_is_the_share_of_distinct_ngrams(words):
    (share,) = repetition_guard([" ".join(words)]).tolist()
    grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    assert 0 < share <= 1
    if len(words) < 4:
        assert share == 1
    else:
        assert share == pytest.approx(len(set(grams)) / len(grams))


def test_guard_halves_a_phrase_said_twice_and_ignores_case():
    assert repetition_guard(["I am here. i AM here. I am here."])[0] < 0.7


def test_brevity_counts_words():
    reward = Guarded(Brevity(10), "brevity")
    assert reward([""] * 4, ["Okay.", "I hear you.", "", " ".join("abcdefghijkl")]).tolist() == pytest.approx([0.9, 0.7, 0.0, 0.0])


def test_unfinished_empty_and_looped_replies_earn_nothing_extra():
    reward = Guarded(ones, "ones")
    scores = reward(["p"] * 4, ["a full reply.", "cut off" + UNFINISHED, "", "x y z w " * 6])
    assert scores[0] == 1 and scores[1] == 0 and scores[2] == 0 and 0 < scores[3] < 0.5


def test_unfinished_mark_is_what_decode_writes():
    lm = tiny.language_model()
    texts = lm.decode(torch.tensor([[10, 11, 12], [10, 2, 0]]))
    assert finished(texts).tolist() == [0, 1]


@tiny.kinds()
def test_perplexity_is_exp_of_the_mean_surprise(kind):
    lm = tiny.language_model(kind)
    reply = "w3 w9 w1"
    ids, _ = lm.encode_replies([reply])
    with torch.no_grad():
        logits, _ = lm.forward_reply(lm.encode(["w5 w6"]), ids, torch.ones_like(ids))
    surprise = [-float(logits[0, t].log_softmax(-1)[token]) for t, token in enumerate(ids[0].tolist())]
    assert len(surprise) == 4  # three words and the end
    assert float(perplexity(lm, ["w5 w6"], [reply])[0]) == pytest.approx(math.exp(sum(surprise) / 4), rel=1e-4)


def test_fluency_reads_the_reply_alone_and_is_clipped():
    lm = tiny.language_model()
    replies = ["w1 w2", "w3"]
    ppl = perplexity(lm, ["", ""], replies)
    assert torch.allclose(Fluency(lm, 1000.0)(["w5", "w6"], replies), (1000 - ppl) / 1000)
    assert torch.equal(Fluency(lm, 1000.0)(["w5", "w6"], replies), Fluency(lm, 1000.0)(["w7", "w8"], replies))
    assert Fluency(lm, 1.0)(["w5", "w6"], replies).tolist() == [0, 0]


def test_fluency_ignores_adapters():
    lm = tiny.language_model(adapters=2)
    plain = tiny.language_model()
    assert torch.allclose(perplexity(lm, [""], ["w1 w2"]), perplexity(plain, [""], ["w1 w2"]), rtol=1e-4)


def test_errors_and_means():
    rewards = RewardSet({"a": Guarded(ones, "a"), "b": Guarded(lambda p, r: torch.zeros(len(r)), "b")})
    assert rewards.means(["p"], ["a reply."]) == {"a": 1.0, "b": 0.0}
    with pytest.raises(UserError, match="objective 'c' is unknown"):
        rewards["c"]
    with pytest.raises(UserError, match="reward 'a': 1 prompts but 2 replies"):
        rewards["a"](["p"], ["x", "y"])


# -- the registry


def builder(*objectives: str) -> RewardBuilder:
    return RewardBuilder(Workspace(replace(get_preset("tiny"), objectives=objectives)), progress=False)


def asks(prompts, replies):
    return torch.tensor([float(reply.endswith("?")) for reply in replies])


def test_a_reward_is_added_by_its_line_and_guarded_like_the_others(monkeypatch):
    monkeypatch.setitem(REWARDS, "asks", lambda given: asks)
    rewards = builder("brevity", "asks").rewards
    replies = ["Why?", "I see.", "why is it so? " * 5 + "why?", "Why" + UNFINISHED]
    assert list(rewards) == ["brevity", "asks"]
    assert rewards["asks"](["p"] * 4, replies).tolist() == pytest.approx([1, 0, 5 / 18, 0])  # five of its 18 4-grams are distinct
    with pytest.raises(UserError, match="reward 'asks': 1 prompts but 2 replies"):
        rewards["asks"](["p"], ["x", "y"])


def test_a_reward_is_made_from_options_and_the_frozen_model(monkeypatch):
    monkeypatch.setitem(REWARDS, "cap", lambda given: Brevity(given.preset.rewards.brevity_cap))
    monkeypatch.setitem(REWARDS, "twice", lambda given: Fluency(given.frozen, 2 * given.preset.rewards.fluency_cap))
    made = builder("cap", "brevity", "fluency", "twice")
    scores = made.rewards.scores(["p"], ["You feel sad because your boss keeps giving you more tasks."])
    assert scores["cap"] == scores["brevity"] and scores["twice"] > scores["fluency"]
    assert made.rewards["twice"].score.lm is made.rewards["fluency"].score.lm is made.frozen


def test_every_named_objective_has_a_reward():
    assert set(OBJECTIVES + MORE_OBJECTIVES) <= set(REWARDS)


def test_an_unknown_reward_is_answered_with_the_list(monkeypatch):
    monkeypatch.setitem(REWARDS, "asks", lambda given: asks)
    with pytest.raises(UserError) as told:
        _ = builder("empathy", "warmth").rewards
    assert str(told.value) == f"objective 'warmth' is unknown: expected one of {', '.join(REWARDS)}" and str(told.value).endswith("asks")


@pytest.mark.parametrize(
    ("entry", "message"),
    [(asks, "expected a function that makes"), ("asks", "expected a function that makes"), (lambda given: None, "makes NoneType")],
)
def test_an_entry_that_makes_no_reward_is_told(monkeypatch, entry, message):
    monkeypatch.setitem(REWARDS, "asks", entry)
    with pytest.raises(UserError, match=rf"^REWARDS\['asks'\]: {message}"):
        _ = builder("asks").rewards


def test_what_a_fresh_process_makes_too(monkeypatch):
    assert builder("brevity", "diversity").packaged()
    monkeypatch.setitem(REWARDS, "asks", lambda given: asks)
    assert not builder("brevity", "asks").packaged()
    monkeypatch.setitem(REWARDS, "brevity", lambda given: Brevity(3))
    made = builder("brevity")
    assert not made.packaged() and made.rewards["brevity"].score.cap == 3
    monkeypatch.undo()
    assert not made.packaged(), "what its rewards were made by, not what the registry says now"
    assert builder("brevity").packaged()


def test_fluency_and_the_classifiers_read_a_reply_alone_once(monkeypatch):
    lm = tiny.language_model()
    replies, read = ["w3 w4", "w5"], []
    scored = lm.score_texts
    monkeypatch.setattr(lm, "score_texts", lambda *args: read.append(args) or scored(*args))
    pairs = read_pairs(lm, tiny.PROMPTS[:2], replies)
    found = perplexity(lm, ["", ""], replies)
    assert len(read) == 1
    assert torch.allclose(found, torch.stack([torch.exp(-pair[:, -1].float().mean()) for pair in pairs]), rtol=1e-2)
    with torch.no_grad():
        next(lm.base.parameters()).mul_(0.5)
    assert not torch.allclose(perplexity(lm, ["", ""], replies), found) and len(read) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda lm: lm.head.weight.data.mul_(0.5),  # nothing but the numbers tells
        lambda lm: setattr(lm.head.weight, "data", lm.head.weight.data * 0.5),
        lambda lm: lm.base.to(torch.bfloat16),
        lambda lm: setattr(lm, "config", replace(lm.config, autocast=True)),
        lambda lm: setattr(lm, "template", Template("<bos> w7 {prompt} <sep>", lm.words, add_special_tokens=False)),
    ],
)
def test_another_model_or_another_reading_of_the_same_is_read_anew(change):
    lm, replies = tiny.language_model(), ["w3 w4", "w5"]
    alone(lm, replies)
    change(lm)
    with torch.no_grad():
        expected = lm.score_texts(["", ""], replies)[0]
    assert torch.equal(alone(lm, replies)[0], expected)


def test_what_is_kept_of_replies_read_alone_is_not_what_is_given():
    lm = tiny.language_model()
    first, mask = alone(lm, ["w3 w4", "w5"])
    expected = first.clone()
    first.zero_(), mask.zero_()
    again, mask = alone(lm, ["w3 w4", "w5"])
    assert torch.equal(again, expected) and mask.any()
