"""Figures of the committed tables of searches: regret, promise and test, costs and their growth."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from emorl_lite.base.wording import counted, number, span
from emorl_lite.plots.style import SEARCH_STYLE, Style, describe, name_axes, need, panels, readable, styles

FORMULA_LINES = [":", (0, (5, 3)), (0, (8, 2, 1, 2))]

FEW_RUNS = 5
"""With so few runs each is drawn: quartiles of three are no spread."""


@readable
def regret_curves(table: pd.DataFrame) -> Figure:
    """How far each search's best so far is below the exact optimum, against evaluations: the mean over runs (thick), and the middle half of
    them as a band; of five runs or fewer each run as a thin line.

    Regrets below 0.0001, zero included, are drawn at 0.0001.

    Columns: search, run, evaluation (from 1), regret (mean score).
    """
    need(table, ["search", "run", "evaluation", "regret"], "regret_curves")
    figure, (axes,) = panels(1, width=8.2, height=4.6)
    styles_by_name = styles(table["search"])
    marks: list[Any] = []
    for name, runs in table.groupby("search", sort=False):
        pivot = runs.pivot_table(index="evaluation", columns="run", values="regret").ffill()
        style = styles_by_name[str(name)]
        line: dict[str, Any] = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markevery": 0.15}
        marks += axes.plot(pivot.index, pivot.mean(axis=1).clip(lower=1e-4), linewidth=2.4, label=f"{name} (n = {pivot.shape[1]})", **line)
        if pivot.shape[1] <= FEW_RUNS:
            axes.plot(pivot.index, pivot.clip(lower=1e-4), color=style.color, linewidth=0.7, alpha=0.6)
        else:
            low, high = (pivot.quantile(q, axis=1).clip(lower=1e-4) for q in (0.25, 0.75))
            axes.fill_between(pivot.index, low, high, color=style.color, alpha=0.12)
    axes.set_yscale("log")
    name_axes(axes, "evaluations (distinct directions decoded and scored)", "regret in mean score (log scale, from 0.0001)")
    figure.legend(
        handles=marks, loc="outside right upper", title="thick: mean of n runs\nthin: a run (n up to 5)\nband: middle half of runs"
    )
    return describe(figure, regret_curves_alt(table))


def regret_curves_alt(table: pd.DataFrame) -> str:
    """What `regret_curves` draws, with its main numbers. Columns: search, run, evaluation, regret."""
    parts = []
    for name, runs in table.groupby("search", sort=False):
        ends = runs.sort_values("evaluation").groupby("run").agg(evaluation=("evaluation", "last"), regret=("regret", "min"))
        parts.append(f"{name} {number(ends['regret'].mean(), 4)} after {span(ends['evaluation'].min(), ends['evaluation'].max(), 0)}")
    return (
        "Regret against evaluations on a logarithmic scale, a thick line per search for the mean over its runs; of five runs or fewer a "
        f"thin line for each, of more a band for their middle half. Mean regret at the end: {'; '.join(parts)} evaluations."
    )


PROMISED, TESTED = Style((0.5, 0.5, 0.5), "s", "--"), Style((0.1, 0.1, 0.1), "o", "-")
"""Two looks that differ in grey, marker and line: colours belong to objectives and searches."""


@readable
def promise_and_test(table: pd.DataFrame) -> Figure:
    """What a search's choice promised on n validation clients (dashed, squares), and what it scores on the test clients (solid, dots).

    Means over adapters, with their range as a band. Columns: search, adapters, clients, promised, test.
    """
    need(table, ["search", "adapters", "clients", "promised", "test"], "promise_and_test")
    searches = list(dict.fromkeys(table["search"]))
    figure, grid = panels(len(searches), width=4.2, sharey=True)
    says = {"promised": "promised on the validation clients", "test": "scored on the test clients"}
    for axes, name in zip(grid, searches, strict=True):
        rows = table[table["search"] == name].groupby("clients")
        for column, style in (("promised", PROMISED), ("test", TESTED)):
            values = rows[column]
            axes.fill_between(values.min().index, values.min(), values.max(), color=style.color, alpha=0.15)
            shape: dict[str, Any] = {"linestyle": style.linestyle, "marker": style.marker, "linewidth": 2}
            axes.plot(values.mean().index, values.mean(), color=style.color, label=says[column], **shape)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(table["clients"].unique()), [str(n) for n in sorted(table["clients"].unique())])
        axes.set_title(name)
        name_axes(axes, "validation clients", "mean score" if axes is grid[0] else "")
    title = f"mean of {counted(table['adapters'].nunique(), 'set')} of adapters; band: lowest to highest"
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, title=title)
    return describe(figure, promise_and_test_alt(table))


def promise_and_test_alt(table: pd.DataFrame) -> str:
    """What `promise_and_test` draws, with its main numbers. Columns: search, adapters, clients, promised, test."""
    fewest, most = table["clients"].min(), table["clients"].max()
    means = table.groupby(["search", "clients"])[["promised", "test"]].mean()
    runs = f"{counted(table['adapters'].nunique(), 'set')} of adapters"
    parts = [
        f"{name}, promised {number(means.loc[(name, fewest), 'promised'], 3)} to {number(means.loc[(name, most), 'promised'], 3)}, "
        f"test {number(means.loc[(name, fewest), 'test'], 3)} to {number(means.loc[(name, most), 'test'], 3)}"
        for name in dict.fromkeys(table["search"])
    ]
    return (
        "A panel per search: the mean score that it promised (dashed) and that its choice has on the test clients (solid) against the "
        f"number of validation clients, as means of {runs} with their range as a band. From "
        f"{fewest} to {most} clients: {'; '.join(parts)}."
    )


def cost_panels(costs: pd.DataFrame, budget: int = 80) -> pd.DataFrame:
    """The rows of search_costs.csv that `search_costs` draws, three panels of them. `budget`: evaluations after which a run was ended.

    Columns varied, value, search, unit, cost, at_least. The table holds means over runs, where a run that had not come to its goal counts
    with all of the budget: a mean within one evaluation of the budget is taken as a lower bound.
    """
    names = ["hierarchical", "exact map", "formula: full grid", "formula: hierarchical"]
    drawn = costs[costs["search"].isin(names) | costs["search"].str.contains("within")]
    parts = [
        (rows := drawn[drawn["varied"] == varied]).assign(unit=column, cost=rows[column])
        for varied, column in (
            ("objectives d", "evaluations"),
            ("levels (last spacing 2^-level)", "evaluations"),
            ("objectives d", "seconds"),
        )
    ]
    panels_drawn = pd.concat(parts).dropna(subset="cost")
    goal = panels_drawn["search"].str.contains("within")
    return panels_drawn.assign(at_least=goal & (panels_drawn["evaluations"] > budget - 1))


@readable
def search_costs(table: pd.DataFrame) -> Figure:
    """What searches cost as objectives and precision grow (the paper's cost surfaces, measured): one panel a varied quantity and unit.

    Columns: varied, value, search, unit, cost, and where there are any `at_least` (bool): the search had not reached its goal at this cost,
    so that what it needs is more; such a value is drawn hollow with an arrow upwards. A search named "formula: .." is a thin line.
    """
    need(table, ["varied", "value", "search", "unit", "cost"], "search_costs")
    kinds = list(dict.fromkeys(zip(table["varied"], table["unit"], strict=True)))
    figure, grid = panels(len(kinds), width=3.3, height=4.6)
    names = list(dict.fromkeys(table["search"]))
    looks = _cost_styles(names)
    for axes, (varied, unit) in zip(grid, kinds, strict=True):
        for name, rows in table[(table["varied"] == varied) & (table["unit"] == unit)].groupby("search", sort=False):
            _cost_line(axes, rows.sort_values("value"), str(name), looks[str(name)])
        axes.set_yscale("log")
        axes.set_xticks(sorted(table.loc[table["varied"] == varied, "value"].unique()))
        name_axes(axes, textwrap.fill(str(varied), 28), f"{unit} (log scale)")
    handles: dict[str, Any] = {}
    for axes in grid:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if _censored(table).any():
        more = "not there in all runs: more than this"
        handles[more] = Line2D([], [], linestyle="", marker="$\\uparrow$", markersize=12, color="black", label=more)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=2)
    return describe(figure, search_costs_alt(table))


def _cost_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How the line of each search is drawn: one look a search, thin grey dashes for formulas."""
    formulas = [name for name in names if name.startswith("formula: ")]
    looks: dict[str, dict[str, Any]] = {
        name: {"color": "0.35", "linewidth": 1.2, "linestyle": FORMULA_LINES[i % len(FORMULA_LINES)]} for i, name in enumerate(formulas)
    }
    measured = [name for name in names if name not in looks]
    known = styles(name.split(",")[0] if name.split(",")[0] in SEARCH_STYLE else name for name in measured)
    for name in measured:
        style = known[name.split(",")[0] if name.split(",")[0] in SEARCH_STYLE else name]
        looks[name] = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "linewidth": 2}
    return looks


def _censored(table: pd.DataFrame) -> pd.Series:
    """Which costs are lower bounds."""
    if "at_least" in table:
        return table["at_least"].fillna(False).astype(bool)
    return pd.Series(False, index=table.index)


def _cost_line(axes: Axes, rows: pd.DataFrame, name: str, look: dict[str, Any]) -> None:
    """One search's costs; lower bounds are hollow, with an arrow upwards."""
    [line] = axes.plot(rows["value"], rows["cost"], label=name, **look)
    beyond = rows[_censored(rows)]
    if len(beyond):
        axes.plot(beyond["value"], beyond["cost"], linestyle="", marker=look.get("marker"), color=line.get_color(), markerfacecolor="white")
        for x, y in zip(beyond["value"], beyond["cost"], strict=True):
            arrow = {"arrowstyle": "<-", "color": line.get_color(), "linewidth": 1.6}
            axes.annotate("", (x, y), (0, 20), textcoords="offset points", arrowprops=arrow)


def search_costs_alt(table: pd.DataFrame) -> str:
    """What `search_costs` draws, with the first and the last value of every line. Columns: varied, value, search, unit, cost."""
    parts = []
    for (varied, unit), panel in table.groupby(["varied", "unit"], sort=False):
        lines = []
        for name, rows in panel.groupby("search", sort=False):
            rows = rows.sort_values("value")
            first, last = (f"{'over ' if censored else ''}{_cost(x)}" for x, censored in _ends(rows))
            lines.append(f"{name} {first} to {last}")
        parts.append(f"{unit} as {varied} goes from {panel['value'].min():g} to {panel['value'].max():g}: {', '.join(lines)}")
    return (
        f"{counted(len(parts), 'panel')} with logarithmic y axes, a line per search"
        f"{', formulas thin and without markers' if table['search'].str.startswith('formula: ').any() else ''}"
        f"{', an arrow upwards where a search had not come to its goal' if _censored(table).any() else ''}. "
        f"{'. '.join(text[0].upper() + text[1:] for text in parts)}."
    )


def _ends(rows: pd.DataFrame) -> list[tuple[float, bool]]:
    """The first and the last cost, and whether it is a lower bound."""
    return [(float(rows["cost"].iloc[i]), bool(_censored(rows).iloc[i])) for i in (0, -1)]


@readable
def search_growth(table: pd.DataFrame) -> Figure:
    """Whether work grows in proportion: costs against a quantity, both as multiples of their first value, on equal logarithmic axes.

    The grey diagonal is growth in proportion; below it work is saved. One panel a varied quantity. Columns: varied, value, search, cost.
    """
    need(table, ["varied", "value", "search", "cost"], "search_growth")
    kinds = list(dict.fromkeys(table["varied"]))
    figure, grid = panels(len(kinds), width=4.0, height=4.2)
    looks = styles(table["search"])
    for axes, varied in zip(grid, kinds, strict=True):
        top = 1.0
        for name, rows in table[table["varied"] == varied].groupby("search", sort=False):
            rows = rows.sort_values("value")
            x, y = rows["value"] / rows["value"].iloc[0], rows["cost"] / rows["cost"].iloc[0]
            style = looks[str(name)]
            axes.plot(x, y, color=style.color, linestyle=style.linestyle, marker=style.marker, linewidth=2, label=name)
            top = max(top, float(x.max()), float(y.max()))
        axes.plot([1, top], [1, top], color="0.5", linewidth=1, label="in proportion", zorder=0)
        ticks = [2.0**k for k in range(int(np.ceil(np.log2(top))) + 1)]
        axes.set(xscale="log", yscale="log", aspect="equal", xlim=(0.9, 1.15 * top), ylim=(0.9, 1.15 * top))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
            axis.set_minor_locator(NullLocator())
        smallest = table.loc[table["varied"] == varied, "value"].min()
        name_axes(axes, f"{varied}, times {smallest:g}", "prefixes read, times the first" if axes is grid[0] else "")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return describe(figure, search_growth_alt(table))


def search_growth_alt(table: pd.DataFrame) -> str:
    """What `search_growth` draws, with its main numbers."""
    parts = []
    for varied, panel in table.groupby("varied", sort=False):
        ends = panel.sort_values("value").groupby("search", sort=False)["cost"].agg(["first", "last"])
        lines = ", ".join(f"{name} {number(row['last'] / row['first'], 1)} times" for name, row in ends.iterrows())
        parts.append(f"{varied} {number(panel['value'].max() / panel['value'].min(), 1)} times as many: {lines}")
    text = "; ".join(parts)
    return (
        f"{counted(len(parts), 'panel')} of growth on equal logarithmic axes, a line per search and a grey diagonal for growth in "
        f"proportion. {text[0].upper()}{text[1:]}."
    )


def _cost(value: float) -> str:
    return number(value, 0 if value >= 100 else 1).removesuffix(".0")
