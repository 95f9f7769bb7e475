"""Third-party files: fetched once from their public address, checked against a known hash, kept outside the repository."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import cache_root


@dataclass(frozen=True)
class Source:
    """A data file with a public address, or a folder of them."""

    file: str
    url: str
    """Empty where there is no public address."""
    sha256: str
    """Empty for a folder, whose files have `blobs` instead."""
    rows: str
    licence: str
    terms: str = ""
    """How to get a file that has no public address."""
    known: tuple[str, ...] = ()
    """Hashes of other editions that will do (PAIR: 278 of its rows, the edition that the committed tables were made with)."""
    blobs: Mapping[str, str] = field(default_factory=dict)
    """Of a folder: its files, by their paths below `url` and below the folder, and git's id of each."""


_GITHUB = "https://raw.githubusercontent.com"

SOURCES: dict[str, Source] = {
    "pair": Source(
        "pair.csv",
        f"{_GITHUB}/MichiganNLP/dynaopt/299c8fc1408bff94880932812cddfa844f6d5d22/topic_clean_umich.csv",
        "d7657d76a0199a68eb7281fe46c436f8b4e2bcd1ffbdac8d73fe65122521640c",
        "318 client statements with eight replies each",
        "repository Apache-2.0; no separate licence for the data",
        known=("2222ce98bf5597ef35cd48969033ce45dd8721461d19abd7ac3e429d06518c04",),
    ),
    "counsel-chat": Source(
        "counselchat-data.csv",
        f"{_GITHUB}/nbertagnolli/counsel-chat/356c9070153549cfbd3f65d3cf33f92b9a133fce/data/counselchat-data.csv",
        "00d7b44d1bb3c300b6077d1442e32db7ac41b6cc337122d238e0ca78b75c7825",
        "2,129 answers of therapists",
        "repository MIT; the text was scraped from a public forum",
    ),
    "epitome": Source(
        "emotional-reactions-reddit.csv",
        f"{_GITHUB}/behavioral-data/Empathy-Mental-Health/741a8df4d3bc5301f0426e0c72e1d8e354c42fd3/dataset/emotional-reactions-reddit.csv",
        "225b28ffdc257f8a997d557eb937e78b68235e6203c87c7e2203d00fef8545cc",
        "3,084 pairs with levels of emotional reaction",
        "non-commercial academic use, with attribution: for local use alone",
    ),
    "psych8k": Source(
        "psych8k.json",
        "",
        "",
        "about 8,000 pairs",
        "see its page",
        "gated: accept its terms on its Hugging Face page (EmoCareAI/Psych8k), download the JSON file and name it with --data-path",
    ),
    "emorl-adapters": Source(
        "emorl-adapters",
        f"{_GITHUB}/engineerkong/EMORL/6b85da3d0d45675d12d1e2f503f22025a46800e4/lora_results",
        "",
        "the paper's own LoRA adapters of t5-base: five of each objective, 15 files",
        "repository Apache-2.0; no separate licence for the adapters",
        blobs={
            "empathy/lora_empathy_69790.npz": "68861775ab285c0cdc28c0158fe018c6dad103e4",
            "empathy/lora_empathy_91032.npz": "cd685b4c974915dc95d54d74e3871c02027897f5",
            "empathy/lora_empathy_97165.npz": "3c3b8be4fe275ffd796dc1f7f8218cf7e7118491",
            "empathy/lora_empathy_97558.npz": "7ca750b5b8af18d0e999ecb683159d6e4c26bdd5",
            "empathy/lora_empathy_98522.npz": "ee34a4204f54d8fa77860d994300c96f50c3e985",
            "fluency/lora_fluency_14611.npz": "c16736dcb1c8799f44bff052d920391a0c29a5cc",
            "fluency/lora_fluency_39595.npz": "2234371755519a99ec4ddef5b1c32539fc416860",
            "fluency/lora_fluency_62647.npz": "6f94a6c0e6852a590fb076bdb581aea9124f6e2d",
            "fluency/lora_fluency_79020.npz": "b014f54ccbf263963e7c97b2c352d020f8ea14f6",
            "fluency/lora_fluency_94300.npz": "3dde029069af33bb3fb7a77bd5ef7678834a9c46",
            "reflection/lora_reflection_18219.npz": "627bceb5d740f55b3ffb0f7fb44be97e270f3612",
            "reflection/lora_reflection_48788.npz": "7266109853a5ef91dea1250cd70de0b7fbf6738e",
            "reflection/lora_reflection_75268.npz": "761c3946a5eafe6e8b1128194ed2d15eaf3ab6e3",
            "reflection/lora_reflection_84774.npz": "3228854be9212182ad0ed4cbacb80210aefaad12",
            "reflection/lora_reflection_87739.npz": "1c6f3d860376873390143869b85c988551b4bcfb",
        },
    ),
}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blob_id(path: Path) -> str:
    """What git names a file's content by: SHA-1 of "blob <bytes>", a zero byte, and the content."""
    hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            hasher.update(part)
    return hasher.hexdigest()


def find_file(path: str) -> Path:
    """A data file: as it is, or where `fetch` put it. Raises UserError, saying how to get it, for a known set that is not there."""
    fetched = cache_root() / "data" / path
    if Path(path).exists() or not fetched.exists():
        for name, source in SOURCES.items():
            if source.file == path and not Path(path).exists():
                advice = f"get it with: python -m emorl_lite data fetch {name}" if source.url else f"{source.terms}, or put it at {fetched}"
                raise UserError(f"{path}: not here yet; {advice}")
        return Path(path)
    for name, source in SOURCES.items():
        if source.file == path and not is_there(name):
            raise UserError(f"{fetched}: its hash is not that of {name} as published; name a file of your own by its whole path")
    return fetched


def is_there(name: str) -> bool:
    """Whether a known data set lies where `fetch` puts it, undamaged."""
    source, file = SOURCES[name], cache_root() / "data" / SOURCES[name].file
    if source.blobs:
        return len(_whole_files(source, file)) == len(source.blobs)
    return file.is_file() and (not source.sha256 or sha256(file) in (source.sha256, *source.known))


def _whole_files(source: Source, folder: Path) -> list[str]:
    """The files of a folder that are there, undamaged."""
    return [file for file, blob in source.blobs.items() if (folder / file).is_file() and blob_id(folder / file) == blob]


def whole_file(name: str, file: str) -> Path:
    """A file of a known folder, as published. Raises UserError, saying how to get it, if it is not there, or another one."""
    path, advice = cache_root() / "data" / SOURCES[name].file / file, f"python -m emorl_lite data fetch {name}"
    if not path.is_file():
        raise UserError(f"{path}: not here yet; get it with: {advice}")
    if blob_id(path) != SOURCES[name].blobs[file]:
        raise UserError(f"{path}: git's id is not that of {name} as published (damaged, or edited); move it away, then: {advice}")
    return path


def state(name: str) -> str:
    """Whether a known data set is here, in words."""
    source = SOURCES[name]
    if is_there(name):
        return "here"
    number = len(_whole_files(source, cache_root() / "data" / source.file)) if source.blobs else 0
    return f"{number} of {len(source.blobs)} files here" if number else "not here"


def fetch(name: str, timeout: float = 30.0, told: Callable[[str], object] | None = None) -> Path:
    """The file (or folder) of a known data set, downloaded if it is not there. Nothing takes its place before its hash is right.

    Of a folder only the files that are missing are downloaded; `told` gets a line on each. Raises UserError for an unknown name, a set
    without a public address, no network, a half download or a wrong hash.
    """
    if name not in SOURCES:
        raise UserError(f"data fetch {name}: unknown; expected one of {', '.join(SOURCES)}")
    source = SOURCES[name]
    target = cache_root() / "data" / source.file
    if is_there(name):
        return target
    if not source.url:
        raise UserError(f"data fetch {name}: {source.terms}")
    if source.blobs:
        _fetch_folder(name, source, target, timeout, told)
        return target
    if target.is_file():
        raise UserError(f"{target}: its hash is not that of {name} as published (damaged, or edited); move it away and fetch again")
    download(source.url, target, source.sha256, timeout)
    return target


def _fetch_folder(name: str, source: Source, folder: Path, timeout: float, told: Callable[[str], object] | None) -> None:
    """What is missing of a folder. Raises UserError, before anything is downloaded, for a file of it that is another one."""
    there = _whole_files(source, folder)
    for file in source.blobs:
        if file not in there and (folder / file).exists():
            raise UserError(
                f"{folder / file}: git's id is not that of {name} as published (damaged, or edited); move it away and fetch again"
            )
    missing = [file for file in source.blobs if file not in there]
    for number, file in enumerate(missing, 1):
        download(f"{source.url}/{file}", folder / file, source.blobs[file], timeout, blob_id, "git's id")
        if told is not None:
            told(f"{file} ({number} of {len(missing)})")


def download(
    url: str, target: Path, digest: str, timeout: float = 30.0, hashed: Callable[[Path], str] = sha256, called: str = "SHA-256"
) -> None:
    """Download to a temporary name, check the hash, and only then give the file its name. `hashed`, `called`: which hash.

    Raises UserError if the address cannot be reached, the transfer stops half-way, or the hash is another one; nothing is left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be made ({error.strerror}); set EMORL_CACHE to a folder that can be written") from error
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer, part.open("wb") as file:
            announced = answer.headers.get("Content-Length")
            shutil.copyfileobj(answer, file)
        size = part.stat().st_size
        if announced is not None and size != int(announced):
            raise UserError(f"{url}: the transfer stopped at {size:,} of {int(announced):,} bytes; nothing was kept, fetch again")
        if (actual := hashed(part)) != digest:
            raise UserError(
                f"{url}: {called} is {actual[:12]}…, expected {digest[:12]}…: the file was changed or damaged; nothing was kept"
            )
        os.replace(part, target)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: the server answered {error.code} {error.reason}") from error
    except http.client.HTTPException as error:
        raise UserError(f"{url}: the transfer stopped half-way ({type(error).__name__}); nothing was kept, fetch again") from error
    except OSError as error:  # URLError, timeouts and broken connections are all of this kind
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url}: cannot be reached ({reason}); without a network, put the file at {target}") from error
    finally:
        part.unlink(missing_ok=True)
