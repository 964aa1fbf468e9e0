"""The type of a repository as the Hub defines them (model, dataset, space), found from its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..cards.files import CARD
from ..documents import DocumentError, parse_yaml, read_text
from .repository import PublishError

RepoType = Literal["model", "dataset", "space"]
# Keys of a card's header that the Hub uses for one type only.
_KEYS: dict[RepoType, set[str]] = {
    "space": {"sdk", "app_file", "sdk_version"},
    "dataset": {"task_categories", "size_categories", "pretty_name", "configs", "dataset_info"},
    "model": {"library_name", "pipeline_tag", "base_model", "model-index"},
}


def repo_type_of(folder: Path) -> RepoType:
    """The type of the repository in a folder.

    Raises:
        PublishError: no card, or none of the keys by which the types differ.
    """
    keys = header_of(folder).keys()
    for repo_type, own in _KEYS.items():
        if own & keys:
            return repo_type
    raise PublishError(
        f"{folder / CARD}: its header does not say what the folder is. Expected sdk (a Space), task_categories or "
        "pretty_name (a data set), library_name or pipeline_tag (a model)."
    )


def header_of(folder: Path) -> dict[str, Any]:
    """The metadata of a folder's card.

    Raises:
        PublishError: no card, or its header is not a YAML mapping within the bounds of `documents`.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    if not (folder / CARD).is_file():
        raise PublishError(f"{folder}: expected a repository with its card, found no {CARD}.")
    block = REGEX_YAML_BLOCK.search(read_text(folder / CARD))
    try:
        header = parse_yaml(block.group(2), str(folder / CARD)) if block else None
    except DocumentError as error:
        raise PublishError(f"{folder / CARD}: its header is no YAML: {error}") from error
    if not isinstance(header, dict):
        raise PublishError(f"{folder / CARD}: expected a header between lines of ---, found none.")
    return header
