"""The adapters of the paper's authors in the place of trained ones: which file is whose, converted once, then loaded like any run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import check_writable, read_json, write_json
from emorl_lite.base.presets import Preset
from emorl_lite.data.downloads import SOURCES, blob_id, whole_file
from emorl_lite.lm.author_adapters import convert
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.run_folder import check_files, checksums

AUTHORS = "authors"
"""Means the files that `data fetch emorl-adapters` gets."""
SET = "emorl-adapters"
RECORD = "done.json"
OPTION = "--adapters"


@dataclass
class AuthorRuns:
    """One file an objective. An objective has several, trained apart from each other: the seed says which, in the order of their numbers.

    `source`: "authors", or a folder of files of this format as the authors' code leaves them (`lora_<objective>*.npz`, or the same in a
    folder of the objective's name). `home`: of the preset's runs. Raises UserError for a preset with another base, for objectives and seeds
    that there is no file for, and for a file that is not there, or not the published one.
    """

    source: str
    seed: int
    preset: Preset
    home: Path
    notes: list[str] = field(default_factory=list)
    """What was found when they were converted, a line each."""

    def __post_init__(self) -> None:
        if self.source != AUTHORS and not Path(self.source).is_dir():
            raise UserError(f"{OPTION} {self.source}: expected {AUTHORS!r}, or a folder of lora_<objective>*.npz")
        if self.preset.warm_start.steps or self.preset.model.warm_start:
            raise UserError(f"{OPTION} {self.source}: these adapters were trained on a base without a warm start; take --preset t5")
        self.files = {objective: self._file(objective) for objective in self.preset.objectives}
        """The file of each objective."""

    @property
    def folder(self) -> Path:
        """Where their conversions lie, and what is found with them."""
        return self.home / (AUTHORS if self.source == AUTHORS else f"{AUTHORS}-{Path(self.source).resolve().name}")

    @cached_property
    def blobs(self) -> dict[str, str]:
        """Git's id of each."""
        return {objective: blob_id(file) for objective, file in self.files.items()}

    def _file(self, objective: str) -> Path:
        ours = re.compile(rf"lora_{re.escape(objective)}(_\w+)?\.npz")
        if self.source == AUTHORS:
            names = [file for file in SOURCES[SET].blobs if ours.fullmatch(Path(file).name)]
        else:
            folder = Path(self.source)
            places = (folder, folder / objective)
            names = [str(file.relative_to(folder)) for place in places for file in place.glob("*.npz") if ours.fullmatch(file.name)]
        if not names:
            raise UserError(f"{OPTION} {self.source}: there is none for the objective {objective!r}")
        if self.seed >= len(names):
            count = "1 adapter" if len(names) == 1 else f"{len(names)} adapters"
            raise UserError(f"--seed {self.seed}: there are {count} for {objective!r} in {OPTION} {self.source}; seeds begin at 0")
        name = sorted(names, key=_number)[self.seed]
        return whole_file(SET, name) if self.source == AUTHORS else Path(self.source) / name

    def run_folder(self, objective: str) -> Path:
        """Where the conversion of an objective's file lies: another file has another folder."""
        if objective not in self.files:
            raise UserError(f"objective {objective!r}: expected one of {', '.join(self.files)}")
        return self.folder / "converted" / f"{self.files[objective].stem}-{self.blobs[objective][:8]}"

    def prepare(self, lm: LanguageModel) -> None:
        """Convert what is not converted yet. Raises UserError, and leaves nothing, for a file that does not fit the base model."""
        for objective, file in self.files.items():
            folder = self.run_folder(objective)
            if not _is_whole(folder):
                check_writable(folder)
                (folder / RECORD).unlink(missing_ok=True)
                fit = convert(file, folder, lm.base, lm.config.path)
                note = fit.sentence(file.name)
                facts = {"adapters": SET if self.source == AUTHORS else file.name, "file": file.name, "blob": self.blobs[objective]}
                write_json(folder / RECORD, {"identity": facts, "note": note, "files": checksums(folder)})
            if note := str(read_json(folder / RECORD, "the record of a conversion").get("note", "")):
                self.notes.append(note)


def _number(name: str) -> tuple[int, str]:
    """Order of files: by the number at the end."""
    number = re.search(r"(\d+)\.npz$", name)
    return int(number[1]) if number else -1, name


def _is_whole(folder: Path) -> bool:
    """Whether a conversion is there, as it was written. One that is not is made again."""
    try:
        record = read_json(folder / RECORD, "the record of a conversion", keys=("identity", "files"))
        check_files(folder, record)
    except UserError:
        return False
    return len(record["files"]) > 0
