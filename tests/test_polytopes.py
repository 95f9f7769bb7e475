import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import HalfspaceIntersection

from emorl_lite.base.polytopes import TOLERANCE, box, scaled, simplex
from emorl_lite.exact.exact_map import _split


def normals(seed, d, k):
    """Half-spaces whose borders cross the simplex."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(k, d))
    return raw - (raw @ rng.dirichlet(np.ones(d), k).T).diagonal()[:, None]


cuts = st.tuples(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 6))


@settings(max_examples=80, deadline=None)
@given(cuts)
def test_a_cut_keeps_exactly_the_points_of_the_half_spaces(case):
    seed, d, k = case
    n = normals(seed, d, k)
    w = np.random.default_rng(seed + 1).dirichlet(np.ones(d), 2000)
    inside = (w @ n.T > 1e-7).all(1)
    piece = simplex(d).cut(n)
    if piece is None:
        assert not inside.any()
        return
    assert piece.contains(w)[inside].all() and not piece.contains(w)[(w @ n.T < -1e-7).any(1)].any()
    assert (piece.vertices @ np.array([scaled(x) for x in n]).T >= -1e-8).all() and np.allclose(piece.vertices.sum(1), 1)
    assert np.array_equal(piece.incidence, np.abs(piece.vertices @ piece.facets.T) < 1e-7)
    assert abs(piece.measure - inside.mean()) < 0.06


@settings(max_examples=60, deadline=None)
@given(cuts, st.booleans())
def test_many_half_spaces_at_once_cut_as_one_after_another(case, of_box):
    seed, d, k = case
    n = normals(seed, d, k)
    n = np.vstack([n, n[:1], -np.eye(d)[:1] + 5, np.zeros((1, d))])  # the same once more, one that all are inside of, and none
    whole = box([-1.0] * (d - 1), [2.0] * (d - 1)) if of_box else simplex(d)
    together, alone = whole.cut(n), whole
    for normal in n:
        alone = alone.cut(normal[None]) if alone else None
    assert (together is None) == (alone is None)
    if together and alone:
        for ours, theirs in ((together.vertices, alone.vertices), (together.facets, alone.facets)):
            assert ours == pytest.approx(theirs, abs=1e-12)
        assert np.array_equal(together.incidence, alone.incidence) and np.array_equal(together.own, alone.own)


@settings(max_examples=80, deadline=None)
@given(cuts)
def test_both_sides_make_up_the_whole(case):
    seed, d, k = case
    *first, last = normals(seed, d, k)
    piece = simplex(d).cut(np.array(first).reshape(-1, d))
    if piece is None:
        return
    sides = [piece.cut(np.array([sign * last])) for sign in (1, -1)]
    assert sum(side.measure for side in sides if side) == pytest.approx(piece.measure, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(cuts)
def test_vertices_are_those_that_qhull_finds(case):
    seed, d, k = case
    piece = simplex(d).cut(normals(seed, d, k))
    if d == 2 or piece is None or piece.deepest[1] < 1e-4:
        return
    centre = piece.deepest[0]
    n = np.vstack([np.eye(d), normals(seed, d, k)])
    slopes = n[:, :-1] - n[:, -1:]
    found = HalfspaceIntersection(np.hstack([-slopes, -n[:, -1:]]), centre[:-1]).intersections
    for vertex in found:
        assert np.abs(piece.vertices[:, :-1] - vertex).max(1).min() < 1e-6
    for vertex in piece.vertices:
        assert np.abs(found - vertex[:-1]).max(1).min() < 1e-6


@pytest.mark.parametrize("d", [2, 3, 4, 5, 6])
def test_known_measures(d):
    whole = simplex(d)
    assert whole.measure == pytest.approx(1)
    half = whole.cut(np.array([np.eye(d)[0] - np.eye(d)[1]]))
    assert half.measure == pytest.approx(1 / 2)
    largest = whole.cut(np.eye(d)[:1] - np.eye(d)[1:])
    assert largest.measure == pytest.approx(1 / d)
    assert largest.margin(np.eye(d)[0]) == pytest.approx(1 / math.sqrt(2))  # half-way along an edge of length sqrt(2)
    small = whole.cut(np.array([np.eye(d)[0] - 0.5]))  # w_1 >= 1/2
    assert small.measure == pytest.approx(0.5 ** (d - 1))


def test_the_largest_ball():
    centre, radius = simplex(3).deepest
    assert centre == pytest.approx([1 / 3] * 3, abs=1e-6) and radius == pytest.approx(math.sqrt(2) / (2 * math.sqrt(3)))


class Words:
    """Stands in for a tree: one decision with these scores."""

    samples = 0

    def __init__(self, scores):
        self.scores = scores

    def candidates(self, node):
        return np.arange(len(self.scores)), self.scores


@pytest.mark.parametrize("d", [3, 4, 5, 6])
@pytest.mark.parametrize("noise", [0.0, 1e-10, 1e-9, 3e-9, 1e-8, 1e-7])
def test_borders_that_nearly_coincide(d, noise):
    """Decision after decision on small integers plus noise: borders meet, repeat, and nearly repeat; nothing may be lost."""
    for seed in range(4):
        rng, pieces = np.random.default_rng(seed), [simplex(d)]
        for _ in range(4 if d < 5 else 3):
            parts = []
            for piece in pieces:
                z = rng.integers(-2, 3, (6, d)) + noise * rng.normal(size=(6, d))
                chosen = (piece.vertices @ z.T).argmax(1)
                parts += [piece] if (chosen == chosen[0]).all() else _split(Words(z), 0, piece, chosen).values()
            pieces = parts
        assert sum(piece.measure for piece in pieces) == pytest.approx(1, abs=1e-7)
        w = rng.dirichlet(np.ones(d), 300)
        assert (np.array([piece.contains(w, -1e-6) for piece in pieces]).sum(0) <= 1).all()


@pytest.mark.parametrize("d", [2, 3, 5])
def test_slivers_and_touching_cuts(d):
    whole, first = simplex(d), np.eye(d)[0]
    assert whole.cut(np.array([first])) is whole  # the border is a facet already
    assert whole.cut(np.array([-first])) is None  # only the facet is left
    assert whole.cut(np.array([TOLERANCE / 10 - first])) is None  # thinner than the tolerance
    assert whole.cut(np.array([first - TOLERANCE / 10])) is whole  # would take less than the tolerance
    assert whole.cut(np.array([100 * TOLERANCE - first])) is not None
    assert whole.cut(np.zeros((1, d))) is whole  # equal scores everywhere
    assert whole.cut(np.ones((1, d))) is whole and whole.cut(-np.ones((1, d))) is None  # better, or worse, everywhere
    assert whole.cut(np.empty((0, d))) is whole


@pytest.mark.parametrize("d", [3, 4, 6])
def test_a_cut_through_vertices(d):
    """w_1 >= w_2 passes through the other d - 2 corners; cutting again along the same border changes nothing."""
    n = np.eye(d)[0] - np.eye(d)[1]
    half = simplex(d).cut(np.array([n]))
    assert len(half.vertices) == d and half.cut(np.array([n, 3 * n])) is half
    assert half.cut(np.array([-n])) is None


def test_margins():
    whole = simplex(3)
    assert whole.margin(np.array([0.2, 0.3, 0.5])) == math.inf  # the simplex's own border changes no reply
    half = whole.cut(np.array([[1.0, -1.0, 0.0]]))
    assert half.margin(np.array([0.6, 0.2, 0.2])) == pytest.approx(0.4 / math.sqrt(2))
    assert half.margin(np.array([0.2, 0.6, 0.2])) == pytest.approx(-0.4 / math.sqrt(2))


def test_outlines():
    square = simplex(3).cut(np.array([[0.5, 0.5, -0.5], [-1.0, 1.0, 1.0]]))
    turns = np.diff(np.vstack([square.outline, square.outline[:2]])[:, :2], axis=0)
    cross = turns[:-1, 0] * turns[1:, 1] - turns[:-1, 1] * turns[1:, 0]
    assert (cross > 0).all() or (cross < 0).all()  # convex, in order
    assert simplex(2).outline[0].tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="no outline"):
        _ = simplex(4).outline
