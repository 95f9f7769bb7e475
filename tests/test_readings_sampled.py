"""What is said and drawn of sampled replies, whichever way the numbers come out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.plots.sampled import sample_sizes, temperature_line
from emorl_lite.plots.style import figure_bytes
from emorl_lite.readings import sampled as readings

OBJECTIVES = ["reflection", "empathy"]


def sizes(better: float = 0.01, seeds: int = 2, enough: float = 5.0) -> pd.DataFrame:
    rows = [
        {"seed": seed, "samples": n, "promised": 0.5 - 0.01 * k, "fresh": 0.4 + better * k, "error": 0.04 / n**0.5, "distance": 0.1 / n}
        for seed in range(seeds)
        for k, n in enumerate([1, 2, 4])
    ]
    table = pd.DataFrame(rows).assign(enough=np.nan)
    table["optimism"] = table["promised"] - table["fresh"]
    return pd.concat([table, pd.DataFrame({"seed": range(seeds), "samples": 8, "promised": 0.5, "enough": enough})], ignore_index=True)


def maps(sampled: float = 0.1, greedy: float = 0.0, chosen: float = 0.02) -> pd.DataFrame:
    """Gains of the adapters over the base, sampled and greedy; and of the weights chosen on samples over those chosen greedily."""
    rows = []
    for seed in (0, 1):
        for where in ("validation", "test"):
            for decoding, gain, sign in (("greedy", greedy, -1), ("sampled", sampled, 1)):
                means = {"base": 0.3} | dict.fromkeys([*OBJECTIVES, "uniform"], 0.3 + gain)
                means |= {"greedy optimum": 0.4, "sampled optimum": 0.4 + sign * chosen}
                for policy, mean in means.items():
                    row = {"seed": seed, "policy": policy, "set": where, "decoding": decoding, "mean": mean, "promised": 0.5}
                    row |= {"temperature": float(decoding == "sampled"), "w_base": 0.0, "w_reflection": 0.5, "w_empathy": 0.5}
                    rows.append(row | {"difference": mean - 0.4, "low": mean - 0.41, "high": mean - 0.39})
            hot = {"seed": seed, "policy": "optimum over weights and temperature", "set": where, "decoding": "sampled"}
            rows.append(hot | {"temperature": 0.5 + 0.1 * seed, "mean": 0.45, "promised": 0.5, "w_base": 0.0})
    return pd.DataFrame(rows)


def test_promise_and_truth_close_in_or_not():
    text = readings.sizes_reading(sizes())
    assert "Mean of 2 seeds: with 1 sample a client the choice promises 0.500 and gives 0.400" in text
    assert "shrinks 2.0-fold (the root of 4 is 2.0)" in text and "Flattery" not in text
    assert "no better than noise can tell" in readings.sizes_reading(sizes(better=-0.01))
    assert "More samples choose better weights, too (+0.100)" in readings.sizes_reading(sizes(better=0.05))
    one = sizes()
    assert readings.sizes_reading(one[one["samples"] == 1]).startswith("With 1 sample a client")


def test_how_many_samples_are_enough_is_said_with_its_flattery():
    text = readings.enough_reading(sizes(), target=0.02)
    assert "standard error of 0.02 at fixed weights, 4 samples" in text and "From 5 samples a client on" in text
    assert "more than the 4 measured" in text and "fresh noise, not the promise" in text
    assert "as much as a further client" in readings.enough_reading(sizes(enough=np.inf))
    assert "further" not in readings.enough_reading(sizes(enough=np.nan))
    assert "a flattery of 0.02, 1: so" in readings.enough_reading(sizes().assign(optimism=0.0), target=0.02)
    assert "not measured" in readings.enough_reading(sizes().iloc[:0])


def test_the_temperature_adds_what_it_adds():
    text = readings.heated_reading(maps())
    assert "temperatures of 0.50 and 0.60" in text and "better than the optimum at temperature 1 (+0.030 and +0.030)" in text
    assert "no better than" in readings.heated_reading(maps(chosen=0.2))
    borders, means = np.array([0.1, 0.5, 1.0, 2.0]), np.array([0.3, 0.5, 0.1])
    assert "highest, 0.500, at 0.50 to 1.00" in readings.temperature_reading(borders, means) and "luck" in readings.temperature_reading(
        borders, means
    )
    assert "the coldest is as good as any" in readings.temperature_reading(borders, means[::-1] + np.array([1.0, 0, 0]))


@pytest.mark.parametrize(
    ("value", "noise", "said"),
    [(0.3, 0.02, "more than 2 standard errors"), (0.38, 0.05, "has a standard error"), (0.5, 0.1, "not flattered")],
)
def test_a_promise_is_flattered_or_not(value, noise, said):
    scored = SimpleNamespace(map=SimpleNamespace(prompts=["a", "b"], samples=4, regions=range(30)))
    fit = SimpleNamespace(value=value, optimism=0.4 - value)
    assert said in readings.optimum_reading(scored, SimpleNamespace(value=0.4), fit, noise)


def test_a_sampled_word_is_the_greedy_one_or_another():
    assert "the greedy word as well" in readings.word_reading("you", "you", [0.5, 0.5], [0.49, 0.51])
    assert "greedy decoding says “I”" in readings.word_reading("you", "I", [0.5, 0.5], [0.49, 0.51])


def test_figures_of_samples_say_what_they_draw():
    figure = sample_sizes(sizes())
    assert figure_bytes(figure, "png") and "with 1 sample promised 0.500, fresh 0.400" in figure.alt_text.lower()
    figure = temperature_line(np.array([0.1, 0.5, 2.0]), np.array([[0.2, 0.4], [0.1, 0.9]]), OBJECTIVES, greedy=0.25)
    assert figure_bytes(figure, "png") and "highest 0.500 at 0.50 to 2.00" in figure.alt_text and "0.250: greedy" in figure.alt_text
    with pytest.raises(UserError, match="temperature_line"):
        temperature_line(np.array([0.1, 0.5]), np.ones((2, 2)), OBJECTIVES)
    with pytest.raises(UserError, match="empty"):
        sample_sizes(sizes().iloc[:0])
