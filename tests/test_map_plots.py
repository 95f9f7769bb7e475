"""Figures of maps draw what the map holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from test_scored_map import NAMES, made, model, score, tree
from tiny import PROMPTS

from emorl_lite import plots
from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.corners import Source, line
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.scored_map import scored_map
from emorl_lite.plots.search import reached
from emorl_lite.plots.style import figure_bytes
from emorl_lite.readings import maps as readings
from emorl_lite.search.evaluation import TreeEvaluation
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.tutorial.notebook import committed


def polygons(axes) -> PolyCollection:
    [found] = [c for c in axes.collections if isinstance(c, PolyCollection)]
    return found


def area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_prompt_map_draws_every_region():
    scored = made(3)
    figure = plots.prompt_map(scored, 1, replies=3)
    drawn = polygons(figure.axes[0])
    assert len(drawn.get_paths()) == len(scored.map.of(1))
    whole = sum(area(path.vertices[:-1]) for path in drawn.get_paths())
    assert whole == pytest.approx(np.sqrt(3) / 4, rel=1e-6)  # the whole triangle
    assert sorted(drawn.get_array()) == pytest.approx(sorted(scored.mean[scored.map.indices[1]]))
    text = " ".join(t.get_text() for t in figure.axes[1].texts)
    assert scored.regions(1)["reply"][0].split()[0] in text and "other regions" in text
    assert {"1", "2", "3"} <= {t.get_text() for t in figure.axes[0].texts}


def test_mean_map_stars_the_optimum():
    scored, cells = made(3), overlay(made(3))
    table = hierarchical_grid_search(TreeEvaluation(tree(3), score), NAMES[:3], progress=False).table
    best = best_weights(scored).weights
    figure = plots.mean_map(cells, table, best)
    axes = figure.axes[0]
    assert len(polygons(axes).get_paths()) == len(cells.weights)
    points, cross, star = axes.collections[1:4]
    assert len(points.get_offsets()) == (table[["w_a0", "w_a1", "w_a2"]].sum(axis=1) > 0).sum() and len(cross.get_offsets()) == 1
    assert np.asarray(star.get_offsets()[0]) == pytest.approx([best[1] + best[2] / 2, best[2] * np.sqrt(3) / 2])
    alone = plots.mean_map(cells)
    w = cells.weights[cells.best()]
    assert np.asarray(alone.axes[0].collections[1].get_offsets()[0]) == pytest.approx([w[1] + w[2] / 2, w[2] * np.sqrt(3) / 2])


def test_two_objective_bars_fill_the_line():
    scored = made(2)
    top, bottom = plots.two_objective_map(scored).axes[:2]
    bars = [p for p in top.patches if isinstance(p, Rectangle)]
    assert len(bars) == len(scored.map.regions) and sum(bar.get_width() for bar in bars) == pytest.approx(4)
    steps = bottom.patches[0].get_data()
    t = (steps.edges[:-1] + steps.edges[1:]) / 2
    assert steps.values == pytest.approx(scored.means(np.stack([1 - t, t], 1)).mean(1))


def test_achievable_scores_show_all_and_the_front():
    cells = overlay(made(3))
    figure = plots.achievable_scores(cells)
    assert len(figure.axes) == 3
    everything, front, star = figure.axes[1].collections
    assert len(everything.get_offsets()) == len(cells.scores) and len(front.get_offsets()) == cells.pareto.sum()
    assert np.asarray(star.get_offsets()[0]) == pytest.approx(cells.scores[cells.best()][[0, 2]])


def test_regret_curves_are_means_over_runs():
    rows = [
        ("random", "0.0", 1, 0.2),
        ("random", "0.0", 2, 0.1),
        ("random", "0.1", 1, 0.4),
        ("random", "0.1", 2, 0.1),
        ("grid", "0.0", 1, 0.3),
    ]
    table = pd.DataFrame(rows, columns=["search", "run", "evaluation", "regret"])
    axes = plots.regret_curves(table).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines["random (n = 2)"] == pytest.approx([0.3, 0.1]) and lines["grid (n = 1)"] == pytest.approx([0.3])
    assert axes.get_yscale() == "log"


def test_promise_and_test_are_means_over_adapters():
    rows = [("exact map", a, n, 0.7 + 0.1 * a, 0.5 + 0.1 * a + n / 100) for a in (0, 1) for n in (8, 16)]
    figure = plots.promise_and_test(pd.DataFrame(rows, columns=["search", "adapters", "clients", "promised", "test"]))
    promised, test = figure.axes[0].lines
    assert promised.get_ydata() == pytest.approx([0.75, 0.75]) and test.get_ydata() == pytest.approx([0.63, 0.71])
    assert promised.get_linestyle() == "--" and list(test.get_xdata()) == [8, 16]


def test_costs_by_panel():
    rows = [("d", v, s, "evaluations", c) for s in ("hierarchical", "formula: full grid") for v, c in ((2, 10.0), (3, 30.0))]
    rows += [("d", 2, "hierarchical", "seconds", 1.0)]
    figure = plots.search_costs(pd.DataFrame(rows, columns=["varied", "value", "search", "unit", "cost"]))
    first, second = figure.axes
    assert [line.get_label() for line in first.lines] == ["hierarchical", "formula: full grid"] and len(second.lines) == 1
    assert first.lines[1].get_marker() in ("None", "", None) and first.lines[0].get_ydata() == pytest.approx([10, 30])


def test_lower_bounds_of_costs_are_told():
    rows = [("d", v, "random, to within 1% of the optimum", "evaluations", c, c > 79) for v, c in ((2, 10.0), (3, 80.0))]
    table = pd.DataFrame(rows, columns=["varied", "value", "search", "unit", "cost", "at_least"])
    figure = plots.search_costs(table)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [[80.0]]
    assert "more than this" in " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert "10 to over 80" in figure.alt_text and "arrow" in figure.alt_text
    assert "arrow" not in plots.search_costs_alt(table.drop(columns="at_least"))


def test_the_committed_costs_know_their_lower_bounds():
    panels = plots.cost_panels(committed("search_costs.csv"))
    assert set(panels["search"][panels["at_least"]]) <= {f"{s}, to within 1% of the optimum" for s in ("random", "bayesian")}
    assert (panels["cost"][panels["at_least"]] > 79).all() and panels["cost"].notna().all()


def test_seconds_are_no_evaluations():
    """What a run cost in seconds says nothing of its budget."""
    row = {"varied": "objectives d", "search": "random, to within 1% of the optimum"}
    few, many = {"value": 2, "evaluations": 10.0, "seconds": 300.0}, {"value": 3, "evaluations": 80.0, "seconds": 9.0}
    costs = pd.DataFrame([row | few, row | many])
    panels = plots.cost_panels(costs).set_index(["unit", "value"])["at_least"]
    assert panels.to_dict() == {(unit, value): value == 3 for unit in ("evaluations", "seconds") for value in (2, 3)}


def test_growth_is_drawn_beside_proportion():
    rows = [
        ("prompts", v, s, c) for s, cs in (("hierarchical", (100, 200)), ("exact map", (50, 60))) for v, c in zip((4, 8), cs, strict=True)
    ]
    figure = plots.search_growth(pd.DataFrame(rows, columns=["varied", "value", "search", "cost"]))
    [axes] = figure.axes
    first, second, proportion = (line.get_xydata().tolist() for line in axes.lines)
    assert first == [[1, 1], [2, 2]] and second == [[1, 1], [2, 1.2]] and proportion == [[1, 1], [2, 2]]
    assert axes.get_xlim() == axes.get_ylim() and axes.get_xscale() == axes.get_yscale() == "log"
    assert "Prompts 2.0 times as many: hierarchical 2.0 times, exact map 1.2 times" in figure.alt_text


def test_runs_of_few_are_drawn_each():
    rows = [(s, run, e, 0.1 / e + run / 100) for s, n in (("random", 6), ("grid", 3)) for run in range(n) for e in (1, 2)]
    axes = plots.regret_curves(pd.DataFrame(rows, columns=["search", "run", "evaluation", "regret"])).axes[0]
    assert len(axes.lines) == 2 + 3 and len(axes.collections) == 1  # a mean each; three thin lines of the one, a band of the other


def test_one_choice_of_a_word():
    z = np.array([[2.0, 0.0, 1.5, 0.5], [0.0, 2.0, 1.4, 0.4]])
    pieces = [(0.0, 0.26, 0), (0.26, 0.71, 2), (0.71, 1.0, 1)]
    figure = plots.decision_line(z, pieces, ["I", "so", "You"], ["a", "b"])
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 4]
    assert [line.get_xdata().tolist() for line in thick] == [[0.0, 0.26], [0.26, 0.71], [0.71, 1.0]]
    assert "“so” from 0.26 to 0.71" in figure.alt_text
    half = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])
    triangle = plots.decision_triangle({"I": half, "You": np.array([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0.5]])}, ["a", "b", "c"])
    assert len(triangle.axes[0].patches) == 2 and "“You” with 4 corners" in triangle.alt_text


def test_directions_within_bounds():
    assert np.allclose(sorted(reached(np.array([[0, 0, 0], [1, 1, 1.0]])).tolist()), sorted(np.eye(3).tolist()))
    cube = np.array([[a, b, c] for a in (0.5, 1) for b in (0.5, 1) for c in (0.5, 1)])
    corners = reached(cube)
    assert len(corners) == 6 and np.allclose(corners.sum(1), 1) and corners.min() == pytest.approx(0.2)
    assert len(reached(np.array([[1, 0, 0], [2, 0, 0.0]]))) == 2  # one direction


def test_figures_repeat_and_refuse():
    assert figure_bytes(plots.prompt_map(made(3)), "png") == figure_bytes(plots.prompt_map(made(3)), "png")
    with pytest.raises(UserError, match="drawn for 3 objectives, got 4"):
        plots.prompt_map(made(4))
    with pytest.raises(UserError, match="drawn for 3 objectives, got 2"):
        plots.mean_map(overlay(made(2)))
    with pytest.raises(UserError, match="drawn for 2 objectives, got 3"):
        plots.two_objective_map(made(3))
    with pytest.raises(UserError, match="no column 'regret'"):
        plots.regret_curves(pd.DataFrame({"search": [], "run": [], "evaluation": []}))


def test_a_map_along_one_knob_is_drawn_and_read_from_end_to_end():
    lm = model(2)
    found = scored_map(exact_map(PrefixTree.of(line(Source(lm), Source(lm, "a1"), 0, 3), PROMPTS, max_new_tokens=4)), score)
    figure, cells = plots.two_objective_map(found), overlay(found)
    top, bottom = figure.axes[:2]
    bars = [patch for patch in top.patches if isinstance(patch, Rectangle)]
    assert len(bars) == len(found.map.regions) and sum(bar.get_width() for bar in bars) == pytest.approx(3 * len(PROMPTS))
    assert bottom.get_xlabel() == "strength: 0 is base, 1 is a1" and "strength grows from 0 to 3" in figure.alt_text
    text = readings.strength_reading(found)
    assert f"**{cells.scores.mean(1).max():.3f}**" in text and f"{found.means([[1.0]]).mean():.3f} at 1 (a1 as it is)" in text
    still = scored_map(exact_map(PrefixTree.of(line(Source(lm), Source(lm, "a1"), 0, 1e-5), PROMPTS[:1], max_new_tokens=1)), score)
    assert "No reply changes" in readings.strength_reading(still)
