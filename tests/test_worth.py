"""What an optimum is worth: exact suprema for any weighting of the prompts, random signs, resamples, held-out prompts, learning curves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from random_maps import random_map

from emorl_lite.base.errors import UserError
from emorl_lite.exact.learning_curve import LearningCurve, curve_of, learning_curve
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.weightings import Branched, Listed, best_for, prompt_scores, suprema
from emorl_lite.exact.worth import held_out, optimism, rademacher, resampled
from emorl_lite.plots import worth as plots
from emorl_lite.readings import worth as readings
from emorl_lite.search.statistics import interval


def cell_scores(scored) -> np.ndarray:
    """What each prompt scores in each cell of the overlay, [C, B]."""
    return prompt_scores(scored, scored.mean, overlay(scored).weights)


# -- suprema


@pytest.mark.parametrize("d", [2, 3])
def test_both_ways_give_the_supremum_of_any_weighting(d):
    scored, rng = random_map(d, 8), np.random.default_rng(0)
    counts = np.vstack(
        [rng.choice([-1.0, 1.0], (6, 8)), rng.multinomial(8, np.full(8, 1 / 8), 6), rng.normal(size=(3, 8)), np.ones((1, 8))]
    )
    expected = (cell_scores(scored) @ counts.T).max(0) / 8
    for listed in (True, False):
        best = best_for(scored, counts, listed=listed)
        assert best.values == pytest.approx(expected, abs=1e-9)
        assert (best.scores * counts).mean(1) == pytest.approx(best.values)
        assert prompt_scores(scored, scored.mean, best.weights) == pytest.approx(best.scores)
    assert best_for(scored, np.ones(8)).values[0] == pytest.approx(best_weights(scored).value)
    assert best_for(scored, np.zeros(8)).values[0] == best_for(scored, np.zeros(8), listed=False).values[0] == 0


def test_beyond_three_corners_branch_and_bound_is_asked():
    scored = random_map(4, 6)
    assert isinstance(suprema(scored), Branched) and isinstance(suprema(random_map(3, 4)), Listed)
    counts = np.array([[1, -1, 1, -1, 1, -1], [2, 0, 0, 1, 3, 0]])
    best = best_for(scored, counts)
    w = np.random.default_rng(0).dirichlet(np.ones(4), 20_000)
    assert ((prompt_scores(scored, scored.mean, w) @ counts.T).max(0) / 6 <= best.values + 1e-12).all()


def test_a_prompt_is_the_mean_of_its_samples():
    scored = random_map(2, 4, samples=3)
    at = np.array([[0.3, 0.7]])
    located = scored.map.locate(at)[0].reshape(4, 3)
    assert prompt_scores(scored, scored.mean, at)[0] == pytest.approx(scored.mean[located].mean(1))
    assert best_for(scored, np.ones(4)).values[0] == pytest.approx(best_weights(scored).value)
    with pytest.raises(UserError, match="expected 4 finite numbers, one a prompt"):
        best_for(scored, np.ones(12))


# -- random signs


@pytest.mark.parametrize("utility", [None, {"r0": 1.0}, {"r0": 0.5, "r2": -0.5}])
def test_complexity_by_every_sign_and_every_cell(utility):
    scored = random_map(3, 5)
    worth = scored.mean if utility is None else scored.scores @ [utility.get(name, 0.0) for name in scored.names]
    cells = prompt_scores(scored, worth, overlay(scored).weights)
    expected = np.mean([(cells @ np.array(signs)).max() / 5 for signs in product([-1.0, 1.0], repeat=5)])
    for best in (None, suprema(scored, utility, listed=False)):
        found = rademacher(scored, 32, utility, best=best)
        assert found.exact and found.error == 0 and found.value == pytest.approx(expected)
    drawn = rademacher(scored, 31, utility)
    assert not drawn.exact and abs(drawn.value - expected) < 5 * drawn.error


def test_complexity_of_nothing_to_choose_and_its_bounds():
    one = rademacher(random_map(2, 6, words=1), 64)
    assert one.value == pytest.approx(0, abs=1e-12)  # one candidate fits no signs
    found = rademacher(random_map(3, 6), 64)
    assert 0 < found.value <= 0.5 + 1e-12 and found.excess() == 2 * found.value
    assert found.reach(0.99) > found.reach(0.9) > found.excess()
    for wrong in (0.0, 1.0):
        with pytest.raises(UserError, match="confidence"):
            found.reach(wrong)


# -- resampled prompts


def test_optimism_is_what_the_cells_say():
    scored = random_map(3, 6)
    found, cells = optimism(scored, 50, seed=3), cell_scores(scored)
    counts = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 50)
    chosen = (cells @ counts.T).argmax(0)
    assert found.on_resample == pytest.approx((cells @ counts.T).max(0) / 6)
    assert found.on_all == pytest.approx(cells[chosen].mean(1))
    assert found.optimism == pytest.approx((found.on_resample - found.on_all).mean())
    assert found.corrected == pytest.approx(best_weights(scored).value - found.optimism)
    absent = counts[:, 2] == 0
    assert found.left_out[2] == pytest.approx(cells[chosen[absent], 2].mean())
    assert found.on_all.max() <= found.promised + 1e-12 and found.optimism > -5 * found.error
    by_branches = optimism(scored, 50, seed=3, best=suprema(scored, listed=False))
    assert by_branches.on_resample == pytest.approx(found.on_resample)


def test_nothing_to_choose_is_not_flattered():
    found = optimism(random_map(2, 20, words=1), 200)
    assert found.on_all == pytest.approx(found.promised)
    assert abs(found.optimism) < 4 * found.error and found.expected == pytest.approx(found.promised, abs=1e-9)


def population(rng: np.random.Generator, prompts: int, candidates: int = 60, signal: float = 0.1) -> np.ndarray:
    """Scores [C, N] of prompts that react to a knob in steps of their own."""
    knob, scores = np.linspace(0, 1, candidates), np.empty((candidates, prompts))
    for j in range(prompts):
        borders = np.sort(rng.uniform(size=int(rng.integers(3, 9))))
        middles = (np.append(0, borders) + np.append(borders, 1)) / 2
        levels = 0.5 + signal * np.sin(3 * middles) + 0.25 * rng.normal(size=len(middles))
        scores[:, j] = levels.clip(0, 1)[np.searchsorted(borders, knob)]
    return scores


@pytest.mark.parametrize("n", [16, 32])
def test_the_interval_for_new_prompts_holds_the_truth_and_the_naive_one_does_not(n):
    rng = np.random.default_rng(n)
    everyone, held, naive, flattered = population(rng, 3000), 0, 0, 0
    for trial in range(100):
        sample = everyone[:, rng.integers(0, 3000, n)]
        found = resampled(Listed(sample, np.zeros((len(sample), 2))), n, 100, trial)
        truth = float(everyone[sample.mean(1).argmax()].mean())
        _, low, high = found.interval()
        _, naive_low, naive_high = interval(found.scores)
        held += low <= truth <= high
        naive += naive_low <= truth <= naive_high
        flattered += found.promised > truth
    assert held >= 90 and naive <= 85 and flattered >= 80


def test_prompts_held_out():
    scored = random_map(3, 12)
    found, cells = held_out(scored, [0, 5, 7, 11]), cell_scores(scored)
    others = [j for j in range(12) if j not in (0, 5, 7, 11)]
    best = cells[:, others].mean(1).argmax()
    assert found.promised == pytest.approx(cells[best, others].mean()) and found.prompts == 4
    assert (found.value, found.low, found.high) == pytest.approx(interval(cells[best, [0, 5, 7, 11]]))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: rademacher(random_map(2, 1)), "at least 2 prompts are needed, the map has 1"),
        (lambda: optimism(random_map(2, 3)), "at least 4 prompts"),
        (lambda: optimism(random_map(2, 4), 1), "resamples 1"),
        (lambda: held_out(random_map(2, 7), range(3)), "at least 8 prompts"),
        (lambda: held_out(random_map(2, 12), range(9)), "9 of 12 prompts; expected 4 to 8"),
        (lambda: held_out(random_map(2, 12), [99]), "there are 12, numbered from 0"),
        (lambda: optimism(random_map(2, 4), utility={"warmth": 1.0}), "'warmth' is unknown"),
        (lambda: learning_curve(random_map(2, 11)), "at least 12 prompts"),
        (lambda: learning_curve(random_map(2, 12), sizes=[4, 8, 12]), "must be at most 9"),
        (lambda: learning_curve(random_map(2, 12), sizes=[4, 8]), "at least 3 different sizes"),
        (lambda: learning_curve(random_map(2, 12), sizes=[4, float("nan"), 8]), "size nan"),
        (lambda: learning_curve(random_map(2, 12), sizes="few"), "size 'f'"),  # type: ignore[arg-type]
        (lambda: learning_curve(random_map(2, 12), subsets=1), "subsets 1"),
    ],
)
def test_what_cannot_be_told_is_refused(ask, message):
    with pytest.raises(UserError, match=message):
        ask()


def test_scores_that_are_no_scores_have_no_complexity():
    scored = random_map(2, 4)
    scored.scores[0, 0] = 1.5
    with pytest.raises(UserError, match=r"for scores in \[0, 1\]"):
        rademacher(scored)


# -- learning curves


def test_a_learning_curve_is_what_the_cells_say():
    scored = random_map(2, 12)
    curve, cells = learning_curve(scored, [3, 5, 9], 40, seed=2), cell_scores(scored)
    inside = np.random.default_rng(2).random((40, 12)).argsort(1) < 3
    chosen = (cells @ inside.T).argmax(0)
    assert (inside.sum(1) == 3).all()
    assert curve.promised[0, 4] == pytest.approx(cells[chosen[inside[:, 4]], 4].mean())
    assert curve.real[0, 4] == pytest.approx(cells[chosen[~inside[:, 4]], 4].mean())
    assert curve.on_all[0] == pytest.approx(cells[chosen].mean()) and curve.optimum == pytest.approx(best_weights(scored).value)
    assert (curve.table["on_all"] <= curve.optimum + 1e-12).all() and list(curve.table["prompts"]) == [3, 5, 9]


def law(factor: float, power: float, noise: float = 0.0, prompts: int = 32) -> LearningCurve:
    """A curve that follows the law, plus noise of the prompts."""
    sizes, rng = np.array([4, 6, 8, 12, 16, 24]), np.random.default_rng(0)
    fall = sizes[:, None] ** -power
    own = noise * rng.normal(size=(1, prompts))
    wobble = noise * rng.normal(size=(len(sizes), prompts))
    return LearningCurve(sizes, 0.7 + 0.2 * fall + own, 0.7 - factor * fall + own + wobble, 0 * sizes, 0.75, 100)


@pytest.mark.parametrize("power", [0.5, 0.75, 1.0])
def test_the_law_is_found_again(power):
    curve = law(0.3, power)
    assert curve.best == pytest.approx(0.7)
    assert curve.regret(16) == pytest.approx([0.3 * 16**-power] * 3)
    wanted = 0.3 * 100**-power
    found = curve.enough(wanted)
    assert found.prompts in (100, 101) and found.power == pytest.approx(power) and found.extrapolated
    assert found.low == pytest.approx(100) and found.high == pytest.approx(100)
    assert not curve.enough(0.3 * 10**-power).extrapolated


def test_an_extrapolation_that_the_data_cannot_bear_is_refused():
    with pytest.raises(UserError, match="do not rise clearly"):
        law(0.0, 0.5).enough(0.01)
    with pytest.raises(UserError, match="do not rise clearly"):
        law(0.02, 0.5, noise=0.2).enough(0.01)
    with pytest.raises(UserError, match="it may take 1,000, more than 16 times as many"):
        law(0.3, 1.0).enough(0.3 / 1000)
    with pytest.raises(UserError, match="regret 0"):
        law(0.3, 1.0).enough(0)


def test_the_best_there_is_lies_between_the_curves():
    rng = np.random.default_rng(0)
    everyone = population(rng, 3000, signal=0.3)
    best, curves = float(everyone.mean(1).max()), []
    for trial in range(12):
        sample = everyone[:, rng.integers(0, 3000, 24)]
        curves.append(curve_of(Listed(sample, np.zeros((len(sample), 2))), 24, subsets=30, seed=trial).table[["promised", "real"]])
    promised, real = np.mean([table.to_numpy() for table in curves], 0).T
    assert (promised > best).all() and (real < best).all()
    assert promised[-1] < promised[0] and real[-1] > real[0]


# -- figures and sentences


def test_figures_and_readings_say_their_numbers():
    scored = random_map(3, 16)
    best = suprema(scored)
    found, curve, signs = optimism(scored, 60, best=best), learning_curve(scored, subsets=30, best=best), rademacher(scored, 60, best=best)
    for figure, number in ((plots.optimism_histograms(found), found.promised), (plots.enough_prompts(curve), curve.optimum)):
        assert f"{number:.3f}" in figure.alt_text
    text = readings.optimism_reading(found)
    assert f"{found.corrected:.4f}" in text and "flattery" in text
    assert f"{signs.value:.4f}" in readings.rademacher_reading(signs, found.promised) and "says nothing" in readings.rademacher_reading(
        signs, 0.5
    )
    assert "at least" in readings.rademacher_reading(signs, signs.reach() + 0.1)
    middle, low, high = found.interval()
    assert "inside the interval" in readings.fresh_reading(found, (middle, low, high), 8)
    assert ": below the interval, and below the promise" in readings.fresh_reading(found, (low - 0.3, low - 0.4, low - 0.2), 8)
    assert ": above the interval, and above the promise" in readings.fresh_reading(found, (high + 1, high + 0.9, high + 1.1), 8)
    assert "held out" in readings.held_out_reading(held_out(scored, range(8)), 8)
    assert "extrapolated" in readings.curve_reading(law(0.3, 1.0), 0.005) and "no more than there are" in readings.curve_reading(
        law(0.3, 1.0), 0.1
    )
    assert "That is refused: " in readings.curve_reading(law(0.0, 0.5))
