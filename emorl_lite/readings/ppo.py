"""What notebook 02 says about PPO's parts, made by hand: each reading is true of its numbers whichever way they come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from emorl_lite.base.wording import counted, listing, number, part, percent, signed

KL_ROUNDING = 0.05
"""Nats a reply: a KL at the start below this is rounding."""
RATIO_ROUNDING = 0.05
"""A ratio before any update that is this near 1 is 1, up to rounding, in bfloat16 too."""
FINISHED = 0.5
"""A smaller share of replies with an end token within their mask makes one look."""
NAMES = {
    "KL at the start": "KL at the start",
    "first ratio, untrained": "first ratio (untrained)",
    "first ratio, student": "first ratio (trained)",
    "finished": "share finished",
}
"""The numbers that show a fault, and their columns in `fault_table`."""
NOBODY = "nobody"


def reward_reading(score: float, ahead: Tensor, beta: float) -> str:
    """One reply's score beside its KL penalty. `ahead` [T]: log pi - log pi_0 of its tokens."""
    total, T = float(ahead.sum()), len(ahead)
    gains = int((ahead < 0).sum())
    cost = beta * total
    text = f"The score is {number(score)}. The {counted(T, 'token')} together are {signed(total)} nats likelier than under the base, which "
    text += f"{'costs' if cost >= 0 else 'earns'} {number(abs(cost), 3)} at β = {beta:g}: {number(score - cost, 3)} in all. "
    return text + f"Less likely than under the base, which earns a little: {part(gains, T, 'token')}."


def estimator_table(estimators: Mapping[str, Tensor], logp: Tensor, draws: Tensor, kl: float) -> pd.DataFrame:
    """Estimators of one position's KL, exactly and from samples. `estimators`: name -> its value for each of V words.

    `logp` [V]: log pi of the words; `draws`: words sampled from it; `kl`: the exact KL. Columns: estimator, mean of the draws, exact mean,
    exact KL, spread of one draw, share below 0.
    """
    rows = [
        {
            "estimator": name,
            "mean of the draws": float(k[draws].mean()),
            "exact mean": float((logp.exp() * k).sum()),
            "exact KL": kl,
            "spread of one draw": float(k[draws].std()),
            "share below 0": float((k[draws] < 0).float().mean()),
        }
        for name, k in estimators.items()
    ]
    return pd.DataFrame(rows)


def estimator_reading(estimates: pd.DataFrame) -> str:
    """Which estimators of the KL are right on average, and which is steady.

    Columns: estimator, exact mean, exact KL, spread of one draw, share below 0; a row for each of k1, k2, k3.
    """
    rows = estimates.set_index("estimator")
    kl = float(rows["exact KL"].iloc[0])
    off = (rows["exact mean"] - kl).abs()
    right = [str(name) for name in rows.index if off[name] <= 0.002 * max(kl, 1e-3)]
    wrong = [f"{name} ({signed(float(rows['exact mean'][name] - kl), 3)})" for name in rows.index if name not in right]
    spread = rows["spread of one draw"]
    text = f"On average {listing(right)} {'give' if len(right) > 1 else 'gives'} the KL, {number(kl, 3)} nats; biased: {listing(wrong)}. "
    below = percent(float(rows["share below 0"]["k1"]))
    text += f"A single draw of k1 is below 0 in {below} of the cases: that is no error, its mean counts. "
    text += f"The steadiest here is {spread.idxmin()} (spread {number(float(spread.min()), 3)}), k1 has {number(float(spread['k1']), 3)}"
    if spread["k3"] == spread["k1"]:
        return text + ": k3 and k1 are as steady here."
    if spread["k3"] < spread["k1"]:
        return text + ": k3 is right on average and steadier than k1, so it is the one to plot."
    return text + (
        ": here k3 is less steady than k1. The two distributions are far apart, and words that the base likes and the policy rarely "
        "says make its exponential large. It is the one to plot where both are near."
    )


def lambda_reading(words: Sequence[str], advantages: Mapping[float, Sequence[float]]) -> str:
    """How far the surprise at the end of a reply reaches back. `advantages`: lambda -> T numbers; with 0 and 1 among the keys."""
    td, mc = list(advantages[0.0]), list(advantages[1.0])

    def largest(values: Sequence[float]) -> int:
        return max(range(len(values)), key=lambda i: abs(values[i]))

    place = largest(td)
    swing = max(mc) - min(mc)
    before = ", and the tokens before it learn nothing of it" if place else ""
    return (
        f"With λ = 0 the largest surprise is at “{words[place]}” (token {place + 1} of {len(words)}, {signed(td[place])}), where reward or "
        f"critic jump{before}. With λ = 1 every token gets what came from it on, less its own value: between {signed(min(mc))} and "
        f"{signed(max(mc))}. The score is in all of them alike, so that range, {number(swing, 3)}, is the critic's and the KL's."
    )


def token_table(words: Sequence[str], *measures: Tensor) -> pd.DataFrame:
    """One reply token by token. `measures`, [T] each: log pi_old, log pi_0, ratio, reward, value, TD error, advantage,
    whitened advantage."""
    names = ("log π_old", "log π_0", "ratio ρ", "reward r", "value V", "TD error δ", "advantage A", "whitened")
    return pd.DataFrame({"token": list(words)} | {name: x.tolist() for name, x in zip(names, measures, strict=True)})


def token_reading(tokens: pd.DataFrame, score: float) -> str:
    """The token table: what holds of every reply, and which tokens this one will push.

    Columns: token, ratio ρ, reward r, advantage A, whitened.
    """
    off = float((tokens["ratio ρ"] - 1).abs().max())
    up = int((tokens["whitened"] > 0).sum())
    rows = tokens.to_dict("records")
    best, worst = int(tokens["whitened"].argmax()), int(tokens["whitened"].argmin())

    def named(place: int) -> str:
        return f"“{rows[place]['token']}” (token {place + 1}, {signed(rows[place]['whitened'], 2)})"

    one = f"The ratio is 1 in every row (at most {off:.0e} off)" if off < RATIO_ROUNDING else f"The ratio is up to {off:.0e} off 1, a fault"
    text = f"{one}. The score, {number(score)}, stands in the last row's reward alone. "
    text += f"The update will push up {part(up, len(tokens), 'token')}: highest is {named(best)}, lowest {named(worst)}. "
    moved = int(((tokens["advantage A"] > 0) != (tokens["whitened"] > 0)).sum())
    if moved:
        return text + f"Whitening took off the mean over all replies' tokens, which turned the sign of {counted(moved, 'token')} here."
    return text + "Whitening took off the mean over all replies' tokens, which turned no sign here."


def update_reading(moves: pd.DataFrame, epsilon: float) -> str:
    """What a few steps on a rollout did to its tokens' ratios. Columns: advantage (whitened), ratio; a row a token."""
    ahead = moves["advantage"] * (moves["ratio"] - 1)
    share = float((ahead > 0).mean())
    outside = float(((moves["ratio"] - 1).abs() > epsilon).mean())
    text = (
        f"After three steps {percent(share)} of {counted(len(moves), 'token')} moved the way of their advantage, {percent(outside)} left "
        f"the range of {epsilon:g}; ratios lie between {number(moves['ratio'].min())} and {number(moves['ratio'].max())}. "
    )
    if not ahead.any():
        return text + "Nothing moved that had an advantage."
    if ahead.sum() > 0:
        return text + (
            "Weighed by size, more moved the right way. Not all can: they share the same weights, and a token of good and bad replies is "
            "pulled both ways."
        )
    return text + "Weighed by size, more moved the wrong way: the steps were too long for this rollout."


def small_run_reading(log: pd.DataFrame, last: int = 3) -> str:
    """A run of the small trainer. Columns: reward, kl, length, samples; a row a step."""
    first, end = log.iloc[0], log.tail(min(last, max(1, len(log) - 1))).mean(numeric_only=True)
    text = (
        f"{counted(len(log), 'step')}, {int(log['samples'].iloc[-1]):,} samples: reward {number(first['reward'])} in the first step, "
        f"{number(end['reward'])} at the end (mean of {counted(min(last, max(1, len(log) - 1)), 'step')}). KL to the base "
        f"{number(end['kl'])} nats a reply, length {number(first['length'], 1)} to {number(end['length'], 1)} tokens. "
    )
    if end["reward"] > first["reward"] + 0.1:
        return text + f"It learned: replies that earn are made likelier{', until most do' if end['reward'] > 0.5 else ''}."
    return (
        text + "It did not learn within these steps: with a reward that the base earns rarely, the first successes must be found by chance."
    )


def fault_table(measured: Mapping[str, Mapping[str, float]], tolerance: float) -> pd.DataFrame:
    """Which numbers show which fault. `measured`: fault -> the numbers of `NAMES`; `tolerance`: of a ratio's distance from 1.

    Columns: fault, those of NAMES as texts, noticed by (a listing of columns, or "nobody"). What is beyond its limit counts as noticed.
    """
    rows = []
    for fault, numbers in measured.items():
        limits = {name: KL_ROUNDING if name.startswith("KL") else tolerance for name in numbers if name != "finished"}
        seen = [NAMES[name] for name, limit in limits.items() if not abs(numbers[name]) <= limit]
        seen += [NAMES["finished"]] if numbers["finished"] < FINISHED else []
        shown = {NAMES[name]: f"{numbers[name]:.1e}" if abs(numbers[name]) < 0.01 else number(numbers[name]) for name in limits}
        rows.append(
            {"fault": fault, **shown, NAMES["finished"]: percent(numbers["finished"]), "noticed by": listing(seen) if seen else NOBODY}
        )
    return pd.DataFrame(rows)


def fault_reading(faults: pd.DataFrame) -> str:
    """What each check misses, from `fault_table`; the row "none" is the run without a fault."""
    real = faults[faults["fault"] != "none"]

    def missed_by(name: str) -> list[str]:
        return real.loc[~real["noticed by"].str.contains(NAMES[name], regex=False), "fault"].tolist()

    healthy = faults.loc[faults["fault"] == "none", "noticed by"].tolist()
    text = "Without a fault nobody notices anything. " if healthy == [NOBODY] else f"Even without a fault: {listing(healthy)}. "
    for name, why in (
        ("KL at the start", "the update does not enter it, and what rollout and reference share cancels"),
        ("first ratio, untrained", "B = 0 silences what happens within the adapter, and what rollout and update share cancels"),
        ("first ratio, student", "what rollout and update share cancels"),
    ):
        missed = missed_by(name)
        text += f"**{NAMES[name][:1].upper()}{NAMES[name][1:]}** misses {listing(missed)}{f' ({why})' if missed else ''}. "
    unseen = real.loc[real["noticed by"] == NOBODY, "fault"].tolist()
    text += f"Nobody notices {listing(unseen)}. " if unseen else "Each fault is noticed by something. "
    return text + "The package logs the first ratio of every rollout, and stops if it is farther from 1 than rounding explains."


def ablation_table(runs: pd.DataFrame, last: int = 3) -> pd.DataFrame:
    """Small runs by variant: mean of the seeds, and their lowest and highest.

    Columns of `runs`: run, seed, samples, reward, kl, length. Of the result: variant, reward over all steps, reward at the end (the last
    `last` steps), its range, KL at the end, tokens at the end.
    """
    rows = []
    for name, of_variant in runs.groupby("run", sort=False):
        by_seed = [one.sort_values("samples") for _, one in of_variant.groupby("seed")]
        ends = [one.tail(last).mean(numeric_only=True) for one in by_seed]
        rewards = [float(end["reward"]) for end in ends]
        rows.append(
            {
                "variant": name,
                "reward over all steps": float(of_variant["reward"].mean()),
                "reward at the end": sum(rewards) / len(rewards),
                "its range": f"{number(min(rewards))} to {number(max(rewards))}",
                "KL at the end": sum(float(end["kl"]) for end in ends) / len(ends),
                "tokens at the end": sum(float(end["length"]) for end in ends) / len(ends),
            }
        )
    return pd.DataFrame(rows)


def ablation_reading(table: pd.DataFrame, seeds: int) -> str:
    """What `ablation_table` says, its first row being the whole, and what it cannot say."""
    rows = table.set_index("variant")
    whole, others = str(rows.index[0]), [str(name) for name in rows.index[1:]]

    def ends(name: str) -> tuple[float, float]:
        low, high = str(rows.loc[name, "its range"]).replace("−", "-").split(" to ")
        return float(low), float(high)

    low, high = ends(whole)
    worse = [name for name in others if ends(name)[1] < low]
    better = [name for name in others if ends(name)[0] > high]
    open_ = [name for name in others if name not in worse + better]
    kl = rows["KL at the end"].astype(float)
    answer = ""
    if {"no clip", "λ = 0"} <= set(others):
        clip, td = (float(rows["reward at the end"].astype(float)[name]) for name in ("no clip", "λ = 0"))
        lower = "both end level" if number(clip) == number(td) else f"{'λ = 0' if td < clip else 'no clip'} ends lower"
        answer = f"Of the two asked about, {lower} ({number(td)} with λ = 0, {number(clip)} with no clip). "
    return answer + (
        f"At the end {whole} earns {number(float(rows['reward at the end'].iloc[0]))} ({rows['its range'].iloc[0]}). Below it in every "
        f"seed: {listing(worse)}; above it in every seed: {listing(better)}; overlapping, so that nothing can be told: {listing(open_)}. "
        f"Farthest from the base is {kl.idxmax()} ({number(kl.max())} nats a reply), nearest {kl.idxmin()} ({number(kl.min())}). "
        f"These are {counted(seeds, 'seed')} and short runs on one easy reward: enough to see what stops learning, not to rank the "
        f"rest, nor to "
        "see what a clip or a penalty is for in long runs."
    )
