"""ImageIndex: right answers, upkeep, refusals; killed and competing runs are in killed_builds.py."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import save_tiny_fisvl, tiny_fisvl
from PIL import Image
from safetensors.torch import load_file, save_file

from stmine_hf.errors import StmineError
from stmine_hf.files import only_writer
from stmine_hf.images import PixelOptions, open_image
from stmine_hf.loading import published
from stmine_hf.outputs import Outputs, sha256_of
from stmine_hf.search import ImageIndex, Where, store
from stmine_hf.search.embedding import embed_images, embed_texts

SENTENCES = [
    "many planes near a terminal",
    "Ships, in the harbour .",
    "机场 附近 有 飞机",
    "самолёты в аэропорту",
    "a" * 5000,
    "green trees " * 5000,
    "二" * 10_000,
]


@pytest.fixture(scope="module")
def model():
    return tiny_fisvl()


@pytest.fixture
def images(tmp_path):
    """12 images in two folders, two of them the same, and three files that are none."""
    folder = tmp_path / "images"
    for number in range(12):
        path = folder / ("north" if number % 2 else "south") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, number if number != 9 else 4)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image, and not said to be one")
    return folder


def draw(path, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)


def build(images, out, model, **options):
    return ImageIndex.build(images, out, **{"model": model, "batch_size": 4, "progress": False, **options})


def counts(index):
    report = index.report
    return {
        name: value
        for name in ("added", "changed", "unchanged", "removed", "embedded")
        if (value := getattr(report, name))
    }


def paths(index):
    return {hit.path for hit in index.query("planes", k=1000)}


# --- what it answers -------------------------------------------------------------------------------------------------


def test_a_build_embeds_all_and_lists_what_it_skipped(images, tmp_path, model):
    index = build(images, tmp_path / "index", model)
    assert len(index) == 12 and counts(index) == {"added": 12, "embedded": 12}
    skipped = dict(index.report.skipped)
    assert sorted(skipped) == ["broken.jpg", "empty.png"] and skipped["empty.png"] == "empty file"
    assert json.loads((tmp_path / "index" / "skipped.json").read_text()) == [list(s) for s in index.report.skipped]
    assert index.report.seconds > 0 and index.report.images_per_second > 0
    assert index.report.peak_memory_mb is None or index.report.peak_memory_mb > 10


def test_queries_equal_brute_force(images, tmp_path, model):
    index = build(images, tmp_path / "index", model, save_every=5)
    files = sorted(images.rglob("[0-9]*.png"))
    vectors = embed_images(*model, [open_image(file, 32) for file in files]).numpy()
    queries = [(text, embed_texts(*model, [text])) for text in SENTENCES]
    queries += [(file, embed_images(*model, [Image.open(file)])) for file in files[:3]]
    queries += [(str(file), vector) for file, vector in queries[-3:]]
    queries += [(Image.open(file), vector) for file, vector in queries[-3:]]
    for query, vector in queries:
        scores = (vectors @ vector.numpy()[0]).tolist()
        for k in (1, 3, 12, 1000):
            hits = index.query(query, k=k)
            assert [hit.rank for hit in hits] == list(range(1, min(k, 12) + 1))
            np.testing.assert_allclose([hit.score for hit in hits], sorted(scores, reverse=True)[:k], atol=1e-5)
            for hit in hits:
                assert hit.score == pytest.approx(scores[files.index(hit.path)], abs=1e-5)


def test_an_image_finds_itself_and_its_copy(images, tmp_path, model):
    hits = build(images, tmp_path / "index", model).query(images / "south" / "04.png", k=2)
    assert {hit.path.name for hit in hits} == {"04.png", "09.png"}
    assert all(hit.score == pytest.approx(1, abs=1e-5) for hit in hits)


def test_ties_come_in_the_order_of_paths_whatever_the_order_of_building(tmp_path, model):
    folder = tmp_path / "images"
    (folder / "later").mkdir(parents=True)
    draw(folder / "z.png", 1)
    draw(folder / "other.png", 2)
    index = build(folder, tmp_path / "index", model)
    for name in ("later/b.png", "a.png", "later/a.png", "c.png"):  # all the same image, found one after the other
        shutil.copy(folder / "z.png", folder / name)
        index = build(folder, tmp_path / "index", model)
        assert counts(index)["added"] == 1 and index.report.embedded == 0  # a copy needs no model
    expected = ["a.png", "c.png", "later/a.png", "later/b.png", "z.png"]
    for k in range(1, 6):
        hits = index.query(folder / "z.png", k=k)
        assert [hit.path.relative_to(folder).as_posix() for hit in hits] == expected[:k]


@pytest.mark.parametrize("query", ["", "   \n", ".", " . , !", "\u3002"])
def test_empty_queries_are_refused(images, tmp_path, model, query):
    with pytest.raises(StmineError, match="nothing to search for"):
        build(images, tmp_path / "index", model).query(query)


def test_queries_by_bad_images_are_refused(images, tmp_path, model):
    index = build(images, tmp_path / "index", model)
    with pytest.raises(StmineError, match="no such image"):
        index.query("harbour_12.jpg")
    with pytest.raises(StmineError, match=r"cannot search by .*no\.jpg: file not found"):
        index.query(tmp_path / "no.jpg")
    with pytest.raises(StmineError, match=r"broken\.jpg: corrupt"):
        index.query(str(images / "broken.jpg"))
    with pytest.raises(StmineError, match="k: expected at least 1, found 0"):
        index.query("planes", k=0)


def test_a_word_that_is_also_a_file_stays_a_sentence(images, tmp_path, model, monkeypatch):
    index = build(images, tmp_path / "index", model)
    (tmp_path / "planes").write_text("a file that happens to have this name")
    monkeypatch.chdir(tmp_path)
    assert index.query("planes") and index.query("planes near harbour.jpg") and index.query("a\0b")


# --- upkeep ----------------------------------------------------------------------------------------------------------


def test_nothing_new_costs_nothing(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "index").rglob("*")
        if path.name not in ("skipped.json", ".stmine-outputs.jsonl")
    }
    index = build(images, tmp_path / "index", model)
    assert counts(index) == {"unchanged": 12} and len(index.report.skipped) == 2
    for path, mtime in before.items():
        if path.is_file() and path.name != ".lock":
            assert path.stat().st_mtime_ns == mtime, path


def test_added_changed_removed_touched_and_renamed_images(images, tmp_path, model):
    build(images, tmp_path / "index", model, save_every=4)
    draw(images / "new.png", 50)
    draw(images / "south" / "00.png", 51)
    (images / "south" / "02.png").unlink()
    os.utime(images / "south" / "06.png", ns=(1, 1))
    (images / "north" / "11.png").rename(images / "north" / "renamed.png")
    (images / "south" / "08.png").write_bytes(b"broken by now")
    index = build(images, tmp_path / "index", model, save_every=4)
    # 11.png and 02.png are gone, 08.png cannot be read any more
    assert counts(index) == {"added": 2, "changed": 1, "unchanged": 8, "removed": 3, "embedded": 2}
    assert "south/08.png" in dict(index.report.skipped)
    assert len(index) == 11

    afresh = build(images, tmp_path / "afresh", model)
    assert paths(index) == paths(afresh)
    # By image: other batches change the last bits of a score, and with them the order of near ties.
    scores, expected = ({hit.path: hit.score for hit in of.query("planes", k=20)} for of in (index, afresh))
    assert scores == pytest.approx(expected, abs=1e-6)
    assert counts(build(images, tmp_path / "index", model)) == {"unchanged": 11}


def test_many_small_additions_do_not_leave_many_small_shards(images, tmp_path, model):
    for number in range(20, 26):
        draw(images / f"{number}.png", number)
        index = build(images, tmp_path / "index", model, save_every=8)
    assert len(index) == 18 and len(list((tmp_path / "index" / "shards").glob("*.safetensors"))) <= 4


def test_a_subfolder_that_cannot_be_read_now_keeps_its_images(images, tmp_path, model, monkeypatch):
    build(images, tmp_path / "index", model)
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("north"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (images / "south" / "02.png").unlink()
    index = build(images, tmp_path / "index", model)
    assert counts(index) == {"unchanged": 11, "removed": 1} and ("north/" in dict(index.report.skipped))


def test_add_takes_files_and_folders_from_anywhere_and_build_keeps_them(images, tmp_path, model):
    index = build(images, tmp_path / "index", model)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in (30, 31):
        draw(elsewhere / f"{number}.png", number)
    draw(images / "inside.png", 32)
    report = index.add([elsewhere, elsewhere / "30.png", images / "inside.png", tmp_path / "no.png"], progress=False)
    assert (report.added, report.unchanged, report.removed, len(report.skipped)) == (3, 12, 0, 1)
    assert len(index) == 15 and {elsewhere / "30.png", images / "inside.png"} <= paths(index)

    (elsewhere / "31.png").unlink()
    index = build(images, tmp_path / "index", model)
    assert counts(index) == {"unchanged": 14, "removed": 1} and elsewhere / "30.png" in paths(index)


def test_images_may_move_alone_or_with_their_index(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    moved = tmp_path / "moved"
    images.rename(moved)
    index = ImageIndex.open(tmp_path / "index", model=model, images=moved)
    assert all(path.is_file() for path in paths(index))
    index = build(moved, tmp_path / "index", model)
    assert counts(index) == {"unchanged": 12} and all(path.is_file() for path in paths(index))

    (tmp_path / "other disk").mkdir()
    for name in ("moved", "index"):
        (tmp_path / name).rename(tmp_path / "other disk" / name)
    index = ImageIndex.open(tmp_path / "other disk" / "index", model=model)
    assert all(path.is_file() for path in paths(index))


def test_images_that_are_given_from_the_working_folder_are_the_same_images(images, tmp_path, model, monkeypatch):
    build(images, tmp_path / "index", model)
    monkeypatch.chdir(tmp_path)
    index = ImageIndex.open("index", model=model, images="images")
    index.add("images", progress=False)
    assert counts(index) == {"unchanged": 12} and len(index) == 12
    monkeypatch.chdir("/")
    assert all(path.is_absolute() and path.exists() for path in paths(index))


def test_an_update_by_another_process_takes_nothing_from_an_open_index(images, tmp_path, model):
    table = tmp_path / "table.csv"
    for cell in ("first", "second"):
        table.write_text(f"image,cell\n04.png,{cell}")
        build(images, tmp_path / "index", model, metadata=table)
        if cell == "first":
            reader = ImageIndex.open(tmp_path / "index", model=model)
    where = Where.parse(where=["cell=first"])
    assert [hit.path.name for hit in reader.query("planes", where=where)] == ["04.png"]
    assert reader.columns == ["cell"] and not reader.reopened().query("planes", where=where)


def test_an_index_among_its_images_leaves_its_own_files_alone(images, model):
    with pytest.raises(StmineError, match="lies in the input"):
        build(images, images / "index", model)
    assert not (images / "index").exists()
    build(images, images.parent / "index", model)
    (images.parent / "index").rename(images / "index")  # as version 0.1 may have made it
    draw(images / "index" / "sheet.png", 1)
    assert counts(build(images, images / "index", model)) == {"unchanged": 12}


def test_the_model_is_loaded_by_the_first_query_and_only_once(images, tmp_path, model, monkeypatch):
    import stmine_hf.loading

    folder = save_tiny_fisvl(tmp_path / "model")
    loaded, load = [], stmine_hf.loading.load_fisvl

    def counting(*args, **options):
        loaded.append(args)
        return load(*args, **options)

    monkeypatch.setattr(stmine_hf.loading, "load_fisvl", counting)
    monkeypatch.chdir(tmp_path)
    build(images, tmp_path / "index", "model")
    assert len(loaded) == 1
    index = ImageIndex.open(tmp_path / "index")
    assert len(index) == 12 and len(loaded) == 1
    monkeypatch.chdir("/")  # the relative name given above was kept as an absolute one
    index.query("planes")
    index.query("ships")
    assert len(loaded) == 2
    assert counts(ImageIndex.build(images, tmp_path / "index", progress=False)) == {"unchanged": 12}
    # Read back from float16 files the weights differ; the same ones moved elsewhere do not.
    folder.rename(tmp_path / "model2")
    assert ImageIndex.open(tmp_path / "index", model=tmp_path / "model2").query("planes")
    with pytest.raises(StmineError, match="no model found"):
        ImageIndex.open(tmp_path / "index").query("planes")


# --- refusals --------------------------------------------------------------------------------------------------------


def test_another_model_is_refused_before_it_is_loaded(images, tmp_path, model, monkeypatch):
    folder, other = (shutil.copytree(published("fisvl-lite-rsicd"), tmp_path / name) for name in ("first", "other"))
    weights = load_file(other / "model.safetensors")
    name = next(name for name, one in weights.items() if one.ndim > 1)
    save_file(weights | {name: weights[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    build(images, tmp_path / "index", folder)
    monkeypatch.setattr("stmine_hf.loading.load_fisvl", lambda *_, **__: pytest.fail("loaded"))
    index = ImageIndex.open(tmp_path / "index", model=other)
    for attempt in (lambda: index.query("planes"), lambda: build(images, tmp_path / "index", other)):
        with pytest.raises(StmineError, match=r"made with another model.*other weights.*new folder"):
            attempt()


def test_another_model_is_refused_wherever_it_comes_in(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    other = tiny_fisvl(seed=1)
    index = ImageIndex.open(tmp_path / "index", model=other)
    for attempt in (
        lambda: index.query("planes"),
        lambda: index.add(images, progress=False),
        lambda: build(images, tmp_path / "index", other),
    ):
        with pytest.raises(StmineError, match=r"made with another model.*other weights.*new folder"):
            attempt()
    assert counts(build(images, tmp_path / "index", model)) == {"unchanged": 12}


def test_another_processor_is_refused(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    _, processor = tiny_fisvl()
    processor.image_processor.image_mean = (0.0, 0.1, 0.9)
    with pytest.raises(StmineError, match="embeds a test image and sentence differently"):
        ImageIndex.open(tmp_path / "index", model=(model[0], processor)).query("planes")


def test_a_model_with_broken_weights_is_refused(images, tmp_path):
    broken, processor = tiny_fisvl()
    for parameter in broken.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(StmineError, match="weights are broken"):
        build(images, tmp_path / "index", (broken, processor))


def test_other_images_are_refused_while_the_first_are_there(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    shutil.copytree(images, tmp_path / "others")
    with pytest.raises(StmineError, match=r"indexes .*images, which still exists"):
        build(tmp_path / "others", tmp_path / "index", model)


def test_other_images_are_refused_when_the_first_are_gone(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    images.rename(tmp_path / "moved")
    (tmp_path / "others").mkdir()
    draw(tmp_path / "others" / "elsewhere.png", 1)
    with pytest.raises(StmineError, match=r"which no longer exists, and none of its 12 images is in .*others"):
        build(tmp_path / "others", tmp_path / "index", model)
    assert counts(build(tmp_path / "moved", tmp_path / "index", model)) == {"unchanged": 12}


def test_another_format_version_is_refused(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    manifest = tmp_path / "index" / "index.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99, "news": 1}))
    for attempt in (lambda: ImageIndex.open(tmp_path / "index"), lambda: build(images, tmp_path / "index", model)):
        with pytest.raises(StmineError, match=r"has index files of format 99.*reads format 1.*index the images again"):
            attempt()


@pytest.mark.parametrize("damage", ["index.json", "*.faiss", "*.parquet", "lost faiss", "lost parquet", "no fields"])
def test_a_damaged_index_is_told(images, tmp_path, model, damage):
    build(images, tmp_path / "index", model)
    if damage == "no fields":
        (tmp_path / "index" / "index.json").write_text('{"format_version": 1}')
    elif damage.startswith("lost"):
        next((tmp_path / "index").rglob(f"*.{damage.split()[1]}")).unlink()
    else:
        path = next((tmp_path / "index").rglob(damage))
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(StmineError, match=r"are damaged .*delete it and index the images again"):
        ImageIndex.open(tmp_path / "index")


def test_any_changed_byte_is_reported(images, tmp_path, model):
    build(images, tmp_path / "index", model, save_every=5)
    draw, files = random.Random(0), [path for path in (tmp_path / "index").rglob("[!.]*.*") if path.stem != "skipped"]
    assert len(files) == 6  # two shards
    for file in files:
        content = file.read_bytes()
        for place in (0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(8))):
            changed = bytearray(content)
            changed[place] ^= draw.randrange(1, 256)
            file.write_bytes(changed)
            with pytest.raises(StmineError, match=file.name):
                ImageIndex.open(tmp_path / "index")
        with pytest.raises(StmineError, match=file.name):  # and by an update
            build(images, tmp_path / "index", model)
        file.write_bytes(content)
    assert len(build(images, tmp_path / "index", model)) == 12


def test_an_index_of_format_1_opens_and_gets_checksums_with_its_next_change(images, tmp_path, model):
    """Version 0.1 wrote neither checksums nor a list of its files."""
    folder = tmp_path / "index"
    expected = [(hit.path, hit.score) for hit in build(images, folder, model, save_every=5).query("planes", k=12)]
    content = json.loads((folder / "index.json").read_text())
    del content["checksums"], content["checksum"]
    (folder / "index.json").write_text(json.dumps({**content, "format_version": 1}))
    (folder / ".stmine-outputs.jsonl").unlink()
    opened = ImageIndex.open(folder, model=model)
    assert [(hit.path, hit.score) for hit in opened.query("planes", k=12)] == expected
    assert counts(build(images, folder, model)) == {"unchanged": 12}
    assert json.loads((folder / "index.json").read_text())["format_version"] == 1
    draw(images / "new.png", 50)
    assert counts(build(images, folder, model)) == {"added": 1, "unchanged": 12, "embedded": 1}
    manifest = json.loads((folder / "index.json").read_text())
    named = {file.relative_to(folder).as_posix() for file in folder.rglob("[!.]*.*")} - {"index.json", "skipped.json"}
    assert manifest["format_version"] == 2 and set(manifest["checksums"]) == named


def test_files_of_the_user_in_an_index_stay(images, tmp_path, model):
    folder = tmp_path / "index"
    build(images, folder, model)
    (folder / "shards" / "000099.parquet").write_text("mine")
    draw(images / "new.png", 50)
    assert len(build(images, folder, model)) == 13
    assert (folder / "shards" / "000099.parquet").read_text() == "mine"


def test_places_that_are_no_index_or_no_images(images, tmp_path, model):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("x")
    for path, message in [("nowhere", "no index in"), ("empty", "no index in"), ("file", "found a file")]:
        with pytest.raises(StmineError, match=message):
            ImageIndex.open(tmp_path / path)
    for source, out, message in [
        (tmp_path / "nowhere", "i", r"expected a folder of images at .*nowhere, found nothing"),
        (tmp_path / "file", "i", "found a file"),
        (tmp_path / "empty", "i", "found no images in"),
        (images, "mine", "neither empty nor an index"),
        (images, images, "neither empty nor an index"),
        (images, "file", "is a file"),
    ]:
        with pytest.raises(StmineError, match=message):
            build(source, tmp_path / out, model)


def test_a_folder_that_has_emptied_does_not_empty_its_index(images, tmp_path, model):
    """As when a disk is not mounted."""
    build(images, tmp_path / "index", model)
    shutil.rmtree(images)
    images.mkdir()
    with pytest.raises(StmineError, match="found no images"):
        build(images, tmp_path / "index", model)
    (images / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(StmineError, match=r"not one image .* could be read \(bad.jpg: .*nothing was changed"):
        build(images, tmp_path / "index", model)
    assert len(ImageIndex.open(tmp_path / "index")) == 12


def test_an_index_that_is_being_written_refuses_a_second_writer(images, tmp_path, model):
    index = build(images, tmp_path / "index", model)
    with only_writer(tmp_path / "index"):
        for attempt in (lambda: build(images, tmp_path / "index", model), lambda: index.add(images)):
            with pytest.raises(StmineError, match="another run is writing"):
                attempt()
        assert ImageIndex.open(tmp_path / "index", model=model).query("planes")  # readers are welcome
    build(images, tmp_path / "index", model)


def test_an_interrupt_keeps_what_is_done(images, tmp_path, model, monkeypatch):
    from stmine_hf.search.embedder import Embedder

    features, batches = Embedder.features, []

    def interrupted(self, pixels):
        batches.append(len(pixels))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return features(self, pixels)

    monkeypatch.setattr(Embedder, "features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(images, tmp_path / "index", model)
    with pytest.raises(StmineError, match="never finished"):
        ImageIndex.open(tmp_path / "index")
    assert counts(build(images, tmp_path / "index", model)) == {"added": 4, "unchanged": 8, "embedded": 4}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_runs_lose_nothing(tmp_path):
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(Path(__file__).with_name("killed_builds.py")), str(tmp_path)]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0 and result.stdout.strip() == "all well", result.stderr[-3000:]


def test_deep_images_are_found_and_their_rule_is_kept(tmp_path, model):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("rasterio")
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    base = np.asarray(Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)).resize((64, 64))).astype(int)
    tifffile.imwrite(tmp_path / "in/deep.tif", (200 + 8 * base).astype(np.uint16)[..., :3], photometric="rgb")
    Image.fromarray(base[..., :3].astype(np.uint8)).save(tmp_path / "in/flat.png")
    options = PixelOptions("200,2240", (3, 2, 1))
    index = ImageIndex.build(tmp_path / "in", tmp_path / "index", model=model, progress=False, pixels=options)
    assert len(index) == 2
    index = ImageIndex.build(tmp_path / "in", tmp_path / "index", model=model, progress=False)
    assert index.report.unchanged == 2 and index.query(tmp_path / "in/deep.tif")[0].score == pytest.approx(1, abs=1e-4)
    scores = {Path(hit.path).name: hit.score for hit in index.query(tmp_path / "in/flat.png")}
    assert scores["deep.tif"] == pytest.approx(1, abs=1e-3)
    with pytest.raises(StmineError, match="omit stretch and bands, or make another index"):
        ImageIndex.build(tmp_path / "in", tmp_path / "index", model=model, progress=False, pixels=PixelOptions())


def test_an_image_replaced_by_one_of_the_same_size_and_time_is_noticed(images, tmp_path, model):
    """As `cp -p` and archives do; what only looks new is read, and not embedded again."""
    names = [images / "a.bmp", images / "b.bmp"]
    for number, path in enumerate(names):
        draw(path, 70 + number)
    index = build(images, tmp_path / "index", model)
    first, times = names[0].read_bytes(), names[0].stat()
    assert len(first) == names[1].stat().st_size
    names[0].write_bytes(names[1].read_bytes())
    os.utime(names[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (names[0].stat().st_size, names[0].stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    index = build(images, tmp_path / "index", model)
    assert (index.report.changed, index.report.embedded) == (1, 0)  # b.bmp has the same content
    scores = {hit.path.name: hit.score for hit in index.query(names[1], k=20)}
    assert scores["a.bmp"] == scores["b.bmp"]
    names[1].chmod(0o600)
    again = build(images, tmp_path / "index", model).report
    assert (again.changed, again.embedded, again.added) == (0, 0, 0)


def rewrite_rows(folder, change):
    """Write the rows of every shard as `change` gives them, as an earlier version might have."""
    manifest = store.read_manifest(folder / store.FINISHED)
    for name in manifest.shards:
        file = folder / "shards" / f"{name}.parquet"
        pq.write_table(change(pq.read_table(file)), file)
    manifest.checksums = {}
    with Outputs(folder) as outputs:
        store.add_checksums(folder, manifest)
        outputs._hashes.clear()
        outputs.adopt([store.FINISHED])
        store.write_manifest(outputs, store.FINISHED, manifest)


def with_windows(table, windows, kind):
    at = table.column_names.index("window")
    return table.set_column(at, "window", pa.array(windows, type=kind))


def test_an_index_of_a_version_that_did_not_note_ctimes_is_not_made_again(images, tmp_path, model):
    index = build(images, tmp_path / "index", model)
    rewrite_rows(tmp_path / "index", lambda table: table.drop_columns(["ctime_ns"]))
    report = build(images, tmp_path / "index", model).report
    assert (report.embedded, report.changed, report.unchanged) == (0, 0, len(index))


def test_rows_are_of_types_that_every_pyarrow_writes_and_reads(images, tmp_path, model):
    """Versions before 26 do not write nulls among lists of a fixed size, or do not read them again."""
    build(images, tmp_path / "index", model)
    for file in (tmp_path / "index" / "shards").glob("*.parquet"):
        fixed = [one.name for one in pq.read_schema(file) if pa.types.is_fixed_size_list(one.type)]
        assert not fixed


def test_an_index_with_windows_of_a_fixed_size_is_continued(images, tmp_path, model):
    """As they were written until 0.2."""
    index = build(images, tmp_path / "index", model)
    windows = [[0, 0, 4, 4]]  # a null needs pyarrow 26
    fixed = pa.list_(pa.int32(), 4)
    rewrite_rows(tmp_path / "index", lambda table: with_windows(table, windows * len(table), fixed))
    assert {hit.window for hit in ImageIndex.open(tmp_path / "index", model=model).query("planes", k=3)} == {
        (0, 0, 4, 4)
    }
    rewrite_rows(tmp_path / "index", lambda table: with_windows(table, [None] * len(table), pa.list_(pa.int32())))
    assert len(ImageIndex.open(tmp_path / "index", model=model)) == len(index)


def test_a_window_of_three_numbers_is_damage(images, tmp_path, model):
    build(images, tmp_path / "index", model)
    kind = pa.list_(pa.int32())
    rewrite_rows(tmp_path / "index", lambda table: with_windows(table, [[0, 0, 4]] * len(table), kind))
    with pytest.raises(StmineError, match="a window is not of four numbers"):
        ImageIndex.open(tmp_path / "index", model=model)


def test_a_copy_without_hidden_files_is_an_index(images, tmp_path, model):
    """`cp index/* copy` and many archives leave out what begins with a dot."""
    build(images, tmp_path / "index", model)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "index", copy, ignore=shutil.ignore_patterns(".*"))
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]
    draw(images / "later.png", 60)
    built = build(images, copy, model)
    assert built.report.added == 1 and built.report.embedded == 1
    assert "later.png" in {hit.path.name for hit in ImageIndex.open(copy, model=model).query("planes", k=20)}


@pytest.mark.parametrize("content", [b"{}", b'{"pages": []}', b"<html>"])
def test_somebody_elses_index_json_makes_no_index(content, images, tmp_path, model):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.json").write_bytes(content)
    with pytest.raises(StmineError, match="neither empty nor an index"):
        build(images, site, model)
    assert [path.name for path in site.iterdir()] == ["index.json"]


@pytest.mark.parametrize("kind", ["another FAISS index", "a false count", "cut", "longer", "nothing"])
def test_a_foreign_faiss_file_is_not_read(kind, images, tmp_path, model, monkeypatch):
    """Its readers believe every size that a file states; so only our own kind of file gets to them."""
    import faiss

    folder = tmp_path / "index"
    build(images, folder, model)
    manifest = store.read_manifest(folder / store.FINISHED)
    file = folder / manifest.faiss
    content = file.read_bytes()
    dimension = manifest.model["dimension"]
    if kind == "another FAISS index":
        faiss.write_index(faiss.index_factory(dimension, "IDMap,Flat"), str(file))
    else:
        changed = {
            "a false count": content[:8] + (2**40).to_bytes(8, "little") + content[16:],
            "cut": content[:-4],
            "longer": content + b"more",
            "nothing": b"",
        }
        file.write_bytes(changed[kind])
    manifest.checksums[manifest.faiss] = sha256_of(file)
    with Outputs(folder) as outputs:
        store.write_manifest(outputs, store.FINISHED, manifest)
    monkeypatch.setattr(faiss, "read_index", lambda name: pytest.fail("it was read"))
    with pytest.raises(StmineError, match="expected 12 vectors of"):
        ImageIndex.open(folder)


def test_an_index_leads_its_readers_to_no_file_outside(images, tmp_path, model):
    """The FAISS file that a manifest names is one of the index, wherever its name points."""
    folder = tmp_path / "index"
    build(images, folder, model)
    manifest = store.read_manifest(folder / store.FINISHED)
    (folder / manifest.faiss).rename(tmp_path / manifest.faiss)
    manifest.faiss = f"../{manifest.faiss}"
    manifest.checksums = {}
    with Outputs(folder) as outputs:
        store.write_manifest(outputs, store.FINISHED, manifest)
    with pytest.raises(StmineError, match="damaged"):
        ImageIndex.open(folder)
