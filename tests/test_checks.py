"""What a check tells of an answer: unsolved, right, or one sentence that says what is wrong and not what is right."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.exercises import course
from emorl_lite.exercises.exercise import Case, Exercise
from emorl_lite.exercises.judging import judge
from emorl_lite.tutorial import check

pytestmark = pytest.mark.plain


def cases(random):
    for n in range(2, 17):
        yield Case("drawn at random", (random.random(n).tolist(), 2.0))
    yield Case("a single score", ([0.25], 2.0))
    yield Case("no factor", ([0.25, 0.75], 0.0))


SCALED = Exercise("02.1", lambda scores, factor: [factor * x for x in scores], cases, "a list of T numbers")
TOTAL = Exercise("02.2", lambda scores, factor: factor * sum(scores), cases, "a number")
MANY = Exercise("02.3", lambda scores, factor: len(scores) > 5, cases, "True or False")
COUNT = Exercise("02.4", lambda scores, factor: 100_000 + len(scores), cases, "a whole number")
VALUE = Exercise("02.5", lambda: 0.3125, None, "a number")
NAMES = Exercise("02.6", lambda: {"PPO", "CLP"}, None, "the names")
TEXT = Exercise("02.7", lambda scores, factor: "many" if len(scores) > 5 else "few", cases, '"many" or "few"')
TABLE = Exercise("02.8", lambda scores, factor: {"mean": sum(scores) / len(scores), "n": len(scores)}, cases, "a dictionary: mean, n")
PAIR = Exercise("02.9", lambda scores, factor: (scores, len(scores)), cases, "the scores and their number")
MAYBE = Exercise("02.10", lambda scores, factor: None if factor == 0 else factor, cases, "a number or None")


def wrong(exercise, answer) -> str:
    told = judge(exercise, answer).wrong
    assert told is not None and told.startswith(f"Exercise {exercise.name}") and told.endswith(".") and "\n" not in told, told
    return told


# -- unsolved


def empty(scores, factor): ...


def described(scores, factor):
    """Only a docstring."""
    ...


def gone_on(scores, factor):
    total = ...
    return total * factor


def half_done(scores, factor):
    return [factor * x for x in scores] if factor else ...


@pytest.mark.parametrize(
    "stub", [..., empty, described, gone_on, half_done, lambda scores, factor: ..., lambda scores, factor: (..., ...), lambda: ...]
)
def test_stubs_are_unsolved(stub):
    assert judge(SCALED, stub).unsolved


@pytest.mark.parametrize("stub", [..., (..., ...), [1, ...]])
def test_stubs_of_a_value_are_unsolved(stub):
    assert judge(VALUE, stub).unsolved


# -- right, in any library's numbers


@pytest.mark.parametrize(
    "answer",
    [
        lambda s, f: [f * x for x in s],
        lambda s, f: tuple(f * x for x in s),
        lambda s, f: f * np.array(s),
        lambda s, f: f * np.array(s, dtype=np.float16),
        lambda s, f: pd.Series(s) * f,
        lambda s, f: f * torch.tensor(s),
        lambda s, f: f * torch.tensor(s, dtype=torch.bfloat16),
        lambda s, f: f * torch.tensor(s, requires_grad=True),
        lambda s, f: [Fraction(f) * Fraction(x) for x in s],
        lambda s, f: [Decimal(f) * Decimal(x) for x in s],
        lambda s, f: [torch.tensor(f * x) for x in s],
        lambda s, f: np.array([f * x for x in s], dtype=object),
    ],
)
def test_lists_are_accepted(answer):
    assert judge(SCALED, answer).cases == 17


@pytest.mark.parametrize(
    "answer",
    [
        lambda s, f: f * sum(s),
        lambda s, f: np.sum(s) * f,
        lambda s, f: np.array(f * sum(s)),
        lambda s, f: torch.tensor(s).sum() * f,
        lambda s, f: Fraction(f * sum(s)),
    ],
)
def test_numbers_are_accepted(answer):
    assert judge(TOTAL, answer).cases == 17


@pytest.mark.parametrize("answer", [lambda s, f: len(s) > 5, lambda s, f: np.size(s) > np.int64(5), lambda s, f: torch.tensor(len(s)) > 5])
def test_true_and_false_are_accepted(answer):
    assert judge(MANY, answer).cases == 17


@pytest.mark.parametrize("answer", [0.3125, 0.31251, np.float32(0.3125), torch.tensor(0.3125), Fraction(5, 16), Decimal("0.3125")])
def test_values_are_accepted(answer):
    assert judge(VALUE, answer).cases == 1


@pytest.mark.parametrize("answer", [{"CLP", "PPO"}, ["PPO", "CLP"], ("CLP", "PPO"), frozenset({"CLP", "PPO"}), np.array(["CLP", "PPO"])])
def test_sets_are_accepted_in_any_order(answer):
    assert judge(NAMES, answer).cases == 1


def test_other_shapes_of_answers():
    assert judge(TEXT, lambda s, f: np.str_("many") if len(s) > 5 else "few").cases == 17
    assert judge(TABLE, lambda s, f: {"n": torch.tensor(len(s)), "mean": np.mean(s)}).cases == 17
    assert judge(PAIR, lambda s, f: [np.array(s), float(len(s))]).cases == 17
    assert judge(MAYBE, lambda s, f: f or None).cases == 17
    assert judge(COUNT, lambda s, f: 100_000.0 + len(s)).cases == 17


# -- wrong, each in its own words


def printing(scores, factor):
    print([factor * x for x in scores])


def forgetful(scores, factor):
    [factor * x for x in scores]


def broken(scores, factor):
    return [factor * scores[i] for i in range(len(scores) + 1)]


def broken_below(scores, factor):
    return np.array(scores).reshape(1, 2, 3, 4)


def keeping(scores, factor):
    scores.sort()
    return [factor * x for x in scores]


@pytest.mark.parametrize(
    "answer, told",
    [
        (printing, "prints, and returns nothing (None): return the result"),
        (forgetful, "returns nothing (None): a return is missing"),
        (broken, "raises IndexError (list index out of range) in its line "),
        (broken, '`return [factor * scores[i] for i in range(len(scores) + 1)]`, in the case "drawn at random"'),
        (broken_below, "`return np.array(scores).reshape(1, 2, 3, 4)`"),
        (keeping, "changes its argument scores"),
        (lambda s, f: sum(s), "returns a number, and a list of length 2 is expected"),
        (lambda s, f: s[1:], "returns a list of length 1, and a list of length 2 is expected"),
        (lambda s, f: [s], "returns values of shape (1, 2), and a list of length 2 is expected"),
        (lambda s, f: np.array(s)[:, None], "returns values of shape (2, 1)"),
        (lambda s, f: [s[0], s], "returns a list of length 2 as part 1 of the result, and a number is expected there"),
        (lambda s, f: (f * x for x in s), "returns a generator"),
        (lambda s, f: map(float, s), "returns a map object"),
        (lambda s, f: {"a": s}, "returns a dictionary, and a list is expected"),
        (lambda s, f: set(s), "returns a set, and a list is expected"),
        (lambda s, f: "0.5", "returns a text"),
        (lambda s, f: [str(f * x) for x in s], "returns a text inside the result, and a number is expected there"),
        (lambda s, f: [f * x > 1 for x in s], "returns True or False inside the result"),
        (lambda s, f: [f * x + 0j for x in s], "returns a complex number"),
        (lambda s, f: torch.tensor(s) + 0j, "returns a complex number"),
        (lambda s, f: [f * x / f if f else float("nan") for x in s], "returns NaN (not a number), in the case"),
        (lambda s, f: [float("inf")] * len(s), "returns an infinite number"),
        (lambda s, f: lambda x: x, "returns a function"),
        (lambda s: s, "does not take its arguments, (scores, factor)"),
        (lambda: 1, "does not take its arguments"),
        ([1.0, 2.0], "wants a function: give the function itself"),
        (lambda s, f: [f + x if f else f for x in s], 'wrong in 16 of 17 cases: "drawn at random" (15 of 15), "a single score" (1 of 1)'),
        (lambda s, f: [2 * x for x in s], 'wrong in 1 of 17 cases: "no factor" (1 of 1)'),
        (lambda s, f: [f + x for x in s], "wrong in all 17 cases"),
    ],
)
def test_a_wrong_list_is_told(answer, told):
    assert told in wrong(SCALED, answer)


@pytest.mark.parametrize(
    "exercise, answer, told",
    [
        (TOTAL, lambda s, f: [f * sum(s)], "one number inside a list or an array: return it itself"),
        (TOTAL, lambda s, f: torch.tensor([[f * sum(s)]]), "one number inside a list or an array: return it itself"),
        (TOTAL, lambda s, f: s, "a list of length 2, and a number is expected"),
        (TOTAL, lambda s, f: True, "returns True or False, and a number is expected"),
        (MANY, lambda s, f: 1, "returns a number, and True or False is expected"),
        (MANY, lambda s, f: [True], "returns one value inside a list or an array"),
        (COUNT, lambda s, f: 100_000 + len(s) + 0.01, "wrong in all 17 cases"),
        (TEXT, lambda s, f: "much", "wrong in all 17 cases"),
        (TEXT, lambda s, f: b"many", "an object of type bytes"),
        (TABLE, lambda s, f: {"mean": 0.5}, "a dictionary of 1 keys, and 2 are expected"),
        (TABLE, lambda s, f: {"mean": 0.5, "N": 2}, "with other names"),
        (TABLE, lambda s, f: {"mean": "x", "n": 2}, "returns a text inside the result"),
        (PAIR, lambda s, f: (len(s), s), "as part 0 of the result"),
        (PAIR, lambda s, f: (s[:1], 1), "a list of length 1, and a list of length 2 is expected as part 0"),
        (MAYBE, lambda s, f: f, 'wrong in 1 of 17 cases: "no factor" (1 of 1)'),
        (VALUE, 0.32, "not the right answer; a number is expected"),
        (VALUE, "0.3125", "your answer is a text"),
        (VALUE, [0.3125], "one number inside a list or an array: give it itself"),
        (VALUE, None, "your answer is None"),
        (VALUE, max, "wants a number, not a function"),
        (VALUE, float("nan"), "your answer is NaN"),
        (NAMES, {"PPO"}, "not the right answer"),
        (NAMES, "PPO", "your answer is a text, and a set is expected"),
    ],
)
def test_other_wrong_answers_are_told(exercise, answer, told):
    assert told in wrong(exercise, answer)


def test_a_comparison_of_its_own():
    front = Exercise(
        "02.1", lambda s, f: [i for i, x in enumerate(s) if x >= 0.5], cases, "indices", equal=lambda a, b: sorted(a) == sorted(b)
    )
    assert judge(front, lambda s, f: [i for i, x in reversed(list(enumerate(s))) if x >= 0.5]).cases == 17
    assert "wrong in" in wrong(front, lambda s, f: [])
    assert "is expected" in wrong(front, lambda s, f: 3)
    assert "as part 0 of the result" in wrong(front, lambda s, f: [[1, 2], 3])


def test_the_arguments_are_copies():
    given: list = []

    def keep(scores, factor):
        given.append(scores)
        return [factor * x for x in scores]

    judge(SCALED, keep), judge(SCALED, keep)
    assert given[0] == given[17] and given[0] is not given[17]

    def of_tensors(random):
        for n in range(20):
            yield Case("a model and its data", (torch.nn.Linear(2, 1), torch.ones(n + 1, 2, requires_grad=True), {"a": np.zeros(n)}))

    exercise = Exercise("02.1", lambda model, x, named: x.sum(), of_tensors, "a number")
    assert judge(exercise, lambda model, x, named: x.sum()).cases == 20

    def fill(model, x, named):
        named["b"] = 1
        return x.sum()

    def add(model, x, named):
        with torch.no_grad():
            return x.add_(0.0).mul_(1.5).sum() / 1.5

    assert "changes its argument named" in wrong(exercise, fill)
    assert "changes its argument x" in wrong(exercise, add)


def test_the_readers_random_numbers_go_on():
    np.random.seed(3), torch.manual_seed(3)
    expected = np.random.random(), torch.rand(1).item()
    np.random.seed(3), torch.manual_seed(3)
    judge(TOTAL, lambda s, f: np.random.random() + torch.rand(1).item())
    assert (np.random.random(), torch.rand(1).item()) == expected


# -- answers that no student means, and some that one does by mistake


class UnsaidError(Exception):
    def __str__(self):
        raise RuntimeError


class Equal(float):
    """Equal to everything."""

    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0.0

    __rsub__ = __sub__
    __hash__ = float.__hash__


def endless(scores, factor):
    return endless(scores, factor)


def leaves_at_once(scores, factor):
    raise SystemExit(3)


def fails_to_say(scores, factor):
    raise UnsaidError


def in_itself(scores, factor):
    answer: list = []
    answer.append(answer)
    return answer


def too_deep(scores, factor):
    answer: list = []
    for _ in range(100_000):
        answer = [answer]
    return answer


def keyword_only(*, scores, factor):
    return sum(scores) * factor


async def awaited(scores, factor):
    return sum(scores) * factor


@pytest.mark.parametrize(
    "answer, told",
    [
        (lambda s, f: 10**400, "too large"),
        (lambda s, f: Fraction(10**400), "too large"),
        (lambda s, f: Decimal("1e999"), "infinite"),
        (lambda s, f: Decimal("sNaN"), "object of type Decimal"),
        (lambda s, f: complex(f * sum(s), 0), "a complex number"),
        (lambda s, f: np.complex64(f * sum(s)), "a complex number"),
        (lambda s, f: str(f * sum(s)), "a text"),
        (lambda s, f: torch.zeros((), device="meta"), "object of type Tensor"),
        (lambda s, f: np.ma.masked, "wrong in"),
        (lambda s, f: Equal(7), "wrong in"),
        (lambda s, f: pd.NA, "object of type NAType"),
        (lambda s, f: pd.DataFrame({"a": s}), "object of type DataFrame"),
        (lambda s, f: (x for x in s), "a generator"),
        (in_itself, "too deep"),
        (too_deep, "too deep"),
        (endless, "raises RecursionError"),
        (leaves_at_once, "raises SystemExit (3)"),
        (fails_to_say, "raises UnsaidError in its line"),
        (keyword_only, "does not take its arguments"),
        (Equal, "does not take its arguments"),
    ],
)
def test_odd_answers_get_a_sentence_too(answer, told):
    assert told in wrong(TOTAL, answer)


def test_other_odd_answers():
    assert judge(TOTAL, lambda s, f: torch.tensor([f * sum(s)]).to_sparse().sum()).cases == 17
    assert judge(VALUE, torch.tensor(0.3125)).cases == 1
    assert "too large" in wrong(VALUE, 10**400)
    assert "not the right answer" in wrong(NAMES, ["PPO", "CLP", "CLP"])
    assert "not the right answer" in wrong(NAMES, [{"PPO": 1}, {"CLP"}])
    assert judge(Exercise("02.1", lambda: 0, None, "a number"), -0.0).cases == 1
    ratio = Exercise("02.1", lambda s, f: 0.5, cases, "a number", equal=lambda a, b: abs(1 / a - 2) < 1e-6)
    assert "wrong in" in wrong(ratio, lambda s, f: 0)


def test_a_readers_interrupt_goes_on():
    def interrupted(scores, factor):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(TOTAL, interrupted)


def test_what_an_answer_sets_or_prints_stays_with_it():
    def loud(scores, factor):
        torch.set_grad_enabled(False)
        print("x" * 1_000_000)
        return 7

    assert len(judge(TOTAL, loud).printed) < 3000 and torch.is_grad_enabled()


# -- the check itself


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr("emorl_lite.tutorial.checks.find", {"02.1": SCALED, "02.5": VALUE}.__getitem__)


def test_what_is_printed(notebook, capsys):
    check("02.1", lambda scores, factor: [factor * x for x in scores])
    check("02.5", 0.3125)
    check("02.5", ...)
    assert capsys.readouterr().out.splitlines() == [
        "Correct: 17 cases.",
        "Correct.",
        "Not solved yet: replace the ... and run both cells again.",
    ]
    with pytest.raises(AssertionError, match="prints, and returns nothing") as caught:
        check("02.1", printing)
    assert capsys.readouterr().out.count("\n") == 1  # of its first case, not of all
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_notebook_shows_the_sentence_alone(notebook, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    done = shell.run_cell('from emorl_lite.tutorial import check\n\ncheck("02.5", 4)')
    assert isinstance(done.error_in_exec, AssertionError)
    assert capsys.readouterr().out.strip() == "AssertionError: Exercise 02.5: not the right answer; a number is expected."


def test_graders_are_told_of_stubs(notebook, monkeypatch):
    monkeypatch.setenv("EMORL_CHECKS", "strict")
    with pytest.raises(AssertionError, match="Not solved yet"):
        check("02.5", ...)


def test_names_of_exercises():
    with pytest.raises(UserError, match=r"no such exercise"):
        course.find("00.99")
    with pytest.raises(UserError, match=r"no notebook of the course"):
        course.find("99.1")
