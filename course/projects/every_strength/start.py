"""Ask a knob at every position: what does a sweep of a few strengths miss?

The knob here is DeRa's strength, from the base (0) past a trained adapter (1) to four times as far. `knob` is yours to change.
Run it from the repository: python course/projects/every_strength/start.py [--seed 0].
"""

from __future__ import annotations

import argparse

import numpy as np

from emorl_lite import Experiment, PrefixTree, best_weights, exact_map, get_preset, scored_map
from emorl_lite.ensemble import Corners, Source, line

CLIENTS, LOW, HIGH = 16, 0.0, 4.0
SWEEPS = (3, 5, 9, 17, 33, 65)
"""Numbers of strengths that a sweep asks, equally far apart."""


def knob(experiment: Experiment) -> Corners:
    """Yours to change: what is mixed linearly. `guidance`, `contrast` and `adapter_corners` of emorl_lite.ensemble are others."""
    return line(Source(experiment.lm), Source(experiment.lm, "empathy"), LOW, HIGH)


def main() -> None:
    """Print, for sweeps of several sizes, the replies and the best mean score that they miss."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seed", type=int, default=0, choices=(0, 1, 2), help="whose adapters: the reference run has three seeds")
    seed = given.parse_args().seed
    experiment = Experiment(get_preset("tiny"), seed=seed, source="reference", progress=False)
    experiment.load_adapters()
    validation, test = experiment.validation()[:CLIENTS], experiment.dataset.prompts("test")[:CLIENTS]
    corners = knob(experiment)
    maps = [scored_map(exact_map(PrefixTree.of(corners, clients)), experiment.rewards.scores) for clients in (validation, test)]
    scored, fresh = maps
    best = best_weights(scored)
    at = np.atleast_1d(best.weights)[-1:]  # the knob's value

    print(f"seed {seed}, {CLIENTS} validation and {CLIENTS} test clients, strengths {LOW:g} to {HIGH:g}")
    print(f"regions in all {len(scored.map.regions)}; the best strength {at[0]:.3f} has {best.value:.4f}, on test clients", end=" ")
    print(f"{fresh.means(at).mean():.4f}")
    print("strengths asked  regions missed  best mean missed  its choice on test clients")
    for n in SWEEPS:
        asked = np.linspace(LOW, HIGH, n)[:, None]
        located = scored.regions_at(asked)
        missed = len(scored.map.regions) - len(np.unique(located))
        means = scored.mean_scores(located).mean(1)
        chosen = fresh.means(asked[means.argmax()]).mean()
        print(f"{n:15d}  {missed:14d}  {best.value - means.max():16.4f}  {chosen:26.4f}")


if __name__ == "__main__":
    main()
