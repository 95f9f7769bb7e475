"""The search for the weights of an experiment's adapters, by its preset's method, and the files that it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OBJECTIVES, Preset
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import exact_search
from emorl_lite.exact.scored_map import scored_map
from emorl_lite.lm.model import LanguageModel
from emorl_lite.search.evaluation import AverageEvaluation, Score, TreeEvaluation
from emorl_lite.search.grid import SearchResult, hierarchical_grid_search
from emorl_lite.search.samplers import find_weights
from emorl_lite.search.score_table import Evaluate

Tree = Callable[..., PrefixTree]
"""(prompts, mix=..) -> the prefix tree of the adapters over these prompts."""


def check_search(preset: Preset) -> None:
    """Raise UserError for options that do not go together."""
    if preset.search.method == "exact" and preset.search.mix != "hidden":
        raise UserError(f"--search.mix {preset.search.mix}: the exact search mixes hidden states")


def search_table_path(preset: Preset, folder: Path) -> Path:
    """Where the points of a search lie, in an experiment's folder; named plainly for the published method and the paper's objectives."""
    suffix = "" if preset.objectives == OBJECTIVES else "-" + "-".join(preset.objectives)
    method, mix = preset.search.method, preset.search.mix
    return folder / f"search{suffix}{'' if method == 'hierarchical' else f'-{method}'}{'' if mix == 'hidden' else f'-{mix}'}.csv"


def evaluation(preset: Preset, lm: LanguageModel, tree: Tree, prompts: Sequence[str], score: Score) -> AverageEvaluation | TreeEvaluation:
    """What a search asks: the mean scores of a weight vector, mixing what `search.mix` says."""
    if preset.search.mix == "parameters":
        return AverageEvaluation(lm, preset.objectives, prompts, score)
    return TreeEvaluation(tree(prompts, mix=preset.search.mix), score)


def replies(evaluate: AverageEvaluation | TreeEvaluation, weights: tuple[float, ...]) -> list[str]:
    """What was scored at these weights, a reply a prompt."""
    if isinstance(evaluate, AverageEvaluation):
        return evaluate.replies(weights)
    return [row[0] for row in evaluate.tree.replies(weights)]


def search(
    preset: Preset,
    folder: Path,
    lm: LanguageModel,
    tree: Tree,
    prompts: Sequence[str],
    score: Score,
    made_of: Mapping[str, Any],
    seed: int,
    progress: bool,
) -> SearchResult:
    """Search by the preset's method; a table that is in the folder is resumed, if it is `made_of` the same."""
    config, objectives, path = preset.search, preset.objectives, search_table_path(preset, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if config.method == "exact":
        result = exact_search(scored_map(exact_map(tree(prompts)), score))
        result.table.to_csv(path, index=False)
        made_by = json.dumps({"search": "exact", "objectives": list(objectives), "provenance": made_of}, indent=1)
        path.with_suffix(".search.json").write_text(made_by + "\n", encoding="utf-8")
    else:
        evaluate: Evaluate = evaluation(preset, lm, tree, prompts, score)
        search_options: dict[str, Any] = {"table_path": path, "progress": progress, "provenance": made_of}
        if config.method == "hierarchical":
            result = hierarchical_grid_search(evaluate, objectives, config, by_direction=config.mix != "parameters", **search_options)
        else:
            result = find_weights(config.method, evaluate, objectives, config.evaluations, seed, **search_options)
    record = {"weights": dict(zip(objectives, result.best, strict=True)), "scores": result.best_scores}
    path.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
    return result


def found_weights(preset: Preset, folder: Path) -> tuple[float, ...] | None:
    """The weights that the search found, if it was run."""
    file = search_table_path(preset, folder).with_suffix(".json")
    if not file.is_file():
        return None
    weights = json.loads(file.read_text(encoding="utf-8"))["weights"]
    return tuple(weights[name] for name in preset.objectives)
