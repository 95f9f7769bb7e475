"""Sentences and alternative texts about the study's and the paper's tables: true whichever way the numbers come out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_study import NAMES, made_up

from emorl_lite import plots as method_plots
from emorl_lite import plots as paper_plots
from emorl_lite.base import wording
from emorl_lite.readings import paper as paper_readings
from emorl_lite.readings import study as study_readings
from emorl_lite.search.pareto import hypervolume
from emorl_lite.study import paper
from emorl_lite.study.claims import examined, holm, tally
from emorl_lite.study.comparison import best_by_level, front_metrics, over, paired, representative, searched_too, with_intervals

CLEAR, UNCLEAR = {"mean": 0.1, "low": 0.05, "high": 0.15}, {"mean": 0.1, "low": -0.05, "high": 0.25}


def table(column: str = "mean", by: str = "method", **values: list[float]) -> pd.DataFrame:
    """Values of each method by seed."""
    return pd.DataFrame([{by: m.replace("_", "-"), "seed": s, column: v} for m, vs in values.items() for s, v in enumerate(vs)])


# -- words


def test_numbers_with_signs():
    assert [wording.number(x) for x in (0.5, -0.2, -0.001, 1234.5, np.nan)] == ["0.50", "−0.20", "0.00", "1,234.50", "not known"]
    assert [wording.signed(x) for x in (0.05, -0.2, -0.0001, np.nan)] == ["+0.050", "−0.200", "0.000", "not known"]
    assert wording.told(CLEAR) == "+0.100 [+0.050, +0.150]"
    assert wording.told(over(np.array([0.1]))) == "+0.100 (no interval)" and wording.told(over(np.array([]))) == "not measured"


def test_counts_and_shares():
    assert [wording.counted(n, "reply", "replies") for n in (0, 1, 1200)] == ["no replies", "1 reply", "1,200 replies"]
    assert [wording.percent(x) for x in (0, 0.001, 0.5, 0.999, 1, np.nan)] == [
        "0 %",
        "under 1 %",
        "50 %",
        "over 99 %",
        "100 %",
        "not known",
    ]
    assert [wording.listing(list(x)) for x in ("", "a", "ab", "abc")] == ["none", "a", "a and b", "a, b and c"]


def test_the_side_an_interval_lies_on():
    below = {key: -CLEAR[other] for key, other in (("mean", "mean"), ("low", "high"), ("high", "low"))}
    assert [wording.by_sign(f, "+", "-", "?") for f in (CLEAR, below, UNCLEAR, over(np.array([0.1])))] == ["+", "-", "?", "?"]


# -- differences for sentences


def test_a_mean_with_its_spread_is_written_in_one_way():
    assert wording.with_spread(0.7684, 0.0206) == "0.768 ± 0.021" and wording.with_spread(17_529, 1_650, 0) == "17,529 ± 1,650"
    assert wording.with_spread(0.5, 0.0) == "0.500 ± 0.000" and wording.with_spread(0.5, float("nan")) == "0.500"


def test_a_paired_difference_that_cannot_be_had_is_nan():
    rows = table(a=[0.5, 0.6, 0.9], b=[0.4, 0.45, 0.8])
    found = paired(rows, "a", "b")
    assert found["mean"] == pytest.approx(np.mean([0.1, 0.15, 0.1])) and found["low"] < found["mean"] < found["high"]
    assert paired(rows, "a", "b", looks=10)["low"] < found["low"]  # corrected for ten looks
    assert np.isnan(paired(rows, "a", "c")["mean"])
    one = paired(rows[rows["seed"] == 0], "a", "b")
    assert one["mean"] == pytest.approx(0.1) and np.isnan(one["low"])
    assert np.isnan(with_intervals(rows[rows["seed"] == 0], "mean")[["low", "high"]]).all(axis=None)


def test_a_volume_of_dominated_points_counts_each_part_once():
    assert hypervolume(np.array([[0.5, 0.5, 0.5], [0.5, 0.4, 0.4], [1.0, 0.2, 0.1]]), [0.0] * 3) == pytest.approx(0.125 + 0.5 * 0.2 * 0.1)


# -- notebook 06


def test_leaders():
    close = study_readings.leaders(table(a=[0.5, 0.7, 0.6], b=[0.6, 0.5, 0.6], c=[0.1, 0.11, 0.1]), "mean", "Scores")
    assert close.startswith("Scores, from the top: a (0.600), b (0.567) and c (0.103).") and "not clearly below a" in close
    clear = study_readings.leaders(table(a=[0.5, 0.6, 0.7], b=[0.4, 0.5, 0.6], c=[0.3, 0.4, 0.5]), "mean", "Scores")
    assert "a is clearly above each of the other 2" in clear
    equal = study_readings.leaders(table(a=[0.5, 0.6], b=[0.5, 0.6]), "mean", "Scores")
    assert "b is not clearly below a" in equal
    wide = study_readings.leaders(table(a=[0.5, 0.5, 0.6], b=[0.5, 0.4, 0.6], c=[0.1, 0.3, 0.6]), "mean", "Scores")
    assert "c's seeds go from 0.100 to 0.600" in wide and "seeds go" not in close
    assert "With one seed" in study_readings.leaders(table(a=[0.5], b=[0.6]), "mean", "Scores")
    assert study_readings.leaders(table(a=[0.5, 0.6]), "mean", "Scores") == "Scores, from the top: a (0.550)."
    assert study_readings.leaders(table(a=[np.nan]), "mean", "Scores") == "Scores: not measured."


def test_ways_to_merge():
    base = np.linspace(0, 1, 20)
    far = study_readings.merged_reading(pd.DataFrame({"a": base, "b": base + 0.5, "c": base + 0.5}))
    assert "0.50 (a) to 1.00 (b and c)" in far and "do not score alike" in far
    noisy = study_readings.merged_reading(pd.DataFrame({"a": base, "b": base[::-1] + 0.001}))
    assert "no clear difference" in noisy and "do not score alike" not in noisy
    assert "one mean for all" in study_readings.merged_reading(pd.DataFrame({"a": base, "b": base}))
    assert "corrected for 1 pair)." in study_readings.merged_reading(pd.DataFrame({"a": base, "b": base + 0.5}))


def test_the_ranking_with_and_without_emorl():
    rows = table(base=[0.1, 0.1], uniform=[0.5, 0.6], emorl=[0.6, 0.7], emorl_long=[0.4, 0.5])
    said = study_readings.ranking_reading(rows)
    assert "EMORL has 0.650; with a whole budget for each run 0.450, a difference of −0.200" in said
    assert "EMORL" not in study_readings.ranking_reading(rows[rows["method"] == "uniform"])


@pytest.mark.parametrize(("direction", "reading"), [(1, "go further"), (-1, "stay closer"), (0, "no clear relation")])
def test_scores_and_distance(direction, reading):
    kl = np.arange(8.0)
    mean = direction * kl if direction else np.array([0, 3, 1, 2, 2, 1, 3, 0.5])
    rows = pd.DataFrame({"method": [f"m{i}" for i in range(8)], "seed": 0, "choice": "default", "knob": "none", "mean": mean, "kl": kl})
    said = study_readings.emorl_reading(rows, 1)
    assert reading in said and "not measured with equal sums" in said


@pytest.mark.parametrize(
    ("optimum", "reading"), [(0.7, "more than the grid's, also"), (0.5, "less than the grid's"), (0.6, "no more than the grid's")]
)
def test_what_choosing_is_worth(optimum, reading):
    values = {"default": [0.1, 0.2], "grid": [0.6, 0.6], "published search": [0.5, 0.7], "exact optimum": [optimum, optimum]}
    rows = table(by="choice", **{key.replace(" ", "_"): value for key, value in values.items()})
    rows["choice"] = rows["choice"].str.replace("-", " ")
    assert reading in study_readings.choice_reading(rows.assign(method="emorl-long"))
    assert "not measured" in study_readings.choice_reading(rows.assign(method="emorl-long"), "nobody")


def test_when_the_stopping_rule_holds():
    never = lambda *shares: study_readings.stopping_reading(pd.DataFrame({"method": ["a", "b"], "never": shares}))  # noqa: E731
    assert "every run converged" in never(0, 0) and "no run converged" in never(1, 1) and "not always hold (b)" in never(0, 0.2)


def test_volumes():
    metrics = table("hypervolume", emorl_long=[0.2, 0.3], rewarded_soups_long=[0.3, 0.4])
    every = pd.DataFrame({"method": "emorl-long", "seed": [0, 1], "hypervolume": [0.2, 0.3], "grid_hypervolume": [0.2, 0.3]})
    every = every.assign(chosen_on="validation")
    said = study_readings.volume_reading(metrics, every, 21, 40)
    assert "less Rewarded Soups is −0.100" in said and "less exact averages not measured" in said and "misses nothing" in said
    assert "looked up at spacing 1/40" in said and "The exact map's whole front" in study_readings.volume_reading(metrics, every, 21, 0)
    more = every.assign(hypervolume=every["hypervolume"] + 0.1)
    assert "what the grid misses" in (said := study_readings.volume_reading(metrics, more, 21, 40)) and "flattered" not in said
    assert "flattered" in study_readings.volume_reading(metrics, more.assign(chosen_on="test"), 21, 40)
    assert "exact map" not in study_readings.volume_reading(metrics, every.iloc[:0], 21, 40)


def test_levels():
    clear = study_readings.levels_reading(best_by_level(made_up()["levels"]))
    assert "(*soup of A and B*)" in clear and "(*probabilities*): +0.200 [+0.200, +0.200], a clear difference" in clear
    place = pd.DataFrame({"level": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1], "best": [0, 1, 1, 0.1], "average": 0.5})
    said = study_readings.levels_reading(place)
    assert "Last hidden state less parameters, with weights chosen" in clear and "Last hidden state" not in said
    assert "a clear difference" not in said and "no clear difference" in said and "the same for all: 0.500" in said
    assert "which one value cannot judge" in study_readings.levels_reading(place[place["seed"] == 0])


@pytest.mark.parametrize(("low", "high", "reading"), [(0.1, 0.2, "compares decoders"), (-0.2, -0.1, "handicapped"), (-1, 1, "no clear")])
def test_confounders(low, high, reading):
    claims = pd.DataFrame([{"claim": "greedy decoding flatters a policy", "mean": (low + high) / 2, "low": low, "high": high}])
    said = study_readings.confounders_reading(table(uniform=[0.1, 0.2]), claims)
    assert reading in said and "the narrow one: not measured" in said


@pytest.mark.parametrize(
    ("sampled", "reading"),
    [(0.2, "1 of 1 difference is clear; sampled, it still is."), (0.0, "sampled, it is not."), (-0.2, "Turned round: a and b")],
)
def test_rankings_by_decoder(sampled, reading):
    rows = table(a=[0.7, 0.8, 0.9], b=[0.5, 0.6, 0.7]).assign(sampled_mean=0.3)
    rows.loc[rows["method"] == "a", "sampled_mean"] += sampled
    assert reading in study_readings.decoder_reading(rows, [("a", "b")])
    assert study_readings.by_decoder(rows, [("a", "b"), ("a", "c")])["sampled"].iloc[1] == "not measured"
    alone = study_readings.decoder_reading(rows.assign(mean=0.5), [("a", "b")])
    assert "none of these" in alone and ("only when sampled: a above b" in alone) == (sampled > 0)


def test_a_run_that_gives_an_objective_up():
    rows = pd.DataFrame({"method": ["a", "a", "base"], "seed": [0, 1, 0], "x": [0.001, 0.7, 0.0], "y": 0.5})
    assert "a in 1 of 2 seeds" in study_readings.missing_objective_reading(rows, ["x", "y"])
    assert "No run gives" in study_readings.missing_objective_reading(rows, ["y"])


def test_the_search_counts():
    spent = [("uniform", 1000), ("emorl (longest run)", 800), ("emorl (sum of runs)", 2000)]
    rows = pd.DataFrame(
        [{"method": m, "seed": s, "data_points": n + s, "mean": 0.5, "censored": False} for m, n in spent for s in range(3)]
    )
    both = searched_too(rows, 500)
    said = study_readings.saved_reading(both, 500)
    assert "longest run +200" in said and "longest run + search −300" in said and "costs more" in said and "saves" in said
    assert study_readings.accounts(both).set_index("method").loc["emorl (sum of runs + search)", "mean"] == 2501


def test_how_far_a_bandit_leans():
    assert study_readings.furthest(3, 0) == pytest.approx(1 / 3)
    reached = [study_readings.furthest(3, n) for n in range(20)]
    assert reached == sorted(reached) and reached[-1] < 1
    log = pd.DataFrame({"reward": [0.1, 0.4]})
    assert "would reach 0.35" in study_readings.bandit_reading(log, ["a", "b", "c"], [0.4, 0.3, 0.3], 32, 1)
    assert "leave everything" in study_readings.step_reading(["a"], 0, -0.1, 1, [1.0])


def test_groups_and_their_spread():
    scores = np.array([[0.0, 0.2], [1.0, 0.1]])
    said = study_readings.group_reading(scores, ["x", "y"], np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert "here x" in said and "prefers reply 2, GDPO's reply 1" in said
    assert "Both" in study_readings.group_reading(scores, ["x", "y"], np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    assert "y, the narrowest, is heard as well" in said and "here 2.00" in said
    assert "narrowest" not in study_readings.group_reading(scores * [1, 0], ["x", "y"], np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def test_what_cross_terms_do():
    assert "They fill part of what is missing" in study_readings.soup_reading(3, 1 / 3, 0.3)
    assert "They do not fill" in study_readings.soup_reading(3, 1 / 3, 0.9)


def test_the_roster_and_what_methods_take():
    listed = study_readings.roster(
        [
            SimpleNamespace(name="a", family="merging", trains="nothing", reference="arXiv 2505.02579 (its second)", corners=lambda: None),
            SimpleNamespace(name="b", family="decoding", trains="one adapter", reference="-", corners=object),
        ]
    )
    assert listed["arXiv"].tolist() == ["2505.02579", "–"] and listed["map"].tolist() == ["–", "yes"]
    rows = representative(made_up()["rows"])
    taken = study_readings.costs(rows).set_index("method")
    assert taken.loc["emorl", "calls a token"] == 3 and taken.loc["uniform", "data, sum"] == 1536
    assert taken["mean score"].equals(rows.groupby("method", sort=False)["mean"].mean().rename("mean score"))


def test_holm_steps_down():
    assert holm([0.04, 0.01, 0.03]) == [False, True, False] and holm([0.02, 0.04]) == [True, True]
    assert holm([]) == []


def verdicts(**columns: object) -> pd.DataFrame:
    """Three claims as `examined` gives them: one that survives, one that does not, one that was open."""
    claims = pd.DataFrame({"claim": ["a", "b", "c"], "measure": "m", "decoding": "", "nothing": 0.0, "mean": [1.0, 1.0, 0.1]})
    claims = claims.assign(low=[0.95, 0.01, -1.0], high=[1.05, 1.99, 1.2], shape="one heap", n=5, exact_low=0.1, exact_high=2.0)
    claims = claims.assign(coverage=0.9375, verdict=["holds", "holds", "open"], holm=["holds", "open", "open"])
    return claims.assign(**columns)


def test_a_correction_takes_verdicts_back():
    claims = verdicts()
    said = study_readings.holm_reading(claims)
    assert "leaves 1 of the 2 verdicts. Open again: b (m)." in said and "heaps" not in said and "counted exactly" not in said
    assert "leaves 1 of the 1 verdicts here." in study_readings.holm_reading(claims, claims["claim"] == "a")
    assert "Without an interval nothing" in study_readings.holm_reading(claims.assign(n=0))
    exact = claims.assign(n=[0, 5, 5])
    assert "Of 2 intervals at 95 % 0.1 miss the truth by chance. (“a” is counted exactly" in study_readings.holm_reading(exact)
    heaps = study_readings.holm_reading(claims.assign(shape=["one heap", "one heap", "two heaps"]))
    assert "1 of those here has its seeds in two heaps" in heaps and "93.75 % (p is never below 0.0625 then)." in heaps
    ratio = study_readings.holm_reading(claims.assign(shape=["one heap", "one heap", "two heaps"], coverage=np.nan))
    assert "of ratios nothing is said then." in ratio


def test_verdicts_in_words_are_those_after_the_correction():
    assert tally(verdicts()) == "1 holds and 2 are open" and tally(verdicts(), "verdict") == "2 hold and 1 is open"
    said = study_readings.claims_reading(verdicts())
    assert "1 holds and 2 are open. Left as holding: a (m). None of them was measured in both ways of decoding." in said
    assert "refuted" not in said and study_readings.claims_reading(verdicts(verdict="not measured")) == "None of these claims was measured."
    one = verdicts(claim=["a", "a", "c"], decoding=["greedy", "sampled", "greedy"], measure=["m, greedy", "m, sampled", "m, greedy"])
    assert study_readings.claims_reading(one).endswith(
        "Of 1 measure taken greedily and sampled, 1 is decided: none in both ways alike, 1 in one alone."
    )
    both = study_readings.claims_reading(one.assign(holm=["refuted", "refuted", "open"], verdict=["refuted", "refuted", "open"]))
    assert both.endswith("1 is decided: 1 in both ways alike.") and "Left as refuted: a (m, greedy; m, sampled)." in both
    assert study_readings.claims_reading(one.assign(holm="open")).endswith("none is decided in either way.")


def test_claims_at_equal_distance():
    at_kl = verdicts(
        decoding=["sampled at KL 0.5", "sampled at KL 1", "greedy"], measure=["m, sampled at KL 0.5", "m, sampled at KL 1", "m"]
    )
    said = study_readings.matched_reading(at_kl)
    assert (
        "2 comparisons of sampled replies: 1 holds and 1 is open." in said
        and "Decided: a (m, sampled at KL 0.5) holds, +1.000 [+0.950" in said
    )
    partly = at_kl.assign(verdict=["holds", "not measured", "open"], holm=["holds", "not measured", "open"])
    assert "In 1 more one of the two is missing, or does not get so far" in study_readings.matched_reading(partly)
    assert "not measured in these tables" in study_readings.matched_reading(at_kl[2:])
    assert "Decided" not in study_readings.matched_reading(at_kl.assign(holm="open"))


# -- notebook 07


def test_requests():
    rng = np.linspace(-0.1, 0.1, 10)[:, None]
    all_ = np.tile([[0.3, 0.3]], (10, 1))
    up, down = all_ + (rng + 0.5), all_ - (0.2 - rng)
    read = lambda a, b: study_readings.requests_reading({"x": a, "y": b, "all": all_}, ["x", "y"])  # noqa: E731
    assert "Each of these requests is heard" in read(up, up)
    assert "Not clearly heard: y." in read(up, down) and "y −0.20" in read(up, down)
    assert "Not clearly heard: x and y." in read(all_, down) and "is heard" not in read(all_, down)
    all_[:, 1] = 1.0
    assert "little can be added: y. The other is heard." in read(up, all_)
    assert "Not clearly heard: x." in read(all_, all_)


@pytest.mark.parametrize(("height", "says"), [(0.6, "covers more. In 2 of 2 seeds"), (0.4, "covers less. In 0 of 2 seeds")])
def test_a_front_beside_a_single_point(height, says):
    metrics = table("hypervolume", clp_full=[height, height + 0.001], uniform=[0.5, 0.5])
    points = [("clp-full", height), ("clp-full", 0.1), ("uniform", 0.5)]
    sweep = pd.DataFrame([{"method": m, "seed": s, "x": v, "w_x": 1.0} for m, v in points for s in (0, 1)])
    assert says in study_readings.single_point_reading(metrics, sweep)
    assert "seeds" not in study_readings.single_point_reading(metrics, sweep[sweep["method"] == "clp-full"])


@pytest.mark.parametrize(("last", "reading"), [(0.9, "adds to it"), (0.2, "loses"), (0.5, "no clear difference")])
def test_strengths(last, reading):
    scores = pd.DataFrame({0.0: np.full(5, 0.1), 1.0: np.full(5, 0.5), 2.0: np.full(5, last)})
    said = study_readings.strength_reading(scores, "empathy")
    assert reading in said and said.endswith(f"{reading}.") and "highest" not in said


def test_control_and_distance():
    tables = made_up()
    metrics = front_metrics(tables["sweep"])
    assert "Mean gap runs from" in study_readings.control_reading(metrics)
    lines = [(s, m, k, k / 10 + (m == "dera") * 0.1 + s / 100 * k) for s in (0, 1) for m in ("dera", "clp-kl") for k in (0.0, 1.0, 2.0)]
    sweep = pd.DataFrame(lines, columns=["seed", "method", "kl", "sampled_mean"]).assign(strength=lambda t: t["kl"])
    assert study_readings.at_equal_distance(sweep, "dera", "clp-kl")["mean"] == pytest.approx(0.1)
    assert "more than clp-kl at equal distance" in study_readings.distance_reading(sweep)
    assert "Not both were measured" in study_readings.distance_reading(sweep[sweep["method"] == "dera"])
    swapped = sweep.assign(method=sweep["method"].map({"dera": "clp-kl", "clp-kl": "dera"}))
    assert "less than clp-kl at equal distance" in study_readings.distance_reading(swapped)
    apart = sweep.assign(kl=sweep["kl"] + 5 * (sweep["method"] == "dera"))
    assert "no distance in common" in study_readings.distance_reading(apart)


# -- notebook 08


def real(emorl: float, uniform: float = 0.5, sampled: float = 0.3) -> pd.DataFrame:
    """Rows of a real study with two seeds."""
    lines = []
    for seed in (0, 1):
        for method, mean, total in (("base", 0.5, 0), ("uniform", uniform, 320), ("emorl", emorl, 960)):
            row = {"method": method, "seed": seed, "mean": mean, "sampled_mean": sampled if method != "base" else 0.2}
            row |= {"data_points": total, "parallel": min(total, 320), **{f"w_{n}": 1 / 3 for n in NAMES}, **dict.fromkeys(NAMES, mean)}
            lines.append(row)
    return pd.DataFrame(lines)


def test_what_the_base_and_training_give():
    assert "equal by the longest run" in paper_readings.budgets_reading(real(0.5))
    equal = real(0.5).assign(data_points=960)
    assert "equal in sum" in paper_readings.budgets_reading(equal)
    assert "neither accounting" in paper_readings.budgets_reading(equal.assign(data_points=[0, 7, 960] * 2))


@pytest.mark.parametrize(("mean", "reading"), [(0.6, "], more;"), (0.4, "], less;"), (0.5, "no clear difference;")])
def test_what_the_search_found(mean, reading):
    samples = pd.DataFrame({"method": "emorl", "seed": [0, 0, 1], "reply": ["a", "a", "b"]})
    said = paper_readings.found_reading(real(mean), samples, NAMES)
    assert reading in said and "to 2 of 2 clients here: “a”" in said and "no two of the clients here get the same reply" in said
    assert "asks for every objective, " in said
    lost = real(mean).assign(**{NAMES[0]: lambda t: t["mean"].where(t["method"] != "emorl", 0.0)})
    assert "every objective, −0.500 [−0.500, −0.500], less (" in paper_readings.found_reading(lost, samples, NAMES), "whatever the mean is"
    one = paper_readings.found_reading(real(mean).query("seed == 0"), samples, NAMES)
    assert "over 1 seed" in one and "which one value cannot judge" in one
    assert "not in this table" in paper_readings.found_reading(real(mean).query("method == 'base'"), samples, NAMES)


def test_samples_that_repeat_and_that_do_not():
    samples = pd.DataFrame({"method": "base", "prompt": ["p", "q"], "reply": ["a", "a"]})
    assert "base 2 of 2" in (said := paper_readings.samples_reading(samples, ["base"])) and "look for it" in said
    apart = paper_readings.samples_reading(samples.assign(reply=["a", "b"]), ["base"])
    assert "No two of these clients" in apart and "look for it" not in apart


def test_consumption_whichever_way():
    spent = pd.DataFrame(
        [
            {"method": m, "seed": s, "data_points": v + s}
            for m, v in {"uniform": 100, "emorl (longest run)": 50, "emorl (sum of runs)": 150}.items()
            for s in (0, 1, 2)
        ]
    )
    said = paper_readings.consumption_reading(spent)
    assert "longest run −50 [−50, −50], fewer" in said and "+50 [+50, +50], more" in said
    assert "which one value cannot judge" in paper_readings.consumption_reading(spent[spent["seed"] == 0])
    assert "run not measured;" in paper_readings.consumption_reading(spent[spent["method"] != "emorl (longest run)"])


def test_what_a_search_costs():
    lines = [("hierarchical", d, 86, 4.0, 0.6) for d in (3, 6)] + [("exact map", d, np.nan, 9.0, 0.65) for d in (3, 6)]
    costs = pd.DataFrame(lines, columns=["search", "d", "evaluations", "seconds", "best"]).assign(varied="objectives d")
    said = paper_readings.search_cost_reading(costs)
    assert "86 are decoded" in said and "9 s against 4 s at d = 3" in said and "0.0500 at d = 6" in said and "Bayesian" not in said
    bayes = pd.DataFrame([{"search": "bayesian, to within 1%", "d": 3, "evaluations": 1.0, "varied": "objectives d"}])
    assert "takes 1 evaluation at d = 3 on average" in paper_readings.search_cost_reading(pd.concat([costs, bayes]))
    assert "exact map" not in paper_readings.search_cost_reading(costs[costs["d"] == 4])


def test_curves():
    logs = pd.DataFrame(
        {"objective": "x", "seed": 0, "reward": [0.5, 0.4], "kl": [0.0, 1.0], "seconds": [60.0, 120.0], "episodes": [32, 64]}
    )
    said = paper_readings.curves_reading(logs, ["x"])
    assert "**x** 0.50 → 0.40 at KL 1.0" in said and "took 2 minutes" in said and "203 to 219 times" in said


@pytest.mark.parametrize(("hidden", "reading"), [(0.9, "score higher"), (0.1, "score lower"), (0.5, "can be told from luck")])
def test_cubes(hidden, reading):
    cubes = table("test", by="what", hidden=[hidden, hidden], parameters=[0.5, 0.5], probabilities=[0.6, 0.4])
    assert reading in paper_readings.cubes_reading(cubes)


def test_transfer():
    averaged = pd.DataFrame(
        [
            {"set": s, "method": m, "mean": v, "reflection": v, "diversity_2": d, "words": 10.0}
            for s, v in (("pair", 0.5), ("counsel-chat", 0.6))
            for m, d in (("emorl", 0.88), ("uniform", 0.4))
        ]
    )
    said = paper_readings.transfer_reading(averaged, ["uniform", "emorl", "base"])
    assert "emorl +0.10" in said and "cannot exceed 0.90; near that ceiling (emorl)" in said and paper.SOURCES["summary"] in said
    varied = paper_readings.transfer_reading(averaged.assign(diversity_2=0.3), ["uniform", "emorl"])
    assert "near that ceiling" not in varied


def test_signs_and_seeds():
    signs = pd.DataFrame({"in": ["a", "a", "b"], "same sign": ["yes", "no", "no"]})
    said = paper_readings.signs_reading(signs, {"a": 2, "b": 1})
    assert "a 1 of 2, b 0 of 1" in said and "with 2 seeds 12.7" in said and "with 1 seed there is no interval" in said


# -- alternative texts


def test_alternative_texts_name_what_is_drawn():
    tables = made_up()
    rows = representative(tables["rows"])
    assert "a 0.55, b 0.10" in method_plots.forest_alt(table(b=[0.1, 0.1], a=[0.5, 0.6]), "mean", "score")
    fronts = method_plots.fronts_alt(tables["sweep"], ["uniform", "nobody"], exact_of="emorl")
    assert "uniform reflection 0.40" in fronts and "nobody" not in fronts and "emorl's exact map" in fronts
    assert "2 calls: dera" in method_plots.decoding_cost_alt(rows) and "1 call: " in method_plots.decoding_cost_alt(rows)
    assert method_plots.aggregation_levels_alt(tables["levels"]).count(" and 0.") == 5
    assert method_plots.weight_sweep_alt(tables["sweep"], ["clp-full"]).count("clp-full") == len(NAMES)
    kl = method_plots.kl_trade_off_alt(tables["sweep"], rows, ["uniform", "nobody"])
    assert "a line for dera from" in kl and "uniform at 2.0 nats" in kl and "nobody" not in kl
    claims = examined(tables)
    assert f"{(claims['verdict'] == 'open').sum()} across it (open)" in method_plots.claims_figure_alt(claims)
    spent = pd.DataFrame({"method": ["a", "a"], "seed": [0, 1], "data_points": [1000, 2000], "mean": [0.1, 0.2]})
    assert "a at 1,500 data points and 0.15" in method_plots.consumption_alt(spent)


def test_alternative_texts_of_the_papers_figures():
    replies = pd.DataFrame([{"method": "base", "reply": "Yes.", "x": 0.25}])
    assert "base says “Yes.” (x 0.25)" in paper_plots.task_example_alt(replies, ["x"])
    cube = pd.DataFrame({"what": "hidden", "level": [1, 1, 5], "w_x": [0.0, 1.0, 0.5], "mean": [0.1, 0.3, 0.4], "note": ""})
    said = paper_plots.cubes_alt(cube, ["x"], "hidden")
    assert "level 1: 2 points with means from 0.10 to 0.30, the best at x 1.00" in said and "hidden states" in said
    both = pd.DataFrame({"method": ["a", "a"], "source": ["paper", "tiny"], "mean": [0.1, 0.2]})
    assert "paper: a 0.10; tiny: a 0.20" in paper_plots.paper_and_ours_alt(both)
