"""Searches for weights, from points (notebook 04)."""

from emorl_lite.base.weights import direction
from emorl_lite.search.evaluation import AverageEvaluation, TreeEvaluation
from emorl_lite.search.grid import best_cell, count_redundancy, full_grid, hierarchical_grid_search
from emorl_lite.search.pareto import controllability, expected_utility, hypervolume, igd_plus, non_dominated, steerability
from emorl_lite.search.samplers import bayesian_search, find_weights, random_search
from emorl_lite.search.score_table import SearchResult
from emorl_lite.search.simplex_grid import compositions, small_simplices
from emorl_lite.search.statistics import confirm, interval, median_interval, shape_of

__all__ = [
    "AverageEvaluation",
    "SearchResult",
    "TreeEvaluation",
    "bayesian_search",
    "best_cell",
    "compositions",
    "confirm",
    "controllability",
    "count_redundancy",
    "direction",
    "expected_utility",
    "find_weights",
    "full_grid",
    "hierarchical_grid_search",
    "hypervolume",
    "igd_plus",
    "interval",
    "median_interval",
    "non_dominated",
    "random_search",
    "shape_of",
    "small_simplices",
    "steerability",
]
