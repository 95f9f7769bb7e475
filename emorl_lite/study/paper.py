"""The EMORL paper's published numbers (arXiv 2505.02579), to stand beside ours, and what a reproduction needs besides them.

`SOURCES` says where each of them was read. Read off a plot: about two digits are right.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import number
from emorl_lite.study.comparison import BY_OWN_SEARCH, representative

SOURCES = {
    "scatter": "from the scatter figure's file",
    "code": "from the public code",
    "cubes": "read off the cube figures",
    "curves": "read off the learning curves",
    "abstract": "from the abstract",
    "summary": "from one machine-written summary by a third party, not confirmed",
}
"""Where a published number was read, to be named wherever it is quoted. "summary": check it against the paper's own text first."""
READ_OFF = ("cubes", "curves")
"""Read off a picture by eye: about two digits."""
UNCONFIRMED = ("summary",)
"""Nobody here has seen these in a file of the authors'."""

METHODS = {"base": "Base model", "uniform": "Uniform weighted", "dynaopt": "DynaOpt", "rewarded-soups": "Model soups", "emorl": "EMORL"}
"""Our names of the paper's methods."""

CONSUMPTION = pd.DataFrame(
    [
        ("base", 0, 0, 0.3413, 0.0124, None),
        ("uniform", 23398, 7390, 0.8350, 0.0199, 0.8397),
        ("dynaopt", 31328, 16736, 0.8262, 0.0291, 0.8254),
        ("rewarded-soups", 18924, 4672, 0.6965, 0.0276, 0.6982),
        ("emorl", 17529, 1650, 0.7684, 0.0206, 0.7907),
    ],
    columns=["method", "data_points", "data_points_std", "mean", "mean_std", "pair_average"],
)
"""Data points and mean reward: SOURCES["scatter"]; `pair_average`, its table on PAIR: SOURCES["summary"]."""

AGGREGATION = {"hidden": 0.80, "parameters": 0.71, "probabilities": 0.595}
"""Best mean reward by what is aggregated: SOURCES["cubes"]. ("probabilities": its code averages the probabilities of texts that
each model sampled by itself, position by position.)"""

TRAINING_SECONDS = (6573.0, 147.43)
"""EMORL's training time, mean and standard deviation: SOURCES["abstract"]."""

PSYCH8K_REFLECTION = 0.9784
DIVERSITY = {"EMORL": 0.6516, "others, lowest": 0.35, "others, highest": 0.43}
"""Both: SOURCES["summary"]."""

LONGEST_RUN = (13_000, 14_000)
"""Data points of the longest single-objective run, between these two: SOURCES["curves"]."""
OTHER_RUNS = ((7_500, 8_500), (4_500, 5_500))
"""Of the two others, about 8 and 5 thousand: SOURCES["curves"]."""
SEARCH = (135, 32)
"""Weight vectors of the published search, and validation prompts that each is scored on: SOURCES["code"]."""
WEIGHTS = (0.78125, 0.5, 0.0625)
"""The default weights of reflection, empathy and fluency: SOURCES["code"]."""
SUMMARY_WEIGHTS = {"reflection": 0.8, "fluency": 0.05}
"""Weights that the search found, about: SOURCES["summary"]."""

DEFECTS = pd.DataFrame(
    [
        (
            "the KL term has no effect: it is computed without gradient and multiplied by an advantage of mean 0",
            "08",
            "our KL is in the reward",
        ),
        ("hidden-state aggregation is logit mixing: the head is linear", "03", "one line of algebra, and a test"),
        ("the cube holds each direction several times, and the zero vector, which has no text", "04", "decoded once, listed 135 times"),
        ("“logits” averages probabilities of texts that differ: the contexts do not match", "03", "here all read the same prefix"),
        ("EMORL decodes greedily, parameters and baselines are sampled", "06", "greedy for all; the difference is measured"),
        ("baselines train all parameters, EMORL trains LoRA", "06", "the same LoRA for all, and one of triple rank"),
        (
            "rewards enter training as logarithms, and a mean over three samples is the baseline",
            "08",
            "the rewards themselves, and a critic",
        ),
        ("text after the first end-of-sequence token is scored", "01", "a reply ends where it ends; an unfinished one scores 0"),
        ("the coherence scorer has a head of random weights", "08", "a posterior over clients instead"),
        ("gradients flow through re-tokenised text; log-probabilities leave out the last token", "02", "the sampled ids themselves"),
        ("data points leave out samples, validation and search", "06", "both accountings, always"),
    ],
    columns=["in the paper's public code", "notebook", "here"],
)
"""What we found in the public code, where it is shown, and what is done instead."""

SOUPS = {"emorl": "emorl", "exact-average": "rewarded-soups"}
"""What of ours stands beside the paper's EMORL and soups on tiny: its soups average parameters exactly, as our exact average does."""
PAIRS = (("uniform", "emorl"), ("emorl", "rewarded-soups"), ("emorl", "base"), ("dynaopt", "uniform"))
"""Methods whose difference the paper's text or figures speak of, first less second."""


def published() -> pd.DataFrame:
    """Every published number quoted here, one a row: number, value, where it was read, confirmed (in a file of the authors' or not)."""
    scatter = CONSUMPTION.set_index("method").drop("base")
    others = f"{number(DIVERSITY['others, lowest'])} to {number(DIVERSITY['others, highest'])}"
    lines = [
        (
            "data points and mean score of five methods",
            f"EMORL {scatter['data_points']['emorl']:,} and {scatter['mean']['emorl']}",
            "scatter",
        ),
        ("EMORL's training time", f"{TRAINING_SECONDS[0]:,.0f} s", "abstract"),
        ("weights that its evaluation takes", ", ".join(map(str, WEIGHTS)), "code"),
        ("points of the search, validation prompts", f"{SEARCH[0]}, {SEARCH[1]}", "code"),
        ("best mean score by what is mixed", ", ".join(f"{what} {value}" for what, value in AGGREGATION.items()), "cubes"),
        ("data points of the longest run", f"{LONGEST_RUN[0]:,} to {LONGEST_RUN[1]:,}", "curves"),
        ("average on PAIR", f"EMORL {scatter['pair_average']['emorl']}", "summary"),
        ("EMORL's reflection on Psych8k", str(PSYCH8K_REFLECTION), "summary"),
        ("diversity-2", f"EMORL {DIVERSITY['EMORL']}, others {others}", "summary"),
        ("weights that the search found", ", ".join(f"{name} {value}" for name, value in SUMMARY_WEIGHTS.items()), "summary"),
    ]
    certain = {source: "read by eye" if source in READ_OFF else "no" if source in UNCONFIRMED else "yes" for source in SOURCES}
    return pd.DataFrame(
        [
            {"number": what, "value": value, "read": SOURCES[source].removesuffix(", not confirmed"), "confirmed": certain[source]}
            for what, value, source in lines
        ]
    )


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


def our_rows(tiny: pd.DataFrame, real: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Our rows of the paper's five methods, by source: smollm2, tiny, and tiny with a whole budget for each run of EMORL and the soups.

    `tiny`, `real`: rows of the two studies, as `study_tables` and `real_tables` give them. On smollm2 uniform weighting had the data of
    EMORL's longest run, a third of their sum, and the soups are Rewarded Soups.
    """
    own = {"smollm2": representative(real.replace({"method": {"uniform-short": "uniform"}}), BY_OWN_SEARCH)}
    chosen = representative(tiny, BY_OWN_SEARCH)
    for source, longer in (("tiny", ""), ("tiny, a budget a run", "-long")):
        ours = {f"{name}{longer}": method for name, method in SOUPS.items()} | {name: name for name in ("base", "uniform", "dynaopt")}
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
    """The paper's mean scores beside ours, as text ("0.768 ± 0.021"): method, and a column a source."""
    table = compared(own)
    table["shown"] = [
        f"{number(row['mean'], 3)} ± {number(row['std'], 3)}" if pd.notna(row["std"]) else number(row["mean"], 3)
        for row in table.to_dict("records")
    ]
    wide = table.pivot(index="method", columns="source", values="shown").fillna("")
    return wide.loc[list(METHODS.values()), ["paper", *own]].reset_index().rename_axis(columns=None)


def points_beside(own: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The paper's data points beside ours ("1,536 / 512": sum of runs / longest run), as text: method, and a column a source."""
    lines = []
    for row in CONSUMPTION.to_dict("records"):
        line = {"method": METHODS[row["method"]], "paper": f"{row['data_points']:,} ± {row['data_points_std']:,}"}
        for source, rows in own.items():
            points = rows.loc[rows["method"] == row["method"], ["data_points", "parallel"]].mean()
            line[source] = " / ".join(f"{value:,.0f}" for value in dict.fromkeys(points)) if points.notna().all() else ""
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

    Columns: mixed, paper, best on validation, on test (with its standard deviation over seeds, as text).
    """
    by_seed = cubes.groupby(["what", "seed"]).agg(validation=("mean", "max"), test=("test", "first"))
    lines = []
    for what, theirs in AGGREGATION.items():
        ours = by_seed.loc[what]
        spread = f" ± {number(ours['test'].std(), 3)}" if len(ours) > 1 else ""
        line = {"mixed": what, "paper, best": theirs, "tiny, best on validation": ours["validation"].mean()}
        lines.append(line | {"the same weights on test": f"{number(ours['test'].mean(), 3)}{spread}"})
    return pd.DataFrame(lines)


def wide_samples(samples: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Sample replies with a line a client and a column a method. Columns of `samples`: method, prompt, reply."""
    wide = samples[samples["method"].isin(methods)].pivot(index="prompt", columns="method", values="reply")
    ordered = wide.reindex(samples["prompt"].unique())[list(methods)]
    return ordered.reset_index().rename(columns={"prompt": "client"}).rename_axis(columns=None)


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
