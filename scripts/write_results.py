"""Write the numbers of README.md and docs/results.md anew from the committed tables (the blocks of `emorl_lite/readings/results.py`).

python scripts/write_results.py            write them
python scripts/write_results.py --check    say whether they are up to date, and change nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError
from emorl_lite.base.files import read_text, write_atomically
from emorl_lite.readings.results import filled

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")


def main() -> None:
    """Write the pages, or check them."""
    if sys.argv[1:] not in ([], ["--check"]):
        raise UserError(f"{' '.join(sys.argv[1:])}: expected nothing or --check")
    for page in PAGES:
        try:
            text = read_text(page, "a page").replace("\r\n", "\n")
            made = filled(text, ROOT / "data" / "results")
            if not sys.argv[1:]:
                write_atomically(page, made)
        except UserError as error:
            raise UserError(f"{page.name}: {error}") from error
        if sys.argv[1:] and made != text:
            sys.exit(f"error: {page.relative_to(ROOT).as_posix()} is not up to date: run python scripts/write_results.py")


if __name__ == "__main__":
    run_script(main)
