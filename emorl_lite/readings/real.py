"""What the tables of a real study say of EMORL beside the others, right whichever way the numbers come out.

A method's score is a utility of its mean scores on test prompts: the geometric mean, unless another is named. Sampled replies come first,
greedy ones second. Differences over seeds and prompts have the interval of `study.crossed`, and a verdict by Holm's procedure over the
methods that stand beside the first one; tables that hold no prompts have intervals over seeds, widened for as many looks (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import by_sign, counted, judged, listing, number, part, signed, told
from emorl_lite.readings.page import name_of
from emorl_lite.study.claims import GREEDY, SAMPLED, holm
from emorl_lite.study.comparison import over, representative
from emorl_lite.study.comparison import paired as over_seeds
from emorl_lite.study.crossed import GEOMETRIC, MEAN, crossed, paired
from emorl_lite.study.enough import Enough, enough
from emorl_lite.study.measuring import GEOMETRIC_OPTIMUM, geometric_mean

FIRST = "emorl"
OTHERS = ("uniform", "uniform-short", "exact-average", "rewarded-soups", "dera", "mod-forward", "gdpo", "base")
"""What stands beside EMORL in the main comparison."""
CLOSE = 0.03
"""The half-width that intervals of the main comparison are held to; two methods no further apart than this are as good as equal."""
ABOVE, BELOW, OPEN = "above", "below", "open"
EQUAL = "as good as equal"
DECODINGS = (SAMPLED, GREEDY)
CALLED = {
    "uniform": "uniform with an equal sum",
    "uniform-short": "uniform with an equal longest run",
    "exact-average": "exact averages",
    "dera": "DeRa",
    "mod-forward": "MOD with forward KL",
    "gdpo": "GDPO",
    "base": "the base",
}
"""Short names, with what the uniform policies' data have in common with EMORL's."""
KEYS = ("seed", "method", "choice", "decoding", "prompt")


def called(method: str) -> str:
    """A method's name in these tables."""
    return CALLED.get(method, name_of(method))


def objectives_of(prompts: pd.DataFrame) -> list[str]:
    """The objectives of a study's table of prompts. Raises UserError if it is none."""
    check_columns(prompts, KEYS, "the study's table of prompts")
    return [str(column) for column in prompts.columns if column not in KEYS]


def others_in(table: pd.DataFrame) -> list[str]:
    """The methods beside EMORL that a study's table has, in the comparison's order. Raises UserError if it has none of them."""
    there = [method for method in OTHERS if method in set(table["method"])]
    if not there:
        raise UserError("the real study's table has none of the methods that EMORL is compared with")
    return there


# -- the main comparison


def differences(prompts: pd.DataFrame, others: Sequence[str] = OTHERS, first: str = FIRST, utility: str = GEOMETRIC) -> pd.DataFrame:
    """`first` beside each of the others, sampled and greedy: a row a decoding and method.

    `prompts`: seed, method, choice, decoding, prompt, <objectives>. Columns: first, second, decoding, utility, first_score, second_score,
    difference, low, high, p, seeds, prompts, holm, verdict (ABOVE, BELOW, OPEN, by Holm over a decoding's rows), target, and more_seeds,
    more_prompts, more_times: what an interval of +-target would take (`study.enough`), nan where no number is enough or there is nothing
    to ask. Only seeds that both methods have are compared; one alone has no interval. Raises UserError for a method that the table lacks,
    or whose scores are not complete.
    """
    names, rows = objectives_of(prompts), []
    for decoding in DECODINGS:
        found = [_beside(prompts, first, second, decoding, names, utility) for second in others]
        measured = [row for row in found if math.isfinite(row["p"])]
        rejected = dict(zip((row["second"] for row in measured), holm([row["p"] for row in measured]), strict=True))
        for row in found:
            row["holm"] = rejected.get(row["second"], False)
            row["verdict"] = (ABOVE if row["difference"] > 0 else BELOW) if row["holm"] else OPEN
            rows.append({key: value for key, value in row.items() if key != "values"} | _needed(row, len(measured)))
    return pd.DataFrame(rows)


def _beside(prompts: pd.DataFrame, first: str, second: str, decoding: str, names: Sequence[str], utility: str) -> dict[str, Any]:
    """One difference, with its values [S, P]."""
    of = prompts[prompts["decoding"] == decoding]
    seeds = [set(of.loc[of["method"] == method, "seed"]) for method in (first, second)]
    for method, have in zip((first, second), seeds, strict=True):
        if not have:
            raise UserError(f"comparison: the study's table of prompts has no {decoding} scores of {method}")
    if not (common := seeds[0] & seeds[1]):
        raise UserError(f"comparison: {first} and {second} have no seed in common")
    of = of[of["seed"].isin(common)]
    ours, theirs = paired(of, first, second, names, decoding, utility)
    values = ours - theirs
    row: dict[str, Any] = {"first": first, "second": second, "decoding": decoding, "utility": utility}
    row |= {"first_score": float(ours.mean()), "second_score": float(theirs.mean()), "difference": float(values.mean())}
    row |= {"low": math.nan, "high": math.nan, "p": math.nan}
    if min(values.shape) > 1:
        found = crossed(values)
        row |= {"low": found.low, "high": found.high, "p": found.p}
    return row | {"seeds": values.shape[0], "prompts": values.shape[1], "values": values}


def _needed(row: Mapping[str, Any], looks: int) -> dict[str, float]:
    """How near an open difference would have to be known, and how many seeds or prompts that takes.

    One that is wider than asked for: as near as asked for. Another: as near as it is large, with an interval corrected for all looks.
    """
    reach, size, target, confidence = (row["high"] - row["low"]) / 2, abs(row["difference"]), math.nan, 0.95
    if row["verdict"] == OPEN and math.isfinite(reach) and not _even(row):
        if reach > CLOSE and not _alone(row):
            target = CLOSE
        elif size > 0:
            target, confidence = size, 1 - 0.05 / looks
    needed = enough(row["values"], target, confidence) if math.isfinite(target) else Enough(None, None, None)
    counts = {"more_seeds": needed.seeds, "more_prompts": needed.prompts, "more_times": needed.times}
    return {"target": target} | {key: math.nan if n is None else float(n) for key, n in counts.items()}


def _alone(row: Mapping[str, Any]) -> bool:
    """Whether the interval, taken alone, lies on one side of zero."""
    return bool(row["low"] > 0 or row["high"] < 0)


def _even(row: Mapping[str, Any]) -> bool:
    """Whether the whole interval lies within +-CLOSE."""
    return bool(row["low"] >= -CLOSE and row["high"] <= CLOSE)


def _found(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's difference with its interval, as `told` takes it."""
    return {"mean": row["difference"], "low": row["low"], "high": row["high"]}


def comparison_table(found: pd.DataFrame) -> pd.DataFrame:
    """`differences` to look at, a row a method, the first one on top: its scores, and the first one's difference from it with a verdict."""
    lines: list[dict[str, Any]] = []
    first = called(found["first"].iloc[0])
    most = found.sort_values("seeds", ascending=False, kind="stable").drop_duplicates("decoding").set_index("decoding")["first_score"]
    line: dict[str, Any] = {"method": first}
    for decoding in DECODINGS:
        line |= {decoding: float(most[decoding]), f"{first} less it, {decoding}": ""}
    lines.append(line)
    for method, rows in found.groupby("second", sort=False):
        by = {row["decoding"]: row for row in records(rows)}
        line = {"method": called(str(method))}
        for decoding in DECODINGS:
            verdict = {ABOVE: ", above", BELOW: ", below"}.get(by[decoding]["verdict"], "")
            line |= {decoding: by[decoding]["second_score"], f"{first} less it, {decoding}": told(_found(by[decoding])) + verdict}
        lines.append(line)
    return pd.DataFrame(lines)


def comparison_reading(found: pd.DataFrame, samples: int = 0) -> str:
    """Beside whom the first one is above, below or open, how wide the intervals are, and why what is open is open. `found`: `differences`.

    `samples`: replies sampled for each prompt, if that is to be said. A decoding that is not among the rows is not spoken of.
    """
    many = f", {samples} a statement" if samples else ""
    parts = []
    for decoding, head in ((SAMPLED, f"**Sampled replies{many}**"), (GREEDY, "**Greedy replies**")):
        if not (rows := records(found[found["decoding"] == decoding])):
            continue
        parts.append(f"{head} ({_size(rows)}; {rows[0]['utility']} of the objectives): {_verdicts(rows)} {_widths(rows)}")
        parts += _reasons(rows)
    return "\n\n".join(parts)


def answer_reading(found: pd.DataFrame, rows: pd.DataFrame, objectives: Sequence[str], first: str = FIRST) -> str:
    """Is it the ensemble: the first one beside one policy with the same budget and beside its own adapters averaged, by both decodings;
    what choosing weights has to do with it; and how far from the base all are.

    `found`: `differences`; `rows`: seed, method, choice, <objectives> (greedy scores), kl. Of what they lack nothing is said.
    """
    parts = []
    for second, what in (("uniform", "one policy with as many prompts"), ("exact-average", "the same adapters, averaged exactly")):
        of = {row["decoding"]: row for row in records(found[found["second"] == second])}
        verdicts = {decoding: EQUAL if row["verdict"] == OPEN and _even(row) else row["verdict"] for decoding, row in of.items()}
        if verdicts:
            parts.append(f"beside {what}, {' and '.join(f'{verdict} ({decoding})' for decoding, verdict in verdicts.items())}")
    if not parts:
        return ""
    text = f"**Is it the ensemble?** {called(first)} is, {'; '.join(parts)}."
    untuned = rows[rows["choice"] == "default"].assign(value=lambda table: geometric(table, objectives))
    gaps = [
        f"{signed_gap} less {what}"
        for second, what in (("uniform", "the one policy"), ("exact-average", "the exact average"))
        if (gap := over_seeds(untuned, first, second, "value", looks=2))["n"] and (signed_gap := told(gap))
    ]
    if gaps:
        instead = f"with uniform weights instead {called(first)} has, greedy, {listing(gaps)} (over seeds)"
        text += f" Its weights are chosen on greedy replies; {instead}."
    return text + _distances(rows, [first, *found["second"].unique()])


def _distances(rows: pd.DataFrame, methods: Sequence[str]) -> str:
    """How far from the base these methods are, at the settings that the grid chose; "" for a table without KL, or for one method."""
    if "kl" not in rows:
        return ""
    chosen = representative(rows[rows["method"].isin(methods) & (rows["method"] != "base")]).groupby("method")["kl"].mean().dropna()
    if len(chosen) < 2:
        return ""
    near, far = str(chosen.idxmin()), str(chosen.idxmax())
    first = "" if methods[0] in (near, far) or methods[0] not in chosen else f", {called(methods[0])} {number(chosen[methods[0]], 1)}"
    return (
        f" Their KL to the base goes from {number(chosen[near], 1)} nats a reply ({called(near)}) to {number(chosen[far], 1)} "
        f"({called(far)}){first}."
    )


def short_reading(found: pd.DataFrame, others: Sequence[str], decoding: str = SAMPLED) -> str:
    """The first one beside a few of the others, in one sentence. `found`: `differences`; verdicts are of all its rows."""
    rows = [row for row in records(found[found["decoding"] == decoding]) if row["second"] in others]
    rows.sort(key=lambda row: list(others).index(row["second"]))
    parts = []
    for row in rows:
        verdict = row["verdict"]
        if verdict == OPEN:
            apart = f"{EQUAL} to" if _even(row) else "not clearly apart from"
            verdict = apart if math.isfinite(row["low"]) else "not judged beside"
        parts.append(f"{verdict} {called(row['second'])} ({told(_found(row))})")
    return f"{called(rows[0]['first'])}, {decoding}, by the {rows[0]['utility']} of the objectives ({_size(rows)}): {listing(parts)}."


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _size(rows: Sequence[Mapping[str, Any]]) -> str:
    """Over how many seeds and statements, and which methods have fewer."""
    seeds = max(row["seeds"] for row in rows)
    fewer = [f"{called(row['second'])} {row['seeds']}" for row in rows if row["seeds"] < seeds]
    return f"{counted(seeds, 'seed')}, {counted(rows[0]['prompts'], 'statement')}" + (f"; fewer seeds: {listing(fewer)}" if fewer else "")


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: above, below, open."""
    first, parts = called(rows[0]["first"]), []
    for verdict, words in ((ABOVE, "**above**"), (BELOW, "**below**"), (OPEN, "**open** beside")):
        named = [f"{called(row['second'])} ({told(_found(row))})" for row in rows if row["verdict"] == verdict]
        if named:
            parts.append(f"{words} {listing(named)}")
    n = _judged(rows)
    holm_over = f" Verdicts are by Holm's procedure over {part(n, n, 'difference')}." if n else ""
    return f"{first} is {'; '.join(parts)}.{holm_over}"


def _judged(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many differences have an interval: over these Holm's procedure goes."""
    return sum(math.isfinite(row["low"]) for row in rows)


def _widths(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which intervals are as narrow as asked for, and the widest of the others."""
    reaches = {called(row["second"]): (row["high"] - row["low"]) / 2 for row in rows if math.isfinite(row["low"])}
    if not reaches:
        return "With one seed or one statement there is no interval, and nothing to judge by."
    narrow = sum(reach <= CLOSE for reach in reaches.values())
    if narrow == len(reaches):
        return f"{'Each' if narrow > 1 else 'The'} interval has a half-width of at most {number(CLOSE)}."
    widest = max(reaches, key=reaches.__getitem__)
    if not narrow:
        size = f"{number(reaches[widest], 3)}, beside {widest}"
        if len(reaches) == 1:
            return f"The interval has a half-width of more than {number(CLOSE)}: {size}."
        return f"No interval has a half-width of at most {number(CLOSE)}; the widest has {size}."
    size = f"{narrow} of {len(reaches)} intervals {'has' if narrow < 2 else 'have'} a half-width of at most {number(CLOSE)}"
    return f"{size}; the widest has {number(reaches[widest], 3)}, beside {widest}."


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A paragraph on why what is open is open, by kinds of reason; none if nothing is."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"] == OPEN:
            why, detail = _why_open(row, _judged(rows))
            groups.setdefault(why, []).append(called(row["second"]) + (f" ({detail})" if detail else ""))
    if not groups:
        return []
    text = " ".join(f"{why}: {listing(named)}." for why, named in groups.items())
    if any(math.isfinite(row["target"]) for row in rows):
        seeds = max(row["seeds"] for row in rows)
        text += f" In brackets: how many seeds or statements would do, a rough forecast from {counted(seeds, 'seed')}."
    return [f"Why it is open. {text}"]


def _why_open(row: Mapping[str, Any], looks: int) -> tuple[str, str]:
    """Why one difference is open, and of this one, what would decide it."""
    if not math.isfinite(row["low"]):
        return "Too few in common for an interval", f"{counted(row['seeds'], 'seed')}, {counted(row['prompts'], 'statement')}"
    if _even(row):
        return f"{EQUAL.capitalize()}, the whole interval within ±{number(CLOSE)}", ""
    reach = f"±{number((row['high'] - row['low']) / 2, 3)}"
    if _alone(row):
        return f"On one side of zero alone, but not as one of {counted(looks, 'look')}", _takes(row)
    if row["target"] == CLOSE:
        return f"Of a half-width above {number(CLOSE)}", f"{reach}; {_takes(row)}"
    if not math.isfinite(row["target"]):
        return "Narrow, and the difference nil", reach
    return "Narrow, but the difference too small to tell from nothing", f"{reach}; {_takes(row)}"


def _takes(row: Mapping[str, Any]) -> str:
    """How many seeds or statements would decide it: "12 seeds or 150 statements"."""
    ways = [f"{counted(int(row[key]), what)}" for key, what in (("more_seeds", "seed"), ("more_prompts", "statement")) if row[key] > 0]
    if ways:
        return " or ".join(ways)
    return f"{int(row['more_times'])} times as many of both" if row["more_times"] > 0 else "more of both than anybody has"


# -- equal distances from the base, and other statements


def matched_table(matched: pd.DataFrame, first: str = FIRST) -> pd.DataFrame:
    """Sampled mean scores at equal KL to the base: a row a method and target that any seed of it reaches.

    `matched`: seed, method, target, reached, sampled_mean. Columns: method, target (nats a reply), seeds (that reach it), sampled_mean,
    and difference, low, high, common: the first one less this one over the `common` seeds that both reach, corrected for all differences
    that have an interval. Raises UserError for a table without the first.
    """
    _there(matched, first, ["seed", "method", "target", "reached", "sampled_mean"], "the study's table at equal KL")
    reached = matched[matched["reached"].astype(bool)]
    others = [method for method in reached["method"].unique() if method != first]
    by_target = {
        target: reached[np.isclose(reached["target"], target)].pivot_table(index="seed", columns="method", values="sampled_mean")
        for target in sorted(matched["target"].unique())
    }
    looks = sum(_judgeable(scores, first, others) for scores in by_target.values())
    lines = []
    for target, scores in by_target.items():
        for method in [name for name in (first, *others) if name in scores]:
            line = {"method": method, "target": float(target), "seeds": int(scores[method].notna().sum())}
            line |= {"sampled_mean": float(scores[method].mean())}
            lines.append(line | _less(scores.get(first), scores[method], method != first, looks))
    columns = ["method", "target", "seeds", "sampled_mean", "difference", "low", "high", "common"]
    return pd.DataFrame(lines, columns=columns)


def matched_shown(table: pd.DataFrame) -> pd.DataFrame:
    """`matched_table` to look at: a row a method, at each distance its score and the first one's difference from it."""
    return _shown(table.assign(at=[f"KL {target:g}" for target in table["target"]]), "sampled_mean")


def _shown(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """A row a method, and of each `at` a column of scores and one of differences with their intervals."""
    columns, lines = list(dict.fromkeys(table["at"])), []
    for method, rows in table.groupby("method", sort=False):
        by = {row["at"]: row for row in records(rows)}
        line: dict[str, Any] = {"method": called(str(method))}
        for at in columns:
            row = by.get(at)
            line[at] = float(row[score]) if row else math.nan
            line[f"{called(FIRST)} less it, {at}"] = told(_found(row)) if row and math.isfinite(row["difference"]) else ""
        lines.append(line)
    return pd.DataFrame(lines)


def _judgeable(scores: pd.DataFrame, first: str, others: Sequence[str]) -> int:
    """Beside how many of the others the first one has two seeds or more in common, and so an interval. `scores`: a row a seed."""
    return sum(len(scores[[first, name]].dropna()) > 1 for name in others if {first, name} <= set(scores))


def _less(ours: pd.Series | None, theirs: pd.Series, other: bool, looks: int) -> dict[str, float]:
    """Ours less theirs over the seeds of both; nan for the first one itself."""
    found = over(np.zeros(0)) if ours is None or not other else over((ours - theirs).dropna().to_numpy(dtype=np.float64), looks)
    return {"difference": found["mean"], "low": found["low"], "high": found["high"], "common": found["n"]}


def check_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise UserError if a table lacks a column, as those of studies made before do."""
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"{what} has no column {missing[0]!r}; studies made now have it")


def _there(table: pd.DataFrame, method: str, columns: Sequence[str], what: str) -> None:
    check_columns(table, columns, what)
    if method not in set(table["method"]):
        raise UserError(f"{what} has no rows of {method}")


def matched_reading(table: pd.DataFrame, first: str = FIRST, targets: Sequence[float] = ()) -> str:
    """The first one beside the others at each distance from the base. `table`: `matched_table`; `targets`: all that were asked for."""
    name, parts = called(first), []
    if table.empty:
        return "No method gets as far from the base as the study compares at."
    for target, rows in table.groupby("target"):
        at = f"At about {number(float(str(target)), 2)} nats a reply"
        own = rows[rows["method"] == first]
        if own.empty:
            parts.append(f"{at} {name} is not compared: none of its seeds gets so far.")
            continue
        head = (
            f"{at}, sampled, {name} scores {number(float(own['sampled_mean'].iloc[0]), 3)} ({counted(int(own['seeds'].iloc[0]), 'seed')})"
        )
        parts.append(f"{head}; {_sides(records(rows[rows['method'] != first]))}.")
    nobody = [number(target, 2) for target in targets if not np.isclose(table["target"], target).any()]
    none = f" Nobody gets as far as {listing(nobody)} nats." if nobody else ""
    looks = _looks(int(table["low"].notna().sum()))
    return f"{' '.join(parts)}{none} These are means over objectives, with intervals over the seeds that both reach{looks}."


def _looks(looks: int) -> str:
    return f", corrected for {looks} looks" if looks > 1 else ""


def _sides(rows: Sequence[Mapping[str, Any]]) -> str:
    """Beside whom the first one is above, below or not clearly apart, by intervals over seeds: "above a (...) and below b (...)"."""
    groups: dict[str, list[str]] = {}
    most = max((row["common"] for row in rows), default=0)
    for row in rows:
        if not math.isfinite(row["difference"]):
            key = "not compared with"
        elif not math.isfinite(row["low"]):
            key = "not judged on one seed beside"
        else:
            key = by_sign(_found(row), "above", "below", "open beside")
        few = f", {counted(int(row['common']), 'seed')} of both" if 1 < row["common"] < most else ""
        groups.setdefault(key, []).append(f"{called(row['method'])} ({told(_found(row))}{few})")
    order = ("above", "below", "open beside", "not judged on one seed beside", "not compared with")
    return "; ".join(f"{key} {listing(groups[key])}" for key in order if key in groups) or "nobody else gets so far"


def transfer_table(
    quality: pd.DataFrame, objectives: Sequence[str], others: Sequence[str] = OTHERS, where: str = "counsel-chat", first: str = FIRST
) -> pd.DataFrame:
    """Scores on a test set of another source, settings as chosen at home: a row a decoding and method, the first one on top.

    `quality`: seed, method, set, decoding, <objectives>. Columns: method, decoding, seeds, score (the geometric mean of a seed's mean
    scores, over seeds), and difference, low, high: the first one less this one, paired by seed. Raises UserError for a set or a method
    that the table lacks.
    """
    check_columns(quality, ["seed", "method", "set", "decoding", *objectives], "the study's table of quality")
    of = quality[quality["set"] == where]
    if of.empty:
        raise UserError(f"the study's table of quality has no test set {where!r}: it has {listing(sorted(set(quality['set'])))}")
    lines = []
    for decoding in DECODINGS:
        rows = of[of["decoding"] == decoding]
        scores = rows.assign(score=geometric(rows, objectives)).pivot_table(index="seed", columns="method", values="score")
        looks = _judgeable(scores, first, others)
        for method in (first, *others):
            if method not in scores:
                raise UserError(f"the study's table of quality has no {decoding} scores of {method} on {where}")
            line = {
                "method": method,
                "decoding": decoding,
                "seeds": int(scores[method].notna().sum()),
                "score": float(scores[method].mean()),
            }
            lines.append(line | _less(scores[first], scores[method], method != first, looks))
    return pd.DataFrame(lines)


def transfer_shown(table: pd.DataFrame) -> pd.DataFrame:
    """`transfer_table` to look at: a row a method, by each decoding its score and the first one's difference from it."""
    return _shown(table.assign(at=table["decoding"]), "score")


def geometric(rows: pd.DataFrame, objectives: Sequence[str], prefix: str = "") -> pd.Series:
    """The geometric mean of the columns of objectives, each at least 0, row by row."""
    values = rows[[f"{prefix}{name}" for name in objectives]].to_numpy(dtype=np.float64)
    return pd.Series(geometric_mean(values), index=rows.index)


def transfer_reading(table: pd.DataFrame, home: pd.DataFrame, where: str = "counsel-chat", first: str = FIRST) -> str:
    """The first one on the other source's statements, and whether its differences at home point the same way there.

    `table`: `transfer_table`; `home`: `differences`.
    """
    parts = []
    for decoding in DECODINGS:
        rows = table[table["decoding"] == decoding]
        own = float(rows.loc[rows["method"] == first, "score"].iloc[0])
        text = f"On {where}, {decoding}, {called(first)} scores {number(own, 3)}: {_sides(records(rows[rows['method'] != first]))}."
        there = rows.set_index("method")["difference"]
        decided = home[(home["decoding"] == decoding) & (home["verdict"] != OPEN) & home["second"].isin(there.index)]
        if len(decided):
            same = int((np.sign(decided["difference"].to_numpy()) == np.sign(there[decided["second"]].to_numpy())).sum())
            text += f" Decided at home and of the same sign there: {part(same, len(decided), 'difference')}."
        else:
            text += " At home nothing is decided that could be found again there."
        parts.append(text)
    looks = int(table.loc[table["decoding"] == SAMPLED, "low"].notna().sum())
    return f"{' '.join(parts)} Intervals are over seeds{_looks(looks)}; prompts would widen them."


# -- what the grid missed

CHOICES = {
    "default": "uniform weights",
    "grid": "grid, by the geometric mean",
    "grid, mean": "grid, by the mean",
    "published search": "published search",
    GEOMETRIC_OPTIMUM: "exact optimum, by the geometric mean",
    "exact optimum": "exact optimum, by the mean",
}
"""Ways to choose EMORL's weights on validation prompts, and how they are called here."""
SAMPLED_OPTIMUM = "sampled optimum"


def choices_table(
    rows: pd.DataFrame, objectives: Sequence[str], sampled_maps: pd.DataFrame | None = None, method: str = FIRST
) -> pd.DataFrame:
    """One method's test scores by how its weights were chosen, means over seeds: a row a choice.

    `rows`: seed, method, choice, <objectives>, mean, sampled_<objectives>, sampled_mean, kl; `sampled_maps`: sampled_maps.csv, whose
    optimum of sampled replies is added with its sampled scores. Columns: choice, seeds, geometric mean and mean, each sampled and greedy,
    and KL. Raises UserError for a table without the method.
    """
    wide = _choices(rows, objectives, sampled_maps, method)
    lines = []
    for choice in [name for name in (*CHOICES, SAMPLED_OPTIMUM) if name in set(wide["choice"])]:
        of = wide[wide["choice"] == choice]
        line: dict[str, Any] = {"choice": _said_of(choice, wide), "seeds": int(of["seed"].nunique())}
        lines.append(line | {column: float(of[column].mean()) for column in _MEASURES} | {"KL": float(of["kl"].mean())})
    return pd.DataFrame(lines)


def _said_of(choice: str, wide: pd.DataFrame) -> str:
    """What a choice is called: without a second grid it is the mean that the only one is chosen by."""
    if choice == "grid" and "grid, mean" not in set(wide["choice"]):
        choice = "grid, mean"
    return CHOICES.get(choice, f"{choice}, by the mean")


_MEASURES = [f"{utility}, {decoding}" for utility in (GEOMETRIC, MEAN) for decoding in DECODINGS]


def _choices(rows: pd.DataFrame, objectives: Sequence[str], sampled_maps: pd.DataFrame | None, method: str) -> pd.DataFrame:
    """seed, choice, kl and the four measures, a line a seed and choice."""
    sampled = [f"sampled_{name}" for name in (*objectives, MEAN)]
    _there(rows, method, ["seed", "method", "choice", "kl", *objectives, MEAN, *sampled], "the study's table")
    own = rows[rows["method"] == method]
    values = {f"{GEOMETRIC}, {GREEDY}": geometric(own, objectives), f"{MEAN}, {GREEDY}": own["mean"]}
    values |= {f"{GEOMETRIC}, {SAMPLED}": geometric(own, objectives, "sampled_"), f"{MEAN}, {SAMPLED}": own["sampled_mean"]}
    wide = own[["seed", "choice", "kl"]].assign(**values)
    if sampled_maps is None or sampled_maps.empty:
        return wide
    test = sampled_maps[(sampled_maps["policy"] == SAMPLED_OPTIMUM) & (sampled_maps["set"] == "test") & (sampled_maps["temperature"] == 1)]
    more = {f"{GEOMETRIC}, {SAMPLED}": geometric(test, objectives), f"{MEAN}, {SAMPLED}": test["mean"]}
    return pd.concat([wide, test[["seed"]].assign(choice=SAMPLED_OPTIMUM, **more)], ignore_index=True)


def weights_reading(rows: pd.DataFrame, objectives: Sequence[str], choice: str = "grid", method: str = FIRST) -> str:
    """The weights of one choice, a seed at a time, and whose adapter they leave out. `rows` as for `choices_table`, with w_<objective>."""
    of = rows[(rows["method"] == method) & (rows["choice"] == choice)].sort_values("seed")
    if of.empty or not {f"w_{name}" for name in objectives} <= set(of):
        return ""
    chosen = of[[f"w_{name}" for name in objectives]].to_numpy(dtype=np.float64)
    by_seed = [f"({', '.join(number(weight) for weight in line)})" for line in chosen]
    listed = f"{by_seed[0]} in every seed" if len(set(by_seed)) == 1 and len(by_seed) > 1 else listing(by_seed)
    how, what = _said_of(choice, rows), ", ".join(objectives)
    text = f"The weights of {called(method)}, chosen on greedy validation replies ({how}), are, for {what}: {listed}."
    if unused := [name for name, column in zip(objectives, chosen.T, strict=True) if (column == 0).all()]:
        whose, verb, its = ("the adapter", "is", "its") if len(unused) == 1 else ("the adapters", "are", "their")
        text += f" So {whose} of {listing(unused)} {verb} not used at all, though {its} prompts are counted: "
        text += "what rises there is a by-product of the others."
    return text


def choices_reading(rows: pd.DataFrame, objectives: Sequence[str], sampled_maps: pd.DataFrame | None = None, method: str = FIRST) -> str:
    """What the exact optimum of validation prompts gains over the grid's choice on test prompts, by both utilities. Tables as for
    `choices_table`."""
    wide = _choices(rows, objectives, sampled_maps, method)
    parts = []
    for utility, best, grid in ((GEOMETRIC, GEOMETRIC_OPTIMUM, "grid"), (MEAN, "exact optimum", "grid, mean")):
        grid = grid if grid in set(wide["choice"]) else "grid"
        gains = {decoding: _gain(wide, best, grid, f"{utility}, {decoding}") for decoding in (GREEDY, SAMPLED)}
        if not gains[GREEDY]["n"]:
            parts.append(f"By the {utility} no exact optimum stands beside the grid's choice.")
            continue
        told_gains = "; ".join(f"{decoding} {judged(gain, 'better', 'worse')}" for decoding, gain in gains.items())
        parts.append(f"By the {utility} the exact optimum of greedy validation replies, less the grid's choice: {told_gains}.")
    if SAMPLED_OPTIMUM in set(wide["choice"]):
        best = "grid, mean" if "grid, mean" in set(wide["choice"]) else "grid"
        gains = {
            utility: _gain(wide, SAMPLED_OPTIMUM, best if utility == MEAN else "grid", f"{utility}, {SAMPLED}")
            for utility in (MEAN, GEOMETRIC)
        }
        found = "; ".join(f"by the {utility} {judged(gain, 'better', 'worse')}" for utility, gain in gains.items())
        parts.append(f"The optimum of sampled validation replies, chosen by the mean, less the grid's choice, sampled: {found}.")
    seeds = counted(int(wide["seed"].nunique()), "seed")
    return f"{' '.join(parts)} Test statements, 95 % intervals over {seeds}, each alone.{_best_of(wide)}"


def _gain(wide: pd.DataFrame, one: str, other: str, column: str) -> dict[str, float]:
    """One choice less another in a column, over the seeds that have both."""
    values = wide.pivot_table(index="seed", columns="choice", values=column)
    if one not in values or other not in values:
        return over(np.zeros(0))
    return over((values[one] - values[other]).dropna().to_numpy(dtype=np.float64))


def _best_of(wide: pd.DataFrame) -> str:
    """Which choice is highest by the main measure, each beside the grid's on the seeds of both."""
    others = [str(choice) for choice in wide["choice"].unique() if choice != "grid"]
    gains = {choice: _gain(wide, choice, "grid", f"{GEOMETRIC}, {SAMPLED}")["mean"] for choice in others}
    gains = {choice: gain for choice, gain in gains.items() if math.isfinite(gain)}
    if not gains:
        return ""
    best = max(gains, key=gains.__getitem__)
    if gains[best] <= 0:
        return " No other choice is above the grid's by the geometric mean of sampled replies."
    where = _said_of(best, wide)
    return (
        f" The highest geometric mean of sampled replies is had by the weights of: {where} ({signed(gains[best])} beside the grid's own)."
    )
