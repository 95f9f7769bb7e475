"""Figures about the rewards: training, validation and shortcuts of the classifiers. Each is drawn from a table.

All functions raise UserError if the table is empty or lacks a column. Scores are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emorl_lite.base.errors import UserError
from emorl_lite.base.wording import listing, number, percent, signed
from emorl_lite.plots.style import OBJECTIVE_STYLE, describe, name_axes, need, panels, readable, styles


@readable
def classifier_loss(losses: pd.DataFrame, window: int = 20) -> Figure:
    """Training loss of the reward classifiers, each step faint and its rolling mean bold. Columns: objective, step, loss."""
    need(losses, ["objective", "step", "loss"], "classifier_loss")
    figure, (axes,) = panels(1, width=5.6)
    styles_by_name = styles(losses["objective"])
    for name, run in losses.groupby("objective", sort=False):
        style = styles_by_name[str(name)]
        axes.plot(run["step"], run["loss"], color=style.color, alpha=0.25, linewidth=0.8)
        line = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markevery": 0.15, "linewidth": 2}
        axes.plot(run["step"], run["loss"].rolling(window, min_periods=1).mean(), label=str(name), **line)
    name_axes(axes, "training step", "binary cross-entropy")
    axes.legend()
    return describe(figure, classifier_loss_alt(losses, window))


def classifier_loss_alt(losses: pd.DataFrame, window: int = 20) -> str:
    """What `classifier_loss` shows, with the mean loss of the first and the last `window` steps. Columns as there."""
    runs = [
        f"{name} from {number(run['loss'].head(window).mean())} to {number(run['loss'].tail(window).mean())}"
        for name, run in losses.groupby("objective", sort=False)
    ]
    return (
        "Curves of training loss against training step, single steps faint and their rolling mean bold. "
        f"Means of the first and of the last {window} steps: {'; '.join(runs)}."
    )


Numbers = Sequence[float] | np.ndarray | pd.Series


def calibration_bins(predicted: Numbers, label: Numbers, bins: int = 10) -> pd.DataFrame:
    """Replies by predicted score, in `bins` equally wide bins of [0, 1]; a score of 1 belongs to the last. Empty bins are left out.

    Columns: predicted, label (means of the bin), share (of all replies).
    """
    table = pd.DataFrame({"predicted": predicted, "label": label})
    numbers = (table["predicted"] * bins).astype(int).clip(upper=bins - 1)
    groups = table.groupby(numbers)
    return groups[["predicted", "label"]].mean().assign(share=groups.size() / len(table))


def calibration_error(predicted: Numbers, label: Numbers, bins: int = 10) -> float:
    """Expected calibration error: the distance of mean score and mean label of a bin, averaged over all replies (Guo et al., ICML 2017)."""
    found = calibration_bins(predicted, label, bins)
    return float((found["share"] * (found["predicted"] - found["label"]).abs()).sum())


NAMED = 4
"""Words that the alternative text of a reply's word ratios names."""


@readable
def word_ratios(table: pd.DataFrame) -> Figure:
    """How much likelier the client makes each word of a reply, a panel a reply. Columns: reply (what it is), word, ratio (nats)."""
    need(table, ["reply", "word", "ratio"], "word_ratios")
    replies = list(dict.fromkeys(table["reply"]))
    figure = Figure(figsize=(8.2, 2.7 * len(replies)), layout="constrained")
    low, high = min(0.0, float(table["ratio"].min())), max(0.0, float(table["ratio"].max()))
    for axes, reply in zip(np.ravel(figure.subplots(len(replies), 1, squeeze=False)), replies, strict=True):
        rows = table[table["reply"] == reply]
        ratio, places = rows["ratio"].to_numpy(), np.arange(len(rows))
        for there, color, hatch, label in ((ratio >= 0, "0.35", "", "likelier"), (ratio < 0, "white", "///", "less likely")):
            axes.bar(places[there], ratio[there], 0.75, color=color, hatch=hatch, edgecolor="black", linewidth=0.6, label=label)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(places, rows["word"], rotation=60, ha="right", rotation_mode="anchor")
        axes.set_ylim(low - 0.5, high + 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_title(reply, loc="left")
        name_axes(axes, "word of the reply", "difference (nats)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, title="with the client, the word is")
    return describe(figure, word_ratios_alt(table))


def word_ratios_alt(table: pd.DataFrame) -> str:
    """What `word_ratios` shows: each reply's largest differences and their sum. Columns as there."""
    parts = []
    for reply, rows in table.groupby("reply", sort=False):
        far = rows.reindex(rows["ratio"].abs().sort_values(ascending=False).index)[:NAMED]
        named = ", ".join(f"“{word}” {signed(ratio, 1)}" for word, ratio in zip(far["word"], far["ratio"], strict=True))
        parts.append(f"{reply}: {named}; the sum over its words is {signed(float(rows['ratio'].sum()), 1)}")
    return (
        "Bars, one a word of a reply: its log-probability given the client less that without the client. The largest of "
        f"{'; of '.join(parts)}."
    )


@readable
def calibration(table: pd.DataFrame, bins: int = 10) -> Figure:
    """Predicted score against the mean label of `bins` equally wide bins; marker area shows the bin's size, ECE the mean distance.

    Columns: predicted (in [0, 1]), label (0 or 1, or a grade between), objective.
    """
    need(table, ["predicted", "label", "objective"], "calibration")
    figure, (axes,) = panels(1, width=4.8, height=4.4)
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":", label="perfect")
    styles_by_name = styles(table["objective"])
    for name, group in table.groupby("objective", sort=False):
        style = styles_by_name[str(name)]
        mean, error = (
            calibration_bins(group["predicted"], group["label"], bins),
            calibration_error(group["predicted"], group["label"], bins),
        )
        axes.plot(mean["predicted"], mean["label"], color=style.color, linestyle=style.linestyle)
        axes.scatter(mean["predicted"], mean["label"], s=25 + 300 * mean["share"], color=style.color, marker=style.marker, alpha=0.8)
        axes.plot([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, label=f"{name} (ECE {error:.3f})")
    axes.scatter([], [], s=25 + 300 * 0.2, color="0.5", alpha=0.8, label="marker area: share of the replies")
    name_axes(axes, "predicted score", "mean label of the bin")
    axes.legend(loc="upper left", fontsize=9)
    return describe(figure, calibration_alt(table, bins))


def calibration_alt(table: pd.DataFrame, bins: int = 10) -> str:
    """What `calibration` shows: the mean distance of each objective from the diagonal, and its farthest bin. Columns as there."""
    parts = []
    for name, group in table.groupby("objective", sort=False):
        mean, error = (
            calibration_bins(group["predicted"], group["label"], bins),
            calibration_error(group["predicted"], group["label"], bins),
        )
        worst_bin = int((mean["predicted"] - mean["label"]).abs().to_numpy().argmax())
        predicted, label, share = mean.to_numpy()[worst_bin]
        parts.append(
            f"{name} {error:.3f} from it on average, farthest where it predicts {number(predicted)} and the labels are {number(label)} "
            f"({percent(share)} of the replies)"
        )
    return f"Mean label against mean predicted score in {bins} bins, beside the diagonal of a perfect score: {'; '.join(parts)}."


def roc(predicted: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """False positive rate, true positive rate at every threshold (equal predictions move together), and the area under them."""
    from sklearn.metrics import auc, roc_curve

    positive = label == 1
    if positive.all() or not positive.any():
        raise UserError("figure roc_curves: the labels are all the same, which leaves nothing to tell apart")
    false_rate, true_rate, _ = roc_curve(positive, predicted, drop_intermediate=False)
    return false_rate, true_rate, float(auc(false_rate, true_rate))


@readable
def roc_curves(table: pd.DataFrame) -> Figure:
    """How well the predicted score tells label 1 from the rest. Columns: predicted, label, objective."""
    need(table, ["predicted", "label", "objective"], "roc_curves")
    figure, (axes,) = panels(1, width=4.8, height=4.4)
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":", label="chance")
    styles_by_name = styles(table["objective"])
    for name, group in table.groupby("objective", sort=False):
        style = styles_by_name[str(name)]
        false_rate, true_rate, area = roc(group["predicted"].to_numpy(), group["label"].to_numpy())
        line = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markevery": 0.2, "linewidth": 2}
        axes.plot(false_rate, true_rate, label=f"{name} (AUC {area:.3f})", **line)
    name_axes(axes, "false positive rate", "true positive rate")
    axes.legend(loc="lower right")
    return describe(figure, roc_curves_alt(table))


def roc_curves_alt(table: pd.DataFrame) -> str:
    """What `roc_curves` shows: the area under each curve. Columns as there."""
    areas = [
        f"{name} {roc(group['predicted'].to_numpy(), group['label'].to_numpy())[2]:.3f}"
        for name, group in table.groupby("objective", sort=False)
    ]
    return f"ROC curves, true against false positive rate, beside the diagonal of guessing. Area under the curve: {listing(areas)}."


@readable
def shortcut_bars(table: pd.DataFrame) -> Figure:
    """What each shortcut scores before and after the guards. Columns: shortcut, before, after."""
    need(table, ["shortcut", "before", "after"], "shortcut_bars")
    figure, (axes,) = panels(1, width=6.4, height=1.2 + 0.55 * len(table))
    places = np.arange(len(table))
    colour = OBJECTIVE_STYLE["reflection"].color
    before = axes.barh(places - 0.2, table["before"], 0.38, color="white", edgecolor="black", hatch="//", label="without guards")
    after = axes.barh(places + 0.2, table["after"], 0.38, color=colour, edgecolor="black", label="with guards")
    axes.bar_label(before, fmt="%.2f", padding=3, fontsize=10)
    axes.bar_label(after, fmt="%.2f", padding=3, fontsize=10)
    axes.set_yticks(places, table["shortcut"])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    name_axes(axes, "mean score", "shortcut")
    figure.legend(loc="outside upper right", ncols=2)
    return describe(figure, shortcut_bars_alt(table))


def shortcut_bars_alt(table: pd.DataFrame) -> str:
    """What `shortcut_bars` shows: every pair of bars. Columns as there."""
    rows = zip(table["shortcut"], table["before"], table["after"], strict=True)
    pairs = [f"{name} {number(before)} and {number(after)}" for name, before, after in rows]
    return f"Pairs of bars, the mean reflection score without and with the guards: {'; '.join(pairs)}."
