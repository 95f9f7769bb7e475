"""Words for numbers: signs, counts, shares and intervals, right at zero, one, all and nan too.

An interval is a mapping with mean, low and high; low and high are nan where one value alone says nothing of the spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def number(value: float, digits: int = 2) -> str:
    """0.50, −0.20, 1,200 (digits 0), never −0.00; "not known" for nan."""
    if not math.isfinite(value):
        return "not known"
    rounded = round(value, digits) + 0.0
    return ("−" if rounded < 0 else "") + f"{abs(rounded):,.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """+0.050, −0.200, 0.000; "not known" for nan."""
    return ("+" if math.isfinite(value) and round(value, digits) > 0 else "") + number(value, digits)


def with_spread(mean: float, spread: float, digits: int = 3) -> str:
    """A mean and its standard deviation: "0.768 ± 0.021"; the mean alone where the spread is nan, as that of one value is."""
    return number(mean, digits) + ("" if math.isnan(spread) else f" ± {number(spread, digits)}")


def told(found: Mapping[str, float], digits: int = 3) -> str:
    """A difference with its interval: "+0.054 [+0.037, +0.071]"; "not measured" for nan; without ends for one value."""
    if not math.isfinite(found["mean"]):
        return "not measured"
    if not math.isfinite(found["low"]):
        return f"{signed(found['mean'], digits)} (no interval)"
    return f"{signed(found['mean'], digits)} [{signed(found['low'], digits)}, {signed(found['high'], digits)}]"


def by_sign(found: Mapping[str, float], above: T, below: T, unclear: T) -> T:
    """Which of three holds of a difference: its interval lies above zero, below zero, or neither."""
    return above if found["low"] > 0 else below if found["high"] < 0 else unclear


def judged(found: Mapping[str, float], above: str, below: str, unclear: str = "no clear difference", digits: int = 3) -> str:
    """`told` and `by_sign` in one: "+0.054 [+0.037, +0.071], more"; nothing is judged that was not measured, or on one value."""
    if not math.isfinite(found["mean"]):
        return told(found, digits)
    alone = not math.isfinite(found["low"])
    return f"{told(found, digits)}, {'which one value cannot judge' if alone else by_sign(found, above, below, unclear)}"


def counted(n: int, one: str, many: str = "") -> str:
    """ "no replies", "1 reply", "1,200 replies"; `many`: the plural where it is not `one` + s."""
    return f"{n:,} {one}" if n == 1 else f"{n or 'no':{',' if n else ''}} {many or one + 's'}"


def percent(share: float) -> str:
    """A share between 0 and 1: "0 %" and "100 %" only where it is exactly that."""
    if not math.isfinite(share):
        return "not known"
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.99 < share < 1:
        return "over 99 %"
    return f"{share:.0%}".replace("%", " %")


def listing(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"; "none" for no items."""
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items) or "none"


def part(k: int, n: int, one: str, many: str = "") -> str:
    """ "none of 192 clients", "190 of 192 clients", "all 192 clients"; "the one client", "not the one client" if there is but one."""
    if n == 1:
        return f"{'' if k else 'not '}the one {one}"
    many = many or one + "s"
    return f"all {n:,} {many}" if k == n else f"{f'{k:,}' if k else 'none'} of {n:,} {many}"


def span(low: float, high: float, digits: int = 2) -> str:
    """ "0.20 to 0.35", and one number where both are the same: "0.20"."""
    first, last = number(low, digits), number(high, digits)
    return first if first == last else f"{first} to {last}"
