"""The reward classifiers on held-out clients: the floors they reach, the shortcuts they do not take, and what training does.

The floors are those of given weights, the repository's. What a training run reaches is a draw of the machine, so of it only the sign is
tested, far from where it could tip; the spread over machines and seeds is in emorl_lite/assets/tiny/classifiers.csv.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.data.small_world import grammar
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.plots.rewards import roc
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.rewards.probes import equal_form, handed_on, shortcut_pays, shortcut_replies
from emorl_lite.rewards.small_world_judge import CrossEncoder, labelled, read_pairs

TINY = get_preset("tiny")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Experiment:
    """The weights in the repository: nothing is trained."""
    made = Experiment(TINY, root=tmp_path_factory.mktemp("runs"), progress=False, source="reference")
    assert set(made.rewards) == {"reflection", "empathy", "fluency"}
    return made


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    """Classifiers of a few steps: for all that does not depend on how good they are."""
    short = replace(TINY, rewards=replace(TINY.rewards, classifier_examples=256, classifier_epochs=1))
    return Experiment(short, root=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture(scope="module")
def held_out():
    return labelled(grammar(), 600, "test")


def auc(scores, positive) -> float:
    return roc(np.asarray(scores), np.asarray(positive))[2]


@pytest.mark.parametrize(("objective", "floor"), [("reflection", 0.95), ("empathy", 0.97)])
@pytest.mark.slow
def test_auc_on_held_out_replies(reference, held_out, objective, floor):
    scores = reference.classifier(objective).scores([e.prompt for e in held_out], [e.reply for e in held_out])
    assert ((scores >= 0) & (scores <= 1)).all()
    assert auc(scores, [getattr(e, objective) >= 0.7 for e in held_out]) >= floor


@pytest.mark.slow
def test_training_as_the_preset_does_learns_to_tell_good_replies_from_others(held_out, tmp_path):
    """Chance is .5; every machine and seed tried reached .98 or more."""
    lab = Experiment(TINY, root=tmp_path, progress=False)
    for objective in ("reflection", "empathy"):
        scores = lab.classifier(objective).scores([e.prompt for e in held_out], [e.reply for e in held_out])
        assert auc(scores, [getattr(e, objective) >= 0.7 for e in held_out]) > 0.85


@pytest.mark.slow
def test_reflection_reads_the_client(reference):
    form, handed = equal_form(grammar(), 200), handed_on(grammar(), 200)
    model = reference.classifier("reflection")
    score = model.scores(list(form.prompt), list(form.reply)).numpy()
    assert auc(score, form.kind == "this client") >= 0.88
    assert score[form.kind == "another client"].mean() < 0.15
    assert float(model.scores(list(handed.prompt), list(handed.reply)).mean()) < 0.15


@pytest.mark.slow
def test_shortcuts_do_not_pay(reference):
    prompts, versions = shortcut_replies(grammar(), 100)
    means = {name: float(reference.rewards["reflection"](prompts, replies).mean()) for name, replies in versions.items()}
    for name in ("long but empty", "client copied", "phrase looped", "words shuffled"):
        assert means[name] < 0.25 < means["as they are"]
    assert abs(means["question mark"] - means["as they are"]) < 0.1
    assert all(r(prompts, versions["cut off"]).sum() == 0 for r in reference.rewards.values())


def test_what_a_change_earns_and_what_it_is_worth():
    rewards = RewardSet({"reflection": lambda prompts, replies: torch.tensor([0.01 * len(reply.split()) for reply in replies])})
    wrong = {client.text: grammar().phrases["feelings"][client.feeling_group - 1][0] for client in grammar().clients(16, "test", 400)}
    table = shortcut_pays(rewards, grammar(), lambda client, reply: f"{reply} You feel {wrong[client.text]}.", n=16).set_index("measure")
    assert list(table.index) == ["reflection", "wrong elements"]
    reflection, elements = table.loc["reflection"], table.loc["wrong elements"]
    assert reflection["reward after"] - reflection["reward before"] == pytest.approx(0.03)
    assert reflection["truth before"] == 1 and reflection["truth after"] == pytest.approx(0.85)
    assert elements["truth before"] == 0 and elements["truth after"] == 1 and math.isnan(elements["reward after"])


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
