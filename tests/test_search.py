import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import SearchConfig
from emorl_lite.base.weights import direction
from emorl_lite.search.grid import best_cell, count_redundancy, full_grid, hierarchical_grid_search
from emorl_lite.search.score_table import DEGENERATE, EvaluationError, weight_columns

NAMES = ["reflection", "empathy", "fluency", "warmth"]


def quadratic(maximum, steepness):
    """Separable, concave, 0 at the zero vector, largest at `maximum`; one axis an objective."""

    def evaluate(weights):
        axes = zip(maximum, steepness, weights, strict=True)
        return {name: b * w * (2 * m - w) for name, (m, b, w) in zip(NAMES, axes, strict=False)}

    return evaluate


def search(evaluate, d=3, path=None, **config):
    return hierarchical_grid_search(evaluate, NAMES[:d], SearchConfig(**config), path, progress=False)


axis = st.tuples(st.floats(0, 1), st.floats(0.1, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(axis, min_size=2, max_size=3), st.sampled_from([(3, 1), (3, 3), (4, 2), (5, 2)]))
def test_equals_the_full_grid_on_separable_concave_quadratics(axes, shape):
    p, levels = shape
    maximum, steepness = zip(*axes, strict=True)
    evaluate = quadratic(maximum, steepness)
    ours = search(evaluate, len(axes), levels=levels, points_per_axis=p)
    full = full_grid(evaluate, NAMES[: len(axes)], (p - 1) ** levels + 1, progress=False)
    assert max(ours.table["mean"]) == pytest.approx(max(full.table["mean"]), abs=1e-9)
    assert sum(ours.best_scores.values()) == pytest.approx(sum(full.best_scores.values()), abs=1e-9)
    spacing = 1 / (p - 1) ** levels
    if max(maximum) > spacing:  # else the nearest grid point is the zero vector, which is never the best
        assert all(abs(w - m) <= spacing / 2 + 1e-9 for w, m in zip(ours.best, maximum, strict=True))


@pytest.mark.parametrize("d", [2, 3, 4])
def test_counts(d):
    calls = []

    def evaluate(weights):
        calls.append(weights)
        return quadratic([0.3, 0.8, 0.55, 0.1], [1.0] * 4)((*weights, *[0.0] * (4 - d)))

    result = search(evaluate, d)
    assert result.listed == 5 * 3**d
    distinct = 3**d + 4 * (3**d - 2**d)  # each further level shares its corners with the one before
    assert result.evaluated == len(calls) == len(set(calls)) == distinct - 1
    assert (0.0,) * d not in calls
    assert list(result.table["point"]) == list(range(1, 3**d + 1)) * 5


def test_the_paper_s_count_of_redundant_points():
    result = search(quadratic([0.78125, 0.5, 0.0625], [1.0] * 3))
    assert count_redundancy(result.table[result.table["level"] == 1]) == {
        "points": 27,
        "distinct_points": 27,
        "directions": 19,
        "degenerate": 1,
    }
    every = count_redundancy(result.table)
    assert (every["points"], every["distinct_points"]) == (135, 103)
    assert every["directions"] < 103


@given(st.tuples(*[st.integers(0, 64)] * 3), st.integers(1, 64))
def test_a_direction_ignores_length_and_nothing_else(point, length):
    shortest = direction([x / 64 for x in point])
    assert shortest == direction([x / 64 * length / 64 for x in point])
    assert math.gcd(*shortest) in (0, 1)
    assert np.allclose(np.cross(shortest, point), 0)


def test_thirds_are_read_exactly():
    assert direction([1 / 3, 2 / 3, 1.0]) == (1, 2, 3)


def test_bounds_nest_and_halve_around_the_maximum():
    maximum = [0.3, 0.8, 0.55]
    bounds = search(quadratic(maximum, [1.0] * 3)).bounds
    assert [b.shape for b in bounds] == [(3, 2)] * 5
    assert np.array_equal(bounds[0], [[0, 1]] * 3)
    for outer, inner in itertools.pairwise(bounds):
        assert (inner[:, 0] >= outer[:, 0]).all() and (inner[:, 1] <= outer[:, 1]).all()
        assert np.allclose(np.ptp(inner, axis=1), np.ptp(outer, axis=1) / 2)
    assert all(low <= m <= high for (low, high), m in zip(bounds[-1], maximum, strict=True))


def test_cell_by_hand():
    # Sums of the four cells: 0+1+2+3 = 6, 1+0+3+9 = 13, 2+3+8+0 = 13, 3+9+0+0 = 12. Of the two 13s the first, rows 0-1 and columns 1-2.
    assert best_cell(np.array([[0, 1, 0], [2, 3, 9], [8, 0, 0]])) == (0, 1)
    assert best_cell(np.array([[0, 1, 0], [2, 3, 9], [9, 0, 0]])) == (1, 0)


def test_returns_the_best_point_ever_seen_even_outside_the_last_cube():
    spike = (1.0, 0.0)

    def evaluate(weights):
        return dict.fromkeys(NAMES[:2], 0.9 if weights == spike else weights[1] / 2)

    result = search(evaluate, 2, levels=3)
    assert result.best == spike
    assert not (result.bounds[-1][1][0] <= spike[1] <= result.bounds[-1][1][1])


def test_the_zero_vector_scores_nothing_and_never_wins():
    result = search(lambda weights: dict.fromkeys(NAMES[:3], -sum(weights)), levels=2)
    zero = result.table[result.table["note"] == DEGENERATE]
    assert len(zero) == 2 and (zero[["mean", *NAMES[:3]]] == 0).all(axis=None)
    assert any(result.best) and max(result.table["mean"]) == 0


def test_repeated_points_take_the_earlier_scores():
    table = search(quadratic([0.3, 0.8, 0.55], [1.0] * 3)).table
    again = table[table["note"].str.startswith("seen at level")]
    assert len(again)
    for _, rows in table.groupby(weight_columns(table)):
        assert rows["mean"].nunique() == 1
        first = rows.iloc[0]
        if first["note"] != DEGENERATE:
            assert first["note"] == "" and set(rows["note"].iloc[1:]) <= {f"seen at level {first['level']}"}


class Flaky:
    """Fails once, at its n-th call."""

    def __init__(self, n):
        self.calls, self.n, self.inner = 0, n, quadratic([0.31, 0.77, 0.52], [1.0, 0.7, 0.3])

    def __call__(self, weights):
        self.calls += 1
        if self.calls == self.n:
            raise RuntimeError("out of memory")
        return self.inner(weights)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_resume_gives_the_same_table_without_evaluating_again(tmp_path, n):
    path = tmp_path / "search.csv"
    flaky = Flaky(n)
    with pytest.raises(EvaluationError, match="weights") as caught:
        search(flaky, path=path)
    kept = pd.read_csv(path)
    assert len(kept) == len(caught.value.table) and (kept["note"].isna()).sum() == n - 1
    assert tuple(caught.value.weights) not in set(kept[weight_columns(kept)].itertuples(index=False, name=None))
    resumed = search(flaky, path=path)
    whole = search(Flaky(0))
    pd.testing.assert_frame_equal(resumed.table.drop(columns="seconds"), whole.table.drop(columns="seconds"))
    assert resumed.best == whole.best and resumed.best_scores == whole.best_scores
    assert flaky.calls == whole.evaluated + 1
    finished = search(lambda weights: pytest.fail("evaluated again"), path=path)
    pd.testing.assert_frame_equal(finished.table, resumed.table)


def test_a_line_cut_short_is_scored_again(tmp_path):
    path = tmp_path / "search.csv"
    evaluate = quadratic([0.31, 0.77, 0.52], [1.0] * 3)
    whole = search(evaluate, path=path, points_per_axis=4, levels=2)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:9]) + lines[9][:-4])
    resumed = search(evaluate, path=path, points_per_axis=4, levels=2)
    pd.testing.assert_frame_equal(resumed.table.drop(columns="seconds"), whole.table.drop(columns="seconds"))
    finished = search(lambda weights: pytest.fail("evaluated again"), path=path, points_per_axis=4, levels=2)
    pd.testing.assert_frame_equal(finished.table, resumed.table)


@pytest.mark.parametrize(
    ("objectives", "config", "provenance", "message"),
    [
        (["reflection", "warmth"], {}, {}, "objectives"),
        (NAMES[:2], {"levels": 3}, {}, "levels = 2, this search has 3"),
        (NAMES[:2], {"points_per_axis": 4}, {}, "points_per_axis = 3, this search has 4"),
        (NAMES[:2], {"validation_prompts": 7}, {}, "validation_prompts"),
        (NAMES[:2], {}, {"seed": 1}, "provenance"),
    ],
)
def test_a_table_of_another_search_is_refused(tmp_path, objectives, config, provenance, message):
    path = tmp_path / "search.csv"
    search(quadratic([0.3, 0.4], [1.0] * 2), 2, path, levels=2)
    with pytest.raises(UserError, match=message) as caught:
        hierarchical_grid_search(lambda w: {}, objectives, SearchConfig(**{"levels": 2} | config), path, False, provenance)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["row removed", "mean edited", "row repeated", "not UTF-8", "zeros", "cut"])
def test_what_was_changed_in_a_table_is_found_and_scored_again(tmp_path, capsys, damage):
    path = tmp_path / "search.csv"
    evaluate = quadratic([0.3, 0.4], [1.0] * 2)
    whole = search(evaluate, 2, path, levels=2)
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    changed = {
        "row removed": b"".join([*lines[:3], *lines[4:]]),
        "mean edited": b"".join([*lines[:5], lines[5].replace(b"0.0,,", b"0.5,,").replace(b"0.", b"0.9", 1), *lines[6:]]),
        "row repeated": good + lines[-1],
        "not UTF-8": good[:200] + b"\xe9" + good[201:],
        "zeros": good[:300] + bytes(len(good) - 301) + b"\n",
        "cut": good[:-40],
    }[damage]
    path.write_bytes(changed)
    again = search(evaluate, 2, path, levels=2)
    pd.testing.assert_frame_equal(again.table.drop(columns="seconds"), whole.table.drop(columns="seconds"))
    said = capsys.readouterr().err
    if damage == "cut":  # a writer was killed: nothing is lost
        assert said == "" and not list(tmp_path.glob("*damaged*"))
    else:
        assert "is not as it was written" in said and said.count("\n") == 1
        assert (tmp_path / "search.damaged-1.csv").read_bytes() == changed
    search(lambda w: pytest.fail("evaluated again"), 2, path, levels=2)


def test_a_table_without_checksums_goes_on(tmp_path):
    path = tmp_path / "search.csv"
    evaluate = quadratic([0.3, 0.4], [1.0] * 2)
    whole = search(evaluate, 2, path, levels=2)
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines[:7]) + "\n")
    again = search(evaluate, 2, path, levels=2)
    pd.testing.assert_frame_equal(again.table.drop(columns="seconds"), whole.table.drop(columns="seconds"))
    assert "check" not in pd.read_csv(path).columns


def test_damaged_tables_are_refused(tmp_path):
    path = tmp_path / "search.csv"
    evaluate = quadratic([0.3, 0.4], [1.0] * 2)
    search(evaluate, 2, path, levels=2)
    good = path.read_text()
    lines = good.splitlines(keepends=True)

    def refused(text, message):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            search(evaluate, 2, path, levels=2)

    old = [line.rpartition(",")[0] + "\n" for line in lines]  # of before there were checksums
    refused("".join([*old[:3], *old[4:]]), "row 3: not the point")
    refused("".join(old).replace("1,2,", "1,x,", 1), "row 2: could not convert")
    refused("a,b\n" + "".join(lines[1:]), "columns a, b")
    refused("".join([*old, old[-1]]), "holds 19 rows")
    settings = path.with_suffix(".search.json")
    whole = settings.read_text()
    for broken, message in [(whole[:40], "cut off, or no JSON"), ("[]", "it holds a list"), ("", "it is empty")]:
        settings.write_text(broken)
        refused(good, message)
    path.with_suffix(".search.json").unlink()
    refused(good, "is missing")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_must_be_numbers(value):
    with pytest.raises(UserError, match=r"weights \(0\.0, 0\.5\): the evaluation returned .* for empathy"):
        search(lambda weights: {"reflection": 1.0, "empathy": value}, 2)


def test_scores_must_be_there():
    with pytest.raises(UserError, match=r"weights \(0\.0, 0\.5\): the evaluation returned no score for empathy"):
        search(lambda weights: {"reflection": 1.0}, 2)


def test_a_user_error_stays_one_and_names_the_weights():
    def evaluate(weights):
        raise UserError("no prompts: the data set is empty")

    with pytest.raises(UserError, match=r"weights \(0\.0, 0\.5\): no prompts"):
        search(evaluate, 2)


@pytest.mark.parametrize(
    ("objectives", "config", "message"),
    [
        (["reflection"], {}, "at least 2 objectives"),
        (NAMES[:2], {"levels": 0}, "levels"),
        (NAMES[:2], {"points_per_axis": 2}, "points.per.axis"),
        (["empathy", "empathy"], {}, "repeat"),
        (["empathy", "mean"], {}, "collide"),
    ],
)
def test_mistakes_in_the_settings(objectives, config, message):
    with pytest.raises(UserError, match=message):
        hierarchical_grid_search(lambda w: {}, objectives, SearchConfig(**config), progress=False)


def test_full_grid_counts_and_resumes(tmp_path):
    path = tmp_path / "full.csv"
    evaluate = quadratic([0.3, 0.4], [1.0] * 2)
    result = full_grid(evaluate, NAMES[:2], 5, path, progress=False)
    assert (result.listed, result.evaluated) == (25, 24)
    again = full_grid(lambda w: pytest.fail("evaluated again"), NAMES[:2], 5, path, progress=False)
    assert again.best == result.best == (0.25, 0.5)
    with pytest.raises(UserError, match=r"search = full"):
        search(evaluate, 2, path)
