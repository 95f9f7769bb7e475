"""What the search for the weights costs: the published algorithm, a plain cached ensemble, the prefix tree and the exact map, in one run.

    python benchmarks/search.py [--quick] [--runs FOLDER] [--out TABLE.csv]

All sides decode greedily with the same model, adapters, prompts and token limit on one CPU thread. The reference is the published
search: K merged copies of the model, no cache, whole texts read again for every token, one weight vector after another. (It is given two
things that the published code lacks: prompts in one batch, and the head on the last position only.) Times are medians; sides take turns.
`--quick` uses random adapters, few points and prompts, and ends within a minute; its figures say little. Without `--quick` the
adapters are the reference run's, or those under `--runs`. A readable table comes first; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from emorl_lite.base.entry import run_script
from emorl_lite.base.presets import MORE_OBJECTIVES, OBJECTIVES, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import ExactMap, exact_map
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.model import LanguageModel
from emorl_lite.plots.map_explorer import explore, map_svg
from emorl_lite.search.evaluation import TreeEvaluation
from emorl_lite.search.grid import hierarchical_grid_search

PROMPTS, TOKENS = 16, 32
BORDER = 1e-5
"""Weights closer than this to a border are not asked to agree: the models compute in single precision."""


class Reference:
    """The published algorithm."""

    def __init__(self, lm: LanguageModel, adapters: list[str]):
        self.lm, self.models = lm, []
        for name in adapters:  # K full models, each with one adapter merged into it
            copy = LanguageModel.load(lm.config)
            copy.add_adapter(name)
            source = dict(lm.model.named_parameters())
            with torch.no_grad():
                for key, parameter in copy.model.named_parameters():
                    if f".{name}." in key:
                        parameter.copy_(source[key])
            self.models.append(copy.model.merge_and_unload().eval())

    @torch.no_grad()
    def replies(self, prompts: list[str], weights: tuple[float, ...], tokens: int) -> list[str]:
        batch = self.lm.encode(prompts)
        ids, mask, eos = batch.ids, batch.mask, self.lm.tokenizer.eos_token_id
        ended = torch.zeros(len(ids), dtype=torch.bool)
        for _ in range(tokens):
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            states = [model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False) for model in self.models]
            mixed = sum(w * state.last_hidden_state[:, -1] for w, state in zip(weights, states, strict=True))
            token = self.models[0].lm_head(mixed).argmax(-1).masked_fill(ended, self.lm.tokenizer.pad_token_id)
            ended |= token == eos
            ids, mask = torch.cat([ids, token[:, None]], 1), torch.cat([mask, torch.ones_like(token)[:, None]], 1)
            if ended.all():
                break
        return self.lm.decode(ids[:, batch.ids.shape[1] :])


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes of tensors alive at a time, beyond those alive before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    current = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        current += event.nbytes()
        highest = max(highest, current)
    return highest


def points_of_search(experiment: Experiment, prompts: list[str], levels: int) -> list[list[tuple[float, ...]]]:
    """The weights that the published search asks for, level by level (the zero vector, which has no text, left out)."""
    config = replace(experiment.preset.search, levels=levels)
    evaluate = TreeEvaluation(experiment.tree(prompts), experiment.rewards.scores)
    table = hierarchical_grid_search(evaluate, experiment.preset.objectives, config, progress=False).table
    columns = [f"w_{name}" for name in experiment.preset.objectives]
    listed = [[tuple(w) for w in part[columns].to_numpy().tolist() if any(w)] for _, part in table.groupby("level")]
    return listed


def by_tree(
    experiment: Experiment, prompts: list[str], levels: list[list[tuple[float, ...]]], tokens: int
) -> tuple[PrefixTree, list[np.ndarray]]:
    """A search's decoding: the levels one after the other, as it comes to know them."""
    tree = experiment.tree(prompts, max_new_tokens=tokens)
    return tree, [tree.leaves(points) for points in levels]


def speed(
    experiment: Experiment, prompts: list[str], levels: list[list[tuple[float, ...]]], tokens: int, every: int, rounds: int
) -> dict[str, Any]:
    """Seconds of the whole search by each side (the slow ones on every n-th point, scaled), and whether replies are the same."""
    reference, ensemble = Reference(experiment.lm, list(experiment.preset.objectives)), experiment.ensemble()
    points = [point for level in levels for point in level]
    sample = points[::every]

    def cached(weights: list[tuple[float, ...]]) -> list[list[str]]:
        return [ensemble.reply(prompts, weights=w, max_new_tokens=tokens) for w in weights]

    def one_by_one(weights: list[tuple[float, ...]]) -> dict[tuple[float, ...], list[str]]:
        return {w: reference.replies(prompts, w, tokens) for w in weights}

    by_tree(experiment, prompts, levels, tokens)  # warm
    times: dict[str, list[float]] = {"tree": [], "map": [], "cached": [], "reference": []}
    slow: dict[tuple[float, ...], list[str]] = {}
    for turn in range(rounds):  # in turns, so that a busy machine slows all sides alike
        elapsed, (tree, leaves) = seconds(lambda: by_tree(experiment, prompts, levels, tokens))
        times["tree"].append(elapsed)
        elapsed, exact = seconds(lambda: exact_map(experiment.tree(prompts, max_new_tokens=tokens)))
        times["map"].append(elapsed)
        subset = sample[turn::rounds]
        elapsed, _ = seconds(partial(cached, subset[:4]))
        times["cached"].append(elapsed / len(subset[:4]) * len(points))
        elapsed, texts = seconds(partial(one_by_one, subset))
        times["reference"].append(elapsed / len(subset) * len(points))
        slow |= texts
    all_leaves = np.concatenate(leaves, 1)
    texts = dict(zip(np.unique(all_leaves).tolist(), tree.texts(np.unique(all_leaves)), strict=True))
    identical = np.mean(
        [texts[leaf] == reply for w in sample for leaf, reply in zip(all_leaves[:, points.index(w)].tolist(), slow[w], strict=True)]
    )
    return {side: statistics.median(own) for side, own in times.items()} | {
        "identical": float(identical),
        "compared": len(sample) * len(prompts),
        "rows": tree.rows_read,
        "found": exact,
    }


def agreement(experiment: Experiment, found: ExactMap, prompts: list[str], tokens: int, n: int) -> dict[str, Any]:
    """Look-ups against decoding by transformers' generate(), on n random weights with a random prompt each."""
    rng = np.random.default_rng(0)
    weights, rows = rng.dirichlet(np.ones(len(found.corners)), n), rng.integers(0, len(prompts), n)
    regions = found.locate(weights)[np.arange(n), rows]
    margins = np.array([found.regions[i].piece.margin(w) if i >= 0 else 0.0 for i, w in zip(regions, weights, strict=True)])
    ensemble = EnsembleLM(experiment.lm, list(experiment.preset.objectives))
    decoded = ensemble.reply([prompts[i] for i in rows], weights=torch.from_numpy(weights), batch_size=256, max_new_tokens=tokens)
    agrees = np.array([found.regions[i].reply == text if i >= 0 else False for i, text in zip(regions, decoded, strict=True)])
    clear = margins > BORDER
    return {
        "agree": float(agrees[clear].mean()),
        "weights": n,
        "near_border": int((~clear).sum()),
        "near_border_agree": int(agrees[~clear].sum()),
    }


def ensemble_cost(experiment: Experiment, prompts: list[str], rounds: int) -> dict[str, float]:
    """Seconds of the ensemble over those of one adapter, for one prompt and for a batch, all replies 32 tokens long."""
    ensemble, name = experiment.ensemble(), experiment.preset.objectives[1]
    same_length: dict[str, Any] = {"max_new_tokens": 32, "min_new_tokens": 32}
    ratios = {}
    for size in (1, PROMPTS):
        times: dict[str, list[float]] = {"one": [], "all": []}
        for _ in range(rounds):
            experiment.lm.use(name)
            times["one"].append(seconds(partial(experiment.lm.reply, prompts[:size], **same_length))[0])
            times["all"].append(seconds(partial(ensemble.reply, prompts[:size], **same_length))[0])
        ratios[f"batch_{size}"] = statistics.median(times["all"]) / statistics.median(times["one"])
    return ratios


def memory(experiment: Experiment, prompts: list[str], levels: list[list[tuple[float, ...]]], tokens: int) -> dict[str, float]:
    """Peak bytes of tensors: the tree's search against base, adapters and its cache rows; and the reference's."""
    lm = experiment.lm
    weights = sum(p.numel() * p.element_size() for p in lm.model.parameters())
    trees: list[PrefixTree] = []
    tree_bytes = peak_bytes(lambda: trees.append(by_tree(experiment, prompts, levels, tokens)[0]))
    cache = trees[0].readers.all[0].model.cache
    rows = cache.capacity * trees[0].readers.row_bytes
    reference = Reference(lm, list(experiment.preset.objectives))
    reference_bytes = peak_bytes(lambda: reference.replies(prompts, (0.5, 0.5, 0.5), tokens))
    copies = sum(p.numel() * p.element_size() for model in reference.models for p in model.parameters())
    return {
        "peak": (weights + tree_bytes) / 1e6,
        "base_and_rows": (weights + rows) / 1e6,
        "rows_used": (cache.used - 1) * trees[0].readers.row_bytes / 1e6,
        "reference_peak": (copies + reference_bytes) / 1e6,
    }


def six_objectives(root: Path | None) -> dict[str, Any]:
    """The published search at d = 6, last spacing 1/32, on the preset's validation prompts, rewards and token limit: seconds, all in."""
    experiment = Experiment(replace(get_preset("tiny"), objectives=OBJECTIVES + MORE_OBJECTIVES), root=root, progress=False)
    experiment.load_adapters()
    _ = experiment.rewards, experiment.rewards.scores([experiment.validation()[0]], ["Warm up."])
    evaluate = TreeEvaluation(experiment.tree(experiment.validation()), experiment.rewards.scores)
    objectives, config = experiment.preset.objectives, experiment.preset.search
    elapsed, result = seconds(lambda: hierarchical_grid_search(evaluate, objectives, config, progress=False, by_direction=True))
    return {
        "seconds": elapsed,
        "listed": result.listed,
        "evaluated": result.evaluated,
        "rows": evaluate.tree.rows_read,
        "best": result.best,
    }


def explorer(experiment: Experiment, prompts: list[str]) -> float:
    """Seconds of one answer of the map explorer, picture included."""
    scored, rng = experiment.exact_map(prompts), np.random.default_rng(0)
    times = []
    for w in rng.dirichlet(np.ones(3), 30).tolist():
        times.append(seconds(partial(explore, scored, 0, w))[0] + seconds(partial(map_svg, scored, 0, w))[0])
    return statistics.median(times)


def quick_experiment() -> Experiment:
    """Random adapters and rewards that need no classifier, on the tiny model."""
    preset = replace(get_preset("tiny"), objectives=("fluency", "brevity", "diversity"))
    experiment = Experiment(preset, progress=False)
    for i, name in enumerate(preset.objectives):
        experiment.lm.add_adapter(name, seed=i)
        torch.manual_seed(i)
        for key, parameter in experiment.lm.model.named_parameters():
            if f"lora_B.{name}." in key:
                torch.nn.init.normal_(parameter, std=0.06)
    experiment.load_adapters = lambda: None  # type: ignore[method-assign]
    return experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=Path, help="folder of the runs, if not the usual one")
    parser.add_argument("--out", type=Path, help="write the table, with its provenance beside it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        experiment = quick_experiment()
        prompts, levels_of_search, settings, weights = experiment.dataset.prompts("validation")[:6], 2, [(16, 6)], 300
    else:
        experiment = Experiment(get_preset("tiny"), root=args.runs, progress=False, source="mine" if args.runs else "reference")
        experiment.load_adapters()
        prompts, levels_of_search, settings, weights = experiment.dataset.prompts("validation")[:PROMPTS], 5, [(TOKENS, 1), (64, 8)], 10_000
    levels = points_of_search(experiment, prompts, levels_of_search)
    results: dict[str, Any] = {"quick": args.quick, "points": sum(map(len, levels)), "prompts": len(prompts)}
    rows = []
    for tokens, every in settings:
        timings = speed(experiment, prompts, levels, tokens, every, rounds=3 if args.quick else 5)
        suffix = "" if tokens == settings[0][0] else f"_{tokens}"
        results[f"speedup_over_reference{suffix}"] = timings["reference"] / timings["tree"]
        results[f"speedup_over_cached{suffix}"] = timings["cached"] / timings["tree"]
        results[f"identical_replies{suffix}"] = timings["identical"]
        results[f"exact_map_over_tree{suffix}"] = timings["map"] / timings["tree"]
        for side in ("reference", "cached", "tree", "map"):
            rows.append({"what": f"{side}, {results['points']} points, {len(prompts)} prompts", "tokens": tokens, "seconds": timings[side]})
        regions: ExactMap = timings["found"]
        results[f"exact_map_measure{suffix}"] = max(abs(regions.measure(row) - 1) for row in range(len(prompts)))
        results[f"regions{suffix}"], results[f"map_rows{suffix}"], results[f"tree_rows{suffix}"] = (
            len(regions.regions),
            regions.rows_read,
            timings["rows"],
        )
        if not suffix:
            checked = agreement(experiment, regions, prompts, tokens, weights)
            results |= {"exact_map_agreement": checked.pop("agree")} | {f"agreement_{key}": value for key, value in checked.items()}
    cost = ensemble_cost(experiment, experiment.dataset.prompts("validation")[:PROMPTS], rounds=3 if args.quick else 9)
    results["ensemble_over_K_singles_batch_16"] = cost["batch_16"] / len(experiment.preset.objectives)
    results["ensemble_over_single_batch_1"] = cost["batch_1"]
    sizes = memory(experiment, prompts, levels, settings[0][0])
    results["memory_over_base_and_rows"] = sizes["peak"] / sizes["base_and_rows"]
    results |= {f"megabytes_{key}": value for key, value in sizes.items()}
    results["explorer_milliseconds"] = 1000 * explorer(experiment, prompts)
    if not args.quick:
        six = six_objectives(args.runs)
        results |= {"d6_seconds": six["seconds"], "d6_listed": six["listed"], "d6_evaluated": six["evaluated"], "d6_rows": six["rows"]}
        rows.append({"what": f"search at d = 6, {six['listed']} points listed, scoring included", "tokens": 44, "seconds": six["seconds"]})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.2f"))
    if args.out:
        save_table(table, args.out, command="python benchmarks/search.py", preset=experiment.preset.name, seed=0, **results)
    print(json.dumps({key: round(value, 10) if isinstance(value, float) else value for key, value in results.items()}))


if __name__ == "__main__":
    run_script(main)
