"""The map explorer: any weights answered by look-up, with the reply, its scores and its region.

`explore` does the work and needs no notebook. `map_explorer` wraps it in sliders. `map_page.py` has the page that needs no kernel.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import check_index
from emorl_lite.base.shown_text import as_html
from emorl_lite.base.weights import weight_rows
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.maps import mean_scale
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
    """Look up one prompt (from 0) at weights in the order of the map's corners (of any size on a simplex), or at its knobs' values.

    Raises UserError for weights outside of the map's domain, an unknown prompt or sample, or a hole of the map.
    """
    exact = scored.map
    prompt, sample = check_index(prompt, len(exact.prompts), "prompt"), check_index(sample, exact.samples, "sample")
    region = int(exact.locate(weights)[0, prompt * exact.samples + sample])
    if region < 0:
        raise UserError("the map has no reply at these weights: it has a hole")
    w = exact.domain.on_plane(weights)[0]
    piece = exact.regions[region].piece
    return MapPoint(
        exact.prompts[prompt],
        dict(zip(exact.corners, w.tolist(), strict=True)),
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
    return _svg("".join(shapes) + chosen + marker, scored.map.corners)


def map_explorer(scored: ScoredMap, prompt: int = 0, weights: Sequence[float] | None = None) -> ipywidgets.Widget:
    """A choice of clients, a field and a slider per objective (only their proportions count), the triangle, and what the map says there."""
    objectives = scored.map.corners
    if scored.map.domain.knobs:
        raise UserError(f"map explorer: its sliders are weights, and this map is one of {scored.map.domain}; map_page turns any knobs")
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


def _check_three_objectives(scored: ScoredMap) -> None:
    if len(scored.map.corners) != 3 or scored.map.domain.knobs:
        domain = scored.map.domain
        raise UserError(f"map explorer: drawn for 3 objectives, got {domain if domain.knobs else len(domain.corners)}")


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
