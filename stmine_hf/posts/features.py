"""Visual features of posts, found once and kept on disk: what a frozen visual encoder gives does not change.

    FEATURES/
      features.json               which encoder (and detector) they are of, and their shapes
      shards/000000.safetensors   "global_features" (n, C, rows, columns), "region_features" (n, R, C); missing: zeros
      shards/000000.parquet       key and number of regions of the same n posts

A shard counts once its `.parquet` is there, which is written last; a killed run costs at most the posts since the last
shard. The next run goes on. Nothing is pickled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import StmineError
from ..files import only_writer, write_atomically, write_json
from ..images import Skip
from ..inference.batching import batched, read_ahead
from ..loading import place
from ..model_identity import weights_digest
from .judging import Encoded, Encoder, Post, progress_bar

FORMAT_VERSION = 1
_MANIFEST = "features.json"
_ROWS = pa.schema([("key", pa.string()), ("regions", pa.int32())])
_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_SAVE_SECONDS = 120  # a shard is closed after this time even if it is small: so much work a kill may cost


class FeatureStore:
    """The features of a folder, read one by one.

    Example:

    >>> store = FeatureStore.open("features")  # doctest: +SKIP
    >>> if "post 1" in store:  # doctest: +SKIP
    ...     store.get("post 1")["global_features"].shape
    torch.Size([2048, 7, 7])
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], places: dict[str, tuple[str, int, int]]):
        self.folder, self.manifest, self._places = folder, manifest, places
        self._file = lru_cache(maxsize=64)(self._open_shard)

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """
        Args:
            folder: written by `precompute_features` (`stmine features mttv`).

        Raises:
            StmineError: no features there, of another format version, or damaged.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        if manifest is None:
            raise StmineError(
                f"{folder}: expected a folder of features with {_MANIFEST}; make it: stmine features mttv"
            )
        return cls(folder, manifest, _places(folder))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: Any) -> bool:
        return str(key) in self._places

    def get(self, key: Any) -> dict[str, Tensor]:
        """Features of a post, float32: `global_features` (C, rows, columns) and `region_features` (R, C).

        Args:
            key: the post's id. R is the number of regions found in its images, 0 or more.

        Raises:
            KeyError: no features of this post.
            StmineError: the files are damaged.
        """
        shard, row, regions = self._places[str(key)]
        with _damage_is_told(self.folder):
            file = self._file(shard)
            own = {name: file.get_slice(name)[row : row + 1][0] for name in ("global_features", "region_features")}
        return {
            "global_features": own["global_features"].float(),
            "region_features": own["region_features"][:regions].float(),
        }

    def require(self, config: Any) -> None:
        """Make sure that a model can use these features.

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
        return safe_open(_shard(self.folder, name, "safetensors"), framework="pt")

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: each process of a data loader opens its own."""
        return {"folder": self.folder, "manifest": self.manifest, "places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass
class FeaturesReport:
    """What one run did, in posts.

    Attributes:
        added: features found by this run.
        done_before: features that were there.
        without_image: posts that have none, and need no features.
        skipped: posts whose image cannot be read, and why. The next run tries them again.
        total: features in the folder.
        seconds: of the whole run, the loading of the model left out.
    """

    added: int = 0
    done_before: int = 0
    without_image: int = 0
    skipped: list[Skip] = field(default_factory=list)
    total: int = 0
    seconds: float = 0.0


def precompute_features(
    model: Any,
    processor: Any,
    posts: Iterable[Post],
    folder: str | Path,
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: Any = None,
    dtype: str = "float32",
    save_every: int = 256,
    total: int | None = None,
    progress: bool = True,
) -> FeaturesReport:
    """Find the visual features of posts and keep them. Run it again to go on after an interruption.

    Args:
        model: an `MttvForSequenceClassification` with a visual encoder.
        processor: its `MttvProcessor`.
        posts: with images; their `id` is the key.
        folder: made, or brought up to date.
        batch_size: posts at a time.
        device: where to run; by default where the model is.
        detector: finds regions in the images; see `MttvProcessor`. None: the posts have none.
        dtype: "float32", or "float16" for half the space and three significant digits.
        save_every: posts of a shard, at most.
        total: how many posts there are, for the bar.
        progress: show a bar on stderr.

    Raises:
        StmineError: the model has no visual encoder, or the folder holds features of another one.
    """
    start, folder = time.perf_counter(), Path(folder)
    if model.config.vision_config is None:
        raise StmineError("The model has no visual encoder, so it cannot make features; name one that has.")
    if dtype not in _DTYPES:
        raise StmineError(f"dtype: expected {' or '.join(_DTYPES)}, found {dtype!r}.")
    place(model, device)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shards").mkdir(exist_ok=True)
    report = FeaturesReport()
    encode = Encoder(model, processor, detector=detector)
    with only_writer(folder), progress_bar(progress) as bar:
        shards = _Shards(folder, _identity(model, processor, detector, dtype), save_every)
        task = bar.add_task("Finding features", total=total)

        def with_images() -> Iterator[tuple[int, Post]]:
            seen: set[str] = set()
            for number, post in enumerate(posts):
                key = str(post.id)
                if key in seen:
                    report.skipped.append(Skip(key, "an id that came before"))
                elif not post.images:
                    report.without_image += 1
                elif key in shards.done:
                    report.done_before += 1
                else:
                    yield number, post._replace(text="")
                    seen.add(key)
                    continue
                seen.add(key)
                bar.advance(task)

        for batch in read_ahead(encode, batched(with_images(), batch_size), workers=1, ahead=2):
            report.skipped += [Skip(str(one.post.id), one.problem or "") for one in batch.failed]
            if batch.inputs is not None:
                shards.add([str(post.id) for _, post, _ in batch.posts], *_features(model, batch))
                report.added += len(batch.posts)
            bar.advance(task, len(batch.posts) + len(batch.failed))
        shards.close()
    report.total, report.seconds = len(shards.done), time.perf_counter() - start
    return report


@torch.inference_mode()
def _features(model: Any, batch: Encoded) -> tuple[Tensor, Tensor, list[int]]:
    """Maps (B, C, rows, columns), regions (B, num_region_tokens, C) and how many regions each post has."""
    assert batch.inputs is not None
    names = ("pixel_values", "region_pixel_values", "image_mask", "region_mask")
    given = {name: batch.inputs[name].to(model.device) for name in names if name in batch.inputs}
    maps, regions = model.mttv.get_visual_features(**given)
    if regions is None:
        regions = maps.new_zeros(len(maps), 0, maps.shape[1])
    counts = given["region_mask"].sum(dim=1).tolist() if "region_mask" in given else [0] * len(maps)
    return maps.float().cpu(), regions.float().cpu(), counts


def _identity(model: Any, processor: Any, detector: Any, dtype: str) -> dict[str, Any]:
    """What the features depend on; two runs into one folder must agree in it."""
    name = Path(getattr(model, "name_or_path", "") or type(model).__name__).name
    images = processor.image_processor
    return {
        "format_version": FORMAT_VERSION,
        "model": name,
        "weights": weights_digest(model.mttv.vision_encoder),
        "picture": {
            "size": dict(images.size),
            "mean": list(images.image_mean),
            "std": list(images.image_std),
            "resample": int(images.resample),
        },
        "regions": processor.num_regions if detector is not None else 0,
        "detector": weights_digest(detector.model) if hasattr(detector, "model") else None,
        "dtype": dtype,
    }


class _Shards:
    """Features gathered in memory and written shard by shard.

    Raises:
        StmineError: what lies in the folder is of another encoder, or damaged.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], save_every: int):
        self.folder, self.identity, self.save_every = folder, identity, save_every
        earlier = _read_manifest(folder)
        if earlier is not None:
            changed = [name for name in identity if name != "model" and earlier.get(name) != identity[name]]
            if changed:
                found = "; ".join(f"{name} {earlier.get(name)}, now {identity[name]}" for name in changed)
                raise StmineError(
                    f"{folder} holds features made otherwise ({found}). Give another folder, or delete this one."
                )
        self.shape = None if earlier is None else earlier["shape"]
        self.done = set(_places(folder))
        self._keys: list[str] = []
        self._parts: list[tuple[Tensor, Tensor, list[int]]] = []
        self._saved = time.monotonic()

    def add(self, keys: list[str], maps: Tensor, regions: Tensor, counts: list[int]) -> None:
        if not bool(torch.isfinite(maps.to(_DTYPES[self.identity["dtype"]])).all()):
            raise StmineError(
                f"The features of {keys[0]} or of a post near it do not fit into {self.identity['dtype']}."
            )
        if self.shape is None:
            self.shape = list(maps.shape[1:])
            write_json(self.folder / _MANIFEST, {**self.identity, "shape": self.shape})
        self._keys += keys
        self._parts.append((maps, regions, counts))
        if len(self._keys) >= self.save_every or time.monotonic() - self._saved > _SAVE_SECONDS:
            self.close()

    def close(self) -> None:
        """Write what is in memory."""
        if not self._keys:
            return
        maps, regions = (
            torch.cat(parts).to(_DTYPES[self.identity["dtype"]]) for parts in list(zip(*self._parts, strict=True))[:2]
        )
        tensors = {"global_features": maps.contiguous(), "region_features": regions.contiguous()}
        counts = [count for *_, own in self._parts for count in own]
        name = f"{max((int(file.stem) for file in _index_files(self.folder)), default=-1) + 1:06d}"
        write_atomically(_shard(self.folder, name, "safetensors"), lambda temporary: save_file(tensors, temporary))
        table = pa.table([self._keys, counts], schema=_ROWS)
        write_atomically(_shard(self.folder, name, "parquet"), lambda temporary: pq.write_table(table, temporary))
        self.done.update(self._keys)
        self._keys, self._parts, self._saved = [], [], time.monotonic()


def _places(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Key -> shard, row in it, number of regions."""
    places: dict[str, tuple[str, int, int]] = {}
    with _damage_is_told(folder):
        for file in _index_files(folder):
            table = pq.read_table(file, schema=_ROWS)
            columns = zip(table.column("key").to_pylist(), table.column("regions").to_pylist(), strict=True)
            for row, (key, regions) in enumerate(columns):
                places[key] = (file.stem, row, regions)
    return places


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """None if there is none."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        version = manifest["format_version"]
        if version == FORMAT_VERSION:
            manifest["shape"][0], manifest["model"]
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise StmineError(f"{folder}: expected a folder of features, found a file.") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StmineError(_damaged(folder, error)) from None
    if version != FORMAT_VERSION:
        raise StmineError(
            f"{folder} has features of format {version}, this stmine-hf reads {FORMAT_VERSION}: make them again."
        )
    return manifest


def _index_files(folder: Path) -> list[Path]:
    return sorted((folder / "shards").glob("[0-9]*.parquet"))


def _shard(folder: Path, name: str, suffix: str) -> Path:
    return folder / "shards" / f"{name}.{suffix}"


@contextmanager
def _damage_is_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Arrow and safetensors each have error types of their own
        raise StmineError(_damaged(folder, error)) from error


def _damaged(folder: Path, found: object) -> str:
    return f"the features in {folder} are damaged ({found}): delete the folder and make them again"
