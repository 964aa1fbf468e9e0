"""The doors through which files come in or go out, each with folders that it opens and that the fuzzer changes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import torch
from data_folders import source as write_data_set
from fuzz.mutations import Case
from helpers import save_tiny_fisvl, tiny_fisvl
from helpers_mttv import save_tiny_mttv, tiny_mttv
from helpers_sat import confident_sat, save_tiny_sat
from PIL import Image
from videos import write_video

from stmine_hf import ImageIndex
from stmine_hf.conversion.official import read_official
from stmine_hf.data import load_dataset, make_builder
from stmine_hf.data.findings import Findings
from stmine_hf.data.tables import table_rows
from stmine_hf.detect.detector import Detector
from stmine_hf.detect.images import detect_images
from stmine_hf.detect.names import AnnotatedNames
from stmine_hf.detect.video import VideoReport
from stmine_hf.detect.video_reading import VideoReader, open_video, video_stream
from stmine_hf.documents import parse_yaml, read_json
from stmine_hf.errors import StmineError
from stmine_hf.explain.attribution import Attribution, Word
from stmine_hf.explain.drawing import explanation_page, explanation_svg
from stmine_hf.export.sat import export_sat, open_exported
from stmine_hf.hub.check import check
from stmine_hf.images import decode_image, find_images, image_errors, image_pixels, open_image
from stmine_hf.inference.scope import Scope
from stmine_hf.loading import load_model
from stmine_hf.methods import METHODS
from stmine_hf.outputs import MARKER, OutputError, Outputs
from stmine_hf.posts.classify import classify_file
from stmine_hf.posts.features import FeatureStore, precompute_features
from stmine_hf.posts.post import Post
from stmine_hf.posts.reading import count_posts, read_posts
from stmine_hf.search.store import FINISHED, read_embeddings, read_manifest, read_rows
from stmine_hf.training.arguments import parse_arguments
from stmine_hf.training.identity import RunIdentity, choose_start

FORMATS_0_1 = Path(__file__).parents[1] / "fixtures" / "formats_0_1"


@dataclass(frozen=True)
class Door:
    """A way in or out.

    Attributes:
        seeds: writes folders below the given one; each is a case.
        open: uses such a folder; a StmineError is a good end.
        changed: whether a file of a case is to be changed, by its path.
        share: of the trials, in comparison with other doors.
    """

    seeds: Callable[[Path], None]
    open: Callable[[Path], object]
    changed: Callable[[str], bool] = lambda name: True
    share: int = 4


def cases_in(folder: Path) -> list[Case]:
    """The cases that the seeds of a door have written."""
    found = []
    for case in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("_")):
        files = sorted(path for path in case.rglob("*") if path.is_file())
        found.append({path.relative_to(case).as_posix(): path.read_bytes() for path in files})
    return found


def noise(seed: int, width: int = 32, height: int = 24, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8))


def _one(folder: Path, name: str, content: bytes | str) -> None:
    """A case of one file."""
    place = folder / f"{len(list(folder.iterdir())):02d}" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)


# ---- images and video ----


def _image_seeds(folder: Path) -> None:
    rgb = noise(0)
    deep = Image.fromarray(np.random.default_rng(1).integers(0, 4000, (24, 32), dtype=np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    written: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("a.png", rgb, {}), ("rgba.png", noise(1, channels=4), {}), ("deep.png", deep, {}),
        ("palette.png", rgb.quantize(16), {"transparency": 3}), ("bits.png", rgb.convert("1"), {}),
        ("a.jpg", rgb, {"exif": turned}), ("progressive.jpg", rgb, {"progressive": True}),
        ("grey.jpg", rgb.convert("L"), {}), ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("a.tif", rgb, {}), ("lzw.tif", rgb, {"compression": "tiff_lzw"}), ("deep.tif", deep, {}),
        ("float.tif", Image.fromarray(np.random.default_rng(2).random((24, 32), dtype=np.float32)), {}),
        ("a.webp", rgb, {}), ("lossless.webp", noise(3, channels=4), {"lossless": True}), ("a.avif", rgb, {}),
        ("a.jp2", rgb, {}), ("a.j2k", rgb.convert("L"), {}), ("a.gif", rgb.quantize(8), {}), ("a.bmp", rgb, {}),
        ("palette.bmp", rgb.quantize(16), {}), ("a.ppm", rgb, {}), ("a.pgm", rgb.convert("L"), {}),
    ]  # fmt: skip
    for name, image, options in written:
        place = folder / name.replace(".", "-") / name
        place.parent.mkdir()
        image.save(place, **options)
    try:
        import tifffile
    except ImportError:
        return
    bands = np.random.default_rng(4).integers(0, 3000, (32, 48, 5), dtype=np.uint16)
    for name, options in (("tiled", {"tile": (16, 16), "compression": "zlib"}), ("planar", {"planarconfig": 2})):
        (folder / name).mkdir()
        data = bands if name == "tiled" else np.moveaxis(bands, 2, 0)
        tifffile.imwrite(folder / name / "bands.tif", data, photometric="minisblack", **options)


def _open_images(folder: Path) -> None:
    for file in find_images(folder, on_skip=lambda skip: None):
        image_pixels(folder / file.path)
        image = open_image(folder / file.path, 64)
        assert image.mode == "RGB" and min(image.size) > 0


def _video_seeds(folder: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")):
        (folder / name.replace(".", "-")).mkdir()
        write_video(folder / name.replace(".", "-") / name, 4, codec=codec)


def _open_video(folder: Path) -> None:
    (path,) = (path for path in folder.iterdir() if path.suffix in (".mp4", ".avi", ".mkv"))
    with open_video(path) as container:
        for _, seconds, frame in VideoReader(container, video_stream(container), None, VideoReport()).frames():
            assert seconds == seconds and frame.width > 0


# ---- tables ----

POSTS = [
    {"id": "p1", "text": "假新闻 fake news", "image": "1.png", "label": "fake"},
    {"id": 2, "text": 'a "quoted", text\nof two lines', "image": "", "label": "real"},
    {"id": "p3", "text": "", "image": ["1.png"], "label": 1.0},
    {"text": "no id", "label": "0"},
]


def _table_seeds(folder: Path) -> None:
    import openpyxl
    import polars

    columns = {"id": ["p1", "2", "p3"], "text": ["假新闻", 'a "b",\nc', ""], "image": ["1.png", "", "1.png"]}
    flat = polars.DataFrame(columns | {"label": ["fake", "real", "1.0"]})
    _one(folder, "posts.jsonl", "".join(json.dumps(post, ensure_ascii=False) + "\n" for post in POSTS))
    _one(folder, "posts.json", json.dumps(POSTS, indent=1))
    _one(folder, "frame.json", json.dumps({"columns": list(columns), "data": [list(r) for r in flat.rows()]}))
    _one(folder, "posts.csv", flat.write_csv())
    _one(folder, "posts.tsv", flat.write_csv(separator="\t"))
    _one(folder, "wide.csv", flat.write_csv(separator=";").encode("utf-16"))
    for name, write in (
        ("posts.parquet", pyarrow.parquet.write_table),
        ("posts.feather", lambda table, path: pyarrow.feather.write_feather(table, path, compression="lz4")),
    ):
        place = folder / name.replace(".", "-")
        place.mkdir()
        image = [{"bytes": b"\x89PNG", "path": None}] * 3
        write(pa.table({**flat.to_arrow().to_pydict(), "img": image}), place / name)
    book = openpyxl.Workbook()
    for row in (list(columns), *flat.rows()):
        book.active.append([*row][:3])
    (folder / "xlsx").mkdir()
    book.save(folder / "xlsx" / "posts.xlsx")


def _open_table(folder: Path) -> None:
    (file,) = (path for path in folder.iterdir() if path.is_file())
    count = sum(1 for _ in table_rows(file, Findings()))
    assert sum(1 for _ in read_posts(file)) == count == count_posts(file)


def _own_seeds(folder: Path) -> None:
    rows = [
        {"image": "1.png", "text": "a plane", "label": "a", "boxes": [[1, 2, 5, 6]], "names": ["x"], "split": "train"},
        {"image": "2.png", "text": "a beach", "label": "b", "boxes": [], "names": [], "split": "val"},
        {"image": "1.png", "text": "a pond", "label": "a", "boxes": [[0, 0, 9, 9]], "names": ["y"], "split": ""},
    ]  # fmt: skip
    for number, text in enumerate(("\n".join(map(json.dumps, rows)), json.dumps(rows))):
        place = folder / str(number)
        place.mkdir()
        (place / ("rows.json" if number else "rows.jsonl")).write_text(text)
        for name in ("1.png", "2.png"):
            noise(len(name)).save(place / name)


_MAPPINGS = {
    "captions": {"image": "image", "captions": "text", "split": "split"},
    "posts": {"image": "image", "text": "text", "label": "label"},
    "boxes": {"image": "image", "bbox": "boxes", "category": "names"},
}


def _open_own(folder: Path) -> None:
    (file,) = folder.glob("rows.*")
    kind = list(_MAPPINGS)[file.read_bytes().__len__() % 3]
    _consume(load_dataset(str(file), kind=kind, column_mapping=_MAPPINGS[kind], streaming=True))


def _data_set_door(name: str) -> Door:
    def seeds(folder: Path) -> None:
        (folder / "0").mkdir()
        write_data_set(name, folder / "0")

    def opened(folder: Path) -> None:
        _consume(make_builder(name, data_dir=folder).as_streaming_dataset())

    def changed(path: str) -> bool:
        return not path.endswith(".png") or hashlib.sha256(path.encode()).digest()[0] < 16

    return Door(seeds, opened, changed, share=3)


def _consume(splits: Any) -> None:
    for rows in splits.values():
        for row in itertools.islice(rows.cast_column("image", datasets.Image(decode=False)), 3):
            if row["image"] is not None:
                with image_errors():
                    decode_image(row["image"])


# ---- models ----


@lru_cache
def _fisvl() -> tuple[Any, Any]:
    return tiny_fisvl()


@lru_cache
def _mttv() -> tuple[Any, Any]:
    return tiny_mttv()


def _model_door(method: str) -> Door:
    def seeds(folder: Path) -> None:
        {"fisvl": save_tiny_fisvl, "mttv": save_tiny_mttv, "sat": save_tiny_sat}[method](folder / "0")

    return Door(
        seeds, lambda folder: load_model(method, folder, "cpu"), lambda name: not name.endswith(".md"), share=2
    )


def _adapter_seeds(folder: Path) -> None:
    shutil.copytree(FORMATS_0_1 / "checkpoints" / "fisvl_lora", folder / "0")
    config = folder / "0" / "best" / "adapter_config.json"
    content = json.loads(config.read_text()) | {"base_model_name_or_path": "base"}
    config.write_text(json.dumps(content))
    for name in ("checkpoint-5", "expected.json"):
        shutil.rmtree(folder / "0" / name, ignore_errors=True)


def _open_adapter(folder: Path) -> None:
    before = os.getcwd()
    os.chdir(folder)  # where its base is
    try:
        load_model("fisvl", "best", "cpu")
    finally:
        os.chdir(before)


def _official_seeds(folder: Path) -> None:
    tensors = {f"layer.{number}.weight": torch.arange(12.0).reshape(3, 4) + number for number in range(4)}
    content = {"model": tensors, "epoch": 3, "settings": {"rate": 0.1, "names": ["a", "b"]}}
    for name, options in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        (folder / name).mkdir()
        torch.save(content, folder / name / "best.pth", **options)


def _open_official(folder: Path) -> None:
    read_official(folder / "best.pth", "a checkpoint", "Download it again.")


def _export_seeds(folder: Path) -> None:
    model, processor = confident_sat()
    export_sat(model, processor, folder / "new", format="onnx")
    shutil.copytree(FORMATS_0_1 / "export" / "sat-onnx", folder / "old")


def _open_export(folder: Path) -> None:
    model, processor = open_exported(folder, threads=1)
    height, width = (int(processor.size[side]) for side in ("height", "width"))
    model(torch.zeros(1, 3, height, width))


# ---- results ----


def _index_seeds(folder: Path) -> None:
    for number in range(4):
        (folder / "new" / "images").mkdir(parents=True, exist_ok=True)
        noise(number).save(folder / "new" / "images" / f"{number}.png")
    ImageIndex.build(folder / "new" / "images", folder / "new" / "index", model=_fisvl(), progress=False, save_every=2)
    for name in ("complete", "unfinished"):
        shutil.copytree(FORMATS_0_1 / "index" / name, folder / name / "index")
        shutil.copytree(FORMATS_0_1 / "index" / "images", folder / name / "images")


def _open_index(folder: Path) -> None:
    images = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    try:
        manifest = read_manifest(folder / "index" / FINISHED)
        if manifest is not None and not manifest.checksums:  # of version 0.1: nothing but the readers guard it
            read_rows(folder / "index", manifest.shards)
            for name in manifest.shards:
                read_embeddings(folder / "index", name)
        index = ImageIndex.open(folder / "index", model=_fisvl(), images=folder / "images")
        assert len(index.query("a plane", k=3)) <= 3
        ImageIndex.build(folder / "images", folder / "index", model=_fisvl(), progress=False)
    finally:
        assert images == {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


def _features_seeds(folder: Path) -> None:
    posts = [Post(f"p{number}", "news", [lambda number=number: noise(number)]) for number in range(4)]
    precompute_features(*_mttv(), posts, folder / "new", progress=False, save_every=2)
    for name in ("complete", "interrupted"):
        shutil.copytree(FORMATS_0_1 / "features" / name, folder / name)


def _open_features(folder: Path) -> None:
    store = FeatureStore.open(folder)
    for key in list(store._rows):
        store.get(key)
    store.require(_mttv()[0].config)
    precompute_features(*_mttv(), [Post("new", "", [lambda: noise(9)])], folder, progress=False)


def _classify_seeds(folder: Path) -> None:
    for name, suffix in (("lines", "jsonl"), ("table", "csv")):
        place = folder / name
        place.mkdir()
        (place / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in POSTS))
        noise(1).save(place / "1.png")
        classify_file(*_mttv(), place / "posts.jsonl", place / f"out.{suffix}", progress=False)
    shutil.copytree(folder / "lines", folder / "cut")
    whole = (folder / "cut" / "out.jsonl").read_bytes()
    (folder / "cut" / "out.jsonl").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "cut" / MARKER).write_text(json.dumps({"file": "out.jsonl", "growing": True}) + "\n")


def _classify(folder: Path) -> None:
    posts, image = (folder / "posts.jsonl").read_bytes(), (folder / "1.png").read_bytes()
    suffix = ("jsonl", "csv", "tsv", "json", "parquet")[len(posts) % 5]
    out = next((path for path in folder.glob("out.*") if path.suffix in (".jsonl", ".csv")), folder / f"out.{suffix}")
    try:
        classify_file(*_mttv(), folder / "posts.jsonl", out, progress=False)
        classify_file(*_mttv(), folder / "posts.jsonl", folder / f"other.{suffix}", progress=False)
    finally:
        assert ((folder / "posts.jsonl").read_bytes(), (folder / "1.png").read_bytes()) == (posts, image)


@lru_cache
def _detector() -> Detector:
    return Detector(*confident_sat(), threshold=0.2)


def _detect_seeds(folder: Path) -> None:
    (folder / "0" / "images").mkdir(parents=True)
    for number in range(2):
        noise(number).save(folder / "0" / "images" / f"{number}.png")
    shutil.copytree(folder / "0", folder / "1")
    detect_images(_detector(), folder / "0" / "images", folder / "0" / "out", progress=False)


def _detect(folder: Path) -> None:
    images = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    try:
        detect_images(_detector(), folder / "images", folder / "out", progress=False)
        read_json(folder / "out" / "summary.json")
    finally:
        assert images == {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


def _outputs_seeds(folder: Path) -> None:
    with Outputs(folder / "0") as outputs:
        for name in ("one.txt", "a/two.txt"):
            outputs.write(name, lambda path: path.write_text("ours"))
        outputs.open_growing("grows.jsonl").close()
    (folder / "0" / "user.txt").write_text("of the user")


def _write_outputs(folder: Path) -> None:
    user = (folder / "user.txt").read_bytes()
    with Outputs(folder) as outputs:
        for name in (*outputs.written(), "one.txt", "a/two.txt", "grows.jsonl", "user.txt"):
            for act in (outputs.remove, lambda name: outputs.write(name, lambda path: path.write_text("new"))):
                try:
                    act(name)
                except OutputError:
                    continue
    assert (folder / "user.txt").read_bytes() == user, "a file of the user has changed"


# ---- repositories, settings, runs ----


def _repository_seeds(folder: Path) -> None:
    shutil.copytree(FORMATS_0_1 / "repository" / "sat-toy", folder / "model")
    (folder / "data" / "data").mkdir(parents=True)
    shutil.copyfile(FORMATS_0_1 / "dataset_export" / "toy-posts" / "README.md", folder / "data" / "README.md")
    (folder / "data" / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    (folder / "space").mkdir()
    (folder / "space" / "README.md").write_text(
        "---\ntitle: a\nsdk: gradio\nsdk_version: 6.31.0\nlicense: mit\napp_file: app.py\n---\n" + "A page. " * 40
    )
    (folder / "space" / "app.py").write_text("import gradio as gr\n\ngr.Markdown('a').launch()\n")
    (folder / "space" / "requirements.txt").write_text("gradio\ntorch\n")


def _check_repository(folder: Path) -> None:
    check(folder, load=False).to_dict()


def _document_seeds(folder: Path) -> None:
    for path in sorted(FORMATS_0_1.glob("checkpoints/*/config.yaml")):
        _one(folder, f"{path.parent.name}.yaml", path.read_bytes())
    scope = {"script": "CJK", "least_share": 0.5, "least_letters": 3, "needs_text": True, "least_fit": 0.1}
    _one(folder, "scope.json", json.dumps(scope))
    findings = Findings()
    findings.skip("no such file", "a.jpg")
    findings.save(folder / "_findings.json")
    _one(folder, "findings.json", (folder / "_findings.json").read_bytes())


def _open_document(folder: Path) -> None:
    (file,) = folder.iterdir()
    if file.name == "scope.json":
        Scope.read(file).check_text("a text")
    elif file.name == "findings.json":
        found = Findings.load(file)
        assert found is None or isinstance(str(found), str)
    else:
        import importlib

        method = file.stem.partition("_")[0]
        module = importlib.import_module(f"stmine_hf.training.{method}.arguments")
        kinds = [getattr(module, f"{method.capitalize()}{part}Arguments") for part in ("Model", "Data", "Training")]
        try:
            parse_arguments(kinds, ["--config", str(file), "--output_dir", str(folder / "run")])
        except SystemExit as end:  # argparse has printed what is wrong
            raise StmineError("usage") from end


def _yaml_seeds(folder: Path) -> None:
    _one(folder, "a.yaml", "a: &x [1, 2, {b: c}]\nd: *x\ne:\n  - f\n  - 1.5\n")
    _one(folder, "b.yaml", (FORMATS_0_1 / "repository" / "sat-toy" / "README.md").read_bytes().split(b"---")[1])


def _open_yaml(folder: Path) -> None:
    (file,) = folder.iterdir()
    parse_yaml(file.read_bytes().decode("utf-8", "replace"), "a document")


def _run_seeds(folder: Path) -> None:
    for method in METHODS:
        run = folder / method
        (number,) = {"fisvl": (5,), "mttv": (5,), "sat": (25,)}[method]
        (run / f"checkpoint-{number}").mkdir(parents=True)
        source = FORMATS_0_1 / "checkpoints" / method / f"checkpoint-{number}" / "trainer_state.json"
        shutil.copyfile(source, run / f"checkpoint-{number}" / "trainer_state.json")
        identity = RunIdentity.new({"dataset": "toy"}, {"dataset": "toy", "seed": 1})
        for place in (run, run / f"checkpoint-{number}"):
            identity.write(place)


def _open_run(folder: Path) -> None:
    choose_start(folder, "auto", False, {"dataset": "toy"}, {"dataset": "toy", "seed": 1})


# ---- texts and names that are written out ----


def _text_seeds(folder: Path) -> None:
    _one(folder, "text.txt", "Ein <b>Text</b> & 假新闻 \u202e\x07 \"'")
    _one(folder, "names.txt", "a.png\nA.png\na.png.jpg\nb/c.tif\nb/c.tif.jpg\n" + "x" * 250 + ".png\nü.jpg\n")


def _write_texts(folder: Path) -> None:
    (file,) = folder.iterdir()
    if file.name == "text.txt":
        text = "".join(c for c in file.read_bytes().decode("utf-8", "replace")[:3000])
        words = [Word(text[at : at + 3], at, min(at + 3, len(text)), 0.1) for at in range(0, len(text), 3)]
        found = Attribution(text, text[:9], 0.7, {text[:9]: 0.7, "b": 0.3}, "occlusion", words, cells=[[0.1, -0.2]])
        page = explanation_page(found, noise(0))
        assert "<script" not in page.lower()
        ElementTree.fromstring(explanation_svg(found, noise(0)))
    else:
        names = [os.fsdecode(name) for name in file.read_bytes().split(b"\n")[:200]]
        paths = [name for name in dict.fromkeys(names) if name and "\0" not in name and not name.startswith("/")]
        chosen = AnnotatedNames(folder / "images", {})
        copies = [chosen.choose(path, ".jpg") for path in paths]
        assert len({copy.casefold() for copy in copies}) == len(copies), "two images, one copy"
        assert all(len(os.fsencode(copy.rpartition("/")[2])) <= 255 for copy in copies)


_DATA_SETS = ("coco_json", "voc_xml", "yolo_txt", "indiscernible", "rsicd", "posts", "weibo", "fakeddit")

DOORS: dict[str, Door] = {
    "image": Door(_image_seeds, _open_images, share=160),
    "video": Door(_video_seeds, _open_video, share=10),
    "table": Door(_table_seeds, _open_table, share=160),
    "own": Door(_own_seeds, _open_own, lambda name: name.startswith("rows"), share=2),
    **{f"data-{name}": _data_set_door(name) for name in _DATA_SETS},
    **{f"model-{name}": _model_door(name) for name in METHODS},
    "adapter": Door(_adapter_seeds, _open_adapter, lambda name: name.startswith("best/"), share=1),
    "official": Door(_official_seeds, _open_official, share=30),
    "export": Door(_export_seeds, _open_export, share=2),
    "index": Door(_index_seeds, _open_index, lambda name: name.startswith("index/"), share=3),
    "features": Door(_features_seeds, _open_features, share=12),
    "classify": Door(_classify_seeds, _classify, lambda name: not name.endswith(".png"), share=2),
    "detect": Door(_detect_seeds, _detect, lambda name: "annotated" not in name, share=1),
    "outputs": Door(_outputs_seeds, _write_outputs, lambda name: name == MARKER, share=12),
    "repository": Door(_repository_seeds, _check_repository, lambda name: not name.endswith("LICENSE"), share=1),
    "settings": Door(_document_seeds, _open_document, share=12),
    "yaml": Door(_yaml_seeds, _open_yaml, share=30),
    "run": Door(_run_seeds, _open_run, share=20),
    "text": Door(_text_seeds, _write_texts, share=12),
}


def written(case: Case, folder: Path) -> Iterator[Path]:
    """Put the files of a case into a folder."""
    for name, content in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        yield path


warnings.simplefilter("ignore")  # what a data set leaves out
