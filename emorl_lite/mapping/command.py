"""The command `map`: from two folders and some prompts to tables and a page, with everything that can be wrong told first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.paths import from_here, runs_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.sizes import shown_bytes
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.ensemble.rounding import shown_share
from emorl_lite.exact.exact_map import exact_map, map_estimate
from emorl_lite.exact.optimum import Optimum, best_weights
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.mapping.options import Map, check_options, read_utility
from emorl_lite.mapping.prompts import Prompts, check_fit, find_prompts
from emorl_lite.mapping.results import Results
from emorl_lite.mapping.scorers import FOR_ANY_MODEL, Judges, Wanted, make_rewards, read_rewards
from emorl_lite.mapping.sources import Mixture, find_mixture
from emorl_lite.mapping.tables import compared, front_table, on_new_prompts, optimum_record, regions_table
from emorl_lite.plots.map_page import page_title, save_map_page

WORTH_TELLING = 5.0
"""Seconds of a map that is announced with an estimate."""
PILOT = 10
"""One of so many prompts is mapped for the estimate."""
PAGE_PROMPTS = 200
"""Most prompts whose replies the page holds."""


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
    results = Results(Path(command.out), command.format, command.overwrite)
    asked = _ask(command, results)
    scored = _score(asked, command)
    found = _find(scored, asked, int(command.memory * 10**9))

    def save_page(path: Path) -> None:
        title, marks = page_title(scored.map.domain), found.front[scored.map.domain.columns].to_numpy()
        save_map_page(path, scored, _on_page(scored), found.optimum.weights, title, marks, asked.utility)

    tables = {"regions": regions_table(scored), "front": found.front}
    record = optimum_record(scored, found.optimum, asked.utility) | {"on_new_prompts": found.expected, "front": found.how}
    facts = {"command": " ".join(["python -m emorl_lite", *arguments]), "front": found.how}
    files = results.write(tables, record, save_page, asked.made_of, **facts)
    _tell(scored, asked, found)
    for path in files:
        print(f"{from_here(path)} ({shown_bytes(path.stat().st_size)})")
    return 0


@dataclass(frozen=True)
class _Asked:
    """What a command asks for, checked and loaded."""

    prompts: Prompts
    mixture: Mixture
    wanted: list[Wanted]
    utility: dict[str, float] | None
    length: int
    """Longest reply in tokens."""
    made_of: dict[str, Any]
    """What tells this map from another."""


def _ask(command: Map, results: Results) -> _Asked:
    """Check everything, what needs no model first, and load."""
    check_options(command)
    check_folder(command.runs or runs_root(), "--runs", write=False)
    results.check(read=command.prompts)
    preset = get_preset(command.preset)
    prompts, wanted = find_prompts(command, preset), read_rewards(command.reward_names)
    if wanted:
        read_utility(command.utility, [column.name for column in wanted])
    mixture = find_mixture(command, preset)
    wanted = wanted or read_rewards(preset.objectives if mixture.base is None else FOR_ANY_MODEL)
    utility = read_utility(command.utility, [column.name for column in wanted])
    length = command.max_new_tokens or command.model.max_new_tokens
    check_fit(prompts, mixture.lms, length)
    asked = _Asked(prompts, mixture, wanted, utility, length, _made_of(command, prompts, mixture, wanted, length))
    results.check(asked.made_of)
    return asked


def _score(asked: _Asked, command: Map) -> ScoredMap:
    """The map, every distinct reply scored once."""
    rewards = make_rewards(asked.wanted, Judges(asked.mixture.workspace, asked.mixture.base))
    tree = PrefixTree.of(
        asked.mixture.corners,
        asked.prompts.texts,
        max_new_tokens=asked.length,
        samples=command.samples,
        temperature=command.temperature,
        seed=command.seed,
        memory=int(command.memory * 10**9),
    )
    return scored_map(_map(tree, command), rewards.scores, [column.name for column in asked.wanted])


@dataclass(frozen=True)
class _Found:
    """What a map says."""

    optimum: Optimum
    expected: dict[str, float] | None
    """What to expect of it on new prompts."""
    front: pd.DataFrame
    how: str
    """How the front was found."""


def _find(scored: ScoredMap, asked: _Asked, memory: int) -> _Found:
    front, how = front_table(scored, memory)
    optimum = best_weights(scored, asked.utility, memory=memory)
    worth = asked.utility or dict.fromkeys(scored.names, 1 / len(scored.names))
    there = sum(u * optimum.scores[name] for name, u in worth.items())
    if abs(there - optimum.value) > 1e-6 * max(1.0, abs(there)):
        raise RuntimeError(f"the optimum {optimum.value} is not what its weights score, {there}: a fault of the program")
    return _Found(optimum, on_new_prompts(scored, asked.utility), front, how)


def _tell(scored: ScoredMap, asked: _Asked, found: _Found) -> None:
    """Print what was found."""
    print(scored.map.summary())
    cut = sum(region.piece.measure for region in scored.map.regions if region.reply.endswith(UNFINISHED))
    if cut:
        share = shown_share(cut / len(scored.map.indices))
        scored_as = "the package's rewards are 0 there" if asked.mixture.base is None else "they are scored as far as they go"
        print(f"{share} of the weights' replies are cut at {asked.length} tokens (--max-new-tokens); {scored_as}")
    optimum, expected = found.optimum, found.expected
    what = "the mean score" if asked.utility is None else " + ".join(f"{u:g} {name}" for name, u in asked.utility.items())
    proven = "" if optimum.bound <= optimum.value + 1e-9 else f" (not proven: no weights have more than {optimum.bound:.4f})"
    print(f"\noptimum of {what}: {optimum.value:.4f}{proven}; no reply changes within {optimum.radius:.2g} of it")
    if expected:
        ends = f"95 % interval {expected['low']:.4f} to {expected['high']:.4f}"
        print(f"it was chosen on these {len(asked.prompts.texts)} prompts; on new ones expect {expected['expected']:.4f} ({ends})")
    print(compared(scored, optimum).to_string(index=False, float_format="%.3f"))
    print(f"\nPareto front: {len(found.front)} points, {found.how}")
    if len(scored.map.prompts) > PAGE_PROMPTS:
        print(f"the page holds the replies of the first {PAGE_PROMPTS} prompts, and the mean over all")


def _on_page(scored: ScoredMap) -> range:
    """The prompts whose replies the page holds: its size grows with them."""
    return range(min(PAGE_PROMPTS, len(scored.map.prompts)))


def _map(tree: PrefixTree, command: Map) -> Any:
    """The map, announced if it will take long. Raises UserError in the command's own words."""
    try:
        if len(tree.prompts) > 1:
            estimate = map_estimate(tree, max(1, len(tree.prompts) // PILOT))
            if (estimate.seconds or 0) > WORTH_TELLING:
                print(f"the map of {len(tree.prompts)} prompts: about {estimate}", flush=True)
        found = exact_map(tree, progress=not command.quiet)
    except UserError as error:
        raise UserError(str(error).replace("--search.memory", "--memory")) from error
    found.rows_read = tree.rows_read  # the estimate's prefixes are the map's, too
    return found


def _made_of(command: Map, prompts: Prompts, mixture: Mixture, wanted: Sequence[Wanted], length: int) -> dict[str, Any]:
    """What tells this map from another; its keys are what a message calls them."""
    return {
        "adapters or models": mixture.facts,
        "kind": [command.kind, mixture.corners.names, mixture.corners.domain.piece.vertices.tolist(), command.instruction],
        "prompts": digest("\x1f".join(prompts.texts).encode()),
        "rewards": {column.name: column.facts() for column in wanted},
        "preset": command.preset,
        "samples": [command.samples, command.temperature, command.seed if command.samples else 0],
        "max-new-tokens": length,
        "number type": str(mixture.lms[0].base.dtype).removeprefix("torch."),
        "utility": list(command.utility),
        "format": command.format,
    }
