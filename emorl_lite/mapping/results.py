"""A map's folder: what is there is told before any work begins, what is written is whole, and nothing of anybody's is lost.

Four files: regions and front (CSV or Parquet, each with its provenance beside it), optimum.json, map.html. The provenance of the regions
holds checksums of them all: a file that was changed since, or that emorl_lite did not write, is never replaced.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import move_whole, told, write_atomically
from emorl_lite.base.locks import alone
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

    def check(self, made_of: Mapping[str, Any] | None = None, read: str = "") -> None:
        """Raise UserError unless results can be written: the folder is free, or holds results of emorl_lite as they were written, which are
        those of the same map (`made_of`, where that is known already) or may be replaced (`overwrite`). `read`: a file that is read."""
        check_folder(self.folder, "--out")
        known = self._known()
        for path in self._present():
            if path.is_symlink() or not path.is_file():
                raise UserError(f"--out {self.folder}: {path.name} there is no plain file; choose another folder")
            if read and os.path.exists(read) and os.path.samefile(read, path):
                raise UserError(f"--out {self.folder}: {path.name} there is what this command reads; choose another folder")
            if path.name not in known or sha256(path.read_bytes()) not in known[path.name]:
                raise UserError(f"--out {self.folder}: {path.name} there is not as emorl_lite wrote it; choose another folder")
        if self.overwrite or made_of is None or not known:
            return
        theirs, ours = self._records()[0].get("made_of") or {}, json.loads(json.dumps(made_of))
        if theirs != ours:
            key = next((key for key in ours if theirs.get(key) != ours[key]), "kind")
            raise UserError(f"--out {self.folder}: holds another map ({key}: not the same); choose another folder, or add --overwrite")

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
        """Write all of it, each file whole. They are made elsewhere first, and moved here in a moment.

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

        with tempfile.TemporaryDirectory(prefix="emorl_lite-map-") as scratch:
            with told(Path(scratch)):
                fill(Path(scratch))
            with alone(self.folder, "writing a map"):
                self.check(made_of)  # once more: another process may have written there meanwhile
                new = not self._present()
                try:
                    self._replace(Path(scratch))
                except BaseException:
                    self._take_back(new)
                    raise
        return self.files

    def _replace(self, made: Path) -> None:
        """Put new files in the place of old ones: first the record that knows both, then each file, then the record of the new ones."""
        before, record = self._known(), new_provenance(self.regions)
        final = (made / record.name).read_text(encoding="utf-8")
        facts = json.loads(final)
        facts["files"] = {name: [*facts["files"].get(name, []), *before.get(name, [])] for name in {**facts["files"], **before}}
        facts["sha256_before"] = next(iter(before.get(self.regions.name, [])), None)
        write_atomically(record, _json(facts))
        (made / record.name).unlink()
        for path in sorted(made.iterdir()):
            move_whole(path, self.folder / path.name)
        for kind in FORMATS:  # what the other format left would be of another map
            for name in TABLES if kind != self.format else ():
                for stale in (self.folder / f"{name}.{kind}", new_provenance(self.folder / f"{name}.{kind}")):
                    stale.unlink(missing_ok=True)
        write_atomically(record, final)

    def _take_back(self, new: bool) -> None:
        """After a failure in a folder that held no results: none are left half there."""
        for path in [*self.files, *(new_provenance(self.folder / f"{name}.{self.format}") for name in TABLES)] if new else ():
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _table_of(provenance: Path) -> Path:
    return provenance.with_name(provenance.name.removesuffix(".provenance.json"))


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1) + "\n"
