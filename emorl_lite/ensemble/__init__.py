"""Many adapters in one forward pass, their hidden states mixed at every token (notebook 03)."""

from emorl_lite.ensemble.corners import (
    Corners,
    Source,
    adapter_corners,
    affine,
    contrast,
    expert_corners,
    guidance,
    line,
    simplex_corners,
    with_temperature,
)
from emorl_lite.ensemble.ensemble import EnsembleLM, mix_harmonic, mix_hidden, mix_logits, mix_probabilities
from emorl_lite.ensemble.layers import LayerEnsemble
from emorl_lite.ensemble.prefix_tree import PrefixTree

__all__ = [
    "Corners",
    "EnsembleLM",
    "LayerEnsemble",
    "PrefixTree",
    "Source",
    "adapter_corners",
    "affine",
    "contrast",
    "expert_corners",
    "guidance",
    "line",
    "mix_harmonic",
    "mix_hidden",
    "mix_logits",
    "mix_probabilities",
    "simplex_corners",
    "with_temperature",
]
