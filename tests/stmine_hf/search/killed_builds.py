"""A program that test_index.py runs: kills builds of an index at every step of writing, and checks what is left.

A process of its own, because it forks: a process that has computed with torch may not.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from helpers import tiny_fisvl
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.files import only_writer
from stmine_hf.search import ImageIndex, store

torch.manual_seed(0)
MODEL = tiny_fisvl()
OPTIONS = {"model": MODEL, "batch_size": 2, "save_every": 4, "progress": False}


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


def content(index: Path) -> dict[str, bytes]:
    """{path: bytes of its embedding}, read without the code under test as far as that goes."""
    manifest = store.read_manifest(index / store.FINISHED)
    rows = store.read_rows(index, manifest.shards).column("path").to_pylist()
    vectors = np.concatenate([store.read_embeddings(index, name) for name in manifest.shards])
    assert len(rows) == len(set(rows)) == len(vectors) == manifest.count
    return {path: vector.tobytes() for path, vector in zip(rows, vectors, strict=True)}


def nothing_left_over(index: Path) -> None:
    manifest = store.read_manifest(index / store.FINISHED)
    expected = {"index.json", "skipped.json", ".lock", ".stmine-outputs.jsonl", "shards", manifest.faiss}
    expected |= {f"{name}.{suffix}" for name in manifest.shards for suffix in ("parquet", "safetensors")}
    assert {path.name for path in index.rglob("*")} == expected, sorted(index.rglob("*"))


def build(images: Path, index: Path, die_at: int | None = None, delay: float = 0.0) -> int:
    """Build in a child that kills itself before the given step of writing. Returns the steps it took, -1 if killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        steps, unlink = 0, Path.unlink

        def counted(step):
            def run(*args, **options):
                nonlocal steps
                if step is unlink and not args[0].exists():
                    return step(*args, **options)
                if steps == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1
                time.sleep(delay)
                return step(*args, **options)

            return run

        os.replace, Path.unlink = counted(os.replace), counted(Path.unlink)
        ImageIndex.build(images, index, **OPTIONS)
        os.write(writing, str(steps).encode())
        os._exit(0)
    os.close(writing)
    if delay:
        time.sleep(random.uniform(0, 20 * delay))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return int(pipe.read() or -1)


def whole_or_refused(index: Path, sizes: set[int]) -> None:
    """What a reader sees between the kill and the next run."""
    try:
        found = ImageIndex.open(index, model=MODEL)
    except StmineError as error:
        assert "never finished" in str(error) and None in sizes, error
        return
    assert len(found) in sizes and len(found.query("a plane", k=1000)) == len(found)


def main(folder: Path) -> None:
    images = folder / "images"
    for number in range(9):
        image(images / f"{number % 3}" / f"{number:02d}.png", number)
    (images / "bad.png").write_bytes(b"bad")
    steps = build(images, folder / "reference")
    expected = content(folder / "reference")
    assert len(expected) == 9 and steps > 10

    for die_at in range(steps):  # a first build
        index = folder / f"first-{die_at}"
        assert build(images, index, die_at) == -1
        whole_or_refused(index, {None, 9})
        ImageIndex.build(images, index, **OPTIONS)
        assert content(index) == expected, f"killed before step {die_at}"
        nothing_left_over(index)
        shutil.rmtree(index)

    random.seed(1)
    for attempt in range(2):  # at any moment, several times in a row
        index = folder / f"random-{attempt}"
        for _ in range(3):
            build(images, index, delay=0.005)
        ImageIndex.build(images, index, **OPTIONS)
        assert content(index) == expected
        nothing_left_over(index)

    before = folder / "reference"
    (images / "0" / "00.png").unlink()
    image(images / "1" / "04.png", 100)
    (images / "2" / "05.png").rename(images / "renamed.png")
    for number in range(5):
        image(images / "new" / f"{number}.png", 200 + number)
    shutil.copytree(before, folder / "updated")
    steps = build(images, folder / "updated")
    expected = content(folder / "updated")
    assert len(expected) == 13
    for die_at in range(0, steps, 2):  # an update: its last steps delete one file each
        index = folder / f"update-{die_at}"
        shutil.copytree(before, index)
        assert build(images, index, die_at) == -1
        whole_or_refused(index, {9, 13})
        ImageIndex.build(images, index, **OPTIONS)
        assert content(index) == expected, f"killed before step {die_at}"
        nothing_left_over(index)
        shutil.rmtree(index)

    index, (reading, writing) = folder / "locked", os.pipe()
    index.mkdir()
    if (child := os.fork()) == 0:
        with only_writer(index):
            os.write(writing, b"!")
            time.sleep(60)
    os.read(reading, 1)
    try:
        ImageIndex.build(images, index, **OPTIONS)
    except StmineError as error:
        assert "another run is writing" in str(error)
    else:
        raise AssertionError("two writers at once")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(ImageIndex.build(images, index, **OPTIONS)) == 13, "the lock outlived its process"
    print("all well")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
