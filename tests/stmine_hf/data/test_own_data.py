"""One toy set under the columns of others: tables, folders and streams have to give the rows of the toy set itself."""

import csv
import gzip
import json
import os

import datasets
import numpy as np
import pytest

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.toy.toy_scenes import write_scenes

OBJECTS = datasets.List({"box": datasets.List(datasets.Value("float64")), "what": datasets.Value("string")})


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {
        "captions": load_dataset("toy_scenes", count=9, size=32, split="train", cache_dir=cache),
        "posts": load_dataset("toy_posts", count=8, size=32, split="train", cache_dir=cache),
        "boxes": load_dataset("toy_camouflage", count=6, size=64, split="train", cache_dir=cache),
    }


def save_images(rows, folder):
    (folder / "images").mkdir()
    for row in rows:
        row["image"].save(folder / "images" / row["filename"].replace(".jpg", ".png"))
    return [row["filename"].replace(".jpg", ".png") for row in rows]


def write_jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(file, rows):
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def assert_same(own, toys, *columns):
    own = list(own)
    assert len(own) == len(toys)
    for ours, theirs in zip(own, toys, strict=True):
        assert [ours[name] for name in columns] == [theirs[name] for name in columns]
        assert np.array_equal(np.asarray(ours["image"]), np.asarray(theirs["image"]))


def boxes(rows):
    return [list(zip(row["objects"]["bbox"], row["objects"]["category"], strict=True)) for row in rows]


# ---- captions ----


def test_captions_of_a_csv_file_with_a_caption_a_row(toys, tmp_path):
    rows = toys["captions"]
    names = save_images(rows, tmp_path)
    lines = [(name, caption) for name, row in zip(names, rows, strict=True) for caption in row["captions"]]
    write_csv(tmp_path / "mine.csv", [{"file": name, "sentence": caption} for name, caption in lines])
    mapping = {"image": "file", "captions": "sentence"}
    own = load_dataset(str(tmp_path / "mine.csv"), kind="captions", column_mapping=mapping)
    assert list(own) == ["train"]
    assert_same(own["train"], rows, "captions")
    weights = [weight for weights in own["train"]["caption_weights"] for weight in weights]
    assert 0.9499 < min(weights) < max(weights) == 1.0
    assert own["train"]["label"][0] == -1


def test_captions_of_several_columns_and_two_files(toys, tmp_path):
    rows = toys["captions"]
    names = save_images(rows, tmp_path)
    records = [
        {"image": f"images/{name}", "label": f"kind {i % 2}", "one": row["captions"][0], "two": row["captions"][1]}
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    write_jsonl(tmp_path / "train.jsonl", records[:3])
    write_jsonl(tmp_path / "val.jsonl", records[3:])
    own = load_dataset(str(tmp_path), kind="captions", column_mapping={"captions": ["one", "two"]})
    assert {split: len(part) for split, part in own.items()} == {"train": 3, "val": len(rows) - 3}
    assert own["val"].features["label"].names == ["kind 0", "kind 1"]
    assert own["val"][0]["captions"] == rows[3]["captions"][:2]
    assert load_dataset(
        str(tmp_path), kind="captions", column_mapping={"captions": "one"}, split="val[:50%]"
    ).num_rows == round((len(rows) - 3) / 2)


@pytest.mark.parametrize("streaming", [False, True])
def test_captions_of_a_hub_data_set(toys, tmp_path, streaming):
    rows = toys["captions"]
    hub = rows.select_columns(["image", "captions"]).rename_columns({"image": "img", "captions": "text"})
    hub.to_parquet(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet")
    own = load_dataset(
        str(tmp_path / "repo"),
        kind="captions",
        column_mapping={"image": "img", "captions": "text"},
        streaming=streaming,
        split="train",
        cache_dir=tmp_path / "cache",
    )
    assert isinstance(own, datasets.IterableDataset) == streaming
    assert_same(own, rows, "captions")
    assert len({row["image_id"] for row in own}) == len(rows)


# ---- posts ----


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_posts_of_a_table(toys, tmp_path, suffix):
    rows = toys["posts"]
    names = save_images(rows, tmp_path)
    records = [
        {"content": row["text"], "photo": name, "verdict": ("real", "fake")[i % 2]}
        for i, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    (write_csv if suffix == "csv" else write_jsonl)(tmp_path / f"posts.{suffix}", records)
    mapping = {"text": "content", "image": "photo", "label": "verdict"}
    source = str(tmp_path / f"posts.{suffix}")
    own = load_dataset(source, kind="posts", column_mapping=mapping, split="train")
    assert own.features["label"].names == ["fake", "real"]
    assert own["label"][:2] == [1, 0]
    assert_same(own, rows, "text")
    swapped = load_dataset(source, kind="posts", column_mapping=mapping, split="train", labels=["real", "fake"])
    assert swapped["label"][:2] == [0, 1]


def test_posts_of_a_saved_data_set(toys, tmp_path):
    rows = toys["posts"].rename_column("text", "content")
    datasets.DatasetDict({"train": rows, "validation": rows.select([0])}).save_to_disk(tmp_path / "saved")
    own = load_dataset(str(tmp_path / "saved"), kind="posts", column_mapping={"text": "content"})
    assert list(own) == ["train", "val"]
    assert own["train"].features["label"].names == rows.features["label"].names
    assert_same(own["train"], toys["posts"], "text", "label", "post_id")


# ---- boxes ----


def test_boxes_of_an_imagefolder(toys, tmp_path):
    rows = toys["boxes"]
    names = save_images(rows, tmp_path)
    classes = rows.features["objects"]["category"].feature.names
    records = [
        {
            "file_name": name,
            "objects": {
                "bbox": row["objects"]["bbox"],
                "category": [classes[label] for label in row["objects"]["category"]],
            },
        }
        for row, name in zip(rows, names, strict=True)
    ]
    write_jsonl(tmp_path / "images" / "metadata.jsonl", records)
    source, cache = str(tmp_path / "images"), tmp_path / "cache"
    own = load_dataset(source, kind="boxes", classes=classes, split="train", cache_dir=cache)
    assert_same(own, rows, "width", "height")
    assert boxes(own) == boxes(rows)


def test_boxes_of_a_csv_file_with_a_box_a_row(toys, tmp_path):
    rows = toys["boxes"]
    names = save_images(rows, tmp_path)
    classes = rows.features["objects"]["category"].feature.names
    records = []
    for row, name in zip(rows, names, strict=True):
        objects = row["objects"]
        for (x, y, w, h), label in zip(objects["bbox"], objects["category"], strict=True):
            records.append({"img": name, "l": x, "t": y, "r": x + w, "b": y + h, "animal": classes[label]})
        if not objects["bbox"]:
            records.append({"img": name, "l": "", "t": "", "r": "", "b": "", "animal": ""})
    write_csv(tmp_path / "boxes.csv", records)
    own = load_dataset(
        str(tmp_path / "boxes.csv"),
        kind="boxes",
        column_mapping={"image": "img", "bbox": ["l", "t", "r", "b"], "category": "animal"},
        bbox_format="xyxy",
        classes=classes,
        split="train",
    )
    assert_same(own, rows, "width", "height")
    assert boxes(own) == boxes(rows)
    ids = [number for row in own for number in row["objects"]["id"]]
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("streaming", [False, True])
def test_boxes_of_a_hub_data_set(toys, tmp_path, streaming):
    rows = toys["boxes"]
    classes = rows.features["objects"]["category"].feature.names
    records = [
        {
            "image": row["image"],
            "things": [
                {"box": [x + w / 2, y + h / 2, w, h], "what": classes[label]}
                for (x, y, w, h), label in zip(row["objects"]["bbox"], row["objects"]["category"], strict=True)
            ],
        }
        for row in rows.cast_column("image", datasets.Image(decode=False))
    ]
    features = datasets.Features({"image": datasets.Image(), "things": OBJECTS})
    datasets.Dataset.from_list(records, features).to_parquet(tmp_path / "repo" / "train.parquet")
    own = load_dataset(
        str(tmp_path / "repo"),
        kind="boxes",
        column_mapping={"bbox": "things.box", "category": "things.what"},
        bbox_format="cxcywh",
        classes=classes,
        streaming=streaming,
        split="train",
        cache_dir=tmp_path / "cache",
    )
    assert_same(own, rows, "width", "height")
    for ours, theirs in zip(own, rows, strict=True):
        assert ours["objects"]["category"] == theirs["objects"]["category"]
        assert np.allclose(ours["objects"]["bbox"], theirs["objects"]["bbox"])


# ---- what is wrong ----


def test_a_missing_column_is_named_beside_those_there(toys, tmp_path):
    write_csv(tmp_path / "mine.csv", [{"img": "a.png", "sentence": "a plane"}])
    write_csv(tmp_path / "odd.csv", [{"imagen": "a", "oracion": "a plane"}])
    with pytest.raises(
        DataError, match=r"no column 'image' \(image\), but imagen, oracion.*\{\"image\": \"imagen\"\}"
    ):
        load_dataset(str(tmp_path / "odd.csv"), kind="captions")
    with pytest.raises(DataError, match=r"no column 'words'.*img, sentence"):
        load_dataset(str(tmp_path / "mine.csv"), kind="captions", column_mapping={"image": "img", "captions": "words"})
    with pytest.raises(DataError, match=r"given for 'caption' .*, but rows of the kind captions are made of"):
        load_dataset(str(tmp_path / "mine.csv"), kind="captions", column_mapping={"caption": "sentence"})
    with pytest.raises(DataError, match="--kind captions, posts or boxes"):
        load_dataset(str(tmp_path / "mine.csv"))
    with pytest.raises(DataError, match="no option labelz; its options are: name"):
        load_dataset(str(tmp_path / "mine.csv"), kind="posts", labelz=["a"])
    with pytest.raises(DataError, match="rsicd knows its columns"):
        load_dataset("rsicd", column_mapping={"image": "img"})
    with pytest.raises(DataError, match="weibo has no rows of boxes: expected coco_json"):
        load_dataset("weibo", kind="boxes")
    with pytest.raises(DataError, match="bbox_format has to be one of xywh"):
        load_dataset(str(tmp_path / "mine.csv"), kind="boxes", bbox_format="yxyx")


def test_a_hub_column_that_holds_no_images(tmp_path):
    rows = datasets.Dataset.from_dict({"image": [1], "captions": [["a plane"]]})
    rows.to_parquet(tmp_path / "repo" / "train.parquet")
    with pytest.raises(DataError, match="column 'image' holds no images"):
        load_dataset(str(tmp_path / "repo"), kind="captions", cache_dir=tmp_path)


def test_what_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(DataError, match=r"nobody/nothing cannot be loaded.*the id of a data set on the Hub"):
        load_dataset("nobody/nothing", kind="captions", cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"unknown data set 'nothing\.csv'"):
        load_dataset("nothing.csv", kind="captions")


def test_a_folder_of_a_known_layout_is_sent_to_its_builder(tmp_path):
    write_scenes(tmp_path / "scenes", count=3, size=32)
    with pytest.raises(DataError, match=r"no row in dataset\.json.*layout of one of rsicd, .* as its data_dir"):
        load_dataset(str(tmp_path / "scenes"), kind="captions")


def test_bad_rows_are_left_out_and_counted(toys, tmp_path):
    names = save_images(toys["boxes"].select(range(2)), tmp_path)
    (tmp_path / "images" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    good = {"bbox": [[1, 2, 8, 9]], "category": ["deer"]}
    lines = [
        json.dumps({"image": names[0], "objects": good}),
        json.dumps(
            {"image": names[1], "objects": {"bbox": [[1, 2, "x", 9], [500, 2, 3, 4]], "category": ["deer"] * 2}}
        ),
        "{not json",
        json.dumps({"image": "gone.png", "objects": good}),
        json.dumps({"image": "torn.png", "objects": good}),
        json.dumps({"image": names[0].replace(".", "-2."), "objects": {"bbox": [[1, 2, 3, 4]], "category": []}}),
    ]
    (tmp_path / "images" / names[0].replace(".", "-2.")).write_bytes((tmp_path / "images" / names[0]).read_bytes())
    (tmp_path / "boxes.jsonl").write_text("\n".join(lines))
    with pytest.warns(UserWarning) as caught:
        own = load_dataset(str(tmp_path / "boxes.jsonl"), kind="boxes", split="train")
    message = next(str(one.message) for one in caught if "skipped" in str(one.message))
    for part in (
        "2 images; skipped 4 rows",
        "1 x not JSON (boxes.jsonl, line 3)",
        "no such image (boxes.jsonl, line 4, gone.png)",
        "unreadable",
        "1 boxes and 0 categories",
        "dropped 2 boxes",
        "'x' where a number was expected",
        "outside its image",
    ):
        assert part in message
    assert [len(row["objects"]["bbox"]) for row in own] == [1, 0]


def test_a_stream_tells_what_it_leaves_out(toys, tmp_path):
    rows = toys["posts"].select(range(4))
    texts = [rows[0]["text"], "", rows[2]["text"], rows[3]["text"]]
    broken = {
        "text": texts,
        "image": [{"bytes": b"no image", "path": None}, None, None, None],
        "label": ["fake", "real", "fake", "odd"],
    }
    features = datasets.Features(
        {"text": datasets.Value("string"), "image": datasets.Image(), "label": datasets.Value("string")}
    )
    datasets.Dataset.from_dict(broken, features).to_parquet(tmp_path / "repo" / "train.parquet")
    options = {"kind": "posts", "streaming": True, "split": "train", "cache_dir": tmp_path}
    with pytest.raises(DataError, match="the labels of a stream are not known before its end"):
        load_dataset(str(tmp_path / "repo"), **options)
    with pytest.warns(UserWarning, match="so far: skipped 2 rows: 1 x neither text nor image"):
        own = list(load_dataset(str(tmp_path / "repo"), labels=["fake", "real"], **options))
    assert [row["text"] for row in own] == [texts[0], texts[2]]
    assert own[0]["image"] is None


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_card_lists_files_of_its_own_folder_only(tmp_path, card, streaming):
    """`datasets` reads what the card of a folder lists, also a diary elsewhere on the disk."""
    mine, foreign = tmp_path / "diary.jsonl", tmp_path / "foreign"
    write_jsonl(mine, [{"text": "dear diary", "label": "a"}, {"text": "dear diary", "label": "b"}])
    (foreign / "data").mkdir(parents=True)
    (foreign / "data" / "x.jsonl.gz").write_bytes(gzip.compress(mine.read_bytes()))
    mapping = {"text": "text", "label": "label"}
    for place in (str(mine), "../diary.jsonl", "data/../../diary.jsonl", "~/diary.jsonl", f"file://{mine}", "data/*"):
        lists = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: ['{place}']\n"
        (foreign / card).write_text(f"---\n{lists}---\n" if card == "README.md" else lists)
        if place == "data/*":
            options = {"kind": "posts", "column_mapping": mapping, "streaming": streaming, "labels": ["a", "b"]}
            assert len(list(load_dataset(str(foreign), **options)["train"])) == 2
            continue
        with pytest.raises(DataError, match="expected files of its own folder"):
            load_dataset(str(foreign), kind="posts", column_mapping=mapping, streaming=streaming)


def test_an_empty_name_in_a_column_of_paths_is_no_image(toys, tmp_path):
    names = save_images(toys["posts"], tmp_path)
    table = {"image": [names[0], "", None], "text": ["a", "b", "c"], "label": ["x", "y", "x"]}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "train.parquet")
    mapping = {name: name for name in table}
    own = load_dataset(str(tmp_path / "train.parquet"), kind="posts", column_mapping=mapping, split="train")
    assert [row["image"] is not None for row in own] == [True, False, False]


def test_a_pipe_named_like_a_table_is_not_read(tmp_path):
    """Opening one waits for a writer, for ever."""
    for name in ("metadata.csv", "train.parquet", "a.tar", "train.jsonl", "instances.json", "a.xml", "a.txt"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="cannot be loaded"):
        load_dataset(str(tmp_path), kind="posts", column_mapping={"text": "text", "label": "label"})


def test_a_saved_set_names_shards_of_its_own_only(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["dear diary", "b"], "label": ["x", "y"]})
    for name in ("mine", "foreign"):
        datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / name)
    state = tmp_path / "foreign" / "train" / "state.json"
    content = json.loads(state.read_text())
    content["_data_files"][0]["filename"] = "../../mine/train/data-00000-of-00001.arrow"
    state.write_text(json.dumps(content))
    options = {"kind": "posts", "column_mapping": {"text": "text", "label": "label"}}
    assert len(load_dataset(str(tmp_path / "mine"), **options)["train"]) == 2
    with pytest.raises(DataError, match="expected files of its own folder"):
        load_dataset(str(tmp_path / "foreign"), **options)
