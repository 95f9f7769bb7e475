"""Third-party files: fetched once from their public address, checked against a known hash, kept outside the repository."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import cache_root


@dataclass(frozen=True)
class Source:
    """A data file with a public address."""

    file: str
    url: str
    """Empty where there is no public address."""
    sha256: str
    rows: str
    licence: str
    terms: str = ""
    """How to get a file that has no public address."""
    known: tuple[str, ...] = ()
    """Hashes of other editions that will do (PAIR: 278 of its rows, the edition that the committed tables were made with)."""


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
}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    return file.is_file() and (not source.sha256 or sha256(file) in (source.sha256, *source.known))


def fetch(name: str, timeout: float = 30.0) -> Path:
    """The file of a known data set, downloaded if it is not there. Nothing takes its place before its hash is right.

    Raises UserError for an unknown name, a set without a public address, no network, a half download or a wrong hash.
    """
    if name not in SOURCES:
        raise UserError(f"data fetch {name}: unknown; expected one of {', '.join(SOURCES)}")
    source = SOURCES[name]
    target = cache_root() / "data" / source.file
    if is_there(name):
        return target
    if not source.url:
        raise UserError(f"data fetch {name}: {source.terms}")
    if target.is_file():
        raise UserError(f"{target}: its hash is not that of {name} as published (damaged, or edited); move it away and fetch again")
    download(source.url, target, source.sha256, timeout)
    return target


def download(url: str, target: Path, digest: str, timeout: float = 30.0) -> None:
    """Download to a temporary name, check the hash, and only then give the file its name.

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
        if (actual := sha256(part)) != digest:
            raise UserError(f"{url}: SHA-256 is {actual[:12]}…, expected {digest[:12]}…: the file was changed or damaged; nothing was kept")
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
