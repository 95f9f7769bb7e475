"""Slides from the notebooks' figures: each source in course/slides/ becomes one HTML file that needs nothing but a browser.

A source is Markdown. A line `---` parts slides; the first has the deck's title as `# `, the others theirs as `## `. A figure stands by its
path, `![](../../figures/NAME.png)`, and takes the alternative text that its notebook committed with it. What follows a line `Notes:` is
said, not shown: key N opens it, and printed slides have it below.

nbconvert's own slides load reveal.js, MathJax and more from other servers; these are meant for a classroom whose network is down.
"""

from __future__ import annotations

import ast
import base64
import html
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.paths import repository_root
from emorl_lite.base.project import in_repository

SOURCES = "course/slides"
BUILT = "build/slides"
"""In the repository, ignored by git."""
PNG = b"\x89PNG\r\n\x1a\n"
FIGURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


@dataclass
class Slides:
    """Build the instructor kit's slides: one HTML file a notebook, that needs nothing but a browser. From the repository alone."""

    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NN")] = ()
    """Build these alone, by notebook: --only 00 05."""
    out: str = ""
    """Folder for the files (default: build/slides in the repository)."""


@dataclass(frozen=True)
class Slide:
    """One slide: its title, what it shows and what is said, in Markdown."""

    title: str
    body: str
    notes: str = ""
    figures: list[str] = field(default_factory=list)
    """Paths of its pictures, as the source has them."""


def read_deck(source: Path) -> list[Slide]:
    """The slides of a source. Raises UserError, with the file and the slide's number, for one without a title."""
    slides = []
    for number, part in enumerate(re.split(r"^---\s*$", source.read_text(encoding="utf-8"), flags=re.M), 1):
        head = re.match(r"\s*#{1,2} (\S[^\n]*)\n(.*)", part + "\n", re.S)
        if head is None:
            raise UserError(f"{source.name}, slide {number}: no title (# or ## and a text, first thing on the slide)")
        body, _, notes = head[2].partition("\nNotes:")
        slides.append(Slide(head[1].strip(), body.strip(), notes.strip(), [match[2] for match in FIGURE.finditer(body)]))
    return slides


def committed_alt_texts(notebooks: Sequence[Path]) -> dict[str, str]:
    """The alternative text of each figure that the notebooks show, by its name, from their committed outputs."""
    found: dict[str, str] = {}
    for path in notebooks:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            shown = _shown("".join(cell["source"])) if cell["cell_type"] == "code" else []
            texts = [
                output["metadata"]["image/png"]["alt"]
                for output in cell.get("outputs", [])
                if "alt" in output.get("metadata", {}).get("image/png", {})
            ]
            if len(shown) == len(texts):
                found.update(zip(shown, texts, strict=True))
    return found


def _shown(code: str) -> list[str]:
    """The names of the figures that a cell shows, in order: `show(figure, "name")`."""
    try:
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return []
    named = [(call.lineno, call.args[1]) for call in calls if getattr(call.func, "id", "") == "show" and len(call.args) > 1]
    return [
        name.value for _, name in sorted(named, key=lambda pair: pair[0]) if isinstance(name, ast.Constant) and isinstance(name.value, str)
    ]


def build_deck(source: Path, alts: Mapping[str, str]) -> str:
    """A deck as one HTML page, figures within it. Raises UserError for a figure that is not there or has no alternative text."""
    slides = read_deck(source)
    shown = [_section(source, slide, number, len(slides), alts) for number, slide in enumerate(slides, 1)]
    return PAGE.format(title=html.escape(slides[0].title), style=STYLE, script=SCRIPT, slides="\n".join(shown))


def _section(source: Path, slide: Slide, number: int, count: int, alts: Mapping[str, str]) -> str:
    level = 1 if number == 1 else 2
    kind = "first" if number == 1 else _shape(source, slide.figures[0]) if slide.figures else "words"
    title = f'<h{level} id="title-{number}">{html.escape(slide.title)}</h{level}>'
    text = _rendered(FIGURE.sub("", slide.body)).strip()
    pictures = "\n".join(_picture(source, path, alt, number, alts) for alt, path in FIGURE.findall(slide.body))
    notes = f'<aside class="notes" aria-label="Speaker notes">{_rendered(slide.notes)}</aside>' if slide.notes else ""
    inner = f'{title}\n<div class="body"><div class="text">{text}</div>\n{pictures}</div>'
    place = f'<p class="place" aria-hidden="true">{number} / {count}</p>'
    return f'<section class="{kind}" id="{number}" aria-labelledby="title-{number}" tabindex="-1">\n{inner}\n{notes}\n{place}</section>'


def _shape(source: Path, path: str) -> str:
    """How a picture stands: a wide or a tall one below the text and over the whole width (a tall one scrolls), others beside the text."""
    header = (source.parent / path).read_bytes()[:24] if (source.parent / path).is_file() else b""
    if header[:8] != PNG:
        return "beside"
    width, height = struct.unpack(">II", header[16:24])
    return "wide" if width > 1.7 * height else "tall" if height > 1.3 * width else "beside"


def _picture(source: Path, path: str, own: str, number: int, alts: Mapping[str, str]) -> str:
    file = (source.parent / path).resolve()
    if not file.is_file():
        raise UserError(f"{source.name}, slide {number}: there is no figure {path}")
    alt = own or alts.get(file.stem, "")
    if not alt:
        raise UserError(
            f"{source.name}, slide {number}: {path} has no alternative text in any notebook; write one, ![what it shows]({path})"
        )
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    words = f"<details><summary>The figure in words</summary><p>{html.escape(alt)}</p></details>"
    image = f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


def _rendered(markdown: str) -> str:
    """Markdown as HTML, by the library that nbconvert renders notebooks with."""
    try:
        import mistune
    except ImportError as error:
        raise UserError('slides need what runs the notebooks: pip install -c constraints.txt -e ".[notebooks]"') from error
    return str(mistune.create_markdown(plugins=["table"])(markdown))


def build_slides(only: Sequence[str] = (), out: Path | None = None) -> list[Path]:
    """Build the decks and return their files. Raises UserError without a repository, or for a notebook that has no deck."""
    root = repository_root()
    if root is None:
        raise UserError(f"slides: {in_repository('the sources')}")
    sources = {path.stem: path for path in sorted((root / SOURCES).glob("[0-9][0-9].md"))}
    for name in only:
        if name not in sources:
            raise UserError(f"--only {name}: no slides of that notebook, expected one of {', '.join(sources)}")
    folder = root / BUILT if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    alts, written = committed_alt_texts(sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))), []
    for name in dict.fromkeys(only or sources):
        path = folder / f"{name}.html"
        path.write_text(build_deck(sources[name], alts), encoding="utf-8", newline="\n")
        written.append(path)
    return written


def run_slides(command: Slides) -> int:
    """The command `slides`. Returns the exit status."""
    out = check_folder(command.out, "--out") if command.out else None
    for path in build_slides(command.only, out):
        print(path)
    print("Open one in a browser. Left and right move, up and down scroll, N opens the notes; printed, each slide is a page.")
    return 0


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{slides}
</main>
<nav aria-label="Slides"><button type="button" id="back">Back</button> <button type="button" id="on">Next</button>
<button type="button" id="said" aria-expanded="false">Notes</button></nav>
<script>{script}</script>
</body>
</html>
"""
STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; font: clamp(18px, 2.3vw, 34px)/1.4 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
section { position: relative; min-height: 100vh; padding: 4vh 5vw 9vh; display: flex; flex-direction: column }
section + section { border-top: 1px solid #bbb }
section:focus { outline: none; }
h1 { font-size: 2.2em; margin: 20vh 0 .4em; color: #1b4f8a; line-height: 1.15; }
h2 { font-size: 1.5em; margin: 0 0 .5em; color: #1b4f8a; line-height: 1.2; }
.body { flex: 1; display: flex; gap: 3vw; align-items: flex-start; min-height: 0; }
.text { flex: 1 1 30%; }
.text:empty { display: none; }
.words .text, .first .text { max-width: 34em; }
p, li { margin: 0 0 .6em; }
ul, ol { padding-left: 1.2em; margin: 0; }
.text > * + p, .text > * + table { margin-top: .8em; }
figure { flex: 2 1 62%; margin: 0; min-width: 0; }
figure img { display: block; max-width: 100%; max-height: 74vh; width: 100%; object-fit: contain; object-position: top left; }
.wide .body, .tall .body { flex-direction: column; gap: 1vh; }
.wide figure, .tall figure { flex: 0 0 auto; width: 100%; }
.wide figure img { max-height: 62vh; }
.tall figure img { max-height: none; max-width: 62vw; }
figcaption { font-size: .6em; color: #444; }
summary { cursor: pointer; }
table { border-collapse: collapse; }
th, td { padding: .2em .7em; border-bottom: 1px solid #bbb; text-align: left; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; background: #f0f0f0; padding: 0 .2em; }
.notes { display: none; font-size: .68em; background: #f5f1e4; border-left: 6px solid #8a6d1b; padding: .6em 1em; margin-top: 1em; }
.notes :last-child, .text :last-child { margin-bottom: 0; }
.with-notes .notes { display: block; }
.place { position: absolute; right: 5vw; bottom: 1.5vh; margin: 0; font-size: .55em; color: #555; }
nav { position: fixed; left: 0; right: 0; bottom: 0; padding: .6vh 5vw; background: #fff; display: none; }
nav button { font: inherit; font-size: .5em; padding: .3em .9em; border: 1px solid #666; border-radius: 4px; background: #fff }
.one-by-one nav { display: block; }
.one-by-one section { display: none; border: 0; }
.one-by-one .place { position: fixed; z-index: 1; }
.one-by-one section.now { display: flex; height: 100vh; overflow: auto; }
@media (max-width: 700px) {
  .body { flex-direction: column; }
  figure, .text { flex: 0 0 auto; width: 100%; }
  h1 { margin-top: 8vh; }
}
@media print {
  @page { size: 297mm 210mm; margin: 10mm; }
  body { font-size: 17px; }
  nav { display: none !important; }
  .one-by-one .place { position: static; }
  .one-by-one section, .one-by-one section.now, section { display: flex !important; height: auto; min-height: 0; overflow: visible; }
  section { break-after: page; border: 0 !important; padding: 0; }
  figure img { max-height: 105mm; }
  .tall figure img { max-height: 150mm; }
  h1 { margin-top: 20mm; }
  figcaption { display: none; }
  .notes { display: block; }
}
"""
SCRIPT = """
"use strict";
const slides = [...document.querySelectorAll("section")], body = document.body;
let now = 0;
function show(next, focus) {
  now = Math.max(0, Math.min(slides.length - 1, next));
  slides.forEach((slide, i) => slide.classList.toggle("now", i === now));
  history.replaceState(null, "", "#" + (now + 1));
  document.getElementById("back").disabled = now === 0;
  document.getElementById("on").disabled = now === slides.length - 1;
  if (focus) slides[now].focus({preventScroll: true});
}
function notes() {
  const open = body.classList.toggle("with-notes");
  document.getElementById("said").setAttribute("aria-expanded", open);
}
body.classList.add("one-by-one");
document.getElementById("back").onclick = () => show(now - 1);
document.getElementById("on").onclick = () => show(now + 1);
document.getElementById("said").onclick = notes;
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const onControl = event.target.closest("button, summary") !== null;
  const steps = {ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1};  // up and down scroll a tall slide
  if (event.key in steps) show(now + steps[event.key], true);
  else if (event.key === " " && !onControl) show(now + (event.shiftKey ? -1 : 1), true);
  else if (event.key === "Home") show(0, true);
  else if (event.key === "End") show(slides.length - 1, true);
  else if (event.key === "n" || event.key === "N") { notes(); return; }
  else return;
  event.preventDefault();
});
addEventListener("hashchange", () => show((parseInt(location.hash.slice(1), 10) || 1) - 1));
show((parseInt(location.hash.slice(1), 10) || 1) - 1);
"""
