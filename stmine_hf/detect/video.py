"""Detect objects in a video or a camera stream: an annotated video and COCO results of its frames.

OUT/
  NAME.mp4           the annotated video, each frame at its own time; its audio if asked for
  detections.json    COCO results; `image_id` is the number of the frame from 0, `seconds` its time
  summary.json       how many frames, how many of them broken, what was found
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ..errors import StmineError
from ..files import RowWriter
from ..inference.batching import batched, read_ahead
from ..inference.progress import ProgressBar
from ..outputs import Outputs
from ..printing import printable
from .detector import Detection, Detector, Prepared
from .drawing import draw_onto
from .images import JOURNAL, Show
from .results import RESULTS, SUMMARY, coco_rows, write_summary
from .sources import CAMERA

# Only these formats count as videos: others are images, texts, or lists that name further files.
# fmt: off
_CONTAINERS = frozenset({
    "mov", "mp4", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "asf", "flv", "ogg", "m4v", "mjpeg",
    "h264", "hevc", "ivf", "yuv4mpegpipe", "mxf", "dv",
})
# fmt: on
_ENCODERS = {"libx264": {"crf": "20", "preset": "veryfast"}, "libopenh264": {}, "mpeg4": {}}
_BITS_PER_PIXEL = 0.2  # for encoders that do not choose by quality
_FINEST_TICKS = 60_000  # a second: MPEG-4 has no more than 65,535
# What an MP4 holds as it is.
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
# 8K. Of larger frames, a few would fill the memory.
MAX_FRAME_PIXELS = 8192 * 4320
_MANY_PIXELS = 4096 * 2304  # of a frame; above, decoders keep fewer frames at work
_FRAMES_BYTES = 2**29  # of the decoded frames that wait for the model or are drawn on
_MOST_THREADS = 8  # of a decoder, each of which holds a frame
_USUAL_RATE = Fraction(25)  # frames a second where neither file nor camera says
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


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
    audio: str = ""  # codec of the audio that was kept
    stopped: bool = False  # by Ctrl-C, or because the window was closed
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
        del fields["seconds"]  # the same video gives the same file
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
        show: called with each annotated frame; the run ends when it returns False.
        progress: show a bar on stderr.

    Raises:
        StmineError: no such file or camera, not a video, frames that are too large, or not one of them can be decoded;
            the audio to be kept is missing or in a format that no MP4 holds; PyAV is missing.
    """
    started, report, out = time.monotonic(), VideoReport(), Path(os.path.abspath(out))
    camera = CAMERA.match(str(source))
    name = "camera" if camera else printable(Path(source).stem)[:200]  # whatever bytes the file's name has
    annotated = f"{name}.mp4"
    if out.exists() and not out.is_dir():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")
    if (out / JOURNAL).exists():
        raise StmineError(f"{out} holds the results of a folder: choose another folder for those of this video.")
    container = _open_camera(camera) if camera else open_video(Path(source))
    stream = video_stream(container)
    sound = _audio_stream(container, source) if audio else None
    rate = _frame_rate(stream)
    batch_size = 1 if camera else max(1, min(batch_size, _FRAMES_BYTES // (16 * stream.width * stream.height)))
    total = min(filter(None, (None if camera else stream.frames, limit)), default=None)
    classes: Counter[str] = Counter()
    with closing(container), Outputs(out, inputs=[] if camera else [source]) as outputs:
        outputs.require_free(SUMMARY)
        with (
            outputs.writing(annotated) as video_path,
            _VideoWriter(video_path, rate, stream.sample_aspect_ratio, sound) as video,
            outputs.writing(RESULTS) as rows_path,
            RowWriter(rows_path) as rows,
            ProgressBar("Detecting", total, shown=progress) as bar,
        ):
            reader = _Reader(container, stream, sound, report)
            frames = _prepared(detector, reader.frames(), report, batch_size)
            try:
                for frame, found in _detected(detector, frames, batch_size):
                    video.write(frame.image, frame.seconds)
                    video.write_audio(reader.audio_packets(), reader.start)
                    rows.write(coco_rows(frame.number, found, seconds=round(frame.seconds, 3)))
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
        report.seconds = time.monotonic() - started
        shown = name if camera else printable(Path(source).name)
        write_summary(outputs, {**detector.settings, "source": shown, **report.summary()})
    return report


def _detected(
    detector: Detector, frames: Iterable[_Frame], batch_size: int
) -> Iterator[tuple[_Frame, list[Detection]]]:
    """Each frame in order with what was found, drawn onto its image in threads."""

    def found() -> Iterator[tuple[_Frame, list[Detection]]]:
        for batch in batched(frames, batch_size):
            yield from zip(batch, detector.detect([frame.prepared for frame in batch]), strict=True)

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
            image = _upright(frame.to_image(width=size[0], height=size[1]), frame.rotation)
        except Exception:  # decoders let odd frames through that no converter takes
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


class _Reader:
    """Decoder of the frames of a video, with the packets of its audio.

    Attributes:
        start: seconds of the first frame, on the clock of the file; None before it.
    """

    def __init__(self, container: Any, stream: Any, audio: Any, report: VideoReport):
        self._container, self._stream, self._audio, self._report = container, stream, audio, report
        self._packets: list[Any] = []
        self.start: float | None = None

    def audio_packets(self) -> list[Any]:
        """The packets since the last call."""
        packets, self._packets = self._packets, []
        return packets

    def frames(self) -> Iterator[tuple[int, float, Any]]:
        """Number, seconds since the first, and the frame as PyAV has it; broken and missing ones are counted."""
        import av

        stream, report = self._stream, self._report
        small = stream.width * stream.height <= _MANY_PIXELS
        stream.thread_type = "AUTO" if small else "SLICE"
        stream.codec_context.thread_count = min(_MOST_THREADS, os.cpu_count() or 1) if small else 2
        # Else frames that refer to a broken one would be dropped silently.
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        rate, packets, number = _frame_rate(stream), 0, 0
        for packet in self._demuxed():
            packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                report.broken += 1
                number += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    report.broken += 1
                else:
                    seconds = float(number / rate) if frame.time is None else frame.time
                    self.start = seconds if self.start is None else self.start
                    yield number, seconds - self.start, frame
                number += 1
        report.missing = max(0, stream.frames - packets)
        dropped = packets - number  # by the decoder, in spite of the flag
        if 0 < dropped < packets / 2:  # of some interlaced videos a packet is half a frame
            report.broken += dropped

    def _demuxed(self) -> Iterator[Any]:
        """The video's packets up to the end, or to where a cut-short file stops making sense."""
        import av

        packets = self._container.demux([one for one in (self._stream, self._audio) if one is not None])
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return
            if packet is None:
                return
            if packet.stream is self._stream or packet.stream.index == self._stream.index:
                yield packet
            elif packet.size:
                self._packets.append(packet)


def _upright(image: Image.Image, rotation: int) -> Image.Image:
    """Turn an image by the counter-clockwise degrees that phones store beside a video."""
    turns = {
        1: Image.Transpose.ROTATE_90,
        2: Image.Transpose.ROTATE_180,
        3: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(round(rotation / 90) % 4)
    return image if turn is None else image.transpose(turn)


def _frame_rate(stream: Any) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 0 < rate <= 1000:
        return _USUAL_RATE
    return Fraction(rate).limit_denominator(1001)  # that of 29.97 is exactly 30000 / 1001


def open_video(path: Path) -> Any:
    """A video as PyAV's container, to be closed by the caller.

    Raises:
        StmineError: not a readable video.
    """
    av = _pyav()
    if not path.exists():
        raise StmineError(f"{path}: expected a video, found nothing.")
    if path.is_file() and path.stat().st_size == 0:
        raise StmineError(f"{path}: the file is empty; copy or record it again.")
    # Nothing is decoded whose frames are larger, not even to learn what is in the file.
    options = {"protocol_whitelist": "file", "max_pixels": str(MAX_FRAME_PIXELS)}
    try:
        container = av.open(str(path), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise StmineError(
            f"{path}: neither an image nor a video that can be read ({_reason(error)}). A recording that was cut "
            "short may lack its index: record or download it again."
        ) from None
    if not _CONTAINERS & set(container.format.name.split(",")):
        kind = container.format.long_name or container.format.name
        container.close()
        raise StmineError(f"{path}: expected an image or a video, found a file of the format {kind!r}.")
    try:
        stream = video_stream(container)
        if stream.width * stream.height > MAX_FRAME_PIXELS:
            raise StmineError(
                f"frames of {stream.width} x {stream.height} px are over the limit of {MAX_FRAME_PIXELS / 1e6:.1f} "
                "megapixels: shrink the video."
            )
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    except StmineError as error:
        container.close()
        raise StmineError(f"{path}: {error}") from None
    return container


def video_stream(container: Any) -> Any:
    """The video stream in a container that a player would choose; not a cover image.

    Raises:
        StmineError: there is none.
    """
    import av

    streams = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        cover = ", only a cover image" if container.streams.video else ""
        raise StmineError(f"there is no video in this file that can be decoded{cover}.")
    best = container.streams.best("video")
    return next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])


def _audio_stream(container: Any, source: str | Path) -> Any:
    """
    Raises:
        StmineError: there is no audio, or none that an MP4 holds.
    """
    stream = container.streams.best("audio")
    if stream is None or stream.codec_context is None:
        raise StmineError(f"{source}: --audio was given, but there is no audio in this file: omit it.")
    if stream.codec_context.name not in _MP4_AUDIO:
        raise StmineError(
            f"{source}: its audio ({stream.codec_context.name}) cannot be copied into an MP4, which holds "
            f"{', '.join(sorted(_MP4_AUDIO))}: convert the file first, or omit --audio."
        )
    return stream


def _open_camera(camera: re.Match[str]) -> Any:
    """
    Raises:
        StmineError: no such camera, or this system's cameras cannot be opened.
    """
    av = _pyav()
    kind = _CAMERA_FORMATS.get(sys.platform)
    if kind is None:
        raise StmineError(f"cameras of this system ({sys.platform}) cannot be opened; record a video and pass that.")
    number = int(camera[1] or 0)
    options = {}
    if kind == "v4l2":
        device = camera[2] or f"/dev/video{number}"
    else:
        names = _camera_names(av, kind)
        device = str(number)
        if kind == "dshow":
            device = f"video={names[number]}" if number < len(names) else "video="
        else:
            options["framerate"] = "30"  # without it, many cameras are refused
    try:
        return av.open(device, format=kind, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        there = ", ".join(_camera_names(av, kind)) or "none"
        raise StmineError(
            f"camera {device}: cannot be opened ({_reason(error)}). Cameras found here: {there}. Plug one in, allow "
            "this program to use it, or pass a video file."
        ) from None


def _camera_names(av: Any, kind: str) -> list[str]:
    """The available cameras, number 0 first (on Linux, whose numbers have gaps, with the numbers)."""
    if kind == "v4l2":
        return [str(path) for path in sorted(Path("/dev").glob("video*"))]
    try:
        devices = av.enumerate_input_devices(kind)
    except (AttributeError, OSError, ValueError):  # an older PyAV, or a device without this information
        return []
    return [device.description for device in devices if "video" in device.media_types]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise StmineError("videos and cameras need PyAV: pip install 'stmine-hf[video]'") from None
    av.logging.set_level(None)  # broken frames are counted and reported in one line
    return av


class _VideoWriter:
    """Writer of an MP4; the first frame sets the size.

    Args:
        path: where to.
        rate: average frames per second.
        aspect: width of a pixel divided by its height; None: square.
        audio: the stream of another file whose packets `write_audio` gets; None: there is none.
    """

    def __init__(self, path: Path, rate: Fraction, aspect: Fraction | None, audio: Any = None):
        self._path = path
        self._rate, self._aspect, self._audio_source = rate, aspect, audio
        # Fine enough for uneven times, and a whole number of ticks for each frame of an even video.
        self._ticks = rate.numerator * max(1, _FINEST_TICKS // rate.numerator)
        self._ticks = self._ticks if self._ticks <= 65_535 else _FINEST_TICKS
        self._container: Any = None
        self._audio: Any = None
        self._last = -1

    def __enter__(self) -> _VideoWriter:
        return self

    def write(self, image: Image.Image, seconds: float) -> None:
        """Add a frame that is shown from `seconds` on."""
        import av

        # The encoders' colours come in blocks of two by two pixels.
        even = image.crop((0, 0, image.width + image.width % 2, image.height + image.height % 2))
        if self._container is None:
            self._container = av.open(str(self._path), "w", format="mp4")
            self._stream = self._new_stream(even.size)
            if self._audio_source is not None:
                self._audio = self._container.add_stream_from_template(self._audio_source)
        self._last = max(self._last + 1, round(seconds * self._ticks))
        frame = av.VideoFrame.from_image(even)
        frame.pts, frame.time_base = self._last, Fraction(1, self._ticks)
        self._container.mux(self._stream.encode(frame))

    def write_audio(self, packets: list[Any], start: float | None) -> None:
        """Add packets of the audio, `start` seconds earlier than they were; earlier ones are dropped."""
        if self._audio is None or start is None:
            return
        for packet in packets:
            if packet.pts is None or packet.dts is None:
                continue
            shift = round(start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if packet.pts >= 0:
                packet.stream = self._audio
                self._container.mux(packet)

    def _new_stream(self, size: tuple[int, int]) -> Any:
        import av

        for name, options in _ENCODERS.items():
            try:
                stream = self._container.add_stream(name, rate=self._rate, options=options)
            except av.codec.codec.UnknownCodecError:
                continue
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, self._ticks)
            if not options:
                stream.bit_rate = round(_BITS_PER_PIXEL * size[0] * size[1] * float(self._rate))
            if self._aspect:
                stream.codec_context.sample_aspect_ratio = self._aspect
            return stream
        raise StmineError("this PyAV can write neither H.264 nor MPEG-4: pip install --force-reinstall av")

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._container is None:
            return
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
