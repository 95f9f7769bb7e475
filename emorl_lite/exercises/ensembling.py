"""The exercises of notebook 03, hidden-state ensembling."""

from __future__ import annotations

from emorl_lite.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
