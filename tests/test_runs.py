"""Experiments on disk: load or train, provenance, and what belongs to which model."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from emorl_lite.errors import UserError
from emorl_lite.presets import get_preset
from emorl_lite.runs import Experiment, save_table

TINY = get_preset("tiny")
SMALL = replace(
    TINY,
    rewards=replace(TINY.rewards, classifier_examples=256, classifier_epochs=1),
    ppo=replace(TINY.ppo, episodes=32, batch_size=16, minibatch_size=16, epochs=1, validate_every=0),
    model=replace(TINY.model, max_new_tokens=10),
    search=replace(TINY.search, levels=1, validation_prompts=2),
    data=replace(TINY.data, train_prompts=32, validation_prompts=4, test_prompts=6),
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    made = Experiment(SMALL, root=tmp_path_factory.mktemp("runs"), progress=False)
    made.train_all(workers=1)
    return made


def test_a_second_experiment_loads_what_the_first_trained(experiment):
    again = Experiment(SMALL, root=experiment.root, progress=False)
    files = {p: p.stat().st_mtime_ns for p in experiment.home.rglob("*.safetensors")}
    again.load_adapters()
    prompts = again.dataset.prompts("test")
    for name in ("base", *SMALL.objectives):
        assert again.policy_replies(name, prompts) == experiment.policy_replies(name, prompts)
    assert {p: p.stat().st_mtime_ns for p in again.home.rglob("*.safetensors")} == files


def test_seeds_give_different_adapters(experiment):
    other = Experiment(SMALL, seed=1, root=experiment.root, progress=False)
    other.train("empathy")
    mine = (experiment.folder / "empathy" / "adapter_model.safetensors").read_bytes()
    assert (other.folder / "empathy" / "adapter_model.safetensors").read_bytes() != mine


def test_runs_side_by_side_give_the_same_adapters(experiment, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "classifiers").symlink_to(experiment.home / "classifiers")
    other = Experiment(SMALL, root=tmp_path, progress=False)
    log = other.train_all(workers=2)
    assert list(log.objective.unique()) == list(SMALL.objectives)
    for name in SMALL.objectives:
        file = f"{name}/adapter_model.safetensors"
        assert (other.folder / file).read_bytes() == (experiment.folder / file).read_bytes()


def test_search_table_belongs_to_its_adapters(experiment):
    result = experiment.search()
    assert len(result.table) == 27 and len(result.best) == 3
    assert experiment.found_weights() == result.best
    assert experiment.search().table.equals(result.table)
    settings = experiment.folder / "search.search.json"
    facts = json.loads(settings.read_text())
    facts["provenance"]["adapters"]["empathy"] = "another"
    settings.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"search\.csv"):
        experiment.search()


def test_summary_scores_every_policy(experiment):
    summary = experiment.summary((1, 1, 1))
    assert list(summary.policy) == ["base", *SMALL.objectives, "ensemble"]
    assert summary[list(SMALL.objectives)].mean(axis=1).to_numpy() == pytest.approx(summary["mean"].to_numpy())


def test_one_hot_ensemble_is_that_adapter(experiment):
    prompts = experiment.dataset.prompts("test")
    for i, name in enumerate(SMALL.objectives):
        weights = [float(j == i) for j in range(3)]
        assert experiment.ensemble(weights).reply(prompts) == experiment.policy_replies(name, prompts)


def test_warm_start_becomes_the_base_of_this_run(experiment, tmp_path):
    fresh = Experiment(SMALL, seed=2, root=tmp_path, progress=False)
    before = fresh.lm.base_probe()
    fresh.warm_start(2)
    assert not fresh.lm.same_base(before) or fresh.lm.base_probe() != before
    again = Experiment(SMALL, seed=2, root=tmp_path, progress=False)
    assert again.lm.base_probe() == fresh.lm.base_probe()
    with pytest.raises(UserError, match="another base"):
        experiment.warm_start(1)


def test_tables_carry_their_provenance(tmp_path):
    path = save_table(pd.DataFrame({"a": [1.5]}), tmp_path / "t" / "x.csv", preset="tiny", seed=3)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["preset"] == "tiny" and facts["seed"] == 3 and facts["torch"]
    assert pd.read_csv(path).a.tolist() == [1.5]
