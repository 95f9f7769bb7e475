"""What clients and models wrote is shown as text: in prose, tables, explorers, figures, and cells that a spreadsheet opens."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from test_scored_map import made

from emorl_lite.base.shown_text import as_html, as_markdown, as_written, csv_text, safe_markdown
from emorl_lite.plots import framework, prompt_map, task_example
from emorl_lite.plots.map_explorer import map_explorer, map_svg
from emorl_lite.plots.map_page import map_page
from emorl_lite.plots.style import figure_bytes
from emorl_lite.plots.weight_explorer import render, weight_explorer
from emorl_lite.readings.maps import candidates_reading
from emorl_lite.readings.training import favourite_reading
from emorl_lite.tutorial import notebook

HOSTILE = {
    "image": "<img src=x onerror=alert(1)>",
    "script": "</script><script>alert(1)</script>",
    "link": "[x](javascript:alert(1))",
    "picture": "![x](javascript:alert(1))",
    "reference": "[x][y]",
    "definition": "see\n[x]: javascript:alert(1)\n[x]",
    "address": "https://evil.example/a www.evil.example me@evil.example",
    "autolink": "<javascript:alert(1)>",
    "prices": "$5 and $6",
    "half maths": "$x_{ and $y",
    "maths": r"$\href{javascript:alert(1)}{x}$ \begin{aligned}x\end{aligned} \(y\)",
    "code": "`rm -rf` and ``x",
    "formula": '=HYPERLINK("http://x","y")',
    "quotes": "\"'><b>bold</b>",
    "entity": "&lt;img src=x&gt;",
    "table": "| a | b |",
    "rest": "*a* _b_ **c** ~~d~~ # e",
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


class Page(HTMLParser):
    """What a browser makes of HTML: elements, attributes, and the text of each element."""

    def __init__(self, source: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.pieces: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def maths(self) -> bool:
        """Whether MathJax would begin mathematics: it looks at the pieces of text between elements."""
        return any(re.search(r"\$.*\$|\\[(\[]|\\begin", piece, re.DOTALL) for piece in self.pieces)

    @property
    def harmless(self) -> bool:
        allowed = {"p", "span", "strong", "em", "del", "b", "br", "code", "meter", "style"}
        allowed |= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        active = [key for key, value in self.attributes if key.startswith("on") or "javascript" in (value or "")]
        return set(self.tags) <= allowed and not active


@hostile
def test_html_shows_the_text(text):
    page = Page(f"<p>{as_html(text)}</p>")
    assert page.text == text and not page.maths and set(page.tags) <= {"p", "span"}


@hostile
def test_quoted_in_markdown_it_is_the_same_text(text):
    page = Page(markdown2html_mistune(safe_markdown(f"**The client says:** {as_markdown(text)}")))
    assert page.text.strip() == f"The client says: {' '.join(text.split())}"
    assert page.harmless and not page.maths and page.tags.count("strong") == 1


@hostile
def test_prose_is_safe_whatever_it_quotes(text, monkeypatch):
    """Marks of a client's text may still be taken as marks; nothing runs, links or turns into mathematics but what looks like some."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda made: shown.append(made.data))
    notebook.say(f"**The client says:** {text}")
    page = Page(markdown2html_mistune(shown[0]))
    assert page.harmless and not page.maths


OWN = ["With $B = 0$ it is zero.", "$[0, 1]^d$ and $O(3^d \\log_2 1/N)$", "**bold**, *it*, `code` [+0.1, +0.2]: λ"]


@pytest.mark.parametrize("prose", OWN)
def test_the_authors_own_marks_stay(prose):
    assert safe_markdown(prose) == prose


@pytest.mark.plain
def test_a_second_pass_changes_nothing():
    for text in HOSTILE.values():
        once = safe_markdown(as_markdown(text))
        assert once == as_markdown(text) and safe_markdown(once) == once


@hostile
def test_readings_quote(text):
    sentences = [candidates_reading([text], 100, [3, 4]), favourite_reading({"fluency": 1.0}, 10, {"fluency": text})]
    for sentence in sentences:
        page = Page(markdown2html_mistune(safe_markdown(sentence)))
        assert f"“{' '.join(text.split())}”" in page.text and not page.maths and page.harmless


@hostile
def test_tables_show_cells_names_and_caption(text):
    frame = pd.DataFrame({text: [0.5], "reply": [text], "mixed": [None]})
    page = Page(notebook.table(frame, text).to_html())
    assert page.text.count(text) == 3 and "0.50" in page.pieces and not page.maths and page.harmless


@pytest.mark.plain
def test_a_table_without_such_texts_is_as_pandas_writes_it():
    frame = pd.DataFrame({"reply": ["it's <fine>", None], "score": [0.123, -0.0]})
    ours = notebook.table(frame, "A caption").to_html(table_uuid="x")
    assert "it&#39;s &lt;fine&gt;" in ours and ">0.12<" in ours and "-0.0" not in ours and "<span>" not in ours


@pytest.fixture
def on_the_map(text):
    """A map whose clients and replies are this text."""
    scored = made(3)
    replies, prompts = [region.reply for region in scored.map.regions], list(scored.map.prompts)
    for region in scored.map.regions:
        object.__setattr__(region, "reply", text)
    scored.map.prompts[:] = [text] * len(prompts)
    yield scored
    for region, reply in zip(scored.map.regions, replies, strict=True):
        object.__setattr__(region, "reply", reply)
    scored.map.prompts[:] = prompts


@hostile
def test_explorers_show_the_text(text, on_the_map):
    explored = render(Echo(), lambda p, r: {text: [0.5]}, text, {text: 1.0})
    pages = [explored.html(), map_explorer(on_the_map).children[-1].children[1].value]
    pages.append(weight_explorer(Echo(), lambda p, r: {text: [0.5]}, [text], [text]).children[-1].value)
    for source in pages:
        page = Page(source)
        assert text in page.text and page.harmless and not page.maths
    picture = Page(map_svg(on_the_map, 0, [1, 1, 1]))
    assert text in picture.pieces and set(picture.tags) <= {"svg", "polygon", "title", "text", "circle"}
    page = map_page(on_the_map)
    assert page.count("<script>") == 1 and page.count("</script>") == 1 and page.count("<img") == 1


class Echo:
    def reply(self, prompts, weights=None):
        return list(prompts)


def test_names_that_the_page_has_places_for_are_texts(monkeypatch):
    scored = made(3)
    monkeypatch.setattr(scored.map, "domain", replace(scored.map.domain, corners=("@FACTS", "@PICTURE", "a2")))
    assert map_page(scored).count('"prompts":[') == 1


@hostile
def test_figures_draw_the_text(text, on_the_map):
    replies = pd.DataFrame({"method": [text], "reply": [text], text: [0.5]})
    for figure in (prompt_map(on_the_map), task_example(text, replies, [text])):
        assert figure_bytes(figure, "png")
        drawn = [artist for artist in figure.findobj(Text) if "$" in artist.get_text()]
        assert all(not artist.get_parse_math() for artist in drawn) and (drawn or "$" not in text)


def test_mathematics_of_a_diagram_stays():
    figure = framework(["$a$", "b", "c"])
    maths = {artist.get_text() for artist in figure.findobj(Text) if artist.get_parse_math() and "$" in artist.get_text()}
    assert maths == {"$w_1 h_1$", "$w_2 h_2$", "$w_3 h_3$", "$\\sum_i w_i h_i$"}


# -- cells of a spreadsheet

CELLS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''-", "- I see", "it's", "'quoted'", "", "x=1", *HOSTILE.values()]


@pytest.mark.parametrize("cell", CELLS)
def test_no_cell_is_a_formula_and_all_are_read_back(cell):
    table = pd.DataFrame({"reply": [cell, "w1"], "score": [-0.5, 0.25], "n": [-3, 4], cell + "name": ["a", "b"]})
    text = csv_text(table)
    raw = pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False)
    assert not re.match(r"[=+\-@\t\r]", str(raw["reply" if "reply" in raw else raw.columns[0]][0]))
    assert not any(re.match(r"[=+\-@\t\r]", name) for name in raw.columns)
    assert raw["score"].tolist() == [-0.5, 0.25] and raw["n"].tolist() == [-3, 4]  # numbers stay numbers
    pd.testing.assert_frame_equal(as_written(raw), table)


@given(st.lists(st.text(alphabet="'=+-@a ", max_size=5), min_size=1, max_size=5))
def test_what_is_read_back_is_what_was_written(cells):
    table = pd.DataFrame({"reply": cells, "mixed": [*cells[:-1], -1.5]}, dtype=object)
    kept = csv_text(table)
    raw = pd.read_csv(io.StringIO(kept), keep_default_na=False, dtype=str)
    assert as_written(raw)["reply"].tolist() == cells


@pytest.mark.plain
def test_an_ordinary_table_is_written_as_pandas_writes_it():
    table = pd.DataFrame({"reply": ["a", None, "b,c"], "score": [0.1, np.nan, -2.0], "flag": [True, False, True]})
    assert csv_text(table) == table.to_csv(index=False, lineterminator="\n")
    assert as_written(table).equals(table)
