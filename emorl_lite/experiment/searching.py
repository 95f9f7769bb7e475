"""The search for the weights of an experiment's adapters, by its preset's method, and the files that it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest, file_digest, read_json, read_table, write_json, write_table
from emorl_lite.base.fingerprint import describe
from emorl_lite.base.locks import alone
from emorl_lite.base.presets import OBJECTIVES, Preset
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import exact_search
from emorl_lite.exact.scored_map import scored_map
from emorl_lite.lm.model import LanguageModel
from emorl_lite.rewards.objectives import RewardSet
from emorl_lite.search.evaluation import AverageEvaluation, ReplyScores, Score, TreeEvaluation
from emorl_lite.search.grid import SearchResult, hierarchical_grid_search
from emorl_lite.search.kept_scores import KeptScores
from emorl_lite.search.samplers import find_weights
from emorl_lite.search.score_table import SCORING, SEARCH_ANEW, Evaluate, check_settings, settings_file

RESULTS_VERSION = 1
"""Raise it with a change of code that changes what searches find: results of before are told apart then."""

Tree = Callable[..., PrefixTree]
"""(prompts, mix=..) -> the prefix tree of the adapters over these prompts."""


def search_table_path(preset: Preset, folder: Path) -> Path:
    """Where the points of a search lie, in an experiment's folder; named plainly for the published method and the paper's objectives."""
    suffix = "" if preset.objectives == OBJECTIVES else "-" + "-".join(preset.objectives)
    method, mix = preset.search.method, preset.search.mix
    return folder / f"search{suffix}{'' if method == 'hierarchical' else f'-{method}'}{'' if mix == 'hidden' else f'-{mix}'}.csv"


def is_finished(preset: Preset, folder: Path) -> bool:
    """Whether the preset's search came to its end in an experiment's folder."""
    return _is_finished(search_table_path(preset, folder))


def evaluation(
    preset: Preset, lm: LanguageModel, tree: Tree, prompts: Sequence[str], score: Score | ReplyScores
) -> AverageEvaluation | TreeEvaluation:
    """What a search asks: the mean scores of a weight vector, mixing what `search.mix` says."""
    if preset.search.mix == "parameters":
        return AverageEvaluation(lm, preset.objectives, prompts, score)
    return TreeEvaluation(tree(prompts, mix=preset.search.mix, memory=memory(preset)), score)


def memory(preset: Preset) -> int:
    """Bytes that a tree may take."""
    return int(preset.search.memory * 10**9)


def replies(evaluate: AverageEvaluation | TreeEvaluation, weights: tuple[float, ...]) -> list[str]:
    """What was scored at these weights, a reply a prompt."""
    if isinstance(evaluate, AverageEvaluation):
        return evaluate.replies(weights)
    return [row[0] for row in evaluate.tree.replies(weights)]


def scoring(preset: Preset, lm: LanguageModel, rewards: RewardSet) -> dict[str, Any]:
    """What scores depend on beside adapters, weights and prompts: rewards with their options, how replies are decoded, and the code."""
    facts = {key: fact for name in preset.objectives for key, fact in describe(rewards[name], f"reward.{name}").items()}
    decoding = {f"model.{name}": getattr(lm.config, name) for name in ("template", "max_prompt_tokens", "max_new_tokens")}
    return {**facts, **decoding, "results_version": RESULTS_VERSION}


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
    """Search by the preset's method; a table that is in the folder is resumed, if it is `made_of` the same.

    A finished search is only read, so that it can be had from a folder where nothing can be written. Of two at once, the second waits.
    """
    path = search_table_path(preset, folder)
    with nullcontext() if _is_finished(path) else alone(folder, "searching"):
        if preset.search.method == "exact":
            return _exact(preset, path, tree, prompts, score, made_of, progress)
        return _sampled(preset, path, lm, tree, prompts, score, made_of, seed, progress)


def _exact(
    preset: Preset, path: Path, tree: Tree, prompts: Sequence[str], score: Score, made_of: Mapping[str, Any], progress: bool
) -> SearchResult:
    """The exact optimum: as it is kept, or computed. `progress`: a bar, and how large the map is and what rounding leaves open."""
    settings = {"search": "exact", "objectives": list(preset.objectives), "provenance": dict(made_of)}
    if _is_finished(path):
        check_settings(path, read_json(settings_file(path), "the settings of a search", SEARCH_ANEW), settings)
        record = _record(preset, path)
        if record.get("table", file_digest(path)) == file_digest(path):
            table = read_table(path, "the table of a search", SEARCH_ANEW, ("note", "mean"))
            weights = tuple(record["weights"][name] for name in preset.objectives)
            notes = ["" if isinstance(note, float) else note for note in table["note"]]  # an empty cell is read as NaN
            return SearchResult(table.assign(note=notes), weights, record["scores"], [np.eye(len(weights))])
        raise UserError(f"{path}: changed since the search; {SEARCH_ANEW}")
    found = exact_map(tree(prompts, mix=preset.search.mix, memory=memory(preset)), progress)
    if progress:
        print(f"exact map: {found.summary()}")
    result = exact_search(scored_map(found, score))
    write_json(settings_file(path), settings)
    write_table(path, result.table)
    _keep(preset, path, result, made_of)
    return result


def _sampled(
    preset: Preset,
    path: Path,
    lm: LanguageModel,
    tree: Tree,
    prompts: Sequence[str],
    score: Score,
    made_of: Mapping[str, Any],
    seed: int,
    progress: bool,
) -> SearchResult:
    """A search point by point, which goes on where it was broken off with the scores that it had."""
    config, objectives, finished = preset.search, preset.objectives, _is_finished(path)
    kept_path = path.with_suffix(".replies.csv")
    if not path.exists():
        kept_path.unlink(missing_ok=True)  # of a table that somebody deleted
    elif settings_file(path).exists():  # another search's scores stay as they are, too
        saved = read_json(settings_file(path), "the settings of a search", SEARCH_ANEW)
        check_settings(path, {"provenance": saved.get("provenance")}, {"provenance": dict(made_of)})
    kept = None if finished else KeptScores(kept_path, json.dumps(made_of, sort_keys=True))
    evaluate: Evaluate = evaluation(preset, lm, tree, prompts, ReplyScores(score, kept))
    options: dict[str, Any] = {"table_path": path, "progress": progress, "provenance": made_of}
    if config.method == "hierarchical":
        result = hierarchical_grid_search(evaluate, objectives, config, by_direction=config.mix != "parameters", **options)
    else:
        result = find_weights(config.method, evaluate, objectives, config.evaluations, seed, **options)
    if not finished or _record(preset, path).get("table", file_digest(path)) != file_digest(path):
        _keep(preset, path, result, made_of)
    with suppress(OSError):  # a run that comes read-only is read
        kept_path.unlink(missing_ok=True)
    return result


# -- what was found


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_finished(path: Path) -> bool:
    """Whether a search came to its end: its record is written last."""
    return path.exists() and settings_file(path).exists() and _record_path(path).exists()


def _keep(preset: Preset, path: Path, result: SearchResult, made_of: Mapping[str, Any]) -> None:
    """Write what a search found, what it was made of, and checksums of both its weights and its table."""
    found = {"weights": dict(zip(preset.objectives, result.best, strict=True)), "scores": dict(result.best_scores)}
    write_json(_record_path(path), {**found, "made_of": dict(made_of), "table": file_digest(path), "check": _check(found)})


def _record(preset: Preset, path: Path) -> dict[str, Any]:
    """What a search found. Raises UserError for a record that is damaged or was edited."""
    file, advice = _record_path(path), "delete it and search again, or give the weights with --weights"
    record = read_json(file, "the weights that a search found", advice, ("weights", "scores"))
    for part in ("weights", "scores"):
        numbers = record[part] if isinstance(record[part], dict) else {}
        for name in preset.objectives:
            value = numbers.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"{file}: cannot be read as the weights that a search found: {part} of {name} is {value!r}; {advice}")
    if record.get("check", _check(record)) != _check(record):
        raise UserError(f"{file}: changed since the search; {advice}")
    return record


def _check(record: Mapping[str, Any]) -> str:
    return digest(json.dumps([record["weights"], record["scores"]], sort_keys=True).encode())


def found_weights(preset: Preset, folder: Path, made_of: Callable[[], Mapping[str, Any]] | None = None) -> tuple[float, ...] | None:
    """The weights that the search found, if it was run. Raises UserError if it was run on other adapters or rewards than `made_of`."""
    path = search_table_path(preset, folder)
    if not _record_path(path).is_file():
        return None
    record = _record(preset, path)
    if made_of is not None and isinstance(record.get("made_of"), dict):
        advice = "search again (delete the table first), or give weights with --weights"
        theirs, ours = ({key: facts[key] for key in ("adapters", SCORING) if key in facts} for facts in (record["made_of"], made_of()))
        check_settings(_record_path(path), {"provenance": theirs}, {"provenance": ours}, advice)
    return tuple(record["weights"][name] for name in preset.objectives)
