"""What is wrong with one answer beside the expected one: its type, its shape, a NaN, or its value. Never what was expected instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from emorl_lite.exercises.plain import Plain, is_finite, is_number, leaves, shape, type_in_words


@dataclass(frozen=True)
class Fault:
    """`sentence`: what to tell, a clause that begins with a verb; None where only the value is wrong."""

    sentence: str | None = None


def fault(
    answer: Plain, expected: Plain, tolerance: float, exact: bool, equal: Callable[[Plain, Plain], bool] | None = None
) -> Fault | None:
    """None where the answer is right. All plain; `exact`: whole numbers, compared without a tolerance."""
    if answer is None or expected is None:  # where nothing may be an answer: a wrong value at most
        return None if answer is expected else Fault()
    told = _wrong_type(answer, expected)
    if told is not None:
        return Fault(told)
    if equal is not None:
        return _by_its_own(equal, answer, expected)
    told = _wrong_shape(answer, expected) or _wrong_parts(answer, expected) or _not_finite(answer, expected)
    if told is not None:
        return Fault(told)
    return None if _same(answer, expected, 0.0 if exact else tolerance) else Fault()


def _by_its_own(equal: Callable[[Plain, Plain], bool], answer: Plain, expected: Plain) -> Fault | None:
    if not all(map(is_finite, leaves(answer))) and all(map(is_finite, leaves(expected))):
        return Fault(_not_finite(answer, expected))
    try:
        return None if equal(answer, expected) else Fault()
    except Exception:  # made for another shape
        return Fault(_wrong_shape(answer, expected))


def _wrong_type(answer: Plain, expected: Plain) -> str | None:
    if _kind(answer) == _kind(expected):
        return None
    if isinstance(expected, set) and isinstance(answer, list):
        return None
    if not isinstance(expected, (list, set, dict)) and shape(answer) in ((1,), (1, 1)):
        return f"returns {'one value' if _kind(expected) != 'a number' else 'one number'} inside a list or an array: return it itself"
    if isinstance(answer, list) and not isinstance(expected, (list, set, dict)):
        return f"returns {_shape_in_words(answer)}, and {_kind(expected)} is expected"
    if isinstance(expected, list) and not isinstance(answer, (list, set, dict)):
        return f"returns {_kind(answer)}, and {_shape_in_words(expected)} is expected"
    return f"returns {_kind(answer)}, and {_kind(expected)} is expected"


def _kind(value: Plain) -> str:
    return type_in_words(value)


def _shape_in_words(value: Plain) -> str:
    sizes = shape(value)
    if sizes is None:
        return f"a list of {len(value)} parts"
    if len(sizes) == 1:
        return f"a list of length {sizes[0]}"
    return f"values of shape {sizes}"


def _wrong_shape(answer: Plain, expected: Plain) -> str | None:
    if not isinstance(answer, list) or not isinstance(expected, list):
        return None
    here, there = shape(answer), shape(expected)
    if here != there and here is not None and there is not None:
        return f"returns {_shape_in_words(answer)}, and {_shape_in_words(expected)} is expected"
    if len(answer) != len(expected):
        return f"returns {len(answer)} parts, and {len(expected)} are expected"
    if here == there and here is not None:
        return None
    for i, (part, wanted) in enumerate(zip(answer, expected, strict=True)):
        if isinstance(part, list) != isinstance(wanted, list):
            return f"returns {_described(part)} as part {i} of the result, and {_described(wanted)} is expected there"
        told = _wrong_shape(part, wanted)
        if told is not None:
            return f"{told} as part {i} of the result"
    return None


def _described(value: Plain) -> str:
    return _shape_in_words(value) if isinstance(value, list) else _kind(value)


def _wrong_parts(answer: Plain, expected: Plain) -> str | None:
    """A number where True or False is expected, a text where a number is, and the like, inside lists and dictionaries."""
    if isinstance(expected, dict):
        missing = [str(key) for key in expected if key not in answer]
        if missing or len(answer) != len(expected):
            return f"returns a dictionary of {len(answer)} keys, and {len(expected)} {'are' if len(expected) != 1 else 'is'} expected" + (
                "" if len(answer) != len(expected) else ", with other names"
            )
        pairs = [(answer[key], expected[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(answer, list):
        pairs = list(zip(answer, expected, strict=True))
    else:
        return None
    for part, wanted in pairs:
        if isinstance(wanted, (list, dict)):
            told = (_wrong_type(part, wanted) or _wrong_shape(part, wanted) or _wrong_parts(part, wanted)) if wanted is not None else None
            if told is not None:
                return f"{told}, inside the result"
        elif wanted is not None and _kind(part) != _kind(wanted):
            return f"returns {_kind(part)} inside the result, and {_kind(wanted)} is expected there"
    return None


def _not_finite(answer: Plain, expected: Plain) -> str | None:
    def of(value: Plain) -> list[Plain]:
        return [part for part in leaves(value) if is_number(part)]

    if any(math.isnan(part) for part in of(answer)) and not any(math.isnan(part) for part in of(expected)):
        return "returns NaN (not a number)"
    if any(math.isinf(part) for part in of(answer)) and not any(math.isinf(part) for part in of(expected)):
        return "returns an infinite number"
    return None


def _same(answer: Plain, expected: Plain, tolerance: float) -> bool:
    if is_number(expected):
        if not is_number(answer):
            return False
        if math.isnan(expected) or math.isinf(expected):
            return answer == expected or (math.isnan(expected) and math.isnan(answer))
        return math.isclose(answer, expected, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(expected)
            and all(_same(a, b, tolerance) for a, b in zip(answer, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and set(answer) == set(expected)
            and all(_same(answer[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, set):
        return isinstance(answer, (list, set)) and len(answer) == len(expected) and all(_frozen(part) in expected for part in answer)
    return bool(answer == expected) and _kind(answer) == _kind(expected)


def _frozen(value: Plain) -> Plain:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return None if isinstance(value, (set, dict)) else value  # these are in no set
