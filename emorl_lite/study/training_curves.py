"""The training logs of a study's runs in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from emorl_lite.base.logs import read_log

CURVES = ("seed", "run", "step", "episodes", "reward", "validation", "kl", "seconds")
"""Columns of methods_curves.csv. `reward`: sampled, as the run was trained on it (DynaOpt: with the weights of that step)."""


def curves(folder: Path) -> pd.DataFrame:
    """The logs of all finished runs of a study, one below the other, with the columns CURVES.

    `folder`: the study's, which holds seed<k>/<run>/log.csv. A run that is still in training has no done.json, and is left out.
    Raises UserError for a log that cannot be read.
    """
    parts = []
    for file in folder.glob("seed*/*/log.csv"):
        seed, run = file.parent.parent.name.removeprefix("seed"), file.parent.name
        if seed.isdecimal() and (file.parent / "done.json").is_file():
            parts.append(read_log(file).assign(seed=int(seed), run=run).reindex(columns=list(CURVES)))
    if not parts:
        return pd.DataFrame(columns=list(CURVES))
    return pd.concat(parts, ignore_index=True).sort_values(["seed", "run", "step"], ignore_index=True)


def learning(curves: pd.DataFrame, objectives: Sequence[str], others: Sequence[str] = ("uniform", "dynaopt")) -> pd.DataFrame:
    """The runs of the paper's learning curves: one for every objective, with a whole budget each, and single policies, as `others`.

    Columns: those of `curves`, with `run` named after its objective or its method. A run that nobody made is left out.
    """
    if not len(curves):
        return pd.DataFrame(columns=list(CURVES))
    runs = set(curves["run"])
    names = {f"{name}-long" if f"{name}-long" in runs else name: name for name in objectives} | {name: name for name in others}
    order = {name: place for place, name in enumerate(names.values())}
    kept = curves[curves["run"].isin(names)].assign(run=lambda rows: rows["run"].map(names))
    return kept.sort_values("run", key=lambda run: run.map(order), kind="stable", ignore_index=True)
