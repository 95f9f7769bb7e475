"""What an answer's cell needs of the cells before it: the names that it uses and does not make, and where those are made.

A reader runs a notebook from the top; a grader runs an answer alone, and of the rest just what this answer names: imports, a constant, a
function of the reader's own from an earlier answer or from a cell beside it.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

TIMED = re.compile(r"\A\s*%%(?:time|capture)\b.*\n?")
"""The first line of a cell whose magic runs the rest as if that line were not there."""


@dataclass(frozen=True)
class Part:
    """A piece of code, and the names that it makes."""

    source: str
    makes: frozenset[str]


def plain_python(source: str) -> str:
    """A cell's source as Python: IPython's own lines (%time, !ls, ?) become calls."""
    return TransformerManager().transform_cell(source)


def _read_as(source: str) -> str:
    """A cell as the Python that names are read from."""
    return plain_python(TIMED.sub("", source))


def parts_of(source: str) -> list[Part]:
    """A cell's statements, each a part. None of a cell that is no Python."""
    try:
        return [Part(ast.unparse(statement), _made([statement])) for statement in ast.parse(_read_as(source)).body]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def whole(source: str) -> Part:
    """A cell as one part."""
    try:
        return Part(source, _made(ast.parse(_read_as(source)).body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Part(source, frozenset())


def needed(source: str, before: Sequence[Part]) -> list[Part]:
    """The parts, of those before it, that a cell needs, in their order; for each name the last that makes it before it is asked for, else
    the last there is: what a function calls may be made after the function."""
    chosen = set[int]()
    wanted = [(name, len(before)) for name in sorted(_missing(source))]
    while wanted:
        name, end = wanted.pop()
        places = [i for i, part in enumerate(before) if name in part.makes]
        at = max((i for i in places if i < end), default=max(places, default=None))
        if at is not None and at not in chosen:
            chosen.add(at)
            wanted += [(other, at) for other in sorted(_missing(before[at].source))]
    return [before[i] for i in sorted(chosen)]


def _missing(source: str) -> set[str]:
    """Names that a piece of code uses, and neither makes itself nor finds in Python."""
    try:
        table = symtable.symtable(_read_as(source), "<answer>", "exec")
        made = _made(ast.parse(_read_as(source)).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return set(_asked(table)) - made - set(dir(builtins))


def _asked(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that a piece of code looks for in the notebook: parameters and local names are none."""
    here = table.get_type() == "module"
    yield from (x.get_name() for x in table.get_symbols() if x.is_referenced() and (here or x.is_global()))
    for child in table.get_children():
        yield from _asked(child)


def _made(statements: Sequence[ast.stmt]) -> frozenset[str]:
    """Names that statements bind in the notebook, not within their functions."""
    return frozenset(name for statement in statements for name in _bound(statement))


def _bound(node: Any) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)
