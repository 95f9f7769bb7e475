"""Figures 2, 4 and 5 of the paper with their tables: what methods take, what searches need, how runs learn over seeds."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from random_maps import random_map

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import data_root
from emorl_lite.plots import learning_bands, measured_costs, paper_consumption
from emorl_lite.readings import paper as paper_readings
from emorl_lite.readings import results
from emorl_lite.readings import study as study_readings
from emorl_lite.study import consumption_table, cube_table, curves, labelled, learning, optional_table, paper_spending, spending
from emorl_lite.study.consumed import LONGEST, SEARCHED, SUM
from emorl_lite.study.tables import TABLES, study_tables, table_path
from emorl_lite.study.training_curves import CURVES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import search_surface

NAMES = ["a", "b"]
STOPS = {"a-long": (300, True), "b-long": (500, False), "uniform": (400, True), "dynaopt": (450, True)}


def rows(methods: tuple[str, ...] = ("base", "uniform", "dynaopt", "emorl-long", "exact-average-long")) -> pd.DataFrame:
    fixed = {"choice": "default", "knob": "none", "seconds": 60.0}
    return pd.DataFrame([{"method": m, "seed": s, "mean": 0.5 + i / 10 + s / 100, **fixed} for i, m in enumerate(methods) for s in (0, 1)])


def convergence() -> pd.DataFrame:
    return pd.DataFrame(
        [{"seed": s, "run": run, "data_points": n + s, "converged": done} for run, (n, done) in STOPS.items() for s in (0, 1)]
    )


def logs(seeds: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "seed": s,
                "run": run,
                "step": k,
                "episodes": 32 * k,
                "reward": k / 10 + s / 5,
                "validation": np.nan,
                "kl": k,
                "seconds": 5.0 * k,
            }
            for run in STOPS
            for s in range(seeds)
            for k in (1, 2, 3)
        ]
    )


# -- what methods take


def test_each_way_to_count_adds_up():
    spent = spending(rows(), convergence(), NAMES, search=135, curves=logs())
    points = labelled(spent).query("seed == 0").set_index("method")["data_points"]
    assert points["emorl (longest run)"] == 500 and points["emorl (sum of runs)"] == 800
    for way in (LONGEST, SUM):
        assert points[f"emorl ({way}{SEARCHED})"] == points[f"emorl ({way})"] + 135
        assert points[f"exact-average ({way})"] == points[f"emorl ({way})"], "the soups are made of EMORL's runs"
    assert points["base"] == 0 and points["uniform"] == 400
    assert f"exact-average ({LONGEST}{SEARCHED})" not in points, "the soups are not searched for"
    cut = labelled(spent).groupby("method")["censored"].all()
    assert cut["emorl (longest run)"] and not cut["uniform"] and not cut["base"]
    seconds = labelled(spent).set_index("method")["seconds"]
    assert (seconds["emorl (longest run)"] == 15).all() and (seconds["emorl (sum of runs)"] == 60).all()


def test_older_studies_know_less():
    spent = labelled(spending(rows(("base", "emorl-long")), convergence(), NAMES))
    assert set(spent["method"]) == {"base", "emorl (longest run)", "emorl (sum of runs)"}
    assert spent.loc[spent["method"] == "emorl (longest run)", "seconds"].isna().all()
    short = convergence().assign(run=lambda table: table["run"].str.replace("-long", "").replace("uniform", "uniform-short"))
    real = labelled(spending(rows(("base", "uniform-short", "emorl", "rewarded-soups")), short, NAMES, search=10))
    assert set(real["method"]) == {"base", "uniform", *(f"emorl ({way}{s})" for way in (LONGEST, SUM) for s in ("", SEARCHED))}
    both = pd.concat([convergence(), convergence().query("run == 'uniform'").assign(run="uniform-short", data_points=1)])
    whole = spending(rows(("base", "uniform-short", "uniform", "emorl-long")), both, NAMES)
    assert whole.loc[whole["method"] == "uniform", "data_points"].tolist() == [400, 401], "a whole budget, where a run had it"
    with pytest.raises(UserError, match="no finished run 'c'"):
        spending(rows(), convergence(), ["c"])


def test_the_consumption_table_has_the_paper_first_and_seconds():
    spent = spending(rows(), convergence(), NAMES, search=135, curves=logs())
    table = consumption_table({"tiny": spent})
    assert len(table) == 5 + 2 + 1 + 4 + 2, "five published rows; base, uniform, DynaOpt; EMORL in four ways, soups in two"
    emorl = table[table["method"] == "EMORL"]
    assert emorl["where"].tolist()[0] == "paper" and emorl["seconds"].tolist()[0] == "6,573 ± 147"
    assert emorl["data points"].tolist()[1] == "≥ 500 ± 1" and table.iloc[1]["data points"] == "0"
    assert consumption_table({}).equals(table[table["where"] == "paper"].reset_index(drop=True))


def test_figure_2_has_a_panel_for_the_paper_and_one_for_each_source():
    spent = spending(rows(), convergence(), NAMES, search=135)
    figure = paper_consumption(paper_spending(), {"tiny": spent, "twin": spent})
    assert [axes.get_title() for axes in figure.axes] == ["the paper", "tiny", "twin"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Base model" in named and "EMORL, sum of runs + search" in named and "Model soups, sum of runs" in named
    assert "Base model 0 and 0.34" in figure.alt_text and "EMORL, sum of runs + search 936" in figure.alt_text
    with pytest.raises(UserError, match="no column 'accounting'"):
        paper_consumption(paper_spending(), {"tiny": spent.drop(columns="accounting")})


def test_consumption_is_read_in_every_accounting():
    spent = spending(rows(), convergence(), NAMES, search=135)
    said = paper_readings.consumption_reading(labelled(spent), "twin")
    assert "On twin" in said and "by the sum of runs + search +536 [+529, +542], more" in said and "on top" not in said
    assert "on top" in paper_readings.consumption_reading(labelled(spending(rows(), convergence(), NAMES)))


# -- what searches need


def test_the_finest_grid_never_loses_and_counts_its_directions():
    scored = random_map(3, 4)
    curve = search_surface.grid_bests(scored, 10_000)
    assert [at.listed for at in curve] == [27, 125, 729, 4913] and [at.decoded for at in curve[:2]] == [19, 91]
    assert [at.best for at in curve] == sorted(at.best for at in curve)
    listed = search_surface.listed_bests(scored, "hierarchical", 27)
    assert listed[-1].listed == 27 and listed[-1].decoded == 19
    assert listed[-1].best == pytest.approx(curve[0].best), "the first level is the coarsest grid"


def test_evaluations_needed_grow_with_precision():
    curve = [search_surface.Best(k, k, 1 - 1 / k) for k in range(1, 11)]
    lines = search_surface.needed(curve, 1.0, (0.5, 0.25, 0.01))
    assert [line["evaluations"] for line in lines] == [2, 4, 10] and [line["reached"] for line in lines] == [True, True, False]


def surface(reached: bool = True) -> pd.DataFrame:
    counts = {"hierarchical": 14, "bayesian": 12}
    return pd.DataFrame(
        [
            {"search": name, "d": d, "shortfall": short, "evaluations": n * d, "decoded": 7 * d, "reached": reached or name == "bayesian"}
            for name, n in counts.items()
            for d in (2, 3)
            for short in (0.1, 0.05, 0.01)
            for _ in range(2)
        ]
    )


def test_what_was_not_reached_says_so():
    figure = measured_costs(surface(reached=False))
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "> 28\nnot reached" in shown and "24" in shown
    assert "more than 28 at d = 2" in figure.alt_text
    said = paper_readings.measured_costs_reading(surface(reached=False))
    assert "list: hierarchical at d = 2 and 3." in said and "d = 2: Bayesian 24; d = 3: Bayesian 36." in said and "nowhere" in said
    fair = paper_readings.measured_costs_reading(surface())
    assert "d = 2: Bayesian 24; d = 3" in fair and "fewest nowhere" in fair and "list: none" in fair
    ahead = paper_readings.measured_costs_reading(surface().replace({"search": {"hierarchical": "bayesian", "bayesian": "hierarchical"}}))
    assert "hierarchical search needs the fewest to within 10 % at d = 2 (24), 10 % at d = 3 (36), 5 % at d = 2 (24)," in ahead
    assert "50 %" in fair


def test_the_committed_surface_is_whole():
    from emorl_lite.tutorial import committed

    table = committed("search_surface.csv")
    searches = ("hierarchical", "full grid", "random", "bayesian")
    assert set(table["search"]) == set(searches) and set(table["shortfall"]) == set(search_surface.SHORT)
    assert not table.duplicated(["adapters", "d", "search", "seed", "shortfall"]).any()
    assert (table["decoded"] <= table["evaluations"]).all()
    ordered = table.sort_values("shortfall", ascending=False).groupby(["adapters", "d", "search", "seed"])["evaluations"]
    assert ordered.apply(lambda counts: counts.is_monotonic_increasing).all(), "nearer takes no fewer points"


# -- how runs learn


def test_curves_are_the_logs_of_finished_runs(tmp_path):
    assert list(curves(tmp_path).columns) == list(CURVES) and not len(curves(tmp_path))
    for seed, run, done in ((1, "uniform", True), (0, "uniform", True), (0, "dynaopt", False)):
        folder = tmp_path / f"seed{seed}" / run
        folder.mkdir(parents=True)
        logs().query("seed == 0 and run == 'uniform'").drop(columns=["seed", "run"]).assign(clipfrac=0.1).to_csv(
            folder / "log.csv", index=False
        )
        if done:
            (folder / "done.json").write_text("{}")
    table = curves(tmp_path)
    assert list(table.columns) == list(CURVES) and table["seed"].tolist() == [0, 0, 0, 1, 1, 1] and set(table["run"]) == {"uniform"}


def test_the_papers_curves_are_one_run_an_objective_and_the_single_policies():
    table = learning(pd.concat([logs(), logs().assign(run="clp-full")]), NAMES)
    assert list(dict.fromkeys(table["run"])) == ["a", "b", "uniform", "dynaopt"]
    assert not len(learning(pd.DataFrame(), NAMES)), "a study without logs"


def test_bands_span_the_seeds():
    table = learning(logs(seeds=3), NAMES)
    figure = learning_bands(table, window=1)
    line = next(line for line in figure.axes[0].get_lines() if line.get_label() == "uniform")
    assert line.get_ydata() == pytest.approx([0.3, 0.4, 0.5]), "the mean over the seeds"
    assert "uniform from 0.30 to 0.50 (seeds 0.30 to 0.70)" in figure.alt_text and "over 3 seeds" in figure.alt_text
    with pytest.raises(UserError, match="empty"):
        learning_bands(table.iloc[:0])


def test_curves_are_read_whichever_way():
    table = learning(logs(), NAMES)
    said = paper_readings.bands_reading(table, NAMES)
    assert "**a** 0.20 → 0.40 (0.30 to 0.50) at KL 3.0" in said and "ends as high (0.00" in said
    higher = table.assign(reward=table["reward"] + table["run"].isin(NAMES))
    assert "rises higher (+1.00" in paper_readings.bands_reading(higher, NAMES)
    assert "(one seed)" in paper_readings.bands_reading(table[table["seed"] == 0], NAMES)
    assert "not measured here" in paper_readings.bands_reading(pd.DataFrame(), NAMES)


def test_a_table_that_no_study_has_is_empty():
    assert optional_table("no such table").empty and optional_table("rows").shape[0] > 0
    assert cube_table("no such preset").empty and len(cube_table())


def test_a_study_without_later_tables_is_read_as_one_that_measured_nothing_there(tmp_path):
    for name in TABLES:
        shutil.copyfile(table_path(data_root() / "results", name), table_path(tmp_path, name))
    tables = study_tables(tmp_path)
    assert list(tables) == [*TABLES, "matched"] and tables["matched"].empty
    assert results.rivals_table(tmp_path).startswith("| method |")
    assert study_readings.equal_distance_reading(tables["matched"]).endswith("not measured in these tables.")
    table_path(tmp_path, "levels").unlink()
    with pytest.raises(UserError, match=r"methods_levels\.csv: no such table"):
        study_tables(tmp_path)
