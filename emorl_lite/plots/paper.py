"""The paper's figures that need a drawing of their own, each from a table."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch, Rectangle

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number
from emorl_lite.plots.style import DATA_POINTS, THOUSANDS, Style, describe, ink, name_axes, need, panels, readable, styles
from emorl_lite.search.score_table import DEGENERATE
from emorl_lite.study.consumed import LONGEST, SEARCHED, SUM, labelled
from emorl_lite.study.facts import METHODS

WIDTH = 6.4
"""Inches: about 700 pixels, what a notebook's column shows without shrinking it."""

BEST = (0.85, 0.0, 0.0)
"""The frame of a best point."""
COUNTED = {SUM: "s", LONGEST + SEARCHED: "D", SUM + SEARCHED: "v"}
"""Markers of ways to count; the longest run has the method's own."""
SPELLED = {"hierarchical": "hierarchical search", "bayesian": "Bayesian optimisation", "random": "random weights"}
"""Searches as a title has them."""
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


def _shorter(value: float) -> str:
    """The same for a narrower place: 18,333 as "18 k"."""
    return f"{value / 1000:.0f} k" if 10_000 <= value < 1_000_000 else _short(value)


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
    """One search over weights (the paper's cube figures): all points of all levels in the cube, then two levels in numbers.

    The cube: colour is the mean score, on one scale; the levels before the last are faint, and smaller from level to level. Below it the
    first and the last level, each with a colour scale of its own, cut into slices so that every score can be read: a panel for each weight
    of the third objective. Red marks a best point. Columns: what, level, w_<objective>, mean, note.
    """
    need(table, ["what", "level", "mean", "note"], "cubes")
    chosen = table[(table["what"] == what) & (table["note"] != DEGENERATE)]
    if chosen.empty or len(objectives) != 3:
        raise UserError(f"figure cubes: the table has no search over {what!r} with three objectives")
    need(chosen, [f"w_{name}" for name in objectives], "cubes")
    levels = sorted({int(chosen["level"].min()), int(chosen["level"].max())})
    heights = [4.0, *[2.25] * len(levels)]
    figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)), layout="constrained")
    cube, *rows = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _cloud(cube, chosen, objectives)
    for part, level in zip(rows, levels, strict=True):
        _slices(part, chosen[chosen["level"] == level], objectives, f"level {level}")
    frame = Patch(facecolor="none", edgecolor=BEST, linewidth=2.5, label="the level's best point")
    figure.legend(handles=[frame], loc="outside lower center")
    return describe(figure, cubes_alt(table, objectives, what))


def _cloud(part: Any, points: pd.DataFrame, objectives: Sequence[str]) -> None:
    """Every point of a search in the cube of weights, the levels before the last one faint."""
    axes: Any = part.add_subplot(projection="3d", computed_zorder=False)  # Axes3D; the best point is drawn last
    norm, last = Normalize(points["mean"].min(), points["mean"].max()), int(points["level"].max())
    levels = sorted(points["level"].astype(int).unique().tolist())
    for level in levels:
        group, faint = points[points["level"] == level], level < last
        size = 90 * 0.7 ** (level - levels[0])
        edge = {"edgecolor": "0.4" if faint else "black", "linewidth": 0.4 if faint else 0.8, "depthshade": False, "cmap": "cividis"}
        look = {"alpha": 0.7, "s": size} if faint else {"s": 26}
        place = [group[f"w_{name}"] for name in objectives]
        dots = axes.scatter(*place, c=group["mean"], norm=norm, zorder=2 + level, **edge, **look)
    best = points.iloc[int(points["mean"].argmax())]
    star = {"marker": "*", "s": 300, "facecolor": "none", "edgecolor": BEST, "linewidth": 1.8, "depthshade": False, "zorder": 20}
    axes.scatter(*[[best[f"w_{name}"]] for name in objectives], **star)
    for axis, name in zip("xyz", objectives, strict=True):
        getattr(axes, f"set_{axis}lim")(0, 1)
        getattr(axes, f"set_{axis}ticks")([0, 0.5, 1])
        getattr(axes, f"set_{axis}label")(f"weight of {name}")
    axes.tick_params(labelsize=9)
    axes.set_box_aspect(None, zoom=0.98)  # room for the labels
    part.colorbar(dots, ax=axes, label="mean score, all levels", shrink=0.75, pad=0.12)
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=9, color="0.6", alpha=0.6, label="earlier levels, the first the largest"),
        Line2D([], [], linestyle="", marker="o", markersize=6, color="0.6", markeredgecolor="black", label=f"level {last}"),
        Line2D([], [], linestyle="", marker="*", markersize=13, markerfacecolor="none", markeredgecolor=BEST, label="the best of all"),
    ]
    part.legend(handles=marks if len(levels) > 1 else marks[1:], loc="outside upper center", ncols=3, fontsize=9)


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
    """What `cubes` shows: for every level its best point and how far its means reach."""
    rows = table[(table["what"] == what) & (table["note"] != DEGENERATE)]
    mixed = "hidden states" if what == "hidden" else what
    parts = []
    for level, points in rows.groupby("level"):
        place = int(points["mean"].argmax())
        best_weights = ", ".join(f"{name} {number(float(points[f'w_{name}'].iloc[place]))}" for name in objectives)
        parts.append(f"level {level}: {counted(len(points), 'point')} with means {_reach(points['mean'])}, the best at {best_weights}")
    return (
        f"A cube of weights with the points of all levels, coloured by their mean score, where {mixed} are mixed; below it the first and "
        f"the last level cut into slices, every point with its mean score and the best one in a red frame. {'; '.join(parts)}."
    )


def _reach(values: pd.Series[float]) -> str:
    """ "from 0.20 to 0.35"."""
    return f"from {number(values.min())} to {number(values.max())}"


@readable
def measured_costs(table: pd.DataFrame, shortfalls: Sequence[float] = (0.1, 0.05, 0.01)) -> Figure:
    """How many points a search lists until it comes near a known optimum: the measured side of `cost_surfaces`, Bayesian search too.

    A panel of numbers a search on one logarithmic colour scale: objectives d across, allowed shortfalls (shares of the optimum) up. A
    number is the median over runs, below it the quartiles; "> 80" and "not reached": half of the runs or more had listed so many in vain.
    Columns: search, d, shortfall, evaluations, reached.
    """
    need(table, ["search", "d", "shortfall", "evaluations", "reached"], "measured_costs")
    table = table[table["shortfall"].isin(shortfalls)]
    need(table, ["search"], "measured_costs")
    searches, d = list(dict.fromkeys(table["search"])), sorted(table["d"].unique())
    rows_up = sorted(table["shortfall"].unique(), reverse=True)
    figure = Figure(figsize=(WIDTH, 0.7 + (0.5 + 0.42 * len(rows_up)) * len(searches)), layout="constrained")
    grid = list(np.ravel(figure.subplots(len(searches), 1, squeeze=False, sharex=True)))
    norm = LogNorm(1, max(float(table["evaluations"].max()), 2.0))
    for axes, search in zip(grid, searches, strict=True):
        runs = table[table["search"] == search].groupby(["shortfall", "d"])
        found, reached = runs["evaluations"].quantile([0.25, 0.5, 0.75]).unstack(), runs["reached"].mean()
        medians = found[0.5].unstack("d").reindex(index=rows_up, columns=d)
        picture = axes.imshow(medians, origin="lower", cmap="cividis", norm=norm, aspect="auto")
        for (y, short), (x, k) in itertools.product(enumerate(rows_up), enumerate(d)):
            if (short, k) in found.index:
                low, middle, high = found.loc[(short, k)]
                missed = reached[(short, k)] <= 0.5
                spread = f"\n{_shorter(low)} to {_shorter(high)}" if low < high else ""
                told = f"> {_short(middle)}\nnot reached" if missed else f"{_short(middle)}{spread}"
                axes.text(x, y, told, ha="center", va="center", fontsize=10, color=ink(picture.cmap(picture.norm(middle))))
        axes.set_xticks(range(len(d)), [str(k) for k in d])
        axes.set_yticks(range(len(rows_up)), [f"{100 * short:g} %" for short in rows_up])
        axes.grid(False)
        axes.set_title(SPELLED.get(str(search), str(search)))
        name_axes(axes, "objectives d" if axes is grid[-1] else "", "shortfall")
    figure.colorbar(picture, ax=grid, label="points listed, median over runs", shrink=0.85)
    return describe(figure, measured_costs_alt(table))


def measured_costs_alt(table: pd.DataFrame) -> str:
    """What `measured_costs` shows: every search's medians at the largest and the smallest shortfall."""
    ends = list(dict.fromkeys([table["shortfall"].max(), table["shortfall"].min()]))
    parts = []
    for search, rows in table.groupby("search", sort=False):
        said = []
        for short in ends:
            at = rows[rows["shortfall"] == short].groupby("d").agg(evaluations=("evaluations", "median"), reached=("reached", "mean"))
            counts = [
                f"{'more than ' if row.reached <= 0.5 else ''}{number(row.evaluations, 0)} at d = {row.Index}" for row in at.itertuples()
            ]
            said.append(f"to within {100 * short:g} % {', '.join(counts)}")
        parts.append(f"{search}: {'; '.join(said)}")
    return (
        "A table of numbers for each search, coloured on one logarithmic scale, over objectives and the shortfall from the optimum that is "
        f"allowed: points listed until then, the median over runs with quartiles. {'. '.join(parts)}."
    )


@readable
def paper_consumption(paper: pd.DataFrame, sources: Mapping[str, pd.DataFrame]) -> Figure:
    """Data points against mean score, a panel for the paper and one for each of `sources` (the paper's figure 2).

    Ellipses are one standard deviation each way, small markers single seeds. EMORL and the soups stand at as many places as there are ways
    to count: by their longest run (as their own marker), by the sum of their runs (another), for EMORL with its search, too.
    `paper`: method, data_points, data_points_std, mean, mean_std. `sources`: rows of method, accounting, seed, data_points, mean.
    """
    need(paper, ["method", "data_points", "data_points_std", "mean", "mean_std"], "paper_consumption")
    for spent in sources.values():
        need(spent, ["method", "accounting", "seed", "data_points", "mean"], "paper_consumption")
    names = list(dict.fromkeys([*paper["method"], *(label for spent in sources.values() for label in labelled(spent)["method"])]))
    look = {name: _counted_style(name) for name in names}
    figure = Figure(figsize=(WIDTH, 1.3 + 2.7 * (1 + len(sources))), layout="constrained")
    grid = list(np.ravel(figure.subplots(1 + len(sources), 1, squeeze=False, sharey=True)))
    for row in paper.to_dict("records"):
        spreads = (float(row["data_points_std"]), float(row["mean_std"]))
        _spot(grid[0], look[row["method"]], (float(row["data_points"]), float(row["mean"])), spreads)
    grid[0].set_title("the paper")
    for axes, (source, spent) in zip(grid[1:], sources.items(), strict=False):
        for name, runs in labelled(spent).groupby("method", sort=False):
            spreads = (float(runs["data_points"].std()), float(runs["mean"].std())) if len(runs) > 1 else (0.0, 0.0)
            axes.scatter(runs["data_points"], runs["mean"], color=look[str(name)].color, marker=look[str(name)].marker, s=14, alpha=0.6)
            _spot(axes, look[str(name)], (float(runs["data_points"].mean()), float(runs["mean"].mean())), spreads)
        axes.set_title(source)
    for axes in grid:
        axes.xaxis.set_major_formatter(THOUSANDS)
        axes.margins(x=0.06, y=0.1)
        axes.set_ylabel("mean score")
    grid[-1].set_xlabel(DATA_POINTS)
    shown = sorted((name for name in names if f"{name} ({LONGEST})" not in names), key=_spelled)
    dots = [Line2D([], [], linestyle="", marker=look[n].marker, color=look[n].color, markeredgecolor="black", markersize=8) for n in shown]
    twice = {name: f"{_spelled(name)}; the paper's" if f" ({LONGEST})" in name else _spelled(name) for name in shown}
    dots += [Line2D([], [], linestyle="", marker="o", color="0.5", markersize=size, alpha=alpha) for size, alpha in ((4, 0.8), (16, 0.3))]
    told = [*twice.values(), "one seed", "± one standard deviation"]
    figure.legend(dots, told, loc="outside upper center", ncols=2, fontsize=9)
    return describe(figure, paper_consumption_alt(paper, sources))


def _spot(axes: Axes, style: Style, at: tuple[float, float], spreads: tuple[float, float]) -> None:
    """A mean with its ellipse."""
    size = (2 * spreads[0], 2 * spreads[1])
    if all(size):
        axes.add_patch(Ellipse(at, *size, facecolor=style.color, edgecolor=style.color, alpha=0.2))
    elif any(size):
        axes.errorbar(*at, xerr=spreads[0] or None, yerr=spreads[1] or None, color=style.color, capsize=3)
    axes.scatter(*at, color=style.color, marker=style.marker, s=80, edgecolor="black", zorder=5)


def _counted_style(name: str) -> Style:
    """The style of a method counted in one way: its colour is the method's, its marker tells the way."""
    method, _, way = name.partition(" (")
    style = styles([method])[method]
    return style._replace(marker=COUNTED.get(way.rstrip(")"), style.marker))


def _spelled(name: str) -> str:
    """ "exact-average (sum of runs)" as "Model soups, sum of runs"; a method of the paper without a way of counting: as published."""
    method, _, way = name.partition(" (")
    return METHODS.get(method, method) + (f", {way.rstrip(')')}" if way else "")


def paper_consumption_alt(paper: pd.DataFrame, sources: Mapping[str, pd.DataFrame]) -> str:
    """What `paper_consumption` shows: every mean, panel by panel."""
    panels_ = {"the paper": paper} | {source: labelled(spent) for source, spent in sources.items()}
    parts = []
    for source, rows in panels_.items():
        means = rows.groupby("method", sort=False)[["data_points", "mean"]].mean()
        said = [f"{_spelled(str(name))} {number(row['data_points'], 0)} and {number(row['mean'])}" for name, row in means.iterrows()]
        parts.append(f"{source}: {'; '.join(said)}")
    return (
        "Scatter of data points against mean score, with ellipses of one standard deviation each way, a panel for the paper and for each "
        f"of our sources. Data points and score: {'. '.join(parts)}."
    )


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
