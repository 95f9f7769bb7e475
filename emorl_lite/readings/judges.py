"""What the rewards of a real study leave to win, and how much of what was won another judge confirms.

Tables: people's replies and the base by the judges (`python scripts/check_rewards.py --base`), and the study's methods_quality.csv, whose
columns <objective>_second are scores by judges that nothing was trained on. A gain is a method's score less the base's, paired by seed,
with a 95 % interval over seeds, each alone. Two judges' scales differ, so that the ratio of their gains is a size, not a share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, listing, number, part, percent, signed, told
from emorl_lite.readings.real import CLOSE, DECODINGS, FIRST, called, check_columns, geometric, records
from emorl_lite.study.comparison import over
from emorl_lite.study.crossed import GEOMETRIC

BASE = "base"
PEOPLE = "replies"
"""How rows of people's replies begin in the table of headroom: "replies, high"."""
GOOD = "replies, high"
SECOND = "_second"
OFTEN = 0.2
"""A reply that is given to so many clients says the same to all."""

EMPATHY = "empathy: auc reaction/none"
"""The empathy judge's own figure."""

# -- the gate, before anything is trained on a judge


def gate_table(figures: pd.DataFrame) -> pd.DataFrame:
    """The judges' figures that have a limit, a row each: measure, value, limit, kept.

    `figures`: measure, value, limit, passes, as `scripts/check_rewards.py --out` writes them; without a limit the last two are empty.
    Raises UserError for a table that holds no limit.
    """
    check_columns(figures, ["measure", "value", "limit", "passes"], "the table of the judges")
    held = figures[figures["limit"].notna()]
    if held.empty:
        raise UserError("the table of the judges has no limit in it; python scripts/check_rewards.py --out FILE makes it")
    kept = ["yes" if str(passes) == "True" else "no" for passes in held["passes"]]
    return held[["measure", "value", "limit"]].assign(kept=kept).reset_index(drop=True)


def gate_reading(figures: pd.DataFrame) -> str:
    """Whether every limit is kept, and which are not. `figures` as for `gate_table`."""
    table = gate_table(figures)
    missed = [str(measure) for measure in table.loc[table["kept"] == "no", "measure"]]
    kept = f"The judges keep {part(len(table) - len(missed), len(table), 'limit')}"
    text = f"{kept}." if not missed else f"{kept}; not kept: {listing(missed)}."
    values = figures.set_index("measure")["value"]
    if EMPATHY in values:
        text += f" The judge of empathy alone has no limit: AUC {number(float(values[EMPATHY]), 3)} of replies with an emotional reaction"
        text += " against those without."
    return text


# -- headroom


def headroom_table(scores: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """People's replies by quality and the base's, greedy and sampled: n, the objectives, their mean and geometric mean, a row each.

    `scores`: policy, n, <objectives>, and <objective>_second where the other judges scored too, as `scripts/check_rewards.py --base` makes
    it. Raises UserError for a table without the base or people's replies.
    """
    _rows_of(scores, objectives)
    second = [f"{name}{SECOND}" for name in objectives if f"{name}{SECOND}" in scores]
    means = {"mean": scores[list(objectives)].mean(axis=1), GEOMETRIC: geometric(scores, objectives)}
    return scores[["policy", "n", *objectives]].assign(**means, **{name: scores[name] for name in second}).reset_index(drop=True)


def _rows_of(scores: pd.DataFrame, objectives: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(people's good replies, the base's by decoding), each a mapping from an objective and from the geometric mean to its score.

    Good are those of high quality; where no quality is known, people's best by the geometric mean.
    """
    if missing := [name for name in ("policy", "n", *objectives) if name not in scores]:
        raise UserError(f"the table of headroom has no column {missing[0]!r}; python scripts/check_rewards.py --base --out FILE makes it")
    rows = {str(row["policy"]): row for row in scores.assign(**{GEOMETRIC: geometric(scores, objectives)}).to_dict("records")}
    people = {name: row for name, row in rows.items() if name.startswith(PEOPLE)}
    base = {decoding: rows[f"{BASE}, {decoding}"] for decoding in DECODINGS if f"{BASE}, {decoding}" in rows}
    if not people or len(base) < len(DECODINGS):
        raise UserError("the table of headroom needs rows of people's replies, of 'base, greedy' and of 'base, sampled'")
    good = people.get(GOOD) or max(people.values(), key=lambda row: row[GEOMETRIC])
    return {str(k): v for k, v in good.items()}, {d: {str(k): v for k, v in row.items()} for d, row in base.items()}


def headroom_reading(scores: pd.DataFrame, objectives: Sequence[str]) -> str:
    """In which objectives the base is below people's good replies, and where it is not: there a gain is the judge's alone."""
    good, base = _rows_of(scores, objectives)
    whose = "good replies" if str(good["policy"]) == GOOD else f"best replies (“{good['policy']}”)"
    heights = ", ".join(f"{name} {number(float(good[name]))}" for name in objectives)
    size = counted(int(good["n"]), "reply", "replies")
    parts = [f"People's {whose} score {heights}; geometric mean {number(float(good[GEOMETRIC]))} ({size})."]
    for decoding in DECODINGS:
        room = {name: float(good[name]) - float(base[decoding][name]) for name in objectives}
        has = [f"{name} (+{number(gap)})" for name, gap in room.items() if gap > CLOSE]
        level = [name for name, gap in room.items() if abs(gap) <= CLOSE]
        none = [f"{name} (by {number(-gap)})" for name, gap in room.items() if gap < -CLOSE]
        text = f"The base's {decoding} replies have room in {listing(has)}" if has else f"The base's {decoding} replies have room in none"
        text += f", are level with people in {listing(level)}" if level else ""
        text += f", and are above people already in {listing(none)}" if none else ""
        whole = float(good[GEOMETRIC]) - float(base[decoding][GEOMETRIC])
        where = "room for" if whole > CLOSE else "level within" if whole >= -CLOSE else "above people by"
        parts.append(f"{text}; geometric mean {number(float(base[decoding][GEOMETRIC]))}, {where} {number(abs(whole))}.")
    if any(float(base[d][name]) > float(good[name]) + CLOSE for d in DECODINGS for name in objectives):
        parts.append("What scores above people's good replies is not shown to be better: it is what the judge likes.")
    return " ".join(parts)


# -- the judge that trained, and another

CONFIRMED, ALONE, TURNED, NOTHING, LOST = "confirmed", "own judge alone", "the other judge falls", "no clear gain", "a loss"
LOWER = "lower, not clearly"
UNJUDGED = "one seed"


def judged_gains(
    quality: pd.DataFrame, objectives: Sequence[str], methods: Sequence[str] | None = None, where: str | None = None
) -> pd.DataFrame:
    """What methods gain over the base by the judge that they were trained on and by the other: a row a method, decoding and objective.

    `quality`: seed, method, set, decoding, <objectives>, <objective>_second. `methods`: all but the base by default; `where`: a test set,
    the table's first by default. Columns: method, decoding, objective, seeds, own, own_low, own_high, other, other_low, other_high, ratio
    (other / own, nan unless own is a gain), verdict. Raises UserError for a table without the base, a method, the set or another judge.
    """
    of = _of_set(quality, where)
    told_twice = [name for name in objectives if f"{name}{SECOND}" in of]
    if not told_twice:
        raise UserError("the study's table of quality has no second judge's scores: --study.second-judges writes them")
    rows = []
    for method in _methods(of, methods):
        for decoding in DECODINGS:
            for name in told_twice:
                own, other = (_gain(of, method, decoding, column) for column in (name, f"{name}{SECOND}"))
                row: dict[str, Any] = {"method": method, "decoding": decoding, "objective": name, "seeds": int(own["n"])}
                row |= {"own": own["mean"], "own_low": own["low"], "own_high": own["high"]}
                row |= {"other": other["mean"], "other_low": other["low"], "other_high": other["high"]}
                row |= {"ratio": other["mean"] / own["mean"] if own["mean"] > 0 else math.nan, "verdict": _verdict(own, other)}
                rows.append(row)
    return pd.DataFrame(rows)


def _of_set(quality: pd.DataFrame, where: str | None) -> pd.DataFrame:
    """The rows of a test set, the first by default."""
    check_columns(quality, ["seed", "method", "set", "decoding"], "the study's table of quality")
    if quality.empty:
        raise UserError("the study's table of quality is empty")
    where = where or str(quality["set"].iloc[0])
    of = quality[quality["set"] == where]
    if of.empty:
        raise UserError(f"the study's table of quality has no test set {where!r}: it has {listing(sorted(set(quality['set'])))}")
    return of


def _methods(of: pd.DataFrame, methods: Sequence[str] | None) -> list[str]:
    """The methods asked for, all but the base by default; each is there, and the base."""
    known = [str(name) for name in of["method"].unique()]
    chosen = list(methods) if methods is not None else [name for name in known if name != BASE]
    for name in (BASE, *chosen):
        if name not in known:
            raise UserError(f"the study's table of quality has no rows of {name}")
    return chosen


def _gain(of: pd.DataFrame, method: str, decoding: str, column: str) -> dict[str, float]:
    """A method's column less the base's, over the seeds of both."""
    rows = of[of["decoding"] == decoding]
    ours, base = (rows[rows["method"] == name].set_index("seed")[column] for name in (method, BASE))
    return over((ours - base).dropna().to_numpy(dtype=np.float64))


def _verdict(own: Mapping[str, float], other: Mapping[str, float]) -> str:
    """What two judges' intervals say together."""
    if not (math.isfinite(own["low"]) and math.isfinite(other["low"])):
        return UNJUDGED
    if own["low"] <= 0:
        return LOST if own["high"] < 0 else LOWER if own["mean"] < 0 else NOTHING
    return CONFIRMED if other["low"] > 0 else TURNED if other["high"] < 0 else ALONE


def judges_table(gains: pd.DataFrame) -> pd.DataFrame:
    """`judged_gains` to look at: both gains with their intervals, their ratio and the verdict."""
    lines = []
    for row in records(gains):
        line = {"method": called(row["method"]), "replies": row["decoding"], "objective": row["objective"]}
        line |= {"own judge": told(_interval(row, "own")), "other judge": told(_interval(row, "other"))}
        shown = row["ratio"] if row["verdict"] in (CONFIRMED, ALONE, TURNED) else math.nan
        lines.append(line | {"other / own": shown, "the gain is": row["verdict"]})
    return pd.DataFrame(lines)


def _interval(row: Mapping[str, Any], whose: str) -> dict[str, float]:
    return {"mean": row[whose], "low": row[f"{whose}_low"], "high": row[f"{whose}_high"]}


def judges_reading(gains: pd.DataFrame, method: str = FIRST) -> str:
    """How much of one method's gain the other judge confirms, and where its own judge rises alone; then the other methods in short.

    `gains`: `judged_gains`. Raises UserError for a method that it lacks.
    """
    if method not in set(gains["method"]):
        raise UserError(f"the table of gains has no rows of {method}")
    parts = [_of_method(gains[(gains["method"] == method) & (gains["decoding"] == decoding)], decoding) for decoding in DECODINGS]
    judged = gains.loc[gains["verdict"] != UNJUDGED, "method"]
    others = [name for name in judged.unique() if name != method]
    hacked = [f"{called(str(name))} ({where})" for name in others if (where := _hacked(gains[gains["method"] == name]))]
    if hacked:
        parts.append(f"Of the others, the own judge rises and the other not clearly for {listing(hacked)}.")
    elif others:
        parts.append("With none of the other methods does the own judge rise and the other not clearly.")
    return f"{' '.join(parts)} These intervals are over seeds alone."


def _of_method(rows: pd.DataFrame, decoding: str) -> str:
    """One method's gains by two judges, of replies of one kind."""
    found = records(rows)
    name = called(found[0]["method"])
    if all(row["verdict"] == UNJUDGED for row in found):
        return f"{decoding.capitalize()}: one seed of {name} tells no gain from luck."
    raised = [row for row in found if row["verdict"] in (CONFIRMED, ALONE, TURNED)]
    if not raised:
        none = part(0, len(rows), "objective")
        lost = _fell([row["objective"] for row in found if row["verdict"] == LOST])
        return f"{decoding.capitalize()}: by the judges that it was trained on {name} gains clearly in {none}{lost}."
    confirmed = [row for row in raised if row["verdict"] == CONFIRMED]
    text = f"{decoding.capitalize()}, {name} gains by its own judges in {part(len(raised), len(found), 'objective')}"
    if confirmed:
        text += f"; the other judge confirms {listing([_both(row) for row in confirmed])}"
    if alone := [row for row in raised if row["verdict"] == ALONE]:
        text += f"; it does not confirm {listing([_both(row) for row in alone])}: that gain may be the own judge's alone"
    if turned := [row for row in raised if row["verdict"] == TURNED]:
        text += f"; by it {listing([_both(row) for row in turned])} falls: there the own judge was hacked"
    lost = _fell([row["objective"] for row in found if row["verdict"] == LOST])
    own, other = (float(np.mean([row[whose] for row in found])) for whose in ("own", "other"))
    return (
        f"{text}{lost}. On average over objectives {signed(own)} by the own judges and {signed(other)} by the others{_share(own, other)}."
    )


def _fell(objectives: Sequence[str]) -> str:
    """In which objectives a method is below the base by its own judge."""
    return f". {listing(objectives)[0].upper() + listing(objectives)[1:]} fell by the own judge" if objectives else ""


def _both(row: Mapping[str, Any]) -> str:
    """An objective with its gains by both judges."""
    return f"{row['objective']} ({signed(row['own'])} and {signed(row['other'])})"


def _share(own: float, other: float) -> str:
    """The other judges' gain as a ratio to the own's, where both are gains."""
    if own <= 0:
        return ""
    return f", {number(other / own)} times as much" if other > 0 else ", of which nothing is left"


def _hacked(rows: pd.DataFrame) -> str:
    """Where the own judge rises and the other does not: "empathy, fluency greedy"."""
    alone = rows[rows["verdict"].isin([ALONE, TURNED])]
    found = []
    for name, of in alone.groupby("objective", sort=False):
        decodings = set(of["decoding"])
        found.append(str(name) if decodings == set(DECODINGS) else f"{name} {next(iter(decodings))}")
    return ", ".join(found)


# -- guards


def guards_table(quality: pd.DataFrame, methods: Sequence[str] | None = None, where: str | None = None) -> pd.DataFrame:
    """What goes with a hacked reward: a row a method and decoding, the base's first.

    `quality`: seed, method, set, decoding, most_frequent, coherence. Columns: method, decoding, seeds, most_frequent (mean over seeds),
    most_frequent_worst (of a seed), coherence, and difference, low, high: its coherence less the base's, paired by seed. Raises UserError
    as `judged_gains` does.
    """
    check_columns(quality, ["most_frequent", "coherence"], "the study's table of quality")
    of, lines = _of_set(quality, where), []
    for method in (BASE, *_methods(of, methods)):
        for decoding in DECODINGS:
            rows = of[(of["method"] == method) & (of["decoding"] == decoding)]
            line: dict[str, Any] = {"method": method, "decoding": decoding, "seeds": int(rows["seed"].nunique())}
            line |= {"most_frequent": float(rows["most_frequent"].mean()), "most_frequent_worst": float(rows["most_frequent"].max())}
            found = over(np.zeros(0)) if method == BASE else _gain(of, method, decoding, "coherence")
            line |= {"coherence": float(rows["coherence"].mean())}
            lines.append(line | {"difference": found["mean"], "low": found["low"], "high": found["high"]})
    return pd.DataFrame(lines)


def guards_reading(table: pd.DataFrame) -> str:
    """Who says one reply to a fifth of all clients or more, and whose replies fit their clients less than the base's. `table`:
    `guards_table`."""
    rows = records(table)
    if often := [row for row in rows if row["most_frequent_worst"] >= OFTEN]:
        text = f"In at least one seed {percent(OFTEN)} or more of the replies are one and the same: "
        text += f"{_by_decoding(often, lambda row: percent(row['most_frequent_worst']))}."
    else:
        worst = max(rows, key=lambda row: float(row["most_frequent_worst"]))
        text = f"No reply is given to {percent(OFTEN)} of the clients by anybody: the most frequent is {called(worst['method'])}'s"
        text += f" ({worst['decoding']}, {percent(worst['most_frequent_worst'])})."
    return f"{text} {_coherence_reading(rows)}"


def _coherence_reading(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whose replies are clearly less coherent than the base's, and how often that is so but not clear."""
    below = [row for row in rows if row["high"] < 0]
    lower = sum(row["difference"] < 0 and not row["high"] < 0 for row in rows)
    if below:
        further = f"; lower, not clearly, in {counted(lower, 'further comparison')}" if lower else ""
        return f"Coherence is below the base's: {_by_decoding(below, lambda row: signed(row['difference']))}{further}."
    unclear = f"; lower, not clearly, in {counted(lower, 'comparison')}" if lower else ""
    return f"Nobody's coherence is clearly below the base's{unclear}."


def _by_decoding(rows: Sequence[Mapping[str, Any]], size: Callable[[Mapping[str, Any]], str]) -> str:
    """Methods with a number each: "sampled, EMORL (35 %) and GDPO (21 %); greedy, EMORL (40 %)"."""
    parts = []
    for decoding in DECODINGS:
        if named := [f"{called(row['method'])} ({size(row)})" for row in rows if row["decoding"] == decoding]:
            parts.append(f"{decoding}, {listing(named)}")
    return "; ".join(parts)
