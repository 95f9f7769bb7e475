"""DeRa: change the strength of an aligned policy's KL regularisation while it decodes (arXiv 2402.02992)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from emorl_lite.base.errors import UserError
from emorl_lite.ensemble.corners import Corners, Source, line
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.methods.base import Knob, Method, Setting
from emorl_lite.methods.bench import Bench, Cost
from emorl_lite.methods.uniform import Uniform

REFERENCE = "reference"
"""Adapter with B = 0, which is the base model: it lets base and policy share one forward pass of two rows."""
STRONGEST = 4.0
"""Strength up to which the exact map goes; further ones are decoded one by one."""


class DeRa(Method):
    """z = z_ref + lambda (z_aligned - z_ref), which stands for a policy trained with the KL coefficient beta / lambda.

    lambda = 0 is the base, 1 the aligned policy, above 1 extrapolates. The aligned policy is the uniformly weighted one: DeRa's knob is
    how much to align, not to what, so it has no objective weights. Two model calls a token. Every word's score is a line in lambda, so the
    replies at all strengths are known at once.
    """

    name = "dera"
    family = "decoding"
    knob: Knob = "strength"
    reference = "arXiv 2402.02992"
    trains = "nothing beyond the uniform policy"
    decodes = "base and policy at every token"
    needs = ("uniform",)

    def __init__(self, bench: Bench):
        super().__init__(bench)
        self.aligned = Uniform(bench)

    def prepare(self) -> Cost:
        """Train or load the aligned policy."""
        cost = self.aligned.prepare()
        add_reference(self.bench)
        return cost

    @property
    def calls(self) -> int:
        """Base and policy."""
        return 2

    @property
    def default(self) -> tuple[float, ...]:
        """The strength that was trained."""
        return (1.0,)

    def corners(self) -> Corners:
        """Base and aligned policy, on a line that goes on beyond the policy."""
        lm = self.bench.lm
        return line(Source(lm), Source(lm, self.aligned.name), 0.0, STRONGEST, names=["base", "aligned"])

    def replies_at(self, prompts: Sequence[str], settings: Sequence[Sequence[float]]) -> list[list[str]]:
        """Greedy replies at many strengths, all in one prefix tree but for those beyond its line."""
        far = [bool(len(setting)) and setting[0] > STRONGEST for setting in settings]
        near = iter(super().replies_at(prompts, [s for s, beyond in zip(settings, far, strict=True) if not beyond]))
        return [self.reply(prompts, s) if beyond else next(near) for s, beyond in zip(settings, far, strict=True)]

    def settings(self, steps: int) -> list[tuple[float, ...]]:
        """Strengths from none to twice the trained one."""
        return [(x / 4,) for x in range(9)]

    def check(self, setting: Setting) -> None:
        """Raise UserError unless the setting is one finite number, not negative."""
        values = list(setting or ())
        if len(values) != 1 or not 0 <= values[0] < float("inf"):
            raise UserError(f"method {self.name}: expected one strength, not negative, got {values}")

    @contextmanager
    def policy(self, setting: Setting = None) -> Iterator[EnsembleLM]:
        """The policy at this strength (lambda), the trained one by default."""
        (strength,) = setting or self.default
        names = [REFERENCE, self.aligned.name]
        yield EnsembleLM(self.bench.lm, names, weights=(1 - strength, strength), mix="logits", signed=True)


def add_reference(bench: Bench) -> str:
    """Add an adapter that changes nothing, unless it is there; the active adapter stays active. Returns its name."""
    lm = bench.lm
    if REFERENCE not in lm.adapters:
        before, state = lm.model.active_adapter, torch.get_rng_state()
        lm.add_adapter(REFERENCE)
        torch.set_rng_state(state)
        lm.use(before)
    return REFERENCE
