"""From what an answer's process wrote to points and one sentence: judged here, where no answer ever runs."""

from __future__ import annotations

import builtins
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from emorl_lite.course.carried import unpacked
from emorl_lite.course.fence import ALL_TRIED
from emorl_lite.course.lessons import Question
from emorl_lite.exercises.calling import Called
from emorl_lite.exercises.course import find
from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.exercises.judging import Verdict, expected_of, judge, judge_calls, wrong_arguments
from emorl_lite.exercises.plain import Plain

RIGHT, UNSOLVED, DELETED, MISSING = "right", "not solved", "its cell is not there any more", "not handed in"


@dataclass(frozen=True)
class Mark:
    """What an exercise earned. `what`: in one phrase. `tried`: what the answer tried and may not; it costs nothing by itself."""

    question: Question
    points: float
    what: str
    tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Key:
    """An exercise with the cases that it is asked when graded, and what is right in each (none where a value is asked)."""

    question: Question
    exercise: Exercise
    cases: list[Case] = field(default_factory=list)
    expected: list[Plain] = field(default_factory=list)


def key_of(question: Question, seed: int) -> Key:
    """The key of a checked exercise. `seed`: of the cases, 0 for those that every reader has."""
    exercise = find(question.name)
    if exercise.cases is None:
        return Key(question, exercise)
    cases = exercise.drawn(seed)
    return Key(question, exercise, cases, expected_of(exercise, cases))


def mark(key: Key, outcome: Mapping[str, Any], source: str, seconds: float, gigabytes: float) -> Mark:
    """The mark of an answer. `outcome`: as its process left it, of which nothing is taken on trust. `source`: its cell."""
    said = outcome.get("tried")
    tried = tuple(what for what in ALL_TRIED if isinstance(said, list) and what in said)
    what = _ended(outcome, seconds, gigabytes)
    if what is None:
        try:
            what = _in_a_phrase(_verdict(key, outcome, source), gigabytes)
        except (ValueError, TypeError, KeyError, RecursionError):  # not as an answer's process writes it
            what = "its process wrote no result"
    return Mark(key.question, key.question.points if what == RIGHT else 0, what, tried)


def _ended(outcome: Mapping[str, Any], seconds: float, gigabytes: float) -> str | None:
    """What became of an answer that came to no result."""
    state, code = outcome.get("state"), outcome.get("code")
    if state == "late" or (state == "ended" and hasattr(signal, "SIGXCPU") and code == -signal.SIGXCPU):
        return f"takes more than {seconds:g} seconds"
    if state == "memory":
        return _too_much(gigabytes)
    if state == "large":
        return "returns far too much"
    if state == "ended":
        if isinstance(code, int) and code < 0:
            with suppress(ValueError):
                return f"its process crashes ({signal.Signals(-code).name})"
        return "ends its process"
    return "its process wrote no result" if state == "garbled" else None


def _too_much(gigabytes: float) -> str:
    return f"takes more than {gigabytes:g} GB of memory"


def _in_a_phrase(verdict: Verdict, gigabytes: float) -> str:
    if verdict.unsolved:
        return UNSOLVED
    if verdict.wrong is None:
        return RIGHT
    if "raises MemoryError" in verdict.wrong:
        return _too_much(gigabytes)
    return re.sub(r"^Exercise [\d.]+:? ", "", verdict.wrong).rstrip(".")


def _verdict(key: Key, outcome: Mapping[str, Any], source: str) -> Verdict:
    state, exercise = outcome["state"], key.exercise
    if state == "stub":
        return Verdict(unsolved=True)
    if state == "nameless":
        return Verdict(wrong=f"its cell does not define {key.question.called}")
    if state == "raised":
        raised = _raised(outcome["raised"], source)
        return Verdict(
            wrong="its cell is no Python" + raised.removeprefix("SyntaxError") if "SyntaxError" in raised else f"raises {raised}"
        )
    if state == "value":
        answer = len if outcome["callable"] is True else unpacked(outcome["value"])
        return judge(exercise, answer)
    if exercise.cases is None:
        raise ValueError("no value")
    if state == "arguments":
        return wrong_arguments(exercise)
    calls = [_call(call, key, source) for call in outcome["calls"]]
    if state != "called" or len(calls) != len(key.cases):
        raise ValueError("no result")
    return judge_calls(exercise, key.cases, calls, key.expected)


def _call(call: Mapping[str, Any], key: Key, source: str) -> Called:
    changed = call["changed"]
    if changed is not None and not (type(changed) is int and 0 <= changed < len(key.cases[0].arguments)):
        raise ValueError("no argument")
    raised = None if call["raised"] is None else _raised(call["raised"], source)
    printed = "." if call["printed"] is True else ""  # that it prints is told, and not what
    return Called(unpacked(call["result"]), printed, raised, changed, call["unsolved"] is True)


def _raised(raised: list[Any], source: str) -> str:
    """What was raised, in words that are Python's or stand in the answer itself: others could tell what it was asked."""
    kind, line, name = raised
    known = isinstance(getattr(builtins, str(kind), None), type) or re.search(rf"\b{re.escape(str(kind))}\b", source)
    words = str(kind) if known else "an exception"
    if name and isinstance(name, str) and re.search(rf"\b{re.escape(name)}\b", source):
        words += f" ({name})"
    if type(line) is int and 0 < line <= source.count("\n") + 1:
        words += f" in its line {line}"
    return words
