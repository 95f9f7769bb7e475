"""What a study's methods score by each objective, and where one policy stays at its base."""

from __future__ import annotations

import pandas as pd
import pytest
from test_readings_real import NAMES, prompts

from emorl_lite.base.errors import UserError
from emorl_lite.readings import real_objectives as by

pytestmark = pytest.mark.plain


def scored(**scores: tuple[float, float, float]) -> pd.DataFrame:
    """A study's prompts: two seeds and two clients a method, all with these scores."""
    rows = [
        {"seed": seed, "method": name.replace("_", "-"), "choice": "default", "decoding": "sampled", "prompt": client}
        | dict(zip(NAMES, values, strict=True))
        for name, values in scores.items()
        for seed in (0, 1)
        for client in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_means_are_over_seeds_and_prompts_at_each_method_s_own_setting():
    made = prompts(seeds=3, clients=10)
    made.loc[made["seed"] == 0, "empathy"] = 0.0
    found = by.objectives_table(made, ["uniform", "base"])
    assert found["method"].tolist() == ["emorl", "uniform", "base"] and found["seeds"].eq(3).all()
    first = found.set_index("method").loc["emorl"]
    assert first["reflection"] == pytest.approx(0.5) and first["empathy"] == pytest.approx(0.5 * 2 / 3)
    assert first["mean"] == pytest.approx((0.5 + 0.5 + 0.5 * 2 / 3) / 3)
    assert first["geometric mean"] == pytest.approx(0.5 * 2 / 3), "of each seed, then averaged: a seed with an objective at 0 has 0"
    with pytest.raises(UserError, match="complete scores of gdpo"):
        by.objectives_table(made[made["method"] != "gdpo"], ["gdpo"])
    assert by.objectives_shown(found)["method"].tolist() == ["EMORL", "uniform with an equal sum", "the base"]


def test_seeds_that_one_method_lacks_count_for_none():
    made = prompts(seeds=3, clients=10, of_seeds=0.1)
    few = made[(made["method"] != "uniform") | (made["seed"] == 1)]
    one = made[made["seed"] == 1]
    pd.testing.assert_frame_equal(by.objectives_table(few, ["uniform", "base"]), by.objectives_table(one, ["uniform", "base"]))
    assert by.objectives_reading(few, NAMES) == by.objectives_reading(one, NAMES) and "(1 seed)" in by.objectives_reading(few, NAMES)


def test_where_one_policy_stays_at_its_base():
    stays = by.objectives_reading(scored(emorl=(0.4, 0.5, 0.3), uniform=(0.5, 0.11, 0.5), base=(0.1, 0.1, 0.2)), NAMES)
    assert stays.startswith("Sampled, EMORL less uniform with an equal sum: empathy +0.39, fluency −0.20 and reflection −0.10 (2 seeds).")
    assert stays.endswith("hardly above its base, or not at all, in empathy (0.11, the base 0.10).")
    leaves = by.objectives_reading(scored(emorl=(0.4, 0.5, 0.3), uniform=(0.9, 0.4, 0.5), base=(0.1, 0.1, 0.2)), NAMES)
    assert ": reflection −0.50, fluency −0.20 and empathy +0.10" in leaves and leaves.endswith(
        "That policy is above its base in each objective."
    )
    near = by.objectives_reading(scored(emorl=(0.4, 0.5, 0.3), uniform=(0.41, 0.5, 0.3), base=(0.1, 0.1, 0.2)), NAMES)
    assert near == "Sampled, EMORL and uniform with an equal sum are within 0.03 of each other in every objective (2 seeds)."
    assert by.objectives_reading(scored(emorl=(0.4, 0.5, 0.3), base=(0.1, 0.1, 0.2)), NAMES) == ""
