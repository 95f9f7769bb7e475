"""A browser to see pages in, as tests, the site's check and a benchmark do: the system's Chromium with its driver, led by selenium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from emorl_lite.base.errors import UserError

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
NONE_HERE = "no Chromium with its driver here (apt install chromium chromium-driver)"
SECONDS = 300
"""Before a script of a page is missed: a busy machine takes its time."""
ALWAYS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000")


@contextmanager
def chromium(*arguments: str, preferences: dict[str, Any] | None = None, phone: bool = False) -> Iterator[WebDriver]:
    """A browser of its own, without a window. `phone`: a narrow screen that is touched. Raises UserError where it is not installed."""
    try:
        from selenium import webdriver
    except ImportError as error:
        raise UserError("selenium is not installed here: `python -m emorl_lite setup --extras dev` adds it") from error
    if not (PROGRAM and DRIVER):
        raise UserError(NONE_HERE)
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAM
    for argument in (*ALWAYS, *arguments):
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
