"""How numbers, tables and paragraphs are written in README.md and docs/results.md: Markdown, scores without a leading zero."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.wording import number, told

WIDTH = 140
"""Characters of a line of prose."""
NAMES = {
    "base": "base model",
    "uniform": "uniform weighting",
    "uniform-short": "uniform, a d-th of the budget",
    "uniform-wide": "uniform, adapter of d times the rank",
    "dynaopt": "DynaOpt",
    "c-dynaopt": "C-DynaOpt",
    "grpo": "GRPO (TRL)",
    "gdpo": "GDPO (TRL)",
    "emorl": "EMORL",
    "mod-reverse": "MOD, reverse KL (EMORL's words)",
    "mod-forward": "MOD, forward KL (harmonic mean)",
    "linear-pool": "probabilities averaged (`linear-pool`)",
    "exact-average": "parameters averaged exactly",
    "rewarded-soups": "Rewarded Soups",
    "bone-soups": "Bone Soups",
    "personalized-soups": "Personalized Soups",
    "genarm": "GenARM",
    "dera": "DeRa on the uniform policy",
    "prompted": "weights in the prompt",
    "clp-full": "CLP, experts on every layer",
    "clp-attention": "CLP, experts on attention",
    "clp-logit": "CLP, experts on the head",
    "clp-kl": "CLP over KL weights",
    "panacea": "Panacea",
    "panacea-tchebycheff": "Panacea, Tchebycheff",
    "rewards-in-context": "Rewards in Context",
}


def name_of(method: str) -> str:
    """A method as the tables call it: "EMORL, a budget for each run" for "emorl-long"."""
    short = method.removesuffix("-long")
    return NAMES.get(short, f"`{short}`") + (", a budget for each run" if method.endswith("-long") else "")


def score(value: float, digits: int = 3) -> str:
    """.633, −.020, 1.000; nothing for nan."""
    return re.sub(r"(?<!\d)0\.", ".", number(value, digits)) if np.isfinite(value) else ""


def gap(found: Mapping[str, float], digits: int = 3) -> str:
    """A difference with its interval, without leading zeros: "+.054 [+.037, +.071]"."""
    return re.sub(r"(?<!\d)0\.", ".", told(found, digits))


def between(low: float, high: float, digits: int = 3) -> str:
    """An interval: "[.596, .670]"; nothing for nan."""
    return f"[{score(low, digits)}, {score(high, digits)}]" if np.isfinite(low) else ""


def table_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table."""
    heads = list(lines[0])
    rows = [heads, ["---"] * len(heads), *([str(line[head]) for head in heads] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows).replace("| --- ", "|---").replace("--- |", "---|")


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph, or with `indent` an item of a list, in lines of the page's width."""
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)
    return "\n".join(lines)


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    """A table as Markdown: counts as they are, other numbers by `score`, nothing for nan, no leading zeros in texts either."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return score(value, digits)
        return bare(str(value))

    return table_of([{str(key): cell(value) for key, value in row.items()} for row in frame.to_dict("records")])


def bare(text: str) -> str:
    """A text whose numbers have no leading zero: "+0.054" is "+.054"."""
    return re.sub(r"(?<![\d.])0\.(?=\d)", ".", text)


def paragraphs(text: str) -> str:
    """Paragraphs of a reading in lines of the page's width, without leading zeros."""
    return "\n\n".join(wrapped(bare(part)) for part in text.split("\n\n"))
