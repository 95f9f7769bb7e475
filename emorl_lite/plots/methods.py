"""Figures that compare methods, each from a table of the study. Intervals are 95 % over seeds, Student's, but for seeds in two heaps."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, listing, number, signed
from emorl_lite.plots.style import Style, describe, name_axes, need, panels, readable, styles
from emorl_lite.search.pareto import non_dominated
from emorl_lite.search.statistics import EQUAL, TWO_HEAPS
from emorl_lite.study.claims import GREEDY, SAMPLED, interval_of
from emorl_lite.study.comparison import best_by_level, objectives_of, on_front, with_intervals

DASHES: Any = (0, (1.2, 0.6))
"""Of an exact interval, where seeds lie in two heaps."""


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


@readable
def forest(table: pd.DataFrame, column: str, label: str, by: str = "method") -> Figure:
    """Mean and interval of a column for every method, the highest on top; small marks are the seeds.

    Columns: `by`, seed, and the column drawn. `label`: the column in words. Where seeds lie in two heaps the bar is dashed: the median's
    exact interval, at the coverage that so many seeds give it.
    """
    need(table, [by, "seed", column], "forest")
    measured = table.dropna(subset=[column])
    intervals = with_intervals(measured, column, [by]).sort_values("mean")
    names = intervals[by].tolist()
    styles_by_name = styles(table[by])
    figure, (axes,) = panels(1, width=7.0, height=0.28 * len(names) + 1.3)
    for position, row in enumerate(_records(intervals)):
        style = styles_by_name[names[position]]
        seeds = measured.loc[measured[by] == names[position], column]
        axes.scatter(seeds, [position] * len(seeds), marker="|", s=60, color=style.color, alpha=0.8)
        _bar(axes, position, row, style.color)
        axes.scatter(row["mean"], position, marker=style.marker, s=70, color=style.color, edgecolor="black", zorder=5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    name_axes(axes, label, "")
    axes.grid(axis="y", alpha=0.15)
    _legend_of_marks(figure, intervals)
    return describe(figure, forest_alt(table, column, label, by))


def _bar(axes: Axes, y: float, row: dict[str, Any], color: Any) -> None:
    """An interval; a dashed one where seeds lie in two heaps. `row`: of `with_intervals`."""
    low, high, line = ("exact_low", "exact_high", DASHES) if row["shape"] == TWO_HEAPS else ("low", "high", "-")
    axes.plot([row[low], row[high]], [y, y], color=color, linewidth=3, alpha=0.5, linestyle=line)


def _legend_of_marks(figure: Figure, intervals: pd.DataFrame) -> None:
    """What the marks of a forest mean, above it; and room beside the names."""
    figure.set_layout_engine("constrained", w_pad=0.1)
    grey: Any = {"color": "0.4", "linestyle": "none"}
    marks = [
        Line2D([], [], marker="o", markeredgecolor="black", label="mean", **grey),
        Line2D([], [], color="0.4", linewidth=3, alpha=0.5, label="95 % interval over seeds"),
        Line2D([], [], marker="|", markersize=9, label="one seed", **grey),
    ]
    if len(apart := intervals[intervals["shape"] == TWO_HEAPS]):
        label = f"two heaps: {100 * apart['coverage'].iloc[0]:.4g} % for the median"
        marks.append(Line2D([], [], color="0.4", linewidth=3, alpha=0.5, linestyle=DASHES, label=label))
    figure.legend(handles=marks, loc="outside upper center", ncols=min(len(marks), 3) if len(marks) < 4 else 2)


def forest_alt(table: pd.DataFrame, column: str, what: str, by: str = "method") -> str:
    """What `forest` shows: every mean, from the top down. `what` names the column in words."""
    means = table.dropna(subset=[column]).groupby(by)[column].mean().sort_values(ascending=False, kind="stable")
    return f"Dot plot, {what}: means over seeds with intervals, from the highest down: {_listed(means)}."


@readable
def fronts(
    sweep: pd.DataFrame, methods: Sequence[str], exact: pd.DataFrame | None = None, exact_of: str = "emorl", seed: int = 0
) -> Figure:
    """What each method can reach, two objectives at a time, for one seed: the sweep's settings, and what those on the front reach as steps.

    The front is chosen on validation prompts, in all objectives (`on_front`); its settings are full markers, the others pale. The method
    reaches what lies below and left of the steps. Columns: method, seed, w_<objective>, <objective>, and to choose by
    validation_<objective>. `exact`: fronts of exact maps; that of `exact_of` is drawn as small dots.
    """
    names = objectives_of(sweep)
    need(sweep, ["method", "seed", *names], "fronts")
    sweep = sweep[(sweep["seed"] == seed) & sweep["method"].isin(methods)]
    need(sweep, [], "fronts")
    styles_by_name = styles(methods)
    figure, grid, corner = _pairs(names)
    for axes, (a, b) in grid.items():
        if exact is not None and len(exact):
            rows = exact[(exact["method"] == exact_of) & (exact["seed"] == seed)]
            axes.scatter(rows[a], rows[b], marker=".", s=16, color="0.6", label=f"{exact_of}, every setting's front")
        for method in methods:
            asked = sweep[sweep["method"] == method]
            if asked.empty:
                continue
            style, chosen = styles_by_name[method], on_front(asked, names)
            points, others = chosen[[a, b]].to_numpy(), asked.drop(chosen.index)
            axes.scatter(others[a], others[b], color=style.color, marker=style.marker, s=18, alpha=0.2)
            front = np.unique(points[non_dominated(points)], axis=0)
            if len(front) > 1:
                axes.step(front[:, 0], front[:, 1], where="pre", color=style.color, linestyle=style.linestyle, linewidth=1.5)
            axes.scatter(points[:, 0], points[:, 1], color=style.color, marker=style.marker, s=30, alpha=0.8, label=method)
        name_axes(axes, f"{a} score", f"{b} score")
    handles, labels = next(iter(grid)).get_legend_handles_labels()
    steps = Line2D([], [], color="0.4", linewidth=1.5)
    corner.legend([*handles, steps], [*labels, "reached by the front"], loc="center", fontsize=11)
    return describe(figure, fronts_alt(sweep, methods, exact_of if exact is not None and len(exact) else "", seed))


def _pairs(names: Sequence[str]) -> tuple[Figure, dict[Axes, tuple[str, str]], Axes]:
    """A figure with a panel for each pair of objectives, two a row, and an empty one for the legend."""
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    rows = len(pairs) // 2 + 1
    figure = Figure(figsize=(7.2, 3.1 * rows), layout="constrained")
    grid = list(np.ravel(figure.subplots(rows, 2, squeeze=False)))
    for axes in grid[len(pairs) :]:
        axes.set_axis_off()
    return figure, dict(zip(grid, pairs, strict=False)), grid[-1]


def fronts_alt(sweep: pd.DataFrame, methods: Sequence[str], exact_of: str = "", seed: int = 0) -> str:
    """What `fronts` shows: the methods, and how high each one's front gets in every objective. `exact_of`: whose exact front is drawn."""
    names = objectives_of(sweep)
    rows = sweep[(sweep["seed"] == seed) & sweep["method"].isin(methods)]
    best = {str(method): on_front(group, names)[names].max() for method, group in rows.groupby("method")}
    heights = "; ".join(f"{m} " + ", ".join(f"{n} {number(best[m][n])}" for n in names) for m in methods if m in best)
    stars = f" Small dots: the front of {exact_of}'s exact map." if exact_of else ""
    return (
        f"Scatter plots of each pair of objectives for seed {seed}: every setting of a method as a marker, pale if it is not on the front "
        f"that validation prompts choose, and what the front reaches as steps.{stars} The highest score on each method's front: {heights}."
    )


@readable
def decoding_cost(rows: pd.DataFrame) -> Figure:
    """The mean score of methods by the model calls that a generated token takes: a panel for each number of calls, a row a method.

    Columns: method, seed, calls_per_token, mean. Bars are intervals over seeds.
    """
    need(rows, ["method", "seed", "calls_per_token", "mean"], "decoding_cost")
    intervals = with_intervals(rows, "mean", ["method", "calls_per_token"])
    groups = [(int(str(calls)), group.sort_values("mean")) for calls, group in intervals.groupby("calls_per_token")]
    styles_by_name = styles(rows["method"])
    sizes = [len(group) for _, group in groups]
    figure = Figure(figsize=(7.0, 0.3 * sum(sizes) + 0.4 * len(groups) + 1.0), layout="constrained")
    grid = np.ravel(figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in sizes]))
    for axes, (calls, group) in zip(grid, groups, strict=True):
        for position, row in enumerate(_records(group)):
            style = styles_by_name[row["method"]]
            _bar(axes, position, row, style.color)
            axes.scatter(row["mean"], position, color=style.color, marker=style.marker, s=80, edgecolor="black", zorder=5)
        axes.set_yticks(range(len(group)), group["method"])
        axes.set_ylim(-0.7, len(group) - 0.3)
        axes.set_title(f"{counted(calls, 'model call')} for each token", loc="left")
        name_axes(axes, "mean score (bar: 95 % interval over seeds)" if axes is grid[-1] else "", "")
    figure.set_layout_engine("constrained", w_pad=0.1)
    return describe(figure, decoding_cost_alt(rows))


def decoding_cost_alt(rows: pd.DataFrame) -> str:
    """What `decoding_cost` shows: the methods and their mean scores, by the calls that a token takes."""
    means = rows.groupby(["calls_per_token", "method"])["mean"].mean()
    parts = [
        f"{counted(int(str(calls)), 'call')}: {_listed(group.droplevel(0).sort_values(ascending=False, kind='stable'))}"
        for calls, group in means.groupby(level=0)
    ]
    return f"Mean score, with its interval over seeds, against model calls for each generated token. {'. '.join(parts)}."


@readable
def aggregation_levels(levels: pd.DataFrame) -> Figure:
    """Where adapters are mixed, from the parameters to the probabilities: the mean score of weights chosen on validation prompts, and the
    mean over all weights.

    Columns: level, seed, w_<objective>, validation_mean, mean. Small marks are the seeds, bars the intervals; each panel has its own scale.
    """
    need(levels, ["level", "seed", "mean"], "aggregation_levels")
    table = best_by_level(levels)
    order = list(dict.fromkeys(table["level"]))[::-1]  # the earliest on top
    figure, grid = panels(2, width=3.6, height=0.36 * len(order) + 1.7, sharey=True)
    color = styles(["ensemble"])["ensemble"].color
    panels_of = {column: with_intervals(table, column, ["level"]) for column in ("best", "average")}
    for axes, column, title in zip(grid, panels_of, ("weights chosen on validation", "mean over all weights"), strict=True):
        by_level = {row["level"]: row for row in _records(panels_of[column])}
        for position, level in enumerate(order):
            row = by_level[level]
            seeds = table.loc[table["level"] == level, column]
            axes.scatter(seeds, [position] * len(seeds), marker="|", s=70, color="0.35")
            _bar(axes, position, row, color)
            axes.scatter(row["mean"], position, color=color, edgecolor="black", s=60, zorder=5)
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.7, len(order) - 0.3)
        axes.set_title(title)
        name_axes(axes, "mean score", "")
    _legend_of_marks(figure, pd.concat(panels_of.values()))
    return describe(figure, aggregation_levels_alt(levels))


def aggregation_levels_alt(levels: pd.DataFrame) -> str:
    """What `aggregation_levels` shows: both means of every level, in the order in which they are drawn."""
    table = best_by_level(levels)
    means = table.groupby("level", sort=False)[["best", "average"]].mean()
    parts = [f"{level} {number(row['best'])} and {number(row['average'])}" for level, row in means.iterrows()]
    return (
        "Mean score by place of aggregation, on the left with the weights chosen on validation, on the right averaged over all weights; "
        f"small marks are seeds, bars intervals over them. From top to bottom: {'; '.join(parts)}."
    )


@readable
def weight_sweep(sweep: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Does more weight give more? Each objective's score against its own weight, averaged over the other weights and the seeds.

    Columns: method, seed, w_<objective>, <objective>. Thin bars are the intervals over seeds, moved a little apart.
    """
    names = objectives_of(sweep)
    need(sweep, ["method", "seed", *names], "weight_sweep")
    styles_by_name = styles(methods)
    rows_of_panels = len(names) // 2 + 1
    figure = Figure(figsize=(7.2, 2.9 * rows_of_panels), layout="constrained")
    grid = list(np.ravel(figure.subplots(rows_of_panels, 2, squeeze=False)))
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        for position, method in enumerate(methods):
            rows = sweep[sweep["method"] == method]
            if rows.empty:
                continue
            rows = rows.assign(weight=rows[f"w_{name}"].round(6))
            means = rows.groupby(["seed", "weight"])[name].mean().reset_index()
            intervals = with_intervals(means, name, ["weight"]).sort_values("weight")
            style = styles_by_name[method]
            shifted = intervals["weight"] + 0.012 * (position - (len(methods) - 1) / 2)
            axes.vlines(shifted, intervals["low"], intervals["high"], color=style.color, alpha=0.5, linewidth=1.5)
            options: Any = {"color": style.color, "marker": style.marker, "linestyle": style.linestyle}
            axes.plot(shifted, intervals["mean"], label=method, **options)
        axes.set_ylim(-0.03, 1.03)  # an interval may reach further, a score cannot
        name_axes(axes, f"weight of {name}", f"{name} score")
    handles, labels = grid[0].get_legend_handles_labels()
    bar = Line2D([], [], color="0.4", linewidth=1.5, alpha=0.5)
    grid[-1].legend([*handles, bar], [*labels, "95 % interval over seeds"], loc="center", fontsize=11)
    return describe(figure, weight_sweep_alt(sweep, methods))


def weight_sweep_alt(sweep: pd.DataFrame, methods: Sequence[str]) -> str:
    """What `weight_sweep` shows: for every objective and method the mean score at the smallest and at the largest weight."""
    parts = []
    for name in objectives_of(sweep):
        ends = []
        for method in methods:
            rows = sweep[sweep["method"] == method]
            means = rows.groupby(rows[f"w_{name}"].round(6))[name].mean()
            if len(means):
                ends.append(f"{method} {number(means.iloc[0])} to {number(means.iloc[-1])}")
        parts.append(f"{name}: {', '.join(ends)}")
    return (
        "Each objective's score against its own weight, averaged over the other weights and the seeds, with bars over seeds; "
        f"from the smallest to the largest weight, {'; '.join(parts)}."
    )


@readable
def kl_trade_off(sweep: pd.DataFrame, rows: pd.DataFrame | None = None, points: Sequence[str] = ()) -> Figure:
    """Mean score of sampled replies against their distance from the base model, along each method's strength; means over seeds.

    Columns of `sweep`: method, seed, strength, kl (nats a reply), sampled_mean. `rows`: single policies to mark, by the names in `points`.
    """
    need(sweep, ["method", "seed", "strength", "kl", "sampled_mean"], "kl_trade_off")
    measured = sweep.dropna(subset=["strength", "kl"])
    if measured.empty:
        raise UserError("figure kl_trade_off: no method with a strength in the table")
    methods = list(dict.fromkeys(measured["method"]))
    styles_by_name = styles([*methods, *points])
    figure, (axes,) = panels(1, width=6.4, height=5.0)
    for method in methods:
        by_strength = measured[measured["method"] == method].groupby("strength")[["kl", "sampled_mean"]]
        style, mean = styles_by_name[method], by_strength.mean()
        axes.plot(mean["kl"], mean["sampled_mean"], color=style.color, marker=style.marker, linestyle=style.linestyle, label=method)
        _crosses(axes, mean, by_strength.sem() if measured["seed"].nunique() > 1 else None, style.color)
    for name in points:
        own_rows = rows[rows["method"] == name] if rows is not None else pd.DataFrame()
        if len(own_rows):
            style = styles_by_name[name]
            mean_point = own_rows[["kl", "sampled_mean"]].mean()
            axes.scatter(
                mean_point["kl"],
                mean_point["sampled_mean"],
                color=style.color,
                marker=style.marker,
                s=110,
                edgecolor="black",
                label=name,
                zorder=5,
            )
    if measured["seed"].nunique() > 1:
        axes.plot([], [], color="0.4", alpha=0.4, label="± one standard error")
    name_axes(axes, "KL(policy || base), nats a reply", "mean score of sampled replies")
    figure.legend(loc="outside upper center", ncols=3)
    return describe(figure, kl_trade_off_alt(sweep, rows if rows is not None else sweep.iloc[:0], points))


def kl_trade_off_alt(sweep: pd.DataFrame, rows: pd.DataFrame, points: Sequence[str]) -> str:
    """What `kl_trade_off` shows: where each line begins and ends, and where the single policies lie."""
    measured = sweep.dropna(subset=["strength", "kl"])
    parts = []
    for method, group in measured.groupby("method", sort=False):
        mean = group.groupby("strength")[["kl", "sampled_mean"]].mean().sort_values("kl")
        ends = [f"{number(kl, 1)} nats and {number(score)}" for kl, score in mean.to_numpy()[[0, -1]]]
        parts.append(f"a line for {method} from {ends[0]} to {ends[1]}")
    means = rows.groupby("method")[["kl", "sampled_mean"]].mean()
    for name in points:
        if name in means.index:
            parts.append(f"{name} at {number(float(means['kl'][name]), 1)} nats and {number(float(means['sampled_mean'][name]))}")
    return f"Mean score of sampled replies against KL from the base: {'; '.join(parts)}."


def _crosses(axes: Axes, mean: pd.DataFrame, error: pd.DataFrame | None, color: Any) -> None:
    """One standard error each way."""
    if error is not None:
        options: Any = {"fmt": "none", "ecolor": color, "alpha": 0.4}
        axes.errorbar(mean["kl"], mean["sampled_mean"], xerr=error["kl"], yerr=error["sampled_mean"], **options)


VERDICTS = {
    "holds": Style((0.1, 0.1, 0.1), "^", "-"),
    "open": Style((0.5, 0.5, 0.5), "X", "-"),
    "refuted": Style((0.75, 0.1, 0.1), "s", "-"),
}
"""How verdicts look; none in an objective's colour."""
REACH = 4.0
"""Half-widths of an interval that the figure of claims shows to either side; what lies further is an arrow at the edge."""


MARKS = {GREEDY: "o", SAMPLED: "s", "": "P"}
"""Marks by how replies were decoded; those sampled at equal KL have `AT_KL`. An empty name: both, or none were decoded."""
AT_KL = "D"
NOT_DECODED = "one number for both, or no replies"


@readable
def claims_figure(table: pd.DataFrame) -> Figure:
    """Each claim's number and interval against its threshold, in units of the interval's half-width; the number is written beside.

    Columns: claim, measure, nothing, mean, low, high, verdict; and as `examined` gives them source, decoding, holm, shape. One row a claim
    and measure, a mark for each way of decoding. Hollow: decided alone, open again after Holm's correction. Dashed: the median's exact
    interval, where seeds lie in two heaps. What lies beyond `REACH` half-widths is an arrow; an exact number has no half-width, and is an
    arrow too.
    """
    need(table, ["claim", "measure", "nothing", "mean", "low", "high", "verdict"], "claims")
    table = table[table["verdict"] != "not measured"]
    need(table, [], "claims")
    table = _with_defaults(table)
    labels, heights, ticks, headings = [], [], [], []
    height = 0.0
    for source, of_source in table.groupby("source", sort=False):
        if source:
            headings.append((height + 0.1, str(source)))
            height += 1.0
        for (claim, what), marks in of_source.groupby(["claim", "what"], sort=False):
            labels.append("\n".join([str(claim), *textwrap.wrap(f"{what}{_against(_records(marks)[0])}", 62)]))
            lines = max(len(marks), labels[-1].count("\n") + 1)
            ticks.append(height + (lines - 1) / 2)
            first = height + (lines - len(marks)) / 2
            heights += [(index, first + k) for k, index in enumerate(marks.index)]
            height += lines + 0.7
    figure, (axes,) = panels(1, width=7.2, height=0.17 * height + 1.5)
    figure.set_layout_engine("constrained", rect=(0, 0, 0.98, 1))
    for index, y in heights:
        _claim(axes, y, {str(key): value for key, value in table.loc[index].items()})
    for y, source in headings:
        axes.text(-REACH - 0.5, y, f"{source}:", ha="right", va="center", fontsize=9, fontweight="bold")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.set_xlim(-REACH - 0.4, REACH + 0.4)
    axes.set_xticks([-REACH, 0, REACH])
    axes.set_ylim(height, -0.8)
    name_axes(axes, "half-widths from the threshold", "")
    figure.legend(handles=_claim_marks(table), loc="outside upper center", ncols=3, fontsize=8.5)
    return describe(figure, claims_figure_alt(table))


def _with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """A table of claims with every column that the figure draws by: `what` is the measure without the way of decoding."""
    defaults: dict[str, Any] = {"source": "", "decoding": "", "shape": "", "holm": table["verdict"]}
    table = table.assign(**{key: value for key, value in defaults.items() if key not in table}).reset_index(drop=True)
    return table.assign(what=[row["measure"].removesuffix(f", {row['decoding']}") for row in _records(table)])


def _against(row: dict[str, Any]) -> str:
    """A threshold that is not 0, in words."""
    size = f"{row['nothing']:g}".replace("-", "−")
    return f", against {size}" if row["nothing"] else ""


def _claim(axes: Axes, y: float, row: dict[str, Any]) -> None:
    """One number of a claim at this height."""
    found = interval_of(row)
    reach = max(found["high"] - found["low"], 1e-9) / 2 if math.isfinite(found["low"]) else math.inf
    style, lost = VERDICTS[row["verdict"]], row["holm"] != row["verdict"]
    marker = MARKS.get(row["decoding"], AT_KL)
    face = "white" if lost else style.color
    options: Any = {"facecolor": face, "edgecolor": style.color if lost else "black", "s": 40, "zorder": 5}
    axes.text(REACH + 0.7, y, _found(row), va="center", fontsize=7.5)
    if not math.isfinite(reach):
        return  # a ratio of samples in two heaps: the number alone
    low, mean, high = ((found[key] - row["nothing"]) / reach for key in ("low", "mean", "high"))
    if abs(mean) > REACH:
        axes.scatter(math.copysign(REACH, mean), y, marker=">" if mean > 0 else "<", **options)
        return
    line: Any = DASHES if row["shape"] in (TWO_HEAPS, EQUAL) else "-"
    axes.plot([max(low, -REACH), min(high, REACH)], [y, y], color=style.color, linewidth=2.5, alpha=0.5, linestyle=line)
    axes.scatter(mean, y, marker=marker, **options)


def _claim_marks(table: pd.DataFrame) -> list[Line2D]:
    """What colours, marks and lines mean, of those that the table has."""
    grey: Any = {"color": "0.4", "linestyle": "none", "markeredgecolor": "black"}
    marks = [Line2D([], [], color=style.color, linewidth=5, label=name) for name, style in VERDICTS.items()]
    names = {decoding: AT_KL for decoding in table["decoding"] if decoding not in MARKS}
    shown = {MARKS[decoding]: decoding or NOT_DECODED for decoding in MARKS if (table["decoding"] == decoding).any()}
    shown |= {AT_KL: "sampled, at equal KL"} if names else {}
    if len(shown) > 1:
        marks += [Line2D([], [], marker=marker, label=name, **grey) for marker, name in shown.items()]
    marks.append(Line2D([], [], marker=">", label="further out", **grey))
    if (table["holm"] != table["verdict"]).any():
        hollow: Any = {"color": "white", "linestyle": "none", "markeredgecolor": "0.2"}
        marks.append(Line2D([], [], marker="o", label="open after Holm's correction", **hollow))
    if table["shape"].isin([TWO_HEAPS, EQUAL]).any():
        marks.append(Line2D([], [], color="0.4", linewidth=2.5, linestyle=DASHES, label="two heaps: median's exact interval"))
    return marks


def _found(row: dict[str, Any]) -> str:
    """A claim's number with the interval that its verdict rests on, in as many digits as its size asks for."""
    found = interval_of(row)
    digits = 0 if abs(found["high"] - found["low"]) > 20 else 2 if row["nothing"] == 1 else 3
    sign = number if row["nothing"] else signed
    text = sign(found["mean"], digits)
    if not math.isfinite(found["low"]):
        return f"{text}, no interval"
    return f"{text} [{sign(found['low'], digits)}, {sign(found['high'], digits)}]" if found["high"] > found["low"] else text


def claims_figure_alt(table: pd.DataFrame) -> str:
    """What `claims_figure` shows: which claims lie on which side of the line, and what Holm's correction leaves of it."""
    table = _with_defaults(table[table["verdict"] != "not measured"])
    sides = {"holds": "wholly to the right (holds)", "refuted": "wholly to the left (refuted)", "open": "across it (open)"}
    parts = []
    for verdict, where in sides.items():
        rows = _records(table[table["verdict"] == verdict])
        names = ", ".join(
            f"{row['claim']} ({row['measure']}{_against(row)}) {_found(row)}{'' if row['holm'] == verdict else ', hollow'}" for row in rows
        )
        parts.append(f"{len(rows)} {where}" + (f": {names}" if names else ""))
    return (
        "Every claim's estimate and interval against its threshold, a vertical line, in half-widths of the interval, what is further out "
        f"as an arrow at the edge; hollow marks are open again after Holm's correction. {'; '.join(parts)}."
    )


def consumption_alt(table: pd.DataFrame) -> str:
    """What `consumption_scatter` shows: where each method's mean lies. Columns: method, seed, data_points, mean."""
    means = table.groupby("method", sort=False)[["data_points", "mean"]].mean()
    parts = [f"{m} at {number(row['data_points'], 0)} data points and {number(row['mean'])}" for m, row in means.iterrows()]
    return (
        "Scatter of data points against mean score: a small marker a seed, a large one for the mean, with an ellipse of one standard "
        f"deviation each way. {listing(parts)}."
    )


def _listed(means: pd.Series[float]) -> str:
    """Names with their means."""
    return ", ".join(f"{name} {number(value)}" for name, value in means.items())
