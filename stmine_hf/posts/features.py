"""Visual features of posts, computed once and stored: the output of a frozen visual encoder does not change.

    FEATURES/
      features.json               of which encoder (and detector) they are, their shapes, all shards with checksums
      shards/000000.safetensors   "global_features" (n, C, rows, columns), "region_features" (n, R, C); missing: zeros
      shards/000000.parquet       key, number of regions and digest of the images of the same n posts

The key of a post is its id; of several rows of a key the last one counts, and one with -1 regions marks the features
as removed. A post whose images have changed is encoded again: their digest is stored with the row. Folders of
format 1 open too, but have neither digests nor checksums: a changed image is noticed only in rows written since.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import StmineError
from ..images import Skip
from ..inference.batching import batched, read_ahead
from ..inference.engines import AUTO, TORCH
from ..inference.progress import ProgressBar
from ..inference.shards import (
    ShardFolder,
    checksums_of,
    next_name,
    remove_unnamed,
    shard_file,
    write_manifest,
    write_shard,
)
from ..loading import place
from ..model_identity import weights_digest
from ..outputs import Outputs
from .engine import EngineClassifier
from .post import Post, image_digests
from .prediction import Encoded, Encoder, RegionDetector

if TYPE_CHECKING:
    from ..modeling.mttv.configuration_mttv import MttvConfig
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

_MANIFEST = "features.json"
_ROWS = pa.schema([("key", pa.string()), ("regions", pa.int32()), ("images", pa.string())])
_REMOVED = -1  # as number of regions
_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_SAVE_SECONDS = 120  # a shard is closed after this time even if it is small: what a kill may cost


class FeatureStore:
    """The features of a folder, read one by one.

    Example:

    >>> store = FeatureStore.open("features")  # doctest: +SKIP
    >>> if "post 1" in store:  # doctest: +SKIP
    ...     store.get("post 1")["global_features"].shape
    torch.Size([2048, 7, 7])
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], rows: dict[str, _Row]):
        self.folder, self.manifest, self._rows = folder, manifest, rows
        self._file = lru_cache(maxsize=64)(self._open_shard)
        self._verified: set[str] = set()

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Open the features of a folder. Each shard is verified when it is first read.

        Args:
            folder: written by `precompute_features` (`stmine features mttv`).

        Raises:
            StmineError: no features there, of an unknown format version, or damaged.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        if manifest is None:
            raise StmineError(
                f"{folder}: expected a folder of features with {_MANIFEST}; make it: stmine features mttv"
            )
        return cls(folder, manifest, _read_rows(folder, manifest))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Any) -> bool:
        return str(key) in self._rows

    def get(self, key: Any) -> dict[str, Tensor]:
        """Features of a post, float32: `global_features` (C, rows, columns) and `region_features` (R, C).

        Args:
            key: the post's id. R is the number of regions found in its images, 0 or more.

        Raises:
            KeyError: no features of this post.
            StmineError: the files are damaged.
        """
        shard, row, regions, _ = self._rows[str(key)]
        with _shards(self.folder).reading(shard_file(shard, "safetensors")):
            file = self._file(shard)
            own = {name: file.get_slice(name)[row : row + 1][0] for name in ("global_features", "region_features")}
        return {
            "global_features": own["global_features"].float(),
            "region_features": own["region_features"][:regions].float(),
        }

    def require(self, config: MttvConfig) -> None:
        """Check that a model can use these features.

        Args:
            config: its `MttvConfig`.

        Raises:
            StmineError: they have another width.
        """
        width = self.manifest["shape"][0]
        if width != config.vision_width:
            raise StmineError(
                f"{self.folder}: features of width {width}, made with {self.manifest['model']}; the model expects "
                f"{config.vision_width} (vision_width)."
            )

    def _open_shard(self, name: str) -> Any:
        file = shard_file(name, "safetensors")
        if name not in self._verified:
            _shards(self.folder).verify(file, self.manifest["checksums"])
            self._verified.add(name)
        return safe_open(self.folder / file, framework="pt")

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: each process of a data loader opens its own."""
        return {"folder": self.folder, "manifest": self.manifest, "rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass
class FeaturesReport:
    """Report of one run, in posts.

    Attributes:
        added: features computed by this run.
        changed: those of them whose post had features of other images.
        done_before: features that already existed.
        without_image: posts that have none, and need no features.
        skipped: posts whose image cannot be read, and why. The next run tries them again.
        total: features in the folder.
        engines: that ran the visual encoder; see `stmine_hf.inference.engines`.
        engine: the one that was chosen, and how fast it is; "": PyTorch.
        seconds: duration of the run, without loading the model.
    """

    added: int = 0
    changed: int = 0
    done_before: int = 0
    without_image: int = 0
    skipped: list[Skip] = field(default_factory=list)
    total: int = 0
    engines: list[str] = field(default_factory=list)
    engine: str = ""
    seconds: float = 0.0


def precompute_features(
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    posts: Iterable[Post],
    folder: str | Path,
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: RegionDetector | None = None,
    dtype: str = "float32",
    save_every: int = 256,
    total: int | None = None,
    inputs: Iterable[str | Path] = (),
    progress: bool = True,
    engine: str = AUTO,
) -> FeaturesReport:
    """Compute the visual features of posts and store them. Run it again to resume after an interruption.

    Args:
        model: an `MttvForSequenceClassification` with a visual encoder.
        processor: its `MttvProcessor`.
        posts: with images; their `id` is the key.
        folder: created, or updated.
        batch_size: posts per batch.
        device: where to run; default: the device of the model.
        detector: finds regions in the images; see `MttvProcessor`. None: the posts have none.
        dtype: "float32", or "float16" for half the size and three significant digits.
        save_every: posts of a shard, at most.
        total: number of posts, for the progress bar.
        inputs: files and folders that the posts are read from; `folder` must not be or contain one of them.
        progress: show a bar on stderr.
        engine: see [`PostClassifier`]; maps of two engines have a cosine of 0.999 at least.

    Raises:
        StmineError: the model has no visual encoder, or the folder holds features of another one.
    """
    start, folder = time.perf_counter(), Path(folder)
    if model.config.vision_config is None:
        raise StmineError("The model has no visual encoder, so it cannot compute features; give one that has.")
    if dtype not in _DTYPES:
        raise StmineError(f"dtype: expected {' or '.join(_DTYPES)}, found {dtype!r}.")
    place(model, device)
    report = FeaturesReport()
    in_engine = EngineClassifier(model, engine)
    encode = Encoder(model, processor, detector=detector)
    with (
        Outputs(folder, inputs=inputs, inside=(folder / _MANIFEST).is_file()) as outputs,
        ProgressBar("Computing features", total, shown=progress) as bar,
    ):
        shards = _Shards(outputs, _identity(model, processor, detector, dtype), save_every)
        in_engine.expect(None if total is None else max(0, total - len(shards.rows)))
        images_of: dict[str, str | None] = {}  # of the posts on their way through the model

        def with_images() -> Iterator[tuple[int, Post, bool]]:
            """Numbered posts with images, and whether they have to be encoded."""
            seen: set[str] = set()
            for number, post in enumerate(posts):
                key = str(post.id)
                wanted = False
                if key in seen:
                    report.skipped.append(Skip(key, "an id that an earlier post has"))
                elif not post.images:
                    report.without_image += 1
                    shards.remove(key)
                else:
                    images = _images(post)
                    wanted = not shards.has(key, images)
                    report.done_before += not wanted
                    if wanted:
                        images_of[key] = images
                    yield number, post._replace(text=""), wanted
                seen.add(key)
                if not wanted:
                    bar.advance(worked=0)

        # The others share a batch with the same posts as in a run that was never stopped: the last bits stay the same.
        batches = (
            [(number, post) for number, post, wanted in batch if wanted]
            for batch in batched(with_images(), batch_size)
        )
        for batch in read_ahead(encode, filter(None, batches), workers=1, ahead=2):
            for _, post, _, problem in batch.failed:
                report.skipped.append(Skip(str(post.id), problem or ""))
                shards.remove(str(post.id))
            if batch.inputs is not None:
                keys = [str(post.id) for _, post, _ in batch.posts]
                report.changed += sum(key in shards.rows for key in keys)
                report.added += len(keys)
                found = _features(in_engine.model, batch)
                shards.add(keys, [images_of.pop(key) for key in keys], *found, in_engine.engines)
            bar.advance(len(batch.posts) + len(batch.failed))
        shards.save()
    report.engines, report.engine = in_engine.engines, in_engine.remark
    report.total, report.seconds = len(shards.rows), time.perf_counter() - start
    return report


def _images(post: Post) -> str | None:
    """Digests of the images of a post, to notice that they have changed; None where unknown."""
    digests = image_digests(post)
    return None if None in digests else " ".join(filter(None, digests))


@torch.inference_mode()
def _features(model: MttvForSequenceClassification, batch: Encoded) -> tuple[Tensor, Tensor, list[int]]:
    """Maps (B, C, rows, columns), regions (B, num_region_tokens, C) and how many regions each post has."""
    assert batch.inputs is not None
    names = ("pixel_values", "region_pixel_values", "image_mask", "region_mask")
    given = {name: batch.inputs[name].to(model.device) for name in names if name in batch.inputs}
    maps, regions = model.mttv.get_visual_features(**given)
    if regions is None:
        regions = maps.new_zeros(len(maps), 0, maps.shape[1])
    counts = given["region_mask"].sum(dim=1).tolist() if "region_mask" in given else [0] * len(maps)
    return maps.float().cpu(), regions.float().cpu(), counts


def _identity(
    model: MttvForSequenceClassification, processor: MttvProcessor, detector: RegionDetector | None, dtype: str
) -> dict[str, Any]:
    """What the features depend on; all runs into one folder must agree on it."""
    name = Path(getattr(model, "name_or_path", "") or type(model).__name__).name
    images = processor.image_processor
    return {
        "model": name,
        "weights": weights_digest(model.mttv.vision_encoder),
        "picture": {  # the key of format 1
            "size": dict(images.size),
            "mean": list(images.image_mean),
            "std": list(images.image_std),
            "resample": int(images.resample),
        },
        "regions": processor.num_regions if detector is not None else 0,
        "detector": weights_digest(detector.model) if detector is not None and hasattr(detector, "model") else None,
        "dtype": dtype,
    }


class _Row(NamedTuple):
    """Where the features of a post are, how many regions it has, and the digests of its images (None: unknown)."""

    shard: str
    row: int
    regions: int
    images: str | None


class _Shards:
    """Features that are collected in memory and written shard by shard.

    Attributes:
        rows: what the folder holds, by key.

    Raises:
        StmineError: what the folder holds is of another encoder, or damaged.
    """

    def __init__(self, outputs: Outputs, identity: dict[str, Any], save_every: int):
        self._outputs, self._save_every = outputs, save_every
        folder = outputs.folder
        earlier = _read_manifest(folder)
        if earlier is not None:
            changed = [name for name in identity if name != "model" and earlier.get(name) != identity[name]]
            if changed:
                found = "; ".join(f"{name} {earlier.get(name)}, now {identity[name]}" for name in changed)
                raise StmineError(
                    f"{folder} holds features made with other settings ({found}). Give another folder, or delete this "
                    "one."
                )
            outputs.adopt([_MANIFEST])
        self._manifest = {"shape": None, "shards": [], "checksums": {}, **(earlier or {}), **identity}
        self.rows = _read_rows(folder, self._manifest) if earlier else {}
        self._checksums: dict[str, str] = self._manifest["checksums"]
        remove_unnamed(outputs, self._checksums)
        self._keys: list[str] = []
        self._images: list[str | None] = []
        self._parts: list[tuple[Tensor, Tensor, list[int]]] = []
        self._saved = time.monotonic()

    def has(self, key: str, images: str | None) -> bool:
        """Whether there are features of a post, of these images as far as that is known."""
        row = self.rows.get(key)
        return row is not None and (None in (images, row.images) or images == row.images)

    def add(
        self,
        keys: list[str],
        images: list[str | None],
        maps: Tensor,
        regions: Tensor,
        counts: list[int],
        engines: Sequence[str] = (),
    ) -> None:
        """Add the features of posts."""
        known = self._manifest.get("engines", [TORCH])
        if not set(engines) <= set(known):
            self._manifest["engines"] = list(dict.fromkeys([*known, *engines]))
        dtype = _DTYPES[self._manifest["dtype"]]
        if not bool(torch.isfinite(maps.to(dtype)).all()):
            raise StmineError(f"The features of {keys[0]} or of a post near it do not fit into {dtype}.")
        if self._manifest["shape"] is None:
            self._manifest["shape"] = list(maps.shape[1:])
        self._keys += keys
        self._images += images
        self._parts.append((maps, regions, counts))
        if len(self._keys) >= self._save_every or time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def remove(self, key: str) -> None:
        """Remove the features of a post, if it has any: its images are gone or cannot be read."""
        if key in self.rows:
            regions = torch.zeros(1, self._manifest["regions"], self._manifest["shape"][0])
            self.add([key], [None], torch.zeros(1, *self._manifest["shape"]), regions, [_REMOVED])

    def save(self) -> None:
        """Write what is in memory."""
        if not self._keys:
            return
        dtype = _DTYPES[self._manifest["dtype"]]
        maps, regions = (torch.cat(parts).to(dtype) for parts in list(zip(*self._parts, strict=True))[:2])
        counts = [count for *_, own in self._parts for count in own]
        table = pa.table([self._keys, counts, self._images], schema=_ROWS)
        name = next_name(self._outputs.folder)
        tensors = {"global_features": maps.contiguous(), "region_features": regions.contiguous()}
        earlier = [name for name in self._manifest["shards"] if shard_file(name, "parquet") not in self._checksums]
        self._checksums |= checksums_of(self._outputs.folder, earlier)
        self._checksums |= write_shard(self._outputs, name, table, tensors)
        self._manifest["shards"].append(name)
        write_manifest(self._outputs, _MANIFEST, self._manifest)
        _update(self.rows, name, table)
        self._keys, self._images, self._parts, self._saved = [], [], [], time.monotonic()


def _read_rows(folder: Path, manifest: dict[str, Any]) -> dict[str, _Row]:
    """What the folder holds, by key."""
    rows: dict[str, _Row] = {}
    for name in manifest["shards"]:
        table = _shards(folder).read_table(name, manifest["checksums"])
        with _shards(folder).reading(shard_file(name, "parquet")):
            _update(rows, name, table)
    return rows


def _update(rows: dict[str, _Row], shard: str, table: pa.Table) -> None:
    """Enter the rows of a shard; those of format 1 have no column `images`."""
    keys, regions = table.column("key").to_pylist(), table.column("regions").to_pylist()
    images = table.column("images").to_pylist() if "images" in table.column_names else [None] * len(keys)
    for number, (key, count, digests) in enumerate(zip(keys, regions, images, strict=True)):
        if count == _REMOVED:
            rows.pop(key, None)
        else:
            rows[key] = _Row(shard, number, count, digests)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """None if there is none. In format 1 every shard with a table counts."""
    shards = _shards(folder)
    manifest = shards.read_manifest(_MANIFEST)
    if manifest is None:
        return None
    with shards.reading(_MANIFEST):
        if manifest["format_version"] == 1:
            manifest["shards"] = sorted(file.stem for file in folder.glob("shards/[0-9]*.parquet"))
            manifest["checksums"] = {}
        manifest["shape"][0], manifest["model"], manifest["shards"], manifest["checksums"]
    return manifest


def _shards(folder: Path) -> ShardFolder:
    return ShardFolder(folder, "features", "delete the folder and make them again")
