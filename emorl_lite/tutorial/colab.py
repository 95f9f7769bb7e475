"""Google Colab: install what the tutorial lacks there, and never touch its torch, numpy or pandas.

Replacing one of those three under a running kernel breaks it until it is restarted. Their installed versions are given to pip as
constraints: it installs the rest around them, or says that it cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.project import address, project

PROTECTED = ("torch", "numpy", "pandas")
"""Installed versions of these stay."""
BOOTSTRAP = """# @title On Colab: fetch the package and add what is missing (elsewhere this does nothing)
import os
import subprocess
import sys

TRAIN_HERE = False  # @param {type:"boolean"}
KEEP_RUNS_ON_DRIVE = False  # @param {type:"boolean"}

if "google.colab" in sys.modules:

    class StopError(Exception):
        def _render_traceback_(self):
            return [str(self)]

    if sys.hexversion < 0x030B0000:
        raise StopError("Python 3.11 or newer is needed: choose a newer runtime version")
    home = os.path.abspath(".." if os.path.exists("../emorl_lite/tutorial") else "emorl_lite")
    if not os.path.exists(f"{home}/emorl_lite/tutorial/colab.py"):  # nothing, or half of it
        if os.path.exists(home):
            os.rename(home, f"{home}-before-{os.getpid()}")
        address = "REPOSITORY"
        clone = ["git", "clone", "-q", "--depth", "1", address, home]
        done = subprocess.run(clone, capture_output=True, text=True)
        if done.returncode:
            raise StopError(f"The tutorial could not be fetched: {done.stderr.strip()[-300:]}")
    sys.path.insert(0, home)
    from emorl_lite.tutorial.colab import begin

    begin(home, TRAIN_HERE, KEEP_RUNS_ON_DRIVE)
"""
"""Every notebook's first code cell; `bootstrap` puts the address that pyproject.toml says in the place of REPOSITORY."""
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"
"""First line of every notebook."""
DRIVE = "/content/drive"
"""Where Google Drive is mounted."""
ON_DRIVE = "MyDrive/emorl_lite/runs"
"""The folder of runs there, if a reader keeps them."""
COPY_SECONDS = 60.0
"""Where a Drive cannot be worked on directly, what is new is copied to it this often."""
BEFORE_UPDATE = ("", ".base", ".base.errors", ".base.lazy", ".base.paths", ".base.project", ".tutorial", ".tutorial.colab")
"""Modules of the package that are loaded before it is updated: this one and what it needs. They are loaded anew afterwards."""


class StartError(UserError):
    """What ends Colab's cell in one sentence: a notebook shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [str(self)]


def repository() -> str:
    """The repository's address: `emorl_lite.base.project` knows it."""
    return address()


def bootstrap(at: str | None = None) -> str:
    """The source of Colab's cell. `at`: the repository's address, if not the known one."""
    return BOOTSTRAP.replace("REPOSITORY", at or address()).strip()


def badge(notebook: str, at: str | None = None) -> str:
    """The badge of a notebook file, linked to it on Colab. `at`: the repository's address, if not the known one."""
    path = (at or address()).removeprefix("https://github.com/")
    return BADGE.format(link=f"https://colab.research.google.com/github/{path}/blob/main/notebooks/{notebook}")


def begin(home: str | Path, train: bool = False, drive: bool = False) -> None:
    """What Colab's cell does once the package is there: update it, install what is missing, choose whose run is read and where runs lie.

    home: the clone. train: train in this session, where a notebook trains; otherwise it reads the reference run. drive: keep the runs on
    Google Drive. Nothing is updated in a session that has begun to use the package. Raises StartError, in one sentence.
    """
    home = Path(home)
    os.chdir(home / "notebooks")
    try:
        names = [name for name in sys.modules if name.partition(".")[0] == "emorl_lite"]
        if {name.removeprefix("emorl_lite") for name in names} <= set(BEFORE_UPDATE) and _updated(home):
            for name in names:
                del sys.modules[name]
            from emorl_lite.tutorial.colab import set_up as newest_set_up

            newest_set_up()
        else:
            set_up()
        if drive:
            print(f"runs are kept in {keep_runs()}")
    except UserError as error:
        raise StartError(str(error)) from None
    if not train:
        os.environ.setdefault("EMORL_RUN", "reference")
        print("Notebooks read the reference run; tick TRAIN_HERE in the cell above, and start again, to train your own.")
    elif os.environ.get("EMORL_RUN") == "reference":
        del os.environ["EMORL_RUN"]


def update(home: Path) -> list[str]:
    """Bring a clone to its newest version. What the reader has changed stays; where the new version changes the same file, the reader's is
    kept beside it as `<file>.mine`. Returns the names of those. Raises UserError, with git's last line, if there is no network."""
    _git(home, "fetch", "-q", "--depth", "1", "origin", "HEAD")
    here = {*_git(home, "diff", "--name-only", "HEAD"), *_git(home, "ls-files", "--others", "--exclude-standard")}
    tracked = set(_git(home, "ls-tree", "-r", "--name-only", "HEAD"))
    both = sorted(here & set(_git(home, "diff", "--name-only", "HEAD", "FETCH_HEAD")))
    kept = []
    for name in both:
        if (home / name).exists():
            aside = next(name + end for end in (".mine", *(f".mine{i}" for i in range(2, 1000))) if not (home / (name + end)).exists())
            os.replace(home / name, home / aside)
            kept.append(aside)
        if name in tracked:
            _git(home, "checkout", "-q", "HEAD", "--", name)
    _git(home, "reset", "-q", "--keep", "FETCH_HEAD")  # files that differ from HEAD stay as they are; it stops where it would lose one
    return kept


def _updated(home: Path) -> bool:
    """Update, and tell what a reader should know. Whether there is a newer version now."""
    try:
        before = _git(home, "rev-parse", "HEAD")
        for name in update(home):
            print(f"the newest version changes a file that you have changed: yours is {name}")
        return _git(home, "rev-parse", "HEAD") != before
    except UserError as error:
        print(f"not updated, going on with what is here ({error})")
        return False


def _git(home: Path, *words: str) -> list[str]:
    """The lines that git answers. Raises UserError with its last line."""
    done = subprocess.run(["git", "-c", "core.quotepath=off", "-C", str(home), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {words[0]}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return done.stdout.splitlines()


def keep_runs(mount: str | Path = DRIVE) -> Path:
    """Keep runs on Google Drive, so that they outlive the session: those that are there are gone on with. Returns their folder.

    Where the mounted folder can be locked, $EMORL_RUNS is that folder. Where it cannot, runs lie on this machine, begin with what is on
    Drive, and what is new is copied there every minute. Raises UserError if Drive is not given.
    """
    from google.colab import drive

    from emorl_lite.base.paths import runs_root

    folder = Path(mount) / ON_DRIVE
    try:
        drive.mount(str(mount))
        folder.mkdir(parents=True, exist_ok=True)
    except Exception as error:  # it has several of its own, and none is said
        raise UserError(f"Google Drive is not there ({error}): allow it when Colab asks, or untick KEEP_RUNS_ON_DRIVE") from error
    if _can_lock(folder):
        os.environ["EMORL_RUNS"] = str(folder)
    else:
        copy_newer(folder, runs_root())
        threading.Thread(target=_keep_copying, args=(runs_root(), folder), daemon=True).start()
    return folder


def _can_lock(folder: Path) -> bool:
    """Whether two processes can keep out of each other's way there."""
    from emorl_lite.base.lock_file import lock_on

    lock = lock_on(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except (OSError, NotImplementedError, TimeoutError):
        return False
    lock.release()
    return True


def copy_newer(source: Path, target: Path) -> int:
    """Copy the files that are missing in `target`, or older there, each in one move. Returns how many."""
    copied = 0
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if not path.is_file() or path.name == ".lock" or path.suffix == ".tmp":
            continue
        if there.is_file() and there.stat().st_mtime >= path.stat().st_mtime:
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        half = there.with_name(there.name + ".tmp")
        shutil.copy2(path, half)
        os.replace(half, there)
        copied += 1
    return copied


def _keep_copying(source: Path, target: Path) -> None:
    while True:
        time.sleep(COPY_SECONDS)
        try:
            copy_newer(source, target)
        except OSError:
            continue  # a file went while it was looked at, or Drive is away for a while: the next minute tries again


def missing(extras: Sequence[str] = ("methods",)) -> list[str]:
    """Requirements of the package (and of these extras) that are not installed, or not in a version that will do."""
    from packaging.requirements import Requirement

    project_metadata = project()
    requirements = [
        *project_metadata["dependencies"],
        *(line for extra in extras for line in project_metadata["optional-dependencies"][extra]),
    ]
    lacking = []
    for line in dict.fromkeys(requirements):
        requirement = Requirement(line)
        try:
            if requirement.specifier.contains(version(requirement.name), prereleases=True):
                continue
        except PackageNotFoundError:
            pass
        if requirement.name in PROTECTED:
            raise UserError(f"{line} is needed, and this runtime's {requirement.name} is another: choose a newer runtime version")
        lacking.append(line)
    return lacking


def set_up(extras: Sequence[str] = ("methods",)) -> list[str]:
    """Install what is missing, with the protected packages held where they are. Returns what was installed.

    Raises UserError, with pip's last line, if that cannot be.
    """
    lacking = missing(extras)
    if lacking:
        with tempfile.TemporaryDirectory() as scratch:
            constraints = Path(scratch) / "held.txt"
            constraints.write_text("".join(f"{name}=={version(name)}\n" for name in PROTECTED), encoding="utf-8")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints), *lacking]
            completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise UserError(
                f"could not install {', '.join(lacking)}: {(completed.stderr.strip().splitlines() or ['pip gave no reason'])[-1]}"
            )
    return lacking
