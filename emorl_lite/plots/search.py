"""Figures of the search over weights: its levels in the weight cube, and the triangle of directions. For three objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emorl_lite.base.errors import UserError
from emorl_lite.base.weights import direction
from emorl_lite.base.wording import counted, span
from emorl_lite.plots.style import need, panels, readable
from emorl_lite.search.grid import count_redundancy
from emorl_lite.search.score_table import DEGENERATE, weight_columns

STAR: dict[str, Any] = {"marker": "*", "s": 320, "facecolor": "none", "edgecolor": "#d00000", "linewidth": 1.6, "zorder": 10}
"""How the best point is marked."""


@readable
def search_levels(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> Figure:
    """The first and the last level of a search side by side, as points in the weight cube, coloured by mean score on one scale.

    Each panel's axes span its own cube; a star marks its best. The zero vector is an empty grey ring: it has no text.
    Columns: level, w_<objective>, mean, note.
    """
    need(table, ["level", "mean", "note"], "search_levels")
    levels = sorted({int(table["level"].min()), int(table["level"].max())})
    figure, grid = panels(len(levels), width=5.4, height=4.4, subplot_kw={"projection": "3d"})
    names = _three_objectives(table, objectives, "search_levels")
    shown = table[table["level"].isin(levels) & (table["note"] != DEGENERATE)]
    axes: Any  # Axes3D
    for axes, level in zip(grid, levels, strict=True):
        points = shown[shown["level"] == level]
        coordinates: list[Any] = [points[f"w_{name}"] for name in names]
        colors: dict[str, Any] = {"cmap": "cividis", "vmin": shown["mean"].min(), "vmax": shown["mean"].max()}
        dots = axes.scatter(*coordinates, c=points["mean"], s=90, depthshade=False, edgecolor="black", linewidth=0.5, **colors)
        best = points.iloc[int(points["mean"].argmax())]
        axes.scatter(*[[best[f"w_{name}"]] for name in names], **STAR, depthshade=False)
        if ((table["level"] == level) & (table["note"] == DEGENERATE)).any():
            axes.scatter([0], [0], [0], s=90, facecolor="none", edgecolor="grey", depthshade=False)
        for axis, name in zip("xyz", names, strict=True):
            values = np.unique(points[f"w_{name}"])
            ticks = np.union1d(values, [0.0]) if level == 1 else values
            getattr(axes, f"set_{axis}ticks")(ticks, [f"{x:.4g}" for x in ticks])
            getattr(axes, f"set_{axis}label")(f"weight of {name}", labelpad=14 if axis == "z" and level > 1 else 10)
        axes.tick_params(labelsize=9, pad=2)
        axes.tick_params(axis="z", pad=6)
        axes.set_title(f"level {level}", y=0.94)
        axes.patch.set_visible(False)  # or it would cover the labels of the panel on its left
        axes.set_box_aspect(None, zoom=0.82)  # room for the labels
    figure.colorbar(dots, ax=grid, label="mean score", shrink=0.7, pad=0.08)
    return figure


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
    return (
        f"Weight vectors as points in three-dimensional axes, the weights of {', '.join(names)}; each panel's axes span that level's cube; "
        f"coloured by mean score, a red star on each panel's best. {'; '.join(parts).capitalize()}."
    )


@readable
def redundancy(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> Figure:
    """Which points of the weight cube are one direction, hence one greedy text: area and number tell how many coincide at w / sum(w)."""
    names = _three_objectives(table, objectives, "redundancy")
    columns = [f"w_{name}" for name in names]
    points = table[columns].drop_duplicates()
    zero = " and the zero vector" if (points.sum(axis=1) == 0).any() else ""
    points = points[points.sum(axis=1) > 0]
    points = points.assign(ray=[str(direction(row)) for row in points.to_numpy().tolist()])
    rays = points.groupby("ray", sort=False).agg(**{c: (c, "first") for c in columns}, count=("ray", "size"))
    figure, axes = triangle(names)
    x, y = project(rays[columns].to_numpy(dtype=float))
    axes.scatter(x, y, s=60 * rays["count"] + 40, color=sns.color_palette("colorblind")[9], edgecolor="black", linewidth=0.6)
    for a, b, count in zip(x, y, rays["count"], strict=True):
        if count > 1:
            axes.annotate(str(count), (a, b), ha="center", va="center", fontsize=10, fontweight="bold")
    axes.set_title(f"{len(points)} points{zero}: {len(rays)} directions", pad=14)
    return figure


def redundancy_alt(table: pd.DataFrame, objectives: Sequence[str] | None = None) -> str:
    """What `redundancy` draws, with its main numbers."""
    names = _three_objectives(table, objectives, "redundancy")
    points = table[[f"w_{name}" for name in names]].drop_duplicates()
    points = points[points.sum(axis=1) > 0]
    fullest = int(pd.Series([direction(row) for row in points.to_numpy().tolist()]).value_counts().iloc[0])
    return (
        f"A triangle with the corners {', '.join(names)}. {counted(len(points), 'searched point').capitalize()}, divided by their sum, "
        f"fall on {counted(count_redundancy(points)['directions'], 'spot')}; a marker's area and number tell how many points it holds, "
        f"at most {fullest}."
    )


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
