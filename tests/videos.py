"""Small videos for tests, made by PyAV, and ways to spoil them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def frame_image(number: int, width: int = 64, height: int = 48) -> Image.Image:
    """An image that tells its number: a bright square on a grey ground, one step further each time."""
    pixels = np.full((height, width, 3), 60, np.uint8)
    left = 4 * number % (width - 8)
    pixels[10:18, left : left + 8] = 250
    return Image.fromarray(pixels)


def write_video(
    path: Path,
    frames: Sequence[Image.Image] | int,
    *,
    rate: Fraction | int = 10,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    faststart: bool = False,
    **context,
) -> Path:
    """Writes images, or so many numbered ones, as a video; `pts` are their times in frames."""
    frames = [frame_image(number) for number in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        stream.codec_context.gop_size = 5
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts = number if pts is None else pts[number]
            frame.time_base = 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], list[float], Fraction]:
    """Its frames (H, W, 3), their seconds, and the frame rate."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        rate = container.streams.video[0].average_rate
    return [frame.to_ndarray(format="rgb24") for frame in frames], [float(frame.time) for frame in frames], rate


def turn_video(path: Path, degrees: int) -> None:
    """Notes in an MP4 that it has to be turned clockwise to be shown, as phones do: the matrix of its track."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # version and flags 4, times, id and duration 20, reserved to volume 16
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = struct.pack(">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    content[at : at + 36] = matrix
    path.write_bytes(content)


def spoil_frame(path: Path, number: int) -> None:
    """Overwrites the data of one frame, keeping its length."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        data = bytes(packets[number])
    content = path.read_bytes()
    assert content.count(data) == 1
    path.write_bytes(content.replace(data, b"\xff" * len(data)))
