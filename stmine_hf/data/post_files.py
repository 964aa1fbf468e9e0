"""What the sets of posts share: files of posts and a folder of images in, one kind of row out.

Each set has a builder of its own beside this file (`weibo.py`, `fakeddit.py`, `posts.py`): which files it has and what
their columns mean.

Files are JSONL (or one JSON list), CSV or TSV, in UTF-8. What becomes of a row is decided here:

* Texts stay as they are, empty ones too; only what is no Unicode (half a surrogate pair) becomes U+FFFD.
* A row without an image is kept, and so is one whose image is missing or not readable: its `image` is None. Whether
  it is readable is told from its header; a file cut short further on fails when it is decoded.
* Ids that occur twice are told apart: the second row of id 7 becomes 7#2.
* A row that cannot be understood (no JSON, no text and no image, unknown label or split) is left out.

Everything of this kind is counted and told in one warning a build, with file and line of the first examples.
"""

from __future__ import annotations

import csv
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import PIL.Image
from datasets.utils import tqdm

from .captioned_images import (
    SPLIT_ALIASES,
    SPLITS,
    contents_of,
    file_of_each_split,
    named_files,
)
from .errors import BadRow, DataFolderError
from .findings import Findings, count

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")  # likeliest first
TABLES = ("*.jsonl", "*.json", "*.csv", "*.tsv")
MOST_LINES = 50  # of one quoted cell; a quotation mark without its other half must not swallow the file

Row = dict[str, Any]


@dataclass(slots=True)
class Post:
    """One post as a file has it; `place` names its row in messages.

    `label` is a name, "" where there is none. `image` is the image's name, "" where the post has none; `path` and
    `stamp` (size and time of the file) tell which file that is, where there is one.
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
class PostFilesConfig(datasets.BuilderConfig):
    """Options that every set of posts has.

    Args:
        data_dir: the folder with the files of posts (and, unless `image_dir` is given, the images), or one file.
        image_dir: the folder with the images, where it is not in `data_dir`.
        files: the file of each split, in `data_dir` or as a whole path, where the names are not the usual ones:
            `{"train": "posts.jsonl"}`.
        contents: hash of what was found in the folder, so that the cache follows the folder; set by the builder.
    """

    image_dir: str | None = None
    files: dict[str, str] | None = None
    contents: str = ""


@dataclass
class EventSplitConfig(PostFilesConfig):
    """Options of the sets whose validation split can be drawn anew.

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


class PostFiles(datasets.GeneratorBasedBuilder):
    """Base of the builders; a subclass says which set it is.

    Attributes:
        findings: what was amiss in the folder, once it was prepared or a stream of it was made.

    Raises:
        DataFolderError: at construction, when the folder does not hold the set.
    """

    VERSION = datasets.Version("1.0.0")  # part of the cache's path: raise it whenever the rows made of a folder change
    BUILDER_CONFIG_CLASS = PostFilesConfig

    findings: Findings

    TITLE: str  # in messages
    LABELS: tuple[str, ...]  # in their order, which must not depend on the order of the rows
    PATTERNS: tuple[str, ...]  # of the files' names, the first that the folder has
    EXPECTED: str  # what that comes to, for people
    IMAGE_FOLDERS: tuple[str, ...] = ("images", ".")  # in data_dir, where image_dir is not given
    SOURCE = ""
    CITATION = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._findings = Findings("row")
        known = {option.name for option in fields(self.BUILDER_CONFIG_CLASS)}
        self._settings: Any = self.BUILDER_CONFIG_CLASS(**{name: options[name] for name in known & set(options)})
        self._posts = self._read_folder()
        digest = sha256(repr([self._labels(), str(self._findings)]).encode())
        for post in self._posts:
            digest.update(repr(post).encode())
        super().__init__(*args, **{**options, "contents": digest.hexdigest()[:16]})

    def _columns(self) -> Columns:
        return Columns()

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
        name = as_text(value).strip()
        if name not in self.LABELS:
            raise BadRow(f"unknown label {name!r}, expected {' or '.join(self.LABELS)}" if name else "no label")
        return name

    def _image(self, row: Row, post_id: str, images: Images) -> tuple[str, Path | None]:
        """Name of the row's image ("" for none) and where it is."""
        value = pick(row, self._columns().image)
        if isinstance(value, list):
            value = value[0] if value else None
        name = as_text(value).strip().replace("\\", "/")
        return name, images.find(name) if name else None

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

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        self.findings = findings = self._findings.copy()
        posts = self._arrange(self._posts)
        paths = list(dict.fromkeys(post.path for post in posts if post.path))
        shown = {
            path: problem_of_image(path)
            for path in tqdm(paths, desc=f"Looking at the images of {self.TITLE}", delay=2, leave=False)
        }
        label_of = {"": -1, **{name: index for index, name in enumerate(self._labels())}}
        for post in posts:
            if problem := shown.get(post.path):
                findings.note(f"image {problem}", f"{post.place}, {post.path}")
        if findings:
            warnings.warn(f"{self.TITLE}: {count(len(posts), 'post')}; {findings}", stacklevel=2)
        generators = []
        for split in SPLITS:
            rows = [
                {
                    "post_id": post.post_id,
                    "text": post.text,
                    "image": post.path if post.path and not shown[post.path] else None,
                    "label": label_of[post.label],
                    "filename": post.image.rpartition("/")[2],
                    "group": post.group,
                }
                for post in posts
                if post.split == split
            ]
            if rows:
                # A list is a list of shards to `datasets`: a stream can then be shuffled and shared out row by row.
                kwargs = {"rows": rows if dl_manager.is_streaming else tuple(rows)}
                generators.append(datasets.SplitGenerator(name=split, gen_kwargs=kwargs))
        return generators

    def _generate_examples(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        yield from enumerate(rows)

    def _read_folder(self) -> list[Post]:
        folder, found = self._find_files()
        image_dir = self._settings.image_dir
        if image_dir is not None and not Path(image_dir).expanduser().is_dir():
            raise DataFolderError(f"{self.TITLE}: no folder {image_dir} (image_dir)")
        roots = [folder / name for name in self.IMAGE_FOLDERS]
        images = Images([Path(image_dir).expanduser().absolute()] if image_dir else roots)

        posts: list[Post] = []
        ids: dict[str, int] = {}  # how many rows came with each
        groups: list[str] = []
        for split, file in found:
            seen: dict[str, None] = {}
            for place, row in self._read_rows(file):
                seen.update(dict.fromkeys(row))
                try:
                    post, group = self._post(split, place, row, images)
                except BadRow as error:
                    self._findings.leave_out(str(error), place)
                    continue
                if (given := post.post_id) in ids:
                    self._findings.note("id seen before, made unique", f"{place}, {given}")
                    while post.post_id in ids:
                        ids[given] += 1
                        post.post_id = f"{given}#{ids[given]}"
                ids[post.post_id] = 1
                posts.append(post)
                groups.append(group)
            missing = [names for names in self._required() if seen and not seen.keys() & set(names)]
            if missing:
                raise DataFolderError(
                    f"{self.TITLE}: {file} has no column {' or '.join(missing[0])}, but {', '.join(map(str, seen))}"
                )
        for post, number in zip(posts, number_groups(groups), strict=True):
            post.group = number
        if not posts:
            why = self._findings if self._findings else "the files are empty"
            files = ", ".join(file.name for _, file in found)
            raise DataFolderError(f"{self.TITLE}: no usable row in {files} of {folder}: {why}.")
        return posts

    def _post(self, split: str, place: str, row: Row, images: Images) -> tuple[Post, str]:
        """The post of a row, and the name of its group."""
        columns = self._columns()
        if own := as_text(pick(row, columns.split)).strip():
            split = split_named(own) or ""
            if not split:
                raise BadRow(f"unknown split {own!r}, expected {', '.join(SPLITS)}")
        post_id = as_text(pick(row, columns.id)).strip() or place.replace(", line ", "-").replace(", item ", "-")
        text = as_text(pick(row, columns.text))
        image, path = self._image(row, post_id, images)
        if not image and not any(name in row for name in columns.text):
            raise BadRow(f"no {' or '.join(columns.text)} (there is: {', '.join(map(str, row)) or 'nothing'})")
        label = self._label(pick(row, columns.label))
        group = as_text(pick(row, columns.group)).strip()
        post = Post(place, split, post_id, text, label, image)
        if image and path is None:
            self._findings.note("image not found (image_dir says where to look)", f"{place}, {image}")
        elif path is not None:
            found = path.stat()
            post.path, post.stamp = str(path), (found.st_size, found.st_mtime_ns)
        return post, group

    def _read_rows(self, file: Path) -> Iterator[tuple[str, Row]]:
        return read_rows(file, self._findings)

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
        DataFolderError: names that do not tell the split, or tell it twice.
    """
    for pattern in patterns:
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
        if chosen := file_of_each_split(title, folder, files, lambda file: split_of(file.name)):
            return chosen
    return {}


class Images:
    """Finds images by name in some folders, with one look into each folder."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._listings: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        """The image `images/a.jpg` there, or `a.jpg`; else one whose suffix alone differs, such as `a.png`."""
        inside, _, bare = name.rpartition("/")
        places = [os.path.join(folder, inside) for folder in self.folders] if inside else []
        places += [str(folder) for folder in self.folders]
        for wanted in (bare, f"{os.path.splitext(bare)[0]}."):
            for place in places:
                if wanted in (listing := self._listing(place)):
                    return Path(place, listing[wanted])
        return None

    def find_by_id(self, post_id: str) -> Path | None:
        """The image whose name is the id and a suffix."""
        for folder in self.folders:
            if name := self._listing(str(folder)).get(f"{post_id}."):
                return Path(folder, name)
        return None

    def _listing(self, folder: str) -> dict[str, str]:
        """File names by themselves and, of images, by the name up to the dot of the suffix."""
        if folder not in self._listings:
            try:
                names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
            except (OSError, ValueError):  # ValueError: a NUL in the name
                names = []
            ranked = sorted((SUFFIXES.index(s), n) for n in names if (s := os.path.splitext(n)[1].lower()) in SUFFIXES)
            stems = {os.path.splitext(name)[0] + ".": name for _, name in reversed(ranked)}
            self._listings[folder] = {**stems, **{name: name for name in names}}
        return self._listings[folder]


def problem_of_image(file: str | BinaryIO) -> str:
    """Why a file is no image that can be opened, told from its header; "" where it can."""
    try:
        if isinstance(file, str):
            file.encode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is none the worse
            PIL.Image.open(file).close()
        return ""
    except PIL.UnidentifiedImageError:
        return "unreadable (no known format)"
    except Exception as error:  # damaged files make Pillow's readers raise about anything
        return f"unreadable ({type(error).__name__})"


def number_groups(names: Sequence[str]) -> list[int]:
    """Numbers of named groups: the names where all are numbers, else by first appearance; -1 for ""."""
    if all(re.fullmatch(r"[0-9]{1,18}", name) for name in names if name):
        return [int(name) if name else -1 for name in names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name))}
    return [numbers.get(name, -1) for name in names]


def sorted_names(names: Iterable[str]) -> list[str]:
    """Names of labels in an order that does not depend on that of the rows: numbers by value, then the others."""
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def pick(row: Row, names: Sequence[str]) -> Any:
    """The row's value under the first of the names that it has; None where it has none of them."""
    return next((row[name] for name in names if name in row), None)


def as_text(value: Any) -> str:
    """A cell as text that can be stored: "" for None, halves of surrogate pairs replaced.

    Raises:
        BadRow: the cell holds a list or an object.
    """
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        raise BadRow(f"a {type(value).__name__} where a text was expected")
    text = value if isinstance(value, str) else str(value)
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_named(name: str) -> str | None:
    """The split that a word stands for."""
    split = {**SPLIT_ALIASES, "validate": "val"}.get(name.lower(), name.lower())
    return split if split in SPLITS else None


def split_of(filename: str) -> str | None:
    """The split that a file's name tells: `val` for text_validate.tsv; None where no word of it does."""
    words = re.findall(r"[a-z]+", filename.rpartition(".")[0].lower())
    return next((split for word in words if (split := split_named(word))), None)


def read_rows(file: Path, findings: Findings, encoding: str = "utf-8") -> Iterator[tuple[str, Row]]:
    """Rows of a JSONL, JSON, CSV or TSV file, each with its place; what cannot be read is noted."""
    try:
        lines = read_lines(file, findings, encoding)
        if file.suffix.lower() in (".csv", ".tsv"):
            yield from read_table(file, lines, findings)
        else:
            yield from read_json_rows(file, lines, findings)
    except (OSError, UnicodeError, LookupError) as error:
        raise DataFolderError(f"{file}: cannot be read as {encoding} ({error})") from None


def read_lines(file: Path, findings: Findings, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; bytes of another encoding are replaced and noted."""
    number = foreign = 0
    with file.open(encoding=encoding, errors="surrogateescape") as opened:
        for number, line in enumerate(opened, start=1):
            if number == 1:
                line = line.removeprefix("\ufeff")
            if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
                line = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                findings.note(f"bytes that are not {encoding}, replaced", f"{file.name}, line {number}")
                foreign += 1
            yield number, line
    if foreign > max(number / 2, 3):
        raise DataFolderError(
            f"{file}: {foreign:,} of {number:,} lines are not {encoding}. Save the file as UTF-8, or load it as the "
            'set posts with the option encoding, such as encoding="gb18030"'
        )


def read_json_rows(file: Path, lines: Iterator[tuple[int, str]], findings: Findings) -> Iterator[tuple[str, Row]]:
    """Objects, one a line; or the items of one list."""
    for number, line in lines:
        if not line.strip():
            continue
        place = f"{file.name}, line {number}"
        if number == 1 and line.lstrip().startswith("["):
            try:
                items = json.loads(line + "".join(line for _, line in lines))
            except (ValueError, RecursionError) as error:
                raise DataFolderError(f"{file} is not JSON ({error}). Was it cut short? Get it again.") from None
            for index, item in enumerate(items):
                if isinstance(item, dict):
                    yield f"{file.name}, item {index}", item
                else:
                    findings.leave_out("not an object", f"{file.name}, item {index}")
            return
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            findings.leave_out("not JSON", place)
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            findings.leave_out("not an object", place)


def read_table(file: Path, lines: Iterator[tuple[int, str]], findings: Findings) -> Iterator[tuple[str, Row]]:
    """Rows of a table whose first line names the columns. A row of another number of cells is left out."""
    records = read_records(lines, "\t" if file.suffix.lower() == ".tsv" else None)
    _, names = next(records, (0, []))
    names = [name.strip() for name in names]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataFolderError(f"{file}, line 1: column {twice[0]!r} occurs twice")
    for number, cells in records:
        place = f"{file.name}, line {number}"
        if len(cells) == len(names):
            yield place, dict(zip(names, cells, strict=True))
        else:
            findings.leave_out(f"{len(cells)} cells instead of {len(names)}", place)


def read_records(lines: Iterator[tuple[int, str]], delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """Cells of each record, with the number of its first line.

    A quoted cell may hold line breaks. A record that cannot be read so (a lone quotation mark, as in files written
    without quoting) is split at its delimiters as it stands.
    """
    waiting: list[tuple[int, str]] = []
    width = 0
    limit = csv.field_size_limit(2**31 - 1)
    try:
        while (first := waiting.pop(0) if waiting else next(lines, None)) is not None:
            number, record = first
            if not record.strip("\r\n"):
                continue
            if delimiter is None:  # the header tells
                delimiter = max(",;\t", key=record.count)
            taken: list[tuple[int, str]] = []
            cells = parse_record(record, delimiter)
            while cells is None and len(taken) < MOST_LINES:
                following = waiting.pop(0) if waiting else next(lines, None)
                if following is None:
                    break
                taken.append(following)
                cells = parse_record(record + "".join(line for _, line in taken), delimiter)
            if not cells or (taken and len(cells) != width):
                waiting = taken + waiting
                cells = record.rstrip("\r\n").split(delimiter)
            width = width or len(cells)
            yield number, cells
    finally:
        csv.field_size_limit(limit)


def parse_record(record: str, delimiter: str) -> list[str] | None:
    """Cells of a record; [] where it is malformed; None where a quoted cell goes on beyond its end."""
    try:
        (cells,) = csv.reader([record], delimiter=delimiter, strict=True)
        return cells
    except (csv.Error, ValueError) as error:
        return None if "unexpected end" in str(error) else []
