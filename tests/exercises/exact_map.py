"""Answers to the exercises of notebook 05, every weight at once: near misses that must be refused, and styles that must pass."""

NEAR_MISSES: dict[str, dict[str, str]] = {}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
