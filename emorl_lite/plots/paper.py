"""The paper's figures that need a drawing of their own, each from a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import number
from emorl_lite.plots.style import name_axes, need, panels, readable, styles
from emorl_lite.search.score_table import DEGENERATE


@readable
def task_example(statement: str, replies: pd.DataFrame, objectives: Sequence[str]) -> Figure:
    """The task: a client's statement, replies to it, and each reply's scores as bars (the paper's figure 1).

    `replies` columns: method, reply, and one per objective in [0, 1].
    """
    need(replies, ["method", "reply", *objectives], "task_example")
    n = len(replies)
    figure = Figure(figsize=(9.6, 1.3 + 1.05 * n), layout="constrained")
    grid = figure.subplots(n, 2, width_ratios=[2.6, 1], squeeze=False)
    figure.suptitle("Client: " + textwrap.fill(statement, 95), x=0.01, ha="left", fontsize=11, style="italic")
    styles_by_name = styles(objectives)
    for (text, bars), row in zip(grid, replies.to_dict("records"), strict=True):
        text.set_axis_off()
        text.text(0, 0.95, row["method"], fontsize=11, fontweight="bold", va="top")
        text.text(0, 0.62, textwrap.fill(str(row["reply"]), 78), fontsize=11, va="top")
        values = [float(row[name]) for name in objectives]
        bars.barh(range(len(values)), values, color=[styles_by_name[name].color for name in objectives], edgecolor="black", linewidth=0.5)
        bars.set_yticks(range(len(values)), objectives)
        bars.invert_yaxis()
        bars.set_xlim(0, 1)
        for position, value in enumerate(values):
            bars.text(min(value + 0.02, 0.86), position, f"{value:.2f}", va="center", fontsize=9)
    return figure


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

    Two panels of numbers on one logarithmic colour scale: objectives d across, levels (last spacing 2^-levels) up.
    """
    if not len(d) or not len(levels):
        raise UserError("figure cost_surfaces: no objectives or no levels")
    counts = {
        "hierarchical: 3^d points a level": np.array([[level * 3**k for k in d] for level in levels], dtype=float),
        "full grid: (2^levels + 1)^d points": np.array([[(2**level + 1) ** k for k in d] for level in levels], dtype=float),
    }
    figure, grid = panels(2, width=4.9, height=4.0, sharey=True)
    top = max(values.max() for values in counts.values())
    for axes, (title, values) in zip(grid, counts.items(), strict=True):
        picture = axes.imshow(np.log10(values), origin="lower", cmap="cividis", vmin=0, vmax=np.log10(top), aspect="auto")
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                dark = np.log10(value) < 0.55 * np.log10(top)
                axes.text(
                    x,
                    y,
                    f"{value:,.0f}" if value < 1e5 else f"{value:.0e}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        axes.set_xticks(range(len(d)), [str(k) for k in d])
        axes.set_yticks(range(len(levels)), [str(level) for level in levels])
        axes.grid(False)
        axes.set_title(title)
        name_axes(axes, "objectives d", "levels" if axes is grid[0] else "")
    figure.colorbar(picture, ax=grid, label="log10 of evaluations", shrink=0.85)
    return figure


@readable
def cubes(table: pd.DataFrame, objectives: Sequence[str], what: str) -> Figure:
    """The first and the last level of one search (the paper's cube figures). Columns: what, level, w_<objective>, mean, note."""
    from emorl_lite.plots.search import search_levels

    need(table, ["what", "level", "mean", "note"], "cubes")
    chosen = table[table["what"] == what]
    if chosen.empty:
        raise UserError(f"figure cubes: the table has no search over {what!r}")
    figure: Figure = search_levels(chosen.reset_index(drop=True), objectives)
    return figure


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
        parts.append(f"level {level}: {len(points)} points with means from {reach}, the best, a star, at {best_weights}")
    return f"Scatter plots of weight vectors in the cube, coloured by mean score, where {mixed} are mixed on tiny; {'; '.join(parts)}."


@readable
def paper_and_ours(table: pd.DataFrame) -> Figure:
    """Mean scores by method: the paper's beside ours, one marker a source, each with one standard deviation.

    Columns: method, source, mean, std. Sources differ in model, data and rewards: compare orders and distances, not heights.
    """
    need(table, ["method", "source", "mean", "std"], "paper_and_ours")
    sources = list(dict.fromkeys(table["source"]))
    methods = list(dict.fromkeys(table["method"]))
    styles_by_name = styles(sources)
    figure, (axes,) = panels(1, width=7.2, height=0.9 + 0.62 * len(methods))
    for position, source in enumerate(sources):
        rows = table[table["source"] == source]
        y = [methods.index(m) + (position - (len(sources) - 1) / 2) * 0.22 for m in rows["method"]]
        style = styles_by_name[source]
        axes.errorbar(
            rows["mean"],
            y,
            xerr=rows["std"].fillna(0),
            fmt=style.marker,
            color=style.color,
            markeredgecolor="black",
            capsize=3,
            label=source,
        )
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    name_axes(axes, "mean score over objectives (± 1 standard deviation over seeds)", "")
    figure.legend(loc="outside upper center", ncols=len(sources))
    return figure


def paper_and_ours_alt(table: pd.DataFrame) -> str:
    """What `paper_and_ours` shows: every mean by source."""
    parts = []
    for source, group in table.groupby("source", sort=False):
        parts.append(f"{source}: " + ", ".join(f"{m} {number(v)}" for m, v in zip(group["method"], group["mean"], strict=True)))
    return f"Mean score with one standard deviation, one marker a source and method. {'; '.join(parts)}."
