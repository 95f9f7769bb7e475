"""A browser for tests: Chromium and its driver are the system's (`apt install chromium chromium-driver`), driven by selenium.

Without them these tests are skipped, unless EMORL_BROWSER=required.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed (make setup)")

from selenium import webdriver
from selenium.webdriver.remote.webdriver import WebDriver

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
REQUIRED = os.environ.get("EMORL_BROWSER") == "required"
"""Set where a browser was found (.ci/run): nothing is skipped then."""
SECONDS = 300
"""Before what should appear is missed: a busy machine takes its time."""
MARKS = [
    pytest.mark.slow,
    pytest.mark.plain,
    pytest.mark.skipif(
        not (REQUIRED or (BROWSER and DRIVER)), reason="no Chromium with its driver here (apt install chromium chromium-driver)"
    ),
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


@contextmanager
def chromium(*arguments: str, preferences: dict[str, Any] | None = None, phone: bool = False) -> Iterator[WebDriver]:
    """A browser of its own, without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000", *arguments):
        options.add_argument(argument)
    if preferences:
        options.add_experimental_option("prefs", preferences)
    if phone:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": 375, "height": 740, "pixelRatio": 2.0}})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_script_timeout(SECONDS)
    try:
        yield driver
    finally:
        driver.quit()
