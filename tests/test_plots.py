import base64
import itertools
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from emorl_lite import plots
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OBJECTIVES, SearchConfig
from emorl_lite.plots import style as figures
from emorl_lite.plots.style import METHOD_STYLE, OBJECTIVE_STYLE, describe, figure_bytes, show, styles
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.tutorial.execution import execute

POLICIES = ["base", *OBJECTIVES, "ensemble"]


def training_log(seeds=2, steps=32):
    rng = np.random.default_rng(0)
    rows = []
    for (i, name), seed, step in itertools.product(enumerate(OBJECTIVES), range(seeds), range(1, steps + 1)):
        progress = 1 - np.exp(-step / 10)
        scores = {other: 0.3 + 0.1 * j - 0.15 * progress + rng.normal(0, 0.02) for j, other in enumerate(OBJECTIVES)}
        scores[name] = 0.25 + 0.1 * i + 0.5 * progress + rng.normal(0, 0.04)
        validation = scores[name] + 0.08 if step % 8 == 0 else np.nan
        run = {
            "objective": name,
            "seed": seed,
            "episodes": 64 * step,
            "reward": scores[name],
            "kl": (4 + i) * progress + rng.normal(0, 0.2),
        }
        rows.append(run | {"validation": validation} | {o: s for o, s in scores.items() if o != name})
    return pd.DataFrame(rows)


def scored_replies():
    rng = np.random.default_rng(1)
    rows = []
    for (i, policy), (j, objective) in itertools.product(enumerate(POLICIES), enumerate(OBJECTIVES)):
        a = 6 if policy in (objective, "ensemble") else 2
        rows += [{"policy": policy, "objective": objective, "score": s} for s in rng.beta(a, 2 + (i + j) % 2, 60)]
    return pd.DataFrame(rows)


def predictions():
    rng = np.random.default_rng(2)
    rows = []
    for name, sharp in (("reflection", 1.0), ("empathy", 0.7)):
        for predicted in rng.beta(0.6, 0.6, 400):
            label = int(rng.random() < 0.5 + sharp * (predicted - 0.5))
            rows.append({"objective": name, "predicted": round(predicted, 3), "label": label})
    return pd.DataFrame(rows)


@cache
def search_table():
    def evaluate(weights):
        total = sum(weights)
        shares = [w / total for w in weights]
        best = (0.55, 0.3, 0.15)
        return {name: 0.85 - (s - b) ** 2 for name, s, b in zip(OBJECTIVES, shares, best, strict=True)}

    return hierarchical_grid_search(evaluate, OBJECTIVES, SearchConfig(), progress=False).table


def consumption():
    facts = {
        "base": (0, 0.34),
        "single-objective": (6100, 0.55),
        "uniform": (7600, 0.80),
        "ensemble": (6144, 0.77),
        "parameters": (6200, 0.71),
    }
    rng = np.random.default_rng(3)
    rows = []
    for (method, (points, mean)), seed in itertools.product(facts.items(), range(4)):
        rows.append({"method": method, "seed": seed, "data_points": points * rng.normal(1, 0.1), "mean": mean + rng.normal(0, 0.015)})
    return pd.DataFrame(rows)


def levels():
    rng = np.random.default_rng(4)
    rows = []
    for level, top in (("hidden", 0.80), ("probabilities", 0.76), ("parameters (exact)", 0.71), ("soup", 0.66)):
        for w in itertools.product((0.0, 0.5, 1.0), repeat=3):
            if any(w):
                mean = top - 0.2 * np.std(w) - rng.uniform(0, 0.05)
                rows.append({"level": level, **{f"w_{o}": x for o, x in zip(OBJECTIVES, w, strict=True)}, "mean": mean})
    return pd.DataFrame(rows)


SHORTCUTS = pd.DataFrame(
    {
        "shortcut": ["empty reply", "one phrase repeated", "never ending", "prompt copied"],
        "before": [0.5, 0.93, 0.85, 0.7],
        "after": [0, 0.1, 0, 0.4],
    }
)

RATIOS = pd.DataFrame(
    {
        "reply": ["this client's"] * 5 + ["another client's"] * 4,
        "word": ["you", "feel", "scared", ".", "<eos>", "your", "lungs", "$", "<eos>"],
        "ratio": [0.1, 0.0, 2.0, -0.1, 0.0, 0.3, -3.2, -0.1, 0.0],
    }
)

DRAWINGS = {
    "learning_curves": lambda: plots.learning_curves(training_log()),
    "cross_scores": lambda: plots.cross_scores(training_log()),
    "reward_violins": lambda: plots.reward_distributions(scored_replies()),
    "reward_ecdf": lambda: plots.reward_distributions(scored_replies(), kind="ecdf"),
    "calibration": lambda: plots.calibration(predictions()),
    "roc_curves": lambda: plots.roc_curves(predictions()),
    "shortcut_bars": lambda: plots.shortcut_bars(SHORTCUTS),
    "word_ratios": lambda: plots.word_ratios(RATIOS),
    "search_levels": lambda: plots.search_levels(search_table()),
    "redundancy": lambda: plots.redundancy(search_table().query("level == 1")),
    "consumption_scatter": lambda: plots.consumption_scatter(consumption()),
    "level_comparison": lambda: plots.level_comparison(levels()),
}


@pytest.fixture(scope="module")
def drawn():
    """Every figure, drawn once with warnings turned into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = {name: draw() for name, draw in DRAWINGS.items()}
        for figure in made.values():
            figure_bytes(figure, "png")
    return made


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_with_labels(drawn, name):
    figure = drawn[name]
    assert isinstance(figure, Figure)
    data_axes = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert data_axes
    for number, axes in enumerate(data_axes):
        if name == "redundancy":
            assert {f"only {o}" for o in OBJECTIVES} <= {text.get_text() for text in axes.texts}
            continue
        assert axes.get_xlabel()
        assert axes.get_ylabel() or (number > 0 and axes.get_shared_y_axes().joined(axes, data_axes[0]))
        assert not hasattr(axes, "get_zlabel") or axes.get_zlabel()


@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_do_not_leave_the_figure(drawn, name):
    figure = drawn[name]
    figure.draw_without_rendering()
    edge = figure.bbox
    texts = [a.xaxis.label for a in figure.axes] + [a.yaxis.label for a in figure.axes] + [a.title for a in figure.axes]
    texts += [text for a in figure.axes for text in a.texts]
    texts += [a.zaxis.label for a in figure.axes if hasattr(a, "zaxis")]
    for text in (t for t in texts if t.get_text() and t.get_visible()):
        box = text.get_window_extent()
        assert box.x0 >= edge.x0 - 1 and box.x1 <= edge.x1 + 1 and box.y0 >= edge.y0 - 1 and box.y1 <= edge.y1 + 1, text.get_text()


@pytest.mark.parametrize("name", ["learning_curves", "reward_violins", "search_levels", "redundancy"])
@pytest.mark.parametrize("kind", ["png", "pdf"])
@pytest.mark.slow
def test_the_same_table_gives_the_same_bytes(name, kind):
    assert figure_bytes(DRAWINGS[name](), kind) == figure_bytes(DRAWINGS[name](), kind)


@pytest.mark.parametrize("name", ["search_levels", "shortcut_bars"])
def test_saving_a_figure_twice_gives_the_same_bytes(name):
    figure = DRAWINGS[name]()
    assert figure_bytes(figure, "png") == figure_bytes(figure, "png")


def test_files_hold_no_date(drawn):
    assert b"CreationDate" not in figure_bytes(drawn["shortcut_bars"], "pdf")
    assert b"Software" not in figure_bytes(drawn["shortcut_bars"], "png")


def test_styles_differ_in_colour_marker_and_line():
    names = [*OBJECTIVE_STYLE, *list(METHOD_STYLE)[:6], "sarsa", "a2c", "ppo"]
    look = styles(names)
    for part in ("color", "marker", "linestyle"):
        assert len({str(getattr(style, part)) for style in look.values()}) == len(names), part
    assert set(OBJECTIVES) <= set(OBJECTIVE_STYLE)


def test_methods_of_a_family_share_a_colour_and_differ_in_marker():
    """There are more methods than colours that everyone can tell apart."""
    look = styles([*OBJECTIVE_STYLE, *METHOD_STYLE])
    assert len({(style.color, style.marker) for style in look.values()}) == len(look)
    assert look["clp-full"].color == look["clp-attention"].color
    long = styles(["emorl-long"])["emorl-long"]
    assert long.marker == METHOD_STYLE["ensemble"].marker and sum(long.color) < sum(METHOD_STYLE["ensemble"].color)


def test_every_colour_is_seen_on_white():
    """By the formula of WCAG 2.2: at least 3 : 1 for lines and markers."""
    look = styles([*OBJECTIVE_STYLE, *METHOD_STYLE, *figures.SEARCH_STYLE, *(f"{name}-long" for name in METHOD_STYLE), *"abcde"])
    for name, style in look.items():
        r, g, b = ((v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for v in style.color)
        assert 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) >= 3, name


def test_ink_is_read_on_every_colour():
    for behind in itertools.product((0, 0.25, 0.5, 0.75, 1), repeat=3):
        text = {"black": (0, 0, 0), "white": (1, 1, 1)}[figures.ink(behind)]
        assert figures.contrast(text, behind) >= 4.5
    assert figures.ink((0, 0, 0, 0)) == "black"  # nothing there: the white of the figure


def test_contrast_of_known_pairs():
    assert figures.contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21) == figures.contrast((1, 1, 1), (0, 0, 0))
    assert figures.contrast((0x76 / 255,) * 3) == pytest.approx(4.54, abs=0.01)  # the grey that is just read on white


def test_a_name_keeps_its_style():
    assert styles(["warmth", "empathy"])["empathy"] == styles(["empathy"])["empathy"] == OBJECTIVE_STYLE["empathy"]
    assert styles(["hidden"])["hidden"] == METHOD_STYLE["ensemble"]


def test_curves_use_the_objectives_styles(drawn):
    left = drawn["learning_curves"].axes[0]
    for line in left.get_lines():
        if line.get_label() in OBJECTIVE_STYLE:
            style = OBJECTIVE_STYLE[line.get_label()]
            assert (line.get_color(), line.get_marker()) == (style.color, style.marker)
    assert set(OBJECTIVES) <= {line.get_label() for line in left.get_lines()}


def test_learning_curves_draw_the_rolling_mean(drawn):
    log = training_log()
    run = log[(log["objective"] == "reflection") & (log["seed"] == 0)]
    line = next(line for line in drawn["learning_curves"].axes[0].get_lines() if line.get_label() == "reflection")
    assert np.isclose(line.get_ydata()[-1], run["reward"].iloc[-8:].mean())


def test_cross_scores_panel_shows_the_other_objectives(drawn):
    log = training_log()
    run = log[(log["objective"] == "empathy") & (log["seed"] == 0)]
    panel = drawn["cross_scores"].axes[1]
    assert panel.get_title() == "trained on empathy"
    ends = {line.get_label(): line.get_ydata()[-1] for line in panel.get_lines() if line.get_label() in OBJECTIVES}
    assert np.isclose(ends["empathy"], run["reward"].iloc[-8:].mean())
    assert np.isclose(ends["fluency"], run["fluency"].iloc[-8:].mean())


def test_roc_by_counting_pairs():
    """The area is the chance that a good reply scores above a bad one, equal ones counting half."""
    table = predictions().query("objective == 'empathy'")
    predicted, label = table["predicted"].round(1).to_numpy(), table["label"].to_numpy()  # rounded: many ties
    false_rate, true_rate, area = plots.roc(predicted, label)
    good, bad = predicted[label == 1][:, None], predicted[label == 0][None]
    assert area == pytest.approx(((good > bad) + 0.5 * (good == bad)).mean())
    at = sorted({*predicted}, reverse=True)
    assert false_rate == pytest.approx([0, *((bad >= t).mean() for t in at)])
    assert true_rate == pytest.approx([0, *((good >= t).mean() for t in at)])


def test_calibration_error_by_hand():
    table = pd.DataFrame({"objective": "empathy", "predicted": [0.1, 0.1, 0.9, 0.9], "label": [0, 0, 1, 0]})
    labels = [line.get_label() for line in plots.calibration(table).axes[0].get_lines()]
    assert "empathy (ECE 0.250)" in labels  # half the rows are off by .1, half by .4


def test_redundancy_counts_level_one(drawn):
    assert drawn["redundancy"].axes[0].get_title() == "26 points and the zero vector: 19 directions"


def test_the_star_is_on_the_best_point():
    table = search_table().query("level == 1")
    best = table.loc[table["mean"].idxmax(), [f"w_{o}" for o in OBJECTIVES]]
    star = plots.search_levels(table).axes[0].collections[1]
    assert np.allclose(np.ravel(star._offsets3d), best.to_numpy(dtype=float))


def test_equal_scores_and_a_single_seed_draw_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flat = plots.reward_distributions(scored_replies().assign(score=0.5))
        assert not any(isinstance(part, PolyCollection) for axes in flat.axes for part in axes.collections)  # no density, only the means
        figure_bytes(flat, "png")
        figure_bytes(plots.consumption_scatter(consumption().query("seed == 0")), "png")
        figure_bytes(plots.learning_curves(training_log(seeds=1, steps=1)), "png")
        figure_bytes(plots.search_levels(search_table().assign(mean=0.5)), "png")


NEEDS = {
    plots.learning_curves: (training_log, "kl"),
    plots.cross_scores: (training_log, "reward"),
    plots.reward_distributions: (scored_replies, "score"),
    plots.calibration: (predictions, "label"),
    plots.roc_curves: (predictions, "predicted"),
    plots.shortcut_bars: (lambda: SHORTCUTS, "after"),
    plots.word_ratios: (lambda: RATIOS, "ratio"),
    plots.search_levels: (search_table, "note"),
    plots.consumption_scatter: (consumption, "seed"),
    plots.level_comparison: (levels, "mean"),
}


@pytest.mark.parametrize("draw", NEEDS, ids=lambda draw: draw.__name__)
def test_missing_columns_and_empty_tables_are_named(draw):
    make, column = NEEDS[draw]
    with pytest.raises(UserError, match=f"no column '{column}'"):
        draw(make().drop(columns=column))
    with pytest.raises(UserError, match="empty"):
        draw(make().iloc[:0])


@pytest.mark.parametrize("draw", [plots.search_levels, plots.redundancy])
def test_two_objectives_have_no_cube(draw):
    with pytest.raises(UserError, match="3 objectives, got 2"):
        draw(search_table().drop(columns="w_fluency"))


def test_a_score_of_one_is_in_the_last_bin_and_empty_bins_are_left_out():
    bins = plots.calibration_bins([1.0, 0.95, 0.05], [1.0, 0.0, 0.0])
    assert bins["share"].tolist() == pytest.approx([1 / 3, 2 / 3]) and bins["predicted"].tolist() == pytest.approx([0.05, 0.975])
    assert plots.calibration_error([1.0, 0.95, 0.05], [1.0, 0.0, 0.0]) == pytest.approx(0.05 / 3 + 0.475 * 2 / 3)


def test_each_figure_of_the_rewards_brings_its_alternative_text():
    table = predictions()
    assert plots.calibration(table).alt_text == plots.calibration_alt(table)
    assert plots.roc_curves(table).alt_text == plots.roc_curves_alt(table)
    assert plots.shortcut_bars(SHORTCUTS).alt_text == plots.shortcut_bars_alt(SHORTCUTS)
    assert plots.word_ratios(RATIOS).alt_text == plots.word_ratios_alt(RATIOS)


def test_labels_all_the_same():
    with pytest.raises(UserError, match="all the same"):
        plots.roc_curves(predictions().assign(label=1))


def test_show_writes_both_files_and_needs_alternative_text(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMORL_FIGURES", str(tmp_path / "env"))
    figure = plots.shortcut_bars(SHORTCUTS)
    assert show(figure, "bars", "Bars of four shortcuts.") is None
    assert sorted(p.name for p in (tmp_path / "env").iterdir()) == ["bars.pdf", "bars.png"]
    show(figure, "bars", "Bars of four shortcuts.", tmp_path / "given")
    assert (tmp_path / "given" / "bars.png").read_bytes() == (tmp_path / "env" / "bars.png").read_bytes()
    assert capsys.readouterr().out == ""
    for alt in ("", "  ", None):
        with pytest.raises(UserError, match="alternative text"):
            show(Figure(), "other", alt, tmp_path)
    with pytest.raises(UserError, match="file name"):
        show(figure, "../bars", "Bars.", tmp_path)
    assert not list(tmp_path.glob("*.png"))


def test_a_readers_figures_go_among_the_runs_and_not_into_the_repository(tmp_path, monkeypatch):
    monkeypatch.delenv("EMORL_FIGURES", raising=False)
    monkeypatch.delenv("EMORL_RUNS", raising=False)
    assert figures.figures_root() == Path(__file__).resolve().parent.parent / "runs" / "figures"
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path))
    assert figures.figures_root() == tmp_path / "figures"


def test_show_in_a_notebook_carries_the_alternative_text(tmp_path, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(figures, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append((data, options)))
    show(plots.shortcut_bars(SHORTCUTS), "bars", "Bars of four shortcuts.", tmp_path)
    (data, options), (words, _) = shown
    assert data["image/png"] == (tmp_path / "bars.png").read_bytes() and data["text/plain"] == "Bars of four shortcuts."
    assert options == {"raw": True, "metadata": {"image/png": {"alt": "Bars of four shortcuts."}}}
    assert "<summary>The figure in words</summary><p>Bars of four shortcuts.</p>" in words["text/html"]


def test_a_figure_brings_its_own_alternative_text(tmp_path, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(figures, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append(data))
    figure = plots.shortcut_bars(SHORTCUTS)
    assert describe(figure, "Four <bars> for $5.") is figure and figure.alt_text == "Four <bars> for $5."
    show(figure, "bars", folder=tmp_path)
    assert shown[0]["text/plain"] == "Four <bars> for $5."
    assert "Four &lt;bars&gt; for <span>&#36;</span>5." in shown[1]["text/html"]
    for empty in ("", "  "):
        with pytest.raises(UserError, match="alternative text"):
            describe(figure, empty)


@pytest.mark.slow
def test_a_kernel_shows_the_figure_once_with_its_alternative_text(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    source = f"""
import pandas as pd
from pathlib import Path
from emorl_lite import plots
from emorl_lite.plots.style import show
figure = plots.shortcut_bars(pd.DataFrame({{"shortcut": ["a"], "before": [0.5], "after": [0.1]}}))
show(figure, "bars", "One shortcut.", Path({str(tmp_path)!r}))
"""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    execute(book, tmp_path)
    output, words = book.cells[0].outputs
    assert "One shortcut." in words.data["text/html"] and "image/png" not in words.data
    assert output.metadata["image/png"] == {"alt": "One shortcut."}
    assert base64.b64decode(output.data["image/png"]) == (tmp_path / "bars.png").read_bytes()
