"""A map's folder: what is there is told before any work begins, what is written is whole, and nothing of anybody's is lost.

Four files: regions and front (CSV or Parquet, each with its provenance beside it), optimum.json, map.html. The provenance of the regions
holds checksums of them all: a file that was changed since, or that emorl_lite did not write, is never replaced.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import move_whole, told, write_folder
from emorl_lite.base.outputs import check_folder, new_provenance, read_provenance, sha256
from emorl_lite.base.provenance import replace_table

TABLES = ("regions", "front")
OTHERS = ("optimum.json", "map.html")
FORMATS = ("csv", "parquet")


@dataclass
class Results:
    """The folder that a command writes into."""

    folder: Path
    format: str = "csv"
    overwrite: bool = False

    @property
    def regions(self) -> Path:
        """The table of regions."""
        return self.folder / f"regions.{self.format}"

    @property
    def files(self) -> list[Path]:
        """All that is written, provenances aside."""
        return [self.folder / f"{name}.{self.format}" for name in TABLES] + [self.folder / name for name in OTHERS]

    def check(self, made_of: Mapping[str, Any] | None = None) -> None:
        """Raise UserError unless results can be written: the folder is free, or holds results of emorl_lite as they were written, which are
        those of the same map (`made_of`, where that is known already) or may be replaced (`overwrite`)."""
        check_folder(self.folder, "--out")
        known = self._known()
        for path in self._present():
            if path.is_symlink() or not path.is_file():
                raise UserError(f"--out {self.folder}: {path.name} there is no plain file; choose another folder")
            if path.name not in known or sha256(path.read_bytes()) not in known[path.name]:
                raise UserError(f"--out {self.folder}: {path.name} there is not as emorl_lite wrote it; choose another folder")
        if self.overwrite or made_of is None or not known:
            return
        theirs, ours = self._records()[0].get("made_of") or {}, json.loads(json.dumps(made_of))
        if theirs != ours:
            key = next((key for key in ours if theirs.get(key) != ours[key]), "kind")
            raise UserError(f"--out {self.folder}: holds another map (of another {key}); choose another folder, or add --overwrite")

    def _present(self) -> list[Path]:
        """The files that results would replace, or stand beside: tables of the other format are results too."""
        names = [f"{name}.{kind}" for name in TABLES for kind in FORMATS] + list(OTHERS)
        names += [new_provenance(Path(f"{name}.{kind}")).name for name in TABLES for kind in FORMATS]
        provenances = [path for name in names if (path := self.folder / name).exists() or path.is_symlink()]
        return [path for path in provenances if not path.name.endswith(".provenance.json") or not read_provenance(_table_of(path))]

    def _records(self) -> list[dict[str, Any]]:
        """The provenances of the regions that are there, of either format."""
        return [facts for kind in FORMATS if (facts := read_provenance(self.folder / f"regions.{kind}"))]

    def _known(self) -> dict[str, list[str]]:
        """Checksums by which each file that is there may be known: as it is, and as it was before it was replaced."""
        known: dict[str, list[str]] = {}
        for facts in self._records():
            for name, sums in (facts["files"] if isinstance(facts.get("files"), dict) else {}).items():
                known[name] = [*known.get(name, []), *(sums if isinstance(sums, list) else [])]
        return known

    def write(
        self,
        tables: Mapping[str, pd.DataFrame],
        optimum: Mapping[str, Any],
        save_page: Callable[[Path], object],
        made_of: Mapping[str, Any],
        **facts: Any,
    ) -> list[Path]:
        """Write all of it. A new folder comes with all its files or not at all; in an old one each file is replaced whole.

        Raises UserError as `check` does, and if it cannot be written; then what was there is as it was, or known as emorl_lite's.
        """

        def fill(folder: Path) -> None:
            (folder / "optimum.json").write_text(json.dumps(optimum, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            save_page(folder / "map.html")
            for name in reversed(TABLES):
                replace_table(tables[name], folder / f"{name}.{self.format}", made_of=dict(made_of), **facts)
            sums = {name: [sha256((folder / name).read_bytes())] for name in (path.name for path in self.files)}
            record = folder / new_provenance(self.regions).name
            record.write_text(_json(json.loads(record.read_text(encoding="utf-8")) | {"files": sums}), encoding="utf-8")

        self.check(made_of)
        if not self.folder.exists():
            write_folder(self.folder, fill)
        else:
            self._replace(fill)
        return self.files

    def _replace(self, fill: Callable[[Path], None]) -> None:
        """Put new files in the place of old ones: first the record that knows both, then each file, then the record of the new ones."""
        with told(self.folder):
            scratch = Path(tempfile.mkdtemp(prefix=".emorl-", suffix=".tmp", dir=self.folder))
        try:
            with told(self.folder):
                fill(scratch)
            before = self._known()
            record = new_provenance(self.regions)
            facts = json.loads((scratch / record.name).read_text(encoding="utf-8"))
            final = _json(facts)
            facts["files"] = {name: [*facts["files"].get(name, []), *before.get(name, [])] for name in {**facts["files"], **before}}
            facts["sha256_before"] = next(iter(before.get(self.regions.name, [])), None)
            (scratch / record.name).write_text(_json(facts), encoding="utf-8")
            move_whole(scratch / record.name, record)
            for path in sorted(scratch.iterdir()):
                move_whole(path, self.folder / path.name)
            for kind in FORMATS:  # what the other format left would be of another map
                for name in TABLES if kind != self.format else ():
                    for stale in (self.folder / f"{name}.{kind}", new_provenance(self.folder / f"{name}.{kind}")):
                        stale.unlink(missing_ok=True)
            (scratch / record.name).write_text(final, encoding="utf-8")
            move_whole(scratch / record.name, record)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _table_of(provenance: Path) -> Path:
    return provenance.with_name(provenance.name.removesuffix(".provenance.json"))


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1) + "\n"
