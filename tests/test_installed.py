"""The package as a wheel installs it, without the repository: what is in it, that it works elsewhere, and that it stays as it is.

The wheel is built from a copy of the tracked files, installed into a folder of its own, and used by an interpreter that does not read
`.pth` files (-S), so that an editable installation of this repository is out of reach. Nothing here needs a network.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from emorl_lite import Experiment, get_preset
from emorl_lite import __main__ as command_line
from emorl_lite.base import paths, project
from emorl_lite.base.errors import UserError
from emorl_lite.tutorial import colab

pytestmark = pytest.mark.plain

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = project.address()
CLONE = f"come with the repository: git clone {ADDRESS}"


def tracked(*under: str) -> list[str]:
    """Files under version control, or about to be, as paths from the repository's root."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", *under]
    try:
        names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return sorted(name for name in names if name and (ROOT / name).is_file())


def build(source: Path, out: Path, kind: str) -> Path:
    """Build a wheel or an sdist from a folder with the build backend that pyproject.toml names."""
    out.mkdir(parents=True, exist_ok=True)
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = out.iterdir()
    return made


def contents(wheel: Path) -> dict[str, str]:
    """The files of a wheel with their hashes, without those about the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the repository: building leaves folders behind."""
    folder = tmp_path_factory.mktemp("copy") / "repository"
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel") / "dist", "wheel")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is installed in. Nobody may write there, and at the end nobody has."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    everything = [folder, *folder.rglob("*")]
    before = {path: path.read_bytes() for path in everything if path.is_file()}
    modes = {path: path.stat().st_mode for path in everything}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield folder
    for path, mode in modes.items():  # so that pytest can remove it
        path.chmod(mode)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}  # root writes wherever it likes
    assert after == before, f"changed: {sorted(str(p) for p in before.keys() ^ after.keys()) or 'contents'}"


@pytest.fixture
def user(installed, tmp_path):
    """Runs Python as somebody who has the package and no repository, in an empty folder; `user.folder` is that folder."""

    class User:
        folder = tmp_path / "elsewhere"

        def environment(self) -> dict[str, str]:
            site = dict.fromkeys([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
            kept = {name: value for name, value in os.environ.items() if not name.startswith("EMORL_")}
            # no package index, no hub, and nothing that this machine has fetched
            return kept | {"PYTHONPATH": os.pathsep.join(site), "PIP_NO_INDEX": "1", "EMORL_CACHE": str(tmp_path / "cache")}

        def python(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-S", *arguments]
            options = {"capture_output": True, "text": True, "encoding": "utf-8"}
            return subprocess.run(command, cwd=self.folder, env=self.environment() | {"PYTHONUTF8": "1"} | more, **options)

        def script(self, code: str) -> dict:
            """What a script leaves in `found`."""
            done = self.python("-c", f"import json\nfound = {{}}\n{code}\nprint(json.dumps(found))")
            assert done.returncode == 0, done.stderr[-2000:]
            return json.loads(done.stdout.splitlines()[-1])

        def command(self, line: str, **more: str) -> subprocess.CompletedProcess[str]:
            return self.python("-m", "emorl_lite", *line.split(), **more)

        def wrote(self) -> set[str]:
            return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    User.folder.mkdir()
    return User()


# -- what is in it


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert sorted(contents(wheel)) == tracked("emorl_lite")
    assert {"emorl_lite/py.typed", "emorl_lite/assets/tiny_lm/model.safetensors"} <= contents(wheel).keys()
    with zipfile.ZipFile(wheel) as archive:
        about = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
        assert "licenses/LICENSE" in about
        (metadata,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
    assert f"Project-URL: Repository, {ADDRESS}" in metadata


def test_the_source_distribution_builds_the_same_wheel(source, wheel, tmp_path):
    """Without tests and notebooks: they come with the repository."""
    with tarfile.open(build(source, tmp_path / "sdist", "sdist")) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.0 to 3.11.3 lack it
        archive.extractall(tmp_path / "extracted", **safe)
    (folder,) = (tmp_path / "extracted").iterdir()
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= {"emorl_lite", "emorl_lite.egg-info"}
    assert contents(build(folder, tmp_path / "again", "wheel")) == contents(wheel)


# -- what it knows about itself


def test_repository_and_metadata_say_the_same(installed, monkeypatch):
    """Colab's set-up reads pyproject.toml in a clone, and the metadata of an installed package."""
    here = project.project()
    monkeypatch.setattr(project, "repository_root", lambda: None)
    monkeypatch.syspath_prepend(str(installed))
    told = project.project()
    assert told["urls"]["Repository"] == here["urls"]["Repository"] == colab.repository() == ADDRESS

    def requirements(lines):
        return sorted(re.sub(r"[<>=].*", "", line) + "".join(sorted(re.findall(r"[<>=]+[\d.]+", line))) for line in lines)

    assert requirements(told["dependencies"]) == requirements(here["dependencies"])
    assert told["optional-dependencies"].keys() == here["optional-dependencies"].keys()
    for extra, lines in here["optional-dependencies"].items():
        assert requirements(told["optional-dependencies"][extra]) == requirements(lines), extra
    assert colab.missing() == []


def test_a_copy_that_is_neither_says_so(monkeypatch):
    def nowhere(name):
        raise project.PackageNotFoundError(name)

    monkeypatch.setattr(project, "repository_root", lambda: None)
    monkeypatch.setattr(project, "metadata", nowhere)
    with pytest.raises(UserError, match="neither in its repository nor installed: pip install it"):
        project.address()


def test_a_user_without_a_home_folder_needs_none_for_the_tiny_model(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("EMORL_CACHE", raising=False)
    assert paths.resolve("tiny_lm") == str(paths.ASSETS / "tiny_lm")
    with pytest.raises(UserError, match="no home folder: set EMORL_CACHE"):
        paths.resolve("some/model")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOSPC, errno.ENAMETOOLONG])
def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch, capsys, code):
    def refuse(*arguments):
        raise OSError(code, "no", "runs/tiny")

    monkeypatch.setattr(command_line, "run", refuse)
    assert command_line.main(["data"]) == 2
    assert capsys.readouterr().err == "error: runs/tiny: no\n"


# -- a user at work

FIRST = """
from pathlib import Path
import emorl_lite
from importlib.metadata import distribution
from emorl_lite import Experiment, best_weights, get_preset, grammar
from emorl_lite.base.provenance import provenance
from emorl_lite.plots import prompt_map, prompt_map_alt, show
from emorl_lite.tutorial import committed

found["package"] = [emorl_lite.__file__, str(distribution("emorl_lite").locate_file("emorl_lite"))]
found["topics"] = len(grammar().topics)
reference = Experiment(get_preset("tiny"), seed=0, source="reference", progress=False)
prompts = reference.dataset.prompts("test")[:2]
found["trained"] = reference.trained()
found["replies"] = reference.ensemble([0.25, 1.0, 0.125]).reply(prompts)
found["policies"] = sorted(set(committed("policies.csv", "tiny")["policy"]))
scored = reference.exact_map(prompts)
found["regions"] = len(scored.scores)
best = best_weights(scored)
found["weights"], found["value"] = list(best.weights), best.value
show(prompt_map(scored, 0), "map", prompt_map_alt(scored, 0))
found["commit"] = provenance()["commit"]
"""

LACKING = """
from emorl_lite import Experiment, LanguageModel, UserError, get_preset, study_tables
from emorl_lite.study import real_logs, real_tables
from emorl_lite.tutorial import committed

calls = {
    "study_tables": study_tables,
    "committed": lambda: committed("methods.csv"),
    "real_tables": lambda: real_tables("smollm2"),
    "real_logs": lambda: real_logs("smollm2", ["empathy"]),
    "reference": lambda: Experiment(get_preset("smollm2"), source="reference"),
    "model": lambda: LanguageModel.load(get_preset("smollm2").model),
}
for name, call in calls.items():
    try:
        call()
    except UserError as error:
        found[name] = str(error)
"""


@pytest.mark.slow
def test_grammar_model_and_reference_run_travel_with_the_package(user, installed, tmp_path):
    found = user.script(FIRST)
    assert all(Path(path).is_relative_to(installed) for path in found["package"])
    here = Experiment(get_preset("tiny"), seed=0, root=tmp_path / "here", source="reference", progress=False)
    prompts = here.dataset.prompts("test")[:2]
    assert found["trained"] == list(here.preset.objectives)
    assert found["replies"] == here.ensemble([0.25, 1.0, 0.125]).reply(prompts)
    assert found["topics"] > 1 and found["regions"] > 2 and "ensemble" in found["policies"]
    scores = here.exact_map(prompts).means(found["weights"])[0]
    assert found["value"] == pytest.approx(scores.mean(), abs=1e-6)
    assert found["commit"] is None
    assert user.wrote() == {"runs/figures/map.png", "runs/figures/map.pdf"}


@pytest.mark.slow
def test_what_the_repository_has_is_told_in_one_line(user):
    found = user.script(LACKING)
    assert set(found) == {"study_tables", "committed", "real_tables", "real_logs", "reference", "model"}
    assert all("\n" not in message for message in found.values())
    assert "python -m emorl_lite models" in found.pop("model")
    for name, message in found.items():
        assert "not here; " in message and CLONE in message, name
    assert not user.wrote()


@pytest.mark.slow
def test_tables_that_a_user_keeps_are_read(user):
    """`./data` is where a user without the repository may keep what is in its `data/`."""
    shutil.copytree(ROOT / "data" / "results", user.folder / "data" / "results")
    found = user.script('from emorl_lite import study_tables\nfound["rows"] = len(study_tables()["rows"])')
    assert found["rows"] > 100


TINY_RUN = "--objectives fluency brevity --data.validation-prompts 4 --data.test-prompts 4 --quiet"
SHORT = "--ppo.episodes 32 --ppo.batch-size 16 --ppo.minibatch-size 16"


@pytest.mark.slow
def test_the_commands_train_search_and_evaluate_in_the_working_directory(user):
    done = user.command(f"train {TINY_RUN} {SHORT}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in 2 steps") == 2 and not done.stderr
    wrote = user.wrote()
    assert {f"runs/tiny/seed0/{name}/done.json" for name in ("fluency", "brevity")} <= wrote
    assert all(name.startswith("runs/tiny/") for name in wrote)
    found = user.command(f"search {TINY_RUN} {SHORT} --search.method exact --search.validation-prompts 2")
    assert found.returncode == 0 and "weights: fluency" in found.stdout, found.stderr
    table = user.command(f"evaluate {TINY_RUN} {SHORT} --out scores.csv")
    assert table.returncode == 0 and "ensemble" in table.stdout, table.stderr
    assert json.loads((user.folder / "scores.csv.provenance.json").read_text())["commit"] is None
    elsewhere = user.folder / "mine"
    assert user.command(f"train {TINY_RUN} {SHORT} --objective fluency", EMORL_RUNS=str(elsewhere)).returncode == 0
    assert (elsewhere / "tiny" / "seed0" / "fluency" / "done.json").is_file()


@pytest.mark.slow
def test_commands_that_need_more_than_the_package_say_what(user):
    help_ = user.command("--help")
    assert help_.returncode == 0 and all(name in help_.stdout for name in ("train", "search", "evaluate", "study", "data", "tutorial"))
    data = user.command("data list")
    assert data.returncode == 0 and "pair (not here)" in data.stdout
    for line, told in {"tutorial": CLONE, "tutorial --only 02": CLONE, "models": "the package index did not give it"}.items():
        done = user.command(line)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and told in done.stderr, line
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, line
    assert not user.wrote()


@pytest.mark.slow
def test_a_users_script_is_type_checked(installed, tmp_path):
    """mypy reads the annotations of an installed package where it is marked with py.typed."""
    venv.create(tmp_path / "empty", with_pip=False)
    (place,) = [path for path in (tmp_path / "empty").rglob("site-packages") if path.is_dir()]
    (place / "emorl.pth").write_text(f"{installed}\n")
    (tmp_path / "mine.py").write_text("from emorl_lite import Experiment, get_preset\nreveal_type(Experiment(get_preset(3)).trained())\n")
    python = next(path for path in (tmp_path / "empty").glob("*/python*") if path.stem == "python")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(python), "--cache-dir", str(tmp_path / "cache"), "mine.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert re.search(r'Revealed type is "(builtins\.)?list\[(builtins\.)?str\]"', said), said
    assert 'Argument 1 to "get_preset" has incompatible type "int"' in said
    assert said.count("error:") == 1, said
