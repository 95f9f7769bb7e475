"""Execute the notebooks in place, as they are committed: `python scripts/execute_notebooks.py [--fold] [NN ...]` (`make outputs`).

The maintainers' command, and the only one that writes the committed outputs and `figures/`. Each notebook runs from a fresh kernel, in
order, on runs of its own: what lies under runs/ does not show. What a page cannot show is left out of the outputs: the states that a
progress bar went through, and widgets (they need a kernel). Cells tagged `hide-input` are folded; `--fold` does only
that, and executes nothing.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from emorl_lite.base.entry import run_script
from emorl_lite.tutorial.execution import execute, read_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
UNCHOSEN: dict[str, str | Path | None] = {"EMORL_RUN": None, "EMORL_SEED": None}
"""Variables of a reader's that would show on the page."""
FOLDED, TITLE = "hide-input", "# @title "
"""The tag of a cell that composes a sentence, a table or a figure and teaches nothing, and the first line that such a cell has."""
WIDGET = "application/vnd.jupyter.widget-view+json"
CONTROLS = "(Controls stand here while the notebook runs.)"
"""What a page says in a widget's place."""


def last_states(text: str) -> str:
    """What a terminal shows after carriage returns."""
    return "".join(line.rstrip("\r").split("\r")[-1] + "\n" for line in text.split("\n") if line.strip())


PROGRESS = re.compile(r".*\d+%\|.*\[\d+:\d\d<.*\]\s*")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop widget states and progress bars, which say how fast one machine was; timings of cells stay out too."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop(WIDGET, None):
                output.data["text/plain"] = CONTROLS
            if output.output_type == "stream":
                lines = last_states(output.text.replace("\r\n", "\n")).splitlines(keepends=True)
                output.text = "".join(line for line in lines if not PROGRESS.fullmatch(line))
        cell_outputs = cell.get("outputs", [])
        cell_outputs[:] = [o for o in cell_outputs if o.output_type != "stream" or o.text.strip()]


def fold(notebook: nbformat.NotebookNode) -> None:
    """Fold the code of cells tagged `hide-input`, and of no other. Raises ValueError for one without a title.

    Jupyter Book reads the tag, JupyterLab and Notebook 7 `source_hidden`, Colab `cellView` and the title, which is what it leaves visible.
    """
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        folded = FOLDED in cell.metadata.get("tags", [])
        if folded and not cell.source.startswith(TITLE):
            raise ValueError(f"cell {cell.id} is tagged {FOLDED}: its first line should be '{TITLE}' and what it shows")
        jupyter = {key: value for key, value in cell.metadata.pop("jupyter", {}).items() if key != "source_hidden"}
        cell.metadata.pop("cellView", None)
        if folded:
            jupyter["source_hidden"] = True
            cell.metadata["cellView"] = "form"
        if jupyter:
            cell.metadata["jupyter"] = jupyter


def main(chosen: list[str], execution: bool = True) -> None:
    """Execute these notebooks (numbers), or all; or fold their cells alone."""
    with tempfile.TemporaryDirectory() as runs:
        for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
            if chosen and path.name[:2] not in chosen:
                continue
            start, notebook = time.perf_counter(), read_notebook(path)
            fold(notebook)
            if execution:
                execute(notebook, NOTEBOOKS, UNCHOSEN | {"EMORL_RUNS": runs, "EMORL_FIGURES": ROOT / "figures"})
                tidy(notebook)
            nbformat.write(notebook, path)
            print(f"{path.name}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    run_script(lambda: main([part for part in sys.argv[1:] if part != "--fold"], execution="--fold" not in sys.argv[1:]))
