"""Write a search for the weights that needs fewer evaluations than the published one, and judge it against the exact optimum.

Run it from the repository: python course/projects/another_search/start.py [--seed 0]. `propose` is yours to change.
"""

from __future__ import annotations

import argparse

import numpy as np

from emorl_lite import Experiment, best_weights, get_preset, hierarchical_grid_search

BUDGET, RUNS, CLIENTS = 60, 20, 16
"""Evaluations that a search may ask for; runs of a search that draws; validation clients."""
SHOWN = (5, 10, 20, 40, 60)


def propose(asked: np.ndarray, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Yours to change: the weights to ask next, [d], from those asked so far [n, d] and their scores [n]. Here: drawn blindly."""
    return random.dirichlet(np.ones(asked.shape[1]))


def main() -> None:
    """Print the regret of both searches: how far the best point seen lies below the optimum."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seed", type=int, default=0, choices=(0, 1, 2), help="whose adapters: the reference run has three seeds")
    seed = given.parse_args().seed
    experiment = Experiment(get_preset("tiny"), seed=seed, source="reference", progress=False)
    clients, names = experiment.validation()[:CLIENTS], list(experiment.preset.objectives)
    scored = experiment.exact_map(clients)  # from here on an evaluation is a look-up
    optimum = best_weights(scored).value

    def mean_score(weights: np.ndarray) -> float:
        return float(scored.means(weights / weights.sum())[0].mean())

    found = np.empty((RUNS, BUDGET))
    for run in range(RUNS):
        random = np.random.default_rng(run)
        asked, scores = np.empty((0, len(names))), np.empty(0)
        for n in range(BUDGET):
            weights = propose(asked, scores, random)
            asked, scores = np.vstack([asked, weights]), np.append(scores, mean_score(weights))
            found[run, n] = scores.max()

    search = hierarchical_grid_search(lambda w: scored.evaluate([x / sum(w) for x in w]), names, progress=False, by_direction=True)
    table = search.table[~search.table["note"].fillna("").str.contains("seen|same")]
    published = table["mean"].cummax().to_numpy()

    print(f"seed {seed}, {CLIENTS} validation clients; regret: the optimum less the best seen, {RUNS} runs of yours")
    print("evaluations    yours: mean  worst    published")
    for n in SHOWN:
        regret = optimum - found[:, n - 1]
        print(f"{n:11d}  {regret.mean():13.4f} {regret.max():6.4f} {optimum - published[min(n, len(published)) - 1]:12.4f}")
    print(f"{len(published):11d}  {'':13} {'':6} {optimum - published[-1]:12.4f}   (its end)")


if __name__ == "__main__":
    main()
