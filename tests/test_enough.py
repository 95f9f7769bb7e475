"""How many seeds and prompts are enough: the interval at hand is met, more seeds are never worse, and what no number mends is said."""

from __future__ import annotations

import numpy as np
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.study.crossed import crossed
from emorl_lite.study.enough import MOST, Scatter, enough, half_width, scatter

pytestmark = pytest.mark.plain


def layout(seeds, prompts, of_seeds, of_prompts, rest, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = rng.normal(0, of_seeds, (seeds, 1)), rng.normal(0, of_prompts, (1, prompts))
    return rows + columns + rng.normal(0, rest, (seeds, prompts))


@pytest.mark.parametrize("of", [(0.2, 0.3, 0.05), (0.3, 0.0, 0.0), (0.0, 0.3, 0.0)])
def test_at_the_size_at_hand_it_is_the_interval_at_hand(of):
    values = layout(5, 30, *of)
    found = crossed(values)
    assert half_width(scatter(values), 5, 30) == pytest.approx((found.high - found.low) / 2)
    assert enough(values, (found.high - found.low) / 2 + 1e-9).seeds == 5


def test_variances_are_found_again():
    found = scatter(layout(400, 300, 0.2, 0.3, 0.1))
    assert (found.seeds, found.prompts, found.rest) == pytest.approx((0.04, 0.09, 0.01), rel=0.2)


def test_more_seeds_are_never_worse_and_the_fewest_prompts_just_fit():
    values, found = layout(5, 30, 0.1, 0.3, 0.2), scatter(layout(5, 30, 0.1, 0.3, 0.2))
    widths = [half_width(found, seeds, 30) for seeds in range(2, 40)]
    assert widths == sorted(widths, reverse=True)
    target = 0.8 * half_width(found, 5, 30)
    needed = enough(values, target)
    assert needed.prompts and half_width(found, 5, needed.prompts) <= target < half_width(found, 5, needed.prompts - 1)
    assert needed.times and half_width(found, 5 * needed.times, 30 * needed.times) <= target


def test_with_ever_more_prompts_it_comes_down_to_the_seeds():
    """An interval over few seeds is wide: it is narrower with fewer prompts, whose scatter has more degrees of freedom."""
    found = Scatter(0.0025, 0.25, 0.01)
    alone = half_width(Scatter(0.0025, 0, 0), 3, 10)
    assert half_width(found, 3, 10**6) == pytest.approx(alone, rel=0.01) and half_width(found, 3, 600) < 0.8 * alone


def test_what_no_number_mends():
    by_prompts, by_seeds = enough(layout(4, 10, 0, 0.3, 0), 0.01), enough(layout(4, 10, 0.3, 0, 0), 0.01)
    assert by_prompts.seeds is None and by_prompts.prompts and by_seeds.prompts is None and by_seeds.seeds
    neither = enough(layout(4, 10, 0.3, 0.3, 0), 0.02)
    assert neither.seeds is None and neither.prompts is None and neither.times
    values = layout(4, 10, 0, 0.3, 0)
    reach = half_width(scatter(values), 4, MOST)
    assert enough(values, 1.01 * reach).prompts <= MOST and enough(values, 0.99 * reach).prompts is None, "beyond that nobody looks"


def test_nothing_varies():
    assert half_width(Scatter(0, 0, 0), 2, 2) == 0 and enough(np.zeros((3, 4)), 0.01) == enough(np.ones((3, 4)), 0.5)
    with pytest.raises(UserError, match="half-width 0"):
        enough(np.zeros((3, 4)), 0)
