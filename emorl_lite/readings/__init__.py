"""Sentences built from the numbers beside them, a module a notebook; words for numbers, and a run beside the reference's spread."""

from emorl_lite.base.wording import counted, listing, number, part, percent, signed, span, told
from emorl_lite.readings import (
    exact_fronts,
    maps,
    mixing,
    paper,
    ppo,
    rewards,
    sampled,
    search,
    search_tables,
    study,
    tour,
    training,
    worth,
)
from emorl_lite.readings.spread import (
    CLASSIFIER_MEASURES,
    classifier_runs,
    policies_here,
    policy_measures,
    policy_runs,
    spread_reading,
)
from emorl_lite.readings.tour import base_reading, tour_reading

__all__ = [
    "CLASSIFIER_MEASURES",
    "base_reading",
    "classifier_runs",
    "counted",
    "exact_fronts",
    "listing",
    "maps",
    "mixing",
    "number",
    "paper",
    "part",
    "percent",
    "policies_here",
    "policy_measures",
    "policy_runs",
    "ppo",
    "rewards",
    "sampled",
    "search",
    "search_tables",
    "signed",
    "span",
    "spread_reading",
    "study",
    "told",
    "tour",
    "tour_reading",
    "training",
    "worth",
]
