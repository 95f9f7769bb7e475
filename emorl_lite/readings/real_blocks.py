"""Blocks of docs/results.md on a real study that has a table of prompts, to be named in `readings.results.BLOCKS`.

All take the folder of tables (`data/results`); the real study's lie beside it, in `smollm2`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from emorl_lite.base.files import read_table
from emorl_lite.base.outputs import read_provenance
from emorl_lite.base.wording import number
from emorl_lite.readings import judges, real
from emorl_lite.readings.page import markdown, paragraphs
from emorl_lite.readings.real_objectives import objectives_reading, objectives_shown, objectives_table
from emorl_lite.readings.real_runs import runs_reading, runs_table
from emorl_lite.study.claims import SAMPLED
from emorl_lite.study.tables import logs_of, table_path

HEADROOM = "headroom.csv"
"""What `python scripts/check_rewards.py --base --second --out data/smollm2/headroom.csv` writes."""
JUDGES = "judges.csv"
"""What `python scripts/check_rewards.py --out data/smollm2/judges.csv` writes."""
SHORT = ("base", "uniform", "exact-average")
"""Beside whom the README tells EMORL's score: its start, one policy in as much data, and the same adapters averaged."""
SAMPLED_MAPS = "sampled_maps.csv"
REPEATED = "repeated.csv"
"""One seed of one method, trained twice."""


def _folder(results: Path) -> Path:
    return results.parent / "smollm2"


def _table(results: Path, name: str) -> pd.DataFrame:
    """A table of the real study."""
    return read_table(table_path(_folder(results), name), "a table of the real study")


def _objectives(results: Path) -> list[str]:
    return real.objectives_of(_table(results, "prompts"))


def _compared(results: Path) -> pd.DataFrame:
    """The main comparison, with those of its methods that the study has; EMORL and one other are needed."""
    prompts = _table(results, "prompts")
    return real.differences(prompts, real.others_in(prompts))


def main_table(results: Path) -> str:
    """EMORL beside the others, sampled and greedy, with intervals over seeds and prompts."""
    return markdown(real.comparison_table(_compared(results)))


def main_sentence(results: Path) -> str:
    """The same in words, with EMORL's weights, and which of the comparison's methods were not trained."""
    prompts, study = _table(results, "prompts"), read_provenance(table_path(_folder(results), "prompts")).get("study")
    found, rows, names = _compared(results), _table(results, "rows"), _objectives(results)
    parts = [
        real.comparison_reading(found, int(study.get("samples", 0)) if isinstance(study, dict) else 0),
        real.answer_reading(found, rows, names),
        real.weights_reading(rows, names),
    ]
    if absent := [real.called(method) for method in real.OTHERS if method not in set(prompts["method"])]:
        parts.append(f"Not in this study: {', '.join(absent)}.")
    return paragraphs("\n\n".join(part for part in parts if part))


def by_objective(results: Path) -> str:
    """Sampled scores by objective, on the seeds that all methods have."""
    prompts = _table(results, "prompts")
    shown = objectives_shown(objectives_table(prompts, real.others_in(prompts)))
    told = objectives_reading(prompts, _objectives(results))
    return markdown(shown) + (f"\n\n{paragraphs(told)}" if told else "")


def gate(results: Path) -> str:
    """What the judges were held to before anything was trained on them."""
    figures = read_table(_folder(results) / JUDGES, "the figures of the real study's judges")
    return f"{markdown(judges.gate_table(figures))}\n\n{paragraphs(judges.gate_reading(figures))}"


def runs(results: Path) -> str:
    """What each adapter's own reward was before and after its training."""
    names = _objectives(results)
    table = runs_table(logs_of(_folder(results), names), names)
    return f"{markdown(table)}\n\n{paragraphs(runs_reading(table))}"


def short(results: Path) -> str:
    """The main comparison's answer in a few lines: EMORL, sampled, beside three of the others."""
    compared = _compared(results)
    return paragraphs(real.short_reading(compared, [name for name in SHORT if name in set(compared["second"])]))


def headroom(results: Path) -> str:
    """People's replies by quality beside the base's, and in what there is room."""
    scores = read_table(_folder(results) / HEADROOM, "people's replies and the base by the judges")
    names = _objectives(results)
    return f"{markdown(judges.headroom_table(scores, names))}\n\n{paragraphs(judges.headroom_reading(scores, names))}"


def two_judges(results: Path) -> str:
    """EMORL's gains by the judges that trained it and by the others, and the guards, in a table and in words."""
    quality = _table(results, "quality")
    gains = judges.judged_gains(quality, _objectives(results))
    own = judges.judges_table(gains[gains["method"] == real.FIRST])
    told = [judges.judges_reading(gains), judges.guards_reading(judges.guards_table(quality))]
    return f"{markdown(own)}\n\n" + "\n\n".join(map(paragraphs, told))


def matched(results: Path) -> str:
    """Sampled scores at equal KL to the base."""
    rows = _table(results, "matched")
    table = real.matched_table(rows)
    shown = real.matched_shown(table)
    told = real.matched_reading(table, targets=sorted(rows["target"].unique()))
    return (f"{markdown(shown)}\n\n" if len(shown) else "") + paragraphs(told)


def transfer(results: Path) -> str:
    """Scores on the second source's statements."""
    quality = _table(results, "quality")
    table = real.transfer_table(quality, _objectives(results), real.others_in(quality))
    return f"{markdown(real.transfer_shown(table))}\n\n{paragraphs(real.transfer_reading(table, _compared(results)))}"


def choices(results: Path) -> str:
    """EMORL's scores by how its weights were chosen, with the optimum of sampled replies where there is a table of it."""
    rows, names, path = _table(results, "rows"), _objectives(results), _folder(results) / SAMPLED_MAPS
    maps = read_table(path, "the real study's sampled maps") if path.is_file() else None
    return f"{markdown(real.choices_table(rows, names, maps))}\n\n{paragraphs(real.choices_reading(rows, names, maps))}"


def repeated(results: Path) -> str:
    """A run that was trained twice from one seed: how far its two policies lie apart."""
    table = read_table(_folder(results) / REPEATED, "runs of one seed")
    names = [name for name in table.columns if name not in ("method", "seed", "run", "decoding")]
    sampled = table[table["decoding"] == SAMPLED].assign(score=real.geometric(table, names))
    first, second = real.records(sampled.sort_values("run"))
    most = max(names, key=lambda name: abs(second[name] - first[name]))
    scores, parts = (f"{number(run['score'], 3)} the {run['run']} time" for run in (first, second)), (first[most], second[most])
    return paragraphs(
        f"How much of this is one machine's draw? Seed {first['seed']} of {real.called(first['method'])} was trained twice, the second "
        f"time on another machine and by later code: sampled, {' and '.join(scores)}, with {most} {' and '.join(map(number, parts))}. All "
        "other tables hold the second run."
    )
