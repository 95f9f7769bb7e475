"""Run the notebooks from scratch, in order, and tell what came out: the `tutorial` command.

Each notebook runs in a fresh kernel on a copy, so the committed files stay as they are; the executed copies go to `runs/notebooks/`.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import INTERRUPTED, TERMINATED, Terminated
from emorl_lite.base.files import read_json, read_table, write_atomically, write_json
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.paths import ASSETS, repository_root, runs_root
from emorl_lite.base.presets import OBJECTIVES, get_preset
from emorl_lite.base.project import in_repository
from emorl_lite.base.ranges import check_seed
from emorl_lite.tutorial.execution import NotebookError, execute, read_notebook

REPOSITORY = repository_root() or Path.cwd()
SAMPLE_SECONDS = 0.25  # how often memory is sampled and the progress line redrawn
PLAIN_LINE_SECONDS = 30.0  # without a terminal: a line at most this often
REFERENCE = ASSETS / "tiny" / "policies.csv"
PRESET_LINE = r'^PRESET = "\w+"'


@dataclass
class Timing:
    """What one notebook took. `cells` counts the code cells that were started."""

    name: str
    cells: int
    seconds: float
    peak_mb: float
    error: str = ""


def run_tutorial(
    notebooks: Sequence[str | Path] | None = None, kernel: str | None = None, preset: str = "", run: str = "", seed: int = 0
) -> int:
    """Execute notebooks in order and print times, peak memory and the closing table. `preset`: another one than the notebooks name.

    `notebooks`: files, or the start of names in the repository's `notebooks/` ("02"); all of those by default. `kernel` defaults to the
    one each notebook names. `run`: whose adapters they read, "mine" or "reference"; by default all notebooks go on with what they trained,
    and single ones read what they name. Stops at the first notebook that fails. Timings go to `runs/tutorial.json`.
    Returns the exit code: 0, 1 after an error in a notebook, 130 after Ctrl-C. Raises UserError if there is nothing to run.
    """
    if run not in ("", "mine", "reference"):
        raise UserError(f"--run {run}: expected mine or reference")
    check_seed(seed)
    if preset:
        get_preset(preset)
    paths = _choose(notebooks)
    check_folder(runs_root(), "folder of the runs")
    try:
        import nbclient  # noqa: F401
        import psutil  # noqa: F401
    except ImportError as error:
        raise UserError(f"the tutorial runner needs {error.name}: pip install nbclient psutil") from error
    run = run or ("mine" if notebooks is None and preset in ("", "tiny") else "")
    choices = ({"EMORL_RUN": run} if run else {}) | ({"EMORL_SEED": str(seed)} if seed else {})
    runs = runs_root().resolve()
    runs.mkdir(parents=True, exist_ok=True)
    started = time.time()
    timings: list[Timing] = []
    code = 0
    print(f"{len(paths)} notebook{'s' if len(paths) > 1 else ''}, executed copies in {_short_path(runs / 'notebooks')}", flush=True)
    for path in paths:
        try:
            timings.append(_execute(path, kernel, runs, preset, choices))
        except KeyboardInterrupt as stop:
            print(flush=True)  # the line of progress has no end
            print(f"interrupted in {path.name}", file=sys.stderr, flush=True)
            code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
            break
        if timings[-1].error:
            print(f"{path.name}, {timings[-1].error}", file=sys.stderr, flush=True)
            code = 1
            break
    _write_timings(runs / "tutorial.json", timings)
    _print_summary(timings, runs, started, preset or "tiny", seed)
    return code


def _choose(notebooks: Sequence[str | Path] | None) -> list[Path]:
    folder = REPOSITORY / "notebooks"
    available = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not available and not (notebooks and all(str(name).endswith(".ipynb") for name in notebooks)):
        raise UserError(f"{folder}: no notebooks here; {in_repository('they')}")
    if notebooks is None:
        return available
    paths: list[Path] = []
    for name in notebooks:
        if not str(name):
            raise UserError("--only '': expected the number of a notebook")
        if str(name).endswith(".ipynb"):
            if not Path(name).is_file():
                raise UserError(f"{name}: no such notebook")
            paths.append(Path(name))
        else:
            matches = [p for p in available if p.name.startswith(str(name))]
            if not matches:
                raise UserError(f"--only {name}: no notebook starts so, there are {', '.join(p.stem for p in available)}")
            paths += matches
    return list(dict.fromkeys(paths))


# -- one notebook


def _execute(path: Path, kernel: str | None, runs: Path, preset: str, choices: dict[str, str]) -> Timing:
    """Run one notebook, in a thread, so that this one can draw, sample memory and take Ctrl-C."""
    import nbformat

    notebook = read_notebook(path)
    if preset:
        set_preset(notebook, path, preset)
    total = sum(c.cell_type == "code" and bool(c.source.strip()) for c in notebook.cells)
    progress = Progress(path.stem, total)
    variables: dict[str, str | Path | None] = {"EMORL_RUNS": runs, **choices}
    if preset not in ("", "tiny"):
        variables["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE")
    clients: list[Any] = []
    failures: list[NotebookError] = []

    def work() -> None:
        try:
            execute(notebook, path.parent, variables, kernel, None, clients.append, progress.next_cell)
        except NotebookError as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    peak = 0.0
    thread.start()
    try:
        while thread.is_alive():
            peak = max(peak, _memory_mb(_kernel_pid(clients)))
            progress.draw()
            thread.join(SAMPLE_SECONDS)
    except KeyboardInterrupt:
        _kill(_kernel_pid(clients))
        thread.join(2)
        raise
    finally:
        copy = runs / "notebooks" / path.name
        write_atomically(copy, nbformat.writes(notebook) + "\n")
    reason = str(failures[0]) if failures else ""
    timing = Timing(path.stem, progress.cell, round(progress.seconds, 1), round(peak, 1), reason)
    progress.finish(f"{'FAILED' if reason else 'done'}, peak {peak:,.0f} MB")
    return timing


def set_preset(book: Any, path: Path, preset: str) -> None:
    """Change the line `PRESET = "..."` of a notebook. Raises UserError if it has none: it is about one preset alone."""
    get_preset(preset)
    for cell in book.cells:
        if cell.cell_type == "code" and re.search(PRESET_LINE, cell.source, flags=re.MULTILINE):
            cell.source = re.sub(PRESET_LINE, f'PRESET = "{preset}"', cell.source, count=1, flags=re.MULTILINE)
            return
    raise UserError(f"--preset {preset}: {path.name} has no line PRESET = ..., it runs as it is only")


# -- memory


def _kernel_pid(clients: list[Any]) -> int | None:
    return getattr(getattr(clients[0].km, "provisioner", None), "pid", None) if clients else None


def _tree(pid: int | None) -> list[Any]:
    import psutil

    try:
        root = psutil.Process(pid) if pid else None
        return [root, *root.children(recursive=True)] if root else []
    except psutil.NoSuchProcess:
        return []


def _memory_mb(pid: int | None) -> float:
    """Resident memory of the kernel and its children, in MB (10^6 bytes); pages they share count for each."""
    import psutil

    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def _kill(pid: int | None) -> None:
    import psutil

    for process in reversed(_tree(pid)):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


# -- what the reader sees


class Progress:
    """One line per notebook that is redrawn on a terminal; elsewhere plain lines, one now and then."""

    def __init__(self, name: str, total: int):
        self.name, self.total, self.cell = name, total, 0
        self._start = time.perf_counter()
        self._last_printed = 0.0
        self._terminal = sys.stdout.isatty()
        if not self._terminal:
            print(self._line(), flush=True)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def next_cell(self) -> None:
        """One more code cell begins."""
        self.cell += 1

    def draw(self) -> None:
        if self._terminal:
            print(f"\r{self._line()}\x1b[K", end="", flush=True)
        elif self.seconds - self._last_printed >= PLAIN_LINE_SECONDS:
            self._last_printed = self.seconds
            print(self._line(), flush=True)

    def finish(self, note: str) -> None:
        print(f"\r{self._line()}  {note}\x1b[K" if self._terminal else f"{self._line()}  {note}", flush=True)

    def _line(self) -> str:
        return f"{self.name}  cell {self.cell}/{self.total}  {_clock(self.seconds)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short_path(path: Path) -> str:
    """Relative to the repository where it lies inside."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _write_timings(path: Path, timings: list[Timing]) -> None:
    record = {
        "notebooks": [asdict(t) for t in timings],
        "seconds": round(sum(t.seconds for t in timings), 1),
        "peak_mb": max((t.peak_mb for t in timings), default=0.0),
    }
    write_json(path, record)


def _print_summary(timings: list[Timing], runs: Path, started: float, preset: str, seed: int) -> None:
    print()
    if timings:
        width = max(len(t.name) for t in timings)
        for t in timings:
            print(f"{t.name:<{width}}  {_clock(t.seconds):>7}  {t.peak_mb:7,.0f} MB{'  FAILED' if t.error else ''}")
        total = f"{_clock(sum(t.seconds for t in timings)):>7}  {max(t.peak_mb for t in timings):7,.0f} MB"
        print(f"{'all, and peak memory':<{width}}  {total}")
    references = sorted(runs.glob(f"{preset}-reference/*/summary.csv"), key=lambda file: file.stat().st_mtime)
    for label, home in [("yours", runs / preset), *(("the reference run", file.parent) for file in references[-1:])]:
        _print_weights(home / "search.json", started, label)
        _print_scores(home / "summary.csv", started, label)
    if preset == "tiny" and (runs / preset / "summary.csv").is_file():
        _print_reference(REFERENCE)
    figures = os.environ.get("EMORL_FIGURES") or runs / "figures"
    print(f"\nfigures: {_short_path(Path(figures).resolve())}/   timings: {_short_path(runs / 'tutorial.json')}")


def _age(path: Path, started: float) -> str:
    # one second of slack: some file systems keep whole seconds
    return "" if path.stat().st_mtime >= started - 1 else " (from an earlier run)"


def _print_weights(path: Path, started: float, label: str) -> None:
    """The search's weights, if it has run."""
    if path.is_file():
        weights = read_json(path, "the weights that the notebooks found", "execute notebook 07 again", ("weights",))["weights"]
        print(f"\nweights found, {label}{_age(path, started)}: " + ", ".join(f"{k} {float(v):.3g}" for k, v in weights.items()))


def _print_scores(path: Path, started: float, label: str) -> None:
    """Scores per policy and objective, if the notebooks got that far."""
    if path.is_file():
        rows = _rows(path, "the closing table of the notebooks")
        columns = [c for c in (rows[0] if rows else {}) if c not in ("seed", "finished")]
        if columns:
            print(f"\nscores on held-out clients, {label}{_age(path, started)}")
            _print_rows(rows, columns)


def _print_reference(path: Path) -> None:
    """The reference run's scores: lowest to highest over its seeds and instruction sets, which is where another machine's may lie."""
    if not path.is_file():
        return
    rows = _rows(path, "the table of the reference run")
    columns = ["policy", *OBJECTIVES, "mean"]
    ranges = []
    for policy in dict.fromkeys(row["policy"] for row in rows):
        if policy in ("base", *OBJECTIVES, "ensemble"):
            of = [row for row in rows if row["policy"] == policy]
            spread = {c: sorted(float(row[c]) for row in of) for c in columns[1:]}
            ranges.append({"policy": policy} | {c: f"{x[0]:.3f}-{x[-1]:.3f}" for c, x in spread.items()})
    runs = len({(row["machine"], row["seed"]) for row in rows})
    print(f"\nthe reference, lowest to highest of {runs} runs (seeds and instruction sets)")
    _print_rows(ranges, columns)


def _rows(path: Path, what: str) -> list[dict[str, str]]:
    """The rows of a table, as text by column."""
    return [{str(name): str(cell) for name, cell in row.items()} for row in read_table(path, what).to_dict("records")]


def _print_rows(rows: list[dict[str, str]], columns: list[str]) -> None:
    width = max(len(row[columns[0]]) for row in rows)
    for row in [{c: c for c in columns}, *rows]:
        print(f"{row[columns[0]]:<{width}}" + "".join(f"{_short_number(row[c]):>13}" for c in columns[1:]))


def _short_number(text: str) -> str:
    try:
        return f"{float(text):.3f}"
    except ValueError:
        return text
