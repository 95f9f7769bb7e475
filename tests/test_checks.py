"""The exercises' checks: they see a stub, a right and a wrong answer."""

from __future__ import annotations

import pytest
import torch

from emorl_lite.tutorial.checks import check, check_against

pytestmark = pytest.mark.plain


def test_three_outcomes(capsys):
    check(lambda x: ..., ((1,), 2))
    check(..., ((), 3))
    assert capsys.readouterr().out.count("Not solved yet") == 2
    check(lambda x: x + 1, ((1,), 2), ((2,), 3))
    check((0.1, 0.2), ((), (0.1, 0.2)))
    assert capsys.readouterr().out.count("Correct") == 2
    with pytest.raises(AssertionError, match="expected 2"):
        check(lambda x: x, ((1,), 2))


@pytest.mark.parametrize("wrong", [[1.0, 2.1], [1.0], 1.0, "x", torch.zeros(2)])
def test_wrong_values_and_shapes_fail(wrong):
    with pytest.raises(AssertionError):
        check(lambda: wrong, ((), [1.0, 2.0]))


def test_against_a_reference():
    check_against(lambda a, b: a + b, lambda a, b: b + a, (1, 2), (3, 4))
    with pytest.raises(AssertionError):
        check_against(lambda a, b: a - b, lambda a, b: a + b, (1, 2))


def test_sets_strings_and_tensors():
    check(lambda: "a", ((), "a"))
    check(lambda: {1, 2}, ((), {2, 1}))
    check(lambda: torch.tensor([1.0, 2.0]), ((), [1.0, 2.0]))
    with pytest.raises(AssertionError):
        check(lambda: "b", ((), "a"))
