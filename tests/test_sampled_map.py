"""Sampled replies have an exact map, with the temperature as a further corner; and what their optimum is worth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
from tiny import ADAPTERS, PROMPTS

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.corners import adapter_corners, with_temperature
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import ExactMap, check_map, exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.sampled import (
    along,
    at_temperature,
    common_noise_gain,
    cross_fitted,
    of_samples,
    sample_scores,
    sample_sizes,
    sampled_value,
    samples_needed,
    temperature_line,
    temperature_of,
    value_of,
)
from emorl_lite.exact.scored_map import ScoredMap, scored_map

LOWEST, HIGHEST, SAMPLES = 0.5, 2.0, 2


@cache
def model(kind: str):
    lm = tiny.language_model(kind, adapters=3)
    lm.model.double()
    return lm


@cache
def built(samples: int = 6) -> ScoredMap:
    """A scored map of two prompts: the share of even words, and of ends."""

    def score(prompts: list[str], replies: list[str]) -> dict[str, np.ndarray]:
        words = [[int(w[1:]) for w in reply.split() if w[0] == "w"] for reply in replies]
        return {
            "even": np.array([np.mean([w % 2 == 0 for w in ws] or [0]) for ws in words]),
            "few": np.array([1 / (1 + len(ws)) for ws in words]),
        }

    return scored_map(exact_map(PrefixTree(model("llama"), ADAPTERS, PROMPTS[:2], max_new_tokens=5, samples=samples)), score)


def weights(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(d), n)


# -- some of the samples


def test_a_map_of_some_samples_is_that_part_of_the_map():
    scored, w, chosen = built(), weights(40), [4, 1, 3]
    part = of_samples(scored, chosen)
    check_map(part.map)
    assert np.array_equal(sample_scores(part, w), sample_scores(scored, w)[:, :, chosen])
    assert np.allclose(sample_scores(scored, w).mean((1, 2)), scored.means(w).mean(1))
    assert np.allclose(sample_scores(scored, w, {"few": 2.0}).mean((1, 2)), 2 * scored.means(w)[:, 1])
    whole = of_samples(scored, range(6))
    assert best_weights(whole).value == best_weights(scored).value
    for wrong in ([], [6], [1, 1], [-1]):
        with pytest.raises(UserError, match="sample"):
            of_samples(scored, wrong)


# -- the value of fixed weights


def test_standard_errors_are_those_of_independent_draws():
    rng = np.random.default_rng(0)
    scores = rng.random((5, 7)) + np.arange(5)[:, None]
    found = value_of(scores)
    assert found.value == pytest.approx(scores.mean())
    assert found.within == pytest.approx(np.sqrt(sum(line.var(ddof=1) / 7 for line in scores)) / 5)
    assert found.between == pytest.approx(scores.mean(1).std(ddof=1) / np.sqrt(5))
    low, high = found.interval()
    assert low < found.value < high and found.interval(new_prompts=True)[1] > high
    assert np.isnan(value_of(scores[:, :1]).within) and np.isnan(value_of(scores[:1]).between)
    assert value_of(np.ones((3, 4))).within == 0
    with pytest.raises(UserError, match=r"expected \[B prompts, S samples\]"):
        value_of(scores[0])
    assert sampled_value(built(), [1, 1, 1] / np.float64(3)).value == pytest.approx(built().means(np.ones(3) / 3).mean())


def test_standard_errors_are_the_spread_of_all_samples_that_could_be():
    """Drawn with replacement from a prompt's scores, the mean spreads as `within` says (with the finite set's own variance)."""
    scores = np.array([[0.0, 1.0], [0.2, 0.6]])
    means = [np.mean([a, b, c, d]) for a in scores[0] for b in scores[0] for c in scores[1] for d in scores[1]]
    assert value_of(scores).within == pytest.approx(np.std(means) * np.sqrt(2))  # ddof=1 of 2 values doubles the variance


def test_enough_samples_make_the_error_longer_by_the_share_at_most():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(200, 1)) * 0.5 + rng.normal(size=(200, 8))
    noise = scores.var(1, ddof=1).mean()
    prompts = scores.mean(1).var(ddof=1) - noise / 8
    for share in (0.05, 0.1, 0.5):
        needed = samples_needed(scores, share)
        longer = [np.sqrt((prompts + noise / s) / prompts) - 1 for s in (needed, needed - 1)]
        assert longer[0] <= share + 1e-9 and (needed == 1 or longer[1] > share)
    assert samples_needed(np.arange(6.0).repeat(3).reshape(6, 3)) == 1
    assert samples_needed(np.tile([0.0, 1.0], (6, 1))) == np.inf
    with pytest.raises(UserError, match="at least 2 prompts and 2 samples"):
        samples_needed(scores[:, :1])


def test_common_noise_is_compared_with_noise_of_ones_own():
    scored, (a, b) = built(), weights(2, seed=3)
    x, y = sample_scores(scored, [a, b])
    common, independent = (x - y).var(1, ddof=1).mean(), x.var(1, ddof=1).mean() + y.var(1, ddof=1).mean()
    assert common_noise_gain(scored, a, b) == pytest.approx(independent / common)
    assert common_noise_gain(scored, b, a) == pytest.approx(independent / common)
    assert common_noise_gain(scored, a, a) == np.inf
    with pytest.raises(UserError, match="2 samples"):
        common_noise_gain(of_samples(scored, [0]), a, b)


def test_a_utility_of_other_objectives_is_refused():
    for ask in (sample_scores, sampled_value):
        with pytest.raises(UserError, match="'evne' is unknown"):
            ask(built(), weights(1)[0], {"evne": 1.0})


# -- the value of chosen weights


@pytest.mark.parametrize("folds", [0, 2, 3])
def test_cross_fitting_scores_each_fold_by_the_choice_of_the_others(folds):
    scored = built()
    found = cross_fitted(scored, folds)
    parts = np.array_split(np.arange(6), folds or 6)
    assert len(found.weights) == len(parts)
    values = np.empty((2, 6))
    for part, chosen in zip(parts, found.weights, strict=True):
        others = of_samples(scored, np.setdiff1d(np.arange(6), part))
        assert others.mean[others.map.locate(chosen)].mean() == pytest.approx(best_weights(others).value)
        values[:, part] = sample_scores(scored, chosen)[0][:, part]
    assert found.value == pytest.approx(values.mean()) and found.error == pytest.approx(value_of(values).within)
    assert found.promised == best_weights(scored).value and found.optimism == found.promised - found.value
    for wrong in (1, 7):
        with pytest.raises(UserError, match="folds"):
            cross_fitted(scored, wrong)


def test_without_noise_nothing_is_flattered():
    """Samples that are copies of one another: whoever chooses by some has seen all."""
    one = of_samples(built(), [2])
    regions = [replace(r, row=3 * r.row + k) for r in one.map.regions for k in range(3)]
    found = cross_fitted(ScoredMap(replace(one.map, regions=regions, samples=3), one.names, one.scores.repeat(3, 0)))
    assert found.optimism == pytest.approx(0, abs=1e-12) and found.error == 0


def test_a_table_of_sample_sizes_scores_blocks_on_the_other_samples():
    scored = built()
    table = sample_sizes(scored, [1, 3], repeats=2, seconds=6.0)
    assert table["samples"].tolist() == [1, 3] and table["blocks"].tolist() == [2, 2]
    best = [best_weights(of_samples(scored, block)) for block in ([0, 1, 2], [3, 4, 5])]
    fresh = [sample_scores(scored, b.weights)[0][:, others].mean() for b, others in zip(best, ([3, 4, 5], [0, 1, 2]), strict=True)]
    assert table["promised"][1] == pytest.approx(np.mean([b.value for b in best])) and table["fresh"][1] == pytest.approx(np.mean(fresh))
    assert np.allclose(table["optimism"], table["promised"] - table["fresh"])
    assert table["regions"][1] == len(scored.map.regions) / 2 and table["seconds"][1] >= 3
    assert table["promised"][0] >= scored.means(table.attrs["optimum"]).mean()
    with pytest.raises(UserError, match="samples 6"):
        sample_sizes(scored, [6])


# -- the temperature as a corner


def test_temperatures_are_points_and_back():
    w, t = weights(20), np.random.default_rng(0).uniform(LOWEST, HIGHEST, 20)
    points = at_temperature(w, t, LOWEST)
    assert np.allclose(points.sum(1), 1) and (points >= 0).all()
    again, temperatures = temperature_of(points, LOWEST)
    assert np.allclose(again, w) and np.allclose(temperatures, t)
    assert np.array_equal(at_temperature(w[:1], LOWEST, LOWEST)[:, -1], [0])
    infinite = at_temperature(w[:1], np.inf, LOWEST)
    assert np.array_equal(infinite, [[0, 0, 0, 1]]) and temperature_of(infinite, LOWEST)[1] == np.inf
    with pytest.raises(UserError, match="below the lowest"):
        at_temperature(w, 0.4, LOWEST)


def tree_at(kind: str, temperature: float, seed: int = 0, samples: int = SAMPLES) -> PrefixTree:
    return PrefixTree(model(kind), ADAPTERS, PROMPTS[:2], max_new_tokens=5, samples=samples, temperature=temperature, seed=seed)


def hot_tree(kind: str, lowest: float = LOWEST, highest: float = HIGHEST) -> PrefixTree:
    corners = with_temperature(adapter_corners(model(kind), ADAPTERS), lowest, highest)
    return PrefixTree.of(corners, PROMPTS[:2], max_new_tokens=5, samples=SAMPLES)


@cache
def hot_map(kind: str) -> ExactMap:
    return exact_map(hot_tree(kind))


def agree(found: ExactMap, points: np.ndarray, decoded: list[list[str]]) -> bool:
    """Whether replies [B * S][n] at points are those of the map, borders aside."""
    looked_up = found.replies(points)
    differ = [(row, i) for row in range(len(decoded)) for i in range(len(points)) if decoded[row][i] != looked_up[row][i]]
    return len(differ) < 0.005 * len(points) * len(decoded) and all(found.margins(points[i])[0, row] < 1e-6 for row, i in differ)


@tiny.kinds()
def test_the_map_of_weights_and_temperatures_is_decoding(kind):
    found = hot_map(kind)
    check_map(found)
    rng = np.random.default_rng(2)
    for t in (LOWEST, 0.7, 1.0, HIGHEST):  # a tree of that temperature, which knows nothing of the corner
        w = rng.dirichlet(np.ones(3), 250)
        assert agree(found, at_temperature(w, t, LOWEST), tree_at(kind, t).replies(w))
    deepest = [region.piece.deepest[0] for region in found.regions]
    w, temperatures = temperature_of(deepest, LOWEST)
    chosen = np.random.default_rng(3).permutation(len(deepest))[:40]
    for i in chosen:  # each has a temperature of its own
        region, tree = found.regions[i], tree_at(kind, float(temperatures[i]))
        assert tree.replies(w[i])[region.row][0] == region.reply or region.piece.deepest[1] < 1e-6
    replies = hot_tree(kind).replies(np.array(deepest))
    wrong = [r for i, r in enumerate(found.regions) if replies[r.row][i] != r.reply]
    assert all(r.piece.deepest[1] < 1e-6 for r in wrong) and len(wrong) < 0.01 * len(deepest)


def test_at_one_temperature_it_is_the_plain_map():
    """The cut through the larger map at the lowest temperature is the map of that temperature."""
    w = weights(500, seed=4)
    assert agree(exact_map(tree_at("llama", LOWEST)), w, hot_map("llama").replies(at_temperature(w, LOWEST, LOWEST)))


def test_a_cold_sample_is_the_greedy_reply():
    cold = tree_at("llama", 1e-4)
    greedy = PrefixTree(model("llama"), ADAPTERS, PROMPTS[:2], max_new_tokens=5)
    w = weights(200, seed=5)
    sampled, expected = cold.replies(w), greedy.replies(w)
    same = [sampled[p * SAMPLES + s][i] == expected[p][i] for p in range(2) for s in range(SAMPLES) for i in range(len(w))]
    assert np.mean(same) > 0.99  # all but those within the noise of a border: .0001 times a number of size 10


def test_along_a_line_the_means_are_those_of_the_map():
    scored, (a, b) = built(), weights(2, seed=6)
    borders, means = along(scored, a, b)
    assert borders[0] == 0 and borders[-1] == 1 and (np.diff(borders) > 0).all() and len(means) == len(borders) - 1
    x = np.random.default_rng(7).random(300)
    x = x[np.abs(x[:, None] - borders).min(1) > 1e-6]
    assert np.allclose(means[np.searchsorted(borders, x) - 1], scored.means(a + x[:, None] * (b - a)))
    rows = sum(len({i for i in line if i >= 0}) for line in scored.map.locate(a + np.linspace(0, 1, 5001)[:, None] * (b - a)).T)
    assert len(borders) - 2 >= rows - 12  # each row's changes of region are borders


def test_the_line_of_temperatures_is_a_line_of_the_larger_map():
    w = weights(1, seed=8)[0]
    corners = temperature_line(adapter_corners(model("llama"), ADAPTERS), w, LOWEST, HIGHEST)
    found = exact_map(PrefixTree.of(corners, PROMPTS[:2], max_new_tokens=5, samples=SAMPLES))
    check_map(found)
    t = np.random.default_rng(9).uniform(LOWEST, HIGHEST, 300)
    points = at_temperature(np.tile(w, (300, 1)), t, LOWEST)
    assert agree(hot_map("llama"), points, found.replies(points[:, -1:]))  # type: ignore[arg-type]
    for x in t[:3]:
        assert agree(hot_map("llama"), at_temperature(w, x, LOWEST), tree_at("llama", float(x)).replies(w))


def test_a_line_of_temperatures_is_of_one_mixture_of_logits():
    corners = adapter_corners(model("llama"), ADAPTERS)
    with pytest.raises(UserError, match="one weight vector, got 2"):
        temperature_line(corners, weights(2), LOWEST, HIGHEST)
    with pytest.raises(UserError, match="not probabilities"):
        temperature_line(adapter_corners(model("llama"), ADAPTERS, "probabilities"), weights(1), LOWEST, HIGHEST)
