"""The command `map`: every kind of mixture, its files beside what decoding says, and every mistake in one line with nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from random_maps import random_map
from tiny import PROMPTS, language_model, network, tokenizer

from emorl_lite.__main__ import main, parse
from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import is_ours, read_provenance
from emorl_lite.base.paths import ASSETS
from emorl_lite.base.presets import ModelConfig, get_preset
from emorl_lite.base.shown_text import as_written
from emorl_lite.ensemble.corners import Source, contrast, guidance
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.lm.model import UNFINISHED, LanguageModel
from emorl_lite.mapping import command as mapping
from emorl_lite.mapping import sources
from emorl_lite.mapping.options import Map, read_utility
from emorl_lite.mapping.prompts import find_prompts
from emorl_lite.mapping.scorers import load_function
from emorl_lite.mapping.sources import chat_template
from emorl_lite.mapping.tables import front_table

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "<bos> {prompt} <sep>"
REFERENCE = ASSETS / "tiny" / "seed0"
RESULTS = ("regions.csv", "front.csv", "optimum.json", "map.html", "regions.csv.provenance.json", "front.csv.provenance.json")
SCORES = """
import numpy as np

def long(prompts, replies):
    return [len(reply.split()) / 10 for reply in replies]

def even(prompts, replies):
    return np.array([len(reply) % 2 for reply in replies])

def fails(prompts, replies):
    return [1 / 0 for _ in replies]

def few(prompts, replies):
    return [0.5]

def nan(prompts, replies):
    return [float("nan")] * len(replies)

def words(prompts, replies):
    return ["good"] * len(replies)

def leaves(prompts, replies):
    raise SystemExit(0)

def one(replies):
    return [1.0] * len(replies)

number = 3
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a random base `lm`, another one `other`, adapters `kind`, `short` and `odd` of the first, and a file of functions."""
    place = tmp_path_factory.mktemp("made")
    lm = language_model(adapters=3)
    for name, seed in (("lm", 0), ("other", 5)):
        network("llama", seed).save_pretrained(place / name)
        tokenizer().save_pretrained(place / name)
    for name, folder in zip(lm.adapters, ("kind", "short", "odd"), strict=True):
        lm.save_adapter(name, place / folder)
    (place / "scores.py").write_text(SCORES, encoding="utf-8")
    (place / "prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    return place


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Everything that could be written lies in one folder."""
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(made: Path, *more: str) -> list[str]:
    """What every command on the random model has."""
    base = ["--model.path", str(made / "lm"), "--model.template", TEMPLATE, "--max-new-tokens", "8", "--prompts", str(made / "prompts.txt")]
    return ["map", "--quiet", *base, *more]


def two(made: Path, *more: str) -> list[str]:
    """Two adapters and two rewards."""
    scores = ["--rewards", f"{made / 'scores.py'}:long", f"{made / 'scores.py'}:even"]
    return options(made, "--adapters", str(made / "kind"), str(made / "short"), *scores, *more)


def shown(folder: Path | str) -> list[str]:
    """What is in a folder, hidden files aside."""
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))


def regions(folder: Path | str) -> pd.DataFrame:
    """The table of regions as it was before it was written."""
    return as_written(pd.read_csv(Path(folder) / "regions.csv"))


def refused(capsys, *words: str) -> str:
    """The one line that a command ends in."""
    capsys.readouterr()
    assert main(list(words)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


# -- what it writes


def test_two_folders_give_tables_and_a_page(made, capsys):
    assert main(two(made, "--out", "out")) == 0
    said = capsys.readouterr()
    assert shown("out") == sorted(RESULTS)
    assert "optimum of the mean score" in said.out and "uniform" in said.out and "Pareto front" in said.out and not said.err
    table = regions("out")
    columns = ["prompt", "prompt_text", "sample", "share", "reply", "tokens", "long", "even", "mean", "pareto", "margin"]
    assert list(table) == [*columns, "w_kind", "w_short", "lead"]
    assert np.allclose(table.groupby("prompt")["share"].sum(), 1) and table["prompt_text"].unique().tolist() == PROMPTS
    assert np.allclose(table["mean"], table[["long", "even"]].mean(axis=1)) and table.groupby("prompt")["pareto"].any().all()
    assert (table["w_kind"] + table["w_short"]).sub(1).abs().max() < 1e-6
    assert (table["long"] == [len(reply.split()) / 10 for reply in table["reply"]]).all()  # a reader's own function counts as it is


def test_a_region_holds_what_decoding_says(made):
    assert main(two(made, "--out", "out")) == 0
    lm = LanguageModel.load(ModelConfig(path=str(made / "lm"), template=TEMPLATE, max_new_tokens=8))
    for name in ("kind", "short"):
        lm.load_adapter(made / name, name)
    ensemble, table = EnsembleLM(lm, ["kind", "short"]), regions("out")
    sure = table[(table["margin"] > 1e-4) & ~(table["lead"] < 1)]
    assert len(sure) > len(table) / 2
    for row in sure.itertuples():
        assert ensemble.reply([row.prompt_text], [row.w_kind, row.w_short]) == [row.reply]


def test_the_optimum_is_worth_what_decoding_is(made):
    assert main(two(made, "--out", "out", "--utility", "long=2", "even=-1")) == 0
    found = json.loads(Path("out/optimum.json").read_text())
    best = found["optimum"]
    assert found["utility"] == {"long": 2.0, "even": -1.0} and best["proven"] and best["radius"] > 0
    assert best["value"] == pytest.approx(2 * best["scores"]["long"] - best["scores"]["even"])
    assert all(best["value"] >= other["value"] - 1e-9 for other in found["beside"].values()) and "uniform" in found["beside"]
    lm = LanguageModel.load(ModelConfig(path=str(made / "lm"), template=TEMPLATE, max_new_tokens=8))
    for name in ("kind", "short"):
        lm.load_adapter(made / name, name)
    replies = EnsembleLM(lm, ["kind", "short"], list(best["weights"].values())).reply(PROMPTS)
    assert best["scores"]["long"] == pytest.approx(np.mean([len(reply.split()) / 10 for reply in replies]))


def test_the_front_is_no_better_than_the_optimum_and_holds_it(made):
    assert main(two(made, "--out", "out")) == 0
    front, best = pd.read_csv("out/front.csv"), json.loads(Path("out/optimum.json").read_text())["optimum"]
    assert front["mean"].max() == pytest.approx(best["value"])
    points = front[["long", "even"]].to_numpy()
    assert not any((other >= point).all() and (other > point).any() for point in points for other in points)


def test_the_page_holds_every_reply(made):
    assert main(two(made, "--out", "out")) == 0
    page = Path("out/map.html").read_text(encoding="utf-8")
    for text in [*regions("out")["reply"].unique(), *PROMPTS]:
        assert json.dumps(text, ensure_ascii=False)[1:-1].replace("<", "\\u003c") in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_tables_say_what_made_them(made):
    words = two(made, "--out", "out")
    assert main(words) == 0
    for name in ("regions.csv", "front.csv"):
        facts = read_provenance(Path("out") / name)
        assert is_ours(Path("out") / name) and facts["command"] == " ".join(["python -m emorl_lite", *words])
        assert set(facts["made_of"]["adapters or models"]["adapters"]) == {"kind", "short"}
        assert facts["made_of"]["rewards"]["long"]["file"]
    assert set(read_provenance(Path("out/regions.csv"))["files"]) == {"regions.csv", "front.csv", "optimum.json", "map.html"}


def test_parquet_holds_the_same(made):
    assert main(two(made, "--out", "csv")) == 0 and main(two(made, "--out", "parquet", "--format", "parquet")) == 0
    for name in ("regions", "front"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(f"parquet/{name}.parquet"), as_written(pd.read_csv(f"csv/{name}.csv")), check_dtype=False
        )
    assert is_ours(Path("parquet/regions.parquet")) and not Path("parquet/regions.csv").exists()


def test_samples_are_a_row_each(made):
    assert main(two(made, "--out", "out", "--samples", "3", "--temperature", "0.7", "--seed", "4")) == 0
    table = regions("out")
    assert set(table["sample"]) == {1, 2, 3} and np.allclose(table.groupby(["prompt", "sample"])["share"].sum(), 1)
    lm = LanguageModel.load(ModelConfig(path=str(made / "lm"), template=TEMPLATE, max_new_tokens=8))
    for name in ("kind", "short"):
        lm.load_adapter(made / name, name)
    tree = PrefixTree(lm, ["kind", "short"], PROMPTS, samples=3, temperature=0.7, seed=4)
    row = table[table["margin"] > 1e-3].iloc[-1]
    assert tree.replies([row.w_kind, row.w_short])[(row.prompt - 1) * 3 + row["sample"] - 1] == [row.reply]


# -- what is mixed


def test_a_line_goes_beyond_the_adapter(made):
    words = options(made, "--kind", "line", "--adapters", str(made / "kind"), "--rewards", "brevity", "--out", "out")
    assert main([*words, "--range", "-1", "3"]) == 0
    table, found = regions("out"), json.loads(Path("out/optimum.json").read_text())
    assert "strength" in table and table["strength"].between(-1, 3).all() and set(found["beside"]) == {"base", "kind"}
    assert found["optimum"]["weights"].keys() == {"strength"}
    lm = LanguageModel.load(ModelConfig(path=str(made / "lm"), template=TEMPLATE, max_new_tokens=8))
    whole = table[(table["strength"] - table["margin"] < 0) & (table["strength"] + table["margin"] > 0)]  # what holds strength 0
    assert {row.prompt_text: row.reply for row in whole.itertuples()}.items() <= dict(zip(PROMPTS, lm.reply(PROMPTS), strict=True)).items()


def test_guidance_and_contrast_are_those_of_their_corners(made):
    lm = LanguageModel.load(ModelConfig(path=str(made / "lm"), template=TEMPLATE, max_new_tokens=8))
    for name in ("kind", "short"):
        lm.load_adapter(made / name, name)
    pair = ["--adapters", str(made / "kind"), str(made / "short")]
    cases = {
        "guidance": (["--instruction", "w7 w8 {prompt}"], guidance(lm, "w7 w8 {prompt}")),
        "contrast": (pair, contrast(Source(lm, "kind"), Source(lm, "short"))),
    }
    for kind, (more, corners) in cases.items():
        assert main(options(made, "--kind", kind, *more, "--rewards", "brevity", "--out", kind)) == 0
        table, tree = regions(kind), PrefixTree.of(corners, PROMPTS)
        knob = table.columns[-2]
        for row in table[(table["margin"] > 1e-3) & ~(table["lead"] < 1)].itertuples():
            assert tree.replies([getattr(row, knob)])[row.prompt - 1] == [row.reply]


def test_a_brace_of_an_instruction_is_typed_twice(made, monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(sources, "guidance", lambda lm, instruction, *rest: read.append(instruction) or guidance(lm, instruction, *rest))
    command = ["--kind", "guidance", "--instruction", "{{w7}} {prompt}", "--rewards", "brevity", "--out", "out"]
    assert main(options(made, *command)) == 0 and read == ["{w7} {prompt}"]


def test_the_front_of_one_score_beyond_three_corners_is_its_optimum():
    scored = random_map(4, 6, 1)
    front, how = front_table(scored, 2**30)
    assert how == "the optimum" and front["r0"].tolist() == pytest.approx([best_weights(scored).value])


def test_short_replies_leave_room_for_long_prompts(made):
    prompt = " ".join(f"w{i}" for i in range(45))  # 47 tokens of 64, and replies of 44 unless told otherwise
    command = ["map", "--quiet", "--model.template", TEMPLATE, "--max-new-tokens", "8", "--prompt", prompt, "--rewards", "brevity"]
    pairs = {
        "adapters": ["--model.path", str(made / "lm"), "--adapters", str(made / "kind"), str(made / "short")],
        "models": ["--models", str(made / "lm"), str(made / "other")],
    }
    for out, pair in pairs.items():
        assert main([*command, *pair, "--out", out]) == 0 and regions(out)["tokens"].max() <= 8


def test_prefixes_of_the_estimate_are_counted(made, capsys):
    assert main(two(made, "--out", "out")) == 0
    lm = LanguageModel.load(ModelConfig(path=str(made / "lm"), template=TEMPLATE, max_new_tokens=8))
    for name in ("kind", "short"):
        lm.load_adapter(made / name, name)
    found = exact_map(PrefixTree(lm, ["kind", "short"], PROMPTS, max_new_tokens=8))
    assert found.summary().split(", on the way")[0] in capsys.readouterr().out


def test_whole_models_of_one_vocabulary(made, capsys):
    models = ["--models", str(made / "lm"), f"second={made / 'other'}"]
    assert main([*options(made), *models, "--rewards", "brevity", "diversity", "fluency", "--out", "out"]) == 0
    assert {"w_lm", "w_second", "fluency"} <= set(regions("out"))
    assert main([*options(made), *models, "--kind", "line", "--rewards", "brevity", "--out", "line"]) == 0
    assert "strength" in regions("line")


def test_folders_of_one_name_are_told_apart(made):
    for parent in ("a", "b"):
        shutil.copytree(made / "kind", Path(parent) / "kind")
    assert main(options(made, "--adapters", "a/kind", "b/kind", "--rewards", "brevity", "--out", "out")) == 0
    assert {"w_a-kind", "w_b-kind"} <= set(regions("out"))
    assert main(options(made, "--adapters", "x=a/kind", "b/kind", "--rewards", "brevity", "--out", "named")) == 0
    assert {"w_x", "w_kind"} <= set(regions("named"))


def test_the_base_is_what_the_adapters_name(made, capsys):
    for name in ("kind", "short"):
        shutil.copytree(made / name, name)
        file = Path(name) / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(made / "lm")}))
    words = ["map", "--quiet", "--adapters", "kind", "short", "--prompt", *PROMPTS, "--rewards", "brevity", "--out", "out"]
    assert main([*words, "--max-new-tokens", "8"]) == 0
    assert read_provenance(Path("out/regions.csv"))["made_of"]["adapters or models"]["base"][0] == str(made / "lm")
    assert "reads a prompt as '{prompt}'" in capsys.readouterr().out  # it has no chat template
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "somebody/else"}))
    line = refused(capsys, *words[:-1], "two")
    assert "somebody/else" in line and "one base" in line and not Path("two").exists()


def test_a_chat_template_is_found():
    words = tokenizer()
    assert chat_template(words) == "{prompt}"
    words.chat_template = "{% for m in messages %}<bos>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{x}<sep>{% endif %}"
    assert chat_template(words) == "<bos>{prompt}{{x}}<sep>"
    words.chat_template = "{{ raise_exception('no single statements') }}"
    assert chat_template(words) == "{prompt}"


# -- where prompts come from


@pytest.mark.parametrize(
    ("name", "data"),
    {
        "p.txt": "\ufeffone é\r\n\r\n  two  \nthree\n".encode(),
        "p.csv": 'prompt,other\n"one é",1\ntwo,2\nthree,3\n'.encode(),
        "p.tsv": "prompt\tother\none é\t1\ntwo\t2\nthree\t3\n".encode(),
        "p.json": '[{"prompt": "one é"}, {"prompt": "two"}, {"prompt": "three"}]'.encode(),
        "p.jsonl": '{"prompt": "one é"}\n{"prompt": "two"}\n{"prompt": "three"}\n'.encode(),
        "p.parquet": None,
    }.items(),
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_prompts_of_every_kind_of_file(name, data):
    if data is None:
        pd.DataFrame({"prompt": ["one é", "two", "three"]}).to_parquet(name)
    else:
        Path(name).write_bytes(data)
    assert find_prompts(Map(prompts=name), get_preset("tiny")).texts == ["one é", "two", "three"]


def test_prompts_that_are_there_twice_are_told(capsys):
    found = find_prompts(Map(prompt=("a", "b", "a", "a")), get_preset("tiny"))
    assert found.texts == ["a", "b"] and found.places == ["--prompt, text 1", "--prompt, text 2"]
    assert "2 of 4 prompts are there before" in capsys.readouterr().out
    assert len(find_prompts(Map(), get_preset("tiny")).texts) == 10  # without any, some of the preset's


def test_prompts_are_taken_as_they_are():
    odd = ("two\nlines", "curly ‘quotes’", " a space")
    assert find_prompts(Map(prompt=odd), get_preset("tiny")).texts == list(odd)


BAD_FILES = {
    "empty.txt": (b"", "no prompts"),
    "blank.txt": (b"\n \n", "no prompts"),
    "latin.txt": (b"one\n\xe9\n", "line 2"),
    "nul.txt": (b"one\nt\0wo\n", "line 2"),
    "empty.csv": (b"", "empty.csv"),
    "header.csv": (b"prompt\n", "no prompts"),
    "other.csv": (b"text\nhello\n", "'prompt'"),
    "cell.csv": (b'prompt,x\na,1\n"",2\n', "row 3"),
    "short.csv": (b"prompt,x\na\n", "row 2"),
    "number.json": (b'[{"prompt": 3}]', "row 1"),
    "null.jsonl": (b'{"prompt": "a"}\n{"prompt": null}\n', "row 2"),
    "half.json": (b'[{"prompt": "\\ud800"}]', "row 1"),
    "cut.jsonl": (b'{"prompt": "a"}\n{"prompt"', "line 2"),
    "zeros.parquet": (bytes(500), "zeros.parquet"),
    "p.xlsx": (b"PK", ".parquet"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_of_prompts_is_told_by_row(name, made, capsys):
    data, says = BAD_FILES[name]
    Path(name).write_bytes(data)
    line = refused(capsys, *options(made)[:-1], name, "--adapters", str(made / "kind"), str(made / "short"), "--out", "out")
    assert name in line and says in line and not Path("out").exists()


def test_a_prompt_too_long_is_told_by_row(made, capsys):
    Path("p.txt").write_text("w1\n" + "w2 " * 60 + "\n")
    words = [*options(made)[:-1], "p.txt", "--adapters", str(made / "kind"), str(made / "short"), "--rewards", "brevity"]
    assert "p.txt, line 2" in refused(capsys, *words)
    assert "p.txt, line 2" in refused(capsys, *words, "--model.max-prompt-tokens", "20")


def test_a_bad_table_of_parquet(capsys, made):
    pd.DataFrame({"text": ["a"]}).to_parquet("other.parquet")
    pd.DataFrame({"prompt": ["a", None]}).to_parquet("null.parquet")
    pd.DataFrame({"prompt": [1, 2]}).to_parquet("number.parquet")
    for name, says in (("other", "'prompt'"), ("null", "row 2"), ("number", "row 1")):
        with pytest.raises(UserError, match=says):
            find_prompts(Map(prompts=f"{name}.parquet"), get_preset("tiny"))


# -- rewards


def test_rewards_by_module_file_and_name(made, monkeypatch):
    monkeypatch.syspath_prepend(made)
    mine = ["--rewards", "scores:long", f"again={made / 'scores.py'}:long", "brevity", "short=brevity"]
    assert main(options(made, "--adapters", str(made / "kind"), str(made / "short"), *mine, "--out", "out")) == 0
    table = regions("out")
    assert (table["long"] == table["again"]).all() and (table["brevity"] == table["short"]).all()
    cut = table["reply"].str.endswith(UNFINISHED.strip())
    assert cut.any() and (table["brevity"][cut] > 0).all()  # of another base than the preset's they are scored as far as they go


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("kindness", "reflection, empathy"), ("scores.py:nothing", "no nothing"), ("scores.py:number", "int"),
        ("scores.py:one", "two lists"),
        ("scores.py:fails", "ZeroDivisionError"), ("scores.py:few", "expected"), ("scores.py:nan", "not finite"),
        ("scores.py:words", "not a number"), ("scores.py:leaves", "SystemExit"),
        ("no.py:f", "no such file"), ("no_such_module:f", "no module no_such_module"), ("broken.py:f", "SyntaxError"),
        ("exits.py:f", "SystemExit"),
        ("needs.py:f", "no_such_module"), (":f", "module:function"), ("scores.py:", "module:function"),
        *((f"{name}=brevity", "another column") for name in ("reply", "strength", "guidance", "beta", "weights")),
        ("a/b=brevity", "a/b"), ("x=", "behind"), ("reflection", "classifier"),
    ],
)  # fmt: skip
def test_a_bad_reward_is_told_by_its_name(spec, says, made, here, capsys):
    shutil.copy(made / "scores.py", here)
    (here / "broken.py").write_text("def f(:\n")
    (here / "exits.py").write_text("raise SystemExit(3)\n")
    (here / "needs.py").write_text("import no_such_module\n")
    preset = ["--preset", "t5"] if spec == "reflection" else []
    words = options(made, "--adapters", str(made / "kind"), str(made / "short"), "--rewards", spec, "--out", "out", *preset)
    line = refused(capsys, *words)
    assert says in line and spec.partition("=")[0].partition(":")[2] in line and not Path("out").exists()


def test_an_error_in_a_reward_names_its_line(made):
    with pytest.raises(UserError, match=r"ZeroDivisionError.*scores.py, line 11"):
        from emorl_lite.mapping.scorers import Own

        Own(load_function(f"{made / 'scores.py'}:fails"), "scores.py:fails")(["a"], ["b"])


def test_utilities():
    assert read_utility([], ["a"]) is None and read_utility(["a=2", "b=-1"], ["a", "b", "c"]) == {"a": 2.0, "b": -1.0}
    for words, says in (
        (["a"], "a=2"),
        (["x=1"], "x"),
        (["a=b"], "number"),
        (["a=nan"], "finite"),
        (["a=0"], "all"),
        (["a=1", "a=2"], "twice"),
    ):
        with pytest.raises(UserError, match=f"--utility.*{says}"):
            read_utility(words, ["a", "b"])


# -- mistakes in options


BAD_OPTIONS = {
    "--adapters {kind}": "--kind line",
    "--adapters {kind} {kind}": "twice",
    "--adapters a b c d e f g": "six",
    "--adapters {kind} {short} --models {lm} {other}": "one or the other",
    "--adapters {kind} nowhere": "no such folder",
    "--adapters {kind} {scores}": "is a file",
    "--adapters {kind} {lm}": "adapter_model.safetensors",
    "--adapters a= {kind}": "a=",
    "--adapters x={kind} x={short}": "second one named x",
    "--models {lm}": "--models",
    "--models {lm} nowhere": "nowhere",
    "--kind line": "--kind line",
    "--kind guidance --adapters {kind}": "--instruction",
    "--kind guidance --instruction nothing": "prompt",
    "--kind contrast --adapters {kind}": "STRONG",
    "--kind contrast --adapters {kind} {short} --range -1 1": "begins at 0",
    "--kind line --adapters {kind} --range 3 1": "--range",
    "--kind line --adapters {kind} --range 3": "--range",
    "--kind line --adapters {kind} --range 0 inf": "--range",
    "--kind line --adapters {kind} --range 0 x": "--range",
    "--kind mixture --adapters {kind} {short}": "--kind",
    "--adapters {kind} {short} --range 0 1": "--range",
    "--adapters {kind} {short} --instruction {{prompt}}": "--instruction",
    "--adapters {kind} {short} --samples -1": "--samples",
    "--adapters {kind} {short} --samples 100000": "--samples",
    "--adapters {kind} {short} --temperature 0.5": "--samples",
    "--adapters {kind} {short} --samples 2 --temperature 0": "--temperature",
    "--adapters {kind} {short} --seed -1": "--seed",
    "--adapters {kind} {short} --max-new-tokens -1": "--max-new-tokens",
    "--adapters {kind} {short} --memory 0": "--memory",
    "--adapters {kind} {short} --memory nan": "--memory",
    "--adapters {kind} {short} --format xlsx": "--format",
    "--adapters {kind} {short} --prompt w1": "one of them",
    "--adapters {kind} {short} --prompt-column=": "--prompt-column",
    "--adapters {kind} {short} --rewards": "--rewards",
    "--adapters {kind} {short} --rewards brevity brevity": "twice",
    "--adapters {kind} {short} --rewards brevity --utility kindness=1": "kindness",
    "--adapters {kind} {short} --preset huge": "huge",
    "--adapters {kind} {short} --runs {scores}": "--runs",
    "--adapters {kind} {short} --out {scores}": "--out",
    "--adapters {kind} {short} --no-such-option": "--no-such-option",
    "--adapters reflection empathy": "--model.path",
}  # fmt: skip


@pytest.mark.parametrize("typed", BAD_OPTIONS)
def test_a_bad_option_is_one_line_and_writes_nothing(typed, made, here, capsys):
    named = {name: str(made / name) for name in ("kind", "short", "lm", "other")} | {"scores": str(made / "scores.py")}
    words = [word.format(**named) for word in typed.split()]
    if "--out" not in words:
        words += ["--out", "out"]
    given = options(made) if "--max-new-tokens" not in words else [w for w in options(made) if w not in ("--max-new-tokens", "8")]
    line = refused(capsys, *given, *words)
    assert any(says in line for says in BAD_OPTIONS[typed].split("|")), line
    assert not list(here.iterdir())


def test_a_hub_that_gives_nothing_is_one_line(made, capsys, monkeypatch):
    import huggingface_hub

    def nothing(*args, **options):
        raise OSError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    line = refused(capsys, *options(made, "--adapters", "somebody/adapter", str(made / "kind")))
    assert "somebody/adapter" in line and "offline" in line


def test_the_hub_is_asked_for_plain_files_alone(made, monkeypatch):
    import huggingface_hub

    asked = {}

    def give(name, allow_patterns):
        asked[name] = allow_patterns
        return str(made / "short")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert main(options(made, "--adapters", "somebody/brief", str(made / "kind"), "--rewards", "brevity", "--out", "out")) == 0
    assert asked == {"somebody/brief": ["adapter_config.json", "adapter_model.safetensors", "base.json"]} and "w_brief" in regions("out")


def test_adapters_of_another_base_are_told(made, capsys):
    words = [str(made / "other") if word == str(made / "lm") else word for word in two(made)]
    assert "another base" in refused(capsys, *words)
    (made / "pickle").mkdir(exist_ok=True)
    (made / "pickle" / "adapter_model.bin").write_bytes(b"x")
    assert "pickle" in refused(capsys, *options(made, "--adapters", str(made / "pickle"), str(made / "kind")))


# -- results that are there


def contents(folder: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_the_same_again_is_written_again_and_another_is_refused(made, capsys):
    assert main(two(made, "--out", "out")) == 0
    before = contents("out")
    assert main(two(made, "--out", "out")) == 0
    tables = ("regions.csv", "front.csv", "optimum.json", "map.html")
    assert all(contents("out")[name] == before[name] for name in tables)
    before = contents("out")
    for more, what in ((["--samples", "2"], "samples"), (["--utility", "long=1"], "utility"), (["--format", "parquet"], "format")):
        assert (
            f"another map ({what}: not the same)" in (line := refused(capsys, *two(made, "--out", "out", *more))) and "--overwrite" in line
        )
    assert contents("out") == before
    assert main(two(made, "--out", "out", "--samples", "2", "--overwrite")) == 0
    assert set(regions("out")["sample"]) == {1, 2} and shown("out") == sorted(RESULTS)
    assert main(two(made, "--out", "out", "--format", "parquet", "--overwrite")) == 0
    assert not Path("out/regions.csv").exists() and is_ours(Path("out/regions.parquet"))


def test_a_stranger_keeps_his_files(made, capsys):
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    for name in ("regions.csv", "map.html", "front.csv", "optimum.json", "regions.parquet", "regions.csv.provenance.json"):
        Path("out", name).write_text("mine")
        for more in ([], ["--overwrite"]):
            assert name in refused(capsys, *two(made, "--out", "out", *more))
        assert Path("out", name).read_text() == "mine"
        Path("out", name).unlink()
    assert main(two(made, "--out", "out")) == 0 and Path("out/notes.txt").read_text() == "mine"
    for name in ("map.html", "regions.csv", "optimum.json"):
        kept = Path("out", name).read_bytes()
        Path("out", name).write_bytes(kept + b" ")
        assert name in refused(capsys, *two(made, "--out", "out", "--overwrite"))
        Path("out", name).write_bytes(kept)
    assert main(two(made, "--out", "out")) == 0


def test_what_is_read_is_not_replaced(made, capsys):
    assert main(two(made, "--out", "out")) == 0
    before = contents("out")
    words = ["out/regions.csv" if word == str(made / "prompts.txt") else word for word in two(made, "--out", "out", "--overwrite")]
    assert "reads" in refused(capsys, *words, "--prompt-column", "prompt_text") and contents("out") == before


@pytest.mark.skipif(os.name != "posix", reason="links as here are POSIX's")
def test_links_are_left_alone(made, capsys):
    Path("out").mkdir()
    Path("elsewhere").write_text("mine")
    Path("out/map.html").symlink_to("../elsewhere")
    assert "map.html" in refused(capsys, *two(made, "--out", "out", "--overwrite")) and Path("elsewhere").read_text() == "mine"


@pytest.mark.parametrize("where", ["exact_map", "save_map_page", "regions_table"])
def test_ctrl_c_leaves_nothing_half_written(where, made, capsys, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    real = getattr(mapping, where)
    monkeypatch.setattr(mapping, where, stop)
    assert main(two(made, "--out", "out")) == 130
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("stopped: ") and not list(Path.cwd().iterdir())
    monkeypatch.setattr(mapping, where, real)
    assert main(two(made, "--out", "out")) == 0
    before = contents("out")
    monkeypatch.setattr(mapping, where, stop)
    assert main(two(made, "--out", "out", "--samples", "2", "--overwrite")) == 130
    assert contents("out") == before


@pytest.mark.slow
def test_a_death_between_two_files_is_mended_by_the_same_command(made, monkeypatch):
    from emorl_lite.mapping import results

    assert main(two(made, "--out", "out")) == 0
    words, moved = two(made, "--out", "out", "--samples", "2", "--overwrite"), results.move_whole
    for steps in range(1, 8):
        left = iter(range(steps))

        def die(source: Path, path: Path, left=left) -> None:
            if next(left, None) is None:
                raise MemoryError("killed")
            moved(source, path)

        monkeypatch.setattr(results, "move_whole", die)
        main(words)
        monkeypatch.setattr(results, "move_whole", moved)
        assert main(words) == 0
        assert set(regions("out")["sample"]) == {1, 2} and shown("out") == sorted(RESULTS)
        assert main(two(made, "--out", "out", "--overwrite")) == 0


# -- the model that comes with the package


def test_options_are_parsed_with_the_presets_model():
    command = parse(["map", "--preset", "smollm2", "--prompt", "a", "b", "--max-new-tokens", "9"])
    assert isinstance(command, Map) and command.model.path == "SmolLM2-135M-Instruct" and command.prompt == ("a", "b")


def test_the_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["map", "--help"])
    said = capsys.readouterr().out
    assert said.count("python -m emorl_lite map") >= 3 and "--adapters" in said and "--rewards" in said


@pytest.mark.slow
def test_the_reference_needs_no_options(capsys):
    assert main(["map", "--quiet", "--prompt", "I lost my job and I feel sad.", "I am angry at my boss."]) == 0
    table = regions("map")
    assert {"reflection", "empathy", "fluency", "w_reflection", "w_empathy", "w_fluency"} <= set(table)
    assert main(["map", "--quiet", "--prompt", "I feel sad.", "--max-new-tokens", "3", "--out", "cut"]) == 0
    assert (regions("cut")["mean"] == 0).all()  # the package's own are guarded
    assert main(["map", "--quiet", "--kind", "line", "--adapters", "empathy", "--prompt", "I feel sad.", "--out", "line"]) == 0


@pytest.mark.slow
def test_two_folders_and_ten_prompts_within_a_minute(here):
    prompts = here / "prompts.txt"
    prompts.write_text(
        "\n".join(f"I feel {w} about my {x}." for w in ("sad", "lost", "angry", "lonely", "tired") for x in ("work", "friend"))
    )
    words = ["--adapters", str(REFERENCE / "reflection"), str(REFERENCE / "empathy"), "--prompts", str(prompts), "--out", "out"]
    started = time.perf_counter()
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    made = subprocess.run(
        [sys.executable, "-m", "emorl_lite", "map", *words], capture_output=True, text=True, cwd=here, env=env, check=False
    )
    assert made.returncode == 0, made.stderr
    assert time.perf_counter() - started < 300  # a busy machine; alone it takes some ten seconds
    assert "optimum" in made.stdout and (here / "out" / "map.html").is_file()
    again = subprocess.run(
        [sys.executable, "-m", "emorl_lite", "map", *words, "--samples", "1"],
        capture_output=True,
        text=True,
        cwd=here,
        env=env,
        check=False,
    )
    assert again.returncode == 2 and len(again.stderr.strip().splitlines()) == 1 and "--overwrite" in again.stderr


torch.set_num_threads(1)


def test_a_page_holds_so_many_prompts_and_the_mean_over_all(made, capsys, monkeypatch):
    monkeypatch.setattr("emorl_lite.mapping.command.PAGE_PROMPTS", 1)
    assert main(two(made, "--out", "first")) == 0
    assert "the first 1 prompts" in capsys.readouterr().out
    replies = pd.read_csv("first/regions.csv").groupby("prompt").reply.unique()
    page = Path("first/map.html").read_text(encoding="utf-8")
    others = set(replies[2]) - set(replies[1])
    assert others and not any(json.dumps(reply)[1:-1] in page for reply in others)


def test_ranges_that_differ_in_late_digits_are_other_maps(made, capsys):
    ranges = [("0", "1.00000001"), ("0", "1.00000002")]
    one, other = (["map", "--kind", "line", *two(made)[1:], "--range", *ends, "--out", "line"] for ends in ranges)
    assert main(one) == 0
    assert "kind: not the same" in refused(capsys, *other)
