"""The blocks of README.md and docs/results.md that are made from committed tables: `scripts/write_results.py` fills them.

A block is everything between `<!-- made: NAME -->` and `<!-- end -->`. Scores are written without a leading zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.files import read_table
from emorl_lite.base.outputs import read_provenance
from emorl_lite.base.presets import ALL_LAYERS
from emorl_lite.base.wording import counted, number, part, told
from emorl_lite.readings import real_blocks
from emorl_lite.readings.page import between, gap, name_of, score, table_of, wrapped
from emorl_lite.readings.study import earlier_reading
from emorl_lite.study.claims import GREEDY, SAMPLED, examined, interval_of, tally
from emorl_lite.study.comparison import BY_GRID, beside_every_setting, front_metrics, over, representative, with_intervals
from emorl_lite.study.evidence import FEWEST
from emorl_lite.study.facts import METHODS as IN_THE_PAPER
from emorl_lite.study.facts import SOURCES
from emorl_lite.study.facts import facts as published
from emorl_lite.study.measuring import KL_TARGETS
from emorl_lite.study.paper import our_rows
from emorl_lite.study.tables import outdated, study_tables

ELSEWHERE = {
    "gdpo": "GDPO, which normalises each reward on its own before it sums them ([2601.05242](https://arxiv.org/abs/2601.05242))",
    "hypervolume": "weights that follow the hypervolume during training ([2509.11452](https://arxiv.org/abs/2509.11452))",
    "bone-soups": "Bone Soups, specialists of mixed rewards that are merged ([2502.10762](https://arxiv.org/abs/2502.10762))",
    "modpo": "MODPO, from offline preferences ([2310.03708](https://arxiv.org/abs/2310.03708))",
    "genarm": "GenARM, a reward model that guides decoding, linear in its weights ([2410.08193](https://arxiv.org/abs/2410.08193))",
    "parm": "PARM, the same with weights inside the reward model ([2505.06274](https://arxiv.org/abs/2505.06274))",
}
"""Methods of the field, and what they are: told as "not compared" while the study's table has no rows of them."""
MARK = re.compile(r"(<!-- made: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.S)


# -- the reference run

POLICIES = {
    "base": "base model",
    "ensemble": "hidden-state ensemble, weights found",
    "ensemble, uniform weights": "hidden-state ensemble, uniform weights",
    "parameters (exact)": "parameters averaged exactly, same weights",
    "parameters (soup)": "parameters averaged as a soup, same weights",
    "probabilities": "probabilities mixed, same weights",
}


def reference_table(results: Path) -> str:
    """Every policy of the reference run on test clients: mean and standard deviation over seeds."""
    seeds = read_table(results / "tiny_seeds.csv", "the reference run's table")
    names = [name for name in ("reflection", "empathy", "fluency") if name in seeds] + ["mean"]
    found = list(dict.fromkeys(seeds["policy"]))
    singles = [policy for policy in found if policy not in POLICIES]
    lines = []
    for policy in ["base", *singles, *(policy for policy in POLICIES if policy in found and policy != "base")]:
        rows = seeds[seeds["policy"] == policy]
        line = {"policy": POLICIES.get(policy, f"trained on {policy}")}
        lines.append(line | {name: f"{score(rows[name].mean())} ± {score(rows[name].std())}" for name in names})
    return table_of(lines)


# -- the study


def rivals_table(results: Path) -> str:
    """Every method of the study: cost, greedy and sampled score with intervals over seeds, distance from the base, front."""
    tables = study_tables(results)
    rows = representative(tables["rows"], BY_GRID)
    greedy, sampled = ({row["method"]: row for row in with_intervals(rows, c).to_dict("records")} for c in ("mean", "sampled_mean"))
    fronts = front_metrics(tables["sweep"]).groupby("method")[["hypervolume", "steered"]].mean()
    lines = []
    for method, line in rows.groupby("method", sort=False):
        first = line.iloc[0]
        a, b = greedy[method], sampled[method]
        lines.append(
            {
                "method": name_of(str(method)),
                "data points, sum / longest run": f"{first['data_points']:,} / {first['parallel']:,}",
                "calls a token": int(first["calls_per_token"]),
                "greedy score [95 % interval]": f"{score(a['mean'])} {between(a['low'], a['high'])}{'†' * _in_heaps(a)}",
                "sampled score": f"{score(b['mean'])} {between(b['low'], b['high'])}{'†' * _in_heaps(b)}",
                "KL": number(float(line["kl"].mean()), 1),
                **_at_kl(tables["matched"], str(method)),
                "hypervolume": score(float(fronts["hypervolume"].get(method, np.nan))),
                "by asking, E[w·p(w)]": score(float(fronts["steered"].get(method, np.nan))),
            }
        )
    notes = [
        f"{name_of(str(method))} {decoding} {score(row['median'])} {between(row['exact_low'], row['exact_high'])}"
        for decoding, found in (("greedily", greedy), ("sampled", sampled))
        for method, row in found.items()
        if _in_heaps(row)
    ]
    text = table_of(lines)
    if earlier := outdated(results):
        text += "\n\n" + wrapped(earlier_reading([name_of(method) for method in earlier]))
    if not notes:
        return text
    coverage = float(np.nanmin([row["coverage"] for row in greedy.values()]))
    return (
        text
        + "\n\n"
        + wrapped(
            f"† In two heaps over seeds, so that a mean with Student's interval misleads. Medians with their exact interval "
            f"({coverage:.0%}): ".replace("%)", " %)")
            + "; ".join(notes)
            + "."
        )
    )


def _at_kl(matched: pd.DataFrame, method: str) -> dict[str, str]:
    """Sampled scores at equal KL to the base, where enough seeds get so far; no columns without the table."""
    if matched.empty:
        return {}
    cells = {}
    for target in KL_TARGETS:
        rows = matched[(matched["method"] == method) & np.isclose(matched["target"], target) & matched["reached"].astype(bool)]
        values = rows.groupby("seed")["sampled_mean"].first().to_numpy(dtype=np.float64)
        cells[f"sampled at KL {target:g}"] = score(float(values.mean())) if len(values) >= FEWEST else "not reached"
    return cells


def _in_heaps(row: Mapping[Any, Any]) -> bool:
    return str(row["shape"]) == "two heaps"


def claims_list(results: Path) -> str:
    """What is left of the papers' claims when all of them are looked at together, and in both ways of decoding."""
    claims = examined(study_tables(results))
    claims = claims.assign(what=claims["measure"].str.replace(r", (?:greedy|sampled(?: at KL .*)?)$", "", regex=True))
    measured = claims[claims["holm"] != "not measured"]
    intervals = measured[measured["n"] > 0]
    parts: dict[str, list[str]] = {"both": [], "one": [], "alone": []}
    still_open: dict[str, list[str]] = {}
    for (claim, what), group in measured.groupby(["claim", "what"], sort=False):
        by_decoding = {str(row["decoding"]): row for _, row in group.iterrows()}
        decided = {row["holm"] for row in by_decoding.values()} - {"open"}
        if not decided:
            still_open.setdefault(str(claim), []).append(str(what))
            continue
        numbers = "; ".join(_numbered(row, decoding) for decoding, row in by_decoding.items())
        pair = [by_decoding[key]["holm"] for key in (GREEDY, SAMPLED) if key in by_decoding]
        kind = "alone" if len(pair) < 2 else "both" if len(set(pair)) == 1 and "open" not in pair else "one"
        parts[kind].append(wrapped(f"- *{claim}* ({what}): {numbers}", "  "))
    lead = (
        f"{counted(len(intervals), 'number')} with an interval over seeds, differences unless another measure is named. Corrected for all "
        f"of them by Holm's procedure, {tally(intervals)}."
    )
    heads = {
        "both": "Decided in both ways of decoding:",
        "one": "Decided in one way of decoding alone, so said of that way alone:",
        "alone": "Decided, and measured in one way (fronts and places greedily; data points; decoding itself):",
    }
    text = [wrapped(lead)]
    for kind, head in heads.items():
        if parts[kind]:
            text.append(head + "\n\n" + "\n".join(parts[kind]))
    if still_open:
        listed = "; ".join(f"{claim} ({'; '.join(whats)})" for claim, whats in still_open.items())
        text.append(wrapped(f"Open in every way that was measured: {listed}."))
    if missing := sorted({f"{row['claim']}" for _, row in claims.iterrows()} - set(measured["claim"])):
        text.append(wrapped(f"Not measured in these tables: {'; '.join(missing)}."))
    kl = claims[claims["decoding"].str.startswith("sampled at")]
    if (kl["holm"] == "not measured").all():
        text.append("At equal distance from the base nothing was measured in these tables.")
    text.append(wrapped(f"{_order(measured)} {_decoders(measured)}"))
    return "\n\n".join(text)


def _verdicts(claims: pd.DataFrame, claim: str) -> set[str]:
    return set(claims.loc[claims["claim"] == claim, "holm"])


def _order(claims: pd.DataFrame) -> str:
    """What the tables say of the paper's order of places."""
    order = "The paper's order, hidden states before averaged parameters,"
    found = _verdicts(claims, "hidden states beat parameters")
    if not found:
        return f"{order} was not measured."
    if found == {"open"}:
        return f"{order} is not decided here."
    if {"holds", "refuted"} <= found:
        return f"{order} is found here by one measure and refuted by the other."
    return f"{order} is {'found here' if 'holds' in found else 'refuted here'}{' by one measure alone' if 'open' in found else ''}."


def _decoders(claims: pd.DataFrame) -> str:
    """What decoding alone does."""
    found = _verdicts(claims, "greedy decoding flatters a policy")
    if found == {"holds"}:
        return "Comparing greedy EMORL with sampled baselines, as the paper's code does, compares decoders."
    if found == {"refuted"}:
        return "Greedy EMORL beside sampled baselines, as in the paper's code, has the worse decoder here."
    return "The paper's code compares greedy EMORL with sampled baselines; what decoding alone does is not clear here."


def _numbered(row: pd.Series, decoding: str) -> str:
    found = interval_of({str(key): value for key, value in row.items()})
    if str(row["measure"]).startswith("data points"):
        text = told(found, 0)
    elif str(row["measure"]).startswith("ratio of calls"):
        text = number(float(row["mean"]), 0)
    else:
        text = gap(found)
        if row["nothing"]:
            text = text.replace("+", "") + f" against {score(float(row['nothing']), 2)}"
    verb = {"holds": "holds", "refuted": "refuted", "open": "open"}[str(row["holm"])]
    return f"{decoding + ' ' if decoding else ''}{text}, {verb}"


def shared_budget(results: Path) -> str:
    """What a shared budget leaves of EMORL, and what each of its runs having a whole one gives."""
    rows = representative(study_tables(results)["rows"], BY_GRID)
    means = rows.groupby("method")["mean"].mean()
    if not {"emorl", "emorl-long"} <= set(means.index):
        return "EMORL was not measured with both budgets in these tables."
    return wrapped(
        f"EMORL, MOD and the mergers stand here twice, with one budget shared among their runs and with one for each run, which can go on "
        f"side by side: EMORL has {score(means['emorl'])} and {score(means['emorl-long'])} ({counted(rows['seed'].nunique(), 'seed')})."
    )


def not_compared(results: Path) -> str:
    """The methods of the field that the study's table does not hold."""
    held = {str(method).removesuffix("-long") for method in study_tables(results)["rows"]["method"]}
    missing = [text for name, text in ELSEWHERE.items() if name not in held]
    return wrapped(f"Not here, and so not compared: {'; '.join(missing)}." if missing else "All of these methods of the field are here.")


def all_settings(results: Path) -> str:
    """What EMORL's grid of weights misses of its exact map."""
    tables = study_tables(results)
    table = beside_every_setting(tables["sweep"], tables["front"])
    rows = table[table["method"] == "emorl-long"]
    if rows.empty:
        return "The exact maps' fronts were not measured in these tables."
    more = over((rows["hypervolume"] - rows["grid_hypervolume"]).to_numpy(dtype=np.float64))
    asked = tables["sweep"].query("method == 'emorl-long'").groupby("seed").size().iloc[0]
    text = (
        f"EMORL's exact map (a budget for each run) has hypervolume {score(rows['hypervolume'].mean())}, its grid of {asked} weights "
        f"{score(rows['grid_hypervolume'].mean())}: {gap(more)}. Where the next word's scores are linear in the knob, one can know what "
        "every setting would give ([which decoders those are](exact_map.md))."
    )
    if (rows["chosen_on"] == "test").any():
        text += " The map's front was picked on the test clients that score it, so it is flattered, and no match for other methods' grids."
    return wrapped(text)


def fronts_table(results: Path) -> str:
    """The front of all settings beside a sweep's, for methods whose word scores are linear in their knob, and what both choose."""
    path = results / "methods_exact_fronts.csv"
    table, study = read_table(path, "the table of exact fronts"), read_provenance(path).get("study") or {}
    lines, tests = [], []
    for method, rows in table.groupby("method", sort=False):
        means = rows.mean(numeric_only=True)
        more = over((rows["front_hypervolume"] - rows["sweep_hypervolume"]).to_numpy(dtype=np.float64))
        test = over((rows["optimum_test"] - rows["sweep_test"]).to_numpy(dtype=np.float64))
        tests.append(test)
        lines.append(
            {
                "method": name_of(str(method)),
                "settings": int(means["settings"]),
                "hypervolume: sweep": score(means["sweep_hypervolume"]),
                "all settings": score(means["front_hypervolume"]),
                "less [95 % interval]": gap(more),
                "regions": round(means["regions"]),
                "seconds: sweep, all": f"{means['sweep_seconds']:.0f}, {means['front_seconds']:.0f}",
                "test score: sweep's best": score(means["sweep_test"]),
                "best of all": score(means["optimum_test"]),
            }
        )
    clear = sum(test["low"] > 0 or test["high"] < 0 for test in tests)
    low, high = min(test["mean"] for test in tests), max(test["mean"] for test in tests)
    return (
        table_of(lines)
        + "\n\n"
        + wrapped(
            f"Both fronts are picked on the {study.get('sweep_prompts', '')} clients that score them, and all settings hold the sweep's, "
            "so the gap is never negative and flattered. The last two columns are chosen on validation clients and judged on "
            f"{study.get('test_prompts', '')} test clients, over "
            f"{counted(table['seed'].nunique(), 'seed')}. There the best of all settings less the sweep's best is "
            f"{_signed(low)} to {_signed(high)}, and {part(clear, len(tests), 'interval')} excludes zero. Seconds are on one busy core."
        )
    )


def _signed(value: float) -> str:
    return ("+" if round(value, 3) > 0 else "") + score(value)


# -- searches


def searches(results: Path) -> str:
    """Every search's regret against the exact optimum, and what more validation clients give."""
    choice = read_table(results / "search_choice.csv", "the table of searches")
    clients = read_table(results / "search_clients.csv", "the table of searches by clients")
    means: Any = choice.groupby("search")[["evaluations", "regret", "test", "promised"]].mean()
    regret = {name: score(value, 4) for name, value in means["regret"].items()}
    asked = {name: f"{value:.0f}" for name, value in means["evaluations"].items()}
    most = int(clients["clients"].max())
    few, many = (clients[clients["clients"] == n].groupby("search")["test"].mean() for n in (32, most))
    flattered = means.loc["exact map", "promised"] - means.loc["exact map", "test"]
    kept = f"its promise is too high by {score(flattered)}" if flattered > 0 else f"it promised {score(-flattered)} less than it has"
    order = "*worse* than" if few["exact map"] < few["hierarchical"] else "no worse than"
    on_simplex = means["regret"]["hierarchical-simplex"] - means["regret"]["hierarchical"]
    moved = "more, since its first level can throw the best corner away" if on_simplex > 0 else "no more"
    return wrapped(
        f"With the optimum known, so is every search's regret, on 32 validation clients ({counted(choice['adapters'].nunique(), 'seed')}): "
        f"{regret['hierarchical']} for the published search ({asked['hierarchical']} evaluations), "
        f"{regret['ucb']} for UCB ({asked['ucb']}) "
        f"and {regret['bayesian']} for Bayesian optimisation ({asked['bayesian']}), {regret['grid']} for a grid, {regret['random']} for "
        f"random weights, and {regret['hierarchical-simplex']} for the published search moved to the simplex: {moved}. "
        f"On test clients the optimum of 32 clients is {order} the published search's choice "
        f"({score(few['exact map'])} against {score(few['hierarchical'])}); {kept}. With {most} validation "
        f"clients, which the map affords, they reach {score(many['exact map'])} and {score(many['hierarchical'])} of the "
        f"{score(means['test']['exact map of the test prompts'])} that any weights could have. (`python benchmarks/search_quality.py`.)"
    )


SPEED = {
    "reference": ("the published algorithm (merged copies, no cache, one point after another)", 0),
    "cached": ("the cached ensemble, one point after another", 0),
    "tree": ("prefix tree: the same points, the same replies", 2),
    "map": ("exact map: *all* weight vectors", 2),
}


def speed_table(results: Path) -> str:
    """Seconds of the search's decoding in four ways."""
    table = read_table(results / "search_speed.csv", "the table of the search's speed")
    rows = table[(table["tokens"] == table["tokens"].min()) & table["what"].str.contains(" points, ")]
    seconds = {str(row["what"]).partition(",")[0]: float(row["seconds"]) for row in rows.to_dict("records")}
    points, prompts = re.findall(r"(\d+) (?:points|prompts)", str(rows["what"].iloc[0]))
    head = f"{points} weight vectors × {prompts} prompts × {rows['tokens'].iloc[0]} tokens, one CPU thread"
    lines = []
    for name, (what, digits) in SPEED.items():
        faster = f"{seconds['reference'] / seconds[name]:.0f} ×"
        factor = "" if name == "map" else f"**{faster}**" if name == "tree" else faster
        lines.append({head: what, "seconds": f"{seconds[name]:.{digits}f}", "times as fast": factor})
    return table_of(lines)


def ppo_table(results: Path) -> str:
    """Milliseconds of a PPO episode: this package, a plain one, TRL's."""
    found = json.loads((results / "ppo_speed.json").read_text(encoding="utf-8"))
    what = {"ours": "this package", "plain": "a plain implementation", "trl": f"TRL {found['versions']['trl']}, the last release with PPO"}
    head = f"PPO, one CPU thread, model of {found['model_parameters'] / 1e6:.1f} million parameters"
    lines = []
    for name, text in what.items():
        times = 1.0 if name == "ours" else float(found[f"speedup_over_{name}"])
        slower = "" if name == "ours" else f"{times:.1f} × slower" if times >= 1 else f"{1 / times:.1f} × faster"
        lines.append({head: text, "milliseconds an episode": f"{found[f'ms_per_episode_{name}']:.1f}", "than this package": slower})
    short = found["settings"][1]
    return (
        table_of(lines)
        + "\n\n"
        + wrapped(
            f"With shorter replies and more epochs the factors are {short['speedup_over_plain']:.1f} and {short['speedup_over_trl']:.1f}."
        )
    )


def layers_table(results: Path) -> str:
    """What adapters on the upper layers alone lose and save: means over seeds and objectives, and whether any loss is beyond chance."""
    table = read_table(results / "layers.csv", "the table of layers").set_index(["seed", "objective"])
    whole = table[table["layers"] == "all"]
    alone, lines, worse = whole["sampled"].notna(), [], []
    for layers, rows in table.groupby("layers", sort=False):
        changes = {column: (rows[column] - whole[column]).dropna() for column in ("greedy", "sampled")}
        line = {"adapters on": {"all": "all layers", "upper-half": "the upper half", "1": "the last layer"}.get(str(layers), str(layers))}
        line |= {f"{column}, an objective alone": score(float(rows.loc[alone, column].mean())) for column in ("greedy", "sampled")}
        line |= {"KL": f"{rows.loc[alone, 'kl'].mean():.2f}", "three at equal weights": score(float(rows.loc[~alone, "greedy"].mean()))}
        line |= {"CPU time": f"{rows.loc[alone, 'cpu_seconds'].sum() / whole.loc[alone, 'cpu_seconds'].sum():.2f}"}
        lines.append(line)
        if layers != "all":
            found = over(changes["sampled"].to_numpy(dtype=np.float64))
            worse.append(f"{line['adapters on']} {gap(found)}")
    seeds = table.index.get_level_values("seed").nunique()
    return (
        table_of(lines)
        + "\n\n"
        + wrapped(
            f"Sampled scores less those of all layers, over {counted(seeds, 'seed')} of {counted(int(alone.sum()) // seeds, 'objective')}: "
            f"{'; '.join(worse)}. A share becomes the default if it loses nothing; the default is `{ALL_LAYERS}`."
        )
    )


def precision_table(results: Path) -> str:
    """What half precision changes, and what the map says of it."""

    def share(value: float) -> str:
        return f"{100 * value:.2g} %" if value > 1e-9 else "0"

    lines = []
    for row in json.loads((results / "precision.json").read_text(encoding="utf-8"))["rows"]:
        lines.append(
            {
                "": f"{row['model']}, {row['dtype']}",
                "single replies equal": f"{100 * row['single_equal']:.0f} %",
                "ensemble's": f"{100 * row['ensemble_equal']:.0f} %",
                "largest error of a logit": f"{row['logit_error']:.1g}",
                "leads within the bound": f"{100 * row['leads_within_rounding']:.0f} %",
                "choices open / other words": f"{share(row['words_predicted'])} / {share(row['words_differ'])}",
                "weights open / other replies": f"{share(row['map_predicted_area'])} / {share(row['map_area_differs'])}",
            }
        )
    return table_of(lines)


def gpu_table(results: Path) -> str:
    """Seconds on one GPU, the last of several repetitions with the first in brackets, and the peak of memory."""
    found = json.loads((results / "gpu.json").read_text(encoding="utf-8"))
    names = {
        "ppo_step_seconds": "a PPO step of 32 prompts",
        "ensemble_32_replies_seconds": "32 ensemble replies of 3 adapters",
        "tree_124_weights_16_prompts_seconds": "124 weight vectors × 16 prompts by prefix tree",
    }

    def seconds(value: float) -> str:
        return score(value, 2 if value < 2 else 1)

    lines = []
    for key, what in names.items():
        line = {"": what}
        for row in found["timings"]["rows"]:
            line[f"{row['preset'].replace('smollm2', 'SmolLM2')}, {row['dtype']}"] = f"{seconds(row[key][-1])} ({seconds(row[key][0])})"
        lines.append(line)
    peaks = [f"{row['peak_mib']:,}" for row in found["timings"]["rows"]]
    return table_of([*lines, dict(zip(lines[0], ["peak memory, MiB", *peaks], strict=True))])


# -- the real model and the paper


def _smollm2(results: Path) -> pd.DataFrame:
    return read_table(results.parent / "smollm2" / "methods.csv", "the real run's table")


def paper_table(results: Path) -> str:
    """Each row of the paper beside the function of ours that stands for it, and our scores ("not measured" where a study lacks it)."""
    own = our_rows(study_tables(results)["rows"], _smollm2(results))
    lines = []
    for method, name in IN_THE_PAPER.items():
        found = published(name)
        line = {
            "in the paper": name,
            "its data points": found["data points"].text,
            "its mean score": found["mean score"].text,
            "here": f"`{found['mean score'].function}`",
        }
        for source, rows in own.items():
            values = rows.loc[rows["method"] == method, "mean"]
            spread = f" ± {score(values.std())}" if len(values) > 1 else ""
            line[source] = f"{score(values.mean())}{spread}" if len(values) else "not measured"
        lines.append(line)
    return (
        f"The paper's numbers are {SOURCES['scatter']}; ± is one standard deviation over seeds.\n\n"
        + table_of(lines)
        + "\n\n"
        + wrapped(
            "What the paper calls model soups is our exact average: its code adds the products of LoRA's factors. Rewarded Soups are "
            "another method, and stand in no row of this table."
        )
    )


BLOCKS: dict[str, Callable[[Path], str]] = {
    "reference": reference_table,
    "search-speed": speed_table,
    "searches": searches,
    "budgets": shared_budget,
    "rivals": rivals_table,
    "claims": claims_list,
    "not-compared": not_compared,
    "all-settings": all_settings,
    "exact-fronts": fronts_table,
    "real": real_blocks.main_table,
    "real-sentence": real_blocks.main_sentence,
    "real-objectives": real_blocks.by_objective,
    "real-short": real_blocks.short,
    "real-judges": real_blocks.gate,
    "real-headroom": real_blocks.headroom,
    "real-runs": real_blocks.runs,
    "real-sampled": real_blocks.choices,
    "real-matched": real_blocks.matched,
    "real-second-judges": real_blocks.two_judges,
    "real-transfer": real_blocks.transfer,
    "real-repeated": real_blocks.repeated,
    "paper": paper_table,
    "ppo-speed": ppo_table,
    "layers": layers_table,
    "precision": precision_table,
    "gpu": gpu_table,
}
"""Every block by its name, and the function that makes it of the folder of tables (`data/results`; the real run's lie beside it)."""


def filled(page: str, results: Path) -> str:
    """A page with every block made anew.

    Raises UserError for a block that nobody makes, that never ends, or whose table lacks a column or holds texts in one of numbers.
    """
    opened = len(re.findall(r"<!-- made: ", page))
    found = MARK.findall(page)
    if opened != len(found) or any("<!-- made:" in body for _, _, body, _ in found):
        raise UserError(f"{opened} blocks begin and {len(found)} end: each <!-- made: NAME --> needs its <!-- end -->")
    if unknown := [name for _, name, _, _ in found if name not in BLOCKS]:
        raise UserError(f"block {unknown[0]!r}: nobody makes it; expected one of {', '.join(BLOCKS)}")
    return MARK.sub(lambda match: f"{match[1]}{_made(match[2], results)}\n{match[4]}", page)


def _made(name: str, results: Path) -> str:
    """What a block holds."""
    try:
        return BLOCKS[name](results)
    except KeyError as error:
        raise UserError(f"block {name!r}: a table or record in {results} lacks what it shows ({error.args[0]})") from error
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError) as error:  # what pandas says of texts in a column of numbers
        told = f"block {name!r}: a table or record in {results} holds something else than what it shows ({one_line(error, 200)})"
        raise UserError(told) from error
