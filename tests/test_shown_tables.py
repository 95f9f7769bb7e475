"""Tables of the notebooks: each column's precision, and headers that stand over what they name."""

import re

import numpy as np
import pandas as pd
import pytest

from emorl_lite.tutorial import table

pytestmark = pytest.mark.plain


def cells(frame: pd.DataFrame, column: str, **options: object) -> list[str]:
    """What the table shows of this column."""
    html = table(frame, "A caption.", **options).to_html()
    number = list(frame.columns).index(column)
    return re.findall(rf'class="data row\d+ col{number}"[^>]*>(.*?)</td>', html)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([3, 12], ["3", "12"]),
        ([23398, 120], ["23,398", "120"]),
        ([2025, 1998], ["2025", "1998"]),  # years
        ([2.0, 0.0, np.nan], ["2", "0", ""]),  # seeds of a table with gaps
        ([1.0, 0.0], ["1.00", "0.00"]),  # shares
        ([0.123, -0.0001], ["0.12", "0.00"]),
        ([153.21, 99.4], ["153.2", "99.4"]),
        ([23398.4, 812.2], ["23,398", "812"]),
        ([7600, 0.813], ["7600", "0.81"]),
        ([0.0004, 0.0012], ["0.0004", "0.0012"]),
        ([np.nan, np.nan], ["", ""]),
        ([True, False], ["yes", "no"]),
        ([0.5, "as before"], ["0.50", "as before"]),
    ],
)
def test_a_column_has_the_precision_of_its_numbers(values, shown):
    assert cells(pd.DataFrame({"x": values}), "x") == shown


def test_digits_of_one_column():
    frame = pd.DataFrame({"KL": [0.0123, 0.2], "seed": [1, 2], "mean": [0.5, 0.25]})
    digits = {"KL": 3, "seed": 1}
    assert [cells(frame, c, digits=digits) for c in frame] == [["0.012", "0.200"], ["1.0", "2.0"], ["0.50", "0.25"]]
    assert cells(frame, "mean", digits=1) == ["0.5", "0.2"]


def test_headers_stand_over_their_columns():
    html = table(pd.DataFrame({"method": ["base"], "mean": [0.5]}), "A caption.").to_html()
    for number, side in enumerate(("left", "right")):
        assert re.search(rf"th\.col{number} \{{\s*text-align: {side}", html)
        assert re.search(rf"_row0_col{number} \{{\s*text-align: {side}", html)


def test_the_same_table_gives_the_same_page():
    frame = pd.DataFrame({"mean": [0.5]})
    assert table(frame, "A caption.").to_html() == table(frame, "A caption.").to_html() != table(frame, "Another.").to_html()
    assert frame.columns.tolist() == ["mean"]
