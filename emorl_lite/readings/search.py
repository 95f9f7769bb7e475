"""What notebook 04 says of one run's search: its numbers in sentences that are right whichever way they come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.weights import direction
from emorl_lite.base.wording import counted, listing, number, span
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.search.grid import best_cell, count_redundancy
from emorl_lite.search.score_table import DEGENERATE, SearchResult, weight_columns


def portion(share: float) -> str:
    """A share of all weights: "12.34 %", "under 0.01 %", "over 99.99 %"; "100 %" and "0 %" only for all and none."""
    if share >= 1 - 1e-9 or share <= 0:
        return "100 %" if share > 0 else "0 %"
    return "under 0.01 %" if share < 1e-4 else "over 99.99 %" if share >= 0.9999 else f"{share:.2%}".replace("%", " %")


def shown_gap(a: float, b: float, digits: int = 3) -> float:
    """The difference of two numbers as `digits` digits show them, so that it agrees with what stands beside it."""
    return round(round(a, digits) - round(b, digits), digits)


def ranks_first(values: Mapping[str, float], digits: int = 3) -> str:
    """The name of the highest value; all names that are as high in `digits` digits."""
    return listing([name for name, value in values.items() if shown_gap(max(values.values()), value, digits) <= 0])


def levels_reading(table: pd.DataFrame) -> str:
    """What the levels of a search found. Columns: level, mean, note (a row a listed point)."""
    levels = table.groupby("level")["mean"].agg(["min", "max"])
    first, last, best = levels.iloc[0], levels.iloc[-1], levels["max"].max()
    zero = " (the zero vector says nothing)" if (table.loc[table["level"] == levels.index[0], "note"] == DEGENERATE).any() else ""
    text = f"At the first level the mean reward ranges from {number(first['min'], 3)}{zero} to {number(first['max'], 3)}"
    if len(levels) == 1:
        return f"{text}."
    scores = span(last["min"], last["max"], 3)
    text += f"; at the last {'from' if ' to ' in scores else 'all have'} {scores}. "
    gain = best - first["max"]
    if gain <= 0:
        return text + "No later level found anything better than the first."
    best_text = f"The best was found at level {levels['max'].idxmax()}"
    return text + (
        f"{best_text}, {number(shown_gap(best, first['max']), 3)} above the best of level 1."
        if shown_gap(best, first["max"]) > 0
        else f"{best_text}, but level 1 had one as good to three digits."
    )


def cells(means: np.ndarray) -> dict[tuple[int, ...], float]:
    """The sum over the corners of each cell of a level. `means` [3, .., 3]: the mean score of every grid point."""
    return {c: float(means[tuple(slice(i, i + 2) for i in c)].sum()) for c in product((0, 1), repeat=means.ndim)}


def cells_table(means: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The sub-cubes of the first level, the largest sum first: a column an objective, its sum, and its best corner's score."""
    rows: list[dict[str, Any]] = []
    for cell, total in sorted(cells(means).items(), key=lambda item: -item[1]):
        sides: dict[str, Any] = {name: HALVES[half] for name, half in zip(names, cell, strict=True)}
        best = float(means[tuple(slice(i, i + 2) for i in cell)].max())
        rows.append(sides | {"sum of its 8 corners": total, "best corner": best, "taken": "yes" if cell == best_cell(means) else ""})
    return pd.DataFrame(rows).rename(columns={"sum of its 8 corners": f"sum of its {2**means.ndim} corners"})


HALVES = ("0 to ½", "½ to 1")


def cell_reading(means: np.ndarray) -> str:
    """Which sub-cube the first level takes, how clearly, and whether it holds the level's best point, as it need not."""
    sums = sorted(cells(means).values(), reverse=True)
    cell = best_cell(means)
    holds = np.isclose(means[tuple(slice(i, i + 2) for i in cell)].max(), means.max(), atol=1e-12)
    return (
        f"The largest sum is {number(sums[0], 3)}, the next {number(sums[1], 3)}. The sub-cube that is taken "
        f"{'holds' if holds else 'does not hold'} the best point of the level ({number(means.max(), 3)})"
        f"{'. It need not: the' if holds else ': the'} rule looks at neighbourhoods, not at peaks."
    )


def found_reading(result: SearchResult, clients: int) -> str:
    """What a search lists and decodes, and the weights it returns."""
    names = [column.removeprefix("w_") for column in weight_columns(result.table)]
    weights = ", ".join(f"{name} {w:g}" for name, w in zip(names, result.best, strict=True))
    return (
        f"{counted(result.listed, 'point')} listed, {result.evaluated} of them decoded, on {counted(clients, 'validation client')}. "
        f"**Weights found:** {weights}, with S(w) = **{number(float(result.table['mean'].max()), 3)}**."
    )


def redundancy_reading(table: pd.DataFrame) -> str:
    """How few directions the points of a search have: at its first level, and in all. Columns: level, w_<objective>."""
    first, total = count_redundancy(table[table["level"] == table["level"].min()]), count_redundancy(table)
    zero = f" and {counted(first['degenerate'], 'zero vector')}" if first["degenerate"] else ""
    text = f"Level 1 has {first['points']} points, but only **{counted(first['directions'], 'direction')}**{zero}."
    levels = table["level"].nunique()
    if levels == 1:
        return text
    return (
        f"{text} All {levels} levels together list {total['points']} points, {total['distinct_points']} of them distinct, with "
        f"**{total['directions']} directions**: so many texts a client at most."
    )


def origin_reading(means: np.ndarray) -> str:
    """What the sub-cube at the origin, which holds every direction, would have needed at the first level to be taken."""
    sums = cells(means)
    origin = (0,) * means.ndim
    rival = max(total for cell, total in sums.items() if cell != origin)
    others = sums[origin] - float(means[origin])
    needed = rival - others
    text = f"Its corners sum to {number(sums[origin], 3)}, with 0 for the zero vector. The best other sub-cube has {number(rival, 3)}. "
    if needed <= 0:
        return text + "It is taken all the same: its other corners are enough."
    if needed > 1:
        return text + (
            f"For the sub-cube at the origin to be taken the zero vector would have to score {number(needed, 3)}, more than any text can: "
            "here it was not to be taken, whatever the zero vector counts."
        )
    best = "less than the best point of the level has" if needed <= means.max() else "more than the best point of the level has"
    return text + f"The zero vector would have to score {number(needed, 3)} for it to be taken, {best} ({number(means.max(), 3)})."


def apart_reading(sums: Mapping[str, float], holds: str, ends: float, cube: float) -> str:
    """Why the search on the simplex and that of the cube end where they do.

    `sums`: of the triangles of the first level, by their names. `holds`: the triangle that the cube's result lies in. `ends`, `cube`: the
    best mean scores of both searches.
    """
    taken = max(sums, key=lambda name: sums[name])
    gap = shown_gap(cube, ends)
    result = (
        "Both searches end at the same score to three digits."
        if not gap
        else f"The search on the simplex ends {number(abs(gap), 3)} {'below' if gap > 0 else 'above'} that of the cube."
    )
    if taken == holds:
        return f"{result} Both look into {taken}: the cube's result lies there, too, so they part at a later level or not at all."
    return (
        f"{result} At its first level it took {taken}, with {number(sums[taken], 3)}; the cube's result lies in {holds}, which had "
        f"{number(sums[holds], 3)}, {number(shown_gap(sums[taken], sums[holds]), 3)} less. What is dropped at a level is never looked at "
        "again."
    )


def triangle_names(names: Sequence[str]) -> dict[str, np.ndarray]:
    """The four half-size triangles of the simplex of three objectives by name, each as its corners' weights [3, 3]."""
    eye = np.eye(3)
    found = {f"the {name} corner's triangle": (eye + eye[i]) / 2 for i, name in enumerate(names)}
    return found | {"the triangle in the middle": (1 - eye) / 2}


def triangle_of(weights: Sequence[float], names: Sequence[str]) -> str:
    """The name of the half-size triangle that the direction of these weights [3] lies in, deepest."""
    w = np.asarray(weights, dtype=float) / np.sum(weights)
    inside = {name: float(np.linalg.solve(corners.T, w).min()) for name, corners in triangle_names(names).items()}
    return max(inside, key=lambda name: inside[name])


def tree_reading(tree: PrefixTree, leaves: np.ndarray, points: Sequence[Sequence[float]]) -> str:
    """What a tree saves for these weight vectors. `leaves` [B, W]: the reply of every prompt at every one."""
    words = sum(len(tree.tokens(int(leaf))) for leaf in leaves.ravel())
    directions = len({direction(point) for point in points})
    return (
        f"{counted(len(points), 'weight vector')} × {counted(len(leaves), 'client')} are {leaves.size:,} replies with {words:,} tokens; "
        f"{len(np.unique(leaves)):,} of the replies are different, and **{tree.rows_read:,} prefixes** had to be read: "
        f"{number(words / tree.rows_read, 0)} times fewer (of which {number(len(points) / directions, 1)} times is the redundancy above)."
    )


def leaves_table(tree: PrefixTree, leaves: np.ndarray, shown: int = 6) -> pd.DataFrame:
    """The replies of one prompt and how many weight vectors take each, the most frequent first. `leaves` [W]."""
    found, counts = np.unique(leaves, return_counts=True)
    order = counts.argsort(kind="stable")[::-1][:shown]
    return pd.DataFrame({"weight vectors": counts[order], "reply": tree.texts(found[order])})


def spaces_reading(simplex: SearchResult, cube: SearchResult) -> str:
    """The search on the simplex beside the one on the cube: work and result."""
    simplex_best, cube_best = float(simplex.table["mean"].max()), float(cube.table["mean"].max())
    gap = shown_gap(simplex_best, cube_best)
    fewer = cube.evaluated - simplex.evaluated
    cost = f"{counted(abs(fewer), 'weight vector')} {'fewer' if fewer > 0 else 'more'}" if fewer else "as many weight vectors"
    result = "the same to three digits" if not gap else f"{number(abs(gap), 3)} {'higher' if gap > 0 else 'lower'}"
    return (
        f"On the simplex: {simplex.listed} points listed, {simplex.evaluated} decoded, best mean {number(simplex_best, 3)} at "
        f"({', '.join(number(w, 3) for w in simplex.best)}). On the cube: {cube.evaluated} decoded, {number(cube_best, 3)}. So the simplex "
        f"search decodes {cost}, and its result on these clients is {result}."
    )


def speed_reading(speed: Mapping[str, Any]) -> str:
    """The benchmark of the prefix tree, data/results/search_speed.json."""

    def times(ratio: float) -> str:
        return f"{number(ratio, 0 if ratio >= 10 else 1)} times as fast as"

    identical = speed["identical_replies"]
    return (
        f"Measured (`benchmarks/search.py`, {speed['points']} points × {speed['prompts']} prompts × 32 tokens, one CPU thread): the "
        f"tree is **{times(speed['speedup_over_reference'])}** the published algorithm (merged copies of the model, no cache, point "
        f"after point) and {times(speed['speedup_over_cached'])} the cached ensemble of notebook 03; "
        f"{'all' if identical == 1 else portion(identical) + ' of the'} replies are identical. At 64 tokens it is "
        f"{times(speed['speedup_over_reference_64'])} the published algorithm."
    )


def verdict_reading(summary: pd.DataFrame, confirmed: pd.DataFrame, singles: Sequence[str]) -> str:
    """The ensemble on fresh clients beside base and single-objective models, against its interval.

    `summary`: columns policy, mean. `confirmed`: of the ensemble, columns objective (with a row "mean"), promised, fresh, low, high.
    """
    means = summary.set_index("policy")["mean"]
    mean_row: Any = confirmed.set_index("objective").loc["mean"]
    half = (mean_row["high"] - mean_row["low"]) / 2
    best = {name: float(means[name]) for name in singles}

    def beside(value: float) -> str:
        lead = means["ensemble"] - value
        return "clearly above" if lead > 2**0.5 * half else "clearly below" if lead < -(2**0.5) * half else "not clearly apart from"

    top = max(best.values())
    return (
        f"On test clients the ensemble reaches {number(means['ensemble'], 3)} ± {number(half, 3)}; validation had promised "
        f"{number(mean_row['promised'], 3)}, {_gap_text(shown_gap(mean_row['promised'], means['ensemble']))}. "
        f"It is {beside(means['base'])} "
        f"the base ({number(means['base'], 3)}) and {beside(top)} the best single-objective model ({ranks_first(best)}, {number(top, 3)}). "
        "(Clearly: by more than √2 times the half-width of its interval, as if the other mean were as uncertain; a rule of thumb.)"
    )


def _gap_text(gap: float) -> str:
    return "as much" if not gap else f"{number(abs(gap), 3)} {'more' if gap > 0 else 'less'}"
