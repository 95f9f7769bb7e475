"""The figure of the real study's main comparison: how far EMORL lies above or below each of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from emorl_lite.base.wording import listing, number, told
from emorl_lite.plots.style import Color, describe, name_axes, need, panels, readable
from emorl_lite.readings.real import ABOVE, BELOW, CLOSE, OPEN, called, records
from emorl_lite.study.claims import GREEDY, SAMPLED

LOOKS: dict[str, tuple[str, Color, float]] = {SAMPLED: ("o", (0.1, 0.1, 0.1), -0.16), GREEDY: ("s", (0.1, 0.4, 0.65), 0.16)}
"""Marker, colour and height beside the middle of a row, by decoding."""
NEEDED = ("first", "second", "decoding", "utility", "difference", "low", "high", "verdict")


@readable
def differences_forest(found: pd.DataFrame) -> Figure:
    """The first method's score less each of the others', a row a method, sampled above greedy, with intervals over seeds and prompts.

    `found`: `readings.real.differences`. Full marks are decided by Holm's procedure, hollow ones open; in the band two methods are as good
    as equal.
    """
    need(found, NEEDED, "differences_forest")
    methods = list(dict.fromkeys(found["second"]))
    figure, (axes,) = panels(1, width=7.0, height=0.42 * len(methods) + 1.7)
    axes.axvspan(-CLOSE, CLOSE, color="0.9", zorder=0)
    axes.axvline(0, color="black", linewidth=1)
    for row in records(found):
        marker, color, shift = LOOKS[row["decoding"]]
        y = methods.index(row["second"]) + shift
        if np.isfinite(row["low"]):
            axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=3, alpha=0.5)
        face: Any = "white" if row["verdict"] == OPEN else color
        axes.scatter(row["difference"], y, marker=marker, s=50, facecolor=face, edgecolor=color, zorder=5)
    axes.set_yticks(range(len(methods)), [called(str(method)) for method in methods])
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.grid(axis="y", alpha=0.15)
    name_axes(axes, f"{called(found['first'].iloc[0])} less it, {found['utility'].iloc[0]} of the objectives", "")
    figure.set_layout_engine("constrained", w_pad=0.1)
    figure.legend(handles=_marks(set(found["decoding"])), loc="outside upper center", ncols=3)
    return describe(figure, differences_forest_alt(found))


def _marks(decodings: set[str]) -> list[Any]:
    """What the marks mean."""
    marks: list[Any] = []
    for decoding, (marker, color, _) in LOOKS.items():
        if decoding in decodings:
            marks.append(Line2D([], [], marker=marker, color=color, linewidth=3, alpha=0.8, label=f"{decoding}, 95 % interval"))
    hollow: Any = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": "0.2"}
    return [*marks, Line2D([], [], marker="o", label="hollow: open", **hollow), Patch(color="0.9", label=f"within ±{number(CLOSE)}")]


def differences_forest_alt(found: pd.DataFrame) -> str:
    """What `differences_forest` shows: every difference with its interval, by verdict."""
    parts = []
    for decoding in LOOKS:
        rows = records(found[found["decoding"] == decoding])
        sides = {ABOVE: "right of zero (above)", BELOW: "left of zero (below)", OPEN: "open, hollow"}
        said = [
            f"{side} {listing(named)}" for verdict, side in sides.items() if (named := [_named(r) for r in rows if r["verdict"] == verdict])
        ]
        if said:
            parts.append(f"{decoding}: {'; '.join(said)}")
    first = called(found["first"].iloc[0])
    return (
        f"Forest plot: {first}'s score less each of the others', with intervals over seeds and prompts and a band of ±{number(CLOSE)} at "
        f"zero. {'. '.join(part[0].upper() + part[1:] for part in parts)}."
    )


def _named(row: Mapping[str, Any]) -> str:
    return f"{called(row['second'])} {told({'mean': row['difference'], 'low': row['low'], 'high': row['high']})}"
