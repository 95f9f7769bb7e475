"""Write docs/modules.md, the list of all modules by floor, from the first paragraph of each one's docstring.

python scripts/list_modules.py            write it
python scripts/list_modules.py --check    say whether it is up to date, and change nothing
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "emorl_lite"
PAGE = ROOT / "docs" / "modules.md"
HEAD = """# Modules

Written by `python scripts/list_modules.py` from the modules' docstrings: change those, not this page. A folder is a floor. Imports point
down this page only, so the package can be read from the bottom up.
"""


def told(path: Path) -> str:
    """What a module says of itself: the first paragraph of its docstring on one line, without its list of shapes."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise UserError(f"{path.relative_to(ROOT).as_posix()}: has no docstring")
    line = " ".join(docstring.split("\n\n")[0].split())
    return re.sub(r"\s*Shapes: .*$", "", line)


def floors() -> list[str]:
    """The package's folders and modules from the top floor down, in the order of import-linter's contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract["type"] == "layers")  # type: ignore[no-any-return]


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for floor in floors():
        folder = PACKAGE / floor
        if not folder.is_dir():
            parts.append(f"## [`{floor}`](../emorl_lite/{floor}.py)\n\n{told(folder.with_suffix('.py'))}\n")
            continue
        files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        rows = [f"| [`{path.stem}`](../emorl_lite/{floor}/{path.name}) | {told(path).replace('|', chr(92) + '|')} |" for path in files]
        table = "\n".join(["| module | what it is |", "|---|---|", *rows])
        parts.append(f"## [`{floor}`](../emorl_lite/{floor}/__init__.py)\n\n{told(folder / '__init__.py')}\n\n{table}\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page, or check it."""
    if sys.argv[1:] not in ([], ["--check"]):
        raise UserError(f"{' '.join(sys.argv[1:])}: expected nothing or --check")
    text = page()
    if not sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8", newline="\n")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("error: docs/modules.md is not up to date: run python scripts/list_modules.py")


if __name__ == "__main__":
    run_script(main)
