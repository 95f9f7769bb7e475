"""Evaluation metrics: identities, bounds and brute force."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from emorl_lite.base.errors import UserError
from emorl_lite.lm.model import UNFINISHED
from emorl_lite.rewards.metrics import Coherence, Specificity, diversity_2, edit_distance, edit_rate, evaluation_metrics, words

REPLIES = ["w1 w2 w3", "w7 w7", "w20 w21 w22 w23", "w4"]

word_lists = st.lists(st.sampled_from("abc"), max_size=6)
texts = st.lists(st.sampled_from(["I", "i", "feel", "don't", "sad.", "sad", ",", "…"]), max_size=12).map(" ".join)


def brute_force(a: list[str], b: list[str]) -> int:
    """The definition, tried in every way."""
    if not a or not b:
        return len(a) + len(b)
    return min(brute_force(a[1:], b) + 1, brute_force(a, b[1:]) + 1, brute_force(a[1:], b[1:]) + (a[0] != b[0]))


# -- edit rate


@given(word_lists, word_lists)
def test_edit_distance_is_the_recursion(a, b):
    assert edit_distance(a, b) == brute_force(a, b)


@given(texts, texts)
def test_edit_rate_is_symmetric_and_bounded(a, b):
    rate = edit_rate([a], [b])
    assert torch.equal(rate, edit_rate([b], [a]))
    assert 0 <= float(rate) <= 1
    assert (float(rate) == 0) == (words(a) == words(b))


@given(word_lists, word_lists, word_lists)
def test_edit_distance_obeys_the_triangle(a, b, c):
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_edit_rate_cases():
    rates = edit_rate(["I feel sad", "I feel sad", "I feel sad", "", ""], ["you feel low", "I FEEL SAD.", "", "", "okay"])
    assert torch.allclose(rates, torch.tensor([2 / 3, 0.0, 1.0, 0.0, 1.0]))


# -- diversity


@given(texts)
def test_diversity_is_below_one_and_ignores_the_prompt(reply):
    score = float(diversity_2(["anything"], [reply]))
    assert 0 <= score < 1 and score == float(diversity_2([""], [reply]))


@given(st.integers(1, 30))
def test_diversity_of_distinct_and_of_repeated_words(n):
    distinct = " ".join(f"w{i}" for i in range(n))
    assert float(diversity_2([""], [distinct])) == pytest.approx((n - 1) / n)
    assert float(diversity_2([""], [" ".join(["so"] * (n + 1))])) == pytest.approx(1 / (n + 1))


def test_diversity_ignores_case_punctuation_and_the_unfinished_mark():
    scores = diversity_2([""] * 3, ["You feel. You feel", "you feel you feel", "you feel you feel" + UNFINISHED])
    assert torch.allclose(scores, torch.full((3,), 2 / 4))


# -- metrics under a language model


@tiny.kinds()
def test_metrics_have_the_right_shape_and_range(kind):
    lm = tiny.language_model(kind, adapters=1)
    for name, metric in evaluation_metrics(lm).items():
        scores = metric(tiny.PROMPTS, REPLIES)
        assert scores.shape == (4,) and scores.dtype == torch.float32, name
        assert bool(((scores >= 0) & (scores <= 1)).all()), name
        assert metric([], []).shape == (0,)
        with pytest.raises(UserError, match=f"{name}: 4 prompts but 1 replies"):
            metric(tiny.PROMPTS, REPLIES[:1])


@tiny.kinds()
def test_metrics_do_not_see_adapters_or_dropout(kind):
    """The same scores with an adapter loaded, in training mode, and under the bare base model; the model is left as it was."""
    bare, adapted = tiny.language_model(kind), tiny.language_model(kind, adapters=2, lora_dropout=0.5)
    for module in adapted.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    adapted.model.train()
    active = adapted.model.active_adapter
    for make in (Coherence, Specificity):
        assert torch.allclose(make(bare)(tiny.PROMPTS, REPLIES), make(adapted)(tiny.PROMPTS, REPLIES), atol=1e-5)
    assert adapted.model.training and adapted.model.active_adapter == active
    ids, mask = adapted.encode_replies(REPLIES)
    adapted.model.eval()
    with torch.no_grad():
        own = adapted.logprobs(adapted.encode(tiny.PROMPTS), ids, mask)
        with adapted.without_adapters():
            assert not torch.allclose(own, adapted.logprobs(adapted.encode(tiny.PROMPTS), ids, mask), atol=1e-2)


@tiny.kinds()
def test_coherence_is_a_posterior(kind):
    """With k + 1 clients in all, the scores of one reply for each client sum to one, and each is the definition."""
    lm = tiny.language_model(kind)
    coherence = Coherence(lm, k=3)
    for reply in REPLIES:
        scores = coherence(tiny.PROMPTS, [reply] * 4)
        assert float(scores.sum()) == pytest.approx(1, abs=1e-5)
        logp, _ = lm.score_texts(tiny.PROMPTS, [reply] * 4)
        likelihood = logp.sum(1).exp()
        assert torch.allclose(scores, likelihood / likelihood.sum(), atol=1e-5)


def test_coherence_takes_the_next_distinct_clients():
    """Repeated prompts (several samples a client) are never their own rivals."""
    lm = tiny.language_model()
    once = Coherence(lm, k=2)(tiny.PROMPTS, REPLIES)
    twice = Coherence(lm, k=2)([p for p in tiny.PROMPTS for _ in range(2)], [r for r in REPLIES for _ in range(2)])
    assert torch.allclose(once.repeat_interleave(2), twice, atol=1e-5)
    logp, _ = lm.score_texts([tiny.PROMPTS[i] for i in (3, 0, 1)], [REPLIES[3]] * 3)
    assert float(once[3]) == pytest.approx(float(logp.sum(1).softmax(0)[0]), abs=1e-5)


def test_coherence_of_a_reply_that_ignores_the_client_is_chance():
    lm = tiny.language_model(template="<bos>{prompt:.0}")  # a model that never sees its prompt
    assert torch.allclose(Coherence(lm, k=3)(tiny.PROMPTS, REPLIES), torch.full((4,), 0.25), atol=1e-5)


def test_coherence_needs_other_clients():
    with pytest.raises(UserError, match="coherence: 2 distinct prompts, at least 4"):
        Coherence(tiny.language_model())(["w1", "w2", "w1"], ["w3"] * 3)


@tiny.kinds()
def test_specificity_of_a_copy_is_one_and_of_nothing_is_zero(kind):
    specificity = Specificity(tiny.language_model(kind))
    assert torch.allclose(specificity(tiny.PROMPTS, tiny.PROMPTS), torch.ones(4), atol=1e-5)
    assert torch.equal(specificity(tiny.PROMPTS, [""] * 4), torch.zeros(4))
    assert torch.allclose(specificity(tiny.PROMPTS, REPLIES), specificity(REPLIES, tiny.PROMPTS), atol=1e-5)
    assert (specificity(tiny.PROMPTS, REPLIES)[1:] < 0.999).all()  # the first is a copy


@tiny.kinds()
def test_specificity_is_the_same_batched_and_one_by_one(kind):
    lm = tiny.language_model(kind)
    batched, alone = Specificity(lm).embed(REPLIES), Specificity(lm, batch_size=1).embed(REPLIES)
    assert torch.allclose(batched, alone, atol=1e-5)
    unfinished = Specificity(lm).embed([r + UNFINISHED for r in REPLIES])
    assert torch.allclose(batched, unfinished, atol=1e-5)
