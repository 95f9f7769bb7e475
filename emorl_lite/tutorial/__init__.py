"""What the notebooks and the `tutorial` command need beside the method: a start line, prose with numbers, tables, checks of exercises.

Loaded name by name: Colab's first cell asks for `tutorial.colab` before torch's companions are installed.
"""

from typing import TYPE_CHECKING

from emorl_lite.base.lazy import lazily

if TYPE_CHECKING:
    from emorl_lite.tutorial.authors import attempt, fetch_on_colab, open_authors
    from emorl_lite.tutorial.checks import check
    from emorl_lite.tutorial.notebook import beside, committed, open_run, say, size, start, table

__all__ = ["attempt", "beside", "check", "committed", "fetch_on_colab", "open_authors", "open_run", "say", "size", "start", "table"]

_AUTHORS = {name: "authors" for name in ("attempt", "fetch_on_colab", "open_authors")}
_CHECKS = {"check": "checks"}
_NOTEBOOK = {name: "notebook" for name in ("beside", "committed", "open_run", "say", "size", "start", "table")}
__getattr__, __dir__ = lazily(__name__, _AUTHORS | _CHECKS | _NOTEBOOK)
