"""`stmine publish build`: build the folder of a Hub repository from a run, a model, a data set or a Space."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..cards.dataset import data_card, described_sets
from ..cards.files import MANIFEST, files_in
from ..loading import resolve, shipped_names
from ..methods import METHODS
from .assembly import assembled
from .merging import method_of_adapter
from .model_files import method_of
from .model_repository import ModelRepository
from .repository import PublishError, read_manifest
from .space_repository import build_space, is_space

if TYPE_CHECKING:
    from rich.table import Table

ADAPTER = "adapter_config.json"


def build(
    source: str | Path,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    compare: Mapping[str, str | Path] | None = None,
    license: str | None = None,
    repo: str | None = None,
    progress: bool = True,
) -> list[Table]:
    """Assemble the folder of a repository: weights, code, card, scores, license, requirements, list of files.

    Args:
        source: one of
            * a folder built before, or the name of one that a checkout of this project carries: its weights and
              figures with the present code and card;
            * a training run: its best model, an adapter merged into its base, measured if `data_dir` is given;
            * a folder that the Auto classes load, such as `stmine convert` writes;
            * the name of a method: its network as released, without the weights, which are their authors';
            * the folder of a Space, such as hub_cards/space: with this package beside its app;
            * the name of a data set, such as "rsicd": its card, without the data, which are their authors'.
        out: the folder to write; its name is the repository's. Of what is there, files of an earlier build are
            replaced once the new ones are whole, and all others stay: it may be a clone of the Hub's repository.
        data_dir: folder of the data set that a run was trained on.
        compare: of a run; see `ModelRepository.from_run`.
        license: of the weights; see `ModelRepository.rebuild`.
        repo: id on the Hub that the card names, such as "my-name/my-detector"; None: that of the present card, else
            the name of `out`.
        progress: show a bar while measuring.

    Returns:
        The measured tables of a run, to print.

    Raises:
        StmineError: none of these, a file in the way that no build has written, and what the kinds of source refuse.
    """
    out = Path(out).absolute()
    if source in described_sets():
        with assembled(out) as folder:
            data_card(str(source)).write(folder)
        return []
    if source in METHODS:
        with assembled(out) as folder:
            METHODS[str(source)].repository_class(folder, repo).from_release()
        return []
    source = _find(source)
    run = _run_of(source)
    if run is None:
        _require_whole_model(source)
        if data_dir or compare:
            raise PublishError(f"{source}: only a training run is measured; its folder has best/ and config.yaml.")
    if is_space(source):
        if out == source:
            raise PublishError(f"{source}: a Space is built into another folder: name one with --out.")
        with assembled(out, [source]) as folder:
            build_space(source, folder)
        return []
    with assembled(out, [] if out == source else [source]) as folder:
        if run is not None:
            repository = repository_at(run / "best", folder, repo)
            return repository.from_run(run, data_dir=data_dir, compare=compare, license=license, progress=progress)
        if not (source / MANIFEST).is_file():
            repository_at(source, folder, repo).from_model(source, license)
            return []
        for name in read_manifest(source).keys() & {*files_in(source)}:
            if not name.endswith(".py") and not (source / name).is_symlink():  # the code comes from this package
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, folder / name)
        repository_at(source, folder, repo).rebuild(license)
    return []


def repository_at(model: Path, folder: Path | None = None, repo: str | None = None) -> ModelRepository:
    """The repository in `folder` (default: `model` itself) of a model in the folder `model`.

    Raises:
        PublishError: no model of this project's methods.
    """
    adapted = (model / ADAPTER).is_file()
    method = method_of_adapter(str(model)) if adapted else METHODS[method_of(model)]
    return method.repository_class(folder or model, repo)


def _find(source: str | Path) -> Path:
    name = str(source)
    path = Path(resolve(name) if name in shipped_names() else name)
    if path.is_dir():
        return path.absolute()
    raise PublishError(
        f"{source}: no such folder. Expected a training run, a folder with a model, or a folder built before."
    )


def _run_of(source: Path) -> Path | None:
    """The training run that a folder is, or whose `best/` it is."""
    for run in (source, source.parent):
        best = run / "best"
        whole = any((best / name).is_file() for name in ("config.json", ADAPTER))
        if whole and (run / "config.yaml").is_file() and source in (run, best):
            return run
    return None


def _require_whole_model(model: Path) -> None:
    """Raises PublishError for an adapter, whose base is not in the folder."""
    if (model / ADAPTER).is_file():
        raise PublishError(
            f"{model} is an adapter, not a whole model. Merge it into its base first: "
            f"stmine merge {model} --out MERGED; then: stmine publish build MERGED --out REPOSITORY. Of a training "
            "run give its folder, with best/ and config.yaml: its adapter is merged, and its card has the recipe."
        )
