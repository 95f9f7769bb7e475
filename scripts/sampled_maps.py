"""Sampled replies at every weight: their exact optimum, what it is worth on fresh noise and on test prompts, and the temperature.

python scripts/sampled_maps.py --preset smollm2 --seeds 2 --samples 8

Greedy replies hide much of what reinforcement learning did, where the base decodes well already. Every part is kept in
runs/<preset>/sampled_maps/, so that the same command goes on where it was stopped. Tables:

    sampled_maps.csv          each policy, on the prompts that weights were chosen on (fresh noise) and on test prompts, greedy and sampled
    sampled_sizes.csv         what the optimum of S samples a prompt promises and is worth
    sampled_noise.csv         how much common random numbers save
    sampled_temperatures.csv  the sampled mean at every temperature, exactly
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.files import digest, read_json, write_json
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.paths import data_root, runs_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.ensemble.corners import Source, adapter_corners, simplex_corners, with_temperature
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.sampled import (
    along,
    at_temperature,
    common_noise_gain,
    cross_fitted,
    sample_scores,
    sample_sizes,
    samples_needed,
    temperature_line,
    temperature_of,
    value_of,
)
from emorl_lite.exact.scored_map import ScoredMap, scored_map
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.search.evaluation import ReplyScores
from emorl_lite.search.statistics import interval

CHOOSING, FRESH, TEST = 0, 1, 2
"""Seeds of the noise: that which chooses weights, and others that score them."""

CHOICE = ("prompts", "samples")
"""Options that the chosen weights depend on."""
HEAT = ("lowest", "highest", "heated", "heated_samples")
"""Those of the map over weights and temperature."""


@dataclass
class Options:
    """Options."""

    preset: str = "tiny"
    seeds: int = 3
    prompts: int = 0
    """Validation prompts on which weights are chosen (0: all of the search's)."""
    samples: int = 16
    """Samples a prompt in the map that chooses weights."""
    fresh: int = 16
    """Samples a prompt of fresh noise that score the choice on the same prompts."""
    test: int = 4
    """Samples a test prompt."""
    lowest: float = 0.5
    """Lowest temperature of the map over weights and temperature."""
    highest: float = 1.5
    """Highest."""
    heated: int = 16
    """Prompts of that map (0: none)."""
    heated_samples: int = 2
    """Its samples a prompt."""
    only: int = -1
    """This seed's parts alone, and no tables (-1: all)."""
    out: str = ""
    """Folder (default: data/results for tiny, data/<preset> for others)."""


class Parts:
    """What is kept of one seed: a file a part."""

    def __init__(self, options: Options, seed: int):
        self.folder, self.options, self.seed = runs_root() / options.preset / "sampled_maps", options, seed

    def __call__(self, name: str, uses: Sequence[str], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The part of this name: as it is kept, or made and kept. `uses`: the options that it depends on, with those of the preset."""
        mark = digest(repr([(option, getattr(self.options, option)) for option in uses]).encode())[:8]
        path = self.folder / f"seed{self.seed}-{name}-{mark}.json"
        if not path.is_file():
            started = time.perf_counter()
            made = dict(make())
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, made | {"part_seconds": time.perf_counter() - started})
            print(f"seed {self.seed}, {name}: {time.perf_counter() - started:.0f} s", flush=True)
        return read_json(path, "a part of the sampled maps", "delete it")


class Sampling:
    """One seed's adapters, and what is asked of them."""

    def __init__(self, options: Options, seed: int):
        self.options, self.seed = options, seed
        self.experiment = Experiment(get_preset(options.preset), seed, progress=False, source="reference")
        self.names = list(self.experiment.preset.objectives)
        self.parts = Parts(options, seed)
        self._replies: ReplyScores | None = None

    @property
    def prompts(self) -> list[str]:
        """Those that choose the weights."""
        return self.experiment.validation()[: self.options.prompts or None]

    def score(self) -> ReplyScores:
        """Scores of replies, each once."""
        if self._replies is None:
            self._replies = ReplyScores(self.experiment.rewards.scores)
        return self._replies

    def map_of(self, prompts: Sequence[str], corners: Any = None, **options: Any) -> ScoredMap:
        """The scored map of these prompts."""
        self.experiment.load_adapters()
        tree = PrefixTree.of(corners or adapter_corners(self.experiment.lm, self.names), prompts, **options)
        return scored_map(exact_map(tree), self.score())

    # -- choosing weights

    def greedy(self) -> dict[str, Any]:
        """The optimum of greedy replies."""
        best = best_weights(self.map_of(self.prompts))
        return {"weights": best.weights, "promised": best.value}

    def sampled(self) -> dict[str, Any]:
        """The optimum of sampled replies, what it is worth by cross-fitting, smaller samples of the same, and what common noise saves."""
        started = time.perf_counter()
        scored = self.map_of(self.prompts, samples=self.options.samples, seed=CHOOSING)
        seconds = time.perf_counter() - started
        best, one_out, halves = best_weights(scored), cross_fitted(scored), cross_fitted(scored, 2)
        sizes = [2**k for k in range(20) if 2**k <= self.options.samples // 2]
        d = len(self.names)
        points = {"uniform": [1 / d] * d, "the optimum": list(best.weights)} | dict(zip(self.names, np.eye(d).tolist(), strict=True))
        noise = [
            {"one": a, "other": b, "gain": common_noise_gain(scored, points[a], points[b])}
            | {"difference": float(np.subtract(*sample_scores(scored, [points[b], points[a]]).mean((1, 2))))}
            for a, b in combinations(points, 2)
        ]
        return {
            "weights": best.weights,
            "promised": best.value,
            "bound": best.bound,
            "cell": best.piece.measure,
            "regions": len(scored.map.regions),
            "one_out": [one_out.value, one_out.error],
            "halves": [halves.value, halves.error],
            "enough": samples_needed(sample_scores(scored, [1 / d] * d)[0]),
            "sizes": sample_sizes(scored, sizes, repeats=8, seconds=seconds).to_dict("records"),
            "noise": noise,
            "seconds": seconds,
        }

    def heated(self, weights: Sequence[float]) -> dict[str, Any]:
        """The optimum over weights and temperature, and the line of temperatures at given weights and at uniform ones."""
        options, prompts = self.options, self.prompts[: self.options.heated]
        self.experiment.load_adapters()
        corners = adapter_corners(self.experiment.lm, self.names)
        many: dict[str, Any] = {"samples": options.heated_samples, "seed": CHOOSING}
        lines = []
        for name, w in {"uniform": [1 / len(self.names)] * len(self.names), "sampled optimum": weights}.items():
            lowest, highest = options.lowest / 5, 2 * options.highest
            scored = self.map_of(prompts, temperature_line(corners, w, lowest, highest), **many)
            borders, means = along(scored, [0.0], [1 - lowest / highest])
            t = lowest / (1 - borders * (1 - lowest / highest))
            lines += [
                {"weights": name, "from": t[i], "to": t[i + 1]} | dict(zip(self.names, means[i].tolist(), strict=True))
                for i in range(len(means))
            ]
        started = time.perf_counter()
        scored = self.map_of(prompts, with_temperature(corners, options.lowest, options.highest), **many)
        best = best_weights(scored)
        (w,), (temperature,) = temperature_of(best.weights, options.lowest)
        at_one = best_weights(self.map_of(prompts, **many))
        there = scored.means(at_temperature(at_one.weights, 1.0, options.lowest)).mean()
        return {
            "weights": w.tolist(),
            "temperature": float(temperature),
            "promised": best.value,
            "bound": best.bound,
            "regions": len(scored.map.regions),
            "at_one": [at_one.value, float(there)],
            "lines": lines,
            "seconds": time.perf_counter() - started,
        }

    # -- scoring them

    def judged(
        self, points: Mapping[str, Sequence[float]], prompts: Sequence[str], samples: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        """Scores [B, S, K] of the replies by each of these weights over base and adapters; greedy ones with 0 samples."""
        self.experiment.load_adapters()
        lm = self.experiment.lm
        corners = simplex_corners([Source(lm), *[Source(lm, name) for name in self.names]], ["base", *self.names])
        tree = PrefixTree.of(corners, prompts, samples=samples, temperature=temperature, seed=seed)
        replies = tree.replies(np.array(list(points.values())))  # [B * S][n]
        many = max(1, samples)
        score, found = self.score(), {}
        for i, name in enumerate(points):
            table = score([prompts[row // many] for row in range(len(replies))], [line[i] for line in replies])
            order = [score.names.index(objective) for objective in self.names]
            found[name] = table[:, order].reshape(len(prompts), many, -1).round(6).tolist()
        return found


def policies(names: Sequence[str], chosen: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Weights over the base and the adapters, by policy."""
    eye = np.eye(1 + len(names)).tolist()
    points = dict(zip(["base", *names], eye, strict=True)) | {"uniform": [0.0] + [1 / len(names)] * len(names)}
    return points | {name: [0.0, *weights] for name, weights in chosen.items()}


def one_seed(options: Options, seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table."""
    torch.set_num_threads(1)
    it = Sampling(options, seed)
    greedy, sampled = it.parts("greedy", CHOICE[:1], it.greedy), it.parts("sampled", CHOICE, it.sampled)
    chosen = {"greedy optimum": greedy["weights"], "sampled optimum": sampled["weights"]}
    points, validation, test = policies(it.names, chosen), it.prompts, it.experiment.dataset.prompts("test")
    found = {
        ("validation", "greedy", 0.0): it.parts("greedy-validation", CHOICE, lambda: it.judged(points, validation, 0, 1.0, 0)),
        ("validation", "sampled", 1.0): it.parts(
            "fresh", (*CHOICE, "fresh"), lambda: it.judged(points, validation, options.fresh, 1.0, FRESH)
        ),
        ("test", "greedy", 0.0): it.parts("greedy-test", CHOICE, lambda: it.judged(points, test, 0, 1.0, 0)),
        ("test", "sampled", 1.0): it.parts("test", (*CHOICE, "test"), lambda: it.judged(points, test, options.test, 1.0, TEST)),
    }
    promised = {"greedy optimum": greedy["promised"], "sampled optimum": sampled["promised"]}
    lines: list[dict[str, Any]] = []
    if options.heated:
        heated = it.parts("heated", (*CHOICE, *HEAT), lambda: it.heated(sampled["weights"]))
        name, t = "optimum over weights and temperature", heated["temperature"]
        points[name], promised[name], lines = [0.0, *heated["weights"]], heated["promised"], heated["lines"]
        one = {name: points[name]}
        rest = validation[: options.heated]
        found["validation", "sampled", t] = it.parts(
            "heated-fresh", (*CHOICE, *HEAT, "fresh"), lambda: it.judged(one, rest, options.fresh, t, FRESH)
        )
        found["test", "sampled", t] = it.parts("heated-test", (*CHOICE, *HEAT, "test"), lambda: it.judged(one, test, options.test, t, TEST))
    rows: list[dict[str, Any]] = []
    for (prompts, decoding, t), scores in found.items():
        arrays = {policy: np.array(values) for policy, values in scores.items() if policy in points}
        for policy, values in arrays.items():
            row = {"seed": seed, "policy": policy, "set": prompts, "decoding": decoding, "temperature": t}
            row |= {f"w_{n}": w for n, w in zip(["base", *it.names], points[policy], strict=True)}
            row |= measured(values, it.names, promised.get(policy) if prompts == "validation" else None)
            rows.append(row | against(values, arrays.get("uniform"), prompts))
    corrected = {"one_out": sampled["one_out"][0], "one_out_error": sampled["one_out"][1], "halves": sampled["halves"][0]}
    size = {"samples": options.samples, "blocks": 1, "promised": sampled["promised"], "regions": sampled["regions"]}
    sizes = [*sampled["sizes"], size | corrected | {"seconds": sampled["seconds"], "enough": sampled["enough"]}]
    return {
        "maps": rows,
        "sizes": [{"seed": seed} | row for row in sizes],
        "noise": [{"seed": seed} | row for row in sampled["noise"]],
        "temperatures": [{"seed": seed} | row for row in lines],
    }


def measured(values: np.ndarray, names: Sequence[str], promised: float | None) -> dict[str, Any]:
    """Scores [B, S, K]: their means, the standard errors for these prompts and for new ones, and what was promised."""
    found = value_of(values.mean(2))
    row = {"n": found.prompts, "samples": found.samples} | dict(zip(names, values.mean((0, 1)).tolist(), strict=True))
    return row | {"mean": found.value, "within": found.within, "between": found.between, "promised": promised}


def against(values: np.ndarray, uniform: np.ndarray | None, prompts: str) -> dict[str, float]:
    """The difference from uniform weights with the same noise, and its 95 % interval: for these prompts, or for new ones (test)."""
    if uniform is None:
        return {"difference": np.nan, "low": np.nan, "high": np.nan}
    differences = (values - uniform).mean(2)
    if prompts == "test":
        mean, low, high = interval(differences.mean(1))
        return {"difference": mean, "low": low, "high": high}
    found = value_of(differences)
    low, high = found.interval()
    return {"difference": found.value, "low": low, "high": high}


def main() -> None:
    """Measure, and write the tables."""
    chosen = typed(Options)
    seeds = range(chosen.seeds) if chosen.only < 0 else [chosen.only]
    if chosen.out:
        check_folder(chosen.out, "--out")
    made = [one_seed(chosen, seed) for seed in seeds]
    folder = Path(chosen.out) if chosen.out else data_root() / ("results" if chosen.preset == "tiny" else chosen.preset)
    command = "python scripts/sampled_maps.py " + " ".join(sys.argv[1:])
    for name in made[0] if chosen.only < 0 else ():
        table = pd.DataFrame([row for tables in made for row in tables[name]]).round(6)
        if len(table):
            save_table(
                table, folder / f"sampled_{name}.csv", command=command, options=asdict(chosen), preset=chosen.preset, seeds=chosen.seeds
            )


if __name__ == "__main__":
    run_script(main)
