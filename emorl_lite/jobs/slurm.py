"""Jobs as SLURM jobs, through submitit (github.com/facebookincubator/submitit), or through its stand-in on this machine.

A job that SLURM preempts, or that reaches its time limit (three times at most), is queued again by submitit and goes on from its last
checkpoint; one that is killed or fails is submitted again by the scheduler. What is submitted goes on when this process is killed, and a
later run of the same command finds it at work by its lock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import submitit

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.workers import cores
from emorl_lite.jobs.job import Job, Outcome, Work, perform
from emorl_lite.jobs.options import EngineConfig
from emorl_lite.jobs.paths import import_path

MANY = 64
"""Jobs in SLURM's queue at once, if nobody says how many."""
LOOK_SECONDS = {"slurm": 5.0, "local": 0.2}
"""Between two looks at the queue."""


class Attempt:
    """What submitit sends: calls the work, and says what comes after an interruption."""

    def __init__(self, work: Work):
        self.work = work

    def __call__(self) -> Outcome:
        """Do it."""
        return perform(self.work)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The same again: the run's own checkpoint says where it stands."""
        return submitit.helpers.DelayedSubmission(self)


class SlurmEngine:
    """A queue of SLURM. Runs must lie in a folder that all nodes share."""

    def __init__(self, config: EngineConfig, workers: int, shared: Path):
        self.cluster = "slurm" if config.engine == "slurm" else "local"
        self.capacity = workers or (MANY if self.cluster == "slurm" else cores())
        self._jobs: list[tuple[submitit.Job[Outcome], Job]] = []
        folder = (shared / "submitit").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        except RuntimeError as error:
            raise UserError(f"--engine slurm: {one_line(error)}") from None
        self.executor.update_parameters(**parameters(config))

    def submit(self, job: Job) -> None:
        """Put it into the queue."""
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = import_path()  # sbatch passes the environment on
        try:
            submitted = self.executor.submit(Attempt(job.work.anywhere()))
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        if self.cluster == "local":
            submitted._results_timeout_s = 1  # the disk is this machine's: a result that is not there does not come late
        self._jobs.append((submitted, job))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Attempts that ended."""
        until = time.monotonic() + max(timeout, LOOK_SECONDS[self.cluster])
        while not (ended := [pair for pair in self._jobs if pair[0].done()]) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS[self.cluster])
        self._jobs = [pair for pair in self._jobs if pair not in ended]
        return [(job, outcome(submitted)) for submitted, job in ended]

    def close(self) -> None:
        """Cancel what is queued or runs."""
        for submitted, _ in self._jobs:
            submitted.cancel(check=False)
        self._jobs.clear()


def outcome(submitted: submitit.Job[Outcome]) -> Outcome:
    """How a submitted job ended."""
    try:
        return submitted.result()
    except submitit.core.utils.UncompletedJobError:
        return Outcome("killed", f"SLURM job {submitted.job_id} ended without an answer ({submitted.state}; out of memory?)")
    except Exception as error:  # what submitit met on the way: a module that is missing there, a file that cannot be read
        return Outcome("error", f"SLURM job {submitted.job_id}: {type(error).__name__}: {one_line(error)}")


def parameters(config: EngineConfig) -> dict[str, Any]:
    """The options as submitit names them."""
    named: dict[str, Any] = {"name": "emorl", "timeout_min": config.minutes, "cpus_per_task": config.cpus}
    if config.gpus:
        named["gpus_per_node"] = int(config.gpus)
    if config.memory:
        named["mem_gb"] = config.memory
    if config.engine == "slurm":
        if config.partition:
            named["slurm_partition"] = config.partition
        if config.sbatch:
            named["slurm_additional_parameters"] = dict(pair.split("=", 1) for pair in config.sbatch)
    return named
