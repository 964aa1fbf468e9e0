"""A camera opened as a video."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ..errors import StmineError
from .video_reading import load_pyav, reason_of

_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


def open_camera(camera: re.Match[str]) -> Any:
    """A camera as PyAV's container, to be closed by the caller.

    Args:
        camera: match of `sources.CAMERA`.

    Raises:
        StmineError: no such camera, or this system's cameras cannot be opened.
    """
    av = load_pyav()
    kind = _CAMERA_FORMATS.get(sys.platform)
    if kind is None:
        raise StmineError(f"cameras of this system ({sys.platform}) cannot be opened; record a video and pass that.")
    number = int(camera[1] or 0)
    options = {}
    if kind == "v4l2":
        device = camera[2] or f"/dev/video{number}"
    else:
        names = camera_names(av, kind)
        device = str(number)
        if kind == "dshow":
            device = f"video={names[number]}" if number < len(names) else "video="
        else:
            options["framerate"] = "30"  # without it, many cameras are refused
    try:
        return av.open(device, format=kind, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        there = ", ".join(camera_names(av, kind)) or "none"
        raise StmineError(
            f"camera {device}: cannot be opened ({reason_of(error)}). Cameras found here: {there}. Plug one in, allow "
            "this program to use it, or pass a video file."
        ) from None


def camera_names(av: Any, kind: str) -> list[str]:
    """The available cameras, number 0 first (on Linux, whose numbers have gaps, with the numbers)."""
    if kind == "v4l2":
        return [str(path) for path in sorted(Path("/dev").glob("video*"))]
    try:
        devices = av.enumerate_input_devices(kind)
    except (AttributeError, OSError, ValueError):  # an older PyAV, or a device without this information
        return []
    return [device.description for device in devices if "video" in device.media_types]
