"""The study: resumable, one table, open to new methods; and what is computed from its tables."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emorl_lite import methods
from emorl_lite import plots as method_plots
from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_identity, write_json, write_table
from emorl_lite.base.outputs import read_provenance
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.jobs import EngineConfig
from emorl_lite.methods.base_model import BaseModel
from emorl_lite.methods.registry import METHODS, needs, registered, version
from emorl_lite.plots.style import figure_bytes
from emorl_lite.readings.study import earlier_reading
from emorl_lite.search.pareto import expected_utility, hypervolume, non_dominated
from emorl_lite.search.simplex_grid import compositions
from emorl_lite.study import run as study
from emorl_lite.study.claims import CLAIMS, examined, verdict
from emorl_lite.study.comparison import (
    BY_OWN_SEARCH,
    best_by_level,
    consumption,
    difference,
    dominated_share,
    front_metrics,
    objectives_of,
    ratio_of_spreads,
    representative,
    with_intervals,
)
from emorl_lite.study.evidence import Evidence
from emorl_lite.study.exact_fronts import EXACT
from emorl_lite.study.measuring import KL_TARGETS
from emorl_lite.study.run import Study, convergence, run_job
from emorl_lite.study.tables import outdated, study_tables

TINY = get_preset("tiny")
SMALL = replace(
    TINY,
    rewards=replace(TINY.rewards, classifier_examples=256, classifier_epochs=1),
    ppo=replace(TINY.ppo, minibatch_size=16, epochs=1, checkpoint_every=1),
    model=replace(TINY.model, max_new_tokens=10),
    search=replace(TINY.search, levels=1, validation_prompts=2),
    data=replace(TINY.data, train_prompts=32, validation_prompts=4, test_prompts=6),
    study=replace(
        TINY.study, budget=48, batch_size=16, validate_every=1, weight_steps=1, level_steps=1, test_prompts=4, sweep_prompts=3, patience=2
    ),
)
NAMES = list(TINY.objectives)
HERE = EngineConfig("here")


class Newcomer(BaseModel):
    """A method that nobody outside the registry has heard of."""

    name = "newcomer"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Study:
    made = Study(SMALL, 2, ["uniform", "emorl", "dera", "emorl-long"], tmp_path_factory.mktemp("study"), progress=False)
    made.run(engine=HERE)
    return made


# -- running


@pytest.mark.slow
def test_a_study_has_a_row_for_every_choice_and_seed(small):
    tables = small.tables()
    rows = tables["rows"]
    found = {(m, s): set(g["choice"]) for (m, s), g in rows.groupby(["method", "seed"])}
    for seed in range(2):
        assert found["uniform", seed] == {"default"}
        assert found["emorl", seed] == {"default", "grid", "published search", "exact optimum"}
        assert found["dera", seed] == {"default", "grid", "exact optimum"}
    assert (
        rows[["data_points", "parallel", "samples", "trainable", "seconds", "calls_per_token", "mean", "sampled_mean", "kl"]]
        .notna()
        .all()
        .all()
    )
    assert rows[[f"sampled_{name}" for name in NAMES]].notna().all().all()
    matched, samples, curves = tables["matched"], tables["samples"], tables["curves"]
    assert set(matched["method"]) == {"uniform", "emorl", "dera", "emorl-long"} and len(matched) == 2 * 4 * len(KL_TARGETS)
    assert matched[matched["reached"]][["scale", "kl", "sampled_mean"]].notna().all().all()
    assert set(samples["prompt"]) <= set(Experiment(SMALL, 0).dataset.prompts("test")) and samples["reply"].notna().all()
    assert set(curves["run"]) == set(tables["convergence"]["run"]) and set(curves["seed"]) == {0, 1}
    cost = rows.drop_duplicates("method").set_index("method")
    assert cost.loc["emorl", ["data_points", "parallel"]].tolist() == [48, 16]
    assert cost.loc["emorl-long", ["data_points", "parallel"]].tolist() == [144, 48]
    assert cost["calls_per_token"].to_dict() == {"uniform": 1, "emorl": 3, "dera": 2, "emorl-long": 3}
    sweep = tables["sweep"].groupby("method").size() / 2
    assert sweep.to_dict() == {"uniform": 1, "emorl": 3, "dera": 9, "emorl-long": 3}
    assert set(tables["front"]["method"]) == {"emorl", "emorl-long", "dera"} and (tables["front"]["found"] == EXACT).all()
    assert tables["levels"]["level"].nunique() == 8 and (tables["levels"]["runs"] == "objectives-long").all()
    runs = {"uniform", *NAMES, *(f"{n}-long" for n in NAMES)}
    assert set(tables["convergence"]["run"]) == runs
    at = rows[(rows["method"] == "emorl") & (rows["choice"] == "exact optimum")]
    best = rows[(rows["method"] == "emorl") & (rows["choice"] == "published search")]
    assert len(at) == len(best) == 2


@pytest.mark.slow
def test_dera_at_its_default_is_the_uniform_policy(small):
    rows = small.tables()["rows"].set_index(["method", "choice", "seed"])
    for seed in range(2):
        for name in (*NAMES, "mean"):
            assert rows.loc[("dera", "default", seed), name] == pytest.approx(rows.loc[("uniform", "default", seed), name])


@pytest.mark.slow
def test_only_what_is_missing_is_done_again(small, monkeypatch):
    before = small.tables()
    done = []
    monkeypatch.setattr(study, "run_job", lambda preset, seed, name, root: done.append((seed, name)) or run_job(preset, seed, name, root))
    small.run(engine=HERE)
    assert done == []
    result = small.folder / "seed1" / "results" / "emorl" / "result.json"
    result.unlink()
    small.run(engine=HERE)
    assert done == [(1, "emorl")]
    after = small.tables()
    for name in before:
        assert before[name].equals(after[name]) or np.allclose(before[name].select_dtypes("number"), after[name].select_dtypes("number"))


@pytest.mark.slow
def test_other_options_are_told_from_these(small):
    other = Study(replace(SMALL, study=replace(SMALL.study, budget=64)), 2, ["uniform"], small.root, progress=False)
    with pytest.raises(UserError, match=r"made with study.budget = 48, now 64; choose another --runs"):
        other.run(workers=1)
    with pytest.raises(UserError, match="method 'sarsa' is unknown"):
        Study(SMALL, 1, ["sarsa"], small.root)
    with pytest.raises(UserError, match=r"--seeds 0: must be positive"):
        Study(SMALL, 0)
    with pytest.raises(UserError, match=r"--study\.weight-steps 0: must be positive"):
        Study(replace(SMALL, study=replace(SMALL.study, weight_steps=0)), 1)


@pytest.mark.slow
def test_obstacles_are_told_before_anything_is_trained(small, tmp_path):
    with pytest.raises(UserError, match=r"--workers -1: must be positive"):
        small.run(workers=-1)
    (tmp_path / "tiny" / "seed1" / "base").mkdir(parents=True)
    with pytest.raises(UserError, match="one base for all"):
        Study(SMALL, 2, ["base"], tmp_path, progress=False).run(workers=1)
    with pytest.raises(UserError, match=r"--study\.budget 8: must hold at least one batch"):
        Study(replace(SMALL, study=replace(SMALL.study, budget=8)), 1)


@pytest.mark.slow
def test_a_table_that_is_not_as_its_job_left_it_is_told(small, tmp_path):
    folder = small.folder / "seed1" / "results" / "dera"
    for name, damage in [("rows.csv", lambda text: text[:-40]), ("sweep.csv", lambda text: text.replace("0.5", "0.9")), ("rows.csv", None)]:
        kept = (folder / name).read_bytes()
        if damage is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(damage(kept.decode()).encode())
        with pytest.raises(UserError, match=rf"{name}: (edited or damaged|missing); delete .*result.json and the job is done again"):
            small.tables()
        (folder / name).write_bytes(kept)
    kept = (folder / "result.json").read_bytes()
    (folder / "result.json").write_bytes(kept[:50])
    with pytest.raises(UserError, match="delete it and the job is done again"):
        small.run(engine=HERE)
    (folder / "result.json").write_bytes(kept)
    assert set(small.tables()["rows"]["method"]) == {"uniform", "emorl", "dera", "emorl-long"}


@pytest.mark.slow
def test_results_of_other_adapters_or_classifiers_are_told(small):
    made_of = json.loads((small.folder / "seed1" / "results" / "emorl" / "result.json").read_text())["made_of"]
    home = small.folder.parent
    assert {f"study/seed1/{name}/adapter_model.safetensors" for name in NAMES} <= set(made_of)
    for name in made_of:
        kept = (home / name).read_bytes()
        (home / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(UserError, match=r"result\.json: made with .*safetensors = .*; delete it and the job is done again"):
            small.tables()
        (home / name).write_bytes(kept)
    assert len(small.tables()["rows"])


@pytest.mark.slow
def test_a_new_method_needs_its_file_and_its_name(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "emorl_lite.methods.newcomer", sys.modules[__name__])
    monkeypatch.setitem(methods.METHODS, "newcomer", ("newcomer:Newcomer", {}))
    rows = Study(SMALL, 2, ["uniform", "newcomer"], small.root, progress=False).run(workers=1)["rows"]
    assert set(rows["method"]) == {"uniform", "newcomer"}
    assert figure_bytes(method_plots.forest(rows, "mean", "score"), "png")


@pytest.mark.slow
def test_tables_come_back_with_their_provenance(small, tmp_path):
    written = small.save(tmp_path, "python -m emorl_lite study")
    others = ("sweep", "matched", "prompts", "front", "samples", "levels", "convergence", "curves")
    assert {p.name for p in written} == {"methods.csv", *(f"methods_{x}.csv" for x in others)}
    facts = json.loads((tmp_path / "methods.csv.provenance.json").read_text())
    assert facts["command"] == "python -m emorl_lite study" and facts["study"]["budget"] == 48 and facts["seeds"] == 2
    assert study_tables(tmp_path)["rows"].shape == small.tables()["rows"].shape
    with pytest.raises(UserError, match=r"methods.csv: no such table; python -m emorl_lite study makes it"):
        study_tables(tmp_path / "nowhere")


def test_a_table_names_the_commits_that_its_runs_were_trained_at(tmp_path):
    made_here = Study(SMALL, 2, ["uniform"], tmp_path, progress=False)
    commits = {"seed0/a": "abc", "seed0/b": "abc", "seed1/a": None, "seed2/a": "of no seed that was asked for"}
    for run, commit in commits.items():
        write_json(made_here.folder / run / "done.json", {"identity": {}, "made_at": {"commit": commit}})
    write_json(made_here.folder / "seed1/b/done.json", {"identity": {}})
    file = made_here.folder / "seed0/results/uniform/result.json"
    write_json(file, {"identity": study.identity(SMALL), "commit": "def", "version": 1})
    write_table(file.with_name("rows.csv"), pd.DataFrame({"seed": [0], "method": ["uniform"]}))
    facts = read_provenance(made_here.save(tmp_path, "python -m emorl_lite study")[0])
    assert facts["trained_at_commits"] == ["abc", "not recorded"] and facts["made_at_commits"] == ["def"]


def test_convergence_by_the_papers_rule(tmp_path):
    for run, means in {"a": [0.1, 0.5, 0.5, 0.5, 0.9], "b": [0.1, 0.2, 0.3, 0.4, 0.5]}.items():
        (tmp_path / run).mkdir()
        validation = [x for mean in means for x in (np.nan, mean)]
        pd.DataFrame({"episodes": np.arange(1, 11) * 8, "validation": validation}).to_csv(tmp_path / run / "log.csv", index=False)
        (tmp_path / run / "done.json").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "log.csv").write_text("episodes,validation\n")
    table = convergence(tmp_path, 0, replace(TINY, study=replace(TINY.study, patience=3))).set_index("run")
    assert table.loc["a"].to_dict() == {"seed": 0, "data_points": 64, "converged": True, "validation": 0.5}
    assert "c" not in table.index  # still in training
    assert table.loc["b"].to_dict() == {"seed": 0, "data_points": 80, "converged": False, "validation": 0.5}


# -- tables made up


def made_up_sweep(name: str, knob: str, seed: int, grid: np.ndarray, random: np.random.Generator) -> list[dict]:
    """One method's settings and their scores."""
    row = {"seed": seed, "method": name, "knob": knob}
    if knob == "strength":
        scores = dict.fromkeys(NAMES, 0.3)
        told = scores | {f"validation_{n}": 0.3 for n in NAMES}
        return [row | {"strength": s, "kl": s + seed / 10, "sampled_mean": 0.3 + s / 10} | told for s in (0.5, 1.0, 2.0)]
    if knob != "weights":
        return [row | dict.fromkeys([*NAMES, *(f"validation_{n}" for n in NAMES)], 0.4)]
    rows = []
    for w in grid:
        scores = np.clip(w * 0.6 + random.uniform(0.1, 0.3, 3) + 0.1 * (name == "clp-full"), 0, 1)
        told = {f"validation_{n}": x for n, x in zip(NAMES, np.clip(scores + random.normal(0, 0.01, 3), 0, 1), strict=True)}
        rows.append(row | {f"w_{n}": x for n, x in zip(NAMES, w, strict=True)} | dict(zip(NAMES, scores, strict=True)) | told)
    return rows


def made_up(seeds: int = 4) -> dict[str, pd.DataFrame]:
    """Tables in the study's form, random but for what the tests below need."""
    random = np.random.default_rng(0)
    grid = np.array(compositions(3, 5)) / 5
    rows, sweep, front, levels, stops = [], [], [], [], []
    for seed in range(seeds):
        for name in methods.METHODS:
            kind = registered(name)[0]
            for choice in ("default", "grid") if kind.knob != "none" else ("default",):
                mean = float(random.uniform(0.4, 0.6))
                calls = {"emorl": 3, "emorl-long": 3, "dera": 2}.get(name, 1)
                costs = {"data_points": 1536, "parallel": 1536, "samples": 1536, "trainable": 9, "seconds": 1.0, "calls_per_token": calls}
                scores = {**dict.fromkeys(NAMES, mean), "mean": mean, "sampled_mean": mean - 0.1, "kl": 2.0}
                rows.append({"seed": seed, "method": name, "knob": kind.knob, "choice": choice, "n": 192, **costs, **scores})
            sweep += made_up_sweep(name, kind.knob, seed, grid, random)
            if not needs(name) and name != "base":
                stops.append({"seed": seed, "run": name, "data_points": 1000 + 100 * seed, "converged": True, "validation": 0.5})
        for name in ("emorl", "emorl-long"):
            front.append({"seed": seed, "method": name, **{f"w_{n}": 1 / 3 for n in NAMES}, **dict.fromkeys(NAMES, 0.5)})
        for i, name in enumerate(NAMES):
            stops.append(
                {"seed": seed, "run": f"{name}-long", "data_points": 300 * (i + 1) + 10 * seed, "converged": True, "validation": 0.5}
            )
        for i, level in enumerate(("soup of A and B", "parameters", "before the final norm", "last hidden state", "probabilities")):
            for w in grid:
                weights = {f"w_{n}": x for n, x in zip(NAMES, w, strict=True)}
                mean = 0.3 + 0.05 * i + 0.01 * seed + w[0] / 10
                chosen = {"validation_mean": w[1], "mean": mean}
                levels.append({"seed": seed, "runs": "objectives-long", "level": level, **weights, **chosen})
    tables = {"rows": rows, "sweep": sweep, "front": front, "levels": levels, "convergence": stops}
    return {name: pd.DataFrame(table) for name, table in tables.items()}


def test_one_row_a_method_and_seed():
    listed = [("b", "none", "default", 0.1), ("a", "weights", "grid", 0.2), ("a", "weights", "published search", 0.3)]
    listed += [("a", "weights", "exact optimum", 0.9), ("a", "weights", "default", 0.0)]
    listed += [("c", "strength", "grid", 0.5), ("c", "strength", "default", 0.4)]
    listed += [("d", "weights", "grid", 0.6), ("d", "weights", "grid, mean", 0.7)]
    rows = pd.DataFrame(listed, columns=["method", "knob", "choice", "mean"]).assign(seed=0)
    assert representative(rows)[["method", "mean"]].to_numpy().tolist() == [["b", 0.1], ["a", 0.2], ["c", 0.5], ["d", 0.6]]
    assert representative(rows, BY_OWN_SEARCH)[["method", "mean"]].to_numpy().tolist() == [["b", 0.1], ["a", 0.3], ["c", 0.5], ["d", 0.7]]


def test_steering_metrics_are_for_those_who_were_asked_whatever_the_grid():
    """Six weights against nine strengths: the number of rows says nothing."""
    sweep = made_up()["sweep"]
    coarse = sweep[(sweep["knob"] != "weights") | (sweep[[f"w_{n}" for n in NAMES]].max(axis=1) > 0.9)]
    found = front_metrics(coarse).set_index("method")
    assert found.loc["clp-full", ["steered", "gap", "controllability"]].notna().all(axis=None)
    assert found.loc[["dera", "uniform", "personalized-soups"], "steered"].isna().all()


def test_claims_about_methods_that_were_not_studied_are_not_measured():
    tables = made_up()
    for name in ("rows", "sweep", "front"):
        tables[name] = tables[name][~tables[name]["method"].isin(["clp-full", "dera"])]
    tables["levels"] = tables["levels"].iloc[:0]
    tables["convergence"] = tables["convergence"].query("run != 'empathy-long'")
    table = examined(tables)
    missing = table[table["verdict"] == "not measured"]
    assert len(table) == len(CLAIMS) and {"EMORL", "CLP", "(ours)"} <= set(missing["source"])
    assert missing["mean"].isna().all() and "DynaOpt beats uniform" not in set(missing.query("decoding == 'greedy'")["claim"])
    assert figure_bytes(method_plots.claims_figure(table), "png")


def test_intervals_and_paired_differences_by_hand():
    table = pd.DataFrame({"method": ["a"] * 3 + ["b"] * 3, "seed": [0, 1, 2] * 2, "mean": [0.5, 0.6, 0.9, 0.4, 0.45, 0.8]})
    found = with_intervals(table, "mean").set_index("method")
    low, high = stats.t.interval(0.95, 2, np.mean([0.5, 0.6, 0.9]), stats.sem([0.5, 0.6, 0.9]))
    assert found.loc["a", ["low", "high"]].tolist() == pytest.approx([low, high])
    d = difference(table.sample(frac=1, random_state=0), "a", "b")  # paired by seed, whatever the order
    low, high = stats.t.interval(0.95, 2, np.mean([0.1, 0.15, 0.1]), stats.sem([0.1, 0.15, 0.1]))
    assert [d["mean"], d["low"], d["high"]] == pytest.approx([np.mean([0.1, 0.15, 0.1]), low, high])
    assert d["high"] - d["low"] < found.loc["a", "high"] - found.loc["a", "low"]
    with pytest.raises(UserError, match="no rows for method 'c'"):
        difference(table, "a", "c")


def test_ratio_of_spreads_covers_the_truth():
    """Of two methods with equal spread, about 95 % of the intervals hold 1."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        _, low, high = ratio_of_spreads(*random.normal(size=(2, 5)))
        held += low <= 1 <= high
    assert 0.92 <= held / 400 <= 0.98
    with pytest.raises(UserError, match="two seeds that differ"):
        ratio_of_spreads(np.array([1, 2]), np.array([1, 1]))


def test_front_metrics_are_those_of_pareto():
    tables = made_up()
    found = front_metrics(tables["sweep"]).set_index(["method", "seed"])
    asked = tables["sweep"].query("method == 'clp-full' and seed == 2")
    own = asked[NAMES].to_numpy()
    front = own[non_dominated(asked[[f"validation_{n}" for n in NAMES]].to_numpy())]
    row = found.loc[("clp-full", 2)]
    assert row["hypervolume"] == pytest.approx(hypervolume(front, [0, 0, 0])) and row["points"] <= len(front) < len(own)
    assert row["utility"] <= expected_utility(own)
    unvalidated = front_metrics(asked.drop(columns=[f"validation_{n}" for n in NAMES])).iloc[0]
    assert unvalidated["utility"] == pytest.approx(expected_utility(own))
    assert unvalidated["hypervolume"] == pytest.approx(hypervolume(own, [0, 0, 0]))
    w = asked[[f"w_{n}" for n in NAMES]].to_numpy()
    assert row["steered"] == pytest.approx((w * own).sum(1).mean()) and row["gap"] >= 0 and 0 < row["controllability"] <= 1
    assert np.isnan(found.loc[("uniform", 0), "steered"]) and found.loc[("uniform", 0), "hypervolume"] == pytest.approx(0.064)
    assert (found["igd_plus"] >= 0).all() and not any("map" in method for method, _ in found.index)
    assert objectives_of(tables["sweep"]) == NAMES


def test_dominated_share_by_hand():
    points = {"a": [[0.5, 0.5]], "b": [[0.4, 0.4], [0.3, 0.3], [0.9, 0.1], [0.5, 0.5]]}
    rows = [{"seed": 0, "method": m, "w_x": 0.5, "w_y": 0.5, "x": p[0], "y": p[1]} for m, ps in points.items() for p in ps]
    assert dominated_share(pd.DataFrame(rows), "a", "b")["share"].tolist() == [0.0]  # b's front is (.9, .1) and (.5, .5)
    rows = [row for row in rows if row["x"] != 0.5 or row["method"] == "a"]
    assert dominated_share(pd.DataFrame(rows), "a", "b")["share"].tolist() == [0.5]


def test_consumption_has_both_accountings():
    tables = made_up()
    spent = consumption(tables["convergence"], tables["rows"], NAMES)
    means = spent.groupby("method")["data_points"].mean()
    assert means["emorl (sum of runs)"] == 1845 and means["emorl (longest run)"] == 915 and means["uniform"] == 1150
    rows = representative(tables["rows"], BY_OWN_SEARCH)
    own = spent.query("method == 'emorl (sum of runs)'").set_index("seed")["mean"]
    assert own.to_dict() == rows.query("method == 'emorl-long'").set_index("seed")["mean"].to_dict()


def test_every_claim_has_a_number_an_interval_and_a_verdict():
    tables = made_up()
    table = examined(tables)
    unmeasured = table[table["verdict"] == "not measured"]
    assert len(table) == len(CLAIMS) and table["verdict"].isin(["holds", "open", "refuted", "not measured"]).all()
    assert unmeasured["measure"].str.contains("at KL").sum() >= len(unmeasured) - 2  # no table `matched`; methods that may come
    table = table.drop(unmeasured.index)
    assert (table["low"] <= table["mean"]).all() and (table["mean"] <= table["high"]).all()
    known = table.set_index(["claim", "measure"])
    assert known.loc[("DeRa costs more model calls than CLP: twice", "ratio of calls a token"), "mean"] == 2
    assert known.loc[("greedy decoding flatters a policy", "mean score of uniform, greedy less sampled"), "mean"] == pytest.approx(0.1)
    hidden = known.loc[("hidden states beat parameters", "mean score, chosen weights, greedy")]
    assert hidden["mean"] == pytest.approx(0.1) and hidden["verdict"] == "holds"
    assert known.loc[("parameters beat probabilities", "mean score, chosen weights, greedy"), "verdict"] == "refuted"
    longest = known.loc[("EMORL consumes less than uniform", "data points saved, longest run, the search not counted")]
    searched = known.loc[("EMORL consumes less than uniform", "data points saved, longest run, the search counted")]
    assert longest["mean"] == pytest.approx(1150 - 915) and longest["source"] == "(ours)" and searched["source"] == "EMORL"
    assert longest["mean"] - searched["mean"] == pytest.approx(135 * 32)
    confounded = Evidence(tables).confounded("uniform", "emorl-long").values.mean()
    assert confounded == pytest.approx(Evidence(tables).own_score("uniform", "emorl-long").values.mean() - 0.1)


def test_verdicts():
    assert [verdict({"low": a, "high": b}) for a, b in [(0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1)]] == ["holds", "open", "refuted"]
    assert verdict({"low": 0.8, "high": 1.2}, 1.0) == "open" and verdict({"low": 1.01, "high": 2}, 1.0) == "holds"


def test_best_and_average_by_level():
    found = best_by_level(made_up(2)["levels"]).set_index(["level", "seed"])
    assert found.loc[("parameters", 1), "best"] == pytest.approx(0.36)  # chosen on validation (all weight on the second), not on test
    assert found.loc[("parameters", 1), "average"] == pytest.approx(0.36 + 1 / 30)


# -- figures


@pytest.mark.slow
def test_every_figure_draws():
    tables = made_up()
    rows = representative(tables["rows"])
    metrics = front_metrics(tables["sweep"])
    steerable = ["clp-full", "panacea", "prompted"]
    drawn = [
        method_plots.forest(rows, "mean", "score"),
        method_plots.forest(metrics, "controllability", "controllability"),
        method_plots.fronts(tables["sweep"], [*steerable, "uniform"], tables["front"]),
        method_plots.decoding_cost(rows),
        method_plots.aggregation_levels(tables["levels"]),
        method_plots.weight_sweep(tables["sweep"], steerable),
        method_plots.kl_trade_off(tables["sweep"], rows, ["uniform", "base"]),
        method_plots.claims_figure(examined(tables)),
    ]
    assert all(len(figure_bytes(figure, "png")) > 5000 for figure in drawn)
    labels = [text.get_text() for text in drawn[0].axes[0].get_yticklabels()]
    assert labels == with_intervals(rows, "mean").sort_values("mean")["method"].tolist()
    heights = {line.get_label(): line.get_xydata() for line in drawn[6].axes[0].lines if not line.get_label().startswith("_")}
    assert heights["dera"][:, 1].tolist() == pytest.approx([0.35, 0.4, 0.5])


def test_figures_say_what_they_lack():
    with pytest.raises(UserError, match="forest: the table has no column 'mean'"):
        method_plots.forest(pd.DataFrame({"method": ["a"], "seed": [0]}), "mean", "score")
    with pytest.raises(UserError, match="no method with a strength"):
        columns = {"method": ["a"], "seed": [0], "strength": [np.nan], "kl": [np.nan], "sampled_mean": [np.nan]}
        method_plots.kl_trade_off(pd.DataFrame(columns))
    with pytest.raises(UserError, match="fronts: the table is empty"):
        method_plots.fronts(made_up()["sweep"], ["nobody"])


def test_results_made_before_an_option_was_there_or_renamed_are_still_good(tmp_path):
    """Records as they were written: other names, options of the other kind of rewards, no option that came later."""
    now = study.identity(TINY)
    before = json.loads(json.dumps(now))
    before["search"]["level"] = before["search"].pop("mix")
    before["model"]["path"] = "data/tiny_lm"
    before["rewards"] |= {"kind": "small_world", "text_epochs": 3}
    del before["ppo"]["kl_stop"]
    check_identity(tmp_path, *study.comparable(before, now))
    for part, key, value in [
        ("search", "level", "parameters"),
        ("ppo", "lr", 1.0),
        ("model", "path", "another"),
        ("rewards", "fluency_cap", 9.0),
        ("kl_coef", "empathy", 0.5),
    ]:
        changed = json.loads(json.dumps(before))
        changed[part][key] = value
        with pytest.raises(UserError, match=r"choose another --runs"):
            check_identity(tmp_path, *study.comparable(changed, now), advice="choose another --runs")
    with pytest.raises(UserError, match=r"ppo\.kl_stop"):  # what was not there is the default, and no other
        check_identity(tmp_path, *study.comparable(before, study.identity(replace(TINY, ppo=replace(TINY.ppo, kl_stop=5.0)))))


@pytest.mark.parametrize("name", ["mod-forward", "c-dynaopt", "rewards-in-context", "grpo", "gdpo"])
def test_results_of_another_method_of_that_name_are_told(tmp_path, name):
    """The name stayed, the method did not: nobody's old scores stand under it."""
    experiment = Experiment(SMALL, 0, tmp_path)
    folder = study.results_folder(experiment, name)
    folder.mkdir(parents=True)
    record = {"identity": study.identity(SMALL)}
    (folder / "result.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"of another method that was called {name} \(version 1, now {version(name)}\); delete it"):
        study.finished(experiment, name)
    (folder / "result.json").write_text(json.dumps(record | {"version": version(name)}))
    assert version(name) > 1 and study.finished(experiment, name)


def test_a_batch_that_grpo_cannot_cut_is_told_before_anything_is_trained(tmp_path):
    odd = replace(SMALL, study=replace(SMALL.study, batch_size=6))
    with pytest.raises(UserError, match="method gdpo: a batch of 6 replies cannot be cut into groups of 4"):
        Study(odd, 1, ["gdpo"], tmp_path, progress=False).run(engine=HERE)
    assert not list(tmp_path.rglob("done.json"))


def test_methods_that_are_others_now_are_named_from_the_tables_own_record(tmp_path):
    rows = pd.DataFrame({"method": ["base", "c-dynaopt", "rewards-in-context", "of a stranger"], "seed": 0, "mean": 0.5})
    save_table(rows, tmp_path / "methods.csv")
    assert outdated(tmp_path) == ["c-dynaopt", "rewards-in-context"]  # nobody wrote versions then
    save_table(rows, tmp_path / "methods.csv", versions={name: version(name) for name in METHODS})
    assert outdated(tmp_path) == []
    assert earlier_reading(["A"]).startswith("A stands in") and earlier_reading(["A", "B"]).startswith("A and B stand in")
