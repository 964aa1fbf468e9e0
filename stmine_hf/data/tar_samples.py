"""Tar files of WebDataset, read within bounds: `0.jpg`, `0.txt` and `0.json`, side by side, are one row.

A row has a column for each suffix (`jpg`, `txt`, `json`, also `seg.png`), `__key__` (the name before the suffix, with
its folder) and `__url__` (the file). Nothing is unpacked to disk. Images stay encoded, all else is text: fields of
JSON go by `json.caption`. A link, a device, a name that points outside of the archive, a member that is too large or
that occurs twice is ignored and named, and a truncated file yields the rows before its end: all of this is noted.

The suffix begins at the first dot of a name, as WebDataset has it, unless what stands between dots differs from sample
to sample (`photo.2020.jpg`): then it begins at the last one.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from .errors import DataFolderError
from .findings import Findings
from .folder_builder import split_of, visible
from .names import SUFFIXES, stamp_of

MOST_MEMBERS = 10_000_000  # of a tar file
MOST_FIELDS = 64  # of a sample
MOST_BYTES = 2**28  # of an image
MOST_TEXT = 2**24  # bytes of another member
KEY, URL = "__key__", "__url__"
_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass
class TarSamplesConfig(datasets.BuilderConfig):
    """Options.

    Args:
        files: of each split.
        fields: of the samples.
        from_last_dot: where suffixes begin.
        stamps: sizes and times of the files, so that the cache follows them.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    from_last_dot: bool = False
    stamps: str = ""


class TarSamples(datasets.GeneratorBasedBuilder):
    """Reads tar files whose members are known."""

    BUILDER_CONFIG_CLASS = TarSamplesConfig

    def _info(self) -> datasets.DatasetInfo:
        kinds = {name: datasets.Image() if is_image(name) else datasets.Value("string") for name in self.config.fields}
        return datasets.DatasetInfo(
            features=datasets.Features({**kinds, KEY: datasets.Value("string"), URL: datasets.Value("string")})
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": files})
            for split, files in self.config.files.items()
        ]

    def _generate_examples(self, files: list[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
        nothing, findings = dict.fromkeys(self.config.fields), Findings()
        for place, file in enumerate(files):
            for number, (key, members) in enumerate(_samples(Path(file), self.config.from_last_dot, findings)):
                row = {**nothing, KEY: key, URL: file}
                for name, content in members.items():
                    if is_image(name):
                        row[name] = {"path": f"{key}.{name}", "bytes": content}
                    elif (text := _text(content)) is not None:
                        row[name] = text
                yield datasets.builder.Key(place, number), row


def tar_files(path: Path) -> list[Path]:
    """The tar files of a source, a file or a folder."""
    if path.is_dir():
        return visible(file for file in path.rglob("*.tar*") if is_tar(file)) + visible(path.rglob("*.tgz"))
    return [path] if is_tar(path) else []


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def open_tars(path: Path, files: Sequence[Path], streaming: bool, cache_dir: str | None, findings: Findings) -> Any:
    """The splits of tar files, as `datasets` has them; ignored members are noted at every load.

    Raises:
        DataFolderError: there is no sample in them.
    """
    splits: dict[str, list[str]] = {}
    for file in files:
        inside = file.name if path.is_file() else file.relative_to(path).as_posix().replace("/", " ")
        splits.setdefault(split_of(inside) or "train", []).append(str(file.absolute()))
    suffixes = _Suffixes()
    for file in files:
        for name, content in _members(file, findings):
            suffixes.add(*_parts(name, from_last_dot=False))
            if not is_image(name) and _text(content) is None:
                findings.note("member of a tar file that is not UTF-8: ignored", f"{file.name}, {name}")
    if not suffixes.all:
        raise DataFolderError(
            f"{path}: no sample in {len(files)} tar files ({findings}). Expected 0.jpg, 0.txt, 1.jpg, 1.txt, ..."
        )
    last = suffixes.begin_at_the_last_dot
    fields = {suffix.rpartition(".")[2] for suffix in suffixes.all} if last else suffixes.all
    if last:
        findings.note("names with several dots: a sample's name ends at the last one", path.name)
    if len(fields) > MOST_FIELDS:
        raise DataFolderError(
            f"{path}: members of {len(fields):,} suffixes, expected at most {MOST_FIELDS}: 0.jpg, 0.txt, 1.jpg, ..."
        )
    builder = TarSamples(
        cache_dir=cache_dir, dataset_name=path.name.partition(".")[0], files=splits, fields=sorted(fields),
        from_last_dot=last, stamps=repr([stamp_of(str(file)) for file in files]),
    )  # fmt: skip
    if streaming:
        return builder.as_streaming_dataset()
    builder.download_and_prepare()
    return builder.as_dataset()


def is_image(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in SUFFIXES


def _samples(file: Path, from_last_dot: bool, findings: Findings) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample: members of one key that follow each other."""
    own, members = "", dict[str, bytes]()
    for name, content in _members(file, findings):
        key, suffix = _parts(name, from_last_dot)
        if members and key != own:
            yield own, members
            members = {}
        own = key
        members.setdefault(suffix, content)
    if members:
        yield own, members


def _members(file: Path, findings: Findings) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member that can be read; the others are noted."""
    number, before, seen = 0, "", set[str]()
    try:
        with tarfile.open(file, "r:*") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it keeps them all
                number += 1
                if number > MOST_MEMBERS:
                    raise DataFolderError(f"{file}: more than {MOST_MEMBERS:,} members: make several files of it")
                name = member.name.removeprefix("./")
                bare = name.rpartition("/")[2]
                if member.isdir() or bare.startswith("."):
                    continue
                key = _parts(name, from_last_dot=False)[0]
                before, seen = key, seen if key == before else set()
                if problem := _problem(member, name, bare in seen):
                    findings.note(f"member of a tar file that is ignored: {problem}", f"{file.name}, {name}")
                    continue
                seen.add(bare)
                opened = archive.extractfile(member)
                content = opened.read() if opened is not None else b""
                if len(content) < member.size:
                    raise EOFError("unexpected end of data")
                yield name, content
    except _BROKEN as error:
        findings.note("tar file that is damaged or truncated: the rest is lost", f"{file.name} ({error})")


def _problem(member: tarfile.TarInfo, name: str, is_second: bool) -> str:
    """Why a member is ignored; "" if it is not."""
    if not member.isreg():
        return "a link" if member.issym() or member.islnk() else "a device or the like"
    if name.startswith("/") or ".." in name.split("/"):
        return "a name that points outside of the archive"
    if not _parts(name, from_last_dot=False)[1]:
        return "a name without a suffix"
    if member.size > (MOST_BYTES if is_image(name) else MOST_TEXT):
        return f"larger than {MOST_BYTES if is_image(name) else MOST_TEXT:,} bytes"
    return "a second one of that name in its sample" if is_second else ""


def _parts(name: str, from_last_dot: bool) -> tuple[str, str]:
    """A member's sample and suffix."""
    folder, slash, bare = name.rpartition("/")
    stem, _, suffix = bare.rpartition(".") if from_last_dot else bare.partition(".")
    return f"{folder}{slash}{stem}", suffix if stem else ""


class _Suffixes:
    """All suffixes of a set, from the first dot on, and whether what stands between dots belongs to the samples."""

    def __init__(self) -> None:
        self.all: set[str] = set()
        self._sample_of: dict[str, str] = {}  # by what stands between the dots
        self._samples = 0
        self._is_shared = False

    def add(self, key: str, suffix: str) -> None:
        self.all.add(suffix)
        if not self._is_shared and (between := suffix.rpartition(".")[0]):
            self._samples += between not in self._sample_of
            self._is_shared = self._sample_of.setdefault(between, key) != key

    @property
    def begin_at_the_last_dot(self) -> bool:
        return self._samples > 1 and not self._is_shared


def _text(content: bytes) -> str | None:
    """The text of a member; None where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
