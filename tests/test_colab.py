"""Notebooks on Google Colab: the address and the bootstrap cell agree, nothing protected is touched, and Colab's own versions run them.

The last part installs Colab's published versions of four packages beside ours (about a minute), stands in for `google.colab` and for
`git clone`, and executes notebook 00; EMORL_COLAB=all executes every notebook (`make colab-test`), EMORL_COLAB=no skips it.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest

from emorl_lite.base.errors import UserError
from emorl_lite.tutorial import colab

pytestmark = pytest.mark.plain

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PUBLISHED = ["transformers==5.15.*", "peft==0.20.*", "ipywidgets==7.7.1", "ipython==7.34.0"]
"""Colab's versions, and what the two last need in a version of their time."""
THEIR_NEEDS = ["widgetsnbextension==3.6.10", "jupyterlab_widgets==1.1.11", "tokenizers>=0.22,<=0.23.0", "setuptools<81"]
THEIR_NEEDS += ["huggingface-hub>=1.5,<2", "ipython_genutils", "backcall", "pickleshare", "jedi", "parso", "decorator"]


STAND_IN = """import sys, types
from importlib.machinery import ModuleSpec

for name in ("google", "google.colab"):
    module = types.ModuleType(name)
    module.__spec__, module.__path__ = ModuleSpec(name, None), []
    sys.modules.setdefault(name, module)
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_every_notebook_opens_in_colab(path):
    book = nbformat.read(path, as_version=4)
    assert book.cells[0].source.startswith(colab.badge(path.name) + "\n\n# ")
    assert book.cells[1].source == colab.BOOTSTRAP.format(repository=colab.repository()).strip()
    assert "pip" not in book.cells[1].source, "what is installed is decided in one tested place"
    others = [cell.source for cell in book.cells[2:] if cell.cell_type == "code" and "google.colab" in cell.source]
    assert not others


def test_the_address_is_the_same_everywhere():
    address = colab.repository()
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address)
    own = address.rsplit("/", 1)[1]
    for name in ("README.md", "CITATION.cff"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert address in text or address.removeprefix("https://github.com/") in text, name
        found = {m for m in re.findall(r"github\.com/([\w.-]+)/" + own, text)} | set(
            re.findall(r"google\.com/github/([\w.-]+)/" + own, text)
        )
        assert found <= {address.split("/")[-2]}, name


@pytest.mark.slow
def test_one_command_rewrites_the_address(tmp_path):
    for name in ("pyproject.toml", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("emorl_lite", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS[0], tmp_path / "notebooks")
    command = [sys.executable, str(tmp_path / "scripts" / "set_repository.py")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    there = "https://github.com/someone/else"
    subprocess.run([*command, there], check=True, env=environment, capture_output=True, cwd=tmp_path)
    book = nbformat.read(tmp_path / "notebooks" / NOTEBOOKS[0].name, as_version=4)
    before = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert "google.com/github/someone/else/blob" in book.cells[0].source and there in book.cells[1].source
    assert [cell for cell in book.cells[2:]] == [cell for cell in before.cells[2:]], "nothing else changes"
    for name in ("pyproject.toml", "CITATION.cff", "README.md"):
        assert "someone/else" in (tmp_path / name).read_text(encoding="utf-8"), name
    wrong = subprocess.run([*command, "not an address"], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode and wrong.stderr.startswith("error: 'not an address'")


def test_nothing_is_missing_here():
    assert colab.missing() == []


def test_what_is_missing_is_installed_around_the_protected_packages(monkeypatch):
    calls = []

    def run(command, **options):
        held = Path(command[command.index("-c") + 1]).read_text()
        calls.append((command, held))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(colab, "missing", lambda extras: ["tyro>=0.9", "vowpalwabbit>=9.10"])
    monkeypatch.setattr(colab.subprocess, "run", run)
    assert colab.set_up() == ["tyro>=0.9", "vowpalwabbit>=9.10"]
    ((command, held),) = calls
    assert not any(part.split("=")[0].split(">")[0] in colab.PROTECTED for part in command)
    assert held.splitlines() == [f"{name}=={version(name)}" for name in colab.PROTECTED]


def test_a_failed_installation_is_one_line(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: no matching distribution")
    monkeypatch.setattr(colab, "missing", lambda extras: ["tyro>=99"])
    monkeypatch.setattr(colab.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UserError, match="could not install tyro>=99: ERROR: no matching distribution"):
        colab.set_up()


def test_a_protected_package_that_is_too_old_is_not_replaced(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    monkeypatch.setattr(colab, "version", lambda name: "0.1")
    with pytest.raises(UserError, match="choose a newer runtime"):
        colab.missing()


# -- Colab's versions


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with Colab's versions, to be put before ours."""
    if os.environ.get("EMORL_COLAB") == "no":
        pytest.skip("EMORL_COLAB=no")
    folder = tmp_path_factory.mktemp("colab")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*pip, *PUBLISHED, *THEIR_NEEDS], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Colab's versions cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    # the stand-ins: a google.colab that is imported at the start, and a git whose clone is a copy of this checkout
    (folder / "sitecustomize.py").write_text(STAND_IN)
    return folder


def run_like_colab(path: Path, published: Path, place: Path) -> nbformat.NotebookNode:
    """Execute a notebook in an empty folder with nothing of this checkout importable but what its bootstrap cell fetches."""
    shims = place / "bin"
    shims.mkdir(parents=True)
    names = "emorl_lite notebooks data scripts pyproject.toml figures"
    git = f'#!/bin/sh\n[ "$1" = clone ] || exec /usr/bin/git "$@"\nmkdir "$6" && cd {ROOT} && cp -r {names} "$OLDPWD/$6"\n'
    (shims / "git").write_text(git)
    (shims / "git").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{shims}:{os.environ['PATH']}",
        "PYTHONPATH": str(published),
        "HF_HUB_OFFLINE": "1",
        "EMORL_RUNS": str(place / "runs"),
        "EMORL_FIGURES": str(place / "figures"),
    }
    code = (
        "import sys, nbformat; from nbclient import NotebookClient\n"
        "book = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(book, timeout=1200, resources={'metadata': {'path': sys.argv[2]}}).execute()\n"
        "nbformat.write(book, sys.argv[3])\n"
    )
    out = place / "out.ipynb"
    plain = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    launcher = f"import os; os.environ['PYTHONPATH'] = {str(published)!r}\n" + code
    done = subprocess.run([sys.executable, "-c", launcher, str(path), str(place), str(out)], env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return nbformat.read(out, as_version=4)


CHOSEN = NOTEBOOKS if os.environ.get("EMORL_COLAB") == "all" else NOTEBOOKS[:1]


@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: path.name[:2])
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform == "win32", reason="Colab is Linux, and the stand-in for git is a shell script")
@pytest.mark.slow
def test_colabs_versions_run_the_notebooks(path, published, tmp_path):
    book = nbformat.read(path, as_version=4)
    probe = "import transformers, peft, ipywidgets, IPython, emorl_lite\nprint(transformers.__version__, peft.__version__, "
    probe += "ipywidgets.__version__, IPython.__version__, emorl_lite.__file__)"
    book.cells.append(nbformat.v4.new_code_cell(probe))
    copy = tmp_path / path.name
    nbformat.write(book, copy)
    done = run_like_colab(copy, published, tmp_path / "content")
    said = done.cells[-1].outputs[0].text.split()
    assert [v.rsplit(".", 1)[0] for v in said[:2]] == ["5.15", "0.20"] and said[2:4] == ["7.7.1", "7.34.0"]
    assert said[4].startswith(str(tmp_path)), "the package is the fetched one"


@pytest.mark.plain
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_no_notebook_leans_on_what_colabs_cell_imports(path):
    """Whoever skips that cell elsewhere has everything."""
    code = [
        c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and "colab" not in c.metadata.get("tags", [])
    ]
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell))]
    imported = {alias.asname or alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    used = {node.id for node in nodes if isinstance(node, ast.Name)} & {"os", "sys", "set_up"}
    assert used <= imported
