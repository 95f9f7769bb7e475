"""Where a study's jobs run, and what each of them needs: the options of the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from emorl_lite.base.errors import UserError
from emorl_lite.base.ranges import Options, Within

EngineName = Literal["local", "ray", "slurm", "slurm-local", "here"]
ONLY: dict[str, tuple[str, ...]] = {
    "address": ("ray",),
    "cpus": ("ray", "slurm", "slurm-local"),
    "gpus": ("ray", "slurm", "slurm-local"),
    "partition": ("slurm",),
    "minutes": ("slurm", "slurm-local"),
    "memory": ("slurm", "slurm-local"),
    "sbatch": ("slurm",),
}
"""Options that some engines alone know."""


@dataclass(frozen=True)
class EngineConfig(Options):
    """Where jobs run."""

    engine: EngineName = "local"
    """local (processes on this machine), ray (a Ray cluster, or a small one started here), slurm (a SLURM job each), slurm-local (the same
    without SLURM, on this machine, to try it), here (in this very process, one after the other). ray and slurm: pip install
    emorl_lite[cluster]."""
    retries: Annotated[int, Within(0, 1000)] = 2
    """How often a job is started again after its process was killed or ended in an error. It goes on from its checkpoint."""
    address: str = ""
    """Ray's head node, HOST:PORT, or auto for the cluster that this machine belongs to (default: a small one, here, for this run)."""
    cpus: Annotated[int, Within(1, 1000)] = 1
    """CPU cores that a job takes (ray, slurm)."""
    gpus: Annotated[float, Within(0, 1000)] = 0.0
    """GPUs that a job takes (ray, slurm); with ray a fraction shares one."""
    partition: str = ""
    """SLURM's partition."""
    minutes: Annotated[int, Within(1, 10**6)] = 240
    """SLURM's time limit of a job. A job that reaches it is queued again and goes on from its checkpoint."""
    memory: Annotated[int, Within(0, 10**6)] = 0
    """GB of memory that a job takes (slurm; 0: the partition's default)."""
    sbatch: tuple[str, ...] = ()
    """More of sbatch's options, as NAME=VALUE: account=ABC qos=low."""

    def check_together(self) -> None:
        """Raise UserError for options that the engine does not know, or that do not go together."""
        if self.gpus % 1 and (self.gpus > 1 or self.engine != "ray"):
            raise UserError(f"--gpus {self.gpus:g}: only Ray shares a GPU, and only one: a whole number is needed")
        for pair in self.sbatch:
            if not all(pair.partition("=")):
                raise UserError(f"--sbatch {pair}: expected NAME=VALUE")
        defaults = {field.name: field.default for field in fields(self)}
        for name, engines in ONLY.items():
            if self.engine not in engines and getattr(self, name) != defaults[name]:
                raise UserError(f"--{name}: the engine {self.engine} has no use for it; it is for {' and '.join(engines)}")
