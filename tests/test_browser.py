"""What a reader meets: JupyterLab in a browser, a notebook run there, its explorers moved by keyboard.

Chromium and its driver are the system's (`apt install chromium chromium-driver`), driven by selenium; without them the tests are skipped,
unless EMORL_BROWSER=required.
"""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from chromium import CONTRAST, MARKS, SECONDS, chromium
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parent.parent

pytestmark = MARKS

EXPLORER = "weight_explorer("
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page, seen or not
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension/themes": {"theme": "JupyterLab Dark"},
}
MORE_CELLS = [
    "scored = experiment.exact_map(prompts[:3])",
    "show(plots.prompt_map(scored, 0), 'prompt_map', 'A map.')",
    "plots.map_explorer(scored, 0, [0.4, 0.3, 0.3])",
    "plots.step_explorer(ensemble, prompts[:3])",
    "from IPython.display import HTML\n\nHTML(plots.map_page(scored))",
]
RUN_ALL = """
const done = arguments[0], notebook = jupyterapp.shell.currentWidget;
(async () => {
  await notebook.context.ready;
  await notebook.sessionContext.ready;
  await notebook.sessionContext.session.kernel.info;
  await jupyterapp.commands.execute("notebook:run-all-cells");
})().then(() => done("run"), (error) => done(String(error)));
"""


def names_of(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell makes, and names that it reads."""
    made, read = set[str](), set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (made if isinstance(node.ctx, ast.Store) else read).add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
    return made, read


def cut(notebook: Path) -> nbformat.NotebookNode:
    """The cell of this notebook that makes an explorer, with the cells that it needs."""
    book = nbformat.read(notebook, as_version=4)
    cells = [
        cell for cell in book.cells if cell.cell_type == "code" and not set(cell.metadata.get("tags", [])) & {"colab", "exercise", "check"}
    ]
    at = next(i for i, cell in enumerate(cells) if re.search(rf"^{re.escape(EXPLORER)}", cell.source, re.M))
    needed, kept = names_of(cells[at].source)[1], [cells[at]]
    for cell in reversed(cells[:at]):
        made, read = names_of(cell.source)
        if made & needed:
            kept.insert(0, cell)
            needed = (needed - made) | read
    book.cells = [*kept, *map(nbformat.v4.new_code_cell, MORE_CELLS)]
    for cell in book.cells:
        cell.outputs, cell.execution_count = [], None
    return book


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End the server, which ends its kernels."""
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab of its own: address with token, and the folder that it shows."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "shown").mkdir()
    for name, settings in SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
    }
    places |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--LabApp.expose_app_in_browser=True",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={folder / 'shown'}"],
            env=os.environ | {name: str(folder / place) for name, place in places.items()} | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + SECONDS
        while not (found := list((folder / "runtime").glob("jpserver-*.json"))):
            assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
        facts = json.loads(found[0].read_text())
        yield f"{facts['url']}lab/tree/{{}}?token={facts['token']}", folder / "shown"
    finally:
        stop(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(lab, browser) -> WebDriver:
    """A notebook of explorers, opened and run from the first cell to the last."""
    address, folder = lab
    nbformat.write(cut(ROOT / "notebooks" / "03_hidden_state_ensembling.ipynb"), folder / "cut.ipynb")
    browser.get(address.format("cut.ipynb"))
    WebDriverWait(browser, SECONDS).until(lambda b: b.execute_script("return !!window.jupyterapp?.shell.currentWidget?.sessionContext"))
    assert browser.execute_async_script(RUN_ALL) == "run"
    cells(browser, ".emorl-map")
    return browser


def cells(browser: WebDriver, selector: str) -> list[WebElement]:
    """Elements of outputs, waited for."""
    return WebDriverWait(browser, SECONDS).until(lambda b: b.find_elements(By.CSS_SELECTOR, f".jp-OutputArea-output {selector}"))


def explorers(browser: WebDriver) -> list[WebElement]:
    """The outermost boxes of widgets: the weight explorer, the map explorer and the step explorer."""
    return [
        box for box in cells(browser, ".widget-vbox") if not box.find_elements(By.XPATH, "ancestor::*[contains(@class, 'widget-vbox')]")
    ]


def press(browser: WebDriver, explorer: WebElement, slider: int, key: str) -> None:
    handle = explorer.find_elements(By.CSS_SELECTOR, "[role=slider]")[slider]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", handle)
    handle.send_keys(key)


def told(explorer: WebElement) -> str:
    """The line of an explorer that begins with Reply."""
    lines = [line for line in explorer.text.splitlines() if line.startswith("Reply:")]
    return lines[0] if lines else ""


def until_changed(browser: WebDriver, look: Callable[[], str], before: str) -> str:
    WebDriverWait(browser, SECONDS, ignored_exceptions=[StaleElementReferenceException]).until(lambda _: look() not in ("", before))
    return look()


def test_all_cells_run(page):
    kinds = [str(part.get_attribute("data-mime-type")) for part in page.find_elements(By.CSS_SELECTOR, ".jp-OutputArea [data-mime-type]")]
    assert "image/png" in kinds and not [kind for kind in kinds if "error" in kind or "stderr" in kind]
    assert all(re.fullmatch(r"\[\d+\]:", prompt.text) for prompt in page.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .jp-InputPrompt"))


def test_pictures_are_told_in_words(page):
    """JupyterLab gives an image no alternative text, so the words stand below it; a drawing in SVG has a name."""
    for picture in cells(page, "img"):
        if not picture.get_attribute("alt"):
            [below] = picture.find_elements(
                By.XPATH, "ancestor::div[contains(@class, 'jp-OutputArea-child')]/following-sibling::div[1]//details"
            )
            assert len(str(below.get_attribute("textContent"))) > len("The figure in words")
    for drawing in cells(page, "svg[role]"):
        assert drawing.accessible_name


def test_controls_have_names(page):
    """A widget's handle cannot have one: it shares a row with a field that has, and holds the same number."""
    assert all(field.accessible_name for field in cells(page, "input") + cells(page, "select"))
    for handle in cells(page, "[role=slider]"):
        rows = handle.find_elements(By.XPATH, "ancestor::div[contains(@class, 'widget-hbox')][1]//input")
        assert handle.accessible_name or any(field.accessible_name for field in rows), handle.get_attribute("outerHTML")


@pytest.mark.parametrize("number", [0, 1], ids=["weights", "map"])
def test_the_keyboard_moves_a_slider_and_the_reply_follows(page, number):
    explorer = explorers(page)[number]
    before = told(explorer)
    for slider, key in enumerate((Keys.END, Keys.HOME, Keys.HOME)):  # the first objective alone
        press(page, explorer, slider, key)
    first = until_changed(page, lambda: told(explorer), before)
    for slider, key in ((2, Keys.END), (0, Keys.HOME)):  # the third alone
        press(page, explorer, slider, key)
    assert until_changed(page, lambda: told(explorer), first) != before


def test_an_arrow_key_goes_to_the_next_word(page):
    explorer = explorers(page)[2]

    def look() -> str:
        return next((line for line in explorer.text.splitlines() if line.startswith("Word ")), "")

    before = look()
    assert before.startswith("Word 1 of ")
    press(page, explorer, -1, Keys.ARROW_RIGHT)
    assert until_changed(page, look, before).startswith("Word 2 of ")


def test_the_map_shows_where_the_weights_are(page):
    explorer = explorers(page)[1]

    def look() -> str:
        return str(explorer.find_element(By.CSS_SELECTOR, "svg circle").get_attribute("outerHTML"))

    before = look()
    press(page, explorer, 1, Keys.END)
    until_changed(page, look, before)


def test_a_click_on_the_map_is_answered(page):
    (answers,) = cells(page, ".emorl-map")
    shown = answers.find_element(By.CSS_SELECTOR, ".card.chosen .where")
    picture = answers.find_element(By.CSS_SELECTOR, ".picture svg")
    page.execute_script("document.querySelector('.emorl-map').emorlMap.moveTo([0.9, 0.05])")
    before = shown.text
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    picture.click()
    until_changed(page, lambda: shown.text, before)


def test_the_map_keeps_its_keys(page):
    """JupyterLab's own keys, which go from cell to cell, do not take those of the map."""
    (answers,) = cells(page, ".emorl-map")
    shown = answers.find_element(By.CSS_SELECTOR, ".card.chosen .where")
    before, picture = shown.text, answers.find_element(By.CSS_SELECTOR, ".picture svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", picture)
    picture.send_keys(Keys.ARROW_DOWN)
    until_changed(page, lambda: shown.text, before)
    assert page.switch_to.active_element == picture


def test_texts_are_read_on_a_dark_page(page):
    """A contrast of 4.5 : 1 (WCAG 2.2, 1.4.3) in JupyterLab's dark theme."""
    faint = {text[:40]: round(ratio, 1) for text, ratio in page.execute_script(CONTRAST) if ratio < 4.5}
    assert not faint


def test_the_console_has_no_errors(page):
    severe = [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
