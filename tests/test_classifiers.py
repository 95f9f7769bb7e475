"""The reward classifiers as the preset trains them, on held-out clients: the floors they reach, the shortcuts they do not take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from emorl_lite.classifiers import CrossEncoder, labelled, read_pairs
from emorl_lite.errors import UserError
from emorl_lite.presets import get_preset
from emorl_lite.reward_checks import equal_form, handed_on, shortcut_replies
from emorl_lite.reward_plots import roc
from emorl_lite.runs import Experiment
from emorl_lite.small_world import grammar


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    made = Experiment(get_preset("tiny"), root=tmp_path_factory.mktemp("runs"), progress=False)
    assert set(made.rewards) == {"reflection", "empathy", "fluency"}
    return made


@pytest.fixture(scope="module")
def held_out():
    return labelled(grammar(), 1200, "test")


def auc(scores, positive) -> float:
    return roc(np.asarray(scores), np.asarray(positive))[2]


@pytest.mark.parametrize(("objective", "floor"), [("reflection", 0.95), ("empathy", 0.97)])
def test_auc_on_held_out_replies(experiment, held_out, objective, floor):
    scores = experiment.classifier(objective).scores([e.prompt for e in held_out], [e.reply for e in held_out])
    assert ((scores >= 0) & (scores <= 1)).all()
    assert auc(scores, [getattr(e, objective) >= 0.7 for e in held_out]) >= floor


def test_reflection_reads_the_client(experiment):
    form, handed = equal_form(grammar(), 200), handed_on(grammar(), 200)
    model = experiment.classifier("reflection")
    score = model.scores(list(form.prompt), list(form.reply)).numpy()
    assert auc(score, form.kind == "this client") >= 0.88
    assert score[form.kind == "another client"].mean() < 0.15
    assert float(model.scores(list(handed.prompt), list(handed.reply)).mean()) < 0.15


def test_shortcuts_do_not_pay(experiment):
    prompts, versions = shortcut_replies(grammar(), 100)
    means = {name: float(experiment.rewards["reflection"](prompts, replies).mean()) for name, replies in versions.items()}
    for name in ("long but empty", "client copied", "phrase looped", "words shuffled"):
        assert means[name] < 0.25 < means["as they are"]
    assert abs(means["question mark"] - means["as they are"]) < 0.1
    assert all(r(prompts, versions["cut off"]).sum() == 0 for r in experiment.rewards.values())


def test_saved_and_loaded_classifier_scores_alike(experiment, tmp_path):
    model = experiment.classifier("empathy")
    model.save(tmp_path)
    again = CrossEncoder.load(tmp_path, experiment.frozen)
    pairs = (["I feel sad."] * 2, ["I am here with you.", "Okay."])
    assert torch.equal(model.scores(*pairs), again.scores(*pairs))


def test_errors(experiment, tmp_path):
    with pytest.raises(UserError, match="no trained classifier here"):
        CrossEncoder.load(tmp_path, experiment.frozen)
    experiment.classifier("empathy").save(tmp_path)
    with pytest.raises(UserError, match="trained on another base model"):
        CrossEncoder.load(tmp_path, tiny.language_model())
    with pytest.raises(UserError, match="decoder-only"):
        read_pairs(tiny.language_model("t5"), ["w1"], ["w2"])


def test_batched_scores_equal_single_ones(experiment):
    prompts = ["I feel sad because my boss keeps giving me more tasks. I hope to leave the office on time.", "I am tired."]
    replies = ["You feel low because your boss keeps giving you more tasks.", "Okay."]
    model = experiment.classifier("reflection")
    single = torch.cat([model.scores([p], [r]) for p, r in zip(prompts, replies, strict=True)])
    assert torch.allclose(model.scores(prompts, replies), single, atol=2e-3)


def test_an_empty_batch_has_no_scores(experiment):
    assert experiment.classifier("empathy").scores([], []).shape == (0,)


def test_labels_follow_the_kind():
    for e in labelled(grammar(), 400, "validation", seed=5):
        assert 0 <= e.reflection <= 1 and 0 <= e.empathy <= 1
        if e.kind in ("wrong", "generic", "advice", "question", "padded", "copied", "shuffled", "looped"):
            assert e.reflection == 0
        if e.kind == "full":
            assert e.reflection == 1


def test_a_classifier_of_another_model_is_not_picked_up(tmp_path):
    preset = get_preset("tiny")
    other = replace(preset, model=replace(preset.model, path=str(tmp_path / "other")))
    assert Experiment(other, root=tmp_path).home != Experiment(preset, root=tmp_path).home
    assert Path(Experiment(other, root=tmp_path).home).name == "tiny-other"
