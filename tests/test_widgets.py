import pytest
import tiny
import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import OBJECTIVES
from emorl_lite.plots.weight_explorer import ALL_ZERO, render, weight_explorer

PROMPTS = ["I feel <b>stuck</b> & tired", "Nobody listens"]


class FakeEnsemble:
    """Replies with the prompt and the weights; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def reply(self, prompts, weights=None):
        self.asked.append((list(prompts), weights))
        if weights == (1.0, 1.0, 1.0):
            raise RuntimeError("out of <memory>")
        return [f"<i>{p}</i> at {' '.join(f'{w:g}' for w in weights)}" for p in prompts]


def score(prompts, replies):
    assert len(prompts) == len(replies)
    return {name: torch.full((len(replies),), 0.25 * (i + 1)) for i, name in enumerate(OBJECTIVES)}


@pytest.fixture
def explorer():
    ensemble = FakeEnsemble()
    box = weight_explorer(ensemble, score, PROMPTS, OBJECTIVES)
    choice, *rows, output = box.children
    return ensemble, choice, [row.children[1] for row in rows], output


def test_render_gives_reply_and_scores():
    explored = render(FakeEnsemble(), score, "Nobody listens", {"reflection": 1.0, "empathy": 0.5, "fluency": 0.0})
    assert explored.reply == "<i>Nobody listens</i> at 1 0.5 0"
    assert explored.weights == {"reflection": 1.0, "empathy": 0.5, "fluency": 0.0}
    assert explored.scores == {"reflection": 0.25, "empathy": 0.5, "fluency": 0.75}
    assert explored.text() == (
        "weights: reflection 1.000, empathy 0.500, fluency 0.000\n"
        "<i>Nobody listens</i> at 1 0.5 0\n"
        "scores: reflection 0.250, empathy 0.500, fluency 0.750"
    )


def test_html_is_escaped():
    page = render(FakeEnsemble(), score, PROMPTS[0], {"<u>": 1.0, "empathy": 0.5}).html()
    assert "&lt;i&gt;I feel &lt;b&gt;stuck&lt;/b&gt; &amp; tired" in page
    assert "<i>" not in page and page.count("<b>") == 3  # the labels: Client, Weights, Reply
    page = render(FakeEnsemble(), lambda p, r: {"<u>": torch.ones(1)}, PROMPTS[0], {"a": 1.0, "b": 0.5}).html()
    assert "<u>" not in page and "&lt;u&gt;" in page


def test_all_zero_weights_say_so_without_calling_the_model():
    ensemble = FakeEnsemble()
    explored = render(ensemble, score, "Nobody listens", dict.fromkeys(OBJECTIVES, 0.0))
    assert explored.text() == ALL_ZERO and ALL_ZERO in explored.html()
    assert (explored.reply, explored.scores, ensemble.asked) == ("", {}, [])


def test_the_explorer_starts_with_a_reply(explorer):
    ensemble, choice, sliders, output = explorer
    assert all((s.min, s.max, s.step, s.continuous_update) == (0, 1, 0.05, False) for s in sliders)
    assert list(choice.options) == PROMPTS
    assert ensemble.asked == [([PROMPTS[0]], (0.5, 0.5, 0.5))]
    assert "at 0.5 0.5 0.5" in output.value and "0.750" in output.value


def test_each_number_has_a_labelled_field_beside_its_slider():
    box = weight_explorer(FakeEnsemble(), score, PROMPTS, OBJECTIVES)
    _, *rows, output = box.children
    for row, name in zip(rows, OBJECTIVES, strict=True):
        field, slider = row.children
        assert (field.description, field.min, field.max) == (name, 0, 1)
        field.value = 0.25
        assert slider.value == 0.25
        slider.value = 0.75
        assert field.value == 0.75
    assert "at 0.75 0.75 0.75" in output.value


def test_the_page_shows_the_weights_and_says_whether_the_reply_changed():
    class Stubborn(FakeEnsemble):
        def reply(self, prompts, weights=None):
            return ["low" if weights[0] < 0.6 else "high"]

    box = weight_explorer(Stubborn(), score, PROMPTS, OBJECTIVES)
    choice, *rows, output = box.children
    first = rows[0].children[1]
    assert "reflection 0.50" in output.value and "same" not in output.value
    first.value = 0.55
    assert "reflection 0.55" in output.value and "The reply is the same as at reflection 0.50" in output.value
    first.value = 0.9
    assert "reflection 0.90" in output.value and "another than at reflection 0.55" in output.value
    choice.value = PROMPTS[1]
    assert "same as at" not in output.value and "another than" not in output.value
    for row in rows:
        row.children[1].value = 0
    first.value = 0.3
    assert "<b>Reply:</b> low" in output.value and "another than" not in output.value


def test_moving_a_slider_or_choosing_a_prompt_asks_again(explorer):
    ensemble, choice, sliders, output = explorer
    sliders[1].value = 0.9
    assert ensemble.asked[-1] == ([PROMPTS[0]], (0.5, 0.9, 0.5)) and "at 0.5 0.9 0.5" in output.value
    choice.value = PROMPTS[1]
    assert ensemble.asked[-1] == ([PROMPTS[1]], (0.5, 0.9, 0.5)) and "Nobody listens" in output.value
    assert len(ensemble.asked) == 3


def test_the_explorer_survives_all_zero_weights_and_errors(explorer):
    _, _, sliders, output = explorer
    for slider in sliders:
        slider.value = 0
    assert ALL_ZERO in output.value
    for slider in sliders:
        slider.value = 1
    assert "RuntimeError" in output.value and "out of &lt;memory&gt;" in output.value
    sliders[0].value = 0.5
    assert "RuntimeError" not in output.value and "at 0.5 1 1" in output.value


def test_starting_weights(explorer):
    ensemble = FakeEnsemble()
    weight_explorer(ensemble, score, PROMPTS, OBJECTIVES, weights=(0.75, 0.5, 0.0625))
    assert ensemble.asked[0][1] == (0.75, 0.5, 0.0625)


@pytest.mark.parametrize(
    ("prompts", "weights", "message"),
    [([], None, "no prompts"), (PROMPTS, [1, 0], "one weight"), (PROMPTS, [1, 0, 2], "one weight")],
)
def test_mistakes(prompts, weights, message):
    with pytest.raises(UserError, match=message):
        weight_explorer(FakeEnsemble(), score, prompts, OBJECTIVES, weights)


def test_with_a_real_ensemble():
    ensembles = pytest.importorskip("emorl_lite.ensemble.ensemble")
    ensemble = ensembles.EnsembleLM(tiny.language_model(adapters=3), tiny.ADAPTERS)
    explored = render(ensemble, score, tiny.PROMPTS[0], {"reflection": 1.0, "empathy": 0.0, "fluency": 0.0})
    assert explored.reply == ensemble.reply([tiny.PROMPTS[0]], weights=(1, 0, 0))[0]
