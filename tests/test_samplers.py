"""Searches on the simplex, and the samplers that the hierarchical grid is compared with."""

import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import SearchConfig, SearchMethod
from emorl_lite.search.grid import full_grid, hierarchical_grid_search
from emorl_lite.search.samplers import SEARCHES, bayesian_search, best_so_far, find_weights, random_search, stick_breaking
from emorl_lite.search.score_table import EvaluationError
from emorl_lite.search.simplex_grid import compositions, small_simplices

NAMES = ["a", "b", "c", "d"]
BEST = np.array([0.21, 0.62, 0.17, 0.0])


def smooth(weights):
    """Depends on the direction alone; largest, 1, at BEST."""
    w = np.array(weights) / sum(weights)
    best = BEST[: len(w)] / BEST[: len(w)].sum()
    return dict.fromkeys(NAMES[: len(w)], 1 - float(((w - best) ** 2).sum()))


# -- grids of the simplex


@pytest.mark.parametrize("d", [2, 3, 4, 5])
@pytest.mark.parametrize("k", [2, 3])
def test_cells_fill_the_simplex(d, k):
    assert len(compositions(d, k)) == math.comb(k + d - 1, d - 1) == len(set(compositions(d, k)))
    volumes = [abs(np.linalg.det(np.array(cell) / k)) for cell in small_simplices(d, k)]  # of the cone over the cell; the simplex has 1
    assert volumes == pytest.approx([k ** (1 - d)] * k ** (d - 1)) and sum(volumes) == pytest.approx(1)
    for w in np.random.default_rng(0).dirichlet(np.ones(d), 50):
        holds = [(np.linalg.solve(np.array(cell, dtype=float).T / k, w) > 1e-12).all() for cell in small_simplices(d, k)]
        assert sum(holds) == 1


@pytest.mark.parametrize("d", [2, 3, 4])
def test_hierarchical_search_on_the_simplex(d):
    calls = []

    def evaluate(w):
        calls.append(w)
        return smooth(w)

    result = hierarchical_grid_search(evaluate, NAMES[:d], progress=False, space="simplex")
    columns = [f"w_{name}" for name in NAMES[:d]]
    assert result.listed == 5 * math.comb(d + 1, 2) and len(calls) == len(set(calls)) == result.evaluated
    assert result.table[columns].sum(axis=1).to_numpy() == pytest.approx(np.ones(result.listed))
    assert (result.table[columns] * 32 % 1 == 0).all(axis=None)
    best = BEST[:d] / BEST[:d].sum()
    assert np.abs(np.array(result.best) - best).max() <= 1 / 16
    for outer, inner in pairwise(result.bounds):
        assert (np.linalg.solve(outer.T, inner.T) >= -1e-12).all()  # inside, in barycentric coordinates
        assert abs(np.linalg.det(inner)) == pytest.approx(abs(np.linalg.det(outer)) / 2 ** (d - 1))


def test_full_grid_of_the_simplex():
    result = full_grid(smooth, NAMES[:3], 9, progress=False, space="simplex")
    assert result.listed == result.evaluated == 45
    assert np.abs(np.array(result.best) - BEST[:3]).max() <= 1 / 8
    with pytest.raises(UserError, match="space 'sphere'"):
        full_grid(smooth, NAMES[:3], 9, progress=False, space="sphere")


# -- evaluations that are known or announced


def test_one_direction_is_evaluated_once():
    calls = []

    def evaluate(w):
        calls.append(w)
        return smooth(w)

    ours = hierarchical_grid_search(evaluate, NAMES[:3], progress=False, by_direction=True)
    plain = hierarchical_grid_search(smooth, NAMES[:3], progress=False)
    assert ours.evaluated == len(calls) < plain.evaluated
    assert ours.table["mean"].to_numpy() == pytest.approx(plain.table["mean"].to_numpy(), abs=1e-12)
    assert ours.table["note"].str.startswith("same direction as level 1, point ").any()


class Announced:
    """Wants to hear of points before it is asked, and can fail."""

    def __init__(self, fail_at=None):
        self.known, self.announced, self.fail_at = set(), [], fail_at

    def prepare(self, points):
        self.announced.append(list(points))
        if len(self.announced) == self.fail_at:
            raise RuntimeError("out of memory")
        self.known |= set(points)

    def __call__(self, weights):
        assert weights in self.known
        return smooth(weights)


@pytest.mark.parametrize("by_direction", [False, True])
def test_a_level_is_announced_before_it_is_asked(by_direction):
    evaluate = Announced()
    result = hierarchical_grid_search(evaluate, NAMES[:3], progress=False, by_direction=by_direction)
    assert sum(map(len, evaluate.announced)) == result.evaluated and len(evaluate.announced) <= 5
    first = evaluate.announced[0]
    assert len(first) == (19 if by_direction else 26) and (0.0, 0.0, 0.0) not in first and len(set(first)) == len(first)


def test_a_failure_in_the_announcement_keeps_the_table(tmp_path):
    path, flaky = tmp_path / "search.csv", Announced(fail_at=3)
    with pytest.raises(EvaluationError, match="level 3"):
        hierarchical_grid_search(flaky, NAMES[:3], table_path=path, progress=False)
    assert len(pd.read_csv(path)) == 54
    resumed = Announced()
    result = hierarchical_grid_search(resumed, NAMES[:3], table_path=path, progress=False)
    assert len(resumed.announced) == 3 and result.best == hierarchical_grid_search(smooth, NAMES[:3], progress=False).best


# -- samplers


@pytest.mark.parametrize("search", [pytest.param(s, marks=pytest.mark.slow) if s in ("bayesian", "ucb") else s for s in SEARCHES])
def test_every_search_finds_a_smooth_maximum(search):
    evaluations = {"hierarchical": 135, "bayesian": 20, "ucb": 20}.get(search, 60)
    result = find_weights(search, smooth, NAMES[:3], evaluations, seed=1, progress=False)
    assert result.listed <= evaluations
    w = np.array(result.best) / sum(result.best)
    assert np.abs(w - BEST[:3]).max() < 0.13  # .07 at most with every seed tried
    assert result.best_scores == pytest.approx(smooth(result.best))


@pytest.mark.parametrize("acquisition", ["ei", "ucb"])
@pytest.mark.slow
def test_bayesian_search_beats_random_on_a_smooth_function(acquisition):
    luck = [max(random_search(smooth, NAMES[:3], 20, seed=seed, progress=False).table["mean"]) for seed in range(20)]
    for seed in range(2):  # what is left to the maximum: a third of luck's or less with every seed tried
        ours = bayesian_search(smooth, NAMES[:3], 20, seed=seed, acquisition=acquisition, progress=False)
        assert max(ours.table["mean"]) > np.median(luck)


@pytest.mark.parametrize("search", ["random", *(pytest.param(s, marks=pytest.mark.slow) for s in ("bayesian", "ucb"))])
def test_samplers_resume_and_repeat(search, tmp_path):
    path = tmp_path / "t.csv"
    whole = find_weights(search, smooth, NAMES[:3], 16, seed=4, progress=False)
    calls = 0

    def flaky(w):
        nonlocal calls
        calls += 1
        if calls == 13:
            raise RuntimeError("out of memory")
        return smooth(w)

    with pytest.raises(EvaluationError):
        find_weights(search, flaky, NAMES[:3], 16, seed=4, table_path=path, progress=False)
    assert len(pd.read_csv(path)) == 12
    resumed = find_weights(search, flaky, NAMES[:3], 16, seed=4, table_path=path, progress=False)
    pd.testing.assert_frame_equal(resumed.table.drop(columns="seconds"), whole.table.drop(columns="seconds"))
    assert calls == whole.evaluated + 1
    other = find_weights(search, smooth, NAMES[:3], 16, seed=5, progress=False)
    assert not other.table["w_a"].equals(whole.table["w_a"])
    with pytest.raises(UserError, match="seed = 4, this search has 5"):
        find_weights(search, smooth, NAMES[:3], 16, seed=5, table_path=path, progress=False)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_stick_breaking_is_uniform(d):
    rng = np.random.default_rng(0)
    w = np.array([stick_breaking(u) for u in rng.random((4000, d - 1))])
    assert w.sum(1) == pytest.approx(np.ones(4000)) and (w >= 0).all()
    for column in w.T:  # every coordinate of a uniform simplex point follows Beta(1, d - 1)
        assert stats.kstest(column, stats.beta(1, d - 1).cdf).pvalue > 1e-3


def test_the_presets_name_every_search():
    assert set(get_args(SearchMethod)) == {*SEARCHES, "exact"}


def test_best_so_far_counts_evaluations():
    table = hierarchical_grid_search(smooth, NAMES[:3], SearchConfig(levels=2), progress=False, by_direction=True).table
    curve = best_so_far(table)
    assert len(curve) == (table["note"] == "").sum() and (np.diff(curve) >= 0).all() and curve[-1] == table["mean"].max()


@pytest.mark.parametrize(
    ("search", "evaluations", "message"),
    [
        ("random", 0, "expected at least 1"),
        ("bayesian", 0, "expected at least 1"),
        ("hierarchical", 26, "one level of the hierarchical search has 27 points at d = 3"),
        ("hierarchical-simplex", 5, "has 6 points"),
        ("grid", 5, "coarsest grid of the simplex has 6 points"),
        ("annealing", 10, "search 'annealing' is unknown"),
    ],
)
def test_mistakes(search, evaluations, message):
    with pytest.raises(UserError, match=message):
        find_weights(search, smooth, NAMES[:3], evaluations, progress=False)
    with pytest.raises(UserError, match="acquisition 'pi'"):
        bayesian_search(smooth, NAMES[:3], 5, acquisition="pi", progress=False)
