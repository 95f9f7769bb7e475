"""Warnings that peft and transformers give each other: readers can do nothing about them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def quietly(call: Callable[P, R]) -> Callable[P, R]:
    """The same call without the deprecations of one library in another (peft asks transformers 5.23 for an attribute of old name), and
    without peft's notes that it sets `fan_in_fan_out` rightly by itself for GPT-2's layers, and that an adapter it deletes was active."""

    @wraps(call)
    def without_deprecations(*args: P.args, **options: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
            return call(*args, **options)

    return without_deprecations
