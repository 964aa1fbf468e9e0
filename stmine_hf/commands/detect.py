"""`stmine detect`: detect objects in an image, a folder of images, a video or the stream of a camera."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..printing import printable, say
from .methods.sat import ModelOption
from .terminal import (
    BandsOption,
    DeviceOption,
    JsonOption,
    StretchOption,
    from_here,
    print_json,
    prints_only_json,
    require_folder,
)

if TYPE_CHECKING:
    from ..detect import ImageReport, VideoReport

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine detect image.jpg

  stmine detect images --out found --threshold 0.3 --labels person,bicycle

  stmine detect street.mp4 --out found

  stmine detect camera --show   # camera:1 for the second one; Ctrl-C ends it

Run it again after adding images or after an interruption: only images that are new are processed."""
)
def detect(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="An image, a folder of images, a video, or `camera`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: outputs/detect/NAME, by the name of the source."),
    ] = None,
    model: ModelOption = None,
    threshold: Annotated[float, typer.Option(min=0, max=0.999, help="Minimum score for an object to be shown.")] = 0.4,
    labels: Annotated[
        str | None, typer.Option(help="Only these classes, such as person,bicycle. Default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images or frames per batch; use more on a GPU.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images or frames.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Also show them in a window; closing it ends the run.")] = False,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the audio of a video.")] = False,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Detect objects and write annotated images or video, detections.json (COCO results) and summary.json.

    Images and frames that cannot be read are skipped and counted; nothing is written beside the source.
    """
    from ..detect.sources import source_kind
    from ..loading import require_model

    kind = source_kind(source)
    out = out or Path("outputs/detect") / ("camera" if kind == "camera" else Path(source).resolve().stem)
    require_folder(out)
    require_model(model)
    from ..detect import Detector, VideoReport, detect_images, detect_video
    from ..images import PixelOptions

    wanted = None if labels is None else labels.split(",")
    with prints_only_json(as_json), ExitStack() as stack:
        pixels = PixelOptions.parse(stretch, bands)
        detector = Detector.load(model, device=device, threshold=threshold, labels=wanted, pixels=pixels)
        options: dict[str, Any] = {"batch_size": batch_size, "limit": limit, "progress": not as_json}
        if show:
            from ..detect.screen import Screen

            screen = Screen(f"{source} - stmine detect")
            stack.callback(screen.close)
            options["show"] = screen.show
        if kind != "images":
            options["audio"] = audio and kind == "video"
        report: ImageReport | VideoReport
        report = (detect_images if kind == "images" else detect_video)(detector, source, out, **options)
    if as_json:
        print_json(_document(report, out))
    else:
        _show_report(report, out)
    if kind == "video" and isinstance(report, VideoReport) and report.stopped and not show:
        raise typer.Exit(130)  # by Ctrl-C; a camera has no other end


def _document(report: ImageReport | VideoReport, out: Path) -> dict[str, Any]:
    document = {"out": str(out), **asdict(report), "objects": report.objects}
    if "skipped" in document:
        document["skipped"] = [skip._asdict() for skip in document["skipped"]]
    return document


def _show_report(report: ImageReport | VideoReport, out: Path, *, most: int = 10) -> None:
    from ..detect import ImageReport

    if isinstance(report, ImageReport):
        looked_at, what, speed = report.images, "images", report.images_per_second
    else:
        looked_at, what, speed = report.frames, "frames", report.frames_per_second
    say(f"{report.objects} objects in {report.with_objects} of {looked_at} {what}, {speed:.1f} {what} a second")
    for name, count in list(report.classes.items())[:most]:
        say(f"{count:>7}  {name}")
    if len(report.classes) > most:
        say(f"         and {len(report.classes) - most} more")
    if isinstance(report, ImageReport):
        if report.unchanged:
            say(f"{report.unchanged} images were already done")
        for path, reason in report.skipped[:most]:
            say(f"  skipped {printable(path)}: {reason}")
        if len(report.skipped) > most:
            say(f"  ... and {len(report.skipped) - most} more (summary.json lists all)")
        annotated = out / "images"
    else:
        if report.broken:
            say(f"{report.broken} frames are broken and were skipped")
        if report.missing:
            say(f"the file is cut short: {report.missing} frames are missing at its end")
        if report.stopped:
            say("stopped before the end")
        annotated = out / report.video
    say(f"Results: {printable(from_here(annotated))}   {printable(from_here(out / 'detections.json'))}")
