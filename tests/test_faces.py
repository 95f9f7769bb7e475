"""The package's faces: what they promise is there, costs nothing until it is used, and is all that the notebooks import."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import emorl_lite

pytestmark = pytest.mark.plain

PACKAGE = Path(emorl_lite.__file__).parent
NOTEBOOKS = sorted((PACKAGE.parent / "notebooks").glob("[0-9][0-9]_*.ipynb"))
FOLDERS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py"))
HEAVY = ("torch", "transformers", "peft", "numpy", "pandas", "matplotlib")


def loaded_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has after this code."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*[n for n in {HEAVY} if n in sys.modules])"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())


def test_every_public_name_is_there():
    for name in emorl_lite.__all__:
        assert getattr(emorl_lite, name) is not None and name in dir(emorl_lite)
    listed = [name for names in emorl_lite._MODULES.values() for name in names]
    assert sorted(listed) == sorted(emorl_lite.__all__) and len(listed) == len(set(listed))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = emorl_lite.nothing


def test_editors_and_the_interpreter_see_the_same_names():
    """What stands under TYPE_CHECKING is what the package gives."""
    for path in (PACKAGE / "__init__.py", PACKAGE / "tutorial" / "__init__.py"):
        module = importlib.import_module("emorl_lite" if path.parent == PACKAGE else "emorl_lite.tutorial")
        (block,) = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
        typed = {a.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names}
        assert sorted(typed) == sorted(module.__all__)
        for name, source in typed.items():
            assert getattr(module, name) is getattr(importlib.import_module(source), name)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_gives_what_it_names(folder):
    module = importlib.import_module(f"emorl_lite.{folder}")
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names)) and all(hasattr(module, name) for name in names)
    assert (not names) == (folder == "base")
    for name in names:  # a figure is not hidden behind the module of its name
        assert folder in ("readings", "study") or not inspect.ismodule(getattr(module, name))


@pytest.mark.parametrize("code", ["import emorl_lite", "from emorl_lite import get_preset, UserError", "import emorl_lite.tutorial.colab"])
def test_nothing_heavy_is_loaded(code):
    assert not loaded_by(code)


def test_what_is_asked_for_is_loaded():
    assert "torch" in loaded_by("from emorl_lite import LanguageModel")


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["study", "--help"]])
def test_help_loads_nothing_heavy(command):
    """Half a second at most: what takes longer is the heavy packages."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "emorl_lite", *command], capture_output=True, text=True)
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0 and "usage" in done.stdout.lower() and "tyro" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name[:2])
def test_notebooks_import_from_faces_alone(path):
    """`from emorl_lite import ..` and `from emorl_lite.<folder> import ..`; the bootstrap asks for the module that Colab can load."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code" or number == 1:
            continue
        for source in ("".join(cell["source"]), "".join(cell["metadata"].get("wrong", ""))):
            lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
            for node in ast.walk(ast.parse("\n".join(lines))):
                assert not isinstance(node, ast.Import) or not any(a.name.startswith("emorl_lite") for a in node.names)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emorl_lite"):
                    face = importlib.import_module(node.module or "")
                    beyond = [a.name for a in node.names if a.name not in face.__all__ and a.name not in FOLDERS]
                    assert node.module.count(".") <= 1 and not beyond, f"{path.name}, cell {number}: {node.module} does not give {beyond}"
