"""Data sets of one's own: any Hub data set, folder or table whose columns can be told.

A source is one of

* a table: a JSONL, JSON, CSV or TSV file, or a folder of them (`train.jsonl`, `val.csv`, ...) that names its images.
  These are looked for in `images/` beside it, beside it, or in `image_dir`. Rows of one image are put together.
* whatever `datasets` reads: a Hub id (`org/name`), a folder of Parquet files such as `stmine data export` writes, one
  of `save_to_disk`, images with a `metadata.jsonl`, ...

`columns` says how columns are named, `own_rows` what becomes of a row. What is left out or amiss is told in one
warning with the first examples; of a stream, as it goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
from datasets.utils import tqdm

from .columns import Columns, as_list, names_of
from .errors import DataFolderError
from .findings import Findings, count
from .own_rows import BoxMaker, CaptionMaker, Maker, PostMaker, Raw, Row, make_names, told
from .post_files import TABLES, BadRow, Images, find_tables, read_rows, split_named, split_of

BOX_FORMATS = ("xywh", "xyxy", "cxcywh", "xywhn", "xyxyn", "cxcywhn")


@dataclass
class OwnOptions:
    """Options of a data set of one's own.

    Args:
        name: the configuration of a Hub data set that has several.
        revision: of a Hub data set: branch, tag or commit.
        image_dir: of a table: the folder with the images, where they are not beside it.
        encoding: of a table.
        labels: names of the labels in their order; None takes those of the data set, sorted where it has no order.
        classes: names of the categories of boxes in their order; None likewise.
        bbox_format: corner and size (xywh), two corners (xyxy), or centre and size (cxcywh), in pixels; with an n
            behind, in fractions of the image's sides.
    """

    name: str | None = None
    revision: str | None = None
    image_dir: str | None = None
    encoding: str = "utf-8"
    labels: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    bbox_format: str = "xywh"

    def __post_init__(self) -> None:
        if self.bbox_format not in BOX_FORMATS:
            raise DataFolderError(f"bbox_format has to be one of {', '.join(BOX_FORMATS)}; got {self.bbox_format!r}")
        for option in ("labels", "classes"):
            names = getattr(self, option)
            if names is not None and (isinstance(names, str) or not names or len(set(names)) < len(names)):
                raise DataFolderError(f'{option} has to be a list of names such as ["fake", "real"], got {names!r}')
        if self.image_dir is not None and not Path(self.image_dir).expanduser().is_dir():
            raise DataFolderError(f"no folder {self.image_dir} (image_dir)")

    def maker(self, columns: Columns, features: Mapping[str, Any] | None, raws: Any, findings: Findings) -> Maker:
        """What makes the rows of a source; see `make_names` for the arguments."""
        given = self.classes if columns.kind == "boxes" else self.labels
        names, by_place = make_names(columns, given, features, raws)
        if columns.kind == "boxes":
            return BoxMaker(names, by_place, findings, self.bbox_format)
        return (PostMaker if columns.kind == "posts" else CaptionMaker)(names, by_place, findings)


def load_own(
    source: str,
    kind: str,
    *,
    column_mapping: Mapping[str, Any] | None = None,
    streaming: bool = False,
    cache_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """All splits of a data set of one's own.

    Args:
        source: a file, a folder or a Hub id.
        kind: of the rows: captions, posts or boxes.
        column_mapping: see `columns`.
        streaming: read while iterating. Tables are read at once all the same: they hold no images.
        cache_dir: where `datasets` keeps what it makes.
        options: see `OwnOptions`.

    Raises:
        DataFolderError: with what was expected, what was found and what to do.
    """
    options, known = options or {}, [option.name for option in fields(OwnOptions)]
    if unknown := sorted(set(options) - set(known)):
        raise DataFolderError(f"{source} has no option {', '.join(unknown)}; its options are: {', '.join(known)}")
    settings, path = OwnOptions(**options), Path(source).expanduser()
    if tables := _tables(path):
        rows = _read_tables(path, tables, kind, column_mapping, settings)
        if not streaming:
            return rows
        shards = {split: own.to_iterable_dataset(num_shards=min(len(own), 64)) for split, own in rows.items()}
        return datasets.IterableDatasetDict(shards)
    splits = _open(str(path) if path.exists() else source, settings, streaming, cache_dir)
    if streaming:
        streams = {
            split: _stream(rows, split, kind, column_mapping, settings, source) for split, rows in splits.items()
        }
        return datasets.IterableDatasetDict(streams)
    return _read_whole(splits, kind, column_mapping, settings, source)


def _tables(path: Path) -> dict[str, Path]:
    """The table of each split; {} where the source is something else."""
    if path.is_file():
        if f"*{path.suffix.lower()}" not in TABLES:
            raise DataFolderError(f"{path}: expected a table ({', '.join(TABLES)}), a folder or a Hub id")
        return {split_of(path.name) or "train": path}
    if not path.is_dir() or _is_saved(path) or any(path.glob("**/metadata.*")) or any(path.glob("**/*.parquet")):
        return {}
    return find_tables(str(path), path)


def _is_saved(path: Path) -> bool:
    """Whether a folder is one of `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def _open(source: str, settings: OwnOptions, streaming: bool, cache_dir: str | None) -> dict[str, Any]:
    """What `datasets` makes of a source, `validation` being `val` here."""
    try:
        if _is_saved(Path(source)):
            saved = datasets.load_from_disk(source)
            loaded = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
            if streaming:
                loaded = {split: rows.to_iterable_dataset() for split, rows in loaded.items()}
        else:
            loaded = datasets.load_dataset(
                source, settings.name, revision=settings.revision, streaming=streaming, cache_dir=cache_dir
            )
    except Exception as error:  # of the network, of the Hub, of any reader of files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataFolderError(
            f"{source} cannot be loaded: {reason}. Expected a file or a folder, or the id of a data set on the Hub"
        ) from None
    renamed = {split_named(split) or split: rows for split, rows in loaded.items()}
    return renamed if len(renamed) == len(loaded) else dict(loaded)


# ---- tables ----


def _read_tables(
    path: Path, tables: Mapping[str, Path], kind: str, mapping: Mapping[str, Any] | None, settings: OwnOptions
) -> datasets.DatasetDict:
    findings = Findings("row")
    read = {split: list(read_rows(file, findings, settings.encoding)) for split, file in tables.items()}
    found = dict.fromkeys(name for rows in read.values() for _, row in rows for name in names_of(row))
    if not found:
        raise DataFolderError(f"{path}: no row in {', '.join(file.name for file in tables.values())} {findings}")
    columns = Columns(kind, mapping, found, str(path))
    folder = (path if path.is_dir() else path.parent).absolute()
    own_folder = settings.image_dir and Path(settings.image_dir).expanduser().absolute()
    images = Images([own_folder] if own_folder else [folder / "images", folder])
    raws = {
        split: _imaged([Raw.read(columns, row, place, split) for place, row in rows], images, kind, findings)
        for split, rows in read.items()
    }
    maker = settings.maker(columns, None, [raw for rows in raws.values() for raw in rows], findings)
    made = {split: [_made(maker, raw) for raw in rows] for split, rows in raws.items()}
    _finish(made, maker, str(path))
    kept = {split: [row for row in rows if row is not None] for split, rows in made.items()}
    return datasets.DatasetDict(
        {split: _table(rows, maker.features, path.stem, split) for split, rows in kept.items() if rows}
    )


def _table(rows: list[Row], features: datasets.Features, name: str | None, split: Any) -> datasets.Dataset:
    table = datasets.Dataset.from_list(rows, features, split=datasets.NamedSplit(str(split)))
    table.info.dataset_name = name
    return table


def _imaged(raws: list[Raw], images: Images, kind: str, findings: Findings) -> list[Raw]:
    """The rows with the files of their images; those of one image, unless they are posts, put together."""
    of_image: dict[str, Raw] = {}
    for raw in raws:
        name = str((raw.image or {}).get("path") or "").replace("\\", "/")
        file = images.find(name) if name else None
        raw.image = {"bytes": None, "path": str(file)} if file else None
        if name and not file and kind == "posts":
            findings.note("image not found (image_dir says where to look)", told(raw))
        first = of_image.setdefault(name if name and kind != "posts" else raw.place, raw)
        if first is not raw:
            first.take_in(raw)
    return list(of_image.values())


# ---- what `datasets` reads ----


def _read_whole(
    splits: Mapping[str, datasets.Dataset],
    kind: str,
    mapping: Mapping[str, Any] | None,
    settings: OwnOptions,
    source: str,
) -> datasets.DatasetDict:
    findings = Findings("row")
    features = next(iter(splits.values())).features
    columns = Columns(kind, mapping, names_of(features), source)
    encoded = {split: _undecoded(rows, features, columns) for split, rows in splits.items()}
    named = {one.partition(".")[0] for part in ("label", "category") for one in as_list(columns.of.get(part))}
    light = (row for rows in splits.values() for row in (rows.select_columns(sorted(named)) if named else ()))
    maker = settings.maker(columns, features, (Raw.read(columns, row, "", "") for row in light), findings)
    made = {
        split: [
            _made(maker, Raw.read(columns, row, f"{split}, row {number}", split))
            for number, row in enumerate(tqdm(rows, desc=f"Looking at the rows of {split}", delay=3, leave=False))
        ]
        for split, rows in encoded.items()
    }
    _finish(made, maker, source)
    column = columns.of.get("image")
    return datasets.DatasetDict(
        {
            split: _joined(rows, None if column is None else encoded[split], str(column), maker, splits[split])
            for split, rows in made.items()
            if any(rows)
        }
    )


def _joined(
    rows: list[Row | None], images: datasets.Dataset | None, column: str, maker: Maker, source: datasets.Dataset
) -> datasets.Dataset:
    """The rows as made beside the images as they lie in the source, which are not copied."""
    kept = [place for place, row in enumerate(rows) if row is not None]
    features = dict(maker.features)
    image = {"image": features.pop("image")}
    blank = rows[kept[0]]
    light = [{name: (row or blank)[name] for name in features} for row in rows]  # type: ignore[index]
    table = _table(light, datasets.Features(features), source.info.dataset_name, source.split)
    if images is None:
        beside = datasets.Dataset.from_dict({"image": [None] * len(rows)}, datasets.Features(image))
    else:
        beside = images.select_columns([column]).rename_columns({column: "image"}).cast(datasets.Features(image))
    joined = datasets.concatenate_datasets([table, beside], axis=1).select_columns(list(maker.features))
    return joined if len(kept) == len(rows) else joined.select(kept)


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
    if not isinstance(feature, datasets.Image) and getattr(feature, "dtype", "") not in ("string", "binary"):
        raise DataFolderError(f"{columns.title}: the column {column!r} holds no images, but {feature}")
    return rows.cast_column(column, datasets.Image(decode=False))


# ---- streams ----


def _stream(
    rows: datasets.IterableDataset,
    split: str,
    kind: str,
    mapping: Mapping[str, Any] | None,
    settings: OwnOptions,
    source: str,
) -> datasets.IterableDataset:
    features = rows.features
    first = next(iter(rows.take(1)), None) if features is None else None
    if features is None and first is None:
        raise DataFolderError(f"{source}: no row in {split}")
    columns = Columns(kind, mapping, names_of(features or first or {}), source)
    if features is not None:
        rows = _undecoded(rows, features, columns)
    maker = settings.maker(columns, features, None, Findings("row"))
    names = list(features or first or {})
    mapped = rows.map(StreamedRows(columns, maker, split), batched=True, batch_size=16, remove_columns=names)
    mapped = mapped.cast(maker.features)
    mapped.info.dataset_name = rows.info.dataset_name
    return mapped


class StreamedRows:
    """Turns batches of a stream into rows, fewer where some go; tells of the 1st, 10th, 100th ... that is amiss."""

    def __init__(self, columns: Columns, maker: Maker, split: str) -> None:
        self.columns, self.maker, self.split = columns, maker, split
        self.told = 1

    def __call__(self, batch: Mapping[str, list]) -> dict[str, list]:
        rows = []
        for position in range(len(next(iter(batch.values())))):
            own = {name: values[position] for name, values in batch.items()}
            row = _made(self.maker, Raw.read(self.columns, own, f"a row of {self.split}", self.split))
            if row is not None:
                self.maker.finish_alone(row)
                rows.append(row)
        findings = self.maker.findings
        if sum(findings.number(fate) for fate in findings.counts) >= self.told:
            warnings.warn(f"{self.columns.title} so far: {findings}", stacklevel=2)
            self.told *= 10
        return {name: [row[name] for row in rows] for name in self.maker.features}


# ---- both ----


def _made(maker: Maker, raw: Raw) -> Row | None:
    """The row, or None where it has to go."""
    try:
        return maker.make(raw)
    except BadRow as error:
        maker.findings.leave_out(str(error), told(raw))
        return None


def _finish(made: Mapping[str, list[Row | None]], maker: Maker, source: str) -> None:
    """Fill in what depends on all rows, and tell what was amiss.

    Raises:
        DataFolderError: nothing is left.
    """
    kept = [(row, split) for split, rows in made.items() for row in rows if row is not None]
    if kept:
        maker.finish([row for row, _ in kept], [split for _, split in kept])
    message = f"{source}: {count(len(kept), maker.THING)}; {maker.findings}"
    if not kept:
        raise DataFolderError(f"{message}. Nothing is left to load")
    if maker.findings:
        warnings.warn(message, stacklevel=5)
