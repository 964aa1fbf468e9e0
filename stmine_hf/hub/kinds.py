"""What kind of repository a folder is: a model, a data set or a Space, told from its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from .repository import CARD, PublishError

Kind = Literal["model", "dataset", "space"]
# Keys of a card's header that the Hub knows of one kind alone.
_KEYS: dict[Kind, set[str]] = {
    "space": {"sdk", "app_file", "sdk_version"},
    "dataset": {"task_categories", "size_categories", "pretty_name", "configs", "dataset_info"},
    "model": {"library_name", "pipeline_tag", "base_model", "model-index"},
}


def kind_of(folder: Path) -> Kind:
    """The kind of repository in a folder.

    Raises:
        PublishError: no card, or one that does not tell.
    """
    keys = header_of(folder).keys()
    for kind, own in _KEYS.items():
        if own & keys:
            return kind
    raise PublishError(
        f"{folder / CARD}: its header does not tell what the folder is. Expected sdk (a Space), task_categories or "
        "pretty_name (a data set), library_name or pipeline_tag (a model)."
    )


def header_of(folder: Path) -> dict[str, Any]:
    """The metadata of a folder's card.

    Raises:
        PublishError: no card, or its header is no YAML mapping.
    """
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except OSError as error:
        raise PublishError(f"{folder}: expected a repository with its card, found no {CARD} ({error}).") from error
    block = REGEX_YAML_BLOCK.search(text)
    try:
        header = yaml.safe_load(block.group(2)) if block else None
    except yaml.YAMLError as error:
        raise PublishError(f"{folder / CARD}: its header is no YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(header, dict):
        raise PublishError(f"{folder / CARD}: expected a header between lines of ---, found none.")
    return header
