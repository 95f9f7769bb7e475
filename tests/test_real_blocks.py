"""The blocks of the real study are made of its tables, and take the place of the earlier ones by a line each."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from test_readings_judges import headroom
from test_readings_real import NAMES, choices, matched, prompts, quality

from emorl_lite.base.errors import UserError
from emorl_lite.readings import page, real_blocks, results
from emorl_lite.study.tables import table_path

BLOCKS = ("main_table", "main_sentence", "headroom", "two_judges", "matched", "transfer", "choices")


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


def test_methods_that_were_not_trained_are_named(made, tmp_path):
    folder = tmp_path / "smollm2"
    folder.mkdir()
    path = table_path(folder, "prompts")
    table = pd.read_csv(table_path(made.parent / "smollm2", "prompts"))
    table[~table["method"].isin(["gdpo", "dera"])].to_csv(path, index=False)
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
