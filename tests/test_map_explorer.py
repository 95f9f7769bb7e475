import pytest
from made_maps import made_map
from test_scored_map import made, weights

from emorl_lite.base.domains import box_domain
from emorl_lite.base.errors import UserError
from emorl_lite.plots.map_explorer import explore, map_explorer, map_svg


def test_explore_is_the_map():
    scored = made(3)
    for w in weights(3, 30):
        at = explore(scored, 2, 5 * w)
        assert at.reply == scored.map.replies(w)[2][0] and sum(at.weights.values()) == pytest.approx(1)
        region = scored.map.regions[at.region]
        assert region.row == 2 and at.share == region.piece.measure and at.margin == pytest.approx(scored.map.margins(w)[0, 2])
        assert list(at.scores.values()) == pytest.approx(scored.scores[at.region].tolist())


def test_html_is_escaped():
    at = explore(made(3), 0, [1, 1, 1])
    page = type(at)("<b>", at.weights, "<i>&", at.scores, 0, 0.5, float("inf")).html()
    assert "&lt;b&gt;" in page and "&lt;i&gt;&amp;" in page and "<i>" not in page and "every weight vector" in page


@pytest.mark.parametrize(("prompt", "w", "message"), [(9, [1, 1, 1], "prompt 9"), (0, [0, 0, 0], "all zero"), (0, [1, 1], "3 numbers")])
def test_mistakes(prompt, w, message):
    with pytest.raises(UserError, match=message):
        explore(made(3), prompt, w)


def test_sliders_show_what_explore_says():
    scored = made(3)
    box = map_explorer(scored, 1, [0.2, 0.5, 0.3])
    choice, *rows, shown = box.children
    sliders = [row.children[1] for row in rows]
    picture, output = shown.children
    assert output.value == explore(scored, 1, [s.value for s in sliders]).html()
    sliders[0].value = 1.0
    assert output.value == explore(scored, 1, [s.value for s in sliders]).html()
    choice.value = choice.options[0]
    assert output.value == explore(scored, 0, [s.value for s in sliders]).html()
    assert picture.value == map_svg(scored, 0, [s.value for s in sliders])
    for slider in sliders:
        slider.value = 0
    assert "all zero" in output.value and picture.value == map_svg(scored, 0) and "<circle" not in picture.value


def test_sliders_without_a_picture():
    _, *sliders, shown = map_explorer(made(4)).children
    assert len(sliders) == 4 and shown.children[0].value == "" and "Reply" in shown.children[1].value
    with pytest.raises(UserError, match="drawn for 3 objectives"):
        map_svg(made(4), 0)


def test_the_picture_marks_the_region():
    scored = made(3)
    picture = map_svg(scored, 0, [0.2, 0.5, 0.3])
    assert picture.count("<polygon") == len(scored.map.of(0)) + 1 and picture.count("<circle") == 1 and "aria-label=" in picture


def test_a_knob_is_looked_up_and_has_a_page_instead():
    line = made_map(box_domain(["base", "aligned"], ["strength"], [0], [4]))
    at = explore(line, 1, [3.0])
    assert at.weights == {"base": -2.0, "aligned": 3.0} and at.reply == line.map.replies([3.0])[1][0]
    assert explore(line, 1, [-2.0, 3.0]) == at
    for make in (lambda: map_explorer(line), lambda: map_svg(line, 0)):
        with pytest.raises(UserError, match="strength 0 to 4"):
            make()
