"""The page of a map in a browser: the committed figures/map.html, and pages of other domains made here.

By mouse, touch, keys and sliders; on a phone, in the dark, without scripts. As `chromium.py` says, these are skipped without Chromium and
its driver, unless EMORL_BROWSER=required.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import CONTRAST, MARKS, SECONDS, chromium
from made_maps import made_map
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_map_page import DOMAINS, HOSTILE

from emorl_lite.plots.map_page import save_map_page

pytestmark = MARKS

FIGURE = Path(__file__).resolve().parent.parent / "figures" / "map.html"
AT = "return document.querySelector('.emorl-map').emorlMap.at()"
MOVES = """
const seen = { mutations: 0, nodes: 0 }, root = document.querySelector(".emorl-map"), map = root.emorlMap;
const observer = new MutationObserver((records) => {
  seen.mutations += records.length;
  seen.nodes += records.reduce((n, r) => n + [...r.addedNodes].filter((node) => node.nodeType === 1).length, 0);
});
observer.observe(root, { subtree: true, childList: true, attributes: true, characterData: true });
const most = { mutations: 0, nodes: 0 }, points = arguments[0], done = arguments[1];
(async () => {
  for (const point of points) {
    seen.mutations = seen.nodes = 0;
    map.moveTo(point);
    await Promise.resolve();
    await new Promise((next) => setTimeout(next));
    most.mutations = Math.max(most.mutations, seen.mutations);
    most.nodes = Math.max(most.nodes, seen.nodes);
  }
  done(most);
})();
"""
"""Moves the point and counts what changes in the page at each move, at most."""


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(browser) -> WebDriver:
    """The committed page, just opened."""
    return opened(browser, FIGURE)


def opened(browser: WebDriver, path: Path) -> WebDriver:
    browser.get(path.as_uri())
    WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script("return !!document.querySelector('.emorl-map').emorlMap"))
    return browser


def one(page: WebDriver, selector: str):
    return page.find_element(By.CSS_SELECTOR, selector)


def at(page: WebDriver) -> dict[str, Any]:
    return dict(page.execute_script(AT))


def until(page: WebDriver, look: Callable[[], Any]) -> Any:
    return WebDriverWait(page, SECONDS).until(lambda _: look())


def picture(page: WebDriver):
    drawing = one(page, ".picture svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", drawing)
    return drawing


# -- the committed page


def test_the_console_has_no_errors(page):
    assert not [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_it_begins_at_the_optimum_and_shows_what_is_there(page):
    here = at(page)
    assert one(page, ".card.chosen .reply").text.split() == here["reply"].split()
    shown = [cell.text for cell in page.find_elements(By.CSS_SELECTOR, ".scores td:not(.second) .score")]
    assert shown == [f"{value:.3f}" for value in [sum(here["scores"]) / len(here["scores"]), *here["scores"]]]
    assert one(page, "tr.now .text").text.split() == here["reply"].split()
    assert not page.find_elements(By.CSS_SELECTOR, ".picture polygon[stroke='white']")  # the regions are on the canvas


def test_a_click_and_a_drag_move_the_point(page):
    drawing, before = picture(page), at(page)
    box = drawing.rect
    ActionChains(page).move_to_element_with_offset(drawing, 0, -box["height"] // 4).click().perform()
    clicked = until(page, lambda: at(page)["t"] != before["t"] and at(page))
    assert clicked["t"][1] > 0.5  # near the corner on top
    ActionChains(page).move_to_element(drawing).click_and_hold().move_by_offset(-box["width"] // 8, box["height"] // 5).release().perform()
    assert until(page, lambda: at(page)["t"][1] < 0.3 and at(page))["t"] != clicked["t"]


def test_outside_of_the_triangle_the_nearest_weights_are_taken(page):
    drawing = picture(page)
    ActionChains(page).move_to_element_with_offset(drawing, -drawing.rect["width"] // 2 + 4, -drawing.rect["height"] // 3).click().perform()
    t = until(page, lambda: abs(at(page)["t"][0]) < 1e-6 and at(page)["t"])  # the left edge
    assert 0 <= t[1] <= 1


def test_keys_alone_do_everything(page):
    """Tab reaches every control, in the order of the page; the keys move the point, pin a reply and compare."""
    kinds = []
    for _ in range(12):
        ActionChains(page).send_keys(Keys.TAB).perform()
        focused = page.switch_to.active_element
        kinds.append(focused.tag_name)
        assert page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid", focused.tag_name
        if focused.tag_name == "svg":
            break
    assert kinds == ["select", "select", "select", "button", "input", "svg"]
    begun = at(page)
    ActionChains(page).send_keys(Keys.ENTER).perform()
    assert one(page, ".card.pinned").is_displayed()
    ActionChains(page).send_keys(*[Keys.ARROW_UP] * 3, *[Keys.ARROW_LEFT] * 2).perform()
    moved = at(page)
    assert moved["t"][1] > begun["t"][1] and moved["t"][0] < begun["t"][0]
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ARROW_UP).key_up(Keys.SHIFT).perform()
    assert at(page)["t"][1] - moved["t"][1] > 3 * (moved["t"][1] - begun["t"][1]) / 3
    ActionChains(page).send_keys(Keys.PAGE_DOWN).perform()
    assert at(page)["region"] != moved["region"]
    gaps = [cell.text for cell in page.find_elements(By.CSS_SELECTOR, ".gap")]
    now = at(page)["scores"]
    assert gaps[1:] == [signed(round(x, 3) - round(y, 3)) for x, y in zip(now, begun["scores"], strict=True)]
    ActionChains(page).send_keys(Keys.HOME, Keys.ESCAPE).perform()
    assert at(page)["t"] == begun["t"] and not one(page, ".card.pinned").is_displayed()


def signed(x: float) -> str:
    return ("+" if round(x, 3) > 0 else "−" if round(x, 3) < 0 else "") + f"{abs(x):.3f}"


def test_sliders_keep_the_sum(page):
    sliders = page.find_elements(By.CSS_SELECTOR, "[type=range]")
    assert all(slider.accessible_name.startswith("weight of ") for slider in sliders)
    for slider in sliders:
        page.execute_script("arguments[0].value = 0.6; arguments[0].dispatchEvent(new Event('input'))", slider)
        values = [float(str(output.text).replace("−", "-")) for output in page.find_elements(By.CSS_SELECTOR, ".sliders output")]
        assert sum(values) == pytest.approx(1, abs=2e-3) and float(str(slider.get_attribute("value"))) == pytest.approx(0.6, abs=1e-3)


def test_the_search_finds_replies_of_all_prompts_and_goes_there(page):
    word = "lonely"
    one(page, ".search").send_keys(word)
    until(page, lambda: "found in all prompts" in one(page, ".list h2").text)
    rows = page.find_elements(By.CSS_SELECTOR, ".found tbody tr")
    assert len({row.get_attribute("data-region").split("/")[0] for row in rows}) > 1
    target = rows[-1]
    wanted = [int(part) for part in target.get_attribute("data-region").split("/")]
    target.find_element(By.CSS_SELECTOR, "button").click()
    here = at(page)
    assert [here["view"], here["region"]] == [wanted[0], wanted[2]]
    assert word in (one(page, ".card.chosen .reply").text + one(page, ".card.chosen .asked").text).lower()
    assert "found" in until(page, lambda: one(page, ".list h2").text) and one(page, "tr.now")


def test_columns_sort(page):
    for column in (1, 2, 3):
        one(page, f".found th:nth-child({column}) button").click()
        cells = [row.text for row in page.find_elements(By.CSS_SELECTOR, f".found tbody td:nth-child({column})")]
        values = [float(text.rstrip(" %").split()[-1]) for text in cells]
        order = one(page, f".found th:nth-child({column})").get_attribute("aria-sort")
        assert values == sorted(values, reverse=order == "descending") and len(values) > 5
        assert page.switch_to.active_element.tag_name == "button"  # stays where it was pressed


def test_the_mean_of_all_prompts_is_exact(page):
    """At the optimum and elsewhere it is the mean of what the page says of every prompt, and its cell has a share."""
    choice = Select(one(page, ".prompts"))
    choice.select_by_value("mean")
    assert "exact" in one(page, ".legend").text and "Pareto front" in one(page, ".legend").text
    for t in ([0.2, 0.2], [0.6, 0.1], [0.05, 0.9]):
        page.execute_script("document.querySelector('.emorl-map').emorlMap.moveTo(arguments[0])", t)
        mean = at(page)
        each = page.execute_script(
            "const map = document.querySelector('.emorl-map').emorlMap, n = document.querySelectorAll('.prompts option').length - 1;"
            "const found = Array.from({ length: n }, (_, p) => { map.show(p); return map.at().scores; }); map.show('mean'); return found;"
        )
        assert mean["scores"] == pytest.approx(np.mean(each, axis=0).tolist()) and 0 < mean["share"] < 1
    until(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".found tbody tr")) == len(each))


def test_the_front_is_marked_where_it_is_wanted(page):
    """In the mean's picture alone; so many marks hide what they mark that the reader asks for them."""
    box, marks = one(page, ".legend .front input"), one(page, ".fronts")
    assert not box.is_displayed() and marks.get_attribute("visibility") == "hidden"
    Select(one(page, ".prompts")).select_by_value("mean")
    before = marks.get_attribute("visibility")
    box.click()
    assert {before, marks.get_attribute("visibility")} == {"hidden", "visible"}
    assert marks.get_attribute("d").count("z") == int(
        one(page, ".legend .front").text.split("(")[1].split()[0].replace(",", "")
    )  # those that are marked


def test_colours_follow_the_objective(page):
    def pixels() -> list[int]:
        return list(
            page.execute_script(
                "const c = document.querySelector('canvas'), inside = [c.width / 2, c.height / 2, 20, 20];"
                "return [...c.getContext('2d').getImageData(...inside).data];"
            )
        )

    before, legend = pixels(), one(page, ".legend").text
    assert any(before)
    Select(one(page, ".colours")).select_by_index(1)
    assert pixels() != before and one(page, ".legend").text != legend


def test_readers_of_the_screen_are_told(page):
    """Language, title, headings in order, names of all controls, and a polite word at every change."""
    assert one(page, "html").get_attribute("lang") == "en" and page.title
    levels = [int(heading.tag_name[1]) for heading in page.find_elements(By.CSS_SELECTOR, "h1, h2, h3")]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    for control in page.find_elements(By.CSS_SELECTOR, "select, input, button, [tabindex]"):
        assert not control.is_displayed() or control.accessible_name, control.get_attribute("outerHTML")
    status = one(page, "[role=status]")
    assert status.get_attribute("aria-live") == "polite"
    page.execute_script("document.querySelector('.emorl-map').emorlMap.moveTo([0.1, 0.1])")
    until(page, lambda: at(page)["reply"].split()[0] in str(status.get_attribute("textContent")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_read_in_the_light_and_in_the_dark(page, scheme):
    """A contrast of 4.5 : 1 for texts (WCAG 2.2, 1.4.3)."""
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    one(page, ".pin").click()
    texts = ".emorl-map p, .emorl-map th, .emorl-map td, .emorl-map button, .emorl-map select, .emorl-map label span, .emorl-map svg text"
    script = CONTRAST.replace('".jp-OutputArea-output svg text, .emorl-map p, .widget-html p"', f'"{texts}, h1, h2"')
    assert script != CONTRAST
    told = page.execute_script(script)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(told) > 50 and not {text[:40]: round(ratio, 1) for text, ratio in told if ratio < 4.5}


# -- other browsers


def test_without_scripts_there_is_a_picture_with_a_table():
    with chromium(preferences={"profile.managed_default_content_settings.javascript": 2}) as browser:
        browser.get(FIGURE.as_uri())
        assert len(browser.find_elements(By.CSS_SELECTOR, ".picture polygon[stroke='white']")) > 5
        assert one(browser, ".picture svg").accessible_name.startswith("A picture of the weights") and one(browser, ".best").is_displayed()
        assert len(browser.find_elements(By.CSS_SELECTOR, "tbody tr")) == 8 and "the optimum" in one(browser, ".legend").text
        assert not one(browser, ".controls").is_displayed() and not one(browser, ".right").is_displayed()
        assert "Prompt 1" in one(browser, ".prompt").text


def test_a_phone_and_a_finger():
    with chromium(phone=True) as browser:
        page = opened(browser, FIGURE)
        assert page.execute_script("return document.documentElement.scrollWidth") == 375
        box = picture(page).rect
        assert 300 < box["width"] <= 375
        before = at(page)["t"]
        place = page.execute_script("const b = document.querySelector('.picture svg').getBoundingClientRect(); return [b.left, b.top]")
        for kind, x, y in (("touchStart", 0.5, 0.6), ("touchMove", 0.45, 0.55), ("touchMove", 0.5, 0.4), ("touchEnd", 0, 0)):
            points = [] if kind == "touchEnd" else [{"x": place[0] + x * box["width"], "y": place[1] + y * box["height"]}]
            page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            time.sleep(0.05)
        here = until(page, lambda: at(page)["t"] != before and at(page))
        assert here["t"][1] > 0.4
        one(page, ".pin").click()
        assert page.execute_script("return document.documentElement.scrollWidth") == 375
        small = [e.size for e in page.find_elements(By.CSS_SELECTOR, ".controls select, .controls button") if e.size["height"] < 24]
        assert not small  # a finger's width (WCAG 2.2, 2.5.8)


def test_work_a_move_does_not_grow_with_the_regions(browser, tmp_path):
    """60 frames a second with 1,000 regions: what changes at a move is the same handful of things, none of them new."""
    found = {}
    points = np.random.default_rng(0).dirichlet(np.ones(3), 40)[:, 1:].tolist()
    for regions in (10, 1000):
        page = opened(browser, save_map_page(tmp_path / f"{regions}.html", made_map(DOMAINS["triangle"], regions=regions)))
        assert page.execute_script("return document.querySelectorAll('.emorl-map *').length") < 700
        found[regions] = page.execute_async_script(MOVES, points)
    assert found[1000]["mutations"] <= found[10]["mutations"] + 2 < 50 and found[1000]["nodes"] == 0


@pytest.mark.parametrize("kind", DOMAINS)
def test_every_domain_answers_as_its_map(browser, tmp_path, kind):
    domain = DOMAINS[kind]
    scored = made_map(domain, samples=2)
    page = opened(browser, save_map_page(tmp_path / "map.html", scored, best=domain.random(1, np.random.default_rng(3))[0]))
    say = (
        "const map = document.querySelector('.emorl-map').emorlMap;"
        "map.show(arguments[0], arguments[1]); map.moveTo(arguments[2]); return map.at();"
    )
    for w in domain.random(12, np.random.default_rng(1)):
        [margins], [regions] = scored.map.margins(w), scored.map.locate(w)
        for row, (region, margin) in enumerate(zip(regions, margins, strict=True)):
            if margin < 1e-4:
                continue  # the page rounds to millionths
            told = page.execute_script(say, row // 2, row % 2, w[1:].tolist())
            assert told["reply"] == scored.map.regions[region].reply
            assert told["margin"] == pytest.approx(margin, rel=1e-3, abs=1e-5) and told["scores"] == pytest.approx(
                scored.scores[region], abs=1e-4
            )
        if margins.min() > 1e-4:
            assert page.execute_script(say, "mean", 0, w[1:].tolist())["scores"] == pytest.approx(scored.means(w)[0].tolist(), abs=1e-4)
    knobs = page.find_elements(By.CSS_SELECTOR, "[type=range]")
    assert len(knobs) == len(domain.columns) and len(page.find_elements(By.TAG_NAME, "canvas")) == (len(domain.corners) < 4)
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize("kind", ["four corners", "three knobs", "six corners"])
def test_sliders_and_table_stand_in_for_a_picture(browser, tmp_path, kind):
    domain = DOMAINS[kind]
    scored = made_map(domain)
    page = opened(browser, save_map_page(tmp_path / "map.html", scored))
    for slider in page.find_elements(By.CSS_SELECTOR, "[type=range]"):
        page.execute_script("arguments[0].value = arguments[0].max; arguments[0].dispatchEvent(new Event('input'))", slider)
        t = np.array(at(page)["t"])
        w = np.array([1 - t.sum(), *t])
        assert domain.piece.contains(w[None], 1e-6).all()
    one(page, ".found tbody tr:nth-child(5) button").click()
    assert at(page)["reply"] == one(page, ".found tbody tr:nth-child(5) .text").text


def test_hostile_texts_do_nothing(browser, tmp_path):
    text = " ".join(HOSTILE.values())
    page = opened(
        browser,
        save_map_page(
            tmp_path / "map.html",
            made_map(DOMAINS["triangle"], prompts=[text, text], reply=lambda row, k: f"{text} {k}", names=[text[:300], "b"]),
            title=text,
        ),
    )
    assert not page.find_elements(By.CSS_SELECTOR, "img") and page.execute_script("return document.querySelectorAll('script').length") == 1
    one(page, ".search").send_keys("<img src=x")
    until(page, lambda: "40 regions found" in one(page, ".list h2").text)
    one(page, ".found tbody tr:nth-child(2) button").click()
    assert not page.find_elements(By.CSS_SELECTOR, "img") and page.execute_script(
        "return document.documentElement.scrollWidth <= innerWidth"
    )
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_several_pages_in_one_document(browser, tmp_path):
    """As in a notebook: pieces side by side, each with its own state."""
    from emorl_lite.plots.map_page import map_page

    pieces = [map_page(made_map(DOMAINS[kind])) for kind in ("triangle", "line of a knob", "triangle")]
    path = tmp_path / "several.html"
    path.write_text(f"<!doctype html><meta charset='utf-8'>{''.join(pieces)}", encoding="utf-8")
    page = opened(browser, path)
    assert len(page.find_elements(By.CSS_SELECTOR, ".emorl-map.live canvas")) == 3
    page.execute_script("document.querySelectorAll('.emorl-map')[2].emorlMap.moveTo([0.1, 0.8])")
    first, third = (page.execute_script(f"return document.querySelectorAll('.emorl-map')[{i}].emorlMap.at().t") for i in (0, 2))
    assert third == pytest.approx([0.1, 0.8]) and first != third
