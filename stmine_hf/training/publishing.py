"""The end of a run with `--push_to_hub`: its best weights become a repository, or what would is shown."""

from __future__ import annotations

from pathlib import Path

from .arguments import ZooTrainingArguments


def publish_best(folder: str | Path, args: ZooTrainingArguments) -> None:
    """Push a folder of weights, code, processor, scores and card as `args` say, or list its files.

    Args:
        folder: complete, as a trainer leaves `best/`; images of the validation set stay here.
        args: with `push_to_hub` or `push_dry_run`; without either nothing happens.

    Raises:
        PublishError: the Hub refuses; the message says why.
    """
    from ..hub import publish_run

    if args.push_to_hub or args.push_dry_run:
        private = bool(args.hub_private_repo)
        publish_run(folder, args.hub_model_id or "", private=private, dry_run=args.push_dry_run)
