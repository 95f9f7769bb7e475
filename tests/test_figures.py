"""What a reader needs of every figure: texts inside the picture, read on what lies behind them, at 700 pixels too; every mark explained."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_exact_fronts import LINE, made_map
from test_exact_fronts import of_study as of_sweeps
from test_plots import DRAWINGS as OF_TRAINING
from test_plots import search_table
from test_readings_real import prompts as of_prompts
from test_scored_map import made
from test_study import made_up

from emorl_lite import plots
from emorl_lite.base.presets import OBJECTIVES
from emorl_lite.exact.optimum import best_weights
from emorl_lite.exact.overlay import overlay
from emorl_lite.plots.style import DPI, READ, SEEN, contrast, describe
from emorl_lite.readings.real import differences
from emorl_lite.study.claims import examined
from emorl_lite.study.comparison import representative
from emorl_lite.study.consumed import SPENT, paper_spending

SHOWN = 700
"""Width in pixels of a notebook's output beside JupyterLab's file list on a small laptop."""
SMALLEST = 8.5
"""Height in pixels of the smallest font there."""
NAMES = list(OBJECTIVES)


def of_study(draw: Callable[[dict[str, pd.DataFrame], pd.DataFrame], Figure]) -> Callable[[], Figure]:
    def drawn() -> Figure:
        tables = made_up(2)
        return draw(tables, representative(tables["rows"]))

    return drawn


def of_search() -> pd.DataFrame:
    rows = [("random", "0.0", e, 0.5 / e) for e in range(1, 40)] + [("grid", f"0.{s}", e, 0.3 / e) for s in range(3) for e in range(1, 30)]
    return pd.DataFrame(rows, columns=["search", "run", "evaluation", "regret"])


def of_clients() -> pd.DataFrame:
    rows = [(s, a, n, 0.7 + 0.1 * a, 0.5 + 0.1 * a + n / 100) for s in ("exact map", "hierarchical") for a in (0, 1) for n in (8, 16, 32)]
    return pd.DataFrame(rows, columns=["search", "adapters", "clients", "promised", "test"])


def of_costs() -> pd.DataFrame:
    searches = ("hierarchical", "exact map", "formula: full grid")
    rows = [("d", v, s, "evaluations", 3.0**v * (1 + i)) for i, s in enumerate(searches) for v in (2, 3, 4)]
    return pd.DataFrame(rows, columns=["varied", "value", "search", "unit", "cost"])


def of_growth() -> pd.DataFrame:
    rows = [
        (v, k, s, 100.0 * k**p)
        for v in ("prompts", "reply tokens")
        for k in (8, 16, 32)
        for s, p in (("hierarchical", 0.6), ("exact map", 0.9))
    ]
    return pd.DataFrame(rows, columns=["varied", "value", "search", "cost"])


def of_samples() -> pd.DataFrame:
    rows = [(seed, n, 0.4 + 0.05 / n**0.5, 0.4, 0.05 / n**0.5, 0.03 / n**0.5) for seed in range(3) for n in (1, 2, 4, 8)]
    return pd.DataFrame(rows, columns=["seed", "samples", "promised", "fresh", "optimism", "error"])


def of_words_won() -> dict[str, np.ndarray]:
    top, left = [0.3, 0.0, 0.7], [0.0, 0.4, 0.6]
    return {"I": np.array([[1, 0, 0], top, left, [0, 0.9, 0.1], [0.1, 0.9, 0]]), "Let": np.array([[0, 0, 1], top, left])} | {
        "That": np.array([[0, 1, 0], [0, 0.9, 0.1], [0.1, 0.9, 0]])
    }


def of_cubes() -> pd.DataFrame:
    return search_table().assign(what="hidden", seed=0)


def of_paper() -> pd.DataFrame:
    methods, sources = ("EMORL", "DynaOpt", "uniform"), ("paper", "tiny")
    return pd.DataFrame([{"method": m, "source": s, "mean": 0.5, "std": 0.1} for m in methods for s in sources])


def of_surface() -> pd.DataFrame:
    rows = [
        (search, d, short, 10 * 3**d * (1 + i), k, search != "random" or d < 4)
        for i, search in enumerate(("hierarchical", "full grid", "random", "bayesian"))
        for d in (2, 3, 4, 5)
        for short in (0.1, 0.05, 0.01)
        for k in range(3)
    ]
    return pd.DataFrame(rows, columns=["search", "d", "shortfall", "evaluations", "seed", "reached"])


def of_spending() -> dict[str, pd.DataFrame]:
    counts = {"base": (("", 0),), "uniform": (("", 1300),), "exact-average": (("longest run", 1100), ("sum of runs", 2700))}
    counts["emorl"] = (*counts["exact-average"], ("longest run + search", 3300), ("sum of runs + search", 4900))
    rows = [
        (method, way, seed, points + 40 * seed * bool(points), False, 60.0, 0.6 + seed / 50)
        for method, ways in counts.items()
        for way, points in ways
        for seed in range(3)
    ]
    return {"tiny": pd.DataFrame(rows, columns=SPENT)}


def of_curves() -> pd.DataFrame:
    rows = [
        (seed, run, 32 * step, step / 20 + seed / 30, step / 15 if step % 4 == 0 else np.nan, step * (1 + seed))
        for run in (*NAMES, "uniform", "dynaopt")
        for seed in range(2)
        for step in range(1, 13)
    ]
    return pd.DataFrame(rows, columns=["seed", "run", "episodes", "reward", "validation", "kl"])


def of_replies() -> pd.DataFrame:
    return pd.DataFrame(
        [{"method": m, "reply": "You are tired of it and that is hard."} | dict.fromkeys(NAMES, 0.4) for m in ("base", "uniform", "emorl")]
    )


def of_small_runs() -> pd.DataFrame:
    rows = [(run, seed, 32 * k, k / 10, 2.0 * k) for run in ("PPO", "no clip", "RLOO") for seed in (0, 1) for k in range(1, 9)]
    return pd.DataFrame(rows, columns=["run", "seed", "samples", "reward", "kl"])


def of_losses() -> pd.DataFrame:
    return pd.DataFrame([(o, k, 1 / (1 + k)) for o in NAMES[:2] for k in range(60)], columns=["objective", "step", "loss"])


def of_words() -> pd.DataFrame:
    said = ["I", "hear", "that", "you", "are", "scared", "because", "your", "newborn", "cries", "every", "nine", "minutes"]
    return pd.DataFrame(
        [(reply, word, (-1.0) ** i * i / 3) for reply in ("first", "second") for i, word in enumerate(said)],
        columns=["reply", "word", "ratio"],
    )


def of_clip() -> pd.DataFrame:
    ratios = np.linspace(0.4, 1.6, 25)
    return pd.concat([pd.DataFrame({"advantage": a, "ratio": ratios, "loss": -a * ratios, "gradient": -a * ratios}) for a in (1, -1)])


DRAWINGS: dict[str, Callable[[], Figure]] = OF_TRAINING | {
    "small_runs": lambda: plots.small_runs(of_small_runs(), {"reward": "reward", "kl": "KL to the base"}),
    "classifier_loss": lambda: plots.classifier_loss(of_losses()),
    "word_ratios": lambda: plots.word_ratios(of_words()),
    "clip_cases": lambda: plots.clip_cases(of_clip(), 0.2),
    "advantage_lines": lambda: plots.advantage_lines(
        ["I", "hear", "that", "you", "are", "scared", "."], {lam: np.linspace(lam - 1, 1, 7).tolist() for lam in (0.0, 0.95, 1.0)}
    ),
    "decision_line": lambda: plots.decision_line(
        np.array([[3.0, 2.5, 0.0, 1.0], [0.0, 1.5, 2.0, 1.0]]),
        [(0, 0.25, 0), (0.25, 5 / 6, 1), (5 / 6, 1, 2)],
        ["That", "I", "Let"],
        NAMES[:2],
    ),
    "decision_triangle": lambda: plots.decision_triangle(of_words_won(), NAMES, ["That", "I"]),
    "prompt_map": lambda: plots.prompt_map(made(3), 1),
    "mean_map": lambda: plots.mean_map(overlay(made(3)), None, best_weights(made(3)).weights),
    "two_objective_map": lambda: plots.two_objective_map(made(2)),
    "achievable_scores": lambda: plots.achievable_scores(overlay(made(3))),
    "reachable_directions": lambda: plots.reachable_directions(search_table()),
    "regret_curves": lambda: plots.regret_curves(of_search()),
    "sample_sizes": lambda: plots.sample_sizes(of_samples()),
    "temperature_line": lambda: plots.temperature_line(np.geomspace(0.1, 1.6, 60), np.random.default_rng(0).random((59, 3)), NAMES, 0.5),
    "promise_and_test": lambda: plots.promise_and_test(of_clients()),
    "search_costs": lambda: plots.search_costs(of_costs()),
    "search_growth": lambda: plots.search_growth(of_growth()),
    "forest": of_study(lambda tables, rows: plots.forest(rows, "mean", "mean score")),
    "fronts": of_study(lambda tables, rows: plots.fronts(tables["sweep"], ["clp-full", "panacea", "prompted", "uniform"], tables["front"])),
    "line_scores": lambda: plots.line_scores(made_map(LINE, regions=6), [0.0, 1.0, 2.0], 1.2),
    "differences_forest": lambda: plots.differences_forest(differences(of_prompts(noise=0.1, seeds=3, clients=10))),
    "exact_beside_sweep": lambda: plots.exact_beside_sweep(of_sweeps()),
    "decoding_cost": of_study(lambda tables, rows: plots.decoding_cost(rows)),
    "aggregation_levels": of_study(lambda tables, rows: plots.aggregation_levels(tables["levels"])),
    "weight_sweep": of_study(lambda tables, rows: plots.weight_sweep(tables["sweep"], ["clp-full", "panacea", "prompted"])),
    "kl_trade_off": of_study(lambda tables, rows: plots.kl_trade_off(tables["sweep"], rows, ["uniform", "base"])),
    "claims_figure": of_study(lambda tables, rows: plots.claims_figure(examined(tables))),
    "framework": lambda: plots.framework(NAMES),
    "cost_surfaces": plots.cost_surfaces,
    "measured_costs": lambda: plots.measured_costs(of_surface()),
    "paper_consumption": lambda: plots.paper_consumption(paper_spending(), of_spending()),
    "learning_bands": lambda: plots.learning_bands(of_curves()),
    "cubes": lambda: plots.cubes(of_cubes(), NAMES, "hidden"),
    "paper_and_ours": lambda: plots.paper_and_ours(of_paper()),
    "task_example": lambda: plots.task_example("I am tired of my work.", of_replies(), NAMES),
}
OWN_LABELS = {
    "framework": "a diagram: its boxes hold their names",
    "cost_surfaces": "a table of numbers",
    "measured_costs": "a table of numbers",
    "redundancy": "the title counts its points",
    "reward_violins": "each stands over its name",
    "decoding_cost": "each stands beside its name",
    "prompt_map": "regions are numbered, and spelled out beside",
    "two_objective_map": "bars of a colour scale",
}
"""Figures whose marks are named where they stand."""


def texts(figure: Figure) -> list[Text]:
    """What one reads: not the labels of ticks outside an axis, nor those of axes that are off."""
    figure.draw_without_rendering()
    hidden = {t for axes in figure.axes if not axes.axison for axis in (axes.xaxis, axes.yaxis) for t in axis.findobj(Text)}
    outside = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            outside |= {t for tick in ticks if not low <= tick.get_loc() <= high for t in (tick.label1, tick.label2)}
    found = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_visible() and t.get_text().strip()]
    return [t for t in found if t not in hidden | outside and (t.axes is None or t.axes.get_visible())]


def outside_the_picture(figure: Figure) -> list[str]:
    edge = figure.bbox.padded(1)
    boxes = {t: t.get_window_extent() for t in texts(figure)}
    return [t.get_text() for t, b in boxes.items() if b.x0 < edge.x0 or b.x1 > edge.x1 or b.y0 < edge.y0 or b.y1 > edge.y1]


def too_faint(figure: Figure) -> list[str]:
    """Texts whose contrast to what the picture has behind them is less than 4.5."""
    shown = texts(figure)
    boxes = {t: t.get_window_extent() for t in shown}
    for text in shown:
        text.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    for text in shown:
        text.set_alpha(None)
    height, faint = picture.shape[0], []
    for text, box in boxes.items():
        part = picture[max(0, int(height - box.y1)) : int(height - box.y0) + 1, max(0, int(box.x0)) : int(box.x1) + 1].reshape(-1, 3)
        halo = [e for e in text.get_path_effects() if hasattr(e, "_gc")]
        behind = to_rgb(halo[0]._gc.get("foreground", "white")) if halo else tuple(np.median(part, axis=0))
        ratio = contrast(to_rgb(text.get_color()), behind)
        if ratio < READ - 0.05:
            faint.append(f"{text.get_text()!r}: {ratio:.1f}")
    return faint


def too_small(figure: Figure) -> list[str]:
    scale = DPI / 72 * min(1, SHOWN / (figure.get_figwidth() * DPI))
    return [f"{t.get_text()!r}: {t.get_fontsize() * scale:.1f} px" for t in texts(figure) if t.get_fontsize() * scale < SMALLEST]


def piled(figure: Figure) -> list[str]:
    """Pairs of texts that cover each other by more than a fifth of the smaller one."""
    found = []
    for one, two in itertools.combinations(texts(figure), 2):
        a, b = one.get_window_extent(), two.get_window_extent()
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if width > 0 and height > 0 and width * height > 0.2 * min(a.width * a.height, b.width * b.height) and not one.get_rotation():
            found.append(f"{one.get_text()!r} and {two.get_text()!r}")
    return found


def looks(axes: Axes) -> set[tuple[object, ...]]:
    """The marks of a panel, told apart as a reader does: by kind, colour, line style and marker."""
    seen: set[tuple[object, ...]] = set()
    for line in axes.get_lines():
        if len(np.atleast_1d(line.get_xdata())):
            seen.add(("line", to_rgb(line.get_color()), str(line.get_linestyle()), str(line.get_marker())))
    for marks in axes.collections:
        if marks.get_array() is None and len(marks.get_facecolor()) == 1:
            seen.add(("marks", *to_rgb(marks.get_facecolor()[0])))
    return seen


def unexplained(figure: Figure) -> list[str]:
    """Panels with several kinds of marks in a figure that has no legend; marks that want a legend's line (have a label) and have none."""
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    named = {text.get_text() for legend in legends for text in legend.get_texts()}
    found = [f"panel {i}: {len(looks(axes))} kinds of marks" for i, axes in enumerate(figure.axes) if len(looks(axes)) > 1 and not legends]
    for axes in figure.axes:
        labels = [label for label in axes.get_legend_handles_labels()[1] if not label.startswith("_")]
        found += [f"no line for {label!r}" for label in labels if legends and label not in named]
    return found


@pytest.fixture(scope="module", params=DRAWINGS)
def drawn(request) -> tuple[str, Figure]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = DRAWINGS[request.param]()
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
    return request.param, figure


@pytest.mark.parametrize("faults", [outside_the_picture, too_faint, too_small, piled], ids=lambda f: f.__name__)
def test_texts_are_read(drawn, faults):
    assert not faults(drawn[1])


def test_every_mark_is_explained(drawn):
    name, figure = drawn
    if name not in OWN_LABELS:
        assert not unexplained(figure)


def test_every_figure_tells_itself_in_words(drawn):
    name, figure = drawn
    if name not in NO_WORDS:
        assert re.search(r"\w+ \w+ \w+", getattr(figure, "alt_text", "")), f"{name}: describe(figure, {name}_alt(...))"


NO_WORDS = {"consumption_scatter", "level_comparison"}


def test_faults_are_found():
    figure = Figure(figsize=(10, 3), dpi=DPI)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="red")
    axes.plot([0, 1], [1, 0], color="blue")
    axes.text(0.5, 0.5, "faint", color="0.8")
    axes.text(0.5, 0.52, "over", size=5)
    axes.text(1.2, 0.5, "beyond the edge")
    assert outside_the_picture(figure) == ["beyond the edge"]
    assert too_faint(figure)[0].startswith("'faint'") and any("over" in text for text in too_small(figure))
    assert piled(figure) and unexplained(figure) == ["panel 0: 2 kinds of marks"]
    axes.legend(handles=axes.get_lines(), labels=["a", "b"])
    assert not unexplained(figure) and contrast(to_rgb("red")) > SEEN
    assert describe(figure, "Two lines that cross.") is figure
