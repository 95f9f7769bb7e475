"""The forest of the main comparison: marks say what is decided, words say what is drawn."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_rgb
from test_readings_real import prompts

from emorl_lite.base.errors import UserError
from emorl_lite.plots import differences_forest
from emorl_lite.plots.style import figure_bytes
from emorl_lite.readings import real

pytestmark = pytest.mark.plain


def test_hollow_marks_are_open_and_rows_are_named():
    found = real.differences(prompts(noise=0.03, seeds=3, clients=10))
    figure = differences_forest(found)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [real.called(method) for method in real.OTHERS]
    faces = [to_rgb(marks.get_facecolor()[0]) for marks in axes.collections]
    hollow = sum(face == (1.0, 1.0, 1.0) for face in faces)
    assert len(faces) == len(found) and hollow == (found["verdict"] == "open").sum()
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_alpha()]
    assert sorted(line.get_xdata()[0] for line in lines) == pytest.approx(sorted(found["low"]))
    assert figure_bytes(figure, "png").startswith(b"\x89PNG")


def test_it_tells_itself_in_words():
    figure = differences_forest(real.differences(prompts(noise=0.03, seeds=3, clients=10)))
    assert "Sampled: right of zero (above)" in figure.alt_text and "left of zero (below) uniform with an equal sum −0." in figure.alt_text
    one = differences_forest(real.differences(prompts(seeds=1, clients=5)))
    assert "(no interval)" in one.alt_text and "nan" not in one.alt_text
    with pytest.raises(UserError, match="no column 'verdict'"):
        differences_forest(real.differences(prompts(seeds=2, clients=3)).drop(columns="verdict"))
