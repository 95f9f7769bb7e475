"""NumPy's .npz files of strangers, read without running anything: no pickles, no sizes that the file does not hold."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from emorl_lite.base.errors import UserError
from emorl_lite.base.failures import one_line
from emorl_lite.base.files import read_bytes

MOST_ARRAYS = 20_000
MOST_BYTES = 2 * 10**9
"""Of all arrays of a file together, unpacked."""
_VERSIONS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, what: str, advice: str = "", most_bytes: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """The arrays in a file, by name: real numbers alone. `what` it should be and what to do are told if it cannot be read.

    Raises UserError for a file that is not there or cut off, for other types than integers and floating-point numbers (Python objects
    would be run when they are read), for arrays that unpack to more than `most_bytes`, and for a header that promises another size.
    """
    if not path.is_file() or path.stat().st_size < 1024:
        read_bytes(path, what, advice)  # not there, empty, or a pointer to another place
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, what, members, most_bytes)
            return {_name(member): _read(path, archive, member) for member in members}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        ending = f"; {advice}" if advice else ""
        raise UserError(f"{path}: cannot be read as {what}: cut off, damaged, or no npz file ({one_line(error, 200)}){ending}") from error


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _check_members(path: Path, what: str, members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    """Raise UserError, before anything is unpacked, for what is no list of arrays, or more than is meant to be held."""
    names = [member.filename for member in members]
    if not members:
        raise UserError(f"{path}: cannot be read as {what}: it holds no array")
    if len(members) > MOST_ARRAYS:
        raise UserError(f"{path}: holds {len(members):,} arrays, more than the {MOST_ARRAYS:,} that are read")
    if others := [name for name in names if not name.endswith(".npy")]:
        raise UserError(f"{path}: holds {_short(others[0])}, which is no array")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{path}: holds the array {_short(twice.removesuffix('.npy'))} twice")
    if (total := sum(member.file_size for member in members)) > most_bytes:
        raise UserError(f"{path}: its arrays unpack to {total:,} bytes, more than the {most_bytes:,} that are read")


def _read(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array. Its size is checked against the file's before memory is asked for."""
    who = f"{path}: array {_short(_name(member))}"
    with archive.open(member) as file:
        shape, transposed, dtype, header = _header(file, who)
        if dtype.hasobject:
            raise UserError(f"{who} holds Python objects, which would be run when they are read: refused")
        if dtype.kind not in "iuf":
            raise UserError(f"{who} is of type {one_line(str(dtype), 60)}, expected numbers")
        count = 1
        for n in shape:  # in Python's integers, which have no largest
            count *= n
        if count * dtype.itemsize != member.file_size - header:
            raise UserError(f"{who} promises {count:,} numbers of {dtype.itemsize} bytes, and holds {member.file_size - header:,} bytes")
        data = file.read(member.file_size)
        if len(data) != count * dtype.itemsize:
            raise UserError(f"{who} is cut off: {len(data):,} of {count * dtype.itemsize:,} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if transposed else "C")


def _header(file: IO[bytes], who: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, whether columns come first, type, bytes up to the first number). Raises UserError for what is no header."""
    try:
        version = npy.read_magic(file)
        if version not in _VERSIONS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, transposed, dtype = _VERSIONS[version](file)
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise UserError(f"{who} cannot be read ({one_line(error, 200)})") from error
    if any(n < 0 for n in shape):
        raise UserError(f"{who} cannot be read (its shape is {shape})")
    return shape, transposed, dtype, file.tell()


def _short(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 120 else text[:117] + "..."
