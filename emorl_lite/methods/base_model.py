"""The base model as it is: where every method starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from emorl_lite.lm.model import LanguageModel
from emorl_lite.methods.base import Knob, Method, Setting
from emorl_lite.methods.bench import Cost


class BaseModel(Method):
    """No training, no adapter."""

    name = "base"
    family = "single policy"
    knob: Knob = "none"
    reference = "-"
    trains = "nothing"
    decodes = "the base model"

    def prepare(self) -> Cost:
        """Nothing to do."""
        return Cost()

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[LanguageModel]:
        """The model without adapters."""
        with self.bench.lm.without_adapters():
            yield self.bench.lm
