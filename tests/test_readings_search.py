"""What notebooks 03 and 04 say of their numbers is right whichever way these come out."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from test_scored_map import NAMES, made, score
from test_scored_map import tree as map_tree

from emorl_lite import plots as map_plots
from emorl_lite import plots as search_plots
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.scored_map import scored_map
from emorl_lite.plots.map_explorer import explore
from emorl_lite.plots.map_page import map_page
from emorl_lite.readings import maps as map_readings
from emorl_lite.readings import mixing as mixing_readings
from emorl_lite.readings import search as search_readings
from emorl_lite.readings import search_tables as search_table_readings
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.search.score_table import DEGENERATE, SearchResult
from emorl_lite.tutorial.notebook import committed

SLIP = re.compile(r"\bnan\b|\bNone\b|[-−]0\.0+\b|(?<![\d.,/])1 (?:clients|cells|points|seeds|borders|regions)\b|\(\)|  ")


def clean(text: str) -> str:
    assert not SLIP.search(text), text
    return text


@cache
def constant(d: int):
    """A map on which nothing depends on the weights: adapters that are not trained at all."""
    lm = tiny.language_model("llama")
    for i, name in enumerate(NAMES[:d]):
        lm.add_adapter(name, seed=i)
    lm.model.double()
    return scored_map(exact_map(PrefixTree(lm, NAMES[:d], tiny.PROMPTS, max_new_tokens=4)), score)


def searched(scored, space="cube") -> SearchResult:
    return hierarchical_grid_search(scored.evaluate, scored.map.corners, progress=False, space=space)


# -- 03


def test_rounding():
    fine = mixing_readings.rounding_reading(2e-5, 1e-5, 20.0)
    assert fine.endswith("the rounding of float32.") and "**2e-05**" in fine
    assert "**more** than the rounding of float32" in mixing_readings.rounding_reading(2e-2, 1e-5, 20.0)
    assert "the rounding of bfloat16" in mixing_readings.rounding_reading(2e-2, 1e-2, 20.0, torch.bfloat16)


def test_specialists():
    same = {"a": 24, "b": 24}
    assert "to all 24 clients. Any two of the 2 adapters write different texts to at least 23 of 24 clients" in clean(
        mixing_readings.specialists_reading(same, 24, 23)
    )
    assert "Two of the 2 adapters write the same to all of them" in mixing_readings.specialists_reading(same, 24, 0)
    assert "different texts to all 24 clients" in mixing_readings.specialists_reading(same, 24, 24)
    assert "24 of 24 clients (a) and 20 of 24 clients (b)" in mixing_readings.specialists_reading({"a": 24, "b": 20}, 24, 23)


@pytest.mark.parametrize(
    ("last", "verdict"), [(0.4, "a clear rise"), (0.01, "a clear fall"), (0.21, "no clear change"), (np.nan, "no clear")]
)
def test_the_size_of_the_weights(last, verdict):
    sizes = pd.DataFrame({"c": [0.5, 1, 4], "same": [48, 48, 48], "mean": [0.2, 0.3, last], "error": [0.02, 0.02, 0.02]})
    text = mixing_readings.temperature_reading(sizes, 48)
    assert verdict in text and "no greedy text moves" in text and "end at all" not in text
    assert "At c = 0.5 only 65 % of" in mixing_readings.temperature_reading(sizes.assign(finished=[0.65, 1.0, 1.0]), 48)
    assert "greedy texts move at 1 size" in mixing_readings.temperature_reading(sizes.assign(same=[47, 48, 48]), 48)


def levels(values: dict[str, list[float]], error: float = 0.01) -> pd.DataFrame:
    weights = [(1.0, 0.0), (0.5, 0.5), (0.25, 0.75)]
    return pd.DataFrame(
        [
            {"level": level, "w_a": a, "w_b": b, "mean": mean, "error": error}
            for level, means in values.items()
            for (a, b), mean in zip(weights, means, strict=True)
        ]
    )


def test_levels_in_the_order_of_their_best():
    apart = mixing_readings.levels_reading(levels({"hidden": [0.9, 0.2, 0.3], "soup": [0.9, 0.4, 0.5]}), 32)
    assert apart.index("soup **0.500**") < apart.index("hidden **0.300**") and "0.200, more than these" in apart
    assert "differ by up to 0.200" in apart and "second by 0.200, more than two" in apart
    assert "0.200, no more than" in mixing_readings.levels_reading(levels({"hidden": [0.9, 0.2, 0.3], "soup": [0.9, 0.4, 0.5]}, 0.1), 32)
    assert "Here all are equal. At the same weights they are equal" in mixing_readings.levels_reading(
        levels({"a": [0.1] * 3, "b": [0.1] * 3}), 32
    )


@pytest.mark.parametrize(
    ("ratios", "says"),
    [
        ([0.7, 0.5], "Riding together pays."),
        ([1.4, 0.5], "at batch 16 only."),
        ([0.9, 1.1], "does not clearly pay"),
        ([0.4, 0.8], "at batch 1 only."),
    ],
)
def test_costs_on_any_machine(ratios, says):
    text = mixing_readings.cost_reading(pd.DataFrame({"batch": [1, 16], "ratio": ratios}))
    assert says in text and f"{ratios[0]:.2f} times as long at batch 1 and {ratios[1]:.2f}" in text


def test_alt_of_the_levels():
    alt = clean(mixing_readings.level_comparison_alt(levels({"hidden": [0.9, 0.2, 0.3], "soup": [0.9, 0.4, 0.5]})))
    assert "3 weight vectors for each of 2 ways" in alt and "soup 0.40 to 0.90, median 0.50" in alt


# -- 04, one run


def rows(*levels_of_means: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"level": level, "w_a": 0.5, "w_b": i / 10, "w_c": 1.0, "mean": mean, "note": DEGENERATE if mean == 0 else ""}
            for level, means in enumerate(levels_of_means, 1)
            for i, mean in enumerate(means)
        ]
    )


def test_levels_of_a_search():
    better = search_readings.levels_reading(rows([0.0, 0.3], [0.4, 0.5], [0.2, 0.45]))
    assert "0.000 (the zero vector says nothing) to 0.300; at the last from 0.200 to 0.450" in better
    assert better.endswith("found at level 2, 0.200 above the best of level 1.")
    assert search_readings.levels_reading(rows([0.1, 0.5], [0.4, 0.5])).endswith("No later level found anything better than the first.")
    assert "as good to three digits" in search_readings.levels_reading(rows([0.1, 0.5], [0.4, 0.5001]))
    assert "at the last" not in search_readings.levels_reading(rows([0.1, 0.5]))


def result(best: float, evaluated: int) -> SearchResult:
    table = pd.DataFrame({"level": 1, "mean": [best] * evaluated, "seconds": 0.0, "note": ""})
    return SearchResult(table, (0.25, 0.75), {"a": best}, [])


@pytest.mark.parametrize(("best", "says"), [(0.7, "0.200 higher"), (0.3, "0.200 lower"), (0.5001, "the same to three digits")])
def test_two_searches_beside_each_other(best, says):
    text = search_readings.spaces_reading(result(best, 18), result(0.5, 80))
    assert text.endswith(f"result on these clients is {says}.") and "62 weight vectors fewer" in text
    assert "1 weight vector more" in search_readings.spaces_reading(result(best, 81), result(0.5, 80))
    assert "as many weight vectors" in search_readings.spaces_reading(result(best, 80), result(0.5, 80))


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.99999, "over 99.99 %"), (0.5, "50.00 %"), (1e-7, "under 0.01 %"), (0.0, "0 %"), (1 - 1e-12, "100 %")],
)
def test_portions(share, text):
    assert search_readings.portion(share) == text


def test_ties_name_all():
    assert search_readings.ranks_first({"a": 0.5, "b": 0.5001, "c": 0.4}, 3) == "a and b"
    assert search_readings.ranks_first({"a": 0.5, "b": 0.6}) == "b"


def test_candidates():
    assert "1 of 2,000 tokens is left (“I”)" in map_readings.candidates_reading(["I"], 2000, [1, 1])
    assert map_readings.candidates_reading(["I"], 2000, [1, 1]).count("the number left is 1.") == 1
    assert "“b”, …)" in map_readings.candidates_reading(["a", "b", "c"], 2000, [3, 4], shown=2)
    assert "start of this client's reply" in map_readings.candidates_reading(["a"], 2000, [3, 4])


def test_benchmark_sentences():
    speed = {"points": 134, "prompts": 16, "speedup_over_reference": 0.8, "speedup_over_cached": 17.2, "speedup_over_reference_64": 167.4}
    speed |= {"identical_replies": 0.99999, "agreement_weights": 10_000, "agreement_near_border": 0, "exact_map_agreement": 1.0}
    text = search_readings.speed_reading(speed)
    assert "**0.8 times as fast as**" in text and "17 times as fast as" in text and "over 99.99 % of the replies" in text
    assert "10,000 random weight vectors: all of those" in map_readings.benchmark_reading(speed)
    assert "none was nearer" in map_readings.benchmark_reading(speed)
    worse = map_readings.benchmark_reading(speed | {"agreement_near_border": 3, "exact_map_agreement": 0.9998})
    assert "over 99.99 % of those" not in worse and "3 were nearer" in worse


@pytest.mark.parametrize("scored", [made, constant])
def test_the_optimum_and_its_figures(scored):
    scored = scored(3)
    cells, optimum, cube = overlay(scored), best_weights(scored), searched(scored)
    best = cube.table["mean"].max()
    text = clean(map_readings.optimum_reading(optimum, cells, {"The search": best, "another": optimum.value}))
    if len(cells.weights) > 1:
        assert f"{len(cells.weights):,} cells" in text and "another promised" in text and "the optimum to four digits" in text
        assert f"four it lies in {search_readings.triangle_of(optimum.weights, NAMES[:3])}." in text
    else:
        assert "no client's reply depends on the weights" in text
    clean(map_plots.mean_map_alt(cells, cube.table, optimum.weights))
    clean(map_plots.mean_map_alt(cells))
    assert f"{len(cells.achievable):,} mean score vector" in clean(map_plots.achievable_scores_alt(cells))
    alt = clean(map_plots.prompt_map_alt(scored, 0))
    assert ("in one colour" in alt) == (len(scored.map.of(0)) == 1)
    assert clean(search_plots.search_levels_alt(cube.table, NAMES[:3])).count("; level 5, ") == 1
    clean(search_plots.redundancy_alt(cube.table, NAMES[:3]))
    clean(search_readings.levels_reading(cube.table))
    clean(search_readings.spaces_reading(searched(scored, "simplex"), cube))
    for figure in (
        map_plots.mean_map(cells, cube.table, optimum.weights),
        map_plots.prompt_map(scored, 0),
        map_plots.achievable_scores(cells),
    ):
        assert figure.axes
    at = explore(scored, 0, [1, 1, 1])
    assert ("every weight vector gives this reply" in at.html()) == (len(scored.map.of(0)) == 1)
    assert ("<td class='share'>100 %" in map_page(scored, [0])) == (len(scored.map.of(0)) == 1)


def test_two_objectives():
    moving, still = made(2), constant(2)
    text = clean(map_readings.pair_reading(moving))
    assert "a client's reply changes" in text and "borders" in text
    assert map_readings.pair_reading(still).startswith("No reply changes")
    for scored in (moving, still):
        clean(map_plots.two_objective_map_alt(scored))
        assert map_plots.two_objective_map(scored).axes


@pytest.mark.parametrize(
    ("ensemble", "base", "single"),
    [(0.7, "clearly above", "clearly above"), (0.3, "clearly above", "clearly below"), (0.5, "clearly above", "not clearly apart from")],
)
def test_fresh_clients(ensemble, base, single):
    summary = pd.DataFrame({"policy": ["base", "a", "b", "ensemble"], "mean": [0.1, 0.5, 0.4, ensemble]})
    own = {"promised": [0.0, 0.6], "fresh": ensemble, "low": ensemble - 0.02, "high": ensemble + 0.02}
    confirmed = pd.DataFrame({"objective": ["a", "mean"], **own})
    text = search_readings.verdict_reading(summary, confirmed, ["a", "b"])
    assert f"{base} the base (0.100) and {single} the best single-objective model (a, 0.500)" in text
    assert "± 0.020" in text


MEANS = np.arange(27.0).reshape(3, 3, 3) / 100


def test_the_sub_cube_that_is_taken():
    assert "holds the best point of the level (0.260). It need not: the rule" in search_readings.cell_reading(MEANS)
    peak = MEANS.copy()
    peak[0, 0, 0] = 0.3
    assert "does not hold the best point of the level (0.300): the rule looks at neighbourhoods" in search_readings.cell_reading(peak)
    table = search_readings.cells_table(MEANS, ["a", "b", "c"])
    assert len(table) == 8 and table["sum of its 8 corners"].is_monotonic_decreasing
    assert table.iloc[0].tolist()[:3] == ["½ to 1"] * 3 and (table["taken"] == "yes").tolist() == [True] + [False] * 7


def test_the_sub_cube_at_the_origin():
    far = MEANS.copy()
    assert "more than any text can" in search_readings.origin_reading(far)
    near = np.full((3, 3, 3), 0.1)
    near[0, 0, 0] = 0.0
    assert "would have to score 0.100 for it to be taken, less than the best point" in search_readings.origin_reading(near)
    near[:2, :2, :2] = 0.5
    near[0, 0, 0] = 0.0
    assert "It is taken all the same" in search_readings.origin_reading(near)


SUMS = {"the a corner's triangle": 1.2, "the b corner's triangle": 1.1}


def test_why_two_searches_end_apart():
    text = search_readings.apart_reading(SUMS, "the b corner's triangle", 0.5, 0.69)
    assert "ends 0.190 below" in text and "which had 1.100, 0.100 less" in text
    assert "Both look into the a corner's triangle" in search_readings.apart_reading(SUMS, "the a corner's triangle", 0.5, 0.4)
    assert "0.100 above" in search_readings.apart_reading(SUMS, "the a corner's triangle", 0.5, 0.4)
    assert "same score to three digits" in search_readings.apart_reading(SUMS, "the b corner's triangle", 0.5, 0.5001)


def test_which_triangle_holds_a_direction():
    names = ["a", "b", "c"]
    assert search_readings.triangle_of((3, 1, 0.5), names) == "the a corner's triangle"
    assert search_readings.triangle_of((0.1, 0.1, 5), names) == "the c corner's triangle"
    assert search_readings.triangle_of((1, 1, 1), names) == "the triangle in the middle"
    assert all(np.allclose(corners.sum(1), 1) for corners in search_readings.triangle_names(names).values())


def test_how_few_directions():
    cube = searched(made(3)).table
    text = clean(search_readings.redundancy_reading(cube))
    assert "27 points, but only **19 directions** and 1 zero vector" in text and "All 5 levels together" in text
    assert "together" not in search_readings.redundancy_reading(cube[cube["level"] == 1])
    clean(search_readings.found_reading(searched(made(3)), 4))


def test_what_a_tree_saves():
    tree = map_tree(3)
    points = [(1.0, 0.0, 0.0), (2.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
    leaves = tree.leaves(points)
    text = clean(search_readings.tree_reading(tree, leaves, points))
    assert "3 weight vectors" in text and "1.5 times is the redundancy" in text
    shown = search_readings.leaves_table(tree, leaves[0])
    assert shown["weight vectors"].sum() == 3 and shown["weight vectors"].is_monotonic_decreasing


# -- 05


def test_one_choice_of_a_word():
    assert map_readings.pieces_reading([(0, 1, 7)], ["I"], "a", "b") == "One word wins all along the line from a to b: “I”."
    text = map_readings.pieces_reading([(0, 0.25, 7), (0.25, 1, 3)], ["I", "You"], "a", "b")
    assert "“I” from 0.000 to 0.250, “You” from 0.250 to 1.000" in text
    assert "“I” 100 % of the triangle" in map_readings.shares_reading({"I": 1.0})
    assert "2 words can be the next one: “You” 75.00 %, “I” 25.00 %" in map_readings.shares_reading({"I": 0.25, "You": 0.75})


def test_checks_of_a_map_see_a_hole_and_an_overlap():
    scored = made(3)
    random_weights = np.random.default_rng(0).dirichlet(np.ones(3), 300)
    assert list(map_readings.cover_check(scored.map, random_weights).index) == [1]
    assert "all lie in exactly one region" in map_readings.cover_reading(scored.map, random_weights)
    regions = list(scored.map.regions)
    [a, b] = sorted((i for i, r in enumerate(regions) if r.row == 0), key=lambda i: -regions[i].piece.measure)[:2]
    moved = [r if i != b else type(r)(r.row, r.reply, regions[a].piece) for i, r in enumerate(regions)]
    broken = type(scored.map)(scored.map.corners, scored.map.prompts, moved)
    assert {0, 2} <= set(map_readings.cover_check(broken, random_weights).index)
    assert "do not lie in exactly one region" in map_readings.cover_reading(broken, random_weights)


def test_deepest_points():
    regions = made(3).map.regions
    right = [region.reply for region in regions]
    assert f"in all {len(regions)} regions" in map_readings.deepest_reading(regions, right)
    assert "rounding decides there" in map_readings.deepest_reading(regions, ["another", *right[1:]])


@pytest.mark.parametrize("scored", [made, constant])
def test_sentences_of_a_map(scored):
    scored = scored(3)
    cells, optimum = overlay(scored), best_weights(scored)
    texts = [map_readings.one_map_reading(scored, 0), map_readings.size_reading(scored, 2.0), map_readings.front_reading(cells)]
    texts += [map_readings.landscape_reading(scored, cells, optimum), map_readings.margin_reading(scored, optimum)]
    for text in texts:
        clean(text)
    assert ("the same reply" in texts[0]) == (len(scored.map.of(0)) == 1)


# -- 06, committed tables


def test_signs_need_more_than_a_mean():
    assert search_table_readings.sign([0.1, 0.11, 0.12]) == 1 and search_table_readings.sign([-0.1, -0.11, -0.12]) == -1
    assert search_table_readings.sign([0.1, -0.2, 0.2]) == 0 and search_table_readings.sign([0.5]) == 0


def choice(better: float, flattered: float) -> pd.DataFrame:
    """Three sets of adapters. On test clients the search is `better` than the exact map, whose promise was above its test score."""
    made_rows = []
    for adapters, noise in enumerate((0.0, 0.001, -0.001)):
        common = {"adapters": adapters, "seed": 0, "evaluations": 80, "regret": 0.01}
        made_rows += [
            common | {"search": "hierarchical", "promised": 0.7, "test": 0.6 + better + noise},
            common | {"search": "exact map", "promised": 0.6 + flattered + noise, "test": 0.6},
            common | {"search": "exact map of the test prompts", "promised": 0.65, "test": 0.8},
        ]
    return pd.DataFrame(made_rows)


@pytest.mark.parametrize(
    ("better", "says"), [(0.1, "clearly higher: hier"), (-0.1, "clearly lower: hier"), (0.0, "not clearly apart: hier")]
)
@pytest.mark.parametrize(
    ("flattered", "price"), [(0.1, "has its price"), (-0.1, "kept more than it promised"), (0.0, "not clearly different")]
)
def test_choices(better, says, flattered, price):
    text = clean(search_table_readings.choice_reading(choice(better, flattered)))
    assert says in text and price in text and "the best weights for these very clients would have 0.8000" in text


def test_one_set_of_adapters_ranks_nothing():
    one = choice(0.1, 0.1).query("adapters == 0")
    text = search_table_readings.choice_reading(one)
    assert "not clearly apart: hierarchical" in text and "over 1 set of adapters" in text and "with 1 set of adapters" in text


@pytest.mark.parametrize(("gaps", "says"), [((0.1, 0.01), "in 3 of 3 seeds"), ((0.01, -0.1), "in 0 of 3 seeds")])
def test_more_clients(gaps, says):
    table = pd.DataFrame(
        [
            {"search": "exact map", "adapters": a, "clients": n, "promised": 0.7 + gap, "test": 0.7, "map_seconds": n}
            for a in range(3)
            for n, gap in zip((8, 192), gaps, strict=True)
        ]
    )
    text = clean(search_table_readings.clients_reading(table))
    assert f"nearer with 192 clients than with 8 {says} (exact map)" in text
    assert " of 1 seed (exact map)" in search_table_readings.clients_reading(table.query("adapters == 0"))


def seeds(lead: float, exact: float, over: float, n: int = 3) -> pd.DataFrame:
    made_rows = []
    for seed in range(n):
        for policy, mean in (("base", 0.1), ("reflection", 0.4), ("ensemble", 0.4 + lead), ("parameters (exact)", 0.4 + lead - exact)):
            row = {"policy": policy, "seed": seed, "mean": mean, "reflection": 0.5, "true_reflection": 0.5 - over, "empathy": 0.9}
            made_rows.append(row | {"true_empathy": 0.95, "w_reflection": 0.5, "validation_mean": 0.4 + lead - 0.01, "data_points": 100})
    return pd.DataFrame(made_rows)


def test_seeds_both_ways():
    text = search_table_readings.seeds_reading(seeds(0.2, 0.1, 0.0), ["reflection"])
    assert text.count("above zero in 3 of 3 seeds") == 2 and "Validation promised 0.010 less" in text
    text = search_table_readings.seeds_reading(seeds(-0.2, -0.1, 0.0), ["reflection"])
    assert text.count("above zero in 0 of 3 seeds") == 2 and "−0.200 to −0.200" in text
    assert "above zero in 1 of 1 seed" in search_table_readings.seeds_reading(seeds(0.2, 0.1, 0.0, 1), ["reflection"])


def test_truth_both_ways():
    over, under = (search_table_readings.truth_reading(seeds(0.1, 0, x)) for x in (0.1, -0.1))
    assert "reflection in 3 of 3 seeds and empathy in 0 of 3 seeds; mixing models need not" in over
    assert "reflection in 0 of 3 seeds and empathy in 0 of 3 seeds." in under and "mixing" not in under
    assert "reflection in 0 of 1 seed " in search_table_readings.truth_reading(seeds(0.1, 0, -0.1, 1))


def test_differences_agree_with_the_digits_beside_them():
    assert search_readings.shown_gap(0.6904, 0.5551) == 0.135  # 0.690 less 0.555, not 0.1353
    assert search_readings.shown_gap(0.7006, 0.7004) == 0.001 and search_readings.shown_gap(0.7014, 0.7006) == 0


def test_the_committed_tables_can_be_read():
    clean(search_table_readings.regret_reading(committed("search_choice.csv"), committed("search_regret.csv")))
    clean(search_table_readings.choice_reading(committed("search_choice.csv")))
    clean(search_table_readings.clients_reading(committed("search_clients.csv")))
    costs = committed("search_costs.csv")
    clean(search_table_readings.costs_reading(costs))
    clean(search_table_readings.growth_reading(costs))
    clean(search_table_readings.seeds_reading(committed("tiny_seeds.csv"), ["reflection", "empathy", "fluency"]))
    clean(search_table_readings.truth_reading(committed("tiny_seeds.csv")))
    clean(map_plots.regret_curves_alt(committed("search_regret.csv")))
    clean(map_plots.promise_and_test_alt(committed("search_clients.csv")))
    clean(map_plots.search_costs_alt(costs.dropna(subset="rows").assign(unit="prefixes", cost=costs["rows"])))
    clean(search_table_readings.accounts_reading(committed("tiny_seeds.csv")))
    by_search = search_table_readings.by_search(committed("search_choice.csv"))
    assert (by_search["search"].str.startswith("exact") == (by_search["evaluations"] == "all")).all()
    assert len(search_table_readings.by_seed(committed("tiny_seeds.csv"), ["reflection", "empathy", "fluency"])) > 1


def test_an_optimum_that_is_not_proven_says_so():
    costs = committed("search_costs.csv")
    many = costs["d"].max()
    costs.loc[(costs["search"] == "exact map") & (costs["d"] == many), "optimum_found"] = False
    assert "the proof was cut short" in search_table_readings.costs_reading(costs)


def test_growth_that_ends_and_growth_that_does_not():
    table = pd.DataFrame(
        [
            {"varied": varied, "value": value, "search": search, "rows": float(n)}
            for varied in ("prompts", "reply tokens")
            for search in ("hierarchical", "exact map")
            for value, n in ((8, 100), (16, 200), (32, 201))
        ]
    )
    assert "by then replies end by themselves" in search_table_readings.growth_reading(table)
    table.loc[table["value"] == 32, "rows"] = 400.0
    assert "end by themselves" not in search_table_readings.growth_reading(table)
    assert "(4-fold) the prefixes grow 4-fold for the search" in search_table_readings.growth_reading(table)
