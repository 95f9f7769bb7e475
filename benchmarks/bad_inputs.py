"""Malformed and odd inputs of every kind, and how each ends: a line and status 2, rightly accepted, or one of the ways that must not be.

    python benchmarks/bad_inputs.py [--quick] [--kind KIND] [--only WORDS] [--show]

Options (every number of every part of a preset by the same values), data files, what runs leave on disk, places for results, models, and
calls from Python. Each case runs in a process of its own, forked from one that has imported everything, in a folder of its own with a
finished run of the preset tiny, under a time limit. `--quick`: every seventh case of each kind, in less than a minute. `--only`: cases
whose names hold these words; `--show`: what every case said. One line a case that must not be comes first; the last line is one JSON
object of counts. POSIX alone: Windows cannot fork.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch

import emorl_lite.study.run
import emorl_lite.tutorial.runner  # noqa: F401
from emorl_lite.__main__ import main
from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest
from emorl_lite.base.paths import ASSETS
from emorl_lite.base.presets import (
    DataConfig,
    ModelConfig,
    PPOConfig,
    Preset,
    SearchConfig,
    SmallWorldRewards,
    StudyConfig,
    get_preset,
)
from emorl_lite.base.ranges import Options

LIMIT = 40.0
"""Seconds until a case hangs."""
BAD = ("traceback", "unforeseen", "hangs", "accepted", "several lines", "status", "file lost", "written", "wrong line")
"""How no case may end."""
NOBODY = 65534
"""A user who owns nothing here."""

Place = Path
"""A case's folder: `runs/` with a finished run of tiny, `data.csv`, `notes.json`, `lm/` (a copy of the model) where a case asks for it."""


@dataclass(frozen=True)
class Case:
    """One input."""

    name: str
    run: list[str] | Callable[[Place], object]
    """Words of a command ("{}" is the case's folder), or a call from Python."""
    prepare: Callable[[Place], object] = lambda place: None
    """What is done to the folder before."""
    says: tuple[str, ...] = ()
    """What the line must hold."""
    right: bool = False
    """Whether it is to be accepted."""
    either: bool = False
    """Whether it may be."""
    kept: tuple[str, ...] = ("data.csv", "notes.json")
    """Files that must be as they were."""
    clean: bool = True
    """Whether nothing may be written if it is refused."""
    limits: dict[int, int] = field(default_factory=dict)
    """Of the system, set in the case's process: RLIMIT_AS is counted from what the process has."""
    nobody: bool = False
    """Whether another user runs it, where this one is root."""
    env: dict[str, str] = field(default_factory=dict)


# -- what a case runs on


def furnish(place: Place) -> None:
    """A finished run of tiny, a small data file and a user's own notes."""
    (place / "runs" / "tiny").mkdir(parents=True)
    for part in ("classifiers", "seed0"):
        shutil.copytree(ASSETS / "tiny" / part, place / "runs" / "tiny" / part)
    lines = [
        "prompt,reply",
        *(f'"I feel {w} about my work {i}.","You feel {w}."' for i, w in enumerate(["sad", "angry", "lost", "fine"] * 6)),
    ]
    (place / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (place / "notes.json").write_text('{"mine": true}\n', encoding="utf-8")


def with_model(change: Callable[[Path], object]) -> Callable[[Place], None]:
    """Prepares `lm/`, a copy of the tiny model with a change."""

    def prepare(place: Place) -> None:
        shutil.copytree(ASSETS / "tiny_lm", place / "lm")
        change(place / "lm")

    return prepare


def edit_json(name: str, **values: Any) -> Callable[[Path], None]:
    """Changes some values of a JSON file in a folder (None: takes them out)."""

    def edit(folder: Path) -> None:
        facts = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))

    return edit


def cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    """Cuts a file in a folder; a share of 0 empties it."""

    def shorten(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return shorten


def write(name: str, data: str | bytes) -> Callable[[Path], None]:
    """Writes a file into a folder."""
    return lambda folder: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)  # type: ignore[return-value]


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    """Changes the tensors of a safetensors file."""
    from safetensors.torch import load_file, save_file

    return lambda folder: save_file(
        {k: v.contiguous() for k, v in change(load_file(folder / name)).items()}, folder / name, {"format": "pt"}
    )


def loop(name: str) -> Callable[[Place], None]:
    """Prepares a link to itself."""
    return lambda place: (place / name).symlink_to(place / name)


def fewer_words(folder: Path) -> None:
    """Takes the last rows of the embedding away."""
    edit_json("config.json", vocab_size=500)(folder)
    tensors("model.safetensors", lambda found: {key: x[:500] if x.shape[0] > 2000 else x for key, x in found.items()})(folder)


def half(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every second tensor."""
    return {key: found[key] for key in sorted(found)[::2]}


def filled(value: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """All tensors with one value."""
    return lambda found: {key: torch.full_like(x, value) for key, x in found.items()}


# -- cases: options

TRAIN = {
    "--objectives": "brevity", "--objective": "brevity", "--data.train-prompts": "16", "--data.validation-prompts": "2",
    "--data.test-prompts": "4", "--ppo.episodes": "8", "--ppo.batch-size": "8", "--ppo.minibatch-size": "8", "--ppo.epochs": "1",
    "--model.max-new-tokens": "4",
}  # fmt: skip
SEARCH = {"--data.validation-prompts": "2", "--search.validation-prompts": "2", "--data.test-prompts": "2", "--search.levels": "1"}
PARTS: dict[str, tuple[type[Options], str]] = {
    "model": (ModelConfig, "train"), "rewards": (SmallWorldRewards, "train"), "ppo": (PPOConfig, "train"),
    "data": (DataConfig, "train"), "search": (SearchConfig, "search"), "study": (StudyConfig, "study"),
}  # fmt: skip
NUMBERS = ("-1", "0", "nan", "inf", "-inf", "1e300", str(10**30), "", "text", "1.5", "0x10", "1_0", "٣")
ZERO_IS_OFF = {
    "lora_dropout", "vf_coef", "gamma", "lam", "kl_coef", "kl_stop", "validate_every", "tolerance", "checkpoint_every", "log_samples",
    "max_words",
}  # fmt: skip
"""Numbers that may be 0."""


def words(command: str, options: dict[str, str]) -> list[str]:
    """A command as typed."""
    quiet = ["--quiet"] if command != "tutorial" else []
    return [command, *quiet, *(word for name, value in options.items() for word in (name, value))]


def number_cases() -> Iterator[Case]:
    """Every number of every part by the same values."""
    bases = {"train": TRAIN, "search": SEARCH, "study": {"--seeds": "1"}}
    for part, (kind, command) in PARTS.items():
        hints = get_type_hints(kind)
        for option in fields(kind):  # type: ignore[arg-type]
            if hints[option.name] not in (int, float):
                continue
            name = kind.option(option.name)
            for value in NUMBERS:
                right = value == "0" and option.name in ZERO_IS_OFF and part != "study"
                odd = value in ("1_0", "٣") or (hints[option.name] is float and value == "1.5")  # Python reads them as numbers
                if odd and command == "study":  # a whole study, rightly
                    continue
                typed = words(command, bases[command] | {name: value})
                yield Case(f"{command} {name} {value!r}", typed, says=() if odd else (name,), right=right, either=odd)


def text_cases() -> Iterator[Case]:
    """Texts, choices, paths of models, seeds."""
    templates = ("", "no place", "{prompt", "{prompt.__class__}", "{0}", "{other} {prompt}", "{prompt!r}", "{prompt:>999999999}", "}", "{}")
    for template in templates:
        yield Case(f"train --model.template {template!r}", words("train", TRAIN | {"--model.template": template}), says=("template",))
    for device in ("mps", "cuda", "tpu", ""):
        yield Case(f"train --model.device {device!r}", words("train", TRAIN | {"--model.device": device}), says=("device",))
    for path in ("", "data", "no/such/model", "{}/data.csv", "{}/data.csv/x", "../..", "x" * 5000, "{}/loop"):
        yield Case(f"train --model.path {path[:30]!r}", words("train", TRAIN | {"--model.path": path}), loop("loop"))
    for seed in ("-1", "99999999999999999999", "1.5", "nan", "", "4294967296"):
        for command, base in (("train", TRAIN), ("search", SEARCH), ("evaluate", {"--data.test-prompts": "2"})):
            yield Case(f"{command} --seed {seed!r}", words(command, base | {"--seed": seed}), says=("--seed",))
        yield Case(
            f"search bayesian --seed {seed!r}", words("search", SEARCH | {"--search.method": "bayesian", "--seed": seed}), says=("seed",)
        )
        yield Case(f"tutorial --seed {seed!r}", ["tutorial", "--only", "00", "--seed", seed], says=("--seed",))
    for preset in ("", "huge", "TINY", "tiny ", "../tiny"):
        yield Case(f"train --preset {preset!r}", words("train", {"--preset": preset}), says=("preset",))
    for method in ("exhaustive", "", "Exact"):
        yield Case(f"search --search.method {method!r}", words("search", SEARCH | {"--search.method": method}), says=("method",))


def list_cases() -> Iterator[Case]:
    """Lists, and commands that are none."""
    for objectives in (["fluency", "fluency"], [], ["kindness"], [""], ["../x"], ["fluency", ""], ["a,b"]):
        for command in ("train", "search", "evaluate"):
            yield Case(f"{command} --objectives {objectives}", [command, "--quiet", "--objectives", *objectives], says=("objective",))
    yield Case("search one objective", words("search", SEARCH | {"--objectives": "fluency"}), says=("2 objectives",))
    for objective in ("kindness", "", "ALL", "../fluency"):
        yield Case(f"train --objective {objective!r}", words("train", {"--objective": objective}), says=("objective",))
    for weights in ([], ["0.5"], ["nan", "1", "1"], ["inf", "1", "1"], ["-1", "1", "1"], ["0", "0", "0"], ["1", "1", "x"], ["1e300"] * 3):
        yield Case(
            f"evaluate --weights {weights}", ["evaluate", "--quiet", "--data.test-prompts", "2", "--weights", *weights], says=("weights",)
        )
    yield Case("an unknown option", ["train", "--no-such-option", "1"], says=("--no-such-option",))
    yield Case("an unknown command", ["frobnicate"], says=("frobnicate",))
    yield Case("no command", [])
    yield Case("an option without its value", ["train", "--ppo.lr"], says=("--ppo.lr",))
    yield Case("study --methods twice", ["study", "--quiet", "--methods", "uniform", "uniform", "--out", "{}/t"], says=("uniform",))
    yield Case("tutorial --only ''", ["tutorial", "--only", ""], says=("--only",))
    yield Case("tutorial --only 99", ["tutorial", "--only", "99"], says=("--only",))
    yield Case("tutorial --only", ["tutorial", "--only"], says=("--only",))
    yield Case("tutorial --preset huge", ["tutorial", "--only", "02", "--preset", "huge"], says=("huge",))
    yield Case("tutorial --only 00 --preset smollm2", ["tutorial", "--only", "00", "--preset", "smollm2"], says=("preset",))
    for rest in (["fetch"], ["fetch", "poems"], ["list", "pair"], ["steal"], ["fetch", ""], ["fetch", "../pair"]):
        yield Case(f"data {' '.join(rest)}", ["data", *rest])
    yield Case("help", ["train", "--help"], right=True)
    yield Case("help of all", ["--help"], right=True)


def together_cases() -> Iterator[Case]:
    """Options that do not go together, or never end together."""
    together: list[tuple[str, dict[str, str], tuple[str, ...]]] = [
        ("search", {"--search.method": "exact", "--search.mix": "logits"}, ("mix",)),
        ("search", {"--search.method": "bayesian", "--search.evaluations": "100000"}, ("evaluations",)),
        ("search", {"--search.method": "grid", "--search.evaluations": "5"}, ("evaluations",)),
        ("search", {"--search.levels": "40", "--search.points-per-axis": "100"}, ("levels",)),
        ("search", {"--search.levels": "1", "--search.points-per-axis": "10000"}, ("1,000,000,000,000",)),
        ("train", TRAIN | {"--ppo.estimator": "rloo", "--ppo.k": "1"}, ("--ppo.k",)),
        ("train", TRAIN | {"--data-path": "{}/data.csv"}, ("--data-path",)),
        ("train", TRAIN | {"--data": "table"}, ("--data-path",)),
        ("train", TRAIN | {"--data.max-words": "5"}, ("max-words",)),
        ("train", TRAIN | {"--prompt-column": "client"}, ("--prompt-column",)),
        ("train", TRAIN | {"--data": "table", "--data-path": "{}/data.csv", "--reply-column": "prompt"}, ("--reply-column",)),
        ("train", TRAIN | {"--data": "table", "--data-path": "{}/data.csv", "--prompt-column": ""}, ("--prompt-column",)),
        ("train", TRAIN | {"--ppo.temperature": "1e-30"}, ("temperature",)),
        ("train", TRAIN | {"--warm-start-steps": "-1"}, ("--warm-start-steps",)),
        ("train", TRAIN | {"--warm-start-steps": str(10**30)}, ("--warm-start-steps",)),
        ("study", {"--seeds": "0"}, ("--seeds",)),
        ("study", {"--seeds": "-1"}, ("--seeds",)),
        ("study", {"--seeds": str(10**30)}, ("--seeds",)),
        ("study", {"--workers": "-1"}, ("--workers",)),
        ("study", {"--workers": str(10**9)}, ("--workers",)),
        ("study", {"--methods": "uniform"}, ("--out",)),
        ("study", {"--methods": "magic", "--out": "{}/t"}, ("magic",)),
        ("study", {"--study.budget": "8", "--study.batch-size": "16"}, ("--study.budget",)),
        ("study", {"--study.weight-steps": "1000", "--preset": "smollm2", "--study.watch": "kindness"}, ("kindness",)),
    ]
    for command, options, says in together:
        shown = " ".join(word for pair in options.items() if pair not in TRAIN.items() for word in pair)
        yield Case(f"{command} {shown}", words(command, options), says=says)


# -- cases: data files

FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "NUL bytes": ("d.csv", b"prompt,reply\na\0b,c\n" * 5, ("d.csv",)),
    "huge integer": ("d.json", b'[{"prompt": ' + b"9" * 5000 + b', "reply": "x"}]', ("d.json",)),
    "deep nesting": ("d.json", b"[" * 100_000, ("d.json",)),
    "not UTF-8": ("d.csv", b"prompt,reply\n\xe9,x\n", ("d.csv", "line 2")),
    "empty": ("d.csv", b"", ("d.csv",)),
    "only a header": ("d.csv", b"prompt,reply\n", ("d.csv",)),
    "two prompts": ("d.csv", b"prompt,reply\na,b\nc,d\n", ("d.csv",)),
    "a column twice": ("d.csv", b"prompt,prompt,reply\na,b,c\n", ("d.csv", "twice")),
    "a row too short": ("d.csv", b"prompt,reply\na,b\nc\n", ("d.csv", "row 3")),
    "an open quote": ("d.csv", b'prompt,reply\n"a,b\n', ("d.csv",)),
    "an empty prompt": ("d.csv", b"prompt,reply\na,b\n,d\n", ("d.csv", "row 3")),
    "JSON object": ("d.json", b'{"prompt": "a"}', ("d.json",)),
    "JSON number": ("d.json", b'[{"prompt": 3, "reply": "a"}]', ("d.json", "row 1")),
    "JSON NaN": ("d.json", b'[{"prompt": NaN, "reply": "a"}]', ("d.json", "row 1")),
    "JSON lines broken": ("d.jsonl", b'{"prompt": "a", "reply": "b"}\n{"prompt"\n', ("d.jsonl", "line 2")),
    "half a surrogate": ("d.json", b'[{"prompt": "\\ud800", "reply": "a"}]', ("d.json", "row 1")),
    "unknown ending": ("d.xlsx", b"PK", ("d.xlsx",)),
    "a prompt too long": (
        "d.csv",
        b"prompt,reply\n" + b"\n".join(b"word " * 400 + b"%d,x" % i for i in range(9)) + b"\n",
        ("d.csv", "row"),
    ),
}


def unreadable(place: Place) -> None:
    """A data file that nobody may read, beside runs that all may write."""
    (place / "data.csv").chmod(0)
    _chmod(place / "runs", 0o777, 0o666)


def file_cases() -> Iterator[Case]:
    """Data files, and paths to them."""
    table = TRAIN | {"--data": "table"}
    for name, (file, data, says) in FILES.items():
        yield Case(f"data file: {name}", words("train", table | {"--data-path": "{}/" + file}), write(file, data), says)
    for name, path, word in (
        ("missing", "{}/no.csv", "no.csv"), ("a folder", "{}/runs", "runs"), ("a device", "/dev/zero", "/dev/zero"),
        ("NUL", "a\0b.csv", "--data-path"), ("too long", "x" * 5000 + ".csv", "xxx"),
    ):  # fmt: skip
        yield Case(f"data path: {name}", words("train", table | {"--data-path": path}), says=(word,))
    yield Case("data path: a link to itself", words("train", table | {"--data-path": "{}/loop.csv"}), loop("loop.csv"), ("loop.csv",))
    yield Case(
        "data path: unreadable", words("train", table | {"--data-path": "{}/data.csv"}), unreadable, ("data.csv",), kept=(), nobody=True
    )
    yield Case(
        "max-words 1 leaves nothing", words("train", table | {"--data-path": "{}/data.csv", "--data.max-words": "1"}), says=("max-words",)
    )
    yield Case("a good file", words("train", table | {"--data-path": "{}/data.csv"}), right=True)
    yield Case("small_world and a path", words("train", TRAIN | {"--data-path": "data.csv"}), says=("--data-path",))


# -- cases: what runs leave on disk

RUN, CLASSIFIER = Path("runs/tiny/seed0/empathy"), Path("runs/tiny/classifiers/empathy")
EVALUATE = ["evaluate", "--quiet", "--data.test-prompts", "2", "--data.validation-prompts", "2"]
FOUND = '{"weights": {"reflection": 0.5, "empathy": 0.5, "fluency": 0.5}, "scores": {"reflection": 1, "empathy": 1, "fluency": 1}}'


def at(folder: Path, *changes: Callable[[Path], object]) -> Callable[[Place], None]:
    """Prepares a folder of the place by these changes."""

    def prepare(place: Place) -> None:
        for change in changes:
            change(place / folder)

    return prepare


def swap_classifiers(place: Place) -> None:
    """One classifier in the other's folder."""
    one, other = place / CLASSIFIER, place / CLASSIFIER.parent / "reflection"
    one.rename(place / "x")
    other.rename(one)
    (place / "x").rename(other)


def saved_cases() -> Iterator[Case]:
    """Damaged, swapped and stale files of runs."""
    damage: dict[str, tuple[Path, str]] = {
        "adapter_model.safetensors": (RUN, "empathy"), "adapter_config.json": (RUN, "empathy"), "base.json": (RUN, "base"),
        "done.json": (RUN, "done"), "log.csv": (RUN, "log"),
        "classifier.json": (CLASSIFIER, "classifier"), "classifier.safetensors": (CLASSIFIER, "classifier"),
    }  # fmt: skip
    train = ["train", "--quiet", "--objective", "empathy"]
    for name, (folder, says) in damage.items():
        changes = {"cut": cut(name), "empty": cut(name, 0), "zeros": write(name, bytes(500)), "not UTF-8": write(name, b"\xff\xfe{}")}
        if name.endswith(".json"):
            changes |= {
                "a list": write(name, "[]"),
                "a number": write(name, "3"),
                "no keys": write(name, "{}"),
                "a word": write(name, '"x"'),
            }
        for how, change in changes.items():
            for command in [EVALUATE] if folder == CLASSIFIER or name == "log.csv" else [train, EVALUATE]:
                either = (name in ("log.csv", "done.json") and command is EVALUATE) or (name == "base.json" and how == "no keys")
                yield Case(f"{command[0]}: {name} {how}", command, at(folder, change), (says,), either=either, kept=(), clean=False)
    adapter, config = "adapter_model.safetensors", "adapter_config.json"
    for how, change in {
        "all NaN": tensors(adapter, filled(float("nan"))), "infinite": tensors(adapter, filled(float("inf"))),
        "half of its tensors": tensors(adapter, half), "IA3": edit_json(config, peft_type="IA3"), "DoRA": edit_json(config, use_dora=True),
        "rank 0": edit_json(config, r=0), "another rank": edit_json(config, r=3), "no file": lambda folder: (folder / adapter).unlink(),
        "no configuration": lambda folder: (folder / config).unlink(),
        "another base": edit_json("base.json", values=[0.0] * 16),
    }.items():  # fmt: skip
        for command in (EVALUATE, ["search", "--quiet", *words("search", SEARCH)[2:], "--search.method", "exact"]):
            yield Case(f"{command[0]}: adapter, {how}", command, at(RUN, change), ("empathy",), kept=(), clean=False)
    old = {"either": True, "clean": False}  # the classifiers that come with the package do not say what they were made for
    yield Case("evaluate: another objective's classifier", EVALUATE, swap_classifiers, kept=(), **old)  # type: ignore[arg-type]
    other = [*EVALUATE, "--rewards.classifier-epochs", "9"]
    yield Case("evaluate: classifier of other options", other, says=("classifier",), **old)  # type: ignore[arg-type]
    yield Case("evaluate: adapters of another template", [*EVALUATE, "--model.template", "{prompt}"], says=("template",), clean=False)
    for name, data in {
        "cut": FOUND[:-9],
        "a list": "[]",
        "no weights": "{}",
        "text": FOUND.replace("0.5", '"x"'),
        "NaN": FOUND.replace("0.5", "NaN"),
        "zero": FOUND.replace("0.5", "0"),
    }.items():
        says = "weights" if name == "zero" else "search.json"
        yield Case(f"evaluate: search.json {name}", EVALUATE, at(RUN.parent, write("search.json", data)), (says,), kept=(), clean=False)
    search = ["search", *words("search", SEARCH)[1:]]
    table = (
        "level,point,w_reflection,w_empathy,w_fluency,reflection,empathy,fluency,mean,seconds,note\n1,1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,x\n"
    )
    tables: dict[str, tuple[Callable[[Path], object], ...]] = {
        "settings cut": (write("search.csv", table), write("search.search.json", '{"search"')),
        "settings a list": (write("search.csv", table), write("search.search.json", "[]")),
        "no settings": (write("search.csv", table),),
        "not UTF-8": (write("search.csv", b"level\xe9\n"), write("search.search.json", "{}")),
        "a folder": (lambda folder: (folder / "search.csv").mkdir(),),
        "empty": (write("search.csv", ""), write("search.search.json", "{}")),
    }
    for name, parts in tables.items():
        yield Case(f"search: table, {name}", search, at(RUN.parent, *parts), ("search",), kept=(), clean=False)


# -- cases: places


def out(name: str) -> list[str]:
    """An evaluation that is kept there."""
    return [*EVALUATE, "--out", name]


def place_cases() -> Iterator[Case]:
    """Places for results: nothing that is there is lost."""
    says = ("--out",)
    table = [*EVALUATE, "--data", "table", "--data-path", "{}/data.csv"]
    link = lambda place: (place / "link.csv").symlink_to(place / "data.csv")  # noqa: E731
    hard = lambda place: os.link(place / "data.csv", place / "hard.csv")  # noqa: E731
    yield Case("--out is the input", [*table, "--out", "{}/data.csv"], says=says)
    yield Case("--out is a link to the input", [*table, "--out", "{}/link.csv"], link, says)
    yield Case("--out is the input by another name", [*table, "--out", "{}/hard.csv"], hard, says)
    yield Case("--out is a user's table", out("{}/data.csv"), says=says)
    yield Case("--out beside a user's notes.json", out("{}/notes.csv"), right=True)
    yield Case(
        "--out beside a user's provenance",
        out("{}/t.csv"),
        at(Path(), write("t.csv.provenance.json", "{}")),
        says,
        kept=("t.csv.provenance.json",),
    )
    for name in (
        "x.json",
        "result",
        "/dev/full",
        "/dev/null",
        "{}",
        "{}/",
        "",
        "x" * 300 + ".csv",
        "a\0b.csv",
        ".csv",
        "{}/runs/tiny/seed0/empathy/log.csv",
        "{}/data.csv/t.csv",
        "~/x.txt",
    ):
        yield Case(f"--out {name[:40]!r}", out(name), says=says)
    yield Case("--out is a folder x.csv", out("{}/x.csv"), lambda place: (place / "x.csv").mkdir(), says)
    yield Case("--out is a pipe", out("{}/x.csv"), lambda place: os.mkfifo(place / "x.csv"), says)
    yield Case("--out is a link to /dev/full", out("{}/x.csv"), lambda place: (place / "x.csv").symlink_to("/dev/full"), says)
    yield Case("--out is a link to itself", out("{}/x.csv"), loop("x.csv"), says)
    yield Case("--out is a link to nothing", out("{}/x.csv"), lambda place: (place / "x.csv").symlink_to(place / "none.csv"), says)
    yield Case("--out through a link to itself", out("{}/l/x.csv"), loop("l"), says)
    yield Case(
        "--out where another user cannot write",
        out("{}/locked/x.csv"),
        lambda place: (place / "locked").mkdir(mode=0o555),
        says,
        nobody=True,
    )
    yield Case("--out in a new folder", out("{}/new/t.csv"), right=True)
    yield Case("--out on a full disk", out("{}/t.csv"), says=("t.csv",), limits={resource.RLIMIT_FSIZE: 200}, clean=False)
    yield Case("--runs is a file", [*words("train", TRAIN), "--runs", "{}/data.csv"], says=("--runs",))
    yield Case("--runs is under a file", [*words("train", TRAIN), "--runs", "{}/data.csv/x"], says=("--runs",))
    yield Case("--runs holds NUL", [*words("train", TRAIN), "--runs", "a\0b"], says=("--runs",))
    yield Case("--runs is too long", [*words("train", TRAIN), "--runs", "x" * 300], says=("--runs",))
    yield Case(
        "--runs is a link to itself",
        [*words("train", TRAIN), "--runs", "{}/l"],
        loop("l"),
        ("--runs",),
    )
    yield Case("EMORL_RUNS is a file", words("train", TRAIN), env={"EMORL_RUNS": "{}/data.csv"}, says=("data.csv",))
    yield Case("study --out is a file", ["study", "--quiet", "--seeds", "1", "--out", "{}/data.csv"], says=says)
    yield Case(
        "study --out holds a user's methods.csv",
        ["study", "--quiet", "--seeds", "1", "--out", "{}/t"],
        at(Path(), lambda place: (place / "t").mkdir(), write("t/methods.csv", "mine\n")),
        says,
        kept=("t/methods.csv",),
    )
    for command in (words("train", TRAIN), [*words("search", SEARCH), "--search.method", "exact"]):
        read_only = lambda place: _chmod(place / "runs", 0o555, 0o444)  # noqa: E731
        yield Case(f"{command[0]}: read-only runs, another user", command, read_only, ("runs",), nobody=True)
    yield Case(
        "data fetch: a cache that is read-only, another user",
        ["data", "fetch", "pair"],
        env={"EMORL_CACHE": "{}/runs"},
        prepare=lambda place: (place / "runs").chmod(0o555),
        nobody=True,
    )
    yield Case("evaluate with little memory", EVALUATE, limits={resource.RLIMIT_AS: 2 << 20}, says=("memory",), clean=False)
    yield Case("train with few open files", words("train", TRAIN), limits={resource.RLIMIT_NOFILE: 5}, clean=False)


def _chmod(folder: Path, folders: int, files: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


# -- cases: models


FINE_MODELS = ("generation configuration cut", "no tokenizer configuration", "no end token")
"""What another file of the model's says too, or nothing asks for."""


def model_cases() -> Iterator[Case]:
    """Folders with models that are damaged, or are another's."""
    weights, config, tokenizer = "model.safetensors", "config.json", "tokenizer_config.json"
    changes: dict[str, Callable[[Path], object]] = {
        "weights cut": cut(weights), "weights empty": cut(weights, 0),
        "weights an LFS pointer": write(weights, "version https://git-lfs\n"), "weights lack tensors": tensors(weights, half),
        "weights NaN": tensors(weights, filled(float("nan"))),
        "no weights": lambda folder: (folder / weights).unlink(),
        "no configuration": lambda folder: (folder / config).unlink(), "configuration cut": cut(config),
        "configuration empty": cut(config, 0), "configuration a list": write(config, "[]"),
        "unknown type": edit_json(config, model_type="mystery"),
        "remote code": edit_json(config, model_type="mystery", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}),
        "more layers than weights": edit_json(config, num_hidden_layers=9), "a larger vocabulary": edit_json(config, vocab_size=9999),
        "no layers": edit_json(config, num_hidden_layers=0), "negative width": edit_json(config, hidden_size=-1),
        "tokenizer cut": cut("tokenizer.json"), "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
        "tokenizer configuration cut": cut(tokenizer), "no tokenizer configuration": lambda folder: (folder / tokenizer).unlink(),
        "no end token": edit_json(tokenizer, eos_token=None),
        "generation configuration cut": cut("generation_config.json"), "fewer words than its tokenizer": fewer_words,
    }  # fmt: skip
    for name, change in changes.items():
        command = words("train", TRAIN | {"--model.path": "{}/lm", "--objectives": "brevity"})
        yield Case(f"model: {name}", command, with_model(change), ("brevity" if name == "no layers" else "lm",), either=name in FINE_MODELS)


# -- cases: the map of every weight

ADAPTERS = ["--adapters", "{}/runs/tiny/seed0/empathy", "{}/runs/tiny/seed0/fluency"]
MAP = ["map", "--quiet", "--max-new-tokens", "4", "--out", "{}/out", "--rewards", "brevity"]
SAD = ["--prompt", "I feel sad."]
FUNCTIONS = """
def fails(prompts, replies): return [1 / 0 for _ in replies]
def few(prompts, replies): return [1.0]
def nan(prompts, replies): return [float("nan")] * len(replies)
def words(prompts, replies): return ["good"] * len(replies)
def nothing(prompts, replies): pass
def later(prompts, replies): yield 1.0
def leaves(prompts, replies): raise SystemExit(0)
def one(replies): return [1.0] * len(replies)
number = 3
"""


MAP_PROMPTS = {
    "missing": ("{}/no.txt", "no.txt"), "a folder": ("{}/runs", "runs"), "a device": ("/dev/zero", "/dev/zero"),
    "NUL": ("a\0b.txt", "--prompts"), "a link to itself": ("{}/loop.txt", "loop.txt"), "no name": ("", "--prompts"),
}  # fmt: skip
MAP_REWARDS = (
    "kindness", "f.py:none", "f.py:number", "f.py:one", "f.py:fails", "f.py:few", "f.py:nan", "f.py:words", "f.py:nothing", "f.py:later",
    "f.py:leaves", "no.py:f", "no_module:f", ":", "../f:f", "os:system", "share=brevity", "a,b=brevity", "",
)  # fmt: skip
MAP_ADAPTERS = (
    ["{}/runs"], ["{}/data.csv", ADAPTERS[1]], [ADAPTERS[1], ADAPTERS[1]], ["no/such", ADAPTERS[1]], ["kind", "rude"],
    ["x=" + ADAPTERS[1], "x=" + ADAPTERS[2]], ["../..", ADAPTERS[1]], ["a\0b", ADAPTERS[1]], ["lm_head=" + ADAPTERS[1], ADAPTERS[2]],
    ["loop", ADAPTERS[1]], ["x" * 5000, ADAPTERS[1]],
)  # fmt: skip
MAP_TYPED = (
    "--kind line", "--kind guidance", "--kind contrast", "--kind guidance --instruction x", "--kind line --range 1 0",
    "--kind line --range nan 1", "--kind line --range 1", "--range 0 1", "--instruction {prompt}", "--models tiny_lm",
    "--models tiny_lm x=no/such/model", "--models tiny_lm x=data", "--utility brevity", "--utility kindness=1", "--utility brevity=nan",
    "--utility brevity=0", "--utility brevity=1 brevity=2", "--format xls", "--prompt-column=",
)  # fmt: skip


def map_cases() -> Iterator[Case]:
    """Prompts, adapters, rewards and options of the command `map`."""
    for option, more in (("--samples", []), ("--temperature", ["--samples", "1"]), ("--memory", []), ("--seed", [])):
        for value in NUMBERS:
            odd = value in ("1_0", "٣", "1.5", "0")
            typed = [*MAP, *ADAPTERS, *SAD, *more, option, value]
            yield Case(f"map {option} {value!r}", typed, says=() if odd else (option,), either=odd)
    for name, (file, data, says) in FILES.items():
        fine = name == "two prompts"
        typed = [*MAP, *ADAPTERS, "--prompts", "{}/" + file]
        yield Case(f"map of a file: {name}", typed, write(file, data), () if fine else says, right=fine)
    for name, (path, word) in MAP_PROMPTS.items():
        yield Case(f"map, path of prompts: {name}", [*MAP, *ADAPTERS, "--prompts", path], loop("loop.txt"), (word,))
    for prompt in ("", " ", "\n", "\ud800", "word " * 400):
        yield Case(f"map --prompt {prompt[:9]!a}", [*MAP, *ADAPTERS, "--prompt", prompt], says=("--prompt",))
    for spec in MAP_REWARDS:
        typed = [*MAP[:-1], "{}/" + spec if spec.startswith("f.py") else spec, *ADAPTERS, *SAD]
        says = (spec.rpartition(":")[2].partition("=")[0] or "--rewards",)
        yield Case(f"map --rewards {spec!r}", typed, write("f.py", FUNCTIONS), says)
    for folders in MAP_ADAPTERS:
        shown = " ".join(word[:20] for word in folders)
        yield Case(f"map --adapters {shown!a}", [*MAP, "--adapters", *folders, *SAD], loop("loop"), ("adapter",))
    for words_of in MAP_TYPED:
        yield Case(f"map {words_of}", [*MAP, *SAD, *words_of.split()], says=("model",) if "--models" in words_of else ("--",))
    yield from map_places()
    yield Case("map", [*MAP, *ADAPTERS, *SAD], right=True)
    yield Case("map of the preset's run", [*MAP, *SAD], right=True)


def map_places() -> Iterator[Case]:
    """Folders for a map's results, and who has written there."""
    strangers = {"page": "map.html", "table": "regions.csv", "other table": "front.parquet", "record": "regions.csv.provenance.json"}
    for what, name in strangers.items():
        prepare = at(Path("out"), Path.mkdir, write(name, "mine"))
        yield Case(f"map --out with a stranger's {what}", [*MAP, "--overwrite", *ADAPTERS, *SAD], prepare, (name,), kept=(f"out/{name}",))
    places: dict[str, tuple[str, Callable[[Place], object]]] = {
        "a file": ("{}/data.csv", lambda place: None),
        "below a file": ("{}/data.csv/x", lambda place: None),
        "with a folder of its name": ("{}/out", at(Path("out/map.html"), lambda folder: folder.mkdir(parents=True))),
        "a link to itself": ("{}/loop", loop("loop")),
        "too long": ("{}/" + "x" * 300, lambda place: None),
        "no name": ("", lambda place: None),
        "NUL": ("a\0b", lambda place: None),
    }
    for what, (place, prepare_place) in places.items():
        typed = [*MAP[:4], "--out", place, *MAP[6:], "--overwrite", *ADAPTERS, *SAD]
        yield Case(f"map --out {what}", typed, prepare_place, ("--out",))


# -- cases: from Python


def experiment() -> Any:
    """The reference run, loaded once before the cases are forked."""
    from emorl_lite.experiment.experiment import Experiment

    if not hasattr(experiment, "made"):
        made = Experiment(get_preset("tiny"), source="reference", progress=False, root=Path(tempfile.mkdtemp()))
        made.load_adapters()
        _ = made.rewards
        experiment.made, experiment.map = made, made.exact_map(made.validation()[:1])  # type: ignore[attr-defined]
    return experiment.made  # type: ignore[attr-defined]


def api_cases() -> Iterator[Case]:
    """Calls that a notebook might make."""
    from emorl_lite import Study, find_weights, full_grid, hierarchical_grid_search, load_dataset, scored_map
    from emorl_lite.base.weights import check_weights
    from emorl_lite.plots.map_explorer import explore, map_explorer
    from emorl_lite.plots.map_page import map_page
    from emorl_lite.search.pareto import hypervolume
    from emorl_lite.training.ppo import PPOTrainer
    from emorl_lite.tutorial import committed, open_run

    made = experiment()
    found, lm, three = experiment.map, made.lm, ["a", "b", "c"]  # type: ignore[attr-defined]
    prompts = made.validation()[:2]
    flat: Callable[[Any], dict[str, float]] = lambda w: {"a": 0.5, "b": 0.5, "c": 0.5}  # noqa: E731
    short = PPOConfig(episodes=4, batch_size=4, minibatch_size=4, epochs=1)
    reward = lambda prompts, replies: torch.ones(len(replies))  # noqa: E731

    def trainer(**changes: Any) -> object:
        return PPOTrainer(
            **{"lm": lm, "adapter": "new", "reward": reward, "prompts": prompts, "config": short, "progress": False} | changes
        ).train()

    calls: dict[str, Callable[[], object]] = {
        "check_weights(None)": lambda: check_weights(None, 3),  # type: ignore[arg-type]
        "check_weights(texts)": lambda: check_weights(["0.5"] * 3, 3),  # type: ignore[list-item]
        "check_weights(booleans)": lambda: check_weights([True] * 3, 3),
        "ensemble weights None entries": lambda: made.ensemble([None] * 3),
        "ensemble weights texts": lambda: made.ensemble(["1", "1", "1"]),
        "ensemble weights empty": lambda: made.ensemble([]),
        "ensemble mix": lambda: made.ensemble([1, 1, 1], mix="words"),
        "explore sample 7": lambda: explore(found, 0, [1, 1, 1], 7),
        "explore prompt 9": lambda: explore(found, 9, [1, 1, 1]),
        "explore prompt 0.5": lambda: explore(found, 0.5, [1, 1, 1]),  # type: ignore[arg-type]
        "explore prompt None": lambda: explore(found, None, [1, 1, 1]),  # type: ignore[arg-type]
        "locate texts": lambda: found.map.locate(["a", "b", "c"]),
        "locate None": lambda: found.map.locate(None),
        "map_explorer prompt 9": lambda: map_explorer(found, 9),
        "map_explorer weights NaN": lambda: map_explorer(found, 0, [float("nan")] * 3),
        "map_page prompts [5]": lambda: map_page(found, [5]),
        "map_page prompts text": lambda: map_page(found, "0"),  # type: ignore[arg-type]
        "committed above its folder": lambda: committed("../../../../../etc/passwd"),
        "committed an absolute path": lambda: committed("/etc/passwd"),
        "committed no name": lambda: committed(""),
        "committed of no preset": lambda: committed("x.csv", "../.."),
        "open_run of no run": lambda: open_run("tiny", "no/such/run"),
        "open_run seed -1": lambda: open_run("tiny", "reference", -1),
        "open_run seed 99": lambda: open_run("tiny", "reference", 99).load_adapters(),
        "scored_map too few scores": lambda: scored_map(found.map, lambda prompts, replies: {"a": torch.ones(1)}),
        "scored_map no mapping": lambda: scored_map(found.map, lambda prompts, replies: torch.ones(len(replies))),  # type: ignore[arg-type, return-value]
        "scored_map unknown objective": lambda: scored_map(found.map, made.rewards.scores, ["kindness"]),
        "full_grid 10**4 per axis": lambda: full_grid(flat, three, 10**4, progress=False),
        "full_grid 10**6 on the simplex": lambda: full_grid(flat, three, 10**6, progress=False, space="simplex"),
        "full_grid 2.5": lambda: full_grid(flat, three, 2.5, progress=False),  # type: ignore[arg-type]
        "search levels 2.5": lambda: hierarchical_grid_search(flat, three, SearchConfig(levels=2.5), progress=False),  # type: ignore[arg-type]
        "search levels 10**6": lambda: hierarchical_grid_search(flat, three, SearchConfig(levels=10**6), progress=False),
        "search of 20 objectives": lambda: hierarchical_grid_search(flat, [f"o{i}" for i in range(20)], progress=False),
        "search names with a comma": lambda: hierarchical_grid_search(flat, ["a,", "b\n"], progress=False),
        "search names not texts": lambda: hierarchical_grid_search(flat, [1, 2], progress=False),  # type: ignore[list-item]
        "search names one text": lambda: hierarchical_grid_search(flat, "abc", progress=False),
        "search scores of two": lambda: hierarchical_grid_search(lambda w: {"a": torch.ones(2), "b": 1, "c": 1}, three, progress=False),  # type: ignore[dict-item]
        "search scores texts": lambda: hierarchical_grid_search(lambda w: {"a": "x", "b": 1, "c": 1}, three, progress=False),  # type: ignore[dict-item]
        "search scores NaN": lambda: hierarchical_grid_search(lambda w: {"a": float("nan"), "b": 1, "c": 1}, three, progress=False),
        "search scores None": lambda: hierarchical_grid_search(lambda w: None, three, progress=False),  # type: ignore[arg-type, return-value]
        "find_weights unknown": lambda: find_weights("magic", flat, three, progress=False),
        "find_weights -1": lambda: find_weights("random", flat, three, -1, progress=False),
        "find_weights 2.5": lambda: find_weights("random", flat, three, 2.5, progress=False),  # type: ignore[arg-type]
        "find_weights 10**12": lambda: find_weights("random", flat, three, 10**12, progress=False),
        "find_weights bayesian 10**5": lambda: find_weights("bayesian", flat, three, 10**5, progress=False),
        "find_weights bayesian seed -1": lambda: find_weights("bayesian", flat, three, 12, -1, progress=False),
        "find_weights random seed text": lambda: find_weights("random", flat, three, 12, "x", progress=False),  # type: ignore[arg-type]
        "reply([3])": lambda: lm.reply([3]),
        "reply([None])": lambda: lm.reply([None]),
        "reply(text)": lambda: lm.reply("hello"),
        "reply(batch_size=0)": lambda: lm.reply(prompts, batch_size=0),
        "reply(batch_size=1.5)": lambda: lm.reply(prompts, batch_size=1.5),
        "tree of a text": lambda: made.tree("hello"),
        "tree of numbers": lambda: made.tree([1, 2]),
        "tree of nothing": lambda: made.tree([]),
        "exact_map of a text": lambda: made.exact_map("hello"),
        "search over a text": lambda: made.search("hello"),
        "policy_replies unknown": lambda: made.policy_replies("kind", prompts),
        "PPO prompts a text": lambda: trainer(prompts="hello"),
        "PPO prompts None": lambda: trainer(prompts=[None, "a"]),
        "PPO no prompts": lambda: trainer(prompts=[]),
        "PPO options None": lambda: trainer(config=get_preset("tiny")),
        "PPO reward of one": lambda: trainer(reward=lambda prompts, replies: torch.ones(1)),
        "PPO reward NaN": lambda: trainer(reward=lambda prompts, replies: [float("nan")] * len(replies)),
        "PPO reward None": lambda: trainer(reward=lambda prompts, replies: None),
        "PPO adapter name": lambda: trainer(adapter="a.b"),
        "PPO adapter not a text": lambda: trainer(adapter=3),
        "PPO seed -1": lambda: trainer(seed=-1),
        "PPO seed 1.5": lambda: trainer(seed=1.5),
        "PPOConfig(lr=NaN)": lambda: PPOConfig(lr=float("nan")),
        "PPOConfig(lr=text)": lambda: PPOConfig(lr="1e-4"),  # type: ignore[arg-type]
        "PPOConfig(episodes=2.5)": lambda: PPOConfig(episodes=2.5),  # type: ignore[arg-type]
        "PPOConfig(episodes=None)": lambda: PPOConfig(episodes=None),  # type: ignore[arg-type]
        "PPOConfig(estimator=x)": lambda: PPOConfig(estimator="x"),  # type: ignore[arg-type]
        "PPOConfig(anneal_lr=text)": lambda: PPOConfig(anneal_lr="no"),  # type: ignore[arg-type]
        "Preset(objectives=text)": lambda: Preset(objectives="fluency"),  # type: ignore[arg-type]
        "Preset(objectives twice)": lambda: Preset(objectives=("a", "a")),
        "Preset(lr of NaN)": lambda: Preset(lr={"a": float("nan")}),
        "Preset(ppo=None)": lambda: Preset(ppo=None),  # type: ignore[arg-type]
        "Preset(name=../x)": lambda: Preset(name="../x"),
        "get_preset(3)": lambda: get_preset(3),  # type: ignore[arg-type]
        "Experiment of a name": lambda: type(made)("tiny"),
        "Experiment seed 2.5": lambda: type(made)(get_preset("tiny"), 2.5),
        "Experiment train unknown": lambda: made.train("kindness"),
        "Experiment evaluate of texts": lambda: made.evaluate(["a", "b", "c"]),
        "Study seeds 0": lambda: Study(get_preset("tiny"), 0),
        "Study seeds 1.5": lambda: Study(get_preset("tiny"), 1.5),  # type: ignore[arg-type]
        "Study methods text": lambda: Study(get_preset("tiny"), 1, "uniform"),
        "load_dataset of a path": lambda: load_dataset("data.csv"),  # type: ignore[arg-type]
        "load_dataset seed text": lambda: load_dataset(DataConfig(), "x"),  # type: ignore[arg-type]
        "hypervolume of texts": lambda: hypervolume([["a"]], [0]),  # type: ignore[list-item]
    }  # fmt: skip
    for name, call in calls.items():
        yield Case(name, lambda place, call=call: call(), clean=False)  # type: ignore[misc]
    yield Case(
        "NumPy's numbers in options",
        lambda place: PPOConfig(lr=np.float32(0.1), episodes=np.int64(8)),  # type: ignore[arg-type]
        right=True,
    )


RIGHT_CALLS = ("evaluate None", "remove_adapter unknown")
"""What says the same as leaving it out, and what is no longer there."""


def method_cases() -> Iterator[Case]:
    """The same of what ensembles, trees, maps and methods take."""
    from emorl_lite import EnsembleLM, RewardSet, average_parameters, best_weights, exact_map, grammar, make_method, overlay
    from emorl_lite.search.statistics import confirm, interval

    made, nan = experiment(), float("nan")
    found, lm, names = experiment.map, made.lm, list(made.preset.objectives)  # type: ignore[attr-defined]
    prompts = made.validation()[:2]
    one = RewardSet({"a": lambda prompts, replies: torch.ones(len(replies))})
    calls: dict[str, Callable[[], object]] = {
        **{f"tree {option} {value}": lambda o=option, v=value: made.tree(prompts, **{o: v}) for option, values in {  # type: ignore[misc]
            "samples": (-1, 1.5, "2", 10**9), "temperature": (0, -1, nan, float("inf"), "hot"), "seed": (-1, 1.5, "x"),
            "max_new_tokens": (0, -1, 10**9, 1.5, nan), "max_rows": (0, -1, 1.5), "memory": (-1, 0, nan), "mix": ("words", None),
        }.items() for value in values},
        **{f"reply {option} {value}": lambda o=option, v=value: lm.reply(prompts, **{o: v}) for option, values in {  # type: ignore[misc]
            "max_new_tokens": (0, -1, 1.5, 10**9), "batch_size": (-1, None), "no_such_option": (1,),
        }.items() for value in values},
        "reply sampled at NaN": lambda: lm.reply(prompts, do_sample=True, temperature=nan),
        "reply sampled at -1": lambda: lm.reply(prompts, do_sample=True, temperature=-1.0),
        "average of None": lambda: average_parameters(lm, names, None),  # type: ignore[arg-type]
        "average of two weights": lambda: average_parameters(lm, names, [1, 1]),
        "average of no adapters": lambda: average_parameters(lm, [], []),
        "average of an unknown one": lambda: average_parameters(lm, ["kind"], [1]),
        "average in no way": lambda: average_parameters(lm, names, [1, 1, 1], how="magic"),  # type: ignore[arg-type]
        "average under a bad name": lambda: average_parameters(lm, names, [1, 1, 1], name="a.b"),
        "ensemble of one name": lambda: EnsembleLM(lm, "fluency", [1, 1, 1]),
        "ensemble of unknown ones": lambda: EnsembleLM(lm, ["kind", "rude"], [1, 1]),
        "ensemble of none": lambda: EnsembleLM(lm, [], []),
        "ensemble of one twice": lambda: EnsembleLM(lm, ["fluency", "fluency"], [1, 1]),
        "exact_map of no tree": lambda: exact_map(prompts),  # type: ignore[arg-type]
        "best_weights of a text utility": lambda: best_weights(found, {"fluency": "x"}),  # type: ignore[dict-item]
        "best_weights of a NaN utility": lambda: best_weights(found, {"fluency": nan}),
        "best_weights of another utility": lambda: best_weights(found, {"kindness": 1.0}),
        "best_weights branches -1": lambda: best_weights(found, branches=-1),
        "best_weights start text": lambda: best_weights(found, start="x"),
        "overlay of row 9": lambda: overlay(found, [9]),
        "overlay of row -1": lambda: overlay(found, [-1]),
        "overlay of no row": lambda: overlay(found, []),
        "overlay of a text": lambda: overlay(found, "0"),  # type: ignore[arg-type]
        "regions of row 9": lambda: found.regions(9),
        "means at texts": lambda: found.means(["a", "b", "c"]),
        "method unknown": lambda: make_method("magic", made.bench()),
        "method not a text": lambda: made.method(3),
        "rewards of unequal lists": lambda: one.scores(["a"], ["b", "c"]),
        "rewards of texts": lambda: one.scores("a", "b"),
        "rewards unknown": lambda: one["b"],
        "grammar of -1 pairs": lambda: grammar().pairs(-1, "train"),
        "grammar of 1.5 pairs": lambda: grammar().pairs(1.5, "train"),  # type: ignore[arg-type]
        "grammar of another split": lambda: grammar().pairs(4, "dev"),
        "grammar per client 0": lambda: grammar().pairs(4, "train", per_client=0),
        "confirm of nothing shared": lambda: confirm({"a": 0.5}, {"b": torch.ones(3)}),
        "confirm of one score": lambda: confirm({"a": 0.5}, {"a": torch.ones(1)}),
        "interval of texts": lambda: interval(["a", "b"]),  # type: ignore[arg-type]
        "bench folder 3": lambda: made.bench(3),
        "train_all workers -1": lambda: made.train_all(-1),
        "warm start of -1 steps": lambda: made.warm_start(-1),
        "warm start of 1.5 steps": lambda: made.warm_start(1.5),
        "evaluate None": lambda: made.evaluate(None),
        "summary of two weights": lambda: made.summary([1, 1]),
        "use of an unknown adapter": lambda: lm.use("kind"),
        "add_adapter of rank 0": lambda: lm.add_adapter("new", rank=0),
        "add_adapter of a bad name": lambda: lm.add_adapter("a.b"),
        "add_adapter again": lambda: lm.add_adapter("fluency"),
        "load_adapter of no folder": lambda: lm.load_adapter("no/such", "new"),
        "remove_adapter unknown": lambda: lm.remove_adapter(3),
    }  # fmt: skip
    for name, call in calls.items():
        yield Case(name, lambda place, call=call: call(), clean=False, right=name in RIGHT_CALLS)  # type: ignore[misc]


# -- running them


@dataclass
class Ended:
    """How a case ended."""

    case: Case
    how: str
    said: str
    seconds: float


def run_case(case: Case, seconds: float = LIMIT) -> Ended:
    """Run one case in a process of its own, in a fresh folder."""
    with tempfile.TemporaryDirectory(prefix="bad-") as scratch:
        Path(scratch).chmod(0o755)
        place = Path(scratch) / "here"
        place.mkdir()
        if not callable(case.run):
            furnish(place)
        case.prepare(place)
        if case.nobody and os.geteuid() == 0:
            place.chmod(0o755)
        before, lost = _contents(place), {name: digest((place / name).read_bytes()) for name in case.kept if (place / name).is_file()}
        started = time.perf_counter()
        status = _in_child(case, place, Path(scratch), seconds)
        took = time.perf_counter() - started
        said = (Path(scratch) / "err").read_text(errors="replace")
        how = _judge(case, status, said)
        if any(not (place / name).is_file() or digest((place / name).read_bytes()) != value for name, value in lost.items()):
            how = "file lost"
        elif how == "one line" and case.clean and _contents(place) != before:
            how, said = "written", f"{said.strip()} [{', '.join(sorted(_contents(place) - before)[:3])}]"
        return Ended(case, how, said.strip(), took)


def _contents(place: Path) -> set[str]:
    """What lies under a folder."""
    return {f"{path.relative_to(place)}" for path in place.rglob("*") if stat.S_ISREG(path.lstat().st_mode) or path.is_symlink()}


def _in_child(case: Case, place: Path, scratch: Path, seconds: float) -> int | None:
    """Its exit status; None if it hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _become(case, place, scratch)
            if callable(case.run):
                case.run(place)
                status = 0
            else:
                status = main([word.replace("{}", str(place), 1) if word.startswith("{}") else word for word in case.run])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException:  # whatever it is, it is to be counted
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _become(case: Case, place: Path, scratch: Path) -> None:
    """Give a child its folder, its streams, its limits and its user."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.chdir(scratch)
    os.environ |= {"EMORL_RUNS": str(place / "runs"), "HF_HUB_OFFLINE": "1", "TMPDIR": str(scratch)}
    os.environ |= {name: value.replace("{}", str(place)) for name, value in case.env.items()}
    if case.nobody and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for limit, value in case.limits.items():
        if limit == resource.RLIMIT_AS:
            value += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if limit == resource.RLIMIT_FSIZE:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(limit, (value, value))


def _judge(case: Case, status: int | None, said: str) -> str:
    """How a case ended, in one word or two."""
    lines = [line for line in said.splitlines() if line.strip()]
    if status is None:
        return "hangs"
    if "Traceback (most recent call last)" in said or status < 0:
        return "traceback"
    if status == 0:
        return "rightly accepted" if case.right or case.either else "accepted"
    if status != 2:
        return "unforeseen" if status == 1 else "status"
    if len(lines) != 1:
        return "several lines"
    missing = [word for word in case.says if word not in lines[0]]
    return "wrong line" if missing or case.right else "one line"


KINDS: dict[str, Callable[[], Iterator[Case]]] = {
    "numbers": number_cases,
    "options": lambda: itertools.chain(text_cases(), list_cases(), together_cases()),
    "files": file_cases,
    "saved": saved_cases,
    "places": place_cases,
    "models": model_cases,
    "map": map_cases,
    "python": lambda: itertools.chain(api_cases(), method_cases()),
}


def try_all() -> None:
    """Try them, and print how each ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kind", choices=KINDS, help="cases of one kind alone")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started_at = time.perf_counter()
    experiment()
    count: Counter[str] = Counter()
    of_kinds = [list(cases())[:: 7 if asked.quick else 1] for kind, cases in KINDS.items() if asked.kind in (None, kind)]
    asked_for = [case for cases in of_kinds for case in cases if asked.only in case.name]
    for one in asked_for:
        ended = run_case(one)
        count[ended.how] += 1
        if ended.how in BAD or asked.show:
            last = ended.said.splitlines()[-1][:300] if ended.said else ""
            print(f"{ended.how:<16} {ended.seconds:5.1f} s  {one.name:<60.60}  {last}", flush=True)
    total = {
        "cases": sum(count.values()),
        **count,
        "bad": sum(count[how] for how in BAD),
        "seconds": round(time.perf_counter() - started_at, 1),
    }
    print("\n".join(f"{how:<16} {number}" for how, number in count.most_common()))
    print(json.dumps(total))


if __name__ == "__main__":
    run_script(try_all)
