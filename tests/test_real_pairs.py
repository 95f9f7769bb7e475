"""The pairs that real classifiers are trained on: labels by level, and made examples whose change tells nothing by itself."""

import random
from collections import Counter

import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.data.datasets import Example
from emorl_lite.rewards.text_pairs import (
    EMPTY_WARMTH,
    STOCK,
    asked,
    copied,
    cut,
    empathy_pairs,
    plain_question,
    reflection_pairs,
    shuffled,
)

pytestmark = pytest.mark.plain


def examples(n=40):
    out = []
    for i in range(n):
        prompt, topic = f"client {i} says that work is hard and home is harder still, with much more to tell.", f"topic {i % 4}"
        out += [
            Example(prompt, f"You find {i} that work weighs on you and home weighs even more on you these days.", "high", None, topic, i)
        ]
        out += [Example(prompt, f"Work is hard {i}.", "medium", None, topic, i), Example(prompt, f"Why {i}?", "low", None, topic, i)]
        out += [Example(prompt, f"Do sports {i}.", "low", None, topic, i)]
    return out


def test_reflection_labels_follow_the_levels():
    pairs = reflection_pairs(examples())
    labels = {kind: {p.reflection for p in pairs if p.kind == kind} for kind in {p.kind for p in pairs}}
    assert labels["high"] == {1.0} and labels["low"] == {0.0} and 0 < min(labels["medium"]) < 1
    for kind in ("mismatched", "stock", "shuffled", "copied", "joined"):
        assert labels[kind] == {0.0}, kind


def test_a_question_mark_or_a_cut_tells_nothing():
    pairs = reflection_pairs(examples(400))
    for kind in ("asked", "cut"):
        right = Counter(p.reflection > 0 for p in pairs if p.kind == kind)
        assert 0.35 < right[True] / sum(right.values()) < 0.65, kind


def test_mismatched_replies_come_from_another_topic():
    topics = {e.prompt: e.topic for e in examples()}
    owner = {e.reply: e.prompt for e in examples()}
    wrong = [p for p in reflection_pairs(examples()) if p.kind == "mismatched"]
    assert len(wrong) == 40 and all(topics[p.prompt] != topics[owner[p.reply]] for p in wrong)


def test_one_topic_still_gives_mismatched_replies():
    few = [Example(e.prompt, e.reply, e.quality, None, "one", e.row) for e in examples(3)]
    wrong = [p for p in reflection_pairs(few) if p.kind == "mismatched"]
    owner = {e.reply: e.prompt for e in few}
    assert wrong and all(owner[p.reply] != p.prompt for p in wrong)


def test_the_seed_decides_the_pairs():
    assert reflection_pairs(examples(), 1) == reflection_pairs(examples(), 1) != reflection_pairs(examples(), 2)


@pytest.mark.parametrize("missing", ["high", "low"])
def test_data_without_a_level_cannot_teach_reflection(missing):
    with pytest.raises(UserError, match="high and of low quality"):
        reflection_pairs([e for e in examples() if e.quality != missing])


def write(path, rows):
    lines = [f"{i},{i},post {i // 2} is about a bad day at work,{reply},{level}," for i, (reply, level) in enumerate(rows)]
    path.write_text("sp_id,rp_id,seeker_post,response_post,level,rationales\n" + "\n".join(lines) + "\n")
    return path


def test_empathy_pairs_of_a_file(tmp_path):
    file = write(tmp_path / "e.csv", [("I am so sorry friend", 2), ("Try to sleep more", 0), ("That sounds rough", 1)] * 100)
    plain = empathy_pairs(file, "train", made=False)
    assert {(p.kind, p.empathy) for p in plain} == {("level 0", 0.0), ("level 1", 0.8), ("level 2", 1.0)}
    made = empathy_pairs(file, "train")
    assert [p for p in made if p.kind.startswith("level")] == plain
    assert all(p.empathy == 0 for p in made if p.kind in ("empty warmth", "plain", "shuffled", "copied"))
    posts = [{p.prompt for p in empathy_pairs(file, split, made=False)} for split in ("train", "validation", "test")]
    assert not (posts[0] & posts[1] or posts[0] & posts[2] or posts[1] & posts[2])


def test_a_wrong_level_names_its_row(tmp_path):
    file = write(tmp_path / "e.csv", [("fine", 0)] * 5 + [("fine", 7)])
    with pytest.raises(UserError, match=r"row 7: level '7'"):
        empathy_pairs(file, "train")


def test_changes_of_a_reply():
    assert asked("You are sad.") == "You are sad?" and asked("Sad?!") == "Sad?"
    assert plain_question("Why? Why not?") == "Why. Why not."
    assert cut("one two three four", 2) == "one two."
    assert sorted(shuffled("a b c d", random.Random(0)).split()) == list("abcd")
    assert copied("a b c", random.Random(0)) in "a b c"
    assert "You're sorry." in STOCK and "You're sorry." in EMPTY_WARMTH
