"""Every weight at once, as regions (notebook 05)."""

from emorl_lite.base.polytopes import Piece, simplex
from emorl_lite.exact.exact_map import ExactMap, Region, exact_map
from emorl_lite.exact.optimum import best_weights, exact_search
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.scored_map import ScoredMap, scored_map

__all__ = [
    "ExactMap",
    "Piece",
    "Region",
    "ScoredMap",
    "best_weights",
    "exact_map",
    "exact_search",
    "overlay",
    "scored_map",
    "simplex",
]
