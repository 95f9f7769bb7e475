"""What notebook 02 says about its numbers: each reading is true of them whichever way they come out.

Logs have a row a step, as `Experiment.train_all` gives them; `replies` has a row a reply: policy, objective, score, with the clients in the
same order for every policy, and a policy `base`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from emorl_lite.base.presets import Preset
from emorl_lite.base.shown_text import as_markdown
from emorl_lite.base.wording import counted, listing, number, part, percent, signed, span
from emorl_lite.data.small_world import WRONG_COSTS, Client, Grammar
from emorl_lite.experiment.experiment import Experiment

ROUNDING = 1e-3
"""Differences below this are rounding, in float32 by far."""
CLEARLY = "Clear is a change of at least .03 that is more than two standard errors over the clients; changes are of unrounded means"
TIED = 0.03
"""Means that are this near are called level."""
TOP = 0.1
"""A score this close to the highest one seen counts as at the top."""


def option_table(preset: Preset, names: Sequence[str]) -> pd.DataFrame:
    """The options `names` of a run, with the objectives that train with another value. Columns: option, value."""
    by_objective = {"kl_coef": preset.kl_coef, "lr": preset.lr}
    rows = []
    for name in names:
        differing = [f"{objective}: {value}" for objective, value in by_objective.get(name, {}).items() if objective in preset.objectives]
        rows.append({"option": name, "value": str(getattr(preset.ppo, name)) + (f" ({', '.join(differing)})" if differing else "")})
    return pd.DataFrame(rows)


def whose_run(experiment: Experiment) -> str:
    """Whether these adapters were trained on this machine, or come from a run that was read."""
    published = [name for name in experiment.preset.objectives if experiment.is_published(experiment.run_folder(name))]
    if not published:
        return f"These adapters were trained on this machine, seed {experiment.seed}."
    source = "the reference run" if experiment.source in ("any", "reference") else "the run that EMORL_RUN names"
    if len(published) == len(experiment.preset.objectives):
        return f"These are the logs of {source}, seed {experiment.seed}: they were not trained here."
    return f"The logs of {listing(published)} are those of {source}, seed {experiment.seed}; the others were trained on this machine."


def ratio_reading(log: pd.DataFrame) -> str:
    """The largest distance of a ratio from 1 before any update. Columns: objective, first_ratio."""
    worst = log.groupby("objective", sort=False)["first_ratio"].max()
    text = (
        f"New over old probability before the first update, over {counted(len(log), 'rollout')} and all their tokens: it differs from 1 by "
        f"at most {worst.max():.1e} (`first_ratio` in the log; here of {worst.idxmax()}). "
    )
    if worst.max() < ROUNDING:
        return text + "That is rounding: rollout and update compute the same log-probabilities."
    return text + "In float32 that would be an error; with bfloat16 products a part of it, perhaps all, is rounding."


def cost_reading(ends: pd.DataFrame, here: bool) -> str:
    """What the runs cost. Index: objectives; columns: data_points, seconds. `here`: whether this machine trained them."""
    points, seconds = ends["data_points"].astype(int), ends["seconds"]
    points_text = f"{points.min():,}" + (f" to {points.max():,}" if points.min() < points.max() else "")
    return (
        f"Each run used {points_text} data points (prompts answered) and {span(seconds.min(), seconds.max(), 0)} seconds "
        f"{'here' if here else 'on the machine that trained it'}, {1000 * seconds.sum() / points.sum():.0f} ms an episode. "
        f"The sum is {points.sum():,} data points; run in parallel, the longest counts, {points.max():,}. We report both from now on."
    )


def greedy_reading(log: pd.DataFrame) -> str:
    """Greedy validation beside the sampled reward of the same step. Columns: reward, validation."""
    checks = log.dropna(subset="validation")
    if checks.empty:
        return "These runs were too short for a validation step: the figure shows sampled replies alone."
    above = int((checks["validation"] > checks["reward"]).sum())
    gap = float((checks["validation"] - checks["reward"]).mean())
    text = (
        f"Hollow markers are greedy replies to validation clients. In {above} of {counted(len(checks), 'check')} they score higher than "
        f"the replies sampled in the same step; the difference, greedy less sampled, is {signed(gap, 2)} on average. "
    )
    if above > len(checks) / 2:
        return text + "Where they do, greedy runs ahead of sampling: the likeliest word changes before the typical one does."
    return text + "Greedy need not run ahead of sampling: here a greedy reply mostly earns no more than a typical one."


def _changes(replies: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """(policy, objective) -> mean change against the base, and its standard error over the clients (NaN for one client)."""
    changes = {}
    for objective, group in replies.groupby("objective", sort=False):
        scores = {str(name): one["score"].to_numpy() for name, one in group.groupby("policy", sort=False)}
        for name, values in scores.items():
            change = values - scores["base"]
            error = float(change.std(ddof=1)) / len(change) ** 0.5 if len(change) > 1 else math.nan
            changes[(name, str(objective))] = (float(change.mean()), error)
    return changes


def _clear(change: float, error: float) -> bool:
    """More than two standard errors, and at least .03 as two digits show it."""
    return abs(change) > 2 * error and abs(round(change, 2)) > 0.02


def gains_reading(replies: pd.DataFrame, objectives: Sequence[str]) -> str:
    """What each model gained on its own reward, against the base."""
    changes = {o: _changes(replies)[(o, o)] for o in objectives}
    rising = [o for o, (change, error) in changes.items() if change > 0 and _clear(change, error)]
    if len(rising) == len(changes):
        text = "Each model raises its own reward, against the base"
    elif rising:
        text = (
            f"Against the base the own reward rises clearly for {listing(rising)}, "
            f"not for {listing([o for o in objectives if o not in rising])}"
        )
    else:
        text = "No model clearly raises its own reward against the base"
    return f"{text}: {', '.join(f'{o} {signed(change, 2)}' for o, (change, _) in changes.items())}. ({CLEARLY}.)"


def side_reading(replies: pd.DataFrame, objectives: Sequence[str]) -> str:
    """What training on one reward did to the others, against the base, and whether one policy is best at everything."""
    changes = _changes(replies)
    cells = {(o, p): changes[(o, p)] for o in objectives for p in objectives if p != o}
    by_model = [f"{o} model: " + ", ".join(f"{p} {signed(cells[(o, p)][0], 2)}" for p in objectives if p != o) for o in objectives]
    risen = [f"{p} of the {o} model" for (o, p), (change, error) in cells.items() if change > 0 and _clear(change, error)]
    fallen = [f"{p} of the {o} model" for (o, p), (change, error) in cells.items() if change < 0 and _clear(change, error)]
    text = f"What that did to the other two: {'; '.join(by_model)}. Clear losses: {listing(fallen)}. Clear gains: {listing(risen)}"
    text += "; what was not trained is a by-product (a warm stock phrase, for instance, can be predictable). " if risen else ". "
    means = replies.groupby(["policy", "objective"])["score"].mean().unstack()
    top = means >= means.max() - TIED
    best = [str(name) for name in means.index[top.all(axis=1)]]
    return text + (
        f"Best or level at all of them: {listing(best)}." if best else "No single model is best at everything. That is what EMORL is for."
    )


def shape_reading(replies: pd.DataFrame, objectives: Sequence[str]) -> str:
    """Whether a policy moved most replies to the top of its own reward, or each a little."""
    shares: dict[str, tuple[float, float]] = {}
    for o in objectives:
        rows = replies[replies["objective"] == o]
        at_top = (rows["score"] >= rows["score"].max() - TOP).groupby(rows["policy"]).mean()
        shares[o] = (float(at_top[o]), float(at_top["base"]))
    most = [o for o, (share, _) in shares.items() if share > 0.5]
    text = (
        f"A mean can hide a shape. Replies within {TOP:g} of the highest score that any policy reaches: "
        + ", ".join(f"{o} model {percent(share)} (base {percent(base)})" for o, (share, base) in shares.items())
        + ". "
    )
    if len(most) == len(shares):
        return text + "Each trained model has most of its replies at the top of its own reward."
    if not most:
        return text + "None of the trained models has most of its replies at the top of its own reward."
    return (
        text + f"Most replies at the top of the own reward: {listing(most)}; not so: {listing([o for o in objectives if o not in most])}."
    )


def truth_reading(checked: pd.DataFrame, known: bool) -> str:
    """Reward against truth. `known`: whether there is one. Index: policies; columns: <objective> reward, <objective> truth."""
    if not known:
        return "No truth is known for real statements: read the replies instead, and ask a second reward that was not trained on."
    by_policy, text = checked.to_dict("index"), ""
    for name in ("reflection", "empathy"):
        reward, truth = by_policy[name][f"{name} reward"], by_policy[name][f"{name} truth"]
        gap = signed(round(reward, 2) - round(truth, 2), 2)
        text += f"The {name} model earns {number(reward)} on average where the truth is {number(truth)}: {gap}. "
    return text + "A positive difference is pay for more than the words warrant. Two means can agree while single replies are overpaid."


def checked_replies(
    world: Grammar, known: Mapping[str, Client], prompts: Sequence[str], replies: Mapping[str, Sequence[str]], scores: pd.DataFrame
) -> pd.DataFrame:
    """Every policy's replies beside the truth. `known`: clients by what they say; `scores`: columns policy, objective, score.

    Columns: policy, client, reply, right, wrong (elements said back: the client's own, others; NaN where no truth is known), and of
    reflection and empathy: "<objective> reward", "<objective> truth".
    """
    nan, frames = math.nan, []
    for policy, texts in replies.items():
        rows: list[dict[str, object]] = []
        for prompt, reply in zip(prompts, texts, strict=True):
            client = known.get(prompt)
            right, wrong = world.elements(client, reply) if client else (nan, nan)
            reflection, empathy = world.truth(client, reply) if client else (nan, nan)
            row: dict[str, object] = {"policy": policy, "client": prompt, "reply": reply, "right": right, "wrong": wrong}
            rows.append(row | {"reflection truth": reflection, "empathy truth": empathy})
        frame = pd.DataFrame(rows)
        for name in ("reflection", "empathy"):
            one = scores[(scores["policy"] == policy) & (scores["objective"] == name)]
            frame[f"{name} reward"] = one["score"].to_numpy() if len(one) else nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def hack_table(checked: pd.DataFrame) -> pd.DataFrame:
    """Each policy in a row, from `checked_replies`: means of rewards and truths, share of replies with a wrong element, favourite reply.

    Columns: policy, "<objective> reward", "<objective> truth" (reflection, empathy), wrong element, favourite reply, its share.
    """
    rows = []
    for policy, one in checked.groupby("policy", sort=False):
        shares = one["reply"].value_counts(normalize=True).sort_index().sort_values(ascending=False, kind="stable")
        means = {f"{o} {what}": one[f"{o} {what}"].mean() for o in ("reflection", "empathy") for what in ("reward", "truth")}
        wrong = float((one["wrong"] > 0).mean()) if one["wrong"].notna().any() else math.nan
        rows.append({"policy": policy, **means, "wrong element": wrong, "favourite reply": shares.index[0], "its share": shares.iloc[0]})
    return pd.DataFrame(rows)


def wrong_reading(checked: pd.DataFrame, known: bool) -> str:
    """How often each policy says what is not its client's, and what that earns. Columns as `checked_replies` gives them."""
    if not known:
        return "Whose elements a real reply says back is not known either."
    wrong = checked["wrong"] > 0
    by_policy = wrong.groupby(checked["policy"], sort=False)
    counts = [f"{policy} {part(int(flags.sum()), len(flags), 'reply', 'replies')}" for policy, flags in by_policy]
    text = f"Replies with an element that is not the client's: {', '.join(counts)}. "
    rows = checked[wrong & (checked["policy"] == "reflection")]
    if rows.empty:
        return text + "The reflection model has none of them: this hole, at least, it did not find."
    earned, due = float(rows["reflection reward"].mean()), float(rows["reflection truth"].mean())
    text += (
        f"Those of the reflection model earn {number(earned)} on average; by the rule ({WRONG_COSTS:g} off for each) they "
        f"deserve {number(due)}. "
    )
    if earned > due + TIED:
        return text + (
            "So the reward **is** hacked in part: a right form with wrong content is paid. The classifier hears that elements are "
            "said back, and "
            "less well whose they are; repeats alone would not have shown it."
        )
    return text + "They are not paid for it: the classifier hears whose elements these are."


def overpaid(checked: pd.DataFrame, objective: str, most: int = 4) -> pd.DataFrame:
    """The replies of an objective's own model that earn most above their truth (above nothing, where no truth is known).

    Columns: client, reply, wrong, reward, truth.
    """
    own = checked[checked["policy"] == objective]
    rows = own.assign(reward=own[f"{objective} reward"], truth=own[f"{objective} truth"])
    gap = (rows["reward"] - rows["truth"].fillna(0.0)).sort_values(ascending=False, kind="stable")
    chosen = rows.loc[gap.index].drop_duplicates("reply").head(most)
    return chosen[["client", "reply", "wrong", "reward", "truth"]].astype({"wrong": "Int64"}).reset_index(drop=True)


def log_reading(log: pd.DataFrame, clip: float, window: int = 8) -> str:
    """A run's log, read number by number: a list. `clip`: the clip range.

    Columns: objective, clipfrac, entropy, explained_variance, approx_kl, kl; a row a step.
    """
    runs = {str(name): run for name, run in log.groupby("objective", sort=False)}

    def ends(column: str, digits: int = 2) -> str:
        moves = []
        for name, run in runs.items():
            first, last = run[column].head(window).mean(), run[column].tail(window).mean()
            moves.append(f"{name} {number(float(first), digits)} → {number(float(last), digits)}")
        return ", ".join(moves)

    most = float(log["clipfrac"].max())
    clipped = "within what a sound run shows" if most < 0.3 else "much: a smaller learning rate would waste less of a rollout"
    collapsed = [name for name, run in runs.items() if run["entropy"].tail(window).mean() < 0.25 * run["entropy"].head(window).mean()]
    entropy = (
        f"{listing(collapsed)} lost over three quarters of it: what was not found by then is hardly found any more"
        if collapsed
        else "none lost three quarters of it, so all still explore"
    )
    explained = {name: float(run["explained_variance"].tail(window).mean()) for name, run in runs.items()}
    good = [name for name, value in explained.items() if value > 0.3]
    poor = [name for name, value in explained.items() if value < 0]
    critic = f"above .3 for {listing(good)}: there the critic has learned what to expect" if good else "nowhere above .3"
    critic += f"; below 0 for {listing(poor)}: worse than a constant, and a λ near 1 is right to trust it little" if poor else ""
    return (
        f"First and last {window} steps:\n\n"
        f"- **Clip fraction** (tokens whose ratio left {1 - clip:g} to {1 + clip:g}) should stay small: {ends('clipfrac', 3)}. At most "
        f"{percent(most)}, {clipped}. "
        "Zero throughout would mean that the steps are too small to matter.\n"
        f"- **Entropy** (nats a token) should fall slowly: {ends('entropy')}; {entropy}.\n"
        f"- **Explained variance** should rise: {ends('explained_variance')}; {critic}. Where all replies score alike there is little left "
        "to explain, and it falls for that reason.\n"
        f"- **KL of old to new policy** (nats a token) should stay small: {ends('approx_kl', 4)}. It is how far one update goes; a jump "
        "may announce a collapse.\n"
        f"- **KL to the base** (nats a reply): {ends('kl')}. It should rise and level off; a KL that runs away while the reward "
        f"stands still is "
        "drift, one that runs away with the reward calls for reading replies."
    )


def favourite_reading(shares: Mapping[str, float], clients: int, favourites: Mapping[str, str]) -> str:
    """How often each model says its favourite reply: share of the clients, and the words, by model."""
    text = "How many clients get the model's favourite reply: "
    text += ", ".join(f"{name} {part(round(share * clients), clients, 'client')}" for name, share in shares.items()) + ". "
    repetitive = [name for name, share in shares.items() if share > 0.5]
    if not repetitive:
        return text + "No model says the same to more than half of its clients. That alone does not show that it reads them."
    text += (
        f"A model that says the same to most ({listing(repetitive)}) does not answer them; "
        "if it earns much all the same, its reward does not ask it to. "
    )
    if "fluency" in repetitive:  # the quoted reply brings its own full stop
        text += (
            "Fluency is scored without the client, so what pays best may be the same for everybody; this model's favourite reads "
            f"“{as_markdown(favourites['fluency'])}” "
        )
    return text + "One may call that hacking, and weigh such a reward lightly later."
