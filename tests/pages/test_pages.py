"""Every notebook on other runs than the page shows: the reference's other seeds, and a deliberately weak run (`make test-pages`).

What a page says must be true of any run. Each notebook is executed on each of these; nothing may fail, warn, or read like a slip of the
pen, and a figure whose picture changes with the run must not keep an alternative text that states an outcome. The texts of all pages, with
their tables, go to runs/pages/<run>/<notebook>.md, to be read side by side.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from filelock import FileLock

from emorl_lite.base.paths import ASSETS
from emorl_lite.base.presets import get_preset
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.tutorial.execution import execute, read_notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
WEAK_EPISODES = 256
"""Four steps: adapters that hardly differ from the base."""
RUNS = {"seed0": ("reference", 0), "seed1": ("reference", 1), "seed2": ("reference", 2), "weak": ("weak", 0)}
OUTCOME = re.compile(
    r"\b(rises?|falls?|grows?|drops?|highest|lowest|best|worst|beats?|wins?|leads?|above|below|higher|lower|larger|smaller|"
    r"fastest|faster|slower|more than|less than|close together|come together|level off|piles? up|hugs?|ahead|never|nearly|hardly)\b",
    re.IGNORECASE,
)
SLIPS = {
    "a value that is not there": r"\bnan\b|\bNone\b(?! (?:of|is|are|was)\b)|\binf\b",
    "minus zero": r"(?<![\d.])[-−]0(?:\.0+)?(?!\d|\.\d)",
    "one of many": r"(?<![\d.,/])1 (?:replies|clients|points|seeds|words|regions|cells|directions|methods|searches|steps|borders)\b",
    "a gap in a sentence": r"\(\)|: \.(?!\d)|, ,|, \.(?!\d)|: ;|; \.(?!\d)",
}


@dataclass
class Page:
    """What a reader sees of an executed notebook."""

    text: str
    """Everything, in order."""
    sentences: list[str]
    """Computed prose."""
    figures: dict[str, tuple[str, str]]
    """Cell and number in it -> (picture as base64, alternative text)."""


def plain(table: str) -> str:
    """The text of an HTML table, a row a line."""
    table = re.sub(r"<style.*?</style>", "", table, flags=re.S)
    table = re.sub(r"</(?:tr|caption)>\s*", "\n", re.sub(r"</t[dh]>\s*", " | ", table))
    return "\n".join(line.strip() for line in html.unescape(re.sub(r"<[^>]+>", "", table)).splitlines() if line.strip())


def read(book: Any) -> Page:
    """The page of an executed notebook. Raises AssertionError for an error, or a warning on the page."""
    page = Page("", [], {})
    parts: list[str] = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        for number, output in enumerate(cell.outputs):
            data = output.get("data", {})
            assert output.output_type != "error", f"{cell.id}: {output.get('ename')}: {output.get('evalue')}"
            if output.output_type == "stream":
                assert "Warning" not in output.text, f"{cell.id}: {output.text[:300]}"
                parts.append(output.text)
            elif "text/markdown" in data:
                page.sentences.append(data["text/markdown"])
                parts.append("> " + data["text/markdown"])
            elif "image/png" in data:
                alt = output.metadata.get("image/png", {}).get("alt", "")
                page.figures[f"{cell.id}.{number}"] = (data["image/png"], alt)
                parts.append(f"[figure: {alt}]")
            elif "text/html" in data:
                parts.append(plain(data["text/html"]) if len(data["text/html"]) < 60_000 else "[page]")
    page.text = "\n\n".join(parts)
    return page


@pytest.fixture(scope="session")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like emorl_lite/assets/tiny whose adapters were trained for a few steps; made once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "weak"
    with FileLock(f"{shared}.lock"):
        preset = get_preset("tiny")
        if not (shared / "tiny" / "made").is_file():
            shutil.copytree(ASSETS / "tiny" / "classifiers", shared / "tiny" / "classifiers", dirs_exist_ok=True)
            few = replace(preset, ppo=replace(preset.ppo, episodes=WEAK_EPISODES))
            Experiment(few, 0, shared, progress=False).train_all(workers=1)
            (shared / "tiny" / "made").touch()
    return shared / "tiny"


def page_of(path: Path, run: str, seed: int, scratch: Path) -> Page:
    """The page that a reader of this run sees."""
    book = read_notebook(path)
    choices = {"EMORL_RUN": run, "EMORL_SEED": str(seed), "EMORL_RUNS": scratch / "runs", "EMORL_FIGURES": scratch / "figures"}
    execute(book, path.parent, choices)
    return read(book)


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_is_true_of_any_run(path, weak, tmp_path):
    pages = {}
    for name, (run, seed) in RUNS.items():
        pages[name] = page_of(path, str(weak) if run == "weak" else run, seed, tmp_path / name)
        kept = ROOT / "runs" / "pages" / name / f"{path.stem}.md"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(pages[name].text + "\n", encoding="utf-8")
    slips = [
        f"{name}: {what}: …{sentence[max(0, m.start() - 40) : m.end() + 40]}…"
        for name, page in pages.items()
        for sentence in [*page.sentences, *(alt for _, alt in page.figures.values())]
        for what, pattern in SLIPS.items()
        for m in re.finditer(pattern, sentence)
    ]
    assert not slips, slips
    assert not (fixed := fixed_outcomes(pages)), fixed


def fixed_outcomes(pages: dict[str, Page]) -> list[str]:
    """Alternative texts that state an outcome and stay the same where the picture changes."""
    first, *others = pages.values()
    return [
        f"{cell}: {alt}"
        for cell, (picture, alt) in first.figures.items()
        if OUTCOME.search(alt)
        and any(page.figures[cell][0] != picture for page in others)
        and all(page.figures[cell][1] == alt for page in others)
    ]


# -- the test itself can fail


def page(*outputs: Any) -> Any:
    cell = nbformat.v4.new_code_cell("", outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title"), cell])


def picture(data: str, alt: str) -> Any:
    return nbformat.v4.new_output("display_data", {"image/png": data}, metadata={"image/png": {"alt": alt}})


def test_an_outcome_that_does_not_follow_its_picture_is_found():
    a, b = (read(page(picture(data, "Two curves: one rises."))) for data in ("AAAA", "BBBB"))
    for one, other in ((a, b), (b, a)):
        other.figures = dict(zip(one.figures, other.figures.values(), strict=True))
        assert fixed_outcomes({"one": one, "other": other})
        assert not fixed_outcomes({"one": one, "same": one})
    described = Page("", [], {key: (data, f"{alt} {data}") for key, (data, alt) in b.figures.items()})
    assert not fixed_outcomes({"one": a, "other": described})


@pytest.mark.parametrize(
    "sentence", ["It is nan.", "A change of -0.00.", "Only 1 replies.", "The others: .", "Found () here.", "−0 of them", "None of it: None"]
)
def test_slips_are_found(sentence):
    assert any(re.search(pattern, sentence) for pattern in SLIPS.values())


@pytest.mark.parametrize(
    "sentence",
    [
        "A change of -0.05 in 21 replies.",
        "It gains 0.00.",
        "weights (1, 0, 0)",
        "None of them is.",
        "1 is perfect, .5 is guessing",
        "10⁻⁵ and 1e-05",
        "none of 11 replies",
    ],
)
def test_what_is_no_slip_passes(sentence):
    assert not any(re.search(pattern, sentence) for pattern in SLIPS.values())


def test_errors_and_warnings_fail():
    with pytest.raises(AssertionError, match="KeyError"):
        read(page(nbformat.v4.new_output("error", ename="KeyError", evalue="x", traceback=[])))
    with pytest.raises(AssertionError, match="Warning"):
        read(page(nbformat.v4.new_output("stream", name="stderr", text="FutureWarning: old")))
