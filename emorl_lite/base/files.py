"""Files that are whole or not there: one way to write them, whatever happens meanwhile, and one to read each kind of them back.

Every result of this package is written by `write_via`: beside its place under a name of its own, to the disk, then moved there in one step.
A reader finds the old file or the new one; who is stopped, or finds the disk full, leaves the old one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.shown_text import as_written, csv_text

UNFINISHED_FILES = ".emorl-*.tmp"
"""Names of files that are being written. One that stays belonged to a process that was killed."""


# -- writing


@contextmanager
def told(path: Path, what: str = "cannot write there; what was there is as it was") -> Iterator[None]:
    """Inside, an error of the file system becomes a UserError of one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: {what} ({getattr(error, 'strerror', None) or one_line(error, 200)})") from error
    except ValueError as error:
        if "null byte" not in str(error) and "null character" not in str(error):
            raise
        raise UserError(f"{str(path)!r}: no name of a file ({error})") from error


def write_via(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` make a file, and put it in the place of `path` in one step. Folders are made as needed.

    The file has the permissions that this process gives new files (umask), so that a group can share runs. Raises UserError, and leaves
    everything as it was, if it cannot be written (disk full, read-only, quota, name too long), or if the path is a folder or a device.
    """
    path = Path(path)
    with told(path):
        target = Path(os.path.realpath(path))  # a link stays one
        if target.exists() and not target.is_file():
            raise UserError(f"{path}: {'a folder' if target.is_dir() else 'a device'}, expected a place for a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(UNFINISHED_FILES.replace("*", f"{os.getpid()}-{secrets.token_hex(4)}"))
        try:
            temporary.open("xb").close()
            permissions = temporary.stat().st_mode & 0o777
            write(temporary)
            if temporary.stat().st_mode & 0o777 != permissions:  # the writer made a file of its own
                temporary.chmod(permissions)
            _to_disk(temporary)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _folder_to_disk(target.parent)


def _to_disk(file: Path) -> None:
    """Wait until a file's bytes are on the disk. Opened for writing: Windows refuses to flush what is open for reading."""
    with file.open("r+b") as stream:
        try:
            os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # some network drives cannot
                raise


def _folder_to_disk(folder: Path) -> None:
    """The same for the names in a folder, where the system knows that."""
    if os.name == "posix":
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def write_atomically(path: Path | str, text: str) -> None:
    """Write a text file, line ends as they are."""
    write_via(path, lambda file: file.write_bytes(text.encode("utf-8")))


def write_json(path: Path | str, value: Any) -> None:
    """Write plain data as JSON, a line a value."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index; `read_table` gives it back."""
    write_atomically(path, csv_text(table))


def write_whole(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as a safetensors file."""
    write_via(path, lambda file: file.write_bytes(safetensors_bytes(tensors, metadata)))


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """What a safetensors file of these holds. safetensors' own writer makes a file of another name beside it first, which would stay
    for good where a process is killed."""
    return save({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, dict(metadata or {}) or None)


def move_whole(source: Path, path: Path) -> None:
    """Put a file that another library wrote, perhaps on another disk, in the place of `path`, as `write_via` would have."""
    write_via(path, lambda file: shutil.copyfile(source, file))
    source.unlink()


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder, and give it the name `path` in one step: others find all of its files, or none.

    Raises UserError if a folder with files is there already, or if it cannot be written; then nothing is left.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(UNFINISHED_FILES.replace("*", f"{os.getpid()}-{secrets.token_hex(4)}"))
        temporary.mkdir()
        try:
            write(temporary)
            pattern = temporary / "permissions"
            pattern.touch()
            permissions = pattern.stat().st_mode & 0o777
            pattern.unlink()
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(permissions)  # safetensors makes private files
                    _to_disk(file)
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _folder_to_disk(path.parent)


def check_writable(folder: Path) -> None:
    """Make the folder. Raises UserError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / UNFINISHED_FILES.replace("*", secrets.token_hex(4))
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"folder {folder}: cannot write there ({error.strerror})") from error


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder. Only for one who has it alone (see `locks`)."""
    for file in folder.glob(UNFINISHED_FILES):
        with suppress(OSError):
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def set_aside(path: Path) -> Path:
    """Give a damaged or edited file another name, so that nothing of a user's is lost. Returns where it is now."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    with told(path, "cannot be moved out of the way"):
        path.rename(aside)
    return aside


# -- reading


def read_bytes(path: Path, what: str, advice: str = "") -> bytes:
    """What a file of this package holds. `what` it should be and what to do (`advice`) are told if it cannot be read.

    Raises UserError for a file that is not there, a folder, one that may not be read, and for an empty, a zeroed or a Git LFS file.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(_line(path, what, getattr(error, "strerror", None) or str(error), advice)) from error
    if not data.strip(b"\0"):
        raise UserError(_line(path, what, "it holds nothing but zeros" if data else "it is empty", advice))
    if data.startswith(b"version https://git-lfs"):
        raise UserError(_line(path, what, "it is a Git LFS pointer, not the file itself", "`git lfs pull` fetches it"))
    return data


def read_text(path: Path, what: str, advice: str = "") -> str:
    """`read_bytes` as UTF-8 text. Raises UserError for other bytes."""
    try:
        return read_bytes(path, what, advice).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(_line(path, what, f"byte {error.start + 1} is not UTF-8", advice)) from error


def read_json(path: Path, what: str, advice: str = "", keys: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError for anything else, and unless it has these keys."""
    text = read_text(path, what, advice)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(_line(path, what, f"cut off, or no JSON ({error})", advice)) from error
    if not isinstance(value, dict):
        raise UserError(_line(path, what, f"it holds a {type(value).__name__}, expected an object", advice))
    if missing := [key for key in keys if key not in value]:
        raise UserError(_line(path, what, f"it lacks {missing[0]!r}", advice))
    return value


def read_table(path: Path, what: str, advice: str = "", columns: Sequence[str] = ()) -> pd.DataFrame:
    """The CSV table in a file. Raises UserError for anything else, and unless it has these columns."""
    read_text(path, what, advice)
    try:
        table = as_written(pd.read_csv(path))
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise UserError(_line(path, what, f"no CSV table ({one_line(error, 200)})", advice)) from error
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(_line(path, what, f"it has no column {missing[0]!r}", advice))
    return table


def read_tensors(path: Path, what: str, advice: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file. Raises UserError for anything else."""
    if path.is_file() and path.stat().st_size < 1024:
        read_bytes(path, what, advice)  # an empty one, or a pointer
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(_line(path, what, f"cut off, or no safetensors file ({one_line(error, 200)})", advice)) from error


def _line(path: Path, what: str, problem: str, advice: str) -> str:
    return f"{path}: cannot be read as {what}: {problem}{'; ' if advice else ''}{advice}".replace("\n", " ")


# -- tensors and their state in one file


def save_state(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """One safetensors file with the tensors, the JSON state and a checksum of both in its header: one file, so one atomic replacement."""
    text = json.dumps(state)
    plain = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    write_whole(path, plain, {"state": text, "checksum": _checksum(plain, text)})


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, state) of `save_state`. Raises UserError for a file that is not one, or whose checksum is another."""
    advice = "delete it to start again"
    tensors, metadata = read_tensors(path, "a checkpoint", advice)
    try:
        state = json.loads(metadata["state"])
        assert isinstance(state, dict)
    except (KeyError, ValueError, AssertionError) as error:
        raise UserError(_line(path, "a checkpoint", "it has no state", advice)) from error
    if metadata.get("checksum", _checksum(tensors, metadata["state"])) != _checksum(tensors, metadata["state"]):
        raise UserError(_line(path, "a checkpoint", "its checksum is another: it was changed, or the disk lost a part", advice))
    return tensors, state


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Of names, shapes, types and bytes."""
    hasher = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        x = tensors[name]
        hasher.update(f"{name} {x.dtype} {list(x.shape)}\n".encode())
        hasher.update(x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b"")
    return hasher.hexdigest()


# -- what tells one made thing from another


def digest(data: bytes) -> str:
    """A short SHA-256, 16 hex digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """`digest` of a file, read piece by piece. Raises UserError for a device or a pipe, which may have no end."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no regular file")
    with told(path, "cannot be read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def check_identity(
    where: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any], advice: str = "use another folder, or resume=False"
) -> None:
    """Raise UserError naming the first option in which a saved run differs from this one, and what to do about it."""
    ours = json.loads(json.dumps(ours))
    for key in [*ours, *(k for k in theirs if k not in ours)]:
        if theirs.get(key) != ours.get(key):
            raise UserError(f"{where}: made with {key} = {theirs.get(key)!r}, now {ours.get(key)!r}; {advice}")


def check_made_of(where: Path, theirs: Any, ours: Mapping[str, Any], advice: str) -> None:
    """The same for facts that later versions added: what a record does not say, it is taken to agree with."""
    theirs = theirs if isinstance(theirs, Mapping) else {}
    known = {key: value for key, value in json.loads(json.dumps(ours)).items() if key in theirs}
    check_identity(where, {key: theirs[key] for key in known}, known, advice)
