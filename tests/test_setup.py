"""Everywhere somebody sits: set-up with nothing installed, Windows' paths, containers, JupyterLab's copies, a room without a network."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest
import yaml

from emorl_lite.__main__ import main, parse
from emorl_lite.base.errors import UserError
from emorl_lite.tutorial import lab, offline, setting_up, testing
from emorl_lite.tutorial.setting_up import Setup

pytestmark = pytest.mark.plain

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
BEFORE = ["__init__", "__main__", *(f"base/{name}" for name in ("__init__", "errors", "failures", "lazy", "paths"))]
BEFORE += ["tutorial/__init__", "tutorial/setting_up"]
"""Modules that run before anything is installed."""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small clone, and every command that would be run in it, none of which is."""
    (tmp_path / "notebooks").mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    ran: list[list[str]] = []

    def run(command, **options):
        ran.append([str(word) for word in command])
        if "venv" in command:
            python = setting_up.environment_python(tmp_path / ".venv")
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        return subprocess.CompletedProcess(command, run.status, "", "")

    run.status = 0
    monkeypatch.setattr(setting_up, "repository_root", lambda: tmp_path)
    monkeypatch.setattr(setting_up.subprocess, "run", run)
    return tmp_path, ran, run


# -- with nothing installed


def test_set_up_needs_python_alone():
    """-S -I: no packages of anyone's. What is imported on the way is the standard library's."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[1:] = ['setup', '--help']; import runpy; "
    code += "runpy.run_module('emorl_lite', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m emorl_lite setup"), done.stderr


@pytest.mark.parametrize("name", BEFORE)
def test_an_old_python_can_read_what_tells_it_so(name):
    """Python 3.8 compiles what runs before the sentence that names its version."""
    ast.parse((ROOT / "emorl_lite" / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_an_old_python_is_told(clone, monkeypatch, capsys):
    monkeypatch.setattr(setting_up.sys, "version_info", (3, 9, 2))
    assert setting_up.handed_over(["setup"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: Python 3.11 or newer is needed") and "3.9.2" in err and err.count("\n") == 1
    assert not clone[1]


def test_both_parsers_know_the_same_options():
    words = ["--extras", "notebooks", "methods", "--here", "--wheels", "w"]
    assert setting_up._parsed(words) == parse(["setup", *words]) == Setup(("notebooks", "methods"), True, "w")
    assert setting_up._parsed([]) == parse(["setup"]) == Setup()
    assert {field.name for field in fields(Setup)} == {"extras", "here", "wheels"}


@pytest.mark.parametrize("windows", [False, True])
def test_set_up_is_made_once_and_after_a_change(clone, monkeypatch, windows):
    root, ran, _ = clone
    monkeypatch.setattr(setting_up, "on_windows", lambda: windows)
    python = setting_up.set_up(Setup())
    assert python == root / ".venv" / ("Scripts/python.exe" if windows else "bin/python")
    assert ran[0][1:3] == ["-m", "venv"] and ran[-1][-1] == f"{root}[dev]" and ran[-1][0] == str(python)
    assert all("-c" in command or "--no-deps" in command for command in ran[1:]), "pinned"
    n = len(ran)
    assert setting_up.set_up(Setup()) == python and setting_up.is_ready(["notebooks"]) and len(ran) == n
    later = (root / ".venv" / setting_up.STAMP).stat().st_mtime + 10
    os.utime(root / "constraints.txt", (later, later))
    setting_up.set_up(Setup())
    assert len(ran) > n and not any("venv" in command for command in ran[n:])


def test_extras_add_up(clone):
    root, ran, _ = clone
    setting_up.set_up(Setup(extras=("notebooks",)))
    assert setting_up.is_ready(["notebooks"]) and not setting_up.is_ready(["methods"])
    setting_up.set_up(Setup(extras=("methods",)))
    assert setting_up.is_ready(["methods", "notebooks"]) and ran[-1][-1] == f"{root}[notebooks,methods]"
    with pytest.raises(UserError, match="--extras nothing: there are warmstart"):
        setting_up.set_up(Setup(extras=("nothing",)))


def test_without_a_network_everything_comes_from_one_folder(clone, tmp_path):
    ran = clone[1]
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises(UserError, match="no wheels there"):
        setting_up.set_up(Setup(wheels=str(wheels)))
    (wheels / "x-1-py3-none-any.whl").touch()
    setting_up.set_up(Setup(wheels=str(wheels), here=True))
    (command,) = ran
    assert command[0] == sys.executable and command[-3:] == ["--no-index", "--find-links", str(wheels)]


def test_a_failed_step_is_one_sentence_and_leaves_no_stamp(clone):
    root, _, run = clone
    run.status = 1
    with pytest.raises(UserError, match="cannot make"):
        setting_up.set_up(Setup())
    assert not (root / ".venv").exists()
    python = setting_up.environment_python(root / ".venv")
    python.parent.mkdir(parents=True)
    python.touch()
    run.status = 0
    setting_up.set_up(Setup())
    os.utime(root / "pyproject.toml")
    run.status = 1
    (root / ".venv" / setting_up.STAMP).write_text("", encoding="utf-8")
    os.utime(root / ".venv" / setting_up.STAMP, (1, 1))
    with pytest.raises(UserError):
        setting_up.set_up(Setup())


def test_a_bare_python_hands_over_to_the_environment(clone, monkeypatch, capsys):
    root, ran, _ = clone
    handed = []
    monkeypatch.setattr(setting_up, "become", lambda command: handed.append(command) or 7)
    assert setting_up.handed_over(["tutorial"]) is None, "this one has everything"
    monkeypatch.setattr(setting_up, "find_spec", lambda name: None)
    assert setting_up.handed_over(["train"]) == 2 and "python -m emorl_lite setup" in capsys.readouterr().err
    assert setting_up.handed_over(["tutorial", "--only", "00"]) == 7, "set up, then handed over"
    python = str(setting_up.environment_python(root / ".venv"))
    assert ran and handed == [[python, "-m", "emorl_lite", "tutorial", "--only", "00"]]
    n = len(ran)
    assert setting_up.handed_over(["train"]) == 7 and len(ran) == n


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--extras"], "setup: argument --extras: expected at least one argument"),
        (["--extra", "dev"], "setup: unrecognized arguments: --extra dev"),
        (["--wheels", " "], "--wheels is empty: expected a path"),
        (["--wheels", "pyproject.toml"], "--wheels pyproject.toml: no wheels there"),
        (["--extras", "dev,course"], "--extras dev,course: there are"),
    ],
)
def test_a_wrong_option_of_setup_is_one_line(words, said, clone, capsys, monkeypatch):
    monkeypatch.chdir(clone[0])
    assert setting_up.handed_over(["setup", *words]) == 2 and not clone[1]
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1


def test_an_environment_that_is_a_file_or_cannot_be_written_is_told(clone, capsys, monkeypatch):
    root, ran, _ = clone
    (root / ".venv").write_text("mine")
    assert setting_up.handed_over(["setup"]) == 2 and not ran
    assert ".venv is no folder" in capsys.readouterr().err and (root / ".venv").read_text() == "mine"
    (root / ".venv").unlink()

    def refused(path, *rest, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refused)
    assert setting_up.handed_over(["setup"]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {root / '.venv' / setting_up.STAMP}: Permission denied\n"


def test_an_environment_of_another_machine_is_made_anew_or_told(clone, capsys, monkeypatch):
    root, ran, run = clone
    python = setting_up.environment_python(root / ".venv")
    python.parent.mkdir(parents=True)
    python.touch()

    def another(command, **options):
        if command[1:2] == ["-c"]:
            raise OSError(8, "Exec format error", command[0])
        return run(command, **options)

    def refused(command):
        raise OSError(8, "Exec format error", command[0])

    monkeypatch.setattr(setting_up.subprocess, "run", another)
    monkeypatch.setattr(setting_up, "become", refused)
    monkeypatch.setattr(setting_up, "find_spec", lambda name: None)
    assert setting_up.handed_over(["lab"]) == 2 and any("venv" in command for command in ran)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {python} does not run here (Exec format error): remove .venv") and error.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there a process is ended without a word")
def test_a_container_that_is_stopped_stops_what_it_runs():
    code = "import sys; from emorl_lite.tutorial.setting_up import run; from emorl_lite.base.failures import termination_told\n"
    code += "with termination_told(): sys.exit(run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)']) != 0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    process.terminate()
    assert process.wait(timeout=50) == 1


def test_torch_without_cuda_comes_first_on_linux(clone, monkeypatch):
    root, _, _ = clone
    monkeypatch.setattr(setting_up.shutil, "which", lambda name: None)
    for system, ways in (("linux", 2), ("win32", 1), ("darwin", 1)):
        monkeypatch.setattr(setting_up.sys, "platform", system)
        commands = setting_up.torch_commands(root, ["pip"])
        assert len(commands) == ways and all(command[-1] == f"torch=={setting_up.pins(root)['torch']}" for command in commands)
    monkeypatch.setattr(setting_up.sys, "platform", "linux")
    assert setting_up.PYTORCH in setting_up.torch_commands(root, ["pip"])[0]
    monkeypatch.setattr(setting_up.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert len(setting_up.torch_commands(root, ["pip"])) == 1


# -- the tests' own command


def test_what_test_runs():
    quick, whole = testing.commands(testing.Test(quick=True)), testing.commands(testing.Test(workers=3))
    assert len(quick) == len(testing.LINT) + 1 and quick[-1][-2:] == ["-m", "(not slow)"] and len(whole) == len(quick) + 1
    assert "-m" not in whole[-2][3:] and whole[-1][-len(NOTEBOOKS) :] == [str(path) for path in NOTEBOOKS] and "3" in whole[-1]
    (marked,) = testing.commands(testing.Test(quick=True, parts=("tests",), marker="not plain"))
    assert marked[-1] == "(not plain) and (not slow)"
    with pytest.raises(UserError, match="--quick"):
        testing.commands(testing.Test(quick=True, parts=("notebooks",)))


def test_a_failure_ends_the_tests(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(testing, "run", lambda command, **environment: ran.append((command, environment)) or len(ran) == 2)
    assert main(["test", "--parts", "lint"]) == 1
    assert len(ran) == 2 and "failed: ruff" in capsys.readouterr().err
    assert main(["test", "--parts", "notebooks"]) == 0 and set(ran[-1][1]) == {"HF_HUB_OFFLINE", "EMORL_RUNS"}


# -- JupyterLab


def test_lab_makes_missing_copies_and_updates_the_others(tmp_path, monkeypatch, capsys):
    def publish(name: str, *sources: str) -> None:
        cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")

    (tmp_path / "notebooks").mkdir()
    publish("00_a", "1", "...")
    publish("01_b", "2")
    monkeypatch.setattr(lab, "repository", lambda: tmp_path)
    started = []
    monkeypatch.setattr(lab, "run", lambda command: started.append(command) or 0)
    assert main(["lab", "--copy"]) == 0 and not started
    assert capsys.readouterr().out == "2 notebooks copied to my_notebooks/, yours to change\n"
    mine = tmp_path / "my_notebooks" / "00_a.ipynb"
    book = nbformat.read(mine, as_version=4)
    book.cells[1].source = "my answer"
    nbformat.write(book, mine)
    publish("00_a", "11", "...")
    publish("02_c", "3")
    assert main(["lab", "--port", "9999", "--no-browser", "--everywhere"]) == 0
    assert [cell.source for cell in nbformat.read(mine, as_version=4).cells] == ["11", "my answer"]
    said = capsys.readouterr().out
    assert "00_a.ipynb: cells: 1 new or changed; all that you wrote stays" in said and "1 notebook copied" in said
    assert main(["lab", "--copy"]) == 0 and not capsys.readouterr().out
    (command,) = started
    assert command[:3] == [sys.executable, "-m", "jupyterlab"] and f"--ServerApp.root_dir={tmp_path}" in command
    assert {
        "--LabApp.default_url=/lab/tree/my_notebooks/00_a.ipynb",
        "--ServerApp.port=9999",
        "--no-browser",
        "--ServerApp.ip=0.0.0.0",
    } <= set(command)


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_a_port_that_there_is_not_is_told_before_anything_is_copied(port, monkeypatch, capsys):
    monkeypatch.setattr(lab, "copy_notebooks", lambda root: pytest.fail("copied"))
    assert main(["lab", f"--port={port}"]) == 2 and f"--port {port}: must" in capsys.readouterr().err


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_links_work_from_a_copy_and_stay_under_the_servers_root(path):
    """A copy lies as deep as the notebook, and its fellows are copied too."""
    copied = ROOT / lab.COPIES / path.name
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        for link in re.findall(r"\]\(([^)#\s]+)", cell.source):
            if "://" not in link and not link.startswith("mailto:"):
                target = Path(os.path.normpath(copied.parent / link))
                assert target.is_relative_to(ROOT), link
                original = ROOT / "notebooks" / target.name if target.parent == copied.parent else target
                assert original.exists(), link


def test_copies_are_ignored_by_git():
    assert f"{lab.COPIES}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_what_stands_in_the_copies_place_is_told(tmp_path):
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS[0], tmp_path / "notebooks")
    (tmp_path / lab.COPIES).write_text("mine")
    with pytest.raises(UserError, match="my_notebooks: expected a folder"):
        lab.copy_notebooks(tmp_path)
    assert (tmp_path / lab.COPIES).read_text() == "mine"


def test_the_server_opens_at_the_first_notebook_of_the_course_whatever_lies_beside_it(tmp_path):
    for name in ("notebooks/00_a.ipynb", "notebooks/01_b.ipynb", "my_notebooks/00_a copy.ipynb", "my_notebooks/#1.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert "--LabApp.default_url=/lab/tree/my_notebooks/00_a.ipynb" in lab.server_command(tmp_path, lab.Lab())


# -- a room without a network


def test_what_a_classroom_needs_is_pinned_for_every_system():
    for system in offline.TAGS:
        names = offline.needed(("notebooks", "methods"), system, "3.11")
        assert {"jupyterlab", "trl", "numpy", "setuptools", "ipykernel"} <= {name.split("==")[0] for name in names}
        assert not [name for name in names if "==" not in name], "constraints.txt lacks them"
        assert not any(name.startswith(("torch==", "nvidia", "pytest", "mypy")) for name in names)
    on_windows = {name.split("==")[0] for name in offline.needed(("notebooks",), "windows", "3.11")}
    on_linux = {name.split("==")[0] for name in offline.needed(("notebooks",), "linux", "3.11")}
    assert "colorama" in on_windows and "pywinpty" in on_windows - on_linux and "ptyprocess" in on_linux - on_windows


def test_offline_collects_wheels_the_repository_and_a_script(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, **options):
        commands.append(command)
        if command[0] == "git" and "clone" in command:
            Path(command[-1]).mkdir()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(offline.subprocess, "run", run)
    assert main(["offline", "--out", str(tmp_path / "out"), "--platform", "windows", "mac", "--python", "3.11", "3.12"]) == 0
    downloads = [command for command in commands if "download" in command]
    assert len(downloads) == 8 and all("--only-binary=:all:" in command and "--no-deps" in command for command in downloads)
    assert {word for command in downloads for word in command if word.startswith("--platform=")} == {
        f"--platform={tag}" for system in ("windows", "mac") for tag in offline.TAGS[system]
    }
    script = (tmp_path / "out" / "install.py").read_text(encoding="utf-8")
    compile(script, "install.py", "exec")
    assert (
        "('3.11', '3.12')" in script and "('win32', 'darwin')" in script and "3.11 or 3.12" in (tmp_path / "out" / "README.txt").read_text()
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--python", "3.9"], "--python 3.9: expected 3.11 or newer"),
        (["--python", "3"], "--python 3: expected"),
        (["--python", "3.²"], "--python 3.²: expected"),
        (["--extras", "x"], "--extras x: there are"),
        (["--out", str(ROOT)], "that is the repository itself"),
        (["--out", "{}"], "has its own emorl_lite, that this command did not make"),
    ],
)
def test_a_wrong_option_of_offline_is_told_before_anything_is_fetched(words, said, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(offline.subprocess, "run", lambda *a, **k: pytest.fail("fetched"))
    (tmp_path / offline.CLONE).mkdir()
    assert main(["offline", *(word.format(tmp_path) for word in words)]) == 2 and said in capsys.readouterr().err
    assert (tmp_path / offline.CLONE).is_dir()


def test_offline_keeps_what_somebody_did_in_its_clone(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "stick" / offline.CLONE
    (folder / "my_notebooks").mkdir(parents=True)
    (folder / "my_notebooks" / "work").write_text("mine")
    monkeypatch.setattr(offline, "address", lambda: "https://example.org/x")
    offline._copy_repository(ROOT, folder)
    assert (tmp_path / "stick" / f"{offline.CLONE}.before-1" / "my_notebooks" / "work").read_text() == "mine"
    assert (folder / "pyproject.toml").is_file()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """(A repository of one commit, a clone of it as `offline` makes it, git in a folder)."""
    monkeypatch.setattr(offline, "address", lambda: "https://example.org/x")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")

    def git(folder: Path, *words: str) -> None:
        subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)

    root, clone = tmp_path / "root", tmp_path / "stick" / offline.CLONE
    root.mkdir()
    clone.parent.mkdir()
    git(root, "init", "-q")
    (root / "a.txt").write_text("as it was")
    git(root, "add", "a.txt")
    git(root, "commit", "-qm", "first")
    assert offline._copy_repository(root, clone) == "its last commit"
    return root, clone, git


def committed(clone, git):
    (clone / "a.txt").write_text("mine")
    git(clone, "commit", "-qam", "mine")


def committed_on_a_branch(clone, git):
    git(clone, "checkout", "-qb", "mine")
    committed(clone, git)
    git(clone, "checkout", "-q", "-")


def committed_and_left(clone, git):
    committed(clone, git)
    git(clone, "reset", "-q", "--hard", "HEAD~1")


def set_aside(clone, git):
    (clone / "a.txt").write_text("mine")
    git(clone, "stash", "-q")


def overlooked(clone, git):
    git(clone, "update-index", "--assume-unchanged", "a.txt")
    (clone / "a.txt").write_text("mine")


def not_shown(clone, git):
    git(clone, "config", "status.showUntrackedFiles", "no")
    (clone / "b.txt").write_text("mine")


@pytest.mark.parametrize("work", [committed, committed_on_a_branch, committed_and_left, set_aside, overlooked, not_shown])
def test_offline_keeps_work_that_git_status_does_not_show(work, source, capsys):
    root, clone, git = source
    work(clone, git)
    offline._copy_repository(root, clone)
    kept = clone.with_name(f"{offline.CLONE}.before-1")
    assert kept.is_dir() and str(kept) in capsys.readouterr().out
    assert (clone / "a.txt").read_text() == "as it was"


def test_offline_replaces_a_clone_that_holds_nothing_new(source, monkeypatch):
    root, clone, git = source
    (root / "a.txt").write_text("newer")
    git(root, "commit", "-qam", "second")
    monkeypatch.setenv("GIT_DIR", str(root / "nothing"))  # as in a hook
    offline._copy_repository(root, clone)
    assert [path.name for path in clone.parent.iterdir()] == [offline.CLONE] and (clone / "a.txt").read_text() == "newer"


def test_without_git_all_files_are_copied_whatever_the_folder_is_called(tmp_path, monkeypatch):
    for name in ("data/a.txt", "runs/b.txt", "inside/data/c.txt"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        (tmp_path / "root" / name).write_text("a")

    def no_git(*words, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(offline.subprocess, "run", no_git)
    for into in (tmp_path / "data", tmp_path / "root" / "inside"):
        into.mkdir(exist_ok=True)
        assert "git could not" in offline._copy_repository(tmp_path / "root", into / offline.CLONE)
        assert (into / offline.CLONE / "data" / "a.txt").is_file() and not (into / offline.CLONE / "runs").exists()


@pytest.mark.parametrize("name", [offline.SCRIPT, offline.TOLD])
def test_offline_writes_over_no_file_of_others(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(offline.subprocess, "run", lambda *a, **k: pytest.fail("fetched"))
    (tmp_path / name).write_text("mine")
    assert main(["offline", "--out", str(tmp_path)]) == 2
    assert f"has its own {name}" in capsys.readouterr().err and (tmp_path / name).read_text() == "mine"


def test_offline_never_takes_the_repository_for_its_clone(tmp_path, monkeypatch, capsys):
    root = tmp_path / offline.CLONE
    root.mkdir()
    (tmp_path / offline.SCRIPT).write_text("")
    with pytest.raises(UserError, match="would be this repository"):
        offline._check(offline.Offline(out=str(tmp_path)), root, ["3.11"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("have not in PYTHONS", "have in PYTHONS"), "are for Python"),
        (("sys.platform not in", "sys.platform in"), "are for"),
    ],
)
def test_the_script_tells_what_does_not_fit(tmp_path, change, said):
    version = "{}.{}".format(*sys.version_info[:2])
    text = offline.INSTALL.format(pythons=(version,), systems=(sys.platform,), clone="c", extras=("notebooks",)).replace(*change)
    (tmp_path / "install.py").write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, str(tmp_path / "install.py"), str(tmp_path / "x")], capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1


NO_LINKS = pytest.mark.skipif(os.name == "nt", reason="there not everybody may make links")


@pytest.mark.parametrize("broken", ["target", pytest.param("source", marks=NO_LINKS)])
def test_the_script_leaves_no_half_a_copy(broken, tmp_path):
    version = "{}.{}".format(*sys.version_info[:2])
    text = offline.INSTALL.format(pythons=(version,), systems=(sys.platform,), clone="c", extras=("notebooks",))
    (tmp_path / "install.py").write_text(text, encoding="utf-8")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "pyproject.toml").touch()
    (tmp_path / "file").touch()
    if broken == "source":
        (tmp_path / "c" / "gone").symlink_to(tmp_path / "nothing")  # what cannot be read
    target = tmp_path / ("file/x" if broken == "target" else "x")
    done = subprocess.run([sys.executable, str(tmp_path / "install.py"), str(target)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"error: the tutorial was not copied to {target} (")
    assert done.stderr.count("\n") == 1 and not target.exists()


# -- containers: one Python, one set of pins, one set-up


def test_every_place_takes_the_same_python_and_set_up():
    oldest = setting_up.oldest_python(ROOT)
    assert (
        oldest
        == re.search(r"[\d.]+", tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]).group()
    )
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == [f"python:{oldest}-slim"]
    for name in ("environment.yml", ".binder/environment.yml"):
        said = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        assert f"python={oldest}" in said["dependencies"], name
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["build"]["dockerfile"] == "../Dockerfile" and 8888 in container["forwardPorts"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    steps = [step for step in workflow["jobs"]["laptops"]["steps"] if "uses" in step and "setup-python" in step["uses"]]
    assert steps[0]["with"]["python-version"] == oldest
    assert "python -m emorl_lite setup" in [step.get("run") for step in workflow["jobs"]["laptops"]["steps"]]
    places = {dockerfile: (), (ROOT / ".binder" / "postBuild").read_text(encoding="utf-8"): ("notebooks", "methods")}
    for text, extras in (places | {container["postCreateCommand"]: ()}).items():
        (words,) = re.findall(r"python -m emorl_lite (setup .*?)(?: &&.*)?$", text, re.MULTILINE)
        assert parse(words.split()) == Setup(extras, here=True)
        assert "pip install" not in text, "set-up is in one place"


def test_the_image_runs_as_a_user_and_opens_jupyterlab():
    """Read as Docker does: instructions, continuation lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    steps = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    names = [name for name, _ in steps]
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert names[0] == "FROM" and set(names) <= known
    users = [rest for name, rest in steps if name == "USER"]
    assert users and users[-1] not in ("root", "0")
    (entry,), (default,) = ([json.loads(rest) for name, rest in steps if name == wanted] for wanted in ("ENTRYPOINT", "CMD"))
    assert entry == ["python", "-m", "emorl_lite"]
    command = parse(default)
    assert isinstance(command, lab.Lab) and command.everywhere and not command.browser
    assert [rest for name, rest in steps if name == "EXPOSE"] == [str(command.port)]


def test_nothing_private_or_large_goes_into_the_image():
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    assert {"runs", "my_notebooks", "grades*"} <= ignored <= {line.rstrip("/").removeprefix("**/") for line in left_out}
    assert not {"notebooks", "emorl_lite", "constraints.txt", "data"} & set(left_out)
