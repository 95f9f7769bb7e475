"""Does a GPU give what the CPU gives? A short PPO, an ensemble and a search on both, compared and timed. `make gpu-check`.

Trains three small adapters on the device, in float32 (fluency, brevity, diversity: no classifier is needed), then asks both devices the
same: log-probabilities of given replies, the ensemble's greedy replies, the published search's table. PPO itself draws from each device's
own random numbers, so of it only what must hold anywhere is compared: the first ratio is 1, and the KL starts at 0.
The last line is one JSON object.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import DataConfig, PPOConfig, Preset, SearchConfig, get_preset
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.experiment.experiment import Experiment

OBJECTIVES = ("fluency", "brevity", "diversity")


@dataclass
class Options:
    """Options."""

    device: Literal["cuda", "mps", "cpu"] = "cuda"
    """What is compared with the CPU (cpu: the CPU with itself, a test of this script)."""
    preset: str = "tiny"
    """Its model is used; smollm2 needs `make real-models`."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Weights' type on that device."""
    episodes: int = 256
    """PPO prompts for each adapter."""
    quick: bool = False
    """Under a minute on a CPU: 64 episodes, a search of two levels."""


def small(options: Options) -> Preset:
    """The preset cut down to what a check needs."""
    preset = get_preset(options.preset)
    episodes = 64 if options.quick else options.episodes
    return replace(
        preset,
        objectives=OBJECTIVES,
        model=replace(preset.model, device="cpu", dtype="float32", warm_start="", autocast=False),
        ppo=PPOConfig(episodes=episodes, batch_size=32, minibatch_size=16, lr=preset.ppo.lr, validate_every=0, checkpoint_every=0),
        search=SearchConfig(levels=2 if options.quick else 5, validation_prompts=8),
        data=replace(DataConfig(), train_prompts=128, validation_prompts=8, test_prompts=16),
        warm_start=replace(preset.warm_start, steps=0),
        transfer=None,
        kl_coef={},
    )


def timed(device: torch.device, work: Any) -> tuple[Any, float]:
    """(result, seconds) of a piece of work, the device's queue emptied before and after."""

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        elif device.type == "mps":
            torch.mps.synchronize()

    settle()
    began = time.perf_counter()
    result = work()
    settle()
    return result, time.perf_counter() - began


def on_device(preset: Preset, root: Path, trained: Path, where: str) -> dict[str, Any]:
    """Everything that is compared, with its seconds."""
    experiment = Experiment(preset, root=root / where, progress=False)
    device = experiment.lm.device
    log, ppo_seconds = timed(device, lambda: experiment.train("brevity"))
    for name in OBJECTIVES:  # the same adapters for both
        experiment.lm.load_adapter(trained / name, f"given {name}")
    prompts = experiment.dataset.prompts("test")
    experiment.lm.use("given fluency")
    given = prompts[1:] + prompts[:1]  # any texts will do as replies, if both devices read the same
    (logp, _), score_seconds = timed(device, lambda: experiment.lm.score_texts(prompts, given))
    ensemble = EnsembleLM(experiment.lm, [f"given {name}" for name in OBJECTIVES], weights=(0.4, 0.3, 0.3))
    mixed, ensemble_seconds = timed(device, lambda: ensemble.reply(prompts))
    for name in OBJECTIVES:
        target = experiment.folder / name
        target.mkdir(parents=True, exist_ok=True)
        for file in trained.joinpath(name).iterdir():
            if file.is_file():
                (target / file.name).write_bytes(file.read_bytes())
    experiment.lm.remove_adapter("brevity")  # the one that was trained here; a finished run's is read for the search
    experiment.load_adapters()
    result, search_seconds = timed(device, lambda: experiment.search(prompts[:8]))
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    seconds = {"ppo": ppo_seconds, "score": score_seconds, "ensemble": ensemble_seconds, "search": search_seconds}
    return {"log": log, "logp": logp.cpu(), "mixed": mixed, "table": result.table, "seconds": seconds, "peak_mib": peak}


def compare(options: Options) -> dict[str, Any]:
    """Run both and return the figures."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("gpu-check: this machine has no CUDA device (ARGS='--device cpu' runs the check on the CPU alone)")
    preset = small(options)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        full = replace(preset, model=replace(preset.model, device=options.device))  # a real model would take its time on the CPU
        first = Experiment(full, root=root / "trained", progress=False)
        first.train_all()
        cpu = on_device(preset, root, first.folder, "cpu")
        other = replace(preset, model=replace(preset.model, device=options.device, dtype=options.dtype))
        gpu = on_device(other, root, first.folder, f"other-{options.device}")
    agree = sum(a == b for a, b in zip(cpu["mixed"], gpu["mixed"], strict=True)) / len(cpu["mixed"])
    columns = [*OBJECTIVES, "mean"]
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
        "dtype": options.dtype,
        "largest_logprob_difference": float((cpu["logp"] - gpu["logp"]).abs().max()),
        "equal_ensemble_replies": agree,
        "largest_search_difference": float((cpu["table"][columns] - gpu["table"][columns]).abs().max().max()),
        "first_ratio_off_one": float(gpu["log"].first_ratio.iloc[0]),
        "first_kl": float(gpu["log"].kl.iloc[0]),
        "reward_first": float(gpu["log"].reward.iloc[0]),
        "reward_last": float(gpu["log"].reward.iloc[-1]),
        "peak_mib": gpu["peak_mib"],
        **{f"{name}_speedup": cpu["seconds"][name] / gpu["seconds"][name] for name in cpu["seconds"]},
        **{f"{name}_seconds": gpu["seconds"][name] for name in gpu["seconds"]},
    }


def failures(figures: dict[str, Any]) -> list[str]:
    """What must not be on any device, in words."""
    loose = figures["dtype"] != "float32"
    messages = []
    if figures["largest_logprob_difference"] > (0.3 if loose else 1e-2):
        messages.append("log-probabilities differ")
    if figures["equal_ensemble_replies"] < (0.7 if loose else 0.9):
        messages.append("the ensemble's replies differ")
    if figures["largest_search_difference"] > (0.2 if loose else 0.05):
        messages.append("the search's scores differ")
    if figures["first_ratio_off_one"] > (0.1 if loose else 1e-2):
        messages.append("the ratio before the first update is not 1")
    if abs(figures["first_kl"]) > (0.1 if loose else 1e-3):
        messages.append("the KL does not start at 0")
    return messages


def main() -> int:
    """Compare, print, say what failed."""
    figures = compare(typed(Options, __doc__))
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")
    wrong = failures(figures)
    print("FAILED: " + "; ".join(wrong) if wrong else "agrees with the CPU")
    print(json.dumps(figures))
    return 1 if wrong else 0


if __name__ == "__main__":
    run_script(main)
