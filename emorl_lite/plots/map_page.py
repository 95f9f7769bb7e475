"""The page of an exact map: one self-contained piece of HTML that answers for any weights, with no kernel and no network.

Without scripts (a notebook that is not trusted, GitHub, a printed page) it is a picture of one prompt, with its legend, its optimum and a
table of its largest regions. With scripts the reader chooses a prompt or the mean over all of them, moves a point by mouse, touch, keys or
sliders, and compares replies and their scores. The mean over all prompts is exact, too: the page lays the prompts' regions over one another
at the point, instead of keeping every cell of the overlay.

How large it gets: about 60 kB of page, the text and scores of each distinct reply once, and of a region some 60 to 100 bytes with two or
three corners (its outline), or 10 bytes a facet and corner beyond (its half-spaces). The 32 prompts of the tiny study, 592 regions, are
0.2 MB (figures/map.html), 1,000 regions with replies of 130 letters 0.4 MB, 10,000 of them 3.6 MB.
`prompts` chooses whose replies are in it. Of the others it keeps regions and scores alone, for the mean, unless
all regions are more than MEAN_REGIONS: then the mean is on a grid (three corners at most), and the page says so.
Shapes: n weights, d corners, k = d - 1, m vertices, K scored objectives.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emorl_lite.base.domains import Domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.files import write_via
from emorl_lite.base.paths import ASSETS
from emorl_lite.base.ranges import Within, check_index, checked, shown
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.wording import counted, listing, number, span
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.map_drawing import COLORS, Drawing, clean, color, color_bar, diamond, label, points_text, star
from emorl_lite.readings.search import portion

UNIT = 1e6
"""Weights and knobs are kept as whole numbers of millionths."""
MEAN_REGIONS = 20_000
"""Regions of prompts whose replies are left out that a page still carries for the exact mean."""
MEAN_STEPS = 100
"""Of the grid that the mean is on beyond that."""
MARKS = 1000
"""Points of a front that are marked."""
SPELLED_OUT = 8
"""Regions in the table that needs no script."""
LONG = 240
"""Letters of a text that are shown before it is unfolded."""


def map_page(
    scored: ScoredMap,
    prompts: Sequence[int] | None = None,
    best: Sequence[float] | None = None,
    front: Any = None,
    utility: Mapping[str, float] | None = None,
) -> str:
    """A piece of HTML to show with IPython.display.HTML, as many as you like in one notebook; `save_map_page` writes a page of its own.

    `prompts` (from 0): those whose replies are in it, all by default. `best`: weights or knobs to star, such as the optimum's. `front`:
    weights or knobs [n, .], such as those of the Pareto front, to mark with diamonds in the mean's picture (the first MARKS of them).
    `utility`: what the optimum maximises, objective -> factor; a further way to colour.
    Raises UserError for an unknown prompt or objective, no prompts, and weights outside of the map's domain.
    """
    return _Page(scored, prompts, best, front, utility).piece(alone=False)


def page_title(domain: Domain) -> str:
    """What a map of this domain shows."""
    return f"Every {' and '.join(domain.knobs) or 'weight'} of {', '.join(domain.corners)}"


def save_map_page(
    path: str | Path,
    scored: ScoredMap,
    prompts: Sequence[int] | None = None,
    best: Sequence[float] | None = None,
    title: str = "Map of weights",
    front: Any = None,
    utility: Mapping[str, float] | None = None,
) -> Path:
    """Write `map_page` as an HTML file of its own, with language, encoding and title. Returns its path.

    Raises UserError as `map_page` does, or for a path that cannot be written.
    """
    parts = {"@TITLE": html.escape(clean(title)), "@PAGE": _Page(scored, prompts, best, front, utility).piece(alone=True)}
    page = _filled(_asset("document.html"), parts)
    path = Path(path)
    write_via(path, lambda file: file.write_text(page, encoding="utf-8", newline="\n"))
    return path


class _Page:
    """What a page is made of."""

    def __init__(self, scored: ScoredMap, prompts: Sequence[int] | None, best: Any, front: Any, utility: Mapping[str, float] | None):
        exact = scored.map
        self.scored, self.exact = scored, exact
        self.domain: Domain = exact.domain
        self.drawing = Drawing.of(self.domain)
        if isinstance(prompts, str):
            raise UserError(f"map page, prompts: expected numbers from 0, got {shown(prompts)}")
        count = len(exact.prompts)
        self.chosen = list(range(count)) if prompts is None else [check_index(prompt, count, "prompt") for prompt in prompts]
        if not self.chosen:
            raise UserError("map page: no prompts")
        self.best = None if best is None else self.domain.on_plane(best)[0]
        self.front = None if front is None or not len(front) else self.domain.on_plane(front)
        self.utility = None if utility is None else self._factors(utility)
        self.whole = len(self.chosen) == count or len(exact.regions) <= MEAN_REGIONS
        self.first = self.chosen[0]

    def _factors(self, utility: Mapping[str, float]) -> list[float]:
        unknown = [name for name in utility if name not in self.scored.names]
        if unknown:
            raise UserError(f"utility: objective {unknown[0]!r} is unknown; expected {', '.join(self.scored.names)}")
        for name, value in utility.items():
            checked(value, float, [Within(-1e9, 1e9)], f"utility of {name} {shown(value)}")
        return [float(utility.get(name, 0.0)) for name in self.scored.names]

    def piece(self, alone: bool) -> str:
        """The HTML. `alone`: in a file of its own, with headings and a drawing in line; a notebook's cleaner may drop both."""
        count, prompt = len(self.exact.prompts), self.exact.prompts[self.first]
        again = ", sample 1" if self.exact.samples > 1 else ""
        facts = json.dumps(self.facts(), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")  # no text may end the script
        parts = {
            "@STYLE": _asset("page.css"),
            "@SCRIPT": _asset("page.js"),
            "@FACTS": facts,
            "@WHAT": as_html(self._what()),
            "@PROMPT": f"<b>Prompt {self.first + 1}{again}:</b> <span dir='auto'>{_folded(prompt)}</span>",
            "@FIRST": f"This view needs no script: it is the first of {counted(count, 'prompt')}." if count > 1 else "",
            "@PICTURE": self._picture(alone),
            "@LEGEND": self._legend(),
            "@REPLIES": _heading("The largest regions and their replies", alone),
            "@COMPARE": _heading("At this point", alone),
            "@TABLE": self._table(),
        }
        return _filled(_asset("page.html"), parts)

    def _what(self) -> str:
        corners = listing([clean(name) for name in self.domain.corners])
        knobs = listing([clean(name) for name in self.domain.knobs]) if self.domain.knobs else ""
        over = f"{corners} together reply at every {knobs}" if knobs else f"every mixture of {corners} replies"
        drawn = self.drawing.kind != "table"
        shape = "region of the picture" if drawn else f"convex set of weights ({len(self.domain.corners)} corners have no picture)"
        return f"What {over}, exactly: each {shape} is one reply."

    # -- the view without scripts

    def _row(self) -> np.ndarray:
        """The regions of the first prompt (and sample), the largest first."""
        indices = self.exact.indices[self.first * self.exact.samples]
        return indices[np.argsort([-self.exact.regions[i].piece.measure for i in indices], kind="stable")]

    def _told(self) -> list[int]:
        """Of these the regions that are numbered and spelled out: the largest, and the best."""
        order = self._row().tolist()
        top = max(order, key=lambda i: self.scored.mean[i])
        return order[:SPELLED_OUT] if top in order[:SPELLED_OUT] else [*order[: SPELLED_OUT - 1], top]

    def _picture(self, alone: bool) -> str:
        if self.drawing.kind == "table":
            return ""
        low, high = self._scale()
        shapes, numbers = [], []
        for i in self._row().tolist():
            piece, mean = self.exact.regions[i].piece, float(self.scored.mean[i])
            points = self.drawing.shape(piece.outline, mean, low, high)
            shapes.append(f"<polygon points='{points_text(points)}' fill='{color(mean, low, high)}' stroke='white' stroke-width='0.8'/>")
        for k, i in reversed(list(enumerate(self._told(), 1))):  # the largest last, on top
            piece = self.exact.regions[i].piece
            points = self.drawing.shape(piece.outline, float(self.scored.mean[i]), low, high)
            x, y = points.mean(0).tolist()
            numbers.append(label(x, y, str(k)))
        below = f"<g class='still'>{''.join(shapes)}</g>{self.drawing.frame(low, high)}<g class='still'>{''.join(numbers)}</g>"
        mark = "" if self.best is None else f"<g class='best'>{star(*self._place(self.best))}</g>"
        alt = html.escape(self._alt())
        box = f"viewBox='0 0 440 {self.drawing.height:.0f}' width='440' height='{self.drawing.height:.0f}'"
        svg = f"<svg xmlns='http://www.w3.org/2000/svg' {box} font-family='sans-serif' role='img' aria-label='{alt}'>"
        if alone:
            return f"{svg}{below}{mark}</svg>"
        paper = f"<rect width='440' height='{self.drawing.height:.0f}' fill='white'/>"  # as an image it does not know the page's colours
        image = base64.b64encode(f"{svg}{paper}{below}{mark}</svg>".encode()).decode()
        frame = html.escape(f"{svg}{self.drawing.frame(low, high)}{mark}</svg>")
        return f'<img alt="{alt}" data-frame="{frame}" src="data:image/svg+xml;base64,{image}">'

    def _place(self, w: np.ndarray) -> tuple[float, float]:
        x, y = self.drawing.pixels(w[None])[0].tolist()
        return (x, 12.0) if self.drawing.kind == "line" else (x, y)

    def _scale(self) -> tuple[float, float]:
        return float(self.scored.mean.min()), float(self.scored.mean.max())

    def _alt(self) -> str:
        regions = self._row()
        means = self.scored.mean[regions]
        what = " and ".join(clean(name) for name in self.domain.knobs) or f"the weights of {listing(list(map(clean, self.domain.corners)))}"
        where = " A star marks the optimum." if self.best is not None else ""
        scores = f"coloured by the mean score of the reply, {span(float(means.min()), float(means.max()))}"
        if len(regions) == 1:
            return f"A picture of {what} in one colour: prompt {self.first + 1} gets one reply everywhere.{where}"
        parts = f"cut into {counted(len(regions), 'region')}, one a reply"
        return f"A picture of {what} for prompt {self.first + 1}, {parts}, {scores}. The table spells out those numbered.{where}"

    def _legend(self) -> str:
        if self.drawing.kind == "table":
            return ""
        low, high = self._scale()
        marks = [f"<span class='whole'>{_mark(star(9, 9, 8))} {self._optimum()}</span>"] if self.best is not None else []
        diamonds = f"<span class='whole front' hidden>{_mark(diamond(9, 9))} Pareto front</span>" if self.front is not None else ""
        scale = f"<span class='low'>{number(low)}</span> {color_bar()} <span class='high'>{number(high)}</span>"
        return f"<span class='what'>mean score of the reply</span>: <span class='whole'>{scale}</span> {' '.join(marks)} {diamonds}"

    def _optimum(self) -> str:
        if self.utility is None:
            return "the optimum"
        parts = [f"{u:g} × {clean(name)}" for u, name in zip(self.utility, self.scored.names, strict=True) if u]
        return f"the optimum of {as_html(' + '.join(parts) or 'nothing')}"

    def _table(self) -> str:
        names = [f"<th scope='col' class='each' dir='auto'>{as_html(clean(name))}</th>" for name in self.scored.names]
        first, last = ("".join(f"<th scope='col'>{name}</th>" for name in part) for part in (("no.", "share", "mean"), ("reply",)))
        lines = []
        for k, i in enumerate(self._told(), 1):
            region = self.exact.regions[i]
            cells = "".join(f"<td class='each'>{number(float(score))}</td>" for score in self.scored.scores[i])
            mean, share = number(float(self.scored.mean[i])), portion(region.piece.measure)
            lines.append(
                f"<tr><td>{k}</td><td class='share'>{share}</td><td>{mean}</td>{cells}<td dir='auto'>{_folded(region.reply)}</td></tr>"
            )
        left = len(self._row()) - len(lines)
        more = f"<p>… and {counted(left, 'smaller region')}.</p>" if left else ""
        unit = "settings" if self.domain.knobs else "weights"
        caption = f"<caption>Prompt {self.first + 1}: share of all {unit}, scores and reply of each region.</caption>"
        head = f"<thead><tr>{first}{''.join(names)}{last}</tr></thead>"
        return f"<table>{caption}{head}<tbody>{''.join(lines)}</tbody></table>{more}"

    # -- what the script is given

    def facts(self) -> dict[str, Any]:
        """Everything that the script knows; what a field means stands beside it."""
        domain, scored = self.domain, self.scored
        knobs = domain.piece.vertices[:, 1:]
        vertices = domain.piece.outline if self.drawing.kind != "table" else domain.piece.vertices
        return {
            "kind": self.drawing.kind,
            "corners": [clean(name) for name in domain.corners],
            "knobs": [clean(name) for name in domain.knobs],
            "names": [clean(name) for name in scored.names],
            "directions": domain.directions,  # sliders keep the sum of the weights at one
            "places": self.drawing.places.round(3).tolist(),  # pixels of each corner
            "height": round(self.drawing.height),
            "vertices": _knobs(vertices),  # of the domain, in order around it where it is drawn
            "facets": _facets(domain.piece.facets),
            "low": knobs.min(0).tolist(),
            "high": knobs.max(0).tolist(),
            "samples": self.exact.samples,
            "prompts": [self._prompt(i) for i in self._carried()],
            "total": len(self.exact.prompts),
            "scale": [_ends(values) for values in [scored.mean, *scored.scores.T]],
            "utility": self.utility,
            "best": None if self.best is None else _knobs(self.best[None])[0],
            "front": None if self.front is None else _knobs(self.front[:MARKS]),
            "marks": 0 if self.front is None else len(self.front),  # of which the first MARKS are in `front`
            "grid": None if self.whole else self._grid(),
            "colors": COLORS,
            "unit": UNIT,
        }

    def _carried(self) -> list[int]:
        """The chosen prompts, then the others where their regions are wanted for the mean."""
        others = [i for i in range(len(self.exact.prompts)) if i not in set(self.chosen)]
        return self.chosen + (others if self.whole else [])

    def _prompt(self, prompt: int) -> dict[str, Any]:
        """n: its number; text and answers (reply, scores), null where it was not chosen; a row of regions per sample."""
        known = prompt in set(self.chosen)
        samples = self.exact.samples
        answers: dict[tuple[Any, ...], int] = {}
        rows = []
        for row in range(prompt * samples, (prompt + 1) * samples):
            own = []
            for i in self.exact.indices[row].tolist():
                scores = tuple(_short(score) for score in self.scored.scores[i])
                own.append(answers.setdefault((clean(self.exact.regions[i].reply) if known else None, *scores), len(answers)))
            rows.append(self._regions(row, own))
        listed = [[reply, list(scores)] for reply, *scores in answers]
        return {"n": prompt + 1, "text": clean(self.exact.prompts[prompt]) if known else None, "answers": listed, "rows": rows}

    def _regions(self, row: int, answers: list[int]) -> dict[str, Any]:
        """Regions side by side: a answers, m shares, p shared points (or facets), o their outlines by number, c points inside (d > 3)."""
        pieces = [region.piece for region in self.exact.of(row)]
        found: dict[str, Any] = {"a": answers, "m": [float(f"{piece.measure:.4g}") for piece in pieces]}
        table = _Table()
        if self.drawing.kind != "table":
            found["o"] = [[table.add(tuple(point)) for point in _knobs(piece.outline)] for piece in pieces]
        else:  # a facet between two regions is kept once; ~i is its other side
            found["o"] = [[table.side(tuple(facet)) for facet in _facets(piece.facets[~piece.own])] for piece in pieces]
            found["c"] = [_knobs(piece.vertices.mean(0)[None])[0] for piece in pieces]
        return found | {"p": [list(entry) for entry in table.entries]}

    def _grid(self) -> dict[str, Any] | None:
        """The mean scores on a grid of the domain: knobs [n][k], scores [n][K]; None beyond three corners."""
        if self.drawing.kind == "table":
            return None
        w = self.domain.grid(MEAN_STEPS)
        w = w[(self.exact.locate(w) >= 0).all(1)]
        scores = self.scored.mean_scores(self.exact.locate(w))
        return {"steps": MEAN_STEPS, "points": _knobs(w), "scores": [[_short(score) for score in line] for line in scores]}


class _Table:
    """Distinct entries by number."""

    def __init__(self) -> None:
        self.entries: dict[tuple[float, ...], int] = {}

    def add(self, entry: tuple[float, ...]) -> int:
        return self.entries.setdefault(entry, len(self.entries))

    def side(self, entry: tuple[float, ...]) -> int:
        """The number of a half-space i, or ~i where its other side is there."""
        other = tuple(-x + 0.0 for x in entry)
        return ~self.entries[other] if other in self.entries else self.add(entry)


def _knobs(w: np.ndarray) -> list[list[int]]:
    """The last k weights [n, k], which say the first, in millionths."""
    return np.rint(w[:, 1:] * UNIT).astype(np.int64).tolist()


def _facets(facets: np.ndarray) -> list[list[float]]:
    """Half-spaces n.w >= 0 as c_0 + c.t >= 0 in the last k weights t; the value is a distance."""
    own = np.hstack([facets[:, :1], facets[:, 1:] - facets[:, :1]])
    return [[float(f"{x:.6g}") + 0.0 for x in line] for line in own]


def _short(score: float) -> float:
    return round(float(score), 4) + 0.0


def _ends(values: np.ndarray) -> list[float]:
    return [_short(values.min()), _short(values.max())]


def _folded(text: str) -> str:
    """A text as HTML; of a long one the beginning, with all of it to unfold."""
    text = clean(text)
    if len(text) <= LONG:
        return as_html(text)
    return f"<details><summary>{as_html(text[:LONG])}…</summary>{as_html(text)}</details>"


def _heading(text: str, alone: bool) -> str:
    return f"<h2>{text}</h2>" if alone else f"<p class='heading' role='heading' aria-level='3'><b>{text}</b></p>"


def _mark(shape: str) -> str:
    return f"<svg viewBox='0 0 18 18' width='18' height='18' aria-hidden='true'>{shape}</svg>"


def _asset(name: str) -> str:
    return (ASSETS / "map_page" / name).read_text(encoding="utf-8").rstrip("\n")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Every place filled in one pass: a text may hold the name of a place."""
    return re.sub("|".join(parts), lambda place: parts[place[0]], template)
