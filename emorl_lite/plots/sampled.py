"""Figures of sampled replies: promise and truth as there are more samples, and the mean at every temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number, span
from emorl_lite.plots.search_tables import PROMISED, TESTED
from emorl_lite.plots.style import describe, name_axes, need, panels, readable, styles


@readable
def sample_sizes(table: pd.DataFrame) -> Figure:
    """What weights chosen by n samples a client promise, and give on fresh noise (left); how flattery and standard error shrink (right).

    Means over seeds, with their range as a band. Columns: seed, samples, promised, fresh, optimism, error.
    """
    need(table, ["seed", "samples", "promised", "fresh", "optimism", "error"], "sample_sizes")
    table = table.dropna(subset=["fresh"])
    need(table, ["seed"], "sample_sizes")
    sizes = sorted(table["samples"].unique())
    figure, (left, right) = panels(2, width=4.6, height=3.9)
    by_size = table.groupby("samples")
    for axes, columns in ((left, ("promised", "fresh")), (right, ("optimism", "error"))):
        for column, style in zip(columns, (PROMISED, TESTED), strict=True):
            label = {"promised": "promised", "fresh": "on fresh noise", "optimism": "flattery (promised less fresh)"}.get(
                column, "standard error at fixed weights"
            )
            means = by_size[column].mean()
            axes.plot(sizes, means, color=style.color, marker=style.marker, linestyle=style.linestyle, linewidth=2, label=label)
            axes.fill_between(sizes, by_size[column].min(), by_size[column].max(), color=style.color, alpha=0.15)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.legend(loc="best")
    error = by_size["error"].mean()
    right.plot(sizes, error.iloc[0] * np.sqrt(sizes[0] / np.array(sizes)), color="0.6", linestyle=":", label="1 / √n")
    right.legend(loc="best")
    right.set_ylim(bottom=min(0.0, float(table["optimism"].min())))
    name_axes(left, "samples n a client (doubling)", "mean score")
    name_axes(right, "samples n a client (doubling)", "mean score")
    return describe(figure, sample_sizes_alt(table))


def sample_sizes_alt(table: pd.DataFrame) -> str:
    """What `sample_sizes` draws, with its main numbers."""
    table = table.dropna(subset=["fresh"])
    means = table.groupby("samples")[["promised", "fresh", "optimism", "error"]].mean().reset_index()
    parts = [
        f"with {counted(int(row['samples']), 'sample')} promised {number(row['promised'], 3)}, fresh {number(row['fresh'], 3)}, standard "
        f"error {number(row['error'], 3)}"
        for row in means.iloc[[0, -1] if len(means) > 1 else [0]].to_dict("records")
    ]
    return (
        f"Two panels over the number of samples a client, {span(means['samples'].min(), means['samples'].max(), 0)}, doubling; means of "
        f"{counted(table['seed'].nunique(), 'seed')} with their range as a band. Left: what chosen weights promised (dashed) and what they "
        f"give on fresh noise (solid). Right: the difference of both, the flattery, and the standard error at fixed weights, beside a "
        f"dotted line of one over the root of n. {'; '.join(parts).capitalize()}."
    )


@readable
def temperature_line(temperatures: np.ndarray, means: np.ndarray, names: Sequence[str], greedy: float | None = None) -> Figure:
    """The mean score at every temperature, with weights held fixed: a step function. `temperatures` [m + 1]: borders, ascending; `means`
    [m, K]: of every objective between them; `greedy`: the mean of greedy replies, as a line to compare with.
    """
    temperatures, means = np.asarray(temperatures), np.asarray(means)
    if means.shape != (len(temperatures) - 1, len(names)) or not len(means):
        raise UserError(f"figure temperature_line: expected {len(temperatures) - 1} rows of {len(names)} means, got {list(means.shape)}")
    figure, (axes,) = panels(1, width=7.6, height=4.2)
    for i, (name, style) in enumerate(styles(names).items()):
        axes.stairs(means[:, i], temperatures, baseline=None, color=style.color, linestyle=style.linestyle, linewidth=1.5, label=name)
    axes.stairs(means.mean(1), temperatures, baseline=None, color="black", linewidth=2.6, label="their mean")
    if greedy is not None:
        axes.axhline(greedy, color="0.45", linestyle=":", linewidth=1.8, label="their mean, greedy")
    axes.set_xscale("log")
    ticks = [t for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0) if temperatures[0] <= t <= temperatures[-1]]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlim(temperatures[0], temperatures[-1])
    name_axes(axes, "temperature (log scale)", "mean score")
    figure.legend(loc="outside right upper")
    return describe(figure, temperature_line_alt(temperatures, means, names, greedy))


def temperature_line_alt(temperatures: np.ndarray, means: np.ndarray, names: Sequence[str], greedy: float | None = None) -> str:
    """What `temperature_line` draws, with its main numbers."""
    mean = np.asarray(means).mean(1)
    best = int(mean.argmax())
    beside = "" if greedy is None else f" A dotted line at {number(greedy, 3)}: greedy replies."
    return (
        f"Steps over the temperature from {number(temperatures[0], 2)} to {number(temperatures[-1], 2)}: the mean scores of "
        f"{', '.join(names)}, and their mean, thick and black: {number(mean[0], 3)} at the coldest, {number(mean[-1], 3)} at the hottest, "
        f"highest {number(mean[best], 3)} at {span(temperatures[best], temperatures[best + 1])}.{beside}"
    )
