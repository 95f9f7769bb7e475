"""What the tables of notebooks 06 and 07 say, in sentences that are built from them and hold whichever way the numbers come out.

Differences are paired (by seed, or by client) and come with a 95 % interval. Nothing is called higher unless the interval says so; where a
sentence looks for the largest of many differences, the interval is corrected for that many (Bonferroni). Of a claim only that verdict is
told which Holm's correction for all of them leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.wording import by_sign, counted, judged, listing, number, signed, told
from emorl_lite.methods.bandits import Exp3
from emorl_lite.methods.base import Method
from emorl_lite.methods.dynamic_weights import EXPLORATION
from emorl_lite.search.statistics import FEW, HEAPS_APART, TWO_HEAPS, interval, median_interval, shape_of
from emorl_lite.study.claims import GREEDY, SAMPLED, interval_of, tally
from emorl_lite.study.comparison import BY_OWN_SEARCH, dominated_share, over, paired, representative, with_intervals

FAR = 0.75
"""A mean below this share of the first one's surprises beside "not clearly below"."""


def leaders(table: pd.DataFrame, column: str, what: str, by: str = "method") -> str:
    """The first three names by the mean of a column, and how many of the others cannot be told apart from the first.

    Columns: `by`, seed and the column. `what`: the column in words.
    """
    means = table.groupby(by)[column].mean().dropna().sort_values(ascending=False, kind="stable")
    if means.empty:
        return f"{what}: not measured."
    first, others = str(means.index[0]), [str(name) for name in means.index[1:]]
    text = f"{what}, from the top: {listing([f'{name} ({number(value, 3)})' for name, value in means.iloc[:3].items()])}."
    if not others:
        return text
    unclear = [name for name in others if not paired(table, first, name, column, by, looks=len(others))["low"] > 0]
    if table["seed"].nunique() < 2:
        return f"{text} With one seed nothing tells how much of this order is luck."
    test_note = f"paired over the seeds, intervals corrected for {counted(len(others), 'comparison')}"
    if not unclear:
        return f"{text} {first} is clearly above {'the other' if len(others) == 1 else f'each of the other {len(others)}'} ({test_note})."
    if len(others) == 1:
        return f"{text} {others[0]} is not clearly below {first} ({test_note})."
    names = f": {listing(unclear)}" if len(unclear) <= 6 else ""
    if len(unclear) == len(others):
        text = f"{text} None of the other {len(others)} is clearly below {first} ({test_note})."
    else:
        verb = "is" if len(unclear) == 1 else "are"
        text = f"{text} Of the other {len(others)}, {len(unclear)} {verb} not clearly below {first}{names} ({test_note})."
    return f"{text}{_scattered(table[table[by] == unclear[-1]][column], unclear[-1], means[first])}"


def _scattered(values: pd.Series, name: str, first: float) -> str:
    """A warning where the seeds of the last of those that are not clearly below reach far down. `values`: one a seed."""
    if values.mean() > FAR * first:
        return ""
    return (
        f" That does not make them equal: {name}'s seeds go from {number(values.min(), 3)} to {number(values.max(), 3)}, too wide to tell."
    )


def roster(methods: Sequence[Method]) -> pd.DataFrame:
    """The methods as a table: name, family, what is trained, the number of the paper on arXiv, and whether there is an exact map."""
    papers = [re.search(r"\d{4}\.\d{5}", m.reference) for m in methods]
    maps = ["–" if m.corners() is None else "yes" for m in methods]
    columns = ("method", "family", "trains", "arXiv", "map")
    rows = [(m.name, m.family, m.trains, p[0] if p else "–", has_map) for m, p, has_map in zip(methods, papers, maps, strict=True)]
    return pd.DataFrame(rows, columns=columns)


def group_reading(scores: np.ndarray, names: Sequence[str], grpo: np.ndarray, gdpo: np.ndarray) -> str:
    """Which reply of a group each advantage prefers, and whose spread decides. `scores` [k, d]; advantages [k]."""
    k, spread = len(scores), scores.std(0, ddof=1)
    widest, narrowest = names[int(spread.argmax())], names[int(spread.argmin())]
    text = f"Leave-one-out is GRPO's advantage times k / (k − 1), here {number(k / (k - 1))}: another length of step, the same direction. "
    text += "Standard deviations in this group: " + ", ".join(f"{name} {number(s)}" for name, s in zip(names, spread, strict=True))
    text += f". In a plain mean, GRPO's, the widest speaks loudest, here {widest}. "
    if widest != narrowest and spread.min() > 0:
        text += f"GDPO divides each by its own, so that {narrowest}, the narrowest, is heard as well. "
    first, second = int(grpo.argmax()) + 1, int(gdpo.argmax()) + 1
    same = f"Both advantages prefer reply {first} of this group"
    return text + (f"{same}." if first == second else f"GRPO's advantage prefers reply {first}, GDPO's reply {second}.")


def soup_reading(d: int, own: float, apart: float) -> str:
    """What the cross terms do to a soup at equal weights. Shares of the exact average's size: the own terms, and soup less average."""
    alone = 1 - own
    turn = "They fill part of what is missing" if apart < alone else "They do not fill what is missing"
    return (
        f"At equal weights the soup's own terms are the exact average divided by d = {d}, {number(own)} of it, because each weight comes "
        f"twice, w_i²: alone they would differ from it by {number(alone)} of its size. With the cross terms, products of matrices that "
        f"never met in training, the soup differs by {number(apart)}. {turn}."
    )


def step_reading(names: Sequence[str], judged: int, gain: float, drawn: int, weights: Sequence[float]) -> str:
    """One step of DynaOpt: the arm that was judged, what it brought, the arm that was drawn then, and the weights after it."""
    arms = [*(f"raise {name}" for name in names), "leave everything"]
    after = ", ".join(f"{name} {number(w, 3)}" for name, w in zip(names, weights, strict=True))
    return (
        f"Judged was *{arms[judged]}*, by a mean gain of {signed(gain)}: its chance {'grows' if gain > 0 else 'does not grow'}. Drawn was "
        f"then *{arms[drawn]}*. Reward weights after it: {after}. By hand and by the package: the same numbers."
    )


def furthest(d: int, choices: int, mu: float = EXPLORATION) -> float:
    """The largest weight that DynaOpt can give one of d objectives after so many choices: all of them raise the same one."""
    bandit = Exp3(d, mu)
    for _ in range(choices):
        bandit.update(0, 1.0)
    return bandit.weights[0] / sum(bandit.weights)


def bandit_reading(log: pd.DataFrame, names: Sequence[str], weights: Sequence[float], replies: int, choices: int) -> str:
    """What a short DynaOpt run did, and how far the study's can lean. Columns of `log`: reward."""
    after = ", ".join(f"{name} {number(w, 3)}" for name, w in zip(names, weights, strict=True))
    return (
        f"After {counted(len(log), 'step')} the weights for the next one are {after}; the training reward was "
        f"{number(log['reward'].iloc[0])} in the first step and {number(log['reward'].iloc[-1])} in the last (each the mean of "
        f"{counted(replies, 'sampled reply', 'sampled replies')}; validation decodes greedily). "
        f"The study's run has {counted(choices, 'choice')}: if all raised the same objective, its "
        f"weight would reach {number(furthest(len(names), choices))}. No run of that length can lean further."
    )


def merged_reading(scores: pd.DataFrame) -> str:
    """How far ways to combine the same adapters lie apart. `scores`: mean score of each reply, [clients, ways]."""
    means, pairs = scores.mean(), scores.shape[1] * (scores.shape[1] - 1) // 2
    low, high = ([str(name) for name in means.index[np.isclose(means, value)]] for value in (means.min(), means.max()))
    if len(low) == scores.shape[1]:
        return f"Same adapters, same weights, and one mean for all ways to combine them: {number(means.max())}."
    gap = over((scores[high[0]] - scores[low[0]]).to_numpy(), looks=pairs)
    clear = (
        "At these weights the ways to combine do not score alike; whether other weights would change that, the study below asks."
        if gap["low"] > 0
        else "That is no clear difference on so few clients; the study below has more."
    )
    return (
        f"Same adapters, same weights, and means from {number(means.min())} ({listing(low)}) to {number(means.max())} ({listing(high)}): "
        f"{told(gap)} between the extremes (95 % interval over {counted(len(scores), 'client')}, corrected for {counted(pairs, 'pair')}). "
        f"{clear}"
    )


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """What each method takes and gives, greedily and sampled, and how far from the base it goes (KL, nats a reply): means over the seeds.

    Columns of `rows`: one setting a method and seed (`representative`).
    """
    columns = {"data_points": "data, sum", "parallel": "data, longest run", "trainable": "parameters", "calls_per_token": "calls a token"}
    means = rows.groupby("method", sort=False)[list(columns)].mean()
    counts = means[list(columns)].round().astype(int).rename(columns=columns)
    given = rows.groupby("method", sort=False)[["mean", "sampled_mean", "kl"]].mean()
    return counts.join(given.rename(columns={"mean": "mean score", "sampled_mean": "sampled", "kl": "KL"})).reset_index()


def ranking_reading(rows: pd.DataFrame) -> str:
    """Who scores highest with one budget in sum, and what a shared and a whole budget give EMORL. Columns: method, seed, mean."""
    means = rows.groupby("method")["mean"].mean()
    text = leaders(rows[~rows["method"].str.endswith("-long")], "mean", "Mean scores with one budget in sum")
    if "base" in means:
        text += f" The base model has {number(means['base'], 3)}."
    if {"emorl", "emorl-long"} <= set(means.index):
        full, shared = number(means["emorl-long"], 3), number(means["emorl"], 3)
        gain = told(paired(rows, "emorl-long", "emorl"))
        text += f" Sharing the budget among its runs, EMORL has {shared}; with a whole budget for each run {full}, a difference of {gain}."
    return f"{text} Whoever is first among many owes part of that to luck: look at the intervals, not at the order."


GREEDY_AND_SAMPLED = (("clp-full", "uniform"), ("emorl-long", "uniform"), ("clp-full", "grpo"), ("emorl-long", "exact-average-long"))
"""Pairs of methods whose difference is looked at greedily and sampled."""


def by_decoder(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]] = GREEDY_AND_SAMPLED) -> pd.DataFrame:
    """Differences of mean scores with intervals, greedy and sampled. Columns: method, seed, mean, sampled_mean."""
    return pd.DataFrame(
        [
            {"first less second": f"{a} − {b}", "greedy": told(paired(rows, a, b)), "sampled": told(paired(rows, a, b, "sampled_mean"))}
            for a, b in pairs
        ]
    )


def decoder_reading(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]] = GREEDY_AND_SAMPLED) -> str:
    """Which rankings hold in both ways of decoding. Columns: method, seed, mean, sampled_mean."""
    sides = [[by_sign(paired(rows, a, b, column), 1, -1, 0) for column in ("mean", "sampled_mean")] for a, b in pairs]
    clear = [pair for pair, (greedy, _) in zip(pairs, sides, strict=True) if greedy]
    kept = [pair for pair, (greedy, sampled) in zip(pairs, sides, strict=True) if greedy and greedy == sampled]
    turned = [pair for pair, (greedy, sampled) in zip(pairs, sides, strict=True) if greedy * sampled < 0]
    sampled_only = [
        f"{a} {'above' if side > 0 else 'below'} {b}" for (a, b), (greedy, side) in zip(pairs, sides, strict=True) if side and not greedy
    ]
    also = f" Clear only when sampled: {listing(sampled_only)}." if sampled_only else ""
    if not clear:
        return f"Greedily none of these differences is clear.{also}"
    text = f"Greedily {len(clear)} of {counted(len(pairs), 'difference')} {'is' if len(clear) == 1 else 'are'} clear; "
    still = "it still is" if kept else "it is not"
    if len(clear) > 1:
        still = f"{'all' if len(kept) == len(clear) else len(kept) or 'none'} of them still"
    text += f"sampled, {still}. "
    if turned:
        text += f"Turned round: {listing([f'{a} and {b}' for a, b in turned])}. "
    lesson = (
        "A ranking of greedy scores is one of that decoder" if len(kept) < len(clear) else "Here the decoder does not change the ranking"
    )
    return f"{text.rstrip()}{also} {lesson}; all tables below are greedy unless they say otherwise."


MISSING = 0.05
"""A mean score below which an objective is not served at all."""


def missing_objective_reading(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """Runs that give an objective up: then scores lie in two heaps, which no Student's interval knows. Columns: method, seed, names."""
    trained = rows[rows["method"] != "base"]
    lost = trained[(trained[list(names)] < MISSING).any(axis=1)]
    if lost.empty:
        return f"No run gives an objective up (a mean score below {MISSING})."
    seeds = rows["seed"].nunique()
    parts = [f"{method} in {len(group)}" for method, group in lost.groupby("method", sort=False)]
    return (
        f"Of {listing(list(dict.fromkeys(trained['method'])))} some runs give an objective up (a mean score below {MISSING}): "
        f"{listing(parts)} of {counted(seeds, 'seed')}. A method that sometimes does has scores in two heaps, and Student's interval, made "
        f"for one, says little of it.{_heaps(trained.assign(mean=trained[list(names)].mean(axis=1)))}"
    )


def _heaps(rows: pd.DataFrame) -> str:
    """Whose mean scores lie in two heaps by the package's rule, with what can be said of them whatever their distribution."""
    found = with_intervals(rows, "mean")
    apart = found[found["shape"] == TWO_HEAPS]
    if apart.empty:
        return " By mean score none of them shows two heaps here, by a gap more than three times as wide as the wider heap."
    parts = [
        f"{row['method']} {number(row['median'], 3)} [{number(row['exact_low'], 3)}, {number(row['exact_high'], 3)}]"
        for row in apart.to_dict("records")
    ]
    return f" Medians with their exact interval, at {number(100 * apart['coverage'].iloc[0])} %: {listing(parts)}."


def heaps_reading(scores: Sequence[float], method: str) -> str:
    """One method's scores over the seeds: in one heap or two, and what either interval says. `scores`: at least two."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    mean, low, high = interval(ordered)
    median, first, last, coverage = median_interval(ordered)
    shape = shape_of(ordered)
    told_shape = {
        TWO_HEAPS: f"The widest gap is more than {HEAPS_APART:g} times as wide as the wider heap beside it: two heaps",
        FEW: "So few cannot tell whether they lie in two heaps",
    }.get(shape, f"No gap is more than {HEAPS_APART:g} times as wide as the wider heap beside it: {shape}")
    return (
        f"{method}, {counted(len(ordered), 'seed')}: {', '.join(number(value, 3) for value in ordered)}. {told_shape}. The mean is "
        f"{number(mean, 3)} [{number(low, 3)}, {number(high, 3)}] by Student's interval at 95 %, the median {number(median, 3)} "
        f"[{number(first, 3)}, {number(last, 3)}] by the exact one at {number(100 * coverage)} %."
    )


def earlier_reading(methods: Sequence[str]) -> str:
    """Which of a table's methods had the name then and are others now (`emorl_lite.study.outdated`)."""
    if not methods:
        return "Every method stands in these tables as it is now."
    one = len(methods) == 1
    stand = "stands in these tables as it was before, and learns" if one else "stand in these tables as they were before, and learn"
    return f"{listing(list(methods))} {stand} otherwise now."


def emorl_reading(rows: pd.DataFrame, seeds: int) -> str:
    """EMORL less uniform weighting in both accountings, and whether scores go with distance from the base. `rows`: all choices."""
    by_own_search, chosen = representative(rows, BY_OWN_SEARCH), representative(rows)
    means = chosen.groupby("method")[["mean", "kl"]].mean().dropna()
    text = (
        "EMORL less uniform, EMORL's weights by its published search: "
        f"{told(paired(by_own_search, 'emorl', 'uniform'))} with equal sums of data, "
        f"{told(paired(by_own_search, 'emorl-long', 'uniform'))} with equal longest "
        f"runs (brackets: 95 % interval over {counted(seeds, 'seed')}, paired by seed; where it holds 0, this study cannot tell)."
    )
    if len(means) < 3 or means["mean"].nunique() < 2 or means["kl"].nunique() < 2:
        return text
    rank = stats.spearmanr(means["mean"], means["kl"])
    reading = "no clear relation"
    if rank.pvalue < 0.05:
        reading = "higher scores go further from the base" if rank.statistic > 0 else "higher scores stay closer to the base"
    return (
        f"{text} Over the {len(means)} methods the rank correlation of the mean score with the KL of sampled replies to the base "
        f"is {signed(float(rank.statistic), 2)}: {reading}."
    )


def choice_reading(rows: pd.DataFrame, method: str = "emorl-long") -> str:
    """What each way to choose a method's weights is worth on test clients. Columns: method, choice, seed, mean."""
    group = rows[rows["method"] == method]
    grid = paired(group, "grid", "default", by="choice")
    gains = {choice: paired(group, choice, "grid", by="choice") for choice in ("published search", "exact optimum")}
    text = (
        f"For {method}, on test clients: the grid's choice less uniform weights {told(grid)}; the published search's choice less the "
        f"grid's {told(gains['published search'])}; the exact optimum's less the grid's {told(gains['exact optimum'])}."
    )
    if not np.isfinite(gains["exact optimum"]["low"]):
        return text
    unclear = "no more than the grid's that these seeds could show: what is best on validation clients need not be best on fresh ones"
    gain = by_sign(gains["exact optimum"], "more than the grid's, also on fresh clients", "less than the grid's on fresh clients", unclear)
    return f"{text} The optimum on the validation clients, which no search can beat there, is worth {gain}."


def accounts(spent: pd.DataFrame) -> pd.DataFrame:
    """Data points by method: mean, std, and the share of seeds in which the rule never held ("never"). Columns as `consumption`."""
    groups = spent.groupby("method", sort=False)
    table = groups.agg(mean=("data_points", "mean"), std=("data_points", "std"), never=("censored", "mean"))
    return table.reset_index()


def saved_reading(spent: pd.DataFrame, search: int, against: str = "uniform") -> str:
    """What EMORL saves against a single policy, by what is counted. Columns as `consumption`, with the search's rows (`searched_too`)."""
    parts = []
    for label in ("longest run", "longest run + search", "sum of runs", "sum of runs + search"):
        found = paired(spent, against, f"emorl ({label})", "data_points")
        parts.append(f"{label} {judged(found, 'saves', 'costs more', 'open', 0)}")
    return (
        f"Data points of {against} less EMORL's (positive: EMORL saves), by what is counted: {'; '.join(parts)}. The search alone decodes "
        f"{search:,} replies: whoever quotes such a number must say whether it is in."
    )


def stopping_reading(taken: pd.DataFrame) -> str:
    """How often the stopping rule never held. Columns: method, never (share of seeds)."""
    never = taken[taken["never"] > 0]
    if never.empty:
        return "Here every run converged by this rule within its budget."
    if (taken["never"] == 1).all():
        return "Here no run converged by this rule: equal counts and small spreads only mean equal budgets."
    names = listing([str(name) for name in never["method"]])
    return (
        f"Here the rule did not always hold ({names}). A run that never converges counts with its whole budget and would need more, so "
        "those means are too low and their spreads say little."
    )


def one_call_reading(rows: pd.DataFrame) -> str:
    """The best methods with one model call a token and one budget, and the calls of the others. Columns: method, seed, calls…, mean."""
    calls = rows.groupby("method")["calls_per_token"].first()
    single_call = rows[rows["method"].map(calls).eq(1) & ~rows["method"].str.endswith("-long")]
    multi_call = [f"{name} {counted(int(n), 'call')}" for name, n in calls.items() if n > 1]
    text = leaders(single_call, "mean", "Mean scores of the drawn methods with one call a token and one budget in sum")
    return f"{text} Others take more, though in one batch: {listing(multi_call)}." if multi_call else text


def volume_reading(metrics: pd.DataFrame, every: pd.DataFrame, asked: int, steps: int, method: str = "emorl-long") -> str:
    """Hypervolumes of the mergers beside each other, and what the grid misses. Columns: method, seed, hypervolume.

    `every`: `beside_every_setting`. `asked`: weight vectors of the grid; 1 / `steps`: the spacing at which the exact map was looked up, 0
    if its front is whole.
    """
    soups = told(paired(metrics, method, "rewarded-soups-long", "hypervolume"))
    averages = told(paired(metrics, method, "exact-average-long", "hypervolume"))
    text = f"With a whole budget for each run, EMORL less Rewarded Soups is {soups}, less exact averages {averages}."
    own = every[every["method"] == method]
    gain = over((own["hypervolume"] - own["grid_hypervolume"]).to_numpy(dtype=np.float64))
    if not np.isfinite(gain["mean"]):
        return text
    grid = f"the grid of {counted(asked, 'weight vector')}"
    whole = f"The exact map, looked up at spacing 1/{steps}," if steps else "The exact map's whole front"
    text = f"{text} {whole} less {grid}: {told(gain)}."
    if (own["chosen_on"] == "test").any():
        return f"{text} That front was picked on the clients that score it, the grid's on others, so that the difference is flattered."
    missed = "That is what the grid misses" if gain["mean"] >= 5e-4 else "The grid misses nothing that shows here"
    return f"{text} {missed}; both fronts were chosen on validation clients and scored on others."


def levels_reading(place: pd.DataFrame) -> str:
    """Hidden states beside parameters, then the highest and the lowest place. Columns: level, seed, best, average (`best_by_level`)."""
    parts, states = [], []
    for column, description in (("best", "with weights chosen on validation clients"), ("average", "averaged over all weights")):
        means = place.groupby("level")[column].mean()
        gap = paired(place, "last hidden state", "parameters", column, "level")
        if np.isfinite(gap["mean"]):
            states.append(f"{description} {judged(gap, 'more', 'less')}")
        high, low = str(means.idxmax()), str(means.idxmin())
        if means[high] == means[low]:
            parts.append(f"{description}, the same for all: {number(means[high], 3)}")
            continue
        gap = paired(place, high, low, column, "level", looks=len(means) * (len(means) - 1) // 2)
        clear = judged(gap, "a clear difference", "")
        parts.append(f"{description}, from {number(means[low], 3)} (*{low}*) to {number(means[high], 3)} (*{high}*): {clear}")
    text = f"Last hidden state less parameters, {'; '.join(states)}. " if states else ""
    every_pair = "intervals over seeds, for lowest and highest corrected for all pairs of places"
    return f"{text}The means go, {'; '.join(parts)}. (Brackets: {every_pair}.)"


def holm_reading(claims: pd.DataFrame, shown: pd.Series[bool] | None = None) -> str:
    """How many verdicts Holm's correction for all claims leaves, of those `shown` (default: all). Columns as `examined` gives them."""
    tested = claims[claims["n"] > 0]  # some are exact, some not measured
    if tested.empty:
        return "Without an interval nothing can be corrected."
    here = np.ones(len(tested), dtype=bool) if shown is None else shown[tested.index].to_numpy()
    decided = tested["verdict"].isin(["holds", "refuted"]).to_numpy() & here
    kept = decided & (tested["holm"] == tested["verdict"]).to_numpy()
    lost = tested[decided & ~kept]
    text = (
        f"Of {counted(len(tested), 'interval')} at 95 %{'' if here.all() else ' in both notebooks'} {number(0.05 * len(tested), 1)} miss "
        f"the truth by chance.{_exact(claims)}{_in_heaps(tested[here])} Holm's correction for so many leaves {int(kept.sum())} of the "
        f"{int(decided.sum())} verdicts{'' if here.all() else ' here'}"
    )
    return f"{text}." if lost.empty else f"{text}. Open again: {_named(lost)}."


def _named(claims: pd.DataFrame) -> str:
    """Claims with their measures, those of one claim together: "a (m; n); b (m)"."""
    groups = claims.groupby("claim", sort=False)["measure"]
    return "; ".join(f"{claim} ({'; '.join(measures)})" for claim, measures in groups)


def _in_heaps(tested: pd.DataFrame) -> str:
    """What is said of claims whose seeds lie in two heaps."""
    apart = tested[tested["shape"] == TWO_HEAPS]
    if apart.empty:
        return ""
    verb = "has its" if len(apart) == 1 else "have their"
    exact = apart.dropna(subset=["coverage"])
    text = f" {len(apart)} of those here {verb} seeds in two heaps, where Student's interval and F mislead"
    if exact.empty:
        return f"{text}: of ratios nothing is said then."
    seeds, level = int(exact["n"].min()), 100 * float(exact["coverage"].min())
    text += f": the median's exact interval decides there, at {number(level)} % (p is never below {number(2.0 ** (1 - seeds), 4)} then)"
    return f"{text}; of ratios nothing is said." if len(exact) < len(apart) else f"{text}."


def claims_reading(claims: pd.DataFrame) -> str:
    """Verdicts after Holm's correction, greedy beside sampled. Columns as `examined` gives them."""
    measured = claims[claims["verdict"] != "not measured"]
    if measured.empty:
        return "None of these claims was measured."
    left = {title: measured[measured["holm"] == word] for word, title in (("holds", "Left as holding"), ("refuted", "Left as refuted"))}
    parts = [f" {title}: {_named(kept)}." for title, kept in left.items() if len(kept)]
    return f"Corrected for all comparisons, {tally(measured)}.{''.join(parts)} {_both_ways(measured)}"


def _both_ways(claims: pd.DataFrame) -> str:
    """Which claims on scores say the same greedily and sampled."""
    sides = claims[claims["decoding"].isin([GREEDY, SAMPLED])]
    if sides.empty:
        return "None of them was measured in both ways of decoding."
    sides = sides.assign(what=sides["measure"].str.replace(rf", (?:{GREEDY}|{SAMPLED})$", "", regex=True))
    both = sides.pivot(index=["claim", "what"], columns="decoding", values="holm").reindex(columns=[GREEDY, SAMPLED]).dropna()
    clear = both[(both != "open").any(axis=1)]
    if both.empty:
        return "None of them was measured in both ways of decoding."
    if clear.empty:
        return f"Of {counted(len(both), 'measure')} taken greedily and sampled, none is decided in either way."
    same = int((clear[GREEDY] == clear[SAMPLED]).sum())
    one = len(clear) - same
    text = f"Of {counted(len(both), 'measure')} taken greedily and sampled, {len(clear)} {'is' if len(clear) == 1 else 'are'} decided"
    return f"{text}: {same or 'none'} in both ways alike" + (f", {one} in one alone." if one else ".")


def matched_reading(claims: pd.DataFrame) -> str:
    """Claims on scores at equal distance from the base. Columns as `examined` gives them."""
    at_kl = claims[claims["decoding"].str.startswith(f"{SAMPLED} at ")]
    measured = at_kl[at_kl["verdict"] != "not measured"]
    if measured.empty:
        return "At equal distance from the base: not measured in these tables."
    decided = measured[measured["holm"].isin(["holds", "refuted"])]
    text = f"At equal distance from the base, {counted(len(measured), 'comparison')} of sampled replies: {tally(measured)}."
    if len(lacking := at_kl.drop(measured.index)):
        text += f" In {len(lacking)} more one of the two is missing, or does not get so far in enough seeds."
    return text if decided.empty else f"{text} Decided: {'; '.join(_with_number(row) for _, row in decided.iterrows())}."


def _with_number(row: pd.Series) -> str:
    verb = "holds" if row["holm"] == "holds" else "is refuted"
    return f"{row['claim']} ({row['measure']}) {verb}, {told(interval_of({str(k): v for k, v in row.items()}))}"


def _exact(claims: pd.DataFrame) -> str:
    exact = claims[(claims["n"] == 0) & claims["mean"].notna()]
    if exact.empty:
        return ""
    names, verb = listing([f"“{claim}”" for claim in exact["claim"]]), "is" if len(exact) == 1 else "are"
    return f" ({names} {verb} counted exactly, without an interval, and {verb} not among them.)"


def confounders_reading(rows: pd.DataFrame, claims: pd.DataFrame) -> str:
    """Trained parameters and decoding: two confounders of the paper's comparison."""
    rank_effect = paired(rows, "uniform-wide", "uniform")
    row = claims[claims["claim"] == "greedy decoding flatters a policy"].iloc[0]
    greedy = {key: float(row[key]) for key in ("mean", "low", "high")}
    meaning = by_sign(
        greedy,
        "So greedy EMORL against sampled baselines, as in the paper's code, compares decoders along with methods",
        "So greedy EMORL against sampled baselines, as in the paper's code, is handicapped by its decoder",
        "Decoding makes no clear difference here; in the paper's code it goes along with the method, and is not measured",
    )
    return (
        "Two confounders of the paper's comparison, measured. *Trained parameters*: a policy as wide as EMORL's adapters together, less "
        f"the narrow one: {told(rank_effect)}. *Decoding*: greedy less sampled replies of one and the same policy: {told(greedy)}."
        + (f" {meaning}." if np.isfinite(greedy["low"]) else "")
    )


# -- notebook 07

FULL = 0.95
"""A mean score to which a request can add little."""


def requests_reading(scores: Mapping[str, np.ndarray], objectives: Sequence[str], against: str = "all") -> str:
    """Whether a steerable policy hears requests. `scores`: by request, those of its replies [clients, objectives]; one is `against`."""
    gains = {name: over(scores[name][:, i] - scores[against][:, i]) for i, name in enumerate(objectives)}
    unheard = [name for name in objectives if not gains[name]["low"] > 0]
    full = [name for name in unheard if scores[against][:, list(objectives).index(name)].mean() > FULL]
    unheard = [name for name in unheard if name not in full]
    text = (
        "What asking for one objective adds to its score, against asking for all: "
        + ", ".join(f"{name} {told(gains[name], 2)}" for name in objectives)
        + f" (95 % intervals over {counted(len(scores[against]), 'client')}). "
    )
    if full:
        text += f"Over {FULL} without being asked for it alone, so that little can be added: {listing(full)}. "
    if unheard:
        return text + f"Not clearly heard: {listing(unheard)}. After so short a training, that may happen."
    heard = len(objectives) - len(full)
    return text + (
        "Each of these requests is heard." if not full else "The others are heard." if heard > 1 else "The other is heard." * heard
    )


def strength_reading(scores: pd.DataFrame, what: str) -> str:
    """What DeRa's strength does to one objective. `scores`: [clients, strengths], with the strengths 0 and 1 among the columns."""
    means, last = scores.mean(), float(max(scores.columns.astype(float)))
    gain, beyond = (over((scores[b] - scores[a]).to_numpy()) for a, b in ((0.0, 1.0), (1.0, last)))
    text = (
        f"From κ = 0, the base, to κ = 1, the adapter, {what} goes from {number(means[0.0])} to {number(means[1.0])}, {told(gain, 2)} "
        f"(interval over {counted(len(scores), 'client')}). "
    )
    if last > 1:
        outcome = by_sign(beyond, "extrapolating adds to it", "extrapolating loses", "extrapolating makes no clear difference")
        text += f"At κ = {last:g} it is {number(means[last])}, {told(beyond, 2)} against κ = 1: {outcome}. "
    return text.rstrip()


def single_point_reading(metrics: pd.DataFrame, sweep: pd.DataFrame, steerable: str = "clp-full", single: str = "uniform") -> str:
    """A steerable policy's front beside the one point of a single policy. Columns as `front_metrics`, and its sweep."""
    gap = judged(paired(metrics, steerable, single, "hypervolume"), "so its front covers more", "so its front covers less")
    if not {steerable, single} <= set(sweep["method"]):
        return f"Hypervolume of {steerable} less that of {single}'s one point: {gap}."
    above = dominated_share(sweep[sweep["method"].isin([steerable, single])], steerable, single)["share"]
    return (
        f"Hypervolume of {steerable} less that of {single}'s one point, with the same data: {gap}. In {int((above > 0).sum())} of "
        f"{counted(len(above), 'seed')} one of {steerable}'s points dominates that point: it is nowhere lower."
    )


def control_reading(metrics: pd.DataFrame) -> str:
    """Extremes of controllability and gap, and who gives most when asked. Columns: method, seed, controllability, gap, steered."""
    parts = []
    for column in ("controllability", "gap"):
        means = metrics.groupby("method")[column].mean().dropna()
        if len(means):
            low, high = str(means.idxmin()), str(means.idxmax())
            parts.append(f"Mean {column} runs from {number(means[low], 3)} ({low}) to {number(means[high], 3)} ({high}).")
    text = "Neither is a merit in itself: a policy that ignores its weights has little or no gap, and one that obeys them may give little."
    return f"{' '.join(parts)} {text} Read them beside *steered*. {leaders(metrics.dropna(subset=['steered']), 'steered', 'E[w·p(w)]')}"


def at_equal_distance(sweep: pd.DataFrame, first: str, second: str) -> dict[str, float]:
    """first - second: sampled score at equal KL to the base, averaged over the distances that both reach, seed by seed.

    Columns: seed, method, strength, kl, sampled_mean. nan where the two have no distance in common.
    """
    gaps = []
    for _, group in sweep.dropna(subset=["strength", "kl"]).groupby("seed"):
        a, b = (group[group["method"] == name].sort_values("kl") for name in (first, second))
        if a.empty or b.empty:
            continue
        low, high = max(a["kl"].min(), b["kl"].min()), min(a["kl"].max(), b["kl"].max())
        if low < high:
            kl_grid = np.linspace(low, high, 50)
            gaps.append(float(np.mean(np.interp(kl_grid, a["kl"], a["sampled_mean"]) - np.interp(kl_grid, b["kl"], b["sampled_mean"]))))
    return over(np.asarray(gaps))


def equal_distance(matched: pd.DataFrame | None) -> pd.DataFrame:
    """Scores at equal KL to the base: method, and for each KL the means of sampled and of greedy replies over the seeds that got there.

    Columns of `matched`: method, seed, target, reached, mean, sampled_mean. An empty table if there is none.
    """
    if matched is None or matched.empty:
        return pd.DataFrame()
    parts = []
    for target, group in matched[matched["reached"].eq(True)].groupby("target"):
        by_method = group.groupby("method", sort=False)
        means = by_method.agg(sampled=("sampled_mean", "mean"), greedy=("mean", "mean"), seeds=("seed", "nunique"))
        parts.append(means.add_suffix(f", KL {target:g}"))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, axis=1).reindex(list(dict.fromkeys(matched["method"]))).dropna(how="all")
    return table.sort_values(str(table.columns[0]), ascending=False, kind="stable").rename_axis("method").reset_index()


def equal_distance_reading(matched: pd.DataFrame | None) -> str:
    """Who scores highest at equal KL to the base, of those who get there in every seed. Columns as `equal_distance`."""
    if matched is None or matched.empty:
        return "Scores at equal distance from the base: not measured in these tables."
    parts, seeds = [], matched["seed"].nunique()
    for target, group in matched.groupby("target"):
        reached = group[group["reached"].eq(True)]
        everywhere = reached.groupby("method")["seed"].nunique().loc[lambda counts: counts == seeds].index
        rest = sorted(set(group["method"]) - set(everywhere))
        text = leaders(reached[reached["method"].isin(everywhere)], "sampled_mean", f"Sampled scores at KL {target:g}")
        parts.append(text + (f" Not so far from the base in every seed: {listing(rest)}." if rest else ""))
    return " ".join(parts)


def distance_reading(sweep: pd.DataFrame) -> str:
    """DeRa's and clp-kl's reach, and their scores at equal distance from the base."""
    measured = sweep.dropna(subset=["strength", "kl"])
    means = measured.groupby(["method", "strength"])["kl"].mean()
    reach = [
        f"{name} spans {number(means[name].min(), 1)} to {number(means[name].max(), 1)} nats a reply"
        for name in ("dera", "clp-kl")
        if name in means.index
    ]
    if len(reach) < 2:
        return f"{listing(reach)}. Not both were measured."
    gap = at_equal_distance(sweep, "dera", "clp-kl")
    if not np.isfinite(gap["mean"]):
        return f"{listing(reach)}: they have no distance in common at which to compare them."
    clear = judged(gap, "more than clp-kl at equal distance", "less than clp-kl at equal distance")
    return f"{listing(reach)}. Over the distances that both reach, DeRa's mean score less clp-kl's is {clear}."
