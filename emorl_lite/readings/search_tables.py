"""What notebook 06 says of the committed tables of its searches and seeds: right for any table of that kind, however it comes out.

Tables: search_choice.csv, search_regret.csv, search_clients.csv, search_costs.csv (benchmarks/search_quality.py) and tiny_seeds.csv
(scripts/make_reference.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.presets import MORE_OBJECTIVES, OBJECTIVES
from emorl_lite.base.wording import counted, listing, number, signed, span
from emorl_lite.search.statistics import interval

EXACT, CEILING = "exact map", "exact map of the test prompts"
"""Names in search_choice: the choice of the exact optimum, and of the optimum of the test clients themselves."""


def sign(values: Sequence[float]) -> int:
    """1 or -1 if the 95 % interval of the mean of `values` lies above or below zero, else 0; also 0 for one value."""
    if len(values) < 2:
        return 0
    _, low, high = interval(np.asarray(values, dtype=float))
    return int(low > 0) - int(high < 0)


def by_search(choice: pd.DataFrame) -> pd.DataFrame:
    """Means over adapters and seeds: evaluations, promise on validation, regret there, score on test clients. Columns of search_choice."""
    table: Any = choice.groupby("search", sort=False)[["evaluations", "promised", "regret", "test"]].mean().reset_index()
    table["promised − test"] = table["promised"] - table["test"]
    shown = table.astype({"evaluations": object, "promised − test": object})
    shown["evaluations"] = [
        "all" if name.startswith("exact") else f"{n:.0f}" for name, n in zip(table["search"], table["evaluations"], strict=True)
    ]
    shown.loc[shown["search"] == CEILING, "promised − test"] = float("nan")
    return shown


def by_seed(seeds: pd.DataFrame, singles: Sequence[str]) -> pd.DataFrame:
    """Mean reward on the test clients, a row a policy, a column a seed. Columns of tiny_seeds: policy, seed, mean."""
    policies = ["base", *singles, "ensemble", "ensemble, uniform weights", "probabilities", "parameters (exact)", "parameters (soup)"]
    table = seeds.pivot(index="policy", columns="seed", values="mean").loc[policies]
    return table.rename(columns=lambda seed: f"seed {seed}").reset_index()


def accounts_reading(seeds: pd.DataFrame) -> str:
    """What the ensemble took, by sum and by the longest run, and what the search adds. Columns of tiny_seeds."""
    row = seeds[seeds["policy"] == "ensemble"].iloc[0]
    total, longest, search = (int(row[column]) for column in ("data_points", "data_points_parallel", "search_replies"))
    return (
        f"Training the adapters took {total:,} data points in **sum**, {longest:,} in the **longest run**. The search decoded "
        f"{search:,} replies more (seed {int(row['seed'])}; points of its list in one direction share their replies): "
        f"{total + search:,} and {longest + search:,}. The paper's 17,529 fits the second kind of count: "
        "the longest run and the search."
    )


def regret_reading(choice: pd.DataFrame, curves: pd.DataFrame, at: int = 40) -> str:
    """Mean regret after `at` evaluations and at the end. Columns of search_choice and search_regret."""
    early = curves[curves["evaluation"] <= at].groupby(["search", "run"])["regret"].min().groupby("search").mean().sort_values()
    ends = choice[~choice["search"].isin([EXACT, CEILING])].groupby("search")[["evaluations", "regret"]].mean().sort_values("regret")
    first = ", ".join(f"{name} {number(value, 4)}" for name, value in early.items())
    last = ", ".join(f"{name} {number(row['regret'], 4)} ({row['evaluations']:.0f})" for name, row in ends.iterrows())
    return f"Mean regret after {at} evaluations: {first}. At the end (after how many evaluations): {last}."


def choice_reading(choice: pd.DataFrame) -> str:
    """The exact optimum's choice on test clients beside the others', and how much it was flattered. Columns of search_choice."""
    tests: Any = choice.groupby(["search", "adapters"])["test"].mean().unstack()
    exact_scores, n = tests.loc[EXACT], tests.shape[1]
    others = [name for name in dict.fromkeys(choice["search"]) if name not in (EXACT, CEILING)]
    signs = {name: sign((tests.loc[name] - exact_scores).dropna().tolist()) for name in others}
    groups = {s: [f"{name} ({number(tests.loc[name].mean(), 4)})" for name in others if signs[name] == s] for s in (1, -1, 0)}
    parts = [f"clearly {word}: {listing(groups[s])}" for s, word in ((1, "higher"), (-1, "lower")) if groups[s]]
    if groups[0]:
        parts.append(f"not clearly apart: {listing(groups[0])}")
    exact = choice[choice["search"] == EXACT]
    flattered = (exact["promised"] - exact["test"]).tolist()
    price = {
        1: "being exact about so few clients has its price",
        -1: "it kept more than it promised",
        0: f"with {counted(n, 'set')} of adapters that is not clearly different from zero",
    }[sign(flattered)]
    ceiling = (
        f"; the best weights for these very clients would have {number(tests.loc[CEILING].mean(), 4)}" if CEILING in tests.index else ""
    )
    return (
        f"On the **test** clients the exact optimum's choice scores {number(exact_scores.mean(), 4)}{ceiling}. Beside it the other "
        f"searches are {'; '.join(parts)} (by 95 % intervals over {counted(n, 'set')} of adapters). The exact optimum's promise less its "
        f"test score is {signed(float(np.mean(flattered)), 4)} on average: {price}."
    )


def clients_reading(table: pd.DataFrame) -> str:
    """Whether promise and test come nearer with more validation clients. Columns of search_clients."""
    fewest, most = table["clients"].min(), table["clients"].max()
    gaps = table.assign(gap=table["promised"] - table["test"]).set_index(["search", "clients", "adapters"]).sort_index()
    means: Any = gaps.groupby(level=[0, 1])[["promised", "test"]].mean()
    parts, nearer = [], []
    for search in dict.fromkeys(table["search"]):
        low, high = means.loc[(search, fewest)], means.loc[(search, most)]
        before, after = gaps.loc[(search, fewest), "gap"].abs(), gaps.loc[(search, most), "gap"].abs()
        parts.append(
            f"**{search}**, {fewest} → {most} validation clients: promised {number(low['promised'], 3)} → {number(high['promised'], 3)}, "
            f"on the test clients {number(low['test'], 3)} → {number(high['test'], 3)}"
        )
        nearer.append(f"in {int((after < before).sum())} of {counted(len(after), 'seed')} ({search})")
    seconds = table.loc[table["clients"] == most, "map_seconds"].mean()
    return (
        f"{'; '.join(parts)} (means of {counted(table['adapters'].nunique(), 'seed')}). Promise and test are nearer with {most} clients "
        f"than with {fewest} {listing(nearer)}. The map of {most} clients took {seconds:.0f} s, scoring included."
    )


def costs_reading(costs: pd.DataFrame) -> str:
    """How searches grow with the objectives, and what exactness costs. Columns of search_costs."""
    table: Any = costs[costs["varied"] == "objectives d"].set_index(["search", "d"])
    sizes = sorted(int(d) for d in table.loc["exact map"].index)
    smallest, largest = sizes[0], sizes[-1]
    growth = [
        f"{fold(table.loc[(name, largest), 'evaluations'] / table.loc[(name, smallest), 'evaluations'])} for {what}"
        for name, what in (("formula: full grid", "a full grid"), ("hierarchical", "the published search"), (EXACT, "the exact map"))
    ]
    missed = [table.loc[(EXACT, d), "best"] - table.loc[("hierarchical", d), "best"] for d in sizes]
    ratios = [table.loc[(EXACT, d), "seconds"] / table.loc[("hierarchical", d), "seconds"] for d in sizes]
    last, small = table.loc[(EXACT, largest)], table.loc[(EXACT, smallest)]
    proven = "" if bool(last["optimum_found"]) else " (the best found; the proof was cut short)"
    return (
        f"From {smallest} to {largest} objectives the evaluations grow {listing(growth)} (there: distinct replies scored, divided by the "
        f"{last['prompts']:.0f} clients). The exact map has no spacing to choose. The published search ends below the optimum by "
        f"{listing([number(x, 4) for x in missed])} at {listing([str(d) for d in sizes])} objectives. The exact map takes "
        f"{span(min(ratios), max(ratios), 1)} times the seconds of the published search by prefix tree"
        f"{': that is what the guarantee costs' if min(ratios) > 1 else ''}. "
        f"At {largest} objectives ({', '.join((OBJECTIVES + MORE_OBJECTIVES)[:largest])}): {int(last['regions']):,} regions from "
        f"{int(last['rows']):,} prefixes in {last['seconds']:.0f} s, against {int(small['regions']):,} regions and "
        f"{small['seconds']:.0f} s at {smallest}. The published search decodes "
        f"{int(table.loc[('hierarchical', largest), 'evaluations']):,} "
        f"directions there and reaches {number(table.loc[('hierarchical', largest), 'best'], 3)}; the optimum is "
        f"{number(last['best'], 3)}{proven}. A full grid of the same spacing would have "
        f"{number(table.loc[('formula: full grid', largest), 'evaluations'], 0)} points."
    )


def fold(ratio: float) -> str:
    """A growth: "8-fold", "8.7-fold", "13-fold"."""
    return number(ratio, 0 if ratio >= 10 else 1).removesuffix(".0") + "-fold"


def growth_reading(costs: pd.DataFrame) -> str:
    """How prefixes grow with prompts and reply tokens. Columns of search_costs: varied, value, search, rows."""
    parts = []
    for varied, what in (("prompts", "clients"), ("reply tokens", "tokens a reply")):
        pivot: Any = costs[costs["varied"] == varied].pivot_table(index="value", columns="search", values="rows")[["hierarchical", EXACT]]
        low, high = pivot.iloc[0], pivot.iloc[-1]
        parts.append(
            f"from {pivot.index[0]:g} to {pivot.index[-1]:g} {what} ({fold(pivot.index[-1] / pivot.index[0])}) the prefixes grow "
            f"{fold(high['hierarchical'] / low['hierarchical'])} for the search and {fold(high[EXACT] / low[EXACT])} for the map"
        )
    step = pivot.iloc[-1] / pivot.iloc[-2] if len(pivot) > 1 else pivot.iloc[-1] / pivot.iloc[-1]
    longer = pivot.index[-1] / pivot.index[-2] if len(pivot) > 1 else 1.0
    end = f"The last step of tokens, times {number(longer)}, multiplies them by {number(step['hierarchical'])} and {number(step[EXACT])}"
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. {end}" + (": by then replies end by themselves." if step.max() < 1.05 else ".")


def seeds_reading(seeds: pd.DataFrame, singles: Sequence[str]) -> str:
    """The ensemble beside the best single-objective model and the exact average, seed by seed. Columns of tiny_seeds."""
    means = seeds.pivot(index="seed", columns="policy", values="mean")
    ensemble_rows = seeds[seeds["policy"] == "ensemble"].set_index("seed")
    weights = ensemble_rows[[f"w_{name}" for name in singles]].to_numpy(dtype=float)
    flattered = float((ensemble_rows["validation_mean"] - ensemble_rows["mean"]).mean())

    def lead(values: pd.Series) -> str:
        return (
            f"{signed(values.min())} to {signed(values.max())}, above zero in {int((values > 0).sum())} of {counted(len(values), 'seed')}"
        )

    return (
        "The ensemble's mean less that of the best single-objective model: "
        f"{lead(means['ensemble'] - means[list(singles)].max(axis=1))}. Less that of the exact parameter average at the same weights: "
        f"{lead(means['ensemble'] - means['parameters (exact)'])}. Validation promised {number(abs(flattered), 3)} "
        f"{'more' if flattered >= 0 else 'less'} than the test clients gave, on average. The directions found (weights divided by their "
        "sum): " + "; ".join("(" + ", ".join(number(x / row.sum()) for x in row) + ")" for row in weights) + "."
    )


def truth_reading(seeds: pd.DataFrame) -> str:
    """What the ensemble's rewards are worth by matching words. Columns of tiny_seeds: policy, seed, <objective>, true_<objective>."""
    ensemble_rows = seeds[seeds["policy"] == "ensemble"]
    names = [name for name in OBJECTIVES if f"true_{name}" in ensemble_rows]
    parts = [f"{name} {number(ensemble_rows[name].mean())} is worth {number(ensemble_rows[f'true_{name}'].mean())}" for name in names]
    n = counted(len(ensemble_rows), "seed")
    overpaid = {name: int((ensemble_rows[name] - ensemble_rows[f"true_{name}"] > 0.005).sum()) for name in names}
    end = f"Overpaid are {listing([f'{name} in {k} of {n}' for name, k in overpaid.items()])}"
    end += "; mixing models need not repair what a reward overpays." if any(overpaid.values()) else "."
    return f"And the truth, by matching words under the rule of the labels (means over {n}): the ensemble's {listing(parts)}. {end}"
