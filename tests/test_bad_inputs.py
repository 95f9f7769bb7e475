"""Mistakes in what a user gives, in this process: one line that names it, before anything is loaded, and nothing written or lost."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
import torch
from made_maps import made_map

from emorl_lite.__main__ import main, parse
from emorl_lite.base import failures, outputs
from emorl_lite.base.domains import simplex_domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import (
    PRESETS,
    DataConfig,
    ModelConfig,
    PPOConfig,
    Preset,
    RewardConfig,
    SearchConfig,
    SmallWorldRewards,
    StudyConfig,
    TextRewards,
    WarmStartConfig,
    get_preset,
)
from emorl_lite.base.provenance import replace_table, save_table
from emorl_lite.base.ranges import Options, Within, _fields, check_batch, check_index, check_seed
from emorl_lite.base.weights import check_weights, weight_rows
from emorl_lite.data.datasets import load_dataset
from emorl_lite.data.small_world import grammar
from emorl_lite.plots.map_explorer import explore, map_explorer
from emorl_lite.plots.map_page import map_page
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.search.pareto import hypervolume
from emorl_lite.search.samplers import bayesian_search, random_search
from emorl_lite.search.statistics import interval
from emorl_lite.tutorial.notebook import committed

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and signals as here are POSIX's")
PARTS = (ModelConfig, RewardConfig, SmallWorldRewards, TextRewards, PPOConfig, WarmStartConfig, SearchConfig, StudyConfig, DataConfig)
NUMBERS = [(kind, field.name) for kind in PARTS for field in fields(kind) if get_type_hints(kind)[field.name] in (int, float)]


def even(weights) -> dict[str, float]:
    """The same scores everywhere."""
    return {"a": 0.5, "b": 0.5}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    """Everything that could be written lies in one folder."""
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *words: str) -> str:
    """The one line that a command ends in."""
    assert main(list(words)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


# -- options, where they are made


@pytest.mark.plain
@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda x: getattr(x, "__name__", x))
def test_every_number_has_a_range(kind, name):
    """None is open at an end, and what lies outside is told by the option's name."""
    [(low, high)] = [(rule.low, rule.high) for rule in _fields(kind)[name][1] if isinstance(rule, Within)]
    whole = get_type_hints(kind)[name] is int
    for value in (
        low - 1,
        high + 1,
        high * 2,
        -math.inf,
        math.inf,
        math.nan,
        10**400,
        "1",
        "",
        None,
        True,
        [1],
        1j,
        *([1.5] if whole else []),
    ):
        with pytest.raises(UserError) as error:
            kind(**{name: value})
        assert kind.option(name) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.plain
@pytest.mark.parametrize("kind", PARTS)
def test_what_presets_and_numpy_give_is_taken(kind):
    for preset in PRESETS.values():
        for part in (preset.model, preset.rewards, preset.ppo, preset.search, preset.study, preset.data, preset.warm_start):
            assert replace(part) == part
    for field in fields(kind):
        default = field.default
        if isinstance(default, int | float) and not isinstance(default, bool):
            value = getattr(kind(**{field.name: np.asarray(default)[()]}), field.name)
            assert value == default and type(value) is get_type_hints(kind)[field.name]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ModelConfig(template=""), "{prompt}"),
        (lambda: ModelConfig(template="{prompt"), "template"),
        (lambda: ModelConfig(template="{prompt.__class__}"), "only field"),
        (lambda: ModelConfig(template="{prompt} {other}"), "only field"),
        (lambda: ModelConfig(template="{prompt!r}"), "only field"),
        (lambda: ModelConfig(template="{prompt:>999999999}"), "only field"),
        (lambda: ModelConfig(template=3), "text"),
        (lambda: ModelConfig(device="tpu"), "cpu"),
        (lambda: ModelConfig(path=""), "--model.path"),
        (lambda: ModelConfig(path="a\0b"), "NUL"),
        (lambda: ModelConfig(path="\udcff"), "Unicode"),
        (lambda: PPOConfig(estimator="grpo"), "rloo or kscst"),
        (lambda: PPOConfig(anneal_lr="no"), "True or False"),
        (lambda: PPOConfig(estimator="rloo", k=1), "--ppo.k 1"),
        (lambda: PPOConfig(early_stop=True, patience=1), "--ppo.patience"),
        (lambda: PPOConfig(episodes=10**5000), "--ppo.episodes"),
        (lambda: TextRewards(empathy_ready=True), "empathy-model"),
        (lambda: SearchConfig(levels=2.5), "whole number"),
        (lambda: SearchConfig(levels=30, points_per_axis=100), "--search.levels"),
        (lambda: SearchConfig(method="ucb", evaluations=5000), "--search.evaluations"),
        (lambda: StudyConfig(watch="fluency"), "list of texts"),
        (lambda: StudyConfig(watch=("fluency", "fluency")), "twice"),
        (lambda: DataConfig(path="x.csv"), "--data-path"),
        (lambda: DataConfig(name="table", path="x.csv", reply_column="prompt"), "--reply-column"),
        (lambda: Preset(objectives=()), "--objectives"),
        (lambda: Preset(objectives="fluency"), "list of texts"),
        (lambda: Preset(objectives=("a", "a")), "twice"),
        (lambda: Preset(objectives=("a,", "b")), "--objectives"),
        (lambda: Preset(objectives=("../a", "b")), "--objectives"),
        (lambda: Preset(objectives=("a\n", "b")), "--objectives"),
        (lambda: Preset(name="../x"), "name"),
        (lambda: Preset(ppo=None), "PPOConfig"),
        (lambda: Preset(lr={"a": math.nan}), "finite"),
        (lambda: Preset(kl_coef={"a": -1.0}), "negative"),
        (lambda: Preset(data=DataConfig(max_words=5)), "--data.max-words"),
        (lambda: Preset(ppo=PPOConfig(early_stop=True, validate_every=0)), "--ppo.early-stop"),
        (lambda: Preset(objectives=tuple("abcdefgh"), study=StudyConfig(weight_steps=50)), "settings"),
        (lambda: SearchConfig(points_per_axis=1000).check_objectives(3), "5,000,000,000 points"),
        (lambda: SearchConfig().check_objectives(1), "2 objectives"),
        (lambda: SearchConfig(method="grid", evaluations=5).check_objectives(3), "6 points"),
        (lambda: get_preset(3), "tiny"),
        (lambda: check_seed(-1), "--seed -1"),
        (lambda: check_seed(2**32), "--seed"),
        (lambda: check_seed(1.5), "whole number"),
    ],
)
def test_what_makes_no_sense_cannot_be_made(make, words):
    with pytest.raises(UserError) as error:
        make()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.plain
def test_options_are_checked_once_more_where_they_are_changed():
    with pytest.raises(UserError, match=r"--ppo\.lr nan"):
        replace(get_preset("tiny").ppo, lr=math.nan)
    assert issubclass(PPOConfig, Options)


# -- the command line


@posix
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --ppo.lr nan", "--ppo.lr nan: must be a finite number"),
        ("train --ppo.lr x", "--ppo.lr"),
        ("train --ppo.episodes 1.5", "--ppo.episodes"),
        ("train --ppo.lr", "--ppo.lr"),
        ("train --model.device tpu", "--model.device"),
        ("train --no-such-option 1", "--no-such-option"),
        ("train --preset=", "preset"),
        ("train --seed -1", "--seed -1"),
        ("train --seed 1 --seed 2", "--seed: given twice"),
        ("train --seed=1 --ppo.lr 1e-3 --ppo.lr 1e-4", "--ppo.lr: given twice"),
        ("search --ppo.minibatch-size 8 --ppo.minibatch_size 4", "--ppo.minibatch-size: given twice"),
        ("train --seed 99999999999999999999", "--seed"),
        ("train --objective kindness", "kindness"),
        ("train --objectives", "--objectives"),
        ("train --objectives fluency fluency", "twice"),
        ("train --objectives fluency kindness", "kindness"),
        ("train --warm-start-steps -1", "--warm-start-steps"),
        ("train --runs file", "--runs file"),
        ("train --runs file/x", "--runs"),
        ("train --data table", "--data-path"),
        ("train --data-path file", "--data-path"),
        ("train --data table --data-path none.csv", "none.csv"),
        ("search --search.levels -1", "--search.levels"),
        ("search --search.points-per-axis 1000", "5,000,000,000"),
        ("search --search.method exact --search.mix parameters", "--search.mix"),
        ("search --objectives fluency", "2 objectives"),
        ("search --seed -1 --search.method bayesian", "--seed"),
        ("evaluate --weights", "--weights"),
        ("evaluate --weights 1 1", "--weights"),
        ("evaluate --weights 1 nan 1", "--weights"),
        ("evaluate --out mine", ".csv"),
        ("evaluate --out mine.csv", "did not write"),
        ("evaluate --out folder.csv", "folder"),
        ("evaluate --out file/x.csv", "--out"),
        ("evaluate --out loop.csv", "--out"),
        ("evaluate --out full.csv", "--out"),
        ("evaluate --data table --data-path mine.csv --out linked.csv", "--out"),
        ("study --seeds 0", "--seeds 0"),
        ("study --seeds 1000000000", "--seeds"),
        ("study --workers -1", "--workers"),
        ("study --methods uniform", "--out"),
        ("study --methods uniform uniform --out t", "twice"),
        ("study --study.watch kindness", "kindness"),
        ("study --out file", "--out file"),
        ("study --out folder.csv", "methods.csv"),
        ("tutorial --only", "--only"),
        ("tutorial --only 99", "--only 99"),
        ("tutorial --preset huge", "huge"),
        ("tutorial --seed -1", "--seed"),
        ("data steal", "steal"),
        ("data list pair", "data list"),
        ("data fetch", "data fetch"),
        ("sing", "sing"),
        ("", "train"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_loaded(runs, capsys, monkeypatch, command, words):
    (runs / "file").write_text("x")
    (runs / "mine.csv").write_text("prompt,reply\na,b\n")
    (runs / "folder.csv").mkdir()
    (runs / "folder.csv" / "methods.csv").write_text("mine")
    (runs / "loop.csv").symlink_to(runs / "loop.csv")
    (runs / "full.csv").symlink_to("/dev/full")
    os.link(runs / "mine.csv", runs / "linked.csv")
    monkeypatch.setattr("emorl_lite.lm.model.LanguageModel.load", lambda *_: pytest.fail("a model was loaded"))
    before = sorted(runs.rglob("*"))
    assert words in refused(capsys, *command.split())
    assert sorted(runs.rglob("*")) == before and (runs / "mine.csv").read_text() == "prompt,reply\na,b\n"


@pytest.mark.plain
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_box_is_one_line_in_any_terminal(capsys, monkeypatch, encoding):
    monkeypatch.setattr(
        sys, "stdout", SimpleNamespace(encoding=encoding, isatty=lambda: False, flush=lambda: None, write=lambda text: None)
    )
    with pytest.raises(UserError) as error:
        parse(["train", "--ppo.lr", "nan"])
    assert str(error.value) == "--ppo.lr nan: must be a finite number"
    assert "COLUMNS" not in os.environ or os.environ["COLUMNS"] != "100000"


@pytest.mark.plain
@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("x.csv, row 3: bad"), 2, "error: x.csv, row 3: bad"),
        (OSError(28, "No space left on device", "x.csv"), 2, "x.csv: No space left on device"),
        (OSError(28, "No space left on device"), 2, "a file: No space left on device"),
        (ConnectionRefusedError(111, "Connection refused"), 1, "Connection refused"),
        (MemoryError("no more"), 2, "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped"),
        (failures.Terminated(), 143, "stopped"),
        (KeyError("a\nb"), 1, "full report: "),
    ],
)
def test_whatever_escapes_is_one_line(capsys, monkeypatch, error, status, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("emorl_lite.__main__.run", fail)
    assert main(["data"]) == status
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    if status == 1:
        report = Path(line.partition("full report: ")[2])
        text = report.read_text()
        report.unlink()
        assert "Traceback" in text and "python -m emorl_lite data" in text and "torch" in text


@pytest.mark.plain
@posix
def test_being_told_to_end_is_told(capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("emorl_lite.__main__.run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["data"]) == 143 and "stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


# -- places for tables

TABLE = pd.DataFrame({"a": [1.5]})


@pytest.mark.plain
def test_a_table_takes_the_place_of_its_own_kind_alone(runs):
    path = save_table(TABLE, runs / "t" / "x.csv", preset="tiny")
    (runs / "t" / "x.json").write_text("mine")
    save_table(TABLE * 2, path)
    assert pd.read_csv(path).a.tolist() == [3.0] and (runs / "t" / "x.json").read_text() == "mine"
    path.write_text("a\n9\n")
    with pytest.raises(UserError, match=r"x\.csv.*changed since"):
        save_table(TABLE, path)
    assert path.read_text() == "a\n9\n"
    assert replace_table(TABLE, path) == path and pd.read_csv(path).a.tolist() == [1.5]


@pytest.mark.plain
def test_tables_of_before_keep_their_provenance_where_it_is(runs):
    path = runs / "old.csv"
    path.write_text("a\n1\n")
    path.with_suffix(".json").write_text(json.dumps(dict.fromkeys(outputs.OLD_KEYS) | {"preset": "tiny"}))
    assert outputs.read_provenance(path)["preset"] == "tiny"
    save_table(TABLE, path, preset="t5")
    assert outputs.read_provenance(path)["preset"] == "t5" and not outputs.new_provenance(path).exists()


@pytest.mark.plain
def test_a_save_that_is_stopped_half_way_leaves_a_table_that_is_known(runs, monkeypatch):
    from emorl_lite.base import provenance

    path = save_table(TABLE, runs / "x.csv")
    before, write = path.read_bytes(), provenance.write_via

    def stop_at_the_table(place, writer):
        assert Path(place) == path
        raise KeyboardInterrupt

    monkeypatch.setattr(provenance, "write_via", stop_at_the_table)
    with pytest.raises(KeyboardInterrupt):
        save_table(TABLE * 2, path)
    assert path.read_bytes() == before and outputs.is_ours(path)
    monkeypatch.setattr(provenance, "write_via", write)
    assert save_table(TABLE * 2, path) == path


@posix
@pytest.mark.plain
@pytest.mark.parametrize(
    "name", ["x", "x.json", "", "a\0.csv", "x" * 300 + ".csv", "user.csv", "loop.csv", "loop/x.csv", "pipe.csv", "user.csv/x.csv"]
)
def test_places_that_no_table_can_have(runs, name):
    (runs / "user.csv").write_text("mine")
    (runs / "loop").symlink_to(runs / "loop")
    (runs / "loop.csv").symlink_to(runs / "loop.csv")
    os.mkfifo(runs / "pipe.csv")
    with pytest.raises(UserError, match="--out"):
        outputs.check_out(name)
    assert (runs / "user.csv").read_text() == "mine"


# -- calls from Python


@pytest.mark.plain
@pytest.mark.parametrize(
    "weights",
    [
        None,
        "abc",
        ["1"] * 3,
        [None] * 3,
        [True] * 3,
        [1j] * 3,
        [[1, 2, 3], [1]],
        {"a": 1},
        object(),
        [10**400] * 3,
        [math.nan] * 3,
        [0] * 3,
        [1, 1],
    ],
)
def test_weights_are_numbers(weights):
    for check in (check_weights, weight_rows):
        with pytest.raises(UserError, match="weights"):
            check(weights, 3)


@pytest.mark.plain
def test_weights_of_any_kind_of_numbers_are_taken():
    for weights in (
        [0.25, 0.25, 0.5],
        [Fraction(1, 4), Fraction(1, 4), 0.5],
        pd.Series([0.25, 0.25, 0.5]),
        list(torch.tensor([0.25, 0.25, 0.5])),
    ):
        assert check_weights(weights, 3).tolist() == [0.25, 0.25, 0.5]


@pytest.mark.plain
@pytest.mark.parametrize("value", [-1, 3, 0.5, "0", None, True])
def test_one_of_three_is_0_1_or_2(value):
    assert [check_index(i, 3, "row") for i in (0, np.int64(1), 2)] == [0, 1, 2]
    with pytest.raises(UserError, match=r"row .*: there are 3"):
        check_index(value, 3, "row")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check_batch(0), "batch_size 0"),
        (lambda: random_search(even, ["a", "b"], 2.5, progress=False), "evaluations"),
        (lambda: random_search(even, ["a", "b"], 4, seed=-1, progress=False), "seed"),
        (lambda: bayesian_search(even, ["a", "b"], 10**5, progress=False), "1,000"),
        (lambda: bayesian_search(even, ["a", "b"], 4, seed=-1, progress=False), "seed"),
        (lambda: hierarchical_grid_search(even, "ab", progress=False), "list of objectives"),
        (lambda: hierarchical_grid_search(even, ["a,", "b"], progress=False), "name of a column"),
        (lambda: hierarchical_grid_search(lambda w: {"a": torch.ones(2), "b": 1}, ["a", "b"], progress=False), "2 numbers for a"),
        (lambda: hierarchical_grid_search(lambda w: {"a": "x", "b": 1}, ["a", "b"], progress=False), "for a"),
        (lambda: hierarchical_grid_search(lambda w: None, ["a", "b"], progress=False), "NoneType"),
        (lambda: interval(["a", "b"]), "confidence interval"),
        (lambda: hypervolume([["a"]], [0]), "points"),
        (lambda: grammar().pairs(1.5, "train"), "pairs, n"),
        (lambda: load_dataset("data.csv"), "DataConfig"),
        (lambda: load_dataset(DataConfig(train_prompts=2), "x"), "seed"),
    ],
)
def test_calls_from_a_notebook_are_told_what_is_wrong(call, words):
    with pytest.raises(UserError) as error:
        call()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.plain
def test_a_map_has_so_many_prompts_and_samples():
    scored = made_map(simplex_domain(["x", "y", "z"]), prompts=["a"], regions=2)
    for call in (
        lambda: explore(scored, 1, [1, 1, 1]),
        lambda: explore(scored, 0, [1, 1, 1], 7),
        lambda: explore(scored, 0.5, [1, 1, 1]),
        lambda: map_explorer(scored, 9),
        lambda: map_page(scored, [5]),
    ):
        with pytest.raises(UserError, match="there are 1, numbered from 0"):
            call()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "folder"), [("../../etc/passwd", "results"), ("/etc/passwd", "results"), ("", "results"), ("x.csv", ".."), (3, "results")]
)
def test_committed_tables_lie_in_their_folder(name, folder):
    with pytest.raises(UserError, match="committed"):
        committed(name, folder)
