"""The command `course`: a folder with handouts, an nbgrader course and Otter assignments; or started notebooks brought up to date."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import MAKER, check_folder, sha256
from emorl_lite.base.paths import from_here
from emorl_lite.base.ranges import Options, Within
from emorl_lite.course.lessons import Lesson, lessons, notebooks_folder

RECORD = "course.json"
"""In a course's folder: what was made, with which seed, and the digests of its files; `begun` are assignments that are not finished yet.
The instructor's, as the whole folder is."""


@dataclass
class Course(Options):
    """Make a course of the notebooks: handouts for students, an nbgrader course with its release, Otter assignments.

    In the folder: notebooks/ to hand out, release/ and otter/*/student/ too; the rest, with answers and hidden cases, is the instructor's.
    """

    out: str = "course-build"
    """Folder to make."""
    notebooks: tuple[str, ...] = ()
    """These alone, by number: --notebooks 00 02 (default: all)."""
    solutions: Literal["", "withheld", "released"] = ""
    """Whether notebooks/ has the solutions (default: withheld; in an update as each notebook has them)."""
    seed: Annotated[int, Within(0, 2**31 - 1)] = 0
    """Of the hidden cases (0: that of the folder, else drawn)."""
    update: str = ""
    """Make no course: bring the notebooks in this folder up to date, and keep what was written in them."""


@dataclass(frozen=True)
class Entry:
    """A question of an assignment. `cell`: the id of the cell that bears its points; `kind`: checked, or open for a person to read."""

    name: str
    title: str
    points: float
    minutes: int
    kind: str
    cell: str


@dataclass(frozen=True)
class Assignment:
    """An assignment, its notebook's number, and its questions."""

    name: str
    notebook: str
    questions: tuple[Entry, ...]


def run_course(command: Course) -> int:
    """Make a course, or update a folder of notebooks, and say what was done."""
    chosen = lessons(command.notebooks)
    if command.update:
        return _update(command, chosen)
    made = make_course(Path(command.out), chosen, command.solutions or "withheld", command.seed)
    width = max(len(one.name) for one in made)
    for one in made:
        checked = [q for q in one.questions if q.kind == "checked"]
        points = sum(q.points for q in checked), sum(q.points for q in one.questions if q.kind == "open")
        print(f"{one.name:<{width}}  {len(checked)} exercises, {points[0]} points; to be read by a person: {points[1]} points")
    out = from_here(command.out)
    print(f"to hand out: {os.path.join(out, 'notebooks')} (solutions {command.solutions or 'withheld'}), {os.path.join(out, 'release')}")
    return 0


def _update(command: Course, chosen: Sequence[Lesson]) -> int:
    from emorl_lite.course.handouts import update

    folder = check_folder(command.update, "--update")
    if command.seed or command.out != Course.out:
        raise UserError(f"--update {command.update}: makes no course, so {'--seed' if command.seed else '--out'} would do nothing")
    if folder.is_dir() and os.path.samefile(folder, notebooks_folder()):
        raise UserError(
            f"--update {command.update}: the repository's own notebooks, which `git pull` brings up to date; name a folder of copies"
        )
    if not any((folder / f"{lesson.name}.ipynb").exists() for lesson in chosen):
        raise UserError(f"--update {command.update}: there is none of these notebooks ({', '.join(lesson.name for lesson in chosen)})")
    for line in update(folder, chosen, command.solutions) or [f"{command.update}: up to date"]:
        print(line)
    return 0


def make_course(out: Path, chosen: Sequence[Lesson], solutions: Literal["withheld", "released"], seed: int = 0) -> list[Assignment]:
    """Write a course of these lessons and return its assignments.

    Raises UserError, before anything is written, for a folder with files of others, a file that was changed since it was made, or where
    nbgrader is not installed.
    """
    from emorl_lite.base.files import write_json
    from emorl_lite.course.assignments import release_assignments, write_nbgrader
    from emorl_lite.course.otter import write_otter

    if find_spec("nbgrader") is None:
        raise UserError("nbgrader is not installed here: pip install 'emorl_lite[course]', in the repository -e '.[course]'")
    record = _record_of(out)
    seed = _seed(out, record, chosen, seed)
    _check_unchanged(out, record, chosen)
    made = [assignment_of(lesson) for lesson in chosen]
    all_of_it = {one["name"]: one for one in record.get("assignments", [])} | {one.name: asdict(one) for one in made}
    facts = {"made_by": MAKER, "seed": seed, "solutions": solutions, "assignments": [all_of_it[name] for name in sorted(all_of_it)]}
    files = dict(record.get("files", {}))

    def note(begun: Sequence[str]) -> None:
        write_json(out / RECORD, facts | {"begun": sorted(begun), "files": dict(sorted(files.items()))})

    out.mkdir(parents=True, exist_ok=True)
    begun = {*record.get("begun", []), *(lesson.name for lesson in chosen)}
    note([*begun])  # first of all: where the command is stopped at any moment, it can be given again
    for write in (
        lambda: _write_handouts(chosen, out / "notebooks", solutions),
        lambda: write_nbgrader(chosen, out, seed),
        lambda: release_assignments(out, [lesson.name for lesson in chosen]),
        lambda: write_otter(chosen, out / "otter", seed),
    ):
        files |= {_within(out, path): sha256(path.read_bytes()) for path in write()}
        note([*begun])
    note([*(begun - {lesson.name for lesson in chosen})])
    return made


def assignment_of(lesson: Lesson) -> Assignment:
    """The assignment that is made of a lesson."""
    from emorl_lite.course.assignments import grade_id

    entries = [Entry(q.name, q.title, q.points, q.minutes, "open" if q.is_open else "checked", grade_id(q)) for q in lesson.questions]
    return Assignment(lesson.name, lesson.number, tuple(entries))


def _write_handouts(chosen: Sequence[Lesson], folder: Path, solutions: Literal["withheld", "released"]) -> list[Path]:
    import nbformat

    from emorl_lite.course.handouts import handout

    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{lesson.name}.ipynb" for lesson in chosen} | {path.name for path in folder.glob("*.ipynb")}
    for lesson in chosen:
        nbformat.write(handout(lesson, solutions, names), folder / f"{lesson.name}.ipynb")
    return [folder / f"{lesson.name}.ipynb" for lesson in chosen]


def _within(out: Path, path: Path) -> str:
    return path.relative_to(out).as_posix()


def _record_of(out: Path) -> dict[str, Any]:
    """What a folder says was made in it; empty for a new one. Raises UserError for a folder with other files and no such record."""
    folder = check_folder(str(out), "--out")
    if not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir()):  # .DS_Store, .ipynb_checkpoints
        return {}
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("made_by") != MAKER:
        raise UserError(f"--out {out}: there are files that this command did not make; choose another folder")
    if not _is_whole(record):
        raise UserError(f"--out {out}: {RECORD} was changed, and is not as this command writes it; choose another folder")
    return record


def _is_whole(record: dict[str, Any]) -> bool:
    """Whether a record is as it is written: by hand, anything can be made of it."""
    seed, made, files, begun = (record.get(name, empty) for name, empty in (("seed", 0), ("assignments", []), ("files", {}), ("begun", [])))
    return (
        (type(seed) is int and 0 <= seed < 2**31)
        and (isinstance(made, list) and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in made))
        and (isinstance(files, dict) and all(isinstance(mark, str) for mark in files.values()))
        and (isinstance(begun, list) and all(isinstance(name, str) for name in begun))
    )


def _seed(out: Path, record: dict[str, Any], chosen: Sequence[Lesson], seed: int) -> int:
    """The seed of the hidden cases: one for a course."""
    there = record.get("seed", 0)
    others = {one["name"] for one in record.get("assignments", [])} - {lesson.name for lesson in chosen}
    if seed and there and seed != there and others:
        raise UserError(f"--seed {seed}: the other assignments in {out} have another; make all of them, or choose another folder")
    return seed or there or secrets.randbelow(2**31 - 1) + 1


def _check_unchanged(out: Path, record: dict[str, Any], chosen: Sequence[Lesson]) -> None:
    """Raise UserError for a file that is about to be written and is not as it was made, or was not made here.

    Of assignments that were begun and not finished, files that are not in the record may be the command's own.
    """
    files = record.get("files", {})
    names = {lesson.name for lesson in chosen}
    for name, made in files.items():
        path = out / name
        ours = path.stem in names or not names.isdisjoint(path.relative_to(out).parts) or path.name == "nbgrader_config.py"
        if ours and path.is_file() and sha256(path.read_bytes()) != made:
            raise UserError(f"--out {out}: {name} was changed since it was made; move it away, or choose another folder")
    for name in sorted(names - {*record.get("begun", [])}):
        for path in (f"notebooks/{name}.ipynb", f"source/{name}/{name}.ipynb", f"otter/{name}/{name}.ipynb"):
            if path not in files and (out / path).exists():
                raise UserError(f"--out {out}: {path} is not this command's; move it away, or choose another folder")
