"""Figures that compare methods, each from a table of the study. Intervals are 95 % over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, listing, number
from emorl_lite.plots.style import name_axes, need, panels, readable, styles
from emorl_lite.search.pareto import non_dominated
from emorl_lite.study.comparison import best_by_level, objectives_of, with_intervals


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


@readable
def forest(table: pd.DataFrame, column: str, label: str, by: str = "method") -> Figure:
    """Mean and interval of a column for every method, the highest on top; small marks are the seeds.

    Columns: `by`, seed, and the column drawn.
    """
    need(table, [by, "seed", column], "forest")
    measured = table.dropna(subset=[column])
    intervals = with_intervals(measured, column, [by]).sort_values("mean")
    names = intervals[by].tolist()
    styles_by_name = styles(table[by])
    figure, (axes,) = panels(1, width=7.0, height=0.32 * len(names) + 1.0)
    for position, row in enumerate(_records(intervals)):
        style = styles_by_name[names[position]]
        seeds = measured.loc[measured[by] == names[position], column]
        axes.scatter(seeds, [position] * len(seeds), marker="|", s=60, color=style.color, alpha=0.7)
        axes.plot([row["low"], row["high"]], [position, position], color=style.color, linewidth=2.5, alpha=0.6)
        axes.scatter(row["mean"], position, marker=style.marker, s=75, color=style.color, edgecolor="black", zorder=5)
    axes.set_yticks(range(len(names)), names)
    name_axes(axes, label, "")
    axes.grid(axis="y", alpha=0.15)
    return figure


def forest_alt(table: pd.DataFrame, column: str, what: str, by: str = "method") -> str:
    """What `forest` shows: every mean, from the top down. `what` names the column in words."""
    means = table.dropna(subset=[column]).groupby(by)[column].mean().sort_values(ascending=False, kind="stable")
    return f"Dot plot of the {what}, means over seeds with intervals, from the highest down: {_listed(means)}."


@readable
def fronts(
    sweep: pd.DataFrame, methods: Sequence[str], exact: pd.DataFrame | None = None, exact_of: str = "emorl", seed: int = 0
) -> Figure:
    """What each method can reach, two objectives at a time, for one seed: all settings of the sweep, and their Pareto front as a line.

    Columns: method, seed, w_<objective>, <objective>. `exact`: fronts of exact maps; that of `exact_of` is drawn as small stars.
    """
    names = objectives_of(sweep)
    need(sweep, ["method", "seed", *names], "fronts")
    sweep = sweep[(sweep["seed"] == seed) & sweep["method"].isin(methods)]
    need(sweep, [], "fronts")
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    styles_by_name = styles(methods)
    figure, grid = panels(len(pairs), width=4.3, height=4.0)
    for axes, (a, b) in zip(grid, pairs, strict=True):
        if exact is not None and len(exact):
            rows = exact[(exact["method"] == exact_of) & (exact["seed"] == seed)]
            axes.scatter(rows[a], rows[b], marker="*", s=14, color="0.55", label=f"{exact_of}, exact map" if axes is grid[0] else None)
        for method in methods:
            points = sweep.loc[sweep["method"] == method, [a, b]].to_numpy()
            if not len(points):
                continue
            style = styles_by_name[method]
            front = np.unique(points[non_dominated(points)], axis=0)
            label = method if axes is grid[0] else None
            axes.plot(front[:, 0], front[:, 1], color=style.color, linestyle=style.linestyle, linewidth=1.5, alpha=0.8)
            axes.scatter(points[:, 0], points[:, 1], color=style.color, marker=style.marker, s=28, alpha=0.75, label=label)
        name_axes(axes, f"{a} score", f"{b} score")
    figure.legend(loc="outside upper center", ncols=min(5, len(methods) + 1))
    return figure


def fronts_alt(sweep: pd.DataFrame, methods: Sequence[str], exact_of: str = "", seed: int = 0) -> str:
    """What `fronts` shows: the methods, and how high each gets in every objective. `exact_of`: whose exact front is drawn as stars."""
    names = objectives_of(sweep)
    rows = sweep[(sweep["seed"] == seed) & sweep["method"].isin(methods)]
    best = {str(method): group[names].max() for method, group in rows.groupby("method")}
    heights = "; ".join(f"{m} " + ", ".join(f"{n} {number(best[m][n])}" for n in names) for m in methods if m in best)
    stars = f" Small stars: the front of {exact_of}'s exact map." if exact_of else ""
    return (
        f"Scatter plots of each pair of objectives for seed {seed}: every setting of a method as a marker, its Pareto front as a line."
        f"{stars} The highest score of each method's settings: {heights}."
    )


@readable
def decoding_cost(rows: pd.DataFrame) -> Figure:
    """Model calls a generated token against the mean score: one marker a method, with its interval over seeds.

    Columns: method, seed, calls_per_token, mean. Methods with equal calls are spread a little sideways.
    """
    need(rows, ["method", "seed", "calls_per_token", "mean"], "decoding_cost")
    intervals = with_intervals(rows, "mean", ["method", "calls_per_token"])
    styles_by_name = styles(rows["method"])
    figure, (axes,) = panels(1, width=8.2, height=max(4.6, 0.26 * rows["method"].nunique()))
    for calls, group in intervals.groupby("calls_per_token"):
        ordered = group.sort_values("mean")
        spread = np.linspace(-0.3, 0.3, len(ordered)) if len(ordered) > 1 else np.zeros(1)
        for shift, row in zip(spread, _records(ordered), strict=True):
            style = styles_by_name[row["method"]]
            x = float(np.asarray(calls)) + shift
            axes.plot([x, x], [row["low"], row["high"]], color=style.color, linewidth=2)
            axes.scatter(x, row["mean"], color=style.color, marker=style.marker, s=90, edgecolor="black", label=row["method"], zorder=5)
    axes.set_xticks(sorted({int(c) for c in intervals["calls_per_token"]}))
    name_axes(axes, "model calls for each generated token", "mean score over objectives")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


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

    Columns: level, seed, w_<objective>, validation_mean, mean. Thin lines are the seeds, bars the intervals.
    """
    need(levels, ["level", "seed", "mean"], "aggregation_levels")
    table = best_by_level(levels)
    order = list(dict.fromkeys(table["level"]))
    figure, grid = panels(2, width=5.2, height=4.4, sharey=True)
    for axes, column, title in zip(grid, ("best", "average"), ("weights chosen on validation", "mean over all weights"), strict=True):
        for _, group in table.groupby("seed"):
            values = group.set_index("level")[column].reindex(order)
            axes.plot(range(len(order)), values, color="0.7", linewidth=1, marker=".", markersize=4)
        intervals = with_intervals(table, column, ["level"])
        error: Any = [intervals["mean"] - intervals["low"], intervals["high"] - intervals["mean"]]
        options: Any = {"fmt": "o", "color": styles(["ensemble"])["ensemble"].color, "capsize": 3, "zorder": 5}
        axes.errorbar(range(len(order)), intervals["mean"], yerr=error, **options)
        axes.set_xticks(range(len(order)), order, rotation=40, ha="right")
        axes.set_title(title)
        name_axes(axes, "", "mean score over objectives" if axes is grid[0] else "")
    return figure


def aggregation_levels_alt(levels: pd.DataFrame) -> str:
    """What `aggregation_levels` shows: both means of every level, in the order in which they are drawn."""
    table = best_by_level(levels)
    means = table.groupby("level", sort=False)[["best", "average"]].mean()
    parts = [f"{level} {number(row['best'])} and {number(row['average'])}" for level, row in means.iterrows()]
    return (
        "Mean score by place of aggregation, on the left with the weights chosen on validation, on the right averaged over all weights; "
        f"thin lines are seeds, bars intervals over them. From left to right: {'; '.join(parts)}."
    )


@readable
def weight_sweep(sweep: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Does more weight give more? Each objective's score against its own weight, averaged over the other weights and the seeds.

    Columns: method, seed, w_<objective>, <objective>. Bands are the intervals over seeds.
    """
    names = objectives_of(sweep)
    need(sweep, ["method", "seed", *names], "weight_sweep")
    styles_by_name = styles(methods)
    figure, grid = panels(len(names), width=4.2, height=3.8)
    for axes, name in zip(grid, names, strict=True):
        for method in methods:
            rows = sweep[sweep["method"] == method]
            if rows.empty:
                continue
            rows = rows.assign(weight=rows[f"w_{name}"].round(6))
            means = rows.groupby(["seed", "weight"])[name].mean().reset_index()
            intervals = with_intervals(means, name, ["weight"]).sort_values("weight")
            style = styles_by_name[method]
            axes.fill_between(intervals["weight"], intervals["low"], intervals["high"], color=style.color, alpha=0.12, linewidth=0)
            label = method if axes is grid[0] else None
            axes.plot(
                intervals["weight"], intervals["mean"], color=style.color, marker=style.marker, linestyle=style.linestyle, label=label
            )
        axes.set_ylim(-0.03, 1.03)  # an interval may reach further, a score cannot
        name_axes(axes, f"weight of {name}", f"{name} score")
    figure.legend(loc="outside upper center", ncols=min(5, len(methods)))
    return figure


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
        "Each objective's score against its own weight, averaged over the other weights and the seeds, with bands over seeds; "
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
    figure, (axes,) = panels(1, width=6.6, height=4.4)
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
    name_axes(axes, "KL(policy || base), nats a reply", "mean score of sampled replies")
    figure.legend(loc="outside right upper")
    return figure


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


@readable
def claims_figure(table: pd.DataFrame) -> Figure:
    """Each claim's number and 95 % interval, in units of the interval's half-width (cut at 7), against its threshold.

    Columns: claim, measure, nothing, mean, low, high, verdict.
    """
    need(table, ["claim", "measure", "nothing", "mean", "low", "high", "verdict"], "claims")
    table = table[table["verdict"] != "not measured"]
    need(table, [], "claims")
    colors = {"holds": styles(["fluency"])["fluency"], "open": styles(["base"])["base"], "refuted": styles(["empathy"])["empathy"]}
    figure, (axes,) = panels(1, width=9.5, height=0.3 * len(table) + 1.0)
    for position, row in enumerate(_records(table[::-1])):
        reach = max(row["high"] - row["low"], 1e-9) / 2
        style = colors[row["verdict"]]
        low, mean, high = np.clip([(row[key] - row["nothing"]) / reach for key in ("low", "mean", "high")], -7, 7)
        axes.plot([low, high], [position, position], color=style.color, linewidth=2.5, alpha=0.6)
        axes.scatter(mean, position, marker=style.marker, color=style.color, edgecolor="black", s=60, zorder=5)
    axes.axvline(0, color="black", linewidth=1)
    labels = [f"{row['claim']}  [{row['measure']}]" for row in _records(table[::-1])]
    axes.set_yticks(range(len(table)), labels, fontsize=9)
    axes.set_xlim(-7.2, 7.2)
    for name, style in colors.items():
        axes.scatter([], [], marker=style.marker, color=style.color, edgecolor="black", s=60, label=name)
    name_axes(axes, "distance from the threshold, in half-widths of the interval", "")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def claims_figure_alt(table: pd.DataFrame) -> str:
    """What `claims_figure` shows: how many claims lie on which side of the line."""
    sides = {"holds": "wholly to the right (holds)", "refuted": "wholly to the left (refuted)", "open": "across it (open)"}
    parts = [f"{int((table['verdict'] == verdict).sum())} {where}" for verdict, where in sides.items()]
    return (
        "Every claim's estimate and interval against its threshold, a vertical line, in half-widths of the interval, cut at seven: "
        f"{listing(parts)}. The list below names them."
    )


def consumption_alt(table: pd.DataFrame) -> str:
    """What `plots.consumption_scatter` shows: where each method's mean lies. Columns: method, seed, data_points, mean."""
    means = table.groupby("method", sort=False)[["data_points", "mean"]].mean()
    parts = [f"{m} at {number(row['data_points'], 0)} data points and {number(row['mean'])}" for m, row in means.iterrows()]
    return (
        "Scatter of data points until the stopping rule holds against mean score: small markers are seeds, large ones means with an "
        f"ellipse of one standard deviation. {listing(parts)}."
    )


def _listed(means: pd.Series[float]) -> str:
    """Names with their means."""
    return ", ".join(f"{name} {number(value)}" for name, value in means.items())
