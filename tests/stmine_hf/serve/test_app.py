"""The service's addresses: right answers alone and in batches, limits, the key, and every bad input."""

import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
from helpers_serve import POSTS, SENTENCES, drawing, make_models, opened, png, text_of
from PIL import Image
from starlette.testclient import TestClient

from stmine_hf.detect import Detector
from stmine_hf.errors import StmineError
from stmine_hf.loading import load_mttv
from stmine_hf.posts.reasons import classified
from stmine_hf.search import ImageIndex, Where
from stmine_hf.serve.app import create_app
from stmine_hf.serve.limits import Limits
from stmine_hf.serve.service import DETECT, Models, Service

CLOSE = 1e-5  # of embeddings and scores, to those of a model that answers one by one


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def client(models):
    with TestClient(create_app(opened(models)), raise_server_exceptions=False) as client:
        yield client


def one_by_one(models, **limits):
    return TestClient(create_app(opened(models, **limits)), raise_server_exceptions=False)


def scores_of(answer):
    return [hit["score"] for hit in answer["hits"]]


def test_embeddings_are_those_of_the_index(client, models):
    index = ImageIndex.open(models.index)
    answer = client.post("/embed", json={"texts": SENTENCES}).json()
    assert (answer["model"], answer["dimension"]) == ("fisvl", 32)
    expected = index.embed([index.reads(sentence) for sentence in SENTENCES])
    assert np.abs(np.array(answer["embeddings"]) - expected).max() < CLOSE
    image = client.post("/embed", json={"images": [text_of(png(drawing(3)))]}).json()["embeddings"]
    assert np.abs(np.array(image) - index.embed([index.prepare(png(drawing(3)))])).max() < CLOSE


def test_embeddings_need_no_table_of_the_images(client, monkeypatch):
    def gone(index):
        raise StmineError("the table cannot be read")

    monkeypatch.setattr(ImageIndex, "columns", property(gone))
    answer = client.post("/embed", json={"texts": SENTENCES}).json()
    assert (answer["model"], len(answer["embeddings"])) == ("fisvl", len(SENTENCES))


@pytest.mark.parametrize("by", ["sentence", "image"])
def test_hits_are_those_of_the_index_without_the_servers_folders(client, models, by):
    asked = {"query": SENTENCES[0]} if by == "sentence" else {"image": text_of(png(drawing(5)))}
    answer = client.post("/search", json={**asked, "k": 4}).json()
    expected = ImageIndex.open(models.index).query(SENTENCES[0] if by == "sentence" else drawing(5), k=4)
    assert [hit["path"] for hit in answer["hits"]] == [hit.path.name for hit in expected]
    assert scores_of(answer) == pytest.approx([hit.score for hit in expected], abs=CLOSE)
    assert str(models.index.parent) not in json.dumps(answer)


@pytest.mark.parametrize(
    "asked, where",
    [
        ({"bbox": "1,9,3,11"}, {"bbox": "1,9,3,11"}),
        ({"bbox": [1, 9, 3, 11]}, {"bbox": "1,9,3,11"}),
        ({"near": [4, 10, 120.5]}, {"near": "4,10,120.5"}),
        ({"from": "2024-01-03", "to": "2024-01-05"}, {"start": "2024-01-03", "end": "2024-01-05"}),
        ({"where": ["cloud<=20", "cloud!=10"]}, {"where": ["cloud<=20", "cloud!=10"]}),
    ],
)
def test_filters_are_those_of_the_index(client, models, asked, where):
    answer = client.post("/search", json={"query": "a bridge", **asked}).json()
    expected = ImageIndex.open(models.index).query("a bridge", where=Where.parse(**where))
    assert 0 < len(expected) < 8
    assert [hit["path"] for hit in answer["hits"]] == [hit.path.name for hit in expected]


def test_hits_of_scenes_have_their_windows_and_coordinates(models, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}
    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 96), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": 96, "height": 64, "count": 3, "dtype": "uint8"}
    with rasterio.open(scenes / "a.tif", "w", **profile, **place) as dataset:
        dataset.write(pixels)
        dataset.update_tags(TIFFTAG_DATETIME="2024:05:31 10:30:00")
    index = ImageIndex.build(
        scenes, tmp_path / "scenes.index", model=models.index.parent / "fisvl", tile=32, overlap=0, progress=False
    )
    with TestClient(create_app(opened(Models(tmp_path / "scenes.index")))) as client:
        hits = client.post("/search", json={"query": "planes", "k": 6}).json()["hits"]
        near = client.post("/search", json={"query": "planes", "near": [15.0, 48.75, 0.05]}).json()["hits"]
    expected = index.query("planes", k=6)
    assert [hit["window"] for hit in hits] == [list(hit.window) for hit in expected] and len(hits) == 6
    for hit in hits:
        left, top, width, height = hit["window"]
        corners = [place["transform"] * corner for corner in ((left, top), (left + width, top + height))]
        lons, lats = rasterio.warp.transform("EPSG:32633", "EPSG:4326", *zip(*corners, strict=True))
        np.testing.assert_allclose([hit["place"][0], hit["place"][2]], list(zip(lons, lats, strict=True)), atol=1e-9)
        assert hit["path"] == "a.tif" and hit["time"] == "2024-05-31T10:30:00+00:00"
    assert 0 < len(near) < 6


def test_an_index_that_is_updated_is_searched_as_it_is_now(models, tmp_path, caplog):
    folder, images = tmp_path / "own.index", tmp_path / "images"
    images.mkdir()
    for number in range(3):
        drawing(number).save(images / f"{number}.png")
    build = {"model": models.index.parent / "fisvl", "progress": False}
    ImageIndex.build(images, folder, **build)
    with TestClient(create_app(opened(Models(folder)))) as client:

        def found():
            hits = client.post("/search", json={"query": "planes"}).json()["hits"]
            return sorted(hit["path"] for hit in hits)

        assert found() == ["0.png", "1.png", "2.png"]
        (images / "0.png").unlink()
        drawing(7).save(images / "7.png")
        ImageIndex.build(images, folder, **build)
        assert found() == ["1.png", "2.png", "7.png"] and client.get("/models").json()["search"]["images"] == 3
        good = (folder / "index.json").read_text()
        (folder / "index.json").write_text("{")
        assert found() == ["1.png", "2.png", "7.png"] and "its former state is searched" in caplog.text
        (folder / "index.json").write_text(good)
        drawing(8).save(images / "8.png")
        ImageIndex.build(images, folder, **build)
        assert found() == ["1.png", "2.png", "7.png", "8.png"]


def test_a_database_whose_open_version_is_removed_is_opened_again(models, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="needs LanceDB: pip install 'stmine-hf[lance]'")
    place, images = tmp_path / "base", tmp_path / "images"
    images.mkdir()
    drawing(0).save(images / "0.png")
    build = {"model": models.index.parent / "fisvl", "progress": False}
    ImageIndex.build(images, f"lancedb://{place}", **build)
    with TestClient(create_app(opened(Models(f"lancedb://{place}")))) as client:

        def found():
            hits = client.post("/search", json={"query": "planes"}).json()["hits"]
            return sorted(hit["path"] for hit in hits)

        assert found() == ["0.png"]
        (images / "0.png").unlink()
        drawing(1).save(images / "1.png")
        ImageIndex.build(images, f"lancedb://{place}", **build)
        table = lancedb.connect(str(place)).open_table("stmine_images")
        table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
        assert found() == ["1.png"] == found()


def test_posts_are_classified_as_by_the_command(client, models):
    network, processor = load_mttv(models.classify)
    for text, images in ((POSTS[0], []), (POSTS[1], [drawing(2)]), ("", [drawing(4), drawing(5)])):
        expected = classified(network, processor, text, images).found
        encoded = [text_of(png(image)) for image in images]
        asked = {"text": text, **({"image": encoded[0] if len(encoded) == 1 else encoded} if encoded else {})}
        answer = client.post("/classify", json=asked).json()
        assert answer["label"] == expected["label"] and answer["model"] == "mttv"
        assert answer["scores"] == pytest.approx(expected["scores"], abs=CLOSE)
        assert answer["characters"] == len(text)


def test_reasons_come_by_flag(client, models):
    asked = {"text": POSTS[1], "image": text_of(png(drawing(2)))}
    network, processor = load_mttv(models.classify)
    expected = classified(network, processor, POSTS[1], [drawing(2)], method="occlusion").found
    answer = client.post("/classify", json={**asked, "explain": True}).json()
    assert [word["word"] for word in answer["words"]] == [word["word"] for word in expected["words"]]
    assert np.allclose(answer["cells"], expected["cells"], atol=1e-4)
    assert "words" not in client.post("/classify", json=asked).json()


def test_a_warning_comes_from_the_models_scope(models, tmp_path):
    import shutil

    from stmine_hf.inference.scope import Scope

    shutil.copytree(models.classify, tmp_path / "model")
    Scope("CJK", 0.5, least_letters=3).save(tmp_path / "model")
    with one_by_one(Models(classify=str(tmp_path / "model"))) as client:
        assert "letters" in client.post("/classify", json={"text": "only Latin words here"}).json()["warning"]
        assert "warning" not in client.post("/classify", json={"text": "这是一条假新闻"}).json()


def test_objects_are_those_of_the_detector(client, models):
    for threshold, classes in ((0.4, None), (0.7, None), (0.5, ["target"])):
        detector = Detector(models.detect, threshold=threshold, classes=classes)
        expected = detector.detect([detector.prepare(drawing(6))])[0]
        asked = {
            "image": text_of(png(drawing(6))),
            "threshold": threshold,
            **({"classes": classes} if classes else {}),
        }
        answer = client.post("/detect", json=asked).json()
        assert (answer["width"], answer["height"]) == drawing(6).size
        assert expected and len(answer["detections"]) == len(expected)
        for one, other in zip(answer["detections"], expected, strict=True):
            assert (one["label"], one["name"]) == (other.label, other.name)
            assert one["score"] == pytest.approx(other.score, abs=1e-4)
            assert one["box"] == pytest.approx(list(other.box), abs=0.02)


def test_multipart_gives_the_answers_of_json(client):
    content = png(drawing(2))
    pairs = [
        ("/embed", {"texts": SENTENCES[:2]}, {"files": [("texts", (None, text)) for text in SENTENCES[:2]]}),
        ("/embed", {"images": [text_of(content)] * 2}, {"files": [("images", content), ("images", content)]}),
        ("/search", {"image": text_of(content), "k": 3, "where": ["cloud<=40"]},
         {"files": {"image": content}, "data": {"k": "3", "where": "cloud<=40"}}),
        ("/classify", {"text": POSTS[0], "image": text_of(content)},
         {"files": {"image": content}, "data": {"text": POSTS[0]}}),
        ("/detect", {"image": text_of(content), "threshold": 0.3, "classes": ["target", "deer"]},
         {"files": {"image": content}, "data": {"threshold": "0.3", "classes": "target,deer"}}),
    ]  # fmt: skip
    for path, asked, form in pairs:
        answer = client.post(path, **form)
        assert answer.status_code == 200, answer.text
        expected = client.post(path, json=asked).json()
        if path == "/embed":
            assert np.allclose(answer.json()["embeddings"], expected["embeddings"], atol=CLOSE)
        else:
            assert answer.json() == expected


def test_requests_that_come_together_get_the_answers_of_single_ones(models):
    """Of all tasks, sizes and texts mixed; and they do share batches."""
    asked = []
    for number in range(24):
        image = text_of(png(drawing(number % 7, side=40 + 8 * (number % 3))))
        asked += [
            ("/search", {"query": SENTENCES[number % 4] + " near a river" * (number % 3), "k": 3}),
            ("/search", {"image": image, "k": 3}),
            ("/classify", {"text": POSTS[number % 4] * (1 + number % 3), **({"image": image} if number % 2 else {})}),
            ("/detect", {"image": image, "threshold": (0.3, 0.5)[number % 2]}),
        ]
    with one_by_one(models, batch=1, wait=0) as client:
        alone = [client.post(path, json=body).json() for path, body in asked]
    with one_by_one(models, batch=8, wait=0.05) as client:
        with ThreadPoolExecutor(32) as pool:
            together = list(pool.map(lambda one: client.post(one[0], json=one[1]).json(), asked))
        metrics = client.get("/metrics").text
    for (path, _), one, other in zip(asked, alone, together, strict=True):
        if path == "/search":
            assert [hit["path"] for hit in one["hits"]] == [hit["path"] for hit in other["hits"]]
            assert scores_of(one) == pytest.approx(scores_of(other), abs=CLOSE)
        elif path == "/classify":
            assert one["scores"] == pytest.approx(other["scores"], abs=CLOSE)
        else:
            assert len(one["detections"]) == len(other["detections"])
            for a, b in zip(one["detections"], other["detections"], strict=True):
                assert a["score"] == pytest.approx(b["score"], abs=1e-4) and a["box"] == pytest.approx(
                    b["box"], abs=0.1
                )
    for model in ("search", "classify", "detect"):
        count = float(
            next(row for row in metrics.splitlines() if f'batch_size_count{{model="{model}"' in row).split()[-1]
        )
        inputs = float(
            next(row for row in metrics.splitlines() if f'batch_size_sum{{model="{model}"' in row).split()[-1]
        )
        assert inputs > count, f"no batch of {model} had two inputs"


def test_only_what_is_named_is_served(models):
    with one_by_one(Models(detect=models.detect)) as client:
        assert set(client.get("/models").json()) == {"detect"}
        for path, body, option in (
            ("/search", {"query": "a"}, "--index"),
            ("/embed", {"texts": ["a"]}, "--index"),
            ("/classify", {"text": "a"}, "--classify-model"),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 404 and option in answer.json()["error"]


def test_nothing_to_serve_is_refused():
    with pytest.raises(StmineError, match="nothing to serve"):
        Models()


PNG = text_of(png(drawing(1)))
BAD = [
    ("/search", {}, "", "either query or image"),
    ("/search", {"query": "a", "image": PNG}, "", "either query or image"),
    ("/search", {"query": ""}, "query", "at least one word"),
    ("/search", {"query": "\ud800?"}, "query", "at least one word"),
    ("/search", {"query": None}, "", "either query or image"),
    ("/search", {"query": 5}, "query", "valid string"),
    ("/search", {"query": "a", "k": 0}, "k", "greater than or equal to 1, found 0"),
    ("/search", {"query": "a", "k": "many"}, "k", "found 'many'"),
    ("/search", {"query": "a", "k": 10**9}, "k", "at most 1000"),
    ("/search", {"query": "a", "bbox": "1,2,3"}, "bbox", "4 numbers"),
    ("/search", {"query": "a", "bbox": [1, 99, 2, 100]}, "bbox", "in degrees"),
    ("/search", {"query": "a", "bbox": [float("nan")] * 4}, "bbox", "4 numbers"),
    ("/search", {"query": "a", "near": "181,0,5"}, "near", "within 180"),
    ("/search", {"query": "a", "near": [0, 0, -1]}, "near", "not negative"),
    ("/search", {"query": "a", "from": "yesterday"}, "from", "a date or time"),
    ("/search", {"query": "a", "from": "2024-02-01", "to": "2024-01-01"}, "", "end after its start"),
    ("/search", {"query": "a", "where": ["cloud"]}, "where", "COLUMN=VALUE"),
    ("/search", {"query": "a", "where": ["rain=1"]}, "where", "no column 'rain'"),
    ("/search", {"query": "a", "where": "cloud=1"}, "where", "list"),
    ("/search", {"query": "a", "where": ["cloud=1"] * 99}, "where", "at most 32"),
    ("/search", {"query": "a", "path": "x.png"}, "path", "Expected query, image, k"),
    ("/search", {"image": "not base64!"}, "image", "base64"),
    ("/search", {"image": 7}, "image", "base64"),
    ("/search", {"image": text_of(b"GIF89a")}, "image", "not an image"),
    ("/search", {"image": ""}, "image", "empty"),
    ("/search", {"image": text_of(png(drawing(1))[:300])}, "image", "corrupt or cut short"),
    ("/embed", {}, "", "either texts or images"),
    ("/embed", {"texts": []}, "texts", "at least 1 item"),
    ("/embed", {"texts": ["a", ""]}, "texts[1]", "at least one word"),
    ("/embed", {"texts": ["a", None]}, "texts[1]", "valid string"),
    ("/embed", {"images": [PNG, "?"]}, "images[1]", "base64"),
    ("/embed", {"images": [PNG, text_of(b"MZ")]}, "images[1]", "not an image"),
    ("/classify", {}, "", "nothing to classify"),
    ("/classify", {"text": " \n"}, "", "nothing to classify"),
    ("/classify", {"text": "a", "image": text_of(b"x")}, "image", "not an image"),
    ("/classify", {"text": "a", "image": text_of(b"x"), "explain": True}, "image", "not an image"),
    ("/classify", {"text": "a", "explain": "perhaps"}, "explain", "valid boolean"),
    ("/detect", {}, "image", "expected a value, found none"),
    ("/detect", {"image": PNG, "threshold": 1}, "threshold", "less than 1"),
    ("/detect", {"image": PNG, "threshold": float("nan")}, "threshold", ""),
    ("/detect", {"image": PNG, "classes": ["zebra"]}, "classes", "no class 'zebra'"),
]


@pytest.mark.parametrize("path, body, item, message", BAD)
def test_bad_values_are_named(client, path, body, item, message):
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"error", "item"}
    assert (answer.json()["item"] or "") == item and message.lower() in answer.json()["error"].lower()


@pytest.mark.parametrize(
    "body, kind, status",
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"k": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"query": "a"}', "text/plain", 415),
        (b'{"query": "a"}', "", 415),
        (b"query=a", "application/x-www-form-urlencoded", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=b", 400),
        (b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\n', "multipart/form-data; boundary=b", 422),
        (b"--b\r\nnonsense\r\n\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n", "multipart/form-data; boundary=b", 400),
        (b'--b\r\nContent-Disposition: form-data; name="query"; filename="a"\r\n\r\nx\r\n--b--\r\n',
         "multipart/form-data; boundary=b", 422),
    ],
)  # fmt: skip
def test_bodies_that_cannot_be_read(client, body, kind, status):
    answer = client.post("/search", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "item"}


@pytest.mark.parametrize(
    "path, body",
    [
        ("/embed", b'{"texts": [' + b"1," * 2_000 + b"1]}"),
        ("/embed", b'{"texts": [' + b"1," * 1_500_000 + b"1]}"),
        ("/search", b'{"query": "a", "where": [' + b"[]," * 1_500_000 + b"[]]}"),
        ("/search", b'{"query": "a", "near": [' + b"1e308," * 10_000 + b"0]}"),
        ("/detect", b"{" + b",".join(b'"%d": 1' % number for number in range(5_000)) + b"}"),
        ("/detect", b'{"image": "", "other": [' + b"{}," * 900_000 + b"{}]}"),
    ],
    ids=["few", "numbers", "lists", "near", "fields", "unknown"],
)
def test_a_body_of_very_many_values_is_refused_at_once(client, path, body):
    """An error for each of them would take 500 times the body's memory."""
    tracemalloc.start()
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 413 and len(answer.text) < 300, answer.text[:300]
    assert peak < 10 * len(body) + 2**27


def test_a_value_that_is_given_twice_is_named(client):
    body = (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\na\r\n' for _ in range(2)) + b"--b--\r\n"
    )
    answer = client.post("/search", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 422 and answer.json()["item"] == "query"


def test_no_path_of_the_server_is_read(client, models, tmp_path):
    """A sentence that is the path of an image stays a sentence, and formats that refer to files are no images."""
    path = str(models.index.parent / "images" / "3.png")
    answer = client.post("/search", json={"query": path, "k": 1})
    assert answer.status_code == 200
    assert scores_of(answer.json())[0] < 0.999, "it was searched for by the image of the path"
    vrt = '<VRTDataset rasterXSize="48" rasterYSize="48"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    vrt += f"<SourceFilename>{path}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{path}"/></svg>'
    postscript = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({path}) run\n"
    for text in (vrt, svg, postscript, path, f"file://{path}"):
        answer = client.post("/detect", json={"image": text_of(text.encode())})
        assert answer.status_code == 422 and "not an image" in answer.json()["error"], text


def test_limits(models):
    huge = png(Image.new("RGB", (300, 300)))
    with one_by_one(models, request_bytes=20_000, pixels=50_000, text=100, inputs=3, images=2) as client:
        assert client.post("/search", json={"query": "a" * 30_000}).status_code == 413
        chunked = client.post(
            "/search", content=iter([b"{" + b" " * 15_000] * 2), headers={"Content-Type": "application/json"}
        )
        assert chunked.status_code == 413 and "20,000 bytes" in chunked.json()["error"]
        for path, name in (("/search", "image"), ("/detect", "image"), ("/classify", "image"), ("/embed", "images")):
            image = text_of(huge)
            answer = client.post(path, json={name: [image] if name == "images" else image})
            assert answer.status_code == 413 and "megapixels" in answer.json()["error"], answer.text
        for path, body in (("/search", {"query": "a " * 51}), ("/classify", {"text": "a" * 101}),
                           ("/embed", {"texts": ["a " * 51]})):  # fmt: skip
            answer = client.post(path, json=body)
            assert answer.status_code == 413 and "characters" in answer.json()["error"]
        assert client.post("/embed", json={"texts": ["a"] * 4}).status_code == 413
        assert client.post("/classify", json={"image": [PNG] * 3}).status_code == 413
        assert client.post("/search", json={"query": "a"}).status_code == 200


class Slow:
    """A task that takes its time."""

    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def prepare(self, asked):
        return asked

    def run(self, asked):
        self.asked += asked
        time.sleep(self.seconds)
        return [{"detections": []} for _ in asked]

    def facts(self):
        return {}


def slow_client(task, **limits):
    service = Service(Models(detect="none"), limits=Limits(**limits))
    service._opening = {DETECT: lambda: task}
    service.open()
    return TestClient(create_app(service), raise_server_exceptions=False)


def test_a_full_queue_asks_to_come_back():
    with slow_client(Slow(0.3), queue=2, batch=1) as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post("/detect", json={"image": PNG}), range(8)))
        assert {answer.status_code for answer in answers} == {200, 503}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(
            answer.headers["Retry-After"] == "1" and "Try again" in answer.json()["error"] for answer in refused
        )
        assert client.post("/detect", json={"image": PNG}).status_code == 200


def test_a_request_has_its_time_and_costs_nothing_afterwards():
    task = Slow(0.4)
    with slow_client(task, seconds=0.2, batch=1) as client:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: client.post("/detect", json={"image": PNG}), range(4)))
        assert {answer.status_code for answer in answers} == {504}
        assert "0.2 s" in answers[0].json()["error"]
        time.sleep(0.5)
        assert len(task.asked) < 4, "requests that nobody waits for went through the model"
        assert 'stmine_queue_length{model="detect"} 0.0' in client.get("/metrics").text


def test_bodies_that_are_held_are_bounded():
    with slow_client(Slow(0.3), held_bytes=3 * len(PNG)) as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post("/detect", json={"image": PNG}), range(8)))
        assert {answer.status_code for answer in answers} == {200, 503}
        assert client.post("/detect", json={"image": PNG}).status_code == 200


def test_a_fault_of_the_service_says_nothing_of_its_inside(models):
    class Broken(Slow):
        def run(self, asked):
            raise RuntimeError("secret path")

    with slow_client(Broken(0)) as client:
        answer = client.post("/detect", json={"image": PNG})
        assert answer.status_code == 500 and "secret" not in answer.text


def test_before_the_models_are_open():
    release = threading.Event()
    service = Service(Models(detect="none"))
    service._opening = {DETECT: lambda: release.wait(20) and Slow(0)}
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        assert client.get("/health").status_code == 200
        assert (client.get("/ready").status_code, client.get("/ready").json()) == (503, {"ready": False})
        assert client.post("/detect", json={"image": PNG}).headers["Retry-After"] == "1"
        release.set()
        end = time.monotonic() + 10
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert client.post("/detect", json={"image": PNG}).status_code == 200


def test_the_key(models):
    service = Service(Models(detect="none"))
    service._opening = {DETECT: lambda: Slow(0)}
    service.open()
    with TestClient(create_app(service, api_key="right-key"), raise_server_exceptions=False) as client:
        for path in ("/models", "/metrics", "/openapi.json", "/nothing"):
            answer = client.get(path)
            assert answer.status_code == 401 and set(answer.json()) == {"error", "item"}, path
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "right-key"}, {"Authorization": "Bearer \xff"},
                        {"Authorization": "Basic right-key"}, {"X-API-Key": "right-key2"}):  # fmt: skip
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            assert client.post("/detect", json={"image": PNG}, headers=encoded).status_code == 401, headers
        for headers in ({"X-API-Key": "right-key"}, {"Authorization": "Bearer right-key"}):
            assert client.post("/detect", json={"image": PNG}, headers=headers).status_code == 200
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_unknown_addresses_and_methods(client):
    assert client.get("/nothing").status_code == 404 and "openapi" in client.get("/nothing").json()["error"]
    assert client.get("/search").status_code == 405 and set(client.get("/search").json()) == {"error", "item"}


def test_metrics_count(models):
    with one_by_one(Models(detect=models.detect)) as client:
        client.post("/detect", json={"image": PNG})
        client.post("/detect", json={"image": "?"})
        client.get("/a/made/up/path")
        text = client.get("/metrics").text
    assert 'stmine_requests_total{endpoint="/detect",status="200"} 1.0' in text
    assert 'stmine_requests_total{endpoint="/detect",status="422"} 1.0' in text
    assert 'stmine_requests_total{endpoint="other",status="404"} 1.0' in text and "made" not in text
    assert 'stmine_request_seconds_bucket{endpoint="/detect",le="+Inf"} 2.0' in text
    assert 'stmine_batch_size_count{model="detect"} 1.0' in text


def test_examples_of_the_openapi_document_work(client):
    document = client.get("/openapi.json").json()
    tried = 0
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content")
        if not content:
            continue
        assert set(content) == {"application/json", "multipart/form-data"}
        for example in content["application/json"]["examples"].values():
            answer = client.post(path, json=example["value"])
            assert answer.status_code == 200, (path, answer.text)
            expected = methods["post"]["responses"]["200"]["content"]["application/json"]["example"]
            assert set(answer.json()) & set(expected), path
            tried += 1
    assert tried >= 9
