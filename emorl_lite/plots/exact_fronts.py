"""Figures of what lies between the settings of a sweep: a knob's whole line, and fronts of all settings beside those of a few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.style import describe, name_axes, need, panels, readable, styles


@readable
def line_scores(scored: ScoredMap, settings: Sequence[float], best: float | None = None) -> Figure:
    """The mean scores at every value of one knob, as steps: between two borders no reply changes.

    `settings`: values that a sweep would ask, drawn as dots; `best`: a value to mark.
    """
    domain = scored.map.domain
    if len(domain.knobs) != 1:
        raise UserError(f"figure line_scores: for one knob, this map has {len(domain.knobs)}")
    cells = overlay(scored)
    ends = np.array([[outline[0, 1], outline[-1, 1]] for outline in cells.outlines])
    edges = np.append(ends[:, 0], ends[-1, 1])
    at_settings = scored.means(np.asarray(settings, dtype=np.float64)[:, None])
    names = [*scored.names, "mean"]
    styles_by_name = styles(names)
    figure, (axes,) = panels(1, width=7.0, height=4.2)
    for k, name in enumerate(names):
        style = styles_by_name[name]
        steps, dots = (table.mean(1) if name == "mean" else table[:, k] for table in (cells.scores, at_settings))
        width = 2.2 if name == "mean" else 1.2
        axes.stairs(steps, edges, baseline=None, color=style.color, linestyle=style.linestyle, linewidth=width)
        axes.plot(settings, dots, color=style.color, marker=style.marker, linestyle="none", markersize=5)
        axes.plot([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, linewidth=width, label=name)
    if best is not None:
        axes.axvline(best, color="0.3", linewidth=1, linestyle=":", label="chosen")
    name_axes(axes, domain.knobs[0], "mean score")
    figure.legend(loc="outside upper center", ncols=5)
    return describe(figure, line_scores_alt(scored, settings, best))


def line_scores_alt(scored: ScoredMap, settings: Sequence[float], best: float | None = None) -> str:
    """What `line_scores` shows: how many steps there are, and the mean score at the ends, at its highest, and where that is."""
    cells, knob = overlay(scored), scored.map.domain.knobs[0]
    means, where = cells.scores.mean(1), cells.weights[:, 1]
    top = int(means.argmax())
    chosen = "" if best is None else f" A dotted line marks {number(best)}."
    return (
        f"Mean scores against {knob} as steps, {counted(len(means), 'step')}, with dots at {counted(len(settings), 'setting')}: "
        f"the mean over objectives begins at {number(means[0])}, ends at {number(means[-1])}, "
        f"and is highest at {number(where[top])}, {number(means[top])}.{chosen}"
    )


@readable
def exact_beside_sweep(table: pd.DataFrame) -> Figure:
    """Hypervolume of a sweep's settings and of all settings, a line a seed between the two, a row a method.

    Columns: method, seed, settings, sweep_hypervolume, front_hypervolume.
    """
    need(table, ["method", "seed", "settings", "sweep_hypervolume", "front_hypervolume"], "exact_beside_sweep")
    methods = list(dict.fromkeys(table["method"]))[::-1]
    styles_by_name = styles(table["method"])
    figure, (axes,) = panels(1, width=7.0, height=0.62 * len(methods) + 1.4)
    for place, method in enumerate(methods):
        rows, color = table[table["method"] == method], styles_by_name[method].color
        heights = place + np.linspace(-0.22, 0.22, len(rows)) if len(rows) > 1 else np.array([place])
        axes.hlines(heights, rows["sweep_hypervolume"], rows["front_hypervolume"], color=color, linewidth=2, alpha=0.5)
        axes.scatter(rows["sweep_hypervolume"], heights, marker="o", s=26, facecolor="white", edgecolor=color, zorder=3)
        axes.scatter(rows["front_hypervolume"], heights, marker="o", s=26, color=color, zorder=3)
    labels = [f"{method}\n{int(table.loc[table['method'] == method, 'settings'].iloc[0])} settings" for method in methods]
    axes.set_yticks(range(len(methods)), labels)
    axes.set_ylim(-0.6, len(methods) - 0.4)
    name_axes(axes, "hypervolume", "")
    few = Line2D([], [], color="0.4", marker="o", markerfacecolor="white", linestyle="none", label="the sweep's settings")
    every = Line2D([], [], color="0.4", marker="o", linestyle="none", label="all settings")
    joined = Line2D([], [], color="0.4", linewidth=2, alpha=0.5, label="one seed")
    figure.legend(handles=[few, every, joined], loc="outside upper center", ncols=3)
    figure.set_layout_engine("constrained", w_pad=0.1)
    return describe(figure, exact_beside_sweep_alt(table))


def exact_beside_sweep_alt(table: pd.DataFrame) -> str:
    """What `exact_beside_sweep` shows: both mean hypervolumes of every method."""
    means = table.groupby("method", sort=False)[["sweep_hypervolume", "front_hypervolume"]].mean()
    parts = [f"{m} {number(row['sweep_hypervolume'], 3)} and {number(row['front_hypervolume'], 3)}" for m, row in means.iterrows()]
    return f"Hypervolume of the sweep's settings and of all settings, joined seed by seed; means: {'; '.join(parts)}."
