"""Data sets: one `datasets` builder script a set, and one door to them all."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StmineError

if TYPE_CHECKING:
    import datasets

# name -> (script, builder class)
BUILDERS = {
    "rsicd": ("rsicd", "RSICD"),
    "rsitmd": ("rsitmd", "RSITMD"),
    "ucm_captions": ("ucm_captions", "UCMCaptions"),
    "sydney_captions": ("sydney_captions", "SydneyCaptions"),
    "toy_scenes": ("toy_scenes", "ToyScenes"),
    "weibo": ("weibo", "Weibo"),
    "fakeddit": ("fakeddit", "Fakeddit"),
    "posts": ("posts", "Posts"),
    "toy_posts": ("toy_posts", "ToyPosts"),
    "coco_json": ("coco_json", "CocoJson"),
    "voc_xml": ("voc_xml", "VocXml"),
    "yolo_txt": ("yolo_txt", "YoloTxt"),
    "indiscernible": ("indiscernible", "Indiscernible"),
    "toy_camouflage": ("toy_camouflage", "ToyCamouflage"),
}
_BUILDER_CONFIG_FIELDS = ("name", "version", "data_dir", "data_files", "description", "contents")


class DataError(StmineError):
    """A data set that cannot be loaded: unknown name, option or split, missing or malformed files."""


def load_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    split: str | None = None,
    streaming: bool = False,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """Load a data set by name.

    Rows of the captioned sets: `image` (PIL, decoded when touched; the file itself stays where it is), `captions`
    (list of str), `caption_weights` (list of float, see `caption_weights` in `captioned_images`), `label` (ClassLabel,
    -1 = unknown), `image_id` (int, unique in its split), `filename` (str).

    Rows of the sets of posts: `post_id` (str, unique in the set), `text` (str, "" for none), `image` (PIL as above, or
    None), `label` (ClassLabel, -1 = unknown), `filename` (str, of the picture; "" where the post names none), `group`
    (int, the same for posts of one event or picture; -1 = unknown). What becomes of bad rows: see `post_files`.

    Rows of the sets with boxes: `image` (as above), `image_id`, `filename`, `width` and `height` (int, pixels of the
    decoded picture), `source` (str, "" where the set does not tell) and `objects`, five lists of one length: `id`,
    `bbox` ([x, y, width, height] in pixels), `category` (ClassLabel), `area`, `iscrowd`. What becomes of bad boxes:
    see `boxed_images`; the numbers of the categories in COCO's tools: `boxed_images.category_ids`; the rows as COCO
    JSON: `coco_json.to_coco`.

    Args:
        name: captioned sets: rsicd, rsitmd, ucm_captions, sydney_captions, toy_scenes. Posts: weibo, fakeddit, posts
            (your own), toy_posts. With boxes: coco_json, voc_xml, yolo_txt (your own), indiscernible,
            toy_camouflage.
        data_dir: folder with the set's files in any of the layouts of `captioned_images` or of the set's own script;
            the toy sets have none.
        split: `train`, `val` or `test`, or a slice such as `train[:100]` (not when streaming); None gives all of them.
        streaming: yield rows without writing a cache.
        cache_dir: where the row tables are cached; default: that of the `datasets` library.
        options: of the set's builder: `image_dir`, `weight_average`, `weight_low` of the captioned sets; `image_dir`,
            `files`, `validation` ("events" holds out whole events) and more of the posts, see `WeiboConfig`,
            `FakedditConfig`, `PostsConfig`; `image_dir`, `files`, `classes`, `one_based`, `sources` of those with
            boxes, see `CocoJsonConfig`, `VocXmlConfig`, `YoloTxtConfig`, `IndiscernibleConfig`; `count`, `seed`,
            `size` of the toy sets, and `difficulty` (0 to 1) of toy_camouflage.

    Raises:
        DataError: with what was expected, what was found and what to do.

    Example:
        >>> rsicd = load_dataset("rsicd", data_dir="data/rsicd", split="val")  # doctest: +SKIP
        >>> rsicd[0]["captions"][0]  # doctest: +SKIP
        'many planes are parked next to a long building in an airport .'
    """
    from .captioned_images import DataFolderError

    if name not in BUILDERS:
        raise DataError(f"unknown data set {name!r}: expected one of {', '.join(BUILDERS)}")
    script, builder_class = BUILDERS[name]
    make = getattr(import_module(f".{script}", __name__), builder_class)
    known = [field.name for field in fields(make.BUILDER_CONFIG_CLASS) if field.name not in _BUILDER_CONFIG_FIELDS]
    if unknown := sorted(set(options) - set(known)):
        raise DataError(f"{name} has no option {', '.join(unknown)}; its options are: {', '.join(known)}")
    try:
        builder = make(
            data_dir=str(Path(data_dir).expanduser().absolute()) if data_dir is not None else None,
            cache_dir=str(cache_dir) if cache_dir is not None else None,
            **options,
        )
        if streaming:
            splits = builder.as_streaming_dataset()
            if split is None or split in splits:
                return splits[split] if split else splits
        else:
            builder.download_and_prepare()
            splits = builder.info.splits
            if split is None or set(re.findall(r"(?:^|\+)(\w+)", split)) <= set(splits):
                return builder.as_dataset(split=split)
    except DataFolderError as error:
        raise DataError(str(error)) from None
    raise DataError(f"{name} has no split {split!r} here: there are {', '.join(splits)}")
