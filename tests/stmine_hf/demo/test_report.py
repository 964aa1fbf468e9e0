"""The tour of the demo: one page that stands alone, in two languages, with what each model said."""

from __future__ import annotations

import base64
import json
import re
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.demo import samples
from stmine_hf.demo.report import Tour, write_report
from stmine_hf.errors import StmineError


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "model": str(save_tiny_fisvl(folder / "fisvl")),
        "mttv": str(save_tiny_mttv(folder / "mttv", num_region_tokens=0)),
        "sat": str(save_tiny_sat(folder / "sat", class_prior=0.6)),  # so sure that something is found
        "hidden": str(save_tiny_sat(folder / "hidden", seed=1)),
    }


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.effect_noise((40, 30), 20 * number).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    return folder


@pytest.mark.slow
def test_the_tour_by_the_command_line(models, images, tmp_path, capsys):
    given = [word for name, folder in models.items() for word in (f"--{name}", folder)]
    queries = ["--query", "<i>planes</i>", "--query", str(images / "2.png")]
    with pytest.raises(SystemExit) as end:
        main(["demo", "--once", "--images", str(images), "--out", str(tmp_path / "out"), *given, *queries])
    assert not end.value.code
    page = tmp_path / "out" / "report.html"
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert (
        '<html lang="en">' in text
        and "The best of 4 images" in text
        and "Skipped because they cannot be read: 1" in text
    )
    assert len(re.findall("<h2>", text)) == 5 and text.count("<img ") >= 2 * 3 + 3 + 3 + 1 + 6 + 1 + 6 + 1
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', text)), "it stands alone"
    (link,) = re.findall('href="data:application/geo[+]json;base64,([^"]*)"', text)
    found = json.loads(base64.b64decode(link))["features"]
    assert found and all(one["properties"]["category"] == "aircraft" for one in found)
    for one in found:
        ring = np.array(one["geometry"]["coordinates"][0])
        assert (np.abs(ring - (2.76, 41.19)).max(axis=0) < 0.02).all(), "where the drawn scene says that it is"
    assert unescape(text).count('"corners"') == 2, "two hits on the map"
    assert "<i>planes" not in text and "&lt;i&gt;planes" in text
    for post in samples.posts():
        assert escape(post.meaning) in text
        assert "".join(re.sub("<[^>]*>", "", text).split()).count("".join(post.text.split())) >= 1


@pytest.mark.slow
def test_the_tour_in_chinese(models, images, tmp_path):
    tour = Tour(
        models["model"], models["mttv"], models["sat"], models["hidden"], images, ("机场上停着许多飞机",), "zh"
    )
    text = write_report(tour, tmp_path, progress=False).read_text(encoding="utf-8")
    assert '<html lang="zh">' in text and "这条帖子像谣言吗" in text
    assert "an airport with planes, planes" in text, "what the search read is told"


def test_usage_is_told(tmp_path, capsys):
    with pytest.raises(StmineError, match="expected en or zh, found 'fr'"):
        write_report(Tour(language="fr"), tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["demo", "--query", "planes"])
    assert end.value.code == 2 and "--once" in capsys.readouterr().err


def test_samples_are_drawn_once_and_never_at_import(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "cache", lambda part: tmp_path)
    monkeypatch.setattr(samples, "SCENES", 6)
    folder = samples.scenes()
    first = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(first) == 6 and samples.scenes() == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == first
    clip = samples.clip()
    written = clip.stat().st_mtime_ns
    assert samples.clip() == clip and clip.stat().st_mtime_ns == written
    assert len(samples.SENTENCES["en"]) == len(samples.SENTENCES["zh"])
