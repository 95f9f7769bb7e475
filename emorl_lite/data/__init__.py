"""Prompts and replies: the small world, and files of third parties (notebook 00)."""

from emorl_lite.data.datasets import Dataset, Example, load_dataset
from emorl_lite.data.downloads import fetch, is_there
from emorl_lite.data.small_world import FEELING_LEADS, Client, Grammar, Reply, grammar, to_second_person

__all__ = [
    "FEELING_LEADS",
    "Client",
    "Dataset",
    "Example",
    "Grammar",
    "Reply",
    "fetch",
    "grammar",
    "is_there",
    "load_dataset",
    "to_second_person",
]
