"""Convex fronts by optimistic linear support: the hull of what can be had, with a certificate of what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from random_maps import random_map

from emorl_lite.base.errors import UserError
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.support import convex_front
from emorl_lite.readings.worth import convex_front_reading


def utilities(K: int, n: int = 500) -> np.ndarray:
    return np.vstack([np.eye(K), np.random.default_rng(0).dirichlet(np.ones(K), n)])


@pytest.mark.parametrize("K", [2, 3, 4])
@pytest.mark.parametrize("d", [2, 3])
def test_the_front_is_the_hull_of_what_can_be_had(d, K):
    scored = random_map(d, 5, K)
    front, all_vectors = convex_front(scored), overlay(scored).achievable
    u = utilities(K)
    assert front.complete and (u @ front.scores.T).max(1) == pytest.approx((u @ all_vectors.T).max(1))
    assert all(np.abs(all_vectors - mine).max(1).min() < 1e-9 for mine in front.scores)
    assert front.shares.sum() == pytest.approx(1) and (front.shares > 0).all()
    assert scored.means(front.weights) == pytest.approx(front.scores)
    best = front.scores[(u @ front.scores.T).argmax(1)]  # each vector is the best on its share of the utilities
    assert len(np.unique(best.round(9), axis=0)) <= len(front.scores) == len(front.table())


@pytest.mark.parametrize("d", [4, 5])
def test_the_certificate_holds_beyond_three_corners(d):
    scored, u = random_map(d, 4, 3, words=4), utilities(3)
    seen = (scored.means(np.random.default_rng(1).dirichlet(np.ones(d), 20_000)) @ u.T).max(0)
    whole = convex_front(scored)
    assert whole.complete and (seen <= (u @ whole.scores.T).max(1) + 1e-9).all()
    best = (u @ whole.scores.T).max(1)
    for asks in (3, 5, 9):
        short = convex_front(scored, asks=asks)
        lacks = best - (u @ short.scores.T).max(1)
        assert short.asked == asks and lacks.min() >= -1e-12 and lacks.max() <= short.missing + 1e-9
    rough = convex_front(scored, tolerance=0.05)
    assert rough.asked < whole.asked and (best - (u @ rough.scores.T).max(1)).max() <= rough.missing + 1e-9 <= 0.05 + 2e-9


@pytest.mark.parametrize("d", [3, 4])
def test_what_a_tolerance_leaves_out_counts_as_missing(d):
    u = utilities(3, 3000)
    for seed in range(3):
        scored = random_map(d, 4, 3, words=4, seed=seed)
        best = (u @ convex_front(scored).scores.T).max(1)
        for tolerance in (0.01, 0.05, 0.1):
            rough = convex_front(scored, tolerance=tolerance)
            assert (best - (u @ rough.scores.T).max(1)).max() <= rough.missing + 1e-9 <= tolerance + 2e-9


def test_a_search_cut_short_counts_as_missing():
    scored, u = random_map(4, 5, 2), utilities(2)
    whole, short = convex_front(scored), convex_front(scored, branches=0, asks=40)
    lacks = (u @ whole.scores.T).max(1) - (u @ short.scores.T).max(1)
    assert not short.complete and lacks.max() <= short.missing + 1e-9


def test_one_vector_serves_all_where_nothing_is_traded():
    scored = random_map(2, 3, 2, words=1)
    front = convex_front(scored)
    assert len(front.scores) == 1 and front.shares == pytest.approx([1]) and front.complete and front.asked <= 4


def test_what_a_front_needs():
    with pytest.raises(UserError, match="at least 2 objectives"):
        convex_front(random_map(2, 3, 1))
    with pytest.raises(UserError, match="asks 1"):
        convex_front(random_map(2, 3, 2), asks=1)


def test_the_certificate_is_read_aloud():
    scored = random_map(3, 4, 3)
    assert "nothing is missing" in convex_front_reading(convex_front(scored))
    assert "better by more than" in convex_front_reading(convex_front(scored, asks=4))
