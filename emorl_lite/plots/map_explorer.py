"""The map explorer: any weights of the simplex answered by look-up, with the reply, its scores and its region.

`explore` does the work and needs no notebook. `map_explorer` wraps it in sliders; `map_page` is a page that answers clicks on the triangle
in the browser, without a kernel.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize, to_hex

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import check_index
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.weights import weight_rows
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.search import project
from emorl_lite.plots.weight_explorer import score_bars, weight_controls
from emorl_lite.readings.search import portion

SIZE, EDGE = 420, 40
"""Width of the drawn triangle and the space around it, in pixels."""


@dataclass(frozen=True)
class MapPoint:
    """What a map says about one prompt at some weights."""

    prompt: str
    weights: dict[str, float]
    """They sum to 1."""
    reply: str
    scores: dict[str, float]
    region: int
    """Its index in the map's regions."""
    share: float
    """How much of the simplex gives this reply."""
    margin: float
    """The weights can move at least this far in any direction before the reply changes; infinite if it never does."""

    def html(self) -> str:
        """The same as HTML, everything escaped."""
        weights = ", ".join(f"{name} {w:.3f}" for name, w in self.weights.items())
        region_text = (
            f"{portion(self.share)} of the simplex gives this reply; it stays for at least {self.margin:.2g} in any direction"
            if np.isfinite(self.margin)
            else ("every weight vector gives this reply")
        )
        return (
            f"<p><b>Client:</b> {as_html(self.prompt)}</p><p><b>Reply:</b> {as_html(self.reply)}</p>"
            f"<table>{score_bars(self.scores)}</table><p>{as_html(weights)}<br>{region_text}</p>"
        )


def explore(scored: ScoredMap, prompt: int, weights: Sequence[float], sample: int = 0) -> MapPoint:
    """Look up one prompt (from 0) at weights of any size, in the order of the map's objectives.

    Raises UserError for weights that are not finite, negative or all zero, an unknown prompt or sample, or a hole of the map.
    """
    exact = scored.map
    prompt, sample = check_index(prompt, len(exact.prompts), "prompt"), check_index(sample, exact.samples, "sample")
    region = int(exact.locate(weights)[0, prompt * exact.samples + sample])
    if region < 0:
        raise UserError("the map has no reply at these weights: it has a hole")
    w = np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    piece = exact.regions[region].piece
    return MapPoint(
        exact.prompts[prompt],
        dict(zip(exact.objectives, w.tolist(), strict=True)),
        exact.regions[region].reply,
        dict(zip(scored.names, scored.scores[region].tolist(), strict=True)),
        region,
        piece.measure,
        piece.margin(w),
    )


def map_svg(scored: ScoredMap, prompt: int, weights: Sequence[float] | None = None, sample: int = 0) -> str:
    """The regions of one prompt as an SVG picture; each names its reply when pointed at. The region at `weights` is outlined."""
    _check_three_objectives(scored)
    point = None if weights is None else explore(scored, prompt, weights, sample)
    shapes, chosen = [], ""
    for index, points, color in _region_polygons(scored, prompt * scored.map.samples + sample):
        shape = f"<polygon points='{points}' fill='{color}' stroke='white' stroke-width='1'>"
        title = f"<title>{html.escape(scored.map.regions[index].reply)}</title>"
        shapes.append(f"{shape}{title}</polygon>")
        if point is not None and index == point.region:
            chosen = f"<polygon points='{points}' fill='none' stroke='#d00000' stroke-width='3'/>"
    marker = ""
    if point is not None:
        [[x, y]] = _pixels(np.array([list(point.weights.values())]))
        marker = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='6' fill='white' stroke='#d00000' stroke-width='3'/>"
    return _svg("".join(shapes) + chosen + marker, scored.map.objectives)


def map_explorer(scored: ScoredMap, prompt: int = 0, weights: Sequence[float] | None = None) -> ipywidgets.Widget:
    """A choice of clients, a field and a slider per objective (only their proportions count), the triangle, and what the map says there."""
    objectives = scored.map.objectives
    prompt = check_index(prompt, len(scored.map.prompts), "prompt")
    start = [1.0] * len(objectives) if weights is None else weight_rows(weights, len(objectives))[0].tolist()
    layout = ipywidgets.Layout(width="95%")
    numbered = {f"{i + 1}. {text}": i for i, text in enumerate(scored.map.prompts)}
    choice = ipywidgets.Dropdown(options=list(numbered), index=prompt, description="client", layout=layout)
    highest = max(start) or 1.0
    controls = weight_controls(objectives, [w / highest for w in start], "map explorer")
    sliders = [control.slider for control in controls.values()]
    for control in controls.values():
        control.slider.step = control.field.step = 0.01
        control.slider.continuous_update = True  # a look-up follows at once
    picture, output = ipywidgets.HTML(), ipywidgets.HTML()

    def refresh(_: object = None) -> None:
        prompt_index, w = numbered[choice.value], [slider.value for slider in sliders]
        try:
            output.value = explore(scored, prompt_index, w).html()
            picture.value = map_svg(scored, prompt_index, w) if len(objectives) == 3 else ""
        except UserError as error:
            output.value = f"<p>{as_html(error)}</p>"

    for control in (choice, *sliders):
        control.observe(refresh, names="value")
    refresh()
    return ipywidgets.VBox([choice, *(control.row for control in controls.values()), ipywidgets.HBox([picture, output])])


def map_page(scored: ScoredMap, prompts: Sequence[int] | None = None) -> str:
    """An HTML page in one piece: choose a client, click anywhere on the triangle, read reply, scores and share. No kernel, no network.

    `prompts` (from 0): which of them, all by default. Greedy maps of three objectives. Show it with IPython.display.HTML, or save it.
    """
    _check_three_objectives(scored)
    count = len(scored.map.prompts)
    chosen = list(range(count)) if prompts is None else [check_index(prompt, count, "prompt") for prompt in prompts]
    data = []
    for prompt in chosen:
        regions = []
        for index, points, color in _region_polygons(scored, prompt * scored.map.samples):
            region = scored.map.regions[index]
            scores = [round(float(s), 3) for s in scored.scores[index]]
            regions.append({"p": points, "c": color, "r": region.reply, "s": scores, "m": portion(region.piece.measure)})
        data.append({"client": f"{prompt + 1}. {scored.map.prompts[prompt]}", "regions": regions})
    drawing = {"edge": EDGE, "size": SIZE, "objectives": scored.map.objectives}
    data_json = json.dumps(drawing | {"names": scored.names, "maps": data}, ensure_ascii=False).replace(
        "<", "\\u003c"
    )  # no text may end the script
    frame = _svg("<g class='regions'></g><circle class='here' r='6' fill='none' stroke='#d00000' stroke-width='3'/>", scored.map.objectives)
    parts = {"@FRAME": frame, "@FACTS": data_json}
    return re.sub("@FRAME|@FACTS", lambda place: parts[place[0]], PAGE)  # in one pass: a text may hold these words


PAGE = """<div class="emorl-map" style="font-family:sans-serif;display:flex;flex-wrap:wrap;gap:1em">
<div><select aria-label="client" style="max-width:480px"></select><br>@FRAME</div>
<div class="answer" aria-live="polite" style="max-width:28em">Click on the triangle.</div>
<script>(function () {
  const root = document.currentScript.parentElement, facts = @FACTS;
  const select = root.querySelector("select"), group = root.querySelector(".regions");
  const here = root.querySelector(".here"), answer = root.querySelector(".answer"), svg = root.querySelector("svg");
  const add = (parent, tag, text) => { const e = document.createElement(tag); e.textContent = text; parent.appendChild(e); return e; };
  facts.maps.forEach((m, i) => { add(select, "option", m.client).value = i; });
  function tell(shape, region, event) {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const third = 1 - (y - facts.edge) / (facts.size * Math.sqrt(3) / 2), second = (x - facts.edge) / facts.size - third / 2;
    const weights = [1 - second - third, second, third];
    here.setAttribute("cx", x);
    here.setAttribute("cy", y);
    here.setAttribute("visibility", "visible");
    group.querySelectorAll("polygon").forEach((p) => { p.setAttribute("stroke", "white"); p.setAttribute("stroke-width", 1); });
    shape.setAttribute("stroke", "#d00000");
    shape.setAttribute("stroke-width", 3);
    group.appendChild(shape);
    answer.textContent = "";
    add(answer, "p", "Client " + facts.maps[select.value].client);
    add(answer, "p", "Weights: " + facts.objectives.map((name, k) => name + " " + weights[k].toFixed(3)).join(", "));
    add(answer, "p", "Reply: " + region.r).style.fontWeight = "bold";
    facts.names.forEach((name, k) => add(answer, "div", name + " " + region.s[k].toFixed(3)));
    add(answer, "p", region.m + " of all weights give this reply.");
  }
  function draw() {
    group.textContent = "";
    here.setAttribute("visibility", "hidden");
    answer.textContent = "Click on the triangle.";
    for (const region of facts.maps[select.value].regions) {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
      for (const [key, value] of [["points", region.p], ["fill", region.c], ["stroke", "white"]]) shape.setAttribute(key, value);
      shape.addEventListener("click", (event) => tell(shape, region, event));
      group.appendChild(shape);
    }
  }
  select.addEventListener("change", draw);
  draw();
})();</script></div>"""


def _check_three_objectives(scored: ScoredMap) -> None:
    if len(scored.map.objectives) != 3:
        raise UserError(f"map explorer: drawn for 3 objectives, got {len(scored.map.objectives)}")


def _region_polygons(scored: ScoredMap, row: int) -> list[tuple[int, str, str]]:
    """(index, SVG points, colour) of each region of a row, the largest first. Colours span the whole map's mean scores."""
    norm, cmap = Normalize(float(scored.mean.min()), float(scored.mean.max())), colormaps["cividis"]
    order = sorted(scored.map.indices[row].tolist(), key=lambda i: -scored.map.regions[i].piece.measure)
    regions = []
    for index in order:
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in _pixels(scored.map.regions[index].piece.outline))
        regions.append((index, points, to_hex(cmap(norm(scored.mean[index])))))
    return regions


def _pixels(w: np.ndarray) -> np.ndarray:
    """Weights [n, 3] as pixels [n, 2]: the first objective at the lower left, the second at the lower right, the third on top."""
    x, y = project(w)
    return np.stack([EDGE + SIZE * x, EDGE + SIZE * (np.sqrt(3) / 2 - y)], 1)


def _svg(inside: str, objectives: Sequence[str]) -> str:
    height = SIZE * np.sqrt(3) / 2
    corners = [(EDGE, EDGE + height + 24, "start"), (EDGE + SIZE, EDGE + height + 24, "end"), (EDGE + SIZE / 2, EDGE - 12, "middle")]
    labels = "".join(
        f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}' font-size='14'>only {html.escape(name)}</text>"
        for (x, y, anchor), name in zip(corners, objectives, strict=True)
    )
    size: Any = (SIZE + 2 * EDGE, int(height + 2 * EDGE))
    alt = html.escape(f"Triangle of the weights of {', '.join(objectives)}, cut into one region per reply")
    paper = "background:#fff;color:#000"  # its own: on a dark page black letters would be lost
    return f"<svg viewBox='0 0 {size[0]} {size[1]}' width='{size[0]}' style='{paper}' role='img' aria-label='{alt}'>{inside}{labels}</svg>"
