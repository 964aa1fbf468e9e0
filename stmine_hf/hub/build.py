"""`stmine publish build`: from whatever there is to the folder of a Hub repository."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..cards.data_cards import described_sets, write_data_card
from ..loading import published
from ..methods import METHODS
from .model_files import method_of
from .model_repository import ModelRepository
from .repository import MANIFEST, PublishError, files_in, read_manifest
from .space_repository import is_space, lay_out_space

if TYPE_CHECKING:
    from rich.table import Table


def build(
    source: str | Path,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    compare: Mapping[str, str | Path] | None = None,
    license: str | None = None,
    progress: bool = True,
) -> list[Table]:
    """Assemble the folder of a repository: weights, code, card, scores, license, requirements, list of files.

    Args:
        source: one of
            * a folder built before, or the name of one that a checkout of this project carries: its weights and
              figures with the code and the card of today;
            * a training run: its best model, measured if `data_dir` is given;
            * a folder that the Auto classes load, such as `stmine convert` writes;
            * the name of a method: its network as released, without the weights, which are their authors';
            * the folder of a Space, such as hub_cards/space: with this package beside its app;
            * the name of a data set, such as "rsicd": its card, without the data, which are their authors'.
        out: the folder to write; its name is the repository's. A repository that was there before is replaced, once
            the new one is whole.
        data_dir: folder of the data set that a run was trained on.
        compare: of a run; see `ModelRepository.pack`.
        license: of the weights; see `ModelRepository.refresh`.
        progress: show a bar while measuring.

    Returns:
        The measured tables of a run, to print.

    Raises:
        StmineError: none of these, files in `out` that no build has put there, and what the kinds of source refuse.
    """
    out = Path(out).absolute()
    if source in described_sets():
        write_data_card(str(source), out)
        return []
    if source in METHODS:
        with _replacing(out, None) as folder:
            METHODS[str(source)].repository_class(folder).lay_out()
        return []
    source = _find(source)
    run = _run_of(source)
    if run is None and (data_dir or compare):
        raise PublishError(f"{source}: only a training run is measured; its folder has best/ and config.yaml.")
    with _replacing(out, source) as folder:
        if is_space(source):
            if out == source:
                raise PublishError(f"{source}: a Space is built into another folder: name one with --out.")
            lay_out_space(source, folder)
            return []
        if run is not None:
            repository = repository_at(run / "best", folder)
            return repository.pack(run, data_dir=data_dir, compare=compare, license=license, progress=progress)
        repository = repository_at(source, folder)
        if (source / MANIFEST).is_file():
            for name in files_in(source):
                if not name.endswith(".py"):  # the code comes from this package
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / name, folder / name)
            repository.refresh(license)
        else:
            repository.take(source, license)
    return []


def repository_at(model: Path, folder: Path | None = None) -> ModelRepository:
    """The repository in `folder` (default: `model` itself) of a model in the folder `model`.

    Raises:
        PublishError: no model of this project's methods.
    """
    return METHODS[method_of(model)].repository_class(folder or model)


def _find(source: str | Path) -> Path:
    for path in (Path(source), Path(published(str(source)))):
        if path.is_dir():
            return path.absolute()
    raise PublishError(
        f"{source}: no such folder. Expected a training run, a folder with a model, or a folder built before."
    )


def _run_of(source: Path) -> Path | None:
    """The training run that a folder is, or whose `best/` it is."""
    for run in (source, source.parent):
        if (
            (run / "best" / "config.json").is_file()
            and (run / "config.yaml").is_file()
            and source in (run, run / "best")
        ):
            return run
    return None


@contextmanager
def _replacing(out: Path, source: Path | None) -> Iterator[Path]:
    """A new folder of the same name, which takes the place of `out` in the end: never half a repository there."""
    if out.exists() and not out.is_dir():
        raise PublishError(f"{out}: expected a folder to write to, found a file.")
    if out.is_dir() and out != source:
        strangers = sorted({*files_in(out)} - {*read_manifest(out), MANIFEST})
        if strangers:
            raise PublishError(
                f"{out}: it holds {', '.join(strangers[:3])}, which no build has put there and this one would remove. "
                "Give a new folder, or move them."
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".building-") as work:
        folder = Path(work) / out.name
        folder.mkdir()
        yield folder
        if out.is_dir():
            out.rename(Path(work) / "before")
        folder.rename(out)
