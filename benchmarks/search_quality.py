"""How good and how costly each search for the weights is, against the exact optimum.

    python benchmarks/search_quality.py [--quick] [--runs FOLDER] [--out FOLDER]

Four tables. search_regret.csv: on the validation prompts of each adapter seed, the best score so far of every search after every
evaluation, below the exact optimum (every evaluation is a look-up in the exact map, which gives what decoding gives). search_choice.csv:
what each search's choice promised, and what it scores on the test prompts. search_clients.csv: the same for the published search and the
exact optimum when they see more validation prompts. search_costs.csv: evaluations, distinct prefixes, replies
scored, regions, seconds and best score of the published search and of the exact map as objectives, precision, tokens and prompts grow.
The adapters are the reference's, or those under `--runs`; those of further objectives are trained. `--quick` takes random adapters and
small settings. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from search import quick_experiment

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import MORE_OBJECTIVES, OBJECTIVES, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.datasets import load_dataset
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.search.evaluation import TreeEvaluation
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.search.samplers import SEARCHES, best_so_far, find_weights
from emorl_lite.search.statistics import interval

ALL = OBJECTIVES + MORE_OBJECTIVES
LISTED = {"bayesian": 60, "ucb": 60}
"""Points of the searches that take seconds to choose one; the others get the published 135."""


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def regret(validation: ScoredMap, test: ScoredMap, adapters: int, seeds: Sequence[int], listed: int | None) -> tuple[list[Any], list[Any]]:
    """Rows of search_regret and search_choice for one set of adapters."""
    names, optimum = validation.map.corners, best_weights(validation)
    curves: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []

    def chosen(search: str, seed: int, weights: Sequence[float], value: float, evaluations: int) -> dict[str, Any]:
        scores = test.scores[test.map.locate(np.array(weights))[0]].mean(1)
        mean, low, high = interval(scores)
        w = np.array(weights) / sum(weights)
        row = {"search": search, "adapters": adapters, "seed": seed, "evaluations": evaluations, "promised": value, "test": mean}
        row |= {"test_low": low, "test_high": high, "regret": optimum.value - value}
        return row | {f"w_{name}": x for name, x in zip(names, w.tolist(), strict=True)}

    for search in SEARCHES:
        for seed in seeds if search in ("random", "bayesian", "ucb") else seeds[:1]:
            result = find_weights(search, validation.evaluate, names, listed or LISTED.get(search, 135), seed, progress=False)
            curve = best_so_far(result.table)
            run = f"{adapters}.{seed}"
            curves += [
                {"search": search, "run": run, "evaluation": i, "regret": optimum.value - best, "optimum": optimum.value}
                for i, best in enumerate(curve.tolist(), 1)
            ]
            choices.append(chosen(search, seed, result.best, float(curve[-1]), result.evaluated))
    choices.append(chosen("exact map", 0, optimum.weights, optimum.value, 0))
    best_test = best_weights(test)
    choices.append(chosen("exact map of the test prompts", 0, best_test.weights, validation.means(best_test.weights).mean(), 0))
    return curves, choices


def clients(experiment: Experiment, test: ScoredMap, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of search_clients: what is found on more and more validation prompts, and what that scores on the test prompts."""
    names = list(experiment.preset.objectives)
    validation_prompts = load_dataset(replace(experiment.preset.data, validation_prompts=max(sizes))).prompts("validation")
    rows = []
    for n in sizes:
        elapsed, scored = timed(partial(experiment.exact_map, validation_prompts[:n]))
        optimum = best_weights(scored)
        published = find_weights("hierarchical", scored.evaluate, names, 135, progress=False)
        for search, weights, value in (
            ("exact map", optimum.weights, optimum.value),
            ("hierarchical", published.best, float(published.table["mean"].max())),
        ):
            mean, low, high = interval(test.scores[test.map.locate(np.array(weights))[0]].mean(1))
            about = {"search": search, "adapters": experiment.seed, "clients": n, "promised": value, "regret": optimum.value - value}
            rows.append(about | {"test": mean, "test_low": low, "test_high": high, "map_seconds": elapsed})
    return rows


def costs(
    experiment: Experiment, varied: str, value: float, tokens: int, prompts: int, levels: int, point_seconds: float
) -> list[dict[str, Any]]:
    """One setting: the published search by prefix tree and, if it was decoded point by point, by formula; and the exact map."""
    objectives, clients = experiment.preset.objectives, experiment.dataset.prompts("validation")[:prompts]
    d = len(objectives)
    evaluate = TreeEvaluation(experiment.tree(clients, max_new_tokens=tokens), experiment.rewards.scores)
    config = replace(experiment.preset.search, levels=levels)
    searching, result = timed(lambda: hierarchical_grid_search(evaluate, objectives, config, progress=False, by_direction=True))
    mapping, scored = timed(lambda: experiment.exact_map(clients, max_new_tokens=tokens))
    finding, optimum = timed(lambda: best_weights(scored))
    about = {"varied": varied, "value": value, "d": d, "levels": levels, "tokens": tokens, "prompts": prompts}
    tree = evaluate.tree
    common = {"scored": evaluate.scores.scored, "rows": tree.rows_read, "seconds": searching, "best": float(result.table["mean"].max())}
    counts = {"scored": len({(r.row, r.reply) for r in scored.map.regions}), "rows": scored.map.rows_read, "seconds": mapping + finding}
    full = (2**levels + 1) ** d
    return [
        about | {"search": "hierarchical", "listed": result.listed, "evaluations": result.evaluated, "regions": np.nan} | common,
        about
        | {"search": "exact map", "listed": np.nan, "evaluations": counts["scored"] / prompts, "regions": len(scored.map.regions)}
        | counts
        | {"best": optimum.value, "optimum_found": bool(optimum.value >= optimum.bound - 1e-9)},
        about
        | {
            "search": "formula: hierarchical",
            "listed": levels * 3**d,
            "evaluations": levels * 3**d,
            "seconds": levels * 3**d * point_seconds,
        },
        about | {"search": "formula: full grid", "listed": full, "evaluations": full, "seconds": full * point_seconds},
    ]


def enough(scored: ScoredMap, search: str, seeds: Sequence[int], listed: int) -> float:
    """Evaluations until a search is within 1 % of the optimum, mean over seeds; a run that never is counts as its whole budget."""
    optimum = best_weights(scored).value
    needed = []
    for seed in seeds:
        curve = best_so_far(find_weights(search, scored.evaluate, scored.map.corners, listed, seed, progress=False).table)
        hits = np.flatnonzero(curve >= 0.99 * optimum)
        needed.append(int(hits[0]) + 1 if len(hits) else len(curve))
    return float(np.mean(needed))


def point_cost(experiment: Experiment, prompts: int, tokens: int) -> float:
    """Seconds of one evaluation by the ensemble with its ordinary cache, scoring included."""
    ensemble, clients = experiment.ensemble(), experiment.dataset.prompts("validation")[:prompts]
    rng, times = np.random.default_rng(0), []
    for w in rng.dirichlet(np.ones(len(experiment.preset.objectives)), 4):
        times.append(timed(lambda w=w: experiment.rewards.scores(clients, ensemble.reply(clients, weights=w, max_new_tokens=tokens)))[0])
    return float(np.median(times))


@dataclass(frozen=True)
class Sizes:
    """What is measured: everything, or (`--quick`) a little of each part."""

    quick: bool
    runs: Path | None

    def of(self, few: Any, all_of_it: Any) -> Any:
        """The one or the other."""
        return few if self.quick else all_of_it

    def experiment(self, objectives: Sequence[str] = OBJECTIVES, seed: int = 0) -> Experiment:
        """Adapters of these objectives: the reference's, or the runs' where those are named or there are more objectives."""
        if self.quick:
            return quick_experiment()
        source = "mine" if self.runs or len(objectives) > len(OBJECTIVES) else "reference"
        preset = replace(get_preset("tiny"), objectives=tuple(objectives))
        experiment = Experiment(preset, seed, self.runs, progress=False, source=source)
        experiment.load_adapters()
        return experiment


def clients_part(sizes: Sizes) -> list[dict[str, Any]]:
    """By the number of clients that a search asks, for every seed's adapters."""
    rows = []
    for seed in sizes.of([0], [0, 1, 2]):
        experiment = sizes.experiment(seed=seed)
        test = experiment.dataset.prompts("test")[: sizes.of(8, None)]
        rows += clients(experiment, experiment.exact_map(test), sizes.of([4, 8], [8, 16, 32, 64, 128, 192]))
        print(f"clients: adapters of seed {seed} done", flush=True)
    return rows


def regret_part(sizes: Sizes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(regret by evaluation, what is chosen in the end) of every search, for every seed's adapters."""
    curves: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for seed in sizes.of([0], [0, 1, 2]):
        experiment = sizes.experiment(seed=seed)
        test = experiment.dataset.prompts("test")[: sizes.of(8, None)]
        curve, choice = regret(experiment.exact_map(), experiment.exact_map(test), seed, sizes.of([0], range(5)), sizes.of(30, None))
        curves, choices = curves + curve, choices + choice
        print(f"regret: adapters of seed {seed} done", flush=True)
    return curves, choices


def costs_part(sizes: Sizes) -> list[dict[str, Any]]:
    """By objectives, levels, tokens and prompts."""
    rows = []
    for d in sizes.of([3], [2, 3, 4, 5, 6]):
        experiment = sizes.experiment(ALL[:d])
        _ = experiment.rewards.scores(["x"], ["Warm up."])
        rows += costs(experiment, "objectives d", d, 44, 16, sizes.of(2, 5), point_cost(experiment, 16, 44))
        for search in ("bayesian", "random"):
            scored = experiment.exact_map(experiment.dataset.prompts("validation")[:16])
            evaluations = enough(scored, search, range(sizes.of(1, 3)), sizes.of(20, 80))
            name = f"{search}, to within 1% of the optimum"
            rows.append({"varied": "objectives d", "value": d, "d": d, "search": name, "evaluations": evaluations})
        print(f"costs: d = {d} done", flush=True)
    experiment = sizes.experiment()
    for levels in sizes.of([1, 2], range(1, 8)):
        rows += costs(experiment, "levels (last spacing 2^-level)", levels, 44, 16, levels, point_cost(experiment, 16, 44))
    for tokens in sizes.of([8], [8, 16, 24, 32, 44]):
        rows += costs(experiment, "reply tokens", tokens, tokens, 16, sizes.of(1, 5), point_cost(experiment, 16, tokens))
    for prompts in sizes.of([4], [4, 8, 16, 32]):
        rows += costs(experiment, "prompts", prompts, 44, prompts, sizes.of(1, 5), point_cost(experiment, prompts, 44))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=Path, help="folder of runs to take the adapters from, in the reference's place")
    parser.add_argument("--out", type=Path, help="folder for the tables, with their provenance beside them")
    parser.add_argument("--part", choices=["all", "regret", "clients", "costs"], default="all", help="one of the parts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes, tables = Sizes(args.quick, args.runs), {}
    if args.part in ("all", "clients"):
        tables["search_clients"] = pd.DataFrame(clients_part(sizes))
    if args.part in ("all", "regret"):
        curves, choices = regret_part(sizes)
        tables |= {"search_regret": pd.DataFrame(curves), "search_choice": pd.DataFrame(choices)}
    if args.part in ("all", "costs"):
        tables["search_costs"] = pd.DataFrame(costs_part(sizes))
    if args.out:
        provenance = {"command": "python benchmarks/search_quality.py", "preset": "tiny", "quick": args.quick}
        for name, table in tables.items():
            save_table(table.round(6), args.out / f"{name}.csv", **provenance)
    report(tables, args.quick)


def report(tables: dict[str, pd.DataFrame], quick: bool) -> None:
    """Print what was measured in short; the last line is one JSON object."""
    measured: dict[str, Any] = {"quick": quick}
    if "search_costs" in tables:
        print(tables["search_costs"].to_string(index=False, float_format="%.3f"))
        measured["settings"] = len(tables["search_costs"])
    if "search_clients" in tables:
        means = tables["search_clients"].groupby(["clients", "search"])[["promised", "test", "regret"]].mean()
        print(means.to_string(float_format="%.4f"))
    if "search_choice" in tables:
        means = tables["search_choice"].groupby("search", sort=False)[["promised", "test", "regret"]].mean()
        print(means.to_string(float_format="%.4f"))
        measured |= {f"regret {name}": round(float(row["regret"]), 5) for name, row in means.iterrows()}
    print(json.dumps(measured))


if __name__ == "__main__":
    run_script(main)
