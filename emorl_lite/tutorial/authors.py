"""The paper's own adapters in a notebook: opened where they are, and told in one line where they are not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.data.downloads import fetch
from emorl_lite.experiment.author_runs import AUTHORS
from emorl_lite.experiment.experiment import Experiment

T = TypeVar("T")


def attempt(act: Callable[..., T], given: Any, *more: Any) -> T | None:
    """What `act(given, *more)` returns. None if `given` is None; and after one printed line, if it raises UserError."""
    if given is None:
        return None
    try:
        return act(given, *more)
    except UserError as error:
        print(error)
        return None


def fetch_on_colab(sources: Sequence[str]) -> None:
    """Fetch these data where nobody has a terminal beside the notebook; elsewhere do nothing. A source that fails is told in one line."""
    if "google.colab" in sys.modules:
        for source in sources:
            attempt(fetch, source)


def open_authors(preset: str = "t5", seed: int = 0) -> Experiment:
    """The triple of this seed (from 0) on its base model. Raises UserError if a file, the model or a number of them is not there."""
    opened = Experiment(get_preset(preset), seed, adapters=AUTHORS)
    opened.load_adapters()
    return opened
