"""A video file read: opened within limits, its frames in order, the packets of its audio."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import StmineError

if TYPE_CHECKING:
    from .video import VideoReport

# Only these formats count as videos: others are images, texts, or lists that name further files.
# fmt: off
_CONTAINERS = frozenset({
    "mov", "mp4", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "asf", "flv", "ogg", "m4v", "mjpeg",
    "h264", "hevc", "ivf", "yuv4mpegpipe", "mxf", "dv",
})
# fmt: on
# What an MP4 holds as it is.
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
# 8K. Of larger frames, a few would fill the memory.
MAX_FRAME_PIXELS = 8192 * 4320
_MANY_PIXELS = 4096 * 2304  # of a frame; above, decoders work on fewer frames at a time
_MOST_THREADS = 8  # of a decoder, each of which holds a frame
_USUAL_RATE = Fraction(25)  # frames a second where neither file nor camera states a rate


def open_video(path: Path) -> Any:
    """A video as PyAV's container, to be closed by the caller.

    Raises:
        StmineError: not a readable video.
    """
    av = load_pyav()
    if not path.exists():
        raise StmineError(f"{path}: expected a video, found nothing.")
    if path.is_file() and path.stat().st_size == 0:
        raise StmineError(f"{path}: the file is empty; copy or record it again.")
    # Larger frames are never decoded, not even to inspect the file.
    options = {"protocol_whitelist": "file", "max_pixels": str(MAX_FRAME_PIXELS)}
    try:
        container = av.open(str(path), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise StmineError(
            f"{path}: neither an image nor a video that can be read ({reason_of(error)}). A recording that was cut "
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


def audio_stream(container: Any, source: str | Path) -> Any:
    """The audio that a player would choose, to be copied into an MP4.

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


def frame_rate(stream: Any) -> Fraction:
    """Frames a second: as stated in the file, if plausible."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 0 < rate <= 1000:
        return _USUAL_RATE
    return Fraction(rate).limit_denominator(1001)  # that of 29.97 is exactly 30000 / 1001


class VideoReader:
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
        rate, packets, number = frame_rate(stream), 0, 0
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
        """The video's packets up to the end, or to where a truncated file can no longer be decoded."""
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


def is_mirrored(frame: Any) -> bool:
    """Whether players show a frame mirrored: upside down first, then turned by its rotation."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None or len(matrix := bytes(stored)) != 36:
        return False
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    return a * d - b * c < 0


def upright(image: Image.Image, rotation: int) -> Image.Image:
    """Turn an image by the counter-clockwise degrees that phones store beside a video."""
    turns = {
        1: Image.Transpose.ROTATE_90,
        2: Image.Transpose.ROTATE_180,
        3: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(round(rotation / 90) % 4)
    return image if turn is None else image.transpose(turn)


def load_pyav() -> Any:
    """The library that reads and writes videos, with its own log turned off.

    Raises:
        StmineError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise StmineError("videos and cameras need PyAV: pip install 'stmine-hf[video]'") from None
    av.logging.set_level(None)  # broken frames are counted and reported in one line
    return av


def reason_of(error: Exception) -> str:
    """PyAV's message of an error, in one line."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
