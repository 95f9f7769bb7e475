"""The command `map`: every weight at once for anybody's prompts, adapters or models, and rewards, written as tables and as a page.

Loaded name by name: the command line asks for the options before it needs a model.
"""

from typing import TYPE_CHECKING

from emorl_lite.base.lazy import lazily

if TYPE_CHECKING:
    from emorl_lite.mapping.command import run_map
    from emorl_lite.mapping.options import Map

__all__ = ["Map", "run_map"]

__getattr__, __dir__ = lazily(__name__, {"run_map": "command", "Map": "options"})
