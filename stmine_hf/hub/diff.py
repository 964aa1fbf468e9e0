"""`stmine publish diff`: compare a published model's code with the present `modeling/`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..loading import resolve, shipped_names
from .model_files import code_files, method_of
from .push import hub_errors
from .repository import PublishError

State = Literal["changed", "new", "gone"]


@dataclass(frozen=True)
class FileDifference:
    """One code file that is not the same in both places.

    Attributes:
        path: its name.
        state: "changed"; "new", which is not published yet; "gone", which is published and no longer in `modeling/`.
        lines: a unified diff from the published file to the present one.
    """

    path: str
    state: State
    lines: list[str]


@dataclass(frozen=True)
class Comparison:
    """A published model's code compared with the present code.

    Attributes:
        where: the folder, or the id and commit on the Hub.
        method: whose code it is.
        same: names of the files that are equal.
        different: the others.
    """

    where: str
    method: str
    same: list[str]
    different: list[FileDifference]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diff(repository: str | Path, *, revision: str = "main") -> Comparison:
    """Compare the code files of a published model with those of `modeling/`.

    Args:
        repository: a folder, the name of one in `hub_cards/`, or an id on the Hub, of which nothing but code and
            config is fetched; offline, the Hub's cache is read.
        revision: branch, tag or commit on the Hub.

    Raises:
        PublishError: no such repository or revision, no model of this project's methods, no connection.
    """
    with _published(str(repository), revision) as (folder, where):
        method = method_of(folder)
        ours = {name: file.read_text(encoding="utf-8") for name, file in code_files(method).items()}
        theirs = {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}
    same = [name for name in sorted(ours) if ours[name] == theirs.get(name)]
    different = []
    for name in sorted({*ours, *theirs} - {*same}):
        state: State = "new" if name not in theirs else "gone" if name not in ours else "changed"
        before, after = (side.get(name, "").splitlines() for side in (theirs, ours))
        lines = difflib.unified_diff(before, after, f"{where}/{name}", f"modeling/{method}/{name}", lineterm="")
        different.append(FileDifference(name, state, list(lines)))
    return Comparison(where, method, same, different)


@contextmanager
def _published(repository: str, revision: str) -> Iterator[tuple[Path, str]]:
    """The folder with a repository's code and config, and how to call it."""
    folder = Path(resolve(repository) if repository in shipped_names() else repository)
    if folder.is_dir():
        yield folder, str(folder)
        return
    if repository.count("/") != 1:
        raise PublishError(
            f"{repository}: no such folder. Expected a folder, a name in hub_cards/, or an id on the Hub."
        )
    from huggingface_hub import snapshot_download

    with hub_errors(repository):
        snapshot = Path(snapshot_download(repository, revision=revision, allow_patterns=["*.py", "config.json"]))
    yield snapshot, f"{repository}@{snapshot.name[:8]}"
