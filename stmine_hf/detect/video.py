"""Detect objects in a video or a camera stream: an annotated video and COCO results of its frames.

OUT/
  NAME.mp4           the annotated video, each frame at its own time; its audio if asked for
  detections.json    COCO results; `image_id` is the number of the frame from 0, `seconds` its time
  summary.json       how many frames, how many of them broken, what was found, how many tracks of each class
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ..errors import StmineError
from ..files import RowWriter
from ..inference.batching import batched, read_ahead
from ..inference.engines import TORCH
from ..inference.progress import ProgressBar
from ..outputs import Outputs
from ..printing import printable
from .batches import Prepared
from .camera import open_camera
from .detection import Detection
from .detector import Detector
from .drawing import draw_onto
from .formats import chosen_formats, writing_formats
from .images import Show
from .results import JOURNAL, RESULTS, SUMMARY, coco_rows, other_kind, write_summary
from .sources import CAMERA
from .tracking import SHARE, ObjectTracker
from .video_reading import VideoReader, audio_stream, frame_rate, is_mirrored, open_video, upright, video_stream
from .video_writing import VideoWriter

_FRAMES_BYTES = 2**29  # of the decoded frames that wait for the model or are drawn on


@dataclass
class VideoReport:
    """Report of one run."""

    video: str = ""  # file name of the annotated video
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    frames: int = 0  # in which objects were looked for
    broken: int = 0  # frames that could not be decoded, skipped
    missing: int = 0  # frames that the header counts but the file lacks, since it was cut short
    with_objects: int = 0
    classes: dict[str, int] = field(default_factory=dict)  # objects of each, the most frequent first
    tracks: dict[str, int] = field(default_factory=dict)  # objects followed, of each class; without --track: none
    audio: str = ""  # codec of the audio that was kept
    stopped: bool = False  # by Ctrl-C, or because the window was closed
    engines: list[str] = field(default_factory=list)  # that ran the model; see `stmine_hf.inference.engines`
    engine: str = ""  # the one that was chosen, and how fast it is; "": PyTorch
    seconds: float = 0.0

    @property
    def objects(self) -> int:
        return sum(self.classes.values())

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        fields = asdict(self)
        del fields["seconds"], fields["engine"]  # the same video gives the same file
        if set(self.engines) <= {TORCH}:
            del fields["engines"]
        return {**fields, "frame_rate": round(self.frame_rate, 3), "objects": self.objects}


class _Frame(NamedTuple):
    number: int
    seconds: float
    image: Image.Image
    prepared: Prepared


def detect_video(
    detector: Detector,
    source: str | Path,
    out: str | Path,
    *,
    batch_size: int = 4,
    limit: int | None = None,
    audio: bool = False,
    track: bool = False,
    formats: Iterable[str] = (),
    show: Show | None = None,
    progress: bool = True,
) -> VideoReport:
    """Detect objects in every frame of a video, or of a camera stream until Ctrl-C.

    Only a few frames are in memory at a time, some 512 MB of them at most. The annotated video shows each frame at its
    own time, however uneven the times are, and starts with the first; a broken one is skipped, and the one before it
    is shown for its time.

    Args:
        detector: the detector.
        source: a video file, or a camera: "camera", "camera:1", "/dev/video1".
        out: folder for the results, see above; created if missing.
        batch_size: frames per batch (always one for a camera, fewer for very large frames).
        limit: only the first `limit` frames.
        audio: keep the audio of the video.
        track: follow objects from frame to frame: each gets a number, `track` in the results; see `ObjectTracker`.
        formats: what is written beside `detections.json`: "csv", "jsonl".
        show: called with each annotated frame; the run ends when it returns False.
        progress: show a bar on stderr.

    Raises:
        StmineError: no such file or camera, not a video, frames that are too large, or not one of them can be decoded;
            the audio to be kept is missing or of a kind that no MP4 holds; PyAV, or for `track` trackers, is missing.
    """
    started, report, out = time.monotonic(), VideoReport(), Path(os.path.abspath(out))
    camera = CAMERA.match(str(source))
    name = "camera" if camera else printable(Path(source).stem)[:200]  # the file's name may have any bytes
    annotated = f"{name}.mp4"
    if out.exists() and not out.is_dir():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")
    if (out / JOURNAL).exists():
        raise other_kind(out, "this video")
    others = chosen_formats(formats, out, detector.names, of_video=True)
    container = open_camera(camera) if camera else open_video(Path(source))
    stream = video_stream(container)
    sound = audio_stream(container, source) if audio else None
    rate = frame_rate(stream)
    try:
        tracker = ObjectTracker(detector, float(rate)) if track else None
    except StmineError:
        container.close()
        raise
    batch_size = 1 if camera else max(1, min(batch_size, _FRAMES_BYTES // (16 * stream.width * stream.height)))
    total = min(filter(None, (None if camera else stream.frames, limit)), default=None)
    classes: Counter[str] = Counter()
    detector.expect(total)
    with closing(container), Outputs(out, inputs=[] if camera else [source]) as outputs:
        outputs.require_free(SUMMARY, *(one.file for one in others))
        with (
            outputs.writing(annotated) as video_path,
            VideoWriter(video_path, rate, stream.sample_aspect_ratio, sound) as video,
            outputs.writing(RESULTS) as rows_path,
            RowWriter(rows_path) as rows,
            writing_formats(others, outputs),
            ProgressBar("Detecting", total, shown=progress) as bar,
        ):
            reader = VideoReader(container, stream, sound, report)
            frames = _prepared(detector, reader.frames(), report, batch_size)
            try:
                for frame, found in _detected(detector, frames, batch_size, tracker):
                    video.write(frame.image, frame.seconds)
                    video.write_audio(reader.audio_packets(), reader.start)
                    own = coco_rows(frame.number, found, seconds=round(frame.seconds, 3))
                    rows.write(own)
                    for one in others:
                        one.write(
                            {"file_name": annotated, "image_id": frame.number, "width": frame.image.width}
                            | {"height": frame.image.height, "detections": own}
                        )
                    classes.update(one.name for one in found)
                    report.frames += 1
                    report.with_objects += bool(found)
                    report.width, report.height = frame.image.size
                    bar.advance()
                    report.stopped = show is not None and not show(frame.image)
                    if report.stopped or report.frames == limit:
                        break
            except KeyboardInterrupt:  # keep what was done so far
                report.stopped = True
            video.write_audio(reader.audio_packets(), reader.start)
            report.audio = "" if sound is None else sound.codec_context.name
            if not report.frames:
                raise StmineError(f"{source}: not one frame could be decoded ({report.broken} broken ones).")
        report.video, report.frame_rate, report.classes = annotated, float(rate), dict(classes.most_common())
        report.tracks = dict(tracker.counts.most_common()) if tracker else {}
        report.engines, report.engine = detector.engines, detector.remark
        report.seconds = time.monotonic() - started
        shown = name if camera else printable(Path(source).name)
        settings = {**detector.settings, **({"track": True} if track else {})}
        write_summary(outputs, {**settings, "source": shown, **report.summary()})
    return report


def _detected(
    detector: Detector, frames: Iterable[_Frame], batch_size: int, tracker: ObjectTracker | None
) -> Iterator[tuple[_Frame, list[Detection]]]:
    """Each frame in order with what was found, drawn onto its image in threads."""

    def found() -> Iterator[tuple[_Frame, list[Detection]]]:
        for batch in batched(frames, batch_size):
            prepared = [frame.prepared for frame in batch]
            if tracker is None:
                boxes = detector.detect(prepared)
            else:
                boxes = list(map(tracker.follow, detector.detect(prepared, share=SHARE)))
            yield from zip(batch, boxes, strict=True)

    def draw(one: tuple[_Frame, list[Detection]]) -> tuple[_Frame, list[Detection]]:
        frame, detections = one
        draw_onto(frame.image, detections)
        return one

    with closing(read_ahead(draw, found(), workers=2, ahead=batch_size)) as drawn:
        yield from drawn


def _prepared(detector: Detector, decoded: Iterable[Any], report: VideoReport, batch_size: int) -> Iterator[_Frame]:
    """Decoded frames as images, upright and of one size, ready for the model."""
    size: list[int] = []  # width and height of the first frame, as stored

    def prepare(item: tuple[int, float, Any]) -> _Frame | None:
        number, seconds, frame = item
        try:
            image = frame.to_image(width=size[0], height=size[1])
            if is_mirrored(frame):
                image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            image = upright(image, frame.rotation)
        except Exception:  # decoders return some frames that no converter accepts
            return None
        return _Frame(number, seconds, image, detector.prepare(image))

    def of_one_size() -> Iterator[Any]:
        for item in decoded:
            size[:] = size or [item[2].width, item[2].height]
            yield item

    with closing(read_ahead(prepare, of_one_size(), workers=2, ahead=batch_size)) as frames:
        for frame in frames:
            if frame is None:
                report.broken += 1
            else:
                yield frame
