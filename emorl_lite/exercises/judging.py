"""The verdict on an answer: unsolved, right in so many cases, or one sentence that says what is wrong without saying the answer."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emorl_lite.exercises.calling import Called, call, copied, is_stub, steady, takes
from emorl_lite.exercises.comparing import Fault, fault
from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.exercises.plain import Plain, UnreadableError, is_number, leaves, plain, roughness

NAMED = 5
"""So many kinds of wrong cases are named."""


@dataclass(frozen=True)
class Verdict:
    """`wrong`: the sentence; None where the answer is unsolved, or right in `cases` cases. `printed`: by it, in the first wrong one."""

    cases: int = 0
    unsolved: bool = False
    wrong: str | None = None
    printed: str = ""


def judge(exercise: Exercise, answer: Any, seed: int = 0) -> Verdict:
    """What is to be said of an answer to an exercise. `seed`: of the cases; 0 for those that readers are asked."""
    if is_stub(answer):
        return Verdict(unsolved=True)
    if exercise.cases is None:
        return _judge_value(exercise, answer)
    if not callable(answer):
        return Verdict(wrong=f"{_named(exercise)} wants a function: give the function itself, without calling it.")
    cases = exercise.drawn(seed)
    if not takes(answer, cases[0].arguments):
        return wrong_arguments(exercise)
    expected = expected_of(exercise, cases)
    with steady():
        calls = [call(answer, case.arguments) for case in cases]
    return judge_calls(exercise, cases, calls, expected)


def expected_of(exercise: Exercise, cases: list[Case]) -> list[Plain]:
    """What the reference answers in each case."""
    with steady():
        return [plain(exercise.reference(*copied(case.arguments))) for case in cases]


def wrong_arguments(exercise: Exercise) -> Verdict:
    """What a function is told that cannot be called as it is asked to be."""
    parameters = ", ".join(inspect.signature(exercise.reference).parameters)
    return Verdict(wrong=f"{_named(exercise)}: your function does not take its arguments, ({parameters}).")


def judge_calls(exercise: Exercise, cases: list[Case], calls: list[Called], expected: list[Plain]) -> Verdict:
    """What is to be said of a function that was called in each case, here or in another process."""
    if any(map(_met_a_stub, calls)):
        return Verdict(unsolved=True)
    return _judge_calls(exercise, cases, calls, expected)


def _named(exercise: Exercise) -> str:
    return f"Exercise {exercise.name}"


def _met_a_stub(called: Called) -> bool:
    return called.unsolved or _holds_a_stub(called.result)


def _holds_a_stub(result: Any) -> bool:
    try:
        return any(leaf is Ellipsis for leaf in leaves(plain(result)))
    except UnreadableError:
        return False


def _judge_value(exercise: Exercise, answer: Any) -> Verdict:
    if _holds_a_stub(answer):
        return Verdict(unsolved=True)
    if callable(answer):
        return Verdict(wrong=f"{_named(exercise)} wants {exercise.returns}, not a function.")
    if answer is None:
        return Verdict(wrong=f"{_named(exercise)} wants {exercise.returns}; your answer is None.")
    expected = plain(exercise.reference())
    found = _fault(exercise, answer, expected, _whole([expected]))
    if found is None:
        return Verdict(cases=1)
    if found.sentence is None:
        return Verdict(wrong=f"{_named(exercise)}: not the right answer; {exercise.returns} is expected.")
    clause = found.sentence.replace("returns", "is", 1) if found.sentence.startswith("returns") else found.sentence
    return Verdict(wrong=f"{_named(exercise)}: your answer {clause.replace('return it itself', 'give it itself')} ({exercise.returns}).")


def _whole(expected: list[Plain]) -> bool:
    numbers = [leaf for leaf in leaves(expected) if is_number(leaf)]
    return all(isinstance(number, int) for number in numbers)


def _fault(exercise: Exercise, answer: Any, expected: Plain, exact: bool) -> Fault | None:
    try:
        readable = plain(answer)
    except UnreadableError as problem:
        return Fault(f"returns {problem}, and a plain value or a list is expected")
    tolerance = max(exercise.tolerance, roughness(answer))
    return fault(readable, expected, tolerance, exact, exercise.equal)


def _judge_calls(exercise: Exercise, cases: list[Case], calls: list[Called], expected: list[Plain]) -> Verdict:
    """The first that holds in any case: it raises, returns nothing, returns something else, changes an argument, is wrong."""
    name = _named(exercise)
    none_is_right = any(value is None for value in expected) and any(called.result is not None for called in calls)

    def first(is_so: Callable[[int], bool]) -> int | None:
        return next((i for i in range(len(cases)) if is_so(i)), None)

    def told(i: int, sentence: str) -> Verdict:
        return Verdict(wrong=f'{name}: your function {sentence}, in the case "{cases[i].kind}".', printed=calls[i].printed)

    i = first(lambda i: calls[i].raised is not None)
    if i is not None:
        return told(i, f"raises {calls[i].raised}")
    i = None if none_is_right else first(lambda i: calls[i].result is None)
    if i is not None:
        how = "prints, and returns nothing (None): return the result" if calls[i].printed else "returns nothing (None): a return is missing"
        return told(i, how)
    exact = _whole(expected)
    faults = [_fault(exercise, called.result, value, exact) for called, value in zip(calls, expected, strict=True)]
    for i, found in enumerate(faults):
        if found is not None and found.sentence is not None:
            return told(i, f"{found.sentence} ({exercise.returns})" if "expected" in found.sentence else found.sentence)
    i = first(lambda i: calls[i].changed is not None)
    if i is not None:
        parameter = list(inspect.signature(exercise.reference).parameters)[calls[i].changed or 0]
        return told(i, f"changes its argument {parameter}, which belongs to its caller: work on a copy")
    wrong = [i for i, found in enumerate(faults) if found is not None]
    if not wrong:
        return Verdict(cases=len(cases))
    return Verdict(wrong=f"{name}: wrong in {_kinds(cases, wrong)}.", printed=calls[wrong[0]].printed)


def _kinds(cases: list[Case], wrong: list[int]) -> str:
    if len(wrong) == len(cases):
        return f"all {len(cases)} cases"
    of_all = Counter(case.kind for case in cases)
    of_wrong = Counter(cases[i].kind for i in wrong)
    named = [f'"{kind}" ({count} of {of_all[kind]})' for kind, count in of_wrong.items()]
    more = f", and {len(named) - NAMED} more kinds" if len(named) > NAMED else ""
    return f"{len(wrong)} of {len(cases)} cases: {', '.join(named[:NAMED])}{more}"
