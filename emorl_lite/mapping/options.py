"""The options of the command `map`, as typed, and what can be said about them before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import ModelConfig, check_template
from emorl_lite.base.ranges import Distinct, Within, check_name, check_seed, checked, shown

Kind = Literal["adapters", "line", "guidance", "contrast"]
Format = Literal["csv", "parquet"]
MOST_CORNERS = 6
"""Of what is mixed: the regions of a prompt grow with about the power of their number."""
MOST_PROMPTS = 10_000
MOST_SAMPLES = 1000
RANGES: dict[str, tuple[float, float]] = {"line": (0.0, 4.0), "guidance": (0.0, 4.0), "contrast": (0.0, 1.0)}
"""What a line's knob runs over unless `--range` says otherwise."""


@dataclass
class Map:
    """Cut all weights of a mixture into regions, one reply each: tables of regions, optimum and front, and a page to open in a browser.

    Two LoRA folders and a file of prompts:
      python -m emorl_lite map --adapters runs/kind runs/short --prompts prompts.txt --rewards empathy brevity

    Two prompts as they are typed, for the model that comes with emorl_lite; the best weights for twice as much empathy:
      python -m emorl_lite map --prompt "I lost my job." "I can't sleep." --utility empathy=2 fluency=1
    """

    preset: str = "tiny"
    """Named preset: its model, adapters and rewards are taken where no others are named."""
    adapters: tuple[str, ...] = ()
    """What is mixed: two to six LoRA folders or hub ids (name=folder gives one another name), or objectives of the preset's run. Their
    base model is what their adapter_config.json names, or --model.path. Default: all objectives of the preset's run."""
    models: tuple[str, ...] = ()
    """Instead of adapters: whole models that share a vocabulary, by folder or hub id (name=folder gives one another name)."""
    kind: Kind = "adapters"
    """How it is mixed. adapters: any weights that sum to 1. line: from the base model (strength 0) to one adapter (strength 1) and beyond
    (DeRa). guidance: without and with an instruction (classifier-free guidance). contrast: a strong model against a weak one."""
    range: tuple[float, ...] = ()
    """Lowest and highest strength of a line, of guidance or contrast (default: 0 4, 0 4 and 0 1)."""
    instruction: str = ""
    """For guidance: the prompt with the instruction, such as "Answer kindly. {prompt}"."""
    prompts: str = ""
    """File of prompts: .txt (one a line), or .csv, .tsv, .json, .jsonl, .parquet with a column of them."""
    prompt_column: str = "prompt"
    """That column."""
    prompt: tuple[str, ...] = ()
    """Prompts as they are typed, instead of a file. Default, if neither adapters nor models are named: ten test prompts of the preset."""
    reward_names: Annotated[tuple[str, ...], tyro.conf.arg(name="rewards")] = ()
    """Columns of scores: names in emorl_lite.rewards.REWARDS, or your own functions of (prompts, replies) as module:function or
    file.py:function (name=... gives one another name). Default: the preset's objectives; for another model fluency, brevity, diversity."""
    utility: tuple[str, ...] = ()
    """What the optimum maximises: a weight for some rewards, such as empathy=2 fluency=1 (default: the mean of all)."""
    samples: int = 0
    """Replies sampled for each prompt, with common random numbers (0: greedy replies)."""
    temperature: float = 1.0
    """Sampling temperature."""
    seed: int = 0
    """Seed of the samples; for the preset's run also which of its seeds."""
    max_new_tokens: int = 0
    """Longest reply in tokens (0: as --model.max-new-tokens)."""
    memory: float = 2.0
    """Gigabytes to keep to: part by part, so that it fits. Changes no result."""
    out: str = "map"
    """Folder for regions, front, optimum.json and map.html."""
    format: Format = "csv"
    """Of the tables regions and front."""
    overwrite: bool = False
    """Replace the results of another map that is in the folder. What emorl_lite did not write stays in any case."""
    runs: str = ""
    """Folder of the runs (default: $EMORL_RUNS, else runs/ in the repository, or here if the package is installed)."""
    quiet: bool = False
    """No progress bars."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Base model."""

    @property
    def named(self) -> bool:
        """Whether adapters or models are named."""
        return bool(self.adapters or self.models)


def check_options(command: Map) -> None:
    """Raise UserError for options that are wrong, by themselves or together; nothing is read or loaded."""
    check_seed(command.seed)
    checked(command.samples, int, [Within(0, MOST_SAMPLES)], f"--samples {shown(command.samples)}")
    checked(command.temperature, float, [Within(0.01, 100)], f"--temperature {shown(command.temperature)}")
    checked(command.max_new_tokens, int, [Within(0, 10**5)], f"--max-new-tokens {shown(command.max_new_tokens)}")
    checked(command.memory, float, [Within(0, 10**5, above=True)], f"--memory {shown(command.memory)}")
    if not command.samples and command.temperature != 1:
        raise UserError("--temperature: is for sampled replies; say how many with --samples")
    for option, names in (("--adapters", command.adapters), ("--models", command.models), ("--rewards", command.reward_names)):
        Distinct().check(names, option)
        if any(not name.strip() for name in names):
            raise UserError(f"{option}: an empty name")
    if command.prompts and command.prompt:
        raise UserError("--prompt and --prompts: give prompts by one of them")
    if not command.prompt_column.strip():
        raise UserError("--prompt-column is empty: expected the name of a column")
    _check_kind(command)


def _check_kind(command: Map) -> None:
    """Raise UserError unless what is mixed goes with the way it is mixed."""
    kind, adapters, models = command.kind, len(command.adapters), len(command.models)
    if adapters and models:
        raise UserError("--adapters and --models: mix one or the other")
    if kind == "adapters":
        for option, count in (("--adapters", adapters), ("--models", models)):
            if count == 1 or count > MOST_CORNERS:
                also = "; one adapter and its base are --kind line" if (option, count) == ("--adapters", 1) else ""
                raise UserError(f"{option}: expected two to six to mix, got {count}{also}")
    if kind == "line" and not (adapters in (1, 2) or models == 2):
        raise UserError(
            "--kind line: name one adapter (base and adapter), two of --adapters, or two of --models: from the first to the second"
        )
    if kind == "contrast" and not (models == 2 or adapters == 2):
        raise UserError("--kind contrast: name a strong and a weak one: --models STRONG WEAK, or --adapters STRONG WEAK")
    if kind == "guidance" and (adapters > 1 or models):
        raise UserError("--kind guidance: expected one model (--model.path), with one adapter or none")
    if kind == "guidance" and not command.instruction:
        raise UserError('--kind guidance: needs --instruction, such as "Answer kindly. {prompt}"')
    if command.instruction and kind != "guidance":
        raise UserError("--instruction: is for --kind guidance")
    if command.instruction:
        check_template(command.instruction, f"--instruction {shown(command.instruction)}")
    if command.range:
        check_range(command.range, kind)


def check_range(ends: Sequence[float], kind: str) -> None:
    """Raise UserError unless these are the ends of a line, the lower first."""
    where = f"--range {' '.join(f'{end:g}' for end in ends)}"
    if kind not in RANGES:
        raise UserError(f"{where}: is for --kind {', '.join(RANGES)}")
    if len(ends) != 2 or not all(math.isfinite(end) and abs(end) <= 1000 for end in ends) or not ends[0] < ends[1]:
        raise UserError(f"{where}: expected two numbers from -1000 to 1000, the lower one first")
    if kind == "contrast" and ends[0]:
        raise UserError(f"{where}: contrast begins at 0, the strong model as it is")


def split_name(text: str, option: str) -> tuple[str, str]:
    """(name, rest) of "name=rest"; the name is empty where there is none. Raises UserError for a name that no column can have."""
    name, sign, rest = text.partition("=")
    if not sign or "/" in name or "\\" in name or ":" in name:
        return "", text
    check_name(name, f"{option} {shown(text)}")
    if not rest.strip():
        raise UserError(f"{option} {shown(text)}: nothing stands behind the sign")
    return name, rest


def read_utility(words: Sequence[str], names: Sequence[str]) -> dict[str, float] | None:
    """What the optimum maximises, from words such as empathy=2; None without any.

    Raises UserError for words of another form, rewards that are not among `names`, and numbers that are none or all zero.
    """
    utility: dict[str, float] = {}
    for word in words:
        name, sign, number = word.rpartition("=")
        if not sign or not name:
            raise UserError(f"--utility {shown(word)}: expected a reward and its weight, such as {names[0]}=2")
        if name not in names:
            raise UserError(f"--utility {shown(word)}: {shown(name)} is not scored here; there are {', '.join(names)}")
        if name in utility:
            raise UserError(f"--utility {shown(word)}: {name} is there twice")
        try:
            value = float(number)
        except ValueError:
            raise UserError(f"--utility {shown(word)}: {shown(number)} is not a number") from None
        utility[name] = checked(value, float, [Within(-1e9, 1e9)], f"--utility {shown(word)}")
    if words and not any(utility.values()):
        raise UserError("--utility: all weights are 0, so that nothing is better than anything")
    return utility or None
