"""What is said of a real study, whichever way its numbers come out: made tables whose effects are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.readings import real
from emorl_lite.study.claims import holm
from emorl_lite.study.crossed import MEAN, crossed, paired

pytestmark = pytest.mark.plain
NAMES = ["reflection", "empathy", "fluency"]
EFFECTS = {"emorl": 0.1, "uniform": 0.2, "uniform-short": 0.1, "exact-average": 0.1, "rewarded-soups": 0.05, "dera": 0.09}
EFFECTS |= {"mod-forward": 0.1, "gdpo": 0.0, "base": 0.0}


def prompts(effects=EFFECTS, seeds=5, clients=40, noise=0.0, of_seeds=0.0, of_clients=0.1, names=NAMES, level=0.4) -> pd.DataFrame:
    """Scores that are `level` + effect, with an effect of prompts that all methods share, and seeds' and cells' own."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, of_clients, clients)
    shared -= shared.mean()
    rows = []
    for decoding, (method, effect), seed in itertools.product(("sampled", "greedy"), effects.items(), range(seeds)):
        own, choice = rng.normal(0, of_seeds), "grid" if method in ("emorl", "dera", "mod-forward") else "default"
        for client in range(clients):
            score = level + effect + shared[client] + own + rng.normal(0, noise)
            row = {"seed": seed, "method": method, "choice": choice, "decoding": decoding, "prompt": client}
            rows.append(row | dict.fromkeys(names, score))
            if choice == "grid":  # what it would be at its default is there too, and not read
                rows.append(row | {"choice": "default"} | dict.fromkeys(names, 0.01))
    return pd.DataFrame(rows)


def verdicts(found: pd.DataFrame, decoding: str = "sampled") -> dict[str, str]:
    return found[found["decoding"] == decoding].set_index("second")["verdict"].to_dict()


def test_above_below_and_open():
    found = real.differences(prompts(noise=0.03))
    assert verdicts(found) == verdicts(found, "greedy") | {"dera": verdicts(found)["dera"]}
    by = verdicts(found)
    assert by["base"] == by["gdpo"] == "above" and by["uniform"] == "below" and by["uniform-short"] == by["exact-average"] == "open"
    text = real.comparison_reading(found, samples=4)
    assert text.startswith("**Sampled replies, 4 a statement** (5 seeds, 40 statements; geometric mean of the objectives): EMORL is")
    above = text.split("**above**")[1].split(";")[0]
    below = text.split("**below**")[1].split(";")[0]
    assert "the base (+0.1" in above and "GDPO" in above and "uniform with an equal sum (−0.1" in below
    assert "Each interval has a half-width of at most 0.03." in text and "Verdicts are by Holm's procedure over all 8 differences" in text
    assert "**Greedy replies** (5 seeds" in text and text.index("Sampled") < text.index("Greedy")


def test_which_intervals_are_narrow():
    rows = [of_intervals(0.1, 0.1 - half, 0.1 + half, "above") | {"second": name} for name, half in (("gdpo", 0.02), ("dera", 0.05))]
    greedy = of_intervals(0.1, 0.05, 0.15, "above") | {"decoding": "greedy"}
    text = real.comparison_reading(pd.DataFrame([*rows, greedy]))
    assert "1 of 2 intervals has a half-width of at most 0.03; the widest has 0.050, beside DeRa." in text
    more = [*rows, rows[0] | {"second": "base"}, greedy]
    assert "2 of 3 intervals have a half-width of at most 0.03; the widest" in real.comparison_reading(pd.DataFrame(more))


def test_the_other_way_round():
    turned = real.differences(prompts(EFFECTS | {"emorl": -0.1}, noise=0.02))
    assert set(verdicts(turned).values()) == {"below"}
    text = real.comparison_reading(turned)
    assert "above" not in text.split("\n\n")[0] and "Why it is open" not in text


def test_it_is_an_interval_over_seeds_and_prompts_judged_by_holm():
    table = prompts(noise=0.1, of_seeds=0.05)
    for utility in ("geometric mean", MEAN):
        own = real.differences(table, utility=utility).query("decoding == 'sampled'").reset_index(drop=True)
        pairs = (paired(table, "emorl", other, NAMES, "sampled", utility) for other in real.OTHERS)
        theirs = [crossed(ours - others) for ours, others in pairs]
        for column, field in (("difference", "mean"), ("low", "low"), ("high", "high"), ("p", "p")):
            assert own[column].tolist() == pytest.approx([getattr(found, field) for found in theirs])
        assert own["holm"].tolist() == list(holm([found.p for found in theirs]))
        assert np.allclose(own["first_score"] - own["second_score"], own["difference"])


def test_where_all_objectives_are_equal_both_utilities_are_one():
    table = prompts(noise=0.05, level=0.6)
    one, other = real.differences(table), real.differences(table, utility=MEAN)
    assert np.allclose(one["difference"], other["difference"]) and np.allclose(one["high"], other["high"])


def test_why_it_is_open():
    pair = {"emorl": 0.1, "base": 0.1}
    even = real.differences(prompts(pair, noise=0.02), others=("base",))
    assert "As good as equal, the whole interval within ±0.03: the base." in real.comparison_reading(even) and even["target"].isna().all()
    wide = real.differences(prompts(pair, of_seeds=0.1, noise=0.05), others=("base",))
    text = real.comparison_reading(wide)
    row = wide.iloc[0]
    assert row["verdict"] == "open" and row["target"] == real.CLOSE and row["more_seeds"] > 5
    assert (
        f"Of a half-width above 0.03: the base (±{(row['high'] - row['low']) / 2:.3f}; {int(row['more_seeds'])} seeds" in text
        and "from 5 seeds" in text
    )
    assert "The interval has a half-width of more than 0.03: 0." in text
    by_client = real.differences(prompts(pair, seeds=2, clients=12, noise=0.12), others=("base",))
    assert by_client["more_prompts"].dropna().ge(12).all()


def of_intervals(difference: float, low: float, high: float, verdict: str = "open", **more: float) -> dict[str, object]:
    row: dict[str, object] = {"first": "emorl", "second": "gdpo", "decoding": "sampled", "utility": "geometric mean"}
    row |= {"first_score": 0.5, "second_score": 0.5 - difference, "difference": difference, "low": low, "high": high, "p": 0.2}
    row |= {"seeds": 5, "prompts": 64, "holm": verdict != "open", "verdict": verdict, "target": 0.03}
    return row | {"more_seeds": math.nan, "more_prompts": math.nan, "more_times": math.nan} | more


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (of_intervals(0.02, -0.02, 0.06, more_seeds=9.0), "Of a half-width above 0.03: GDPO (±0.040; 9 seeds)."),
        (of_intervals(0.02, -0.02, 0.06, more_prompts=200.0), "GDPO (±0.040; 200 statements)."),
        (of_intervals(0.02, -0.02, 0.06, more_times=3.0), "GDPO (±0.040; 3 times as many of both)."),
        (of_intervals(0.02, -0.02, 0.06), "more of both than anybody has"),
        (
            of_intervals(0.015, -0.01, 0.04, target=0.015, more_seeds=20.0),
            "Narrow, but the difference too small to tell from nothing: GDPO (±0.025; 20 seeds).",
        ),
        (of_intervals(0.0, -0.0301, 0.0295, target=math.nan), "Narrow, and the difference nil: GDPO (±0.030)."),
        (
            of_intervals(0.06, 0.01, 0.11, target=0.06, more_seeds=7.0),
            "On one side of zero alone, but not as one of 1 look: GDPO (7 seeds).",
        ),
        (of_intervals(0.02, math.nan, math.nan), "Too few in common for an interval: GDPO (5 seeds, 64 statements)."),
    ],
)
def test_every_reason_has_its_sentence(row, said):
    greedy = of_intervals(0.1, 0.05, 0.15, "above") | {"decoding": "greedy"}
    text = real.comparison_reading(pd.DataFrame([row, greedy]))
    assert said in text and "nan" not in text and "Why it is open" not in text.split("**Greedy")[1]


def test_is_it_the_ensemble():
    found = pd.DataFrame(
        [
            of_intervals(-0.1, -0.15, -0.05, "below") | {"second": "uniform"},
            of_intervals(0.1, 0.05, 0.15, "above") | {"second": "uniform", "decoding": "greedy"},
            of_intervals(0.0, -0.02, 0.02) | {"second": "exact-average"},
            of_intervals(0.0, -0.2, 0.2) | {"second": "exact-average", "decoding": "greedy"},
        ]
    )
    lines = [
        ("emorl", "default", 0.2, 2.0),
        ("emorl", "grid", 0.4, 3.0),
        ("uniform", "default", 0.3, 4.0),
        ("exact-average", "default", 0.1, 5.0),
    ]
    one = pd.DataFrame(lines, columns=["method", "choice", "score", "kl"])
    rows = pd.concat([one.assign(seed=seed, score=one["score"] + seed / 10) for seed in range(3)], ignore_index=True)
    rows = rows[(rows["method"] != "uniform") | (rows["seed"] < 2)]  # a seed that one of them lacks counts for neither
    rows = rows.assign(**{name: rows["score"] for name in NAMES})
    said = real.answer_reading(found, rows, NAMES)
    assert said.startswith(
        "**Is it the ensemble?** EMORL is, beside one policy with as many prompts, below (sampled) and above (greedy); beside the same "
        "adapters, averaged exactly, as good as equal (sampled) and open (greedy). Its weights"
    )
    assert "instead EMORL has, greedy, −0.100 [−0.100, −0.100] less the one policy and +0.100 [+0.100, +0.100] less the exact" in said
    assert said.endswith("Their KL to the base goes from 3.0 nats a reply (EMORL) to 5.0 (exact averages).")
    alone = real.answer_reading(found[found["second"] == "exact-average"], rows[rows["method"] == "emorl"], NAMES)
    assert "one policy" not in alone and alone.endswith("open (greedy).")
    middle = rows.assign(kl=rows["kl"].where(rows["method"] != "uniform", 1.0))
    assert real.answer_reading(found, middle, NAMES).endswith(
        "1.0 nats a reply (uniform with an equal sum) to 5.0 (exact averages), EMORL 3.0."
    )
    assert real.answer_reading(found.assign(second="base"), rows, NAMES) == ""
    assert "as good as equal to exact averages (0.000 [−0.020, +0.020])" in real.short_reading(found, ["exact-average"])
    assert "not clearly apart from exact averages" in real.short_reading(found, ["exact-average"], "greedy")


def test_what_holm_leaves_open_needs_more_than_there_is():
    table = real.differences(prompts(EFFECTS, seeds=3, noise=0.12, of_seeds=0.03))
    alone = table[(table["verdict"] == "open") & ((table["low"] > 0) | (table["high"] < 0)) & ~table["high"].between(-0.03, 0.03)]
    assert len(alone)
    for _, row in alone.iterrows():
        assert not row["more_seeds"] <= 3


def test_a_seed_that_lacks_a_method_is_left_out_of_that_difference_alone():
    table = prompts(noise=0.02)
    found = real.differences(table[(table["method"] != "gdpo") | (table["seed"] != 3)])
    seeds = found.drop_duplicates("second").set_index("second")["seeds"]
    assert seeds["gdpo"] == 4 and (seeds.drop("gdpo") == 5).all()
    assert "fewer seeds: GDPO 4)" in real.comparison_reading(found).replace("; geometric", "); geometric")
    one = real.differences(table[(table["method"] != "gdpo") | (table["seed"] == 3)])
    row = one[one["second"] == "gdpo"].iloc[0]
    assert row["verdict"] == "open" and math.isnan(row["low"])
    text = real.comparison_reading(one)
    assert "Too few in common for an interval: GDPO (1 seed, 40 statements)" in text and "nan" not in text
    assert "over all 7 differences" in text and "8 differences" not in text, "one without an interval was not tested"


def test_one_seed_judges_nothing():
    found = real.differences(prompts(seeds=1))
    text = real.comparison_reading(found)
    assert set(found["verdict"]) == {"open"} and "nothing to judge by" in text and "nan" not in text and "Holm" not in text


@pytest.mark.parametrize("method", ["emorl", "gdpo"])
def test_a_method_that_is_missing_is_told_in_a_line(method):
    table = prompts(clients=3, seeds=2)
    with pytest.raises(UserError, match=f"no sampled scores of {method}") as told:
        real.differences(table[table["method"] != method])
    assert "\n" not in str(told.value)


def test_what_does_not_fit_together_is_told():
    table = prompts(clients=3, seeds=2)
    with pytest.raises(UserError, match="no complete scores of base"):
        real.differences(table.drop(table[(table["method"] == "base") & (table["seed"] == 1)].index[:1]))
    with pytest.raises(UserError, match="no seed in common"):
        real.differences(
            table[(table["method"] != "base") | (table["seed"] == 1)].replace({"seed": {1: 7}}).query("method == 'base' or seed == 0")
        )
    with pytest.raises(UserError, match="same prompts"):
        real.differences(table[(table["method"] != "base") | (table["prompt"] < 2)])
    others = table["method"] == "base"
    with pytest.raises(UserError, match="same prompts"):
        real.differences(table.assign(prompt=table["prompt"] + others))
    with pytest.raises(UserError, match="no column 'decoding'"):
        real.differences(table.drop(columns="decoding"))


def test_the_table_to_look_at():
    shown = real.comparison_table(real.differences(prompts(noise=0.03)))
    assert list(shown.columns) == ["method", "sampled", "EMORL less it, sampled", "greedy", "EMORL less it, greedy"]
    assert shown["method"].tolist()[0] == "EMORL" and len(shown) == 9 and shown.iloc[0, 2] == ""
    base = shown.set_index("method").loc["the base"]
    assert base["EMORL less it, sampled"].startswith("+0.1") and base["EMORL less it, sampled"].endswith("above")
    assert shown["sampled"].iloc[0] == pytest.approx(0.5, abs=0.01)


# -- equal distances, another source, the grid


def matched(gain=0.1, reached=lambda method, seed, target: True) -> pd.DataFrame:
    rows = []
    for seed, method, target in itertools.product(range(4), ("emorl", "uniform", "base"), (0.5, 1.0)):
        there = method != "base" and reached(method, seed, target)
        score = 0.4 + gain * (method == "emorl") + 0.001 * seed * (method == "uniform") if there else math.nan
        rows.append({"seed": seed, "method": method, "choice": "grid", "target": target, "reached": there, "sampled_mean": score})
    return pd.DataFrame(rows)


def test_at_equal_kl():
    table = real.matched_table(matched())
    assert table["method"].tolist() == ["emorl", "uniform"] * 2 and table["seeds"].eq(4).all()
    text = real.matched_reading(table)
    assert "At about 0.50 nats a reply, sampled, EMORL scores 0.500 (4 seeds); above uniform with an equal sum (+0.098" in text
    assert "corrected for 2 looks" in text, "one method at two distances"
    near = real.matched_table(matched().query("target < 1"))
    assert "looks" not in real.matched_reading(near) and near["low"].iloc[1] > table["low"].iloc[1], "one look, a narrower interval"
    assert "Nobody gets as far as 4.00 nats." in real.matched_reading(table, targets=[0.5, 1.0, 4.0])
    with_one_seed = pd.concat([matched(), matched().query("method == 'uniform' and seed == 0").assign(method="gdpo")])
    told = real.matched_reading(real.matched_table(with_one_seed))
    assert "corrected for 2 looks" in told and "not judged on one seed beside GDPO" in told, "what has no interval is no look"
    two = real.matched_reading(real.matched_table(matched(reached=lambda method, seed, target: method == "emorl" or seed < 2)))
    assert ", 2 seeds of both" not in two and "corrected for 2 looks" in two, "the only other method has two everywhere"
    pair = pd.concat([matched(), matched().query("method == 'uniform' and seed < 2").assign(method="gdpo")])
    assert ", 2 seeds of both)" in real.matched_reading(real.matched_table(pair))
    assert "; below uniform" in real.matched_reading(real.matched_table(matched(-0.1)))
    assert "; open beside uniform" in real.matched_reading(real.matched_table(matched(0.001)))
    far = real.matched_reading(real.matched_table(matched(reached=lambda method, seed, target: target < 1 or method != "emorl")))
    assert "At about 1.00 nats a reply EMORL is not compared: none of its seeds gets so far." in far
    alone = real.matched_reading(real.matched_table(matched(reached=lambda method, seed, target: method == "emorl")))
    assert "nobody else gets so far" in alone and "nan" not in alone
    few = real.matched_reading(real.matched_table(matched(reached=lambda method, seed, target: method == "emorl" or seed == 1)))
    assert "not judged on one seed beside uniform" in few
    nobody = real.matched_table(matched(reached=lambda method, seed, target: False))
    assert nobody.empty and real.matched_shown(nobody).empty and real.matched_reading(nobody).startswith("No method gets as far")
    with pytest.raises(UserError, match="equal KL has no rows of emorl"):
        real.matched_table(matched().query("method != 'emorl'"))


def quality(effects=EFFECTS, other=None, most_frequent=0.05, coherence=0.0, seeds=5) -> pd.DataFrame:
    """Mean scores .4 + effect by the own judges, .4 + `other` by the second; greedy and sampled, at home and elsewhere."""
    rng, rows = np.random.default_rng(1), []
    for seed, (method, effect), place, decoding in itertools.product(
        range(seeds), effects.items(), ("pair", "counsel-chat"), ("greedy", "sampled")
    ):
        trained = method != "base"
        row = {"seed": seed, "method": method, "set": place, "decoding": decoding, "n": 40}
        row |= {name: 0.4 + effect + trained * rng.normal(0, 0.002) for name in NAMES}
        row |= {
            f"{name}_second": 0.4 + (effect if other is None else other.get(name, 0.0) * trained) + trained * rng.normal(0, 0.002)
            for name in NAMES
        }
        row |= {"coherence": 0.9 + coherence * trained, "most_frequent": most_frequent if trained else 0.05}
        rows.append(row)
    return pd.DataFrame(rows)


def test_on_another_source():
    table, home = real.transfer_table(quality(), NAMES), real.differences(prompts(noise=0.02))
    assert table["method"].tolist()[0] == "emorl" and len(table) == 18 and table["seeds"].eq(5).all()
    text = real.transfer_reading(table, home)
    assert "On counsel-chat, sampled, EMORL scores 0.50" in text and "above " in text and "below uniform with an equal sum" in text
    decided = int((home[home["decoding"] == "sampled"]["verdict"] != "open").sum())
    assert f"Decided at home and of the same sign there: all {decided} differences." in text
    turned = real.transfer_reading(real.transfer_table(quality(EFFECTS | {"emorl": -0.2}), NAMES), home)
    assert f"Decided at home and of the same sign there: 1 of {decided} differences." in turned
    open_at_home = real.differences(prompts(dict.fromkeys(EFFECTS, 0.1), noise=0.02, of_seeds=0.02))
    assert "nothing is decided that could be found again" in real.transfer_reading(table, open_at_home.assign(verdict="open"))
    with pytest.raises(UserError, match="no test set 'elsewhere': it has counsel-chat and pair"):
        real.transfer_table(quality(), NAMES, where="elsewhere")
    with pytest.raises(UserError, match="no sampled scores of dera on counsel-chat"):
        real.transfer_table(quality().query("method != 'dera'"), NAMES)


def choices(optimum=0.02, sampled=0.02) -> pd.DataFrame:
    rows = []
    gains = {"default": 0.0, "grid": 0.05, "grid, mean": 0.05, "published search": 0.05}
    gains |= {"exact optimum": 0.05, "exact optimum, geometric mean": 0.05}
    for seed, (choice, gain) in itertools.product(range(5), gains.items()):
        exact = choice.startswith("exact")
        greedy, drawn = 0.4 + gain + exact * (optimum + 0.001 * seed), 0.3 + gain + exact * (sampled - 0.001 * seed)
        row = {"seed": seed, "method": "emorl", "choice": choice, "kl": 2.0, "mean": greedy, "sampled_mean": drawn}
        row |= {"w_reflection": 0.5, "w_empathy": 0.5 - 0.1 * (seed % 2), "w_fluency": 0.0}
        rows.append(row | dict.fromkeys(NAMES, greedy) | {f"sampled_{name}": drawn for name in NAMES})
    return pd.DataFrame(rows)


def test_the_weights_are_told_and_whose_adapter_they_leave_out():
    text = real.weights_reading(choices(), NAMES)
    assert "(grid, by the geometric mean), are, for reflection, empathy, fluency: (0.50, 0.50, 0.00), (0.50, 0.40, 0.00)," in text
    assert "So the adapter of fluency is not used at all" in text
    same = real.weights_reading(choices().assign(w_empathy=0.25, w_fluency=0.25), NAMES)
    assert same.endswith("(0.50, 0.25, 0.25) in every seed.")
    one = choices().assign(w_fluency=lambda t: 0.1 * (t["seed"] == 3))
    assert "not used" not in real.weights_reading(one, NAMES), "one seed uses it"
    assert real.weights_reading(choices().query("choice != 'grid'"), NAMES) == ""
    assert real.weights_reading(choices().drop(columns="w_fluency"), NAMES) == ""


def test_what_the_grid_missed():
    table = real.choices_table(choices(), NAMES)
    assert table["choice"].tolist()[:2] == ["uniform weights", "grid, by the geometric mean"] and len(table) == 6
    assert table["geometric mean, greedy"].tolist() == pytest.approx(table["mean, greedy"].tolist())
    better = real.choices_reading(choices(), NAMES)
    assert "By the geometric mean the exact optimum of greedy validation replies, less the grid's choice: greedy +0.022" in better
    assert better.count("better") == 4 and "The highest geometric mean of sampled replies is had by the weights of: exact optimum" in better
    worse = real.choices_reading(choices(-0.02, -0.02), NAMES)
    assert worse.count("worse") == 4 and "No other choice is above the grid's" in worse
    assert "no clear difference" in real.choices_reading(choices(-0.002, 0.002), NAMES)
    by_mean = real.choices_table(choices().query("choice != 'grid, mean'"), NAMES)
    assert by_mean["choice"].tolist()[1] == "grid, by the mean", "a study that knows no other utility"
    without = choices().query("not choice.str.startswith('exact')")
    assert "no exact optimum stands beside" in real.choices_reading(without, NAMES)
    with pytest.raises(UserError, match="no column 'sampled_empathy'; studies made now have it"):
        real.choices_reading(choices().drop(columns="sampled_empathy"), NAMES)
    with pytest.raises(UserError, match="no rows of emorl"):
        real.choices_table(choices().assign(method="uniform"), NAMES)


def test_the_optimum_of_sampled_replies_stands_beside_the_grid():
    maps = pd.DataFrame(
        [{"seed": s, "policy": "sampled optimum", "set": "test", "temperature": 1.0, "mean": 0.45 + 0.001 * s} for s in range(5)]
    )
    maps = maps.assign(**{name: maps["mean"] for name in NAMES})
    table = real.choices_table(choices(), NAMES, maps)
    assert table["choice"].iloc[-1] == "sampled optimum, by the mean" and math.isnan(table["mean, greedy"].iloc[-1])
    best = maps.assign(**{name: 0.45 if name in ("mean", *NAMES) else maps[name] for name in ("mean", *NAMES)}).iloc[:1]
    uneven = choices().assign(**{f"sampled_{name}": choices()["sampled_mean"] + 0.3 * (choices()["seed"] == 0) for name in NAMES})
    assert "of the sampled optimum" not in real.choices_reading(uneven, NAMES, best), "a good seed is no better choice"
    text = real.choices_reading(choices(), NAMES, maps)
    assert "The optimum of sampled validation replies, chosen by the mean, less the grid's choice, sampled: by the mean +0.102" in text
