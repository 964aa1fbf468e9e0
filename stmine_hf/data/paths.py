"""Check that a path of data exists, before anything large is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import BUILDERS, DataError


def absolute(path: str | Path) -> Path:
    """The absolute path of data, which ends in their name also where they were given as ".", ".." or "~"."""
    path = Path(os.path.expanduser(path))  # that of Path fails on a user that is not there
    return path.resolve() if ".." in path.parts else path.absolute()


def require_data(path: str) -> bool:
    """Check that a path of data points to something.

    Returns:
        Whether that is a file or folder here: else it is a data set by name, or may be the id of one on the Hub.

    Raises:
        DataError: nothing is there, or nothing is in it.
    """
    place = Path(path).expanduser()
    if not place.exists():
        if path in BUILDERS or (re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", path) and not place.parent.is_dir()):
            return False
        expected = "a table, a folder of images, or a Hub id"
        if re.fullmatch(r"[\w-]+", path):
            sets = ", ".join(sorted(BUILDERS))
            raise DataError(f"unknown data set {path!r}, and no such file or folder. Expected {sets}, {expected}")
        raise DataError(f"{path}: no such file or folder. Expected {expected}")
    if place.is_dir() and not any(place.iterdir()):
        raise DataError(f"{path}: the folder is empty. Expected a table or annotations, and images")
    if place.is_file() and place.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty. Expected a table")
    return True


def require_dataset(name: str, data_dir: str | Path | None = None) -> None:
    """Check the folder of a data set by name, or a path of one's own data.

    Args:
        name: as of `load_dataset`.
        data_dir: likewise.

    Raises:
        DataError: nothing is there.
    """
    if data_dir is not None and not Path(data_dir).expanduser().exists():
        raise DataError(
            f"{data_dir}: no such folder. Expected the files of {name}; `stmine data list` says where they come from"
        )
    if data_dir is None and name not in BUILDERS:
        require_data(name)


def data_places(name: str, data_dir: str | Path | None = None, options: Mapping[str, Any] | None = None) -> list[Path]:
    """The files and folders here that rows are read from, of which no output may be one.

    Args:
        name: as of `load_dataset`.
        data_dir: likewise.
        options: likewise; those that name a folder count, such as `image_dir`.
    """
    given = [data_dir, *(value for key, value in (options or {}).items() if key.endswith("_dir"))]
    if name not in BUILDERS:
        given.append(name)
    return [place for place in map(absolute, filter(None, given)) if place.exists()]
