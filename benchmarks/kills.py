"""Does a command that was killed end as if nothing had happened, once it is given again? `python benchmarks/kills.py`.

Every command runs undisturbed first. Then it is killed (SIGKILL) at random moments and at its file operations, one after the other, stopped
by Ctrl-C and SIGTERM, and started twice at the same time; the same command again must leave the same files. Times of day and seconds in
them do not count. A line a kind: how many were equal, of how many. The last line is one JSON object. `--quick` takes a minute. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pandas as pd

from emorl_lite.base.entry import run_script
from emorl_lite.base.files import UNFINISHED_FILES
from emorl_lite.base.paths import ASSETS

PPO = ["--ppo.episodes", "24", "--ppo.batch-size", "8", "--ppo.minibatch-size", "8", "--ppo.epochs", "1"]
PPO += ["--ppo.checkpoint-every", "1", "--ppo.validate-every", "2"]
SIZES = ["--data.train-prompts", "32", "--data.validation-prompts", "4", "--data.test-prompts", "4", "--model.max-new-tokens", "8"]
PLAIN = ["--objectives", "brevity", "diversity"]
"""Objectives without a classifier."""
JUDGED = ["--objectives", "empathy", "--rewards.classifier-examples", "128", "--rewards.classifier-epochs", "1"]
SEARCH = ["search", *PLAIN, *SIZES, *PPO, "--search.validation-prompts", "3"]


@dataclass(frozen=True)
class Command:
    """A command line, and the one that must have run before."""

    words: tuple[str, ...]
    before: tuple[str, ...] = ()
    classifiers: bool = False
    """Whether the classifiers that come with the package are there: the command has no options that make others quickly."""


STUDY = ["study", "--seeds", "1", "--workers", "2", "--study.budget", "24", "--study.batch-size", "8", "--study.validate-every", "2"]
STUDY += ["--study.weight-steps", "1", "--study.test-prompts", "4", "--study.sweep-prompts", "4", "--methods", "uniform", "emorl"]
MAP = ("map", "--prompt", "I feel sad.", "My boss is rude.", "--adapters", "reflection", "empathy", "--rewards", "brevity", "diversity")
TRAIN = ("train", *PLAIN, *SIZES, *PPO)
COMMANDS = {
    "train": Command(TRAIN),
    "classifier": Command(("train", *JUDGED, *SIZES, *PPO)),
    "warm start": Command((*TRAIN, "--warm-start-steps", "2")),
    "adapters side by side": Command((*SEARCH, "--search.method", "random", "--search.evaluations", "3")),
    "published search": Command((*SEARCH, "--search.levels", "3"), TRAIN),
    "Bayesian search": Command((*SEARCH, "--search.method", "bayesian", "--search.evaluations", "13"), TRAIN),
    "exact search": Command((*SEARCH, "--search.method", "exact"), TRAIN),
    "map": Command(MAP),
    "map in the place of another": Command((*MAP, "--samples", "2", "--overwrite"), MAP),
    "study": Command(tuple(STUDY), classifiers=True),
    "tutorial": Command(("tutorial", "--only", "00")),
}
VOLATILE = {
    "seconds",
    "attempts",
    "peak_mb",
    "command",
    "check",
    "table",
    "tables",
    "commit",
    "made_at_commits",
    "trained_at_commits",
    "sha256",
    "sha256_before",
    "log.csv",
    "started",
    "ended",
}
"""Entries and columns that hold times, or checksums of files with times in them."""
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink"}
"""Audit events of file operations, beside opening a file to write."""


# -- what a command left


def steady(value: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in value.items() if key not in VOLATILE}
    return [steady(item) for item in value] if isinstance(value, list) else value


def left(folder: Path) -> dict[str, Any]:
    """Every file of a folder by its name, as far as it must be the same."""
    files: dict[str, Any] = {}
    own = (".lock", "job.log")  # hidden ones are of no result: what was being written when a process died goes with the folder's next lock
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in own and not p.match(UNFINISHED_FILES)):
        data: Any = path.read_bytes().replace(str(folder).encode(), b"runs")  # a warm-started base's adapters name its place
        if path.suffix == ".ipynb":
            data = [cell["source"] for cell in json.loads(data)["cells"]]  # outputs hold times
        elif path.suffix == ".json":
            data = steady(json.loads(data))
        elif path.suffix == ".csv":
            data = pd.read_csv(io.BytesIO(data), dtype=str).drop(columns=list(VOLATILE), errors="ignore").to_csv(index=False)
        files[str(path.relative_to(folder))] = data
    return files


def difference(ours: dict[str, Any], expected: dict[str, Any]) -> str:
    """The first file that is not as it should be; empty if there is none."""
    return next((name for name in sorted({*ours, *expected}) if ours.get(name) != expected.get(name)), "")


# -- one run, in a process of its own


def operations(folder: Path, at: int) -> list[int]:
    """Count this process's writing file operations in a folder, and kill it at the one with the number `at` (0: never)."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (opened or event in WRITES) and str(arguments[0]).startswith(str(folder)):
            count[0] += 1
            if count[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


@dataclass
class Run:
    """A command in a process that this one has forked, with everything imported."""

    words: Sequence[str]
    folder: Path
    at: int = 0

    def __post_init__(self) -> None:
        self.log, self.counted = self.folder.with_suffix(f".{random.getrandbits(32):x}.log"), self.folder.with_suffix(".count")
        self.started = time.perf_counter()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run()

    def _run(self) -> None:
        from emorl_lite.__main__ import main

        status = 99
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for place, number in ((os.devnull, 1), (str(self.log), 2)):
                os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), number)
            count = operations(self.folder, self.at)
            status = main(self._arguments())
            self.counted.write_text(str(count[0]))
            sys.stderr.flush()
        finally:
            os._exit(status)

    def _arguments(self) -> list[str]:
        """The command line; the tutorial and whatever it starts take the folder from the environment."""
        os.environ["EMORL_RUNS"] = str(self.folder)
        if self.words[0] == "tutorial":
            return list(self.words)
        out = ["--out", str(self.folder / "tables")] if self.words[0] in ("study", "map") else []
        return [*self.words, "--runs", str(self.folder), "--quiet", *out]

    def wait(self, seconds: float = 300) -> int:
        """The exit status, −9 for a killed process; one that does not end in time is killed, and counts as 98."""
        while time.perf_counter() - self.started < seconds:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.seconds = time.perf_counter() - self.started
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return 98

    def send(self, number: int, after: float) -> None:
        """Send a signal after so many seconds, unless it has ended."""
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def said(self) -> list[str]:
        """Its lines on standard error."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def alive(self, seconds: float = 60) -> int:
        """How many of its own children are still there after a while: while one imports torch it does not see that its parent is gone."""
        until = time.perf_counter() + seconds
        while (count := sum(1 for _ in self._session())) and time.perf_counter() < until:
            time.sleep(0.1)
        return count

    def _session(self) -> Iterator[str]:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.pid and fields[0] != "Z":
                    yield stat.parent.name


# -- a command, disturbed


class Trial:
    """A command, what it leaves undisturbed, and every way to disturb it. Counts are [equal, tried] by kind."""

    def __init__(self, name: str, command: Command, scratch: Path):
        self.name, self.command, self.scratch = name, command, scratch / name.replace(" ", "-")
        self.scratch.mkdir()
        self.number = 0
        self.start = self.scratch / "start"
        self.start.mkdir()
        if command.classifiers:
            shutil.copytree(ASSETS / "tiny" / "classifiers", self.start / "tiny" / "classifiers")
        if command.before and (status := Run(command.before, self.start).wait()):
            raise SystemExit(f"{name}: what must have run before ended with {status}")
        first = self._fresh()
        run = Run(command.words, first)
        if status := run.wait():
            raise SystemExit(f"{name}: undisturbed it ended with {status}: {run.said()[-1:]}")
        self.expected, self.seconds = left(first), run.seconds
        self.operations = int(run.counted.read_text())
        self.counts: dict[str, list[int]] = {}

    def _fresh(self) -> Path:
        self.number += 1
        return Path(shutil.copytree(self.start, self.scratch / f"run{self.number}"))

    def _judge(self, kind: str, folder: Path, what: str, problem: str = "") -> None:
        """The same command again: is everything as if nothing had happened?"""
        if not problem:
            again = Run(self.command.words, folder)
            status = again.wait()
            problem = f"ends with {status}: {' | '.join(again.said()[-2:])}" if status else difference(left(folder), self.expected)
        count = self.counts.setdefault(kind, [0, 0])
        count[0], count[1] = count[0] + (not problem), count[1] + 1
        if problem:
            print(f"{self.name}, {kind} {what}: {problem} ({folder})", flush=True)
        else:
            shutil.rmtree(folder)

    def at_random(self, times: int, rng: random.Random) -> None:
        """SIGKILL at random moments."""
        for _ in range(times):
            folder, moment = self._fresh(), rng.uniform(0, self.seconds)
            run = Run(self.command.words, folder)
            run.send(signal.SIGKILL, moment)
            run.wait()
            self._judge("SIGKILL at a random moment", folder, f"after {moment:.2f} s", "" if not run.alive() else "children live on")

    def at_operations(self, most: int) -> None:
        """SIGKILL at every file operation, or at `most` of them, evenly."""
        times = min(most, self.operations) if most else self.operations
        for i in range(times):
            at = 1 + i * self.operations // times
            folder = self._fresh()
            Run(self.command.words, folder, at).wait()
            self._judge(f"SIGKILL at a file operation, of {self.operations}", folder, f"at the {at}th")

    def stopped(self, number: signal.Signals, times: int, rng: random.Random) -> None:
        """Ctrl-C or SIGTERM: one line, no child left, no lock held."""
        for _ in range(times):
            folder, moment = self._fresh(), rng.uniform(0.1 * self.seconds, 0.9 * self.seconds)
            run = Run(self.command.words, folder)
            run.send(number, moment)
            status, said, problem = run.wait(seconds=moment + 30), run.said(), ""
            if status not in (0, 128 + number) or (status and len(said) != 1):
                problem = f"ends with {status} and says {said}"
            self._judge(number.name, folder, f"after {moment:.2f} s", problem or ("children live on" if run.alive() else ""))

    def twice(self, times: int) -> None:
        """Two at once: both end well, or one says in a line why not."""
        for _ in range(times):
            folder = self._fresh()
            runs = [Run(self.command.words, folder) for _ in range(2)]
            ends = [run.wait() for run in runs]
            fine = 0 in ends and all(status == 0 or (status == 2 and len(run.said()) == 1) for status, run in zip(ends, runs, strict=True))
            self._judge("two at once", folder, "", "" if fine else f"end with {ends}: {[run.said() for run in runs]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*COMMANDS], default=[*COMMANDS])
    parser.add_argument("--random", type=int, default=20, help="SIGKILLs at random moments")
    parser.add_argument("--operations", type=int, default=0, help="most file operations to be killed at (0: every one)")
    parser.add_argument("--signals", type=int, default=3, help="Ctrl-C and SIGTERM so many times each")
    parser.add_argument("--twice", type=int, default=2, help="starts of two at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.only, args.random, args.operations, args.signals, args.twice = ["train", "published search"], 2, 4, 1, 1
    import bayes_opt  # noqa: F401  (before any process is forked: each would take seconds)

    import emorl_lite.experiment.experiment
    import emorl_lite.training.warm_start  # noqa: F401

    if "warm start" in args.only:
        import datasets  # noqa: F401
        import trl  # noqa: F401
    rng, results = random.Random(args.seed), {}
    scratch = Path(tempfile.mkdtemp(prefix="kills-"))
    for name in args.only:
        trial = Trial(name, COMMANDS[name], scratch)
        trial.at_operations(args.operations)
        trial.at_random(args.random, rng)
        for number in (signal.SIGINT, signal.SIGTERM):
            trial.stopped(number, args.signals, rng)
        trial.twice(args.twice)
        results[name] = {kind: f"{equal}/{tried}" for kind, (equal, tried) in trial.counts.items()}
        for kind, count in results[name].items():
            print(f"{name}, {kind}: {count}", flush=True)
    if all(len({*count.split("/")}) == 1 for counts in results.values() for count in counts.values()):
        shutil.rmtree(scratch)
    print(json.dumps({"equal": results}))


if __name__ == "__main__":
    run_script(main)
