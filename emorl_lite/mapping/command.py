"""The command `map`: from two folders and some prompts to tables and a page, with everything that can be wrong told first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.paths import runs_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.sizes import shown_bytes
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.ensemble.rounding import shown_share
from emorl_lite.exact.exact_map import exact_map, map_estimate
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.mapping.options import Map, check_options, read_utility
from emorl_lite.mapping.prompts import Prompts, check_fit, find_prompts
from emorl_lite.mapping.results import Results
from emorl_lite.mapping.scorers import FOR_ANY_MODEL, Judges, Wanted, make_rewards, read_rewards
from emorl_lite.mapping.sources import Mixture, find_mixture
from emorl_lite.mapping.tables import check_scores, compared, front_table, optimum_record, regions_table
from emorl_lite.plots.map_page import save_map_page

WORTH_TELLING = 5.0
"""Seconds of a map that is announced with an estimate."""
PILOT = 10
"""One of so many prompts is mapped for the estimate."""


def run_map(command: Map, arguments: Sequence[str] = ()) -> int:
    """Make the map, write it, and print what was found. `arguments`: as typed, for the provenance. Returns the exit status.

    Raises UserError, in one line that names the option, file, row or function, for whatever is wrong with what was given; then nothing is
    written. So it is after Ctrl-C.
    """
    try:
        return _run(command, arguments)
    except KeyboardInterrupt as stop:
        raise type(stop)(f"stopped: what is in {command.out} is whole, or as it was") from None


def _run(command: Map, arguments: Sequence[str]) -> int:
    check_options(command)
    check_folder(command.runs or runs_root(), "--runs", write=False)
    results = Results(Path(command.out), command.format, command.overwrite)
    results.check()
    preset = get_preset(command.preset)
    prompts, wanted = find_prompts(command, preset), read_rewards(command.reward_names)
    if wanted:
        read_utility(command.utility, [column.name for column in wanted])
    mixture = find_mixture(command, preset)
    wanted = wanted or read_rewards(preset.objectives if mixture.base is None else FOR_ANY_MODEL)
    utility = read_utility(command.utility, [column.name for column in wanted])
    length = command.max_new_tokens or command.model.max_new_tokens
    check_fit(prompts, mixture.lms, length)
    made_of = _made_of(command, prompts, mixture, wanted, length)
    results.check(made_of)
    judges = Judges(mixture.workspace, mixture.base)
    rewards = make_rewards(wanted, judges)
    memory = int(command.memory * 10**9)
    tree = PrefixTree.of(mixture.corners, prompts.texts, length, command.samples, command.temperature, command.seed, memory=memory)
    scored = scored_map(_map(tree, command), rewards.scores, [column.name for column in wanted])
    check_scores(scored)
    optimum = best_weights(scored, utility, memory=memory)
    front, how = front_table(scored, memory)
    tables = {"regions": regions_table(scored), "front": front}
    record = optimum_record(scored, optimum, utility) | {"front": how}
    title = f"Every weight of {', '.join(mixture.corners.names)}"

    def save_page(path: Path) -> None:
        marks = front[scored.map.domain.columns].to_numpy()
        save_map_page(path, scored, best=optimum.weights, title=title, front=marks, utility=utility)

    facts = {"command": " ".join(["python -m emorl_lite", *arguments]), "front": how}
    files = results.write(tables, record, save_page, made_of, **facts)
    print(scored.map.summary())
    _tell_unfinished(scored, length)
    proven = "" if optimum.bound <= optimum.value + 1e-9 else f" (not proven: no weights have more than {optimum.bound:.4f})"
    print(f"\noptimum of {_shown(utility)}: {optimum.value:.4f}{proven}; no reply changes within {optimum.radius:.2g} of it")
    print(compared(scored, optimum).to_string(index=False, float_format="%.3f"))
    print(f"\nPareto front: {len(front)} points, {how}")
    for path in files:
        print(f"{os.path.relpath(path)} ({shown_bytes(path.stat().st_size)})")
    return 0


def _map(tree: PrefixTree, command: Map) -> Any:
    """The map, announced if it will take long. Raises UserError in the command's own words."""
    try:
        if len(tree.prompts) > 1:
            estimate = map_estimate(tree, max(1, len(tree.prompts) // PILOT))
            if (estimate.seconds or 0) > WORTH_TELLING:
                print(f"the map of {len(tree.prompts)} prompts: about {estimate}", flush=True)
        return exact_map(tree, progress=not command.quiet)
    except UserError as error:
        raise UserError(str(error).replace("--search.memory", "--memory")) from error


def _made_of(command: Map, prompts: Prompts, mixture: Mixture, wanted: Sequence[Wanted], length: int) -> dict[str, Any]:
    """What tells this map from another; its keys are what a message calls them."""
    return {
        "adapters or models": mixture.facts,
        "kind": [command.kind, str(mixture.corners.domain), command.instruction],
        "prompts": digest("\x1f".join(prompts.texts).encode()),
        "rewards": {column.name: column.facts() for column in wanted},
        "preset": command.preset,
        "samples": [command.samples, command.temperature, command.seed if command.samples else 0],
        "max-new-tokens": length,
        "number type": str(mixture.lms[0].base.dtype).removeprefix("torch."),
        "utility": list(command.utility),
        "format": command.format,
    }


def _tell_unfinished(scored: ScoredMap, length: int) -> None:
    """Say how many of the weights' replies did not come to their end, if any."""
    cut = sum(region.piece.measure for region in scored.map.regions if region.reply.endswith(UNFINISHED))
    if cut:
        share = shown_share(cut / len(scored.map.indices))
        print(f"{share} of the weights' replies are cut at {length} tokens (--max-new-tokens); the package's rewards are 0 there")


def _shown(utility: dict[str, float] | None) -> str:
    return "the mean score" if utility is None else " + ".join(f"{u:g} {name}" for name, u in utility.items())
