"""What the tour says: of a client and replies with their labels, of the base, and of the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.shown_text import as_markdown
from emorl_lite.base.wording import counted, number
from emorl_lite.data.small_world import EMPATHY, REFLECTION

TIED = 0.02
"""Scores that are this near are called level."""


def client_says(text: str) -> str:
    """A client's words, shown as text whatever signs they hold."""
    return f"**The client says:** {as_markdown(text)}"


def labels_reading(shown: pd.DataFrame) -> str:
    """What the table of replies shows. Columns: content, warmth, right, wrong, reflection, empathy; a row a reply."""
    rows = shown.to_dict("records")
    full = [row for row in rows if row["content"] == "full"]
    text = f"The replies that say back all three elements are labelled {number(full[0]['reflection'])} for reflection"
    if len(full) > 1:
        text += ", warm or not: their empathy labels are " + " and ".join(number(row["empathy"]) for row in full)
    (wrong,) = [row for row in rows if row["content"] == "wrong"]
    return text + (
        f". The last one reflects *somebody else*: it has the form of a good reply, {counted(int(wrong['wrong']), 'wrong element')}, and a "
        f"label of {number(wrong['reflection'])}. A reward that looks at form alone would be fooled."
    )


def wrong_element_reading(shown: pd.DataFrame) -> str:
    """A reply with a wrong element beside one that says back as many and no wrong one. Columns as in `labels_reading`."""
    flawed = shown[(shown["wrong"] > 0) & (shown["right"] > 0)].iloc[0]
    right, wrong, label = int(flawed["right"]), int(flawed["wrong"]), float(flawed["reflection"])
    return (
        f"{counted(right, 'element')} said back and no wrong one: {number(REFLECTION[right])}. As many said back, and "
        f"{counted(wrong, 'wrong element')} besides: {number(label)}, {number(REFLECTION[right] - label)} less. A wrong element is worse "
        "than a missing one: a client who is told what they did not say is not heard."
    )


def paraphrase_reading(truth: tuple[float, float]) -> str:
    """The truth (reflection, empathy) of a faithful paraphrase in words that the grammar does not have."""
    reflection, empathy = truth
    return (
        "The truth of this faithful paraphrase, in words that the grammar does not have: reflection "
        f"{number(reflection)}, empathy {number(empathy)}. What it says back is {'seen in part' if reflection > 0 else 'not seen'}."
    )


def world_reading(topics: int, words: int, distinct: int, drawn: int) -> str:
    """How varied the world is: topics, word forms, distinct pairs among those drawn."""
    return (
        f"{topics} topics, {words:,} word forms, and {distinct:,} distinct pairs among {drawn:,} drawn. Training, validation and test "
        "share no client statement: a statement's own text decides its split."
    )


def mixture_reading(shares: Mapping[str, float], greedy: Sequence[float]) -> str:
    """The average reply of the world's mixture beside the base's greedy ones.

    `shares`: of each content, as the grammar has them; `greedy`: true reflection of the base's greedy replies.
    """
    elements = {"full": 3, "two": 2, "one": 1}
    average = sum(share * REFLECTION[elements.get(content, 0)] for content, share in shares.items()) / sum(shares.values())
    here = sum(greedy) / len(greedy)
    told = "below" if here < average - TIED else "above" if here > average + TIED else "at"
    text = (
        f"The average reply of the mixture is worth {number(average)} in reflection; the base's greedy replies lie {told} that, at "
        f"{number(here)}. "
    )
    if told != "below":
        return text
    worthless = sum(share for content, share in shares.items() if content not in elements) / sum(shares.values())
    return text + (
        f"Kinds of replies that earn nothing make {100 * worthless:.0f} of 100 in the mixture. The likeliest word each time follows one of "
        "them, and seldom takes the rarer turn towards a reflection: a greedy reply is a likely one, not an average one."
    )


def together_reading(scores: pd.DataFrame, objectives: Sequence[str]) -> str:
    """Whether the ensemble's mean reward is the average of its members'. Columns as in `tour_reading`."""
    means = scores.groupby("policy")["mean"].mean()
    members, ensemble = means[list(objectives)], float(means["ensemble"])
    average, best = float(members.mean()), float(members.max())
    if ensemble > best + TIED:
        told = "above the best of them: the mixture takes from each what the others lack, it does not average them"
    elif ensemble > average + TIED:
        told = "above their average, and not above the best of them"
    else:
        told = "no better than their average"
    return (
        f"Mean reward: the {counted(len(members), 'model')} average {number(average)}, the best of them {number(best)}; the ensemble's "
        f"{number(ensemble)} is {told}."
    )


def truth_reading(scores: pd.DataFrame) -> str:
    """The reflection reward beside the truth, for the policy trained on it. Columns: policy, reflection, true_reflection."""
    own = scores[scores["policy"] == "reflection"]
    reward, truth = float(own["reflection"].mean()), float(own["true_reflection"].mean())
    text = f"The reflection model earns {number(reward)} in reward and is worth {number(truth)} in truth: "
    if reward > truth + TIED:
        return text + "it is paid for more than it does. How much of that is the reward being fooled, notebooks 01 and 02 find out."
    return text + ("its reward does not overrate it." if reward < truth - TIED else "its reward and the truth agree.")


def base_reading(truth: pd.DataFrame) -> str:
    """What the base is worth on held-out clients. Columns: reflection, empathy (true scores); a row a client."""
    n, reflection, empathy = len(truth), float(truth["reflection"].mean()), float(truth["empathy"].mean())
    reflecting, warm = int((truth["reflection"] > 0).sum()), int((truth["empathy"] > EMPATHY["none"]).sum())
    return (
        f"Over {counted(n, 'held-out client')}: true reflection {number(reflection)}, true empathy {number(empathy)}, where 1 is a full "
        f"and warm reflection. Replies that say something of the client back: {reflecting} of {n}; with something warm in them: {warm}. "
        f"That leaves reinforcement learning {'something' if min(reflection, empathy) < 0.5 else 'little'} to do."
    )


def tour_reading(scores: pd.DataFrame, objectives: Sequence[str]) -> str:
    """The ensemble beside base and single-objective models over seeds. Columns: policy, seed, the objectives, mean."""
    names = list(objectives)
    means = scores.pivot(index="seed", columns="policy", values="mean")[["base", *names, "ensemble"]]
    single, n = means[names].max(axis=1), len(means)
    won = int((means["ensemble"] > means[["base", *names]].max(axis=1)).sum())
    lead = means["ensemble"] - single
    clear = n > 1 and abs(lead.mean()) > 2 * lead.std() / n**0.5
    own_best = beaten = 0
    for _, run in scores[scores["policy"].isin(names)].groupby("seed"):
        by_policy = run.set_index("policy")[names].loc[names]
        best = by_policy.max()
        own_best += sum(by_policy[o].idxmax() == o for o in names)
        beaten += sum(any(by_policy[p][o] < best[p] - TIED for p in names if p != o) for o in names)
    runs = n * len(names)
    return (
        f"The ensemble has the highest mean reward of these policies in {won} of {counted(n, 'seed')}: "
        f"{number(means['ensemble'].mean())} on average, the best single-objective model {number(single.mean())}, the base "
        f"{number(means['base'].mean())}"
        f"{'' if clear else ' (no clear difference between the first two)'}. "
        f"Best of the single-objective models at their own reward: {own_best} of {counted(runs, 'run')}; beaten by another of them on "
        f"another reward: {beaten} of {counted(runs, 'run')}. "
        + (
            "So no single-objective model is best at all of them."
            if beaten == runs
            else "A run that is not beaten is best, or level, at all of them."
        )
    )
