"""Check the built site: `python scripts/check_site.py [--built FOLDER] [--pages NAME ...] [--shots FOLDER]` (`make site-check`).

Read as files: links and their anchors, what the repository's links name, alternative texts, headings in order, nothing from a network.
In Chromium, without a network, at the width of a laptop and of a phone, in light and in dark: pictures, mathematics, no page that scrolls
sideways, nothing serious by axe-core (from the npm registry, once, into .venv/site), search, the switch of colours.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

from emorl_lite.base.browser import chromium
from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.project import address
from emorl_lite.course.site import build_site

ROOT = Path(__file__).resolve().parent.parent
AXE = "4.14.1"
AXE_FILE = ROOT / ".venv" / "site" / f"axe-{AXE}.min.js"
SERIOUS = ("serious", "critical")
CHANGING = ["color-contrast", "target-size", "scrollable-region-focusable"]
"""Rules of axe-core on what colours and widths change."""
LAPTOP, PHONE = (1280, 900), (375, 740)
NOT_READ = ("search.html", "genindex.html")
"""Pages of Sphinx's own that hold nothing before a script has run: a browser alone sees them."""


# -- as files


@dataclass
class Page(HTMLParser):
    """What one page holds: anchors, links, what it loads, pictures without words, levels of headings, how many pictures and formulas."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    pictures: int = 0
    formulas: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says."""
        said = {name: value or "" for name, value in attrs}
        if name := said.get("id"):
            self.ids.add(name)
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag == "link" and said.get("rel") not in ("canonical", "index", "search", "next", "prev"):
            self.loads.append(said.get("href", ""))
        if tag in ("img", "script", "iframe") and said.get("src"):
            self.loads.append(said["src"])
        self.pictures += tag == "img"
        self.formulas += "math" in said.get("class", "").split()
        if tag == "img" and len(said.get("alt", "")) < 3:
            self.wordless.append(said.get("src", "")[:80])
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))


@cache
def read(file: Path) -> Page:
    """A page, read once."""
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def in_the_repository(link: str) -> str | None:
    """The path that a link to GitHub, Colab or Binder names in this repository, on its main branch; None for any other link."""
    owned = urlsplit(address()).path
    inside = re.match(
        rf"(?:{re.escape(address())}/(?:blob|tree|edit)|https://colab\.research\.google\.com/github{owned}/blob)/main/([^?#]+)", link
    )
    binder = re.match(rf"https://mybinder\.org/v2/gh{owned}/main\?urlpath=lab/tree/([^&#]+)", link)
    return inside[1] if inside else binder[1].replace("my_notebooks/", "notebooks/") if binder else None


def link_fault(link: str, file: Path, site: Path) -> str:
    """What is wrong with a link of a page ("": nothing)."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc):
            return "no host"
        named = in_the_repository(link)
        return "" if named is None or (ROOT / unquote(named)).exists() else "not in the repository"
    if parts.scheme:
        return "" if parts.scheme in ("mailto", "data") else "no such scheme"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file() or site not in target.parents:
        return "no such page"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read(target).ids:
        return "no such anchor"
    return ""


def read_faults(site: Path) -> list[str]:
    """Faults that stand in the files of the site, each with its page."""
    faults, site = list[str](), site.resolve()
    for file in sorted(site.rglob("*.html")):
        page, name = read(file), file.relative_to(site).as_posix()
        if name.startswith("_static/"):
            continue
        faults += [f"{name}: link {link}: {fault}" for link in dict.fromkeys(page.links) if (fault := link_fault(link, file, site))]
        for load in dict.fromkeys(page.loads):
            if urlsplit(load).netloc:
                faults.append(f"{name}: loads {load} from a network")
            elif fault := link_fault(load.partition("?")[0], file, site):
                faults.append(f"{name}: loads {load}: {fault}")
        faults += [f"{name}: a picture without words: {source}" for source in page.wordless]
        if name not in NOT_READ and (page.levels[:1] != [1] or any(b - a > 1 for a, b in pairwise(page.levels))):
            faults.append(f"{name}: headings out of order: {page.levels}")
    return faults


# -- in a browser

READY = """
const done = arguments[0];
const still = document.createElement("style");
still.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
document.head.append(still);
const mathematics = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
for (const image of document.querySelectorAll("img, iframe")) image.loading = "eager";
for (const fold of document.querySelectorAll("main details")) fold.open = true;
Promise.all([mathematics, ...[...document.images].map((image) => image.decode().catch(() => 0))]).then(() => done());
"""
SEEN = """
const told = (e) => (e.outerHTML || "").slice(0, 120);
const inner = document.documentElement.clientWidth;
const inside = (e) => { for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
  if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX)) return true; return false; };
return {
  pictures: [...document.images].filter((i) => !i.naturalWidth && i.offsetParent).map(told),
  mathematics: [...document.querySelectorAll(".math")].filter((m) => !m.querySelector("mjx-container")).map(told)
    .concat([...document.querySelectorAll("mjx-merror")].map(told)),
  wide: document.documentElement.scrollWidth <= inner ? [] : [...document.querySelectorAll("main *")]
    .filter((e) => e.getBoundingClientRect().right > inner + 1 && !inside(e)).slice(0, 5).map(told).concat(["(the page scrolls sideways)"]),
};
"""
DRESS = "document.documentElement.dataset.theme = document.documentElement.dataset.mode = arguments[0];"
LOOK = """
const done = arguments[1];
const settings = Object.assign({ iframes: false, resultTypes: ["violations"] }, arguments[0]);
axe.run(document, settings).then((found) => done(found.violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help,
  nodes: v.nodes.map((n) => n.target.join(" ") + " | " + n.html.slice(0, 160)
    + " | " + (n.any[0] ? n.any[0].message : "")) }))), (error) => done([{ id: String(error), impact: "critical", help: "", nodes: [] }]));
"""


def axe_source() -> str:
    """axe-core's script, from the npm registry the first time. Raises OSError or subprocess.SubprocessError where it cannot be had."""
    if not AXE_FILE.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError("npm is not installed")
        with tempfile.TemporaryDirectory() as folder:
            pack = [npm, "pack", f"axe-core@{AXE}", "--silent", "--pack-destination", folder]
            subprocess.run(pack, check=True, capture_output=True, timeout=120)
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                script = archive.extractfile("package/axe.min.js")
                assert script is not None
                AXE_FILE.parent.mkdir(parents=True, exist_ok=True)  # --built needs no environment of the site's
                AXE_FILE.write_bytes(script.read())
    return AXE_FILE.read_text(encoding="utf-8")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The site on this machine, for as long as it is needed: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{server.server_address[0]!s}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def browser() -> AbstractContextManager[Any]:
    """Chromium without a network. Raises UserError where it is not installed."""
    return chromium("--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


def resize(page: Any, size: tuple[int, int]) -> None:
    """The window's width and height."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def seen_faults(page: Any, name: str, axe: str, shots: Path | None = None) -> list[str]:
    """Faults of an opened page at both widths, in light and in dark."""
    faults: list[str] = []
    page.execute_async_script(READY)
    if axe:
        page.execute_script(axe)
    for width, size in (("laptop", LAPTOP), ("phone", PHONE)):
        resize(page, size)
        found = page.execute_script(SEEN)
        faults += [f"{name} ({width}): {what}: {told}" for what, list_ in found.items() for told in list_]
        for scheme in ("light", "dark"):
            page.execute_script(DRESS, scheme)
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
            if shots is not None:
                page.save_screenshot(str(shots / f"{name.replace('/', '_')}-{width}-{scheme}.png"))
            # all rules once; what colours and widths can change, each time
            few = {} if (width, scheme) == ("laptop", "light") else {"runOnly": CHANGING}
            for fault in page.execute_async_script(LOOK, few) if axe else []:
                if fault["impact"] in SERIOUS:
                    faults.append(
                        f"{name} ({width}, {scheme}): {fault['id']} × {len(fault['nodes'])}: {fault['help']}: {fault['nodes'][:3]}"
                    )
    severe = [
        entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE" and "/favicon.ico" not in entry["message"]
    ]
    return faults + [f"{name}: the console: {message}" for message in severe]


def working_faults(page: Any, base: str) -> list[str]:
    """Whether search finds and the switch of colours switches."""
    from selenium.webdriver.support.ui import WebDriverWait

    faults = []
    resize(page, LAPTOP)
    page.get(f"{base}/search.html?q=weights")
    try:
        WebDriverWait(page, 60).until(lambda p: p.execute_script("return document.querySelectorAll('ul.search li a').length") > 3)
    except Exception:
        faults.append("search.html: nothing is found for 'weights'")
    page.get(f"{base}/index.html")
    schemes = []
    for _ in range(3):
        page.execute_script("document.querySelector('.theme-switch-button').click()")
        schemes.append(page.execute_script("return document.documentElement.dataset.theme"))
    if set(schemes) != {"light", "dark"}:
        faults.append(f"index.html: the switch of colours gives {schemes}")
    return faults


def browser_faults(site: Path, names: Sequence[str], axe: str, shots: Path | None = None) -> list[str]:
    """Faults of these pages (paths in the site) as a browser shows them. `axe`: the script of axe-core, or "" to do without."""
    faults = []
    with served(site) as base, browser() as page:
        faults += working_faults(page, base)
        for name in names:
            page.get(f"{base}/{name}")
            faults += seen_faults(page, name, axe, shots)
    return faults


def page_names(site: Path) -> list[str]:
    """Paths of all pages in the site."""
    names = [file.relative_to(site).as_posix() for file in sorted(site.rglob("*.html"))]
    return [name for name in names if not name.startswith("_static/") and name != "genindex.html"]


def told(site: Path, seconds: float) -> str:
    """How much was checked."""
    pages = [read((site / name).resolve()) for name in page_names(site)]
    links = [link for page in pages for link in page.links]
    away = {link for link in links if urlsplit(link).netloc and in_the_repository(link) is None}
    counts = (
        f"{len(pages)} pages, {len(links)} links ({len(away)} addresses elsewhere, whose form alone is read)",
        f"{sum(page.pictures for page in pages)} pictures, {sum(page.formulas for page in pages)} formulas, {seconds:.0f} s",
    )
    return "site-check: " + ", ".join(counts)


def main() -> int:
    """Build, unless told, and check. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--built", type=Path, help="a site that is there, instead of a new one")
    parser.add_argument("--pages", nargs="+", help="these alone in the browser")
    parser.add_argument("--shots", type=Path, help="a folder for pictures of the pages")
    options = parser.parse_args()
    begun = monotonic()
    site = options.built or build_site()
    if options.shots:
        options.shots.mkdir(parents=True, exist_ok=True)
    faults = read_faults(site)
    try:
        faults += browser_faults(site, options.pages or page_names(site), axe_source(), options.shots)
    except (UserError, FileNotFoundError, subprocess.SubprocessError) as error:
        print(f"site-check: not seen in a browser, {error}", file=sys.stderr)
        faults.append("not checked in a browser")
    for fault in faults:
        print(fault)
    print(f"{told(site, monotonic() - begun)}: {len(faults) or 'no'} fault{'s' if len(faults) > 1 else ''}")
    return 1 if faults else 0


if __name__ == "__main__":
    run_script(main)
