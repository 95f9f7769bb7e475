"""The site: the notebooks with their committed outputs and the repository's pages, built by Jupyter Book (`site`).

Jupyter Book 1.x needs older packages than this package does, so it has an environment of its own, `.venv/site`, made from
`docs/site/requirements.txt`. Once that is there nothing here needs a network, and neither does the site.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import repository_root
from emorl_lite.base.project import address, in_repository
from emorl_lite.course.site_pages import EXTRA, OWN, Pages, listed


@dataclass
class Site:
    """Build the site from the committed notebooks and pages, with Jupyter Book in an environment of its own. From the repository alone."""


class SiteError(RuntimeError):
    """Jupyter Book found faults; the message names each."""


INSTALL_SECONDS = 900
BUILT = "build/site"
"""The folder of sources and site, in the repository, ignored by git; the site is its `html`."""
OWN_PAGES = (f"{OWN}/index.md", f"{OWN}/map.md")
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts", "a11y")
"""Of MathJax, what the site's mathematics needs."""


def site_python(root: Path) -> Path:
    """The interpreter of the site's own environment, which is made where it is missing or old. Raises UserError if it cannot be had."""
    home = root / ".venv" / "site"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    needs = root / OWN / "requirements.txt"
    ready = home / ".ready"
    if ready.is_file() and ready.read_bytes() == needs.read_bytes():
        return python
    print("the site's packages, once: into .venv/site (a minute)", flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-deps", "-r", str(needs)]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True, text=True)
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(home, ignore_errors=True)
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise UserError(f"site: the packages of {OWN}/requirements.txt cannot be installed here ({said[-1] if said else error})") from error
    ready.write_bytes(needs.read_bytes())
    return python


def build_site(out: Path | None = None) -> Path:
    """Build the site and return the folder of its pages, `html` in `out` (default: build/site in the repository).

    Any warning of Jupyter Book's is a failure: SiteError. Raises UserError without a repository, or where Jupyter
    Book cannot be installed.
    """
    root = repository_root()
    if root is None:
        raise UserError(f"site: {in_repository('the pages')}")
    python = site_python(root)
    out = root / BUILT if out is None else out
    sources, html = out / "source", out / "html"
    shutil.rmtree(out, ignore_errors=True)
    sources.mkdir(parents=True)
    Pages(root, listed((root / OWN / "_toc.yml").read_text(encoding="utf-8")), address()).write(sources)
    _vendor_mathjax(python, sources / EXTRA / "_static" / "mathjax")  # not in _static: each page would load each of its files
    start = "from jupyter_book.cli.main import main; main()"
    command = [str(python), "-c", start, "build", str(sources), "--path-output", str(out), "-W", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", env=_environment())
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    (out / "log.txt").write_text(said, encoding="utf-8")
    if done.returncode:
        told = [line for line in said.splitlines() if re.search(r"WARNING|ERROR", line)] or said.splitlines()[-5:]
        raise SiteError(f"site: Jupyter Book found faults (all it said: {out / 'log.txt'})\n" + "\n".join(told))
    (out / "_build" / "html").rename(html)
    _mend(html)
    return html


def run_site() -> int:
    """Build the site and say where it is, or what is wrong with it. Returns the exit status."""
    try:
        html = build_site()
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    files = [file for file in html.rglob("*") if file.is_file()]
    print(f"{len(list(html.rglob('*.html')))} pages, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB: open {html / 'index.html'}")
    return 0


def _environment() -> dict[str, str]:
    """Without what the user's shell says of Python, and without bytes that differ from build to build."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {"PYTHONUTF8": "1"}


def _vendor_mathjax(python: Path, target: Path) -> None:
    """MathJax beside the pages, from the site's environment."""
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(asked, check=True, capture_output=True, text=True, env=_environment()).stdout.strip()
    for name in MATHJAX:
        source = Path(packages, "sphinx-mathjax-offline", "static", "mathjax", name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target / name)


def _mend(html: Path) -> None:
    """What is wrong in the theme's pages: each mend says why."""
    for file in html.rglob("*.html"):
        page = file.relative_to(html).with_suffix("").as_posix()
        if page.startswith(("_static/", "figures/")):
            continue
        text = file.read_text(encoding="utf-8")
        # kernels in the page are off; their script asks a network, and its constants are declared twice, an error in the console
        text = re.sub(
            r"^\s*<script[^>]*>const THEBE_JS_URL.*?</script>\n|^\s*<script[^>]*sphinx-thebe\.js.*?</script>\n",
            "",
            text,
            flags=re.MULTILINE,
        )
        # the name that is read aloud has to hold the words that are seen
        text = text.replace('title="Search" aria-label="Search"', 'title="Search"').replace(' aria-label="Toggle hidden content"', "")
        text = re.sub(r'(<i class="theme-switch [^>]*?) +title="[^"]*"', r"\1", text)
        # Binder opens a copy, which is its reader's own to change, as `lab` does everywhere
        text = text.replace("?urlpath=lab/tree/notebooks/", "?urlpath=lab/tree/my_notebooks/")
        # the site's own pages stand at the top of the site, and not of the repository
        for kind in ("edit", "blob") if f"{OWN}/{page}.md" in OWN_PAGES else ():
            text = text.replace(f"/{kind}/main/{page}.md", f"/{kind}/main/{OWN}/{page}.md")
        file.write_text(text, encoding="utf-8")
