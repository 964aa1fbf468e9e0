"""Whatever lies in a folder of images: found or ignored, read or skipped with a reason, never a crash."""

import os
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stmine_hf.images import (
    MAX_PIXELS,
    ImageError,
    content_digest,
    find_images,
    image_pixels,
    looks_like_image,
    open_image,
)

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # it warns of bad metadata, rightly

RED = (200, 30, 40)


def red(size=(48, 40), mode="RGB"):
    return Image.new("RGB", size, RED).convert(mode)


def listing(root, **options):
    skips = []
    paths = [file.path for file in find_images(root, on_skip=skips.append, **options)]
    return paths, dict(skips)


# --- finding ---------------------------------------------------------------------------------------------------------


def test_finds_images_in_subfolders_in_a_fixed_order_and_nothing_else(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/c/1.tif", "a/c/10.webp", "Z.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        red().save(tmp_path / name, format="PNG")
    for name in (".hidden.png", ".git/x.png", "notes.txt", "a/table.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"BM and other text")
    paths, skips = listing(tmp_path)
    assert paths == ["Z.gif", "a/c/1.tif", "a/c/10.webp", "a/z.JPG", "b.png"] and not skips
    file = next(find_images(tmp_path))
    assert (file.size, file.mtime_ns) == ((tmp_path / "Z.gif").stat().st_size, (tmp_path / "Z.gif").stat().st_mtime_ns)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF"])
def test_content_counts_where_the_suffix_says_nothing(tmp_path, kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    red().save(tmp_path / "download", format=kind)
    assert looks_like_image(tmp_path / "download")
    assert listing(tmp_path)[0] == ["download"]


def test_link_loops_end_and_each_folder_is_entered_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    red().save(tmp_path / "a" / "b" / "x.png")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a" / "b" / "x.png")
    paths, skips = listing(tmp_path)
    assert paths == ["a/b/x.png", "linked.png"]
    assert sorted(skips) == ["gone.jpg", "self.png"] and "No such file" in skips["gone.jpg"]


def test_a_folder_named_as_an_image_is_a_folder_and_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    red().save(tmp_path / "x.jpg" / "in.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "other_pipe")
    paths, skips = listing(tmp_path)
    assert paths == ["x.jpg/in.png"] and skips == {"pipe.png": "not a regular file"}


def test_an_unreadable_folder_is_told_and_the_rest_is_found(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    red().save(tmp_path / "open.png")
    scandir = os.scandir

    def refuse(path):  # chmod would not keep root out
        if str(path).rstrip("/").endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    paths, skips = listing(tmp_path)
    assert paths == ["open.png"] and skips == {"locked/": "folder cannot be read: Permission denied"}


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_utf8_is_skipped_with_a_printable_name(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    paths, skips = listing(tmp_path)
    assert paths == [] and skips == {"caf\ufffd.png": "its name is not valid UTF-8: rename it"}


def test_the_excluded_folder_is_not_entered(tmp_path):
    (tmp_path / "index").mkdir()
    for name in ("a.png", "index/sheet.png"):
        red().save(tmp_path / name)
    assert listing(tmp_path, exclude=tmp_path / "index")[0] == ["a.png"]


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("rgb.jpg", red()),
        ("grey.png", red(mode="L")),
        ("bilevel.png", red(mode="1")),
        ("palette.png", red(mode="P")),
        ("cmyk.jpg", red(mode="CMYK")),
        ("ycc.tif", red(mode="YCbCr")),
        ("rgba.png", red(mode="RGBA")),
        ("greyalpha.png", red(mode="LA")),
        ("sixteen.png", Image.fromarray(np.arange(48 * 40, dtype=np.uint16).reshape(40, 48) * 30)),
        ("sixteen.tif", Image.fromarray(np.arange(48 * 40, dtype=np.uint16).reshape(40, 48) * 30)),
        ("float.tif", Image.fromarray(np.linspace(-1, 1, 48 * 40, dtype=np.float32).reshape(40, 48))),
        ("one.png", red((1, 1))),
        ("thin.png", red((1, 3000))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_image_becomes_rgb(tmp_path, name, image):
    image.save(tmp_path / name, compression="tiff_lzw")  # without it Pillow below 13 cannot read its own YCbCr
    image = open_image(tmp_path / name, 32)
    assert image.mode == "RGB" and image.size == image.size


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_an_animation_gives_its_first_frame(tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    red().save(path, save_all=True, append_images=[Image.new("RGB", (48, 40), "blue")] * 2)
    colour = np.asarray(open_image(path, 32)).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(colour, RED, atol=6)


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff"])
def test_the_orientation_mark_is_followed_and_a_broken_one_ignored(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    red((64, 32)).save(tmp_path / f"turned.{kind}", exif=exif)
    assert open_image(tmp_path / f"turned.{kind}", 32).size == (32, 64)
    red((64, 32)).save(tmp_path / "broken.jpg", exif=b"Exif\0\0II*\0 not an exif block at all")
    assert open_image(tmp_path / "broken.jpg", 32).size == (64, 32)


def test_a_wrong_suffix_does_not_matter(tmp_path):
    red().save(tmp_path / "really_a_png.jpg", format="PNG")
    red().save(tmp_path / "really_a_jpeg.tif", format="JPEG")
    for path in tmp_path.iterdir():
        assert open_image(path, 32).size == (48, 40)


def bad_files(folder):
    """{file name: a word of the reason}"""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for kind in ("jpg", "png", "webp", "tif", "gif", "bmp"):
        noise.save(folder / "whole", format={"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()))
        content = (folder / "whole").read_bytes()
        (folder / f"cut.{kind}").write_bytes(content[: len(content) // 2])
        (folder / f"head.{kind}").write_bytes(content[:20])
    (folder / "whole").unlink()
    broken = {path.name: "" for path in folder.iterdir()}
    for name, content, reason in [
        ("empty.jpg", b"", "empty file"),
        ("text.png", b"this is no image", "not an image"),
        ("zeros.jpg", bytes(5000), "not an image"),
        ("page.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # would run Ghostscript
        ("noise.jpg", b"\xff\xd8\xff" + np.random.default_rng(1).bytes(3000), "corrupt"),
    ]:
        (folder / name).write_bytes(content)
        broken[name] = reason
    return broken


def test_bad_files_are_refused_with_a_reason(tmp_path):
    for name, reason in bad_files(tmp_path).items():
        with pytest.raises(ImageError) as refusal:
            open_image(tmp_path / name, 32)
        assert reason in str(refusal.value) and len(str(refusal.value)) < 200, name


def test_random_damage_never_raises_anything_else(tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "x"
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000"):
        red((32, 32)).save(path, format=kind)
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(40):
            damaged = content.copy()
            where = rng.integers(0, min(len(content), 200), 4)
            damaged[where] = rng.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            with suppress(ImageError):
                open_image(path, 32)


def test_missing_forbidden_and_folder_are_told_apart(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="file not found"):
        open_image(tmp_path / "no.jpg", 32)
    with pytest.raises(ImageError, match="a folder, not an image"):
        open_image(tmp_path, 32)
    red().save(tmp_path / "x.png")

    def refuse(*args, **options):  # chmod would not keep root out
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match="no permission"):
        open_image(tmp_path / "x.png", 32)
    with pytest.raises(ImageError, match="no permission"):
        content_digest(tmp_path / "x.png")


def huge_png(path, side):
    """A valid PNG of side x side grey pixels, made without ever holding it."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_a_bomb_is_refused_by_its_header(tmp_path):
    huge_png(tmp_path / "bomb.png", 20_000)
    started = time.monotonic()
    with pytest.raises(ImageError, match="over the limit of 178 megapixels"):
        open_image(tmp_path / "bomb.png", 224)
    assert time.monotonic() - started < 1


def test_a_very_large_jpeg_is_read_at_an_eighth(tmp_path):
    # The header alone is made huge: decoding 400 megapixels would be honest but slow.
    Image.new("L", (20_000, 64), 99).save(tmp_path / "wide.jpg")
    content = bytearray((tmp_path / "wide.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5
    assert content[at : at + 4] == (64).to_bytes(2, "big") + (20_000).to_bytes(2, "big")
    content[at : at + 2] = (20_000).to_bytes(2, "big")
    (tmp_path / "wide.jpg").write_bytes(content)
    assert open_image(tmp_path / "wide.jpg", 224).size == (2500, 2500)  # the decoder fills the rows it lacks

    Image.new("RGB", (6000, 6000), RED).save(tmp_path / "large.jpg")
    image = open_image(tmp_path / "large.jpg", 224)
    assert image.size == (750, 750)
    Image.new("RGB", (6000, 6000), RED).save(tmp_path / "progressive.jpg", progressive=True)
    assert open_image(tmp_path / "progressive.jpg", 224).size == (750, 750)


def test_a_huge_progressive_jpeg_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stmine_hf.images.limits.MAX_PIXELS", 1000)
    red((100, 100)).save(tmp_path / "p.jpg", progressive=True)
    with pytest.raises(ImageError, match="100 x 100 px is over the limit"):
        open_image(tmp_path / "p.jpg", 4)
    red((100, 100)).save(tmp_path / "b.jpg")
    assert open_image(tmp_path / "b.jpg", 4).size == (13, 13)
    assert MAX_PIXELS > 10_980**2, "a full Sentinel-2 tile must pass"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK", "F"])
def test_large_images_of_every_mode_are_shrunk_before_copies_are_made(tmp_path, monkeypatch, mode):
    monkeypatch.setattr("stmine_hf.images.limits.LARGE", 1000)
    path = tmp_path / "x.tif"
    if mode == "I;16":
        Image.fromarray(np.full((100, 120), 700, dtype=np.uint16)).save(path)
    else:
        red((120, 100)).convert(mode).save(path)
    image = open_image(path, 8)
    assert image.mode == "RGB" and image.size == (30, 25)


def test_pixels_are_told_from_the_header(tmp_path):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    (tmp_path / "text.jpg").write_text("text")
    assert [image_pixels(tmp_path / f"{name}.jpg") for name in ("a", "cut", "text", "gone")] == [
        60_000,
        60_000,
        0,
        0,
    ]
