"""Posts of your own: JSONL, JSON, CSV or TSV files with columns for text, label and image, and the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cells import name_of, shortened, whole_of
from .errors import BadRow, DataFolderError
from .event_clusters import split_by_event
from .post_files import Columns, EventSplitConfig, Post, PostFiles, sorted_names
from .tables import TABLES


@dataclass
class PostsConfig(EventSplitConfig):
    """Options besides those of `EventSplitConfig`.

    Args:
        text_column: the column with the text.
        label_column: the column with the label; empty cells are unknown labels (-1).
        image_column: the column with the image's file name; None takes `image` or `img`, where there is one.
        id_column, group_column, split_column: columns that may be there: a name for each post; what posts have in
            common (an event, an image); the split, if the file's name does not state it.
        labels: the labels in their order; None takes those of the files, sorted.
    """

    text_column: str = "text"
    label_column: str = "label"
    image_column: str | None = None
    id_column: str = "id"
    group_column: str = "group"
    split_column: str = "split"
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = self.labels
        if labels is not None and (
            isinstance(labels, str) or not labels or len(set(map(name_of, labels))) < len(labels)
        ):
            raise DataFolderError(f'posts: labels has to be a list such as ["fake", "real"], got {labels!r}')


class Posts(PostFiles):
    """Folder: one file, or `train.jsonl`, `val.jsonl`, `test.jsonl` (also .json, .csv, .tsv, .xlsx, ...); images in
    `images/` or beside the files. Of a lone file all rows are train rows, unless it has a column `split`.

    With `validation="events"`, posts without a group are grouped by their texts, see `event_clusters`.
    """

    BUILDER_CONFIG_CLASS = PostsConfig

    TITLE = "posts"
    PATTERNS = TABLES
    EXPECTED = "posts.jsonl, or train.jsonl, val.jsonl and test.jsonl (also .json, .csv, .tsv, .xlsx, .parquet)"

    def _columns(self) -> Columns:
        own = self._settings
        return Columns(
            text=(own.text_column,),
            label=(own.label_column,),
            image=(own.image_column,) if own.image_column else ("image", "img"),
            id=(own.id_column,),
            group=(own.group_column,),
            split=(own.split_column,),
        )

    def _required(self) -> list[tuple[str, ...]]:
        columns = self._columns()
        return [columns.text, columns.label, *([columns.image] if self._settings.image_column else [])]

    def _labels(self) -> list[str]:
        if self._settings.labels is not None:
            return [name_of(label) for label in self._settings.labels]
        names = {post.label for post in self._records} - {""}
        if not names:
            raise DataFolderError(
                f"{self.TITLE}: no row has a label in the column {self._settings.label_column!r}. Give the right "
                "label_column, or what the labels would be, as labels"
            )
        return sorted_names(names)

    def _label(self, value: Any) -> str:
        name, given = name_of(value), self._settings.labels
        if name and given is not None and name not in map(name_of, given):
            place = whole_of(name)
            if place is None or not 0 <= place < len(given):
                raise BadRow(f"unknown label {shortened(name)}, expected {' or '.join(map(str, given))}")
            return name_of(given[place])  # by its place among the names
        return name

    def _arrange(self, posts: list[Post]) -> list[Post]:
        settings = self._settings
        if settings.validation == "released":
            return posts
        return split_by_event(posts, settings.validation, settings.validation_share, settings.validation_seed)
