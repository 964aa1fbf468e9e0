"""The end of a run with `--push_to_hub`: its best weights become a repository, or what would is shown."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from .arguments import ZooTrainingArguments

_SHOWS_DATA = ("worst_misses.png",)  # validation images: whether they may be shown to all is not ours to say


def publish_best(folder: str | Path, args: ZooTrainingArguments) -> None:
    """Push a folder of weights, code, processor, scores and card as `args` say, or list its files.

    Args:
        folder: complete, as a trainer leaves `best/`; images of the validation set stay here.
        args: with `push_to_hub` or `push_dry_run`; without either nothing happens.

    Raises:
        PublishError: the Hub refuses; the message says why.
    """
    from ..hub.push import push
    from ..hub.repository import PublishError, files_in

    folder, repo = Path(folder), args.hub_model_id or ""
    if not (args.push_to_hub or args.push_dry_run):
        return
    with TemporaryDirectory() as scratch:
        outgoing = Path(scratch) / repo.rpartition("/")[2]
        shutil.copytree(folder, outgoing, ignore=shutil.ignore_patterns(*_SHOWS_DATA))
        if args.push_dry_run:
            names = files_in(outgoing)
            total = sum((outgoing / name).stat().st_size for name in names)
            print(f"--push_to_hub would make {repo} of these {len(names)} files, {total / 1e6:.1f} MB:")
            for name in names:
                print(f"  {(outgoing / name).stat().st_size:>12,}  {name}")
            return
        try:
            pushed = push(outgoing, repo, "model", private=bool(args.hub_private_repo))
        except PublishError as error:
            again = f"The weights are in {folder}; try again with: stmine publish push {folder} --repo {repo}"
            raise PublishError(f"{error} {again}") from error
        print(f"Pushed {len(pushed.plan.changes)} files: {pushed.url}")
