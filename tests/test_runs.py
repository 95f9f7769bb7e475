"""Experiments on disk: load or train, provenance, and what belongs to which model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import read_provenance
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.training.ppo import PPOTrainer

pytestmark = pytest.mark.slow
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


def test_runs_side_by_side_give_the_same_adapters(experiment, tmp_path, monkeypatch):
    shutil.copytree(experiment.home / "classifiers", tmp_path / "tiny" / "classifiers")
    other = Experiment(SMALL, root=tmp_path, progress=False)
    monkeypatch.setattr(PPOTrainer, "step", None)  # this process trains nothing
    log = other.train_all(workers=2)
    assert list(log.objective.unique()) == list(SMALL.objectives)
    for name in SMALL.objectives:
        file = f"{name}/adapter_model.safetensors"
        assert (other.folder / file).read_bytes() == (experiment.folder / file).read_bytes()


class Counted:
    """Scores replies by their letters, and knows which it has seen: in this process."""

    def __init__(self, letter: str):
        self.letter, self.seen = letter, []

    def __call__(self, prompts: list[str], replies: list[str]) -> torch.Tensor:
        self.seen += replies
        return torch.tensor([reply.count(self.letter) / max(1, len(reply)) for reply in replies])


def test_assigned_rewards_are_trained_on_in_this_process(tmp_path):
    other = Experiment(replace(SMALL, objectives=("brevity", "letters")), root=tmp_path, progress=False)
    rewards = RewardSet({"brevity": Counted("a"), "letters": Counted("e")})
    with pytest.raises(UserError, match="objective 'letters' is unknown"):
        other.bench()
    other.rewards = rewards
    log = other.train_all(workers=2)
    assert list(log.objective.unique()) == other.trained() == ["brevity", "letters"]
    assert all(len(reward.seen) >= SMALL.ppo.episodes for reward in rewards.values())
    assert other.rewards is other.bench().rewards is rewards
    other.rewards = RewardSet(dict(rewards))
    assert other.bench().rewards is other.rewards, "a bench has the rewards of now"


def test_an_assigned_set_without_an_objective_is_told_before_training(tmp_path):
    other = Experiment(replace(SMALL, objectives=("brevity", "diversity")), root=tmp_path, progress=False)
    other.rewards = RewardSet({"brevity": Counted("a"), "asks": Counted("e")})
    with pytest.raises(UserError, match="objective 'diversity' is unknown: expected one of brevity, asks"):
        other.train_all(workers=1)
    with pytest.raises(UserError, match="objective 'asks' is unknown: expected one of brevity, diversity"):
        other.train("asks")
    assert not other.folder.exists()


@pytest.mark.parametrize("replaced", [False, True], ids=["added", "replaced"])
def test_rewards_of_this_session_are_trained_on_in_this_process(tmp_path, monkeypatch, replaced):
    name, reward = ("diversity" if replaced else "letters"), Counted("e")
    monkeypatch.setitem(REWARDS, name, lambda given: reward)
    other = Experiment(replace(SMALL, objectives=("brevity", name)), root=tmp_path, progress=False)
    other.train_all(workers=2)
    assert other.trained() == ["brevity", name] and len(reward.seen) >= SMALL.ppo.episodes
    assert {"policy", "brevity", name} <= set(other.evaluate((1, 1)).columns)


def test_search_table_belongs_to_its_adapters(experiment):
    result = experiment.search()
    assert len(result.table) == 27 and len(result.best) == 3
    assert experiment.found_weights() == result.best
    assert experiment.search().table.equals(result.table)
    settings = experiment.folder / "search.search.json"
    good = settings.read_text()
    facts = json.loads(good)
    facts["provenance"]["adapters"]["empathy"] = "another"
    settings.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"search\.csv"):
        experiment.search()
    settings.write_text(good)


@pytest.fixture
def copied(experiment, tmp_path):
    """Makes experiments of changed options in a copy of the folder, in which the published search was run."""
    experiment.search()
    shutil.copytree(experiment.root, tmp_path / "runs")

    def made(**parts) -> Experiment:
        changed = {name: replace(getattr(SMALL, name), **options) for name, options in parts.items()}
        return Experiment(replace(SMALL, **changed), root=tmp_path / "runs", progress=False)

    return made


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rewards": {"repeat_ngram": 5}}, "repeat_ngram"),
        ({"rewards": {"fluency_cap": 4.0}}, "cap"),
        ({"model": {"max_new_tokens": 9}}, "max_new_tokens"),
    ],
)
def test_weights_that_were_found_for_something_else_are_told_and_not_used(copied, parts, message):
    other = copied(**parts)
    before = {p: p.read_bytes() for p in other.home.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=rf"search\.json: made with .*{message}.*search again"):
        other.evaluate()
    with pytest.raises(UserError, match=rf"search\.csv: made with .*{message}.*delete the table"):
        other.search()
    with pytest.raises(UserError, match=message):  # nor is a finished adapter that had another reward or length
        other.train("fluency")
    assert {p: p.read_bytes() for p in other.home.rglob("*") if p.is_file()} == before
    assert len(other.evaluate((1, 1, 1))) and copied().found_weights()
    (other.folder / "search.json").unlink()  # a search that was broken off keeps its scores, too
    kept = other.folder / "search.replies.csv"
    kept.write_text("scores")
    with pytest.raises(UserError, match=rf"search\.csv: made with .*{message}"):
        other.search()
    assert kept.read_text() == "scores"


def test_weights_of_adapters_that_were_trained_anew_are_told_and_not_used(copied):
    other = copied(ppo={"lr": 1e-2})
    other.train("fluency", resume=False)
    with pytest.raises(UserError, match=r"search\.json: made with provenance\.adapters\.fluency"):
        other.evaluate()
    with pytest.raises(UserError, match=r"search\.csv: made with provenance\.adapters\.fluency"):
        other.search()
    (other.folder / "search.csv").unlink()
    assert other.search().best == other.found_weights() and not list(other.folder.glob("*.replies.csv"))
    (other.folder / "search.replies.csv").write_text("left by a process that was killed at its last step")
    assert other.search().best == other.found_weights() and not list(other.folder.glob("*.replies.csv"))


def test_a_record_of_a_search_that_was_changed_is_one_line(copied):
    other = copied()
    file = other.folder / "search.json"
    good = file.read_text()
    record = json.loads(good)
    edited = record | {"weights": record["weights"] | {"fluency": 0.9}}
    for text, message in [
        ("", "it is empty"),
        (good[:90], "cut off"),
        ("[1]", "a list"),
        (json.dumps({"weights": record["weights"]}), "it lacks 'scores'"),
        (json.dumps(edited), "changed since the search"),
        (json.dumps(record | {"weights": {"fluency": "much"}}), "weights of reflection is None"),
    ]:
        file.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            other.evaluate()
        assert "search.json" in str(caught.value) and "\n" not in str(caught.value)
    file.write_text(json.dumps({name: record[name] for name in ("weights", "scores")}))  # of before records said what they are made of
    assert other.found_weights() == tuple(record["weights"].values())


@pytest.mark.parametrize("method", ["hierarchical", "exact"])
def test_what_is_finished_is_read_where_nothing_can_be_written(copied, monkeypatch, method):
    first = copied(search={"method": method}).search()
    other = copied(search={"method": method})
    before = {p: p.stat().st_mtime_ns for p in [other.home, *other.home.rglob("*")]}

    def refuse(*args, **kwargs):
        raise AssertionError("something is written")

    for module in ("training.run_folder", "experiment.searching", "rewards.build"):
        monkeypatch.setattr(f"emorl_lite.{module}.alone", refuse)
    monkeypatch.setattr("emorl_lite.base.files.write_via", refuse)
    monkeypatch.setattr("emorl_lite.base.files.check_writable", refuse)
    log, result = other.train_all(), other.search()
    assert len(log) == 6 and result.best == first.best and result.best_scores == first.best_scores
    pd.testing.assert_frame_equal(result.table, first.table, check_dtype=False)
    assert len(other.evaluate()) and not other.confirm(result).empty
    assert {p: p.stat().st_mtime_ns for p in [other.home, *other.home.rglob("*")]} == before


def test_an_adapter_that_was_exchanged_or_has_another_template_is_told(copied):
    with pytest.raises(UserError, match=r"made with model\.template = .*now '<bos>\{prompt\}'"):
        copied(model={"template": "<bos>{prompt}"}).load_adapters()
    other = copied()
    shutil.copy(other.folder / "empathy" / "adapter_model.safetensors", other.folder / "fluency" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"fluency/adapter_model\.safetensors: changed since its run was finished"):
        other.evaluate((1, 1, 1))


def test_a_classifier_of_other_options_or_of_another_objective_is_told(copied):
    with pytest.raises(UserError, match=r"classifiers.*made with classifier_epochs = 1, now 2"):
        _ = copied(rewards={"classifier_epochs": 2}).rewards
    other = copied()
    folder = other.home / "classifiers"
    (folder / "empathy").rename(folder / "kept")
    shutil.copytree(folder / "reflection", folder / "empathy")
    with pytest.raises(UserError, match="made with objective = 'reflection', now 'empathy'"):
        _ = other.rewards
    shutil.rmtree(folder / "empathy")
    (folder / "kept").rename(folder / "empathy")
    shutil.copy(folder / "reflection" / "classifier.safetensors", folder / "empathy" / "classifier.safetensors")
    with pytest.raises(UserError, match=r"not the weights that classifier\.json beside it is about"):
        _ = copied().rewards
    (folder / "empathy" / "classifier.json").write_text('{"support": true, "wid')
    with pytest.raises(UserError, match=r"classifier\.json: cannot be read as what a classifier is: cut off"):
        _ = copied().rewards


def test_samplers_and_the_exact_optimum_have_tables_of_their_own(experiment):
    found = {}
    for method in ("random", "hierarchical-simplex", "exact"):
        search = replace(SMALL.search, method=method, evaluations=8)
        other = Experiment(replace(SMALL, search=search), root=experiment.root, progress=False)
        found[method] = max(other.search().table["mean"])
        assert (experiment.folder / f"search-{method}.csv").is_file() and other.found_weights()
    published = max(experiment.search().table["mean"])
    assert max(found["random"], found["hierarchical-simplex"], published) <= found["exact"] + 1e-9


def test_a_map_of_the_validation_prompts(experiment):
    scored = experiment.exact_map()
    assert scored.map.prompts == experiment.validation() and scored.names == list(SMALL.objectives)
    assert scored.map.measure(0) == pytest.approx(1)


def test_a_choice_is_confirmed_on_fresh_prompts(experiment):
    result = experiment.search()
    table = experiment.confirm(result).set_index("objective")
    prompts = experiment.dataset.prompts("test")
    means = experiment.rewards.means(prompts, experiment.ensemble(result.best).reply(prompts))
    assert table["fresh"].drop("mean").to_dict() == pytest.approx(means, abs=1e-6)
    assert table["promised"].drop("mean").to_dict() == pytest.approx(result.best_scores)
    assert (table["n"] == len(prompts)).all() and (table["low"] <= table["fresh"]).all()


def test_more_objectives_join_those_that_are_there(experiment):
    more = Experiment(replace(SMALL, objectives=(*SMALL.objectives, "brevity", "diversity")), root=experiment.root, progress=False)
    files = {p: p.stat().st_mtime_ns for p in (experiment.folder / "empathy").rglob("*.safetensors")}
    more.load_adapters()
    assert more.trained() == list(more.preset.objectives) and {p: p.stat().st_mtime_ns for p in files} == files
    result = more.search()
    assert len(result.best) == 5 and len(result.table) == 3**5
    assert (experiment.folder / "search-reflection-empathy-fluency-brevity-diversity.csv").is_file()
    assert experiment.found_weights() is None or len(experiment.found_weights()) == 3
    with pytest.raises(UserError, match="objective 'warmth' is unknown: expected one of reflection"):
        _ = Experiment(replace(SMALL, objectives=("empathy", "warmth")), root=experiment.root, progress=False).rewards


def test_a_method_trains_what_is_missing_in_the_experiments_own_folder(experiment, tmp_path):
    shutil.copytree(experiment.home / "classifiers", tmp_path / "tiny" / "classifiers")
    other = Experiment(SMALL, root=tmp_path, progress=False)
    cost = other.method("emorl").prepare()
    assert (cost.data_points, cost.parallel) == (96, 32) and other.trained() == list(SMALL.objectives)
    assert not other.study_folder.exists()
    for name in SMALL.objectives:
        file = f"{name}/adapter_model.safetensors"
        assert (other.folder / file).read_bytes() == (experiment.folder / file).read_bytes()
    assert experiment.method("emorl").prepare().samples == cost.samples


def test_training_again_what_is_finished_and_loaded_loads_it_without_a_word(experiment, monkeypatch, recwarn):
    again = Experiment(SMALL, root=experiment.root, progress=False)
    again.load_adapters()

    def weights() -> dict[str, torch.Tensor]:
        return {key: p.detach().clone() for key, p in again.lm.model.named_parameters() if "lora_" in key}

    def refuse(self):
        raise AssertionError("something is trained")

    before = weights()
    monkeypatch.setattr(PPOTrainer, "step", refuse)
    log = again.train_all()
    after = weights()
    assert list(log.objective.unique()) == list(SMALL.objectives) and before.keys() == after.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not [w for w in recwarn if "deleted" in str(w.message)]


def test_evaluate_has_a_row_for_every_policy(experiment):
    table = experiment.evaluate((1, 1, 1)).set_index("policy")
    assert list(table.index[-5:]) == ["base", *SMALL.objectives, "ensemble"] and (table["n"] > 0).all()
    assert table.index[0].startswith("replies")
    assert table.loc["ensemble", "mean"] == pytest.approx(experiment.summary((1, 1, 1)).set_index("policy").loc["ensemble", "mean"])
    untrained = Experiment(SMALL, seed=7, root=experiment.root, progress=False)
    assert list(untrained.evaluate()["policy"])[-1] == "base"
    with pytest.raises(UserError, match="--weights: no adapter for 'reflection'"):
        untrained.evaluate((1, 1, 1))


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
    files = {p: p.read_bytes() for p in (fresh.folder / "base").rglob("*") if p.is_file()}
    again.warm_start(2)  # the same command, stopped after this: it goes on with the base that it made
    assert {p: p.read_bytes() for p in (fresh.folder / "base").rglob("*") if p.is_file()} == files
    assert again.lm.base_probe() == fresh.lm.base_probe()
    with pytest.raises(UserError, match="made with steps = 2, now 3"):
        Experiment(SMALL, seed=2, root=tmp_path, progress=False).warm_start(3)


def test_tables_carry_their_provenance(tmp_path):
    path = save_table(pd.DataFrame({"a": [1.5]}), tmp_path / "t" / "x.csv", preset="tiny", seed=3)
    facts = read_provenance(path)
    assert facts["preset"] == "tiny" and facts["seed"] == 3 and facts["torch"]
    assert pd.read_csv(path).a.tolist() == [1.5]


def test_what_is_in_the_model_is_what_the_folders_hold(tmp_path):
    """An adapter of another run, or one whose training was interrupted, is replaced by the finished one."""
    one = Experiment(TINY, 0, tmp_path, progress=False, source="reference")
    two = Experiment(TINY, 1, tmp_path, progress=False, source="reference")
    two.lm = one.lm
    one.load_adapters()
    two.load_adapters()
    for name in TINY.objectives:
        assert one.lm.origin[name] == str(two.run_folder(name).resolve())
    one.lm.unfinished.add("empathy")
    with torch.no_grad():
        for key, p in one.lm.model.named_parameters():
            if ".empathy." in key:
                p.zero_()
    two.load_adapters()
    fresh = Experiment(TINY, 1, tmp_path, progress=False, source="reference")
    fresh.load_adapters()
    ours, theirs = (dict(lm.model.named_parameters()) for lm in (two.lm, fresh.lm))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs if "lora_" in key)


def test_a_published_adapter_that_was_loaded_does_not_stand_in_the_way_of_ones_own(tmp_path):
    preset = replace(TINY, ppo=replace(TINY.ppo, episodes=32, batch_size=16, validate_every=0))
    experiment = Experiment(TINY, 0, tmp_path, progress=False, source="any")
    experiment.train("fluency")
    assert experiment.is_published(experiment.run_folder("fluency"))
    assert experiment.bench() is experiment.bench() and experiment.bench(str(tmp_path / "b")) is experiment.bench(tmp_path / "b")
    (experiment.folder / "fluency").mkdir(parents=True)  # what a refused run used to leave
    assert Experiment(TINY, 0, tmp_path, progress=False, source="any").trained() == list(TINY.objectives)
    experiment.preset = preset  # a short run of one's own
    log = experiment.train("fluency", resume=False)
    assert len(log) == 2 and (experiment.folder / "fluency" / "done.json").is_file()


def test_an_option_that_is_none_is_told_with_the_nearest_before_anything_is_trained(tmp_path):
    experiment = Experiment(get_preset("tiny"), 0, tmp_path, progress=False)
    for ask, told in {
        lambda: experiment.like(levelz=3): "like: 'levelz' is no option; the nearest is 'levels'",
        lambda: experiment.like(nonsense=1): "like: 'nonsense' is no option; the nearest is ",
        lambda: experiment.tree(["I feel sad"], sample=2): "tree: 'sample' is no option; the nearest is 'samples'",
        lambda: experiment.exact_map(["I feel sad"], temprature=2): "tree: 'temprature' is no option; the nearest is 'temperature'",
    }.items():
        with pytest.raises(UserError, match=f"^{told}"):
            ask()
    assert not list(tmp_path.iterdir())
