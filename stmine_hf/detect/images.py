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
current batch, and the next run resumes from there. Folders that version 0.1 wrote are resumed, too; the copies
that already exist stay in pictures/.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from .results import RESULTS, SUMMARY, coco_rows, write_summary
from .sources import no_images

JOURNAL = "journal.jsonl"
CROPS = "crops"
_NO_NAME = re.compile(r"[^\w.-]+")  # characters that are replaced in the name of a folder
_MOST_JPEG = 65_500  # pixels of a side; larger ones are saved as PNG
_MOST_SHOWN = 4096  # pixels of the longer side of the annotated copy of an image in slices

Show = Callable[[Image.Image], bool]  # False: stop


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
    remarks: list[str] = field(default_factory=list)  # on files of other formats

    @property
    def objects(self) -> int:
        return sum(self.classes.values())

    @property
    def images_per_second(self) -> float:
        return self.detected / self.seconds if self.seconds else 0.0


class OtherResultsError(StmineError):
    """The folder holds results that this run does not continue."""


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
    detector.expect(total if detector.slices is None else None)
    settings = {**detector.settings, **({"crops": True} if save_crops else {})}
    resumed = (out / JOURNAL).is_file()
    with Outputs(out, inputs=sources, inside=resumed) as outputs, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of unusual metadata: the user need not act on it
        journal = _ImageJournal(outputs, None if single else settings)
        outputs.require_free(RESULTS, SUMMARY, *(one.file for one in others))
        present: list[str] = []
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
            for done in _detected(
                detector, root, outputs, new(), batch_size, names, keep=show is not None, save_crops=save_crops
            ):
                bar.advance(worked=not isinstance(done, Skip))
                if isinstance(done, Skip):
                    report.skipped.append(done)
                    continue
                file, row, drawn = done
                journal.add(file, row)
                present.append(file.path)
                report.detected += 1
                if show is not None and drawn is not None and not show(drawn):
                    break
            if not present:
                shown = ", ".join(map(str, sources[:3]))
                raise StmineError(f"not one image of {shown} could be read ({first_reasons(report.skipped)}).")
            report.engines, report.engine = detector.engines, detector.remark
            listed = _write_results(outputs, journal, present, report, others)
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


def _detected(
    detector: Detector,
    root: Path,
    outputs: Outputs,
    files: Iterable[ImageFile],
    batch_size: int,
    names: AnnotatedNames,
    *,
    keep: bool,
    save_crops: bool = False,
) -> Iterator[Skip | tuple[ImageFile, dict[str, Any], Image.Image | None]]:
    """Each file with its line for the journal, once its annotated copy is written; the copy itself if to be kept."""
    if detector.slices is not None:
        yield from _detected_in_slices(detector, root, outputs, files, names, keep=keep, save_crops=save_crops)
        return

    def load(file: ImageFile) -> _Loaded | Skip:
        try:
            with one_large_image(image_pixels(root / file.path)) as large, image_errors():
                image = open_image(root / file.path, options=detector.pixels)
                return _Loaded(file, None if large else image, detector.prepare(image))
        except ImageError as error:
            return Skip(file.path, str(error))

    def annotate(one: tuple[_Loaded, list[Detection], str]) -> Skip | tuple[ImageFile, dict[str, Any], Any]:
        (file, image, prepared), found, name = one
        try:
            with one_large_image(0 if image else prepared.size[0] * prepared.size[1]):
                drawn = image or open_image(root / file.path, options=detector.pixels)
                crops = _write_crops(outputs, drawn, found, name) if save_crops else []
                draw_onto(drawn, found)
                outputs.write(name, partial(_save_annotated, drawn))
        except (ImageError, OutputError) as error:  # changed or removed since; a user's file has the copy's name
            return Skip(file.path, str(error))
        row = {"annotated": name, "width": prepared.size[1], "height": prepared.size[0], "detections": found}
        row |= {"crops": crops} if save_crops else {}
        return file, row, drawn if keep else None

    workers = min(4, max(2, os.cpu_count() or 1))
    # Enough ahead that a whole batch gets ready while the model works on the one before it.
    reading = read_ahead(load, files, workers=workers, ahead=batch_size + workers)
    with closing(reading), ThreadPoolExecutor(workers, thread_name_prefix="annotate") as pool:
        for batch in batched(reading, batch_size):
            yield from (one for one in batch if isinstance(one, Skip))
            loaded = [one for one in batch if isinstance(one, _Loaded)]
            found = detector.detect([one.prepared for one in loaded])
            copies = [names.choose(one.file.path, _suffix(one.prepared.size)) for one in loaded]
            yield from list(pool.map(annotate, zip(loaded, found, copies, strict=True)))


def _detected_in_slices(
    detector: Detector,
    root: Path,
    outputs: Outputs,
    files: Iterable[ImageFile],
    names: AnnotatedNames,
    *,
    keep: bool,
    save_crops: bool,
) -> Iterator[Skip | tuple[ImageFile, dict[str, Any], Image.Image | None]]:
    """The same for images of any size; annotated copies of large ones are reduced."""
    for file in files:
        try:
            with open_scene(root / file.path, detector.pixels) as scene:
                found = detector.detect_scene(scene)
                drawn = scene.reduced(_MOST_SHOWN)
                name = names.choose(file.path, _suffix((drawn.height, drawn.width)))
                crops = _write_crops(outputs, _Cuts(scene), found, name) if save_crops else []
                factor = drawn.width / scene.width
                draw_onto(drawn, [_scaled(one, factor) for one in found])
                outputs.write(name, partial(_save_annotated, drawn))
                row = {"annotated": name, "width": scene.width, "height": scene.height, "detections": found}
        except (ImageError, OutputError) as error:
            yield Skip(file.path, str(error))
            continue
        yield file, row | ({"crops": crops} if save_crops else {}), drawn if keep else None


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


def _write_crops(outputs: Outputs, image: _Cuttable, found: Sequence[Detection], annotated: str) -> list[str]:
    """Write each object of an image to a file.

    Returns:
        The names of the files, derived from that of the annotated copy.
    """
    stem = annotated.partition("/")[2].rpartition(".")[0]
    names = []
    for number, one in enumerate(found, start=1):
        left, top, right, bottom = (round(side) for side in one.box)
        left, top = min(left, image.width - 1), min(top, image.height - 1)
        crop = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        folder = _NO_NAME.sub("_", one.name).strip(".") or str(one.label)
        name = f"{CROPS}/{folder}/{stem}-{number}{_suffix(crop.size)}"
        outputs.write(name, partial(_save_annotated, crop))
        names.append(name)
    return names


def _suffix(size: tuple[int, int]) -> str:
    """Suffix of an annotated copy: a JPEG, unless the image is too large for one."""
    return ".png" if max(size) > _MOST_JPEG else ".jpg"


def _save_annotated(image: Image.Image, target: Path) -> None:
    if _suffix(image.size) == ".png":
        image.save(target, "PNG")
    else:
        image.save(target, "JPEG", quality=92)


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
            raise OtherResultsError(
                f"{self._out} holds the results of a folder: choose another folder for those of one image."
            )
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
            self._require_same(row["settings"])
            self._has_settings = True
        else:
            self._remember(row, offset)

    def _remember(self, row: Mapping[str, Any], offset: int) -> None:
        self._known[row["file_name"]] = _Known(
            row["size"], row["mtime_ns"], row.get("ctime_ns", 0), row["image_id"], offset
        )
        self.annotated[row["file_name"]] = row["annotated"]
        self._next_id = max(self._next_id, row["image_id"] + 1)

    def _require_same(self, earlier: Mapping[str, Any]) -> None:
        assert self._settings is not None
        words = {
            "identity": "model",
            "threshold": "threshold",
            "labels": "classes",
            "iou": "iou",
            "max_boxes": "max_boxes",
            "crops": "save_crops",
            "pixels": "stretch and bands",
        }
        settings = self._settings
        differ = [key for key in words if earlier.get(key) != settings.get(key)]
        if differ:
            found = ", ".join(f"{words[key]} {earlier.get('model' if key == 'identity' else key)}" for key in differ)
            raise OtherResultsError(
                f"{self._out} holds results made with other settings ({found}): choose another folder (--out), or "
                "delete it to start again."
            )
