"""Changes of a file as damage, other programs and malice make them: of bytes, numbers, names and structure."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

Case = dict[str, bytes]  # the files of a folder

_BYTES = (0x00, 0x01, 0x0A, 0x0D, 0x20, 0x22, 0x2C, 0x7F, 0x80, 0xFE, 0xFF)
_WORDS = (
    b"null", b"true", b"[]", b"{}", b'""', b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"-0.0", b"1.5", b"2147483648",
    b"9223372036854775808", b"1" + b"0" * 29, b"9" * 5000, b'"\\ud800"', b'"\\u0000"', b'"../../x"', b'"/etc/passwd"',
    b"[" * 70 + b"]" * 70, b"[" * 3000 + b"]" * 3000, b'{"a":{"a":[{}]}}', b'"' + b"x" * 300 + b'"', b"\xff\xfe",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[2J", b"&a", b"*a", b"!!python/object:os.system", b"'", b"---", b"=1+1",
)  # fmt: skip
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[\w.]+')


def mutate(chance: random.Random, case: Case, files: list[str]) -> tuple[str, bytes]:
    """One of the files, changed in one to four ways; now and then it is empty, or another file's content.

    Args:
        chance: decides.
        case: the folder.
        files: those that may be changed.
    """
    name = chance.choice(files)
    content = case[name]
    if chance.random() < 0.02:
        return name, case[chance.choice(sorted(case))] if chance.random() < 0.7 else b""
    inner = _STRUCTURED.get(name.rpartition(".")[2])
    if inner and chance.random() < 0.6:
        try:
            return name, inner(chance, content)
        except (ValueError, KeyError, IndexError, struct.error, zipfile.BadZipFile):
            pass
    return name, _some(chance, content)


def _some(chance: random.Random, content: bytes) -> bytes:
    text = b"\0" not in content[:512]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        kinds = (*_ANY, *_TEXT * 2) if text else _ANY
        content = chance.choice(kinds)(chance, content)
    return content[: 1 << 20]


def _flip(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[_place(chance, len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _set(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content or b"\0")
    changed[_place(chance, len(changed))] = chance.choice(_BYTES)
    return bytes(changed)


def _number(chance: random.Random, content: bytes) -> bytes:
    """A number of a binary header becomes an extreme one."""
    width = chance.choice((1, 2, 4, 4, 8))
    value = chance.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**16 - 1, 2**24, 10**5, 255, 2**40)) % 256**width
    at = _place(chance, max(1, len(content) - width))
    return content[:at] + value.to_bytes(width, chance.choice(("big", "little"))) + content[at + width :]


def _insert(chance: random.Random, content: bytes) -> bytes:
    at = chance.randint(0, len(content))
    return content[:at] + bytes(chance.choice(_BYTES) for _ in range(chance.choice((1, 2, 9)))) + content[at:]


def _remove(chance: random.Random, content: bytes) -> bytes:
    at = chance.randint(0, len(content))
    return content[:at] + content[at + chance.choice((1, 1, 2, 16, 100)) :]


def _truncate(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randint(0, len(content))]


def _repeat(chance: random.Random, content: bytes) -> bytes:
    at = chance.randint(0, len(content))
    piece = content[at : at + chance.choice((1, 8, 64, 400))]
    return content[:at] + piece * chance.choice((2, 2, 3, 50)) + content[at:]


def _swap(chance: random.Random, content: bytes) -> bytes:
    first, second, third = sorted(chance.randint(0, len(content)) for _ in range(3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def _word(chance: random.Random, content: bytes) -> bytes:
    """A number, string or word of a text becomes another one."""
    found = list(_TOKEN.finditer(content[:200_000]))
    if not found:
        return content + chance.choice(_WORDS)
    token = chance.choice(found)
    new = chance.choice(_WORDS) if chance.random() < 0.8 else chance.choice(found)[0]
    return content[: token.start()] + new + content[token.end() :]


def _line(chance: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[other])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        return content.replace(b"\n", chance.choice((b"\r", b"\r\n", b"", b"\n\n")))
    return b"\n".join(lines)


def _encode(chance: random.Random, content: bytes) -> bytes:
    encoding = chance.choice(("utf-16", "utf-8-sig", "utf-16-be", "gb18030", "utf-32"))
    return content.decode("utf-8", "replace").encode(encoding, "replace")


_ANY: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip, _flip, _set, _number, _number, _insert, _remove, _truncate, _repeat, _swap,
)  # fmt: skip
_TEXT: tuple[Callable[[random.Random, bytes], bytes], ...] = (_word, _word, _word, _line, _encode)


def _place(chance: random.Random, length: int) -> int:
    """Anywhere, but half of the time near the begin, where headers are."""
    return chance.randrange(min(length, 128) if chance.random() < 0.5 else length)


# ---- structure that stays valid around the change ----


def _json_value(chance: random.Random, content: bytes) -> bytes:
    """A value of a JSON document is replaced, removed, or moved to another key."""
    document = json.loads(content)
    holders = []

    def collect(value: object) -> None:
        keys: object = ()
        if isinstance(value, dict):
            keys = list(value)
        elif isinstance(value, list):
            keys = range(len(value))
        for key in list(keys):  # type: ignore[call-overload]
            holders.append((value, key))
            collect(value[key])  # type: ignore[index]

    collect(document)
    if not holders:
        return _some(chance, content)
    holder, key = chance.choice(holders)
    kind = chance.randrange(5)
    values = (None, True, [], {}, "", -1, 0, 1, 2**31, 2**63, 1e308, float("nan"), "x", "\ud800", "../x", [[]], 10**40)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = chance.choice(holders)
        holder[key] = other[place] if other is not holder[key] else None
    elif kind == 2:
        holder[key] = [holder[key]]
    else:
        holder[key] = chance.choice(values)
    try:
        return json.dumps(document).encode()
    except ValueError:  # a circle
        return _some(chance, content)


def _json_line(chance: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = chance.randrange(len(lines))
    lines[at] = _json_value(chance, lines[at])
    return b"\n".join(lines)


def _png(chance: random.Random, content: bytes) -> bytes:
    """A chunk of a PNG is changed and its checksum set right."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        chunks.append([kind, content[at + 8 : at + 8 + length]])
        at += 12 + length
    chunk = chance.choice(chunks)
    if chunk[0] == b"IDAT" and chance.random() < 0.5:
        chunk[1] = zlib.compress(_some(chance, zlib.decompress(chunk[1])))
    else:
        chunk[1] = _some(chance, chunk[1])
    if chance.random() < 0.1:
        chunks.insert(chance.randrange(len(chunks)), chance.choice(chunks))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return content[:8] + b"".join(packed)


def _zipped(chance: random.Random, content: bytes) -> bytes:
    """A member of a zip is changed; the zip stays whole."""
    return _with_a_member_changed(chance, content, zipfile.ZIP_DEFLATED)


def _stored(chance: random.Random, content: bytes) -> bytes:
    """The same of a zip that compresses nothing."""
    return _with_a_member_changed(chance, content, zipfile.ZIP_STORED)


def _with_a_member_changed(chance: random.Random, content: bytes, compression: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = chance.choice(sorted(members))
    members[name] = _some(chance, members[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data, compression)
    return packed.getvalue()


def _safetensors(chance: random.Random, content: bytes) -> bytes:
    """The header of a safetensors file is changed and its length set right."""
    (length,) = struct.unpack("<Q", content[:8])
    header = _json_value(chance, content[8 : 8 + length]) if chance.random() < 0.5 else b""
    header = header or _some(chance, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


_STRUCTURED = {
    "json": _json_value,
    "jsonl": _json_line,
    "png": _png,
    "xlsx": _zipped,
    "pth": _stored,
    "safetensors": _safetensors,
}
