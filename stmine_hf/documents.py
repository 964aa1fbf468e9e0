"""Read third-party JSON and YAML within bounds: of size, nesting, numbers and expanded aliases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .errors import StmineError

LARGEST = 8_000_000  # bytes of a document: settings, results, lists of files
DEEPEST = 64  # levels of lists and mappings
MOST_NODES = 200_000  # of a YAML document, with its aliases written out
LARGEST_INTEGER = 2**63
_NO_LIMIT = int(1e30)  # how tokenizers of transformers write that a text may have any length


class DocumentError(StmineError):
    """A document that is not valid JSON or YAML, or is larger than any that this package writes."""


def read_text(path: Path, *, largest: int = LARGEST) -> str:
    """The text of a file in UTF-8.

    Raises:
        DocumentError: it cannot be read, is larger than `largest` bytes, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if len(data) > largest:
        raise DocumentError(f"{path}: expected at most {largest:,} bytes, found more.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: expected text in UTF-8 ({error}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        DocumentError: no file, no JSON object, a key given twice, or a document beyond the bounds.
    """
    document = parse_json(read_text(path), str(path))
    if not isinstance(document, dict):
        raise DocumentError(f"{path}: expected a JSON object, found {type(document).__name__}.")
    return document


def parse_json(text: str, name: str) -> Any:
    """The value of a JSON text.

    Args:
        text: the document.
        name: of the document, for messages.

    Raises:
        DocumentError: no JSON, a key given twice, or a document beyond the bounds.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unique)
        _require_bounds(document)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{name}: not valid JSON ({_short(error)}).") from error
    return document


def read_yaml(path: Path) -> Any:
    """The document in a YAML file; see `parse_yaml`."""
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text, plain types only.

    Args:
        text: the document.
        name: of the document, for messages.

    Raises:
        DocumentError: no YAML, a key given twice, or a document beyond the bounds.
    """
    if len(text) > LARGEST // 8:
        raise DocumentError(f"{name}: expected YAML of at most {LARGEST // 8:,} characters, found {len(text):,}.")
    try:
        document = yaml.load(text, _BoundedLoader)  # noqa: S506  a SafeLoader with bounds
        _require_bounds(document)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise DocumentError(f"{name}: not valid YAML ({_short(error)}).") from error
    return document


class _BoundedLoader(yaml.SafeLoader):
    """Counts nodes while they are composed; an alias counts as all that it expands to."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._count, self._depth = 0, 0
        self._counts: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        before, alias = self._count, self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._counts:
            raise ValueError("an alias inside the value that it stands for")
        self._count += self._counts[id(node)] if alias else 1
        if self._count > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values")
        if not alias:
            self._counts[id(node)] = self._count - before
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(keys) > len(set(keys)):
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
        return super().construct_mapping(node, deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return document


def _require_bounds(document: Any) -> None:
    """Raises ValueError for nesting or integers beyond the bounds."""
    level = [document]
    for _ in range(DEEPEST + 1):
        following: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                following += value.values()
            elif isinstance(value, list | tuple | set):
                following += value
            elif isinstance(value, int) and abs(value) >= LARGEST_INTEGER and value != _NO_LIMIT:
                raise ValueError("an integer of more than 63 bits")
        level = following
        if not level:
            return
    raise ValueError(f"more than {DEEPEST} levels")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
