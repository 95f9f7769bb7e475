"""Rivals of the hierarchical grid search, and all of them by name: same evaluation, same table, same result.

They search directions of the weights, hence the simplex. Bayesian optimisation (expected improvement) and UCB (upper confidence bound) use
the library `bayesian-optimization`: a Gaussian process with a Matern 5/2 kernel over the simplex, spread to the unit cube by
`stick_breaking`, and ten random points to begin with.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import MOST_BAYESIAN, MOST_LEVELS, SearchConfig
from emorl_lite.base.ranges import check_seed, shown
from emorl_lite.base.sizes import MOST_POINTS
from emorl_lite.search.grid import full_grid, hierarchical_grid_search
from emorl_lite.search.score_table import Evaluate, ScoreTable, SearchResult, Weights
from emorl_lite.search.simplex_grid import compositions

Acquisition = Literal["ei", "ucb"]
FIRST = 10
"""Random points before the Gaussian process has something to go by."""


def random_search(
    evaluate: Evaluate,
    objectives: Sequence[str],
    evaluations: int,
    seed: int = 0,
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SearchResult:
    """The best of `evaluations` weights drawn uniformly from the simplex. Raises UserError for fewer than one evaluation, or a bad seed."""
    _check(evaluations, seed)
    points = [tuple(w) for w in np.random.default_rng(seed).dirichlet(np.ones(len(objectives)), evaluations).tolist()]
    settings = {"search": "random", "evaluations": evaluations, "seed": seed, "provenance": dict(provenance or {})}
    with tqdm(total=evaluations, desc="random search", disable=not progress) as bar:
        scores = ScoreTable(evaluate, objectives, table_path, settings, bar)
        scores.means(1, points)
        return scores.result([np.eye(len(objectives))])


def bayesian_search(
    evaluate: Evaluate,
    objectives: Sequence[str],
    evaluations: int,
    seed: int = 0,
    acquisition: Acquisition = "ei",
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Bayesian optimisation of the mean score: after FIRST random points, each next one maximises the acquisition function.

    A level is one evaluation. Resumes from its table on the same machine and versions: points are chosen anew from the scores there, and
    must come out as they were.
    Raises UserError for fewer than one evaluation or more than MOST_BAYESIAN, a bad seed, an unknown acquisition function, or a missing
    library.
    """
    _check(evaluations, seed, MOST_BAYESIAN)
    if acquisition not in get_args(Acquisition):
        raise UserError(f"acquisition {acquisition!r}: choose {', '.join(get_args(Acquisition))}")
    try:
        from bayes_opt import BayesianOptimization
        from bayes_opt.acquisition import ExpectedImprovement, UpperConfidenceBound
    except ImportError as error:
        raise UserError("Bayesian optimisation needs the package bayesian-optimization: pip install bayesian-optimization") from error
    # exploration: 0.01 and 2.576 are the library's own choices
    function = ExpectedImprovement(xi=0.01) if acquisition == "ei" else UpperConfidenceBound(kappa=2.576)
    names = [f"u{i}" for i in range(len(objectives) - 1)]
    optimiser = BayesianOptimization(
        None, {name: (0.0, 1.0) for name in names}, function, random_state=seed, verbose=0, allow_duplicate_points=True
    )
    settings = {"search": acquisition, "evaluations": evaluations, "seed": seed, "provenance": dict(provenance or {})}
    first = np.random.default_rng(seed).random((min(FIRST, evaluations), len(names)))
    with tqdm(total=evaluations, desc="Bayesian optimisation", disable=not progress) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's length scale reaching its bound, at almost every step
        scores = ScoreTable(evaluate, objectives, table_path, settings, bar)
        for number in range(evaluations):
            u = first[number] if number < len(first) else np.array([float(optimiser.suggest()[name]) for name in names])
            [mean] = scores.means(number + 1, [stick_breaking(u)])
            with redirect_stdout(StringIO()):  # it prints when a point comes twice
                optimiser.register(dict(zip(names, u.tolist(), strict=True)), mean)
        return scores.result([np.eye(len(objectives))])


def stick_breaking(u: np.ndarray) -> Weights:
    """The point of the simplex [d] for a point of the unit cube [d - 1]; uniform points give uniform weights."""
    remaining, weights = 1.0, []
    for i, x in enumerate(u):
        kept_share = float(x) ** (1 / (len(u) - i))
        weights.append(remaining * (1 - kept_share))
        remaining *= kept_share
    return (*weights, remaining)


SEARCHES: dict[str, str] = {
    "hierarchical": "the paper's search of the cube",
    "hierarchical-simplex": "the same on the simplex",
    "grid": "a full grid on the simplex",
    "random": "uniform random weights",
    "bayesian": "Bayesian optimisation, expected improvement",
    "ucb": "Bayesian optimisation, upper confidence bound",
}
"""The searches that `find_weights` knows, besides the exact optimum (`optimum.exact_search`)."""


def find_weights(
    search: str,
    evaluate: Evaluate,
    objectives: Sequence[str],
    evaluations: int = 135,
    seed: int = 0,
    table_path: Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Run a search of SEARCHES with at most so many listed points: grids take as many levels, or as fine a spacing, as fit.

    Raises UserError for an unknown search, or a budget too small for one level.
    """
    d = len(objectives)
    options: dict[str, Any] = {"table_path": table_path, "progress": progress, "provenance": provenance}
    _check(evaluations, seed)
    if search in ("hierarchical", "hierarchical-simplex"):
        a_level = 3**d if search == "hierarchical" else len(compositions(d, 2))
        if evaluations < a_level:
            raise UserError(f"evaluations {evaluations}: one level of the {search} search has {a_level} points at d = {d}")
        space: Literal["cube", "simplex"] = "cube" if search == "hierarchical" else "simplex"
        levels = min(evaluations // a_level, MOST_LEVELS)
        return hierarchical_grid_search(evaluate, objectives, SearchConfig(levels=levels), space=space, by_direction=True, **options)
    if search == "grid":
        k = max((k for k in range(2, evaluations + 2) if math.comb(k + d - 1, d - 1) <= evaluations), default=0)
        if not k:
            raise UserError(f"evaluations {evaluations}: the coarsest grid of the simplex has {len(compositions(d, 2))} points at d = {d}")
        return full_grid(evaluate, objectives, k + 1, space="simplex", **options)
    if search == "random":
        return random_search(evaluate, objectives, evaluations, seed, **options)
    acquisitions: dict[str, Acquisition] = {"bayesian": "ei", "ucb": "ucb"}
    if search in acquisitions:
        return bayesian_search(evaluate, objectives, evaluations, seed, acquisitions[search], **options)
    raise UserError(f"search {search!r} is unknown: expected one of {', '.join(SEARCHES)}")


def best_so_far(table: Any) -> np.ndarray:
    """The best mean score after each evaluation [n], in the order of a search's table; repeated and degenerate points cost nothing."""
    means = table.loc[table["note"].fillna("") == "", "mean"].to_numpy(dtype=float)
    return np.maximum.accumulate(means)


def _check(evaluations: int, seed: int, most: int = MOST_POINTS) -> None:
    """Raise UserError for a number of points that is none, or would never end, or a seed that is none."""
    if not isinstance(evaluations, numbers.Integral) or not 1 <= evaluations <= most:
        raise UserError(f"evaluations: expected at least 1 and at most {most:,}, got {shown(evaluations)}")
    check_seed(seed, "search seed")
