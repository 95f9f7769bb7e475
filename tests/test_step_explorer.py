from dataclasses import replace

import pytest
import tiny
import torch
from test_figures import outside_the_picture, piled, too_faint, too_small
from tiny import ADAPTERS, PROMPTS

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OBJECTIVES
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.plots import decoding_step, decoding_steps, step_at, step_explorer
from emorl_lite.plots.step_explorer import END, MIXTURE, Step
from emorl_lite.plots.style import figure_bytes
from emorl_lite.plots.weight_explorer import ALL_ZERO

WEIGHTS = dict(zip(ADAPTERS, (0.6, 0.3, 0.5), strict=True))


@pytest.fixture(scope="module")
def ensemble():
    return EnsembleLM(tiny.language_model(adapters=len(ADAPTERS)), ADAPTERS)


@pytest.fixture(scope="module")
def steps(ensemble):
    return decoding_steps(ensemble, PROMPTS[0], WEIGHTS)


def test_the_words_are_those_of_the_reply(ensemble, steps):
    [reply] = ensemble.reply([PROMPTS[0]], weights=tuple(WEIGHTS.values()))
    words = [step.word for step in steps]
    assert [step.position for step in steps] == list(range(1, len(steps) + 1))
    assert " ".join(word for word in words if word != END) == reply.removesuffix(" […]")
    assert (words[-1] == END) == (not reply.endswith("[…]")) and END not in words[:-1]
    assert all(step.prefix == " ".join(words[:t]) for t, step in enumerate(steps))


def test_a_score_is_the_weighted_sum_of_the_adapters_logits(steps):
    for step in steps:
        for found in step.candidates:
            total = sum(w * found.logits[name] for name, w in WEIGHTS.items())
            assert found.score == pytest.approx(total, abs=1e-4)
        scores = [found.score for found in step.candidates]
        assert scores == sorted(scores, reverse=True) and step.candidates[0].word == step.word == step.words[MIXTURE][0][0]


def test_each_adapters_words_are_its_own(ensemble, steps):
    lm = ensemble.lm
    for name in ADAPTERS:
        lm.use(name)
        with torch.no_grad():
            p = lm.forward_reply(lm.encode(PROMPTS[:1]), *lm.encode_replies([""]))[0][0, -1].softmax(-1)
        best = steps[0].words[name]
        assert [probability for _, probability in best] == pytest.approx(p.topk(4).values.tolist(), abs=1e-5)
        assert {found.word for found in steps[0].candidates} >= {best[0][0]}


def test_other_tokenizers_and_models():
    for kind in ("gpt2", "t5"):
        ensemble = EnsembleLM(tiny.language_model(kind, adapters=len(ADAPTERS)), ADAPTERS)
        steps = decoding_steps(ensemble, PROMPTS[1], WEIGHTS, top=2)
        for step in steps:
            assert step.candidates[0].score == pytest.approx(sum(w * step.candidates[0].logits[n] for n, w in WEIGHTS.items()), abs=1e-4)


def test_no_steps_at_all_zero_weights(ensemble):
    assert decoding_steps(ensemble, PROMPTS[0], dict.fromkeys(ADAPTERS, 0.0)) == []


def test_mistakes(ensemble, steps):
    with pytest.raises(UserError, match="expected weights of"):
        decoding_steps(ensemble, PROMPTS[0], {"a": 1.0})
    with pytest.raises(UserError, match="no scores that are sums"):
        decoding_steps(EnsembleLM(ensemble.lm, ADAPTERS, mix="probabilities"), PROMPTS[0], WEIGHTS)
    for position in (0, len(steps) + 1):
        with pytest.raises(UserError, match=f"position {position}: the reply has"):
            step_at(steps, position)
    assert step_at(steps, 1) is steps[0]
    with pytest.raises(UserError, match="no prompts"):
        step_explorer(ensemble, [])
    with pytest.raises(UserError, match="one weight"):
        step_explorer(ensemble, PROMPTS, (1, 2, 3))


def test_the_picture_shows_every_word_and_says_so(steps):
    figure = decoding_step(steps[1])
    assert len(figure.axes) == len(ADAPTERS) + 1
    for axes, (name, words) in zip(figure.axes, steps[1].words.items(), strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == [word for word, _ in words]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([p for _, p in words])
        assert [bool(bar.get_hatch()) for bar in axes.patches] == [word == steps[1].word for word, _ in words]
        assert name in axes.get_title()
    alt = figure.alt_text
    assert steps[1].prefix in alt and f'says "{steps[1].word}"' in alt and all(name in alt for name in ADAPTERS)


def test_the_picture_is_read_at_the_width_of_a_page(steps):
    long = Step("x", dict.fromkeys(OBJECTIVES, 1 / 3), 9, "and you hope to " * 9, "swimsuit", {}, [])
    words = {name: [("(end)", 0.42), ("swimsuit", 0.36), ("comfortable", 0.16), ("It", 0.01)] for name in [*OBJECTIVES, MIXTURE]}
    for step in (steps[0], replace(long, words=words)):
        figure = decoding_step(step)
        figure_bytes(figure, "png")
        assert not outside_the_picture(figure) and not too_small(figure) and not piled(figure) and not too_faint(figure)


def test_the_page_shows_texts_as_texts():
    hostile = Step("<img onerror=x> $5", WEIGHTS, 1, "<b>", "<i>", {MIXTURE: [("<i>", 0.5)]}, [])
    page = hostile.html()
    assert "<img" not in page and "<i>" not in page and "&lt;img" in page


def test_the_explorer_walks_through_the_reply(ensemble, steps):
    box = step_explorer(ensemble, PROMPTS, tuple(WEIGHTS.values()))
    choice, *rows, output = box.children
    position = rows[-1].children[1]
    assert [row.children[0].description for row in rows] == [*ADAPTERS, "word"]
    assert (position.min, position.max, position.value) == (1, len(steps), 1) == (1, rows[-1].children[0].max, 1)
    assert f"Word 1 of {len(steps)}" in output.value and steps[0].html() in output.value
    position.value = 2
    assert steps[1].html() in output.value
    position.value = len(steps)
    choice.value = PROMPTS[1]
    other = decoding_steps(ensemble, PROMPTS[1], WEIGHTS)
    assert position.max == len(other) and other[min(len(steps), len(other)) - 1].html() in output.value


def test_the_explorer_shows_no_stale_step(ensemble, monkeypatch):
    box = step_explorer(ensemble, PROMPTS, tuple(WEIGHTS.values()))
    _, *rows, output = box.children
    for row in rows[:-1]:
        row.children[1].value = 0
    assert ALL_ZERO in output.value and "Client:" not in output.value
    rows[0].children[1].value = 0.4
    assert "Client:" in output.value

    def broken(*args, **options):
        raise RuntimeError("out of <memory>")

    monkeypatch.setattr(ensemble, "generate", broken)
    rows[0].children[1].value = 0.5
    assert "RuntimeError" in output.value and "&lt;memory&gt;" in output.value and "Client:" not in output.value
