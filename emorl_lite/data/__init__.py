"""Prompts and replies: the small world, and files of third parties (notebook 00)."""

from emorl_lite.data.datasets import Dataset, Example, load_dataset
from emorl_lite.data.small_world import Client, Grammar, Reply, grammar

__all__ = [
    "Client",
    "Dataset",
    "Example",
    "Grammar",
    "Reply",
    "grammar",
    "load_dataset",
]
