"""What the methods of a real study score by each objective: where one policy stays at its base, and an adapter of its own does not."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from emorl_lite.base.wording import counted, listing, number, signed
from emorl_lite.readings.real import CLOSE, FIRST, SAMPLED, called, objectives_of, records
from emorl_lite.study.crossed import GEOMETRIC, MEAN, scores_by_cell
from emorl_lite.study.measuring import geometric_mean


def objectives_table(prompts: pd.DataFrame, others: Sequence[str], first: str = FIRST, decoding: str = SAMPLED) -> pd.DataFrame:
    """Each method's mean scores over seeds and test prompts, at its own setting: a row a method, the first one on top. Only the seeds that
    all of them have count.

    `prompts`: seed, method, choice, decoding, prompt, <objectives>. Columns: method, seeds, <objectives>, mean, and the geometric mean of a
    seed's mean scores, averaged over seeds. Raises UserError for a method that the table lacks, or whose scores are not complete.
    """
    names, lines = objectives_of(prompts), []
    of = prompts[prompts["decoding"] == decoding]
    for method in (first, *others):
        scores_by_cell(of, method, decoding, None, names)  # complete, or told with its name
    common = set.intersection(*(set(of.loc[of["method"] == method, "seed"]) for method in (first, *others)))
    prompts = of[of["seed"].isin(common)]
    for method in (first, *others):
        seeds = scores_by_cell(prompts, method, decoding, None, names).mean(1)  # [S, d]
        line = {"method": method, "seeds": len(seeds), **dict(zip(names, seeds.mean(0).tolist(), strict=True))}
        lines.append(line | {MEAN: float(seeds.mean()), GEOMETRIC: float(geometric_mean(seeds).mean())})
    return pd.DataFrame(lines)


def objectives_shown(table: pd.DataFrame) -> pd.DataFrame:
    """`objectives_table` to look at."""
    return table.assign(method=[called(str(method)) for method in table["method"]])


def objectives_reading(
    prompts: pd.DataFrame, objectives: Sequence[str], first: str = FIRST, second: str = "uniform", base: str = "base"
) -> str:
    """How far apart the first method and one policy on the mean are in each objective, and where that policy is hardly above its base.

    `prompts` as for `objectives_table`; without the second method or the base in it there is nothing to say.
    """
    if not {second, base} <= set(prompts["method"]):
        return ""
    ours, theirs, start = records(objectives_table(prompts, [second, base], first))
    gaps = {name: ours[name] - theirs[name] for name in objectives}
    who, whom, seeds = called(first), called(second), counted(int(theirs["seeds"]), "seed")
    if max(map(abs, gaps.values())) <= CLOSE:
        return f"Sampled, {who} and {whom} are within {number(CLOSE)} of each other in every objective ({seeds})."
    each = [f"{name} {signed(gap, 2)}" for name, gap in sorted(gaps.items(), key=lambda item: -abs(item[1]))]
    text = f"Sampled, {who} less {whom}: {listing(each)}"
    still = [name for name in objectives if theirs[name] - start[name] <= CLOSE]
    told = listing([f"{name} ({number(theirs[name])}, the base {number(start[name])})" for name in still])
    where = (
        f"That policy is hardly above its base, or not at all, in {told}." if still else "That policy is above its base in each objective."
    )
    return f"{text} ({seeds}). {where}"
