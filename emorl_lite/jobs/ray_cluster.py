"""Jobs on a Ray cluster, or on a small one started here for one run (docs.ray.io).

A job is one task. Ray does not retry it (`max_retries=0`): the scheduler does, so that attempts are counted in one place whatever the
engine. One process does one job at a time; Ray ends it afterwards if the job had a GPU, so that its memory is given back, and else gives
it the next job, which saves importing torch.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.jobs.job import Job, Outcome, perform
from emorl_lite.jobs.options import EngineConfig
from emorl_lite.jobs.paths import import_path, version

CARRIED = ("EMORL_", "HF_", "OMP_", "MKL_", "OPENBLAS_", "TOKENIZERS_", "CUBLAS_", "TORCH_")
"""What the environment's variables begin with that every job gets."""
PROBE_SECONDS = 120


class RayEngine:
    """A Ray cluster. Runs must lie in a folder that all nodes share, and every node needs this version of the package."""

    def __init__(self, config: EngineConfig, workers: int, shared: Path):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a job that asked for no GPU sees none
        import ray

        self.ray, self.config, self.workers = ray, config, workers
        self._tasks: dict[Any, Job] = {}
        self._started = not ray.is_initialized()
        if self._started:
            _connect(ray, config, workers)
        try:
            self._task = ray.remote(max_retries=0, num_cpus=config.cpus, num_gpus=config.gpus)(perform)
            self._check_needs()
            self._check_nodes(shared)
        except BaseException:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """Jobs that the cluster has room for, nodes that came since included."""
        room = sum(self._room(node) for node in self._nodes())
        return min(self.workers, room) if self.workers else room

    def submit(self, job: Job) -> None:
        """Give the cluster a task."""
        task = self._task.options(name=job.name, runtime_env={"env_vars": carried()})
        self._tasks[task.remote(job.work.anywhere())] = job

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Attempts that ended."""
        ready, _ = self.ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        return [(self._tasks.pop(task), self._outcome(task)) for task in ready]

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(task)
            return outcome
        except self.ray.exceptions.OutOfMemoryError:
            return Outcome("killed", "Ray killed its process: out of memory")
        except self.ray.exceptions.WorkerCrashedError:
            return Outcome("killed", "its process was killed (out of memory?)")
        except self.ray.exceptions.RayError as error:
            return Outcome("killed", f"{type(error).__name__}: {one_line(error)}")

    def close(self) -> None:
        """Cancel what runs; a cluster that was started here ends."""
        for task in self._tasks:
            self.ray.cancel(task, force=True)
        self._tasks.clear()
        if self._started:
            self.ray.shutdown()

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _room(self, node: dict[str, Any]) -> int:
        """Jobs that fit on a node."""
        has = node["Resources"]
        fits = [has.get("CPU", 0) // self.config.cpus]
        if self.config.gpus:
            fits.append(has.get("GPU", 0) / self.config.gpus)
        return int(min(fits))

    def _check_needs(self) -> None:
        """Raise UserError if no node could ever take a job: Ray would wait for one."""
        if not any(self._room(node) for node in self._nodes()):
            wanted = f"--cpus {self.config.cpus} --gpus {self.config.gpus:g}"
            raise UserError(f"{wanted}: no node of the Ray cluster has that much ({self.ray.cluster_resources()})")

    def _check_nodes(self, shared: Path) -> None:
        """Raise UserError if a node lacks the package, has another version of it, or does not see the folder of the runs."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        shared.mkdir(parents=True, exist_ok=True)
        probe = shared.resolve() / f".probe-{uuid.uuid4().hex}"
        probe.touch()
        try:
            nodes = [node for node in self._nodes() if self._room(node)]
            ask, env = self.ray.remote(max_retries=1, num_cpus=0)(look), {"env_vars": carried()}
            at = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
            asked = [ask.options(scheduling_strategy=node, runtime_env=env).remote(str(probe)) for node in at]
            for answer, node in zip(asked, nodes, strict=True):
                host = node["NodeManagerHostname"]
                try:
                    sees, theirs = self.ray.get(answer, timeout=PROBE_SECONDS)
                except self.ray.exceptions.RayError as error:
                    raise UserError(f"node {host}: cannot run emorl_lite ({one_line(error)}); install it on every node") from None
                if theirs != version():
                    raise UserError(f"node {host}: has emorl_lite {theirs}, here it is {version()}; install the same on every node")
                if not sees:
                    raise UserError(f"node {host}: does not see {shared}; --runs must name a folder that all nodes share")
        finally:
            probe.unlink(missing_ok=True)


def _connect(ray: Any, config: EngineConfig, workers: int) -> None:
    """Join a cluster, or start a small one."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if not config.address:
        ray.init(address="local", num_cpus=max(config.cpus * workers, config.cpus) if workers else None, **quiet)
        return
    quiet.pop("include_dashboard")
    try:
        ray.init(address=config.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--address {config.address}: no Ray cluster answers there ({one_line(error)})") from None


def look(probe: str) -> tuple[bool, str]:
    """Whether this process sees a file, and its version of the package."""
    return Path(probe).is_file(), version()


def carried() -> dict[str, str]:
    """The environment that a job gets: settings of this package and of what it uses, and where this process imports from."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
    return variables | {"PYTHONPATH": import_path()}
