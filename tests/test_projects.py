"""The projects' starting code runs, on little, and prints the table that its folder keeps an example of (`expected.txt`)."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECTS = Path(__file__).resolve().parent.parent / "course" / "projects"
LESS: dict[str, dict[str, Any]] = {
    "another_search": {"CLIENTS": 3, "RUNS": 2},
    "every_strength": {"CLIENTS": 2, "SWEEPS": (3, 9)},
    "fair_weights": {"CLIENTS": 3, "FRESH": 4},
    "own_reward": {"EPISODES": 32, "TRAINING": 16, "LOOKED_AT": 4},
}
"""What a test asks for less of."""


def shape(text: str) -> str:
    """A line with its numbers left out."""
    return re.sub(r"-?[\d.]+", "0", " ".join(text.split()))


def test_every_project_has_its_three_files():
    for name in LESS:
        assert {path.name for path in (PROJECTS / name).iterdir() if path.is_file()} == {"README.md", "start.py", "expected.txt"}
    assert {path.name for path in PROJECTS.iterdir() if path.is_dir()} == set(LESS)


@pytest.mark.slow
@pytest.mark.parametrize("name", LESS)
def test_the_start_runs_and_prints_what_it_printed(name, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(f"start_{name}", PROJECTS / name / "start.py")
    assert spec and spec.loader
    start: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(start)
    for option, less in LESS[name].items():
        monkeypatch.setattr(start, option, less)
    monkeypatch.setattr(sys, "argv", ["start.py", "--seed", "0"])
    start.main()
    now = capsys.readouterr().out.splitlines()
    kept = (PROJECTS / name / "expected.txt").read_text(encoding="utf-8").splitlines()
    heading = next(i for i, line in enumerate(now) if line.startswith(("policy", "evaluations", "strengths asked", "chosen by")))
    assert shape(now[0]) == shape(kept[0]) and shape(now[heading]) in map(shape, kept)
    assert any(line.startswith("seed ") for line in kept)
    assert len(now) > heading + 2
