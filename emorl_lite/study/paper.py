"""The EMORL paper's published numbers (arXiv 2505.02579), to stand beside ours, and what a reproduction needs besides them.

The numbers are in `facts.py`, each with where it was read (`SOURCES`). Read off a plot: about two digits are right.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, number, with_spread
from emorl_lite.study.comparison import BY_OWN_SEARCH, one_uniform, representative
from emorl_lite.study.facts import FACTS, FAULTS, METHODS, READ_OFF, SOURCES, UNSEEN, facts

CONSUMPTION = pd.DataFrame(
    [
        (
            method,
            facts(name)["data points"].value,
            facts(name)["data points"].spread,
            facts(name)["mean score"].value,
            facts(name)["mean score"].spread,
            facts("average on PAIR")[name].value if name in facts("average on PAIR") else None,
        )
        for method, name in METHODS.items()
    ],
    columns=["method", "data_points", "data_points_std", "mean", "mean_std", "pair_average"],
)
"""Data points and mean reward: SOURCES["scatter"]; `pair_average`, its table on PAIR: SOURCES["summary"]."""

AGGREGATION = {name: round(fact.value, 2) for name, fact in facts("best mean score by what is mixed").items()}
"""Best mean reward by what is aggregated, to two digits: SOURCES["cubes"]. ("probabilities": its code averages the probabilities of texts
that each model sampled by itself, position by position.)"""

_TRAINING = facts("EMORL's training time, seconds")[""]
TRAINING_SECONDS = (_TRAINING.value, float(_TRAINING.spread or 0))
"""EMORL's training time, mean and standard deviation: SOURCES["abstract"]."""

PSYCH8K_REFLECTION = facts("reflection on Psych8k")["EMORL"].value
DIVERSITY = {name: fact.value for name, fact in facts("diversity-2").items()}
"""Both: SOURCES["summary"]."""

_LOW, _HIGH = (int(fact.value) for fact in facts("data points of the longest run").values())
LONGEST_RUN = (_LOW, _HIGH)
"""Data points of the longest single-objective run, between these two: SOURCES["curves"]."""
_SECOND, _THIRD = (int(fact.value) for fact in facts("data points of the two other runs").values())
OTHER_RUNS = ((_SECOND - 500, _SECOND + 500), (_THIRD - 500, _THIRD + 500))
"""Of the two others, read to the nearest thousand: SOURCES["curves"]."""
_VECTORS, _PROMPTS = (int(fact.value) for fact in facts("the search").values())
SEARCH = (_VECTORS, _PROMPTS)
"""Weight vectors of the published search, and validation prompts that each is scored on: SOURCES["code"]."""
_REFLECTION, _EMPATHY, _FLUENCY = (fact.value for fact in facts("weights that its evaluation takes").values())
WEIGHTS = (_REFLECTION, _EMPATHY, _FLUENCY)
"""The default weights of reflection, empathy and fluency: SOURCES["code"]."""

DEFECTS = pd.DataFrame(
    [(fault.code, fault.section.partition(" · ")[0] or "here alone", fault.here) for fault in FAULTS],
    columns=["in the paper's public code", "notebook", "here"],
)
"""What we found in the public code, where it is shown, and what is done instead."""

MERGED = ("emorl", "exact-average")
"""Of the paper's methods those with several runs, which share one budget or have one each ("-long")."""
NOT_MEASURED = "not measured"
PAIRS = (("uniform", "emorl"), ("emorl", "exact-average"), ("emorl", "base"), ("dynaopt", "uniform"))
"""Methods whose difference the paper's text or figures speak of, first less second."""


def published() -> pd.DataFrame:
    """Every published number quoted here by what it is about: number, value, read (where), confirmed (yes, no, read by eye)."""
    certain = {source: "read by eye" if source in READ_OFF else "no" if source in UNSEEN else "yes" for source in SOURCES}
    return pd.DataFrame(
        [
            {
                "number": about,
                "value": ", ".join(fact.line for fact in lines.values()),
                "read": SOURCES[source].partition(",")[0],
                "confirmed": certain[source],
            }
            for about, lines in ((about, facts(about)) for about in dict.fromkeys(fact.about for fact in FACTS))
            for source in dict.fromkeys(fact.source for fact in lines.values())
        ]
    )


def counterparts(own: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What of ours stands beside each row of the paper: in the paper, function, and how many seeds a source has of it ("not measured").

    `own`: rows by source, as `our_rows` gives them.
    """
    lines = []
    for method, name in METHODS.items():
        line = {"in the paper": name, "function": facts(name)["mean score"].function.removeprefix("emorl_lite.")}
        for source, rows in own.items():
            seeds = rows.loc[rows["method"] == method, "seed"].nunique()
            line[source] = counted(seeds, "seed") if seeds else NOT_MEASURED
        lines.append(line)
    return pd.DataFrame(lines)


def accountings(
    longest: tuple[int, int] = LONGEST_RUN, others: Sequence[tuple[int, int]] = OTHER_RUNS, search: tuple[int, int] = SEARCH
) -> pd.DataFrame:
    """EMORL's data points counted in four ways, each between two numbers: accounting, low, high, fits.

    `longest`, `others`: data points of the runs, each between two numbers. `search`: weight vectors and prompts for each of them.
    `fits`: whether the published figure lies between the two.
    """
    figure = int(CONSUMPTION.set_index("method")["data_points"]["emorl"])
    searched = search[0] * search[1]
    total = tuple(longest[end] + sum(run[end] for run in others) for end in (0, 1))
    ranges = {"longest run": longest, "sum of runs": total}
    ranges |= {f"{name} + search": (low + searched, high + searched) for name, (low, high) in list(ranges.items())}
    return pd.DataFrame(
        [{"accounting": name, "low": low, "high": high, "fits": low <= figure <= high} for name, (low, high) in ranges.items()]
    )


def theirs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a study in which one policy alone is called "uniform": that of `one_uniform`, whatever its budget."""
    return one_uniform(rows).replace({"method": {"uniform-short": "uniform"}})


def our_rows(tiny: pd.DataFrame, real: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Our rows of the paper's five methods, by source: smollm2, tiny, and tiny with a whole budget for each run of EMORL and the soups.

    `tiny`, `real`: rows of the two studies, as `study_tables` and `real_tables` give them. The paper's soups are our exact average: where a
    study has Rewarded Soups alone, its soups were not measured.
    """
    chosen = representative(theirs(real), BY_OWN_SEARCH)
    own = {"smollm2": chosen[chosen["method"].isin(METHODS)]}
    chosen = representative(tiny, BY_OWN_SEARCH)
    for source, longer in (("tiny", ""), ("tiny, a budget a run", "-long")):
        ours = {f"{name}{longer}": name for name in MERGED} | {name: name for name in ("base", "uniform", "dynaopt")}
        own[source] = chosen[chosen["method"].isin(ours)].replace({"method": ours})
    return own


def compared(own: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean scores of the paper's methods, the paper's and ours: method (as the paper calls it), source, mean, std."""
    lines = [
        {"method": METHODS[row["method"]], "source": "paper", "mean": row["mean"], "std": row["mean_std"]}
        for row in CONSUMPTION.to_dict("records")
    ]
    for source, rows in own.items():
        for method, values in rows[rows["method"].isin(METHODS)].groupby("method", sort=False)["mean"]:
            lines.append({"method": METHODS[str(method)], "source": source, "mean": values.mean(), "std": values.std()})
    return pd.DataFrame(lines)


def means_beside(own: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The paper's mean scores beside ours, as text ("0.768 ± 0.021", "not measured"): method, and a column a source."""
    table = compared(own)
    table["shown"] = [with_spread(mean, std) for mean, std in zip(table["mean"], table["std"], strict=True)]
    wide = table.pivot(index="method", columns="source", values="shown")
    wide = wide.reindex(index=list(METHODS.values()), columns=["paper", *own]).fillna(NOT_MEASURED)
    return wide.reset_index().rename_axis(columns=None)


def points_beside(own: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The paper's data points beside ours ("1,536 / 512": sum of runs / longest run), as text: method, and a column a source."""
    lines = []
    for row in CONSUMPTION.to_dict("records"):
        line = {"method": METHODS[row["method"]], "paper": f"{row['data_points']:,.0f} ± {row['data_points_std']:,.0f}"}
        for source, rows in own.items():
            points = rows.loc[rows["method"] == row["method"], ["data_points", "parallel"]].mean()
            shown = " / ".join(f"{value:,.0f}" for value in dict.fromkeys(points)) if points.notna().all() else "not known"
            line[source] = shown if row["method"] in set(rows["method"]) else NOT_MEASURED
        lines.append(line)
    return pd.DataFrame(lines)


def signs(own: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Differences of mean scores in the paper, beside ours: difference, in (the source), paper, here, same sign ("yes", "no")."""
    lines = []
    for first, second in PAIRS:
        for source, rows in own.items():
            if {first, second} <= set(rows["method"]):
                theirs, here, same = same_order(rows, first, second)
                line = {"difference": f"{METHODS[first]} less {METHODS[second]}", "in": source, "paper": theirs, "here": here}
                lines.append(line | {"same sign": "yes" if same else "no"})
    return pd.DataFrame(lines)


def mixtures(cubes: pd.DataFrame) -> pd.DataFrame:
    """The best mean score by what is mixed, in the paper and on tiny. `cubes`: what, seed, mean (validation), test (of the best point).

    Columns: mixed, paper (as text, in the two digits that an eye reads), best on validation, on test (with its standard deviation over
    seeds, as text).
    """
    by_seed = cubes.groupby(["what", "seed"]).agg(validation=("mean", "max"), test=("test", "first"))
    lines = []
    for what, theirs in AGGREGATION.items():
        ours = by_seed.loc[what]
        line = {"mixed": what, "paper, best": number(theirs), "tiny, best on validation": ours["validation"].mean()}
        lines.append(line | {"the same weights on test": with_spread(ours["test"].mean(), ours["test"].std())})
    return pd.DataFrame(lines)


def wide_samples(samples: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Sample replies with a line a client and a column a method. Columns of `samples`: method, prompt, reply."""
    wide = samples[samples["method"].isin(methods)].pivot(index="prompt", columns="method", values="reply")
    ordered = wide.reindex(samples["prompt"].unique())[list(methods)]
    return ordered.reset_index().rename(columns={"prompt": "client"}).rename_axis(columns=None)


def long_samples(samples: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Sample replies with a line a client and method, for more methods than fit side by side: the client stands on its first line alone.

    Columns of `samples`: method, prompt, reply.
    """
    lines = wide_samples(samples, methods).melt("client", var_name="method", value_name="reply")
    order = {client: place for place, client in enumerate(samples["prompt"].unique())}
    lines = lines.sort_values("client", key=lambda clients: clients.map(order), kind="stable", ignore_index=True)
    lines["client"] = lines["client"].where(~lines["client"].duplicated(), "")
    return lines


def same_order(ours: pd.DataFrame, first: str, second: str, column: str = "mean") -> tuple[float, float, bool]:
    """(the paper's difference, ours, whether they have the same sign) between the mean scores of two methods."""
    published = CONSUMPTION.set_index("method")["mean"]
    means = ours.groupby("method")[column].mean()
    for method in (first, second):
        if method not in means or method not in published:
            raise UserError(f"method {method!r}: not in both tables")
    paper_gap, our_gap = float(published[first] - published[second]), float(means[first] - means[second])
    return paper_gap, our_gap, paper_gap * our_gap > 0


def blind_sheet(samples: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A sheet for human raters and its key: replies in random order under numbers, methods named in the key alone.

    `samples`: method, prompt, reply. The sheet has an empty column for each of the paper's questions, to be filled with 1 to 5.
    """
    rows = samples[["method", "prompt", "reply"]].to_dict("records")
    random.Random(seed).shuffle(rows)
    rows.sort(key=lambda row: row["prompt"])  # one client at a time, the methods in random order
    sheet = pd.DataFrame([{"number": i, "client": r["prompt"], "reply": r["reply"]} for i, r in enumerate(rows, 1)])
    for question in ("reflection", "empathy", "fluency"):
        sheet[question] = ""
    return sheet, pd.DataFrame([{"number": i, "method": r["method"]} for i, r in enumerate(rows, 1)])
