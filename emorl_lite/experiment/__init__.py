"""One preset and seed, on disk."""

from emorl_lite.experiment.experiment import Experiment

__all__ = [
    "Experiment",
]
