"""Base of the sets of posts: reads files of posts and a folder of images into one form of row.

Each set has a builder of its own beside this file (`weibo.py`, `fakeddit.py`, `posts.py`): which files it has and what
their columns mean.

Files are tables, see `tables`. Rows are treated the same in training and in `stmine classify`:

* Texts stay as they are, empty ones too; only what is not Unicode (half a surrogate pair) becomes U+FFFD.
* A row without an image is kept, and so is one whose image is missing or not readable: its `image` is None. Whether
  it is readable is decided by its header; a file cut short further on fails when it is decoded.
* Ids that occur twice are made unique: the second row of id 7 becomes 7#2.
* A row that cannot be understood (no JSON, no text and no image, unknown label or split) is skipped.

All of this is counted and reported in one warning per build, with file and line of the first examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import datasets
from datasets.utils import tqdm

from ..images import ImageError, read_header
from ..printing import counted
from .cells import alike_names, name_of, text_of
from .errors import BadRow, DataFolderError
from .findings import ALIKE, Findings
from .folder_builder import (
    SPLITS,
    FolderBuilder,
    FolderConfig,
    Row,
    contents_of,
    file_of_each_split,
    image_folder,
    named_files,
    split_named,
    split_of,
    visible,
)
from .names import ImageFiles, Wanted, stamp_of, tidy
from .post_cells import SEEN_BEFORE, UniqueIds, image_of
from .tables import TABLES, pick, read_rows, recased


@dataclass(slots=True)
class Post:
    """One post as a file has it; `place` names its row in messages.

    `label` is a name, "" where there is none. `image` is the image's name, "" where the post has none; `path` and
    `stamp` (size and time of the file) identify the file, if there is one.
    """

    place: str
    split: str
    post_id: str
    text: str
    label: str
    image: str = ""
    group: int = -1
    path: str = ""
    stamp: tuple[int, int] = (0, 0)


def row_features(labels: Sequence[str]) -> datasets.Features:
    """The row that every set of posts yields."""
    return datasets.Features(
        {
            "post_id": datasets.Value("string"),  # unique in the set
            "text": datasets.Value("string"),
            "image": datasets.Image(),  # None where there is none
            "label": datasets.ClassLabel(names=list(labels)),  # -1 = unknown
            "filename": datasets.Value("string"),  # of the image, "" where the post names none
            "group": datasets.Value("int64"),  # rows of one event, image, ...; -1 = unknown
        }
    )


@dataclass(kw_only=True)
class Columns:
    """Under which names a set's files have what a post consists of; of several names the first that a row has."""

    text: tuple[str, ...] = ("text",)
    label: tuple[str, ...] = ("label",)
    image: tuple[str, ...] = ("image", "img")
    id: tuple[str, ...] = ("id",)
    group: tuple[str, ...] = ("group",)
    split: tuple[str, ...] = ("split",)  # where a row says it, its file's name does not count


@dataclass
class PostFilesConfig(FolderConfig):
    """Options that every set of posts has, besides those of `FolderConfig`; `data_dir` may also be one file.

    Args:
        files: the file of each split, in `data_dir` or as a whole path, where the names are not the usual ones:
            `{"train": "posts.jsonl"}`.
    """

    files: dict[str, str] | None = None


@dataclass
class EventSplitConfig(PostFilesConfig):
    """Options of the sets whose validation split can be drawn again.

    Args:
        validation: "released" splits as the files say. "events" pools train and val and holds out whole groups
            (events, images, ...), so that validation shares none with training. The test split is never touched.
        validation_share: share of the pool that "events" holds out, in (0, 1).
        validation_seed: which groups it holds out.
    """

    validation: str = "released"
    validation_share: float = 0.1
    validation_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation not in ("released", "events"):
            raise DataFolderError(f"validation has to be released or events, got {self.validation!r}")
        if not 0 < self.validation_share < 1:
            raise DataFolderError(f"validation_share has to lie between 0 and 1, got {self.validation_share}")


class PostFiles(FolderBuilder):
    """Base of the builders; a subclass says which set it is."""

    BUILDER_CONFIG_CLASS = PostFilesConfig
    ROW = "row"

    LABELS: tuple[str, ...]  # in their order, which must not depend on the order of the rows
    PATTERNS: tuple[str, ...]  # of the files' names, the first that the folder has
    EXPECTED: str  # the same in words, for messages
    IMAGE_FOLDERS: tuple[str, ...] = ("images", ".")  # in data_dir, where image_dir is not given
    SOURCE = ""
    CITATION = ""

    def _columns(self) -> Columns:
        return Columns()

    @cached_property
    def _names_of_columns(self) -> Columns:
        return self._columns()

    def _required(self) -> list[tuple[str, ...]]:
        """The columns that a file has to have, each by one of its names."""
        return [self._columns().text, self._columns().label]

    def _labels(self) -> Sequence[str]:
        """The names of the labels, in an order that does not depend on that of the rows."""
        return self.LABELS

    def _label(self, value: Any) -> str:
        """The name of a row's label; the value is None or "" where the row has none.

        Raises:
            BadRow: there is no such label.
        """
        name = name_of(value)
        if name not in self.LABELS:
            raise BadRow(f"unknown label {name!r}, expected {' or '.join(self.LABELS)}" if name else "no label")
        return name

    def _image(self, row: Row, post: Post) -> Wanted | None:
        """The row's image, None where it names none."""
        name = image_of(pick(row, self._names_of_columns.image), post.place)
        return Wanted(name, post.place) if name else None

    def _arrange(self, posts: list[Post]) -> list[Post]:
        """The posts with their final splits and groups."""
        return posts

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=f"{self.TITLE}: posts of text and image, {' / '.join(self._labels())}.",
            features=row_features(self._labels()),
            homepage=self.SOURCE,
            citation=self.CITATION,
        )

    def _fingerprint(self) -> list:
        return [list(self._labels())]

    def _split_rows(self, findings: Findings) -> tuple[str, dict[str, list[Row]]]:
        posts = self._arrange(self._records)
        paths = list(dict.fromkeys(post.path for post in posts if post.path))
        problems = {
            path: problem_of_image(path)
            for path in tqdm(paths, desc=f"Looking at the images of {self.TITLE}", delay=2, leave=False)
        }
        label_of = {"": -1, **{name: index for index, name in enumerate(self._labels())}}
        for post in posts:
            if problem := problems.get(post.path):
                findings.note(f"image {problem}", f"{post.place}, {post.path}")
        for alike in alike_names(self._labels()):
            findings.note(ALIKE, alike)
        rows_of: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for post in posts:
            row = {
                "post_id": post.post_id,
                "text": post.text,
                "image": post.path if post.path and not problems[post.path] else None,
                "label": label_of[post.label],
                "filename": tidy(post.image).rpartition("/")[2],
                "group": post.group,
            }
            rows_of[post.split].append(row)
        return f"{self.TITLE}: {counted(len(posts), 'post')}", rows_of

    def _read_folder(self) -> list[Post]:
        folder, found = self._find_files()
        image_dir = image_folder(self.TITLE, self._settings.image_dir)
        posts: list[Post] = []
        wanted: list[Wanted] = []
        ids = UniqueIds()
        groups: list[str] = []
        looked_for = frozenset(name for names in vars(self._names_of_columns).values() for name in names)
        for split, file in found:
            seen: dict[str, None] = {}
            for place, row in self._read_rows(file):
                row = recased(row, looked_for)
                if not row.keys() <= seen.keys():
                    seen.update(dict.fromkeys(row))
                try:
                    post, group = self._post(split, place, row)
                    image = self._image(row, post)
                    if image is None and not any(name in row for name in self._names_of_columns.text):
                        names = " or ".join(self._columns().text)
                        raise BadRow(f"no {names} (there is: {', '.join(map(str, row)) or 'nothing'})")
                except BadRow as error:
                    self._findings.skip(str(error), place)
                    continue
                given, post.post_id = post.post_id, ids.take(post.post_id)
                if post.post_id != given:
                    self._findings.note(SEEN_BEFORE, f"{place}, {given}")
                posts.append(post)
                wanted.append(image or Wanted(""))
                groups.append(group)
            missing = [names for names in self._required() if seen and not seen.keys() & set(names)]
            if missing:
                raise DataFolderError(
                    f"{self.TITLE}: {file} has no column {' or '.join(missing[0])}, but {', '.join(map(str, seen))}"
                )
        roots = [image_dir] if image_dir else [folder / name for name in self.IMAGE_FOLDERS]
        images = ImageFiles(roots, stands_for="images" if image_dir else "")
        for post, image, path in zip(posts, wanted, images.find(wanted, self._findings), strict=True):
            self._place(post, image, path)
        for post, number in zip(posts, number_groups(groups), strict=True):
            post.group = number
        if not posts:
            why = self._findings if self._findings else "the files are empty"
            files = ", ".join(file.name for _, file in found)
            raise DataFolderError(f"{self.TITLE}: no usable row in {files} of {folder}: {why}.")
        return posts

    def _place(self, post: Post, image: Wanted, path: str | None) -> None:
        """Note where the image of a post is, or that it is not there."""
        post.image = image.name
        if path is not None:
            post.path, post.stamp = path, stamp_of(path)
        elif image.name:
            self._findings.note("image not found (image_dir says where to look)", f"{post.place}, {image.name}")

    def _post(self, split: str, place: str, row: Row) -> tuple[Post, str]:
        """The post of a row, and the name of its group."""
        columns = self._names_of_columns
        if own := name_of(pick(row, columns.split)):
            split = split_named(own) or ""
            if not split:
                raise BadRow(f"unknown split {own!r}, expected {', '.join(SPLITS)}")
        post_id = name_of(pick(row, columns.id)) or place.replace(", line ", "-").replace(", item ", "-")
        text = text_of(pick(row, columns.text))
        label = self._label(pick(row, columns.label))
        return Post(place, split, post_id, text, label), name_of(pick(row, columns.group))

    def _read_rows(self, file: Path) -> Iterator[tuple[str, Row]]:
        return read_rows(file, self._findings, self._settings.encoding)

    def _find_files(self) -> tuple[Path, list[tuple[str, Path]]]:
        """The set's folder, and its files with their splits."""
        settings, get = self._settings, f" Get it from {self.SOURCE}." if self.SOURCE else ""
        if settings.data_dir is None:
            raise DataFolderError(f"{self.TITLE}: give its folder as data_dir. Expected there: {self.EXPECTED}.{get}")
        folder = Path(settings.data_dir).expanduser().absolute()
        if folder.is_file():
            return folder.parent, [(split_of(folder.name) or "train", folder)]
        if not folder.is_dir():
            raise DataFolderError(f"{self.TITLE}: no folder {folder}. Expected: {self.EXPECTED}.{get}")
        if settings.files is not None:
            return folder, [*named_files(self.TITLE, folder, settings.files, "posts.jsonl").items()]
        if chosen := find_tables(self.TITLE, folder, self.PATTERNS):
            return folder, [*chosen.items()]
        raise DataFolderError(f"{self.TITLE}: expected {self.EXPECTED} in {folder}, found {contents_of(folder)}.{get}")


def find_tables(title: str, folder: Path, patterns: Sequence[str] = TABLES) -> dict[str, Path]:
    """The file of each split: of the first pattern that the folder has files of; {} where it has none.

    Raises:
        DataFolderError: names that do not state the split, or state it twice.
    """
    for pattern in patterns:
        files = [file for file in visible(folder.glob(pattern)) if file.is_file()]
        if chosen := file_of_each_split(title, folder, files, lambda file: split_of(file.name)):
            return chosen
    return {}


def problem_of_image(file: str | BinaryIO) -> str:
    """Why a file cannot be opened as an image, by its header; "" if it can."""
    try:
        if isinstance(file, str):
            file.encode()
        read_header(file)
        return ""
    except UnicodeEncodeError:
        return "unreadable (UnicodeEncodeError)"
    except ImageError as error:
        return f"unreadable ({str(error).partition(' (')[0]})"  # without what differs from file to file


def number_groups(names: Sequence[str]) -> list[int]:
    """Numbers of named groups: the names where all are numbers, else by first appearance; -1 for ""."""
    if all(re.fullmatch(r"[0-9]{1,18}", name) for name in names if name):
        return [int(name) if name else -1 for name in names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name))}
    return [numbers.get(name, -1) for name in names]


def sorted_names(names: Iterable[str]) -> list[str]:
    """Names of labels in an order that does not depend on that of the rows: numbers by value, then the others."""

    def place(name: str) -> tuple[bool, int, str, str]:
        digits = name.lstrip("0") if name.isascii() and name.isdecimal() else None  # of any length
        return digits is None, len(digits or ""), digits or "", name

    return sorted(names, key=place)
