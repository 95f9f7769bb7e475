"""What pyproject.toml says of the package: the repository's address, and what the package needs.

An installed package has no pyproject.toml and says the same in its metadata. Standard library alone, so far as the address goes: Colab's
first cell asks before anything is installed.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from emorl_lite.base.errors import UserError
from emorl_lite.base.paths import repository_root


def address() -> str:
    """The repository's address, [project.urls] Repository: pyproject.toml is the one place that says it. Raises UserError as `project`."""
    root = repository_root()
    if root is not None:
        return str(_pyproject()["urls"]["Repository"])
    urls = dict(line.split(", ", 1) for line in _metadata().get_all("Project-URL") or [])
    return urls["Repository"]


def in_repository(what: str) -> str:
    """One clause on where to get what an installed package lacks. `what` is a plural: "the notebooks"."""
    return f"{what} come with the repository: git clone {address()}"


def project() -> dict[str, Any]:
    """pyproject.toml's [project]: urls, dependencies, optional-dependencies. Raises UserError for a package that is neither in its
    repository nor installed."""
    if repository_root() is not None:
        return _pyproject()
    from packaging.requirements import Requirement

    package_metadata = _metadata()
    needs = [Requirement(line) for line in package_metadata.get_all("Requires-Dist") or []]
    extras = {
        extra: [_plain(need) for need in needs if need.marker is not None and need.marker.evaluate({"extra": extra})]
        for extra in package_metadata.get_all("Provides-Extra") or []
    }
    plain = [str(need) for need in needs if need.marker is None]
    return {"urls": {"Repository": address()}, "dependencies": plain, "optional-dependencies": extras}


def _pyproject() -> dict[str, Any]:
    """The repository's [project]."""
    root = repository_root()
    assert root is not None
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]  # type: ignore[no-any-return]


def _metadata() -> Any:
    """The installed package's metadata."""
    try:
        return metadata("emorl_lite")
    except PackageNotFoundError as error:
        raise UserError("this copy of emorl_lite is neither in its repository nor installed: pip install it") from error


def _plain(need: Any) -> str:
    """A requirement without its marker."""
    return f"{need.name}{need.specifier}"
