"""The GPU check, where there is none: it says so in one line, and tells agreement from disagreement."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from emorl_lite.base.entry import run_script

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def test_no_gpu_is_one_line(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick"])
    with pytest.raises(SystemExit) as stopped:
        run_script(gpu.main)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no CUDA device" in said


@pytest.mark.slow
def test_the_cpu_agrees_with_itself(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--device", "cpu"])
    assert gpu.main() == 0
    said = capsys.readouterr().out.strip().splitlines()
    figures = json.loads(said[-1])
    assert said[-2] == "agrees with the CPU"
    assert figures["largest_logprob_difference"] == 0 and figures["equal_ensemble_replies"] == 1
    assert figures["largest_search_difference"] == 0 and figures["first_ratio_off_one"] < 1e-3


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"largest_logprob_difference": 0.5}, "log-probabilities"),
        ({"equal_ensemble_replies": 0.5}, "replies differ"),
        ({"first_ratio_off_one": 0.2}, "ratio"),
        ({"first_kl": 1.0}, "KL"),
        ({"largest_search_difference": 0.5}, "search"),
    ],
)
def test_disagreement_is_named(gpu, wrong, words):
    fine = {
        "dtype": "float32",
        "largest_logprob_difference": 0.0,
        "equal_ensemble_replies": 1.0,
        "largest_search_difference": 0.0,
        "first_ratio_off_one": 0.0,
        "first_kl": 0.0,
    }
    assert gpu.failures(fine) == []
    (found,) = gpu.failures(fine | wrong)
    assert words in found
