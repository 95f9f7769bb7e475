"""What notebook 03 says of its numbers, whichever way they come out."""

import pandas as pd
import torch

from emorl_lite.plots import level_comparison
from emorl_lite.readings import mixing


def test_the_loop_and_the_package():
    assert mixing.by_hand_reading(["a", "b"], ["a", "b"]).endswith("write the same to all 2 clients, word for word.")
    text = mixing.by_hand_reading(["a", "b"], ["a", "c"], torch.bfloat16)
    assert "1 of 2 clients" in text and "bfloat16" in text


def test_words_that_nobody_puts_first():
    assert "At **22** of 556 positions of 24 replies (4 %)" in mixing.favourites_reading(22, 556, 24)
    assert "At none of 10 positions of 1 reply" in mixing.favourites_reading(0, 10, 1)


def test_weightings_that_write_the_same():
    assert mixing.weightings_reading(["1, 0", "0, 1"], ["a", "b"]) == "2 weightings, 2 texts: each writes its own."
    assert "by (1, 0) and (0.5, 0.5). A reply" in mixing.weightings_reading(["1, 0", "0, 1", "0.5, 0.5"], ["a", "b", "a"])


def bends(*off: float) -> pd.DataFrame:
    return pd.DataFrame({"place": list("abc"[: len(off)]), "off the line": off, "between the ends": [2.0] * len(off)})


def test_straight_lines_both_ways():
    assert mixing.bends_reading(bends(1e-6, 1e-7, 0.2)) == (
        "Half-way between two adapters, a and b are straight lines in the weights, up to rounding; "
        "off the line, in parts of the distance between the ends, lie c by 10 %."
    )
    assert "a is a straight line" in mixing.bends_reading(bends(1e-6, 0.2))
    assert mixing.bends_reading(bends(1e-6, 0.0)).endswith("up to rounding; nothing else is bent.")
    assert "None is straight here; off the line" in mixing.bends_reading(bends(0.1, 0.2))


def test_the_places_are_points_not_lines():
    table = pd.DataFrame({"level": ["hidden"] * 3, "w_a": [0.0, 0.5, 1.0], "w_b": [1.0, 0.5, 0.0], "mean": [0.1, 0.3, 0.2]})
    figure = level_comparison(table)
    assert [line.get_linestyle() for line in figure.axes[0].lines if len(line.get_xdata()) == 3] == ["None"]
    assert "hidden 0.10 to 0.30" in figure.alt_text and "a marker each" in figure.alt_text
