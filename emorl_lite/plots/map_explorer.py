"""The map explorer: any weights of the simplex answered by look-up, with the reply, its scores and its region.

`explore` does the work and needs no notebook. `map_explorer` wraps it in sliders; `map_page` is a page that answers clicks on the triangle
in the browser, without a kernel.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import write_via
from emorl_lite.base.ranges import check_index
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.weights import weight_rows
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.maps import mean_scale, prompt_map, prompt_map_alt
from emorl_lite.plots.search import project
from emorl_lite.plots.style import figure_bytes
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
            picture.value = map_svg(scored, prompt_index) if len(objectives) == 3 else ""  # no mark where there is no reply

    for control in (choice, *sliders):
        control.observe(refresh, names="value")
    refresh()
    return ipywidgets.VBox([choice, *(control.row for control in controls.values()), ipywidgets.HBox([picture, output])])


def map_page(scored: ScoredMap, prompts: Sequence[int] | None = None, best: Sequence[float] | None = None) -> str:
    """A piece of HTML: choose a client or the mean over all, click on the triangle or tab through its regions, read reply, scores, share.

    No kernel, no network. Where scripts are not run (a notebook that is not trusted, GitHub) it is `prompt_map` of the first client, with
    its largest regions' replies.
    `prompts` (from 0): which clients, all by default. `best`: weights to star, such as the optimum's. Greedy maps of three objectives. Show
    it with IPython.display.HTML; `save_map_page` writes it as a page of its own.
    """
    _check_three_objectives(scored)
    count = len(scored.map.prompts)
    chosen = list(range(count)) if prompts is None else [check_index(prompt, count, "prompt") for prompt in prompts]
    first = chosen[0] if chosen else 0
    star = None if best is None else weight_rows(best, 3)[0]
    drawing: dict[str, Any] = {"edge": EDGE, "size": SIZE, "objectives": scored.map.objectives, "names": scored.names}
    drawing["maps"] = [{"client": f"{i + 1}. {scored.map.prompts[i]}", "regions": _facts(scored, i)} for i in chosen]
    drawing["mean"] = _mean_grid(scored)
    marks = "" if star is None else _star(star)
    here = "<circle class='here' r='6' fill='none' stroke='#d00000' stroke-width='3' visibility='hidden'/>"
    inside = f"<g class='regions'></g>{marks}{here}{_color_bar(scored, star is not None)}"
    drawing["frame"] = _svg(inside, scored.map.objectives, LEGEND)
    still = prompt_map(scored, first * scored.map.samples)
    facts = json.dumps(drawing, ensure_ascii=False).replace("<", "\\u003c")  # no text may end the script
    parts = {
        "@FACTS": facts,
        "@CLIENT": html.escape(f"Client {first + 1}: {scored.map.prompts[first]}"),
        "@PICTURE": base64.b64encode(figure_bytes(still, "png")).decode(),
        "@ALT": html.escape(prompt_map_alt(scored, first * scored.map.samples)),
    }
    return re.sub("|".join(parts), lambda place: parts[place[0]], PAGE)  # in one pass: a text may hold these words


def save_map_page(
    path: str | Path,
    scored: ScoredMap,
    prompts: Sequence[int] | None = None,
    best: Sequence[float] | None = None,
    title: str = "Map of weights",
) -> Path:
    """Write `map_page` as an HTML file of its own, with language, encoding and title. Returns its path.

    Raises UserError as `map_page` does, or for a path that cannot be written.
    """
    page = DOCUMENT.replace("@TITLE", html.escape(title)).replace("@PAGE", map_page(scored, prompts, best))
    path = Path(path)
    write_via(path, lambda file: file.write_text(page, encoding="utf-8"))
    return path


DOCUMENT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE</title><style>:root { color-scheme: light dark; } body { margin: 1.5em; }</style></head>
<body><main><h1>@TITLE</h1>@PAGE</main></body></html>
"""

PAGE = """<div class="emorl-map" style="font-family:sans-serif;max-width:660px">
<style>.emorl-map text { fill: currentColor; } .emorl-map polygon { cursor: pointer; }
.emorl-map polygon:focus { outline: none; stroke: #d00000; stroke-width: 3; }</style>
<div class="choice" hidden><label>client <select style="max-width:480px"></select></label></div>
<div class="answer" aria-live="polite" style="min-height:9em">@CLIENT<br>Each region of the triangle is one reply;
the largest are spelled out. Where scripts are run, a click tells any of them.</div>
<img class="still" style="max-width:100%" alt="@ALT" src="data:image/png;base64,@PICTURE">
<div class="map"></div>
<script>(function () {
  const root = document.currentScript.parentElement, facts = @FACTS;
  root.querySelector(".still").remove();
  root.querySelector(".map").innerHTML = facts.frame;
  const select = root.querySelector("select"), group = root.querySelector(".regions");
  const here = root.querySelector(".here"), answer = root.querySelector(".answer"), svg = root.querySelector("svg");
  const space = "http://www.w3.org/2000/svg", ask = "Click on the triangle, or go through its regions with the tab key.";
  const add = (parent, tag, text) => { const e = document.createElement(tag); e.textContent = text; parent.appendChild(e); return e; };
  root.querySelector(".choice").hidden = false;
  facts.maps.forEach((m, i) => { add(select, "option", m.client).value = i; });
  add(select, "option", "mean over all " + facts.mean.clients + " clients").value = "mean";
  function weightsAt(event) {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const third = 1 - (y - facts.edge) / (facts.size * Math.sqrt(3) / 2), second = (x - facts.edge) / facts.size - third / 2;
    return [1 - second - third, second, third];
  }
  function mark(w) {
    here.setAttribute("cx", facts.edge + facts.size * (w[1] + w[2] / 2));
    here.setAttribute("cy", facts.edge + facts.size * Math.sqrt(3) / 2 * (1 - w[2]));
    here.setAttribute("visibility", "visible");
    answer.textContent = "";
    add(answer, "div", "Weights: " + facts.objectives.map((name, k) => name + " " + w[k].toFixed(3)).join(", "));
  }
  function tell(shape, region, w) {
    mark(w);
    group.querySelectorAll("polygon").forEach((p) => { p.setAttribute("stroke", "white"); p.setAttribute("stroke-width", 1); });
    shape.setAttribute("stroke", "#d00000");
    shape.setAttribute("stroke-width", 3);
    add(answer, "p", "Reply: " + region.r).style.fontWeight = "bold";
    add(answer, "div", facts.names.map((name, k) => name + " " + region.s[k].toFixed(3)).join(", "));
    add(answer, "div", region.m + " of all weights give this reply.");
  }
  function tellMean(event) {
    const w = weightsAt(event), n = facts.mean.steps, row = Math.round(w[2] * n), column = Math.round(w[1] * n);
    if (Math.min(...w) < 0) return;
    mark(w);
    const place = row * (n + 1) - row * (row - 1) / 2 + Math.min(column, n - row);  // row after row, each shorter by one
    const level = facts.mean.codes.charCodeAt(place) - 35, share = level / 88;
    add(answer, "p", "Mean score over all clients: " + (facts.mean.low + share * (facts.mean.high - facts.mean.low)).toFixed(2)
      + " (at the nearest point of a grid with " + n + " steps)").style.fontWeight = "bold";
  }
  function draw() {
    group.textContent = "";
    here.setAttribute("visibility", "hidden");
    answer.textContent = "";
    if (select.value === "mean") {
      answer.textContent = "The mean score over all clients. Click on the triangle.";
      const picture = document.createElementNS(space, "image");
      for (const [key, value] of Object.entries({ href: facts.mean.png, x: facts.edge, y: facts.edge, width: facts.size,
        height: facts.size * Math.sqrt(3) / 2, preserveAspectRatio: "none" })) picture.setAttribute(key, value);
      picture.addEventListener("click", tellMean);
      group.appendChild(picture);
      return;
    }
    const chosen = facts.maps[select.value];
    add(answer, "div", "Client " + chosen.client);
    add(answer, "p", ask);
    for (const region of chosen.regions) {
      const shape = document.createElementNS(space, "polygon");
      for (const [key, value] of Object.entries({ points: region.p, fill: region.c, stroke: "white", tabindex: 0, role: "button",
        "aria-label": region.m + " of all weights: " + region.r })) shape.setAttribute(key, value);
      shape.addEventListener("click", (event) => tell(shape, region, weightsAt(event)));
      shape.addEventListener("focus", () => { if (shape.matches(":focus-visible")) tell(shape, region, region.d); });
      group.appendChild(shape);
    }
  }
  select.addEventListener("change", draw);
  draw();
})();</script></div>"""

LEGEND = 46
"""Pixels below the triangle for the colour bar."""
MEAN_STEPS = 120
"""Of the grid that the mean over all clients is shown on."""


def _facts(scored: ScoredMap, prompt: int) -> list[dict[str, Any]]:
    """Of each region of a prompt, the largest first: p polygon, c colour, r reply, s scores, m share in words, d its deepest weights."""
    regions = []
    for index, points, color in _region_polygons(scored, prompt * scored.map.samples):
        region = scored.map.regions[index]
        scores = [round(float(s), 3) for s in scored.scores[index]]
        deepest = [round(float(w), 5) for w in region.piece.deepest[0]]
        regions.append({"p": points, "c": color, "r": region.reply, "s": scores, "m": portion(region.piece.measure), "d": deepest})
    return regions


def _mean_grid(scored: ScoredMap) -> dict[str, Any]:
    """The mean over all prompts on a grid of the triangle: as a picture, and as one letter a point between low and high.

    Points are listed by the third weight, then by the second.
    """
    n = MEAN_STEPS
    places = np.array([(j, i) for i in range(n + 1) for j in range(n + 1 - i)])
    w = np.stack([n - places.sum(1), places[:, 0], places[:, 1]], 1) / n
    means = scored.mean_scores(np.clip(scored.map.locate(w), 0, None)).mean(1)
    low, high = float(means.min()), float(means.max())
    codes = np.rint(88 * (means - low) / max(high - low, 1e-12)).astype(int)
    return {
        "clients": len(scored.map.prompts) * scored.map.samples,
        "steps": n,
        "low": low,
        "high": high,
        "codes": "".join(chr(35 + code) for code in codes.tolist()),
        "png": _mean_picture(scored),
    }


def _mean_picture(scored: ScoredMap) -> str:
    """The same as a PNG in a data address, transparent outside the triangle."""
    width, height = SIZE // 2, round(SIZE * np.sqrt(3) / 4)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    third = 1 - y.ravel()
    second = x.ravel() - third / 2
    w = np.stack([1 - second - third, second, third], 1)
    inside = w.min(1) >= 0
    means = scored.mean_scores(np.clip(scored.map.locate(w[inside]), 0, None)).mean(1)
    pixels = np.zeros((len(w), 4), dtype=np.uint8)
    pixels[inside] = (255 * colormaps["cividis"](mean_scale(scored)(means))).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels.reshape(height, width, 4)).quantize(64).save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _star(w: np.ndarray) -> str:
    """The star of the best weights [3]."""
    [[x, y]] = _pixels((w / w.sum())[None])
    return f"<g pointer-events='none'>{_star_at(x, y)}<title>the optimum</title></g>"


def _star_at(x: float, y: float, size: float = 11) -> str:
    angles = np.pi * np.arange(10) / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 0.45, 1) * size
    points = " ".join(f"{x + r * np.cos(a):.1f},{y + r * np.sin(a):.1f}" for r, a in zip(radius, angles, strict=True))
    return f"<polygon class='star' points='{points}' fill='white' stroke='#d00000' stroke-width='2'/>"


def _color_bar(scored: ScoredMap, starred: bool) -> str:
    """The colours of mean scores with their ends, and what the star is."""
    top = EDGE + SIZE * np.sqrt(3) / 2 + 44
    scale, stops = mean_scale(scored), np.linspace(0, 1, 9)
    gradient = "".join(f"<stop offset='{x:.3f}' stop-color='{to_hex(colormaps['cividis'](x))}'/>" for x in stops)
    low, high = (f"{float(x or 0):.2f}" for x in (scale.vmin, scale.vmax))
    star = (
        f"{_star_at(EDGE + 330, top + 6, 9)}<text x='{EDGE + 344}' y='{top + 11:.0f}' font-size='13'>the optimum</text>" if starred else ""
    )
    return (
        f"<defs><linearGradient id='emorl-means'>{gradient}</linearGradient></defs>"
        f"<text x='{EDGE}' y='{top + 11:.0f}' font-size='13'>mean score {low}</text>"
        f"<rect x='{EDGE + 108}' y='{top:.0f}' width='150' height='13' fill='url(#emorl-means)'/>"
        f"<text x='{EDGE + 264}' y='{top + 11:.0f}' font-size='13'>{high}</text>{star}"
    )


def _check_three_objectives(scored: ScoredMap) -> None:
    if len(scored.map.objectives) != 3:
        raise UserError(f"map explorer: drawn for 3 objectives, got {len(scored.map.objectives)}")


def _region_polygons(scored: ScoredMap, row: int) -> list[tuple[int, str, str]]:
    """(index, SVG points, colour) of each region of a row, the largest first. Colours span the whole map's mean scores."""
    norm, cmap = mean_scale(scored), colormaps["cividis"]
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


def _svg(inside: str, objectives: Sequence[str], below: int = 0) -> str:
    """A picture of the triangle with its corners named; `below`: room under it, in pixels. Texts take the colour of the page."""
    height = SIZE * np.sqrt(3) / 2
    corners = [(EDGE, EDGE + height + 24, "start"), (EDGE + SIZE, EDGE + height + 24, "end"), (EDGE + SIZE / 2, EDGE - 12, "middle")]
    labels = "".join(
        f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}' font-size='14' fill='currentColor'>only {html.escape(name)}</text>"
        for (x, y, anchor), name in zip(corners, objectives, strict=True)
    )
    size: Any = (SIZE + 2 * EDGE, int(height + 2 * EDGE) + below)
    alt = html.escape(f"Triangle of the weights of {', '.join(objectives)}, cut into one region per reply")
    paper = "max-width:100%;background:#fff;color:#000"  # its own: on a dark page black letters would be lost
    return (
        f"<svg viewBox='0 0 {size[0]} {size[1]}' width='{size[0]}' style='{paper}' role='group' aria-label='{alt}'>{inside}{labels}</svg>"
    )
