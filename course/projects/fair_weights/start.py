"""Choose the weights for somebody else: by the worst objective, by the worst-off clients, by a utility of your own.

Run it from the repository: python course/projects/fair_weights/start.py [--seed 0]. `WISHES` is yours to change.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch

from emorl_lite import Experiment, get_preset, overlay

CLIENTS, FRESH = 16, 64


def tenth(each: np.ndarray) -> np.ndarray:
    """The mean over the tenth of the clients who fare worst, [cells], of what each client scores, [cells, clients]."""
    worst = np.sort(each, axis=1)
    return worst[:, : max(1, each.shape[1] // 10)].mean(1)


Wish = Callable[[np.ndarray, np.ndarray], np.ndarray]
WISHES: dict[str, Wish] = {
    "mean of objectives": lambda scores, each: scores.mean(1),
    "worst objective": lambda scores, each: scores.min(1),
    "product": lambda scores, each: scores.prod(1),
    "worst tenth of clients": lambda scores, each: tenth(each),
}
"""Yours to change: (mean scores [cells, objectives], each client's mean score [cells, clients]) -> how good each cell is [cells]."""


def main() -> None:
    """Choose the best cell by each wish on validation clients; print what its weights give there and to fresh clients."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seed", type=int, default=0, choices=(0, 1, 2), help="whose adapters: the reference run has three seeds")
    seed = given.parse_args().seed
    experiment = Experiment(get_preset("tiny"), seed=seed, source="reference", progress=False)
    names = list(experiment.preset.objectives)
    scored = experiment.exact_map(experiment.validation()[:CLIENTS])
    cells = overlay(scored)  # all mean scores that any weights can have
    each = scored.mean[scored.map.locate(cells.weights)]  # [cells, clients]
    fresh = experiment.dataset.prompts("test")[:FRESH]
    ensemble = experiment.ensemble()

    print(f"seed {seed}: {len(cells.weights)} cells of {CLIENTS} validation clients; then {FRESH} fresh clients")
    print(f"{'chosen by':24}{'weights':>20}   promised    " + "".join(f"{name:>12}" for name in names) + "      wish there")
    for wish, utility in WISHES.items():
        promised = utility(cells.scores, each)
        weights = cells.weights[promised.argmax()]
        scores = experiment.rewards.scores(fresh, ensemble.reply(fresh, weights=weights.tolist()))
        given_there = torch.stack([scores[name] for name in names], 1).double().numpy()  # [clients, objectives]
        there = utility(given_there.mean(0)[None], given_there.mean(1)[None])[0]
        shown = " ".join(f"{w:.2f}" for w in weights)
        print(f"{wish:24}{shown:>20}{promised.max():11.3f}    " + "".join(f"{m:12.3f}" for m in given_there.mean(0)) + f"{there:16.3f}")


if __name__ == "__main__":
    main()
