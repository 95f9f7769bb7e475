"""The exercises of notebook 00, the task and the tour."""

from __future__ import annotations

from emorl_lite.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
