"""A browser for tests: Chromium and its driver are the system's (`apt install chromium chromium-driver`), driven by selenium.

Without them these tests are skipped, unless EMORL_BROWSER=required.
"""

from __future__ import annotations

import os

import pytest

from emorl_lite.base.browser import DRIVER, NONE_HERE, PROGRAM, SECONDS, chromium

pytest.importorskip("selenium", reason="selenium is not installed (make setup)")

__all__ = ["CONTRAST", "MARKS", "REQUIRED", "SECONDS", "chromium"]
REQUIRED = os.environ.get("EMORL_BROWSER") == "required"
"""Set where a browser was found (.ci/run): nothing is skipped then."""
MARKS = [
    pytest.mark.slow,
    pytest.mark.plain,
    pytest.mark.skipif(not (REQUIRED or (PROGRAM and DRIVER)), reason=NONE_HERE),
]
"""Of every test in a browser."""
CONTRAST = r"""
const numbers = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0.5) return c; } return [255, 255, 255]; };
return [...document.querySelectorAll(".jp-OutputArea-output svg text, .emorl-map p, .widget-html p")].map((e) => {
  const style = getComputedStyle(e), front = light(numbers(e.tagName === "text" ? style.fill : style.color)), back = light(behind(e));
  return [e.textContent, (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05)];
});
"""
