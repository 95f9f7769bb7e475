"""Examine the real judges before a policy is trained on them: one table of figures and limits; exit status 1 if a limit is not kept.

    python scripts/check_rewards.py                                       # the preset's own judges
    python scripts/check_rewards.py --warmth 0.4 --runs runs/other-judge  # a judge that learned fewer warm replies, trained if missing
    python scripts/check_rewards.py --warmth 0.4 --empathy-warmth 0 --runs runs/other-judge --split validation  # to choose options by
    python scripts/check_rewards.py --second                              # the second judges, which nothing is trained on, beside them
    python scripts/check_rewards.py --base                                # what is left to win: the base beside people's own replies
    python scripts/check_rewards.py --base --no-without-high --runs runs/other-start  # with a warm start on good replies, too

Figures are of PAIR's and EPITOME's test split and of warm sentences that no judge was trained on (`emorl_lite/rewards/text_gate.py`);
whoever tries several options chooses by `--split validation`, which has its own clients and sentences, and examines once. On two free
cores the reflection judge takes about ten minutes, the warm start four, the base's replies two.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from emorl_lite.base.entry import run_script, typed
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import Preset, TextRewards, get_preset
from emorl_lite.base.provenance import save_table
from emorl_lite.data.datasets import Dataset, load_dataset
from emorl_lite.data.downloads import find_file
from emorl_lite.experiment import report
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.rewards.objectives import Guarded, RewardSet
from emorl_lite.rewards.second_judge import SecondJudge
from emorl_lite.rewards.text_gate import Judge, empathy_figures, gate, reflection_figures, warm_figures
from emorl_lite.rewards.text_rewards import EPITOME, training_pairs
from emorl_lite.rewards.warmth import WARM_HELD_OUT, WARM_VALIDATION

JUDGES = {
    "reflection": ("reflection_warmth", "reflection_members", "reflection_offset", "text_epochs"),
    "empathy": ("empathy_warmth",),
}
"""What this script can change of each judge."""


@dataclass
class Options:
    """Options."""

    preset: str = "smollm2"
    warmth: float | None = None
    """Share of warm copies that the reflection judge learned from (--rewards.reflection-warmth), if not the preset's."""
    empathy_warmth: float | None = None
    """Share of good reflections that the empathy judge learned from (--rewards.empathy-warmth), if not the preset's."""
    members: int | None = None
    """Reflection classifiers that judge as one (--rewards.reflection-members), if not the preset's."""
    offset: float | None = None
    """Added to their mean logit (--rewards.reflection-offset), if not the preset's."""
    epochs: int | None = None
    """Passes that the reflection judge was trained for (--rewards.text-epochs), if not the preset's."""
    split: Literal["test", "validation"] = "test"
    """Clients to examine with: the test split's, with sentences kept for this; or validation's with others, to choose options by."""
    runs: str = ""
    """Folder of the runs in which what differs from the preset lies, or is trained (default: $EMORL_RUNS or runs/)."""
    second: bool = False
    """Show the second judges' figures, too. They are held to nothing."""
    base: bool = False
    """Instead: what people's replies to the split's statements score, and the warm-started base's, greedy and sampled. No limits."""
    without_high: bool | None = None
    """Whether the base's warm start leaves out replies of high quality, if not as the preset has it (trained in the folder of the runs if
    it is missing)."""
    samples: int = 4
    """Replies that the base samples for each prompt."""
    quick: bool = False
    """A few statements and pairs."""
    out: str = ""
    """CSV file for the table."""


def changed(options: Options) -> Preset:
    """The preset with these options. Raises UserError for a preset whose rewards do not judge real text."""
    preset = get_preset(options.preset)
    if not isinstance(preset.rewards, TextRewards):
        raise UserError(f"--preset {preset.name}: its judges are of the small world; benchmarks/rewards.py examines them")
    rewards = preset.rewards
    if options.warmth is not None:
        rewards = replace(rewards, reflection_warmth=options.warmth)
    if options.members is not None:
        rewards = replace(rewards, reflection_members=options.members)
    if options.offset is not None:
        rewards = replace(rewards, reflection_offset=options.offset)
    if options.epochs is not None:
        rewards = replace(rewards, text_epochs=options.epochs)
    if options.empathy_warmth is not None:
        rewards = replace(rewards, empathy_warmth=options.empathy_warmth)
    start = preset.warm_start
    if options.without_high is not None:
        start = replace(start, without_high=options.without_high)
    return replace(preset, rewards=rewards, warm_start=start)


def usual(options: Options) -> Experiment:
    """The preset's own judges and base; in the folder of the runs only if nothing is changed, for it holds what is."""
    preset = get_preset(options.preset)
    return Experiment(preset, root=_root(options) if changed(options) == preset else None)


def _root(options: Options) -> Path | None:
    return Path(options.runs) if options.runs else None


def judges(options: Options) -> dict[str, Judge]:
    """The two judges; one whose options are the preset's is the preset's own."""
    own, rewards = usual(options), changed(options).rewards
    found: dict[str, Judge] = {}
    for name, options_of in JUDGES.items():
        lab = own
        if any(getattr(rewards, option) != getattr(own.preset.rewards, option) for option in options_of):
            lab = Experiment(replace(own.preset, rewards=rewards), root=_root(options), source="mine")
        found[name] = lab.classifier(name)
    return found


def second_judges(rewards: TextRewards, data: Dataset) -> dict[str, Judge]:
    """Judges of words, fitted now."""
    return {name: SecondJudge(training_pairs(name, lambda: data, rewards, seed=1), name) for name in ("reflection", "empathy")}


def figures(by_name: dict[str, Judge], data: Dataset, options: Options) -> dict[str, float]:
    """All figures of two judges."""
    sentences = WARM_HELD_OUT if options.split == "test" else WARM_VALIDATION
    found = reflection_figures(by_name["reflection"], data, options.split)
    found |= warm_figures(by_name["reflection"], by_name["empathy"], data, options.split, sentences)
    client, limit = data.prompts(options.split)[0], 100 if options.quick else None
    emotional = empathy_figures(by_name["empathy"], find_file(EPITOME), client, limit, options.split)
    return found | {f"empathy: {measure}": value for measure, value in emotional.items()}


def examined(options: Options, rewards: TextRewards) -> pd.DataFrame:
    """The gate's table, with the second judges beside if they are asked for."""
    many = 10 if options.quick else 10_000
    data = load_dataset(replace(get_preset(options.preset).data, max_words=0, test_prompts=many, validation_prompts=many))
    table = gate(figures(judges(options), data, options))
    if options.second:
        second = figures(second_judges(rewards, data), data, options)
        table["second judge"] = [second.get(measure) for measure in table["measure"]]
    return table


def headroom(options: Options, preset: Preset) -> pd.DataFrame:
    """Scores of people's replies by quality, and of the base's greedy and sampled ones. Columns as `report.score` gives them, and n."""
    own = lab = usual(options)
    if preset.warm_start != own.preset.warm_start:
        lab = Experiment(replace(own.preset, warm_start=preset.warm_start), root=_root(options), source="mine")
    scored = {name: Guarded(judge.scores, name) for name, judge in judges(options).items()}
    rewards = RewardSet({**scored, "fluency": own.rewards["fluency"]})
    second: dict[str, Guarded] = {}
    if options.second:
        data = load_dataset(replace(preset.data, max_words=0))
        assert isinstance(preset.rewards, TextRewards)
        second = {f"{name}_second": Guarded(judge.scores, name) for name, judge in second_judges(preset.rewards, data).items()}
    prompts = lab.dataset.prompts(options.split)[: 5 if options.quick else None]
    torch.manual_seed(0)
    rows = [report.score(rewards, 0, "base, greedy", prompts, lab.lm.reply(prompts), second) | {"n": len(prompts)}]
    many = [prompt for prompt in prompts for _ in range(options.samples)]
    sampled: dict[str, Any] = {"do_sample": True, "temperature": 1.0}
    rows.append(report.score(rewards, 0, "base, sampled", many, lab.lm.reply(many, **sampled), second) | {"n": len(many)})
    return pd.concat([report.replies_by_quality(rewards, 0, lab.dataset, second, options.split), pd.DataFrame(rows)], ignore_index=True)


def main(options: Options) -> int:
    """Measure, print, write. Returns 1 if a limit is not kept."""
    torch.set_num_threads(1)
    preset = changed(options)
    assert isinstance(preset.rewards, TextRewards)
    table = headroom(options, preset).drop(columns="seed") if options.base else examined(options, preset.rewards)
    print(table.astype(object).where(table.notna(), "").to_string(index=False, float_format="{:.3f}".format))
    if options.out:
        facts = {name: getattr(preset.rewards, name) for names in JUDGES.values() for name in names}
        facts |= {"split": options.split, "without_high": preset.warm_start.without_high}
        command = "python scripts/check_rewards.py " + " ".join(sys.argv[1:])
        save_table(table.round(4), Path(options.out), command=command, preset=preset.name, **facts)
    if options.base:
        return 0
    missed = table[table["passes"].eq(False)]
    print("all limits are kept" if missed.empty else f"{len(missed)} not kept: " + "; ".join(missed["measure"]))
    return 0 if missed.empty else 1


if __name__ == "__main__":
    run_script(lambda: main(typed(Options, __doc__)))
