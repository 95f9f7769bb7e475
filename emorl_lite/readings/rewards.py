"""What notebook 01 says about its numbers: each reading is true of them whichever way they come out."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from emorl_lite.base.wording import listing, number, percent, signed
from emorl_lite.data.small_world import REFLECTION, WRONG_COSTS

CLEAR = 0.03
"""A difference between two areas under the curve that is worth a sentence; seeds of one network differ by less."""
GAIN = 0.1
"""A change by which a reward gains more than this on the truth has found a hole."""
ACTS = 0.9
"""A guard that leaves less than this share of the scores has done something."""
HOLE = 0.2
"""A shortcut that earns more than this is worth a look."""


def form_reading(areas: pd.DataFrame) -> str:
    """What a reply's form alone tells. Index: views of the reply; columns: "held out", "equal form" (areas under the curve)."""
    best = str(areas["held out"].idxmax())
    held, same = areas.loc[[best]].iloc[0][["held out", "equal form"]].astype(float)
    text = f"A model that sees of the reply {best}, and nothing of the client, reaches an AUC of **{held:.2f}** on held-out pairs"
    text += ": well above guessing, and it would look like success. " if held > 0.7 else ". "
    text += f"Among replies of equal form it reaches {same:.2f}"
    if abs(same - 0.5) < 0.06:
        return text + ", which is guessing: that is the examination a reward of reflection must pass."
    return text + f", {'less' if same < held else 'no less'} than before: that is the examination a reward of reflection must pass."


def ratio_reading(ratios: pd.DataFrame) -> str:
    """What a client explains of replies. Columns: reply, word, ratio (nats); the first reply is the client's own."""
    sums = ratios.groupby("reply", sort=False)["ratio"].sum()
    own, others = str(sums.index[0]), sums.iloc[1:]
    rows = ratios[ratios["reply"] == own].sort_values("ratio", ascending=False).head(3)
    words = listing([f"“{row['word']}” ({signed(row['ratio'], 1)})" for row in rows.to_dict("records")])
    text = f"Summed over the reply, the client explains {signed(float(sums.iloc[0]), 1)} nats of {own}, most of it at {words}. "
    text += "".join(f"Of {name} it explains {signed(float(value), 1)}. " for name, value in others.items())
    if (others < sums.iloc[0] - 1).all():
        text += "Both have the form of a good reflection; this number tells them apart, and no word list was needed. "
    else:
        text += "This number alone does not tell them apart here. "
    return text + "A word that follows from the words before it (the rest of a set phrase) is near 0 either way: it says nothing new."


def error_reading(error: Mapping[str, float], calibration: Mapping[str, float]) -> str:
    """Mean absolute error and calibration error of each classifier, and why both are told."""
    parts = [f"{name} {number(error[name], 3)} and {number(calibration[name], 3)}" for name in error]
    return (
        f"Mean absolute error of a single score, and ECE: {'; '.join(parts)}. The second is no larger than the first, and usually smaller: "
        "errors in both directions cancel within a bin, so a calibrated score can still be wrong on many a reply."
    )


def tried_reading(tried: pd.DataFrame) -> str:
    """Whether a shortcut paid. Columns: measure, reward before, reward after, truth before, truth after (of `rewards.shortcut_pays`)."""
    rows = tried.set_index("measure").to_dict("index")
    parts: list[str] = []
    holes: list[str] = []
    for name in ("reflection", "empathy"):
        row = rows[name]
        earned, worth = row["reward after"] - row["reward before"], row["truth after"] - row["truth before"]
        parts.append(
            f"{name} earns {number(row['reward after'])} after {number(row['reward before'])} and is worth "
            f"{number(row['truth after'])} after {number(row['truth before'])}"
        )
        if earned - worth > GAIN:
            holes.append(name)
    wrong = rows["wrong elements"]["truth after"]
    text = f"With the change, {'; '.join(parts)}. A reply holds {number(wrong)} wrong elements on average. "
    if holes:
        return text + f"The reward of {listing(holes)} follows the change better than the truth does: a hole that a policy may find."
    return text + f"Neither reward gains more than {GAIN:g} on what the rule grants: this shortcut does not pay. Try another."


def loss_reading(losses: pd.DataFrame, window: int = 20, early: int = 100) -> str:
    """How far the training losses fell, and how much of that in the first `early` steps. Columns: objective, step, loss."""
    parts = []
    for name, run in losses.groupby("objective", sort=False):
        loss = run["loss"].to_numpy()
        first, last = loss[:window].mean(), loss[-window:].mean()
        text = f"{name} {number(first)} at the start, {number(last)} at the end"
        if first - last < 0.01:
            text += " (no fall)"
        elif len(loss) > early:
            fallen = (first - loss[early - window : early].mean()) / (first - last)
            text += f" ({percent(min(1.0, max(0.0, fallen)))} of the fall by step {early})"
        parts.append(text)
    return f"The loss, each a mean of {window} steps: {'; '.join(parts)}."


def same_form_reading(area: float, scores: Mapping[str, float], handed: float) -> str:
    """Whether reflection reads the client. `scores`: mean score by kind of `rewards.probes.equal_form`; `handed`: of those handed on."""
    this_client, flawed = scores["this client"], scores["one wrong element"]
    labels = " or ".join(number(label - WRONG_COSTS) for label in (REFLECTION[1], REFLECTION[2]))
    return (
        f"Among replies of equal form the AUC is **{area:.3f}** (.5 would be guessing). Plain reflections of this client score "
        f"{number(this_client)} on average; full reflections, warm or not, handed to the next client **{handed:.3f}**. "
        f"By the rule the first are worth 1 and the second 0. One wrong element earns {number(flawed)}. Its label is {labels}: one or two "
        "elements are right, and .15 are taken off. "
    ) + (
        "That is more than another client's reflection gets, and something a policy could live on."
        if flawed - scores["another client"] > 0.1
        else f"That is {'less than' if scores['another client'] - flawed > 0.1 else 'about what'} another client's reflection gets."
    )


def support_reading(
    area: float, blind_area: float, other: float, blind_other: float, losses: tuple[float, float, float] | None = None
) -> str:
    """What the likelihoods are worth, with and without them: areas among replies of equal form, another client's mean score.

    `losses`: the last training losses with and without them, and the loss of a perfect classifier.
    """
    numbers = ""
    if losses is not None:
        told, blind, floor = losses
        numbers = (
            f"Beside the floor of {floor:.3f} the last losses stand {signed(told - floor)} off with the likelihoods and "
            f"{signed(blind - floor)} without them. "
        )
    numbers += (
        f"Without the likelihoods the AUC among replies of equal form is {blind_area:.3f} (with them {area:.3f}), and another client's "
        f"plain reflection scores {blind_other:.3f} (with them {other:.3f}). "
    )
    if area - blind_area > CLEAR:
        return numbers + "The hidden states alone left a part of the comparison undone: it helps to hand it to the network."
    if blind_area - area > CLEAR:
        return numbers + "Here the network without them tells the replies apart better."
    return numbers + "No clear difference."


def perplexity_reading(medians: pd.DataFrame) -> str:
    """Full reflections beside generic lines. Index: "full", "generic"; columns: "given the client", "alone" (median perplexities)."""
    given, alone = medians["given the client"], medians["alone"]
    text = f"Given the client, a full reflection has a perplexity of {number(given['full'])}, a generic line {number(given['generic'])}"
    if given["full"] < given["generic"]:
        text += ": the reflection is the more predictable, since the client already said those words. "
    else:
        text += ": the reflection is no more predictable, although the client already said those words. "
    text += f"On its own it has {number(alone['full'])}, the generic line {number(alone['generic'])}. Reading the client first takes "
    text += f"{number(alone['full'] - given['full'])} off the reflection and {number(alone['generic'] - given['generic'])} off the line. "
    if alone["full"] > alone["generic"]:
        return text + "Stock phrases are common: scored alone, fluency pays for them, and *that* conflicts with reflection."
    return text + "So this fluency does not prefer the stock phrase."


def shortcut_reading(rewards: pd.DataFrame, area: float, length_area: float) -> str:
    """Which shortcuts pay, and what the guards do to them.

    Index: shortcuts, among them "as they are", "question mark" and "cut off"; columns: bare (reflection without guards), repetition guard
    (the share that it leaves), reflection (guarded). Areas: the classifier's, and that of length alone.
    """
    scores = {str(name): float(score) for name, score in rewards["reflection"].items()}
    unchanged, question, cut = (scores.pop(name) for name in ("as they are", "question mark", "cut off"))
    change = question - unchanged
    mark = "leaves reflection where it was" if abs(change) < 0.05 else f"{'raises' if change > 0 else 'lowers'} reflection"
    paid = [name for name, score in scores.items() if score > HOLE]
    bare, kept = (rewards[column].astype(float) for column in ("bare", "repetition guard"))
    caught = [
        f"{name} (it leaves {number(kept[name])} of a score that is {number(bare[name])} without it)"
        for name in kept.index
        if kept[name] < ACTS
    ]
    return (
        f"A question mark {mark} ({number(unchanged)} as they are, {number(question)} with it). The others: "
        f"{', '.join(f'{name} {number(score)}' for name, score in scores.items())}. "
        f"{f'A hole to look into: {listing(paid)}' if paid else f'None of them is above {number(HOLE)}'}. "
        f"Length alone would reach an AUC of {length_area:.2f}, the classifier reaches {area:.2f}. "
        f"Of the guards, the one against repetition catches {listing(caught) if caught else 'none of these'}, and the one against "
        f"unfinished replies those that are cut off: {number(cut)}, where the classifier alone would pay {number(bare['cut off'])}."
    )
