"""Jobs that retry: calls that leave their results on disk, in processes of their own here, on a Ray cluster, or under SLURM."""

from emorl_lite.jobs.engine import Engine, make_engine
from emorl_lite.jobs.job import Job, Outcome
from emorl_lite.jobs.local import Here, LocalEngine
from emorl_lite.jobs.options import EngineConfig
from emorl_lite.jobs.progress import Progress
from emorl_lite.jobs.scheduler import Status, run_jobs

__all__ = ["Engine", "EngineConfig", "Here", "Job", "LocalEngine", "Outcome", "Progress", "Status", "make_engine", "run_jobs"]
