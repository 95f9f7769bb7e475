"""What a command asks to be mixed, loaded: adapters of one base, whole models, a line, an instruction, two models against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.files import file_digest, read_json
from emorl_lite.base.paths import resolve
from emorl_lite.base.presets import ModelConfig, Preset, get_preset
from emorl_lite.base.ranges import shown
from emorl_lite.base.workspace import Workspace
from emorl_lite.ensemble.corners import PROMPT, Corners, Source, adapter_corners, contrast, guidance, line, simplex_corners
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.adapter_files import CONFIG, PROBE, WEIGHTS, read_adapter
from emorl_lite.lm.model import LanguageModel
from emorl_lite.mapping.options import RANGES, Map, split_name


@dataclass
class Mixture:
    """What is mixed, and what tells it from another."""

    corners: Corners
    facts: dict[str, Any]
    """Checksums of adapters, names of models."""
    workspace: Workspace
    """Whose classifiers score."""
    base: LanguageModel | None = None
    """The model whose replies are scored, where that is not the preset's own."""

    @property
    def lms(self) -> list[LanguageModel]:
        """The models that are mixed, or whose adapters are."""
        return list({id(source.lm): source.lm for source in self.corners.sources}.values())


def find_mixture(command: Map, preset: Preset) -> Mixture:
    """Load what a command mixes. Raises UserError, naming the option and the folder, for whatever cannot be loaded or mixed."""
    if command.max_new_tokens:  # what a reply may take leaves the rest of the window to the prompt
        command = replace(command, model=replace(command.model, max_new_tokens=command.max_new_tokens))
    if command.models:
        return _of_models(command, preset)
    if not command.adapters and command.kind == "adapters":
        return _of_run(command, preset, preset.objectives)
    if command.adapters and all(_is_objective(text, preset) for text in command.adapters):
        return _of_run(command, preset, command.adapters)
    return _of_folders(command, preset)


def _is_objective(text: str, preset: Preset) -> bool:
    return text in preset.objectives and not _is_folder(text)


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):  # too long a name, a NUL: told where it is looked for
        return False


# -- the preset's run


def _of_run(command: Map, preset: Preset, names: Sequence[str]) -> Mixture:
    """Adapters of the preset's run: what was trained here if it is complete, else the reference. Nothing is trained."""
    if command.model.path != preset.model.path:
        raise UserError(
            f"--model.path {command.model.path}: is not the base of the preset {preset.name}'s adapters; name others by --adapters"
        )
    wanted = replace(preset, objectives=tuple(names), model=replace(command.model, max_new_tokens=preset.model.max_new_tokens))
    root = Path(command.runs) if command.runs else None
    run = Experiment(wanted, command.seed, root, progress=False, source="mine")
    if len(run.trained()) < len(names):
        try:
            run = Experiment(wanted, command.seed, root, progress=False, source="reference")
        except UserError as error:
            raise UserError(_missing(preset, command.seed)) from error
    if len(run.trained()) < len(names):
        raise UserError(_missing(preset, command.seed))
    run.load_adapters()
    folders = {name: run.run_folder(name) for name in names}
    return Mixture(_corners(command, run.lm, list(names)), _facts(run.lm, folders), _judging(command, preset))


def _missing(preset: Preset, seed: int) -> str:
    return (
        f"--adapters: there is no finished run of the preset {preset.name}, seed {seed}; name folders, "
        f"or train one: python -m emorl_lite train --preset {preset.name} --seed {seed}"
    )


def _judging(command: Map, preset: Preset) -> Workspace:
    """Where the preset's classifiers lie, whatever was changed for this map."""
    return Workspace(get_preset(preset.name), Path(command.runs) if command.runs else None, "any")


# -- adapters in folders


def _of_folders(command: Map, preset: Preset) -> Mixture:
    """Adapters in folders or of the hub, on the base that they name; without any, the base alone."""
    folders = _named(command.adapters, "--adapters", adapter_folder)
    for name, folder in folders.items():  # before a model is loaded
        if not folder.is_dir():
            what = "is a file" if folder.exists() else f"no such folder, and no objective of the preset {preset.name}"
            raise UserError(f"--adapters {shown(str(folder))}: {what}; expected a folder with {CONFIG} and {WEIGHTS}")
        read_adapter(folder, f"--adapters: {shown(name)} in {folder}")
    config, own = base_config(command, preset, list(folders.values()))
    lm = load_model(config, not own and config.template == preset.model.template)
    for name, folder in folders.items():
        try:
            lm.load_adapter(folder, name)
        except UserError as error:
            other = any(words in str(error) for words in ("another base", "does not fit"))
            raise UserError(f"--adapters: {error}{'; name its base with --preset or --model.path' if other else ''}") from error
    return Mixture(_corners(command, lm, list(folders)), _facts(lm, folders), _judging(command, preset), None if own else lm)


def adapter_folder(text: str) -> Path:
    """The local folder of an adapter: as it is named, or fetched from the hub, its matrices and configuration alone.

    Raises UserError if there is none.
    """
    if "\0" in text:
        raise UserError(f"--adapters {shown(text)}: holds a NUL character")
    path = Path(text)
    try:
        if path.exists() or not _is_hub_id(text):
            return path
    except OSError as error:
        raise UserError(f"--adapters {shown(text)}: {error.strerror}") from error
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=[CONFIG, WEIGHTS, PROBE]))
    except Exception as error:
        why = one_line(str(error).partition("\n")[0], 160)
        raise UserError(
            f"--adapters {shown(text)}: no such folder here, and the hub did not give it: check name and network ({why})"
        ) from error


def _is_hub_id(text: str) -> bool:
    owner, sign, name = text.partition("/")
    return bool(sign and owner and name) and not set(text) & set("\\: ~") and "/" not in name and not text.startswith(".")


def base_config(command: Map, preset: Preset, folders: Sequence[Path]) -> tuple[ModelConfig, bool]:
    """(the base of these adapters, whether it is the preset's own): what --model.path names, or they name themselves.

    Raises UserError for adapters that name several.
    """
    config, path = command.model, command.model.path
    if path == preset.model.path:
        named = {base: folder for folder in reversed(folders) if (base := _base_named(folder))}
        bases = {Path(base).name.casefold(): base for base in named}
        if len(bases) > 1:
            one, other = list(bases.values())[:2]
            both = f"{named[one]} is made for {one}, {named[other]} for {other}"
            raise UserError(f"--adapters: {both}: only adapters of one base are mixed; --model.path says which")
        if bases and Path(path).name.casefold() not in bases:
            [path] = bases.values()
    own = resolve(path) == resolve(preset.model.path)
    config = replace(config, path=path)
    if own and not config.warm_start and (warm := _warm_start(command, preset, folders)):
        config = replace(config, warm_start=warm)
    return config, own


def _base_named(folder: Path) -> str:
    """The base that an adapter's configuration names; empty if none, or if that cannot be read, which loading it will tell."""
    try:
        base = read_json(folder / CONFIG, "the configuration of an adapter").get("base_model_name_or_path")
    except UserError:
        return ""
    return base if isinstance(base, str) else ""


def _warm_start(command: Map, preset: Preset, folders: Sequence[Path]) -> str:
    """The preset's warm start, if the adapters were trained on top of it; else empty."""
    if not preset.warm_start.steps or not any((folder / PROBE).is_file() for folder in folders):
        return ""
    probes = [read_json(folder / PROBE, "the base's probe of an adapter") for folder in folders if (folder / PROBE).is_file()]
    if not any(probe.get("warm_start") for probe in probes):
        return ""
    return str(Experiment(preset, command.seed, Path(command.runs) if command.runs else None, progress=False, source="any").warm_started())


def load_model(config: ModelConfig, own_template: bool) -> LanguageModel:
    """A model. `own_template`: it is told things by its own chat template, which is said."""
    if not own_template:
        return LanguageModel.load(config)
    lm = LanguageModel.load(replace(config, template="{prompt}"))
    lm = LanguageModel(lm.model, lm.tokenizer, replace(config, template=chat_template(lm.tokenizer)))
    print(f"{config.path}: reads a prompt as {lm.config.template!r} (another way: --model.template)")
    return lm


def chat_template(tokenizer: Any) -> str:
    """How a model's own chat template puts a statement of a user, with {prompt} in its place.

    For a model without one: the statement, after the token that its tokenizer begins every text with, if it has such a token.
    """
    mark, begin = "PROMPT-OF-THE-MAP", tokenizer.bos_token_id
    begins = begin is not None and tokenizer("a").input_ids[:1] == [begin]
    text: Any = (tokenizer.bos_token if begins else "") + mark
    if tokenizer.chat_template:
        with suppress(Exception):  # it may ask for what a single statement has not, or raise on purpose
            told = tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True)
            text = told if isinstance(told, str) and told.count(mark) == 1 else text
    return str(text).replace("{", "{{").replace("}", "}}").replace(mark, "{prompt}")


# -- whole models


def _of_models(command: Map, preset: Preset) -> Mixture:
    """Whole models that share a vocabulary."""
    places = _named(command.models, "--models", str)
    lms: dict[str, LanguageModel] = {}
    for name, path in places.items():
        config = replace(command.model, path=str(path))
        own = resolve(config.path) == resolve(preset.model.path)
        try:
            lms[name] = load_model(config, not own and config.template == preset.model.template)
        except UserError as error:
            raise UserError(f"--models: {error}") from error
    sources = {name: Source(lm) for name, lm in lms.items()}
    low, high = command.range or RANGES.get(command.kind, (0.0, 1.0))
    first, second = list(sources.values())[:2]
    if command.kind == "line":
        corners = line(first, second, low, high, list(sources))
    elif command.kind == "contrast":
        corners = contrast(first, second, high)
    else:
        corners = simplex_corners(list(sources.values()), list(sources))
    facts = {"models": {name: [lm.config.path, lm.config.template, lm.base_probe()["values"]] for name, lm in lms.items()}}
    base = next(iter(lms.values()))
    own = resolve(base.config.path) == resolve(preset.model.path)
    return Mixture(corners, facts, _judging(command, preset), None if own else base)


# -- both


def _corners(command: Map, lm: LanguageModel, names: list[str]) -> Corners:
    """What is mixed of one base and its adapters."""
    low, high = command.range or RANGES.get(command.kind, (0.0, 1.0))
    if command.kind == "guidance":
        instruction = command.instruction.format(prompt=PROMPT)  # a brace is typed twice there, as in any template
        return guidance(lm, instruction, low, high, names[0] if names else None)
    if command.kind == "contrast":
        return contrast(Source(lm, names[0]), Source(lm, names[1]), high)
    if command.kind == "line":
        first, second = ("base", names[0]) if len(names) == 1 else names
        return line(Source(lm, None if len(names) == 1 else first), Source(lm, second), low, high, [first, second])
    return adapter_corners(lm, names)


def _named(texts: Sequence[str], option: str, place: Any) -> dict[str, Any]:
    """Places by name: the name that is given, else the folder's own, with its parent's before it where two would be the same.

    Raises UserError for two of one name, or one place twice.
    """
    split = [("", text) if _is_folder(text) else split_name(text, option) for text in texts]
    paths = [place(rest) for _, rest in split]
    own = Counter(_last(rest, 1) for name, rest in split if not name)
    named: dict[str, Any] = {}
    for (name, rest), path in zip(split, paths, strict=True):
        name = name or _last(rest, 2 if own[_last(rest, 1)] > 1 else 1)
        if name in named:
            raise UserError(f"{option} {shown(rest)}: a second one named {name}; give it another name, {name}2={rest}")
        named[name] = path
    return named


def _last(text: str, parts: int) -> str:
    """The last parts of a path as a name."""
    path = Path(text).resolve() if text in (".", "..") else Path(text)
    joined = "-".join(part for part in path.parts[-parts:] if part not in ("/", ".", ".."))
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in joined).strip("-_")
    return name or "adapter"


def _facts(lm: LanguageModel, folders: dict[str, Path]) -> dict[str, Any]:
    """What tells this mixture from others."""
    return {
        "base": [lm.config.path, lm.base_probe()["values"]],
        "template": lm.config.template,
        "warm_start": lm.warm_start_digest,
        "adapters": {name: file_digest(folder / WEIGHTS) for name, folder in folders.items()},
    }
