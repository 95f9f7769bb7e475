"""The notebooks' exercises: a reference answer for each, cases that tell wrong answers from right ones, and how an answer is judged.

Loaded name by name: a check needs its own notebook's exercises only.
"""

from typing import TYPE_CHECKING

from emorl_lite.base.lazy import lazily

if TYPE_CHECKING:
    from emorl_lite.exercises.course import TOPICS, exercises, find
    from emorl_lite.exercises.exercise import Case, Exercise
    from emorl_lite.exercises.judging import Verdict, judge

__all__ = ["TOPICS", "Case", "Exercise", "Verdict", "exercises", "find", "judge"]

_COURSE = {name: "course" for name in ("TOPICS", "exercises", "find")}
_JUDGING = {name: "judging" for name in ("Verdict", "judge")}
__getattr__, __dir__ = lazily(__name__, _COURSE | {name: "exercise" for name in ("Case", "Exercise")} | _JUDGING)
