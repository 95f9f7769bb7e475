"""How many evaluations a search needs, by objectives and by precision: the measured side of the paper's cost surfaces (its figure 4).

    python benchmarks/search_surface.py [--quick] [--out data/results/search_surface.csv]

The function that is searched is known everywhere: the mean score over validation prompts of d packaged adapters mixed in their hidden
states, looked up in their exact map, whose optimum is known too. d above three takes the next seed's adapters: every seed trained three,
from one base. The precision is the shortfall that is allowed, a share of the optimum. `evaluations` are the points that a search has
listed when its best so far first comes that near, as the paper counts; `decoded` those of them that can differ in their replies
(different directions of the weights). `reached` is False where it never comes so near, and then its whole budget is counted. Bayesian
optimisation and random search are run with several seeds, grids once, all on the maps of three sets of adapters. A table that is there is
continued. Eight minutes on one core. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from emorl_lite.base.entry import run_script
from emorl_lite.base.files import read_table
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.search.samplers import find_weights

SHORT = (0.1, 0.05, 0.02, 0.01, 0.005)
"""Shortfalls from the optimum, as shares of it."""
LEVELS = 5
"""Levels of the hierarchical search, the paper's."""
MOST_GRID = 100_000
"""Points of the finest full grid that is tried."""
SETS = 3
"""Sets of adapters."""
OBJECTIVES = (2, 3, 4, 5)


def packaged_map(d: int, first: int, prompts: int) -> ScoredMap:
    """The exact map of d packaged adapters, those of seed `first` and then of the next seeds, scored by the three rewards."""
    experiment = Experiment(get_preset("tiny"), first % SETS, progress=False, source="reference")
    objectives, names = experiment.preset.objectives, []
    for i in range(d):
        seed, objective = (first + i // len(objectives)) % SETS, objectives[i % len(objectives)]
        names.append(f"{objective} of seed {seed}")
        experiment.lm.load_adapter(replace(experiment, seed=seed).run_folder(objective), f"{objective}{seed}")
    adapters = [name.replace(" of seed ", "") for name in names]
    tree = PrefixTree(experiment.lm, adapters, experiment.dataset.prompts("validation")[:prompts])
    return scored_map(exact_map(tree), experiment.rewards.scores)


class Best(NamedTuple):
    """How far a search has come."""

    listed: int
    decoded: int
    best: float


def grid_bests(scored: ScoredMap, most: int = MOST_GRID) -> list[Best]:
    """The full grids of spacing 1/2, 1/4, .. on the cube, as far as they have at most so many points."""
    d, k, found = len(scored.map.corners), 2, [Best(0, 0, 0.0)]
    while (k + 1) ** d <= most:
        points = np.array(list(product(range(k + 1), repeat=d)))
        directions = points[np.gcd.reduce(points, 1) == 1]
        new = directions[(directions.max(1) > k // 2) | (k == 2)]  # the others were in the grid before
        best = max(found[-1].best, float(scored.means(new / k).mean(1).max()))
        found.append(Best(len(points), len(directions), best))
        k *= 2
    return found[1:]


def listed_bests(scored: ScoredMap, search: str, points: int, seed: int = 0) -> list[Best]:
    """A search after every listed point."""
    names = scored.map.corners

    def evaluate(weights: tuple[float, ...]) -> dict[str, float]:
        return dict.fromkeys(names, float(scored.means(weights).mean()))

    table = find_weights(search, evaluate, names, points, seed, progress=False).table
    decoded = (table["note"].fillna("") == "").cumsum().tolist()
    bests = np.maximum.accumulate(table["mean"].fillna(0).to_numpy(dtype=float)).tolist()
    return [Best(*line) for line in zip(range(1, len(table) + 1), decoded, bests, strict=True)]


def needed(curve: Sequence[Best], optimum: float, shortfalls: Sequence[float] = SHORT) -> list[dict[str, Any]]:
    """For every shortfall the evaluations until the best so far comes that near: shortfall, evaluations, decoded, reached."""
    lines = []
    for short in shortfalls:
        hit = next((at for at in curve if at.best >= (1 - short) * optimum - 1e-12), None)
        at = hit or curve[-1]
        lines.append({"shortfall": short, "evaluations": at.listed, "decoded": at.decoded, "reached": hit is not None})
    return lines


def measured(d: int, first: int, seeds: Sequence[int], points: int, prompts: int) -> pd.DataFrame:
    """All searches on the map of one set of d adapters.

    Columns: adapters (the first one's seed), d, search, seed, shortfall, evaluations, decoded, reached, optimum, regions.
    """
    scored = packaged_map(d, first, prompts)
    optimum = best_weights(scored).value
    lines: list[dict[str, Any]] = []

    def add(search: str, seed: int, bests: Sequence[Best]) -> None:
        about = {"adapters": first, "d": d, "search": search, "seed": seed}
        lines.extend(about | line | {"optimum": optimum, "regions": len(scored.map.regions)} for line in needed(bests, optimum))

    add("hierarchical", 0, listed_bests(scored, "hierarchical", LEVELS * 3**d))
    add("full grid", 0, grid_bests(scored))
    for seed in seeds:
        add("random", seed, listed_bests(scored, "random", points, seed))
        add("bayesian", seed, listed_bests(scored, "bayesian", points, seed))
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two objectives, one set of adapters, few points: within a minute")
    parser.add_argument("--out", type=Path, help="write the table, with its provenance beside it, after every set of adapters")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    settings: dict[str, Any] = {"seeds": 1, "points": 15, "prompts": 4} if args.quick else {"seeds": 2, "points": 80, "prompts": 16}
    table = pd.DataFrame()
    if args.out and args.out.is_file():
        table = read_table(args.out, "the table of these measurements", columns=("d", "adapters"))
    done = set(zip(table["d"], table["adapters"], strict=True)) if len(table) else set()
    for d, first in product([2] if args.quick else OBJECTIVES, range(1 if args.quick else SETS)):
        if (d, first) in done:
            continue
        part = measured(d, first, range(settings["seeds"]), settings["points"], settings["prompts"])
        table = pd.concat([table, part], ignore_index=True)
        if args.out:
            save_table(table.round(6), args.out, command="python benchmarks/search_surface.py", preset="tiny", quick=args.quick, **settings)
        print(f"d = {d}, adapters of seed {first}: {part['regions'].iloc[0]} regions, {time.perf_counter() - started:.0f} s", flush=True)
    medians = table.groupby(["search", "d", "shortfall"], sort=False)["evaluations"].median().unstack("d")
    print(medians.to_string(float_format="%.0f"))
    facts = {"quick": args.quick, "rows": len(table), "reached": round(float(table["reached"].mean()), 3)}
    print(json.dumps(facts | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    run_script(main)
