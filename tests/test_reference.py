"""The reference run of the tiny preset, and whose run an experiment and a notebook read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import ASSETS, data_root
from emorl_lite.base.presets import get_preset
from emorl_lite.experiment import experiment as runs
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.methods.registry import make_method
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.tutorial.notebook import beside, open_run

TINY = get_preset("tiny")
REFERENCE = ASSETS / "tiny"
SEEDS = (0, 1, 2)
WHOLE = {name: replace(TINY.ppo, kl_coef=TINY.kl_coef.get(name, TINY.ppo.kl_coef)) for name in TINY.objectives}


def files() -> dict[str, bytes]:
    return {str(path.relative_to(REFERENCE)): path.read_bytes() for path in REFERENCE.rglob("*") if path.is_file()}


@pytest.fixture
def no_training(monkeypatch):
    """Whoever trains fails."""

    def refuse(*args, **kwargs):
        raise AssertionError("something is trained")

    monkeypatch.setattr(PPOTrainer, "train", refuse)
    monkeypatch.setattr(runs, "train_side_by_side", refuse)
    monkeypatch.setattr("emorl_lite.rewards.build.train_classifier", refuse)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_is_there_in_float16_and_made_with_todays_options(seed, tmp_path):
    """Whoever changes an option of the tiny preset must make the reference anew: `make reference`."""
    lab = Experiment(TINY, seed, tmp_path, progress=False, source="reference")
    assert lab.trained() == list(TINY.objectives)
    for name in TINY.objectives:
        folder = REFERENCE / f"seed{seed}" / name
        assert {x.dtype for x in load_file(folder / "adapter_model.safetensors").values()} == {torch.float16}
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
        prompts, validation = lab.dataset.prompts("train"), lab.dataset.prompts("validation")
        watch = {other: lab.rewards[other] for other in TINY.objectives if other != name}
        trainer = PPOTrainer(
            lab.lm, f"new-{name}", lab.rewards[name], prompts, WHOLE[name], validation_prompts=validation, watch=watch, seed=seed
        )
        made = json.loads((folder / "done.json").read_text())["identity"]
        assert made == json.loads(json.dumps(trainer.identity() | {"adapter": name}))
        assert len(pd.read_csv(folder / "log.csv")) == TINY.ppo.episodes // TINY.ppo.batch_size


def test_reading_the_reference_trains_nothing_and_writes_nothing_there(no_training, tmp_path):
    before = files()
    lab = Experiment(replace(TINY, search=replace(TINY.search, levels=1, validation_prompts=2)), 0, tmp_path, source="reference")
    log = lab.train_all()
    assert list(log.objective.unique()) == list(TINY.objectives) and set(log.seed) == {0}
    assert not lab.classifier_losses().empty
    lab.search()
    assert files() == before
    assert (lab.folder / "search.csv").is_file() and lab.folder.is_relative_to(tmp_path)
    mine = Experiment(TINY, 0, tmp_path)
    assert mine.trained() == [] and mine.folder != lab.folder, "one's own run does not meet the reference's results"


def test_a_folder_laid_out_like_the_reference_is_read_in_its_place(no_training, tmp_path):
    shutil.copytree(REFERENCE, tmp_path / "class")
    shutil.copytree(REFERENCE / "seed1" / "empathy", tmp_path / "class" / "seed0" / "empathy", dirs_exist_ok=True)
    prompts = ["I lost my job and I feel so alone."]
    ours, theirs = (
        Experiment(TINY, seed, tmp_path, progress=False, source=source) for seed, source in ((0, str(tmp_path / "class")), (1, "reference"))
    )
    for lab in (ours, theirs):
        lab.load_adapters()
    weights = [lab.lm.model.state_dict() for lab in (ours, theirs)]
    keys = [key for key in weights[0] if ".empathy." in key]
    assert keys and all(torch.equal(weights[0][key], weights[1][key]) for key in keys)
    assert ours.policy_replies("empathy", prompts) == theirs.policy_replies("empathy", prompts)
    assert ours.home != theirs.home


# -- one owner of adapters


def adapter(lab: Experiment, name: str) -> dict[str, torch.Tensor]:
    """An adapter's tensors, as they are now."""
    found = {key.replace(f".{name}.", "."): p.detach().clone() for key, p in lab.lm.model.named_parameters() if f".{name}." in key}
    assert found
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_method_takes_the_experiments_adapters_and_trains_nothing(no_training, tmp_path):
    lab = Experiment(TINY, 0, tmp_path, progress=False, source="reference")
    lab.load_adapters()
    before = {name: adapter(lab, name) for name in TINY.objectives}
    emorl = lab.method("emorl")
    cost = emorl.prepare()
    assert (cost.data_points, cost.parallel, cost.samples) == (4608, 1536, 4608)
    assert cost.trainable == sum(x.numel() for tensors in before.values() for x in tensors.values())
    recorded = [json.loads((REFERENCE / "seed0" / name / "done.json").read_text())["seconds"] for name in TINY.objectives]
    assert cost.seconds == pytest.approx(sum(recorded), abs=0.2)
    assert all(same(adapter(lab, name), before[name]) for name in TINY.objectives)
    assert lab.lm.adapters == list(TINY.objectives) and not lab.study_folder.exists()
    w, prompts = (0.25, 1.0, 0.125), lab.dataset.prompts("test")[:4]
    assert emorl.reply(prompts, w) == lab.ensemble(w).reply(prompts)
    assert lab.method("exact-average").prepare() == cost, "what several methods start from is there once"


def test_a_method_loads_the_experiments_adapters_if_nobody_has(no_training, tmp_path):
    lab = Experiment(TINY, 1, tmp_path, progress=False, source="reference")
    lab.method("rewarded-soups").prepare()
    assert lab.lm.adapters == list(TINY.objectives)


def test_a_bench_is_had_once_and_is_kept_where_it_says(tmp_path):
    lab = Experiment(TINY, 0, tmp_path, progress=False, source="reference")
    made = lab.bench()
    assert made is lab.bench() is lab.method("clp-full").bench and made.folder == lab.study_folder == lab.home / "study" / "seed0"
    assert lab.bench(None) is not made and lab.bench(None).folder is None and lab.bench(tmp_path / "x").folder == tmp_path / "x"
    study = lab.bench(own_runs=False)
    assert study.folder == made.folder and study.ppo == made.ppo and study.lm is made.lm is lab.lm
    assert made.adapters() == list(TINY.objectives) and study.adapters() == [f"study-{name}" for name in TINY.objectives]


@pytest.mark.slow
def test_the_study_trains_adapters_of_its_own_beside_the_experiments(tmp_path, monkeypatch):
    quick = replace(TINY, study=replace(TINY.study, budget=48, batch_size=16, validate_every=0))
    lab = Experiment(quick, 0, tmp_path, progress=False, source="reference")
    lab.load_adapters()
    before = {name: adapter(lab, name) for name in TINY.objectives}
    study = lab.bench(own_runs=False)
    shared, uniform = study.train_objectives(), make_method("uniform", study).prepare()
    assert (shared.data_points, shared.parallel, uniform.data_points) == (48, 16, 48)
    assert all(same(adapter(lab, name), before[name]) for name in TINY.objectives), "the experiment's are left alone"
    theirs = {name: adapter(lab, f"study-{name}") for name in TINY.objectives}
    assert not any(same(theirs[name], before[name]) for name in TINY.objectives)
    assert {path.name for path in lab.study_folder.iterdir()} == {*TINY.objectives, "uniform"}

    def refuse(self):
        raise AssertionError("something is trained")

    monkeypatch.setattr(PPOTrainer, "step", refuse)
    assert lab.method("uniform").prepare() == uniform, "another bench on the same model and folder loads the run"
    again = Experiment(quick, 0, tmp_path, progress=False, source="reference")  # as in another process
    assert again.method("uniform").prepare() == uniform and again.bench(own_runs=False).train_objectives() == shared
    assert same(adapter(again, "uniform"), adapter(lab, "uniform"))
    assert all(same(adapter(again, f"study-{name}"), theirs[name]) for name in TINY.objectives)
    assert again.method("emorl").prepare().data_points == 4608
    assert all(same(adapter(again, name), before[name]) for name in TINY.objectives)


@pytest.mark.parametrize(
    ("preset", "seed", "source", "message"),
    [
        ("t5", 0, "reference", "brings no reference run of the preset t5"),
        ("tiny", 0, "no/such/folder", "no/such/folder: no such folder of runs"),
        ("tiny", 99, "reference", "seed99/reflection: this run lacks it"),
    ],
)
def test_a_run_that_is_not_there_is_one_line(preset, seed, source, message, no_training, tmp_path):
    before = files()
    with pytest.raises(UserError, match=message) as error:
        Experiment(get_preset(preset), seed, tmp_path, progress=False, source=source).load_adapters()
    assert "\n" not in str(error.value)
    assert files() == before


def test_options_that_differ_are_another_run(tmp_path):
    changed = replace(TINY, ppo=replace(TINY.ppo, lr=1.0))
    with pytest.raises(UserError, match="no reference run"):
        Experiment(changed, 0, tmp_path, source="reference")


def test_a_missing_classifier_of_the_reference_is_not_trained(no_training, tmp_path):
    shutil.copytree(REFERENCE, tmp_path / "class")
    shutil.rmtree(tmp_path / "class" / "classifiers" / "empathy")
    with pytest.raises(UserError, match="classifiers/empathy: this run lacks it"):
        Experiment(TINY, 0, tmp_path, progress=False, source=str(tmp_path / "class")).classifier("empathy")
    assert not (tmp_path / "class" / "classifiers" / "empathy").exists()


def test_the_tables_of_the_reference_belong_to_it():
    policies, judged = pd.read_csv(REFERENCE / "policies.csv"), pd.read_csv(REFERENCE / "classifiers.csv")
    assert set(policies.seed) == set(judged.seed) == set(SEEDS) and policies.machine.iloc[0] == judged.machine.iloc[0] == "native"
    assert policies.machine.nunique() == judged.machine.nunique() >= 2
    runs = policies.set_index("policy").groupby(["machine", "seed"], sort=False)["mean"].apply(lambda run: tuple(run.drop("base")))
    assert runs.is_unique, "the same draw twice is no spread"
    native = policies[policies.machine == "native"].drop(columns="machine").reset_index(drop=True)
    pd.testing.assert_frame_equal(native, pd.read_csv(data_root() / "results" / "tiny_seeds.csv"))
    for table in ("policies", "classifiers"):
        made = json.loads((REFERENCE / f"{table}.json").read_text())
        assert made["command"] == "python scripts/make_reference.py" and made["commit"] and made["torch"]


def test_the_readmes_table_is_that_of_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(str(data_root().parent / "scripts"))
    from make_reference import readme_table

    seeds = pd.read_csv(data_root() / "results" / "tiny_seeds.csv")
    readme = (data_root().parent / "README.md").read_text(encoding="utf-8")
    assert readme_table(seeds) in readme
    assert readme_table(seeds.assign(reflection=seeds.reflection + 0.001)) not in readme


def test_a_machine_that_gives_the_same_is_no_further_run(monkeypatch):
    monkeypatch.syspath_prepend(str(data_root().parent / "scripts"))
    from make_reference import distinct

    def made(machine: str, mean: float, seconds: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        return pd.DataFrame({"policy": ["base"], "mean": [mean], "seed_seconds": [seconds], "machine": [machine]}), pd.DataFrame()

    kept = distinct([made("native", 0.5, 1.0), made("avx2", 0.5, 2.0), made("default", 0.6, 1.0)])
    assert [policies.machine.iloc[0] for policies, _ in kept] == ["native", "default"]


# -- what a notebook opens


def test_a_notebook_says_whose_run_it_reads(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path))
    monkeypatch.delenv("EMORL_RUN", raising=False)
    monkeypatch.delenv("EMORL_SEED", raising=False)
    assert open_run("tiny").source == "reference"
    assert (
        "run: the reference that comes with emorl_lite, seed 0; one set of classifiers serves all seeds; read, not trained here"
        in capsys.readouterr().out
    )
    assert open_run("tiny", "mine", seed=3).folder == tmp_path / "tiny" / "seed3"
    assert "run: yours, seed 3; reflection, empathy, fluency: trained when first needed" in capsys.readouterr().out
    monkeypatch.setenv("EMORL_RUN", "mine")
    monkeypatch.setenv("EMORL_SEED", "2")
    assert open_run("tiny", "reference").folder == tmp_path / "tiny" / "seed2"
    monkeypatch.setenv("EMORL_SEED", "two")
    with pytest.raises(UserError, match="EMORL_SEED=two"):
        open_run("tiny")


def test_the_tiny_preset_stays_on_the_cpu_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *args: (9, 0))
    from emorl_lite.lm.devices import choose_device

    assert choose_device(TINY.model.device, TINY.model.dtype) == (torch.device("cpu"), torch.float32)
    assert choose_device("auto", "auto") == (torch.device("cuda"), torch.bfloat16), "only where nobody chose"


def test_a_run_beside_the_reference():
    reference = pd.DataFrame({"auc": [0.9, 0.8, 0.95], "mean": [0.5, 0.5, 0.6]})
    table = beside({"auc": 0.7, "mean": 0.55}, reference, {"auc": "area"}).set_index("measure")
    assert list(table.index) == ["area", "mean"]
    assert table.loc["area"].tolist() == [0.7, 0.9, 0.8, 0.95, "no"]
    assert table.loc["mean"].tolist() == [0.55, 0.5, 0.5, 0.6, "yes"]
