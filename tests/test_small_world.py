"""The embedded small world: its size, its vocabulary, and its labels against its own truth."""

import json
import random
import re
from collections import Counter, defaultdict
from functools import cache

import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import ASSETS
from emorl_lite.data.small_world import (
    EMPATHY,
    REFLECTION,
    SPLITS,
    WRONG_COSTS,
    Grammar,
    damaged,
    grammar,
    sentence_case,
    split_of,
    to_second_person,
)
from emorl_lite.rewards.small_world_judge import labelled

pytestmark = pytest.mark.plain

CONTENTS = ["full", "two", "one", "generic", "advice", "question", "wrong"]


@cache
def sampled(n: int = 20_000):
    return grammar().pairs(n, "train", seed=5, per_client=2)


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text)


# -- size and vocabulary


def test_every_text_is_covered_by_the_vocabulary():
    known = set(grammar().vocabulary())
    unknown = {w for c, r in sampled() for w in words(c.text) + words(r.text)} - known
    assert len(sampled()) == 20_000 and not unknown


def test_texts_hold_only_words_full_stops_commas_and_question_marks():
    rest = Counter(ch for c, r in sampled() for ch in re.sub(r"[A-Za-z' ]", "", c.text + r.text))
    assert set(rest) <= set(".,?")


@pytest.mark.slow
def test_the_world_is_large_enough():
    pairs = grammar().pairs(40_000, "train", seed=0)
    assert len(grammar().topics) >= 10
    assert len({w.lower() for c, r in pairs for w in words(c.text) + words(r.text)}) >= 1000
    assert len({(c.text, r.text) for c, r in pairs}) >= 30_000


def test_every_topic_and_kind_of_reply_occurs():
    assert {c.topic for c, _ in sampled()} == set(grammar().topics)
    assert {r.content for _, r in sampled()} == set(CONTENTS) and {r.warmth for _, r in sampled()} == set(EMPATHY)


def test_the_mixture_is_the_one_of_the_data_file():
    mixture = grammar().phrases["content_mixture"]
    seen = Counter(r.content for _, r in sampled())
    assert sum(mixture.values()) == pytest.approx(1)
    for kind, share in mixture.items():
        assert seen[kind] / len(sampled()) == pytest.approx(share, abs=0.015)


# -- splits and determinism


def test_splits_share_no_statement_and_each_is_its_hash():
    clients = {s: grammar().clients(1500, s, seed=1) for s in SPLITS}
    texts = {s: {c.text for c in clients[s]} for s in SPLITS}
    assert all(len(t) == 1500 for t in texts.values())
    assert len(set.union(*texts.values())) == 4500
    assert all(split_of(t) == s for s in SPLITS for t in texts[s])


def test_split_shares():
    rng = random.Random(0)
    seen = Counter(split_of(grammar().client(rng).text) for _ in range(10_000))
    for name, (low, high) in SPLITS.items():
        assert seen[name] / 10_000 == pytest.approx((high - low) / 100, abs=0.01)


def test_same_seed_same_world():
    again = Grammar.load()
    assert again.pairs(50, "test", seed=4) == grammar().pairs(50, "test", seed=4) != grammar().pairs(50, "test", seed=5)
    assert again.vocabulary() == grammar().vocabulary()


def test_an_extended_grammar_moves_no_statement():
    """A statement keeps its split whatever else the grammar holds."""
    small = Grammar({"work": grammar().topics["work"]}, grammar().phrases)
    texts = {s: {c.text for c in small.clients(300, s)} for s in SPLITS}
    assert all(split_of(t) == s for s in SPLITS for t in texts[s])
    assert not texts["test"] & {c.text for c in grammar().clients(3000, "train")}


def test_unknown_splits_and_exhausted_grammars_are_errors():
    with pytest.raises(UserError, match="split 'dev'"):
        grammar().clients(1, "dev")
    part = grammar().topics["work"]
    one = {"work": part | {"situations": part["situations"][:1], "goals": part["goals"][:1]}}
    phrases = grammar().phrases | {"feelings": [["sad"]], "consequences": ["cry in the shower"], "client_templates": ["{S}. {F}. {T}."]}
    with pytest.raises(UserError, match="fewer than 200 statements in split 'test'"):
        Grammar(one, phrases).clients(200, "test")


def test_broken_grammar_folders_name_the_file(tmp_path):
    with pytest.raises(UserError, match="no grammar here"):
        Grammar.load(tmp_path)
    (tmp_path / "topics").mkdir()
    (tmp_path / "phrases.json").write_text("{}", encoding="utf-8")
    (tmp_path / "topics" / "x.json").write_text(json.dumps({"topic": "x", "situations": []}), encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json: key 'advice' is missing"):
        Grammar.load(tmp_path)
    for damage in ("", "[]", '{"topic": '):
        (tmp_path / "topics" / "x.json").write_text(damage, encoding="utf-8")
        with pytest.raises(UserError, match=r"x\.json"):
            Grammar.load(tmp_path)


# -- labels


def test_labels_agree_with_the_truth():
    """Labels by construction against exact matching agree on every sample of every kind."""
    world = grammar()
    reflection, empathy = defaultdict(list), defaultdict(list)
    for client, reply in sampled():
        told, warmth = world.truth(client, reply.text)
        reflection[reply.content].append(told == reply.reflection)
        empathy[reply.warmth].append(warmth == reply.empathy)
    rates = {kind: sum(ok) / len(ok) for kind, ok in reflection.items()}
    assert rates == dict.fromkeys(CONTENTS, 1.0)
    assert {kind: sum(ok) / len(ok) for kind, ok in empathy.items()} == dict.fromkeys(EMPATHY, 1.0)


def test_no_phrase_states_an_element_that_it_is_not():
    """Nothing but a stated feeling counts as one, and no situation or third is part of another text."""
    world, p = grammar(), grammar().phrases
    situations = [s for t in world.topics.values() for s in t["situations"]]
    thirds = p["consequences"] + [g for t in world.topics.values() for g in t["goals"]]
    rest = [x for t in world.topics.values() for x in t["advice"] + t["questions"]] + p["generic"]
    rest += p["openers"] + p["closers"] + p["cold_openers"] + p["cold_closers"]
    clients = [world.client(random.Random(i)) for i in range(200)]
    for group in range(len(p["feelings"])):
        client = next(c for c in clients if c.feeling_group == group)
        for text in [to_second_person(x) for x in situations + thirds] + rest:
            own = text in (to_second_person(client.situation), to_second_person(client.third))
            assert world.truth(client, text)[0] == REFLECTION[int(own)], (client, text)


def test_the_feeling_frames_of_replies_are_recognised():
    world, p = grammar(), grammar().phrases
    client = world.client(random.Random(1))
    for group, feelings in enumerate(p["feelings"]):
        for frame in p["reply_feelings"]:
            for feeling in feelings:
                assert (world.truth(client, frame.format(f=feeling))[0] > 0) == (group == client.feeling_group)


def test_a_wrong_element_costs_its_price():
    world, rng = grammar(), random.Random(3)
    for client in world.clients(500, "train", seed=8):
        reply = world.reply(rng, client, "flawed")
        right, wrong = world.elements(client, reply.text)
        assert reply.quality == "low" and wrong == 1 and right in (0, 1, 2)
        assert world.truth(client, reply.text)[0] == reply.reflection == max(0.0, REFLECTION[right] - WRONG_COSTS)


def test_elements_are_counted_once_each_and_by_whom_they_belong_to():
    world, rng = grammar(), random.Random(5)
    for client in world.clients(100, "test"):
        full = world.reply(rng, client, "full", "warm2").text
        assert world.elements(client, full) == (3, 0)
        assert world.elements(world.stranger(rng, client), full) == (0, 3)
        own = world.phrases["feelings"][client.feeling_group]
        other = world.phrases["feelings"][client.feeling_group - 1]
        assert world.elements(client, " ".join(f"You feel {f}." for f in own)) == (1, 0)
        assert world.elements(client, f"{full} You are {other[0]}. It leaves you {other[1]}.") == (3, 1)
        assert world.truth(client, f"{full} You are {other[0]}.") == (1 - WRONG_COSTS, 1)
        assert world.elements(client, "") == world.elements(client, "Okay.") == (0, 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_classifiers_labels_are_told_from_the_texts_alone(split):
    """Of all kinds, shortcuts too. (That words without an element were shuffled is not seen: empathy .2, not 0.)"""
    world, n = grammar(), 1600
    clients = {c.text: c for c in world.clients(n // 4, split, seed=1)}
    pairs = labelled(world, n, split)
    assert {p.kind for p in pairs} == {*CONTENTS, "flawed", "shuffled", "looped", "copied", "padded", "doubled"}
    for pair in pairs:
        reflection, empathy = world.truth(clients[pair.prompt], pair.reply)
        assert reflection == pair.reflection, pair
        assert empathy == pair.empathy or (pair.kind == "shuffled" and empathy <= EMPATHY["none"]), pair


def test_a_copied_statement_restates_no_more_than_its_impersonal_elements():
    """Replies speak to the client in the second person: an echo of the client's own words is no reflection of feeling."""
    world = grammar()
    assert all(world.truth(c, c.text)[0] < 1 for c in world.clients(500, "test"))


def test_strangers_share_no_element():
    world, rng = grammar(), random.Random(0)
    clients = world.clients(300, "train")
    others = [world.stranger(rng, c) for c in clients]
    for c, o in zip(clients, others, strict=True):
        assert c.situation != o.situation and c.third != o.third and c.feeling_group != o.feeling_group
    assert 0.3 < sum(c.topic == o.topic for c, o in zip(clients, others, strict=True)) / 300 < 0.6


def test_damaged_replies_earn_nothing():
    world, rng = grammar(), random.Random(0)
    client = world.client(rng)
    reply = world.reply(rng, client, "full", "warm2")
    shuffled, looped = damaged(reply, "shuffled", rng), damaged(reply, "looped", rng)
    assert sorted(shuffled.text.split()) == sorted(reply.text.split()) and shuffled.text != reply.text
    assert set(looped.text.split()) < set(reply.text.split()) and len(looped.text.split()) > len(set(looped.text.split()))
    assert shuffled.reflection == looped.reflection == shuffled.empathy == looped.empathy == 0
    with pytest.raises(ValueError, match="twisted"):
        damaged(reply, "twisted", rng)


# -- small rules of language


@pytest.mark.parametrize(
    "first, second",
    [
        ("my boss ignores me", "your boss ignores you"),
        ("I was passed over for the promotion", "you were passed over for the promotion"),
        ("I am blaming myself", "you are blaming yourself"),
        ("my brother was right and I was wrong", "your brother was right and you were wrong"),
        ("our newborn cries", "your newborn cries"),
        ("we argue about mine", "you both argue about yours"),
        ("she never told us", "she never told you"),
        ("shake when I think about it", "shake when you think about it"),
        ("the amount of memes", "the amount of memes"),  # whole words only
        ("", ""),
    ],
)
def test_to_second_person(first, second):
    assert to_second_person(first) == second
    assert to_second_person(second) == second


def test_no_first_person_is_left_in_restated_elements():
    world = grammar()
    elements = [x for t in world.topics.values() for x in t["situations"] + t["goals"]] + world.phrases["consequences"]
    left = [e for e in elements if re.search(r"\b(I|me|my|mine|am|our|ours|we|us|myself|ourselves|I'\w+)\b", to_second_person(e))]
    assert not left


def test_sentence_case():
    assert sentence_case("so it is. why not? go on.") == "So it is. Why not? Go on."


@pytest.mark.slow
def test_the_datasheet_has_the_grammars_numbers():
    """The table of emorl_lite/assets/small_world/README.md, recounted."""
    world, p = grammar(), grammar().phrases
    topics = world.topics.values()
    frames = len(p["client_feelings"]) * sum(map(len, p["feelings"]))
    thirds = len(p["consequences"]) * len(p["consequence_leads"])
    statements = sum(len(t["situations"]) * (thirds + len(t["goals"]) * len(p["goal_leads"])) for t in topics)
    counts = {
        "topics": len(world.topics),
        "situations": sum(len(t["situations"]) for t in topics),
        "goals": sum(len(t["goals"]) for t in topics),
        "consequences": len(p["consequences"]),
        "feelings": sum(map(len, p["feelings"])),
        "feeling groups": len(p["feelings"]),
        "pieces of advice": sum(len(t["advice"]) for t in topics),
        "questions": sum(len(t["questions"]) for t in topics),
        "generic lines": len(p["generic"]),
        "warm phrases": len(p["openers"]) + len(p["closers"]),
        "cold phrases": len(p["cold_openers"]) + len(p["cold_closers"]),
        "distinct words": len({w.lower() for w in world.vocabulary()}),
        "vocabulary with both cases": len(world.vocabulary()),
        "possible statements": statements * frames * len(p["client_templates"]),
    }
    sheet = (ASSETS / "small_world" / "README.md").read_text(encoding="utf-8")
    told = {name: int(n.replace(",", "")) for name, n in re.findall(r"^\| ([a-z ]+) \| ([\d,]+) \|", sheet, re.MULTILINE)}
    assert {name: told.get(name) for name in counts} == counts
    shares = {name: float(x) for name, x in re.findall(r"^\| (\w+)[^|]*\| (\.\d+) \|", sheet, re.MULTILINE)}
    assert shares == p["content_mixture"] | p["warmth_mixture"]
    drawn = grammar().pairs(40_000, "train", seed=0)
    assert told["distinct pairs in a draw"] == len({(c.text, r.text) for c, r in drawn})
