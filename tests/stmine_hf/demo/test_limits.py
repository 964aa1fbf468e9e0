"""What visitors send: too large, broken or out of bounds is refused in words for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from large_images import PEAK
from PIL import Image

from stmine_hf.demo import limits
from stmine_hf.errors import StmineError


def test_texts_are_trimmed_and_bounded():
    assert limits.checked_text("  many planes \0", 20) == "many planes"
    assert limits.checked_text(None, 20) == ""
    assert limits.checked_text("half an emoji \ud83d", 20) == "half an emoji \ufffd"
    with pytest.raises(StmineError, match="21 characters; 20 are allowed"):
        limits.checked_text("x" * 21, 20)


def test_images_come_upright_in_rgb_and_no_larger_than_needed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("L", (2000, 1000)).save(tmp_path / "lying.jpg", exif=exif)
    found = limits.checked_image(tmp_path / "lying.jpg")
    assert found.mode == "RGB" and found.size == (limits.SIDE // 2, limits.SIDE)
    given = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    assert limits.checked_image(given).getpixel((0, 0)) == (255, 255, 255)
    assert given.mode == "RGBA" and given.size == (30, 20)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"GIF89a", "cut short|cannot be read"), (b"<html>", "not an image"), (None, "found none")],
)
def test_bad_files_are_refused(tmp_path, content, words):
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StmineError, match=words):
        limits.checked_image(path)


def test_a_truncated_image_is_refused(tmp_path):
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 80).save(path)
    path.write_bytes(path.read_bytes()[:600])
    for given in (path, Image.open(path)):
        with pytest.raises(StmineError, match="cannot be used: corrupt or cut short"):
            limits.checked_image(given)


def test_images_with_too_many_pixels_or_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PIXELS", 100)
    path = tmp_path / "large.png"
    Image.new("RGB", (11, 10)).save(path)
    for given in (path, Image.open(path)):
        with pytest.raises(StmineError, match="megapixels are allowed"):
            limits.checked_image(given)
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 10)
    with pytest.raises(StmineError, match=r"large\.png has .* MB"):
        limits.checked_image(path)


def test_only_the_given_folder_can_be_named(tmp_path):
    root = tmp_path / "root"
    (root / "harbour").mkdir(parents=True)
    (tmp_path / "root-of-others").mkdir()
    (root / "out").symlink_to(tmp_path)
    assert limits.inside(root, "harbour") == root / "harbour"
    assert limits.inside(root, ".") == root
    for path in ("..", "../root-of-others", "harbour/../..", "out", "out/root-of-others", tmp_path, "/etc"):
        with pytest.raises(StmineError, match="outside"):
            limits.inside(root, path)
    for path in ("nosuch", "a\0b"):
        with pytest.raises(StmineError, match=r"expected a folder|not the path"):
            limits.inside(root, path)


def test_folders_too_large_to_embed_while_one_waits_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_FOLDER", 1)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(StmineError, match="stmine index"):
        limits.require_folder_size(tmp_path)


_PEAK = f"""{PEAK}
import sys
from stmine_hf.demo import limits
before = peak()
assert max(limits.checked_image(sys.argv[1]).size) <= limits.SIDE
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
@pytest.mark.parametrize("mode", ["RGBA", "I;16", "P"])
def test_the_largest_images_allowed_cost_little_memory(tmp_path, mode):
    """In MB, for 40 megapixels: one copy as it is decoded, and little more."""
    Image.new(mode, (6300, 6300), 7).save(tmp_path / "large.png", compress_level=1)
    words = [sys.executable, "-c", _PEAK, tmp_path / "large.png"]
    assert int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) < 400
