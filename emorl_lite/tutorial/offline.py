"""The `offline` command: one folder that installs the tutorial on machines without a network, for a classroom.

It holds the pinned wheels (torch without CUDA), a clone of the repository, and a script of a page that puts the two together:
`python install.py`. What to collect is read from the metadata of what is installed here, so it is what the tests ran with.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emorl_lite.base.errors import UserError
from emorl_lite.base.outputs import check_folder
from emorl_lite.base.project import address, project
from emorl_lite.tutorial.setting_up import oldest_python, pins, pip_of, repository, torch_commands

if TYPE_CHECKING:
    from packaging.requirements import Requirement

System = Literal["linux", "windows", "mac"]
TAGS: dict[System, tuple[str, ...]] = {
    "linux": ("manylinux_2_28_x86_64", "manylinux_2_26_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows": ("win_amd64",),
    "mac": ("macosx_14_0_arm64",),
}
"""The names that wheels have for these systems."""
MARKERS: dict[System, dict[str, str]] = {
    "linux": {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"},
    "windows": {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows", "platform_machine": "AMD64"},
    "mac": {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin", "platform_machine": "arm64"},
}
"""How requirements tell those systems apart."""
CLONE, SCRIPT, TOLD = "emorl_lite", "install.py", "README.txt"
"""In the folder: the repository, what installs it, and a page that says so."""
OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_NAMESPACE")
"""Variables with which git runs a hook: they name another repository, whatever folder is asked about."""
LEFT_OUT = (".venv", "runs", "my_notebooks", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints")
"""What a copy of the repository leaves behind, where git cannot make one."""
INSTALL = '''"""Install the tutorial from this folder, without a network: python install.py [FOLDER, if not ~/emorl_lite]"""
import shutil
import subprocess
import sys
from pathlib import Path

PYTHONS, SYSTEMS = {pythons}, {systems}
here = Path(__file__).resolve().parent
folder = Path(sys.argv[1] if sys.argv[1:] else Path.home() / "{clone}").resolve()
have = "%d.%d" % sys.version_info[:2]
if have not in PYTHONS:
    sys.exit("error: the wheels here are for Python %s, and this is %s: run install.py with one of those" % (" and ".join(PYTHONS), have))
if sys.platform not in SYSTEMS:
    sys.exit("error: the wheels here are for %s, and this is %s" % (" and ".join(SYSTEMS), sys.platform))
if not folder.exists():
    try:
        shutil.copytree(here / "{clone}", folder)
    except (OSError, KeyboardInterrupt) as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit("error: the tutorial was not copied to %s (%s)" % (folder, getattr(error, "strerror", None) or "not all of it could be"))
elif not (folder / "pyproject.toml").is_file():
    sys.exit("error: %s is there and is not the tutorial: name another folder" % folder)
setup = [sys.executable, "-m", "emorl_lite", "setup", "--wheels", str(here / "wheels"), "--extras", *{extras}]
status = subprocess.call(setup, cwd=folder)
if not status:
    print("Now:  cd %s  and  python -m emorl_lite lab" % folder)
sys.exit(status)
'''
README = """emorl_lite for a classroom without a network

On every machine, with Python {pythons} ({systems}), from this folder (a USB stick, a share):

    python install.py              copies the tutorial to emorl_lite in your home folder and installs it there
    cd emorl_lite                  (that folder)
    python -m emorl_lite lab       opens the notebooks

No network is asked for anything. The same by hand, in emorl_lite/: python -m emorl_lite setup --wheels ../wheels --extras {extras}
"""


@dataclass
class Offline:
    """Collect wheels and the repository into one folder, which installs on machines without a network."""

    out: str = "offline"
    """The folder; wheels that are there are kept."""
    platform: tuple[System, ...] = ()
    """Systems of the machines, of linux, windows, mac (default: this one's). The last two: on 64-bit x86, and on Apple's chips."""
    python: tuple[str, ...] = ()
    """Their Pythons (default: this one's): --python 3.11 3.12."""
    extras: tuple[str, ...] = ("notebooks", "methods")
    """Of pyproject.toml's optional dependencies, those to take along; dev is all of them."""


def this_system() -> System:
    """The name of the system that this runs on."""
    return {"win32": "windows", "darwin": "mac"}.get(sys.platform, "linux")  # type: ignore[return-value]


def needed(extras: Sequence[str], system: System, python: str) -> list[str]:
    """All packages that the package and these extras need on a system, those of the needed ones too: "numpy==2.4.6". Sorted; without torch.

    Read from what is installed here. A package of another system alone is not installed here: its own needs are not known, and it stands
    in constraints.txt all the same.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    own = project()
    environment = _environment(system, python)
    todo = [
        Requirement(line) for line in (*own["dependencies"], "setuptools", *(x for e in extras for x in own["optional-dependencies"][e]))
    ]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        need = todo.pop()
        name, wanted = str(canonicalize_name(need.name)), tuple(sorted(need.extras))
        if (name, wanted) not in seen:
            seen.add((name, wanted))
            todo += _needs_of(name, wanted or ("",), environment)
    pinned = pins(repository())
    names = sorted({name for name, _ in seen} - {"torch"})
    return [f"{name}=={pinned[name]}" if name in pinned else name for name in names]


def _needs_of(name: str, extras: Sequence[str], environment: Mapping[str, str]) -> Iterator[Requirement]:
    from packaging.requirements import Requirement

    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for need in map(Requirement, lines):
        if need.marker is None or any(need.marker.evaluate({**environment, "extra": extra}) for extra in extras):
            yield need


def _environment(system: System, python: str) -> dict[str, Any]:
    """What markers of requirements are judged by on another machine."""
    from packaging.markers import default_environment

    return {**default_environment(), **MARKERS[system], "python_version": python, "python_full_version": f"{python}.0"}


def run_offline(wanted: Offline) -> int:
    """Collect it all. Returns 0. Raises UserError where something cannot be had."""
    root = repository()
    systems = wanted.platform or (this_system(),)
    pythons = wanted.python or (".".join(map(str, sys.version_info[:2])),)
    _check(wanted, root, pythons)
    folder = Path(wanted.out).resolve()
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for system in systems:
        for python in pythons:
            print(f"wheels for {system}, Python {python}", flush=True)
            _download(root, wheels, needed(wanted.extras, system, python), system, python)
    names = {"linux": "linux", "windows": "win32", "mac": "darwin"}
    script = INSTALL.format(pythons=tuple(pythons), systems=tuple(names[s] for s in systems), clone=CLONE, extras=tuple(wanted.extras))
    (folder / SCRIPT).write_text(script, encoding="utf-8")
    about = README.format(pythons=" or ".join(pythons), systems=", ".join(systems), extras=" ".join(wanted.extras))
    (folder / TOLD).write_text(about, encoding="utf-8")
    # last, so that a folder with a clone has the script that says whose it is
    print(f"the repository: {_copy_repository(root, folder / CLONE)}", flush=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(f"{folder}: {size:,.0f} MB, {len(list(wheels.glob('*.whl')))} wheels. On each machine: python install.py, in that folder")
    return 0


def _check(wanted: Offline, root: Path, pythons: Sequence[str]) -> None:
    """Raise UserError for options that are wrong, before anything is fetched."""
    folder = check_folder(wanted.out, "--out")
    if folder.resolve() == root:
        raise UserError(f"--out {wanted.out}: that is the repository itself; name a folder of its own")
    clone = (folder / CLONE).resolve()
    if root.is_relative_to(clone) or clone.is_relative_to(root / "emorl_lite"):
        raise UserError(f"--out {wanted.out}: its folder {CLONE} would be this repository, or lie in its package; name a folder elsewhere")
    made = _begins(folder / SCRIPT, INSTALL)
    for name, ours in ((CLONE, made), (SCRIPT, made), (TOLD, _begins(folder / TOLD, README))):
        if os.path.lexists(folder / name) and not ours:
            raise UserError(f"--out {wanted.out}: has its own {name}, that this command did not make; name a folder of its own")
    oldest = oldest_python(root)
    for python in pythons:
        as_it_should = re.fullmatch(r"\d\.\d{1,3}", python, re.ASCII)
        if not as_it_should or tuple(map(int, python.split("."))) < tuple(map(int, oldest.split("."))):
            raise UserError(f"--python {python}: expected {oldest} or newer, as two numbers")
    known = project()["optional-dependencies"]
    for name in wanted.extras:
        if name not in known:
            raise UserError(f"--extras {name}: there are {', '.join(known)}")


def _download(root: Path, wheels: Path, names: Sequence[str], system: System, python: str) -> None:
    """The wheels of one system and Python: torch by itself, since Linux's has a server of its own."""
    pip = pip_of(sys.executable)
    where = ["download", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    if system != this_system() or python != ".".join(map(str, sys.version_info[:2])):
        where += [f"--platform={tag}" for tag in TAGS[system]] + ["--implementation=cp", f"--python-version={python}"]
    torch = torch_commands(root, pip, where) if system == this_system() else [[*pip, *where, f"torch=={pins(root)['torch']}"]]
    for ways in (torch, [[*pip, *where, *names]]):
        for command in ways:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not done.returncode:
                break
        else:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise UserError(f"could not collect the wheels for {system}, Python {python}: {reason}")


def _begins(file: Path, text: str) -> bool:
    """Whether a file begins as what this command writes: with its first line."""
    try:
        return file.is_file() and file.read_bytes().startswith(text.partition("\n")[0].encode())
    except OSError:
        return False


def _git(folder: Path, *words: str) -> list[str]:
    """What git says of a repository, in lines. Raises OSError where it cannot."""
    own = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, errors="replace", check=False, env=own)
    if done.returncode:
        raise OSError(done.stderr.strip())
    return done.stdout.splitlines()


def _worked_in(folder: Path, root: Path) -> bool:
    """Whether a clone holds anything that the repository's history has not: files, changes, commits on any branch, or set aside (stash)."""
    if not (folder / ".git").exists():
        return True
    try:
        changed = _git(folder, "status", "--porcelain", "--ignored", "--untracked-files=all", "--ignore-submodules=none")
        hidden = [line for line in _git(folder, "ls-files", "-v") if not line.startswith("H ")]  # changes that git was told to overlook
        made = {*_git(folder, "rev-list", "--all", "--reflog", "HEAD")} - {*_git(root, "rev-list", "--all", "HEAD")}
    except OSError:
        return True
    return bool(changed or hidden or made)


def _remove(folder: Path) -> None:
    """Remove a clone: git's own files are read-only, which Windows does not remove."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IWRITE)
    shutil.rmtree(folder)


def _copy_repository(root: Path, folder: Path) -> str:
    """The committed state as a clone, that updates from the repository's address once there is a network; else a copy of the files.

    A clone that is there and was worked in is moved aside.
    """
    if os.path.lexists(folder):
        if folder.is_dir() and not folder.is_symlink() and not _worked_in(folder, root):
            _remove(folder)
        else:
            kept = next(path for n in range(1, 1000) if not os.path.lexists(path := folder.with_name(f"{folder.name}.before-{n}")))
            folder.rename(kept)
            print(f"the repository that was there is now {kept}", flush=True)
    try:
        _git(root, "clone", "-q", "--depth", "1", root.as_uri(), str(folder))
        _git(folder, "remote", "set-url", "origin", address())
    except OSError:
        if folder.exists():
            _remove(folder)
        _copy_files(root, folder)
        return "a copy of its files (git could not clone it)"
    return "its last commit" + (" (what is changed and not committed is left out)" if _git(root, "status", "--porcelain") else "")


def _copy_files(root: Path, folder: Path) -> None:
    """Copy a repository, without what it need not have, and without the folder into which all of this goes."""
    usual, into = shutil.ignore_patterns(*LEFT_OUT), folder.parent.resolve()

    def left_out(place: str, names: list[str]) -> set[str]:
        return {*usual(place, names), *(name for name in names if Path(place, name).resolve() == into)}

    shutil.copytree(root, folder, ignore=left_out)
