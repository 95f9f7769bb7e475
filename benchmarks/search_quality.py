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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from search import quick_experiment

from emorl_lite.base.presets import MORE_OBJECTIVES, OBJECTIVES, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.datasets import load_dataset
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.search.evaluation import TreeEvaluation, interval
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.search.samplers import SEARCHES, best_so_far, find_weights

ALL = OBJECTIVES + MORE_OBJECTIVES
LISTED = {"bayesian": 60, "ucb": 60}
"""Points of the searches that take seconds to choose one; the others get the published 135."""


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def regret(validation: ScoredMap, test: ScoredMap, adapters: int, seeds: Sequence[int], listed: int | None) -> tuple[list[Any], list[Any]]:
    """Rows of search_regret and search_choice for one set of adapters."""
    names, optimum = validation.map.objectives, best_weights(validation)
    curves, choices = [], []

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
    more = load_dataset(replace(experiment.preset.data, validation_prompts=max(sizes))).prompts("validation")
    rows = []
    for n in sizes:
        took, scored = timed(partial(experiment.exact_map, more[:n]))
        optimum = best_weights(scored)
        published = find_weights("hierarchical", scored.evaluate, names, 135, progress=False)
        for search, weights, value in (
            ("exact map", optimum.weights, optimum.value),
            ("hierarchical", published.best, float(published.table["mean"].max())),
        ):
            mean, low, high = interval(test.scores[test.map.locate(np.array(weights))[0]].mean(1))
            about = {"search": search, "adapters": experiment.seed, "clients": n, "promised": value, "regret": optimum.value - value}
            rows.append(about | {"test": mean, "test_low": low, "test_high": high, "map_seconds": took})
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
    found = {"scored": len({(r.row, r.reply) for r in scored.map.regions}), "rows": scored.map.rows_read, "seconds": mapping + finding}
    full = (2**levels + 1) ** d
    return [
        about | {"search": "hierarchical", "listed": result.listed, "evaluations": result.evaluated, "regions": np.nan} | common,
        about
        | {"search": "exact map", "listed": np.nan, "evaluations": found["scored"] / prompts, "regions": len(scored.map.regions)}
        | found
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
        curve = best_so_far(find_weights(search, scored.evaluate, scored.map.objectives, listed, seed, progress=False).table)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=Path, help="folder of runs to take the adapters from, in the reference's place")
    parser.add_argument("--out", type=Path, help="folder for the three tables, with their provenance beside them")
    parser.add_argument("--part", choices=["all", "regret", "clients", "costs"], default="all", help="one of the parts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = get_preset("tiny")
    curves: list[Any] = []
    choices: list[Any] = []
    rows: list[Any] = []
    seen: list[Any] = []

    def experiment(objectives: Sequence[str], seed: int = 0) -> Experiment:
        if args.quick:
            return quick_experiment()
        source = "mine" if args.runs or len(objectives) > len(OBJECTIVES) else "reference"
        made = Experiment(replace(preset, objectives=tuple(objectives)), seed, args.runs, progress=False, source=source)
        made.load_adapters()
        return made

    if args.part in ("all", "clients"):
        for adapters in [0] if args.quick else [0, 1, 2]:
            one = experiment(OBJECTIVES, adapters)
            held_out = one.dataset.prompts("test")[: 8 if args.quick else None]
            seen += clients(one, one.exact_map(held_out), [4, 8] if args.quick else [8, 16, 32, 64, 128, 192])
            print(f"clients: adapters of seed {adapters} done", flush=True)
    if args.part in ("all", "regret"):
        for adapters in [0] if args.quick else [0, 1, 2]:
            one = experiment(OBJECTIVES, adapters)
            test = one.dataset.prompts("test")[:8] if args.quick else one.dataset.prompts("test")
            more = regret(one.exact_map(), one.exact_map(test), adapters, [0] if args.quick else range(5), 30 if args.quick else None)
            curves, choices = curves + more[0], choices + more[1]
            print(f"regret: adapters of seed {adapters} done", flush=True)
    if args.part in ("all", "costs"):
        sizes = [3] if args.quick else [2, 3, 4, 5, 6]
        for d in sizes:
            one = experiment(ALL[:d])
            _ = one.rewards.scores(["x"], ["Warm up."])
            rows += costs(one, "objectives d", d, 44, 16, 2 if args.quick else 5, point_cost(one, 16, 44))
            for search in ("bayesian", "random"):
                needed = enough(
                    one.exact_map(one.dataset.prompts("validation")[:16]), search, range(1 if args.quick else 3), 20 if args.quick else 80
                )
                rows.append(
                    {
                        "varied": "objectives d",
                        "value": d,
                        "d": d,
                        "search": f"{search}, to within 1% of the optimum",
                        "evaluations": needed,
                    }
                )
            print(f"costs: d = {d} done", flush=True)
        one = experiment(OBJECTIVES)
        for levels in [1, 2] if args.quick else [1, 2, 3, 4, 5, 6, 7]:
            rows += costs(one, "levels (last spacing 2^-level)", levels, 44, 16, levels, point_cost(one, 16, 44))
        for tokens in [8] if args.quick else [8, 16, 24, 32, 44]:
            rows += costs(one, "reply tokens", tokens, tokens, 16, 5 if not args.quick else 1, point_cost(one, 16, tokens))
        for prompts in [4] if args.quick else [4, 8, 16, 32]:
            rows += costs(one, "prompts", prompts, 44, prompts, 5 if not args.quick else 1, point_cost(one, prompts, 44))
    tables = {"search_regret": pd.DataFrame(curves), "search_choice": pd.DataFrame(choices), "search_costs": pd.DataFrame(rows)}
    tables["search_clients"] = pd.DataFrame(seen)
    for name, table in tables.items():
        if args.out and len(table):
            save_table(
                table.round(6), args.out / f"{name}.csv", command="python benchmarks/search_quality.py", preset="tiny", quick=args.quick
            )
    facts: dict[str, Any] = {"quick": args.quick}
    if rows:
        print(tables["search_costs"].to_string(index=False, float_format="%.3f"))
        facts |= {"settings": len(rows)}
    if seen:
        summary = tables["search_clients"].groupby(["clients", "search"])[["promised", "test", "regret"]].mean()
        print(summary.to_string(float_format="%.4f"))
    if choices:
        summary = tables["search_choice"].groupby("search", sort=False)[["promised", "test", "regret"]].mean()
        print(summary.to_string(float_format="%.4f"))
        facts |= {f"regret {name}": round(float(row["regret"]), 5) for name, row in summary.iterrows()}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
