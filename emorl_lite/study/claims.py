"""The papers' claims put to the test: each a number, its interval over seeds, and what the interval says, alone and among all others.

The family of Holm's correction is every number of `CLAIMS` that has an interval in the tables at hand: greedy, sampled and at equal KL,
both accountings, both notebooks. What is not measured is not in it, nor what is counted exactly. Intervals elsewhere describe; no claim
rests on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.base.wording import listing
from emorl_lite.search.statistics import EQUAL, TWO_HEAPS
from emorl_lite.study.evidence import Evidence, Found, claim_p
from emorl_lite.study.measuring import KL_TARGETS


@dataclass(frozen=True)
class Claim:
    """Something that a paper says, as a number that should be above `nothing`. `decoding`: of the replies that were scored, if any were.

    `value` raises UserError where the tables do not hold what it takes.
    """

    source: str
    text: str
    what: str
    value: Callable[[Evidence], Found]
    nothing: float = 0.0
    decoding: str = ""

    @property
    def measure(self) -> str:
        """What is measured, and how replies were decoded."""
        return f"{self.what}, {self.decoding}" if self.decoding else self.what


GREEDY, SAMPLED = "greedy", "sampled"
DECODINGS = {GREEDY: "mean", SAMPLED: "sampled_mean"}


def at_kl(target: float) -> str:
    """The decoding of scores at equal KL: sampled, because it is sampled replies whose KL is held equal."""
    return f"sampled at KL {target:g}"


EMORL, DYNAOPT, CLP, GDPO, BONE_SOUPS, GENARM, OURS = "EMORL", "DynaOpt", "CLP", "GDPO", "Bone Soups", "GenARM", "(ours)"
SCORE = "mean score"
STD = "ratio of standard deviations"
VOLUME = "hypervolume"

SAVED = "data points saved, longest run"
UNSEARCHED, SEARCHED = "the search not counted", "the search counted"
SOUPS = "averaged parameters"
"""What the EMORL paper calls model soups: its code adds the products B_i A_i, which is our exact average."""
SHORT, LONGEST = "equal sums of data", "equal longest runs"


def scores(source: str, text: str, first: str, second: str, condition: str = "", own: bool = False) -> list[Claim]:
    """A claim about mean scores: greedily, sampled, and sampled at each distance from the base.

    Settings are chosen with equal effort, by one grid, or with `own` as each method's paper chooses. At equal KL the study shrinks the
    setting that each method's own way chose.
    """
    what = f"{SCORE}, {condition}" if condition else SCORE

    def by(column: str) -> Callable[[Evidence], Found]:
        return lambda e: (e.own_score if own else e.score)(first, second, column)

    def at(target: float) -> Callable[[Evidence], Found]:
        return lambda e: e.matched(first, second, target)

    claims = [Claim(source, text, what, by(column), decoding=decoding) for decoding, column in DECODINGS.items()]
    return claims + [Claim(source, text, what, at(target), decoding=at_kl(target)) for target in KL_TARGETS]


def spreads(text: str, first: str, second: str) -> list[Claim]:
    """A claim about how much scores vary over seeds, greedily and sampled."""

    def by(column: str) -> Callable[[Evidence], Found]:
        return lambda e: e.spread(first, second, column)

    return [Claim(EMORL, text, f"{STD}, {LONGEST}", by(column), 1.0, decoding) for decoding, column in DECODINGS.items()]


def consumed(method: str, name: str) -> list[Claim]:
    """EMORL against a policy in data points, its longest run allowed: with the search, as the paper's number has it, and without."""
    text = f"EMORL consumes less than {name}"
    return [
        Claim(EMORL, text, f"{SAVED}, {SEARCHED}", lambda e: e.saved(method, "longest run + search")),
        Claim(OURS, text, f"{SAVED}, {UNSEARCHED}", lambda e: e.saved(method, "longest run")),
    ]


def levels(text: str, first: str, second: str) -> list[Claim]:
    """A claim about where to mix, greedily: with weights chosen on validation prompts, and over all weights."""

    def by(column: str) -> Callable[[Evidence], Found]:
        return lambda e: e.level(first, second, column)

    kinds = {"best": "chosen weights", "average": "all weights"}
    return [Claim(EMORL, text, f"{SCORE}, {kind}", by(column), decoding=GREEDY) for column, kind in kinds.items()]


def front(source: str, text: str, what: str, first: str, second: str, column: str = "hypervolume", nothing: float = 0.0) -> Claim:
    """A claim about fronts or about steering, greedily, from one grid of settings for all."""
    return Claim(source, text, what, lambda e: e.front(first, second, column), nothing, GREEDY)


CLAIMS = [
    *consumed("uniform", "uniform"),
    *consumed("dynaopt", "DynaOpt"),
    Claim(
        EMORL, "EMORL's consumption varies less than uniform's", f"{STD}, {LONGEST}", lambda e: e.steadier("uniform", "longest run"), 1.0
    ),
    *spreads("EMORL's score varies less than uniform's", "uniform", "emorl-long"),
    *spreads("EMORL's score varies less than DynaOpt's", "dynaopt", "emorl-long"),
    *scores(EMORL, "uniform scores higher than EMORL", "uniform", "emorl", SHORT, own=True),
    *scores(EMORL, "uniform scores higher than EMORL", "uniform", "emorl-long", LONGEST, own=True),
    *scores(OURS, "uniform-wide scores higher than EMORL", "uniform-wide", "emorl-long", LONGEST, own=True),
    Claim(OURS, "uniform sampled scores higher than EMORL greedy", f"{SCORE}, {LONGEST}", lambda e: e.confounded("uniform", "emorl-long")),
    Claim(OURS, "greedy decoding flatters a policy", f"{SCORE} of uniform, greedy less sampled", lambda e: e.flattery("uniform")),
    *levels("hidden states beat parameters", "last hidden state", "parameters"),
    *levels("parameters beat probabilities", "parameters", "probabilities"),
    *scores(EMORL, f"{SOUPS} are worse than EMORL", "emorl-long", "exact-average-long", "long runs"),
    *scores(EMORL, f"{SOUPS} are worse than EMORL", "emorl", "exact-average", SHORT),
    *scores(OURS, "Rewarded Soups are worse than EMORL", "emorl-long", "rewarded-soups-long", "long runs"),
    *scores(OURS, "Rewarded Soups are worse than EMORL", "emorl", "rewarded-soups", SHORT),
    *scores(DYNAOPT, "DynaOpt beats uniform", "dynaopt", "uniform"),
    *scores(GDPO, "GDPO beats GRPO", "gdpo", "grpo"),
    front(BONE_SOUPS, "Bone Soups beat Rewarded Soups", f"{VOLUME}, {SHORT}", "bone-soups", "rewarded-soups"),
    front(BONE_SOUPS, "Bone Soups beat Rewarded Soups", f"{VOLUME}, long runs", "bone-soups-long", "rewarded-soups-long"),
    front(GENARM, "GenARM beats Rewarded Soups", f"{VOLUME}, {SHORT}", "genarm", "rewarded-soups"),
    front(CLP, "CLP dominates Rewarded Soups", f"{VOLUME}, {SHORT}", "clp-full", "rewarded-soups"),
    Claim(
        CLP,
        "CLP dominates Rewarded Soups",
        "share of their front dominated",
        lambda e: e.dominated("clp-full", "rewarded-soups"),
        0.5,
        GREEDY,
    ),
    front(OURS, "CLP beats soups with d times the data", VOLUME, "clp-full", "rewarded-soups-long"),
    front(OURS, "CLP beats averages with d times the data", VOLUME, "clp-full", "exact-average-long"),
    front(OURS, "CLP beats EMORL with d times the data", f"{VOLUME}, one grid of weights", "clp-full", "emorl-long"),
    front(CLP, "CLP steers better than prompting", "E[w·p(w)]", "clp-full", "prompted", "steered"),
    front(CLP, "CLP steers better than prompting", "controllability", "clp-full", "prompted", "controllability"),
    front(CLP, "experts on attention are enough", f"{VOLUME}, not more than .02 lost", "clp-attention", "clp-full", nothing=-0.02),
    front(CLP, "attention experts beat head experts", VOLUME, "clp-attention", "clp-logit"),
    Claim(CLP, "DeRa costs more model calls than CLP: twice", "ratio of calls a token", lambda e: e.calls("dera", "clp-kl"), 1.0),
]
STEERING = (CLP, BONE_SOUPS, GENARM)
"""Sources whose claims are about fronts and steering: notebook 07 shows them, and what of ours stands beside them."""


def of_steering(claims: pd.DataFrame) -> pd.Series[bool]:
    """Which of the claims are about fronts and steering (notebook 07); the others are notebook 06's."""
    return claims["source"].isin(STEERING) | claims["claim"].str.contains("d times the data", regex=False)


def verdict(found: Mapping[str, float], nothing: float = 0.0) -> str:
    """What an interval says of "more than nothing": holds, refuted, or open."""
    if found["low"] > nothing:
        return "holds"
    return "refuted" if found["high"] < nothing else "open"


def interval_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The interval that a claim's verdict rests on, as mean, low and high: Student's (F for ratios) where values lie in one heap.

    In two heaps, or where all are equal, it is the median's exact interval, at the row's `coverage`. Both ends are nan if there is none.
    """
    exact = row.get("shape") in (TWO_HEAPS, EQUAL)
    low, high = ("exact_low", "exact_high") if exact else ("low", "high")
    return {"mean": float(row["mean"]), "low": float(row[low]), "high": float(row[high])}


NUMBERS = ("mean", "low", "high", "exact_low", "exact_high", "coverage", "p")


def examined(tables: Mapping[str, pd.DataFrame], preset: str = "tiny") -> pd.DataFrame:
    """Every claim with its number and two verdicts, one a row. `preset`: whose study the tables are.

    Columns: source, claim, measure, decoding ("greedy", "sampled", "sampled at KL 0.5", or empty), nothing (the threshold); mean, low, high
    (Student's interval at 95 %, for ratios that of F); shape (`shape_of` the seeds' values), exact_low, exact_high, coverage (the median's
    exact interval); n, p (`claim_p`); verdict, of the interval that the shape asks for (`interval_of`), alone; holm, the verdict that is
    left when all of these are looked at together: "open" where Holm's correction does not reject.

    "refuted" and "open" are said of this small world at this budget: other models and data may differ. "not measured": the tables lack a
    method, or it does not get so far from the base in enough seeds.
    """
    evidence = Evidence(tables, get_preset(preset))
    table = pd.DataFrame([_examined(claim, evidence) for claim in CLAIMS])
    tested = (table["n"] > 0).to_numpy()
    p = table.loc[tested, "p"].fillna(1.0).tolist()
    kept = np.ones(len(table), dtype=bool)
    kept[tested] = holm(p)
    decided = table["verdict"].isin(["holds", "refuted"])
    table["holm"] = table["verdict"].where(kept | ~decided, "open")
    return table


def _examined(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    """A claim's row but for Holm's verdict. n: seeds of its interval, 0 if it has none."""
    row: dict[str, Any] = {"source": claim.source, "claim": claim.text, "measure": claim.measure, "decoding": claim.decoding}
    row |= {"nothing": claim.nothing, **dict.fromkeys(NUMBERS, math.nan), "shape": "", "n": 0, "verdict": "not measured"}
    try:
        found = claim.value(evidence)
    except UserError:  # the tables do not hold what it takes
        return row
    row |= found.estimate() | found.exact_interval() | {"p": claim_p(found, claim.nothing)}
    if not found.exact:
        row |= {"shape": found.shape, "n": len(found.values)}
    return row | {"verdict": verdict(interval_of(row), claim.nothing)}


def holm(p: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which of m hypotheses Holm's step-down procedure rejects (Holm 1979), in the order given.

    The smallest p is compared with alpha / m, the next with alpha / (m - 1), and so on; the first that is larger ends it.
    """
    rejected = [False] * len(p)
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > alpha / (len(p) - step):
            break
        rejected[i] = True
    return rejected


def tally(claims: pd.DataFrame, column: str = "holm") -> str:
    """How many claims have each verdict: "14 hold, 11 are open and 3 are refuted". `column`: "holm", or "verdict" for each one alone."""
    words = {"holds": ("holds", "hold"), "open": ("is open", "are open"), "refuted": ("is refuted", "are refuted")}
    words["not measured"] = ("was not measured", "were not measured")
    counts = claims[column].value_counts()
    return listing([f"{counts[v]} {words[v][int(counts[v] > 1)]}" for v in words if v in counts])
