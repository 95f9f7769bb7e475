"""Every weight at once, as regions (notebook 05)."""

from emorl_lite.base.polytopes import Piece, simplex
from emorl_lite.exact.checking import check_replies
from emorl_lite.exact.exact_map import ExactMap, Region, check_map, exact_map
from emorl_lite.exact.learning_curve import learning_curve
from emorl_lite.exact.optimum import best_weights, exact_search
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.exact.support import convex_front
from emorl_lite.exact.suprema import best_for, suprema
from emorl_lite.exact.worth import held_out, optimism, rademacher

__all__ = [
    "ExactMap",
    "Piece",
    "Region",
    "ScoredMap",
    "best_for",
    "best_weights",
    "check_map",
    "check_replies",
    "convex_front",
    "exact_map",
    "exact_search",
    "held_out",
    "learning_curve",
    "optimism",
    "overlay",
    "rademacher",
    "scored_map",
    "simplex",
    "suprema",
]
