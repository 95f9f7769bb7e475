"""What the tour says of a client, of replies and their labels, of the base and of the seeds, whichever way the numbers come out."""

from __future__ import annotations

import pandas as pd
import pytest

from emorl_lite.readings.tour import (
    base_reading,
    client_says,
    labels_reading,
    mixture_reading,
    paraphrase_reading,
    together_reading,
    tour_reading,
    truth_reading,
    world_reading,
    wrong_element_reading,
)

pytestmark = pytest.mark.plain
NAMES = ("reflection", "empathy", "fluency")


def test_a_client_is_quoted_as_text():
    said = client_says("I owe $5 and $6.\n# *Help* <img src=x> [now](http://a.b)")
    assert not set("<[*#$\n") & set(
        said.removeprefix("**The client says:**").replace("<span>", "").replace("</span>", "").replace("&#", "")
    )


def replies(two=0.75, flawed=0.6):
    rows = [("full", "warm2", 3, 0, 1.0, 1.0), ("full", "none", 3, 0, 1.0, 0.2), ("two", "cold", 2, 0, two, 0.0)]
    rows += [("flawed", "none", 2, 1, flawed, 0.2), ("wrong", "none", 0, 3, 0.0, 0.2)]
    return pd.DataFrame(rows, columns=["content", "warmth", "right", "wrong", "reflection", "empathy"])


def test_labels_are_read_aloud():
    text = labels_reading(replies())
    assert "labelled 1.00" in text and "1.00 and 0.20" in text and "3 wrong elements, and a label of 0.00" in text
    told = wrong_element_reading(replies())
    assert "2 elements said back and no wrong one: 0.75" in told and "1 wrong element besides: 0.60, 0.15 less" in told
    assert world_reading(16, 2013, 19_846, 20_000).startswith("16 topics, 2,013 word forms, and 19,846 distinct pairs among 20,000")


def test_a_paraphrase_is_seen_or_not():
    assert "reflection 0.00, empathy 0.20. What it says back is not seen." in paraphrase_reading((0.0, 0.2))
    assert "reflection 0.40, empathy 0.65. What it says back is seen in part." in paraphrase_reading((0.4, 0.65))


def test_the_mixture_beside_greedy_replies():
    shares = {"full": 0.06, "two": 0.08, "one": 0.1, "generic": 0.38, "advice": 0.2, "question": 0.14, "wrong": 0.04}
    below = mixture_reading(shares, [0.0, 0.0])
    assert "worth 0.16" in below and "lie below that, at 0.00" in below and "make 76 of 100 in the mixture" in below
    assert "lie above that, at 0.50" in mixture_reading(shares, [0.0, 1.0]) and "likely one" not in mixture_reading(shares, [1.0])
    assert "lie at that" in mixture_reading(shares, [0.16])


def test_together_and_in_truth():
    assert "above the best of them" in together_reading(tour([0.7, 0.7]), NAMES)
    assert "not above the best" in together_reading(tour([0.39, 0.39]), NAMES)
    assert "no better than their average" in together_reading(tour([0.2]), NAMES)
    for reward, truth, told in ((0.9, 0.8, "paid for more"), (0.8, 0.9, "does not overrate"), (0.8, 0.81, "agree")):
        text = truth_reading(pd.DataFrame({"policy": ["reflection", "base"], "reflection": [reward, 0], "true_reflection": [truth, 0]}))
        assert told in text and f"{reward:.2f} in reward and is worth {truth:.2f}" in text


def tour(ensemble, own=0.9, empathy_fluency=0.1):
    rows = []
    for seed, mean in enumerate(ensemble):
        scores = {
            "base": (0.1, 0.2, 0.3),
            "reflection": (own, 0.2, 0.1),
            "empathy": (0.1, own, empathy_fluency),
            "fluency": (0.1, 0.2, 0.5),
        }
        rows += [{"seed": seed, "policy": p, **dict(zip(NAMES, s, strict=True)), "mean": sum(s) / 3} for p, s in scores.items()]
        rows.append({"seed": seed, "policy": "ensemble", **dict.fromkeys(NAMES, mean), "mean": mean})
    return pd.DataFrame(rows)


def test_the_tour_tells_who_leads():
    ahead = tour_reading(tour([0.7, 0.72, 0.71]), NAMES)
    assert "in 3 of 3 seeds: 0.71" in ahead and "no clear difference" not in ahead and "no single-objective model is best" in ahead
    assert "in 0 of 3 seeds" in tour_reading(tour([0.2, 0.2, 0.2]), NAMES)
    assert "2 of 3 seeds" in tour_reading(tour([0.1, 0.7, 0.7]), NAMES) and "no clear" in tour_reading(tour([0.1, 0.7, 0.7]), NAMES)
    assert "in 1 of 1 seed" in tour_reading(tour([0.7]), NAMES)
    best_at_all = tour([0.7, 0.7], own=0.9)
    best_at_all.loc[best_at_all.policy == "empathy", list(NAMES)] = 0.95
    text = tour_reading(best_at_all, NAMES)
    assert "own reward: 2 of 6 runs" in text and "another reward: 4 of 6 runs" in text and "best, or level, at all" in text


def test_a_mediocre_and_a_good_base():
    poor = base_reading(pd.DataFrame({"reflection": [0.0, 0.4], "empathy": [0.2, 0.2]}))
    assert "Over 2 held-out clients: true reflection 0.20" in poor and "back: 1 of 2; with something warm in them: 0." in poor
    assert "something to do" in poor
    assert "little to do" in base_reading(pd.DataFrame({"reflection": [1.0], "empathy": [1.0]}))
