"""Small helpers that keep notebook cells short: a start line, prose with computed numbers, and tables that read well."""

from __future__ import annotations

import os
import platform
import warnings
from typing import Any

import pandas as pd
import torch
import transformers

from emorl_lite.devices import choose_device
from emorl_lite.errors import UserError
from emorl_lite.presets import Preset, get_preset
from emorl_lite.provenance import runs_root
from emorl_lite.small_world import data_root


def start(preset: str = "tiny") -> Preset:
    """Print what this notebook runs on and return the preset."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # deprecations inside the library, not ours
    chosen = get_preset(preset)
    device, dtype = choose_device(chosen.model.device, chosen.model.dtype)
    if device.type == "cpu" and chosen.rewards.kind == "small_world":
        torch.set_num_threads(1)  # steady for tiny models; two threads were up to 20 times slower at random
    if chosen.name != "tiny":  # the committed figures are the tiny preset's
        os.environ.setdefault("EMORL_FIGURES", str(runs_root() / "figures" / chosen.name))
    print(
        f"preset {chosen.name} on {device} in {str(dtype).removeprefix('torch.')}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    return chosen


def size(preset: Preset, tiny: int, real: int) -> int:
    """How many texts a demonstration takes: fewer where the model is a real one, so that the notebook stays within minutes."""
    return tiny if preset.rewards.kind == "small_world" else real


def committed(name: str) -> pd.DataFrame:
    """A table that comes with the repository, from `data/results/`."""
    path = data_root() / "results" / name
    if not path.is_file():
        raise UserError(f"{path}: no such committed table")
    return pd.read_csv(path)


def say(markdown: str) -> None:
    """Prose whose numbers were computed a moment ago."""
    from IPython.display import Markdown, display

    display(Markdown(markdown))


def table(frame: pd.DataFrame, caption: str, digits: int = 2) -> Any:
    """A table with a caption, left-aligned wrapped text, and numbers of `digits` digits."""
    left = {"text-align": "left", "white-space": "normal"}
    texts = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    styler = frame.style.format(precision=digits, na_rep="", escape="html").hide(axis="index").set_caption(caption)
    if texts:
        styler = styler.set_properties(subset=texts, **left)  # type: ignore[arg-type]
    head: Any = {"selector": "th", "props": [("text-align", "left")]}
    title: Any = {"selector": "caption", "props": [("text-align", "left"), ("font-style", "italic")]}
    return styler.set_table_styles([head, title])
