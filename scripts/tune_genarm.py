"""How GenARM's options were chosen: on validation prompts, with seeds that no study has. Writes data/results/genarm_tuning.csv.

python scripts/tune_genarm.py

With the study's budget: first beta_r, at three times PPO's learning rate; then other rates with that beta_r; each with every strength of
the decoder. The best has the highest score of sampled replies less the KL weight times their KL to the base, at uniform weights: what the
other methods maximise in training. (The number of passes over the pairs is that of PPO over a rollout.) What a table has is not done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.files import read_table
from emorl_lite.base.presets import get_preset
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.methods.bench import Bench
from emorl_lite.methods.genarm import GenARM, Pairs, draw_pairs, train_reward_model
from emorl_lite.study.tuning import Tuning, judged

BETAS = (0.03, 0.1, 0.3, 1.0)
LR_TIMES = (3.0, 1.0, 10.0)
"""Multiples of PPO's learning rate; the first one for the choice of beta_r."""
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
BY = ["beta_r", "lr_times", "strength"]


@dataclass
class Options(Tuning):
    """Options."""

    table = "genarm_tuning.csv"


def tuned(options: Options, done: pd.DataFrame) -> pd.DataFrame:
    """A row for each seed, beta_r, learning rate and strength; those in `done` are taken from there."""
    tables = []
    for seed in options.seeds:
        bench = Experiment(get_preset(options.preset), seed, progress=False).bench(folder=None)
        pairs = draw_pairs(bench, bench.ppo.episodes // 2)
        own = done[done["seed"] == seed] if len(done) else done

        def measure(beta_r: float, lr_times: float, own: pd.DataFrame, bench: Bench = bench, pairs: Pairs = pairs) -> pd.DataFrame:
            if len(own) and ((own["beta_r"] == beta_r) & (own["lr_times"] == lr_times)).any():
                return own
            found = pd.DataFrame({"seed": bench.seed} | row for row in measured(bench, pairs, beta_r, lr_times))
            found["regularised"] = found["sampled_mean"] - bench.kl_coef(bench.uniform) * found["kl"]
            print(found.round(3).to_string(index=False), flush=True)
            return pd.concat([own, found], ignore_index=True)

        for beta_r in BETAS:
            own = measure(beta_r, LR_TIMES[0], own)
        beta_r = best(own)["beta_r"]
        for lr_times in LR_TIMES[1:]:
            own = measure(beta_r, lr_times, own)
        tables.append(own)
    return pd.concat(tables, ignore_index=True)


def measured(bench: Bench, pairs: Pairs, beta_r: float, lr_times: float) -> Iterator[dict[str, Any]]:
    """Train the reward models, then a row for each strength: what both kinds of replies score, and the KL of the sampled ones."""
    method, lm, prompts = GenARM(bench), bench.lm, bench.validation_prompts
    started = time.process_time()
    fits = []
    for objective, adapter in enumerate(method.adapters):
        lm.remove_adapter(adapter)
        lm.add_adapter(adapter, bench.seed)
        losses = train_reward_model(bench, adapter, pairs, objective, beta_r, lr_times)
        fits.append(sum(losses[-10:]) / len(losses[-10:]))
    seconds = time.process_time() - started
    ties = sum(pairs.ties(objective) for objective in range(len(bench.names)))
    for strength in STRENGTHS:
        method = GenARM(bench, strength)
        kl, sampled, greedy = judged(method, prompts)
        row = {"beta_r": beta_r, "lr_times": lr_times, "strength": strength, "pairs": len(pairs.prompts), "ties": ties}
        row |= {"loss": sum(fits) / len(fits), "seconds": seconds, "kl": kl, **greedy}
        yield row | {f"sampled_{name}": value for name, value in sampled.items()}


def best(table: pd.DataFrame) -> dict[str, Any]:
    """The options with the highest regularised score."""
    means = table.groupby(BY, as_index=False)[["regularised"]].mean()
    first = max(means.to_dict("records"), key=lambda row: float(row["regularised"]))
    return {name: first[name] for name in BY}


def main() -> None:
    """Measure what the table lacks, and write it."""
    asked = typed(Options, __doc__)
    target = asked.check()
    torch.set_num_threads(1)
    table = tuned(asked, read_table(target, "a tuning") if target.is_file() else pd.DataFrame())
    print("chosen:", best(table))
    asked.save(table.round(4), target, best(table))


if __name__ == "__main__":
    run_script(main)
