"""Scores on exact maps: look-ups, the exact optimum, overlays, Pareto sets, and evaluations that do nothing twice."""

from __future__ import annotations

import sys
import zlib
from functools import cache

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from scipy import stats
from tiny import PROMPTS

from emorl_lite.base import sizes
from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.corners import Source, line
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import ExactMap, exact_map
from emorl_lite.exact.optimum import Maximiser, best_weights, exact_search, maximise
from emorl_lite.exact.overlay import overlay, overlay_estimate
from emorl_lite.exact.scored_map import scored_map
from emorl_lite.search.evaluation import ReplyScores, TreeEvaluation
from emorl_lite.search.grid import full_grid, hierarchical_grid_search
from emorl_lite.search.statistics import confirm, interval

NAMES = ["a0", "a1", "a2", "a3", "a4"]


def score(prompts, replies):
    """Any fixed score will do: a number in [0, 1) from prompt, reply and objective."""
    made = {name: [zlib.crc32(f"{p}|{r}|{name}".encode()) / 2**32 for p, r in zip(prompts, replies, strict=True)] for name in NAMES[:3]}
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in made.items()}


@cache
def model(d: int):
    lm = tiny.language_model("llama")
    for i, name in enumerate(NAMES[:d]):
        lm.add_adapter(name, seed=i)
    lm = tiny.with_random_adapters(lm)
    lm.model.double()
    return lm


def tree(d: int, **options) -> PrefixTree:
    return PrefixTree(model(d), NAMES[:d], PROMPTS, max_new_tokens=4 if d > 3 else 8, **options)


@cache
def made(d: int):
    return scored_map(exact_map(tree(d)), score)


def weights(d: int, n: int = 400, seed: int = 0):
    return np.random.default_rng(seed).dirichlet(np.ones(d), n)


# -- look-ups


def test_means_are_those_of_decoding():
    ensemble = EnsembleLM(model(3), NAMES[:3])
    for w in weights(3, 20):
        means = {k: float(v.mean()) for k, v in score(PROMPTS, ensemble.reply(PROMPTS, weights=w)).items()}
        assert made(3).evaluate(tuple(w)) == pytest.approx(means)


def test_each_distinct_reply_is_scored_once():
    calls = []

    def counting(prompts, replies):
        calls.extend(zip(prompts, replies, strict=True))
        return score(prompts, replies)

    found = exact_map(tree(3))
    scores = ReplyScores(counting)
    scored_map(found, scores)
    again = scored_map(found, scores)
    assert len(calls) == len(set(calls)) == scores.scored == len({(r.row, r.reply) for r in found.regions})
    assert np.array_equal(again.scores, made(3).scores)


def test_a_score_that_is_no_number_is_told():
    with pytest.raises(UserError, match=r"reward 'a1', row 1: score nan of reply .* is not finite"):
        scored_map(exact_map(tree(2)), lambda p, r: score(p, r) | {"a1": torch.full((len(p),), float("nan"))})
    with pytest.raises(UserError, match="objective 'warmth': not scored"):
        scored_map(exact_map(tree(2)), score, ["a0", "warmth"])


def test_an_objective_has_a_name_of_its_own_beside_the_knobs():
    lm = tiny.language_model(adapters=1)
    found = exact_map(PrefixTree.of(line(Source(lm), Source(lm, lm.adapters[0]), 0, 2), PROMPTS[:1], max_new_tokens=3))
    with pytest.raises(UserError, match=r"objective 'strength'.* of that name"):
        scored_map(found, lambda prompts, replies: {"strength": np.ones(len(replies))})


def test_regions_and_expectation():
    scored = made(3)
    table = scored.regions(1)
    assert table["share"].sum() == pytest.approx(1) and table["share"].is_monotonic_decreasing
    assert table["mean"].to_numpy() == pytest.approx(table[["a0", "a1", "a2"]].mean(axis=1).to_numpy())
    assert table.loc[table["pareto"], "mean"].max() == table["mean"].max()
    assert scored.expected() == pytest.approx(scored.means(weights(3, 40_000)).mean(0), abs=0.01)


# -- the optimum


@pytest.mark.parametrize("d", [2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_nothing_beats_the_optimum(d):
    scored = made(d)
    found = best_weights(scored)
    assert found.value == pytest.approx(found.bound)
    assert scored.means(weights(d, 20_000)).mean(1).max() <= found.value + 1e-12
    assert scored.means(found.weights).mean() == pytest.approx(found.value)
    assert sum(found.scores.values()) / 3 == pytest.approx(found.value)
    near = np.array(found.weights) + 0.9 * found.radius * np.array([[1, -1] + [0] * (d - 2), [-1, 1] + [0] * (d - 2)]) / np.sqrt(2)
    assert np.array_equal(scored.map.locate(near)[0], scored.map.locate(found.weights)[0])
    assert np.array_equal(scored.map.locate(near)[1], scored.map.locate(found.weights)[0])


@pytest.mark.parametrize("d", [2, 3])
def test_branch_and_bound_and_overlay_agree(d):
    cells = overlay(made(d))
    assert best_weights(made(d)).value == pytest.approx(cells.scores.mean(1).max())
    for utility in ({"a0": 1.0}, {"a0": 0.2, "a2": 0.8}, {"a0": 1.0, "a1": -1.0}):
        vector = np.array([utility.get(name, 0.0) for name in NAMES[:3]])
        assert best_weights(made(d), utility).value == pytest.approx((cells.scores @ vector).max())


def test_a_search_cut_short_gives_a_bound():
    scored = made(4)
    whole = best_weights(scored)
    for branches in (0, 1, 3):
        short = best_weights(scored, branches=branches)
        assert short.value <= whole.value + 1e-12 <= short.bound + 2e-12
    warm = best_weights(scored, start=[whole.weights])
    assert warm.value == pytest.approx(whole.value) and warm.branches <= whole.branches


def test_branches_that_do_not_fit_end_the_search_with_a_bound():
    scored = made(4)
    whole, short = best_weights(scored), best_weights(scored, memory=0)
    assert short.branches < whole.branches and short.value <= whole.value + 1e-12 <= short.bound + 2e-12


@pytest.mark.parametrize("d", [3, 4])
def test_the_optimum_does_not_depend_on_blocks(d, monkeypatch):
    scored, w = made(d), weights(d)
    whole, means = best_weights(scored), scored.means(w)
    monkeypatch.setattr(sizes, "BLOCK", 5000)
    found = best_weights(scored)
    assert (found.weights, found.value, found.bound, found.branches) == (whole.weights, whole.value, whole.bound, whole.branches)
    assert np.array_equal(scored.means(w), means)


def test_a_start_from_few_regions_ends_at_the_same_value(monkeypatch):
    whole = best_weights(made(3))
    monkeypatch.setattr(sys.modules[best_weights.__module__], "STARTS", 10)
    assert best_weights(made(3)).value == pytest.approx(whole.value)


@pytest.mark.parametrize("d", [2, 3])
def test_the_maximum_of_any_worth_is_that_of_every_cell(d):
    found, cells, rng = made(d).map, overlay(made(d)), np.random.default_rng(d)
    maximiser, located = Maximiser(found), found.locate(cells.weights)
    for _ in range(12):
        worth, counts = rng.normal(size=len(found.regions)).round(1), rng.integers(0, 3, len(found.indices))
        counts[rng.integers(len(counts))] += 1
        best = maximiser.maximise(worth, counts)
        expected = (worth[located] * counts).sum(1).max() / counts.sum()
        assert best.value == pytest.approx(expected) and best.bound == pytest.approx(expected)
        there = found.locate(best.piece.deepest[0])[0]
        assert (worth[there] * counts).sum() / counts.sum() == pytest.approx(expected)
        corners = 0.99 * best.piece.vertices + 0.01 * best.piece.deepest[0]
        assert (found.locate(corners) == there).all()  # the whole cell has the same replies
    assert maximise(found, -np.ones(len(found.regions))).value == pytest.approx(-1)


def test_worths_and_counts_that_do_not_fit_are_refused():
    found = made(2).map
    with pytest.raises(UserError, match="finite numbers, one a region"):
        maximise(found, np.ones(3))
    for counts in (np.zeros(4), np.array([1, -1, 1, 1]), np.ones(3)):
        with pytest.raises(UserError, match="numbers, one a row"):
            maximise(found, np.ones(len(found.regions)), counts)


def test_exact_search_is_a_result_like_any_other():
    result, found = exact_search(made(3)), best_weights(made(3))
    assert result.best == found.weights and result.listed == result.evaluated == 1
    assert result.table["mean"].iloc[0] == pytest.approx(found.value)


def test_a_utility_of_other_objectives_is_refused():
    with pytest.raises(UserError, match="'warmth' is unknown"):
        best_weights(made(3), {"warmth": 1.0})


def test_a_hole_has_no_reply():
    whole = made(3).map
    largest = max(whole.of(0), key=lambda region: region.piece.measure)
    holed = ExactMap(whole.corners, whole.prompts, [region for region in whole.regions if region is not largest])
    with pytest.raises(UserError, match="no reply at some of these weights: it has a hole"):
        scored_map(holed, score).means(weights(3))
    holes = holed.locate(weights(3)) < 0
    assert 0 < holes.mean() < 1 and np.array_equal(np.isnan(holed.margins(weights(3))), holes)
    assert [[reply is None for reply in row] for row in holed.replies(weights(3))] == holes.T.tolist()


# -- overlays


@pytest.mark.parametrize("d", [2, 3])
def test_an_overlay_is_every_look_up(d):
    cells, scored = overlay(made(d)), made(d)
    assert cells.measure.sum() == pytest.approx(1, abs=1e-6)
    assert scored.means(cells.weights) == pytest.approx(cells.scores)
    looked_up = np.unique(scored.means(weights(d, 3000)).round(12), axis=0)
    assert all(np.abs(cells.achievable - line).max(1).min() < 1e-9 for line in looked_up)
    assert (cells.measure[:, None] * cells.scores).sum(0) == pytest.approx(scored.expected(), abs=1e-6)
    assert overlay(scored, [1]).achievable == pytest.approx(np.unique(scored.scores[scored.map.indices[1]], axis=0))
    front = cells.scores[cells.pareto]
    assert not any((other >= mine).all() and (other > mine).any() for mine in front for other in cells.scores)


@pytest.mark.parametrize("rows", [[0], [0, 1], [0, 1, 2, 3]])
@pytest.mark.parametrize("d", [2, 3])
def test_the_cells_of_an_overlay_are_known_before(d, rows, monkeypatch):
    scored = made(d)
    cells, expected = overlay(scored, rows), overlay_estimate(scored, rows)
    assert 0.9 * expected.rows <= len(cells.outlines) <= expected.rows and expected.of == "cells"
    assert all(outline.nbytes <= expected.bytes / expected.rows for outline in cells.outlines)
    with pytest.raises(UserError, match=rf"overlay of {len(rows)} rows: up to {expected.rows:,} cells, .* take fewer rows"):
        overlay(scored, rows, memory=expected.bytes - 1)
    monkeypatch.setattr(sizes, "BLOCK", 1000)
    again = overlay(scored, rows)
    assert np.array_equal(again.scores, cells.scores) and np.array_equal(again.weights, cells.weights)


def test_any_utility_on_an_overlay():
    cells = overlay(made(3))
    worst = cells.best(lambda s: s.min(1))
    assert cells.scores[worst].min() == cells.scores.min(1).max()
    with pytest.raises(UserError, match="finite numbers"):
        cells.best(lambda s: s)
    with pytest.raises(UserError, match="two or three corners"):
        overlay(made(4))
    with pytest.raises(UserError, match="no rows"):
        overlay(made(3), [])


# -- evaluations


@pytest.mark.slow
def test_tree_evaluation_is_the_plain_one():
    ensemble = EnsembleLM(model(3), NAMES[:3])

    def plain(w):
        return {k: float(v.mean()) for k, v in score(PROMPTS, ensemble.reply(PROMPTS, weights=w, max_new_tokens=8)).items()}

    fast = TreeEvaluation(tree(3), score)
    ours = hierarchical_grid_search(fast, NAMES[:3], progress=False, by_direction=True)
    theirs = hierarchical_grid_search(plain, NAMES[:3], progress=False)
    columns = ["level", "point", "w_a0", "w_a1", "w_a2", "a0", "a1", "a2", "mean"]
    pd.testing.assert_frame_equal(ours.table[columns], theirs.table[columns])
    assert ours.best == theirs.best and ours.evaluated < theirs.evaluated
    by_map = full_grid(made(3).evaluate, NAMES[:3], 9, progress=False, space="simplex")
    by_tree = full_grid(fast, NAMES[:3], 9, progress=False, space="simplex")
    assert by_map.table["mean"].to_numpy() == pytest.approx(by_tree.table["mean"].to_numpy())


def test_intervals():
    values = np.random.default_rng(0).normal(3, 2, 40)
    mean, low, high = interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high)) and mean == pytest.approx(values.mean())
    with pytest.raises(UserError, match="at least 2 values"):
        interval(np.ones(1))


def test_confirmation_names_what_was_promised():
    fresh = {"a0": torch.tensor([0.1, 0.3, 0.5]), "a1": torch.tensor([0.2, 0.2, 0.8])}
    table = confirm({"a0": 0.6, "a1": 0.9}, fresh).set_index("objective")
    assert list(table.index) == ["a0", "a1", "mean"]
    assert table.loc["mean", "promised"] == pytest.approx(0.75) and table.loc["mean", "fresh"] == pytest.approx(0.35)
    assert (table["low"] < table["fresh"]).all() and (table["fresh"] < table["high"]).all() and (table["n"] == 3).all()
    with pytest.raises(UserError, match="no objective in common"):
        confirm({"warmth": 1.0}, fresh)
