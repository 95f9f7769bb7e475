"""Figures that teach PPO: the clip, the advantages of one reply, small runs beside each other, and a run's log. Each brings its own text.

All functions raise UserError if the table is empty or lacks a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emorl_lite.base.wording import listing, number, percent
from emorl_lite.plots.style import DATA_POINTS, Style, describe, name_axes, need, panels, readable, styles

_SIGNS = {1: ("A = +1, a good token", "#0072b2", "-"), -1: ("A = −1, a bad token", "#c44601", "--")}
_RUNS = [
    Style((0.0, 0.0, 0.0), "o", "-"),
    Style((0.0, 0.447, 0.698), "s", "--"),
    Style((0.77, 0.27, 0.004), "^", "-."),
    Style((0.416, 0.239, 0.604), "v", ":"),
    Style((0.0, 0.48, 0.36), "D", (0, (8, 1.5))),
    Style((0.65, 0.35, 0.55), "P", (0, (3, 1, 1, 1))),
]
"""Looks of small runs, in order."""
LOG_COLUMNS = {
    "clipfrac": "clip fraction",
    "entropy": "entropy (nats a token)",
    "explained_variance": "explained variance",
    "approx_kl": "KL of old to new policy (nats a token)",
    "kl": "KL to the base (nats a reply)",
    "first_ratio": "first ratio, distance from 1",
}
"""Columns of a run's log that an engineer reads, and how their panels are named."""


@readable
def clip_cases(curves: pd.DataFrame, epsilon: float) -> Figure:
    """PPO's clipped loss of one token against its ratio, and the loss's gradient on the token's log-probability; a line a sign of A.

    Columns: advantage (+1 or -1), ratio, loss, gradient.
    """
    need(curves, ["advantage", "ratio", "loss", "gradient"], "clip_cases")
    figure, (left, right) = panels(2, width=4.6)
    for sign, (label, color, linestyle) in _SIGNS.items():
        one = curves[curves["advantage"] == sign]
        for axes, column in ((left, "loss"), (right, "gradient")):
            y = one[column].to_numpy().copy()
            jumps = np.flatnonzero(np.abs(np.diff(y)) > 0.3)
            x = np.insert(one["ratio"].to_numpy(), jumps + 1, np.nan)  # a jump is no line
            axes.plot(x, np.insert(y, jumps + 1, np.nan), color=color, linestyle=linestyle, linewidth=2.5, label=label)
    for axes in (left, right):
        axes.axvspan(1 - epsilon, 1 + epsilon, color="0.5", alpha=0.15, label=f"clip range, ε = {epsilon:g}")
        axes.axvline(1, color="0.4", linewidth=0.8)
        axes.axhline(0, color="0.4", linewidth=0.8)
    name_axes(left, "ratio ρ = π_θ / π_old", "loss of the token")
    name_axes(right, "ratio ρ = π_θ / π_old", "gradient on log π_θ")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    where = []
    for sign, name in ((1, "+1"), (-1, "−1")):
        flat = curves.loc[(curves["advantage"] == sign) & (curves["gradient"] == 0), "ratio"]
        where += [f"for A = {name} at ratios from {number(flat.min())} to {number(flat.max())}"] if len(flat) else []
    return describe(
        figure,
        f"Two panels against the ratio from {number(curves['ratio'].min())} to {number(curves['ratio'].max())}, a line for a good token "
        f"and one for a bad token. Left: the loss, a straight line that turns flat. Right: its gradient, which is 0 {listing(where)}, "
        "and minus the advantage times the ratio elsewhere.",
    )


@readable
def advantage_lines(tokens: Sequence[str], advantages: Mapping[float, Sequence[float]]) -> Figure:
    """The advantages A_t of one reply's tokens for several lambdas, one line each. `advantages`: lambda -> T numbers."""
    need(pd.DataFrame({str(lam): list(values) for lam, values in advantages.items()}), [], "advantage_lines")
    figure, (axes,) = panels(1, width=7.4, height=3.6)
    looks: list[dict[str, Any]] = [
        {"marker": "o", "linestyle": ":", "color": "#c44601"},
        {"marker": "s", "linestyle": "-", "color": "#000000"},
        {"marker": "^", "linestyle": "--", "color": "#0072b2"},
        {"marker": "D", "linestyle": "-.", "color": "#6a3d9a"},
    ]
    ends = {0.0: " (TD: δ alone)", 1.0: " (Monte Carlo)"}
    for position, (lam, values) in enumerate(advantages.items()):
        axes.plot(range(len(tokens)), values, **looks[position % len(looks)], label=f"λ = {lam:g}{ends.get(float(lam), '')}")
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xticks(range(len(tokens)), tokens, rotation=40, ha="right")
    name_axes(axes, "token", "advantage A")
    figure.legend(loc="outside upper center", ncols=len(advantages))
    spans = [f"λ = {lam:g} from {number(min(values))} to {number(max(values))}" for lam, values in advantages.items()]
    return describe(figure, f"Advantages of the {len(tokens)} tokens of one reply, a line for each λ: {listing(spans)}.")


@readable
def small_runs(log: pd.DataFrame, columns: Mapping[str, str], by: str = "run") -> Figure:
    """Logs of small runs against the samples they took: a panel for each of `columns` (column -> its name), a line for each run.

    Columns of `log`: `by` (what names a run), samples, seed, and `columns`. Seeds are drawn faint, their mean bold.
    """
    need(log, [by, "seed", "samples", *columns], "small_runs")
    figure, grid = panels(len(columns), width=min(5.0, 10.0 / len(columns)))
    names = list(dict.fromkeys(log[by]))
    looks = {name: _RUNS[position % len(_RUNS)] for position, name in enumerate(names)}
    for axes, (column, label) in zip(grid, columns.items(), strict=True):
        for name in names:
            runs, look = log[log[by] == name], looks[name]
            if runs["seed"].nunique() > 1:
                for _, run in runs.groupby("seed"):
                    axes.plot(run["samples"], run[column], color=look.color, alpha=0.3, linewidth=0.8)
            mean = runs.groupby("samples")[column].mean()
            line = {"color": look.color, "linestyle": look.linestyle, "marker": look.marker, "markevery": 0.2}
            axes.plot(mean.index, mean, **line, linewidth=2, label=name if len(names) > 1 else None)
        name_axes(axes, "samples", label)
    if len(names) > 1:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(names)))
    ends = log.groupby([by, "samples"], sort=False)[list(columns)].mean()
    parts = []
    for name in names:
        first, last = ends.loc[name].iloc[0], ends.loc[name].iloc[-1]
        moves = [f"{label} {number(first[column])} to {number(last[column])}" for column, label in columns.items()]
        parts.append(f"{name}: {', '.join(moves)}")
    return describe(figure, f"{len(columns)} panels against samples, mean of the seeds. First to last step: {'; '.join(parts)}.")


def _log_panel(axes: Axes, log: pd.DataFrame, column: str, window: int) -> None:
    looks = styles(log["objective"])
    for (name, _), run in log.groupby(["objective", "seed"], sort=False):
        look, x = looks[str(name)], run["episodes"]
        if column == "first_ratio":
            axes.scatter(x, run[column].clip(lower=1e-8), color=look.color, marker=look.marker, s=14, alpha=0.7, label=str(name))
            continue
        axes.plot(x, run[column], color=look.color, alpha=0.25, linewidth=0.8)
        line = {"color": look.color, "linestyle": look.linestyle, "marker": look.marker, "markevery": 0.25, "linewidth": 2}
        axes.plot(x, run[column].rolling(window, min_periods=1).mean(), **line, label=str(name))
    if column == "first_ratio":
        axes.set_yscale("log")
        axes.set_ylim(min(1e-7, float(log[column].clip(lower=1e-8).min()) / 2), 1.0)
        axes.axhline(0.01, color="0.3", linestyle="--", linewidth=1.2)
        axes.text(float(log["episodes"].max()), 0.013, "stops above .01 (float32)", ha="right", fontsize=9)
    if column == "explained_variance":
        axes.set_ylim(max(-1.0, float(log[column].min())) - 0.05, 1.05)
        axes.axhline(0, color="0.4", linewidth=0.8)


@readable
def run_log(log: pd.DataFrame, window: int = 8) -> Figure:
    """The numbers of a run's log that an engineer reads, a panel each (`LOG_COLUMNS`): steps faint, their mean over `window` steps bold.

    Columns: objective, seed, episodes, and those of LOG_COLUMNS; a row a step.
    """
    need(log, ["objective", "seed", "episodes", *LOG_COLUMNS], "run_log")
    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    grid = figure.subplots(2, 3, sharex=True)
    for axes, (column, label) in zip(grid.flat, LOG_COLUMNS.items(), strict=True):
        _log_panel(axes, log, column, window)
        axes.set_title(label, fontsize=11)
    for axes in grid[1]:
        name_axes(axes, DATA_POINTS, "")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return describe(figure, run_log_alt(log, window))


def run_log_alt(log: pd.DataFrame, window: int = 8) -> str:
    """What `run_log` shows: every number at both ends of every run. Columns as there."""
    parts = []
    for (name, _), run in log.groupby(["objective", "seed"], sort=False):
        first, last = run.head(window).mean(numeric_only=True), run.tail(window).mean(numeric_only=True)
        parts.append(
            f"{name}: clip fraction {percent(first['clipfrac'])} to {percent(last['clipfrac'])}, entropy {number(first['entropy'])} to "
            f"{number(last['entropy'])}, explained variance {number(first['explained_variance'])} to {number(last['explained_variance'])}, "
            f"KL to the base {number(first['kl'])} to {number(last['kl'])}, first ratio at most {run['first_ratio'].max():.1e} off 1"
        )
    return (
        "Six panels against data points, one curve a run: clip fraction, entropy, explained variance, KL between old and new policy, KL to "
        f"the base, first ratio. Mean of the first and of the last {window} steps at most: {'; '.join(parts)}."
    )
