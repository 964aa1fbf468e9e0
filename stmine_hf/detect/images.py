"""Detect objects in an image or a folder of images: annotated copies, COCO results, and a journal to resume a run.

    OUT/
      images/...         an annotated copy of each image, under its own name (".jpg" added to other kinds; where two
                         images would share a name, or it is too long, with a hash)
      detections.json    COCO results with the names of the classes
      summary.json       `num_images`, what was found in them, which were skipped, and in `images` an entry for each:
                         its id, size, number of objects and annotated copy
      crops/CLASS/...    if asked for, each object cut out of its image
      journal.jsonl      of a folder: its settings, then a line for each image done

An image's line is written once its annotated copy is there, batch by batch. So a killed run loses at most its
current three batches, and the next run resumes from there. Folders that version 0.1 wrote are resumed, too; the copies
that already exist stay in pictures/.
"""

from __future__ import annotations

import io
import os
import re
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from ..errors import StmineError
from ..files import RowWriter
from ..images import (
    ImageError,
    ImageFile,
    Scene,
    Skip,
    Window,
    find_images,
    image_errors,
    image_file,
    image_pixels,
    one_large_image,
    open_image,
    open_scene,
)
from ..inference.batching import batched, read_ahead
from ..inference.cluster import map_blocks
from ..inference.engines import TORCH
from ..inference.journal import Journal
from ..inference.progress import ProgressBar
from ..inference.skips import first_reasons
from ..outputs import OutputError, Outputs
from ..printing import printable
from .batches import Prepared
from .detection import Detection
from .detector import Detector
from .drawing import draw_onto
from .formats import Format, chosen_formats, writing_formats
from .names import AnnotatedNames
from .results import JOURNAL, RESULTS, SUMMARY, coco_rows, other_kind, require_same, write_summary
from .sources import no_images

CROPS = "crops"
_NO_NAME = re.compile(r"[^\w.-]+")  # characters that are replaced in the name of a folder
_MOST_JPEG = 65_500  # pixels of a side; larger ones are saved as PNG
_BLOCK = 32  # images that a worker of a cluster gets at a time, or the next number that makes whole batches
_MOST_SHOWN = 4096  # pixels of the longer side of the annotated copy of an image in slices

Show = Callable[[Image.Image], bool]  # False: stop
Finish = Callable[[], "list[list[Detection]]"]


@dataclass
class ImageReport:
    """Report of one run, and of the results after it."""

    images: int = 0  # in the results
    detected: int = 0  # went through the model in this run
    unchanged: int = 0  # were in the results already
    with_objects: int = 0
    classes: dict[str, int] = field(default_factory=dict)  # objects of each, the most frequent first
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0
    engines: list[str] = field(default_factory=list)  # that ran the model; see `stmine_hf.inference.engines`
    engine: str = ""  # the one that was chosen, and how fast it is; "": PyTorch
    nearly: dict[str, float] = field(default_factory=dict)  # classes without objects: scores near their thresholds
    remarks: list[str] = field(default_factory=list)  # on files of other formats

    @property
    def objects(self) -> int:
        return sum(self.classes.values())

    @property
    def images_per_second(self) -> float:
        return self.detected / self.seconds if self.seconds else 0.0


class _Batch(NamedTuple):
    """A batch that the network works on.

    Attributes:
        skipped: images that could not be read.
        loaded: the others.
        ran: what names the boxes, once the network is done.
        highest: gets the highest score of each class in the batch, with the boxes.
    """

    skipped: list[Skip]
    loaded: list[_Loaded]
    ran: Future[Finish]
    highest: dict[str, float]


class _Loaded(NamedTuple):
    """An image from the reading threads; `image` is None for a large one, which is read again to be drawn."""

    file: ImageFile
    image: Image.Image | None
    prepared: Prepared


def detect_images(
    detector: Detector,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    batch_size: int = 4,
    limit: int | None = None,
    formats: Iterable[str] = (),
    save_crops: bool = False,
    show: Show | None = None,
    progress: bool = True,
    ray: str | None = None,
) -> ImageReport:
    """Find objects in an image, or in all those of a folder and its subfolders, or of several of either.

    A folder is resumed: images in the results (same file size and time, same settings) are not processed again. A
    single image is always processed again. Memory: a few images, and some 400 bytes for each one of the folder.

    Args:
        detector: the detector.
        source: an image, a folder, or several of them. Files that cannot be read are skipped and reported; of
            several sources, names of images are below the folder that they have in common.
        out: folder for the results, see above; created if missing.
        batch_size: images per batch.
        limit: only the first `limit` images.
        formats: what is written beside `detections.json`: "coco", "yolo", "csv", "geojson", "jsonl"; see
            `stmine_hf.detect.formats`.
        save_crops: cut each object out of its image, into a folder for its class.
        show: called with each annotated image; the run ends when it returns False.
        progress: show a bar on stderr.
        ray: detect on the workers of a Ray cluster: "local", or the address of one that runs; see
            `stmine_hf.inference.cluster`. They read the images under the same paths; `show` is not called.

    Raises:
        OtherResultsError: the results in `out` were made with other settings.
        StmineError: nothing there, no image in the folder, none that can be read, or an unknown format.
    """
    started, report = time.monotonic(), ImageReport()
    given = [source] if isinstance(source, (str, Path)) else list(source)
    sources, out = [Path(os.path.abspath(one)) for one in given], Path(os.path.abspath(out))
    root = _root(sources)
    single = len(sources) == 1 and not sources[0].is_dir()

    def images(on_skip: Callable[[Skip], None]) -> Iterator[ImageFile]:
        for number, file in enumerate(_files(sources, root, out, on_skip)):
            if limit is not None and number >= limit:
                return
            yield file

    total = sum(1 for _ in images(lambda skip: None))
    if not total and not single:
        raise no_images(sources)
    if out.exists() and not out.is_dir():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")
    others = chosen_formats(formats, root, detector.names)
    settings = {**detector.settings, **({"crops": True} if save_crops else {})}
    resumed = (out / JOURNAL).is_file()
    with Outputs(out, inputs=sources, inside=resumed) as outputs, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of unusual metadata: the user need not act on it
        journal = _ImageJournal(outputs, None if single else settings)
        outputs.require_free(RESULTS, SUMMARY, *(one.file for one in others))
        present: list[str] = []
        highest: dict[str, float] = {}
        detector.expect(max(0, total - journal.done) if detector.slices is None else None)
        with journal, ProgressBar("Detecting", total, shown=progress) as bar:

            def new() -> Iterator[ImageFile]:
                for file in images(report.skipped.append):
                    if journal.has(file):
                        present.append(file.path)
                        report.unchanged += 1
                        bar.advance(worked=0)
                    else:
                        yield file

            names = AnnotatedNames(root, journal.annotated)
            detect = DetectBlock(detector, root, batch_size, save_crops=save_crops, keep=show is not None)
            for done in _written(
                outputs, detect.batches(new()) if ray is None else _on_cluster(ray, detect, new()), names
            ):
                bar.advance(worked=not isinstance(done, Skip))
                if isinstance(done, Skip):
                    report.skipped.append(done)
                    continue
                one, row = done
                highest |= {name: max(score, highest.get(name, 0.0)) for name, score in one.highest.items()}
                journal.add(one.file, row)
                present.append(one.file.path)
                report.detected += 1
                if show is not None and one.drawn is not None and not show(one.drawn):
                    break
            if not present:
                shown = ", ".join(map(str, sources[:3]))
                raise StmineError(f"not one image of {shown} could be read ({first_reasons(report.skipped)}).")
            report.engines, report.engine = detector.engines, detector.remark
            if ray is not None and report.detected:
                report.engines = [detector.engine_of_workers]
            listed = _write_results(outputs, journal, present, report, others)
            if isinstance(detector, Detector):
                near = detector.near_threshold(highest)
                report.nearly = {name: score for name, score in near.items() if name not in report.classes}
        report.seconds = time.monotonic() - started
        summary = {
            **detector.settings,
            "source": ", ".join(printable(one.name) for one in sources[:10]),
            "num_images": report.images,
            "with_objects": report.with_objects,
            "objects": report.objects,
            "classes": report.classes,
            "skipped": [skip._asdict() for skip in report.skipped],
            **({} if set(report.engines) <= {TORCH} else {"engines": report.engines}),
            "images": listed,
        }
        write_summary(outputs, summary)
    return report


def _root(sources: Sequence[Path]) -> Path:
    """The folder below which the images are named: the one given, or what all sources have in common.

    Raises:
        StmineError: they have nothing in common.
    """
    if not sources:
        raise StmineError("expected an image or a folder of them, found none.")
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0]
    try:
        return Path(os.path.commonpath([one.parent for one in sources]))
    except ValueError:
        raise StmineError("the sources lie on several drives: pass those of each drive alone.") from None


def _files(sources: Sequence[Path], root: Path, out: Path, on_skip: Callable[[Skip], None]) -> Iterator[ImageFile]:
    """The images of all sources, each once, named below `root`."""
    seen: set[str] = set()
    for source in sources:
        if not source.exists():
            raise StmineError(f"{source}: expected an image or a folder of them, found nothing.")
        below = source.relative_to(root).as_posix()
        if not source.is_dir():
            found: Iterable[ImageFile] = filter(None, [image_file(below, on_skip, below=root)])
        elif source == root:
            found = find_images(source, on_skip=on_skip, exclude=out)
        else:
            found = _named_below(source, below, out, on_skip)
        for file in found:
            if len(sources) > 1:
                if file.path in seen:
                    continue
                seen.add(file.path)
            yield file


def _named_below(source: Path, below: str, out: Path, on_skip: Callable[[Skip], None]) -> Iterator[ImageFile]:
    def skip(one: Skip) -> None:
        on_skip(one._replace(path=f"{below}/{one.path}"))

    for file in find_images(source, on_skip=skip, exclude=out):
        yield file._replace(path=f"{below}/{file.path}")


class Found(NamedTuple):
    """What was found in an image, with the files that show it.

    Attributes:
        file: the image.
        size: its width and height.
        detections: the objects.
        suffix: of the annotated copy.
        copy: the annotated copy, encoded.
        crops: of each object the folder, the suffix and the content of its crop, if crops were asked for.
        drawn: the annotated copy as an image, if it is to be shown.
        highest: of the first image of a batch: the highest score of each class in the batch, if known.
    """

    file: ImageFile
    size: tuple[int, int]
    detections: list[Detection]
    suffix: str
    copy: bytes
    crops: list[tuple[str, str, bytes]] | None
    drawn: Image.Image | None
    highest: dict[str, float]


class DetectBlock:
    """Finds objects in image files and draws them; what a worker of a cluster does with a block of them.

    Args:
        detector: the detector.
        root: the folder that the files are named below.
        batch_size: images per batch.
        save_crops: cut each object out of its image.
        keep: return the annotated copies as images, too.
    """

    def __init__(self, detector: Detector, root: Path, batch_size: int, *, save_crops: bool, keep: bool = False):
        self._detector, self._root, self._batch_size = detector, root, batch_size
        self._save_crops, self._keep = save_crops, keep

    def start(self, device: str | None) -> None:
        self._detector.start(device)
        warnings.filterwarnings("ignore", module="PIL")

    def __call__(self, block: list[ImageFile]) -> list[Found | Skip]:
        return [one for batch in self.batches(block) for one in batch]

    def portable(self) -> DetectBlock:
        """The same for another process."""
        return DetectBlock(
            self._detector.portable(), self._root, self._batch_size, save_crops=self._save_crops
        )  # fmt: skip

    @property
    def block_size(self) -> int:
        """Files that a worker gets at a time: whole batches, or a scene, which can be of any size."""
        return 1 if self._detector.slices is not None else -(-_BLOCK // self._batch_size) * self._batch_size

    def batches(self, files: Iterable[ImageFile]) -> Iterator[list[Found | Skip]]:
        """The results of each batch of files."""
        return self._whole(files) if self._detector.slices is None else self._in_slices(files)

    def _whole(self, files: Iterable[ImageFile]) -> Iterator[list[Found | Skip]]:
        workers = min(4, max(2, os.cpu_count() or 1))
        # Enough ahead that a whole batch gets ready while the network works on those before it.
        reading = read_ahead(self._load, files, workers=workers, ahead=self._batch_size + workers)
        with (
            closing(reading),
            ThreadPoolExecutor(1, thread_name_prefix="detect") as network,
            ThreadPoolExecutor(workers, thread_name_prefix="annotate") as pool,
        ):
            waiting: deque[_Batch] = deque()  # for the network, or in it
            drawn: Sequence[Skip | Future[Found | Skip]] = ()
            stopped: BaseException | None = None
            try:
                for batch in batched(reading, self._batch_size):
                    waiting.append(self._submitted(batch, network))
                    if len(waiting) > 1:  # the network always has one batch to go on with
                        yield _results(drawn)  # and written while it works
                        drawn = ()
                        drawn = self._drawn(waiting[0], pool)
                        waiting.popleft()
            except (KeyboardInterrupt, Exception) as error:
                stopped = error
            yield _results(drawn)  # what was begun is kept, up to a batch that has failed
            while waiting:
                yield _results(self._drawn(waiting.popleft(), pool))
            if stopped is not None:
                raise stopped

    def _submitted(self, batch: Sequence[_Loaded | Skip], network: ThreadPoolExecutor) -> _Batch:
        skipped = [one for one in batch if isinstance(one, Skip)]
        loaded = [one for one in batch if isinstance(one, _Loaded)]
        highest: dict[str, float] = {}
        ran = network.submit(self._begin, [one.prepared for one in loaded], highest)
        return _Batch(skipped, loaded, ran, highest)

    def _drawn(self, batch: _Batch, pool: ThreadPoolExecutor) -> list[Skip | Future[Found | Skip]]:
        found = pool.submit(batch.ran.result())  # runs before those that wait for it, as it is the first
        drawn = [
            pool.submit(self._annotated, one, number, found, {} if number else batch.highest)
            for number, one in enumerate(batch.loaded)
        ]
        return [*batch.skipped, *drawn]

    def _begin(self, images: Sequence[Prepared], highest: dict[str, float]) -> Finish:
        if isinstance(self._detector, Detector):
            return self._detector.begin(images, highest=highest)
        found = self._detector.detect(images)  # on a server
        return lambda: found

    def _load(self, file: ImageFile) -> _Loaded | Skip:
        path = self._root / file.path
        try:
            with one_large_image(image_pixels(path)) as large, image_errors():
                image = open_image(path, options=self._detector.pixels)
                return _Loaded(file, None if large else image, self._detector.prepare(image))
        except ImageError as error:
            return Skip(file.path, str(error))

    def _annotated(
        self, one: _Loaded, number: int, in_batch: Future[list[list[Detection]]], highest: dict[str, float]
    ) -> Found | Skip:
        file, image, prepared = one
        found = in_batch.result()[number]
        try:
            with one_large_image(0 if image else prepared.size[0] * prepared.size[1]):
                drawn = image or open_image(self._root / file.path, options=self._detector.pixels)
                return self._found(file, prepared.size[::-1], found, drawn, drawn, found, highest)
        except ImageError as error:  # changed or removed since
            return Skip(file.path, str(error))

    def _in_slices(self, files: Iterable[ImageFile]) -> Iterator[list[Found | Skip]]:
        """The same for images of any size; annotated copies of large ones are reduced."""
        for file in files:
            try:
                with open_scene(self._root / file.path, self._detector.pixels) as scene:
                    found = self._detector.detect_scene(scene)
                    drawn = scene.reduced(_MOST_SHOWN)
                    factor = drawn.width / scene.width
                    shown = [_scaled(one, factor) for one in found]
                    done: Found | Skip = self._found(
                        file, (scene.width, scene.height), found, _Cuts(scene), drawn, shown
                    )
            except ImageError as error:
                done = Skip(file.path, str(error))
            yield [done]

    def _found(
        self,
        file: ImageFile,
        size: tuple[int, int],
        found: list[Detection],
        image: _Cuttable,
        drawn: Image.Image,
        shown: list[Detection],
        highest: dict[str, float] | None = None,
    ) -> Found:
        """The result of an image, after `shown` is drawn onto `drawn`."""
        crops = _crops(image, found) if self._save_crops else None
        draw_onto(drawn, shown)
        kept = drawn if self._keep else None
        return Found(file, size, found, _suffix(drawn.size), _encoded(drawn), crops, kept, highest or {})


def _results(drawn: Iterable[Skip | Future[Found | Skip]]) -> list[Found | Skip]:
    return [one.result() if isinstance(one, Future) else one for one in drawn]


def _on_cluster(ray: str, detect: DetectBlock, files: Iterable[ImageFile]) -> Iterator[list[Found | Skip]]:
    with closing(map_blocks(ray, detect.portable(), batched(files, detect.block_size))) as done:
        yield from done


def _written(
    outputs: Outputs, batches: Iterable[list[Found | Skip]], names: AnnotatedNames
) -> Iterator[Skip | tuple[Found, dict[str, Any]]]:
    """Each image with its row for the journal, once the annotated copies and crops of its batch are written."""

    def write(found: Found | Skip, name: str) -> Skip | tuple[Found, dict[str, Any]]:
        if isinstance(found, Skip):
            return found
        stem = name.partition("/")[2].rpartition(".")[0]
        contents = {
            f"{CROPS}/{folder}/{stem}-{number}{suffix}": content
            for number, (folder, suffix, content) in enumerate(found.crops or [], start=1)
        }
        try:
            for path, content in [*contents.items(), (name, found.copy)]:
                outputs.write(path, partial(_write_bytes, content))
        except OutputError as error:  # a user's file has that name
            return Skip(found.file.path, str(error))
        width, height = found.size
        row = {"annotated": name, "width": width, "height": height, "detections": found.detections}
        return found, row | ({} if found.crops is None else {"crops": list(contents)})

    with ThreadPoolExecutor(min(4, max(2, os.cpu_count() or 1)), thread_name_prefix="write") as pool:
        for batch in batches:
            named = [("" if isinstance(one, Skip) else names.choose(one.file.path, one.suffix)) for one in batch]
            yield from list(pool.map(write, batch, named))


def _write_bytes(content: bytes, target: Path) -> None:
    target.write_bytes(content)


def _scaled(one: Detection, factor: float) -> Detection:
    left, top, right, bottom = (factor * side for side in one.box)
    return one._replace(box=(left, top, right, bottom))


class _Cuttable(Protocol):
    """An image, or a scene, that boxes are cut out of."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image: ...


class _Cuts:
    """A scene with the crops of an image."""

    def __init__(self, scene: Scene):
        self._scene = scene
        self.width, self.height = scene.width, scene.height

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        left, top, right, bottom = box
        right, bottom = min(right, self.width), min(bottom, self.height)
        return self._scene.window(Window(left, top, right - left, bottom - top))


def _crops(image: _Cuttable, found: Sequence[Detection]) -> list[tuple[str, str, bytes]]:
    """The folder, the suffix and the content of the crop of each object."""
    crops = []
    for one in found:
        left, top, right, bottom = (round(side) for side in one.box)
        left, top = min(left, image.width - 1), min(top, image.height - 1)
        crop = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        folder = _NO_NAME.sub("_", one.name).strip(".") or str(one.label)
        crops.append((folder, _suffix(crop.size), _encoded(crop)))
    return crops


def _suffix(size: tuple[int, int]) -> str:
    """Suffix of an annotated copy: a JPEG, unless the image is too large for one."""
    return ".png" if max(size) > _MOST_JPEG else ".jpg"


def _encoded(image: Image.Image) -> bytes:
    content = io.BytesIO()
    if _suffix(image.size) == ".png":
        image.save(content, "PNG")
    else:
        image.save(content, "JPEG", quality=92)
    return content.getvalue()


def _write_results(
    outputs: Outputs,
    journal: _ImageJournal,
    present: list[str],
    report: ImageReport,
    formats: Sequence[Format],
) -> list[dict[str, Any]]:
    """Write detections.json (and the other formats) of the images that are there, fill the report's counts.

    Returns:
        The images' entries.
    """
    images: list[dict[str, Any]] = []
    classes: Counter[str] = Counter()
    with outputs.writing(RESULTS) as path, RowWriter(path) as writer, writing_formats(formats, outputs):
        for row in journal.rows(present):
            writer.write({**one, "file_name": row["file_name"]} for one in row["detections"])
            for one in formats:
                one.write(row)
            classes.update(one["category"] for one in row["detections"])
            kept = {key: row[key] for key in ("file_name", "width", "height", "annotated")}
            images.append({"id": row["image_id"], **kept, "objects": len(row["detections"])})
    report.images, report.with_objects = len(images), sum(image["objects"] > 0 for image in images)
    report.classes = dict(classes.most_common())
    report.remarks = [remark for one in formats if (remark := one.remark())]
    return images


class _Known(NamedTuple):
    """Location of an image in the journal."""

    size: int
    mtime_ns: int
    ctime_ns: int  # 0: not known
    image_id: int
    offset: int


class _ImageJournal:
    """The lines of the images that are done: the detector's settings first, then one line an image.

    Args:
        outputs: the folder of the results.
        settings: of the detector. None: a single image, which is not recorded.

    Raises:
        StmineError: there is a journal, made with other settings.
    """

    def __init__(self, outputs: Outputs, settings: dict[str, Any] | None):
        self._outputs = outputs
        self._out, self._settings, path = outputs.folder, settings, outputs.folder / JOURNAL
        self._known: dict[str, _Known] = {}
        self.annotated: dict[str, str] = {}  # path of an image -> its copy
        self._next_id = 1
        if settings is None and path.exists():
            raise other_kind(self._out, "one image")
        self._has_settings = False
        former = path.exists() and not outputs.has_marker  # by version 0.1, whose journal lists what it wrote
        if settings is not None and not former:
            outputs.open_growing(JOURNAL).close()
        self._journal = Journal(None if settings is None else path, ("settings", "file_name"), self._accept)
        if former:
            outputs.adopt([JOURNAL, RESULTS, SUMMARY, *self.annotated.values()])
            outputs.open_growing(JOURNAL).close()
        if not self._has_settings:
            self._journal.append({"settings": settings})

    def __enter__(self) -> _ImageJournal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.__exit__(*exception)

    @property
    def done(self) -> int:
        """How many images it has, with those that have changed or are gone since."""
        return len(self._known)

    def has(self, file: ImageFile) -> bool:
        """Whether this file is done, unchanged, and its annotated copy still there."""
        known = self._known.get(file.path)
        if known is None or not file.is_as(known.size, known.mtime_ns, known.ctime_ns):
            return False
        return (self._out / self.annotated[file.path]).exists()

    def add(self, file: ImageFile, row: Mapping[str, Any]) -> None:
        """Record what was found in an image; a known image keeps its id."""
        known = self._known.get(file.path)
        image_id = known.image_id if known else self._next_id
        if known and "crops" in row:
            for former in self._journal.read(known.offset).get("crops", ()):
                if former not in row["crops"] and self._outputs.wrote(former):
                    self._outputs.remove(former)
        place = {"file_name": file.path, "image_id": image_id}
        place |= {"size": file.size, "mtime_ns": file.mtime_ns, "ctime_ns": file.ctime_ns}
        line = {**place, **row, "detections": coco_rows(image_id, row["detections"])}
        self._remember(line, *self._journal.append(line))

    def rows(self, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The lines of these images by their ids."""
        for known in sorted((self._known[path] for path in paths), key=lambda known: known.image_id):
            yield self._journal.read(known.offset)

    def _accept(self, row: Mapping[str, Any], offset: int) -> None:
        """Add a line of an earlier run."""
        if offset == 0:
            assert self._settings is not None
            require_same(self._out, row["settings"], self._settings)
            self._has_settings = True
        else:
            self._remember(row, offset)

    def _remember(self, row: Mapping[str, Any], offset: int) -> None:
        self._known[row["file_name"]] = _Known(
            row["size"], row["mtime_ns"], row.get("ctime_ns", 0), row["image_id"], offset
        )
        self.annotated[row["file_name"]] = row["annotated"]
        self._next_id = max(self._next_id, row["image_id"] + 1)
