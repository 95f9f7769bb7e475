"""The blocks of the real study are made of its tables, and take the place of the earlier ones by a line each."""

from __future__ import annotations

import itertools
import json
import math
import re

import pandas as pd
import pytest
from test_readings_judges import headroom
from test_readings_real import NAMES, choices, matched, prompts, quality

from emorl_lite.base.errors import UserError
from emorl_lite.readings import page, real, real_blocks, real_runs, results
from emorl_lite.rewards.text_gate import gate
from emorl_lite.study.tables import table_path

BLOCKS = (
    "gate",
    "runs",
    "main_table",
    "main_sentence",
    "short",
    "headroom",
    "two_judges",
    "matched",
    "transfer",
    "choices",
    "by_objective",
    "repeated",
)


TWICE = {"first": dict.fromkeys(NAMES, 0.4) | {"empathy": 0.05}, "second": dict.fromkeys(NAMES, 0.4)}
"""A run that found an objective the second time."""


def log(first, validation):
    """A run of three steps whose sampled reward begins at `first`."""
    rows = [{"step": i + 1, "episodes": 32 * (i + 1), "reward": first + i / 10, "kl": i / 2} for i in range(3)]
    return pd.DataFrame(rows).assign(validation=[0.5, math.nan, validation])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made study's tables, as files."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "smollm2"
    folder.mkdir()
    tables = {"prompts": prompts(noise=0.05, clients=12), "quality": quality(), "matched": matched(), "rows": choices()}
    for name, table in tables.items():
        table.to_csv(table_path(folder, name), index=False)
    headroom().to_csv(folder / real_blocks.HEADROOM, index=False)
    gate({"auc high/low": 0.97, "mean low": 0.2, "mean high": 0.8}).to_csv(folder / real_blocks.JUDGES, index=False)
    twice = [
        {"method": "uniform", "seed": 0, "run": run, "decoding": d, **scores}
        for run, scores in TWICE.items()
        for d in ("sampled", "greedy")
    ]
    pd.DataFrame(twice).to_csv(folder / real_blocks.REPEATED, index=False)
    for seed, name in itertools.product(range(2), NAMES):
        run = folder / f"seed{seed}" / name
        run.mkdir(parents=True)
        log(0.1 + seed / 10, 0.5 if name == "fluency" else 0.7).to_csv(run / "log.csv", index=False)
    return root / "results"


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_is_made(made, name, monkeypatch):
    monkeypatch.setitem(results.BLOCKS, "real", getattr(real_blocks, name))
    text = results.filled("<!-- made: real -->\n<!-- end -->\n", made)
    assert "nan" not in text and "None" not in text and text.count("<!--") == 2
    assert not re.search(r"(?<![\d.])0\.\d", re.sub(r"\|.*\n\|---.*\n", "", text)), "a leading zero"
    assert all(len(line) <= page.WIDTH for line in text.splitlines() if not line.startswith("|"))


def test_they_say_what_the_tables_hold(made):
    table, sentence = real_blocks.main_table(made), real_blocks.main_sentence(made)
    assert table.splitlines()[2].startswith("| EMORL | .") and "| the base | ." in table and "above" in table
    assert "EMORL is **above**" in sentence and "Not in this study" not in sentence
    assert "have room in reflection (+.40)" in " ".join(real_blocks.headroom(made).split())
    assert "| EMORL less it, KL 0.5 |" in real_blocks.matched(made)
    assert "On counsel-chat, sampled" in real_blocks.transfer(made) and "By the geometric mean the exact" in real_blocks.choices(made)


def test_judges_are_held_to_their_limits_alone(made):
    text = real_blocks.gate(made)
    rows = [row for row in text.splitlines() if row.startswith("| ") and "measure" not in row]
    assert "| auc high/low | .970 | at least .95 | yes |" in rows and "| mean low | .200 | below .15 | no |" in rows
    assert not any("mean high |" in row for row in rows), "no limit, no row"
    missed = {row.split(" | ")[0].removeprefix("| ") for row in rows if row.endswith("| no |")}
    said = " ".join(text.split("\n\n")[1].split())
    assert said.startswith(f"The judges keep {len(rows) - len(missed)} of {len(rows)} limits") and all(name in said for name in missed)


def test_runs_are_told_from_their_first_step_to_their_last(made):
    text = " ".join(real_blocks.runs(made).split())
    assert "| empathy | 2 | 96 | .150 | .350 | .500 | .700 | 1.000 |" in text
    assert "empathy .15 → .35" in text and "(2 seeds)" in text and "reflection and empathy rise and fluency does not." in text
    table = real_runs.runs_table(pd.concat([log(0.1, 0.5).assign(objective=name, seed=0) for name in NAMES]), NAMES)
    assert real_runs.runs_reading(table).endswith("; greedily reflection, empathy and fluency do not.")
    with pytest.raises(UserError, match="none of warmth"):
        real_runs.runs_table(log(0.1, 0.5).assign(objective="empathy", seed=0), ["empathy", "warmth"])


def test_a_seed_that_was_trained_twice_is_told(made):
    text = " ".join(real_blocks.repeated(made).split())
    assert "Seed 0 of uniform with an equal sum was trained twice" in text
    assert ".200 the first time and .400 the second time, with empathy .05 and .40." in text


def test_the_readme_tells_three_of_the_differences(made):
    text = " ".join(real_blocks.short(made).split())
    assert text.startswith("EMORL, sampled, by the geometric mean of the objectives (") and text.endswith(").")
    found = real_blocks._compared(made).query("decoding == 'sampled'").set_index("second")
    for method in real_blocks.SHORT:
        row = found.loc[method]
        assert f"{'not clearly apart from' if row['verdict'] == real.OPEN else row['verdict']} {real.called(method)} (" in text


def test_methods_that_were_not_trained_are_named(made, tmp_path):
    folder = tmp_path / "smollm2"
    folder.mkdir()
    path = table_path(folder, "prompts")
    table = pd.read_csv(table_path(made.parent / "smollm2", "prompts"))
    table[~table["method"].isin(["gdpo", "dera"])].to_csv(path, index=False)
    choices().to_csv(table_path(folder, "rows"), index=False)
    text = " ".join(real_blocks.main_sentence(tmp_path / "results").split())
    assert text.endswith("Not in this study: DeRa, GDPO.") and "all 6 differences" in text
    table[table["method"] != "emorl"].to_csv(path, index=False)
    with pytest.raises(UserError, match="no sampled scores of emorl"):
        real_blocks.main_table(tmp_path / "results")
    table[table["method"] == "emorl"].to_csv(path, index=False)
    with pytest.raises(UserError, match="none of the methods"):
        real_blocks.main_table(tmp_path / "results")
    with pytest.raises(UserError, match=r"methods_quality\.csv"):
        real_blocks.two_judges(tmp_path / "results")


def test_how_many_samples_is_told_of_a_study_that_says_so(made, monkeypatch):
    monkeypatch.setattr(real_blocks, "read_provenance", lambda path: json.loads('{"study": {"samples": 4}}'))
    assert real_blocks.main_sentence(made).startswith("**Sampled replies, 4 a statement**")


def test_numbers_lose_their_leading_zeros_and_nothing_else():
    assert page.bare("+0.054 [−0.020, 10.5], version 1.0.2") == "+.054 [−.020, 10.5], version 1.0.2"
    shown = page.markdown(
        pd.DataFrame({"a": [0.5, float("nan")], "n": [3, 4], "b": ["0.1", ""], **{name: [1.0, 0.0] for name in NAMES[:1]}})
    )
    assert shown.splitlines()[2:] == ["| .500 | 3 | .1 | 1.000 |", "|  | 4 |  | .000 |"]
