"""The browser that tests, the site's check and a benchmark share: found and set up in one place, and missed in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emorl_lite.base import browser
from emorl_lite.base.errors import UserError

pytestmark = pytest.mark.plain
ROOT = Path(__file__).resolve().parent.parent


def test_it_is_set_up_in_one_place():
    parts = ("emorl_lite", "scripts", "benchmarks", "tests")
    files = [path for part in parts for path in (ROOT / part).rglob("*.py") if path != Path(__file__)]
    for sign in ("ChromeOptions", 'which("chromedriver")'):
        assert [path.relative_to(ROOT).as_posix() for path in files if sign in path.read_text(encoding="utf-8")] == [
            "emorl_lite/base/browser.py"
        ]


@pytest.mark.parametrize("missing", ["PROGRAM", "DRIVER"])
def test_a_machine_without_it_is_told_in_one_line(missing, monkeypatch):
    pytest.importorskip("selenium")
    monkeypatch.setattr(browser, "PROGRAM", "chromium")
    monkeypatch.setattr(browser, "DRIVER", "chromedriver")
    monkeypatch.setattr(browser, missing, None)
    with pytest.raises(UserError, match="no Chromium with its driver here"), browser.chromium():
        pass


def test_an_environment_without_selenium_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "selenium", None)
    with pytest.raises(UserError, match="selenium is not installed here"), browser.chromium():
        pass
