"""All exercises of the course, by name. A check loads its own notebook's module only."""

from __future__ import annotations

from importlib import import_module

from emorl_lite.base.errors import UserError
from emorl_lite.exercises.exercise import Exercise

TOPICS = {
    "00": "tour",
    "01": "reward_classifiers",
    "02": "ppo",
    "03": "ensembling",
    "04": "grid_search",
    "05": "exact_map",
    "06": "rivals",
    "07": "steerable",
    "08": "the_paper",
}
"""The module that holds a notebook's exercises."""


def exercises(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook ("02"), by name ("02.3"). Raises UserError where there is no such notebook."""
    if notebook not in TOPICS:
        raise UserError(f"{notebook}: no notebook of the course ({', '.join(TOPICS)})")
    module = import_module(f"emorl_lite.exercises.{TOPICS[notebook]}")
    found: tuple[Exercise, ...] = module.EXERCISES
    return {exercise.name: exercise for exercise in found}


def find(name: str) -> Exercise:
    """The exercise of this name ("02.3"). Raises UserError where there is none."""
    there = exercises(name.partition(".")[0])
    if name not in there:
        raise UserError(f"{name}: no such exercise ({', '.join(there) or 'this notebook has none'})")
    return there[name]
