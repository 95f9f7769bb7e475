"""Where the parts of a preset lie that somebody trained: here, under `runs/`, or in a folder that is only read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import digest, file_digest, read_json, write_json
from emorl_lite.base.paths import repository_root, runs_root, shipped
from emorl_lite.base.presets import PRESETS, Preset, SmallWorldRewards
from emorl_lite.base.project import in_repository


@dataclass
class Workspace:
    """One preset's folders. Raises UserError if the source is not there."""

    preset: Preset
    root: Path | None = None
    """Of all runs; by default $EMORL_RUNS, or `runs/`."""
    source: str = ""
    """Whose classifiers and adapters: "mine" (trained here, under runs/), "reference" (those that come with emorl_lite), "any" (mine
    where they are, else the reference's), or a folder laid out like emorl_lite/assets/tiny. By default "mine" for the small world, which
    trains in minutes, and "any" for the others."""

    def __post_init__(self) -> None:
        named_preset = PRESETS.get(self.preset.name)
        own_model = named_preset is None or named_preset.model.path == self.preset.model.path
        name = self.preset.name if own_model else f"{self.preset.name}-{Path(self.preset.model.path).name}"
        self.source = str(self.source) or ("mine" if isinstance(self.preset.rewards, SmallWorldRewards) else "any")
        self.home = Path(self.root or runs_root()) / name
        if self.source == "reference" and self.published is None:
            if repository_root() is None and not shipped(self.preset.name).is_dir():
                raise UserError(f"{shipped(self.preset.name)}: not here; {in_repository('reference runs of other presets than tiny')}")
            raise UserError(f"emorl_lite brings no reference run of the preset {self.preset.name} with these options; train one: 'mine'")
        if self.source not in ("mine", "any"):  # what is found with other adapters lies in another folder
            source_name = "reference" if self.source == "reference" else Path(self.source).resolve().name
            self.home = self.home.with_name(f"{name}-{source_name}") / folder_digest(self.published)

    @cached_property
    def published(self) -> Path | None:
        """Where trained parts of this preset lie that nobody trains here; None if there are none, or if training's options were changed."""
        if self.source == "mine":
            return None
        if self.source not in ("any", "reference"):
            if not Path(self.source).is_dir():
                raise UserError(
                    f"{self.source}: no such folder of runs; expected 'reference', 'mine', or a folder laid out like emorl_lite/assets/tiny"
                )
            return Path(self.source)
        folder, named_preset = shipped(self.preset.name), PRESETS.get(self.preset.name)
        if named_preset is None or not folder.is_dir():
            return None
        keep = {part: getattr(self.preset, part) for part in ("objectives", "search", "study", "transfer")}
        device = replace(
            named_preset.model, device=self.preset.model.device, dtype=self.preset.model.dtype, autocast=self.preset.model.autocast
        )
        return folder if replace(named_preset, model=device, **keep) == self.preset else None

    def place(self, *parts: str) -> Path:
        """Where a part lies, by `source`: among the runs, or in `published`."""
        own_path = self.home.joinpath(*parts)
        if self.published is None:
            return own_path
        published_path = self.published.joinpath(*parts)
        return own_path if self.source == "any" and (_holds_something(own_path) or not published_path.exists()) else published_path

    def of_data(self, data: str, seed: int, home: Path | None = None) -> Path:
        """The folder of a seed's runs on a data file: <stem>-seed<k>, unless that belongs to another file of the same stem.

        `home`: instead of the preset's own. Raises UserError for a mark that cannot be read.
        """
        home = home or self.home
        plain = home / f"{Path(data).stem}-seed{seed}"
        mark, content = plain / MARK, data_digest(data)
        if not mark.is_file() or read_json(mark, "the mark of a folder's data", "delete it").get("data") == content:
            return plain
        return home / f"{Path(data).stem}-{content}-seed{seed}"

    def is_published(self, folder: Path) -> bool:
        """Whether a folder holds what others trained: nothing is written there."""
        return self.published is not None and self.published in folder.parents

    def refuse_to_train(self, folder: Path) -> None:
        """Raise UserError if a part that is missing belongs to a run that is not trained here."""
        if self.is_published(folder):
            raise UserError(f"{'/'.join(folder.parts[-3:])}: this run lacks it; choose another seed, or train your own: 'mine'")


MARK = "data.json"
"""File that says whose a folder of runs on a data file is."""


def data_digest(path: str) -> str:
    """What tells one data file from another: its content, and of one that cannot be read its name."""
    try:
        return file_digest(Path(path))[:8]
    except UserError:
        return digest(str(path).encode())[:8]


def claim(folder: Path, data: str) -> None:
    """Mark a folder as that of a data file, before anything else is written there."""
    if not (folder / MARK).is_file():
        write_json(folder / MARK, {"data": data_digest(data)})


def folder_digest(folder: Path | None) -> str:
    """What tells the trained parts in a folder from others."""
    hasher = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors") if folder else ()):
        hasher.update(file.read_bytes())
    return hasher.hexdigest()[:8]


def _holds_something(path: Path) -> bool:
    """Whether there is a file, or a folder that holds one: a refused run leaves an empty folder, or one with a lock alone."""
    return path.is_file() or (path.is_dir() and any(not part.name.startswith(".") for part in path.iterdir()))
