"""What the scheduler asks of an engine, and the engine that options name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from emorl_lite.base.errors import UserError
from emorl_lite.jobs.job import Job, Outcome
from emorl_lite.jobs.local import Here, LocalEngine
from emorl_lite.jobs.options import EngineConfig


class Engine(Protocol):
    """Does jobs side by side. It neither orders nor retries them: that is the scheduler's, so that attempts are counted in one place."""

    @property
    def capacity(self) -> int:
        """How many jobs may be under way."""

    def submit(self, job: Job) -> None:
        """Start an attempt at a job."""

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """The attempts that ended since the last call; waits for one, at most these seconds."""

    def close(self) -> None:
        """End what still runs, and let go of everything."""


def make_engine(config: EngineConfig, workers: int, shared: Path) -> Engine:
    """The engine that the options name. `workers`: jobs under way at once (0: as many as there is room for); `shared`: a folder that every
    process must see, where submitit keeps its files too. Raises UserError if the engine cannot be had here."""
    if config.engine == "here":
        return Here()
    if config.engine == "local":
        return LocalEngine(workers or 1)
    try:
        if config.engine == "ray":
            from emorl_lite.jobs.ray_cluster import RayEngine

            return RayEngine(config, workers, shared)
        from emorl_lite.jobs.slurm import SlurmEngine

        return SlurmEngine(config, workers, shared)
    except ModuleNotFoundError as error:
        if error.name not in ("ray", "submitit"):
            raise
        raise UserError(f"--engine {config.engine}: needs the package {error.name}: pip install emorl_lite[cluster]") from None
