"""Data as people have it: one test for each way in which files of the field differ from those of a standard."""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import unicodedata
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.findings import Findings
from stmine_hf.errors import StmineError
from stmine_hf.posts.reading import read_posts

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
CATEGORY = [{"id": 1, "name": "cat"}]


@pytest.fixture
def load(tmp_path):
    """Rows of the only split, and the warnings of the load."""

    def load(name, folder=None, **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            given = {} if folder is None else {"data_dir": folder}
            rows = load_dataset(str(name), split="train", cache_dir=tmp_path / "cache", **given, **options)
        return rows, " ".join(str(one.message) for one in caught if one.category is UserWarning)

    return load


def paint(path: Path, colour=RED, size=(200, 100)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)
    return path


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def coco(folder: Path, names: list[str], boxes: list[dict], categories=CATEGORY, **images) -> Path:
    entries = [{"id": number, "file_name": name, **images} for number, name in enumerate(names, start=1)]
    boxes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], **b} for n, b in enumerate(boxes, 1)]
    content = {"images": entries, "annotations": boxes, "categories": categories}
    put(folder / "annotations/instances_train.json", json.dumps(content))
    return folder


def voc(file: Path, name: str, encoding: str = "utf-8", declared: bool = True, label: str = "cat") -> None:
    corners = "<xmin>10</xmin><ymin>10</ymin><xmax>50</xmax><ymax>60</ymax>"
    text = f"<annotation><filename>{name}</filename><object><name>{label}</name><bndbox>{corners}</bndbox></object>"
    head = f'<?xml version="1.0" encoding="{encoding}"?>' if declared else ""
    put(file, f"{head}{text}</annotation>".encode(encoding))


def pixel(row) -> tuple:
    return row["image"].convert("RGB").getpixel((5, 5))


# ---- names ----


def test_a_name_with_a_folder_means_that_file(tmp_path, load):
    for name, colour in (("", BLACK), ("cam1/", RED), ("cam2/", BLUE)):
        paint(tmp_path / f"voc/JPEGImages/{name}0001.jpg", colour)
        voc(tmp_path / f"voc/Annotations/{name}0001.xml", "0001.jpg")
    put(tmp_path / "voc/ImageSets/Main/train.txt", "0001\ncam1/0001\ncam2/0001\n")
    assert [pixel(row) for row in load("voc_xml", tmp_path / "voc")[0]] == [BLACK, RED, BLUE]
    paint(tmp_path / "coco/images/1.jpg", GREEN)
    folder = coco(tmp_path / "coco", ["1.jpg", "cam2/1.jpg"], [{}, {"image_id": 2}])
    rows, said = load("coco_json", folder)
    assert (
        len(rows) == 1 and len(rows[0]["objects"]["id"]) == 1 and "1 x no such file" in said and "cam2/1.jpg" in said
    )
    paint(tmp_path / "yolo/images/train/1.jpg", GREEN)
    paint(tmp_path / "yolo/images/train/background/1.jpg", BLACK)
    put(tmp_path / "yolo/labels/train/1.txt", "0 .5 .5 .2 .2\n")
    put(tmp_path / "yolo/classes.txt", "dog\n")
    found = {pixel(row): len(row["objects"]["id"]) for row in load("yolo_txt", tmp_path / "yolo")[0]}
    assert found == {GREEN: 1, BLACK: 0}
    paint(tmp_path / "csv/images/1.jpg", GREEN)
    paint(tmp_path / "csv/images/x/1.jpg", RED)
    file = put(tmp_path / "csv/c.csv", "image,captions\nx/1.jpg,red\ny/1.jpg,blue\n")
    rows, said = load(file, kind="captions")
    assert [(pixel(row), row["captions"]) for row in rows] == [(RED, ["red"])] and "y/1.jpg" in said


@pytest.mark.parametrize(
    ("listed", "there", "noted"),
    [
        ("a.jpg", "a.JPG", "another writing"),
        ("a.JPEG", "a.jpeg", "another writing"),
        ("my%20a%203.jpg", "my a 3.jpg", "another writing"),
        ("my a.jpg", "my%20a.jpg", "another writing"),
        ("caf\u00e9.jpg", unicodedata.normalize("NFD", "caf\u00e9.jpg"), "another writing"),
        (unicodedata.normalize("NFD", "\ub3c4\uc2dc.jpg"), "\ub3c4\uc2dc.jpg", "another writing"),
        ("caf%C3%A9/a.jpg", "caf\u00e9/a.jpg", "another writing"),
        ('"a b.jpg"', "a b.jpg", "another writing"),
        (".\\sub\\a.jpg", "sub/a.jpg", ""),
        ("D:\\data\\a.jpg", "a.jpg", "another folder"),
        ("/volume/other/set/sub/a.jpg", "sub/a.jpg", "another folder"),
        ("\\\\server\\share\\a.jpg", "sub/a.jpg", "another folder"),
        ("a.jpg", "deep/down/a.jpg", "another folder"),
        ("a.tif", "a.jpg", ""),
    ],
)
def test_writings_of_a_name(tmp_path, load, listed, there, noted):
    paint(tmp_path / "set/images" / there)
    rows, said = load("coco_json", coco(tmp_path / "set", [listed], [{}]))
    assert len(rows) == 1 and len(rows[0]["objects"]["id"]) == 1
    assert noted in said and bool(said) == bool(noted)
    put(tmp_path / "posts/posts.jsonl", json.dumps({"text": "x", "label": "a", "image": listed}))
    paint(tmp_path / "posts/images" / there)
    assert load("posts", tmp_path / "posts")[0][0]["image"] is not None
    put(
        tmp_path / "captions/dataset.json",
        json.dumps({"images": [{"filename": listed, "split": "train", "sentences": ["a river"]}]}),
    )
    paint(tmp_path / "captions/images" / there)
    assert len(load("rsicd", tmp_path / "captions")[0]) == 1
    put(tmp_path / "own/c.jsonl", json.dumps({"image": listed, "captions": "a river"}))
    paint(tmp_path / "own/images" / there)
    assert len(load(tmp_path / "own/c.jsonl", kind="captions")[0]) == 1


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        (["a.jpg", "y/a.jpg"], ["a.jpg"]),  # it belongs to the first
        (["y/a.jpg", "z/a.jpg"], ["a.jpg"]),  # two names lead to it
        (["D:\\x\\a.jpg"], ["one/a.jpg", "two/a.jpg"]),
        (["a.jpg"], ["a.Jpg", "a.JPG"]),
        (["a.tif"], ["a.jpg", "a.png"]),
        (["cam2/a.jpg"], ["cam1/a.jpg"]),  # of another camera
        (["a.tif", "a.jpg"], ["a.jpg"]),
    ],
)
def test_nothing_is_guessed(tmp_path, load, listed, there):
    for name in there:
        paint(tmp_path / "set/images" / name)
    folder = coco(tmp_path / "set", listed, [{"image_id": n} for n in range(1, len(listed) + 1)])
    exact = len(set(listed) & set(there))
    if not exact:
        with pytest.raises(DataError, match="no such file"):
            load("coco_json", folder)
    else:
        assert len(load("coco_json", folder)[0]) == exact


@pytest.mark.parametrize(
    "line", ["street 1", '"street 1"', "street 1 -1", "street 1  1", "street 1.jpg", "./street 1"]
)
def test_ids_of_voc_lists(tmp_path, load, line):
    paint(tmp_path / "set/JPEGImages/street 1.jpg")
    voc(tmp_path / "set/Annotations/street 1.xml", "street 1.jpg")
    put(tmp_path / "set/ImageSets/Main/train.txt", line + "\n")
    rows, said = load("voc_xml", tmp_path / "set")
    assert len(rows) == 1 and not said


def test_lines_end_with_line_feeds(tmp_path, load):
    for name in ("pic a.jpg", "pic b.jpg"):
        paint(tmp_path / "set/images" / name)
    put(tmp_path / "set/train_filename.txt", "pic a.jpg\npic a.jpg\npic b.jpg\npic b.jpg\n")
    put(tmp_path / "set/train_caps.txt", "one\ntwo \u2028 more\nthr\x85ee\nfo\x0bur\n")
    rows, _ = load("rsicd", tmp_path / "set")
    assert rows["captions"][:] == [["one", "two \u2028 more"], ["thr\x85ee", "fo\x0bur"]]


# ---- tables ----


def image_bytes(kind="PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), RED).save(file, kind)
    return file.getvalue()


STRUCT = pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        STRUCT,
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.string(),
        pa.large_string(),
        pa.string_view(),
    ],
    ids=str,
)
def test_types_of_image_columns(tmp_path, load, kind, suffix):
    paint(tmp_path / "set/images/a.png")
    is_text = str(kind).endswith(("string", "string_view"))
    value = "a.png" if is_text else image_bytes()
    value = {"bytes": value, "path": "a.png"} if pa.types.is_struct(kind) else value
    if suffix != ".parquet" and "view" in str(kind):
        pytest.skip("one writer of views is enough")
    columns = {"image": pa.array([value, value, None], kind), "captions": pa.array([["a"], ["b"], ["c"]])}
    write_arrow(tmp_path / f"set/train{suffix}", pa.table(columns))
    rows, said = load(tmp_path / f"set/train{suffix}", kind="captions")
    assert [row["image"].size for row in rows] == [(200, 100) if is_text else (64, 64)] * 2
    assert rows["captions"][:] == [["a"], ["b"]] and "skipped 1 row: 1 x no image" in said


def write_arrow(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(table, file)
        return
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int8(), pa.string()), pa.string_view(), pa.large_string()], ids=str)
def test_types_of_labels_and_texts(tmp_path, load, kind):
    table = pa.table(
        {
            "text": pa.array(["a", "b", None], pa.string_view()),
            "label": pa.array(["fake", "real", "fake"], pa.string()).cast(kind),
            "image": pa.nulls(3),
        }
    )
    write_arrow(tmp_path / "posts.parquet", table)
    rows, _ = load(tmp_path / "posts.parquet", kind="posts")
    assert rows["text"][:] == ["a", "b"] and rows.features["label"].names == ["fake", "real"]
    assert [row.post.text for row in read_posts(tmp_path / "posts.parquet") if row.post] == ["a", "b"]


def test_one_image_that_cannot_be_read_costs_itself(tmp_path, load):
    images = [{"bytes": image_bytes(), "path": None}, {"bytes": b"no image", "path": None}]
    table = pa.table({"image": images, "captions": [["a"], ["b"]], "text": ["a", "b"], "label": ["x", "y"]})
    write_arrow(tmp_path / "train.parquet", table)
    rows, said = load(tmp_path / "train.parquet", kind="captions")
    assert [row["captions"] for row in rows] == [["a"]] and "unreadable" in said
    rows, said = load(tmp_path / "train.parquet", kind="posts")
    assert [row["image"] is None for row in rows] == [False, True] and "unreadable" in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_a_file_says_of_its_encoding(tmp_path, load, encoding, end):
    put(tmp_path / "p.csv", end.join(["text,label", "飞机,fake", "oil tank,real", ""]).encode(encoding))
    assert (
        load("posts", tmp_path)[0]["text"][:]
        == ["飞机", "oil tank"]
        == [row.post.text for row in read_posts(tmp_path / "p.csv")]
    )


@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        ("gbk", "飞机"),
        ("gb18030", "油罐"),
        ("big5", "飛機"),
        ("euc_kr", "비행기"),
        ("shift_jis", "飛行機"),
        ("cp1252", "avión"),
    ],
)
def test_other_encodings_are_refused_by_line_or_given(tmp_path, load, encoding, word):
    paint(tmp_path / "coco/images/airport_1.jpg")
    folder = coco(tmp_path / "coco", ["airport_1.jpg"], [{}], [{"id": 1, "name": "NAME"}])
    file = folder / "annotations/instances_train.json"
    file.write_bytes(file.read_text().replace("NAME", word).encode(encoding))
    paint(tmp_path / "yolo/images/train/a.jpg")
    put(tmp_path / "yolo/labels/train/a.txt", "0 .5 .5 .2 .2\n")
    put(tmp_path / "yolo/classes.txt", f"{word}\n".encode(encoding))
    paint(tmp_path / "rsicd/images/airport_1.jpg")
    item = '{"images": [{"filename": "airport_1.jpg", "split": "train", "sentences": [{"raw": "NAME"}]}]}'
    put(tmp_path / "rsicd/dataset.json", item.replace("NAME", word).encode(encoding))
    put(tmp_path / "posts/p.csv", f"text,label\n{word},a\n{word},b\n{word},b\n{word},b\n".encode(encoding))
    for name, line in (("coco_json", 1), ("yolo_txt", 1), ("rsicd", 1), ("posts", 2)):
        place = tmp_path / name.partition("_")[0]
        with pytest.raises(DataError, match=rf"line {line}: not UTF-8.*--encoding"):
            load(name, place)
        rows, _ = load(name, place, encoding=encoding)
        assert word in str(rows.features) + str(rows.remove_columns("image")[0])


def test_declared_encodings_of_xml(tmp_path, load):
    for number, (encoding, word) in enumerate(
        [
            ("gb2312", "飞机"),
            ("gbk", "油罐"),
            ("big5", "飛機"),
            ("euc-kr", "비행기"),
            ("utf-16", "机"),
            ("iso-8859-1", "avi\u00f3n"),
            ("utf-8", "猫"),
        ]
    ):
        paint(tmp_path / f"{number}.jpg")
        voc(tmp_path / f"{number}.xml", f"{number}.jpg", encoding, label=word)
    rows, said = load("voc_xml", tmp_path)
    assert len(rows) == 7 and not said
    names = rows.features["objects"]["category"].feature.names
    assert set(names) == {"飞机", "油罐", "飛機", "비행기", "机", "avi\u00f3n", "猫"}


QUOTED = "id,text,label\n" + "".join(f"{n},post number {n},a\n" for n in range(30))


@pytest.mark.parametrize(
    "stray",
    ['6,"He said it is over,a', '6,He said "no,a', '6,""He said,a', '6,He" said" no,a', '6,"He" said,a'],
)
def test_lone_quotation_marks_cost_no_row(tmp_path, load, stray):
    put(tmp_path / "posts.csv", QUOTED.replace("6,post number 6,a", stray, 1))
    rows, _ = load("posts", tmp_path)
    assert len(rows) == 30 and rows["text"][:] == [row.post.text for row in read_posts(tmp_path / "posts.csv")]


def test_two_lone_quotation_marks_swallow_nothing(tmp_path, load):
    text = QUOTED.replace("6,post number 6,a", '6,"He said,a', 1).replace("20,post number 20,a", '20,she said",a', 1)
    put(tmp_path / "posts.csv", text)
    rows, said = load("posts", tmp_path)
    assert len(rows) == 30 and "lone quotation marks" in said


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_as_pandas_quotes_them(tmp_path, load, delimiter):
    import pandas as pd

    texts = ['He said "no" today', "multi\nline", "plain", f"with {delimiter} in it", 'ends in "', "a\r\nb"]
    frame = pd.DataFrame({"text": texts, "label": ["a", "b"] * 3, "image": ["x.jpg"] * 6})
    file = tmp_path / ("p.tsv" if delimiter == "\t" else "p.csv")
    frame.to_csv(file, index=False, sep=delimiter)
    assert load("posts", tmp_path)[0]["text"][:] == texts == [row.post.text for row in read_posts(file)]


def test_tables_of_spreadsheets(tmp_path, load):
    put(tmp_path / "trailing/p.csv", "text,label,image,,\nhello,fake,,,\nbye,real,,,\n,,,,\n")
    assert load("posts", tmp_path / "trailing")[0]["text"][:] == ["hello", "bye"]
    put(tmp_path / "index/p.csv", ",text,label\n0,hello,fake\n1,bye,real\n")
    assert load("posts", tmp_path / "index")[0]["text"][:] == ["hello", "bye"]
    put(tmp_path / "sep/p.csv", "sep=;\r\ntext;label\r\nhello;fake\r\n")
    assert load("posts", tmp_path / "sep")[0]["text"][:] == ["hello"]
    put(tmp_path / "nameless/p.csv", "text,label,,\nhello,fake,,\nbye,real,note,\n")
    with pytest.raises(DataError, match=r"p.csv, line 3: a value in column 3, which has no name"):
        load("posts", tmp_path / "nameless")
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["text", "label", None],
        ["hello", 0, None],
        ["bye", 1.0, None],
        [None, None, None],
        ["x", None, None],
    ):
        book.active.append(row)
    book.create_sheet("other").append(["text", "label"])
    (tmp_path / "excel").mkdir()
    book.save(tmp_path / "excel/p.xlsx")
    rows, said = load("posts", tmp_path / "excel")
    assert rows["text"][:] == ["hello", "bye", "x"] and rows["label"][:] == [0, 1, -1] and "other" in said
    assert [row.post.text for row in read_posts(tmp_path / "excel/p.xlsx")] == ["hello", "bye", "x"]


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
def test_forms_of_pandas_json(tmp_path, load, orient):
    import pandas as pd

    pd.DataFrame({"text": ["a", "b"], "label": [0.0, 1.0]}).to_json(tmp_path / "p.json", orient=orient)
    rows, _ = load("posts", tmp_path)
    assert rows["text"][:] == ["a", "b"] and rows.features["label"].names == ["0", "1"]


# ---- cells ----


@pytest.mark.parametrize("no", [0, 0.0, False, "0", "0.0", "False", "false", "no", "", None, "nan"])
def test_what_says_no(tmp_path, load, no):
    paint(tmp_path / "coco/images/a.jpg")
    rows, _ = load("coco_json", coco(tmp_path / "coco", ["a.jpg"], [{"iscrowd": no}]))
    assert rows[0]["objects"]["iscrowd"] == [False]
    cell = "" if no is None else no
    paint(tmp_path / "csv/a.jpg")
    file = put(tmp_path / "csv/boxes.csv", f"file,x1,y1,x2,y2,name,crowd\na.jpg,10,10,50,60,cat,{cell}\n")
    mapping = {"image": "file", "bbox": ["x1", "y1", "x2", "y2"], "category": "name", "iscrowd": "crowd"}
    rows, _ = load(file, kind="boxes", column_mapping=mapping, bbox_format="xyxy")
    assert rows[0]["objects"]["iscrowd"] == [False]


@pytest.mark.parametrize("yes", [1, 1.0, True, "1", "1.0", "TRUE", "yes"])
def test_what_says_yes(tmp_path, load, yes):
    paint(tmp_path / "coco/images/a.jpg")
    rows, _ = load("coco_json", coco(tmp_path / "coco", ["a.jpg"], [{"iscrowd": yes}]))
    assert rows[0]["objects"]["iscrowd"] == [True]


def test_a_word_that_nobody_knows_is_told(tmp_path, load):
    paint(tmp_path / "coco/images/a.jpg")
    rows, said = load("coco_json", coco(tmp_path / "coco", ["a.jpg"], [{"iscrowd": "perhaps"}, {}]))
    assert len(rows[0]["objects"]["id"]) == 1 and "annotations[0]" in said and "'perhaps'" in said


@pytest.mark.parametrize("ignore", [1, True, "1", 1.0])
def test_ignored_boxes_count_neither_way(tmp_path, load, ignore):
    paint(tmp_path / "coco/images/a.jpg")
    rows, said = load("coco_json", coco(tmp_path / "coco", ["a.jpg"], [{}, {"ignore": ignore}, {"ignore": 0}]))
    assert rows[0]["objects"]["iscrowd"] == [False, True, False] and "1 x box marked ignore" in said


@pytest.mark.parametrize("one", [1, 1.0, "1", "1.0"])
def test_one_is_one(tmp_path, load, one):
    paint(tmp_path / "coco/images/a.jpg")
    folder = coco(tmp_path / "coco", ["a.jpg"], [{"category_id": one, "image_id": one, "id": one}])
    rows, said = load("coco_json", folder)
    assert rows[0]["objects"]["id"] == [1] and not said
    folder = coco(tmp_path / "coco", ["a.jpg"], [{}], [{"id": one, "name": "cat"}], id=one)
    assert len(load("coco_json", folder)[0][0]["objects"]["id"]) == 1


def test_nan_is_nothing(tmp_path, load):
    lines = [
        '{"text": "hello", "label": "fake", "image": "a.jpg"}',
        '{"text": NaN, "label": "real", "image": "a.jpg"}',
        '{"text": "bye", "label": "real", "image": NaN}',
        '{"text": "x", "label": NaN, "image": null}',
    ]
    paint(tmp_path / "images/a.jpg")
    put(tmp_path / "p.jsonl", "\n".join(lines))
    for rows, said in (load("posts", tmp_path), load(tmp_path / "p.jsonl", kind="posts")):
        assert not said and rows["text"][:] == ["hello", "", "bye", "x"] and rows["label"][:] == [0, 1, 1, -1]
        assert [row["image"] is None for row in rows] == [False, False, True, True]
    assert [row.post.text for row in read_posts(tmp_path / "p.jsonl")] == ["hello", "", "bye", "x"]


def test_numbers_of_labels(tmp_path, load):
    put(tmp_path / "csv/train.csv", "text,label\na,0\nb,1\nc,0.0\nd,1.0\ne,\n")
    rows, _ = load("posts", tmp_path / "csv")
    assert rows.features["label"].names == ["0", "1"] and rows["label"][:] == [0, 1, 0, 1, -1]
    write_arrow(tmp_path / "train.parquet", pa.table({"text": ["a", "b", "c"], "label": [0.0, 1.0, None]}))
    rows, said = load(tmp_path / "train.parquet", kind="posts", labels=["real", "fake"])
    assert rows["label"][:] == [0, 1, -1] and not said


@pytest.mark.parametrize(
    "cell",
    [
        "['a river', 'a wide river']",
        '["a river", "a wide river"]',
        "('a river', 'a wide river')",
        "['a river'\n 'a wide river']",
        "['a river', \"a wide river\"]",
    ],
)
def test_lists_in_cells(tmp_path, load, cell):
    paint(tmp_path / "a.jpg")
    file = put(tmp_path / "c.csv", 'image,captions\na.jpg,"' + cell.replace('"', '""') + '"\n')
    assert load(file, kind="captions")[0]["captions"][:] == [["a river", "a wide river"]]


def test_a_list_that_cannot_be_read_is_told(tmp_path, load):
    paint(tmp_path / "a.jpg")
    cells = ["a plane", "[__import__('os').getcwd()]", "[a, b", "[" * 500 + "]" * 500]
    text = "image,captions\n" + "".join(f'a{n}.jpg,"{cell}"\n' for n, cell in enumerate(cells))
    for number in range(len(cells)):
        paint(tmp_path / f"a{number}.jpg")
    rows, said = load(put(tmp_path / "c.csv", text), kind="captions")
    assert rows["captions"][:] == [["a plane"], ["[a, b"]] and "c.csv, line 3" in said and "c.csv, line 5" in said


def test_one_bad_row_never_costs_the_set(tmp_path, load):
    rows = [
        {"text": "fine", "label": "a"},
        {"text": "x", "label": "a", "image": 7},
        {"text": "x", "label": "a", "image": "half \ud83d.jpg"},
        {"id": 10**29, "text": "x", "label": "a"},
    ]
    lines = [*map(json.dumps, rows), '{"text": ' + "[" * 5000, '{"text": "x", "id": ' + "9" * 5000 + "}"]
    put(tmp_path / "posts/p.jsonl", "\n".join(lines))
    found, said = load("posts", tmp_path / "posts")
    assert len(found) == 4 and "skipped 2 rows" in said and found["post_id"][3] == str(10**29)
    paint(tmp_path / "coco/images/a.jpg")
    folder = coco(
        tmp_path / "coco",
        ["a.jpg"],
        [
            {"id": 10**29},
            {"image_id": 10**29},
            {"category_id": 10**29},
            {"bbox": [10**400, 1, 2, 3]},
            {"segmentation": 5},
        ],
    )
    file = folder / "annotations/instances_train.json"
    deep, digits = "[" * 3000 + "]" * 3000, "9" * 5000
    text = file.read_text().replace('"segmentation": 5', f'"attributes": {deep}')
    file.write_text(text.replace('[10, 10, 30, 30], "id"', f'[10, 10, 30, 30], "x": {digits}, "id"', 1))
    rows, said = load("coco_json", folder)
    assert len(rows[0]["objects"]["id"]) == 2 and "dropped 3 boxes" in said


# ---- layouts ----


@pytest.mark.parametrize(("points", "shape"), [(2, 2), (4, 3), (17, 3), (17, 2), (1, 2)])
def test_keypoints_are_not_outlines(tmp_path, load, points, shape):
    paint(tmp_path / "images/train/0.jpg")
    numbers = " ".join(["0.65 0.55" + " 2" * (shape == 3)] * points)
    put(tmp_path / "labels/train/0.txt", f"0 0.7 0.6 0.2 0.2 {numbers}\n0 0.7 0.6 0.2 0.3\n")
    put(tmp_path / "data.yaml", f"train: images/train\nkpt_shape: [{points}, {shape}]\nnames: {{0: hand}}\n")
    rows, said = load("yolo_txt", tmp_path)
    assert rows[0]["objects"]["bbox"][0] == pytest.approx([120, 50, 40, 20]) and len(rows[0]["objects"]["bbox"]) == 2
    assert not said


def test_outlines_and_turned_boxes_of_yolo(tmp_path, load):
    paint(tmp_path / "images/train/0.jpg")
    put(tmp_path / "labels/train/0.txt", "0 .1 .1 .5 .1 .5 .5 .1 .5\n0 .3 .1 .5 .3 .3 .5\n")
    put(tmp_path / "data.yaml", "train: images/train\nnames: ['ship']\n")
    assert load("yolo_txt", tmp_path)[0][0]["objects"]["bbox"] == [
        pytest.approx([20, 10, 80, 40]),
        pytest.approx([60, 10, 40, 40]),
    ]


@pytest.mark.parametrize("names", ["['cat', 'dog']", "{0: cat, 1: dog}", "{'0': cat, '1': dog}", "{0.0: cat, 1: dog}"])
def test_names_of_yolo(tmp_path, load, names):
    paint(tmp_path / "images/train/0.jpg")
    put(tmp_path / "labels/train/0.txt", "1 .5 .5 .2 .2\n")
    put(tmp_path / "data.yaml", f"train: images/train\nnames: {names}\n")
    rows, _ = load("yolo_txt", tmp_path)
    assert rows.features["objects"]["category"].feature.names == ["cat", "dog"]
    put(tmp_path / "data.yaml", "train: images/train\nnames: {cat: 0}\n")
    with pytest.raises(DataError, match=r"`names` of data.yaml cannot be understood: the keys have to be numbers"):
        load("yolo_txt", tmp_path)


def test_exports_of_darknet_and_labelimg(tmp_path, load):
    paint(tmp_path / "cvat/obj_train_data/a.jpg")
    put(tmp_path / "cvat/obj_train_data/a.txt", "0 .5 .5 .2 .2\n")
    put(tmp_path / "cvat/obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    put(tmp_path / "cvat/obj.names", "cat\n")
    put(tmp_path / "cvat/train.txt", "data/obj_train_data/a.jpg\n")
    assert len(load("yolo_txt", tmp_path / "cvat")[0][0]["objects"]["id"]) == 1
    paint(tmp_path / "labelimg/a.jpg")
    put(tmp_path / "labelimg/a.txt", "0 .5 .5 .2 .2\n")
    put(tmp_path / "labelimg/classes.txt", "cat\n")
    assert len(load("yolo_txt", tmp_path / "labelimg")[0][0]["objects"]["id"]) == 1
    paint(tmp_path / "list/images/a b.jpg")
    put(tmp_path / "list/labels/a b.txt", "0 .5 .5 .2 .2\n")
    put(tmp_path / "list/train.txt", "D:\\sets\\images\\a b.jpg\n")
    put(tmp_path / "list/data.yaml", "train: train.txt\nnames: [cat]\n")
    assert len(load("yolo_txt", tmp_path / "list")[0][0]["objects"]["id"]) == 1


def test_boxes_of_outlines_and_masks(tmp_path, load):
    from pycocotools import mask

    encoded = mask.frPyObjects([[10, 10, 50, 10, 50, 60, 10, 60]], 100, 200)[0]
    runs = {"size": [100, 200], "counts": encoded["counts"].decode()}
    paint(tmp_path / "images/a.jpg")
    folder = coco(tmp_path, ["a.jpg"], [{"segmentation": [[10, 10, 50, 10, 50, 60]]}, {"segmentation": runs}])
    file = folder / "annotations/instances_train.json"
    file.write_text(file.read_text().replace('"bbox": [10, 10, 30, 30], ', ""))
    objects = load("coco_json", folder)[0][0]["objects"]
    assert objects["bbox"] == [[10, 10, 40, 50], list(mask.toBbox(encoded))]
    assert objects["area"] == [1000, float(mask.area(encoded))]


@pytest.mark.parametrize(
    "item",
    [
        {"filename": "airport/airport_1.jpg", "sentences": [{"raw": "x"}, {"raw": "y"}]},
        {"filename": "airport_1.jpg", "sentences": ["x", "y"]},
        {"filename": "D:\\data\\airport_1.jpg", "sentences": [{"raw": "x", "tokens": ["x"]}, "y"]},
        {"filename": "airport_1.jpg", "filepath": "images/airport", "sentences": ["x", "y"]},
        {"filepath": "images/airport/airport_1.jpg", "sentences": ["x", "y"]},
        {"filename": "airport_1.jpg", "raw": "x", "raw_1": "y"},
    ],
)
def test_caption_files_that_are_nearly_karpathys(tmp_path, load, item):
    paint(tmp_path / "images/airport/airport_1.jpg")
    put(tmp_path / "dataset.json", json.dumps({"images": [{**item, "split": "train"}]}))
    (row,) = load("rsicd", tmp_path)[0]
    assert row["captions"] == ["x", "y"] and row["label"] == 0
    put(tmp_path / "dataset.json", json.dumps({"airport": [{**item, "split": "train"}]}))  # as NWPU-Captions
    assert load("rsicd", tmp_path)[0]["captions"][:] == [["x", "y"]]
    put(tmp_path / "dataset.json", json.dumps({"images": [{"filename": "airport_1.jpg", "split": "train"}]}))
    with pytest.raises(DataError, match="expected `sentences`, a list of texts or of objects"):
        load("rsicd", tmp_path)


def test_three_lines_of_weibo(tmp_path, load):
    paint(tmp_path / "rumor_images/abc.jpg")
    post = "123|user|http://weibo.com/1|...\nhttp://ww1.sinaimg.cn/large/abc.jpg|null\n文字 \u2028 更多\n"
    put(tmp_path / "tweets/train_rumor.txt", post)
    put(tmp_path / "tweets/train_nonrumor.txt", post.replace("123", "124").replace("abc", "none"))
    rows, said = load("weibo", tmp_path)
    assert [(row["post_id"], row["label"], row["text"]) for row in rows] == [
        ("124", 1, "文字 \u2028 更多"),
        ("123", 0, "文字 \u2028 更多"),
    ]
    assert [row["image"] is None for row in rows] == [True, False] and "image not found" in said
    put(tmp_path / "tweets/train_rumor.txt", post + "cut short\n")
    with pytest.raises(DataError, match="4 lines, expected three a post"):
        load("weibo", tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_image_folders_of_the_hub(tmp_path, load, suffix):
    paint(tmp_path / "set/train/a.jpg")
    lines = ["file_name,captions", "a.jpg,a river", "gone.jpg,lost"]
    records = [{"file_name": "a.jpg", "captions": ["a river"]}, {"file_name": "gone.jpg", "captions": ["lost"]}]
    text = "\n".join(lines if suffix == "csv" else map(json.dumps, records))
    put(tmp_path / f"set/train/metadata.{suffix}", text)
    rows, said = load(tmp_path / "set", kind="captions")
    assert rows["captions"][:] == [["a river"]] and "no such image" in said and "gone.jpg" in said


def write_tar(file: Path, members: list[tuple[str, bytes | None]]) -> Path:
    """A tar file; a member without content is a link."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz" if file.suffix == ".gz" else "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content or b"")
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(entry, io.BytesIO(content or b""))
    return file


WEB = {"image": "png", "captions": "txt"}


def test_tar_files_of_webdataset(tmp_path, load):
    file = write_tar(
        tmp_path / "train.tar",
        [("0.png", image_bytes()), ("0.txt", b"a river"), ("1.png", image_bytes()), ("1.txt", b"b")],
    )
    rows, said = load(file, kind="captions", column_mapping=WEB)
    assert rows["captions"][:] == [["a river"], ["b"]] and rows[0]["image"].size == (64, 64) and not said


def test_shards_and_json_of_webdataset(tmp_path, load):
    for shard in ("train-000.tar", "train-001.tar.gz", "val-000.tar"):
        name = f"d.e/{shard.partition('.')[0]}"
        members = [(f"{name}.png", image_bytes()), (f"{name}.json", b'{"caption": ["x", "y"]}')]
        write_tar(tmp_path / "set" / shard, members)
    mapping = {"image": "png", "captions": "json.caption"}
    for streaming in (False, True):
        splits = load_dataset(
            str(tmp_path / "set"), kind="captions", column_mapping=mapping, cache_dir=tmp_path / "cache",
            streaming=streaming,
        )  # fmt: skip
        assert {split: [row["captions"] for row in rows] for split, rows in splits.items()} == {
            "train": [["x", "y"]] * 2,
            "val": [["x", "y"]],
        }


def test_what_tar_files_should_not_hold_is_passed_over(tmp_path, load, monkeypatch):
    monkeypatch.setattr("stmine_hf.data.tar_samples.MOST_TEXT", 100)
    png = image_bytes()
    members: list[tuple[str, bytes | None]] = [("0.png", png), ("0.txt", b"fine"), ("0.txt", b"again")]
    members += [("1.png", png), ("1.txt", None), ("../2.png", png), ("/3.png", png)]
    members += [("4.png", png), ("4.txt", b"x" * 101), ("5.png", png), ("5.txt", b"\xb7\xc9"), ("6.txt", b"alone")]
    file = write_tar(tmp_path / "train.tar", members)
    for _ in range(2):  # the second time from the cache
        rows, said = load(file, kind="captions", column_mapping=WEB)
        assert rows["captions"][:] == [["fine"]] and "skipped 4 rows: 3 x no caption" in said
        for part in ("a link (train.tar, 1.txt)", "2 x member of a tar file that is ignored: a name that points",
                     "larger than 100 bytes (train.tar, 4.txt)", "not UTF-8: ignored (train.tar, 5.txt)",
                     "a second one of that name in its sample (train.tar, 0.txt)"):  # fmt: skip
            assert part in said


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_tar_file_that_was_cut_short(tmp_path, load, suffix):
    noise = [(f"{n}.png", image_bytes() + bytes(5000)) for n in range(3)]
    members = [
        one for n in range(3) for one in (noise[n], (f"{n}.txt", random.Random(n).randbytes(2000).hex().encode()))
    ]
    file = write_tar(tmp_path / f"train.{suffix}", members)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.75)])
    rows, said = load(file, kind="captions", column_mapping=WEB)
    assert len(rows) in (1, 2) and "truncated: the rest is lost (train.tar" in said


def test_dots_in_names_of_tar_files(tmp_path, load):
    members = [
        (f"photo.{n}.{suffix}", content) for n in (1, 2) for suffix, content in (("png", image_bytes()), ("txt", b"x"))
    ]
    rows, said = load(write_tar(tmp_path / "a.tar", members), kind="captions", column_mapping=WEB)
    assert rows["filename"][:] == ["photo.1.png", "photo.2.png"] and "names with several dots" in said
    members = [
        (f"{n}.left.{suffix}", content) for n in (1, 2) for suffix, content in (("png", image_bytes()), ("txt", b"x"))
    ]
    mapping = {"image": "left.png", "captions": "left.txt"}
    rows, said = load(write_tar(tmp_path / "b.tar", members), kind="captions", column_mapping=mapping)
    assert rows["filename"][:] == ["1.left.png", "2.left.png"] and not said


# ---- further inputs of the same faults ----


@pytest.mark.parametrize(
    "header", ["ID,Text,LABEL,IMAGE", " id ,\ufefftext, Label,image\xa0", "\uff49\uff44,text,label,Image"]
)
def test_names_of_columns_in_other_letters(tmp_path, load, header):
    paint(tmp_path / "a.jpg")
    file = put(tmp_path / "posts.csv", f"{header}\n1,hello,fake,a.jpg\n2,bye,real,\n")
    for rows in (
        load("posts", tmp_path)[0],
        load(file, kind="posts", column_mapping={"post_id": header.split(",")[0].strip()})[0],
    ):
        assert rows["post_id"][:] == ["1", "2"] and rows["text"][:] == ["hello", "bye"]
        assert [image is not None for image in rows["image"]] == [True, False]
    assert [(row.id, len(row.post.images)) for row in read_posts(file)] == [("1", 1), ("2", 0)]


def test_a_column_in_other_letters_is_not_taken_for_one_that_is_there(tmp_path, load):
    put(tmp_path / "posts.csv", "text,Text,label\nours,theirs,a\n")
    assert load("posts", tmp_path)[0]["text"][:] == ["ours"]
    put(tmp_path / "posts.csv", "Text,TEXT,label\nours,theirs,a\n")
    with pytest.raises(DataError, match="no column text"):
        load("posts", tmp_path)


LONG = "9" * 5000


def test_numbers_of_thousands_of_digits(tmp_path, load):
    put(tmp_path / "posts.csv", f"id,text,label\n{LONG},a,{LONG}\n2,b,0\n")
    rows, _ = load("posts", tmp_path)
    assert rows["post_id"][:] == [LONG, "2"] and rows.features["label"].names == ["0", LONG]
    assert [row.id for row in read_posts(tmp_path / "posts.csv")] == [LONG, "2"]
    rows, said = load("posts", tmp_path, labels=["real", "fake"])
    assert rows["post_id"][:] == ["2"] and "unknown label" in said
    paint(tmp_path / "a.jpg")
    put(tmp_path / "caps/c.csv", f"image,captions,label\n../a.jpg,x,{LONG}\n")
    assert load(tmp_path / "caps/c.csv", kind="captions")[0].features["label"].names == [LONG]


def test_ids_are_those_of_training_behind_every_door(tmp_path, load):
    records = [
        '{"id": 1.0, "text": "a"',
        '{"id": 1.5, "text": "b"',
        '{"id": 1e29, "text": "c"',
        '{"id": "nan", "text": "d"',
    ]
    file = put(tmp_path / "posts.jsonl", "".join(f'{one}, "label": {n % 2}}}\n' for n, one in enumerate(records)))
    ids = load("posts", tmp_path)[0]["post_id"][:3]
    assert ids[:2] == ["1", "1.5"]
    assert [str(row.id) for row in read_posts(file)] == [*ids, "line 4"]
    file = put(tmp_path / "csv/posts.csv", "id,text,label\n2.0,a,0\n2,b,1\n")
    assert [row.id for row in read_posts(file)] == load("posts", tmp_path / "csv")[0]["post_id"][:] == ["2", "2#2"]


def test_labels_that_may_be_one_are_told(tmp_path, load):
    put(tmp_path / "posts.csv", "text,label\na,Fake\nb,fake \nc,1\nd,+1\ne,real\n")
    _, said = load("posts", tmp_path)
    assert "2 x labels that may be the same" in said and "'Fake' and 'fake'" in said and "'1' and '+1'" in said
    paint(tmp_path / "set/a.jpg")
    two = [{"id": 1, "name": "Cat"}, {"id": 2, "name": "cat"}]
    assert "labels that may be the same" in load("coco_json", coco(tmp_path / "set", ["a.jpg"], [{}], two))[1]
    put(tmp_path / "own.jsonl", '{"text": "a", "label": "Fake"}\n{"text": "b", "label": "fake"}\n')
    assert "labels that may be the same" in load(tmp_path / "own.jsonl", kind="posts")[1]


def test_a_label_or_a_weight_that_is_infinite_is_skipped(tmp_path, load):
    put(tmp_path / "posts.jsonl", '{"text": "a", "label": Infinity}\n{"text": "b", "label": 1}\n')
    rows, said = load("posts", tmp_path)
    assert rows["text"][:] == ["b"] and "infinite" in said
    records = [{"captions": ["x"], "caption_weights": [weight]} for weight in (1, -1, float("inf"))]
    for number, record in enumerate(records):
        paint(tmp_path / f"set/{number}.jpg")
        record["image"] = f"{number}.jpg"
    put(tmp_path / "set/c.jsonl", "\n".join(map(json.dumps, records)))
    rows, said = load(tmp_path / "set/c.jsonl", kind="captions")
    assert rows["filename"][:] == ["0.jpg"] and "skipped 2 rows" in said and "negative or infinite" in said


def test_a_column_split_says_of_which_split_a_row_is(tmp_path, load):
    for name in "abc":
        paint(tmp_path / f"{name}.jpg")
    put(tmp_path / "c.csv", "image,captions,Split\na.jpg,x,train\nb.jpg,y,valid\nc.jpg,z,both\n")
    with pytest.warns(UserWarning, match="unknown split 'both'"):
        splits = load_dataset(str(tmp_path / "c.csv"), kind="captions", cache_dir=tmp_path / "cache")
    assert {split: rows["filename"][:] for split, rows in splits.items()} == {"train": ["a.jpg"], "val": ["b.jpg"]}
    write_arrow(tmp_path / "p.parquet", pa.table({"text": ["a", "b"], "label": [0, 1], "split": ["train", "test"]}))
    assert "column split names another split" in load(tmp_path / "p.parquet", kind="posts")[1]


def test_one_image_of_several_writings_is_one_row(tmp_path, load):
    paint(tmp_path / "a.jpg")
    put(tmp_path / "c.csv", "image,captions\na.jpg,x\n./a.jpg,y\n")
    assert load(tmp_path / "c.csv", kind="captions")[0]["captions"][:] == [["x", "y"]]


@pytest.mark.parametrize("box", [["10", "20.0", "30", "4e1"], "[10, 20, 30, 40]", "(10, 20, 30, 40)"])
def test_numbers_of_coco_that_are_texts(tmp_path, load, box):
    paint(tmp_path / "a.jpg")
    rows, said = load("coco_json", coco(tmp_path, ["a.jpg"], [{"bbox": box, "area": "900"}]))
    assert rows[0]["objects"]["bbox"] == [[10, 20, 30, 40]] and rows[0]["objects"]["area"] == [900] and not said


def test_classes_without_a_name_are_refused(tmp_path, load):
    paint(tmp_path / "images/a.jpg")
    with pytest.raises(DataError, match="empty name"):
        load("coco_json", coco(tmp_path, ["images/a.jpg"], [{}], [{"id": 1, "name": None}]))
    put(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.2\n")
    put(tmp_path / "data.yaml", "names: [null, dog]\n")
    with pytest.raises(DataError, match="class 0 has no name"):
        load("yolo_txt", tmp_path)


def test_classes_called_no_and_on_keep_their_names(tmp_path, load):
    paint(tmp_path / "images/a.jpg")
    put(tmp_path / "labels/a.txt", "1 0.5 0.5 0.2 0.2\n")
    put(tmp_path / "data.yaml", "train: images\nval:\nnc: 3\nnames: {0: on, 1: no, '2': 1.50}\n")
    rows, said = load("yolo_txt", tmp_path)
    assert rows.features["objects"]["category"].feature.names == ["on", "no", "1.50"] and not said


def test_corners_in_the_other_order_and_fractions(tmp_path, load):
    paint(tmp_path / "a.jpg")
    file = put(tmp_path / "b.csv", "image,l,t,r,b,name\na.jpg,50,60,10,20,cat\n")
    mapping = {"bbox": ["l", "t", "r", "b"], "category": "name"}
    rows, said = load(file, kind="boxes", column_mapping=mapping, bbox_format="xyxy")
    assert rows[0]["objects"]["bbox"] == [[10, 20, 40, 40]] and "corners of a box in the other order" in said
    put(file, "image,l,t,r,b,name\na.jpg,0.1,0.2,0.5,0.6,cat\n")
    assert "boxes all within the first pixel" in load(file, kind="boxes", column_mapping=mapping)[1]
    voc(tmp_path / "voc/a.xml", "a.jpg")
    paint(tmp_path / "voc/a.jpg")
    text = (tmp_path / "voc/a.xml").read_text()
    sides = {"xmin": "xmax", "xmax": "xmin", "ymin": "ymax", "ymax": "ymin"}
    expected = load("voc_xml", tmp_path / "voc")[0][0]["objects"]["bbox"]
    (tmp_path / "voc/a.xml").write_text(re.sub("[xy]m(?:in|ax)", lambda side: sides[side[0]], text))
    rows, said = load("voc_xml", tmp_path / "voc")
    assert rows[0]["objects"]["bbox"] == expected and "corners of a box in the other order" in said


def test_xml_that_is_not_in_the_encoding_it_declares(tmp_path, load):
    paint(tmp_path / "a.jpg")
    voc(tmp_path / "a.xml", "a.jpg", label="飞机")
    text = (tmp_path / "a.xml").read_text()
    names = lambda rows: rows.features["objects"]["category"].feature.names  # noqa: E731
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    assert 'encoding="utf-8"' in text and names(load("voc_xml", tmp_path)[0]) == ["飞机"]
    (tmp_path / "a.xml").write_bytes(text.encode("gb18030"))
    with pytest.raises(DataError, match=r"a\.xml.*say the encoding"):
        load("voc_xml", tmp_path)
    assert names(load("voc_xml", tmp_path, encoding="gb18030")[0]) == ["飞机"]


def test_folders_of_feather_files(tmp_path, load):
    paint(tmp_path / "set/a.jpg")
    write_arrow(
        tmp_path / "set/train.feather", pa.table({"image": ["a.JPG"], "captions": ["array(['x', 'y'], dtype=object)"]})
    )
    assert load(tmp_path / "set", kind="captions")[0]["captions"][:] == [["x", "y"]]


# ---- findings ----


def test_findings_are_told_at_every_load_listed_and_refused(tmp_path, load):
    paint(tmp_path / "voc/a.jpg")
    voc(tmp_path / "voc/a.xml", "a.jpg")
    voc(tmp_path / "voc/b.xml", "b.jpg")
    put(tmp_path / "voc/c.jpg", b"no image")
    voc(tmp_path / "voc/c.xml", "c.jpg")
    _, first = load("voc_xml", tmp_path / "voc")
    _, again = load("voc_xml", tmp_path / "voc")
    assert "skipped 2 images" in first and "b.xml" in first
    assert "skipped 2 images: 1 x no such file, 1 x unreadable" in again and len(again) < len(first)
    load("voc_xml", tmp_path / "voc", findings=tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert [(one["fate"], one["count"], len(one["places"])) for one in found] == [("skipped", 1, 1)] * 2
    load("voc_xml", tmp_path / "voc", findings=tmp_path / "found.json")  # its own is replaced
    put(tmp_path / "notes.json", "{}")
    with pytest.raises(StmineError, match="is not listed as written by stmine"):
        load("voc_xml", tmp_path / "voc", findings=tmp_path / "notes.json")
    with pytest.raises(DataError, match=r"skipped 2 images.*[Ss]trict"):
        load("voc_xml", tmp_path / "voc", strict=True)
    (tmp_path / "voc/b.xml").unlink()
    (tmp_path / "voc/c.xml").unlink()
    assert load("voc_xml", tmp_path / "voc", strict=True)[1] == ""


def test_findings_are_printable():
    findings = Findings()
    findings.note("x", "red \x1b[31m \ud83d 飞机")
    assert str(findings).isprintable() and "飞机" in str(findings)
