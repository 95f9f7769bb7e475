"""Notebooks that somebody works in, brought up to date: what is new comes in cell by cell, and what its reader wrote stays.

A copy remembers what it was given: the digest of each cell's text, by the cell's id, under `emorl_lite` in the notebook's metadata. So a
cell that its reader changed can be told from one that is merely old. Cell ids are also kept in the cells' metadata, for services that give
cells ids of their own.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emorl_lite.base.errors import UserError

MARK = "emorl_lite"
CELL_MARK = "emorl_id"
OLD = "before_updates"
"""Folder, beside the copies, of what they were before they were updated."""


@dataclass(frozen=True)
class Merged:
    """A copy brought up to date, and what happened to its cells, by id.

    `new`: added, or replaced because only the given text had changed. `back`: added again, because they had been deleted. `gone`: dropped,
    as the new notebook is without them. `both`: changed by the reader and by the new notebook; the reader's stay.
    """

    book: Any
    new: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    both: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any cell came, went or changed."""
        return bool(self.new or self.back or self.gone)


def digest(source: str) -> str:
    """What tells a cell's text from another, spaces at its end left out."""
    return hashlib.sha256(source.rstrip().encode()).hexdigest()[:12]


def given(book: Any, **facts: str) -> Any:
    """A copy of a notebook that remembers what it gave, and these facts."""
    made = copy.deepcopy(book)
    made.metadata[MARK] = {**facts, "given": {cell.id: digest(cell.source) for cell in made.cells}}
    for cell in made.cells:
        cell.metadata[CELL_MARK] = cell.id
    return made


def facts_of(book: Any) -> dict[str, Any]:
    """What a copy remembers; empty for a notebook that is no such copy. What is no text, in a file that others can write, is left out."""
    facts = book.metadata.get(MARK)
    if not isinstance(facts, Mapping):
        return {}
    remembered = facts.get("given")
    return _texts(facts) | ({"given": _texts(remembered)} if isinstance(remembered, Mapping) else {})


def _given(book: Any) -> dict[str, str]:
    """Digests of the cells that a copy was given, by id."""
    remembered = facts_of(book).get("given")
    return remembered if isinstance(remembered, dict) else {}


def _texts(facts: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: text for name, text in facts.items() if isinstance(name, str) and isinstance(text, str)}


def merge(mine: Any, new: Any) -> Merged:
    """A reader's copy with what is new in `new`, which `given` made. Neither is changed.

    In the new notebook's order; a reader's own cells stay after the cell they stood after. Of a copy that remembers nothing, every cell
    that differs counts as the reader's.
    """
    known = _given(mine)
    theirs, own = _sorted_out(mine, known, {cell.id for cell in new.cells})
    cells = [*own.get("", [])]
    happened: dict[str, list[str]] = {"new": [], "back": [], "gone": [], "both": []}
    for cell in new.cells:
        old = theirs.pop(cell.id, None)
        here, now, before = digest(old.source) if old is not None else None, digest(cell.source), known.get(cell.id)
        if old is None:
            happened["back" if cell.id in known else "new"].append(cell.id)
        elif here != now and here == before:
            happened["new"].append(cell.id)
        elif here != now and before != now:
            happened["both"].append(cell.id)
        taken = cell if old is None or (here != now and here == before) else old
        cells += [_of_id(taken, cell.id), *own.get(cell.id, [])]
    happened["gone"] = sorted(theirs)
    book = copy.deepcopy(mine)
    book.cells = copy.deepcopy(cells)
    book.nbformat_minor = max(5, mine.nbformat_minor)
    book.metadata[MARK] = copy.deepcopy(new.metadata[MARK])
    _distinct(book.cells)
    return Merged(book, **{name: tuple(ids) for name, ids in happened.items()})


def _of_id(cell: Any, name: str) -> Any:
    cell = copy.deepcopy(cell)
    cell["id"] = cell.metadata[CELL_MARK] = name
    return cell


def _sorted_out(mine: Any, known: dict[str, str], wanted: set[str]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(The copy's cells that were given, by id; the reader's own, by the id of the cell that they follow, "" at the top).

    What is no longer wanted and was changed is the reader's own; what was not changed is among the given ones.
    """
    named: dict[int, str] = {}
    by_digest = {mark: name for name, mark in known.items()}
    for called in (lambda cell: cell.get("id"), lambda cell: cell.metadata.get(CELL_MARK), lambda cell: by_digest.get(digest(cell.source))):
        for i, cell in enumerate(mine.cells):
            name = called(cell)
            if i not in named and isinstance(name, str) and name in known.keys() | wanted and name not in named.values():
                named[i] = name
    theirs: dict[str, Any] = {}
    own: dict[str, list[Any]] = {}
    last = ""
    for i, cell in enumerate(mine.cells):
        name = named.get(i, "")
        if name in wanted:
            last, theirs[name] = name, cell
        elif name and digest(cell.source) == known.get(name):
            theirs[name] = cell
        else:
            own.setdefault(last, []).append(cell)
    return theirs, own


def _distinct(cells: Sequence[Any]) -> None:
    """Give cells without an id, or with one that stands before, another."""
    taken = set[str]()
    for i, cell in enumerate(cells):
        name = cell.get("id")
        name = name if name and isinstance(name, str) else f"own-{i}"
        while name in taken:
            name = f"own-{hashlib.sha256(f'{name}{i}'.encode()).hexdigest()[:8]}"
        cell["id"] = name
        taken.add(name)


# -- files


def read_copies(folder: Path, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(The notebooks of these names that are in a folder, what is wrong with those that are there and cannot be read), by name."""
    from emorl_lite.tutorial.execution import read_notebook

    there, unread = {}, dict[str, str]()
    for name in names:
        try:
            if os.path.lexists(folder / name):
                there[name] = read_notebook(folder / name)
        except UserError as error:
            unread[name] = str(error)
    return there, unread


def refresh(folder: Path, books: Mapping[str, Any], there: Mapping[str, Any], missing: bool = False) -> list[str]:
    """Bring the copies in a folder up to date. Returns what happened, a line a copy that changed or that needs a look.

    `books`: the new notebooks by file name, made by `given`. `there`: the copies that are there, as `read_copies` has them.
    `missing`: copy those that are not there, and look at no copy that was given just what is new (else cells that its reader deleted come
    back). A copy that changes is kept as it was in `before_updates/`.
    """
    lines = list[str]()
    for name, new in books.items():
        if name not in there:
            if missing and not os.path.lexists(folder / name):
                _write(folder / name, new)
                lines.append(f"{name}: copied, yours to change")
        elif not missing or _given(there[name]) != _given(new):
            lines += _refreshed(folder / name, there[name], new)
    return lines


def _refreshed(path: Path, mine: Any, new: Any) -> list[str]:
    merged = merge(mine, new)
    lines = []
    if merged.changed:
        kept = _kept(path)
        counts = [(merged.new, "new or changed"), (merged.back, "back that had been deleted"), (merged.gone, "gone")]
        told = ", ".join(f"{len(ids)} {what}" for ids, what in counts if ids)
        lines.append(f"{path.name}: cells: {told}; all that you wrote stays; as it was: {kept.parent.name}/{kept.name}")
    if merged.both:
        lines.append(f"{path.name}: yours stay, of cells that differ from the new ones: {', '.join(merged.both)}")
    if merged.changed or facts_of(mine) != facts_of(merged.book):
        _write(path, merged.book)
    return lines


def _kept(path: Path) -> Path:
    """A copy of a file, in the folder of those before updates, under a name that is free."""
    folder = path.parent / OLD
    number = 1
    while (kept := folder / f"{path.stem}.{number}.ipynb").exists():
        number += 1
    folder.mkdir(exist_ok=True)
    kept.write_bytes(path.read_bytes())
    return kept


def _write(path: Path, book: Any) -> None:
    import nbformat

    from emorl_lite.base.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, nbformat.writes(book) + "\n")
