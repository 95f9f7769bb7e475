"""What is said of headroom, of two judges and of guards, whichever way the numbers come out."""

from __future__ import annotations

import pandas as pd
import pytest
from test_readings_real import EFFECTS, NAMES, quality

from emorl_lite.base.errors import UserError
from emorl_lite.readings import judges

pytestmark = pytest.mark.plain


def headroom(base=0.3, sampled=0.2, good=0.6, qualities=("high", "medium", "low")) -> pd.DataFrame:
    rows = [
        {"policy": f"replies, {q}" if q else "replies", "n": 50} | dict.fromkeys(NAMES, good - 0.2 * i) for i, q in enumerate(qualities)
    ]
    for decoding, score in (("greedy", base), ("sampled", sampled)):
        rows.append({"policy": f"base, {decoding}", "n": 64} | dict.fromkeys(NAMES, score))
    return pd.DataFrame(rows)


def test_where_there_is_room():
    text = judges.headroom_reading(headroom(), NAMES)
    assert text.startswith("People's good replies score reflection 0.60, empathy 0.60, fluency 0.60; geometric mean 0.60 (50 replies).")
    assert "The base's sampled replies have room in reflection (+0.40), empathy (+0.40) and fluency (+0.40)" in text
    assert "geometric mean 0.30, room for 0.30." in text and "what the judge likes" not in text
    table = judges.headroom_table(headroom(), NAMES)
    assert table["geometric mean"].tolist() == pytest.approx(table["mean"].tolist()) and len(table) == 5


def test_where_there_is_none():
    scores = headroom(base=0.61, sampled=0.2)
    scores.loc[scores["policy"] == "base, greedy", "reflection"] = 0.75
    text = judges.headroom_reading(scores, NAMES)
    assert (
        "greedy replies have room in none, are level with people in empathy and fluency, and are above people already in reflection" in text
    )
    assert text.endswith("not shown to be better: it is what the judge likes.")
    level = judges.headroom_reading(headroom(base=0.6), NAMES)
    assert "level within 0.00" in level


def test_qualities_may_be_unknown_and_what_is_missing_is_told():
    assert "People's best replies (“replies”) score" in judges.headroom_reading(headroom(qualities=("",)), NAMES)
    second = headroom().assign(reflection_second=0.5)
    assert "reflection_second" in judges.headroom_table(second, NAMES)
    for broken in (headroom().query("policy != 'base, sampled'"), headroom(qualities=())):
        with pytest.raises(UserError, match="needs rows of people's replies"):
            judges.headroom_table(broken, NAMES)
    with pytest.raises(UserError, match="no column 'fluency'"):
        judges.headroom_reading(headroom().drop(columns="fluency"), NAMES)


def test_a_gain_that_both_judges_see():
    gains = judges.judged_gains(quality(), NAMES)
    own = gains[gains["method"] == "emorl"]
    assert set(own["verdict"]) == {"confirmed"} and own["ratio"].between(0.9, 1.1).all() and own["seeds"].eq(5).all()
    text = judges.judges_reading(gains)
    assert text.startswith("Sampled, EMORL gains by its own judges in all 3 objectives; the other judge confirms reflection (+0.1")
    assert "With none of the other methods" in text and "times as much" in text and "hacked" not in text
    assert "base" not in set(gains["method"])


def test_a_gain_that_one_judge_sees():
    other = {"reflection": 0.05, "empathy": 0.0, "fluency": -0.1}
    gains = judges.judged_gains(quality(other=other), NAMES)
    by = gains[(gains["method"] == "emorl") & (gains["decoding"] == "sampled")].set_index("objective")["verdict"]
    assert by.to_dict() == {"reflection": "confirmed", "empathy": "own judge alone", "fluency": "the other judge falls"}
    text = judges.judges_reading(gains)
    assert "it does not confirm empathy (+0.1" in text and "by it fluency (+0.1" in text and "there the own judge was hacked" in text
    assert "of which nothing is left" in text
    assert "the own judge rises and the other not clearly for uniform with an equal sum (empathy, fluency)" in text
    table = judges.judges_table(gains)
    assert table["other / own"].notna().any() and set(table["the gain is"]) >= {"confirmed", "own judge alone"}


def test_no_gain_a_loss_and_one_seed():
    nothing = judges.judged_gains(quality(dict.fromkeys(EFFECTS, 0.0)), NAMES, ["emorl"])
    flat = nothing.assign(verdict="no clear gain")
    assert "gains clearly in none of 3 objectives" in judges.judges_reading(flat)
    lost = judges.judged_gains(quality({"emorl": -0.1, "base": 0.0}), NAMES)
    said = judges.judges_reading(lost)
    assert set(lost["verdict"]) == {"a loss"} and "gains clearly in none of 3 objectives. Reflection, empathy and fluency fell" in said
    assert judges.judges_table(lost)["other / own"].isna().all()
    one = judges.judged_gains(quality(seeds=1), NAMES)
    text = judges.judges_reading(one)
    assert set(one["verdict"]) == {"one seed"} and "one seed of EMORL tells no gain from luck" in text and "nan" not in text
    assert "other methods" not in text, "of them one seed tells no more"


def test_a_seed_that_lacks_a_method():
    table = quality()
    gains = judges.judged_gains(table[(table["method"] != "emorl") | (table["seed"] != 2)], NAMES, ["emorl", "uniform"])
    assert gains.groupby("method")["seeds"].first().to_dict() == {"emorl": 4, "uniform": 5}


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (quality().query("method != 'base'"), {}, "no rows of base"),
        (quality(), {"methods": ["dynaopt"]}, "no rows of dynaopt"),
        (quality(), {"where": "home"}, "no test set 'home': it has counsel-chat and pair"),
        (quality().drop(columns=[f"{name}_second" for name in NAMES]), {}, "no second judge's scores"),
        (quality().drop(columns="decoding"), {}, "no column 'decoding'"),
        (quality().iloc[:0], {}, "is empty"),
    ],
)
def test_what_is_missing_is_told_in_a_line(table, options, said):
    with pytest.raises(UserError, match=said) as told:
        judges.judged_gains(table, NAMES, **options)
    assert "\n" not in str(told.value)


def test_guards():
    kept = judges.guards_reading(judges.guards_table(quality(most_frequent=0.1)))
    assert kept.startswith("No reply is given to 20 % of the clients by anybody: the most frequent is EMORL's (sampled, 10 %).")
    assert kept.endswith("Nobody's coherence is clearly below the base's.")
    table = judges.guards_table(quality(most_frequent=0.35, coherence=-0.2), ["emorl"])
    assert table["method"].tolist() == ["base", "base", "emorl", "emorl"] and table["difference"].iloc[:2].isna().all()
    broken = judges.guards_reading(table)
    assert "20 % or more of the replies are one and the same: sampled, EMORL (35 %); greedy, EMORL (35 %)" in broken
    assert "Coherence is below the base's: sampled, EMORL (−0.200); greedy, EMORL (−0.200)." in broken
    unclear = table.assign(high=0.01)
    said = judges.guards_reading(unclear)
    assert said.endswith("Nobody's coherence is clearly below the base's; lower, not clearly, in 2 comparisons.")
    one = table.assign(high=table["high"].mask(table["decoding"] == "greedy", 0.01))
    assert judges.guards_reading(one).endswith("sampled, EMORL (−0.200); lower, not clearly, in 1 further comparison.")
    with pytest.raises(UserError, match="no column 'most_frequent'"):
        judges.guards_table(quality().drop(columns="most_frequent"))
