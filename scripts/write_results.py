"""Write the numbers of README.md and docs/results.md anew from the committed tables (the blocks of `emorl_lite/readings/results.py`).

python scripts/write_results.py            write them
python scripts/write_results.py --check    say whether they are up to date, and change nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.readings.results import filled

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")


def main() -> None:
    """Write the pages, or check them."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(f"error: {' '.join(sys.argv[1:])}: expected nothing or --check")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        try:
            made = filled(text, ROOT / "data" / "results")
        except UserError as error:
            sys.exit(f"error: {page.name}: {error}")
        if not sys.argv[1:]:
            page.write_text(made, encoding="utf-8", newline="\n")
        elif made != text:
            sys.exit(f"error: {page.relative_to(ROOT).as_posix()} is not up to date: run python scripts/write_results.py")


if __name__ == "__main__":
    main()
