"""What a path holds is recognised by names, and said; what is not there is an error at once."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset
from datasets import Image as ImageFeature
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.columns import assign_columns
from stmine_hf.data.recognition import likely_kind, read_recognized, recognize
from stmine_hf.posts.reading import post_columns, read_posts


def write_csv(path: Path, *rows: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_image(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return path


@pytest.mark.parametrize(
    ("header", "kind", "mapping"),
    [
        (["file", "sentence"], "captions", {"image": "file", "captions": "sentence"}),
        (["File Name", "caption"], "captions", {"image": "File Name", "captions": "caption"}),
        (["Image", "Caption_1", "Caption_2"], "captions", {"image": "Image", "captions": ["Caption_1", "Caption_2"]}),
        (["content", "photo", "verdict"], "posts", {"text": "content", "label": "verdict", "image": "photo"}),
        (["图片", "标题", "标签"], "posts", {"text": "标题", "label": "标签", "image": "图片"}),
        (["text", "label", "event"], "posts", {"text": "text", "label": "label", "group": "event"}),
        (
            ["filename", "class", "xmin", "ymin", "xmax", "ymax"],
            "boxes",
            {"image": "filename", "category": "class", "bbox": ["xmin", "ymin", "xmax", "ymax"]},
        ),
    ],
)
def test_columns_are_known_by_their_names(tmp_path, header, kind, mapping):
    path = write_csv(tmp_path / "mine.csv", header, ["a.png" if name in ("photo", "图片") else "1" for name in header])
    found = recognize(str(path), kind)
    assert {part: found.column_mapping[part] for part in mapping} == mapping
    assert found.options.get("bbox_format") == ("xyxy" if kind == "boxes" else None)
    assert all(any(str(part) in line for line in found.taken) for part in mapping)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("编号,正文,图片,标签", "text: 正文, image: 图片, label: 标签, id: 编号"),
        ("ID,Tweet,Verdict", "text: Tweet, label: Verdict, id: ID"),
        ("id,title,content,label", "text: content, label: label, id: id"),
        ("标题,内容,类别", "text: 内容, label: 类别"),
        ("id,clean_title,2_way_label,3_way_label", "text: clean_title, label: 2_way_label, id: id"),
        ("text,category,label", "text: text, label: label"),
    ],
)
def test_every_door_finds_the_same_columns_of_posts(tmp_path, header, line):
    path = write_csv(tmp_path / "mine.csv", header.split(","), ["1", *["a b", "c d"] * 2][: len(header.split(","))])
    assert post_columns(path).line == line
    assert recognize(str(path), "posts").taken == [line] and likely_kind(str(path)) == "posts"
    (row,) = read_posts(path)
    text = line.split(",")[0].removeprefix("text: ")
    assert row.post.text == row.cells[text]
    loaded = load_dataset(str(path), kind="posts")["train"]
    assert loaded["text"][:] == [row.post.text]


def test_equally_good_columns_are_refused_with_the_option_to_give(tmp_path):
    path = write_csv(tmp_path / "mine.csv", ["tweet", "content", "label"], ["a b", "c d", "x"], ["e", "f", "y"])
    message = r"the text may be in the column 'tweet' or 'content'. Say which it is: --column text=tweet"
    for door in (
        lambda: recognize(str(path), "posts"), lambda: post_columns(path), lambda: list(read_posts(path)),
        lambda: load_dataset(str(path), kind="posts"),
    ):  # fmt: skip
        with pytest.raises(Exception, match=message):
            door()
    assert post_columns(path, columns={"text": "content"}).of == {"text": "content", "label": "label"}
    assert recognize(str(path), "posts", {"text": "content"}).column_mapping["text"] == "content"


def test_the_first_cells_tell_equally_good_names_apart():
    rows = [
        {"content": f"http://t.co/{n}", "tweet": f"some words {n}", "pic": f"{n}.jpg", "photo": n} for n in range(6)
    ]
    rows = [{**row, "fake": n % 2, "verdict": f"why {n}"} for n, row in enumerate(rows)]
    found = assign_columns("posts", list(rows[0]), None, rows)
    assert found.of == {"text": "tweet", "image": "pic", "label": "fake"} and not found.doubtful
    assert set(assign_columns("posts", list(rows[0])).doubtful) == {"text", "image", "label"}
    named = [{"正文": f"a{n}", "附件": f"图/{n}.JPG"} for n in range(3)]  # by its cells alone
    assert assign_columns("posts", ["正文", "附件"], None, named).of == {"text": "正文", "image": "附件"}
    assert assign_columns("posts", ["正文", "附件"]).of == {"text": "正文"}


def test_an_id_that_is_doubtful_is_said_and_none_is_taken(tmp_path):
    path = write_csv(tmp_path / "mine.csv", ["text", "编号", "mid"], ["a", "1", "x"], ["b", "2", "y"])
    assert post_columns(path).line == "text: text, id: none (编号 or mid: say which by --column id=编号)"
    assert [row.id for row in read_posts(path)] == ["line 2", "line 3"]
    assert [row.id for row in read_posts(path, columns={"id": "mid"})] == ["x", "y"]


def test_images_that_no_column_names_are_said(tmp_path):
    """As in Fakeddit, where images are called by the ids of their posts."""
    path = write_csv(tmp_path / "p.tsv", ["id\ttitle\tlabel"], ["a1\tone\tx"], ["b2\ttwo\ty"])
    for name in ("a1.jpg", "b2.PNG", "other.jpg"):
        write_image(tmp_path / "images" / name)
    note = (
        "image: none, though there is a folder images (to use it, say --column image=id, whose cells are their names)"
    )
    assert post_columns(path).line.endswith(f"; {note}") and recognize(str(path), "posts").taken[1] == note
    rows = list(read_posts(path, columns={"image": "id"}))
    assert [(row.id, row.post.images[0].path.name) for row in rows] == [("a1", "a1.jpg"), ("b2", "b2.PNG")]
    loaded = load_dataset(str(path), kind="posts", column_mapping={"image": "id"}, split="train")
    assert loaded["post_id"][:] == ["a1", "b2"] and all(image is not None for image in loaded["image"])


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("text,label,image", "posts"),
        ("sentence,label,image", "captions"),
        ("image,caption_1,caption_2", "captions"),
        ("image,class,x1,y1,x2,y2", "boxes"),
        ("a,b", None),
    ],
)
def test_the_kind_of_a_table(tmp_path, header, kind):
    assert (
        likely_kind(str(write_csv(tmp_path / "mine.csv", header.split(","), ["1"] * len(header.split(","))))) == kind
    )


def test_corner_columns_need_no_format(tmp_path):
    write_image(tmp_path / "a.png")
    path = write_csv(tmp_path / "b.csv", ["filename", "class", "x1", "y1", "x2", "y2"], ["a.png", "cat", 5, 5, 25, 20])
    splits, _, taken = read_recognized(str(path), "boxes")
    for rows in (splits["train"], load_dataset(str(path), kind="boxes", split="train")):
        assert rows[0]["objects"]["bbox"] == [[5, 5, 20, 15]]
    assert taken.taken == ["image: filename, bbox: x1 + y1 + x2 + y2, category: class"]


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        ({"body": "a b", "quoted": {"text": "c"}}, "text: body"),
        ({"content": "a b", "comments": [{"text": "c"}]}, "text: content"),
        (
            {"text": "a", "replies": [{"id": 5}], "entities": {"images": 2}, "user": {"id": 7, "picture": "u.jpg"}},
            "text: text",
        ),
        ({"text": "a", "path": "r/politics"}, "text: text"),
        ({"text": "a", "file": "part-001", "picture": "https://example.org/a.jpg"}, "text: text"),
        ({"text": "a", "images": "3"}, "text: text"),
        ({"text": "a", "images": 3, "key": [1, 2], "no": True}, "text: text"),
        ({"text": "a", "path": "b/c.jpg", "no": 7}, "text: text, image: path, id: no"),
        ({"post": {"text": "a"}, "replies": [{"text": "b"}]}, "text: post.text"),
    ],
)
def test_a_column_is_not_taken_for_what_its_cells_cannot_be(tmp_path, cells, line):
    """Fields of other posts, counts, links and folders are called like parts of a post."""
    (tmp_path / "a.jsonl").write_text(json.dumps(cells) + "\n", encoding="utf-8")
    assert post_columns(tmp_path / "a.jsonl").line == line
    assert recognize(str(tmp_path / "a.jsonl"), "posts").taken == [line]


def test_an_area_beside_boxes_is_that_of_something_else():
    names = ["image", "x1", "y1", "x2", "y2", "category", "area"]
    assert "area" not in assign_columns("boxes", names).of
    assert (
        assign_columns("boxes", ["image", "objects.bbox", "objects.category", "objects.area"]).of["area"]
        == "objects.area"
    )


def test_the_columns_of_a_parquet_file_are_known_without_reading_it(tmp_path):
    posts = Dataset.from_list([{"正文": "a", "图片": None, "标签": "x"}, {"正文": "b", "图片": None, "标签": "y"}])
    posts.cast_column("图片", ImageFeature()).to_parquet(tmp_path / "mine.parquet")
    assert likely_kind(str(tmp_path / "mine.parquet")) == "posts"
    assert recognize(str(tmp_path / "mine.parquet"), "posts").taken == ["text: 正文, image: 图片, label: 标签"]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("captions", {"image": None, "captions": ["a"], "label": 0}),
        ("posts", {"text": "a", "label": 0, "image": None}),
        ("boxes", {"image": None, "objects": {"bbox": [[0.0, 0.0, 1.0, 1.0]], "category": [0]}}),
    ],
)
def test_the_kind_of_a_folder_of_parquet_files(tmp_path, kind, row):
    """As `data export` writes it."""
    (tmp_path / "data").mkdir()
    Dataset.from_list([row]).cast_column("image", ImageFeature()).to_parquet(tmp_path / "data" / "train.parquet")
    assert likely_kind(str(tmp_path)) == kind


def test_words_of_labels_can_be_said_to_mean_the_models(tmp_path):
    path = write_csv(tmp_path / "p.csv", ["text", "标签"], ["a", "谣言"], ["b", "真实"], ["c", "谣言"], ["d", ""])
    meant = {"谣言": "fake", "真实": "real"}
    rows = load_dataset(str(path), kind="posts", label_names=meant, split="train")
    assert rows.features["label"].names == ["fake", "real"] and rows["label"][:] == [0, 1, 0, -1]
    joined = load_dataset(str(path), kind="posts", label_names={"谣言": "x", "真实": "x"}, split="train")
    assert joined.features["label"].names == ["x"]
    with pytest.raises(
        DataError, match="no row has the label '假', which is to mean 'fake'; the labels are '真实', '谣言'"
    ):
        load_dataset(str(path), kind="posts", label_names={"假": "fake"})


def test_words_of_labels_that_have_no_rows(tmp_path):
    """A part of a data set may lack a label; a word that is spelled wrong leaves one over."""
    meant = {"谣言": "fake", "真实": "real"}
    path = write_csv(tmp_path / "one.csv", ["text", "标签"], ["a", "谣言"], ["b", "谣言"])
    rows = load_dataset(str(path), kind="posts", label_names=meant, split="train")
    assert rows.features["label"].names == ["fake", "real"] and rows["label"][:] == [0, 0]
    path = write_csv(tmp_path / "two.csv", ["text", "标签"], ["a", "谣言"], ["b", "真实"])
    with pytest.raises(DataError, match="no row has the label '真是'"):
        load_dataset(str(path), kind="posts", label_names={"谣言": "fake", "真是": "real"})


@pytest.mark.parametrize("given", [["real", "fake"], ["真实", "谣言"]])
@pytest.mark.parametrize("streaming", [False, True])
def test_labels_in_their_order_and_words_for_them(tmp_path, given, streaming):
    options = {"kind": "posts", "labels": given, "label_names": {"谣言": "fake", "真实": "real"}}
    file = str(
        write_csv(tmp_path / "p.csv", ["text", "label"], ["a", "谣言"], ["b", "真实"], ["c", "real"], ["d", "1"])
    )
    stored = Dataset.from_dict({"text": ["a", "b"], "label": ["谣言", "真实"]})
    stored.to_parquet(tmp_path / "words.parquet")
    stored.cast_column("label", ClassLabel(names=["谣言", "真实"])).to_parquet(tmp_path / "places.parquet")
    for source in (file, str(tmp_path / "words.parquet"), str(tmp_path / "places.parquet")):
        rows = load_dataset(source, split="train", streaming=streaming, **options)
        assert rows.features["label"].names == ["real", "fake"]
        assert [row["label"] for row in rows] == ([1, 0, 0, 1] if source == file else [1, 0])
    with pytest.raises(DataError, match="'谣言' means 'hoax', which is none of the labels given: 'real', 'x'"):
        load_dataset(file, **options | {"labels": ["real", "x"], "label_names": {"谣言": "hoax"}})


def test_words_may_be_labels_of_another_sense(tmp_path):
    file = write_csv(tmp_path / "p.csv", ["text", "label"], ["a", "fake"], ["b", "real"], ["c", "1"], ["d", "2"])
    swapped = {"fake": "real", "real": "fake"}
    with pytest.warns(UserWarning, match="unknown label '?2"):
        rows = load_dataset(str(file), kind="posts", labels=["fake", "real"], label_names=swapped, split="train")
    assert rows.features["label"].names == ["fake", "real"] and rows["label"][:] == [1, 0, 1]


def test_a_column_that_is_given_wins(tmp_path):
    path = write_csv(tmp_path / "mine.csv", ["file", "text", "title"], ["a", "b", "c"])
    assert recognize(str(path), "captions", {"captions": "title"}).column_mapping["captions"] == "title"


def test_a_table_with_corners_is_read_as_it_was_recognised(tmp_path):
    write_image(tmp_path / "a.png")
    rows = [["filename", "class", "x1", "y1", "x2", "y2"], ["a.png", "cat", 5, 5, 25, 20]]
    found = recognize(str(write_csv(tmp_path / "boxes.csv", *rows)), "boxes")
    loaded = load_dataset(found.dataset, kind="boxes", column_mapping=found.column_mapping, **found.options)
    assert loaded["train"][0]["objects"]["bbox"] == [[5, 5, 20, 15]]


def test_layouts_are_known_by_their_files(tmp_path):
    coco = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "annotations" / "instances_train.json").write_text(json.dumps(coco))
    found = recognize(str(tmp_path / "coco"), "boxes")
    assert (found.dataset, found.data_dir) == ("coco_json", str(tmp_path / "coco"))
    alone = tmp_path / "boxes.json"
    alone.write_text(json.dumps(coco))
    found = recognize(str(alone), "boxes")
    assert (found.dataset, found.data_dir, found.options) == (
        "coco_json",
        str(tmp_path),
        {"files": {"train": "boxes.json"}},
    )
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "dataset.json").write_text('{"images": []}')
    assert recognize(str(tmp_path / "scenes"), "captions").dataset == "rsicd"
    assert (
        recognize("toy_posts", "posts").dataset == "toy_posts" and recognize("org/name", "posts").dataset == "org/name"
    )


@pytest.mark.parametrize("path", ["nowhere", "nowhere.csv", "empty", "empty.csv", "toy_posts"])
def test_what_is_not_there_is_an_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.csv").touch()
    with pytest.raises(DataError, match=r"no such file or folder|is empty|has no rows of boxes"):
        recognize(path, "boxes")


def test_a_wrong_path_is_told_before_anything_large_is_imported():
    code = (
        "import sys; from stmine_hf.data.paths import require_data\n"
        "try: require_data('nowhere')\nexcept Exception: pass\n"
        "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("encoding", ["gbk", "gb2312", "GB18030", "cp936"])
def test_a_table_in_gbk_may_have_characters_of_gb18030(tmp_path, encoding):
    """Programs write these by the name of the smaller encoding."""
    (tmp_path / "a.csv").write_bytes("正文,标签\n喜欢😀,真\n㐀㐁,假\n".encode("gb18030"))
    assert [row.post.text for row in read_posts(tmp_path / "a.csv", encoding=encoding)] == ["喜欢😀", "㐀㐁"]


def test_parts_that_are_given_say_the_kind(tmp_path, capsys):
    write_image(tmp_path / "a.png")
    path = write_csv(tmp_path / "mine.csv", ["航片名", "英文说明"], ["a.png", "a farm"])
    with pytest.raises(SystemExit, match="0"):
        main(["data", "describe", str(path), "--column", "captions=英文说明", "--column", "image=航片名"])
    assert "Read as captions: image: 航片名, captions: 英文说明" in capsys.readouterr().out


def test_columns_of_no_known_name_are_listed(tmp_path, capsys):
    path = write_csv(tmp_path / "mine.csv", ["航片名", "英文说明"], ["a", "b"])
    with pytest.raises(SystemExit, match="1"):
        main(["data", "describe", str(path)])
    assert "found the columns 航片名, 英文说明: say what the rows are by --kind" in capsys.readouterr().err
