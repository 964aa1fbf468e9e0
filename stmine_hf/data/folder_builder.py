"""Base of the builders that read a folder: the cache follows its content and keeps the findings."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets

from .errors import DataFolderError
from .findings import FILE, Findings

SPLITS = ("train", "val", "test")
SPLIT_ALIASES = {"restval": "train", "valid": "val", "validation": "val", "dev": "val"}

Row = dict[str, Any]


@dataclass
class FolderConfig(datasets.BuilderConfig):
    """Options of every set that is read from a folder.

    Args:
        data_dir: the folder with the annotations (and, unless `image_dir` is given, the images).
        image_dir: the folder with the images, where it is not in `data_dir`.
        encoding: of files of text that are neither UTF-8 nor say what they are, such as "gb18030".
        contents: hash of what was found in the folder, so that the cache follows the folder; set by the builder.
    """

    image_dir: str | None = None
    encoding: str | None = None
    contents: str = ""


class FolderBuilder(datasets.GeneratorBasedBuilder):
    """Base of the builders; those of a kind of rows say what becomes of records, those of a set how files are read.

    Attributes:
        findings: what was wrong with the folder, once it was prepared (or found in the cache) or is streamed.

    Raises:
        DataFolderError: at construction, when the folder does not hold the set; at preparation, when nothing is left.
    """

    VERSION = datasets.Version("1.1.0")  # part of the cache's path: raise it whenever the rows made of a folder change
    BUILDER_CONFIG_CLASS = FolderConfig

    TITLE: str  # in messages
    ROW = "image"  # what a row is

    def __init__(self, *args: Any, **options: Any) -> None:
        self.findings = self._findings = Findings(self.ROW)
        known = {option.name for option in fields(self.BUILDER_CONFIG_CLASS)}
        self._settings: Any = self.BUILDER_CONFIG_CLASS(**{name: options[name] for name in known & set(options)})
        self._records = self._read_folder()
        digest = sha256(repr([*self._fingerprint(), self._findings.listed()]).encode())
        for record in self._records:
            digest.update(repr(record).encode("utf-8", "surrogatepass"))
        super().__init__(*args, **{**options, "contents": digest.hexdigest()[:16]})

    def _read_folder(self) -> list:
        """The records of all splits; notes what it skips."""
        raise NotImplementedError

    def _fingerprint(self) -> list:
        """What rows depend on besides the records."""
        return []

    def _split_rows(self, findings: Findings) -> tuple[str, dict[str, list[Row]]]:
        """The set and its size in words, and the rows of each split."""
        raise NotImplementedError

    def download_and_prepare(self, *args: Any, **options: Any) -> None:
        """As of `datasets`; also reports what is wrong with the folder, shorter if the table was in the cache."""
        self._is_fresh = False
        super().download_and_prepare(*args, **options)
        if not self._is_fresh:
            self.findings = Findings.load(Path(self._output_dir) / FILE) or self._findings
        self._report()

    def as_streaming_dataset(self, *args: Any, **options: Any) -> Any:
        """As of `datasets`; also reports what is wrong with the folder."""
        stream = super().as_streaming_dataset(*args, **options)
        self._report()
        return stream

    def _report(self) -> None:
        if self.findings:
            found = str(self.findings) if self._is_fresh else self.findings.brief()
            warnings.warn(f"{self.findings.subject or self.TITLE}; {found}", stacklevel=4)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        self._is_fresh = True
        self.findings = self._findings.copy()
        self.findings.subject, rows_of = self._split_rows(self.findings)
        if not dl_manager.is_streaming:
            self.findings.save(Path(self._output_dir) / FILE)
        # A list is a list of shards to `datasets`: a stream can then be shuffled and shared out row by row.
        form: Callable[[Iterable], Any] = list if dl_manager.is_streaming else tuple
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"rows": form(rows_of[split])})
            for split in SPLITS
            if rows_of.get(split)
        ]

    def _generate_examples(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        yield from enumerate(rows)


def image_folder(title: str, image_dir: str | None) -> Path | None:
    """The folder of the option `image_dir`, None where it is not given.

    Raises:
        DataFolderError: it is not there.
    """
    if image_dir is None:
        return None
    folder = Path(image_dir).expanduser().absolute()
    if not folder.is_dir():
        raise DataFolderError(f"{title}: no folder {image_dir} (image_dir)")
    return folder


def split_named(name: str) -> str | None:
    """The split that a word means."""
    split = {**SPLIT_ALIASES, "validate": "val"}.get(name.lower(), name.lower())
    return split if split in SPLITS else None


def split_of(filename: str) -> str | None:
    """The split in the name of a file: `val` for text_validate.tsv; None if it has none."""
    words = re.findall(r"[a-z]+", filename.rpartition(".")[0].lower())
    return next((split for word in words if (split := split_named(word))), None)


def file_of_each_split(
    title: str, folder: Path, matching: Iterable[Path], split_of: Callable[[Path], str | None]
) -> dict[str, Path]:
    """Files by the split in their names; a single file without one is train.

    Raises:
        DataFolderError: two files for one split, or several files of unknown split.
    """
    files = list(matching)
    if len(files) == 1:
        return {split_of(files[0]) or "train": files[0]}
    chosen: dict[str, Path] = {}
    for split, file in ((split, file) for file in files if (split := split_of(file))):
        if split in chosen:
            raise DataFolderError(
                f"{title}: {chosen[split].name} and {file.name} in {file.parent} are both for {split}: choose one by "
                f'the option files={{"{split}": ...}}'
            )
        chosen[split] = file
    if files and not chosen:
        raise DataFolderError(
            f"{title}: the names {', '.join(file.name for file in files[:4])} in {folder} do not state the split: "
            'give it by the option files={"train": ...}'
        )
    return {split: chosen[split] for split in SPLITS if split in chosen}


def named_files(title: str, folder: Path, files: Any, example: str) -> dict[str, Path]:
    """The files that the option `files` names, by split.

    Raises:
        DataFolderError: it is no mapping of splits to files, or a file is not there.
    """
    if not isinstance(files, Mapping) or not files or set(files) - set(SPLITS):
        raise DataFolderError(
            f"{title}: files has to say the file of each split ({', '.join(SPLITS)}), such as "
            f'{{"train": "{example}"}}; got {files!r}'
        )
    named = {split: folder / str(files[split]) for split in SPLITS if split in files}
    if missing := [str(file) for file in named.values() if not file.is_file()]:
        raise DataFolderError(f"{title}: no file {', '.join(missing)} (option files)")
    return named


def visible(files: Iterable[Path]) -> list[Path]:
    """Files by name, without hidden ones (lists of outputs, files that macOS adds to archives).

    A pipe or a device of such a name is none: reading one may never end.
    """
    return sorted(file for file in files if not file.name.startswith(".") and file.is_file())


def contents_of(folder: Path, most: int = 8) -> str:
    """The first entries of a folder, for messages."""
    found = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return f"[{', '.join(found[:most])}" + (f", and {len(found) - most} more]" if len(found) > most else "]")
