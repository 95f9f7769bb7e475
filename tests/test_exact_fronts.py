"""What is drawn and said of all settings beside a few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_maps import made_map

from emorl_lite.base.domains import box_domain, simplex_domain
from emorl_lite.base.errors import UserError
from emorl_lite.exact.overlay import overlay
from emorl_lite.plots.exact_fronts import exact_beside_sweep, line_scores
from emorl_lite.readings import exact_fronts as readings
from emorl_lite.study.exact_fronts import front_tables

LINE = box_domain(["base", "aligned"], ["strength"], [0.0], [4.0])
NAMES = ["empathy", "fluency"]


def of_study(seeds: int = 3, gain: float = 0.1) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        for k, name in enumerate(("emorl", "dera")):
            more = gain * (k + 1) + 0.01 * seed
            row = {"seed": seed, "method": name, "settings": 21 - 12 * k, "regions": 40, "sweep_points": 3, "front_points": 9}
            row |= {"sweep_hypervolume": 0.2, "front_hypervolume": 0.2 + more, "front_found": "exact"}
            rows.append(row | {"sweep_test": 0.5, "optimum_test": 0.5 + more - 0.005 * (seed % 2)})
    return pd.DataFrame(rows)


def test_a_line_is_drawn_in_steps_that_hold_the_settings():
    scored = made_map(LINE, regions=6)
    figure = line_scores(scored, [0.0, 1.0, 3.5], 2.0)
    (axes,) = figure.axes
    cells = overlay(scored)
    steps = [patch.get_data() for patch in axes.patches]
    assert len(steps) == 3, "two objectives and their mean"
    for data, heights in zip(steps, [*cells.scores.T, cells.scores.mean(1)], strict=True):
        np.testing.assert_allclose(data.values, heights)
        assert data.edges[0] == 0 and data.edges[-1] == pytest.approx(4)
    dots = [line for line in axes.lines if line.get_linestyle() == "None"]
    for data, line in zip(steps, dots, strict=True):
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            assert y == pytest.approx(data.values[max(np.searchsorted(data.edges, x) - 1, 0)])
    assert "as steps" in figure.alt_text and "marks 2.00" in figure.alt_text
    with pytest.raises(UserError, match="for one knob, this map has 0"):
        line_scores(made_map(simplex_domain(["a", "b"])), [0.5])


def test_seeds_of_a_sweep_are_joined_to_all_settings():
    figure = exact_beside_sweep(of_study())
    (axes,) = figure.axes
    joined = [segment for lines in axes.collections if hasattr(lines, "get_segments") for segment in lines.get_segments()]
    assert len(joined) == 6 and all(a[1] == b[1] and b[0] > a[0] for a, b in joined)
    assert [text.get_text().split("\n")[0] for text in axes.get_yticklabels()] == ["dera", "emorl"]
    assert "emorl 0.200 and 0.310; dera 0.200 and 0.410" in figure.alt_text
    assert exact_beside_sweep(of_study(1)).axes


@pytest.mark.parametrize("gain", [0.2, 0.0, -0.2])
def test_the_study_is_read_by_its_numbers(gain):
    text = readings.study_reading(of_study(gain=gain))
    assert ("], more" in text) == (gain > 0) and ("], less" in text) == (gain < 0)
    assert f"the sweep of {'dera' if gain > 0 else 'emorl'} misses most" in text and "3 seeds" in text
    one = readings.study_reading(of_study(1).assign(front_found="best for some linear utility"))
    assert "no interval" in one and "not all of these fronts are exact" in one
    assert list(readings.by_method(of_study())["method"]) == ["emorl", "dera"]


def test_a_grid_beside_all_weights_and_a_line_are_read_by_their_numbers():
    maps = {name: made_map(simplex_domain(["a", "b", "c"]), regions=8, seed=seed) for seed, name in enumerate(("product", "mean"))}
    grid = simplex_domain(["a", "b", "c"]).grid(5)
    swept, fronts = front_tables(maps, grid)
    assert len(swept) == 2 * 21 and set(fronts["method"]) == {"product", "mean"} and list(fronts.columns[:3]) == ["w_a", "w_b", "w_c"]
    text = readings.ways_reading(maps, grid)
    for name, scored in maps.items():
        best = overlay(scored).scores.mean(1).max()
        assert f"*{name}*: 24 regions" in text and f"the best mean {best:.3f}" in text
    scored = made_map(LINE, regions=6)
    best = float(overlay(scored).weights[overlay(scored).best(), 1])
    text = readings.line_reading(scored, scored, [0.0, 1.0, 2.0], best)
    assert "18 regions and" in text and f"the best of all is {best:.2f}" in text
    same = readings.line_reading(scored, scored, [best], best)
    assert "worth the same" in same


def test_experts_are_read_by_how_often_the_weights_are_heard():
    scored = made_map(simplex_domain(["a", "b"]), regions=3)
    scored.map.rows_read = 7
    assert "one call an expert: 14" in readings.experts_reading(scored, 2) and "3 regions each" in readings.experts_reading(scored, 2)
    alone = made_map(simplex_domain(["a", "b"]), regions=1)
    assert "no surprise" in readings.experts_reading(alone, 2)
