import html
import json
import re

import numpy as np
import pytest
from test_scored_map import made, weights

from emorl_lite.base.errors import UserError
from emorl_lite.plots.map_explorer import explore, map_explorer, map_page, map_svg, save_map_page
from emorl_lite.plots.maps import prompt_map_alt


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
    for draw in (lambda: map_svg(made(4), 0), lambda: map_page(made(2))):
        with pytest.raises(UserError, match="drawn for 3 objectives"):
            draw()


def test_the_picture_marks_the_region():
    scored = made(3)
    picture = map_svg(scored, 0, [0.2, 0.5, 0.3])
    assert picture.count("<polygon") == len(scored.map.of(0)) + 1 and picture.count("<circle") == 1 and "aria-label=" in picture


def inside(points: str, x: float, y: float) -> bool:
    corners = np.array([[float(v) for v in p.split(",")] for p in points.split()])
    edges = np.roll(corners, -1, axis=0) - corners
    cross = edges[:, 0] * (y - corners[:, 1]) - edges[:, 1] * (x - corners[:, 0])
    return bool((cross >= 0).all() or (cross <= 0).all())


def facts_of(page: str) -> dict:
    return json.loads(re.search(r"facts = (\{.*\});", page).group(1))


def test_the_page_holds_the_map():
    scored = made(3)
    page = map_page(scored, [0, 3])
    facts = facts_of(page)
    assert facts["names"] == scored.names and [m["client"] for m in facts["maps"]] == [f"{i + 1}. {scored.map.prompts[i]}" for i in (0, 3)]
    for w in weights(3, 40):
        x, y = 40 + 420 * (w[1] + w[2] / 2), 40 + 420 * np.sqrt(3) / 2 * (1 - w[2])
        hits = [region["r"] for region in facts["maps"][1]["regions"] if inside(region["p"], x, y)]
        assert scored.map.replies(w)[3][0] in hits
    for region in facts["maps"][0]["regions"]:
        assert scored.map.replies(region["d"])[0][0] == region["r"]  # where the keyboard goes
    assert "http://www.w3.org/2000/svg" in page and page.count("src=") == 1 and 'src="data:image/png' in page


def test_the_page_without_scripts_shows_the_first_client():
    scored = made(3)
    page = map_page(scored, [1, 2], best=[0.2, 0.5, 0.3])
    still = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.S)
    assert re.findall(r'<img class="still" [^>]*alt="([^"]*)"', still) == [html.escape(prompt_map_alt(scored, 1))]
    assert scored.map.prompts[1] in html.unescape(still) and "svg" not in still  # a page that drops SVG keeps its texts
    assert facts_of(page)["frame"].count("class='star'") == 2 and "the optimum" not in map_page(scored, [1])
    assert page.index('class="answer"') < page.index('class="map"')  # what is asked for stands above the triangle


def test_the_mean_of_all_clients_is_read_off_a_grid():
    scored = made(3)
    mean = facts_of(map_page(scored, [0]))["mean"]
    n, codes = mean["steps"], mean["codes"]
    assert len(codes) == (n + 1) * (n + 2) // 2 and mean["png"].startswith("data:image/png;base64,")
    for i, j in ((0, 0), (0, n), (n, 0), (7, 11), (40, 60)):  # third and second weight
        place = i * (n + 1) - i * (i - 1) // 2 + j
        here = mean["low"] + (ord(codes[place]) - 35) / 88 * (mean["high"] - mean["low"])
        assert here == pytest.approx(scored.means([n - i - j, j, i]).mean(), abs=0.01 * (mean["high"] - mean["low"]) + 1e-9)


def test_a_page_of_its_own(tmp_path):
    path = save_map_page(tmp_path / "map.html", made(3), [0], title="A <map> & more")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and '<html lang="en">' in page and '<meta charset="utf-8">' in page
    assert page.count("<title>A &lt;map&gt; &amp; more</title>") == 1 and page.rstrip().endswith("</html>")


def test_small_shares_are_no_zero():
    assert "0.00 %" not in map_page(made(3))
