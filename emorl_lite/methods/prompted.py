"""The prompt-conditioned policy: weights as words in the prompt, the baseline that parameter-space conditioning is measured against."""

from __future__ import annotations

from emorl_lite.methods.conditioning import WeightsAsText
from emorl_lite.methods.steerable import Steerable


class Prompted(Steerable):
    """max E_w E[sum_i w_i r_i - beta(w) KL], the policy reading "most reflection, little empathy, no fluency." before its prompt.

    The baseline of CLP (arXiv 2407.15762), there with numbers as text. Here each weight becomes the nearest of six words, in the order of
    the objectives (the tiny tokenizer knows only one of their names; what it does not know is told by its place). The reference of the
    KL term is the base model on the prompt alone.
    """

    name = "prompted"
    reference = "arXiv 2407.15762 (its prompt baseline)"
    trains = "one adapter, weights as words in the prompt"
    decodes = "one adapter, a longer prompt"
    conditioning: WeightsAsText

    def make_conditioning(self) -> WeightsAsText:
        """Weights as text."""
        return WeightsAsText(self.bench.lm, self.name, self.bench.names)
