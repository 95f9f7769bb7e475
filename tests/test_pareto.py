"""Pareto indicators against brute force, known values and each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.search.pareto import (
    cardinality,
    controllability,
    expected_utility,
    hypervolume,
    igd_plus,
    non_dominated,
    steerability,
    utility_weights,
)

clouds = st.tuples(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 5)).map(
    lambda case: np.random.default_rng(case[0]).integers(0, 6, (case[1], case[2])) / 5
)


@settings(max_examples=80, deadline=None)
@given(clouds)
def test_dominance_by_brute_force(points):
    brute = [not any((q >= p).all() and (q > p).any() for q in points) for p in points]
    assert non_dominated(points).tolist() == brute
    assert cardinality(points) == len({tuple(p) for p, keep in zip(points, brute, strict=True) if keep})


@settings(max_examples=60, deadline=None)
@given(clouds)
def test_hypervolume_by_counting_boxes(points):
    """All coordinates are multiples of 1/5: count the boxes of that size that some point dominates."""
    k = points.shape[1]
    boxes = np.stack(np.meshgrid(*[np.arange(5) / 5] * k, indexing="ij"), -1).reshape(-1, k)
    covered = (points[None] >= boxes[:, None] + 0.2 - 1e-9).all(2).any(1)
    assert hypervolume(points, [0.0] * k) == pytest.approx(covered.sum() / 5**k)


@settings(max_examples=40, deadline=None)
@given(clouds, st.floats(-0.5, 0.5))
def test_hypervolume_moves_with_its_reference(points, shift):
    k = points.shape[1]
    assert hypervolume(points + shift, [shift - 0.1] * k) == pytest.approx(hypervolume(points, [-0.1] * k))
    more = np.vstack([points, points.max(0) + 0.1])
    assert hypervolume(more, [-0.1] * k) == pytest.approx(np.prod(points.max(0) + 0.2))


def test_hypervolume_of_known_fronts():
    assert hypervolume([[0.5, 1.0], [1.0, 0.5]], [0, 0]) == pytest.approx(0.75)
    assert hypervolume([[1, 2, 3]], [0, 0, 0]) == pytest.approx(6)
    assert hypervolume([[0.5, 0.5, 0.5], [-1, 2, 2]], [0, 0, 0]) == pytest.approx(0.125)  # not above the reference: adds nothing
    assert hypervolume([[0.5, 0.5]], [0.5, 0]) == 0
    n = 400  # a quarter circle: pi / 4 in the limit
    angle = np.linspace(0, np.pi / 2, n + 2)[1:-1]
    assert hypervolume(np.stack([np.cos(angle), np.sin(angle)], 1), [0, 0]) == pytest.approx(np.pi / 4, abs=0.005)


@settings(max_examples=30, deadline=None)
@given(clouds)
def test_expected_utility_needs_the_front_only(points):
    assert expected_utility(points) == pytest.approx(expected_utility(points[non_dominated(points)]))
    assert points.mean(1).max() <= expected_utility(points) + 1e-9  # the middle weights alone can have that much
    one_hot = np.eye(points.shape[1])
    assert expected_utility(points, one_hot) == pytest.approx(points.max(0).mean())


def test_steerability_of_a_perfect_and_a_deaf_model():
    w = utility_weights(3, 6)
    perfect, deaf = w.copy(), np.tile([0.2, 0.9, 0.4], (len(w), 1))
    given, gap = steerability(perfect, w, np.eye(3))
    assert given == pytest.approx((w**2).sum(1).mean()) and gap == pytest.approx(w.max(1).mean() - given)
    given, gap = steerability(deaf, w)
    assert gap == pytest.approx(0) and given == pytest.approx((w @ deaf[0]).mean())  # it has one answer, and gives it
    best = np.eye(3)[w.argmax(1)]
    assert steerability(best, w)[1] == pytest.approx(0)


def test_controllability_is_spearman():
    rng = np.random.default_rng(0)
    w, scores = rng.dirichlet(np.ones(3), 40), rng.random((40, 3))
    assert controllability(scores, w) == pytest.approx(np.mean([stats.spearmanr(w[:, i], scores[:, i])[0] for i in range(3)]))
    assert controllability(w**3, w) == pytest.approx(1) and controllability(-w, w) == pytest.approx(-1)
    assert controllability(np.ones((40, 3)), w) == 0


@settings(max_examples=40, deadline=None)
@given(clouds)
def test_igd_plus(points):
    front = points[non_dominated(points)]
    assert igd_plus(points, front) == 0
    assert igd_plus(points + 0.1, front) == 0
    assert igd_plus(front - 0.1, front) <= 0.1 * np.sqrt(points.shape[1]) + 1e-9
    brute = np.mean([min(np.sqrt((np.maximum(z - p, 0) ** 2).sum()) for p in points - 0.3) for z in front])
    assert igd_plus(points - 0.3, front) == pytest.approx(brute)


def test_mistakes():
    for call, message in [
        (lambda: hypervolume([[1.0, 2.0]], [0.0]), "reference point of 2"),
        (lambda: hypervolume([[1.0, np.nan]], [0.0, 0.0]), "row 1: holds a NaN"),
        (lambda: non_dominated([]), "expected rows of scores"),
        (lambda: expected_utility([[1.0, 2.0]], [[0.5, 0.6]]), "sum 1"),
        (lambda: expected_utility([[1.0, 2.0]], [[1.0]]), "rows of 2 numbers"),
        (lambda: steerability([[1.0, 2.0]], [[0.5, 0.5], [1.0, 0.0]]), "2 weights but 1 answers"),
        (lambda: controllability([[1.0, 2.0]], [[0.5, 0.5]]), "at least 2 answers"),
        (lambda: igd_plus([[1.0, 2.0]], [[1.0, 2.0, 3.0]]), "a front of 3"),
    ]:
        with pytest.raises(UserError, match=message):
            call()
