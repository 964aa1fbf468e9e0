"""The contact sheet and the page: whole, escaped, and never stopped by a title, a name or a missing file."""

import base64
import io
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from PIL import Image

from stmine_hf.search import Hit
from stmine_hf.search.present import contact_sheet, html_page

TITLES = [
    "many planes near a terminal",
    "机场航站楼附近有很多飞机",
    "самолёты مطار 飛行機 🛩️",
    "<script>alert(\"x\")</script> & 'quotes'",
    "word " * 10_000,
    "w" * 5000,
    "two\nlines\tand \x00 bytes \udce9",
    "",
]


@pytest.fixture
def hits(tmp_path):
    """A wide, a high, a tiny, a missing and a corrupt image, with awkward names."""
    folder = tmp_path / "out" / 'pic & "tures" #1'
    folder.mkdir(parents=True)
    names = ["100% wide <b>.png", "hoch-größe 机场.png", "tiny.png", "gone.png", "corrupt.png"]
    for name, size, colour in zip(names, [(900, 100), (100, 900), (1, 1)], ["red", "green", "blue"], strict=False):
        Image.new("RGB", size, colour).save(folder / name)
    (folder / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n corrupt")
    return [Hit(rank, 0.5 - 0.1 * rank, folder / name) for rank, name in enumerate(names, start=1)]


@pytest.mark.parametrize("title", TITLES, ids=range(len(TITLES)))
def test_a_sheet_is_drawn_whatever_the_title(hits, tmp_path, title):
    contact_sheet(hits, tmp_path / "new folder" / "sheet.png", title=title)
    with Image.open(tmp_path / "new folder" / "sheet.png") as sheet:
        sheet.load()
    assert sheet.mode == "RGB" and sheet.width == 5 * 260 + 20 and sheet.height < 600
    values = np.asarray(sheet).reshape(-1, 3)
    for colour in ("red", "green", "blue"):
        expected = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
        assert (values == expected).all(axis=1).sum() > 1000, f"the {colour} thumbnail is missing"


@pytest.mark.parametrize("number", [0, 1, 4, 11])
def test_a_sheet_grows_with_its_hits(hits, tmp_path, number):
    contact_sheet((hits * 3)[:number], tmp_path / "sheet.png", title="planes")
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (20 + 260 * max(3, min(5, number)), 108 + -(-number // 5) * 312)


def test_a_sheet_stops_at_200_hits_and_a_page_does_not(hits, tmp_path):
    many = [Hit(rank, 0.1, hits[2].path) for rank in range(1, 261)]
    contact_sheet(many, tmp_path / "sheet.png", title="planes")
    assert Image.open(tmp_path / "sheet.png").height == 108 + 40 * 312
    html_page(many, tmp_path / "page.html", title="planes")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<img") == 260


class Page(HTMLParser):
    """Checks that tags are balanced, and collects them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("title", TITLES, ids=range(len(TITLES)))
def test_a_page_is_whole_and_needs_no_other_file(hits, tmp_path, title):
    html_page(hits, tmp_path / "out" / "page.html", title=title)
    page = Page((tmp_path / "out" / "page.html").read_text(encoding="utf-8"))
    assert not page.all("script") and not page.all("link") and not page.all("b")
    assert "prefers-color-scheme: dark" in page.text and "100% wide <b>.png" in page.text
    assert "file not found" in page.text and "corrupt" in page.text
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 3
    for source, size in zip(sources, [(320, 36), (36, 320), (320, 320)], strict=True):
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == size


def test_links_lead_to_the_images_from_wherever_the_page_lies(hits, tmp_path):
    html_page(hits, tmp_path / "out" / "page.html", title="planes")
    html_page(hits, tmp_path / "elsewhere" / "page.html", title="planes")
    below = [link["href"] for link in Page((tmp_path / "out" / "page.html").read_text("utf-8")).all("a")]
    outside = [link["href"] for link in Page((tmp_path / "elsewhere" / "page.html").read_text("utf-8")).all("a")]
    for hit, relative, absolute in zip(hits, below, outside, strict=True):
        assert Path(os.path.normpath(tmp_path / "out" / unquote(relative))) == hit.path
        assert not set(relative) & set('#?"<> %') - {"%"}
        assert absolute.startswith("file:///") and unquote(urlparse(absolute).path) == str(hit.path)
