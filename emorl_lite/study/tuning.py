"""What the tunings of single methods share (`scripts/tune_<method>.py`): seeds that no study has, and what a policy is judged by."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_out
from emorl_lite.base.paths import data_root
from emorl_lite.base.presets import get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.base.ranges import Distinct, check_seed
from emorl_lite.methods.base import Method
from emorl_lite.study.divergence import sampled_replies


@dataclass
class Tuning:
    """Options that every tuning has."""

    table: ClassVar[str]
    """The CSV file in data/results."""
    preset: str = "tiny"
    seeds: tuple[int, ...] = (100,)
    """None of them a study's."""
    out: str = ""
    """CSV file (default: the tuning's own in data/results)."""

    def check(self) -> Path:
        """Where the table goes. Raises UserError for options that are wrong, before anything is trained."""
        get_preset(self.preset)
        if not self.seeds:
            raise UserError("--seeds: expected at least one value")
        Distinct().check([str(seed) for seed in self.seeds], f"--seeds {self.seeds}")
        for seed in self.seeds:
            check_seed(seed, "--seeds")
        return check_out(self.out or str(data_root() / "results" / self.table))

    def save(self, table: pd.DataFrame, target: Path, chosen: Any) -> None:
        """Write the table, and beside it what made it and what it chose."""
        command = " ".join([f"python scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        save_table(table, target, command=command, preset=self.preset, seeds=list(self.seeds), chosen=chosen)


def judged(method: Method, prompts: Sequence[str]) -> tuple[float, dict[str, float], dict[str, float]]:
    """A trained policy at its default setting: (KL of sampled replies to the base, their mean scores, those of greedy replies)."""
    objectives, seed = method.bench.objectives, method.bench.seed
    replies, divergence = sampled_replies(method, prompts, seed=seed)
    return float(divergence.mean()), objectives.means(prompts, replies), objectives.means(prompts, method.reply(prompts))
