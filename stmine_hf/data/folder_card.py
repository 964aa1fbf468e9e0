"""What a data folder may list: `datasets` reads the files that its card or its state names, wherever they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..documents import parse_yaml, read_json, read_text
from .errors import DataFolderError

CARDS = ("README.md", ".huggingface.yaml")
_HEADER = re.compile(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", re.DOTALL)
_ELSEWHERE = re.compile(r"^[/\\~]|^[A-Za-z]:|::|://|(^|[/\\])\.\.([/\\]|$)")


def require_own_files(folder: Path) -> None:
    """Check that the files which the card of a data folder lists lie in that folder.

    Raises:
        DataFolderError: one lies elsewhere, or the card cannot be read.
    """
    for card in (folder / name for name in CARDS):
        if not card.exists():
            continue
        if not card.is_file():
            raise DataFolderError(f"{card}: expected a file, found something else: remove it")
        text = read_text(card)
        if card.suffix == ".md":
            header = _HEADER.match(text)
            text = header[1] if header else ""
        content = parse_yaml(text, str(card))
        configs = content.get("configs") if isinstance(content, dict) else None
        _require_inside(card, configs)


def require_own_shards(folder: Path) -> None:
    """Check that a folder of `save_to_disk` names files of its own only.

    Raises:
        DataFolderError: one lies elsewhere, or the list cannot be read.
    """
    for state in (*folder.glob("state.json"), *folder.glob("*/state.json")):
        _require_inside(state, read_json(state).get("_data_files"))


def _require_inside(place: Path, listed: Any) -> None:
    for name in _texts(listed):
        if _ELSEWHERE.search(name):
            raise DataFolderError(
                f"{place} lists {name[:200]!r}: expected files of its own folder. To read others, pass them themselves"
            )


def _texts(value: Any) -> Iterator[str]:
    """All texts in lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
