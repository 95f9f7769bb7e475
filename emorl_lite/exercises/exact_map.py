"""The exercises of notebook 05, every weight at once."""

from __future__ import annotations

from emorl_lite.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
