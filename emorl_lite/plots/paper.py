"""The paper's figures that need a drawing of their own, each from a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number
from emorl_lite.plots.style import Style, describe, ink, name_axes, need, panels, readable, styles
from emorl_lite.search.score_table import DEGENERATE

WIDTH = 6.4
"""Inches: about 700 pixels, what a notebook's column shows without shrinking it."""

BEST = (0.85, 0.0, 0.0)
"""The frame of a best point."""
SOURCE_STYLE = {
    "paper": Style((0.0, 0.0, 0.0), "D", "-"),
    "smollm2": Style((0.0, 0.447, 0.698), "o", "--"),
    "tiny": Style((0.902, 0.624, 0.0), "s", "-."),
    "tiny, a budget a run": Style((0.8, 0.2, 0.2), "^", ":"),
}
"""Where mean scores come from, in `paper_and_ours`."""


@readable
def task_example(statement: str, replies: pd.DataFrame, objectives: Sequence[str]) -> Figure:
    """The task: a client's statement, replies to it, and each reply's scores as bars (the paper's figure 1).

    `replies` columns: method, reply, and one per objective in [0, 1].
    """
    need(replies, ["method", "reply", *objectives], "task_example")
    n = len(replies)
    height = 1.2 + 0.95 * n
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(n, 1, squeeze=False, sharex=True, gridspec_kw={"left": 0.66, "right": 0.98, "hspace": 0.28})[:, 0]
    figure.subplots_adjust(top=1 - 0.55 / height, bottom=0.5 / height)
    figure.text(0.01, 0.99, textwrap.fill(f"Client: {statement}", 78), va="top", fontsize=11, style="italic")
    styles_by_name = styles(objectives)
    for bars, row in zip(grid, replies.to_dict("records"), strict=True):
        y = bars.get_position().y1
        figure.text(0.01, y, textwrap.shorten(row["method"], 40), va="top", fontsize=11, fontweight="bold")
        reply = textwrap.fill(textwrap.shorten(str(row["reply"]), 120), 38)
        figure.text(0.01, y - 0.24 / height, reply, va="top", fontsize=11)
        values = [float(row[name]) for name in objectives]
        bars.barh(range(len(values)), values, color=[styles_by_name[name].color for name in objectives], edgecolor="black", linewidth=0.5)
        bars.set_yticks(range(len(values)), [textwrap.shorten(name, 14) for name in objectives])
        bars.invert_yaxis()
        bars.set_xlim(0, 1.2)  # room for a number beside a full bar
        bars.set_xticks([0, 0.5, 1])
        for position, value in enumerate(values):
            bars.text(value + 0.02, position, f"{value:.2f}", va="center", fontsize=10)
    grid[-1].set_xlabel("score of the reply")
    return describe(figure, task_example_alt(replies, objectives))


def task_example_alt(replies: pd.DataFrame, objectives: Sequence[str]) -> str:
    """What `task_example` shows: each method's reply with its scores."""
    parts = [
        f"{row['method']} says “{row['reply']}” ({', '.join(f'{name} {number(float(row[name]))}' for name in objectives)})"
        for row in replies.to_dict("records")
    ]
    return f"A client's statement and below it one reply a method, each with a bar for every score: {'; '.join(parts)}."


@readable
def cost_surfaces(d: Sequence[int] = (2, 3, 4, 5, 6), levels: Sequence[int] = (1, 2, 3, 4, 5, 6)) -> Figure:
    """Evaluations of the hierarchical search, 3^d a level, and of the full grid of the same precision (the paper's figure 4).

    Two panels of numbers on one logarithmic colour scale: objectives d across, levels L (last spacing 2^-L) up.
    """
    if not len(d) or not len(levels):
        raise UserError("figure cost_surfaces: no objectives or no levels")
    counts = {
        "hierarchical search: 3^d points a level": np.array([[level * 3**k for k in d] for level in levels], dtype=float),
        "full grid of the same spacing: (2^L + 1)^d points": np.array([[(2**level + 1) ** k for k in d] for level in levels], dtype=float),
    }
    figure = Figure(figsize=(WIDTH, 1.3 + 0.62 * len(levels)), layout="constrained")
    grid = list(np.ravel(figure.subplots(2, 1, squeeze=False, sharex=True)))
    top = max(values.max() for values in counts.values())
    for axes, (title, values) in zip(grid, counts.items(), strict=True):
        picture = axes.imshow(values, origin="lower", cmap="cividis", norm=LogNorm(1, top), aspect="auto")
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                color = ink(picture.cmap(picture.norm(value)))
                axes.text(x, y, _short(value), ha="center", va="center", fontsize=10, color=color)
        axes.set_xticks(range(len(d)), [str(k) for k in d])
        axes.set_yticks(range(len(levels)), [str(level) for level in levels])
        axes.grid(False)
        axes.set_title(title)
        name_axes(axes, "objectives d" if axes is grid[-1] else "", "levels L")
    figure.colorbar(picture, ax=grid, label="evaluations", shrink=0.85)
    return describe(figure, cost_surfaces_alt(d, levels))


def _short(value: float) -> str:
    """A count in at most seven characters: 35,937, 1.2 million as "1.2 M", a thousand millions as "1 bn"."""
    for unit, name in ((1e9, "bn"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.{0 if value >= 10 * unit else 1}f} {name}"
    return f"{value:,.0f}"


def cost_surfaces_alt(d: Sequence[int] = (2, 3, 4, 5, 6), levels: Sequence[int] = (1, 2, 3, 4, 5, 6)) -> str:
    """What `cost_surfaces` shows: how many evaluations at the smallest and at the largest of both."""
    ends = [(d[0], levels[0]), (d[-1], levels[-1])]
    parts = [f"{level * 3**k:,} against {(2**level + 1) ** k:,} with {k} objectives and {counted(level, 'level')}" for k, level in ends]
    return (
        "Two tables of numbers coloured on one logarithmic scale, over objectives and levels: evaluations of the hierarchical search, and "
        f"of the full grid of the same spacing: {'; '.join(parts)}."
    )


@readable
def cubes(table: pd.DataFrame, objectives: Sequence[str], what: str) -> Figure:
    """The first and the last level of one search (the paper's cube figures), each cube cut into slices so that every score can be read.

    A row a level with a colour scale of its own, a panel for each weight of the third objective; the level's best point has a red frame.
    Columns: what, level, w_<objective>, mean, note.
    """
    need(table, ["what", "level", "mean", "note"], "cubes")
    chosen = table[table["what"] == what]
    if chosen.empty or len(objectives) != 3:
        raise UserError(f"figure cubes: the table has no search over {what!r} with three objectives")
    need(chosen, [f"w_{name}" for name in objectives], "cubes")
    levels = sorted({int(chosen["level"].min()), int(chosen["level"].max())})
    figure = Figure(figsize=(WIDTH, 0.9 + 2.45 * len(levels)), layout="constrained")
    rows = figure.subfigures(len(levels), 1, squeeze=False)[:, 0]
    for part, level in zip(rows, levels, strict=True):
        _slices(part, chosen[(chosen["level"] == level) & (chosen["note"] != DEGENERATE)], objectives, f"level {level}")
    frame = Patch(facecolor="none", edgecolor=BEST, linewidth=2.5, label="the level's best point")
    figure.legend(handles=[frame], loc="outside lower center")
    return describe(figure, cubes_alt(table, objectives, what))


def _slices(part: Any, points: pd.DataFrame, objectives: Sequence[str], title: str) -> None:
    """One cube of weights as panels of numbers: the first two objectives across and up, a panel for each weight of the third."""
    x, y, z = (f"w_{name}" for name in objectives)
    xs, ys, zs = (sorted(points[column].unique()) for column in (x, y, z))
    norm = Normalize(points["mean"].min(), points["mean"].max())
    best = points.iloc[int(points["mean"].argmax())]
    grid = np.ravel(part.subplots(1, len(zs), squeeze=False, sharey=True))
    part.suptitle(title, fontsize=12)
    for axes, depth in zip(grid, zs, strict=True):
        slice_ = points[points[z] == depth]
        values = slice_.pivot(index=y, columns=x, values="mean").reindex(index=ys, columns=xs).to_numpy(dtype=float)
        picture = axes.imshow(values, origin="lower", cmap="cividis", norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            shade = "black" if np.isnan(value) else ink(picture.cmap(picture.norm(value)))
            axes.text(column, row, "no text" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=10, color=shade)
        if depth == best[z]:
            corner = (xs.index(best[x]) - 0.47, ys.index(best[y]) - 0.47)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor="none", edgecolor=BEST, linewidth=2.5))
        axes.set_xticks(range(len(xs)), [f"{value:.3g}" for value in xs], fontsize=9)
        axes.set_yticks(range(len(ys)), [f"{value:.3g}" for value in ys], fontsize=9)
        axes.grid(False)
        axes.set_title(f"{objectives[2]} {depth:.3g}", fontsize=10)
    grid[0].set_ylabel(f"weight of {objectives[1]}")
    grid[len(zs) // 2].set_xlabel(f"weight of {objectives[0]}")
    part.colorbar(picture, ax=list(grid), label="mean score")


def cubes_alt(table: pd.DataFrame, objectives: Sequence[str], what: str) -> str:
    """What `cubes` shows: the first and the last level, their best points and how far their means reach."""
    rows = table[(table["what"] == what) & (table["note"] != DEGENERATE)]
    mixed = "hidden states" if what == "hidden" else what
    parts = []
    for level in sorted({rows["level"].min(), rows["level"].max()}):
        points = rows[rows["level"] == level].reset_index(drop=True)
        best = points.loc[int(points["mean"].argmax())]
        best_weights = ", ".join(f"{name} {number(float(best[f'w_{name}']))}" for name in objectives)
        reach = f"{number(points['mean'].min())} to {number(points['mean'].max())}"
        parts.append(f"level {level}: {len(points)} points with means from {reach}, the best, in a red frame, at {best_weights}")
    return f"Cubes of weights cut into slices, every point with its mean score, where {mixed} are mixed on tiny; {'; '.join(parts)}."


@readable
def paper_and_ours(table: pd.DataFrame) -> Figure:
    """Mean scores by method: the paper's beside ours, one marker a source, each with one standard deviation.

    Columns: method, source, mean, std. Sources differ in model, data and rewards: compare orders and distances, not heights.
    """
    need(table, ["method", "source", "mean", "std"], "paper_and_ours")
    sources = list(dict.fromkeys(table["source"]))
    methods = list(dict.fromkeys(table["method"]))
    styles_by_name = styles(sources) | {name: style for name, style in SOURCE_STYLE.items() if name in sources}
    figure, (axes,) = panels(1, width=WIDTH, height=1.1 + 0.17 * (len(sources) + 1) * len(methods))
    step = 0.8 / len(sources)
    for i in range(0, len(methods), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="0.94", zorder=0)  # which markers belong together
    for position, source in enumerate(sources):
        rows = table[table["source"] == source]
        y = [methods.index(m) + (position - (len(sources) - 1) / 2) * step for m in rows["method"]]
        style = styles_by_name[source]
        axes.errorbar(
            rows["mean"],
            y,
            xerr=rows["std"].fillna(0),
            fmt=style.marker,
            color=style.color,
            markeredgecolor="black",
            markersize=7,
            capsize=4,
            label=source,
        )
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    name_axes(axes, "mean score (± 1 standard deviation over seeds)", "")
    figure.legend(loc="outside upper center", ncols=2)
    return describe(figure, paper_and_ours_alt(table))


def paper_and_ours_alt(table: pd.DataFrame) -> str:
    """What `paper_and_ours` shows: every mean by source."""
    parts = []
    for source, group in table.groupby("source", sort=False):
        parts.append(f"{source}: " + ", ".join(f"{m} {number(v)}" for m, v in zip(group["method"], group["mean"], strict=True)))
    return f"Mean score with one standard deviation, one marker a source and method. {'; '.join(parts)}."
