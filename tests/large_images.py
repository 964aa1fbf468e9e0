"""Large images in small files."""

from __future__ import annotations

import zlib
from pathlib import Path

# For programs: their peak memory in MB. `ru_maxrss` would begin with that of the process that starts them.
PEAK = """
import re

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
"""


def png(path: Path, width: int, height: int, bits: int, colors: int) -> Path:
    """A black PNG, written without ever holding it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    row = bytes(1 + width * bits // 8 * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colors])
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colors, 0, 0, 0])
    palette = chunk(b"PLTE", bytes(6)) if colors == 3 else b""
    content = chunk(b"IHDR", header) + palette + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path
