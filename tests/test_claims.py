"""Claims that survive: both ways of decoding, equal distance, many comparisons, seeds in heaps, fronts that no test client chose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_study import NAMES, made_up

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.readings import study as study_readings
from emorl_lite.search.pareto import hypervolume
from emorl_lite.search.statistics import EQUAL, FEW, ONE_HEAP, TWO_HEAPS, interval, median_interval, shape_of, sign_p
from emorl_lite.study.claims import CLAIMS, claim_p, examined, holm, interval_of, of_steering, verdict
from emorl_lite.study.comparison import beside_every_setting, by_seed, dominated_share, front_metrics, on_front, search_replies
from emorl_lite.study.evidence import Evidence, Found
from emorl_lite.study.measuring import KL_TARGETS

SOUPS = "averaged parameters are worse than EMORL"
HEAPS = np.array([0.1, 0.11, 0.12, 0.13, 0.9])


# -- intervals


@pytest.mark.parametrize(("n", "ends"), [(2, (0, 1)), (5, (0, 4)), (6, (0, 5)), (9, (1, 7)), (30, (9, 20))])
def test_the_medians_interval_has_the_binomial_coverage(n, ends):
    values = np.arange(n, dtype=float)
    median, low, high, coverage = median_interval(np.random.default_rng(0).permutation(values))
    assert (median, (low, high)) == (np.median(values), ends)
    assert coverage == pytest.approx(1 - 2 * stats.binom.cdf(ends[0], n, 0.5))
    assert coverage >= 0.95 or ends[0] == 0
    assert n != 5 or coverage == 0.9375


def test_the_medians_interval_covers_whatever_the_distribution():
    """Two heaps, one with a third of the values: Student's interval for the median would not do."""
    random = np.random.default_rng(0)
    draws = np.where(random.random((4000, 5)) < 1 / 3, 0.0, 1.0) + random.uniform(0, 0.1, (4000, 5))
    true = float(np.median(np.where(random.random(200_000) < 1 / 3, 0.0, 1.0) + random.uniform(0, 0.1, 200_000)))
    held = np.mean([low <= true <= high for _, low, high, _ in map(median_interval, draws)])
    assert held == pytest.approx(0.9375, abs=0.015)
    with pytest.raises(UserError, match="at least 2 values"):
        median_interval(np.array([1.0]))


def test_signs_alone_agree_with_the_medians_interval():
    """Over all patterns of signs: p is at most 1 - coverage exactly where the interval leaves the threshold out."""
    for n in (2, 5, 7):
        for signs in product((-1, 1), repeat=n):
            values = np.array(signs) * np.arange(1, n + 1)
            _, low, high, coverage = median_interval(values)
            assert (low > 0 or high < 0) == (sign_p(values) <= 1 - coverage + 1e-12)
    assert sign_p(np.ones(5)) == 0.0625 and sign_p(np.ones(5), 1.0) == 1 and sign_p(np.array([0, 1, 1, 1, 1])) == pytest.approx(0.375)


def test_the_shape_of_seeds():
    assert shape_of(HEAPS) == TWO_HEAPS == shape_of(-HEAPS) == shape_of(HEAPS * 1e-3 + 7)
    assert shape_of(np.array([0.0, 0.1, 0.2, 0.9, 1.0, 1.1])) == TWO_HEAPS
    assert shape_of(np.arange(5.0)) == ONE_HEAP and shape_of(np.full(5, 0.3)) == EQUAL and shape_of(np.array([0.0, 1.0, 9.0])) == FEW
    gap = np.array([0.0, 1.0, 2.0, 3.0, 9.0])  # twice as wide as the heap
    assert shape_of(gap) == ONE_HEAP and shape_of(np.array([0, 1, 2, 3, 9.1]), apart=2.0) == TWO_HEAPS
    random = np.random.default_rng(0)
    assert np.mean([shape_of(x) == TWO_HEAPS for x in random.normal(size=(3000, 5))]) == pytest.approx(0.07, abs=0.02)


# -- p values


def test_p_values_invert_their_intervals():
    """A threshold on an end of the interval has p = 1 - its level, of every kind."""
    random = np.random.default_rng(1)
    for values in random.normal(1, 1, (20, 6)):
        found = Found(values)
        _, low, high = interval(values)
        if found.shape == ONE_HEAP:
            assert [claim_p(found, end) for end in (low, high)] == pytest.approx([0.05, 0.05])
            assert claim_p(found, 0.3) == pytest.approx(float(stats.ttest_1samp(values, 0.3).pvalue))
    ratio = Found(np.arange(5.0), np.arange(6.0) * 0.3)  # samples of unlike size
    ends = ratio.estimate()
    assert [claim_p(ratio, ends[end]) for end in ("low", "high")] == pytest.approx([0.05, 0.05])
    assert claim_p(ratio, 1.0) == pytest.approx(claim_p(Found(np.arange(6.0) * 0.3, np.arange(5.0)), 1.0))  # either way round


def test_p_values_where_students_test_says_nothing():
    assert claim_p(Found(HEAPS)) == 0.0625 and claim_p(Found(HEAPS), 0.5) == sign_p(HEAPS, 0.5) == pytest.approx(0.375)
    assert claim_p(Found(np.full(5, 0.2))) == 0.0625 and claim_p(Found(np.full(5, 0.2)), 0.2) == 1
    assert np.isnan(claim_p(Found(np.array([2.0]), exact=True)))
    for ratio in (Found(HEAPS, np.arange(5.0)), Found(np.arange(5.0), HEAPS)):
        assert np.isnan(claim_p(ratio, 1.0)) and np.isnan(ratio.exact_interval()["exact_low"]) and ratio.shape == TWO_HEAPS


def test_a_verdict_rests_on_the_interval_that_the_shape_asks_for():
    row = {"mean": 0.3, "low": -0.1, "high": 0.7, "exact_low": 0.1, "exact_high": 0.9}
    assert verdict(interval_of(row | {"shape": ONE_HEAP})) == "open" and verdict(interval_of(row | {"shape": TWO_HEAPS})) == "holds"
    nothing = row | {"shape": TWO_HEAPS, "exact_low": np.nan, "exact_high": np.nan}  # a ratio
    assert verdict(interval_of(nothing), 1.0) == "open"


def test_heaps_in_words():
    assert "two heaps. The mean is 0.272 [" in (said := study_readings.heaps_reading(HEAPS, "a")) and "at 93.75 %" in said
    assert "beside it: one heap." in study_readings.heaps_reading(np.arange(5.0), "a")
    assert "So few cannot tell" in study_readings.heaps_reading([0.1, 0.2], "a") and "all equal" in study_readings.heaps_reading(
        [1] * 5, "a"
    )


# -- claims


def with_scores(tables: dict[str, pd.DataFrame], method: str, **columns: object) -> None:
    """Set columns of a method's rows, by seed."""
    rows = tables["rows"]
    for column, values in columns.items():
        rows.loc[rows["method"] == method, column] = rows.loc[rows["method"] == method, "seed"].map(dict(enumerate(values)))  # type: ignore[arg-type]


def known(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return examined(tables).set_index(["claim", "measure"])


def test_a_claim_that_holds_greedily_and_not_sampled():
    tables = made_up(5)
    with_scores(tables, "emorl-long", mean=[0.6, 0.61, 0.62, 0.63, 0.64], sampled_mean=[0.3, 0.4, 0.35, 0.3, 0.4])
    with_scores(tables, "exact-average-long", mean=[0.2, 0.211, 0.219, 0.23, 0.241], sampled_mean=[0.4, 0.3, 0.35, 0.41, 0.31])
    table = known(tables)
    greedy, sampled = (table.loc[(SOUPS, f"mean score, long runs, {decoding}")] for decoding in ("greedy", "sampled"))
    assert (greedy["holm"], sampled["holm"]) == ("holds", "open") and greedy["mean"] == pytest.approx(0.4, abs=0.001)
    said = study_readings.claims_reading(examined(tables))
    assert f"{SOUPS} (mean score, long runs, greedy)" in said and "1 is decided: none in both ways alike, 1 in one alone." in said
    assert {claim.decoding for claim in CLAIMS if "mean score" in claim.what} >= {"greedy", "sampled"}


def test_each_papers_own_way_to_choose_is_asked_where_the_claim_is_about_it():
    """EMORL by its published search against uniform weighting, by the common grid against the soups."""
    tables = made_up(5)
    rows = tables["rows"]
    own = rows[(rows["method"] == "emorl-long") & (rows["choice"] == "grid")].assign(choice="published search")
    tables["rows"] = pd.concat([rows, own.assign(mean=own["mean"] - 0.2, sampled_mean=own["sampled_mean"] - 0.3)], ignore_index=True)
    before, after = (known(t)["mean"] for t in ({**tables, "rows": rows}, tables))
    for decoding, less in (("greedy", 0.2), ("sampled", 0.3)):
        searched = ("uniform scores higher than EMORL", f"mean score, equal longest runs, {decoding}")
        assert after[searched] - before[searched] == pytest.approx(less)
        gridded = (SOUPS, f"mean score, long runs, {decoding}")
        assert after[gridded] == pytest.approx(before[gridded])


def test_holms_verdicts_are_those_of_the_step_down_procedure_over_every_interval():
    table = examined(made_up(5))
    family = table[table["n"] > 0]
    assert len(family) == (table["verdict"] != "not measured").sum() - 1  # calls a token are counted
    rejected = np.array(holm(family["p"].fillna(1).tolist()))
    decided = family["verdict"].isin(["holds", "refuted"]).to_numpy()
    assert family["holm"].tolist() == np.where(decided & ~rejected, "open", family["verdict"]).tolist()
    assert decided[rejected].all()  # what is rejected among all is outside its own interval
    alone = table[table["n"] == 0]
    assert (alone["holm"] == alone["verdict"]).all() and of_steering(table).any() and not of_steering(table).all()


def test_seeds_in_two_heaps_have_an_exact_interval_that_many_comparisons_cannot_bear():
    tables = made_up(5)
    with_scores(tables, "emorl-long", mean=0.1 + HEAPS)
    with_scores(tables, "exact-average-long", mean=np.full(5, 0.1))
    row = known(tables).loc[(SOUPS, "mean score, long runs, greedy")]
    assert row["shape"] == TWO_HEAPS and row["verdict"] == "holds" and row["holm"] == "open"
    assert (row["exact_low"], row["exact_high"], row["coverage"], row["p"]) == pytest.approx((0.1, 0.9, 0.9375, 0.0625))
    assert row["low"] < 0  # Student's interval, beside
    spread = known(tables).loc[("EMORL's score varies less than uniform's", "ratio of standard deviations, equal longest runs, greedy")]
    assert spread["verdict"] == "open" and np.isnan(spread["p"]) and spread["n"] == 5


def matched(values: dict[str, list[float]], target: float = KL_TARGETS[0]) -> pd.DataFrame:
    """A table of scores at equal KL; nan: not reached."""
    rows = [
        {"method": name, "choice": "default", "seed": seed, "target": target, "reached": np.isfinite(value), "sampled_mean": value}
        for name, scores in values.items()
        for seed, value in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def test_scores_at_equal_distance_are_paired_where_both_got_so_far():
    tables = made_up(5)
    assert (known(tables).xs("mean score, sampled at KL 0.5", level=1)["verdict"] == "not measured").all()
    tables["matched"] = matched({"dynaopt": [0.5, 0.6, 0.7, np.nan, 0.6], "uniform": [np.nan, 0.5, 0.61, 0.5, 0.49]})
    at = known(tables).loc[("DynaOpt beats uniform", "mean score, sampled at KL 0.5")]
    assert at["n"] == 3 and at["mean"] == pytest.approx(0.1) and at["verdict"] == "holds"
    assert known(tables).loc[("DynaOpt beats uniform", "mean score, sampled at KL 1"), "verdict"] == "not measured"
    tables["matched"] = matched({"dynaopt": [0.5, 0.6, np.nan, np.nan, np.nan], "uniform": [0.4] * 5})
    assert known(tables).loc[("DynaOpt beats uniform", "mean score, sampled at KL 0.5"), "verdict"] == "not measured"
    assert "not measured in these tables" in study_readings.matched_reading(examined(tables))


def test_who_leads_at_equal_distance():
    table = matched({"a": [0.5, 0.6, 0.7], "b": [0.2, 0.31, 0.4], "c": [0.9, np.nan, 0.9]}).assign(mean=0.5)
    said = study_readings.equal_distance_reading(table)
    assert "at KL 0.5, from the top: a (0.600) and b (0.303)." in said and "Not so far from the base in every seed: c." in said
    beside = study_readings.equal_distance(table).set_index("method")
    assert beside.loc["c"].tolist() == [0.9, 0.5, 2] and beside.index.tolist() == ["c", "a", "b"]
    assert "not measured" in study_readings.equal_distance_reading(None) and study_readings.equal_distance(table.iloc[:0]).empty


def test_what_is_not_in_the_tables_is_not_measured_and_not_in_the_family():
    whole, tables = made_up(5), made_up(5)
    for name in ("rows", "sweep", "front"):
        tables[name] = tables[name][~tables[name]["method"].str.endswith("-long")]
    table = examined(tables)
    missing = table[table["verdict"] == "not measured"]
    assert {SOUPS, "CLP beats soups with d times the data"} <= set(missing["claim"])
    assert missing[["mean", "p"]].isna().all(axis=None) and (missing["n"] == 0).all()
    assert (table["n"] > 0).sum() < (examined(whole)["n"] > 0).sum()
    lacking: list[dict[str, pd.DataFrame]] = [{k: t for k, t in whole.items() if k != name} for name in whole]
    lacking += [{**whole, name: pd.DataFrame()} for name in whole]
    lacking += [{**whole, "rows": whole["rows"].drop(columns=column)} for column in ("sampled_mean", "calls_per_token")]
    for lesser in lacking:  # whatever is not there, the others are measured
        verdicts = examined(lesser)["verdict"]
        assert len(verdicts) == len(CLAIMS) and (verdicts != "not measured").any()
    with pytest.raises(UserError, match="no rows for method 'gone'"):
        by_seed(whole["rows"].query("choice == 'default'"), "uniform", "gone")


def test_the_search_is_counted_from_the_rows_if_they_tell_it():
    rows = pd.DataFrame({"method": ["emorl-long", "emorl-long"], "choice": ["grid", "published search"], "searched": [5, 77]})
    assert search_replies(rows, 3) == 77 and search_replies(rows.drop(columns="searched"), 3) == 135 * 32
    assert search_replies(rows.drop(columns="searched"), 2) == 45 * 32
    paper = get_preset("tiny-paper")
    listed = paper.search.levels * paper.search.points_per_axis**3 * paper.search.validation_prompts
    assert search_replies(rows.drop(columns="searched"), 3, paper) == listed and Evidence({}, paper).preset is paper
    spent = Evidence(made_up(3)).spent.set_index(["method", "seed"])["data_points"]
    assert spent["emorl (longest run + search)", 1] - spent["emorl (longest run)", 1] == 135 * 32


# -- fronts


def settings() -> pd.DataFrame:
    """Validation prefers the first setting, test prompts the second; a rival lies between."""
    lines = [("a", 0.9, 0.9, 0.3, 0.3), ("a", 0.5, 0.5, 0.8, 0.8), ("b", 0.6, 0.6, 0.5, 0.5)]
    columns = ["method", "validation_x", "validation_y", "x", "y"]
    return pd.DataFrame(lines, columns=columns).assign(seed=0, w_x=0.5, w_y=0.5, knob="subset")


def test_a_front_is_chosen_on_validation_and_scored_on_test():
    sweep = settings()
    metrics = front_metrics(sweep).set_index("method")
    assert metrics.loc["a", "hypervolume"] == pytest.approx(0.09) and metrics.loc["a", "points"] == 1  # on test it could have had .64
    assert metrics.loc["a", "utility"] == pytest.approx(0.3)
    assert dominated_share(sweep, "b", "a")["share"].tolist() == [1.0] and dominated_share(sweep, "a", "b")["share"].tolist() == [0.0]
    assert metrics.loc["b", "igd_plus"] == 0 < metrics.loc["a", "igd_plus"]  # what was not chosen is on nobody's front
    for lacking in (sweep.drop(columns="validation_x"), sweep.assign(validation_x=np.nan)):  # test scores are all there is
        assert on_front(lacking, ["x", "y"])["x"].tolist() == [0.8]
    assert on_front(sweep.iloc[:0], ["x", "y"]).empty


def test_all_settings_stand_beside_the_grid_and_not_among_the_methods():
    tables = made_up()
    beside = beside_every_setting(tables["sweep"], tables["front"]).set_index(["method", "seed"])
    assert (beside["chosen_on"] == "test").all()  # tables made before
    assert beside.loc[("emorl", 1), "hypervolume"] == pytest.approx(0.125) and set(beside.reset_index()["method"]) == {
        "emorl",
        "emorl-long",
    }
    own = on_front(tables["sweep"].query("method == 'emorl' and seed == 1"), NAMES)[NAMES].to_numpy()
    assert beside.loc[("emorl", 1), "grid_hypervolume"] == pytest.approx(hypervolume(own, [0, 0, 0]))
    validated = tables["front"].assign(**{f"validation_{name}": 0.5 for name in NAMES})
    assert (beside_every_setting(tables["sweep"], validated)["chosen_on"] == "validation").all()
    assert beside_every_setting(tables["sweep"], tables["front"].iloc[:0]).empty
