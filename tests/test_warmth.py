"""Warm copies of pairs, the gate of the real judges, and what is kept of older judges and warm starts, on made examples."""

import importlib.util
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_made_of
from emorl_lite.base.presets import SMOLLM2, TextRewards, WarmStartConfig
from emorl_lite.data.datasets import Dataset, Example
from emorl_lite.rewards import classifier_store
from emorl_lite.rewards.classifier_store import read_classifier, save_classifier
from emorl_lite.rewards.text_gate import AT_LEAST, BELOW, area, gate, near_in_length, reflection_figures, to_others, warm_figures
from emorl_lite.rewards.text_pairs import EMPTY_WARMTH, KIND, PLAIN, STOCK, reflection_pairs
from emorl_lite.rewards.text_rewards import training_pairs
from emorl_lite.rewards.warmth import WARM_HELD_OUT, WARM_TRAINING, warm_copies, warmed
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


def dataset(n=40, **options):
    made = examples(n, **options)
    return Dataset("pair", "made", {"train": tuple(made), "validation": tuple(made), "test": tuple(made)})


# -- warm sentences


def words(text):
    return tuple(text.lower().strip(".!").split())


def test_the_gates_sentences_are_in_no_training():
    trained = {words(text) for text in (*WARM_TRAINING, *STOCK, *EMPTY_WARMTH, *KIND, *PLAIN)}
    held_out = {words(text) for text in WARM_HELD_OUT}
    assert len(held_out) == len(WARM_HELD_OUT) and len(set(WARM_TRAINING)) == len(WARM_TRAINING) and not held_out & trained

    def runs(texts, n=4):
        return {text[i : i + n] for text in texts for i in range(len(text) - n + 1)}

    assert not runs(held_out) & runs(trained), "no four words in a row either"


def test_warm_copies_keep_their_labels():
    plain = reflection_pairs(examples())
    copies = reflection_pairs(examples(), warmth=1.0)[len(plain) :]
    label = {(p.prompt, p.reply): p.reflection for p in plain}
    for copy in copies:
        if copy.kind in ("mismatched, warm", "stock, warm"):
            assert copy.reflection == 0.0
            continue
        stripped = {(copy.prompt, copy.reply.removeprefix(f"{s} ").removesuffix(f" {s}")) for s in WARM_TRAINING}
        assert {label[pair] for pair in stripped & set(label)} == {copy.reflection}
    assert {p.kind.removesuffix(", warm") for p in copies} == {p.kind for p in plain}
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


def test_warm_sentences_stand_before_and_after_alike():
    pairs = reflection_pairs(examples(300))
    topics = {e.prompt: e.topic for e in examples(300)}
    copies = [p for p in warm_copies(pairs, topics, 1.0) if p.kind != "stock, warm"]
    before = sum(p.reply.startswith(WARM_TRAINING) for p in copies) / len(copies)
    assert 0.4 < before < 0.6
    assert warmed("You are tired.", "I care.", True) == "I care. You are tired." and warmed("a", "b", False) == "a b"


# -- options


def test_the_committed_presets_judge_and_warm_start_are_what_they_were():
    assert SMOLLM2.rewards.reflection_warmth == 0 and not SMOLLM2.warm_start.without_high, "until the real run is made anew"
    with pytest.raises(UserError, match=r"--rewards\.reflection-warmth 2"):
        TextRewards(reflection_warmth=2)


def test_training_pairs_are_warmed_by_the_option():
    data = dataset()
    assert training_pairs("reflection", data) == reflection_pairs(data.examples("train"))
    assert training_pairs("reflection", data, 0.5, seed=3) == reflection_pairs(data.examples("train"), 3, 0.5)


def test_a_judge_from_before_the_option_has_no_warmth(tmp_path):
    save_classifier(tmp_path, {"w": torch.ones(1)}, {"objective": "reflection"})
    assert read_classifier(tmp_path, {"reflection_warmth": 0.0})
    with pytest.raises(UserError, match=r"made with reflection_warmth = 0\.0, now 0\.4"):
        read_classifier(tmp_path, {"reflection_warmth": 0.4})
    save_classifier(tmp_path, {"w": torch.ones(1)}, {"objective": "reflection", "reflection_warmth": 0.4})
    assert json.loads((tmp_path / classifier_store.FACTS).read_text())["reflection_warmth"] == 0.4
    with pytest.raises(UserError, match=r"made with reflection_warmth = 0\.4, now 0\.0"):
        read_classifier(tmp_path, {"reflection_warmth": 0.0})


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
    assert replace(SMOLLM2.warm_start, without_high=True) != SMOLLM2.warm_start


# -- the gate


class Knows:
    """A reflection judge that reads: the client's number is in the reply, and it gives no advice."""

    def scores(self, prompts, replies):
        own = [f", {p.split()[1]}, " in r and "Why" not in r for p, r in zip(prompts, replies, strict=True)]
        return torch.tensor(own).float() * 0.9


class Warm:
    """An empathy judge: some word of warmth is there."""

    def scores(self, prompts, replies):
        return torch.tensor([float(any(s in r for s in WARM_HELD_OUT)) for r in replies])


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
def script(monkeypatch):
    """`scripts/check_rewards.py` on made data."""
    spec = importlib.util.spec_from_file_location("check_rewards", Path(__file__).parents[1] / "scripts" / "check_rewards.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_rewards", module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_dataset", lambda config: dataset())
    monkeypatch.setattr(module, "find_file", Path)
    monkeypatch.setattr(module, "empathy_figures", lambda judge, file, client, limit: {"auc reaction/none": 0.9})
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
    preset, other = script.changed(script.Options(warmth=0.4, without_high=True))
    assert other and preset.rewards.reflection_warmth == 0.4 and preset.warm_start.without_high
    assert script.changed(script.Options()) == (SMOLLM2, False)
    with pytest.raises(UserError, match="of the small world"):
        script.changed(script.Options(preset="tiny"))
