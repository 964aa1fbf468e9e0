"""A video file written: frames at their own times, and audio copied from another file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import StmineError

_ENCODERS = {"libx264": {"crf": "20", "preset": "veryfast"}, "libopenh264": {}, "mpeg4": {}}
_BITS_PER_PIXEL = 0.2  # for encoders that do not choose by quality
_LONGEST_GAP = 2**28  # ticks between two frames, 75 minutes: MP4 has no more for some of them in a row
_FINEST_TICKS = 60_000  # a second: MPEG-4 has no more than 65,535


class VideoWriter:
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

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, image: Image.Image, seconds: float) -> None:
        """Add a frame that is shown from `seconds` on, or 75 minutes after the one before, whichever is earlier."""
        import av

        # The encoders' colours come in blocks of two by two pixels.
        even = image.crop((0, 0, image.width + image.width % 2, image.height + image.height % 2))
        if self._container is None:
            self._container = av.open(str(self._path), "w", format="mp4")
            self._stream = self._new_stream(even.size)
            if self._audio_source is not None:
                self._audio = self._container.add_stream_from_template(self._audio_source)
        self._last = min(max(self._last + 1, round(seconds * self._ticks)), self._last + _LONGEST_GAP)
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
