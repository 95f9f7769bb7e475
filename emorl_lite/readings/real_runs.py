"""What the training runs of a real study won by the reward that each was trained on, sampled and greedily."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import counted, listing, number
from emorl_lite.readings.real import check_columns

ENDS = ("sampled, first step", "sampled, last step", "greedy, first validation", "greedy, last validation")
"""Columns of a run's own reward."""
SETTLED = 0.02
"""Of validation means that differ by less nothing is said to rise."""


def runs_table(logs: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """A row an objective, means over seeds: its own reward in the first and the last step, and its greedy validation and distance then.

    `logs`: objective, seed, episodes, reward (sampled), kl (nats a reply), validation (greedy, nan where nothing was validated), a line a
    step. Columns: objective, seeds, prompts, the four of `ENDS`, KL at last. Raises UserError for an objective without a log.
    """
    check_columns(logs, ["objective", "seed", "episodes", "reward", "kl", "validation"], "the logs of the real study")
    lines = []
    for name in objectives:
        runs = [run for _, run in logs[logs["objective"] == name].groupby("seed")]
        if not runs:
            raise UserError(f"the logs of the real study have none of {name}")
        ends = pd.DataFrame([_ends(run) for run in runs]).mean()
        prompts = max(int(run["episodes"].max()) for run in runs)
        lines.append({"objective": name, "seeds": len(runs), "prompts": prompts, **ends})
    return pd.DataFrame(lines)


def _ends(run: pd.DataFrame) -> dict[str, float]:
    """One run's ends."""
    validated = run["validation"].dropna()
    greedy = (float(validated.iloc[0]), float(validated.iloc[-1])) if len(validated) else (float("nan"), float("nan"))
    first, last = float(run["reward"].iloc[0]), float(run["reward"].iloc[-1])
    return dict(zip(ENDS, (first, last, *greedy), strict=True)) | {"KL at last": float(run["kl"].iloc[-1])}


def runs_reading(table: pd.DataFrame) -> str:
    """Whose sampled reward rose in training, and whose greedy one. `table`: `runs_table`."""
    rows = table.to_dict("records")
    sampled = [f"{row['objective']} {number(row[ENDS[0]])} → {number(row[ENDS[1]])}" for row in rows]
    rose = [str(row["objective"]) for row in rows if row[ENDS[3]] - row[ENDS[2]] > SETTLED]
    still = [str(row["objective"]) for row in rows if not row[ENDS[3]] - row[ENDS[2]] > SETTLED]
    greedy = f"greedily, between the first validation and the last, {listing(rose)} {'rises' if len(rose) == 1 else 'rise'}" if rose else ""
    greedy += f"{' and ' if rose and still else 'greedily '}{listing(still)} {'does' if len(still) == 1 else 'do'} not" if still else ""
    seeds = counted(int(table["seeds"].max()), "seed")
    return f"In training each adapter's own sampled reward goes from the first step to the last: {', '.join(sampled)} ({seeds}); {greedy}."
