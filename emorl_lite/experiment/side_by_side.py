"""Runs that go on in processes of their own on this machine, and how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emorl_lite.base.presets import PPOConfig
from emorl_lite.jobs.job import Job, Work
from emorl_lite.jobs.local import LocalEngine
from emorl_lite.jobs.scheduler import Status, require_done, run_jobs


def train_side_by_side(runs: Mapping[Path, Callable[[], object]], workers: int, ppo: PPOConfig, progress: bool) -> None:
    """Do the training run of each folder, so many at once, and show how far they are by the logs there. What a run prints goes into job.log
    beside its log. One that is killed goes on from its checkpoint.

    Raises UserError if a run failed, when the others have ended.
    """
    jobs = [Job(folder.name, Work(call, folder / "job.log"), finished=(folder / "done.json").is_file) for folder, call in runs.items()]
    total = ppo.episodes * len(runs)
    tqdm_options: dict[str, Any] = {"unit": "ep", "file": sys.stdout, "mininterval": 1, "disable": not progress}
    with tqdm(total=total, desc=" + ".join(job.name for job in jobs), **tqdm_options) as bar:

        def show(board: Mapping[str, Status]) -> None:
            files = [folder / "log.csv" for folder in runs]
            steps = sum(max(0, file.read_text(encoding="utf-8").count("\n") - 1) for file in files if file.is_file())
            bar.update(min(total, steps * ppo.batch_size) - bar.n)

        board = run_jobs(jobs, LocalEngine(workers), show=show)
    require_done(board)
