"""A module that does something else for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class TokenWise:
    """A forward that makes the same of a token in whichever row it stands: a model with it can still be read packed (`packing`)."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)


@contextmanager
def swapped_forward(module: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Inside, `module(...)` calls `function`; afterwards, also after an error, the module is what it was."""
    before = vars(module).get("forward")  # an instance attribute only if someone else has swapped it already
    module.forward = function
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
