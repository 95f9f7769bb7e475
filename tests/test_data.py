"""Data sets: splits, readers and every error a file can cause."""

import csv
import json
import os
import random
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import DataConfig
from emorl_lite.data import tables
from emorl_lite.data.datasets import (
    PAIR_COLUMNS,
    REPLIES_PER_CLIENT,
    clean,
    load_dataset,
    read_pair,
    read_table,
    split_by_hash,
)
from emorl_lite.data.small_world import grammar, split_of
from emorl_lite.lm.lengths import check_lengths

pytestmark = pytest.mark.plain

PAIR = Path(os.environ.get("EMORL_PAIR") or Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "pair" / "pair.csv")
needs_pair = pytest.mark.skipif(not PAIR.is_file(), reason="the PAIR file is not here (set EMORL_PAIR)")
SPLIT_NAMES = ["train", "validation", "test"]


def write_csv(path: Path, rows, delimiter: str = ",") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def table(path: Path, n: int) -> Path:
    return write_csv(path, [["prompt", "reply"], *([f"client {i}", f"answer {i}"] for i in range(n))])


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def no_shared_prompt(dataset) -> None:
    prompts = {s: set(dataset.prompts(s)) for s in SPLIT_NAMES}
    assert all(prompts.values())
    assert sum(map(len, prompts.values())) == len(set.union(*prompts.values()))
    for split in SPLIT_NAMES:
        assert {e.prompt for e in dataset.examples(split)} <= prompts[split]


# -- splits


def test_small_world_splits_share_no_prompt():
    data = load_dataset(DataConfig(train_prompts=4000, validation_prompts=300, test_prompts=500))
    no_shared_prompt(data)
    assert [len(data.prompts(s)) for s in SPLIT_NAMES] == [4000, 300, 500]
    for split in SPLIT_NAMES:
        assert all(split_of(p) == split for p in data.prompts(split))
        assert len(data.examples(split)) == REPLIES_PER_CLIENT * len(data.prompts(split))


def test_small_world_prompts_are_the_grammars_clients():
    data = load_dataset(DataConfig(train_prompts=50), seed=3)
    assert data.prompts("train") == [c.text for c in grammar().clients(50, "train", 3)]


@pytest.mark.parametrize("n", [3, 4, 5, 10, 40, 400])
def test_table_splits_share_no_prompt_and_are_never_empty(tmp_path, n):
    data = load_dataset(
        DataConfig(name="table", path=str(table(tmp_path / "t.csv", n)), train_prompts=1000, test_prompts=1000, validation_prompts=1000)
    )
    no_shared_prompt(data)
    assert sum(len(data.prompts(s)) for s in SPLIT_NAMES) == n


def test_table_shares_are_about_70_10_20():
    sizes = Counter(split_by_hash((f"client {i}" for i in range(5000)), "t").values())
    assert abs(sizes["train"] / 5000 - 0.7) < 0.03 and abs(sizes["validation"] / 5000 - 0.1) < 0.02


@given(st.lists(st.text(), min_size=3, unique=True), st.randoms(use_true_random=False))
def test_splits_depend_on_neither_order_nor_repetition(prompts, rng):
    shuffled = rng.sample(prompts, len(prompts)) + prompts[:2]
    splits = split_by_hash(prompts, "t")
    assert splits == split_by_hash(shuffled, "t")
    assert set(splits.values()) == set(SPLIT_NAMES)


def test_the_split_of_a_statement_does_not_depend_on_the_rest():
    some = [f"client {i}" for i in range(300)]
    more = split_by_hash(some + [f"other {i}" for i in range(300)], "t")
    assert split_by_hash(some, "t") == {p: more[p] for p in some}
    few = load_dataset(DataConfig(train_prompts=20, test_prompts=20))
    many = load_dataset(DataConfig(train_prompts=600, test_prompts=400))
    for split in ("train", "test"):
        assert few.prompts(split) == many.prompts(split)[:20]


def test_validation_can_have_more_of_a_small_file(tmp_path):
    """Training statements become validation's, the same whatever else is asked; test statements stay, and no other statement moves."""
    path = tmp_path / "t.csv"
    texts = [f"client {i} {'and more ' * (i % 5)}" for i in range(90)]
    path.write_text("prompt,reply\n" + "".join(f"{text.strip()},b\n" for text in texts), encoding="utf-8")
    plain = DataConfig(name="table", path=str(path))
    before = {s: set(load_dataset(plain).prompts(s)) for s in SPLIT_NAMES}
    taken = set()
    for n in (0, 1, 7, 20):
        data = load_dataset(replace(plain, validation_from_train=n, validation_prompts=90))
        no_shared_prompt(data)
        now = {s: set(data.prompts(s)) for s in SPLIT_NAMES}
        moved = now["validation"] - before["validation"]
        assert len(moved) == n and moved <= before["train"] and now["test"] == before["test"] and taken <= moved
        assert now["train"] == before["train"] - moved and before["validation"] <= now["validation"]
        short = load_dataset(replace(plain, validation_from_train=n, validation_prompts=90, max_words=5))
        assert all(set(short.prompts(s)) <= now[s] for s in SPLIT_NAMES), "a limit on words moves nothing"
        taken = moved
    for n, told in ((len(before["train"]), "one must be left"), (-1, "validation-from-train -1")):
        with pytest.raises(UserError, match=told):
            load_dataset(replace(plain, validation_from_train=n))
    with pytest.raises(UserError, match="is for files"):
        load_dataset(DataConfig(validation_from_train=2))


def test_same_seed_same_data_and_another_seed_other_data(tmp_path):
    for config in (DataConfig(train_prompts=40), DataConfig(name="table", path=str(table(tmp_path / "t.csv", 200)), train_prompts=40)):
        assert load_dataset(config, 1) == load_dataset(config, 1)
        assert load_dataset(config, 1).prompts("train") != load_dataset(config, 2).prompts("train")
        assert len(load_dataset(config, 1).prompts("train")) == 40


def test_a_table_larger_than_asked_keeps_whole_prompts_of_the_right_split(tmp_path):
    path = write_csv(tmp_path / "t.csv", [["prompt", "reply"], *([f"client {i % 100}", f"answer {i}"] for i in range(300))])
    split_of_prompt = split_by_hash((f"client {i}" for i in range(100)), "t")
    data = load_dataset(DataConfig(name="table", path=str(path), train_prompts=10, validation_prompts=2, test_prompts=3))
    for split, n in zip(SPLIT_NAMES, (10, 2, 3), strict=True):
        assert len(data.prompts(split)) == n and len(data.examples(split)) == 3 * n
        assert {split_of_prompt[p] for p in data.prompts(split)} == {split}


# -- readers

cells = st.text(st.sampled_from("ab,\"'\n\r\t;é’“ \u00a0\u2028x"), min_size=1, max_size=20).filter(clean)


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8), suffix=st.sampled_from([".csv", ".tsv", ".json", ".jsonl"]))
def test_tables_round_trip(tmp_path_factory, rows, suffix):
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    if suffix in (".csv", ".tsv"):
        write_csv(path, [["input", "output"], *rows], "," if suffix == ".csv" else "\t")
    else:
        records = [{"instruction": "listen", "input": p, "output": r} for p, r in rows]
        lines = "\n".join(json.dumps(x, ensure_ascii=False) for x in records)
        path.write_text(json.dumps(records, indent=1) if suffix == ".json" else lines, encoding="utf-8", newline="")
    examples = read_table(path, "input", "output")
    assert [(e.prompt, e.reply) for e in examples] == [(clean(p), clean(r)) for p, r in rows]
    assert [e.row for e in examples] == [i + (2 if suffix in (".csv", ".tsv") else 1) for i in range(len(rows))]


@given(st.text())
def test_clean_leaves_no_stray_space_and_is_idempotent(text):
    once = clean(text)
    assert clean(once) == once and once == once.strip()
    assert not any(c.isspace() and c != " " for c in once) and "  " not in once


def test_clean_straightens_quotes():
    assert clean(" I don’t\u00a0“know”,\nshe´s ‘gone’ … ") == "I don't \"know\", she's 'gone' …"


def test_tables_keep_topics_and_prompts_without_replies(tmp_path):
    path = write_csv(tmp_path / "t.csv", [["prompt", "topic"], ["a", "work"], ["b", ""], ["c", "sleep"]])
    data = load_dataset(DataConfig(name="table", path=str(path), reply_column=""))
    assert sorted(p for s in SPLIT_NAMES for p in data.prompts(s)) == ["a", "b", "c"]
    assert not any(data.examples(s) for s in SPLIT_NAMES)
    assert [e.topic for e in read_table(path, "prompt", "")] == ["work", "", "sleep"]


def test_a_byte_order_mark_and_an_upper_case_extension_do_no_harm(tmp_path):
    path = tmp_path / "t.CSV"
    path.write_bytes(b"\xef\xbb\xbfprompt,reply\r\na,b\r\n\r\nc,d\r\n")
    assert [(e.prompt, e.reply, e.row) for e in read_table(path, "prompt", "reply")] == [("a", "b", 2), ("c", "d", 4)]


def test_pair_reader_skips_empty_replies_and_counts_rows(tmp_path):
    full = ["one\ntwo", "h1", "h2", "m", *"abcde", "t"]
    rows = [full, ["x", *[""] * 8, "t"], ["y", "h", *[" "] * 6, "z", "t"]]
    examples = read_pair(write_csv(tmp_path / "pair.csv", rows))
    levels = {1: {"high": 2, "medium": 1, "low": 5}, 2: {"": 1}, 3: {"high": 1, "low": 1}}
    assert {row: Counter(e.quality for e in examples if e.row == row) for row in (1, 2, 3)} == levels
    assert examples[0].prompt == "one two" and examples[0].empathy is None and examples[-1].reply == "z"


# -- the PAIR file


@needs_pair
def test_pair_file():
    with open(PAIR, newline="", encoding="utf-8") as file:
        raw = list(csv.reader(file))
    examples = read_pair(PAIR)
    assert {e.row for e in examples} == set(range(1, 279)) and len(raw) == 278
    assert Counter(e.quality for e in examples) == {"high": 556, "medium": 278, "low": 278 * 5 - 1}  # one cell is empty
    for e in examples:
        for text in (e.prompt, e.reply, e.topic):
            assert text == " ".join(text.split()) and text and not set("’‘“”\u00a0") & set(text)
    for i, row in enumerate(raw, 1):
        told = [e.reply for e in examples if e.row == i]
        assert told == [clean(c) for c in row[1:9] if clean(c)]
    assert any("\n" in c for row in raw for c in row)


@needs_pair
def test_pair_splits():
    data = load_dataset(DataConfig(name="pair", path=str(PAIR)))
    no_shared_prompt(data)
    assert sum(len(data.prompts(s)) for s in SPLIT_NAMES) == 278


# -- a table in PAIR's shape, with a header


def test_a_header_names_replies_and_their_empathy(tmp_path):
    path = tmp_path / "own.csv"
    header = "prompt,hq1,mq1,lq1,empathy_hq1,empathy_mq1,empathy_lq1,topic"
    rows = [f"client {i},good {i},fair {i},poor {i},1,0.5,0,work" for i in range(30)]
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    examples = read_pair(path)
    assert list(dict.fromkeys(e.prompt for e in examples)) == [f"client {i}" for i in range(30)]
    assert [(e.reply, e.quality, e.empathy, e.topic, e.row) for e in examples[:3]] == [
        ("good 0", "high", 1.0, "work", 2),
        ("fair 0", "medium", 0.5, "work", 2),
        ("poor 0", "low", 0.0, "work", 2),
    ]
    no_shared_prompt(load_dataset(DataConfig(name="pair", path=str(path))))


# -- errors, one line each

PAIR_ROW = ["p", *(f"r{i}" for i in range(8)), "topic"]
BAD_TABLES = {
    "missing column": ("t.csv", b"text,reply\na,b\n", ["t.csv", "'prompt'", "'text', 'reply'"]),
    "missing key": ("t.json", b'[{"prompt": "a", "reply": "b"}, {"prompt": "a"}]', ["t.json, row 2", "'reply'", "'prompt'"]),
    "column twice": ("t.csv", b"prompt,prompt,reply\na,b,c\n", ["t.csv", "'prompt'", "twice"]),
    "empty prompt": ("t.csv", b'prompt,reply\na,b\n" \xc2\xa0\n",b\n', ["t.csv, row 3", "'prompt'", "empty"]),
    "null prompt": ("t.jsonl", b'{"prompt": "a", "reply": "b"}\n\n{"prompt": null, "reply": "b"}', ["t.jsonl, row 3", "'prompt'", "empty"]),
    "number": ("t.json", b'[{"prompt": "a", "reply": 3}]', ["t.json, row 1", "'reply'", "int"]),
    "surrogate": ("t.json", b'[{"prompt": "\\ud800", "reply": "b"}]', ["t.json, row 1", "'prompt'", "surrogate"]),
    "not UTF-8": ("t.csv", b"prompt,reply\na,b\ncaf\xe9,b\n", ["t.csv, line 3", "byte 20", "UTF-8"]),
    "no rows": ("t.csv", b"prompt,reply\n", ["t.csv", "empty"]),
    "no bytes": ("t.csv", b"", ["t.csv", "empty"]),
    "no objects": ("t.json", b"[]", ["t.json", "empty"]),
    "ragged": ("t.csv", b"prompt,reply\na,b\nc\n", ["t.csv, row 3", "1 columns", "2"]),
    "open quote": ("t.csv", b'prompt,reply\na,b\nc,"d\ne,f\n', ["t.csv, row 3"]),
    "malformed JSON": ("t.json", b'[{"prompt": "a",\n "reply": "b"},\n oops]', ["t.json, line 3", "not JSON"]),
    "malformed line": ("t.jsonl", b'{"prompt": "a", "reply": "b"}\n{"prompt": \n', ["t.jsonl, line 2", "not JSON"]),
    "lists without end": ("t.json", b"[" * 200_000, ["t.json, line 1", "cannot be read"]),
    "a number without end": ("t.jsonl", b'{"prompt": "a", "reply": "b"}\n' + b"1" * 9999, ["t.jsonl, line 2", "cannot be read"]),
    "not a list": ("t.json", b'{"prompt": "a"}', ["t.json", "list of objects"]),
    "not an object": ("t.json", b'["a"]', ["t.json, row 1", "object"]),
    "extension": ("t.xlsx", b"prompt", ["t.xlsx", "'.xlsx'", ".csv"]),
    "two prompts": ("t.csv", b"prompt,reply\na,b\na,c\nd,e\n", ["t.csv", "2 distinct", "3"]),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_table_errors(tmp_path, case):
    name, content, parts = BAD_TABLES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name="table", path=str(tmp_path / name)))
    message = one_line(error)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_a_table_takes_is_bounded(tmp_path, suffix):
    """Three times the text and 350 bytes a row, while it is read and split; and much less than that afterwards."""
    path, n = tmp_path / f"t{suffix}", 6000
    rows = [(f"I am client {i} and " + "do not know what to do " * 5, f"number {i}, it weighs on you") for i in range(n)]
    if suffix == ".csv":
        write_csv(path, [["prompt", "reply"], *rows])
    else:
        path.write_text("\n".join(json.dumps({"prompt": p, "reply": r}) for p, r in rows), encoding="utf-8")
    size = path.stat().st_size
    del rows
    tracemalloc.start()
    data = load_dataset(DataConfig(name="table", path=str(path), train_prompts=n))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * size + 350 * n and kept < 2 * size + 350 * n
    assert sum(len(data.prompts(split)) for split in SPLIT_NAMES) > n // 2


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_files_beyond_the_cap_are_refused(tmp_path, suffix, monkeypatch):
    path, record = tmp_path / f"t{suffix}", {"prompt": "a", "reply": "b"}
    if suffix in (".csv", ".tsv"):
        write_csv(path, [["prompt", "reply"], *[["a", "b"]] * 5], "," if suffix == ".csv" else "\t")
    else:
        path.write_text(json.dumps([record] * 5) if suffix == ".json" else "\n".join([json.dumps(record)] * 5), encoding="utf-8")
    assert len(read_table(path, "prompt", "reply")) == 5
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    with pytest.raises(UserError, match="more than 3 rows"):
        read_table(path, "prompt", "reply")
    monkeypatch.setitem(tables.MOST_BYTES, suffix, 10)
    with pytest.raises(UserError, match=rf"t{re.escape(suffix)}: \d+ bytes; a {re.escape(suffix)} file of data may have 10 bytes"):
        read_table(path, "prompt", "reply")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"t\.csv: is no regular file"):
        read_table(tmp_path / "t.csv", "prompt", "reply")


@pytest.mark.parametrize("name", ["pair", "table"])
@pytest.mark.parametrize("path, part", [("nowhere.csv", "no such file"), ("nowhere.xyz", "no such file"), ("folder.csv", "is a folder")])
def test_missing_files_and_folders(tmp_path, name, path, part):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name=name, path=str(tmp_path / path)))
    assert path in one_line(error) and part in str(error.value)


@pytest.mark.parametrize(
    "rows, parts",
    [
        ([PAIR_ROW, PAIR_ROW[:-1]], ["pair.csv, row 2", "9 columns", "10"]),
        ([["prompt", "hq1"], ["p", "r", "x"]], ["pair.csv, row 2", "3 columns", "2"]),
        ([PAIR_ROW, ["  ", *PAIR_ROW[1:]]], ["pair.csv, row 2", "'prompt'", "empty"]),
        ([["prompt", "hq1", "empathy_hq1"], ["p", "r", "warm"]], ["pair.csv, row 2", "'empathy_hq1'", "'warm'"]),
        ([["prompt", "hq1", "empathy_hq1"], ["p", "r", "1.5"]], ["pair.csv, row 2", "'empathy_hq1'", "'1.5'"]),
        ([], ["pair.csv", "empty"]),
        ([PAIR_ROW], ["pair.csv", "1 distinct"]),
    ],
)
def test_pair_errors(tmp_path, rows, parts):
    assert len(PAIR_ROW) == len(PAIR_COLUMNS)
    with pytest.raises(UserError) as error:
        load_dataset(DataConfig(name="pair", path=str(write_csv(tmp_path / "pair.csv", rows))))
    assert all(part in one_line(error) for part in parts), str(error.value)


def test_pair_is_a_csv_file(tmp_path):
    (tmp_path / "pair.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"pair\.json: unknown extension"):
        read_pair(tmp_path / "pair.json")


def test_option_errors():
    for options, part in [
        ({"name": "pair"}, "--data-path"),
        ({"name": "table"}, "--data-path"),
        ({"name": "poetry", "path": "x"}, "'poetry'"),
        ({"test_prompts": 0}, "--data.test-prompts 0"),
    ]:
        with pytest.raises(UserError) as error:
            load_dataset(DataConfig(**options))
        assert part in one_line(error)
    with pytest.raises(UserError, match="split 'dev'"):
        load_dataset(DataConfig(train_prompts=1, test_prompts=1, validation_prompts=1)).prompts("dev")


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_check_lengths_names_file_and_row(tmp_path, kind):
    lm = tiny.language_model(kind)
    rng = random.Random(0)
    rows = [[" ".join(f"w{rng.randrange(59)}" for _ in range(5)), "w1"] for _ in range(20)]
    config = DataConfig(name="table", path=str(write_csv(tmp_path / "t.csv", [["prompt", "reply"], *rows])))
    check_lengths(load_dataset(config), lm)
    longest = lm.prompt_limit() - len(lm.prompt_ids([""])[0])
    for extra in (0, 1):
        rows[6][0] = rows[12][0] = " ".join(["w3"] * (longest + extra))
        write_csv(tmp_path / "t.csv", [["prompt", "reply"], *rows])
        if not extra:
            check_lengths(load_dataset(config), lm)
            continue
        with pytest.raises(UserError) as error:
            check_lengths(load_dataset(config), lm)
        message = one_line(error)
        assert "t.csv, row 8:" in message and f"{lm.prompt_limit() + 1} tokens" in message and str(lm.prompt_limit()) in message
