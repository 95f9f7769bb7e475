"""The exercises of notebook 08, the paper."""

from __future__ import annotations

from emorl_lite.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
