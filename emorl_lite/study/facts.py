"""Every published number of the EMORL paper (arXiv 2505.02579) that is quoted here: where it was read, what of ours it stands beside.

Other modules and pages take the numbers from `FACTS`. What its public code does otherwise than the text is in `FAULTS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from emorl_lite.base.wording import number

SOURCES = {
    "scatter": "from the scatter figure's file",
    "code": "from the public code",
    "cubes": "read off the cube figures",
    "curves": "read off the learning curves",
    "abstract": "from the abstract",
    "summary": "from an unconfirmed summary, machine-written by a third party",
    "description": "from a description of the paper, not checked against its own text",
}
"""Where a published number was read, to be named wherever it is quoted. "summary": check it against the paper's own text first."""
READ_OFF = ("cubes", "curves")
"""Read off a picture by eye: about two digits."""
UNCONFIRMED = ("summary",)
"""Nobody here has seen these in a file of the authors'."""
UNSEEN = (*UNCONFIRMED, "description")
"""Nor these; they are no numbers."""

METHODS = {"base": "Base model", "uniform": "Uniform weighted", "dynaopt": "DynaOpt", "exact-average": "Model soups", "emorl": "EMORL"}
"""Our names of the paper's methods. Its model soups add the products B_i A_i: our exact average. Rewarded Soups are another method."""
CLASSES = {
    "base": "base_model.BaseModel",
    "uniform": "uniform.Uniform",
    "dynaopt": "dynaopt.DynaOpt",
    "exact-average": "rewarded_soups.ExactAverage",
    "emorl": "emorl.EMORL",
}

KNOWN, COUNTED, STOPS, TRAINED, WRITTEN = (
    "08 · How each published number is known",
    "08 · Count the data points: 17,529",
    "08 · Stop as the paper does",
    "08 · Train as the paper does: three samples, a logarithm, no critic",
    "docs/results.md",
)
SCORES = "08 · Figure 2 and the consumption table"
PAIR = "08 · The tables: PAIR, and a second source"
COST = "08 · Figure 4: what a search costs"
GROWTH = r"O(3^d \log_2 1/N)"
CUBES = "08 · Figures 6, 8 and 9: the weight cubes"


@dataclass(frozen=True)
class Fact:
    """A published number.

    `about`: the line of `published` that it stands in; `name`: what it is there. `source`: a key of `SOURCES`. `function`: what gives our
    number beside it, as a dotted path. `shown`: pages ("docs/results.md") and sections of notebooks ("08 · heading") that quote it.
    """

    about: str
    name: str
    value: float
    source: str
    function: str
    shown: tuple[str, ...]
    spread: float | None = None
    formula: str = ""
    """Of what is no number, in TeX; `value` is its first number then."""

    @property
    def text(self) -> str:
        """The value as published: "17,529 ± 1,650", "0.7684 ± 0.0206"; as an eye reads it: "0.80"."""
        if self.formula:
            return f"${self.formula}$"
        if self.source in READ_OFF and self.value < 1:
            return number(self.value)
        values = [self.value] if self.spread is None else [self.value, self.spread]
        digits = 4 if self.spread and self.value < 1 else 0
        return " ± ".join(f"{v:,.{digits}f}" if digits or v >= 1_000 else str(v) for v in values)

    @property
    def line(self) -> str:
        """The value with what it is: "mean score 0.7684 ± 0.0206", "135 weight vectors"."""
        counts = self.source == "code" and float(self.value).is_integer()
        return (f"{self.text} {self.name}" if counts else f"{self.name} {self.text}").strip()

    @property
    def forms(self) -> set[str]:
        """Every way to write the value: as published, or rounded to two, three or four digits, with a leading zero or without."""
        if self.formula:
            return {self.formula}
        value = float(self.value)
        if value == int(value):
            return {f"{int(value):,}", str(int(value))} | ({f"{value / 1000:.0f} thousand"} if value >= 1_000 else set())
        digits = len(str(self.value).partition(".")[2])
        written = {str(self.value), *(number(value, k) for k in (2, 3, 4) if k <= digits or round(value, 3) == value)}
        return written | {text.removeprefix("0") for text in written}


def _of_methods(name: str, source: str, function: str, shown: tuple[str, ...], **values: tuple[float, float | None]) -> list[Fact]:
    lines = {method.replace("-", "_"): method for method in METHODS}
    return [
        Fact(METHODS[lines[key]], name, value, source, function.format(CLASSES[lines[key]]), shown, spread)
        for key, (value, spread) in values.items()
    ]


_OF_METHODS = [
    *_of_methods(
        "data points",
        "scatter",
        "emorl_lite.study.comparison.consumption",
        (KNOWN, SCORES, WRITTEN),
        base=(0, 0),
        uniform=(23_398, 7_390),
        dynaopt=(31_328, 16_736),
        exact_average=(18_924, 4_672),
        emorl=(17_529, 1_650),
    ),
    *_of_methods(
        "mean score",
        "scatter",
        "emorl_lite.methods.{}",
        (KNOWN, SCORES, WRITTEN),
        base=(0.3413, 0.0124),
        uniform=(0.8350, 0.0199),
        dynaopt=(0.8262, 0.0291),
        exact_average=(0.6965, 0.0276),
        emorl=(0.7684, 0.0206),
    ),
]
_PAIR = _of_methods(
    "average on PAIR",
    "summary",
    "emorl_lite.study.quality.reply_quality",
    (KNOWN,),
    uniform=(0.8397, None),
    dynaopt=(0.8254, None),
    exact_average=(0.6982, None),
    emorl=(0.7907, None),
)
_QUALITY, _SEARCH = "emorl_lite.study.quality.reply_quality", "emorl_lite.search.grid.hierarchical_grid_search"
_STOP, _KSCST = "emorl_lite.training.stopping.converged", "emorl_lite.training.ppo.less_the_mean"
_LOGARITHM = "emorl_lite.training.penalised_reward.logarithm"
_MIX, _DIVERSITY = "best mean score by what is mixed", "emorl_lite.rewards.metrics.diversity_2"
_ACCOUNTS = "emorl_lite.study.comparison.consumption"
FACTS: tuple[Fact, ...] = (
    *_OF_METHODS,
    Fact("EMORL's training time, seconds", "", 6573.0, "abstract", "emorl_lite.study.consumed.consumption_table", (KNOWN,), 147.43),
    Fact(_MIX, "hidden", 0.80, "cubes", "emorl_lite.ensemble.ensemble.mix_hidden", (KNOWN, CUBES)),
    Fact(_MIX, "parameters", 0.71, "cubes", "emorl_lite.lm.averaging.average_parameters", (KNOWN, CUBES)),
    Fact(_MIX, "probabilities", 0.595, "cubes", "emorl_lite.ensemble.ensemble.mix_probabilities", (KNOWN, CUBES)),
    Fact("data points of the longest run", "at least about", 13_000, "curves", _ACCOUNTS, (KNOWN, COUNTED)),
    Fact("data points of the longest run", "at most about", 14_000, "curves", _ACCOUNTS, (KNOWN, COUNTED)),
    Fact("data points of the two other runs", "one about", 8_000, "curves", _ACCOUNTS, (KNOWN, COUNTED)),
    Fact("data points of the two other runs", "the other about", 5_000, "curves", _ACCOUNTS, (KNOWN, COUNTED)),
    Fact("the search", "weight vectors", 135, "code", _SEARCH, (KNOWN, COUNTED)),
    Fact("the search", "validation prompts", 32, "code", _SEARCH, (KNOWN, COUNTED)),
    Fact("cost of the search", "", 3, "description", _SEARCH, (COST, "docs/paper_map.md"), formula=GROWTH),
    Fact("weights that its evaluation takes", "reflection", 0.78125, "code", _SEARCH, (KNOWN,)),
    Fact("weights that its evaluation takes", "empathy", 0.5, "code", _SEARCH, (KNOWN,)),
    Fact("weights that its evaluation takes", "fluency", 0.0625, "code", _SEARCH, (KNOWN,)),
    Fact("training by k-SCST", "samples a prompt", 3, "code", _KSCST, (KNOWN, TRAINED)),
    Fact("training by k-SCST", "scores cut to at least", 0.0001, "code", _LOGARITHM, (KNOWN, TRAINED)),
    Fact("training by k-SCST", "at most", 0.9999, "code", _LOGARITHM, (KNOWN, TRAINED)),
    Fact("its stopping rule", "validations", 20, "code", _STOP, (KNOWN, STOPS)),
    Fact("its stopping rule", "std / mean below", 0.015, "code", _STOP, (KNOWN, STOPS)),
    *(Fact("average on PAIR", f.about, f.value, f.source, f.function, (KNOWN, *(() if f.about == "DynaOpt" else (PAIR,)))) for f in _PAIR),
    Fact("reflection on Psych8k", "EMORL", 0.9784, "summary", _QUALITY, (KNOWN, PAIR)),
    Fact("diversity-2", "EMORL", 0.6516, "summary", _DIVERSITY, (KNOWN, PAIR)),
    Fact("diversity-2", "others, lowest", 0.35, "summary", _DIVERSITY, (KNOWN, PAIR)),
    Fact("diversity-2", "others, highest", 0.43, "summary", _DIVERSITY, (KNOWN, PAIR)),
    Fact("weights that the search found", "reflection about", 0.8, "summary", _SEARCH, (KNOWN,)),
    Fact("weights that the search found", "fluency about", 0.05, "summary", _SEARCH, (KNOWN,)),
)


def facts(about: str) -> dict[str, Fact]:
    """The facts of one line, by name."""
    return {fact.name: fact for fact in FACTS if fact.about == about}


@dataclass(frozen=True)
class Fault:
    """Something in the public code that makes its numbers say something else than its text.

    `section`: where a notebook shows it ("03 · heading"; "" if the table alone names it). `evidence`: words of that section.
    """

    code: str
    here: str
    section: str = ""
    evidence: str = ""


FAULTS = (
    Fault(
        "the KL term has no effect: computed without gradient, and times an advantage of mean 0",
        "the KL is in every token's reward; none in t5-paper",
        "08 · The KL term that does nothing",
        "computed without gradient",
    ),
    Fault(
        "hidden-state aggregation is logit mixing: the head is linear",
        "one line of algebra, and a test",
        "03 · Mixing states is mixing logits",
        "head",
    ),
    Fault(
        "the cube holds each direction several times, and the zero vector, which has no text",
        "135 listed, one decoding a direction",
        "04 · The cube is redundant",
        "zero vector",
    ),
    Fault(
        "the sub-cube that holds every direction loses by the zero vector's score of 0",
        "shown; the same search on the simplex, and exact",
        "04 · The sub-cube that holds everything",
        "zero",
    ),
    Fault(
        "“logits” averages probabilities of texts that each model sampled by itself: contexts differ",
        "all read the same prefix",
        "03 · Do they reply differently?",
        "samples a text of its own",
    ),
    Fault("main() of el_aggregation.py always calls logits_func, whatever --aggregation_mode says", "--search.mix chooses, and a test"),
    Fault(
        "EMORL decodes greedily, averaged parameters and baselines are sampled",
        "all greedy; what that is worth is measured",
        "06 · The papers' claims",
        "greedy less sampled",
    ),
    Fault(
        "baselines train all parameters, EMORL trains LoRA",
        "the same LoRA for all, and one of triple rank",
        "06 · The papers' claims",
        "Trained parameters",
    ),
    Fault(
        "rewards enter as logarithms, so that bad and worse count more than good and better",
        "the rewards themselves, but in t5-paper and tiny-paper",
        "08 · Train as the paper does: three samples, a logarithm, no critic",
        "logarithm",
    ),
    Fault("dropout stays on while replies are sampled and validated", "evaluation mode outside the update"),
    Fault("an initial [CLS] is trained on without having been sampled", "sampled tokens only"),
    Fault("log-probabilities leave out the end token", "the end token counts", "02 · A batch: the mask", "end token"),
    Fault(
        "a reply is turned to text and back, and gradients flow through tokens never sampled",
        "the sampled ids themselves",
    ),
    Fault("text after the first end token is scored", "a reply ends where it ends; unfinished: 0"),
    Fault(
        "the coherence scorer has a head of random weights",
        "a posterior over clients instead",
        "08 · The tables: PAIR, and a second source",
        "head of random weights",
    ),
    Fault(
        "data points leave out samples, validation and search",
        "both accountings, with the search and without",
        "08 · Count the data points: 17,529",
        "search",
    ),
    Fault("its validation set has 32 prompts, so every point of a search sees the same ones, shuffled", "32 or more, and tested"),
    Fault("DynaOpt's port raises the chosen weight eight times: the chosen arm is not reset", "a drawn arm raises a weight once"),
    Fault(
        "three objectives are written into the code",
        "any number of objectives",
        "04 · The cube is redundant",
        "3^d",
    ),
    Fault(
        "no cache, and a merged copy of the model for every adapter",
        "one base, N adapters in one pass, a cache",
        "04 · One pass per prefix: the tree",
        "no cache",
    ),
    Fault("a typo (diveristy-2) stops el_test.py, which makes the evaluation tables", "each measure is tested"),
)
