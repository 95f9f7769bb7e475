"""The paper's published numbers beside ours: tables and sentences of notebook 08, true whichever way the numbers come out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.plots import paper as paper_plots
from emorl_lite.plots.diagram import framework
from emorl_lite.readings import paper as paper_readings
from emorl_lite.study import paper
from emorl_lite.study.comparison import one_uniform
from emorl_lite.training import converged


def rows(seeds: int = 2, **means: float) -> pd.DataFrame:
    """Rows of a study: each method's mean, a hundredth more for every later seed."""
    fixed = {"data_points": 900, "parallel": 300, "choice": "default", "knob": "none"}
    return pd.DataFrame(
        [{"method": method, "seed": seed, "mean": mean + 0.01 * seed, **fixed} for method, mean in means.items() for seed in range(seeds)]
    )


# -- tables


def test_every_published_number_says_where_it_was_read_and_whether_that_is_sure():
    table = paper.published().set_index("number")
    assert set(table["confirmed"]) == {"yes", "read by eye", "no"}
    assert table.loc["average on PAIR", "confirmed"] == "no" and "unconfirmed" in table.loc["average on PAIR", "read"]
    assert set(table.loc[table["confirmed"] == "no", "read"]) == {"from an unconfirmed summary", "from a description of the paper"}
    assert "17,529" in " ".join(table["value"]) and "0.78125" in " ".join(table["value"])


def test_four_accountings_add_up():
    table = paper.accountings().set_index("accounting")
    searched = paper.SEARCH[0] * paper.SEARCH[1]
    assert (table.loc["longest run + search", ["low", "high"]] - table.loc["longest run", ["low", "high"]] == searched).all()
    assert table.loc["sum of runs", "low"] == paper.LONGEST_RUN[0] + sum(low for low, _ in paper.OTHER_RUNS)
    assert list(table.index[table["fits"]]) == ["longest run + search"]
    exact = paper.accountings(longest=(17_529, 17_529), others=(), search=(0, 0))
    assert exact["fits"].all()


def test_our_rows_are_those_of_the_papers_methods():
    tiny = rows(base=0.1, uniform=0.5, dynaopt=0.4, **{"emorl": 0.2, "emorl-long": 0.6, "exact-average": 0.2, "exact-average-long": 0.55})
    real = rows(**{"base": 0.3, "uniform-short": 0.5, "emorl": 0.5, "rewarded-soups": 0.4})
    own = paper.our_rows(tiny, real)
    assert list(own) == ["smollm2", "tiny", "tiny, a budget a run"]
    assert all(set(found["method"]) <= set(paper.METHODS) for found in own.values()) and "uniform" in set(own["smollm2"]["method"])
    longer = own["tiny, a budget a run"].set_index(["method", "seed"])["mean"]
    assert longer["emorl", 0] == 0.6 and longer["exact-average", 0] == 0.55 and longer["uniform", 0] == 0.5
    assert set(own["smollm2"]["method"]) == {"base", "uniform", "emorl"}, "Rewarded Soups are not the paper's soups"
    counted = paper.counterparts(own).set_index("in the paper")
    assert counted.loc["Model soups", "smollm2"] == "not measured" and counted.loc["Model soups", "tiny"] == "2 seeds"
    assert counted.loc["Model soups", "function"].endswith("ExactAverage") and counted.loc["EMORL", "smollm2"] == "2 seeds"
    averaged = paper.our_rows(tiny, pd.concat([real, rows(**{"exact-average": 0.45})]))
    assert set(averaged["smollm2"]["method"]) == {"base", "uniform", "emorl", "exact-average"}
    both = paper.our_rows(tiny, pd.concat([real, rows(uniform=0.7)]))["smollm2"]
    assert both.loc[both["method"] == "uniform", "mean"].tolist() == pytest.approx([0.7, 0.71]), "a whole budget, where a run had it"


def test_means_and_points_stand_beside_the_papers():
    own = {"here": rows(base=0.2, emorl=0.5), "once": rows(seeds=1, uniform=0.4)}
    means = paper.means_beside(own).set_index("method")
    assert list(means.columns) == ["paper", "here", "once"] and list(means.index) == list(paper.METHODS.values())
    assert means.loc["EMORL", "paper"] == "0.768 ± 0.021" and means.loc["EMORL", "here"].startswith("0.505 ± 0.007")
    assert means.loc["EMORL", "once"] == "not measured" and means.loc["Uniform weighted", "once"] == "0.400"
    points = paper.points_beside(own).set_index("method")
    assert (
        points.loc["EMORL", "here"] == "900 / 300"
        and points.loc["DynaOpt", "here"] == "not measured"
        and "17,529" in points.loc["EMORL", "paper"]
    )
    compared = paper.compared(own)
    assert len(compared) == len(paper.METHODS) + 3 and compared.loc[compared["source"] == "once", "std"].isna().all()


def test_signs_are_compared_where_both_methods_are_there():
    signs = paper.signs({"here": rows(uniform=0.4, emorl=0.5, base=0.2)}).set_index("difference")
    assert len(signs) == 2
    assert signs.loc["Uniform weighted less EMORL", "same sign"] == "no" and signs.loc["EMORL less Base model", "same sign"] == "yes"


def cubes() -> pd.DataFrame:
    """Two searches of two levels."""
    lines = []
    for what, gain in (("hidden", 0.0), ("parameters", 0.1), ("probabilities", -0.1)):
        for seed in (0, 1):
            for level, values in ((1, (0.0, 0.5, 1.0)), (5, (0.25, 0.5))):
                for x in values:
                    line = {"what": what, "seed": seed, "level": level, "w_a": x, "w_b": 0.5, "w_c": 1 - x / 2}
                    lines.append(line | {"mean": 0.5 + gain + x / 10, "note": "", "test": 0.4 + gain + seed / 10})
    return pd.DataFrame(lines)


def test_what_is_mixed_in_the_paper_and_here():
    table = paper.mixtures(cubes()).set_index("mixed")
    assert list(table.index) == list(paper.AGGREGATION) and table["paper, best"].tolist() == ["0.80", "0.71", "0.59"]
    assert table.loc["hidden", "tiny, best on validation"] == pytest.approx(0.6)
    assert table.loc["parameters", "the same weights on test"] == "0.550 ± 0.071"
    assert paper.mixtures(cubes().query("seed == 0")).set_index("mixed").loc["hidden", "the same weights on test"] == "0.400"


def test_samples_side_by_side_keep_the_order_of_clients():
    samples = pd.DataFrame([{"method": m, "prompt": p, "reply": f"{m} {p}"} for p in ("z", "a") for m in ("base", "emorl", "other")])
    wide = paper.wide_samples(samples, ["emorl", "base"])
    assert list(wide.columns) == ["client", "emorl", "base"] and list(wide["client"]) == ["z", "a"] and wide.loc[0, "base"] == "base z"
    long = paper.long_samples(samples, ["emorl", "base"])
    assert list(long["client"]) == ["z", "", "a", ""] and list(long["method"]) == ["emorl", "base"] * 2
    assert list(long["reply"]) == ["emorl z", "base z", "emorl a", "base a"]


# -- sentences


def test_how_sure_the_published_numbers_are():
    said = paper_readings.provenance_reading(paper.published())
    assert "an unconfirmed summary, machine-written" in said and "labelled" in said
    sure = paper_readings.provenance_reading(paper.published().query("confirmed == 'yes'"))
    assert "0 read by eye" in sure


def test_which_accounting_fits():
    assert "*longest run + search* alone" in paper_readings.accounting_reading(paper.accountings())
    none = paper_readings.accounting_reading(paper.accountings(longest=(1, 2), others=(), search=(1, 1)))
    assert "none of the four" in none
    both = paper_readings.accounting_reading(paper.accountings(longest=(17_000, 18_000), others=(), search=(0, 0)))
    assert " and " in both and "alone" not in both


def advantages(scores: list[float]) -> str:
    entered = np.log(np.clip(scores, 1e-4, 0.9999))
    return paper_readings.advantages_reading(scores, list(entered), list(entered - entered.mean()))


def test_what_the_logarithm_does():
    assert "the winner weighs more" in advantages([0.001, 0.001, 0.5])
    assert "the loser weighs more" in advantages([0.001, 0.5, 0.5])
    assert "both weigh alike" in advantages([0.1, 0.4])
    assert "nothing is learned" in advantages([0.4, 0.4, 0.4])


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["yes", "no"], "would stop a and would let b go on"),
        (["yes", "yes"], "would stop a and b."),
        (["no", "no"], "would let a and b go on."),
    ],
)
def test_what_the_stopping_rule_says(verdicts, said):
    table = pd.DataFrame({"objective": ["a", "b"], "spread": 0.01, "stops": verdicts})
    assert said in (told := paper_readings.stopping_reading(table, 4, 0.015))
    assert "less than 1.34 % of its mean" in told and "takes 20: less than 0.26 %" in told


@pytest.mark.parametrize("rise", [0.99, 1.01])
def test_the_slowest_rise_that_the_rule_sees(rise):
    steps = 1 + rise * paper_readings._level(20, 0.015) / 100 * (np.arange(20) - 9.5)
    assert converged(list(steps), 20, 0.015) == (rise < 1)


def test_the_papers_own_model_is_read_where_it_was_made():
    assert "No table of `t5`" in paper_readings.own_model_reading({})
    assert "base 0.205, emorl 0.505" in paper_readings.own_model_reading({"rows": rows(base=0.2, emorl=0.5)})


def test_replies_to_one_client():
    replies = pd.DataFrame({"method": ["base", "emorl"], "x": [0.2, 0.6], "y": [0.5, 0.3]})
    said = paper_readings.task_reading(replies, ["x", "y"])
    assert "replies: emorl 0.45, base 0.35. Highest by objective: x emorl (0.60), y base (0.50)." in said


def test_counts_of_runs_that_never_stopped_are_named():
    names = [("uniform", 100), ("emorl (longest run)", 50), ("emorl (sum of runs)", 150)]
    spent = pd.DataFrame([{"method": m, "seed": s, "data_points": v + s} for m, v in names for s in (0, 1, 2)])
    assert "never stopped" not in paper_readings.consumption_reading(spent) + paper_readings.consumption_reading(
        spent.assign(censored=False)
    )
    cut = paper_readings.consumption_reading(spent.assign(censored=spent["data_points"] > 101))
    assert "its whole budget is counted: uniform 1 of 3 and emorl (sum of runs) 3 of 3." in cut


def test_coherence_is_read_where_it_was_measured():
    line = {"set": "pair", "method": "emorl", "mean": 0.5, "reflection": 0.5, "diversity_2": 0.8, "words": 10.0}
    assert "Coherence" not in paper_readings.transfer_reading(pd.DataFrame([line]), ["emorl"])
    said = paper_readings.transfer_reading(pd.DataFrame([line | {"coherence": 0.75}]), ["emorl"])
    assert "**Coherence** on PAIR: emorl 0.75 (guessing: 0.50). **Average" in said


def test_how_the_budget_decides():
    low, high = rows(seeds=3, uniform=0.5, emorl=0.3), rows(seeds=3, uniform=0.5, emorl=0.6)
    said = paper_readings.shared_budget_reading(low, high)
    assert "shared among its runs −0.200 [−0.200, −0.200], below it" in said and "for each +0.100 [+0.100, +0.100], above it" in said
    assert "So the budget turns their order round." in said
    assert "not clearly turned round" in paper_readings.shared_budget_reading(high, high)
    assert "no clear difference" in paper_readings.shared_budget_reading(rows(seeds=3, uniform=0.5, emorl=0.5), high)


# -- figures


def test_a_cube_is_cut_into_slices_with_every_score():
    figure = paper_plots.cubes(cubes().query("seed == 0"), ["a", "b", "c"], "hidden")
    numbers = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"0.50", "0.55", "0.60"} <= set(numbers) and "no text" in numbers, "a point that is not there says so"
    assert "the best at a 1.00, b 0.50, c 0.50" in figure.alt_text
    frames = [patch for axes in figure.axes for patch in axes.patches if patch.get_edgecolor()[:3] == paper_plots.BEST]
    assert len(frames) == 2, "one a level"
    with pytest.raises(UserError, match="three objectives"):
        paper_plots.cubes(cubes(), ["a", "b"], "hidden")


def test_counts_are_short_and_figures_fit_the_column():
    shown = {text.get_text() for axes in paper_plots.cost_surfaces().axes for text in axes.texts}
    assert {"135", "35,937", "1.2 M", "75 bn"} <= shown
    assert "4,374 against 75,418,890,625" in paper_plots.cost_surfaces().alt_text
    replies = pd.DataFrame([{"method": "base", "reply": "You are tired of it.", "a": 0.1}])
    compared = paper.compared({"tiny": rows(base=0.1)})
    figures = [paper_plots.cost_surfaces(), paper_plots.task_example("I am tired.", replies, ["a"]), paper_plots.paper_and_ours(compared)]
    assert all(figure.get_figwidth() == paper_plots.WIDTH and figure.alt_text for figure in figures)
    assert "2 adapters on one base (a, b)" in framework(["a", "b"]).alt_text


def test_one_uniform_policy_stands_for_both():
    whole, short = rows(uniform=0.6), rows(**{"uniform-short": 0.5})
    other = rows(emorl=0.4)
    assert set(one_uniform(pd.concat([whole, short, other]))["method"]) == {"uniform", "emorl"}
    one = whole[whole["seed"] == whole["seed"].min()]
    assert set(one_uniform(pd.concat([one, short, other]))["method"]) == {"uniform-short", "emorl"}, "of fewer seeds"
    assert set(one_uniform(pd.concat([short, other]))["method"]) == {"uniform-short", "emorl"}
