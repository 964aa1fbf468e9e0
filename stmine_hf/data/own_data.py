"""Your own data sets: any Hub data set, folder or table whose columns can be mapped.

A source is one of

* a table: a JSONL, JSON, CSV, TSV or Excel file, or a folder of them (`train.jsonl`, `val.csv`, ...) that names its
  images. These are looked for in `images/` beside it, beside it, or in `image_dir`. Rows of one image become one. A
  column `split` says of which split a row is, whatever the file's name,
* a folder of images with `metadata.csv` or `metadata.jsonl` in it or in its folders, as the Hub's ImageFolder is,
* a Parquet, Feather or Arrow file, or a folder of them, also as `stmine data export` writes it,
* whatever else `datasets` reads: a Hub id (`org/name`), a folder of `save_to_disk`, ...
* tar files of WebDataset, see `tar_samples`.

`columns` maps the columns, `own_rows` makes the rows. What is skipped or suspicious is reported in one
warning with the first examples; for a stream, while it is read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
from datasets.utils import tqdm

from ..printing import counted
from .arrow_tables import ARROW, ArrowTables, is_plain
from .cells import shortened
from .columns import SAMPLED, Columns, names_of
from .errors import BadRow, DataError, DataFolderError
from .findings import Findings
from .folder_builder import SPLITS, Row, image_folder, split_named, split_of, visible
from .folder_card import require_own_files, require_own_shards
from .names import ImageFiles, Wanted, stamp_of
from .own_rows import (
    BoxRowBuilder,
    CaptionRowBuilder,
    PostRowBuilder,
    RowBuilder,
    SourceRow,
    make_labels,
    place_of,
)
from .post_files import find_tables
from .tables import TABLES, read_rows, same_column, split_of_cell
from .tar_samples import KEY, is_tar, open_tars, tar_files

OTHER_SPLIT = "row whose column split names another split than its file: that of the file counts"
BOX_FORMATS = ("xywh", "xyxy", "cxcywh", "xywhn", "xyxyn", "cxcywhn")


@dataclass
class OwnOptions:
    """Options of a data set of one's own.

    Args:
        name: the configuration of a Hub data set that has several.
        revision: of a Hub data set: branch, tag or commit.
        image_dir: of a table: the folder with the images, where they are not beside it.
        encoding: of a table that is neither UTF-8 nor says what it is.
        labels: names of the labels in their order, with `label_names` what the words mean; None takes those of the
            data set, sorted where it has no order.
        label_names: what words for labels mean, where they are not the labels themselves: `{"谣言": "fake"}`. Words
            that no row has are no error if the others are all that the rows have.
        classes: names of the categories of boxes in their order; None likewise.
        bbox_format: corner and size (xywh), two corners (xyxy), or centre and size (cxcywh), in pixels; with an n
            behind, in fractions of the image's sides. None: as the names of corner columns say, else xywh.
    """

    name: str | None = None
    revision: str | None = None
    image_dir: str | None = None
    encoding: str | None = None
    labels: Sequence[str] | None = None
    label_names: Mapping[str, str] | None = None
    classes: Sequence[str] | None = None
    bbox_format: str | None = None

    def __post_init__(self) -> None:
        if self.bbox_format not in (None, *BOX_FORMATS):
            raise DataFolderError(f"bbox_format has to be one of {', '.join(BOX_FORMATS)}; got {self.bbox_format!r}")
        for option in ("labels", "classes"):
            names = getattr(self, option)
            if names is not None and (isinstance(names, str) or not names or len(set(names)) < len(names)):
                raise DataFolderError(f'{option} has to be a list of names such as ["fake", "real"], got {names!r}')
        if self.label_names is not None and not isinstance(self.label_names, Mapping):
            raise DataFolderError(f'label_names has to be a mapping such as {{"0": "fake"}}, got {self.label_names!r}')
        image_folder("own data", self.image_dir)

    def row_builder(
        self, columns: Columns, features: Mapping[str, Any] | None, rows: Any, findings: Findings
    ) -> RowBuilder:
        """What makes the rows of a source; see `make_labels` for the arguments."""
        given = self.classes if columns.kind == "boxes" else self.labels
        labels = make_labels(columns, given, self.label_names, features, rows)
        if columns.kind == "boxes":
            return BoxRowBuilder(labels, findings, self.bbox_format or columns.bbox_format or "xywh")
        make = PostRowBuilder if columns.kind == "posts" else CaptionRowBuilder
        return make(labels, findings)


def load_own(
    source: str,
    kind: str,
    *,
    column_mapping: Mapping[str, Any] | None = None,
    streaming: bool = False,
    cache_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> tuple[datasets.DatasetDict | datasets.IterableDatasetDict, Findings]:
    """All splits of the user's own data set, and its findings.

    Args:
        source: a file, a folder or a Hub id.
        kind: of the rows: captions, posts or boxes.
        column_mapping: see `columns`.
        streaming: read while iterating. Tables are read at once all the same: they hold no images.
        cache_dir: where `datasets` keeps what it makes.
        options: see `OwnOptions`.
        strict: of a stream: stop at the first finding.

    Raises:
        DataFolderError: with what was expected, what was found and what to do.
    """
    options, known = options or {}, [option.name for option in fields(OwnOptions)]
    if unknown := sorted(set(options) - set(known)):
        raise DataFolderError(f"{source} has no option {', '.join(unknown)}; its options are: {', '.join(known)}")
    settings, path = OwnOptions(**options), Path(source).expanduser()
    if tables := _tables(path):
        rows, findings = _read_tables(path, tables, kind, column_mapping, settings)
        if not streaming:
            return rows, findings
        shards = {split: own.to_iterable_dataset(num_shards=min(len(own), 64)) for split, own in rows.items()}
        return datasets.IterableDatasetDict(shards), findings
    findings = Findings("row")
    splits = _open(str(path) if path.exists() else source, settings, streaming, cache_dir, findings)
    if streaming:
        streams = {
            split: _stream(rows, split, kind, column_mapping, settings, source, findings, strict)
            for split, rows in splits.items()
        }
        return datasets.IterableDatasetDict(streams), findings
    return _read_whole(splits, kind, column_mapping, settings, source, findings), findings


def _tables(path: Path) -> list[tuple[str, Path]]:
    """Split and path of each table; [] where the source is something else."""
    texts = [pattern for pattern in TABLES if pattern[1:] not in ARROW]
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in ARROW or is_tar(path):
            return []
        if f"*{suffix}" not in TABLES:
            raise DataFolderError(f"{path}: expected a table ({', '.join(TABLES)}), a folder or a Hub id")
        return [(split_of(path.name) or "train", path)]
    if not path.is_dir() or _is_saved(path):
        return []
    if metadata := visible([*path.rglob("metadata.csv"), *path.rglob("metadata.jsonl")]):
        return [(_split_of_folder(file.parent, path), file) for file in metadata]
    if _arrow_files(path) or tar_files(path) or any(path.glob("**/metadata.parquet")):
        return []
    return [*find_tables(str(path), path, texts).items()]


def _split_of_folder(folder: Path, top: Path) -> str:
    """The split that a folder in a set means: train where none of its names says one."""
    return next((split for part in folder.relative_to(top).parts if (split := split_named(part))), "train")


def _arrow_files(path: Path) -> list[Path]:
    """The Parquet, Feather and Arrow files of a source."""
    if path.is_file():
        return [path] if path.suffix.lower() in ARROW else []
    return visible(file for suffix in ARROW for file in path.rglob(f"*{suffix}")) if path.is_dir() else []


def _is_saved(path: Path) -> bool:
    """Whether a folder is one of `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def _open(
    source: str, settings: OwnOptions, streaming: bool, cache_dir: str | None, findings: Findings
) -> dict[str, Any]:
    """What `datasets` makes of a source, `validation` being `val` here."""
    path = Path(source)
    try:
        if _is_saved(path):
            require_own_shards(path)
            saved = datasets.load_from_disk(source)
            loaded = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
            if streaming:
                loaded = {split: rows.to_iterable_dataset() for split, rows in loaded.items()}
        elif (files := _arrow_files(path)) and (
            path.is_file() or not all(file.suffix.lower() != ".feather" and is_plain(file) for file in files)
        ):
            loaded = _open_arrow(path, files, streaming, cache_dir)
        elif tars := tar_files(path):
            loaded = open_tars(path, tars, streaming, cache_dir, findings)
        else:
            if path.is_dir():
                require_own_files(path)
            loaded = datasets.load_dataset(
                source, settings.name, revision=settings.revision, streaming=streaming, cache_dir=cache_dir
            )
    except DataFolderError:
        raise
    except Exception as error:  # of the network, of the Hub, of any reader of files
        if isinstance(error.__cause__, DataFolderError):  # `datasets` has one of its own for what ours raise
            raise error.__cause__ from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataFolderError(
            f"{source} cannot be loaded: {reason}. Expected a file or a folder, or the id of a data set on the Hub"
        ) from None
    renamed = {split_named(split) or split: rows for split, rows in loaded.items()}
    return renamed if len(renamed) == len(loaded) else dict(loaded)


def _open_arrow(path: Path, files: list[Path], streaming: bool, cache_dir: str | None) -> dict[str, Any]:
    splits: dict[str, list[str]] = {}
    for file in files:
        inside = file.name if path.is_file() else file.relative_to(path).as_posix().replace("/", " ")
        splits.setdefault(split_of(inside) or "train", []).append(str(file.absolute()))
    stamps = repr([stamp_of(str(file)) for file in files])
    builder = ArrowTables(cache_dir=cache_dir, dataset_name=path.stem, files=splits, stamps=stamps)
    if streaming:
        return builder.as_streaming_dataset()
    builder.download_and_prepare()
    return builder.as_dataset()


def _read_tables(
    path: Path,
    tables: Sequence[tuple[str, Path]],
    kind: str,
    mapping: Mapping[str, Any] | None,
    settings: OwnOptions,
) -> tuple[datasets.DatasetDict, Findings]:
    findings = Findings("row")
    read = [(split, file, list(read_rows(file, findings, settings.encoding))) for split, file in tables]
    if any(file.stem == "metadata" for _, file, _ in read):  # ImageFolder's name for the image
        for _, _, rows in read:
            for _, row in rows:
                if "image" not in row and "file_name" in row:
                    row["image"] = row.pop("file_name")
    found = dict.fromkeys(name for _, _, rows in read for _, row in rows for name in names_of(row))
    if not found:
        raise DataFolderError(f"{path}: no row in {', '.join(file.name for _, file in tables)} {findings}")
    columns = Columns(kind, mapping, found, str(path), [row for _, _, rows in read for _, row in rows[:SAMPLED]])
    folder = (path if path.is_dir() else path.parent).absolute()
    own_folder = image_folder(str(path), settings.image_dir)
    images = ImageFiles([own_folder], stands_for="images") if own_folder else ImageFiles([folder / "images", folder])
    sources: dict[str, list[SourceRow]] = {}
    starts: dict[str, list[str]] = {}  # of each row, the folder of its file
    split_column = _split_column(columns)
    for split, file, rows in read:
        for place, row in rows:
            own = split_of_cell(row.get(split_column))
            of_row = split_named(own) if own else split
            if of_row is None:
                findings.skip(f"unknown split {shortened(own)}, expected {', '.join(SPLITS)}", place)
                continue
            sources.setdefault(of_row, []).append(SourceRow.read(columns, row, place, of_row))
            starts.setdefault(of_row, []).append(str(file.parent.absolute()))
    _find_images(
        [row for rows in sources.values() for row in rows],
        images,
        [start for folders in starts.values() for start in folders],
        findings,
    )
    sources = {split: _of_one_image(rows, kind, findings) for split, rows in sources.items()}
    every = [row for rows in sources.values() for row in rows]
    row_builder = settings.row_builder(columns, None, every, findings)
    made = {split: [_made(row_builder, row) for row in rows] for split, rows in sources.items()}
    _finish(made, row_builder, str(path))
    kept = {split: [row for row in rows if row is not None] for split, rows in made.items()}
    tables_of = {split: _table(rows, row_builder.features, path.stem, split) for split, rows in kept.items() if rows}
    return datasets.DatasetDict(tables_of), findings


def _split_column(columns: Columns) -> str:
    """The column that says of which split a row is: `split`, unless it is mapped to something else; "" for none."""
    used = str([*columns.of.values()])
    alike = [name for name in columns.found if same_column(name) == "split" and name not in used]
    return alike[0] if len(alike) == 1 else ""


def _find_images(rows: Sequence[SourceRow], images: ImageFiles, starts: Sequence[str], findings: Findings) -> None:
    """Set the files of images that tables name; None where there is none."""
    named = [
        (row, start)
        for row, start in zip(rows, starts, strict=True)
        if row.image is not None and row.image.get("bytes") is None
    ]
    wanted = [Wanted(str(row.image["path"]), row.place, (start,)) for row, start in named]  # type: ignore[index]
    for (row, _), path in zip(named, images.find(wanted, findings), strict=True):
        row.image = {"bytes": None, "path": path} if path else None


def _of_one_image(rows: Sequence[SourceRow], kind: str, findings: Findings) -> list[SourceRow]:
    """The rows, those of one image, unless they are posts, put together."""
    first_of: dict[str, SourceRow] = {}
    for row in rows:
        if row.filename and row.image is None and kind == "posts":
            findings.note("image not found (image_dir says where to look)", place_of(row))
        path = (row.image or {}).get("path") or (row.filename if row.image is None else "")
        path = os.path.normpath(path) if path else ""
        first = first_of.setdefault(path if path and kind != "posts" and not row.problem else f"\0{row.place}", row)
        if first is not row:
            first.add(row)
    return list(first_of.values())


def _table(rows: list[Row], features: datasets.Features, name: str | None, split: Any) -> datasets.Dataset:
    table = datasets.Dataset.from_list(rows, features, split=datasets.NamedSplit(str(split)))
    table.info.dataset_name = name
    return table


def _read_whole(
    splits: Mapping[str, datasets.Dataset],
    kind: str,
    mapping: Mapping[str, Any] | None,
    settings: OwnOptions,
    source: str,
    findings: Findings,
) -> datasets.DatasetDict:
    """The rows of what `datasets` has read; images stay where they are."""
    splits = {split: _with_images(rows) for split, rows in splits.items()}
    features = next(iter(splits.values())).features
    columns = Columns(kind, mapping, _columns_of(features, next(iter(splits.values()))), source)
    encoded = {split: _undecoded(rows, features, columns) for split, rows in splits.items()}
    parts = [columns.of[part] for part in ("label", "category") if part in columns.of]
    named = {one.partition(".")[0] for part in parts for one in ([part] if isinstance(part, str) else part)}
    light = (row for rows in splits.values() for row in (rows.select_columns(sorted(named)) if named else ()))
    labels = (SourceRow.read(columns, row, "", "") for row in light)
    row_builder = settings.row_builder(columns, features, labels, findings)
    images, split_column = _image_files(source, settings), _split_column(columns)
    made: dict[str, list[Row | None]] = {}
    fixed: dict[str, dict[int, Any]] = {}  # of each split, images that are not as they lie in the source
    column = columns.of.get("image")
    for split, rows in encoded.items():
        made[split], fixed[split] = [], {}
        bar = tqdm(rows, desc=f"Looking at the rows of {split}", delay=3, leave=False)
        for number, row in enumerate(bar):
            own = SourceRow.read(columns, row, f"{split}, row {number}", split)
            if split_named(split_of_cell(row.get(split_column))) not in (None, split):
                findings.note(OTHER_SPLIT, own.place)
            stored = own.image
            _place_alone(own, images)
            new = _made(row_builder, own)
            made[split].append(new)
            image = own.image if new is None else new.get("image")
            if image is not stored or (image is None and column is not None and row[str(column)] is not None):
                fixed[split][number] = image
    _finish(made, row_builder, source)
    return datasets.DatasetDict(
        {
            split: _joined(
                rows, None if column is None else encoded[split], str(column), fixed[split], row_builder, splits[split]
            )
            for split, rows in made.items()
            if any(rows)
        }
    )


def _columns_of(features: Mapping[str, Any], rows: Any) -> list[str]:
    """The columns of features, and the fields of columns of tar files that hold JSON as a text."""
    found = names_of(features)
    texts = [name for name in features if KEY in features and name.rpartition(".")[2].lower() in ("json", "jsn")]
    first: Mapping[str, Any] = next(iter(rows.select_columns(texts).take(1)), {}) if texts else {}
    return found + [name for name in names_of(first) if name not in found]


def _image_files(source: str, settings: OwnOptions) -> ImageFiles:
    """Where the files are that a column of paths names: beside the data, or, as `datasets` has it, here."""
    if own := image_folder(source, settings.image_dir):
        return ImageFiles([own])
    path = Path(source).expanduser().absolute()
    if not path.exists():
        return ImageFiles([])
    folder = path if path.is_dir() else path.parent
    return ImageFiles([folder / "images", folder, folder.parent, Path.cwd()], searched=[folder])


def _place_alone(row: SourceRow, images: ImageFiles) -> None:
    """Set the file of an image that a row names by its path."""
    if row.image is not None and row.image.get("bytes") is None:
        (path,) = images.find([Wanted(str(row.image["path"]), row.place)], Findings())
        if path != row.image["path"]:
            row.image = {"bytes": None, "path": path} if path else None


def _joined(
    rows: list[Row | None],
    images: datasets.Dataset | None,
    column: str,
    fixed: Mapping[int, Any],
    row_builder: RowBuilder,
    source: datasets.Dataset,
) -> datasets.Dataset:
    """The rows as made beside the images as they lie in the source, which are not copied unless some are fixed."""
    kept = [place for place, row in enumerate(rows) if row is not None]
    features = dict(row_builder.features)
    image = datasets.Features({"image": features.pop("image")})
    blank = rows[kept[0]]
    light = [{name: (row or blank)[name] for name in features} for row in rows]  # type: ignore[index]
    table = _table(light, datasets.Features(features), source.info.dataset_name, source.split)
    if images is None:
        beside = datasets.Dataset.from_dict({"image": [None] * len(rows)}, image)
    else:
        beside = images.select_columns([column]).rename_columns({column: "image"})
        if fixed:
            beside = beside.map(
                lambda row, number: {"image": fixed.get(number, row["image"])},
                with_indices=True,
                features=datasets.Features({"image": datasets.Image(decode=False)}),
                desc="Setting images",
            )
        beside = beside.cast(image)
    joined = datasets.concatenate_datasets([table, beside], axis=1).select_columns(list(row_builder.features))
    return joined if len(kept) == len(rows) else joined.select(kept)


def _with_images(rows: Any) -> Any:
    """The rows with each struct of bytes and path as an image: so `datasets` and pandas store one."""
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, Mapping) and set(feature) == {"bytes", "path"}:
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _undecoded(rows: Any, features: Mapping[str, Any], columns: Columns) -> Any:
    """The rows with images as encoded.

    Raises:
        DataFolderError: the column of images holds something else.
    """
    if "image" not in columns.of:
        return rows
    column = columns.of["image"]
    if not isinstance(column, str) or column not in features:
        raise DataFolderError(f"{columns.title}: images have to be a column by themselves, not {column!r}")
    feature = features[column]
    kinds = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
    if not isinstance(feature, datasets.Image) and getattr(feature, "dtype", "") not in kinds:
        raise DataFolderError(f"{columns.title}: the column {column!r} holds no images, but {feature}")
    return rows.cast_column(column, datasets.Image(decode=False))


def _stream(
    rows: datasets.IterableDataset,
    split: str,
    kind: str,
    mapping: Mapping[str, Any] | None,
    settings: OwnOptions,
    source: str,
    findings: Findings,
    strict: bool,
) -> datasets.IterableDataset:
    rows = _with_images(rows)
    features = rows.features
    first = next(iter(rows.take(1)), None) if features is None else None
    if features is None and first is None:
        raise DataFolderError(f"{source}: no row in {split}")
    columns = Columns(kind, mapping, _columns_of(features, rows) if features else names_of(first or {}), source)
    if features is not None:
        rows = _undecoded(rows, features, columns)
    row_builder = settings.row_builder(columns, features, None, findings)
    names = list(features or first or {})
    streamed = StreamedRows(columns, row_builder, split, _image_files(source, settings), strict)
    mapped = rows.map(streamed, batched=True, batch_size=16, remove_columns=names)
    mapped = mapped.cast(row_builder.features)
    mapped.info.dataset_name = rows.info.dataset_name
    return mapped


class StreamedRows:
    """Turns batches of a stream into rows, fewer if some are skipped; reports the 1st, 10th, 100th ... finding.

    Args:
        columns: of the source.
        row_builder: makes the rows.
        split: that is streamed.
        images: finds files that rows name.
        strict: stop at the first finding.
    """

    def __init__(
        self, columns: Columns, row_builder: RowBuilder, split: str, images: ImageFiles, strict: bool = False
    ) -> None:
        self.columns, self.row_builder, self.split = columns, row_builder, split
        self.images, self.strict = images, strict
        self.next_report = 1

    def __call__(self, batch: Mapping[str, list]) -> dict[str, list]:
        rows = []
        for position in range(len(next(iter(batch.values())))):
            own = {name: values[position] for name, values in batch.items()}
            source = SourceRow.read(self.columns, own, f"a row of {self.split}", self.split)
            _place_alone(source, self.images)
            row = _made(self.row_builder, source)
            if row is not None:
                self.row_builder.finish_alone(row)
                rows.append(row)
        findings = self.row_builder.findings
        if self.strict and findings:
            raise DataError(f"{self.columns.title}: {findings} (strict)")
        if sum(findings.number(fate) for fate in findings.counts) >= self.next_report:
            warnings.warn(f"{self.columns.title} so far: {findings}", stacklevel=2)
            self.next_report *= 10
        return {name: [row[name] for row in rows] for name in self.row_builder.features}


def _made(row_builder: RowBuilder, source: SourceRow) -> Row | None:
    """The row, or None if it is skipped."""
    try:
        if source.problem:
            raise BadRow(source.problem)
        return row_builder.make(source)
    except BadRow as error:
        row_builder.findings.skip(str(error), place_of(source))
        return None


def _finish(made: Mapping[str, list[Row | None]], row_builder: RowBuilder, source: str) -> None:
    """Fill in what depends on all rows, and report the findings.

    Raises:
        DataFolderError: nothing is left.
    """
    kept = [(row, split) for split, rows in made.items() for row in rows if row is not None]
    if kept:
        row_builder.finish([row for row, _ in kept], [split for _, split in kept])
    findings = row_builder.findings
    findings.subject = f"{source}: {counted(len(kept), row_builder.THING)}"
    if not kept:
        raise DataFolderError(f"{findings.subject}; {findings}. Nothing is left to load")
    if findings:
        warnings.warn(f"{findings.subject}; {findings}", stacklevel=6)
