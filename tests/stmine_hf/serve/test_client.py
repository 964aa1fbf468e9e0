"""`--server` of the commands: the answers and lines of the commands that run the models themselves."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from helpers_serve import POSTS, SENTENCES, drawing, make_models, opened, png

from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.search import ImageIndex
from stmine_hf.serve.app import create_app
from stmine_hf.serve.client import Client
from stmine_hf.serve.service import Models

KEY = "a-key"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Models:
    return make_models(tmp_path_factory.mktemp("service"))


def address_of(service, request, **options) -> str:
    server = uvicorn.Server(uvicorn.Config(create_app(service, **options), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    request.addfinalizer(thread.join)
    request.addfinalizer(lambda: setattr(server, "should_exit", True))
    end = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.02)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def server(models, request) -> str:
    return address_of(opened(models), request, api_key=KEY)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("STMINE_API_KEY", KEY)


def printed(capsys, *words) -> list[str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert not end.value.code
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("query", [SENTENCES[0], "IMAGE"])
def test_search_prints_the_lines_of_the_local_command(capsys, models, server, query, tmp_path):
    if query == "IMAGE":
        query = tmp_path / "query.png"
        drawing(5).save(query)
    options = ["--k", 3, "--from", "2024-01-02", "--where", "cloud<=60"]
    local = printed(capsys, "search", models.index, query, "--out", tmp_path / "out", *options)
    local = [
        line.replace(f"{models.index.parent / 'images'}/", "") for line in local if not line.startswith("Results")
    ]
    assert printed(capsys, "search", query, "--server", server, *options) == local
    assert len(local) == 5
    found = json.loads("\n".join(printed(capsys, "search", query, "--server", server, "--json", *options)))
    assert found["query"] == str(query) and len(found["hits"]) == 3


def test_search_prints_the_tiles_and_places_of_the_local_command(capsys, models, request, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "scenes").mkdir()
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}
    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 96), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": 96, "height": 64, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scenes" / "a.tif", "w", **profile, **place) as dataset:
        dataset.write(pixels)
    index = tmp_path / "scenes.index"
    ImageIndex.build(tmp_path / "scenes", index, model=models.index.parent / "fisvl", tile=32, progress=False)
    server = address_of(opened(Models(index)), request)
    local = printed(capsys, "search", index, "planes", "--out", tmp_path / "out", "--near", "15,48.74,1")
    local = [line.replace(f"{tmp_path / 'scenes'}/", "") for line in local if not line.startswith("Results")]
    assert printed(capsys, "search", "planes", "--server", server, "--near", "15,48.74,1") == local
    assert len(local) > 3 and all(" at " in line and "N 15." in line for line in local[2:])


def test_classify_prints_the_lines_of_the_local_command(capsys, models, server, tmp_path):
    image = tmp_path / "a.png"
    drawing(3).save(image)
    words = ["classify", "--text", POSTS[1], "--image", image]
    assert printed(capsys, *words, "--server", server) == printed(capsys, *words, "--model", models.classify)
    page = tmp_path / "why.html"
    lines = printed(capsys, *words, "--server", server, "--explain", page)
    assert any("What drove the prediction" in line for line in lines) and "<html" in page.read_text(encoding="utf-8")


def test_detect_writes_what_the_local_command_writes(capsys, models, server, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(5):
        drawing(number).save(images / f"{number}.png")
    (images / "broken.png").write_bytes(b"\x89PNG broken")
    options = ["--threshold", "0.5", "--classes", "target,deer", "--batch-size", 3]
    local = printed(capsys, "detect", images, "--model", models.detect, "--out", tmp_path / "local", *options)
    remote = printed(capsys, "detect", images, "--server", server, "--out", tmp_path / "remote", *options)
    assert [line.partition(", ")[0] for line in remote[:-1]] == [line.partition(", ")[0] for line in local[:-1]]
    here, there = (json.loads((tmp_path / name / "detections.json").read_text()) for name in ("local", "remote"))
    assert here and len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.1)
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    again = printed(capsys, "detect", images, "--model", models.detect, "--out", tmp_path / "remote", *options)
    assert "5 images were already done" in again, "the local command did not continue the folder"


def test_a_client_in_python(models, server):
    client = Client(server)
    assert len(client.embed(texts=SENTENCES)) == 4
    assert client.search(png(drawing(2)), k=1)["hits"][0]["path"] == "2.png"
    assert set(client.classify(POSTS[0])["scores"]) == {"fake", "real"}
    assert client.detect(png(drawing(2)), threshold=0.3)["width"] == 50
    assert set(client.models()) == {"search", "classify", "detect"}


def refusal(capsys, *words) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code in (1, 2)
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_mistakes(capsys, models, server, monkeypatch, tmp_path):
    assert "no service can be reached" in refusal(capsys, "search", "a", "--server", "http://127.0.0.1:9")
    assert "expected an address" in refusal(capsys, "search", "a", "--server", "ftp://127.0.0.1")
    assert "expected an address" in refusal(capsys, "search", "a", "--server", "http://a:b")
    assert "the QUERY alone" in refusal(capsys, "search", models.index, "a", "--server", server)
    assert "--heatmap does not go" in refusal(capsys, "search", "a", "--server", server, "--heatmap")
    assert "no such image" in refusal(capsys, "search", "none.png", "--server", server)
    assert "near: expected" in refusal(capsys, "search", "a", "--server", server, "--near", "1,2")
    assert "no column 'x'" in refusal(capsys, "search", "a", "--server", server, "--where", "x=1")
    assert "--model does not go" in refusal(capsys, "classify", "--text", "a", "--model", "m", "--server", server)
    drawing(1).save(tmp_path / "a.png")
    words = ["detect", tmp_path / "a.png", "--out", tmp_path / "out", "--server", server]
    assert "--iou does not go" in refusal(capsys, *words, "--iou", 0.5)
    assert "one score" in refusal(capsys, *words, "--threshold", "0.4,deer=0.3")
    assert "no class 'zebra'" in refusal(capsys, *words, "--classes", "zebra")
    monkeypatch.setenv("STMINE_API_KEY", "wrong")
    assert "STMINE_API_KEY" in refusal(capsys, "search", "a", "--server", server)


def test_a_service_without_the_model(models, request):
    address = address_of(opened(Models(detect=models.detect)), request)
    with pytest.raises(StmineError, match="--index"):
        Client(address).search("a")


def test_a_busy_service_is_asked_again(models, request):
    service = opened(Models(detect=models.detect))
    turns = iter([False, False])
    real = service.served

    def served(name):
        from stmine_hf.serve.problems import busy

        if next(turns, True):
            return real(name)
        raise busy("later")

    service.served = served
    address = address_of(service, request)
    assert Client(address).detect(png(drawing(1)))["width"] == 49


def test_the_client_needs_no_heavy_library(server):
    import subprocess
    import sys

    code = (
        "import sys\nfrom stmine_hf.cli import main\n"
        f"for words in (['search', 'a bridge'], ['classify', '--text', 'a']):\n"
        f"    try: main([*words, '--server', {server!r}])\n"
        "    except SystemExit as end: assert not end.code\n"
        "loaded = {'torch', 'transformers', 'datasets', 'faiss', 'pyarrow', 'fastapi', 'pandas'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=root)
