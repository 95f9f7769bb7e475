"""The exercises of notebook 06, the rivals."""

from __future__ import annotations

from emorl_lite.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
