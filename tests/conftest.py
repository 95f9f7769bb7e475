"""What holds for every test: one thread, no hub, no clock, the same examples everywhere, and nothing written into the repository."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

# Before anything imports torch. Tests run side by side, and tiny models are no faster with more threads; child processes inherit it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "agg")
for variable in ("EMORL_RUN", "EMORL_SEED", "EMORL_PRESET"):  # what a reader has set for the notebooks
    os.environ.pop(variable, None)

from hypothesis import settings  # noqa: E402

# A busy machine is no failure, and a red test is red for everyone: other examples are had with --hypothesis-profile=search.
settings.register_profile("everywhere", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile("everywhere")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts its background jobs so, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SCRATCH = Path(tempfile.mkdtemp(prefix="emorl-tests-"))
"""Of this process: what is not told where to write (runs, figures) writes here."""
os.environ["EMORL_RUNS"] = str(SCRATCH / "runs")
os.environ["EMORL_FIGURES"] = str(SCRATCH / "figures")


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)
