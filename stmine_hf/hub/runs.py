"""The end of a training with `--push_to_hub`: push its best weights, or list the files to push."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from ..cards.files import files_in
from ..evaluation.reports import MISSES
from .push import push
from .repository import PublishError

BEST = "best"
_SHOWS_DATA = (MISSES,)  # validation images, whose terms are unknown here


def publish_run(output_dir: str | Path, repo: str, *, private: bool = False, dry_run: bool = False) -> None:
    """Push a run's weights, code, processor, scores and card, without images of its validation set.

    Args:
        output_dir: of the run, or its `best/`.
        repo: id on the Hub.
        private: make a new repository private.
        dry_run: only print the files.

    Raises:
        PublishError: no best weights, or the Hub refuses; the message says why.
    """
    folder = Path(output_dir)
    folder = folder / BEST if (folder / BEST).is_dir() else folder
    if not (folder / "README.md").is_file():
        raise PublishError(f"{output_dir}: expected a training run with {BEST}/ and a card in it, found none.")
    with TemporaryDirectory() as scratch:
        outgoing = Path(scratch) / repo.rpartition("/")[2]
        shutil.copytree(folder, outgoing, ignore=shutil.ignore_patterns(*_SHOWS_DATA))
        if dry_run:
            sizes = {name: (outgoing / name).stat().st_size for name in files_in(outgoing)}
            print(f"--push_to_hub would make {repo} of these {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB:")
            for name, size in sizes.items():
                print(f"  {size:>12,}  {name}")
            return
        try:
            pushed = push(outgoing, repo, "model", private=private)
        except PublishError as error:
            again = f"The weights are in {folder}; try again with: stmine publish push {folder} --repo {repo}"
            raise PublishError(f"{error} {again}") from error
        print(f"Pushed {len(pushed.plan.changes)} files: {pushed.url}")
