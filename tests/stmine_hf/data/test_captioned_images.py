"""Every layout of the captioned sets, on small folders drawn here and, where present, on the real data."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.captioned_images import caption_weights, count_words
from stmine_hf.data.rsicd import RSICD
from stmine_hf.errors import StmineError

FIVE = [
    f"{word} planes are parked near a large terminal in an airport ." for word in ("many", "some", "two", "six", "ten")
]


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of the test's own."""
    return lambda name, **options: load_dataset(name, cache_dir=tmp_path / "cache", **options)


def draw(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", (8, 8), (40 * index, 90, 30)).save(folder / name)


def record(filename: str, split: str = "train", captions=FIVE, **extra) -> dict:
    return {"filename": filename, "split": split, "sentences": [{"raw": caption} for caption in captions], **extra}


def write_karpathy(
    folder: Path, records: list, name: str = "dataset_rsicd.json", images: str = "RSICD_images", dataset: str = "rsicd"
) -> Path:
    draw(folder / images, *(r["filename"] for r in records if isinstance(r, dict) and "filename" in r))
    (folder / name).write_text(json.dumps({"images": records, "dataset": dataset}))
    return folder


AUTHORS = [
    record("airport_1.jpg", imgid=7),
    record("beach_2.jpg", imgid=9),
    record("00012.jpg", imgid=11),
    record("port_3.jpg", "val", imgid=12),
    record("river_4.jpg", "test", imgid=13),
]


@pytest.mark.parametrize("images", ["RSICD_images", "images", "RSICD_images/RSICD_images", "."])
def test_authors_layout(tmp_path, load, images):
    sets = load("rsicd", data_dir=write_karpathy(tmp_path / "rsicd", AUTHORS, images=images))
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 3, "val": 1, "test": 1}
    row = sets["train"][0]
    assert row["image"].size == (8, 8)
    assert row["captions"] == FIVE
    assert row["caption_weights"] == [1.0] * 5
    assert (row["image_id"], row["filename"]) == (7, "airport_1.jpg")
    names = sets["train"].features["label"]
    assert [names.int2str(label) if label >= 0 else None for label in sets["train"]["label"]] == [
        "airport",
        "beach",
        None,
    ]


def test_labels_and_folders_named_in_the_annotation(tmp_path, load):
    folder = write_karpathy(
        tmp_path / "rsitmd",
        [
            record("a.jpg", label="DenseResidential", filepath="rsitmd/photos"),
            record("b.jpg", label="storage tanks"),
        ],
        name="dataset.json",
        images="photos",
        dataset="RSITMD",
    )
    (folder / "images").mkdir()
    (folder / "photos/b.jpg").rename(folder / "images/b.jpg")
    rows = load("rsitmd", data_dir=folder, split="train")
    assert [rows.features["label"].int2str(label) for label in rows["label"]] == ["denseresidential", "storagetanks"]


def test_fisvl_layout(tmp_path, load):
    draw(tmp_path / "pictures", "x.jpg", "y.jpg", "z.jpg")
    captions = [
        {"image": "train/x.jpg", "caption": FIVE[0], "image_id": 200001, "label": 3, "length": 0.95},
        {"image": "train/y.jpg", "caption": FIVE[1], "image_id": 200002, "label": 99, "length": 1.0},
        {"image": "train/x.jpg", "caption": FIVE[2], "image_id": 200001, "label": 3, "length": 0.97},
    ]
    folder = tmp_path / "finetune"
    folder.mkdir()
    (folder / "rsicd_train.json").write_text("[]")  # the file with weights is the one to take
    (folder / "rsicd_train_length_avg_0_7_low_0_95.json").write_text(json.dumps(captions))
    (folder / "rsicd_val.json").write_text(json.dumps([{"image": "val/z.jpg", "caption": [*FIVE, "."], "label": 0}]))
    sets = load("rsicd", data_dir=folder, image_dir=tmp_path / "pictures")
    x, y = sets["train"]
    assert (x["captions"], x["image_id"], x["label"]) == ([FIVE[0], FIVE[2]], 200001, 3)
    assert x["caption_weights"] == pytest.approx([0.95, 0.97])
    assert y["label"] == -1, "a number without a class"
    (z,) = sets["val"]
    assert z["captions"] == [*FIVE, "."]
    assert z["caption_weights"] == pytest.approx([1.0] * 5 + [0.95]), "no weights given: reconstructed"


@pytest.mark.parametrize("repeat", [1, 5], ids=["a name for five captions", "a name for each caption"])
def test_precomp_layout(tmp_path, load, repeat):
    draw(tmp_path / "images", "boat_0.jpg", "plane_1.jpg")
    (tmp_path / "train_caps.txt").write_text("\n".join(FIVE * 2) + "\n")
    (tmp_path / "train_filename.txt").write_text("boat_0.tif\n" * repeat + "plane_1.tif\n" * repeat)
    rows = load("rsitmd", data_dir=tmp_path, split="train")
    assert rows["filename"][:] == ["boat_0.tif", "plane_1.tif"], "images made into .jpg are found"
    assert rows["captions"][:] == [FIVE, FIVE]
    assert rows["image_id"][:] == [0, 1]
    assert [rows.features["label"].int2str(label) for label in rows["label"]] == ["boat", "plane"]


def test_ucm_labels_follow_the_numbers(tmp_path, load):
    folder = write_karpathy(
        tmp_path / "ucm",
        [record(f"{n}.tif") for n in (1, 100, 101, 2100)],
        name="dataset.json",
        images="imgs",
        dataset="",
    )
    rows = load("ucm_captions", data_dir=folder, split="train")
    names = [rows.features["label"].int2str(label) for label in rows["label"]]
    assert names == ["agricultural", "agricultural", "airplane", "tenniscourt"]


def test_streaming_yields_the_same_rows(tmp_path, load):
    folder = write_karpathy(tmp_path / "rsicd", AUTHORS)
    whole = load("rsicd", data_dir=folder, split="train")
    stream = load("rsicd", data_dir=folder, split="train", streaming=True)
    assert stream.num_shards == 3, "every row is a shard: workers and shuffling act on rows"
    for a, b in zip(whole, stream, strict=True):
        assert {**a, "image": None} == {**b, "image": None}
        assert a["image"].tobytes() == b["image"].tobytes()
    assert {row["filename"] for row in stream.shuffle(seed=1)} == set(whole["filename"])
    assert set(load("rsicd", data_dir=folder, streaming=True)) == {"train", "val", "test"}


def test_images_stay_where_they_are(tmp_path, load):
    folder = write_karpathy(tmp_path / "rsicd", AUTHORS)
    rows = load("rsicd", data_dir=folder, split="val").with_format("arrow")
    image = rows[0]["image"].to_pylist()[0]
    assert image == {"bytes": None, "path": str(folder / "RSICD_images/port_3.jpg")}


def test_parquet_for_the_hub_holds_the_images(tmp_path):
    folder = write_karpathy(tmp_path / "rsicd", AUTHORS)
    builder = RSICD(data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare(str(tmp_path / "hub"), file_format="parquet")
    shutil.rmtree(folder)
    (file,) = (tmp_path / "hub").glob("*val*.parquet")
    (row,) = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert row["captions"] == FIVE and row["image"].size == (8, 8)


def test_the_cache_follows_the_folder(tmp_path, load):
    folder = write_karpathy(tmp_path / "rsicd", AUTHORS)
    assert len(load("rsicd", data_dir=folder, split="train")) == 3
    write_karpathy(folder, [*AUTHORS, record("pond_5.jpg", imgid=14)])
    assert len(load("rsicd", data_dir=folder, split="train")) == 4
    (folder / "RSICD_images/pond_5.jpg").unlink()
    with pytest.warns(UserWarning, match=r"skipped 1 image: 1 x no such image \(.*images\[5\], pond_5.jpg\)"):
        assert len(load("rsicd", data_dir=folder, split="train")) == 3
    heavier = load(
        "rsicd", data_dir=write_karpathy(tmp_path / "b", AUTHORS), split="train", weight_average=9, weight_low=0.1
    )
    assert heavier[0]["caption_weights"][0] == pytest.approx(1 / 9)


def test_equal_image_ids_are_renumbered(tmp_path, load):
    folder = write_karpathy(tmp_path / "rsicd", [record("a.jpg", imgid=5), record("b.jpg", imgid=5)])
    assert load("rsicd", data_dir=folder, split="train")["image_id"][:] == [0, 1]


def test_bad_rows_are_skipped_and_counted(tmp_path, load):
    good, blank, broken = (
        record("good.jpg", captions=["a .", " ", "."]),
        record("b.jpg", captions=[" "]),
        record("c.jpg"),
    )
    rows = [good, blank, broken, {"split": "train"}, "nonsense", record("d.jpg", split="holdout"), record("e.jpg")]
    folder = write_karpathy(tmp_path / "rsicd", rows)
    (folder / "RSICD_images/c.jpg").write_bytes(b"no image")
    (folder / "RSICD_images/e.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="RSICD: 1 image; skipped 6 images: ") as caught:
        loaded = load("rsicd", data_dir=folder, split="train")
    assert loaded["filename"][:] == ["good.jpg"]
    assert loaded[0]["captions"] == ["a .", "."], 'a caption of "." is kept'
    (message,) = [str(one.message) for one in caught]
    assert "3 x malformed (dataset_rsicd.json, images[3] (KeyError: 'filename'); " in message, "`split` is there"
    assert "2 x unreadable (dataset_rsicd.json, images[2], " in message
    assert "1 x no caption (dataset_rsicd.json, images[1], b.jpg)" in message


def test_nothing_left_is_an_error_that_names_rows(tmp_path, load):
    folder = write_karpathy(tmp_path / "rsicd", [record("a.jpg"), record("b.jpg")])
    for image in (folder / "RSICD_images").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 x unreadable \(.*images\[0\], .*a.jpg.*Nothing is left"):
        load("rsicd", data_dir=folder)
    for image in (folder / "RSICD_images").iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"2 x no such image \(.*images\[0\], a.jpg.*RSICD_images.*give image_dir"):
        load("rsicd", data_dir=folder)


def test_a_folder_of_another_set_is_told(tmp_path, load, recwarn):
    images = [record(f"{name}_1.jpg") for name in ("airport", "port", "river", "beach")]
    folder = write_karpathy(tmp_path / "rsicd", images, name="dataset.json", images="images")
    load("rsicd", data_dir=folder)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="UCM-Captions: 4 images; noted 2: ") as caught:
        load("ucm_captions", data_dir=folder)
    (message,) = [str(one.message) for one in caught if "noted" in str(one.message)]
    assert "1 x a file of another set than ucm (take the data set of its name) (dataset.json, rsicd)" in message
    assert "classes that UCM-Captions does not have" in message and "2 of 4 images: airport, port" in message
    (folder / "dataset.json").rename(folder / "dataset_ucm.json")
    (folder / "dataset_ucm.json").write_text(json.dumps({"images": images[:2], "dataset": "my own"}))
    with pytest.warns(UserWarning, match=r"noted 1: 1 x classes that UCM-Captions does not have.*is it this set"):
        load("ucm_captions", data_dir=folder)


def test_missing_folder_and_files_tell_what_to_get(tmp_path, load):
    where = (
        r"Get dataset_rsicd.json and the folder RSICD_images/ from https://github.com/201528014227051/RSICD_optimal"
    )
    with pytest.raises(DataError, match=rf"no folder .*absent\. {where}"):
        load("rsicd", data_dir=tmp_path / "absent")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=rf"expected dataset_rsicd.json.*found \[cache/, images/\]\. {where}"):
        (tmp_path / "cache").mkdir(exist_ok=True)
        load("rsicd", data_dir=tmp_path)
    with pytest.raises(StmineError, match=r"give its folder as data_dir.*AMFMN"):
        load("rsitmd")
    with pytest.raises(DataError, match="unknown data set 'coco': expected one of rsicd,"):
        load("coco")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"dataset_rsicd.json": '{"images": [{"fi'}, "dataset_rsicd.json is not JSON.*cut short"),
        ({"dataset_rsicd.json": "[]"}, 'expected {"images"'),
        ({"rsicd_train.json": "{}"}, "expected a list of"),
        ({"train_caps.txt": "a\nb\nc\n", "train_filename.txt": "a.jpg\nb.jpg\n"}, "3 lines.*2 names.*cut short"),
        ({"train_caps.txt": "a\n"}, "needs train_filename.txt"),
    ],
)
def test_broken_annotation_files(tmp_path, load, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load("rsicd", data_dir=tmp_path)


def test_unknown_options_and_splits(tmp_path, load):
    folder = write_karpathy(tmp_path / "rsicd", AUTHORS)
    with pytest.raises(DataError, match=r"colour.*options are: image_dir, weight_average, weight_low"):
        load("rsicd", data_dir=folder, colour="red")
    for streaming in (False, True):
        with pytest.raises(DataError, match=r"no split 'holdout'.*train, val, test"):
            load("rsicd", data_dir=folder, split="holdout", streaming=streaming)
    assert len(load("rsicd", data_dir=folder, split="train[:2]")) == 2
    assert len(load("rsicd", data_dir=folder, split="train+val")) == 4


def test_caption_weights():
    captions = ["a b c d e f g", "a b c d e f g h i j k", "a b c d e f", "a plane .", "."]
    assert caption_weights(captions, mean_words=10) == pytest.approx([1.0, 1.0, 0.95, 0.95, 0.95])
    assert caption_weights(["one two three"], 10, average=0.4, low=0.5) == pytest.approx([0.75])
    assert [count_words(caption) for caption in (".", "1 .", "it 's a dome-shaped , hall .")] == [0, 1, 5]


def test_real_rsicd(shared_data, load):
    sets = load("rsicd", data_dir=shared_data / "remote_sensing/rsicd")
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 8734, "val": 1094}
    train, val = sets["train"], sets["val"]
    assert set(map(len, train["captions"])) == {5}
    assert set(train["label"]) == set(range(31))
    assert train.features["label"].int2str(train[0]["label"]) == "playfields"
    assert len(set(train["image_id"])) == 8734
    full_stops = [row["filename"] for row in train.remove_columns("image") if "." in row["captions"]]
    full_stops += [row["filename"] for row in val.remove_columns("image") if "." in row["captions"]]
    assert {"bridge_59.jpg", "bridge_218.jpg", "parking_211.jpg"} <= set(full_stops)
    weights = [weight for row in train["caption_weights"] for weight in row]
    assert min(weights) == pytest.approx(0.95) and max(weights) == 1.0
    assert 0.05 < sum(weight < 1 for weight in weights) / len(weights) < 0.3
    assert val[0]["image"].convert("RGB").size == (224, 224)


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("ucm_captions", "ucm_captions", {"train": 840, "val": 105, "test": 178}),
        ("rsitmd", "rsitmd_matched", {"train": 762, "val": 116, "test": 173}),
        ("sydney_captions", "sydney_sample", {"train": 9}),
    ],
)
def test_real_small_sets(shared_data, load, name, folder, sizes):
    sets = load(name, data_dir=shared_data / "remote_sensing" / folder)
    assert {split: len(rows) for split, rows in sets.items()} == sizes
    for rows in sets.values():
        assert min(rows["label"]) >= 0
        assert rows[0]["image"].size == (224, 224)
        assert all(len(captions) == 5 for captions in rows["captions"])
    stream = load(name, data_dir=shared_data / "remote_sensing" / folder, split="train", streaming=True)
    assert next(iter(stream))["captions"] == sets["train"][0]["captions"]


def test_real_captions_without_images(shared_data, load):
    with pytest.raises(DataError, match=r"no usable row.*4,713 x no such image \(.*line 1, baseballfield_452.tif; "):
        load("rsitmd", data_dir=shared_data / "remote_sensing/rsitmd_text")


@pytest.mark.parametrize("images", ["NWPU_images", "images", "."])
def test_images_of_classes_in_folders_of_their_names(tmp_path, images):
    for label, colour in (("airport", "red"), ("sea_ice", "blue")):
        (tmp_path / "nwpu" / images / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "nwpu" / images / label / "001.png")
    item = {
        "filename": "001.png",
        "split": "train",
        "raw": "one .",
        "raw_1": "two .",
        "raw_2": " ",
        "raw_10": "last .",
    }
    content = {"airport": [{**item, "imgid": 0}], "sea_ice": [{**item, "imgid": 1, "raw": "ice ."}]}
    (tmp_path / "nwpu/dataset_nwpu.json").write_text(json.dumps(content))
    rows = load_dataset("nwpu_captions", data_dir=tmp_path / "nwpu", split="train", cache_dir=tmp_path / "cache")
    assert [row["image"].getpixel((0, 0)) for row in rows] == [(255, 0, 0), (0, 0, 255)]
    assert [rows.features["label"].int2str(row["label"]) for row in rows] == ["airport", "seaice"]
    assert rows[0]["captions"] == ["one .", "two .", "last ."]
