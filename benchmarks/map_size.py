"""What maps of thousands of regions a prompt take: seconds and memory of the map and of the optimum over it, on one CPU thread.

    python benchmarks/map_size.py [--quick] [--out FILE.json]

The random model of `benchmarks/scale.py`, whose words are nearly tied everywhere, with long replies: one prompt of 31 tokens has 2,760
regions, four of 30 have 9,777. Beside them, in the same run, the tree decodes 135 points for the same prompt: what one prefix costs in a
map, over what it costs there, does not depend on the machine. The optimum is that of random scores and of lengths of replies, where many
regions tie. Memory is what the process holds at most, beyond what it held when model and libraries were loaded. `--quick` has replies of
12 tokens. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scale import random_model

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import OBJECTIVES
from emorl_lite.base.provenance import provenance
from emorl_lite.data.small_world import grammar
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import ExactMap, exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.lm.model import LanguageModel

POINTS = 135
"""Of the published search at five levels."""


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def peak() -> int:
    """Most bytes that the process has held so far."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def mapped(lm: LanguageModel, prompts: int, tokens: int) -> tuple[dict[str, Any], ExactMap]:
    """The map of these prompts, and the points of a search by a tree of their own."""
    clients = [client.text for client in grammar().clients(prompts, "train", 0)]
    before = peak()
    tree = PrefixTree(lm, OBJECTIVES, clients, max_new_tokens=tokens)
    map_seconds, found = seconds(lambda: exact_map(tree))
    beyond = peak() - before
    points = PrefixTree(lm, OBJECTIVES, clients, max_new_tokens=tokens)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(OBJECTIVES)), POINTS)
    points_seconds, _ = seconds(lambda: points.leaves(weights))
    return {
        "regions": len(found.regions),
        "map_seconds": map_seconds,
        "map_bytes_beyond": beyond,
        "prefixes": tree.rows_read,
        "points_seconds": points_seconds,
        "points_prefixes": points.rows_read,
        "prefix_of_map_over_points": map_seconds / tree.rows_read / (points_seconds / points.rows_read),
    }, found


def optima(found: ExactMap) -> dict[str, Any]:
    """Branch and bound with scores of two kinds."""
    lengths = np.array([len(region.reply) for region in found.regions])
    kinds = {"random": np.random.default_rng(0).random(len(found.regions)), "lengths": (lengths / lengths.max()).round(1)}
    results: dict[str, Any] = {}
    for name, scores in kinds.items():
        before = peak()
        elapsed, best = seconds(lambda scores=scores: best_weights(ScoredMap(found, ["a"], scores[:, None])))  # type: ignore[misc]
        results |= {f"optimum_{name}_seconds": elapsed, f"optimum_{name}_gap": best.bound - best.value}
        results |= {f"optimum_{name}_branches": best.branches, f"optimum_{name}_bytes_beyond": peak() - before}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="replies of 12 tokens, in less than a minute")
    parser.add_argument("--out", type=Path, help="write the JSON object here, with what made it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lm = random_model()
    exact_map(PrefixTree(lm, OBJECTIVES, ["warm up"], max_new_tokens=2))
    results: dict[str, Any] = {"quick": args.quick, "libraries_bytes": peak()}
    for prompts, tokens in ((1, 12), (4, 12)) if args.quick else ((1, 31), (4, 30)):
        of_map, found = mapped(lm, prompts, tokens)
        results |= {f"{key}_{prompts}": value for key, value in of_map.items()}
    results |= optima(found)
    results["map_and_optimum_seconds_4"] = results["map_seconds_4"] + results["optimum_random_seconds"]
    for key, value in results.items():
        print(f"{key:36} {value:,.6g}")
    if args.out:
        args.out.write_text(json.dumps(provenance(command="python benchmarks/map_size.py", seed=0, **results), indent=1) + "\n", "utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    run_script(main)
