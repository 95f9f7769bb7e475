"""What notebook 08's tables say, in sentences that are built from them and hold whichever way the numbers come out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from emorl_lite.base.shown_text import as_markdown
from emorl_lite.base.wording import by_sign, counted, judged, listing, number, percent, signed, told
from emorl_lite.study import paper
from emorl_lite.study.comparison import BY_OWN_SEARCH, paired, representative
from emorl_lite.study.measuring import geometric_mean

LAST = 20
"""So many validations the paper's stopping rule looks at."""


def provenance_reading(numbers: pd.DataFrame) -> str:
    """How many of the published numbers are confirmed. Columns of `paper.published()`: confirmed ("yes", "read by eye", "no")."""
    kinds = numbers["confirmed"].value_counts()
    sure, eye, unsure = (int(kinds.get(kind, 0)) for kind in ("yes", "read by eye", "no"))
    return (
        f"Of these {counted(len(numbers), 'line')}, {sure} were seen in a file of the authors', {eye} read by eye off a picture (about "
        f"two digits), and {unsure} in {paper.SOURCES['summary'].removeprefix('from ')}, or in a description. Whatever rests on the last "
        "kind is a guess until somebody looks it up in the paper's own text; it is labelled so wherever it is quoted below."
    )


def advantages_reading(scores: Sequence[float], entered: Sequence[float], advantages: Sequence[float]) -> str:
    """What the logarithm does to k scores of one prompt: the scores [k], what enters training [k], the advantages [k]."""
    k, lowest, highest = len(scores), min(scores), max(scores)
    text = (
        f"Scores from {number(lowest, 4)} to {number(highest, 4)} enter as {number(min(entered))} to {number(max(entered))}. Advantages "
        "sum to 0 by construction, whatever the scores. "
    )
    if highest - lowest < 1e-6:
        return text + f"All {k} samples score alike, so none is better than the mean and nothing is learned from this prompt."
    worst, best = min(advantages), max(advantages)
    text += f"The best sample is pushed with {signed(best, 2)}, the worst with {signed(worst, 2)}: "
    text += by_size(best + worst, "the winner weighs more", "the loser weighs more", "both weigh alike")
    return (
        f"{text}. A logarithm stretches the low end: .001 and .01 are as far apart as .1 and 1, though neither of the first two is of "
        "any use to a client. So training works at the difference between bad and worse, and little at that between good and better."
    )


def by_size(value: float, above: str, below: str, near: str, room: float = 0.005) -> str:
    """Which of three: `value` above `room`, below -`room`, or between."""
    return above if value > room else below if value < -room else near


def stopping_reading(rows: pd.DataFrame, patience: int, tolerance: float) -> str:
    """What the paper's rule says of some runs. Columns: objective, mean, spread (std / mean of the last validations), stops (yes, no)."""
    stopped = [str(name) for name in rows.loc[rows["stops"] == "yes", "objective"]]
    gone_on = [str(name) for name in rows.loc[rows["stops"] == "no", "objective"]]
    parts = []
    if stopped:
        parts.append(f"would stop {listing(stopped)}")
    if gone_on:
        parts.append(f"would let {listing(gone_on)} go on")
    return (
        f"With the last {patience} validations and a limit of {tolerance:g}, the rule {' and '.join(parts)}. It asks how much the "
        "validation means *vary*, not whether they are high, and not which way they go. So it stops a run that has learned nothing as well "
        "as one that has learned all; and one that rises slowly and steadily too, if it gains less than "
        f"{number(_level(patience, tolerance))} % of its mean from one validation to the next (the paper takes {LAST}: less than "
        f"{number(_level(LAST, tolerance))} %)."
    )


def _level(patience: int, tolerance: float) -> float:
    """The steepest straight rise that passes for level, in % of the mean a validation: n equally spaced values have this spread."""
    return 100 * tolerance / ((patience**2 - 1) / 12) ** 0.5


def accounting_reading(counts: pd.DataFrame) -> str:
    """Which accounting fits the published figure. Columns of `paper.accountings()`: accounting, low, high, fits."""
    spent = paper.CONSUMPTION.set_index("method")
    figure, soups = int(spent["data_points"]["emorl"]), spent.loc["exact-average", ["data_points", "data_points_std"]]
    fits = counts.loc[counts["fits"], "accounting"].tolist()
    text = f"The published {figure:,} ({paper.SOURCES['scatter']}) lies "
    text += f"between the two ends of *{listing(fits)}*" if fits else "between the two ends of none of the four"
    if len(fits) == 1:
        text += " alone"
    return (
        f"{text}. How much does that prove? The runs are {paper.SOURCES['curves']}, to the nearest thousand, and the code counts no "
        "search. Model soups, the same runs without a search, should then have fewer data points than EMORL; published are "
        f"{soups.iloc[0]:,.0f} ± {soups.iloc[1]:,.0f}. It is a guess that fits one figure, not a finding. And it must not be circular: "
        "take the search off the published figure, call the rest the longest run, add the search again, and every figure fits."
    )


def budgets_reading(rows: pd.DataFrame) -> str:
    """What uniform weighting and EMORL were given. Columns: method, data_points, parallel."""
    points = rows.groupby("method")[["data_points", "parallel"]].mean()
    if not {"uniform", "emorl"} <= set(points.index):
        return ""
    uniform, longest, total = (
        float(points[c][m]) for c, m in (("data_points", "uniform"), ("parallel", "emorl"), ("data_points", "emorl"))
    )
    equal = {uniform: "neither accounting is equal", total: "they are equal in sum", longest: "they are equal by the longest run"}
    if uniform == longest == total:
        equal[uniform] = "they are equal in both accountings"
    return (
        f"uniform weighting had {number(uniform, 0)} data points, EMORL {number(longest, 0)} in its longest run and "
        f"{number(total, 0)} in sum: {equal[uniform]}."
    )


def shared_budget_reading(shared: pd.DataFrame, each: pd.DataFrame) -> str:
    """How EMORL's place beside uniform weighting turns with its budget. Rows with one budget shared by its runs, and with one for each."""
    parts, ways = [], []
    for rows, words in ((shared, "with one budget shared among its runs"), (each, "with a budget for each")):
        gap = paired(rows, "emorl", "uniform")
        parts.append(f"{words} {judged(gap, 'above it', 'below it')}")
        ways.append(by_sign(gap, 1, -1, 0))
    turned = "So the budget turns their order round" if ways[0] * ways[1] < 0 else "The order is not clearly turned round here"
    return (
        f"On tiny EMORL's mean less uniform weighting's is, {', '.join(parts)} (95 % intervals over seeds). {turned}. How data are "
        "counted, by the sum or by the longest run, is no detail: it decides who is compared with whom."
    )


def task_reading(replies: pd.DataFrame, objectives: Sequence[str]) -> str:
    """Which of the replies to one client scores highest, on average and by each objective. Columns: method, <objective>; a row a method."""
    scores = replies.set_index("method")[list(objectives)]
    means = scores.mean(axis=1).sort_values(ascending=False, kind="stable")
    best = ", ".join(f"{name} {scores[name].idxmax()} ({number(scores[name].max())})" for name in objectives)
    return (
        f"Mean scores of these replies: {', '.join(f'{method} {number(mean)}' for method, mean in means.items())}. Highest by objective: "
        f"{best}. One client is an example, not evidence: the means follow."
    )


def found_reading(rows: pd.DataFrame, samples: pd.DataFrame, objectives: Sequence[str]) -> str:
    """EMORL's weights, scores and most frequent reply for every seed of a real study; its gain over the greedy base by the mean, by which
    the search chose, and by the geometric mean.

    `rows`: method, seed, mean, w_<objective>, <objective>; `samples`: method, seed, reply.
    """
    emorl, lines = rows[rows["method"] == "emorl"], []
    for row in emorl.to_dict("records"):
        replies = samples.loc[(samples["method"] == "emorl") & (samples["seed"] == row["seed"]), "reply"].value_counts()
        weights = ", ".join(number(float(row[f"w_{name}"])) for name in objectives)
        scores = ", ".join(f"{name} {number(float(row[name]))}" for name in objectives)
        line = f"seed {row['seed']}: weights ({weights}), test scores {scores}"
        if len(replies):
            words = as_markdown(replies.index[0])
            often = f"its most frequent reply, to {replies.iloc[0]} of {counted(int(replies.sum()), 'client')} here: “{words}”"
            line += f"; {often if replies.iloc[0] > 1 else 'no two of the clients here get the same reply'}"
        lines.append(f"- {line}")
    if emorl.empty:
        return "EMORL is not in this table."
    by_every = rows.assign(mean=geometric_mean(rows[[*objectives]].to_numpy()))
    mean, every = (judged(paired(table, "emorl", "base", looks=2), "more", "less") for table in (rows, by_every))
    return (
        f"What the published search found on smollm2 ({', '.join(objectives)}):\n\n"
        + "\n".join(lines)
        + f"\n\nEMORL less the greedy base, over {counted(len(emorl), 'seed')}: by the mean, for which the search chose, {mean}; by "
        f"the geometric mean, which asks for every objective, {every} (intervals over seeds alone, two looks)."
    )


def consumption_reading(spent: pd.DataFrame, source: str = "tiny") -> str:
    """The paper's consumption beside ours in all accountings. Columns: method (with its accounting), seed, data_points, censored or not."""
    theirs = paper.CONSUMPTION.set_index("method")
    points, std = theirs["data_points"], theirs["data_points_std"]
    text = (
        f"In the paper EMORL takes {percent(points['emorl'] / points['uniform'])} of uniform weighting's data points "
        f"({paper.SOURCES['scatter']}), with a spread {number(std['uniform'] / std['emorl'], 1)} times smaller."
    )
    comparisons, there = [], set(spent["method"])
    for accounting in ("longest run", "sum of runs", "longest run + search", "sum of runs + search"):
        if "search" not in accounting or f"emorl ({accounting})" in there:
            gap = paired(spent, f"emorl ({accounting})", "uniform", "data_points")
            comparisons.append(f"by the {accounting} {judged(gap, 'more', 'fewer', digits=0)}")
    on_top = "" if len(comparisons) > 2 else "; the search comes on top"
    return (
        f"{text} On {source}, EMORL's data points less uniform's: {'; '.join(comparisons)} (95 % intervals over seeds{on_top})."
        f"{_censored(spent)} Name the accounting whenever you say whether EMORL saves data."
    )


def _censored(spent: pd.DataFrame) -> str:
    """How many of the counts are whole budgets, because a run ended before the rule held."""
    if "censored" not in spent or not spent["censored"].any():
        return ""
    groups = spent.groupby("method", sort=False)["censored"]
    cut = listing([f"{method} {int(group.sum())} of {len(group)}" for method, group in groups if group.any()])
    return f" Where the rule never stopped a run, its whole budget is counted: {cut}. These counts are too low, nobody knows by how much."


def measured_costs_reading(table: pd.DataFrame, near: float = 0.05, nearer: float = 0.01) -> str:
    """What searches really needed. Columns of search_surface.csv: search, d, shortfall, evaluations, decoded, reached."""
    table = table.assign(search=table["search"].replace("bayesian", "Bayesian"))
    fewest, leads = [], []
    for shortfall, of_shortfall in table.groupby("shortfall", sort=False):
        for d, rows in of_shortfall.groupby("d"):
            reached = rows.groupby("search")["reached"].mean() > 0.5
            counts = rows.groupby("search")["evaluations"].median()[reached].sort_values(kind="stable")
            if len(counts) and counts.get("hierarchical") == counts.iloc[0]:
                leads.append(f"{percent(float(str(shortfall)))} at d = {d} ({number(float(counts.iloc[0]), 0)})")
            if len(counts) and np.isclose(float(str(shortfall)), near):
                fewest.append(f"d = {d}: {counts.index[0]} {number(float(counts.iloc[0]), 0)}")
    lost = []
    for search, rows in table[np.isclose(table["shortfall"], nearer)].groupby("search", sort=False):
        reached = rows.groupby("d")["reached"].mean()
        if missed := [str(d) for d in reached.index[reached <= 0.5]]:
            lost.append(f"{search} at d = {listing(missed)}")
    text = (
        f"Fewest points listed to within {percent(near)} of the known optimum, by the median over the runs that are here: "
        f"{'; '.join(fewest) or 'none'}. To within {percent(nearer)} half of the runs or more do not come with all the points that "
        f"they may list: {'; '.join(lost) or 'none'}."
    )
    published = table[table["search"] == "hierarchical"]
    if len(published):
        text += f" The hierarchical search needs the fewest {f'to within {listing(leads)}' if leads else 'nowhere'}."
        share = float((published["decoded"] / published["evaluations"]).median())
        text += f" Of the points that it lists, {percent(share)} can differ in their texts (median)."
    return f"{text} The formula counts what a search lists, not what it finds."


def bands_reading(curves: pd.DataFrame, objectives: Sequence[str]) -> str:
    """Learning curves over seeds in words. Columns: seed, run (an objective, or a method), episodes, reward, kl."""
    if not len(curves):
        return "The training logs are not among this study's tables: not measured here (`python -m emorl_lite study` keeps them)."
    ends = (
        curves.sort_values("episodes")
        .groupby(["run", "seed"], sort=False)
        .agg(first=("reward", "first"), last=("reward", "last"), kl=("kl", "last"))
    )
    parts = []
    for name in dict.fromkeys(curves["run"]):
        run = ends.loc[[name]]
        reach = f"{number(run['last'].min())} to {number(run['last'].max())}" if len(run) > 1 else "one seed"
        parts.append(
            f"**{name}** {number(run['first'].mean())} → {number(run['last'].mean())} ({reach}) at KL {number(run['kl'].mean(), 1)}"
        )
    single = ends[ends.index.get_level_values("run").isin(objectives)]
    seeds = counted(int(curves["seed"].nunique()), "seed")
    text = f"Sampled reward, first step to last, the mean over {seeds} (and their range): {'; '.join(parts)}."
    if len(single) and len(single) < len(ends):
        others = ends.drop(single.index)
        gap = float(single["last"].mean() - others["last"].mean())
        more = by_size(gap, "rises higher", "stays lower", "ends as high")
        text += (
            f" One reward alone {more} ({signed(gap, 2)}, on average) than a single policy's weighted mean: that says how hard each "
            "aim is, not which policy is better."
        )
    return text


def search_cost_reading(costs: pd.DataFrame, small: int = 3, large: int = 6) -> str:
    """What searches take at three and at more objectives. Columns of search_costs.csv: varied, d, search, evaluations, seconds, best."""
    by_d = costs[costs["varied"] == "objectives d"].set_index(["search", "d"])
    text = f"At three objectives and five levels: {5 * 3**3} listed points against {33**3:,} of the full grid."
    if ("hierarchical", small) in by_d.index:
        decoded = int(by_d["evaluations"][("hierarchical", small)])
        text += f" Of the {5 * 3**3}, {decoded} are decoded, because weights of one direction give one text, and points come again."
    bayes = [key for key in by_d.index if "ayes" in key[0] and key[1] in (small, large)]
    if bayes:
        means = [f"{counted(round(float(by_d['evaluations'][key])), 'evaluation')} at d = {key[1]}" for key in bayes]
        text += (
            f" To come within 1 % of the optimum, Bayesian optimisation takes {listing(means)} on average "
            "(a run that never gets there counts with its whole budget)."
        )
    growth = paper.facts("cost of the search")[""]
    text += (
        f" The paper's {growth.text}, $N$ the last spacing ({paper.SOURCES[growth.source]}), is true by construction: it counts the points "
        "that are listed."
    )
    pairs = [d for d in (small, large) if {("hierarchical", d), ("exact map", d)} <= set(by_d.index)]
    times, missed = [], []
    for d in pairs:
        exact, search = ({c: float(by_d[c][(name, d)]) for c in ("seconds", "best")} for name in ("exact map", "hierarchical"))
        times.append(f"{number(exact['seconds'], 0)} s against {number(search['seconds'], 0)} s at d = {d}")
        missed.append(f"{number(exact['best'] - search['best'], 4)} at d = {d}")
    if pairs:
        text += (
            f" The exact map takes, scoring included and beside this search by a prefix tree, {listing(times)}; the search's best lies "
            f"below the exact optimum by {listing(missed)}."
        )
    return text


def curves_reading(logs: pd.DataFrame, objectives: Sequence[str]) -> str:
    """Rewards, divergence and time of single-objective runs. Columns: objective, seed, reward, kl, seconds, episodes."""
    ends = logs.groupby(["objective", "seed"], sort=False).agg(
        first=("reward", "first"), last=("reward", "last"), kl=("kl", "last"), seconds=("seconds", "last"), points=("episodes", "last")
    )
    parts = []
    for name in objectives:
        runs = [f"{number(r['first'])} → {number(r['last'])} at KL {number(r['kl'], 1)}" for _, r in ends.loc[[name]].iterrows()]
        parts.append(f"**{name}** {', '.join(runs)}")
    points, low, high = int(ends["points"].max()), *paper.LONGEST_RUN
    minutes = " to ".join(dict.fromkeys(number(s / 60, 0) for s in (ends["seconds"].min(), ends["seconds"].max())))
    seeds = listing([str(seed) for seed in sorted(logs["seed"].unique())])
    seed_seconds = float(ends.groupby("seed")["seconds"].sum().mean())
    return (
        f"Sampled reward, first step to last (seeds {seeds}): {'; '.join(parts)}. A run of at most {points:,} data points took {minutes} "
        f"minutes on one CPU core; the runs of a seed {number(seed_seconds, 0)} s. The paper's longest run took {low / points:.0f} to "
        f"{high / points:.0f} times as many data points ({paper.SOURCES['curves']})."
    )


def cubes_reading(cubes: pd.DataFrame) -> str:
    """The order of what is mixed, in the paper and on tiny. Columns: what, seed, test."""
    theirs = paper.AGGREGATION
    test = cubes.groupby(["what", "seed"])["test"].first().reset_index()
    ours = test.groupby("what")["test"].mean().reindex(list(theirs)).dropna().sort_values(ascending=False, kind="stable")
    gaps = [paired(test, a, b, "test", "what") for a, b in (("hidden", "parameters"), ("parameters", "probabilities"))]
    clear = by_sign(
        gaps[0],
        "With equal decoding hidden states score higher than parameters here, too",
        "With equal decoding hidden states score lower than parameters here",
        "With equal decoding no advantage of hidden states over parameters can be told from luck here",
    )
    published = [number(theirs[a] - theirs[b]) for a, b in (("hidden", "parameters"), ("parameters", "probabilities"))]
    means = ", ".join(f"{what} {number(value, 3)}" for what, value in ours.items())
    return (
        f"The paper's order is {' > '.join(theirs)}, with gaps of {published[0]} and {published[1]} ({paper.SOURCES['cubes']}). Ours, by "
        f"the means on test clients: {means}; hidden states less parameters {told(gaps[0])}, parameters less probabilities {told(gaps[1])} "
        f"over {counted(test['seed'].nunique(), 'seed')}. {clear}. The paper decoded states greedily and sampled from the merged "
        "parameters, and notebook 06 measures what greedy decoding alone is worth. (Mixing *before the softmax* is the same as mixing "
        "hidden states, so there is no fourth cube.)"
    )


def samples_reading(samples: pd.DataFrame, methods: Sequence[str]) -> str:
    """The most frequent replies of sample generations. Columns: method, prompt, reply."""
    counts, most = [], 0
    for method in methods:
        rows = samples[samples["method"] == method]
        top = int(rows["reply"].value_counts().iloc[0])
        counts.append(f"{method} {top} of {len(rows)}")
        most = max(most, top)
    if most < 2:
        return "Read them first. No two of these clients get the same reply from one method."
    return (
        f"Read them first. How many clients get a method's most frequent reply: {', '.join(counts)}. One short sentence for many clients, "
        "with a high score, would be a reward that is hacked: look for it."
    )


def transfer_reading(averaged: pd.DataFrame, methods: Sequence[str], home: str = "pair", away: str = "counsel-chat") -> str:
    """Means on PAIR, out of domain, and diversity. Columns: set, method, mean, reflection, diversity_2, words; one row a set and method."""
    scores = {(row["set"], row["method"]): row for row in averaged.to_dict("records")}
    measured = [m for m in methods if (home, m) in scores]
    theirs = paper.CONSUMPTION.set_index("method")["pair_average"]
    summary = paper.SOURCES["summary"]
    published = ", ".join(f"{paper.METHODS[m]} {number(theirs[m], 3)}" for m in ("uniform", "emorl", "exact-average"))
    ours = ", ".join(f"{m} {number(scores[home, m]['mean'], 3)}" for m in measured)
    text = f"{_coherence(scores, measured, home)}**Average on PAIR.** The paper ({summary}): {published}. smollm2: {ours}."
    if measured and "exact-average" not in measured:
        text += " The paper's soups are our exact average, which was not measured there; Rewarded Soups are another method."
    moved = [f"{m} {signed(scores[away, m]['mean'] - scores[home, m]['mean'], 2)}" for m in measured if (away, m) in scores]
    if moved:
        text += f" **Out of domain**, mean score less that on PAIR: {', '.join(moved)}."
    if (away, "emorl") in scores:
        text += f" EMORL's reflection there is {number(scores[away, 'emorl']['reflection'])} (the paper, on Psych8k: "
        text += f"{number(paper.PSYCH8K_REFLECTION)}, {summary})."
    d = paper.DIVERSITY
    text += f" **Diversity-2.** The paper ({summary}): EMORL {number(d['EMORL'])}, others {number(d['others, lowest'])} to "
    text += f"{number(d['others, highest'])}. Here " + ", ".join(f"{m} {number(scores[home, m]['diversity_2'])}" for m in measured) + "."
    ceilings = {m: 1 - 1 / scores[home, m]["words"] for m in measured if scores[home, m]["words"] > 1}
    if not ceilings:
        return text
    top = " to ".join(dict.fromkeys(number(c) for c in (min(ceilings.values()), max(ceilings.values()))))
    capped = [m for m, c in ceilings.items() if scores[home, m]["diversity_2"] > 0.9 * c]
    text += f" A reply of n words has n − 1 pairs of words: at these lengths the measure cannot exceed {top}"
    if not capped:
        return f"{text}."
    return f"{text}; near that ceiling ({'all of them' if len(capped) == len(measured) else listing(capped)}) it says little about variety."


def _coherence(scores: dict[tuple[str, str], dict], methods: Sequence[str], home: str) -> str:
    """Whether replies are to the very client; nothing where it was not measured."""
    if not methods or "coherence" not in scores[home, methods[0]]:
        return ""
    return "**Coherence** on PAIR: " + ", ".join(f"{m} {number(scores[home, m]['coherence'])}" for m in methods) + " (guessing: 0.50). "


def signs_reading(signs: pd.DataFrame, seeds: dict[str, int]) -> str:
    """How many signs agree with the paper's, and how wide an interval over so few seeds is. Columns: in, same sign ("yes", "no")."""
    agree = signs.groupby("in")["same sign"].apply(lambda s: f"{(s == 'yes').sum()} of {len(s)}")
    reach = [
        f"with {counted(n, 'seed')} {number(float(stats.t.ppf(0.975, n - 1)), 1)}" if n > 1 else "with 1 seed there is no interval"
        for n in sorted(set(seeds.values()))
    ]
    return (
        f"Signs that agree: {', '.join(f'{source} {text}' for source, text in agree.items())}. A sign is not evidence. A 95 % interval "
        f"reaches so many standard errors each way: {listing(reach)}."
    )


def own_model_reading(tables: dict[str, pd.DataFrame]) -> str:
    """The mean scores of a study of the paper's own model, if somebody has made it: `real_tables("t5")`."""
    if not tables:
        return "No table of `t5` is here (`data/t5`). This cell shows its mean scores as soon as there is one."
    rows = representative(tables["rows"], BY_OWN_SEARCH).groupby("method", sort=False)["mean"].mean()
    return "The mean scores of `t5`: " + ", ".join(f"{method} {number(float(mean), 3)}" for method, mean in rows.items()) + "."
