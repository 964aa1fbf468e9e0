"""Peak memory of each command, by its settings and with hostile inputs, as a table in Markdown.

    PYTHONPATH=.:tests python -m memory [NAME ...]       make memory

Each row is measured in a child that is forked when the libraries have been imported and nothing has been computed: the
peak of its resident memory, as the system counts it. The first row is that of the imports alone. Commands run with the
shipped models. Hostile files go through the reader that every command uses for them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="stmine-memory-datasets-"))

import accelerate  # noqa: F401  # what commands import late is imported here
import av
import numpy as np
import onnxruntime  # noqa: F401
import peft  # noqa: F401
import pyarrow as pa
import pyarrow.parquet
import rasterio
import sklearn.metrics  # noqa: F401
import tifffile
import torch
from helpers_adapters import adapter_trainer, save_base
from helpers_sat import save_tiny_sat
from large_images import png
from PIL import Image, PngImagePlugin
from transformers import BertModel, SwinModel  # noqa: F401

from stmine_hf import FisvlModel, MttvForSequenceClassification, SatForObjectDetection  # noqa: F401
from stmine_hf.cli import main as stmine
from stmine_hf.conversion.official import read_official
from stmine_hf.data.findings import Findings
from stmine_hf.data.tables import table_rows
from stmine_hf.demo.limits import checked_image
from stmine_hf.demo.objects import THRESHOLD, ObjectFinder
from stmine_hf.documents import parse_yaml
from stmine_hf.errors import StmineError
from stmine_hf.images import ImageError, open_image
from stmine_hf.loading import load_model
from stmine_hf.search.index import ImageIndex

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    name: str(ROOT / "hub_cards" / folder)
    for name, folder in (("fisvl", "fisvl-lite-rsicd"), ("mttv", "mttv-lite-weibo"), ("sat", "sat-indiscernible"))
}
SIDE = 500  # pixels of the ordinary images
TILE = 10_980


def command(*words: object) -> Callable[[Path], object]:
    return lambda folder: stmine([str(word).format(inputs=folder / "inputs", out=folder / "out") for word in words])


def _batches(words: tuple[str, ...], sizes: tuple[int, ...]) -> dict[str, Callable[[Path], object]]:
    return {f"--batch-size {size}": command(*words, "--batch-size", size) for size in sizes}


COMMANDS: dict[str, dict[str, Callable[[Path], object]]] = {
    "index": _batches(("index", "{inputs}/images", "--out", "{out}", "--model", MODELS["fisvl"]), (1, 32, 128)),
    "search": {"": command("search", "{inputs}/index", "a harbour", "--model", MODELS["fisvl"])},
    "classify --file": _batches(
        ("classify", "--file", "{inputs}/posts.jsonl", "--out", "{out}.jsonl", "--model", MODELS["mttv"]), (8, 128)
    ),
    "features": _batches(
        ("features", "mttv", "--file", "{inputs}/posts.jsonl", "--out", "{out}", "--model", MODELS["mttv"]), (8, 64)
    ),
    "detect FOLDER": _batches(("detect", "{inputs}/images", "--out", "{out}", "--model", MODELS["sat"]), (1, 32)),
    "detect VIDEO": {
        "640 x 480": command("detect", "{inputs}/small.mp4", "--out", "{out}", "--model", MODELS["sat"]),
        "3840 x 2160": command("detect", "{inputs}/large.mp4", "--out", "{out}", "--model", MODELS["sat"]),
    },
    "evaluate fisvl": _batches(
        ("evaluate", "fisvl", "--dataset", "toy_scenes", "--split", "train", "--model", MODELS["fisvl"]), (64,)
    ),
    "evaluate mttv": _batches(
        ("evaluate", "mttv", "--dataset", "toy_posts", "--split", "train", "--model", MODELS["mttv"]), (32,)
    ),
    "export": {"--format onnx": command("export", "sat", "--model", MODELS["sat"], "--out", "{out}")},
    "merge": {"tiny model": command("merge", "{inputs}/run/best", "--out", "{out}")},
    "data export": {
        "64 posts": command(
            "data", "export", "toy_posts", "--option", "count=64", "--out", "{out}", "--license", "mit"
        )
    },
    "publish build": {"": command("publish", "build", MODELS["sat"], "--out", "{out}")},
    "publish check": {"": command("publish", "check", MODELS["sat"])},
    "demo": {"one request, an image of 40 megapixels": lambda folder: _demo_request(folder / "inputs" / "forty.png")},
}


def _demo_request(path: Path) -> None:
    ObjectFinder(MODELS["sat"]).find(checked_image(path), THRESHOLD)


def write_inputs(folder: Path) -> None:
    """What the commands read."""
    from stmine_hf.data.toy.toy_scenes import write_scenes

    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
    for number in range(128):
        image = Image.fromarray(np.roll(pixels, number, axis=0)).resize((SIDE, SIDE))
        image.save(folder / "images" / f"{number:03d}.jpg")
    posts = [{"id": n, "text": "紧急扩散，自来水已被污染 " * 9, "image": f"images/{n:03d}.jpg"} for n in range(128)]
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    for name, size, frames in (("small", (640, 480), 40), ("large", (3840, 2160), 10)):
        _video(folder / f"{name}.mp4", *size, frames)
    Image.new("RGBA", (6300, 6300), (9, 9, 9, 99)).save(folder / "forty.png", compress_level=1)
    scenes = write_scenes(folder / "scenes", count=4, size=64)
    ImageIndex.build(scenes, folder / "index", model=MODELS["fisvl"], progress=False)
    trainer = adapter_trainer(
        "fisvl", save_base("fisvl", folder / "base"), folder / "run", save_strategy="epoch", eval_strategy="epoch"
    )
    trainer.train()


def _video(path: Path, width: int, height: int, frames: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 + number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# ---- hostile files: how each is written, and what reads it ----


def _sentinel(path: Path) -> None:
    profile = {"width": TILE, "height": TILE, "count": 3, "dtype": "uint16", "compress": "deflate", "tiled": True}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        rows = np.arange(TILE, dtype=np.uint16) // 4
        for band in (1, 2, 3):
            for top in range(0, TILE, 512):
                part = rows[top : top + 512, None].repeat(TILE, axis=1)
                file.write(part, band, window=rasterio.windows.Window(0, top, TILE, len(part)))


def _false_height(path: Path, height: int) -> None:
    tifffile.imwrite(path, np.zeros((20, 1700, 3), np.uint8), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(height)


def _many_bands(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((400, 2000, 2000), np.uint8), photometric="minisblack", compression="zlib")


def _many_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for _ in range(500):
            file.write(np.zeros((500, 500), np.uint8), compression="zlib")


def _many_frames(path: Path) -> None:
    images = [Image.new("P", (2000, 2000), number) for number in range(40)]
    images[0].save(path, save_all=True, append_images=images[1:])


def _long_text(path: Path) -> None:
    note = PngImagePlugin.PngInfo()
    for number in range(30):
        note.add_text(f"n{number}", "x" * 900_000, zip=True)
    Image.new("RGB", (64, 64)).save(path, pnginfo=note)


def _false_bmp(path: Path) -> None:
    Image.new("RGB", (10, 10)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(content)


def _false_ppm(path: Path) -> None:
    path.write_bytes(b"P6 13000 13000 255\n" + bytes(100))


def _bomb(path: Path) -> None:
    """A checkpoint whose tensor is compressed: 4 GB in a few MB."""
    torch.save({"a": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as good:
        parts = {name: good.read(name) for name in good.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in parts.items():
            with bomb.open(name, "w", force_zip64=True) as file:
                for _ in range(1000 if name.endswith("/0") else 0):
                    file.write(bytes(1 << 20))
                if not name.endswith("/0"):
                    file.write(content)


def _view(path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1).expand(10**6, 10**6)}}, path)


def _model(path: Path, **changes: Any) -> None:
    save_tiny_sat(path)
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | changes))


def _header(path: Path) -> None:
    save_tiny_sat(path)
    (path / "model.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}")


def _aliases(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))


def _sheet(path: Path) -> None:
    """An Excel file whose one sheet unpacks to 1 GB."""
    import openpyxl

    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path) as good:
        parts = {name: good.read(name) for name in good.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in parts.items():
            with bomb.open(name, "w", force_zip64=True) as file:
                if "sheet1" in name:
                    begin, end = content.split(b"<sheetData", 1)[0], b"</sheetData></worksheet>"
                    file.write(begin + b"<sheetData>")
                    for _ in range(1000):
                        file.write(b'<row><c t="inlineStr"><is><t>x</t></is></c></row>' * 20_000)
                    file.write(end)
                else:
                    file.write(content)


def _parquet(path: Path) -> None:
    """A million rows of the same 20 KB text, of which the file holds one."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), pa.array(["x" * 20_000]))
    pyarrow.parquet.write_table(pa.table({"text": column}), path, row_group_size=10**6)


def _index(path: Path) -> None:
    """An index whose manifest claims a billion images."""
    shutil.copytree(path.parent.parent / "inputs" / "index", path)
    for file in path.glob("*.json"):
        file.write_text(re.sub(r'("(?:count|dim|images|size)": )\d+', rf"\g<1>{10**12}", file.read_text()))


def read_image(path: Path) -> None:
    open_image(path, 224)


def read_table(path: Path) -> None:
    for _ in zip(range(1000), table_rows(path, Findings()), strict=False):
        pass


def read_video(path: Path) -> None:
    stmine(["detect", str(path), "--out", str(path.with_suffix("")), "--model", MODELS["sat"], "--limit", "3"])


# MB that a hostile file may cost beside the imports: MAX_BYTES for an image; frames of MAX_FRAME_PIXELS; and little.
PROMISE: dict[Callable[[Path], object], int] = {read_image: 1600, read_video: 2000, read_table: 300}
OTHER = 200
HOSTILE: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "PNG, 16 bits, 9,000 x 9,000": ("a.png", lambda p: png(p, 9000, 9000, 16, 0), read_image),
    "PNG, 16 bits and alpha, 8,000 x 8,000": ("b.png", lambda p: png(p, 8000, 8000, 16, 6), read_image),
    "PNG, RGB, 13,000 x 13,000": ("c.png", lambda p: png(p, 13_000, 13_000, 8, 2), read_image),
    "PNG, palette, 13,000 x 13,000": ("d.png", lambda p: png(p, 13_000, 13_000, 8, 3), read_image),
    "PNG, 1,000,000 x 170": ("e.png", lambda p: png(p, 1_000_000, 170, 8, 0), read_image),
    "PNG, 27 MB of compressed text": ("f.png", _long_text, read_image),
    "Sentinel tile, 10,980 x 10,980, 16 bits": ("g.tif", _sentinel, read_image),
    "TIFF, false height of 100,000": ("h.tif", lambda p: _false_height(p, 100_000), read_image),
    "TIFF, false height of 10,000,000": ("i.tif", lambda p: _false_height(p, 10_000_000), read_image),
    "TIFF, 400 bands of 2,000 x 2,000": ("j.tif", _many_bands, read_image),
    "TIFF, 500 pages": ("k.tif", _many_pages, read_image),
    "JPEG, progressive, 10,000 x 10,000": (
        "l.jpg", lambda p: Image.new("RGB", (10_000, 10_000)).save(p, progressive=True), read_image,
    ),
    "JPEG, CMYK, 12,000 x 12,000": ("m.jpg", lambda p: Image.new("CMYK", (12_000, 12_000)).save(p), read_image),
    "WebP, lossless, 12,000 x 12,000": (
        "n.webp", lambda p: Image.new("RGB", (12_000, 12_000)).save(p, lossless=True, method=0, quality=0), read_image,
    ),
    "GIF, 40 frames of 2,000 x 2,000": ("o.gif", _many_frames, read_image),
    "BMP, false size of 60,000 x 60,000": ("p.bmp", _false_bmp, read_image),
    "PPM, false size of 13,000 x 13,000": ("q.ppm", _false_ppm, read_image),
    "video, 4,096 x 2,304": ("r.mp4", lambda p: _video(p, 4096, 2304, 4), read_video),
    "video, 7,680 x 4,320": ("s.mp4", lambda p: _video(p, 7680, 4320, 3), read_video),
    "model, config with layers for 10^9 channels": (
        "t", lambda p: _model(p, stage_channels=[10**9, 16, 16]), lambda p: load_model("sat", p),
    ),
    "model, config with 2,000 blocks": (
        "u", lambda p: _model(p, stage_blocks=[2000, 1, 1]), lambda p: load_model("sat", p),
    ),
    "model, safetensors with a header of 10^12 bytes": ("v", _header, lambda p: load_model("sat", p)),
    "checkpoint, 1 GB of zeros compressed": ("w.pth", _bomb, lambda p: read_official(p, "a checkpoint", "")),
    "checkpoint, a view of 10^12 values": ("x.pth", _view, lambda p: read_official(p, "a checkpoint", "")),
    "YAML, aliases of aliases": ("y.yaml", _aliases, lambda p: parse_yaml(p.read_text(), p.name)),
    "JSON, 300,000 brackets": ("z.json", lambda p: p.write_text("[" * 300_000 + "]" * 300_000), read_table),
    "CSV, 10^6 columns": ("aa.csv", lambda p: p.write_text("a," * 10**6 + "\n" + "1," * 10**6), read_table),
    "CSV, one cell of 50 MB": ("ab.csv", lambda p: p.write_text("id,text\n1," + "x" * 50_000_000), read_table),
    "Excel, 1 GB of rows compressed": ("ac.xlsx", _sheet, read_table),
    "Parquet, 10^6 times the same 20 KB": ("ad.parquet", _parquet, read_table),
    "index, manifest with 10^12 images": ("ae", _index, lambda p: ImageIndex.open(p, model=MODELS["fisvl"])),
}  # fmt: skip


def peak(work: Callable[[], object]) -> tuple[int, str]:
    """MB that a child holds at most while it works, and how it ends."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        end = "done"
        try:
            torch.set_num_threads(1)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
                work()
        except (StmineError, ImageError):
            end = "refused"
        except SystemExit as error:
            end = "done" if not error.code else f"refused: {said.getvalue().strip()[-200:]}"
        except BaseException as error:
            end = f"FAILED: {error!r:.200}"
        os.write(writing, end.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        end = answer.read()
    _, status, usage = os.wait4(child, 0)
    return usage.ru_maxrss // 1024, end if status == 0 else f"KILLED: {os.waitstatus_to_exitcode(status)}"


def main() -> int:
    chosen = sys.argv[1:]
    failed = False
    with tempfile.TemporaryDirectory(prefix="stmine-memory-") as place:
        top = Path(place)
        base, _ = peak(lambda: None)
        if (made := peak(lambda: write_inputs(top / "inputs")))[1] != "done":
            sys.exit(made[1])
        print("| command | settings | peak, MB |\n| --- | --- | ---: |")
        print(f"| imports alone | | {base} |")
        for name, settings in COMMANDS.items():
            for setting, work in settings.items() if not chosen or name in chosen else ():
                shutil.rmtree(top / "out", ignore_errors=True)
                (top / "out.jsonl").unlink(missing_ok=True)
                megabytes, end = peak(lambda work=work: work(top))
                print(f"| `stmine {name}` | {setting} | {megabytes} |{'' if end == 'done' else ' ' + end}", flush=True)
                failed |= end != "done"
        print("\n| hostile file | size, KB | peak above the imports, MB | |\n| --- | ---: | ---: | --- |")
        (top / "hostile").mkdir()
        for name, (file, write, read) in HOSTILE.items():
            if chosen and name not in chosen and "hostile" not in chosen:
                continue
            path = top / "hostile" / file
            made = peak(lambda write=write, path=path: write(path))
            size = sum(one.stat().st_size for one in ([path] if path.is_file() else path.rglob("*")))
            megabytes, end = peak(lambda read=read, path=path: read(path))
            end = end if end.isupper() or not end.startswith("refused") else "refused"
            print(f"| {name} | {size / 1000:.3g} | {max(megabytes - base, 0)} | {end} |", flush=True)
            failed |= (
                made[1] != "done" or end not in ("done", "refused") or megabytes - base > PROMISE.get(read, OTHER)
            )
            if made[1] != "done":
                print(made[1])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
