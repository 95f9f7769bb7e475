"""Every number told in README.md and docs/results.md is what the committed tables hold: made from them, recomputed here, or listed."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import get_preset
from emorl_lite.methods.grpo import GROUP
from emorl_lite.methods.registry import METHODS as REGISTERED
from emorl_lite.readings import results as made
from emorl_lite.readings.page import NAMES
from emorl_lite.study.comparison import paired
from emorl_lite.study.facts import FACTS

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
TABLES = ROOT / "data" / "results"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


# -- blocks


@cache
def block(name: str) -> str:
    return made.BLOCKS[name](TABLES)


@pytest.mark.parametrize("name", list(made.BLOCKS))
def test_every_block_holds_what_its_table_says(name):
    found = [body for page in (README, RESULTS) for _, block_name, body, _ in made.MARK.findall(read(page)) if block_name == name]
    assert found, f"no page has the block {name!r}"
    assert all(body == f"{block(name)}\n" for body in found), "run python scripts/write_results.py"


def test_blocks_are_opened_and_closed():
    assert made.filled("a\n<!-- made: ppo-speed -->\nold\n<!-- end -->\nb\n", TABLES).startswith("a\n<!-- made: ppo-speed -->\n| PPO")
    for page in ("<!-- made: real -->\n| a |\n", "<!-- made: real -->\n<!-- made: real -->\n<!-- end -->\n<!-- end -->\n"):
        with pytest.raises(UserError, match="needs its"):
            made.filled(page, TABLES)
    with pytest.raises(UserError, match="nobody makes it"):
        made.filled("<!-- made: nothing -->\n<!-- end -->\n", TABLES)


def test_the_script_checks_and_writes(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("write_results", ROOT / "scripts" / "write_results.py")
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = tmp_path / "page.md"
    page.write_text("<!-- made: ppo-speed -->\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(script, "PAGES", (page,))
    monkeypatch.setattr(script, "ROOT", ROOT)
    monkeypatch.setattr(sys, "argv", ["write_results.py"])
    script.main()
    monkeypatch.setattr(sys, "argv", ["write_results.py", "--check"])
    script.main()
    page.write_text(page.read_text(encoding="utf-8").replace("25.0", "24.0"), encoding="utf-8")
    monkeypatch.setattr(script, "ROOT", tmp_path.parent)
    monkeypatch.setattr(script, "filled", lambda text, folder: text + ".")
    with pytest.raises(SystemExit, match="not up to date"):
        script.main()
    changed = page.read_bytes()
    for text, message in ((b"\xff", "byte 1 is not UTF-8"), (None, "page.md")):
        page.unlink() if text is None else page.write_bytes(text)
        with pytest.raises(UserError, match=f"^page.md: .*{message}"):
            script.main()
    page.write_bytes(changed.replace(b"\n", b"\r\n"))  # as Git checks it out on Windows
    monkeypatch.setattr(script, "filled", lambda text, folder: text)
    script.main()


def test_what_is_said_of_the_searches_turns_with_their_table(tmp_path):
    choice, clients = (pd.read_csv(TABLES / f"search_{name}.csv") for name in ("choice", "clients"))
    regret = choice["search"].map({"hierarchical": 0.1, "hierarchical-simplex": 0.2}).fillna(0.1)
    for more, promise, sign in (("0.2", "too high", 1), ("0.05", "less than it has", -1)):
        made_up = choice.assign(regret=regret.replace(0.2, float(more)), promised=choice["test"] + sign * 0.02)
        made_up.to_csv(tmp_path / "search_choice.csv", index=False)
        clients.to_csv(tmp_path / "search_clients.csv", index=False)
        said = " ".join(made.searches(tmp_path).split())
        assert "moved to the simplex: " + ("more, since" if more == "0.2" else "no more.") in said
        assert promise in said and ".020" in said


def test_all_methods_of_the_field_can_be_here(monkeypatch):
    monkeypatch.setattr(made, "ELSEWHERE", {"emorl": "EMORL"})
    assert made.not_compared(TABLES) == "All of these methods of the field are here."


def test_a_table_without_a_column_that_a_block_shows_is_told(tmp_path):
    rows = pd.read_csv(TABLES / "methods.csv").drop(columns="mean")
    for table in TABLES.glob("methods*.csv"):
        (tmp_path / table.name).write_bytes(table.read_bytes())
    rows.to_csv(tmp_path / "methods.csv", index=False)
    with pytest.raises(UserError, match=r"block 'rivals': .* lacks .*mean"):
        made.filled("<!-- made: rivals -->\n<!-- end -->\n", tmp_path)


def test_every_method_has_a_name_in_the_tables():
    assert {method.removesuffix("-long") for method in REGISTERED} <= set(NAMES)
    assert made.name_of("emorl-long") == "EMORL, a budget for each run" and made.name_of("new") == "`new`"


@pytest.fixture
def newer(tmp_path):
    """The study's tables as a newer study leaves them: GDPO in the rows, scores at equal KL."""
    for name in ("methods.csv", "methods_sweep.csv", "methods_front.csv", "methods_levels.csv", "methods_convergence.csv"):
        (tmp_path / name).write_bytes((TABLES / name).read_bytes())
    rows = pd.read_csv(tmp_path / "methods.csv")
    gdpo = rows[rows["method"] == "grpo"].assign(method="gdpo", mean=lambda t: t["mean"] + 0.1)
    pd.concat([rows, gdpo]).to_csv(tmp_path / "methods.csv", index=False)
    line = {"knob": "none", "choice": "default", "scale": 0.5, "kl": 0.5, "mean": 0.5}
    matched = [
        line | {"method": m, "seed": s, "target": t, "sampled_mean": v + s / 1000, "reached": t < 1 or m == "uniform"}
        for m, v in (("uniform", 0.3), ("dynaopt", 0.4))
        for s in range(5)
        for t in (0.5, 1.0)
    ]
    pd.DataFrame(matched).to_csv(tmp_path / "methods_matched.csv", index=False)
    return tmp_path


def test_a_newer_study_needs_the_script_alone(newer):
    table = made.rivals_table(newer)
    assert "| GDPO (TRL) |" in table and "| sampled at KL 0.5 | sampled at KL 1 |" in table
    (uniform,) = [row for row in table.splitlines() if row.startswith("| uniform weighting |")]
    (dynaopt,) = [row for row in table.splitlines() if row.startswith("| DynaOpt |")]
    assert "| .302 | .302 |" in uniform and "| .402 | not reached |" in dynaopt
    assert "GDPO" not in made.not_compared(newer) and "MODPO" in made.not_compared(newer)


def test_claims_that_a_newer_study_measures_are_said(newer):
    said = " ".join(made.claims_list(newer).split())
    assert "GDPO beats GRPO" in said.split("Not measured")[0] and "At equal distance from the base nothing" not in said


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], "was not measured"),
        (["open", "open"], "is not decided here"),
        (["holds", "refuted"], "found here by one measure and refuted by the other"),
        (["holds", "open"], "is found here by one measure alone"),
        (["refuted", "refuted"], "is refuted here."),
    ],
)
def test_the_order_of_places_is_said_as_it_came_out(verdicts, said):
    assert said in made._order(pd.DataFrame({"claim": ["hidden states beat parameters"] * len(verdicts), "holm": verdicts}))


@pytest.mark.parametrize(("verdict", "said"), [("holds", "compares decoders"), ("open", "is not clear here")])
def test_decoding_is_said_as_it_came_out(verdict, said):
    assert said in made._decoders(pd.DataFrame({"claim": ["greedy decoding flatters a policy"], "holm": [verdict]}))


# -- sentences whose numbers are recomputed


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def csv(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / name)


@cache
def js(name: str) -> Any:
    return json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))


def number(value: float, digits: int = 2) -> str:
    return made.score(float(value), digits)


def flattery_of_samples() -> str:
    """What the exact map's page says of sampled replies on the reference's seeds."""
    sizes = csv("results/sampled_sizes.csv").groupby("samples")[["optimism", "error"]].mean()
    test = csv("results/sampled_maps.csv").query("set == 'test'")
    by = {key: group.set_index("seed")["mean"] for key, group in test.groupby(["policy", "decoding"])}
    greedy, sampled = by["greedy optimum", "greedy"], by["sampled optimum", "sampled"]
    assert (greedy > by["sampled optimum", "greedy"]).all() and (sampled > by["greedy optimum", "sampled"]).all(), "each where it was made"
    free = test[test["policy"] == "optimum over weights and temperature"]
    saved = 1 - 1 / csv("results/sampled_noise.csv")["gain"]
    assert saved.min() < 0.05 and round(4 * saved.max()) == 3, "between nothing and three quarters"
    optimism, error = ({n: number(sizes[column][n], 3) for n in (1, 8)} for column in ("optimism", "error"))
    g, s, t, m = (f"{number(v.min())} to {number(v.max())}" for v in (greedy, sampled, free["temperature"], free["mean"]))
    return (
        f"the flattery falls from {optimism[1]} with one sample a client to {optimism[8]} with eight, the standard error from {error[1]} "
        f"to {error[8]}: both by the root of eight. The weights that are best greedily ({g} on test clients) are not those that are best "
        f"in samples at $\\tau = 1$ ({s}): each choice is the better one where it was made, in all three seeds. With the temperature "
        f"free between .5 and 1.5 the optimum lies at {t} and scores {m}."
    )


def truth_of_the_ensemble() -> str:
    rows = csv("results/tiny_seeds.csv").query("policy == 'ensemble'")
    return f"the ensemble's reflection of {number(rows['reflection'].mean())} is worth {number(rows['true_reflection'].mean())}"


def gigabytes(value: float) -> str:
    return number(value / 1e9)


def of(name: str, template: str, **fields: Callable[[Any], str]) -> Callable[[], str]:
    """A sentence of a benchmark's figures: the template with each field made from the JSON file."""
    return lambda: template.format(**{key: make(js(name)) for key, make in fields.items()})


def per(key: str, digits: int = 0, scale: float = 1.0) -> Callable[[Any], str]:
    return lambda found: f"{found[key] * scale:,.{digits}f}"


SENTENCES: list[tuple[Path, Callable[[], str]]] = [
    (ROOT / "docs" / "exact_map.md", flattery_of_samples),
    (ROOT / "docs" / "using.md", truth_of_the_ensemble),
    (
        RESULTS,
        of(
            "search_speed",
            "At 64 tokens the tree is {a} times faster, and the map as fast as the tree. The map's regions cover the simplex exactly, and "
            "{b} of 10,000 random weight vectors decode to what it says.",
            a=per("speedup_over_reference_64"),
            b=lambda found: f"{found['exact_map_agreement'] * found['agreement_weights']:,.0f}",
        ),
    ),
    (RESULTS, lambda: f"Six objectives: {regions_of_six():,.0f} regions for 16 prompts, and the published search in {js_d6()} s."),
    (
        RESULTS,
        of(
            "search_speed",
            "The ensemble of three adapters takes {a} times as long as one adapter for one prompt, and half as long as three passes for "
            "16. The search of {n} points by prefix tree holds {b} MB of tensors at its peak (16 prompts, 32 tokens, weights and cache "
            "included); the published algorithm, one point after another, holds {c} MB. The map explorer answers in {d} ms.",
            a=per("ensemble_over_single_batch_1", 2),
            n=per("points"),
            b=per("megabytes_peak"),
            c=per("megabytes_reference_peak"),
            d=per("explorer_milliseconds", 1),
        ),
    ),
    (
        RESULTS,
        of(
            "map_page",
            "a move of the point takes {a} ms with 1,000 regions and {b} ms with 10,000, at {c} frames a second.",
            a=lambda found: str(found["1000"]["move_ms"]),
            b=lambda found: str(found["10000"]["move_ms"]),
            c=lambda found: f"{1000 / found['1000']['frame_ms']:.0f}",
        ),
    ),
    (RESULTS, of("tutorial_time", "The tutorial needs {a} GB of memory at most, in notebook 02.", a=per("peak_mb", 1, 1e-3))),
    (
        RESULTS,
        of(
            "map_size",
            "One prompt with {n} regions (a random model) takes {a} seconds and {b} GB beyond the libraries' own {c}; four with {m} "
            "regions {d} seconds, the exact optimum included ({e} to {f} of them).",
            n=per("regions_1"),
            a=per("map_seconds_1"),
            b=lambda found: gigabytes(found["map_bytes_beyond_1"]),
            c=lambda found: gigabytes(found["libraries_bytes"]),
            m=per("regions_4"),
            d=per("map_and_optimum_seconds_4"),
            e=per("optimum_random_seconds"),
            f=per("optimum_lengths_seconds"),
        ),
    ),
    (
        RESULTS,
        of(
            "scale",
            "A map of {n} regions ({p} prompts, a random model, three objectives) took {a} seconds and {b} MB of arrays, under a cap of "
            "{c} GB; after four prompts {m} regions were expected. Looking up 2,048 weights in it takes {d} seconds and {e} MB; in a map "
            "of {k} regions that is {f} times faster than over all prompts at once, in a {g}th of the bytes. A CSV file of {r} rows "
            "({h} MB) is read and split in {i} seconds and {j} MB.",
            n=per("regions"),
            p=per("prompts"),
            a=per("map_seconds"),
            b=per("bytes", 0, 1e-6),
            c=per("bytes_cap", 1, 1e-9),
            m=per("regions_expected"),
            d=per("look_up_seconds", 1),
            e=per("look_up_bytes", 0, 1e-6),
            k=per("regions_compared"),
            f=per("look_up_times_faster", 1),
            g=per("look_up_times_fewer_bytes"),
            r=per("csv_rows"),
            h=per("csv_bytes", 0, 1e-6),
            i=per("csv_seconds", 1),
            j=per("csv_peak_bytes", 0, 1e-6),
        ),
    ),
    (RESULTS, of("scale", "is far from proven after 50 branches and {a} seconds.", a=per("optimum_seconds"))),
    (
        RESULTS,
        of(
            "gpu",
            "One {d}, torch {t}, transformers {u}, peft {p}. The check agreed with the CPU in float32: log-probabilities differed by {a} "
            "at most, all ensemble replies were equal, search scores differed by {b}. In bfloat16 all replies were equal, "
            "log-probabilities differed by {e} and search scores by {f} at most. Against that machine's CPU, in float32, PPO of the tiny "
            "model took {g} times less time, its ensemble {h} times, its search as long.",
            d=lambda found: found["device"],
            t=lambda found: minor(found["torch"]),
            u=lambda found: minor(found["transformers"]),
            p=lambda found: minor(found["peft"]),
            a=lambda found: power(found["check"]["float32"]["largest_logprob_difference"]),
            b=lambda found: power(found["check"]["float32"]["largest_search_difference"]),
            e=lambda found: number(found["check"]["bfloat16"]["largest_logprob_difference"]),
            f=lambda found: number(found["check"]["bfloat16"]["largest_search_difference"]),
            g=lambda found: f"{found['check']['float32']['ppo_speedup']:.1f}",
            h=lambda found: f"{found['check']['float32']['ensemble_speedup']:.1f}",
        ),
    ),
]


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def regions_of_six() -> float:
    costs = csv("results/search_costs.csv")
    return costs[(costs["varied"] == "objectives d") & (costs["d"] == 6) & (costs["search"] == "exact map")]["regions"].iloc[0]


def js_d6() -> str:
    return f"{js('search_speed')['d6_seconds']:.0f}"


ALLOWED = {
    README: {"3.11": "a version", "2505.02579": "the paper's address"},
    RESULTS: {},
}
"""Decimal numbers that no table holds, and why they may stand there."""
DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.]*\w)|\b\d\d? %|\b\d+e-\d+")


def prose(path: Path) -> str:
    """A page's prose in one line: without blocks that are made, code, and the addresses of links."""
    text = re.sub(made.MARK, "", read(path))
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return " ".join(re.sub(r"\]\([^)]*\)", "]", text).split())


@pytest.mark.parametrize(("page", "sentence"), SENTENCES, ids=[str(i) for i in range(len(SENTENCES))])
def test_sentences_say_what_the_tables_hold(page, sentence):
    assert sentence() in prose(page)


@pytest.mark.parametrize("page", [README, RESULTS], ids=lambda page: page.name)
def test_no_number_is_left_unchecked(page):
    text = prose(page)
    for where, sentence in SENTENCES:
        if where == page:
            text = text.replace(sentence(), "")
    left = [found for found in DECIMAL.findall(re.sub(r"`[^`]*`", "", text)) if found not in ALLOWED[page]]
    assert not left, f"{left}: make them in a block, recompute them in SENTENCES, or list them in ALLOWED with a reason"


def test_an_unchecked_number_is_found():
    assert DECIMAL.findall("it has .75, 0.5 or 12 % (TRL 1.12.0), at 2e-5.") == [".75", "0.5", "12 %", "2e-5"]


# -- the prose of the notebooks: what they measured stands in their outputs, which are made of tables

RULE = "the rule of the labels"
EXAMPLE = "an example of an exercise or a question"
IN_PROSE: dict[str, dict[str, str]] = {
    "00": {RULE: ".40 .75 .15 .20 .65", EXAMPLE: ".10 .4 .5"},
    "01": {RULE: ".40 .75 .15 .20 .65", "e": "2.7", "thresholds": ".7 .5 .8 .2", EXAMPLE: ".25 .4 .6"},
    "02": {RULE: ".4 .75 .15", EXAMPLE: ".8 .3 .5 1.5"},
    "03": {EXAMPLE: ".6 .2"},
    "05": {"temperatures that are asked": ".5 1.5"},
    "06": {
        "DynaOpt's exploration, and e to that power": ".07 1.07",
        "KL targets of the study": ".5",
        "1 less 2 / 2^5": "93.75",
        EXAMPLE: ".3 .4 .01 .1",
        "two rows of one mean, checked below": ".05 .85 .75 .55",
    },
    "07": {"shares that Bone Soups' authors name": ".6 .7 .8"},
    "08": {
        "(L + 1) / L at five levels": "1.2",
        "seven pairs of eight words": ".875",
        "1,650 / 7,390, and what normal and exponential draws give beside it": ".22 .75 1.17 .07 .69",
        "Welch's t of two published rows": "5.2",
    },
}
"""Decimal numbers in the notebooks' prose that are neither measured nor published, and what they are."""


def spoken(path: Path) -> str:
    """A notebook's prose without code, formulas, addresses, and the numbers of exercises."""
    cells = json.loads(read(path))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for hidden in (r"```.*?```", r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$]*\$", r"\]\([^)]*\)", r"\d{4}\.\d{5}"):
        text = re.sub(hidden, " ", text, flags=re.S)
    return re.sub(r"(?:[Ee]xercises?|[Qq]uestion) \d+\.\d+", " ", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_the_prose_of_notebooks_holds_no_measured_number(path):
    known = {form.lstrip("0") for fact in FACTS for form in fact.forms}
    known |= {f"{fact.spread:.4f}".lstrip("0") for fact in FACTS if fact.spread}
    known |= {value for values in IN_PROSE.get(path.name[:2], {}).values() for value in values.split()}
    left = [found for found in re.findall(r"(?<![\w.,])\d*\.\d+(?![\w.]*\w)", spoken(path)) if found.lstrip("0") not in known]
    assert not left, f"{left}: say it in an output that is made of a table, or list it in IN_PROSE"


def test_the_rows_of_the_open_question_have_one_mean():
    """Notebook 06 asks what a mean over objectives is indifferent between; a geometric mean is not."""
    pairs = re.findall(r"\((\.\d\d), (\.\d\d), (\.\d\d)\)", spoken(next(path for path in NOTEBOOKS if path.name.startswith("06"))))
    rows = np.array(pairs, dtype=np.float64)
    assert len(rows) == 2 and np.isclose(*rows.mean(axis=1)) and rows[0].prod() < 0.25 * rows[1].prod()


# -- sentences without a number


def test_the_readme_says_of_the_reference_run_what_its_table_says():
    seeds = pd.read_csv(TABLES / "tiny_seeds.csv").rename(columns={"policy": "method"})
    text = prose(README)
    means = seeds.pivot(index="seed", columns="method", values="mean")
    singles = means[["reflection", "empathy", "fluency"]].max(axis=1)
    assert "The ensemble leads the best single-objective model in every seed." in text and (means["ensemble"] > singles).all()
    gap = paired(seeds, "ensemble", "parameters (exact)")
    assert "does **not** show here: the exact average ties with them" in text and gap["low"] < 0 < gap["high"]
    assert f"{['two', 'three', 'four', 'five'][seeds['seed'].nunique() - 2]} seeds" in text
    assert f"On {seeds['test_prompts'].iloc[0]} test clients" in text
    fluency = seeds.groupby("method")["fluency"].mean()
    assert "more fluent than the base model's" in text and fluency["ensemble"] > fluency["base"]
    speed = js("search_speed")
    assert "over a hundred times faster than the published algorithm" in text and speed["speedup_over_reference"] > 100
    assert "in about the time of the published 135-point search by prefix tree" in text and 0.5 < speed["exact_map_over_tree"] < 1.5


def test_results_say_of_the_reference_run_what_its_table_says():
    seeds = pd.read_csv(TABLES / "tiny_seeds.csv").groupby("policy")["mean"].mean()
    assert "the soup and the mixed probabilities fall behind" in prose(RESULTS)
    assert max(seeds["parameters (soup)"], seeds["probabilities"]) < min(seeds["ensemble"], seeds["parameters (exact)"])


def test_results_say_of_the_real_run_what_its_preset_and_its_table_say():
    text, preset = prose(RESULTS), get_preset("smollm2")
    assert f"A method trains on {preset.study.budget:,} prompts in all its runs together" in text
    assert (
        f"replies to {preset.search.validation_prompts} validation statements and by the {preset.study.utility} of the objectives" in text
    )
    assert preset.warm_start.without_high and "not on good reflections" in text
    rows = csv("smollm2/methods.csv").drop_duplicates(["method", "seed"])
    took = rows.groupby("method")[["data_points", "parallel"]].agg(["min", "max"])
    assert (took.drop(columns="parallel").drop(index=["base", "uniform-short", "gdpo"]) == preset.study.budget).all(axis=None)
    of_gdpo = rows[rows["method"] == "gdpo"]
    assert set(of_gdpo["samples"]) == {preset.study.budget} and set(of_gdpo["data_points"]) == {preset.study.budget // GROUP}
    assert f"GDPO on {preset.study.budget // GROUP:,}, each answered four times" in text and GROUP == 4
    own = {preset.lr.get(name, preset.ppo.lr) / preset.ppo.lr for name in preset.objectives if name != "empathy"}
    assert "Empathy's adapter learns at two and a half times the rate of the others" in text and own == {1.0}
    assert preset.lr["empathy"] == pytest.approx(2.5 * preset.ppo.lr)
    assert took.loc["uniform-short", "data_points"].tolist() == took.loc["emorl", "parallel"].tolist() == [preset.ppo.episodes] * 2
    counts = csv("smollm2/methods_prompts.csv").groupby(["method", "decoding"])["prompt"].nunique()
    assert counts.nunique() == 1, "the same statements for all"


def test_results_name_the_budget_of_the_study():
    rows = csv("results/methods.csv")
    own = rows[~rows["method"].str.endswith("-long") & (rows["method"] != "base") & (rows["method"] != "grpo")]
    most = own.groupby("method")["data_points"].first().mode().iloc[0]
    assert f"one training budget of {most:,} prompts" in prose(RESULTS) and f"scores on {rows['n'].iloc[0]} test clients" in prose(RESULTS)
    fronts = csv("results/methods_exact_fronts.csv")
    assert f"means over {['four', 'five', 'six'][fronts['seed'].nunique() - 4]} seeds" in prose(RESULTS)
