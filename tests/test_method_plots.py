"""Figures that compare methods say what they draw: no line joins what has no order, nothing hides at an edge, every mark has a name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_study import NAMES, made_up

from emorl_lite.plots import methods as plots
from emorl_lite.plots.training import consumption_scatter
from emorl_lite.study.claims import examined
from emorl_lite.study.comparison import on_front, representative


@pytest.fixture(scope="module")
def tables():
    return made_up()


def legend_of(figure) -> set[str]:
    return {
        text.get_text() for legend in [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())] for text in legend.texts
    }


def test_levels_are_not_joined(tables):
    figure = plots.aggregation_levels(tables["levels"])
    for axes in figure.axes:
        assert all(len(set(line.get_ydata())) == 1 for line in axes.lines), "a line goes from one level to another"
    assert {"mean", "one seed", "95 % interval over seeds"} <= legend_of(figure)


def test_calls_have_a_panel_each(tables):
    rows = representative(tables["rows"])
    figure = plots.decoding_cost(rows)
    assert len(figure.axes) == rows["calls_per_token"].nunique()
    listed = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    assert sorted(listed) == sorted(rows["method"].unique())
    for axes, (_, group) in zip(figure.axes, rows.groupby("calls_per_token"), strict=True):
        assert {text.get_text() for text in axes.get_yticklabels()} == set(group["method"])


def test_what_lies_further_out_is_an_arrow_inside_the_axes():
    claims = pd.DataFrame({"claim": ["a", "b", "c"], "measure": "m", "nothing": 0.0, "mean": [0.1, 5.0, -5.0]})
    claims = claims.assign(low=claims["mean"] - 0.5, high=claims["mean"] + 0.5, verdict=["open", "holds", "refuted"])
    (axes,) = plots.claims_figure(claims).axes
    left, right = axes.get_xlim()
    places = [float(x) for marks in axes.collections for x, _ in np.asarray(marks.get_offsets()) if np.isfinite(x)]
    assert sorted(places) == pytest.approx([-plots.REACH, 0.2, plots.REACH]) and left < -plots.REACH and right > plots.REACH
    assert any("+5.000 [+4.500, +5.500]" in text.get_text() for text in axes.texts)


def test_a_number_without_an_interval_and_a_threshold_are_written(tables):
    (axes,) = plots.claims_figure(examined(tables)).axes
    written = [text.get_text() for text in axes.texts]
    assert "2.00" in written and any(text.get_text().endswith("ratio of calls a token, against 1") for text in axes.get_yticklabels())
    assert not any("nan" in text for text in written)


def test_two_decodings_are_two_marks_in_one_row_and_correction_hollows_them():
    row = {"source": "a paper", "claim": "a", "nothing": 0.0, "shape": "one heap", "exact_low": 0.0, "exact_high": 1.0}
    claims = pd.DataFrame(
        [
            row | {"measure": "m, greedy", "decoding": "greedy", "mean": 1.0, "low": 0.5, "high": 1.5, "verdict": "holds", "holm": "open"},
            row
            | {"measure": "m, sampled", "decoding": "sampled", "mean": 0.1, "low": -0.5, "high": 0.7, "verdict": "open", "holm": "open"},
        ]
    )
    figure = plots.claims_figure(claims)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a\nm"] and "a paper:" in [text.get_text() for text in axes.texts]
    faces = [tuple(marks.get_facecolor()[0][:3]) for marks in axes.collections]
    assert faces == [(1.0, 1.0, 1.0), plots.VERDICTS["open"].color]
    assert {"greedy", "sampled", "open after Holm's correction"} <= legend_of(figure) and "two heaps" not in "".join(legend_of(figure))
    assert "+1.000 [+0.500, +1.500], hollow" in figure.alt_text
    (axes,) = plots.claims_figure(claims.assign(shape="two heaps")).axes
    assert "+1.000 [0.000, +1.000]" in [text.get_text() for text in axes.texts]
    (axes,) = plots.claims_figure(claims.assign(shape="two heaps", exact_low=np.nan, exact_high=np.nan)).axes
    assert not axes.collections and "+1.000, no interval" in [text.get_text() for text in axes.texts]


def test_a_mean_over_two_heaps_of_seeds_has_a_dashed_bar():
    seeds = pd.DataFrame({"method": ["a"] * 5 + ["b"] * 5, "seed": [*range(5)] * 2, "mean": [0.1, 0.11, 0.12, 0.13, 0.9, 1, 2, 3, 4, 5]})
    figure = plots.forest(seeds, "mean", "score")
    assert {"two heaps: 93.75 % for the median"} <= legend_of(figure)
    assert [line.get_linestyle() for line in figure.axes[0].lines] == ["--", "-"]
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([0.1, 0.9])


def test_fronts_are_steps_that_only_go_down(tables):
    figure = plots.fronts(tables["sweep"], ["clp-full", "uniform"], tables["front"])
    sweep = tables["sweep"].query("method == 'clp-full' and seed == 0")
    pale = [marks for marks in figure.axes[0].collections if marks.get_alpha() == 0.2]
    assert len(pale[0].get_offsets()) == len(sweep) - len(on_front(sweep, NAMES)) > 0
    drawn = [line for axes in figure.axes for line in axes.lines]
    assert drawn and all(line.get_drawstyle() == "steps-pre" for line in drawn)
    assert all((np.diff(line.get_xdata()) >= 0).all() and (np.diff(line.get_ydata()) <= 0).all() for line in drawn)
    assert {"clp-full", "uniform", "emorl, every setting's front", "reached by the front"} <= legend_of(figure)
    assert len([axes for axes in figure.axes if axes.axison]) == len(NAMES)


def test_every_mark_of_the_data_points_has_a_name():
    spent = pd.DataFrame({"method": ["a", "a", "b", "b"], "seed": [0, 1] * 2, "data_points": [1, 2, 3, 4], "mean": [0.1, 0.2, 0.3, 0.3]})
    figure = consumption_scatter(spent)
    assert {"a", "b", "one seed", "mean over seeds", "± one standard deviation"} == legend_of(figure)
    assert "a at 2 data points and 0.15" in figure.alt_text


def test_figures_fit_a_page_of_seven_hundred_dots(tables):
    """At 110 dots an inch a figure of 7.3 inches loses an eighth there: its letters stay above 10 dots."""
    rows = representative(tables["rows"])
    figures = [
        plots.forest(rows, "mean", "score"),
        plots.fronts(tables["sweep"], ["clp-full"]),
        plots.decoding_cost(rows),
        plots.aggregation_levels(tables["levels"]),
        plots.weight_sweep(tables["sweep"], ["clp-full"]),
        plots.kl_trade_off(tables["sweep"], rows, ["uniform"]),
        plots.claims_figure(examined(tables)),
    ]
    assert all(figure.get_figwidth() <= 7.3 and figure.alt_text for figure in figures)
