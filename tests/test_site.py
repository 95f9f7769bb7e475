"""The site (`make site`): every page is on it, links that are right on GitHub are right there, it is built and seen in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from emorl_lite.base.errors import UserError
from emorl_lite.base.project import address
from emorl_lite.course.site import build_site
from emorl_lite.course.site_pages import BADGE, EXTRA, OWN, Pages, listed

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import check_site

pytestmark = pytest.mark.plain
ROOT = Path(__file__).resolve().parent.parent
TOC = (ROOT / OWN / "_toc.yml").read_text(encoding="utf-8")
HOME = "https://github.com/owner/name"
NOT_ON_THE_SITE = {
    "emorl_lite/assets/small_world/README.md": "a datasheet that lies beside its data",
    "course/held_back_questions.md": "held back",
    **{f"course/slides/{number:02d}.md": "the source of a deck" for number in range(9)},
}
REQUIRED = os.environ.get("EMORL_SITE") == "required"
"""Set where pip, npm and a browser are at hand (.ci/run): nothing here is skipped then."""


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages(ROOT, listed(TOC), HOME)


# -- what is on it


def test_every_page_is_on_the_site():
    entries = [entry for part in yaml.safe_load(TOC)["parts"] for entry in part["chapters"]]
    assert not [entry for entry in entries if "sections" in entry], "the theme's buttons that unfold pages have no name"
    named = [entry["file"] for entry in entries]
    assert len(named) == len(set(named)) and len(listed(TOC)) == len(named) + 1
    there = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.md", "docs/**/*.md", "data/*.md", "course/**/*.md", "emorl_lite/**/*.md", "notebooks/[0-9]*.ipynb")
        for path in ROOT.glob(pattern)
    }
    assert set(listed(TOC)) <= there, "the table of contents names what is not there"
    assert there - set(listed(TOC)) == set(NOT_ON_THE_SITE)


def test_the_settings_hold_no_address_of_their_own():
    for name in ("_config.yml", "_toc.yml", "index.md", "map.md"):
        assert "github.com" not in (ROOT / OWN / name).read_text(encoding="utf-8"), name


def test_every_package_of_the_site_is_pinned():
    lines = (ROOT / OWN / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 50 and all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins) and "jupyter-book==1.0.4.post1" in pins


def test_the_workflow_builds_what_is_checked_here():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {"contents": "read"} and set(jobs) == {"build", "publish"}
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"} and "permissions" not in jobs["build"]
    assert all(re.search(r"@v\d", step["uses"]) for job in jobs.values() for step in job["steps"] if "uses" in step)
    assert "make site" in [step.get("run") for step in jobs["build"]["steps"]] and "main" in jobs["publish"]["if"]


# -- links


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("README.md", "docs/using.md#whose-run-you-read", "docs/using.md#whose-run-you-read"),
        ("README.md", "figures/map.html", "map.md"),
        ("README.md", "LICENSE", f"{HOME}/blob/main/LICENSE"),
        ("docs/using.md", "../notebooks/05_exact_map.ipynb", "../notebooks/05_exact_map.ipynb"),
        ("docs/using.md", "../emorl_lite/training/ppo.py#L10", f"{HOME}/blob/main/emorl_lite/training/ppo.py#L10"),
        ("docs/using.md", "../emorl_lite/training/", f"{HOME}/tree/main/emorl_lite/training"),
        ("docs/using.md", "#set-up-by-hand", "#set-up-by-hand"),
        ("docs/using.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("docs/site/index.md", "../using.md", "docs/using.md"),
        ("docs/site/index.md", "map.md", "map.md"),
        ("notebooks/05_exact_map.ipynb", f"{HOME}/blob/main/docs/notation.md", "../docs/notation.md"),
        ("notebooks/05_exact_map.ipynb", "../figures/map.html", "../map.md"),
    ],
)
def test_a_link_leads_to_the_page_or_to_the_repository(pages, page, link, on_the_site):
    assert pages.link(link, page) == on_the_site
    assert (
        pages.text(f"See [a `word` of it]({link}), or [it]({link}).", page)
        == f"See [a `word` of it]({on_the_site}), or [it]({on_the_site})."
    )


def test_code_stays_as_it_is_and_pictures_are_taken_along(pages):
    text = "`[a](LICENSE)` and ``a ` [b](LICENSE)``\n\n```python\nx[0](LICENSE)\n```\n"
    assert pages.text(text, "README.md") == text
    assert (
        pages.text('![a [b] picture](../figures/levels.png "its title")', "docs/using.md")
        == '![a [b] picture](../figures/levels.png "its title")'
    )
    assert "figures/levels.png" in pages.pictures
    nested = pages.text("[![words](figures/levels.png)](LICENSE)", "README.md")
    assert nested == f"[![words](figures/levels.png)]({HOME}/blob/main/LICENSE)"


def test_a_notebook_keeps_its_outputs_and_leaves_what_needs_a_kernel(pages):
    name = "notebooks/01_reward_classifiers.ipynb"
    before = json.loads((ROOT / name).read_text(encoding="utf-8"))
    after = pages.notebook(json.loads((ROOT / name).read_text(encoding="utf-8")), name)
    assert len(after["cells"]) == len(before["cells"]) - 1 and after["cells"][0]["source"].startswith("# ")
    assert not BADGE.search(after["cells"][0]["source"])
    run_it = after["cells"][0]["source"].split("\n")[2]
    assert all(part in run_it for part in ("/owner/name/blob/main/" + name, f"lab/tree/my_{name})", "(../docs/using.md#where-you-sit)"))
    pictures = 0
    for cell in after["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                pictures += 1
                assert cell["metadata"]["mystnb"]["image"]["alt"] == output["metadata"]["image/png"]["alt"]
        if "hide-input" in cell["metadata"].get("tags", []):
            assert cell["metadata"]["mystnb"]["code_prompt_show"].startswith("Code: ") and not cell["source"].startswith("# @title")
    assert pictures > 3


def test_what_is_wrong_is_found(tmp_path):
    """The checks of the built files can fail."""
    (tmp_path / "a.html").write_text(
        "<h1 id='here'>a</h1><h3>b</h3><img src='https://x.org/a.png'><a href='b.html'>b</a><a href='#here'>c</a>"
    )
    colab = f"{address()}/blob/main/notebooks/none.ipynb".replace("https://github.com", "https://colab.research.google.com/github")
    named = ("a.html#there", "http://x", f"{address()}/blob/main/nothing.md", colab, "https://x.org")
    links = "".join(f"<a href='{link}'>x</a>" for link in named)
    (tmp_path / "c.html").write_text(f"<h1>c</h1>{links}")
    faults = check_site.read_faults(tmp_path)
    told = ("b.html: no such page", "from a network", "without words", "out of order", "no such anchor", "no host")
    told += ("nothing.md: not in the repository", "none.ipynb: not in the repository")
    assert len(faults) == len(told) and all(any(part in fault for fault in faults) for part in told)


# -- built, and seen


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    try:
        return build_site(tmp_path_factory.mktemp("site"))
    except UserError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


SEEN = ("index.html", "notebooks/00_task_and_tour.html", "docs/results.html", "map.html")
"""Looked at here, one of each kind; `make site-check` looks at all."""


@pytest.mark.slow
def test_the_site_is_built_and_every_link_is_alive(site):
    names = check_site.page_names(site)
    assert {Path(staged).with_suffix(".html").as_posix() for staged in listed(TOC).values()} <= set(names)
    assert (site / "figures" / "map.html").read_bytes() == (ROOT / "figures" / "map.html").read_bytes() and not (site / EXTRA).exists()
    assert not check_site.read_faults(site)
    for name, edited in (("index.html", f"{OWN}/index.md"), ("docs/using.html", "docs/using.md"), ("map.html", f"{OWN}/map.md")):
        assert f"{address()}/edit/main/{edited}" in (site / name).read_text(encoding="utf-8")
    notebook = (site / "notebooks" / "00_task_and_tour.html").read_text(encoding="utf-8")
    for button in ("https://colab.research.google.com/github/", "lab/tree/my_notebooks/00_task_and_tour.ipynb", f"{address()}/issues/new"):
        assert button in notebook


@pytest.mark.slow
def test_the_site_is_seen_in_a_browser(site):
    """Pictures, mathematics, widths, both colour schemes, search; and axe-core, where npm can get it."""
    pytest.importorskip("selenium", reason="selenium is not installed (make setup)")
    try:
        axe = check_site.axe_source()
    except (OSError, subprocess.SubprocessError):
        if REQUIRED:
            raise
        axe = ""
    try:
        faults = check_site.browser_faults(site, SEEN, axe)
    except UserError as error:
        if REQUIRED or os.environ.get("EMORL_BROWSER") == "required":
            raise
        pytest.skip(str(error))
    assert not faults
