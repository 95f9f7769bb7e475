"""Each published number says where it was read, which function of ours stands beside it, and where it is shown; nothing else is quoted."""

from __future__ import annotations

import html
import importlib
import json
import re
from functools import cache
from pathlib import Path

import pytest

from emorl_lite.methods.registry import METHODS as REGISTERED
from emorl_lite.readings import paper as paper_readings
from emorl_lite.study import paper
from emorl_lite.study.facts import CLASSES, FACTS, FAULTS, METHODS, SOURCES, UNCONFIRMED, Fact, Fault

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"])


def output_text(output: dict) -> str:
    """What a cell shows, as text: Markdown, tables without their tags, printed lines; no pictures."""
    if output["output_type"] == "stream":
        return "".join(output["text"])
    data = output.get("data", {})
    shown = "".join(data.get("text/markdown", "") or data.get("text/html", "") or data.get("text/plain", ""))
    shown = re.sub(r"<style.*?</style>|<script.*?</script>", " ", shown, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", " ", shown)) if len(shown) < 200_000 else ""


@cache
def sections(number: str) -> dict[str, str]:
    """A notebook's sections by heading, with what their cells show; a section holds its subsections."""
    parts: list[tuple[int, str, list[str]]] = [(0, "", [])]
    for cell in json.loads(NOTEBOOKS[number].read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parts[-1][2].extend([text, *(output_text(output) for output in cell["outputs"])])
            continue
        pieces = re.split(r"(?m)^(#{1,4}) (.+)$", text)
        parts[-1][2].append(pieces[0])
        parts.extend((len(marks), head, [body]) for marks, head, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True))
    found = {}
    for i, (level, head, body) in enumerate(parts):
        inner = list(body)
        for deeper, _, more in parts[i + 1 :]:
            if deeper <= level:
                break
            inner.extend(more)
        found[head] = "\n".join([head, *inner])
    return found


def place(shown: str) -> str:
    """The text of a page, or of a notebook's section ("08 · heading")."""
    number, dot, heading = shown.partition(" · ")
    if not dot:
        return (ROOT / shown).read_text(encoding="utf-8")
    assert heading in sections(number), f"notebook {number} has no section {heading!r}"
    return sections(number)[heading]


@cache
def unexecuted(number: str) -> set[str]:
    """Headings of a notebook under which a cell is to be executed again: what it will show is not known yet."""
    found, heading = set(), ""
    for cell in json.loads(NOTEBOOKS[number].read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"(?m)^#{1,4} (.+)$", "".join(cell["source"])) or [heading])[-1]
        elif cell["execution_count"] is None:
            found |= {other for other in sections(number) if other == heading or f"\n{heading}\n" in sections(number)[other]}
    return found


def holds(text: str, form: str) -> bool:
    return re.search(rf"(?<![\d.,]){re.escape(form)}(?!\d|[.,]\d)", text) is not None


def resolve(name: str) -> object:
    """What a dotted path names."""
    module, _, rest = name.rpartition(".")
    return getattr(importlib.import_module(module), rest)


each_fact = pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.about}: {fact.name}")


@each_fact
def test_a_published_number_has_a_source_a_function_and_a_place(fact: Fact) -> None:
    assert fact.source in SOURCES
    assert callable(resolve(fact.function))
    assert fact.shown
    for shown in fact.shown:
        text = place(shown)
        number, _, heading = shown.partition(" · ")
        if heading and heading in unexecuted(number):
            pytest.skip(f"{shown}: a cell is to be executed again")
        assert any(holds(text, form) for form in fact.forms), f"{shown} does not hold {fact.text}"
        if fact.source in UNCONFIRMED:
            assert "unconfirmed summary" in text, f"{shown} does not say that {fact.text} is from an unconfirmed summary"


def test_a_formula_of_the_paper_is_in_the_table_too() -> None:
    formulas = {fact.text: fact for fact in FACTS if fact.formula}
    assert list(formulas) == [r"$O(3^d \log_2 1/N)$"] and formulas[r"$O(3^d \log_2 1/N)$"].source not in ("code", "abstract", "scatter")
    line = paper.published().set_index("number").loc["cost of the search"]
    assert line["value"] == r"$O(3^d \log_2 1/N)$" and line["confirmed"] == "no"


def test_what_an_eye_reads_has_two_digits() -> None:
    assert all(len(fact.text.partition(".")[2]) == 2 for fact in FACTS if fact.source == "cubes")


def test_numbers_are_there_once() -> None:
    assert len({(fact.about, fact.name) for fact in FACTS}) == len(FACTS)


def test_the_papers_methods_are_ours_of_that_name() -> None:
    for method, dotted in CLASSES.items():
        assert REGISTERED[method] == (dotted.replace(".", ":"), {}), method
    assert set(CLASSES) == set(METHODS) == set(paper.CONSUMPTION["method"])
    assert "exact-average" in METHODS and "rewarded-soups" not in METHODS, "its code adds the products B A"


def distinctive() -> dict[str, str]:
    """Ways to write a published number that nothing else would have, and where it was read."""
    found = {}
    for fact in FACTS:
        for form in fact.forms | ({f"{fact.spread:,.0f}", f"{fact.spread:.4f}"} if fact.spread else set()):
            if len(re.sub(r"\D", "", form).strip("0")) >= 4:
                found[form] = fact.source
    return found


@pytest.mark.parametrize("form", sorted(form for form, source in distinctive().items() if source in UNCONFIRMED))
def test_unconfirmed_numbers_are_labelled_wherever_they_stand(form: str) -> None:
    for path in PAGES:
        for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
            assert not holds(paragraph, form) or "unconfirmed summary" in paragraph, f"{path.name}: {form}"
    for number in NOTEBOOKS:
        for heading, text in sections(number).items():
            assert not holds(text, form) or "unconfirmed summary" in text, f"notebook {number}, {heading}: {form}"


def test_what_is_said_of_the_paper_is_in_the_table() -> None:
    """Decimal numbers and large ones in sentences about what the paper says or reports are published numbers of the table."""
    known = {form for fact in FACTS for form in fact.forms} | {
        form for fact in FACTS if fact.spread for form in (f"{fact.spread:,.0f}", f"{fact.spread:.4f}", f"{fact.spread:.4f}".lstrip("0"))
    }
    vectors, prompts = paper.SEARCH
    known |= {f"{vectors * prompts:,}", f"{paper_readings._level(paper_readings.LAST, 0.015):.2f}"}  # follow from it
    says = re.compile(r"[^.!?]*(?:[Tt]he paper (?:reports|says|names|takes|counts)|[Tt]he paper's (?:own|code))(?:[^.!?]|\.\d)*")
    unknown = []
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES} | {number: sections(number)[""] for number in NOTEBOOKS}
    for name, text in texts.items():
        for sentence in says.findall(re.sub(r"\]\([^)]*\)|\d{4}\.\d{5}", "]", text)):
            unknown += [
                (name, n) for n in re.findall(r"(?<![\w.,])(?:\d*\.\d{2,}|\d{1,3}(?:,\d{3})+)(?![\w.,]*\d)", sentence) if n not in known
            ]
    assert not unknown


def test_the_longest_run_is_not_calculated_backwards():
    """17,529 less the search is no measurement of the longest run: that was read off a plot, to the nearest thousand."""
    backwards = paper.CONSUMPTION.set_index("method")["data_points"]["emorl"] - paper.SEARCH[0] * paper.SEARCH[1]
    texts = [path.read_text(encoding="utf-8") for path in PAGES] + [sections(number)[""] for number in NOTEBOOKS]
    assert not any(holds(text, form) for text in texts for form in (f"{backwards:,}", "13,200", "13.2k"))
    assert all(low % 1000 == high % 1000 == 500 or low % 1000 == high % 1000 == 0 for low, high in (paper.LONGEST_RUN, *paper.OTHER_RUNS))


def test_a_missing_number_is_found() -> None:
    assert holds("it has .768 and more", ".768") and not holds("it has 10.768", ".768") and not holds("17,5290", "17,529")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code[:40])
def test_a_fault_of_the_public_code_is_shown_where_it_is_said_to_be(fault: Fault) -> None:
    assert len(fault.code) <= 110 and len(fault.here) <= 60
    if fault.section:
        text = place(fault.section)
        number, _, heading = fault.section.partition(" · ")
        if heading in unexecuted(number):
            pytest.skip(f"{fault.section}: a cell is to be executed again")
        assert fault.evidence and fault.evidence in text, f"{fault.section}: {fault.evidence!r}"
    else:
        assert not fault.evidence
    assert fault.code in set(paper.DEFECTS["in the paper's public code"])
