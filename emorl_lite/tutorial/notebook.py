"""Small helpers that keep notebook cells short: a start line, prose with computed numbers, and tables that read well.

Two environment variables choose for all notebooks at once: EMORL_RUN ("reference", "mine", or a folder laid out like
emorl_lite/assets/tiny) and EMORL_SEED.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import pandas as pd
import torch
import transformers

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_json, read_table
from emorl_lite.base.paths import data_root, repository_root, runs_root, shipped
from emorl_lite.base.presets import Preset, SmallWorldRewards, get_preset
from emorl_lite.base.project import in_repository
from emorl_lite.base.shown_text import as_html, safe_markdown
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.devices import choose_device


def start(preset: str = "tiny") -> Preset:
    """Print what this notebook runs on and return the preset."""
    chosen = get_preset(preset)
    device, dtype = choose_device(chosen.model.device, chosen.model.dtype)
    if device.type == "cpu" and isinstance(chosen.rewards, SmallWorldRewards):
        torch.set_num_threads(1)  # steady for tiny models; two threads were up to 20 times slower at random
    if chosen.name != "tiny":  # the committed figures are the tiny preset's
        os.environ.setdefault("EMORL_FIGURES", str(runs_root() / "figures" / chosen.name))
    print(
        f"preset {chosen.name} on {device} in {str(dtype).removeprefix('torch.')}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    return chosen


def open_run(preset: str = "tiny", run: str = "reference", seed: int = 0) -> Experiment:
    """Start a notebook on one run: its model, rewards, adapters and data. Prints whose run it is.

    `run`: "reference", the run that comes with emorl_lite; "mine", what is trained on this machine (now, where it is not there yet); or a
    folder laid out like emorl_lite/assets/tiny. $EMORL_RUN and $EMORL_SEED go before the arguments.
    Raises UserError if there is no such run, or for a bad seed.
    """
    chosen = start(preset)
    run = os.environ.get("EMORL_RUN") or run
    number = os.environ.get("EMORL_SEED") or str(seed)
    if not number.isdecimal():
        raise UserError(f"EMORL_SEED={number}: expected a number from 0")
    small_world = isinstance(chosen.rewards, SmallWorldRewards)
    experiment = Experiment(chosen, int(number), source="any" if run == "mine" and not small_world else run)
    if experiment.published is None or run == "mine":
        missing = [name for name in chosen.objectives if name not in experiment.trained()]
        state = f"; {', '.join(missing)}: trained when first needed" if missing else ", trained already"
        print(f"run: yours, seed {number}{state}")
    else:
        source = "the reference that comes with emorl_lite" if run == "reference" else "another one, as EMORL_RUN says"
        told = " (as EMORL_RUN says)" if os.environ.get("EMORL_RUN") else ' (yours: RUN = "mine")'
        hint = told if run == "reference" else ""
        print(f"run: {source}, seed {number}; one set of classifiers serves all seeds; read, not trained here{hint}")
    return experiment


def size(preset: Preset, tiny: int, real: int) -> int:
    """How many texts a demonstration takes: fewer where the model is a real one, so that the notebook stays within minutes."""
    return tiny if isinstance(preset.rewards, SmallWorldRewards) else real


def committed(name: str, folder: str = "results") -> Any:
    """A committed table, of `data/results/` or of the run that comes with a preset: a CSV as a DataFrame, a JSON as plain data."""
    for part in (name, folder):
        if not isinstance(part, str) or not part or part in (".", "..") or set(part) & set("/\\:\0"):
            raise UserError(f"committed: {part!r} is no name of a table, or of a preset")
    path = (data_root() / folder if folder == "results" else shipped(folder)) / name
    if not path.is_file():
        raise UserError(
            f"{path}: no such committed table" if repository_root() else f"{path}: not here; {in_repository('committed tables')}"
        )
    return read_json(path, "a committed table") if path.suffix == ".json" else read_table(path, "a committed table")


def beside(here: Mapping[str, float], reference: pd.DataFrame, names: Mapping[str, str] | None = None, digits: int = 2) -> pd.DataFrame:
    """Measures of this run beside the reference and its spread over machines and seeds.

    `reference`: a row a run, first the one that the notebooks read; columns as in `here`. `names`: what to call them.
    Columns of the result, in `digits` digits: measure, this run, "reference, seed 0", lowest, highest, inside (whether this run lies
    between those two).
    """
    rows = []
    for key, value in here.items():
        runs, ours = [round(float(x), digits) for x in reference[key]], round(float(value), digits)
        rows.append(
            {
                "measure": (names or {}).get(key, key),
                "this run": ours,
                "reference, seed 0": runs[0],
                "lowest": min(runs),
                "highest": max(runs),
                "inside": "yes" if min(runs) <= ours <= max(runs) else "no",
            }
        )
    return pd.DataFrame(rows)


def say(markdown: str) -> None:
    """Prose whose numbers were computed a moment ago. What it quotes of clients and models is shown as text: `safe_markdown`."""
    from IPython.display import Markdown, display

    display(Markdown(safe_markdown(markdown)))


def table(frame: pd.DataFrame, caption: str, digits: int | Mapping[str, int] = 2) -> Any:
    """A table with a caption, texts to the left, numbers to the right under their names. Texts, names and caption are shown as they are.

    Each column of numbers has one precision: none for counts and seeds, `digits` decimals for others, fewer for numbers from 100, more
    where all would read 0.00. `digits`: for all columns, or for those named (the others: 2). Five figures and more are grouped: 23,398.
    """
    few, chosen = (2, dict(digits)) if isinstance(digits, Mapping) else (digits, {})
    frame = frame.copy()
    for column in frame.select_dtypes("bool").columns:
        frame[column] = frame[column].map({True: "yes", False: "no"})
    numbers = [c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c])]
    texts = [c for c in frame.columns if c not in numbers]
    shown = {c: _number(frame[c], chosen.get(str(c), few), forced=str(c) in chosen) for c in numbers}
    mark = f"{crc32(repr((caption, list(frame.columns))).encode()):x}"  # pandas draws one at random: the same table gives the same page
    styler = frame.style.set_uuid(mark).hide(axis="index").set_caption(as_html(caption))
    styler = styler.format(shown, precision=few, na_rep="", escape="html")  # type: ignore[arg-type]
    styler = styler.format_index(as_html, axis="columns")
    maths = [name for name in texts if frame[name].map(lambda cell: isinstance(cell, str) and bool(set(cell) & set("$\\"))).any()]
    if maths:  # pandas escapes markup, and leaves these signs
        styler = styler.format(_cell(few), subset=maths, na_rep="")  # type: ignore[arg-type]
    if texts:
        styler = styler.set_properties(subset=texts, **{"text-align": "left", "white-space": "normal"})  # type: ignore[arg-type]
    if numbers:
        styler = styler.set_properties(subset=numbers, **{"text-align": "right", "white-space": "nowrap"})  # type: ignore[arg-type]
    heads: Any = [
        {"selector": f"th.col{i}", "props": [("text-align", "right" if c in numbers else "left"), ("vertical-align", "bottom")]}
        for i, c in enumerate(frame.columns)
    ]
    title: Any = {"selector": "caption", "props": CAPTION}
    return styler.set_table_styles([*heads, title])


CAPTION: Any = [("text-align", "left"), ("font-style", "italic"), ("width", "44em"), ("max-width", "90vw"), ("margin-right", "-90vw")]
"""Wider than a narrow table, which it would be squeezed into, and without widening it."""


def _number(column: pd.Series, digits: int, forced: bool) -> Callable[[float], str]:
    """How the numbers of a column are shown."""
    sizes = column.dropna().abs()
    largest, smallest = float(sizes.max() if len(sizes) else 0), float(sizes[sizes > 0].min() if (sizes > 0).any() else 0)
    whole = bool((sizes % 1 == 0).all())
    if forced:
        decimals = digits
    elif (whole and (pd.api.types.is_integer_dtype(column) or largest > 1)) or (largest >= 1000 and smallest >= 10):
        decimals = 0
    elif largest >= 100 and smallest >= 1:
        decimals = min(digits, 1)
    elif 1e-6 <= largest < 10**-digits:
        decimals = 1 - math.floor(math.log10(largest))
    else:
        decimals = digits
    group = "," if largest >= 10_000 else ""

    def shown(value: float) -> str:
        places = 0 if not forced and abs(value) >= 1000 else decimals  # a count among shares
        return f"{round(float(value), places) + 0.0:{group}.{places}f}"  # + 0.0: no "-0.00"

    return shown


def _cell(digits: int) -> Callable[[Any], str]:
    """How a cell of a column of texts is shown; numbers among them as elsewhere."""
    return lambda cell: f"{cell:.{digits}f}" if isinstance(cell, float) else as_html(cell)
