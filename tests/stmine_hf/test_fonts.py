"""What is drawn can be read in Chinese, too; where no font has its letters, that is said once."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stmine_hf import fonts
from stmine_hf.data.contact_sheet import contact_sheet
from stmine_hf.evaluation.classification import ClassificationReport
from stmine_hf.fonts import drawable, font_file, font_for, in_every_script

CHINESE = "谣言"


@pytest.fixture
def fresh(monkeypatch):
    """Nothing looked up yet, nothing told."""
    for cached in (fonts._best_file, fonts._path, fonts._opened):
        cached.cache_clear()
    monkeypatch.setattr(fonts, "_told", [])
    yield
    fonts._best_file.cache_clear()
    fonts._path.cache_clear()


@pytest.fixture
def chinese_font() -> str:
    file = font_file(CHINESE)
    if file is None or fonts._lacking(file, frozenset(CHINESE)):
        pytest.skip("no font with Chinese letters on this system")
    return file


def drawn(text: str) -> bytes:
    image = Image.new("L", (60, 60))
    ImageDraw.Draw(image).text((5, 5), text, fill=255, font=font_for(40, text))
    return image.tobytes()


def test_latin_needs_no_font_of_the_system(monkeypatch, fresh):
    monkeypatch.setattr(fonts, "_WIDE_FONTS", ())
    for text in ("", "planes near a terminal", "É þ", "two\nlines"):
        assert font_file(text) is None and font_for(20, text).getlength("abc") > 0
    assert not fonts._told


def test_chinese_letters_differ_from_each_other(chinese_font):
    assert len({drawn(letter) for letter in "谣言卫星"}) == 4


def test_the_font_with_the_letters_is_taken(chinese_font, fresh, monkeypatch):
    monkeypatch.setattr(fonts, "_WIDE_FONTS", ("DejaVuSans.ttf", chinese_font))
    assert font_file(f"{CHINESE} →") == chinese_font
    if (narrow := fonts._path("DejaVuSans.ttf")) is not None:
        assert font_file("Ж") == narrow


def test_letters_that_no_font_has_are_told_once(fresh, monkeypatch, caplog):
    monkeypatch.setattr(fonts, "_WIDE_FONTS", ("no such font.ttf",))
    with caplog.at_level(logging.WARNING):
        for text in (CHINESE, "卫星", CHINESE):
            assert font_for(20, text).getlength(text) > 0  # boxes, but a drawing
    (record,) = caplog.records
    assert "言" in record.getMessage() and "apt install fonts-noto-cjk" in record.getMessage()


def test_names_of_categories_on_a_contact_sheet(chinese_font):
    import datasets

    def sheet(name: str) -> np.ndarray:
        categories = datasets.Features({"category": datasets.ClassLabel(names=[name])})
        objects = {"bbox": [[5.0, 5.0, 80.0, 80.0]], "category": [0], "iscrowd": [False]}
        row = {"image": Image.new("RGB", (100, 100)), "objects": objects}
        features = datasets.Features({"objects": {"category": datasets.List(categories["category"])}})
        return np.asarray(contact_sheet([row], features, side=100))

    assert (sheet("谣") != sheet("卫")).any()


def test_diagrams_show_chinese(chinese_font):
    figures = pytest.importorskip("matplotlib.figure")

    @in_every_script
    def draw():
        figure = figures.Figure()
        figure.subplots().set_title(CHINESE)
        return figure

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each letter that no font has
        draw().canvas.draw()


HOSTILE = ["a$b$c", "$\\frac$", "\ud800\x00\x1b[2J", "x" * 5000, "$\\mathdefault{\\frac$", "$$", "<b>\n[/]"]


def test_names_in_figures_are_no_formulas(tmp_path):
    matplotlib = pytest.importorskip("matplotlib.figure")

    @in_every_script
    def draw():
        figure = matplotlib.Figure()
        above, below = figure.subplots(2)
        above.set_xticks(range(len(HOSTILE)), [*map(drawable, HOSTILE)])
        above.set_title("".join(HOSTILE))
        for name in HOSTILE:
            above.text(0, 0, name)
            below.plot([1, 100], [0, 1], label=name)
        below.set_xscale("log")
        below.legend()
        return figure

    figure = draw()
    figure.savefig(tmp_path / "a.png", dpi=50)
    ticks = [text.get_text() for text in figure.axes[1].get_xticklabels()]
    assert any("10^{1}" in text for text in ticks)
    assert figure.axes[1].get_xticklabels()[1].get_parse_math(), "powers are formulas"
    titles = figure.axes[0].get_title()
    assert "$\\frac$" in titles and "\\x1b[2J" in titles


def test_a_matrix_of_very_many_labels_is_an_image_of_a_usual_size():
    pytest.importorskip("matplotlib")
    truth = np.arange(400)
    report = ClassificationReport(
        np.eye(400), truth, tuple(f"$label {n}$" for n in truth), [*truth], "m", "d", "val", images=0
    )
    assert max(report.draw_confusion().get_size_inches()) < 50
