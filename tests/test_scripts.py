"""Scripts and benchmarks end as commands do: a mistake is one line and status 2."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

from emorl_lite.base import entry
from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import data_root
from emorl_lite.readings import results
from emorl_lite.study.tables import TABLES, table_path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py")])


def starts(path: Path) -> list[str]:
    """What a program does when it is started: the lines under `if __name__ == "__main__"`."""
    bodies = [node.body for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    return [ast.unparse(line) for body in bodies for line in body if "__name__" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_program_ends_by_the_one_entry(path):
    assert starts(path)[-1].startswith("run_script(")
    others = [line for line in path.read_text(encoding="utf-8").splitlines() if re.search(r"(sys\.exit|SystemExit)\(f?[\"']error", line)]
    assert all("is not up to date" in line for line in others), "a check that fails is no mistake of a user's"


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("list_modules", ["--chek"], "error: --chek: expected nothing or --check"),
        ("write_results", ["a", "b"], "error: a b: expected nothing or --check"),
        ("set_repository", ["http://x"], "error: 'http://x': expected https://github.com/OWNER/NAME"),
        ("read_audit", [], "error: expected the report of pip-audit, got nothing"),
        ("tune_gdpo", ["--times", "-1"], "error: --times -1.0: must be positive"),
        ("tune_genarm", ["--seeds", "1", "1"], "error: --seeds (1, 1): '1' is there twice"),
        ("tune_genarm", ["--seed", "1"], "error: Unrecognized options: --seed, 1"),
        ("paper_cubes", ["--out", "cubes.txt"], "error: --out cubes.txt"),
        ("publish_study", ["--preset", "tiny"], "error: --preset tiny: its run comes with the package"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(script, arguments, told, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
    monkeypatch.setattr(argparse.ArgumentParser, "error", argparse.ArgumentParser.error)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, script, module)
    spec.loader.exec_module(module)
    started = {"publish_study": lambda: module.publish(entry.typed(module.Options)), "read_audit": lambda: module.main(module.given())}
    with pytest.raises(SystemExit) as stopped:
        entry.run_script(started.get(script) or module.main)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith(told) and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_how_a_program_ends(monkeypatch, capsys):
    def wrong() -> None:
        raise UserError("x: not so")

    def unforeseen() -> None:
        raise RuntimeError("why?")

    def of_argparse() -> None:
        argparse.ArgumentParser().parse_args(["--nope"])

    monkeypatch.setattr(sys, "argv", ["a/b.py", "--x"])
    monkeypatch.setattr(argparse.ArgumentParser, "error", argparse.ArgumentParser.error)
    ends = [(wrong, 2, "error: x: not so"), (unforeseen, 1, "error: RuntimeError: why?; full report: ")]
    ends += [(of_argparse, 2, "error: unrecognized arguments: --nope"), (lambda: None, 0, ""), (lambda: 1, 1, "")]
    for main, status, told in ends:
        with pytest.raises(SystemExit) as stopped:
            entry.run_script(main)
        said = capsys.readouterr().err
        assert stopped.value.code == status and said.startswith(told) and said.count("\n") == bool(told)
        if "report: " in said:
            report = Path(said.strip().rpartition("report: ")[2])
            assert report.read_text(encoding="utf-8").startswith("command: python b.py --x\n")
            report.unlink()


def test_a_column_that_holds_no_numbers_is_one_line(tmp_path):
    for name in TABLES:
        shutil.copyfile(table_path(data_root() / "results", name), table_path(tmp_path, name))
    rows = table_path(tmp_path, "rows")
    head, first, *rest = rows.read_text(encoding="utf-8").splitlines()
    cells = first.split(",")
    cells[head.split(",").index("mean")] = "high"
    rows.write_text("\n".join([head, ",".join(cells), *rest]), encoding="utf-8")
    page = "<!-- made: rivals -->\n<!-- end -->\n"
    with pytest.raises(UserError, match=r"^block 'rivals': a table or record in [^\n]*$"):
        results.filled(page, tmp_path)
