"""The slides in a browser: keys and buttons move them, nothing is cut off, printing shows all, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import MARKS, chromium
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from emorl_lite.course.slides import build_slides

pytestmark = MARKS
CUT_OFF = """
return [...document.querySelectorAll("section")].filter((slide, i) => {
  show(i);
  const text = [...slide.querySelectorAll("h1, h2, p, li, td, img")].filter(x => x.getBoundingClientRect().right > innerWidth + 1);
  return text.length || slide.scrollHeight > slide.clientHeight + 60 && !slide.classList.contains("tall");
}).map(slide => slide.id);
"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory) -> Iterator[tuple[WebDriver, list[str]]]:
    paths = build_slides(out=tmp_path_factory.mktemp("decks"))
    with chromium() as driver:
        driver.set_window_size(1280, 860)  # about 720 are left for the page
        yield driver, [path.as_uri() for path in paths]


def now(driver: WebDriver) -> int:
    return int(driver.execute_script("return document.querySelector('section.now').id"))


def test_keys_and_buttons_move_the_slides(decks):
    driver, addresses = decks
    driver.get(addresses[0])
    last = len(driver.find_elements(By.TAG_NAME, "section"))
    seen = [now(driver)]
    for key in (Keys.ARROW_RIGHT, Keys.SPACE, Keys.PAGE_UP, Keys.END, Keys.ARROW_RIGHT, Keys.HOME, Keys.ARROW_LEFT):
        driver.switch_to.active_element.send_keys(key)
        seen.append(now(driver))
    assert seen == [1, 2, 3, 2, last, last, 1, 1]
    driver.find_element(By.ID, "on").click()
    said = driver.find_element(By.CSS_SELECTOR, "section.now aside")
    assert now(driver) == 2 and not said.is_displayed()
    driver.switch_to.active_element.send_keys("n")
    assert said.is_displayed()
    driver.get(addresses[0] + "#3")
    assert now(driver) == 3


def test_nothing_is_cut_off_or_fetched(decks):
    driver, addresses = decks
    for address in addresses:
        driver.get(address)
        assert driver.execute_script(CUT_OFF) == [], address
        assert driver.execute_script("return performance.getEntriesByType('resource').filter(x => !x.name.startsWith('data:')).length") == 0
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_printing_shows_every_slide_with_its_notes(decks):
    driver, addresses = decks
    driver.get(addresses[1])
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for part in ("section", "section aside"):
            assert all(element.is_displayed() for element in driver.find_elements(By.CSS_SELECTOR, part))
        assert not driver.find_element(By.TAG_NAME, "nav").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
