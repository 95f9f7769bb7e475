"""What a reward may return, and what it may not: the same answer wherever a reward is read."""

from __future__ import annotations

import re
import traceback
import zlib
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import PROMPTS

from emorl_lite.base import scores as conversion
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PPOConfig, SearchConfig
from emorl_lite.base.scores import as_scores
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.exact.exact_map import exact_map
from emorl_lite.exact.scored_map import scored_map
from emorl_lite.methods.scores import Objectives, WeightedSum
from emorl_lite.plots.weight_explorer import render
from emorl_lite.rewards.objectives import Guarded, RewardSet
from emorl_lite.search.evaluation import AverageEvaluation, ReplyScores, TreeEvaluation
from emorl_lite.search.grid import hierarchical_grid_search
from emorl_lite.search.score_table import EvaluationError
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.rollout import score

ONE_STEP = PPOConfig(episodes=8, batch_size=8, minibatch_size=4, epochs=1, lr=5e-3, validate_every=1)
NAMES = tiny.ADAPTERS[:2]


def zero_or_one(prompts, replies) -> list[float]:
    """Any fixed score will do; these are exact in every number format, booleans too."""
    return [float(zlib.crc32(f"{p}|{r}".encode()) % 2) for p, r in zip(prompts, replies, strict=True)]


def mutated(prompts, replies, values):
    """Does what it likes with its lists."""
    prompts.clear()
    replies[:] = ["" for _ in replies]
    replies.append("another")
    return torch.tensor(values)


def with_gradient(values):
    return torch.tensor(values).requires_grad_() * 1.0


def in_inference_mode(values):
    with torch.inference_mode():
        return torch.tensor(values) * 1.0


KINDS = {
    "float32": torch.tensor,
    "float64": lambda v: torch.tensor(v, dtype=torch.float64),
    "float16": lambda v: torch.tensor(v, dtype=torch.float16),
    "bfloat16": lambda v: torch.tensor(v, dtype=torch.bfloat16),
    "int tensor": lambda v: torch.tensor(v).long(),
    "bool tensor": lambda v: torch.tensor(v).bool(),
    "with a gradient": with_gradient,
    "in inference mode": in_inference_mode,
    "strided view": lambda v: torch.tensor([v, v]).T[:, 0],
    "NumPy float64": np.array,
    "NumPy float32, reversed": lambda v: np.array(v[::-1], dtype=np.float32)[::-1],
    "NumPy int": lambda v: np.array(v).astype(int),
    "NumPy bool": lambda v: np.array(v).astype(bool),
    "NumPy object": lambda v: np.array(v, dtype=object),
    "list": list,
    "tuple": tuple,
    "tuple of tensors": lambda v: tuple(with_gradient(x) for x in v),
    "list of ints": lambda v: [int(x) for x in v],
    "list of bools": lambda v: [bool(x) for x in v],
    "list of NumPy numbers": lambda v: [np.float32(x) if i % 2 else np.bool_(x) for i, x in enumerate(v)],
    "list of tensors": lambda v: [with_gradient(x) for x in v],
    "list of fractions": lambda v: [Fraction(x) for x in v],
    "list of decimals": lambda v: [Decimal(x) for x in v],
    "an index": pd.Index,
    "a column of a table": lambda v: pd.DataFrame({"score": v, "other": v})["score"],
    "Series": pd.Series,
    "Series, another index": lambda v: pd.Series(v, index=range(len(v))[::-1]),
    "Series of Int64": lambda v: pd.Series([int(x) for x in v], dtype="Int64"),
    "Series of bools": lambda v: pd.Series([bool(x) for x in v]),
}
MISTAKES = {
    "None": (lambda v: None, "expected {n} scores, one a reply, got None"),
    "a number": (lambda v: 0.5, "expected {n} scores, one a reply, got float"),
    "a tensor of no dimension": (lambda v: torch.tensor(0.5), r"expected {n} scores, one a reply, got shape \(\)"),
    "a masked number": (lambda v: np.ma.array(0.5), "expected {n} scores, one a reply, got MaskedArray"),
    "a string": (lambda v: "0.5", "expected {n} scores, one a reply, got str"),
    "a dict": (lambda v: dict(enumerate(v)), "expected {n} scores, one a reply, got dict"),
    "a generator": (lambda v: (x for x in v), "expected {n} scores, one a reply, got generator"),
    "a coroutine": (lambda v: waiting(v), "expected {n} scores, one a reply, got coroutine"),
    "on no device": (lambda v: torch.tensor(v, device="meta"), "expected {n} scores, one a reply, got Tensor"),
    "nested": (lambda v: torch.nested.nested_tensor([torch.tensor(v)]), "expected {n} scores, one a reply, got Tensor"),
    "durations": (lambda v: np.array(v).astype("timedelta64[ns]"), r"row 1: score .* of reply {reply} is not a number"),
    "structures": (lambda v: np.array([(x, x) for x in v], dtype="f4,f4"), r"row 1: score .* of reply {reply} is not a number"),
    "a signalling NaN": (lambda v: [Decimal("sNaN"), *v[1:]], "row 1: score nan of reply {reply} is not finite"),
    "sparse": (lambda v: torch.tensor(v).to_sparse(), "expected {n} scores, one a reply, got Tensor"),
    "too few": (lambda v: v[1:], r"expected {n} scores, one a reply, got shape \({less},\)"),
    "too many": (lambda v: np.array([*v, 0.0]), r"expected {n} scores, one a reply, got shape \({more},\)"),
    "a column": (lambda v: torch.tensor(v)[:, None], r"expected {n} scores, one a reply, got shape \({n}, 1\)"),
    "a row": (lambda v: np.array([v]), r"expected {n} scores, one a reply, got shape \(1, {n}\)"),
    "a table": (lambda v: pd.DataFrame({"score": v}), r"expected {n} scores, one a reply, got shape \({n}, 1\)"),
    "a list of lists": (lambda v: [[x] for x in v], r"row 1: score \[[01]\.0\] of reply {reply} is not a number"),
    "strings": (lambda v: [str(x) for x in v], r"row 1: score '[01]\.0' of reply {reply} is not a number"),
    "NumPy strings": (lambda v: np.array([str(x) for x in v]), r"row 1: score .*'[01]\.0'.* of reply {reply} is not a number"),
    "a None among them": (lambda v: [None, *v[1:]], "row 1: score None of reply {reply} is not a number"),
    "a missing value": (lambda v: pd.Series([pd.NA, *v[1:]], dtype="Float64"), "row 1: score (<NA>|nan) of reply {reply} is not"),
    "a masked value": (
        lambda v: np.ma.array(v, mask=[True] + [False] * (len(v) - 1)),
        "row 1: score None of reply {reply} is not a number",
    ),
    "complex numbers": (lambda v: [complex(x) for x in v], r"row 1: score (0j|\(1\+0j\)) of reply {reply} is not a number"),
    "a complex tensor": (lambda v: torch.tensor(v).to(torch.complex64).conj(), r"row 1: score .*j.* of reply {reply} is not a number"),
    "NaN": (lambda v: [float("nan"), *v[1:]], "row 1: score nan of reply {reply} is not finite"),
    "infinity": (lambda v: torch.tensor([-float("inf"), *v[1:]]), "row 1: score -inf of reply {reply} is not finite"),
    "beyond float32": (lambda v: torch.tensor([1e300, *v[1:]], dtype=torch.float64), "row 1: score inf of reply {reply} is not finite"),
    "beyond all floats": (lambda v: [10**400, *v[1:]], "row 1: score inf of reply {reply} is not finite"),
}


async def waiting(values):
    return values


def reward_of(kind):
    return lambda prompts, replies: kind(zero_or_one(prompts, replies))


@cache
def model():
    return tiny.language_model(adapters=2, max_new_tokens=4)


def tree() -> PrefixTree:
    return PrefixTree(model(), NAMES, PROMPTS)


# -- the places where a reward is read: each gives numbers


def ppo_step(reward):
    row = PPOTrainer(tiny.language_model(), "new", reward, PROMPTS, ONE_STEP, validation_prompts=PROMPTS, progress=False).step()
    return [float(value) for key, value in row.items() if key != "seconds"]


def ppo_watch(reward):
    trainer = PPOTrainer(tiny.language_model(), "new", zeros, PROMPTS, ONE_STEP, watch={"r": reward}, progress=False)
    return [trainer.step()["r"]]


def zeros(prompts, replies):
    return torch.zeros(len(replies))


def guarded(reward):
    return Guarded(reward, "r")(list(PROMPTS), ["w1", "w2 w3", "w4 w5 w4 w5 w4 w5 w4 w5", ""]).tolist()


def reward_set(reward):
    made = RewardSet({"r": reward, "again": reward})
    scores = made.scores(PROMPTS, ["w1", "w2", "w3", "w4"])
    return [*scores["r"].tolist(), *scores["again"].tolist(), *made.means(PROMPTS, ["w1", "w2", "w3", "w4"]).values()]


def tree_search(reward):
    config = SearchConfig(levels=1, points_per_axis=3)
    evaluate = TreeEvaluation(tree(), RewardSet({"reflection": reward, "empathy": zeros}).scores)
    return hierarchical_grid_search(evaluate, NAMES, config, progress=False).table["mean"].tolist()


def search_of_a_function(reward):
    evaluate = TreeEvaluation(tree(), lambda prompts, replies: {"r": reward(list(prompts), list(replies))})
    return list(evaluate((0.5, 0.5)).values())


def average(reward):
    evaluate = AverageEvaluation(tiny.language_model(adapters=2, max_new_tokens=4), NAMES, PROMPTS, RewardSet({"r": reward}).scores)
    return list(evaluate((0.5, 0.5)).values())


def mapped(reward):
    scored = scored_map(exact_map(PrefixTree(model(), NAMES, PROMPTS[:1])), RewardSet({"r": reward}).scores)
    return scored.scores[:, 0].tolist()


def method(reward):
    objectives = Objectives(RewardSet({"r": reward, "zeros": zeros}))
    replies = ["w1", "w2", "w3", "w4"]
    total = score(WeightedSum(objectives, [0.5, 0.5]), PROMPTS, replies)
    return [*total.tolist(), *objectives.watch()["r"](PROMPTS, replies).tolist(), *objectives.means(PROMPTS, replies).values()]


def explorer(reward):
    class Echo:
        def reply(self, prompts, weights=None):
            return list(prompts)

    return list(render(Echo(), lambda p, r: {"r": reward(p, r)}, PROMPTS[0], {"r": 1.0}).scores.values())


PLACES = [ppo_step, ppo_watch, guarded, reward_set, tree_search, search_of_a_function, average, mapped, method, explorer]
NAMED = {ppo_step: "<lambda>"}
"""How a place calls the reward, where it is not the name it is given there."""


@cache
def reference(place):
    """What plain float32 tensors give."""
    return place(reward_of(torch.tensor))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_every_kind_gives_the_same_numbers_everywhere(place, kind):
    found = place(reward_of(KINDS[kind]))
    assert found == reference(place) and all(isinstance(value, float) for value in found)


def test_the_numbers_depend_on_the_reward():
    for place in PLACES:
        assert place(lambda prompts, replies: [0.25] * len(replies)) != reference(place)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("place", PLACES)
def test_every_mistake_is_one_line_everywhere(place, mistake):
    returned, message = MISTAKES[mistake]
    last: list[str] = []

    def kind_of(prompts, replies):
        last[:] = replies
        return returned(zero_or_one(prompts, replies))

    with pytest.raises(UserError) as told:
        place(lambda prompts, replies: kind_of(prompts, replies))
    n = len(last)
    counts = {"n": n, "less": n - 1, "more": n + 1, "reply": re.escape(repr(last[0]))}
    line = str(told.value)
    for key, value in counts.items():
        message = message.replace("{" + key + "}", str(value))
    name = NAMED.get(place, "reflection" if place is tree_search else "r")
    assert re.search(f"reward '{name}'(:|,) {message}", line), line
    assert "\n" not in line


@pytest.mark.parametrize("place", PLACES)
def test_a_reward_may_change_its_lists(place):
    assert place(lambda prompts, replies: mutated(prompts, replies, zero_or_one(prompts, replies))) == reference(place)


@pytest.mark.parametrize("place", PLACES)
def test_what_a_reward_raises_keeps_its_traceback_and_says_whose_it_is(place):
    def broken(prompts, replies):
        raise KeyError("gone")

    with pytest.raises((KeyError, EvaluationError)) as told:
        place(broken)
    error = told.value.__cause__ or told.value  # a search says at which weights
    assert isinstance(error, KeyError) and traceback.extract_tb(error.__traceback__)[-1].name == "broken"
    if place not in (search_of_a_function, explorer):  # they are given scores of all objectives, which no reward gave by itself
        assert error.__notes__[0].startswith("raised by reward ") and len(error.__notes__) == 1


def test_what_a_reward_gave_stays_its_own():
    kept = torch.ones(2)
    scores = as_scores(kept, ["a", "b"], "kept")
    scores.zero_()
    assert kept.tolist() == [1, 1]


@given(st.lists(st.floats(0, 1, width=32), max_size=5))
def test_numbers_are_kept_to_the_last_digit(values):
    """float32 everywhere; a float64 tensor keeps its digits, as it did before anything else was accepted."""
    replies = ["a"] * len(values)
    for given_scores in (values, tuple(values), np.array(values), pd.Series(values, dtype=float), torch.tensor(values)):
        made = as_scores(given_scores, replies, "r")
        assert made.dtype == torch.float32 and made.tolist() == values
    fine = torch.tensor(values, dtype=torch.float64) / 3
    assert torch.equal(RewardSet({"r": lambda p, r: fine}).scores(replies, replies)["r"], fine)
    assert score(lambda p, r: fine, replies, replies).dtype == torch.float32


def test_the_row_is_the_first_that_is_wrong():
    with pytest.raises(UserError, match=r"^reward 'r', row 2: score 'high' of reply 'b' is not a number$"):
        as_scores([0.5, "high", None], ["a", "b", "c"], "r")
    with pytest.raises(UserError, match=r"^reward 'r', row 3: score inf of reply 'c' is not finite$"):
        as_scores([0.5, 2, float("inf")], ["a", "b", "c"], "r")


def test_a_search_is_given_scores_by_name():
    with pytest.raises(UserError, match="scores: expected those of every objective by its name, got Tensor"):
        ReplyScores(lambda prompts, replies: torch.zeros(len(replies)))(["p"], ["r"])


@pytest.mark.parametrize("place", PLACES)
def test_scores_outside_0_and_1_are_used_and_told_once(place, monkeypatch, capsys):
    monkeypatch.setattr(conversion, "_told", set())
    wide = reward_of(lambda v: [4 * x - 1 for x in v])
    found = place(wide)
    place(wide)
    names = {ppo_step: ["<lambda>"], reward_set: ["r", "again"], tree_search: ["reflection"], method: ["r", "weighted sum"]}
    told = re.findall(r"reward '(.*?)', row \d+: score -?[\d.]+ of reply .* is outside \[0, 1\]", capsys.readouterr().err)
    assert told == names.get(place, ["r"])
    assert found != reference(place)


def test_rounding_is_not_told(monkeypatch, capsys):
    monkeypatch.setattr(conversion, "_told", set())
    as_scores(torch.tensor([1.0000001, -1e-7]), ["a", "b"], "r")
    assert not capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("place", PLACES)
def test_a_reward_on_another_device(place):
    assert place(reward_of(lambda v: torch.tensor(v, device="cuda"))) == reference(place)
    assert place(reward_of(lambda v: [torch.tensor(x, device="cuda") for x in v])) == reference(place)
