"""What is said of GDPO and of Bone Soups is built from the numbers, and a study without them is told so."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emorl_lite.methods.gdpo import KL_TIMES
from emorl_lite.readings import rivals


def rows(gdpo: float, **columns: float) -> pd.DataFrame:
    values = [("grpo", 0.5, 1.0), ("gdpo", 0.5 + gdpo, 2.0)]
    lines = [
        {"method": m, "choice": "default", "seed": s, "mean": x + s / 1000, "sampled_mean": x, "kl": kl}
        for m, x, kl in values
        for s in range(3)
    ]
    return pd.DataFrame(lines)


def test_gdpo_beside_grpo():
    said = rivals.gdpo_reading(rows(0.1))
    assert f"is {KL_TIMES:g} times" in said and "+0.100" in said and "2.00 and 1.00 nats" in said
    assert "−0.200" in rivals.gdpo_reading(rows(-0.2)) and "sampled" in said
    assert "sampled" not in rivals.gdpo_reading(rows(0.1).drop(columns=["sampled_mean", "kl"]))


def test_a_study_without_them_is_told_so():
    only = rows(0.1).query("method == 'grpo'")
    assert "no run of *gdpo*" in rivals.gdpo_reading(only) and "no run of *gdpo*" in rivals.gdpo_reading(pd.DataFrame())
    assert "no run of Bone Soups" in rivals.bone_soups_reading(only)


def test_the_other_backbones_are_subtracted_added_or_left_out():
    names = ["x", "y", "z"]
    said = rivals.undone_reading(names, 0, np.array([1.5, -0.25, -0.25]))
    assert "subtracted" in said and "+1.500 of x's" in said and "sum to 1.00" in said
    assert "added" in rivals.undone_reading(names, 1, np.array([0.2, 0.6, 0.2]))
    assert "left out" in rivals.undone_reading(names, 2, np.array([0.0, 0.0, 1.0]))
    assert "not treated alike" in rivals.undone_reading(names, 2, np.array([-0.1, 0.1, 1.0]))


def test_what_merging_brought():
    said = rivals.merged_reading(["x", "y"], np.array([0.5, 0.5]), np.array([0.6, 0.4]))
    assert "x +0.100 and y −0.100" in said and "higher for 1 of 2" in said


def test_bone_soups_beside_the_average():
    lines = [
        {"method": m, "seed": s, "hypervolume": x + s / 1000, "steered": y + s * s / 1000}
        for m, x, y in (("bone-soups", 0.3, 0.4), ("exact-average", 0.2, 0.5))
        for s in range(4)
    ]
    said = rivals.bone_soups_reading(pd.DataFrame(lines))
    assert "Over 4 seeds" in said and "hypervolume +0.100" in said and "steered −0.100" in said
    assert "of these 2 differences 1 above 0, 1 below" in said and "long" not in said
