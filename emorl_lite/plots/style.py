"""How figures look and where they go: styles that do not rely on colour alone, reproducible files, alternative text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from PIL import Image

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import write_via
from emorl_lite.base.paths import figures_root
from emorl_lite.base.shown_text import as_html

DPI = 110
"""Resolution of the PNG, in dots per inch: readable in a notebook, a few ten kB."""

RC = {
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.markersize": 6,
    "pdf.fonttype": 42,  # text stays text
}


DATA_POINTS = "data points (training prompts)"
THOUSANDS = FuncFormatter(lambda x, _: f"{x:,.0f}")


Color = tuple[float, float, float]


class Style(NamedTuple):
    """One colour, marker and line style that a name keeps in every figure."""

    color: Color
    marker: str
    linestyle: Any


SEEN, READ = 3.0, 4.5
"""Contrasts to the white of a figure that lines and markers, and texts, have at least (WCAG 2.2, 1.4.11 and 1.4.3)."""


def contrast(one: Color, other: Color = (1.0, 1.0, 1.0)) -> float:
    """The ratio of two colours' luminances, 1 to 21, as WCAG 2.2 defines it. Colours are red, green, blue in [0, 1]."""

    def luminance(color: Color) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def ink(behind: Sequence[float]) -> str:
    """The colour of a text on this one (red, green, blue, perhaps opacity), black or white: whichever is read more easily."""
    opacity = behind[3] if len(behind) > 3 else 1.0
    red, green, blue = (opacity * part + 1 - opacity for part in behind[:3])
    return "black" if contrast((red, green, blue), (0.0, 0.0, 0.0)) >= contrast((red, green, blue)) else "white"


def _seen(color: Color) -> Color:
    """This colour, darkened until it is seen on white."""
    while contrast(color) < SEEN:
        color = (0.98 * color[0], 0.98 * color[1], 0.98 * color[2])
    return color


_COLORS = [_seen(color) for color in sns.color_palette("colorblind")]  # told apart by all readers; its light ones are too faint

OBJECTIVE_STYLE: dict[str, Style] = {
    "reflection": Style(_COLORS[0], "o", "-"),
    "empathy": Style(_COLORS[1], "s", "--"),
    "fluency": Style(_COLORS[2], "^", "-."),
}
METHOD_STYLE: dict[str, Style] = {
    "base": Style(_COLORS[7], "X", ":"),
    "single-objective": Style((0.2, 0.2, 0.2), "D", (0, (2, 2))),
    "ensemble": Style(_COLORS[3], "*", (0, (8, 1.5))),
    "parameters": Style((0.36, 0.2, 0.62), "P", (0, (6, 1, 1, 1))),
    "probabilities": Style(_COLORS[4], "v", (0, (5, 1))),
    "uniform": Style(_COLORS[9], "h", (0, (3, 1, 1, 1, 1, 1))),
    "uniform-wide": Style(_COLORS[9], "H", (0, (1, 1))),
    "dynaopt": Style((0.68, 0.54, 0.0), ">", "-."),
    "c-dynaopt": Style((0.68, 0.54, 0.0), "<", ":"),
    "grpo": Style((0.0, 0.4, 0.4), "p", "--"),
    "gdpo": Style((0.0, 0.4, 0.4), "X", (0, (2, 1, 1, 1))),
    "ensemble, summed": Style(_COLORS[3], "P", (0, (3, 2))),
    "ensemble, searched": Style((0.5, 0.22, 0.0), "*", (0, (2, 2))),
    "ensemble, summed and searched": Style((0.5, 0.22, 0.0), "P", (0, (3, 2, 1, 2))),
    "mod-reverse": Style(_COLORS[3], "8", (0, (1, 1))),
    "mod-forward": Style((0.3, 0.36, 0.1), "8", (0, (4, 2, 1, 2))),
    "soup": Style((0.8, 0.2, 0.5), "d", (0, (3, 1))),
    "bone-soups": Style((0.8, 0.2, 0.5), "o", (0, (5, 1, 1, 1))),
    "personalized-soups": Style(_COLORS[5], "^", (0, (1, 2))),
    "dera": Style((0.45, 0.1, 0.1), "s", "--"),
    "genarm": Style((0.45, 0.1, 0.1), "D", (0, (2, 1))),
    "prompted": Style(_COLORS[2], "v", (0, (4, 1, 1, 1))),
    "clp-full": Style(_COLORS[0], "p", "-"),
    "clp-attention": Style(_COLORS[0], "s", "--"),
    "clp-logit": Style(_COLORS[0], "^", ":"),
    "clp-kl": Style(_COLORS[0], "D", "-"),
    "panacea": Style(_COLORS[1], "P", "-."),
    "panacea-tchebycheff": Style(_COLORS[1], "X", (0, (3, 1, 1, 1))),
    "rewards-in-context": Style((0.5, 0.5, 0.0), "d", (0, (6, 2))),
}
SEARCH_STYLE: dict[str, Style] = {
    "hierarchical": Style(_COLORS[0], "o", "-"),
    "hierarchical-simplex": Style(_COLORS[9], "h", (0, (5, 1))),
    "grid": Style(_COLORS[7], "s", ":"),
    "random": Style((0.2, 0.2, 0.2), "x", "--"),
    "bayesian": Style(_COLORS[2], "^", "-."),
    "ucb": Style(_COLORS[4], "v", (0, (3, 1, 1, 1))),
    "exact map": Style(_COLORS[3], "*", (0, (8, 1.5))),
    "full grid": Style(_COLORS[5], "P", (0, (1, 1))),
}
_ALIASES = {
    "hidden": "ensemble",
    "emorl": "ensemble",
    "emorl (longest run)": "ensemble",
    "emorl (sum of runs)": "ensemble, summed",
    "emorl (longest run + search)": "ensemble, searched",
    "emorl (sum of runs + search)": "ensemble, summed and searched",
    "emorl, exact map": "exact map",
    "emorl-long, exact map": "exact map",
    "parameters (exact)": "parameters",
    "exact-average": "parameters",
    "linear-pool": "probabilities",
    "rewarded-soups": "soup",
}
_SPARE = [
    Style((0.0, 0.4, 0.4), "p", (0, (1, 1))),
    Style((0.45, 0.1, 0.1), "<", (0, (4, 2, 1, 2))),
    Style((0.5, 0.5, 0.0), ">", (0, (6, 2))),
    Style((0.3, 0.3, 0.6), "8", (0, (2, 1))),
    Style((0.6, 0.3, 0.5), "H", (0, (5, 2, 1, 1))),
]


def styles(names: Iterable[str]) -> dict[str, Style]:
    """The style of each name: fixed for the known objectives and methods, spare ones in order of appearance for others."""
    known_styles = OBJECTIVE_STYLE | METHOD_STYLE | SEARCH_STYLE
    chosen: dict[str, Style] = {}
    unknown = 0
    for name in dict.fromkeys(names):
        stem = name.removesuffix("-long")
        style = known_styles.get(_ALIASES.get(name, name)) or known_styles.get(_ALIASES.get(stem, stem))
        if style and stem != name:  # the same method with more data: the same marker, darker
            style = style._replace(color=(0.78 * style.color[0], 0.78 * style.color[1], 0.78 * style.color[2]))
        chosen[name] = style or _SPARE[unknown % len(_SPARE)]
        unknown += style is None
    return chosen


P = ParamSpec("P")
R = TypeVar("R")


def readable(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under this module's settings, whatever the notebook has set. Texts in the figure are shown as they are."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(RC):  # type: ignore[arg-type]
            made = draw(*args, **kwargs)
            if isinstance(made, Figure):
                _without_maths(made)
            return made

    return drawn


MATHS = "maths"
"""Group id of a text that is meant as mathematics."""


def _without_maths(figure: Figure) -> None:
    """Take $ as a dollar in every text but those marked as mathematics, and the powers along a logarithmic axis."""
    powers = set[Any]()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                powers |= set(axis.findobj(Text)) - {axis.label}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in powers and text.get_gid() != MATHS:
            text.set_parse_math(False)


def panels(columns: int, width: float = 4.2, height: float = 3.6, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with one row of panels, sizes in inches. Unknown to pyplot, so that no figure stays open or shows twice."""
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, columns, squeeze=False, **options)))


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Label both axes; data points are counted with thousands separators."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if x == DATA_POINTS:
        axes.xaxis.set_major_formatter(THOUSANDS)


def need(table: pd.DataFrame, columns: Iterable[str], figure: str) -> None:
    """Raise UserError if the table of this figure is empty or lacks a column."""
    for column in columns:
        if column not in table.columns:
            raise UserError(f"figure {figure}: the table has no column {column!r}; it has {', '.join(map(str, table.columns))}")
    if table.empty:
        raise UserError(f"figure {figure}: the table is empty")


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as a png or pdf file. The same figure gives the same bytes: no date, no version of the drawing library."""
    buffer = BytesIO()
    metadata = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None, "Creator": None}
    with matplotlib.rc_context(RC):  # type: ignore[arg-type]
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # keep this layout: laid out again, it would move a little
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)  # type: ignore[arg-type]
    return _with_palette(buffer) if kind == "png" else buffer.getvalue()


def _with_palette(png: BytesIO) -> bytes:
    """The picture with 256 colours: a third of the size, and no difference that one sees."""
    small = BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def describe(figure: Figure, alt: str) -> Figure:
    """Give a figure its alternative text, what it shows in a sentence or two (`figure.alt_text`), and return it.

    Raises UserError for an empty text.
    """
    if not alt.strip():
        raise UserError("the alternative text of a figure is empty; say in a sentence what the figure shows")
    figure.alt_text = alt  # type: ignore[attr-defined]
    return figure


def in_words(alt: str) -> str:
    """The alternative text as HTML that unfolds below the figure: the form that every page keeps, and useful to all readers."""
    return f"<details><summary>The figure in words</summary><p>{as_html(alt)}</p></details>"


def show(figure: Figure, name: str, alt: str | None = None, folder: Path | None = None) -> None:
    """Write <folder>/<name>.png and .pdf, show the PNG if this is a notebook, and close the figure.

    `alt` tells what the figure shows to whoever cannot see it: the figure's own text (`describe`) by default.
    `folder`: `figures_root()` by default. Raises UserError without an alternative text, or for a name that is no plain file name.
    """
    alt = alt if alt is not None else getattr(figure, "alt_text", "")
    if not alt.strip():
        raise UserError(f"figure {name!r}: the alternative text is empty; say in a sentence what the figure shows")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"figure {name!r}: expected a plain file name without folder")
    folder = Path(folder or figures_root())
    folder.mkdir(parents=True, exist_ok=True)
    png = figure_bytes(figure, "png")
    write_via(folder / f"{name}.png", lambda file: file.write_bytes(png))
    write_via(folder / f"{name}.pdf", lambda file: file.write_bytes(figure_bytes(figure, "pdf")))
    plt.close(figure)
    if in_notebook():
        from IPython.display import display

        display({"image/png": png, "text/plain": alt}, raw=True, metadata={"image/png": {"alt": alt}})
        # Colab, MyST and nbconvert's classic page read the alternative text there; JupyterLab, nbconvert and GitHub drop it
        display({"text/html": in_words(alt), "text/plain": ""}, raw=True)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code (and not a script, a test or a terminal)."""
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
