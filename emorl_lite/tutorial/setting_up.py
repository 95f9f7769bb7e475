"""An environment with everything in it, wherever somebody sits: `python -m emorl_lite setup`, which make, Docker and Binder call too.

The standard library alone: this runs before anything is installed, with whatever Python a reader has.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import INTERRUPTED, USER, Terminated, why
from emorl_lite.base.paths import repository_root

NEEDS = {"tutorial": "notebooks", "lab": "notebooks", "offline": "notebooks", "test": "dev", "course": "dev", "grade": "dev", "site": "dev"}
"""Commands that set up what they need themselves, and the extra they need; other commands say that it is not there."""
WHOLE = "dev"
"""The extra that holds all the others."""
PYTORCH = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch's builds without CUDA are."""
STAMP = ".ready"
"""A file in `.venv`, written when it is whole: the extras it was made with, or nothing for all of them."""
MISSING = ("tyro", "torch", "transformers", "peft")
"""Without one of these an interpreter cannot run the package."""


@dataclass
class Setup:
    """Make .venv with the pinned versions of everything, once. Needs nothing but Python itself."""

    extras: tuple[str, ...] = ()
    """Of pyproject.toml's optional dependencies, what to install (default: dev, all there are; to read and run: notebooks methods)."""
    here: bool = False
    """Into the Python that runs this, instead of .venv: a container, a conda environment."""
    wheels: str = ""
    """A folder of wheels to take everything from, without a network: `offline` makes one."""


def on_windows() -> bool:
    """Whether this is Windows: an environment is laid out otherwise there."""
    return sys.platform == "win32"


def environment_python(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if on_windows() else "bin/python")


def repository() -> Path:
    """The repository's root. Raises UserError for a package that is installed without it."""
    root = repository_root()
    if root is None:
        raise UserError("set-up is for a clone of the repository: this package is installed without one, and has what it needs")
    return root


def handed_over(words: Sequence[str]) -> int | None:
    """What comes before any command: set-up itself, and a Python without the package's needs, which hands the command to .venv's.

    words: the command line. Returns the exit status, or None where this interpreter is the one to go on.
    """
    command = words[0] if words else ""
    try:
        if command == "setup":
            print(f"ready: {_short(set_up(_parsed(words[1:])))}", flush=True)
            return 0
        if all(find_spec(name) for name in MISSING):
            return None
        python = environment_python(repository() / ".venv")
        if command in NEEDS:
            python = set_up(Setup(extras=(NEEDS[command],) if _recorded(repository() / ".venv" / STAMP) else ()))
        elif not is_ready() or _is(python):
            raise UserError(f"{sys.executable} lacks what the package needs: `python -m emorl_lite setup` makes .venv with all of it")
    except (UserError, OSError) as error:
        print(why(error)[0], file=sys.stderr, flush=True)
        return USER
    except KeyboardInterrupt:
        print("stopped: the same command goes on", file=sys.stderr, flush=True)
        return INTERRUPTED
    try:
        return become([str(python), "-m", "emorl_lite", *words])
    except OSError as error:  # made on another machine, say
        print(
            f"error: {python} does not run here ({error.strerror}): remove .venv, and give the command again", file=sys.stderr, flush=True
        )
        return USER


def become(command: Sequence[str]) -> int:
    """Run a command in the place of this process, which signals then reach; on Windows, where none can be replaced, as its child."""
    if not on_windows():
        os.execv(command[0], list(command))
    return run(command)


def run(command: Sequence[str], **environment: str) -> int:
    """Run a command from the working directory, with a few more environment variables. Returns its exit status; Ctrl-C and SIGTERM reach
    it."""
    process = subprocess.Popen(command, env=os.environ | environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt as stop:  # a terminal has sent it to both, a container's SIGTERM to this one: the child says how it ends
            if isinstance(stop, Terminated):
                process.terminate()


def set_up(wanted: Setup) -> Path:
    """Install what is missing. Returns the interpreter that has it. Raises UserError, in one line, where that cannot be."""
    root = repository()
    _check_python(root)
    extras = _checked_extras(root, wanted.extras)
    wheels = _checked_wheels(wanted.wheels)
    if wanted.here:
        _install(Path(sys.executable), root, extras, wheels)
        return Path(sys.executable)
    environment = root / ".venv"
    python = environment_python(environment)
    if is_ready(extras):
        return python
    if not python.is_file() or not _has_pip(python):
        _make(environment)
    print(f"Set-up, once: pinned versions into {_short(environment)} (a few minutes)", flush=True)
    stamp = environment / STAMP
    extras = tuple(dict.fromkeys((*_recorded(stamp), *extras)))
    stamp.unlink(missing_ok=True)
    _install(python, root, extras, wheels)
    stamp.write_text("" if WHOLE in extras else "\n".join(extras) + "\n", encoding="utf-8")
    return python


def is_ready(extras: Sequence[str] = ()) -> bool:
    """Whether .venv is whole, newer than what it was made from, and has these extras."""
    root = repository()
    stamp = root / ".venv" / STAMP
    if not stamp.is_file() or not environment_python(root / ".venv").is_file():
        return False
    made_from = [root / name for name in ("pyproject.toml", "constraints.txt")]
    has = _recorded(stamp)
    return stamp.stat().st_mtime >= max(path.stat().st_mtime for path in made_from) and (WHOLE in has or set(extras) <= set(has))


def pins(root: Path) -> dict[str, str]:
    """constraints.txt: package -> version, names in lower case with hyphens."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("#")[0].strip().partition("==") for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, found, version in pinned if found}


def oldest_python(root: Path) -> str:
    """The Python that everything is pinned for and that containers take: where pyproject.toml's requires-python begins, "3.11"."""
    return re.findall(r'^requires-python = ">=([\d.]+)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[0]


def torch_commands(root: Path, pip: Sequence[str], where: Sequence[str] = ("install",)) -> list[list[str]]:
    """Ways to get torch, the first that works to be taken.

    PyPI's torch for Linux carries CUDA (gigabytes): without a GPU, PyTorch's own CPU build comes first, if its server can be reached.
    """
    pinned = f"torch=={pins(root)['torch']}"
    plain = [*pip, *where, "-c", str(root / "constraints.txt"), pinned]
    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        return [plain]
    return [[*pip, *where, "--no-deps", "--index-url", PYTORCH, "--retries", "0", "--timeout", "15", pinned], plain]


def pip_of(python: Path | str) -> list[str]:
    """pip of an interpreter, that says only what went wrong."""
    return [str(python), "-m", "pip", "--disable-pip-version-check", "-qq"]


# -- the steps


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A mistake is one line."""
        raise UserError(f"setup: {message} (--help lists the options)")


def _parsed(words: Sequence[str]) -> Setup:
    """The options of `setup`, without tyro: it need not be there yet."""
    parser = _Parser(prog="python -m emorl_lite setup", description=Setup.__doc__, allow_abbrev=False)
    parser.add_argument("--extras", nargs="+", default=(), help="default: dev, all there are; to read and run alone: notebooks methods")
    parser.add_argument("--here", action="store_true", help="into the Python that runs this, instead of .venv")
    parser.add_argument("--wheels", help="a folder of wheels to take everything from, without a network")
    found = parser.parse_args(list(words))
    if found.wheels is not None and not found.wheels.strip():
        raise UserError("--wheels is empty: expected a path")
    return Setup(tuple(found.extras), found.here, found.wheels or "")


def _check_python(root: Path) -> None:
    oldest = oldest_python(root)
    if sys.version_info < tuple(int(part) for part in oldest.split(".")):
        have = ".".join(str(part) for part in sys.version_info[:3])
        raise UserError(f"Python {oldest} or newer is needed, and {sys.executable} is {have}: run this with another")


def _checked_extras(root: Path, extras: Sequence[str]) -> tuple[str, ...]:
    import tomllib  # here: an older Python has none, and has been told by now

    known = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name in extras:
        if name not in known:
            raise UserError(f"--extras {name}: there are {', '.join(known)}")
    return tuple(extras) or (WHOLE,)


def _checked_wheels(folder: str) -> Path | None:
    if folder and not any(Path(folder).glob("*.whl")):
        raise UserError(f"--wheels {folder}: no wheels there")
    return Path(folder).resolve() if folder else None


def _make(environment: Path) -> None:
    """A virtual environment with pip. One that is there stays, and gets what it lacks."""
    if _is(environment_python(environment)):
        raise UserError(f"{_short(environment)} has no pip and is what runs this: remove it, and run this with another Python")
    if os.path.lexists(environment) and not environment.is_dir():
        raise UserError(f"{_short(environment)} is no folder: move it away, and give the command again")
    new = not environment.exists()
    done = subprocess.run([sys.executable, "-m", "venv", str(environment)], capture_output=True, text=True, check=False)
    if done.returncode:
        if new:
            shutil.rmtree(environment, ignore_errors=True)
        raise UserError(f"{sys.executable} cannot make {_short(environment)} (on Debian and Ubuntu: apt install python3-venv)")


def _install(python: Path, root: Path, extras: Sequence[str], wheels: Path | None) -> None:
    pip = pip_of(python)
    own = [*pip, "install", "-c", str(root / "constraints.txt"), "-e", f"{root}[{','.join(extras)}]"]
    if wheels:
        _done([[*own, "--no-index", "--find-links", str(wheels)]], root, f"everything from {wheels}")
        return
    _done(torch_commands(root, pip), root, "torch")
    _done([own], root, "the pinned packages")


def _done(ways: Sequence[Sequence[str]], root: Path, what: str) -> None:
    """Run the first of some commands that ends well."""
    for i, command in enumerate(ways):
        last = i == len(ways) - 1
        if not subprocess.run(command, cwd=root, stderr=None if last else subprocess.DEVNULL, check=False).returncode:
            return
        if not last:
            print("PyTorch's server did not give the CPU build: taking the package index's", flush=True)
    raise UserError(f"could not install {what}: pip's reason is above; the same command goes on where this one stopped")


def _recorded(stamp: Path) -> tuple[str, ...]:
    """The extras that .venv was made with. None for one that is not there."""
    if not stamp.is_file():
        return ()
    return tuple(stamp.read_text(encoding="utf-8").split()) or (WHOLE,)


def _has_pip(python: Path) -> bool:
    """Whether an interpreter runs here and has pip: one that came with a copied folder may be another machine's."""
    try:
        return not subprocess.run([str(python), "-c", "import pip"], capture_output=True, check=False).returncode
    except OSError:
        return False


def _is(python: Path) -> bool:
    """Whether an environment's interpreter is the one that runs this."""
    return Path(sys.prefix).resolve() == python.parent.parent.resolve()


def _short(path: Path) -> str:
    """Relative to the working directory where it lies inside."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
