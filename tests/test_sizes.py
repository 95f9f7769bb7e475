"""What a computation takes is known before: blocks, grids that would never end, and how sizes are told."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import SearchConfig
from emorl_lite.base.sizes import MOST_POINTS, Estimate, blocks, shown_bytes, shown_count, shown_seconds
from emorl_lite.search.grid import full_grid, hierarchical_grid_search
from emorl_lite.search.simplex_grid import compositions, small_simplices

pytestmark = pytest.mark.plain


@given(st.integers(0, 500), st.integers(0, 300), st.integers(1, 1000))
def test_blocks_are_all_items_and_none_is_too_large(n, each, room):
    parts = list(blocks(n, each, room))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    assert all((part.stop - part.start) * each <= room or part.stop - part.start == 1 for part in parts)


def test_sizes_in_words():
    assert [shown_bytes(n) for n in (0, 999, 1000, 56_900_000, 1.44e9, 3e13)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "57 MB",
        "1.4 GB",
        "30 TB",
    ]
    assert [shown_seconds(n) for n in (0.04, 12.2, 180, 9000)] == ["0.0 s", "12 s", "3 min", "2.5 h"]
    assert [shown_count(n) for n in (1234, 10**15, 10**6000)] == ["1,234", "about 10^15", "about 10^6000"]
    assert str(Estimate(2742, "regions", 3 * 10**6, 13)) == "2,742 regions, 3.0 MB, 13 s"


@pytest.mark.parametrize(("d", "k"), [(1, 0), (1, 4), (2, 3), (3, 4), (4, 3), (5, 0)])
def test_compositions_are_all_there_are(d, k):
    assert list(compositions(d, k)) == [step for step in product(range(k + 1), repeat=d) if sum(step) == k]


def never(weights):
    raise AssertionError("nothing may be evaluated")


@pytest.mark.parametrize(
    ("search", "points"),
    [
        (lambda names: full_grid(never, names[:3], 10**4, progress=False), "1,000,000,000,000 points with 3 objectives"),
        (lambda names: full_grid(never, names[:3], 10**4, space="simplex", progress=False), f"{math.comb(10**4 + 1, 2):,} points"),
        (lambda names: full_grid(never, names, 10**6, progress=False), "about 10^6000 points with 1000 objectives"),
        (
            lambda names: hierarchical_grid_search(never, names[:3], SearchConfig(levels=5, points_per_axis=101), progress=False),
            f"101 points per axis, 5 levels: {5 * 101**3:,} points",
        ),
        (lambda names: hierarchical_grid_search(never, names[:40], space="simplex", progress=False), "walks with 40 objectives"),
        (lambda names: compositions(30, 40), "points with 30 objectives"),
        (lambda names: compositions(2000, 2), f"{2000 * 2001 // 2:,} points with 2000 objectives; at most {MOST_POINTS:,}"),
        (lambda names: small_simplices(12, 3), "walks with 12 objectives"),
        (lambda names: compositions(0, 3), "at least 1 objective"),
    ],
)
def test_a_grid_that_would_never_end_is_refused(search, points):
    with pytest.raises(UserError) as error:
        search([f"o{i}" for i in range(1000)])
    assert points in str(error.value) and "\n" not in str(error.value)
