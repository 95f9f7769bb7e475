"""Intervals over seeds and prompts at once: identities, and that they cover what they should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emorl_lite.base.errors import UserError
from emorl_lite.study.crossed import MEAN, crossed, paired, scores_by_cell, terms

pytestmark = pytest.mark.plain


def layout(seeds, prompts, between_seeds, between_prompts, rest, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = rng.normal(0, between_seeds, (seeds, 1)), rng.normal(0, between_prompts, (1, prompts))
    return mean + rows + columns + rng.normal(0, rest, (seeds, prompts))


def test_where_prompts_all_agree_it_is_students_interval_over_seeds():
    rows = np.array([0.1, -0.2, 0.4, 0.25])
    found = crossed(np.repeat(rows[:, None], 7, axis=1))
    expected = stats.ttest_1samp(rows, 0)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, expected.pvalue)) and found.degrees == pytest.approx(3)
    other = crossed(np.repeat(rows[:, None], 7, axis=1).T)  # the same of prompts
    assert (other.low, other.high) == pytest.approx((low, high))


def test_both_count():
    values = layout(5, 40, 0.2, 0.3, 0.1)
    both = crossed(values)
    seeds, prompts = stats.sem(values.mean(1)), stats.sem(values.mean(0))
    assert both.error >= max(seeds, prompts) and both.mean == pytest.approx(values.mean())
    assert crossed(-values).low == pytest.approx(-both.high) and crossed(3 * values).error == pytest.approx(3 * both.error)
    assert crossed(values + 1).error == pytest.approx(both.error)
    assert crossed(values.T) == both


def test_all_the_same_is_certain():
    nothing, something = crossed(np.zeros((3, 4))), crossed(np.full((3, 4), 0.5))
    assert (nothing.low, nothing.high, nothing.p) == (0, 0, 1) and (something.low, something.high, something.p) == (0.5, 0.5, 0)


@pytest.mark.parametrize("spreads", [(0.2, 0.2, 0.2), (0.0, 0.3, 0.3), (0.3, 0.0, 0.1), (0.0, 0.0, 0.3)])
def test_the_interval_covers_the_truth(spreads):
    """At least 94 of 100 times at 95 %, whichever of the three varies; an interval over seeds alone does not where prompts vary."""
    hits = [found.low <= 0.0 <= found.high for found in (crossed(layout(5, 50, *spreads, seed=s)) for s in range(2000))]
    assert np.mean(hits) >= 0.94
    if spreads[1] > spreads[0]:
        alone = [stats.ttest_1samp(layout(5, 50, *spreads, seed=s).mean(1), 0).pvalue > 0.05 for s in range(500)]
        assert np.mean(alone) < 0.9


@pytest.mark.parametrize("values", [np.zeros((1, 5)), np.zeros((5, 1)), np.zeros(5), np.full((3, 3), np.nan)])
def test_too_little_is_told(values):
    with pytest.raises(UserError, match="two seeds and two prompts"):
        crossed(values)


def test_terms_average_to_the_utility_of_the_means():
    scores = np.random.default_rng(0).uniform(0.01, 1, (4, 30, 3))
    means = scores.mean(1)
    assert np.allclose(terms(scores).mean(1), stats.gmean(means, axis=1)) and np.allclose(terms(scores, MEAN).mean(1), means.mean(1))
    scores[2, :, 1] = 0  # an objective given up: the geometric mean of that seed is nothing
    assert np.allclose(terms(scores)[2], 0) and np.isfinite(terms(scores)).all()
    with pytest.raises(UserError, match="geometric mean"):
        terms(scores, "sum")


def test_the_linearisation_is_the_delta_methods():
    """A prompt's term moves as the utility does when that prompt counts a little more."""
    scores = np.random.default_rng(1).uniform(0.1, 1, (1, 20, 3))
    utility = stats.gmean(scores.mean(1), axis=1)[0]
    for prompt in range(20):
        weights = np.full(20, 1 / 20)
        weights[prompt] += 1e-6
        weights /= weights.sum()
        moved = stats.gmean(np.einsum("p,pd->d", weights, scores[0]))
        assert (moved - utility) / 1e-6 == pytest.approx(terms(scores)[0, prompt] - utility, abs=1e-3)


def made_table():
    rng, rows = np.random.default_rng(2), []
    for method, choices in {"uniform": ["default"], "emorl": ["default", "grid"]}.items():
        for seed in range(3):
            for choice in choices:
                for decoding in ("greedy", "sampled"):
                    for prompt in range(6):
                        cell = {"seed": seed, "method": method, "choice": choice, "decoding": decoding, "prompt": prompt}
                        rows.append(cell | {"a": rng.uniform(0.2, 1), "b": rng.uniform(0.2, 1)})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_methods_are_paired_cell_by_cell():
    table = made_table()
    ours, theirs = paired(table, "emorl", "uniform", ["a", "b"], "sampled", MEAN)
    rows = table[table["decoding"] == "sampled"]
    pivot = rows.assign(u=(rows["a"] + rows["b"]) / 2).set_index(["method", "choice", "seed", "prompt"])["u"].sort_index()
    expected = (pivot["emorl", "grid"] - pivot["uniform", "default"]).unstack("prompt").to_numpy()
    assert ours.shape == (3, 6) and ours - theirs == pytest.approx(expected)
    by_default = scores_by_cell(table, "emorl", "greedy", "default", ["a", "b"])
    assert by_default.shape == (3, 6, 2)


def test_an_incomplete_table_is_told():
    table = made_table().sort_values(["method", "seed"])
    with pytest.raises(UserError, match="dera"):
        paired(table, "emorl", "dera", ["a", "b"], "greedy", MEAN)
    with pytest.raises(UserError, match="no complete scores of uniform"):
        paired(table.iloc[:-1], "emorl", "uniform", ["a", "b"], table.iloc[-1]["decoding"], MEAN)
    with pytest.raises(UserError, match="same seeds and prompts"):
        paired(table[~((table["method"] == "uniform") & (table["seed"] == 2))], "emorl", "uniform", ["a", "b"], "greedy", MEAN)


@pytest.mark.parametrize(("column", "changed"), [("seed", {2: 7}), ("prompt", {5: 6})])
def test_as_many_seeds_and_prompts_are_not_the_same_ones(column, changed):
    table = made_table()
    rows = table["method"] == "uniform"
    table.loc[rows, column] = table.loc[rows, column].replace(changed)
    with pytest.raises(UserError, match="same seeds and prompts"):
        paired(table, "emorl", "uniform", ["a", "b"], "greedy", MEAN)


def test_a_line_that_stands_twice_makes_up_for_none():
    rows = made_table().query("method == 'uniform' and decoding == 'greedy'").sort_values(["seed", "prompt"])
    with pytest.raises(UserError, match="no complete scores of uniform"):
        scores_by_cell(pd.concat([rows.iloc[1:], rows.iloc[[1]]]), "uniform", "greedy", None, ["a", "b"])
