"""Figures of what an optimum is worth: how flattered it is, and how many prompts are enough."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emorl_lite.base.wording import counted, number, span
from emorl_lite.exact.learning_curve import LearningCurve
from emorl_lite.exact.worth import Optimism
from emorl_lite.plots.search_tables import PROMISED, TESTED
from emorl_lite.plots.style import describe, name_axes, panels, readable

BAND = 2
"""Standard errors on either side of a line."""


@readable
def optimism_histograms(found: Optimism) -> Figure:
    """What the weights chosen on each resample promise there, and what they score on the original prompts, as two histograms.

    Lines: the promise of the weights chosen on all prompts, and what new prompts should give (the score left out), with its interval as a
    band.
    """
    figure, (axes,) = panels(1, width=8.2, height=4.2)
    edges = np.histogram_bin_edges(np.concatenate([found.on_resample, found.on_all]), bins=40)
    for values, style, label in (
        (found.on_resample, PROMISED, "promised on the resample"),
        (found.on_all, TESTED, "the same weights on the original clients"),
    ):
        look: dict[str, Any] = {"color": style.color, "linestyle": style.linestyle, "linewidth": 2}
        axes.hist(values, bins=edges.tolist(), histtype="step", label=label, **look)
    expected, low, high = found.interval()
    axes.axvspan(low, high, color="0.85", zorder=0, label="its interval at 95 %")
    axes.axvline(expected, color="black", linewidth=1.4, linestyle=":", label=f"expected on new clients: {expected:.3f}")
    axes.axvline(found.promised, color="black", linewidth=1.4, linestyle="--", label=f"the optimum's promise: {found.promised:.3f}")
    name_axes(axes, "mean score", f"resamples, of {len(found.on_all)}")
    figure.legend(*_in_order(axes, [0, 1, 4, 3, 2]), loc="outside upper center", ncols=2)
    return describe(figure, optimism_histograms_alt(found))


def optimism_histograms_alt(found: Optimism) -> str:
    """What `optimism_histograms` draws, with its main numbers."""
    expected, low, high = found.interval()
    return (
        f"Two histograms over {counted(len(found.on_all), 'resample')} of the clients: what weights chosen on a resample promise there, "
        f"{number(found.on_resample.mean(), 3)} on average, and what they score on the original clients, {number(found.on_all.mean(), 3)}. "
        f"Vertical lines: the optimum's promise, {number(found.promised, 3)}, and the score expected on new clients, "
        f"{number(expected, 3)}, in a grey band from {number(low, 3)} to {number(high, 3)}."
    )


def _in_order(axes: Axes, order: list[int]) -> tuple[list[Any], list[str]]:
    """Handles and labels of a legend."""
    handles, labels = axes.get_legend_handles_labels()
    return [handles[i] for i in order], [labels[i] for i in order]


@readable
def enough_prompts(curve: LearningCurve) -> Figure:
    """What weights chosen on n prompts promise (dashed, squares), and score on the others (solid, dots): the best there is lies between.

    Bands: two standard errors over prompts. A star: the optimum on all prompts of the map.
    """
    figure, (axes,) = panels(1, width=8.2, height=4.4)
    table = curve.table
    for column, style, label in (
        ("promised", PROMISED, "promised on the n clients chosen on"),
        ("real", TESTED, "scored on the other clients"),
    ):
        middle, error = table[column], BAND * table[f"{column}_error"]
        axes.fill_between(table["prompts"], middle - error, middle + error, color=style.color, alpha=0.15, linewidth=0)
        shape: dict[str, Any] = {"linestyle": style.linestyle, "marker": style.marker, "linewidth": 2}
        axes.plot(table["prompts"], middle, color=style.color, label=label, **shape)
    axes.scatter([curve.prompts], [curve.optimum], marker="*", s=170, color="white", edgecolor="black", zorder=3, label="promise of all")
    axes.set_xscale("log", base=2)
    ticks = [*table["prompts"], curve.prompts]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    name_axes(axes, "clients that the weights are chosen on, n", "mean score")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return describe(figure, enough_prompts_alt(curve))


def enough_prompts_alt(curve: LearningCurve) -> str:
    """What `enough_prompts` draws, with its main numbers."""
    table = curve.table
    first, last = table.iloc[0], table.iloc[-1]
    return (
        f"Two curves against the number of clients that weights are chosen on, {span(first['prompts'], last['prompts'], 0)} of "
        f"{curve.prompts}. Promised on them: {number(first['promised'], 3)} to {number(last['promised'], 3)}. Scored on the other clients: "
        f"{number(first['real'], 3)} to {number(last['real'], 3)}. Bands of two standard errors. A star: the optimum on all "
        f"{counted(curve.prompts, 'client')}, {number(curve.optimum, 3)}."
    )
