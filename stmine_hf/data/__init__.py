"""Data sets: a `datasets` builder for each set, and one function that loads any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError as DataError
from .errors import DataFolderError as DataFolderError
from .findings import Findings

if TYPE_CHECKING:
    import datasets

# The only list of the sets, by the content of their rows: images with captions (FISVL), posts (MTTV), images with
# boxes (SAT). A name is that of the module with the builder: here, or in `toy` for a generated set. The lists
# below, `stmine data list`, help texts, cards and tests are derived from it and from the attributes of the builder.
KINDS = {
    "captions": ("rsicd", "rsitmd", "ucm_captions", "sydney_captions", "nwpu_captions", "toy_scenes"),
    "posts": ("weibo", "fakeddit", "posts", "toy_posts"),
    "boxes": (
        "coco_json",
        "voc_xml",
        "yolo_txt",
        "labelme_json",
        "cvat_xml",
        "label_studio",
        "indiscernible",
        "toy_camouflage",
    ),
}
BUILDERS = tuple(name for names in KINDS.values() for name in names)
# What models are trained for on rows of a kind, as the Hub names tasks of data sets.
TASKS = {
    "captions": ("image-to-text", "text-retrieval"),
    "posts": ("text-classification", "image-classification"),
    "boxes": ("object-detection",),
}
_BUILDER_CONFIG_FIELDS = ("name", "version", "data_dir", "data_files", "description", "contents")


def kind_of(name: str) -> str:
    """The kind of rows that a set by name yields."""
    return next(kind for kind, names in KINDS.items() if name in names)


def builder_class(name: str) -> type[datasets.GeneratorBasedBuilder]:
    """The builder of a set by name: the one that its module defines.

    Raises:
        DataError: no set of that name.
    """
    if name not in BUILDERS:
        raise DataError(f"unknown data set {name!r}: expected one of {', '.join(BUILDERS)}")
    import datasets

    module = import_module(f".toy.{name}" if name.startswith("toy_") else f".{name}", __name__)
    return next(
        thing
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, datasets.GeneratorBasedBuilder)
        and thing.__module__ == module.__name__
    )


def builder_options(builder: type[datasets.GeneratorBasedBuilder]) -> list[str]:
    """The options of a builder, for `load_dataset`."""
    known = [field.name for field in fields(builder.BUILDER_CONFIG_CLASS)]  # type: ignore[arg-type]
    own = [name for name in known if name not in (*_BUILDER_CONFIG_FIELDS, "encoding")]
    return [*own, "encoding"] if "encoding" in known else own


def one_of(kind: str) -> str:
    """The sets of a kind, for help texts.

    Example:
        >>> one_of("posts")
        'weibo, fakeddit, posts, toy_posts'
    """
    return ", ".join(KINDS[kind])


def load_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    split: str | None = None,
    streaming: bool = False,
    cache_dir: str | Path | None = None,
    kind: str | None = None,
    column_mapping: Mapping[str, Any] | None = None,
    strict: bool = False,
    findings: str | Path | None = None,
    **options: Any,
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Load a data set by name, or one of your own.

    Rows of the captioned sets: `image` (PIL, decoded when touched; the file itself stays where it is), `captions`
    (list of str), `caption_weights` (list of float, see `caption_weights` in `captioned_images`), `label` (ClassLabel,
    -1 = unknown), `image_id` (int, unique in its split), `filename` (str).

    Rows of the sets of posts: `post_id` (str, unique in the set), `text` (str, "" for none), `image` (PIL as above, or
    None), `label` (ClassLabel, -1 = unknown), `filename` (str, of the image; "" where the post names none), `group`
    (int, the same for posts of one event or image; -1 = unknown). For the treatment of bad rows, see `post_files`.

    Rows of the sets with boxes: `image` (as above), `image_id`, `filename`, `width` and `height` (int, pixels of the
    decoded image), `source` (str, "" where the set does not state it) and `objects`, five lists of one length: `id`,
    `bbox` ([x, y, width, height] in pixels), `category` (ClassLabel), `area`, `iscrowd`. For the treatment of bad
    boxes, see `boxed_images`; the numbers of the categories in COCO's tools: `boxed_images.category_ids`; the rows as
    COCO JSON: `coco_json.to_coco`.

    Args:
        name: one of those that `stmine data list` shows. Or a folder in one of the layouts with boxes, or a table
            (JSONL, CSV, ...), a folder or the id of a data set on the Hub, whose columns `column_mapping` names: see
            `own_data`.
        data_dir: folder with the set's files in any of the layouts of `captioned_images` or of the set's own script;
            the toy sets have none.
        split: `train`, `val` or `test`, or a slice such as `train[:100]` (not when streaming); None gives all of them.
        streaming: yield rows without writing a cache.
        cache_dir: where the row tables are cached; default: that of the `datasets` library.
        kind: captions, posts or boxes: what rows to make of a data set of your own; one by name has to be of it.
        column_mapping: of a data set of your own, which of its columns are what: see `columns`.
        strict: refuse data of which anything is skipped, changed or suspicious, instead of a warning.
        findings: file for the whole list of what was skipped, changed or is suspicious, as JSON.
        options: of the set's builder: `image_dir`, `weight_average`, `weight_low` of the captioned sets; `image_dir`,
            `files`, `validation` ("events" holds out whole events) and more of the posts, see `WeiboConfig`,
            `FakedditConfig`, `PostsConfig`; `image_dir`, `files`, `classes`, `one_based`, `sources` of those with
            boxes, see `CocoJsonConfig`, `VocXmlConfig`, `YoloTxtConfig`, `AnnotatedImagesConfig`,
            `IndiscernibleConfig`; `count`, `seed`, `size` of the toy sets, and `difficulty` (0 to 1) of
            toy_camouflage; of your own data, see `OwnOptions`.

    Raises:
        DataError: with what was expected, what was found and what to do.

    Example:
        >>> rsicd = load_dataset("rsicd", data_dir="data/rsicd", split="val")  # doctest: +SKIP
        >>> rsicd[0]["captions"][0]  # doctest: +SKIP
        'many planes are parked next to a long building in an airport .'
        >>> mapping = {"image": "img", "captions": "text"}
        >>> mine = load_dataset("org/name", kind="captions", column_mapping=mapping)  # doctest: +SKIP
    """
    rows, _ = read_dataset(
        name,
        data_dir=data_dir,
        split=split,
        streaming=streaming,
        cache_dir=cache_dir,
        kind=kind,
        column_mapping=column_mapping,
        strict=strict,
        findings=findings,
        **options,
    )
    return rows


def read_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    split: str | None = None,
    streaming: bool = False,
    cache_dir: str | Path | None = None,
    kind: str | None = None,
    column_mapping: Mapping[str, Any] | None = None,
    strict: bool = False,
    findings: str | Path | None = None,
    **options: Any,
) -> tuple[Any, Findings]:
    """As `load_dataset`, with its findings; of a stream of the user's own as far as it was read."""
    if kind is not None and kind not in KINDS:
        raise DataError(f"kind has to be one of {', '.join(KINDS)}, got {kind!r}")
    cache = str(cache_dir) if cache_dir is not None else None
    if name in BUILDERS:
        if kind is not None and name not in KINDS[kind]:
            raise DataError(f"{name} has no rows of {kind}: expected {', '.join(KINDS[kind])} or a set of your own")
        if column_mapping:
            raise DataError(f"{name} knows its columns: column_mapping is for tables, folders and Hub ids of your own")
        rows, found = _load_by_name(name, data_dir, split, streaming, cache, options)
    else:
        rows, found = _load_own(name, kind, data_dir, column_mapping, split, streaming, cache, options, strict)
    if findings is not None:
        found.save_for(findings, [data_dir] if data_dir is not None else [name] if name not in BUILDERS else [])
    if strict and found:
        raise DataError(
            f"{found.subject or name}; {found}. Strict reading refuses such data: correct it, or omit strict"
        )
    return rows, found


def _load_by_name(
    name: str,
    data_dir: str | Path | None,
    split: str | None,
    streaming: bool,
    cache: str | None,
    options: Mapping[str, Any],
) -> tuple[Any, Findings]:
    builder = make_builder(name, data_dir=data_dir, cache_dir=cache, **options)
    if streaming:
        splits = builder.as_streaming_dataset()
        if split is None or split in splits:
            return splits[split] if split else splits, findings_of(builder)
    else:
        builder.download_and_prepare()
        splits = builder.info.splits
        if split is None or set(re.findall(r"(?:^|\+)(\w+)", split)) <= set(splits):
            return builder.as_dataset(split=split), findings_of(builder)
    raise DataError(f"{name} has no split {split!r} here, only {', '.join(splits)}")


def findings_of(builder: datasets.GeneratorBasedBuilder) -> Findings:
    """The findings of a builder; empty if it generates its rows."""
    findings = getattr(builder, "findings", None)
    return Findings() if findings is None else findings  # one of things not used alone is false, and to be listed


def make_builder(
    name: str, *, data_dir: str | Path | None = None, cache_dir: str | None = None, **options: Any
) -> datasets.GeneratorBasedBuilder:
    """The builder of a data set by name; arguments as of `load_dataset`.

    Raises:
        DataError: an option that it does not have.
        DataFolderError: a folder that does not hold the set.
    """
    make = builder_class(name)
    known = builder_options(make)
    if unknown := sorted(set(options) - set(known)):
        raise DataError(f"{name} has no option {', '.join(unknown)}; its options are: {', '.join(known)}")
    folder = str(Path(data_dir).expanduser().absolute()) if data_dir is not None else None
    return make(data_dir=folder, cache_dir=cache_dir, **options)


def select_rows(splits: Any, split: str) -> Any:
    """The rows of a split, or of a slice of one such as `train[:80%]` (not of a stream).

    Raises:
        DataError: there is no such split, or it cannot be sliced so.
    """
    if split in splits:
        return splits[split]
    name = split.partition("[")[0]
    if name not in splits:
        hint = " A part of it can be one: train[:90%] and train[90%:]." if list(splits) == ["train"] else ""
        raise DataError(f"The data set has no split {split!r}; it has {', '.join(splits)}.{hint}")
    rows = splits[name]
    if not hasattr(rows, "select"):
        raise DataError(f"A stream has no slice {split!r}: name the split {name}, or omit streaming.")
    from datasets import ReadInstruction

    try:
        (part,) = ReadInstruction.from_spec(split).to_absolute({name: len(rows)})
    except (ValueError, AssertionError) as error:
        raise DataError(f"split {split!r} is no slice such as {name}[:100] or {name}[80%:] ({error})") from None
    return rows.select(range(part.from_ or 0, len(rows) if part.to is None else part.to))


def take_rows(splits: Any, split: str, count: int | None) -> Any:
    """The rows of a split, or `count` of them: evenly spread, since files often list one class after the other; of a
    stream the first ones.

    Raises:
        DataError: the data set has no such split.
    """
    rows = select_rows(splits, split)
    if not hasattr(rows, "__len__"):
        return rows if count is None else rows.take(count)
    if count is None or count >= len(rows):
        return rows
    return rows.select([place * len(rows) // count for place in range(count)])


def _load_own(
    name: str,
    kind: str | None,
    data_dir: str | Path | None,
    column_mapping: Mapping[str, Any] | None,
    split: str | None,
    streaming: bool,
    cache_dir: str | None,
    options: Mapping[str, Any],
    strict: bool,
) -> tuple[Any, Findings]:
    from .errors import DataFolderError
    from .layouts import layout_of
    from .own_data import load_own

    if not Path(name).expanduser().exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DataError(
            f"unknown data set {name!r}: expected one of {', '.join(BUILDERS)}, a table or folder that is there, or "
            "the id of a data set on the Hub (org/name)"
        )
    if kind is None:
        *kinds, last = KINDS
        raise DataError(f"{name}: say what the rows are: --kind {', '.join(kinds)} or {last} (kind= in Python)")
    if data_dir is not None:
        raise DataError(f"{name} is read where it is: omit data_dir (for images elsewhere, give image_dir)")
    if kind == "boxes" and not column_mapping and (layout := layout_of(Path(name).expanduser())):
        return _load_by_name(layout, name, split, streaming, cache_dir, options)
    try:
        splits, findings = load_own(
            name,
            kind,
            column_mapping=column_mapping,
            streaming=streaming,
            cache_dir=cache_dir,
            options=options,
            strict=strict,
        )
    except DataFolderError as error:
        if not Path(name).expanduser().is_dir():
            raise
        known = ", ".join(KINDS[kind])
        hint = f"A folder in the layout of one of {known} goes by that name, with the folder as its data_dir"
        raise DataError(f"{error}. {hint}") from None
    return (splits if split is None else select_rows(splits, split)), findings
