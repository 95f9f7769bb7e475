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
import types
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
    assert book.cells[1].source == colab.bootstrap()
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


# -- the cell itself: every way that it can go wrong is one sentence, and what is there is updated


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Colab as the cell sees it, in an empty folder; `git clone` and `begin` are pretended. Returns what was done, and how git ends."""
    done: list = []
    how = {"code": 0, "said": ""}

    def run(command, **options):
        done.append(command)
        if not how["code"]:
            (Path(command[-1]) / "emorl_lite" / "tutorial").mkdir(parents=True)
            (Path(command[-1]) / "emorl_lite" / "tutorial" / "colab.py").touch()
        return subprocess.CompletedProcess(command, how["code"], "", how["said"])

    for name in ("google", "google.colab"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(colab, "begin", lambda *given: done.append(given))
    return done, how


def run_cell() -> None:
    exec(compile(colab.bootstrap(), "cell", "exec"), {"__name__": "cell"})


def test_the_cell_clones_once_and_begins(pretended, tmp_path, monkeypatch):
    done, _ = pretended
    run_cell()
    home = str(tmp_path / "emorl_lite")
    assert done == [["git", "clone", "-q", "--depth", "1", colab.repository(), home], (home, False, False)]
    run_cell()  # a session that was started again, in the folder where Colab starts
    assert done[2:] == [(home, False, False)]
    (tmp_path / "emorl_lite" / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "emorl_lite" / "notebooks")
    run_cell()  # the cell once more
    assert done[3:] == [(home, False, False)]


def test_a_half_made_folder_is_put_aside(pretended, tmp_path):
    (tmp_path / "emorl_lite").mkdir()
    (tmp_path / "emorl_lite" / "mine.txt").write_text("mine")
    run_cell()
    (aside,) = tmp_path.glob("emorl_lite-before-*/mine.txt")
    assert aside.read_text() == "mine" and (tmp_path / "emorl_lite" / "emorl_lite").is_dir()


def shown(error: Exception) -> list[str]:
    """What a notebook shows of an error that says how it is to be shown."""
    return error._render_traceback_()


def test_a_clone_that_fails_is_one_sentence(pretended):
    _, how = pretended
    how.update(code=128, said="fatal: unable to access 'https://...': Could not resolve host: github.com\n")
    with pytest.raises(Exception, match=r"could not be fetched: fatal: .* resolve host") as failed:
        run_cell()
    (line,) = shown(failed.value)
    assert "\n" not in line


def test_an_old_python_is_one_sentence(pretended, monkeypatch):
    monkeypatch.setattr(sys, "hexversion", 0x030A0CF0)
    with pytest.raises(Exception, match=r"Python 3\.11 or newer") as failed:
        run_cell()
    assert len(shown(failed.value)) == 1 and not pretended[0]


def test_ipython_shows_one_line(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_cell("from emorl_lite.tutorial.colab import StartError\nraise StartError('no network: try again')")
    out, err = capsys.readouterr()
    assert (out + err).strip() == "no network: try again"


@pytest.fixture
def clone(tmp_path):
    """A repository and a shallow clone of it, with two files."""

    def git(folder, *words):
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *name, "-C", str(folder), *words], check=True, capture_output=True)

    there, home = tmp_path / "there", tmp_path / "home"
    (there / "notebooks").mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "main", str(there))

    def publish(**files):
        for name, text in files.items():
            (there / f"{name}.py").write_text(text)
        (there / "notebooks" / "x").touch()
        git(there, "add", "-A")
        git(there, "commit", "-q", "-m", "more")

    publish(one="1", two="2")
    git(tmp_path, "clone", "-q", "--depth", "1", there.as_uri(), str(home))
    return home, publish


def test_an_update_keeps_what_the_reader_changed(clone):
    home, publish = clone
    assert colab.update(home) == []
    (home / "one.py").write_text("my one")
    (home / "three.py").write_text("my three")
    (home / "free.py").write_text("free")
    publish(two="22")
    assert colab.update(home) == []
    assert [(home / f"{name}.py").read_text() for name in ("one", "two", "three")] == ["my one", "22", "my three"]
    publish(one="11", three="3")
    assert colab.update(home) == ["one.py.mine", "three.py.mine"]
    assert [(home / f"{name}.py").read_text() for name in ("one", "two", "three", "free")] == ["11", "22", "3", "free"]
    assert (home / "one.py.mine").read_text() == "my one" and (home / "three.py.mine").read_text() == "my three"
    (home / "one.py").write_text("again")
    publish(one="111")
    assert colab.update(home) == ["one.py.mine2"] and (home / "one.py").read_text() == "111"
    (home / "two.py").unlink()
    publish(two="222")
    assert colab.update(home) == [] and (home / "two.py").read_text() == "222"


@pytest.fixture
def begun(clone, monkeypatch):
    """`begin` in that clone, with nothing to install."""
    home, publish = clone
    monkeypatch.chdir(home)
    monkeypatch.setattr(colab, "set_up", lambda: [])
    for name in ("EMORL_RUN", "EMORL_RUNS"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    return home, publish


def test_begin_reads_the_reference_unless_told_to_train(begun):
    home, _ = begun
    colab.begin(home)
    assert Path.cwd() == home / "notebooks" and os.environ["EMORL_RUN"] == "reference"
    colab.begin(home, train=True)
    assert "EMORL_RUN" not in os.environ


def test_a_session_that_has_begun_is_not_updated(begun):
    home, publish = begun
    publish(one="11")
    import emorl_lite.base.wording

    assert emorl_lite.base.wording
    colab.begin(home)
    assert (home / "one.py").read_text() == "1"


def test_without_a_network_it_goes_on_with_what_is_there(begun, monkeypatch, capsys):
    home, _ = begun
    shutil.rmtree(home.parent / "there")
    assert not colab._updated(home)
    assert capsys.readouterr().out.startswith("not updated, going on with what is here (git fetch: ")


def test_what_cannot_be_installed_is_one_sentence(begun, monkeypatch):
    def fail():
        raise UserError("could not install x: no network")

    monkeypatch.setattr(colab, "set_up", fail)
    with pytest.raises(colab.StartError) as failed:
        colab.begin(begun[0])
    assert shown(failed.value) == ["could not install x: no network"]


# -- runs on Drive, and sessions that vanish


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """A Google Drive, and whether it lets itself be mounted."""
    module = types.ModuleType("google.colab")
    allowed = {"yes": True}

    def mount(where):
        if not allowed["yes"]:
            raise ValueError("mount failed")
        Path(where).mkdir(exist_ok=True)

    module.drive = types.SimpleNamespace(mount=mount)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "drive", allowed


def test_runs_lie_on_drive_where_it_can_be_locked(drive):
    mount, _ = drive
    folder = colab.keep_runs(mount)
    assert folder == mount / colab.ON_DRIVE and os.environ["EMORL_RUNS"] == str(folder) and folder.is_dir()


def test_runs_are_copied_to_a_drive_that_cannot_be_locked(drive, monkeypatch, tmp_path):
    mount, _ = drive
    started = []
    monkeypatch.setattr(colab, "_can_lock", lambda folder: False)
    monkeypatch.setattr(colab.threading, "Thread", lambda **given: types.SimpleNamespace(start=lambda: started.append(given)))
    earlier = mount / colab.ON_DRIVE / "tiny" / "log.csv"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    folder = colab.keep_runs(mount)
    here = tmp_path / "runs" / "tiny" / "log.csv"
    assert here.read_text() == "earlier", "a session that vanished is gone on with"
    (given,) = started
    assert given["daemon"] and given["args"] == (tmp_path / "runs", folder) and os.environ["EMORL_RUNS"] == str(tmp_path / "runs")
    here.write_text("later")
    os.utime(here, (2e9, 2e9))
    (here.parent / ".lock").touch()
    assert colab.copy_newer(*given["args"]) == 1 and earlier.read_text() == "later"
    assert colab.copy_newer(*given["args"]) == 0 and not list(folder.rglob("*.tmp"))


def test_a_drive_that_is_refused_is_one_sentence(drive):
    mount, allowed = drive
    allowed["yes"] = False
    with pytest.raises(UserError, match=r"Google Drive is not there \(mount failed\): allow it"):
        colab.keep_runs(mount)


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
    git = f'#!/bin/sh\n[ "$1" = clone ] || exec /usr/bin/git "$@"\nmkdir "$6" && cd {ROOT} && cp -r {names} "$6"\n'
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
