"""Small helpers that keep notebook cells short: a start line, prose with computed numbers, and tables that read well.

Two environment variables choose for all notebooks at once: EMORL_RUN ("reference", "mine", or a folder laid out like
emorl_lite/assets/tiny) and EMORL_SEED.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

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
        hint = ' (yours: RUN = "mine")' if run == "reference" else ""
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


def table(frame: pd.DataFrame, caption: str, digits: int = 2) -> Any:
    """A table with a caption, left-aligned wrapped text, and numbers of `digits` digits. Texts, names and caption are shown as they are."""
    left_aligned = {"text-align": "left", "white-space": "normal"}
    frame = frame.copy()
    for column in frame.select_dtypes("float").columns:
        frame[column] = frame[column].round(digits) + 0.0  # no "-0.00"
    texts = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    styler = frame.style.format(precision=digits, na_rep="", escape="html").hide(axis="index").set_caption(as_html(caption))
    styler = styler.format_index(as_html, axis="columns")
    maths = [name for name in texts if frame[name].map(lambda cell: isinstance(cell, str) and bool(set(cell) & set("$\\"))).any()]
    if maths:  # pandas escapes markup, and leaves these signs
        styler = styler.format(_cell(digits), subset=maths, na_rep="")  # type: ignore[arg-type]
    if texts:
        styler = styler.set_properties(subset=texts, **left_aligned)  # type: ignore[arg-type]
    head: Any = {"selector": "th", "props": [("text-align", "left")]}
    title: Any = {"selector": "caption", "props": [("text-align", "left"), ("font-style", "italic")]}
    return styler.set_table_styles([head, title])


def _cell(digits: int) -> Callable[[Any], str]:
    """How a cell of a column of texts is shown; numbers among them as elsewhere."""
    return lambda cell: f"{cell:.{digits}f}" if isinstance(cell, float) else as_html(cell)
