"""What a move of the point costs on the page of a map, in a browser: milliseconds a move, and frames a second.

    python benchmarks/map_page.py [--quick] [--regions 1000 10000] [--out FILE]

For each number of regions (one prompt, three corners; random convex pieces, no model) the page is written and opened in headless Chromium
(the system's, with its driver; selenium is in the extra `dev`). `move_ms`: the median of a move, with what it changes laid out at once;
`move_ms_95`: 95 of 100 take at most this. `frame_ms`: the median time between two frames while every frame moves the point; a screen of 60
frames a second has 16.7, and `late` is the share of frames that took a half longer. `mean`: the same over the mean of 16 prompts.
`--quick` moves less often. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from emorl_lite.base.browser import chromium
from emorl_lite.base.domains import simplex_domain
from emorl_lite.base.entry import run_script
from emorl_lite.base.polytopes import Piece
from emorl_lite.base.provenance import provenance
from emorl_lite.exact.exact_map import ExactMap, Region
from emorl_lite.exact.scored_map import ScoredMap
from emorl_lite.plots.map_page import save_map_page

CORNERS = ["reflection", "empathy", "fluency"]
PROMPTS = 16
"""Over which the mean is taken."""
MOVES = """
const [points, view, done] = arguments, map = document.querySelector(".emorl-map").emorlMap;
map.show(view);
const taken = [], card = document.querySelector(".card");
for (const point of points) {
  const began = performance.now();
  map.moveTo(point);
  card.getBoundingClientRect();
  taken.push(performance.now() - began);
}
const frames = [];
let i = 0, last = null;
requestAnimationFrame(function step(now) {
  if (last !== null) frames.push(now - last);
  last = now;
  if (i === points.length) return done([taken, frames]);
  map.moveTo(points[i++]);
  requestAnimationFrame(step);
});
"""


def pieces(regions: int, rng: np.random.Generator) -> list[Piece]:
    """The simplex cut into convex pieces, always the largest next."""
    order, whole = count(), simplex_domain(CORNERS).piece
    heap = [(-whole.measure, next(order), whole)]
    while len(heap) < regions:
        _, _, piece = heapq.heappop(heap)
        through, normal = rng.dirichlet(np.ones(len(piece.vertices))) @ piece.vertices, rng.normal(size=3)
        for sign in (1, -1):
            part = piece.cut(sign * (normal - normal @ through)[None])
            if part is not None:
                heapq.heappush(heap, (-part.measure, next(order), part))
    return [piece for _, _, piece in heap]


def random_map(prompts: int, regions: int) -> ScoredMap:
    """A scored map of random pieces and scores, with replies of some length."""
    rng, found = np.random.default_rng(0), list[Region]()
    for row in range(prompts):
        found += [
            Region(row, f"I hear how much this matters to you, {row} {k}. " * 3, piece, 30) for k, piece in enumerate(pieces(regions, rng))
        ]
    exact = ExactMap(CORNERS, [f"Prompt {i}." for i in range(prompts)], found)
    return ScoredMap(exact, CORNERS, rng.uniform(size=(len(found), 3)))


def walk(moves: int) -> list[list[float]]:
    """Points of a walk across the triangle, a few pixels a step: what a hand does."""
    turn = np.linspace(0, 14, moves)
    radius = 0.28 * np.abs(np.cos(1.3 * turn))
    return np.stack([1 / 3 + radius * np.cos(turn), 1 / 3 + radius * np.sin(turn)], 1).clip(0.01, 0.49).tolist()


def measured(driver: Any, path: Path, view: int | str, moves: int) -> dict[str, float]:
    """The costs of moves on a page."""
    driver.get(path.as_uri())
    taken, frames = driver.execute_async_script(MOVES, walk(moves), view)
    return {
        "move_ms": round(float(np.median(taken)), 2),
        "move_ms_95": round(float(np.quantile(taken, 0.95)), 2),
        "frame_ms": round(float(np.median(frames)), 1),
        "late": round(float(np.mean(np.array(frames) > 25)), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--regions", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--out", type=Path, help="write the JSON object here, with what made it")
    options = parser.parse_args()
    moves = 60 if options.quick else 600
    record: dict[str, Any] = {}
    with chromium() as driver, tempfile.TemporaryDirectory() as folder:
        for regions in options.regions:
            path = save_map_page(Path(folder) / f"{regions}.html", random_map(1, regions))
            record[str(regions)] = {"bytes": path.stat().st_size} | measured(driver, path, 0, moves)
            print(f"{regions:,} regions: {record[str(regions)]}", flush=True)
        path = save_map_page(Path(folder) / "mean.html", random_map(PROMPTS, options.regions[0] // PROMPTS))
        record["mean"] = {"bytes": path.stat().st_size} | measured(driver, path, "mean", moves)
        print(f"mean over {PROMPTS} prompts: {record['mean']}", flush=True)
    if options.out:
        made = provenance(command="python benchmarks/map_page.py", seed=0, **record)
        options.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    run_script(main)
