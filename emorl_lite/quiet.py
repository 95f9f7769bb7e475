"""Warnings that peft and transformers give each other: readers can do nothing about them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """Without the deprecations that one library's call of another brings up (peft asks transformers 5.23 for an attribute of old name)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
