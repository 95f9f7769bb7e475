"""What README, docs/, CONTRIBUTING and the notebooks say of the repository is there: links, paths, names, commands; and examples run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

import emorl_lite
from emorl_lite.__main__ import parse
from emorl_lite.base.errors import UserError
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.tutorial.testing import LINT

pytestmark = pytest.mark.plain

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md", *(ROOT / "emorl_lite").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
TOP = "benchmarks|data|docs|emorl_lite|figures|notebooks|scripts|tests"
PATH = re.compile(rf"(?<![\w/.~<>-])(?:{TOP})/[\w./*-]*")
DOTTED = re.compile(r"(?<![\w/.-])emorl_lite(?:\.\w+)+")
ELSEWHERE = ("data/t5", "data/t5-paper", "data/counselchat-data.csv")
"""Named, and not here: a table that nobody has made yet, a file of another repository."""


@cache
def text_of(path: Path) -> str:
    """A page's text; of a notebook its prose."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    return text


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def code(text: str) -> list[str]:
    """What a page gives as code: spans, and lines of shell blocks without their comments."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    lines = [line.split("  #")[0].split(" # ")[0].strip() for block in blocks(text, "bash") for line in block.splitlines()]
    return re.findall(r"`([^`\n]+)`", prose) + [line for line in lines if line]


def placeholder(name: str) -> bool:
    """Whether a path, a name or a command holds a word that the reader replaces."""
    return bool({"NAME", "NN"} & set(re.split(r"[\W_]+", name))) or "|" in name


def missing_links(path: Path, text: str) -> list[str]:
    """Relative links (and their headings) and pictures of a page that lead nowhere."""
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)) + re.findall(r'src="([^"]+)"', text):
        if re.match(r"https?:|mailto:|attachment:", link):
            continue
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (heading and heading not in anchors(target.read_text(encoding="utf-8"))):
            lost.append(link)
    return lost


def anchors(text: str) -> set[str]:
    """The headings of a page as GitHub links to them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def missing_paths(text: str) -> list[str]:
    """Paths in code that are not in the repository."""
    named = {name.rstrip("./") for span in code(text) if "<" not in span for name in PATH.findall(span)}
    named |= {span for span in code(text) if re.fullmatch(r"[\w.-]+\.(?:toml|cff|yml|yaml|md|txt)", span)}
    known = {path.name for path in ROOT.glob("*")} | {path.name for path in ROOT.glob(".*")}
    return sorted(n for n in named if not placeholder(n) and n not in ELSEWHERE and n not in known and not any(ROOT.glob(n)))


def missing_names(text: str) -> list[str]:
    """Dotted names of the package in code that do not resolve."""
    return [name for span in code(text) for name in DOTTED.findall(span) if not placeholder(name) and not resolves(name)]


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    found: object = emorl_lite
    parts = name.split(".")
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:i]))
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True


def commands(text: str) -> list[list[str]]:
    """The package's commands that a page gives, as words."""
    found = []
    for line in code(text):
        words = shlex.split(line.split(" && ")[0]) if re.match(r"(python|accelerate launch) ", line) else []
        for start in (["python", "-m", "emorl_lite"], ["accelerate", "launch", "-m", "emorl_lite"]):
            if words[: len(start)] == start and len(words) > len(start) and not placeholder(line):
                found.append(words[len(start) :])
    return found


each_page = pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())


@each_page
def test_links_lead_somewhere(path):
    assert not missing_links(path, text_of(path))


@each_page
def test_named_paths_and_modules_are_there(path):
    if path.name == "CHANGELOG.md":
        pytest.skip("it names what is gone")
    assert not missing_paths(text_of(path)) and not missing_names(text_of(path))


@each_page
def test_commands_are_understood(path):
    for words in commands(text_of(path)):
        parse(words)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {match for span in code(text_of(path)) for match in re.findall(r"^make ([a-z-]+)", span)}
    assert named <= targets


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pictures_have_alternative_text(path):
    assert all(len(alt) > 20 for alt in re.findall(r"^!\[([^\]]*)\]", text_of(path), re.M))


def test_the_readme_lists_every_notebook_and_every_folder():
    readme = text_of(ROOT / "README.md")
    assert re.findall(r"\]\((notebooks/[^)]+)\)", readme) == [f"notebooks/{path.name}" for path in NOTEBOOKS]
    assert f"in {['eight', 'nine', 'ten'][len(NOTEBOOKS) - 8]} notebooks" in readme
    for page in COURSE_PAGES:
        assert f"](docs/{page.name})" in readme
    listed = re.findall(r"^- `emorl_lite/(\w+)/`", readme, re.M)
    contract = list_modules().floors()
    assert listed == [floor for floor in contract if floor != "__main__"], "in the order of the floors"


def test_what_is_wrong_is_found(tmp_path, capsys):
    """The tests above can fail."""
    page = "See [a](nowhere.md), [b](#no-such-heading), `emorl_lite/nowhere.py` and `scripts/none.py --x`, `nothing.toml`.\n\n# A, `b` 3\n"
    assert missing_links(tmp_path / "page.md", page.replace("#no-such-heading", "https://x.org")) == ["nowhere.md"]
    (tmp_path / "page.md").write_text(page)
    assert missing_links(tmp_path / "page.md", page) == ["nowhere.md", "#no-such-heading"] and anchors(page) == {"a-b-3"}
    assert missing_paths(page) == ["emorl_lite/nowhere.py", "nothing.toml", "scripts/none.py"]
    assert missing_paths("`data/results/methods*.csv` `emorl_lite/methods/NAME.py` `runs/x/y`") == []
    assert missing_names("`emorl_lite.methods.REGISTRY`, `emorl_lite.nothing.here`, `emorl_lite.training.gae`") == [
        "emorl_lite.methods.REGISTRY",
        "emorl_lite.nothing.here",
    ]
    assert commands("```bash\npython -m emorl_lite train --ppo.lr 1 # why\n```\n`python -m emorl_lite data`") == [
        ["data"],
        ["train", "--ppo.lr", "1"],
    ]
    with pytest.raises(UserError, match="no-such-option"):
        parse(["train", "--no-such-option", "1"])


# -- sizes


@pytest.mark.parametrize(("name", "limit"), [("README.md", 9_000), ("CONTRIBUTING.md", 6_000)])
def test_a_page_stays_a_page(name, limit):
    assert len((ROOT / name).read_bytes()) < limit


# -- the list of modules, and the change log


def list_modules():
    spec = importlib.util.spec_from_file_location("list_modules", ROOT / "scripts" / "list_modules.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_modules_is_up_to_date(tmp_path, monkeypatch):
    script = list_modules()
    done = subprocess.run([sys.executable, ROOT / "scripts" / "list_modules.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r"\(\.\./(emorl_lite/[^)]+)\)", script.page()))
    assert listed == {path.relative_to(ROOT).as_posix() for path in (ROOT / "emorl_lite").rglob("*.py")} - {"emorl_lite/__init__.py"}
    monkeypatch.setattr(script, "PAGE", tmp_path / "modules.md")
    script.PAGE.write_text(script.page().replace("PPO", "TRPO"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["list_modules.py", "--check"])
    with pytest.raises(SystemExit, match="not up to date"):
        script.main()


def test_the_change_log_speaks_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, re.M) and set(re.findall(r"^### (\w+)$", text, re.M)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_the_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "emorl_lite.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", emorl_lite.__version__)
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


# -- hooks before a commit


def test_the_hooks_run_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    ours = [hook for repo in hooks["repos"] if repo["repo"] == "local" for hook in repo["hooks"]]
    assert {hook["id"] for hook in ours} == {"ruff-check", "ruff-format", "mypy", "import-linter"}
    for hook in ours:
        assert hook["language"] == "system" and hook["name"]
        command = hook["entry"].split()
        assert command[0].startswith(".venv/bin/")
        assert (Path(command[0]).name, *command[1:]) in LINT, f"make lint does not run {hook['entry']}"
    assert len(ours) == len(LINT)
    (theirs,) = [repo for repo in hooks["repos"] if repo["repo"] != "local"]
    assert theirs["repo"] == "https://github.com/pre-commit/pre-commit-hooks" and re.fullmatch(r"v\d+\.\d+\.\d+", theirs["rev"])
    assert {hook["id"] for hook in theirs["hooks"]} == {
        "check-added-large-files",
        "check-merge-conflict",
        "check-toml",
        "check-yaml",
        "end-of-file-fixer",
    }
    (size,) = [hook["args"] for hook in theirs["hooks"] if hook["id"] == "check-added-large-files"]
    assert size == ["--maxkb=4882"], "5 MB: what test_repository.test_sizes allows"
    (ends,) = [hook["exclude"] for hook in theirs["hooks"] if hook["id"] == "end-of-file-fixer"]
    assert all(
        re.search(ends, name) for name in ("notebooks/00_x.ipynb", "figures/x.pdf", "data/results/a.csv", "emorl_lite/assets/a.json")
    )
    assert not any(re.search(ends, name) for name in ("README.md", "data/README.md", "emorl_lite/base/files.py"))


# -- examples

EXAMPLES = [(path, block) for path in PAGES for block in blocks(text_of(path), "python")]
TAKES_MINUTES = re.compile(r"\.(?:prepare|search)\(")


@pytest.mark.parametrize(("path", "block"), EXAMPLES, ids=lambda x: x.name if isinstance(x, Path) else "")
def test_examples_import_what_is_there(path, block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "emorl_lite":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{path.name}: {node.module} has no {alias.name}"
                assert node.module != "emorl_lite" or alias.name in emorl_lite.__all__, f"{alias.name} is not a public name"
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("emorl_lite") for alias in node.names)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    """Those that take seconds, in the order of the page, away from the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(REWARDS, "asks", None)  # taken out again afterwards
    monkeypatch.setenv("EMORL_RUNS", str(tmp_path / "runs"))
    quick = [block for path, block in EXAMPLES if path == ROOT / name and not TAKES_MINUTES.search(block)]
    space: dict[str, object] = {"__name__": "__example__"}
    for block in quick:
        exec(compile(block, name, "exec"), space)
        assert capsys.readouterr().out.strip(), "an example shows something"
    assert len(quick) == (1 if name == "README.md" else 5)
    reply = space["ensemble"].reply(["I feel sad because my boss keeps giving me more tasks."])[0]
    assert "boss" in reply
    if name == "docs/python.md":
        assert space["log"]["reward"].iloc[-1] > 2 * space["log"]["reward"].iloc[0], "what the page says of its own reward"
        assert space["experiment"].trained() == ["fluency", "asks"] and (tmp_path / "runs_asks").is_dir()


def test_the_public_names_are_all_told():
    table = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").split("| names |")[1].split("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert sorted(name for cell in first for name in re.findall(r"`(\w+)`", cell)) == sorted(emorl_lite.__all__)
    for name in ("docs/python.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        counts = re.findall(r"(\d+) (?:public )?names", text_of(ROOT / name))
        assert counts and set(counts) == {str(len(emorl_lite.__all__))}, name


# -- notation, glossary, paper map

COURSE_PAGES = [ROOT / "docs" / name for name in ("notation.md", "glossary.md", "paper_map.md")]
SECTION = re.compile(r"\[(\d\d)(?: · ([^\]]+))?\]\(\.\./notebooks/([^)]+)\)")
"""A link to a section of a notebook: the notebook's number, perhaps a heading, the file."""


@cache
def sections(path: Path) -> dict[str, str]:
    """A notebook's prose and code by heading; "" holds all of it."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) if cell["cell_type"] == "markdown" else fenced(cell) for cell in cells)
    parts = re.split(r"(?m)^(#{1,4}) (.+)$", text)
    found = {"": text}
    for i in range(1, len(parts), 3):
        level, body = len(parts[i]), parts[i + 1] + parts[i + 2]
        for j in range(i + 3, len(parts), 3):  # a section holds its subsections
            if len(parts[j]) <= level:
                break
            body += parts[j + 1] + parts[j + 2]
        found[parts[i + 1].strip()] = body
    return found


def fenced(cell: dict) -> str:
    """A code cell in which no comment reads as a heading."""
    return "\n".join(" " + line for line in "".join(cell["source"]).splitlines())


def section(number: str, heading: str, file: str) -> str:
    """The text that a link leads to. Raises AssertionError where there is none."""
    path = ROOT / "notebooks" / file
    assert path in NOTEBOOKS and file.startswith(number), f"{file}: not notebook {number}"
    assert heading in sections(path), f"notebook {number} has no heading {heading!r}"
    return sections(path)[heading]


SUBSCRIPT = r"(?:_(\{[^{}]*\}|\\[A-Za-z]+|\w))?"


def symbols(text: str) -> set[str]:
    """The symbols in the mathematics of a text, letters and commands with what stands below them: w_i, \\pi_old."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    found = set()
    for pair in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", prose, re.S):
        maths = re.sub(r"_\{\\text\{(\w+)\}\}", r"_{\1}", "".join(pair))
        maths = re.sub(r"\\(?:text|mathrm|operatorname)\{[^}]*\}", "", maths)
        found |= {
            base + ("_" + below.strip("{}") if below else "") for base, below in re.findall(rf"(\\[A-Za-z]+|[A-Za-z]){SUBSCRIPT}", maths)
        }
    return found


def occurs(symbol: str, text: str) -> bool:
    """Whether a symbol, with all that belongs to it, stands in the mathematics of a text."""
    return symbols(f"${symbol}$") <= symbols(text)


def symbol_rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| $")]


@pytest.mark.parametrize("page", COURSE_PAGES, ids=lambda page: page.name)
def test_sections_of_notebooks_are_there(page):
    found = SECTION.findall(page.read_text(encoding="utf-8"))
    assert len(found) > 20
    for link in found:
        section(*link)


@pytest.mark.parametrize("row", symbol_rows(), ids=lambda row: row[0])
def test_a_symbol_stands_where_the_table_says(row):
    assert len(row) == 5, "symbol, meaning, range, code, where"
    text = section(*SECTION.findall(row[-1])[0])
    missing = [symbol for symbol in re.findall(r"\$(.+?)\$", row[0]) if not occurs(symbol, text)]
    assert not missing, f"not in {row[-1]}"


def test_one_symbol_means_one_thing():
    told = [symbol for row in symbol_rows() for symbol in re.findall(r"\$(.+?)\$", row[0])]
    assert len(told) == len(set(told)) > 40


def test_what_a_symbol_is_called_in_code_is_in_the_package():
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "emorl_lite").rglob("*.py")))
    words = {word for row in symbol_rows() for span in re.findall(r"`([^`]+)`", row[3]) for word in re.findall(r"[A-Za-z_]\w+", span)}
    assert words and not [word for word in sorted(words) if not re.search(rf"\b{word}\b", source)]


def test_a_word_of_the_glossary_is_used_where_it_says():
    lines = re.split(r"(?m)^- ", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))[1:]
    assert len(lines) > 50
    for line in lines:
        (link,) = SECTION.findall(line)
        words, text = re.findall(r"\*\*([^*]+)\*\*", line.split(":")[0]), section(*link).lower()
        assert any(word.lower() in text for word in words), f"{words} not in {link}"


def test_the_map_of_the_paper_names_what_is_there():
    text = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")
    names = [name for span in code(text) for name in DOTTED.findall(span)]
    assert len(set(names)) > 35 and not [name for name in names if not resolves(name)]
    for number in range(1, 10):
        assert re.search(rf"^\| figures? [^|]*\b{number}\b", text, re.M), f"figure {number} of the paper"


def test_a_section_and_a_symbol_that_are_not_there_are_found():
    with pytest.raises(AssertionError, match="no heading"):
        section("08", "Nothing of the kind", "08_the_paper.ipynb")
    with pytest.raises(AssertionError, match="not notebook"):
        section("07", "", "08_the_paper.ipynb")
    assert occurs("w_i", "with $\\sum_i w_i h_i$") and not occurs("w_i", "`w_i` and $w_{ij}$") and not occurs("h", "with $h_i$")
    assert occurs("r_i(x, y)", "a reward $r_i(x,\\ y)$") and not occurs("r_i(x, y)", "a reward $r_i$ of $x$")
    assert symbols("$$\\pi_{\\text{old}} s\\,B_iA_i \\mathrm{diag}(g)$$") == {"\\pi_old", "s", "B_i", "A_i", "g"}
