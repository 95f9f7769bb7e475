"""What an option may be, said beside its field: `lr: Annotated[float, Within(0, 10, above=True)]`; and the one check that reads it.

Options are checked where they are made, so that there are none that make no sense: on the command line before anything is loaded, from a
notebook or a script in the same words.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from emorl_lite.base.errors import UserError
from emorl_lite.base.texts import is_unicode

SEEDS = 2**32
"""Seeds are below this: NumPy's generators take no others."""


@dataclass(frozen=True)
class Within:
    """Finite numbers from `low` to `high`. `above`: `low` itself is not allowed; `below`: `high` is not."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def check(self, value: float, where: str) -> None:
        """Raise UserError for a number outside."""
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: must be a finite number")
        if value < self.low or (self.above and value == self.low):
            raise UserError(f"{where}: must {self._least()}")
        if value > self.high or (self.below and value == self.high):
            raise UserError(f"{where}: must be {'below' if self.below else 'at most'} {self.high:,.12g}")

    def _least(self) -> str:
        if self.low == 0:
            return "be positive" if self.above else "not be negative"
        if self.low == 1 and not self.above:
            return "be positive"
        return f"be {'above' if self.above else 'at least'} {self.low:,.12g}"


@dataclass(frozen=True)
class Distinct:
    """Texts, or numbers, of which none comes twice."""

    def check(self, value: Sequence[str], where: str) -> None:
        """Raise UserError for the first that does."""
        for i, text in enumerate(value):
            if text in value[:i]:
                raise UserError(f"{where}: {text!r} is there twice")


@dataclass(frozen=True)
class Called:
    """The option's whole name on the command line, where it is not --part.field."""

    name: str


@dataclass(frozen=True)
class Names:
    """Texts that are headers of columns and names of folders."""

    def check(self, value: Sequence[str] | str, where: str) -> None:
        """Raise UserError for one that cannot be both."""
        for text in [value] if isinstance(value, str) else value:
            check_name(text, where)


class Options:
    """Base of the dataclasses of options: whatever makes one has it checked."""

    part: ClassVar[str] = ""
    """What its options begin with: --part.field."""

    def __post_init__(self) -> None:
        for name, (hint, rules) in _fields(type(self)).items():
            given = getattr(self, name)
            value = checked(given, hint, rules, self.where(name, given))
            if value is not given:
                object.__setattr__(self, name, value)  # the classes are frozen
        self.check_together()

    @classmethod
    def option(cls, name: str) -> str:
        """What a field is called on the command line."""
        called = [rule.name for rule in _fields(cls)[name][1] if isinstance(rule, Called)]
        return called[0] if called else f"--{cls.part + '.' if cls.part else ''}{name.replace('_', '-')}"

    @classmethod
    def where(cls, name: str, value: Any) -> str:
        """The option and its value, as a message begins."""
        return f"{cls.option(name)} {shown(value)}"

    def check_together(self) -> None:
        """Raise UserError for options that do not go together."""


def checked(value: Any, hint: Any, rules: Sequence[Any], where: str) -> Any:
    """A value as its type says, inside its ranges: NumPy's numbers become plain ones, sequences tuples, paths texts.

    Raises UserError, in words that begin with `where`.
    """
    value = _of_kind(value, hint, where)
    for rule in rules:
        if hasattr(rule, "check"):
            for number in value.values() if isinstance(value, dict) else [value]:
                rule.check(number, where)
    return value


def shown(value: Any) -> str:
    """A value as a message shows it: in one line, and not longer than 80 characters."""
    try:
        text = str(value) if isinstance(value, numbers.Number) else " ".join(ascii(value).split())
    except ValueError:  # Python writes out no number of more than some thousand digits
        text = "with thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def check_seed(seed: Any, option: str = "--seed") -> int:
    """A seed as an integer. Raises UserError for what is none."""
    return int(checked(seed, int, [Within(0, SEEDS - 1)], f"{option} {shown(seed)}"))


def check_index(value: Any, count: int, what: str) -> int:
    """One of so many, counted from 0. Raises UserError, in words that begin with `what`, for any other."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 0 <= int(value) < count:
        raise UserError(f"{what} {shown(value)}: there are {count}, numbered from 0")
    return int(value)


def check_batch(size: Any) -> int:
    """A number of texts that go through a model together. Raises UserError for what is none."""
    return int(checked(size, int, [Within(1, 10**6)], f"batch_size {shown(size)}"))


def check_known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise UserError for a name that is none of those known: with the nearest of them, in words that begin with `where`."""
    names = sorted(known)
    for name in given:
        if name not in names:
            nearest = max(names, key=lambda one: SequenceMatcher(None, name.lower(), one.lower()).ratio())
            raise UserError(f"{where}: {shown(name)} is no option; the nearest is {nearest!r}")


def check_name(name: Any, where: str) -> None:
    """Raise UserError unless a name can be the header of a column and the name of a folder."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: expected a name, got {name!r}")
    if name != name.strip() or not name.isprintable() or set(name) & set(',;"/\\:*?<>|') or name[0] in ".-=+@" or len(name.encode()) > 100:
        raise UserError(f"{where}: {name[:60]!a} cannot be the name of a column and of a folder; use letters, digits, - and _")


_KNOWN: dict[type, dict[str, tuple[Any, tuple[Any, ...]]]] = {}


def _fields(cls: type) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """(type, what else its annotation says) of each field."""
    if cls in _KNOWN:
        return _KNOWN[cls]
    hints = get_type_hints(cls, include_extras=True)
    split = {}
    for name, hint in hints.items():
        if get_origin(hint) is not ClassVar:
            split[name] = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    _KNOWN[cls] = split
    return split


def _of_kind(value: Any, hint: Any, where: str) -> Any:
    """The value as its type wants it. Raises UserError if it is of another."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin is Literal:
        if not isinstance(value, str) or value not in choices:
            raise UserError(f"{where}: expected {', '.join(map(str, choices[:-1]))} or {choices[-1]}")
        return value
    if origin in (Union, UnionType):
        if not isinstance(value, tuple(choices)):
            raise UserError(f"{where}: expected {' or '.join(choice.__name__ for choice in choices)}")
        return value
    if origin is tuple:
        return _texts(value, where) if choices[0] is str else _numbers(value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected a number by objective")
        return {name: _of_kind(number, float, where) for name, number in value.items()}
    return _plain(value, hint, where)


def _plain(value: Any, hint: type, where: str) -> Any:
    """The same for what has no parts."""
    if hint is str:
        return _text(value, where)
    boolean = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if hint is bool and boolean:
        return bool(value)
    if hint is int and isinstance(value, numbers.Integral) and not boolean:
        return int(value)
    if hint is float and isinstance(value, numbers.Real) and not boolean:
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where}: must be a finite number") from None
    if hint in (int, float, bool) or not isinstance(value, hint):
        kind = {int: "a whole number", float: "a number", bool: "True or False"}.get(hint, hint.__name__)
        raise UserError(f"{where}: expected {kind}, got {type(value).__name__}")
    return value


def _text(value: Any, where: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise UserError(f"{where}: expected a text, got {type(value).__name__}")
    if "\0" in text:
        raise UserError(f"{where}: holds a NUL character")
    if not is_unicode(text):
        raise UserError(f"{where}: not valid Unicode")
    return text


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise UserError(f"{where}: expected a list of numbers, got {type(value).__name__}")
    return tuple(_plain(number, float, where) for number in value)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise UserError(f"{where}: expected a list of texts, got {type(value).__name__}")
    return tuple(_text(text, where) for text in value)
