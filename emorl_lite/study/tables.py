"""The tables that a study leaves: where they lie, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_table
from emorl_lite.base.logs import read_log
from emorl_lite.base.outputs import read_provenance
from emorl_lite.base.paths import data_root, repository_root, shipped
from emorl_lite.base.project import in_repository
from emorl_lite.methods.registry import version

TABLES = ("rows", "sweep", "front", "levels", "convergence")
"""What a study of the tiny preset writes."""
LATER = ("matched", "samples", "curves")
"""Tables that studies made before do not have: a table without rows and columns stands for one."""


def table_path(folder: Path, name: str) -> Path:
    """Where a table of the study is kept: methods.csv for the rows, methods_<name>.csv for the others."""
    return folder / ("methods.csv" if name == "rows" else f"methods_{name}.csv")


def study_tables(folder: Path | None = None, names: Sequence[str] = (*TABLES, "matched")) -> dict[str, pd.DataFrame]:
    """A study's tables by name, from `data/results` by default; one of `LATER` is without rows and columns where it is not there.

    Raises UserError for any other that is not there.
    """
    source, tables = Path(folder or data_root() / "results"), {}
    for name in names:
        path = table_path(source, name)
        if name not in LATER and not path.is_file():
            if folder is None and repository_root() is None:
                raise UserError(f"{path}: not here; {in_repository('the published tables')}; of a study of your own, name the folder")
            raise UserError(f"{path}: no such table; python -m emorl_lite study makes it")
        tables[name] = _if_there(path)
    return tables


def optional_table(name: str, preset: str = "tiny") -> pd.DataFrame:
    """A table of a published study that not every study has (those of `LATER`, say); without rows and columns if it is not there.

    `preset`: whose study. Raises UserError for a file that is no table.
    """
    return _if_there(table_path(_published(preset), name))


def cube_table(preset: str = "tiny") -> pd.DataFrame:
    """The points behind the cube figures (`scripts/paper_cubes.py`) of a preset; without rows and columns if nobody has made them."""
    return _if_there(_published(preset) / "paper_cubes.csv")


def _published(preset: str) -> Path:
    """Where the tables of a preset's published study lie."""
    return data_root() / "results" if preset == "tiny" else shipped(preset)


def _if_there(path: Path) -> pd.DataFrame:
    return read_table(path, "a table of the study") if path.is_file() else pd.DataFrame()


def outdated(folder: Path | None = None) -> list[str]:
    """Methods of a study's table (by default that in `data/results`) that had the name when it was made, and are others now."""
    path = table_path(Path(folder or data_root() / "results"), "rows")
    made = read_provenance(path).get("versions")
    versions = made if isinstance(made, dict) else {}
    return [name for name in study_tables(folder, ("rows",))["rows"]["method"].unique() if versions.get(name, 1) != version(name)]


def real_tables(preset: str, names: Sequence[str] = ("rows", "sweep", "quality", "samples")) -> dict[str, pd.DataFrame]:
    """The tables of a real study by name, from the run that comes with a preset; an empty dictionary if nobody has made them yet.

    Raises UserError if they are not here because the repository is not.
    """
    folder = shipped(preset)
    if (folder / "methods.csv").is_file():
        return study_tables(folder, names)
    if repository_root() is None:
        raise UserError(f"{folder}: not here; {in_repository('the tables of real studies')}")
    return {}


def real_logs(preset: str, objectives: Sequence[str]) -> pd.DataFrame:
    """The training logs that come with a preset: one below the other, with `objective` and `seed`."""
    logs = logs_of(shipped(preset), objectives)
    if logs.empty and repository_root() is None:
        raise UserError(f"{shipped(preset)}: not here; {in_repository('the training logs of real runs')}")
    if logs.empty:
        raise UserError(f"{shipped(preset)}: no training logs; python -m emorl_lite study --preset {preset}, then scripts/publish_study.py")
    return logs


def logs_of(folder: Path, objectives: Sequence[str]) -> pd.DataFrame:
    """The training logs of these objectives in the folders seed<k> of a run, with `objective` and `seed`; an empty table without any."""
    parts = []
    for file in sorted(folder.glob("seed*/*/log.csv")):
        if (objective := file.parent.name) in objectives:
            parts.append(read_log(file).assign(objective=objective, seed=int(file.parent.parent.name.removeprefix("seed"))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
