"""Figures about training and what it costs. Each is drawn from a table; `show` saves and displays it.

All functions raise UserError if the table is empty or lacks a column. Scores are in [0, 1]; "data points" are training prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, listing, number
from emorl_lite.plots.methods import consumption_alt
from emorl_lite.plots.style import DATA_POINTS, THOUSANDS, describe, name_axes, need, panels, readable, styles
from emorl_lite.readings.mixing import level_comparison_alt
from emorl_lite.search.score_table import weight_columns


@readable
def learning_curves(log: pd.DataFrame, window: int = 8) -> Figure:
    """Reward and KL of each run (objective, seed) against its data points: rollouts faint, their rolling mean over `window` steps bold.

    Columns: objective, seed, episodes, reward, kl (nats a reply), validation (NaN where there was none; hollow markers).
    """
    need(log, ["objective", "seed", "episodes", "reward", "kl", "validation"], "learning_curves")
    figure, (left, right) = panels(2, width=4.6)
    styles_by_name = styles(log["objective"])
    named: set[str] = set()
    for (name, _), run in log.groupby(["objective", "seed"], sort=False):
        style = styles_by_name[str(name)]
        for axes, column in ((left, "reward"), (right, "kl")):
            axes.plot(run["episodes"], run[column], color=style.color, alpha=0.25, linewidth=0.8)
            smooth = run[column].rolling(window, min_periods=1).mean()
            label = str(name) if str(name) not in named else None
            line = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markevery": 0.25, "linewidth": 2}
            axes.plot(run["episodes"], smooth, label=label, **line)
        checked = run.dropna(subset="validation")
        hollow: dict[str, Any] = {"marker": style.marker, "facecolor": "white", "edgecolor": [style.color], "zorder": 5}
        left.scatter(checked["episodes"], checked["validation"], **hollow)
        named.add(str(name))
    if log["validation"].notna().any():
        left.scatter([], [], marker="o", facecolor="white", edgecolor="black", label="validation, greedy")
    name_axes(left, DATA_POINTS, "reward, mean of a rollout")
    name_axes(right, DATA_POINTS, "KL to the base (nats a reply)")
    left.legend()
    right.legend()
    return describe(figure, learning_curves_alt(log, window))


def learning_curves_alt(log: pd.DataFrame, window: int = 8) -> str:
    """What `learning_curves` shows: reward at both ends, the last validation and the last KL of each run. Columns as there."""
    parts = []
    for (name, _), run in log.groupby(["objective", "seed"], sort=False):
        checks = run["validation"].dropna()
        parts.append(
            f"{name} from {number(run['reward'].iloc[0])} to {number(run['reward'].tail(window).mean())}"
            + (f", validation {number(checks.iloc[-1])} at its last check" if len(checks) else "")
            + f", KL {number(run['kl'].iloc[-1])} at the end"
        )
    validated = ", with hollow markers for greedy validation" if log["validation"].notna().any() else ""
    return (
        f"Two panels against data points, one curve a run. Left: sampled reward{validated}. Right: KL to "
        f"the base in nats a reply. Reward in the first step and its mean over the last {window} at most: {'; '.join(parts)}."
    )


@readable
def learning_bands(curves: pd.DataFrame, window: int = 4) -> Figure:
    """Reward and KL of each run against its data points over the seeds: the mean as a line, the range from the lowest seed as a band.

    Every seed's curve is the rolling mean over `window` steps. Hollow markers: greedy validation, the mean over the seeds.
    Columns: seed, run, episodes, reward, validation (NaN where there was none), kl (nats a reply).
    """
    need(curves, ["seed", "run", "episodes", "reward", "validation", "kl"], "learning_bands")
    figure, (left, right) = panels(2, width=4.6, height=4.2)
    styles_by_name = styles(curves["run"])
    for name, runs in curves.groupby("run", sort=False):
        style = styles_by_name[str(name)]
        for axes, column in ((left, "reward"), (right, "kl")):
            band = _band(runs, column, window)
            axes.fill_between(band.index, band["low"], band["high"], color=style.color, alpha=0.18, linewidth=0)
            line = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markevery": 0.25, "linewidth": 2}
            axes.plot(band.index, band["mean"], label=str(name) if axes is left else None, **line)
        checked = runs.dropna(subset="validation").groupby("episodes")["validation"].mean()
        hollow: dict[str, Any] = {"marker": style.marker, "facecolor": "white", "edgecolor": [style.color], "zorder": 5}
        left.scatter(checked.index, checked, **hollow)
    left.fill_between([], [], color="0.5", alpha=0.25, label="lowest to highest seed")
    if curves["validation"].notna().any():
        left.scatter([], [], marker="o", facecolor="white", edgecolor="black", label="validation, greedy")
    name_axes(left, DATA_POINTS, "reward, mean of a rollout")
    name_axes(right, DATA_POINTS, "KL to the base (nats a reply)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return describe(figure, learning_bands_alt(curves, window))


def _band(runs: pd.DataFrame, column: str, window: int) -> pd.DataFrame:
    """The rolling mean of each seed, over the seeds: mean, low and high by data points."""
    ordered = runs.sort_values(["seed", "episodes"], kind="stable")
    smooth = ordered.groupby("seed", sort=False)[column].transform(lambda values: values.rolling(window, min_periods=1).mean())
    seeds = ordered.assign(smooth=smooth).groupby("episodes")["smooth"]
    return pd.DataFrame({"mean": seeds.mean(), "low": seeds.min(), "high": seeds.max()})


def learning_bands_alt(curves: pd.DataFrame, window: int = 4) -> str:
    """What `learning_bands` shows: of each run the reward at both ends, the last validation and the last KL. Columns as there."""
    parts = []
    for name, runs in curves.groupby("run", sort=False):
        reward, kl = _band(runs, "reward", window), _band(runs, "kl", window)
        last = runs.dropna(subset="validation").sort_values("episodes").groupby("seed")["validation"].last()
        ends = f"{number(reward['mean'].iloc[0])} to {number(reward['mean'].iloc[-1])}"
        spread = f"(seeds {number(reward['low'].iloc[-1])} to {number(reward['high'].iloc[-1])})"
        checked = f", validation {number(last.mean())} at the end" if len(last) else ""
        parts.append(f"{name} from {ends} {spread}{checked}, KL {number(kl['mean'].iloc[-1])}")
    n = int(curves["seed"].nunique())
    return (
        f"Two panels against data points, a line for each run, the mean over {counted(n, 'seed')}, with a band from the lowest seed to the "
        f"highest. Left: sampled reward. Right: KL to the base in nats a reply. "
        f"Reward, as a rolling mean of {counted(window, 'step')}, first and last: {'; '.join(parts)}."
    )


@readable
def cross_scores(log: pd.DataFrame, objectives: Sequence[str] | None = None, window: int = 8) -> Figure:
    """One panel a run: its own reward (bold) and how it moves the rewards that it was not trained on; rolling mean over `window` steps.

    Columns: objective, seed, episodes, reward, and the other objectives' scores under their own names; one that a run did not watch is
    left out of its panel.
    """
    need(log, ["objective", "seed", "episodes", "reward"], "cross_scores")
    objectives = list(objectives or dict.fromkeys(log["objective"]))
    if not {*objectives} & {*log.columns}:
        raise UserError(f"figure cross_scores: the log watches none of {', '.join(objectives)}")
    figure, grid = panels(len(objectives), width=3.6, sharey=True)
    styles_by_name = styles(objectives)
    for axes, trained in zip(grid, objectives, strict=True):
        for position, (_, run) in enumerate(log[log["objective"] == trained].groupby("seed")):
            for name in objectives:
                if name != trained and (name not in run or run[name].isna().all()):
                    continue
                score = run["reward"] if name == trained else run[name]
                axes.plot(
                    run["episodes"],
                    score.rolling(window, min_periods=1).mean(),
                    color=styles_by_name[name].color,
                    linestyle=styles_by_name[name].linestyle,
                    marker=styles_by_name[name].marker,
                    markevery=0.25,
                    linewidth=3 if name == trained else 1.5,
                    label=name if position == 0 else None,
                )
        axes.set_title(f"trained on {trained}")
        name_axes(axes, DATA_POINTS, "score, mean of a rollout" if axes is grid[0] else "")
    grid[-1].legend()
    return describe(figure, cross_scores_alt(log, objectives, window))


def cross_scores_alt(log: pd.DataFrame, objectives: Sequence[str] | None = None, window: int = 8) -> str:
    """What `cross_scores` shows: every score at both ends of every run. Columns as there."""
    objectives = list(objectives or dict.fromkeys(log["objective"]))
    parts = []
    for (trained, _), run in log[log["objective"].isin(objectives)].groupby(["objective", "seed"], sort=False):
        scores = {name: run["reward"] if name == trained else run[name] for name in objectives if name == trained or name in run}
        moves = [f"{n} {number(s.iloc[0])} to {number(s.tail(window).mean())}" for n, s in scores.items() if s.notna().any()]
        parts.append(f"trained on {trained}: {listing(moves)}")
    return (
        "A panel for each trained reward, with the scores of all rewards against data points, the trained one bold. "
        f"First step to the mean of the last {window} at most: {'; '.join(parts)}."
    )


@readable
def reward_distributions(scores: pd.DataFrame, kind: Literal["violin", "ecdf"] = "violin", what: str = "policy") -> Figure:
    """How each policy's scores spread, one panel an objective. Columns: policy, objective, score (one row a reply).

    `what` the policies are, for the axis.
    """
    need(scores, ["policy", "objective", "score"], "reward_distributions")
    objectives = list(dict.fromkeys(scores["objective"]))
    policies = list(dict.fromkeys(scores["policy"]))
    styles_by_name = styles(policies)
    figure, grid = panels(len(objectives), width=3.6, height=3.9, sharey=True)
    for axes, objective in zip(grid, objectives, strict=True):
        rows = scores[scores["objective"] == objective]
        for position, policy in enumerate(policies):
            values = rows.loc[rows["policy"] == policy, "score"].to_numpy()
            if kind == "ecdf":
                sns.ecdfplot(
                    x=values,
                    ax=axes,
                    color=styles_by_name[policy].color,
                    linestyle=styles_by_name[policy].linestyle,
                    linewidth=2,
                    label=policy,
                )
                continue
            if np.ptp(values) > 1e-6:  # a density needs some spread; without it the mean alone is drawn
                body: Any = axes.violinplot(values, [position], widths=0.85, showextrema=False)["bodies"]
                body[0].set(facecolor=styles_by_name[policy].color, edgecolor="black", alpha=0.55)
            axes.scatter(
                position,
                values.mean(),
                marker=styles_by_name[policy].marker,
                color=styles_by_name[policy].color,
                edgecolor="black",
                s=70,
                zorder=5,
            )
        axes.set_title(objective)
        if kind == "ecdf":
            name_axes(axes, "score", "share of replies at or below" if axes is grid[0] else "")
        else:
            axes.set_xticks(range(len(policies)), policies, rotation=35, ha="right")
            name_axes(axes, f"{what} (marker: mean)", "score of a reply" if axes is grid[0] else "")
    if kind == "ecdf":
        grid[0].legend()
    return describe(figure, reward_distributions_alt(scores))


def reward_distributions_alt(scores: pd.DataFrame) -> str:
    """What `reward_distributions` shows: each policy's mean, and where the middle half of its replies lies. Columns as there."""
    parts = []
    for objective, group in scores.groupby("objective", sort=False):
        spread = group.groupby("policy", sort=False)["score"]
        means, low, high = spread.mean(), spread.quantile(0.25), spread.quantile(0.75)
        parts.append(f"{objective}: " + ", ".join(f"{p} {number(means[p])} ({number(low[p])} to {number(high[p])})" for p in means.index))
    return f"Distributions of the scores of single replies, with a marker at the mean. Mean and middle half: {'; '.join(parts)}."


@readable
def consumption_scatter(table: pd.DataFrame) -> Figure:
    """Data points against mean reward (the paper's figure): one small marker a seed, a large one and an ellipse for mean +- 1 std.

    Columns: method, seed, data_points, mean. Say in the caption whether data points are summed over the single-objective runs.
    """
    need(table, ["method", "seed", "data_points", "mean"], "consumption_scatter")
    figure, (axes,) = panels(1, width=6.4, height=5.0)
    styles_by_name = styles(table["method"])
    for name, runs in table.groupby("method", sort=False):
        style = styles_by_name[str(name)]
        x, y = runs["data_points"], runs["mean"]
        if len(runs) > 1:
            size = (2 * float(x.std()), 2 * float(y.std()))
            axes.add_patch(Ellipse((float(x.mean()), float(y.mean())), *size, facecolor=style.color, edgecolor=style.color, alpha=0.2))
        axes.scatter(x, y, color=style.color, marker=style.marker, s=25, alpha=0.7)
        axes.scatter(x.mean(), y.mean(), color=style.color, marker=style.marker, s=130, edgecolor="black", label=str(name), zorder=5)
    axes.scatter([], [], color="0.5", marker="o", s=25, label="one seed")
    axes.scatter([], [], color="0.5", marker="o", s=130, edgecolor="black", label="mean over seeds")
    axes.scatter([], [], color="0.5", marker="o", s=260, alpha=0.25, label="± one standard deviation")
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.autoscale_view()
    name_axes(axes, DATA_POINTS, "mean score over objectives")
    figure.legend(loc="outside upper center", ncols=2)
    return describe(figure, consumption_alt(table))


@readable
def level_comparison(table: pd.DataFrame) -> Figure:
    """What is mixed matters: mean score at the same weights, per level (hidden, probabilities, parameters, ..).

    Left: weight vectors ordered by the first level's score. Right: their spread, with each level's best.
    Columns: level, w_<objective>, mean.
    """
    need(table, ["level", "mean"], "level_comparison")
    weights = weight_columns(table)
    levels = list(dict.fromkeys(table["level"]))
    styles_by_name = styles(levels)
    figure, (left, right) = panels(2, width=4.8, height=4.0, sharey=True)
    pivot = table.pivot_table(index=weights, columns="level", values="mean").sort_values(levels[0])
    for position, level in enumerate(levels):
        style, values = styles_by_name[level], pivot[level].dropna()
        # markers without lines: the weight vectors are points of a triangle, and their order here is that of one level's scores
        aside = 0.16 * (position - (len(levels) - 1) / 2)
        left.plot([x + aside for x in range(len(pivot))], pivot[level], color=style.color, marker=style.marker, linestyle="", label=level)
        box: Any = right.boxplot(
            values, positions=[position], widths=0.6, patch_artist=True, medianprops={"color": "black"}, showfliers=False
        )
        box["boxes"][0].set(facecolor=style.color, alpha=0.5)
        right.scatter(position, values.max(), marker=style.marker, color=style.color, edgecolor="black", s=90, zorder=5)
    right.set_xticks(range(len(levels)), levels, rotation=25, ha="right")
    name_axes(left, f"weight vectors, by the score of {levels[0]}", "mean score over objectives")
    name_axes(right, "what is mixed (marker: best weights)", "")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(levels)))
    return describe(figure, level_comparison_alt(table))
