"""What large maps and tables take: regions, bytes and seconds, as estimated before and as they come out, on one CPU thread.

    python benchmarks/scale.py [--quick] [--out FILE.json]

A random model, whose words are nearly tied everywhere, gives hundreds of regions a prompt: 250 prompts make 100,000. Look-ups are compared
with those by blocks of 2,048 weights over all regions at once, as they were, on a map of few prompts, where these fit. Bytes are those of
arrays, counted by tracemalloc, or by the map and its tree themselves. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import OBJECTIVES, DataConfig, get_preset
from emorl_lite.base.provenance import provenance
from emorl_lite.base.sizes import shown_bytes
from emorl_lite.data.datasets import load_dataset
from emorl_lite.data.small_world import grammar
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import ExactMap, exact_map, map_estimate
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.lm.model import LanguageModel


def random_model() -> LanguageModel:
    """Four layers without training, three random adapters, the packaged tokenizer."""
    known = LanguageModel.load(get_preset("tiny").model)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    network = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(known.tokenizer), num_hidden_layers=4, initializer_range=0.2, pad_token_id=0, **shape)
    )
    lm = LanguageModel(network.eval(), known.tokenizer, replace(known.config, path="random-qwen2"))
    for i, name in enumerate(OBJECTIVES):
        lm.add_adapter(name, seed=i)
    for key, parameter in lm.model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.model.eval()
    return lm


def measured(call: Callable[[], Any], count: bool = True) -> tuple[float, int, Any]:
    """(seconds, most bytes of Python's and NumPy's beyond those before, result)."""
    if count:
        tracemalloc.start()
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1] if count else 0
    tracemalloc.stop()
    return seconds, peak, result


def located_at_once(found: ExactMap, w: np.ndarray) -> np.ndarray:
    """Look-up as it was: all regions of all prompts beside each other."""
    facets = [region.piece.facets for region in found.regions]
    stacked, starts = np.concatenate(facets), np.cumsum([0, *map(len, facets)])[:-1]
    located = np.full((len(w), len(found.indices)), -1)
    for start in range(0, len(w), 2048):
        part = slice(start, start + 2048)
        inside = np.minimum.reduceat(w[part] @ stacked.T, starts, axis=1)
        for row, indices in enumerate(found.indices):
            located[part, row] = indices[inside[:, indices].argmax(1)]
    return located


def of_first(found: ExactMap, prompts: int) -> ExactMap:
    """The part of a map that belongs to its first prompts."""
    return ExactMap(found.corners, found.prompts[:prompts], [region for region in found.regions if region.row < prompts])


def large_map(prompts: int, tokens: int) -> tuple[dict[str, Any], ExactMap]:
    """The map of many prompts, with a cap: what is expected after the first ones, and what comes."""
    clients = [client.text for client in grammar().clients(prompts, "train", 0)]
    tree = PrefixTree(random_model(), OBJECTIVES, clients, max_new_tokens=tokens, memory=10**9)
    expected = map_estimate(tree)
    seconds, _, found = measured(lambda: exact_map(tree, progress=True), count=False)
    used = found.nbytes + tree.kept_bytes + tree.row_bytes
    print(f"expected {expected}; came {len(found.regions):,} regions, {shown_bytes(used)}, {seconds:.1f} s")
    return {
        "prompts": prompts,
        "regions": len(found.regions),
        "regions_expected": expected.rows,
        "bytes": used,
        "bytes_expected": expected.bytes,
        "bytes_cap": tree.memory,
        "map_seconds": seconds,
        "map_seconds_expected": expected.seconds,
    }, found


def look_ups(found: ExactMap, prompts: int) -> dict[str, Any]:
    """Look-ups of 2,048 weights: all regions at once against prompt by prompt, and those of the whole map."""
    w, few = np.random.default_rng(0).dirichlet(np.ones(3), 2048), of_first(found, prompts)
    old_seconds, old_bytes, old = measured(lambda: located_at_once(few, w))
    seconds, size, new = measured(lambda: few.locate(w))
    assert np.array_equal(old, new)
    all_seconds, all_size, _ = measured(lambda: found.locate(w))
    return {
        "regions_compared": len(few.regions),
        "look_up_times_faster": old_seconds / seconds,
        "look_up_times_fewer_bytes": old_bytes / size,
        "look_up_seconds": all_seconds,
        "look_up_bytes": all_size,
    }


def optimum(found: ExactMap) -> dict[str, Any]:
    """Branch and bound over the whole map with random scores: the hardest, since no region is much better than another."""
    scored = ScoredMap(found, ["a"], np.random.default_rng(0).random((len(found.regions), 1)))
    seconds, size, best = measured(lambda: best_weights(scored, branches=50))
    return {"optimum_seconds": seconds, "optimum_bytes": size, "optimum_gap": best.bound - best.value}


def table(rows: int) -> dict[str, Any]:
    """A CSV file read, split and kept whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clients.csv"
        lines = (
            f"I am client {i} and cannot sleep since my work takes everything,It sounds as if number {i} is worn out\n" for i in range(rows)
        )
        with open(path, "w", encoding="utf-8") as file:
            file.write("prompt,reply\n")
            file.writelines(lines)
        config = DataConfig(name="table", path=str(path), train_prompts=rows)
        seconds, _, _ = measured(lambda: load_dataset(config), count=False)
        _, size, _ = measured(lambda: load_dataset(config))
        return {"csv_rows": rows, "csv_bytes": path.stat().st_size, "csv_peak_bytes": size, "csv_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 prompts and 5,000 rows, in less than a minute")
    parser.add_argument("--out", type=Path, help="write the JSON object here, with what made it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results, found = large_map(3 if args.quick else 250, 8 if args.quick else 12)
    results |= look_ups(found, 2 if args.quick else 12) | optimum(found) | table(5000 if args.quick else 100_000)
    results |= {"quick": args.quick}
    for key, value in results.items():
        print(f"{key:28} {shown_bytes(value) if 'bytes' in key and 'times' not in key else f'{value:,.6g}'}")
    if args.out:
        record = provenance(command="python benchmarks/scale.py", seed=0, **results)
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    run_script(main)
