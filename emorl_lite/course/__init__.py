"""A course made from the committed notebooks: handouts for students, assignments for nbgrader and Otter, updates of started work.

Nothing here is needed to read the notebooks: `python -m emorl_lite course` uses it, and whoever teaches.
"""

from typing import TYPE_CHECKING

from emorl_lite.base.lazy import lazily

if TYPE_CHECKING:
    from emorl_lite.course.handouts import handout
    from emorl_lite.course.lessons import Lesson, Question, read_lesson
    from emorl_lite.course.making import make_course

__all__ = ["Lesson", "Question", "handout", "make_course", "read_lesson"]

_LESSONS = {name: "lessons" for name in ("Lesson", "Question", "read_lesson")}
__getattr__, __dir__ = lazily(__name__, _LESSONS | {"handout": "handouts", "make_course": "making"})
