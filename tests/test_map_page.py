"""The page of a map holds the map: what its script is given answers as the map does, and without scripts its first view is whole."""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_maps import made_map
from test_scored_map import made, weights

from emorl_lite.base.domains import box_domain, simplex_domain
from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import ASSETS
from emorl_lite.plots.map_drawing import Drawing, ticks
from emorl_lite.plots.map_page import map_page, save_map_page
from emorl_lite.plots.maps import prompt_map

module = sys.modules["emorl_lite.plots.map_page"]  # the package has the function by this name
DOMAINS = {
    "triangle": simplex_domain(["reflection", "empathy", "fluency"]),
    "line of weights": simplex_domain(["reflection", "empathy"]),
    "line of a knob": box_domain(["base", "aligned"], ["strength"], [0], [4]),
    "box": box_domain(["plain", "guided", "aligned"], ["guidance", "strength"], [0, -1], [3, 4]),
    "cut box": box_domain(["plain", "guided", "aligned"], ["guidance", "strength"], [0, -1], [3, 4], [[1, 1, 5]]),
    "four corners": simplex_domain(list("abcd")),
    "three knobs": box_domain(list("abcd"), ["one", "two", "three"], [0, 0, -1], [3, 4, 1], [[1, 1, 1, 5]]),
    "six corners": simplex_domain(list("abcdef")),
}
each_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS.keys())
HOSTILE = {
    "ends the script": "</script><script>alert(1)</script><!--<script>",
    "quotes": '"it\'s" `${1}` \\ \\u003c &lt; &amp; <img src=x onerror=alert(1)>',
    "places": "@FACTS @STYLE @TITLE \\1 \\g<0>",
    "from right to left": "مرحبا \u202e abc \u2066 שלום",
    "emoji": "👩‍👩‍👧 💬 \ud83d \x00 \u2028 \u2029 \x1b[31m",
    "long": "word " * 1000,
    "one long word": "x" * 5000,
    "nothing": "",
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())


def facts_of(page: str) -> dict:
    return json.loads(re.search(r"parentElement,\n(.*)\n\);</script>", page).group(1))


def without_scripts(page: str, kinds: str = "script|style") -> str:
    return re.sub(rf"<({kinds})>.*?</\1>", "", page, flags=re.S)


def points_inside(facts: dict, row: dict, t: np.ndarray, slack: float = 1e-5) -> set[int]:
    """The regions of a row that hold a point, as the page's own numbers say."""
    shared, found = np.array(row["p"], dtype=float), set()
    for i, places in enumerate(row["o"]):
        if facts["kind"] == "table":
            facets = np.array([shared[j] if j >= 0 else -shared[~j] for j in places])
            inside = (facets[:, 0] + facets[:, 1:] @ t >= -slack).all()
        elif facts["kind"] == "line":
            inside = shared[places[0], 0] - slack <= t[0] * facts["unit"] <= shared[places[1], 0] + slack
        else:
            corners = shared[places] / facts["unit"]
            edges, to = np.roll(corners, -1, axis=0) - corners, t - corners
            cross = edges[:, 0] * to[:, 1] - edges[:, 1] * to[:, 0]
            inside = (cross >= -slack).all() or (cross <= slack).all()
        if inside:
            found.add(i)
    return found


@each_domain
def test_the_script_is_given_the_map(domain):
    scored = made_map(domain, samples=2)
    facts = facts_of(map_page(scored))
    assert [prompt["text"] for prompt in facts["prompts"]] == scored.map.prompts and facts["samples"] == 2
    for w in domain.random(20, np.random.default_rng(1)):
        for row, found in enumerate(scored.map.locate(w)[0]):
            prompt = facts["prompts"][row // 2]
            held = prompt["rows"][row % 2]
            inside = points_inside(facts, held, w[1:])
            place = scored.map.indices[row].tolist().index(found)
            assert place in inside and len(inside) <= 2  # two where the point is closer to a border than the page's rounding
            reply, scores = prompt["answers"][held["a"][place]]
            assert reply == scored.map.regions[found].reply and scores == pytest.approx(scored.scores[found].tolist(), abs=1e-4)
            assert held["m"][place] == pytest.approx(scored.map.regions[found].piece.measure, rel=1e-3)


@each_domain
def test_places_are_where_the_drawing_has_them(domain):
    drawing = Drawing.of(domain)
    facts = facts_of(map_page(made_map(domain)))
    assert facts["kind"] == drawing.kind == {2: "line", 3: "triangle" if not domain.knobs else "plane"}.get(len(domain.corners), "table")
    if drawing.kind == "table":
        return
    x, y = drawing.pixels(domain.piece.vertices).T
    assert x.min() >= 0 and x.max() <= 440 and y.min() >= 0 and y.max() <= facts["height"]
    if drawing.kind == "plane":  # the axes are those of the knobs
        t = domain.piece.vertices[:, 1:]
        assert np.corrcoef(x, t[:, 0])[0, 1] == pytest.approx(1) and np.corrcoef(y, t[:, 1])[0, 1] == pytest.approx(-1)


def test_triangle_of_a_real_map():
    scored = made(3)
    facts = facts_of(map_page(scored, [0, 3]))
    chosen = [prompt for prompt in facts["prompts"] if prompt["text"] is not None]
    assert [prompt["n"] for prompt in chosen] == [1, 4] and len(facts["prompts"]) == facts["total"] == 4
    for w in weights(3, 40):
        replies = {chosen[1]["answers"][chosen[1]["rows"][0]["a"][i]][0] for i in points_inside(facts, chosen[1]["rows"][0], w[1:])}
        assert scored.map.replies(w)[3][0] in replies


def test_the_mean_is_that_of_all_prompts():
    """Also where some prompts' replies are left out: their regions and scores stay."""
    scored = made_map(DOMAINS["triangle"])
    facts = facts_of(map_page(scored, [1]))
    assert [reply for prompt in facts["prompts"][1:] for reply, _ in prompt["answers"] if reply is not None] == []
    for w in weights(3, 20):
        scores = []
        for prompt in facts["prompts"]:
            [i, *_] = points_inside(facts, prompt["rows"][0], w[1:])
            scores.append(prompt["answers"][prompt["rows"][0]["a"][i]][1])
        assert np.mean(scores, axis=0) == pytest.approx(scored.means(w)[0], abs=1e-4)


@pytest.mark.parametrize("kind", ["triangle", "cut box", "line of a knob", "four corners"])
def test_a_grid_takes_its_place_where_regions_are_too_many(monkeypatch, kind):
    monkeypatch.setattr(module, "MEAN_REGIONS", 10)
    scored = made_map(DOMAINS[kind])
    assert facts_of(map_page(scored))["grid"] is None
    facts = facts_of(map_page(scored, [2]))
    assert len(facts["prompts"]) == 1 and facts["total"] == 3
    if kind == "four corners":
        assert facts["grid"] is None
        return
    for point, scores in list(zip(facts["grid"]["points"], facts["grid"]["scores"], strict=True))[::97]:
        t = np.array(point) / facts["unit"]
        w = np.array([1 - t.sum(), *t])
        if scored.map.margins(scored.map.domain.on_plane(w)).min() > 1e-5:
            assert scores == pytest.approx(scored.means(w)[0].tolist(), abs=1e-4)


@each_domain
def test_without_scripts_the_first_view_is_whole(domain, tmp_path):
    scored = made_map(domain)
    best = domain.random(1, np.random.default_rng(0))[0]
    still = without_scripts(save_map_page(tmp_path / "map.html", scored, best=best).read_text(encoding="utf-8"))
    drawn = Drawing.of(domain).kind != "table"
    view = still[: still.index('<div class="list">')]
    assert view.count("<svg") == (3 if drawn else 0)  # the picture, its colours, the star's meaning
    assert view.count("fill='white' stroke='#d00000'") == (2 if drawn else 0)
    own = scored.map.of(0)
    if drawn:
        picture = view[view.index("<svg") : view.index("</svg>")]
        assert picture.count("stroke='white'") == len(own) and f"into {len(own)} regions" in picture
        axes = domain.knobs or ([f"only {name}" for name in domain.corners] if len(domain.corners) == 3 else ["weight of empathy"])
        assert all(name in picture for name in axes)
    assert scored.map.prompts[0] in still and still.count("<tr>") == module.SPELLED_OUT + 1
    largest = scored.regions(0).iloc[0]
    assert largest["reply"] in still and f"<td>{largest['mean']:.2f}</td>" in still
    assert scored.regions(0).sort_values("mean").iloc[-1]["reply"] in still
    assert "hidden" in re.search(r'<div class="controls"[^>]*>', still)[0]  # nothing that does nothing


def test_in_a_notebook_the_picture_is_an_image():
    """Cleaners of notebooks drop drawings in line, and let images pass."""
    page = map_page(made(3), [1, 2], best=[0.2, 0.5, 0.3])
    still = without_scripts(page)
    [(alt, source)] = re.findall(r'<img alt="([^"]*)".*?src="data:image/svg\+xml;base64,([^"]*)"', still)
    picture = base64.b64decode(source).decode()
    assert picture.count("stroke='white'") == len(made(3).map.of(1)) and "class='best'" in picture
    assert "A star marks the optimum" in html.unescape(alt) and made(3).map.prompts[1] in html.unescape(still)
    assert "<h1" not in page and "<h2" not in page and "id=" not in page  # several pages in one notebook do not collide


def test_several_pages_stand_alone():
    """Nothing outside of itself is named: no address but that of SVG, which is a name."""
    page = map_page(made(3))
    assert set(re.findall(r"https?://[^\s'\"&]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|<link|fetch\(|XMLHttpRequest|localStorage|getElementById", page)


class Tags(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


@hostile
@pytest.mark.parametrize("kind", ["triangle", "line of a knob", "four corners"])
def test_texts_are_texts(text, kind, tmp_path):
    domain = DOMAINS[kind]
    plain = made_map(domain, prompts=["a", "b"], reply=lambda row, k: f"{row}")
    ours = made_map(domain, prompts=[text, text + "!"], reply=lambda row, k: f"{text}{row}", names=[text + "1", text + "2"])
    pages = [save_map_page(tmp_path / "map.html", scored, title=title) for scored, title in ((plain, "A"), (ours, text))]
    before, after = (Tags(path.read_text(encoding="utf-8")) for path in pages)
    kept = [tag for tag in after.tags if tag not in ("span", "details", "summary")]
    assert kept == [tag for tag in before.tags if tag not in ("span", "details", "summary")]
    assert not [name for name in after.attributes if name.startswith("on")]
    shown = re.sub("[\ud800-\udfff\x00\x1b]", "\ufffd", text)
    facts = facts_of(pages[1].read_text(encoding="utf-8"))
    assert facts["prompts"][0]["text"] == shown and facts["names"][0] == shown + "1"
    assert {reply for reply, _ in facts["prompts"][0]["answers"]} == {shown + "0"}
    assert shown in after.text


def test_corners_and_knobs_may_be_called_anything():
    for name in HOSTILE.values():
        for domain in (simplex_domain([name, "b", "c"]), box_domain(["a", "b"], [name], [0], [1])):
            tags = Tags(map_page(made_map(domain, prompts=["a"])))
            assert tags.tags.count("script") == 1 and "onerror" not in tags.attributes and tags.tags.count("img") == 1


def test_a_page_of_its_own(tmp_path):
    path = save_map_page(tmp_path / "map.html", made(3), [0], title="A <map> & more")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and '<html lang="en">' in page and '<meta charset="utf-8">' in page
    assert page.count("<title>A &lt;map&gt; &amp; more</title>") == 1 and page.rstrip().endswith("</html>")
    assert re.findall(r"<h(\d)", page) == ["1", "2", "2"]
    assert page == save_map_page(tmp_path / "again.html", made(3), [0], title="A <map> & more").read_text(encoding="utf-8")


def test_what_was_asked_for_is_marked():
    scored = made_map(DOMAINS["line of a knob"])
    facts = facts_of(map_page(scored, best=[1.3], front=[[0.2], [3]], utility={"fluency": 2}))
    assert facts["best"] == [1_300_000] and facts["front"] == [[200_000], [3_000_000]] and facts["utility"] == [0.0, 2.0]
    assert facts_of(map_page(scored, best=[-0.3, 1.3]))["best"] == [1_300_000]  # weights are as good
    assert facts_of(map_page(made(3), best=[2, 5, 3]))["best"] == [500_000, 300_000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": [9]}, "prompt 9"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": "0"}, "expected numbers from 0"),
        ({"best": [5.0]}, "outside of the domain"),
        ({"front": [[0.1], [-1]]}, "outside of the domain"),
        ({"utility": {"warmth": 1}}, "objective 'warmth' is unknown"),
        ({"utility": {"fluency": float("nan")}}, "utility of fluency"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        map_page(made_map(DOMAINS["line of a knob"]), **options)


def test_a_region_takes_few_bytes():
    """The page grows with its regions: neither with their squares nor with the prompts'."""
    sizes = [len(map_page(made_map(DOMAINS["triangle"], regions=n))) for n in (20, 40, 80)]
    assert (sizes[2] - sizes[1]) / (3 * 40) < 300 and sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.25)


def test_ticks_are_round():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1] and ticks(0, 4) == [0, 1, 2, 3, 4] and ticks(-1, 4) == [-1, 0, 1, 2, 3, 4]
    rng = np.random.default_rng(0)
    for low, width in zip(rng.normal(size=50), 10 ** rng.uniform(-3, 3, 50), strict=True):
        assert 2 <= len(ticks(low, low + width)) <= 7 and low <= ticks(low, low + width)[0] + 1e-9


def test_one_region_is_all():
    scored = made_map(DOMAINS["triangle"], regions=1)
    page = map_page(scored)
    assert "one reply everywhere" in page and "100 %" in page and "0.00 %" not in page


def test_the_figure_of_one_prompt_has_the_knobs_axes():
    domain = DOMAINS["cut box"]
    figure = prompt_map(made_map(domain))
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == domain.knobs and figure.alt_text.startswith("A plane of guidance and strength")
    corners = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert corners.min(0) == pytest.approx([0, -1]) and corners.max(0) == pytest.approx([3, 4])


def test_the_committed_page_is_of_this_code():
    page = (Path(__file__).resolve().parent.parent / "figures" / "map.html").read_text(encoding="utf-8")
    for name in ("page.js", "page.css"):
        asset = (ASSETS / "map_page" / name).read_text(encoding="utf-8").strip()
        assert asset in page, "python scripts/make_map_page.py makes it anew"
    assert len(page) < 1_000_000 and facts_of(page)["total"] == len(facts_of(page)["prompts"]) == 32
