"""Runs that go on in other processes, and how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emorl_lite.base.presets import PPOConfig


def follow(runs: Sequence[Future[None]], folders: Sequence[Path], ppo: PPOConfig, progress: bool) -> None:
    """Show how far runs are, by the logs in their folders, until all have ended. Raises what a run raises."""
    total = ppo.episodes * len(folders)
    tqdm_options: dict[str, Any] = {"unit": "ep", "file": sys.stdout, "mininterval": 1, "disable": not progress}
    with tqdm(total=total, desc=" + ".join(folder.name for folder in folders), **tqdm_options) as bar:
        while True:
            ended = all(run.done() for run in runs)
            files = [folder / "log.csv" for folder in folders]
            steps = sum(max(0, file.read_bytes().count(b"\n") - 1) for file in files if file.is_file())
            bar.update(min(total, steps * ppo.batch_size) - bar.n)
            if ended:
                break
            time.sleep(0.5)
    for run in runs:
        run.result()
