"""The framework figure: how EMORL writes one word, and what the search does around it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from emorl_lite.plots.style import MATHS, describe, readable, styles


@readable
def framework(objectives: Sequence[str]) -> Figure:
    """EMORL as a diagram: shared base, one adapter an objective, weighted hidden states, shared head, search over the weights."""
    figure = Figure(figsize=(7.4, 1.5 + 0.8 * len(objectives)), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    n = len(objectives)
    axes.set_xlim(0, 10.4)
    axes.set_ylim(-1.5, n)
    styles_by_name = styles(objectives)
    middle = (n - 1) / 2
    _box(axes, 0.1, middle, 1.9, "client statement\n+ reply so far", "0.93")
    for i, name in enumerate(objectives):
        y = n - 1 - i
        _box(axes, 2.7, y, 2.2, f"base + {name}\nadapter", styles_by_name[name].color, alpha=0.25)
        _arrow(axes, (2.05, middle), (2.65, y))
        _arrow(axes, (4.95, y), (6.0, middle))
        axes.text(5.15, y + (0.2 if y >= middle else -0.32), f"$w_{i + 1} h_{i + 1}$", fontsize=12, gid=MATHS)
    _box(axes, 6.05, middle, 1.0, "$\\sum_i w_i h_i$", "0.93", gid=MATHS)
    _box(axes, 7.6, middle, 1.1, "shared\nhead", "0.93")
    _box(axes, 9.2, middle, 1.1, "next\nword", "0.93")
    _arrow(axes, (7.1, middle), (7.55, middle))
    _arrow(axes, (8.75, middle), (9.15, middle))
    _box(axes, 3.2, -1.1, 5.4, "hierarchical grid search for the weights\nwith the best mean score on validation clients", "white")
    _arrow(axes, (9.7, middle - 0.4), (8.65, -1.1), "arc3,rad=-0.3", "--")
    _arrow(axes, (5.9, -0.75), (6.4, middle - 0.4), "arc3,rad=0.2", "--")
    return describe(figure, framework_alt(objectives))


def framework_alt(objectives: Sequence[str]) -> str:
    """What `framework` shows."""
    return (
        f"EMORL as a diagram: client statement and reply so far go into {len(objectives)} adapters on one base ({', '.join(objectives)}), "
        "their last hidden states are added with weights, a shared head gives the next word; a search around it finds the weights."
    )


def _box(axes: Axes, x: float, y: float, width: float, text: str, color: object, alpha: float = 1.0, gid: str | None = None) -> None:
    patch = FancyBboxPatch((x, y - 0.32), width, 0.64, boxstyle="round,pad=0.03", facecolor=color, edgecolor="black", alpha=alpha)  # type: ignore[arg-type]
    axes.add_patch(patch)
    axes.text(x + width / 2, y, text, ha="center", va="center", fontsize=9, gid=gid)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], curve: str = "arc3", line: str = "-") -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, connectionstyle=curve, linestyle=line, color="black"))
