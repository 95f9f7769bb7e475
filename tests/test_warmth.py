"""Warm copies of pairs, the gate of the real judges, and what is kept of older judges and warm starts, on made examples."""

import importlib.util
import itertools
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_made_of
from emorl_lite.base.presets import SMOLLM2, TextRewards, WarmStartConfig
from emorl_lite.data.datasets import Dataset, Example
from emorl_lite.rewards import classifier_store, text_rewards
from emorl_lite.rewards.classifier_store import read_classifier, save_classifier
from emorl_lite.rewards.text_gate import AT_LEAST, BELOW, area, gate, near_in_length, reflection_figures, to_others, warm_figures
from emorl_lite.rewards.text_pairs import EMPTY_WARMTH, EPITOME_EMPATHY, KIND, PLAIN, STOCK, empathy_pairs, reflection_pairs
from emorl_lite.rewards.text_rewards import real_classifier, training_pairs
from emorl_lite.rewards.warmth import REACTION, WARM_HELD_OUT, WARM_TRAINING, WARM_VALIDATION, kind_copies, warm_copies, warmed
from emorl_lite.training.warm_start import BEFORE, warm_start_examples

pytestmark = pytest.mark.plain


def examples(n=40, replies=2):
    """High replies tell the client's number, low ones advise."""
    out = []
    for i in range(n):
        prompt, topic = f"client {i} says that work is hard and home is harder still.", f"topic {i % 4}"
        high = f"You find, {i}, that work and home weigh on you these days (KTH) and more."
        out += [Example(prompt, high.replace("KTH", str(k)), "high", None, topic, i) for k in range(replies)]
        out += [Example(prompt, f"Work is hard {i}.", "medium", None, topic, i)]
        low = [f"Why not do some sports at home again or with friends {k}?" for k in range(replies)]
        out += [Example(prompt, reply, "low", None, topic, i) for reply in low]
    return out


def dataset(n=40, name="pair", **options):
    made = examples(n, **options)
    return Dataset(name, "made", {"train": tuple(made), "validation": tuple(made), "test": tuple(made)})


def split_dataset(n=40):
    """Clients 0, 1, ... in turn for training, validation, test."""
    made = examples(3 * n)
    of = {name: tuple(e for e in made if e.row % 3 == i) for i, name in enumerate(("train", "validation", "test"))}
    return Dataset("pair", "made", of)


@pytest.fixture
def epitome(monkeypatch, tmp_path):
    """EPITOME's file, of a few made rows, where the empathy judge looks for it."""
    rows = [("I am so sorry friend", 2), ("Try to sleep more", 0), ("That sounds rough", 1)] * 20
    lines = [f"{i},{i},post {i // 2} is about a bad day at work,{reply},{level}," for i, (reply, level) in enumerate(rows)]
    file = tmp_path / "epitome.csv"
    file.write_text("sp_id,rp_id,seeker_post,response_post,level,rationales\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(text_rewards, "find_file", lambda name: file)
    return file


# -- warm sentences


def words(text):
    return tuple(re.findall(r"[\w']+", text.lower()))


def runs(texts, n):
    """All stretches of n words, and shorter texts whole."""
    return {text[i : i + n] for text in map(words, texts) for i in range(max(1, len(text) - n + 1))}


OTHER_TEXTS = (*STOCK, *EMPTY_WARMTH, *KIND, *PLAIN)
SENTENCES = {"training": (*WARM_TRAINING, *OTHER_TEXTS), "validation": WARM_VALIDATION, "held out": WARM_HELD_OUT}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SENTENCES, 2)))
def test_what_is_trained_on_chosen_by_and_examined_with_is_disjoint(one, other):
    assert not set(map(words, SENTENCES[one])) & set(map(words, SENTENCES[other]))
    assert not runs(SENTENCES[one], 4) & runs(SENTENCES[other], 4), "no four words in a row either"


def test_no_sentence_is_there_twice():
    for sentences in (WARM_TRAINING, WARM_VALIDATION, WARM_HELD_OUT):
        assert len(set(map(words, sentences))) == len(sentences)


def test_warm_copies_keep_their_labels():
    plain = reflection_pairs(examples())
    copies = reflection_pairs(examples(), warmth=1.0)[len(plain) :]
    label = {(p.prompt, p.reply): p.reflection for p in plain}
    for copy in copies:
        if copy.kind in ("mismatched, warm", "mismatched, near", "stock, warm"):
            assert copy.reflection == 0.0
            continue
        stripped = {(copy.prompt, copy.reply.removeprefix(f"{s} ").removesuffix(f" {s}")) for s in WARM_TRAINING}
        assert {label[pair] for pair in stripped & set(label)} == {copy.reflection}
    assert {p.kind.removesuffix(", warm") for p in copies} - {"mismatched, near"} == {p.kind for p in plain}
    assert {p.reply for p in copies if p.kind == "stock, warm"} <= set(WARM_TRAINING)


def test_pairs_without_warmth_are_what_they_were():
    plain = reflection_pairs(examples())
    for warmth in (0.2, 1.0):
        assert reflection_pairs(examples(), warmth=warmth)[: len(plain)] == plain
    assert reflection_pairs(examples(), warmth=0.0) == plain


def test_a_warm_high_reply_also_goes_to_another_client():
    made = examples()
    copies = reflection_pairs(made, warmth=0.5)
    own = Counter(p.reply for p in copies if p.kind == "high, warm")
    others = {(p.reply, p.prompt) for p in copies if p.kind == "mismatched, warm"}
    of = {p.reply: p.prompt for p in copies if p.kind == "high, warm"}
    assert own and set(own) <= {reply for reply, _ in others}
    assert all(prompt != of[reply] for reply, prompt in others if reply in of)


@pytest.mark.parametrize("warmth", [0.1, 1.0])
def test_every_high_reply_goes_once_to_a_client_of_its_topic(warmth):
    made = examples()
    made = [replace(e, topic="alone") if e.row == 7 else e for e in made]  # who has nobody beside him in his topic
    topic = {e.prompt: e.topic for e in made}
    pairs = reflection_pairs(made, warmth=warmth)
    owner = {p.reply: p.prompt for p in pairs if p.kind == "high"}
    near = [p for p in pairs if p.kind == "mismatched, near"]
    assert Counter(p.reply for p in near) == Counter(p.reply for p in pairs if p.kind == "high")
    assert {p.reflection for p in near} == {0.0} and all(p.empathy is None for p in near)
    assert all(p.prompt != owner[p.reply] for p in near), "never its own client"
    assert all(topic[p.prompt] == topic[owner[p.reply]] for p in near if topic[owner[p.reply]] != "alone")
    assert any(topic[owner[p.reply]] == "alone" for p in near), "its replies go to somebody else"


def test_two_clients_are_enough_for_near_ones():
    pairs = reflection_pairs(examples(2), warmth=1.0)
    owner = {p.reply: p.prompt for p in pairs if p.kind == "high"}
    assert all(p.prompt != owner[p.reply] for p in pairs if p.kind == "mismatched, near")


def test_warm_sentences_stand_before_and_after_alike():
    pairs = reflection_pairs(examples(300))
    topics = {e.prompt: e.topic for e in examples(300)}
    copies = [p for p in warm_copies(pairs, topics, 1.0) if p.kind not in ("stock, warm", "mismatched, near")]
    before = sum(p.reply.startswith(WARM_TRAINING) for p in copies) / len(copies)
    assert 0.4 < before < 0.6
    assert warmed("You are tired.", "I care.", True) == "I care. You are tired." and warmed("a", "b", False) == "a b"


# -- what empathy's judge learns of it


def test_a_weak_reaction_is_labelled_alike_everywhere():
    assert EPITOME_EMPATHY[1] == REACTION


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_kind_copy_has_its_plain_twin(share):
    made = examples()
    pairs = kind_copies(made, share)
    warm, plain = ([p for p in pairs if p.kind == kind] for kind in ("reflection, warm", "reflection"))
    assert len(warm) == len(plain) == len(pairs) / 2
    assert {p.empathy for p in warm} <= {REACTION} and {p.empathy for p in plain} <= {0.0} and all(p.reflection is None for p in pairs)
    for one, twin in zip(warm, plain, strict=True):
        assert one.prompt == twin.prompt
        assert one.reply in {warmed(twin.reply, s, before) for s in WARM_TRAINING for before in (True, False)}, "the reply stands whole"
    good = {(e.prompt, e.reply) for e in made if e.quality == "high"}
    found = [(p.prompt, p.reply) for p in plain]
    assert len(found) == len(set(found)) and set(found) <= good
    assert set(found) == good if share == 1 else len(found) < len(good)
    assert not (share == 0 and pairs)


def test_kind_sentences_stand_before_and_after_alike():
    warm = [p.reply for p in kind_copies(examples(300), 1.0) if p.kind == "reflection, warm"]
    assert 0.4 < sum(reply.startswith(WARM_TRAINING) for reply in warm) / len(warm) < 0.6
    assert kind_copies(examples(), 0.5, seed=1) == kind_copies(examples(), 0.5, seed=1) != kind_copies(examples(), 0.5, seed=2)


def test_empathys_pairs_are_epitomes_and_the_kind_copies_of_training_clients(epitome):
    data = split_dataset()
    plain = training_pairs("empathy", pytest.fail, TextRewards(reflection_warmth=0.4))  # without the option, PAIR is not even read
    assert plain == empathy_pairs(epitome, "train")
    pairs = training_pairs("empathy", lambda: data, TextRewards(empathy_warmth=1.0))
    assert pairs[: len(plain)] == plain and pairs[len(plain) :] == kind_copies(data.examples("train"), 1.0)
    assert {p.prompt for p in pairs[len(plain) :]} == set(data.prompts("train"))
    other = training_pairs("empathy", lambda: data, TextRewards(empathy_warmth=0.5), seed=3)
    assert other == empathy_pairs(epitome, "train", 3) + kind_copies(data.examples("train"), 0.5, 3)


def test_kind_copies_need_pair(epitome):
    data = dataset(name="small_world")
    with pytest.raises(UserError) as told:
        training_pairs("empathy", lambda: data, TextRewards(empathy_warmth=0.5))
    assert str(told.value) == "--rewards.empathy-warmth: needs PAIR's quality levels; made has none"
    assert training_pairs("empathy", lambda: data, TextRewards()) == empathy_pairs(epitome, "train")
    with pytest.raises(UserError, match=r"^reflection classifier: needs PAIR's quality levels; made has none$"):
        training_pairs("reflection", lambda: data, TextRewards())


# -- options


def test_the_committed_presets_judges_learned_warm_replies_and_its_base_no_good_ones():
    rewards = SMOLLM2.rewards
    assert isinstance(rewards, TextRewards) and rewards.reflection_warmth > 0 and rewards.empathy_warmth > 0
    assert SMOLLM2.warm_start.without_high


@pytest.mark.parametrize("share", [-0.1, 2, float("nan")])
@pytest.mark.parametrize("option", ["reflection_warmth", "empathy_warmth"])
def test_warmth_is_a_share(option, share):
    with pytest.raises(UserError, match=rf"^--rewards\.{option.replace('_', '-')} {share}\b[^\n]*$"):
        TextRewards(**{option: share})


def test_a_finished_classifier_learns_nothing():
    ready = TextRewards(empathy_model="somebody/empathy", empathy_ready=True, reflection_warmth=0.4)  # that is the other judge's
    with pytest.raises(UserError, match=r"^--rewards\.empathy-warmth: with --rewards\.empathy-ready [^\n]*$"):
        replace(ready, empathy_warmth=0.5)


def test_training_pairs_are_warmed_by_the_option():
    data = split_dataset()
    assert training_pairs("reflection", lambda: data, TextRewards(empathy_warmth=1)) == reflection_pairs(data.examples("train"))
    pairs = training_pairs("reflection", lambda: data, TextRewards(reflection_warmth=0.5), seed=3)
    assert pairs == reflection_pairs(data.examples("train"), 3, 0.5) and {p.prompt for p in pairs} == set(data.prompts("train"))


@pytest.mark.parametrize("objective", ["reflection", "empathy"])
def test_a_judge_from_before_the_option_has_no_warmth(tmp_path, objective):
    option = f"{objective}_warmth"
    save_classifier(tmp_path, {"w": torch.ones(1)}, {"objective": objective})
    assert read_classifier(tmp_path, {option: 0.0})
    with pytest.raises(UserError, match=rf"made with {option} = 0\.0, now 0\.4[^\n]*$"):
        read_classifier(tmp_path, {option: 0.4})
    save_classifier(tmp_path, {"w": torch.ones(1)}, {"objective": objective, option: 0.4})
    assert json.loads((tmp_path / classifier_store.FACTS).read_text())[option] == 0.4
    for other in (0.0, 0.3):
        with pytest.raises(UserError, match=rf"made with {option} = 0\.4, now {other}[^\n]*$"):
            read_classifier(tmp_path, {option: other})


@pytest.mark.parametrize("objective", ["reflection", "empathy"])
def test_a_judge_is_known_by_its_own_warmth(monkeypatch, tmp_path, objective):
    monkeypatch.setattr(text_rewards, "is_trained", lambda folder: True)
    monkeypatch.setattr(text_rewards.TextClassifier, "restore", lambda folder, device, **known: known)
    config = TextRewards(reflection_warmth=0.4, empathy_warmth=0.5)
    known = real_classifier(objective, config, pytest.fail, tmp_path, "cpu", progress=False)
    assert {name: value for name, value in known.items() if "warmth" in name} == {
        f"{objective}_warmth": getattr(config, f"{objective}_warmth")
    }


def test_a_warm_start_without_high_replies():
    data = dataset(30)
    quality = {(e.prompt, e.reply): e.quality for e in data.examples("train")}
    usual = Counter(quality[pair] for pair in warm_start_examples(data, None))
    other = Counter(quality[pair] for pair in warm_start_examples(data, None, without_high=True))
    assert usual == {"high": 30, "medium": 30, "low": 60} and other == {"medium": 30, "low": 60}


def test_a_warm_start_from_before_the_option_had_high_replies(tmp_path):
    record = BEFORE | {"steps": 60}
    check_made_of(tmp_path, record, {"steps": 60, "without_high": False}, "")
    with pytest.raises(UserError, match="made with without_high = False, now True"):
        check_made_of(tmp_path, record, {"steps": 60, "without_high": True}, "")
    assert set(BEFORE) <= set(WarmStartConfig.__dataclass_fields__)
    assert replace(SMOLLM2.warm_start, without_high=False) != SMOLLM2.warm_start


# -- the gate


class Knows:
    """A reflection judge that reads: the client's number is in the reply, and it gives no advice."""

    def scores(self, prompts, replies):
        own = [f", {p.split()[1]}, " in r and "Why" not in r for p, r in zip(prompts, replies, strict=True)]
        return torch.tensor(own).float() * 0.9


class Warm:
    """An empathy judge: some word of warmth is there."""

    def scores(self, prompts, replies):
        return torch.tensor([float(any(s in r for s in (*WARM_HELD_OUT, *WARM_VALIDATION))) for r in replies])


class Cold(Knows):
    """A reflection judge that lets no warm reply pass."""

    def scores(self, prompts, replies):
        return super().scores(prompts, replies) * (1 - Warm().scores(prompts, replies))


def test_a_judge_that_reads_passes_the_gate_and_one_that_dislikes_warmth_does_not():
    data = dataset()
    table = gate(reflection_figures(Knows(), data) | warm_figures(Knows(), Warm(), data)).set_index("measure")
    assert table.loc["both above .5, warm sentence and reflection", "value"] == 1.0
    kept = table[table["limit"] != ""]
    assert set(kept.index) == {*AT_LEAST, *BELOW} and kept["passes"].all()
    cold = gate(warm_figures(Cold(), Warm(), data)).set_index("measure")["passes"]
    assert not cold["both above .5, warm sentence and reflection"] and not cold["auc, all behind a warm sentence"]


def test_what_was_not_measured_does_not_pass():
    table = gate({"mean high": 0.7}).set_index("measure")
    assert table.loc["mean high", "passes"] is None and table.loc["mean high", "limit"] == ""
    assert not table.loc["mean low", "passes"] and not table.loc["auc high/low", "passes"]


def test_others_are_others():
    clients = ["a", "a", "b", "c", "c"]
    assert to_others(clients, 1) == ["b", "b", "c", "a", "a"] and to_others(clients, 0) == to_others(clients, 1)


def test_areas():
    assert area([0.9, 0.8], [0.1]) == 1 and area([0.5], [0.5]) == 0.5
    scores, lengths = {"high": [0.9, 0.1], "low": [0.5]}, {"high": [10, 40], "low": [11]}
    assert near_in_length(scores, lengths) == 1
    assert near_in_length(scores, {"high": [10, 40], "low": [90]}) != near_in_length(scores, {"high": [10, 40], "low": [90]})  # NaN


@pytest.fixture
def plain_script(monkeypatch):
    """`scripts/check_rewards.py`."""
    spec = importlib.util.spec_from_file_location("check_rewards", Path(__file__).parents[1] / "scripts" / "check_rewards.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_rewards", module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(plain_script, monkeypatch):
    """The same on made data."""
    module = plain_script
    monkeypatch.setattr(module, "load_dataset", lambda config: split_dataset())
    monkeypatch.setattr(module, "find_file", Path)
    monkeypatch.setattr(module, "empathy_figures", lambda judge, file, client, limit, split: {"auc reaction/none": 0.9})
    monkeypatch.setattr(module, "second_judges", lambda rewards, data: {"reflection": Cold(), "empathy": Warm()})
    return module


@pytest.mark.parametrize(("reflection", "status"), [(Knows(), 0), (Cold(), 1)])
def test_the_scripts_status_says_whether_the_limits_are_kept(script, monkeypatch, tmp_path, capsys, reflection, status):
    monkeypatch.setattr(script, "judges", lambda options: {"reflection": reflection, "empathy": Warm()})
    assert script.main(script.Options(second=True, out=str(tmp_path / "table.csv"))) == status
    printed, table = capsys.readouterr().out, pd.read_csv(tmp_path / "table.csv").set_index("measure")
    assert ("all limits are kept" in printed) == (status == 0)
    assert "empathy: auc reaction/none" in table.index and table.loc["auc, all behind a warm sentence", "second judge"] < 0.95
    assert table["passes"].dropna().astype(bool).all() == (status == 0)


def test_the_script_takes_the_options_of_a_candidate(script):
    preset = script.changed(script.Options(warmth=0.4, empathy_warmth=0.0, without_high=False))
    assert (preset.rewards.reflection_warmth, preset.rewards.empathy_warmth) == (0.4, 0.0) and not preset.warm_start.without_high
    assert script.changed(script.Options()) == SMOLLM2 == script.changed(script.Options(warmth=0.8, empathy_warmth=0.5, without_high=True))
    with pytest.raises(UserError, match="of the small world"):
        script.changed(script.Options(preset="tiny"))
    with pytest.raises(UserError, match="empathy-ready"):
        script.changed(script.Options(preset="t5", empathy_warmth=0.5))


class Heard:
    """A judge that remembers what it was given."""

    def __init__(self):
        self.prompts, self.replies = set(), set()

    def scores(self, prompts, replies):
        self.prompts |= set(prompts)
        self.replies |= set(replies)
        return Knows().scores(prompts, replies)


@pytest.mark.parametrize(
    ("split", "sentences", "others"), [("test", WARM_HELD_OUT, WARM_VALIDATION), ("validation", WARM_VALIDATION, WARM_HELD_OUT)]
)
def test_a_split_has_its_own_clients_and_sentences(script, monkeypatch, tmp_path, split, sentences, others):
    data, asked = split_dataset(), []
    by_name = {"reflection": Heard(), "empathy": Heard()}
    monkeypatch.setattr(script, "judges", lambda options: by_name)
    monkeypatch.setattr(script, "empathy_figures", lambda judge, file, client, limit, split: asked.append((client, split)) or {})
    script.main(script.Options(split=split, out=str(tmp_path / "table.csv")))
    for judge in by_name.values():
        assert judge.prompts == set(data.prompts(split))
        assert all(any(s in r for r in judge.replies) for s in sentences)
        assert not any(s in r for r in judge.replies for s in others)
    assert [(client in data.prompts(split), name) for client, name in asked] == [(True, split)]
    facts = json.loads((tmp_path / "table.csv.provenance.json").read_text())
    assert facts["split"] == split
    assert all(facts[name] == getattr(SMOLLM2.rewards, name) for name in ("reflection_warmth", "empathy_warmth"))


class Lab:
    """An experiment whose judges say whose they are."""

    def __init__(self, preset, root=None, source=""):
        self.preset, self.root, self.source, self.dataset = preset, root, source, split_dataset()
        self.lm = SimpleNamespace(reply=lambda prompts, **options: [f"of {root}, {preset.warm_start.without_high}"] * len(prompts))
        self.rewards = {"fluency": lambda prompts, replies: torch.full((len(replies),), 0.5)}

    def classifier(self, objective):
        return self, objective


RUNS = Path("there")


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, set()),
        ({"warmth": 0.8, "empathy_warmth": 0.5}, set()),
        ({"warmth": 0.4}, {"reflection"}),
        ({"empathy_warmth": 0.0}, {"empathy"}),
        ({"warmth": 0.4, "empathy_warmth": 0.0}, {"reflection", "empathy"}),
        ({"without_high": False}, set()),
    ],
)
def test_a_judge_whose_options_are_the_presets_is_the_presets_own(script, monkeypatch, options, changed):
    monkeypatch.setattr(script, "Experiment", Lab)
    options = script.Options(runs=str(RUNS), **options)
    for name, (lab, objective) in script.judges(options).items():
        assert objective == name
        if name in changed:
            assert (lab.root, lab.source) == (RUNS, "mine") and lab.preset == replace(SMOLLM2, rewards=script.changed(options).rewards)
        else:
            assert (lab.root, lab.source) == (RUNS if script.changed(options) == SMOLLM2 else None, "") and lab.preset == SMOLLM2


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize(
    ("options", "root", "without_high"),
    [
        ({}, RUNS, True),
        ({"warmth": 0.4, "empathy_warmth": 0.0}, None, True),  # other judges, the preset's own base
        ({"warmth": 0.4, "empathy_warmth": 0.0, "without_high": False}, RUNS, False),
        ({"without_high": False}, RUNS, False),
    ],
)
def test_the_base_that_is_scored(script, monkeypatch, tmp_path, split, options, root, without_high):
    scored = Heard()
    monkeypatch.setattr(script, "Experiment", Lab)
    monkeypatch.setattr(script, "judges", lambda options: {"reflection": scored, "empathy": Knows()})
    file = tmp_path / "table.csv"
    assert script.main(script.Options(runs=str(RUNS), base=True, samples=2, split=split, out=str(file), **options)) == 0
    table = pd.read_csv(file).set_index("policy")
    assert scored.prompts == set(split_dataset().prompts(split)) and f"of {root}, {without_high}" in scored.replies
    assert table.loc["base, sampled", "n"] == 2 * table.loc["base, greedy", "n"] == 2 * len(scored.prompts)
    assert set(table.index) == {*(f"replies, {quality}" for quality in ("high", "medium", "low")), "base, greedy", "base, sampled"}


def test_the_scripts_second_judges_learn_what_the_options_say(plain_script, epitome, monkeypatch):
    """They are fitted on the same kinds of pairs as the first ones, drawn anew."""
    data, config = split_dataset(), TextRewards(reflection_warmth=0.4, empathy_warmth=0.5)
    monkeypatch.setattr(plain_script, "SecondJudge", lambda pairs, name: pairs)
    fitted = plain_script.second_judges(config, data)
    assert fitted == {name: training_pairs(name, lambda: data, config, seed=1) for name in ("reflection", "empathy")}
    assert fitted["empathy"] != training_pairs("empathy", lambda: data, TextRewards(), seed=1)
