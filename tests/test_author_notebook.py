"""Notebook 08's section on the paper's own adapters: its very cells, without the fifteen files and with files of their format."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from test_author_adapters import base_that_ends, word_reward
from tiny import tokenizer

from emorl_lite.base import presets
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OBJECTIVES, get_preset
from emorl_lite.data import downloads
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.author_adapters import linear_layers, read_author_adapter
from emorl_lite.lm.stand_in import random_author_adapter, random_t5
from emorl_lite.readings import triples as readings
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.study.triples import beside_published, best_points
from emorl_lite.tutorial import authors

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "08_the_paper.ipynb"
OWN = re.compile(r"08-a\d\d")
GIVEN = "08-04"


def section() -> dict[str, str]:
    """The code cells of the section, by id."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return {cell.id: cell.source for cell in cells if cell.cell_type == "code" and OWN.fullmatch(cell.id)}


def given() -> dict:
    """What the notebook's first cells leave behind, as far as the section needs it, with what it shows written down."""
    cell = next(c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.id == GIVEN)
    tree = ast.parse(cell.source)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    space: dict = {}
    exec(compile(tree, GIVEN, "exec"), space)
    said: list[str] = []
    shown: dict = {}
    space |= {
        "names": list(OBJECTIVES),
        "experiment": SimpleNamespace(lm=SimpleNamespace(tokenizer=tokenizer(seq2seq=True))),
        "say": said.append,
        "show": lambda figure, name: shown.update({name: figure.alt_text}),
        "table": lambda rows, caption: shown.update({caption: rows}),
        "display": lambda table: None,
        "said": said,
        "shown": shown,
    }
    return space


def run(space: dict) -> dict:
    for name, source in section().items():
        exec(compile(source, name, "exec"), space)
    return space


@pytest.fixture
def small(tmp_path, monkeypatch):
    """`t5` with a random small T5, a table of prompts and cheap rewards; five files of each objective, fetched."""
    monkeypatch.setenv("EMORL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path / "runs"))
    base, words = base_that_ends(), tokenizer(seq2seq=True)
    base.save_pretrained(tmp_path / "small-t5")
    words.save_pretrained(tmp_path / "small-t5")
    folder = tmp_path / "cache" / "data"
    numbers = {name: [3 + i, 20 + i, 100 + i, 1000 + i, 5000 + i] for i, name in enumerate(OBJECTIVES)}
    files = [f"{name}/lora_{name}_{number}.npz" for name in OBJECTIVES for number in numbers[name]]
    for seed, file in enumerate(files):
        random_author_adapter(folder / "emorl-adapters" / file, base, rank=3, seed=seed)
    talk = pd.DataFrame({"prompt": [f"w{i} w{i + 1} w{(i * 7) % 50}" for i in range(40)], "reply": "w3"})
    talk.to_csv(folder / "talk.csv", index=False)
    blobs = {file: downloads.blob_id(folder / "emorl-adapters" / file) for file in files}
    monkeypatch.setitem(downloads.SOURCES, "emorl-adapters", replace(downloads.SOURCES["emorl-adapters"], blobs=blobs))
    pair = replace(downloads.SOURCES["pair"], file="talk.csv", sha256=downloads.sha256(folder / "talk.csv"))
    monkeypatch.setitem(downloads.SOURCES, "pair", pair)
    t5 = get_preset("t5")
    t5 = replace(
        t5,
        model=replace(t5.model, path=str(tmp_path / "small-t5"), template="{prompt} <sep>", max_new_tokens=5, device="cpu"),
        data=replace(t5.data, name="table", path="talk.csv", validation_prompts=3, test_prompts=4),
        search=replace(t5.search, levels=1, validation_prompts=3),
    )
    monkeypatch.setitem(presets.PRESETS, "t5", t5)
    for shift, name in enumerate(OBJECTIVES):
        monkeypatch.setitem(REWARDS, name, word_reward(shift))
    return SimpleNamespace(preset=t5, numbers=numbers, folder=folder)


def test_without_the_files_one_sentence_and_the_idea_on_a_small_t5(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMORL_CACHE", str(tmp_path))
    space = run(given())
    assert space["triple"] is None and not space["READY"] and not space["shown"] and capsys.readouterr().err == ""
    first, layer = space["said"]
    assert first == f"Not here yet: `pair` and `emorl-adapters`. Get them with `{readings.FETCH}`, and run this section again."
    assert "random" in layer and "changes 32 layers" in layer


@pytest.mark.slow
def test_with_the_files_every_cell_runs_on_the_papers_triple(small, capsys):
    space = run(given())
    said, shown, printed = space["said"], space["shown"], capsys.readouterr().out
    assert space["READY"] and space["triple"].seed == 0 and "run" in said[0]
    assert f"lora_empathy_{small.numbers['empathy'][0]}.npz" in said[1] and "one of the fifteen" in said[1]
    assert [name for name in shown if name.startswith("authors_cube")] == [f"authors_cube_{what}" for what in space["paper"].AGGREGATION]
    assert printed.index("estimated time on this machine") < printed.index("exact map")
    best, beside = (rows.set_index(rows.columns[0]) for rows in shown.values() if isinstance(rows, pd.DataFrame))
    assert list(best.index) == ["hidden", "parameters", "probabilities"] and best.loc["parameters", "exact optimum"] == "no map"
    for what in ("hidden", "probabilities"):
        assert float(best.loc[what, "exact optimum"]) >= float(best.loc[what, "validation"])
    assert list(beside.index) == ["base", *OBJECTIVES, "ensemble"] and (beside["triples"] == 5).all()
    assert beside.loc["ensemble", "paper"] == "0.7684 ± 0.0206" and beside.loc["empathy", "paper"] == ""
    ours = space["evaluated"]
    of_ensemble = ours.loc[ours["policy"] == "ensemble", "mean"]
    assert of_ensemble.between(0, 1).all() and beside.loc["ensemble", "here"].startswith(f"{of_ensemble.mean():.3f} ±")


def test_each_triple_scores_as_it_does_alone(small):
    """Sharing one model in memory changes nothing, in whatever order triples are asked."""
    one = Experiment(small.preset, 0, progress=False, adapters="authors")
    weights = (0.5, 0.3, 0.2)
    for seed in (2, 0, 2):
        alone = Experiment(small.preset, seed, progress=False, adapters="authors").evaluate(weights)
        together = one.like(seed=seed).evaluate(weights)
        pd.testing.assert_frame_equal(alone, together)
    assert one.like(seed=3).lm is one.lm and one.like(mix="parameters").preset.search.mix == "parameters"


@pytest.mark.parametrize("what", ["a model that is not there", "a file of another model"])
def test_what_is_wrong_is_one_line_and_nothing_after_it_runs(small, monkeypatch, capsys, what):
    if what == "a model that is not there":
        broken = replace(small.preset, model=replace(small.preset.model, path="nowhere/no-t5"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        broken = replace(small.preset, model=get_preset("tiny").model)
    monkeypatch.setitem(presets.PRESETS, "t5", broken)
    space = run(given())
    printed = capsys.readouterr()
    assert space["READY"] and space["triple"] is None and "their model is not" in space["said"][0] and not space["shown"]
    line = next(line for line in printed.out.splitlines() if ("no-t5" in line if "there" in what else "does not fit" in line))
    assert "Traceback" not in printed.out + printed.err and line


def test_a_stand_in_has_the_authors_format(tmp_path):
    lm = random_t5(tokenizer(seq2seq=True))
    layers = read_author_adapter(random_author_adapter(tmp_path / "new" / "lora_empathy_0.npz", lm.base))
    assert {name: change.shape for name, change in layers.items()} == linear_layers(lm.base)
    assert all((change.rank, change.scaling) == (8, 4.0) for change in layers.values()) and "lm_head" not in layers
    again = random_t5(tokenizer(seq2seq=True))
    assert torch.equal(again.base.shared.weight, lm.base.shared.weight) and lm.reply(["w1 w2"]) == again.reply(["w1 w2"])
    with pytest.raises(UserError, match="nul"):
        random_author_adapter(Path("/proc/nul/lora.npz"), lm.base)


POINTS = pd.DataFrame(
    [
        {"what": what, "seed": 0, "mean": mean, "test": test, **{f"w_{name}": 0.5 for name in OBJECTIVES}}
        for what, mean, test in [("hidden", 0.5, 0.4), ("hidden", 0.6, 0.4), ("parameters", 0.55, 0.45), ("probabilities", 0.3, 0.2)]
    ]
)


def test_sentences_follow_their_numbers():
    text = readings.mixtures_reading(POINTS)
    assert "hidden 0.400, parameters 0.450" in text and "−0.050 (no interval), which one value cannot judge" in text
    twice = pd.concat([POINTS, POINTS.assign(seed=1, test=POINTS["test"] + np.where(POINTS["what"] == "hidden", 0.0501, 0))])
    assert "+0.000" in readings.mixtures_reading(twice.assign(test=0.4)) or "0.000" in readings.mixtures_reading(twice.assign(test=0.4))
    optima = {"hidden": SimpleNamespace(table=pd.DataFrame({"mean": [0.625]}))}
    assert "hidden 0.0250" in readings.optima_reading(POINTS, optima)
    shown = best_points(POINTS, optima, OBJECTIVES).set_index("mixed")
    assert shown.loc["hidden", "validation"] == "0.600" and list(shown["exact optimum"]) == ["0.625", "no map", "no map"]
    scores = pd.DataFrame([{"policy": p, "seed": 0, "mean": m} for p, m in (("base", 0.3), ("empathy", 0.5), ("ensemble", 0.45))])
    text = readings.triples_reading(scores)
    assert "0.450" in text and "so −0.318 here" in text and "(empathy) −0.050" in text
    assert beside_published(scores).set_index("policy").loc["base", "paper"] == "0.3413 ± 0.0124"
    assert "model is not" in readings.state_reading([], False) and "run" in readings.state_reading([], True)


def test_data_are_fetched_on_colab_alone(monkeypatch, capsys):
    asked = []

    def fetched(source: str) -> None:
        asked.append(source)
        if source == "pair":
            raise UserError("pair: no network")

    monkeypatch.setattr(authors, "fetch", fetched)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    authors.fetch_on_colab(["pair", "emorl-adapters"])
    assert asked == []
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    authors.fetch_on_colab(["pair", "emorl-adapters"])
    assert asked == ["pair", "emorl-adapters"] and capsys.readouterr().out == "pair: no network\n"
