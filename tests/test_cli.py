"""The command line as a user meets it: subprocesses, small budgets, and every mistake told in one line."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from emorl_lite.base.outputs import read_provenance
from emorl_lite.data.small_world import grammar
from emorl_lite.rewards.registry import REWARDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "--rewards.classifier-examples", "256", "--rewards.classifier-epochs", "1",
    "--model.max-new-tokens", "12", "--data.train-prompts", "32", "--data.validation-prompts", "4", "--data.test-prompts", "8", "--quiet",
]  # fmt: skip
PPO = ["--ppo.episodes", "32", "--ppo.batch-size", "16", "--ppo.minibatch-size", "16", "--ppo.epochs", "1", "--ppo.checkpoint-every", "1"]


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "emorl_lite", *args]


def run(*args: str, runs: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"} | ({"EMORL_RUNS": str(runs)} if runs else {})
    return subprocess.run(command(*args), capture_output=True, text=True, cwd=ROOT, env=env, timeout=1200, check=False)


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def counselling_file(tmp_path_factory) -> Path:
    """A file in PAIR's spirit: prompt and reply columns, several lines in a cell, commas and quotes."""
    path = tmp_path_factory.mktemp("data") / "talk.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["client", "counsellor"])
        for i, (c, r) in enumerate(grammar().pairs(40, "train", seed=3, per_client=1)):
            writer.writerow([c.text.replace(". ", ".\n") if i % 2 else f'"{c.text}"', r.text])
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, counselling_file) -> tuple[Path, list[str]]:
    """train on the file's prompts; the runs folder and the options that name the data."""
    runs = tmp_path_factory.mktemp("runs")
    data = ["--data", "table", "--data-path", str(counselling_file), "--prompt-column", "client", "--reply-column", "counsellor"]
    result = run("train", *data, *SMALL, *PPO, runs=runs)
    assert result.returncode == 0, result.stderr
    assert all(f"{name}: reward" in result.stdout for name in ("reflection", "empathy", "fluency"))
    return runs, data


def test_help_names_the_options():
    for name in ("train", "search", "evaluate", "tutorial"):
        assert name in run("--help").stdout
    text = run("train", "--help").stdout
    for option in ("--preset", "--objective", "--data", "--data-path", "--ppo.episodes", "--model.path", "--seed"):
        assert option in text


def test_train_search_evaluate_on_a_file(trained):
    runs, data = trained
    search = run("search", *data, *SMALL, *PPO, "--search.levels", "1", "--search.validation-prompts", "3", runs=runs)
    assert search.returncode == 0, search.stderr
    assert "weights: reflection" in search.stdout
    folder = next(runs.glob("tiny/talk-seed0"))
    assert len(pd.read_csv(folder / "search.csv")) == 27
    fast = ["--search.validation-prompts", "3"]
    rival = run("search", *data, *SMALL, *PPO, *fast, "--search.method", "random", "--search.evaluations", "4", runs=runs)
    assert rival.returncode == 0 and len(pd.read_csv(folder / "search-random.csv")) == 4, rival.stderr
    exact = run("search", *data, *SMALL, *PPO, *fast, "--search.method", "exact", runs=runs)
    assert exact.returncode == 0 and len(pd.read_csv(folder / "search-exact.csv")) == 1, exact.stderr
    out = runs / "table.csv"
    result = run("evaluate", *data, *SMALL, *PPO, "--out", str(out), runs=runs)
    assert result.returncode == 0, result.stderr
    assert "mean little" in result.stdout
    table = pd.read_csv(out)
    assert list(table.policy) == ["replies", "base", "reflection", "empathy", "fluency", "ensemble"]
    assert table[["reflection", "empathy", "fluency", "mean"]].stack().between(0, 1).all()
    assert {"commit", "torch", "preset"} <= set(read_provenance(out))


def test_evaluate_mistakes(trained, tmp_path):
    runs, data = trained
    assert_one_line(run("evaluate", *data, *SMALL, "--weights", "0.5", "0.5", runs=runs), "weights", "3")
    assert_one_line(run("evaluate", *data, *SMALL, "--weights", "0.5", "-0.5", "1", runs=runs), "weights", "negative")
    assert_one_line(run("evaluate", *data, *SMALL, "--weights", "0", "0", "0", runs=runs), "weights", "zero")
    assert_one_line(run("evaluate", *data[:4], *SMALL, runs=runs), "talk.csv", "prompt")
    assert_one_line(run("evaluate", "--data", "pair", "--data-path", str(tmp_path / "none.csv"), *SMALL, runs=runs), "none.csv")


def test_mistakes_in_options(tmp_path):
    assert_one_line(run("train", "--preset", "huge"), "preset", "'huge'", "tiny")
    assert_one_line(run("train", "--objective", "kindness", runs=tmp_path), "objective", "'kindness'")
    assert_one_line(run("search", "--objectives", "empathy", "kindness", runs=tmp_path), "objective", "'kindness'", ", ".join(REWARDS))
    assert_one_line(run("train", "--model.path", str(tmp_path / "absent"), *SMALL, runs=tmp_path), "absent")
    assert not list(tmp_path.iterdir())


def test_other_options_do_not_continue_a_run(trained):
    runs, data = trained
    done = next(runs.glob("tiny/talk-seed0")) / "empathy" / "adapter_model.safetensors"
    before = done.read_bytes()
    result = run("train", *data, *SMALL, *PPO, "--ppo.lr", "0.1", "--objective", "empathy", runs=runs)
    assert_one_line(result, "lr")
    assert done.read_bytes() == before


def test_a_killed_run_goes_on_from_its_checkpoint(trained, tmp_path):
    runs, data = trained
    (tmp_path / "tiny").mkdir()
    shutil.copytree(runs / "tiny" / "classifiers", tmp_path / "tiny" / "classifiers")
    args = ["train", *data, *SMALL, *PPO, "--objective", "empathy"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "EMORL_RUNS": str(tmp_path)}
    folder = tmp_path / "tiny" / "talk-seed0" / "empathy"
    process = subprocess.Popen(command(*args), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1200  # a guard against what hangs: nothing is measured
    while not (folder / "log.csv").is_file() or len((folder / "log.csv").read_text().splitlines()) < 2:
        assert process.poll() is None or (folder / "done.json").is_file()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    result = run(*args, runs=tmp_path)
    assert result.returncode == 0, result.stderr
    uninterrupted = runs / "tiny" / "talk-seed0" / "empathy" / "adapter_model.safetensors"
    assert (folder / "adapter_model.safetensors").read_bytes() == uninterrupted.read_bytes()


@pytest.mark.skipif(
    not (ROOT / "../shared/data/pair/pair.csv").is_file() and "EMORL_PAIR" not in os.environ, reason="PAIR is not in the repository"
)
def test_evaluate_pair(trained):
    runs, _ = trained
    pair = os.environ.get("EMORL_PAIR") or str(ROOT / "../shared/data/pair/pair.csv")
    result = run("evaluate", "--data", "pair", "--data-path", pair, *SMALL, runs=runs)
    assert result.returncode == 0, result.stderr
    for row in ("replies, high", "replies, medium", "replies, low", "base"):
        assert row in result.stdout
