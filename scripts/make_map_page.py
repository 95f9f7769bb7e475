"""Make figures/map.html, the page of the tiny preset's exact map: `python scripts/make_map_page.py`.

Of the reference run's first seed and its validation prompts, as in notebook 05: the optimum is starred, and diamonds in the picture of the
mean mark the Pareto front. Under a minute. The same run gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.presets import get_preset
from emorl_lite.base.sizes import shown_bytes
from emorl_lite.exact.optimum import best_weights
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.mapping.tables import front_table
from emorl_lite.plots.map_page import page_title, save_map_page

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Options:
    """Options."""

    out: str = str(ROOT / "figures" / "map.html")
    """Where the page goes."""
    prompts: int = 0
    """Validation prompts (0: all)."""


def main() -> int:
    """Write the page."""
    options = typed(Options, __doc__)
    torch.set_num_threads(1)
    experiment = Experiment(get_preset("tiny"), seed=0, source="reference", progress=False)
    prompts = experiment.validation()
    scored = experiment.exact_map(prompts[: options.prompts or len(prompts)])
    front, _ = front_table(scored, 2**31)
    title = page_title(scored.map.domain)
    best = best_weights(scored).weights
    page = save_map_page(options.out, scored, best=best, front=front[scored.map.domain.columns].to_numpy(), title=title)
    print(f"{page}: {scored.map.summary()} The page has {shown_bytes(page.stat().st_size)}.")
    return 0


if __name__ == "__main__":
    run_script(main)
