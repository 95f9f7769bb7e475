"""Every weight at once, as regions (notebook 05)."""

from emorl_lite.base.polytopes import Piece, simplex
from emorl_lite.exact.checking import check_replies
from emorl_lite.exact.exact_map import ExactMap, Region, check_map, exact_map
from emorl_lite.exact.learning_curve import learning_curve
from emorl_lite.exact.optimum import best_weights, exact_search
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.sampled import along, at_temperature, cross_fitted, sample_scores, sampled_value, temperature_line, value_of
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.exact.support import convex_front
from emorl_lite.exact.weightings import Listed, best_for, suprema
from emorl_lite.exact.worth import held_out, optimism, rademacher

__all__ = [
    "ExactMap",
    "Listed",
    "Piece",
    "Region",
    "ScoredMap",
    "along",
    "at_temperature",
    "best_for",
    "best_weights",
    "check_map",
    "check_replies",
    "convex_front",
    "cross_fitted",
    "exact_map",
    "exact_search",
    "held_out",
    "learning_curve",
    "optimism",
    "overlay",
    "rademacher",
    "sample_scores",
    "sampled_value",
    "scored_map",
    "simplex",
    "suprema",
    "temperature_line",
    "value_of",
]
