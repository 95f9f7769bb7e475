"""What the methods of a real study score by each objective: where one policy stays at its base, and an adapter of its own does not."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from emorl_lite.base.wording import counted, listing, number
from emorl_lite.readings.real import CLOSE, FIRST, SAMPLED, called, objectives_of, records
from emorl_lite.study.crossed import GEOMETRIC, MEAN, scores_by_cell
from emorl_lite.study.measuring import geometric_mean


def objectives_table(prompts: pd.DataFrame, others: Sequence[str], first: str = FIRST, decoding: str = SAMPLED) -> pd.DataFrame:
    """Each method's mean scores over seeds and test prompts, at its own setting: a row a method, the first one on top.

    `prompts`: seed, method, choice, decoding, prompt, <objectives>. Columns: method, seeds, <objectives>, mean, and the geometric mean of a
    seed's mean scores, averaged over seeds. Raises UserError for a method that the table lacks, or whose scores are not complete.
    """
    names, lines = objectives_of(prompts), []
    for method in (first, *others):
        seeds = scores_by_cell(prompts, method, decoding, None, names).mean(1)  # [S, d]
        line = {"method": method, "seeds": len(seeds), **dict(zip(names, seeds.mean(0).tolist(), strict=True))}
        lines.append(line | {MEAN: float(seeds.mean()), GEOMETRIC: float(geometric_mean(seeds).mean())})
    return pd.DataFrame(lines)


def objectives_shown(table: pd.DataFrame) -> pd.DataFrame:
    """`objectives_table` to look at."""
    return table.assign(method=[called(str(method)) for method in table["method"]])


def objectives_reading(table: pd.DataFrame, objectives: Sequence[str], second: str = "uniform", base: str = "base") -> str:
    """In which objective the first method and one policy on the mean part most, and whether that policy left its base there at all.

    `table`: `objectives_table`; without the second method or the base in it there is nothing to say.
    """
    rows = {str(row["method"]): row for row in records(table)}
    if second not in rows or base not in rows:
        return ""
    ours, theirs, start = records(table)[0], rows[second], rows[base]
    gaps = {name: ours[name] - theirs[name] for name in objectives}
    most = max(gaps, key=lambda name: abs(gaps[name]))
    who, whom = called(str(ours["method"])), called(second)
    if abs(gaps[most]) <= CLOSE:
        return f"{who} and {whom} are within {number(CLOSE)} of each other in every objective."
    text = (
        f"{who} and {whom} part most in {most}: {number(ours[most])} and {number(theirs[most])}, where the base has {number(start[most])}."
    )
    still = [name for name in objectives if theirs[name] - start[name] <= CLOSE]
    seeds = counted(int(theirs["seeds"]), "seed")
    if still:
        return f"{text} In {listing(still)} the one policy is no further than its base ({seeds}): it has not found out what pays there."
    return f"{text} The one policy is above its base in every objective ({seeds}): it found out what pays in each."
