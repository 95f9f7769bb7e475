"""Read what pip-audit found. Exit status 1 for a known vulnerability; a report that is missing or cut off, and packages
that it does not know, are told and are no failure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from emorl_lite.base.entry import run_script
from emorl_lite.base.errors import UserError


def vulnerabilities(report: dict[str, Any]) -> list[str]:
    """A line each: package, version, identifier, and the versions that mend it."""
    lines = []
    for package in report["dependencies"]:
        for found in package.get("vulns", []):
            mended = ", ".join(found.get("fix_versions", [])) or "no version yet"
            lines.append(f"{package['name']} {package['version']}: {found['id']}, mended in {mended}")
    return lines


def main(file: Path) -> int:
    """Print what was found."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        print("audit: not done, the list of vulnerabilities cannot be reached from here")
        return 0
    try:
        lines = vulnerabilities(report)
    except (KeyError, TypeError, AttributeError):
        print("audit: not done, the report has another form than pip-audit's had")
        return 0
    skipped = [package for package in report["dependencies"] if "skip_reason" in package]
    if skipped:
        print(f"audit: {len(skipped)} of {len(report['dependencies'])} packages could not be looked up ({skipped[0]['skip_reason']}, ...)")
    if looked_up := len(report["dependencies"]) - len(skipped):
        print("\n".join(lines) or f"audit: no known vulnerability in {looked_up} packages")
    return 1 if lines else 0


def given() -> Path:
    """The report that was named. Raises UserError unless it is one."""
    if len(sys.argv) != 2:
        raise UserError(f"expected the report of pip-audit, got {' '.join(sys.argv[1:]) or 'nothing'}")
    return Path(sys.argv[1])


if __name__ == "__main__":
    run_script(lambda: main(given()))
