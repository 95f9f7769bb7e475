"""What other people wrote, clients or models, shown as text: in HTML, in Markdown, and in cells that a spreadsheet opens.

There, <img onerror=…> would be an image, $5 and $6 mathematics, [x](javascript:…) a link, and =HYPERLINK(…) a formula.
"""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

DOLLAR, BACKSLASH = "<span>&#36;</span>", "<span>&#92;</span>"
"""Signs that begin mathematics, in an element of their own: MathJax does not look across elements."""
MARKUP = re.compile(r"[`*_{}\[\]<>&#|~!@]|:(?=//)|(?<=www)\.")
"""Signs that Markdown may take for its own, addresses among them."""
DEFINITION = re.compile(r"^([ >]{0,4}\[[^\]\n]*\]):", re.MULTILINE)
"""Where a link leads, in a line of its own."""
TAG = re.compile(r"<(?=[A-Za-z/!?])")
MATHS = re.compile(r"(?<![\\\w$])\$(?=[^\s$\d])[^$\n]{0,80}?(?<=[^\s$\\])\$(?![\w$])")
"""Mathematics in a sentence, as pandoc tells it from prices: no space inside the signs, no digit behind them; $5 and $6 are none."""
COMMANDS = {"log", "sum", "cdot", "times", "le", "ge", "pi", "lambda", "alpha"}
"""Those of TeX that a sentence may hold."""
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that a spreadsheet would read as a formula, or that was kept from it."""


def as_html(text: object) -> str:
    """A text within an element of HTML (not in an attribute): no markup, no mathematics."""
    return _without_maths(html.escape(str(text), quote=False))


def as_markdown(text: object) -> str:
    """A text within a sentence of Markdown, in one line: no markup, no link, no mathematics."""
    line = re.sub(r"[ \t]*[\r\n\v\f\x85\u2028\u2029]+[ \t]*", " ", str(text))
    return _without_maths(MARKUP.sub(lambda sign: f"&#{ord(sign[0])};", line))


def _without_maths(text: str) -> str:
    return text.replace("\\", BACKSLASH).replace("$", DOLLAR)


def safe_markdown(markdown: str) -> str:
    """Prose with the marks and the mathematics of its author, whatever texts of others it quotes: no HTML, no links, prices as prices."""
    parts, end = list[str](), 0
    for maths in MATHS.finditer(markdown):
        if set(re.findall(r"\\([A-Za-z]+)", maths[0])) <= COMMANDS:
            parts += [_prose(markdown[end : maths.start()]), TAG.sub("&lt;", maths[0])]
            end = maths.end()
    return "".join([*parts, _prose(markdown[end:])])


def _prose(markdown: str) -> str:
    own = {DOLLAR: "\ue000", BACKSLASH: "\ue001"}  # of what was quoted with `as_markdown`
    for element, sign in own.items():
        markdown = markdown.replace(sign, "").replace(element, sign)
    markdown = TAG.sub("&lt;", markdown).replace("](", "]&#40;").replace("://", "&#58;//")
    markdown = DEFINITION.sub(r"\1&#58;", markdown)
    markdown = _without_maths(markdown)
    for element, sign in own.items():
        markdown = markdown.replace(sign, element)
    return markdown


def guarded(cell: Any) -> Any:
    """A cell of a CSV file as a spreadsheet may have it: texts that it would read as formulas begin with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def unguarded(cell: Any) -> Any:
    """The cell that was guarded."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and FORMULA.match(cell) else cell


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, without its index, its texts and names of columns guarded. Numbers stay numbers, negative ones too."""
    cells = _with_cells(table, guarded)
    texts = [*cells.columns, *(cell for _, column in cells.select_dtypes(exclude="number").items() for cell in column)]
    returns = any(isinstance(text, str) and "\r" in text for text in texts)  # outside quotes they would end the row
    return cells.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)


def as_written(table: pd.DataFrame) -> pd.DataFrame:
    """The table that `csv_text` was given, from what was read back."""
    return _with_cells(table, unguarded)


def _with_cells(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    out = table.rename(columns=change)
    for place, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind) and table.iloc[:, place].map(lambda cell: change(cell) is not cell).any():
            out.isetitem(place, table.iloc[:, place].map(change).array)
    return out
