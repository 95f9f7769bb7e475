"""The repository's own rules: what may be committed, how modules depend on each other, and that the version files agree."""

import ast
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from html import unescape
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from emorl_lite.base.outputs import read_provenance
from emorl_lite.plots.style import in_words

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import execute_notebooks

pytestmark = pytest.mark.plain

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "emorl_lite"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@cache
def tracked() -> list[Path]:
    """Files under version control, or about to be: those that git does not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / n for n in names if n and (ROOT / n).is_file()]


def texts() -> list[tuple[str, str]]:
    """(name, text) of every text file; notebooks without their pictures."""
    found = []
    for path in tracked():
        raw = path.read_bytes()
        if b"\0" in raw[:8192] or path.suffix in {".png", ".pdf", ".safetensors", ".npz", ".parquet"}:
            continue
        text = raw.decode("utf-8")
        if path.suffix == ".ipynb":
            book = json.loads(text)
            for cell in book["cells"]:
                for output in cell.get("outputs", []):
                    output.get("data", {}).pop("image/png", None)
            text = json.dumps(book, ensure_ascii=False, indent=0)
        found.append((path.relative_to(ROOT).as_posix(), text))
    return found


# -- files

LOCAL = {
    "a path of one machine": r"""(?<![\w.:/~*$})-])/(?:home|Users|root|work|workspace|opt|mnt|srv)/\w""",
    "a temporary path": r"/tmp/ipykernel|\\Temp\\",
    "a file URL": r"file:/" + "//",
    "a host without a domain, or an address": r"https?://(?:[\w-]+|\d+(?:\.\d+){3})(?:[:/]|$)",
    "a package index": r"(?:index-url|find-links|trusted-host)[ =]+(?!https://download\.pytorch\.org/whl/cpu\b)\S",
}


@pytest.mark.parametrize("what", LOCAL)
def test_nothing_of_one_machine_is_committed(what):
    hits = [
        f"{name}: {m.group()!r}" for name, text in texts() if name != "tests/test_repository.py" for m in re.finditer(LOCAL[what], text)
    ]
    assert not hits, f"{what}: {hits[:5]}"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see " + "/ho" + "me/anna/emorl"),
        ("a temporary path", "/tmp/" + "ipykernel_12/3.py"),
        ("a file URL", "file:" + "///data"),
        ("a host without a domain, or an address", "http:" + "//localhost:8080/simple"),
        ("a host without a domain, or an address", "http:" + "//10.0.0.1/simple"),
        ("a package index", "--extra-index" + "-url https://pypi.example.org/simple"),
    ],
)
def test_the_patterns_find_what_they_should(what, text):
    assert re.search(LOCAL[what], text)


def test_sizes():
    sizes = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked()}
    large = {n: s for n, s in sizes.items() if s >= 5_000_000}
    assert not large, f"5 MB or more: {large}"
    assert sum(sizes.values()) < 60_000_000


# -- modules


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def floors() -> list[str]:
    """The folders of the package from the top down: the order that import-linter's contract gives."""
    (contract,) = [c for c in pyproject()["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return contract["layers"]


@pytest.mark.slow
def test_imports_point_down_and_not_in_a_circle():
    """The contracts in pyproject.toml (`make lint` runs the same)."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_folder_is_a_floor():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").is_file()}
    assert folders | {"__main__"} == set(floors())
    beside = {p.name for p in PACKAGE.glob("*.py")}
    assert beside == {"__init__.py", "__main__.py"}, "a module belongs into a folder"


def test_the_contract_sees_an_import_that_points_up(tmp_path):
    """The same contracts on a copy in which the lowest floor asks the highest, and two modules ask each other."""
    shutil.copytree(PACKAGE, tmp_path / "emorl_lite", ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")

    def broken(*adds: tuple[str, str]) -> str:
        kept = {name: (tmp_path / "emorl_lite" / name).read_text(encoding="utf-8") for name, _ in adds}
        for name, line in adds:
            (tmp_path / "emorl_lite" / name).write_text(kept[name] + f"\n{line}\n", encoding="utf-8")
        command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
        for name, text in kept.items():
            (tmp_path / "emorl_lite" / name).write_text(text, encoding="utf-8")
        return done.stdout if done.returncode else ""

    assert "emorl_lite.base" in broken(("base/errors.py", "from emorl_lite.data import small_world"))
    circle = broken(("data/small_world.py", "import emorl_lite.data.tables"), ("data/tables.py", "import emorl_lite.data.small_world"))
    assert "emorl_lite.data" in circle


def forbidden(tree: ast.AST) -> list[str]:
    """Ways to run code that a file of weights brings along."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [n for n in names if n.split(".")[0] in {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}]
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                found += [f"torch.{a.name}" for a in node.names if a.name in {"save", "load"}]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in {("torch", "save"), ("torch", "load")}:
                found.append(f"torch.{node.attr}")
        elif isinstance(node, ast.keyword):
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            if (node.arg, value) in {
                ("trust_remote_code", True),
                ("use_safetensors", False),
                ("safe_serialization", False),
                ("allow_pickle", True),
            }:
                found.append(f"{node.arg}={value}")
    return found


SENT = {"answering.py": ["pickle"], "processes.py": ["pickle"]}
"""What one process of ours hands to another that it starts: it comes from no file, and what comes back is read as JSON."""


def test_no_pickle_and_no_remote_code():
    scripts = [*(ROOT / "scripts").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    hits = {p.name: bad for p in [*modules(), *scripts] if (bad := forbidden(ast.parse(p.read_text(encoding="utf-8"))))}
    assert hits == SENT, hits


@pytest.mark.parametrize(
    "code", ["import pickle", "from dill import dumps", "torch.load(f)", "from torch import save", "load(x, trust_remote_code=True)"]
)
def test_forbidden_code_is_found(code):
    assert forbidden(ast.parse(code))


@pytest.mark.parametrize("name", ["trl", "vowpalwabbit", "nbclient", "nbgrader", "psutil", "jupyterlab", "sklearn", "pytest"])
def test_optional_packages_are_imported_where_they_are_used(name):
    """A machine with the plain dependencies (Colab has no trl) must be able to import every module."""
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            )
            assert name not in {str(n).split(".")[0] for n in names}, f"{path.name}, line {node.lineno}: import {name} inside the function"


# -- versions and commands


@cache
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def pins() -> dict[str, str]:
    lines = [x.split("#")[0].strip() for x in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines if x), "constraints.txt: exact pins without a local version only"
    return {_normal(x.split("==")[0]): x.split("==")[1] for x in lines if x}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> list[Requirement]:
    project = pyproject()["project"]
    return [Requirement(x) for part in (project["dependencies"], *project["optional-dependencies"].values()) for x in part]


def test_every_dependency_is_pinned_inside_its_range():
    for need in declared():
        assert _normal(need.name) in pins(), f"constraints.txt: {need.name} is missing"
        assert need.specifier.contains(pins()[_normal(need.name)]), f"constraints.txt: {need.name} is outside {need.specifier}"
    for name in [
        "numpy",
        "tokenizers",
        "huggingface-hub",
        "ipython",
        "ipykernel",
        "jupyterlab",
        "nbclient",
        "nbconvert",
        "nbformat",
        "scipy",
    ]:
        assert name in pins(), f"constraints.txt: {name} is missing"


COLAB = {"torch": "2.11", "transformers": "5.15", "peft": "0.20", "ipywidgets": "7.7.1", "ipython": "7.34"}


def test_the_ranges_hold_what_colab_has():
    project = pyproject()["project"]
    assert SpecifierSet(project["requires-python"]).contains("3.13.0")
    for need in map(Requirement, project["dependencies"]):
        assert need.specifier.contains(COLAB.get(_normal(need.name), pins()[_normal(need.name)])), f"{need} excludes Colab's"
    assert "trl" not in {Requirement(x).name for x in project["dependencies"]}


def test_conda_environment_says_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(x for x in environment["dependencies"] if isinstance(x, str) and x.startswith("python="))
    assert SpecifierSet(pyproject()["project"]["requires-python"]).contains(python.split("=")[1])
    (pip,) = [x["pip"] for x in environment["dependencies"] if isinstance(x, dict)]
    assert pip == ["-c constraints.txt", "-e .[dev]"]


def test_readme_ci_and_workflow_run_the_same_command():
    (command,) = re.findall(r"^make test\b.*$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    assert command == "make test </dev/null"
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    runs = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in jobs.items()}
    assert runs["linux"] == ["make test"] and jobs["linux"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert runs["pages"] == ["make test-pages"]
    assert jobs["macos"]["runs-on"].startswith("macos") and runs["macos"][-1].startswith("make test")
    assert jobs["windows"]["runs-on"].startswith("windows") and runs["windows"][-1].startswith("python -m emorl_lite test")
    # the one job that takes what is newest, and the only one that may fail
    assert not any("constraints.txt" in step for step in runs["newest"])
    assert [name for name, job in jobs.items() if job.get("continue-on-error")] == ["newest"]


def test_make_runs_what_it_says():
    """`check` leaves out the slow tests alone, `test` nothing; the pages' tests are a command of their own."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()

    def recipe(target: str) -> list[str]:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{target}:"))
        return [line.strip() for line in itertools.takewhile(lambda line: line.startswith(("\t", "ifn", "endif")), lines[at + 1 :])]

    assert recipe("check") == ["@$(TEST) --quick"] and recipe("test") == ["@$(TEST)"]
    options = pyproject()["tool"]["pytest"]["ini_options"]
    assert "pages" in options["norecursedirs"] and "--strict-markers" in options["addopts"]
    assert {marker.split(":")[0] for marker in options["markers"]} == {"slow", "plain"}
    told = "\n".join(recipe("help"))
    for target in ("check", "test", "test-machines", "test-pages", "reference", "outputs"):
        assert recipe(target) and f"make {target} " in told


# -- notebooks: none yet is fine

per_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS or [pytest.param(None, marks=pytest.mark.skip(reason="no notebooks yet"))], ids=lambda p: p.name if p else "none"
)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@per_notebook
def test_notebook_is_valid_with_cell_ids(path):
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert (raw["nbformat"], raw["nbformat_minor"]) >= (4, 5), "cell ids need nbformat 4.5"
    nbformat.validate(raw)
    ids = [cell["id"] for cell in raw["cells"]]
    assert len(ids) == len(set(ids))
    assert path.stat().st_size < 1_000_000
    assert "widgets" not in raw["metadata"], "widget state breaks GitHub's rendering"


@per_notebook
def test_notebook_was_run_in_order_from_a_fresh_kernel(path):
    counts = [c.execution_count for c in read(path).cells if c.cell_type == "code" and c.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


@per_notebook
def test_notebook_outputs_are_clean(path):
    """No error, no warning, no word on stderr; every picture is told in words, in its metadata and on the page."""
    for cell in read(path).cells:
        outputs = cell.get("outputs", [])
        for number, output in enumerate(outputs):
            where = f"{path.name}, cell {cell.execution_count}"
            assert output.output_type != "error", f"{where}: {output.get('ename')}"
            if output.output_type == "stream":
                assert output.name != "stderr", f"{where}: {output.text[:200]}"
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert alt.strip(), f"{where}: a picture without alt text"
                page = outputs[number + 1].get("data", {}).get("text/html", "") if number + 1 < len(outputs) else ""
                assert in_words(alt) == page, f"{where}: the page does not tell the picture in words"


@per_notebook
def test_notebook_folds_the_cells_that_say_so(path):
    """Tag, JupyterLab's and Colab's marks agree; a folded cell's first line is its title."""
    book = read(path)
    before = [dict(cell.metadata) for cell in book.cells]
    execute_notebooks.fold(book)
    assert [dict(cell.metadata) for cell in book.cells] == before, "python scripts/execute_notebooks.py --fold sets the marks"
    titled = {c.id for c in book.cells if c.cell_type == "code" and c.source.startswith(execute_notebooks.TITLE)}
    assert titled == {c.id for c in book.cells if execute_notebooks.FOLDED in c.metadata.get("tags", [])}


def test_folding_marks_the_tagged_cells_alone():
    def cell(source: str, **metadata: object) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell(source, metadata=metadata)

    folded = cell("# @title Costs\nplot()", tags=["hide-input"], jupyter={"outputs_hidden": False})
    plain = cell("plot()", jupyter={"source_hidden": True}, cellView="form")
    execute_notebooks.fold(nbformat.v4.new_notebook(cells=[folded, plain, nbformat.v4.new_markdown_cell("# @title")]))
    assert folded.metadata == {"tags": ["hide-input"], "cellView": "form", "jupyter": {"outputs_hidden": False, "source_hidden": True}}
    assert plain.metadata == {}
    with pytest.raises(ValueError, match="first line"):
        execute_notebooks.fold(nbformat.v4.new_notebook(cells=[cell("plot()", tags=["hide-input"])]))


def test_progress_bars_leave_and_words_stay():
    bars = "search:   0%|    | 0/135 [00:00<?, ?it/s]\rsearch: 100%|███| 135/135 [00:04<00:00, 32.65it/s]\nUserWarning: odd\n"
    output = nbformat.v4.new_output("stream", name="stderr", text=bars)
    cell = nbformat.v4.new_code_cell("search()", outputs=[output, nbformat.v4.new_output("stream", name="stderr", text=bars[:-17])])
    execute_notebooks.tidy(nbformat.v4.new_notebook(cells=[cell]))
    assert [o.text for o in cell.outputs] == ["UserWarning: odd\n"]


WIDTH = 100
"""Columns of a line of code, in notebooks: a laptop shows them beside JupyterLab's file list."""
TABLE, LINE = 110, 20
"""Characters of a table's widest row as it is laid out, headers included, where texts wrap to lines of so many."""


@per_notebook
def test_notebook_code_fits_a_laptop(path):
    long = [
        f"cell {cell.id}, {len(line)} columns: {line[:60]}"
        for cell in read(path).cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if len(line) > WIDTH
    ]
    assert not long, f"{path.name}: {long}"


@per_notebook
def test_notebook_tables_fit_a_laptop(path):
    wide = [
        f"cell {cell.execution_count}: {width} characters"
        for cell in read(path).cells
        for output in cell.get("outputs", [])
        for html in re.findall(r"<table.*?</table>", output.get("data", {}).get("text/html", ""), re.S)
        if (width := table_width(html)) > TABLE
    ]
    assert not wide, f"{path.name}: {wide}"


def table_width(html: str) -> int:
    """Characters of a table that wraps as it may: headers at each space, texts to lines of 20, numbers not at all."""
    rows = [re.findall(r"<(t[hd])[^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall(r"<tr.*?</tr>", html, re.S)]
    columns = itertools.zip_longest(*rows, fillvalue=("td", ""))
    return sum(max(_cell_width(kind, unescape(re.sub(r"<[^>]+>", "", cell))) for kind, cell in column) + 2 for column in columns)


def _cell_width(kind: str, text: str) -> int:
    return max(min(len(text), LINE if kind == "td" else 0), max(map(len, text.split()), default=0))


def test_the_width_of_a_table():
    html = "<table><tr><th>a bc def</th><th>bcd</th></tr><tr><td>&lt;1</td><td>" + "word " * 30 + "</td></tr></table>"
    assert table_width(html) == 3 + 2 + 20 + 2


@per_notebook
def test_notebook_opens_with_what_the_reader_needs(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    missing = [word for word in ("Objectives", "Prerequisites", "Time", "Hardware") if word not in first.source]
    assert not missing, f"{path.name}: the first cell lacks {missing}"


def test_the_committed_model_is_the_one_that_the_data_page_names():
    model = PACKAGE / "assets" / "tiny_lm" / "model.safetensors"
    assert hashlib.sha256(model.read_bytes()).hexdigest() in (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def test_committed_tables_have_their_provenance():
    for table in (ROOT / "data" / "results").glob("*.csv"):
        facts = read_provenance(table)
        assert {"command", "preset", "commit", "torch"} <= set(facts), table.name
