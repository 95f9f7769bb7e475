"""Figures that compare methods say what they draw: no line joins what has no order, nothing hides at an edge, every mark has a name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_study import NAMES, made_up

from emorl_lite.plots import methods as plots
from emorl_lite.plots.training import consumption_scatter
from emorl_lite.study.claims import examined
from emorl_lite.study.comparison import representative


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
    assert any(text.endswith("against 1") for text in written) and "2.00\nagainst 1" in written
    assert not any("nan" in text for text in written)


def test_fronts_are_steps_that_only_go_down(tables):
    figure = plots.fronts(tables["sweep"], ["clp-full", "uniform"], tables["front"])
    drawn = [line for axes in figure.axes for line in axes.lines]
    assert drawn and all(line.get_drawstyle() == "steps-pre" for line in drawn)
    assert all((np.diff(line.get_xdata()) >= 0).all() and (np.diff(line.get_ydata()) <= 0).all() for line in drawn)
    assert {"clp-full", "uniform", "emorl, exact map", "front of the two objectives"} <= legend_of(figure)
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
