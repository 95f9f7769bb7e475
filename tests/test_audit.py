"""`make audit` fails on what it finds, and on nothing else."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import read_audit

pytestmark = pytest.mark.plain
CLEAN = {"name": "torch", "version": "2.0", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1", "2.0"]}, {"id": "CVE-2", "fix_versions": []}]}
SKIPPED = {"name": "emorl_lite", "skip_reason": "not on PyPI"}


def test_what_is_found_fails(tmp_path, capsys):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"dependencies": [CLEAN, SKIPPED, BAD]}))
    assert read_audit.main(file) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("audit: 1 of 3 packages could not be looked up (not on PyPI")
    assert lines == ["pillow 1.0: CVE-1, mended in 1.1, 2.0", "pillow 1.0: CVE-2, mended in no version yet"]


def test_nothing_found_is_told(tmp_path, capsys):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"dependencies": [CLEAN, SKIPPED]}))
    assert read_audit.main(file) == 0
    told, found = capsys.readouterr().out.splitlines()
    assert "1 of 2 packages could not be looked up" in told and found == "audit: no known vulnerability in 1 packages"


def test_where_nothing_could_be_looked_up_nothing_else_is_said(tmp_path, capsys):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"dependencies": [SKIPPED, SKIPPED]}))
    assert read_audit.main(file) == 0
    assert capsys.readouterr().out == "audit: 2 of 2 packages could not be looked up (not on PyPI, ...)\n"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"dependencies": 3}', "\x00"])
def test_no_report_is_no_failure(tmp_path, capsys, content):
    file = tmp_path / "found.json"
    if content is not None:
        file.write_text(content)
    assert read_audit.main(file) == 0
    assert "not done" in capsys.readouterr().out
