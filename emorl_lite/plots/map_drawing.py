"""Where a domain of weights is drawn: a triangle for the simplex of three corners, axes for one or two knobs; with its frame as SVG.

Everything is in attributes, nothing in a style sheet: the drawing stays where a page's styles and scripts are taken away. Shapes: n points,
d corners, m vertices.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from emorl_lite.base.domains import Domain

WIDTH, SIDE = 440, 22
"""Of a drawing, and the space left and right of a triangle, in pixels."""
AXIS = 54
"""Space for the ticks and the name of an axis."""
TALL = 300
"""Height of a drawing with axes."""
RED = "#d00000"
COLORS = [to_hex(colormaps["cividis"](x)) for x in np.linspace(0, 1, 33)]
"""The scale of colours, from low to high: told apart by readers who see red and green alike."""
NAME_LENGTH = 24
"""Letters of a corner's or knob's name that a drawing has room for."""


@dataclass(frozen=True)
class Drawing:
    """Places of weights in a picture. They are affine in the weights, so three numbers a corner and axis say all."""

    kind: str
    """ "triangle", "plane" (two knobs), "line" (one number), or "table": four corners and more have no picture."""
    domain: Domain
    places: np.ndarray
    """[d, 2]: pixels of each corner, which may lie outside the picture."""
    height: float

    @classmethod
    def of(cls, domain: Domain) -> Drawing:
        """The drawing of a domain."""
        d = len(domain.corners)
        if d > 3:
            return cls("table", domain, np.zeros((d, 2)), 0)
        if d == 3 and domain.directions:
            side, top = WIDTH - 2 * SIDE, 34
            low = top + side * np.sqrt(3) / 2
            return cls("triangle", domain, np.array([[SIDE, low], [SIDE + side, low], [WIDTH / 2, top]]), low + 34)
        knobs = domain.piece.vertices[:, 1:]
        low, high = knobs.min(0), knobs.max(0)
        corners = (np.vstack([np.zeros(d - 1), np.eye(d - 1)]) - low) / (high - low)  # of each corner, as shares of the ranges
        x = AXIS + (WIDTH - AXIS - SIDE) * corners[:, 0]
        if d == 2:
            return cls("line", domain, np.stack([x, np.full(2, TALL - AXIS)], 1), TALL)
        tall = WIDTH - 2 * SIDE
        return cls("plane", domain, np.stack([x, SIDE + (tall - AXIS - SIDE) * (1 - corners[:, 1])], 1), tall)

    def pixels(self, weights: np.ndarray) -> np.ndarray:
        """Weights [n, d] as places [n, 2]."""
        return weights @ self.places

    def heights(self, scores: np.ndarray, low: float, high: float) -> np.ndarray:
        """On a line the scores' places above the axis, [n]."""
        top, bottom = SIDE, TALL - AXIS
        return bottom - (0.06 + 0.88 * (scores - low) / max(high - low, 1e-12)) * (bottom - top)

    def shape(self, outline: np.ndarray, score: float, low: float, high: float) -> np.ndarray:
        """The polygon [m, 2] of a piece with this outline [m, d]: its own, or on a line a bar as high as its score."""
        points = self.pixels(outline)
        if self.kind != "line":
            return points
        left, right = points[[0, -1], 0]
        y, bottom = float(self.heights(np.array([score]), low, high)[0]), TALL - AXIS
        return np.array([[left, bottom], [right, bottom], [right, y], [left, y]])

    def frame(self, low: float, high: float) -> str:
        """What surrounds the regions: the border with its corners' names, or axes with ticks.

        `low`, `high`: the range of scores that a line's bars show.
        """
        if self.kind == "triangle":
            first, second, third = (html.escape(f"only {shortened(name)}") for name in self.domain.corners)
            low_y, top_y = self.places[0, 1], self.places[2, 1]
            texts = _text(0, low_y + 24, first, "start") + _text(WIDTH, low_y + 24, second, "end")
            border = f"<polygon points='{points_text(self.places)}' fill='none' stroke='currentColor'/>"
            return f"{texts}{_text(WIDTH / 2, top_y - 12, third, 'middle')}{border}"
        return self._axes(low, high)

    def _axes(self, low: float, high: float) -> str:
        knobs = self.domain.piece.vertices[:, 1:]
        bottom, names = self.height - AXIS, [html.escape(name) for name in self.axis_names()]
        parts = [f"<path d='M{AXIS},{SIDE / 2}V{bottom:.1f}H{WIDTH - SIDE / 2}' fill='none' stroke='currentColor'/>"]
        for t in ticks(knobs[:, 0].min(), knobs[:, 0].max()):
            x = float(self.places[0, 0] + t * (self.places[1, 0] - self.places[0, 0]))
            parts.append(f"<path d='M{x:.1f},{bottom:.1f}v5' stroke='currentColor'/>{_text(x, bottom + 19, f'{t:g}', 'middle', 13)}")
        parts.append(_text((AXIS + WIDTH - SIDE) / 2, self.height - 12, names[0], "middle"))
        if self.kind == "line":
            middle = np.array([low, (low + high) / 2, high])
            for k, y in enumerate(self.heights(middle, low, high)):
                tick = _text(AXIS - 8, y + 4, f"{middle[k] + 0.0:.2f}", "end", 13).replace("<text ", f"<text class='tick' data-k='{k}' ", 1)
                parts.append(f"<path d='M{AXIS},{y:.1f}h-5' stroke='currentColor'/>{tick}")
            return "".join(parts)
        for t in ticks(knobs[:, 1].min(), knobs[:, 1].max()):
            y = float(self.places[0, 1] + t * (self.places[2, 1] - self.places[0, 1]))
            parts.append(f"<path d='M{AXIS},{y:.1f}h-5' stroke='currentColor'/>{_text(AXIS - 8, y + 4, f'{t:g}', 'end', 13)}")
        turned = f"transform='rotate(-90 13 {bottom / 2:.0f})'"
        parts.append(_text(13, bottom / 2, names[1], "middle").replace("<text ", f"<text {turned} ", 1))
        return "".join(parts)

    def axis_names(self) -> list[str]:
        """Of each axis: its knob, or whose weight it is."""
        corners = [shortened(name) for name in self.domain.corners]
        if self.domain.knobs:
            return [shortened(name) for name in self.domain.knobs]
        rest = f" (that of {corners[0]} is the rest)" if len(corners) == 2 else ""
        return [f"weight of {name}{rest}" for name in corners[1:]]


def clean(text: str) -> str:
    """A text that every encoding and parser takes: half characters and control characters are shown as replaced."""
    return re.sub(r"[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", "\ufffd", str(text))


def shortened(name: str) -> str:
    """A name that fits beside a drawing."""
    name = clean(name)
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers within a range."""
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    step = next(step * m for m in (1, 2, 2.5, 5, 10) if (high - low) / (step * m) <= 6)
    first = np.ceil(low / step - 1e-9)
    return [float(round(step * k, 12)) + 0.0 for k in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def points_text(points: Iterable[Sequence[float]]) -> str:
    """Pixels as SVG writes them."""
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def star(x: float, y: float, size: float = 11) -> str:
    """A star around a place."""
    angles = np.pi * np.arange(10) / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 0.45, 1) * size
    points = points_text(np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1))
    return f"<polygon class='star' points='{points}' fill='white' stroke='{RED}' stroke-width='2'/>"


def diamond(x: float, y: float, size: float = 5) -> str:
    """A diamond around a place."""
    points = points_text([(x, y - size), (x + size, y), (x, y + size), (x - size, y)])
    return f"<polygon points='{points}' fill='white' stroke='black' stroke-width='1.2'/>"


def label(x: float, y: float, text: str) -> str:
    """A number on a white disc."""
    disc = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='9' fill='white' fill-opacity='0.9' stroke='black' stroke-width='0.8'/>"
    return disc + _text(x, y + 4.5, text, "middle", 12, "black")


def color_bar(width: int = 150, height: int = 14) -> str:
    """The scale of colours, without its numbers."""
    step = width / len(COLORS)
    bars = "".join(f"<rect x='{k * step:.2f}' width='{step + 0.5:.2f}' height='{height}' fill='{c}'/>" for k, c in enumerate(COLORS))
    return f"<svg viewBox='0 0 {width} {height}' width='{width}' height='{height}' aria-hidden='true'>{bars}</svg>"


def color(score: float, low: float, high: float) -> str:
    """The colour of a score."""
    share = (score - low) / max(high - low, 1e-12)
    return COLORS[round(min(max(share, 0.0), 1.0) * (len(COLORS) - 1))]


def _text(x: float, y: float, text: str, anchor: str, size: int = 15, fill: str = "currentColor") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}' fill='{fill}'>{text}</text>"
