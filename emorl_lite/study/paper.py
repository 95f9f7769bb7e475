"""The EMORL paper's published numbers (arXiv 2505.02579), to stand beside ours, and what a reproduction needs besides them.

`SOURCES` says where each of them was read. Read off a plot: about two digits are right.
"""

from __future__ import annotations

import random

import pandas as pd

from emorl_lite.base.errors import UserError

SOURCES = {
    "scatter": "from the scatter figure's file",
    "cubes": "read off the cube figures",
    "curves": "read off the learning curves",
    "abstract": "from the abstract",
    "summary": "from one machine-written summary by a third party, not confirmed",
}
"""Where a published number was read, to be named wherever it is quoted. "summary": check it against the paper's own text first."""

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

DEFECTS = pd.DataFrame(
    [
        (
            "the KL term has no effect: it is computed without gradient and multiplied by an advantage of mean 0",
            "02",
            "our KL is in the reward",
        ),
        ("hidden-state aggregation is logit mixing: the head is linear", "03", "one line of algebra, and a test"),
        ("the cube holds each direction several times, and the zero vector, which has no text", "04", "decoded once, listed 135 times"),
        ("“logits” averages probabilities of texts that differ: the contexts do not match", "03", "here all read the same prefix"),
        ("EMORL decodes greedily, parameters and baselines are sampled", "06", "greedy for all; the difference is measured"),
        ("baselines train all parameters, EMORL trains LoRA", "06", "the same LoRA for all, and one of triple rank"),
        (
            "rewards enter training as logarithms, and a mean over three samples is the baseline",
            "02",
            "the rewards themselves, and a critic",
        ),
        ("text after the first end-of-sequence token is scored", "01", "a reply ends where it ends; an unfinished one scores 0"),
        ("the coherence scorer has a head of random weights", "01", "a posterior over clients instead"),
        ("gradients flow through re-tokenised text; log-probabilities leave out the last token", "02", "the sampled ids themselves"),
        ("data points leave out samples, validation and search", "06", "both accountings, always"),
    ],
    columns=["in the paper's public code", "notebook", "here"],
)
"""What we found in the public code, where it is shown, and what is done instead."""


def beside(ours: pd.DataFrame, column: str = "mean") -> pd.DataFrame:
    """Our rows (method, seed, data_points, parallel, `column`) beside the paper's: one line a method, means and standard deviations."""
    grouped = ours.groupby("method", sort=False)
    lines = []
    for method, published in CONSUMPTION.set_index("method").iterrows():
        line = {
            "method": METHODS[str(method)],
            "paper": published["mean"],
            "± ": published["mean_std"],
            "paper's data points": published["data_points"],
        }
        if method in grouped.groups:
            group = grouped.get_group(method)
            line |= {"ours": group[column].mean(), "±": group[column].std(), "seeds": group["seed"].nunique()}
            line |= {"ours: points, sum": group["data_points"].mean(), "longest run": group["parallel"].mean()}
        lines.append(line)
    counts = ["paper's data points", "seeds", "ours: points, sum", "longest run"]
    table = pd.DataFrame(lines)
    return table.assign(**{name: table[name].round().astype("Int64") for name in counts if name in table})


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
