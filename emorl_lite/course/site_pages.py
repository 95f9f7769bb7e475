"""The site's sources, made from the repository's pages: links that are right on GitHub become right on the site.

A link to a page of the site stays a link between pages; one to any other file or folder leads to the repository. Notebooks keep their
outputs; what only a running notebook needs goes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from posixpath import normpath
from typing import Any
from urllib.parse import urlsplit

OWN = "docs/site"
"""The folder of the site's own pages and settings; on the site they stand at the top."""
MAP, MAP_PAGE = "figures/map.html", f"{OWN}/map.md"
"""A page that is not Markdown, and the page that shows it."""
EXTRA = "as_they_are"
"""The folder of files that the site has as they are."""
TITLE = re.compile(r"^# @title (.+)$", re.MULTILINE)
RUN_IT = (
    "To run this page and do its exercises: [Colab](https://colab.research.google.com/github{owned}/blob/main/{page}) or "
    "[Binder](https://mybinder.org/v2/gh{owned}/main?urlpath=lab/tree/my_{page}), with nothing to install, or [your own machine]({using})."
)
"""Below a notebook's title, where the badge was."""
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+", re.MULTILINE)
CODE = re.compile(r"^(?P<fence> *(?:```+|~~~+)).*?^(?P=fence)`* *$|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<before>!?\[(?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*\]\()(?P<target>[^)\s]+)(?P<after>(?:\s+\"[^\"]*\")?\))")


def listed(toc: str) -> dict[str, str]:
    """Pages that a table of contents names: path in the repository to path in the sources. `toc`: the text of _toc.yml."""
    names = re.findall(r"^\s*(?:- )?(?:file|root): (\S+)", toc, re.MULTILINE)
    suffix: Callable[[str], str] = lambda name: ".ipynb" if name.startswith("notebooks/") else ".md"  # noqa: E731
    return {(name if "/" in name or name.isupper() else f"{OWN}/{name}") + suffix(name): name + suffix(name) for name in names}


class Pages:
    """The repository's pages, and how they become the site's sources.

    `root`: the repository; `pages`: path there to path in the sources (`listed`); `address`: the repository's, https://github.com/...
    """

    def __init__(self, root: Path, pages: dict[str, str], address: str) -> None:
        self.root, self.pages, self.address = root, pages, address
        self.pictures: set[str] = set()

    def link(self, target: str, page: str, picture: bool = False) -> str:
        """Where a link of `page` (a path in the repository) leads on the site. A picture's file is noted in `pictures`."""
        for kind in ("blob", "tree", "edit"):
            target = target.replace(f"{self.address}/{kind}/main/", "/", 1)
        if target.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
            return target
        name, mark, heading = target.partition("#")
        path = normpath(name.lstrip("/") if name.startswith("/") else f"{os.path.dirname(page)}/{name}".lstrip("/"))
        if picture:
            self.pictures.add(path)
            return self._relative(path, page)
        if path == MAP:
            path = MAP_PAGE
        if f"{path}/README.md" in self.pages:  # a folder's own page
            path = f"{path}/README.md"
        if path in self.pages:
            return self._relative(self.pages[path], page) + mark + heading
        return f"{self.address}/{'tree' if (self.root / path).is_dir() else 'blob'}/main/{path}{mark}{heading}"

    def _relative(self, staged: str, page: str) -> str:
        return os.path.relpath(staged, os.path.dirname(self.pages[page]) or ".").replace(os.sep, "/")

    def text(self, text: str, page: str) -> str:
        """Markdown with links that are right on the site, without the badge: each page has a button. Code stays as it is."""

        def rewrite(match: re.Match[str]) -> str:
            inner = LINK.sub(rewrite, match["before"][:-2] + "]")[:-1] + "](" if "](" in match["before"][:-2] else match["before"]
            return inner + self.link(match["target"], page, match["before"].startswith("!")) + match["after"]

        kept: list[str] = []

        def hide(match: re.Match[str]) -> str:
            kept.append(match[0])
            return f"\0{len(kept) - 1}\0"

        linked = LINK.sub(rewrite, CODE.sub(hide, BADGE.sub("", text)))
        return re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], linked)

    def notebook(self, book: dict[str, Any], page: str) -> dict[str, Any]:
        """A notebook with links that are right on the site, and pictures that carry their words; without badge and Colab's cell.

        Below its title stands where it can be run.
        """
        cells = [cell for cell in book["cells"] if "colab" not in cell["metadata"].get("tags", [])]
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                cell["source"] = self.text(source, page)
                continue
            settings: dict[str, Any] = cell["metadata"].setdefault("mystnb", {})
            if title := TITLE.match(source):
                cell["source"] = source[title.end() :].lstrip("\n")
                settings |= {"code_prompt_show": f"Code: {title[1]}", "code_prompt_hide": f"Fold: {title[1]}"}
            for output in cell["outputs"]:
                data = output.get("data", {})
                if "text/markdown" in data:
                    data["text/markdown"] = self.text("".join(data["text/markdown"]), page)
                if "image/png" in data:
                    settings["image"] = {"alt": output["metadata"]["image/png"]["alt"]}
        title, _, rest = cells[0]["source"].partition("\n")
        run_it = RUN_IT.format(owned=urlsplit(self.address).path, page=page, using=self.link("/docs/using.md#where-you-sit", page))
        cells[0]["source"] = f"{title}\n\n{run_it}\n{rest}"
        return book | {"cells": cells}

    def write(self, out: Path) -> None:
        """All sources into a folder that is empty or not there yet."""
        for page, staged in self.pages.items():
            source, target = self.root / page, out / staged
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8")
            if source.suffix == ".ipynb":
                written = json.dumps(self.notebook(json.loads(text), page), ensure_ascii=False, indent=1)
            else:
                written = self.text(text, page)
            target.write_text(written, encoding="utf-8")
        for picture in self.pictures:
            (out / picture).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / picture, out / picture)
        (out / EXTRA / MAP).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / MAP, out / EXTRA / MAP)
        for name in ("_config.yml", "_toc.yml"):
            text = (self.root / OWN / name).read_text(encoding="utf-8")
            (out / name).write_text(text.replace("REPOSITORY_URL", self.address), encoding="utf-8")
        shutil.copytree(self.root / OWN / "_static", out / "_static")
