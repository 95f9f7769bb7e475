"""Figures of the search over weights: its levels in the weight cube, and the triangle of directions. For three objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import ConvexHull, QhullError

from emorl_lite.base.errors import UserError
from emorl_lite.base.weights import direction
from emorl_lite.base.wording import counted, span
from emorl_lite.plots.style import describe, need, panels, readable
from emorl_lite.readings.search import portion
from emorl_lite.search.score_table import DEGENERATE, weight_columns

RED = "#d00000"
STAR: dict[str, Any] = {"marker": "*", "s": 320, "facecolor": "none", "edgecolor": RED, "linewidth": 1.6, "zorder": 20}
"""How the best point is marked."""


@readable
def search_levels(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> Figure:
    """The first and the last level of a search side by side, as points in the weight cube, coloured by mean score.

    Each panel's axes and colours span its own level: on a common scale the last level would be of one colour. A star marks a panel's
    best. The zero vector is an empty grey ring: it has no text. Columns: level, w_<objective>, mean, note.
    """
    need(table, ["level", "mean", "note"], "search_levels")
    levels = sorted({int(table["level"].min()), int(table["level"].max())})
    figure, grid = panels(len(levels), width=4.9, height=4.9, subplot_kw={"projection": "3d"})
    names = _three_objectives(table, objectives, "search_levels")
    axes: Any  # Axes3D
    for axes, level in zip(grid, levels, strict=True):
        at_level = table[table["level"] == level]
        _one_level(axes, at_level[at_level["note"] != DEGENERATE], names, level)
        if (at_level["note"] == DEGENERATE).any():
            axes.scatter([0], [0], [0], s=90, facecolor="none", edgecolor="grey", linewidth=1.5, depthshade=False)
        figure.colorbar(axes.collections[0], ax=axes, label=f"mean score, level {level}", shrink=0.8, pad=0.02, location="bottom")
    marks = [Line2D([], [], linestyle="", marker="*", markersize=15, markerfacecolor="none", markeredgecolor=RED, label="the level's best")]
    if (table["note"] == DEGENERATE).any():
        zero = "the zero vector: no text, counts 0"
        marks.append(Line2D([], [], linestyle="", marker="o", markersize=9, markerfacecolor="none", markeredgecolor="grey", label=zero))
    figure.legend(handles=marks, loc="outside upper center", ncols=2)
    return describe(figure, search_levels_alt(table, names))


def _one_level(axes: Any, points: pd.DataFrame, names: Sequence[str], level: int) -> None:
    """The points of one level in a panel of three-dimensional axes, its best with a star."""
    coordinates: list[Any] = [points[f"w_{name}"] for name in names]
    axes.scatter(*coordinates, c=points["mean"], s=100, depthshade=False, edgecolor="black", linewidth=0.5, cmap="cividis")
    best = points.iloc[int(points["mean"].argmax())]
    axes.scatter(*[[best[f"w_{name}"]] for name in names], **STAR, depthshade=False)
    for axis, name in zip("xyz", names, strict=True):
        values = np.unique(points[f"w_{name}"])
        ticks = np.union1d(values, [0.0]) if level == 1 else values
        side = {"x": "right", "y": "left", "z": "left"}[axis]  # the labels of two axes meet at a corner
        getattr(axes, f"set_{axis}ticks")(ticks, [f"{x:.3g}" for x in ticks], ha=side)
        getattr(axes, f"set_{axis}label")(f"weight of {name}", labelpad={"x": 8, "y": 12, "z": 12}[axis] + 10 * (level > 1 and axis != "x"))
    axes.tick_params(labelsize=9, pad=1)
    axes.tick_params(axis="z", pad=5)
    axes.set_title(f"level {level}", y=0.96)
    axes.patch.set_visible(False)  # or it would cover the labels of the panel on its left
    axes.set_box_aspect(None, zoom=0.8)  # room for the labels


def search_levels_alt(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> str:
    """What `search_levels` draws, with its main numbers."""
    names = _three_objectives(table, objectives, "search_levels")
    parts = []
    for level in sorted({int(table["level"].min()), int(table["level"].max())}):
        points = table[(table["level"] == level) & (table["note"] != DEGENERATE)]
        best = points.iloc[int(points["mean"].argmax())]
        weights = ", ".join(f"{best[f'w_{name}']:g}" for name in names)
        scores = span(points["mean"].min(), points["mean"].max(), 3)
        parts.append(f"level {level}, {counted(len(points), 'point')} with scores of {scores}, the best at ({weights})")
    text = "; ".join(parts)
    return (
        f"Weight vectors as points in three-dimensional axes, the weights of {', '.join(names)}; each panel's axes and colours span that "
        f"level's cube and scores; a red star on each panel's best. {text[0].upper()}{text[1:]}."
    )


@readable
def redundancy(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> Figure:
    """Which points of the first level are one direction, hence one greedy text: a marker at w / sum(w) tells how many points it is."""
    names = _three_objectives(table, objectives, "redundancy")
    points = _level(table, 0)
    zero = " and the zero vector" if (points[[f"w_{name}" for name in names]].sum(axis=1) == 0).any() else ""
    rays = _rays(points, names)
    figure, axes = triangle(names)
    x, y = project(rays[[f"w_{name}" for name in names]].to_numpy(dtype=float))
    axes.scatter(x, y, s=70 * rays["count"] + 60, color=sns.color_palette("colorblind")[9], edgecolor="black", linewidth=0.6)
    for a, b, count in zip(x, y, rays["count"], strict=True):
        axes.annotate(str(count), (a, b), ha="center", va="center", fontsize=10, fontweight="bold")
    axes.set_title(f"{rays['count'].sum()} points{zero}: {len(rays)} directions", pad=14)
    return describe(figure, redundancy_alt(table, names))


def redundancy_alt(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> str:
    """What `redundancy` draws, with its main numbers."""
    names = _three_objectives(table, objectives, "redundancy")
    counts = _rays(_level(table, 0), names)["count"]
    return (
        f"A triangle with the corners {', '.join(names)}. {counted(int(counts.sum()), 'point').capitalize()} of the first level, divided "
        f"by their sum, fall on {counted(len(counts), 'spot')}; a marker's area and number tell how many points it holds, at most "
        f"{counts.max()}."
    )


@readable
def reachable_directions(table: pd.DataFrame, objectives: Sequence[str] | None = None, best: Sequence[float] | None = None) -> Figure:
    """Which directions the bounds of each level hold: nested outlines in the triangle, w / sum(w), with the points of each level.

    `best`: weights to star, those of the table's best score by default. Columns: level, w_<objective>, mean.
    """
    names = _three_objectives(table, objectives, "reachable_directions")
    need(table, ["level", "mean"], "reachable_directions")
    columns = [f"w_{name}" for name in names]
    figure, axes = triangle(names, width=7.4)
    levels = sorted(table["level"].unique())
    for number, level in enumerate(levels):
        points = table.loc[table["level"] == level, columns].to_numpy(dtype=float)
        outline = np.vstack([np.stack(project(reached(points)), 1), np.stack(project(reached(points)), 1)[:1]])
        color = colormaps["viridis"](0.85 * number / max(1, len(levels) - 1))
        axes.plot(*outline.T, color=color, linewidth=2.4, label=f"level {level}: {portion_of(points)} of the triangle", zorder=2 + number)
        shown = points[points.sum(1) > 0]
        axes.scatter(*project(shown), s=40 - 5 * number, color=color, edgecolor="white", linewidth=0.6, zorder=3 + number)
    star = np.asarray(table[columns].iloc[int(table["mean"].argmax())] if best is None else best, dtype=float)
    axes.scatter(*project(star[None]), **STAR, label="the best found" if best is None else "the optimum")
    axes.legend(loc="upper left", bbox_to_anchor=(0.72, 1.0), title="directions within the bounds of")
    return describe(figure, reachable_directions_alt(table, names))


def reachable_directions_alt(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> str:
    """What `reachable_directions` draws, with its main numbers."""
    names = _three_objectives(table, objectives, "reachable_directions")
    columns = [f"w_{name}" for name in names]
    parts = [f"level {level} {portion_of(rows[columns].to_numpy(dtype=float))}" for level, rows in table.groupby("level")]
    return (
        f"A triangle with the corners {', '.join(names)}, with a nested outline a level: the directions that its bounds hold. Of the whole "
        f"triangle's area they are: {', '.join(parts)}. A red star marks the best."
    )


def reached(points: np.ndarray) -> np.ndarray:
    """The corners [m, 3], in order and on the simplex, of all directions between these points [n, 3]; the zero vector holds them all."""
    if (points.sum(1) == 0).any():  # every direction starts there: those of the box's axes
        points = np.eye(3)[points.max(0) > 0]
    w = points / points.sum(1, keepdims=True)
    if len(np.unique(w.round(12), axis=0)) < 3:
        return w
    try:
        return np.asarray(w[ConvexHull(w[:, :2]).vertices])
    except QhullError:  # all in a line
        return w[[w[:, 0].argmin(), w[:, 0].argmax()]]


def portion_of(points: np.ndarray) -> str:
    """The share of the triangle that the directions between these points [n, 3] take: "34.00 %"."""
    corners = reached(points)[:, :2]
    x, y = (corners - corners[0]).T
    return portion(min(1.0, float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))))


def _level(table: pd.DataFrame, place: int) -> pd.DataFrame:
    """The rows of one level of a search, by its place in their order; all rows of a table without levels."""
    return table if "level" not in table else table[table["level"] == sorted(table["level"].unique())[place]]


def _rays(points: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row a direction: its first point and how many distinct points are on it. The zero vector is left out."""
    columns = [f"w_{name}" for name in names]
    points = points[columns].drop_duplicates()
    points = points[points.sum(axis=1) > 0]
    points = points.assign(ray=[str(direction(row)) for row in points.to_numpy().tolist()])
    rays: pd.DataFrame = points.groupby("ray", sort=False).agg(**{c: (c, "first") for c in columns}, count=("ray", "size"))
    return rays


def _three_objectives(table: pd.DataFrame, objectives: Sequence[str] | None, figure: str) -> list[str]:
    names = list(objectives or [c.removeprefix("w_") for c in weight_columns(table)])
    if len(names) != 3:
        raise UserError(f"figure {figure}: drawn for 3 objectives, got {len(names)}: {', '.join(names)}")
    need(table, [f"w_{name}" for name in names], figure)
    return names


def project(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [n, 3], divided by their sum, as points of the triangle with corners (0, 0), (1, 0) and (1/2, sqrt(3)/2)."""
    w = w / w.sum(axis=1, keepdims=True)
    return w[:, 1] + w[:, 2] / 2, w[:, 2] * np.sqrt(3) / 2


def triangle(names: Sequence[str], width: float = 5.6) -> tuple[Figure, Axes]:
    """A figure of one empty triangle."""
    figure, (axes,) = panels(1, width=width, height=4.8)
    draw_triangle(axes, names)
    return figure, axes


def draw_triangle(axes: Axes, names: Sequence[str]) -> None:
    """An empty simplex of three objectives with its corners named."""
    x, y = [0, 1, 0.5, 0], [0, 0, np.sqrt(3) / 2, 0]
    axes.plot(x, y, color="grey", linewidth=1, zorder=0)
    places = [(0, -26, "left"), (0, -26, "right"), (0, 16, "center")]
    for name, a, b, (dx, dy, align) in zip(names, x, y, places, strict=False):
        axes.annotate(f"only {name}", (a, b), (dx, dy), textcoords="offset points", ha=align, va="center")
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.12, 1.0), aspect="equal")
    axes.set_axis_off()
