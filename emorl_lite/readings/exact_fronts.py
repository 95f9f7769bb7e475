"""What notebooks 06 and 07 say of all settings beside a few, in sentences that are right whichever way the numbers come out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from emorl_lite.base.wording import counted, judged, listing, number, signed, told
from emorl_lite.exact.overlay import overlay
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.study.comparison import over

SAME = 5e-4
"""Mean scores that differ by less look the same."""


def ways_reading(scored: Mapping[str, ScoredMap], asked: np.ndarray) -> str:
    """What a grid of weights [n, d] misses of each way to mix the same adapters, on these clients. `scored`: a map a way."""
    parts = []
    for name, found in scored.items():
        cells = overlay(found)
        few, best = float(found.means(asked).mean(1).max()), float(cells.scores.mean(1).max())
        missed = f"{number(best - few, 3)} more than" if best - few >= SAME else "no more than"
        parts.append(
            f"*{name}*: {counted(len(found.map.regions), 'region')}, {counted(len(cells.achievable), 'mean score vector')}, the best mean "
            f"{number(best, 3)}, {missed} the best of the grid"
        )
    clients = counted(len(next(iter(scored.values())).map.prompts), "client")
    return f"All weights on {clients}, beside a grid of {counted(len(asked), 'weight vector')}. {'; '.join(parts)}."


def line_reading(on_validation: ScoredMap, on_test: ScoredMap, settings: list[float], best: float) -> str:
    """One knob's whole line: its size, the best of a few settings and of all, both chosen on validation clients and judged on test ones."""
    grid = np.array(settings)[:, None]
    promised = on_validation.means(grid).mean(1)
    coarse = float(settings[int(promised.argmax())])
    both = np.array([[coarse], [best]])
    test, validation = on_test.means(both).mean(1), on_validation.means(both).mean(1)
    knob, domain = on_test.map.domain.knobs[0], on_test.map.domain
    cells = overlay(on_test)
    unlike = test[1] - test[0]
    outcome = "the same" if abs(unlike) < SAME else f"{signed(float(unlike), 3)} there"
    regions, steps = counted(len(on_test.map.regions), "region"), counted(len(cells.scores), "step")
    return (
        f"On {counted(len(on_test.map.prompts), 'test client')} the whole line, {domain}, has {regions} and {steps}. "
        f"The best of {counted(len(settings), 'setting')} on the validation clients is {knob} {coarse:g}, with "
        f"{number(float(validation[0]), 3)}; the best of all is {number(best)}, with {number(float(validation[1]), 3)}. On the "
        f"test clients they have {number(float(test[0]), 3)} and {number(float(test[1]), 3)}: the optimum is worth {outcome}."
    )


def experts_reading(scored: ScoredMap, experts: int) -> str:
    """What one pass a prefix tells of so many experts on the head: the map of all weights."""
    calls = experts * scored.map.rows_read
    sizes = [len(indices) for indices in scored.map.indices]
    heard = sum(size > 1 for size in sizes)
    low, high = min(sizes), max(sizes)
    spread = f"{low} to {high} regions a client" if low < high else f"{counted(low, 'region')} each"
    few = ". After so short a training that is no surprise." if heard < len(sizes) / 2 else ", and the map knows at which weights."
    return (
        f"{counted(scored.map.rows_read, 'prefix', 'prefixes')} read once tell every weight vector's reply to "
        f"{counted(len(sizes), 'client')} (one call an expert: {calls:,}): {spread}. For {heard} of them the weights change the reply{few}"
    )


def study_reading(table: pd.DataFrame) -> str:
    """What sweeps miss, and whether choosing among all settings pays on fresh clients. Columns as `beside_sweep`, and seed.

    Differences are paired by seed, with 95 % intervals.
    """
    missed, chosen, volumes = [], [], {}
    for method, rows in table.groupby("method", sort=False):
        volume = over((rows["front_hypervolume"] - rows["sweep_hypervolume"]).to_numpy())
        gain = over((rows["optimum_test"] - rows["sweep_test"]).to_numpy())
        volumes[str(method)] = volume["mean"]
        missed.append(f"{method} {told(volume)}")
        chosen.append(f"{method} {judged(gain, 'more', 'less')}")
    seeds = counted(int(table["seed"].nunique()), "seed")
    exact = "" if (table["front_found"] == "exact").all() else " (not all of these fronts are exact: see the table)"
    most = max(volumes, key=lambda method: volumes[method])
    return (
        f"Hypervolume of all settings less the sweep's{exact}: {listing(missed)}; the sweep of {most} misses most. The mean score on fresh "
        f"clients of the exact optimum on the validation clients, less that of the sweep's best there: {'; '.join(chosen)}. "
        f"(Means over {seeds}, 95 % intervals.)"
    )


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, a row a method: its regions, the distinct points of both fronts, and what both choices score on test clients.

    Columns as `beside_sweep`, and seed.
    """
    columns = {"settings": "settings", "regions": "regions", "sweep_points": "front of the sweep", "front_points": "front of all"}
    scores = {"sweep_test": "sweep's best, test", "optimum_test": "best of all, test"}
    means = table.groupby("method", sort=False)[[*columns, *scores]].mean()
    return means[list(columns)].round().astype(int).join(means[list(scores)]).rename(columns=columns | scores).reset_index()
