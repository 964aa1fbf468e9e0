"""`stmine detect`: detect objects in an image, a folder of images, a video or the stream of a camera."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..inference.engines import require_engine
from ..methods import SAT
from ..outputs import require_other
from ..printing import counted, printable, say
from .methods.sat import ModelOption
from .terminal import (
    BandsOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    RayOption,
    ServerOption,
    SliceOption,
    SliceOverlapOption,
    StretchOption,
    device_of,
    from_here,
    print_json,
    prints_only_json,
    require_default,
    require_folder,
    warn,
)

if TYPE_CHECKING:
    from ..detect import ImageReport, VideoReport

MOST_FOLDERS = 100  # NAME, NAME-2, ... for runs without --out

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine detect image.jpg

  stmine detect images more/*.png --out found --threshold 0.4,person=0.3 --classes person,bicycle --format coco,csv

  stmine detect street.mp4 --out found --track

  stmine detect scenes --slice 320 --overlap 0.2 --format geojson   # small objects in large images

  stmine detect images --out found --server http://127.0.0.1:8000   # of a running `stmine serve`

  stmine detect camera --show   # camera:1 for the second one; Ctrl-C ends it

Run it again after adding images or after an interruption: only images that are new are processed."""
)
def detect(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Images, folders of images, videos, patterns such as 'a/*.jpg', or `camera`."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for what is found. Default: outputs/detect/NAME of the source, or NAME-2 ..."),
    ] = None,
    model: ModelOption = None,
    threshold: Annotated[
        str,
        typer.Option(
            metavar="SCORE[,CLASS=SCORE...]",
            help="Minimum score for an object to be shown, also of single classes: 0.4,person=0.3,car=0.5.",
        ),
    ] = "0.4",
    classes: Annotated[
        str | None, typer.Option("--classes", "--labels", help="Only these, as person,bicycle. Default: all.")
    ] = None,
    iou: Annotated[
        float,
        typer.Option(
            min=0.001, max=1, help="Of two boxes of a class that overlap by more than this, the better one stays."
        ),
    ] = 0.6,
    max_boxes: Annotated[int, typer.Option(min=1, help="Of an image or frame, the best ones.")] = 100,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME[,NAME...]",
            help="Write coco, yolo, csv, geojson or jsonl, too. Of a video: csv, jsonl.",
        ),
    ] = "json",
    save_crops: Annotated[
        bool, typer.Option("--save-crops", help="Of images: cut out each object, into crops/CLASS.")
    ] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Of videos: follow objects, so that each keeps its number.")
    ] = False,
    side: SliceOption = None,
    overlap: SliceOverlapOption = 0.2,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images or frames that go through the model at a time; use more on a GPU.")
    ] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images or frames.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Also show them in a window; closing it ends the run.")] = False,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the audio of a video.")] = False,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    ray: RayOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Detect objects and write annotated images or video, detections.json (COCO results) and summary.json.

    Images and frames that cannot be read are skipped and counted; nothing is written beside the source.
    """
    thresholds = _thresholds(threshold)
    from ..detect.classes import known_labels, parse_thresholds
    from ..detect.formats import require_formats
    from ..detect.results import require_resumable
    from ..detect.sources import jobs_of, require_images
    from ..images import PixelOptions
    from ..loading import labels_of, require_model

    jobs = jobs_of(sources)
    require_folder(out)
    require_other(out, [*(source for source in sources if source != "camera"), model])
    require_model(model, method=SAT)
    require_engine(engine)
    pixels = PixelOptions.parse(stretch, bands)
    names = [name.strip() for name in formats.split(",")]
    for job in jobs:
        require_formats(names, of_video=job.kind != "images")
        if job.kind == "images":
            require_images(job.source, out, whole=side is None)
    if side is not None and any(job.kind != "images" for job in jobs):
        raise typer.BadParameter("--slice is for images: found a video or a camera among the sources")
    if ray is not None:
        require_default(context, "show", why="images are drawn by the workers", option="--ray")
        if any(job.kind != "images" for job in jobs):
            raise typer.BadParameter("--ray is for images: found a video or a camera among the sources")
    if server is not None:
        taken = ("model", "iou", "max_boxes", "track", "audio", "side", "overlap", "device", "engine", "ray")
        require_default(context, *taken)
        if any(job.kind != "images" for job in jobs):
            raise typer.BadParameter("--server finds objects in images; videos and cameras need the model here")
        if list(thresholds) != ["*"]:
            raise typer.BadParameter("--threshold: with --server expected one score for all classes")
    elif (labels := labels_of(model, SAT)) is not None:
        parse_thresholds(thresholds, labels)
        wanted = None if classes is None else classes.split(",")
        known_labels(wanted or [], labels)
        for job in jobs:
            if out is None:  # another folder is taken
                break
            require_resumable(
                out if len(jobs) == 1 else out / job.name,
                model,
                labels,
                threshold=thresholds,
                classes=wanted,
                iou=iou,
                max_boxes=max_boxes,
                slices=None if side is None else (side, overlap),
                pixels=pixels,
                save_crops=save_crops,
                of_one=job.is_one,
            )
    from ..detect import Detector, VideoReport, detect_images, detect_video

    stopped = False
    documents = []
    with prints_only_json(as_json), ExitStack() as stack:
        detector: Any
        if server is not None:
            from ..serve.remote_detector import RemoteDetector

            detector = RemoteDetector(server, threshold=thresholds["*"], classes=classes, pixels=pixels)
        else:
            detector = Detector(
                model,
                device=device_of(context, device, ray),
                threshold=thresholds,
                classes=classes,
                iou=iou,
                max_boxes=max_boxes,
                batch_size=batch_size,
                pixels=pixels,
                slice=side,
                overlap=overlap,
                engine=engine,
            )
        options: dict[str, Any] = {"batch_size": batch_size, "limit": limit, "progress": not as_json}
        options["formats"] = names
        if show:
            from ..detect.screen import Screen

            screen = Screen(f"{', '.join(sources)} - stmine detect")
            stack.callback(screen.close)
            options["show"] = screen.show
        for job in jobs:
            report: ImageReport | VideoReport
            run: Any = detect_images
            more = {"save_crops": save_crops, "ray": ray}
            if job.kind != "images":
                run, more = detect_video, {"audio": audio and job.kind == "video", "track": track}
            folder, report = _into_a_folder(
                partial(run, detector, job.source, **options, **more),
                None if out is None else out if len(jobs) == 1 else out / job.name,
                job.name,
            )
            documents.append(_document(report, folder))
            if not as_json:
                _show_report(report, folder, threshold)
            stopped = job.kind == "video" and isinstance(report, VideoReport) and report.stopped and not show
            if stopped:
                break
    if as_json:
        print_json(documents[0] if len(jobs) == 1 else {"runs": documents})
    if stopped:
        raise typer.Exit(130)  # by Ctrl-C; a camera has no other end


def _thresholds(given: str) -> dict[str, float]:
    """The scores of single classes, and under "*" that of all others.

    Raises:
        typer.BadParameter: not of this form, or no scores.
    """
    found = {}
    for entry in given.split(","):
        name, _, value = entry.rpartition("=")
        try:
            found[name.strip() or "*"] = score = float(value)
        except ValueError:
            score = -1.0
        if not 0 <= score < 1:
            raise typer.BadParameter(
                f"--threshold: expected a score from 0 to below 1, or several such as 0.4,person=0.3, found {entry!r}"
            )
    return found


def _into_a_folder(run: Any, out: Path | None, name: str) -> tuple[Path, Any]:
    """Run with `out`, or where none was asked for with the first folder that does not hold other results."""
    from ..detect.results import OtherResultsError

    if out is not None:
        return out, run(out)
    plain = Path("outputs/detect") / name
    for number in range(1, MOST_FOLDERS):
        folder = plain if number == 1 else plain.with_name(f"{name}-{number}")
        require_folder(folder)
        try:
            return folder, run(folder)
        except OtherResultsError:
            if number == 1:
                warn(f"{plain} holds results of other settings or sources: this run has a folder of its own.")
    return plain, run(plain)


def _document(report: ImageReport | VideoReport, out: Path) -> dict[str, Any]:
    document = {"out": str(out), **asdict(report), "objects": report.objects}
    if "skipped" in document:
        document["skipped"] = [skip._asdict() for skip in document["skipped"]]
    return document


def _show_report(report: ImageReport | VideoReport, out: Path, threshold: str, *, most: int = 10) -> None:
    from ..detect import ImageReport
    from ..detect.classes import option_showing

    if isinstance(report, ImageReport):
        looked_at, what, speed = report.images, "image", report.images_per_second
    else:
        looked_at, what, speed = report.frames, "frame", report.frames_per_second
    objects = counted(report.objects, "object")
    say(f"{objects} in {report.with_objects} of {counted(looked_at, what)}, {speed:.1f} {what}s a second")
    tracks = {} if isinstance(report, ImageReport) else report.tracks
    for name, count in list(report.classes.items())[:most]:
        followed = f" ({tracks.get(name, 0)} tracks)" if tracks else ""
        say(f"{count:>7}  {name}{followed}")
    if len(report.classes) > most:
        say(f"         and {len(report.classes) - most} more")
    if isinstance(report, ImageReport):
        if report.nearly:
            near = dict(list(report.nearly.items())[:3])
            names = " or ".join(f"{name} (highest score {score:.2f})" for name, score in near.items())
            option = option_showing(near, threshold) or "a lower --threshold"
            say(f"nothing passed the threshold as {names}; to see it: {option}")
        if report.unchanged:
            were = "was" if report.unchanged == 1 else "were"
            say(f"{counted(report.unchanged, 'image')} {were} already done")
        for path, reason in report.skipped[:most]:
            say(f"  skipped {printable(path)}: {reason}")
        if len(report.skipped) > most:
            say(f"  ... and {len(report.skipped) - most} more (summary.json lists all)")
        for remark in report.remarks:
            say(remark)
        annotated = out / "images"
    else:
        if report.broken:
            say(f"{report.broken} frames are broken and were skipped")
        if report.missing:
            say(f"the file is cut short: {report.missing} frames are missing at its end")
        if report.stopped:
            say("stopped before the end")
        annotated = out / report.video
    if report.engine:
        say(f"Engine: {report.engine}")
    say(f"Results: {printable(from_here(annotated))}   {printable(from_here(out / 'detections.json'))}")
