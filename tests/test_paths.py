"""Where something lies, as a command says it at its end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from emorl_lite.base.paths import from_here

pytestmark = pytest.mark.plain
ROOT = Path(__file__).resolve().parent.parent


def test_a_path_is_told_as_one_types_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "a" / "b") == os.path.join("a", "b") == from_here("a/b")


def test_a_path_on_another_drive_of_windows_is_told_as_it_is(monkeypatch):
    def another_drive(path):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", another_drive)
    assert from_here("D:/course") == "D:/course" and from_here(Path("grades")) == "grades"


def test_no_command_fails_at_its_last_line_on_another_drive():
    """`os.path.relpath(path)`, from the working directory, raises there."""
    bare = re.compile(r"os\.path\.relpath\([^,()]*(?:\([^()]*\)[^,()]*)*\)")
    found = {path.name for path in (ROOT / "emorl_lite").rglob("*.py") if bare.search(path.read_text(encoding="utf-8"))}
    assert found == {"paths.py", "setting_up.py"}, "setting_up asks first whether it lies inside"
