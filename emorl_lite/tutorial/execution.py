"""Execute a notebook in a fresh kernel: the one place that chooses kernel, folder, environment and time limit, and words what failed."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line

CELL_SECONDS = 1200
"""A cell that takes longer hangs, if nothing is trained in it."""


CELL = {"cell_type": str, "source": str, "metadata": dict}
"""What every cell has."""
NOT_BEGUN = "Kernel died before replying"
"""Two kernels that start at the same moment may choose the same port: the later one ends before its first cell, and is started again."""


class NotebookError(UserError):
    """A notebook failed: the cell (of those with code, from 1) and its error, in one line."""


def read_notebook(path: Path) -> Any:
    """A notebook file; a byte order mark, which some editors put before its text, is none of it. Raises UserError if it is no notebook."""
    import nbformat

    try:
        text = path.read_text(encoding="utf-8-sig")
        with warnings.catch_warnings():  # of ids that are there twice, or missing: nbformat mends them
            warnings.simplefilter("ignore")
            book = nbformat.reads(text, as_version=4)
        if re.search(r"\\u[dD][89a-fA-F]", text):  # halves of characters could not be written again
            nbformat.writes(book).encode("utf-8")
    except Exception as error:
        raise UserError(f"{path}: not a notebook ({one_line(error, 200)})") from error
    cells = book.get("cells")  # nbformat only logs what is not as it should be
    whole = isinstance(cells, list) and isinstance(book.get("metadata"), dict) and isinstance(book.get("nbformat_minor"), int)
    if not whole or not all(_is_cell(cell) for cell in cells):
        raise UserError(f"{path}: not a notebook (its cells or its metadata are not as a notebook's)")
    return book


def _is_cell(cell: Any) -> bool:
    return isinstance(cell, dict) and all(isinstance(cell.get(name), kind) for name, kind in CELL.items())


def execute(
    book: Any,
    folder: Path,
    variables: Mapping[str, str | Path | None] | None = None,
    kernel: str | None = None,
    cell_seconds: int | None = CELL_SECONDS,
    on_start: Callable[[Any], None] | None = None,
    on_cell: Callable[[], None] | None = None,
) -> None:
    """Run all cells of a notebook in a fresh kernel that works in `folder`; their outputs are put into `book`.

    The kernel has this process's environment with `variables` in it (None: without that one), and needs nothing from the hub unless they
    say so. `kernel`: by default the one that the notebook names. `on_start` gets nbclient's client, `on_cell` is called before each code
    cell. Raises NotebookError at the first cell that fails.
    """
    from nbclient import NotebookClient

    started = 0

    def next_cell(cell: Any, cell_index: int) -> None:
        nonlocal started
        started += 1
        if on_cell:
            on_cell()

    chosen = {"HF_HUB_OFFLINE": "1"} | os.environ | dict(variables or {})
    environment = {name: str(value) for name, value in chosen.items() if value is not None}
    for last in (False, False, True):
        client = NotebookClient(
            book,
            timeout=cell_seconds,
            kernel_name=kernel or "",
            resources={"metadata": {"path": str(folder)}},
            coalesce_streams=True,
            on_cell_execute=next_cell,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its start-up warnings would break a progress line
        )
        if on_start:
            on_start(client)
        try:
            client.execute(env=environment)
            return
        except Exception as error:
            if last or started or NOT_BEGUN not in str(error):
                raise NotebookError(f"cell {started}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    name = getattr(error, "ename", type(error).__name__)
    message = str(getattr(error, "evalue", error)).strip()
    if name == "DeadKernelError":
        message = "the kernel died, perhaps for lack of memory"
    first = re.sub(r"\x1b\[[0-9;]*m", "", message).splitlines()[:1]
    return name + (f": {first[0]}" if first else "")
