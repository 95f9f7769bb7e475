"""Figures of exact maps: regions of the simplex as polygons, and achievable scores."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import shapely
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from emorl_lite.base.domains import Domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number, percent, span
from emorl_lite.exact.overlay import Overlay, overlay
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.search import RED, STAR, draw_triangle, project, triangle
from emorl_lite.plots.style import OBJECTIVE_STYLE, describe, name_axes, need, panels, readable


@readable
def decision_line(z: np.ndarray, pieces: Sequence[tuple[float, float, int]], words: Sequence[str], objectives: Sequence[str]) -> Figure:
    """One choice of a word with two adapters: each word's score is a line over the weight of the second, the highest line wins.

    `z` [2, V]: the logits of all words. `pieces`: (start, end, word by its number) in order; `words`: their texts. The next best words are
    drawn, too.
    """
    figure, (axes,) = panels(1, width=7.6, height=4.2)
    ends = np.array([0.0, 1.0])
    winners = [word for _, _, word in pieces]
    for k, v in enumerate([v for v in z.max(0).argsort()[::-1].tolist() if v not in winners][:OTHERS]):
        a, b = z[:, v]
        axes.plot(ends, [a, b], color="0.75", linewidth=1, label="never wins" if k == 0 else None, zorder=1)
    looks = list(OBJECTIVE_STYLE.values())
    for k, ((start, end, v), word) in enumerate(zip(pieces, words, strict=True)):
        a, b = z[:, v]
        color = looks[k % len(looks)].color
        axes.plot(ends, [a, b], color=color, linewidth=1.2, linestyle="--", zorder=2)
        at = np.array([start, end])
        axes.plot(at, a + (b - a) * at, color=color, linewidth=4, label=f"“{word}” wins", zorder=3, solid_capstyle="butt")
        if end < 1:
            axes.axvline(end, color="black", linewidth=1, linestyle=":", label="border" if k == 0 else None)
    name_axes(axes, f"weight of {objectives[1]} (that of {objectives[0]} is the rest)", "score of a word, w · z(v)")
    axes.set_xlim(0, 1)
    figure.legend(loc="outside right upper")
    return describe(figure, decision_line_alt(pieces, words, objectives))


def decision_line_alt(pieces: Sequence[tuple[float, float, int]], words: Sequence[str], objectives: Sequence[str]) -> str:
    """What `decision_line` draws, with its borders."""
    parts = ", ".join(f"“{word}” from {number(start)} to {number(end)}" for (start, end, _), word in zip(pieces, words, strict=True))
    return (
        f"Scores of words as straight lines over the weight of {objectives[1]}; the highest line is drawn thick, and dotted borders mark "
        f"where another one takes over: {parts}."
    )


@readable
def decision_triangle(parts: Mapping[str, np.ndarray], objectives: Sequence[str], before: Sequence[str] = ()) -> Figure:
    """One choice of a word with three adapters: the triangle of weights cut into a polygon a word.

    `parts`: word -> corners [m, 3]. `before`: the words of a `decision_line`, in its order: they keep their colours.
    """
    _objectives(objectives, "decision_triangle")
    figure, axes = triangle(objectives, width=5.6)
    looks, order = list(OBJECTIVE_STYLE.values()), list(dict.fromkeys([*before, *parts]))
    for word, corners in parts.items():
        x, y = project(corners)
        look = looks[order.index(word) % len(looks)]
        axes.fill(x, y, facecolor=look.color, alpha=0.35, edgecolor="black", linewidth=1.2)
        middle = shapely.Polygon(np.stack([x, y], 1)).centroid
        axes.annotate(f"“{word}”", (middle.x, middle.y), ha="center", va="center", fontsize=11)
    return describe(figure, decision_triangle_alt(parts, objectives))


def decision_triangle_alt(parts: Mapping[str, np.ndarray], objectives: Sequence[str]) -> str:
    """What `decision_triangle` draws."""
    words = ", ".join(f"“{word}” with {counted(len(corners), 'corner')}" for word, corners in parts.items())
    return f"A triangle with the corners {', '.join(objectives)}, cut by straight borders into {counted(len(parts), 'polygon')}: {words}."


@readable
def prompt_map(scored: ScoredMap, row: int = 0, replies: int = 6, width: int = 44) -> Figure:
    """The regions of one prompt: polygons coloured by the mean score of their reply; the `replies` largest and the best are numbered and
    spelled out. The colours are those of the map explorer: their scale spans all prompts.

    Three objectives, in the triangle; or two knobs, in their plane. `row`: prompt * samples + sample.
    """
    _objectives(scored.map.corners, "prompt_map")
    regions = scored.map.of(row)
    means = scored.mean[scored.map.indices[row]]
    order = sorted(range(len(regions)), key=lambda i: -regions[i].piece.measure)
    figure, (axes, text_axes) = panels(2, width=4.6, height=5.0)
    place = _draw_domain(axes, scored.map.domain)
    colors = _draw_polygons(axes, [regions[i].piece.outline for i in order], means[order], edge="white", place=place)
    colors.set_norm(mean_scale(scored))
    best = int(means.argmax())
    shown = order[:replies] if best in order[:replies] else [*order[: replies - 1], best]
    lines = []
    for label, i in enumerate(shown, 1):
        region = regions[i]
        [x], [y] = place(region.piece.deepest[0][None])
        axes.annotate(str(label), (x, y), ha="center", va="center", fontsize=10, fontweight="bold", bbox=LABEL)
        share = percent(min(region.piece.measure, 1.0) if len(order) > 1 else 1.0)
        top = " (the best)" if i == best and len(order) > 1 else ""
        text = textwrap.fill(f"{label}.  {share}, mean {means[i]:.2f}{top}:  {region.reply}", width, subsequent_indent="     ")
        lines.append(text)
    if len(order) > replies:
        lines.append(f"… and {len(order) - replies} other regions")
    text_axes.text(0, 0.5, "\n".join(lines), transform=text_axes.transAxes, va="center", fontsize=10)
    text_axes.set_axis_off()
    figure.colorbar(colors, ax=axes, label="mean score of the reply", shrink=0.7, location="left")
    return describe(figure, prompt_map_alt(scored, row))


def prompt_map_alt(scored: ScoredMap, row: int = 0) -> str:
    """What `prompt_map` draws, with its main numbers."""
    regions = scored.regions(row)
    knobs = " and ".join(scored.map.domain.knobs)
    where = f"A plane of {knobs}" if knobs else f"A triangle with the corners {', '.join(scored.map.corners)}"
    if len(regions) == 1:
        return f"{where} in one colour: every {'setting' if knobs else 'weight vector'} gives this client the same reply."
    largest, best = regions.iloc[0], regions.iloc[int(regions["mean"].argmax())]
    return (
        f"{where}: the {'settings' if knobs else 'weights'} for one client, cut into {len(regions)} convex polygons, one a reply, "
        f"coloured by the reply's mean score, {number(regions['mean'].min())} to {number(best['mean'])}. The largest and the best are "
        f"numbered and spelled out beside it. The largest covers {percent(largest['share'])} and scores {number(largest['mean'])}, the "
        f"best covers {percent(best['share'])}."
    )


@readable
def mean_map(cells: Overlay, points: pd.DataFrame | None = None, best: Sequence[float] | None = None) -> Figure:
    """The mean score over all prompts at every weight vector of the simplex, exactly; a star marks the best.

    `points`: a search's table, drawn as circles at w / sum(w), the search's best as a cross. `best`: the weights to star, those of the
    best cell by default. Three objectives.
    """
    _objectives(cells.corners, "mean_map")
    figure, axes = triangle(cells.corners, width=7.4)
    colors = _draw_polygons(axes, cells.outlines, cells.scores.mean(1), edge="face")
    if points is not None:
        columns = [f"w_{name}" for name in cells.corners]
        need(points, [*columns, "mean"], "mean_map")
        w = points[columns].to_numpy(dtype=float)
        w, means = w[w.sum(1) > 0], points.loc[w.sum(1) > 0, "mean"].to_numpy(dtype=float)
        axes.scatter(*project(w), s=16, color="white", edgecolor="black", linewidth=0.7, label="points of the search")
        axes.scatter(*project(w[[means.argmax()]]), marker="X", s=110, color="white", edgecolor="black", label="its best")
    star = cells.weights[cells.best()] if best is None else np.asarray(best)
    axes.scatter(*project(star[None]), **STAR, label="exact optimum")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.05, 1.0), facecolor="0.92", frameon=True, framealpha=1)
    figure.colorbar(colors, ax=axes, label="mean score over objectives and clients", shrink=0.8)
    return describe(figure, mean_map_alt(cells, points, best))


def mean_map_alt(cells: Overlay, points: pd.DataFrame | None = None, best: Sequence[float] | None = None) -> str:
    """What `mean_map` draws, with its main numbers."""
    means, star = cells.scores.mean(1), cells.weights[cells.best()] if best is None else np.asarray(best)
    order = means.argsort()
    middle = means[order][np.searchsorted(cells.measure[order].cumsum(), cells.measure.sum() / 2)]
    text = (
        f"A triangle with the corners {', '.join(cells.corners)}, coloured by the mean score over all clients, exactly: "
        f"{counted(len(means), 'cell')} with scores of {span(means.min(), means.max(), 3)}; half of the area has "
        f"{number(middle, 3)} or less. A red star marks the exact optimum at ({_point_text(star)})"
    )
    if points is None:
        return text + "."
    searched = points.iloc[int(points["mean"].argmax())]
    w = searched[[f"w_{name}" for name in cells.corners]].to_numpy(dtype=float)
    return (
        f"{text}, white circles the points of the search, a cross its best, {number(searched['mean'], 3)} at ({_point_text(w / w.sum())})."
    )


@readable
def two_objective_map(scored: ScoredMap, rows: Sequence[int] | None = None) -> Figure:
    """Two corners, or one knob: a bar a prompt, cut where its reply changes, coloured by mean score; below, the mean over the prompts."""
    if len(scored.map.corners) != 2:
        raise UserError(f"figure two_objective_map: drawn for 2 objectives, got {len(scored.map.corners)}")
    rows = list(range(len(scored.map.prompts) * scored.map.samples)) if rows is None else list(rows)
    figure = Figure(figsize=(8.4, 1.9 + 0.28 * len(rows)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[max(1, len(rows) / 5), 1])
    norm, cmap = mean_scale(scored), colormaps["cividis"]
    for position, row in enumerate(rows):
        for i in scored.map.indices[row]:
            start, end = np.sort(scored.map.regions[i].piece.vertices[:, 1])
            top.add_patch(Rectangle((start, position - 0.42), end - start, 0.84, facecolor=cmap(norm(scored.mean[i])), edgecolor="white"))
    top.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=[f"client {row // scored.map.samples + 1}" for row in rows])
    top.grid(visible=False)
    cells = overlay(scored, rows)
    means, best = cells.scores.mean(1), cells.best()
    ends = [cells.outlines[0][0, 1], *(outline[1, 1] for outline in cells.outlines)]
    bottom.stairs(means, ends, baseline=None, color="black", linewidth=1.6)
    bottom.scatter([cells.weights[best, 1]], [means[best]], **STAR)
    bottom.margins(y=0.25)
    figure.colorbar(ScalarMappable(norm, cmap), ax=top, label="score of the reply" if len(rows) > 6 else "score")
    first, second = scored.map.corners
    bottom.legend(handles=[Line2D([], [], color="black", label="mean over the clients"), star_mark("its best")], loc="best", fontsize=9)
    knob = f"{scored.map.domain.knobs[0]}: 0 is {first}, 1 is {second}" if scored.map.domain.knobs else ""
    name_axes(bottom, knob or f"weight of {second} (that of {first} is the rest)", "mean score")
    return describe(figure, two_objective_map_alt(scored, rows))


def two_objective_map_alt(scored: ScoredMap, rows: Sequence[int] | None = None) -> str:
    """What `two_objective_map` draws, with its main numbers."""
    rows = list(range(len(scored.map.prompts) * scored.map.samples)) if rows is None else list(rows)
    changes = [len(scored.map.indices[row]) - 1 for row in rows]
    cells = overlay(scored, rows)
    means, (first, second) = cells.scores.mean(1), scored.map.corners
    knobs, (low, high) = scored.map.domain.knobs, (cells.outlines[0][0, 1], cells.outlines[-1][1, 1])
    where = f"{knobs[0]} grows from {low:g} to {high:g}" if knobs else f"weight moves from {first} to {second}"
    start, end = (f"{knobs[0]} {low:g}", f"{high:g}") if knobs else (f"{first} alone", f"{second} alone")
    best = number(cells.weights[cells.best(), 1])
    return (
        f"{counted(len(rows), 'horizontal bar')}, one a client, cut where the reply changes as the {where} "
        f"({span(min(changes), max(changes), 0)} changes a bar), coloured by the reply's mean score. Below, their mean as a "
        f"step function: {number(means[0], 3)} at {start}, {number(means[-1], 3)} at {end}, the best, "
        f"{number(means.max(), 3)}, starred at a {knobs[0] if knobs else 'weight'} of {best}{'' if knobs else f' for {second}'}."
    )


@readable
def achievable_scores(cells: Overlay) -> Figure:
    """Every mean score vector that some weights achieve, two objectives at a time; those on the Pareto front (of all objectives) in
    red, the best mean starred."""
    names = cells.names
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    figure, grid = panels(len(pairs), width=3.4, height=3.6)
    best = cells.best()
    for axes, (i, j) in zip(grid, pairs, strict=True):
        axes.scatter(cells.scores[:, i], cells.scores[:, j], s=5, color="0.6", label="achievable", rasterized=True)
        front = cells.scores[cells.pareto]
        axes.scatter(front[:, i], front[:, j], s=14, marker="D", color=RED, alpha=0.5, label="Pareto front", rasterized=True)
        axes.scatter(cells.scores[[best], i], cells.scores[[best], j], **STAR | {"edgecolor": "black"}, label="best mean")
        name_axes(axes, f"mean {names[i]}", f"mean {names[j]}")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return describe(figure, achievable_scores_alt(cells))


def achievable_scores_alt(cells: Overlay) -> str:
    """What `achievable_scores` draws, with its main numbers."""
    panels_drawn = len(cells.names) * (len(cells.names) - 1) // 2
    front = len(np.unique(cells.scores[cells.pareto].round(12), axis=0))
    best = ", ".join(f"{name} {number(x)}" for name, x in zip(cells.names, cells.scores[cells.best()], strict=True))
    ranges = ", ".join(
        f"{n} {number(a)} to {number(b)}" for n, a, b in zip(cells.names, cells.scores.min(0), cells.scores.max(0), strict=True)
    )
    return (
        f"{counted(panels_drawn, 'scatter plot')}, one per pair of objectives. Grey dots: "
        f"{counted(len(cells.achievable), 'mean score vector')} that some weights achieve, {ranges}. Red diamonds: the {front:,} of the "
        f"Pareto front. A star: the best mean, at {best}."
    )


OTHERS = 8
"""Words that never win, drawn beside those that do."""
LABEL: dict[str, Any] = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black", "alpha": 0.85}


def mean_scale(scored: ScoredMap) -> Normalize:
    """The scale of colours for mean scores of replies, the same for every prompt of a map."""
    return Normalize(float(scored.mean.min()), float(scored.mean.max()))


def star_mark(label: str) -> Line2D:
    """The star of the best, for a legend."""
    return Line2D([], [], linestyle="", marker="*", markersize=14, markerfacecolor="none", markeredgecolor=RED, label=label)


def _point_text(w: np.ndarray) -> str:
    return ", ".join(number(x) for x in w)


def _objectives(names: Sequence[str], figure: str) -> None:
    if len(names) != 3:
        raise UserError(f"figure {figure}: drawn for 3 objectives, got {len(names)}: {', '.join(names)}")


Place = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Weights [n, 3] -> their x and y."""


def _draw_domain(axes: Axes, domain: Domain) -> Place:
    """The empty triangle of a simplex, or axes with two knobs, and where weights are in it."""
    if not domain.knobs:
        draw_triangle(axes, domain.corners)
        return project
    x, y = domain.piece.vertices[:, 1:].T
    name_axes(axes, *domain.knobs)
    axes.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    axes.grid(visible=False)
    return lambda w: (w[:, 1], w[:, 2])


def _draw_polygons(axes: Axes, outlines: Sequence[np.ndarray], values: np.ndarray, edge: Any, place: Place = project) -> PolyCollection:
    shapes = [np.stack(place(outline), 1) for outline in outlines]
    cells = PolyCollection(shapes, array=values, cmap="cividis", edgecolors=edge, linewidths=0.7 if edge == "white" else 0.3)
    cells.set_rasterized(len(shapes) > 1000)
    axes.add_collection(cells)
    return cells
