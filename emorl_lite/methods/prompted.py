"""The prompt-conditioned policy: weights as words in the prompt, the baseline that parameter-space conditioning is measured against."""

from __future__ import annotations

import torch
from torch import Tensor

from emorl_lite.methods.conditioning import WeightsAsText
from emorl_lite.methods.steerable import Steerable
from emorl_lite.simplex_grid import compositions


class Prompted(Steerable):
    """max E_w E[sum_i w_i r_i - beta(w) KL], the policy reading "most reflection, little empathy, no fluency." before its prompt.

    The baseline of CLP (arXiv 2407.15762), there with numbers as text. Here weights are multiples of 1/5, one word each; the reference of
    the KL term is the base model on the prompt alone.
    """

    name = "prompted"
    reference = "arXiv 2407.15762 (its prompt baseline)"
    trains = "one adapter, weights as words in the prompt"
    decodes = "one adapter, a longer prompt"
    conditioning: WeightsAsText

    def make_conditioning(self) -> WeightsAsText:
        """Weights as text."""
        return WeightsAsText(self.bench.lm, self.name, self.bench.names)

    def draw(self, n: int) -> Tensor:
        """Grid points of spacing 1/5, each as likely as the other."""
        steps = len(WeightsAsText.WORDS) - 1
        grid = torch.tensor(compositions(len(self.bench.names), steps)) / steps
        return grid[torch.randint(len(grid), (n,))]
