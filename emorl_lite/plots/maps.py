"""Figures of exact maps: regions of the simplex as polygons, achievable scores, and what searches cost beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number, percent, span
from emorl_lite.exact.overlay import Overlay, overlay
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.search import STAR, draw_triangle, project, triangle
from emorl_lite.plots.style import name_axes, need, panels, readable, styles


@readable
def prompt_map(scored: ScoredMap, row: int = 0, replies: int = 8, width: int = 52) -> Figure:
    """The regions of one prompt: polygons coloured by the mean score of their reply; the `replies` largest and the best are numbered and
    spelled out.

    Three objectives. `row`: prompt * samples + sample.
    """
    _objectives(scored.map.objectives, "prompt_map")
    regions = scored.map.of(row)
    means = scored.mean[scored.map.indices[row]]
    order = sorted(range(len(regions)), key=lambda i: -regions[i].piece.measure)
    figure, (axes, text_axes) = panels(2, width=5.6, height=4.8)
    draw_triangle(axes, scored.map.objectives)
    colors = _draw_polygons(axes, [regions[i].piece.outline for i in order], means[order], edge="white")
    best = int(means.argmax())
    shown = order[:replies] if best in order[:replies] else [*order[: replies - 1], best]
    lines = []
    for label, i in enumerate(shown, 1):
        region = regions[i]
        [x], [y] = project(region.piece.deepest[0][None])
        axes.annotate(str(label), (x, y), ha="center", va="center", fontsize=10, fontweight="bold", bbox=LABEL)
        share = percent(min(region.piece.measure, 1.0) if len(order) > 1 else 1.0)
        text = textwrap.fill(f"{label}.  {share}, mean {means[i]:.2f}:  {region.reply}", width, subsequent_indent="     ")
        lines.append(text)
    if len(order) > replies:
        lines.append(f"… and {len(order) - replies} other regions")
    text_axes.text(0, 0.5, "\n".join(lines), transform=text_axes.transAxes, va="center", fontsize=9.5)
    text_axes.set_axis_off()
    figure.colorbar(colors, ax=axes, label="mean score of the reply", shrink=0.7, location="left")
    return figure


def prompt_map_alt(scored: ScoredMap, row: int = 0) -> str:
    """What `prompt_map` draws, with its main numbers."""
    regions = scored.regions(row)
    names = ", ".join(scored.map.objectives)
    if len(regions) == 1:
        return f"A triangle with the corners {names} in one colour: every weight vector gives this client the same reply."
    largest, best = regions.iloc[0], regions.iloc[int(regions["mean"].argmax())]
    return (
        f"A triangle with the corners {names}: the weights for one client, cut into {len(regions)} convex polygons, one a reply, "
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
    _objectives(cells.objectives, "mean_map")
    figure, axes = triangle(cells.objectives, width=7.4)
    colors = _draw_polygons(axes, cells.outlines, cells.scores.mean(1), edge="face")
    if points is not None:
        columns = [f"w_{name}" for name in cells.objectives]
        need(points, [*columns, "mean"], "mean_map")
        w = points[columns].to_numpy(dtype=float)
        w, means = w[w.sum(1) > 0], points.loc[w.sum(1) > 0, "mean"].to_numpy(dtype=float)
        axes.scatter(*project(w), s=26, facecolor="none", edgecolor="white", linewidth=1.0, label="points of the search")
        axes.scatter(*project(w[[means.argmax()]]), marker="X", s=110, color="white", edgecolor="black", label="its best")
    star = cells.weights[cells.best()] if best is None else np.asarray(best)
    axes.scatter(*project(star[None]), **STAR, label="exact optimum")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.05, 1.0), facecolor="lightgrey", frameon=True, framealpha=1)
    figure.colorbar(colors, ax=axes, label="mean score over objectives and prompts", shrink=0.8)
    return figure


def mean_map_alt(cells: Overlay, points: pd.DataFrame | None = None, best: Sequence[float] | None = None) -> str:
    """What `mean_map` draws, with its main numbers."""
    means, star = cells.scores.mean(1), cells.weights[cells.best()] if best is None else np.asarray(best)
    order = means.argsort()
    middle = means[order][np.searchsorted(cells.measure[order].cumsum(), cells.measure.sum() / 2)]
    text = (
        f"A triangle with the corners {', '.join(cells.objectives)}, coloured by the mean score over all clients, exactly: "
        f"{counted(len(means), 'cell')} with scores of {span(means.min(), means.max(), 3)}; half of the area has "
        f"{number(middle, 3)} or less. A red star marks the exact optimum at ({_point_text(star)})"
    )
    if points is None:
        return text + "."
    searched = points.iloc[int(points["mean"].argmax())]
    w = searched[[f"w_{name}" for name in cells.objectives]].to_numpy(dtype=float)
    return (
        f"{text}, white circles the points of the search, a cross its best, {number(searched['mean'], 3)} at ({_point_text(w / w.sum())})."
    )


@readable
def two_objective_map(scored: ScoredMap, rows: Sequence[int] | None = None) -> Figure:
    """Two objectives: one bar a prompt, cut where its reply changes, coloured by mean score; below, the mean over the prompts."""
    if len(scored.map.objectives) != 2:
        raise UserError(f"figure two_objective_map: drawn for 2 objectives, got {len(scored.map.objectives)}")
    rows = list(range(len(scored.map.prompts) * scored.map.samples)) if rows is None else list(rows)
    figure = Figure(figsize=(8.4, 1.9 + 0.28 * len(rows)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[max(1, len(rows) / 5), 1])
    norm, cmap = Normalize(scored.mean.min(), scored.mean.max()), colormaps["cividis"]
    for position, row in enumerate(rows):
        for i in scored.map.indices[row]:
            start, end = np.sort(scored.map.regions[i].piece.vertices[:, 1])
            top.add_patch(Rectangle((start, position - 0.42), end - start, 0.84, facecolor=cmap(norm(scored.mean[i])), edgecolor="white"))
    top.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=[f"client {row // scored.map.samples + 1}" for row in rows])
    top.grid(visible=False)
    cells = overlay(scored, rows)
    means, best = cells.scores.mean(1), cells.best()
    ends = [0.0, *(outline[1, 1] for outline in cells.outlines)]
    bottom.stairs(means, ends, baseline=None, color="black", linewidth=1.6)
    bottom.scatter([cells.weights[best, 1]], [means[best]], **STAR)
    bottom.margins(y=0.25)
    figure.colorbar(ScalarMappable(norm, cmap), ax=top, label="mean score of the reply")
    first, second = scored.map.objectives
    name_axes(bottom, f"weight of {second} (that of {first} is the rest)", "mean score")
    return figure


def two_objective_map_alt(scored: ScoredMap, rows: Sequence[int] | None = None) -> str:
    """What `two_objective_map` draws, with its main numbers."""
    rows = list(range(len(scored.map.prompts) * scored.map.samples)) if rows is None else list(rows)
    changes = [len(scored.map.indices[row]) - 1 for row in rows]
    cells = overlay(scored, rows)
    means, (first, second) = cells.scores.mean(1), scored.map.objectives
    return (
        f"{counted(len(rows), 'horizontal bar')}, one a client, cut where the reply changes as the weight moves from {first} to "
        f"{second} ({span(min(changes), max(changes), 0)} changes a bar), coloured by the reply's mean score. Below, their mean as a "
        f"step function: {number(means[0], 3)} at {first} alone, {number(means[-1], 3)} at {second} alone, the best, "
        f"{number(means.max(), 3)}, starred at a weight of {number(cells.weights[cells.best(), 1])} for {second}."
    )


@readable
def achievable_scores(cells: Overlay) -> Figure:
    """Every mean score vector that some weights achieve, two objectives at a time; those on the Pareto front (of all objectives) in
    red, the best mean starred."""
    names = cells.names
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    figure, grid = panels(len(pairs), width=4.0, height=3.8)
    best = cells.best()
    for axes, (i, j) in zip(grid, pairs, strict=True):
        axes.scatter(cells.scores[:, i], cells.scores[:, j], s=5, color="0.6", label="achievable", rasterized=True)
        front = cells.scores[cells.pareto]
        axes.scatter(front[:, i], front[:, j], s=14, marker="D", color="#d00000", alpha=0.5, label="Pareto front", rasterized=True)
        axes.scatter(cells.scores[[best], i], cells.scores[[best], j], **STAR | {"edgecolor": "black"}, label="best mean")
        name_axes(axes, f"mean {names[i]}", f"mean {names[j]}")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


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


@readable
def regret_curves(table: pd.DataFrame) -> Figure:
    """How far each search's best so far is below the exact optimum, against evaluations: the mean over runs, and the middle half as a band.

    Regrets below 0.0001, zero included, are drawn at 0.0001.

    Columns: search, run, evaluation (from 1), regret (mean score).
    """
    need(table, ["search", "run", "evaluation", "regret"], "regret_curves")
    figure, (axes,) = panels(1, width=7.6, height=4.4)
    styles_by_name = styles(table["search"])
    for name, runs in table.groupby("search", sort=False):
        pivot = runs.pivot_table(index="evaluation", columns="run", values="regret").ffill()
        style = styles_by_name[str(name)]
        low, high = (pivot.quantile(q, axis=1).clip(lower=1e-4) for q in (0.25, 0.75))
        axes.fill_between(pivot.index, low, high, color=style.color, alpha=0.12)
        line: dict[str, Any] = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markevery": 0.15}
        axes.plot(pivot.index, pivot.mean(axis=1).clip(lower=1e-4), linewidth=2, label=f"{name} (n = {pivot.shape[1]})", **line)
    axes.set_yscale("log")
    name_axes(axes, "evaluations (distinct directions decoded and scored)", "regret in mean score (log scale, from 0.0001)")
    figure.legend(loc="outside right upper")
    return figure


def regret_curves_alt(table: pd.DataFrame) -> str:
    """What `regret_curves` draws, with its main numbers. Columns: search, run, evaluation, regret."""
    parts = []
    for name, runs in table.groupby("search", sort=False):
        ends = runs.sort_values("evaluation").groupby("run").agg(evaluation=("evaluation", "last"), regret=("regret", "min"))
        parts.append(f"{name} {number(ends['regret'].mean(), 4)} after {span(ends['evaluation'].min(), ends['evaluation'].max(), 0)}")
    return (
        "Regret against evaluations on a logarithmic scale, a line per search for the mean over its runs and a band for their middle "
        f"half. Mean regret at the end: {'; '.join(parts)} evaluations."
    )


@readable
def promise_and_test(table: pd.DataFrame) -> Figure:
    """What a search's choice promised on n validation clients (dashed, hollow), and what it scores on the test clients (solid), over n.

    Means over adapters, with their range as a band. Columns: search, adapters, clients, promised, test.
    """
    need(table, ["search", "adapters", "clients", "promised", "test"], "promise_and_test")
    searches = list(dict.fromkeys(table["search"]))
    styles_by_name = styles(searches)
    figure, grid = panels(len(searches), width=4.4, sharey=True)
    for axes, name in zip(grid, searches, strict=True):
        style, rows = styles_by_name[name], table[table["search"] == name].groupby("clients")
        for column, line, face in (("promised", "--", "white"), ("test", "-", style.color)):
            values = rows[column]
            axes.fill_between(values.min().index, values.min(), values.max(), color=style.color, alpha=0.12)
            shape: dict[str, Any] = {"linestyle": line, "marker": style.marker, "markerfacecolor": face, "linewidth": 2}
            axes.plot(values.mean().index, values.mean(), color=style.color, label=column, **shape)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(table["clients"].unique()), [str(n) for n in sorted(table["clients"].unique())])
        axes.set_title(name)
        name_axes(axes, "validation clients", "mean score" if axes is grid[0] else "")
        axes.legend()
    return figure


def promise_and_test_alt(table: pd.DataFrame) -> str:
    """What `promise_and_test` draws, with its main numbers. Columns: search, adapters, clients, promised, test."""
    fewest, most = table["clients"].min(), table["clients"].max()
    means = table.groupby(["search", "clients"])[["promised", "test"]].mean()
    parts = [
        f"{name}, promised {number(means.loc[(name, fewest), 'promised'], 3)} to {number(means.loc[(name, most), 'promised'], 3)}, "
        f"test {number(means.loc[(name, fewest), 'test'], 3)} to {number(means.loc[(name, most), 'test'], 3)}"
        for name in dict.fromkeys(table["search"])
    ]
    return (
        "A panel per search: the mean score that it promised (dashed) and that its choice has on the test clients (solid) against the "
        f"number of validation clients, as means of {counted(table['adapters'].nunique(), 'seed')} with their range as a band. From "
        f"{fewest} to {most} clients: {'; '.join(parts)}."
    )


@readable
def search_costs(table: pd.DataFrame) -> Figure:
    """What searches cost as objectives and precision grow (the paper's cost surfaces, measured): one panel a varied quantity and unit.

    Columns: varied, value, search, unit, cost. A search named "formula: .." is drawn as a thin line without markers.
    """
    need(table, ["varied", "value", "search", "unit", "cost"], "search_costs")
    kinds = list(dict.fromkeys(zip(table["varied"], table["unit"], strict=True)))
    figure, grid = panels(len(kinds), width=4.3, height=4.2)
    measured = [name for name in dict.fromkeys(table["search"]) if not str(name).startswith("formula: ")]
    formulas = [name for name in dict.fromkeys(table["search"]) if name not in measured]
    styles_by_name = styles(measured)
    for axes, (varied, unit) in zip(grid, kinds, strict=True):
        for name, rows in table[(table["varied"] == varied) & (table["unit"] == unit)].groupby("search", sort=False):
            rows = rows.sort_values("value")
            if str(name).startswith("formula: "):
                dashes: Any = FORMULA_LINES[formulas.index(str(name)) % len(FORMULA_LINES)]
                axes.plot(rows["value"], rows["cost"], color="0.35", linewidth=1, linestyle=dashes, label=name)
                continue
            style = styles_by_name[str(name)]
            axes.plot(
                rows["value"], rows["cost"], color=style.color, linestyle=style.linestyle, marker=style.marker, linewidth=2, label=name
            )
        axes.set_yscale("log")
        axes.set_xticks(sorted(table.loc[table["varied"] == varied, "value"].unique()))
        name_axes(axes, str(varied), f"{unit} (log scale)")
    handles: dict[str, Any] = {}
    for axes in grid:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    return figure


def search_costs_alt(table: pd.DataFrame) -> str:
    """What `search_costs` draws, with the first and the last value of every line. Columns: varied, value, search, unit, cost."""
    parts = []
    for (varied, unit), panel in table.groupby(["varied", "unit"], sort=False):
        ends = panel.sort_values("value").groupby("search", sort=False)["cost"].agg(["first", "last"])
        lines = ", ".join(f"{name} {_cost(row['first'])} to {_cost(row['last'])}" for name, row in ends.iterrows())
        parts.append(f"{unit} as {varied} goes from {panel['value'].min():g} to {panel['value'].max():g}: {lines}")
    return (
        f"{counted(len(parts), 'panel')} with logarithmic y axes, a line per search"
        f"{', formulas thin and without markers' if table['search'].str.startswith('formula: ').any() else ''}. "
        f"{'. '.join(text[0].upper() + text[1:] for text in parts)}."
    )


FORMULA_LINES = [":", (0, (5, 3)), (0, (8, 2, 1, 2))]
LABEL: dict[str, Any] = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black", "alpha": 0.85}


def _point_text(w: np.ndarray) -> str:
    return ", ".join(number(x) for x in w)


def _cost(value: float) -> str:
    return number(value, 0 if value >= 100 else 1).removesuffix(".0")


def _objectives(names: Sequence[str], figure: str) -> None:
    if len(names) != 3:
        raise UserError(f"figure {figure}: drawn for 3 objectives, got {len(names)}: {', '.join(names)}")


def _draw_polygons(axes: Axes, outlines: Sequence[np.ndarray], values: np.ndarray, edge: Any) -> PolyCollection:
    shapes = [np.stack(project(outline), 1) for outline in outlines]
    cells = PolyCollection(shapes, array=values, cmap="cividis", edgecolors=edge, linewidths=0.7 if edge == "white" else 0.3)
    cells.set_rasterized(len(shapes) > 1000)
    axes.add_collection(cells)
    return cells
