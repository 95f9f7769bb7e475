"""What a study's methods score by each objective, and where one policy stays at its base."""

from __future__ import annotations

import pandas as pd
import pytest
from test_readings_real import NAMES, prompts

from emorl_lite.base.errors import UserError
from emorl_lite.readings import real_objectives as by

pytestmark = pytest.mark.plain


def table(**scores: tuple[float, float, float]) -> pd.DataFrame:
    rows = [{"method": name.replace("_", "-"), "seeds": 3, **dict(zip(NAMES, values, strict=True))} for name, values in scores.items()]
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


def test_where_one_policy_stays_at_its_base():
    stays = by.objectives_reading(table(emorl=(0.4, 0.5, 0.3), uniform=(0.5, 0.1, 0.5), base=(0.1, 0.1, 0.2)), NAMES)
    assert stays.startswith("EMORL and uniform with an equal sum part most in empathy: 0.50 and 0.10, where the base has 0.10.")
    assert "In empathy the one policy is no further than its base (3 seeds)" in stays
    leaves = by.objectives_reading(table(emorl=(0.4, 0.5, 0.3), uniform=(0.9, 0.4, 0.5), base=(0.1, 0.1, 0.2)), NAMES)
    assert "part most in reflection: 0.40 and 0.90" in leaves and "above its base in every objective" in leaves
    near = by.objectives_reading(table(emorl=(0.4, 0.5, 0.3), uniform=(0.41, 0.5, 0.3), base=(0.1, 0.1, 0.2)), NAMES)
    assert near == "EMORL and uniform with an equal sum are within 0.03 of each other in every objective."
    assert by.objectives_reading(table(emorl=(0.4, 0.5, 0.3), base=(0.1, 0.1, 0.2)), NAMES) == ""
